//! Numbers as the tables print them.

use crate::grid::digits;
use crate::statistics::{Interval, Measured};

/// `+1.2`; empty without a difference.
pub(crate) fn signed(points: Option<f64>) -> String {
    let text = points.map_or(String::new(), |points| format!("{points:+.1}"));
    if ["+0.0", "-0.0"].contains(&text.as_str()) { "0.0".into() } else { text }
}

/// So many decimals, or `-`.
pub(crate) fn decimals(value: Option<f64>, places: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.places$}"))
}

/// `4.123 [4.101, 4.145]`, or `4.123 (n = 1)`; empty without a number.
pub(crate) fn decimals_or_none(measured: Option<&Measured>) -> String {
    around(measured, |value| format!("{value:.3}"))
}

/// The same with three digits that count.
pub(crate) fn digits_or_none(measured: Option<&Measured>) -> String {
    around(measured, digits)
}

fn around(measured: Option<&Measured>, text: impl Fn(f64) -> String) -> String {
    let Some((mean, measured)) = measured.and_then(|measured| Some((measured.mean?, measured))) else {
        return String::new();
    };
    match measured.interval {
        Some(Interval { low, high }) => format!("{} [{}, {}]", text(mean), text(low), text(high)),
        None if measured.n == 1 => format!("{} (n = 1)", text(mean)),
        None => text(mean),
    }
}
