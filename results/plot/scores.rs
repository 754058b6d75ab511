//! Every seed's score by mixer: one panel per task, one line per mixer, so that names stay horizontal.

use super::marks::{
    Anchor, BAND, GREY, INK, Lighter, Look, NOTE, PALE, Picture, below, looks, shortened, text_width, widest,
};
use super::{Data, Entry, Panel};
use crate::statistics::Range;

const ROW: f64 = 27.0;
const TITLE: f64 = 42.0; // task, and the label of its floor
const AXIS: f64 = 44.0; // tick labels and the score's name
const KEY: f64 = 24.0;
const MARGIN: f64 = 16.0;
const LABEL: f64 = 12.0;
const SMALL: f64 = 10.5;
/// Half the width of a published score's diamond: it shows around a mean of our own in the same place.
const PUBLISHED: f64 = 7.0;

/// Where one panel's frame lies.
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    /// The scores at its left and right ends.
    range: Range,
}

impl Frame {
    fn x(&self, score: f64) -> f64 {
        self.left + (self.right - self.left) * self.range.share(score)
    }

    /// The middle of a mixer's line.
    fn y(&self, place: usize) -> f64 {
        self.top + ROW * (place as f64 + 0.5)
    }
}

pub(super) fn picture(data: &Data) -> Picture {
    let columns = data.panels.len().min(3);
    let lines = data.panels.len().div_ceil(columns);
    let width = [380.0, 280.0, 225.0][columns - 1];
    let gutter = widest(data.mixers.iter().map(String::as_str), LABEL) + 10.0;
    let beside = |panel: &Panel| {
        panel.entries.iter().filter(|(_, e)| e.test.is_some()).map(|(_, e)| e.note.clone()).collect::<Vec<_>>()
    };
    let notes: Vec<String> = data.panels.iter().flat_map(beside).collect();
    let notes = widest(notes.iter().map(String::as_str), SMALL);
    let gap = if notes > 0.0 { notes + 26.0 } else { 30.0 };
    let height = TITLE + ROW * data.mixers.len() as f64 + AXIS;
    let (columns_f, lines_f) = (columns as f64, lines as f64);
    let mut picture = Picture {
        width: (MARGIN + gutter + columns_f * (width + gap) - gap
            + if notes > 0.0 { notes + 10.0 } else { 6.0 }
            + MARGIN)
            .max(key_width(keys(data)) + 2.0 * MARGIN)
            .max(below(&data.notes) + 2.0 * MARGIN),
        height: MARGIN + lines_f * height + KEY + NOTE * data.notes.len() as f64 + MARGIN / 2.0,
        marks: Vec::new(),
    };
    let looks = looks(&data.mixers);
    for (i, panel) in data.panels.iter().enumerate() {
        let left = MARGIN + gutter + (i % columns) as f64 * (width + gap);
        let top = MARGIN / 2.0 + (i / columns) as f64 * height + TITLE;
        let bottom = top + ROW * data.mixers.len() as f64;
        let frame = Frame { left, right: left + width, top, bottom, range: drawn(panel) };
        background(&mut picture, &frame, panel, data.mixers.len());
        if i % columns == 0 {
            for (place, name) in data.mixers.iter().enumerate() {
                picture.text((frame.left - 9.0, frame.y(place)), name, LABEL, Anchor::End, INK);
            }
        }
        for (place, entry) in &panel.entries {
            marks_of(&mut picture, &frame, panel, *place, entry, looks[*place]);
        }
    }
    let bottom = MARGIN + lines_f * height + KEY / 2.0;
    key(&mut picture, (MARGIN, bottom), keys(data));
    picture.notes((MARGIN, bottom + KEY / 2.0), &data.notes);
    picture
}

/// The part of the score's range that has something in it.
fn drawn(panel: &Panel) -> Range {
    let lows = |(_, entry): &(usize, Entry)| {
        let low = entry.test.map(|test| test.interval.map_or(test.mean, |interval| interval.low));
        entry.seeds.iter().map(|(score, _)| *score).chain(low).chain(entry.published).collect::<Vec<f64>>()
    };
    panel.range.drawn(panel.entries.iter().flat_map(lows).chain(panel.floor))
}

/// Title, grid, axis, floor and ceiling.
fn background(picture: &mut Picture, frame: &Frame, panel: &Panel, n: usize) {
    for place in (0..n).step_by(2) {
        let y = frame.y(place);
        picture.rectangle((frame.left, y - ROW / 2.0), (frame.right, y + ROW / 2.0), BAND);
    }
    for (score, text) in frame.range.ticks() {
        let x = frame.x(score);
        picture.line(&[(x, frame.top), (x, frame.bottom)], PALE, 0.67);
        picture.line(&[(x, frame.bottom), (x, frame.bottom + 4.0)], INK, 0.67);
        picture.text((x, frame.bottom + 13.0), &text, SMALL, Anchor::Middle, INK);
    }
    picture.line(&[(frame.left, frame.bottom), (frame.right, frame.bottom)], INK, 0.67);
    let middle = (frame.left + frame.right) / 2.0;
    picture.text((middle, frame.bottom + 29.0), &format!("test {}", panel.metric), SMALL + 0.5, Anchor::Middle, INK);
    let title = shortened(&panel.task, LABEL + 1.0, frame.right - frame.left);
    picture.text((frame.left, frame.top - 28.0), &title, LABEL + 1.0, Anchor::Start, INK);
    let label = |score: f64, word: &str| {
        let text = format!("{word} {score:.3}");
        let half = text_width(&text, SMALL) / 2.0;
        let x = frame.x(score).min(frame.right - half).max(frame.left + half);
        (text, x, half)
    };
    let floor = panel.floor.map(|floor| label(floor, "floor"));
    if let (Some(score), Some((text, x, _))) = (panel.floor, &floor) {
        let at = frame.x(score);
        picture.dashes(&[(at, frame.top - 4.0), (at, frame.bottom)], GREY, 1.0, 3.0);
        picture.text((*x, frame.top - 11.0), text, SMALL, Anchor::Middle, GREY);
    }
    if let Some(score) = panel.ceiling {
        let (text, x, half) = label(score, "ceiling");
        let at = frame.x(score);
        picture.line(&[(at, frame.top - 4.0), (at, frame.bottom)], GREY.into_faint(), 1.0);
        if floor.is_none_or(|(_, other, wide)| (x - other).abs() > half + wide + 6.0) {
            picture.text((x, frame.top - 11.0), &text, SMALL, Anchor::Middle, GREY);
        }
    }
}

/// One mixer's mean with its interval, below it the seeds; or the word that says why there are none.
fn marks_of(picture: &mut Picture, frame: &Frame, panel: &Panel, place: usize, entry: &Entry, look: Look) {
    let y = frame.y(place);
    let Some(test) = entry.test else {
        // Beside the floor's line, which often stands at the left end.
        let floor = panel.floor.map_or(frame.left, |floor| frame.x(floor));
        let blocked = floor - frame.left < text_width(&entry.note, SMALL) + 12.0;
        let x = if blocked { floor.max(frame.left) + 8.0 } else { frame.left + 6.0 };
        picture.text((x, y), &entry.note, SMALL, Anchor::Start, GREY);
        return;
    };
    for (i, (score, diverged)) in entry.seeds.iter().enumerate() {
        let at = (frame.x(*score), y + 6.0 + jitter(i));
        if *diverged {
            picture.cross(at, 3.0, look.colour);
        } else {
            picture.dot(at, 2.7, look.colour.into_half());
        }
    }
    let bar = y - 5.0;
    if let Some(published) = entry.published {
        picture.hollow_diamond((frame.x(published), bar), PUBLISHED, look.colour);
    }
    if let Some(interval) = test.interval {
        let (low, high) = (frame.x(interval.low), frame.x(interval.high));
        picture.line(&[(low, bar), (high, bar)], look.colour, 1.33);
        for end in [low, high] {
            picture.line(&[(end, bar - 3.0), (end, bar + 3.0)], look.colour, 1.33);
        }
    }
    picture.diamond((frame.x(test.mean), bar), 4.7, look.colour);
    if !entry.note.is_empty() {
        picture.text((frame.right + 10.0, y), &entry.note, SMALL, Anchor::Start, GREY);
    }
}

/// A seed's shift off its line, so that equal scores stay countable: always the same for the same place in the list.
fn jitter(i: usize) -> f64 {
    [0.0, -2.6, 2.6, -1.3, 1.3][i % 5]
}

/// Words of the key; the last one only where a published number is drawn.
const KEYS: [&str; 5] = [
    "mean",
    "95 % t interval over seeds",
    "one seed",
    "diverged seed, scored at the floor",
    "published: the paper's sizes, data and budget",
];

fn keys(data: &Data) -> &'static [&'static str] {
    let published = data.panels.iter().flat_map(|panel| &panel.entries).any(|(_, entry)| entry.published.is_some());
    &KEYS[..if published { KEYS.len() } else { KEYS.len() - 1 }]
}

fn key_width(keys: &[&str]) -> f64 {
    keys.iter().map(|text| 22.0 + text_width(text, SMALL) + 24.0).sum()
}

fn key(picture: &mut Picture, (mut x, y): (f64, f64), keys: &[&str]) {
    for (i, text) in keys.iter().enumerate() {
        match i {
            0 => picture.diamond((x + 8.0, y), 4.7, GREY),
            1 => {
                picture.line(&[(x, y), (x + 16.0, y)], GREY, 1.33);
                picture.line(&[(x, y - 3.0), (x, y + 3.0)], GREY, 1.33);
                picture.line(&[(x + 16.0, y - 3.0), (x + 16.0, y + 3.0)], GREY, 1.33);
            }
            2 => picture.dot((x + 8.0, y), 2.7, GREY.into_half()),
            3 => picture.cross((x + 8.0, y), 3.0, GREY),
            _ => picture.hollow_diamond((x + 8.0, y), PUBLISHED, GREY),
        }
        picture.text((x + 22.0, y), text, SMALL, Anchor::Start, GREY);
        x += 22.0 + text_width(text, SMALL) + 24.0;
    }
}
