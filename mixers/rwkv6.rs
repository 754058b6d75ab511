//! RWKV-6: linear attention with a decay a channel that depends on the input, a bonus for the current token, and mixes of each token
//! with the one before it.
//!
//! ```text
//! Δ_t = x_{t-1} - x_t,   z_t = tanh(x_proj.0 (x_t + μ Δ_t)),   m_t = x_proj.2 z_t + x_bias         five mixes: r, w, k, v, g
//! r_t = r_proj(x_t + m_t^r Δ_t),  and k, v, g alike;   w_t = lora.2 tanh(lora.0 (x_t + m_t^w Δ_t)) + bias
//! o_t = (S_{t-1} + diag(u) k_t v_tᵀ)ᵀ r_t,   S_t = diag(a_t) S_{t-1} + k_t v_tᵀ,   a_t = exp(-exp(w_t))      one state a head
//! y_t = o_proj( GroupNorm(o_t) · SiLU(g_t) )                      a group a head
//! M[t,s] = Σ_c r_t[c] k_s[c] Π_{s<r<t} a_r[c]  for s < t,   Σ_c r_t[c] u[c] k_t[c]  for s = t
//! ```
//! Paper    Peng et al. 2024, arXiv:2404.05892, §4 (Finch)
//! Time     O(length · d_model · (d_model + d_k)), the scan one position after another on a CPU ([`crate::math::decay_scan`])
//! Memory   O(length · d_model) to train; state O(d_model · d_k) to decode, whatever the length
//! Matches  fla-org/flash-linear-attention at bc3b101, `RWKV6Attention` with its naive recurrence: outputs and gradients
//!          (`fixtures/goldens/rwkv6__*`)
//! Departs  as that layer from the paper's code (BlinkDL/RWKV-LM): the eps of the group norm is 1e-5, initial values do not depend on the
//!          layer's place, and keys may be narrower than values
//!
//! Bidirectional: a second layer reads from the end ([`crate::math::directions`]).

use crate::core::family::ReplayFn;
use crate::laws::goldens::{Golden, GoldenError, Replay};
use crate::math::decay_scan::{self, Read, scan};
use crate::math::directions::{Causal, Directions};
use crate::math::fla::{EPS, by_head, cut, expanded, head_width};
use crate::{ConfigError, Cost, Dims, Family, Linear, Mixer, NotLinear, Structure, at_least, dense_map, linear_flops};
use serde_json::{Value, json};
use tch::Tensor;
use tch::nn::{self, Init};

/// `mixer: { rwkv6: { n_heads: 4 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Parallel heads; must divide `expand_k · d_model` and `expand_v · d_model`. Reference: 4.
    pub n_heads: i64,
    /// Channels of all receptances, and of all keys, over `d_model`. Reference: 0.5; the paper: 1.
    pub expand_k: f64,
    /// Channels of all values over `d_model`. Reference: 1.
    pub expand_v: f64,
    /// Width of the bottleneck of each mix. Reference: 32.
    pub mix_rank: i64,
    /// Width of the bottleneck of the decay. Reference: 64.
    pub decay_rank: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self { n_heads: 4, expand_k: 0.5, expand_v: 1.0, mix_rank: 32, decay_rank: 64 }
    }
}

impl Family for Config {
    const NAME: &'static str = "rwkv6";
    const ABOUT: &'static str = "RWKV-6 (Finch): data-dependent decay, bonus and token shift (Peng et al. 2024)";
    const PAPER: &'static str = "Peng et al. 2024, arXiv:2404.05892, §4";
    const COMPLEXITY: &'static str = "time O(length · d_model · (d_model + d_k)), memory O(length · d_model)";
    const VERSION: u32 = 1;
    /// Finch 1.6B, table 2.
    const WIDTH: i64 = 2048;

    fn small() -> Value {
        json!({ "n_heads": 2, "mix_rank": 3, "decay_rank": 4 })
    }

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[("rwkv6", replay)]
    }

    fn variants() -> Vec<Value> {
        vec![json!({ "expand_k": 1.0, "n_heads": 1 }), json!({ "expand_v": 2.0, "mix_rank": 5, "decay_rank": 16 })]
    }

    fn unsteady() -> Vec<(Value, &'static str)> {
        const WHY: &str = "maps start at a sixth of Xavier's size: ten steps at rates that travel from 2,048 channels to 32 are most of what \
                           a narrow branch then is, five times as loud as a wide one. At initialisation it is as loud at every width";
        vec![(json!({}), WHY)]
    }

    /// Decay of some 20,000 a step.
    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("bias", 10.0)]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let [d, mix, decay] = [dims.d_model, self.mix_rank, self.decay_rank].map(|n| n as f64);
        let (keys, values) = (self.expand_k * d, self.expand_v * d);
        let one = d * (2.0 * keys + 3.0 * values + 10.0 * mix + decay + 6.0) + keys * (decay + 2.0) + 2.0 * values;
        one * if dims.causal { 1.0 } else { 2.0 }
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        [
            at_least("n_heads", self.n_heads, 1),
            expanded("expand_k", self.expand_k, self.n_heads, dims.d_model),
            expanded("expand_v", self.expand_v, self.n_heads, dims.d_model),
            at_least("mix_rank", self.mix_rank, 1),
            crate::core::limits::width("mix_rank", "5 · mix_rank", &[5, self.mix_rank]),
            at_least("decay_rank", self.decay_rank, 1),
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
    fn layer(&self, vs: &nn::Path, dims: &Dims) -> Directions<Rwkv6> {
        let out = |width| Some(xavier(vs / "o_proj", width, dims.d_model));
        Directions::new(vs, dims, |vs| Rwkv6::new(vs, dims.d_model, self), "o_proj.weight", out)
    }
}

/// Xavier's uniform bound for these ends, with the reference's gain.
fn uniform(from: i64, to: i64) -> Init {
    let bound = (-2.5f64).exp2() * (6.0 / (from + to) as f64).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

fn xavier(vs: nn::Path, from: i64, to: i64) -> Linear {
    Linear::new(vs, from, to, nn::LinearConfig { ws_init: uniform(from, to), bs_init: None, bias: false })
}

/// Into the bottleneck of the decay, zero, and out of it, orthogonal.
fn low_rank(vs: &nn::Path, d: i64, rank: i64, to: i64) -> [Linear; 2] {
    let zero = nn::LinearConfig { ws_init: Init::Const(0.0), bs_init: None, bias: false };
    let gain = 0.1 * (rank as f64 / to as f64).sqrt().max(1.0);
    let out = nn::LinearConfig { ws_init: Init::Orthogonal { gain }, bs_init: Some(Init::Const(0.0)), bias: true };
    [Linear::new(vs / "0", d, rank, zero), Linear::new(vs / "2", rank, to, out)]
}

/// The mixes, in the reference's order.
const MIXES: i64 = 5;

/// One direction; see the head of this file.
#[derive(Debug)]
struct Rwkv6 {
    mu: Tensor,
    /// Into the bottlenecks of all mixes.
    x_in: Linear,
    /// Out of them, `[d_model, mixes · mix_rank]`: each mix reads its own part.
    x_out: Tensor,
    x_bias: Tensor,
    r_proj: Linear,
    w_proj: [Linear; 2],
    k_proj: Linear,
    v_proj: Linear,
    g_proj: Linear,
    /// u, `[heads, d_k]`.
    bonus: Tensor,
    norm: [Tensor; 2],
    d_k: i64,
    d_v: i64,
    d_model: i64,
    cfg: Config,
}

/// What the scan reads, each `[batch, length, heads, ·]`, and the gate `[batch, length, values]`.
struct Inputs {
    scanned: [Tensor; 4],
    gate: Tensor,
}

impl Rwkv6 {
    fn new(vs: &nn::Path, d: i64, cfg: &Config) -> Self {
        let [d_k, d_v] = [cfg.expand_k, cfg.expand_v].map(|factor| head_width(factor, cfg.n_heads, d));
        let (keys, values, mixes) = (cfg.n_heads * d_k, cfg.n_heads * d_v, MIXES * cfg.mix_rank);
        let of_x = |name: &str, to: i64| xavier(vs / name / "linear", d, to);
        let x = vs / "x_proj";
        let x_out = (&x / "2").var("weight", &[d, mixes], uniform(mixes, d));
        dense_map(&x_out, None, [mixes, d]);
        Self {
            mu: (&x / "0").zeros("mu", &[d]),
            x_in: xavier(&x / "0" / "linear", d, mixes),
            x_out,
            x_bias: vs.zeros("x_bias", &[MIXES, d]),
            r_proj: of_x("r_proj", keys),
            w_proj: low_rank(&(vs / "w_proj" / "linear" / "lora"), d, cfg.decay_rank, keys),
            k_proj: of_x("k_proj", keys),
            v_proj: of_x("v_proj", values),
            g_proj: of_x("g_proj", values),
            bonus: vs.zeros("bonus", &[cfg.n_heads, d_k]),
            norm: [(vs / "g_norm").ones("weight", &[values]), (vs / "g_norm").zeros("bias", &[values])],
            d_k,
            d_v,
            d_model: d,
            cfg: cfg.clone(),
        }
    }

    /// Of `x` and the token before each, `[batch, length, d_model]`.
    fn read(&self, x: &Tensor, previous: &Tensor) -> Inputs {
        let delta = previous - x;
        let mixed = (x + &delta * &self.mu).apply(&self.x_in).tanh().unflatten(-1, [MIXES, -1]);
        let out = self.x_out.unflatten(1, [MIXES, -1]);
        // The input of each map: x moved towards the token before it, by its own share of each channel.
        let moved = |i: i64| {
            let share = self.x_in.precision.linear(&mixed.select(2, i), &out.select(1, i), None) + self.x_bias.get(i);
            x + &delta * share
        };
        let [down, up] = &self.w_proj;
        let w = moved(1).apply(down).tanh().apply(up);
        let of = |i: i64, map: &Linear| moved(i).apply(map);
        let (r, k, v) = (of(0, &self.r_proj), of(2, &self.k_proj), of(3, &self.v_proj));
        let scanned = [r, k, v, (-w.exp()).exp()].map(|t| cut(&t, self.cfg.n_heads));
        Inputs { scanned, gate: of(4, &self.g_proj) }
    }

    fn whole(&self, x: &Tensor) -> Inputs {
        let length = x.size()[1];
        self.read(x, &x.narrow(1, 0, length - 1).constant_pad_nd([0, 0, 1, 0]))
    }

    /// Σ_c r[c] u[c] k[c], `[batch, length, heads, 1]`.
    fn current(&self, r: &Tensor, k: &Tensor) -> Tensor {
        (r * k * &self.bonus).sum_dim_intlist([-1].as_slice(), true, r.kind())
    }

    /// o, of everything before each token and the token itself.
    fn recall(&self, [r, k, v, a]: &[Tensor; 4]) -> Tensor {
        scan(r, k, v, a, Read::Before) + self.current(r, k) * v
    }

    fn finish(&self, o: &Tensor, gate: &Tensor) -> Tensor {
        let [weight, bias] = &self.norm;
        let flat = o.flatten(2, 3);
        let rows = flat.flatten(0, 1).group_norm(self.cfg.n_heads, Some(weight), Some(bias), EPS, false);
        rows.view_as(&flat) * gate.silu()
    }
}

impl Causal for Rwkv6 {
    fn features(&self, x: &Tensor) -> Tensor {
        let Inputs { scanned, gate } = self.whole(x);
        self.finish(&self.recall(&scanned), &gate)
    }

    fn width(&self) -> i64 {
        self.cfg.n_heads * self.d_v
    }

    fn heads(&self) -> i64 {
        self.cfg.n_heads
    }

    fn matrix(&self, x: &Tensor) -> Result<Tensor, NotLinear> {
        let [r, k, _, a] = self.whole(x).scanned;
        let diagonal = by_head(&self.current(&r, &k)).squeeze_dim(-1);
        Ok(decay_scan::matrix(&r, &k, &a, Read::Before) + diagonal.diag_embed(0, -2, -1))
    }

    fn values(&self, x: &Tensor) -> Result<(Tensor, Tensor), NotLinear> {
        let scanned = self.whole(x).scanned;
        Ok((by_head(&scanned[2]), by_head(&self.recall(&scanned))))
    }

    fn structure(&self) -> Structure {
        Structure::Quasiseparable(self.d_k)
    }

    fn start(&self, batch: i64) -> Vec<Tensor> {
        let like = (self.mu.kind(), self.mu.device());
        let state = Tensor::zeros([batch, self.cfg.n_heads, self.d_k, self.d_v], like);
        vec![state, Tensor::zeros([batch, 1, self.d_model], like)]
    }

    fn step(&self, x: &Tensor, state: &mut [Tensor], _at: i64) -> Tensor {
        let [state, previous] = state else { unreachable!("a state and the token before") };
        let Inputs { scanned, gate } = self.read(x, previous);
        let (o, next) = decay_scan::step(state, &scanned, Read::Before);
        let [r, k, v, _] = &scanned;
        let o = o + self.current(r, k) * v;
        (*state, *previous) = (next, x.shallow_clone());
        self.finish(&o, &gate)
    }

    fn cost(&self, length: i64) -> Cost {
        let (d, keys, values) = (self.d_model, self.cfg.n_heads * self.d_k, self.width());
        let (mixes, rank) = (MIXES * self.cfg.mix_rank, self.cfg.decay_rank);
        let maps = d * (2 * keys + 2 * values + 2 * mixes + rank) + rank * keys;
        Cost {
            params: maps + (1 + MIXES) * d + 2 * keys + 2 * values,
            state_bytes: 4 * (keys * self.d_v + d),
            flops: 2 * length * maps + 2 * linear_flops(length, keys, self.d_v),
        }
    }
}

/// A whole layer: `rwkv6__*`. Absent keys are the defaults of the reference's class.
pub fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    let cfg = Config {
        n_heads: golden.int_or("num_heads", 4)?,
        expand_k: golden.number_or("expand_k", 0.5)?,
        expand_v: golden.number_or("expand_v", 1.0)?,
        mix_rank: golden.int_or("proj_low_rank_dim", 32)?,
        decay_rank: golden.int_or("gate_low_rank_dim", 64)?,
    };
    golden.only("norm_eps", &[EPS])?;
    golden.only("causal", &[true])?;
    golden.only("gate_fn", &["swish"])?;
    golden.only("elementwise_affine", &[true])?;
    golden.without_effect(&["mode", "fuse_norm", "layer_idx"]);
    let size = golden.axes("input.x", &["batch", "L", "hidden_size"])?;
    let dims = Dims { d_model: size[2], seq_len: size[1], causal: true };
    golden.settings(&cfg, &dims)?;
    golden.replay_layer("x", |vs| cfg.layer(vs, &dims))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Context;
    use crate::laws::testing::{assert_twins, deviations, noise};
    use tch::nn::VarStore;
    use tch::{Device, Kind};

    /// The equations as they stand, one position after another.
    fn plain(layer: &Directions<Rwkv6>, x: &Tensor) -> Tensor {
        let rwkv = layer.ahead();
        let (heads, batch, rank) = (rwkv.cfg.n_heads, x.size()[0], rwkv.cfg.mix_rank);
        let of = |t: &Tensor, map: &Linear| t.matmul(&map.ws.tr());
        let mut state = Tensor::zeros([batch, heads, rwkv.d_k, rwkv.d_v], (Kind::Double, Device::Cpu));
        let mut previous = Tensor::zeros([batch, rwkv.d_model], (Kind::Double, Device::Cpu));
        let mut outputs = Vec::new();
        for t in 0..x.size()[1] {
            let x = x.select(1, t);
            let delta = &previous - &x;
            let z = of(&(&x + &rwkv.mu * &delta), &rwkv.x_in).tanh();
            let mixed = |i: i64| {
                let part = rwkv.x_out.narrow(1, i * rank, rank);
                &x + (z.narrow(1, i * rank, rank).matmul(&part.tr()) + rwkv.x_bias.get(i)) * &delta
            };
            let [down, up] = &rwkv.w_proj;
            let w = of(&of(&mixed(1), down).tanh(), up) + up.bs.as_ref().expect("a bias");
            let cut = |t: Tensor| t.unflatten(-1, [heads, -1]);
            let r = cut(of(&mixed(0), &rwkv.r_proj)).unsqueeze(-1);
            let k = cut(of(&mixed(2), &rwkv.k_proj)).unsqueeze(-1);
            let v = cut(of(&mixed(3), &rwkv.v_proj)).unsqueeze(-2);
            let now = &state + rwkv.bonus.unsqueeze(-1) * &k * &v;
            let o = (r * now).sum_dim_intlist([2].as_slice(), false, Kind::Double); // [batch, heads, d_v]
            state = state * cut((-w.exp()).exp()).unsqueeze(-1) + k * v;
            let (mean, variance) = (o.mean_dim([-1].as_slice(), true, Kind::Double), o.var_dim(-1, false, true));
            let normal = ((o - mean) / (variance + 1e-5).sqrt()).flatten(1, 2) * &rwkv.norm[0] + &rwkv.norm[1];
            outputs.push(normal * of(&mixed(4), &rwkv.g_proj).silu());
            previous = x;
        }
        layer.project(&Tensor::stack(&outputs, 1), &Context::eval())
    }

    #[test]
    fn the_layer_is_its_plain_twin_in_values_and_gradients() {
        for cfg in [
            Config { n_heads: 2, mix_rank: 3, decay_rank: 4, ..Config::default() },
            Config { n_heads: 2, expand_k: 1.0, expand_v: 1.5, mix_rank: 2, decay_rank: 10 },
        ] {
            let mut vs = VarStore::new(Device::Cpu);
            let layer = cfg.layer(&vs.root(), &Dims { d_model: 8, seq_len: 21, causal: true });
            vs.double();
            tch::no_grad(|| {
                for (salt, mut p) in (0..).zip(vs.trainable_variables()) {
                    let _ = p.g_add_(&(noise(&p.size(), salt) * 0.3));
                }
            });
            let x = noise(&[2, 21, 8], 50).set_requires_grad(true);
            let mut leaves = vs.trainable_variables();
            leaves.push(x.shallow_clone());
            let leaves: Vec<&Tensor> = leaves.iter().collect();
            let (fast, slow) = (layer.forward(&x, &Context::eval()), plain(&layer, &x));
            assert_twins(&fast, &slow, &leaves, 1e-10, &format!("{cfg:?}"));
        }
    }

    #[test]
    fn parameters_start_as_published() {
        let vs = VarStore::new(Device::Cpu);
        let dims = Dims { d_model: 256, seq_len: 8, causal: true };
        let _layer = Config::default().layer(&vs.root(), &dims);
        // Xavier's deviation, by the ends of each map.
        let xavier = |from: f64, to: f64| (-2.5f64).exp2() * (2.0 / (from + to)).sqrt();
        deviations(&vs, |name| match name {
            "r_proj.linear.weight" | "k_proj.linear.weight" => (0.0, xavier(256.0, 128.0)),
            "v_proj.linear.weight" | "g_proj.linear.weight" | "o_proj.weight" => (0.0, xavier(256.0, 256.0)),
            "x_proj.0.linear.weight" | "x_proj.2.weight" => (0.0, xavier(256.0, 160.0)),
            // Orthogonal columns of length 0.1.
            "w_proj.linear.lora.2.weight" => (0.0, 0.1 / 128f64.sqrt()),
            "g_norm.weight" => (1.0, 0.0),
            _ => (0.0, 0.0),
        });
    }

    #[test]
    fn what_cannot_be_built_is_named() {
        let keys = |cfg: Config| -> Vec<&str> {
            cfg.check(&Dims { d_model: 12, seq_len: 8, causal: false }).iter().map(|e| e.key).collect()
        };
        let default = || Config { n_heads: 3, ..Config::default() };
        assert!(keys(default()).is_empty());
        assert_eq!(keys(Config { n_heads: 5, ..default() }), ["expand_k", "expand_v"]);
        assert_eq!(keys(Config { mix_rank: 0, decay_rank: 0, ..default() }), ["mix_rank", "decay_rank"]);
        assert_eq!(keys(Config { mix_rank: 100_000, ..default() }), ["mix_rank"]);
    }
}
