//! Corpora: text of any size, cut into documents, made into tokens once and mapped by every run.
//!
//! ```text
//! files ── documents ── pieces ── tokens ──┬ packed   d₁ [SEP] d₂ [SEP] d₃ …    cut every `length` tokens
//!                                          └ padded   each document cut by itself; its last sequence is shorter
//!
//! DATA/.prepared/corpus-v3-HASH/      HASH: names and state of the files, settings, tokenizer, packing (padded: length)
//!     meta.json                       what the parts hold, content hash, remarks
//!     SPLIT.tokens                    u16 little-endian where the vocabulary has at most 65,536 tokens, else u32
//!     SPLIT.starts                    padded only: where each sequence begins, u64 little-endian
//!     train.counts                    how often each token stands in train, u64 little-endian
//! DATA/.prepared/corpus-v3-HASH.part/ what is being written, with progress.json: where to go on after a kill
//! ```
//! Matches  WikiText as published (Merity et al. 2016, arXiv:1609.07843): raw and tokens forms; a document is an article.
//!          `<unk>` of the tokens form stays text, as every other word of it. TinyStories: stories between `<|endoftext|>`.
//! Departs  the published raw form has blank lines around its titles; a copy that lost them is cut at every line of a title's
//!          form, and in WikiText-2's test file two lines of a formula have it
//!
//! Nothing is held whole: a document longer than [`PIECE`] comes in pieces cut at white space, the later ones continuing the
//! first. White space around a document is dropped, CR LF is LF, an empty document is counted and passed over. Packed
//! sequences are the same tokens for every length, and so share a set; the last sequence of a split is shorter.

mod columns;
mod documents;
mod jsonl;
mod lines;
mod long;
mod prepare;
mod reader;
mod sources;

use crate::data::prepared::{Event, tell};
use crate::language::tokenizer::Tokenizer;
use crate::{ConfigError, DataDir, DataError, Split};
use memmap2::Mmap;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Longest text that is made into tokens at once, in bytes of UTF-8.
pub const PIECE: usize = 1 << 20;

/// One name or a list of names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths(pub Vec<PathBuf>);

impl Paths {
    /// These names.
    pub fn of<P: Into<PathBuf>>(names: impl IntoIterator<Item = P>) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }
}

impl fmt::Display for Paths {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let names: Vec<_> = self.0.iter().map(|path| path.to_string_lossy()).collect();
        f.write_str(&names.join(", "))
    }
}

impl Serialize for Paths {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0[..] {
            [path] => path.serialize(serializer),
            paths => paths.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Paths {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;
        impl<'de> de::Visitor<'de> for Names {
            type Value = Paths;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("the name of a file or folder, or a list of names")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Paths, E> {
                Ok(Paths(vec![name.into()]))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut names: A) -> Result<Paths, A::Error> {
                let mut paths = Vec::new();
                while let Some(name) = names.next_element::<String>()? {
                    paths.push(name.into());
                }
                Ok(Paths(paths))
            }
        }
        deserializer.deserialize_any(Names)
    }
}

impl schemars::JsonSchema for Paths {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Paths".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }]
        })
    }
}

/// How a file holds text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// By its name: `*.jsonl`, `*.ndjson`, `*.json`; `*.parquet`; `wiki.*.raw`, `wiki.*.tokens`; else text. `.gz` may follow.
    Auto,
    /// Plain text in UTF-8.
    Text,
    /// One JSON object a line.
    Jsonl,
    /// A column of strings, compressed by Snappy or Zstandard or not at all.
    Parquet,
    /// WikiText: a line ` = Title = ` begins a document.
    Wikitext,
}

/// What a document is in plain text: splits are drawn document by document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Documents {
    /// What stands between separators where `separator` is set or `<|endoftext|>` occurs in the first MiB of a file; else a
    /// paragraph.
    Auto,
    /// A file.
    File,
    /// A line.
    Line,
    /// Lines up to a blank one.
    Paragraph,
}

/// What becomes of bytes that are not UTF-8.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InvalidUtf8 {
    /// An error names file, line and byte.
    Error,
    /// U+FFFD stands for them; the stretches are counted.
    Replace,
    /// Their document is left out and counted; of one longer than [`PIECE`], what follows the pieces before it.
    Skip,
}

/// What becomes of a line of JSONL that is no JSON object, is longer than 64 MiB, or holds no string under `field`; one whose
/// text is `null` or empty is an empty document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Malformed {
    /// An error names file and line.
    Error,
    /// It is left out and counted.
    Skip,
}

impl Malformed {
    /// Left out of what is serialized, so that names made before this key was there stay.
    fn is_default(&self) -> bool {
        *self == Self::Error
    }
}

/// `corpus: { path: tinystories }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CorpusConfig {
    /// Files or folders, relative to the data folder or absolute; `wikitext2`, `tinyshakespeare` and `tinystories` are folders
    /// of the data folder. A folder is read in the order of its files' names, those of its folders too.
    pub path: Paths,
    /// How the files hold text.
    pub format: Format,
    /// The key of a JSON object, or the Parquet column, that holds the text.
    pub field: String,
    /// What a document is in plain text: a stretch between blank lines unless this says otherwise, or `<|endoftext|>` occurs in
    /// the first MiB of a file. `line` where every line is one, `file` where none may be torn.
    pub documents: Documents,
    /// Stands between documents, on its own line or not; `null`: `<|endoftext|>` where it occurs.
    pub separator: Option<String>,
    /// Files or folders to validate on; `null`: files of the folder whose names say so (`valid`, `validation`, `val`, `dev`), and
    /// where there are none, documents held out.
    pub validation: Option<Paths>,
    /// Files or folders to test on; `null`: files whose names say `test`, else documents held out.
    pub test: Option<Paths>,
    /// Share of the documents that validation, and test, get each where no file holds them: by a hash of a document's text, so
    /// that equal documents share a split, and neighbours, such as two paragraphs of one article, may stand in different ones.
    /// Files named in `validation` and `test`, or `documents: file`, keep what belongs together in one split.
    pub held_out: f64,
    /// What becomes of bytes that are not UTF-8.
    pub invalid_utf8: InvalidUtf8,
    /// What becomes of a line of JSONL that holds no text: `error` or `skip`.
    #[serde(skip_serializing_if = "Malformed::is_default")]
    pub malformed: Malformed,
}

impl Default for CorpusConfig {
    fn default() -> Self {
        Self {
            path: Paths::of(["tinystories"]),
            format: Format::Auto,
            field: "text".into(),
            documents: Documents::Auto,
            separator: None,
            validation: None,
            test: None,
            held_out: 0.05,
            invalid_utf8: InvalidUtf8::Error,
            malformed: Malformed::Error,
        }
    }
}

impl CorpusConfig {
    /// What is wrong with the settings themselves; no file is looked at.
    pub fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut wrong = |key, problem: String, help: &str| errors.push(ConfigError { key, problem, help: help.into() });
        let named =
            [("path", Some(&self.path)), ("validation", self.validation.as_ref()), ("test", self.test.as_ref())];
        for (key, paths) in named {
            if paths.is_some_and(|paths| paths.0.is_empty() || paths.0.iter().any(|path| path.as_os_str().is_empty())) {
                wrong(key, format!("`{key}` names no file"), "name a file or a folder, such as `tinystories`");
            }
        }
        if !(self.held_out > 0.0 && self.held_out < 0.5) {
            let help = "use a number between 0 and 0.5, such as 0.05; validation and test get this share each";
            wrong("held_out", format!("`held_out` is {}", self.held_out), help);
        }
        if self.field.is_empty() {
            wrong("field", "`field` is empty".into(), "name the JSON key or the Parquet column, such as `text`");
        }
        let plain = matches!(self.format, Format::Auto | Format::Text);
        let format = format!("{:?}", self.format).to_lowercase();
        if !plain && self.documents != Documents::Auto {
            let problem = format!("`documents` does nothing when `format` is `{format}`");
            wrong("documents", problem, "remove it; it is about plain text");
        }
        if matches!(self.format, Format::Text | Format::Wikitext) && self.field != Self::default().field {
            let problem = format!("`field` does nothing when `format` is `{format}`");
            wrong("field", problem, "remove it; it is about JSONL and Parquet");
        }
        if !matches!(self.format, Format::Auto | Format::Jsonl) && self.malformed != Malformed::Error {
            let problem = format!("`malformed` does nothing when `format` is `{format}`");
            wrong("malformed", problem, "remove it; it is about JSONL");
        }
        match &self.separator {
            None => {}
            Some(mark) if mark.is_empty() || mark.contains(['\n', '\r']) => {
                let help = "use a marker without line breaks, such as \"<|endoftext|>\", or `documents: paragraph`";
                wrong("separator", format!("`separator` is {mark:?}"), help);
            }
            Some(_) if !plain => {
                let problem = format!("`separator` does nothing when `format` is `{format}`");
                wrong("separator", problem, "remove it; it is about plain text");
            }
            Some(_) if self.documents != Documents::Auto => {
                let documents = format!("{:?}", self.documents).to_lowercase();
                let problem = format!("`separator` does nothing when `documents` is `{documents}`");
                wrong("separator", problem, "remove it, or use `documents: auto`");
            }
            Some(_) => {}
        }
        errors
    }

    /// Names the corpus as it stands now: a hash of every file's path, of what tells the state of them all, of these settings, and
    /// of the rule by which documents are held out where some are.
    pub fn stamp(&self, data: &DataDir) -> Result<String, DataError> {
        Ok(self.stamp_of(&sources::list(self, data)?))
    }

    fn stamp_of(&self, sources: &sources::Sources) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&serde_json::to_vec(self).expect("settings are plain data"));
        for source in &sources.files {
            hasher.update(b"\0").update(source.path.as_os_str().as_encoded_bytes()).update(b"\0");
        }
        hasher.update(sources.state.as_bytes());
        if !sources.held_out.is_empty() {
            hasher.update(&documents::RULE); // a tokenizer has seen the documents that are learned from, and no other
        }
        hasher.finalize().to_hex()[..20].to_owned()
    }

    /// The documents of a split, one after the other. One longer than [`PIECE`] comes in pieces. After an error there are no
    /// more.
    pub fn documents(
        &self,
        data: &DataDir,
        split: Split,
    ) -> Result<Box<dyn Iterator<Item = Result<String, DataError>>>, DataError> {
        let sources = sources::list(self, data)?;
        documents::refuse_unbroken(self, &sources)?;
        let mut documents = documents::Reader::new(self, sources.holding(split));
        let mut over = false;
        Ok(Box::new(std::iter::from_fn(move || {
            while !over {
                match documents.next_piece() {
                    Ok(Some(piece)) if piece.split == split => return Some(Ok(piece.text)),
                    Ok(Some(_)) => {}
                    Ok(None) => over = true,
                    Err(error) => {
                        over = true;
                        return Some(Err(error));
                    }
                }
            }
            None
        })))
    }
}

/// How sequences are made of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Packing {
    /// Documents follow each other, `[SEP]` between them, and are cut into sequences of equal length. Nothing keeps a mixer from
    /// reading across a `[SEP]` into the document beside it.
    Packed,
    /// No sequence holds two documents, so none is read beside another.
    Padded,
}

/// The form of the sequences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Tokens of the longest sequence, `[CLS]` and the last `[SEP]` counted where `ends` is set.
    pub length: usize,
    /// How sequences are made of documents.
    pub packing: Packing,
    /// Whether a sequence stands between `[CLS]` and `[SEP]`.
    pub ends: bool,
}

impl Shape {
    /// Tokens of the corpus in a sequence.
    fn room(&self) -> usize {
        let ends = if self.ends { 2 } else { 0 };
        assert!(self.length > ends, "a sequence of {} tokens has no room for text", self.length);
        self.length - ends
    }
}

/// A corpus as sequences of tokens.
#[derive(Debug)]
pub struct Corpus {
    folder: PathBuf,
    meta: prepare::Meta,
    splits: [Mapped; 3],
    counts: Vec<u64>,
    fingerprint: String,
    notes: Vec<String>,
    tokenizer: Arc<Tokenizer>,
    shape: Shape,
}

/// The files of a split.
#[derive(Debug)]
struct Mapped {
    tokens: Option<Mmap>,
    starts: Option<Mmap>,
}

/// Reads every byte of a prepared corpus again and holds it against the hash in its meta.json.
pub fn verify(folder: &Path) -> Result<(), DataError> {
    prepare::Meta::read(folder)?.verify(folder)
}

impl Corpus {
    /// Opens a corpus, preparing it first where it is not there. Of two processes one prepares and the other waits; one that
    /// was stopped half way is gone on with.
    ///
    /// # Panics
    /// When the shape leaves no room for a token of text.
    pub fn open(
        data: &DataDir,
        config: &CorpusConfig,
        tokenizer: Arc<Tokenizer>,
        shape: Shape,
    ) -> Result<Self, DataError> {
        Self::open_with(data, config, tokenizer, shape, &prepare::Limits::default())
    }

    /// The same by this thread alone.
    #[cfg(test)]
    pub(crate) fn open_alone(
        data: &DataDir,
        config: &CorpusConfig,
        tokenizer: Arc<Tokenizer>,
        shape: Shape,
    ) -> Result<Self, DataError> {
        Self::open_with(data, config, tokenizer, shape, &prepare::Limits { threads: 1, ..Default::default() })
    }

    fn open_with(
        data: &DataDir,
        config: &CorpusConfig,
        tokenizer: Arc<Tokenizer>,
        shape: Shape,
        limits: &prepare::Limits,
    ) -> Result<Self, DataError> {
        let specials = tokenizer.specials();
        for (token, role, needed) in [
            (specials.cls, "that begins a sequence ([CLS], <s>)", shape.ends),
            (
                specials.sep,
                "that ends a text ([SEP], </s>, <|endoftext|>)",
                shape.ends || shape.packing == Packing::Packed,
            ),
        ] {
            if needed && token as usize >= tokenizer.vocab_size() {
                let why = format!("the tokenizer has no token {role}; use another, or add one to it");
                return Err(DataError::Unreadable { path: data.0.clone(), why });
            }
        }
        let sources = sources::list(config, data)?;
        let job = prepare::Job { data, config, sources: &sources, tokenizer: &tokenizer, shape, limits };
        let folder = job.folder()?;
        let meta = prepare::Meta::read(&folder)?;
        let map = |split: Split| {
            let part = &meta.splits[split as usize];
            let file = |extension: &str, bytes| {
                crate::data::prepared::map(&folder.join(split.name()).with_extension(extension), bytes)
            };
            let starts = (shape.packing == Packing::Padded).then(|| file("starts", 8 * part.sequences)).transpose()?;
            Ok(Mapped { tokens: file("tokens", part.tokens * meta.width)?, starts: starts.flatten() })
        };
        let splits = [map(Split::Train)?, map(Split::Validation)?, map(Split::Test)?];
        let path = folder.join("train.counts");
        let counts = std::fs::read(&path).map_err(|error| crate::data::formats::unreadable(&path, &error))?;
        if counts.len() != 8 * tokenizer.vocab_size() {
            let why = format!(
                "has {} bytes, not the {} of a vocabulary of {}; delete the folder to prepare it again",
                counts.len(),
                8 * tokenizer.vocab_size(),
                tokenizer.vocab_size()
            );
            return Err(DataError::Unreadable { path, why });
        }
        let counts = counts.as_chunks::<8>().0.iter().map(|&count| u64::from_le_bytes(count)).collect();
        let mut hasher = blake3::Hasher::new();
        for part in [&meta.content, &meta.tokenizer, &format!("{shape:?}")] {
            hasher.update(part.as_bytes()).update(b"\0");
        }
        let fingerprint = hasher.finalize().to_hex().to_string();
        let notes = sources.notes.iter().chain(&meta.notes).cloned().collect();
        tell(Event::Opened(&folder));
        let mut corpus = Self { folder, meta, splits, counts, fingerprint, notes, tokenizer, shape };
        corpus.refuse_empty(config, data, &sources.held_out)?;
        corpus.notes.extend(corpus.lopsided(&sources.held_out, config.held_out));
        corpus.notes.extend(corpus.unknown());
        Ok(corpus)
    }

    /// Documents of the files that `held_out` are drawn from.
    fn drawn_from(&self, held_out: &[Split]) -> u64 {
        let drawn = std::iter::once(&Split::Train).chain(held_out);
        drawn.map(|&split| self.documents(split)).sum()
    }

    /// Every split must hold something.
    fn refuse_empty(&self, config: &CorpusConfig, data: &DataDir, held_out: &[Split]) -> Result<(), DataError> {
        let Some(split) = Split::ALL.into_iter().find(|&split| self.len(split) == 0) else { return Ok(()) };
        let path = config.path.0.first().map_or_else(|| data.0.clone(), |path| data.0.join(path));
        let documents = self.drawn_from(held_out);
        let more = "cut it into more documents that differ (`documents: paragraph` or `line`)";
        let held = |to: &str| {
            let share = config.held_out;
            format!("{documents} in all, of which `held_out` = {share} goes to {to} (equal documents share a split)")
        };
        let name = split.name();
        let why = match split {
            _ if Split::ALL.into_iter().all(|split| self.len(split) == 0) => {
                "holds no text: no document in it has a token".to_owned()
            }
            Split::Train if documents == 0 => "holds nothing to learn from".to_owned(),
            Split::Train => {
                let to: Vec<&str> = held_out.iter().map(|split| split.name()).collect();
                let held = held(&to.join(" and as much to "));
                format!(
                    "holds no document for train: {held}; {more}, hold less out, or name files in `{}`",
                    to.join("` and `")
                )
            }
            split if held_out.contains(&split) => {
                format!(
                    "holds no document for {name}: {}; {more}, hold more out, or name files in `{name}`",
                    held(name)
                )
            }
            _ => format!("holds no text for {name}: no document of its files has a token; name others in `{name}`"),
        };
        let left_out: Vec<&str> =
            self.meta.notes.iter().filter(|note| note.contains("left out")).map(|n| &**n).collect();
        let why = std::iter::once(&*why).chain(left_out).collect::<Vec<_>>().join("; ");
        Err(DataError::Unreadable { path, why })
    }

    /// What is said of splits whose share of the documents is more than six standard deviations from the one asked for.
    fn lopsided(&self, held_out: &[Split], asked: f64) -> Vec<String> {
        let all = self.drawn_from(held_out) as f64;
        let far = |&&split: &&Split| {
            let documents = self.documents(split) as f64;
            (documents - all * asked).abs() > 6.0 * (all * asked * (1.0 - asked)).sqrt()
        };
        let note = |&split: &Split| {
            let (name, share) = (split.name(), 100.0 * self.documents(split) as f64 / all);
            format!(
                "{name} has {share:.1} % of the documents, not {:.1} %: documents repeat, and equal ones share a split",
                100.0 * asked
            )
        };
        held_out.iter().filter(far).map(note).collect()
    }

    /// What is said where more than 1 % of train's tokens stand for text that the tokenizer does not know.
    fn unknown(&self) -> Option<String> {
        let (specials, all) = (self.tokenizer.specials(), self.tokens(Split::Train));
        if [specials.pad, specials.cls, specials.sep].contains(&specials.unknown) {
            return None; // it has no such token
        }
        let times = *self.counts.get(specials.unknown as usize)?;
        let share = times as f64 / all as f64;
        let name = self.tokenizer.name(specials.unknown);
        let note = format!(
            "unknown to the tokenizer: {:.1} % of train's tokens ({times} of {all} are {name}, whatever text they stand for)",
            100.0 * share
        );
        match share {
            share if share > 0.1 => Some(format!(
                "{note}. It does not fit this text, and scores are mostly about {name}: train one on it (`tokenizer: {{ bpe: {{}} }}` \
                 knows every text; `wordpiece` with a larger `alphabet`), or use `tokenizer: bytes`"
            )),
            share if share > 0.01 => Some(note),
            _ => None,
        }
    }

    /// Sequences of a split.
    pub fn len(&self, split: Split) -> u64 {
        let part = &self.meta.splits[split as usize];
        match self.shape.packing {
            Packing::Packed => part.tokens.div_ceil(self.shape.room() as u64),
            Packing::Padded => part.sequences,
        }
    }

    /// Whether a split holds nothing.
    pub fn is_empty(&self, split: Split) -> bool {
        self.len(split) == 0
    }

    /// Sequence `index` of a split, in the order of the text.
    ///
    /// # Panics
    /// When there is no such sequence.
    pub fn sequence(&self, split: Split, index: u64) -> Vec<u32> {
        let total = self.meta.splits[split as usize].tokens;
        assert!(index < self.len(split), "sequence {index} of {}", self.len(split));
        let (start, end) = match self.shape.packing {
            Packing::Packed => {
                let room = self.shape.room() as u64;
                (index * room, ((index + 1) * room).min(total))
            }
            Packing::Padded => {
                let starts = self.splits[split as usize].starts.as_deref().unwrap_or_default().as_chunks::<8>().0;
                let start = |at: u64| starts.get(at as usize).map_or(total, |&start| u64::from_le_bytes(start));
                (start(index), start(index + 1))
            }
        };
        let bytes = self.splits[split as usize].tokens.as_deref().unwrap_or_default();
        let width = self.meta.width as usize;
        let bytes = &bytes[start as usize * width..end as usize * width];
        let specials = self.tokenizer.specials();
        let mut sequence = Vec::with_capacity((end - start) as usize + 2);
        sequence.extend(self.shape.ends.then_some(specials.cls));
        match width {
            2 => sequence.extend(bytes.as_chunks::<2>().0.iter().map(|&token| u32::from(u16::from_le_bytes(token)))),
            _ => sequence.extend(bytes.as_chunks::<4>().0.iter().map(|&token| u32::from_le_bytes(token))),
        }
        sequence.extend(self.shape.ends.then_some(specials.sep));
        sequence
    }

    /// Tokens of a split's text, no special ones.
    pub fn tokens(&self, split: Split) -> u64 {
        self.meta.splits[split as usize].text
    }

    /// Bytes of UTF-8 behind these tokens.
    pub fn bytes(&self, split: Split) -> u64 {
        self.meta.splits[split as usize].bytes
    }

    /// Documents of a split.
    pub fn documents(&self, split: Split) -> u64 {
        self.meta.splits[split as usize].documents
    }

    /// How often each token stands in the text of train.
    pub fn counts(&self) -> &[u64] {
        &self.counts
    }

    /// Hash of the documents and their splits, of the tokenizer and of the shape.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// Remarks a user should see.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// What made the tokens.
    pub fn tokenizer(&self) -> &Arc<Tokenizer> {
        &self.tokenizer
    }

    /// Where the prepared set lies.
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

#[cfg(test)]
pub(crate) mod tests;
