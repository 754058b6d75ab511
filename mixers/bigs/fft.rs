//! Fourier transforms of many real channels at once, for convolutions with one kernel.
//!
//! Sixteen channels of one row are eight complex numbers: channel `i` is the real part of lane `i`, channel `i + 8` its
//! imaginary part. A convolution with a real kernel acts on both parts alike, so they never need to be told apart, and a row
//! of the input is a row of the transform as it lies in memory: no transposition, and every butterfly is eight equal lanes.
//!
//! Forward transforms decimate in frequency and inverse ones in time, so the spectrum stays in the order the first leaves it
//! in; the kernel's spectrum comes from the same code and stands in the same order.

use crate::native::Scalar;
use multiversion::multiversion;
use std::f64::consts::TAU;
use std::ops::{Add, Mul, Sub};

/// Complex numbers side by side.
pub(super) const LANES: usize = 8;
/// Real channels a row holds.
pub(super) const CHANNELS: usize = 2 * LANES;
/// Rows that stay in the first cache while all smaller butterflies pass over them.
const BLOCK: usize = 512;

/// One position (or frequency) of sixteen channels: real parts, imaginary parts.
pub(super) type Row<T> = [[T; LANES]; 2];

/// A number the transforms compute with.
pub(super) trait Real: Scalar + Default + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> {
    /// The nearest number of this type.
    fn of(x: f64) -> Self;
}

impl Real for f32 {
    fn of(x: f64) -> Self {
        x as f32
    }
}

impl Real for f64 {
    fn of(x: f64) -> Self {
        x
    }
}

/// One pass over blocks of `size` rows, split into `radix` parts.
struct Pass<T> {
    radix: usize,
    size: usize,
    /// For each row of a part, e^{-2πi j k / size} at k = 1, 2, 3: real and imaginary parts.
    turns: Vec<[[T; 2]; 3]>,
}

/// How to transform `n` rows; `n` is a power of two or three times one.
pub(super) struct Plan<T> {
    passes: Vec<Pass<T>>,
}

impl<T: Real> Plan<T> {
    /// The rows needed to hold `least`.
    pub fn size(least: usize) -> usize {
        let two = least.max(2).next_power_of_two();
        if two >= 4 && two / 4 * 3 >= least { two / 4 * 3 } else { two }
    }

    pub fn new(n: usize) -> Self {
        let mut passes = Vec::new();
        let mut size = n;
        while size > 1 {
            let radix = match size {
                _ if size % 3 == 0 => 3,
                2 => 2,
                _ => 4,
            };
            let turn = |j: usize, k: usize| {
                let (sin, cos) = (-TAU * ((j * k) % size) as f64 / size as f64).sin_cos();
                [T::of(cos), T::of(sin)]
            };
            let turns = (0..size / radix).map(|j| [turn(j, 1), turn(j, 2), turn(j, 3)]).collect();
            passes.push(Pass { radix, size, turns });
            size /= radix;
        }
        Self { passes }
    }

    /// Rows by time → rows by frequency, in the plan's order.
    pub fn forward(&self, rows: &mut [Row<T>]) {
        forward(&self.passes, rows);
    }

    /// Rows by frequency, in the plan's order → rows by time, times the number of rows.
    pub fn inverse(&self, rows: &mut [Row<T>]) {
        inverse(&self.passes, rows);
    }
}

/// Where the passes stop to sweep over all rows and start to finish one block at a time.
#[inline(always)]
fn small<T>(passes: &[Pass<T>]) -> usize {
    passes.iter().position(|p| p.size <= BLOCK).unwrap_or(passes.len())
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
fn forward<T: Real>(passes: &[Pass<T>], rows: &mut [Row<T>]) {
    let (large, small) = passes.split_at(small(passes));
    for pass in large {
        sweep::<T, true>(pass, rows);
    }
    for block in rows.chunks_exact_mut(small.first().map_or(1, |p| p.size)) {
        for pass in small {
            sweep::<T, true>(pass, block);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
fn inverse<T: Real>(passes: &[Pass<T>], rows: &mut [Row<T>]) {
    let (large, small) = passes.split_at(small(passes));
    for block in rows.chunks_exact_mut(small.first().map_or(1, |p| p.size)) {
        for pass in small.iter().rev() {
            sweep::<T, false>(pass, block);
        }
    }
    for pass in large.iter().rev() {
        sweep::<T, false>(pass, rows);
    }
}

#[inline(always)]
fn sweep<T: Real, const FORWARD: bool>(pass: &Pass<T>, rows: &mut [Row<T>]) {
    match pass.radix {
        2 => radix_2(rows),
        3 => rows.chunks_exact_mut(pass.size).for_each(|block| radix_3::<T, FORWARD>(&pass.turns, block)),
        _ => rows.chunks_exact_mut(pass.size).for_each(|block| radix_4::<T, FORWARD>(&pass.turns, block)),
    }
}

// The loops over lanes below are written for the compiler's vectorizer, and their machine code was looked at: the rows are
// separate references, nothing is copied out of them first, and a body is large enough (several rows where it must be)
// that the loop is not unrolled into scalars before it is vectorized.

/// Neighbouring rows: the last pass there, the first one back.
#[inline(always)]
fn radix_2<T: Real>(rows: &mut [Row<T>]) {
    let (eights, rest) = rows.as_chunks_mut::<8>();
    eights.iter_mut().for_each(pairs);
    rest.as_chunks_mut::<2>().0.iter_mut().for_each(pairs);
}

#[inline(always)]
fn pairs<T: Real, const N: usize>(rows: &mut [Row<T>; N]) {
    for l in 0..LANES {
        for k in (0..N).step_by(2) {
            for part in 0..2 {
                let (a, b) = (rows[k][part][l], rows[k + 1][part][l]);
                (rows[k][part][l], rows[k + 1][part][l]) = (a + b, a - b);
            }
        }
    }
}

/// `x · w`, or `x · conj(w)`.
#[inline(always)]
fn turn<T: Real, const CONJ: bool>([re, im]: [T; 2], [c, s]: [T; 2]) -> [T; 2] {
    if CONJ { [re * c + im * s, im * c - re * s] } else { [re * c - im * s, im * c + re * s] }
}

#[inline(always)]
fn radix_3<T: Real, const FORWARD: bool>(turns: &[[[T; 2]; 3]], rows: &mut [Row<T>]) {
    let (first, rest) = rows.split_at_mut(turns.len());
    let (second, third) = rest.split_at_mut(turns.len());
    for (((w, x0), x1), x2) in turns.iter().zip(first).zip(second).zip(third) {
        butterfly_3::<T, FORWARD>(w, x0, x1, x2);
    }
}

#[inline(always)]
fn butterfly_3<T: Real, const FORWARD: bool>(w: &[[T; 2]; 3], x0: &mut Row<T>, x1: &mut Row<T>, x2: &mut Row<T>) {
    let [w1, w2, _] = *w;
    let (half, root) = (T::of(-0.5), T::of(if FORWARD { -1.0 } else { 1.0 } * 0.75f64.sqrt()));
    for l in 0..LANES {
        let a = [x0[0][l], x0[1][l]];
        let (mut b, mut c) = ([x1[0][l], x1[1][l]], [x2[0][l], x2[1][l]]);
        if !FORWARD {
            (b, c) = (turn::<T, true>(b, w1), turn::<T, true>(c, w2));
        }
        // b ω + c ω² and b ω² + c ω share the half sum; ω = e^{∓2πi/3}.
        let sum = [b[0] + c[0], b[1] + c[1]];
        let near = [a[0] + half * sum[0], a[1] + half * sum[1]];
        let far = [root * (c[1] - b[1]), root * (b[0] - c[0])];
        let (mut y1, mut y2) = ([near[0] + far[0], near[1] + far[1]], [near[0] - far[0], near[1] - far[1]]);
        if FORWARD {
            (y1, y2) = (turn::<T, false>(y1, w1), turn::<T, false>(y2, w2));
        }
        [x0[0][l], x0[1][l]] = [a[0] + sum[0], a[1] + sum[1]];
        [x1[0][l], x1[1][l]] = y1;
        [x2[0][l], x2[1][l]] = y2;
    }
}

#[inline(always)]
fn radix_4<T: Real, const FORWARD: bool>(turns: &[[[T; 2]; 3]], rows: &mut [Row<T>]) {
    let q = turns.len();
    let (first, rest) = rows.split_at_mut(q);
    let (second, rest) = rest.split_at_mut(q);
    let (third, fourth) = rest.split_at_mut(q);
    for ((((w, x0), x1), x2), x3) in turns.iter().zip(first).zip(second).zip(third).zip(fourth) {
        butterfly_4::<T, FORWARD>(w, x0, x1, x2, x3);
    }
}

#[inline(always)]
fn butterfly_4<T: Real, const FORWARD: bool>(
    w: &[[T; 2]; 3],
    x0: &mut Row<T>,
    x1: &mut Row<T>,
    x2: &mut Row<T>,
    x3: &mut Row<T>,
) {
    let [w1, w2, w3] = *w;
    for l in 0..LANES {
        let (a, mut b) = ([x0[0][l], x0[1][l]], [x1[0][l], x1[1][l]]);
        let (mut c, mut d) = ([x2[0][l], x2[1][l]], [x3[0][l], x3[1][l]]);
        if !FORWARD {
            b = turn::<T, true>(b, w1);
            c = turn::<T, true>(c, w2);
            d = turn::<T, true>(d, w3);
        }
        let (even, odd) = ([a[0] + c[0], a[1] + c[1]], [a[0] - c[0], a[1] - c[1]]);
        let sum = [b[0] + d[0], b[1] + d[1]];
        // -i (b - d) on the way there, i (b - d) on the way back.
        let quarter = if FORWARD { [b[1] - d[1], d[0] - b[0]] } else { [d[1] - b[1], b[0] - d[0]] };
        let mut y1 = [odd[0] + quarter[0], odd[1] + quarter[1]];
        let mut y2 = [even[0] - sum[0], even[1] - sum[1]];
        let mut y3 = [odd[0] - quarter[0], odd[1] - quarter[1]];
        if FORWARD {
            y1 = turn::<T, false>(y1, w1);
            y2 = turn::<T, false>(y2, w2);
            y3 = turn::<T, false>(y3, w3);
        }
        [x0[0][l], x0[1][l]] = [even[0] + sum[0], even[1] + sum[1]];
        [x1[0][l], x1[1][l]] = y1;
        [x2[0][l], x2[1][l]] = y2;
        [x3[0][l], x3[1][l]] = y3;
    }
}

/// Every row times its frequency of `spectrum`.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn multiply<T: Real>(rows: &mut [Row<T>], spectrum: &[[T; 2]]) {
    let ((rows, rows_rest), (factors, factors_rest)) = (rows.as_chunks_mut::<4>(), spectrum.as_chunks::<4>());
    rows.iter_mut().zip(factors).for_each(|(rows, w)| scale(rows, w));
    rows_rest.as_chunks_mut::<1>().0.iter_mut().zip(factors_rest.as_chunks().0).for_each(|(rows, w)| scale(rows, w));
}

#[inline(always)]
fn scale<T: Real, const N: usize>(rows: &mut [Row<T>; N], w: &[[T; 2]; N]) {
    let w = *w;
    for l in 0..LANES {
        for (row, w) in rows.iter_mut().zip(w) {
            [row[0][l], row[1][l]] = turn::<T, false>([row[0][l], row[1][l]], w);
        }
    }
}

/// Adds `conj(x) y` to `sums`, row by row and lane by lane.
#[multiversion(targets("x86_64+avx512f+avx512vl+avx512dq+avx512bw+avx2+fma", "x86_64+avx2+fma"))]
pub(super) fn correlate<T: Real>(x: &[Row<T>], y: &[Row<T>], sums: &mut [Row<T>]) {
    let ((x, x_rest), (y, y_rest)) = (x.as_chunks::<4>(), y.as_chunks::<4>());
    let (sums, sums_rest) = sums.as_chunks_mut::<4>();
    for ((x, y), sums) in x.iter().zip(y).zip(sums) {
        accumulate(x, y, sums);
    }
    for ((x, y), sum) in x_rest.as_chunks::<1>().0.iter().zip(y_rest.as_chunks().0).zip(sums_rest.as_chunks_mut().0) {
        accumulate(x, y, sum);
    }
}

#[inline(always)]
fn accumulate<T: Real, const N: usize>(x: &[Row<T>; N], y: &[Row<T>; N], sums: &mut [Row<T>; N]) {
    for l in 0..LANES {
        for k in 0..N {
            let [re, im] = turn::<T, true>([y[k][0][l], y[k][1][l]], [x[k][0][l], x[k][1][l]]);
            [sums[k][0][l], sums[k][1][l]] = [sums[k][0][l] + re, sums[k][1][l] + im];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that look random.
    fn rows(n: usize) -> Vec<Row<f64>> {
        let at = |t: usize, l: usize| ((t * 37 + l * 11) as f64 * 0.7).sin();
        (0..n).map(|t| [std::array::from_fn(|l| at(t, l)), std::array::from_fn(|l| at(t, l + 50))]).collect()
    }

    fn largest(a: &[Row<f64>], b: &[Row<f64>]) -> f64 {
        a.as_flattened()
            .as_flattened()
            .iter()
            .zip(b.as_flattened().as_flattened())
            .fold(0.0, |m, (a, b)| f64::max(m, (a - b).abs()))
    }

    #[test]
    fn the_transform_holds_every_frequency_of_the_sum_once() {
        for n in [2, 3, 4, 6, 8, 12, 16, 24, 96] {
            let x = rows(n);
            let mut y = x.clone();
            Plan::new(n).forward(&mut y);
            for k in 0..n {
                let mut want: Row<f64> = Default::default();
                for (t, x) in x.iter().enumerate() {
                    let (s, c) = (-TAU * (t * k % n) as f64 / n as f64).sin_cos();
                    for l in 0..LANES {
                        want[0][l] += x[0][l] * c - x[1][l] * s;
                        want[1][l] += x[0][l] * s + x[1][l] * c;
                    }
                }
                let near = y.iter().filter(|y| largest(std::slice::from_ref(y), &[want]) < 1e-11).count();
                assert_eq!(near, 1, "frequency {k} of {n}");
            }
        }
    }

    #[test]
    fn the_inverse_undoes_the_transform_above_and_below_the_cache_block() {
        for n in [2, 12, 512, 1024, 1536, 4096] {
            let x = rows(n);
            let mut y = x.clone();
            let plan = Plan::new(n);
            plan.forward(&mut y);
            plan.inverse(&mut y);
            y.as_flattened_mut().as_flattened_mut().iter_mut().for_each(|v| *v /= n as f64);
            assert!(largest(&x, &y) < 1e-13, "{n}: {}", largest(&x, &y));
        }
    }

    #[test]
    fn sizes_are_powers_of_two_or_three_times_one() {
        assert_eq!([1, 2, 3, 5, 7, 13, 1025, 2047, 2049].map(Plan::<f32>::size), [2, 2, 3, 6, 8, 16, 1536, 2048, 3072]);
    }
}
