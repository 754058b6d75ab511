//! Arithmetic of the native kernels: one text for `f32` and `f64`, in a form the compiler turns into vector instructions.

use crate::native::Scalar;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};

/// A real number of a kernel.
pub trait Real:
    Scalar
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
{
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// The nearest of this kind.
    fn of(x: f64) -> Self;
    /// As float64.
    fn wide(self) -> f64;
    /// The exponential to 2 units in the last place, without a branch or a call; 0 below the smallest normal number.
    fn exp(self) -> Self;
    /// r and 2ⁿ of `x = n ln 2 + r`, x held to where 2ⁿ is a number.
    fn reduced(self) -> (Self, Self);

    /// `exp(x) - 1` to 4 units in the last place, also where the difference is small.
    fn expm1(self) -> Self;

    /// `1 / √x`.
    #[inline(always)]
    fn inverse_sqrt(self) -> Self {
        Self::of(1.0 / self.wide().sqrt())
    }

    /// `1 / (1 + exp(-x))`.
    #[inline(always)]
    fn sigmoid(self) -> Self {
        Self::ONE / (Self::ONE + (-self).exp())
    }

    /// The hyperbolic tangent, to a few units in the last place.
    #[inline(always)]
    fn tanh(self) -> Self {
        let e = (self + self).expm1();
        e / (e + Self::ONE + Self::ONE)
    }
}

/// `2ⁿ · Σ rᵏ/k!` with `x = n ln 2 + r`, `|r| ≤ ln 2 / 2`. Adding `1.5 · 2^mantissa` rounds to an integer and leaves it in the
/// low bits, from where it moves into the exponent.
macro_rules! real {
    ($type:ty, $mantissa:literal, $bias:literal, $low:literal, $high:literal, $ln2_high:literal, $ln2_low:literal,
     [$($coefficient:expr),*], [$($above:expr),*]) => {
        impl Real for $type {
            const ZERO: Self = 0.0;
            const ONE: Self = 1.0;

            #[inline(always)]
            fn of(x: f64) -> Self {
                x as $type
            }

            #[inline(always)]
            fn wide(self) -> f64 {
                self as f64
            }

            #[inline(always)]
            fn reduced(self) -> (Self, Self) {
                const ROUND: $type = 1.5 * (1u64 << $mantissa) as $type;
                let x = if self < $low { $low } else { self };
                let x = if x > $high { $high } else { x };
                let shifted = x * std::f64::consts::LOG2_E as $type + ROUND;
                let n = shifted - ROUND;
                let scale = <$type>::from_bits((shifted.to_bits() << $mantissa).wrapping_add($bias << $mantissa));
                (x - n * $ln2_high - n * $ln2_low, scale)
            }

            #[inline(always)]
            fn exp(self) -> Self {
                let (r, scale) = self.reduced();
                let mut sum: $type = 0.0;
                $(sum = sum * r + (1.0 / $coefficient as $type);)*
                if self < $low { 0.0 } else { sum * scale }
            }

            #[inline(always)]
            fn expm1(self) -> Self {
                let (r, scale) = self.reduced();
                let mut sum: $type = 0.0;
                $(sum = sum * r + (1.0 / $above as $type);)*
                // `sum · r` is exp(r) - 1; where n is 0, nothing is taken off.
                sum * r * scale + (scale - 1.0)
            }
        }
    };
}

// ln 2 in two parts, the first with so few bits that its product with n is exact.
real!(
    f32,
    23,
    127u32,
    -87.0,
    88.0,
    0.693_359_4,
    -2.121_944_4e-4,
    [5040, 720, 120, 24, 6, 2, 1, 1],
    [5040, 720, 120, 24, 6, 2, 1]
);
real!(
    f64,
    52,
    1023u64,
    -708.0,
    709.0,
    0.693_147_180_369_123_8,
    1.908_214_929_270_587_7e-10,
    [6_227_020_800_i64, 479_001_600, 39_916_800, 3_628_800, 362_880, 40_320, 5040, 720, 120, 24, 6, 2, 1, 1],
    [6_227_020_800_i64, 479_001_600, 39_916_800, 3_628_800, 362_880, 40_320, 5040, 720, 120, 24, 6, 2, 1]
);

/// Sums are kept in this many parts.
const LANES: usize = 16;

/// `Σ a_i b_i`.
#[inline(always)]
pub fn dot<T: Real>(a: &[T], b: &[T]) -> T {
    let b = &b[..a.len()];
    let mut parts = [T::ZERO; LANES];
    let (whole_a, whole_b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let rest = whole_a.remainder().iter().zip(whole_b.remainder());
    let mut sum = rest.fold(T::ZERO, |sum, (a, b)| sum + *a * *b);
    for (a, b) in whole_a.zip(whole_b) {
        for i in 0..LANES {
            parts[i] += a[i] * b[i];
        }
    }
    for part in parts {
        sum += part;
    }
    sum
}

/// The sum of `x_i y_i` in eight parts, or in N where that is less than eight.
#[inline(always)]
pub fn product<T: Real, const N: usize>(x: &[T; N], y: &[T; N]) -> T {
    let mut parts = [T::ZERO; 8];
    for (x, y) in x.chunks(8).zip(y.chunks(8)) {
        for (part, (x, y)) in parts.iter_mut().zip(x.iter().zip(y)) {
            *part += *x * *y;
        }
    }
    let [a, b, c, d, e, f, g, h] = parts;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// Calls a generic kernel with the type that a tensor's kind names.
macro_rules! by_kind {
    ($kind:expr, $kernel:ident ( $($argument:expr),* $(,)? )) => {
        match $kind {
            tch::Kind::Float => $kernel::<f32>($($argument),*),
            tch::Kind::Double => $kernel::<f64>($($argument),*),
            other => panic!("{} knows float32 and float64, not {other:?}", stringify!($kernel)),
        }
    };
}
pub(crate) use by_kind;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exponential_is_right_to_the_last_places() {
        for i in -8_700..8_800 {
            let x = f64::from(i) / 100.0;
            let (single, double) = (Real::exp(x as f32), Real::exp(x));
            assert!((f64::from(single) / f64::from(x as f32).exp() - 1.0).abs() < 2.4e-7, "float32 at {x}: {single}");
            assert!((double / x.exp() - 1.0).abs() < 4.5e-16, "float64 at {x}: {double}");
        }
    }

    #[test]
    fn small_differences_and_tangents_keep_their_places() {
        for x in (-4_000..4_000).map(|i| f64::from(i).powi(3) / 1e9).filter(|x| *x != 0.0) {
            let single = x as f32;
            let near = |got: f64, want: f64, places: f64| (got / want - 1.0).abs() < places;
            assert!(near(Real::expm1(x), x.exp_m1(), 1e-15), "float64 expm1 at {x}");
            assert!(near(Real::tanh(x), x.tanh(), 2e-15), "float64 tanh at {x}: {}", Real::tanh(x));
            assert!(near(Real::expm1(single).into(), f64::from(single).exp_m1(), 5e-7), "float32 expm1 at {x}");
            assert!(near(Real::tanh(single).into(), f64::from(single).tanh(), 8e-7), "float32 tanh at {x}");
        }
        assert_eq!((Real::tanh(1e30_f32), Real::tanh(-1e30_f32), Real::tanh(0_f64)), (1.0, -1.0, 0.0));
        assert!(Real::tanh(f32::NAN).is_nan() && Real::expm1(f64::NAN).is_nan());
    }

    #[test]
    fn the_exponential_has_no_strange_values() {
        assert_eq!((Real::exp(-1e30_f32), Real::exp(f64::NEG_INFINITY)), (0.0, 0.0));
        assert_eq!((Real::exp(0_f32), Real::exp(0_f64)), (1.0, 1.0));
        assert!(Real::exp(1e30_f32).is_finite() && Real::exp(f32::NAN).is_nan() && Real::exp(f64::NAN).is_nan());
    }

    #[test]
    fn a_dot_product_reaches_every_entry() {
        for n in [0, 1, 15, 16, 17, 40] {
            let a: Vec<f64> = (0..n).map(f64::from).collect();
            assert_eq!(dot(&a, &a), a.iter().map(|x| x * x).sum::<f64>());
        }
        let whole: [f64; 20] = std::array::from_fn(|i| i as f64);
        assert_eq!((product(&[3.0], &[2.0]), product(&whole, &whole)), (6.0, 2470.0));
    }
}
