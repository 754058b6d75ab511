//! The routing of a Transformer layout without a gate: the feed-forward around it is the backbone's.
//!
//! ```text
//! ssm        y = W [SSM_f(h); SSM_b(h)] + β        2d → d; one direction: SSM_f alone, d → d
//! attention  y = Attention(h)                      the mixer `attention` as it is
//! none       y = W h + β                           a position reads itself
//! ```

use super::conv::Side;
use super::ssm::{Recurrence, Ssm};
use super::{Config, Directions, Routing, dense};
use crate::math::conv::{fft_conv_flops, rfft_flops};
use crate::{Context, Cost, Dims, Family, Linear, Mixer, NotLinear, ParamRule, Recurrent, Structure, linear_flops};
use tch::{Kind, Tensor, nn};

/// State spaces (or nothing) and a map; attention needs nothing of this file.
#[derive(Debug)]
pub(super) struct Stacked {
    /// From each end that is read; empty under `routing: none`.
    sides: Vec<(Side, Ssm)>,
    out: Linear,
    cfg: Config,
    dims: Dims,
}

impl Stacked {
    pub fn new(vs: &nn::Path, dims: &Dims, cfg: &Config) -> Self {
        let ends = if cfg.routing == Routing::Ssm { cfg.sides() } else { &[] };
        let d_in = dims.d_model * ends.len().max(1) as i64;
        Self {
            out: dense(&(vs / "do"), [d_in, dims.d_model], d_in / dims.d_model * Config::WIDTH),
            sides: ends.iter().map(|side| (*side, Ssm::new(&(vs / side.name()), cfg))).collect(),
            cfg: cfg.clone(),
            dims: *dims,
        }
    }

    /// What the map reads: `[batch, length, d_model]`, one for each end, or h itself.
    fn routed(&self, x: &Tensor, ctx: &Context) -> Vec<Tensor> {
        if self.sides.is_empty() {
            return vec![x.shallow_clone()];
        }
        let ctx = self.cfg.seen(ctx);
        self.sides.iter().map(|(side, ssm)| ssm.apply(x, *side, None, &ctx)).collect()
    }
}

impl Mixer for Stacked {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        Tensor::cat(&self.routed(x, ctx), -1).apply(&self.out)
    }

    /// One Toeplitz matrix for each end; all channels share it.
    fn materialize(&self, x: &Tensor, _ctx: &Context) -> Result<Tensor, NotLinear> {
        let length = x.size()[1];
        if self.sides.is_empty() {
            return Ok(Tensor::eye(length, (x.kind(), x.device())).expand([1, 1, length, length], false));
        }
        let positions = Tensor::arange(length, (Kind::Int64, x.device()));
        let lags = positions.unsqueeze(1) - positions.unsqueeze(0) + (length - 1);
        let matrix = |(side, ssm): &(Side, Ssm)| {
            let by_lag = ssm.taps(length).constant_pad_nd([length - 1, 0]);
            let by_lag = if *side == Side::Future { by_lag.flip([0]) } else { by_lag };
            by_lag.index_select(0, &lags.flatten(0, 1)).view([length, length])
        };
        Ok(Tensor::stack(&self.sides.iter().map(matrix).collect::<Vec<_>>(), 0).unsqueeze(0))
    }

    /// V is h for either end, Y what comes out before the map.
    fn values(&self, x: &Tensor, ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        let y = self.routed(x, ctx);
        let read = if self.sides.is_empty() { x.shallow_clone() } else { self.cfg.seen(ctx).zero_padding(x) };
        Ok((read.unsqueeze(1).expand([-1, y.len() as i64, -1, -1], false), Tensor::stack(&y, 1)))
    }

    fn path(&self) -> &'static str {
        if self.cfg.routing == Routing::Ssm { "native FFT" } else { "libtorch" }
    }

    fn structure(&self) -> Structure {
        Structure::Toeplitz
    }

    fn reads_padding(&self) -> Option<&'static str> {
        self.cfg.reads_padding()
    }

    fn recurrent(&self) -> Option<Box<dyn Recurrent + '_>> {
        let recurrence = match self.sides.as_slice() {
            [] if !self.cfg.both() => None,
            [(Side::Past, ssm)] => Some(ssm.recurrence(self.dims.d_model)),
            _ => return None,
        };
        Some(Box::new(Stepper { layer: self, recurrence }))
    }

    fn cost(&self, length: i64) -> Cost {
        let (d, n, ends) = (self.dims.d_model, self.cfg.d_state, self.sides.len() as i64);
        let d_in = d * ends.max(1);
        Cost {
            params: d_in * d + d + ends * (4 * n + 2),
            state_bytes: if ends == 1 { 8 * d * n } else { 0 },
            flops: linear_flops(length, d_in, d) + ends * ssm_flops(length, d, n),
        }
    }

    fn param_rules(&self) -> Vec<ParamRule> {
        self.cfg.ssm_rules()
    }

    fn output_map(&self) -> Option<&'static str> {
        Some("do.weight")
    }
}

/// A kernel counts once per direction and sequence, since all channels share it.
pub(super) fn ssm_flops(length: i64, channels: i64, n: i64) -> i64 {
    4 * n * length + rfft_flops(2 * length) + channels * (fft_conv_flops(length, length) + 2 * length)
}

struct Stepper<'a> {
    layer: &'a Stacked,
    recurrence: Option<Recurrence>,
}

impl Recurrent for Stepper<'_> {
    fn reset(&mut self, batch: i64) {
        if let Some(recurrence) = &mut self.recurrence {
            recurrence.reset(batch);
        }
    }

    fn step(&mut self, x: &Tensor) -> Tensor {
        tch::no_grad(|| match &mut self.recurrence {
            None => x.apply(&self.layer.out),
            Some(recurrence) => recurrence.step(x).apply(&self.layer.out),
        })
    }

    fn state_bytes(&self) -> i64 {
        self.recurrence.as_ref().map_or(0, Recurrence::bytes)
    }

    fn state(&self) -> Vec<Tensor> {
        self.recurrence.iter().map(Recurrence::state_as_real).collect()
    }
}

/// The mixer `attention`, seen through this family's settings.
#[derive(Debug)]
pub(super) struct Attending {
    pub attention: Box<dyn Mixer>,
    pub cfg: Config,
}

impl Mixer for Attending {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        let heads = ctx.heads.as_ref().map(Tensor::shallow_clone);
        self.attention.forward(x, &Context { heads, ..self.cfg.seen(ctx) })
    }

    fn heads(&self) -> i64 {
        self.attention.heads()
    }

    fn materialize(&self, x: &Tensor, ctx: &Context) -> Result<Tensor, NotLinear> {
        self.attention.materialize(x, &self.cfg.seen(ctx))
    }

    fn values(&self, x: &Tensor, ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        self.attention.values(x, &self.cfg.seen(ctx))
    }

    fn path(&self) -> &'static str {
        self.attention.path()
    }

    /// One direction leaves the future out, even where a task would let it be read.
    fn structure(&self) -> Structure {
        Structure::Stochastic { full: self.cfg.directions == Directions::Two }
    }

    fn reads_padding(&self) -> Option<&'static str> {
        self.cfg.reads_padding()
    }

    fn recurrent(&self) -> Option<Box<dyn Recurrent + '_>> {
        self.attention.recurrent()
    }

    fn cost(&self, length: i64) -> Cost {
        self.attention.cost(length)
    }

    fn output_map(&self) -> Option<&'static str> {
        self.attention.output_map()
    }
}
