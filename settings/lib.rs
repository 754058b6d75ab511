//! What is wrong with a setting, and what to write instead: mixers, tasks and the config loader say it in one form. The owner of
//! a setting knows its key, the loader knows the line; each adds what it knows.

use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// One setting that cannot be, by key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ConfigError {
    /// The key to blame.
    pub key: &'static str,
    /// What is wrong, naming the key and its value.
    pub problem: String,
    /// What to write instead.
    pub help: String,
}

impl ConfigError {
    /// `key` is to blame for `problem`; `help` says what to write.
    pub fn new(key: &'static str, problem: impl Into<String>, help: impl Into<String>) -> Self {
        Self { key, problem: problem.into(), help: help.into() }
    }
}

/// Calls `each` with every whole number in `settings`: the field it belongs to, the innermost key it stands under, and the number.
pub fn whole_numbers(settings: &Value, each: &mut impl FnMut(&str, &str, i128)) {
    fn walk(field: &str, key: &str, value: &Value, each: &mut impl FnMut(&str, &str, i128)) {
        match value {
            Value::Number(number) => {
                let whole = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
                whole.into_iter().for_each(|whole| each(field, key, whole));
            }
            Value::Array(items) => items.iter().for_each(|item| walk(field, key, item, each)),
            Value::Object(map) => map.iter().for_each(|(inner, item)| walk(field, inner, item, each)),
            _ => {}
        }
    }
    for (field, value) in settings.as_object().into_iter().flatten() {
        walk(field, field, value, each);
    }
}

/// The name of a field as errors carry it. There are as many as fields, so that what is kept for good is little.
pub fn field_name(key: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(name) = names.get(key) {
        return name;
    }
    let name: &'static str = String::leak(key.to_owned());
    names.insert(name);
    name
}

/// `n` must divide `d`.
pub fn divides(key: &'static str, n: i64, of: &'static str, d: i64) -> Result<(), ConfigError> {
    if n > 0 && d > 0 && d % n == 0 {
        return Ok(());
    }
    let problem = format!("`{key}` is {n}, which does not divide `{of}` = {d}");
    Err(ConfigError { key, problem, help: format!("use {}, or change `{of}`", divisors_around(n, d)) })
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
    if d > 1 << 40 {
        return "a divisor".into();
    }
    // Divisors come in pairs, one of them up to the root: a width has few, and few numbers are tried.
    let small = (1..=d.max(0)).take_while(|k| k * k <= d).filter(|k| d % k == 0);
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
