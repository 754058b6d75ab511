//! Writing files so that a reader on another machine sees all of one or none of it, and reading what others may have put there.
//!
//! A file is written beside its place and then renamed. What a killed process leaves half-written names its process, so that
//! another one can tell whether it is still being written:
//!
//! ```text
//! .<name>.<machine>-<pid>-<started>.<count>.tmp     machine: hash of boot and process namespace; started: kernel ticks
//! ```

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// A temporary file of another machine that was not written to for so long is nobody's. Within one machine processes are
/// looked up instead.
const FORGOTTEN: Duration = Duration::from_secs(3600);

/// A file beside `path` that no other process or thread uses.
fn temporary(path: &Path) -> PathBuf {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let pid = std::process::id();
    let started = process_start(pid).unwrap_or(0);
    path.with_file_name(format!(".{name}.{:016x}-{pid}-{started}.{count}.tmp", hashed(&machine())))
}

/// Whether a file has the name of a temporary one: of this version, or `last.tmp123` of an earlier one.
pub(crate) fn is_temporary(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let numbered = |end: &str| !end.is_empty() && end.bytes().all(|byte| byte.is_ascii_digit());
    // A picture is drawn into a file that ends in `.png`: the library goes by the name.
    (name.starts_with('.') && (name.ends_with(".tmp") || writer(path).is_some()))
        || name.rsplit_once(".tmp").is_some_and(|(_, end)| numbered(end))
}

/// Whether no living process writes to the temporary file `path`; `now` is the file system's own time.
pub(crate) fn is_abandoned(path: &Path, now: impl FnOnce() -> Option<SystemTime>) -> bool {
    if let Some((machine_of, pid, started)) = writer(path)
        && machine_of == hashed(&machine())
        && !machine().is_empty()
        && started > 0
    {
        return process_start(pid) != Some(started);
    }
    let modified = fs::symlink_metadata(path).and_then(|data| data.modified()).ok();
    let age = modified.and_then(|modified| now()?.duration_since(modified).ok());
    age.is_some_and(|age| age > FORGOTTEN)
}

/// Machine, process and its start in the name of a temporary file.
fn writer(path: &Path) -> Option<(u64, u32, u64)> {
    let name = path.file_stem()?.to_str()?;
    let (_, process) = name.rsplit_once('.')?.0.rsplit_once('.')?;
    let mut parts = process.split('-');
    let machine = u64::from_str_radix(parts.next()?, 16).ok()?;
    let (pid, started) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some((machine, pid, started))
}

/// The time of the file system that holds `folder`: clocks of machines that share it disagree.
pub(crate) fn time_at(folder: &Path) -> Option<SystemTime> {
    let probe = write_temporary(&folder.join("time"), b"").ok()?;
    let time = fs::metadata(&probe).and_then(|data| data.modified()).ok();
    let _ = fs::remove_file(&probe);
    time
}

/// FNV-1a: the same on every machine and in every version.
fn hashed(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// When a living process began: field 22 of `/proc/<pid>/stat`, counted behind the name, which may hold anything. A
/// zombie (field 3) only waits for its parent to notice.
pub(crate) fn process_start(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if fields.first() == Some(&"Z") { None } else { fields.get(19)?.parse().ok() }
}

/// Boot and process namespace; empty where the kernel does not say, and then only age tells what is abandoned.
pub(crate) fn machine() -> String {
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let space = fs::read_link("/proc/self/ns/pid").unwrap_or_default();
    if boot.is_empty() || space.as_os_str().is_empty() {
        return String::new();
    }
    format!("{} {}", boot.trim(), space.display())
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

/// Writes the file `path` whole, in place of what was there: a reader sees the old one or the new one, never a part. What
/// fails leaves nothing behind.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
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
    fn a_temporary_file_is_abandoned_when_its_process_is_gone_and_one_of_another_machine_after_an_hour() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("last.safetensors");
        let own = write_temporary(&path, b"half").expect("writes");
        let now = || time_at(folder.path());
        assert!(is_temporary(&own) && !is_abandoned(&own, now), "this process lives");
        let renamed = |machine: u64, pid: u32, started: u64| {
            let other = path.with_file_name(format!(".last.safetensors.{machine:016x}-{pid}-{started}.0.tmp"));
            fs::write(&other, "half").expect("writes");
            other
        };
        let (here, pid) = (hashed(&machine()), std::process::id());
        let started = process_start(pid).expect("Linux");
        assert!(is_abandoned(&renamed(here, pid, started + 1), now), "the number was given again");
        assert!(is_abandoned(&renamed(here, 4_000_000_000, 1), now), "no such process");
        let old = path.with_file_name("last.tmp123");
        fs::write(&old, "half").expect("writes");
        for other in [renamed(here ^ 1, pid, started), old, path.with_file_name(".x.host.1.0.tmp")] {
            fs::write(&other, "half").expect("writes");
            assert!(is_temporary(&other) && !is_abandoned(&other, now), "{}", other.display());
            let long_ago = SystemTime::now() - FORGOTTEN - Duration::from_secs(60);
            File::options().write(true).open(&other).and_then(|f| f.set_modified(long_ago)).expect("sets the time");
            assert!(is_abandoned(&other, now), "{}", other.display());
        }
        assert!(is_temporary(&own.with_extension("png")), "a picture");
        for name in ["last.safetensors", "table.tmpl", ".hidden", "a.tmp"] {
            assert!(!is_temporary(Path::new(name)), "{name}");
        }
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
