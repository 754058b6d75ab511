//! A sweep as the report's sections see it.

use crate::Manifest;
use crate::table::frame::Run;
use crate::table::row::{Row, tasks};

/// What sections are made of.
pub(crate) struct Sweep<'a> {
    pub(crate) manifest: &'a Manifest,
    /// Every planned run with its record.
    pub(crate) runs: &'a [Run<'a>],
    /// One row per mixer and task.
    pub(crate) rows: &'a [Row],
    /// Every setting of a grid; empty without one.
    pub(crate) settings: &'a [Row],
    /// In the manifest's order.
    pub(crate) mixers: Vec<&'a str>,
    /// Axes that a figure draws along.
    pub(crate) swept: Vec<&'a str>,
    /// What the letters of published numbers stand for.
    pub(crate) sources: Vec<String>,
}

impl Sweep<'_> {
    /// Whether means over tasks are taken: they would mix the values of a swept axis.
    pub(crate) fn is_pooled(&self) -> bool {
        self.rows.iter().all(|row| row.swept.is_empty())
    }

    /// All settings, or the rows without a grid.
    pub(crate) fn all_rows(&self) -> &[Row] {
        if self.settings.is_empty() { self.rows } else { self.settings }
    }

    /// The marked tasks, with their signs.
    pub(crate) fn marked(&self) -> Vec<String> {
        let of_task = |task: &str| self.rows.iter().find(|row| row.task == task).filter(|row| !row.marks.is_empty());
        tasks(self.rows).into_iter().filter_map(of_task).map(Row::task_shown).collect()
    }

    /// Whether runs of some task start from another run.
    pub(crate) fn shares_starts(&self) -> bool {
        self.rows.iter().any(|row| row.shares_starts)
    }
}
