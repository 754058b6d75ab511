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
use crate::laws::goldens::{Golden, GoldenError, Replay};
use crate::math::min_rnn::{self, Cell, Sizes};
use crate::{ConfigError, Dims, Family, Mixer};
use serde_json::{Value, json};
use tch::nn;

/// `mixer: { min_lstm: { expand: 2.0 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Width of h over `d_model`. Reference: 1.
    pub expand: f64,
    /// What is written is positive, as the reference's scan in log space needs it. Without, it is any number, as in the paper's §3.
    pub positive: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { expand: 1.0, positive: true }
    }
}

impl Config {
    fn sizes(&self) -> Sizes {
        Sizes { cell: Cell::Lstm, expand: self.expand, positive: self.positive }
    }
}

impl Family for Config {
    const NAME: &'static str = "min_lstm";
    const ABOUT: &'static str = "minLSTM: gates without a past, a scan (Feng et al. 2024)";
    const PAPER: &'static str = "Feng et al. 2024, arXiv:2410.01201, §3.2, appendix B (log space)";
    const COMPLEXITY: &'static str = "time O(length · d_model · d_inner), memory O(length · d_inner)";
    const VERSION: u32 = 1;
    /// The language models of §4.3.
    const WIDTH: i64 = 384;

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[("minlstm", replay)]
    }

    fn variants() -> Vec<Value> {
        vec![json!({ "expand": 1.5 }), json!({ "positive": false })]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("weight", 30.0)]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        self.sizes().scalars(dims)
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        self.sizes().check(dims)
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(self.sizes().layer(vs, dims))
    }
}

/// A whole layer: `minlstm__*`. Absent keys are the defaults of the reference's class.
pub fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    let cfg = Config { expand: golden.number_or("expansion_factor", 1.0)?, positive: true };
    min_rnn::replay(golden, cfg.sizes(), &cfg)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::deviations;
    use crate::math::min_rnn::assert_plain_twin;
    use tch::Device;
    use tch::nn::VarStore;

    #[test]
    fn the_layer_is_its_equations_in_values_and_gradients() {
        for expand in [1.0, 1.5] {
            assert_plain_twin(Config { expand, ..Config::default() }.sizes(), |parts, h| {
                let (f, i) = (parts[1].sigmoid(), parts[2].sigmoid());
                (&f * h + &i * &parts[0]) / (&f + &i)
            });
        }
    }

    #[test]
    fn parameters_start_as_published() {
        let vs = VarStore::new(Device::Cpu);
        let _layer = Config { expand: 2.0, ..Config::default() }
            .build(&vs.root(), &Dims { d_model: 64, seq_len: 8, causal: true });
        let uniform = |inputs: f64| (0.0, 1.0 / (3.0 * inputs).sqrt()); // PyTorch's U(±1/√inputs)
        deviations(&vs, |name| uniform(if name == "to_out.weight" { 128.0 } else { 64.0 }));
    }

    #[test]
    fn what_cannot_be_built_is_named() {
        let keys = |cfg: Config| -> Vec<&str> {
            cfg.check(&Dims { d_model: 12, seq_len: 8, causal: false }).iter().map(|e| e.key).collect()
        };
        assert!(keys(Config::default()).is_empty());
        for expand in [0.0, 0.3, -1.0, 1e9, f64::NAN] {
            assert_eq!(keys(Config { expand, ..Config::default() }), ["expand"]);
        }
    }
}
