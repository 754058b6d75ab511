//! Mamba: a selective state space, S6, with a state of d_state numbers a channel between a gate and a short convolution.
//!
//! ```text
//! x | z = in_proj u,   x = SiLU(causal conv1d(x)),   δ | B | C = x_proj x,   dt = softplus(dt_proj δ),   A = -exp(A_log)
//! h_t[d,n] = exp(dt_t[d] A[d,n]) h_{t-1}[d,n] + dt_t[d] x_t[d] B_t[n]                                   channel by channel
//! y_t[d] = Σ_n C_t[n] h_t[d,n] + D[d] x_t[d],   out_proj( y · SiLU(z) )
//! M_d[t,s] = dt_s[d] Σ_n C_t[n] B_s[n] exp(A[d,n] Σ_{s<r≤t} dt_r[d]) + D[d] [s = t]    for s ≤ t, one M a channel, V = x
//! ```
//! Paper    Gu & Dao 2023, arXiv:2312.00752, §3 (algorithm 2, S6), §3.4 (the block), §3.6 (initial values)
//! Time     O(length · d_model · (d_model + d_state)), the scan one position after another on a CPU ([`crate::math::selective_scan`])
//! Memory   O(length · d_model) to train; state O(d_model · d_state) to decode, whatever the length
//! Matches  state-spaces/mamba at e9594ce, `Mamba`, unfused path: outputs and gradients (`fixtures/goldens/mamba__*`, the scan alone in
//!          `selective_scan__*`)
//! Departs  nothing known
//!
//! Bidirectional: a second layer reads from the end ([`crate::math::directions`]).

use crate::core::family::{BenchTarget, ReplayFn, Surroundings};
use crate::core::limits::width;
use crate::core::precision::{Precision, dense_map};
use crate::laws::goldens::{Golden, GoldenError, Replay};
use crate::math::decay_scan::{self, Read};
use crate::math::directions::{Causal, Directions};
use crate::math::fla::by_head;
use crate::math::selective_scan::{decay_and_feed, scan};
use crate::math::short_conv::ShortConv;
use crate::math::ssd_block::{fan_in, project, step_bias};
use crate::{
    ConfigError, Cost, Dims, Family, Linear, Mixer, NotLinear, ParamRule, Structure, at_least, between, linear,
    linear_flops,
};
use serde_json::{Value, json};
use tch::Tensor;
use tch::nn;

/// `mixer: { mamba: { d_state: 16 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// State size N of each channel. Reference: 16.
    pub d_state: i64,
    /// `d_inner / d_model`. Reference: 2.
    pub expand: i64,
    /// Width of the causal depthwise convolution. Reference: 4.
    pub d_conv: i64,
    /// Width of the bottleneck that steps come through; null is `d_model / 16`, rounded up, as in the reference.
    pub dt_rank: Option<i64>,
    /// Smallest step drawn at initialisation. Reference: 0.001.
    pub dt_min: f64,
    /// Largest step drawn at initialisation. Reference: 0.1.
    pub dt_max: f64,
    /// Bias of `in_proj` and `out_proj`. Reference: false.
    pub bias: bool,
    /// Bias of the convolution. Reference: true.
    pub conv_bias: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            d_state: 16,
            expand: 2,
            d_conv: 4,
            dt_rank: None,
            dt_min: 1e-3,
            dt_max: 0.1,
            bias: false,
            conv_bias: true,
        }
    }
}

impl Family for Config {
    const NAME: &'static str = "mamba";
    const ABOUT: &'static str = "selective state space with a state a channel, S6 (Gu & Dao 2023)";
    const PAPER: &'static str = "Gu & Dao 2023, arXiv:2312.00752, §3";
    const COMPLEXITY: &'static str = "time O(length · d_model · (d_model + d_state)), memory O(length · d_model)";
    const VERSION: u32 = 1;
    /// The smallest released model, 130M.
    const WIDTH: i64 = 768;
    const BLOCK: Surroundings = Surroundings::NoFfn;
    const TRAINING_ONLY: &'static [&'static str] = &["dt_min", "dt_max"];

    fn small() -> Value {
        json!({ "d_state": 4 })
    }

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[("mamba", replay), ("selective_scan", replay_scan)]
    }

    fn variants() -> Vec<Value> {
        vec![
            json!({ "bias": true, "d_conv": 2, "conv_bias": false, "dt_rank": 3 }),
            json!({ "d_conv": 1, "expand": 3, "d_state": 1 }),
        ]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("A_log", 8.0)]
    }

    fn targets() -> Vec<BenchTarget> {
        vec![BenchTarget { label: "mamba", settings: json!({}), size: [256, 4], time: Some(1.5), reference: None }]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let [d, expand, state, conv] = [dims.d_model, self.expand, self.d_state, self.d_conv].map(|n| n as f64);
        let (inner, rank) = (expand * d, self.rank(dims.d_model) as f64);
        let one = inner * (3.0 * d + 2.0 * rank + 3.0 * state + conv + 3.0) + 2.0 * inner;
        one * if dims.causal { 1.0 } else { 2.0 } + d
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        [
            at_least("d_state", self.d_state, 1),
            at_least("expand", self.expand, 1),
            width("expand", "expand · d_model", &[self.expand, dims.d_model]),
            at_least("d_conv", self.d_conv, 1),
            at_least("dt_rank", self.dt_rank.unwrap_or(1), 1),
            between("dt_max", self.dt_max, 1e-9, 1e3),
            between("dt_min", self.dt_min, 1e-9, self.dt_max),
        ]
        .into_iter()
        .filter_map(Result::err)
        .collect()
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(self.layer(vs, dims))
    }
}

impl Config {
    fn rank(&self, d_model: i64) -> i64 {
        self.dt_rank.unwrap_or((d_model + 15) / 16)
    }

    fn layer(&self, vs: &nn::Path, dims: &Dims) -> Directions<Mamba> {
        let out = |width| Some(linear(&(vs / "out_proj"), width, dims.d_model, self.bias));
        Directions::new(vs, dims, |vs| Mamba::new(vs, dims.d_model, self), "out_proj.weight", out)
    }
}

/// One direction; see the head of this file.
#[derive(Debug)]
struct Mamba {
    in_proj: Linear,
    conv: ShortConv,
    x_proj: Linear,
    dt_proj: Linear,
    /// `[d_inner, d_state]`.
    a_log: Tensor,
    d: Tensor,
    d_inner: i64,
    rank: i64,
    d_model: i64,
    cfg: Config,
}

/// What the scan reads, x first, each `[batch, length, ·]` but for A.
struct Read5([Tensor; 5]);

impl Read5 {
    fn list(&self) -> [&Tensor; 5] {
        self.0.each_ref()
    }
}

impl Mamba {
    fn new(vs: &nn::Path, d: i64, cfg: &Config) -> Self {
        let (inner, rank, states) = (cfg.expand * d, cfg.rank(d), cfg.d_state);
        let dt = vs / "dt_proj";
        let ws = dt.var("weight", &[inner, rank], fan_in(rank));
        let bs = step_bias(&dt, "bias", inner, cfg.dt_min, cfg.dt_max);
        dense_map(&ws, Some(&bs), [rank, inner]);
        let mut a_log = vs.zeros("A_log", &[inner, states]);
        let counted = Tensor::arange_start(1, states + 1, (a_log.kind(), a_log.device())).log();
        tch::no_grad(|| a_log.copy_(&counted.expand_as(&a_log)));
        Self {
            in_proj: linear(&(vs / "in_proj"), d, 2 * inner, cfg.bias),
            conv: ShortConv::new(vs / "conv1d", inner, cfg.d_conv, cfg.conv_bias, true),
            x_proj: linear(&(vs / "x_proj"), inner, rank + 2 * states, false),
            dt_proj: Linear { ws, bs: Some(bs), precision: Precision::of_builder() },
            a_log,
            d: vs.ones("D", &[inner]),
            d_inner: inner,
            rank,
            d_model: d,
            cfg: cfg.clone(),
        }
    }

    /// x before its convolution, and the gate.
    fn project(&self, u: &Tensor) -> [Tensor; 2] {
        project(u, &self.in_proj, [self.d_inner; 2])
    }

    /// Of x after its convolution.
    fn read(&self, x: Tensor) -> Read5 {
        let states = self.cfg.d_state;
        let [delta, b, c] = project(&x, &self.x_proj, [self.rank, states, states]);
        let dt = delta.apply(&self.dt_proj).softplus();
        Read5([x, dt, -self.a_log.exp(), b, c])
    }

    /// y, and the gate.
    fn run(&self, u: &Tensor) -> (Read5, Tensor, Tensor) {
        let [x, z] = self.project(u);
        let read = self.read(self.conv.apply(&x));
        let y = scan(read.list()) + &read.0[0] * &self.d;
        (read, y, z)
    }
}

impl Causal for Mamba {
    fn features(&self, u: &Tensor) -> Tensor {
        let (_, y, z) = self.run(u);
        y * z.silu()
    }

    fn width(&self) -> i64 {
        self.d_inner
    }

    /// A matrix for each channel.
    fn matrix(&self, u: &Tensor) -> Result<Tensor, NotLinear> {
        let (read, ..) = self.run(u);
        let [x, dt, a, b, c] = read.list();
        let [decay, _] = decay_and_feed([x, dt, a, b, c]);
        let written = dt.unsqueeze(-1) * b.unsqueeze(2);
        let m = decay_scan::matrix(&c.unsqueeze(2).expand_as(&decay), &written, &decay, Read::After);
        let length = u.size()[1];
        let skip = Tensor::eye(length, (m.kind(), m.device())) * self.d.view([1, -1, 1, 1]);
        Ok(m + skip)
    }

    fn values(&self, u: &Tensor) -> Result<(Tensor, Tensor), NotLinear> {
        let (read, y, _) = self.run(u);
        let channels = |t: &Tensor| by_head(&t.unsqueeze(-1));
        Ok((channels(&read.0[0]), channels(&y)))
    }

    fn structure(&self) -> Structure {
        Structure::Quasiseparable(self.cfg.d_state)
    }

    fn start(&self, batch: i64) -> Vec<Tensor> {
        let like = (self.d.kind(), self.d.device());
        vec![Tensor::zeros([batch, self.d_inner, self.cfg.d_state], like), self.conv.start(batch)]
    }

    fn step(&self, u: &Tensor, state: &mut [Tensor], _at: i64) -> Tensor {
        let [state, window] = state else { unreachable!("a state and a window") };
        let [x, z] = self.project(u);
        let read = self.read(self.conv.step(&x, window));
        let [decay, feed] = decay_and_feed(read.list()).map(|t| t.squeeze_dim(1));
        *state = &*state * decay + feed;
        let [x, .., c] = read.list();
        let y = state.matmul(&c.transpose(1, 2)).transpose(1, 2) + x * &self.d;
        y * z.silu()
    }

    fn cost(&self, length: i64) -> Cost {
        let (d, inner, rank, states, conv) = (self.d_model, self.d_inner, self.rank, self.cfg.d_state, self.cfg.d_conv);
        let maps = inner * (2 * d + 2 * rank + 2 * states);
        let [bias, conv_bias] = [self.cfg.bias, self.cfg.conv_bias].map(i64::from);
        Cost {
            params: maps + inner * (2 * bias + conv + conv_bias + states + 2),
            state_bytes: 4 * inner * (states + conv - 1),
            flops: 2 * length * (maps + inner * conv) + 2 * linear_flops(length, inner, states),
        }
    }

    fn rules(&self) -> Vec<ParamRule> {
        let rule = |name: &str| ParamRule { name: name.into(), lr: None, weight_decay: Some(0.0) };
        vec![rule("A_log"), rule("D")]
    }
}

/// A whole module: `mamba__*`. Absent keys are the defaults of the reference's class.
pub fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    let size = golden.axes("input.u", &["batch", "L", "d_model"])?;
    let dims = Dims { d_model: size[2], seq_len: size[1], causal: true };
    let cfg = Config {
        d_state: golden.int_or("d_state", 16)?,
        expand: golden.int_or("expand", 2)?,
        d_conv: golden.int_or("d_conv", 4)?,
        dt_rank: if golden.given("dt_rank").is_some_and(|rank| *rank == "auto") {
            None
        } else {
            golden.setting("dt_rank", None)?
        },
        bias: golden.flag_or("bias", false)?,
        conv_bias: golden.flag_or("conv_bias", true)?,
        ..Config::default()
    };
    golden.only("causal", &[true])?;
    golden.without_effect(&["dt_min", "dt_max", "dt_init", "dt_scale", "dt_init_floor"]);
    golden.without_effect(&["use_fast_path", "layer_idx", "device", "dtype"]);
    golden.settings(&cfg, &dims)?;
    golden.replay_layer("u", |vs| cfg.layer(vs, &dims))
}

/// The scan alone, `[batch, channel, time]`, everything it reads given: `selective_scan__*`. D, z and the bias of dt may be absent.
pub fn replay_scan(golden: &Golden) -> Result<Replay, GoldenError> {
    for name in ["u", "delta"] {
        golden.axes(&format!("input.{name}"), &["batch", "d_inner", "L"])?;
    }
    golden.axes("input.A", &["d_inner", "d_state"])?;
    for name in ["B", "C"] {
        golden.axes(&format!("input.{name}"), &["batch", "d_state", "L"])?;
    }
    let softplus = golden.flag_or("delta_softplus", false)?;
    let required = ["u", "delta", "A", "B", "C"].map(|name| golden.input(name).map(|t| (name, t)));
    let mut inputs = required.into_iter().collect::<Result<Vec<_>, _>>()?;
    for (name, switch) in [("D", "has_D"), ("z", "has_z"), ("delta_bias", "has_delta_bias")] {
        inputs.extend(golden.optional_input(name, &[switch], false)?.map(|t| (name, t)));
    }
    let find = |name: &str| inputs.iter().find(|(n, _)| *n == name).map(|(_, t)| t);
    let get = |name: &str| find(name).expect("it is required");
    let by_time = |name: &str| get(name).transpose(1, 2);
    let (x, dt) = (by_time("u"), by_time("delta"));
    let dt = find("delta_bias").map_or_else(|| dt.shallow_clone(), |bias| &dt + bias);
    let dt = if softplus { dt.softplus() } else { dt };
    let y = scan([&x, &dt, get("A"), &by_time("B"), &by_time("C")]);
    let y = find("D").map_or_else(|| y.shallow_clone(), |d| &y + &x * d).transpose(1, 2);
    let y = find("z").map_or_else(|| y.shallow_clone(), |z| &y * z.silu());
    let inputs: Vec<(&str, &Tensor)> = inputs.iter().map(|(name, t)| (*name, t)).collect();
    golden.replay(&[("y", &y)], &inputs, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Context;
    use crate::laws::testing::{assert_twins, deviations, noise};
    use tch::nn::VarStore;
    use tch::{Device, Kind};

    /// The equations as they stand, one position after another.
    fn plain(layer: &Directions<Mamba>, u: &Tensor) -> Tensor {
        let mamba = layer.ahead();
        let (inner, rank, states, taps) = (mamba.d_inner, mamba.rank, mamba.cfg.d_state, mamba.cfg.d_conv);
        let of = |t: &Tensor, map: &Linear| {
            let y = t.matmul(&map.ws.tr());
            map.bs.as_ref().map_or_else(|| y.shallow_clone(), |bias| &y + bias)
        };
        let xz = of(u, &mamba.in_proj);
        let image = xz.narrow(-1, 0, inner).transpose(1, 2).constant_pad_nd([taps - 1, 0]);
        let (weight, bias) = mamba.conv.parameters();
        let x = image.conv1d(weight, bias, 1, 0, 1, inner).transpose(1, 2).silu();
        let read = of(&x, &mamba.x_proj);
        let dt = (of(&read.narrow(-1, 0, rank), &mamba.dt_proj).exp() + 1.0).log();
        let (b, c) = (read.narrow(-1, rank, states), read.narrow(-1, rank + states, states));
        let mut h = Tensor::zeros([u.size()[0], inner, states], (Kind::Double, Device::Cpu));
        let mut outputs = Vec::new();
        for t in 0..u.size()[1] {
            let [x, dt] = [&x, &dt].map(|of| of.select(1, t).unsqueeze(-1));
            let [b, c] = [&b, &c].map(|of| of.select(1, t).unsqueeze(1));
            h = (-(&dt * mamba.a_log.exp())).exp() * h + dt * &x * b;
            let read = (&h * c).sum_dim_intlist([-1].as_slice(), false, Kind::Double);
            outputs.push(read + x.squeeze_dim(-1) * &mamba.d);
        }
        layer.project(&(Tensor::stack(&outputs, 1) * xz.narrow(-1, inner, inner).silu()), &Context::eval())
    }

    #[test]
    fn the_layer_is_its_plain_twin_in_values_and_gradients() {
        let small = Config { d_state: 3, ..Config::default() };
        for cfg in [small.clone(), Config { bias: true, conv_bias: false, dt_rank: Some(2), expand: 3, ..small }] {
            let mut vs = VarStore::new(Device::Cpu);
            let layer = cfg.layer(&vs.root(), &Dims { d_model: 8, seq_len: 21, causal: true });
            vs.double();
            tch::no_grad(|| {
                for (salt, mut p) in (0..).zip(vs.trainable_variables()) {
                    p.copy_(&noise(&p.size(), salt));
                }
            });
            let u = noise(&[2, 21, 8], 50).set_requires_grad(true);
            let mut leaves = vs.trainable_variables();
            leaves.push(u.shallow_clone());
            let leaves: Vec<&Tensor> = leaves.iter().collect();
            let (fast, slow) = (layer.forward(&u, &Context::eval()), plain(&layer, &u));
            assert_twins(&fast, &slow, &leaves, 1e-10, &format!("{cfg:?}"));
        }
    }

    #[test]
    fn parameters_start_as_published() {
        let vs = VarStore::new(Device::Cpu);
        let dims = Dims { d_model: 128, seq_len: 8, causal: true };
        let _layer = Config { dt_min: 0.01, dt_max: 0.2, ..Config::default() }.layer(&vs.root(), &dims);
        let named = vs.variables();
        let steps = named["dt_proj.bias"].softplus();
        let (least, most) = (steps.min().double_value(&[]), steps.max().double_value(&[]));
        assert!((0.00999..0.02).contains(&least) && (0.15..=0.2002).contains(&most), "{least} .. {most}");
        let rates: Vec<f64> = (1..=16).map(f64::from).collect();
        let want = Tensor::from_slice(&rates).log().to_kind(Kind::Float).expand([256, 16], false);
        assert!(named["A_log"].allclose(&want, 1e-6, 1e-6, false));
        let uniform = |inputs: f64| (0.0, 1.0 / (3.0 * inputs).sqrt()); // U(±1/√inputs)
        deviations(&vs, |name| match name {
            "A_log" | "dt_proj.bias" => {
                let values = named[name].to_kind(Kind::Double);
                (values.mean(Kind::Double).double_value(&[]), values.std(false).double_value(&[]))
            }
            "D" => (1.0, 0.0),
            "in_proj.weight" => uniform(128.0),
            "dt_proj.weight" => uniform(8.0),
            name if name.contains("conv1d") => uniform(4.0),
            _ => uniform(256.0),
        });
    }

    #[test]
    fn what_cannot_be_built_is_named() {
        let keys = |cfg: Config| -> Vec<&str> {
            cfg.check(&Dims { d_model: 12, seq_len: 8, causal: false }).iter().map(|e| e.key).collect()
        };
        let default = Config::default;
        assert!(keys(default()).is_empty());
        assert_eq!(keys(Config { d_state: 0, expand: 0, ..default() }), ["d_state", "expand"]);
        assert_eq!(keys(Config { d_conv: 0, dt_rank: Some(0), ..default() }), ["d_conv", "dt_rank"]);
        assert_eq!(keys(Config { dt_min: 0.2, ..default() }), ["dt_min"]);
        assert_eq!(keys(Config { dt_max: f64::NAN, ..default() }).first(), Some(&"dt_max"));
    }
}
