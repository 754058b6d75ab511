//! A causal layer and the map it ends in, for one direction or for both.
//!
//! ```text
//! y = out_proj h(x)                                        causal
//! y = out_proj [ h(x) | reverse(h'(reverse(x))) ]          bidirectional: a second layer, `reverse.…`, with weights of its own, reads
//!                                                          each row from the end of its valid part
//! ```
//! Padding lies behind what either has to read. With two directions there is no step form. M of the second one is upper triangular, and
//! its heads follow those of the first.

use crate::{
    Context, Cost, Dims, Linear, Mixer, NotLinear, ParamRule, Recurrent, Structure, linear_flops, tensor_bytes,
};
use std::fmt::Debug;
use tch::Tensor;
use tch::nn;

/// What a causal recurrent layer is before the map it ends in.
pub(crate) trait Causal: Debug + Send {
    /// `[batch, length, d_model]` → h, `[batch, length, width]`, head after head where it has heads.
    fn features(&self, x: &Tensor) -> Tensor;

    /// Width of h.
    fn width(&self) -> i64;

    /// Heads that h consists of; 0 where it has none.
    fn heads(&self) -> i64 {
        0
    }

    /// M, lower triangular: see [`Mixer::materialize`].
    fn matrix(&self, x: &Tensor) -> Result<Tensor, NotLinear>;

    /// V and Y: see [`Mixer::values`].
    fn values(&self, x: &Tensor) -> Result<(Tensor, Tensor), NotLinear>;

    /// The class of M.
    fn structure(&self) -> Structure;

    /// The state of `batch` sequences that have not begun.
    fn start(&self, batch: i64) -> Vec<Tensor>;

    /// h of one position, `[batch, 1, d_model]` → `[batch, 1, width]`; `at` positions came before.
    fn step(&self, x: &Tensor, state: &mut [Tensor], at: i64) -> Tensor;

    /// Of one direction, without the last map; state as if there were one.
    fn cost(&self, length: i64) -> Cost;

    /// See [`Mixer::param_rules`].
    fn rules(&self) -> Vec<ParamRule> {
        Vec::new()
    }

    /// See [`Mixer::path`].
    fn path(&self) -> &'static str {
        "native scan"
    }
}

/// See the head of this file.
#[derive(Debug)]
pub(crate) struct Directions<L> {
    ahead: L,
    back: Option<L>,
    out: Option<Linear>,
    /// Name of its weight.
    out_name: &'static str,
    d_model: i64,
}

impl<L: Causal> Directions<L> {
    /// `layer` builds one direction under a path. `out` builds the last map from the width of all of h, or none.
    pub fn new(
        vs: &nn::Path,
        dims: &Dims,
        layer: impl Fn(&nn::Path) -> L,
        out_name: &'static str,
        out: impl FnOnce(i64) -> Option<Linear>,
    ) -> Self {
        let ahead = layer(vs);
        let back = (!dims.causal).then(|| layer(&(vs / "reverse")));
        let width = ahead.width() * if back.is_some() { 2 } else { 1 };
        Self { ahead, back, out: out(width), out_name, d_model: dims.d_model }
    }

    /// The layer that reads forwards.
    pub fn ahead(&self) -> &L {
        &self.ahead
    }

    /// The same, to change it.
    pub fn ahead_mut(&mut self) -> &mut L {
        &mut self.ahead
    }

    /// h of both directions → `[batch, length, d_model]`.
    pub fn project(&self, h: &Tensor, ctx: &Context) -> Tensor {
        match &self.out {
            None => h.shallow_clone(),
            Some(out) if self.heads() > 0 => h.apply(&ctx.join_heads(out, self.heads())),
            Some(out) => h.apply(out),
        }
    }

    fn each(&self) -> i64 {
        1 + i64::from(self.back.is_some())
    }
}

/// `[batch, heads, length, …]` with the valid positions of each row in the opposite order.
fn turned(t: &Tensor, ctx: &Context) -> Tensor {
    ctx.reversed(&t.transpose(1, 2)).transpose(1, 2)
}

impl<L: Causal> Mixer for Directions<L> {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        let ahead = self.ahead.features(x);
        match &self.back {
            None => self.project(&ahead, ctx),
            Some(back) => {
                let behind = ctx.reversed(&back.features(&ctx.reversed(x)));
                self.project(&Tensor::cat(&[ahead, behind], -1), ctx)
            }
        }
    }

    fn materialize(&self, x: &Tensor, ctx: &Context) -> Result<Tensor, NotLinear> {
        let ahead = self.ahead.matrix(x)?;
        let Some(back) = &self.back else { return Ok(ahead) };
        let columns = turned(&back.matrix(&ctx.reversed(x))?.transpose(-2, -1), ctx).transpose(-2, -1);
        Ok(Tensor::cat(&[ahead, turned(&columns, ctx)], 1))
    }

    fn values(&self, x: &Tensor, ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        let (v, y) = self.ahead.values(x)?;
        let Some(back) = &self.back else { return Ok((v, y)) };
        let (v_back, y_back) = back.values(&ctx.reversed(x))?;
        Ok((Tensor::cat(&[v, turned(&v_back, ctx)], 1), Tensor::cat(&[y, turned(&y_back, ctx)], 1)))
    }

    fn structure(&self) -> Structure {
        self.ahead.structure()
    }

    fn heads(&self) -> i64 {
        self.each() * self.ahead.heads()
    }

    fn path(&self) -> &'static str {
        self.ahead.path()
    }

    fn recurrent(&self) -> Option<Box<dyn Recurrent + '_>> {
        if self.back.is_some() {
            return None;
        }
        Some(Box::new(State { mixer: self, state: self.ahead.start(1), at: 0 }))
    }

    fn cost(&self, length: i64) -> Cost {
        let (one, each) = (self.ahead.cost(length), self.each());
        let width = each * self.ahead.width();
        let (maps, biases) = match &self.out {
            None => (0, 0),
            Some(out) => (1, if out.bs.is_some() { self.d_model } else { 0 }),
        };
        Cost {
            params: each * one.params + maps * width * self.d_model + biases,
            state_bytes: if self.back.is_some() { 0 } else { one.state_bytes },
            flops: each * one.flops + maps * linear_flops(length, width, self.d_model),
        }
    }

    fn param_rules(&self) -> Vec<ParamRule> {
        let mut rules = self.ahead.rules();
        if self.back.is_some() {
            let behind = |rule: &ParamRule| ParamRule { name: format!("reverse.{}", rule.name), ..rule.clone() };
            rules.extend(rules.iter().map(behind).collect::<Vec<_>>());
        }
        rules
    }

    fn output_map(&self) -> Option<&'static str> {
        self.out.as_ref().map(|_| self.out_name)
    }
}

/// The state of the layer that reads forwards.
struct State<'a, L> {
    mixer: &'a Directions<L>,
    state: Vec<Tensor>,
    at: i64,
}

impl<L: Causal> Recurrent for State<'_, L> {
    fn reset(&mut self, batch: i64) {
        self.state = self.mixer.ahead.start(batch);
        self.at = 0;
    }

    fn step(&mut self, x: &Tensor) -> Tensor {
        let h = self.mixer.ahead.step(&x.unsqueeze(1), &mut self.state, self.at);
        self.at += 1;
        self.mixer.project(&h, &Context::eval()).squeeze_dim(1)
    }

    fn state_bytes(&self) -> i64 {
        self.state.iter().map(tensor_bytes).sum()
    }

    fn state(&self) -> Vec<Tensor> {
        self.state.iter().map(Tensor::shallow_clone).collect()
    }
}
