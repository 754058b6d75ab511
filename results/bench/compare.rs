//! Two measurements, case by case.

use crate::bench::record::{Bench, Case, Pass, Quantity, State, YARDSTICK};
use serde::Serialize;

/// What the times of a comparison are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Held {
    /// Ratios to attention in the same run: a slower machine cancels out.
    ToAttention,
    /// Seconds.
    Absolute,
}

/// One number in both runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The mixer.
    pub label: String,
    /// Width.
    pub d_model: i64,
    /// Sequences.
    pub batch: i64,
    /// Positions.
    pub length: i64,
    /// What is compared.
    pub quantity: Quantity,
    /// In the first run: a ratio to attention or seconds, or bytes.
    pub before: f64,
    /// In the second run.
    pub after: f64,
    /// `after / before`.
    pub ratio: f64,
}

/// Two runs beside each other.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// What the times are.
    pub held: Held,
    /// A ratio above this fails.
    pub threshold: f64,
    /// Numbers in both.
    pub changes: Vec<Change>,
    /// Cases measured in the first run that the second tried and could not finish, with its reason.
    pub lost: Vec<String>,
    /// Cases that only one of the runs has.
    pub apart: Vec<String>,
    /// What may spoil the comparison.
    pub warnings: Vec<String>,
}

impl Comparison {
    /// Numbers that got worse by more than the threshold.
    pub fn worse(&self) -> usize {
        self.changes.iter().filter(|change| change.ratio > self.threshold).count()
    }

    /// Whether nothing got worse and nothing was lost.
    pub fn holds(&self) -> bool {
        self.worse() == 0 && self.lost.is_empty()
    }
}

/// Holds `after` against `before`. Times are ratios to attention where both runs have it at that size, unless `absolute`;
/// memory is the peak of the process, which no load changes.
pub fn compare(before: &Bench, after: &Bench, threshold: f64, absolute: bool) -> Comparison {
    let has_yardstick = |bench: &Bench| bench.cases.iter().any(|case| case.mixer == YARDSTICK && measured(case));
    let held = match absolute || !has_yardstick(before) || !has_yardstick(after) {
        true => Held::Absolute,
        false => Held::ToAttention,
    };
    let mut warnings = differences(before, after);
    if held == Held::Absolute && !absolute {
        warnings
            .push("not both runs measured attention: seconds are compared, which depend on the machine's load".into());
    }
    let (mut changes, mut lost, mut apart) = (Vec::new(), Vec::new(), Vec::new());
    for old in &before.cases {
        let Some(new) = after.cases.iter().find(|new| same(old, new)) else {
            apart.push(format!("{} only in the first run", name(old)));
            continue;
        };
        if (&old.settings, &old.block, old.causal) != (&new.settings, &new.block, new.causal) {
            warnings.push(format!("{}: settings or block differ between the runs", name(old)));
        }
        match &new.state {
            State::Stopped { reason } if measured(old) => lost.push(format!("{}: {reason}", name(old))),
            State::Absent if measured(old) => lost.push(format!("{}: no such mixer in the second run", name(old))),
            _ => {}
        }
        for quantity in Quantity::ALL {
            if let (Some(a), Some(b)) = (value(before, old, quantity, held), value(after, new, quantity, held))
                && a > 0.0
            {
                let (label, d_model, batch, length) = (old.label.clone(), old.d_model, old.batch, old.length);
                changes.push(Change { label, d_model, batch, length, quantity, before: a, after: b, ratio: b / a });
            }
        }
    }
    for new in after.cases.iter().filter(|new| !before.cases.iter().any(|old| same(old, new))) {
        apart.push(format!("{} only in the second run", name(new)));
    }
    Comparison { held, threshold, changes, lost, apart, warnings }
}

fn measured(case: &Case) -> bool {
    case.state == State::Measured
}

fn same(a: &Case, b: &Case) -> bool {
    let key = |case: &Case| (case.group.clone(), case.label.clone(), case.d_model, case.batch, case.length);
    key(a) == key(b)
}

fn name(case: &Case) -> String {
    format!("{} at length {}, d_model {}, batch {}", case.label, case.length, case.d_model, case.batch)
}

fn value(bench: &Bench, case: &Case, quantity: Quantity, held: Held) -> Option<f64> {
    let time = |pass| match held {
        Held::Absolute => case.pass(pass).time().map(|t| t.median),
        Held::ToAttention => bench.time_ratio(case, pass).map(|r| r.median),
    };
    let memory = |pass| case.pass(pass).memory.map(|m| m.peak_bytes as f64);
    match quantity {
        Quantity::ForwardTime => time(Pass::Forward),
        Quantity::TrainingTime => time(Pass::Training),
        Quantity::ForwardMemory => memory(Pass::Forward),
        Quantity::TrainingMemory => memory(Pass::Training),
    }
}

/// What was not alike.
fn differences(before: &Bench, after: &Bench) -> Vec<String> {
    let threads = |bench: &Bench| bench.device.threads.to_string();
    let known = |text: &str| if text.is_empty() { "unknown".to_string() } else { text.to_string() };
    let pairs = [
        ("processor", known(&before.device.name), known(&after.device.name)),
        ("threads", threads(before), threads(after)),
        ("libtorch", known(&before.versions.libtorch), known(&after.versions.libtorch)),
        ("mixarena", known(&before.versions.mixarena), known(&after.versions.mixarena)),
        ("commit", known(&before.versions.commit), known(&after.versions.commit)),
    ];
    let differ = pairs.into_iter().filter(|(_, a, b)| a != b);
    differ.map(|(what, a, b)| format!("{what} differs: {a} and {b}")).collect()
}
