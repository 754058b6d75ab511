//! The tables of a sweep: one row per (mixer, task), the runs that could not be scored, and what must be known to read them.
//!
//! A diverged run scores its task's floor. A run that failed, ran out of time, was interrupted or is missing is not
//! scored; it stays visible as a count in its row and as a line of its own. With a grid, the setting with the best mean
//! validation score, of language models with the least mean validation loss, is the one shown; test scores play no part in the
//! choice. An axis that a figure draws along is not tuned
//! over: every value of it has its own rows, and no mean is taken over them.

mod caption;
mod csv;
pub(crate) mod findings;
pub(crate) mod frame;
pub(crate) mod glue;
pub(crate) mod groups;
pub(crate) mod language;
pub(crate) mod lra;
pub(crate) mod overall;
pub(crate) mod render;
pub(crate) mod row;
mod rows;
pub(crate) mod signs;
mod warnings;

use crate::table::frame::Run;
use crate::table::glue::Glue;
use crate::table::groups::Group;
use crate::table::language::{Language, languages};
use crate::table::lra::Average;
use crate::table::overall::{Overall, overall, unlike, without_room};
use crate::table::row::{Row, mixers, sign_notes, tasks};
use crate::table::rows::{rows, tuned};
use crate::table::warnings::{edges, few_seeds, published_notes, uneven, unknown_models};
use crate::{Manifest, Record};
use polars::prelude::{DataFrame, PolarsError};
use serde::Serialize;

/// A run that did not finish.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Ended {
    /// Mixer.
    pub mixer: String,
    /// Task.
    pub task: String,
    /// Grid settings as text.
    pub settings: String,
    /// Seed.
    pub seed: u64,
    /// `diverged`, `failed`, `timed_out`, `interrupted`, `missing` (or `finished` without a score).
    pub outcome: String,
    /// Why.
    pub reason: String,
    /// Marks of the task.
    pub marks: Vec<String>,
}

/// The tables of one sweep.
#[derive(Clone, Debug)]
pub struct Table {
    /// The sweep's name.
    pub name: String,
    /// The sweep's question.
    pub question: String,
    /// One row per mixer and task, tasks outermost, both in the manifest's order.
    pub rows: Vec<Row>,
    /// Every setting of a grid; empty without one.
    pub settings: Vec<Row>,
    /// Runs that did not finish, in the manifest's order.
    pub ended: Vec<Ended>,
    /// Mixers over all tasks; empty for a single task, for tasks of unlike metrics, and beside GLUE.
    pub overall: Vec<Overall>,
    /// Tasks that those leave out: their floor is their ceiling.
    pub without_room: Vec<String>,
    /// Averages over Long Range Arena; empty unless the sweep has its first five tasks.
    pub averages: Vec<Average>,
    /// Means over tasks whose labels share the part before the first `/`; empty unless some label has one.
    pub groups: Vec<Group>,
    /// GLUE's tasks and averages; `None` unless the sweep has some of its tasks.
    pub glue: Option<Glue>,
    /// Language models and their baselines; empty unless runs report a perplexity.
    pub languages: Vec<Language>,
    /// How to read the numbers: metric, n, interval, what is matched, the command.
    pub caption: Vec<String>,
    /// Signs of tasks and letters of published numbers, explained.
    pub notes: Vec<String>,
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
        let grid = manifest.runs.iter().any(|run| !run.settings.is_empty());
        // A mean over tasks would mix the values of a swept axis.
        let pooled = rows.iter().all(|row| row.swept.is_empty());
        let without_room = without_room(&rows);
        let many = pooled && tasks(&rows).len() > 1;
        let unlike = if many { unlike(&rows) } else { None };
        let overall = if many && unlike.is_none() { overall(&mixers(manifest), &rows) } else { Vec::new() };
        let mut warnings = edges(manifest, &rows, &swept);
        warnings.extend(few_seeds(&rows));
        warnings.extend(uneven(runs));
        warnings.extend(unknown_models(&rows));
        let found = if pooled { lra::averages(&mixers(manifest), &rows) } else { Ok(Vec::new()) };
        let (averages, problem) = match found {
            Ok(averages) => (averages, None),
            Err(problem) => (Vec::new(), Some(problem)),
        };
        warnings.extend(problem);
        let (glue, problem) = match if pooled { glue::glue(&mixers(manifest), &rows) } else { Ok(None) } {
            Ok(glue) => (glue, None),
            Err(problem) => (None, Some(problem)),
        };
        warnings.extend(problem);
        let notes = sign_notes(&rows).into_iter().chain(sources).collect();
        Ok(Self {
            name: manifest.name.clone(),
            question: manifest.question.clone(),
            caption: caption::caption(manifest, runs, &rows, &swept, unlike),
            findings: findings::findings(&rows, &overall),
            settings: if grid && (pooled || rows.iter().any(|row| row.settings_tried > 1)) { all } else { Vec::new() },
            ended: runs.iter().filter_map(ended).collect(),
            groups: if pooled { groups::groups(&mixers(manifest), &rows) } else { Vec::new() },
            languages: languages(&rows),
            glue,
            rows,
            overall,
            without_room,
            averages,
            notes,
            warnings,
            runs: frame,
        })
    }
}

fn ended(run: &Run) -> Option<Ended> {
    let finished = run.outcome == "finished" && run.test.is_some();
    (!finished).then(|| Ended {
        mixer: run.planned.mixer.clone(),
        task: run.planned.task.clone(),
        settings: frame::settings_text(&run.planned.settings),
        seed: run.planned.seed,
        outcome: run.outcome.into(),
        reason: run.reason.clone(),
        marks: run.marks.clone(),
    })
}

#[cfg(test)]
mod tests;
