//! The official folder of reviews: `aclImdb/{train,test}/{pos,neg}/ID_RATING.txt`.

use crate::DataError;
use crate::formats::{self, Found};
use std::collections::{BTreeMap, HashSet};
use std::path::Path;

/// One review.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Review {
    /// The number in its file name; runs from 0 in each class.
    pub id: u64,
    /// 1 is positive.
    pub class: u8,
    /// The stars in its file name: 1–4 in `neg`, 7–10 in `pos`.
    rating: u8,
    /// The file as it is.
    pub text: Vec<u8>,
}

/// The two folders of reviews, each in the order of ids, negative before positive at the same id: any stretch of them is
/// about balanced, whatever order an archive has.
pub(super) struct Reviews {
    /// `train/`.
    pub train: Vec<Review>,
    /// `test/`.
    pub test: Vec<Review>,
    /// Hash of names and contents.
    pub fingerprint: String,
}

/// The last three parts of a path, when they are those of a review.
fn address(name: &str) -> Option<(&str, &str, &str)> {
    let mut parts = name.rsplit('/');
    let (file, class, split) = (parts.next()?, parts.next()?, parts.next()?);
    let known = matches!(split, "train" | "test") && matches!(class, "pos" | "neg") && !file.starts_with('.');
    known.then_some((split, class, file))
}

/// Reads a folder or archive.
pub(super) fn read(root: &Path) -> Result<Reviews, DataError> {
    let (mut train, mut test) = (Vec::new(), Vec::new());
    let mut hashes = BTreeMap::new();
    let mut seen = HashSet::new();
    formats::visit(
        root,
        |name| address(name).is_some(),
        |found| {
            let path = found.path.clone();
            let malformed = |problem| DataError::Malformed { path: path.clone(), row: 0, problem };
            let (split, class, file) = address(found.name).expect("only wanted files are visited");
            let (name, reviews) =
                (format!("{split}/{class}/{file}"), if split == "train" { &mut train } else { &mut test });
            let review = read_review(class, file, found).map_err(|problem| match problem {
                Problem::Content(problem) => malformed(problem),
                Problem::Reading(error) => error,
            })?;
            if !seen.insert((split == "train", class == "pos", review.id)) {
                return Err(malformed(format!("a second review {} in {split}/{class}", review.id)));
            }
            hashes.insert(name, blake3::hash(&review.text));
            reviews.push(review);
            Ok(())
        },
    )?;
    for (split, reviews) in [("train", &mut train), ("test", &mut test)] {
        for (class, folder) in ["neg", "pos"].into_iter().enumerate() {
            if !reviews.iter().any(|review| usize::from(review.class) == class) {
                let problem = format!("holds no reviews in {split}/{folder}; expected {split}/{folder}/ID_RATING.txt");
                return Err(DataError::Malformed { path: root.into(), row: 0, problem });
            }
        }
        reviews.sort_unstable();
    }
    Ok(Reviews { train, test, fingerprint: formats::fingerprint(&hashes) })
}

enum Problem {
    Content(String),
    Reading(DataError),
}

fn read_review(class: &str, file: &str, found: Found) -> Result<Review, Problem> {
    let name = file.strip_suffix(".txt").and_then(|stem| stem.split_once('_'));
    let numbers = name.and_then(|(id, rating)| Some((id.parse().ok()?, rating.parse().ok()?)));
    let Some((id, rating)) = numbers else {
        return Err(Problem::Content("not a name of the form ID_RATING.txt, like 127_8.txt".into()));
    };
    let (class, ratings) = if class == "pos" { (1, 7..=10) } else { (0, 1..=4) };
    if !ratings.contains(&rating) {
        let folder = ["neg", "pos"][usize::from(class)];
        let (low, high) = (ratings.start(), ratings.end());
        return Err(Problem::Content(format!("a rating of {rating} in `{folder}`, which holds {low} to {high}")));
    }
    let text = found.bytes().map_err(Problem::Reading)?;
    if text.iter().all(u8::is_ascii_whitespace) {
        return Err(Problem::Content("the review is empty".into()));
    }
    Ok(Review { id, class, rating, text })
}
