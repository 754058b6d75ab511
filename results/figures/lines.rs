//! A number of the whole run against a setting: one panel a task, one line a mixer.

use crate::Scale;
use crate::figures::built::Built;
use crate::figures::collected::{Notes, why};
use crate::figures::kind::Kind;
use crate::figures::lined::{MODEL, capital, named, range_of, table_of};
use crate::figures::source::{SCORE, Source, score};
use crate::plot::chart::{Axis, Chart, Name, Panel};
use crate::statistics::Range;
use crate::table::frame::{self, last_word};
use crate::table::row::Row;
use serde::{Deserialize, Serialize};

/// Score against a setting.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Lines {
    /// Path of the grid's axis: `model.d_model`. It is not tuned over: every value has its row in the tables.
    pub x: String,
    /// Path of an axis that splits a task's panel, each value a panel of its own; `null`: none.
    #[serde(default)]
    pub panels: Option<String>,
    /// What is drawn: `score`, or a name of the records' measures.
    #[serde(default = "score")]
    pub measure: String,
    /// Steps of the horizontal axis.
    #[serde(default)]
    pub scale: Scale,
}

impl Kind for Lines {
    const EXAMPLE: &'static str = "lines: { x: model.d_model }";

    fn draw(&self, source: &Source) -> Result<Built, String> {
        let rows = self.rows(source)?;
        let axis = Horizontal::of(self, &rows);
        let mut panels = Panels::new(self, source, &axis);
        for (row, value) in &rows {
            match value {
                Some(value) => panels.add(row, value),
                None => panels.notes.add(format!("Without the setting {}", last_word(&self.x)), &row.mixer),
            }
        }
        Ok(self.built(source, panels.chart()))
    }
}

impl Lines {
    /// The rows, each with its value of the setting.
    fn rows<'a>(&self, source: &Source<'a>) -> Result<Vec<(&'a Row, Option<String>)>, String> {
        let value =
            |row: &Row| source.settings(row).iter().find(|(key, _)| *key == self.x).map(|(_, value)| value.clone());
        let rows: Vec<_> = source.table.rows.iter().map(|row| (row, value(row))).collect();
        if rows.iter().all(|(_, value)| value.is_none()) {
            return Err(format!("no run has the setting `{}`", self.x));
        }
        let mut keys = source.manifest.runs.iter().flat_map(|run| &run.settings).map(|(key, _)| key);
        if let Some(path) = self.panels.as_ref().filter(|path| keys.all(|key| key != *path)) {
            return Err(format!("no run has the setting `{path}`"));
        }
        source.measured(&self.measure)?;
        Ok(rows)
    }

    /// The figure with its words.
    fn built(&self, source: &Source, chart: Chart) -> Built {
        let (x, y) = (last_word(&self.x), source.quantity(&self.measure));
        let tuned = if source.table.rows.iter().any(|row| row.settings_tried > 1) {
            format!(" The other settings are the best on validation at each {x}.")
        } else {
            String::new()
        };
        Built {
            stem: String::new(),
            title: format!("{} by {x}", capital(&y)),
            alt: format!("{y} against {x}, one line a mixer"),
            table: table_of(&chart, x, "runs.csv"),
            caption: format!("{}{tuned}", source.caption(&chart, chart.unit, None)),
            drawing: Box::new(chart),
        }
    }
}

/// The horizontal axis: numbers, or words in the order of the rows.
struct Horizontal {
    labels: Option<Vec<String>>,
    scale: Scale,
}

impl Horizontal {
    fn of(asked: &Lines, rows: &[(&Row, Option<String>)]) -> Self {
        let labels = labels(rows.iter().filter_map(|(_, value)| value.as_deref()));
        let scale = if labels.is_some() { Scale::Linear } else { asked.scale };
        Self { labels, scale }
    }

    /// Where a value lies; NaN where it has no place.
    fn place(&self, value: &str) -> f64 {
        let place = match &self.labels {
            Some(labels) => labels.iter().position(|label| label == value).map(|place| place as f64),
            None => value.parse().ok(),
        };
        place.unwrap_or(f64::NAN)
    }
}

/// The panels of the figure as they fill with rows.
struct Panels<'a> {
    asked: &'a Lines,
    source: &'a Source<'a>,
    axis: &'a Horizontal,
    /// Swept axes besides the horizontal one.
    others: Vec<&'a str>,
    mixers: Vec<String>,
    names: Vec<Name>,
    panels: Vec<Filled>,
    notes: Notes,
}

/// A task at one value of the other axes.
struct Filled {
    key: (String, String),
    panel: Panel,
    /// By the place on the axis.
    floors: Vec<(f64, f64)>,
}

impl<'a> Panels<'a> {
    fn new(asked: &'a Lines, source: &'a Source, axis: &'a Horizontal) -> Self {
        let others = source.manifest.swept().into_iter().filter(|path| *path != asked.x).collect();
        let (names, panels, notes) = (Vec::new(), Vec::new(), Notes::default());
        Self { asked, source, axis, others, mixers: source.mixers(), names, panels, notes }
    }

    /// The panel of a row, a new one where there is none yet.
    fn panel_of(&mut self, row: &Row) -> usize {
        let key = (row.task.clone(), frame::swept_text(self.source.settings(row), &self.others));
        let known = self.panels.iter().position(|filled| filled.key == key);
        known.unwrap_or_else(|| {
            let at = if key.1.is_empty() { String::new() } else { format!(", {}", key.1) };
            let panel = Panel { title: row.task_shown() + &at, range: range_of(&[row]), ..Panel::default() };
            self.panels.push(Filled { key, panel, floors: Vec::new() });
            self.panels.len() - 1
        })
    }

    /// The point of a row, or a note on why it has none.
    fn add(&mut self, row: &Row, value: &str) {
        let (asked, source, x) = (self.asked, self.source, self.axis.place(value));
        let is_on_axis = Chart::drawable(self.axis.scale, x);
        let place = self.panel_of(row);
        let filled = &mut self.panels[place];
        if filled.panel.range == Range::SHARE {
            filled.panel.range = range_of(&[row]); // the first row may have no record and so no metric
        }
        let name = named(&mut self.names, &self.mixers, &row.mixer, MODEL);
        let who = format!("{} on {} at {}={value}", row.mixer, filled.panel.title, last_word(&asked.x));
        let floor = row.floor.filter(|_| asked.measure == SCORE && is_on_axis);
        filled.floors.extend(floor.map(|floor| (x, floor)));
        let runs = row.runs_of(source.runs);
        let Some(spot) = source.spot(row, &runs, &asked.measure, x) else {
            return self.notes.add(format!("No {}", asked.measure), &format!("{who} ({})", why(&runs)));
        };
        if !is_on_axis {
            return self.notes.add("Outside the logarithmic axis".into(), &who);
        }
        self.notes.fewer("Fewer seeds", &who, spot.seeds.len(), &runs);
        match filled.panel.lines.iter_mut().find(|(known, _)| *known == name) {
            Some((_, spots)) => spots.push(spot),
            None => filled.panel.lines.push((name, vec![spot])),
        }
    }

    fn chart(self) -> Chart {
        let mut chart = Chart {
            panels: self.panels.into_iter().map(Filled::with_floor).collect(),
            mixers: self.mixers,
            names: self.names,
            x: Axis { name: last_word(&self.asked.x).into(), scale: self.axis.scale },
            y: Axis { name: self.source.quantity(&self.asked.measure), scale: Scale::default() },
            labels: self.axis.labels.clone(),
            unit: self.asked.measure == SCORE,
            notes: self.notes.said(),
        };
        chart.in_order();
        chart
    }
}

impl Filled {
    /// A floor that moves along the axis is a line of its own.
    fn with_floor(self) -> Panel {
        let Self { mut panel, mut floors, .. } = self;
        floors.sort_by(|a, b| a.0.total_cmp(&b.0));
        floors.dedup_by_key(|(x, _)| *x);
        let (low, high) = floors.iter().fold((1.0_f64, 0.0_f64), |(a, b), (_, f)| (a.min(*f), b.max(*f)));
        match floors.first() {
            Some((_, floor)) if high - low <= 0.002 => panel.floor = Some(*floor),
            Some(_) => panel.references.push(("floor".into(), floors)),
            None => {}
        }
        panel
    }
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
