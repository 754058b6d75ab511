//! Every seed's score by mixer, and learning curves: what the two plots of every sweep show.

use crate::Manifest;
use crate::plot::{Curves, Data, Entry, Lines, Panel};
use crate::statistics::Range;
use crate::table::Table;
use crate::table::frame::Run;
use crate::table::row::{Row, mixers, places, sign_notes};
use std::collections::BTreeSet;

/// What there is to draw of these runs.
pub(crate) fn data(manifest: &Manifest, runs: &[Run], table: &Table) -> Data {
    let names: Vec<String> = mixers(manifest).into_iter().map(String::from).collect();
    let at_place = |place: (&str, &str)| -> Vec<(usize, &Row)> {
        let of_mixer = |row: &Row| names.iter().position(|name| *name == row.mixer).unwrap_or_default();
        table.rows.iter().filter(|row| row.place() == place).map(|row| (of_mixer(row), row)).collect()
    };
    let (mut panels, mut curves) = (Vec::new(), Vec::new());
    for shared in places(&table.rows) {
        let rows = at_place(shared);
        let metric = rows.iter().map(|(_, row)| row.metric.clone()).find(|m| !m.is_empty()).unwrap_or("score".into());
        let known = rows.iter().find(|(_, row)| !row.metric.is_empty());
        let range = known.map_or(Range::SHARE, |(_, row)| row.scored_by.range());
        let floor = rows.iter().find_map(|(_, row)| row.floor);
        let ceiling = rows.iter().find_map(|(_, row)| row.ceiling);
        let lines: Vec<_> = rows.iter().map(|(place, row)| (*place, lines(&row.runs_of(runs)))).collect();
        let entries = rows.iter().map(|(place, row)| (*place, entry(row, &row.runs_of(runs)))).collect();
        let task = rows.first().map_or(shared.0.into(), |(_, row)| row.place_shown());
        panels.push(Panel { task: task.clone(), metric: metric.clone(), range, floor, ceiling, entries });
        if lines.iter().any(|(_, lines)| !lines.seeds.is_empty()) {
            curves.push(Curves { task, metric, range, floor, lines });
        }
    }
    Data { mixers: names, panels, curves, notes: sign_notes(&table.rows) }
}

fn entry(row: &Row, runs: &[&Run]) -> Entry {
    let unscored: Vec<&str> = runs.iter().filter(|run| run.test.is_none()).map(|run| run.outcome).collect();
    let alike = unscored.iter().all(|outcome| Some(outcome) == unscored.first());
    let word = if alike { unscored.first().unwrap_or(&"").replace('_', " ") } else { "unscored".into() };
    let note = if unscored.is_empty() { String::new() } else { format!("{word} {}/{}", unscored.len(), runs.len()) };
    let seeds = runs.iter().filter_map(|run| Some((run.test?, run.outcome == "diverged"))).collect();
    // A mark beside the score is of the same measure.
    let published = row.published.as_ref().filter(|_| !row.published_otherwise).and_then(|cell| cell.accuracy);
    Entry { test: row.test, seeds, published, note }
}

fn lines(runs: &[&Run]) -> Lines {
    let mut lines = Lines::default();
    let mut scored: Vec<(Vec<(u64, f64)>, bool)> = Vec::new();
    for run in runs {
        let Some(record) = run.record else { continue };
        let points = record.curve.iter().filter(|point| point.validation_score.is_finite());
        let curve: Vec<(u64, f64)> = points.map(|point| (point.step, point.validation_score)).collect();
        if run.test.is_some() {
            scored.push((curve.clone(), run.outcome == "finished"));
        }
        if !curve.is_empty() {
            lines.seeds.push((curve, run.outcome == "diverged"));
        }
    }
    let steps: BTreeSet<u64> = scored.iter().flat_map(|(curve, _)| curve).map(|(step, _)| *step).collect();
    for step in steps {
        // A run that stopped early because it was done keeps its last score.
        let at = |(curve, finished): &(Vec<(u64, f64)>, bool)| match curve.iter().find(|(s, _)| *s == step) {
            Some((_, score)) => Some(*score),
            None => curve.last().filter(|(last, _)| *finished && *last < step).map(|(_, score)| *score),
        };
        let scores: Option<Vec<f64>> = scored.iter().map(at).collect();
        let Some(scores) = scores else { break };
        lines.mean.push((step, scores.iter().sum::<f64>() / scores.len() as f64));
    }
    lines
}
