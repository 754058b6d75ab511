//! Hydra: a bidirectional state-space mixer whose matrix is quasiseparable.
//!
//! ```text
//! z | xBC | dt = in_proj u,   xBC = SiLU(conv1d(xBC)),   dt = softplus(dt + dt_bias) per direction,   A = -exp(A_log)
//! M[t,s] = Cf_{t-1}·Bf_s exp(A Σ_{s<r<t} dtf_r) dtf_s   s < t     M[t,t] = (fc_D x_t + D)
//! M[t,s] = Cb_{t+1}·Bb_s exp(A Σ_{t<r<s} dtb_r) dtb_s   s > t
//! y = out_proj( RMSNorm(M x) · weight · SiLU(z) )                 one M per head; norm before gate
//! ```
//! Paper    Hwang, Lahoti, Dao & Gu 2024, arXiv:2407.09941
//! Time     O(length · d_model² + length · (chunk + d_state) · d_inner)
//! Memory   O(length · d_inner + length · chunk · n_heads) to train; no recurrent form, both ends are needed
//! Matches  goombalab/hydra at 55bef74, unfused path: outputs and gradients (`fixtures/goldens/hydra__*`)
//! Departs  padding: the reference drops padded tokens and puts zeros back, so the convolution sees the neighbouring
//!          sequence's edge as its own; here padded positions enter the convolution as zeros and take steps `dt = 0`, so a
//!          padded row gives exactly what the same row gives alone. `C` is taken one step off (t-1, t+1) and `dt_bias`,
//!          `A` serve both directions, as in the code and unlike the paper's figure.

use crate::goldens::{Golden, GoldenError, Replay};
use crate::math::ssd::{self, Stream};
use crate::{
    ConfigError, Context, Cost, Dims, Family, Mixer, NotLinear, ParamRule, at_least, between, divides, linear_flops,
};
use serde_json::{Value, json};
use tch::nn::{self, Init, VarStore};
use tch::{Device, Tensor};

/// `mixer: { hydra: { d_state: 64 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// State size N of each head and direction. Reference: 64.
    pub d_state: i64,
    /// `d_inner / d_model`. Reference: 2.
    pub expand: i64,
    /// Channels of a head; must divide `d_inner`. Reference: 64.
    pub headdim: i64,
    /// Groups of heads that share B and C; must divide the number of heads. Reference: 1.
    pub ngroups: i64,
    /// Width of the depthwise convolution, odd. Reference: 7.
    pub d_conv: i64,
    /// Positions in a chunk of the scan. Changes speed and memory, not the result. Reference: 256, for a GPU.
    pub chunk_size: i64,
    /// Bias of `in_proj` and `out_proj`.
    pub bias: bool,
    /// Smallest step drawn at initialisation.
    pub dt_min: f64,
    /// Largest step drawn at initialisation.
    pub dt_max: f64,
    /// Steps are clamped to this range after the softplus.
    pub dt_limit: Option<[f64; 2]>,
    /// Learn the state that both directions start from.
    pub learnable_init_states: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            d_state: 64,
            expand: 2,
            headdim: 64,
            ngroups: 1,
            d_conv: 7,
            chunk_size: 64,
            bias: false,
            dt_min: 1e-3,
            dt_max: 0.1,
            dt_limit: None,
            learnable_init_states: false,
        }
    }
}

/// Steps drawn at initialisation are no smaller than this.
const DT_FLOOR: f64 = 1e-4;
/// Of the RMS norm.
const EPS: f64 = 1e-5;

impl Family for Config {
    const NAME: &'static str = "hydra";
    const ABOUT: &'static str = "bidirectional state-space mixer, quasiseparable matrix (Hwang et al. 2024)";
    const PAPER: &'static str = "Hwang et al. 2024, arXiv:2407.09941, §3";
    const COMPLEXITY: &'static str = "time and memory O(length · d_model · (d_state + chunk_size))";
    const VERSION: u32 = 1;

    fn variants() -> Vec<Value> {
        vec![
            json!({ "ngroups": 2, "bias": true, "d_conv": 3, "chunk_size": 5 }),
            json!({ "learnable_init_states": true, "chunk_size": 64, "dt_limit": [0.001, 0.05] }),
        ]
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        let mut wrong = Vec::new();
        if dims.causal {
            let problem = "`hydra` reads both directions and cannot be causal".into();
            let help = "set `causal: false` on the task or leave this mixer out".into();
            wrong.push(ConfigError { key: "hydra", problem, help });
        }
        if self.d_conv % 2 == 0 {
            let problem = format!("`d_conv` is {}, but a centred convolution has an odd width", self.d_conv);
            wrong.push(ConfigError { key: "d_conv", problem, help: format!("use {}", self.d_conv + 1) });
        }
        if let Some([low, high]) = self.dt_limit.filter(|[low, high]| !(0.0 <= *low && low <= high)) {
            let problem = format!("`dt_limit` is [{low}, {high}], which is no range of positive steps");
            wrong.push(ConfigError { key: "dt_limit", problem, help: "use [low, high] with 0 <= low <= high".into() });
        }
        let d_inner = self.expand * dims.d_model;
        let heads = if self.headdim > 0 { (d_inner / self.headdim).max(1) } else { 1 };
        let checks = [
            at_least("d_state", self.d_state, 1),
            at_least("expand", self.expand, 1),
            at_least("d_conv", self.d_conv, 1),
            at_least("chunk_size", self.chunk_size, 1),
            divides("headdim", self.headdim, "expand · d_model", d_inner),
            divides("ngroups", self.ngroups, "expand · d_model / headdim", heads),
            between("dt_max", self.dt_max, 1e-9, 1e3),
            between("dt_min", self.dt_min, 1e-9, self.dt_max),
        ];
        wrong.extend(checks.into_iter().filter_map(Result::err));
        wrong
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(Hydra::new(vs, dims, self))
    }
}

/// The layer; see the head of this file.
#[derive(Debug)]
pub struct Hydra {
    in_proj: nn::Linear,
    conv_weight: Tensor,
    conv_bias: Tensor,
    dt_bias: Tensor,
    a_log: Tensor,
    d: Tensor,
    fc_d: Tensor,
    norm: Tensor,
    out_proj: nn::Linear,
    init_states: Option<Tensor>,
    cfg: Config,
    d_model: i64,
}

/// What M is made of, and V.
struct Inside {
    /// `[batch, length, heads, headdim]`.
    x: Tensor,
    forward: Stream,
    backward: Stream,
    /// Diagonal of M, `[batch, length, heads]`.
    diagonal: Tensor,
}

impl Hydra {
    fn new(vs: &nn::Path, dims: &Dims, cfg: &Config) -> Self {
        let (d_model, d_inner) = (dims.d_model, cfg.expand * dims.d_model);
        let heads = d_inner / cfg.headdim;
        let convolved = d_inner + 4 * cfg.ngroups * cfg.d_state;
        let linear = |vs: nn::Path, from: i64, to: i64| {
            nn::linear(vs, from, to, nn::LinearConfig { ws_init: fan_in(from), bias: cfg.bias, ..Default::default() })
        };
        let conv = vs / "conv1d";
        let mut dt_bias = vs.var("dt_bias", &[heads], Init::Uniform { lo: cfg.dt_min.ln(), up: cfg.dt_max.ln() });
        tch::no_grad(|| {
            let dt = dt_bias.exp().clamp_min(DT_FLOOR);
            dt_bias.copy_(&(&dt + (-(-&dt).expm1()).log())); // the inverse of softplus
        });
        Self {
            in_proj: linear(vs / "in_proj", d_model, d_inner + convolved + 2 * heads),
            conv_weight: conv.var("weight", &[convolved, 1, cfg.d_conv], fan_in(cfg.d_conv)),
            conv_bias: conv.var("bias", &[convolved], fan_in(cfg.d_conv)),
            dt_bias,
            a_log: vs.zeros("A_log", &[heads]),
            d: vs.ones("D", &[heads]),
            fc_d: (vs / "fc_D").var("weight", &[heads, d_inner], fan_in(d_inner)),
            norm: (vs / "norm").ones("weight", &[d_inner]),
            out_proj: linear(vs / "out_proj", d_inner, d_model),
            init_states: cfg.learnable_init_states.then(|| vs.zeros("init_states", &[heads, cfg.headdim, cfg.d_state])),
            cfg: cfg.clone(),
            d_model,
        }
    }

    fn d_inner(&self) -> i64 {
        self.cfg.expand * self.d_model
    }

    fn heads(&self) -> i64 {
        self.d_inner() / self.cfg.headdim
    }

    /// A, `[heads]`.
    fn a(&self) -> Tensor {
        -self.a_log.exp()
    }

    /// The gate z, `[batch, length, d_inner]`, and everything M is made of.
    fn inside(&self, u: &Tensor, ctx: &Context) -> (Tensor, Inside) {
        let (d_inner, heads) = (self.d_inner(), self.heads());
        let bc_width = 4 * self.cfg.ngroups * self.cfg.d_state;
        // The weights are cut, not the activations: each part then lies packed, and its gradient needs no padding back.
        let parts = [d_inner, d_inner, bc_width, 2 * heads];
        let weights = self.in_proj.ws.split_with_sizes(parts, 0);
        let biases = self.in_proj.bs.as_ref().map(|b| b.split_with_sizes(parts, 0));
        let project = |i: usize| u.linear(&weights[i], biases.as_ref().map(|b| &b[i]));
        let conv_weights = self.conv_weight.split_with_sizes([d_inner, bc_width], 0);
        let conv_biases = self.conv_bias.split_with_sizes([d_inner, bc_width], 0);
        let convolve =
            |i: usize| convolve(&ctx.zero_padding(&project(i + 1)), &conv_weights[i], &conv_biases[i]).silu();

        let x = convolve(0);
        // Zeros at padded positions keep a learned initial state out of the last valid one.
        let [bf, cf, bb, cb] = four(ctx.zero_padding(&convolve(1)).chunk(4, -1), |t| {
            t.unflatten(-1, [self.cfg.ngroups, self.cfg.d_state])
        });
        let mut dt = (project(3).unflatten(-1, [2, heads]) + &self.dt_bias).softplus();
        if let Some([low, high]) = self.cfg.dt_limit {
            dt = dt.clamp(low, high);
        }
        let dt = ctx.zero_padding(&dt).unbind(2);
        let inside = Inside {
            diagonal: x.linear(&self.fc_d, Some(&self.d)),
            x: x.unflatten(-1, [heads, self.cfg.headdim]),
            forward: Stream { dt: dt[0].shallow_clone(), b: bf, c: cf },
            backward: Stream { dt: dt[1].shallow_clone(), b: bb, c: cb },
        };
        (project(0), inside)
    }

    /// M x, `[batch, length, heads, headdim]`.
    fn mix(&self, inside: &Inside) -> Tensor {
        let Inside { x, forward, backward, diagonal } = inside;
        let chunk = self.cfg.chunk_size;
        ssd::quasiseparable(x, &self.a(), [forward, backward], chunk, self.init_states.as_ref())
            + x * diagonal.unsqueeze(-1)
    }

    /// With an initial state `Y = M V + offset`.
    fn linear(&self) -> Result<(), NotLinear> {
        match self.init_states {
            None => Ok(()),
            Some(_) => Err(NotLinear("learned initial states add an offset that no matrix applied to V gives")),
        }
    }
}

impl Mixer for Hydra {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        let (z, inside) = self.inside(x, ctx);
        let y = self.mix(&inside).flatten(2, 3);
        (y.rms_norm([self.d_inner()], Some(&self.norm), EPS) * z.silu()).apply(&self.out_proj)
    }

    fn materialize(&self, x: &Tensor, ctx: &Context) -> Result<Tensor, NotLinear> {
        self.linear()?;
        let (_, inside) = self.inside(x, ctx);
        let diagonal = inside.diagonal.transpose(1, 2).diag_embed(0, -2, -1);
        Ok(ssd::quasiseparable_matrix(&self.a(), [&inside.forward, &inside.backward]) + diagonal)
    }

    fn values(&self, x: &Tensor, ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        self.linear()?;
        let (_, inside) = self.inside(x, ctx);
        Ok((inside.x.transpose(1, 2), self.mix(&inside).transpose(1, 2)))
    }

    /// The scan is counted as it runs: C·B of both directions, one product with x, and states where there are chunks.
    fn cost(&self, length: i64) -> Cost {
        let (d, d_inner, heads) = (self.d_model, self.d_inner(), self.heads());
        let bc = self.cfg.ngroups * self.cfg.d_state;
        let convolved = d_inner + 4 * bc;
        let projected = d_inner + convolved + 2 * heads;
        let biases = if self.cfg.bias { projected + d } else { 0 };
        let states = if self.cfg.learnable_init_states { d_inner * self.cfg.d_state } else { 0 };
        let params = d * projected
            + convolved * (self.cfg.d_conv + 1)
            + 3 * heads
            + heads * d_inner
            + d_inner
            + d_inner * d
            + biases
            + states;
        let chunk = self.cfg.chunk_size.min(length);
        let within = 2 * linear_flops(length, bc, chunk) + linear_flops(length, chunk, d_inner);
        let between = if chunk < length { 4 * linear_flops(length, self.cfg.d_state, d_inner) } else { 0 };
        let flops = linear_flops(length, d, projected)
            + linear_flops(length, self.cfg.d_conv, convolved)
            + within
            + between
            + linear_flops(length, d_inner, heads)
            + linear_flops(length, d_inner, d);
        Cost { params, state_bytes: 0, flops }
    }

    fn param_rules(&self) -> Vec<ParamRule> {
        let undecayed = |name: &str| ParamRule { name: name.into(), lr: None, weight_decay: Some(0.0) };
        let mut rules: Vec<ParamRule> = ["dt_bias", "A_log", "D"].map(undecayed).into();
        rules.extend(self.init_states.as_ref().map(|_| undecayed("init_states")));
        rules
    }
}

/// PyTorch's default for a weight or bias that sums `fan_in` terms; tch's own default is wider.
fn fan_in(fan_in: i64) -> Init {
    let bound = 1.0 / (fan_in as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

/// Depthwise convolution centred on each position: `x` `[batch, length, channels]`, `weight` `[channels, 1, width]`.
///
/// Channels lie last in memory, which is how libtorch's two-dimensional kernel likes them best: on a CPU it takes a quarter of
/// the time of `conv1d`, which transposes, and of a sum of shifted products. The bias is added outside, since the kernel's
/// own gradient of it costs as much as all its other gradients.
fn convolve(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    let (channels, width) = (weight.size()[0], weight.size()[2]);
    let image = x.transpose(1, 2).unsqueeze(2); // [batch, channels, 1, length], channels last in memory
    let y = image.conv2d(&weight.unsqueeze(2), None::<Tensor>, [1, 1], [0, width / 2], [1, 1], channels);
    y.squeeze_dim(2).transpose(1, 2) + bias
}

fn four(parts: Vec<Tensor>, f: impl Fn(Tensor) -> Tensor) -> [Tensor; 4] {
    let mut parts = parts.into_iter().map(f);
    std::array::from_fn(|_| parts.next().expect("chunk(4) yields four tensors"))
}

/// A whole module: `hydra__*`.
pub fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    let defaults = Config::default();
    let cfg = Config {
        d_state: golden.int_or("d_state", defaults.d_state),
        expand: golden.int_or("expand", defaults.expand),
        headdim: golden.int_or("headdim", defaults.headdim),
        ngroups: golden.int_or("ngroups", defaults.ngroups),
        d_conv: golden.int_or("d_conv", defaults.d_conv),
        chunk_size: golden.int_or("chunk_size", defaults.chunk_size),
        bias: golden.flag("bias"),
        dt_limit: serde_json::from_value(golden.config["dt_limit"].clone()).unwrap_or_default(),
        learnable_init_states: golden.flag("learnable_init_states"),
        ..defaults
    };
    let u = golden.input("u")?;
    let dims = Dims { d_model: golden.int("d_model")?, seq_len: u.size()[1], causal: false };
    let mut vs = VarStore::new(Device::Cpu);
    let hydra = Hydra::new(&vs.root(), &dims, &cfg);
    golden.fill(&mut vs)?;
    let y = hydra.forward(&u, &Context::eval());
    golden.replay(&[("y", &y)], &[("u", &u)], Some(&vs))
}

/// The core alone, everything it reads given: `quasiseparable_matrix__*`.
pub fn replay_quasiseparable(golden: &Golden) -> Result<Replay, GoldenError> {
    const NAMES: [&str; 9] = ["x", "A", "dt_fwd", "B_fwd", "C_fwd", "dt_bwd", "B_bwd", "C_bwd", "diag"];
    let leaves = NAMES.iter().map(|name| golden.input(name)).collect::<Result<Vec<_>, _>>()?;
    let stream = |i: usize| {
        let [dt, b, c] = [0, 1, 2].map(|k| leaves[i + k].shallow_clone());
        Stream { dt, b, c }
    };
    let (x, a) = (&leaves[0], &leaves[1]);
    let y = ssd::quasiseparable(x, a, [&stream(2), &stream(5)], golden.int("chunk_size")?, None);
    let y = y + x * leaves[8].unsqueeze(-1);
    let inputs: Vec<(&str, &Tensor)> = NAMES.into_iter().zip(&leaves).collect();
    golden.replay(&[("y", &y)], &inputs, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Kind;

    /// The convolution as it is defined: `y_t = bias + Σ_k weight_k x_{t + k - width/2}`, zeros outside.
    fn shifted_products(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
        let (length, width) = (x.size()[1], weight.size()[2]);
        let padded = x.constant_pad_nd([0, 0, width / 2, width / 2]);
        (0..width)
            .fold(bias + x.zeros_like(), |y, k| y + padded.narrow(1, k, length) * weight.select(2, k).squeeze_dim(1))
    }

    #[test]
    fn the_convolution_is_a_sum_of_shifted_products_in_values_and_gradients() {
        for (kind, tolerance) in [(Kind::Double, 1e-11), (Kind::Float, 1e-4)] {
            for (length, width) in [(1, 7), (5, 7), (20, 7), (20, 3), (9, 1)] {
                let random = |shape: &[i64]| Tensor::randn(shape, (kind, Device::Cpu)).set_requires_grad(true);
                let leaves = [random(&[2, length, 10]), random(&[10, 1, width]), random(&[10])];
                let [x, weight, bias] = &leaves;
                let (fast, slow) = (convolve(x, weight, bias), shifted_products(x, weight, bias));
                assert!(fast.allclose(&slow, tolerance, tolerance, false), "values, {length} by {width}, {kind:?}");
                let cotangent = fast.randn_like();
                let gradient = |y: &Tensor| Tensor::run_backward(&[(y * &cotangent).sum(kind)], &leaves, false, false);
                for (fast, slow) in gradient(&fast).iter().zip(gradient(&slow)) {
                    assert!(
                        fast.allclose(&slow, tolerance, tolerance, false),
                        "gradient, {length} by {width}, {kind:?}"
                    );
                }
            }
        }
    }

    fn check(cfg: &Config, causal: bool) -> Vec<&'static str> {
        cfg.check(&Dims { d_model: 64, seq_len: 64, causal }).into_iter().map(|e| e.key).collect()
    }

    #[test]
    fn what_cannot_be_built_is_named() {
        let default = Config::default;
        assert!(check(&default(), false).is_empty());
        assert_eq!(check(&default(), true), ["hydra"]);
        assert_eq!(check(&Config { headdim: 48, ..default() }, false), ["headdim"]);
        assert_eq!(check(&Config { ngroups: 3, ..default() }, false), ["ngroups"]);
        assert_eq!(check(&Config { d_conv: 4, ..default() }, false), ["d_conv"]);
        assert_eq!(check(&Config { dt_limit: Some([0.2, 0.1]), ..default() }, false), ["dt_limit"]);
        assert_eq!(check(&Config { dt_min: 0.2, ..default() }, false), ["dt_min"]);
        assert!(check(&Config { headdim: 0, expand: 0, ..default() }, false).contains(&"headdim"));
    }

    #[test]
    fn steps_start_between_dt_min_and_dt_max() {
        let vs = VarStore::new(Device::Cpu);
        let cfg = Config { headdim: 1, dt_min: 0.01, dt_max: 0.2, ..Config::default() };
        let hydra = Hydra::new(&vs.root(), &Dims { d_model: 64, seq_len: 8, causal: false }, &cfg);
        let dt = hydra.dt_bias.softplus();
        let (least, most) = (dt.min().double_value(&[]), dt.max().double_value(&[]));
        assert!((0.0099..0.05).contains(&least) && (0.05..0.2001).contains(&most), "{least} .. {most}");
        assert_eq!(hydra.a().max().double_value(&[]), -1.0);
    }
}
