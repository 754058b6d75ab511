//! A number recorded for each of some phenomena, the easiest first: phenomena by mixers, one panel a task.

use crate::figures::built::Built;
use crate::figures::collected::{Collected, Notes, why};
use crate::figures::lined::{capital, plain};
use crate::figures::source::{Seen, Source};
use crate::grid::Grid;
use crate::plot::cells::{Filling, Map, Maps};
use crate::statistics::{Estimate, Measured, Range, mean};
use crate::table::findings::score_text;
use crate::table::row::{Row, places};

/// What the categories are called.
const PHENOMENON: &str = "phenomenon";
/// The share of pairs whose acceptable sentence is the more probable: 0.5 is guessing.
const MINIMAL_PAIRS: &str = "minimal_pairs";
/// The line over all phenomena.
const WHOLE: &str = "all";

/// A number recorded for each of some phenomena, the easiest first: phenomena by mixers, one panel a task.
pub(super) fn phenomena(source: &Source, measure: &str, axis: &str) -> Built {
    let (mut panels, mut notes, mut lines) = (Vec::new(), Notes::default(), Vec::new());
    let mut most = 0;
    for place in places(&source.table.rows) {
        let (title, rows) = source.at(place);
        let mut columns: Vec<(&Row, Vec<(String, Measured)>)> = Vec::new();
        for Seen { row, who, runs } in rows {
            let mut all = Collected::default();
            for run in &runs {
                all.add(run, measure, axis, |_| true);
            }
            all.complain(&mut notes, &who);
            if all.series.is_empty() {
                notes.add(format!("No {}", plain(measure)), &format!("{who} ({})", why(&runs)));
                continue;
            }
            notes.fewer("Fewer seeds", &who, all.runs, &runs);
            most = most.max(all.runs);
            let values = |points: Vec<(f64, Vec<f64>)>| points.into_iter().flat_map(|(_, values)| values).collect();
            let clipped = |measured: Measured| {
                let interval = measured.interval.map(|interval| interval.clipped(Range::SHARE));
                Measured { interval, ..measured }
            };
            let mut of_row: Vec<(String, Measured)> =
                all.series.into_iter().map(|(name, points)| (name, clipped(Measured::new(values(points))))).collect();
            if let Some(whole) = row.measures.get(measure).cloned() {
                of_row.push((WHOLE.into(), clipped(whole)));
            }
            columns.push((row, of_row));
        }
        let find = |(_, of_row): &(&Row, Vec<(String, Measured)>), name: &str| {
            of_row.iter().find(|(known, _)| known == name).map(|(_, measured)| measured.clone())
        };
        let mut names: Vec<(f64, String)> = Vec::new();
        for (name, _) in columns.iter().flat_map(|(_, of_row)| of_row) {
            if names.iter().all(|(_, known)| known != name) {
                let means: Vec<f64> = columns.iter().filter_map(|column| find(column, name)?.mean).collect();
                // Over all of them: below all of them.
                let merit = if name == WHOLE { f64::NEG_INFINITY } else { mean(&means).unwrap_or_default() };
                names.push((merit, name.clone()));
            }
        }
        names.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        if columns.is_empty() {
            continue;
        }
        let cell = |column: &(&Row, Vec<(String, Measured)>), name: &str| match find(column, name).and_then(|m| m.mean)
        {
            Some(mean) => Filling::Number(mean, format!("{mean:.2}")),
            None => Filling::Blank,
        };
        let text = |measured: Option<Measured>| match measured {
            Some(Measured { mean: Some(mean), interval, n, .. }) => score_text(&Estimate { mean, interval, n }),
            _ => "-".into(),
        };
        for (_, name) in &names {
            let numbers = source.mixers().into_iter().map(|mixer| {
                text(columns.iter().find(|(row, _)| row.mixer == mixer).and_then(|column| find(column, name)))
            });
            lines.push([title.clone(), plain(name)].into_iter().chain(numbers).collect());
        }
        panels.push(Map {
            title,
            rows: names.iter().map(|(_, name)| plain(name)).collect(),
            columns: columns.iter().map(|(row, _)| row.mixer.clone()).collect(),
            cells: names.iter().flat_map(|(_, name)| columns.iter().map(|column| cell(column, name))).collect(),
            absent: String::new(),
        });
    }
    let seeds = if most > 1 { "Means over seeds; 95 % Student-t intervals in the table" } else { "One seed each" };
    let pairs = if measure == MINIMAL_PAIRS { " 0.5 is guessing." } else { "" };
    let mut said =
        vec![format!("{seeds}. The easiest first, by the mean over mixers; the last line is over all pairs.{pairs}")];
    said.extend(notes.said());
    let name = plain(measure);
    let maps = Maps { panels, axes: Default::default(), limit: Some(1.0), name: name.clone(), notes: said.clone() };
    said.push("Every run's numbers are in details.csv.".into());
    let titles = ["task".to_string(), PHENOMENON.into()].into_iter().chain(source.mixers()).collect();
    Built {
        stem: String::new(),
        title: format!("{} by {PHENOMENON}", capital(&name)),
        alt: format!("{name} by {PHENOMENON} and mixer"),
        caption: said.join(" "),
        table: Grid::of(titles, 2, lines).markdown(),
        drawing: Box::new(maps),
    }
}
