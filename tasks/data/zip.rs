//! Zip archives, as far as data sets are published in them: files stored or deflated, in one part, not encrypted.
//!
//! ```text
//! local header, content    local header, content    …    central directory    end of central directory, comment
//!     PK 3 4                                                 PK 1 2 each           PK 5 6
//! ```
//! Source   PKWARE's application note, APPNOTE.TXT 6.3, sections 4.3 and 4.4
//! Departs  archives beyond 4 GiB or 65,535 files (ZIP64) are refused by name; `unzip` reads them
//!
//! Only the central directory is believed; a file's length and CRC-32 are held against it when its end is reached.

use crate::data::packed::{Unpacked, bomb, open};
use flate2::Crc;
use flate2::read::DeflateDecoder;
use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// One name in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Its path, as it is written.
    pub name: String,
    /// Whether it is a link, by its Unix mode.
    pub link: bool,
    deflated: bool,
    crc: u32,
    packed: u64,
    size: u64,
    at: u64,
}

/// Bytes of the end of the central directory, without its comment.
const END: usize = 22;
/// Bytes of an entry of the central directory, without its name.
const CENTRAL: usize = 46;
/// Bytes of a local header, without its name.
const LOCAL: usize = 30;

fn invalid(why: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why.into())
}

fn u16_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u64 {
    u16_at(bytes, at) | u16_at(bytes, at + 2) << 16
}

/// Whether a file begins as a zip archive does.
pub(crate) fn is_zip(path: &Path) -> bool {
    let mut head = [0; 4];
    let read = open(path).and_then(|mut file| file.read_exact(&mut head));
    read.is_ok() && (head == *b"PK\x03\x04" || head == *b"PK\x05\x06")
}

/// Every name of an archive, in the order of its directory.
pub(crate) fn entries(path: &Path) -> io::Result<Vec<Entry>> {
    let mut file = open(path)?;
    let length = file.seek(SeekFrom::End(0))?;
    let tail_length = length.min((END + usize::from(u16::MAX)) as u64);
    let mut tail = vec![0; tail_length as usize];
    file.seek(SeekFrom::Start(length - tail_length))?;
    file.read_exact(&mut tail)?;
    let ends = |at: &usize| {
        tail[*at..].starts_with(b"PK\x05\x06") && *at + END + u16_at(&tail, *at + 20) as usize == tail.len()
    };
    let end = (0..=tail.len().saturating_sub(END)).rev().find(ends);
    let end = &tail[end.ok_or_else(|| invalid("no central directory at its end"))?..];
    let (count, bytes, start) = (u16_at(end, 10), u32_at(end, 12), u32_at(end, 16));
    if count == 0xffff || bytes == 0xffff_ffff || start == 0xffff_ffff {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "a ZIP64 archive: unpack it with `unzip`"));
    }
    if start + bytes > length {
        return Err(invalid("its central directory lies beyond its end"));
    }
    let mut directory = vec![0; bytes as usize];
    file.seek(SeekFrom::Start(start))?;
    file.read_exact(&mut directory)?;
    let (mut entries, mut rest) = (Vec::new(), &directory[..]);
    for _ in 0..count {
        let (entry, length) = entry(rest)?;
        rest = &rest[length..];
        entries.push(entry);
    }
    if entries.iter().map(|entry| entry.packed).sum::<u64>() > length {
        return Err(invalid("its files overlap: together they are longer than the archive"));
    }
    Ok(entries)
}

/// The first entry of a directory, and its bytes.
fn entry(bytes: &[u8]) -> io::Result<(Entry, usize)> {
    if bytes.len() < CENTRAL || !bytes.starts_with(b"PK\x01\x02") {
        return Err(invalid("a broken central directory"));
    }
    let name_end = CENTRAL + u16_at(bytes, 28) as usize;
    let length = name_end + (u16_at(bytes, 30) + u16_at(bytes, 32)) as usize;
    if bytes.len() < length {
        return Err(invalid("a broken central directory"));
    }
    let name = String::from_utf8_lossy(&bytes[CENTRAL..name_end]).into_owned();
    let (flags, method) = (u16_at(bytes, 8), u16_at(bytes, 10));
    let unsupported = |what: String| io::Error::new(io::ErrorKind::Unsupported, format!("`{name}` is {what}"));
    if flags & 1 != 0 {
        return Err(unsupported("encrypted".into()));
    }
    if method != 0 && method != 8 {
        return Err(unsupported(format!("packed by method {method}, neither stored nor deflated: use `unzip`")));
    }
    let (packed, size, at) = (u32_at(bytes, 20), u32_at(bytes, 24), u32_at(bytes, 42));
    if [packed, size, at].contains(&0xffff_ffff) {
        return Err(unsupported("in the ZIP64 form: unpack the archive with `unzip`".into()));
    }
    if Unpacked::<File>::too_many(size, packed) {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("`{name}` {}", bomb())));
    }
    let link = u32_at(bytes, 38) >> 28 == 0o12; // the file type of a Unix mode, 0o120000
    Ok((Entry { link, deflated: method == 8, crc: u32_at(bytes, 16) as u32, packed, size, at, name }, length))
}

impl Entry {
    /// Whether it is a folder.
    pub fn folder(&self) -> bool {
        self.name.ends_with('/')
    }

    /// Its content; an error at its end where that is not what the directory says.
    pub fn open(&self, archive: &Path) -> io::Result<impl Read + use<>> {
        let mut file = open(archive)?;
        file.seek(SeekFrom::Start(self.at))?;
        let mut header = [0; LOCAL];
        file.read_exact(&mut header)?;
        if !header.starts_with(b"PK\x03\x04") {
            return Err(invalid(format!("`{}` is not where the central directory says", self.name)));
        }
        let skipped = u16_at(&header, 26) + u16_at(&header, 28);
        file.seek(SeekFrom::Current(skipped as i64))?;
        let packed = BufReader::with_capacity(1 << 16, file.take(self.packed));
        let content: Box<dyn Read> =
            if self.deflated { Box::new(DeflateDecoder::new(packed)) } else { Box::new(packed) };
        Ok(Checked { content: content.take(self.size + 1), crc: Crc::new(), read: 0, wanted: (self.size, self.crc) })
    }
}

/// Content that is held against its length and sum when it ends.
struct Checked {
    content: io::Take<Box<dyn Read>>,
    crc: Crc,
    read: u64,
    wanted: (u64, u32),
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.content.read(buffer)?;
        self.crc.update(&buffer[..n]);
        self.read += n as u64;
        if n == 0 && !buffer.is_empty() && (self.read, self.crc.sum()) != self.wanted {
            return Err(invalid("its length or checksum is not what the archive says"));
        }
        Ok(n)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use flate2::{Compression, write::DeflateEncoder};
    use std::io::Write;

    /// A zip archive of these files, every other one deflated. A name that ends with `/` is a folder, one with `@` a link.
    pub(crate) fn zipped(files: &[(&str, &[u8])]) -> Vec<u8> {
        let (mut archive, mut directory) = (Vec::new(), Vec::new());
        for (i, (name, content)) in files.iter().enumerate() {
            let deflated = i % 2 == 0;
            let mut packed = content.to_vec();
            if deflated {
                let mut encoder = DeflateEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(content).unwrap();
                packed = encoder.finish().unwrap();
            }
            let mut crc = Crc::new();
            crc.update(content);
            // Version, flags, method, time, date, sum, lengths; in both headers.
            let mut shared = [20, 0, if deflated { 8 } else { 0 }, 0, 0].map(u16::to_le_bytes).concat();
            let lengths = [crc.sum(), packed.len() as u32, content.len() as u32, name.len() as u32];
            shared.extend(lengths.map(u32::to_le_bytes).concat());
            let at = archive.len() as u32;
            archive.extend([b"PK\x03\x04", &shared[..], name.as_bytes(), &packed].concat());
            let mode = if name.ends_with('@') { 0o120777_u32 } else { 0o100644 } << 16;
            let rest = [&[0; 6][..], &mode.to_le_bytes(), &at.to_le_bytes(), name.as_bytes()].concat();
            directory.extend([b"PK\x01\x02\x14\x00", &shared[..], &rest].concat());
        }
        let (start, count) = (archive.len() as u32, files.len() as u16);
        let end =
            [[0; 4].as_slice(), &count.to_le_bytes(), &count.to_le_bytes(), &(directory.len() as u32).to_le_bytes()];
        archive
            .extend([&directory, b"PK\x05\x06".as_slice(), &end.concat(), &start.to_le_bytes(), b"\x03\0end"].concat());
        archive
    }

    fn written(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn content(entry: &Entry, archive: &Path) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        entry.open(archive)?.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    #[test]
    fn stored_and_deflated_files_come_out_as_they_went_in() {
        let long = b"so and so ".repeat(100_000);
        let file = written(&zipped(&[("a/long", &long), ("a/", b""), ("a/empty", b""), ("b@", b"a/long")]));
        assert!(is_zip(file.path()) && !is_zip(written(b"text").path()));
        let entries = entries(file.path()).unwrap();
        assert_eq!(entries.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["a/long", "a/", "a/empty", "b@"]);
        assert_eq!(entries.iter().map(|e| (e.folder(), e.link)).collect::<Vec<_>>(), {
            [(false, false), (true, false), (false, false), (false, true)]
        });
        assert_eq!(content(&entries[0], file.path()).unwrap(), long);
        assert_eq!(content(&entries[2], file.path()).unwrap(), b"");
        assert_eq!(content(&entries[3], file.path()).unwrap(), b"a/long");
    }

    #[test]
    fn what_another_program_zipped_is_read() {
        // Python 3.11.7: zipfile.ZipFile("x.zip", "w").writestr(ZipInfo("set/a.txt"), "a" * 30, ZIP_DEFLATED)
        let hex = "504b030414000000080000002100c1d3c16b050000001e000000090000007365742f612e7478744b4cc40700504b01021403\
                   14000000080000002100c1d3c16b050000001e0000000900000000000000000000008001000000007365742f612e74787450\
                   4b05060000000001000100370000002c0000000000";
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        let bytes: Vec<u8> =
            digits.chunks(2).map(|two| u8::from_str_radix(str::from_utf8(two).unwrap(), 16).unwrap()).collect();
        let file = written(&bytes);
        let entries = entries(file.path()).unwrap();
        assert_eq!((entries.len(), entries[0].name.as_str()), (1, "set/a.txt"));
        assert_eq!(content(&entries[0], file.path()).unwrap(), [b'a'; 30]);
    }

    #[test]
    fn a_cut_or_changed_archive_is_noticed() {
        let noise: Vec<u8> = (0..5_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let whole = zipped(&[("a", &noise), ("b", &noise)]);
        for cut in [4, 100, whole.len() / 2, whole.len() - 1] {
            assert!(entries(written(&whole[..cut]).path()).is_err(), "{cut}");
        }
        for at in [200, whole.len() / 2 + 200] {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            let file = written(&changed);
            let found = entries(file.path()).unwrap();
            assert!(found.iter().any(|entry| content(entry, file.path()).is_err()), "{at}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_named() {
        let whole = zipped(&[("a", b"content")]);
        let directory = whole.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
        let altered = |at: usize, bytes: &[u8]| {
            let mut changed = whole.clone();
            changed[at..at + bytes.len()].copy_from_slice(bytes);
            entries(written(&changed).path()).unwrap_err().to_string()
        };
        assert_eq!(altered(directory + 8, &[1]), "`a` is encrypted");
        let method = altered(directory + 10, &[12]);
        assert_eq!(method, "`a` is packed by method 12, neither stored nor deflated: use `unzip`");
        let large = altered(directory + 24, &[0xff; 4]);
        assert_eq!(large, "`a` is in the ZIP64 form: unpack the archive with `unzip`");
    }
}
