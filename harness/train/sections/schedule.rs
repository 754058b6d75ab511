//! `schedule` as a section.

use crate::base::bounds;
use crate::train::schedule::{ScheduleConfig, Shape};
use crate::train::sections::{Context, Section};
use serde_json::{Value, json};
use settings::ConfigError;

impl Section for ScheduleConfig {
    type InRun = Self;

    fn variants() -> Vec<(&'static str, Value)> {
        vec![
            ("linear schedule", json!({ "shape": "linear", "warmup_steps": 2 })),
            ("cosine to a tenth", json!({ "shape": "cosine", "final_factor": 0.1, "warmup_steps": 1 })),
            ("inverse root", json!({ "shape": "inverse_sqrt", "warmup_steps": 2 })),
            ("constant rate", json!({ "shape": "constant" })),
            ("warm-up from zero", json!({ "from_zero": true, "warmup_steps": 2 })),
            ("a cycle that ends before the run", json!({ "cycle_steps": 2 })),
            ("a last rate", json!({ "final_lr": 1e-3 })),
            ("a rate held for two steps", json!({ "hold_steps": 2 })),
        ]
    }

    fn check(&self) -> Vec<ConfigError> {
        let mut found = bounds::beyond(self);
        if !(0.0..=1.0).contains(&self.final_factor) {
            found.push(ConfigError::new(
                "final_factor",
                format!("`final_factor` is {}, which is not between 0 and 1", self.final_factor),
                "use a share of the peak rate, such as 0 or 0.1",
            ));
        }
        if self.final_lr.is_some() && self.final_factor != 0.0 {
            let problem = "`final_lr` and `final_factor` both say where the rate ends";
            found.push(ConfigError::new("final_lr", problem, "leave one of them out"));
        }
        if self.hold_steps == 0 {
            let help = "use 1 to change the rate at every step, or the steps of an epoch to change it once an epoch";
            found.push(ConfigError::new("hold_steps", "`hold_steps` is 0, which is below 1", help));
        }
        match (self.cycle_steps, self.shape) {
            (Some(0), _) => found.push(ConfigError::new(
                "cycle_steps",
                "`cycle_steps` is 0, which is below 1",
                "use 1 or more, or null for the rest of the budget",
            )),
            (Some(_), Shape::Constant | Shape::InverseSqrt) => found.push(ConfigError::new(
                "cycle_steps",
                "`cycle_steps` is set, but only cosine and linear come to an end",
                "leave it out, or use `shape: cosine`",
            )),
            _ => {}
        }
        found
    }

    fn check_in(&self, run: &Context) -> Vec<ConfigError> {
        let Some(budget) = &run.sections.budget else { return Vec::new() };
        self.check_over(budget.steps, run.sections.optimizer.as_ref().map_or(f64::INFINITY, |optimizer| optimizer.lr))
    }

    fn resolved_in(self, _run: &Context) -> Option<Self> {
        Some(self)
    }
}
