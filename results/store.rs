//! A folder of records that many processes on many machines may write at once.
//!
//! ```text
//! records/<id>-<attempt>.json   append-only; a name is given to a finished file and never given again
//! sweeps/<name>.json            what each sweep planned
//! work/<id>/                    checkpoints, log, the claim and the lock of the processes at work
//! reports/<name>/               tables and plots
//! ```

pub(crate) mod claim;
mod error;
pub(crate) mod figure;
pub(crate) mod files;
pub(crate) mod manifest;
pub(crate) mod metric;
pub(crate) mod record;
pub(crate) mod tidy;

use crate::store::record::FORMAT;
use crate::{Manifest, Outcome, Record, text};
use serde::Deserialize;
use serde::de::IgnoredAny;
use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::{Path, PathBuf};

pub use crate::store::claim::{Claim, WorkLock};
pub use crate::store::error::StoreError;

/// No record is larger: bytes. One of a whole corpus with a number for every position has some 2 MB.
const RECORD_LIMIT: u64 = 64 << 20;
/// No manifest is: a run takes some 300 bytes.
const MANIFEST_LIMIT: u64 = 512 << 20;

/// All that a folder of records holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Contents {
    /// Every readable record by id and attempt.
    pub all: BTreeMap<String, BTreeMap<u32, Record>>,
    /// Files that were passed over, and why.
    pub warnings: Vec<String>,
}

impl Contents {
    /// The attempt of each run that counts, by id: the last that finished, or else the last.
    pub fn latest(&self) -> Vec<Record> {
        self.all.values().filter_map(|attempts| counts(attempts.values()).cloned()).collect()
    }

    /// The attempt of one run that counts.
    pub fn of_run(&self, id: &str) -> Option<&Record> {
        counts(self.all.get(id)?.values())
    }

    /// The attempt of each run that counts, by id; nothing is copied.
    pub fn into_latest(self) -> Vec<Record> {
        let of_run = |mut attempts: BTreeMap<u32, Record>| {
            let attempt = counts(attempts.values())?.attempt;
            attempts.remove(&attempt)
        };
        self.all.into_values().filter_map(of_run).collect()
    }
}

/// Of the attempts of one run the last that finished, or else the last. A run that has finished is not begun again: whatever
/// stands behind its end was written by a straggler, such as a process that outlived its sweep.
pub(crate) fn counts<'a>(mut attempts: impl DoubleEndedIterator<Item = &'a Record> + Clone) -> Option<&'a Record> {
    let finished = attempts.clone().rfind(|record| record.outcome == Outcome::Finished);
    finished.or_else(|| attempts.next_back())
}

/// The folder.
#[derive(Clone, Debug)]
pub struct Store {
    dir: PathBuf,
}

impl Store {
    /// Opens the folder `dir` and makes it where it is missing.
    pub fn open(dir: impl Into<PathBuf>) -> Result<Self, StoreError> {
        let dir = dir.into();
        for folder in [dir.join("records"), dir.join("sweeps")] {
            fs::create_dir_all(&folder).map_err(StoreError::io(&folder, "make the folder"))?;
        }
        Ok(Self { dir })
    }

    /// The folder.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Adds a record and returns the attempt it was filed under: its own, or the next that is free. Nothing is replaced.
    pub fn append(&self, record: &Record) -> Result<u32, StoreError> {
        check_name(&record.id)?;
        let mut record = record.clone();
        record.attempt = record.attempt.max(1);
        loop {
            let path = self.record_path(&record.id, record.attempt);
            let text = serde_json::to_vec_pretty(&record).map_err(|e| content(&path, format!("cannot write: {e}")))?;
            let temporary = files::write_temporary(&path, &text).map_err(StoreError::io(&path, "write the record"))?;
            let published = files::publish(&temporary, &path);
            let _ = fs::remove_file(&temporary);
            if published.map_err(StoreError::io(&path, "name the record"))? {
                return Ok(record.attempt);
            }
            record.attempt += 1;
        }
    }

    /// The attempt of every run that counts ([`Contents::latest`]), by id. Unreadable files are passed over; [`Store::read`]
    /// names them.
    pub fn records(&self) -> Result<Vec<Record>, StoreError> {
        Ok(self.read()?.into_latest())
    }

    /// Every record, and a warning for each file that is none.
    pub fn read(&self) -> Result<Contents, StoreError> {
        self.read_where(|_| true)
    }

    /// The records of these runs, and a warning for each file that is none. Of the records of other runs no more is read than
    /// that they are some: what a sweep holds in memory does not grow with its neighbours.
    pub fn read_of(&self, ids: &HashSet<&str>) -> Result<Contents, StoreError> {
        self.read_where(|id| ids.contains(id))
    }

    fn read_where(&self, wanted: impl Fn(&str) -> bool) -> Result<Contents, StoreError> {
        let mut contents = Contents::default();
        for path in list(&self.dir.join("records"))? {
            match read_record_if(&path, &wanted) {
                Ok(Some(record)) => {
                    contents.all.entry(record.id.clone()).or_default().insert(record.attempt, record);
                }
                Ok(None) => {}
                Err(problem) => contents.warnings.push(skipped("records", &path, &problem)),
            }
        }
        Ok(contents)
    }

    /// The readable attempt of one run that counts ([`Contents::latest`]).
    pub fn latest(&self, id: &str) -> Result<Option<Record>, StoreError> {
        Ok(counts(self.attempts(id)?.iter()).cloned())
    }

    /// Every readable attempt of one run, first to last.
    pub fn attempts(&self, id: &str) -> Result<Vec<Record>, StoreError> {
        let of_run = |path: &PathBuf| name_parts(path).is_some_and(|(of, _)| of == id);
        let paths = list(&self.dir.join("records"))?.into_iter().filter(of_run);
        let mut records: Vec<Record> = paths.filter_map(|path| read_record(&path).ok()).collect();
        records.sort_by_key(|record| record.attempt);
        Ok(records)
    }

    /// Where a run keeps its checkpoints and log. The folder may not exist yet; [`Store::claim`] makes it.
    pub fn work_dir(&self, id: &str) -> PathBuf {
        self.dir.join("work").join(id)
    }

    /// Where a sweep's tables and plots go.
    pub fn report_dir(&self, sweep: &str) -> PathBuf {
        self.dir.join("reports").join(sweep)
    }

    /// Claims a run for this process; `None` while another process holds it.
    pub fn claim(&self, id: &str) -> Result<Option<Claim>, StoreError> {
        check_name(id)?;
        Claim::take(&self.work_dir(id))
    }

    /// Locks a run's work folder for the process that trains it; `None` while another one does.
    pub fn lock_work(&self, id: &str) -> Result<Option<WorkLock>, StoreError> {
        check_name(id)?;
        WorkLock::take(&self.work_dir(id))
    }

    /// Keeps a sweep's plan, in place of an older one of the same name.
    pub fn save_manifest(&self, manifest: &Manifest) -> Result<(), StoreError> {
        check_name(&manifest.name)?;
        let path = self.manifest_path(&manifest.name);
        let text = serde_json::to_vec_pretty(manifest).map_err(|e| content(&path, format!("cannot write: {e}")))?;
        files::replace(&path, &text).map_err(StoreError::io(&path, "write the manifest"))
    }

    /// Every sweep's manifest by name, and a warning for each file that is none.
    pub fn manifests(&self) -> Result<(Vec<Manifest>, Vec<String>), StoreError> {
        let (mut manifests, mut warnings) = (Vec::new(), Vec::new());
        for path in list(&self.dir.join("sweeps"))? {
            match read_manifest(&path) {
                Ok(manifest) => manifests.push(manifest),
                Err(problem) => warnings.push(skipped("sweeps", &path, &problem)),
            }
        }
        Ok((manifests, warnings))
    }

    /// One sweep's manifest; `None` if no sweep of that name was planned here.
    pub fn manifest(&self, name: &str) -> Result<Option<Manifest>, StoreError> {
        check_name(name)?;
        let path = self.manifest_path(name);
        let there = fs::symlink_metadata(&path).is_ok();
        there.then(|| read_manifest(&path).map_err(|problem| content(&path, problem))).transpose()
    }

    fn record_path(&self, id: &str, attempt: u32) -> PathBuf {
        self.dir.join("records").join(format!("{id}-{}.json", numbered(attempt)))
    }

    fn manifest_path(&self, name: &str) -> PathBuf {
        self.dir.join("sweeps").join(format!("{name}.json"))
    }
}

/// A file that was passed over, and why.
fn skipped(folder: &str, path: &Path, problem: &str) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    text::line(&format!("{folder}/{name}: skipped: {problem}")).into_owned()
}

/// Ids and sweep names become file names on every system.
fn check_name(name: &str) -> Result<(), StoreError> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let good = !name.is_empty() && name.len() <= 200 && !name.starts_with(['.', '-']) && name.chars().all(plain);
    if good { Ok(()) } else { Err(StoreError::Name { name: name.into() }) }
}

/// The `.json` files of a folder by name; temporary files begin with a dot and are nobody's business.
fn list(folder: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(StoreError::io(folder, "list the folder"))? {
        let path = entry.map_err(StoreError::io(folder, "list the folder"))?.path();
        let hidden = path.file_name().is_none_or(|name| name.to_string_lossy().starts_with('.'));
        if !hidden && path.extension().is_some_and(|extension| extension == "json") {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}

/// Id and attempt of a record's file name, which has one form: two files of one attempt would hide each other.
fn name_parts(path: &Path) -> Option<(&str, u32)> {
    let (id, text) = path.file_stem()?.to_str()?.rsplit_once('-')?;
    let attempt = text.parse().ok()?;
    (text == numbered(attempt)).then_some((id, attempt))
}

/// An attempt in a file's name.
fn numbered(attempt: u32) -> String {
    format!("{attempt:04}")
}

/// Reads one record, or says why it is none.
fn read_record(path: &Path) -> Result<Record, String> {
    read_record_if(path, |_| true)?.ok_or_else(|| "not a record".into())
}

/// Reads one record, or says why it is none; of a run that is not wanted as much as shows that it is one.
fn read_record_if(path: &Path, wanted: impl Fn(&str) -> bool) -> Result<Option<Record>, String> {
    #[derive(Deserialize)]
    struct Head {
        format: Option<u64>,
    }
    #[derive(Deserialize)]
    struct Named {
        id: String,
        attempt: u32,
    }
    let (id, attempt) = name_parts(path).ok_or("its name is not <id>-<attempt>.json")?;
    let text = files::read_text(path, RECORD_LIMIT).map_err(|e| format!("cannot be read: {e}"))?;
    let head = match serde_json::from_str::<IgnoredAny>(&text) {
        Err(error) => return Err(format!("torn or not JSON: {error}")),
        Ok(_) => serde_json::from_str(&text).unwrap_or(Head { format: None }),
    };
    match head.format {
        Some(format) if format > u64::from(FORMAT) => {
            return Err(format!("written by a newer mixarena (format {format}, this one reads up to {FORMAT})"));
        }
        Some(_) => {}
        None => return Err("not a record: it has no `format`".into()),
    }
    let other = |named: (&str, u32)| match named == (id, attempt) {
        true => Ok(()),
        false => Err(format!("its name does not match its content ({} attempt {})", named.0, named.1)),
    };
    let broken = |error: serde_json::Error| format!("not a record: {error}");
    if !wanted(id) {
        let named: Named = serde_json::from_str(&text).map_err(broken)?;
        return other((&named.id, named.attempt)).map(|()| None);
    }
    let record: Record = serde_json::from_str(&text).map_err(broken)?;
    other((&record.id, record.attempt)).map(|()| Some(record))
}

/// Reads one manifest, or says why it is none.
fn read_manifest(path: &Path) -> Result<Manifest, String> {
    let text = files::read_text(path, MANIFEST_LIMIT).map_err(|e| format!("cannot be read: {e}"))?;
    if text.trim().is_empty() {
        return Err("it is empty".into());
    }
    let manifest: Manifest = serde_json::from_str(&text).map_err(|error| match error.is_data() {
        true => format!("not a manifest: {error}"),
        false => format!("torn or not JSON: {error}"),
    })?;
    // Reports go to a folder of this name.
    check_name(&manifest.name)
        .map_err(|_| format!("it calls its sweep `{}`, which cannot be a file's name", manifest.name))?;
    match path.file_stem() == Some(manifest.name.as_ref()) {
        true => Ok(manifest),
        false => Err(format!("its name does not match its content (`{}`)", manifest.name)),
    }
}

fn content(path: &Path, problem: String) -> StoreError {
    StoreError::Content {
        path: path.into(),
        problem: text::line(&problem).into_owned(),
        help: "run the sweep again: it plans anew and keeps every record",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PlannedRun;
    use crate::samples::{self, store};

    #[test]
    fn a_taken_attempt_is_never_overwritten() {
        let (_folder, store) = store();
        let mut record = samples::record("a1", 0.5);
        assert_eq!(store.append(&record).expect("appends"), 1);
        record.outcome = Outcome::Failed { reason: "out of memory".into() };
        assert_eq!(store.append(&record).expect("appends"), 2);
        let attempts = store.attempts("a1").expect("reads");
        assert_eq!(attempts.iter().map(|r| r.attempt).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(attempts[0].outcome, Outcome::Finished);
        assert_eq!(store.latest("a2").expect("reads"), None);
        assert_eq!(store.records().expect("reads").len(), 1);
    }

    #[test]
    fn the_last_attempt_counts_unless_one_has_finished() {
        let (_folder, store) = store();
        let append = |outcome: Outcome| {
            let record = Record { outcome, ..samples::record("a1", 0.5) };
            store.append(&record).expect("appends");
            let latest = store.latest("a1").expect("reads").expect("there");
            assert_eq!(store.records().expect("reads"), std::slice::from_ref(&latest));
            (latest.outcome.word(), latest.attempt)
        };
        let reason = || "stopped by a signal".to_string();
        assert_eq!(append(Outcome::Interrupted { reason: reason() }), ("interrupted", 1));
        assert_eq!(append(Outcome::Failed { reason: reason() }), ("failed", 2));
        assert_eq!(append(Outcome::Finished), ("finished", 3));
        assert_eq!(append(Outcome::Interrupted { reason: reason() }), ("finished", 3));
        assert_eq!(append(Outcome::Finished), ("finished", 5));
    }

    #[test]
    fn concurrent_writers_lose_no_record() {
        let (_folder, store) = store();
        std::thread::scope(|scope| {
            for writer in 0..8 {
                let store = &store;
                scope.spawn(move || {
                    for i in 0..10 {
                        let mut record = samples::record("shared", f64::from(writer) / 10.0);
                        record.notes = vec![format!("{writer}.{i}")];
                        store.append(&record).expect("appends");
                        store.append(&samples::record(&format!("own-{writer}-{i}"), 0.1)).expect("appends");
                    }
                });
            }
            for _ in 0..20 {
                assert_eq!(store.read().expect("reads").warnings, Vec::<String>::new(), "a reader saw half a record");
            }
        });
        let contents = store.read().expect("reads");
        let mut notes: Vec<_> = contents.all["shared"].values().map(|r| r.notes[0].clone()).collect();
        notes.sort();
        notes.dedup();
        assert_eq!((notes.len(), contents.all.len()), (80, 81));
        let left = fs::read_dir(store.dir().join("records")).expect("lists");
        assert_eq!(left.count(), 160, "temporary files were left behind");
    }

    #[test]
    fn torn_newer_and_foreign_files_are_named_and_hide_no_record() {
        let (_folder, store) = store();
        store.append(&samples::record("good", 0.5)).expect("appends");
        let records = store.dir().join("records");
        let text = fs::read_to_string(records.join("good-0001.json")).expect("reads");
        fs::write(records.join("torn-0001.json"), &text[..text.len() / 2]).expect("writes");
        fs::write(records.join("empty-0001.json"), "").expect("writes");
        fs::write(records.join("newer-0001.json"), text.replace("\"format\": 1", "\"format\": 2")).expect("writes");
        fs::write(records.join("copy-0001.json"), &text).expect("writes");
        fs::write(records.join("notes.json"), "{}").expect("writes");
        fs::write(records.join("foreign-0001.json"), "[1, 2]").expect("writes");
        // The same attempt by other names, with another score.
        for name in ["good-1", "good-+1", "good-00001", "good-01"] {
            fs::write(records.join(format!("{name}.json")), text.replace("0.5", "0.9")).expect("writes");
        }
        let contents = store.read().expect("reads");
        assert_eq!(contents.latest()[..], [samples::record("good", 0.5)]);
        assert_eq!(store.attempts("good").expect("reads").len(), 1);
        assert_eq!(contents.warnings.len(), 10);
        let about = |name: &str| contents.warnings.iter().find(|w| w.contains(name)).expect("a warning").clone();
        assert!(about("torn-0001").contains("torn or not JSON"));
        assert!(about("good-+1").contains("its name is not <id>-<attempt>.json"));
        assert!(about("newer-0001").contains("newer mixarena (format 2, this one reads up to 1)"));
        assert!(about("copy-0001").contains("does not match"));
        assert!(about("foreign-0001").contains("no `format`"));
    }

    #[test]
    fn a_torn_latest_attempt_leaves_the_one_before() {
        let (_folder, store) = store();
        store.append(&samples::record("a1", 0.5)).expect("appends");
        fs::write(store.dir().join("records/a1-0002.json"), "{\"format\": 1,").expect("writes");
        assert_eq!(store.latest("a1").expect("reads").expect("there").attempt, 1);
        assert_eq!(store.append(&samples::record("a1", 0.6)).expect("appends"), 3);
    }

    #[test]
    fn a_manifest_comes_back_as_it_was_saved() {
        let (_folder, store) = store();
        let settings = vec![("optimizer.lr".into(), "0.001".into())];
        let run = PlannedRun {
            id: "a1".into(),
            mixer: "s4".into(),
            task: "mqar".into(),
            seed: 1,
            settings,
            published: None,
            tuned: None,
        };
        let mut manifest = Manifest {
            name: "recall".into(),
            question: "?".into(),
            command: "mixarena".into(),
            runs: vec![run],
            search: Vec::new(),
            expect: Vec::new(),
            figures: Vec::new(),
            matched: None,
            ablation: None,
        };
        store.save_manifest(&manifest).expect("saves");
        manifest.question = "Which?".into();
        store.save_manifest(&manifest).expect("saves again");
        assert_eq!(store.manifest("recall").expect("reads"), Some(manifest.clone()));
        assert_eq!(store.manifests().expect("reads"), (vec![manifest], Vec::new()));
        assert_eq!(store.manifest("other").expect("reads"), None);
    }

    #[test]
    fn a_manifest_that_is_torn_empty_or_misnamed_is_named_and_hides_no_other() {
        let (_folder, store) = store();
        let manifest = samples::manifest(&["s4"], &["mqar"], 1);
        store.save_manifest(&manifest).expect("saves");
        let sweeps = store.dir().join("sweeps");
        let text = fs::read_to_string(sweeps.join("recall.json")).expect("reads");
        let named = |name: &str| text.replace("\"recall\"", &format!("{name:?}"));
        let bad = [
            ("torn", text[..text.len() / 2].to_string(), "torn or not JSON"),
            ("empty", String::new(), "it is empty"),
            ("foreign", "{}".into(), "not a manifest: missing field `name`"),
            ("copy", text.clone(), "its name does not match its content (`recall`)"),
            ("up", named("../../evil"), "it calls its sweep `../../evil`, which cannot be a file's name"),
            ("rooted", named("/tmp/evil"), "it calls its sweep `/tmp/evil`, which cannot be a file's name"),
        ];
        for (name, text, _) in &bad {
            fs::write(sweeps.join(format!("{name}.json")), text).expect("writes");
        }
        let made = std::process::Command::new("mkfifo").arg(sweeps.join("pipe.json")).status().expect("mkfifo runs");
        assert!(made.success());
        let (manifests, warnings) = store.manifests().expect("reads");
        assert_eq!((manifests, warnings.len()), (vec![manifest], bad.len() + 1));
        for (name, _, why) in bad.iter().chain([&("pipe", String::new(), "it is not a regular file")]) {
            let about = format!("sweeps/{name}.json: skipped: ");
            assert!(warnings.iter().any(|w| w.starts_with(&about) && w.contains(why)), "{name}: {warnings:?}");
            let error = store.manifest(name).expect_err(name).to_string();
            assert!(error.contains(why) && error.contains(&format!("sweeps/{name}.json: ")), "{error}");
        }
    }

    #[test]
    fn a_sweep_holds_its_own_records_and_names_every_file_that_is_none() {
        let (_folder, store) = store();
        for id in ["own", "other"] {
            store.append(&samples::record(id, 0.5)).expect("appends");
        }
        let records = store.dir().join("records");
        fs::write(records.join("other-0002.json"), "{").expect("writes");
        fs::write(records.join("own-0002.json"), "{").expect("writes");
        fs::write(records.join("notes.json"), "{}").expect("writes");
        fs::copy(records.join("other-0001.json"), records.join("copy-0001.json")).expect("copies");
        let contents = store.read_of(&["own", "missing"].into()).expect("reads");
        for name in ["own-0002", "other-0002", "notes", "copy-0001"] {
            let about = format!("records/{name}.json: skipped: ");
            assert!(contents.warnings.iter().any(|warning| warning.starts_with(&about)), "{:?}", contents.warnings);
        }
        assert_eq!(contents.warnings.len(), 4);
        assert_eq!(contents.all.keys().collect::<Vec<_>>(), ["own"]);
        assert_eq!(contents.latest(), contents.clone().into_latest());
    }

    #[test]
    fn a_name_that_would_leave_the_folder_is_refused() {
        let (_folder, store) = store();
        for name in ["../up", "a/b", "", ".hidden", "-n"] {
            assert!(matches!(store.append(&samples::record(name, 0.5)), Err(StoreError::Name { .. })), "{name}");
            assert!(matches!(store.manifest(name), Err(StoreError::Name { .. })), "{name}");
        }
    }
}
