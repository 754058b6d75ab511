//! A picture as a list of marks in CSS pixels, and plotters to draw it. Layout stays apart from drawing: it can be tested.

use ab_glyph::{Font, FontRef, PxScale, ScaleFont, point};
use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use plotters::style::{FontStyle, FontTransform, register_font};
use std::any::Any;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::path::Path;

/// Device pixels per CSS pixel: 288 dots per inch.
pub(super) const SCALE: f64 = 3.0;
/// plotters writes a font of height h into an SVG as h / 1.24 pixels per em.
const SVG_HEIGHT: f64 = 1.24;
/// Half the height of a small letter in em: a text's middle lies so far above its baseline.
const MIDDLE: f64 = 0.26;
/// Metric-compatible with Arial and Helvetica: an SVG shown with those keeps its layout.
const FAMILIES: &str = "Liberation Sans, Arial, Helvetica, sans-serif";
static FONT: &[u8] = include_bytes!("../fonts/LiberationSans-Regular.ttf");

pub(super) const INK: RGBColor = RGBColor(30, 30, 30);
pub(super) const GREY: RGBColor = RGBColor(110, 110, 110);
pub(super) const PALE: RGBColor = RGBColor(228, 228, 228);
pub(super) const BAND: RGBColor = RGBColor(247, 247, 247);

/// Height of a line of notes below a plot, and the size of its text.
pub(super) const NOTE: f64 = 15.0;
const NOTE_TEXT: f64 = 10.5;
/// Characters of a text that are drawn and measured: a record may hold any.
const LONGEST: usize = 400;

/// Okabe & Ito's colours for every kind of sight, without the yellow that vanishes on white.
const COLOURS: [RGBColor; 7] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(70, 70, 70),
];

/// Lighter variants of a colour.
pub(super) trait Lighter {
    /// For points that may lie over each other.
    fn into_half(self) -> RGBAColor;
    /// For lines in the background.
    fn into_faint(self) -> RGBAColor;
    /// For bands that lines lie in.
    fn into_veil(self) -> RGBAColor;
}

impl Lighter for RGBColor {
    fn into_half(self) -> RGBAColor {
        self.mix(0.6)
    }

    fn into_faint(self) -> RGBAColor {
        self.mix(0.35)
    }

    fn into_veil(self) -> RGBAColor {
        self.mix(0.12)
    }
}

/// A mixer's look: the eighth and later mixers repeat the colours with dashes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Look {
    pub(super) colour: RGBColor,
    pub(super) dashed: bool,
}

impl Look {
    /// Place of its colour, which decides the shape of its marker.
    fn shape(self) -> usize {
        COLOURS.iter().position(|colour| *colour == self.colour).unwrap_or(0)
    }
}

/// A look for each name. It follows from the name (FNV-1a), so a mixer keeps its colour from sweep to sweep unless an
/// earlier one of the same sweep has it already.
pub(super) fn looks(names: &[String]) -> Vec<Look> {
    let hash = |name: &str| name.bytes().fold(0x811c_9dc5_u32, |h, b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
    let mut taken = Vec::new();
    for name in names {
        let round = taken.len() / COLOURS.len() * COLOURS.len();
        let wanted = hash(name) as usize % COLOURS.len();
        let free = (0..COLOURS.len()).map(|i| round + (wanted + i) % COLOURS.len()).find(|slot| !taken.contains(slot));
        taken.push(free.unwrap_or(round));
    }
    taken.iter().map(|slot| Look { colour: COLOURS[slot % COLOURS.len()], dashed: *slot >= COLOURS.len() }).collect()
}

/// Where a text lies about its point; vertically always its middle.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A place in CSS pixels, down and right from the upper left corner.
pub(super) type Place = (f64, f64);

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Mark {
    Line {
        points: Vec<Place>,
        colour: RGBAColor,
        width: f64,
    },
    Fill {
        points: Vec<Place>,
        colour: RGBAColor,
    },
    Dot {
        at: Place,
        radius: f64,
        colour: RGBAColor,
    },
    /// `upright` reads upwards, turned about its point.
    Text {
        at: Place,
        text: String,
        size: f64,
        anchor: Anchor,
        colour: RGBColor,
        upright: bool,
    },
    /// Cells that fill a rectangle from its upper left corner `at`, row by row; below all other marks in an SVG.
    Cells {
        at: Place,
        size: Place,
        columns: usize,
        colours: Vec<RGBColor>,
    },
}

/// What can be drawn.
pub(crate) trait Drawable: Any + Debug {
    fn picture(&self) -> Picture;
}

/// Marks in drawing order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Picture {
    pub(super) width: f64,
    pub(super) height: f64,
    pub(super) marks: Vec<Mark>,
}

impl Picture {
    pub(super) fn line(&mut self, points: &[Place], colour: impl Into<RGBAColor>, width: f64) {
        self.marks.push(Mark::Line { points: points.to_vec(), colour: colour.into(), width });
    }

    /// Dashes and gaps of `dash` pixels along the whole path.
    pub(super) fn dashes(&mut self, points: &[Place], colour: impl Into<RGBAColor>, width: f64, dash: f64) {
        let colour = colour.into();
        let (mut done, mut stroke) = (0.0, Vec::new());
        for pair in points.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            let length = (b.0 - a.0).hypot(b.1 - a.1);
            let at = |s: f64| (a.0 + (b.0 - a.0) * s / length, a.1 + (b.1 - a.1) * s / length);
            let mut s = 0.0;
            while s < length {
                let inked = ((done / dash) as u64).is_multiple_of(2);
                let step = (dash - done % dash).max(1e-6).min(length - s);
                if inked {
                    if stroke.is_empty() {
                        stroke.push(at(s));
                    }
                    stroke.push(at(s + step));
                }
                (s, done) = (s + step, done + step);
                let ends = (done / dash + 1e-9) as u64 % 2 == 1;
                if ends && stroke.len() > 1 {
                    self.line(&std::mem::take(&mut stroke), colour, width);
                }
            }
        }
        if stroke.len() > 1 {
            self.line(&stroke, colour, width);
        }
    }

    pub(super) fn rectangle(&mut self, (left, top): Place, (right, bottom): Place, colour: impl Into<RGBAColor>) {
        let points = vec![(left, top), (right, top), (right, bottom), (left, bottom)];
        self.marks.push(Mark::Fill { points, colour: colour.into() });
    }

    pub(super) fn dot(&mut self, at: Place, radius: f64, colour: impl Into<RGBAColor>) {
        self.marks.push(Mark::Dot { at, radius, colour: colour.into() });
    }

    pub(super) fn diamond(&mut self, (x, y): Place, radius: f64, colour: impl Into<RGBAColor>) {
        let points = vec![(x - radius, y), (x, y - radius), (x + radius, y), (x, y + radius)];
        self.marks.push(Mark::Fill { points, colour: colour.into() });
    }

    /// A diamond's outline on white, so that what lies below does not fill it.
    pub(super) fn hollow_diamond(&mut self, (x, y): Place, radius: f64, colour: impl Into<RGBAColor>) {
        let points = [(x - radius, y), (x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)];
        self.diamond((x, y), radius, WHITE);
        self.line(&points, colour, 1.2);
    }

    /// A point of a mixer's line: each colour has its shape, and a dashed look is hollow.
    pub(super) fn marker(&mut self, at: Place, radius: f64, look: Look) {
        let (x, y) = at;
        // Corners on the circle, from `turn` twelfths of a turn clockwise off the top, and areas about alike.
        let polygon = |corners: usize, turn: f64, grow: f64| -> Vec<Place> {
            let angle = |i: usize| std::f64::consts::TAU * (turn / 12.0 + i as f64 / corners as f64);
            let place = |i: usize| (x + grow * radius * angle(i).sin(), y - grow * radius * angle(i).cos());
            (0..corners).map(place).collect()
        };
        let points = match look.shape() {
            0 => {
                self.dot(at, radius, look.colour);
                if look.dashed {
                    self.dot(at, radius - 1.1, WHITE);
                }
                return;
            }
            1 => polygon(4, 1.5, 1.25),
            2 => polygon(3, 0.0, 1.45),
            3 => polygon(4, 0.0, 1.35),
            4 => polygon(3, 6.0, 1.45),
            5 => polygon(3, 3.0, 1.45),
            _ => polygon(3, 9.0, 1.45),
        };
        let fill = if look.dashed { WHITE } else { look.colour };
        self.marks.push(Mark::Fill { points: points.clone(), colour: fill.into() });
        if look.dashed {
            let closed: Vec<Place> = points.iter().chain(points.first()).copied().collect();
            self.line(&closed, look.colour, 1.0);
        }
    }

    pub(super) fn fill(&mut self, points: Vec<Place>, colour: impl Into<RGBAColor>) {
        self.marks.push(Mark::Fill { points, colour: colour.into() });
    }

    pub(super) fn cross(&mut self, (x, y): Place, radius: f64, colour: impl Into<RGBAColor>) {
        let colour = colour.into();
        self.line(&[(x - radius, y - radius), (x + radius, y + radius)], colour, 1.33);
        self.line(&[(x - radius, y + radius), (x + radius, y - radius)], colour, 1.33);
    }

    pub(super) fn text(&mut self, at: Place, text: &str, size: f64, anchor: Anchor, colour: RGBColor) {
        self.marks.push(Mark::Text { at, text: label(text), size, anchor, colour, upright: false });
    }

    pub(super) fn upright_text(&mut self, at: Place, text: &str, size: f64, anchor: Anchor, colour: RGBColor) {
        self.marks.push(Mark::Text { at, text: label(text), size, anchor, colour, upright: true });
    }

    /// Sentences below each other, the first one's upper edge at `y`.
    pub(super) fn notes(&mut self, (x, y): Place, notes: &[String]) {
        for (i, note) in notes.iter().enumerate() {
            self.text((x, y + NOTE * (i as f64 + 0.5)), note, NOTE_TEXT, Anchor::Start, GREY);
        }
    }

    pub(super) fn cells(&mut self, at: Place, size: Place, columns: usize, colours: Vec<RGBColor>) {
        self.marks.push(Mark::Cells { at, size, columns, colours });
    }

    /// The picture as SVG text.
    pub(super) fn svg(&self) -> Result<String, String> {
        let (width, height) = self.pixels();
        let mut text = String::new();
        {
            let area = SVGBackend::with_string(&mut text, (width, height)).into_drawing_area();
            area.fill(&WHITE).map_err(|error| error.to_string())?;
            self.shapes(&area)?;
            self.texts(&area)?;
            area.present().map_err(|error| error.to_string())?;
        }
        // Drawn finely, shown at its size in CSS pixels.
        let fine = format!("width=\"{width}\" height=\"{height}\" viewBox");
        let shown = format!("width=\"{:.0}\" height=\"{:.0}\" viewBox", self.width, self.height);
        let text = text.replacen(&fine, &shown, 1);
        // After the white of the background, which is the first element.
        let text = match text.split_once("/>") {
            Some((background, rest)) => format!("{background}/>{}{rest}", self.cell_paths()),
            None => text,
        };
        Ok(text.replace("font-family=\"sans-serif\"", &format!("font-family=\"{FAMILIES}\"")))
    }

    /// Writes the picture to a file whose name ends in `.png`.
    pub(super) fn png(&self, path: &Path) -> Result<(), String> {
        let area = BitMapBackend::new(path, self.pixels()).into_drawing_area();
        area.fill(&WHITE).map_err(|error| error.to_string())?;
        self.cell_pixels(&area)?;
        self.shapes(&area)?;
        self.glyphs(&area)?;
        area.present().map_err(|error| error.to_string())
    }

    fn pixels(&self) -> (u32, u32) {
        ((self.width * SCALE).round() as u32, (self.height * SCALE).round() as u32)
    }

    fn shapes<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Result<(), String> {
        let places = |points: &[Place]| points.iter().copied().map(device).collect::<Vec<_>>();
        let pixels = |length: f64| (length * SCALE).round().max(1.0) as u32;
        for mark in &self.marks {
            match mark {
                Mark::Line { points, colour, width } => {
                    area.draw(&PathElement::new(places(points), colour.stroke_width(pixels(*width))))
                }
                Mark::Fill { points, colour } => area.draw(&Polygon::new(places(points), colour.filled())),
                Mark::Dot { at, radius, colour } => {
                    area.draw(&Circle::new(device(*at), pixels(*radius), colour.filled()))
                }
                Mark::Cells { .. } | Mark::Text { .. } => Ok(()),
            }
            .map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    fn cell_pixels<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Result<(), String> {
        for mark in &self.marks {
            let Mark::Cells { at, size, columns, colours } = mark else { continue };
            for (Square { left, top, right, bottom }, colour) in squares(*at, *size, *columns, colours) {
                for pixel in (top..bottom).flat_map(|y| (left..right).map(move |x| (x, y))) {
                    area.draw_pixel(pixel, &colour).map_err(|error| error.to_string())?;
                }
            }
        }
        Ok(())
    }

    /// Cells as one path a colour: plotters would write an element a cell.
    fn cell_paths(&self) -> String {
        let mut text = String::new();
        for mark in &self.marks {
            let Mark::Cells { at, size, columns, colours } = mark else { continue };
            let mut paths: BTreeMap<(u8, u8, u8), Vec<Square>> = BTreeMap::new();
            for (square, colour) in squares(*at, *size, *columns, colours).filter(|(_, colour)| *colour != WHITE) {
                let path = paths.entry((colour.0, colour.1, colour.2)).or_default();
                match path.last_mut() {
                    Some(last) if last.top == square.top && last.right == square.left => last.right = square.right,
                    _ => path.push(square),
                }
            }
            text += "\n<g shape-rendering=\"crispEdges\">";
            for ((r, g, b), path) in paths {
                text += &format!("\n<path fill=\"#{r:02x}{g:02x}{b:02x}\" d=\"");
                for Square { left, top, right, bottom } in path {
                    text += &format!("M{left} {top}H{right}V{bottom}H{left}z");
                }
                text += "\"/>";
            }
            text += "\n</g>";
        }
        text
    }

    /// Text as text.
    fn texts<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Result<(), String> {
        use_font()?;
        for mark in &self.marks {
            let Mark::Text { at, text, size, anchor, colour, upright } = mark else { continue };
            let h_pos = match anchor {
                Anchor::Start => HPos::Left,
                Anchor::Middle => HPos::Center,
                Anchor::End => HPos::Right,
            };
            let style = TextStyle::from(("sans-serif", size * SVG_HEIGHT * SCALE).into_font()).color(colour);
            let style = style.pos(Pos::new(h_pos, VPos::Center));
            let style = if *upright { style.transform(FontTransform::Rotate270) } else { style };
            area.draw(&Text::new(text.as_str(), device(*at), style)).map_err(|error| error.to_string())?;
        }
        Ok(())
    }

    /// Text as pixels. plotters would set each glyph without the space before it, and letters would touch.
    fn glyphs<DB: DrawingBackend>(&self, area: &DrawingArea<DB, Shift>) -> Result<(), String> {
        let font = font()?;
        for mark in &self.marks {
            let Mark::Text { at, text, size, anchor, colour, upright } = mark else { continue };
            let em = size * SCALE;
            let shift = match anchor {
                Anchor::Start => 0.0,
                Anchor::Middle => text_width(text, *size) / 2.0,
                Anchor::End => text_width(text, *size),
            };
            let (mut x, baseline) = (((at.0 - shift) * SCALE) as f32, (at.1 * SCALE + MIDDLE * em).round() as f32);
            for (glyph, advance) in advances(&font, text, em) {
                if let Some(outline) =
                    font.outline_glyph(glyph.with_scale_and_position(scale(&font, em), point(x, baseline)))
                {
                    let (left, top) = (outline.px_bounds().min.x as i32, outline.px_bounds().min.y as i32);
                    let mut failure = None;
                    outline.draw(|x, y, cover| {
                        let (x, y) = (left + x as i32, top + y as i32);
                        let about = device(*at);
                        let pixel = if *upright { (about.0 + y - about.1, about.1 - (x - about.0)) } else { (x, y) };
                        failure =
                            area.draw_pixel(pixel, &colour.mix(f64::from(cover.min(1.0)))).err().or(failure.take());
                    });
                    failure.map_or(Ok(()), |error| Err(error.to_string()))?;
                }
                x += advance;
            }
        }
        Ok(())
    }
}

/// A text as it is drawn: one line without characters that are not shown, of which XML has none, and no longer than a picture can be
/// wide.
fn label(text: &str) -> String {
    let line = crate::text::line(text);
    match line.char_indices().nth(LONGEST) {
        Some((end, _)) => line[..end].to_string() + "…",
        None => line.into_owned(),
    }
}

/// A cell in device pixels, right and bottom exclusive.
struct Square {
    left: i32,
    top: i32,
    right: i32,
    bottom: i32,
}

/// Where each cell lies; edges are rounded, so cells neither overlap nor leave gaps.
fn squares(
    at: Place,
    size: Place,
    columns: usize,
    colours: &[RGBColor],
) -> impl Iterator<Item = (Square, RGBColor)> + '_ {
    let rows = colours.len() / columns.max(1);
    let edge = move |column: usize, row: usize| {
        device((at.0 + size.0 * column as f64 / columns as f64, at.1 + size.1 * row as f64 / rows as f64))
    };
    colours.iter().enumerate().map(move |(i, colour)| {
        let ((left, top), (right, bottom)) = (edge(i % columns, i / columns), edge(i % columns + 1, i / columns + 1));
        (Square { left, top, right, bottom }, *colour)
    })
}

/// CSS pixels to device pixels.
fn device((x, y): Place) -> (i32, i32) {
    ((x * SCALE).round() as i32, (y * SCALE).round() as i32)
}

/// Registers the embedded font: no font of the system is ever asked for.
pub(crate) fn use_font() -> Result<(), String> {
    register_font("sans-serif", FontStyle::Normal, FONT).map_err(|_| "the embedded font cannot be read".into())
}

fn font() -> Result<FontRef<'static>, String> {
    FontRef::try_from_slice(FONT).map_err(|error| format!("the embedded font cannot be read: {error}"))
}

/// The scale at which an em is so many pixels: ab_glyph counts in the font's height.
fn scale(font: &FontRef, em: f64) -> PxScale {
    PxScale::from(em as f32 * font.height_unscaled() / font.units_per_em().unwrap_or(2048.0))
}

/// Each glyph and the way to the next.
fn advances<'a>(font: &'a FontRef, text: &'a str, em: f64) -> impl Iterator<Item = (ab_glyph::GlyphId, f32)> + 'a {
    let scaled = font.as_scaled(scale(font, em));
    let next = text.chars().skip(1).map(Some).chain([None]);
    text.chars().zip(next).map(move |(glyph, next)| {
        let glyph = font.glyph_id(glyph);
        let kern = next.map_or(0.0, |next| scaled.kern(glyph, font.glyph_id(next)));
        (glyph, scaled.h_advance(glyph) + kern)
    })
}

/// Width of a text in CSS pixels.
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    let text = text.char_indices().nth(LONGEST + 1).map_or(text, |(end, _)| &text[..end]);
    let Ok(font) = font() else { return 0.6 * size * text.chars().count() as f64 };
    f64::from(advances(&font, text, size).map(|(_, advance)| advance).sum::<f32>())
}

/// A mixer's line.
pub(super) fn stroke(picture: &mut Picture, points: &[Place], look: Look) {
    if look.dashed {
        picture.dashes(points, look.colour, 1.67, 4.0);
    } else {
        picture.line(points, look.colour, 1.67);
    }
}

/// How wide the notes below a plot are.
pub(super) fn below(notes: &[String]) -> f64 {
    widest(notes.iter().map(String::as_str), NOTE_TEXT)
}

/// The widest of some texts.
pub(super) fn widest<'a>(texts: impl Iterator<Item = &'a str>, size: f64) -> f64 {
    texts.map(|text| text_width(text, size)).fold(0.0, f64::max)
}

/// The text itself, or as much of it as fits, ended by `…`.
pub(super) fn shortened(text: &str, size: f64, width: f64) -> String {
    if text_width(text, size) <= width {
        return text.into();
    }
    let mut kept: Vec<char> = text.chars().take(LONGEST).collect();
    // Each pass measures the rest: halve what cannot fit by far.
    while kept.len() > 8 && text_width(&kept[..kept.len() / 2].iter().collect::<String>(), size) > width {
        kept.truncate(kept.len() / 2);
    }
    while !kept.is_empty() && text_width(&(kept.iter().collect::<String>() + "…"), size) > width {
        kept.pop();
    }
    kept.into_iter().collect::<String>().trim_end().to_string() + "…"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mixers_of_one_plot_look_different() {
        let names: Vec<String> = (0..14).map(|i| format!("mixer{i}")).collect();
        let looks = looks(&names);
        for (i, look) in looks.iter().enumerate() {
            assert!(!looks[..i].contains(look), "{i} repeats a look");
        }
    }

    #[test]
    fn a_mixer_keeps_its_colour_when_others_come_after_it() {
        let names: Vec<String> = ["attention", "s4", "mamba"].map(String::from).to_vec();
        assert_eq!(looks(&names)[..2], looks(&names[..2]));
    }

    // Liberation Sans has the widths of Arial: an `i` is 455 and an `m` 1706 of 2048 units wide.
    #[test]
    fn texts_are_as_wide_as_in_arial() {
        assert!((text_width("i", 2048.0) - 455.0).abs() < 0.5);
        assert!((text_width("mmm", 2048.0) - 3.0 * 1706.0).abs() < 0.5);
    }

    #[test]
    fn dashes_cover_half_of_the_line() {
        let mut picture = Picture::default();
        picture.dashes(&[(0.0, 0.0), (0.0, 30.0), (50.0, 30.0)], INK, 1.0, 4.0);
        let length = |mark: &Mark| match mark {
            Mark::Line { points, .. } => points.windows(2).map(|p| (p[1].0 - p[0].0).hypot(p[1].1 - p[0].1)).sum(),
            _ => 0.0,
        };
        let inked: f64 = picture.marks.iter().map(length).sum();
        assert!((inked - 40.0).abs() < 1e-6, "{inked} of 80 is inked");
        assert_eq!(picture.marks.len(), 10);
    }

    #[test]
    fn a_long_name_is_shortened_to_fit() {
        let short = shortened("a very long name of a task that nobody would type", 13.0, 100.0);
        assert!(short.ends_with('…') && text_width(&short, 13.0) <= 100.0, "{short}");
        assert_eq!(shortened("mqar", 13.0, 100.0), "mqar");
    }
}
