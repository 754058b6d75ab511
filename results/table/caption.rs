//! How to read the main table: what its numbers are, and what the mixers were given alike.

use crate::table::frame::{self, Run};
use crate::table::overall::unlike;
use crate::table::row::{Row, clipped_to, places, tasks};
use crate::table::sized;
use crate::table::sweep::Sweep;
use crate::{Manifest, Record, Tuned, suites};
use std::collections::BTreeSet;

/// What the difference to a published number is, and what it is not.
const PUBLISHED: &str = "Published numbers come from their papers' own sizes, data and budgets: Δ, ours minus published in \
                         points, says how far this sweep is from them, not which code is better.";

/// How a score is held against the floor.
const EXAMPLES: &str = "A score is above the floor where neither its interval over seeds nor the 95 % interval over the test \
                        examples, which all seeds share, reaches it; with one seed the latter stands alone and is printed.";
const ONE_SEED: &str = "In place of an interval over seeds stands the 95 % interval over the test examples, which knows nothing of \
                        other seeds; a score is above the floor where it does not reach it.";

/// The sentences below the main table.
pub(super) fn caption(sweep: &Sweep) -> Vec<String> {
    let mut lines = vec![format!("{}, {}.", metrics(sweep.rows), interval_text(sweep.rows))];
    lines.extend(chosen_settings(sweep));
    lines.extend(searched(sweep));
    lines.extend(above_floor(sweep.rows));
    lines.extend(counted_runs(sweep.rows));
    lines.extend(published(sweep.rows));
    lines.extend(unlike(sweep));
    lines.extend(sweep.manifest.matched.as_ref().map(sized::sentence));
    lines.push(matching(sweep.runs, sweep.rows, &sweep.swept));
    lines.push(machine(sweep.runs));
    lines.retain(|line| !line.is_empty());
    if !sweep.manifest.command.is_empty() {
        lines.push(format!("Made by `{}`.", sweep.manifest.command));
    }
    lines
}

/// How the settings of a grid were chosen, and which were not.
fn chosen_settings(sweep: &Sweep) -> Vec<String> {
    let (rows, manifest) = (sweep.rows, sweep.manifest);
    let mut lines = Vec::new();
    let axes = axes(rows, manifest, &sweep.swept);
    let tried: BTreeSet<usize> = rows.iter().map(|row| row.settings_tried).collect();
    let grid = manifest.runs.iter().any(|run| !run.settings.is_empty());
    if grid && (axes.is_empty() || tried.last().is_some_and(|most| *most > 1)) {
        let tried = range(tried.first().copied().unwrap_or(0) as u64, tried.last().copied().unwrap_or(0) as u64);
        let each = if axes.is_empty() { "mixer and task".into() } else { format!("mixer, task, {}", axes.join(", ")) };
        let known = || rows.iter().filter(|row| !row.metric.is_empty());
        let by =
            match (known().any(|row| row.scored_by.chosen_by_loss), known().all(|row| row.scored_by.chosen_by_loss)) {
                (false, _) => "mean validation score",
                (true, true) => "least mean validation loss at the best step",
                (true, false) => {
                    "mean validation score, those of language models by least mean validation loss at the best step"
                }
            };
        lines.push(format!("Settings chosen by {by}, {tried} tried for each {each}."));
    }
    if !axes.is_empty() {
        let (axes, are) = (axes.join(" and "), if axes.len() > 1 { "are" } else { "is" });
        lines.push(format!(
            "{axes} {are} swept, not tuned: every value has its own row, and no mean is taken over them."
        ));
    }
    lines
}

/// How settings were searched before the runs.
fn searched(sweep: &Sweep) -> Option<String> {
    let tuned: Vec<&Tuned> = sweep.rows.iter().filter_map(|row| row.tuned.as_ref()).collect();
    let keys: BTreeSet<&str> = tuned.iter().flat_map(|tuned| &tuned.chosen).map(|(key, _)| key.as_str()).collect();
    let [least, most] = [tuned.iter().map(|t| t.tried).min()?, tuned.iter().map(|t| t.tried).max()?];
    let share = sweep.manifest.search.iter().map(|run| run.share).fold(0.0, f64::max);
    Some(format!(
        "Before the runs, {} searched for each mixer and task: {} settings, with {} % of the steps and seeds that no run here has, \
         chosen by validation{}.",
        match keys.len() {
            1 => format!("{} was", keys.into_iter().collect::<String>()),
            _ => format!("{} were", keys.into_iter().collect::<Vec<_>>().join(", ")),
        },
        range(least as u64, most as u64),
        (100.0 * share).round(),
        match tuned.iter().map(|tuned| tuned.extended).max() {
            Some(times @ 1..) => {
                let times = if times == 1 { "once".to_owned() } else { format!("up to {times} times") };
                format!("; an axis was extended, {times}, where its best value stood at its end")
            }
            _ => "; no axis was extended".to_owned(),
        }
    ))
}

/// How a score is held against the floor, where its test examples were counted.
fn above_floor(rows: &[Row]) -> Option<String> {
    let examples = rows.iter().filter(|row| row.over_examples.is_some());
    match examples.clone().any(|row| row.test.is_some_and(|test| test.n > 1)) {
        true => Some(EXAMPLES.into()),
        false => (examples.count() > 0).then(|| ONE_SEED.into()),
    }
}

/// What runs count that did not end as planned.
fn counted_runs(rows: &[Row]) -> Vec<String> {
    let mut lines = Vec::new();
    if rows.iter().any(|row| row.one_class > 0) {
        lines.push("One class: every test example got the same answer, whose share of test the score is.".into());
    }
    if rows.iter().any(|row| row.counts.diverged > 0) {
        let room = rows.iter().any(|row| row.counts.diverged > 0 && row.has_no_room());
        let none = if room { ", or 0 where the floor is the ceiling" } else { "" };
        lines.push(format!("A diverged run scores the floor{none}."));
    }
    if rows.iter().any(|row| row.scored < row.planned) {
        lines.push("Runs without a score are not in the mean; they are listed below.".into());
    }
    lines
}

/// What published numbers are, and what their suites say of them.
fn published(rows: &[Row]) -> Vec<String> {
    let mut lines = Vec::new();
    if rows.iter().any(|row| row.published.is_some()) {
        lines.push(PUBLISHED.into());
    }
    if rows.iter().any(|row| row.published_otherwise) {
        lines.push(
            "Where a published number is not of the score, its measure is named, and Δ is from ours of it.".into(),
        );
    }
    lines.extend(suites::SUITES.iter().flat_map(|suite| suite.caption(rows)));
    lines
}

/// The swept axes that some run has, by the last words of their paths.
fn axes<'a>(rows: &[Row], manifest: &Manifest, swept: &[&'a str]) -> Vec<&'a str> {
    if rows.iter().all(|row| row.swept.is_empty()) {
        return Vec::new();
    }
    let some = |path: &&&str| manifest.runs.iter().flat_map(|run| &run.settings).any(|(key, _)| key == **path);
    swept.iter().filter(some).map(|path| frame::last_word(path)).collect()
}

/// `Test accuracy`, or each task's metric where they differ.
fn metrics(rows: &[Row]) -> String {
    let known: Vec<&Row> = rows.iter().filter(|row| !row.metric.is_empty()).collect();
    let names: BTreeSet<&str> = known.iter().map(|row| row.metric.as_str()).collect();
    if names.len() < 2 {
        return format!("Test {}", names.first().unwrap_or(&"score"));
    }
    let of_task =
        |task: &&str| known.iter().find(|row| row.task == *task).map(|row| format!("{} ({task})", row.metric));
    format!("Test {}", tasks(rows).iter().filter_map(of_task).collect::<Vec<_>>().join(", "))
}

fn interval_text(rows: &[Row]) -> String {
    let n: BTreeSet<u64> = rows.iter().map(|row| row.scored).filter(|n| *n > 0).collect();
    let (Some(fewest), Some(most)) = (n.first(), n.last()) else { return "no run is scored yet".into() };
    match (*fewest, *most) {
        (1, 1) => "one seed, so no interval".into(),
        (low, high) => {
            let (n, ends) = (range(low, high), clipped_to(rows));
            format!("mean and 95 % Student-t interval over n = {n} seeds, clipped to {ends}")
        }
    }
}

/// What the mixers were given alike, and what not.
fn matching(runs: &[Run], rows: &[Row], swept: &[&str]) -> String {
    let finished = || runs.iter().filter(|run| run.outcome == "finished").filter_map(|run| Some((run, run.record?)));
    let steps: BTreeSet<u64> = finished().map(|(_, record)| record.steps).collect();
    let (Some(fewest), Some(most)) = (steps.first(), steps.last()) else { return String::new() };
    // What was granted counts, not what a run that stopped early made of it.
    let granted = |record: &Record| record.spec["budget"]["steps"].as_u64().unwrap_or(record.steps);
    let place = |run: &Run| (run.planned.task.clone(), frame::swept_text(&run.planned.settings, swept));
    let budgets: BTreeSet<((String, String), u64)> = finished().map(|(run, r)| (place(run), granted(r))).collect();
    let tasks_alike: BTreeSet<&(String, String)> = budgets.iter().map(|(place, _)| place).collect();
    let alike: BTreeSet<u64> = budgets.iter().map(|(_, budget)| *budget).collect();
    let early = if finished().any(|(_, record)| record.steps < granted(record)) {
        format!("; early stops from {fewest}")
    } else {
        String::new()
    };
    let and_value = if rows.iter().all(|row| row.swept.is_empty()) { "" } else { " and swept value" };
    let steps = match alike.first() {
        Some(budget) if alike.len() == 1 => format!("Matched by training steps ({budget}{early})"),
        _ if budgets.len() == tasks_alike.len() => {
            format!("Matched by training steps within each task{and_value} ({fewest} to {most}{early})")
        }
        _ => format!("Not matched by training steps, which vary from {fewest} to {most}"),
    };
    let of_place = |place: (&str, &str)| {
        let counts = rows.iter().filter(|row| row.place() == place).filter_map(|row| row.parameters);
        let (low, high) = counts.fold((u64::MAX, 0), |(low, high), n| (low.min(n), high.max(n)));
        (low <= high && low > 0).then_some((low, high))
    };
    let ranges: Vec<(u64, u64)> = places(rows).into_iter().filter_map(of_place).collect();
    let spread = ranges.iter().map(|(low, high)| *high as f64 / *low as f64).fold(1.0, f64::max);
    let (Some(low), Some(high)) = (ranges.iter().map(|r| r.0).min(), ranges.iter().map(|r| r.1).max()) else {
        return format!("{steps}.");
    };
    let alike = if ranges.len() > 1 {
        format!(", by up to a factor of {spread:.2} within a task{and_value}")
    } else {
        String::new()
    };
    if low == high {
        format!("{steps} and by parameters ({low}).")
    } else if spread <= 1.1 {
        format!("{steps} and by parameters to {:.1} % ({low} to {high}).", 100.0 * (spread - 1.0))
    } else {
        format!("{steps}, not by parameters: they vary from {low} to {high}{alike}.")
    }
}

/// Where the speed was measured, if it was one place.
fn machine(runs: &[Run]) -> String {
    let machines = runs.iter().filter_map(|run| run.record).map(|r| (&r.device.kind, &r.device.name, r.device.threads));
    let machines: BTreeSet<_> = machines.collect();
    match machines.first() {
        Some((kind, name, threads)) if machines.len() == 1 => {
            let name = if name.is_empty() { String::new() } else { format!(" ({name})") };
            let threads = format!("{threads} {}", if *threads == 1 { "thread" } else { "threads" });
            format!("Speed on {kind}{name} with {threads}; {}.", time_in_all(runs))
        }
        Some(_) => {
            format!("Speed was measured on unequal machines and cannot be compared; {}.", time_in_all(runs))
        }
        None => String::new(),
    }
}

/// `12 runs took 1 h 03 min, added together`: every run with a record, whatever became of it, and each once.
fn time_in_all(runs: &[Run]) -> String {
    let mut seen = BTreeSet::new();
    let recorded = runs.iter().filter_map(|run| run.record).filter(|record| seen.insert(&record.id));
    let times: Vec<f64> = recorded.map(|record| record.wall_seconds).collect();
    let plural = if times.len() == 1 { "1 run took".to_string() } else { format!("{} runs took", times.len()) };
    let together = if times.len() == 1 { "" } else { ", added together" };
    format!("{plural} {}{together}", duration(times.iter().filter(|t| t.is_finite()).sum()))
}

/// `45 s`, `23 min 10 s`, `1 h 03 min`.
pub(super) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

fn range(low: u64, high: u64) -> String {
    if low == high { low.to_string() } else { format!("{low} to {high}") }
}
