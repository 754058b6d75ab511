//! What a suite of tasks is to the report. Tasks go by their names in published tables.

use crate::Detail;
use crate::published::Published;
use crate::table::row::{Row, tasks};
use crate::table::section::{Part, Section};
use crate::table::sweep::Sweep;

/// Tasks that papers quote together.
pub(crate) trait Suite: Sync {
    /// Its sections; none without its tasks, and where no means over tasks are taken.
    fn sections(&self, sweep: &Sweep) -> Vec<Section>;

    /// What the caption of the main table says of its rows.
    fn caption(&self, rows: &[Row]) -> Vec<String>;

    /// Why a task of it is in no mean over all tasks.
    fn own_averages(&self, _task: &str) -> Option<&'static str> {
        None
    }

    /// Whether papers print FAIL for this task at its floor.
    fn fails_at_floor(&self, _task: &str) -> bool {
        false
    }

    /// The measures by which a task of it is quoted.
    fn quoted_by(&self, _task: &str) -> &'static [&'static str] {
        &[]
    }

    /// Measures that are the score on a part of a test split, and not on the whole.
    fn parts(&self) -> &'static [&'static str] {
        &[]
    }

    /// The one of these that a detail is.
    fn part_of(&self, _detail: &Detail) -> Option<&'static str> {
        None
    }

    /// The one of these that a published number is of.
    fn quoted_part(&self, _cell: &Published) -> Option<&'static str> {
        None
    }
}

/// In place of a section that cannot be made: why.
pub(crate) fn without(problem: String) -> Section {
    Section { part: Part::Data, warnings: vec![problem], ..Section::default() }
}

/// The label of each task of a suite that a sweep has, with its published name.
///
/// # Errors
/// Two labels stand for one task, so that `averages` would count it twice.
pub(crate) fn labels<'a>(
    names: impl Iterator<Item = &'static str>,
    rows: &'a [Row],
    averages: &str,
) -> Result<Vec<(&'a str, &'static str)>, String> {
    let mut found = Vec::new();
    for name in names {
        let of_name = rows.iter().filter(|row| row.published_task.as_deref() == Some(name));
        let labels = tasks(of_name);
        if labels.len() > 1 {
            return Err(format!(
                "no {averages} averages: {} all stand for {name}; say `published: null` in all entries but one",
                labels.join(", ")
            ));
        }
        found.extend(labels.into_iter().map(|label| (label, name)));
    }
    Ok(found)
}
