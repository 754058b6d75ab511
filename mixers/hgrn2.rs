//! HGRN2: a gated linear recurrence whose keys are what the state forgets, expanded to a matrix by outer products.
//!
//! ```text
//! q | f | i = q_proj x | f_proj x | i_proj x                     where asked: a short causal convolution of each
//! a_t = l + (1 - l) σ(f_t),   k_t = 1 - a_t                      l: least share of the state that is kept
//! S_t = diag(a_t) S_{t-1} + k_t i_tᵀ,   o_t = S_tᵀ SiLU(q_t) / √d_head      one state [d_head, d_head] per head
//! y_t = o_proj( RMSNorm(o_t) )                                   norm over all heads together
//! M[t,s] = Σ_c SiLU(q_t)[c] k_s[c] Π_{s<r≤t} a_r[c] / √d_head    for s ≤ t
//! ```
//! Paper    Qin et al. 2024, arXiv:2404.07904, §3.2 (eqs. 6, 7)
//! Time     O(length · d_model · (d_model + d_head)), the scan one position after another on a CPU ([`crate::math::decay_scan`])
//! Memory   O(length · d_model) to train; state O(d_model · d_head) to decode, whatever the length
//! Matches  fla-org/flash-linear-attention at bc3b101, `HGRN2Attention` with its naive recurrence: outputs and gradients
//!          (`fixtures/goldens/hgrn2__*`)
//! Departs  as the layer from the paper, which has no scale in front of the norm; l is a setting, the same for every channel, where the
//!          reference's models learn one a channel, rising from layer to layer
//!
//! Bidirectional: a second layer reads from the end ([`crate::math::directions`]).

use crate::core::family::{BenchTarget, ReplayFn};
use crate::laws::goldens::{Golden, GoldenError, Replay};
use crate::math::directions::Directions;
use crate::math::fla::{Convs, EPS, convolutions, cut, dense, taps};
use crate::math::heads::{HeadSizes, Heads};
use crate::{ConfigError, Context, Cost, Dims, Family, Linear, Mixer, at_least, divides, linear_flops};
use serde_json::{Value, json};
use tch::Tensor;
use tch::nn::{self, VarStore};
use tch::{Device, Kind};

/// `mixer: { hgrn2: { n_heads: 4 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Parallel heads; must divide `d_model`. The state of a head is `d_model / n_heads` squared. Reference: heads of 128 channels.
    pub n_heads: i64,
    /// Least share of the state that a step keeps. Reference: 0 in the first layer, learned and rising above it.
    pub lower_bound: f64,
    /// Width of the causal depthwise convolutions of q, f and i; 0 is none. Reference: 0.
    pub d_conv: i64,
    /// Bias of the convolutions. Reference: false.
    pub conv_bias: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { n_heads: 4, lower_bound: 0.0, d_conv: 0, conv_bias: false }
    }
}

/// 340M parameters, the size of the baselines in whose code (flash-linear-attention) these deviations are.
const WIDTH: i64 = 1024;

impl Family for Config {
    const NAME: &'static str = "hgrn2";
    const ABOUT: &'static str = "gated linear recurrence with matrices for states (Qin et al. 2024)";
    const PAPER: &'static str = "Qin et al. 2024, arXiv:2404.07904, §3.2";
    const COMPLEXITY: &'static str = "time O(length · d_model · (d_model + d_head)), memory O(length · d_model)";
    const VERSION: u32 = 1;
    const WIDTH: i64 = WIDTH;

    fn small() -> Value {
        json!({ "n_heads": 2 })
    }

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[("hgrn2", replay)]
    }

    fn variants() -> Vec<Value> {
        vec![json!({ "lower_bound": 0.5, "d_conv": 4 }), json!({ "d_conv": 2, "conv_bias": true, "n_heads": 1 })]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("weight", 30.0)]
    }

    fn targets() -> Vec<BenchTarget> {
        vec![BenchTarget { label: "hgrn2", settings: json!({}), size: [256, 4], time: Some(1.0), reference: None }]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let [d, conv] = [dims.d_model, self.d_conv + i64::from(self.conv_bias)].map(|n| n as f64);
        d * (4.0 * d + 3.0 * conv + 1.0) * if dims.causal { 1.0 } else { 2.0 }
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        let mut wrong: Vec<ConfigError> =
            [divides("n_heads", self.n_heads, "d_model", dims.d_model), at_least("d_conv", self.d_conv, 0)]
                .into_iter()
                .filter_map(Result::err)
                .collect();
        if !(0.0..1.0).contains(&self.lower_bound) {
            let problem = format!("`lower_bound` is {}, which is no share below 1", self.lower_bound);
            let help = "use a number from 0, below 1".into();
            wrong.push(ConfigError { key: "lower_bound", problem, help });
        }
        wrong
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(self.layer(vs, dims))
    }
}

impl Config {
    fn layer(&self, vs: &nn::Path, dims: &Dims) -> Directions<Hgrn2> {
        let published = if dims.causal { WIDTH } else { 2 * WIDTH };
        let out = |width| Some(dense(vs / "o_proj", [width, published], dims.d_model, false));
        Directions::new(vs, dims, |vs| Hgrn2::new(vs, dims.d_model, self), "o_proj.weight", out)
    }
}

/// One direction; see the head of this file.
#[derive(Debug)]
struct Hgrn2 {
    q_proj: Linear,
    f_proj: Linear,
    i_proj: Linear,
    convs: Convs,
    g_norm: Tensor,
    /// l: a number, or `[d_model]`.
    lower_bound: Tensor,
    d_model: i64,
    cfg: Config,
}

impl Hgrn2 {
    fn new(vs: &nn::Path, d: i64, cfg: &Config) -> Self {
        let map = |name: &str| dense(vs / name, [d, WIDTH], d, false);
        let convolved = [("q_conv1d", d), ("f_conv1d", d), ("i_conv1d", d)];
        Self {
            q_proj: map("q_proj"),
            f_proj: map("f_proj"),
            i_proj: map("i_proj"),
            convs: Convs::new(vs, &convolved, cfg.d_conv, cfg.conv_bias, false),
            g_norm: (vs / "g_norm").ones("weight", &[d]),
            lower_bound: Tensor::from(cfg.lower_bound),
            d_model: d,
            cfg: cfg.clone(),
        }
    }

    fn d_head(&self) -> i64 {
        self.d_model / self.cfg.n_heads
    }
}

impl Heads for Hgrn2 {
    type Scan = [Tensor; 4];

    /// A silenced head still counts in the norm that all heads share.
    fn sizes(&self) -> HeadSizes {
        HeadSizes { heads: self.cfg.n_heads, d_k: self.d_head(), d_v: self.d_head() }
    }

    fn convs(&self) -> &Convs {
        &self.convs
    }

    fn like(&self) -> (Kind, Device) {
        (self.g_norm.kind(), self.g_norm.device())
    }

    /// q (scaled), k, i and the decays, each `[batch, length, heads, d_head]`; `convolve` has the convolution of q, f and i.
    fn read(&self, x: &Tensor, _at: i64, mut convolve: impl FnMut(usize, Tensor) -> Tensor) -> [Tensor; 4] {
        let mut of = |i: usize, projection: &Linear| convolve(i, x.apply(projection));
        let q = of(0, &self.q_proj).silu() * (self.d_head() as f64).powf(-0.5);
        let (f, i) = (of(1, &self.f_proj), of(2, &self.i_proj));
        let bound = self.lower_bound.to_kind(f.kind()).to_device(f.device());
        // 1 - a, without its cancellation.
        let k = (-&f).sigmoid() * (1.0 - &bound);
        let a = f.sigmoid() * (1.0 - &bound) + bound;
        [q, k, i, a].map(|t| cut(&t, self.cfg.n_heads))
    }

    fn finish(&self, o: &Tensor, _x: &Tensor) -> Tensor {
        o.flatten(2, 3).rms_norm([self.d_model], Some(&self.g_norm), EPS)
    }

    fn cost(&self, length: i64) -> Cost {
        let (d, conv) = (self.d_model, self.cfg.d_conv);
        Cost {
            params: 3 * d * (d + taps(conv, self.cfg.conv_bias)) + d,
            state_bytes: 4 * (d * self.d_head() + (conv - 1).max(0) * 3 * d),
            flops: 2 * length * 3 * d * (d + conv) + 2 * linear_flops(length, d, self.d_head()),
        }
    }
}

/// A whole layer: `hgrn2__*`. Absent keys are the defaults of the reference's class.
pub fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    let size = golden.axes("input.x", &["batch", "L", "hidden_size"])?;
    let dims = Dims { d_model: size[2], seq_len: size[1], causal: true };
    let ratio = golden.int_or("expand_ratio", 128)?;
    if ratio < 1 {
        return Err(golden.malformed(format!("config `expand_ratio` is {ratio}, which is below 1")));
    }
    let (d_conv, conv_bias) = convolutions(golden, false)?;
    let cfg = Config { n_heads: dims.d_model / ratio, lower_bound: 0.0, d_conv, conv_bias };
    golden.agrees("num_heads", cfg.n_heads, "`hidden_size` and `expand_ratio` say")?;
    golden.only("norm_eps", &[EPS])?;
    golden.only("causal", &[true])?;
    golden.only("elementwise_affine", &[true])?;
    golden.without_effect(&["mode", "layer_idx"]);
    golden.settings(&cfg, &dims)?;
    golden.agrees("expand_ratio", dims.d_model / cfg.n_heads, "the heads divide `hidden_size`")?;
    let bound = golden.optional_input("lower_bound", &["has_lower_bound"], false)?;
    let x = golden.input("x")?;
    let mut vs = VarStore::new(golden.device);
    let mut layer = cfg.layer(&vs.root(), &dims);
    golden.fill(&mut vs)?;
    let mut inputs = vec![("x", &x)];
    if let Some(bound) = &bound {
        golden.axes("input.lower_bound", &["hidden_size"])?;
        layer.ahead_mut().lower_bound = bound.shallow_clone();
        inputs.push(("lower_bound", bound));
    }
    let y = layer.forward(&x, &Context::eval());
    golden.replay(&[("y", &y)], &inputs, Some(&vs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::{assert_layer_twins, deviations};

    /// The equations as they stand, one position after another, without convolutions.
    fn plain(layer: &Directions<Hgrn2>, x: &Tensor) -> Tensor {
        let hgrn2 = layer.ahead();
        let (heads, d) = (hgrn2.cfg.n_heads, hgrn2.d_head());
        let of = |map: &Linear| x.matmul(&map.ws.tr());
        let least = hgrn2.cfg.lower_bound;
        let kept = of(&hgrn2.f_proj).sigmoid() * (1.0 - least) + least;
        let [q, a, i] = [of(&hgrn2.q_proj).silu(), kept, of(&hgrn2.i_proj)].map(|t| t.unflatten(-1, [heads, -1]));
        let mut state = Tensor::zeros([x.size()[0], heads, d, d], (Kind::Double, Device::Cpu));
        let mut outputs = Vec::new();
        for t in 0..x.size()[1] {
            let [q, a, i] = [&q, &a, &i].map(|of| of.select(1, t));
            state = state * a.unsqueeze(-1) + (-&a + 1.0).unsqueeze(-1) * i.unsqueeze(-2);
            outputs.push((&state * q.unsqueeze(-1)).sum_dim_intlist([2].as_slice(), false, Kind::Double));
        }
        let o = Tensor::stack(&outputs, 1).flatten(2, 3) / (d as f64).sqrt();
        let mean = o.square().mean_dim([-1].as_slice(), true, Kind::Double);
        layer.project(&(o / (mean + 1e-5).sqrt() * &hgrn2.g_norm), &Context::eval())
    }

    #[test]
    fn the_layer_is_its_plain_twin_in_values_and_gradients() {
        for cfg in [Config::default(), Config { n_heads: 1, lower_bound: 0.7, ..Config::default() }] {
            assert_layer_twins(|vs, dims| cfg.layer(vs, dims), plain, &format!("{cfg:?}"));
        }
    }

    #[test]
    fn parameters_start_as_published() {
        let vs = VarStore::new(Device::Cpu);
        let dims = Dims { d_model: WIDTH, seq_len: 8, causal: true };
        let _layer = Config { d_conv: 4, ..Config::default() }.layer(&vs.root(), &dims);
        let uniform = 0.5 / 3f64.sqrt(); // U(±1/√4)
        deviations(&vs, |name| match name {
            "g_norm.weight" => (1.0, 0.0),
            name if name.contains("conv1d") => (0.0, uniform),
            _ => (0.0, 0.02),
        });
    }

    #[test]
    fn what_cannot_be_built_is_named() {
        let keys = |cfg: Config| -> Vec<&str> {
            cfg.check(&Dims { d_model: 12, seq_len: 8, causal: false }).iter().map(|e| e.key).collect()
        };
        let default = Config::default;
        assert!(keys(default()).is_empty());
        assert_eq!(keys(Config { n_heads: 5, d_conv: -1, ..default() }), ["n_heads", "d_conv"]);
        assert_eq!(keys(Config { lower_bound: 1.0, ..default() }), ["lower_bound"]);
        assert_eq!(keys(Config { lower_bound: f64::NAN, ..default() }), ["lower_bound"]);
    }
}
