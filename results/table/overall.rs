//! Every mixer over all tasks.

use crate::published;
use crate::statistics::{Interval, Range, interquartile_by_seed, interquartile_interval, interquartile_mean};
use crate::table::row::{BOOTSTRAP_SEED, DRAWS, Row, normalised, tasks};
use serde::Serialize;
use std::collections::BTreeSet;

/// A mixer over all tasks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overall {
    /// Mixer.
    pub mixer: String,
    /// Interquartile mean of (score - floor) / (ceiling - floor) over all runs; `None` if a task has no scored run.
    pub score: Option<f64>,
    /// Over seeds, stratified by task; `None` if a task has fewer than two scored seeds.
    pub interval: Option<Interval>,
    /// Runs in it.
    pub n: usize,
    /// Tasks with a scored run.
    pub tasks: usize,
}

/// Why there is no mean over all tasks.
pub(super) fn unlike(rows: &[Row]) -> Option<&'static str> {
    let metrics: BTreeSet<&str> = rows.iter().map(|row| row.metric.as_str()).filter(|name| !name.is_empty()).collect();
    let of_glue = |row: &Row| row.published_task.as_deref().is_some_and(|task| published::GLUE.contains(&task));
    if rows.iter().any(of_glue) {
        return Some("No mean over all tasks: GLUE is averaged by its papers' rules.");
    }
    (metrics.len() > 1).then_some("No mean over all tasks: their metrics differ.")
}

/// Every mixer over all tasks. Scores are normalised, so that a task with a high floor weighs no more than another.
pub(super) fn overall(mixers: &[&str], rows: &[Row]) -> Vec<Overall> {
    let left_out = without_room(rows);
    let rows: Vec<&Row> = rows.iter().filter(|row| !left_out.contains(&row.task)).collect();
    let n_tasks = tasks(rows.iter().copied()).len();
    let of_mixer = |mixer: &str| {
        let rows: Vec<&Row> = rows.iter().copied().filter(|row| row.mixer == mixer).collect();
        let scores: Vec<Vec<f64>> = rows.iter().map(|row| normalised(row)).filter(|s| !s.is_empty()).collect();
        let interval = || match rows.iter().any(|row| row.shares_starts) {
            true => {
                let seeds =
                    |row: &&Row| row.scores_by_seed().into_iter().map(|(seed, _)| seed).zip(normalised(row)).collect();
                interquartile_by_seed(&rows.iter().map(seeds).collect::<Vec<_>>())
            }
            false => interquartile_interval(&scores, DRAWS, BOOTSTRAP_SEED),
        };
        let entered_all = scores.len() == n_tasks;
        let pooled = scores.concat();
        Overall {
            mixer: mixer.into(),
            score: entered_all.then(|| interquartile_mean(&pooled)).flatten(),
            interval: entered_all.then(interval).flatten().map(|interval| interval.clipped(normalised_range(&rows))),
            n: pooled.len(),
            tasks: scores.len(),
        }
    };
    mixers.iter().copied().map(of_mixer).collect()
}

/// Tasks whose floor is their ceiling.
pub(super) fn without_room(rows: &[Row]) -> Vec<String> {
    tasks(rows.iter().filter(|row| row.has_no_room())).into_iter().map(String::from).collect()
}

/// Between which ends normalised scores of these rows lie.
fn normalised_range(rows: &[&Row]) -> Range {
    let ends = rows.iter().map(|row| {
        let (floor, ceiling) = (row.floor.unwrap_or(0.0), row.ceiling.unwrap_or(1.0));
        let Range { low, high } = row.scored_by.range();
        ((low - floor) / (ceiling - floor), (high - floor) / (ceiling - floor))
    });
    let (low, high) = ends.fold((0.0_f64, 1.0_f64), |(low, high), ends| (low.min(ends.0), high.max(ends.1)));
    Range { low, high }
}
