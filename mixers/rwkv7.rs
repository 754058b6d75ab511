//! RWKV-7: a state that decays channel by channel, takes back what a key of its own finds, and writes; mixes of each token with the one
//! before it.
//!
//! ```text
//! Δ_t = x_{t-1} - x_t,   x^r_t = x_t + x_r ⊙ Δ_t,  and w, k, v, a, g alike
//! r = r_proj x^r,   k' = k_proj x^k,   v = v_proj x^v,   b = σ(a_lora x^a),   g = g_lora.2 σ(g_lora.0 x^g)
//! k̂ = k' ⊙ k_k with length 1 per head,   k = k' ⊙ (1 + (b - 1) ⊙ k_a),   a = exp(-e^-½ σ(w_lora.2 tanh(w_lora.0 x^w)))
//! S_t = diag(a_t) S_{t-1} - (b_t ⊙ k̂_t)(S_{t-1}ᵀ k̂_t)ᵀ + k_t v_tᵀ,   o_t = S_tᵀ r_t               one state [d_head, d_head] per head
//! y_t = o_proj( (GroupNorm(o_t) + (Σ_c r_t r_k k_t) v_t) ⊙ g_t )                                     a group a head
//! M = the scan with unit vectors for values                                                          quasiseparable of rank d_head
//! ```
//! Paper    Peng et al. 2025, arXiv:2503.14456, §4 (equations), appendix E (initial values) [sections recalled]
//! Time     O(length · d_model · (d_model + d_head)), the scan one position after another on a CPU ([`crate::math::delta_scan`])
//! Memory   O(length · d_model) to train; state O(d_model · d_head) to decode, whatever the length
//! Matches  fla-org/flash-linear-attention at bc3b101, `RWKV7Attention` with its naive recurrence: outputs and gradients
//!          (`fixtures/goldens/rwkv7__*`)
//! Departs  values of the first layer do not reach later ones, since a mixer sees no other layer: every layer is as the reference's first
//!          (later ones are replayed, given those values). A layer does not know its place: `layer` and `layers` say it for initial values
//!
//! Bidirectional: a second layer reads from the end ([`crate::math::directions`]).

use crate::core::family::{BenchTarget, ReplayFn};
use crate::laws::goldens::{Golden, GoldenError, Replay};
use crate::math::delta_scan::Inputs;
use crate::math::directions::{Causal, Directions};
use crate::math::fla::{EPS, by_head, cut};
use crate::math::heads::Scan;
use crate::{
    ConfigError, Context, Cost, Dims, Family, Linear, Mixer, NotLinear, Structure, at_least, divides, linear_flops,
};
use serde_json::{Value, json};
use tch::Tensor;
use tch::nn::{self, Init, VarStore};

/// `mixer: { rwkv7: { n_heads: 4 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Parallel heads; must divide `d_model`. Reference: heads of 64 channels.
    pub n_heads: i64,
    /// Width of the bottleneck of the decay; null is the reference's, 2.5 √d_model · d_head / 64 in steps of 32, at least 32.
    pub decay_rank: Option<i64>,
    /// Width of the bottleneck of b; null is as of the decay.
    pub rate_rank: Option<i64>,
    /// Width of the bottleneck of the gate; null is the reference's, 5 √d_model in steps of 32, at least 32.
    pub gate_rank: Option<i64>,
    /// Place of the layer, from 0, that initial values belong to.
    pub layer: i64,
    /// Layers of the model that initial values belong to. Reference: 12 in the smallest released model.
    pub layers: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self { n_heads: 4, decay_rank: None, rate_rank: None, gate_rank: None, layer: 0, layers: 12 }
    }
}

impl Family for Config {
    const NAME: &'static str = "rwkv7";
    const ABOUT: &'static str = "RWKV-7 (Goose): decay a channel, and a key that takes back (Peng et al. 2025)";
    const PAPER: &'static str = "Peng et al. 2025, arXiv:2503.14456, §4";
    const COMPLEXITY: &'static str = "time O(length · d_model · (d_model + d_head)), memory O(length · d_model)";
    const VERSION: u32 = 1;
    /// The width of the reference's layer by default.
    const WIDTH: i64 = 1024;
    const TRAINING_ONLY: &'static [&'static str] = &["layer", "layers"];

    fn small() -> Value {
        json!({ "n_heads": 2, "decay_rank": 3, "rate_rank": 2, "gate_rank": 4 })
    }

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[("rwkv7", replay)]
    }

    fn variants() -> Vec<Value> {
        vec![
            json!({ "n_heads": 1, "layer": 3, "layers": 4 }),
            json!({ "decay_rank": 7, "rate_rank": 5, "gate_rank": 2 }),
        ]
    }

    fn unsteady() -> Vec<(Value, &'static str)> {
        const WHY: &str = "the last map starts at 0, as published: a layer is silent at every width";
        [vec![json!({})], Self::variants()].concat().into_iter().map(|variant| (variant, WHY)).collect()
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("bias", 30.0)]
    }

    fn targets() -> Vec<BenchTarget> {
        vec![BenchTarget { label: "rwkv7", settings: json!({}), size: [256, 4], time: Some(2.0), reference: None }]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let d = dims.d_model as f64;
        let ranks: f64 = self.ranks(dims.d_model).iter().map(|rank| *rank as f64).sum();
        let one = d * (4.0 * d + 2.0 * ranks + 13.0);
        one * if dims.causal { 1.0 } else { 2.0 }
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        let mut wrong: Vec<ConfigError> = [
            divides("n_heads", self.n_heads, "d_model", dims.d_model),
            at_least("decay_rank", self.decay_rank.unwrap_or(1), 1),
            at_least("rate_rank", self.rate_rank.unwrap_or(1), 1),
            at_least("gate_rank", self.gate_rank.unwrap_or(1), 1),
            at_least("layers", self.layers, 2),
        ]
        .into_iter()
        .filter_map(Result::err)
        .collect();
        if !(0..self.layers.max(1)).contains(&self.layer) {
            let problem = format!("`layer` is {}, and there are {} layers, from 0", self.layer, self.layers);
            let help = "use a number from 0, below `layers`".into();
            wrong.push(ConfigError { key: "layer", problem, help });
        }
        wrong
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(self.layer(vs, dims))
    }
}

impl Config {
    /// Of the decay, of b and of the gate.
    fn ranks(&self, d_model: i64) -> [i64; 3] {
        let root = (d_model as f64).sqrt();
        let of_heads = d_model as f64 / (self.n_heads.max(1) as f64 * 64.0);
        let decay = self.decay_rank.unwrap_or_else(|| in_steps(2.5 * root * of_heads));
        let rate = self.rate_rank.unwrap_or_else(|| in_steps(2.5 * root * of_heads));
        [decay, rate, self.gate_rank.unwrap_or_else(|| in_steps(5.0 * root))]
    }

    fn layer(&self, vs: &nn::Path, dims: &Dims) -> Directions<Rwkv7> {
        let silent = nn::LinearConfig { ws_init: Init::Const(0.0), bs_init: None, bias: false };
        let out = |width| Some(Linear::new(vs / "o_proj", width, dims.d_model, silent));
        Directions::new(vs, dims, |vs| Rwkv7::new(vs, dims.d_model, self), "o_proj.weight", out)
    }
}

/// The nearest multiple of 32, at least one.
fn in_steps(rank: f64) -> i64 {
    ((rank / 32.0).round_ties_even() as i64 * 32).max(32)
}

/// A bottleneck: into it, zero at first, and out of it, orthogonal.
#[derive(Debug)]
struct LowRank([Linear; 2]);

impl LowRank {
    /// `rank` channels between `d` and as many, with a bias that starts at `bias`, or none.
    fn new(vs: &nn::Path, d: i64, rank: i64, bias: Option<&[f64]>) -> Self {
        let vs = vs / "lora";
        let zero = nn::LinearConfig { ws_init: Init::Const(0.0), bs_init: None, bias: false };
        let gain = 0.1 * (rank as f64 / d as f64).sqrt().max(1.0);
        let ws_init = Init::Orthogonal { gain };
        let out = nn::LinearConfig { ws_init, bs_init: Some(Init::Const(0.0)), bias: bias.is_some() };
        let up = Linear::new(&vs / "2", rank, d, out);
        if let (Some(values), Some(bs)) = (bias, &up.bs) {
            tch::no_grad(|| bs.shallow_clone().copy_(&Tensor::from_slice(values)));
        }
        Self([Linear::new(&vs / "0", d, rank, zero), up])
    }

    fn apply(&self, x: &Tensor, inside: impl FnOnce(Tensor) -> Tensor) -> Tensor {
        let [down, up] = &self.0;
        inside(x.apply(down)).apply(up)
    }
}

/// The names of the mixes, in our order, and the powers by which they start.
const MIXES: [(&str, f64); 6] = [("x_r", 0.2), ("x_w", 0.9), ("x_k", 0.7), ("x_v", 0.7), ("x_a", 0.9), ("x_g", 0.2)];

/// One direction; see the head of this file.
#[derive(Debug)]
struct Rwkv7 {
    /// Each `[1, 1, d_model]`.
    mixes: Vec<Tensor>,
    r_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    w_lora: LowRank,
    a_lora: LowRank,
    g_lora: LowRank,
    /// The share of the first layer's values, and those values: in replays of later layers.
    first: Option<(LowRank, Tensor)>,
    k_k: Tensor,
    k_a: Tensor,
    /// `[heads, d_head]`.
    r_k: Tensor,
    norm: [Tensor; 2],
    d_model: i64,
    d_head: i64,
    ranks: [i64; 3],
    cfg: Config,
}

/// What the scan reads, and what is done with its output.
struct Read {
    scan: Inputs,
    gate: Tensor,
}

impl Rwkv7 {
    fn new(vs: &nn::Path, d: i64, cfg: &Config) -> Self {
        let (heads, d_head) = (cfg.n_heads, d / cfg.n_heads);
        let ranks = cfg.ranks(d);
        let (place, layers) = (cfg.layer as f64, cfg.layers as f64);
        let (share, left) = (place / (layers - 1.0), 1.0 - place / layers);
        let filled = |name: &str, shape: &[i64], of: &dyn Fn(f64) -> f64| {
            let mut t = vs.zeros(name, shape);
            let values: Vec<f64> = (0..d).map(|c| of(c as f64)).collect();
            tch::no_grad(|| t.copy_(&Tensor::from_slice(&values).view(shape)));
            t
        };
        let last = (d - 1).max(1) as f64;
        let line = |c: f64| c / last - 0.5;
        let half = (d_head - 1).max(1) as f64 / 2.0;
        let zigzag = |c: f64| {
            let z = (c % d_head as f64 - half) / half;
            z * z.abs()
        };
        let along = |of: &dyn Fn(f64) -> f64| -> Vec<f64> { (0..d).map(|c| of(c as f64)).collect() };
        let decays = along(&|c| -5.5 + 6.0 * (c / last).powf(1.0 + share.powf(0.3)) + 2.5 * zigzag(c));
        let rates = along(&|c| -0.19 + 0.3 * zigzag(c) + 0.4 * line(c));
        let orthogonal = |name: &str, gain: f64| {
            let config = nn::LinearConfig { ws_init: Init::Orthogonal { gain }, bs_init: None, bias: false };
            Linear::new(vs / name, d, d, config)
        };
        let norm = vs / "g_norm";
        Self {
            mixes: MIXES
                .iter()
                .map(|(name, power)| filled(name, &[1, 1, d], &|c| 1.0 - (c / d as f64).powf(power * left)))
                .collect(),
            r_proj: orthogonal("r_proj", 1.0),
            k_proj: orthogonal("k_proj", 0.1),
            v_proj: orthogonal("v_proj", 1.0),
            w_lora: LowRank::new(&(vs / "w_lora"), d, ranks[0], Some(&decays)),
            a_lora: LowRank::new(&(vs / "a_lora"), d, ranks[1], Some(&rates)),
            g_lora: LowRank::new(&(vs / "g_lora"), d, ranks[2], None),
            first: None,
            k_k: filled("k_k", &[d], &|c| 0.71 - 0.1 * line(c)),
            k_a: vs.var("k_a", &[d], Init::Const(1.02)),
            r_k: vs.var("r_k", &[heads, d_head], Init::Const(-0.04)),
            norm: [norm.var("weight", &[d], Init::Const(((place + 1.0) / layers).powf(0.7))), norm.zeros("bias", &[d])],
            d_model: d,
            d_head,
            ranks,
            cfg: cfg.clone(),
        }
    }

    /// Of `x` and the token before each, `[batch, length, d_model]`.
    fn read(&self, x: &Tensor, previous: &Tensor) -> Read {
        let (delta, heads) = (previous - x, self.cfg.n_heads);
        let moved: Vec<Tensor> = self.mixes.iter().map(|mix| x + &delta * mix).collect();
        let [of_r, of_w, of_k, of_v, of_a, of_g] = moved.as_slice() else { unreachable!("six mixes") };
        let v = of_v.apply(&self.v_proj);
        let v = match &self.first {
            None => v,
            Some((share, first)) => v.lerp_tensor(first, &share.apply(of_v, |t| t).sigmoid()),
        };
        let raw = of_k.apply(&self.k_proj);
        let rate = self.a_lora.apply(of_a, |t| t).sigmoid();
        let key = cut(&(&raw * &self.k_k), heads);
        let key = &key / key.norm_scalaropt_dim(2.0, [-1].as_slice(), true).clamp_min(1e-12);
        let w = self.w_lora.apply(of_w, |t| t.tanh()).sigmoid() * -(-0.5f64).exp();
        let written = &raw * ((&rate - 1.0) * &self.k_a + 1.0);
        let scan = Inputs {
            q: cut(&of_r.apply(&self.r_proj), heads),
            w: cut(&written, heads),
            e: Some(&key * cut(&rate, heads)),
            r: key,
            v: cut(&v, heads),
            a: cut(&w.exp(), heads),
        };
        Read { scan, gate: self.g_lora.apply(of_g, |t| t.sigmoid()) }
    }

    fn whole(&self, x: &Tensor) -> Read {
        let length = x.size()[1];
        self.read(x, &x.narrow(1, 0, length - 1).constant_pad_nd([0, 0, 1, 0]))
    }

    fn finish(&self, o: &Tensor, Read { scan, gate }: &Read) -> Tensor {
        let [weight, bias] = &self.norm;
        let flat = o.flatten(2, 3);
        let eps = EPS * self.d_head as f64;
        let rows = flat.flatten(0, 1).group_norm(self.cfg.n_heads, Some(weight), Some(bias), eps, false);
        let bonus = (&scan.q * &scan.w * &self.r_k).sum_dim_intlist([-1].as_slice(), true, o.kind()) * &scan.v;
        (rows.view_as(&flat) + bonus.flatten(2, 3)) * gate
    }
}

impl Causal for Rwkv7 {
    fn features(&self, x: &Tensor) -> Tensor {
        let read = self.whole(x);
        self.finish(&read.scan.outputs(), &read)
    }

    fn width(&self) -> i64 {
        self.d_model
    }

    fn heads(&self) -> i64 {
        self.cfg.n_heads
    }

    /// Of o, in front of the norm; the bonus comes behind it.
    fn matrix(&self, x: &Tensor) -> Result<Tensor, NotLinear> {
        self.whole(x).scan.matrix()
    }

    fn values(&self, x: &Tensor) -> Result<(Tensor, Tensor), NotLinear> {
        let scan = self.whole(x).scan;
        Ok((by_head(&scan.v), by_head(&scan.outputs())))
    }

    fn structure(&self) -> Structure {
        Structure::Quasiseparable(self.d_head)
    }

    fn start(&self, batch: i64) -> Vec<Tensor> {
        let like = (self.k_k.kind(), self.k_k.device());
        let state = Tensor::zeros([batch, self.cfg.n_heads, self.d_head, self.d_head], like);
        vec![state, Tensor::zeros([batch, 1, self.d_model], like)]
    }

    fn step(&self, x: &Tensor, state: &mut [Tensor], _at: i64) -> Tensor {
        let [state, previous] = state else { unreachable!("a state and the token before") };
        let read = self.read(x, previous);
        let (o, next) = read.scan.advance(state);
        (*state, *previous) = (next, x.shallow_clone());
        self.finish(&o, &read)
    }

    fn cost(&self, length: i64) -> Cost {
        let (d, ranks) = (self.d_model, self.ranks.iter().sum::<i64>());
        let maps = d * (3 * d + 2 * ranks);
        Cost {
            params: maps + (MIXES.len() as i64 + 7) * d,
            state_bytes: 4 * d * (self.d_head + 1),
            flops: 2 * length * maps + 4 * linear_flops(length, d, self.d_head),
        }
    }
}

/// A whole layer, with the first layer's values where it is a later one: `rwkv7__*`. Absent keys are the defaults of the reference's class.
pub fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    let size = golden.axes("input.x", &["batch", "L", "hidden_size"])?;
    let dims = Dims { d_model: size[2], seq_len: size[1], causal: true };
    let d_head = golden.int_or("head_dim", 64)?;
    if d_head < 1 || d_head > size[2] {
        return Err(golden.malformed(format!("config `head_dim` is {d_head}, and `hidden_size` is {}", size[2])));
    }
    let cfg = Config {
        n_heads: size[2] / d_head,
        decay_rank: golden.setting("decay_low_rank_dim", None)?,
        rate_rank: golden.setting("a_low_rank_dim", None)?,
        gate_rank: golden.setting("gate_low_rank_dim", None)?,
        ..Config::default()
    };
    golden.agrees("num_heads", cfg.n_heads, "`hidden_size` and `head_dim` say")?;
    golden.only("norm_eps", &[EPS])?;
    let eps = golden.number_or("group_norm_eps", EPS * d_head as f64)?;
    if (eps / (EPS * d_head as f64) - 1.0).abs() > 1e-9 {
        return Err(GoldenError::Unsupported(format!(
            "config `group_norm_eps` is {eps}; replayed is 1e-5 · `head_dim` alone"
        )));
    }
    golden.only("causal", &[true])?;
    golden.only("elementwise_affine", &[true])?;
    golden.without_effect(&["mode", "fuse_norm", "num_hidden_layers"]);
    golden.settings(&cfg, &dims)?;
    let x = golden.input("x")?;
    let mut vs = VarStore::new(golden.device);
    let mut layer = cfg.layer(&vs.root(), &dims);
    let first = if golden.int_or("layer_idx", 0)? > 0 {
        golden.axes("input.v_first", &["batch", "L", "hidden_size"])?;
        let (rank, first) = (golden.size("v_low_rank_dim", "gate_rank")?, golden.input("v_first")?);
        let share = LowRank::new(&(vs.root() / "v_lora"), size[2], rank, Some(&vec![0.0; size[2] as usize]));
        layer.ahead_mut().first = Some((share, first.shallow_clone()));
        Some(first)
    } else {
        golden.without_effect(&["v_low_rank_dim"]);
        None
    };
    golden.fill(&mut vs)?;
    let y = layer.forward(&x, &Context::eval());
    let values = layer.ahead().whole(&x).scan.v.flatten(2, 3);
    match &first {
        None => golden.replay(&[("y", &y), ("v_first", &values)], &[("x", &x)], Some(&vs)),
        Some(first) => golden.replay(&[("y", &y)], &[("x", &x), ("v_first", first)], Some(&vs)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::{assert_twins, deviations, noise};
    use tch::{Device, Kind};

    /// The equations as they stand, one position after another.
    fn plain(layer: &Directions<Rwkv7>, x: &Tensor) -> Tensor {
        let rwkv = layer.ahead();
        let (heads, d, d_head) = (rwkv.cfg.n_heads, rwkv.d_model, rwkv.d_head);
        let batch = x.size()[0];
        let of = |t: &Tensor, map: &Linear| {
            let y = t.matmul(&map.ws.tr());
            map.bs.as_ref().map_or_else(|| y.shallow_clone(), |bias| &y + bias)
        };
        let by_head = |t: &Tensor| t.view([batch, heads, d_head]);
        let mut state = Tensor::zeros([batch, heads, d_head, d_head], (Kind::Double, Device::Cpu));
        let mut previous = Tensor::zeros([batch, d], (Kind::Double, Device::Cpu));
        let mut outputs = Vec::new();
        for t in 0..x.size()[1] {
            let x = x.select(1, t);
            let mixed = |i: usize| &x + (&previous - &x) * rwkv.mixes[i].view([1, d]);
            let through = |i: usize, low_rank: &LowRank, f: fn(&Tensor) -> Tensor| {
                of(&f(&of(&mixed(i), &low_rank.0[0])), &low_rank.0[1])
            };
            let r = by_head(&of(&mixed(0), &rwkv.r_proj));
            let raw = of(&mixed(2), &rwkv.k_proj);
            let v = by_head(&of(&mixed(3), &rwkv.v_proj));
            let rate = through(4, &rwkv.a_lora, |t| t.shallow_clone()).sigmoid();
            let decay = (through(1, &rwkv.w_lora, |t| t.tanh()).sigmoid() * -(-0.5f64).exp()).exp();
            let gate = through(5, &rwkv.g_lora, |t| t.sigmoid());
            let key = by_head(&(&raw * &rwkv.k_k));
            let key = &key / key.square().sum_dim_intlist([-1].as_slice(), true, Kind::Double).sqrt();
            let k = by_head(&(&raw * (1.0 + (&rate - 1.0) * &rwkv.k_a)));
            let transition =
                by_head(&decay).diag_embed(0, -2, -1) - (by_head(&rate) * &key).unsqueeze(-1) * key.unsqueeze(-2);
            state = transition.matmul(&state) + k.unsqueeze(-1) * v.unsqueeze(-2);
            let o = (&state * r.unsqueeze(-1)).sum_dim_intlist([2].as_slice(), false, Kind::Double);
            let (mean, variance) = (o.mean_dim([-1].as_slice(), true, Kind::Double), o.var_dim(-1, false, true));
            let eps = 1e-5 * d_head as f64;
            let normal = ((o - mean) / (variance + eps).sqrt()).flatten(1, 2) * &rwkv.norm[0] + &rwkv.norm[1];
            let bonus = (r * k * &rwkv.r_k).sum_dim_intlist([-1].as_slice(), true, Kind::Double) * v;
            outputs.push((normal + bonus.flatten(1, 2)) * gate);
            previous = x;
        }
        layer.project(&Tensor::stack(&outputs, 1), &Context::eval())
    }

    #[test]
    fn the_layer_is_its_plain_twin_in_values_and_gradients() {
        let ranks = Config { decay_rank: Some(3), rate_rank: Some(2), gate_rank: Some(4), ..Config::default() };
        for n_heads in [1, 2] {
            let mut vs = VarStore::new(Device::Cpu);
            let dims = Dims { d_model: 8, seq_len: 21, causal: true };
            let layer = Config { n_heads, ..ranks.clone() }.layer(&vs.root(), &dims);
            vs.double();
            tch::no_grad(|| {
                for (salt, mut p) in (0..).zip(vs.trainable_variables()) {
                    p.copy_(&noise(&p.size(), salt));
                }
            });
            let x = noise(&[2, 21, 8], 50).set_requires_grad(true);
            let mut leaves = vs.trainable_variables();
            leaves.push(x.shallow_clone());
            let leaves: Vec<&Tensor> = leaves.iter().collect();
            let (fast, slow) = (layer.forward(&x, &Context::eval()), plain(&layer, &x));
            assert_twins(&fast, &slow, &leaves, 1e-10, &format!("{n_heads} heads"));
        }
    }

    #[test]
    fn parameters_start_as_published() {
        let vs = VarStore::new(Device::Cpu);
        let cfg = Config { layer: 3, layers: 9, ..Config::default() };
        let _layer = cfg.layer(&vs.root(), &Dims { d_model: 128, seq_len: 8, causal: true });
        let named = vs.variables();
        // Channel 100 of 128, the 5th of the last of four heads of 32, in the fourth of nine layers.
        let (c, line, zigzag): (f64, f64, f64) = (100.0, 100.0 / 127.0 - 0.5, (4.0 - 15.5) / 15.5);
        let zigzag = zigzag * zigzag.abs();
        let share: f64 = 3.0 / 8.0;
        let expected = [
            ("x_r", 1.0 - (c / 128.0).powf(0.2 * 6.0 / 9.0)),
            ("x_a", 1.0 - (c / 128.0).powf(0.9 * 6.0 / 9.0)),
            ("k_k", 0.71 - 0.1 * line),
            ("w_lora.lora.2.bias", -5.5 + 6.0 * (c / 127.0).powf(1.0 + share.powf(0.3)) + 2.5 * zigzag),
            ("a_lora.lora.2.bias", -0.19 + 0.3 * zigzag + 0.4 * line),
            ("g_norm.weight", (4.0f64 / 9.0).powf(0.7)),
        ];
        for (name, want) in expected {
            let got = named[name].flatten(0, -1).double_value(&[100]);
            assert!((got - want).abs() < 1e-5, "`{name}` is {got}, not {want}");
        }
        let own = |name: &str| {
            let values = named[name].to_kind(Kind::Double);
            (values.mean(Kind::Double).double_value(&[]), values.std(false).double_value(&[]))
        };
        deviations(&vs, |name| match name {
            "k_a" => (1.02, 0.0),
            "r_k" => (-0.04, 0.0),
            // Orthogonal: entries of deviation gain / √128, gain 0.1 for keys and bottlenecks.
            "r_proj.weight" | "v_proj.weight" => (0.0, 1.0 / 128f64.sqrt()),
            "k_proj.weight" => (0.0, 0.1 / 128f64.sqrt()),
            name if name.ends_with("lora.2.weight") => (0.0, 0.1 / 128f64.sqrt()),
            name if name.ends_with("lora.0.weight") || name == "o_proj.weight" || name == "g_norm.bias" => (0.0, 0.0),
            name => own(name),
        });
    }

    #[test]
    fn what_cannot_be_built_is_named() {
        let keys = |cfg: Config| -> Vec<&str> {
            cfg.check(&Dims { d_model: 12, seq_len: 8, causal: false }).iter().map(|e| e.key).collect()
        };
        let default = Config::default;
        assert!(keys(default()).is_empty());
        assert_eq!(keys(Config { n_heads: 5, gate_rank: Some(0), ..default() }), ["n_heads", "gate_rank"]);
        assert_eq!(keys(Config { n_heads: 0, ..default() }), ["n_heads"]);
        assert_eq!(keys(Config { layer: 12, ..default() }), ["layer"]);
        assert_eq!(keys(Config { layer: -1, layers: 1, ..default() }), ["layers", "layer"]);
    }
}
