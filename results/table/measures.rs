//! Numbers besides the score, by task and mixer.

use crate::OfBaseline;
use crate::grid::{Grid, digits};
use crate::statistics::Measured;
use crate::table::row::Row;
use crate::table::section::{Part, Section};
use crate::table::sweep::Sweep;
use std::collections::BTreeSet;

const CAPTION: &str = "Mean over the scored seeds that report a measure; (k/n) where only k of the n planned runs do: \
                       a run that failed has none, nor one that diverged, except of accuracies, F1 and \
                       correlations, of which it counts the floor. Intervals are in table.json, single runs in \
                       runs.csv.";

/// The section; none where no run has any. Baselines that have a loss are rows of the language models' table.
pub(crate) fn section(sweep: &Sweep) -> Vec<Section> {
    let is_listed = |row: &Row, of: &OfBaseline| row.baselines_with_loss().any(|name| name == of.baseline);
    let of_baseline =
        |name: &String| sweep.rows.iter().any(|row| row.baselines.get(name).is_some_and(|of| is_listed(row, of)));
    let all: BTreeSet<&String> = sweep.all_rows().iter().flat_map(|row| row.measures.keys()).collect();
    let names: Vec<&String> = all.into_iter().filter(|name| !of_baseline(name)).collect();
    if names.is_empty() {
        return Vec::new();
    }
    let grid = grid(sweep.rows, &names);
    vec![Section {
        name: "measures",
        title: "Measures",
        part: Part::Page,
        grid,
        caption: CAPTION.into(),
        ..Section::default()
    }]
}

fn grid(rows: &[Row], names: &[&String]) -> Grid {
    let with_settings = rows.iter().any(|row| !row.settings.is_empty());
    let words = if with_settings { vec!["task", "mixer", "settings"] } else { vec!["task", "mixer"] };
    let titles = words.iter().map(ToString::to_string).chain(names.iter().map(ToString::to_string)).collect();
    let cells = |row: &Row| {
        let settings = with_settings.then(|| row.settings.clone());
        let numbers = names.iter().map(|name| measured(row.measures.get(*name), row.planned));
        [row.task_shown(), row.mixer.clone()].into_iter().chain(settings).chain(numbers).collect()
    };
    Grid::of(titles, words.len(), rows.iter().map(cells).collect())
}

/// `0.0312`, or `0.0312 (2/3)` where some planned runs do not say.
fn measured(measured: Option<&Measured>, planned: u64) -> String {
    let Some((mean, n)) = measured.and_then(|measured| Some((measured.mean?, measured.n))) else { return "-".into() };
    let whole = n as u64 == planned;
    if whole { digits(mean) } else { format!("{} ({n}/{planned})", digits(mean)) }
}
