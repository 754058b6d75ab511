//! A number of the whole run against a setting: one panel a task, one line a mixer.

use crate::figures::built::{Built, Drawing};
use crate::figures::collected::{Notes, why};
use crate::figures::lined::{MODEL, capital, named, range_of, table_of};
use crate::figures::source::{SCORE, Source};
use crate::plot::chart::{Axis, Chart, Panel};
use crate::statistics::Range;
use crate::table::frame::{self, last_word};
use crate::table::row::Row;
use crate::{Lines, Scale};

/// A number of the whole run against a setting.
pub(super) fn lines(source: &Source, asked: &Lines) -> Result<Built, String> {
    let value =
        |row: &Row| source.settings(row).iter().find(|(key, _)| *key == asked.x).map(|(_, value)| value.clone());
    let rows: Vec<(&Row, Option<String>)> = source.table.rows.iter().map(|row| (row, value(row))).collect();
    if rows.iter().all(|(_, value)| value.is_none()) {
        return Err(format!("no run has the setting `{}`", asked.x));
    }
    if let Some(path) = asked.panels.as_ref()
        && source.manifest.runs.iter().flat_map(|run| &run.settings).all(|(key, _)| key != path)
    {
        return Err(format!("no run has the setting `{path}`"));
    }
    source.measured(&asked.measure)?;
    let labels = labels(rows.iter().filter_map(|(_, value)| value.as_deref()));
    let place = |value: &str| match &labels {
        Some(labels) => labels.iter().position(|label| label == value).map(|place| place as f64),
        None => value.parse().ok(),
    };
    let scale = if labels.is_some() { Scale::Linear } else { asked.scale };
    let swept = source.manifest.swept();
    let others: Vec<&str> = swept.into_iter().filter(|path| *path != asked.x).collect();
    let mixers = source.mixers();
    let mut names = Vec::new();
    let mut panels: Vec<((&str, String), Panel)> = Vec::new();
    let mut floors: Vec<Vec<(f64, f64)>> = Vec::new();
    let mut notes = Notes::default();
    for (row, value) in &rows {
        let Some(value) = value else {
            notes.add(format!("Without the setting {}", last_word(&asked.x)), &row.mixer);
            continue;
        };
        let key = (row.task.as_str(), frame::swept_text(source.settings(row), &others));
        let found = panels.iter().position(|(known, _)| *known == key);
        let panel = found.unwrap_or_else(|| {
            let at = if key.1.is_empty() { String::new() } else { format!(", {}", key.1) };
            let title = row.task_shown() + &at;
            panels.push((key, Panel { title, range: range_of(&[row]), ..Panel::default() }));
            floors.push(Vec::new());
            panels.len() - 1
        });
        let floors = &mut floors[panel];
        let panel = &mut panels[panel].1;
        if panel.range == Range::SHARE {
            panel.range = range_of(&[row]); // the first row may have no record and so no metric
        }
        let name = named(&mut names, &mixers, &row.mixer, MODEL);
        let who = format!("{} on {} at {}={value}", row.mixer, panel.title, last_word(&asked.x));
        let runs = row.runs_of(source.runs);
        let x = place(value).unwrap_or(f64::NAN);
        if let Some(floor) = row.floor.filter(|_| asked.measure == SCORE && Chart::drawable(scale, x)) {
            floors.push((x, floor));
        }
        let spot = source.spot(row, &runs, &asked.measure, x);
        let Some(spot) = spot else {
            notes.add(format!("No {}", asked.measure), &format!("{who} ({})", why(&runs)));
            continue;
        };
        if !Chart::drawable(scale, x) {
            notes.add("Outside the logarithmic axis".into(), &who);
            continue;
        }
        notes.fewer("Fewer seeds", &who, spot.seeds.len(), &runs);
        match panel.lines.iter_mut().find(|(known, _)| *known == name) {
            Some((_, spots)) => spots.push(spot),
            None => panel.lines.push((name, vec![spot])),
        }
    }
    let unit = asked.measure == SCORE;
    for ((_, panel), mut floors) in panels.iter_mut().zip(floors) {
        floors.sort_by(|a, b| a.0.total_cmp(&b.0));
        floors.dedup_by_key(|(x, _)| *x);
        let (low, high) = floors.iter().fold((1.0_f64, 0.0_f64), |(a, b), (_, f)| (a.min(*f), b.max(*f)));
        // A floor that moves along the axis is a line of its own.
        match floors.first() {
            Some((_, floor)) if high - low <= 0.002 => panel.floor = Some(*floor),
            Some(_) => panel.references.push(("floor".into(), floors)),
            None => {}
        }
    }
    let y = source.quantity(&asked.measure);
    let mut chart = Chart {
        panels: panels.into_iter().map(|(_, panel)| panel).collect(),
        mixers,
        names,
        x: Axis { name: last_word(&asked.x).into(), scale },
        y: Axis { name: y.clone(), scale: Default::default() },
        labels,
        unit,
        notes: notes.said(),
    };
    chart.in_order();
    let x = last_word(&asked.x);
    let tuned = if source.table.rows.iter().any(|row| row.settings_tried > 1) {
        format!(" The other settings are the best on validation at each {x}.")
    } else {
        String::new()
    };
    let caption = format!("{}{tuned}", source.caption(&chart, unit, None));
    Ok(Built {
        stem: String::new(),
        title: format!("{} by {x}", capital(&y)),
        alt: format!("{y} against {x}, one line a mixer"),
        table: table_of(&chart, x, "runs.csv"),
        caption,
        drawing: Drawing::Chart(chart),
    })
}

/// The words of an axis whose values are not all numbers, in the order of the rows.
fn labels<'a>(values: impl Iterator<Item = &'a str>) -> Option<Vec<String>> {
    let mut distinct: Vec<String> = Vec::new();
    for value in values {
        if !distinct.iter().any(|known| known == value) {
            distinct.push(value.into());
        }
    }
    let numbers = distinct.iter().all(|value| value.parse::<f64>().is_ok_and(f64::is_finite));
    (!numbers).then_some(distinct)
}
