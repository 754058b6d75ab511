//! Runs that did not finish, one a line, and why.

use crate::grid::{Column, Grid, left, right};
use crate::table::frame::{self, Run};
use crate::table::section::{Part, Section};
use crate::table::signs;
use crate::table::sweep::Sweep;
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

const COLUMNS: [Column<Ended>; 6] = [
    left("mixer", 0, |r| r.mixer.clone()),
    left("task", 0, |r| signs::named(&r.task, &r.marks)),
    left("settings", 0, |r| r.settings.clone()),
    right("seed", 0, |r| r.seed.to_string()),
    left("outcome", 0, |r| r.outcome.clone()),
    left("reason", 0, |r| r.reason.clone()),
];

/// The section; without lines when all runs finished.
pub(crate) fn section(sweep: &Sweep) -> Vec<Section> {
    let ended: Vec<Ended> = sweep.runs.iter().filter_map(ended).collect();
    let grid = Grid::new(&COLUMNS, &ended);
    let title = "Runs that did not finish";
    let section = Section { name: "unfinished", title, part: Part::Appendix, grid, ..Section::default() };
    vec![section.with_json("unfinished", &ended)]
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
