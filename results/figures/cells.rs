//! A measure by axis and series, a heat map for each mixer on each task.

use crate::figures::built::Built;
use crate::figures::collected::{Collected, Notes, Series, why};
use crate::figures::kind::Kind;
use crate::figures::lined::capital;
use crate::figures::source::{Seen, Source};
use crate::plot::cells::{Filling, Map, Maps};
use crate::statistics::mean;
use crate::table::row::{Row, places};
use serde::{Deserialize, Serialize};

/// A heat map of details.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cells {
    /// The axis of the rows: `layer`.
    pub axis: String,
    /// The measure in the cells: `importance`.
    pub measure: String,
}

impl Kind for Cells {
    const EXAMPLE: &'static str = "cells: { axis: layer, measure: importance }";

    fn draw(&self, source: &Source) -> Result<Built, String> {
        cells(source, self)
    }
}

/// A measure by axis and series, a map for each mixer on each task.
fn cells(source: &Source, asked: &Cells) -> Result<Built, String> {
    source.recorded(&asked.measure, &asked.axis)?;
    let mut found: Vec<(&Row, Collected, String)> = Vec::new();
    let mut notes = Notes::default();
    for place in places(&source.table.rows) {
        for Seen { row, who, runs } in source.at(place).1 {
            let mut all = Collected::default();
            for run in &runs {
                all.add(run, &asked.measure, &asked.axis, |_| true);
            }
            notes.fewer("Fewer seeds", &who, all.runs, &runs);
            all.complain(&mut notes, &who);
            found.push((row, all, why(&runs)));
        }
    }
    let all: Vec<&str> = found.iter().flat_map(|(_, c, _)| &c.series).map(|(name, _)| name.as_str()).collect();
    let word = numbered(&all);
    let means = |points: &[(f64, Vec<f64>)]| points.iter().filter_map(|(_, v)| mean(v)).collect::<Vec<f64>>();
    let limit = found.iter().flat_map(|(_, c, _)| &c.series).flat_map(|(_, points)| means(points));
    let limit = limit.fold(0.0, |limit: f64, value| limit.max(value.abs()));
    let mut panels = Vec::new();
    for (row, collected, why) in &found {
        let title = format!("{}, {}", row.mixer, row.place_shown());
        let mut series: Vec<&Series> = collected.series.iter().collect();
        if word.is_some() {
            series.sort_by_key(|(name, _)| number_of(name).unwrap_or(u64::MAX));
        }
        let mut at: Vec<f64> = series.iter().flat_map(|(_, points)| points).map(|(at, _)| *at).collect();
        at.sort_by(f64::total_cmp);
        at.dedup();
        let cell = |at: f64, points: &[(f64, Vec<f64>)]| {
            let values = points.iter().find(|(x, _)| *x == at).and_then(|(_, values)| mean(values));
            values.map_or(Filling::Blank, |value| Filling::Number(value, fixed(value, limit)))
        };
        let cells = at.iter().flat_map(|at| series.iter().map(|(_, points)| cell(*at, points)).collect::<Vec<_>>());
        let column = |(name, _): &&(String, Vec<(f64, Vec<f64>)>)| match (&word, number_of(name)) {
            (Some(_), Some(number)) => number.to_string(),
            _ => name.clone(),
        };
        panels.push(Map {
            title,
            rows: at.iter().map(f64::to_string).collect(),
            columns: series.iter().map(column).collect(),
            cells: cells.collect(),
            absent: if series.is_empty() { why.clone() } else { String::new() },
        });
    }
    let seeds = found.iter().filter(|(_, c, _)| c.runs > 0).map(|(_, c, _)| c.runs as u64);
    let (low, high) = seeds.fold((u64::MAX, 0), |(low, high), n| (low.min(n), high.max(n)));
    let n = if low == high { low.to_string() } else { format!("{low} to {high}") };
    let plural = if high == 1 { "seed" } else { "seeds" };
    let signs = if found.iter().flat_map(|(_, c, _)| &c.series).flat_map(|(_, p)| means(p)).any(|v| v < 0.0) {
        "Blue is positive, orange negative, white 0"
    } else {
        "White is 0"
    };
    let mut said = vec![format!("Means over n = {n} {plural}. {signs}; one scale for all panels.")];
    said.extend(notes.said());
    let maps = Maps {
        panels,
        axes: [asked.axis.clone(), word.clone().unwrap_or_default()],
        limit: None,
        name: asked.measure.clone(),
        notes: said.clone(),
    };
    said.push("Every run's numbers are in details.csv.".into());
    let by = word.unwrap_or("series".into());
    Ok(Built {
        stem: String::new(),
        title: format!("{} by {} and {by}", capital(&asked.measure), asked.axis),
        alt: format!("{} by {} and {by}, one panel for each mixer and task", asked.measure, asked.axis),
        caption: said.join(" "),
        table: String::new(),
        drawing: Box::new(maps),
    })
}

/// `head` for `head 0`, `head 3`; `None` unless all names are one word with a number.
fn numbered(names: &[&str]) -> Option<String> {
    let mut words = names.iter().map(|name| number_of(name).and(name.rsplit_once(' ')).map(|(word, _)| word));
    let first = words.next()??;
    words.all(|word| word == Some(first)).then(|| first.to_string())
}

fn number_of(name: &str) -> Option<u64> {
    name.rsplit_once(' ')?.1.parse().ok()
}

/// As many decimals for every cell of a figure as its largest number needs.
fn fixed(value: f64, limit: f64) -> String {
    let text = match limit {
        0.0 => "0".into(),
        100.0..1e6 => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        0.1..10.0 => format!("{value:.2}"),
        0.001..0.1 => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    };
    let zero = text.trim_start_matches('-').parse().is_ok_and(|value: f64| value == 0.0);
    if zero { text.trim_start_matches('-').to_string() } else { text.replace('-', "−") }
}
