//! Measuring blocks: what is measured (`suite`), the process that measures (`child`), the one that asks (`conductor`);
//! whole optimizer steps (`steps`); and decoding token by token (`decode`).

pub mod child;
pub mod conductor;
pub mod decode;
pub mod steps;
pub mod suite;

use crate::base::choices::DeviceKind;
use crate::model::ModelConfig;
use results::bench::{Memory, Pass};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// One block at one size, as a child is told of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Subject {
    /// The mixer's name in the registry.
    pub mixer: String,
    /// Its settings, checked.
    pub settings: Value,
    /// What surrounds it, resolved.
    pub model: ModelConfig,
    /// Whether it reads only the past.
    pub causal: bool,
    /// Sequences.
    pub batch: i64,
    /// Positions of each.
    pub length: i64,
}

impl Subject {
    /// What its mixer is built for.
    pub fn dims(&self) -> mixers::Dims {
        mixers::Dims { d_model: self.model.d_model, seq_len: self.length, causal: self.causal }
    }
}

/// What a child is to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// With these.
    pub subjects: Vec<Subject>,
    /// Threads of libtorch.
    pub threads: usize,
    /// Where to compute.
    pub device: DeviceKind,
    /// Memory it may allocate, bytes.
    pub memory: Option<u64>,
    /// What.
    pub work: Work,
}

/// The two kinds of measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Work {
    /// One pass of the only subject, and how large the process became.
    Memory(Pass),
    /// The passes of every subject, in turns.
    Time {
        /// Which.
        passes: Vec<Pass>,
        /// Rounds that are not counted.
        warmup: usize,
        /// Rounds that are.
        repeats: usize,
        /// The heaviest of them may take so long, seconds.
        cap: f64,
    },
}

/// What a child says, one JSON line each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Said {
    /// The subject it turns to, by place: should it die now, this one is to blame.
    At(usize),
    /// A subject stands.
    Built {
        /// By place.
        subject: usize,
        /// Trainable parameters.
        parameters: u64,
        /// Which code runs.
        path: String,
    },
    /// One pass of a subject in a counted round.
    Took {
        /// By place.
        subject: usize,
        /// Which.
        pass: Pass,
        /// Its seconds.
        seconds: f64,
    },
    /// A subject is measured no further.
    Dropped {
        /// By place.
        subject: usize,
        /// Why.
        reason: String,
        /// What the passes of the round that passed a cap took, seconds: all that is known of their time.
        took: Vec<(Pass, f64)>,
    },
    /// How large the process became.
    Grew(Memory),
    /// All done.
    Done,
}
