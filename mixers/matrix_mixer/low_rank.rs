//! Low rank: products of queries and keys, without a softmax or a normaliser (linear attention, both ways).
//!
//! ```text
//! M[t,s] = q_t·k_s / √(L d)          L = seq_len, d = qk_dim; q | k = SiLU(conv), or learned for each position
//! M V    = Q (Kᵀ V)
//! ```
//! Time     O(length · qk_dim · d_inner)
//! Memory   O(length · (d_inner + heads · qk_dim))

use super::{Inside, MatrixClass, QueryKey, Reads, Shape};
use crate::{Context, Structure, linear_flops};
use tch::{Tensor, nn};

#[derive(Debug)]
pub(super) struct LowRank {
    qk: QueryKey,
    scale: f64,
    qk_dim: i64,
    d_inner: i64,
}

impl LowRank {
    pub(super) fn new(vs: &nn::Path, shape: &Shape) -> Self {
        let scale = 1.0 / ((shape.seq_len * shape.qk_dim) as f64).sqrt();
        Self { qk: QueryKey::new(vs, shape, false), scale, qk_dim: shape.qk_dim, d_inner: shape.d_inner }
    }
}

impl MatrixClass for LowRank {
    fn reads(&self) -> Reads {
        self.qk.reads()
    }

    fn apply(&self, inside: &Inside, _: &Context) -> Tensor {
        let [q, k] = self.qk.of(inside, |t| t.silu());
        let state = k.transpose(2, 3).matmul(&inside.v.transpose(1, 2)); // [batch, heads, qk_dim, headdim]
        q.matmul(&(state * self.scale)).transpose(1, 2)
    }

    fn matrix(&self, inside: &Inside, _: &Context) -> Tensor {
        let [q, k] = self.qk.of(inside, |t| t.silu());
        q.matmul(&k.transpose(2, 3)) * self.scale
    }

    fn structure(&self) -> Structure {
        Structure::LowRank(self.qk_dim)
    }

    fn params(&self) -> i64 {
        self.qk.params()
    }

    fn flops(&self, length: i64) -> i64 {
        2 * linear_flops(length, self.qk_dim, self.d_inner)
    }
}
