//! `table.csv`: every setting in full precision. A column is a line of [`COLUMNS`].

use crate::published::Published;
use crate::table::Table;
use crate::table::frame::measure_column;
use crate::table::row::{Above, Row};
use crate::text;

/// A row, and what only the whole table knows of it.
struct Line<'a> {
    row: &'a Row,
    /// Settings tried for its mixer and task.
    tried: usize,
    /// Whether it is the one that is shown.
    chosen: bool,
}

/// Title and cell.
type Column = (&'static str, fn(&Line) -> String);

const COLUMNS: [Column; 36] = [
    ("task", |l| l.row.task.clone()),
    ("mixer", |l| l.row.mixer.clone()),
    ("settings", |l| l.row.settings.clone()),
    ("settings_tried", |l| l.tried.to_string()),
    ("chosen", |l| l.chosen.to_string()),
    ("metric", |l| l.row.metric.clone()),
    ("planned", |l| l.row.planned.to_string()),
    ("scored", |l| l.row.scored.to_string()),
    ("test", |l| number(l.row.test.map(|test| test.mean))),
    ("test_low", |l| number(l.row.test.and_then(|test| test.interval).map(|ends| ends.low))),
    ("test_high", |l| number(l.row.test.and_then(|test| test.interval).map(|ends| ends.high))),
    ("validation", |l| number(l.row.validation)),
    ("floor", |l| number(l.row.floor)),
    ("ceiling", |l| number(l.row.ceiling)),
    ("above_floor", |l| above(l.row).into()),
    ("parameters", |l| number(l.row.parameters)),
    ("mixer_parameters", |l| number(l.row.mixer_parameters)),
    ("steps_per_second", |l| number(l.row.steps_per_second)),
    ("tokens_per_second", |l| number(l.row.tokens_per_second)),
    ("peak_memory_bytes", |l| number(l.row.peak_memory_bytes)),
    ("wall_seconds", |l| number(l.row.wall_seconds)),
    ("finished", |l| l.row.counts.finished.to_string()),
    ("diverged", |l| l.row.counts.diverged.to_string()),
    ("failed", |l| l.row.counts.failed.to_string()),
    ("timed_out", |l| l.row.counts.timed_out.to_string()),
    ("interrupted", |l| l.row.counts.interrupted.to_string()),
    ("missing", |l| l.row.counts.missing.to_string()),
    ("marks", |l| l.row.marks.join(" ")),
    ("published_task", |l| l.row.published_task.clone().unwrap_or_default()),
    ("published", |l| l.row.published.as_ref().map_or(String::new(), published)),
    ("published_model", |l| l.row.published_model.clone().unwrap_or_default()),
    ("published_source", |l| l.row.published.as_ref().map_or(String::new(), Published::cited)),
    ("difference_points", |l| number(l.row.difference_points)),
    ("examples_low", |l| number(l.row.over_examples.map(|ends| ends.low))),
    ("examples_high", |l| number(l.row.over_examples.map(|ends| ends.high))),
    ("one_class", |l| l.row.one_class.to_string()),
];

fn number(value: Option<impl ToString>) -> String {
    value.map_or(String::new(), |value| value.to_string())
}

fn above(row: &Row) -> &'static str {
    match row.above {
        _ if row.test.is_none() => "",
        Above::Floor => "yes",
        Above::Unsure => "unsure",
        Above::AtFloor => "no",
    }
}

fn published(cell: &Published) -> String {
    cell.value().map_or("FAIL".into(), |value| value.to_string())
}

impl Table {
    /// Every setting (the rows themselves without a grid), in full precision; behind the columns the validation losses of language models
    /// and the measures.
    pub fn csv(&self) -> Result<String, csv::Error> {
        let shown = if self.settings.is_empty() { &self.rows } else { &self.settings };
        let losses = shown.iter().any(|row| row.validation_loss.is_some());
        let measures = self.measures();
        let taken = |column: &str| COLUMNS.iter().any(|(title, _)| *title == column);
        let titles = COLUMNS.iter().map(|(title, _)| title.to_string());
        let loss = losses.then(|| "validation_loss".to_string());
        let named = measures.iter().map(|name| measure_column(name, taken));
        let mut lines: Vec<Vec<String>> = vec![titles.chain(loss).chain(named).collect()];
        for row in shown {
            let line = self.line(row);
            let cells = COLUMNS.iter().map(|(_, cell)| cell(&line));
            let loss = losses.then(|| number(row.validation_loss.as_ref().and_then(|loss| loss.mean)));
            let numbers = measures.iter().map(|name| number(row.measures.get(*name).and_then(|m| m.mean)));
            lines.push(cells.chain(loss).chain(numbers).collect());
        }
        text::csv(lines)
    }

    fn line<'a>(&self, row: &'a Row) -> Line<'a> {
        let beside = self.rows.iter().find(|other| other.mixer == row.mixer && other.place() == row.place());
        let same = |other: &Row| (&other.mixer, &other.task, &other.settings) == (&row.mixer, &row.task, &row.settings);
        Line { row, tried: beside.map_or(1, |other| other.settings_tried), chosen: self.rows.iter().any(same) }
    }
}
