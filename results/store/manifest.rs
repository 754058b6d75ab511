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
    /// How its settings were searched; absent without a search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tuned: Option<Tuned>,
}

/// What a search chose.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tuned {
    /// Settings tried.
    pub tried: usize,
    /// Times an axis was extended beyond its end.
    #[serde(default)]
    pub extended: u32,
    /// The setting that won, `("optimizer.lr", "0.003")`.
    pub chosen: Vec<(String, String)>,
    /// Keys whose value stands at the edge of what was tried: a better one may lie beyond.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub at_edge: Vec<String>,
    /// Whether no run of the search finished, so that the first setting stands in.
    #[serde(default, skip_serializing_if = "is_false")]
    pub none_finished: bool,
}

fn is_false(flag: &bool) -> bool {
    !flag
}

/// One short run of a search. It is never part of a mean.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SearchRun {
    /// Hash of the resolved spec.
    pub id: String,
    /// Label of the mixer.
    pub mixer: String,
    /// Label of the task.
    pub task: String,
    /// The run's seed.
    pub seed: u64,
    /// Grid settings, as those of [`PlannedRun`].
    pub settings: Vec<(String, String)>,
    /// The setting that it tries.
    pub tried: Vec<(String, String)>,
    /// Its steps as a share of those of a run.
    pub share: f64,
}

/// What is expected of the test score of a mixer on a task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Expectation {
    /// Label of the mixer.
    pub mixer: String,
    /// Label of the task.
    pub task: String,
    /// What the score must be.
    pub wanted: Wanted,
    /// What decides.
    #[serde(default)]
    pub by: By,
    /// Who says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// What a score must be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// As high or higher.
    AtLeast(f64),
    /// As low or lower.
    AtMost(f64),
    /// Higher than that of another mixer, by its label.
    Above(String),
}

/// What decides on an expectation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// The mean over seeds.
    #[default]
    Mean,
    /// The whole 95 % interval.
    Interval,
}

impl Expectation {
    /// In words: `at least 0.95, by interval`.
    pub(crate) fn words(&self) -> String {
        let wanted = match &self.wanted {
            Wanted::AtLeast(least) => format!("at least {least}"),
            Wanted::AtMost(most) => format!("at most {most}"),
            Wanted::Above(other) => format!("above {other}"),
        };
        if self.by == By::Interval { wanted + ", by interval" } else { wanted }
    }
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
    /// The runs of the search under `tune`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub search: Vec<SearchRun>,
    /// What the config expects of scores.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expect: Vec<Expectation>,
    /// What the config asks to be drawn besides scores and learning curves.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub figures: Vec<Figure>,
    /// How the sizes of its models were chosen; absent where they were written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched: Option<Matching>,
    /// Which of its mixers are changes to another one; absent without `ablate`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ablation: Option<Ablation>,
}

/// An entry and changes to it, each a mixer of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ablation {
    /// Label of the entry that is changed.
    pub base: String,
    /// The changes in the config's order.
    pub changes: Vec<Change>,
}

/// A change to an entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// Row of the table.
    pub label: String,
    /// The settings that differ, `("mixer.hydra.shift", "false")`.
    pub sets: Vec<(String, String)>,
}

/// How the sizes of a sweep's models were chosen.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Matching {
    /// What is alike: `parameters`, `flops` (of a forward pass on the task's longest sequence) or `state` (bytes).
    pub measure: String,
    /// The mixer whose size it is; absent where it is a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<String>,
    /// Largest share by which a model may miss its target.
    pub tolerance: f64,
    /// Keys that were chosen: `d_model`.
    pub by: Vec<String>,
    /// Every model, in the order of the runs.
    pub models: Vec<SizedModel>,
}

/// A model and its size.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SizedModel {
    /// Column group of the table.
    pub task: String,
    /// Row of the table.
    pub mixer: String,
    /// Grid settings, as those of [`PlannedRun`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub settings: Vec<(String, String)>,
    /// Keys and the values chosen for them; none for the model that sets the size.
    pub chosen: Vec<(String, String)>,
    /// Its size.
    pub size: u64,
    /// The size it was to have.
    pub target: u64,
}

impl SizedModel {
    /// How far it is off, as a share of the target.
    pub fn off(&self) -> f64 {
        self.size as f64 / self.target as f64 - 1.0
    }

    /// `d_model 82, d_ff 300`; `as written`.
    pub fn chosen_text(&self) -> String {
        let keys: Vec<String> = self.chosen.iter().map(|(key, value)| format!("{key} {value}")).collect();
        if keys.is_empty() { "as written".into() } else { keys.join(", ") }
    }
}

impl Manifest {
    /// The ids of its runs, and of those of its search.
    pub fn ids(&self) -> HashSet<&str> {
        let search = self.search.iter().map(|run| run.id.as_str());
        self.runs.iter().map(|run| run.id.as_str()).chain(search).collect()
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
