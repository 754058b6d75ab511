//! Validation score of a search against a setting that it tried: one panel a task, one line a mixer.

use crate::Scale;
use crate::figures::built::Built;
use crate::figures::collected::Notes;
use crate::figures::kind::Kind;
use crate::figures::lined::{MODEL, named, range_of, spot_of, table_of};
use crate::figures::source::Source;
use crate::plot::chart::{Axis, Chart, Panel, Spot};
use crate::statistics::Range;
use crate::table::frame::{Searched, last_word, settings_text};
use serde::{Deserialize, Serialize};

/// Validation score against a setting of `tune`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sensitivity {
    /// Path of an axis of `tune`: `optimizer.lr`.
    pub over: String,
    /// Steps of the horizontal axis.
    #[serde(default = "log")]
    pub scale: Scale,
}

fn log() -> Scale {
    Scale::Log
}

impl Sensitivity {
    /// Of one setting: on a logarithmic axis, as rates are.
    pub fn over(path: &str) -> Self {
        Self { over: path.into(), scale: Scale::Log }
    }
}

impl Kind for Sensitivity {
    const EXAMPLE: &'static str = "sensitivity: { over: optimizer.lr }";

    fn draw(&self, source: &Source) -> Result<Built, String> {
        let tries = self.tries(source)?;
        let chart = self.chart(source, &tries);
        let x = last_word(&self.over);
        let others = tries.iter().any(|tried| tried.run.tried.len() > 1);
        let best = if others {
            format!(" At each {x} the best of the other settings that were tried.")
        } else {
            String::new()
        };
        Ok(Built {
            stem: String::new(),
            title: format!("Validation score by {x}"),
            alt: format!("validation score against {x}, one line a mixer"),
            table: table_of(&chart, x, "report.json"),
            caption: format!(
                "Short runs of the search, with seeds of their own; test was not looked at.{best} {}",
                chart.notes.join(" ")
            )
            .trim_end()
            .into(),
            drawing: Box::new(chart),
        })
    }
}

impl Sensitivity {
    /// The runs of the search that tried this setting, those of the longest round of each.
    fn tries<'a>(&self, source: &Source<'a>) -> Result<Vec<&'a Searched<'a>>, String> {
        let has = |tried: &&Searched| tried.run.tried.iter().any(|(key, _)| *key == self.over);
        let tries: Vec<&Searched> = source.search.iter().filter(has).collect();
        if tries.is_empty() {
            return Err(format!("no search tried the setting `{}`", self.over));
        }
        let longest = |tried: &Searched| {
            let same = |other: &&&Searched| other.cell() == tried.cell() && other.run.tried == tried.run.tried;
            tries.iter().filter(same).all(|other| other.run.share <= tried.run.share)
        };
        Ok(tries.iter().copied().filter(|tried| longest(tried)).collect())
    }

    fn value(&self, tried: &Searched) -> f64 {
        let value = tried.run.tried.iter().find(|(key, _)| *key == self.over).and_then(|(_, value)| value.parse().ok());
        value.unwrap_or(f64::NAN)
    }

    fn chart(&self, source: &Source, tries: &[&Searched]) -> Chart {
        let mixers = mixers(source);
        let (mut names, mut panels, mut notes) = (Vec::new(), Vec::<(String, Panel)>::new(), Notes::default());
        let mut seen: Vec<_> = Vec::new();
        for tried in tries {
            let (run, x) = (tried.run, self.value(tried));
            let who = format!("{} on {} at {}", run.mixer, run.task, settings_text(&run.tried));
            if tried.score().is_none() {
                notes.add(tried.outcome(), &who);
            }
            if !Chart::drawable(self.scale, x) || seen.contains(&(tried.cell(), x.to_bits())) {
                continue;
            }
            seen.push((tried.cell(), x.to_bits()));
            let rows: Vec<_> = source.table.rows.iter().filter(|row| row.task == run.task).collect();
            let range = range_of(&rows);
            let Some(spot) = self.best(tries, tried, x, range) else { continue };
            let at =
                if run.settings.is_empty() { String::new() } else { format!(", {}", settings_text(&run.settings)) };
            let title = format!("{}{at}", run.task);
            let place = panels.iter().position(|(known, _)| *known == title).unwrap_or_else(|| {
                let panel = Panel { title: title.clone(), range, ..Panel::default() };
                panels.push((title, panel));
                panels.len() - 1
            });
            let name = named(&mut names, &mixers, &run.mixer, MODEL);
            let lines = &mut panels[place].1.lines;
            match lines.iter_mut().find(|(known, _)| *known == name) {
                Some((_, spots)) => spots.push(spot),
                None => lines.push((name, vec![spot])),
            }
        }
        let x = Axis { name: last_word(&self.over).into(), scale: self.scale };
        let y = Axis { name: "validation score".into(), scale: Scale::default() };
        let panels = panels.into_iter().map(|(_, panel)| panel).collect();
        let mut chart = Chart { panels, mixers, names, x, y, labels: None, unit: true, notes: notes.said() };
        chart.in_order();
        chart
    }

    /// The mean of the best setting at a value, in the cell of `tried`.
    fn best(&self, tries: &[&Searched], tried: &Searched, x: f64, range: Range) -> Option<Spot> {
        let here = |other: &&&Searched| other.cell() == tried.cell() && self.value(other) == x;
        let settings = tries.iter().filter(here).map(|other| &other.run.tried);
        let spots = settings.filter_map(|setting| {
            let same = tries.iter().filter(here).filter(|other| other.run.tried == *setting);
            spot_of(x, same.filter_map(|other| other.score()).collect(), Some(range))
        });
        spots.max_by(|a, b| a.mean.total_cmp(&b.mean))
    }
}

/// The mixers of the tables, then those of which only the search is known.
fn mixers(source: &Source) -> Vec<String> {
    let mut mixers = source.mixers();
    for tried in source.search {
        if !mixers.contains(&tried.run.mixer) {
            mixers.push(tried.run.mixer.clone());
        }
    }
    mixers
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figures;
    use crate::report::Report;
    use crate::table::frame;
    use crate::{Outcome, SearchRun, samples};

    /// Two mixers of which one diverges at the largest rate.
    fn searched() -> (crate::Manifest, Vec<crate::Record>) {
        let (mut manifest, mut records) = samples::eventful();
        let model = records.iter().find(|record| record.outcome == Outcome::Finished).expect("one finished").clone();
        let mut mixers: Vec<String> = manifest.runs.iter().map(|run| run.mixer.clone()).collect();
        mixers.dedup();
        mixers.truncate(2);
        let task = manifest.runs[0].task.clone();
        for (m, mixer) in mixers.iter().enumerate() {
            for (k, rate) in ["0.001", "0.01", "0.1"].into_iter().enumerate() {
                let id = format!("search{m}{k}");
                let tried = vec![("optimizer.lr".to_owned(), rate.to_owned())];
                let run = SearchRun {
                    id: id.clone(),
                    mixer: mixer.clone(),
                    task: task.clone(),
                    seed: 1_000_000,
                    settings: Vec::new(),
                    tried,
                    share: 0.25,
                };
                manifest.search.push(run);
                let mut record = crate::Record { id, seed: 1_000_000, ..model.clone() };
                record.scores.validation = Some(0.2 + 0.1 * k as f64 + 0.3 * m as f64);
                if (m, k) == (1, 2) {
                    record.outcome = Outcome::Diverged { reason: "at step 3".into() };
                }
                records.push(record);
            }
        }
        manifest.figures = vec![Sensitivity::over("optimizer.lr").into()];
        (manifest, records)
    }

    #[test]
    fn a_search_is_drawn_by_its_validation_scores_and_what_diverged_is_said() {
        let (manifest, records) = searched();
        let runs = frame::runs(&manifest, &records);
        let table = crate::table::Table::of_runs(&manifest, &runs).expect("a table");
        let search = frame::searched(&manifest, &records);
        let (built, missing) = figures::build(&manifest, &runs, &search, &table);
        assert!(missing.is_empty(), "{missing:?}");
        let [figure] = &built[..] else { panic!("one figure") };
        assert!(figure.table.contains("0.300") && figure.table.contains("0.600"), "{}", figure.table);
        assert!(figure.caption.contains("Diverged: "), "{}", figure.caption);
        let before = Report::from_records(
            &crate::Manifest { search: Vec::new(), figures: Vec::new(), ..manifest.clone() },
            &records,
        );
        let with = Report::from_records(&manifest, &records).expect("a report");
        assert_eq!(before.expect("a report").table().rows, with.table().rows, "no run of the search is in a mean");
    }

    #[test]
    fn a_search_is_drawn_before_any_run_is_planned() {
        let (manifest, records) = searched();
        let folder = tempfile::tempdir().expect("a folder");
        let manifest = crate::Manifest { runs: Vec::new(), ..manifest };
        let report = Report::from_records(&manifest, &records).expect("a report");
        report.write_texts_and_svgs(folder.path()).expect("every file");
        assert!(folder.path().join("sensitivity.svg").is_file());
    }

    #[test]
    fn a_setting_that_no_search_tried_is_said() {
        let (mut manifest, records) = searched();
        manifest.figures = vec![Sensitivity::over("model.d_model").into()];
        let report = Report::from_records(&manifest, &records).expect("a report");
        let warnings = &report.table().warnings;
        assert!(warnings.iter().any(|w| w.contains("no search tried the setting `model.d_model`")), "{warnings:?}");
    }
}
