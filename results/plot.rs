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

pub(crate) use marks::Drawable;

use crate::bench::{Bench, Quantity, Suite};
use crate::statistics::{Estimate, Range};
use crate::store::files;
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
pub(crate) fn figure(drawing: &dyn Drawable, path: &Path) -> Result<(), PlotError> {
    write(&drawing.picture(), path)
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
