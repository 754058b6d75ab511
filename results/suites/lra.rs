//! The averages by which Long Range Arena is quoted: over its first five tasks, and over six.
//!
//! ```text
//! avg5   mean of ListOps, Text, Retrieval, Image, Pathfinder
//! avg6   the same with Path-X, which counts 0.5 where it is at its floor
//! ```
//! A task counts once, by the mean over its seeds. A mixer without a score on one of the tasks has no average.

use crate::grid::{Column, Grid, left, right};
use crate::published::{self, Averages, FAILED_PATH_X, FIVE, PATH_256, PATH_X};
use crate::statistics::{Range, Seeds, mean, seeds_interval};
use crate::suites::suite::{Suite, labels, without};
use crate::table::means::{self, TaskMean, intervals};
use crate::table::numbers::signed;
use crate::table::row::{Row, points, sign_notes};
use crate::table::section::Section;
use crate::table::sweep::Sweep;
use serde::Serialize;

pub(crate) struct LraSuite;

/// The suite of these tasks.
pub(crate) const SUITE: LraSuite = LraSuite;

impl Suite for LraSuite {
    fn sections(&self, sweep: &Sweep) -> Vec<Section> {
        let found = if sweep.is_pooled() { averages(&sweep.mixers, sweep.rows) } else { Ok(Vec::new()) };
        let (averages, empty) = match found {
            Ok(averages) => (averages, Section::default()),
            Err(problem) => (Vec::new(), without(problem)),
        };
        if averages.is_empty() {
            return vec![empty.with_json("averages", &averages)];
        }
        let section = Section {
            name: "lra",
            title: "Long Range Arena averages",
            grid: Grid::new(&COLUMNS, &averages),
            caption: format!("{CAPTION} {}", intervals(sweep)),
            includes: sweep.marked(),
            notes: sign_notes(sweep.rows),
            ..Section::default()
        };
        vec![section.with_json("averages", &averages)]
    }

    fn caption(&self, rows: &[Row]) -> Vec<String> {
        let fails = rows.iter().any(|row| row.fails);
        fails.then(|| "FAIL: no better than guessing, as papers print it for Path-X.".into()).into_iter().collect()
    }

    fn fails_at_floor(&self, task: &str) -> bool {
        [PATH_X, PATH_256].contains(&task)
    }
}

const COLUMNS: [Column<Average>; 9] = [
    left("mixer", 0, |r| r.mixer.clone()),
    left("avg5", 0, |r| means::text(r.avg5)),
    left("published", 0, |r| published_mean(r, |p| p.five)),
    right("Δ", 0, |r| signed(r.difference5_points)),
    left("avg6", 0, |r| if r.tasks == 6 { means::text(r.avg6) } else { String::new() }),
    left("published", 0, |r| if r.tasks == 6 { published_mean(r, |p| p.six) } else { String::new() }),
    right("Δ", 0, |r| signed(r.difference6_points)),
    left("n", 0, |r| format!("{}/{}", r.scored, r.planned)),
    left("remarks", 0, remarks),
];

const CAPTION: &str = "Long Range Arena averages. avg5: mean of ListOps, Text, Retrieval, Image and Pathfinder; avg6: \
                       the same with Path-X, which counts 0.5 where it is at its floor. A mixer without a \
                       score on every task has no average. Published averages are of the published cells, by the same rule.";

fn published_mean(row: &Average, of: fn(&Averages) -> Option<f64>) -> String {
    row.published.as_ref().and_then(of).map_or(String::new(), |share| format!("{share:.3}{}", row.letter))
}

fn remarks(row: &Average) -> String {
    let mut remarks = Vec::new();
    if !row.missing.is_empty() {
        remarks.push(format!("no score on {}", row.missing.join(", ")));
    }
    if row.path_x_failed {
        remarks.push("Path-X FAIL".into());
    }
    if let Some(stated) = row.published.as_ref().and_then(|published| published.stated) {
        remarks.push(format!("source states {stated:.3}"));
    }
    remarks.join(", ")
}

/// One mixer's averages beside the published ones.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Average {
    /// Mixer.
    pub mixer: String,
    /// Tasks of the sweep that count: five, or six with Path-X.
    pub tasks: usize,
    /// Over five tasks.
    pub avg5: Option<TaskMean>,
    /// Over six tasks.
    pub avg6: Option<TaskMean>,
    /// Whether Path-X is at its floor, and so counts 0.5.
    pub path_x_failed: bool,
    /// Tasks of the sweep without a score, by their published names.
    pub missing: Vec<String>,
    /// Scored runs.
    pub scored: u64,
    /// Planned runs.
    pub planned: u64,
    /// The model whose published averages stand beside: the one that every row of the mixer names.
    pub model: Option<String>,
    /// The letter of its source.
    #[serde(skip)]
    pub letter: String,
    /// Averages of the published cells, by the same rule.
    pub published: Option<Averages>,
    /// Ours minus published over five tasks, in points.
    pub difference5_points: Option<f64>,
    /// Ours minus published over six tasks, in points.
    pub difference6_points: Option<f64>,
}

/// The averages of every mixer, empty unless the sweep has the five tasks; or why there are none.
pub(crate) fn averages(mixers: &[&str], rows: &[Row]) -> Result<Vec<Average>, String> {
    let known = |name: &&str| rows.iter().any(|row| row.published_task.as_deref() == Some(*name));
    let wanted: Vec<&'static str> = FIVE.into_iter().chain([PATH_X]).filter(known).collect();
    if FIVE.iter().any(|name| !wanted.contains(name)) {
        return Ok(Vec::new());
    }
    labels(wanted.iter().copied(), rows, "Long Range Arena")?;
    Ok(mixers.iter().map(|mixer| of_mixer(mixer, rows, &wanted)).collect())
}

fn of_mixer(mixer: &str, rows: &[Row], wanted: &[&str]) -> Average {
    let find = |name: &&str| rows.iter().find(|row| row.mixer == mixer && row.published_task.as_deref() == Some(*name));
    let counts = |row: &Row| match row.fails {
        true => row.scores_by_seed().into_iter().map(|(seed, _)| (seed, FAILED_PATH_X)).collect(),
        false => row.scores_by_seed(),
    };
    let cells: Vec<Vec<(u64, f64)>> = wanted.iter().map(|name| find(name).map(counts).unwrap_or_default()).collect();
    let found: Vec<&Row> = wanted.iter().filter_map(find).collect();
    let missing = wanted.iter().zip(&cells).filter(|(_, cell)| cell.is_empty()).map(|(name, _)| name.to_string());
    let over = |n: usize| {
        let of_task = |runs: &Vec<(u64, f64)>| Seeds { weight: 1.0 / n as f64, runs: runs.clone() };
        let tasks: Vec<Seeds> = cells.get(..n)?.iter().map(of_task).collect();
        let mean = mean(&tasks.iter().map(Seeds::mean).collect::<Option<Vec<_>>>()?)?;
        let interval = seeds_interval(mean, &tasks, found.iter().any(|row| row.shares_starts));
        Some(TaskMean { mean, interval: interval.map(|interval| interval.clipped(Range::SHARE)) })
    };
    let (avg5, avg6) = (over(FIVE.len()), over(FIVE.len() + 1));
    let first = found.first().and_then(|row| row.published_model.clone());
    let model = first.filter(|model| found.iter().all(|row| row.published_model.as_ref() == Some(model)));
    let letter = found.iter().map(|row| row.letter.clone()).find(|letter| model.is_some() && !letter.is_empty());
    let letter = letter.unwrap_or_default();
    let published = model.as_deref().map(published::averages);
    let minus = |ours: Option<TaskMean>, theirs: Option<f64>| Some(points(ours?.mean, theirs?));
    Average {
        mixer: mixer.into(),
        tasks: wanted.len(),
        avg5,
        avg6,
        path_x_failed: found.iter().any(|row| row.published_task.as_deref() == Some(PATH_X) && row.fails),
        missing: missing.collect(),
        scored: found.iter().map(|row| row.scored).sum(),
        planned: found.iter().map(|row| row.planned).sum(),
        letter,
        difference5_points: minus(avg5, published.as_ref().and_then(|p| p.five)),
        difference6_points: minus(avg6, published.as_ref().and_then(|p| p.six)),
        model,
        published,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use crate::table::Table;
    use crate::{Manifest, Record};

    fn table(manifest: &Manifest, records: &[Record]) -> Table {
        Table::build(manifest, records).expect("builds")
    }

    fn near(found: Option<TaskMean>, mean: f64) -> bool {
        found.is_some_and(|found| (found.mean - mean).abs() < 1e-12)
    }

    #[test]
    fn a_task_counts_once_and_a_failed_path_x_counts_as_guessing() {
        let (manifest, records) = samples::lra();
        let averages = samples::averages(&table(&manifest, &records));
        let attention = &averages[0];
        let five = (0.364 + 0.641 + 0.575 + 0.424 + 0.714) / 5.0;
        assert!(
            near(attention.avg5, five) && near(attention.avg6, (5.0 * five + 0.5) / 6.0) && attention.path_x_failed
        );
        let s4 = &averages[2];
        assert!(near(s4.avg6, (0.484 + 0.861 + 0.871 + 0.612 + 0.893 + 0.842) / 6.0) && !s4.path_x_failed);
        // Published, by hand from the table: 83.472 and 84.885.
        assert!((s4.difference6_points.expect("both") - (76.05 - 84.885)).abs() < 1e-9);
        assert_eq!((s4.letter.as_str(), averages[1].difference6_points), ("ᶜ", None));
    }

    #[test]
    fn a_mixer_without_a_task_has_no_average_over_the_others() {
        let (manifest, mut records) = samples::lra();
        records.retain(|record| !record.id.starts_with("bigs.path-x"));
        let averages = samples::averages(&table(&manifest, &records));
        assert!(averages[3].avg5.is_some() && averages[3].avg6.is_none());
        assert_eq!(averages[3].missing, ["Path-X"]);
        assert_eq!(
            (averages[4].avg5, averages[4].avg6, &averages[4].missing[..]),
            (None, None, &["Text".to_string()][..])
        );
    }

    #[test]
    fn without_path_x_there_is_one_average_and_without_pathfinder_none() {
        let (mut manifest, records) = samples::lra();
        manifest.runs.retain(|run| run.task != "path-x");
        let five = table(&manifest, &records);
        let averages = samples::averages(&five);
        assert!(averages[0].avg5.is_some() && averages[0].avg6.is_none());
        assert!(averages[0].missing.is_empty() && !samples::section(&five, "lra").contains("| avg6 |"));
        manifest.runs.retain(|run| run.task != "pathfinder");
        assert!(samples::averages(&table(&manifest, &records)).is_empty());
    }

    #[test]
    fn two_tasks_that_stand_for_one_are_told_and_not_averaged() {
        let (mut manifest, records) = samples::lra();
        for run in manifest.runs.iter_mut().filter(|run| run.task == "path-x") {
            run.published.as_mut().expect("named").task = "Text".into();
        }
        let table = table(&manifest, &records);
        assert!(table.section("lra").is_none());
        let said = "no Long Range Arena averages: text, path-x all stand for Text; say `published: null`";
        assert!(table.warnings.iter().any(|warning| warning.starts_with(said)), "{:?}", table.warnings);
    }

    #[test]
    fn an_average_that_its_source_states_otherwise_is_shown_too() {
        let (mut manifest, records) = samples::lra();
        for run in manifest.runs.iter_mut().filter(|run| run.mixer == "bigs") {
            run.published.as_mut().expect("named").model = Some("Sinkhorn Transformer".into());
        }
        let text = samples::section(&table(&manifest, &records), "lra");
        assert!(text.contains("source states 0.513"), "{text}");
    }

    #[test]
    fn a_mixer_that_stands_beside_two_models_has_no_published_average() {
        let (mut manifest, records) = samples::lra();
        for run in manifest.runs.iter_mut().filter(|run| run.mixer == "s4" && run.task == "text") {
            run.published.as_mut().expect("named").model = Some("S5 (ICLR 2023)".into());
        }
        let averages = samples::averages(&table(&manifest, &records));
        assert_eq!((&averages[2].model, &averages[2].published, averages[2].letter.as_str()), (&None, &None, ""));
    }
}
