//! Learning-rate schedules: a factor on every group's peak rate, by step.

use crate::bounds;
use crate::config::Mistake;
use serde::{Deserialize, Serialize};

/// The curve after warm-up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// `schedule: { shape: cosine, warmup_steps: 100 }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScheduleConfig {
    /// Curve after warm-up.
    pub shape: Shape,
    /// Steps over which the rate rises linearly from 0.
    pub warmup_steps: u64,
    /// Where cosine and linear end, as a share of the peak.
    pub final_factor: f64,
}

impl Default for ScheduleConfig {
    fn default() -> Self {
        Self { shape: Shape::Cosine, warmup_steps: 0, final_factor: 0.0 }
    }
}

impl ScheduleConfig {
    /// Everything wrong with these settings in a run of `steps`.
    pub fn check(&self, steps: u64) -> Vec<Mistake> {
        let mut found = bounds::beyond(self);
        if !(0.0..=1.0).contains(&self.final_factor) {
            found.push(Mistake::new(
                "final_factor",
                format!("`final_factor` is {}, which is not between 0 and 1", self.final_factor),
                "use a share of the peak rate, such as 0 or 0.1",
            ));
        }
        // The Long Range Arena trains Retrieval for 5,000 steps of a warm-up of 8,000: the rule's scale, not a slip.
        if self.warmup_steps > steps && self.shape != Shape::InverseSqrt {
            found.push(Mistake::new(
                "warmup_steps",
                format!("`warmup_steps` is {}, more than the {steps} steps of the budget", self.warmup_steps),
                format!("use {steps} or fewer; a tenth of the budget is common"),
            ));
        }
        found
    }

    /// The factor for the update that follows `step` finished ones, in a run of `steps`.
    pub fn factor(&self, step: u64, steps: u64) -> f64 {
        let (now, warmup) = ((step + 1) as f64, self.warmup_steps as f64);
        let rise = if now < warmup { now / warmup } else { 1.0 };
        // Share of the way from the end of warm-up to the last step.
        let way = ((step as f64 - warmup) / (steps as f64 - warmup).max(1.0)).clamp(0.0, 1.0);
        let fall = |curve: f64| self.final_factor + (1.0 - self.final_factor) * curve;
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

    fn schedule(shape: Shape) -> ScheduleConfig {
        ScheduleConfig { shape, warmup_steps: 10, final_factor: 0.1 }
    }

    #[test]
    fn warm_up_rises_in_equal_parts_to_the_peak() {
        let s = schedule(Shape::Constant);
        assert_eq!(s.factor(0, 100), 0.1);
        assert_eq!(s.factor(4, 100), 0.5);
        assert_eq!(s.factor(9, 100), 1.0);
        assert_eq!(s.factor(99, 100), 1.0);
    }

    #[test]
    fn cosine_and_linear_pass_the_middle_and_end_at_the_final_factor() {
        for shape in [Shape::Cosine, Shape::Linear] {
            let s = schedule(shape);
            assert_eq!(s.factor(10, 110), 1.0);
            assert!((s.factor(60, 110) - 0.55).abs() < 1e-12);
            assert!((s.factor(110, 110) - 0.1).abs() < 1e-12);
        }
    }

    #[test]
    fn only_the_inverse_square_root_may_end_in_its_warm_up() {
        let keys = |shape| schedule(shape).check(5).iter().map(|m| m.key).collect::<Vec<_>>();
        assert_eq!(keys(Shape::Cosine), ["warmup_steps"]);
        assert!(keys(Shape::InverseSqrt).is_empty());
    }

    #[test]
    fn the_inverse_square_root_follows_the_arena_formula() {
        let s = ScheduleConfig { shape: Shape::InverseSqrt, warmup_steps: 1000, final_factor: 0.0 };
        assert!((s.factor(499, 5000) - 0.5 / 1000f64.sqrt()).abs() < 1e-12);
        assert!((s.factor(3999, 5000) - 1.0 / 4000f64.sqrt()).abs() < 1e-12);
    }
}
