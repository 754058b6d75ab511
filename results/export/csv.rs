//! Comma-separated values: the data of each section that has some, in full precision.

use crate::export::exporter::{ExportError, Exporter};
use crate::table::section::Section;
use crate::text;

pub(crate) struct Csv;

impl Exporter for Csv {
    fn ending(&self) -> &'static str {
        "csv"
    }

    fn section(&self, section: &Section) -> Result<Vec<u8>, ExportError> {
        let Some(data) = &section.data else { return Ok(Vec::new()) };
        let rows = data.rows.iter().map(|row| row.iter().map(ToString::to_string).collect());
        Ok(text::csv([data.columns.clone()].into_iter().chain(rows))?.into_bytes())
    }
}
