//! Writing files so that a reader on another machine sees all of one or none of it, and reading what others may have put there.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A file beside `path` that no other process or thread uses.
fn temporary(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    path.with_file_name(format!(".{name}.{}.{}.{count}.tmp", host(), std::process::id()))
}

/// Writes `bytes` to a fresh temporary file beside `path` and brings them to disk.
pub(crate) fn write_temporary(path: &Path, bytes: &[u8]) -> io::Result<PathBuf> {
    let temporary = temporary(path);
    let written = File::create_new(&temporary).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    match written {
        Ok(()) => Ok(temporary),
        Err(error) => {
            let _ = fs::remove_file(&temporary);
            Err(error)
        }
    }
}

/// The text of a regular file of at most `limit` bytes. What is none, such as a pipe that nobody writes to or a device behind a link,
/// is never waited for.
pub(crate) fn read_text(path: &Path, limit: u64) -> io::Result<String> {
    let odd = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
    if !fs::metadata(path)?.is_file() {
        return Err(odd());
    }
    // It may have become something else since.
    let file = fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(odd());
    }
    let mut text = String::new();
    file.take(limit.saturating_add(1)).read_to_string(&mut text)?;
    match text.len() as u64 > limit {
        true => Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {} MiB", limit >> 20))),
        false => Ok(text),
    }
}

/// Writes `path` whole, in place of what was there.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = write_temporary(path, bytes)?;
    rename(&temporary, path)
}

/// Renames, and leaves no temporary file behind when that fails.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    fs::rename(from, to).inspect_err(|_| {
        let _ = fs::remove_file(from);
    })?;
    sync_folder(to);
    Ok(())
}

/// Gives the finished file `temporary` the name `path` unless that name is taken; says whether it got it.
pub(crate) fn publish(temporary: &Path, path: &Path) -> io::Result<bool> {
    match fs::hard_link(temporary, path) {
        Ok(()) => {}
        // Over NFS the answer to a link that was made can get lost; the link count knows.
        Err(_) if fs::metadata(temporary).is_ok_and(|m| m.nlink() == 2) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(false),
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported | io::ErrorKind::PermissionDenied) => {
            return publish_without_links(temporary, path);
        }
        Err(error) => return Err(error),
    }
    sync_folder(path);
    Ok(true)
}

/// For file systems without hard links: the name is reserved by an empty file, which the finished one then replaces.
fn publish_without_links(temporary: &Path, path: &Path) -> io::Result<bool> {
    match File::create_new(path) {
        Ok(_) => fs::rename(temporary, path).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// Brings a new name to disk. Some network folders refuse; the file itself is safe by then.
fn sync_folder(path: &Path) {
    if let Some(folder) = path.parent().and_then(|folder| File::open(folder).ok()) {
        let _ = folder.sync_all();
    }
}

/// This machine's name.
pub(crate) fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(|| std::env::var("HOSTNAME").ok());
    name.map(|name| name.trim().replace(['/', '\\'], "-")).filter(|name| !name.is_empty()).unwrap_or("unknown".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_is_taken_is_never_replaced() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("record.json");
        for publish in [publish, publish_without_links] {
            fs::write(&path, "first").expect("writes");
            let second = write_temporary(&path, b"second").expect("writes");
            assert!(!publish(&second, &path).expect("no other error"));
            assert_eq!(fs::read_to_string(&path).expect("reads"), "first");
            fs::remove_file(&path).expect("removes");
            assert!(publish(&second, &path).expect("no other error"));
            assert_eq!(fs::read_to_string(&path).expect("reads"), "second");
        }
    }

    #[test]
    fn a_pipe_a_device_a_folder_and_a_file_without_end_are_refused_and_not_waited_for() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        let made = std::process::Command::new("mkfifo").arg(at("pipe")).status().expect("mkfifo runs");
        assert!(made.success());
        std::os::unix::fs::symlink("/dev/zero", at("device")).expect("links");
        std::os::unix::fs::symlink(at("pipe"), at("link")).expect("links");
        fs::write(at("large"), [b' '; 100]).expect("writes");
        fs::write(at("file"), "text").expect("writes");
        std::os::unix::fs::symlink(at("file"), at("other")).expect("links");
        let why = |name: &str| read_text(&at(name), 99).expect_err(name).to_string();
        for name in ["pipe", "device", "link", "."] {
            assert_eq!(why(name), "it is not a regular file", "{name}");
        }
        assert!(why("large").starts_with("it is larger than"), "{}", why("large"));
        assert_eq!(read_text(&at("other"), 4).expect("a link to a file"), "text");
        assert_eq!(read_text(&at("none"), 4).expect_err("not there").kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_rename_that_fails_leaves_no_temporary_file() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("taken");
        fs::create_dir(&path).expect("makes a folder where the file should go");
        assert!(replace(&path, b"text").is_err());
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 1);
    }
}
