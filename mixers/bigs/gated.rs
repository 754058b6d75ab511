//! The gated layer; see the head of `bigs.rs`.

use super::conv::Side;
use super::gate::Gate;
use super::ssm::{Recurrence, Ssm};
use super::stacked::ssm_flops;
use super::{Config, GATE, Routing, dense};
use crate::{Context, Cost, Dims, Family, Linear, Mixer, NotLinear, ParamRule, Recurrent, linear_flops};
use tch::{Tensor, nn};

/// Parameters are named as the reference's.
#[derive(Debug)]
pub(super) struct Gated {
    /// What each end reads, and the map behind its routing; `attention` has one end and no map, its own serves.
    pub ends: Vec<End>,
    pub gate: Gate,
    cfg: Config,
    dims: Dims,
}

/// One factor of the gate.
#[derive(Debug)]
pub(super) struct End {
    /// `du_forward` or `du_backward`.
    pub before: Linear,
    pub route: Route,
}

/// How an end reads the sequence.
#[derive(Debug)]
pub(super) enum Route {
    /// `fs4` and `duc_forward`, or `bs4` and `duc_backward`.
    Ssm(Side, Ssm, Linear),
    Attention(Box<dyn Mixer>),
    /// A position reads itself; the map stays.
    None(Linear),
}

impl Gated {
    pub fn new(vs: &nn::Path, dims: &Dims, cfg: &Config) -> Self {
        let (d, f) = (dims.d_model, cfg.d_ff(dims));
        let attends = cfg.routing == Routing::Attention;
        let sides = if attends { &[Side::Past] } else { cfg.sides() };
        // In the order the reference's layer has them, so that a seed keeps its meaning.
        let value = dense(&(vs / "dv"), [d, f], Config::WIDTH);
        let map = |prefix: &str, side: &Side| dense(&(vs / format!("{prefix}_{}", side.word())), [d, d], Config::WIDTH);
        let before: Vec<Linear> = sides.iter().map(|side| map("du", side)).collect();
        let after: Vec<Linear> = sides.iter().filter(|_| !attends).map(|side| map("duc", side)).collect();
        let open = dense(&(vs / "dol"), [d, f], Config::WIDTH);
        let out = dense(&(vs / "do"), [f, d], GATE * Config::WIDTH);
        let gate = Gate { value, open, out, gelu: cfg.gelu() };
        let routes: Vec<Route> = match cfg.routing {
            Routing::Ssm => (sides.iter().zip(after))
                .map(|(side, after)| Route::Ssm(*side, Ssm::new(&(vs / side.name()), cfg), after))
                .collect(),
            Routing::Attention => vec![Route::Attention(cfg.attention().build(&(vs / "attention"), &cfg.view(dims)))],
            Routing::None => after.into_iter().map(Route::None).collect(),
        };
        let ends = before.into_iter().zip(routes).map(|(before, route)| End { before, route }).collect();
        Self { ends, gate, cfg: cfg.clone(), dims: *dims }
    }
}

impl End {
    /// `[batch, length, d_model]` → the same, by way of the sequence.
    fn read(&self, x: &Tensor, gelu: &'static str, ctx: &Context) -> Tensor {
        let u = x.apply(&self.before);
        match &self.route {
            Route::Ssm(side, ssm, after) => ssm.apply(&u, *side, Some(gelu), ctx).apply(after),
            Route::Attention(attention) => attention.forward(&u.gelu(gelu), ctx),
            Route::None(after) => u.gelu(gelu).apply(after),
        }
    }
}

impl Mixer for Gated {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        let ctx = self.cfg.seen(ctx);
        let read: Vec<Tensor> = self.ends.iter().map(|end| end.read(x, self.gate.gelu, &ctx)).collect();
        self.gate.forward(&read[0], read.get(1), x)
    }

    fn path(&self) -> &'static str {
        if self.cfg.routing == Routing::Ssm { "native FFT" } else { "libtorch" }
    }

    fn materialize(&self, _x: &Tensor, _ctx: &Context) -> Result<Tensor, NotLinear> {
        Err(NotLinear(match self.ends.len() {
            1 => "what is read from the sequence opens a gate, so the layer is not linear in anything it reads",
            _ => "the two directions are multiplied, so the layer is quadratic in what they read",
        }))
    }

    fn values(&self, x: &Tensor, ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        self.materialize(x, ctx).map(|_| unreachable!("a gated layer has no mixing matrix"))
    }

    fn reads_padding(&self) -> Option<&'static str> {
        self.cfg.reads_padding()
    }

    fn recurrent(&self) -> Option<Box<dyn Recurrent + '_>> {
        if self.cfg.both() {
            return None;
        }
        let step = match &self.ends[0].route {
            Route::Ssm(_, ssm, after) => Step::Ssm(ssm.recurrence(self.dims.d_model), after),
            Route::Attention(attention) => Step::Attention(attention.recurrent()?),
            Route::None(after) => Step::None(after),
        };
        Some(Box::new(Stepper { layer: self, step }))
    }

    fn cost(&self, length: i64) -> Cost {
        let (d, f, n) = (self.dims.d_model, self.cfg.d_ff(&self.dims), self.cfg.d_state);
        let ends = self.ends.len() as i64;
        let map = linear_flops(length, d, d);
        // One map into each routing; then what is behind it.
        let mut cost = Cost {
            params: 3 * d * f + 2 * f + d + ends * d * (d + 1),
            state_bytes: 0,
            flops: 3 * linear_flops(length, d, f) + ends * map,
        };
        match &self.ends[0].route {
            Route::Attention(attention) => {
                let inner = attention.cost(length);
                cost.params += inner.params;
                cost.flops += inner.flops;
                cost.state_bytes = inner.state_bytes;
            }
            Route::Ssm(..) => {
                cost.params += ends * (d * (d + 1) + 4 * n + 2);
                cost.flops += ends * (map + ssm_flops(length, d, n));
                cost.state_bytes = if ends == 1 { 8 * d * n } else { 0 };
            }
            Route::None(_) => {
                cost.params += ends * d * (d + 1);
                cost.flops += ends * map;
            }
        }
        cost
    }

    fn param_rules(&self) -> Vec<ParamRule> {
        self.cfg.ssm_rules()
    }

    fn output_map(&self) -> Option<&'static str> {
        Some("do.weight")
    }
}

/// The routing of a one-directional layer, one token at a time.
enum Step<'a> {
    Ssm(Recurrence, &'a Linear),
    Attention(Box<dyn Recurrent + 'a>),
    None(&'a Linear),
}

struct Stepper<'a> {
    layer: &'a Gated,
    step: Step<'a>,
}

impl Recurrent for Stepper<'_> {
    fn reset(&mut self, batch: i64) {
        match &mut self.step {
            Step::Ssm(recurrence, _) => recurrence.reset(batch),
            Step::Attention(cache) => cache.reset(batch),
            Step::None(_) => {}
        }
    }

    fn step(&mut self, x: &Tensor) -> Tensor {
        tch::no_grad(|| {
            let Gated { ends, gate, .. } = self.layer;
            let u = x.apply(&ends[0].before).gelu(gate.gelu);
            let read = match &mut self.step {
                Step::Ssm(recurrence, after) => recurrence.step(&u).apply(*after),
                Step::Attention(cache) => cache.step(&u),
                Step::None(after) => u.apply(*after),
            };
            gate.plain(&read, None, x)
        })
    }

    fn state_bytes(&self) -> i64 {
        match &self.step {
            Step::Ssm(recurrence, _) => recurrence.bytes(),
            Step::Attention(cache) => cache.state_bytes(),
            Step::None(_) => 0,
        }
    }

    fn state(&self) -> Vec<Tensor> {
        match &self.step {
            Step::Ssm(recurrence, _) => vec![recurrence.state_as_real()],
            Step::Attention(cache) => cache.state(),
            Step::None(_) => Vec::new(),
        }
    }
}
