//! Quasiseparable: Hydra's matrix with B and C shared by both directions and by all heads.
//!
//! ```text
//! M[t,s] = C_{t-1}·B_s exp(A Σ_{s<r<t} dtf_r) dtf_s   s < t     M[t,t] = fc_D v_t + D
//! M[t,s] = C_{t+1}·B_s exp(A Σ_{t<r<s} dtb_r) dtb_s   s > t     B, C of N = heads · qk_dim numbers;  A = -exp(A_log)
//! read:     B | C = SiLU(conv),  dt = softplus(in_proj + dt_bias) for each direction
//! learned:  B | C for each position,  dt = softplus(dt_bias); the diagonal still depends on the sequence
//! ```
//! Time     O(length · (N + chunk) · d_inner)
//! Memory   O(length · d_inner + length · chunk · heads + length / chunk · N · d_inner)
//!
//! The diagonal stands for the residual: nothing is added to M V.

use super::{DT_FLOOR, Inside, MatrixClass, Reads, Shape, leading, xavier_normal};
use crate::math::ssd::{self, Stream};
use crate::{Context, Linear, Structure, linear, linear_flops};
use tch::Tensor;
use tch::nn::{self, Init};

#[derive(Debug)]
pub(super) struct Quasiseparable {
    dt_bias: Tensor,
    a_log: Tensor,
    d: Tensor,
    fc_d: Linear,
    /// `[seq_len, 2 N]`, B first; `None` where read from the sequence.
    bc: Option<Tensor>,
    chunk_size: i64,
    heads: i64,
    d_state: i64,
    d_inner: i64,
}

impl Quasiseparable {
    pub(super) fn new(vs: &nn::Path, shape: &Shape) -> Self {
        let Shape { cfg, heads, d_inner, seq_len, .. } = *shape;
        let d_state = heads * shape.qk_dim;
        let sizes = [seq_len, 2 * d_state];
        let bc = (!cfg.data_dependent).then(|| vs.var("BC", &sizes, xavier_normal(&sizes)));
        let mut dt_bias = vs.var("dt_bias", &[heads], Init::Uniform { lo: cfg.dt_min.ln(), up: cfg.dt_max.ln() });
        tch::no_grad(|| {
            let dt = dt_bias.exp().clamp_min(DT_FLOOR);
            dt_bias.copy_(&(&dt + (-(-&dt).expm1()).log())); // the inverse of softplus
        });
        Self {
            dt_bias,
            a_log: vs.zeros("A_log", &[heads]),
            d: vs.ones("D", &[heads]),
            fc_d: linear(&(vs / "fc_D"), d_inner, heads, false),
            bc,
            chunk_size: cfg.chunk_size,
            heads,
            d_state,
            d_inner,
        }
    }

    fn a(&self) -> Tensor {
        -self.a_log.exp()
    }

    /// Forward and backward.
    fn streams(&self, inside: &Inside, ctx: &Context) -> [Stream; 2] {
        let (batch, length) = (inside.v.size()[0], inside.v.size()[1]);
        let (bc, dt) = match (&self.bc, &inside.convolved, &inside.straight) {
            (Some(bc), ..) => {
                let dt = self.dt_bias.softplus().expand([batch, length, 2, self.heads], true);
                (leading(bc, 0, length).expand([batch, length, 2 * self.d_state], true), dt)
            }
            (None, Some(bc), Some(dt)) => (bc.silu(), (dt.unflatten(-1, [2, self.heads]) + &self.dt_bias).softplus()),
            _ => unreachable!("B, C and dt are read"),
        };
        let dt = ctx.zero_padding(&dt); // a step of 0 leaves the state alone
        let part = |i: i64| bc.narrow(2, i * self.d_state, self.d_state).unsqueeze(2);
        [0, 1].map(|way| Stream { dt: dt.select(2, way), b: part(0), c: part(1) })
    }

    /// `[batch, length, heads]`.
    fn diagonal(&self, inside: &Inside) -> Tensor {
        self.fc_d.precision.linear(&inside.v.flatten(2, 3), &self.fc_d.ws, Some(&self.d))
    }
}

impl MatrixClass for Quasiseparable {
    fn reads(&self) -> Reads {
        match self.bc {
            Some(_) => Reads::default(),
            None => Reads { convolved: 2 * self.d_state, straight: 2 * self.heads },
        }
    }

    fn path(&self) -> &'static str {
        "native scan"
    }

    fn apply(&self, inside: &Inside, ctx: &Context) -> Tensor {
        let [forward, backward] = self.streams(inside, ctx);
        ssd::quasiseparable(&inside.v, &self.a(), [&forward, &backward], self.chunk_size, None)
            + &inside.v * self.diagonal(inside).unsqueeze(-1)
    }

    fn matrix(&self, inside: &Inside, ctx: &Context) -> Tensor {
        let [forward, backward] = self.streams(inside, ctx);
        let diagonal = self.diagonal(inside).transpose(1, 2).diag_embed(0, -2, -1);
        ssd::quasiseparable_matrix(&self.a(), [&forward, &backward]) + diagonal
    }

    fn structure(&self) -> Structure {
        Structure::Quasiseparable(self.d_state)
    }

    fn residual(&self) -> bool {
        false
    }

    fn undecayed(&self) -> &'static [&'static str] {
        &["dt_bias", "A_log", "D"]
    }

    fn params(&self) -> i64 {
        3 * self.heads + self.heads * self.d_inner + self.bc.as_ref().map_or(0, |t| t.numel() as i64)
    }

    /// As Hydra counts: C·B of both directions, one product with v, and states where there are chunks.
    fn flops(&self, length: i64) -> i64 {
        let chunk = self.chunk_size.min(length);
        let within = 2 * linear_flops(length, self.d_state, chunk) + linear_flops(length, chunk, self.d_inner);
        let between = if chunk < length { 4 * linear_flops(length, self.d_state, self.d_inner) } else { 0 };
        within + between + linear_flops(length, self.d_inner, self.heads)
    }
}
