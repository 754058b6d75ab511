//! The main table: one line a mixer and task, and all settings of a grid. A column, printed or in `table.csv` or both, is a line of
//! [`COLUMNS`].

use crate::Tuned;
use crate::grid::{Column, Frame, Grid, Value, digits, field, left, right, significant};
use crate::published::Published;
use crate::statistics::Interval;
use crate::table::caption;
use crate::table::findings::{findings, score_text};
use crate::table::frame::{measure_column, settings_text};
use crate::table::numbers::{decimals, signed};
use crate::table::row::{Above, Row, sign_notes};
use crate::table::section::{Part, Section, Tone};
use crate::table::sweep::Sweep;
use crate::table::warnings;
use std::collections::BTreeSet;

/// A row, and what only the whole table knows of it.
struct Line {
    row: Row,
    /// Settings tried for its mixer and task.
    tried: usize,
    /// Whether it is the one that is shown.
    chosen: bool,
}

/// In the order of print; the fields of files follow the same list.
const COLUMNS: &[Column<Line>] = &[
    left("task", 0, |l: &Line| l.row.task_shown()).in_files("task", |l| l.row.task.as_str().into()),
    left("mixer", 0, |l: &Line| l.row.mixer.clone()).in_files("mixer", |l| l.row.mixer.as_str().into()),
    left("settings", 1, |l: &Line| l.row.settings.clone()).in_files("settings", |l| l.row.settings.as_str().into()),
    left("tuned", 1, |l: &Line| l.row.tuned.as_ref().map_or(String::new(), tuned))
        .in_files("tuned", |l| l.row.tuned.as_ref().map(|tuned| settings_text(&tuned.chosen)).into()),
    field("settings_tried", |l| l.tried.into()),
    field("chosen", |l| l.chosen.into()),
    field("metric", |l| l.row.metric.as_str().into()),
    field("planned", |l| l.row.planned.into()),
    field("scored", |l| l.row.scored.into()),
    left("test", 0, |l: &Line| test(&l.row)).in_files("test", |l| l.row.test.map(|test| test.mean).into()),
    field("test_low", |l| l.row.test.and_then(|test| test.interval).map(|ends| ends.low).into()),
    field("test_high", |l| l.row.test.and_then(|test| test.interval).map(|ends| ends.high).into()),
    left("published", 0, |l| published(&l.row)),
    right("Δ", 0, |l| signed(l.row.difference_points)),
    left("n", 0, |l| format!("{}/{}", l.row.scored, l.row.planned)),
    right("validation", 3, |l: &Line| decimals(l.row.validation, 3))
        .in_files("validation", |l| l.row.validation.into()),
    right("validation loss", 3, |l| {
        l.row.validation_loss.as_ref().map_or(String::new(), |loss| decimals(loss.mean, 3))
    }),
    right("floor", 2, |l: &Line| decimals(l.row.floor, 3)).in_files("floor", |l| l.row.floor.into()),
    right("ceiling", 6, |l: &Line| decimals(l.row.ceiling, 3)).in_files("ceiling", |l| l.row.ceiling.into()),
    field("above_floor", |l| above(&l.row).into()),
    right("parameters", 4, |l: &Line| whole(l.row.parameters)).in_files("parameters", |l| l.row.parameters.into()),
    right("in mixers", 8, |l: &Line| whole(l.row.mixer_parameters))
        .in_files("mixer_parameters", |l| l.row.mixer_parameters.into()),
    right("steps/s", 5, |l: &Line| significant(l.row.steps_per_second))
        .in_files("steps_per_second", |l| l.row.steps_per_second.into()),
    right("tokens/s", 9, |l: &Line| significant(l.row.tokens_per_second))
        .in_files("tokens_per_second", |l| l.row.tokens_per_second.into()),
    right("memory", 7, |l: &Line| memory(l.row.peak_memory_bytes))
        .in_files("peak_memory_bytes", |l| l.row.peak_memory_bytes.into()),
    right("wall", 10, |l: &Line| l.row.wall_seconds.map_or("-".into(), |s| format!("{s:.0} s")))
        .in_files("wall_seconds", |l| l.row.wall_seconds.into()),
    field("finished", |l| l.row.counts.finished.into()),
    field("diverged", |l| l.row.counts.diverged.into()),
    field("failed", |l| l.row.counts.failed.into()),
    field("timed_out", |l| l.row.counts.timed_out.into()),
    field("interrupted", |l| l.row.counts.interrupted.into()),
    field("missing", |l| l.row.counts.missing.into()),
    field("marks", |l| l.row.marks.join(" ").into()),
    field("published_task", |l| l.row.published_task.clone().into()),
    field("published", |l| l.row.published.as_ref().map_or(Value::Missing, published_value)),
    field("published_model", |l| l.row.published_model.clone().into()),
    field("published_source", |l| l.row.published.as_ref().map(Published::cited).into()),
    field("difference_points", |l| l.row.difference_points.into()),
    field("examples_low", |l| l.row.over_examples.map(|ends| ends.low).into()),
    field("examples_high", |l| l.row.over_examples.map(|ends| ends.high).into()),
    field("one_class", |l| l.row.one_class.into()),
    left("remarks", 0, |l| remarks(&l.row)),
];

/// The score; behind FAIL where papers would print that alone.
fn test(row: &Row) -> String {
    let score = match (&row.test, row.over_examples) {
        (Some(test), Some(Interval { low, high })) if test.interval.is_none() => {
            format!("{:.3} (n = {}, examples [{low:.3}, {high:.3}])", test.mean, test.n)
        }
        (test, _) => test.as_ref().map_or("-".into(), score_text),
    };
    if row.fails { format!("FAIL ({score})") } else { score }
}

/// The setting that won, and of how many.
fn tuned(tuned: &Tuned) -> String {
    let edge = if tuned.at_edge.is_empty() { "" } else { ", at the edge" };
    format!("{} (of {}{edge})", settings_text(&tuned.chosen), tuned.tried)
}

fn published(row: &Row) -> String {
    let Some(cell) = &row.published else { return String::new() };
    let number = match (cell.accuracy, cell.number) {
        (Some(share), _) => format!("{share:.3}"),
        (None, Some(number)) => digits(number),
        (None, None) => "FAIL".into(),
    };
    let otherwise = row.published_measure.as_ref().filter(|_| row.published_otherwise);
    let measure = otherwise.map_or(String::new(), |measure| format!(" ({measure})"));
    format!("{number}{}{measure}", row.letter)
}

fn published_value(cell: &Published) -> Value {
    cell.value().map_or("FAIL".into(), Value::Number)
}

fn whole(n: Option<u64>) -> String {
    n.map_or("-".into(), |n| n.to_string())
}

fn memory(bytes: Option<f64>) -> String {
    bytes.map_or("-".into(), |bytes| format!("{:.0} MiB", bytes / f64::from(1 << 20)))
}

fn above(row: &Row) -> &'static str {
    match row.above {
        _ if row.test.is_none() => "",
        Above::Floor => "yes",
        Above::Unsure => "unsure",
        Above::AtFloor => "no",
    }
}

fn remarks(row: &Row) -> String {
    let single = row.test.is_some_and(|test| test.interval.is_none());
    let above = match row.above {
        Above::Floor => "",
        Above::Unsure if single && row.over_examples.is_none() => "not known to be above the floor",
        Above::Unsure => "interval reaches the floor",
        Above::AtFloor => "at floor",
    };
    let one_class = match row.one_class {
        0 => String::new(),
        n if n == row.counts.finished => "one class".into(),
        n => format!("one class {n}/{}", row.counts.finished),
    };
    let counts = row.counts.remarks();
    [above, &one_class, &counts].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(", ")
}

/// The rows that are shown, and in `table.csv` every setting.
pub(crate) fn scores(sweep: &Sweep) -> Vec<Section> {
    let section = Section {
        name: "table",
        title: "Scores",
        grid: Grid::new(COLUMNS, &lines(sweep, sweep.rows)),
        tones: sweep.rows.iter().map(|row| tone(row, sweep.rows)).collect(),
        caption: caption::caption(sweep).join(" "),
        notes: sign_notes(sweep.rows).into_iter().chain(sweep.sources.iter().cloned()).collect(),
        warnings: warnings::of(sweep),
        findings: findings(sweep.rows),
        data: Some(data(sweep)),
        ..Section::default()
    };
    vec![section.with_json("rows", &sweep.rows)]
}

/// All settings of a grid.
pub(crate) fn settings(sweep: &Sweep) -> Vec<Section> {
    let grid = Grid::new(COLUMNS, &lines(sweep, sweep.settings));
    let section = Section { name: "settings", title: "All settings", part: Part::Appendix, grid, ..Section::default() };
    vec![section.with_json("settings", &sweep.settings)]
}

fn lines(sweep: &Sweep, rows: &[Row]) -> Vec<Line> {
    let line = |row: &Row| {
        let beside = sweep.rows.iter().find(|other| other.mixer == row.mixer && other.place() == row.place());
        let same = |other: &Row| (&other.mixer, &other.task, &other.settings) == (&row.mixer, &row.task, &row.settings);
        let searched = row.tuned.as_ref().map(|tuned| tuned.tried);
        let tried = searched.unwrap_or_else(|| beside.map_or(1, |other| other.settings_tried));
        Line { row: row.clone(), tried, chosen: sweep.rows.iter().any(same) }
    };
    rows.iter().map(line).collect()
}

/// Behind the columns the validation losses of language models and the measures.
fn data(sweep: &Sweep) -> Frame {
    let rows = sweep.all_rows();
    let mut data = Frame::new(COLUMNS, &lines(sweep, rows));
    let own = data.columns.clone();
    if rows.iter().any(|row| row.validation_loss.is_some()) {
        let loss = |row: &Row| row.validation_loss.as_ref().and_then(|loss| loss.mean).into();
        data.push("validation_loss".into(), rows.iter().map(loss));
    }
    let names: BTreeSet<&String> = rows.iter().flat_map(|row| row.measures.keys()).collect();
    for name in names {
        let title = measure_column(name, |taken| own.iter().any(|column| column == taken));
        let mean = |row: &Row| row.measures.get(name).and_then(|measured| measured.mean).into();
        data.push(title, rows.iter().map(mean));
    }
    data
}

/// How a row stands among those of its task.
fn tone(row: &Row, rows: &[Row]) -> Tone {
    let mean = |row: &Row| row.test.map(|test| test.mean);
    let of_place = rows.iter().filter(|other| other.place() == row.place());
    let best = of_place.filter_map(mean).fold(f64::NEG_INFINITY, f64::max);
    match mean(row) {
        None => Tone::Unscored,
        Some(_) if row.above == Above::AtFloor => Tone::AtFloor,
        Some(score) if score == best && row.above == Above::Floor => Tone::Best,
        Some(_) => Tone::Plain,
    }
}
