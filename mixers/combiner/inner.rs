//! The attention without projections: what every pattern shares.

use super::{Map, Pattern, Pool, RowSummary};
use tch::{Device, Kind, Tensor};

/// Which attention: plain data, so that a backward may own a copy.
#[derive(Clone, Copy, Debug)]
pub struct Core {
    pub pattern: Pattern,
    pub segment: i64,
    pub pool: Pool,
    pub map: Map,
    pub row_summary: RowSummary,
    pub own_segment: bool,
    pub causal: bool,
    pub dropout: f64,
    /// Of the layer norm in rowmajor keys.
    pub eps: f64,
}

/// What it works on.
pub struct Operands {
    /// q (not yet scaled), k, v, each `[batch, length, heads, d_head]`.
    pub qkv: [Tensor; 3],
    /// The layer's input `[batch, length, d_model]`, where [`Core::reads_input`].
    pub x: Option<Tensor>,
    /// What M is applied to, where it is not v.
    pub read: Option<Tensor>,
    /// As `Combiner::learned`.
    pub learned: Vec<Tensor>,
    /// As [`crate::Context::lengths`].
    pub lengths: Option<Tensor>,
}

/// A logit that underflows to a weight of exactly 0, yet keeps a row of nothing else, and its gradient, finite.
const HIDDEN: f64 = -1e30;

impl Core {
    /// Whether [`Core::fast`] keeps no logits, only tables of keys and values.
    pub fn lists(&self) -> bool {
        self.pattern == Pattern::Logsparse
    }

    /// Whether keys are made from the layer's input, by all heads together.
    pub fn reads_input(&self) -> bool {
        self.pattern == Pattern::Rowmajor && matches!(self.row_summary, RowSummary::Proj | RowSummary::WsumProj)
    }

    /// f(t) for queries (`which` 0) or keys (1).
    pub fn mapped(&self, t: &Tensor, which: usize, learned: &[Tensor]) -> Tensor {
        match self.map {
            Map::Identity => t.shallow_clone(),
            Map::Relu => t.relu(),
            Map::Deepset => t.matmul(&learned[which]).relu(),
        }
    }

    /// Pools `[…, tokens, d]` to `[…, d]`, of tokens where `valid`, `[…, tokens]`; zero where there is none.
    pub fn pool(&self, t: &Tensor, valid: Option<&Tensor>) -> Tensor {
        let Some(valid) = valid else {
            return match self.pool {
                Pool::Max => t.amax([-2], false),
                Pool::Mean => t.mean_dim([-2].as_slice(), false, t.kind()),
                Pool::Sum => t.sum_dim_intlist([-2].as_slice(), false, t.kind()),
            };
        };
        let hidden = valid.logical_not().unsqueeze(-1);
        let count = valid.to_kind(t.kind()).sum_dim_intlist([-1].as_slice(), true, t.kind());
        let sum = || t.masked_fill(&hidden, 0.0).sum_dim_intlist([-2].as_slice(), false, t.kind());
        match self.pool {
            Pool::Max => t.masked_fill(&hidden, HIDDEN).amax([-2], false).masked_fill(&count.eq(0.0), 0.0),
            Pool::Mean => sum() / count.clamp_min(1.0),
            Pool::Sum => sum(),
        }
    }

    /// k_Ω and u_Ω = Σ_j softmax(q_Ω·k_j) v_j of regions `[…, tokens, d]`, each `[…, d]`.
    pub fn region(&self, [q, k, v]: [&Tensor; 3], learned: &[Tensor]) -> [Tensor; 2] {
        let [pooled_q, key] = [(q, 0), (k, 1)].map(|(t, which)| self.pool(&self.mapped(t, which, learned), None));
        let local = pooled_q.unsqueeze(-2).matmul(&k.transpose(-2, -1)).softmax(-1, q.kind());
        [key, local.matmul(v).squeeze_dim(-2)]
    }

    /// Dropout of weights.
    pub fn drop(&self, weights: Tensor, train: bool) -> Tensor {
        if train && self.dropout > 0.0 { weights.dropout(self.dropout, true) } else { weights }
    }
}

impl Operands {
    pub fn length(&self) -> i64 {
        self.qkv[0].size()[1]
    }

    /// q (scaled), k, v and what is read, each `[batch, heads, length, d]`.
    pub fn heads(&self) -> [Tensor; 4] {
        let [q, k, v] = &self.qkv;
        let q = q / (q.size()[3] as f64).sqrt();
        [&q, k, v, self.read.as_ref().unwrap_or(v)].map(|t| t.transpose(1, 2))
    }

    /// Positions that hold data in rows of `w`, `[batch or 1, 1, rows, w]`; `None` when all do.
    pub fn valid(&self, w: i64) -> Option<Tensor> {
        let (length, device) = (self.length(), self.qkv[0].device());
        if self.lengths.is_none() && length % w == 0 {
            return None;
        }
        let positions = Tensor::arange((length + w - 1) / w * w, (Kind::Int64, device)).view([1, 1, -1, w]);
        Some(match &self.lengths {
            Some(lengths) => positions.lt_tensor(&lengths.clamp_max(length).view([-1, 1, 1, 1])),
            None => positions.lt(length),
        })
    }
}

/// `[batch, heads, length, d]` in rows of `w`, zeros after the last: `[batch, heads, rows, w, d]`.
pub fn rows(t: &Tensor, w: i64) -> Tensor {
    let missing = (w - t.size()[2] % w) % w;
    let whole = if missing > 0 { t.constant_pad_nd([0, 0, 0, missing]) } else { t.contiguous() };
    whole.unflatten(2, [-1, w])
}

/// The way back, to `[batch, length, heads, d]`.
pub fn unrows(t: &Tensor, length: i64) -> Tensor {
    t.flatten(2, 3).narrow(2, 0, length).transpose(1, 2)
}

/// What [`hide`] adds to the logits of what may be read, and of what may not.
pub fn veil(readable: &Tensor, kind: Kind) -> Tensor {
    readable.logical_not().to_kind(kind) * HIDDEN
}

/// Hides logits in place and outside the graph: the softmax gives them weight 0, so their gradient is 0 by itself.
pub fn hide(logits: &Tensor, veil: &Tensor) {
    let _ = tch::no_grad(|| logits.shallow_clone().g_add_(veil));
}

/// Boolean `[n, n]`: entry (i, j) is `relation(i, j)` of the two indices.
pub fn pairs(n: i64, device: Device, relation: impl Fn(&Tensor, &Tensor) -> Tensor) -> Tensor {
    let index = Tensor::arange(n, (Kind::Int64, device));
    relation(&index.unsqueeze(1), &index.unsqueeze(0))
}
