//! What a training process tells the one that started it: one JSON object a line.

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Another process still trains this run, and this one waits for its end.
    Waiting,
    /// The model is built.
    Started {
        /// Trainable scalars.
        parameters: u64,
        /// Step the run continues from; 0 for a new one.
        resumed_from: u64,
        /// Remarks on the data, which every run on them has to make.
        notes: Vec<String>,
        /// The optimizer's groups, a line each.
        #[serde(default)]
        groups: Vec<String>,
    },
    /// Training goes on.
    Progress(Progress),
    /// Validation was scored.
    Evaluated(results::Point),
    /// Every step is done: what is left is scored without a limit of time.
    Trained,
    /// Another process finished this run while this one waited for it; there is nothing to do.
    Already {
        /// The attempt that finished.
        attempt: u32,
    },
    /// A record was written; the process ends.
    Ended {
        /// The attempt it was filed under.
        attempt: u32,
        /// [`results::Outcome::word`].
        outcome: String,
        /// Test score, where there is one.
        test: Option<f64>,
    },
}

/// Where training stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Steps of the budget.
    pub steps: u64,
    /// Training loss, averaged over the last steps, nats.
    pub loss: f64,
    /// Speed since the last line.
    pub steps_per_second: f64,
    /// Seconds left at that speed, evaluation not counted.
    pub seconds_left: f64,
}
