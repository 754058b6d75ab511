//! Files as they are opened, and bytes as they are unpacked: nothing is waited for, and no bomb goes off.

use flate2::bufread::MultiGzDecoder;
use std::fs::{File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Opens a file for reading. A pipe, a socket or a device is refused: nobody may ever write to it.
pub(crate) fn open(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("is not a regular file, but a folder, a pipe or a device")),
    }
}

/// What packed bytes may unpack to: text packs to a tenth, and a bomb of zeros to a thousandth. Nothing is said of less than
/// [`Unpacked::FREE`].
#[derive(Debug)]
pub(crate) struct Unpacked<R> {
    content: R,
    packed: Arc<AtomicU64>,
    given: u64,
}

impl<R: Read> Unpacked<R> {
    /// Bytes that may come of any number of packed ones.
    pub const FREE: u64 = 64 << 20;
    /// Bytes that may come of each packed one.
    pub const RATIO: u64 = 250;

    /// Whether `given` bytes are too many to come of `packed` ones.
    pub const fn too_many(given: u64, packed: u64) -> bool {
        given > Self::FREE && given / Self::RATIO > packed
    }
}

/// What is said of them.
pub(crate) fn bomb() -> io::Error {
    let why =
        "unpacks to more than 250 times its size; if it is what it should be, unpack it and name the unpacked file";
    io::Error::new(io::ErrorKind::FileTooLarge, why)
}

/// Counts what is read of a stream.
#[derive(Debug)]
pub(crate) struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
}

impl<R> Counted<R> {
    /// `read` is added to.
    pub fn new(inner: R, read: Arc<AtomicU64>) -> Self {
        Self { inner, read }
    }
}

impl Counted<File> {
    /// Passes over bytes, which count as read.
    pub fn pass(&mut self, bytes: u64) -> io::Result<()> {
        self.inner.seek(SeekFrom::Current(bytes as i64))?;
        self.read.fetch_add(bytes, Ordering::Relaxed);
        Ok(())
    }
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.inner.read(into)?;
        self.read.fetch_add(bytes as u64, Ordering::Relaxed);
        Ok(bytes)
    }
}

/// A gzipped stream, its gzip undone.
pub(crate) type Gunzipped<R> = Unpacked<MultiGzDecoder<BufReader<Counted<R>>>>;

/// Undoes the gzip of a stream; an error where it unpacks to far more than it should.
pub(crate) fn gunzip<R: Read>(packed: R) -> Gunzipped<R> {
    let read = Arc::<AtomicU64>::default();
    let counted = Counted::new(packed, read.clone());
    Unpacked { content: MultiGzDecoder::new(BufReader::with_capacity(1 << 16, counted)), packed: read, given: 0 }
}

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let bytes = self.content.read(into)?;
        self.given += bytes as u64;
        if Self::too_many(self.given, self.packed.load(Ordering::Relaxed)) {
            return Err(bomb());
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pipe_that_nobody_writes_to_is_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        for path in [&*pipe, folder.path(), Path::new("/dev/zero")] {
            let error = open(path).unwrap_err().to_string();
            assert_eq!(error, "is not a regular file, but a folder, a pipe or a device", "{}", path.display());
        }
        let file = folder.path().join("file");
        std::fs::write(&file, "text").unwrap();
        assert_eq!(io::read_to_string(open(&file).unwrap()).unwrap(), "text");
    }
}
