//! The official files, read and written.
//!
//! ```text
//! listops-1000/basic_{train,val,test}.tsv     Source<TAB>Target, then expression<TAB>label; CRLF (Tay et al. 2020)
//! {train,test}_d20s.tsv                       label<TAB>expression, no header; LF             (Nangia and Bowman 2018)
//! ```
//! The task reads the first form. [`check_labels`] recognises both and holds each label against its expression's value.

use super::rows;
use super::tree::{self, CLOSE, MIN, SM, Shape, Symbol};
use crate::Generated;
use crate::data::formats::{self, Found};
use crate::data::newfile::NewFile;
use crate::data::prepared::{self, Prepared, Request, Writer};
use crate::{DataDir, DataError, Split};
use std::path::Path;

/// In the order of [`Split::ALL`].
const NAMES: [&str; 3] = ["basic_train.tsv", "basic_val.tsv", "basic_test.tsv"];
/// Header of the official files.
const HEADER: &str = "Source\tTarget";

/// Opens the files in `root`, read the first time. With `verify`, each label is held against its expression's value.
pub(super) fn prepare(root: &Path, verify: bool, data: &DataDir) -> Result<Prepared, DataError> {
    let mut stamp = prepared::stamp_of_source(root, |name| formats::named(&NAMES, name).is_some())?;
    if !verify {
        stamp += "-unverified";
    }
    let parts = Split::ALL.map(Split::name);
    let request = Request { family: "listops", version: 1, stamp, parts: &parts, documents: 1 };
    data.prepared(&request, |writer| read(root, verify, writer))
}

fn read(root: &Path, verify: bool, writer: &mut Writer) -> Result<(), DataError> {
    let missing = |_| format!("expected {}", NAMES.join(", "));
    formats::visit_each(root, &NAMES, missing, |part, found| {
        let hash = read_file(found, part, verify, writer)?;
        writer.source(NAMES[part], hash);
        Ok(())
    })
}

fn read_file(found: Found, part: usize, verify: bool, writer: &mut Writer) -> Result<blake3::Hash, DataError> {
    let path = found.path.clone();
    let malformed = |row, problem| DataError::Malformed { path: path.clone(), row, problem };
    let mut symbols = Vec::new();
    let hash = found.lines(|row, line| {
        if row == 1 {
            if line == HEADER.as_bytes() {
                return Ok(());
            }
            let found = formats::shorten(line);
            return Err(malformed(row, format!("expected the header `Source<TAB>Target`, found {found}")));
        }
        let label = Form::Long.parse(line, &mut symbols).map_err(|problem| malformed(row, problem))?;
        if verify {
            let value = tree::evaluate(&symbols).map_err(|problem| malformed(row, problem))?;
            if value != label {
                let problem = format!("the label is {label}, but the expression's value is {value}");
                return Err(malformed(row, problem));
            }
        }
        writer.row(part, row, label, &[&symbols])
    })?;
    if writer.rows(part) == 0 {
        return Err(malformed(0, "holds no rows; is it a complete download?".into()));
    }
    Ok(hash)
}

/// Where a row has its label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// `expression<TAB>label`.
    Long,
    /// `label<TAB>expression`.
    Short,
}

impl Form {
    /// One row: leaves the expression without its parentheses in `symbols` and gives the label.
    fn parse(self, line: &[u8], symbols: &mut Vec<Symbol>) -> Result<u8, String> {
        let tab = line.iter().position(|&byte| byte == b'\t').ok_or_else(|| {
            format!("no tab between expression and label in {}; the row may be cut short", formats::shorten(line))
        })?;
        let (source, target) = match self {
            Self::Long => (&line[..tab], &line[tab + 1..]),
            Self::Short => (&line[tab + 1..], &line[..tab]),
        };
        let label = match target {
            [digit @ b'0'..=b'9'] => digit - b'0',
            [] if self == Self::Long => return Err("no label after the tab; the row may be cut short".into()),
            other => return Err(format!("the label is {}, expected a digit from 0 to 9", formats::shorten(other))),
        };
        symbols.clear();
        for (i, word) in source.split(|&byte| byte == b' ').filter(|word| !word.is_empty()).enumerate() {
            match word {
                b"(" | b")" => {}
                word => symbols.push(tree::parse(word).ok_or_else(|| {
                    format!("token {} is {}, which ListOps does not have", i + 1, formats::shorten(word))
                })?),
            }
        }
        if symbols.is_empty() { Err("the expression is empty".into()) } else { Ok(label) }
    }
}

/// What [`check_labels`] found in one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// The file; for one of an archive, its path inside.
    pub file: String,
    /// Expressions evaluated.
    pub rows: u64,
    /// Those whose label is not their value.
    pub disagreements: u64,
    /// The first of them: row of the file, label, value.
    pub first: Option<(u64, u8, u8)>,
}

/// Evaluates every expression of a file (`.tsv` or `.tsv.gz`, in either form, told apart by its first line), or of the
/// `basic_*.tsv` files of a folder or `.tar.gz`, and counts the labels that are not the value. Memory holds one row.
pub fn check_labels(path: &Path) -> Result<Vec<Checked>, DataError> {
    let name = path.to_string_lossy();
    let mut all = Vec::new();
    if path.is_dir() || name.ends_with(".tar.gz") || name.ends_with(".tgz") {
        formats::visit(
            path,
            |name| formats::named(&NAMES, name).is_some(),
            |found| {
                let inner = found.path.clone();
                let mut check = Check::new(found.name, &inner);
                found.lines(|row, line| check.row(row, line))?;
                all.push(check.finish()?);
                Ok(())
            },
        )?;
        if all.is_empty() {
            let problem = format!("holds none of {}", NAMES.join(", "));
            return Err(DataError::Malformed { path: path.into(), row: 0, problem });
        }
        return Ok(all);
    }
    let mut check = Check::new(&path.file_name().unwrap_or_default().to_string_lossy(), path);
    formats::file(path)?.lines(|row, line| check.row(row, line))?;
    Ok(vec![check.finish()?])
}

/// A file that is being checked.
struct Check<'a> {
    path: &'a Path,
    form: Form,
    symbols: Vec<Symbol>,
    found: Checked,
}

impl<'a> Check<'a> {
    fn new(name: &str, path: &'a Path) -> Self {
        let found = Checked { file: name.to_owned(), rows: 0, disagreements: 0, first: None };
        Self { path, form: Form::Short, symbols: Vec::new(), found }
    }

    fn row(&mut self, row: u64, line: &[u8]) -> Result<(), DataError> {
        if row == 1 && line == HEADER.as_bytes() {
            self.form = Form::Long;
            return Ok(());
        }
        let malformed = |problem| DataError::Malformed { path: self.path.into(), row, problem };
        let label = self.form.parse(line, &mut self.symbols).map_err(malformed)?;
        let value = tree::evaluate(&self.symbols).map_err(malformed)?;
        self.found.rows += 1;
        if value != label {
            self.found.disagreements += 1;
            self.found.first.get_or_insert((row, label, value));
        }
        Ok(())
    }

    fn finish(self) -> Result<Checked, DataError> {
        if self.found.rows == 0 {
            let problem = "holds no rows; is it a complete download?".into();
            return Err(DataError::Malformed { path: self.path.into(), row: 0, problem });
        }
        Ok(self.found)
    }
}

/// Draws the examples and writes them as the official files, one by one.
pub(super) fn write(
    shape: &Shape,
    counts: [u64; 3],
    data_seed: u64,
    folder: &Path,
    step: &(dyn Fn(u64, u64) + Sync),
) -> Result<Generated, DataError> {
    let mut files = Vec::new();
    for name in NAMES {
        let mut file = NewFile::create(folder.join("listops-1000").join(name))?;
        file.write(format!("{HEADER}\r\n").as_bytes())?;
        files.push(file);
    }
    let (wanted, mut facts, mut text) = (counts.iter().sum(), Facts::default(), Vec::new());
    let drawn = rows::draw(shape, counts, data_seed, |split, symbols, label| {
        text.clear();
        tree::write(symbols, &mut text);
        text.extend_from_slice(format!("\t{label}\r\n").as_bytes());
        files[split as usize].write(&text)?;
        facts.add(symbols, label);
        step(facts.lengths.len() as u64, wanted);
        Ok(())
    })?;
    let paths = files.into_iter().map(NewFile::finish).collect::<Result<_, _>>()?;
    Ok(Generated { paths, examples: wanted, facts: facts.told(drawn) })
}

/// What is measured while examples are written.
#[derive(Default)]
struct Facts {
    labels: [u64; 10],
    lengths: Vec<u32>,
    operators: [u64; 4],
    operands: u64,
    nesting: Vec<u64>, // examples by their deepest nesting
}

impl Facts {
    fn add(&mut self, symbols: &[Symbol], label: u8) {
        self.labels[usize::from(label)] += 1;
        self.lengths.push(symbols.len() as u32);
        let (mut depth, mut deepest) = (0_usize, 0);
        for &symbol in symbols {
            match symbol {
                MIN..=SM => {
                    self.operators[usize::from(symbol - MIN)] += 1;
                    depth += 1;
                    deepest = deepest.max(depth);
                }
                CLOSE => depth -= 1,
                _ => {}
            }
        }
        // A node of k operands has 2 + its operands' tokens, so a tree has 1 + (k + 1 of every operator) tokens.
        self.operands += symbols.len() as u64 - 1;
        self.nesting.resize(self.nesting.len().max(deepest + 1), 0);
        self.nesting[deepest] += 1;
    }

    fn told(mut self, drawn: u64) -> Vec<(String, String)> {
        let rows = self.lengths.len() as u64;
        let percent = |part: u64, whole: u64| format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64);
        let list = |names: &[String], counts: &[u64]| {
            let whole = counts.iter().sum();
            let parts = names.iter().zip(counts).filter(|(_, count)| **count > 0);
            parts.map(|(name, &count)| format!("{name}: {}", percent(count, whole))).collect::<Vec<_>>().join(", ")
        };
        let numbers = |n: usize| (0..n).map(|i| i.to_string()).collect::<Vec<_>>();
        self.lengths.sort_unstable();
        let mean = self.lengths.iter().map(|&length| u64::from(length)).sum::<u64>() as f64 / rows.max(1) as f64;
        let at = |i: usize| self.lengths.get(i).copied().unwrap_or(0);
        let (least, median, most) = (at(0), at(self.lengths.len() / 2), at(self.lengths.len().saturating_sub(1)));
        let operators: u64 = self.operators.iter().sum();
        let operands = (self.operands - operators) as f64 / operators.max(1) as f64;
        let fact = |name: &str, told: String| (name.to_owned(), told);
        vec![
            fact("trees kept", format!("{} of {drawn} drawn", percent(rows, drawn))),
            fact("labels", list(&numbers(10), &self.labels)),
            fact(
                "tokens without parentheses",
                format!("{least} to {most}, mean {mean:.0}, median {median}; with them 3 n - 2"),
            ),
            fact("deepest nesting", list(&numbers(self.nesting.len()), &self.nesting)),
            fact("operators", list(&["MIN", "MAX", "MED", "SM"].map(String::from), &self.operators)),
            fact("operands of an operator", format!("{operands:.2} on average")),
        ]
    }
}
