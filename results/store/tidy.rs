//! What is cleared from a store: half-written files of processes that are gone, and checkpoints that nothing needs any more.

use crate::store::files;
use crate::{Outcome, Store, StoreError};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Which checkpoints of a finished run are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Keep {
    /// None: the record alone. No run can start from it, and no matrix of it can be drawn.
    None,
    /// The best weights.
    #[default]
    Best,
    /// The best weights, and the last ones with the optimizer's state: three times as large.
    All,
}

/// Where training stands, and its clock beside it: of use to a run that goes on.
const LAST: &str = "last.safetensors";
const CLOCK: &str = "clock.json";
/// The weights of the best evaluation.
const BEST: &str = "best.safetensors";

impl Store {
    /// Removes temporary files that no living process writes to; how many there were. One that cannot be removed stays.
    pub fn clear_abandoned(&self) -> usize {
        let folders = [self.dir().join("records"), self.dir().join("sweeps"), self.dir().join("bench")];
        let nested = ["work", "reports"].map(|name| self.dir().join(name));
        let nested = nested.iter().flat_map(|folder| entries(folder)).filter(|path| path.is_dir());
        let all = folders.into_iter().chain(nested);
        let of_folder = |folder: PathBuf| {
            let left = entries(&folder).filter(|path| files::is_temporary(path));
            let dead = left.filter(|path| files::is_abandoned(path, || files::time_at(&folder)));
            dead.filter(|path| fs::remove_file(path).is_ok()).count()
        };
        all.map(of_folder).sum()
    }

    /// Removes what a finished run no longer needs: checkpoints that are not to be kept, and the claim of a sweep that is
    /// gone. Leaves a run alone that has not finished, or that a process is at.
    pub fn tidy(&self, id: &str, keep: Keep) -> Result<(), StoreError> {
        let folder = self.work_dir(id);
        let there = |name: &str| folder.join(name).symlink_metadata().is_ok();
        let superfluous = superfluous(keep).iter().any(|name| there(name));
        if !(superfluous || there("claim")) || self.latest(id)?.is_none_or(|run| run.outcome != Outcome::Finished) {
            return Ok(());
        }
        // Dropped at once, which removes it.
        let free = !there("claim") || self.claim(id)?.is_some();
        if free
            && superfluous
            && let Some(_lock) = self.lock_work(id)?
        {
            self.remove_checkpoints(id, keep)?;
        }
        Ok(())
    }

    /// Removes the checkpoints of a run that has finished, but for those to keep; whoever calls it holds the run's lock.
    pub fn remove_checkpoints(&self, id: &str, keep: Keep) -> Result<(), StoreError> {
        for name in superfluous(keep) {
            let path = self.work_dir(id).join(name);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(StoreError::io(&path, "remove the checkpoint")(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

fn superfluous(keep: Keep) -> &'static [&'static str] {
    match keep {
        Keep::All => &[],
        Keep::Best => &[LAST, CLOCK],
        Keep::None => &[LAST, CLOCK, BEST],
    }
}

/// Everything in a folder; nothing where it cannot be read.
fn entries(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::{self, store};

    fn write(path: &Path) {
        fs::create_dir_all(path.parent().expect("a folder")).expect("makes folders");
        fs::write(path, "x").expect("writes");
    }

    #[test]
    fn what_dead_processes_left_half_written_is_cleared_and_nothing_else() {
        let (_folder, store) = store();
        let living = files::write_temporary(&store.dir().join("records/a-0001.json"), b"half").expect("writes");
        let name = living.file_name().expect("a name").to_string_lossy().into_owned();
        let pid = format!("-{}-", std::process::id());
        let dead = name.replacen(&pid, "-4000000000-", 1);
        assert_ne!(name, dead);
        let places = ["records", "sweeps", "bench", "work/a1", "reports/x"];
        for place in places {
            write(&store.dir().join(place).join(&dead));
        }
        let kept = ["work/a1/last.safetensors", "work/a1/log.txt", "records/a1-0001.json", "reports/x/table.csv"];
        kept.iter().for_each(|path| write(&store.dir().join(path)));
        assert_eq!(store.clear_abandoned(), places.len());
        assert_eq!(store.clear_abandoned(), 0);
        assert!(living.exists() && kept.iter().all(|path| store.dir().join(path).exists()));
    }

    #[test]
    fn a_finished_run_keeps_what_it_is_to_keep_and_another_keeps_all() {
        let (_folder, store) = store();
        let cases = [(Keep::All, vec![BEST, LAST]), (Keep::Best, vec![BEST]), (Keep::None, vec![])];
        for (i, (keep, left)) in cases.into_iter().enumerate() {
            let (id, other) = (format!("a{i}"), format!("b{i}"));
            for run in [&id, &other] {
                [LAST, BEST, "claim"].iter().for_each(|name| write(&store.work_dir(run).join(name)));
            }
            store.append(&samples::record(&id, 0.5)).expect("appends");
            let failed = Outcome::Failed { reason: "x".into() };
            store.append(&crate::Record { outcome: failed, ..samples::record(&other, 0.5) }).expect("appends");
            // A claim that says nothing of its holder counts as held until it is old.
            store.tidy(&id, keep).expect("tidies");
            assert!(store.work_dir(&id).join(LAST).exists(), "somebody is at it");
            fs::remove_file(store.work_dir(&id).join("claim")).expect("removes");
            let lock = store.lock_work(&id).expect("locks").expect("free");
            store.tidy(&id, keep).expect("tidies");
            assert!(store.work_dir(&id).join(LAST).exists(), "a process is at it");
            drop(lock);
            for run in [&id, &other] {
                store.tidy(run, keep).expect("tidies");
            }
            let names = |run: &str| {
                let all = entries(&store.work_dir(run)).map(|p| p.file_name().expect("a name").to_owned());
                let mut names: Vec<_> = all.filter(|name| name != "lock" && name != "claim.takeover").collect();
                names.sort();
                names
            };
            assert_eq!(names(&id), left);
            assert_eq!(names(&other).len(), 3);
        }
    }
}
