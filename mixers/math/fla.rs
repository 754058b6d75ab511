//! What the layers of flash-linear-attention share: initial values, convolutions in front of the recurrence, and words of their dumps.
//!
//! Its models draw every dense weight from N(0, 0.02²), with biases of 0, over what its layers drew; that deviation travels with the width
//! ([`crate::deviation`]). Convolutions keep PyTorch's U(±1/√width), as the layers have them and as Zoology trains them
//! (fla-org/flash-linear-attention at bc3b101, fla/models/*/modeling_*.py, `initializer_range`; HazyResearch/zoology, zoology/model.py).

use crate::core::limits;
use crate::laws::goldens::{Golden, GoldenError};
use crate::math::short_conv::ShortConv;
use crate::{ConfigError, Linear, deviation};
use tch::Tensor;
use tch::nn::{self, Init};

/// Deviation of dense weights.
const STD: f64 = 0.02;
/// Of the norm of a head's output.
pub(crate) const EPS: f64 = 1e-5;

/// Added to ‖·‖² before the root.
pub(crate) const L2_EPS: f64 = 1e-6;

/// Why layers whose queries and keys are [`unit`] vectors are not as loud at every width.
pub(crate) const UNIT_VECTORS: &str = "queries and keys have length 1: in wide heads what is read is smaller than the eps of the norm \
                                       behind it. With a fixed `d_head` it is not";

/// Each vector of the last axis with length 1.
pub(crate) fn unit(t: &Tensor) -> Tensor {
    t * (t.square().sum_dim_intlist([-1].as_slice(), true, t.kind()) + L2_EPS).rsqrt()
}

/// A dense layer of `from` inputs, of which the published model has `published`.
pub(crate) fn dense(vs: nn::Path, [from, published]: [i64; 2], to: i64, bias: bool) -> Linear {
    let ws_init = Init::Randn { mean: 0.0, stdev: deviation(STD, published, from) };
    Linear::new(vs, from, to, nn::LinearConfig { ws_init, bs_init: Some(Init::Const(0.0)), bias })
}

/// `factor · d_model` channels, which the heads must divide: what is wrong with that.
pub(crate) fn expanded(key: &'static str, factor: f64, n_heads: i64, d_model: i64) -> Result<(), ConfigError> {
    if n_heads < 1 {
        return Ok(()); // said of `n_heads`
    }
    let product = factor * d_model as f64;
    let fits = (1.0..=limits::WIDTH as f64).contains(&product) && product.fract() == 0.0;
    if fits && product as i64 % n_heads == 0 {
        return Ok(());
    }
    let problem = format!("`{key}` is {factor}, so that {n_heads} heads share {product} channels (`{key} · d_model`)");
    let help = format!(
        "choose `{key}`, `n_heads` and `d_model` so that the heads divide a whole number of at most {}",
        limits::WIDTH
    );
    Err(ConfigError { key, problem, help })
}

/// Channels of a head, of settings that [`expanded`] passed.
pub(crate) fn head_width(factor: f64, n_heads: i64, d_model: i64) -> i64 {
    (factor * d_model as f64) as i64 / n_heads
}

/// A short convolution behind each of several projections, or none.
#[derive(Debug)]
pub(crate) struct Convs(Vec<ShortConv>);

impl Convs {
    /// One a name and number of channels; none at all where `width` is 0.
    pub fn new(vs: &nn::Path, of: &[(&str, i64)], width: i64, bias: bool, silu: bool) -> Self {
        let conv = |(name, channels): &(&str, i64)| ShortConv::new(vs / *name, *channels, width, bias, silu);
        Self(if width > 0 { of.iter().map(conv).collect() } else { Vec::new() })
    }

    /// The convolution of the projection `i`, `[batch, length, channels]`.
    pub fn apply(&self, i: usize, x: Tensor) -> Tensor {
        self.0.get(i).map_or_else(|| x.shallow_clone(), |conv| conv.apply(&x))
    }

    /// The inputs before the first, one tensor a convolution.
    pub fn start(&self, batch: i64) -> Vec<Tensor> {
        self.0.iter().map(|conv| conv.start(batch)).collect()
    }

    /// [`Convs::apply`] at one position, with the inputs before it.
    pub fn step(&self, i: usize, x: Tensor, windows: &mut [Tensor]) -> Tensor {
        self.0.get(i).map_or_else(|| x.shallow_clone(), |conv| conv.step(&x, &mut windows[i]))
    }
}

/// Numbers a convolved channel has.
pub(crate) fn taps(width: i64, bias: bool) -> i64 {
    if width > 0 { width + i64::from(bias) } else { 0 }
}

/// Width and bias of the short convolutions of a dump, which the class has by itself or not; a width of 0 where there are none.
pub(crate) fn convolutions(golden: &Golden, by_itself: bool) -> Result<(i64, bool), GoldenError> {
    if golden.flag_or("use_short_conv", by_itself)? {
        return Ok((golden.int_or("conv_size", 4)?, golden.flag_or("conv_bias", false)?));
    }
    golden.without_effect(&["conv_size", "conv_bias"]);
    Ok((0, false))
}

/// Refuses what GLA's and RetNet's layers of the reference can do besides, and ours cannot.
pub(crate) fn attention_defaults(golden: &Golden, n_heads: i64) -> Result<(), GoldenError> {
    golden.only("num_kv_heads", &[n_heads])?;
    golden.only::<serde_json::Value>("feature_map", &[])?;
    golden.only("norm_eps", &[EPS])?;
    golden.only("causal", &[true])?;
    golden.only("gate_fn", &["swish"])?;
    golden.only("elementwise_affine", &[true])?;
    golden.without_effect(&["mode", "fuse_norm", "layer_idx"]);
    Ok(())
}

/// `[batch, length, heads · width]` → `[batch, length, heads, width]`.
pub(crate) fn cut(t: &Tensor, heads: i64) -> Tensor {
    t.unflatten(-1, [heads, -1])
}

/// `[batch, length, heads, …]` → `[batch, heads, length, …]`.
pub(crate) fn by_head(t: &Tensor) -> Tensor {
    t.transpose(1, 2)
}

/// RMS norm of each head's output with weights that all heads share, times SiLU of `gate` where there is one:
/// `[batch, length, heads, width]` → `[batch, length, heads · width]`.
pub(crate) fn norm_and_gate(o: &Tensor, weight: &Tensor, gate: Option<&Tensor>) -> Tensor {
    let y = o.rms_norm([o.size()[3]], Some(weight), EPS).flatten(2, 3);
    gate.map_or_else(|| y.shallow_clone(), |gate| &y * gate.silu())
}
