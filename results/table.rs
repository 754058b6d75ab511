//! The tables of a sweep: one row per (mixer, task), the runs that could not be scored, and what must be known to read them.
//!
//! A diverged run scores its task's floor. A run that failed, ran out of time, was interrupted or is missing is not
//! scored; it stays visible as a count in its row and as a line of its own. With a grid, the setting with the best mean
//! validation score, of language models with the least mean validation loss, is the one shown; test scores play no part in the
//! choice. An axis that a figure draws along is not tuned
//! over: every value of it has its own rows, and no mean is taken over them.

mod ablation;
mod caption;
mod details;
pub(crate) mod expectations;
pub(crate) mod findings;
pub(crate) mod frame;
pub(crate) mod groups;
pub(crate) mod language;
pub(crate) mod means;
mod measures;
pub(crate) mod numbers;
pub(crate) mod overall;
mod remarks;
pub(crate) mod row;
mod rows;
mod scores;
pub(crate) mod section;
pub(crate) mod signs;
mod sized;
pub(crate) mod sweep;
pub(crate) mod unfinished;
mod warnings;

use crate::table::expectations::{Expected, Verdict};
use crate::table::frame::Run;
use crate::table::row::{Row, mixers};
use crate::table::rows::{rows, tuned};
use crate::table::section::Section;
use crate::table::sweep::Sweep;
use crate::table::warnings::published_notes;
use crate::{Manifest, Record, suites};
use polars::prelude::{DataFrame, PolarsError};

/// Makes a section, or several that belong together.
type Maker = fn(&Sweep) -> Vec<Section>;

/// The sections of the report, in its order.
const SECTIONS: &[Maker] = &[
    scores::scores,
    expectations::section,
    ablation::section,
    language::section,
    suites::sections,
    groups::section,
    measures::section,
    remarks::section,
    unfinished::section,
    overall::section,
    sized::section,
    scores::settings,
    details::section,
];

/// The tables of one sweep.
#[derive(Clone, Debug)]
pub struct Table {
    /// The sweep's name.
    pub name: String,
    /// The sweep's question.
    pub question: String,
    /// One row per mixer and task, tasks outermost, both in the manifest's order.
    pub rows: Vec<Row>,
    /// How to read the scores: metric, n, interval, what is matched, the command.
    pub caption: Vec<String>,
    /// Everything that is printed, the scores first.
    pub(crate) sections: Vec<Section>,
    /// What may spoil the comparison.
    pub warnings: Vec<String>,
    /// What the numbers say, in sentences.
    pub findings: Vec<String>,
    /// One row per run.
    pub runs: DataFrame,
}

impl Table {
    /// Builds the tables. The order of the records leaves no trace.
    pub fn build(manifest: &Manifest, records: &[Record]) -> Result<Self, PolarsError> {
        Self::of_runs(manifest, &frame::runs(manifest, records))
    }

    /// The tables of runs that have been joined with their records.
    pub(crate) fn of_runs(manifest: &Manifest, runs: &[Run]) -> Result<Self, PolarsError> {
        let frame = frame::runs_frame(runs)?;
        let swept = manifest.swept();
        let mut all = rows(&frame::aggregate(frame.clone())?, runs, &swept)?;
        let sources = published_notes(&mut all);
        let rows = tuned(&all);
        let mut sweep = Sweep { manifest, runs, rows: &rows, settings: &[], mixers: mixers(manifest), swept, sources };
        let is_grid = manifest.runs.iter().any(|run| !run.settings.is_empty());
        if is_grid && (sweep.is_pooled() || rows.iter().any(|row| row.settings_tried > 1)) {
            sweep.settings = &all;
        }
        let sections: Vec<Section> = SECTIONS.iter().flat_map(|make| make(&sweep)).collect();
        let (name, question) = (manifest.name.clone(), manifest.question.clone());
        let caption = caption::caption(&sweep);
        let warnings = sections.iter().flat_map(|section| section.warnings.clone()).collect();
        let findings = sections.iter().flat_map(|section| section.findings.clone()).collect();
        Ok(Self { name, question, caption, sections, warnings, findings, rows, runs: frame })
    }

    /// The expectations that are missed.
    pub fn missed(&self, manifest: &Manifest) -> Vec<Expected> {
        let all = manifest.expect.iter().flat_map(|claim| expectations::of_claim(claim, &self.rows));
        all.filter(|expected| expected.verdict == Verdict::Missed).collect()
    }

    /// The section of a name.
    #[cfg(test)]
    pub(crate) fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }
}

#[cfg(test)]
mod tests;
