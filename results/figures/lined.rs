//! What figures with lines share: names of lines, the order of points, and the numbers as a table.

use crate::grid::{Grid, digits};
use crate::plot::chart::{Chart, Name, Spot};
use crate::statistics::{Estimate, Interval, Measured, Range};
use crate::table::findings::score_text;
use crate::table::row::Row;
use crate::text;

/// The series of the model itself.
pub(super) const MODEL: &str = "model";
/// Columns of a figure's table; all of its numbers are in a file.
const MOST_COLUMNS: usize = 12;

/// The place of a line among the names, which get a new one where it is not there yet.
pub(super) fn named(names: &mut Vec<Name>, mixers: &[String], mixer: &str, series: &str) -> usize {
    let text = if series == MODEL { mixer.to_string() } else { format!("{mixer}, {series}") };
    names.iter().position(|name| name.text == text).unwrap_or_else(|| {
        let mixer = mixers.iter().position(|known| known == mixer).unwrap_or_default();
        let others = names.iter().filter(|name| name.mixer == mixer && name.part > 0).count();
        names.push(Name { text, mixer, part: if series == MODEL { 0 } else { others + 1 } });
        names.len() - 1
    })
}

/// A mean over seeds, its interval cut to the range of the score where it is one.
pub(super) fn spot_of(x: f64, values: Vec<f64>, range: Option<Range>) -> Option<Spot> {
    let measured = Measured::new(values);
    let interval = measured.interval.map(|interval| range.map_or(interval, |range| interval.clipped(range)));
    let seeds = measured.values.iter().map(|value| (*value, false)).collect();
    Some(Spot { x, mean: measured.mean?, interval, seeds })
}

/// The range of a task's score, as far as some row knows it.
pub(super) fn range_of(rows: &[&Row]) -> Range {
    let known = rows.iter().find(|row| !row.metric.is_empty());
    known.map_or(Range::SHARE, |row| row.scored_by.range())
}

/// Words instead of underscores.
pub(super) fn plain(name: &str) -> String {
    name.replace('_', " ")
}

pub(super) fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

impl Chart {
    /// Points by their place on the axis, lines by the place of their mixers, and the legend likewise.
    pub(super) fn in_order(&mut self) {
        let mut order: Vec<usize> = (0..self.names.len()).collect();
        order.sort_by_key(|i| (self.names[*i].mixer, self.names[*i].part));
        let place: Vec<usize> = (0..order.len()).map(|i| order.iter().position(|o| *o == i).unwrap_or(i)).collect();
        self.names = order.iter().map(|i| self.names[*i].clone()).collect();
        for panel in &mut self.panels {
            for (name, spots) in &mut panel.lines {
                *name = place[*name];
                spots.sort_by(|a, b| a.x.total_cmp(&b.x));
            }
            panel.lines.sort_by_key(|(name, _)| *name);
        }
    }
}

/// The numbers of a chart: panels and lines by the values of the axis.
pub(super) fn table_of(chart: &Chart, axis: &str, file: &str) -> String {
    let lines = || chart.panels.iter().flat_map(|panel| &panel.lines).flat_map(|(_, spots)| spots).map(|spot| spot.x);
    let baselines = || chart.panels.iter().flat_map(|panel| &panel.references).flat_map(|(_, points)| points);
    let mut values: Vec<f64> = lines().chain(baselines().map(|(x, _)| *x)).collect();
    values.sort_by(f64::total_cmp);
    values.dedup();
    let all = values.len();
    if all == 0 {
        return String::new();
    }
    if all > MOST_COLUMNS {
        // Evenly from the first to the last.
        values = (0..MOST_COLUMNS).map(|i| values[i * (all - 1) / (MOST_COLUMNS - 1)]).collect();
    }
    let label = |value: &f64| match &chart.labels {
        Some(labels) => labels.get(*value as usize).cloned().unwrap_or_default(),
        None => value.to_string(),
    };
    let titles = ["task".to_string(), axis.to_string()].into_iter().chain(values.iter().map(label)).collect();
    let number = |mean: f64, interval: Option<Interval>, n: usize| match (chart.unit, interval) {
        (true, interval) => score_text(&Estimate { mean, interval, n }),
        (false, Some(Interval { low, high })) => format!("{} [{}, {}]", digits(mean), digits(low), digits(high)),
        (false, None) => digits(mean),
    };
    let mut rows = Vec::new();
    for panel in &chart.panels {
        for (name, spots) in &panel.lines {
            let cell = |value: &f64| {
                let spot = spots.iter().find(|spot| spot.x == *value);
                spot.map_or("-".into(), |spot| number(spot.mean, spot.interval, spot.seeds.len()))
            };
            let words = [panel.title.clone(), chart.names[*name].text.clone()];
            rows.push(words.into_iter().chain(values.iter().map(cell)).collect());
        }
        for (name, points) in &panel.references {
            let cell = |value: &f64| {
                let point = points.iter().find(|(x, _)| x == value);
                point.map_or("-".into(), |(_, y)| if chart.unit { format!("{y:.3}") } else { digits(*y) })
            };
            let words = [panel.title.clone(), format!("baseline: {name}")];
            rows.push(words.into_iter().chain(values.iter().map(cell)).collect());
        }
    }
    let fewer = if all > MOST_COLUMNS {
        format!("\n{MOST_COLUMNS} of {all} values of {}; all are in {file}.\n", text::markdown_inline(axis))
    } else {
        String::new()
    };
    Grid::of(titles, 2, rows).markdown() + &fewer
}
