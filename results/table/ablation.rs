//! What each change to an entry does: paired differences from the base, the largest first.
//!
//! ```text
//! dₛ = score with the change − score of the base      of the runs with seed s, which see the same batches in the same order
//! d̄ ± t(0.975, n−1) · s_d/√n                          over the n seeds that both have a score of
//! ```

use crate::grid::{Column, Grid, left, right};
use crate::statistics::{Interval, Range, least_sign_flip_p, mean, sample_sd, sign_flip_p, t_interval};
use crate::table::frame::settings_text;
use crate::table::row::{Counts, Row, places};
use crate::table::section::Section;
use crate::table::sweep::Sweep;
use crate::{Ablation, Change};
use serde::Serialize;

/// A change on one task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Difference {
    task: String,
    change: String,
    sets: Vec<(String, String)>,
    /// Mean score of the base, and with the change, over the seeds that both have.
    base: Option<f64>,
    changed: Option<f64>,
    /// Mean of the differences.
    mean: Option<f64>,
    interval: Option<Interval>,
    /// Seeds that both have a score of, and those that are planned.
    pairs: usize,
    planned: u64,
    /// Of the exact sign-flip test, and the least that it can give with so many pairs.
    p: Option<f64>,
    least_p: Option<f64>,
    /// How the runs with the change ended, and those of the base.
    runs: Counts,
    base_runs: Counts,
}

const COLUMNS: [Column<Difference>; 9] =
    [
        left("task", 0, |d: &Difference| d.task.clone()),
        left("change", 0, |d: &Difference| d.change.clone()),
        left("sets", 2, |d: &Difference| settings_text(&d.sets)),
        right("base", 1, |d: &Difference| three(d.base)),
        right("changed", 1, |d: &Difference| three(d.changed)),
        right("difference", 0, Difference::text),
        right("n", 0, |d: &Difference| {
            if d.pairs as u64 == d.planned { d.pairs.to_string() } else { format!("{}/{}", d.pairs, d.planned) }
        }),
        right("p (least)", 0, |d: &Difference| match (d.p, d.least_p) {
            (Some(p), Some(least)) => format!("{} ({})", probability(p), probability(least)),
            (None, Some(least)) => format!("- ({})", probability(least)),
            _ => "-".into(),
        }),
        left("remarks", 0, Difference::remarks),
    ];

const CAPTION: &str = "Score with the change minus score of the base, run by run of equal seed, which see the same batches in the same \
                       order; the largest difference first. Intervals are 95 % Student-t intervals of the mean difference over n pairs, each \
                       for itself: of twenty changes without effect one is expected to stand out. p is of the exact two-sided sign-flip \
                       test, beside the least that n pairs can give. A run that diverged counts by its floor; runs without a score \
                       are in no pair.";

/// The section; none without `ablate`.
pub(super) fn section(sweep: &Sweep) -> Vec<Section> {
    let Some(ablation) = &sweep.manifest.ablation else { return Vec::new() };
    let differences = differences(ablation, sweep.rows);
    if differences.is_empty() {
        return Vec::new();
    }
    let section = Section {
        name: "ablation",
        title: "Ablation",
        grid: Grid::new(&COLUMNS, &differences),
        caption: format!("Changes to {}. {CAPTION}", ablation.base),
        includes: sweep.marked(),
        warnings: unpaired(&differences).into_iter().collect(),
        findings: findings(&ablation.base, &differences),
        ..Section::default()
    };
    vec![section.with_json("ablation", &differences)]
}

/// Every change on every task where it was planned; on each task the largest difference first, those without one last.
fn differences(ablation: &Ablation, rows: &[Row]) -> Vec<Difference> {
    let mut all = Vec::new();
    for place in places(rows) {
        let row = |label: &str| rows.iter().find(|row| row.mixer == label && row.place() == place);
        let base = row(&ablation.base);
        let of = |change: &Change| Some(Difference::of(change, row(&change.label)?, base));
        let mut here: Vec<Difference> = ablation.changes.iter().filter_map(of).collect();
        let size = |d: &Difference| d.mean.map_or(-1.0, f64::abs);
        here.sort_by(|a, b| size(b).total_cmp(&size(a)));
        all.extend(here);
    }
    all
}

impl Difference {
    fn of(change: &Change, row: &Row, base: Option<&Row>) -> Self {
        let of_base = base.map(Row::scores_by_seed).unwrap_or_default();
        let pair = |(seed, score): (u64, f64)| {
            let (_, beside) = of_base.iter().find(|(other, _)| *other == seed)?;
            Some((*beside, score))
        };
        let pairs: Vec<(f64, f64)> = row.scores_by_seed().into_iter().filter_map(pair).collect();
        let (before, after): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
        let differences: Vec<f64> = pairs.iter().map(|(before, after)| after - before).collect();
        let centre = mean(&differences);
        let spread = centre.zip(sample_sd(&differences));
        let Range { low, high } = row.scored_by.range();
        let widest = Range { low: low - high, high: high - low };
        Self {
            task: row.place_shown(),
            change: change.label.clone(),
            sets: change.sets.clone(),
            base: mean(&before),
            changed: mean(&after),
            mean: centre,
            interval: spread.and_then(|(mean, sd)| t_interval(mean, sd, pairs.len())).map(|i| i.clipped(widest)),
            pairs: pairs.len(),
            planned: row.planned,
            p: sign_flip_p(&differences),
            least_p: (!pairs.is_empty()).then(|| least_sign_flip_p(pairs.len())),
            runs: row.counts,
            base_runs: base.map(|base| base.counts).unwrap_or_default(),
        }
    }

    fn text(&self) -> String {
        match (self.mean, self.interval) {
            (Some(mean), Some(Interval { low, high })) => format!("{mean:+.3} [{low:+.3}, {high:+.3}]"),
            (Some(mean), None) => format!("{mean:+.3}"),
            (None, _) => "-".into(),
        }
    }

    /// What did not end as planned, of either side.
    fn remarks(&self) -> String {
        let base = self.base_runs.remarks();
        let base = if base.is_empty() { base } else { format!("base: {base}") };
        [self.runs.remarks(), base].into_iter().filter(|said| !said.is_empty()).collect::<Vec<_>>().join("; ")
    }

    /// Whether the interval leaves 0 out.
    fn stands_out(&self) -> bool {
        self.interval.is_some_and(|interval| interval.low > 0.0 || interval.high < 0.0)
    }
}

fn three(score: Option<f64>) -> String {
    score.map_or("-".into(), |score| format!("{score:.3}"))
}

fn probability(p: f64) -> String {
    if p >= 0.001 { format!("{p:.3}") } else { format!("{p:.0e}") }
}

fn unpaired(differences: &[Difference]) -> Option<String> {
    let short: Vec<String> = differences
        .iter()
        .filter(|d| (d.pairs as u64) < d.planned)
        .map(|d| format!("{} on {} ({} of {})", d.change, d.task, d.pairs, d.planned))
        .collect();
    (!short.is_empty()).then(|| format!("Pairs are missing, for runs without a score: {}.", short.join(", ")))
}

/// Which changes are told from none, a sentence a task for those that are not.
fn findings(base: &str, differences: &[Difference]) -> Vec<String> {
    let mut said = Vec::new();
    let mut tasks: Vec<&str> = Vec::new();
    for d in differences {
        if d.stands_out() {
            let word = if d.mean.unwrap_or(0.0) < 0.0 { "below" } else { "above" };
            said.push(format!("{} is {word} {base} on {} by {} (n = {} pairs).", d.change, d.task, d.text(), d.pairs));
        }
        if !tasks.contains(&d.task.as_str()) {
            tasks.push(&d.task);
        }
    }
    for task in tasks {
        let alike = differences.iter().filter(|d| d.task == task && d.interval.is_some() && !d.stands_out());
        let names: Vec<&str> = alike.map(|d| d.change.as_str()).collect();
        if !names.is_empty() {
            said.push(format!(
                "Not told from {base} on {task} (the interval of the difference holds 0): {}.",
                names.join(", ")
            ));
        }
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Table;
    use crate::{Manifest, Record, samples};

    /// A base with scores 0.5, 0.6, 0.7; `a` is 0.3, 0.1 and 0.2 below it, `b` 0.01 above or below; of `c` one run diverged (its floor
    /// is 0.125) and one failed.
    fn ablated() -> (Manifest, Vec<Record>) {
        let mut manifest = samples::manifest(&["base", "b", "a", "c"], &["mqar"], 3);
        let change =
            |label: &str| Change { label: label.into(), sets: vec![("mixer.hydra.shift".into(), label.into())] };
        manifest.ablation = Some(Ablation { base: "base".into(), changes: ["b", "a", "c"].map(change).to_vec() });
        let scores = [("base", [0.5, 0.6, 0.7]), ("a", [0.2, 0.5, 0.5]), ("b", [0.51, 0.59, 0.71])];
        let mut records: Vec<Record> = scores
            .iter()
            .flat_map(|(mixer, scores)| {
                (1..).zip(scores).map(move |(seed, s)| samples::record(&format!("{mixer}.mqar.{seed}"), *s))
            })
            .collect();
        records.push(samples::record("c.mqar.1", 0.525));
        records.push(samples::ended("c.mqar.2", samples::diverged("NaN")));
        records.push(samples::ended("c.mqar.3", crate::Outcome::Failed { reason: "out of memory".into() }));
        (manifest, records)
    }

    fn found() -> Vec<Difference> {
        let (manifest, records) = ablated();
        let table = Table::build(&manifest, &records).expect("builds");
        differences(manifest.ablation.as_ref().expect("it is there"), &table.rows)
    }

    // By hand: differences −0.3, −0.1, −0.2 have mean −0.2, deviation 0.1; t(0.975, 2) = 4.302653, 4.302653 · 0.1/√3 = 0.248414.
    #[test]
    fn differences_are_those_reckoned_by_hand_and_the_largest_stands_first() {
        let all = found();
        assert_eq!(all.iter().map(|d| d.change.as_str()).collect::<Vec<_>>(), ["c", "a", "b"]);
        let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-6, "{a} is not {b}");
        let a = &all[1];
        near(a.mean.expect("three pairs"), -0.2);
        let interval = a.interval.expect("three pairs");
        near(interval.low, -0.2 - 0.248_414);
        near(interval.high, -0.2 + 0.248_414);
        assert_eq!((a.pairs, a.p, a.least_p), (3, Some(0.25), Some(0.25)));
        // 0.01, −0.01, 0.01: sums ±0.01 and ±0.03 are all as far from 0 as 0.01.
        let b = &all[2];
        near(b.mean.expect("three pairs"), 0.01 / 3.0);
        assert_eq!(b.p, Some(1.0));
    }

    // 0.525 − 0.5 = 0.025 and 0.125 − 0.6 = −0.475: mean −0.225.
    #[test]
    fn a_run_that_diverged_counts_by_its_floor_and_one_that_failed_is_named() {
        let c = &found()[0];
        assert!((c.mean.expect("two pairs") + 0.225).abs() < 1e-9, "{c:?}");
        assert_eq!((c.pairs, c.planned, c.least_p), (2, 3, Some(0.5)));
        assert_eq!(c.remarks(), "1 diverged, 1 failed");
        let (manifest, records) = ablated();
        let table = Table::build(&manifest, &records).expect("builds");
        assert!(table.warnings.iter().any(|w| w == "Pairs are missing, for runs without a score: c on mqar (2 of 3)."));
    }

    #[test]
    fn the_section_stands_below_the_scores_and_without_an_ablation_there_is_none() {
        let (mut manifest, records) = ablated();
        let table = Table::build(&manifest, &records).expect("builds");
        let page = samples::section(&table, "ablation");
        assert!(page.contains("-0.200 [-0.448, +0.048]") && page.contains("0.250 (0.250)"), "{page}");
        assert!(page.contains("Changes to base."), "{page}");
        let of_it = |said: &&String| said.contains("Not told from base on mqar");
        assert_eq!(table.findings.iter().filter(of_it).count(), 1, "{:?}", table.findings);
        manifest.ablation = None;
        assert!(Table::build(&manifest, &records).expect("builds").section("ablation").is_none());
    }

    #[test]
    fn pairs_are_made_by_seed_and_not_by_place() {
        let (manifest, mut records) = ablated();
        records.retain(|record| record.id != "base.mqar.1" && record.id != "a.mqar.3");
        let table = Table::build(&manifest, &records).expect("builds");
        let all = differences(manifest.ablation.as_ref().expect("it is there"), &table.rows);
        let a = all.iter().find(|d| d.change == "a").expect("it is there");
        assert_eq!((a.pairs, a.interval, a.p), (1, None, Some(1.0)));
        assert!((a.mean.expect("one pair") + 0.1).abs() < 1e-9, "0.5 − 0.6 of seed 2 alone: {a:?}");
        assert_eq!(a.remarks(), "1 missing; base: 1 missing");
    }
}
