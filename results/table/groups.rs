//! Means over groups of tasks: the labels that share the part before the first `/` are one task and its changes.
//!
//! ```text
//! group   mean over its tasks of the mean over seeds     recall, recall/vocab_size=32, recall/noise=0.2
//! all     mean over groups                               the MAD score, where the groups are the tasks of MAD
//! ```
//! A group counts once, however many changes it has. A mixer without a score on one of its tasks has no mean.

use crate::grid::Grid;
use crate::statistics::{Interval, Range, Seeds, mean, seeds_interval};
use crate::table::means::{self, TaskMean, intervals};
use crate::table::row::{Row, sign_notes, tasks};
use crate::table::section::Section;
use crate::table::sweep::Sweep;
use serde::Serialize;

const CAPTION: &str = "Means over groups: tasks whose labels share the part before the first `/` are one group, which \
                       counts by the mean over its tasks of the mean over seeds; the last column is the mean over \
                       groups. A mixer without a \
                       number on every task of a group has no mean of it, nor one with scored runs that lack it.";

/// Macro accuracy, averaged beside the score where runs report it.
const MACRO: &str = "macro_accuracy";

/// One mixer's means of one quantity.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// Mixer.
    pub mixer: String,
    /// `score` or `macro_accuracy`.
    pub measure: String,
    /// The groups by name, in the order of their first tasks.
    pub groups: Vec<GroupMean>,
    /// Over the groups.
    pub mean: Option<f64>,
    /// By Welch and Satterthwaite over seeds, or of sums by seed where runs of one seed share a start, clipped to the range of the
    /// scores; `None` where a task has fewer than two seeds.
    pub interval: Option<Interval>,
}

/// The mean over one group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupMean {
    /// What its labels share.
    pub name: String,
    /// Tasks in it.
    pub tasks: usize,
    /// Tasks of it with a number.
    pub scored: usize,
    /// Runs with the number and scored runs, where some lack it.
    #[serde(skip)]
    pub runs: Option<(usize, usize)>,
    /// The mean over its tasks; `None` unless every scored run of every one has a number.
    pub mean: Option<f64>,
}

/// The section; none unless some label holds a `/`.
pub(crate) fn section(sweep: &Sweep) -> Vec<Section> {
    let groups = if sweep.is_pooled() { groups(&sweep.mixers, sweep.rows) } else { Vec::new() };
    if groups.is_empty() {
        return Vec::new();
    }
    let section = Section {
        name: "groups",
        title: "Means over groups",
        grid: grid(&groups),
        caption: format!("{CAPTION} {}", intervals(sweep)),
        includes: sweep.marked(),
        notes: sign_notes(sweep.rows),
        ..Section::default()
    };
    vec![section.with_json("groups", &groups)]
}

/// Mixers by groups, and the mean over groups.
fn grid(groups: &[Group]) -> Grid {
    let names = groups.first().map(|group| group.groups.iter().map(|g| g.name.clone())).into_iter().flatten();
    let titles = ["mixer", "of"].map(String::from).into_iter().chain(names).chain(["mean".into()]).collect();
    let of_group = |group: &GroupMean| match group.mean {
        Some(mean) => format!("{mean:.3}"),
        None => match group.runs {
            Some((with, scored)) if group.scored == group.tasks => format!("- ({with}/{scored} runs)"),
            _ => format!("- ({}/{} tasks)", group.scored, group.tasks),
        },
    };
    let cells = |group: &Group| {
        let mean = means::text(group.mean.map(|mean| TaskMean { mean, interval: group.interval }));
        let words = [group.mixer.clone(), group.measure.clone()];
        words.into_iter().chain(group.groups.iter().map(of_group)).chain([mean]).collect()
    };
    Grid::of(titles, 2, groups.iter().map(cells).collect())
}

/// The means of every mixer, empty unless some label holds a `/`.
pub(crate) fn groups(mixers: &[&str], rows: &[Row]) -> Vec<Group> {
    let labels = tasks(rows);
    if !labels.iter().any(|label| label.contains('/')) {
        return Vec::new();
    }
    let mut names: Vec<&str> = Vec::new();
    for label in &labels {
        if !names.contains(&stem(label)) {
            names.push(stem(label));
        }
    }
    let mut measures = vec!["score"];
    if rows.iter().any(|row| row.measures.contains_key(MACRO)) {
        measures.push(MACRO);
    }
    let of_mixer = |mixer: &str, measure: &str| {
        let number = |label: &&str| {
            let row = rows.iter().find(|row| row.mixer == mixer && row.task == *label);
            row.map_or_else(Number::default, |row| Number::of(row, measure))
        };
        let of_group = |name: &&str| labels.iter().filter(|label| stem(label) == *name).map(number).collect();
        let cells: Vec<Vec<Number>> = names.iter().map(of_group).collect();
        let mean = mean(&cells.iter().map(|tasks| mean_of(tasks)).collect::<Option<Vec<_>>>().unwrap_or_default());
        let weight = |tasks: &[Number]| 1.0 / cells.len() as f64 / tasks.len() as f64;
        let seeds = |tasks: &Vec<Number>| -> Vec<Seeds> {
            tasks.iter().map(|number| Seeds { weight: weight(tasks), runs: number.runs.clone() }).collect()
        };
        let all: Vec<Seeds> = cells.iter().flat_map(seeds).collect();
        let of_mixer = || rows.iter().filter(|row| row.mixer == mixer);
        let shares_starts = of_mixer().any(|row| row.shares_starts);
        Group {
            mixer: mixer.into(),
            measure: measure.into(),
            groups: names.iter().zip(&cells).map(|(name, tasks)| summary(name, tasks)).collect(),
            mean,
            interval: mean
                .and_then(|mean| seeds_interval(mean, &all, shares_starts))
                .map(|interval| interval.clipped(range(measure, rows))),
        }
    };
    let of_mixer = |mixer: &&str| measures.iter().map(|measure| of_mixer(mixer, measure)).collect::<Vec<Group>>();
    mixers.iter().flat_map(of_mixer).collect()
}

/// What one task gives to a group: a number for each seed.
#[derive(Clone, Debug, Default)]
struct Number {
    runs: Vec<(u64, f64)>,
    /// Runs with a score.
    scored: usize,
}

impl Number {
    fn of(row: &Row, measure: &str) -> Self {
        let runs = match measure {
            MACRO => row.measures.get(MACRO).map(|measured| row.by_seed(measured)).unwrap_or_default(),
            _ => row.scores_by_seed(),
        };
        Self { runs, scored: row.scores.len() }
    }

    /// Over its seeds. A run that diverged has a score, the floor, and no macro accuracy: a mean over the others would be the better
    /// for it, so there is none.
    fn mean(&self) -> Option<f64> {
        let values: Vec<f64> = self.runs.iter().map(|(_, value)| *value).collect();
        mean(&values).filter(|_| values.len() == self.scored)
    }
}

fn mean_of(tasks: &[Number]) -> Option<f64> {
    mean(&tasks.iter().map(Number::mean).collect::<Option<Vec<_>>>()?)
}

fn summary(name: &str, tasks: &[Number]) -> GroupMean {
    let whole = |number: &&Number| !number.runs.is_empty();
    let sum = |of: fn(&Number) -> usize| tasks.iter().map(of).sum::<usize>();
    let (with, scored) = (sum(|number| number.runs.len()), sum(|number| number.scored));
    GroupMean {
        name: name.to_string(),
        tasks: tasks.len(),
        scored: tasks.iter().filter(whole).count(),
        runs: (with < scored).then_some((with, scored)),
        mean: mean_of(tasks),
    }
}

fn range(measure: &str, rows: &[Row]) -> Range {
    let ranges = || rows.iter().map(|row| row.scored_by.range());
    let low = ranges().map(|range| range.low).fold(f64::INFINITY, f64::min);
    let high = ranges().map(|range| range.high).fold(f64::NEG_INFINITY, f64::max);
    if measure == MACRO || low > high { Range::SHARE } else { Range { low, high } }
}

fn stem(label: &str) -> &str {
    label.split('/').next().unwrap_or(label)
}

#[cfg(test)]
mod tests {
    use crate::samples;
    use crate::table::Table;

    const TASKS: [&str; 4] = ["recall", "recall/vocab_size=32", "recall/noise=0.2", "compression"];

    #[test]
    fn a_group_counts_once_however_many_changes_it_has() {
        let (manifest, records) = samples::grouped();
        let table = Table::build(&manifest, &records).expect("builds");
        let groups = samples::groups(&table);
        let attention = &groups[0];
        let near = |found: Option<f64>, wanted: f64| found.is_some_and(|found| (found - wanted).abs() < 1e-12);
        // (0.9 + 0.7 + 0.5) / 3 = 0.7 and 0.3, so 0.5; over the four tasks it would be 0.6.
        assert!(near(attention.groups[0].mean, 0.7) && near(attention.mean, 0.5), "{attention:?}");
        assert_eq!((attention.groups[0].tasks, attention.groups[1].name.as_str()), (3, "compression"));
        let interval = attention.interval.expect("two seeds each");
        assert!(interval.low < 0.5 && interval.high > 0.5);
        // Macro accuracy is half of the score in these records.
        assert_eq!(groups[1].measure, "macro_accuracy");
        assert!(near(groups[1].mean, 0.25), "{:?}", groups[1]);
    }

    #[test]
    fn a_group_with_a_task_that_has_no_score_has_no_mean() {
        let (manifest, mut records) = samples::grouped();
        records.retain(|record| !record.id.starts_with("s4.recall/noise"));
        let table = Table::build(&manifest, &records).expect("builds");
        let groups = samples::groups(&table);
        let s4 = &groups[2];
        assert_eq!((s4.groups[0].mean, s4.groups[0].scored, s4.mean, s4.interval), (None, 2, None, None));
        assert!(s4.groups[1].mean.is_some());
        assert!(
            samples::section(&table, "groups").contains("| - (2/3 tasks) |"),
            "{}",
            samples::section(&table, "groups")
        );
    }

    // A diverged run has the floor as its score and no macro accuracy: 0.01 + 0.45 over the other seed would be no mean of both.
    #[test]
    fn a_run_without_a_macro_accuracy_leaves_no_mean_of_it() {
        let (manifest, mut records) = samples::grouped();
        let place = records.iter().position(|record| record.id == "s4.recall.1").expect("there");
        records[place] = samples::ended("s4.recall.1", samples::diverged("NaN"));
        let table = Table::build(&manifest, &records).expect("builds");
        let groups = samples::groups(&table);
        let (score, of_macro) = (&groups[2], &groups[3]);
        assert!(score.mean.is_some() && score.groups[0].mean.is_some(), "{score:?}");
        assert_eq!((of_macro.groups[0].mean, of_macro.groups[0].runs, of_macro.mean), (None, Some((5, 6)), None));
        assert!(of_macro.groups[1].mean.is_some(), "{of_macro:?}");
        assert!(
            samples::section(&table, "groups").contains("| - (5/6 runs) |"),
            "{}",
            samples::section(&table, "groups")
        );
    }

    #[test]
    fn without_a_slash_there_are_no_groups() {
        let (mut manifest, records) = samples::grouped();
        manifest.runs.retain(|run| !run.task.contains('/'));
        let table = Table::build(&manifest, &records).expect("builds");
        assert!(table.section("groups").is_none());
        assert!(!table.terminal(120, false).contains("Means over groups"));
    }

    #[test]
    fn the_means_stand_below_the_table() {
        let (manifest, mut records) = samples::grouped();
        assert_eq!(crate::table::row::tasks(&Table::build(&manifest, &records).expect("builds").rows), TASKS);
        records.reverse();
        let table = Table::build(&manifest, &records).expect("builds");
        insta::assert_snapshot!(samples::section(&table, "groups"), @r"
        | mixer | of | recall | compression | mean |
        | --- | --- | ---: | ---: | ---: |
        | attention | score | 0.700 | 0.300 | 0.500 [0.441, 0.559] |
        | attention | macro_accuracy | 0.350 | 0.150 | 0.250 [0.221, 0.279] |
        | s4 | score | 0.550 | 0.150 | 0.350 [0.291, 0.409] |
        | s4 | macro_accuracy | 0.275 | 0.075 | 0.175 [0.146, 0.204] |

        Means over groups: tasks whose labels share the part before the first `/` are one group, which counts by the mean over its tasks of the mean over seeds; the last column is the mean over groups. A mixer without a number on every task of a group has no mean of it, nor one with scored runs that lack it. Intervals are 95 % t intervals over the seeds of each task, with Welch and Satterthwaite's degrees of freedom, cut to the range of the scores. In simulated sweeps of 2 to 6 tasks with 2, 3 or 5 seeds they hold the true mean in 93 to 99 of 100, and in 92 to 96 where one task spreads 40 times as far as the others. Where the seeds of one task either solve it or do not, they do so in 41 to 43 with 2 seeds, 61 to 65 with 3 and 82 to 83 with 5, and where those of every task do, in 63 to 99: all seeds may have done the same.
        ");
    }
}
