//! Why a run could not be trained to an outcome.

use crate::train::checkpoint::CheckpointError;
use tasks::DataError;

/// Why a run could not be trained to an outcome.
#[derive(Debug, thiserror::Error)]
pub enum TrainError {
    /// The data are missing or malformed.
    #[error(transparent)]
    Data(#[from] DataError),
    /// A checkpoint cannot be read or written.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The best checkpoint of a run that was trained is of no use: its weights are nowhere else.
    #[error("{0}")]
    BestLost(CheckpointError),
    /// The run that this one starts from has no checkpoint to give.
    #[error("{0}")]
    StartLost(CheckpointError),
    /// The spec names what this build does not have, or data that have changed.
    #[error("{0}")]
    Spec(String),
}
