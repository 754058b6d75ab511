//! Mamba-2: a causal state-space mixer with one scalar decay a head and step.
//!
//! ```text
//! z | xBC | dt = in_proj u,   xBC = SiLU(causal conv1d(xBC)),   dt = softplus(dt + dt_bias),   A = -exp(A_log)
//! S_t = exp(dt_t A) S_{t-1} + dt_t x_t B_tᵀ                 one state [headdim, d_state] per head
//! y_t = S_t C_t + D x_t,   that is  M[t,s] = C_t·B_s exp(A Σ_{s<r≤t} dt_r) dt_s + D [s = t]   for s ≤ t
//! out_proj( RMSNorm(y · SiLU(z)) · weight )                          gate before norm
//! ```
//! Paper    Dao & Gu 2024, arXiv:2405.21060
//! Time     O(length · d_model² + length · (chunk + d_state) · d_inner)
//! Memory   O(length · d_inner) to train, a few rows' chunks and states besides; state O(d_inner · d_state) to decode
//! Matches  state-spaces/mamba at e9594ce, `Mamba2Simple`, unfused path: outputs and gradients
//!          (`fixtures/goldens/mamba2__*`, the scan alone in `ssd__*`)
//! Departs  any length and any decay: the reference wants a multiple of the chunk, and its float32 gradients are NaN once
//!          the decay in a chunk passes e⁸⁸
//!
//! Causal by construction. In a bidirectional task it is what it is anywhere: a mixer that reads one direction, as the
//! unidirectional baseline of Hydra's paper; for both directions there is `hydra`. Padding to the right lies in the future
//! of every valid position, so lengths change nothing.

use crate::core::family::{BenchTarget, ReplayFn, Surroundings};
use crate::laws::goldens::{Golden, GoldenError, Replay};
use crate::math::ssd::{self, Reads, Stream};
use crate::math::ssd_block::{
    Combine, Order, ScanInputs, Scanned, Sizes, SsdBlock, cut_filters, fan_in, norm_gate_project, param_rules, project,
    step_bias,
};
use crate::{
    ConfigError, Context, Cost, Dims, Family, Linear, Mixer, NotLinear, ParamRule, Recurrent, Structure, tensor_bytes,
};
use serde_json::{Value, json};
use tch::Tensor;
use tch::nn::{self, Init, VarStore};

/// `mixer: { mamba2: { d_state: 64 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// State size N of each head. Reference: 64 in the simple module, 128 in the main one.
    pub d_state: i64,
    /// `d_inner / d_model`. Reference: 2.
    pub expand: i64,
    /// Channels of a head; must divide `d_inner`. Reference: 128 in the simple module, 64 in the main one.
    pub headdim: i64,
    /// Groups of heads that share B and C; must divide the number of heads. Reference: 1.
    pub ngroups: i64,
    /// Width of the causal depthwise convolution. Reference: 4.
    pub d_conv: i64,
    /// Positions in a chunk of the scan. Changes speed and memory, not the result. Reference: 256, for a GPU.
    pub chunk_size: i64,
    /// -A at initialisation is drawn uniformly from this range. Reference: [1, 16].
    pub a_init_range: [f64; 2],
    /// Smallest step drawn at initialisation. Reference: 0.001.
    pub dt_min: f64,
    /// Largest step drawn at initialisation. Reference: 0.1.
    pub dt_max: f64,
    /// Steps are clamped to this range after the softplus.
    pub dt_limit: Option<[f64; 2]>,
    /// Bias of `in_proj` and `out_proj`. Reference: false.
    pub bias: bool,
    /// Bias of the convolution. Reference: true.
    pub conv_bias: bool,
    /// The skip `D x`, one number a head. Reference: true.
    pub d_skip: bool,
    /// Norm before the gate, as in Hydra. Reference: false.
    pub norm_before_gate: bool,
    /// Learn the state that every sequence starts from.
    pub learnable_init_states: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            d_state: 64,
            expand: 2,
            headdim: 64,
            ngroups: 1,
            d_conv: 4,
            chunk_size: 64,
            a_init_range: [1.0, 16.0],
            dt_min: 1e-3,
            dt_max: 0.1,
            dt_limit: None,
            bias: false,
            conv_bias: true,
            d_skip: true,
            norm_before_gate: false,
            learnable_init_states: false,
        }
    }
}

impl Family for Config {
    const NAME: &'static str = "mamba2";
    const ABOUT: &'static str = "causal state-space mixer with scalar decay, SSD (Dao & Gu 2024)";
    const PAPER: &'static str = "Dao & Gu 2024, arXiv:2405.21060, §7";
    const COMPLEXITY: &'static str =
        "time O(length · d_model · (d_model + d_state + chunk_size)), memory O(length · d_model)";
    // 2: rounding moved when scan and convolution became native kernels.
    const VERSION: u32 = 2;
    /// The smallest released model, 130M.
    const WIDTH: i64 = 768;
    const BLOCK: Surroundings = Surroundings::NoFfn;
    const TRAINING_ONLY: &'static [&'static str] = &["chunk_size", "dt_min", "dt_max", "a_init_range"];

    fn small() -> Value {
        json!({ "d_state": 4, "headdim": 4, "chunk_size": 4 })
    }

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[("mamba2", replay), ("ssd", replay_ssd)]
    }

    fn variants() -> Vec<Value> {
        vec![
            json!({ "ngroups": 2, "bias": true, "d_conv": 2, "chunk_size": 5, "conv_bias": false }),
            json!({ "learnable_init_states": true, "chunk_size": 64, "dt_limit": [0.001, 0.05], "d_conv": 1 }),
            json!({ "d_skip": false, "norm_before_gate": true }),
        ]
    }

    /// Decay of some 160 a step.
    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("A_log", 4.0), ("dt_bias", 3.0)]
    }

    fn targets() -> Vec<BenchTarget> {
        vec![BenchTarget {
            label: "mamba2",
            settings: json!({ "d_state": 64, "headdim": 64 }),
            size: [256, 4],
            time: Some(1.5),
            reference: Some(11.0),
        }]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        self.sizes(dims.d_model).scalars(0.0)
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        let mut wrong = self.sizes(dims.d_model).check(1);
        let [low, high] = self.a_init_range;
        if !(0.0 < low && low <= high && high.is_finite()) {
            let problem = format!("`a_init_range` is [{low}, {high}], which is no range of positive decays");
            let help = "use [low, high] with 0 < low <= high, such as [1, 16]".into();
            wrong.push(ConfigError { key: "a_init_range", problem, help });
        }
        wrong
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(Mamba2::new(vs, dims, self))
    }
}

impl Config {
    fn sizes(&self, d_model: i64) -> Sizes {
        Sizes {
            d_model,
            d_state: self.d_state,
            expand: self.expand,
            headdim: self.headdim,
            ngroups: self.ngroups,
            d_conv: self.d_conv,
            chunk_size: self.chunk_size,
            scans: 1,
            copies: 1,
            bias: self.bias,
            conv_bias: self.conv_bias,
            learnable_init_states: self.learnable_init_states,
            dt: [self.dt_min, self.dt_max],
            dt_limit: self.dt_limit,
        }
    }
}

/// The layer; see the head of this file.
#[derive(Debug)]
pub struct Mamba2 {
    in_proj: Linear,
    conv_weight: Tensor,
    conv_bias: Option<Tensor>,
    dt_bias: Tensor,
    a_log: Tensor,
    d: Option<Tensor>,
    norm: Tensor,
    out_proj: Linear,
    init_states: Option<Tensor>,
    inside: SsdBlock,
    cfg: Config,
    sizes: Sizes,
}

impl Mamba2 {
    fn new(vs: &nn::Path, dims: &Dims, cfg: &Config) -> Self {
        let sizes = cfg.sizes(dims.d_model);
        let (d_model, d_inner, heads, convolved) = (dims.d_model, sizes.d_inner(), sizes.heads(), sizes.convolved());
        let conv = vs / "conv1d";
        let [low, up] = cfg.a_init_range;
        let mut a_log = vs.var("A_log", &[heads], Init::Uniform { lo: low, up });
        tch::no_grad(|| a_log.copy_(&a_log.log()));
        let inside = SsdBlock {
            reads: vec![Reads::PastAndSelf],
            combine: Combine::Add,
            chunk: cfg.chunk_size,
            heads,
            groups: cfg.ngroups,
            causal: true,
        };
        Self {
            in_proj: sizes.dense(vs / "in_proj", d_model, sizes.projected()),
            conv_weight: conv.var("weight", &[convolved, 1, cfg.d_conv], fan_in(cfg.d_conv)),
            conv_bias: cfg.conv_bias.then(|| conv.var("bias", &[convolved], fan_in(cfg.d_conv))),
            dt_bias: step_bias(vs, "dt_bias", heads, cfg.dt_min, cfg.dt_max),
            a_log,
            d: cfg.d_skip.then(|| vs.ones("D", &[heads])),
            norm: (vs / "norm").ones("weight", &[d_inner]),
            out_proj: sizes.dense(vs / "out_proj", d_inner, d_model),
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

    /// Width of B and C together.
    fn bc_width(&self) -> i64 {
        self.sizes.bc_width()
    }

    fn order(&self) -> Order {
        if self.cfg.norm_before_gate { Order::NormThenGate } else { Order::GateThenNorm }
    }

    /// z, x, B and C, dt, each `[…, its width]`; the steps are ready for use.
    fn project(&self, u: &Tensor) -> [Tensor; 4] {
        let d_inner = self.d_inner();
        let [z, x, bc, dt] = project(u, &self.in_proj, [d_inner, d_inner, self.bc_width(), self.heads()]);
        let dt = (dt + &self.dt_bias).softplus();
        match self.cfg.dt_limit {
            Some([low, high]) => [z, x, bc, dt.clamp(low, high)],
            None => [z, x, bc, dt],
        }
    }

    fn filter_bias(&self) -> Tensor {
        match &self.conv_bias {
            Some(bias) => bias.shallow_clone(),
            None => Tensor::zeros([self.d_inner() + self.bc_width()], (self.a_log.kind(), self.a_log.device())),
        }
    }

    /// The gate z, `[batch, length, d_inner]`, and everything M is made of.
    fn parts(&self, u: &Tensor) -> (Tensor, ScanInputs<Tensor>) {
        let [z, x, bc, dt] = self.project(u);
        let parts = ScanInputs {
            x,
            bc,
            dt: vec![dt],
            a: -self.a_log.exp(),
            conv: Some(cut_filters(&self.conv_weight, &self.filter_bias(), [self.d_inner(), self.bc_width()])),
            fc_d: None,
            d: self.d.as_ref().map(Tensor::shallow_clone),
            initial: self.init_states.as_ref().map(Tensor::shallow_clone),
            valid: None,
        };
        (z, parts)
    }

    /// With an initial state `Y = M V + offset`.
    fn linear(&self) -> Result<(), NotLinear> {
        match self.init_states {
            None => Ok(()),
            Some(_) => Err(NotLinear("learned initial states add an offset that no matrix applied to V gives")),
        }
    }
}

impl Mixer for Mamba2 {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        let (z, parts) = self.parts(x);
        norm_gate_project(
            &self.inside.apply(&parts),
            &z,
            &self.norm,
            &ctx.join_heads(&self.out_proj, self.heads()),
            self.order(),
        )
    }

    /// A silenced head still counts in the norm that all heads share.
    fn heads(&self) -> i64 {
        self.inside.heads
    }

    fn materialize(&self, x: &Tensor, _ctx: &Context) -> Result<Tensor, NotLinear> {
        self.linear()?;
        let (_, parts) = self.parts(x);
        let Scanned { streams, diagonal, .. } = self.inside.open(&parts);
        let m = ssd::matrix(&parts.a.detach(), &streams[0], Reads::PastAndSelf);
        Ok(match diagonal {
            Some(diagonal) => m + diagonal.transpose(1, 2).diag_embed(0, -2, -1),
            None => m,
        })
    }

    fn values(&self, x: &Tensor, _ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        self.linear()?;
        let (_, parts) = self.parts(x);
        let v = self.inside.open(&parts).x.transpose(1, 2);
        Ok((v, self.inside.apply(&parts).unflatten(-1, [self.heads(), -1]).transpose(1, 2)))
    }

    fn path(&self) -> &'static str {
        "native scan"
    }

    fn structure(&self) -> Structure {
        match self.init_states {
            None => Structure::Quasiseparable(self.cfg.d_state),
            Some(_) => Structure::Dense,
        }
    }

    fn recurrent(&self) -> Option<Box<dyn Recurrent + '_>> {
        let mut state = State { layer: self, window: Tensor::new(), states: Tensor::new() };
        state.reset(1);
        Some(Box::new(state))
    }

    fn cost(&self, length: i64) -> Cost {
        let skip = if self.cfg.d_skip { self.inside.heads } else { 0 };
        let window = (self.cfg.d_conv - 1) * self.sizes.convolved();
        let state_bytes = 4 * (window + self.d_inner() * self.cfg.d_state);
        Cost { params: self.sizes.params(skip), state_bytes, flops: self.sizes.flops(length, 1) }
    }

    fn param_rules(&self) -> Vec<ParamRule> {
        param_rules(self.d.is_some(), self.init_states.is_some())
    }

    fn output_map(&self) -> Option<&'static str> {
        Some("out_proj.weight")
    }
}

/// The last inputs of the convolution, and S.
struct State<'a> {
    layer: &'a Mamba2,
    /// `[batch, d_conv - 1, channels convolved]`.
    window: Tensor,
    /// `[batch, heads, headdim, d_state]`.
    states: Tensor,
}

impl Recurrent for State<'_> {
    fn reset(&mut self, batch: i64) {
        let (layer, cfg) = (self.layer, &self.layer.cfg);
        let like = (layer.a_log.kind(), layer.a_log.device());
        self.window = Tensor::zeros([batch, cfg.d_conv - 1, layer.d_inner() + layer.bc_width()], like);
        self.states = Tensor::zeros([batch, layer.heads(), cfg.headdim, cfg.d_state], like);
        if let Some(initial) = &layer.init_states {
            self.states = &self.states + initial;
        }
    }

    fn step(&mut self, u: &Tensor) -> Tensor {
        let (layer, cfg) = (self.layer, &self.layer.cfg);
        let heads = layer.heads();
        let [z, x, bc, dt] = layer.project(u);
        let seen = Tensor::cat(&[&self.window, &Tensor::cat(&[x, bc], -1).unsqueeze(1)], 1);
        self.window = seen.narrow(1, 1, cfg.d_conv - 1).contiguous();
        let taps = layer.conv_weight.squeeze_dim(1).transpose(0, 1);
        let xbc = ((seen * taps).sum_dim_intlist([1].as_slice(), false, u.kind()) + layer.filter_bias()).silu();
        let x = xbc.narrow(-1, 0, layer.d_inner()).unflatten(-1, [heads, cfg.headdim]);
        let map = |from: i64| {
            let one = xbc.narrow(-1, from, layer.bc_width() / 2).unflatten(-1, [cfg.ngroups, cfg.d_state]);
            one.repeat_interleave_self_int(heads / cfg.ngroups, 1, None::<i64>) // [batch, heads, d_state]
        };
        let (b, c) = (map(layer.d_inner()), map(layer.d_inner() + layer.bc_width() / 2));
        let decay = (&dt * -layer.a_log.exp()).exp();
        let fed = (&x * dt.unsqueeze(-1)).unsqueeze(-1) * b.unsqueeze(-2);
        self.states = &self.states * decay.unsqueeze(-1).unsqueeze(-1) + fed;
        let mut y = self.states.matmul(&c.unsqueeze(-1)).squeeze_dim(-1); // [batch, heads, headdim]
        if let Some(d) = &layer.d {
            y += x * d.unsqueeze(-1);
        }
        norm_gate_project(&y.flatten(1, 2), &z, &layer.norm, &layer.out_proj, layer.order())
    }

    fn state_bytes(&self) -> i64 {
        tensor_bytes(&self.window) + tensor_bytes(&self.states)
    }

    fn state(&self) -> Vec<Tensor> {
        vec![self.states.shallow_clone(), self.window.shallow_clone()]
    }
}

/// A whole module: `mamba2__*`. Absent keys are the defaults of the reference's simple module.
pub fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    let cfg = Config {
        d_state: golden.int_or("d_state", 64)?,
        expand: golden.int_or("expand", 2)?,
        headdim: golden.int_or("headdim", 128)?,
        ngroups: golden.int_or("ngroups", 1)?,
        d_conv: golden.int_or("d_conv", 4)?,
        chunk_size: golden.int_or("chunk_size", 256)?,
        bias: golden.flag_or("bias", false)?,
        conv_bias: golden.flag_or("conv_bias", true)?,
        dt_limit: golden.step_range("dt_limit")?,
        learnable_init_states: golden.flag_or("learnable_init_states", false)?,
        norm_before_gate: golden.flag_or("norm_before_gate", false)?,
        ..Config::default()
    };
    golden.only("activation", &["swish", "silu"])?;
    golden.only("rmsnorm", &[true])?;
    golden.only("D_has_hdim", &[false])?;
    golden.without_effect(&["conv_init", "A_init_range", "dt_min", "dt_max", "dt_init_floor"]);
    golden.without_effect(&["use_mem_eff_path", "deterministic", "layer_idx", "device", "dtype"]);
    let d_model = golden.int("d_model")?;
    let seq_len = golden.axes("input.u", &["batch", "L", "d_model"])?[1];
    let dims = Dims { d_model, seq_len, causal: true };
    golden.settings(&cfg, &dims)?;
    golden.agrees("d_ssm", cfg.expand * d_model, "`expand` and `d_model` say")?;
    golden.agrees("nheads", cfg.expand * d_model / cfg.headdim, "`expand`, `d_model` and `headdim` say")?;
    let u = golden.input("u")?;
    let mut vs = VarStore::new(golden.device);
    let mamba2 = Mamba2::new(&vs.root(), &dims, &cfg);
    golden.fill(&mut vs)?;
    let y = mamba2.forward(&u, &Context::eval());
    golden.replay(&[("y", &y)], &[("u", &u)], Some(&vs))
}

/// The scan alone, everything it reads given: `ssd__*`. D, z, the bias of dt and the initial states may be absent.
pub fn replay_ssd(golden: &Golden) -> Result<Replay, GoldenError> {
    let chunk = golden.size("chunk_size", "chunk_size")?;
    let softplus = golden.flag_or("dt_softplus", false)?;
    let range = golden.step_range("dt_limit")?;
    golden.without_effect(&["return_final_states"]);
    golden.axes("input.x", &["batch", "L", "nheads", "headdim"])?;
    golden.axes("input.dt", &["batch", "L", "nheads"])?;
    golden.axes("input.A", &["nheads"])?;
    for name in ["B", "C"] {
        golden.axes(&format!("input.{name}"), &["batch", "L", "ngroups", "d_state"])?;
    }
    let required = ["x", "dt", "A", "B", "C"].map(|name| golden.input(name).map(|t| (name, t)));
    let mut inputs = required.into_iter().collect::<Result<Vec<_>, _>>()?;
    let no_gradients = golden.names("grad_input").is_empty();
    for (name, switches, constant) in [
        ("D", &["has_D"][..], no_gradients),
        ("z", &["has_z"][..], no_gradients),
        // The bias of a softplus is read whenever it is there.
        ("dt_bias", &["has_dt_bias", "has_bias", "dt_bias"][..], softplus),
        ("initial_states", &["initial_states", "has_initial_states"][..], no_gradients),
    ] {
        inputs.extend(golden.optional_input(name, switches, constant)?.map(|t| (name, t)));
    }
    let find = |name: &str| inputs.iter().find(|(n, _)| *n == name).map(|(_, t)| t);
    let get = |name: &str| find(name).expect("it is required").shallow_clone();
    let dt = find("dt_bias").map_or_else(|| get("dt"), |bias| get("dt") + bias);
    let dt = if softplus { dt.softplus() } else { dt };
    let dt = range.map_or_else(|| dt.shallow_clone(), |[low, high]| dt.clamp(low, high));
    let (x, a) = (get("x"), get("A"));
    let stream = Stream { dt, b: get("B"), c: get("C") };
    let y = match find("initial_states") {
        Some(initial) if initial.dim() > 3 => by_row(&x, &a, &stream, chunk, initial),
        initial => ssd::scan(&x, &a, &stream, chunk, initial),
    };
    let y = match find("D") {
        Some(d) if d.dim() == 1 => y + &x * d.unsqueeze(-1),
        Some(d) => y + &x * d, // [heads, headdim]
        None => y,
    };
    let y = find("z").map_or_else(|| y.shallow_clone(), |z| &y * z.silu());
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, t)| (*name, t)).collect();
    match ["final_state", "final_states"].into_iter().find(|name| golden.has(&format!("output.{name}"))) {
        None => golden.replay(&[("y", &y)], &inputs, None),
        Some(name) => {
            let last = final_state(&x, &a, &stream, find("initial_states"));
            golden.replay(&[("y", &y), (name, &last)], &inputs, None)
        }
    }
}

/// The scan where every row of the batch has an initial state of its own, `[batch, (1,) heads, headdim, d_state]`.
fn by_row(x: &Tensor, a: &Tensor, stream: &Stream, chunk: i64, initial: &Tensor) -> Tensor {
    let row = |t: &Tensor, i: i64| t.narrow(0, i, 1);
    let one = |i: i64| {
        let stream = Stream { dt: row(&stream.dt, i), b: row(&stream.b, i), c: row(&stream.c, i) };
        let size = initial.size();
        let initial = row(initial, i).view(&size[size.len() - 3..]);
        ssd::scan(&row(x, i), a, &stream, chunk, Some(&initial))
    };
    Tensor::cat(&(0..x.size()[0]).map(one).collect::<Vec<_>>(), 0)
}

/// The state after the last position, `[batch, heads, headdim, d_state]`, by the recurrence as it stands.
fn final_state(x: &Tensor, a: &Tensor, stream: &Stream, initial: Option<&Tensor>) -> Tensor {
    let [batch, length, heads, d_head] = <[i64; 4]>::try_from(x.size()).expect("x has four axes");
    let (groups, d_state) = (stream.b.size()[2], stream.b.size()[3]);
    let b = stream.b.repeat_interleave_self_int(heads / groups, 2, None::<i64>);
    let shape = [batch, heads, d_head, d_state];
    let zeros = Tensor::zeros(shape, (x.kind(), x.device()));
    let mut state = match initial {
        Some(initial) if initial.dim() == 5 => zeros + initial.squeeze_dim(1),
        Some(initial) => zeros + initial,
        None => zeros,
    };
    for t in 0..length {
        let dt = stream.dt.select(1, t);
        let fed = (x.select(1, t) * dt.unsqueeze(-1)).unsqueeze(-1) * b.select(1, t).unsqueeze(-2);
        state = state * (dt * a).exp().unsqueeze(-1).unsqueeze(-1) + fed;
    }
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::noise;
    use crate::math::ssd_block::EPS;
    use tch::{Device, Kind};

    /// The layer from libtorch's operations and the step-by-step recurrence.
    fn plain(layer: &Mamba2, u: &Tensor) -> Tensor {
        let [z, x, bc, dt] = layer.project(u);
        let (weight, length) = (&layer.conv_weight, u.size()[1]);
        let width = weight.size()[2];
        let image = Tensor::cat(&[x, bc], -1).transpose(1, 2).constant_pad_nd([width - 1, 0]);
        let xbc = image.conv1d(weight, layer.conv_bias.as_ref(), 1, 0, 1, weight.size()[0]).transpose(1, 2).silu();
        let (heads, groups, n) = (layer.heads(), layer.cfg.ngroups, layer.cfg.d_state);
        let x = xbc.narrow(-1, 0, layer.d_inner()).unflatten(-1, [heads, -1]);
        let map = |i: i64| {
            let one = xbc.narrow(-1, layer.d_inner() + i * groups * n, groups * n).unflatten(-1, [groups, n]);
            one.repeat_interleave_self_int(heads / groups, 2, None::<i64>)
        };
        let (b, c) = (map(0), map(1));
        let zero = Tensor::zeros([u.size()[0], heads, layer.cfg.headdim, n], (u.kind(), u.device()));
        let mut state = layer.init_states.as_ref().map_or(zero.shallow_clone(), |i| i + &zero);
        let mut y = Vec::new();
        for t in 0..length {
            let [x, b, c, dt] = [&x, &b, &c, &dt].map(|v| v.select(1, t));
            let decay = (&dt * -layer.a_log.exp()).exp().unsqueeze(-1).unsqueeze(-1);
            state = state * decay + (&x * dt.unsqueeze(-1)).unsqueeze(-1) * b.unsqueeze(-2);
            let read = state.matmul(&c.unsqueeze(-1)).squeeze_dim(-1);
            y.push(match &layer.d {
                Some(d) => read + x * d.unsqueeze(-1),
                None => read,
            });
        }
        let y = Tensor::stack(&y, 1).flatten(2, 3);
        let norm = |t: &Tensor| t.rms_norm([layer.d_inner()], Some(&layer.norm), EPS);
        let gated = if layer.cfg.norm_before_gate { norm(&y) * z.silu() } else { norm(&(y * z.silu())) };
        gated.apply(&layer.out_proj)
    }

    #[test]
    fn the_layer_is_its_plain_twin_in_values_and_gradients() {
        let sizes = Config { d_state: 3, headdim: 4, chunk_size: 5, ..Config::default() };
        let other = Config { conv_bias: false, d_skip: false, norm_before_gate: true, ..sizes.clone() };
        for cfg in [
            Config { ngroups: 2, bias: true, ..sizes.clone() },
            Config { learnable_init_states: true, d_conv: 1, ..sizes },
            other,
        ] {
            let mut vs = VarStore::new(Device::Cpu);
            let layer = Mamba2::new(&vs.root(), &Dims { d_model: 8, seq_len: 13, causal: true }, &cfg);
            vs.double();
            tch::no_grad(|| {
                for (salt, mut p) in (0..).zip(vs.trainable_variables()) {
                    let _ = p.g_add_(&(noise(&p.size(), salt) * 0.2));
                }
            });
            let u = noise(&[2, 13, 8], 50).set_requires_grad(true);
            let mut leaves = vs.trainable_variables();
            leaves.push(u.shallow_clone());
            let (fast, slow) = (layer.forward(&u, &Context::eval()), plain(&layer, &u));
            assert!(crate::laws::goldens::relative_error(&fast, &slow) < 1e-10, "values, {cfg:?}");
            let cotangent = noise(&[2, 13, 8], 51);
            let gradients =
                |y: Tensor| Tensor::run_backward(&[(y * &cotangent).sum(Kind::Double)], &leaves, false, false);
            for (i, (fast, slow)) in gradients(fast).iter().zip(gradients(slow)).enumerate() {
                let error = crate::laws::goldens::relative_error(fast, &slow);
                assert!(error < 1e-9, "gradient {i} is {error:.1e} off, {cfg:?}");
            }
        }
    }

    #[test]
    fn what_cannot_be_built_is_named() {
        let check = |cfg: Config| -> Vec<&'static str> {
            let dims = Dims { d_model: 64, seq_len: 64, causal: true };
            cfg.check(&dims).into_iter().map(|e| e.key).collect()
        };
        let default = Config::default;
        assert!(check(default()).is_empty());
        assert_eq!(check(Config { headdim: 48, ..default() }), ["headdim"]);
        assert_eq!(check(Config { ngroups: 3, ..default() }), ["ngroups"]);
        assert_eq!(check(Config { d_conv: 0, ..default() }), ["d_conv"]);
        assert_eq!(check(Config { dt_limit: Some([0.2, 0.1]), ..default() }), ["dt_limit"]);
        assert_eq!(check(Config { a_init_range: [0.0, 1.0], ..default() }), ["a_init_range"]);
        assert_eq!(check(Config { dt_min: 0.2, ..default() }), ["dt_min"]);
    }

    #[test]
    fn decays_and_steps_start_in_their_ranges() {
        let vs = VarStore::new(Device::Cpu);
        let cfg = Config { headdim: 1, dt_min: 0.01, dt_max: 0.2, a_init_range: [2.0, 5.0], ..Config::default() };
        let layer = Mamba2::new(&vs.root(), &Dims { d_model: 64, seq_len: 8, causal: true }, &cfg);
        let within = |t: Tensor, low: f64, high: f64| {
            let (least, most) = (t.min().double_value(&[]), t.max().double_value(&[]));
            assert!(low * 0.999 <= least && least < (low + high) / 2.0, "{least}");
            assert!(most <= high * 1.001 && (low + high) / 2.0 < most, "{most}");
        };
        within(layer.a_log.exp(), 2.0, 5.0);
        within(layer.dt_bias.softplus(), 0.01, 0.2);
    }
}
