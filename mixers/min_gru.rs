//! minGRU: a gated recurrent unit whose gate and candidate see only the input.
//!
//! ```text
//! z_t = σ(W_z x_t),   h_t = (1 - z_t) h_{t-1} + z_t c(W_h x_t)                  channel by channel
//! c(u) = u + ½ for u ≥ 0, σ(u) below; without `positive` c(u) = u
//! y_t = to_out h_t,   left out where h is as wide as x and reads one direction
//! M[t,s] = z_s Π_{s<r≤t} (1 - z_r)    for s ≤ t, one M a channel, V = c(W_h x)
//! ```
//! Paper    Feng et al. 2024, arXiv:2410.01201, §3.1, appendix B (log space)
//! Time     O(length · d_model · d_inner), the scan one position after another on a CPU ([`crate::math::diagonal_scan`])
//! Memory   O(length · d_inner) to train; state d_inner to decode, whatever the length
//! Matches  lucidrains/minGRU-pytorch at 38b26e1, `minGRU`, whose scan is in log space: outputs and gradients, with a given state too
//!          (`fixtures/goldens/mingru__*`)
//! Departs  as that code from the paper's: maps have no biases. The scan is not in log space, which positive states allow and others do not
//!
//! Bidirectional: a second layer reads from the end ([`crate::math::directions`]).

use crate::core::family::ReplayFn;
use crate::math::min_rnn::{self, Cell, Which};

/// `mixer: { min_gru: { expand: 2.0 } }`
pub type Config = min_rnn::Config<MinGru>;

/// Which of the two it is.
#[derive(Clone, Debug)]
pub struct MinGru;

impl Which for MinGru {
    const NAME: &'static str = "min_gru";
    const ABOUT: &'static str = "minGRU: gates without a past, a scan (Feng et al. 2024)";
    const PAPER: &'static str = "Feng et al. 2024, arXiv:2410.01201, §3.1, appendix B (log space)";
    const CELL: Cell = Cell::Gru;
    const REPLAYS: &'static [(&'static str, ReplayFn)] = &[("mingru", min_rnn::replay::<Self>)];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_is_its_equations_in_values_and_gradients() {
        min_rnn::assert_plain_twin::<MinGru>(|parts, h| {
            let z = parts[1].sigmoid();
            (1.0 - &z) * h + z * &parts[0]
        });
    }
}
