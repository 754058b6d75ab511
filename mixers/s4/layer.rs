//! The convolution with its skip connection, `K * u + D u`, and the state that it starts from and ends in.

use super::Config;
use super::kernel::{Kernel, Shape};
use crate::Dims;
use crate::math::conv::{fft_conv, fft_conv_bidirectional};
use tch::{Kind, Tensor, nn};

/// The linear part of S4, without GELU, output map and dropout. Outputs are ordered head by head: `channels · d_model`.
#[derive(Debug)]
pub struct Layer {
    pub(super) kernel: Kernel,
    /// `[channels, d_model]`.
    pub(super) d: Tensor,
    pub(super) bidirectional: bool,
}

impl Layer {
    /// Creates the parameters under `vs`: `kernel.*` and `D`. `cfg` must have passed its check.
    pub fn new(vs: &nn::Path, dims: &Dims, cfg: &Config) -> Self {
        let bidirectional = cfg.is_bidirectional(dims.causal);
        let outputs = cfg.channels * (1 + i64::from(bidirectional));
        let shape = Shape { outputs, d_model: dims.d_model, seq_len: dims.seq_len };
        Self {
            kernel: Kernel::new(&(vs / "kernel"), &shape, cfg),
            d: vs.randn_standard("D", &[cfg.channels, dims.d_model]),
            bidirectional,
        }
    }

    /// `K * u + D u`: `[batch, length, d_model]` → `[batch, length, channels · d_model]`.
    pub fn forward(&self, x: &Tensor) -> Tensor {
        let u = x.transpose(1, 2);
        joined(&self.convolve(&u, &self.kernel.kernel(self.kernel.lags(x.size()[1]))))
    }

    /// The same from a state that is not zero, as [`Layer::zero_state`] shapes it, and the state it leaves: what a longer
    /// sequence's first part hands to its second. Differentiable in everything.
    ///
    /// # Panics
    /// If the layer keeps no state at this length: [`Layer::keeps_state`].
    pub fn forward_with_state(&self, x: &Tensor, state: &Tensor) -> (Tensor, Tensor) {
        let length = x.size()[1];
        assert!(self.keeps_state(length), "a two-sided kernel, or one cut short, has no state to start from");
        let u = x.transpose(1, 2);
        let (from_state, k) = self.kernel.responses(length, Some(state));
        let y = self.convolve(&u, &k) + from_state;
        let next = self.kernel.state_after(&u, state);
        (joined(&y), if state.is_complex() { next } else { next.real() })
    }

    /// Whether a state at some position stands for everything before it, up to this `length`: one direction, a kernel as
    /// long as the input, and for S4 a `rate` of 1.
    pub fn keeps_state(&self, length: i64) -> bool {
        !self.bidirectional && self.kernel.is_recurrence(length)
    }

    /// The state before the first position of `batch` sequences: `[batch, d_model, n]`, complex for the conjugate pairs.
    pub fn zero_state(&self, batch: i64) -> Tensor {
        let c = &self.kernel.c;
        let kind = match (&self.kernel.a_imag, c.kind()) {
            (None, kind) => kind,
            (_, Kind::Double) => Kind::ComplexDouble,
            _ => Kind::ComplexFloat,
        };
        Tensor::zeros([batch, c.size()[1], c.size()[2]], (kind, c.device()))
    }

    /// `[batch, d_model, length]` and a kernel, `[outputs, d_model, lags]` → `[batch, channels, d_model, length]`. D is one
    /// more tap at lag 0.
    pub(super) fn convolve(&self, u: &Tensor, k: &Tensor) -> Tensor {
        let (k0, k1) = self.sides(k);
        match k1 {
            None => fft_conv(&u.unsqueeze(1), &k0),
            Some(k1) => fft_conv_bidirectional(&u.unsqueeze(1), &k0, &k1),
        }
    }

    /// The taps from lag 0 back in time, D among them, and where there are two directions those from the next position on:
    /// each `[channels, d_model, lags]`.
    fn sides(&self, k: &Tensor) -> (Tensor, Option<Tensor>) {
        let channels = self.d.size()[0];
        let k0 = k.narrow(0, 0, channels);
        let skip = self.d.unsqueeze(-1).constant_pad_nd([0, k.size()[2] - 1]);
        (k0 + skip, self.bidirectional.then(|| k.narrow(0, channels, channels)))
    }

    /// The Toeplitz matrices, `[1, channels · d_model, length, length]`.
    pub(super) fn matrices(&self, length: i64) -> Tensor {
        let (past, future) = self.sides(&self.kernel.kernel(self.kernel.lags(length)));
        let filled = |k: &Tensor| k.constant_pad_nd([0, length - k.size()[2]]).flatten(0, 1);
        toeplitz(&filled(&past), future.map(|k| filled(&k)).as_ref())
    }
}

/// `M[t,s] = past[t-s]` and, for s > t, `future[s-t-1]`: taps `[heads, length]` → `[1, heads, length, length]`.
pub(super) fn toeplitz(past: &Tensor, future: Option<&Tensor>) -> Tensor {
    let length = past.size()[1];
    let future = future.map_or_else(|| past.zeros_like(), |k| k.flip([1]));
    let by_lag = Tensor::cat(&[&future.narrow(1, 1, length - 1), past], 1);
    let positions = Tensor::arange(length, (Kind::Int64, by_lag.device()));
    let lags = positions.unsqueeze(1) - positions.unsqueeze(0) + (length - 1);
    by_lag.index_select(1, &lags.flatten(0, 1)).view([1, -1, length, length])
}

/// `[batch, channels, d_model, length]` → `[batch, length, channels · d_model]`.
fn joined(y: &Tensor) -> Tensor {
    y.permute([0, 3, 1, 2]).flatten(2, 3)
}
