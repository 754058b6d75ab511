//! What is measured in a trained model besides its score: heads, probes, states.

use serde::{Deserialize, Serialize};
use settings::ConfigError;
use tasks::{Outline, Output};

/// Whether a key is left out of a run's spec: keys added later are, at their defaults, so that older runs keep their ids.
fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// What is measured in the trained model: `analysis: { heads: true, prune: true }`. Everything is measured on the best checkpoint
/// and kept in the run's record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
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
    /// Test sequences for a masked language model's pseudo-perplexity: every token is predicted from all others, one forward pass
    /// each (Salazar et al. 2020, arXiv:1910.14659, §2.3); 0: none.
    #[serde(skip_serializing_if = "is_zero")]
    pub pseudo_perplexity: u64,
    /// A file of minimal pairs, one JSON object a line in the form of BLiMP (Warstadt et al. 2020, arXiv:1912.00582): the share of
    /// pairs whose good sentence a language model finds likelier, by the sum over tokens of what
    /// pseudo-perplexity averages, or of a causal model's log-probabilities. The path counts from the folder the command runs
    /// in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub minimal_pairs: Option<String>,
}

impl Default for AnalysisConfig {
    fn default() -> Self {
        Self {
            heads: false,
            prune: false,
            retrain_steps: 0,
            probes: false,
            states: false,
            probe_examples: 2000,
            pseudo_perplexity: 0,
            minimal_pairs: None,
        }
    }
}

impl AnalysisConfig {
    /// Whether it asks for what only language models have.
    pub fn reads(&self) -> bool {
        self.pseudo_perplexity > 0 || self.minimal_pairs.is_some()
    }

    /// What of it cannot be asked of a task.
    pub(super) fn check_task(&self, Outline { output, causal, .. }: &Outline) -> Vec<ConfigError> {
        let mut found = Vec::new();
        let keys = [("pseudo_perplexity", self.pseudo_perplexity > 0), ("minimal_pairs", self.minimal_pairs.is_some())];
        for (key, _) in keys.iter().filter(|(_, asked)| *asked && *output != Output::Tokens) {
            let problem = format!("`{key}` is asked for, but the task does not predict tokens");
            found.push(ConfigError::new(key, problem, "put it into the entries of `mlm` and `clm` tasks"));
        }
        if self.pseudo_perplexity > 0 && *output == Output::Tokens && *causal {
            let problem = "`pseudo_perplexity` is asked for, but a causal model has a perplexity";
            found.push(ConfigError::new("pseudo_perplexity", problem, "leave it out: `perplexity` is recorded"));
        }
        found
    }
}
