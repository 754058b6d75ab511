//! Validation score against training step: one panel per task, the mean of each mixer strong, its seeds thin.

use super::marks::{
    Anchor, GREY, INK, Lighter, Look, NOTE, PALE, Picture, Place, below, looks, shortened, stroke, text_width, widest,
};
use super::{Curves, Data};
use crate::statistics::Range;

const WIDTH: f64 = 250.0;
const HEIGHT: f64 = 175.0;
const TITLE: f64 = 44.0; // task, and the name of the score
const AXIS: f64 = 46.0;
const GUTTER: f64 = 30.0;
const GAP: f64 = 34.0; // holds the word `floor`
const MARGIN: f64 = 16.0;
const LABEL: f64 = 12.0;
const SMALL: f64 = 10.5;
const LEGEND: f64 = 17.0;

pub(super) fn picture(data: &Data) -> Picture {
    let columns = if data.curves.len() == 4 { 2 } else { data.curves.len().min(3) };
    let lines = data.curves.len().div_ceil(columns);
    let legend = 30.0 + widest(data.mixers.iter().map(String::as_str), LABEL);
    let panels = columns as f64 * (WIDTH + GAP) - GAP;
    let tall = (lines as f64 * (TITLE + HEIGHT + AXIS)).max(TITLE + LEGEND * data.mixers.len() as f64 + 8.0);
    let width = (GUTTER + panels + 22.0 + legend).max(below(&data.notes));
    let height = MARGIN + tall + NOTE * data.notes.len() as f64;
    let mut picture = Picture { width: MARGIN + width + MARGIN, height, marks: Vec::new() };
    let looks = looks(&data.mixers);
    // One for all: only the first panel of a line has labels.
    let low = data.curves.iter().map(|curves| drawn(curves).low).fold(0.0, f64::min);
    let range = Range { low, ..Range::SHARE };
    for (i, curves) in data.curves.iter().enumerate() {
        let left = MARGIN + GUTTER + (i % columns) as f64 * (WIDTH + GAP);
        let top = MARGIN / 2.0 + (i / columns) as f64 * (TITLE + HEIGHT + AXIS) + TITLE;
        panel(&mut picture, (left, top), curves, range, &looks, i % columns == 0);
    }
    let (x, top) = (MARGIN + GUTTER + panels + 22.0, MARGIN / 2.0 + TITLE);
    for (i, (name, look)) in data.mixers.iter().zip(&looks).enumerate() {
        let y = top + LEGEND * (i as f64 + 0.5);
        stroke(&mut picture, &[(x, y), (x + 22.0, y)], *look);
        picture.text((x + 29.0, y), name, LABEL, Anchor::Start, INK);
    }
    picture.notes((MARGIN, MARGIN / 2.0 + tall), &data.notes);
    picture
}

/// The part of the score's range that has something in it.
fn drawn(curves: &Curves) -> Range {
    let seeds = curves.lines.iter().flat_map(|(_, lines)| &lines.seeds).flat_map(|(seed, _)| seed);
    curves.range.drawn(seeds.map(|(_, score)| *score).chain(curves.floor))
}

fn panel(picture: &mut Picture, (left, top): Place, curves: &Curves, range: Range, looks: &[Look], first: bool) {
    let (right, bottom) = (left + WIDTH, top + HEIGHT);
    let last =
        curves.lines.iter().flat_map(|(_, lines)| &lines.seeds).flat_map(|(seed, _)| seed).map(|(step, _)| *step);
    let last = last.max().unwrap_or(1).max(1);
    let place = |(step, score): &(u64, f64)| -> Place {
        (left + WIDTH * *step as f64 / last as f64, bottom - HEIGHT * range.share(*score))
    };
    for (score, text) in range.ticks() {
        let y = place(&(0, score)).1;
        picture.line(&[(left, y), (right, y)], PALE, 0.67);
        if first {
            picture.text((left - 7.0, y), &text, SMALL, Anchor::End, INK);
        }
    }
    for step in ticks(last) {
        let x = place(&(step, 0.0)).0;
        picture.line(&[(x, bottom), (x, bottom + 4.0)], INK, 0.67);
        picture.text((x, bottom + 13.0), &step_text(step, last), SMALL, Anchor::Middle, INK);
    }
    picture.line(&[(left, top), (left, bottom), (right, bottom)], INK, 0.67);
    picture.text(((left + right) / 2.0, bottom + 28.0), "training step", SMALL + 0.5, Anchor::Middle, INK);
    let title = shortened(&curves.task, LABEL + 1.0, WIDTH);
    picture.text((left, top - 29.0), &title, LABEL + 1.0, Anchor::Start, INK);
    picture.text((left, top - 12.0), &format!("validation {}", curves.metric), SMALL, Anchor::Start, GREY);
    if let Some(floor) = curves.floor {
        let y = place(&(0, floor)).1;
        picture.dashes(&[(left, y), (right, y)], GREY, 1.0, 3.0);
        // Outside the axes, where no curve runs through it.
        picture.text((right + 4.0, y), "floor", SMALL, Anchor::Start, GREY);
    }
    for (mixer, lines) in &curves.lines {
        for (seed, diverged) in &lines.seeds {
            let points: Vec<Place> = seed.iter().map(place).collect();
            picture.line(&points, looks[*mixer].colour.into_faint(), 0.67);
            if let (true, Some(end)) = (diverged, points.last()) {
                picture.cross(*end, 3.0, looks[*mixer].colour);
            }
        }
    }
    for (mixer, lines) in &curves.lines {
        let points: Vec<Place> = lines.mean.iter().map(place).collect();
        match points.as_slice() {
            [] => {}
            [only] => picture.dot(*only, 2.7, looks[*mixer].colour),
            points => stroke(picture, points, looks[*mixer]),
        }
    }
}

/// Steps 0, s, 2s, .. up to `last`, with s from 1, 2, 5, 10, .. such that labels have room.
fn ticks(last: u64) -> Vec<u64> {
    let widest = text_width(&step_text(last, last), SMALL) + 16.0;
    let most = (WIDTH / widest).floor().clamp(1.0, 5.0) as u64;
    let nice = (0..19).flat_map(|power| [1, 2, 5].map(|digit| digit * 10_u64.pow(power)));
    let step = nice.into_iter().find(|step| last / step <= most).unwrap_or(last);
    (0..=last / step).map(|i| i * step).collect()
}

/// `250`, `10k`, `1.5M`: in the unit that suits the axis's end.
fn step_text(step: u64, last: u64) -> String {
    match last {
        _ if step == 0 => "0".into(),
        1_000_000.. => format!("{}M", step as f64 / 1e6),
        10_000.. => format!("{}k", step as f64 / 1e3),
        _ => step.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_few() {
        assert_eq!(ticks(1000), [0, 200, 400, 600, 800, 1000]);
        assert_eq!(ticks(3), [0, 1, 2, 3]);
        assert_eq!(ticks(37_500), [0, 10_000, 20_000, 30_000]);
        assert_eq!(step_text(1_500_000, 3_000_000), "1.5M");
        assert_eq!(step_text(2000, 10_000), "2k");
    }
}
