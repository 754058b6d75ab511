//! Every mixer's scores as a polygon over the tasks' spokes: 0, the floor, at the centre, 1, the ceiling, at the rim.

use super::cells::middle_cut;
use super::heatmap::wrapped;
use super::marks::{Anchor, Drawable, GREY, INK, Lighter, PALE, Picture, Place, looks, text_width};
use std::f64::consts::TAU;

const RADIUS: f64 = 74.0;
const MARGIN: f64 = 16.0;
const LABEL: f64 = 12.0;
const SMALL: f64 = 10.0;
const LINE: f64 = 15.0;
/// The longest name beside a spoke.
const NAME: f64 = 120.0;
const MOST_NOTES: usize = 12;

/// Small multiples, one a mixer.
#[derive(Clone, Debug)]
pub(crate) struct Radar {
    /// The spokes, clockwise from the top.
    pub(crate) tasks: Vec<String>,
    /// By mixer: name and one entry a task.
    pub(crate) mixers: Vec<(String, Vec<Spoke>)>,
    pub(crate) notes: Vec<String>,
}

/// One mixer on one task, from 0 to 1.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Spoke {
    pub(crate) mean: Option<f64>,
    /// By seed.
    pub(crate) seeds: Vec<(u64, f64)>,
    /// `failed`; empty with a mean.
    pub(crate) note: String,
}

impl Drawable for Radar {
    fn picture(&self) -> Picture {
        picture(self)
    }
}

fn picture(radar: &Radar) -> Picture {
    let columns = if radar.mixers.len() == 4 { 2 } else { radar.mixers.len().clamp(1, 3) };
    let beside = radar.tasks.iter().map(|task| text_width(task, SMALL)).fold(0.0, f64::max).min(NAME) + 14.0;
    let wide = 2.0 * (RADIUS + beside) + 10.0;
    let high = 2.0 * RADIUS + 24.0 + 4.0 * LINE;
    let width = MARGIN + columns as f64 * wide + MARGIN;
    let mut notes: Vec<String> =
        radar.notes.iter().flat_map(|note| wrapped(note, SMALL, width - 2.0 * MARGIN, usize::MAX)).collect();
    if notes.len() > MOST_NOTES {
        notes.truncate(MOST_NOTES - 1);
        notes.push("More in report.md.".into());
    }
    let tall = radar.mixers.len().div_ceil(columns) as f64 * high;
    let height = MARGIN + tall + LINE * notes.len() as f64 + MARGIN / 2.0;
    let mut picture = Picture { width, height, marks: Vec::new() };
    let names: Vec<String> = radar.mixers.iter().map(|(name, _)| name.clone()).collect();
    let looks = looks(&names);
    for (i, ((name, spokes), look)) in radar.mixers.iter().zip(&looks).enumerate() {
        let x = MARGIN + ((i % columns) as f64 + 0.5) * wide;
        let y = MARGIN / 2.0 + (i / columns) as f64 * high + 12.0 + 2.0 * LINE + RADIUS;
        picture.text((x, y - RADIUS - 2.0 * LINE), name, LABEL + 1.0, Anchor::Middle, INK);
        web(&mut picture, (x, y), &radar.tasks, spokes);
        let place = |task: usize, value: f64| at((x, y), task, radar.tasks.len(), RADIUS * value.clamp(0.0, 1.0));
        let mut seeds: Vec<u64> = spokes.iter().flat_map(|spoke| &spoke.seeds).map(|(seed, _)| *seed).collect();
        seeds.sort_unstable();
        seeds.dedup();
        for seed in seeds {
            let value = |spoke: &Spoke| spoke.seeds.iter().find(|(known, _)| *known == seed).map(|(_, value)| *value);
            let values: Vec<Option<f64>> = spokes.iter().map(value).collect();
            for path in paths(&values, place) {
                picture.line(&path, look.colour.into_faint(), 0.67);
            }
        }
        let means: Vec<Option<f64>> = spokes.iter().map(|spoke| spoke.mean).collect();
        for path in paths(&means, place) {
            if means.iter().all(Option::is_some) {
                picture.fill(path.clone(), look.colour.into_veil());
            }
            if look.dashed {
                picture.dashes(&path, look.colour, 1.67, 4.0);
            } else {
                picture.line(&path, look.colour, 1.67);
            }
        }
        for (task, mean) in means.iter().enumerate() {
            if let Some(mean) = mean {
                picture.marker(place(task, *mean), 2.3, *look);
            }
        }
    }
    for (i, note) in notes.iter().enumerate() {
        picture.text((MARGIN, MARGIN / 2.0 + tall + LINE * (i as f64 + 0.5)), note, SMALL, Anchor::Start, GREY);
    }
    picture
}

/// A place so far from the centre on a spoke.
fn at((x, y): Place, spoke: usize, spokes: usize, far: f64) -> Place {
    let angle = TAU * spoke as f64 / spokes.max(1) as f64;
    (x + far * angle.sin(), y - far * angle.cos())
}

/// The rim, rings at quarters, spokes and their names.
fn web(picture: &mut Picture, centre: Place, tasks: &[String], spokes: &[Spoke]) {
    for quarter in 1..=4 {
        let ring: Vec<Place> = (0..=tasks.len())
            .map(|i| at(centre, i % tasks.len().max(1), tasks.len(), RADIUS * f64::from(quarter) / 4.0))
            .collect();
        picture.line(&ring, if quarter == 4 { GREY.into_faint() } else { PALE.into() }, 0.67);
    }
    for (i, (task, spoke)) in tasks.iter().zip(spokes).enumerate() {
        picture.line(&[centre, at(centre, i, tasks.len(), RADIUS)], PALE, 0.67);
        let (x, y) = at(centre, i, tasks.len(), RADIUS + 9.0);
        let side = x - centre.0;
        let anchor = match side {
            s if s > 4.0 => Anchor::Start,
            s if s < -4.0 => Anchor::End,
            _ => Anchor::Middle,
        };
        let size = SMALL;
        let name = middle_cut(task, NAME);
        if spoke.note.is_empty() {
            picture.text((x, y), &name, size, anchor, INK);
        } else {
            let up = if anchor == Anchor::Middle && y < centre.1 { [-11.0, 0.0] } else { [0.0, 11.0] };
            picture.text((x, y + up[0]), &name, size, anchor, INK);
            picture.text((x, y + up[1]), &spoke.note, size, anchor, GREY);
        }
    }
}

/// Lines between neighbours that both have a value: one closed polygon where all have.
fn paths(values: &[Option<f64>], place: impl Fn(usize, f64) -> Place) -> Vec<Vec<Place>> {
    let n = values.len();
    let places: Vec<Option<Place>> = values.iter().enumerate().map(|(i, v)| v.map(|v| place(i, v))).collect();
    if let Some(all) = places.iter().copied().collect::<Option<Vec<Place>>>() {
        return vec![all.iter().chain(all.first()).copied().collect()];
    }
    let pairs = (0..n).filter_map(|i| Some(vec![places[i]?, places[(i + 1) % n]?]));
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_polygon_is_closed_only_where_every_task_has_a_value() {
        let place = |i: usize, v: f64| (i as f64, v);
        let whole = paths(&[Some(0.1), Some(0.2), Some(0.3)], place);
        assert_eq!(whole, [vec![(0.0, 0.1), (1.0, 0.2), (2.0, 0.3), (0.0, 0.1)]]);
        let torn = paths(&[Some(0.1), None, Some(0.3), Some(0.4)], place);
        assert_eq!(torn, [vec![(2.0, 0.3), (3.0, 0.4)], vec![(3.0, 0.4), (0.0, 0.1)]]);
    }

    #[test]
    fn spokes_go_clockwise_from_the_top() {
        let (x, y) = at((0.0, 0.0), 1, 4, 2.0);
        assert!((x - 2.0).abs() < 1e-12 && y.abs() < 1e-12);
    }
}
