//! Two rankings side by side: ours on the left, a published one on the right, a line for each mixer between its places.

use super::heatmap::wrapped;
use super::marks::{Anchor, Drawable, GREY, INK, Look, Picture, Place, looks, stroke, widest};

const MARGIN: f64 = 16.0;
const LABEL: f64 = 12.0;
const SMALL: f64 = 10.5;
const ROW: f64 = 21.0;
/// Titles of the two sides.
const HEAD: f64 = 26.0;
const LINE: f64 = 15.0;
/// Between the two columns of dots.
const BETWEEN: f64 = 230.0;
/// Room for a rank beside its dot, and between the texts of a side.
const RANK: f64 = 36.0;
const GAP: f64 = 12.0;
const MOST_NOTES: usize = 12;

/// Rankings, one a panel, below each other.
#[derive(Clone, Debug)]
pub(crate) struct Slopes {
    pub(crate) panels: Vec<Slope>,
    /// All mixers of the sweep: their places decide their looks.
    pub(crate) mixers: Vec<String>,
    /// What each side is.
    pub(crate) sides: [String; 2],
    pub(crate) notes: Vec<String>,
}

/// Mixers in the order of the left side.
#[derive(Clone, Debug)]
pub(crate) struct Slope {
    pub(crate) title: String,
    pub(crate) entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// Place in the mixers.
    pub(crate) mixer: usize,
    /// Ranks as they are printed: `3`, `13.5`.
    pub(crate) ranks: [String; 2],
    /// `4.10 [4.05, 4.15]` and `1.59`.
    pub(crate) values: [String; 2],
    /// Place on the right, from 0: no two share one, tied or not.
    pub(crate) right: usize,
}

impl Drawable for Slopes {
    fn picture(&self) -> Picture {
        picture(self)
    }
}

fn picture(slopes: &Slopes) -> Picture {
    let entries = || slopes.panels.iter().flat_map(|slope| &slope.entries);
    let names = widest(slopes.mixers.iter().map(String::as_str), LABEL);
    let values = |side: usize| widest(entries().map(|entry| entry.values[side].as_str()), SMALL);
    let side =
        |i: usize| (values(i) + GAP + names + RANK).max(widest([slopes.sides[i].as_str()].into_iter(), SMALL) + 8.0);
    let (left, right) = (MARGIN + side(0), MARGIN + side(0) + BETWEEN);
    let width = right + side(1) + MARGIN;
    let mut notes: Vec<String> =
        slopes.notes.iter().flat_map(|note| wrapped(note, SMALL, width - 2.0 * MARGIN, usize::MAX)).collect();
    if notes.len() > MOST_NOTES {
        notes.truncate(MOST_NOTES - 1);
        notes.push("More in report.md.".into());
    }
    let looks = looks(&slopes.mixers);
    let mut picture = Picture { width, height: 0.0, marks: Vec::new() };
    let mut top = MARGIN / 2.0;
    for slope in &slopes.panels {
        for title in wrapped(&slope.title, LABEL + 1.0, width - 2.0 * MARGIN, 2) {
            picture.text((MARGIN, top + LINE / 2.0), &title, LABEL + 1.0, Anchor::Start, INK);
            top += LINE + 2.0;
        }
        picture.text((left + 4.0, top + HEAD / 2.0), &slopes.sides[0], SMALL, Anchor::End, GREY);
        picture.text((right - 4.0, top + HEAD / 2.0), &slopes.sides[1], SMALL, Anchor::Start, GREY);
        top += HEAD;
        for (place, entry) in slope.entries.iter().enumerate() {
            let at = |place: usize| top + ROW * (place as f64 + 0.5);
            draw(&mut picture, slopes, entry, [(left, at(place)), (right, at(entry.right))], names, looks[entry.mixer]);
        }
        top += ROW * slope.entries.len() as f64 + 12.0;
    }
    for note in notes {
        picture.text((MARGIN, top + LINE / 2.0), &note, SMALL, Anchor::Start, GREY);
        top += LINE;
    }
    picture.height = top + MARGIN / 2.0;
    picture
}

fn draw(picture: &mut Picture, slopes: &Slopes, entry: &Entry, ends: [Place; 2], names: f64, look: Look) {
    let [(left, left_y), (right, right_y)] = ends;
    stroke(picture, &[(left + 6.0, left_y), (right - 6.0, right_y)], look);
    picture.marker((left, left_y), 3.0, look);
    picture.marker((right, right_y), 3.0, look);
    let name = &slopes.mixers[entry.mixer];
    picture.text((left - 9.0, left_y), &entry.ranks[0], SMALL, Anchor::End, INK);
    picture.text((left - RANK, left_y), name, LABEL, Anchor::End, INK);
    picture.text((left - RANK - names - GAP, left_y), &entry.values[0], SMALL, Anchor::End, GREY);
    picture.text((right + 9.0, right_y), &entry.ranks[1], SMALL, Anchor::Start, INK);
    picture.text((right + RANK, right_y), name, LABEL, Anchor::Start, INK);
    picture.text((right + RANK + names + GAP, right_y), &entry.values[1], SMALL, Anchor::Start, GREY);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_neither_overlap_nor_leave_the_picture() {
        for (panels, n) in [(1, 1), (1, 14), (2, 30)] {
            let entry = |i: usize| Entry {
                mixer: i,
                ranks: [format!("{}", i + 1), "13.5".into()],
                values: ["4.100 [4.075, 4.125]".into(), "1.59".into()],
                right: n - 1 - i,
            };
            let slope = |k: usize| Slope {
                title: format!("a task with quite a long name that nobody would like to type at d_model={k} ")
                    .repeat(4),
                entries: (0..n).map(entry).collect(),
            };
            let slopes = Slopes {
                panels: (0..panels).map(slope).collect(),
                mixers: (0..n).map(|i| format!("quasiseparable_dd_{i}")).collect(),
                sides: ["loss over seeds, best on top".into(), "C4-MLM-loss as published".into()],
                notes: vec!["Not ranked: mixer_3 on everything at all lengths (3 failed). ".repeat(6)],
            };
            crate::plot::tests::apart(&picture(&slopes));
        }
    }
}
