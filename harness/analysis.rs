//! What is looked at in a trained model besides its score: heads, probes, states.

use crate::config::Mistake;
use serde::{Deserialize, Serialize};

/// `analysis: { heads: true, prune: true }`. Everything is measured on the best checkpoint and kept in the run's record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AnalysisConfig {
    /// The rise of the validation loss when one head alone is silenced, for every head of every layer; and, by rank within the layer,
    /// as a share of the layer's rises (Chen, Zhao and Zou 2024, arXiv:2408.04532).
    pub heads: bool,
    /// Test scores of the model that keeps every head of the first layer and of each later layer the most important one.
    pub prune: bool,
    /// Optimizer steps of brief retraining of that pruned model; 0: none.
    pub retrain_steps: u64,
    /// A linear map from the embedding, and from each layer, to the answer, fitted by least squares on training examples.
    pub probes: bool,
    /// Mean, variance and largest magnitude of each layer's decoding state by position, on the longest test examples.
    pub states: bool,
    /// Training examples that probes are fitted on.
    pub probe_examples: u64,
}

impl Default for AnalysisConfig {
    fn default() -> Self {
        Self { heads: false, prune: false, retrain_steps: 0, probes: false, states: false, probe_examples: 2000 }
    }
}

impl AnalysisConfig {
    /// Everything wrong with these settings.
    pub fn check(&self) -> Vec<Mistake> {
        let mut found = Vec::new();
        if !(1..=1_000_000).contains(&self.probe_examples) {
            let problem = format!("`probe_examples` is {}, which is not between 1 and 1000000", self.probe_examples);
            found.push(Mistake::new("probe_examples", problem, "use some thousand"));
        }
        if self.retrain_steps > 0 && !self.prune {
            let problem = format!("`retrain_steps` is {}, but nothing is pruned", self.retrain_steps);
            found.push(Mistake::new("retrain_steps", problem, "add `prune: true`, or leave it out"));
        }
        found
    }

    /// The same; `None` where it asks for nothing. Keys without effect have their defaults.
    pub fn resolved(self) -> Option<Self> {
        let asks = self.heads || self.prune || self.probes || self.states;
        let probe_examples = if self.probes { self.probe_examples } else { Self::default().probe_examples };
        asks.then_some(Self { probe_examples, ..self })
    }
}
