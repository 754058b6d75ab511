//! Who is at work on a run: a file that one process at a time can hold, on one machine or on many.
//!
//! A claim that its holder no longer refreshes is stale. Ages are read off the file system's own clock, since the clocks
//! of machines that share a folder disagree.
//!
//! ```text
//! claim            who starts the run's processes: a sweep, which refreshes it
//! claim.takeover   locked by whoever takes a stale claim away
//! lock             locked by the process that trains, which may outlive its sweep by a step and a checkpoint
//! ```
//! Locks are the kernel's: whatever their holder dies of opens them.

use crate::store::error::StoreError;
use crate::store::files::{self, machine, process_start};
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

/// A claim that was not touched for so long belongs to nobody.
const STALE: Duration = Duration::from_secs(120);

/// What a claim's file says of its holder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Holder {
    /// The machine's name, for people.
    host: String,
    /// Boot and process namespace: only within the same one does a process number mean anything.
    machine: String,
    pid: u32,
    /// When the process began, in the kernel's ticks: numbers are given again, pairs of number and time are not.
    started: u64,
    /// Tells two claims of one process apart.
    nonce: u64,
}

impl Holder {
    fn this_process() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let pid = std::process::id();
        let started = process_start(pid).unwrap_or(0);
        let nonce = COUNT.fetch_add(1, Ordering::Relaxed);
        Self { host: files::host(), machine: machine(), pid, started, nonce }
    }

    /// Whether the process is known to be gone. Of other machines nothing is known.
    fn is_dead(&self) -> bool {
        let here = !self.machine.is_empty() && self.machine == machine();
        here && process_start(self.pid) != Some(self.started)
    }
}

/// The exclusive right to work on one run; given back when dropped.
#[derive(Debug)]
pub struct Claim {
    path: PathBuf,
    holder: Vec<u8>,
}

impl Claim {
    /// Claims the run whose work folder is `folder`; `None` while somebody else holds it.
    pub(crate) fn take(folder: &Path) -> Result<Option<Self>, StoreError> {
        fs::create_dir_all(folder).map_err(StoreError::io(folder, "make the work folder"))?;
        let path = folder.join("claim");
        let holder = serde_json::to_vec(&Holder::this_process()).expect("a holder is plain data");
        let own = files::write_temporary(&path, &holder).map_err(StoreError::io(&path, "write the claim"))?;
        let taken = take_name(&own, &path);
        let _ = fs::remove_file(&own);
        let taken = taken.map_err(StoreError::io(&path, "claim the run"))?;
        Ok(taken.then_some(Self { path, holder }))
    }

    /// Says that the holder lives; call it at least once a minute. `false`: another process took the run over, and this one
    /// must let go of it.
    pub fn touch(&self) -> Result<bool, StoreError> {
        // The same bytes again: the file system sets the time, and no reader ever sees another content.
        let write = || fs::OpenOptions::new().write(true).open(&self.path)?.write_all(&self.holder);
        let touched = self.is_held().and_then(|held| if held { write().map(|()| true) } else { Ok(false) });
        touched.map_err(StoreError::io(&self.path, "touch the claim"))
    }

    /// A claim that is gone was taken, and given back since.
    fn is_held(&self) -> std::io::Result<bool> {
        match fs::read(&self.path) {
            Ok(content) => Ok(content == self.holder),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        if self.is_held().unwrap_or(false) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The sole right to train a run: to write its checkpoints and then its record. Held until dropped.
#[derive(Debug)]
pub struct WorkLock {
    _file: fs::File,
}

impl WorkLock {
    /// Locks the work folder `folder`; `None` while another process trains there.
    pub(crate) fn take(folder: &Path) -> Result<Option<Self>, StoreError> {
        fs::create_dir_all(folder).map_err(StoreError::io(folder, "make the work folder"))?;
        let path = folder.join("lock");
        let file = try_lock(&path).map_err(StoreError::io(&path, "lock the work folder"))?;
        Ok(file.map(|_file| Self { _file }))
    }
}

/// Opens and locks a file; `None` while another process has it locked. The file stays: a lock on a deleted one keeps nobody
/// out. On a file system without locks everybody gets it.
fn try_lock(path: &Path) -> std::io::Result<Option<fs::File>> {
    let writable = fs::OpenOptions::new().write(true).create(true).truncate(false).open(path);
    let file = match writable {
        // Another user's file in a folder that both may write.
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => fs::File::open(path)?,
        other => other?,
    };
    Ok(if matches!(file.try_lock(), Err(fs::TryLockError::WouldBlock)) { None } else { Some(file) })
}

/// Gives the file `own` the name of the claim if that is free or stale.
fn take_name(own: &Path, path: &Path) -> std::io::Result<bool> {
    let now = fs::metadata(own)?.modified()?;
    if files::publish(own, path)? {
        return Ok(true);
    }
    if !is_stale(path, now) {
        return Ok(false);
    }
    // One process at a time may take a stale claim away, and it looks again once alone. Without locks two may take it, of
    // which one hears so when it touches its claim.
    match try_lock(&path.with_file_name("claim.takeover"))? {
        Some(_gate) if is_stale(path, now) => fs::rename(own, path).map(|()| true),
        _ => Ok(false),
    }
}

/// Whether the claim's holder is gone. A claim that vanished meanwhile is not stale: the next call finds it free.
fn is_stale(path: &Path, now: SystemTime) -> bool {
    let dead =
        || fs::read(path).ok().and_then(|t| serde_json::from_slice::<Holder>(&t).ok()).is_some_and(|h| h.is_dead());
    age(path, now).is_some_and(|age| age > STALE || dead())
}

fn age(path: &Path, now: SystemTime) -> Option<Duration> {
    let modified = fs::metadata(path).ok()?.modified().ok()?;
    Some(now.duration_since(modified).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    fn folder() -> tempfile::TempDir {
        tempfile::tempdir().expect("a temporary folder")
    }

    fn take(folder: &tempfile::TempDir) -> Option<Claim> {
        Claim::take(&folder.path().join("run")).expect("the folder can be written")
    }

    fn leave_claim(folder: &tempfile::TempDir, holder: &Holder) -> PathBuf {
        let path = folder.path().join("run/claim");
        fs::create_dir_all(folder.path().join("run")).expect("makes the folder");
        fs::write(&path, serde_json::to_vec(holder).expect("plain data")).expect("writes");
        path
    }

    #[test]
    fn a_claim_is_exclusive_until_it_is_dropped() {
        let folder = folder();
        let claim = take(&folder).expect("free");
        assert!(take(&folder).is_none());
        assert!(claim.touch().expect("reads"), "still held");
        drop(claim);
        assert!(take(&folder).is_some());
    }

    #[test]
    fn one_of_many_threads_gets_the_claim() {
        let folder = folder();
        let held = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..16).map(|_| scope.spawn(|| take(&folder))).collect();
            tries.into_iter().filter_map(|t| t.join().expect("no panic")).collect::<Vec<_>>()
        });
        assert_eq!(held.len(), 1);
        let files = fs::read_dir(folder.path().join("run")).expect("lists");
        assert_eq!(files.count(), 1, "only the claim is left");
    }

    #[test]
    fn the_claim_of_a_dead_process_is_taken_by_one() {
        let folder = folder();
        let mut child = Command::new("true").stdout(Stdio::null()).spawn().expect("`true` runs");
        child.wait().expect("ends");
        leave_claim(&folder, &Holder { pid: child.id(), started: 1, ..Holder::this_process() });
        let held = std::thread::scope(|scope| {
            let tries: Vec<_> = (0..16).map(|_| scope.spawn(|| take(&folder))).collect();
            tries.into_iter().filter_map(|t| t.join().expect("no panic")).collect::<Vec<_>>()
        });
        assert_eq!(held.len(), 1);
    }

    #[test]
    fn a_process_that_died_taking_a_stale_claim_away_keeps_nobody_out() {
        let folder = folder();
        let this = Holder::this_process();
        let path = leave_claim(&folder, &Holder { started: this.started + 1, ..this });
        let gate = fs::File::create(path.with_file_name("claim.takeover")).expect("makes the gate");
        gate.lock().expect("nobody else has it");
        assert!(take(&folder).is_none(), "somebody is inside");
        drop(gate);
        assert!(take(&folder).is_some());
    }

    #[test]
    fn the_number_of_a_dead_process_given_again_keeps_no_claim() {
        let folder = folder();
        let this = Holder::this_process();
        leave_claim(&folder, &Holder { started: this.started + 1, ..this });
        assert!(take(&folder).is_some());
    }

    #[test]
    fn a_claim_from_another_machine_lives_for_two_minutes() {
        let folder = folder();
        let far = Holder { host: "far".into(), machine: "far".into(), pid: 1, started: 1, nonce: 0 };
        let path = leave_claim(&folder, &far);
        assert!(take(&folder).is_none());
        let long_ago = SystemTime::now() - STALE - Duration::from_secs(60);
        fs::File::options().write(true).open(&path).and_then(|f| f.set_modified(long_ago)).expect("sets the time");
        assert!(take(&folder).is_some());
    }

    #[test]
    fn a_holder_whose_claim_was_taken_hears_of_it_and_leaves_it_alone() {
        let folder = folder();
        let slow = take(&folder).expect("free");
        let far = Holder { host: "far".into(), machine: "far".into(), pid: 1, started: 1, nonce: 0 };
        let path = leave_claim(&folder, &far);
        assert!(!slow.touch().expect("reads"));
        drop(slow);
        assert!(path.exists());
    }

    #[test]
    fn a_claim_that_was_taken_and_given_back_is_lost_as_well() {
        let folder = folder();
        let slow = take(&folder).expect("free");
        fs::remove_file(folder.path().join("run/claim")).expect("removes");
        assert!(!slow.touch().expect("reads"));
        assert!(take(&folder).is_some());
    }

    #[test]
    fn one_process_at_a_time_trains_a_run_and_the_claim_has_no_say_in_it() {
        let folder = folder();
        let lock = || WorkLock::take(&folder.path().join("run")).expect("the folder can be written");
        let claim = take(&folder).expect("free");
        let first = lock().expect("nobody trains");
        assert!(lock().is_none());
        drop(claim);
        assert!(lock().is_none());
        drop(first);
        assert!(lock().is_some());
    }
}
