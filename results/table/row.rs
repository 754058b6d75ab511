//! One row of the tables: a mixer on a task at one setting, and what rows have in common.

use crate::published::Published;
use crate::statistics::{Estimate, Interval, Measured, Range};
use crate::table::frame::Run;
use crate::table::signs;
use crate::{Manifest, Metric, OfBaseline, Tuned};
use serde::Serialize;
use std::collections::BTreeMap;

/// Redraws of a bootstrap; a standard error is then good to about 0.7 %.
pub(crate) const DRAWS: usize = 10_000;
/// Seed of that bootstrap: the same records give the same interval on any day.
pub(crate) const BOOTSTRAP_SEED: u64 = 0;

/// How many runs ended in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Trained and scored.
    pub finished: u64,
    /// Scored as the floor.
    pub diverged: u64,
    /// Died.
    pub failed: u64,
    /// Ran out of wall time.
    pub timed_out: u64,
    /// Stopped by the user.
    pub interrupted: u64,
    /// Planned, without a record.
    pub missing: u64,
}

impl Counts {
    /// `1 diverged, 2 failed`; empty when every run finished.
    pub fn remarks(&self) -> String {
        let counts = [
            (self.diverged, "diverged"),
            (self.failed, "failed"),
            (self.timed_out, "timed out"),
            (self.interrupted, "interrupted"),
            (self.missing, "missing"),
        ];
        let said = counts.iter().filter(|(n, _)| *n > 0).map(|(n, word)| format!("{n} {word}"));
        said.collect::<Vec<_>>().join(", ")
    }
}

/// How far a mixer got above guessing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Above {
    /// The interval over seeds and that over test examples (of a single seed the latter alone) lie above the floor, or there is
    /// nothing to compare.
    Floor,
    /// One of them touches the floor, or there is none, although the mean lies well above it: seeds disagree, they or the examples
    /// are few.
    Unsure,
    /// One of them touches the floor, or there is none, and the mean is within a tenth of the way to the ceiling.
    AtFloor,
}

/// One (mixer, task, settings).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Mixer.
    pub mixer: String,
    /// Task.
    pub task: String,
    /// Grid settings as text, empty without a grid.
    pub settings: String,
    /// Those of them that a figure draws along, which are not tuned over; empty without such a figure.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub swept: String,
    /// Settings tried for this mixer and task, at these values of the swept ones.
    pub settings_tried: usize,
    /// What the search chose whose setting its runs have.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tuned: Option<Tuned>,
    /// Name of the score; empty while no run has a record.
    pub metric: String,
    /// What the score is.
    #[serde(skip)]
    pub scored_by: Metric,
    /// Planned runs.
    pub planned: u64,
    /// Runs in the mean.
    pub scored: u64,
    /// How the runs ended.
    pub counts: Counts,
    /// Test score over seeds.
    pub test: Option<Estimate>,
    /// Mean validation score.
    pub validation: Option<f64>,
    /// Of a language model the validation loss at the best step, nats, over the runs that finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation_loss: Option<Measured>,
    /// What guessing scores.
    pub floor: Option<f64>,
    /// What a perfect solver scores.
    pub ceiling: Option<f64>,
    /// Whether the score tells the mixer from a guesser.
    pub above: Above,
    /// The mean score over the examples of the test split, which all its runs share: what other examples might have given. `None`
    /// where records do not count them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub over_examples: Option<Interval>,
    /// Finished runs that answered one class everywhere although test asks for several.
    #[serde(skip_serializing_if = "is_zero")]
    pub one_class: u64,
    /// Trainable parameters of the model.
    pub parameters: Option<u64>,
    /// Trainable parameters of the mixers in it.
    pub mixer_parameters: Option<u64>,
    /// Median training speed.
    pub steps_per_second: Option<f64>,
    /// Median training speed in tokens.
    pub tokens_per_second: Option<f64>,
    /// Median peak memory, bytes.
    pub peak_memory_bytes: Option<f64>,
    /// Median wall time of a run, seconds.
    pub wall_seconds: Option<f64>,
    /// Test scores that entered the mean, by seed in the manifest's order.
    pub scores: Vec<f64>,
    /// Which run of the row each of them is of, counted from 0 in the manifest's order.
    #[serde(skip)]
    pub scored_runs: Vec<usize>,
    /// Its runs, counted from 0 in the manifest's order over all rows.
    #[serde(skip)]
    pub runs: Vec<usize>,
    /// The seed of each of its runs, in the manifest's order.
    #[serde(skip)]
    pub seeds: Vec<u64>,
    /// Whether some of its runs start from another run: what that one learned, runs of the same seed on other tasks may share.
    #[serde(skip)]
    pub shares_starts: bool,
    /// Other numbers of the runs that are scored, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub measures: BTreeMap<String, Measured>,
    /// Those of them that are a baseline's of the task.
    #[serde(skip)]
    pub baselines: BTreeMap<String, OfBaseline>,
    /// What must be known of the task's data: `synthetic`, `validation_is_test`, `stand_in`.
    pub marks: Vec<String>,
    /// The task of the published table that this one is or stands for.
    pub published_task: Option<String>,
    /// The model of the published table that this mixer stands beside.
    pub published_model: Option<String>,
    /// The cell of that model at that task.
    pub published: Option<Published>,
    /// The measure of ours that the published number is compared with.
    #[serde(skip)]
    pub published_measure: Option<String>,
    /// Whether that is another measure than the score.
    #[serde(skip)]
    pub published_otherwise: bool,
    /// Whether the row is what papers print as FAIL: at the floor of a task that they print so.
    #[serde(skip)]
    pub fails: bool,
    /// The letter of its source in the notes below the table.
    #[serde(skip)]
    pub letter: String,
    /// Ours minus published, in points.
    pub difference_points: Option<f64>,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

impl Row {
    /// The task with the signs of its marks.
    pub(crate) fn task_shown(&self) -> String {
        signs::named(&self.task, &self.marks)
    }

    /// Where mixers are compared: the task and the values of the swept axes.
    pub(crate) fn place(&self) -> (&str, &str) {
        (&self.task, &self.swept)
    }

    /// `mqar ‡ at d_model=64`.
    pub(crate) fn place_shown(&self) -> String {
        if self.swept.is_empty() { self.task_shown() } else { format!("{} at {}", self.task_shown(), self.swept) }
    }

    /// A measure of a baseline.
    pub(crate) fn of_baseline(&self, name: &str, measure: &str) -> Option<&Measured> {
        let is_it = |of: &OfBaseline| of.baseline == name && of.measure == measure;
        self.baselines.iter().find(|(_, of)| is_it(of)).and_then(|(key, _)| self.measures.get(key))
    }

    /// The baselines that it has a loss of.
    pub(crate) fn baselines_with_loss(&self) -> impl Iterator<Item = &str> {
        let losses = self.baselines.iter().filter(|(key, of)| of.measure == "loss" && self.measures.contains_key(*key));
        losses.map(|(_, of)| of.baseline.as_str())
    }

    /// The runs behind it, out of all runs of the sweep.
    pub(crate) fn runs_of<'a, 'b>(&self, runs: &'a [Run<'b>]) -> Vec<&'a Run<'b>> {
        self.runs.iter().filter_map(|place| runs.get(*place)).collect()
    }

    /// The score of each scored run with the run's seed.
    pub(crate) fn scores_by_seed(&self) -> Vec<(u64, f64)> {
        self.scored_runs.iter().map(|run| self.seed(*run)).zip(self.scores.iter().copied()).collect()
    }

    /// The values of a measure with the seeds of their runs.
    pub(crate) fn by_seed(&self, measured: &Measured) -> Vec<(u64, f64)> {
        measured.runs.iter().map(|run| self.seed(*run)).zip(measured.values.iter().copied()).collect()
    }

    /// The seed of one of its runs, counted from 0 in the manifest's order.
    pub(crate) fn seed(&self, run: usize) -> u64 {
        self.seeds.get(run).copied().unwrap_or(run as u64)
    }

    /// Whether its floor is its ceiling, so that no score says anything: every answer is right.
    pub(crate) fn has_no_room(&self) -> bool {
        self.floor.zip(self.ceiling).is_some_and(|(floor, ceiling)| ceiling <= floor)
    }
}

/// How many points the first share lies above the second.
pub(crate) fn points(ours: f64, theirs: f64) -> f64 {
    100.0 * (ours - theirs)
}

/// The distinct tasks in order.
pub(crate) fn tasks<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Vec<&'a str> {
    let mut tasks: Vec<&str> = Vec::new();
    for row in rows {
        if !tasks.contains(&row.task.as_str()) {
            tasks.push(&row.task);
        }
    }
    tasks
}

/// The distinct tasks and values of the swept axes, in order of the tasks and within them of the axes.
pub(crate) fn places<'a>(rows: impl IntoIterator<Item = &'a Row>) -> Vec<(&'a str, &'a str)> {
    let mut places: Vec<(&str, &str)> = Vec::new();
    for row in rows {
        if !places.contains(&row.place()) {
            places.push(row.place());
        }
    }
    places
}

/// The distinct mixers in the manifest's order.
pub(crate) fn mixers(manifest: &Manifest) -> Vec<&str> {
    let mut mixers: Vec<&str> = Vec::new();
    for run in &manifest.runs {
        if !mixers.contains(&run.mixer.as_str()) {
            mixers.push(&run.mixer);
        }
    }
    mixers
}

/// (score - floor) / (ceiling - floor): 0 is guessing, 1 perfect.
pub(crate) fn normalised(row: &Row) -> Vec<f64> {
    let (floor, ceiling) = (row.floor.unwrap_or(0.0), row.ceiling.unwrap_or(1.0));
    if ceiling <= floor {
        return Vec::new();
    }
    row.scores.iter().map(|score| (score - floor) / (ceiling - floor)).collect()
}

/// What the signs beside the tasks stand for.
pub(crate) fn sign_notes(rows: &[Row]) -> Vec<String> {
    let of_task = |task: &&str| rows.iter().find(|row| row.task == *task);
    let marked: Vec<_> = tasks(rows).iter().filter_map(of_task).collect();
    let marked: Vec<signs::Marked> =
        marked.iter().map(|row| (row.task.as_str(), &row.marks[..], row.published_task.as_deref())).collect();
    signs::explained(&marked)
}

/// `[0, 1]`, `[−1, 1]`, or both with what they are for.
pub(crate) fn clipped_to(rows: &[Row]) -> String {
    let mut ranges: Vec<Range> = Vec::new();
    for range in rows.iter().filter(|row| !row.metric.is_empty()).map(|row| row.scored_by.range()) {
        if !ranges.contains(&range) {
            ranges.push(range);
        }
    }
    let is_known = |range: &Range| [Range::SHARE, Range::CORRELATION].contains(range);
    match &ranges[..] {
        [] => Range::SHARE.text(),
        [only] => only.text(),
        both if both.iter().all(is_known) => {
            format!("{}, correlations to {}", Range::SHARE.text(), Range::CORRELATION.text())
        }
        _ => "the range of each score".into(),
    }
}
