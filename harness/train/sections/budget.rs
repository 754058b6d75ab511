//! `budget` as a section.

use crate::base::bounds;
use crate::train::budget::BudgetConfig;
use crate::train::sections::{Context, Section};
use serde_json::{Value, json};
use settings::ConfigError;

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
