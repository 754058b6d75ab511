//! `details.csv`: every run's details, one a line, in the manifest's order.

use crate::Detail;
use crate::grid::{Column, Frame, field};
use crate::table::frame::{self, Run};
use crate::table::section::{Part, Section};
use crate::table::sweep::Sweep;

/// A detail and its run.
struct Line<'a> {
    run: &'a Run<'a>,
    /// Whether the run is behind a row of the table.
    chosen: bool,
    detail: &'a Detail,
}

/// The section; none where no run has details.
pub(crate) fn section(sweep: &Sweep) -> Vec<Section> {
    let lines = lines(sweep);
    if lines.is_empty() {
        return Vec::new();
    }
    let data = Some(Frame::new(&columns(), &lines));
    vec![Section { name: "details", part: Part::Data, data, ..Section::default() }]
}

fn columns<'a>() -> [Column<Line<'a>>; 12] {
    [
        field("task", |l| l.run.planned.task.as_str().into()),
        field("mixer", |l| l.run.planned.mixer.as_str().into()),
        field("settings", |l| frame::settings_text(&l.run.planned.settings).into()),
        field("seed", |l| l.run.planned.seed.into()),
        field("outcome", |l| l.run.outcome.into()),
        field("chosen", |l| l.chosen.into()),
        field("measure", |l| l.detail.measure.as_str().into()),
        field("series", |l| l.detail.series.as_str().into()),
        field("axis", |l| l.detail.axis.as_str().into()),
        field("at", |l| l.detail.at.into()),
        field("value", |l| l.detail.value.into()),
        field("id", |l| l.run.planned.id.as_str().into()),
    ]
}

fn lines<'a>(sweep: &Sweep<'a>) -> Vec<Line<'a>> {
    let of_run = |(place, run): (usize, &'a Run<'a>)| {
        let chosen = sweep.rows.iter().any(|row| row.runs.contains(&place));
        let details = run.record.map(|record| record.details.as_slice()).unwrap_or_default();
        details.iter().map(move |detail| Line { run, chosen, detail })
    };
    sweep.runs.iter().enumerate().flat_map(of_run).collect()
}
