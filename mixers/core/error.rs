//! What a mixer cannot do, and the checks that its settings share.

use crate::core::limits::width;
use settings::{ConfigError, at_least, divides};

/// What to do where weights belong to a length that nothing names.
pub const LENGTH_UNKNOWN: &str = "put beside the file the config.json that `mixarena export-weights` writes, or one with the \
                                  longest sequence of its training: { \"seq_len\": 1024 }";

/// Why a mixer has no mixing matrix.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no mixing matrix: {0}")]
pub struct NotLinear(pub &'static str);

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
