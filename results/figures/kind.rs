//! What a kind of figure is: its settings, how a config writes them, and how they are drawn.

use crate::figures::built::Built;
use crate::figures::source::Source;

/// The settings of a figure.
pub(crate) trait Kind {
    /// As a config writes it: `lines: { x: model.d_model }`. Axes of the grid stand under `x` and `panels`.
    const EXAMPLE: &'static str;

    /// The figure.
    ///
    /// # Errors
    /// Why there is nothing to draw.
    fn draw(&self, source: &Source) -> Result<Built, String>;
}
