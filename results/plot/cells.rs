//! Heat maps of few cells with their numbers: heads by layers, mixers by tasks. One scale for all panels, so that they compare.

use super::heatmap::{Scale, bar, colour, wrapped};
use super::marks::{Anchor, Drawable, GREY, INK, PALE, Picture, Place, text_width, widest};
use plotters::style::RGBColor;

const MARGIN: f64 = 16.0;
const LABEL: f64 = 12.0;
const SMALL: f64 = 10.5;
const TINY: f64 = 9.5;
const LINE: f64 = 15.0;
/// Size of a cell with room for a number, and the sides of what cells without numbers share.
const CELL: Place = (42.0, 22.0);
const SIDES: Place = (460.0, 420.0);
const MOST_WIDTH: f64 = 860.0;
const GAP: f64 = 26.0;
/// Labels of columns are upright where they do not fit a cell, and no longer than this.
const UPRIGHT: f64 = 190.0;
/// Lines of notes below a figure.
const MOST_NOTES: usize = 12;

/// Panels of cells.
#[derive(Clone, Debug)]
pub(crate) struct Maps {
    pub(crate) panels: Vec<Map>,
    /// What is on the axes: rows, then columns; may be empty.
    pub(crate) axes: [String; 2],
    /// The number that has the darkest colour; `None`: the largest magnitude.
    pub(crate) limit: Option<f64>,
    /// What the colours stand for.
    pub(crate) name: String,
    pub(crate) notes: Vec<String>,
}

#[derive(Clone, Debug)]
pub(crate) struct Map {
    /// Empty for a figure of one.
    pub(crate) title: String,
    pub(crate) rows: Vec<String>,
    pub(crate) columns: Vec<String>,
    /// Row by row.
    pub(crate) cells: Vec<Filling>,
    /// Why there are no cells; empty where there are some.
    pub(crate) absent: String,
}

/// What stands in a cell.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Filling {
    /// Outside: nothing.
    Blank,
    /// A number and how it is written.
    Number(f64, String),
    /// Why there is none.
    Word(String),
}

/// How large the cells of a figure are, and whether they hold numbers.
struct Size {
    cell: Place,
    numbers: bool,
}

fn size(maps: &Maps) -> Size {
    let most = |of: fn(&Map) -> usize| maps.panels.iter().map(of).max().unwrap_or(1).max(1) as f64;
    let (columns, rows) = (most(|map| map.columns.len()), most(|map| map.rows.len()));
    let all = maps.panels.iter().flat_map(|map| &map.cells);
    let texts = all.filter_map(|cell| match cell {
        Filling::Number(_, text) => Some(text_width(text, SMALL)),
        Filling::Word(word) => Some(text_width(word, TINY)),
        Filling::Blank => None,
    });
    let wide = texts.fold(CELL.0 - 8.0, f64::max) + 8.0;
    let numbers = columns * wide <= MOST_WIDTH && rows * CELL.1 <= 2.0 * SIDES.1;
    let cell = if numbers {
        (wide, CELL.1)
    } else {
        ((SIDES.0 / columns).clamp(3.0, 24.0), (SIDES.1 / rows).clamp(3.0, 18.0))
    };
    Size { cell, numbers }
}

impl Drawable for Maps {
    fn picture(&self) -> Picture {
        picture(self)
    }
}

fn picture(maps: &Maps) -> Picture {
    let Size { cell, numbers } = size(maps);
    let every = |step: f64| (SMALL + 2.0) / step;
    let upright = maps.panels.iter().flat_map(|map| &map.columns).any(|name| text_width(name, SMALL) > cell.0 - 4.0);
    let gutter = widest(maps.panels.iter().flat_map(|map| &map.rows).map(String::as_str), SMALL) + 9.0;
    let axis = if maps.axes[0].is_empty() { 0.0 } else { LINE + 2.0 };
    let widths: Vec<f64> = maps.panels.iter().map(|map| cell.0 * map.columns.len().max(1) as f64).collect();
    let widest_map = widths.iter().copied().fold(if maps.panels.len() > 1 { 110.0 } else { 60.0 }, f64::max);
    let wide = axis + gutter + widest_map + GAP;
    let columns = ((MOST_WIDTH / wide) as usize).clamp(1, maps.panels.len().max(1));
    let heads: Vec<Vec<String>> = maps.panels.iter().map(|map| wrapped(&map.title, LABEL, wide - GAP, 3)).collect();
    let head = LINE * heads.iter().map(Vec::len).max().unwrap_or(0) as f64 + 6.0;
    let over = match upright {
        true => widest(maps.panels.iter().flat_map(|map| &map.columns).map(String::as_str), SMALL).min(UPRIGHT) + 8.0,
        false => LINE + 2.0,
    } + if maps.axes[1].is_empty() { 0.0 } else { LINE };
    let limit = maps.limit.unwrap_or_else(|| {
        let sizes = maps.panels.iter().flat_map(|map| &map.cells).filter_map(|cell| match cell {
            Filling::Number(value, _) => Some(value.abs()),
            _ => None,
        });
        Some(sizes.fold(0.0, f64::max)).filter(|limit| *limit > 0.0).unwrap_or(1.0)
    });
    let bar_words = text_width(&maps.name, SMALL).max(46.0);
    let panels = columns as f64 * wide - GAP;
    let width = (MARGIN + panels + GAP + bar_words + MARGIN).max(320.0);
    let notes: Vec<String> =
        maps.notes.iter().flat_map(|note| wrapped(note, SMALL, width - 2.0 * MARGIN, usize::MAX)).collect();
    let mut picture = Picture { width, height: 0.0, marks: Vec::new() };
    let mut top = MARGIN / 2.0;
    let first = top + head + over;
    for (line, some) in maps.panels.chunks(columns).enumerate() {
        let rows = some.iter().map(|map| map.rows.len()).max().unwrap_or(1).max(2) as f64;
        for (k, map) in some.iter().enumerate() {
            let i = line * columns + k;
            let left = MARGIN + k as f64 * wide;
            for (n, text) in heads[i].iter().enumerate() {
                let y = top + head - 6.0 - LINE * (heads[i].len() - n) as f64 + LINE / 2.0;
                picture.text((left, y), text, LABEL, Anchor::Start, INK);
            }
            let corner = (left + axis + gutter, top + head + over);
            if !map.absent.is_empty() {
                absent(&mut picture, corner, (widest_map, rows * cell.1), &map.absent);
                continue;
            }
            names(&mut picture, map, corner, cell, upright, [every(cell.0), every(cell.1)]);
            if axis > 0.0 {
                let middle = corner.1 + cell.1 * map.rows.len() as f64 / 2.0;
                picture.upright_text((left + SMALL / 2.0, middle), &maps.axes[0], SMALL, Anchor::Middle, GREY);
            }
            if !maps.axes[1].is_empty() {
                let at = (corner.0, top + head + LINE / 2.0 - 2.0);
                picture.text(at, &maps.axes[1], SMALL, Anchor::Start, GREY);
            }
            fill(&mut picture, map, corner, cell, limit, numbers);
        }
        top += head + over + rows * cell.1 + 16.0;
    }
    let signed = maps.panels.iter().flat_map(|map| &map.cells).any(|c| matches!(c, Filling::Number(v, _) if *v < 0.0));
    let scale = Scale { limit: limit as f32, signed, clipped: [false; 2] };
    let x = MARGIN + panels + GAP;
    picture.text((x, first - LINE), &maps.name, SMALL, Anchor::Start, GREY);
    bar(&mut picture, (x, first), 96.0, scale);
    top = top.max(first + 96.0 + 12.0);
    let mut notes = notes;
    if notes.len() > MOST_NOTES {
        notes.truncate(MOST_NOTES - 1);
        notes.push("More in report.md.".into());
    }
    for note in notes {
        picture.text((MARGIN, top + LINE / 2.0), &note, SMALL, Anchor::Start, GREY);
        top += LINE;
    }
    picture.height = top + MARGIN / 2.0;
    picture
}

/// Labels of rows and columns; where cells are thin, only as many as have room.
fn names(picture: &mut Picture, map: &Map, (left, top): Place, cell: Place, upright: bool, every: [f64; 2]) {
    for (i, name) in map.rows.iter().enumerate().step_by(every[1].ceil().max(1.0) as usize) {
        picture.text((left - 7.0, top + cell.1 * (i as f64 + 0.5)), name, SMALL, Anchor::End, INK);
    }
    let step = if upright { every[0].ceil().max(1.0) as usize } else { 1 };
    for (i, name) in map.columns.iter().enumerate().step_by(step) {
        let x = left + cell.0 * (i as f64 + 0.5);
        if upright {
            picture.upright_text((x, top - 6.0), &middle_cut(name, UPRIGHT), SMALL, Anchor::Start, INK);
        } else {
            picture.text((x, top - LINE / 2.0), name, SMALL, Anchor::Middle, INK);
        }
    }
}

fn fill(picture: &mut Picture, map: &Map, (left, top): Place, cell: Place, limit: f64, numbers: bool) {
    for (i, filling) in map.cells.iter().enumerate() {
        let (row, column) = (i / map.columns.len().max(1), i % map.columns.len().max(1));
        let (x, y) = (left + cell.0 * column as f64, top + cell.1 * row as f64);
        let (right, bottom) = (x + cell.0, y + cell.1);
        let middle = ((x + right) / 2.0, (y + bottom) / 2.0);
        match filling {
            Filling::Blank => {}
            Filling::Number(value, text) => {
                let shade = colour(*value as f32, limit as f32);
                picture.rectangle((x, y), (right, bottom), shade);
                if numbers {
                    picture.text(middle, text, SMALL, Anchor::Middle, ink_on(shade));
                }
            }
            Filling::Word(word) => {
                if numbers {
                    picture.text(middle, word, TINY, Anchor::Middle, GREY);
                } else {
                    picture.line(&[(x + 1.0, bottom - 1.0), (right - 1.0, y + 1.0)], GREY, 0.67);
                }
            }
        }
        if *filling != Filling::Blank {
            picture.line(&[(x, y), (right, y), (right, bottom), (x, bottom), (x, y)], PALE, 0.67);
        }
    }
}

/// Dark on light, light on dark: by the luma of ITU-R BT.601.
fn ink_on(shade: RGBColor) -> RGBColor {
    let luma = 299 * u32::from(shade.0) + 587 * u32::from(shade.1) + 114 * u32::from(shade.2);
    if luma < 140_000 { RGBColor(255, 255, 255) } else { INK }
}

fn absent(picture: &mut Picture, (left, top): Place, (width, height): Place, why: &str) {
    let (right, bottom) = (left + width, top + height);
    picture.line(&[(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], PALE, 0.67);
    let lines = wrapped(why, SMALL, width - 10.0, ((height - 4.0) / LINE).max(1.0) as usize);
    let first = (top + bottom) / 2.0 - LINE * (lines.len() as f64 - 1.0) / 2.0;
    for (i, line) in lines.iter().enumerate() {
        picture.text(((left + right) / 2.0, first + LINE * i as f64), line, SMALL, Anchor::Middle, GREY);
    }
}

/// As much of both ends as fits: labels often differ in their last words.
pub(super) fn middle_cut(text: &str, width: f64) -> String {
    if text_width(text, SMALL) <= width {
        return text.into();
    }
    let letters: Vec<char> = text.chars().collect();
    let cut = |kept: usize| {
        let (start, end) = (kept.div_ceil(2), kept / 2);
        letters[..start].iter().collect::<String>() + "…" + &letters[letters.len() - end..].iter().collect::<String>()
    };
    let fits = (0..letters.len().min(400)).rev().map(cut).find(|short| text_width(short, SMALL) <= width);
    fits.unwrap_or_else(|| "…".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_label_keeps_both_ends() {
        let short = middle_cut("in-context-recall/vocab_size=32 at d_model=128", 120.0);
        assert!(short.starts_with("in-c") && short.ends_with("=128") && text_width(&short, SMALL) <= 120.0, "{short}");
        assert_eq!(middle_cut("mqar", 120.0), "mqar");
    }

    #[test]
    fn numbers_are_readable_on_every_shade() {
        assert_eq!(ink_on(colour(0.0, 1.0)), INK);
        assert_eq!(ink_on(colour(1.0, 1.0)), RGBColor(255, 255, 255));
        assert_eq!(ink_on(colour(-1.0, 1.0)), RGBColor(255, 255, 255));
    }
}
