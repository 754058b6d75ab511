//! Means over tasks: the number, how it is printed, and what its interval is.

use crate::statistics::{Coverage, Interval, OF_MEANS, OF_MIDDLES};
use crate::table::sweep::Sweep;
use serde::Serialize;

/// A mean over tasks.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct TaskMean {
    /// Mean over tasks of the mean over seeds.
    pub mean: f64,
    /// By Welch and Satterthwaite over seeds, or of sums by seed where runs of one seed share a start, clipped to the range of the
    /// scores; `None` where a task has fewer than two seeds.
    pub interval: Option<Interval>,
}

/// `0.672 [0.664, 0.681]`, or `-`.
pub(crate) fn text(mean: Option<TaskMean>) -> String {
    match mean {
        Some(TaskMean { mean, interval: Some(Interval { low, high }) }) => format!("{mean:.3} [{low:.3}, {high:.3}]"),
        Some(TaskMean { mean, interval: None }) => format!("{mean:.3}"),
        None => "-".into(),
    }
}

/// What the intervals of averages are where runs of one seed share a start.
const PAIRED: &str = "Runs of one seed start from the same pretrained run, so tasks are not independent: intervals are 95 % t intervals \
                      over seeds of the sums over tasks, with n - 1 degrees of freedom for the n seeds that have every task, cut to \
                      the range of the scores.";

/// What the intervals of averages are, and how often they held in simulation.
pub(crate) fn intervals(sweep: &Sweep) -> String {
    if sweep.shares_starts() {
        return PAIRED.into();
    }
    format!(
        "Intervals are 95 % t intervals over the seeds of each task, with Welch and Satterthwaite's degrees of freedom, cut to the \
         range of the scores. {}",
        held("they hold the true mean", "they do so", &OF_MEANS)
    )
}

/// The same of an interquartile mean.
pub(crate) fn middle_intervals(sweep: &Sweep) -> String {
    if sweep.shares_starts() {
        return "Its interval is a t interval over seeds of the interquartile means of single seeds, which start from the same \
                pretrained run on every task."
            .into();
    }
    format!(
        "Its interval is a t interval whose standard error is the spread over seeds redrawn within each task. {}",
        held("it holds the true interquartile mean", "it does so", &OF_MIDDLES)
    )
}

/// How often intervals held in simulation.
fn held(hold: &str, do_so: &str, Coverage { usual, wide, one, all }: &Coverage) -> String {
    let ([usual, wide, all], [two, three, five]) = ([usual, wide, all].map(hundredths), one.each_ref().map(hundredths));
    format!(
        "In simulated sweeps of 2 to 6 tasks with 2, 3 or 5 seeds {hold} in {usual} of 100, and in {wide} where one task spreads 40 times \
         as far as the others. Where the seeds of one task either solve it or do not, {do_so} in {two} with 2 seeds, {three} with 3 and \
         {five} with 5, and where those of every task do, in {all}: all seeds may have done the same."
    )
}

/// `47 to 49`.
fn hundredths([low, high]: &[u32; 2]) -> String {
    if low == high { low.to_string() } else { format!("{low} to {high}") }
}
