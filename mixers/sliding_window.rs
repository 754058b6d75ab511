//! Sliding-window attention: softmax attention over the nearest positions.
//!
//! ```text
//! y_t = Σ_s M[t,s] v_s,   M = softmax(Q Kᵀ / √d_head) over  t - window < s ≤ t        causal: `window` keys
//!                                                      over  |t - s| < window          bidirectional: 2 window - 1 keys
//! ```
//! Paper    Beltagy et al. 2020 (Longformer), arXiv:2004.05150, §3.1
//! Time     O(length · window · d_model): queries in blocks of `window` read their own block and the one before (and after)
//! Memory   O(length · window · n_heads + length · d_model) to train; state O(window · d_model) to decode
//! Matches  the mixer `attention` with its key `window`, which it is; attention over the whole square with a mask, in values and
//!          gradients
//! Departs  zoology's `block_size` of w admits the w + 1 keys s ≥ t - w; Longformer's w counts both sides, window = w / 2 + 1 here

use crate::attention::{self, Attention};
use crate::{ConfigError, Dims, Family, Mixer};
use serde_json::{Value, json};
use tch::nn;

/// `mixer: { sliding_window: { window: 16 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Positions read on each side (only the past when causal), the own one included.
    pub window: i64,
    /// Parallel heads; must divide `d_model` unless `d_head` is given.
    pub n_heads: i64,
    /// Width of a head; null is `d_model / n_heads`.
    pub d_head: Option<i64>,
    /// Bias of the projections.
    pub bias: bool,
    /// As in `attention`: base of rotary positions; null has none.
    pub rotary_base: Option<f64>,
    /// Probability of dropping an entry of M.
    pub dropout: f64,
}

impl Default for Config {
    fn default() -> Self {
        let attention::Config { n_heads, d_head, bias, rotary_base, dropout, .. } = attention::Config::default();
        Self { window: 16, n_heads, d_head, bias, rotary_base, dropout }
    }
}

impl Config {
    fn attention(&self) -> attention::Config {
        let Self { window, n_heads, d_head, bias, rotary_base, dropout } = *self;
        attention::Config { window: Some(window), n_heads, d_head, bias, rotary_base, dropout }
    }
}

impl Family for Config {
    const NAME: &'static str = "sliding_window";
    const ABOUT: &'static str = "softmax attention over the nearest positions (Beltagy et al. 2020)";
    const PAPER: &'static str = "Beltagy et al. 2020, arXiv:2004.05150, §3.1";
    const COMPLEXITY: &'static str =
        "time O(length · window · d_model), memory O(length · (window · n_heads + d_model))";
    const VERSION: u32 = 2;
    /// The small character-level model, appendix A.
    const WIDTH: i64 = 512;

    fn small() -> Value {
        json!({ "n_heads": 2, "window": 4 })
    }

    fn variants() -> Vec<Value> {
        vec![
            json!({ "window": 1, "bias": false }),
            json!({ "window": 3, "d_head": 6, "rotary_base": 100.0 }),
            json!({ "window": 4 }),
        ]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        attention::Config::extremes()
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        self.attention().scalars(dims)
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        self.attention().check(dims)
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(Attention::new(vs, dims, &self.attention()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Context;
    use crate::laws::testing::noise;
    use tch::nn::VarStore;
    use tch::{Device, Kind, Tensor};

    /// The formula over the whole square, from the parameters alone: M of one row, valid in full.
    fn plain(vs: &VarStore, x: &Tensor, heads: i64, window: i64, causal: bool) -> Tensor {
        let parameters = vs.variables();
        let at = |name: &str| &parameters[name];
        let length = x.size()[1];
        let projected = x.matmul(&at("in_proj_weight").tr()) + at("in_proj_bias");
        let [q, k, v] = <[Tensor; 3]>::try_from(projected.chunk(3, -1)).expect("three parts");
        let [q, k, v] = [q, k, v].map(|t| t.unflatten(-1, [heads, -1]).transpose(1, 2));
        let far = |t: i64, s: i64| if causal { s > t || s <= t - window } else { (t - s).abs() >= window };
        let hidden: Vec<bool> = (0..length).flat_map(|t| (0..length).map(move |s| far(t, s))).collect();
        let hidden = Tensor::from_slice(&hidden).view([length, length]);
        let scores = q.matmul(&k.transpose(-2, -1)) / (q.size()[3] as f64).sqrt();
        let m = scores.masked_fill(&hidden, f64::NEG_INFINITY).softmax(-1, Kind::Double);
        m.matmul(&v).transpose(1, 2).flatten(2, 3).matmul(&at("out_proj.weight").tr()) + at("out_proj.bias")
    }

    #[test]
    fn blocks_are_the_masked_square_in_values_and_gradients() {
        for (length, window, causal) in
            [(23, 4, true), (23, 4, false), (24, 8, true), (24, 8, false), (9, 1, false), (5, 16, true), (5, 16, false)]
        {
            let cfg = Config { window, n_heads: 2, ..Config::default() };
            let mut vs = VarStore::new(Device::Cpu);
            let mixer = cfg.build(&vs.root(), &Dims { d_model: 6, seq_len: length, causal });
            vs.double();
            let x = noise(&[2, length, 6], 1).set_requires_grad(true);
            let mut leaves = vs.trainable_variables();
            leaves.push(x.shallow_clone());
            let (fast, slow) = (mixer.forward(&x, &Context::eval()), plain(&vs, &x, 2, window, causal));
            let case = format!("length {length}, window {window}, causal {causal}");
            assert!(fast.allclose(&slow, 1e-11, 1e-13, false), "values, {case}");
            let cotangent = noise(&fast.size(), 2);
            let gradients =
                |y: Tensor| Tensor::run_backward(&[(y * &cotangent).sum(Kind::Double)], &leaves, false, false);
            for (fast, slow) in gradients(fast).iter().zip(gradients(slow)) {
                assert!(fast.allclose(&slow, 1e-10, 1e-12, false), "gradients, {case}");
            }
        }
    }

    #[test]
    fn a_position_is_read_from_as_far_as_the_window_says() {
        let reached = |causal: bool| {
            let vs = VarStore::new(Device::Cpu);
            let cfg = Config { window: 3, n_heads: 1, ..Config::default() };
            let mixer = cfg.build(&vs.root(), &Dims { d_model: 4, seq_len: 12, causal });
            let x = noise(&[1, 12, 4], 1).to_kind(Kind::Float);
            let shifted = &x + Tensor::one_hot(&Tensor::from_slice(&[5i64]), 12).view([1, 12, 1]);
            let moved = mixer.forward(&shifted, &Context::eval()) - mixer.forward(&x, &Context::eval());
            let moved = moved.abs().amax([0, 2], false).gt(1e-6);
            (0..12).filter(|t| moved.int64_value(&[*t]) == 1).collect::<Vec<i64>>()
        };
        assert_eq!(reached(true), [5, 6, 7]);
        assert_eq!(reached(false), [3, 4, 5, 6, 7]);
    }

    #[test]
    fn what_cannot_be_built_is_named() {
        let keys = |cfg: Config| -> Vec<&str> {
            cfg.check(&Dims { d_model: 12, seq_len: 8, causal: false }).iter().map(|e| e.key).collect()
        };
        assert!(keys(Config::default()).is_empty());
        assert_eq!(keys(Config { window: 0, n_heads: 5, ..Config::default() }), ["window", "n_heads"]);
    }
}
