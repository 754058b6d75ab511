//! Everything about the bars of one gap that does not depend on where they lie: their ink, the room they keep free, and
//! how a contour may go on. Tabulated once; there are fewer than a hundred different bars.
//!
//! ```text
//! line = on a picture of side 2 A h + 1, h = l + ceil(t) + m, of width A t, from the middle c to move(c, a, A l)
//! ink  = reduce(line)                       to side 2 h + 1; A = 2
//! room = reduce(dilate(line, A m))
//! next pivot q = move(pivot, a, l + 2 m);  ends p on the circle of radius l + m round q, b = angle of p - q
//! weight(p) = cos²(min(c |a - b|, π / 2)) (1 - brightest room within m of p)
//! ```

use super::level::Level;
use super::place::{self, Place, Step};
use super::raster::{self, Picture, Reduction};
use std::f64::consts::{FRAC_PI_2, PI};

/// A bar: two pictures of side `2 reach + 1` round its start, cut to what is not black.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    /// What is seen.
    pub ink: Patch,
    /// What other bars stay out of.
    pub room: Patch,
}

/// A rectangle of pixels.
#[derive(Clone, Debug)]
pub(super) struct Patch {
    /// Of the upper left pixel, from the place it is pasted at.
    pub corner: Place,
    /// Pixels of a row.
    pub width: usize,
    /// Row by row.
    pub pixels: Vec<u8>,
}

impl Patch {
    /// The smallest rectangle with all that is not black; `picture` has its place in the middle.
    fn of(picture: &Picture) -> Self {
        let (side, reach) = (picture.side, picture.side as i32 / 2);
        let lit: Vec<usize> = (0..side * side).filter(|&i| picture.pixels[i] > 0).collect();
        let bounds = |c: fn(usize, usize) -> usize| {
            let all = lit.iter().map(|&i| c(i, side));
            (all.clone().min().unwrap_or(0), all.max().unwrap_or(0))
        };
        let ((top, bottom), (left, right)) = (bounds(|i, side| i / side), bounds(|i, side| i % side));
        let rows = (top..=bottom).flat_map(|y| &picture.pixels[y * side + left..=y * side + right]);
        let corner = Place { y: top as i32 - reach, x: left as i32 - reach };
        Self { corner, width: right - left + 1, pixels: rows.copied().collect() }
    }

    /// Pasted at `at`, what falls into a window of this side: for each row, its first pixel in the window and its
    /// pixels.
    pub fn rows(&self, at: Place, side: usize) -> impl Iterator<Item = (usize, &[u8])> {
        let (top, left) = (at.y + self.corner.y, at.x + self.corner.x);
        let cut = (-left).clamp(0, self.width as i32) as usize;
        let end = (side as i32 - left).clamp(0, self.width as i32) as usize;
        let rows = self.pixels.chunks_exact(self.width).zip(top..);
        rows.filter(move |(_, y)| (0..side as i32).contains(y) && cut < end)
            .map(move |(row, y)| (y as usize * side + (left + cut as i32) as usize, &row[cut..end]))
    }
}

/// A direction that the newest bar of a contour can have.
#[derive(Clone, Debug)]
pub(super) struct Direction {
    /// From a contour's pivot to its next one.
    pub next: Step,
    /// For each of [`Bars::ends`], how much it is liked from here, in units of [`LIKED`].
    pub weights: Vec<u64>,
}

/// A direction in which a contour can begin.
#[derive(Clone, Debug)]
pub(super) struct Start {
    /// The bar, from its tail.
    pub bar: usize,
    /// From the tail to the bar's head.
    pub head: Step,
    /// From the head back to the first pivot.
    pub pivot: Step,
    /// The heart of the bar's room, which has to be free, from one pixel above and left of the tail. `None` where no
    /// contour can begin this way; see [`Bars::core`].
    pub core: Option<Vec<Place>>,
}

/// The weight of an end straight ahead.
pub(super) const LIKED: u64 = 1 << 20;

/// The tables of one gap.
#[derive(Clone, Debug)]
pub(super) struct Bars {
    /// The gap m.
    pub gap: i32,
    /// Different bars.
    pub bars: Vec<Bar>,
    /// Directions at the beginning, from -180 degrees, degree by degree.
    pub starts: Vec<Start>,
    /// The degrees of `starts`, then for each of `ends` the direction from the pivot to it.
    pub directions: Vec<Direction>,
    /// From a pivot, where a contour's next bar can end.
    pub ends: Vec<Place>,
    /// For each of `ends`, the bar drawn from there toward the pivot.
    pub toward: Vec<usize>,
    /// The offsets within the gap.
    pub disk: Vec<Place>,
}

impl Bars {
    /// The tables of a level with gap `gap`.
    pub fn new(level: &Level, gap: i32) -> Self {
        let mut studio = Studio::new(level, gap);
        let ends = place::circle(level.length + gap);
        let angles: Vec<f64> = ends.iter().map(|end| f64::from(end.y).atan2(f64::from(end.x))).collect();
        let degrees: Vec<f64> = (0..360).map(place::of_degree).collect();
        let toward: Vec<usize> = angles.iter().map(|&angle| studio.bar(place::opposite(angle))).collect();
        let starts = degrees.iter().map(|&angle| studio.start(angle)).collect();
        let direction = |&from: &f64| Direction {
            next: Step::new(from, level.length + 2 * gap),
            weights: angles.iter().map(|&to| liking(from, to, level.continuity)).collect(),
        };
        let directions = degrees.iter().chain(&angles).map(direction).collect();
        Self { gap, bars: studio.bars, starts, directions, ends, toward, disk: raster::disk(gap) }
    }
}

/// cos² of the turn, stretched by the continuity and no more than a right angle, before it is made whole.
fn exact_liking(from: f64, to: f64, continuity: f64) -> f64 {
    let apart = (from - to).abs();
    let turn = apart.min(2.0 * PI - apart) * continuity;
    turn.min(FRAC_PI_2).cos().powi(2) * LIKED as f64
}

fn liking(from: f64, to: f64, continuity: f64) -> u64 {
    exact_liking(from, to, continuity).round() as u64
}

/// Draws bars, each only once: a bar is told from others by where its line ends on the double grid.
struct Studio<'a> {
    level: &'a Level,
    gap: i32,
    reach: i32,
    reduction: Reduction,
    ends: Vec<Place>,
    bars: Vec<Bar>,
}

/// Pixels of the double grid to one of the window.
const FINE: i32 = 2;

impl<'a> Studio<'a> {
    fn new(level: &'a Level, gap: i32) -> Self {
        let reach = level.length + (level.thickness + 1) / 2 + gap;
        let side = 2 * reach as usize + 1;
        let reduction = Reduction::new(2 * (FINE * reach) as usize + 1, side);
        Self { level, gap, reach, reduction, ends: Vec::new(), bars: Vec::new() }
    }

    /// The number of the bar along `angle`.
    fn bar(&mut self, angle: f64) -> usize {
        let middle = Place { y: FINE * self.reach, x: FINE * self.reach };
        let end = Step::new(angle, FINE * self.level.length).from(middle);
        if let Some(known) = self.ends.iter().position(|&known| known == end) {
            return known;
        }
        let line = Picture::line(2 * middle.y as usize + 1, middle, end, self.level.thickness);
        let ink = Patch::of(&self.reduction.apply(&line));
        let room = Patch::of(&self.reduction.apply(&line.dilate(FINE * self.gap)));
        self.ends.push(end);
        self.bars.push(Bar { ink, room });
        self.bars.len() - 1
    }

    fn start(&mut self, angle: f64) -> Start {
        let (length, gap) = (self.level.length, self.gap);
        let bar = self.bar(angle);
        let head = Step::new(angle, length);
        let pivot = Step::new(place::opposite(angle), length + gap);
        Start { bar, head, pivot, core: core(&self.bars[bar].room, length + gap) }
    }
}

/// The pixels of a bar's room that are wholly taken, moved one down and right as the original has them and cut to a
/// square of `reach` round the tail.
///
/// The original looks for a free tail by dilating the taken pixels with this core, in OpenCV, which gives the least of
/// all numbers where the whole core lies outside the window; finding that anywhere, it gives the direction up. So no
/// contour begins in a direction whose core has, from some corner of the window, no pixel inside: at 32 pixels that is
/// nine of ten directions, and four of five distractors are never drawn because of it. Images made without this rule
/// are brighter by a third than the official ones.
fn core(room: &Patch, reach: i32) -> Option<Vec<Place>> {
    let pixels = room.pixels.iter().enumerate().filter(|(_, pixel)| **pixel == u8::MAX);
    let places = pixels.map(|(i, _)| {
        let (y, x) = ((i / room.width) as i32, (i % room.width) as i32);
        room.corner + Place { y, x } + Place { y: 1, x: 1 }
    });
    let core: Vec<Place> = places.filter(|place| place.y.abs() <= reach && place.x.abs() <= reach).collect();
    let seen_from_corner = |down: i32, right: i32| core.iter().any(|p| p.y * down >= 0 && p.x * right >= 0);
    let seen = [(1, 1), (1, -1), (-1, 1), (-1, -1)].into_iter().all(|(down, right)| seen_from_corner(down, right));
    seen.then_some(core)
}

#[cfg(test)]
mod tests {
    use super::super::level::tests::every_level;
    use super::*;

    #[test]
    fn no_weight_lies_where_the_last_bit_of_a_cosine_could_round_it_the_other_way() {
        for level in every_level() {
            for &gap in level.gaps {
                let ends = place::circle(level.length + gap);
                let angles: Vec<f64> = ends.iter().map(|end| f64::from(end.y).atan2(f64::from(end.x))).collect();
                for from in (0..360).map(place::of_degree).chain(angles.iter().copied()) {
                    for &to in &angles {
                        let weight = exact_liking(from, to, level.continuity);
                        assert!((weight.rem_euclid(1.0) - 0.5).abs() > 1e-8, "{from} {to}: {weight}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_bar_has_ink_inside_its_room_and_there_are_few() {
        for level in every_level() {
            for &gap in level.gaps {
                let bars = Bars::new(&level, gap);
                assert!(bars.bars.len() < 120, "{}", bars.bars.len());
                for bar in &bars.bars {
                    let side = 64;
                    let (mut ink, mut room) = (vec![0_u8; side * side], vec![0_u8; side * side]);
                    for (patch, picture) in [(&bar.ink, &mut ink), (&bar.room, &mut room)] {
                        for (start, row) in patch.rows(Place { y: 32, x: 32 }, side) {
                            picture[start..start + row.len()].copy_from_slice(row);
                        }
                    }
                    assert!(ink.iter().any(|&pixel| pixel > 100));
                    let outside = ink.iter().zip(&room).filter(|&(&ink, &room)| ink > 40 && room < 128).count();
                    assert_eq!(outside, 0);
                }
            }
        }
    }

    #[test]
    fn a_patch_is_cut_at_every_edge_of_the_window() {
        let patch = Patch { corner: Place { y: -1, x: -1 }, width: 3, pixels: (1..=9).collect() };
        let rows = |y, x| patch.rows(Place { y, x }, 4).map(|(i, row)| (i, row.to_vec())).collect::<Vec<_>>();
        assert_eq!(rows(0, 0), [(0, vec![5, 6]), (4, vec![8, 9])]);
        assert_eq!(rows(3, 3), [(10, vec![1, 2]), (14, vec![4, 5])]);
        assert_eq!(rows(1, 1), [(0, vec![1, 2, 3]), (4, vec![4, 5, 6]), (8, vec![7, 8, 9])]);
        assert_eq!(rows(-2, 9), []);
    }
}
