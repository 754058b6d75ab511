//! How long a run trains, and how often it is evaluated and kept.

use crate::base::bounds;
use crate::train::sections::{Context, Section};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use settings::ConfigError;

/// How long to train, and how often to evaluate: `budget: { steps: 1000, batch_size: 32 }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetConfig {
    /// Optimizer steps at most.
    pub steps: u64,
    /// Batch size: sequences per optimizer step.
    pub batch_size: u64,
    /// Micro-batch size: sequences per forward and backward pass, a pair of documents counting once; gradients accumulate over the
    /// batch. `null`: the whole batch. A batch norm sees one micro-batch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub micro_batch: Option<u64>,
    /// Batch size of evaluation; `null`: as in training.
    pub eval_batch_size: Option<u64>,
    /// Evaluate on validation every so many optimizer steps.
    pub eval_every: u64,
    /// Stop after so many evaluations without a better validation score; `null`: never.
    pub patience: Option<u64>,
    /// Stop once the validation score reaches this; `null`: never.
    pub stop_at: Option<f64>,
    /// Write a checkpoint every so many steps; `null`: at every evaluation.
    pub checkpoint_every: Option<u64>,
    /// Limit on the training time of all attempts together, in minutes; `null`: none. It does not cut the evaluation on test after
    /// the last step.
    pub timeout_minutes: Option<f64>,
}

impl Default for BudgetConfig {
    fn default() -> Self {
        Self {
            steps: 1000,
            batch_size: 32,
            micro_batch: None,
            eval_batch_size: None,
            eval_every: 100,
            patience: None,
            stop_at: None,
            checkpoint_every: None,
            timeout_minutes: None,
        }
    }
}

impl Section for BudgetConfig {
    type InRun = Self;

    const WITHOUT_EFFECT: &'static [&'static str] = &["checkpoint_every", "timeout_minutes"];

    fn variants() -> Vec<(&'static str, Value)> {
        vec![("parts of a batch", json!({ "micro_batch": 3 }))]
    }

    fn check(&self) -> Vec<ConfigError> {
        let mut found = bounds::beyond(self);
        let counts = [
            ("steps", Some(self.steps)),
            ("batch_size", Some(self.batch_size)),
            ("micro_batch", self.micro_batch),
            ("eval_batch_size", self.eval_batch_size),
            ("eval_every", Some(self.eval_every)),
            ("patience", self.patience),
            ("checkpoint_every", self.checkpoint_every),
        ];
        for (key, _) in counts.iter().filter(|(_, value)| *value == Some(0)) {
            found.push(ConfigError::new(key, format!("`{key}` is 0, which is below 1"), "use 1 or more"));
        }
        if let Some(score) = self.stop_at.filter(|s| !(*s > 0.0 && *s <= 1.0)) {
            let problem = format!("`stop_at` is {score}, which is not a score above 0 and up to 1");
            found.push(ConfigError::new("stop_at", problem, "use a share such as 0.999"));
        }
        if let Some(minutes) = self.timeout_minutes.filter(|m| !(*m > 0.0 && m.is_finite())) {
            let problem = format!("`timeout_minutes` is {minutes}, which is not above 0");
            found.push(ConfigError::new("timeout_minutes", problem, "use a number of minutes, or null for no limit"));
        }
        found
    }

    fn resolved_in(self, _run: &Context) -> Option<Self> {
        Some(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_of_nothing_is_refused_key_by_key() {
        let budget = BudgetConfig { steps: 0, eval_every: 0, stop_at: Some(2.0), ..Default::default() };
        let keys: Vec<_> = budget.check().iter().map(|m| m.key).collect();
        assert_eq!(keys, ["steps", "eval_every", "stop_at"]);
    }
}
