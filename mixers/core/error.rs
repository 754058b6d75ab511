//! A user's mistakes in a mixer's settings. The mixer knows the key, the loader knows the line; each adds what it knows.

use crate::core::limits::width;

/// One setting that cannot be, by key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ConfigError {
    /// The key of the mixer's own config (or `d_model`) that is to blame.
    pub key: &'static str,
    /// What is wrong, naming the key and its value.
    pub problem: String,
    /// What to write instead.
    pub help: String,
}

/// Why a mixer has no mixing matrix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no mixing matrix: {0}")]
pub struct NotLinear(pub &'static str);

/// `n` must divide `d`.
pub fn divides(key: &'static str, n: i64, of: &'static str, d: i64) -> Result<(), ConfigError> {
    if n > 0 && d > 0 && d % n == 0 {
        return Ok(());
    }
    let problem = format!("`{key}` is {n}, which does not divide `{of}` = {d}");
    Err(ConfigError { key, problem, help: format!("use {}, or change `{of}`", divisors_around(n, d)) })
}

/// `n_heads` must divide `d_model`, or each head has a width of its own.
pub fn heads(n_heads: i64, d_head: Option<i64>, d_model: i64) -> Result<(), ConfigError> {
    match d_head {
        None => divides("n_heads", n_heads, "d_model", d_model),
        Some(d_head) => at_least("n_heads", n_heads, 1).and(at_least("d_head", d_head, 1)).and(width(
            "d_head",
            "n_heads · d_head",
            &[n_heads, d_head],
        )),
    }
}

/// `value` must be `least` or more.
pub fn at_least(key: &'static str, value: i64, least: i64) -> Result<(), ConfigError> {
    if value >= least {
        return Ok(());
    }
    let problem = format!("`{key}` is {value}, which is below {least}");
    Err(ConfigError { key, problem, help: format!("use {least} or more") })
}

/// `value` must be `most` or less.
pub fn at_most(key: &'static str, value: i64, most: i64) -> Result<(), ConfigError> {
    if value <= most {
        return Ok(());
    }
    let problem = format!("`{key}` is {value}, more than {most}, the most there may be here");
    Err(ConfigError { key, problem, help: format!("use {most} or less") })
}

/// `value` must lie in `low ..= high` and be finite.
pub fn between(key: &'static str, value: f64, low: f64, high: f64) -> Result<(), ConfigError> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    let problem = format!("`{key}` is {value}, which is not between {low} and {high}");
    Err(ConfigError { key, problem, help: format!("use a number from {low} to {high}") })
}

/// The nearest divisors of `d` below and above `n`: "4 or 8".
fn divisors_around(n: i64, d: i64) -> String {
    // Divisors come in pairs, one of them up to the root: a width has few, and few numbers are tried.
    let small = (1..=d.clamp(0, 1 << 40)).take_while(|k| k * k <= d).filter(|k| d % k == 0);
    let divisors: Vec<i64> = small.flat_map(|k| [k, d / k]).collect();
    let below = divisors.iter().copied().filter(|k| *k < n).max();
    let above = divisors.iter().copied().filter(|k| *k > n).min();
    match (below, above) {
        (Some(b), Some(a)) => format!("{b} or {a}"),
        (Some(k), None) | (None, Some(k)) => k.to_string(),
        (None, None) => "a divisor".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_the_divisors_on_both_sides() {
        assert_eq!(divides("n_heads", 6, "d_model", 128).unwrap_err().help, "use 4 or 8, or change `d_model`");
        assert_eq!(divides("n_heads", 300, "d_model", 128).unwrap_err().help, "use 128, or change `d_model`");
        assert_eq!(divides("n_heads", 0, "d_model", 128).unwrap_err().help, "use 1, or change `d_model`");
        assert_eq!(divides("n_heads", i64::MAX, "d_model", 128).unwrap_err().help, "use 128, or change `d_model`");
        assert_eq!(divides("n_heads", i64::MIN, "d_model", 128).unwrap_err().help, "use 1, or change `d_model`");
        assert_eq!(divides("n_heads", 3, "d_model", 1 << 33).unwrap_err().help, "use 2 or 4, or change `d_model`");
        assert_eq!(divides("n_heads", 3, "d_model", -4).unwrap_err().help, "use a divisor, or change `d_model`");
        assert!(divides("n_heads", 8, "d_model", 128).is_ok());
    }

    #[test]
    fn a_number_that_is_not_one_is_out_of_range() {
        assert!(between("dropout", f64::NAN, 0.0, 1.0).is_err());
        assert!(between("dropout", 0.5, 0.0, 1.0).is_ok());
    }
}
