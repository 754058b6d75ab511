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
//! Memory   O(length · d_inner) to train, a few rows' chunks and states besides; no recurrent form, both ends are needed
//! Matches  goombalab/hydra at 55bef74, unfused path: outputs and gradients (`fixtures/goldens/hydra__*`)
//! Departs  padding: the reference drops padded tokens and puts zeros back, so the convolution sees the neighbouring
//!          sequence's edge as its own; here padded positions enter the convolution as zeros and take steps `dt = 0`, so a
//!          padded row gives exactly what the same row gives alone. `C` is taken one step off (t-1, t+1) and `dt_bias`,
//!          `A` serve both directions, as in the code and unlike the paper's figure.
//!
//! The paper's other ways to read both directions (its table of bidirectional variants: Add, Mult, Concat, and Add with the
//! shift or the diagonal alone) are settings. Their reference code is not published; the wiring is ours:
//!
//! ```text
//! add        scan(x) + flip(scan(flip x)) + diagonal · x         both scans read position t itself unless `shift`
//! multiply   (scan(x) + diagonal · x) · (flip(scan(flip x)) + diagonal · x)
//! concat     the two factors of `multiply` side by side; norm and gate over both, each half gated by the same z;
//!            out_proj from 2 d_inner
//! ```
//! All share `in_proj`, the convolution, `dt_bias` and `A` as Hydra does, with B, C and dt of their own for each direction.

use crate::core::family::{BenchTarget, Released, ReplayFn, Surroundings};
use crate::laws::goldens::{Golden, GoldenError, Replay};
use crate::math::ssd::{self, Reads, Stream};
use crate::math::ssd_block::{
    Combine, Order, ScanInputs, Scanned, Sizes, SsdBlock, cut_filters, fan_in, norm_gate_project, param_rules, project,
    step_bias, valid,
};
use crate::{
    ConfigError, Context, Cost, Dims, Family, Linear, Mixer, NotLinear, ParamRule, Structure, at_least, dense_map,
    linear_flops,
};
use serde_json::{Value, json};
use tch::Tensor;
use tch::nn;

/// How the two directions become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Bidirectional {
    /// Hydra: one quasiseparable matrix, the sum of two shifted scans and a diagonal.
    Quasiseparable,
    /// The sum of two scans. Differs from `quasiseparable` in the defaults of `shift` and `diagonal` only.
    Add,
    /// The product of two scans, entry by entry.
    Multiply,
    /// Two scans side by side, projected together.
    Concat,
}

/// The diagonal of M.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Diagonal {
    /// `fc_D x_t + D`: depends on the data.
    Full,
    /// `D`: one number a head.
    D,
    /// Nothing besides what the scans have there.
    None,
}

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
    /// Width of the depthwise convolution, odd; 0 leaves the convolution out and keeps its SiLU. Reference: 7.
    pub d_conv: i64,
    /// Positions in a chunk of the scan. Changes speed and memory, not the result. Reference: 256, for a GPU.
    pub chunk_size: i64,
    /// Bias of `in_proj` and `out_proj`.
    pub bias: bool,
    /// Bias of the convolution. Reference: true.
    pub conv_bias: bool,
    /// Smallest step drawn at initialisation.
    pub dt_min: f64,
    /// Largest step drawn at initialisation.
    pub dt_max: f64,
    /// Steps are clamped to this range after the softplus.
    pub dt_limit: Option<[f64; 2]>,
    /// Learn the state that both directions start from.
    pub learnable_init_states: bool,
    /// How the two directions become one: `quasiseparable` is Hydra, `add`, `multiply` and `concat` are what the paper
    /// compares it with.
    pub bidirectional: Bidirectional,
    /// Shift each scan one step, so that it reads strictly other positions. Unset: on for `quasiseparable`, off otherwise.
    pub shift: Option<bool>,
    /// The diagonal of M: `full` (depends on the data), `d` (one number a head) or `none`. Unset: `full` for
    /// `quasiseparable`, `d` otherwise. Of `multiply` and `concat` each scan has it.
    pub diagonal: Option<Diagonal>,
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
            conv_bias: true,
            dt_min: 1e-3,
            dt_max: 0.1,
            dt_limit: None,
            learnable_init_states: false,
            bidirectional: Bidirectional::Quasiseparable,
            shift: None,
            diagonal: None,
        }
    }
}

impl Config {
    fn shift(&self) -> bool {
        self.shift.unwrap_or(self.bidirectional == Bidirectional::Quasiseparable)
    }

    fn diagonal(&self) -> Diagonal {
        let preset = if self.bidirectional == Bidirectional::Quasiseparable { Diagonal::Full } else { Diagonal::D };
        self.diagonal.unwrap_or(preset)
    }

    /// Width of y over `d_inner`.
    fn copies(&self) -> i64 {
        if self.bidirectional == Bidirectional::Concat { 2 } else { 1 }
    }

    fn sizes(&self, d_model: i64) -> Sizes {
        Sizes {
            d_model,
            d_state: self.d_state,
            expand: self.expand,
            headdim: self.headdim,
            ngroups: self.ngroups,
            d_conv: self.d_conv,
            chunk_size: self.chunk_size,
            scans: 2,
            copies: self.copies(),
            bias: self.bias,
            conv_bias: self.conv_bias,
            learnable_init_states: self.learnable_init_states,
            dt: [self.dt_min, self.dt_max],
            dt_limit: self.dt_limit,
        }
    }
}

impl Family for Config {
    const NAME: &'static str = "hydra";
    const ABOUT: &'static str = "bidirectional state-space mixer, quasiseparable matrix (Hwang et al. 2024)";
    const PAPER: &'static str = "Hwang et al. 2024, arXiv:2407.09941, §3";
    const COMPLEXITY: &'static str =
        "time O(length · d_model · (d_model + d_state + chunk_size)), memory O(length · d_model)";
    const VERSION: u32 = 2;
    /// The BERT of §4.2, 23 layers.
    const WIDTH: i64 = 768;
    const BLOCK: Surroundings = Surroundings::Hydra;
    const RELEASED: Released = Released::Hydra;
    const TRAINING_ONLY: &'static [&'static str] = &["chunk_size", "dt_min", "dt_max"];

    fn small() -> Value {
        json!({ "d_state": 4, "headdim": 4, "chunk_size": 4 })
    }

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[("hydra", replay), ("quasiseparable_matrix", replay_quasiseparable)]
    }

    fn variants() -> Vec<Value> {
        vec![
            json!({ "ngroups": 2, "bias": true, "d_conv": 3, "chunk_size": 5 }),
            json!({ "learnable_init_states": true, "chunk_size": 64, "dt_limit": [0.001, 0.05] }),
            json!({ "d_conv": 0, "diagonal": "d" }),
            json!({ "conv_bias": false, "d_conv": 5 }),
            json!({ "diagonal": "none" }),
            json!({ "shift": false }),
            json!({ "bidirectional": "add" }),
            json!({ "bidirectional": "add", "shift": true, "learnable_init_states": true }),
            json!({ "bidirectional": "multiply", "ngroups": 2 }),
            json!({ "bidirectional": "multiply", "shift": true, "diagonal": "full" }),
            json!({ "bidirectional": "concat" }),
            json!({ "bidirectional": "concat", "diagonal": "full", "learnable_init_states": true }),
        ]
    }

    /// Decay of some 160 a step.
    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("A_log", 4.0), ("dt_bias", 3.0)]
    }

    fn targets() -> Vec<BenchTarget> {
        vec![BenchTarget {
            label: "hydra",
            settings: json!({ "d_state": 64, "headdim": 64 }),
            size: [256, 4],
            time: Some(3.0),
            reference: Some(35.0),
        }]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let d_inner = self.expand as f64 * dims.d_model as f64;
        let heads = d_inner / self.headdim as f64;
        let diagonal = if self.diagonal() == Diagonal::Full { d_inner * heads } else { 0.0 };
        self.sizes(dims.d_model).scalars(diagonal + heads)
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        let mut wrong = Vec::new();
        if dims.causal {
            let problem = "`hydra` reads both directions and cannot be causal".into();
            let help = "set `causal: false` on the task or leave this mixer out".into();
            wrong.push(ConfigError { key: "hydra", problem, help });
        }
        if self.d_conv > 0 && self.d_conv % 2 == 0 {
            let problem = format!("`d_conv` is {}, but a centred convolution has an odd width", self.d_conv);
            wrong.push(ConfigError { key: "d_conv", problem, help: format!("use {}", self.d_conv + 1) });
        }
        wrong.extend(self.sizes(dims.d_model).check(0));
        wrong
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(Hydra::new(vs, dims, self))
    }
}

/// The layer; see the head of this file.
#[derive(Debug)]
pub struct Hydra {
    in_proj: Linear,
    /// Weight, and the bias where there is one.
    conv: Option<(Tensor, Option<Tensor>)>,
    dt_bias: Tensor,
    a_log: Tensor,
    d: Option<Tensor>,
    fc_d: Option<Tensor>,
    norm: Tensor,
    out_proj: Linear,
    init_states: Option<Tensor>,
    inside: SsdBlock,
    cfg: Config,
    sizes: Sizes,
}

impl Hydra {
    fn new(vs: &nn::Path, dims: &Dims, cfg: &Config) -> Self {
        let sizes = cfg.sizes(dims.d_model);
        let (d_model, d_inner, heads, convolved) = (dims.d_model, sizes.d_inner(), sizes.heads(), sizes.convolved());
        let conv = vs / "conv1d";
        let filters = || {
            let weight = conv.var("weight", &[convolved, 1, cfg.d_conv], fan_in(cfg.d_conv));
            (weight, cfg.conv_bias.then(|| conv.var("bias", &[convolved], fan_in(cfg.d_conv))))
        };
        let inside = SsdBlock {
            reads: vec![Reads::new(false, cfg.shift()), Reads::new(true, cfg.shift())],
            combine: match cfg.bidirectional {
                Bidirectional::Quasiseparable | Bidirectional::Add => Combine::Add,
                Bidirectional::Multiply => Combine::Multiply,
                Bidirectional::Concat => Combine::Concat,
            },
            chunk: cfg.chunk_size,
            heads,
            groups: cfg.ngroups,
            causal: false,
        };
        let (width, diagonal) = (sizes.width(), cfg.diagonal());
        Self {
            dt_bias: step_bias(vs, "dt_bias", heads, cfg.dt_min, cfg.dt_max),
            in_proj: sizes.dense(vs / "in_proj", d_model, sizes.projected()),
            conv: (cfg.d_conv > 0).then(filters),
            a_log: vs.zeros("A_log", &[heads]),
            d: (diagonal != Diagonal::None).then(|| vs.ones("D", &[heads])),
            fc_d: (diagonal == Diagonal::Full).then(|| {
                let weight = (vs / "fc_D").var("weight", &[heads, d_inner], fan_in(d_inner));
                dense_map(&weight, None, [d_inner, heads]);
                weight
            }),
            norm: (vs / "norm").ones("weight", &[width]),
            out_proj: sizes.dense(vs / "out_proj", width, d_model),
            init_states: sizes.init_states(vs),
            inside,
            cfg: cfg.clone(),
            sizes,
        }
    }

    fn d_inner(&self) -> i64 {
        self.sizes.d_inner()
    }

    fn heads(&self) -> i64 {
        self.sizes.heads()
    }

    /// A, `[heads]`.
    fn a(&self) -> Tensor {
        -self.a_log.exp()
    }

    /// The gate z, `[batch, length, d_inner]`, and everything M is made of.
    fn parts(&self, u: &Tensor, ctx: &Context) -> (Tensor, ScanInputs<Tensor>) {
        let (d_inner, heads) = (self.d_inner(), self.heads());
        let bc_width = self.sizes.bc_width();
        let [z, x, bc, dt] = project(u, &self.in_proj, [d_inner, d_inner, bc_width, 2 * heads]);
        let mut dt = (dt.unflatten(-1, [2, heads]) + &self.dt_bias).softplus();
        if let Some([low, high]) = self.cfg.dt_limit {
            dt = dt.clamp(low, high);
        }
        let parts = ScanInputs {
            x: ctx.zero_padding(&x),
            bc: ctx.zero_padding(&bc),
            dt: ctx.zero_padding(&dt).unbind(2),
            a: self.a(),
            conv: self.conv.as_ref().map(|(weight, bias)| {
                let bias = bias
                    .as_ref()
                    .map_or_else(|| weight.detach().select(2, 0).select(1, 0).zeros_like(), Tensor::shallow_clone);
                cut_filters(weight, &bias, [d_inner, bc_width])
            }),
            fc_d: self.fc_d.as_ref().map(Tensor::shallow_clone),
            d: self.d.as_ref().map(Tensor::shallow_clone),
            initial: self.init_states.as_ref().map(Tensor::shallow_clone),
            valid: valid(u, ctx),
        };
        (z, parts)
    }

    fn linear(&self) -> Result<(), NotLinear> {
        match (self.inside.combine, &self.init_states) {
            (Combine::Multiply, _) => Err(NotLinear("the two directions are multiplied with each other")),
            (_, None) => Ok(()),
            // Y = M V + offset
            (_, Some(_)) => Err(NotLinear("learned initial states add an offset that no matrix applied to V gives")),
        }
    }
}

impl Mixer for Hydra {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        let (z, parts) = self.parts(x, ctx);
        let z = if self.cfg.copies() == 2 { Tensor::cat(&[&z, &z], -1) } else { z };
        let y = self.inside.apply(&parts);
        norm_gate_project(&y, &z, &self.norm, &ctx.join_heads(&self.out_proj, Mixer::heads(self)), Order::NormThenGate)
    }

    /// As in [`Mixer::materialize`]. A silenced head still counts in the norm that all heads share.
    fn heads(&self) -> i64 {
        self.cfg.copies() * self.inside.heads
    }

    /// Of `concat`, the matrices of the forward heads, then those of the backward ones.
    fn materialize(&self, x: &Tensor, ctx: &Context) -> Result<Tensor, NotLinear> {
        self.linear()?;
        let (_, parts) = self.parts(x, ctx);
        let Scanned { streams, diagonal, .. } = self.inside.open(&parts);
        let a = parts.a.detach();
        let sides: Vec<Tensor> =
            streams.iter().zip(&self.inside.reads).map(|(s, reads)| ssd::matrix(&a, s, *reads)).collect();
        let with_diagonal = |m: Tensor| match &diagonal {
            Some(diagonal) => m + diagonal.transpose(1, 2).diag_embed(0, -2, -1),
            None => m,
        };
        Ok(match self.inside.combine {
            Combine::Concat => Tensor::cat(&sides.into_iter().map(with_diagonal).collect::<Vec<_>>(), 1),
            Combine::Add | Combine::Multiply => with_diagonal(sides.iter().sum()),
        })
    }

    fn values(&self, x: &Tensor, ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        self.linear()?;
        let (_, parts) = self.parts(x, ctx);
        let v = self.inside.open(&parts).x.transpose(1, 2);
        let v = if self.cfg.copies() == 2 { Tensor::cat(&[&v, &v], 1) } else { v };
        Ok((v, self.inside.apply(&parts).unflatten(-1, [-1, self.cfg.headdim]).transpose(1, 2)))
    }

    fn path(&self) -> &'static str {
        "native scan"
    }

    fn structure(&self) -> Structure {
        match self.inside.combine {
            _ if self.linear().is_err() => Structure::Dense,
            Combine::Multiply => Structure::Dense,
            Combine::Add | Combine::Concat => Structure::Quasiseparable(self.cfg.d_state),
        }
    }

    fn cost(&self, length: i64) -> Cost {
        let diagonal = [&self.d, &self.fc_d].into_iter().flatten().map(|t| t.numel() as i64).sum::<i64>();
        let products = if self.inside.combine == Combine::Add { 1 } else { 2 };
        let data_dependent =
            if self.fc_d.is_some() { linear_flops(length, self.d_inner(), self.inside.heads) } else { 0 };
        let flops = self.sizes.flops(length, products) + data_dependent;
        Cost { params: self.sizes.params(diagonal), state_bytes: 0, flops }
    }

    fn param_rules(&self) -> Vec<ParamRule> {
        param_rules(self.d.is_some(), self.init_states.is_some())
    }

    fn output_map(&self) -> Option<&'static str> {
        Some("out_proj.weight")
    }
}

/// A whole module: `hydra__*`. Absent keys are the reference's defaults.
pub fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    let cfg = Config {
        d_state: golden.int_or("d_state", 64)?,
        expand: golden.int_or("expand", 2)?,
        headdim: golden.int_or("headdim", 64)?,
        ngroups: golden.int_or("ngroups", 1)?,
        d_conv: golden.int_or("d_conv", 7)?,
        chunk_size: golden.int_or("chunk_size", 256)?,
        bias: golden.flag_or("bias", false)?,
        conv_bias: golden.flag_or("conv_bias", true)?,
        dt_limit: golden.step_range("dt_limit")?,
        learnable_init_states: golden.flag_or("learnable_init_states", false)?,
        ..Config::default()
    };
    golden.only("activation", &["swish", "silu"])?;
    golden.without_effect(&["conv_init", "dt_min", "dt_max", "dt_init_floor", "A_init_range"]);
    golden.without_effect(&["use_mem_eff_path", "layer_idx", "device", "dtype"]);
    let d_model = golden.int("d_model")?;
    let seq_len = golden.axes("input.u", &["batch", "L", "d_model"])?[1];
    let dims = Dims { d_model, seq_len, causal: false };
    golden.settings(&cfg, &dims)?;
    golden.checked(&at_least("d_conv", cfg.d_conv, 1).err().into_iter().collect::<Vec<_>>())?;
    golden.agrees("nheads", cfg.expand * d_model / cfg.headdim, "`expand`, `d_model` and `headdim` say")?;
    golden.replay_layer("u", |vs| Hydra::new(vs, &dims, &cfg))
}

/// The core alone, everything it reads given: `quasiseparable_matrix__*`.
pub fn replay_quasiseparable(golden: &Golden) -> Result<Replay, GoldenError> {
    const NAMES: [&str; 9] = ["x", "A", "dt_fwd", "B_fwd", "C_fwd", "dt_bwd", "B_bwd", "C_bwd", "diag"];
    let chunk = golden.size("chunk_size", "chunk_size")?;
    golden.axes("input.x", &["batch", "L", "nheads", "headdim"])?;
    golden.axes("input.A", &["nheads"])?;
    for name in ["dt_fwd", "dt_bwd", "diag"] {
        golden.axes(&format!("input.{name}"), &["batch", "L", "nheads"])?;
    }
    for name in ["B_fwd", "C_fwd", "B_bwd", "C_bwd"] {
        golden.axes(&format!("input.{name}"), &["batch", "L", "ngroups", "d_state"])?;
    }
    let leaves = NAMES.iter().map(|name| golden.input(name)).collect::<Result<Vec<_>, _>>()?;
    let stream = |i: usize| {
        let [dt, b, c] = [0, 1, 2].map(|k| leaves[i + k].shallow_clone());
        Stream { dt, b, c }
    };
    let (x, a) = (&leaves[0], &leaves[1]);
    let y = ssd::quasiseparable(x, a, [&stream(2), &stream(5)], chunk, None);
    let y = y + x * leaves[8].unsqueeze(-1);
    let inputs: Vec<(&str, &Tensor)> = NAMES.into_iter().zip(&leaves).collect();
    golden.replay(&[("y", &y)], &inputs, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::{assert_twins, noise};
    use tch::Device;
    use tch::nn::VarStore;

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

    /// The layer written with two whole scans on plain tensors.
    fn plain(layer: &Hydra, u: &Tensor) -> Tensor {
        let (z, p) = layer.parts(u, &Context::eval());
        let (d_inner, n, groups) = (layer.d_inner(), layer.cfg.d_state, layer.cfg.ngroups);
        let xbc = Tensor::cat(&[&p.x, &p.bc], -1);
        let xbc = match &layer.conv {
            Some((weight, bias)) => {
                let image = xbc.transpose(1, 2);
                image.conv1d(weight, bias.as_ref(), 1, weight.size()[2] / 2, 1, weight.size()[0]).transpose(1, 2)
            }
            None => xbc,
        }
        .silu();
        let x = xbc.narrow(-1, 0, d_inner);
        let map = |i: i64| xbc.narrow(-1, d_inner + i * groups * n, groups * n).unflatten(-1, [groups, n]);
        let diagonal = match (&layer.fc_d, &layer.d) {
            (Some(fc_d), Some(d)) => x.linear(fc_d, Some(d)),
            (None, Some(d)) => d + p.dt[0].zeros_like(),
            _ => p.dt[0].zeros_like(),
        };
        let x = x.unflatten(-1, [layer.heads(), layer.cfg.headdim]);
        let skip = &x * diagonal.unsqueeze(-1);
        let one_way = |x: &Tensor, stream: &Stream| {
            let y = ssd::scan(x, &p.a, stream, 3, p.initial.as_ref());
            let n = y.size()[1];
            if layer.cfg.shift() { y.narrow(1, 0, n - 1).constant_pad_nd([0, 0, 0, 0, 1, 0]) } else { y }
        };
        let [dtf, dtb] = [0, 1].map(|i: usize| p.dt[i].shallow_clone());
        let forward = one_way(&x, &Stream { dt: dtf, b: map(0), c: map(1) });
        let backward = one_way(&x.flip([1]), &Stream { dt: dtb, b: map(2), c: map(3) }.flip()).flip([1]);
        let (y, z) = match layer.cfg.bidirectional {
            Bidirectional::Quasiseparable | Bidirectional::Add => (forward + backward + skip, z),
            Bidirectional::Multiply => ((forward + &skip) * (backward + &skip), z),
            Bidirectional::Concat => (Tensor::cat(&[forward + &skip, backward + &skip], 2), Tensor::cat(&[&z, &z], -1)),
        };
        let y = y.flatten(2, 3);
        (y.rms_norm([y.size()[2]], Some(&layer.norm), 1e-5) * z.silu()).apply(&layer.out_proj)
    }

    #[test]
    fn every_way_to_join_the_directions_is_its_plain_twin_in_values_and_gradients() {
        use Bidirectional::{Add, Concat, Multiply, Quasiseparable};
        for bidirectional in [Quasiseparable, Add, Multiply, Concat] {
            for (shift, diagonal, d_conv) in [
                (None, None, 3),
                (Some(true), Some(Diagonal::D), 3),
                (Some(false), Some(Diagonal::Full), 0),
                (None, Some(Diagonal::None), 5),
            ] {
                let sizes = Config { d_state: 3, headdim: 4, ngroups: 2, chunk_size: 5, ..Config::default() };
                let cfg = Config { bidirectional, shift, diagonal, d_conv, learnable_init_states: true, ..sizes };
                let mut vs = VarStore::new(Device::Cpu);
                let layer = Hydra::new(&vs.root(), &Dims { d_model: 8, seq_len: 13, causal: false }, &cfg);
                vs.double();
                tch::no_grad(|| {
                    for (salt, mut p) in (0..).zip(vs.trainable_variables()) {
                        let _ = p.g_add_(&(noise(&p.size(), salt) * 0.2));
                    }
                });
                let u = noise(&[2, 13, 8], 50).set_requires_grad(true);
                let mut leaves = vs.trainable_variables();
                leaves.push(u.shallow_clone());
                let leaves: Vec<&Tensor> = leaves.iter().collect();
                let (fast, slow) = (layer.forward(&u, &Context::eval()), plain(&layer, &u));
                assert_twins(&fast, &slow, &leaves, 1e-9, &format!("{cfg:?}"));
            }
        }
    }

    /// Singular values of a block past the first `d_state` vanish.
    #[test]
    fn off_diagonal_blocks_have_rank_d_state() {
        for bidirectional in [Bidirectional::Quasiseparable, Bidirectional::Add, Bidirectional::Concat] {
            let cfg = Config { d_state: 2, headdim: 4, chunk_size: 5, bidirectional, ..Config::default() };
            let mut vs = VarStore::new(Device::Cpu);
            let layer = Hydra::new(&vs.root(), &Dims { d_model: 8, seq_len: 12, causal: false }, &cfg);
            vs.double();
            assert_eq!(layer.structure(), Structure::Quasiseparable(2));
            let u = noise(&[1, 12, 8], 3) * 3.0;
            let m = layer.materialize(&u, &Context::eval()).expect("linear");
            for cut in 1..12 {
                let below = m.narrow(2, cut, 12 - cut).narrow(3, 0, cut);
                let above = m.narrow(2, 0, cut).narrow(3, cut, 12 - cut);
                for block in [below, above] {
                    let (_, values, _) = block.svd(true, true);
                    let past = (values.size()[2] - 2).max(0);
                    let left = values.narrow(2, values.size()[2] - past, past).abs().sum(tch::Kind::Double);
                    assert!(left.double_value(&[]) < 1e-12, "{bidirectional:?}, cut at {cut}: {left}");
                }
            }
        }
    }

    #[test]
    fn quasiseparable_is_add_with_the_shift_and_the_full_diagonal() {
        let cfg = |bidirectional| Config {
            headdim: 8,
            d_state: 4,
            bidirectional,
            shift: Some(true),
            diagonal: Some(Diagonal::Full),
            ..Config::default()
        };
        let run = |cfg: &Config| {
            let mut vs = VarStore::new(Device::Cpu);
            let layer = Hydra::new(&vs.root(), &Dims { d_model: 8, seq_len: 9, causal: false }, cfg);
            vs.double();
            tch::no_grad(|| {
                for (salt, mut p) in (0..).zip(vs.trainable_variables()) {
                    p.copy_(&noise(&p.size(), salt));
                }
            });
            layer.forward(&noise(&[1, 9, 8], 70), &Context::eval())
        };
        let default = Config { headdim: 8, d_state: 4, ..Config::default() };
        assert!(run(&cfg(Bidirectional::Add)).equal(&run(&default)));
        assert!(run(&cfg(Bidirectional::Quasiseparable)).equal(&run(&default)));
    }
}
