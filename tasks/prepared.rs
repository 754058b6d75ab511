//! The prepared form of a data set: read, checked or drawn once, then mapped into memory by every run.
//!
//! ```text
//! PLACE/FAMILY-vVERSION-STAMP/          PLACE: DATA/.prepared, or a cache folder where DATA cannot be written
//!     meta.json                         format, family, version, parts with rows and hashes, fingerprint, remarks
//!     PART.labels                       one byte a row
//!     PART.spans                        per row and document: start and length in PART.bytes, u64 little-endian
//!     PART.bytes                        the documents, end to end, in the order in which they were read
//! PLACE/FAMILY-vVERSION-STAMP.lock      held while somebody prepares
//! PLACE/FAMILY-vVERSION-STAMP.part/     what is being written; renamed when it is whole
//! ```
//! A document is a run of bytes: characters, symbols or grey values, as the family says. The stamp names what the set was
//! made of (the source's path, sizes and times of change; or the settings it is drawn with), so that a second start opens
//! it without looking at the source's contents. Rows are sorted by their keys: an archive and its folder give one order.

use crate::{DataDir, DataError};
use fs4::FileExt;
use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// Raised when the form of the files changes.
pub const FORMAT: u32 = 1;

/// What is to be prepared.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// [`crate::Family::NAME`], or a name below it.
    pub family: &'a str,
    /// Raised when the family prepares other bytes from the same source.
    pub version: u32,
    /// Names the source: [`stamp_of_source`] or [`stamp_of_settings`].
    pub stamp: String,
    /// The parts there are to be, such as `train` and `test`.
    pub parts: &'a [&'a str],
    /// Documents a row has: 1 or 2.
    pub documents: usize,
}

/// A stamp of a file or folder: the path, and name, size and time of change of every file whose name in it is `wanted`.
/// Nothing is read.
pub fn stamp_of_source(root: &Path, wanted: impl Fn(&str) -> bool) -> Result<String, DataError> {
    let unreadable = |path: &Path, why: String| DataError::Unreadable { path: path.into(), why };
    let root = fs::canonicalize(root).map_err(|error| unreadable(root, error.to_string()))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(root.as_os_str().as_encoded_bytes());
    for entry in walkdir::WalkDir::new(&root).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| unreadable(error.path().unwrap_or(&root), error.to_string()))?;
        let inner = entry.path().strip_prefix(&root).expect("a walk stays below its root").to_string_lossy();
        if !entry.file_type().is_file() || !(inner.is_empty() || wanted(inner.strip_suffix(".gz").unwrap_or(&inner))) {
            continue;
        }
        let about = entry.metadata().map_err(|error| unreadable(entry.path(), error.to_string()))?;
        let changed = about.modified().ok().and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let nanoseconds = changed.map_or(0, |since| since.as_nanos());
        hasher.update(inner.as_bytes()).update(b"\0");
        hasher.update(&about.len().to_le_bytes()).update(&nanoseconds.to_le_bytes());
    }
    Ok(hasher.finalize().to_hex()[..20].to_owned())
}

/// A stamp of the settings that a set is drawn with.
pub fn stamp_of_settings(settings: &impl Serialize) -> String {
    let text = serde_json::to_vec(settings).expect("settings are plain data");
    blake3::hash(&text).to_hex()[..20].to_owned()
}

/// `meta.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// [`FORMAT`].
    pub format: u32,
    /// [`Request::family`].
    pub family: String,
    /// [`Request::version`].
    pub version: u32,
    /// [`Request::documents`].
    pub documents: usize,
    /// What each part holds.
    pub parts: Vec<PartMeta>,
    /// Hash of the source's contents; empty for a set that was drawn.
    pub fingerprint: String,
    /// Remarks a user should see: rows skipped, the folder used.
    pub notes: Vec<String>,
}

/// One part in `meta.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartMeta {
    /// `train`.
    pub name: String,
    /// Rows.
    pub rows: u64,
    /// Bytes of all documents.
    pub bytes: u64,
    /// BLAKE3 of labels, spans and bytes.
    pub hash: String,
}

/// A prepared set, mapped.
#[derive(Debug)]
pub struct Prepared {
    /// Where it lies.
    pub folder: PathBuf,
    /// What is known of it.
    pub meta: Meta,
    /// Its parts, in the order of the request.
    pub parts: Vec<Part>,
}

/// One part, mapped.
#[derive(Debug)]
pub struct Part {
    documents: usize,
    labels: Option<Mmap>,
    spans: Option<Mmap>,
    bytes: Option<Mmap>,
}

impl Part {
    /// Rows.
    pub fn len(&self) -> usize {
        self.labels().len()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The label of every row.
    pub fn labels(&self) -> &[u8] {
        self.labels.as_deref().unwrap_or_default()
    }

    /// Document `k` of row `i`.
    ///
    /// # Panics
    /// When there is no such row or document.
    pub fn document(&self, i: usize, k: usize) -> &[u8] {
        assert!(k < self.documents, "document {k} of {}", self.documents);
        let spans = self.spans.as_deref().unwrap_or_default();
        let at = 16 * (i * self.documents + k);
        let number = |at: usize| u64::from_le_bytes(spans[at..at + 8].try_into().expect("eight bytes")) as usize;
        let (start, length) = (number(at), number(at + 8));
        &self.bytes.as_deref().unwrap_or_default()[start..start + length]
    }
}

/// Writes a set row by row. Memory holds labels, keys and spans, never the documents.
pub struct Writer {
    parts: Vec<PartWriter>,
    hashes: BTreeMap<String, blake3::Hash>,
    notes: Vec<String>,
    documents: usize,
}

struct PartWriter {
    path: PathBuf, // without its extension
    bytes: BufWriter<File>,
    written: u64,
    rows: Vec<(u64, u8, Vec<(u64, u64)>)>,
}

impl Writer {
    fn new(folder: &Path, request: &Request) -> Result<Self, DataError> {
        let part = |name: &&str| {
            let path = folder.join(name);
            let file = path.with_extension("bytes");
            let bytes = File::create(&file).map_err(|error| unwritable(&file, &error))?;
            Ok(PartWriter { path, bytes: BufWriter::with_capacity(1 << 18, bytes), written: 0, rows: Vec::new() })
        };
        let parts = request.parts.iter().map(part).collect::<Result<_, DataError>>()?;
        Ok(Self { parts, hashes: BTreeMap::new(), notes: Vec::new(), documents: request.documents })
    }

    /// Adds a row to part `part`. Rows of a part are sorted by `key` in the end, those of equal keys by their arrival.
    pub fn row(&mut self, part: usize, key: u64, label: u8, documents: &[&[u8]]) -> Result<(), DataError> {
        assert_eq!(documents.len(), self.documents, "documents of a row");
        let part = &mut self.parts[part];
        let mut spans = Vec::with_capacity(documents.len());
        for document in documents {
            let file = || part.path.with_extension("bytes");
            part.bytes.write_all(document).map_err(|error| unwritable(&file(), &error))?;
            spans.push((part.written, document.len() as u64));
            part.written += document.len() as u64;
        }
        part.rows.push((key, label, spans));
        Ok(())
    }

    /// Rows of a part so far.
    pub fn rows(&self, part: usize) -> usize {
        self.parts[part].rows.len()
    }

    /// The content hash of a source file; all of them make the set's fingerprint.
    pub fn source(&mut self, name: impl Into<String>, hash: blake3::Hash) {
        self.hashes.insert(name.into(), hash);
    }

    /// A remark that every later start repeats.
    pub fn note(&mut self, note: impl Into<String>) {
        self.notes.push(note.into());
    }

    fn finish(self, folder: &Path, request: &Request) -> Result<Meta, DataError> {
        let fingerprint =
            if self.hashes.is_empty() { String::new() } else { crate::formats::fingerprint(&self.hashes) };
        let mut parts = Vec::new();
        for (part, name) in self.parts.into_iter().zip(request.parts) {
            parts.push(part.finish(name)?);
        }
        let meta = Meta {
            format: FORMAT,
            family: request.family.into(),
            version: request.version,
            documents: request.documents,
            parts,
            fingerprint,
            notes: self.notes,
        };
        let path = folder.join("meta.json");
        let text = serde_json::to_vec_pretty(&meta).expect("plain data");
        fs::write(&path, text).map_err(|error| unwritable(&path, &error))?;
        Ok(meta)
    }
}

impl PartWriter {
    fn finish(mut self, name: &str) -> Result<PartMeta, DataError> {
        let file = self.path.with_extension("bytes");
        self.bytes.flush().map_err(|error| unwritable(&file, &error))?;
        self.bytes.get_ref().sync_all().map_err(|error| unwritable(&file, &error))?;
        self.rows.sort_by_key(|(key, ..)| *key);
        let labels: Vec<u8> = self.rows.iter().map(|(_, label, _)| *label).collect();
        let spans = self.rows.iter().flat_map(|(.., spans)| spans);
        let spans: Vec<u8> = spans.flat_map(|(start, length)| [*start, *length]).flat_map(u64::to_le_bytes).collect();
        for (extension, content) in [("labels", &labels), ("spans", &spans)] {
            let path = self.path.with_extension(extension);
            fs::write(&path, content).map_err(|error| unwritable(&path, &error))?;
        }
        let hash = hash_files(&self.path)?;
        Ok(PartMeta { name: name.into(), rows: labels.len() as u64, bytes: self.written, hash })
    }
}

/// BLAKE3 of a part's three files.
fn hash_files(part: &Path) -> Result<String, DataError> {
    let mut hasher = blake3::Hasher::new();
    for extension in ["labels", "spans", "bytes"] {
        let path = part.with_extension(extension);
        let mut file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
        io::copy(&mut file, &mut hasher).map_err(|error| unreadable(&path, &error))?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

impl Prepared {
    /// Opens the set in `folder`; an error when it is not whole.
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join("meta.json");
        let text = fs::read(&path).map_err(|error| unreadable(&path, &error))?;
        let meta: Meta = serde_json::from_slice(&text)
            .map_err(|error| DataError::Unreadable { path: path.clone(), why: error.to_string() })?;
        let mut parts = Vec::new();
        for part in &meta.parts {
            let map = |extension: &str, bytes: u64| map(&folder.join(&part.name).with_extension(extension), bytes);
            parts.push(Part {
                documents: meta.documents,
                labels: map("labels", part.rows)?,
                spans: map("spans", 16 * part.rows * meta.documents as u64)?,
                bytes: map("bytes", part.bytes)?,
            });
        }
        Ok(Self { folder: folder.into(), meta, parts })
    }

    /// Reads every byte again and holds it against the hashes of `meta.json`.
    pub fn verify(&self) -> Result<(), DataError> {
        for part in &self.meta.parts {
            let path = self.folder.join(&part.name);
            if hash_files(&path)? != part.hash {
                let why =
                    format!("part `{}` is not what was prepared; delete the folder to prepare it again", part.name);
                return Err(DataError::Unreadable { path: self.folder.clone(), why });
            }
        }
        Ok(())
    }
}

/// A file of exactly `bytes`; an empty one cannot be mapped and need not be.
fn map(path: &Path, bytes: u64) -> Result<Option<Mmap>, DataError> {
    let file = File::open(path).map_err(|error| unreadable(path, &error))?;
    let found = file.metadata().map_err(|error| unreadable(path, &error))?.len();
    if found != bytes {
        let why =
            format!("has {found} bytes, not the {bytes} that were prepared; delete the folder to prepare it again");
        return Err(DataError::Unreadable { path: path.into(), why });
    }
    if bytes == 0 {
        return Ok(None);
    }
    // SAFETY: prepared files are written under another name and never changed once they have this one; somebody who cuts
    // one short while a run reads it stops that run.
    unsafe { Mmap::map(&file) }.map(Some).map_err(|error| unreadable(path, &error))
}

impl DataDir {
    /// Opens a prepared set, preparing it first where it is not there. Of two processes one prepares and the other waits;
    /// what a process that died left behind is swept away and never opened.
    pub fn prepared(
        &self,
        request: &Request,
        prepare: impl FnOnce(&mut Writer) -> Result<(), DataError>,
    ) -> Result<Prepared, DataError> {
        let place = self.place()?;
        let name = format!("{}-v{}-{}", request.family, request.version, request.stamp);
        let folder = place.join(&name);
        if folder.join("meta.json").is_file() {
            return Prepared::open(&folder);
        }
        let lock_path = place.join(format!("{name}.lock"));
        let lock = File::create(&lock_path).map_err(|error| unwritable(&lock_path, &error))?;
        FileExt::lock(&lock).map_err(|error| unwritable(&lock_path, &error))?;
        if folder.join("meta.json").is_file() {
            return Prepared::open(&folder); // somebody else prepared it while we waited
        }
        let part = place.join(format!("{name}.part"));
        let written = self.write(&part, request, prepare);
        if written.is_err() {
            let _ = fs::remove_dir_all(&part); // the first error is the one to tell
        }
        written?;
        fs::rename(&part, &folder).map_err(|error| unwritable(&folder, &error))?;
        let _ = fs::remove_file(&lock_path);
        Prepared::open(&folder)
    }

    fn write(
        &self,
        part: &Path,
        request: &Request,
        prepare: impl FnOnce(&mut Writer) -> Result<(), DataError>,
    ) -> Result<(), DataError> {
        if part.exists() {
            fs::remove_dir_all(part).map_err(|error| unwritable(part, &error))?;
        }
        fs::create_dir_all(part).map_err(|error| unwritable(part, &error))?;
        let mut writer = Writer::new(part, request)?;
        prepare(&mut writer)?;
        writer.finish(part, request)?;
        Ok(())
    }

    /// Where prepared sets lie: `.prepared` in the data folder, or a cache folder where that cannot be written.
    pub fn place(&self) -> Result<PathBuf, DataError> {
        let near = self.0.join(".prepared");
        let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
        let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home).unwrap_or_else(std::env::temp_dir);
        let far = cache.join("mixarena").join("prepared");
        // Not created for its own sake: a set that is drawn must not leave an empty data folder behind.
        if self.0.is_dir() && fs::create_dir_all(&near).is_ok() && writable(&near) {
            return Ok(near);
        }
        fs::create_dir_all(&far).map_err(|error| unwritable(&far, &error))?;
        Ok(far)
    }
}

fn writable(folder: &Path) -> bool {
    let probe = folder.join(format!(".probe-{}", std::process::id()));
    let there = File::create(&probe).is_ok();
    let _ = fs::remove_file(&probe);
    there
}

fn unreadable(path: &Path, error: &io::Error) -> DataError {
    DataError::Unreadable { path: path.into(), why: error.to_string() }
}

fn unwritable(path: &Path, error: &io::Error) -> DataError {
    let why = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("the disk is full ({error}); make room and start again: nothing half-made is kept")
        }
        _ => format!("cannot be written: {error}"),
    };
    DataError::Unreadable { path: path.into(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request<'a>(parts: &'a [&'a str]) -> Request<'a> {
        Request { family: "test", version: 1, stamp: "s".into(), parts, documents: 2 }
    }

    fn fill(writer: &mut Writer) -> Result<(), DataError> {
        writer.row(0, 2, 7, &[b"later", b""])?;
        writer.row(0, 1, 8, &[b"first", b"pair"])?;
        writer.source("a", blake3::hash(b"a"));
        writer.note("one remark");
        Ok(())
    }

    #[test]
    fn rows_come_back_sorted_by_their_keys_and_empty_parts_stay_empty() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir(folder.path().into());
        let set = data.prepared(&request(&["train", "test"]), fill).unwrap();
        let [train, test] = &set.parts[..] else { panic!("two parts") };
        assert_eq!(train.labels(), [8, 7]);
        assert_eq!((train.document(0, 0), train.document(0, 1)), (&b"first"[..], &b"pair"[..]));
        assert_eq!((train.document(1, 0), train.document(1, 1)), (&b"later"[..], &b""[..]));
        assert!(test.is_empty());
        set.verify().unwrap();
        assert_eq!(set.meta.notes, ["one remark"]);
    }

    #[test]
    fn a_second_start_prepares_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir(folder.path().into());
        data.prepared(&request(&["train"]), fill).unwrap();
        let again = data.prepared(&request(&["train"]), |_| panic!("prepared twice")).unwrap();
        assert_eq!(again.parts[0].len(), 2);
    }

    #[test]
    fn a_failure_leaves_nothing_behind_and_a_later_start_prepares_again() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir(folder.path().into());
        let broken = |writer: &mut Writer| {
            fill(writer)?;
            Err(DataError::Malformed { path: "x".into(), row: 3, problem: "broken".into() })
        };
        assert_eq!(data.prepared(&request(&["train"]), broken).unwrap_err().to_string(), "x:3: broken");
        assert!(!folder.path().join(".prepared/test-v1-s.part").exists());
        assert!(data.prepared(&request(&["train"]), fill).is_ok());
    }

    #[test]
    fn what_a_killed_process_left_is_never_used() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir(folder.path().into());
        let left = folder.path().join(".prepared/test-v1-s.part");
        fs::create_dir_all(&left).unwrap();
        fs::write(left.join("train.bytes"), "half").unwrap();
        assert_eq!(data.prepared(&request(&["train"]), fill).unwrap().parts[0].len(), 2);
        assert!(!left.exists());
    }

    #[test]
    fn a_set_that_was_cut_or_changed_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir(folder.path().into());
        let set = data.prepared(&request(&["train"]), fill).unwrap();
        let bytes = set.folder.join("train.bytes");
        fs::write(&bytes, "firstlaterpaiR").unwrap();
        let error = Prepared::open(&set.folder).unwrap().verify().unwrap_err().to_string();
        assert!(error.contains("part `train` is not what was prepared"), "{error}");
        fs::write(&bytes, "short").unwrap();
        let error = Prepared::open(&set.folder).unwrap_err().to_string();
        assert!(error.contains("has 5 bytes, not the 14 that were prepared"), "{error}");
    }

    #[test]
    fn of_two_at_once_one_prepares_and_the_other_uses_it() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir(folder.path().into());
        let count = std::sync::atomic::AtomicU32::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let slow = |writer: &mut Writer| {
                        count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                        std::thread::sleep(std::time::Duration::from_millis(50));
                        fill(writer)
                    };
                    assert_eq!(data.prepared(&request(&["train"]), slow).unwrap().parts[0].len(), 2);
                });
            }
        });
        assert_eq!(count.into_inner(), 1);
    }

    #[test]
    fn a_stamp_changes_with_any_file_and_not_with_another_look() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.tsv"), "1").unwrap();
        let stamp = || stamp_of_source(folder.path(), |name| name.ends_with(".tsv")).unwrap();
        let first = stamp();
        assert_eq!(first, stamp());
        fs::write(folder.path().join("other.txt"), "1").unwrap();
        assert_eq!(first, stamp());
        fs::write(folder.path().join("a.tsv"), "22").unwrap();
        assert_ne!(first, stamp());
    }
}
