//! Retrieval: do two documents belong together? Two towers read one each and never see the other; two classes.
//!
//! ```text
//! files       label 1: one paper cites the other               ACL Anthology Network (AAN), full texts
//! synthetic   label 1: both documents name the same topic      made up here, in the same form of file
//! bytes       id = byte + 1, 0 pads; the first 4,000           vocabulary 257     (Long Range Arena)
//! chars       <pad> <unk> <eos>, then characters of train      about 98; ends with <eos>, 4,000 in all     (S4)
//! ```
//! Paper    Radev et al. 2013 (AAN); as a long-range task: Tay et al. 2020 (Long Range Arena), arXiv:2011.04006
//! Matches  the files `new_aan_pairs.{train,eval,test}.tsv` of the LRA release, read line by line with quotes as data
//! Departs  evaluation has all pairs: LRA drops the last, smaller batch; S4 reads the files with a CSV reader that
//!          takes quotes for quoting and so loses or merges rows
//!
//! The synthetic task is not AAN and every score on it is marked. A tower alone learns nothing from it: each document's
//! topic is uniform whatever the label, so the answer lies in the comparison. It tries two towers and their head, not
//! reading: how often each letter comes is enough to tell the topic.

mod files;
mod synthetic;

use crate::core::error::idle;
use crate::core::family::{Family, Generated, Outline, Variant};
use crate::core::limits::{COUNT, COUNT_KEYS};
use crate::data::characters::{self, Vocabulary};
use crate::data::subset::{self, Subset};
use crate::{
    Bound, ConfigError, DataDir, DataError, Example, Input, Mark, Metric, Output, Split, Targets, Task, TaskSpec,
    core::bounds,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use synthetic::Drawn;

/// Where the pairs come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The official files, or others of their form.
    Files,
    /// Drawn here; not the official task.
    Synthetic,
}

/// What one token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tokens {
    /// A byte.
    Bytes,
    /// A Unicode code point.
    Chars,
}

/// `task: { retrieval: { tokens: bytes, max_length: 4000 } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether pairs are read from the official `files` or drawn here (`synthetic`), which marks every score.
    pub source: Source,
    /// What one token is: `bytes` as in LRA or `chars` as in S4.
    pub tokens: Tokens,
    /// Longest document, `<eos>` included; the end of a longer one is cut off. LRA and S4: 4,000.
    pub max_length: u32,
    /// `files` and `chars`: a character is known when the training documents hold it this often.
    pub min_freq: u64,
    /// Training pairs; null is all of a file, 20,000 when they are drawn.
    pub train_examples: Option<u64>,
    /// Validation pairs; null is all of a file, 2,000 when they are drawn.
    pub validation_examples: Option<u64>,
    /// Test pairs; null is all of a file, 2,000 when they are drawn.
    pub test_examples: Option<u64>,
    /// `files`: seed of the choice of pairs when there is a limit, the same of each class; not the run's seed.
    pub split_seed: u64,
    /// `files`: the folder or `.tar.gz` with the three files, absolute or below the data folder; null looks in
    /// the usual places.
    pub path: Option<PathBuf>,
    /// `synthetic`: topics a document can have.
    pub topics: u32,
    /// `synthetic`: times a document names its topic.
    pub mentions: u32,
    /// `synthetic`: documents are from half of this to this long, in characters.
    pub document_length: u32,
    /// `synthetic`: seed of the pairs; not the run's seed.
    pub data_seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            source: Source::Files,
            tokens: Tokens::Bytes,
            max_length: 4000,
            min_freq: 1,
            train_examples: None,
            validation_examples: None,
            test_examples: None,
            split_seed: 0,
            path: None,
            topics: 16,
            mentions: 16,
            document_length: 1000,
            data_seed: 0,
        }
    }
}

/// Synthetic pairs of each split, when no other number is asked for.
const DRAWN: [u64; 3] = [20_000, 2_000, 2_000];

impl Config {
    /// In the order of [`Split::ALL`].
    fn limits(&self) -> [Option<u64>; 3] {
        [self.train_examples, self.validation_examples, self.test_examples]
    }

    fn counts(&self) -> [u64; 3] {
        let limits = self.limits();
        std::array::from_fn(|split| limits[split].unwrap_or(DRAWN[split]))
    }

    fn drawn(&self) -> Drawn {
        Drawn {
            topics: u64::from(self.topics),
            mentions: self.mentions as usize,
            length: u64::from(self.document_length),
            seed: self.data_seed,
        }
    }

    /// Tokens of the longest document that can be drawn.
    fn longest_drawn(&self) -> u32 {
        self.document_length.saturating_add(u32::from(self.tokens == Tokens::Chars))
    }

    /// Settings that would do nothing.
    fn check_source(&self) -> Vec<ConfigError> {
        let own = Self::default();
        match self.source {
            Source::Files => idle(
                "files",
                &[
                    ("topics", self.topics != own.topics),
                    ("mentions", self.mentions != own.mentions),
                    ("document_length", self.document_length != own.document_length),
                    ("data_seed", self.data_seed != own.data_seed),
                ],
            ),
            Source::Synthetic => idle(
                "synthetic",
                &[
                    ("path", self.path != own.path),
                    ("split_seed", self.split_seed != own.split_seed),
                    ("min_freq", self.min_freq != own.min_freq),
                ],
            ),
        }
    }

    /// Synthetic documents that cannot be.
    fn check_drawn(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut wrong = |key, problem: String, help: String| errors.push(ConfigError { key, problem, help });
        if !(2..=synthetic::MOST_TOPICS).contains(&u64::from(self.topics)) {
            let most = synthetic::MOST_TOPICS;
            wrong("topics", format!("`topics` is {}, not from 2 to {most}", self.topics), "use 16".into());
        }
        if self.mentions == 0 {
            let problem = "`mentions` is 0: no document would name its topic".into();
            wrong("mentions", problem, "use 1 or more".into());
        }
        let least = self.drawn().least_length();
        if u64::from(self.document_length) < least {
            let problem =
                format!("`document_length` is {}, too short for {} mentions", self.document_length, self.mentions);
            wrong("document_length", problem, format!("use {least} or more"));
        }
        if self.longest_drawn() > self.max_length {
            let problem = format!(
                "documents of `document_length` {} have {} tokens, more than `max_length` = {}",
                self.document_length,
                self.longest_drawn(),
                self.max_length
            );
            wrong("document_length", problem, "lower it, or raise `max_length`".into());
        }
        errors
    }
}

impl Family for Config {
    const NAME: &'static str = "retrieval";
    const ABOUT: &'static str =
        "Long Range Arena Retrieval: whether two papers cite each other, from the AAN files; or synthetic pairs";
    const PAPER: &'static str = "Radev et al. 2013 (AAN); Tay et al. 2020 (Long Range Arena), arXiv:2011.04006";
    const LIMITS: &'static [(&'static str, u32)] = &[("min_freq", COUNT)];
    const SOURCES: &'static [&'static str] = &["/path"];

    fn check(&self) -> Vec<ConfigError> {
        let mut errors = self.check_source();
        for (key, limit) in COUNT_KEYS.into_iter().zip(self.limits()) {
            if let Some(limit @ ..2) = limit {
                let help = "use 2 or more, or null".into();
                errors.push(ConfigError { key, problem: format!("`{key}` is {limit}; there are two classes"), help });
            }
        }
        if self.max_length < 2 {
            let problem = format!("`max_length` is {}", self.max_length);
            errors.push(ConfigError { key: "max_length", problem, help: "LRA and S4 use 4000".into() });
        }
        match self.source {
            Source::Synthetic => errors.extend(self.check_drawn()),
            Source::Files if self.tokens == Tokens::Bytes && self.min_freq != Self::default().min_freq => {
                let problem = "`min_freq` does nothing when `tokens` is `bytes`".into();
                errors.push(ConfigError { key: "min_freq", problem, help: "remove it, or use `tokens: chars`".into() });
            }
            Source::Files => {}
        }
        errors
    }

    fn outline(&self) -> Outline {
        let needs_files = self.source == Source::Files;
        Outline {
            causal: false,
            max_length: i64::from(if needs_files { self.max_length } else { self.longest_drawn() }),
            needs_files,
            vocab_size: match (self.tokens, self.source) {
                (Tokens::Bytes, _) => 257,
                // S4 counts 98, specials included, in the official training documents.
                (Tokens::Chars, Source::Files) => 98,
                (Tokens::Chars, Source::Synthetic) => synthetic::vocabulary().size(),
            },
            classes: 2,
            documents: 2,
            input: Input::Tokens,
            output: Output::PerSequence,
        }
    }

    fn open(&self, data: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(Retrieval::open(self.clone(), data)?))
    }

    fn generate(&self, folder: &Path, step: &(dyn Fn(u64, u64) + Sync)) -> Option<Result<Generated, DataError>> {
        let draws = self.source == Source::Synthetic;
        draws.then(|| files::write(&self.drawn(), self.counts(), folder, step))
    }

    fn variants() -> Vec<Variant> {
        let synthetic = |mut changes: Value| {
            let short = json!({ "source": "synthetic", "document_length": 90, "mentions": 4 });
            changes.as_object_mut().expect("a map").extend(short.as_object().expect("a map").clone());
            Variant::drawn(changes)
        };
        vec![
            synthetic(json!({})).pin("354fdaa9891a36bb"),
            synthetic(json!({ "tokens": "chars", "topics": 30 })).pin("fd6bd1675050c618"),
            Variant::new(json!({ "path": "drawn/retrieval-synthetic" })),
            Variant::new(json!({ "tokens": "chars", "max_length": 60 })),
        ]
    }

    fn small() -> Vec<Value> {
        vec![json!({ "source": "synthetic", "document_length": 64, "mentions": 4, "train_examples": 500 })]
    }

    fn published(&self) -> Option<&'static str> {
        Some("Retrieval")
    }
}

/// Places where the files are looked for, below the data folder. Synthetic ones are read only when `path` names them.
const CANDIDATES: [&str; 7] = [
    "tsv_data",
    "lra_release/tsv_data",
    "lra_release/lra_release/tsv_data",
    "retrieval/tsv_data",
    "retrieval",
    "aan/tsv_data",
    "lra_release*.tar.gz",
];

/// Where the files come from.
fn help(data: &DataDir) -> String {
    let file = data.0.join("lra_release.tar.gz");
    let (folder, file) = (data.0.display(), file.display());
    format!(
        "download the Long Range Arena release (7.7 GB) and unpack its tsv_data:\n  mkdir -p {folder}\n  curl -fL -o \
         {file} https://storage.googleapis.com/long-range-arena/lra_release.gz\n  \
         tar -xzf {file} -C {folder} --wildcards '*/tsv_data/*'\n\
         or name the folder that holds new_aan_pairs.train.tsv in `path`, or use `source: synthetic`: pairs made up"
    )
}

/// The pairs of all splits.
#[derive(Debug)]
enum Pairs {
    /// Drawn when asked for: so many of each split.
    Drawn(Drawn, [u64; 3]),
    /// Read once, by this run or an earlier one, and the rows of each split that are used.
    Read(Box<Subset>),
}

/// The opened task.
#[derive(Debug)]
pub struct Retrieval {
    cfg: Config,
    pairs: Pairs,
    vocabulary: Option<Vocabulary>, // of `chars`
    synthetic: bool,
    notes: Vec<String>,
}

impl Retrieval {
    fn open(cfg: Config, data: &DataDir) -> Result<Self, DataError> {
        let chars = cfg.tokens == Tokens::Chars;
        if cfg.source == Source::Synthetic {
            let (pairs, vocabulary) = (Pairs::Drawn(cfg.drawn(), cfg.counts()), chars.then(synthetic::vocabulary));
            return Ok(Self { cfg, pairs, vocabulary, synthetic: true, notes: vec![synthetic::NOTE.into()] });
        }
        let root = data.locate("retrieval pairs", cfg.path.as_deref(), &CANDIDATES, &help(data))?;
        let set = files::prepare(&root, data)?;
        let mut notes = vec![format!("retrieval pairs are read from {}", root.display())];
        notes.extend(set.meta.notes.iter().cloned());
        let there = Split::ALL.map(|split| set.parts[split as usize].len() as u64);
        notes.extend(subset::shortages(there, cfg.limits(), "pairs"));
        let splits = Split::ALL.map(|split| {
            let (part, limit) = (split as usize, cfg.limits()[split as usize]);
            (part, subset::choose(set.parts[part].labels(), 2, limit, 0.0, cfg.split_seed).1)
        });
        let vocabulary = chars.then(|| Vocabulary::of_part(&set.parts[files::CHARACTERS], cfg.min_freq));
        let synthetic = set.meta.notes.iter().any(|note| note == synthetic::NOTE);
        Ok(Self { cfg, pairs: Pairs::Read(Box::new(Subset { set, splits })), vocabulary, synthetic, notes })
    }

    fn label(&self, split: Split, index: u64) -> u8 {
        match &self.pairs {
            Pairs::Drawn(drawn, _) => drawn.label(split, index),
            Pairs::Read(used) => used.label(split, index),
        }
    }

    fn labels(&self, split: Split) -> impl Iterator<Item = u8> {
        (0..self.len(split)).map(move |index| self.label(split, index))
    }

    fn tokens(&self, document: &[u8]) -> Vec<i64> {
        let max_length = self.cfg.max_length as usize;
        match &self.vocabulary {
            None => characters::bytes(document, max_length),
            Some(vocabulary) => vocabulary.encode(document, max_length),
        }
    }

    /// A document's tokens as text again; what has no character is a `?`.
    fn text(&self, tokens: &[i64]) -> String {
        let character = |&token: &i64| match &self.vocabulary {
            None => u8::try_from(token - 1).map_or('?', char::from),
            Some(vocabulary) => vocabulary.character(token).unwrap_or('?'),
        };
        let text = match &self.vocabulary {
            Some(_) => tokens.strip_suffix(&[Vocabulary::END]).unwrap_or(tokens),
            None => tokens,
        };
        text.iter().map(character).collect()
    }
}

impl Task for Retrieval {
    fn spec(&self) -> TaskSpec {
        TaskSpec {
            vocab_size: self.vocabulary.as_ref().map_or(257, Vocabulary::size),
            metric: Metric::accuracy(),
            version: 1,
            marks: if self.synthetic { vec![Mark::Synthetic] } else { Vec::new() },
            ..self.cfg.outline().spec()
        }
    }

    fn len(&self, split: Split) -> u64 {
        match &self.pairs {
            Pairs::Drawn(_, counts) => counts[split as usize],
            Pairs::Read(used) => used.len(split),
        }
    }

    fn example(&self, split: Split, index: u64) -> Result<Example, DataError> {
        let [tokens, second] = match &self.pairs {
            Pairs::Drawn(drawn, _) => drawn.documents(split, index).map(|document| self.tokens(&document)),
            Pairs::Read(used) => {
                let (part, row) = used.place(split, index);
                [0, 1].map(|k| self.tokens(part.document(row, k)))
            }
        };
        let targets = Targets::PerSequence(vec![i64::from(self.label(split, index))]);
        Ok(Example { second: Some(second), ..Example::new(tokens, targets) })
    }

    fn floor(&self) -> Result<Bound, DataError> {
        Ok(bounds::constant(self.labels(Split::Test)))
    }

    fn ceiling(&self) -> Result<Bound, DataError> {
        if self.synthetic {
            return bounds::oracle(self);
        }
        Ok(Bound { score: 1.0, how: "by definition; no program knows who cites whom".into() })
    }

    /// Synthetic pairs: finds the topic that each document names and compares them.
    fn solve(&self, example: &Example) -> Option<Vec<i64>> {
        if !self.synthetic {
            return None;
        }
        let (first, second) = (self.text(&example.tokens), self.text(example.second.as_deref()?));
        let (first, second) = (synthetic::topic(&first)?, synthetic::topic(&second)?);
        Some(vec![i64::from(first == second)])
    }

    fn fingerprint(&self) -> Option<String> {
        match &self.pairs {
            Pairs::Drawn(..) => None,
            Pairs::Read(used) => Some(used.set.meta.fingerprint.clone()),
        }
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

#[cfg(test)]
mod tests;
