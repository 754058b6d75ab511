//! What a sweep planned: the labels under which its runs appear in tables. A run knows its spec, a sweep its names.

use crate::Figure;
use crate::published::Beside;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;

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
    /// The published numbers it stands beside; absent in manifests written before there were any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub published: Option<Beside>,
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
    /// What the config asks to be drawn besides scores and learning curves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<Figure>,
}

impl Manifest {
    /// The ids of its runs.
    pub fn ids(&self) -> HashSet<&str> {
        self.runs.iter().map(|run| run.id.as_str()).collect()
    }

    /// Paths of the axes that a figure draws along: every value has its own rows, and none is tuned over.
    pub(crate) fn swept(&self) -> Vec<&str> {
        let mut paths: Vec<&str> = Vec::new();
        for figure in &self.figures {
            paths.extend(figure.axes());
        }
        let mut seen = std::collections::BTreeSet::new();
        paths.retain(|path| seen.insert(*path));
        paths
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_from_before_published_numbers_can_be_read() {
        let run = r#"{"id": "a", "mixer": "s4", "task": "text", "seed": 0, "settings": []}"#;
        let old: PlannedRun = serde_json::from_str(run).expect("reads");
        assert_eq!(old.published, None);
        let text = serde_json::to_string(&old).expect("plain data");
        assert!(!text.contains("published"), "{text}");
    }
}
