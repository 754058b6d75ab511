//! The record of one measurement: cases, their times and memory, and the ratios between them.

use crate::statistics::percentile;
use crate::{Device, Versions};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::io;
use std::path::PathBuf;

/// Raised when the shape of the record changes.
pub const FORMAT: u32 = 1;
/// The mixer every other one is held against.
pub const YARDSTICK: &str = "attention";

/// What was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Suite {
    /// Every mixer at one width, by length.
    Lengths,
    /// Fixed comparisons with an attention block, each with the ratio it has to keep.
    Targets,
}

/// What is timed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pass {
    /// Forward without gradients.
    Forward,
    /// Forward and backward: gradients of the input and of every parameter.
    Training,
}

impl Pass {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Forward, Self::Training];

    /// As printed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Training => "forward+backward",
        }
    }
}

/// Resident memory of a process that did nothing else, bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Before the pass, with block and input built and libtorch's code read in.
    pub built_bytes: u64,
    /// The most it ever was.
    pub peak_bytes: u64,
}

impl Memory {
    /// What the pass added.
    pub fn added_bytes(&self) -> u64 {
        self.peak_bytes.saturating_sub(self.built_bytes)
    }
}

/// One pass of one case.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Measured {
    /// Seconds of each repeat in the order taken.
    pub seconds: Vec<f64>,
    /// Memory of a fresh process.
    pub memory: Option<Memory>,
}

impl Measured {
    /// Median and quartiles of the seconds; `None` of nothing.
    pub fn time(&self) -> Option<Spread> {
        Spread::of(&self.seconds)
    }
}

/// A median and how far half of the values lie around it.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Spread {
    /// First quartile.
    pub low: f64,
    /// Median.
    pub median: f64,
    /// Third quartile.
    pub high: f64,
}

impl Spread {
    /// Of some values; `None` of none.
    pub fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |q| percentile(&sorted, q);
        (!sorted.is_empty()).then(|| Self { low: at(0.25), median: at(0.5), high: at(0.75) })
    }
}

/// How far a case got.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum State {
    /// Measured.
    Measured,
    /// Passed a cap, died, or was left out because it had passed a cap at a shorter length.
    Stopped {
        /// Which, and where.
        reason: String,
    },
    /// This build has no such mixer.
    Absent,
}

/// What a case has to keep.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Target {
    /// Largest ratio of forward and backward time to the yardstick's.
    pub time: Option<f64>,
    /// Largest ratio of the memory that forward and backward add to the yardstick's.
    pub memory: Option<f64>,
    /// The ratio in time that the paper's own code has.
    pub reference: Option<f64>,
}

/// One block at one size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Case {
    /// Cases that were measured in turns.
    pub group: String,
    /// The mixer, as printed.
    pub label: String,
    /// The mixer's name in the registry.
    pub mixer: String,
    /// Its settings in full.
    pub settings: Value,
    /// What surrounds it: the shape of block, and what departs from that.
    pub block: String,
    /// Which code ran.
    pub path: String,
    /// Whether it was built to read only the past.
    pub causal: bool,
    /// Width.
    pub d_model: i64,
    /// Sequences.
    pub batch: i64,
    /// Positions of each.
    pub length: i64,
    /// Trainable parameters of the block.
    pub parameters: u64,
    /// Forward alone.
    pub forward: Measured,
    /// Forward and backward.
    pub training: Measured,
    /// How far it got.
    pub state: State,
    /// What it has to keep.
    pub target: Option<Target>,
}

impl Case {
    /// What one pass measured.
    pub fn pass(&self, pass: Pass) -> &Measured {
        match pass {
            Pass::Forward => &self.forward,
            Pass::Training => &self.training,
        }
    }

    /// The same, to be filled.
    pub fn pass_mut(&mut self, pass: Pass) -> &mut Measured {
        match pass {
            Pass::Forward => &mut self.forward,
            Pass::Training => &mut self.training,
        }
    }

    /// Positions of all sequences, per second of a pass's median.
    pub fn tokens_per_second(&self, pass: Pass) -> Option<f64> {
        Some((self.batch * self.length) as f64 / self.pass(pass).time()?.median)
    }
}

/// How it was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Protocol {
    /// Rounds that are not counted.
    pub warmup: usize,
    /// Rounds that are.
    pub repeats: usize,
    /// The heaviest pass may take so long, seconds.
    pub time_cap: f64,
    /// A process may take so much memory, bytes; `None` where the system knows no limit.
    pub memory_cap: Option<u64>,
    /// What is measured; both passes where an older record says nothing.
    #[serde(default = "both_passes")]
    pub passes: Vec<Pass>,
}

fn both_passes() -> Vec<Pass> {
    Pass::ALL.into()
}

impl Protocol {
    /// The most expensive pass that is measured: it decides about the caps.
    pub fn heaviest(&self) -> Pass {
        self.passes.iter().copied().max().unwrap_or(Pass::Training)
    }
}

/// One measurement.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Bench {
    /// [`FORMAT`].
    pub format: u32,
    /// The command line.
    pub command: String,
    /// What was asked for.
    pub suite: Suite,
    /// How.
    pub protocol: Protocol,
    /// Where.
    pub device: Device,
    /// With what.
    pub versions: Versions,
    /// When, seconds since 1970.
    pub started_unix: u64,
    /// Whether the user stopped it before its end.
    pub interrupted: bool,
    /// What was measured, groups together.
    pub cases: Vec<Case>,
}

/// Why a stored measurement cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// It cannot be read.
    #[error("{}: cannot be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is something else.
    #[error("{}: not a measurement of `mixarena bench`: {reason}", path.display())]
    Shape {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// It cannot be written.
    #[error("{}: cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Four numbers of a case that depend on its length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Quantity {
    /// Median seconds of forward.
    ForwardTime,
    /// Median seconds of forward and backward.
    TrainingTime,
    /// Bytes that forward adds.
    ForwardMemory,
    /// Bytes that forward and backward add.
    TrainingMemory,
}

impl Quantity {
    /// All of them, in the order of the tables.
    pub const ALL: [Self; 4] = [Self::ForwardTime, Self::TrainingTime, Self::ForwardMemory, Self::TrainingMemory];

    /// As printed.
    pub fn word(self) -> &'static str {
        match self {
            Self::ForwardTime => "time, forward",
            Self::TrainingTime => "time, forward+backward",
            Self::ForwardMemory => "memory, forward",
            Self::TrainingMemory => "memory, forward+backward",
        }
    }

    /// The pass that it is of.
    pub fn pass(self) -> Pass {
        match self {
            Self::ForwardTime | Self::ForwardMemory => Pass::Forward,
            Self::TrainingTime | Self::TrainingMemory => Pass::Training,
        }
    }

    /// Of a case, where it was measured.
    pub fn of(self, case: &Case) -> Option<f64> {
        let time = |pass| case.pass(pass).time().map(|t| t.median);
        let memory = |pass| case.pass(pass).memory.map(|m| m.added_bytes() as f64);
        match self {
            Self::ForwardTime => time(Pass::Forward),
            Self::TrainingTime => time(Pass::Training),
            Self::ForwardMemory => memory(Pass::Forward),
            Self::TrainingMemory => memory(Pass::Training),
        }
    }
}

/// Whether a case keeps its target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Kept.
    Met,
    /// Not kept, or not measured although the mixer is there.
    Missed,
    /// This build has no such mixer: nothing to hold.
    Absent,
}

impl Verdict {
    /// As printed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::Absent => "absent",
        }
    }
}

impl Bench {
    /// The attention block a case is held against.
    pub fn yardstick(&self, case: &Case) -> Option<&Case> {
        self.cases.iter().find(|other| other.group == case.group && other.mixer == YARDSTICK)
    }

    /// Time in units of the yardstick's, round by round; `None` for the yardstick itself.
    pub fn time_ratio(&self, case: &Case, pass: Pass) -> Option<Spread> {
        let yardstick = self.yardstick(case).filter(|other| !std::ptr::eq(*other, case))?;
        let (own, its) = (&case.pass(pass).seconds, &yardstick.pass(pass).seconds);
        if own.len() != its.len() {
            let ratio = Spread::of(own)?.median / Spread::of(its)?.median;
            return Some(Spread { low: ratio, median: ratio, high: ratio });
        }
        Spread::of(&own.iter().zip(its).map(|(own, its)| own / its).collect::<Vec<_>>())
    }

    /// Memory added by a pass in units of the yardstick's; `None` for the yardstick itself.
    pub fn memory_ratio(&self, case: &Case, pass: Pass) -> Option<f64> {
        let yardstick = self.yardstick(case).filter(|other| !std::ptr::eq(*other, case))?;
        let (own, its) = (case.pass(pass).memory?.added_bytes(), yardstick.pass(pass).memory?.added_bytes());
        (its > 0).then(|| own as f64 / its as f64)
    }

    /// Whether a case keeps its target; `None` without one.
    pub fn verdict(&self, case: &Case) -> Option<Verdict> {
        let target = case.target.filter(|t| t.time.is_some() || t.memory.is_some())?;
        if case.state == State::Absent {
            return Some(Verdict::Absent);
        }
        let keeps = |most: Option<f64>, ratio: Option<f64>| most.is_none_or(|most| ratio.is_some_and(|r| r <= most));
        let time = keeps(target.time, self.time_ratio(case, Pass::Training).map(|r| r.median));
        let memory = keeps(target.memory, self.memory_ratio(case, Pass::Training));
        Some(if time && memory { Verdict::Met } else { Verdict::Missed })
    }

    /// Targets that were not kept.
    pub fn missed(&self) -> usize {
        self.cases.iter().filter(|case| self.verdict(case) == Some(Verdict::Missed)).count()
    }

    /// The mixers in the order measured.
    pub fn labels(&self) -> Vec<&str> {
        let mut labels: Vec<&str> = Vec::new();
        for case in &self.cases {
            if !labels.contains(&case.label.as_str()) {
                labels.push(&case.label);
            }
        }
        labels
    }

    /// `(length, number)` of one mixer.
    pub fn points(&self, label: &str, quantity: Quantity) -> Vec<(f64, f64)> {
        let of_mixer = self.cases.iter().filter(|case| case.label == label);
        of_mixer.filter_map(|case| Some((case.length as f64, quantity.of(case)?))).collect()
    }
}
