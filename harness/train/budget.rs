//! How long a run trains, and how often it is evaluated and kept.

use serde::{Deserialize, Serialize};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::sections::Section;

    #[test]
    fn a_budget_of_nothing_is_refused_key_by_key() {
        let budget = BudgetConfig { steps: 0, eval_every: 0, stop_at: Some(2.0), ..Default::default() };
        let keys: Vec<_> = budget.check().iter().map(|m| m.key).collect();
        assert_eq!(keys, ["steps", "eval_every", "stop_at"]);
    }
}
