//! The documents of a list of files, one after the other, and where to go on.

use super::columns::Columns;
use super::jsonl::Jsonl;
use super::lines::{Lines, lines_unless_cut};
use super::reader::{Inner, Input, Position, Tally};
use super::sources::{Source, Sources};
use super::{CorpusConfig, Documents, Format, PIECE};
use crate::data::formats::unreadable;
use crate::data::packed::{self, Counted, Gunzipped, gunzip};
use crate::{DataError, Split};
use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Names the rule by which documents are held out; raised with it.
pub(super) const RULE: [u8; 32] = *b"mixarena: documents held out, v2";

/// Bytes of a text that decide its split: no first piece of a longer document is shorter, whatever the format.
const HEAD: usize = PIECE / 2;

/// A document, or a part of a long one.
#[derive(Debug, PartialEq)]
pub(super) struct Piece {
    pub text: String,
    pub split: Split,
    /// It goes on with the document of the piece before it.
    pub continues: bool,
}

/// Reads the documents of all files.
pub(super) struct Reader {
    config: CorpusConfig,
    sources: Sources,
    at: usize,
    inner: Option<Box<dyn Inner>>,
    from: Position,
    split: Option<Split>, // of the document at hand
    read: Arc<AtomicU64>, // of the file at hand, on the disk
    pub tally: Tally,
}

impl Reader {
    pub fn new(config: &CorpusConfig, sources: Sources) -> Self {
        Self::resume(config, sources, Position::default(), Tally::default())
    }

    pub fn resume(config: &CorpusConfig, sources: Sources, from: Position, tally: Tally) -> Self {
        let (at, split, read) = (from.source, from.split, Arc::default());
        Self { config: config.clone(), sources, at, inner: None, from, split, read, tally }
    }

    pub fn next_piece(&mut self) -> Result<Option<Piece>, DataError> {
        loop {
            let Some(source) = self.sources.files.get(self.at) else { return Ok(None) };
            let inner = match &mut self.inner {
                Some(inner) => inner,
                none => {
                    self.read.store(0, Ordering::Relaxed);
                    none.insert(open(source, &self.config, &self.from, &self.read)?)
                }
            };
            if let Some((text, continues)) = inner.next_piece(&mut self.tally)? {
                self.tally.pieces += u64::from(continues);
                let split = match (self.split, source.split) {
                    (Some(split), _) if continues => split,
                    (_, Split::Train) => self.draw(&text),
                    (_, split) => split,
                };
                self.split = Some(split);
                return Ok(Some(Piece { text, split, continues }));
            }
            (self.inner, self.from) = (None, Position::default());
            self.at += 1;
        }
    }

    /// Where to go on after what was given out last.
    pub fn position(&self) -> Option<Position> {
        let here = self.inner.as_ref().map_or(Some(Position::default()), |inner| inner.position())?;
        Some(Position { source: self.at, split: self.split, ..here })
    }

    /// Bytes read of the files, on the disk.
    pub fn done(&self) -> u64 {
        let before: u64 = self.sources.files.iter().take(self.at).map(|file| file.bytes).sum();
        before + self.read.load(Ordering::Relaxed)
    }

    /// The split of a document of train's files, from the text it begins with: equal documents share a split.
    fn draw(&self, text: &str) -> Split {
        if self.sources.held_out.is_empty() {
            return Split::Train;
        }
        let hash = blake3::keyed_hash(&RULE, &text.as_bytes()[..text.len().min(HEAD)]);
        let draw = u64::from_le_bytes(*hash.as_bytes().first_chunk().expect("32 bytes"));
        let share = (self.config.held_out * 18_446_744_073_709_551_616.0) as u64; // exact: a power of two
        let drawn = match draw {
            draw if draw < share => Split::Validation,
            draw if draw < share.saturating_mul(2) => Split::Test,
            _ => Split::Train,
        };
        if self.sources.held_out.contains(&drawn) { drawn } else { Split::Train }
    }
}

impl Input for Counted<File> {
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.pass(bytes)
    }
}

impl<R: Read> Input for Gunzipped<R> {}

#[cfg(test)]
impl Input for io::Cursor<Vec<u8>> {}

/// The text of a file that is not Parquet.
fn text_of(source: &Source, file: File, read: &Arc<AtomicU64>) -> Box<dyn Input> {
    let file = Counted::new(file, read.clone());
    match source.gzipped() {
        true => Box::new(gunzip(file)),
        false => Box::new(file),
    }
}

/// Lines that a file is never one short document of.
const MANY_LINES: usize = 16;

/// Refuses plain text without blank lines where every file of it would be one document, and these leave a split without any:
/// that is known from the first MiB of each, and not worth a preparation.
pub(super) fn refuse_unbroken(config: &CorpusConfig, sources: &Sources) -> Result<(), DataError> {
    if config.documents != Documents::Auto || config.separator.is_some() || sources.held_out.is_empty() {
        return Ok(());
    }
    let mut without: Vec<Split> = std::iter::once(Split::Train).chain(sources.held_out.iter().copied()).collect();
    let mut unbroken = None;
    for source in sources.files.iter().filter(|file| file.split == Split::Train) {
        if source.format != Format::Text {
            return Ok(());
        }
        let file = packed::open(&source.path).map_err(|error| unreadable(&source.path, &error))?;
        let lines = lines_unless_cut(text_of(source, file, &Arc::default()));
        let Some(lines) = lines.map_err(|error| unreadable(&source.path, &error))? else { return Ok(()) };
        if lines >= MANY_LINES && unbroken.is_none() {
            unbroken = Some((source, lines));
        }
        let alone = Sources { files: vec![source.clone()], notes: Vec::new(), ..sources.clone() };
        let document = Reader::new(config, alone).next_piece()?;
        without.retain(|split| document.as_ref().is_none_or(|document| document.split != *split));
        if without.is_empty() {
            return Ok(());
        }
    }
    let (Some((source, lines)), Some(split)) = (unbroken, without.first()) else { return Ok(()) };
    let why = format!(
        "is one document as it stands: of plain text that is a stretch between blank lines, and its first {lines} lines have none; \
         so there would be none for {}. Use `documents: line` if every line is one, `documents: paragraph` if blank lines come \
         later, or name files in `validation` and `test`",
        split.name()
    );
    Err(DataError::Unreadable { path: source.path.clone(), why })
}

fn open(
    source: &Source,
    config: &CorpusConfig,
    from: &Position,
    read: &Arc<AtomicU64>,
) -> Result<Box<dyn Inner>, DataError> {
    let file = packed::open(&source.path).map_err(|error| unreadable(&source.path, &error))?;
    if source.format == Format::Parquet {
        return Ok(Box::new(Columns::open(source, file, config, from, read.clone())?));
    }
    let input = text_of(source, file, read);
    Ok(match source.format {
        Format::Jsonl => Box::new(Jsonl::open(source, input, config, from)?),
        _ => Box::new(Lines::open(source, input, config, from)?),
    })
}
