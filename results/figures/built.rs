//! A figure with its words and its drawing.

use crate::plot::{self, Drawable, PlotError};
use std::path::Path;

/// A figure with its words.
#[derive(Debug)]
pub(crate) struct Built {
    /// Its files without their ends.
    pub(crate) stem: String,
    pub(crate) title: String,
    /// For who cannot see it.
    pub(crate) alt: String,
    pub(crate) caption: String,
    /// Its numbers, as Markdown; may be empty.
    pub(crate) table: String,
    pub(super) drawing: Box<dyn Drawable>,
}

impl Built {
    pub(crate) fn draw(&self, path: &Path) -> Result<(), PlotError> {
        plot::figure(self.drawing.as_ref(), path)
    }
}
