//! What the config expects of scores, held against them.

use crate::grid::{Column, Grid, left};
use crate::statistics::{Interval, difference_interval};
use crate::store::manifest::{By, Expectation, Wanted};
use crate::table::findings::score_text;
use crate::table::row::Row;
use crate::table::section::Section;
use crate::table::sweep::Sweep;
use serde::Serialize;

/// What came of an expectation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// It holds.
    Held,
    /// It does not.
    Missed,
    /// There is no score yet, or no interval where one decides.
    Open,
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Missed => "missed",
            Self::Open => "open",
        }
    }
}

/// An expectation and what came of it, in one row of the main table.
#[derive(Clone, Debug, Serialize)]
pub struct Expected {
    /// Mixer.
    pub mixer: String,
    /// Task.
    pub task: String,
    /// Grid settings as text.
    pub settings: String,
    /// What was expected, in words.
    pub claim: String,
    /// The score.
    pub score: String,
    /// What came of it.
    pub verdict: Verdict,
    /// Who says so.
    pub source: String,
}

const COLUMNS: &[Column<Expected>] = &[
    left("task", 0, |e: &Expected| e.task.clone()),
    left("mixer", 0, |e: &Expected| e.mixer.clone()),
    left("settings", 1, |e: &Expected| e.settings.clone()),
    left("expected", 0, |e: &Expected| e.claim.clone()),
    left("test", 0, |e: &Expected| e.score.clone()),
    left("verdict", 0, |e: &Expected| e.verdict.word().into()),
    left("source", 2, |e: &Expected| e.source.clone()),
];

/// The section; none where nothing is expected.
pub(crate) fn section(sweep: &Sweep) -> Vec<Section> {
    let expected: Vec<Expected> = sweep.manifest.expect.iter().flat_map(|claim| of_claim(claim, sweep.rows)).collect();
    if expected.is_empty() {
        return Vec::new();
    }
    let missed = expected.iter().filter(|e| e.verdict == Verdict::Missed);
    let findings =
        missed.map(|e| format!("{} on {} was expected {}; it scored {}.", e.mixer, e.task, e.claim, e.score));
    let section = Section {
        name: "expectations",
        title: "Expectations",
        grid: Grid::new(COLUMNS, &expected),
        caption: "What the config expects of the mean test score; by interval: of the whole 95 % interval over seeds, with one seed of \
                  that over test examples; above another: of the difference of means, by interval of its Welch interval."
            .into(),
        findings: findings.collect(),
        ..Section::default()
    };
    vec![section.with_json("expectations", &expected)]
}

/// The expectations of a sweep and what came of them.
pub(crate) fn of_claim(claim: &Expectation, rows: &[Row]) -> Vec<Expected> {
    let own = rows.iter().filter(|row| row.mixer == claim.mixer && row.task == claim.task);
    own.map(|row| Expected {
        mixer: row.mixer.clone(),
        task: row.task_shown(),
        settings: row.settings.clone(),
        claim: claim.words(),
        score: row.test.as_ref().map_or("-".into(), score_text),
        verdict: verdict(claim, row, rows),
        source: claim.source.clone().unwrap_or_default(),
    })
    .collect()
}

fn verdict(claim: &Expectation, row: &Row, rows: &[Row]) -> Verdict {
    let Some(test) = row.test else { return Verdict::Open };
    let interval = match claim.by {
        By::Mean => Some(Interval { low: test.mean, high: test.mean }),
        By::Interval => test.interval.or(row.over_examples),
    };
    let holds = match &claim.wanted {
        Wanted::AtLeast(least) => interval.map(|interval| interval.low >= *least),
        Wanted::AtMost(most) => interval.map(|interval| interval.high <= *most),
        Wanted::Above(other) => {
            let of_other = |other_row: &&Row| other_row.mixer == *other && other_row.place() == row.place();
            let scores = rows.iter().find(of_other).filter(|row| row.test.is_some()).map(|row| &row.scores);
            scores.and_then(|theirs| is_above(&row.scores, theirs, claim.by))
        }
    };
    match holds {
        None => Verdict::Open,
        Some(true) => Verdict::Held,
        Some(false) => Verdict::Missed,
    }
}

fn is_above(ours: &[f64], theirs: &[f64], by: By) -> Option<bool> {
    let mean = |scores: &[f64]| crate::statistics::mean(scores);
    match by {
        By::Mean => Some(mean(ours)? > mean(theirs)?),
        By::Interval => Some(difference_interval(ours, theirs)?.low > 0.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;
    use crate::samples;

    fn claim(mixer: &str, wanted: Wanted, by: By) -> Expectation {
        let (manifest, _) = samples::eventful();
        Expectation { mixer: mixer.into(), task: manifest.runs[0].task.clone(), wanted, by, source: None }
    }

    fn verdicts(claims: Vec<Expectation>) -> Vec<Verdict> {
        let (manifest, records) = samples::eventful();
        let manifest = crate::Manifest { expect: claims, ..manifest };
        let report = Report::from_records(&manifest, &records).expect("a report");
        manifest.expect.iter().flat_map(|claim| of_claim(claim, &report.table().rows)).map(|e| e.verdict).collect()
    }

    #[test]
    fn a_mean_at_a_bound_holds_and_beyond_it_misses_and_without_a_score_is_open() {
        let (manifest, records) = samples::eventful();
        let report = Report::from_records(&manifest, &records).expect("a report");
        let row = report.table().rows.iter().find(|row| row.test.is_some_and(|t| t.interval.is_some())).expect("seeds");
        let (name, test) = (row.mixer.as_str(), row.test.expect("scored"));
        let low = test.interval.expect("seeds").low;
        let said = verdicts(vec![
            claim(name, Wanted::AtLeast(test.mean), By::Mean),
            claim(name, Wanted::AtLeast(test.mean + 1e-9), By::Mean),
            claim(name, Wanted::AtLeast(low), By::Interval),
            claim(name, Wanted::AtLeast(test.mean), By::Interval),
            claim(name, Wanted::AtMost(test.mean), By::Mean),
            claim(name, Wanted::AtMost(test.mean - 1e-9), By::Mean),
        ]);
        use Verdict::{Held, Missed};
        assert_eq!(said, [Held, Missed, Held, Missed, Held, Missed]);
        if let Some(unscored) = report.table().rows.iter().find(|row| row.test.is_none()) {
            assert_eq!(verdicts(vec![claim(&unscored.mixer, Wanted::AtLeast(0.1), By::Mean)]), [Verdict::Open]);
        }
    }

    #[test]
    fn one_mixer_is_above_another_by_means_or_by_the_interval_of_the_difference() {
        assert_eq!(is_above(&[0.9, 0.8], &[0.5, 0.8], By::Mean), Some(true));
        assert_eq!(is_above(&[0.9, 0.8], &[0.5, 0.8], By::Interval), Some(false), "two seeds that overlap");
        assert_eq!(is_above(&[0.9, 0.91, 0.92], &[0.5, 0.51, 0.52], By::Interval), Some(true));
        assert_eq!(is_above(&[0.9], &[0.5], By::Interval), None, "one seed has no spread");
    }
}
