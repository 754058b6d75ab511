//! A section of the report: a table with its words. A file beside this one makes one of a sweep; a format in `export/` writes it.

use crate::grid::{Frame, Grid};
use serde::Serialize;
use serde_json::Value;

/// Where a section stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Part {
    /// Before the figures.
    #[default]
    Main,
    /// Behind the figures.
    Appendix,
    /// The same, and not on a terminal.
    Page,
    /// Only in files of data.
    Data,
}

/// How a row stands among those of its task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tone {
    Best,
    AtFloor,
    Unscored,
    Plain,
}

/// One table and its words. Empty parts are not shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    /// Its name among the sections, and that of its files.
    pub(crate) name: &'static str,
    /// Empty: it belongs to the section before it.
    pub(crate) title: &'static str,
    pub(crate) part: Part,
    /// As it is printed.
    pub(crate) grid: Grid,
    /// One a row, or none.
    pub(crate) tones: Vec<Tone>,
    /// How to read it.
    pub(crate) caption: String,
    /// How to read columns that a narrow terminal may leave out: their titles, and a sentence for each.
    pub(crate) of_columns: Vec<(&'static str, &'static str)>,
    /// Tasks with signs, where a line is over several: named where the notes are not repeated.
    pub(crate) includes: Vec<String>,
    /// Signs and letters, explained.
    pub(crate) notes: Vec<String>,
    /// What may spoil the comparison.
    pub(crate) warnings: Vec<String>,
    /// What it says, in sentences.
    pub(crate) findings: Vec<String>,
    /// Its numbers in full precision, for files.
    pub(crate) data: Option<Frame>,
    /// Its numbers with their names, for programs.
    pub(crate) json: Option<(&'static str, Value)>,
}

impl Section {
    /// The same with these numbers for programs.
    pub(crate) fn with_json(self, key: &'static str, of: &impl Serialize) -> Self {
        Self { json: Some((key, serde_json::to_value(of).expect("tables are plain data"))), ..self }
    }

    /// The caption with the sentences about the columns of this grid.
    pub(crate) fn caption_of(&self, grid: &Grid) -> String {
        let shown = self.of_columns.iter().filter(|(title, _)| grid.has(title)).map(|(_, said)| *said);
        [self.caption.as_str()].into_iter().chain(shown).collect::<Vec<_>>().join(" ")
    }
}
