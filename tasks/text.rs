//! Text: the sentiment of a film review read byte by byte or character by character; two classes.
//!
//! ```text
//! bytes   id = byte + 1, 0 pads                                   vocabulary 257     (Long Range Arena)
//! chars   <pad> <unk> <eos>, then characters seen 15 times        about 135 on the full set; ends with <eos>     (S4)
//! ```
//! Paper    Maas et al. 2011 (IMDB); as a long-range task: Tay et al. 2020 (Long Range Arena), arXiv:2011.04006
//! Matches  official files `aclImdb/{train,test}/{pos,neg}/ID_RATING.txt`; label 1 is positive; the head is kept
//! Departs  validation is a part of train; both references validate on test, and so choose their models on it: that is
//!          `validation: test`, and every table then says so
//!
//! Raw reviews hold `<br />` tags; they are left in.

mod reviews;

use crate::core::family::{Family, Outline, Variant};
use crate::core::limits::COUNT;
use crate::data::characters::{self, Vocabulary};
use crate::data::subset::{self, Subset};
use crate::{
    Bound, ConfigError, DataDir, DataError, Example, Input, Mark, Metric, Output, Split, Targets, Task, TaskSpec,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;

/// What one token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tokens {
    /// A byte.
    Bytes,
    /// A Unicode code point.
    Chars,
}

/// Which reviews validate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Validation {
    /// A part of train that is not learned from.
    Split,
    /// The test reviews, as in both references: train keeps all of its own, and the test score is no longer blind.
    Test,
}

/// `task: { text: { tokens: bytes, max_length: 4096 } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// What one token is: `bytes` as in LRA or `chars` as in S4.
    pub tokens: Tokens,
    /// Longest input, `<eos>` included; the end of a longer review is cut off. LRA: 1,000 to 4,000; S4: 4,096.
    pub max_length: u32,
    /// `chars`: a character is known when the official train folder holds it this often.
    pub min_freq: u64,
    /// Which reviews validate: a `split` of train, or `test`, which marks every score.
    pub validation: Validation,
    /// `validation: split`: share of the used training reviews that validate instead, the same in each class.
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
            validation: Validation::Split,
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
    const PAPER: &'static str = "Maas et al. 2011 (IMDB); Tay et al. 2020 (Long Range Arena), arXiv:2011.04006";
    const LIMITS: &'static [(&'static str, u32)] =
        &[("train_limit", COUNT), ("test_limit", COUNT), ("min_freq", COUNT)];
    const SOURCES: &'static [&'static str] = &["/path"];

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
        if self.validation == Validation::Test && self.val_fraction != Self::default().val_fraction {
            let help = "remove it, or use `validation: split`";
            wrong("val_fraction", "`val_fraction` does nothing when `validation` is `test`".into(), help);
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

    fn variants() -> Vec<Variant> {
        vec![
            Variant::new(json!({})),
            Variant::new(json!({ "tokens": "chars", "min_freq": 2, "max_length": 20 })).overlapping(),
            Variant::new(json!({ "validation": "test" })),
        ]
    }

    fn published(&self) -> Option<&'static str> {
        Some("Text")
    }
}

/// The shortest cut that LRA itself uses.
const SHORTEST_PUBLISHED: u32 = 1000;

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

/// The opened task.
#[derive(Debug)]
pub struct Text {
    cfg: Config,
    used: Subset,
    vocabulary: Option<Vocabulary>, // of `chars`
    notes: Vec<String>,
}

impl Text {
    fn open(cfg: Config, data: &DataDir) -> Result<Self, DataError> {
        let root = data.locate("IMDB reviews", cfg.path.as_deref(), &CANDIDATES, &help(data))?;
        let set = reviews::prepare(&root, data)?;
        let mut notes = vec![format!("IMDB reviews are read from {}", root.display())];
        notes.extend(set.meta.notes.iter().cloned());
        for (name, limit, part) in [("train", cfg.train_limit, reviews::TRAIN), ("test", cfg.test_limit, reviews::TEST)]
        {
            notes.extend(subset::shortage(name, set.parts[part].len(), limit, "reviews"));
        }
        let vocabulary =
            (cfg.tokens == Tokens::Chars).then(|| Vocabulary::of_part(&set.parts[reviews::CHARACTERS], cfg.min_freq));
        let fraction = if cfg.validation == Validation::Test { 0.0 } else { cfg.val_fraction };
        let choose =
            |part: usize, limit, fraction| subset::choose(set.parts[part].labels(), 2, limit, fraction, cfg.split_seed);
        let (apart, train) = choose(reviews::TRAIN, cfg.train_limit, fraction);
        let (_, test) = choose(reviews::TEST, cfg.test_limit, 0.0);
        let validation = match cfg.validation {
            Validation::Split => (reviews::TRAIN, apart),
            Validation::Test => (reviews::TEST, test.clone()),
        };
        if train.is_empty() || validation.1.is_empty() {
            let problem = "holds too few reviews in train/ to learn from some and validate on others".into();
            return Err(DataError::Malformed { path: root, row: 0, problem });
        }
        let splits = [(reviews::TRAIN, train), validation, (reviews::TEST, test)];
        Ok(Self { cfg, used: Subset { set, splits }, vocabulary, notes })
    }
}

impl Task for Text {
    fn spec(&self) -> TaskSpec {
        TaskSpec {
            vocab_size: self.vocabulary.as_ref().map_or(257, Vocabulary::size),
            metric: Metric::accuracy(),
            version: 1,
            marks: Mark::those([
                (self.cfg.validation == Validation::Test, Mark::ValidationIsTest),
                (self.cfg.max_length < SHORTEST_PUBLISHED, Mark::Reduced),
            ]),
            ..self.cfg.outline().spec()
        }
    }

    fn len(&self, split: Split) -> u64 {
        self.used.len(split)
    }

    fn example(&self, split: Split, index: u64) -> Result<Example, DataError> {
        let (part, row) = self.used.place(split, index);
        let (review, max_length) = (part.document(row, 0), self.cfg.max_length as usize);
        let tokens = match &self.vocabulary {
            None => characters::bytes(review, max_length),
            Some(vocabulary) => vocabulary.encode(review, max_length),
        };
        Ok(Example::new(tokens, Targets::PerSequence(vec![i64::from(part.labels()[row])])))
    }

    fn floor(&self) -> Result<Bound, DataError> {
        Ok(self.used.floor())
    }

    fn ceiling(&self) -> Result<Bound, DataError> {
        Ok(Bound { score: 1.0, how: "by definition; no program solves sentiment".into() })
    }

    fn fingerprint(&self) -> Option<String> {
        Some(self.used.set.meta.fingerprint.clone())
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

#[cfg(test)]
mod tests;
