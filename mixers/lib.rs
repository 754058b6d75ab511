//! Sequence mixers behind one trait.
//!
//! A mixer moves information along the sequence; everything else in a run (embedding, norm, feed-forward, optimizer,
//! data order) is shared code in `harness`. One file per mixer, one line per mixer in [`registry`].

pub mod core;
pub mod laws;

pub mod math;
pub mod native;
mod registry;

pub mod attention;
pub mod bigs;
pub mod combiner;
pub mod deltanet;
pub mod gated_deltanet;
pub mod gla;
pub mod gru;
pub mod hgrn2;
pub mod hydra;
pub mod kda;
pub mod linear_attention;
pub mod lru;
pub mod lstm;
pub mod mamba;
pub mod mamba2;
pub mod matrix_mixer;
pub mod min_gru;
pub mod min_lstm;
pub mod mlstm;
pub mod retnet;
pub mod rwkv6;
pub mod rwkv7;
pub mod s4;
pub mod s5;
pub mod sliding_window;

/// Counts what parsers hold when they are given damaged input.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: fuzzing::Counting = fuzzing::Counting;

pub use crate::core::cost::{Cost, linear_flops};
pub use crate::core::error::{NotLinear, heads};
pub use crate::core::family::{BenchTarget, Entry, Family, LayerFacts, OwnFfn, Released, ReplayFn, Surroundings};
pub use crate::core::initial::{Drawing, InitialValues, deviation};
pub use crate::core::precision::{Building, DenseMap, Linear, Precision, dense_map, recorded};
pub use registry::registry;

pub use settings::{ConfigError, at_least, at_most, between, divides};

use std::fmt::Debug;
use tch::{Device, Kind, Tensor};

/// What a mixer is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dims {
    /// Width of the residual stream.
    pub d_model: i64,
    /// Longest sequence the run will show; a mixer whose parameters depend on the length reads it here.
    pub seq_len: i64,
    /// Whether position `t` may read positions after `t`. Fixed at build time, since it decides parameter shapes (S4's `C`).
    pub causal: bool,
}

/// What a forward pass needs to know besides its input.
#[derive(Debug, Default)]
pub struct Context {
    /// Dropout on.
    pub train: bool,
    /// Valid length of each row of a padded batch, int64 `[batch]`; `None` when every position is valid.
    pub lengths: Option<Tensor>,
    /// Factor on the output of each head, `[heads]`, applied before the heads are joined: zeros silence heads. `None`: all ones.
    /// A mixer with [`Mixer::heads`] of 0 ignores it.
    pub heads: Option<Tensor>,
}

impl Context {
    /// Evaluation mode, every position valid.
    pub fn eval() -> Self {
        Self::default()
    }

    /// Boolean `[batch, length]`, true where a position holds data; `None` when every position does.
    pub fn valid(&self, length: i64, device: Device) -> Option<Tensor> {
        let lengths = self.lengths.as_ref()?;
        let positions = Tensor::arange(length, (Kind::Int64, device));
        Some(positions.unsqueeze(0).lt_tensor(&lengths.to_device(device).unsqueeze(1)))
    }

    /// The projection that joins the heads, with the columns that read each head multiplied by its factor: what it makes of the
    /// joined heads is what `out` makes of the heads multiplied one by one.
    ///
    /// # Panics
    /// If the factors are not one a head.
    pub fn join_heads(&self, out: &Linear, heads: i64) -> Linear {
        let ws = match &self.heads {
            None => out.ws.shallow_clone(),
            Some(_) => self.weigh_heads(&out.ws.unflatten(1, [heads, -1]), 1).flatten(1, 2),
        };
        Linear { ws, bs: out.bs.as_ref().map(Tensor::shallow_clone), precision: out.precision }
    }

    /// `t` with every head multiplied by its factor; `axis` runs over the heads.
    ///
    /// # Panics
    /// If the factors are not one a head.
    pub fn weigh_heads(&self, t: &Tensor, axis: usize) -> Tensor {
        let Some(factors) = &self.heads else { return t.shallow_clone() };
        assert_eq!(factors.size(), [t.size()[axis]], "`Context::heads` holds one factor a head");
        let mut shape = vec![1; t.dim()];
        shape[axis] = -1;
        t * factors.to_device(t.device()).to_kind(t.kind()).view(shape.as_slice())
    }

    /// `x` of shape `[batch, length, …]` with the valid positions of each row in the opposite order, padding where it was: its
    /// own inverse.
    pub fn reversed(&self, x: &Tensor) -> Tensor {
        let Some(lengths) = &self.lengths else { return x.flip([1]) };
        let size = x.size();
        let positions = Tensor::arange(size[1], (Kind::Int64, x.device())).unsqueeze(0);
        let last = lengths.to_device(x.device()).to_kind(Kind::Int64).unsqueeze(1) - 1;
        let from = (&last - &positions).where_self(&positions.le_tensor(&last), &positions);
        let mut shape = from.size();
        shape.resize(size.len(), 1);
        x.gather(1, &from.view(shape.as_slice()).expand(&size, false), false)
    }

    /// `x` of shape `[batch, length, …]` with every padded position set to zero.
    pub fn zero_padding(&self, x: &Tensor) -> Tensor {
        match self.valid(x.size()[1], x.device()) {
            None => x.shallow_clone(),
            Some(valid) => {
                let mut shape = valid.size();
                shape.resize(x.dim(), 1);
                x * valid.view(shape.as_slice()).to_kind(x.kind())
            }
        }
    }
}

/// A layer that moves information along the sequence.
pub trait Mixer: Debug + Send {
    /// `[batch, length, d_model]` → `[batch, length, d_model]`, any `length` from 1.
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor;

    /// The M in `Y = M V`: `[batch, heads, length, length]` (`[1, …]` where M does not depend on the input), or why this
    /// mixer has none. For tests and figures, never training.
    fn materialize(&self, x: &Tensor, ctx: &Context) -> Result<Tensor, NotLinear>;

    /// `V` and `Y` of `Y = M V`, each `[batch, heads, length, d_head]`, so that a law can hold [`Mixer::materialize`]
    /// against the fast path, before any norm or gate on Y. `Y` comes from the fast path, never from `M`.
    fn values(&self, x: &Tensor, ctx: &Context) -> Result<(Tensor, Tensor), NotLinear>;

    /// What the class of M promises beyond being causal; the laws hold [`Mixer::materialize`] to it.
    fn structure(&self) -> Structure {
        Structure::Dense
    }

    /// Why padded positions reach valid ones, where the reference lets them and so does this mixer; `None` when they never do.
    fn reads_padding(&self) -> Option<&'static str> {
        None
    }

    /// Heads that [`Context::heads`] can silence one by one; 0 where the mixer has none.
    fn heads(&self) -> i64 {
        0
    }

    /// Which code computes `forward` on a CPU: `libtorch` where it is made of libtorch's own operations.
    fn path(&self) -> &'static str {
        "libtorch"
    }

    /// Recurrent inference where the mixer has one: constant or growing state, one token at a time.
    fn recurrent(&self) -> Option<Box<dyn Recurrent + '_>> {
        None
    }

    /// Parameters, decoding state and forward FLOPs of one sequence, from the paper's formulas.
    fn cost(&self, length: i64) -> Cost;

    /// Called once this mixer's parameters hold what those of a mixer of the same settings, built for sequences of up to
    /// `seq_len` positions, held: changes them so that they mean here what they meant there. The error leaves them alone.
    /// Only called where [`Family::carries`] agreed. The default suits parameters that do not depend on the length.
    fn adopt(&self, _seq_len: i64) -> Result<(), ConfigError> {
        Ok(())
    }

    /// Parameters that want another learning rate or weight decay than the rest, by their name inside the mixer.
    fn param_rules(&self) -> Vec<ParamRule> {
        Vec::new()
    }

    /// Weight of the dense map that the mixer ends in, by its name inside the mixer; `None` where it ends in none.
    fn output_map(&self) -> Option<&'static str> {
        None
    }
}

/// A class of matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// Any matrix.
    Dense,
    /// `M[t,s]` depends on `t - s` alone.
    Toeplitz,
    /// Rank at most this, whatever the length.
    LowRank(i64),
    /// Every block strictly below the diagonal has at most this rank, and every block strictly above it.
    Quasiseparable(i64),
    /// Rows of non-negative weights that sum to 1. With `full`, every position that may be read has a positive weight.
    Stochastic {
        /// No position that may be read is left out.
        full: bool,
    },
}

/// One token at a time.
pub trait Recurrent {
    /// Forgets everything; the next token is the first of `batch` sequences.
    fn reset(&mut self, batch: i64);
    /// `[batch, d_model]` → `[batch, d_model]`; equals the last position of `forward` on all tokens so far.
    fn step(&mut self, x: &Tensor) -> Tensor;
    /// Bytes of state held now for the whole batch, measured on the tensors themselves.
    fn state_bytes(&self) -> i64;
    /// The state held now, real, each tensor `[batch, …]` (complex numbers as pairs): what is watched for channels that explode past
    /// the training length. Empty where it grows with the length or is not shown; otherwise all of it.
    fn state(&self) -> Vec<Tensor> {
        Vec::new()
    }
}

/// An optimizer rule for the parameters whose name inside the mixer equals `name`.
#[derive(Clone, Debug, PartialEq)]
pub struct ParamRule {
    /// Name inside the mixer, with dots: `layer.kernel.inv_dt`.
    pub name: String,
    /// Learning rate at the peak of the schedule; `None` keeps the run's.
    pub lr: Option<f64>,
    /// Weight decay; `None` keeps the run's.
    pub weight_decay: Option<f64>,
}

/// Bytes a tensor's elements take.
pub fn tensor_bytes(t: &Tensor) -> i64 {
    t.numel() as i64 * t.kind().elt_size_in_bytes() as i64
}

/// A dense layer with PyTorch's default initial values, weight and bias `U(−1/√fan_in, 1/√fan_in)`: tch's own default is
/// √6 times wider.
pub fn linear(vs: &tch::nn::Path, d_in: i64, d_out: i64, bias: bool) -> Linear {
    let bound = 1.0 / (d_in as f64).sqrt();
    let init = tch::nn::Init::Uniform { lo: -bound, up: bound };
    Linear::new(vs, d_in, d_out, tch::nn::LinearConfig { ws_init: init, bs_init: Some(init), bias })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reversing_within_the_valid_length_is_its_own_inverse_and_leaves_padding() {
        let x = crate::laws::testing::noise(&[2, 5, 8], 13);
        let padded = |lengths: &[i64]| Context { lengths: Some(Tensor::from_slice(lengths)), ..Context::default() };
        let back = |x: &Tensor, lengths: &[i64]| padded(lengths).reversed(x);
        let turned = back(&x, &[5, 3]);
        assert!(turned.narrow(0, 0, 1).equal(&x.narrow(0, 0, 1).flip([1])));
        let order = Tensor::from_slice(&[2i64, 1, 0, 3, 4]);
        assert!(turned.narrow(0, 1, 1).equal(&x.narrow(0, 1, 1).index_select(1, &order)));
        assert!(back(&turned, &[5, 3]).equal(&x) && back(&x, &[5, 5]).equal(&Context::eval().reversed(&x)));
        assert!(back(&x, &[0, 1]).equal(&x), "a row without valid positions stays as it is");
    }
}
