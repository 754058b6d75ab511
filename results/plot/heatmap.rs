//! Matrices as heat maps, one panel each: white is 0, blue positive, orange negative.
//!
//! Panels are compared by shape, not by size: each has its own scale, up to the 95th percentile of its non-zero magnitudes,
//! so that a strong diagonal or first row does not bleach the rest. A matrix without negative entries has the blue half alone.

use super::marks::{Anchor, GREY, INK, PALE, Picture, Place, SCALE, shortened, text_width};
use super::{PlotError, write};
use plotters::style::RGBColor;
use std::path::Path;

/// Share of the non-zero magnitudes that the colours tell apart; larger ones look alike.
const SHARE: f64 = 0.95;
/// A panel's side is as near to this as whole device pixels a cell allow.
const SIDE: f64 = 152.0;
/// More rows or columns are drawn in blocks.
const MOST_CELLS: usize = 456;
const MARGIN: f64 = 14.0;
const TITLE: f64 = 12.0;
const SMALL: f64 = 10.0;
const LINE: f64 = 14.0;
const TICKS: f64 = 26.0; // left of a panel
const BAR: f64 = 7.0;
const BAR_GAP: f64 = 6.0;
const AXIS_NAME: f64 = 16.0;
const GAP: f64 = 12.0;

/// From 0 to the end of the scale.
const POSITIVE: [RGBColor; 5] = [
    RGBColor(255, 255, 255),
    RGBColor(190, 219, 239),
    RGBColor(96, 168, 214),
    RGBColor(0, 104, 166),
    RGBColor(0, 42, 84),
];
const NEGATIVE: [RGBColor; 5] = [
    RGBColor(255, 255, 255),
    RGBColor(252, 214, 186),
    RGBColor(240, 148, 82),
    RGBColor(196, 84, 0),
    RGBColor(104, 36, 0),
];
/// Shades from 0 to the end of the scale.
const SHADES: f32 = 63.0;

/// A figure of matrices.
#[derive(Clone, Debug)]
pub struct Figure {
    /// In reading order.
    pub panels: Vec<Panel>,
    /// Panels side by side; `None`: by their number.
    pub columns: Option<usize>,
    /// What is on the axes: rows, then columns.
    pub axes: [String; 2],
    /// Sentences below the panels; how the colours are scaled is added.
    pub caption: String,
}

/// One matrix with its title.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What it is of; takes up to two lines.
    pub title: String,
    /// Smaller lines below the title.
    pub subtitles: Vec<String>,
    /// The matrix, or why there is none.
    pub content: Result<Matrix, String>,
}

/// Entries, row by row.
#[derive(Clone, Debug, PartialEq)]
pub struct Matrix {
    columns: usize,
    values: Vec<f32>,
}

/// How far a matrix's colours reach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// The magnitude that has the darkest colour.
    pub limit: f32,
    /// Whether some entries are negative.
    pub signed: bool,
    /// Whether some entries lie above `limit`, and whether some lie below `-limit`.
    pub clipped: [bool; 2],
}

impl Matrix {
    /// `values` row by row, `columns` to a row; `None` where that is no matrix of finite numbers.
    pub fn new(columns: usize, values: Vec<f32>) -> Option<Self> {
        let whole = columns > 0 && !values.is_empty() && values.len().is_multiple_of(columns);
        (whole && values.iter().all(|v| v.is_finite())).then_some(Self { columns, values })
    }

    /// Rows.
    pub fn rows(&self) -> usize {
        self.values.len() / self.columns
    }

    /// Columns.
    pub fn columns(&self) -> usize {
        self.columns
    }

    /// Entries, row by row.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Its colour scale.
    pub fn scale(&self) -> Scale {
        let mut sizes: Vec<f32> = self.values.iter().map(|v| v.abs()).filter(|v| *v > 0.0).collect();
        sizes.sort_by(f32::total_cmp);
        let rank = (SHARE * sizes.len() as f64).ceil() as usize;
        let limit = sizes.get(rank.saturating_sub(1)).copied().unwrap_or(1.0);
        let beyond = |sign: f32| self.values.iter().any(|v| sign * v > limit * 1.005);
        Scale { limit, signed: self.values.iter().any(|v| *v < 0.0), clipped: [beyond(1.0), beyond(-1.0)] }
    }

    /// The same with every `factor` by `factor` block replaced by its entry of largest magnitude: a thin diagonal stays.
    fn in_blocks(&self, factor: usize) -> Self {
        if factor <= 1 {
            return self.clone();
        }
        let (rows, columns) = (self.rows().div_ceil(factor), self.columns.div_ceil(factor));
        let mut values = vec![0f32; rows * columns];
        for (i, value) in self.values.iter().enumerate() {
            let slot = &mut values[i / self.columns / factor * columns + i % self.columns / factor];
            if value.abs() > slot.abs() {
                *slot = *value;
            }
        }
        Self { columns, values }
    }
}

/// Draws `figure` as SVG or PNG, by the path's extension.
pub fn draw(figure: &Figure, path: &Path) -> Result<(), PlotError> {
    if figure.panels.is_empty() {
        return Err(PlotError::Empty { path: path.into(), what: "no matrix was given" });
    }
    write(&picture(figure), path)
}

/// The colour of `value` where `limit` has the darkest.
pub(super) fn colour(value: f32, limit: f32) -> RGBColor {
    let anchors = if value < 0.0 { &NEGATIVE } else { &POSITIVE };
    // Few shades keep an SVG small: it has a path for each.
    let t = ((value.abs() / limit).min(1.0) * SHADES).round() / SHADES * (anchors.len() - 1) as f32;
    let i = (t as usize).min(anchors.len() - 2);
    let (low, high, part) = (anchors[i], anchors[i + 1], t - i as f32);
    let mix = |a: u8, b: u8| (f32::from(a) + (f32::from(b) - f32::from(a)) * part).round() as u8;
    RGBColor(mix(low.0, high.0), mix(low.1, high.1), mix(low.2, high.2))
}

/// Panels side by side, for so many.
fn columns(panels: usize) -> usize {
    match panels {
        0..=4 => panels.max(1),
        5 | 6 | 9 => 3,
        _ => 4,
    }
}

fn picture(figure: &Figure) -> Picture {
    let columns = figure.columns.unwrap_or_else(|| columns(figure.panels.len())).clamp(1, figure.panels.len().max(1));
    let matrices = || figure.panels.iter().filter_map(|panel| panel.content.as_ref().ok());
    let longest = matrices().map(|m| m.columns.max(m.rows())).max().unwrap_or(1);
    let factor = longest.div_ceil(MOST_CELLS);
    let cells = longest.div_ceil(factor) as f64;
    let side = cells * (SIDE * SCALE / cells).round().max(1.0) / SCALE;

    let bar_labels =
        matrices().flat_map(|m| ends(m.scale())).map(|label| text_width(&label, SMALL)).fold(20.0, f64::max);
    let wide = TICKS + side + BAR_GAP + BAR + 4.0 + bar_labels + GAP;
    let heads: Vec<Vec<(String, bool)>> = figure.panels.iter().map(|panel| head(panel, wide - TICKS - GAP)).collect();
    let lines = figure.panels.len().div_ceil(columns);
    let width = MARGIN + AXIS_NAME + columns as f64 * wide - GAP + MARGIN;
    let mut picture = Picture { width, height: 0.0, marks: Vec::new() };
    let mut top = MARGIN;
    for line in 0..lines {
        let here = line * columns..figure.panels.len().min((line + 1) * columns);
        let head_height = heads[here.clone()].iter().map(Vec::len).max().unwrap_or(0) as f64 * LINE + 5.0;
        // The lowest matrix of a column names its axis.
        let last = |i: usize| {
            let mut below = figure.panels.iter().skip(i + columns).step_by(columns);
            figure.panels[i].content.is_ok() && below.all(|panel| panel.content.is_err())
        };
        for i in here.clone() {
            let left = MARGIN + AXIS_NAME + (i - line * columns) as f64 * wide + TICKS;
            for (k, (text, strong)) in heads[i].iter().enumerate() {
                // Against the panel, whatever the neighbours' titles need.
                let y = top + head_height - 5.0 - LINE * (heads[i].len() - k) as f64 + LINE / 2.0;
                let (size, colour) = if *strong { (TITLE, INK) } else { (SMALL, GREY) };
                picture.text((left, y), text, size, Anchor::Start, colour);
            }
            let corner = (left, top + head_height);
            match &figure.panels[i].content {
                Ok(matrix) => panel(&mut picture, corner, side, matrix, factor, last(i).then_some(&figure.axes[1])),
                Err(why) => absent(&mut picture, corner, side, why),
            }
        }
        let middle = (MARGIN + SMALL / 2.0, top + head_height + side / 2.0);
        picture.upright_text(middle, &figure.axes[0], SMALL, Anchor::Middle, INK);
        top += head_height + side + 18.0 + if here.clone().any(last) { AXIS_NAME } else { 8.0 };
    }
    top += 4.0;
    for text in wrapped(&caption(figure, factor), SMALL, width - 2.0 * MARGIN, usize::MAX) {
        picture.text((MARGIN, top + LINE / 2.0), &text, SMALL, Anchor::Start, GREY);
        top += LINE;
    }
    picture.height = top + MARGIN / 2.0;
    picture
}

/// What the colours mean, as far as this figure needs it said.
fn caption(figure: &Figure, factor: usize) -> String {
    let scales: Vec<Scale> = figure.panels.iter().filter_map(|p| p.content.as_ref().ok()).map(Matrix::scale).collect();
    let mut text = figure.caption.trim().to_string();
    if scales.is_empty() {
        return text;
    }
    let sides =
        if scales.iter().any(|s| s.signed) { "Blue is positive, orange negative, white 0." } else { "White is 0." };
    text += &format!(" {sides} Each panel has its own linear scale");
    if scales.iter().any(|s| s.clipped.contains(&true)) {
        text += ", up to the 95th percentile of its non-zero magnitudes; entries beyond it (≥, ≤) have the colour of its end";
    }
    text += ".";
    if factor > 1 {
        text += &format!(" A cell shows the entry of largest magnitude among {factor} × {factor}.");
    }
    text.trim().into()
}

/// Title and subtitles as lines that fit; `true` for the title's.
fn head(panel: &Panel, width: f64) -> Vec<(String, bool)> {
    let title = wrapped(&panel.title, TITLE, width, 2).into_iter().map(|line| (line, true));
    let below = panel.subtitles.iter().flat_map(|text| wrapped(text, SMALL, width, 2)).map(|line| (line, false));
    title.chain(below).collect()
}

fn panel(picture: &mut Picture, (left, top): Place, side: f64, matrix: &Matrix, factor: usize, axis: Option<&String>) {
    let (right, bottom) = (left + side, top + side);
    let scale = matrix.scale();
    let blocks = matrix.in_blocks(factor);
    let colours = blocks.values.iter().map(|v| colour(*v, scale.limit)).collect();
    picture.cells((left, top), (side, side), blocks.columns, colours);
    picture.line(&[(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], INK, 0.67);
    for tick in ticks(matrix.rows()) {
        let y = top + side * (tick as f64 + 0.5) / matrix.rows() as f64;
        picture.line(&[(left - 3.5, y), (left, y)], INK, 0.67);
        picture.text((left - 6.0, y), &tick.to_string(), SMALL, Anchor::End, INK);
    }
    for tick in ticks(matrix.columns) {
        let x = left + side * (tick as f64 + 0.5) / matrix.columns as f64;
        picture.line(&[(x, bottom), (x, bottom + 3.5)], INK, 0.67);
        picture.text((x, bottom + 11.0), &tick.to_string(), SMALL, Anchor::Middle, INK);
    }
    if let Some(name) = axis {
        picture.text(((left + right) / 2.0, bottom + 26.0), name, SMALL, Anchor::Middle, INK);
    }
    bar(picture, (right + BAR_GAP, top), side, scale);
}

/// The colour bar with its ends.
pub(super) fn bar(picture: &mut Picture, (left, top): Place, side: f64, scale: Scale) {
    let (right, bottom) = (left + BAR, top + side);
    let shades = SHADES as i32;
    let least = if scale.signed { -shades } else { 0 };
    let colours = (least..=shades).rev().map(|shade| colour(shade as f32, SHADES)).collect();
    picture.cells((left, top), (BAR, side), 1, colours);
    picture.line(&[(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], INK, 0.5);
    let [high, low] = ends(scale);
    let x = right + 4.0;
    picture.text((x, top + 4.0), &high, SMALL, Anchor::Start, INK);
    picture.text((x, bottom - 4.0), &low, SMALL, Anchor::Start, INK);
    if scale.signed {
        picture.text((x, (top + bottom) / 2.0), "0", SMALL, Anchor::Start, INK);
    }
}

/// What stands at the upper and the lower end of a colour bar.
fn ends(scale: Scale) -> [String; 2] {
    let limit = short(scale.limit);
    let marked = |end: usize, mark: &'static str| if scale.clipped[end] { mark } else { "" };
    let low = if scale.signed { format!("{}−{limit}", marked(1, "≤ ")) } else { "0".into() };
    [format!("{}{limit}", marked(0, "≥ ")), low]
}

/// Two digits that count: `0.31`, `12`, `3.1e−5`.
fn short(value: f32) -> String {
    let power = value.abs().log10().floor();
    match power {
        p if !p.is_finite() => "0".into(),
        p if (-3.0..0.0).contains(&p) => format!("{value:.*}", (1.0 - p) as usize),
        p if (0.0..1.0).contains(&p) => format!("{value:.1}"),
        p if (1.0..4.0).contains(&p) => format!("{value:.0}"),
        _ => format!("{value:.1e}").replace("e-", "e−"),
    }
}

/// A panel without a matrix: why.
fn absent(picture: &mut Picture, (left, top): Place, side: f64, why: &str) {
    let (right, bottom) = (left + side, top + side);
    picture.line(&[(left, top), (right, top), (right, bottom), (left, bottom), (left, top)], PALE, 0.67);
    let lines = wrapped(why, SMALL, side - 16.0, ((side - 12.0) / LINE) as usize);
    let first = (top + bottom) / 2.0 - LINE * (lines.len() as f64 - 1.0) / 2.0;
    for (i, line) in lines.iter().enumerate() {
        picture.text(((left + right) / 2.0, first + LINE * i as f64), line, SMALL, Anchor::Middle, GREY);
    }
}

/// Round positions from 0, at most five.
fn ticks(count: usize) -> Vec<usize> {
    let nice = (0..9).flat_map(|power| [1, 2, 4, 8].map(|digit| digit * 16_usize.pow(power)));
    let step = nice.into_iter().find(|step| count.div_ceil(*step) <= 5).unwrap_or(count.max(1));
    (0..count).step_by(step).collect()
}

/// Lines of at most `width`, broken at spaces, at most `most` of them: what is left is cut.
pub(super) fn wrapped(text: &str, size: f64, width: f64, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let longer = lines.last().map(|line| format!("{line} {word}"));
        match (longer, lines.last_mut()) {
            (Some(longer), Some(line)) if fits(&longer, size, width) => *line = longer,
            _ => lines.push(word.into()),
        }
    }
    if lines.len() > most {
        let rest = lines.split_off(most.saturating_sub(1)).join(" ");
        lines.push(rest);
    }
    lines.into_iter().map(|line| shortened(&line, size, width)).collect()
}

fn fits(line: &str, size: f64, width: f64) -> bool {
    text_width(line, size) <= width
}

#[cfg(test)]
mod tests {
    use super::super::marks::Mark;
    use super::*;
    use std::fs;

    fn matrix(n: usize, entry: impl Fn(usize, usize) -> f32) -> Matrix {
        Matrix::new(n, (0..n * n).map(|i| entry(i / n, i % n)).collect()).expect("finite")
    }

    fn figure(panels: usize, n: usize) -> Figure {
        let panel = |i: usize| Panel {
            title: format!("mixer {i}: a setting 12, and another with a rather long name, and one more"),
            subtitles: vec!["layer 0, head 3 of 128".into(), "trained (step 1200 of 100000), run 0123abcd".into()],
            content: match i % 3 {
                2 => Err("no mixing matrix: the two directions are multiplied".into()),
                1 => Ok(matrix(n, |t, s| if s <= t { 1.0 / (1.0 + t as f32) } else { 0.0 })),
                _ => Ok(matrix(n, |t, s| (t as f32 - s as f32) * 1e-6)),
            },
        };
        let axes = ["output position t".into(), "input position s".into()];
        Figure { panels: (0..panels).map(panel).collect(), columns: None, axes, caption: "Words.".into() }
    }

    #[test]
    fn the_scale_ends_at_the_95th_percentile_of_what_is_not_zero() {
        // A hundred entries 1 to 100 among as many zeros.
        let ramp = Matrix::new(20, (0..200).map(|i| (i % 101) as f32 * f32::from(i < 101)).collect()).expect("finite");
        assert_eq!(ramp.scale(), Scale { limit: 95.0, signed: false, clipped: [true, false] });
        let spike = matrix(10, |t, s| if (t, s) == (3, 4) { -50.0 } else { 2.0 });
        assert_eq!(spike.scale(), Scale { limit: 2.0, signed: true, clipped: [false, true] });
        let flat = matrix(4, |_, _| 0.0);
        assert_eq!(flat.scale(), Scale { limit: 1.0, signed: false, clipped: [false, false] });
    }

    #[test]
    fn zero_is_white_and_a_larger_magnitude_is_darker_on_either_side() {
        let light = |RGBColor(r, g, b): RGBColor| 2 * u32::from(r) + 7 * u32::from(g) + u32::from(b);
        assert_eq!(colour(0.0, 1.0), RGBColor(255, 255, 255));
        for sign in [1.0, -1.0] {
            let shades: Vec<u32> = (0..=63).map(|i| light(colour(sign * i as f32 / 63.0, 1.0))).collect();
            assert!(shades.windows(2).all(|pair| pair[0] > pair[1]), "{shades:?}");
            assert_eq!(colour(sign * 9.0, 1.0), colour(sign, 1.0), "beyond the scale is its end");
        }
        let (up, down) = (colour(0.6, 1.0), colour(-0.6, 1.0));
        assert!(up.2 > up.0 && down.0 > down.2, "blue is positive, orange negative: {up:?} {down:?}");
    }

    #[test]
    fn a_block_keeps_its_largest_magnitude_with_its_sign() {
        let diagonal = matrix(7, |t, s| if t == s { -3.0 } else { 0.5 });
        let blocks = diagonal.in_blocks(3);
        assert_eq!((blocks.rows(), blocks.columns()), (3, 3));
        assert_eq!(blocks.values, [-3.0, 0.5, 0.5, 0.5, -3.0, 0.5, 0.5, 0.5, -3.0]);
    }

    #[test]
    fn numbers_that_are_no_matrix_are_refused() {
        assert!(Matrix::new(2, vec![1.0; 3]).is_none());
        assert!(Matrix::new(0, vec![1.0]).is_none());
        assert!(Matrix::new(2, vec![]).is_none());
        assert!(Matrix::new(1, vec![f32::NAN]).is_none());
    }

    #[test]
    fn labels_neither_overlap_nor_leave_the_picture() {
        for n in [1, 2, 33, 64, 1000] {
            for panels in [1, 2, 4, 7, 8, 11] {
                let picture = picture(&figure(panels, n));
                let mut boxes: Vec<(String, [f64; 4])> = Vec::new();
                for mark in &picture.marks {
                    let Mark::Text { at, text, size, anchor, upright, .. } = mark else { continue };
                    let width = text_width(text, *size);
                    let before = match anchor {
                        Anchor::Start => 0.0,
                        Anchor::Middle => width / 2.0,
                        Anchor::End => width,
                    };
                    let half = size / 2.0;
                    let new = match upright {
                        false => [at.0 - before, at.1 - half, at.0 - before + width, at.1 + half],
                        true => [at.0 - half, at.1 + before - width, at.0 + half, at.1 + before],
                    };
                    let [left, top, right, bottom] = new;
                    assert!(left >= 0.0 && top >= 0.0 && right <= picture.width && bottom <= picture.height, "{text}");
                    for (other, [l, t, r, b]) in &boxes {
                        let apart = right <= *l || *r <= left || bottom <= *t || *b <= top;
                        assert!(apart, "{text} lies over {other}: {panels} panels of {n}");
                    }
                    boxes.push((text.clone(), new));
                }
            }
        }
    }

    #[test]
    fn both_kinds_of_file_are_whole_and_an_svg_stays_small() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let figure = figure(8, 64);
        for kind in ["svg", "png"] {
            draw(&figure, &folder.path().join(format!("matrix.{kind}"))).expect("draws");
        }
        let svg = fs::read_to_string(folder.path().join("matrix.svg")).expect("reads");
        for text in
            ["output position t", "input position s", "no mixing matrix: the", "95th percentile", "head 3 of 128"]
        {
            assert!(svg.contains(text), "{text}");
        }
        assert!(svg.trim_end().ends_with("</svg>") && svg.len() < 1_000_000, "{} bytes", svg.len());
        let cells = svg.find("crispEdges").expect("cells");
        assert!(svg.find("<polyline").is_some_and(|frame| cells < frame), "frames lie over cells");
        let png = fs::read(folder.path().join("matrix.png")).expect("reads");
        assert!(png.starts_with(b"\x89PNG") && png.ends_with(b"IEND\xaeB`\x82"), "a whole PNG");
        assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 2, "no temporary file is left");
        assert!(matches!(draw(&figure, &folder.path().join("matrix.gif")), Err(PlotError::Kind { .. })));
        let nothing = Figure { panels: Vec::new(), ..figure };
        assert!(matches!(draw(&nothing, &folder.path().join("none.svg")), Err(PlotError::Empty { .. })));
    }

    #[test]
    fn a_number_has_two_digits_that_count() {
        for (value, text) in
            [(0.314, "0.31"), (0.0042, "0.0042"), (0.00042, "4.2e−4"), (7.26, "7.3"), (123.4, "123"), (0.0, "0")]
        {
            assert_eq!(short(value), text);
        }
    }

    #[test]
    fn ticks_are_few_and_start_at_the_first_position() {
        for count in [1, 2, 5, 31, 48, 64, 100, 256, 1000, 2048] {
            let ticks = ticks(count);
            assert!(ticks[0] == 0 && ticks.len() <= 5 && *ticks.last().expect("one") < count, "{count}: {ticks:?}");
            assert!(count < 3 || ticks.len() >= 3, "{count}: {ticks:?}");
        }
    }
}
