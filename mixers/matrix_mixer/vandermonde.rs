//! Vandermonde: each position holds frequencies; M is a wave along its row less a wave along its column.
//!
//! ```text
//! M[t,s] = Σ_d (cos(2π ε q_td s) - cos(2π ε k_sd t)) / √(2 L d)      L = seq_len, d = qk_dim; q | k = conv, or learned
//! ```
//! Time     O(length² · (heads · qk_dim + d_inner)), but only O(length^1.5 · heads · qk_dim) cosines
//! Memory   O(length · d_inner): M is computed head by head, and again in the backward pass
//! Departs  - `form: reference` has ε = 1/1000, as the reference's code: M is then small, and M v + v is mostly v.
//!            `form: paper` has ε = 1.
//!          - q and k that are learned exist in `form: paper` only. The reference's class adds the two waves and scales each v_t
//!            by the sum of its row, which mixes nothing, and its layer never builds it: what was published as data-independent
//!            Vandermonde is the Fourier matrix, `matrix: dft`. They start uniform in ±1/2, up to the highest frequency there
//!            is: at zero, where the reference starts, no gradient ever comes.

use super::{Form, Inside, MatrixClass, QueryKey, Reads, Shape, leading, times};
use crate::goldens::{Golden, GoldenError, Replay};
use crate::native::recompute;
use crate::{Context, linear_flops};
use std::f64::consts::PI;
use tch::nn::Init;
use tch::{Kind, Tensor, nn};

#[derive(Debug)]
pub(super) struct Vandermonde {
    nodes: Nodes,
    /// Cycles a position, for one unit of q or k.
    epsilon: f64,
    scale: f64,
    heads: i64,
    qk_dim: i64,
    d_inner: i64,
}

#[derive(Debug)]
enum Nodes {
    Read(QueryKey),
    /// Each `[heads, qk_dim, seq_len]`.
    Learned {
        q: Tensor,
        k: Tensor,
    },
}

impl Vandermonde {
    pub(super) fn new(vs: &nn::Path, shape: &Shape) -> Self {
        let Shape { cfg, heads, qk_dim, seq_len, d_inner, .. } = *shape;
        let nodes = if cfg.data_dependent {
            Nodes::Read(QueryKey::new(vs, shape, false))
        } else {
            let init = Init::Uniform { lo: -0.5, up: 0.5 };
            let [q, k] = ["q_bias", "k_bias"].map(|name| vs.var(name, &[heads, qk_dim, seq_len], init));
            Nodes::Learned { q, k }
        };
        let epsilon = if cfg.form == Form::Paper { 1.0 } else { 1e-3 };
        Self { nodes, epsilon, scale: scale(seq_len, qk_dim), heads, qk_dim, d_inner }
    }

    /// Radians a position, each `[batch or 1, heads, length, qk_dim]`.
    fn angles(&self, inside: &Inside) -> [Tensor; 2] {
        let qk = match &self.nodes {
            Nodes::Read(qk) => qk.of(inside, |t| t),
            Nodes::Learned { q, k } => [q, k].map(|t| leading(t, 2, inside.v.size()[1]).transpose(1, 2).unsqueeze(0)),
        };
        qk.map(|t| t * (2.0 * PI * self.epsilon))
    }
}

fn scale(seq_len: i64, qk_dim: i64) -> f64 {
    1.0 / ((2 * seq_len * qk_dim) as f64).sqrt()
}

impl MatrixClass for Vandermonde {
    fn reads(&self) -> Reads {
        match &self.nodes {
            Nodes::Read(qk) => qk.reads(),
            Nodes::Learned { .. } => Reads::default(),
        }
    }

    fn apply(&self, inside: &Inside, _: &Context) -> Tensor {
        let ([q, k], scale) = (self.angles(inside), self.scale);
        let one_head = move |t: &[Tensor]| {
            let length = t[2].size()[1];
            let m = waves(&t[0], length) - waves(&t[1], length).transpose(2, 3);
            times(&m, &t[2]) * scale
        };
        let heads: Vec<Tensor> = (0..self.heads)
            .map(|h| recompute(one_head, &[&q.narrow(1, h, 1), &k.narrow(1, h, 1), &inside.v.narrow(2, h, 1)]))
            .collect();
        Tensor::cat(&heads, 2)
    }

    fn matrix(&self, inside: &Inside, _: &Context) -> Tensor {
        let [q, k] = self.angles(inside).map(|angles| plain_waves(&angles, inside.v.size()[1]));
        (q - k.transpose(2, 3)) * self.scale
    }

    fn params(&self) -> i64 {
        match &self.nodes {
            Nodes::Read(_) => 0,
            Nodes::Learned { q, k } => (q.numel() + k.numel()) as i64,
        }
    }

    /// Cosines and sines are not counted, the products that make a wave of them are.
    fn flops(&self, length: i64) -> i64 {
        linear_flops(length, length, 4 * self.heads * self.qk_dim + self.d_inner)
    }
}

/// `Σ_d cos(angle_d l)` for l in `0..length`: `[…, n, d]` → `[…, n, length]`.
///
/// With `l = p·width + q` the cosine is cos·cos - sin·sin of the angles at p·width and q, so the sum is a product of matrices
/// of √length columns and rows.
fn waves(angles: &Tensor, length: i64) -> Tensor {
    let width = (length as f64).sqrt().ceil() as i64;
    let height = (length + width - 1) / width;
    let steps = |n: i64| Tensor::arange(n, (angles.kind(), angles.device()));
    let coarse = angles.unsqueeze(-2) * (steps(height) * width).unsqueeze(-1); // […, n, p, d]
    let fine = angles.unsqueeze(-1) * steps(width); // […, n, d, q]
    let rows = Tensor::cat(&[coarse.cos(), -coarse.sin()], -1);
    let columns = Tensor::cat(&[fine.cos(), fine.sin()], -2);
    rows.matmul(&columns).flatten(-2, -1).narrow(-1, 0, length)
}

/// [`waves`] as it is defined.
fn plain_waves(angles: &Tensor, length: i64) -> Tensor {
    let steps = Tensor::arange(length, (angles.kind(), angles.device()));
    (angles.unsqueeze(-1) * steps).cos().sum_dim_intlist(-2, false, None::<Kind>)
}

/// What the reference's class computes of q and k that are learned: `matrix_mixer_core__*`, see the head of this file.
pub fn replay_core(golden: &Golden) -> Result<Replay, GoldenError> {
    let (v, length, qk_dim) = (golden.input("v")?, golden.int("L")?, golden.int("qk_dim")?);
    let stored = |name: &str| Ok(golden.tensor(&format!("param.{name}"))?.copy().set_requires_grad(true));
    let leaves: [Tensor; 2] = [stored("q_bias")?, stored("k_bias")?];
    let [q, k] = [0, 1].map(|i| waves(&(leaves[i].transpose(1, 2) * (2.0 * PI)), length));
    let row_sums = (q + k.transpose(1, 2)).sum_dim_intlist(-1, false, None::<Kind>).transpose(0, 1); // [length, heads]
    let by_head = v.unflatten(-1, [-1, golden.int("headdim")?]);
    let y = (by_head * row_sums.unsqueeze(-1)).flatten(2, 3) * scale(golden.int("max_seq_len")?, qk_dim) + &v;
    let mut replay = golden.replay(&[("y", &y)], &[("v", &v)], None)?;
    for (name, leaf) in ["q_bias", "k_bias"].into_iter().zip(&leaves) {
        replay.0.insert(format!("grad_param.{name}"), leaf.grad());
    }
    Ok(replay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::noise;

    #[test]
    fn waves_by_rows_and_columns_are_the_sum_of_cosines_in_values_and_gradients() {
        for length in [1, 2, 3, 9, 11, 40] {
            let angles = (noise(&[2, 5, 3], length) * 3.0).set_requires_grad(true);
            let gradient = |y: &Tensor| {
                Tensor::run_backward(&[(y * noise(&y.size(), 1)).sum(Kind::Double)], &[&angles], false, false).remove(0)
            };
            let (fast, plain) = (waves(&angles, length), plain_waves(&angles, length));
            assert!(fast.allclose(&plain, 1e-12, 1e-12, false), "values at {length}");
            assert!(gradient(&fast).allclose(&gradient(&plain), 1e-10, 1e-10, false), "gradients at {length}");
        }
    }
}
