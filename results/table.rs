//! The tables of a sweep: one row per (mixer, task), the runs that could not be scored, and what must be known to read them.
//!
//! A diverged run scores its task's floor. A run that failed, ran out of time, was interrupted or is missing is not
//! scored; it stays visible as a count in its row and as a line of its own. With a grid, the setting with the best mean
//! validation score, of language models with the least mean validation loss, is the one shown; test scores play no part in the
//! choice. An axis that a figure draws along is not tuned
//! over: every value of it has its own rows, and no mean is taken over them.

pub(crate) mod findings;
pub(crate) mod frame;
pub(crate) mod glue;
pub(crate) mod groups;
pub(crate) mod language;
pub(crate) mod lra;
pub(crate) mod render;
pub(crate) mod signs;

use crate::published::{self, PATH_256, PATH_X, Published};
use crate::statistics::{
    Estimate, Interval, Measured, Range, interquartile_by_seed, interquartile_interval, interquartile_mean, mean,
    over_examples,
};
use crate::table::frame::Run;
use crate::table::glue::Glue;
use crate::table::groups::Group;
use crate::table::language::{Language, languages};
use crate::table::lra::Average;
use crate::{Manifest, Metric, MetricKind, Record, Tested, Versions};
use polars::prelude::{DataFrame, PolarsError};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// What the difference to a published number is, and what it is not.
const PUBLISHED: &str = "Published numbers come from their papers' own sizes, data and budgets: Δ, ours minus published in \
                         points, says how far this sweep is from them, not which code is better.";

/// What fine-tuned scores depend on besides the task.
const PRETRAINED: &str = "Published GLUE scores are of encoders pretrained on C4 or on Wikipedia and books at their papers' \
                          sizes; ours are pretrained on what this sweep names, and their distance is mostly that.";

/// The measure that counts the classes that a run answered on test.
const PREDICTED_CLASSES: &str = "predicted_classes";

/// Accuracy on MNLI's test genres that were trained on, as a measure of a row.
pub(crate) const MATCHED: &str = "matched";
/// And on the genres that were not; also the axis of the details that both are taken from.
pub(crate) const MISMATCHED: &str = "mismatched";

/// How a score is held against the floor.
const EXAMPLES: &str = "A score is above the floor where neither its interval over seeds nor the 95 % interval over the test \
                        examples, which all seeds share, reaches it; with one seed the latter stands alone and is printed.";
const ONE_SEED: &str = "In place of an interval over seeds stands the 95 % interval over the test examples, which knows nothing of \
                        other seeds; a score is above the floor where it does not reach it.";

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
    /// The seed of each of its runs, in the manifest's order.
    #[serde(skip)]
    pub seeds: Vec<u64>,
    /// Whether some of its runs start from another run: what that one learned, runs of the same seed on other tasks may share.
    #[serde(skip)]
    pub shares_starts: bool,
    /// Other numbers of the runs that are scored, by name.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub measures: BTreeMap<String, Measured>,
    /// What must be known of the task's data: `synthetic`, `validation_is_test`, `stand_in`.
    pub marks: Vec<String>,
    /// The task of the published table that this one is or stands for.
    pub published_task: Option<String>,
    /// The model of the published table that this mixer stands beside.
    pub published_model: Option<String>,
    /// The cell of that model at that task.
    pub published: Option<Published>,
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

    /// Whether the published number beside it is of another measure than the score.
    pub(crate) fn published_otherwise(&self) -> bool {
        self.published_measure().is_some_and(|measure| !self.is_score(measure))
    }

    /// Whether the score is what a measure of that name is. MNLI's sets are measures of their own.
    pub(crate) fn is_score(&self, measure: &str) -> bool {
        is_score(&self.scored_by, measure)
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

    /// The measure of ours that the published number is compared with.
    pub(crate) fn published_measure(&self) -> Option<&str> {
        self.published.as_ref().map(|cell| compared(cell, &self.measures))
    }

    /// Whether the row is what papers print as FAIL: a Path-X or Path-256 at its floor.
    pub fn fails(&self) -> bool {
        let long = self.published_task.as_deref().is_some_and(|task| [PATH_X, PATH_256].contains(&task));
        long && self.test.is_some() && self.above == Above::AtFloor
    }
}

/// How many points the first share lies above the second.
pub(crate) fn points(ours: f64, theirs: f64) -> f64 {
    100.0 * (ours - theirs)
}

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

/// A mixer over all tasks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Overall {
    /// Mixer.
    pub mixer: String,
    /// Interquartile mean of (score - floor) / (ceiling - floor) over all runs; `None` if a task has no scored run.
    pub score: Option<f64>,
    /// Over seeds, stratified by task; `None` if a task has fewer than two scored seeds.
    pub interval: Option<Interval>,
    /// Runs in it.
    pub n: usize,
    /// Tasks with a scored run.
    pub tasks: usize,
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
        let runs = frame::runs(manifest, records);
        let frame = frame::runs_frame(&runs)?;
        let swept = manifest.swept();
        let mut all = rows(&frame::aggregate(frame.clone())?, &runs, &swept)?;
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
        warnings.extend(uneven(&runs));
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
            caption: caption(manifest, &runs, &rows, &swept, unlike),
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

/// The aggregated frame as rows.
fn rows(cells: &DataFrame, runs: &[Run], swept: &[&str]) -> Result<Vec<Row>, PolarsError> {
    let float = |name: &str, i: usize| Ok::<_, PolarsError>(cells.column(name)?.f64()?.get(i));
    let count = |name: &str, i: usize| Ok::<_, PolarsError>(cells.column(name)?.u64()?.get(i));
    let place = |name: &str, i: usize| Ok::<_, PolarsError>(cells.column(name)?.u32()?.get(i).unwrap_or_default());
    let text = |name: &str, i: usize| Ok::<_, PolarsError>(cells.column(name)?.str()?.get(i).unwrap_or_default());
    let mut rows = Vec::with_capacity(cells.height());
    for i in 0..cells.height() {
        let number = |name: &str| count(name, i).map(Option::unwrap_or_default);
        let order = [place("mixer_order", i)?, place("task_order", i)?, place("setting_order", i)?];
        let (scored, sd) = (number("scored")?, float("test_sd", i)?);
        let metric = text("metric", i)?;
        let (floor, ceiling) = (float("floor", i)?, float("ceiling", i)?);
        let alike: Vec<&Run> = runs.iter().filter(|run| run.order == order).collect();
        let first = alike.first();
        let declared = alike.iter().filter_map(|run| run.record).find(|record| record.metric == metric);
        let scored_by = declared.map_or_else(|| Metric::of_older(metric), Record::scored_by);
        let test = float("test", i)?.map(|mean| Estimate::new(mean, sd, scored as usize, scored_by.range()));
        let finished = number("finished")?;
        let over_examples = test.and_then(|test| of_examples(&alike, test.mean, &scored_by));
        let one_class = alike.iter().filter(|run| run.outcome == "finished" && is_constant(run)).count() as u64;
        let beside = first.and_then(|run| run.planned.published.as_ref());
        let published_model = beside.and_then(|beside| beside.model.clone());
        let published = beside.and_then(|beside| published::find(beside.model.as_deref()?, &beside.task)).cloned();
        let measures = measures(&alike, runs, &scored_by, beside.map(|beside| beside.task.as_str()));
        let difference_points = published.as_ref().and_then(|cell| difference(cell, &scored_by, test, &measures));
        rows.push(Row {
            mixer: text("mixer", i)?.into(),
            task: text("task", i)?.into(),
            settings: text("settings", i)?.into(),
            swept: first.map(|run| frame::swept_text(&run.planned.settings, swept)).unwrap_or_default(),
            settings_tried: 1,
            metric: metric.into(),
            planned: number("planned")?,
            scored,
            counts: Counts {
                finished,
                diverged: number("diverged")?,
                failed: number("failed")?,
                timed_out: number("timed_out")?,
                interrupted: number("interrupted")?,
                missing: number("missing")?,
            },
            test,
            validation: float("validation", i)?,
            validation_loss: scored_by.chosen_by_loss.then(|| validation_loss(&alike)),
            floor,
            ceiling,
            above: match one_class > 0 && one_class == finished {
                // No better than the constant that it is, whatever the floor of its record was.
                true => Above::AtFloor,
                false => above(test, floor, ceiling, over_examples),
            },
            over_examples,
            one_class,
            parameters: count("parameters", i)?,
            mixer_parameters: count("mixer_parameters", i)?,
            steps_per_second: float("steps_per_second", i)?,
            tokens_per_second: float("tokens_per_second", i)?,
            peak_memory_bytes: float("peak_memory_bytes", i)?,
            wall_seconds: float("wall_seconds", i)?,
            scores: alike.iter().filter_map(|run| run.test).collect(),
            scored_runs: (0..).zip(&alike).filter_map(|(place, run)| run.test.map(|_| place)).collect(),
            seeds: alike.iter().map(|run| run.planned.seed).collect(),
            shares_starts: alike.iter().filter_map(|run| run.record).any(Record::starts_from_a_run),
            scored_by,
            measures,
            marks: first.map(|run| run.marks.clone()).unwrap_or_default(),
            published_task: beside.map(|beside| beside.task.clone()),
            published_model,
            difference_points,
            published,
            letter: String::new(),
        });
    }
    Ok(rows)
}

/// Ours minus published in points, like from like: where the published number is not of the score, that measure of ours.
fn difference(
    cell: &Published,
    metric: &Metric,
    test: Option<Estimate>,
    measures: &BTreeMap<String, Measured>,
) -> Option<f64> {
    let measure = compared(cell, measures);
    let ours = match is_score(metric, measure) {
        true => test?.mean,
        false => measures.get(measure)?.mean?,
    };
    Some(points(ours, cell.accuracy?))
}

/// The measure of ours that a published number is of: MNLI is quoted for its matched set, while the score is over both.
fn compared<'a>(cell: &'a Published, measures: &BTreeMap<String, Measured>) -> &'a str {
    let matched = (cell.task.as_str(), cell.measure.as_str()) == ("MNLI", "accuracy") && measures.contains_key(MATCHED);
    if matched { MATCHED } else { &cell.measure }
}

/// Whether a score is what a measure of that name is. MNLI's sets are measures of their own.
fn is_score(metric: &Metric, measure: &str) -> bool {
    ![MATCHED, MISMATCHED].contains(&measure) && metric.is_measure(measure)
}

/// Numbers besides the score, over the runs that are scored. A diverged run counts the floor of those that have one.
fn measures(alike: &[&Run], runs: &[Run], metric: &Metric, published_task: Option<&str>) -> BTreeMap<String, Measured> {
    let mut values: BTreeMap<String, Vec<(usize, f64)>> = BTreeMap::new();
    let names = floored(alike, runs, metric, published_task);
    for (place, run) in alike.iter().enumerate() {
        let Some(test) = run.test else { continue };
        let diverged = run.outcome == "diverged";
        for (name, value) in numbers(run).into_iter().filter(|(name, _)| !diverged || !names.contains(*name)) {
            values.entry(name.into()).or_default().push((place, value));
        }
        for name in names.iter().filter(|_| diverged) {
            let floor = floor_of(name, metric, test).map(|floor| (place, floor));
            values.entry(name.to_string()).or_default().extend(floor);
        }
    }
    values.into_iter().map(|(name, values)| (name, Measured::of_runs(values))).collect()
}

/// What a run reports; MNLI's two test sets are details of one split.
fn numbers<'a>(run: &Run<'a>) -> Vec<(&'a str, f64)> {
    let Some(record) = run.record else { return Vec::new() };
    let sets = record.details.iter().filter(|d| (d.measure.as_str(), d.axis.as_str()) == ("score", MISMATCHED));
    let sets = sets.map(|detail| (if detail.at == 0.0 { MATCHED } else { MISMATCHED }, detail.value));
    record.known_measures().chain(sets).collect()
}

/// The measures that a diverged run of a row has by its floor: those of the row's finished runs, without any those of the
/// task's, and without any those by which GLUE is quoted.
fn floored<'a>(
    alike: &[&Run<'a>],
    runs: &[Run<'a>],
    metric: &Metric,
    published_task: Option<&str>,
) -> BTreeSet<&'a str> {
    let of = |run: &Run<'a>| if run.outcome == "finished" && run.test.is_some() { numbers(run) } else { Vec::new() };
    let task = |run: &&Run<'a>| alike.first().is_some_and(|first| first.order[1] == run.order[1]);
    let mut names: BTreeSet<&str> = alike.iter().flat_map(|run| of(run)).map(|(name, _)| name).collect();
    if names.is_empty() {
        names = runs.iter().filter(task).flat_map(of).map(|(name, _)| name).collect();
    }
    if names.is_empty() {
        let known = published_task.filter(|task| published::GLUE.contains(task));
        names = known.map(|task| glue::measures_of(task).iter().copied().collect()).unwrap_or_default();
    }
    names.retain(|name| floor_of(name, metric, 0.0).is_some());
    names
}

/// What a diverged run counts for a measure: 0 of F1 and of correlations, of accuracies what the best constant answer or a guesser
/// scores; `None` for what has no floor, like a loss. `floor` is that of the score.
fn floor_of(measure: &str, metric: &Metric, floor: f64) -> Option<f64> {
    match measure {
        "f1" | "mcc" | "pearson" | "spearman" => Some(0.0),
        "accuracy" if metric.kind == MetricKind::F1Accuracy => Some(guessed_accuracy(floor)),
        "accuracy" | MATCHED | MISMATCHED if metric.is_accuracy() => Some(floor),
        _ => None,
    }
}

/// The accuracy `a` of always answering the positive class, from the mean `m` of its F1 and its accuracy: the F1 is `2a/(1 + a)`, so
/// `a² + (3 - 2m) a - 2m = 0`. Always answering the negative class, whose F1 is 0, has the mean `(1 - a)/2`: the less where more than
/// 28.1 % are positive ((√17 - 3)/4), as in MRPC (68.4 %) and QQP (36.8 %), the only tasks of this score.
fn guessed_accuracy(mean: f64) -> f64 {
    let b = 3.0 - 2.0 * mean;
    ((b * b + 8.0 * mean).sqrt() - b) / 2.0
}

/// Whether a run answered one class everywhere where test asks for more than one.
fn is_constant(run: &Run) -> bool {
    let Some(record) = run.record else { return false };
    let several = record.scores.floor.is_none_or(|floor| floor < 1.0);
    several && record.measures.get(PREDICTED_CLASSES) == Some(&1.0)
}

/// The interval over examples of the mean score of some runs. All were scored on the same ones, so that more seeds do not make it
/// narrower: its standard error is the mean of theirs.
fn of_examples(runs: &[&Run], score: f64, metric: &Metric) -> Option<Interval> {
    let finished = runs.iter().filter(|run| run.outcome == "finished" && run.test.is_some());
    let tested: Vec<Tested> = finished.filter_map(|run| run.record?.scores.tested).collect();
    let fewest = |of: fn(&Tested) -> u64| tested.iter().map(of).min();
    let errors: Vec<f64> = tested.iter().filter_map(|tested| tested.standard_error).collect();
    let tested = Tested {
        examples: fewest(|tested| tested.examples)?,
        positions: fewest(|tested| tested.positions)?,
        standard_error: mean(&errors),
    };
    over_examples(score, &tested, metric)
}

/// Above the floor is what the interval over seeds and the one over test examples both are. With one seed the latter alone decides,
/// and where it is not known, nothing does.
fn above(test: Option<Estimate>, floor: Option<f64>, ceiling: Option<f64>, examples: Option<Interval>) -> Above {
    let (Some(test), Some(floor)) = (test, floor) else { return Above::Floor };
    // Equal scores have a mean that rounding may put above them.
    let is_above = |interval: Interval| interval.low > floor + 1e-9;
    if match (test.interval, examples) {
        (Some(seeds), examples) => is_above(seeds) && examples.is_none_or(is_above),
        (None, examples) => examples.is_some_and(is_above),
    } {
        return Above::Floor;
    }
    let near = test.mean <= floor + 0.1 * (ceiling.unwrap_or(1.0) - floor);
    if near { Above::AtFloor } else { Above::Unsure }
}

/// The validation loss at the best step.
fn validation_loss(runs: &[&Run]) -> Measured {
    let finished = runs.iter().filter(|run| run.outcome == "finished" && run.test.is_some());
    let loss = |record: &Record| {
        record.curve.iter().rfind(|point| point.step == record.best_step).map(|point| point.validation_loss)
    };
    Measured::new(finished.filter_map(|run| loss(run.record?)).collect())
}

/// For each (mixer, task) and value of the swept axes the setting with the best mean validation score among those with most
/// scored seeds, the first of equals: one lucky seed of a setting that mostly failed is no tuning. Of language models, whose
/// checkpoints are chosen by loss, it is the setting of least mean validation loss; a diverged seed has none, so a setting with
/// one is behind all settings with fewer.
fn tuned(all: &[Row]) -> Vec<Row> {
    let mut best: Vec<Row> = Vec::new();
    for row in all {
        let known = best.iter_mut().find(|b| b.mixer == row.mixer && b.place() == row.place());
        let Some(known) = known else {
            best.push(row.clone());
            continue;
        };
        let by_loss = row.scored_by.chosen_by_loss || known.scored_by.chosen_by_loss;
        let merit = |row: &Row| match &row.validation_loss {
            _ if !by_loss => (row.scored, 0, row.validation.unwrap_or(f64::NEG_INFINITY)),
            Some(loss) => (row.scored, loss.n, loss.mean.map_or(f64::NEG_INFINITY, |loss| -loss)),
            None => (row.scored, 0, f64::NEG_INFINITY),
        };
        let tried = known.settings_tried + 1;
        if merit(row) > merit(known) {
            *known = row.clone();
        }
        known.settings_tried = tried;
    }
    best
}

/// Why there is no mean over all tasks.
fn unlike(rows: &[Row]) -> Option<&'static str> {
    let metrics: BTreeSet<&str> = rows.iter().map(|row| row.metric.as_str()).filter(|name| !name.is_empty()).collect();
    let of_glue = |row: &Row| row.published_task.as_deref().is_some_and(|task| published::GLUE.contains(&task));
    if rows.iter().any(of_glue) {
        return Some("No mean over all tasks: GLUE is averaged by its papers' rules.");
    }
    (metrics.len() > 1).then_some("No mean over all tasks: their metrics differ.")
}

/// Every mixer over all tasks. Scores are normalised, so that a task with a high floor weighs no more than another.
fn overall(mixers: &[&str], rows: &[Row]) -> Vec<Overall> {
    let left_out = without_room(rows);
    let rows: Vec<&Row> = rows.iter().filter(|row| !left_out.contains(&row.task)).collect();
    let n_tasks = tasks(rows.iter().copied()).len();
    let of_mixer = |mixer: &str| {
        let rows: Vec<&Row> = rows.iter().copied().filter(|row| row.mixer == mixer).collect();
        let scores: Vec<Vec<f64>> = rows.iter().map(|row| normalised(row)).filter(|s| !s.is_empty()).collect();
        let interval = || match rows.iter().any(|row| row.shares_starts) {
            true => {
                let seeds =
                    |row: &&Row| row.scores_by_seed().into_iter().map(|(seed, _)| seed).zip(normalised(row)).collect();
                interquartile_by_seed(&rows.iter().map(seeds).collect::<Vec<_>>())
            }
            false => interquartile_interval(&scores, DRAWS, BOOTSTRAP_SEED),
        };
        let entered_all = scores.len() == n_tasks;
        let pooled = scores.concat();
        Overall {
            mixer: mixer.into(),
            score: entered_all.then(|| interquartile_mean(&pooled)).flatten(),
            interval: entered_all.then(interval).flatten().map(|interval| interval.clipped(normalised_range(&rows))),
            n: pooled.len(),
            tasks: scores.len(),
        }
    };
    mixers.iter().copied().map(of_mixer).collect()
}

/// Tasks whose floor is their ceiling.
fn without_room(rows: &[Row]) -> Vec<String> {
    tasks(rows.iter().filter(|row| row.has_no_room())).into_iter().map(String::from).collect()
}

/// (score - floor) / (ceiling - floor): 0 is guessing, 1 perfect.
pub(crate) fn normalised(row: &Row) -> Vec<f64> {
    let (floor, ceiling) = (row.floor.unwrap_or(0.0), row.ceiling.unwrap_or(1.0));
    if ceiling <= floor {
        return Vec::new();
    }
    row.scores.iter().map(|score| (score - floor) / (ceiling - floor)).collect()
}

/// Between which ends normalised scores of these rows lie.
fn normalised_range(rows: &[&Row]) -> Range {
    let ends = rows.iter().map(|row| {
        let (floor, ceiling) = (row.floor.unwrap_or(0.0), row.ceiling.unwrap_or(1.0));
        let Range { low, high } = row.scored_by.range();
        ((low - floor) / (ceiling - floor), (high - floor) / (ceiling - floor))
    });
    let (low, high) = ends.fold((0.0_f64, 1.0_f64), |(low, high), ends| (low.min(ends.0), high.max(ends.1)));
    Range { low, high }
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

/// Gives every published source its letter, in the order of the rows, and says what the letters stand for.
fn published_notes(rows: &mut [Row]) -> Vec<String> {
    let mut known: Vec<(String, String)> = Vec::new();
    for row in rows {
        let Some(cell) = &row.published else { continue };
        let source = (cell.model.clone(), cell.cited());
        let place = known.iter().position(|other| *other == source).unwrap_or(known.len());
        if place == known.len() {
            known.push(source);
        }
        row.letter = signs::letter(place);
    }
    let note = |(i, (model, cited)): (usize, &(String, String))| format!("{} {model}: {cited}.", signs::letter(i));
    known.iter().enumerate().map(note).collect()
}

/// What the signs beside the tasks stand for.
pub(crate) fn sign_notes(rows: &[Row]) -> Vec<String> {
    let of_task = |task: &&str| rows.iter().find(|row| row.task == *task);
    let marked: Vec<_> = tasks(rows).iter().filter_map(of_task).collect();
    let marked: Vec<signs::Marked> =
        marked.iter().map(|row| (row.task.as_str(), &row.marks[..], row.published_task.as_deref())).collect();
    signs::explained(&marked)
}

/// Models of a plan that this build's table does not have.
fn unknown_models(rows: &[Row]) -> Vec<String> {
    let known = published::models();
    let named: BTreeSet<&str> = rows.iter().filter_map(|row| row.published_model.as_deref()).collect();
    let unknown = named.into_iter().filter(|model| !known.contains(model));
    unknown.map(|model| format!("`{model}` is not in this build's table of published numbers")).collect()
}

/// A best value at the edge of an axis that is tuned over: a better one may lie beyond.
fn edges(manifest: &Manifest, rows: &[Row], swept: &[&str]) -> Vec<String> {
    let mut warnings = Vec::new();
    for row in rows.iter().filter(|row| row.settings_tried > 1 && row.validation.is_some()) {
        let of_row = manifest.runs.iter().filter(|run| run.mixer == row.mixer && run.task == row.task);
        let tried: Vec<_> = of_row.filter(|run| frame::swept_text(&run.settings, swept) == row.swept).collect();
        let Some(chosen) = tried.iter().find(|run| frame::settings_text(&run.settings) == row.settings) else {
            continue;
        };
        for (key, value) in chosen.settings.iter().filter(|(key, _)| !swept.contains(&key.as_str())) {
            let on_axis = tried.iter().flat_map(|run| &run.settings).filter(|(k, _)| k == key);
            let values: Option<Vec<f64>> = on_axis.map(|(_, v)| v.parse().ok()).collect();
            let (Some(mut values), Ok(best)) = (values, value.parse::<f64>()) else { continue };
            values.sort_by(f64::total_cmp);
            values.dedup();
            let (Some(first), Some(last)) = (values.first(), values.last()) else { continue };
            let edge = if best == *first { "smallest" } else { "largest" };
            if values.len() > 1 && (best == *first || best == *last) {
                let at = if row.swept.is_empty() { String::new() } else { format!(" at {}", row.swept) };
                let (mixer, task, n) = (&row.mixer, &row.task, values.len());
                warnings.push(format!(
                    "{mixer} on {task}{at}: the best `{key}` = {value} is the {edge} of {n} tried; a better one may lie beyond"
                ));
            }
        }
    }
    warnings
}

/// Intervals from two seeds are nearly always as wide as the scale.
fn few_seeds(rows: &[Row]) -> Option<String> {
    let fewest = rows.iter().filter(|row| row.scored > 0).map(|row| row.scored).min()?;
    match fewest {
        1 => Some("a score with n = 1 has no interval: run more seeds before comparing it".into()),
        2 => Some("with n = 2 an interval is 9 standard deviations to each side: run more seeds".into()),
        _ => None,
    }
}

/// Records of one table that were not made alike.
fn uneven(runs: &[Run]) -> Vec<String> {
    let distinct =
        |of: fn(&Record) -> String| -> BTreeSet<String> { runs.iter().filter_map(|r| r.record.map(of)).collect() };
    let list = |values: BTreeSet<String>| values.into_iter().collect::<Vec<_>>().join("; ");
    let machines = distinct(|r| {
        format!("{} {} with {} threads on {}", r.device.kind, r.device.name, r.device.threads, r.device.host)
    });
    let versions = distinct(|r| {
        let Versions { mixarena, libtorch, commit } = &r.versions;
        let commit = if commit.is_empty() { "unknown" } else { commit };
        format!("mixarena {mixarena}, libtorch {libtorch}, commit {commit}")
    });
    let mut warnings = Vec::new();
    if machines.len() > 1 {
        warnings.push(format!("speed, memory and time cannot be compared: runs come from {}", list(machines)));
    }
    if versions.len() > 1 {
        warnings.push(format!("runs were made with different versions: {}", list(versions)));
    }
    warnings
}

fn caption(manifest: &Manifest, runs: &[Run], rows: &[Row], swept: &[&str], unlike: Option<&str>) -> Vec<String> {
    let mut lines = vec![format!("{}, {}.", metrics(rows), interval_text(rows))];
    let axes = axes(rows, manifest, swept);
    let tried: BTreeSet<usize> = rows.iter().map(|row| row.settings_tried).collect();
    let grid = manifest.runs.iter().any(|run| !run.settings.is_empty());
    if grid && (axes.is_empty() || tried.last().is_some_and(|most| *most > 1)) {
        let tried = range(tried.first().copied().unwrap_or(0) as u64, tried.last().copied().unwrap_or(0) as u64);
        let each = if axes.is_empty() { "mixer and task".into() } else { format!("mixer, task, {}", axes.join(", ")) };
        let known = || rows.iter().filter(|row| !row.metric.is_empty());
        let by =
            match (known().any(|row| row.scored_by.chosen_by_loss), known().all(|row| row.scored_by.chosen_by_loss)) {
                (false, _) => "mean validation score",
                (true, true) => "least mean validation loss at the best step",
                (true, false) => {
                    "mean validation score, those of language models by least mean validation loss at the best step"
                }
            };
        lines.push(format!("Settings chosen by {by}, {tried} tried for each {each}."));
    }
    if !axes.is_empty() {
        let (axes, are) = (axes.join(" and "), if axes.len() > 1 { "are" } else { "is" });
        lines.push(format!(
            "{axes} {are} swept, not tuned: every value has its own row, and no mean is taken over them."
        ));
    }
    let examples = rows.iter().filter(|row| row.over_examples.is_some());
    match examples.clone().any(|row| row.test.is_some_and(|test| test.n > 1)) {
        true => lines.push(EXAMPLES.into()),
        false if examples.count() > 0 => lines.push(ONE_SEED.into()),
        false => {}
    }
    if rows.iter().any(|row| row.one_class > 0) {
        lines.push("One class: every test example got the same answer, whose share of test the score is.".into());
    }
    if rows.iter().any(|row| row.counts.diverged > 0) {
        let room = rows.iter().any(|row| row.counts.diverged > 0 && row.has_no_room());
        let none = if room { ", or 0 where the floor is the ceiling" } else { "" };
        lines.push(format!("A diverged run scores the floor{none}."));
    }
    if rows.iter().any(|row| row.scored < row.planned) {
        lines.push("Runs without a score are not in the mean; they are listed below.".into());
    }
    if rows.iter().any(|row| row.published.is_some()) {
        lines.push(PUBLISHED.into());
    }
    let of_glue = |row: &&Row| row.published_task.as_deref().is_some_and(|task| published::GLUE.contains(&task));
    if rows.iter().filter(of_glue).any(|row| row.published.is_some()) {
        lines.push(PRETRAINED.into());
    }
    if rows.iter().any(Row::published_otherwise) {
        lines.push(
            "Where a published number is not of the score, its measure is named, and Δ is from ours of it.".into(),
        );
        if rows.iter().any(|row| row.published_measure() == Some(MATCHED)) {
            lines.push("MNLI is published for its matched set; the score is over matched and mismatched.".into());
        }
    }
    if rows.iter().any(Row::fails) {
        lines.push("FAIL: no better than guessing, as papers print it for Path-X.".into());
    }
    lines.extend(unlike.map(String::from));
    lines.push(matching(runs, rows, swept));
    lines.push(machine(runs));
    lines.retain(|line| !line.is_empty());
    if !manifest.command.is_empty() {
        lines.push(format!("Made by `{}`.", manifest.command));
    }
    lines
}

/// The swept axes that some run has, by the last words of their paths.
fn axes<'a>(rows: &[Row], manifest: &Manifest, swept: &[&'a str]) -> Vec<&'a str> {
    if rows.iter().all(|row| row.swept.is_empty()) {
        return Vec::new();
    }
    let some = |path: &&&str| manifest.runs.iter().flat_map(|run| &run.settings).any(|(key, _)| key == **path);
    swept.iter().filter(some).map(|path| frame::last_word(path)).collect()
}

/// `Test accuracy`, or each task's metric where they differ.
fn metrics(rows: &[Row]) -> String {
    let known: Vec<&Row> = rows.iter().filter(|row| !row.metric.is_empty()).collect();
    let names: BTreeSet<&str> = known.iter().map(|row| row.metric.as_str()).collect();
    if names.len() < 2 {
        return format!("Test {}", names.first().unwrap_or(&"score"));
    }
    let of_task =
        |task: &&str| known.iter().find(|row| row.task == *task).map(|row| format!("{} ({task})", row.metric));
    format!("Test {}", tasks(rows).iter().filter_map(of_task).collect::<Vec<_>>().join(", "))
}

fn interval_text(rows: &[Row]) -> String {
    let n: BTreeSet<u64> = rows.iter().map(|row| row.scored).filter(|n| *n > 0).collect();
    let (Some(fewest), Some(most)) = (n.first(), n.last()) else { return "no run is scored yet".into() };
    match (*fewest, *most) {
        (1, 1) => "one seed, so no interval".into(),
        (low, high) => {
            let (n, ends) = (range(low, high), clipped_to(rows));
            format!("mean and 95 % Student-t interval over n = {n} seeds, clipped to {ends}")
        }
    }
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

/// What the mixers were given alike, and what not.
fn matching(runs: &[Run], rows: &[Row], swept: &[&str]) -> String {
    let finished = || runs.iter().filter(|run| run.outcome == "finished").filter_map(|run| Some((run, run.record?)));
    let steps: BTreeSet<u64> = finished().map(|(_, record)| record.steps).collect();
    let (Some(fewest), Some(most)) = (steps.first(), steps.last()) else { return String::new() };
    // What was granted counts, not what a run that stopped early made of it.
    let granted = |record: &Record| record.spec["budget"]["steps"].as_u64().unwrap_or(record.steps);
    let place = |run: &Run| (run.planned.task.clone(), frame::swept_text(&run.planned.settings, swept));
    let budgets: BTreeSet<((String, String), u64)> = finished().map(|(run, r)| (place(run), granted(r))).collect();
    let tasks_alike: BTreeSet<&(String, String)> = budgets.iter().map(|(place, _)| place).collect();
    let alike: BTreeSet<u64> = budgets.iter().map(|(_, budget)| *budget).collect();
    let early = if finished().any(|(_, record)| record.steps < granted(record)) {
        format!("; early stops from {fewest}")
    } else {
        String::new()
    };
    let and_value = if rows.iter().all(|row| row.swept.is_empty()) { "" } else { " and swept value" };
    let steps = match alike.first() {
        Some(budget) if alike.len() == 1 => format!("Matched by training steps ({budget}{early})"),
        _ if budgets.len() == tasks_alike.len() => {
            format!("Matched by training steps within each task{and_value} ({fewest} to {most}{early})")
        }
        _ => format!("Not matched by training steps, which vary from {fewest} to {most}"),
    };
    let of_place = |place: (&str, &str)| {
        let counts = rows.iter().filter(|row| row.place() == place).filter_map(|row| row.parameters);
        let (low, high) = counts.fold((u64::MAX, 0), |(low, high), n| (low.min(n), high.max(n)));
        (low <= high && low > 0).then_some((low, high))
    };
    let ranges: Vec<(u64, u64)> = places(rows).into_iter().filter_map(of_place).collect();
    let spread = ranges.iter().map(|(low, high)| *high as f64 / *low as f64).fold(1.0, f64::max);
    let (Some(low), Some(high)) = (ranges.iter().map(|r| r.0).min(), ranges.iter().map(|r| r.1).max()) else {
        return format!("{steps}.");
    };
    let alike = if ranges.len() > 1 {
        format!(", by up to a factor of {spread:.2} within a task{and_value}")
    } else {
        String::new()
    };
    if low == high {
        format!("{steps} and by parameters ({low}).")
    } else if spread <= 1.1 {
        format!("{steps} and by parameters to {:.1} % ({low} to {high}).", 100.0 * (spread - 1.0))
    } else {
        format!("{steps}, not by parameters: they vary from {low} to {high}{alike}.")
    }
}

/// Where the speed was measured, if it was one place.
fn machine(runs: &[Run]) -> String {
    let machines = runs.iter().filter_map(|run| run.record).map(|r| (&r.device.kind, &r.device.name, r.device.threads));
    let machines: BTreeSet<_> = machines.collect();
    match machines.first() {
        Some((kind, name, threads)) if machines.len() == 1 => {
            let name = if name.is_empty() { String::new() } else { format!(" ({name})") };
            let threads = format!("{threads} {}", if *threads == 1 { "thread" } else { "threads" });
            format!("Speed on {kind}{name} with {threads}; {}.", time_in_all(runs))
        }
        Some(_) => {
            format!("Speed was measured on unequal machines and cannot be compared; {}.", time_in_all(runs))
        }
        None => String::new(),
    }
}

/// `12 runs took 1 h 03 min, added together`: every run with a record, whatever became of it, and each once.
fn time_in_all(runs: &[Run]) -> String {
    let mut seen = BTreeSet::new();
    let recorded = runs.iter().filter_map(|run| run.record).filter(|record| seen.insert(&record.id));
    let times: Vec<f64> = recorded.map(|record| record.wall_seconds).collect();
    let plural = if times.len() == 1 { "1 run took".to_string() } else { format!("{} runs took", times.len()) };
    let together = if times.len() == 1 { "" } else { ", added together" };
    format!("{plural} {}{together}", duration(times.iter().filter(|t| t.is_finite()).sum()))
}

/// `45 s`, `23 min 10 s`, `1 h 03 min`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

fn range(low: u64, high: u64) -> String {
    if low == high { low.to_string() } else { format!("{low} to {high}") }
}

#[cfg(test)]
mod tests;
