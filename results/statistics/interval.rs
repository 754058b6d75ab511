//! Intervals, and the ranges in which scores lie.

use serde::Serialize;

/// A 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Both ends brought into a range.
    pub fn clipped(self, range: Range) -> Self {
        Self { low: self.low.clamp(range.low, range.high), high: self.high.clamp(range.low, range.high) }
    }

    /// Whether the two share a point.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}

/// Between which ends a score lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Range {
    /// Where shares live.
    pub const SHARE: Self = Self { low: 0.0, high: 1.0 };
    /// Where correlations live.
    pub const CORRELATION: Self = Self { low: -1.0, high: 1.0 };

    /// Between which ends a mean of numbers of these ranges lies; shares of none.
    pub(crate) fn of_mean(ranges: &[Self]) -> Self {
        if ranges.is_empty() {
            return Self::SHARE;
        }
        let mean_of = |end: fn(&Self) -> f64| ranges.iter().map(end).sum::<f64>() / ranges.len() as f64;
        Self { low: mean_of(|range| range.low), high: mean_of(|range| range.high) }
    }

    /// As it is printed: `[−1, 1]`.
    pub fn text(self) -> String {
        format!("[{}, {}]", self.low, self.high).replace('-', "−")
    }

    /// The part of the range that is drawn: from 0, or from the fifth below the lowest of these numbers, to the upper end.
    pub(crate) fn drawn(self, values: impl IntoIterator<Item = f64>) -> Self {
        let lowest = values.into_iter().filter(|value| value.is_finite()).fold(0.0, f64::min);
        // Rounding may put a fifth a little below itself.
        Self { low: ((5.0 * lowest + 1e-9).floor() / 5.0).max(self.low), ..self }
    }

    /// Fifths within the range, with their labels.
    pub(crate) fn ticks(self) -> Vec<(f64, String)> {
        let (first, last) = ((5.0 * self.low).round() as i32, (5.0 * self.high).round() as i32);
        let fifth = |i: i32| (f64::from(i) / 5.0, format!("{:.1}", f64::from(i) / 5.0).replace('-', "−"));
        // Every second one below 0 and above, where all would crowd.
        let step = if last - first > 6 { 2 } else { 1 };
        (first..=last).filter(|i| i % step == 0 || *i == last).map(fifth).collect()
    }

    /// Where a value lies from the lower end, 0, to the upper, 1; what is beyond lies at the end.
    pub(crate) fn share(self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}
