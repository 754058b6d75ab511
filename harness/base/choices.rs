//! Words of the command line that a process passes on to those it starts.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Where to compute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum DeviceKind {
    /// The processor
    Cpu,
    /// The first CUDA device, opened at run time
    Cuda,
}

impl DeviceKind {
    /// As typed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
        }
    }
}

/// Which checkpoints of a finished run are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum KeepKind {
    /// The best weights, for `start:`, `matrix` and `export-weights`
    Best,
    /// These, and the last ones with the optimizer's state: three times as large
    All,
    /// None, but for what a run of the sweep still starts from
    None,
}

impl KeepKind {
    /// As it is typed.
    pub fn word(self) -> &'static str {
        match self {
            Self::Best => "best",
            Self::All => "all",
            Self::None => "none",
        }
    }
}

impl From<KeepKind> for results::Keep {
    fn from(kind: KeepKind) -> Self {
        match kind {
            KeepKind::Best => Self::Best,
            KeepKind::All => Self::All,
            KeepKind::None => Self::None,
        }
    }
}

impl From<results::Keep> for KeepKind {
    fn from(keep: results::Keep) -> Self {
        match keep {
            results::Keep::Best => Self::Best,
            results::Keep::All => Self::All,
            results::Keep::None => Self::None,
        }
    }
}
