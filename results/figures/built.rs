//! A figure with its words and its drawing.

use crate::plot::cells::Maps;
use crate::plot::chart::Chart;
use crate::plot::radar::Radar;
use crate::plot::slope::Slopes;
use crate::plot::{self, PlotError};
use std::path::Path;

/// A figure with its words.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// Its files without their ends.
    pub(crate) stem: String,
    pub(crate) title: String,
    /// For who cannot see it.
    pub(crate) alt: String,
    pub(crate) caption: String,
    /// Its numbers, as Markdown; may be empty.
    pub(crate) table: String,
    pub(super) drawing: Drawing,
}

#[derive(Clone, Debug)]
pub(super) enum Drawing {
    Chart(Chart),
    Cells(Maps),
    Radar(Radar),
    Slopes(Slopes),
}

impl Built {
    pub(crate) fn draw(&self, path: &Path) -> Result<(), PlotError> {
        match &self.drawing {
            Drawing::Chart(chart) => plot::chart(chart, path),
            Drawing::Cells(maps) => plot::cells(maps, path),
            Drawing::Radar(radar) => plot::radar(radar, path),
            Drawing::Slopes(slopes) => plot::slopes(slopes, path),
        }
    }
}
