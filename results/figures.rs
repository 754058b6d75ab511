//! What the figures of a config show, taken from manifest, records and tables: the numbers of every plot, and as tables. A figure
//! is a file here and an arm of [`build`].
//!
//! The runs of a figure are those behind the rows of the tables: of a grid, the setting chosen on validation.

mod built;
mod cells;
mod collected;
mod details;
mod lined;
mod lines;
mod phenomena;
mod profile;
mod ranking;
pub(crate) mod scores;
mod source;

pub(crate) use built::Built;

use crate::figures::source::Source;
use crate::table::Table;
use crate::table::frame::{self, Run};
use crate::{Figure, Manifest, text};
use std::collections::BTreeMap;

/// The figures that can be drawn, and why the others cannot.
pub(crate) fn build(manifest: &Manifest, runs: &[Run], table: &Table) -> (Vec<Built>, Vec<String>) {
    let source = Source { manifest, table, runs };
    let (mut built, mut missing) = (Vec::new(), Vec::new());
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for figure in &manifest.figures {
        let (kind, made) = match figure {
            Figure::Lines(asked) => ("lines", lines::lines(&source, asked)),
            Figure::Details(asked) => ("details", details::details(&source, asked)),
            Figure::Cells(asked) => ("cells", cells::cells(&source, asked)),
            Figure::Profile(asked) => ("profile", profile::profile(&source, asked)),
            Figure::Ranking(asked) => ("ranking", ranking::ranking(&source, asked)),
        };
        let nth = count.entry(kind).or_default();
        *nth += 1;
        let stem = if *nth == 1 { kind.to_string() } else { format!("{kind}-{nth}") };
        match made {
            Ok(figure) => built.push(Built { stem, ..figure }),
            Err(why) => missing.push(format!("the figure `{stem}` is not drawn: {why}")),
        }
    }
    (built, missing)
}

/// Every run's details, one a line, in the manifest's order; empty without any.
pub(crate) fn details_csv(runs: &[Run], table: &Table) -> Result<String, csv::Error> {
    if runs.iter().filter_map(|run| run.record).all(|record| record.details.is_empty()) {
        return Ok(String::new());
    }
    let titles =
        ["task", "mixer", "settings", "seed", "outcome", "chosen", "measure", "series", "axis", "at", "value", "id"];
    let mut lines = vec![titles.map(String::from)];
    for (place, run) in runs.iter().enumerate() {
        let settings = frame::settings_text(&run.planned.settings);
        let in_table = table.rows.iter().any(|row| row.runs.contains(&place)).to_string();
        for detail in run.record.map(|record| record.details.as_slice()).unwrap_or_default() {
            let planned = run.planned;
            lines.push([
                planned.task.clone(),
                planned.mixer.clone(),
                settings.clone(),
                planned.seed.to_string(),
                run.outcome.into(),
                in_table.clone(),
                detail.measure.clone(),
                detail.series.clone(),
                detail.axis.clone(),
                detail.at.to_string(),
                detail.value.to_string(),
                planned.id.clone(),
            ]);
        }
    }
    text::csv(lines)
}

#[cfg(test)]
mod tests;
