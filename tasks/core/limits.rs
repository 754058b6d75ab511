//! The largest whole numbers a task's settings may have: beyond them no machine holds an example, and sums of lengths would leave
//! their 32 bits. A task checks its settings only once they are within these.

use crate::FRESH;
use serde_json::Value;
use settings::{ConfigError, field_name, whole_numbers};

/// The power of two of the largest length, width, vocabulary, and of any whole number without a limit of its own.
pub const SIZE: u32 = 20;

/// The power of two of the largest number of examples, [`FRESH`].
pub const COUNT: u32 = FRESH.trailing_zeros();

/// Keys of the numbers of examples, in the order of [`crate::Split::ALL`].
pub(crate) const COUNT_KEYS: [&str; 3] = ["train_examples", "validation_examples", "test_examples"];

/// The power of two of the longest side of a picture, whose pixels are positions.
pub const SIDE: u32 = SIZE / 2;

/// The power of two of the largest value of the setting `key`, whose task has these limits of its own; `None` for seeds, which
/// may be anything.
pub fn most(key: &str, own: &[(&str, u32)]) -> Option<u32> {
    if key.ends_with("seed") {
        return None;
    }
    let known = own.iter().find(|(name, _)| *name == key).map(|(_, power)| *power);
    Some(known.unwrap_or(if COUNT_KEYS.contains(&key) { COUNT } else { SIZE }))
}

/// Whole numbers of `settings` that are beyond their limits, however deep they are.
pub(crate) fn beyond(settings: &Value, own: &[(&str, u32)]) -> Vec<ConfigError> {
    let mut found = Vec::new();
    whole_numbers(settings, &mut |field, key, number| {
        let Some(power) = most(key, own).filter(|power| number > 1 << power) else { return };
        let problem = format!("`{key}` is {number}, more than 2^{power}");
        found.push(ConfigError::new(field_name(field), problem, format!("use at most {}", 1_u64 << power)));
    });
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const OWN: &[(&str, u32)] = &[("side", SIDE), ("examples", COUNT)];

    #[test]
    fn numbers_beyond_the_limits_are_refused_by_key_however_deep_they_stand() {
        let keys = |settings: Value| beyond(&settings, OWN).iter().map(|error| error.key).collect::<Vec<_>>();
        assert_eq!(keys(json!({ "seq_len": 1 << 20, "data_seed": u64::MAX, "x": null, "y": 1e300 })), [""; 0]);
        assert_eq!(keys(json!({ "seq_len": (1 << 20) + 1, "test_lengths": [8, u64::MAX], "side": 2000 })), {
            ["seq_len", "test_lengths", "side"]
        });
        let nested = json!({ "tokenizer": { "bpe": { "vocab_size": 4_000_000_000_u64 } } });
        assert_eq!(beyond(&nested, OWN)[0].problem, "`vocab_size` is 4000000000, more than 2^20");
        assert_eq!(keys(nested), ["tokenizer"]);
        assert_eq!(keys(json!({ "mixture": [{ "kv_pairs": 4, "examples": 1_u64 << 41 }] })), ["mixture"]);
    }
}
