//! Gated DeltaNet: the delta rule in a state that forgets, one decay a head and token; with several steps a token, Gated DeltaProduct.
//!
//! ```text
//! q | k | v = SiLU of a short causal convolution of q_proj x | k_proj x | v_proj x;   k = k / ‖k‖,   q = q / (‖q‖ √d_head)      per head
//! β = σ(b_proj x), twice that for negative eigenvalues;   a = exp(-exp(A_log) softplus(a_proj x + dt_bias))                    per head
//! S_t = a_t (I - β_t k_t k_tᵀ) S_{t-1} + β_t k_t v_tᵀ,   o_t = S_tᵀ q_t                    one state [d_head, expand_v · d_head] per head
//! y_t = o_proj( RMSNorm(o_t) · SiLU(g_proj x_t) )                                          norm per head, its weight shared by the heads
//! M = Q-rows of the scan with unit vectors for values                                      quasiseparable of rank d_head
//! ```
//! With `householder` steps a token, k, v and β are as many times wider, ordered (step, head, channel); a acts before the first, and the
//! state is read after the last.
//!
//! Paper    Yang, Kautz & Hatamizadeh 2024, arXiv:2412.06464, eq. 10, §3.4; several steps: Siems et al. 2025, arXiv:2502.10297, §3;
//!          negative eigenvalues: Grazzi et al. 2024, arXiv:2411.12537
//! Time     O(length · d_model · (d_model + d_head) · householder), the scan one step after another on a CPU ([`crate::math::delta_scan`])
//! Memory   O(length · d_model · householder) to train; state O(d_model · d_head) to decode, whatever the length
//! Matches  fla-org/flash-linear-attention at bc3b101, `GatedDeltaNet`, `GatedDeltaProduct` and `DeltaNet` with their naive recurrences:
//!          outputs and gradients (`fixtures/goldens/gated_deltanet__*`, `deltaproduct__*`, `deltanet__*`, the rule alone in
//!          `gated_delta_rule__*`)
//! Departs  grouped values are left out; A is drawn no smaller than 1e-4, where the reference may draw 0, whose logarithm is no number
//!
//! Bidirectional: a second layer reads from the end ([`crate::math::directions`]).

use crate::core::family::{BenchTarget, ReplayFn};
use crate::core::limits::width;
use crate::laws::goldens::{Golden, GoldenError, Replay};
use crate::math::delta_scan::{Inputs, scan};
use crate::math::directions::Directions;
use crate::math::fla::{Convs, EPS, UNIT_VECTORS, convolutions, cut, dense, expanded, norm_and_gate, taps, unit};
use crate::math::heads::{HeadSizes, Heads};
use crate::math::ssd_block::{param_rules, step_bias};
use crate::{ConfigError, Cost, Dims, Family, Linear, Mixer, NotLinear, ParamRule, at_least, linear_flops};
use serde_json::{Value, json};
use tch::nn::{self, Init};
use tch::{Device, Kind, Tensor};

/// `mixer: { gated_deltanet: { n_heads: 4 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Parallel heads; must divide `d_model` unless `d_head` is given. Reference: 6.
    pub n_heads: i64,
    /// Width of a head's queries and keys; null is `d_model / n_heads`. Reference: 256, so that all are 0.75 `d_model`.
    pub d_head: Option<i64>,
    /// Channels of a head's values over `d_head`. Reference: 2.
    pub expand_v: f64,
    /// Steps a token, each with a key, a value and a β of its own; the state is read after the last (DeltaProduct). Reference: 1.
    pub householder: i64,
    /// A decay a head and token. Reference: true; without, DeltaNet.
    pub forget: bool,
    /// β = 2 σ(·): the eigenvalue 1 - β of a step along its key may be negative, which parity needs (Grazzi et al. 2024). Reference: false,
    /// and true for DeltaProduct.
    pub negative_eigenvalues: bool,
    /// Multiplies the normalised output by SiLU of one more projection. Reference: true.
    pub gate: bool,
    /// Width of the causal depthwise convolutions of q, k and v; 0 is none, SiLU alone. Reference: 4.
    pub d_conv: i64,
    /// Bias of the convolutions. Reference: false.
    pub conv_bias: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            n_heads: 4,
            d_head: None,
            expand_v: 2.0,
            householder: 1,
            forget: true,
            negative_eigenvalues: false,
            gate: true,
            d_conv: 4,
            conv_bias: false,
        }
    }
}

/// The width of the reference's layer and model by default.
const WIDTH: i64 = 2048;

impl Family for Config {
    const NAME: &'static str = "gated_deltanet";
    const ABOUT: &'static str =
        "delta rule in a state that forgets, several steps a token where asked (Yang et al. 2024)";
    const PAPER: &'static str = "Yang et al. 2024, arXiv:2412.06464, §3";
    const COMPLEXITY: &'static str = "time O(length · d_model · (d_model + d_head)), memory O(length · d_model)";
    const VERSION: u32 = 1;
    const WIDTH: i64 = WIDTH;

    fn small() -> Value {
        json!({ "n_heads": 2 })
    }

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[
            ("gated_deltanet", replay),
            ("deltaproduct", replay_product),
            ("deltanet", replay_plain),
            ("gated_delta_rule", replay_rule),
        ]
    }

    fn variants() -> Vec<Value> {
        vec![
            json!({ "d_head": 6, "expand_v": 1.5, "negative_eigenvalues": true, "gate": false }),
            json!({ "d_head": 4, "householder": 2, "negative_eigenvalues": true }),
            json!({ "d_head": 5, "forget": false, "d_conv": 2, "conv_bias": true, "n_heads": 1 }),
            json!({ "d_head": 4, "householder": 3, "forget": false, "d_conv": 0, "expand_v": 1.0 }),
        ]
    }

    fn unsteady() -> Vec<(Value, &'static str)> {
        vec![(json!({}), UNIT_VECTORS)]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("A_log", 8.0), ("dt_bias", 8.0), ("weight", 30.0)]
    }

    fn targets() -> Vec<BenchTarget> {
        vec![BenchTarget {
            label: "gated_deltanet",
            settings: json!({}),
            size: [256, 4],
            time: Some(1.5),
            reference: None,
        }]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let [d, heads, steps] = [dims.d_model, self.n_heads, self.householder].map(|n| n as f64);
        let taps = (self.d_conv + i64::from(self.conv_bias)) as f64;
        let keys = self.d_head.map_or(d, |d_head| heads * d_head as f64);
        let values = self.expand_v * keys;
        let convolved = keys + steps * (keys + values);
        let gates = if self.gate { 2.0 } else { 1.0 };
        let one = convolved * (d + taps) + (steps + 1.0) * heads * d + gates * values * d + 2.0 * heads + values;
        one * if dims.causal { 1.0 } else { 2.0 }
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        let keys = self.d_head.map_or(dims.d_model, |d_head| self.n_heads.saturating_mul(d_head));
        let widest = keys.saturating_mul(if self.expand_v > 1.0 { self.expand_v.ceil() as i64 } else { 1 });
        let shape = HeadSizes::check(self.n_heads, self.d_head, self.expand_v, dims.d_model);
        let steps = [self.householder, widest];
        [
            shape,
            at_least("householder", self.householder, 1),
            width("householder", "householder · n_heads · d_head · expand_v", &steps),
            at_least("d_conv", self.d_conv, 0),
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
    fn sizes(&self, d_model: i64) -> HeadSizes {
        HeadSizes::expanded(self.n_heads, self.d_head, self.expand_v, d_model)
    }

    fn layer(&self, vs: &nn::Path, dims: &Dims) -> Directions<GatedDelta> {
        let published = self.sizes(WIDTH).values() * if dims.causal { 1 } else { 2 };
        let out = |width| Some(dense(vs / "o_proj", [width, published], dims.d_model, false));
        Directions::new(vs, dims, |vs| GatedDelta::new(vs, dims.d_model, self), "o_proj.weight", out)
    }
}

/// `A_log`, `[heads]`: logarithms of numbers drawn uniformly from `low` to 16.
pub(crate) fn decay_rates(vs: &nn::Path, heads: i64, low: f64) -> Tensor {
    let mut a_log = vs.var("A_log", &[heads], Init::Uniform { lo: low, up: 16.0 });
    tch::no_grad(|| a_log.copy_(&a_log.log()));
    a_log
}

/// What decays are made of.
#[derive(Debug)]
struct Forget {
    a_proj: Linear,
    a_log: Tensor,
    dt_bias: Tensor,
}

/// What q and k go through where no convolution does.
#[derive(Clone, Copy, Debug)]
enum Activation {
    Silu,
    Relu,
}

/// One direction; see the head of this file.
#[derive(Debug)]
struct GatedDelta {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    b_proj: Linear,
    forget: Option<Forget>,
    g_proj: Option<Linear>,
    convs: Convs,
    o_norm: Tensor,
    sizes: HeadSizes,
    activation: Activation,
    d_model: i64,
    cfg: Config,
}

impl GatedDelta {
    fn new(vs: &nn::Path, d: i64, cfg: &Config) -> Self {
        let sizes = cfg.sizes(d);
        let (heads, keys, values, steps) = (sizes.heads, sizes.keys(), sizes.values(), cfg.householder);
        let of_x = |name: &str, to: i64| dense(vs / name, [d, WIDTH], to, false);
        let forget = || Forget {
            a_proj: of_x("a_proj", heads),
            a_log: decay_rates(vs, heads, 1e-4),
            dt_bias: step_bias(vs, "dt_bias", heads, 1e-3, 0.1),
        };
        let convolved = [("q_conv1d", keys), ("k_conv1d", steps * keys), ("v_conv1d", steps * values)];
        Self {
            q_proj: of_x("q_proj", keys),
            k_proj: of_x("k_proj", steps * keys),
            v_proj: of_x("v_proj", steps * values),
            b_proj: of_x("b_proj", steps * heads),
            forget: cfg.forget.then(forget),
            g_proj: cfg.gate.then(|| of_x("g_proj", values)),
            convs: Convs::new(vs, &convolved, cfg.d_conv, cfg.conv_bias, true),
            o_norm: (vs / "o_norm").ones("weight", &[sizes.d_v]),
            sizes,
            activation: Activation::Silu,
            d_model: d,
            cfg: cfg.clone(),
        }
    }

    /// q, k or v, of the convolution of its projection where there is one.
    fn activate(&self, i: usize, t: &Tensor) -> Tensor {
        match self.activation {
            _ if self.cfg.d_conv > 0 => t.shallow_clone(), // the convolution ends in SiLU
            Activation::Relu if i < 2 => t.relu(),
            _ => t.silu(),
        }
    }

    /// `[batch, length, steps · heads · …]` → `[batch, length · steps, heads, …]`.
    fn by_step(&self, t: &Tensor) -> Tensor {
        t.unflatten(-1, [self.cfg.householder, self.sizes.heads, -1]).flatten(1, 2)
    }

    /// `[batch, length · steps, heads, 1]`, 1 at every step of a token but the first.
    fn decays(&self, x: &Tensor) -> Tensor {
        let Some(Forget { a_proj, a_log, dt_bias }) = &self.forget else {
            let shape = [x.size()[0], x.size()[1] * self.cfg.householder, self.sizes.heads, 1];
            return Tensor::ones([1, 1, 1, 1], (x.kind(), x.device())).expand(shape, false);
        };
        let logs = -((x.apply(a_proj) + dt_bias).softplus() * a_log.exp());
        let logs = logs.unsqueeze(2).constant_pad_nd([0, 0, 0, self.cfg.householder - 1]);
        logs.flatten(1, 2).exp().unsqueeze(-1)
    }
}

impl Heads for GatedDelta {
    type Scan = Inputs;

    fn sizes(&self) -> HeadSizes {
        self.sizes
    }

    fn convs(&self) -> &Convs {
        &self.convs
    }

    fn like(&self) -> (Kind, Device) {
        (self.o_norm.kind(), self.o_norm.device())
    }

    fn linear(&self) -> Result<(), NotLinear> {
        match self.cfg.householder {
            1 => Ok(()),
            _ => Err(crate::math::delta_scan::SEVERAL_STEPS),
        }
    }

    fn read(&self, x: &Tensor, _at: i64, mut convolve: impl FnMut(usize, Tensor) -> Tensor) -> Inputs {
        let mut of = |i: usize, map: &Linear| self.activate(i, &convolve(i, x.apply(map)));
        let q = unit(&cut(&of(0, &self.q_proj), self.sizes.heads)) * (self.sizes.d_k as f64).powf(-0.5);
        let (k, v) = (unit(&self.by_step(&of(1, &self.k_proj))), self.by_step(&of(2, &self.v_proj)));
        let beta = x.apply(&self.b_proj).sigmoid() * if self.cfg.negative_eigenvalues { 2.0 } else { 1.0 };
        Inputs::delta(q, &k, v, &self.by_step(&beta), self.decays(x))
    }

    fn finish(&self, o: &Tensor, x: &Tensor) -> Tensor {
        norm_and_gate(o, &self.o_norm, self.g_proj.as_ref().map(|g_proj| x.apply(g_proj)).as_ref())
    }

    fn rules(&self) -> Vec<ParamRule> {
        if self.forget.is_some() { param_rules(false, false) } else { Vec::new() }
    }

    fn cost(&self, length: i64) -> Cost {
        let (d, steps, conv) = (self.d_model, self.cfg.householder, self.cfg.d_conv);
        let HeadSizes { heads, d_v, .. } = self.sizes;
        let (keys, values) = (self.sizes.keys(), self.sizes.values());
        let [gate, forget] = [self.cfg.gate, self.cfg.forget].map(i64::from);
        let convolved = keys + steps * (keys + values);
        let maps = d * (convolved + gate * values + (steps + forget) * heads);
        Cost {
            params: maps + 2 * forget * heads + d_v + taps(conv, self.cfg.conv_bias) * convolved,
            state_bytes: 4 * (keys * d_v + (conv - 1).max(0) * convolved),
            flops: 2 * length * (maps + conv * convolved) + (2 * steps + 1) * linear_flops(length, keys, d_v),
        }
    }
}

/// A whole layer: `gated_deltanet__*`. Absent keys are the defaults of the reference's class, as in those below.
pub fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    let (d_conv, conv_bias) = convolutions(golden, true)?;
    let cfg = Config {
        n_heads: golden.int_or("num_heads", 6)?,
        d_head: Some(golden.int_or("head_dim", 256)?),
        expand_v: golden.number_or("expand_v", 2.0)?,
        negative_eigenvalues: golden.flag_or("allow_neg_eigval", false)?,
        gate: golden.flag_or("use_gate", true)?,
        d_conv,
        conv_bias,
        ..Config::default()
    };
    golden.only("num_v_heads", &[cfg.n_heads])?;
    replay_layer(golden, &cfg, Activation::Silu)
}

/// A whole layer with several steps a token: `deltaproduct__*`.
pub fn replay_product(golden: &Golden) -> Result<Replay, GoldenError> {
    let (d_conv, conv_bias) = convolutions(golden, true)?;
    let cfg = Config {
        n_heads: golden.int_or("num_heads", 6)?,
        d_head: Some(golden.int_or("head_dim", 256)?),
        expand_v: golden.number_or("expand_v", 2.0)?,
        householder: golden.int_or("num_householder", 2)?,
        forget: golden.flag_or("use_forget_gate", false)?,
        negative_eigenvalues: golden.flag_or("allow_neg_eigval", true)?,
        gate: golden.flag_or("use_output_gate", true)?,
        d_conv,
        conv_bias,
    };
    golden.only("num_v_heads", &[cfg.n_heads])?;
    replay_layer(golden, &cfg, Activation::Silu)
}

/// A whole layer without decays: `deltanet__*`.
pub fn replay_plain(golden: &Golden) -> Result<Replay, GoldenError> {
    let (d_conv, conv_bias) = convolutions(golden, true)?;
    let (n_heads, d_model) =
        (golden.int_or("num_heads", 4)?, golden.axes("input.x", &["batch", "L", "hidden_size"])?[2]);
    let [expand_k, expand_v] = [golden.number_or("expand_k", 1.0)?, golden.number_or("expand_v", 1.0)?];
    golden.checked(&expanded("expand_k", expand_k, n_heads, d_model).err().into_iter().collect::<Vec<_>>())?;
    let cfg = Config {
        n_heads,
        d_head: Some((expand_k * d_model as f64) as i64 / n_heads.max(1)),
        expand_v: expand_v / expand_k,
        forget: false,
        negative_eigenvalues: golden.flag_or("allow_neg_eigval", false)?,
        gate: golden.flag_or("use_gate", false)?,
        d_conv,
        conv_bias,
        ..Config::default()
    };
    let known = [("silu", Activation::Silu), ("relu", Activation::Relu)];
    let activation = golden.choice("qk_activation", Activation::Silu, &known)?;
    if d_conv > 0 && matches!(activation, Activation::Relu) {
        return Err(GoldenError::Unsupported(
            "config `qk_activation` is `relu`; behind a convolution replayed is `silu`".into(),
        ));
    }
    golden.only("qk_norm", &["l2"])?;
    golden.only("use_beta", &[true])?;
    replay_layer(golden, &cfg, activation)
}

fn replay_layer(golden: &Golden, cfg: &Config, activation: Activation) -> Result<Replay, GoldenError> {
    golden.only("norm_eps", &[EPS])?;
    golden.only("causal", &[true])?;
    golden.without_effect(&["mode", "layer_idx"]);
    let size = golden.axes("input.x", &["batch", "L", "hidden_size"])?;
    let dims = Dims { d_model: size[2], seq_len: size[1], causal: true };
    golden.settings(cfg, &dims)?;
    golden.replay_layer("x", |vs| {
        let mut layer = cfg.layer(vs, &dims);
        layer.ahead_mut().activation = activation;
        layer
    })
}

/// The rule alone, from a state to a state: `gated_delta_rule__*`. The first is written by as many steps in front, a unit key each, and the
/// last is read by as many behind.
pub fn replay_rule(golden: &Golden) -> Result<Replay, GoldenError> {
    let of_key = ["batch", "L", "num_heads", "head_k_dim"];
    let size = golden.axes("input.q", &of_key)?;
    golden.axes("input.k", &of_key)?;
    golden.axes("input.v", &["batch", "L", "num_heads", "head_v_dim"])?;
    for name in ["beta", "g"] {
        golden.axes(&format!("input.{name}"), &["batch", "L", "num_heads"])?;
    }
    golden.axes("input.initial_state", &["batch", "num_heads", "head_k_dim", "head_v_dim"])?;
    golden.without_effect(&["chunk_size"]);
    let names = ["q", "k", "v", "beta", "g", "initial_state"];
    let inputs: Vec<Tensor> = names.iter().map(|name| golden.input(name)).collect::<Result<_, _>>()?;
    let [q, k, v, beta, g, initial] = inputs.as_slice() else { unreachable!("six names") };
    let [batch, length, heads, d_k] = <[i64; 4]>::try_from(size).expect("four axes");
    let unit = Tensor::eye(d_k, (q.kind(), q.device())).view([1, d_k, 1, d_k]).expand([batch, d_k, heads, d_k], false);
    let around = |ends: [&Tensor; 2], t: &Tensor| Tensor::cat(&[ends[0], t, ends[1]], 1);
    let (none, one) = (unit.zeros_like(), Tensor::ones([batch, d_k, heads, 1], (q.kind(), q.device())));
    let written = initial.transpose(1, 2);
    let rule =
        Inputs::delta(q * (d_k as f64).powf(-0.5), k, v.shallow_clone(), &beta.unsqueeze(-1), g.exp().unsqueeze(-1));
    let whole = Inputs {
        q: around([&none, &unit], &rule.q),
        w: around([&unit, &none], &rule.w),
        r: around([&none, &none], &rule.r),
        v: around([&written, &written.zeros_like()], &rule.v),
        a: around([&one, &one], &rule.a),
        e: None,
    };
    let o = scan(&whole);
    let last = o.narrow(1, d_k + length, d_k).transpose(1, 2);
    let inputs: Vec<(&str, &Tensor)> = names.into_iter().zip(&inputs).collect();
    golden.replay(&[("o", &o.narrow(1, d_k, length)), ("final_state", &last)], &inputs, None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Context;
    use crate::laws::testing::{assert_layer_twins, deviations};
    use tch::nn::VarStore;

    /// The equations as they stand, one step after another, without convolutions.
    fn plain(layer: &Directions<GatedDelta>, x: &Tensor) -> Tensor {
        let delta = layer.ahead();
        let (HeadSizes { heads, d_k, d_v }, steps) = (delta.sizes, delta.cfg.householder);
        let of = |map: &Linear| x.matmul(&map.ws.tr());
        let unit = |t: Tensor| &t / (t.square().sum_dim_intlist([-1].as_slice(), true, Kind::Double) + 1e-6).sqrt();
        let q = unit(of(&delta.q_proj).silu().unflatten(-1, [heads, d_k])) / (d_k as f64).sqrt();
        let k = unit(of(&delta.k_proj).silu().unflatten(-1, [steps, heads, d_k]));
        let v = of(&delta.v_proj).silu().unflatten(-1, [steps, heads, d_v]);
        let twice = if delta.cfg.negative_eigenvalues { 2.0 } else { 1.0 };
        let beta = of(&delta.b_proj).sigmoid().unflatten(-1, [steps, heads]) * twice;
        let mut state = Tensor::zeros([x.size()[0], heads, d_k, d_v], (Kind::Double, Device::Cpu));
        let mut outputs = Vec::new();
        for t in 0..x.size()[1] {
            state = match &delta.forget {
                None => state,
                Some(Forget { a_proj, a_log, dt_bias }) => {
                    let rate = (of(a_proj).select(1, t) + dt_bias).softplus() * a_log.exp();
                    state * (-rate).exp().unsqueeze(-1).unsqueeze(-1)
                }
            };
            for step in 0..steps {
                let [k, v] = [&k, &v].map(|of| of.select(1, t).select(1, step));
                let beta = beta.select(1, t).select(1, step).unsqueeze(-1).unsqueeze(-1);
                let reflect = Tensor::eye(d_k, (Kind::Double, Device::Cpu)) - &beta * k.unsqueeze(-1) * k.unsqueeze(-2);
                state = reflect.matmul(&state) + beta * k.unsqueeze(-1) * v.unsqueeze(-2);
            }
            outputs.push((&state * q.select(1, t).unsqueeze(-1)).sum_dim_intlist([2].as_slice(), false, Kind::Double));
        }
        let o = Tensor::stack(&outputs, 1);
        let mean = o.square().mean_dim([-1].as_slice(), true, Kind::Double);
        let y = (o / (mean + 1e-5).sqrt() * &delta.o_norm).flatten(2, 3);
        let y = match &delta.g_proj {
            None => y,
            Some(gate) => y * of(gate).silu(),
        };
        layer.project(&y, &Context::eval())
    }

    #[test]
    fn the_layer_is_its_plain_twin_in_values_and_gradients() {
        let small = Config { n_heads: 2, d_conv: 0, ..Config::default() };
        for cfg in [
            small.clone(),
            Config { householder: 2, negative_eigenvalues: true, expand_v: 1.5, ..small.clone() },
            Config { forget: false, gate: false, d_head: Some(5), expand_v: 1.0, ..small },
        ] {
            assert_layer_twins(|vs, dims| cfg.layer(vs, dims), plain, &format!("{cfg:?}"));
        }
    }

    #[test]
    fn parameters_start_as_published() {
        let vs = VarStore::new(Device::Cpu);
        let dims = Dims { d_model: WIDTH, seq_len: 8, causal: true };
        let _layer = Config { n_heads: 256, ..Config::default() }.layer(&vs.root(), &dims);
        let uniform = 0.5 / 3f64.sqrt(); // U(±1/√4)
        let within = |t: Tensor, [low, high]: [f64; 2], mean: f64| {
            let (least, most) = (t.min().double_value(&[]), t.max().double_value(&[]));
            assert!(low * 0.999 <= least && most <= high * 1.001, "{least} .. {most}");
            let middle = t.mean(Kind::Double).double_value(&[]);
            assert!((middle / mean - 1.0).abs() < 0.25, "{middle} is not about {mean}");
        };
        let named = vs.variables();
        within(named["A_log"].exp(), [0.0, 16.0], 8.0);
        // Of numbers drawn log-uniformly, (0.1 - 0.001) / ln 100.
        within(named["dt_bias"].softplus(), [1e-3, 0.1], 0.0215);
        deviations(&vs, |name| match name {
            "A_log" | "dt_bias" => {
                let values = named[name].to_kind(Kind::Double);
                (values.mean(Kind::Double).double_value(&[]), values.std(false).double_value(&[]))
            }
            "o_norm.weight" => (1.0, 0.0),
            name if name.contains("conv1d") => (0.0, uniform),
            _ => (0.0, 0.02),
        });
    }

    #[test]
    fn what_cannot_be_built_is_named() {
        let keys = |cfg: Config| -> Vec<&str> {
            cfg.check(&Dims { d_model: 12, seq_len: 8, causal: false }).iter().map(|e| e.key).collect()
        };
        let default = || Config { n_heads: 3, ..Config::default() };
        assert!(keys(default()).is_empty());
        assert_eq!(keys(Config { n_heads: 5, ..default() }), ["n_heads"]);
        assert!(keys(Config { n_heads: 5, d_head: Some(3), ..default() }).is_empty());
        assert_eq!(keys(Config { expand_v: 1.3, d_conv: -1, ..default() }), ["expand_v", "d_conv"]);
        assert_eq!(keys(Config { expand_v: f64::NAN, ..default() }), ["expand_v"]);
        assert_eq!(keys(Config { householder: 0, ..default() }), ["householder"]);
        let wide = Config { d_head: Some(30_000), householder: 2, ..default() };
        assert_eq!(keys(wide), ["expand_v", "householder"]);
    }
}
