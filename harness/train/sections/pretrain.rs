//! `pretrain` as a section.

use crate::base::bounds;
use crate::train::pretrain::{Objective, PretrainConfig};
use crate::train::sections::{Context, Section, Written};
use settings::ConfigError;

impl Section for PretrainConfig {
    type InRun = Option<Self>;

    fn check(&self) -> Vec<ConfigError> {
        let mut found = bounds::beyond(self);
        if self.steps == 0 {
            let help = "use 1 or more, or `objective: none` to learn from scratch";
            found.push(ConfigError::new("steps", "`steps` is 0, which is below 1", help));
        }
        if let Some(rate) = self.mask_rate.filter(|rate| !(*rate > 0.0 && *rate < 1.0)) {
            let problem = format!("`mask_rate` is {rate}, which is not between 0 and 1");
            found.push(ConfigError::new("mask_rate", problem, "use a share such as 0.15, or null"));
        }
        if let Some(lr) = self.lr.filter(|lr| !(*lr > 0.0 && lr.is_finite())) {
            let problem = format!("`lr` is {lr}, which is not above 0");
            found.push(ConfigError::new("lr", problem, "use a number such as 1e-3, or null for the optimizer's"));
        }
        if let Some(warmup) = self.warmup_steps.filter(|warmup| *warmup > self.steps) {
            let problem = format!("`warmup_steps` is {warmup}, more than the {} steps of pretraining", self.steps);
            found.push(ConfigError::new("warmup_steps", problem, format!("use {} or fewer, or null", self.steps)));
        }
        found
    }

    /// Whether the objective can be trained on the task's inputs.
    fn check_in(&self, run: &Context) -> Vec<ConfigError> {
        if self.objective == Objective::None || run.outline.is_none_or(|outline| outline.input.width() == 1) {
            return Vec::new();
        }
        let problem = format!("{} has vectors of real numbers, which self-pretraining cannot predict", run.task);
        vec![ConfigError::new("objective", problem, "put `pretrain: none` into the task's entry")]
    }

    fn resolved_in(self, run: &Context) -> Option<Option<Self>> {
        let Written { optimizer, schedule, budget, .. } = run.sections;
        Some(self.resolved(run.outline?.input, optimizer.as_ref()?, schedule.as_ref()?, budget.as_ref()?.steps))
    }
}

impl Written {
    /// What is trained before the task.
    pub fn objective(&self) -> Objective {
        self.pretrain.as_ref().map_or(Objective::None, |pretrain| pretrain.objective)
    }
}
