//! What a format does with tables.

use crate::table::Table;
use crate::table::section::Section;

/// Why a table could not be written in a format.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The CSV could not be built.
    #[error("cannot build CSV: {0}")]
    Csv(#[from] csv::Error),
}

/// A format of tables.
pub(crate) trait Exporter: Sync {
    /// How its files end: `csv`.
    fn ending(&self) -> &'static str;

    /// One section; empty where the format has nothing of it.
    fn section(&self, section: &Section) -> Result<Vec<u8>, ExportError>;

    /// The files of a report, by name: here one for each section that is not empty.
    fn files(&self, table: &Table) -> Result<Vec<(String, Vec<u8>)>, ExportError> {
        let mut files = Vec::new();
        for section in &table.sections {
            let bytes = self.section(section)?;
            if !bytes.is_empty() {
                files.push((format!("{}.{}", section.name, self.ending()), bytes));
            }
        }
        Ok(files)
    }
}
