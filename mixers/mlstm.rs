//! mLSTM: the xLSTM layer whose state is a matrix, with exponential input gates, forget gates and a normaliser, stabilised.
//!
//! ```text
//! u | z = proj_up x,   c = SiLU(causal conv1d(u)),   q | k = q_proj c | k_proj c,   v = v_proj u          maps of small blocks
//! i_t = igate [q k v]_t,   f_t = fgate [q k v]_t                       two numbers a head
//! m_t = max(ln σ(f_t) + m_{t-1}, i_t),   m_0 = -∞                      a' = σ(f_t) e^(m_{t-1} - m_t),   i' = e^(i_t - m_t)
//! S_t = a' S_{t-1} + i' k_t v_tᵀ / √d_head,   n_t = a' n_{t-1} + i' k_t / √d_head                 one S and n per head
//! h_t = S_tᵀ q_t / (max(|n_tᵀ q_t|, e^(-m_t)) + 10⁻⁶)
//! y_t = proj_down( (GroupNorm(h_t) (1 + w) + skip · c_t) · SiLU(z_t) )                             a group a head
//! ```
//! Paper    Beck et al. 2024, arXiv:2405.04517, §2.3 (eqs. 19–27), §2.4 (the layer), appendix A.3 (stabilisation)
//! Time     O(length · d_model · (d_model + d_head)), the scan one position after another on a CPU ([`crate::math::decay_scan`])
//! Memory   O(length · d_model) to train; state O(d_model · d_head) to decode, whatever the length
//! Matches  NX-AI/xlstm at 032a6fb, `mLSTMLayer` in its parallel form: outputs and gradients (`fixtures/goldens/mlstm__*`)
//! Departs  the inner width is `expand · d_model` as it is, where the reference rounds up to a multiple of 64; e^(-m) ends at e^80, so
//!          that it stays in float32
//!
//! Bidirectional: a second layer reads from the end ([`crate::math::directions`]).

use crate::core::family::{BenchTarget, ReplayFn, Surroundings};
use crate::laws::goldens::{Golden, GoldenError, Replay};
use crate::math::decay_scan::{self, Read, scan};
use crate::math::directions::{Causal, Directions};
use crate::math::fla::{EPS, by_head, cut, expanded};
use crate::math::short_conv::ShortConv;
use crate::{
    ConfigError, Cost, Dims, Family, Linear, Mixer, NotLinear, Precision, Structure, at_least, dense_map, divides,
    linear_flops,
};
use serde_json::{Value, json};
use tch::Tensor;
use tch::nn::{self, Init};

/// `mixer: { mlstm: { n_heads: 4 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Parallel heads; must divide `expand · d_model`. The state of a head is its width squared. Reference: 4.
    pub n_heads: i64,
    /// Inner width over `d_model`. Reference: 2.
    pub expand: f64,
    /// Channels that the maps to q, k and v join; must divide `expand · d_model`. Reference: 4.
    pub block: i64,
    /// Width of the causal depthwise convolution. Reference: 4.
    pub d_conv: i64,
    /// Bias of `proj_up`, `proj_down` and the maps to q, k and v. Reference: false.
    pub bias: bool,
    /// Layers of the model, by which the initial `proj_down` is divided. Reference: those of the model, 1 in the layer alone.
    pub blocks: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self { n_heads: 4, expand: 2.0, block: 4, d_conv: 4, bias: false, blocks: 1 }
    }
}

impl Family for Config {
    const NAME: &'static str = "mlstm";
    const ABOUT: &'static str = "xLSTM's layer with a matrix for a state, stabilised (Beck et al. 2024)";
    const PAPER: &'static str = "Beck et al. 2024, arXiv:2405.04517, §2.3";
    const COMPLEXITY: &'static str = "time O(length · d_model · (d_model + d_head)), memory O(length · d_model)";
    const VERSION: u32 = 1;
    /// The 125M model, table 10.
    const WIDTH: i64 = 768;
    const BLOCK: Surroundings = Surroundings::NoFfn;

    fn small() -> Value {
        json!({ "n_heads": 2 })
    }

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[("mlstm", replay)]
    }

    fn variants() -> Vec<Value> {
        vec![
            json!({ "bias": true, "d_conv": 2, "blocks": 4 }),
            json!({ "expand": 1.0, "n_heads": 1, "block": 8, "d_conv": 1 }),
        ]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("bias", -200.0), ("weight", 30.0)]
    }

    fn targets() -> Vec<BenchTarget> {
        vec![BenchTarget { label: "mlstm", settings: json!({}), size: [256, 4], time: Some(1.2), reference: None }]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let [d, heads, block, conv] = [dims.d_model, self.n_heads, self.block, self.d_conv].map(|n| n as f64);
        let inner = self.expand * d;
        let one = inner * (3.0 * d + 3.0 * block + conv + 3.0 + 6.0 * heads) + 2.0 * heads;
        let biases = if self.bias { 5.0 * inner + d } else { 0.0 };
        (one + biases) * if dims.causal { 1.0 } else { 2.0 }
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        let whole = expanded("expand", self.expand, 1, dims.d_model);
        let inner = if whole.is_ok() { self.inner(dims.d_model) } else { 0 };
        [
            whole,
            divides("n_heads", self.n_heads, "expand · d_model", inner),
            divides("block", self.block, "expand · d_model", inner),
            at_least("d_conv", self.d_conv, 1),
            at_least("blocks", self.blocks, 1),
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
    fn inner(&self, d_model: i64) -> i64 {
        (self.expand * d_model as f64) as i64
    }

    fn layer(&self, vs: &nn::Path, dims: &Dims) -> Directions<Mlstm> {
        let each = if dims.causal { 1.0 } else { 2.0 };
        let std = 2.0 / self.blocks as f64 / (each * dims.d_model as f64).sqrt();
        let out = |width| Some(normal(vs / "proj_down", width, dims.d_model, std, self.bias));
        Directions::new(vs, dims, |vs| Mlstm::new(vs, dims.d_model, self), "proj_down.weight", out)
    }
}

fn normal(vs: nn::Path, from: i64, to: i64, stdev: f64, bias: bool) -> Linear {
    let ws_init = Init::Randn { mean: 0.0, stdev };
    Linear::new(vs, from, to, nn::LinearConfig { ws_init, bs_init: Some(Init::Const(0.0)), bias })
}

/// A map of blocks of neighbouring channels, each with a matrix of its own: weight `[blocks, block, block]`.
#[derive(Debug)]
struct Blocks {
    weight: Tensor,
    bias: Option<Tensor>,
    precision: Precision,
}

impl Blocks {
    fn new(vs: nn::Path, inner: i64, block: i64, stdev: f64, bias: bool) -> Self {
        let weight = vs.randn("weight", &[inner / block, block, block], 0.0, stdev);
        let bias = bias.then(|| vs.zeros("bias", &[inner]));
        dense_map(&weight, bias.as_ref(), [block, block]);
        Self { weight, bias, precision: Precision::of_builder() }
    }

    /// `[batch, length, inner]` → the same.
    fn apply(&self, x: &Tensor) -> Tensor {
        let [blocks, block, _] = self.weight.size3().expect("three axes").into();
        let cut = self.precision.read(x).reshape([-1, blocks, block]).transpose(0, 1);
        let y = cut.bmm(&self.precision.read(&self.weight).transpose(1, 2)).transpose(0, 1).to_kind(x.kind());
        let y = y.reshape(x.size());
        self.bias.as_ref().map_or_else(|| y.shallow_clone(), |bias| &y + bias)
    }
}

/// Largest -m whose exponential counts.
const MOST: f64 = 80.0;
/// Added to the normaliser.
const NORMALISER_EPS: f64 = 1e-6;

/// One direction; see the head of this file.
#[derive(Debug)]
struct Mlstm {
    proj_up: Linear,
    conv: ShortConv,
    qkv: [Blocks; 3],
    igate: Linear,
    fgate: Linear,
    /// w, a deviation from 1.
    outnorm: Tensor,
    skip: Tensor,
    d_model: i64,
    d_head: i64,
    inner: i64,
    cfg: Config,
}

/// Of every position, before the recurrence.
struct Opened {
    /// q, k (scaled) and v, each `[batch, length, heads, d_head]`.
    qkv: [Tensor; 3],
    /// i and ln σ(f), each `[batch, length, heads, 1]`.
    gates: [Tensor; 2],
    /// c and z, each `[batch, length, inner]`.
    around: [Tensor; 2],
}

impl Mlstm {
    fn new(vs: &nn::Path, d: i64, cfg: &Config) -> Self {
        let inner = cfg.inner(d);
        let std = (0.4 / d as f64).sqrt();
        let cell = vs / "mlstm_cell";
        let gate = |name: &str| {
            let zero = nn::LinearConfig { ws_init: Init::Const(0.0), bs_init: Some(Init::Const(0.0)), bias: true };
            Linear::new(&cell / name, 3 * inner, cfg.n_heads, zero)
        };
        let (igate, fgate) = (gate("igate"), gate("fgate"));
        tch::no_grad(|| {
            let biases = [&igate, &fgate].map(|gate| gate.bs.as_ref().expect("a bias").shallow_clone());
            let [mut of_i, mut of_f] = biases;
            of_f.copy_(&Tensor::linspace(3.0, 6.0, cfg.n_heads, (of_f.kind(), of_f.device())));
            let _ = of_i.normal_(0.0, 0.1);
        });
        Self {
            proj_up: normal(vs / "proj_up", d, 2 * inner, std, cfg.bias),
            conv: ShortConv::new(vs / "conv1d" / "conv", inner, cfg.d_conv, true, true),
            qkv: ["q_proj", "k_proj", "v_proj"].map(|name| Blocks::new(vs / name, inner, cfg.block, std, cfg.bias)),
            igate,
            fgate,
            outnorm: (&cell / "outnorm").zeros("weight", &[inner]),
            skip: vs.ones("learnable_skip", &[inner]),
            d_model: d,
            d_head: inner / cfg.n_heads,
            inner,
            cfg: cfg.clone(),
        }
    }

    fn open(&self, x: &Tensor, convolve: impl FnOnce(&Tensor) -> Tensor) -> Opened {
        let up = x.apply(&self.proj_up);
        let (u, z) = (up.narrow(-1, 0, self.inner).contiguous(), up.narrow(-1, self.inner, self.inner));
        let c = convolve(&u);
        let [of_q, of_k, of_v] = &self.qkv;
        let (q, k, v) = (of_q.apply(&c), of_k.apply(&c), of_v.apply(&u));
        let all = Tensor::cat(&[&q, &k, &v], -1);
        let k = k / (self.d_head as f64).sqrt();
        Opened {
            qkv: [q, k, v].map(|t| cut(&t, self.cfg.n_heads)),
            gates: [all.apply(&self.igate), all.apply(&self.fgate).log_sigmoid()].map(|t| t.unsqueeze(-1)),
            around: [c, z],
        }
    }

    fn whole(&self, x: &Tensor) -> Opened {
        self.open(x, |u| self.conv.apply(u))
    }

    /// h, of what is read with m taken out, and of m.
    fn quotient(&self, sums: &Tensor, m: &Tensor) -> Tensor {
        let normaliser = sums.narrow(-1, self.d_head, 1).abs();
        let least = (-m).clamp_max(MOST).exp();
        sums.narrow(-1, 0, self.d_head) / (normaliser.maximum(&least) + NORMALISER_EPS)
    }

    /// h of every position, `[batch, length, heads, d_head]`.
    fn recall(&self, opened: &Opened) -> Tensor {
        let [q, k, v] = &opened.qkv;
        let Stable { m, kept, written } = Stable::of(&opened.gates);
        self.quotient(&scan(q, k, &widened(v, &written), &kept, Read::After), &m)
    }

    fn finish(&self, h: &Tensor, [c, z]: &[Tensor; 2]) -> Tensor {
        let flat = h.flatten(2, 3);
        let weight = &self.outnorm + 1.0;
        let rows = flat.flatten(0, 1).group_norm(self.cfg.n_heads, Some(&weight), None::<&Tensor>, EPS, false);
        (rows.view_as(&flat) + &self.skip * c) * z.silu()
    }
}

/// `written` v, and `written` itself, which gathers n beside S: `[…, d_head + 1]`.
fn widened(v: &Tensor, written: &Tensor) -> Tensor {
    Tensor::cat(&[&(v * written), written], -1)
}

/// m, a' and i' of every position, each `[batch, length, heads, 1]`.
struct Stable {
    m: Tensor,
    kept: Tensor,
    written: Tensor,
}

impl Stable {
    /// With F the running sum of ln σ(f), m is F plus the largest i - F so far.
    fn of([i, f]: &[Tensor; 2]) -> Self {
        let sum = f.cumsum(1, f.kind());
        let m = (i - &sum).cummax(1).0 + sum;
        // Before the first position nothing is kept.
        let before = m.narrow(1, 0, m.size()[1] - 1).constant_pad_nd([0, 0, 0, 0, 1, 0]);
        Self { kept: (f + before - &m).exp(), written: (i - &m).exp(), m }
    }
}

impl Causal for Mlstm {
    fn features(&self, x: &Tensor) -> Tensor {
        let opened = self.whole(x);
        self.finish(&self.recall(&opened), &opened.around)
    }

    fn width(&self) -> i64 {
        self.inner
    }

    fn heads(&self) -> i64 {
        self.cfg.n_heads
    }

    fn matrix(&self, x: &Tensor) -> Result<Tensor, NotLinear> {
        let Opened { qkv: [q, k, _], gates, .. } = self.whole(x);
        let Stable { m, kept, written } = Stable::of(&gates);
        let weights = decay_scan::matrix(&q, &k, &kept, Read::After) * by_head(&written).transpose(-2, -1);
        let sums = weights.sum_dim_intlist([-1].as_slice(), true, weights.kind()).abs();
        Ok(weights / (sums.maximum(&by_head(&m).neg().clamp_max(MOST).exp()) + NORMALISER_EPS))
    }

    fn values(&self, x: &Tensor) -> Result<(Tensor, Tensor), NotLinear> {
        let opened = self.whole(x);
        Ok((by_head(&opened.qkv[2]), by_head(&self.recall(&opened))))
    }

    fn structure(&self) -> Structure {
        Structure::Quasiseparable(self.d_head)
    }

    /// S with n as its last column, m, and the last inputs of the convolution.
    fn start(&self, batch: i64) -> Vec<Tensor> {
        let like = (self.skip.kind(), self.skip.device());
        let (heads, d) = (self.cfg.n_heads, self.d_head);
        let m = Tensor::full([batch, 1, heads, 1], f64::NEG_INFINITY, like);
        vec![Tensor::zeros([batch, heads, d, d + 1], like), m, self.conv.start(batch)]
    }

    fn step(&self, x: &Tensor, state: &mut [Tensor], _at: i64) -> Tensor {
        let [state, m, window] = state else { unreachable!("a state, m and a window") };
        let Opened { qkv: [q, k, v], gates: [i, f], around } = self.open(x, |u| self.conv.step(u, window));
        let now = (&f + &*m).maximum(&i);
        let (kept, written) = ((f + &*m - &now).exp(), (i - &now).exp());
        let v = widened(&v, &written);
        let (sums, next) = decay_scan::step(state, &[q, k, v, kept], Read::After);
        let h = self.quotient(&sums, &now);
        (*state, *m) = (next, now);
        self.finish(&h, &around)
    }

    fn cost(&self, length: i64) -> Cost {
        let (d, inner, heads) = (self.d_model, self.inner, self.cfg.n_heads);
        let maps = 2 * inner * d + 3 * inner * self.cfg.block + 6 * inner * heads;
        let biases = if self.cfg.bias { 5 * inner } else { 0 };
        Cost {
            params: maps + 2 * heads + biases + inner * (self.cfg.d_conv + 3),
            state_bytes: 4 * (inner * (self.d_head + 1) + heads + (self.cfg.d_conv - 1) * inner),
            flops: 2 * length * (maps + inner * self.cfg.d_conv) + 2 * linear_flops(length, inner, self.d_head + 1),
        }
    }
}

/// A whole layer: `mlstm__*`. Absent keys are the defaults of the reference's class.
pub fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    let cfg = Config {
        n_heads: golden.int_or("num_heads", 4)?,
        expand: golden.number_or("proj_factor", 2.0)?,
        block: golden.int_or("qkv_proj_blocksize", 4)?,
        d_conv: golden.int_or("conv1d_kernel_size", 4)?,
        bias: golden.flag_or("bias", false)?,
        blocks: 1,
    };
    golden.dropout(&["dropout"])?;
    golden.only("causal", &[true])?;
    golden.without_effect(&["context_length"]);
    let size = golden.axes("input.x", &["batch", "L", "d_model"])?;
    let dims = Dims { d_model: size[2], seq_len: size[1], causal: true };
    golden.settings(&cfg, &dims)?;
    golden.agrees("inner_dim", cfg.inner(dims.d_model), "`proj_factor` and `d_model` say")?;
    golden.replay_layer("x", |vs| cfg.layer(vs, &dims))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::{assert_twins, deviations, noise};
    use tch::nn::VarStore;
    use tch::{Device, Kind};

    /// h by the equations without stabilisation, one position after another; everything `[batch, length, heads, ·]`.
    fn plain([q, k, v]: &[Tensor; 3], [i, f]: &[Tensor; 2]) -> Tensor {
        let [batch, length, heads, d] = q.size4().expect("four axes").into();
        let like = (Kind::Double, Device::Cpu);
        let mut state = Tensor::zeros([batch, heads, d, d], like);
        let mut n = Tensor::zeros([batch, heads, d], like);
        let mut m = Tensor::full([batch, heads, 1], f64::NEG_INFINITY, like);
        let mut outputs = Vec::new();
        for t in 0..length {
            let [q, k, v, i, f] = [q, k, v, i, f].map(|of| of.select(1, t));
            state = state * f.exp().unsqueeze(-1) + i.exp().unsqueeze(-1) * k.unsqueeze(-1) * v.unsqueeze(-2);
            n = n * f.exp() + i.exp() * k;
            m = (f + m).maximum(&i);
            let read = (&state * q.unsqueeze(-1)).sum_dim_intlist([2].as_slice(), false, Kind::Double);
            let normaliser = (&n * q).sum_dim_intlist([-1].as_slice(), true, Kind::Double).abs();
            // The constant is added where m has been taken out.
            outputs.push(read / (normaliser.maximum(&normaliser.ones_like()) + m.exp() * NORMALISER_EPS));
        }
        Tensor::stack(&outputs, 1)
    }

    #[test]
    fn the_stabilised_cell_is_the_plain_one_in_values_and_gradients() {
        let vs = VarStore::new(Device::Cpu);
        let cfg = Config { n_heads: 2, expand: 1.0, ..Config::default() };
        let layer = cfg.layer(&vs.root(), &Dims { d_model: 8, seq_len: 21, causal: true });
        let leaf = |width: i64, salt| noise(&[2, 21, 2, width], salt).set_requires_grad(true);
        let (q, k, v) = (leaf(4, 1), leaf(4, 2), leaf(4, 3));
        // Input gates, and logarithms of forget gates.
        let i = (noise(&[2, 21, 2, 1], 4) * 3.0).set_requires_grad(true);
        let f = (noise(&[2, 21, 2, 1], 5) * 4.0).log_sigmoid().set_requires_grad(true);
        let opened = Opened {
            qkv: [&q, &k, &v].map(Tensor::shallow_clone),
            gates: [&i, &f].map(Tensor::shallow_clone),
            around: [Tensor::new(), Tensor::new()],
        };
        let slow = plain(&opened.qkv, &opened.gates);
        assert_twins(&layer.ahead().recall(&opened), &slow, &[&q, &k, &v, &i, &f], 1e-10, "the cell");
    }

    #[test]
    fn parameters_start_as_published() {
        let vs = VarStore::new(Device::Cpu);
        let dims = Dims { d_model: 256, seq_len: 8, causal: true };
        let layer = Config { blocks: 3, ..Config::default() }.layer(&vs.root(), &dims);
        let forget = layer.ahead().fgate.bs.as_ref().expect("a bias").shallow_clone();
        assert!(forget.allclose(&Tensor::from_slice(&[3.0f32, 4.0, 5.0, 6.0]), 1e-6, 0.0, false), "{forget}");
        deviations(&vs, |name| match name {
            "proj_down.weight" => (0.0, 2.0 / 3.0 / 16.0),
            "mlstm_cell.fgate.bias" => (4.5, 1.25f64.sqrt()),
            "mlstm_cell.igate.bias" => (0.0, 0.1),
            "learnable_skip" => (1.0, 0.0),
            name if name.starts_with("conv1d") => (0.0, 0.5 / 3f64.sqrt()), // U(±1/√4)
            name if name.starts_with("mlstm_cell") => (0.0, 0.0),
            _ => (0.0, (0.4f64 / 256.0).sqrt()),
        });
    }

    #[test]
    fn what_cannot_be_built_is_named() {
        let keys = |cfg: Config| -> Vec<&str> {
            cfg.check(&Dims { d_model: 12, seq_len: 8, causal: false }).iter().map(|e| e.key).collect()
        };
        let default = Config::default;
        assert!(keys(default()).is_empty());
        assert_eq!(keys(Config { n_heads: 5, block: 7, ..default() }), ["n_heads", "block"]);
        assert_eq!(keys(Config { expand: 0.3, ..default() })[0], "expand");
        assert_eq!(keys(Config { d_conv: 0, blocks: 0, ..default() }), ["d_conv", "blocks"]);
    }
}
