//! minLSTM: an LSTM whose gates and candidate see only the input and whose output is its cell.
//!
//! ```text
//! f_t, i_t = σ(W_f x_t), σ(W_i x_t),   h_t = (f_t h_{t-1} + i_t c(W_h x_t)) / (f_t + i_t)       channel by channel
//! c(u) = u + ½ for u ≥ 0, σ(u) below; without `positive` c(u) = u
//! y_t = to_out h_t,   left out where h is as wide as x and reads one direction
//! M[t,s] = i_s / (f_s + i_s) Π_{s<r≤t} f_r / (f_r + i_r)    for s ≤ t, one M a channel, V = c(W_h x)
//! ```
//! Paper    Feng et al. 2024, arXiv:2410.01201, §3.2, appendix B (log space)
//! Time     O(length · d_model · d_inner), the scan one position after another on a CPU ([`crate::math::diagonal_scan`])
//! Memory   O(length · d_inner) to train; state d_inner to decode, whatever the length
//! Matches  lucidrains/minGRU-pytorch at 38b26e1, `minLSTM`, whose scan is in log space: outputs and gradients, with a given state too
//!          (`fixtures/goldens/minlstm__*`)
//! Departs  as that code from the paper's: maps have no biases. The scan is not in log space, which positive states allow and others do not
//!
//! Bidirectional: a second layer reads from the end ([`crate::math::directions`]).

use crate::core::family::ReplayFn;
use crate::math::min_rnn::{self, Cell, Which};

/// `mixer: { min_lstm: { expand: 2.0 } }`
pub type Config = min_rnn::Config<MinLstm>;

/// Which of the two it is.
#[derive(Clone, Debug)]
pub struct MinLstm;

impl Which for MinLstm {
    const NAME: &'static str = "min_lstm";
    const ABOUT: &'static str = "minLSTM: gates without a past, a scan (Feng et al. 2024)";
    const PAPER: &'static str = "Feng et al. 2024, arXiv:2410.01201, §3.2, appendix B (log space)";
    const CELL: Cell = Cell::Lstm;
    const REPLAYS: &'static [(&'static str, ReplayFn)] = &[("minlstm", min_rnn::replay::<Self>)];
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_layer_is_its_equations_in_values_and_gradients() {
        min_rnn::assert_plain_twin::<MinLstm>(|parts, h| {
            let (f, i) = (parts[1].sigmoid(), parts[2].sigmoid());
            (&f * h + &i * &parts[0]) / (&f + &i)
        });
    }
}
