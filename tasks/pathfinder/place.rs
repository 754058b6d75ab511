//! Places and directions on the pixel grid, rounded so that no machine's maths library can move them.
//!
//! ```text
//! move(p, a, d) = (ceil(y + d sin a), ceil(x + d cos a))
//! ```
//! A sine that should make `d sin a` whole misses it by 1e-16, and where the miss is upward and survives the sum with
//! y, as it does for small y, the original goes a pixel further. Contours at 32 pixels run along the upper and left
//! edge often enough for this to count: without it a sixth more pairs would be whole. Here such misses are in a table.

use std::f64::consts::PI;
use std::ops::Add;

/// A pixel, or the way from one to another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Place {
    /// Row.
    pub y: i32,
    /// Column.
    pub x: i32,
}

impl Add for Place {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { y: self.y + other.y, x: self.x + other.x }
    }
}

impl Place {
    /// Whether it lies in a window of this side.
    pub fn inside(self, side: usize) -> bool {
        (0..side as i32).contains(&self.y) && (0..side as i32).contains(&self.x)
    }
}

/// What lies so near a whole number counts as it.
const NOISE: f64 = 1e-9;

/// A step that can be taken from any place.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Step {
    y: f64,
    x: f64,
}

impl Step {
    /// The step of `distance` along `angle`, in radians.
    pub fn new(angle: f64, distance: i32) -> Self {
        let (sine, cosine) = (angle.sin(), angle.cos());
        let (sine_miss, cosine_miss) = upward_misses(angle);
        // Where twice the value is whole, the step may be; elsewhere its last bit does not matter.
        let settled = |value: f64, miss: f64| {
            let halves = (2.0 * value).round();
            if (2.0 * value - halves).abs() < NOISE { halves / 2.0 + miss } else { value }
        };
        let distance = f64::from(distance);
        Self { y: distance * settled(sine, sine_miss), x: distance * settled(cosine, cosine_miss) }
    }

    /// Where it leads from `place`.
    pub fn from(self, place: Place) -> Place {
        let up = |c: i32, step: f64| (f64::from(c) + step).ceil() as i32;
        Place { y: up(place.y, self.y), x: up(place.x, self.x) }
    }
}

/// By how much the sine and the cosine of a double next to a multiple of 30 degrees lie above 0, 1/2 or -1/2; downward
/// misses do not matter, because steps round up.
fn upward_misses(angle: f64) -> (f64, f64) {
    let degrees = angle.to_degrees();
    if (degrees - degrees.round()).abs() > NOISE {
        return (0.0, 0.0);
    }
    const ULP: f64 = f64::EPSILON;
    match degrees.round() as i32 {
        180 => (1.224_646_799_147_353_2e-16, 0.0),
        -90 | 90 => (0.0, 6.123_233_995_736_766e-17),
        -120 | 120 => (0.0, ULP),
        -60 | 60 => (0.0, ULP / 2.0),
        -150 | -30 => (ULP / 4.0, 0.0),
        _ => (0.0, 0.0),
    }
}

/// The opposite direction, between -π and π.
pub(super) fn opposite(angle: f64) -> f64 {
    if angle < 0.0 { angle + PI } else { angle - PI }
}

/// Direction `0 .. 360`, from -180 degrees.
pub(super) fn of_degree(degree: usize) -> f64 {
    (degree as f64 - 180.0) * PI / 180.0
}

/// The pixels on a circle round the origin, each once, row by row: 2 π `radius` points one pixel apart from angle 0,
/// each in the pixel whose upper left corner it lies beyond.
pub(super) fn circle(radius: i32) -> Vec<Place> {
    let apart = 1.0 / f64::from(radius);
    let mut pixels: Vec<Place> = (0..)
        .map(|i| f64::from(i) * apart)
        .take_while(|&angle| angle < 2.0 * PI)
        .map(|angle| {
            let down = |value: f64| (f64::from(radius) * value + NOISE).floor() as i32;
            Place { y: down(angle.sin()), x: down(angle.cos()) }
        })
        .collect();
    pixels.sort_unstable();
    pixels.dedup();
    pixels
}

/// A value in units of 2^-20, and the whole number nearest to a sum with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fixed(pub i64);

impl Fixed {
    const BITS: u32 = 20;

    /// Rounds `value`, which is `-NOISE` or more away from where it would round the other way.
    pub fn of(value: f64) -> Self {
        Self((value * f64::from(1_u32 << Self::BITS)).round() as i64)
    }

    /// The whole number nearest to `whole` + this, the even one of two.
    pub fn round_with(self, whole: i32) -> i32 {
        let sum = (i64::from(whole) << Self::BITS) + self.0;
        let (floor, rest) = (sum >> Self::BITS, sum & ((1 << Self::BITS) - 1));
        let half = 1 << (Self::BITS - 1);
        (floor + i64::from(rest > half || (rest == half && floor % 2 != 0))) as i32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distances used: bars on the double grid, bars, gaps.
    const DISTANCES: [i32; 12] = [2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 20];

    #[test]
    fn steps_round_up() {
        let from = Place { y: 50, x: 50 };
        let step = |angle, distance| Step::new(angle, distance).from(from);
        assert_eq!(step(PI, 5), Place { y: 50, x: 45 });
        assert_eq!(step(PI / 6.0, 2), Place { y: 51, x: 52 });
        assert_eq!(step(-PI / 4.0, 5), Place { y: 47, x: 54 });
        assert_eq!(step(-PI / 2.0, 4), Place { y: 46, x: 50 });
    }

    #[test]
    fn a_miss_moves_a_step_a_pixel_on_next_to_the_upper_and_left_edge() {
        let step = |angle, (y, x)| Step::new(angle, 4).from(Place { y, x });
        assert_eq!([step(PI / 2.0, (9, 3)), step(PI / 2.0, (9, 4))], [Place { y: 13, x: 4 }, Place { y: 13, x: 4 }]);
        assert_eq!([step(PI, (7, 9)), step(PI, (8, 9))], [Place { y: 8, x: 5 }, Place { y: 8, x: 5 }]);
        assert_eq!(step(0.0, (1, 1)), Place { y: 1, x: 5 });
    }

    #[cfg(target_env = "gnu")] // whose sines are rounded correctly here, as those of the original's machine were
    #[test]
    fn steps_are_those_that_doubles_take() {
        for angle in (0..360).map(of_degree) {
            for distance in DISTANCES {
                for (y, x) in (0..40).map(|c| (c, 39 - c)) {
                    let up = |c: i32, value: f64| (f64::from(c) + f64::from(distance) * value).ceil() as i32;
                    let there = Place { y: up(y, angle.sin()), x: up(x, angle.cos()) };
                    let place = Place { y, x };
                    assert_eq!(
                        Step::new(angle, distance).from(place),
                        there,
                        "{distance} along {angle} from {place:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn no_step_lies_where_the_last_bit_of_a_sine_could_move_it() {
        let angles = (0..360).map(of_degree);
        let turned = [3, 6, 7, 8].into_iter().flat_map(circle).map(|p| f64::from(p.y).atan2(f64::from(p.x)));
        for angle in angles.chain(turned).flat_map(|angle| [angle, opposite(angle)]) {
            for distance in DISTANCES {
                for value in [angle.sin(), angle.cos()].map(|value| value * f64::from(distance)) {
                    let off = (value - value.round()).abs();
                    assert!(!(1e-12..1e-6).contains(&off), "{distance} along {angle}: {value}");
                }
            }
        }
    }

    #[test]
    fn no_point_of_a_circle_lies_where_the_last_bit_of_a_sine_could_move_it() {
        for radius in [3, 6, 7, 8] {
            let apart = 1.0 / f64::from(radius);
            for angle in (1..).map(|i| f64::from(i) * apart).take_while(|&angle| angle < 2.0 * PI) {
                for value in [angle.sin(), angle.cos()].map(|value| value * f64::from(radius)) {
                    assert!((value - value.round()).abs() > 1e-6, "{radius}: {value}");
                }
            }
        }
    }

    #[test]
    fn halves_go_to_the_even_neighbour() {
        let half = Fixed::of(7.0 * (30.0 * PI / 180.0).sin());
        assert_eq!((half.round_with(15), half.round_with(16)), (18, 20));
        assert_eq!(Fixed::of(-0.75).round_with(10), 9);
        assert_eq!(Fixed::of(0.25).round_with(-3), -3);
    }
}
