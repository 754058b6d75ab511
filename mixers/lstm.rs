//! Long short-term memory: a gated recurrent network whose cell adds up what its gates let in.
//!
//! ```text
//! i | f | g | o = W_ih x_t + b_ih + W_hh h_{t-1} + b_hh
//! c_t = σ(f) c_{t-1} + σ(i) tanh(g),   h_t = σ(o) tanh(c_t)
//! y_t = h_t,   or out_proj h_t where d_hidden is not d_model
//! ```
//! Paper    Hochreiter & Schmidhuber 1997, Neural Computation 9(8); forget gate: Gers, Schmidhuber & Cummins 2000; its bias of 1:
//!          Jozefowicz, Zaremba & Sutskever 2015
//! Time     O(length · d_hidden · (d_model + d_hidden)), one position after another: no parallel form
//! Memory   O(length · d_hidden) to train; state 2 d_hidden to decode, whatever the length
//! Matches  `torch.nn.LSTM` with one layer: libtorch's own kernel, its names, layout and U(±1/√d_hidden); a plain loop over the
//!          equations in values and gradients. No dump
//! Departs  the two biases of the forget gate start at a sum of 1; torch draws them like the rest
//!
//! Bidirectional: a second network (`…_reverse`) reads each row from the end of its valid part; both outputs, side by side, are
//! projected to d_model.

use crate::math::rnn::{Cell, Layer, Sizes};
use crate::{ConfigError, Dims, Family, Mixer, between};
use serde_json::{Value, json};
use tch::nn;

/// `mixer: { lstm: { d_hidden: 128 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Width of h and of c; null is `d_model`. Another width adds a projection to `d_model`.
    pub d_hidden: Option<i64>,
    /// What the two biases of the forget gate start at, added up: 1 keeps memory at first, 0 forgets half a step.
    pub forget_bias: f64,
    /// W_hh of each gate starts orthogonal instead of uniform.
    pub orthogonal: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { d_hidden: None, forget_bias: 1.0, orthogonal: false }
    }
}

impl Config {
    fn sizes(&self) -> Sizes {
        Sizes { d_hidden: self.d_hidden, orthogonal: self.orthogonal }
    }

    fn layer(&self, vs: &nn::Path, dims: &Dims) -> Layer {
        Layer::new(vs, dims, Cell::Lstm { forget_bias: self.forget_bias }, self.sizes())
    }
}

impl Family for Config {
    const NAME: &'static str = "lstm";
    const ABOUT: &'static str = "long short-term memory, libtorch's (Hochreiter & Schmidhuber 1997)";
    const PAPER: &'static str = "Hochreiter & Schmidhuber 1997, Neural Computation 9(8):1735-1780";
    const COMPLEXITY: &'static str =
        "time O(length · d_hidden · (d_model + d_hidden)), sequential; memory O(length · d_hidden)";
    const VERSION: u32 = 1;
    /// Sutskever et al. 2014, arXiv:1409.3215, §3.4.
    const WIDTH: i64 = 1000;

    fn variants() -> Vec<Value> {
        vec![json!({ "d_hidden": 6 }), json!({ "d_hidden": null, "orthogonal": true, "forget_bias": 0.0 })]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("weight_ih_l0", 30.0), ("weight_hh_l0", 30.0)]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        self.sizes().scalars(4.0, dims)
    }

    fn check(&self, _: &Dims) -> Vec<ConfigError> {
        let bias = between("forget_bias", self.forget_bias, -100.0, 100.0).err();
        self.sizes().check().into_iter().chain(bias).collect()
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(self.layer(vs, dims))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::math::rnn::assert_plain_twin;
    use tch::nn::VarStore;
    use tch::{Device, Kind, Tensor};

    /// The equations as they stand.
    fn step(x: &Tensor, state: &[Tensor], [w_ih, w_hh, b_ih, b_hh]: &[Tensor; 4]) -> Vec<Tensor> {
        let gates = x.matmul(&w_ih.tr()) + b_ih + state[0].matmul(&w_hh.tr()) + b_hh;
        let [i, f, g, o] = <[Tensor; 4]>::try_from(gates.chunk(4, -1)).expect("four gates");
        let c = f.sigmoid() * &state[1] + i.sigmoid() * g.tanh();
        vec![o.sigmoid() * c.tanh(), c]
    }

    #[test]
    fn the_layer_is_its_equations_in_values_and_gradients() {
        for cfg in [Config::default(), Config { d_hidden: Some(5), orthogonal: true, ..Config::default() }] {
            assert_plain_twin(|vs, dims| cfg.layer(vs, dims), step);
        }
    }

    #[test]
    fn the_forget_gate_starts_open_and_recurrent_weights_orthogonal_where_asked() {
        let vs = VarStore::new(Device::Cpu);
        let cfg = Config { d_hidden: Some(5), orthogonal: true, ..Config::default() };
        let layer = cfg.layer(&vs.root(), &Dims { d_model: 4, seq_len: 8, causal: false });
        for network in &layer.networks {
            let [_, w_hh, b_ih, b_hh] = &network.weights;
            let sum = b_ih + b_hh;
            assert!(sum.narrow(0, 5, 5).eq(1.0).all().int64_value(&[]) == 1, "{sum}");
            assert!(sum.narrow(0, 0, 5).ne(1.0).all().int64_value(&[]) == 1, "{sum}");
            for gate in w_hh.chunk(4, 0) {
                let identity = Tensor::eye(5, (Kind::Float, Device::Cpu));
                assert!(gate.matmul(&gate.tr()).allclose(&identity, 1e-5, 1e-5, false));
            }
        }
    }

    #[test]
    fn what_cannot_be_built_is_named() {
        let keys = |cfg: Config| -> Vec<&str> {
            cfg.check(&Dims { d_model: 12, seq_len: 8, causal: false }).iter().map(|e| e.key).collect()
        };
        assert!(keys(Config::default()).is_empty());
        assert_eq!(keys(Config { d_hidden: Some(0), ..Config::default() }), ["d_hidden"]);
        assert_eq!(keys(Config { forget_bias: f64::NAN, ..Config::default() }), ["forget_bias"]);
    }
}
