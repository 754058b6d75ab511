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
use crate::table::frame::Run;
use crate::{Figure, Manifest};
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

#[cfg(test)]
mod tests;
