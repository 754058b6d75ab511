//! What may spoil the comparison, and where published numbers come from.

use crate::table::frame::{self, Run};
use crate::table::row::Row;
use crate::table::signs;
use crate::table::sweep::Sweep;
use crate::{Manifest, Record, Versions, published};
use std::collections::BTreeSet;

/// What may spoil the comparison of the scores.
pub(super) fn of(sweep: &Sweep) -> Vec<String> {
    let mut warnings = edges(sweep.manifest, sweep.rows, &sweep.swept);
    warnings.extend(sweep.rows.iter().flat_map(searched));
    warnings.extend(few_seeds(sweep.rows));
    warnings.extend(uneven(sweep.runs));
    warnings.extend(unknown_models(sweep.rows));
    warnings
}

/// Gives every published source its letter, in the order of the rows, and says what the letters stand for.
pub(super) fn published_notes(rows: &mut [Row]) -> Vec<String> {
    let mut known: Vec<(String, String)> = Vec::new();
    for row in rows {
        let Some(cell) = &row.published else { continue };
        let source = (cell.model.clone(), cell.cited());
        let place = known.iter().position(|other| *other == source).unwrap_or(known.len());
        if place == known.len() {
            known.push(source);
        }
        row.letter = signs::letter(place);
    }
    let note = |(i, (model, cited)): (usize, &(String, String))| format!("{} {model}: {cited}.", signs::letter(i));
    known.iter().enumerate().map(note).collect()
}

/// Models of a plan that this build's table does not have.
fn unknown_models(rows: &[Row]) -> Vec<String> {
    let known = published::models();
    let named: BTreeSet<&str> = rows.iter().filter_map(|row| row.published_model.as_deref()).collect();
    let unknown = named.into_iter().filter(|model| !known.contains(model));
    unknown.map(|model| format!("`{model}` is not in this build's table of published numbers")).collect()
}

/// A best value at the edge of an axis that is tuned over: a better one may lie beyond.
fn edges(manifest: &Manifest, rows: &[Row], swept: &[&str]) -> Vec<String> {
    let mut warnings = Vec::new();
    for row in rows.iter().filter(|row| row.settings_tried > 1 && row.validation.is_some()) {
        let of_row = manifest.runs.iter().filter(|run| run.mixer == row.mixer && run.task == row.task);
        let tried: Vec<_> = of_row.filter(|run| frame::swept_text(&run.settings, swept) == row.swept).collect();
        let Some(chosen) = tried.iter().find(|run| frame::settings_text(&run.settings) == row.settings) else {
            continue;
        };
        for (key, value) in chosen.settings.iter().filter(|(key, _)| !swept.contains(&key.as_str())) {
            let on_axis = tried.iter().flat_map(|run| &run.settings).filter(|(k, _)| k == key);
            let values: Option<Vec<f64>> = on_axis.map(|(_, v)| v.parse().ok()).collect();
            let (Some(mut values), Ok(best)) = (values, value.parse::<f64>()) else { continue };
            values.sort_by(f64::total_cmp);
            values.dedup();
            let (Some(first), Some(last)) = (values.first(), values.last()) else { continue };
            let edge = if best == *first { "smallest" } else { "largest" };
            if values.len() > 1 && (best == *first || best == *last) {
                let at = if row.swept.is_empty() { String::new() } else { format!(" at {}", row.swept) };
                let (mixer, task, n) = (&row.mixer, &row.task, values.len());
                warnings.push(format!(
                    "{mixer} on {task}{at}: the best `{key}` = {value} is the {edge} of {n} tried; a better one may lie beyond"
                ));
            }
        }
    }
    warnings
}

/// What the search of a row left open.
fn searched(row: &Row) -> Vec<String> {
    let Some(tuned) = &row.tuned else { return Vec::new() };
    let of = format!("{} on {}", row.mixer, row.task);
    let edge = |key: &String| {
        let value = tuned.chosen.iter().find(|(path, _)| path == key).map_or("", |(_, value)| value);
        format!("{of}: the best `{key}` = {value} stands at the edge of what was tried; a better one may lie beyond")
    };
    let none = format!("{of}: no run of the search finished; the first setting stands in");
    tuned.at_edge.iter().map(edge).chain(tuned.none_finished.then_some(none)).collect()
}

/// Intervals from two seeds are nearly always as wide as the scale.
fn few_seeds(rows: &[Row]) -> Option<String> {
    let fewest = rows.iter().filter(|row| row.scored > 0).map(|row| row.scored).min()?;
    match fewest {
        1 => Some("a score with n = 1 has no interval: run more seeds before comparing it".into()),
        2 => Some("with n = 2 an interval is 9 standard deviations to each side: run more seeds".into()),
        _ => None,
    }
}

/// Records of one table that were not made alike.
fn uneven(runs: &[Run]) -> Vec<String> {
    let distinct =
        |of: fn(&Record) -> String| -> BTreeSet<String> { runs.iter().filter_map(|r| r.record.map(of)).collect() };
    let list = |values: BTreeSet<String>| values.into_iter().collect::<Vec<_>>().join("; ");
    let machines = distinct(|r| {
        format!("{} {} with {} threads on {}", r.device.kind, r.device.name, r.device.threads, r.device.host)
    });
    let versions = distinct(|r| {
        let Versions { mixarena, libtorch, commit } = &r.versions;
        let commit = if commit.is_empty() { "unknown" } else { commit };
        format!("mixarena {mixarena}, libtorch {libtorch}, commit {commit}")
    });
    let mut warnings = Vec::new();
    if machines.len() > 1 {
        warnings.push(format!("speed, memory and time cannot be compared: runs come from {}", list(machines)));
    }
    if versions.len() > 1 {
        warnings.push(format!("runs were made with different versions: {}", list(versions)));
    }
    warnings
}
