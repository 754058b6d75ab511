//! Runs and their aggregate as polars data frames.
//!
//! Every column that orders a table is a number, given out in the manifest's order: the order in which records were read
//! leaves no trace, and neither does the order in which polars meets its groups.

use crate::published::{self, Beside};
use crate::store::counts;
use crate::{Manifest, Outcome, PlannedRun, Record, SearchRun, table::signs};
use polars::prelude::*;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// One planned run and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Run<'a> {
    pub(crate) planned: &'a PlannedRun,
    pub(crate) record: Option<&'a Record>,
    /// Places of mixer, task and setting in the manifest.
    pub(crate) order: [u32; 3],
    /// The test score that enters the mean: a diverged run has its task's floor.
    pub(crate) test: Option<f64>,
    /// The validation score by which settings are chosen; same rule.
    pub(crate) validation: Option<f64>,
    /// `finished`, `diverged`, `failed`, `timed_out`, `interrupted` or `missing`.
    pub(crate) outcome: &'static str,
    pub(crate) reason: String,
    /// Marks of its task, from any of its records; the same for every run of a task.
    pub(crate) marks: Vec<String>,
}

/// A run of a search and what became of it.
#[derive(Clone, Debug)]
pub(crate) struct Searched<'a> {
    pub(crate) run: &'a SearchRun,
    record: Option<&'a Record>,
}

impl<'a> Searched<'a> {
    /// Whose search it is part of: mixer, task and point of the grid.
    pub(crate) fn cell(&self) -> (&'a str, &'a str, &'a [(String, String)]) {
        (&self.run.mixer, &self.run.task, &self.run.settings)
    }

    /// Its validation score, where it finished.
    pub(crate) fn score(&self) -> Option<f64> {
        self.record.filter(|record| record.outcome == Outcome::Finished)?.scores.validation
    }

    /// How it ended, as a word that begins a note.
    pub(crate) fn outcome(&self) -> String {
        let word = self.record.map_or("missing", |record| record.outcome.word()).replace('_', " ");
        let mut letters = word.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
    }
}

/// The runs of the search with their records.
pub(crate) fn searched<'a>(manifest: &'a Manifest, records: &'a [Record]) -> Vec<Searched<'a>> {
    let by_id = attempts(records);
    let find = |id: &str| counts(by_id.get(id)?.values().copied());
    manifest.search.iter().map(|run| Searched { run, record: find(&run.id) }).collect()
}

/// Records by run and attempt.
fn attempts(records: &[Record]) -> HashMap<&str, BTreeMap<u32, &Record>> {
    let mut by_id: HashMap<&str, BTreeMap<u32, &Record>> = HashMap::new();
    for record in records {
        by_id.entry(&record.id).or_default().insert(record.attempt, record);
    }
    by_id
}

/// Joins plan and records.
pub(crate) fn runs<'a>(manifest: &'a Manifest, records: &'a [Record]) -> Vec<Run<'a>> {
    let by_id = attempts(records);
    let find = |run: &PlannedRun| counts(by_id.get(run.id.as_str())?.values().copied());
    let mixers = places(manifest.runs.iter().map(|run| &run.mixer));
    let tasks = places(manifest.runs.iter().map(|run| &run.task));
    let settings = places(manifest.runs.iter().map(|run| &run.settings));
    let swept = manifest.swept();
    let floors = floors(manifest, &swept, find);
    let marks = marks(manifest, find);
    let join = |planned: &'a PlannedRun| {
        let record = find(planned);
        let order = [mixers[&planned.mixer], tasks[&planned.task], settings[&planned.settings]];
        let floor = floors.get(&(planned.task.as_str(), swept_text(&planned.settings, &swept))).copied();
        let (test, validation, outcome, reason) = scored(record, floor);
        let marks = marks.get(&planned.task).map(|marks| marks.iter().cloned().collect()).unwrap_or_default();
        Run { planned, record, order, test, validation, outcome, reason, marks }
    };
    manifest.runs.iter().map(join).collect()
}

/// The place of each name in the order of first appearance.
fn places<'a, T: Eq + std::hash::Hash>(names: impl Iterator<Item = &'a T>) -> HashMap<&'a T, u32> {
    let mut places = HashMap::new();
    for name in names {
        let next = places.len() as u32;
        places.entry(name).or_insert(next);
    }
    places
}

/// The floor of each task and value of the swept axes: the mean over the runs that know it, in the manifest's order.
fn floors<'a>(
    manifest: &'a Manifest,
    swept: &[&str],
    find: impl Fn(&PlannedRun) -> Option<&'a Record>,
) -> HashMap<(&'a str, String), f64> {
    let mut known: HashMap<(&str, String), Vec<f64>> = HashMap::new();
    for run in &manifest.runs {
        if let Some(floor) = find(run).and_then(|record| record.scores.floor) {
            known.entry((&run.task, swept_text(&run.settings, swept))).or_default().push(floor);
        }
    }
    known.into_iter().filter_map(|(place, floors)| Some((place, crate::statistics::mean(&floors)?))).collect()
}

/// What is to be said of each task: by a record of any of its runs, or by the plan.
fn marks<'a>(
    manifest: &'a Manifest,
    find: impl Fn(&PlannedRun) -> Option<&'a Record>,
) -> HashMap<&'a String, BTreeSet<String>> {
    let mut known: HashMap<&String, BTreeSet<String>> = HashMap::new();
    for run in &manifest.runs {
        let marks = known.entry(&run.task).or_default();
        marks.extend(find(run).into_iter().flat_map(|record| record.marks.iter().cloned()));
        // A corpus stands for the published one only where numbers on that stand beside it.
        let stands =
            |beside: &Beside| beside.stand_in || (beside.model.is_some() && published::other_data(&beside.task));
        if run.published.as_ref().is_some_and(stands) {
            marks.insert(signs::STAND_IN.into());
        }
    }
    known
}

/// Test score, validation score, outcome and reason of a run as tables count them.
fn scored(record: Option<&Record>, floor: Option<f64>) -> (Option<f64>, Option<f64>, &'static str, String) {
    let Some(record) = record else { return (None, None, "missing", "no record yet".into()) };
    let word = record.outcome.word();
    let reason = record.outcome.reason().to_string();
    match &record.outcome {
        Outcome::Finished if !record.scores.test.is_some_and(f64::is_finite) => {
            (None, None, word, "finished without a test score".into())
        }
        Outcome::Finished => (record.scores.test, record.scores.validation, word, reason),
        Outcome::Diverged { .. } => {
            let floor = record.scores.floor.or(floor);
            // Where a constant answer is perfect, a run that has no model left is not.
            let perfect = |floor: f64| record.scores.ceiling.is_some_and(|ceiling| floor >= ceiling);
            let by_floor = floor.map(|floor| if perfect(floor) { 0.0 } else { floor });
            let counted = record.scored_by().diverged.or(by_floor);
            (counted, counted, word, reason)
        }
        _ => (None, None, word, reason),
    }
}

/// One row per planned run, in the manifest's order.
pub(crate) fn runs_frame(runs: &[Run]) -> PolarsResult<DataFrame> {
    let record = |of: fn(&Record) -> f64| -> Vec<Option<f64>> { runs.iter().map(|r| r.record.map(of)).collect() };
    let count = |of: fn(&Record) -> u64| -> Vec<Option<u64>> { runs.iter().map(|r| r.record.map(of)).collect() };
    // A run that failed before its model was built has no parameters to count.
    let counted = |of: fn(&Record) -> u64| -> Vec<Option<u64>> {
        runs.iter().map(|r| r.record.map(of).filter(|n| *n > 0)).collect()
    };
    let score =
        |of: fn(&Record) -> Option<f64>| -> Vec<Option<f64>> { runs.iter().map(|r| r.record.and_then(of)).collect() };
    let text = |of: fn(&Record) -> String| -> Vec<Option<String>> { runs.iter().map(|r| r.record.map(of)).collect() };
    let planned = |of: fn(&PlannedRun) -> String| -> Vec<String> { runs.iter().map(|r| of(r.planned)).collect() };
    let place = |i: usize| -> Vec<u32> { runs.iter().map(|r| r.order[i]).collect() };
    let mut frame = df!(
        "mixer_order" => place(0),
        "task_order" => place(1),
        "setting_order" => place(2),
        "mixer" => planned(|p| p.mixer.clone()),
        "task" => planned(|p| p.task.clone()),
        "settings" => planned(|p| settings_text(&p.settings)),
        "seed" => runs.iter().map(|r| r.planned.seed).collect::<Vec<_>>(),
        "outcome" => runs.iter().map(|r| r.outcome).collect::<Vec<_>>(),
        "reason" => runs.iter().map(|r| r.reason.as_str()).collect::<Vec<_>>(),
        "metric" => text(|r| r.metric.clone()),
        "test" => runs.iter().map(|r| r.test).collect::<Vec<_>>(),
        "validation" => runs.iter().map(|r| r.validation).collect::<Vec<_>>(),
        "floor" => score(|r| r.scores.floor),
        "ceiling" => score(|r| r.scores.ceiling),
        "parameters" => counted(|r| r.parameters),
        "mixer_parameters" => counted(|r| r.mixer_parameters),
        "steps" => count(|r| r.steps),
        "best_step" => count(|r| r.best_step),
        "steps_per_second" => record(|r| r.steps_per_second),
        "tokens_per_second" => record(|r| r.tokens_per_second),
        "wall_seconds" => record(|r| r.wall_seconds),
        "peak_memory_bytes" => count(|r| r.peak_memory_bytes),
        "attempt" => count(|r| u64::from(r.attempt)),
        "device" => text(|r| r.device.kind.clone()),
        "threads" => count(|r| r.device.threads.max(0) as u64),
        "host" => text(|r| r.device.host.clone()),
        "commit" => text(|r| r.versions.commit.clone()),
        "marks" => runs.iter().map(|r| r.marks.join(" ")).collect::<Vec<_>>(),
        "id" => planned(|p| p.id.clone()),
    )?;
    let known: Vec<BTreeMap<&str, f64>> =
        runs.iter().map(|r| r.record.into_iter().flat_map(Record::known_measures).collect()).collect();
    let measures: BTreeSet<&str> = known.iter().flat_map(|measures| measures.keys().copied()).collect();
    for measure in measures {
        let values: Vec<Option<f64>> = known.iter().map(|measures| measures.get(measure).copied()).collect();
        let taken = |name: &str| frame.get_column_names().iter().any(|column| column.as_str() == name);
        let name = measure_column(measure, taken);
        frame.with_column(Column::new(name.into(), values))?;
    }
    Ok(frame)
}

/// A measure's column: its name, marked where the table has another column of that name.
pub(crate) fn measure_column(measure: &str, taken: impl Fn(&str) -> bool) -> String {
    if taken(measure) { format!("measure.{measure}") } else { measure.into() }
}

/// One row per (mixer, task, settings), sorted by the manifest's order. Speed, memory and time are medians over the runs
/// that trained to the end.
pub(crate) fn aggregate(runs: DataFrame) -> PolarsResult<DataFrame> {
    let ran = || col("outcome").eq(lit("finished"));
    let counted = |word: &'static str| col("outcome").eq(lit(word)).sum().cast(DataType::UInt64).alias(word);
    let keys = ["mixer_order", "task_order", "setting_order"];
    let exact = SortMultipleOptions::default().with_maintain_order(true);
    runs.lazy()
        .group_by_stable(keys.map(col))
        .agg([
            col("mixer").first(),
            col("task").first(),
            col("settings").first(),
            col("metric").drop_nulls().first(),
            len().cast(DataType::UInt64).alias("planned"),
            col("test").count().cast(DataType::UInt64).alias("scored"),
            col("test").mean().alias("test"),
            col("test").std(1).alias("test_sd"),
            col("validation").mean().alias("validation"),
            col("floor").mean().alias("floor"),
            col("ceiling").mean().alias("ceiling"),
            col("parameters").max(),
            col("mixer_parameters").max(),
            col("steps_per_second").filter(ran()).median(),
            col("tokens_per_second").filter(ran()).median(),
            col("peak_memory_bytes").filter(ran()).median(),
            col("wall_seconds").filter(ran()).median(),
            counted("finished"),
            counted("diverged"),
            counted("failed"),
            counted("timed_out"),
            counted("interrupted"),
            counted("missing"),
        ])
        .sort(["task_order", "mixer_order", "setting_order"], exact)
        .collect()
}

/// `lr=0.001 width=64`: the last words of the keys.
pub(crate) fn settings_text(settings: &[(String, String)]) -> String {
    chosen_text(settings, |_| true)
}

/// The same for the axes of a figure alone.
pub(crate) fn swept_text(settings: &[(String, String)], swept: &[&str]) -> String {
    chosen_text(settings, |key| swept.contains(&key))
}

fn chosen_text(settings: &[(String, String)], wanted: impl Fn(&str) -> bool) -> String {
    let unique = |key: &str| settings.iter().filter(|(other, _)| last_word(other) == last_word(key)).count() == 1;
    let name = |key: &str| if unique(key) { last_word(key).to_string() } else { key.to_string() };
    let shown = settings.iter().filter(|(key, _)| wanted(key));
    shown.map(|(key, value)| format!("{}={value}", name(key))).collect::<Vec<_>>().join(" ")
}

/// `model.d_model` is called `d_model`.
pub(crate) fn last_word(path: &str) -> &str {
    path.rsplit('.').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;

    #[test]
    fn a_diverged_run_scores_the_floor_even_when_it_does_not_know_it() {
        let manifest = samples::manifest(&["s4"], &["mqar"], 2);
        let mut diverged = samples::ended("s4.mqar.2", samples::diverged("NaN"));
        diverged.scores.floor = None;
        let records = [samples::record("s4.mqar.1", 0.9), diverged];
        let runs = runs(&manifest, &records);
        assert_eq!((runs[1].test, runs[1].validation, runs[1].outcome), (Some(0.125), Some(0.125), "diverged"));
    }

    #[test]
    fn a_diverged_run_is_not_perfect_where_a_constant_answer_is() {
        let manifest = samples::manifest(&["s4"], &["filler"], 1);
        let mut diverged = samples::ended("s4.filler.1", samples::diverged("NaN"));
        (diverged.scores.floor, diverged.scores.ceiling) = (Some(1.0), Some(1.0));
        assert_eq!(runs(&manifest, &[diverged])[0].test, Some(0.0));
    }

    #[test]
    fn the_latest_attempt_counts_whatever_the_order() {
        let manifest = samples::manifest(&["s4"], &["mqar"], 1);
        let first = samples::ended("s4.mqar.1", samples::failed("full disk"));
        let second = Record { attempt: 2, ..samples::record("s4.mqar.1", 0.9) };
        for records in [[first.clone(), second.clone()], [second.clone(), first]] {
            assert_eq!(runs(&manifest, &records)[0].test, Some(0.9));
        }
        // As in the store: what a straggler writes behind the end of a run does not count.
        let straggler = Record { attempt: 3, ..samples::ended("s4.mqar.1", samples::failed("cut off")) };
        for records in [[straggler.clone(), second.clone()], [second, straggler]] {
            assert_eq!(runs(&manifest, &records)[0].test, Some(0.9));
        }
    }

    #[test]
    fn polars_and_the_plain_statistics_agree() {
        let (manifest, records) = samples::eventful();
        let runs = runs(&manifest, &records);
        let cells = aggregate(runs_frame(&runs).expect("a frame")).expect("aggregates");
        let scores = [0.26, 0.24, 0.31];
        let at = |name: &str| cells.column(name).and_then(|c| c.f64()).expect("a number").get(1).expect("not null");
        assert!((at("test") - crate::statistics::mean(&scores).expect("three")).abs() < 1e-12);
        assert!((at("test_sd") - crate::statistics::sample_sd(&scores).expect("three")).abs() < 1e-12);
    }

    #[test]
    fn settings_are_named_by_their_last_word_unless_two_share_it() {
        let pair = |key: &str, value: &str| (key.to_string(), value.to_string());
        assert_eq!(settings_text(&[pair("optimizer.lr", "0.1"), pair("model.d_model", "64")]), "lr=0.1 d_model=64");
        assert_eq!(settings_text(&[pair("a.lr", "1"), pair("b.lr", "2")]), "a.lr=1 b.lr=2");
        assert_eq!(settings_text(&[]), "");
    }
}
