//! Gated recurrent unit: a recurrent network that moves its state part of the way to a candidate.
//!
//! ```text
//! r, z = σ(W_ih x_t + b_ih + W_hh h_{t-1} + b_hh)            their rows of each
//! n    = tanh(W_in x_t + b_in + r (W_hn h_{t-1} + b_hn))     reset after the product
//! h_t  = (1 - z) n + z h_{t-1}
//! y_t  = h_t,   or out_proj h_t where d_hidden is not d_model
//! ```
//! Paper    Cho et al. 2014, arXiv:1406.1078, §2.3
//! Time     O(length · d_hidden · (d_model + d_hidden)), one position after another: no parallel form
//! Memory   O(length · d_hidden) to train; state d_hidden to decode, whatever the length
//! Matches  `torch.nn.GRU` with one layer: its names, layout and U(±1/√d_hidden), libtorch's network and a plain loop over the
//!          equations in values and gradients. No dump
//! Departs  as torch from the paper's eq. 8, where the reset gate multiplies h_{t-1} before the product with W_hn; biases, which the
//!          paper leaves out
//!
//! Bidirectional: a second network (`…_reverse`) reads each row from the end of its valid part; both outputs, side by side, are
//! projected to d_model.

use crate::math::rnn::{Cell, Layer, Sizes};
use crate::{ConfigError, Dims, Family, Mixer};
use serde_json::{Value, json};
use tch::nn;

/// `mixer: { gru: { d_hidden: 128 } }`
#[derive(Clone, Debug, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Width of h; null is `d_model`. Another width adds a projection to `d_model`.
    pub d_hidden: Option<i64>,
    /// W_hh of each gate starts orthogonal instead of uniform.
    pub orthogonal: bool,
}

impl Config {
    fn sizes(&self) -> Sizes {
        Sizes { d_hidden: self.d_hidden, orthogonal: self.orthogonal }
    }

    fn layer(&self, vs: &nn::Path, dims: &Dims) -> Layer {
        Layer::new(vs, dims, Cell::Gru, self.sizes())
    }
}

impl Family for Config {
    const NAME: &'static str = "gru";
    const ABOUT: &'static str = "gated recurrent unit, libtorch's (Cho et al. 2014)";
    const PAPER: &'static str = "Cho et al. 2014, arXiv:1406.1078, §2.3";
    const COMPLEXITY: &'static str =
        "time O(length · d_hidden · (d_model + d_hidden)), sequential; memory O(length · d_hidden)";
    // 2: rounding moved when both directions became one loop of our own.
    const VERSION: u32 = 2;
    /// §4.1.1: 1000 hidden units.
    const WIDTH: i64 = 1000;

    fn variants() -> Vec<Value> {
        vec![json!({ "d_hidden": 6 }), json!({ "d_hidden": null, "orthogonal": true })]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("weight_ih_l0", 30.0), ("weight_hh_l0", 30.0)]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        self.sizes().scalars(3.0, dims)
    }

    fn check(&self, _: &Dims) -> Vec<ConfigError> {
        self.sizes().check().into_iter().collect()
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(self.layer(vs, dims))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::rnn::assert_plain_twin;
    use tch::Tensor;

    /// The equations as they stand.
    fn step(x: &Tensor, state: &[Tensor], [w_ih, w_hh, b_ih, b_hh]: &[Tensor; 4]) -> Vec<Tensor> {
        let thirds = |t: Tensor| <[Tensor; 3]>::try_from(t.chunk(3, -1)).expect("three gates");
        let [xr, xz, xn] = thirds(x.matmul(&w_ih.tr()) + b_ih);
        let [hr, hz, hn] = thirds(state[0].matmul(&w_hh.tr()) + b_hh);
        let (r, z) = ((xr + hr).sigmoid(), (xz + hz).sigmoid());
        let n = (xn + r * hn).tanh();
        vec![(1.0 - &z) * n + z * &state[0]]
    }

    #[test]
    fn the_layer_is_its_equations_in_values_and_gradients() {
        for cfg in [Config::default(), Config { d_hidden: Some(5), orthogonal: true }] {
            assert_plain_twin(|vs, dims| cfg.layer(vs, dims), step);
        }
    }

    #[test]
    fn what_cannot_be_built_is_named() {
        let keys = |cfg: Config| -> Vec<&str> {
            cfg.check(&Dims { d_model: 12, seq_len: 8, causal: false }).iter().map(|e| e.key).collect()
        };
        assert!(keys(Config::default()).is_empty());
        assert_eq!(keys(Config { d_hidden: Some(0), ..Config::default() }), ["d_hidden"]);
    }
}
