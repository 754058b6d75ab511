//! The official folder of reviews, `aclImdb/{train,test}/{pos,neg}/ID_RATING.txt`, as a prepared set.

use crate::data::characters::Census;
use crate::data::formats::{self, Found};
use crate::data::prepared::{self, Prepared, Request, Writer};
use crate::{DataDir, DataError};
use std::collections::HashSet;
use std::path::Path;

/// Part of the set: `train/`.
pub(super) const TRAIN: usize = 0;
/// Part of the set: `test/`.
pub(super) const TEST: usize = 1;
/// Part of the set: the characters of `train/`, counted.
pub(super) const CHARACTERS: usize = 2;

/// Opens the reviews in `root`, read and checked the first time.
///
/// Reviews come in the order of ids, negative before positive at the same id: any run of them is about balanced,
/// whatever order an archive has.
pub(super) fn prepare(root: &Path, data: &DataDir) -> Result<Prepared, DataError> {
    let stamp = prepared::stamp_of_source(root, |name| address(name).is_some())?;
    let request = Request { family: "text", version: 1, stamp, parts: &["train", "test", Census::PART], documents: 1 };
    data.prepared(&request, |writer| read(root, writer))
}

/// The last three parts of a path, when they are those of a review.
fn address(name: &str) -> Option<(&str, &str, &str)> {
    let mut parts = name.rsplit('/');
    let (file, class, split) = (parts.next()?, parts.next()?, parts.next()?);
    let known = matches!(split, "train" | "test") && matches!(class, "pos" | "neg") && !file.starts_with('.');
    known.then_some((split, class, file))
}

/// Reads a folder or archive.
fn read(root: &Path, writer: &mut Writer) -> Result<(), DataError> {
    let (mut seen, mut census, mut broken) = (HashSet::new(), Census::new(), Vec::new());
    formats::visit(
        root,
        |name| address(name).is_some(),
        |found| {
            let path = found.path.clone();
            let malformed = |problem| DataError::Malformed { path: path.clone(), row: 0, problem };
            let (split, class, file) = address(found.name).expect("only wanted files are visited");
            let (name, part) = (format!("{split}/{class}/{file}"), if split == "train" { TRAIN } else { TEST });
            let label = u8::from(class == "pos");
            let id = id(label, file).map_err(malformed)?;
            if !seen.insert((part, label, id)) {
                return Err(malformed(format!("a second review {id} in {split}/{class}")));
            }
            let text = text(found)?;
            if part == TRAIN {
                census.count(&text);
            }
            if str::from_utf8(&text).is_err() {
                broken.push(name.clone());
            }
            writer.source(name, blake3::hash(&text));
            writer.row(part, 2 * u64::from(id) + u64::from(label), label, &[&text])
        },
    )?;
    for (part, split) in [(TRAIN, "train"), (TEST, "test")] {
        for (label, class) in [(0, "neg"), (1, "pos")] {
            if !seen.iter().any(|&(p, l, _)| (p, l) == (part, label)) {
                let problem = format!("holds no reviews in {split}/{class}; expected {split}/{class}/ID_RATING.txt");
                return Err(DataError::Malformed { path: root.into(), row: 0, problem });
            }
        }
    }
    if !broken.is_empty() {
        writer.note(not_utf8(broken));
    }
    census.write(writer, CHARACTERS, 1)
}

/// What is said of reviews that are not UTF-8, whatever order they came in.
fn not_utf8(mut names: Vec<String>) -> String {
    let count = names.len();
    names.sort_unstable();
    names.truncate(3);
    let more = if count > 3 { ", …" } else { "" };
    format!(
        "reviews that are not UTF-8: {count} ({}{more}); as characters their broken bytes are U+FFFD, as bytes they \
         are what they are",
        names.join(", ")
    )
}

/// The number in a review's name, which runs from 0 in each class, when name and rating are what the class has.
fn id(label: u8, file: &str) -> Result<u32, String> {
    let name = file.strip_suffix(".txt").and_then(|stem| stem.split_once('_'));
    let numbers = name.and_then(|(id, rating)| Some((id.parse().ok()?, rating.parse::<u8>().ok()?)));
    let (id, rating) = numbers.ok_or("not a name of the form ID_RATING.txt, like 127_8.txt")?;
    let (folder, low, high) = if label == 1 { ("pos", 7, 10) } else { ("neg", 1, 4) };
    if !(low..=high).contains(&rating) {
        return Err(format!("a rating of {rating} in `{folder}`, which holds {low} to {high}"));
    }
    Ok(id)
}

/// The file as it is, line ends and all.
fn text(found: Found) -> Result<Vec<u8>, DataError> {
    let path = found.path.clone();
    let text = found.bytes("review", formats::DOCUMENT)?;
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(DataError::Malformed { path, row: 0, problem: "the review is empty".into() });
    }
    Ok(text)
}
