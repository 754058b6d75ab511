//! Curves through measurements by ordinary least squares, and where they cross.
//!
//! ```text
//! power      ln y = p ln n + ln k
//! attention  y = a n² + b n + c
//! others     y = d n + e
//! efficiency length: the larger root of a n² + (b - d) n + (c - e) = 0
//! ```
//! Paper    Zhang et al. 2023, CAB, arXiv:2210.07661 (`scripts/efficiency_length`): no weights, R² of both fits beside it
//! Departs  a fit through as many points as it has coefficients says nothing, so one more is asked for; where a ≤ 0 the
//!          larger root is no length from which attention costs more, and none is given

use crate::bench::record::Quantity;
use serde::Serialize;

/// Points a parabola needs here.
const FOR_PARABOLA: usize = 4;
/// Points a line needs here.
const FOR_LINE: usize = 3;
/// A root so many times the longest length is told as such: the n² term decides it, and could hardly be seen.
const FAR: f64 = 10.0;

/// The length from which a mixer costs less than attention, as CAB defines it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Efficiency {
    /// The mixer.
    pub label: String,
    /// Of which cost.
    pub quantity: Quantity,
    /// The length; `None` where the fits have no such root.
    pub length: Option<f64>,
    /// `a n² + b n + c` through attention.
    pub attention: Option<Parabola>,
    /// `d n + e` through the mixer.
    pub own: Option<Line>,
    /// Why there is no length, or that it lies outside of those measured.
    pub remark: String,
}

/// `y = scale · nᵖ`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Power {
    /// p.
    pub exponent: f64,
    /// y at n = 1.
    pub scale: f64,
    /// Of the line through the logarithms.
    pub r2: f64,
}

/// `y = slope · n + constant`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Line {
    /// d.
    pub slope: f64,
    /// e.
    pub constant: f64,
    /// Share of the variance explained.
    pub r2: f64,
}

/// `y = square · n² + slope · n + constant`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Parabola {
    /// a.
    pub square: f64,
    /// b.
    pub slope: f64,
    /// c.
    pub constant: f64,
    /// Share of the variance explained.
    pub r2: f64,
}

/// Where attention's parabola meets a mixer's line.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Crossing {
    /// Attention costs more from here on.
    At(f64),
    /// The roots are not positive: attention costs more at every length.
    NotPositive,
    /// There is no real root: attention costs more at every length.
    NotReal,
    /// The parabola does not open upwards: there is no length from which attention costs more.
    NotConvex,
}

/// The power law through some points; `None` below two different lengths, or with a number that has no logarithm.
pub fn power(points: &[(f64, f64)]) -> Option<Power> {
    if points.iter().any(|(n, y)| !(*n > 0.0 && *y > 0.0)) {
        return None;
    }
    let logs: Vec<(f64, f64)> = points.iter().map(|(n, y)| (n.ln(), y.ln())).collect();
    line(&logs).map(|l| Power { exponent: l.slope, scale: l.constant.exp(), r2: l.r2 })
}

/// The line through some points; `None` below two different places.
pub fn line(points: &[(f64, f64)]) -> Option<Line> {
    let [constant, slope] = least_squares(points)?;
    Some(Line { slope, constant, r2: r2(points, |n| slope * n + constant) })
}

/// The parabola through some points; `None` below three different places.
pub fn parabola(points: &[(f64, f64)]) -> Option<Parabola> {
    let [constant, slope, square] = least_squares(points)?;
    Some(Parabola { square, slope, constant, r2: r2(points, |n| (square * n + slope) * n + constant) })
}

/// Where attention becomes the dearer one.
pub fn crossing(attention: &Parabola, own: &Line) -> Crossing {
    let (a, b, c) = (attention.square, attention.slope - own.slope, attention.constant - own.constant);
    let under_root = b * b - 4.0 * a * c;
    if a <= 0.0 {
        return Crossing::NotConvex;
    }
    if under_root < 0.0 {
        return Crossing::NotReal;
    }
    // The form without cancellation: one of the two always adds numbers of one sign.
    let root = if b <= 0.0 { (under_root.sqrt() - b) / (2.0 * a) } else { -2.0 * c / (b + under_root.sqrt()) };
    if root > 0.0 { Crossing::At(root) } else { Crossing::NotPositive }
}

/// Coefficients of 1, n, n², … by the normal equations; places are scaled to 1, so that these keep their digits.
fn least_squares<const K: usize>(points: &[(f64, f64)]) -> Option<[f64; K]> {
    let scale = points.iter().map(|(n, _)| n.abs()).fold(0.0, f64::max);
    let mut places: Vec<f64> = points.iter().map(|(n, _)| *n).collect();
    places.sort_by(f64::total_cmp);
    places.dedup();
    if places.len() < K || scale == 0.0 || points.iter().any(|(_, y)| !y.is_finite()) {
        return None;
    }
    let mut rows = [[0.0; K]; K];
    let mut right = [0.0; K];
    for (n, y) in points {
        let powers: [f64; K] = std::array::from_fn(|i| (n / scale).powi(i as i32));
        for i in 0..K {
            right[i] += powers[i] * y;
            for j in 0..K {
                rows[i][j] += powers[i] * powers[j];
            }
        }
    }
    let found = solve(rows, right);
    Some(std::array::from_fn(|i| found[i] / scale.powi(i as i32)))
}

/// Gaussian elimination of a positive definite matrix, which needs no pivots.
fn solve<const K: usize>(mut rows: [[f64; K]; K], mut right: [f64; K]) -> [f64; K] {
    for i in 0..K {
        for below in i + 1..K {
            let factor = rows[below][i] / rows[i][i];
            let above = rows[i];
            for (entry, over) in rows[below].iter_mut().zip(above) {
                *entry -= factor * over;
            }
            right[below] -= factor * right[i];
        }
    }
    for i in (0..K).rev() {
        let known: f64 = (i + 1..K).map(|j| rows[i][j] * right[j]).sum();
        right[i] = (right[i] - known) / rows[i][i];
    }
    right
}

/// 1 minus the residual's share of the variance; of a constant, 1.
fn r2(points: &[(f64, f64)], fitted: impl Fn(f64) -> f64) -> f64 {
    let mean = points.iter().map(|(_, y)| y).sum::<f64>() / points.len() as f64;
    let left: f64 = points.iter().map(|(n, y)| (y - fitted(*n)).powi(2)).sum();
    let all: f64 = points.iter().map(|(_, y)| (y - mean).powi(2)).sum();
    if all > 0.0 { 1.0 - left / all } else { 1.0 }
}

/// The efficiency length from the points of attention and of a mixer.
pub(super) fn efficiency(label: &str, quantity: Quantity, attention: &[(f64, f64)], own: &[(f64, f64)]) -> Efficiency {
    let few = |points: &[(f64, f64)], needed: usize| points.len() < needed;
    let parabola = if few(attention, FOR_PARABOLA) { None } else { parabola(attention) };
    let line = if few(own, FOR_LINE) { None } else { line(own) };
    let longest = attention.iter().chain(own).map(|(n, _)| *n).fold(0.0, f64::max);
    let shortest = attention.iter().chain(own).map(|(n, _)| *n).fold(f64::INFINITY, f64::min);
    let found = parabola.as_ref().zip(line.as_ref()).map(|(parabola, line)| crossing(parabola, line));
    let (length, remark) = match found {
        None if parabola.is_none() => {
            (None, format!("attention at {} of the {FOR_PARABOLA} lengths its fit needs", attention.len()))
        }
        None => (None, format!("measured at {} of the {FOR_LINE} lengths its fit needs", own.len())),
        Some(Crossing::At(n)) if n >= FAR * longest => {
            let remark = format!("{:.0} times the longest measured: attention's fit hardly bends", n / longest);
            (Some(n), remark)
        }
        Some(Crossing::At(n)) if n > longest => (Some(n), "beyond the lengths measured".into()),
        Some(Crossing::At(n)) if n < shortest => (Some(n), "below the lengths measured".into()),
        Some(Crossing::At(n)) => (Some(n), String::new()),
        Some(Crossing::NotPositive) => (None, "no positive root: attention costs more at every length".into()),
        Some(Crossing::NotReal) => (None, "no real root: attention costs more at every length".into()),
        Some(Crossing::NotConvex) => (None, "attention's fit does not bend upwards".into()),
    };
    Efficiency { label: label.into(), quantity, length, attention: parabola, own: line, remark }
}
