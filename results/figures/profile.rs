//! Every mixer on every task, from the floor to the ceiling.

use crate::figures::built::Built;
use crate::figures::collected::Notes;
use crate::figures::kind::Kind;
use crate::figures::source::Source;
use crate::grid::Grid;
use crate::plot::Drawable;
use crate::plot::cells::{Filling, Map, Maps};
use crate::plot::radar::{Radar, Spoke};
use crate::statistics::mean;
use crate::table::frame::Run;
use crate::table::row::{places, sign_notes};
use serde::{Deserialize, Serialize};

/// The ability profile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// How it is drawn.
    #[serde(default)]
    pub shape: Shape,
}

/// How a profile is drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Mixers by tasks, the score in each cell.
    #[default]
    Heat,
    /// One polygon a mixer over the tasks' spokes.
    Radar,
}

impl Kind for Profile {
    const EXAMPLE: &'static str = "profile: { shape: heat }";

    fn draw(&self, source: &Source) -> Result<Built, String> {
        profile(source, self)
    }
}

/// Every mixer on every task, from the floor to the ceiling.
fn profile(source: &Source, asked: &Profile) -> Result<Built, String> {
    let (mixers, tasks) = (source.mixers(), places(&source.table.rows));
    if tasks.is_empty() {
        return Err("the sweep planned no runs".into());
    }
    let mut notes = Notes::default();
    let spoke = |mixer: &str, place: (&str, &str), notes: &mut Notes| {
        let Some(row) = source.table.rows.iter().find(|row| row.mixer == mixer && row.place() == place) else {
            return (Spoke { note: "not run".into(), ..Spoke::default() }, false);
        };
        let runs = row.runs_of(source.runs);
        let who = format!("{mixer} on {}", row.place_shown());
        let (floor, ceiling) = (row.floor.unwrap_or(0.0), row.ceiling.unwrap_or(1.0));
        if row.test.is_some() && ceiling <= floor {
            notes.add("No room between floor and ceiling".into(), &row.place_shown());
            return (Spoke { note: "no scale".into(), ..Spoke::default() }, false);
        }
        let scored = runs.iter().filter_map(|run| Some((run.planned.seed, run.test?)));
        let seeds: Vec<(u64, f64)> = scored.map(|(seed, test)| (seed, (test - floor) / (ceiling - floor))).collect();
        let diverged = runs.iter().filter(|run| run.outcome == "diverged").count();
        if diverged > 0 {
            notes.add("Diverged seeds count 0 (*)".into(), &format!("{who} ({diverged} of {})", runs.len()));
        }
        notes.fewer("Fewer seeds (*)", &who, seeds.len(), &runs);
        let mean = mean(&seeds.iter().map(|(_, value)| *value).collect::<Vec<_>>()).map(|mean| mean.clamp(0.0, 1.0));
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
        let row = source.table.rows.iter().find(|row| row.place() == *place);
        row.map_or(place.0.to_string(), |row| row.place_shown())
    };
    let names: Vec<String> = tasks.iter().map(shown).collect();
    let mut said =
        vec!["Mean over seeds of (score - floor) / (ceiling - floor), cut to 0..1: 0 is guessing, 1 perfect.".into()];
    let radar = asked.shape == Shape::Radar && names.len() > 2;
    if asked.shape == Shape::Radar && !radar {
        said.push("Fewer than three tasks make no polygon, so this is a heat map.".into());
    }
    if radar {
        said.push("0 at the centre, 1 at the rim; thin lines are seeds.".into());
    }
    said.extend(notes.said());
    said.extend(sign_notes(&source.table.rows));
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
    let drawing: Box<dyn Drawable> = if radar {
        let mixers = all.into_iter().map(|(mixer, spokes)| (mixer, spokes.into_iter().map(|(s, _)| s).collect()));
        Box::new(Radar { tasks: names, mixers: mixers.collect(), notes: said })
    } else {
        let map = Map {
            title: String::new(),
            rows: mixers,
            columns: names,
            cells: all.iter().flat_map(|(_, spokes)| spokes).map(cell).collect(),
            absent: String::new(),
        };
        let name = "0 floor, 1 ceiling".to_string();
        Box::new(Maps { panels: vec![map], axes: Default::default(), limit: Some(1.0), name, notes: said })
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

/// One word for runs of which none is scored: `failed`, or `no score` where they ended unlike each other.
fn word(runs: &[&Run]) -> String {
    let first = runs.first().map(|run| run.outcome).unwrap_or("missing");
    let alike = first != "finished" && runs.iter().all(|run| run.outcome == first);
    if alike { first.replace('_', " ") } else { "no score".into() }
}
