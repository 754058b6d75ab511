//! Markdown: a table, its caption, and a list of its notes.

use crate::export::exporter::{ExportError, Exporter};
use crate::table::Table;
use crate::table::section::Section;
use crate::text;

pub(crate) struct Markdown;

impl Markdown {
    /// The section without its title; each part ends in a line break.
    pub(crate) fn text(&self, section: &Section) -> String {
        let mut parts = Vec::new();
        if !section.grid.is_empty() {
            parts.push(section.grid.markdown());
        }
        if !section.caption.is_empty() {
            parts.push(text::markdown(&section.caption_of(&section.grid)) + "\n");
        }
        if !section.notes.is_empty() {
            parts.push(list(&section.notes));
        }
        parts.join("\n")
    }

    /// The scores, and what may spoil the comparison.
    pub(crate) fn scores(&self, table: &Table) -> String {
        let warning = |warning: &String| format!("\n**Warning:** {}.\n", text::markdown_inline(warning));
        let scores = table.sections.first().map(|section| self.text(section)).unwrap_or_default();
        scores + &table.warnings.iter().map(warning).collect::<String>()
    }
}

/// One item a line.
pub(crate) fn list(items: &[String]) -> String {
    items.iter().map(|item| format!("- {}\n", text::markdown(item))).collect()
}

impl Exporter for Markdown {
    fn ending(&self) -> &'static str {
        "md"
    }

    fn section(&self, section: &Section) -> Result<Vec<u8>, ExportError> {
        Ok(self.text(section).into_bytes())
    }

    /// The scores alone: the other sections stand on the report's page.
    fn files(&self, table: &Table) -> Result<Vec<(String, Vec<u8>)>, ExportError> {
        Ok(vec![("table.md".into(), self.scores(table).into_bytes())])
    }
}
