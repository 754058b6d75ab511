//! Benchmark tasks behind one trait: what sequence mixers are compared on.
//!
//! A task is a finite, indexed set of examples per split; a batch is a pure function of (task, split, index, order), so the
//! same arguments give the same tokens on any machine. Nothing here knows libtorch: batches are plain vectors.

pub mod core;
pub mod data;
pub mod language;
pub mod laws;

mod registry;

pub mod algorithmic;
pub mod associative_recall;
pub mod clm;
pub mod depth;
pub mod filler;
pub mod glue;
pub mod icll;
pub mod image;
pub mod induction_heads;
pub mod listops;
pub mod mad;
pub mod mlm;
pub mod mqar;
pub mod passkey;
pub mod pathfinder;
pub mod retrieval;
pub mod selective_copying;
pub mod sparse_regression;
pub mod state_tracking;
pub mod text;

/// Counts what parsers hold when they are given damaged input.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: fuzzing::Counting = fuzzing::Counting;

pub use crate::core::batch::{Batch, Example, Order, Targets};
pub use crate::core::drawn::{Counts, Synthetic};
pub use crate::core::error::DataError;
pub use crate::core::family::{Entry, Family, Generated, Outline, Variant, without};
pub use crate::core::goodness::Goodness;
pub use crate::core::metric::{Metric, MetricKind};
pub use data::formats::DataDir;
pub use data::prepared::Prepared;
pub use language::shared::spread;
pub use language::tokenizer::Tokenizer;
pub use registry::registry;

pub use settings::ConfigError;

use std::fmt::Debug;

/// Which part of the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Split {
    /// Learned from, in an order drawn from the run's seed.
    Train,
    /// Watched while training: early stopping and the choice of checkpoint.
    Validation,
    /// Touched once, after training.
    Test,
}

impl Split {
    /// Every split, in the order of their use.
    pub const ALL: [Self; 3] = [Self::Train, Self::Validation, Self::Test];

    /// As it is written in a config or a record.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Validation => "validation",
            Self::Test => "test",
        }
    }
}

/// What is predicted, and where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Output {
    /// One class for a whole sequence: the model pools over valid positions.
    PerSequence,
    /// One class at each scored position.
    PerPosition,
    /// One class at each scored position, all of them read off one vector, the last valid position's: an auto-encoder.
    Reconstruction,
    /// One real number at each scored position, written as the numbers of [`Input::Reals`] are; the loss is its squared error.
    Number,
    /// One token of the task's own vocabulary at each scored position: a language model. e to the loss is a perplexity.
    Tokens,
    /// One real number for a whole sequence, written in thousandths ([`THOUSANDTH`]); the loss is its squared error.
    Value,
}

impl Output {
    /// Whether real numbers are predicted.
    pub const fn is_real(self) -> bool {
        matches!(self, Self::Number | Self::Value)
    }
}

/// What the numbers of a sequence are to a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Input {
    /// Names without order: each has an embedding.
    #[default]
    Tokens,
    /// Quantities, such as grey values: a model reads `scale · token + shift` as a real feature.
    Reals {
        /// Numbers a position consists of; they follow each other in [`Example::tokens`].
        width: i64,
        /// Factor.
        scale: f64,
        /// Added after it.
        shift: f64,
    },
}

impl Input {
    /// Numbers that one position has in [`Example::tokens`].
    pub const fn width(self) -> i64 {
        match self {
            Self::Tokens => 1,
            Self::Reals { width, .. } => width,
        }
    }

    /// The real number behind token `token`.
    pub fn real(self, token: i64) -> f64 {
        match self {
            Self::Tokens => token as f64,
            Self::Reals { scale, shift, .. } => scale * token as f64 + shift,
        }
    }
}

/// When a prediction counts as right.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Judge {
    /// The likeliest class is the one asked for.
    #[default]
    Class,
    /// The likeliest class is one of [`Task::allowed`].
    Allowed,
    /// As `Class`, but an example counts only where every scored position is right.
    Exact,
    /// Among the classes of [`Task::allowed`], the one asked for has more than this share of their probability.
    Mass {
        /// The share.
        share: f64,
    },
    /// Of real numbers: the score is 1 − (mean squared error) / (mean square of what is asked for), and not below 0.
    Explained,
    /// The score is Matthews' correlation of the classes over the whole split, −1 ..= 1.
    Matthews,
    /// The score is the mean of F1 (positive class 1) and accuracy over the whole split.
    F1Accuracy,
    /// Of [`Output::Value`]: the score is the mean of Pearson's and Spearman's correlation over the whole split, −1 ..= 1.
    Correlation,
}

/// Subsets of a split, one after the other. The examples of a subset are alike in one quantity.
#[derive(Clone, Debug, PartialEq)]
pub struct Sections {
    /// The quantity: `length`, `pairs`; empty where a split is of one kind.
    pub axis: &'static str,
    /// Their values and how many examples each has, in the order of the split.
    pub parts: Vec<Section>,
}

/// One subset of a split.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Section {
    /// Value of the quantity.
    pub at: f64,
    /// Examples.
    pub examples: u64,
}

/// What something simpler than a model reaches on the test split: least squares, an n-gram.
#[derive(Clone, Debug, PartialEq)]
pub struct Baseline {
    /// Its name: `ridge`.
    pub name: &'static str,
    /// What was measured: `score`, or a name of the trainer's measures such as `risk`.
    pub measure: &'static str,
    /// The section of the test split; `None`: all of it.
    pub at: Option<f64>,
    /// The value.
    pub value: f64,
}

/// What a class of [`Output::Value`] is multiplied by.
pub const THOUSANDTH: f64 = 1e-3;

/// One draw of a training example: what is random about it may differ from draw to draw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The run's seed.
    pub seed: u64,
    /// How often the example was drawn before.
    pub epoch: u64,
}

/// A quantity of each scored position of a test batch, by whose value loss and score are recorded.
#[derive(Clone, Debug, PartialEq)]
pub struct Facet {
    /// The quantity: `distance`, `frequency`.
    pub axis: &'static str,
    /// Its value at each scored position, in the order of the batch's targets, rounded to the bins that are reported; NaN where
    /// it has none.
    pub at: Vec<f64>,
}

/// Length of a training split whose examples are always new.
pub const FRESH: u64 = 1 << 40;

/// What a reader of a score must know of its data; every table says it with the score.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mark {
    /// Made up by us in the form of a data set that it is not.
    Synthetic,
    /// Models are chosen on the test split, as the task's first users did.
    ValidationIsTest,
    /// Inputs are shorter than the published task's.
    Reduced,
    /// Scored on what it was trained on: how much is memorised is the question.
    TestIsTrain,
}

impl Mark {
    /// Those that hold.
    fn those<const N: usize>(marks: [(bool, Self); N]) -> Vec<Self> {
        marks.into_iter().filter_map(|(holds, mark)| holds.then_some(mark)).collect()
    }

    /// As it is written in a record.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Synthetic => "synthetic",
            Self::ValidationIsTest => "validation_is_test",
            Self::Reduced => "reduced",
            Self::TestIsTrain => "test_is_train",
        }
    }
}

/// What a model must know of a task.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct TaskSpec {
    /// Tokens are `0 .. vocab_size`.
    pub vocab_size: i64,
    /// What the tokens are to a model.
    pub input: Input,
    /// Sequences an example consists of: 1, or 2 for tasks about a pair. They never see each other.
    pub documents: i64,
    /// Classes are `0 .. classes`.
    pub classes: i64,
    /// No example is longer.
    pub max_length: i64,
    /// Token that fills a batch to its longest row.
    pub pad_token: i64,
    /// Whether position `t` may only read positions up to `t`.
    pub causal: bool,
    /// What is predicted, and where.
    pub output: Output,
    /// When a prediction counts as right.
    pub judge: Judge,
    /// Positions in a window over which loss and score of the test split are recorded by position; `None`: they are not.
    pub by_position: Option<i64>,
    /// The score; higher is better.
    pub metric: Metric,
    /// Raised whenever the task's distribution changes; part of a run's identity.
    pub version: u32,
    /// What a reader of a score must know.
    pub marks: Vec<Mark>,
}

/// A benchmark task.
pub trait Task: Debug + Send + Sync {
    /// Vocabulary, classes, lengths, metric.
    fn spec(&self) -> TaskSpec;

    /// Examples in a split.
    fn len(&self, split: Split) -> u64;

    /// Whether a split holds nothing.
    fn is_empty(&self, split: Split) -> bool {
        self.len(split) == 0
    }

    /// The subsets that a split consists of. A batch never mixes two of them.
    fn sections(&self, split: Split) -> Sections {
        core::drawn::whole(self.len(split))
    }

    /// Batches of `rows` in one walk through a split. In training with several subsets, what is left of a subset after its last
    /// whole batch is left out of the epoch; with one subset, batches run across epochs.
    fn batches(&self, split: Split, rows: u64) -> u64 {
        core::batch::count(self, split, rows)
    }

    /// For each scored position of an example the classes that count under [`Judge::Allowed`] and [`Judge::Mass`], rising.
    /// Under `Allowed` the true distribution is uniform over them.
    fn allowed(&self, _split: Split, _index: u64) -> Result<Option<Vec<Vec<i64>>>, DataError> {
        Ok(None)
    }

    /// What simpler methods reach on the test split.
    fn baselines(&self) -> Result<Vec<Baseline>, DataError> {
        Ok(Vec::new())
    }

    /// Whether what is drawn is distributed as specified: chi-square tests over the first `examples` training examples.
    fn distributions(&self, _examples: u64) -> Result<Vec<Goodness>, DataError> {
        Ok(Vec::new())
    }

    /// Example `index` of a split; the same on any machine.
    fn example(&self, split: Split, index: u64) -> Result<Example, DataError>;

    /// Training example `index` as it is drawn in a batch: [`Task::example`], unless something about it is drawn anew each time.
    fn drawn(&self, index: u64, _draw: Draw) -> Result<Example, DataError> {
        self.example(Split::Train, index)
    }

    /// What is known besides, where the sequences are text cut by a tokenizer.
    fn text(&self) -> Option<&dyn Text> {
        None
    }

    /// Batch `index` of a split. Training batches follow a permutation of the split per epoch, drawn from `order.seed`;
    /// validation and test are in file order, and each of their subsets ends with a short batch.
    fn batch(&self, split: Split, index: u64, order: &Order) -> Result<Batch, DataError> {
        core::batch::collate(self, split, index, order)
    }

    /// The chance level: what the best constant answer scores on the test split, or the task's own guesser where that scores more.
    /// Measured, and how.
    fn floor(&self) -> Result<Bound, DataError>;

    /// What a perfect solver scores on the test split.
    fn ceiling(&self) -> Result<Bound, DataError>;

    /// The classes a solver finds from the inputs alone, in the order of the example's targets; `None` where no program
    /// is known to solve the task (sentiment).
    fn solve(&self, _example: &Example) -> Option<Vec<i64>> {
        None
    }

    /// Content hash of the data files behind the task; `None` for generated tasks. Part of a run's identity, in place of
    /// [`Family::SOURCES`]: it covers everything that comes of them, and no name or place of a file.
    fn fingerprint(&self) -> Option<String> {
        None
    }

    /// Remarks on the data a user should see once: rows skipped, classes missing.
    fn notes(&self) -> Vec<String> {
        Vec::new()
    }
}

/// A task about text that a tokenizer cuts.
pub trait Text {
    /// What makes tokens of text.
    fn tokenizer(&self) -> &Tokenizer;

    /// Quantities of the scored positions of a test batch, by which its scores are told apart.
    fn facets(&self, _batch: &Batch) -> Vec<Facet> {
        Vec::new()
    }

    /// UTF-8 bytes of the text whose every token a split asks for once: of causal language models.
    fn bytes(&self, _split: Split) -> Option<u64> {
        None
    }
}

/// A score with the words that say where it comes from.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Bound {
    /// The score, 0 ..= 1.
    pub score: f64,
    /// How it was found: "always class 1, the best constant answer, measured on test".
    pub how: String,
}
