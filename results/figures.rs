//! What the figures of a config show, taken from manifest, records and tables: the numbers of every plot, and as tables.
//!
//! The runs of a figure are those behind the rows of the tables: of a grid, the setting chosen on validation.

use crate::plot::cells::{Filling, Map, Maps};
use crate::plot::chart::{Axis, Chart, Name, Panel, Spot, references};
use crate::plot::radar::{Radar, Spoke};
use crate::plot::slope::{self, Slope, Slopes};
use crate::plot::{self, PlotError, chosen};
use crate::statistics::correlation::{Agreement, agreement, over_seeds, ranks};
use crate::statistics::{Estimate, Interval, Measured, Range, mean};
use crate::table::Table;
use crate::table::findings::score_text;
use crate::table::frame::{self, Run, last_word};
use crate::table::render::{Grid, digits};
use crate::table::row::{BOOTSTRAP_SEED, DRAWS, Row, clipped_to, mixers, places};
use crate::{
    Cells, Details, Figure, Lines, Manifest, Outcome, Profile, Ranking, Record, Scale, Shape, published, text,
};
use std::collections::BTreeMap;
use std::path::Path;

/// What the score is called in figures and details.
const SCORE: &str = "score";
/// The series of the model itself.
const MODEL: &str = "model";
/// The axis along which the series themselves are the values: kinds of sentences.
const PHENOMENON: &str = "phenomenon";
/// The measure whose series are phenomena, whatever their axis is called.
const MINIMAL_PAIRS: &str = "minimal_pairs";
/// The line over all phenomena.
const WHOLE: &str = "all";
/// Columns of a figure's table; all of its numbers are in a file.
const MOST_COLUMNS: usize = 12;

/// A figure with its words.
#[derive(Clone, Debug)]
pub(crate) struct Built {
    /// Its files without their ends.
    pub(crate) stem: String,
    pub(crate) title: String,
    /// For who cannot see it.
    pub(crate) alt: String,
    pub(crate) caption: String,
    /// Its numbers, as Markdown; may be empty.
    pub(crate) table: String,
    drawing: Drawing,
}

#[derive(Clone, Debug)]
enum Drawing {
    Chart(Chart),
    Cells(Maps),
    Radar(Radar),
    Slopes(Slopes),
}

impl Built {
    pub(crate) fn draw(&self, path: &Path) -> Result<(), PlotError> {
        match &self.drawing {
            Drawing::Chart(chart) => plot::chart(chart, path),
            Drawing::Cells(maps) => plot::cells(maps, path),
            Drawing::Radar(radar) => plot::radar(radar, path),
            Drawing::Slopes(slopes) => plot::slopes(slopes, path),
        }
    }
}

/// The figures that can be drawn, and why the others cannot.
pub(crate) fn build(manifest: &Manifest, records: &[Record], table: &Table) -> (Vec<Built>, Vec<String>) {
    let source = Source { manifest, table, runs: frame::runs(manifest, records) };
    let (mut built, mut missing) = (Vec::new(), Vec::new());
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for figure in &manifest.figures {
        let (kind, made) = match figure {
            Figure::Lines(asked) => ("lines", source.lines(asked)),
            Figure::Details(asked) => ("details", source.details(asked)),
            Figure::Cells(asked) => ("cells", source.cells(asked)),
            Figure::Profile(asked) => ("profile", source.profile(asked)),
            Figure::Ranking(asked) => ("ranking", source.ranking(asked)),
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
pub(crate) fn details_csv(manifest: &Manifest, records: &[Record], table: &Table) -> Result<String, csv::Error> {
    let runs = frame::runs(manifest, records);
    if runs.iter().filter_map(|run| run.record).all(|record| record.details.is_empty()) {
        return Ok(String::new());
    }
    let titles =
        ["task", "mixer", "settings", "seed", "outcome", "chosen", "measure", "series", "axis", "at", "value", "id"];
    let mut lines = vec![titles.map(String::from)];
    for run in &runs {
        let settings = frame::settings_text(&run.planned.settings);
        let of_run =
            |row: &Row| (&row.task, &row.mixer, &row.settings) == (&run.planned.task, &run.planned.mixer, &settings);
        let in_table = table.rows.iter().any(of_run).to_string();
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

struct Source<'a> {
    manifest: &'a Manifest,
    table: &'a Table,
    runs: Vec<Run<'a>>,
}

impl Source<'_> {
    fn mixers(&self) -> Vec<String> {
        mixers(self.manifest).into_iter().map(String::from).collect()
    }

    fn settings(&self, row: &Row) -> &[(String, String)] {
        chosen(&self.runs, row).first().map(|run| run.planned.settings.as_slice()).unwrap_or_default()
    }

    /// A number of the whole run against a setting.
    fn lines(&self, asked: &Lines) -> Result<Built, String> {
        let value =
            |row: &Row| self.settings(row).iter().find(|(key, _)| *key == asked.x).map(|(_, value)| value.clone());
        let rows: Vec<(&Row, Option<String>)> = self.table.rows.iter().map(|row| (row, value(row))).collect();
        if rows.iter().all(|(_, value)| value.is_none()) {
            return Err(format!("no run has the setting `{}`", asked.x));
        }
        if let Some(path) = asked.panels.as_ref()
            && self.manifest.runs.iter().flat_map(|run| &run.settings).all(|(key, _)| key != path)
        {
            return Err(format!("no run has the setting `{path}`"));
        }
        if asked.measure != SCORE && self.table.rows.iter().all(|row| !row.measures.contains_key(&asked.measure)) {
            return Err(format!("no scored run has the measure `{}`{}", asked.measure, self.known_measures()));
        }
        let labels = labels(rows.iter().filter_map(|(_, value)| value.as_deref()));
        let place = |value: &str| match &labels {
            Some(labels) => labels.iter().position(|label| label == value).map(|place| place as f64),
            None => value.parse().ok(),
        };
        let scale = if labels.is_some() { Scale::Linear } else { asked.scale };
        let swept = self.manifest.swept();
        let others: Vec<&str> = swept.into_iter().filter(|path| *path != asked.x).collect();
        let mixers = self.mixers();
        let mut names = Vec::new();
        let mut panels: Vec<((&str, String), Panel)> = Vec::new();
        let mut floors: Vec<Vec<(f64, f64)>> = Vec::new();
        let mut notes = Notes::default();
        for (row, value) in &rows {
            let Some(value) = value else {
                notes.add(format!("Without the setting {}", last_word(&asked.x)), &row.mixer);
                continue;
            };
            let key = (row.task.as_str(), frame::swept_text(self.settings(row), &others));
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
            let runs = chosen(&self.runs, row);
            let x = place(value).unwrap_or(f64::NAN);
            if let Some(floor) = row.floor.filter(|_| asked.measure == SCORE && Chart::drawable(scale, x)) {
                floors.push((x, floor));
            }
            let spot = self.spot(row, &runs, &asked.measure, x);
            let Some(spot) = spot else {
                notes.add(format!("No {}", asked.measure), &format!("{who} ({})", why(&runs)));
                continue;
            };
            if !Chart::drawable(scale, x) {
                notes.add("Outside the logarithmic axis".into(), &who);
                continue;
            }
            if spot.seeds.len() < runs.len() {
                notes.add(
                    "Fewer seeds".into(),
                    &format!("{who} ({} of {}, {})", spot.seeds.len(), runs.len(), why(&runs)),
                );
            }
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
        let y = if unit { format!("test {}", self.metric()) } else { asked.measure.clone() };
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
        let tuned = if self.table.rows.iter().any(|row| row.settings_tried > 1) {
            format!(" The other settings are the best on validation at each {x}.")
        } else {
            String::new()
        };
        let caption = format!("{}{tuned}", self.caption(&chart, unit, None));
        Ok(Built {
            stem: String::new(),
            title: format!("{} by {x}", capital(&y)),
            alt: format!("{y} against {x}, one line a mixer"),
            table: table_of(&chart, x, "runs.csv"),
            caption,
            drawing: Drawing::Chart(chart),
        })
    }

    fn spot(&self, row: &Row, runs: &[&Run], measure: &str, x: f64) -> Option<Spot> {
        if measure == SCORE {
            let Estimate { mean, interval, .. } = row.test?;
            let seeds = runs.iter().filter_map(|run| Some((run.test?, run.outcome == "diverged"))).collect();
            return Some(Spot { x, mean, interval, seeds });
        }
        let measured = row.measures.get(measure)?;
        let diverged = |run: usize| runs.get(run).is_some_and(|run| run.outcome == "diverged");
        let seeds = measured.runs.iter().zip(&measured.values).map(|(run, value)| (*value, diverged(*run))).collect();
        Some(Spot { x, mean: measured.mean?, interval: measured.interval, seeds })
    }

    /// A number recorded along an axis of the test split.
    fn details(&self, asked: &Details) -> Result<Built, String> {
        self.recorded(&asked.measure, &asked.axis)?;
        if asked.axis == PHENOMENON || asked.measure == MINIMAL_PAIRS {
            return self.phenomena(asked);
        }
        let unit = asked.measure == SCORE;
        let mixers = self.mixers();
        let (mut names, mut panels, mut notes) = (Vec::new(), Vec::new(), Notes::default());
        for place in places(&self.table.rows) {
            let rows: Vec<&Row> = self.table.rows.iter().filter(|row| row.place() == place).collect();
            let title = rows.first().map(|row| row.place_shown()).unwrap_or_default();
            let mut panel = Panel { title: title.clone(), range: range_of(&rows), ..Panel::default() };
            panel.floor = rows.iter().find_map(|row| row.floor).filter(|_| unit);
            let mut baselines = Collected::default();
            for row in rows {
                let runs = chosen(&self.runs, row);
                let who = format!("{} on {title}", row.mixer);
                let mut own = Collected::default();
                for run in &runs {
                    own.add(run, &asked.measure, &asked.axis, is_own);
                    baselines.add(run, &asked.measure, &asked.axis, |series| !is_own(series));
                }
                if own.series.is_empty() {
                    let what = format!("No {} by {}", asked.measure, asked.axis);
                    notes.add(what, &format!("{who} ({})", why(&runs)));
                }
                if own.runs > 0 && own.runs < runs.len() {
                    let (n, planned) = (own.runs, runs.len());
                    notes.add("Fewer seeds".into(), &format!("{who} ({n} of {planned}, {})", why(&runs)));
                }
                own.complain(&mut notes, &who);
                for (series, points) in own.series {
                    let name = named(&mut names, &mixers, &row.mixer, &series);
                    let spots: Vec<Spot> = points
                        .into_iter()
                        .filter_map(|(x, seeds)| spot_of(x, seeds, unit.then_some(panel.range)))
                        .collect();
                    let (drawn, left): (Vec<Spot>, Vec<Spot>) = spots.into_iter().partition(|spot| {
                        Chart::drawable(asked.scale, spot.x) && Chart::drawable(asked.y_scale, spot.mean)
                    });
                    if !left.is_empty() {
                        let at = left.iter().map(|spot| spot.x.to_string()).collect::<Vec<_>>().join(", ");
                        notes.add("Outside the logarithmic axes".into(), &format!("{who} at {} {at}", asked.axis));
                    }
                    panel.lines.push((name, drawn));
                }
            }
            baselines.complain(&mut notes, &format!("baselines on {title}"));
            for (series, points) in baselines.series {
                let points = points.into_iter().filter_map(|(x, values)| Some((x, mean(&values)?)));
                let drawn =
                    points.filter(|(x, y)| Chart::drawable(asked.scale, *x) && Chart::drawable(asked.y_scale, *y));
                panel.references.push((series, drawn.collect()));
            }
            panels.push(panel);
        }
        let y = if unit { format!("test {}", self.metric()) } else { asked.measure.clone() };
        let mut chart = Chart {
            panels,
            mixers,
            names,
            x: Axis { name: asked.axis.clone(), scale: asked.scale },
            y: Axis { name: y.clone(), scale: asked.y_scale },
            labels: None,
            unit,
            notes: notes.said(),
        };
        chart.in_order();
        let caption = self.caption(&chart, unit, Some("Every run's numbers are in details.csv."));
        Ok(Built {
            stem: String::new(),
            title: format!("{} by {}", capital(&y), asked.axis),
            alt: format!("{y} against {}, one line a mixer", asked.axis),
            table: table_of(&chart, &asked.axis, "details.csv"),
            caption,
            drawing: Drawing::Chart(chart),
        })
    }

    /// A number recorded for each of some phenomena, the easiest first: phenomena by mixers, one panel a task.
    fn phenomena(&self, asked: &Details) -> Result<Built, String> {
        let (mut panels, mut notes, mut lines) = (Vec::new(), Notes::default(), Vec::new());
        let mut most = 0;
        for place in places(&self.table.rows) {
            let rows: Vec<&Row> = self.table.rows.iter().filter(|row| row.place() == place).collect();
            let title = rows.first().map(|row| row.place_shown()).unwrap_or_default();
            let mut columns: Vec<(&Row, Vec<(String, Measured)>)> = Vec::new();
            for row in rows {
                let runs = chosen(&self.runs, row);
                let who = format!("{} on {title}", row.mixer);
                let mut all = Collected::default();
                for run in &runs {
                    all.add(run, &asked.measure, &asked.axis, |_| true);
                }
                all.complain(&mut notes, &who);
                if all.series.is_empty() {
                    notes.add(format!("No {}", plain(&asked.measure)), &format!("{who} ({})", why(&runs)));
                    continue;
                }
                if all.runs < runs.len() {
                    let (n, planned) = (all.runs, runs.len());
                    notes.add("Fewer seeds".into(), &format!("{who} ({n} of {planned}, {})", why(&runs)));
                }
                most = most.max(all.runs);
                let values = |points: Vec<(f64, Vec<f64>)>| points.into_iter().flat_map(|(_, values)| values).collect();
                let clipped = |measured: Measured| {
                    let interval = measured.interval.map(|interval| interval.clipped(Range::SHARE));
                    Measured { interval, ..measured }
                };
                let mut of_row: Vec<(String, Measured)> = all
                    .series
                    .into_iter()
                    .map(|(name, points)| (name, clipped(Measured::new(values(points)))))
                    .collect();
                if let Some(whole) = row.measures.get(&asked.measure).cloned() {
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
            let cell =
                |column: &(&Row, Vec<(String, Measured)>), name: &str| match find(column, name).and_then(|m| m.mean) {
                    Some(mean) => Filling::Number(mean, format!("{mean:.2}")),
                    None => Filling::Blank,
                };
            let text = |measured: Option<Measured>| match measured {
                Some(Measured { mean: Some(mean), interval, n, .. }) => score_text(&Estimate { mean, interval, n }),
                _ => "-".into(),
            };
            for (_, name) in &names {
                let numbers = self.mixers().into_iter().map(|mixer| {
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
        let pairs = if asked.measure == MINIMAL_PAIRS { " 0.5 is guessing." } else { "" };
        let mut said = vec![format!(
            "{seeds}. The easiest first, by the mean over mixers; the last line is over all pairs.{pairs}"
        )];
        said.extend(notes.said());
        let name = plain(&asked.measure);
        let maps = Maps { panels, axes: Default::default(), limit: Some(1.0), name: name.clone(), notes: said.clone() };
        said.push("Every run's numbers are in details.csv.".into());
        let titles = ["task".to_string(), PHENOMENON.into()].into_iter().chain(self.mixers()).collect();
        Ok(Built {
            stem: String::new(),
            title: format!("{} by {PHENOMENON}", capital(&name)),
            alt: format!("{name} by {PHENOMENON} and mixer"),
            caption: said.join(" "),
            table: Grid::of(titles, 2, lines).markdown(),
            drawing: Drawing::Cells(maps),
        })
    }

    /// A measure by axis and series, a map for each mixer on each task.
    fn cells(&self, asked: &Cells) -> Result<Built, String> {
        self.recorded(&asked.measure, &asked.axis)?;
        let mut found: Vec<(&Row, Collected, String)> = Vec::new();
        let mut notes = Notes::default();
        for place in places(&self.table.rows) {
            for row in self.table.rows.iter().filter(|row| row.place() == place) {
                let runs = chosen(&self.runs, row);
                let mut all = Collected::default();
                for run in &runs {
                    all.add(run, &asked.measure, &asked.axis, |_| true);
                }
                let who = format!("{} on {}", row.mixer, row.place_shown());
                if all.runs > 0 && all.runs < runs.len() {
                    notes.add("Fewer seeds".into(), &format!("{who} ({} of {}, {})", all.runs, runs.len(), why(&runs)));
                }
                all.complain(&mut notes, &who);
                found.push((row, all, why(&runs)));
            }
        }
        let all: Vec<&str> = found.iter().flat_map(|(_, c, _)| &c.series).map(|(name, _)| name.as_str()).collect();
        let word = numbered(&all);
        let means = |points: &[(f64, Vec<f64>)]| points.iter().filter_map(|(_, v)| mean(v)).collect::<Vec<f64>>();
        let limit = found.iter().flat_map(|(_, c, _)| &c.series).flat_map(|(_, points)| means(points));
        let limit = limit.fold(0.0, |limit: f64, value| limit.max(value.abs()));
        let mut panels = Vec::new();
        for (row, collected, why) in &found {
            let title = format!("{}, {}", row.mixer, row.place_shown());
            let mut series: Vec<&Series> = collected.series.iter().collect();
            if word.is_some() {
                series.sort_by_key(|(name, _)| number_of(name).unwrap_or(u64::MAX));
            }
            let mut at: Vec<f64> = series.iter().flat_map(|(_, points)| points).map(|(at, _)| *at).collect();
            at.sort_by(f64::total_cmp);
            at.dedup();
            let cell = |at: f64, points: &[(f64, Vec<f64>)]| {
                let values = points.iter().find(|(x, _)| *x == at).and_then(|(_, values)| mean(values));
                values.map_or(Filling::Blank, |value| Filling::Number(value, fixed(value, limit)))
            };
            let cells = at.iter().flat_map(|at| series.iter().map(|(_, points)| cell(*at, points)).collect::<Vec<_>>());
            let column = |(name, _): &&(String, Vec<(f64, Vec<f64>)>)| match (&word, number_of(name)) {
                (Some(_), Some(number)) => number.to_string(),
                _ => name.clone(),
            };
            panels.push(Map {
                title,
                rows: at.iter().map(f64::to_string).collect(),
                columns: series.iter().map(column).collect(),
                cells: cells.collect(),
                absent: if series.is_empty() { why.clone() } else { String::new() },
            });
        }
        let seeds = found.iter().filter(|(_, c, _)| c.runs > 0).map(|(_, c, _)| c.runs as u64);
        let (low, high) = seeds.fold((u64::MAX, 0), |(low, high), n| (low.min(n), high.max(n)));
        let n = if low == high { low.to_string() } else { format!("{low} to {high}") };
        let plural = if high == 1 { "seed" } else { "seeds" };
        let signs = if found.iter().flat_map(|(_, c, _)| &c.series).flat_map(|(_, p)| means(p)).any(|v| v < 0.0) {
            "Blue is positive, orange negative, white 0"
        } else {
            "White is 0"
        };
        let mut said = vec![format!("Means over n = {n} {plural}. {signs}; one scale for all panels.")];
        said.extend(notes.said());
        let maps = Maps {
            panels,
            axes: [asked.axis.clone(), word.clone().unwrap_or_default()],
            limit: None,
            name: asked.measure.clone(),
            notes: said.clone(),
        };
        said.push("Every run's numbers are in details.csv.".into());
        let by = word.unwrap_or("series".into());
        Ok(Built {
            stem: String::new(),
            title: format!("{} by {} and {by}", capital(&asked.measure), asked.axis),
            alt: format!("{} by {} and {by}, one panel for each mixer and task", asked.measure, asked.axis),
            caption: said.join(" "),
            table: String::new(),
            drawing: Drawing::Cells(maps),
        })
    }

    /// Every mixer on every task, from the floor to the ceiling.
    fn profile(&self, asked: &Profile) -> Result<Built, String> {
        let (mixers, tasks) = (self.mixers(), places(&self.table.rows));
        if tasks.is_empty() {
            return Err("the sweep planned no runs".into());
        }
        let mut notes = Notes::default();
        let spoke = |mixer: &str, place: (&str, &str), notes: &mut Notes| {
            let Some(row) = self.table.rows.iter().find(|row| row.mixer == mixer && row.place() == place) else {
                return (Spoke { note: "not run".into(), ..Spoke::default() }, false);
            };
            let runs = chosen(&self.runs, row);
            let who = format!("{mixer} on {}", row.place_shown());
            let (floor, ceiling) = (row.floor.unwrap_or(0.0), row.ceiling.unwrap_or(1.0));
            if row.test.is_some() && ceiling <= floor {
                notes.add("No room between floor and ceiling".into(), &row.place_shown());
                return (Spoke { note: "no scale".into(), ..Spoke::default() }, false);
            }
            let scored = runs.iter().filter_map(|run| Some((run.planned.seed, run.test?)));
            let seeds: Vec<(u64, f64)> =
                scored.map(|(seed, test)| (seed, (test - floor) / (ceiling - floor))).collect();
            let diverged = runs.iter().filter(|run| run.outcome == "diverged").count();
            if diverged > 0 {
                notes.add("Diverged seeds count 0 (*)".into(), &format!("{who} ({diverged} of {})", runs.len()));
            }
            if !seeds.is_empty() && seeds.len() < runs.len() {
                notes.add(
                    "Fewer seeds (*)".into(),
                    &format!("{who} ({} of {}, {})", seeds.len(), runs.len(), why(&runs)),
                );
            }
            let mean =
                mean(&seeds.iter().map(|(_, value)| *value).collect::<Vec<_>>()).map(|mean| mean.clamp(0.0, 1.0));
            let note = if mean.is_some() { String::new() } else { word(&runs) };
            let starred = mean.is_some() && (diverged > 0 || seeds.len() < runs.len());
            (Spoke { mean, seeds, note }, starred)
        };
        let of_mixer = |mixer: &String, notes: &mut Notes| -> Vec<(Spoke, bool)> {
            tasks.iter().map(|place| spoke(mixer, *place, notes)).collect()
        };
        let all: Vec<(String, Vec<(Spoke, bool)>)> =
            mixers.iter().map(|mixer| (mixer.clone(), of_mixer(mixer, &mut notes))).collect();
        let shown = |place: &(&str, &str)| {
            let row = self.table.rows.iter().find(|row| row.place() == *place);
            row.map_or(place.0.to_string(), |row| row.place_shown())
        };
        let names: Vec<String> = tasks.iter().map(shown).collect();
        let mut said = vec![
            "Mean over seeds of (score - floor) / (ceiling - floor), cut to 0..1: 0 is guessing, 1 perfect.".into(),
        ];
        let radar = asked.shape == Shape::Radar && names.len() > 2;
        if asked.shape == Shape::Radar && !radar {
            said.push("Fewer than three tasks make no polygon, so this is a heat map.".into());
        }
        if radar {
            said.push("0 at the centre, 1 at the rim; thin lines are seeds.".into());
        }
        said.extend(notes.said());
        said.extend(crate::table::row::sign_notes(&self.table.rows));
        let cell = |(spoke, starred): &(Spoke, bool)| match spoke.mean {
            Some(mean) => Filling::Number(mean, format!("{mean:.2}{}", if *starred { "*" } else { "" })),
            None => Filling::Word(spoke.note.clone()),
        };
        let texts = all.iter().map(|(mixer, spokes)| {
            let cell = |spoke| match cell(spoke) {
                Filling::Number(_, text) | Filling::Word(text) => text,
                Filling::Blank => String::new(),
            };
            [mixer.clone()].into_iter().chain(spokes.iter().map(cell)).collect::<Vec<_>>()
        });
        let titles = ["mixer".to_string()].into_iter().chain(names.iter().cloned()).collect();
        let table = Grid::of(titles, 1, texts.collect()).markdown();
        let caption = said.join(" ");
        let drawing = if radar {
            let mixers = all.into_iter().map(|(mixer, spokes)| (mixer, spokes.into_iter().map(|(s, _)| s).collect()));
            Drawing::Radar(Radar { tasks: names, mixers: mixers.collect(), notes: said })
        } else {
            let map = Map {
                title: String::new(),
                rows: mixers,
                columns: names,
                cells: all.iter().flat_map(|(_, spokes)| spokes).map(cell).collect(),
                absent: String::new(),
            };
            let name = "0 floor, 1 ceiling".to_string();
            Drawing::Cells(Maps { panels: vec![map], axes: Default::default(), limit: Some(1.0), name, notes: said })
        };
        Ok(Built {
            stem: String::new(),
            title: "Ability profile".into(),
            alt: "score of every mixer on every task, from guessing to perfect".into(),
            caption,
            table,
            drawing,
        })
    }

    /// Mixers by their means beside a published order.
    fn ranking(&self, asked: &Ranking) -> Result<Built, String> {
        let known = published::all().iter().any(|cell| cell.task == asked.published);
        if !known {
            return Err(format!("`{}` is no task of the published tables", asked.published));
        }
        if asked.measure != SCORE && self.table.rows.iter().all(|row| !row.measures.contains_key(&asked.measure)) {
            return Err(format!("no scored run has the measure `{}`{}", asked.measure, self.known_measures()));
        }
        let mixers = self.mixers();
        let (mut panels, mut notes, mut said, mut lines) = (Vec::new(), Notes::default(), Vec::new(), Vec::new());
        for place in places(&self.table.rows) {
            let rows: Vec<&Row> = self.table.rows.iter().filter(|row| row.place() == place).collect();
            let title = rows.first().map(|row| row.place_shown()).unwrap_or_default();
            let mut found = Vec::new();
            for row in rows {
                let who = format!("{} on {title}", row.mixer);
                let runs = chosen(&self.runs, row);
                let theirs = row.published_model.as_deref().and_then(|model| published::find(model, &asked.published));
                match (self.spot(row, &runs, &asked.measure, 0.0), theirs.and_then(|cell| cell.value())) {
                    (None, _) => notes
                        .add(format!("Not ranked, having no {}", asked.measure), &format!("{who} ({})", why(&runs))),
                    (_, None) => notes.add(format!("Not ranked, having no published {}", asked.published), &who),
                    (Some(spot), Some(value)) => {
                        if spot.seeds.len() < runs.len() {
                            let (n, planned) = (spot.seeds.len(), runs.len());
                            notes.add("Fewer seeds".into(), &format!("{who} ({n} of {planned}, {})", why(&runs)));
                        }
                        let lower = theirs.is_some_and(|cell| cell.lower_is_better());
                        found.push(Ranked { mixer: row.mixer.clone(), spot, value, lower });
                    }
                }
            }
            if found.is_empty() {
                continue;
            }
            let panel = ranked(&title, found, asked, &mixers, self.metric());
            said.push(panel.said);
            lines.extend(panel.lines);
            panels.push(panel.slope);
        }
        if panels.is_empty() {
            return Err(format!("no mixer has both a {} and a published {}", asked.measure, asked.published));
        }
        let y = if asked.measure == SCORE { format!("test {}", self.metric()) } else { asked.measure.clone() };
        said.extend(notes.said());
        let read = "Intervals of the correlations: Fisher's z with the standard errors of Bonett and Wright (ρ) and of Fieller, \
                    Hartley and Pearson (τ), as if mixers were drawn at random; over redrawn seeds: how far our own seeds \
                    move the order, the published one fixed; not a confidence interval, since redrawing adds the spread of the \
                    seeds once more.";
        let titles = ["task", "mixer", "rank", &y, "published rank", &asked.published, "moved"].map(String::from);
        let caption = format!("{} {read}", said.join(" "));
        Ok(Built {
            stem: String::new(),
            title: format!("Ranking by {y} beside {}", asked.published),
            alt: format!("mixers in the order of {y} and of the published {}", asked.published),
            caption,
            table: Grid::of(titles.into(), 2, lines).markdown(),
            drawing: Drawing::Slopes(Slopes {
                panels,
                mixers,
                sides: [format!("{y}, best on top"), format!("published {}", asked.published)],
                notes: said,
            }),
        })
    }

    /// An error unless some run of the tables recorded the measure along the axis.
    fn recorded(&self, measure: &str, axis: &str) -> Result<(), String> {
        let runs = self.table.rows.iter().flat_map(|row| chosen(&self.runs, row));
        let all: Vec<_> = runs.filter_map(|run| run.record).flat_map(|record| &record.details).collect();
        if all.iter().any(|detail| (detail.measure.as_str(), detail.axis.as_str()) == (measure, axis)) {
            return Ok(());
        }
        let mut known: Vec<String> = all.iter().map(|d| format!("`{}` by `{}`", d.measure, d.axis)).collect();
        known.sort();
        known.dedup();
        let known = if known.is_empty() { String::new() } else { format!("; recorded are {}", known.join(", ")) };
        Err(format!("no record has `{measure}` by `{axis}`{known}"))
    }

    fn known_measures(&self) -> String {
        let known: std::collections::BTreeSet<&String> =
            self.table.rows.iter().flat_map(|row| row.measures.keys()).collect();
        if known.is_empty() {
            return String::new();
        }
        format!("; recorded are {}", known.into_iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
    }

    /// The metric, where all tasks have one.
    fn metric(&self) -> String {
        let mut names: Vec<&str> =
            self.table.rows.iter().map(|row| row.metric.as_str()).filter(|name| !name.is_empty()).collect();
        names.sort_unstable();
        names.dedup();
        if let [only] = names[..] { only.into() } else { SCORE.into() }
    }

    /// How to read the figure: what a mean and an interval are of, and what was left out.
    fn caption(&self, chart: &Chart, unit: bool, more: Option<&str>) -> String {
        let spots = || chart.panels.iter().flat_map(|panel| &panel.lines).flat_map(|(_, spots)| spots);
        let (low, high) = spots().map(|spot| spot.seeds.len()).fold((usize::MAX, 0), |(a, b), n| (a.min(n), b.max(n)));
        let n = if low == high { format!("{low}") } else { format!("{low} to {high}") };
        let clipped = if unit { format!(", clipped to {}", clipped_to(&self.table.rows)) } else { String::new() };
        let mut said = vec![match high {
            0 => "No number yet.".to_string(),
            1 => "One seed a point, so no interval.".to_string(),
            _ => format!("Means and 95 % Student-t intervals over n = {n} seeds{clipped}."),
        }];
        let names = references(chart);
        if chart.panels.iter().any(|panel| panel.floor.is_some()) || names.contains("floor") {
            said.push("Floor: what the best constant answer or a guesser scores on the whole test split.".into());
        }
        if names.iter().any(|name| *name != "floor") {
            said.push("Grey: baselines, the same for every mixer of a task, as means over its runs.".into());
        }
        if chart.names.iter().any(|name| name.part > 0) {
            said.push("Dotted: other series of the mixer of that colour.".into());
        }
        said.extend(chart.notes.iter().cloned());
        said.extend(more.map(String::from));
        said.join(" ")
    }
}

/// A mixer with its number and the published one.
struct Ranked {
    mixer: String,
    spot: Spot,
    value: f64,
    /// Whether the lower one of the published numbers is the better.
    lower: bool,
}

/// One task's rankings: to draw, in words, and as lines of the table.
struct Rankings {
    slope: Slope,
    said: String,
    lines: Vec<Vec<String>>,
}

fn ranked(title: &str, found: Vec<Ranked>, asked: &Ranking, mixers: &[String], metric: String) -> Rankings {
    // The best has the smallest number, whatever is better.
    let sign = |lower: bool| if lower { 1.0 } else { -1.0 };
    let ours: Vec<f64> = found.iter().map(|entry| sign(asked.lower()) * entry.spot.mean).collect();
    let theirs: Vec<f64> = found.iter().map(|entry| sign(entry.lower) * entry.value).collect();
    let (our_ranks, their_ranks) = (ranks(&ours), ranks(&theirs));
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_by(|a, b| ours[*a].total_cmp(&ours[*b])); // stable, like the next
    let mut right = order.clone();
    right.sort_by(|a, b| theirs[*a].total_cmp(&theirs[*b]));
    let unit = asked.measure == SCORE;
    let number = |spot: &Spot| {
        let estimate = Estimate { mean: spot.mean, interval: spot.interval, n: spot.seeds.len() };
        if unit || asked.measure == "loss" || asked.measure == "accuracy" {
            return score_text(&estimate);
        }
        match spot.interval {
            Some(Interval { low, high }) => format!("{} [{}, {}]", digits(spot.mean), digits(low), digits(high)),
            None => format!("{} (n = {})", digits(spot.mean), spot.seeds.len()),
        }
    };
    let rank = |rank: f64| if rank.fract() == 0.0 { format!("{rank:.0}") } else { format!("{rank:.1}") };
    // As sources print them: losses and perplexities to a hundredth.
    let theirs_text = |entry: &Ranked| format!("{:.*}", if entry.lower { 2 } else { 3 }, entry.value);
    let entry = |i: &usize| slope::Entry {
        mixer: mixers.iter().position(|mixer| *mixer == found[*i].mixer).unwrap_or_default(),
        ranks: [rank(our_ranks[*i]), rank(their_ranks[*i])],
        values: [number(&found[*i].spot), theirs_text(&found[*i])],
        right: right.iter().position(|other| other == i).unwrap_or_default(),
    };
    let moved = |i: usize| match their_ranks[i] - our_ranks[i] {
        0.0 => "0".to_string(),
        places => format!("{}{}", if places > 0.0 { "+" } else { "-" }, rank(places.abs())),
    };
    let line = |i: &usize| {
        let (text, other) = (number(&found[*i].spot), theirs_text(&found[*i]));
        vec![title.into(), found[*i].mixer.clone(), rank(our_ranks[*i]), text, rank(their_ranks[*i]), other, moved(*i)]
    };
    let seeds: Vec<Vec<f64>> = found
        .iter()
        .map(|entry| entry.spot.seeds.iter().map(|(value, _)| sign(asked.lower()) * value).collect())
        .collect();
    let spread = over_seeds(&seeds, &theirs, DRAWS, BOOTSTRAP_SEED);
    let what = if unit { format!("test {metric}") } else { asked.measure.clone() };
    let said = agreement_text(
        title,
        &what,
        &asked.published,
        found.len(),
        agreement(&ours, &theirs, DRAWS, BOOTSTRAP_SEED),
        &seeds_text(&seeds, spread),
    );
    Rankings {
        slope: Slope { title: title.into(), entries: order.iter().map(entry).collect() },
        said,
        lines: order.iter().map(line).collect(),
    }
}

/// `On mlm the rankings by loss and published C4-MLM-loss agree to Spearman's ρ = 0.97 [0.87, 0.99], …`.
fn agreement_text(title: &str, ours: &str, theirs: &str, n: usize, found: Option<Agreement>, seeds: &str) -> String {
    let Some(found) = found else {
        return format!("{n} mixers on {title} have both numbers, or all share one: too few ranks for a correlation.");
    };
    let interval =
        |interval: Option<Interval>| interval.map_or(String::new(), |interval| format!(" {}", ends(interval)));
    let p = if found.exact {
        format!("p = {:.3} over all pairings", found.p)
    } else {
        format!("p = {:.4} over {DRAWS} random pairings", found.p)
    };
    format!(
        "On {title} the orders by {ours} and by the published {theirs} agree to Spearman's ρ = {}{} and Kendall's τ = {}{}, \
         n = {} mixers, {p}. {seeds}",
        hundredths(found.rho),
        interval(found.rho_interval),
        hundredths(found.tau),
        interval(found.tau_interval),
        found.n,
    )
}

/// What our seeds leave open of ρ, and how many they are.
fn seeds_text(seeds: &[Vec<f64>], spread: Option<Interval>) -> String {
    let n = || seeds.iter().map(Vec::len);
    let (low, high) = (n().min().unwrap_or(0), n().max().unwrap_or(0));
    let each = if low == high { format!("n = {low} each") } else { format!("n = {low} to {high}") };
    match spread {
        Some(interval) => format!("Over redrawn seeds ({each}) ρ lies in {} in 95 of 100 draws.", ends(interval)),
        None if low < 2 => format!("A mixer has n = {low} seed, so seeds cannot be judged."),
        None => format!("Seeds ({each}) cannot be judged: redrawn means are all tied."),
    }
}

fn hundredths(value: f64) -> String {
    format!("{value:.2}").replace('-', "−")
}

/// `[0.87, 0.99]`
fn ends(interval: Interval) -> String {
    format!("[{}, {}]", hundredths(interval.low), hundredths(interval.high))
}

impl Chart {
    /// Points by their place on the axis, lines by the place of their mixers, and the legend likewise.
    fn in_order(&mut self) {
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

/// A name, and for each place on the axis the values recorded there.
type Series = (String, Vec<(f64, Vec<f64>)>);

/// Values by series and place on the axis: of every run the mean of what it has there.
#[derive(Default)]
struct Collected {
    /// In the order of the records of the manifest's first run that has them.
    series: Vec<Series>,
    /// Runs with a number.
    runs: usize,
    /// Numbers that are none.
    odd: usize,
}

impl Collected {
    fn add(&mut self, run: &Run, measure: &str, axis: &str, wanted: impl Fn(&str) -> bool) {
        let Some(record) = run.record else { return };
        let mut of_run: Vec<(&str, f64, Vec<f64>)> = Vec::new();
        for detail in &record.details {
            let of_figure = (detail.measure.as_str(), detail.axis.as_str()) == (measure, axis);
            if !of_figure || !wanted(&detail.series) {
                continue;
            }
            if !detail.at.is_finite() || !detail.value.is_finite() {
                self.odd += 1;
                continue;
            }
            match of_run.iter_mut().find(|(series, at, _)| *series == detail.series && *at == detail.at) {
                Some((.., values)) => values.push(detail.value),
                None => of_run.push((&detail.series, detail.at, vec![detail.value])),
            }
        }
        self.runs += usize::from(!of_run.is_empty());
        for (series, at, values) in of_run {
            let known = self.series.iter().position(|(name, _)| name == series).unwrap_or_else(|| {
                self.series.push((series.into(), Vec::new()));
                self.series.len() - 1
            });
            let points = &mut self.series[known].1;
            let place = points.partition_point(|(x, _)| *x < at);
            if points.get(place).is_none_or(|(x, _)| *x != at) {
                points.insert(place, (at, Vec::new()));
            }
            points[place].1.extend(mean(&values));
        }
    }

    fn complain(&self, notes: &mut Notes, who: &str) {
        if self.odd > 0 {
            notes.add("Left out, being no finite number".into(), &format!("{who} ({})", self.odd));
        }
    }
}

/// Sentences with what they hold for.
#[derive(Default)]
struct Notes(Vec<(String, Vec<String>)>);

impl Notes {
    fn add(&mut self, what: String, whom: &str) {
        let known = self.0.iter().position(|(known, _)| *known == what).unwrap_or_else(|| {
            self.0.push((what, Vec::new()));
            self.0.len() - 1
        });
        let list = &mut self.0[known].1;
        if !list.iter().any(|known| known == whom) {
            list.push(whom.into());
        }
    }

    fn said(self) -> Vec<String> {
        self.0.into_iter().map(|(what, whom)| format!("{what}: {}.", whom.join("; "))).collect()
    }
}

/// Whether a series belongs to a mixer; the others are baselines of its task.
fn is_own(series: &str) -> bool {
    let first = series.split([' ', ':', '_', '-']).next().unwrap_or(series);
    [MODEL, "head", "rank", "probe", "layer", "pruned", "retrained"].contains(&first)
}

/// The place of a line among the names, which get a new one where it is not there yet.
fn named(names: &mut Vec<Name>, mixers: &[String], mixer: &str, series: &str) -> usize {
    let text = if series == MODEL { mixer.to_string() } else { format!("{mixer}, {series}") };
    names.iter().position(|name| name.text == text).unwrap_or_else(|| {
        let mixer = mixers.iter().position(|known| known == mixer).unwrap_or_default();
        let others = names.iter().filter(|name| name.mixer == mixer && name.part > 0).count();
        names.push(Name { text, mixer, part: if series == MODEL { 0 } else { others + 1 } });
        names.len() - 1
    })
}

/// A mean over seeds, its interval cut to the range of the score where it is one.
fn spot_of(x: f64, values: Vec<f64>, range: Option<Range>) -> Option<Spot> {
    let measured = Measured::new(values);
    let interval = measured.interval.map(|interval| range.map_or(interval, |range| interval.clipped(range)));
    let seeds = measured.values.iter().map(|value| (*value, false)).collect();
    Some(Spot { x, mean: measured.mean?, interval, seeds })
}

/// The range of a task's score, as far as some row knows it.
fn range_of(rows: &[&Row]) -> Range {
    let known = rows.iter().find(|row| !row.metric.is_empty());
    known.map_or(Range::SHARE, |row| row.scored_by.range())
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

/// What became of the runs that brought nothing, as counts; where all finished, that they say nothing.
fn why(runs: &[&Run]) -> String {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for run in runs {
        let ended = run.record.is_none_or(|record| record.outcome != Outcome::Finished);
        if ended {
            *counts.entry(run.outcome).or_default() += 1;
        }
    }
    if counts.is_empty() {
        return "finished without".into();
    }
    counts.into_iter().map(|(word, n)| format!("{n} {}", word.replace('_', " "))).collect::<Vec<_>>().join(", ")
}

/// One word for runs of which none is scored: `failed`, or `no score` where they ended unlike each other.
fn word(runs: &[&Run]) -> String {
    let first = runs.first().map(|run| run.outcome).unwrap_or("missing");
    let alike = first != "finished" && runs.iter().all(|run| run.outcome == first);
    if alike { first.replace('_', " ") } else { "no score".into() }
}

/// `head` for `head 0`, `head 3`; `None` unless all names are one word with a number.
fn numbered(names: &[&str]) -> Option<String> {
    let mut words = names.iter().map(|name| number_of(name).and(name.rsplit_once(' ')).map(|(word, _)| word));
    let first = words.next()??;
    words.all(|word| word == Some(first)).then(|| first.to_string())
}

fn number_of(name: &str) -> Option<u64> {
    name.rsplit_once(' ')?.1.parse().ok()
}

/// As many decimals for every cell of a figure as its largest number needs.
fn fixed(value: f64, limit: f64) -> String {
    let text = match limit {
        0.0 => "0".into(),
        100.0..1e6 => format!("{value:.0}"),
        10.0..100.0 => format!("{value:.1}"),
        0.1..10.0 => format!("{value:.2}"),
        0.001..0.1 => format!("{value:.4}"),
        _ => format!("{value:.1e}"),
    };
    let zero = text.trim_start_matches('-').parse().is_ok_and(|value: f64| value == 0.0);
    if zero { text.trim_start_matches('-').to_string() } else { text.replace('-', "−") }
}

/// The numbers of a chart: panels and lines by the values of the axis.
fn table_of(chart: &Chart, axis: &str, file: &str) -> String {
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

/// Words instead of underscores.
fn plain(name: &str) -> String {
    name.replace('_', " ")
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests;
