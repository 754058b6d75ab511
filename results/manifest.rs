//! What a sweep planned: the labels under which its runs appear in tables. A run knows its spec, a sweep its names.

use serde::{Deserialize, Serialize};

/// One planned run and its labels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlannedRun {
    /// Hash of the resolved spec.
    pub id: String,
    /// Row of the table.
    pub mixer: String,
    /// Column group of the table.
    pub task: String,
    /// The run's seed.
    pub seed: u64,
    /// Grid settings, `("optimizer.lr", "0.001")`, in the config's order; empty without a grid.
    pub settings: Vec<(String, String)>,
}

/// A sweep's plan, kept beside its records.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// The sweep's name.
    pub name: String,
    /// The question its config asks, printed above the table; may be empty.
    pub question: String,
    /// The command that made it, printed below the table.
    pub command: String,
    /// The runs in the config's order: mixers and tasks appear in tables in the order of their first run.
    pub runs: Vec<PlannedRun>,
}
