//! Attention: softmax of the products of queries and keys, both ways.
//!
//! ```text
//! M = softmax(Q Kᵀ / √d)             d = qk_dim; q | k = conv, or learned for each position; each row sums to 1
//! ```
//! Time     O(length² · d_inner): the fused kernel wants queries and values equally wide, and the narrower are filled up
//! Memory   O(length · d_inner), the fused kernel never stores M
//! Departs  learned q and k are `[heads, seq_len, qk_dim]`: the reference declares `[seq_len, heads, qk_dim]` but reads them
//!          this way, and fails unless both are equal. Its published row must come from other code.

use super::{Inside, MatrixClass, QueryKey, Reads, Shape};
use crate::{Context, Precision, Structure, linear_flops};
use tch::{Tensor, nn};

#[derive(Debug)]
pub(super) struct Attention {
    qk: QueryKey,
    heads: i64,
    qk_dim: i64,
    d_inner: i64,
    precision: Precision,
}

impl Attention {
    pub(super) fn new(vs: &nn::Path, shape: &Shape) -> Self {
        let Shape { heads, qk_dim, d_inner, .. } = *shape;
        Self { qk: QueryKey::new(vs, shape, true), heads, qk_dim, d_inner, precision: Precision::of_builder() }
    }

    fn scale(&self) -> f64 {
        1.0 / (self.qk_dim as f64).sqrt()
    }
}

/// Keys that may be read, boolean `[batch, 1, 1, length]`. A row without any valid position reads its first: an average of
/// nothing would be NaN.
fn readable(inside: &Inside, ctx: &Context) -> Option<Tensor> {
    let lengths = ctx.lengths.as_ref()?.clamp_min(1);
    let valid = Context { train: false, lengths: Some(lengths), ..Context::default() }
        .valid(inside.v.size()[1], inside.v.device())?;
    Some(valid.unsqueeze(1).unsqueeze(1))
}

impl MatrixClass for Attention {
    fn reads(&self) -> Reads {
        self.qk.reads()
    }

    fn path(&self) -> &'static str {
        "fused"
    }

    fn apply(&self, inside: &Inside, ctx: &Context) -> Tensor {
        let v = inside.v.transpose(1, 2);
        let &[batch, heads, length, headdim] = v.size().as_slice() else { unreachable!("v has four axes") };
        let width = headdim.max(self.qk_dim);
        let fill = |t: &Tensor, from: i64| {
            if from < width { t.constant_pad_nd([0, width - from]) } else { t.shallow_clone() }
        };
        let [q, k] =
            self.qk.of(inside, |t| t).map(|t| fill(&t, self.qk_dim).expand([batch, heads, length, width], false));
        let (v, mask, kind) = (fill(&v, headdim), readable(inside, ctx), v.kind());
        let [q, k, v] = [q, k, v].map(|t| self.precision.read(&t));
        Tensor::scaled_dot_product_attention(&q, &k, &v, mask, 0.0, false, Some(self.scale()), false)
            .to_kind(kind)
            .narrow(3, 0, headdim)
            .transpose(1, 2)
    }

    fn matrix(&self, inside: &Inside, ctx: &Context) -> Tensor {
        let [q, k] = self.qk.of(inside, |t| t);
        let mut scores = q.matmul(&k.transpose(2, 3)) * self.scale();
        if let Some(readable) = readable(inside, ctx) {
            scores = scores.masked_fill(&readable.logical_not(), f64::NEG_INFINITY);
        }
        scores.softmax(-1, scores.kind())
    }

    fn structure(&self) -> Structure {
        Structure::Stochastic { full: true }
    }

    fn params(&self) -> i64 {
        self.qk.params()
    }

    fn flops(&self, length: i64) -> i64 {
        linear_flops(length, length, self.heads * self.qk_dim + self.d_inner)
    }
}
