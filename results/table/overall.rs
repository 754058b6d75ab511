//! Every mixer over all tasks.

use crate::grid::{Column, Grid, left, right};
use crate::statistics::{Interval, Range, interquartile_by_seed, interquartile_interval, interquartile_mean};
use crate::suites;
use crate::table::means::middle_intervals;
use crate::table::row::{BOOTSTRAP_SEED, DRAWS, Row, normalised, sign_notes, tasks};
use crate::table::section::Section;
use crate::table::sweep::Sweep;
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

const COLUMNS: [Column<Overall>; 3] = [
    left("mixer", 0, |r| r.mixer.clone()),
    left("all tasks", 0, |r| match (r.score, r.interval) {
        (Some(score), Some(Interval { low, high })) => format!("{score:.3} [{low:.3}, {high:.3}]"),
        (Some(score), None) => format!("{score:.3}"),
        (None, _) => {
            format!("- (scored on {} only)", if r.tasks == 1 { "1 task".into() } else { format!("{} tasks", r.tasks) })
        }
    }),
    right("n", 0, |r| r.n.to_string()),
];

const CAPTION: &str = "Interquartile mean of (score - floor) / (ceiling - floor) over all scored runs, \
                       only for mixers scored on every task.";

/// The section; empty for a single task, for tasks of unlike metrics, and beside suites with averages of their own.
pub(crate) fn section(sweep: &Sweep) -> Vec<Section> {
    let overall =
        if is_of_many(sweep) && unlike(sweep).is_none() { overall(&sweep.mixers, sweep.rows) } else { Vec::new() };
    if overall.is_empty() {
        return vec![Section::default().with_json("overall", &overall)];
    }
    let without = match &without_room(sweep.rows)[..] {
        [] => String::new(),
        tasks => format!(" Without {}, where the floor is the ceiling.", tasks.join(", ")),
    };
    let section = Section {
        name: "overall",
        title: "Over all tasks",
        grid: Grid::new(&COLUMNS, &overall),
        caption: format!("{CAPTION}{without} {}", middle_intervals(sweep)),
        includes: sweep.marked(),
        notes: sign_notes(sweep.rows),
        findings: best_overall(&overall).into_iter().collect(),
        ..Section::default()
    };
    vec![section.with_json("overall", &overall)]
}

/// Whether there are several tasks to take a mean over.
fn is_of_many(sweep: &Sweep) -> bool {
    sweep.is_pooled() && tasks(sweep.rows).len() > 1
}

/// Why there is no mean over several tasks.
pub(super) fn unlike(sweep: &Sweep) -> Option<String> {
    if !is_of_many(sweep) {
        return None;
    }
    if let Some(why) = suites::own_averages(sweep.rows) {
        return Some(format!("No mean over all tasks: {why}."));
    }
    let named = sweep.rows.iter().map(|row| row.metric.as_str()).filter(|name| !name.is_empty());
    let metrics: BTreeSet<&str> = named.collect();
    (metrics.len() > 1).then(|| "No mean over all tasks: their metrics differ.".into())
}

/// Every mixer over all tasks. Scores are normalised, so that a task with a high floor weighs no more than another.
pub(crate) fn overall(mixers: &[&str], rows: &[Row]) -> Vec<Overall> {
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
fn without_room(rows: &[Row]) -> Vec<String> {
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

fn best_overall(overall: &[Overall]) -> Option<String> {
    let mut ranked: Vec<&Overall> = overall.iter().filter(|row| row.score.is_some()).collect();
    ranked.sort_by(|a, b| b.score.unwrap_or(0.0).total_cmp(&a.score.unwrap_or(0.0)));
    let names: Vec<String> =
        ranked.iter().map(|row| format!("{} {:.3}", row.mixer, row.score.unwrap_or(0.0))).collect();
    (names.len() > 1)
        .then(|| format!("Over all tasks (interquartile mean, 0 = guessing, 1 = perfect): {}.", names.join(", ")))
}
