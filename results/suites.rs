//! Suites of tasks that papers quote by averages of their own. A suite is a file that implements [`suite::Suite`] and a line of
//! [`SUITES`]; no other code of the tables knows its tasks.

pub(crate) mod glue;
pub(crate) mod lra;
pub(crate) mod suite;

use crate::Detail;
use crate::published::Published;
use crate::suites::suite::Suite;
use crate::table::row::Row;
use crate::table::section::Section;
use crate::table::sweep::Sweep;

/// In the order of the report.
pub(crate) const SUITES: &[&dyn Suite] = &[&glue::SUITE, &lra::SUITE];

/// Their sections.
pub(crate) fn sections(sweep: &Sweep) -> Vec<Section> {
    SUITES.iter().flat_map(|suite| suite.sections(sweep)).collect()
}

/// Why these rows are in no mean over all tasks.
pub(crate) fn own_averages(rows: &[Row]) -> Option<&'static str> {
    let tasks = || rows.iter().filter_map(|row| row.published_task.as_deref());
    SUITES.iter().find_map(|suite| tasks().find_map(|task| suite.own_averages(task)))
}

/// Whether papers print FAIL for this task at its floor.
pub(crate) fn fails_at_floor(task: &str) -> bool {
    SUITES.iter().any(|suite| suite.fails_at_floor(task))
}

/// The measures by which a task is quoted; none of a task without a suite.
pub(crate) fn quoted_by(task: &str) -> &'static [&'static str] {
    SUITES.iter().map(|suite| suite.quoted_by(task)).find(|measures| !measures.is_empty()).unwrap_or_default()
}

/// Whether a measure is the score on a part of a test split.
pub(crate) fn is_part(measure: &str) -> bool {
    SUITES.iter().any(|suite| suite.parts().contains(&measure))
}

/// The measure that a detail is, where it is the score on a part of a test split.
pub(crate) fn part_of(detail: &Detail) -> Option<&'static str> {
    SUITES.iter().find_map(|suite| suite.part_of(detail))
}

/// The measure that a published number is of, where that is the score on a part of a test split.
pub(crate) fn quoted_part(cell: &Published) -> Option<&'static str> {
    SUITES.iter().find_map(|suite| suite.quoted_part(cell))
}
