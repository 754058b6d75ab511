//! Plots that can be printed: every seed's score by mixer, and learning curves. SVG and PNG, by the path's extension.

mod bench;
pub(crate) mod cells;
pub(crate) mod chart;
mod curves;
pub mod heatmap;
mod marks;
pub(crate) mod radar;
mod scores;
pub(crate) mod slope;

use crate::bench::{Bench, Quantity, Suite};
use crate::statistics::{Estimate, Range};
use crate::table::Table;
use crate::table::frame::{self, Run};
use crate::table::row::{Row, mixers, places, sign_notes};
use crate::{Manifest, Record, store::files};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// A function that draws a plot into a file.
pub type Drawing = fn(&Data, &Path) -> Result<(), PlotError>;

/// Why a plot could not be drawn. No file is left behind.
#[derive(Debug, thiserror::Error)]
pub enum PlotError {
    /// Neither `.svg` nor `.png`.
    #[error("{}: plots are drawn as .svg or .png", path.display())]
    Kind {
        /// The file.
        path: PathBuf,
    },
    /// There is nothing to draw.
    #[error("{}: nothing to draw: {what}", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// The plotting library gave up.
    #[error("{}: cannot draw: {reason}", path.display())]
    Draw {
        /// The file.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// The file could not be written.
    #[error("{}: cannot write: {source}\n  help: check that the folder exists and can be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// The name of the embedded font, if it can be used: without one every label of a plot fails.
pub fn check_fonts() -> Result<&'static str, String> {
    marks::use_font()?;
    Ok("Liberation Sans")
}

/// What the plots show, taken from records and table.
#[derive(Clone, Debug)]
pub struct Data {
    pub(crate) mixers: Vec<String>,
    pub(crate) panels: Vec<Panel>,
    /// Tasks with at least one learning curve.
    pub(crate) curves: Vec<Curves>,
    /// What the signs of the tasks stand for.
    pub(crate) notes: Vec<String>,
}

/// The scores on one task.
#[derive(Clone, Debug)]
pub(crate) struct Panel {
    /// The task with the signs of its marks.
    pub(crate) task: String,
    pub(crate) metric: String,
    /// Between which ends the score lies.
    pub(crate) range: Range,
    pub(crate) floor: Option<f64>,
    pub(crate) ceiling: Option<f64>,
    /// One per mixer that entered, with its place in `Data::mixers`.
    pub(crate) entries: Vec<(usize, Entry)>,
}

/// One mixer's scores on one task.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) test: Option<Estimate>,
    /// Score of each scored seed and whether it diverged.
    pub(crate) seeds: Vec<(f64, bool)>,
    /// The published score of the model it stands beside.
    pub(crate) published: Option<f64>,
    /// `failed 1/3`; empty when every run is scored.
    pub(crate) note: String,
}

/// The learning curves on one task.
#[derive(Clone, Debug)]
pub(crate) struct Curves {
    /// The task with the signs of its marks.
    pub(crate) task: String,
    pub(crate) metric: String,
    /// Between which ends the score lies.
    pub(crate) range: Range,
    pub(crate) floor: Option<f64>,
    pub(crate) lines: Vec<(usize, Lines)>,
}

/// One mixer's learning curves on one task: `(step, score)`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lines {
    /// One per seed, and whether that run diverged.
    pub(crate) seeds: Vec<(Vec<(u64, f64)>, bool)>,
    /// Mean over the scored seeds; one that stopped early because it was done keeps its last score.
    pub(crate) mean: Vec<(u64, f64)>,
}

impl Data {
    /// What there is to draw of these records.
    pub fn new(manifest: &Manifest, records: &[Record], table: &Table) -> Self {
        let runs = frame::runs(manifest, records);
        let names: Vec<String> = mixers(manifest).into_iter().map(String::from).collect();
        let at_place = |place: (&str, &str)| -> Vec<(usize, &Row)> {
            let of_mixer = |row: &Row| names.iter().position(|name| *name == row.mixer).unwrap_or_default();
            table.rows.iter().filter(|row| row.place() == place).map(|row| (of_mixer(row), row)).collect()
        };
        let (mut panels, mut curves) = (Vec::new(), Vec::new());
        for shared in places(&table.rows) {
            let rows = at_place(shared);
            let metric =
                rows.iter().map(|(_, row)| row.metric.clone()).find(|m| !m.is_empty()).unwrap_or("score".into());
            let known = rows.iter().find(|(_, row)| !row.metric.is_empty());
            let range = known.map_or(Range::SHARE, |(_, row)| row.scored_by.range());
            let floor = rows.iter().find_map(|(_, row)| row.floor);
            let ceiling = rows.iter().find_map(|(_, row)| row.ceiling);
            let lines: Vec<_> = rows.iter().map(|(place, row)| (*place, lines(&chosen(&runs, row)))).collect();
            let entries = rows.iter().map(|(place, row)| (*place, entry(row, &chosen(&runs, row)))).collect();
            let task = rows.first().map_or(shared.0.into(), |(_, row)| row.place_shown());
            panels.push(Panel { task: task.clone(), metric: metric.clone(), range, floor, ceiling, entries });
            if lines.iter().any(|(_, lines)| !lines.seeds.is_empty()) {
                curves.push(Curves { task, metric, range, floor, lines });
            }
        }
        Self { mixers: names, panels, curves, notes: sign_notes(&table.rows) }
    }
}

/// The runs behind a row.
pub(crate) fn chosen<'a, 'b>(runs: &'a [Run<'b>], row: &Row) -> Vec<&'a Run<'b>> {
    let same = |run: &&Run| {
        (&run.planned.mixer, &run.planned.task) == (&row.mixer, &row.task)
            && frame::settings_text(&run.planned.settings) == row.settings
    };
    runs.iter().filter(same).collect()
}

fn entry(row: &Row, runs: &[&Run]) -> Entry {
    let unscored: Vec<&str> = runs.iter().filter(|run| run.test.is_none()).map(|run| run.outcome).collect();
    let alike = unscored.iter().all(|outcome| Some(outcome) == unscored.first());
    let word = if alike { unscored.first().unwrap_or(&"").replace('_', " ") } else { "unscored".into() };
    let note = if unscored.is_empty() { String::new() } else { format!("{word} {}/{}", unscored.len(), runs.len()) };
    let seeds = runs.iter().filter_map(|run| Some((run.test?, run.outcome == "diverged"))).collect();
    // A mark beside the score is of the same measure.
    let published = row.published.as_ref().filter(|_| !row.published_otherwise()).and_then(|cell| cell.accuracy);
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

/// Draws every seed's score by mixer, one panel per task.
pub fn scores(data: &Data, path: &Path) -> Result<(), PlotError> {
    if data.panels.is_empty() {
        return Err(PlotError::Empty { path: path.into(), what: "the sweep planned no runs" });
    }
    write(&scores::picture(data), path)
}

/// Draws validation score against training step, one panel per task.
pub fn curves(data: &Data, path: &Path) -> Result<(), PlotError> {
    if data.curves.is_empty() {
        return Err(PlotError::Empty { path: path.into(), what: "no run has a learning curve yet" });
    }
    write(&curves::picture(data), path)
}

/// Draws time and memory against the length, with the exponent of every mixer.
pub fn bench(measured: &Bench, path: &Path) -> Result<(), PlotError> {
    if measured.suite != Suite::Lengths {
        return Err(PlotError::Empty { path: path.into(), what: "fixed comparisons have no lengths to draw against" });
    }
    if Quantity::ALL.iter().all(|quantity| measured.cases.iter().all(|case| quantity.of(case).is_none())) {
        return Err(PlotError::Empty { path: path.into(), what: "no mixer was measured" });
    }
    write(&bench::picture(measured), path)
}

/// Draws a figure of the config.
pub(crate) fn chart(chart: &chart::Chart, path: &Path) -> Result<(), PlotError> {
    write(&chart::picture(chart), path)
}

/// Draws heat maps with numbers.
pub(crate) fn cells(maps: &cells::Maps, path: &Path) -> Result<(), PlotError> {
    write(&cells::picture(maps), path)
}

/// Draws profiles as polygons.
pub(crate) fn radar(radar: &radar::Radar, path: &Path) -> Result<(), PlotError> {
    write(&radar::picture(radar), path)
}

/// Draws two rankings side by side.
pub(crate) fn slopes(slopes: &slope::Slopes, path: &Path) -> Result<(), PlotError> {
    write(&slope::picture(slopes), path)
}

/// Draws beside `path` and renames, so that a drawing that fails leaves what was there.
fn write(picture: &marks::Picture, path: &Path) -> Result<(), PlotError> {
    let failed = |source| PlotError::Write { path: path.into(), source };
    let draw_failed = |reason| PlotError::Draw { path: path.into(), reason };
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("svg") => {
            let text = picture.svg().map_err(draw_failed)?;
            files::replace(path, text.as_bytes()).map_err(failed)
        }
        Some("png") => {
            let stub = files::write_temporary(path, b"").map_err(failed)?;
            let beside = stub.with_extension("png"); // the library tells the format by the name
            let renamed = files::rename(&stub, &beside).map_err(failed);
            let drawn = renamed.and_then(|()| picture.png(&beside).map_err(draw_failed));
            match drawn {
                Ok(()) => files::rename(&beside, path).map_err(failed),
                Err(error) => {
                    let _ = fs::remove_file(&beside);
                    Err(error)
                }
            }
        }
        _ => Err(PlotError::Kind { path: path.into() }),
    }
}

#[cfg(test)]
mod tests;
