//! What runs remark on their data, by task.

use crate::table::frame::Run;
use crate::table::section::{Part, Section};
use crate::table::sweep::Sweep;
use std::collections::HashMap;

/// The section; none without remarks.
pub(crate) fn section(sweep: &Sweep) -> Vec<Section> {
    let notes = remarks(sweep.runs);
    if notes.is_empty() {
        return Vec::new();
    }
    let section =
        Section { name: "remarks", title: "Data", part: Part::Page, notes: notes.clone(), ..Section::default() };
    vec![section.with_json("remarks", &notes)]
}

/// "TASK: remark", in the order of the tasks. What one run of several remarks is about that run, not about the data.
fn remarks(joined: &[Run]) -> Vec<String> {
    let mut counts: Vec<(&str, &str, usize)> = Vec::new();
    let mut runs: HashMap<&str, usize> = HashMap::new();
    for (planned, record) in joined.iter().filter_map(|run| Some((run.planned, run.record?))) {
        *runs.entry(&planned.task).or_default() += 1;
        for note in &record.notes {
            match counts.iter_mut().find(|(task, own, _)| (*task, *own) == (&planned.task, note)) {
                Some((_, _, count)) => *count += 1,
                None => counts.push((&planned.task, note, 1)),
            }
        }
    }
    counts.retain(|(task, _, count)| *count > 1 || runs[task] == 1);
    counts.into_iter().map(|(task, note, _)| format!("{task}: {note}")).collect()
}
