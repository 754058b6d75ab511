//! Dense: every entry of M is learned.
//!
//! ```text
//! M[t,s] = W[t,s] / √seq_len                     W [heads, seq_len, seq_len]
//! ```
//! Time     O(length² · d_inner), one product a head for the whole batch
//! Memory   O(heads · seq_len²), as parameters

use super::{Inside, MatrixClass, Shape, leading, times, xavier_normal};
use crate::{Context, linear_flops};
use tch::{Tensor, nn};

#[derive(Debug)]
pub(super) struct Dense {
    m: Tensor,
    scale: f64,
    d_inner: i64,
}

impl Dense {
    pub(super) fn new(vs: &nn::Path, shape: &Shape) -> Self {
        let sizes = [shape.heads, shape.seq_len, shape.seq_len];
        let m = vs.var("M", &sizes, xavier_normal(&sizes));
        Self { m, scale: 1.0 / (shape.seq_len as f64).sqrt(), d_inner: shape.d_inner }
    }

    /// The leading rows and columns of W, `[1, heads, length, length]`.
    fn weights(&self, length: i64) -> Tensor {
        leading(&leading(&self.m, 1, length), 2, length).unsqueeze(0)
    }
}

impl MatrixClass for Dense {
    fn apply(&self, inside: &Inside, _: &Context) -> Tensor {
        times(&self.weights(inside.v.size()[1]), &inside.v) * self.scale
    }

    fn matrix(&self, inside: &Inside, _: &Context) -> Tensor {
        self.weights(inside.v.size()[1]) * self.scale
    }

    fn params(&self) -> i64 {
        self.m.numel() as i64
    }

    fn flops(&self, length: i64) -> i64 {
        linear_flops(length, length, self.d_inner)
    }
}
