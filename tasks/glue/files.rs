//! The official files as a prepared set.
//!
//! ```text
//! {train,dev}.tsv       columns by tabs, the first line names them; CoLA has no such line
//! MNLI                  train.tsv, dev_matched.tsv, dev_mismatched.tsv
//! MRPC                  train.tsv and dev.tsv, or msr_paraphrase_train.txt, from which dev_ids.tsv takes dev
//! ```
//! Columns are found by their names, so that MNLI's train and dev, which have other columns between, read alike. A line is a
//! row and a quote is a character. A row with too few or too many columns, an unknown label, an empty sentence or bytes that
//! are not UTF-8 is skipped, counted and named; a file of such rows alone is refused.
//!
//! Of STS-B the first text begins with two bytes, the score in thousandths, little-endian; other tasks' classes are labels.

use crate::data::formats::{self, Found};
use crate::data::prepared::{self, Part, Prepared, Request, Writer};
use crate::{DataDir, DataError};
use std::borrow::Cow;
use std::collections::HashSet;
use std::path::Path;

/// What a task's files look like.
#[derive(Debug)]
pub(super) struct Form {
    /// Name of its folder, as released.
    pub folder: &'static str,
    /// Training file, then those it is evaluated on.
    pub files: &'static [&'static str],
    /// Rows of each, as counted in the releases.
    pub rows: &'static [u64],
    /// The columns where no line names them.
    pub headless: Option<&'static [&'static str]>,
    /// The columns of the sentences.
    pub texts: &'static [&'static str],
    /// The column of the label.
    pub label: &'static str,
    /// Names of the classes, in the order of their numbers; none where the label is a score from 0 to 5.
    pub labels: &'static [&'static str],
}

impl Form {
    /// How many classes; 1 of a score.
    pub const fn classes(&self) -> i64 {
        if self.labels.is_empty() { 1 } else { self.labels.len() as i64 }
    }

    const fn of(folder: &'static str, rows: &'static [u64], texts: &'static [&'static str]) -> Self {
        Self {
            folder,
            files: &["train.tsv", "dev.tsv"],
            rows,
            headless: None,
            texts,
            label: "label",
            labels: &["0", "1"],
        }
    }
}

const ENTAILMENT: &[&str] = &["entailment", "not_entailment"];
const SENTENCES: &[&str] = &["sentence1", "sentence2"];

/// In the order of [`super::Name`].
pub(super) const FORMS: [Form; 9] = [
    Form {
        headless: Some(&["source", "label", "mark", "sentence"]),
        ..Form::of("CoLA", &[8_551, 1_043], &["sentence"])
    },
    Form::of("SST-2", &[67_349, 872], &["sentence"]),
    Form { label: "Quality", ..Form::of("MRPC", &[3_668, 408], &["#1 String", "#2 String"]) },
    Form { label: "score", labels: &[], ..Form::of("STS-B", &[5_749, 1_500], SENTENCES) },
    Form { label: "is_duplicate", ..Form::of("QQP", &[363_846, 40_430], &["question1", "question2"]) },
    Form {
        files: &["train.tsv", "dev_matched.tsv", "dev_mismatched.tsv"],
        label: "gold_label",
        labels: &["entailment", "neutral", "contradiction"],
        ..Form::of("MNLI", &[392_702, 9_815, 9_832], SENTENCES)
    },
    Form { labels: ENTAILMENT, ..Form::of("QNLI", &[104_743, 5_463], &["question", "sentence"]) },
    Form { labels: ENTAILMENT, ..Form::of("RTE", &[2_490, 277], SENTENCES) },
    Form::of("WNLI", &[635, 71], SENTENCES),
];

/// MRPC as its authors publish it, train and dev together.
const PARAPHRASES: &str = "msr_paraphrase_train.txt";
/// Which pairs of [`PARAPHRASES`] are dev: their two ids, by GLUE.
const DEV_IDS: [&str; 2] = ["dev_ids.tsv", "mrpc_dev_ids.tsv"];

/// The texts of a row; the second is empty where the task has one.
pub(super) fn texts(part: &Part, row: usize, scored: bool) -> [Cow<'_, str>; 2] {
    let skipped = if scored { 2 } else { 0 };
    [&part.document(row, 0)[skipped..], part.document(row, 1)].map(String::from_utf8_lossy)
}

/// The class of a row, or thousandths of its score.
pub(super) fn label(part: &Part, row: usize, scored: bool) -> i64 {
    let document = part.document(row, 0);
    if scored { i64::from(u16::from_le_bytes([document[0], document[1]])) } else { part.labels()[row].into() }
}

/// The name of a file in the task's own folder; `None` of files elsewhere, such as `original/`.
fn own<'a>(form: &Form, name: &'a str) -> Option<&'a str> {
    match name.rsplit_once('/') {
        None => Some(name),
        Some((folder, file)) => (folder.rsplit('/').next() == Some(form.folder)).then_some(file),
    }
}

/// Whether a file is read, or decides how another one is.
fn wanted(form: &Form, name: &str) -> bool {
    own(form, name).is_some_and(|file| {
        form.files.contains(&file) || form.folder == "MRPC" && (file == PARAPHRASES || DEV_IDS.contains(&file))
    })
}

/// Opens the files in `root`, read and checked the first time.
pub(super) fn prepare(root: &Path, form: &Form, data: &DataDir) -> Result<Prepared, DataError> {
    let stamp = prepared::stamp_of_source(root, |name| wanted(form, name))?;
    let family = format!("glue-{}", form.folder);
    let parts: Vec<&str> = form.files.iter().map(|file| file.strip_suffix(".tsv").unwrap_or(file)).collect();
    let request = Request { family: &family, version: 1, stamp, parts: &parts, documents: 2 };
    data.prepared(&request, |writer| read(root, form, writer))
}

fn read(root: &Path, form: &Form, writer: &mut Writer) -> Result<(), DataError> {
    let malformed = |problem| DataError::Malformed { path: root.into(), row: 0, problem };
    if form.folder == "MRPC" && read_paraphrases(root, form, writer)? {
        return Ok(());
    }
    let mut there = vec![false; form.files.len()];
    formats::visit(
        root,
        |name| wanted(form, name),
        |found| {
            let name = own(form, found.name).expect("only wanted files are visited");
            let Some(part) = form.files.iter().position(|file| *file == name) else { return Ok(()) };
            if std::mem::replace(&mut there[part], true) {
                return Err(malformed(format!("holds more than one {}", form.files[part])));
            }
            let mut reading = Reading::new(form, writer, move |_| part);
            let hash = reading.rows(found)?;
            writer.source(form.files[part], hash);
            Ok(())
        },
    )?;
    if let Some(part) = there.iter().position(|there| !there) {
        let mut problem = format!("holds no {}; expected {}", form.files[part], form.files.join(", "));
        if form.folder == "MRPC" {
            problem += &format!(", or {PARAPHRASES} with {}", DEV_IDS.join(" or "));
        }
        return Err(malformed(problem));
    }
    count(form, writer);
    Ok(())
}

/// MRPC in its authors' form: whether the two files are there and no `train.tsv`.
fn read_paraphrases(root: &Path, form: &Form, writer: &mut Writer) -> Result<bool, DataError> {
    let (mut names, mut ids, mut ids_hash) = (HashSet::new(), HashSet::new(), None);
    formats::visit(
        root,
        |name| wanted(form, name),
        |found| {
            let name = own(form, found.name).expect("only wanted files are visited").to_owned();
            if DEV_IDS.contains(&name.as_str()) {
                ids_hash = Some(found.lines(|_, line| {
                    ids.insert(line.trim_ascii_end().to_vec());
                    Ok(())
                })?);
            }
            names.insert(name);
            Ok(())
        },
    )?;
    let (Some(hash), true, false) = (ids_hash, names.contains(PARAPHRASES), names.contains(form.files[0])) else {
        return Ok(false);
    };
    writer.source(DEV_IDS[0], hash);
    formats::visit(
        root,
        |name| own(form, name) == Some(PARAPHRASES),
        |found| {
            let dev = |columns: &[&[u8]]| usize::from(ids.contains(columns[1..3].join(&b'\t').as_slice()));
            let hash = Reading::new(form, writer, dev).rows(found)?;
            writer.source(PARAPHRASES, hash);
            Ok(())
        },
    )?;
    for (part, what) in ["is in no row of", "is in every row of"].into_iter().enumerate() {
        if writer.rows(1 - part) == 0 {
            let problem = format!("what dev_ids.tsv names {what} {PARAPHRASES}");
            return Err(DataError::Malformed { path: root.into(), row: 0, problem });
        }
    }
    count(form, writer);
    Ok(true)
}

/// Remarks on rows that are more or fewer than were released.
fn count(form: &Form, writer: &mut Writer) {
    for (part, (file, &released)) in form.files.iter().zip(form.rows).enumerate() {
        let rows = writer.rows(part) as u64;
        if rows != released {
            writer.note(format!("{file}: {rows} rows, and {released} in the release"));
        }
    }
}

/// A file that is being read.
struct Reading<'a, F> {
    form: &'a Form,
    writer: &'a mut Writer,
    part: F, // of a row's columns
    columns: Option<Columns>,
    rows: u64,
    skipped: u64,
    first: Option<(u64, String)>, // row, problem
}

/// Where the columns that are read stand.
struct Columns {
    count: usize,
    texts: Vec<usize>,
    label: usize,
}

impl<'a, F: Fn(&[&[u8]]) -> usize> Reading<'a, F> {
    fn new(form: &'a Form, writer: &'a mut Writer, part: F) -> Self {
        Self { form, writer, part, columns: None, rows: 0, skipped: 0, first: None }
    }

    fn rows(&mut self, found: Found) -> Result<blake3::Hash, DataError> {
        let path = found.path.clone();
        let name = own(self.form, found.name).unwrap_or(found.name).to_owned();
        let malformed = |row, problem| DataError::Malformed { path: path.clone(), row, problem };
        let hash = found.lines(|row, line| {
            if row == 1 && self.header(line).map_err(|problem| malformed(1, problem))? {
                return Ok(());
            }
            self.row(row, line)
        })?;
        match (self.rows, self.first.take()) {
            (0, _) => Err(malformed(0, "holds no rows; is it a complete download?".into())),
            (rows, Some((row, problem))) if rows == self.skipped => {
                Err(malformed(row, format!("{problem}; so or in another way, all {rows} rows are broken")))
            }
            (_, None) => Ok(hash),
            (rows, Some((row, problem))) => {
                let skipped = self.skipped;
                self.writer.note(format!(
                    "{name}: {skipped} of {rows} rows are skipped, the first is {name}:{row}: {problem}"
                ));
                Ok(hash)
            }
        }
    }

    /// Finds the columns; whether the first line names them.
    fn header(&mut self, line: &[u8]) -> Result<bool, String> {
        let line = line.strip_prefix("\u{feff}".as_bytes()).unwrap_or(line);
        let found: Vec<&[u8]> = line.split(|&byte| byte == b'\t').map(<[u8]>::trim_ascii).collect();
        let names: Vec<&[u8]> = match self.form.headless {
            // Its test file, which has no labels, names its columns.
            Some(_) if found == [&b"index"[..], b"sentence"] => found,
            Some(names) => names.iter().map(|name| name.as_bytes()).collect(),
            None => found,
        };
        let at = |name: &str| names.iter().position(|column| *column == name.as_bytes());
        let texts: Option<Vec<usize>> = self.form.texts.iter().map(|name| at(name)).collect();
        match (texts, at(self.form.label)) {
            (Some(texts), Some(label)) => {
                self.columns = Some(Columns { count: names.len(), texts, label });
                Ok(self.form.headless.is_none())
            }
            (Some(_), None) => Err(format!(
                "has no labels: no column `{}` beside the sentences. Files such as test.tsv are released without, and cannot \
                 be learned from or scored; use {}",
                self.form.label,
                self.form.files.join(", ")
            )),
            (None, _) => {
                let wanted = [self.form.texts, &[self.form.label]].concat().join("`, `");
                Err(format!("expected a header with `{wanted}`, found {}", formats::shorten(line)))
            }
        }
    }

    fn row(&mut self, row: u64, line: &[u8]) -> Result<(), DataError> {
        self.rows += 1;
        let columns: Vec<&[u8]> = line.split(|&byte| byte == b'\t').collect();
        match self.parse(&columns) {
            Ok((label, texts)) => {
                let part = (self.part)(&columns);
                let second = texts.get(1).copied().unwrap_or_default().as_bytes();
                if self.form.labels.is_empty() {
                    let first = [&label.to_le_bytes(), texts[0].as_bytes()].concat();
                    return self.writer.row(part, row, 0, &[&first, second]);
                }
                self.writer.row(part, row, label as u8, &[texts[0].as_bytes(), second])
            }
            Err(problem) => {
                self.skipped += 1;
                self.first.get_or_insert((row, problem));
                Ok(())
            }
        }
    }

    /// Label, or thousandths of a score, and texts of a row.
    fn parse<'b>(&self, columns: &[&'b [u8]]) -> Result<(u16, Vec<&'b str>), String> {
        let known = self.columns.as_ref().expect("the first line was looked at");
        if columns.len() != known.count {
            let few = columns.len() < known.count;
            let why = if few { "the row may be cut short" } else { "a sentence may hold a tab" };
            return Err(format!("{} columns, expected {}; {why}", columns.len(), known.count));
        }
        let text = |&at: &usize| {
            let text = str::from_utf8(columns[at]).map_err(|_| "is not UTF-8".to_owned())?;
            if text.trim().is_empty() { Err("a sentence is empty".to_owned()) } else { Ok(text) }
        };
        let texts = known.texts.iter().map(text).collect::<Result<_, _>>()?;
        Ok((self.label(columns[known.label])?, texts))
    }

    fn label(&self, label: &[u8]) -> Result<u16, String> {
        let name = str::from_utf8(label).unwrap_or_default().trim();
        if self.form.labels.is_empty() {
            let score = name.parse().ok().filter(|score: &f64| (0.0..=5.0).contains(score));
            let score = score.map(|score| (1000.0 * score).round() as u16);
            return score.ok_or_else(|| format!("the score is {}, expected 0 to 5", formats::shorten(label)));
        }
        let class = self.form.labels.iter().position(|known| *known == name);
        let class = class.map(|class| class as u16);
        let expected = || self.form.labels.join(" or ");
        class.ok_or_else(|| format!("the label is {}, expected {}", formats::shorten(label), expected()))
    }
}
