//! What the readers of every format share: where one goes on, what it passed over, and what it reads from.

use crate::{DataError, Split};
use serde::{Deserialize, Serialize};
use std::io::{self, Read};

/// Where reading goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Position {
    /// File of the list.
    pub source: usize,
    /// Byte of its text, unpacked; row of a Parquet file.
    pub offset: u64,
    /// Lines before it.
    pub line: u64,
    /// Whether it stands inside a line.
    pub inside_line: bool,
    /// Whether the line before it is blank.
    pub after_blank: bool,
    /// Whether a piece of the document that stands here was given out.
    pub inside_document: bool,
    /// Of the document given out last, which may go on.
    pub split: Option<Split>,
}

/// How often something was met, and where first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Count {
    pub times: u64,
    pub first: String,
}

impl Count {
    pub fn add(&mut self, place: impl FnOnce() -> String) {
        if self.times == 0 {
            self.first = place();
        }
        self.times += 1;
    }
}

/// What was passed over or changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Tally {
    /// Documents without text.
    pub empty: Count,
    /// Documents left out because they are not UTF-8.
    pub skipped: Count,
    /// Stretches of bytes that are now U+FFFD.
    pub replaced: Count,
    /// Lines of JSONL left out because they hold no text.
    #[serde(default)]
    pub malformed: Count,
    /// Pieces that go on with a document.
    pub pieces: u64,
}

impl Tally {
    pub fn notes(&self) -> Vec<String> {
        let note = |count: &Count, what: &str, done: &str| {
            (count.times > 0).then(|| format!("{what}: {} ({done}; first: {})", count.times, count.first))
        };
        let long = "documents longer than 1 MiB are cut: pieces after the first";
        let long = (self.pieces > 0).then(|| format!("{long}: {}", self.pieces));
        [
            note(&self.empty, "empty documents", "passed over"),
            note(&self.skipped, "documents that are not UTF-8", "left out"),
            note(&self.replaced, "stretches of bytes that are not UTF-8", "read as U+FFFD"),
            note(&self.malformed, "lines of JSONL without a text", "left out"),
            long,
        ]
        .into_iter()
        .flatten()
        .collect()
    }
}

/// Reads the documents of one file.
pub(super) trait Inner {
    /// Text that is not empty, and whether it goes on with the document before it.
    fn next_piece(&mut self, tally: &mut Tally) -> Result<Option<(String, bool)>, DataError>;

    /// Where a reader goes on that has given out what this one has; `None` where it cannot.
    fn position(&self) -> Option<Position>;
}

/// The text of a file.
pub(super) trait Input: Read {
    /// Passes over bytes of the text; an error where there are fewer.
    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        match io::copy(&mut Read::take(&mut *self, bytes), &mut io::sink())? {
            skipped if skipped == bytes => Ok(()),
            _ => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the text is shorter than it was")),
        }
    }
}
