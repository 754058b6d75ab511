//! The pair files, read and written.
//!
//! ```text
//! tsv_data/new_aan_pairs.{train,eval,test}.tsv     label<TAB>id<TAB>id<TAB>text<TAB>text, no header; label 0.0 or 1.0
//! ```
//! Rows are lines and columns are what lies between tabs: a quote is a character like any other. A row that is not of
//! this form is skipped, counted and named; a file with more than one such row in a hundred is refused.

use super::synthetic::{self, Drawn};
use crate::Generated;
use crate::data::characters::Census;
use crate::data::formats::{self, Found};
use crate::data::newfile::NewFile;
use crate::data::prepared::{self, Prepared, Request, Writer};
use crate::{DataDir, DataError, Split};
use std::path::Path;

/// In the order of [`Split::ALL`].
const NAMES: [&str; 3] = ["new_aan_pairs.train.tsv", "new_aan_pairs.eval.tsv", "new_aan_pairs.test.tsv"];
/// Part of the set: the characters of the training documents, counted.
pub(super) const CHARACTERS: usize = 3;
/// Problems that a note spells out.
const NAMED: usize = 3;

/// Opens the pairs in `root`, read and checked the first time.
pub(super) fn prepare(root: &Path, data: &DataDir) -> Result<Prepared, DataError> {
    let stamp = prepared::stamp_of_source(root, |name| formats::named(&NAMES, name).is_some())?;
    let [train, validation, test] = Split::ALL.map(Split::name);
    let parts = [train, validation, test, Census::PART];
    let request = Request { family: "retrieval", version: 1, stamp, parts: &parts, documents: 2 };
    data.prepared(&request, |writer| read(root, writer))
}

fn read(root: &Path, writer: &mut Writer) -> Result<(), DataError> {
    let (mut census, mut synthetic) = (Census::new(), false);
    let missing = |_| format!("expected {}", NAMES.join(", "));
    formats::visit_each(root, &NAMES, missing, |part, found| {
        let mut file = Reading { part, writer: &mut *writer, census: &mut census, seen: Seen::default() };
        let hash = file.rows(found)?;
        synthetic |= file.seen.synthetic;
        writer.source(NAMES[part], hash);
        Ok(())
    })?;
    if synthetic {
        writer.note(synthetic::NOTE);
    }
    census.write(writer, CHARACTERS, 2)
}

/// A file that is being read.
struct Reading<'a> {
    part: usize,
    writer: &'a mut Writer,
    census: &'a mut Census,
    seen: Seen,
}

/// What was met in a file besides its pairs.
#[derive(Default)]
struct Seen {
    rows: u64,
    skipped: u64,
    first_skipped: Vec<(u64, String)>, // row, problem
    quoted: u64,
    not_utf8: u64,
    first_not_utf8: u64,
    synthetic: bool,
}

impl Reading<'_> {
    fn rows(&mut self, found: Found) -> Result<blake3::Hash, DataError> {
        let path = found.path.clone();
        let malformed = |row, problem| DataError::Malformed { path: path.clone(), row, problem };
        let hash = found.lines(|row, line| self.row(row, line))?;
        if self.seen.rows == 0 {
            return Err(malformed(0, "holds no rows; is it a complete download?".into()));
        }
        if 100 * self.seen.skipped > self.seen.rows {
            let Seen { rows, skipped, first_skipped, .. } = &self.seen;
            let (row, problem) = &first_skipped[0];
            let all =
                format!("{problem}; {skipped} of {rows} rows are broken, more than 1 in 100: this is not a pair file");
            return Err(malformed(*row, all));
        }
        self.note();
        Ok(hash)
    }

    fn row(&mut self, row: u64, line: &[u8]) -> Result<(), DataError> {
        self.seen.rows += 1;
        let Pair { label, id, documents } = match parse(line) {
            Ok(pair) => pair,
            Err(problem) => {
                self.seen.skipped += 1;
                if self.seen.first_skipped.len() < NAMED {
                    self.seen.first_skipped.push((row, problem));
                }
                return Ok(());
            }
        };
        self.seen.quoted += u64::from(line.contains(&b'"'));
        self.seen.synthetic |= id.starts_with(synthetic::ID.as_bytes());
        if documents.iter().any(|document| str::from_utf8(document).is_err()) {
            self.seen.not_utf8 += 1;
            if self.seen.not_utf8 == 1 {
                self.seen.first_not_utf8 = row;
            }
        }
        if self.part == Split::Train as usize {
            documents.iter().for_each(|document| self.census.count(document));
        }
        self.writer.row(self.part, row, label, &documents)
    }

    fn note(&mut self) {
        let (name, seen) = (NAMES[self.part], &self.seen);
        if seen.skipped > 0 {
            let named = seen.first_skipped.iter().map(|(row, problem)| format!("{name}:{row}: {problem}"));
            let named = named.collect::<Vec<_>>().join("; ");
            let more = if seen.skipped > NAMED as u64 { "; …" } else { "" };
            self.writer.note(format!("{} of {} rows are skipped: {named}{more}", seen.skipped, seen.rows));
        }
        if seen.quoted > 0 {
            self.writer.note(format!("{name}: {} rows hold quote characters, which are data", seen.quoted));
        }
        if seen.not_utf8 > 0 {
            self.writer.note(format!(
                "{name}: {} rows are not UTF-8, the first is {}; as characters their broken bytes are U+FFFD, as bytes \
                 they are what they are",
                seen.not_utf8, seen.first_not_utf8
            ));
        }
    }
}

/// A row of a file.
struct Pair<'a> {
    label: u8,
    id: &'a [u8],
    documents: [&'a [u8]; 2],
}

fn parse(line: &[u8]) -> Result<Pair<'_>, String> {
    let columns: Vec<&[u8]> = line.split(|&byte| byte == b'\t').collect();
    let &[label, id, _, first, second] = columns.as_slice() else {
        let few = if columns.len() < 5 { "; the row may be cut short" } else { "; a text may hold a tab" };
        return Err(format!("{} columns, expected 5{few}", columns.len()));
    };
    let label = match label {
        b"0" | b"0.0" => 0,
        b"1" | b"1.0" => 1,
        other => return Err(format!("the label is {}, expected 0.0 or 1.0", formats::shorten(other))),
    };
    for (number, document) in [(1, first), (2, second)] {
        if document.iter().all(u8::is_ascii_whitespace) {
            return Err(format!("document {number} is empty"));
        }
    }
    Ok(Pair { label, id, documents: [first, second] })
}

/// Writes synthetic pairs in the form of the official files, in a folder whose name says what they are.
pub(super) fn write(
    drawn: &Drawn,
    counts: [u64; 3],
    folder: &Path,
    step: &(dyn Fn(u64, u64) + Sync),
) -> Result<Generated, DataError> {
    let (wanted, mut paths) = (counts.iter().sum(), Vec::new());
    let (mut done, mut alike) = (0, 0);
    let (mut least, mut sum, mut most) = (usize::MAX, 0, 0);
    for (split, name) in Split::ALL.into_iter().zip(NAMES) {
        let mut file = NewFile::create(folder.join("retrieval-synthetic/tsv_data").join(name))?;
        for index in 0..counts[split as usize] {
            let (label, [first, second]) = (drawn.label(split, index), drawn.documents(split, index));
            let id = format!("{}{}-{index}", synthetic::ID, split.name());
            file.write(format!("{label}.0\t{id}-a\t{id}-b\t").as_bytes())?;
            file.write(&first)?;
            file.write(b"\t")?;
            file.write(&second)?;
            file.write(b"\n")?;
            for length in [first.len(), second.len()] {
                (least, sum, most) = (least.min(length), sum + length, most.max(length));
            }
            alike += u64::from(label);
            done += 1;
            step(done, wanted);
        }
        paths.push(file.finish()?);
    }
    let mean = sum as f64 / (2 * done).max(1) as f64;
    let facts = vec![
        ("what".into(), synthetic::NOTE.into()),
        ("pairs of one topic".into(), format!("{alike} of {done}")),
        ("characters of a document".into(), format!("{least} to {most}, mean {mean:.0}")),
    ];
    Ok(Generated { paths, examples: done, facts })
}
