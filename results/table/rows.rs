//! The rows of a sweep, from its aggregated runs, and the one setting of each that is shown.

use crate::published::{self, Published};
use crate::statistics::{Estimate, Interval, Measured, mean, over_examples};
use crate::store::metric;
use crate::suites;
use crate::table::frame::{self, Run};
use crate::table::row::{Above, Counts, Row, points};
use crate::{Metric, MetricKind, OfBaseline, Record, Tested};
use polars::prelude::{DataFrame, PolarsError};
use std::collections::{BTreeMap, BTreeSet};

/// The measure that counts the classes that a run answered on test.
const PREDICTED_CLASSES: &str = "predicted_classes";

/// The aggregated frame as rows.
pub(super) fn rows(cells: &DataFrame, runs: &[Run], swept: &[&str]) -> Result<Vec<Row>, PolarsError> {
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
        let published_measure = published.as_ref().map(|cell| compared(cell, &measures));
        let published_otherwise = published_measure.is_some_and(|measure| !is_score(&scored_by, measure));
        let difference_points = published.as_ref().and_then(|cell| difference(cell, &scored_by, test, &measures));
        let above = match one_class > 0 && one_class == finished {
            // No better than the constant that it is, whatever the floor of its record was.
            true => Above::AtFloor,
            false => above(test, floor, ceiling, over_examples),
        };
        rows.push(Row {
            mixer: text("mixer", i)?.into(),
            task: text("task", i)?.into(),
            settings: text("settings", i)?.into(),
            swept: first.map(|run| frame::swept_text(&run.planned.settings, swept)).unwrap_or_default(),
            settings_tried: 1,
            tuned: first.and_then(|run| run.planned.tuned.clone()),
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
            above,
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
            runs: (0..).zip(runs).filter(|(_, run)| run.order == order).map(|(place, _)| place).collect(),
            seeds: alike.iter().map(|run| run.planned.seed).collect(),
            shares_starts: alike.iter().filter_map(|run| run.record).any(Record::starts_from_a_run),
            scored_by,
            published_measure: published_measure.map(String::from),
            published_otherwise,
            fails: test.is_some()
                && above == Above::AtFloor
                && beside.is_some_and(|beside| suites::fails_at_floor(&beside.task)),
            baselines: baselines(&alike),
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

/// The measure of ours that a published number is of: the score on a part of the test split where it is quoted for that and runs
/// tell it apart.
fn compared<'a>(cell: &'a Published, measures: &BTreeMap<String, Measured>) -> &'a str {
    suites::quoted_part(cell).filter(|part| measures.contains_key(*part)).unwrap_or(&cell.measure)
}

/// Whether a score is what a measure of that name is. The score on a part of the test split is a measure of its own.
fn is_score(metric: &Metric, measure: &str) -> bool {
    !suites::is_part(measure) && metric.is_measure(measure)
}

/// Which of the runs' measures are a baseline's.
fn baselines(alike: &[&Run]) -> BTreeMap<String, OfBaseline> {
    let records = alike.iter().filter_map(|run| run.record);
    let of_record = |record: &Record| -> Vec<(String, OfBaseline)> {
        record.measures.keys().filter_map(|name| Some((name.clone(), record.of_baseline(name)?))).collect()
    };
    records.flat_map(of_record).collect()
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

/// What a run reports, and its score on parts of the test split.
fn numbers<'a>(run: &Run<'a>) -> Vec<(&'a str, f64)> {
    let Some(record) = run.record else { return Vec::new() };
    let parts = record.details.iter().filter_map(|detail| Some((suites::part_of(detail)?, detail.value)));
    record.known_measures().chain(parts).collect()
}

/// The measures that a diverged run of a row has by its floor: those of the row's finished runs, without any those of the
/// task's, and without any those by which its suite quotes it.
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
        names = published_task.map(|task| suites::quoted_by(task).iter().copied().collect()).unwrap_or_default();
    }
    names.retain(|name| floor_of(name, metric, 0.0).is_some());
    names
}

/// What a diverged run counts for a measure: 0 of F1 and of correlations, of accuracies what the best constant answer or a guesser
/// scores; `None` for what has no floor, like a loss. `floor` is that of the score.
fn floor_of(measure: &str, metric: &Metric, floor: f64) -> Option<f64> {
    if let Some(constant) = metric::measure(measure).and_then(|known| known.constant) {
        return Some(constant);
    }
    match measure == "accuracy" || suites::is_part(measure) {
        true if measure == "accuracy" && metric.kind == MetricKind::F1Accuracy => Some(guessed_accuracy(floor)),
        true if metric.is_accuracy() => Some(floor),
        _ => None,
    }
}

/// The accuracy `a` of always answering the positive class, from the mean `m` of its F1 and its accuracy: the F1 is `2a/(1 + a)`, so
/// `a² + (3 - 2m) a - 2m = 0`. Always answering the negative class, whose F1 is 0, has the mean `(1 - a)/2`: the less where more than
/// 28.1 % are positive ((√17 - 3)/4), as in MRPC (68.4 %) and QQP (36.8 %), the only tasks of this score.
pub(super) fn guessed_accuracy(mean: f64) -> f64 {
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
pub(super) fn above(
    test: Option<Estimate>,
    floor: Option<f64>,
    ceiling: Option<f64>,
    examples: Option<Interval>,
) -> Above {
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
pub(super) fn tuned(all: &[Row]) -> Vec<Row> {
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
