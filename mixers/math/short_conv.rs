//! The short causal convolution in front of a recurrence, with the step form that decoding needs.
//!
//! ```text
//! y[t, c] = bias[c] + Σ_{k < width} weight[c, k] x[t + k - width + 1, c]        zeros outside;  then SiLU where asked
//! ```
//! Parameters `weight` `[channels, 1, width]` and `bias` `[channels]`, with PyTorch's initial values, U(±1/√width).

use crate::math::depthwise::Depthwise;
use tch::Tensor;
use tch::nn::{self, Init};

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct ShortConv {
    weight: Tensor,
    bias: Option<Tensor>,
    silu: bool,
}

impl ShortConv {
    pub fn new(vs: nn::Path, channels: i64, width: i64, bias: bool, silu: bool) -> Self {
        let bound = 1.0 / (width as f64).sqrt();
        let uniform = Init::Uniform { lo: -bound, up: bound };
        let weight = vs.var("weight", &[channels, 1, width], uniform);
        Self { weight, bias: bias.then(|| vs.var("bias", &[channels], uniform)), silu }
    }

    /// Weight, and bias where there is one.
    #[cfg(test)]
    pub fn parameters(&self) -> (&Tensor, Option<&Tensor>) {
        (&self.weight, self.bias.as_ref())
    }

    fn offset(&self) -> Tensor {
        let weight = &self.weight;
        match &self.bias {
            Some(bias) => bias.shallow_clone(),
            None => Tensor::zeros([weight.size()[0]], (weight.kind(), weight.device())),
        }
    }

    /// `[batch, length, channels]` → the same.
    pub fn apply(&self, x: &Tensor) -> Tensor {
        Depthwise::causal(&self.weight, self.silu).apply(x, &self.weight, &self.offset())
    }

    /// The inputs before the first, `[batch, width - 1, channels]`.
    pub fn start(&self, batch: i64) -> Tensor {
        let size = self.weight.size();
        Tensor::zeros([batch, size[2] - 1, size[0]], (self.weight.kind(), self.weight.device()))
    }

    /// One position, `[batch, 1, channels]`; `window` holds the inputs before it.
    pub fn step(&self, x: &Tensor, window: &mut Tensor) -> Tensor {
        let seen = Tensor::cat(&[&*window, x], 1);
        *window = seen.narrow(1, 1, seen.size()[1] - 1).contiguous();
        let taps = self.weight.squeeze_dim(1).transpose(0, 1);
        let y = (seen * taps).sum_dim_intlist([1].as_slice(), true, x.kind()) + self.offset();
        if self.silu { y.silu() } else { y }
    }
}
