//! What every figure is made from: the plan, the tables and the runs behind their rows.

use crate::Manifest;
use crate::plot::chart::{Chart, Spot, references};
use crate::statistics::Estimate;
use crate::table::Table;
use crate::table::frame::{Run, Searched};
use crate::table::row::{Row, clipped_to, mixers};
use std::collections::BTreeSet;

/// What the score is called in figures and details.
pub(super) const SCORE: &str = "score";

/// The measure of a figure that names none.
pub(super) fn score() -> String {
    SCORE.into()
}

pub(crate) struct Source<'a> {
    pub(super) manifest: &'a Manifest,
    pub(super) table: &'a Table,
    pub(super) runs: &'a [Run<'a>],
    pub(super) search: &'a [Searched<'a>],
}

impl Source<'_> {
    pub(super) fn mixers(&self) -> Vec<String> {
        mixers(self.manifest).into_iter().map(String::from).collect()
    }

    pub(super) fn settings(&self, row: &Row) -> &[(String, String)] {
        row.runs_of(self.runs).first().map(|run| run.planned.settings.as_slice()).unwrap_or_default()
    }

    pub(super) fn spot(&self, row: &Row, runs: &[&Run], measure: &str, x: f64) -> Option<Spot> {
        if measure == SCORE {
            let Estimate { mean, interval, .. } = row.test?;
            let seeds = runs.iter().filter_map(|run| Some((run.test?, run.outcome == "diverged"))).collect();
            return Some(Spot { x, mean, interval, seeds });
        }
        let measured = row.measures.get(measure)?;
        let diverged = |run: usize| runs.get(run).is_some_and(|run| run.outcome == "diverged");
        let seeds = measured.runs.iter().zip(&measured.values).map(|(run, value)| (*value, diverged(*run))).collect();
        Some(Spot { x, mean: measured.mean?, interval: measured.interval, seeds })
    }

    /// Whether the series of these details are categories.
    pub(super) fn is_by_category(&self, measure: &str, axis: &str) -> bool {
        let runs = self.table.rows.iter().flat_map(|row| row.runs_of(self.runs));
        let mut all = runs.filter_map(|run| run.record).flat_map(|record| &record.details);
        all.any(|detail| detail.measure == measure && detail.axis == axis && detail.is_category())
    }

    /// An error unless some run of the tables recorded the measure along the axis.
    pub(super) fn recorded(&self, measure: &str, axis: &str) -> Result<(), String> {
        let runs = self.table.rows.iter().flat_map(|row| row.runs_of(self.runs));
        let all: Vec<_> = runs.filter_map(|run| run.record).flat_map(|record| &record.details).collect();
        if all.iter().any(|detail| (detail.measure.as_str(), detail.axis.as_str()) == (measure, axis)) {
            return Ok(());
        }
        let mut known: Vec<String> = all.iter().map(|d| format!("`{}` by `{}`", d.measure, d.axis)).collect();
        known.sort();
        known.dedup();
        let known = if known.is_empty() { String::new() } else { format!("; recorded are {}", known.join(", ")) };
        Err(format!("no record has `{measure}` by `{axis}`{known}"))
    }

    pub(super) fn known_measures(&self) -> String {
        let known: BTreeSet<&String> = self.table.rows.iter().flat_map(|row| row.measures.keys()).collect();
        if known.is_empty() {
            return String::new();
        }
        format!("; recorded are {}", known.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
    }

    /// The metric, where all tasks have one.
    pub(super) fn metric(&self) -> String {
        let mut names: Vec<&str> =
            self.table.rows.iter().map(|row| row.metric.as_str()).filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        if let [only] = names[..] { only.into() } else { SCORE.into() }
    }

    /// How to read the figure: what a mean and an interval are of, and what was left out.
    pub(super) fn caption(&self, chart: &Chart, unit: bool, more: Option<&str>) -> String {
        let spots = || chart.panels.iter().flat_map(|panel| &panel.lines).flat_map(|(_, spots)| spots);
        let (low, high) = spots().map(|spot| spot.seeds.len()).fold((usize::MAX, 0), |(a, b), n| (a.min(n), b.max(n)));
        let n = if low == high { format!("{low}") } else { format!("{low} to {high}") };
        let clipped = if unit { format!(", clipped to {}", clipped_to(&self.table.rows)) } else { String::new() };
        let mut said = vec![match high {
            0 => "No number yet.".to_string(),
            1 => "One seed a point, so no interval.".to_string(),
            _ => format!("Means and 95 % Student-t intervals over n = {n} seeds{clipped}."),
        }];
        let names = references(chart);
        if chart.panels.iter().any(|panel| panel.floor.is_some()) || names.contains("floor") {
            said.push("Floor: what the best constant answer or a guesser scores on the whole test split.".into());
        }
        if names.iter().any(|name| *name != "floor") {
            said.push("Grey: baselines, the same for every mixer of a task, as means over its runs.".into());
        }
        if chart.names.iter().any(|name| name.part > 0) {
            said.push("Dotted: other series of the mixer of that colour.".into());
        }
        said.extend(chart.notes.iter().cloned());
        said.extend(more.map(String::from));
        said.join(" ")
    }

    /// An error unless the measure is the score, or some scored run has it.
    pub(super) fn measured(&self, measure: &str) -> Result<(), String> {
        if measure != SCORE && self.table.rows.iter().all(|row| !row.measures.contains_key(measure)) {
            return Err(format!("no scored run has the measure `{measure}`{}", self.known_measures()));
        }
        Ok(())
    }

    /// What an axis with these numbers is called: `test accuracy`, or the measure.
    pub(super) fn quantity(&self, measure: &str) -> String {
        if measure == SCORE { format!("test {}", self.metric()) } else { measure.into() }
    }

    /// The rows of one place with the runs behind each, and what the place is called.
    pub(super) fn at(&self, place: (&str, &str)) -> (String, Vec<Seen<'_, '_>>) {
        let rows = self.table.rows.iter().filter(|row| row.place() == place);
        let title = rows.clone().next().map(Row::place_shown).unwrap_or_default();
        let seen = |row| Seen { row, who: format!("{} on {title}", row.mixer), runs: row.runs_of(self.runs) };
        let seen = rows.map(seen).collect();
        (title, seen)
    }
}

/// A row with the runs behind it, and how remarks call it.
pub(super) struct Seen<'a, 'b> {
    pub(super) row: &'a Row,
    /// `attention on mqar`.
    pub(super) who: String,
    pub(super) runs: Vec<&'a Run<'b>>,
}
