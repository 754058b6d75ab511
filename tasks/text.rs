//! Text: the sentiment of a film review read byte by byte or character by character; two classes.
//!
//! ```text
//! bytes   id = byte + 1, 0 pads                                   vocabulary 257     (Long Range Arena)
//! chars   <pad> <unk> <eos>, then characters seen 15 times        about 135 on the full set; ends with <eos>     (S4)
//! ```
//! Paper    Maas et al. 2011 (IMDB); as a long-range task: Tay et al. 2020 (Long Range Arena), arXiv:2011.04006
//! Matches  official files `aclImdb/{train,test}/{pos,neg}/ID_RATING.txt`; label 1 is positive; the head is kept
//! Departs  validation is a part of train; both references validate on test, and so choose their models on it
//!
//! Raw reviews hold `<br />` tags; they are left in.

mod reviews;

use crate::registry::{Family, Outline};
use crate::rng::{Permutation, Purpose};
use crate::{Bound, ConfigError, DataDir, DataError, Example, Input, Output, Split, Targets, Task, TaskSpec, bounds};
use reviews::Review;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;

/// What one token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tokens {
    /// A byte.
    Bytes,
    /// A Unicode code point.
    Chars,
}

/// `task: { text: { tokens: bytes, max_length: 4096 } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What one token is: `bytes` as in LRA or `chars` as in S4.
    pub tokens: Tokens,
    /// Longest input, `<eos>` included; the end of a longer review is cut off. LRA: 1,000 to 4,000; S4: 4,096.
    pub max_length: u32,
    /// `chars`: a character is known when the official train folder holds it this often.
    pub min_freq: u64,
    /// Share of the used training reviews that validate instead, the same in each class.
    pub val_fraction: f64,
    /// Seed of the choice of validation and limited reviews; not the run's seed.
    pub split_seed: u64,
    /// Reviews of `train/` to use, validation included, half of them positive; null is all. A larger limit holds the
    /// reviews of a smaller one.
    pub train_limit: Option<u64>,
    /// Reviews of `test/` to use, half of them positive; null is all.
    pub test_limit: Option<u64>,
    /// The folder or `.tar.gz`, absolute or below the data folder; null looks in the usual places.
    pub path: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            tokens: Tokens::Bytes,
            max_length: 4096,
            min_freq: 15,
            val_fraction: 0.1,
            split_seed: 0,
            train_limit: None,
            test_limit: None,
            path: None,
        }
    }
}

impl Family for Config {
    const NAME: &'static str = "text";
    const ABOUT: &'static str =
        "Long Range Arena Text: sentiment of IMDB reviews by byte or character, from the official files";

    fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut wrong = |key, problem: String, help: &str| errors.push(ConfigError { key, problem, help: help.into() });
        if self.max_length < 2 {
            wrong("max_length", format!("`max_length` is {}", self.max_length), "LRA uses 1000 to 4000, S4 4096");
        }
        if self.val_fraction <= 0.0 || self.val_fraction >= 1.0 || self.val_fraction.is_nan() {
            let help = "use a number between 0 and 1, such as 0.1; without validation, models would be chosen on test";
            wrong("val_fraction", format!("`val_fraction` is {}", self.val_fraction), help);
        }
        if let Some(limit @ ..4) = self.train_limit {
            let problem =
                format!("`train_limit` is {limit}; each class needs a review to learn from and one to validate");
            wrong("train_limit", problem, "use 4 or more, or null");
        }
        if let Some(limit @ ..2) = self.test_limit {
            wrong("test_limit", format!("`test_limit` is {limit}; there are two classes"), "use 2 or more, or null");
        }
        if self.tokens == Tokens::Bytes && self.min_freq != Self::default().min_freq {
            let help = "remove it, or use `tokens: chars`";
            wrong("min_freq", "`min_freq` does nothing when `tokens` is `bytes`".into(), help);
        }
        errors
    }

    fn outline(&self) -> Outline {
        Outline {
            causal: false,
            max_length: i64::from(self.max_length),
            needs_files: true,
            // S4 counts 135 characters, specials included, in the official training reviews.
            vocab_size: if self.tokens == Tokens::Bytes { 257 } else { 135 },
            classes: 2,
            documents: 1,
            input: Input::Tokens,
            output: Output::PerSequence,
        }
    }

    fn open(&self, data: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(Text::open(self.clone(), data)?))
    }
}

/// Places where the reviews are looked for, below the data folder.
const CANDIDATES: [&str; 4] = ["aclImdb", "imdb/aclImdb", "aclImdb*.tar.gz", "imdb/*.tar.gz"];

/// Where the reviews come from.
fn help(data: &DataDir) -> String {
    let file = data.0.join("aclImdb_v1.tar.gz");
    format!(
        "download the Large Movie Review Dataset (84 MB; it need not be unpacked):\n  mkdir -p {}\n  curl -fL -o {} \
         https://ai.stanford.edu/~amaas/data/sentiment/aclImdb_v1.tar.gz\nor name a folder or .tar.gz in `path`",
        data.0.display(),
        file.display()
    )
}

/// The characters that have a number of their own, from 3 on; 0 pads, 1 is any other, 2 ends.
#[derive(Debug)]
struct Vocabulary(HashMap<char, i64>);

impl Vocabulary {
    const UNKNOWN: i64 = 1;
    const END: i64 = 2;

    /// Characters that come `min_freq` times, the most frequent first, then by code point.
    fn of<'a>(texts: impl Iterator<Item = &'a [u8]>, min_freq: u64) -> Self {
        let mut counts: HashMap<char, u64> = HashMap::new();
        for text in texts {
            String::from_utf8_lossy(text).chars().for_each(|c| *counts.entry(c).or_default() += 1);
        }
        let mut known: Vec<(char, u64)> = counts.into_iter().filter(|&(_, count)| count >= min_freq).collect();
        known.sort_unstable_by_key(|&(c, count)| (std::cmp::Reverse(count), c));
        Self(known.into_iter().zip(3..).map(|((c, _), id)| (c, id)).collect())
    }

    fn size(&self) -> i64 {
        3 + self.0.len() as i64
    }

    fn id(&self, c: char) -> i64 {
        self.0.get(&c).copied().unwrap_or(Self::UNKNOWN)
    }
}

/// The opened task.
#[derive(Debug)]
pub struct Text {
    cfg: Config,
    splits: [Vec<Review>; 3],
    vocabulary: Option<Vocabulary>, // of `chars`
    fingerprint: String,
    notes: Vec<String>,
}

impl Text {
    fn open(cfg: Config, data: &DataDir) -> Result<Self, DataError> {
        let root = data.locate("IMDB reviews", cfg.path.as_deref(), &CANDIDATES, &help(data))?;
        let reviews::Reviews { train, test, fingerprint } = reviews::read(&root)?;
        let mut notes = vec![format!("IMDB reviews are read from {}", root.display())];
        for (name, limit, reviews) in [("train", cfg.train_limit, &train), ("test", cfg.test_limit, &test)] {
            let (limit, there) = (limit.unwrap_or(0), reviews.len());
            if limit > there as u64 {
                notes.push(format!("{name} holds {there} reviews, fewer than `{name}_limit` = {limit}"));
            }
        }
        let vocabulary = (cfg.tokens == Tokens::Chars).then(|| {
            let broken = train.iter().chain(&test).filter(|review| str::from_utf8(&review.text).is_err()).count();
            if broken > 0 {
                notes.push(format!("{broken} reviews are not UTF-8; their broken bytes are read as U+FFFD"));
            }
            Vocabulary::of(train.iter().map(|review| review.text.as_slice()), cfg.min_freq)
        });
        let (validation, train) = choose(train, cfg.train_limit, cfg.val_fraction, cfg.split_seed);
        let (_, test) = choose(test, cfg.test_limit, 0.0, cfg.split_seed);
        if train.is_empty() || validation.is_empty() {
            let problem = "holds too few reviews in train/ to learn from some and validate on others".into();
            return Err(DataError::Malformed { path: root, row: 0, problem });
        }
        Ok(Self { cfg, splits: [train, validation, test], vocabulary, fingerprint, notes })
    }
}

/// Takes `limit` reviews, as many of each class as can be, and sets `fraction` of each class apart (at least one, unless
/// it is 0). Gives (set apart, rest), each in the order of `reviews`.
fn choose(reviews: Vec<Review>, limit: Option<u64>, fraction: f64, seed: u64) -> (Vec<Review>, Vec<Review>) {
    let counts = [0, 1].map(|class| reviews.iter().filter(|review| review.class == class).count() as u64);
    let quotas = quotas(counts, limit);
    let apart = quotas.map(|quota| {
        let share = (quota as f64 * fraction).round() as u64;
        if fraction > 0.0 { share.clamp(1, quota.max(2) - 1) } else { 0 }
    });
    let ranks = [0, 1].map(|class| Permutation::new(counts[class], seed, Purpose::Subset, class as u64));
    let (mut set_apart, mut rest, mut seen) = (Vec::new(), Vec::new(), [0_u64; 2]);
    for review in reviews {
        let class = usize::from(review.class);
        let rank = ranks[class].at(seen[class]);
        seen[class] += 1;
        if rank < apart[class] {
            set_apart.push(review);
        } else if rank < quotas[class] {
            rest.push(review);
        }
    }
    (set_apart, rest)
}

/// How many of each class make up `limit`: halves, the odd one negative; what one class lacks the other gives.
fn quotas([negative, positive]: [u64; 2], limit: Option<u64>) -> [u64; 2] {
    let limit = limit.unwrap_or(u64::MAX).min(negative + positive);
    let positives = (limit / 2).min(positive).max(limit.saturating_sub(negative));
    [limit - positives, positives]
}

impl Task for Text {
    fn spec(&self) -> TaskSpec {
        TaskSpec {
            vocab_size: self.vocabulary.as_ref().map_or(257, Vocabulary::size),
            input: Input::Tokens,
            documents: 1,
            classes: 2,
            max_length: i64::from(self.cfg.max_length),
            pad_token: 0,
            causal: false,
            output: Output::PerSequence,
            metric: "accuracy".into(),
            version: 1,
            marks: Vec::new(),
        }
    }

    fn len(&self, split: Split) -> u64 {
        self.splits[split as usize].len() as u64
    }

    fn example(&self, split: Split, index: u64) -> Result<Example, DataError> {
        let review = &self.splits[split as usize][index as usize];
        let max_length = self.cfg.max_length as usize;
        let tokens = match &self.vocabulary {
            None => review.text.iter().take(max_length).map(|&byte| i64::from(byte) + 1).collect(),
            Some(vocabulary) => String::from_utf8_lossy(&review.text)
                .chars()
                .take(max_length - 1)
                .map(|c| vocabulary.id(c))
                .chain([Vocabulary::END])
                .collect(),
        };
        Ok(Example::new(tokens, Targets::PerSequence(vec![i64::from(review.class)])))
    }

    fn floor(&self) -> Result<Bound, DataError> {
        let classes = |split: Split| self.splits[split as usize].iter().map(|review| review.class);
        Ok(bounds::majority(classes(Split::Train), classes(Split::Test)))
    }

    fn ceiling(&self) -> Result<Bound, DataError> {
        Ok(Bound { score: 1.0, how: "by definition; no program solves sentiment".into() })
    }

    fn solve(&self, _: &Example) -> Option<Vec<i64>> {
        None
    }

    fn fingerprint(&self) -> Option<String> {
        Some(self.fingerprint.clone())
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

#[cfg(test)]
mod tests;
