//! Makes tokens of a corpus, once; a preparation that was stopped is gone on with.
//!
//! ```text
//! read a batch of pieces │ tokens of each, on every core │ append in order │ every 64 MB of text: sync, then progress.json
//! ```
//! After a kill the files are cut to what progress.json says, and the readers go on behind it (a `.gz` is unpacked anew up to
//! there). The result is the same, byte for byte, however often it was stopped, and on any number of cores. What was begun under
//! another policy of errors is gone on with where no such error was met.

use super::documents::{Piece, Reader};
use super::reader::{Count, Position, Tally};
use super::sources::Sources;
use super::{CorpusConfig, InvalidUtf8, Malformed, Packing, Shape};
use crate::data::formats::unreadable;
use crate::data::prepared::{self, Event, Lock, TOLD_EVERY, replace, tell};
use crate::language::tokenizer::Tokenizer;
use crate::{DataDir, DataError, Split};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, ErrorKind, Write};

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Raised when other files are made of the same corpus.
const VERSION: u32 = 3;

/// When things are done; the files do not depend on it.
#[derive(Clone, Debug)]
pub(super) struct Limits {
    /// Bytes of text between two progress files.
    pub checkpoint: u64,
    /// Bytes of text made into tokens at once, for each thread.
    pub batch: usize,
    pub threads: usize,
    /// Stops as a kill would, after a checkpoint and this many bytes of text: for tests.
    pub stop: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { checkpoint: 64 << 20, batch: 2 << 20, threads, stop: None }
    }
}

/// What a part holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    /// In the file, `[SEP]` between documents included.
    pub tokens: u64,
    /// Of text.
    pub text: u64,
    /// UTF-8.
    pub bytes: u64,
    pub documents: u64,
    /// Padded only.
    pub sequences: u64,
}

/// `meta.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Meta {
    pub version: u32,
    /// Bytes of a token.
    pub width: u64,
    /// In the order of [`Split::ALL`].
    pub splits: [Part; 3],
    /// Hash of the documents and their splits.
    pub content: String,
    /// Hash of the other files of the set.
    pub files: String,
    /// [`Tokenizer::fingerprint`].
    pub tokenizer: String,
    pub notes: Vec<String>,
    /// [`prepared::seal`] of all this.
    pub seal: String,
}

impl Meta {
    pub fn read(folder: &Path) -> Result<Self, DataError> {
        let path = folder.join("meta.json");
        let text = fs::read(&path).map_err(|error| unreadable(&path, &error))?;
        let read: Result<Self, _> = serde_json::from_slice(&text);
        let why = match read {
            Ok(meta) if meta.seal == prepared::seal(&meta) => return Ok(meta),
            Ok(_) => "is not what was written".into(),
            Err(error) => error.to_string(),
        };
        Err(DataError::Unreadable { path, why: format!("{why}; delete the folder to prepare it again") })
    }

    /// The same of a set whose files are what was prepared.
    pub fn checked(folder: &Path) -> Result<Self, DataError> {
        let meta = Self::read(folder)?;
        let names: Vec<String> = files(folder)?.iter().map(|path| name_of(path)).collect();
        prepared::check_once(folder, &names, || meta.verify(folder))?;
        Ok(meta)
    }

    /// Reads every byte of the set and holds it against the hash that is kept here.
    pub fn verify(&self, folder: &Path) -> Result<(), DataError> {
        if hash_files(folder)? == self.files {
            return Ok(());
        }
        let why = "is not what was prepared; delete the folder to prepare it again".into();
        Err(DataError::Unreadable { path: folder.into(), why })
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Every file of a set but those about it, in the order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>, DataError> {
    let entries = fs::read_dir(folder).map_err(|error| unreadable(folder, &error))?;
    let mut paths: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|end| end == "tokens" || end == "starts" || end == "counts"));
    paths.sort();
    Ok(paths)
}

/// Hash of every file of a set but those about it.
fn hash_files(folder: &Path) -> Result<String, DataError> {
    let mut hashes = BTreeMap::new();
    for path in files(folder)? {
        let (mut hasher, name) = (blake3::Hasher::new(), name_of(&path));
        let read = File::open(&path).and_then(|mut file| std::io::copy(&mut file, &mut hasher));
        read.map_err(|error| unreadable(&path, &error))?;
        hashes.insert(name, hasher.finalize());
    }
    Ok(crate::data::formats::fingerprint(&hashes))
}

/// As for other sets; but what was done of this one is kept.
fn unwritable(path: &Path, error: &std::io::Error) -> DataError {
    if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
        let why = format!("the disk is full ({error}); make room and start again: it goes on where it stopped");
        return DataError::Unreadable { path: path.into(), why };
    }
    prepared::unwritable(path, error)
}

/// A small file, on the disk when this returns.
fn write_new(path: &Path, content: &[u8]) -> Result<(), DataError> {
    let written = File::create(path).and_then(|mut file| file.write_all(content).and_then(|()| file.sync_all()));
    written.map_err(|error| unwritable(path, &error))
}

/// `progress.json`: everything that the rest of the work depends on.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Progress {
    version: u32,
    /// Names the preparation whatever its files hold now.
    whose: String,
    position: Position,
    /// Hash of the documents so far, hexadecimal.
    content: String,
    splits: [Part; 3],
    counts: Vec<u64>,
    /// Whether the document at hand has a token in its file.
    begun: bool,
    tokenless: Count,
    tally: Tally,
}

/// What is to be prepared.
pub(super) struct Job<'a> {
    pub data: &'a DataDir,
    pub config: &'a CorpusConfig,
    pub sources: &'a Sources,
    pub tokenizer: &'a Tokenizer,
    pub shape: Shape,
    pub limits: &'a Limits,
}

fn hash_of(parts: &[&str]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part.as_bytes()).update(b"\0");
    }
    hasher.finalize().to_hex()[..20].to_owned()
}

impl Job<'_> {
    /// Where the whole set lies, prepared if need be.
    pub fn folder(&self) -> Result<PathBuf, DataError> {
        let place = self.data.place()?;
        let (stamp, name) = (self.config.stamp_of(self.sources), self.name(self.config));
        let folder = place.join(&name);
        if Meta::checked(&folder).is_ok() {
            return Ok(folder);
        }
        let _lock = Lock::take(&place.join(format!("{name}.lock")), &self.title())?;
        if folder.join("meta.json").exists() {
            match Meta::checked(&folder) {
                Ok(_) => return Ok(folder), // somebody else prepared it while we waited
                Err(error) => prepared::tell_again(&self.title(), &error),
            }
        }
        let part = place.join(format!("{name}.part"));
        self.adopt(&place, &part);
        self.sweep(&place, &part);
        if Meta::read(&part).is_err() {
            super::documents::refuse_unbroken(self.config, self.sources)?;
            let written = self.write(&part); // else it was killed when all was done but the name
            if written.is_err() {
                tell(Event::Stopped(&self.title()));
            }
            written?;
        }
        let now = super::sources::list(self.config, self.data)?;
        if self.config.stamp_of(&now) != stamp {
            let _ = fs::remove_dir_all(&part);
            let path = self.config.path.0.first().map_or_else(|| self.data.0.clone(), |path| self.data.0.join(path));
            let why = "changed while it was being prepared; start again when it stands still".into();
            return Err(DataError::Unreadable { path, why });
        }
        match fs::remove_file(part.join("progress.json")) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(unwritable(&part, &error)),
            _ => replace(&part, &folder)?,
        }
        Ok(folder)
    }

    /// Of the set, under these settings.
    fn name(&self, config: &CorpusConfig) -> String {
        let stamp = config.stamp_of(self.sources);
        format!("corpus-v{VERSION}-{}", hash_of(&[&stamp, &self.tokenizer.fingerprint(), &self.form()]))
    }

    /// For messages.
    fn title(&self) -> String {
        format!("corpus {}", self.config.path)
    }

    /// What the files depend on beside the text and the tokenizer: packed ones are cut into sequences as they are read.
    fn form(&self) -> String {
        match self.shape.packing {
            Packing::Packed => "packed".into(),
            Packing::Padded => format!("padded {}", self.shape.room()),
        }
    }

    /// The same for a corpus whose files have changed since.
    fn whose(&self) -> String {
        let paths =
            |paths: &super::Paths| -> Vec<PathBuf> { paths.0.iter().map(|path| self.data.0.join(path)).collect() };
        let named = [Some(&self.config.path), self.config.validation.as_ref(), self.config.test.as_ref()];
        let named: Vec<_> = named.iter().map(|named| named.map(paths)).collect();
        hash_of(&[&format!("{named:?}"), &self.tokenizer.fingerprint(), &self.form()])
    }

    /// Takes for its own what was begun of the same files under another policy of errors, as far as none was met that these
    /// policies are about: up to there they do the same.
    fn adopt(&self, place: &Path, own: &Path) {
        if own.join("progress.json").exists() {
            return;
        }
        for invalid_utf8 in [InvalidUtf8::Error, InvalidUtf8::Replace, InvalidUtf8::Skip] {
            for malformed in [Malformed::Error, Malformed::Skip] {
                let (utf8, lines) = (invalid_utf8 == self.config.invalid_utf8, malformed == self.config.malformed);
                let name = self.name(&CorpusConfig { invalid_utf8, malformed, ..self.config.clone() });
                let part = place.join(format!("{name}.part"));
                if utf8 && lines || !part.exists() {
                    continue;
                }
                let Some(_lock) = Lock::try_take(&place.join(format!("{name}.lock"))) else { continue }; // at work
                let progress = fs::read(part.join("progress.json")).ok();
                let progress = progress.and_then(|text| serde_json::from_slice::<Progress>(&text).ok());
                let same = progress.is_some_and(|Progress { tally, .. }| {
                    (utf8 || tally.skipped.times + tally.replaced.times == 0) && (lines || tally.malformed.times == 0)
                });
                if same {
                    let _ = fs::remove_file(part.join("meta.json")); // what it tells of lies behind the progress
                    let _ = fs::remove_dir_all(own);
                    if fs::rename(&part, own).is_ok() {
                        return;
                    }
                }
            }
        }
    }

    /// Removes what was begun of the same corpus in another state: it will not be gone on with.
    fn sweep(&self, place: &Path, own: &Path) {
        let whose = self.whose();
        for entry in fs::read_dir(place).into_iter().flatten().flatten() {
            let path = entry.path();
            let name = entry.file_name().to_string_lossy().into_owned();
            let Some(stem) = name.strip_suffix(".part").filter(|name| name.starts_with("corpus-v")) else { continue };
            if path == own {
                continue;
            }
            let Some(_lock) = Lock::try_take(&place.join(format!("{stem}.lock"))) else { continue }; // at work
            let progress = fs::read(path.join("progress.json")).ok();
            let progress = progress.and_then(|text| serde_json::from_slice::<serde_json::Value>(&text).ok());
            if progress.is_some_and(|progress| progress["whose"] == whose) {
                tell(Event::Again(&self.title(), "its files or settings have changed since it was begun"));
                let _ = fs::remove_dir_all(path);
            }
        }
    }

    /// Writes the set into `part`, going on with what is there.
    fn write(&self, part: &Path) -> Result<(), DataError> {
        fs::create_dir_all(part).map_err(|error| unwritable(part, &error))?;
        let mut writer = Writer::open(self, part)?;
        let (tally, from) = (writer.progress.tally.clone(), writer.progress.position);
        let mut reader = Reader::resume(self.config, self.sources.clone(), from, tally);
        let total = self.sources.files.iter().map(|file| file.bytes).sum();
        let (mut since, mut all, mut kept, mut told) = (0, 0, false, Instant::now());
        let batch = self.limits.batch * self.limits.threads;
        loop {
            let (mut pieces, mut bytes) = (Vec::new(), 0);
            while bytes < batch {
                let Some(piece) = reader.next_piece()? else { break };
                bytes += piece.text.len() + 16;
                pieces.push(piece);
            }
            if pieces.is_empty() {
                break;
            }
            let tokens = encode(self.tokenizer, &pieces, self.limits.threads);
            for (piece, tokens) in pieces.iter().zip(&tokens) {
                writer.add(piece, tokens)?;
            }
            since += bytes as u64;
            all += bytes as u64;
            if kept && self.limits.stop.is_some_and(|stop| all >= stop) {
                writer.flush()?; // so that there is something to cut
                return Err(DataError::Unreadable { path: part.into(), why: "stopped".into() });
            }
            if since >= self.limits.checkpoint
                && let Some(position) = reader.position()
            {
                writer.checkpoint(position, &reader.tally)?;
                (since, kept) = (0, true);
            }
            if told.elapsed() >= TOLD_EVERY / 5 {
                told = Instant::now();
                let rows = writer.progress.splits.iter().map(|part| part.documents).sum();
                tell(Event::Preparing { set: &self.title(), rows, bytes: reader.done(), of: Some(total) });
            }
        }
        writer.finish(&reader.tally)
    }
}

/// The tokens of every piece, in order, by several threads.
fn encode(tokenizer: &Tokenizer, pieces: &[Piece], threads: usize) -> Vec<Vec<u32>> {
    let next = AtomicUsize::new(0);
    let found = Mutex::new(vec![Vec::new(); pieces.len()]);
    let at_once = (pieces.len() / (8 * threads)).clamp(1, 64); // pieces may be single lines, or a MiB each
    let work = || loop {
        let first = next.fetch_add(at_once, Ordering::Relaxed);
        let Some(own) = pieces.get(first..(first + at_once).min(pieces.len())).filter(|own| !own.is_empty()) else {
            return;
        };
        let tokens: Vec<_> = own.iter().map(|piece| tokenizer.encode(&piece.text)).collect();
        let mut found = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        found[first..].iter_mut().zip(tokens).for_each(|(place, tokens)| *place = tokens);
    };
    std::thread::scope(|scope| {
        (1..threads.min(pieces.len().div_ceil(at_once))).for_each(|_| drop(scope.spawn(work)));
        work();
    });
    found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The files being written.
struct Writer<'a> {
    job: &'a Job<'a>,
    folder: PathBuf,
    progress: Progress,
    content: blake3::Hash,
    tokens: [Output; 3],
    starts: Option<[Output; 3]>,
    sep: u32,
    width: u64,
    buffer: Vec<u8>,
}

struct Output {
    path: PathBuf,
    file: BufWriter<File>,
}

impl Output {
    /// A file of exactly `bytes`, to be appended to.
    fn open(path: PathBuf, bytes: u64) -> Result<Self, DataError> {
        let opened = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|file| file.set_len(bytes).map(|()| file));
        let file = opened.map_err(|error| unwritable(&path, &error))?;
        Ok(Self { path, file: BufWriter::with_capacity(1 << 18, file) })
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        self.file.write_all(bytes).map_err(|error| unwritable(&self.path, &error))
    }

    fn sync(&mut self) -> Result<(), DataError> {
        let synced = self.file.flush().and_then(|()| self.file.get_ref().sync_data());
        synced.map_err(|error| unwritable(&self.path, &error))
    }
}

impl<'a> Writer<'a> {
    fn open(job: &'a Job<'a>, folder: &Path) -> Result<Self, DataError> {
        let vocabulary = job.tokenizer.vocab_size();
        let width = if vocabulary <= 1 << 16 { 2 } else { 4 };
        let padded = job.shape.packing == Packing::Padded;
        let file = |split: Split, extension: &str| folder.join(split.name()).with_extension(extension);
        let whose = job.whose();
        // Only what can be gone on with counts: of this program's form, and with files no shorter than it says.
        let found = fs::read(folder.join("progress.json")).ok();
        let found = found.and_then(|text| serde_json::from_slice::<Progress>(&text).ok()).filter(|found| {
            let at_least =
                |split, extension, bytes| fs::metadata(file(split, extension)).is_ok_and(|about| about.len() >= bytes);
            let files = Split::ALL.into_iter().zip(&found.splits).all(|(split, part)| {
                at_least(split, "tokens", part.tokens * width)
                    && (!padded || at_least(split, "starts", 8 * part.sequences))
            });
            files && found.version == VERSION && found.whose == whose && found.counts.len() == vocabulary
        });
        let content = found.as_ref().and_then(|found| blake3::Hash::from_hex(&found.content).ok());
        let fresh = Progress {
            version: VERSION,
            whose,
            position: Position::default(),
            content: String::new(),
            splits: Default::default(),
            counts: vec![0; vocabulary],
            begun: false,
            tokenless: Count::default(),
            tally: Tally::default(),
        };
        let (progress, content) = found.zip(content).unwrap_or_else(|| (fresh, blake3::hash(b"mixarena corpus")));
        let open = |extension: &str, bytes: fn(&Part) -> u64, times: u64| -> Result<[Output; 3], DataError> {
            let one =
                |split: Split| Output::open(file(split, extension), times * bytes(&progress.splits[split as usize]));
            Ok([one(Split::Train)?, one(Split::Validation)?, one(Split::Test)?])
        };
        let tokens = open("tokens", |part| part.tokens, width)?;
        let starts = padded.then(|| open("starts", |part| part.sequences, 8)).transpose()?;
        let sep = job.tokenizer.specials().sep;
        Ok(Self { job, folder: folder.into(), progress, content, tokens, starts, sep, width, buffer: Vec::new() })
    }

    fn add(&mut self, piece: &Piece, tokens: &[u32]) -> Result<(), DataError> {
        let text = blake3::hash(piece.text.as_bytes());
        let mut hasher = blake3::Hasher::new();
        hasher.update(self.content.as_bytes()).update(text.as_bytes());
        self.content = hasher.update(&[piece.split as u8, u8::from(piece.continues)]).finalize();
        let split = piece.split as usize;
        let part = &mut self.progress.splits[split];
        let begun = piece.continues && self.progress.begun;
        self.progress.begun = begun || !tokens.is_empty();
        part.bytes += piece.text.len() as u64;
        if tokens.is_empty() {
            let head = crate::data::formats::shorten(piece.text.as_bytes());
            self.progress.tokenless.add(|| head);
            return Ok(());
        }
        part.documents += u64::from(!begun);
        self.buffer.clear();
        let (buffer, width) = (&mut self.buffer, self.width as usize);
        let mut put = |token: u32| buffer.extend_from_slice(&token.to_le_bytes()[..width]);
        if let Some(starts) = &mut self.starts {
            let room = self.job.shape.room();
            for at in (0..tokens.len()).step_by(room) {
                starts[split].write(&(part.tokens + at as u64).to_le_bytes())?;
                part.sequences += 1;
            }
        } else if !begun && part.tokens > 0 {
            put(self.sep);
            part.tokens += 1;
        }
        tokens.iter().for_each(|&token| put(token));
        part.tokens += tokens.len() as u64;
        part.text += tokens.len() as u64;
        self.tokens[split].write(&self.buffer)?;
        if piece.split == Split::Train {
            tokens.iter().for_each(|&token| self.progress.counts[token as usize] += 1);
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), DataError> {
        self.tokens.iter_mut().chain(self.starts.iter_mut().flatten()).try_for_each(Output::sync)
    }

    fn checkpoint(&mut self, position: Position, tally: &Tally) -> Result<(), DataError> {
        self.flush()?;
        self.progress.position = position;
        self.progress.tally = tally.clone();
        self.progress.content = self.content.to_hex().to_string();
        let (new, path) = (self.folder.join("progress.json.new"), self.folder.join("progress.json"));
        write_new(&new, &serde_json::to_vec(&self.progress).expect("plain data"))?;
        fs::rename(&new, &path).map_err(|error| unwritable(&path, &error))
    }

    fn finish(mut self, tally: &Tally) -> Result<(), DataError> {
        self.flush()?;
        let counts: Vec<u8> = self.progress.counts.iter().flat_map(|count| count.to_le_bytes()).collect();
        write_new(&self.folder.join("train.counts"), &counts)?;
        let mut notes = tally.notes();
        if self.progress.tokenless.times > 0 {
            let Count { times, first } = &self.progress.tokenless;
            notes.push(format!(
                "documents of which the tokenizer makes no token: {times} (passed over; first: {first})"
            ));
        }
        let meta = Meta {
            version: VERSION,
            width: self.width,
            splits: self.progress.splits,
            content: self.content.to_hex().to_string(),
            files: hash_files(&self.folder)?,
            tokenizer: self.job.tokenizer.fingerprint(),
            notes,
            seal: String::new(),
        };
        let meta = Meta { seal: prepared::seal(&meta), ..meta };
        write_new(&self.folder.join("meta.json"), &serde_json::to_vec_pretty(&meta).expect("plain data"))?;
        Ok(())
    }
}
