//! The prepared form of a data set: read, checked or drawn once, then mapped into memory by every run.
//!
//! ```text
//! PLACE/FAMILY-vVERSION-STAMP/          PLACE: DATA/.prepared, or a cache folder where DATA cannot be written
//!     meta.json                         format, family, version, parts with rows and hashes, fingerprint, remarks, its own hash
//!     checked.json                      of a large set: sizes and times of the files when they were last held against their hashes
//!     PART.labels                       one byte a row
//!     PART.spans                        per row and document: start and length in PART.bytes, u64 little-endian
//!     PART.bytes                        the documents, end to end, in the order in which they were read
//! PLACE/FAMILY-vVERSION-STAMP.lock      held while somebody prepares; the system lets go of it when that process ends
//! PLACE/FAMILY-vVERSION-STAMP.part/     what is being written; synced, then renamed when it is whole
//! ```
//! A document is a run of bytes: characters, symbols or grey values, as the family says. The stamp names what the set was
//! made of: the source's path and what tells its state (`state_of`), or the settings it is drawn with. Rows are sorted by their
//! keys: an archive and its folder give one order.
//!
//! A set is held against its hashes before it is used: each time where that takes a moment, and of a large one whenever sizes or
//! times of its files are not those they were checked with. One that is damaged, or of another form (an older [`FORMAT`]), is
//! prepared again.

use crate::data::packed;
use crate::{DataDir, DataError};
use fs4::FileExt;
use memmap2::Mmap;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::RwLock;
use std::time::{Duration, Instant};

/// What happens to prepared sets; tasks print nothing, so whoever wants to hear of it listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Another process prepares this set; this one waits for it. Said once.
    Waiting(&'a str),
    /// This set is being prepared; told every few seconds.
    Preparing {
        /// Its name.
        set: &'a str,
        /// Rows or documents so far.
        rows: u64,
        /// Bytes so far: written, or read where `of` is known.
        bytes: u64,
        /// Bytes there are to read.
        of: Option<u64>,
    },
    /// The preparation of this set ended with an error, which its caller tells.
    Stopped(&'a str),
    /// This set is there and has another form, or is damaged; it is prepared again.
    Again(&'a str, &'a str),
    /// The set in this folder was opened.
    Opened(&'a Path),
}

/// Hears of events from any thread.
pub type Listener = Box<dyn Fn(Event) + Send + Sync>;

static LISTENER: RwLock<Option<Listener>> = RwLock::new(None);

/// Sets the one listener of this process.
pub fn listen(listener: Listener) {
    *LISTENER.write().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(listener);
}

pub(crate) fn tell(event: Event) {
    if let Some(listener) = &*LISTENER.read().unwrap_or_else(std::sync::PoisonError::into_inner) {
        listener(event);
    }
}

/// Says that a set is prepared again, in words that ask nobody to do so.
pub(crate) fn tell_again(set: &str, error: &DataError) {
    let why = error.to_string();
    tell(Event::Again(set, why.split_once("; delete the folder").map_or(&*why, |(why, _)| why)));
}

/// Seconds between two [`Event::Preparing`].
pub(crate) const TOLD_EVERY: Duration = Duration::from_secs(10);

/// Raised when the form of the files changes.
pub const FORMAT: u32 = 2;

/// Bytes of a set that is held against its hashes each time it is opened: some 50 ms.
const CHECKED_EACH_TIME: u64 = 64 << 20;

/// Bytes of a source, and files, up to which its contents tell its state: some 30 ms.
const SMALL: (u64, usize) = (32 << 20, 1000);

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

/// What tells that files are what they were: of few small ones their contents; else size, and the times at which their contents
/// and they themselves were changed last, the second of which no program can set.
pub(crate) fn state_of<'a>(files: impl IntoIterator<Item = &'a Path>) -> Result<blake3::Hash, DataError> {
    let about = |path: &'a Path| Ok((path, fs::metadata(path).map_err(|error| unreadable(path, &error))?));
    let files = files.into_iter().map(about).collect::<Result<Vec<_>, DataError>>()?;
    let bytes: u64 = files.iter().map(|(_, about)| about.len()).sum();
    let mut hasher = blake3::Hasher::new();
    for (path, about) in &files {
        if bytes <= SMALL.0 && files.len() <= SMALL.1 {
            let mut content = blake3::Hasher::new();
            let read = packed::open(path).and_then(|file| content.update_reader(file).map(drop));
            read.map_err(|error| unreadable(path, &error))?;
            hasher.update(content.finalize().as_bytes());
        } else {
            times(about).iter().for_each(|part| _ = hasher.update(&part.to_le_bytes()));
        }
    }
    Ok(hasher.finalize())
}

/// Size of a file, and in nanoseconds since 1970 when its content and when it itself were changed last.
fn times(about: &fs::Metadata) -> [i64; 3] {
    let since =
        |at: std::time::SystemTime| at.duration_since(std::time::UNIX_EPOCH).map_or(-1, |at| at.as_nanos() as i64);
    #[cfg(unix)]
    let changed = {
        use std::os::unix::fs::MetadataExt;
        about.ctime().saturating_mul(1_000_000_000).saturating_add(about.ctime_nsec())
    };
    #[cfg(not(unix))]
    let changed = 0;
    [about.len() as i64, about.modified().map_or(-1, since), changed]
}

/// A stamp of a file or folder: the path, and name and state of every file whose name in it is `wanted`.
pub fn stamp_of_source(root: &Path, wanted: impl Fn(&str) -> bool) -> Result<String, DataError> {
    let unreadable = |path: &Path, why: String| DataError::Unreadable { path: path.into(), why };
    let root = fs::canonicalize(root).map_err(|error| unreadable(root, error.to_string()))?;
    let mut hasher = blake3::Hasher::new();
    hasher.update(root.as_os_str().as_encoded_bytes());
    let mut files = Vec::new();
    for entry in walkdir::WalkDir::new(&root).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| unreadable(error.path().unwrap_or(&root), error.to_string()))?;
        let inner = entry.path().strip_prefix(&root).expect("a walk stays below its root").to_string_lossy();
        if !entry.file_type().is_file() || !(inner.is_empty() || wanted(inner.strip_suffix(".gz").unwrap_or(&inner))) {
            continue;
        }
        hasher.update(inner.as_bytes()).update(b"\0");
        files.push(entry.into_path());
    }
    hasher.update(state_of(files.iter().map(PathBuf::as_path))?.as_bytes());
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
    /// Hash of all this, by the function `seal`.
    pub seal: String,
}

/// BLAKE3 of what a meta.json says, as JSON, its own `seal` empty: no byte of it changes unnoticed.
pub(crate) fn seal(meta: &impl Serialize) -> String {
    let mut value = serde_json::to_value(meta).expect("plain data");
    value["seal"] = "".into();
    blake3::hash(value.to_string().as_bytes()).to_hex().to_string()
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

    /// Whether every document lies in the bytes, so that a damaged set is refused and never read past its end.
    fn spans_fit(&self) -> bool {
        let total = self.bytes.as_deref().map_or(0, <[u8]>::len) as u64;
        let spans = self.spans.as_deref().unwrap_or_default();
        let (numbers, _) = spans.as_chunks::<8>();
        let mut spans = numbers.as_chunks::<2>().0.iter();
        spans.all(|&[start, length]| {
            u64::from_le_bytes(start).checked_add(u64::from_le_bytes(length)).is_some_and(|end| end <= total)
        })
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
    family: String,
    told: Instant,
}

/// Most rows of a part: what is kept of them while they are written takes 3 GB.
const ROWS: usize = 1 << 26;

struct PartWriter {
    name: String,
    path: PathBuf, // without its extension
    bytes: BufWriter<File>,
    written: u64,
    rows: Vec<Row>,
}

/// What is kept of a row in memory: its key, its label, and start and length of each of its documents.
struct Row {
    key: u64,
    label: u8,
    spans: [(u64, u64); 2],
}

impl Writer {
    fn new(folder: &Path, request: &Request) -> Result<Self, DataError> {
        let part = |name: &&str| {
            let path = folder.join(name);
            let file = path.with_extension("bytes");
            let bytes = File::create(&file).map_err(|error| unwritable(&file, &error))?;
            Ok(PartWriter {
                name: (*name).to_owned(),
                path,
                bytes: BufWriter::with_capacity(1 << 18, bytes),
                written: 0,
                rows: Vec::new(),
            })
        };
        let parts = request.parts.iter().map(part).collect::<Result<_, DataError>>()?;
        let (documents, family) = (request.documents, request.family.to_owned());
        Ok(Self { parts, hashes: BTreeMap::new(), notes: Vec::new(), documents, family, told: Instant::now() })
    }

    /// Adds a row to part `part`. Rows of a part are sorted by `key` in the end, those of equal keys by their arrival.
    pub fn row(&mut self, part: usize, key: u64, label: u8, documents: &[&[u8]]) -> Result<(), DataError> {
        assert!(documents.len() == self.documents && self.documents <= 2, "{} documents of a row", documents.len());
        let part = &mut self.parts[part];
        let mut spans = [(0, 0); 2];
        for (span, document) in spans.iter_mut().zip(documents) {
            let file = || part.path.with_extension("bytes");
            part.bytes.write_all(document).map_err(|error| unwritable(&file(), &error))?;
            *span = (part.written, document.len() as u64);
            part.written += document.len() as u64;
        }
        if part.rows.len() == ROWS {
            let why = format!("has more than {ROWS} rows, the most of a prepared set");
            return Err(DataError::Unreadable { path: format!("{} of {}", part.name, self.family).into(), why });
        }
        part.rows.push(Row { key, label, spans });
        if part.rows.len().is_multiple_of(64) && self.told.elapsed() >= TOLD_EVERY {
            self.told = Instant::now();
            let sum = |of: fn(&PartWriter) -> u64| self.parts.iter().map(of).sum();
            let (rows, bytes) = (sum(|part| part.rows.len() as u64), sum(|part| part.written));
            tell(Event::Preparing { set: &self.family, rows, bytes, of: None });
        }
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
            if self.hashes.is_empty() { String::new() } else { crate::data::formats::fingerprint(&self.hashes) };
        let mut parts = Vec::new();
        for (part, name) in self.parts.into_iter().zip(request.parts) {
            parts.push(part.finish(name, self.documents)?);
        }
        let meta = Meta {
            format: FORMAT,
            family: request.family.into(),
            version: request.version,
            documents: request.documents,
            parts,
            fingerprint,
            notes: self.notes,
            seal: String::new(),
        };
        let meta = Meta { seal: seal(&meta), ..meta };
        write_synced(&folder.join("meta.json"), &serde_json::to_vec_pretty(&meta).expect("plain data"))?;
        Ok(meta)
    }
}

impl PartWriter {
    fn finish(mut self, name: &str, documents: usize) -> Result<PartMeta, DataError> {
        let file = self.path.with_extension("bytes");
        self.bytes.flush().map_err(|error| unwritable(&file, &error))?;
        self.bytes.get_ref().sync_all().map_err(|error| unwritable(&file, &error))?;
        self.rows.sort_by_key(|row| row.key);
        let labels: Vec<u8> = self.rows.iter().map(|row| row.label).collect();
        let spans = self.rows.iter().flat_map(|row| &row.spans[..documents]);
        let spans: Vec<u8> = spans.flat_map(|(start, length)| [*start, *length]).flat_map(u64::to_le_bytes).collect();
        for (extension, content) in [("labels", &labels), ("spans", &spans)] {
            write_synced(&self.path.with_extension(extension), content)?;
        }
        let hash = hash_files(&self.path)?;
        Ok(PartMeta { name: name.into(), rows: labels.len() as u64, bytes: self.written, hash })
    }
}

/// A small file, on the disk when this returns: a set that has its name is whole even after a power cut.
fn write_synced(path: &Path, content: &[u8]) -> Result<(), DataError> {
    let written = File::create(path).and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()));
    written.map_err(|error| unwritable(path, &error))
}

/// Extensions of a part's files.
const FILES: [&str; 3] = ["labels", "spans", "bytes"];

/// Holds the files of a set against their hashes by `verify`, unless they are large and still as they were when that was done
/// before.
pub(crate) fn check_once<N: AsRef<str>>(
    folder: &Path,
    names: &[N],
    verify: impl FnOnce() -> Result<(), DataError>,
) -> Result<(), DataError> {
    let now = || -> Result<BTreeMap<String, [i64; 3]>, DataError> {
        let state = |name: &N| {
            let path = folder.join(name.as_ref());
            let about = fs::metadata(&path).map_err(|error| unreadable(&path, &error))?;
            Ok((name.as_ref().to_owned(), times(&about)))
        };
        names.iter().map(state).collect()
    };
    let before = now()?;
    if before.values().map(|[bytes, ..]| *bytes as u64).sum::<u64>() <= CHECKED_EACH_TIME {
        return verify();
    }
    let path = folder.join("checked.json");
    let known = fs::read(&path).ok().and_then(|text| serde_json::from_slice::<BTreeMap<String, [i64; 3]>>(&text).ok());
    if known.is_some_and(|known| known == before) {
        return Ok(());
    }
    verify()?;
    // Where it cannot be remembered, it is checked again next time.
    let new = folder.join(format!("checked.json.{}", std::process::id()));
    let text = serde_json::to_vec(&before).expect("plain data");
    if fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).is_err() {
        let _ = fs::remove_file(&new);
    }
    Ok(())
}

/// BLAKE3 of a part's three files.
fn hash_files(part: &Path) -> Result<String, DataError> {
    let mut hasher = blake3::Hasher::new();
    for extension in FILES {
        let path = part.with_extension(extension);
        let mut file = File::open(&path).map_err(|error| unreadable(&path, &error))?;
        io::copy(&mut file, &mut hasher).map_err(|error| unreadable(&path, &error))?;
    }
    Ok(hasher.finalize().to_hex().to_string())
}

impl Prepared {
    /// Opens the set in `folder`; an error when it is not whole, or not what was prepared.
    pub fn open(folder: &Path) -> Result<Self, DataError> {
        let set = Self::mapped(folder)?;
        let names: Vec<String> =
            set.meta.parts.iter().flat_map(|part| FILES.map(|end| format!("{}.{end}", part.name))).collect();
        check_once(folder, &names, || set.verify())?;
        tell(Event::Opened(folder));
        Ok(set)
    }

    /// The same without a look at its bytes.
    fn mapped(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join("meta.json");
        let text = fs::read(&path).map_err(|error| unreadable(&path, &error))?;
        let refused = |why: String| DataError::Unreadable { path: path.clone(), why };
        let meta: Meta = serde_json::from_slice(&text)
            .map_err(|error| refused(format!("{error}; delete the folder to prepare it again")))?;
        if meta.format != FORMAT {
            return Err(refused(format!("has form {}, and this program reads form {FORMAT}", meta.format)));
        }
        if meta.seal != seal(&meta) {
            return Err(refused("is not what was written; delete the folder to prepare it again".into()));
        }
        let mut parts = Vec::new();
        for part in &meta.parts {
            let map = |extension: &str, bytes: u64| map(&folder.join(&part.name).with_extension(extension), bytes);
            let mapped = Part {
                documents: meta.documents,
                labels: map("labels", part.rows)?,
                spans: map("spans", part.rows.saturating_mul(16).saturating_mul(meta.documents as u64))?,
                bytes: map("bytes", part.bytes)?,
            };
            if !mapped.spans_fit() {
                let path = folder.join(&part.name).with_extension("spans");
                let why = "points outside the documents; delete the folder to prepare it again".into();
                return Err(DataError::Unreadable { path, why });
            }
            parts.push(mapped);
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

/// A file of exactly `bytes` bytes; an empty one cannot be mapped and need not be.
pub(crate) fn map(path: &Path, bytes: u64) -> Result<Option<Mmap>, DataError> {
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
    /// Opens a prepared set, preparing it first where it is not there or is damaged. Of two processes one prepares and the other
    /// waits; what a process that died left behind is swept away and never opened.
    pub fn prepared(
        &self,
        request: &Request,
        prepare: impl FnOnce(&mut Writer) -> Result<(), DataError>,
    ) -> Result<Prepared, DataError> {
        let place = self.place()?;
        let name = format!("{}-v{}-{}", request.family, request.version, request.stamp);
        let folder = place.join(&name);
        if let Standing::Current = standing(&folder, request)
            && let Ok(set) = Prepared::open(&folder)
        {
            return Ok(set);
        }
        let _lock = Lock::take(&place.join(format!("{name}.lock")), request.family)?;
        match standing(&folder, request) {
            // Somebody else may have prepared it while we waited.
            Standing::Current => match Prepared::open(&folder) {
                Ok(set) => return Ok(set),
                Err(error) => tell_again(request.family, &error),
            },
            Standing::Absent => {}
            Standing::Other(why) => tell(Event::Again(request.family, &why)),
        }
        let part = place.join(format!("{name}.part"));
        let written = self.write(&part, request, prepare).and_then(|()| replace(&part, &folder));
        if written.is_err() {
            let _ = fs::remove_dir_all(&part); // the first error is the one to tell
        }
        written?;
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
        let far = cache_folder().join("prepared");
        // Not created for its own sake: a set that is drawn must not leave an empty data folder behind.
        if self.0.is_dir() && fs::create_dir_all(&near).is_ok() && writable(&near) {
            return Ok(near);
        }
        fs::create_dir_all(&far).map_err(|error| unwritable(&far, &error))?;
        Ok(far)
    }
}

/// Where what can be made again lies: `mixarena` in `$XDG_CACHE_HOME`, else in `~/.cache`, else in the folder of temporary files.
pub fn cache_folder() -> PathBuf {
    let home = std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or(home).unwrap_or_else(std::env::temp_dir);
    cache.join("mixarena")
}

/// What stands under a set's name.
enum Standing {
    /// Nothing that says that it is whole.
    Absent,
    /// What is asked for.
    Current,
    /// A whole set of another form, with how it differs.
    Other(String),
}

fn standing(folder: &Path, request: &Request) -> Standing {
    let Ok(text) = fs::read(folder.join("meta.json")) else { return Standing::Absent };
    // Only the form is looked at: an older one may lack any other field.
    let Ok(meta) = serde_json::from_slice::<serde_json::Value>(&text) else { return Standing::Current };
    if meta["format"] != FORMAT {
        return Standing::Other(format!("it has form {}, and this program writes form {FORMAT}", meta["format"]));
    }
    let names = meta["parts"].as_array().into_iter().flatten().map(|part| part["name"].as_str());
    if meta["documents"] != request.documents || !names.eq(request.parts.iter().map(|&part| Some(part))) {
        return Standing::Other("it has other parts than this program reads".into());
    }
    Standing::Current
}

/// Gives a whole set its name, in place of one of another form.
pub(crate) fn replace(part: &Path, folder: &Path) -> Result<(), DataError> {
    if folder.exists() {
        fs::remove_dir_all(folder).map_err(|error| unwritable(folder, &error))?;
    }
    // The names inside reach the disk before the folder's own name does.
    #[cfg(unix)]
    File::open(part).and_then(|folder| folder.sync_all()).map_err(|error| gone_or_unwritable(part, &error))?;
    fs::rename(part, folder).map_err(|error| gone_or_unwritable(part, &error))
}

fn gone_or_unwritable(part: &Path, error: &io::Error) -> DataError {
    if error.kind() != io::ErrorKind::NotFound {
        return unwritable(part, error);
    }
    let why = "was deleted while it was being prepared; start again".into();
    DataError::Unreadable { path: part.into(), why }
}

/// The right to prepare one set. The file goes with it, while the lock is still held: who waited on it then holds a lock on
/// a file without a name, sees that, and takes the new one.
pub(crate) struct Lock {
    path: PathBuf,
    _file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path); // one that stays does no harm
    }
}

impl Lock {
    /// Takes it where nobody holds it.
    pub(crate) fn try_take(path: &Path) -> Option<Self> {
        let file = File::create(path).ok()?;
        FileExt::try_lock(&file).ok()?;
        is_at(&file, path).then(|| Self { path: path.into(), _file: file })
    }

    /// Waits while another process holds it. A process that dies lets go of it, so a stale file does no harm.
    pub(crate) fn take(path: &Path, family: &str) -> Result<Self, DataError> {
        let open = || File::create(path).map_err(|error| unwritable(path, &error));
        loop {
            let file = open()?;
            match FileExt::try_lock(&file) {
                Ok(()) => {}
                Err(fs4::TryLockError::WouldBlock) => {
                    tell(Event::Waiting(family));
                    FileExt::lock(&file).map_err(|error| unwritable(path, &error))?;
                }
                Err(fs4::TryLockError::Error(error)) => return Err(unwritable(path, &error)),
            }
            if is_at(&file, path) {
                return Ok(Self { path: path.into(), _file: file });
            }
        }
    }
}

/// Whether the open file still has this name: who held the lock before deletes it.
#[cfg(unix)]
pub(crate) fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (Ok(held), Ok(there)) = (file.metadata(), fs::metadata(path)) else { return false };
    (held.dev(), held.ino()) == (there.dev(), there.ino())
}

#[cfg(not(unix))]
pub(crate) fn is_at(_: &File, path: &Path) -> bool {
    path.exists()
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

pub(crate) fn unwritable(path: &Path, error: &io::Error) -> DataError {
    let why = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("the disk is full ({error}); make room and start again: nothing half-made is kept")
        }
        io::ErrorKind::NotFound => "was deleted while it was being prepared; start again".into(),
        _ => format!("cannot be written: {error}"),
    };
    DataError::Unreadable { path: path.into(), why }
}

#[cfg(test)]
mod tests;
