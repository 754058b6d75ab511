//! Draws an image: two contours, distractors, two markers.
//!
//! ```text
//! repeat { seeds of both contours; then, contour_length - 1 times: extend the first, extend the second }
//!     until nothing failed; each distractor has five tries, and is left out when all fail
//! extend: an end by its weight, at most three times, until max(taken + room of its bar) < 1.8
//! ```
//! `taken` holds the room of all bars but the newest of each contour that still grows: a bar may touch its own
//! neighbour.

use super::bars::{Bars, LIKED};
use super::level::Level;
use super::place::{self, Fixed, Place};
use super::raster::Reduction;
use crate::Split;
use crate::core::rng::{Purpose, Stream};

/// An image with its label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Grey values, row by row.
    pub pixels: Vec<u8>,
    /// 1 when both markers lie on one contour.
    pub label: u8,
    /// The gap between bars, in pixels.
    pub gap: u8,
    /// Pairs of contours begun until one was whole.
    pub pairs: u32,
    /// Distractors drawn.
    pub distractors: u32,
    /// Pixels, row and column, of the two markers.
    pub markers: [(u16, u16); 2],
}

/// Draws the images of one level.
#[derive(Clone, Debug)]
pub struct Generator {
    level: Level,
    data_seed: u64,
    bars: Vec<Bars>,
    ring: Vec<(Fixed, Fixed)>,
    marker: Reduction,
    blank: Vec<u8>,
}

impl Generator {
    /// The generator of a resolution (32, 64, 128 or 256) and contour length (6, 9 or 14).
    pub fn new(resolution: u32, contour_length: u32, data_seed: u64) -> Self {
        let level = Level::new(resolution, contour_length);
        let bars = level.gaps.iter().map(|&gap| Bars::new(&level, gap)).collect();
        let distance = f64::from(level.seed_distance);
        let ring = (0..360).map(place::of_degree);
        let ring = ring.map(|a| (Fixed::of(distance * a.sin()), Fixed::of(distance * a.cos()))).collect();
        let side = level.side;
        let inner = level.padding..side - level.padding;
        let free = |i: usize| inner.contains(&(i / side)) && inner.contains(&(i % side));
        let blank = (0..side * side).map(|i| if free(i) { 0 } else { u8::MAX }).collect();
        Self { marker: Reduction::new(2 * side, side), level, data_seed, bars, ring, blank }
    }

    /// Image `index` of a split; the same on any machine.
    pub fn image(&self, split: Split, index: u64) -> Image {
        self.paint(&self.scene(split, index))
    }

    /// What image `index` of a split shows.
    pub(super) fn scene(&self, split: Split, index: u64) -> Scene<'_> {
        let mut stream = Stream::new(self.data_seed, Purpose::of_split("pathfinder", split), index);
        let label = stream.below(2) as u8;
        let bars = &self.bars[stream.below(self.bars.len() as u64) as usize];
        let mut field = Field::new(self, bars, stream);
        let mut pairs = 0;
        let targets = loop {
            pairs += 1;
            if let Some(targets) = field.targets() {
                break targets;
            }
        };
        let strokes = field.strokes.clone();
        field.strokes.clear();
        let distractors = (0..self.level.distractors).filter(|_| field.distractor()).count() as u32;
        let origin = field.stream.below(2) as usize;
        let terminal = if label == 1 { origin } else { 1 - origin };
        Scene { label, bars, strokes, distraction: field.strokes, distractors, pairs, targets, origin, terminal }
    }

    /// The image of a scene: the brightest of everything at each pixel, stretched to 0 ..= 255.
    pub(super) fn paint(&self, scene: &Scene) -> Image {
        const MARKER: u16 = 10; // contrasts are in tenths of this
        let side = self.level.side;
        let mut light = vec![0_u16; side * side];
        let mut lay = |start: usize, row: &[u8], contrast: u16| {
            for (pixel, &ink) in light[start..start + row.len()].iter_mut().zip(row) {
                *pixel = (*pixel).max(u16::from(ink) * contrast);
            }
        };
        let targets = (&scene.strokes, self.level.target_contrast);
        for (strokes, contrast) in [targets, (&scene.distraction, self.level.distractor_contrast)] {
            for &(bar, at) in strokes {
                scene.bars.bars[bar].ink.rows(at, side).for_each(|(start, row)| lay(start, row, contrast));
            }
        }
        let markers = scene.markers();
        for at in markers {
            self.disk(at).iter().for_each(|(start, row)| lay(*start, row, MARKER));
        }
        let (low, high) = light.iter().fold((u16::MAX, 0), |(low, high), &l| (low.min(l), high.max(l)));
        let (low, range) = (u32::from(low), u32::from(high - low));
        let stretch = |&l: &u16| ((2 * 255 * (u32::from(l) - low) + range) / (2 * range)) as u8;
        Image {
            pixels: light.iter().map(stretch).collect(),
            label: scene.label,
            gap: scene.bars.gap as u8,
            pairs: scene.pairs,
            distractors: scene.distractors,
            markers: markers.map(|at| (at.y as u16, at.x as u16)),
        }
    }

    /// A marker: for each row of the window that it touches, its first pixel and its pixels.
    fn disk(&self, at: Place) -> Vec<(usize, Vec<u8>)> {
        const SUPPORT: i32 = 4; // the filter reads 3 pixels to each side
        let (side, diameter) = (self.level.side, self.level.marker);
        let reach = diameter / 2 + 1 + SUPPORT;
        let around = |c: i32| (c - reach).max(0) as usize..((c + reach + 1) as usize).min(side);
        let (rows, columns) = (around(at.y), around(at.x));
        let white = |y: usize, x: usize| {
            let (dy, dx) = (y as i32 - 2 * at.y, x as i32 - 2 * at.x);
            if dy * dy + dx * dx <= diameter * diameter { u8::MAX } else { 0 }
        };
        let pixels = self.marker.window(white, rows.clone(), columns.clone());
        let lines = pixels.chunks_exact(columns.len()).zip(rows);
        lines.map(|(row, y)| (y * side + columns.start, row.to_vec())).collect()
    }
}

/// What an image shows.
#[derive(Clone, Debug)]
pub(super) struct Scene<'a> {
    pub label: u8,
    pub bars: &'a Bars,
    /// The bars of both targets, first and second in turns, with their starts.
    pub strokes: Vec<(usize, Place)>,
    /// The bars of the distractors.
    pub distraction: Vec<(usize, Place)>,
    pub distractors: u32,
    pub pairs: u32,
    pub targets: [Contour; 2],
    /// The target with a marker at its tail.
    pub origin: usize,
    /// The target with a marker at its tip.
    pub terminal: usize,
}

impl Scene<'_> {
    /// The middles of the markers.
    pub fn markers(&self) -> [Place; 2] {
        [self.targets[self.origin].tail, self.targets[self.terminal].tip]
    }
}

/// A contour while it grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contour {
    /// Where it began.
    pub tail: Place,
    /// Where its newest bar ends.
    pub tip: Place,
    pivot: Place,
    direction: usize,
    newest: (usize, Place),
}

/// Draws of an orientation, a place or an end before something fails.
const DRAWS: u32 = 3;
/// Tries of a distractor.
const TRIES: u32 = 5;
/// A taken pixel in which a contour may still begin: 0.3.
const FAINT: u8 = 76;
/// Taken and room together stay below this: 1.8.
const CROWDED: u16 = 459;
/// The sum of weights below which a contour is stuck: 1e-4, in units of weight times room.
const STUCK: u64 = LIKED * 255 / 10_000 + 1;

/// An image while it is drawn.
struct Field<'a> {
    generator: &'a Generator,
    bars: &'a Bars,
    stream: Stream,
    taken: Vec<u8>,
    strokes: Vec<(usize, Place)>,
    weights: Vec<u64>,
}

impl<'a> Field<'a> {
    fn new(generator: &'a Generator, bars: &'a Bars, stream: Stream) -> Self {
        let (taken, weights) = (generator.blank.clone(), vec![0; bars.ends.len()]);
        Self { generator, bars, stream, taken, strokes: Vec::new(), weights }
    }

    const fn side(&self) -> usize {
        self.generator.level.side
    }

    /// Both target contours, or nothing when one of them got stuck.
    fn targets(&mut self) -> Option<[Contour; 2]> {
        let first = self.first_seed()?;
        let second = self.second_seed(first.tail)?;
        self.taken.copy_from_slice(&self.generator.blank);
        self.strokes.clear();
        self.strokes.extend([first.newest, second.newest]);
        let mut targets = [first, second];
        for _ in 1..self.generator.level.contour_length {
            for target in &mut targets {
                self.extend(target)?;
            }
        }
        self.take(targets[1].newest);
        Some(targets)
    }

    /// The beginning of a contour at `tail` in the direction of `degree`, where its head and pivot lie in the window.
    fn seed(&self, tail: Place, degree: usize) -> Option<Contour> {
        let start = &self.bars.starts[degree];
        let head = start.head.from(tail);
        let pivot = start.pivot.from(head);
        let inside = head.inside(self.side()) && pivot.inside(self.side());
        inside.then_some(Contour { tail, tip: head, pivot, direction: degree, newest: (start.bar, tail) })
    }

    /// Begins the first contour where the core of its bar keeps out of a wide frame.
    fn first_seed(&mut self) -> Option<Contour> {
        let frame = 2 * self.generator.level.seed_distance;
        for _ in 0..DRAWS {
            let degree = self.stream.below(360) as usize;
            let core = self.bars.starts[degree].core.as_ref()?;
            let free = |c: fn(&Place) -> i32| {
                let (low, high) = core.iter().map(c).fold((i32::MAX, i32::MIN), |(l, h), c| (l.min(c), h.max(c)));
                let (first, last) = (frame - low, self.side() as i32 - 1 - frame - high);
                (first, u64::try_from(last - first + 1).unwrap_or(0))
            };
            let ((top, rows), (left, columns)) = (free(|p| p.y), free(|p| p.x));
            if rows * columns == 0 {
                return None;
            }
            let drawn = self.stream.below(rows * columns);
            let tail = Place { y: top + (drawn / columns) as i32, x: left + (drawn % columns) as i32 };
            if let Some(contour) = self.seed(tail, degree) {
                return Some(contour);
            }
        }
        None
    }

    /// Begins the second contour on a ring round the first one's tail.
    fn second_seed(&mut self, tail: Place) -> Option<Contour> {
        for _ in 0..DRAWS {
            let degree = self.stream.below(360) as usize;
            let (y, x) = self.generator.ring[self.stream.below(360) as usize];
            let tail = Place { y: y.round_with(tail.y), x: x.round_with(tail.x) };
            if let Some(contour) = self.seed(tail, degree) {
                return Some(contour);
            }
        }
        None
    }

    /// Adds a bar to a contour, or nothing when there is no room.
    fn extend(&mut self, contour: &mut Contour) -> Option<()> {
        let bars = self.bars;
        let direction = &bars.directions[contour.direction];
        let pivot = direction.next.from(contour.pivot);
        let mut total = 0;
        for (i, (&end, &liked)) in bars.ends.iter().zip(&direction.weights).enumerate() {
            let weight = if liked == 0 { 0 } else { liked * self.room_at(pivot + end) };
            self.weights[i] = weight;
            total += weight;
        }
        if total < STUCK {
            return None;
        }
        for _ in 0..DRAWS {
            let end = self.stream.weighted(&self.weights, total);
            let stroke = (bars.toward[end], pivot + bars.ends[end]);
            if self.fits(stroke) {
                self.take(contour.newest);
                self.strokes.push(stroke);
                *contour = Contour { tip: stroke.1, pivot, direction: 360 + end, newest: stroke, ..*contour };
                return Some(());
            }
        }
        None
    }

    /// What is left of 255 at the most taken pixel within the gap; nothing outside the window.
    fn room_at(&self, at: Place) -> u64 {
        if !at.inside(self.side()) {
            return 0;
        }
        let near = self.bars.disk.iter().map(|&offset| at + offset).filter(|near| near.inside(self.side()));
        let taken = near.map(|near| self.taken[near.y as usize * self.side() + near.x as usize]).max();
        u64::from(u8::MAX - taken.unwrap_or(0))
    }

    /// Whether the room of a bar is free enough.
    fn fits(&self, (bar, at): (usize, Place)) -> bool {
        self.bars.bars[bar].room.rows(at, self.side()).all(|(start, row)| {
            let both = self.taken[start..start + row.len()].iter().zip(row);
            both.map(|(&taken, &room)| u16::from(taken) + u16::from(room)).max() < Some(CROWDED)
        })
    }

    /// Takes the room of a bar.
    fn take(&mut self, (bar, at): (usize, Place)) {
        let side = self.side();
        for (start, row) in self.bars.bars[bar].room.rows(at, side) {
            for (taken, &room) in self.taken[start..start + row.len()].iter_mut().zip(row) {
                *taken = (*taken).max(room);
            }
        }
    }

    /// Draws a distractor, or leaves it out when every try fails.
    fn distractor(&mut self) -> bool {
        (0..TRIES).any(|_| {
            let (taken, strokes) = (self.taken.clone(), self.strokes.len());
            let drawn = self.try_distractor().is_some();
            if !drawn {
                self.taken = taken;
                self.strokes.truncate(strokes);
            }
            drawn
        })
    }

    fn try_distractor(&mut self) -> Option<()> {
        let mut contour = self.distractor_seed()?;
        self.strokes.push(contour.newest);
        for _ in 1..self.generator.level.distractor_length {
            self.extend(&mut contour)?;
        }
        self.take(contour.newest);
        Some(())
    }

    /// Begins a distractor where the core of its bar is free; not at all when less than 1 % of the image is.
    fn distractor_seed(&mut self) -> Option<Contour> {
        let free = self.taken.iter().filter(|&&taken| taken <= FAINT).count();
        for _ in 0..DRAWS {
            let degree = self.stream.below(360) as usize;
            if 100 * free < self.taken.len() {
                return None;
            }
            let core = self.bars.starts[degree].core.as_ref()?;
            let tails = FreeTails::new(&self.taken, self.side(), core);
            if tails.count == 0 {
                return None;
            }
            let tail = tails.nth(self.stream.below(tails.count));
            if let Some(contour) = self.seed(tail, degree) {
                return Some(contour);
            }
        }
        None
    }
}

/// The pixels round which a core keeps out of what is taken and out of the window's edge, one bit a pixel.
struct FreeTails {
    words: usize, // of a row
    bits: Vec<u64>,
    count: u64,
}

impl FreeTails {
    fn new(taken: &[u8], side: usize, core: &[Place]) -> Self {
        let words = side.div_ceil(64);
        let mut blocked = vec![0_u64; side * words];
        for (y, row) in taken.chunks_exact(side).enumerate() {
            for (x, &taken) in row.iter().enumerate() {
                let edge = y == 0 || y + 1 == side || x == 0 || x + 1 == side;
                blocked[y * words + x / 64] |= u64::from(edge || taken > FAINT) << (x % 64);
            }
        }
        let mut bits = vec![0_u64; side * words];
        for &Place { y, x } in core {
            for row in (-y).max(0)..(side as i32 - y).min(side as i32) {
                let from = &blocked[(row + y) as usize * words..][..words];
                or_shifted(&mut bits[row as usize * words..][..words], from, x);
            }
        }
        let valid = if side.is_multiple_of(64) { u64::MAX } else { (1 << (side % 64)) - 1 };
        bits.iter_mut().for_each(|word| *word = !*word & valid);
        let count = bits.iter().map(|word| u64::from(word.count_ones())).sum();
        Self { words, bits, count }
    }

    /// Free pixel `n`, row by row.
    fn nth(&self, mut n: u64) -> Place {
        for (i, &word) in self.bits.iter().enumerate() {
            let here = u64::from(word.count_ones());
            if n >= here {
                n -= here;
                continue;
            }
            let bit = (0..64).filter(|bit| word >> bit & 1 == 1).nth(n as usize).expect("the word holds that many");
            return Place { y: (i / self.words) as i32, x: (i % self.words * 64 + bit) as i32 };
        }
        unreachable!("a free pixel beyond the last")
    }
}

/// Bit i of `row` |= bit i + `shift` of `from`; `shift` is less than 64 either way.
fn or_shifted(row: &mut [u64], from: &[u64], shift: i32) {
    for (i, word) in row.iter_mut().enumerate() {
        *word |= match shift {
            0 => from[i],
            1.. => from[i] >> shift | from.get(i + 1).map_or(0, |next| next << (64 - shift)),
            _ => from[i] << -shift | i.checked_sub(1).map_or(0, |before| from[before] >> (64 + shift)),
        };
    }
}

#[cfg(test)]
mod tests;
