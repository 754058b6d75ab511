//! `optimizer` as a section.

use crate::train::optimizer::{OptimizerConfig, WidthScaling};
use crate::train::sections::{Context, Section};
use serde_json::{Value, json};
use settings::ConfigError;

impl Section for OptimizerConfig {
    type InRun = Self;

    fn variants() -> Vec<(&'static str, Value)> {
        vec![
            ("weights decayed", json!({ "decayed": "weights" })),
            ("all decayed", json!({ "decayed": "all" })),
            ("no clipping", json!({ "clip_norm": null })),
            ("hard clipping", json!({ "clip_norm": 0.01 })),
            ("unexempted decayed", json!({ "decayed": "unexempted" })),
            ("moments of other decays", json!({ "beta1": 0.5, "beta2": 0.9 })),
            ("rates by width", json!({ "width_scaling": "mup", "base_width": 16 })),
        ]
    }

    fn check(&self) -> Vec<ConfigError> {
        let mut found = Vec::new();
        let mut need = |key: &'static str, ok: bool, value: f64, rule: &str| {
            if !ok {
                found.push(ConfigError::new(
                    key,
                    format!("`{key}` is {value}, which is not {rule}"),
                    format!("use a number that is {rule}"),
                ));
            }
        };
        need("lr", self.lr > 0.0 && self.lr.is_finite(), self.lr, "above 0");
        need("weight_decay", self.weight_decay >= 0.0 && self.weight_decay.is_finite(), self.weight_decay, "0 or more");
        need("beta1", (0.0..1.0).contains(&self.beta1), self.beta1, "at least 0 and below 1");
        need("beta2", (0.0..1.0).contains(&self.beta2), self.beta2, "at least 0 and below 1");
        need("eps", self.eps > 0.0, self.eps, "above 0");
        if let Some(norm) = self.clip_norm {
            need("clip_norm", norm > 0.0, norm, "above 0 (or null)");
        }
        if let Some(base) = self.base_width {
            if self.width_scaling == WidthScaling::None {
                let problem = "`base_width` is set, but `width_scaling` is none: no rate travels from it";
                found.push(ConfigError::new("base_width", problem, "leave it out, or set `width_scaling: mup`"));
            }
            let at_most = mixers::core::limits::D_MODEL;
            if !(1..=at_most).contains(&base) {
                let problem = format!("`base_width` is {base}, which is not between 1 and {at_most}");
                found.push(ConfigError::new("base_width", problem, "use a width such as 128"));
            }
        }
        found
    }

    fn resolved_in(self, _run: &Context) -> Option<Self> {
        Some(self)
    }
}
