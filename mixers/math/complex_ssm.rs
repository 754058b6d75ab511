//! A diagonal complex recurrence that all channels feed and read, with a gate behind it: what LRU and S5 share.
//!
//! ```text
//! h_t = λ ⊙ h_{t-1} + B x_t,   y_t = Re(C h_t) + D ⊙ x_t                    λ, B and C complex
//! bidirectional     y_t = Re(C h_t) + Re(C' h'_t) + D ⊙ x_t,   h' with the same λ and B from the end of each row's valid part
//! g = GELU(y),   full_glu  (out1 g) σ(out2 g);   half_glu1  g σ(out2 g);   half_glu2  y σ(out2 g);   gelu  g
//! ```
//! The current token counts in both directions. out1 and out2 are kept as JAX keeps them, `kernel` `[from, to]`. No matrix over positions
//! gives Y of scalar values: between every two channels there is one of its own.

use crate::core::precision::{Precision, dense_map};
use crate::math::diagonal_scan::complex;
use crate::{Context, Cost, Mixer, NotLinear, ParamRule, Recurrent, linear_flops, tensor_bytes};
use std::fmt::Debug;
use tch::Tensor;
use tch::nn::{self, Init};

/// What stands behind the recurrence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// Two maps, one of which gates the other.
    FullGlu,
    /// One map, whose sigmoid gates GELU's output.
    #[default]
    HalfGlu1,
    /// One map, whose sigmoid gates what GELU read.
    HalfGlu2,
    /// GELU alone.
    Gelu,
}

/// The recurrence of one step length: complex numbers as real parts before imaginary ones.
#[derive(Debug)]
pub(crate) struct Recurrence {
    /// `[2 · states]`.
    pub lambda: Tensor,
    /// `[2 · states, d_model]`.
    pub b: Tensor,
    /// `[d_model, 2 · states]` a direction, so that h times it is Re(C h).
    pub c: Vec<Tensor>,
}

/// The parameters of a recurrence.
pub(crate) trait Ssm: Debug + Send {
    fn recurrence(&self) -> Recurrence;

    /// The skip, `[d_model]`.
    fn skip(&self) -> &Tensor;

    /// Modes that are kept.
    fn states(&self) -> i64;

    /// Numbers, in as many directions.
    fn params(&self, directions: i64) -> i64;

    /// By their names under `seq.`.
    fn rules(&self) -> Vec<ParamRule>;
}

/// y, before the gate; `[batch, length, d_model]`.
pub(crate) fn run(ssm: &impl Ssm, x: &Tensor, ctx: &Context, precision: Precision) -> Tensor {
    let Recurrence { lambda, b, c } = ssm.recurrence();
    let fed = precision.linear(x, &b, None);
    let ahead = precision.linear(&complex(&lambda, &fed), &c[0], None);
    let y = ahead + x * ssm.skip();
    match c.get(1) {
        None => y,
        Some(c) => {
            let behind = ctx.reversed(&complex(&lambda, &ctx.reversed(&fed)));
            y + precision.linear(&behind, c, None)
        }
    }
}

/// A map as JAX keeps it, with LeCun's normal initial values, cut off at two deviations, and a bias of 0.
#[derive(Debug)]
struct Dense {
    kernel: Tensor,
    bias: Tensor,
    precision: Precision,
}

impl Dense {
    fn new(vs: &nn::Path, d: i64) -> Self {
        let kernel = lecun(vs, "kernel", &[d, d], 1.0 / (d as f64).sqrt());
        let bias = vs.zeros("bias", &[d]);
        dense_map(&kernel, Some(&bias), [d, d]);
        Self { kernel, bias, precision: Precision::of_builder() }
    }

    fn apply(&self, x: &Tensor) -> Tensor {
        self.precision.linear(x, &self.kernel.tr(), Some(&self.bias))
    }
}

/// A parameter of normal values of deviation `std`, none of them beyond two deviations of the normal that was cut.
pub(crate) fn lecun(vs: &nn::Path, name: &str, shape: &[i64], std: f64) -> Tensor {
    // The normal distribution holds erf(√2) within two deviations; cut there, its own deviation is 0.8796 of them.
    const WITHIN: f64 = 0.954_499_736_103_641_6;
    const LEFT: f64 = 0.879_625_661_034_239_8;
    let mut t = vs.var(name, shape, Init::Uniform { lo: -WITHIN, up: WITHIN });
    tch::no_grad(|| t.copy_(&(t.erfinv() * (2f64.sqrt() * std / LEFT))));
    t
}

/// The layer.
#[derive(Debug)]
pub(crate) struct Layer<S> {
    pub ssm: S,
    gate: Gate,
    out1: Option<Dense>,
    out2: Option<Dense>,
    d_model: i64,
    causal: bool,
    precision: Precision,
}

impl<S: Ssm> Layer<S> {
    /// Around a recurrence under `seq`.
    pub fn new(vs: &nn::Path, ssm: S, gate: Gate, d_model: i64, causal: bool) -> Self {
        Self {
            ssm,
            gate,
            out1: (gate == Gate::FullGlu).then(|| Dense::new(&(vs / "out1"), d_model)),
            out2: (gate != Gate::Gelu).then(|| Dense::new(&(vs / "out2"), d_model)),
            d_model,
            causal,
            precision: Precision::of_builder(),
        }
    }

    /// What the gate makes of y.
    fn finish(&self, y: &Tensor) -> Tensor {
        let g = y.gelu("tanh");
        let Some(out2) = &self.out2 else { return g };
        let open = out2.apply(&g).sigmoid();
        let gated = match (&self.out1, self.gate) {
            (Some(out1), _) => out1.apply(&g),
            (None, Gate::HalfGlu2) => y.shallow_clone(),
            (None, _) => g,
        };
        gated * open
    }

    fn maps(&self) -> i64 {
        [&self.out1, &self.out2].into_iter().flatten().count() as i64
    }

    fn directions(&self) -> i64 {
        if self.causal { 1 } else { 2 }
    }
}

const MIXED: NotLinear =
    NotLinear("every state mixes all channels: between every two of them there is a matrix of its own");

impl<S: Ssm> Mixer for Layer<S> {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        self.finish(&run(&self.ssm, x, ctx, self.precision))
    }

    fn materialize(&self, _x: &Tensor, _ctx: &Context) -> Result<Tensor, NotLinear> {
        Err(MIXED)
    }

    fn values(&self, _x: &Tensor, _ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        Err(MIXED)
    }

    fn path(&self) -> &'static str {
        "native scan"
    }

    fn recurrent(&self) -> Option<Box<dyn Recurrent + '_>> {
        if !self.causal {
            return None;
        }
        let mut state = State { layer: self, recurrence: self.ssm.recurrence(), h: Tensor::new() };
        state.reset(1);
        Some(Box::new(state))
    }

    fn cost(&self, length: i64) -> Cost {
        let (d, states, directions) = (self.d_model, self.ssm.states(), self.directions());
        let scans = 8 * directions * length * states; // a complex multiply-add is 8 operations
        let maps = linear_flops(length, d, 2 * states * (1 + directions) + self.maps() * d);
        Cost {
            params: self.ssm.params(directions) + self.maps() * (d * d + d),
            state_bytes: if self.causal { 8 * states } else { 0 },
            flops: maps + scans,
        }
    }

    fn param_rules(&self) -> Vec<ParamRule> {
        let inside = |rule: ParamRule| ParamRule { name: format!("seq.{}", rule.name), ..rule };
        self.ssm.rules().into_iter().map(inside).collect()
    }

    fn output_map(&self) -> Option<&'static str> {
        self.out1.is_some().then_some("out1.kernel")
    }
}

/// h, `[batch, 2 · states]`.
struct State<'a, S> {
    layer: &'a Layer<S>,
    recurrence: Recurrence,
    h: Tensor,
}

impl<S: Ssm> Recurrent for State<'_, S> {
    fn reset(&mut self, batch: i64) {
        let lambda = &self.recurrence.lambda;
        self.h = Tensor::zeros([batch, lambda.size()[0]], (lambda.kind(), lambda.device()));
    }

    fn step(&mut self, x: &Tensor) -> Tensor {
        let (layer, Recurrence { lambda, b, c }) = (self.layer, &self.recurrence);
        let parts = |t: &Tensor| <[Tensor; 2]>::try_from(t.chunk(2, -1)).expect("real and imaginary parts");
        let ([l_re, l_im], [re, im]) = (parts(lambda), parts(&self.h));
        let turned = Tensor::cat(&[&l_re * &re - &l_im * &im, l_re * im + l_im * re], -1);
        self.h = turned + layer.precision.linear(x, b, None);
        layer.finish(&(layer.precision.linear(&self.h, &c[0], None) + x * layer.ssm.skip()))
    }

    fn state_bytes(&self) -> i64 {
        tensor_bytes(&self.h)
    }

    fn state(&self) -> Vec<Tensor> {
        vec![self.h.shallow_clone()]
    }
}

/// The layer is its equations, one position after another, in values and gradients.
#[cfg(test)]
pub(crate) fn assert_plain_twin<S: Ssm>(layer: &Layer<S>, vs: &nn::VarStore, finish: impl Fn(&Tensor) -> Tensor) {
    use crate::laws::testing::{assert_twins, noise};
    use tch::Kind;
    let x = noise(&[2, 19, layer.d_model], 5).set_requires_grad(true);
    let mut leaves = vs.trainable_variables();
    leaves.push(x.shallow_clone());
    let leaves: Vec<&Tensor> = leaves.iter().collect();
    let Recurrence { lambda, b, c } = layer.ssm.recurrence();
    let joined = |t: &Tensor, dim: i64| {
        let parts = t.chunk(2, dim);
        Tensor::complex(&parts[0], &parts[1])
    };
    let (lambda, b) = (joined(&lambda, 0), joined(&b, 0));
    let orders: Vec<Vec<i64>> = vec![(0..19).collect(), (0..19).rev().collect()];
    let mut parts = vec![&x * layer.ssm.skip()];
    for (c, order) in c.iter().zip(orders) {
        // Re(C h) is Re(C) Re(h) - Im(C) Im(h).
        let c = joined(c, 1).conj().resolve_conj();
        let mut h = Tensor::zeros([2, lambda.size()[0]], (Kind::ComplexDouble, tch::Device::Cpu));
        let mut outputs: Vec<Tensor> = Vec::new();
        for &t in &order {
            h = &lambda * h + x.select(1, t).to_kind(Kind::ComplexDouble).matmul(&b.tr());
            outputs.push(h.matmul(&c.tr()).real());
        }
        let outputs: Vec<Tensor> = (0..19)
            .map(|t| outputs[order.iter().position(|at| *at == t).expect("each once")].shallow_clone())
            .collect();
        parts.push(Tensor::stack(&outputs, 1));
    }
    let y: Tensor = parts.iter().sum();
    let fast = layer.forward(&x, &Context::eval());
    assert_twins(&fast, &finish(&y), &leaves, 1e-10, &format!("{:?}", layer.gate));
}
