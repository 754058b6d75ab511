//! Numbers of runs collected along an axis, and the remarks on what is missing among them.

use crate::statistics::mean;
use crate::table::frame::Run;
use crate::{Detail, Outcome};
use std::collections::BTreeMap;

/// A name, and for each place on the axis the values recorded there.
pub(super) type Series = (String, Vec<(f64, Vec<f64>)>);

/// Values by series and place on the axis: of every run the mean of what it has there.
#[derive(Default)]
pub(super) struct Collected {
    /// In the order of the records of the manifest's first run that has them.
    pub(super) series: Vec<Series>,
    /// Runs with a number.
    pub(super) runs: usize,
    /// Numbers that are none.
    odd: usize,
}

impl Collected {
    pub(super) fn add(&mut self, run: &Run, measure: &str, axis: &str, wanted: impl Fn(&Detail) -> bool) {
        let Some(record) = run.record else { return };
        let mut of_run: Vec<(&str, f64, Vec<f64>)> = Vec::new();
        for detail in &record.details {
            let of_figure = (detail.measure.as_str(), detail.axis.as_str()) == (measure, axis);
            if !of_figure || !wanted(detail) {
                continue;
            }
            if !detail.at.is_finite() || !detail.value.is_finite() {
                self.odd += 1;
                continue;
            }
            match of_run.iter_mut().find(|(series, at, _)| *series == detail.series && *at == detail.at) {
                Some((.., values)) => values.push(detail.value),
                None => of_run.push((&detail.series, detail.at, vec![detail.value])),
            }
        }
        self.runs += usize::from(!of_run.is_empty());
        for (series, at, values) in of_run {
            let known = self.series.iter().position(|(name, _)| name == series).unwrap_or_else(|| {
                self.series.push((series.into(), Vec::new()));
                self.series.len() - 1
            });
            let points = &mut self.series[known].1;
            let place = points.partition_point(|(x, _)| *x < at);
            if points.get(place).is_none_or(|(x, _)| *x != at) {
                points.insert(place, (at, Vec::new()));
            }
            points[place].1.extend(mean(&values));
        }
    }

    pub(super) fn complain(&self, notes: &mut Notes, who: &str) {
        if self.odd > 0 {
            notes.add("Left out, being no finite number".into(), &format!("{who} ({})", self.odd));
        }
    }
}

/// Sentences with what they hold for.
#[derive(Default)]
pub(super) struct Notes(Vec<(String, Vec<String>)>);

impl Notes {
    pub(super) fn add(&mut self, what: String, whom: &str) {
        let known = self.0.iter().position(|(known, _)| *known == what).unwrap_or_else(|| {
            self.0.push((what, Vec::new()));
            self.0.len() - 1
        });
        let list = &mut self.0[known].1;
        if !list.iter().any(|known| known == whom) {
            list.push(whom.into());
        }
    }

    /// Where fewer of a row's runs have a number than were planned.
    pub(super) fn fewer(&mut self, what: &str, who: &str, n: usize, runs: &[&Run]) {
        if n > 0 && n < runs.len() {
            self.add(what.into(), &format!("{who} ({n} of {}, {})", runs.len(), why(runs)));
        }
    }

    pub(super) fn said(self) -> Vec<String> {
        self.0.into_iter().map(|(what, whom)| format!("{what}: {}.", whom.join("; "))).collect()
    }
}

/// What became of the runs that brought nothing, as counts; where all finished, that they say nothing.
pub(super) fn why(runs: &[&Run]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for run in runs {
        let ended = run.record.is_none_or(|record| record.outcome != Outcome::Finished);
        if ended {
            *counts.entry(run.outcome).or_default() += 1;
        }
    }
    if counts.is_empty() {
        return "finished without".into();
    }
    counts.into_iter().map(|(word, n)| format!("{n} {}", word.replace('_', " "))).collect::<Vec<_>>().join(", ")
}
