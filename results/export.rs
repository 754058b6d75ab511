//! The report's tables as files and text. A format is a file that implements [`exporter::Exporter`] and, where it writes files, a line
//! of [`EXPORTERS`].

mod csv;
pub(crate) mod exporter;
mod json;
mod markdown;
mod terminal;

pub use exporter::ExportError;

pub(crate) use csv::Csv;
pub(crate) use markdown::{Markdown, list};

use crate::export::exporter::Exporter;
use crate::export::json::Json;
use crate::export::terminal::Terminal;
use crate::table::Table;

/// The formats of a report's folder.
pub(crate) const EXPORTERS: &[&dyn Exporter] = &[&Markdown, &Csv, &Json];

impl Table {
    /// For a terminal `width` columns wide; columns that do not fit are left out and counted.
    pub fn terminal(&self, width: usize, colour: bool) -> String {
        Terminal { width: width.max(40), colour }.document(self)
    }

    /// The scores with caption, notes and warnings.
    pub fn markdown(&self) -> String {
        Markdown.scores(self)
    }

    /// For programs: every section's numbers, caption, warnings and findings.
    pub fn json(&self) -> String {
        Json.document(self)
    }
}
