//! Small square pictures of 8-bit grey, made the way the original's imaging library makes them: a line, its dilation by
//! a disk, and the Lanczos reduction that smooths both.
//!
//! ```text
//! reduce:  out_i = round(sum_j w_ij in_j) in 0 ..= 255     first along rows, then along columns
//! w_ij   ∝ sinc(t) sinc(t / 3),  t = (j + 1/2) / s - (i + 1/2),  |t| < 3,  s = in / out;  sum 1, units of 2^-22
//! ```
//! All values are integers. The weights are rounded from sines, and a test holds every one of them away from the border
//! at which it would round the other way, so that no machine's maths library can move a pixel.

use super::place::Place;

/// A square picture.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Picture {
    /// Pixels along an edge.
    pub side: usize,
    /// Row by row.
    pub pixels: Vec<u8>,
}

impl Picture {
    /// Nothing drawn.
    pub fn black(side: usize) -> Self {
        Self { side, pixels: vec![0; side * side] }
    }

    fn light(&mut self, y: i32, x: i32) {
        let inside = |c: i32| (0..self.side as i32).contains(&c);
        if inside(y) && inside(x) {
            self.pixels[y as usize * self.side + x as usize] = 255;
        }
    }

    /// A white line: Bresenham's where it is one pixel wide, a filled quadrilateral where it is wider.
    pub fn line(side: usize, from: Place, to: Place, width: i32) -> Self {
        let mut picture = Self::black(side);
        if width == 1 {
            picture.thin_line(from, to)
        } else {
            picture.wide_line(from, to, width)
        }
        picture
    }

    /// Bresenham: one pixel for each step of the longer axis; a half step of the shorter one rounds up.
    fn thin_line(&mut self, from: Place, to: Place) {
        let (dy, dx) = (to.y - from.y, to.x - from.x);
        let (steps, minor) = (dy.abs().max(dx.abs()), dy.abs().min(dx.abs()));
        for step in 0..=steps {
            let along = step;
            let across = if steps == 0 { 0 } else { (2 * step * minor + steps) / (2 * steps) };
            let (y, x) = if dx.abs() > dy.abs() { (across, along) } else { (along, across) };
            self.light(from.y + y * dy.signum(), from.x + x * dx.signum());
        }
    }

    /// The quadrilateral that has `from` and `to` in the middle of its short edges, with its corners rounded to pixels.
    fn wide_line(&mut self, from: Place, to: Place, width: i32) {
        let (dy, dx) = (f64::from(to.y - from.y), f64::from(to.x - from.x));
        let (length, half) = ((dy * dy + dx * dx).sqrt(), f64::from(width - 1) / 2.0);
        let (most, least) = (half_away(half) / length, half_toward(half) / length);
        let (x_low, x_high) = (half_toward(least * dy) as i32, half_toward(most * dy) as i32);
        let (y_low, y_high) = (half_away(least * dx) as i32, half_away(most * dx) as i32);
        self.quadrilateral([
            Place { y: from.y + y_high, x: from.x - x_low },
            Place { y: to.y + y_high, x: to.x - x_low },
            Place { y: to.y - y_low, x: to.x + x_high },
            Place { y: from.y - y_low, x: from.x + x_high },
        ]);
    }

    /// Fills a convex quadrilateral, its outline included, row by row between its outermost edges.
    fn quadrilateral(&mut self, corners: [Place; 4]) {
        let rows = corners.map(|corner| corner.y);
        for y in *rows.iter().min().expect("four corners")..=*rows.iter().max().expect("four corners") {
            let (mut left, mut right) = (f64::INFINITY, f64::NEG_INFINITY);
            for (a, b) in (0..4).map(|i| (corners[i], corners[(i + 1) % 4])) {
                if !(a.y.min(b.y)..=a.y.max(b.y)).contains(&y) {
                    continue;
                }
                let ends = if a.y == b.y {
                    [f64::from(a.x), f64::from(b.x)]
                } else {
                    [f64::from(a.x) + f64::from(y - a.y) * f64::from(b.x - a.x) / f64::from(b.y - a.y); 2]
                };
                left = left.min(ends[0].min(ends[1]));
                right = right.max(ends[0].max(ends[1]));
            }
            (half_away(left) as i32..=half_toward(right) as i32).for_each(|x| self.light(y, x));
        }
    }

    /// Every pixel becomes the brightest one within `radius` of it.
    pub fn dilate(&self, radius: i32) -> Self {
        let mut dilated = Self::black(self.side);
        let disk = disk(radius);
        for (i, _) in self.pixels.iter().enumerate().filter(|(_, pixel)| **pixel > 0) {
            let (y, x) = ((i / self.side) as i32, (i % self.side) as i32);
            disk.iter().for_each(|offset| dilated.light(y + offset.y, x + offset.x));
        }
        dilated
    }
}

/// The offsets within `radius`.
pub(super) fn disk(radius: i32) -> Vec<Place> {
    let square = (-radius..=radius).flat_map(|y| (-radius..=radius).map(move |x| Place { y, x }));
    square.filter(|offset| offset.y * offset.y + offset.x * offset.x <= radius * radius).collect()
}

/// The nearest whole number, a half going away from 0.
fn half_away(value: f64) -> f64 {
    value.round()
}

/// The nearest whole number, a half going toward 0.
fn half_toward(value: f64) -> f64 {
    (value.abs() - 0.5).ceil().max(0.0).copysign(value)
}

/// Bits after the point of a weight.
const FRACTION: u32 = 22;

/// How one side is reduced to another: for each pixel of the result, the first pixel it reads and the weights from
/// there.
#[derive(Clone, Debug)]
pub(super) struct Reduction {
    taps: Vec<(usize, Vec<i64>)>,
}

impl Reduction {
    /// Reduces `from` pixels to `to`.
    pub fn new(from: usize, to: usize) -> Self {
        let taps = exact_taps(from, to).into_iter();
        let unit = f64::from(1_u32 << FRACTION);
        let whole = |weights: Vec<f64>| weights.into_iter().map(|w| (w * unit).round() as i64).collect();
        Self { taps: taps.map(|(start, weights)| (start, whole(weights))).collect() }
    }

    /// The whole of a picture.
    pub fn apply(&self, picture: &Picture) -> Picture {
        let side = self.taps.len();
        let read = |y: usize, x: usize| picture.pixels[y * picture.side + x];
        Picture { side, pixels: self.window(read, 0..side, 0..side) }
    }

    /// The pixels of the result in these rows and columns; `read(y, x)` is a pixel of the source.
    pub fn window(
        &self,
        read: impl Fn(usize, usize) -> u8,
        rows: std::ops::Range<usize>,
        columns: std::ops::Range<usize>,
    ) -> Vec<u8> {
        let (rows, columns) = (&self.taps[rows], &self.taps[columns]);
        let first = rows.iter().map(|(start, _)| *start).min().unwrap_or(0);
        let end = rows.iter().map(|(start, weights)| start + weights.len()).max().unwrap_or(0);
        let narrow: Vec<Vec<u8>> = (first..end)
            .map(|y| columns.iter().map(|(start, weights)| weigh(weights, |j| read(y, start + j))).collect())
            .collect();
        let mut pixels = Vec::with_capacity(rows.len() * columns.len());
        for (start, weights) in rows {
            pixels.extend((0..columns.len()).map(|x| weigh(weights, |j| narrow[start - first + j][x])));
        }
        pixels
    }
}

/// The weighted sum, rounded and kept within 8 bits.
fn weigh(weights: &[i64], pixel: impl Fn(usize) -> u8) -> u8 {
    let sum: i64 = weights.iter().enumerate().map(|(j, weight)| weight * i64::from(pixel(j))).sum();
    ((sum + (1 << (FRACTION - 1))) >> FRACTION).clamp(0, 255) as u8
}

/// The weights before they are made whole.
fn exact_taps(from: usize, to: usize) -> Vec<(usize, Vec<f64>)> {
    let scale = from as f64 / to as f64;
    let reach = 3.0 * scale;
    (0..to)
        .map(|i| {
            let center = (i as f64 + 0.5) * scale;
            let start = (center - reach + 0.5).max(0.0) as usize;
            let end = ((center + reach + 0.5) as usize).min(from);
            let weights: Vec<f64> = (start..end).map(|j| lanczos((j as f64 - center + 0.5) / scale)).collect();
            let sum: f64 = weights.iter().sum();
            (start, weights.into_iter().map(|weight| weight / sum).collect())
        })
        .collect()
}

/// `sinc(t) sinc(t / 3)` within 3 of the middle.
fn lanczos(t: f64) -> f64 {
    let sinc = |t: f64| if t == 0.0 { 1.0 } else { (t * std::f64::consts::PI).sin() / (t * std::f64::consts::PI) };
    if (-3.0..3.0).contains(&t) { sinc(t) * sinc(t / 3.0) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(picture: &Picture) -> Vec<String> {
        let row = |row: &[u8]| row.iter().map(|&pixel| if pixel > 0 { '#' } else { '.' }).collect();
        picture.pixels.chunks(picture.side).map(row).collect()
    }

    #[test]
    fn a_thin_line_has_one_pixel_for_each_step_of_its_longer_axis() {
        let line = Picture::line(5, Place { y: 1, x: 0 }, Place { y: 3, x: 4 }, 1);
        assert_eq!(rows(&line), [".....", "#....", ".##..", "...##", "....."]);
        assert_eq!(rows(&Picture::line(2, Place { y: 0, x: 0 }, Place { y: 1, x: 0 }, 1)), ["#.", "#."]);
    }

    #[test]
    fn a_wide_line_is_as_wide_as_it_is_told_along_both_axes() {
        for width in [2, 3, 4] {
            let lit = |to: Place| {
                let line = Picture::line(21, Place { y: 10, x: 10 }, to, width);
                line.pixels.iter().filter(|&&pixel| pixel > 0).count() as i32
            };
            assert_eq!(lit(Place { y: 10, x: 18 }), 9 * width);
            assert_eq!(lit(Place { y: 2, x: 10 }), 9 * width);
        }
    }

    #[test]
    fn a_reduction_keeps_a_plain_picture_plain_and_sums_to_one() {
        for (from, to) in [(17, 9), (29, 15), (37, 19), (41, 21), (64, 32), (512, 256)] {
            let plain = Picture { side: from, pixels: vec![200; from * from] };
            let reduction = Reduction::new(from, to);
            assert!(reduction.apply(&plain).pixels.iter().all(|&pixel| pixel == 200), "{from} to {to}");
        }
    }

    #[test]
    fn a_window_of_a_reduction_is_a_part_of_the_whole() {
        let pixels = (0..64 * 64_usize).map(|i| (i * i / 7 % 251) as u8).collect();
        let (picture, reduction) = (Picture { side: 64, pixels }, Reduction::new(64, 32));
        let whole = reduction.apply(&picture);
        let part = reduction.window(|y, x| picture.pixels[y * 64 + x], 3..7, 28..32);
        for (i, pixel) in part.into_iter().enumerate() {
            assert_eq!(pixel, whole.pixels[(3 + i / 4) * 32 + 28 + i % 4]);
        }
    }

    #[test]
    fn no_weight_lies_where_the_last_bit_of_a_sine_could_round_it_the_other_way() {
        for (from, to) in [(17, 9), (29, 15), (37, 19), (41, 21), (64, 32), (128, 64), (256, 128), (512, 256)] {
            for weight in exact_taps(from, to).into_iter().flat_map(|(_, weights)| weights) {
                let fraction = (weight * f64::from(1_u32 << FRACTION)).rem_euclid(1.0);
                assert!((fraction - 0.5).abs() > 1e-7, "{from} to {to}: {weight}");
            }
        }
    }
}
