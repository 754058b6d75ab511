//! The largest whole numbers a mixer's settings may have. Beyond them no machine could train the layer, and the arithmetic of
//! shapes and costs would leave 64 bits: within them it cannot, for no product of lengths and widths in [`crate::Cost`] reaches
//! 2^63.

use crate::Dims;
use serde_json::Value;
use settings::{ConfigError, field_name, whole_numbers};

/// Widest residual stream.
pub const D_MODEL: i64 = 1 << 16;

/// Longest sequence, a position for a `cls` vector included.
pub const SEQ_LEN: i64 = (1 << 20) + 1;

/// Largest width inside a layer, such as `expand · d_model`, and of any whole number without a limit of its own.
pub const WIDTH: i64 = 1 << 17;

/// Most numbers that a layer may consist of, its buffers included.
pub const SCALARS: f64 = (1_u64 << 36) as f64;

/// Settings with a limit of their own.
const OTHERS: [(&str, i64); 8] = [
    ("window", 1 << 20),
    ("segment", 1 << 20),
    ("l_max", 1 << 20),
    ("chunk_size", 1 << 14),
    ("d_state", 1 << 12),
    ("d_conv", 1 << 12),
    ("householder", 64),
    ("rank", 64),
];

/// The largest value that the setting `key` may have in any mixer.
pub fn most(key: &str) -> i64 {
    OTHERS.iter().find(|(name, _)| *name == key).map_or(WIDTH, |(_, most)| *most)
}

/// Whole numbers of `settings` that are too large, or so far below 0 that they are no numbers of anything.
pub(crate) fn beyond(settings: &Value, dims: &Dims) -> Vec<ConfigError> {
    let mut found = Vec::new();
    let lengths = [("d_model", dims.d_model, D_MODEL), ("seq_len", dims.seq_len, SEQ_LEN)];
    for (key, value, most) in lengths {
        found.extend(refused(key, i128::from(value), most));
    }
    whole_numbers(settings, &mut |field, key, number| {
        found.extend(refused(key, number, most(key)).map(|error| ConfigError { key: field_name(field), ..error }));
    });
    found
}

fn refused(key: &str, value: i128, most: i64) -> Option<ConfigError> {
    let (problem, help) = if value > i128::from(most) {
        (format!("`{key}` is {value}, more than {most}, the most there may be"), format!("use {most} or less"))
    } else if value < -i128::from(most) {
        (format!("`{key}` is {value}, which is below 0"), "use a positive number".into())
    } else {
        return None;
    };
    Some(ConfigError { key: field_name(key), problem, help })
}

/// The product of settings, `what` in words, must not be wider than a layer may be. Each factor is within its own limit.
pub(crate) fn width(key: &'static str, what: &str, factors: &[i64]) -> Result<(), ConfigError> {
    let product: i128 = factors.iter().map(|&factor| i128::from(factor)).product();
    if product <= i128::from(WIDTH) {
        return Ok(());
    }
    let problem = format!("`{what}` is {product}, more than {WIDTH}, the most a layer may be wide");
    Err(ConfigError { key, problem, help: format!("make `{key}` smaller") })
}

/// What is said of a layer of `scalars` numbers.
pub(crate) fn too_many(key: &'static str, scalars: f64) -> Option<ConfigError> {
    let problem = format!("a layer with these settings has {scalars:.1e} numbers, more than {SCALARS:.1e}");
    let help =
        "make the widest setting smaller, or `d_model`, or sequences shorter where the layer learns their positions";
    (scalars > SCALARS).then(|| ConfigError { key, problem, help: help.into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn numbers_beyond_the_limits_are_refused_by_key_however_deep_they_stand() {
        let dims = Dims { d_model: 64, seq_len: 128, causal: true };
        let keys = |settings: Value| beyond(&settings, &dims).iter().map(|error| error.key).collect::<Vec<_>>();
        assert_eq!(keys(json!({ "a": WIDTH, "chunk_size": 1 << 14, "x": null, "y": 1e300 })), [""; 0]);
        assert_eq!(keys(json!({ "a": WIDTH + 1, "b": i64::MIN, "c": u64::MAX, "d": [0, { "e": i64::MAX }] })), {
            ["a", "b", "c", "d"]
        });
        let wide = Dims { d_model: i64::MAX, seq_len: i64::MIN, causal: true };
        assert_eq!(beyond(&json!({}), &wide).iter().map(|error| error.key).collect::<Vec<_>>(), ["d_model", "seq_len"]);
        let error = &beyond(&json!({ "chunk_size": 1 << 15 }), &dims)[0];
        assert_eq!(error.problem, "`chunk_size` is 32768, more than 16384, the most there may be");
        assert_eq!(error.help, "use 16384 or less");
    }

    #[test]
    fn products_are_held_to_the_width_of_a_layer_whatever_their_factors() {
        assert!(width("expand", "expand · d_model", &[2, 65536]).is_ok());
        let error = width("expand", "expand · d_model", &[i64::MAX, i64::MAX]).unwrap_err();
        assert!(
            error.problem.starts_with("`expand · d_model` is 85070591730234615847396907784232501249, more than 131072")
        );
        assert!(too_many("s4", SCALARS).is_none() && too_many("s4", 2.0 * SCALARS).is_some());
    }
}
