//! Learning-rate schedules: a factor on every group's peak rate, by step.

use serde::{Deserialize, Serialize};
use settings::ConfigError;

/// The curve after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Stays at the peak.
    Constant,
    /// Half a cosine from the peak to `final_factor`.
    #[default]
    Cosine,
    /// A straight line from the peak to `final_factor`.
    Linear,
    /// `1 / √max(step, warmup)`, the Long Range Arena's rule for its text tasks; `lr` is then its base rate.
    InverseSqrt,
}

/// The learning rate over the steps: `schedule: { shape: cosine, warmup_steps: 100 }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// Curve after warm-up.
    pub shape: Shape,
    /// Steps over which the rate rises linearly from 0.
    pub warmup_steps: u64,
    /// Where cosine and linear end, as a share of the peak.
    pub final_factor: f64,
    /// Whether warm-up starts at rate 0: step k, counted from 0, has k / `warmup_steps` of the peak (the schedules of Hugging
    /// Face, S4 and the Long Range Arena); else (k + 1) / `warmup_steps`.
    #[serde(skip_serializing_if = "is_false")]
    pub from_zero: bool,
    /// Steps from the end of warm-up to the end of cosine and linear; null: to the last step. A run that ends sooner ends above
    /// `final_factor`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cycle_steps: Option<u64>,
    /// The learning rate at which cosine and linear end, in place of `final_factor` (MAD: 1e-6). Parameters with a rate of
    /// their own end at the same share of it as the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_lr: Option<f64>,
    /// Steps between changes of the rate: 1 changes it at every step, the steps of an epoch once an epoch (Zoology, MAD).
    #[serde(skip_serializing_if = "is_one")]
    pub hold_steps: u64,
}

fn is_false(flag: &bool) -> bool {
    !*flag
}

/// Whether `hold_steps` stays out of a run's identity, for it is younger than the runs there are.
fn is_one(steps: &u64) -> bool {
    *steps == 1
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self {
            shape: Shape::Cosine,
            warmup_steps: 0,
            final_factor: 0.0,
            from_zero: false,
            cycle_steps: None,
            final_lr: None,
            hold_steps: 1,
        }
    }
}

impl ScheduleConfig {
    /// What is wrong with these settings in a run of `steps` whose peak rate is `lr`.
    pub(super) fn check_over(&self, steps: u64, lr: f64) -> Vec<ConfigError> {
        let mut found = Vec::new();
        if let Some(last) = self.final_lr.filter(|last| !(0.0..=lr).contains(last)) {
            let problem = format!("`final_lr` is {last}, which is not between 0 and the peak rate, `lr` = {lr}");
            found.push(ConfigError::new("final_lr", problem, "use a lower rate, or leave it out"));
        }
        // The Long Range Arena trains Retrieval for 5,000 steps of a warm-up of 8,000: the rule's scale, not a slip.
        if self.warmup_steps > steps && self.shape != Shape::InverseSqrt {
            found.push(ConfigError::new(
                "warmup_steps",
                format!("`warmup_steps` is {}, more than the {steps} steps of the budget", self.warmup_steps),
                format!("use {steps} or fewer; a tenth of the budget is common"),
            ));
        }
        found
    }

    /// The factor for the update that follows `step` finished ones, in a run of `steps` whose peak rate is `lr`.
    pub fn factor(&self, step: u64, steps: u64, lr: f64) -> f64 {
        let step = step - step % self.hold_steps.max(1);
        let last = self.final_lr.map_or(self.final_factor, |last| (last / lr).min(1.0));
        let now = step as f64 + if self.from_zero { 0.0 } else { 1.0 };
        let warmup = self.warmup_steps as f64;
        let rise = if now < warmup { now / warmup } else { 1.0 };
        // Share of the way from the end of warm-up to the end of the curve.
        let cycle = self.cycle_steps.map_or(steps as f64 - warmup, |cycle| cycle as f64);
        let way = ((step as f64 - warmup) / cycle.max(1.0)).clamp(0.0, 1.0);
        let fall = |curve: f64| last + (1.0 - last) * curve;
        rise * match self.shape {
            Shape::Constant => 1.0,
            Shape::Cosine => fall(0.5 * (1.0 + (std::f64::consts::PI * way).cos())),
            Shape::Linear => fall(1.0 - way),
            Shape::InverseSqrt => 1.0 / now.max(warmup).max(1.0).sqrt(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::sections::Section;

    /// Keys that are wrong in a run of `steps` at a rate of 1e-3.
    fn wrong(schedule: &ScheduleConfig, steps: u64) -> Vec<&'static str> {
        schedule.check().into_iter().chain(schedule.check_over(steps, 1e-3)).map(|m| m.key).collect()
    }

    fn schedule(shape: Shape) -> ScheduleConfig {
        ScheduleConfig { shape, warmup_steps: 10, final_factor: 0.1, ..Default::default() }
    }

    #[test]
    fn warm_up_rises_in_equal_parts_to_the_peak() {
        let s = schedule(Shape::Constant);
        assert_eq!(s.factor(0, 100, 1e-3), 0.1);
        assert_eq!(s.factor(4, 100, 1e-3), 0.5);
        assert_eq!(s.factor(9, 100, 1e-3), 1.0);
        assert_eq!(s.factor(99, 100, 1e-3), 1.0);
    }

    #[test]
    fn cosine_and_linear_pass_the_middle_and_end_at_the_final_factor() {
        for shape in [Shape::Cosine, Shape::Linear] {
            let s = schedule(shape);
            assert_eq!(s.factor(10, 110, 1e-3), 1.0);
            assert!((s.factor(60, 110, 1e-3) - 0.55).abs() < 1e-12);
            assert!((s.factor(110, 110, 1e-3) - 0.1).abs() < 1e-12);
        }
    }

    #[test]
    fn only_the_inverse_square_root_may_end_in_its_warm_up() {
        let keys = |shape| wrong(&schedule(shape), 5);
        assert_eq!(keys(Shape::Cosine), ["warmup_steps"]);
        assert!(keys(Shape::InverseSqrt).is_empty());
    }

    #[test]
    fn the_inverse_square_root_follows_the_arena_formula() {
        let s = ScheduleConfig { shape: Shape::InverseSqrt, warmup_steps: 1000, ..Default::default() };
        assert!((s.factor(499, 5000, 1e-3) - 0.5 / 1000f64.sqrt()).abs() < 1e-12);
        assert!((s.factor(3999, 5000, 1e-3) - 1.0 / 4000f64.sqrt()).abs() < 1e-12);
        let s = ScheduleConfig { from_zero: true, ..s };
        assert_eq!(s.factor(0, 5000, 1e-3), 0.0);
        assert!((s.factor(500, 5000, 1e-3) - 0.5 / 1000f64.sqrt()).abs() < 1e-12);
        assert!((s.factor(4000, 5000, 1e-3) - 1.0 / 4000f64.sqrt()).abs() < 1e-12);
    }

    /// `lr(step) = base · min(1, step / 175) · ½ (1 + cos(π · max(0, step − 175) / 35000))` over the steps 0 to 34,999 of Image.
    #[test]
    fn the_arena_s_cosine_ends_a_warm_up_s_length_before_its_cycle() {
        let text = r#"{"shape":"cosine","warmup_steps":175,"from_zero":true,"cycle_steps":35000}"#;
        let s: ScheduleConfig = serde_json::from_str(text).unwrap();
        assert!(wrong(&s, 35_000).is_empty());
        let theirs = |step: f64| {
            let progress = (step - 175.0).max(0.0) / 35_000.0;
            (step / 175.0).min(1.0) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos())
        };
        for step in [0, 1, 174, 175, 176, 17_675, 34_999] {
            assert!((s.factor(step, 35_000, 1e-3) - theirs(step as f64)).abs() < 1e-15, "{step}");
        }
        assert!(s.factor(34_999, 35_000, 1e-3) > 6e-5, "not yet at the end");
        let written = serde_json::to_value(ScheduleConfig::default()).unwrap();
        assert_eq!(
            written,
            serde_json::json!({"shape": "cosine", "warmup_steps": 0, "final_factor": 0.0}),
            "run ids stay"
        );
    }

    #[test]
    fn a_cycle_wants_a_curve_that_ends() {
        let keys = |shape, cycle| {
            let s = ScheduleConfig { cycle_steps: Some(cycle), ..schedule(shape) };
            wrong(&s, 100)
        };
        assert!(keys(Shape::Linear, 200).is_empty());
        assert_eq!(keys(Shape::Cosine, 0), ["cycle_steps"]);
        assert_eq!(keys(Shape::Constant, 50), ["cycle_steps"]);
        assert_eq!(keys(Shape::InverseSqrt, 50), ["cycle_steps"]);
    }

    /// `CosineAnnealingLR(T_max = 4 epochs, eta_min = 1e-6)` stepped once an epoch of 100 steps, by PyTorch's formula.
    #[test]
    fn a_held_rate_changes_once_an_epoch_and_ends_at_the_rate_that_is_named() {
        let by_epoch = ScheduleConfig { final_lr: Some(1e-6), hold_steps: 100, ..Default::default() };
        for (step, epoch) in [(0, 0), (99, 0), (100, 1), (199, 1), (399, 3)] {
            let angle = std::f64::consts::PI * f64::from(epoch) / 4.0;
            let want = 1e-6 + (5e-4 - 1e-6) * (1.0 + angle.cos()) / 2.0;
            let rate = 5e-4 * by_epoch.factor(step, 400, 5e-4);
            assert!((rate - want).abs() < 1e-15, "step {step}: {rate} for {want}");
        }
        let plain = ScheduleConfig::default();
        assert!(plain.factor(99, 400, 5e-4) < plain.factor(0, 400, 5e-4), "without it every step has its own");
        let written = serde_json::to_value(plain).unwrap();
        assert!(written.get("final_lr").is_none() && written.get("hold_steps").is_none(), "older runs keep their ids");
    }

    #[test]
    fn an_end_above_the_peak_two_ends_and_no_step_to_hold_are_mistakes() {
        let keys = |s: ScheduleConfig| wrong(&s, 100);
        let with = |final_lr, final_factor, hold_steps| ScheduleConfig {
            final_lr,
            final_factor,
            hold_steps,
            ..Default::default()
        };
        assert_eq!(keys(with(Some(2e-3), 0.0, 1)), ["final_lr"]);
        assert_eq!(keys(with(Some(-1e-6), 0.0, 1)), ["final_lr"]);
        assert_eq!(keys(with(Some(f64::NAN), 0.0, 1)), ["final_lr"]);
        assert_eq!(keys(with(Some(1e-6), 0.1, 1)), ["final_lr"]);
        assert_eq!(keys(with(None, 0.0, 0)), ["hold_steps"]);
        assert!(
            keys(with(Some(1e-3), 0.0, 500)).is_empty(),
            "the peak itself, held for the whole run, is a constant rate"
        );
    }
}
