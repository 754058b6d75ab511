//! Retention: linear attention whose heads forget at fixed rates, with queries and keys turned by their positions.
//!
//! ```text
//! q | k | v = q_proj x | k_proj x | v_proj x           where asked: SiLU of a short causal convolution of each
//! q_t, k_t turned: halves (c, c + d_k/2) by t · rope_base^(-2c / d_k)
//! S_t = γ_h S_{t-1} + k_t v_tᵀ,   o_t = S_tᵀ q_t / √d_k,   γ_h = 1 - 2^(-5-h)         one state [d_k, d_v] per head
//! y_t = o_proj( RMSNorm(o_t) · SiLU(g_proj x_t) )      norm per head, its weight shared by the heads
//! M[t,s] = γ_h^(t-s) q_t·k_s / √d_k                    for s ≤ t
//! ```
//! Paper    Sun et al. 2023, arXiv:2307.08621, §2.1 (retention), §2.2 (the layer)
//! Time     O(length · d_model · (d_model + d_k)), the scan one position after another on a CPU ([`crate::math::decay_scan`])
//! Memory   O(length · d_model) to train; state O(d_model · d_k) to decode, whatever the length
//! Matches  fla-org/flash-linear-attention at bc3b101, `MultiScaleRetention` with its naive retention: outputs and gradients
//!          (`fixtures/goldens/retnet__*`)
//! Departs  as the layer from the paper: an RMS norm with a weight in place of a group norm without, and rotations without xPos's
//!          scales. Grouped keys and values and feature maps are left out
//!
//! Bidirectional: a second layer reads from the end ([`crate::math::directions`]).

use crate::core::family::{BenchTarget, ReplayFn};
use crate::laws::goldens::{Golden, GoldenError, Replay};
use crate::math::directions::Directions;
use crate::math::fla::{
    Convs, attention_defaults, convolutions, cut, dense, expanded, head_width, norm_and_gate, taps,
};
use crate::math::heads::{HeadSizes, Heads};
use crate::{ConfigError, Cost, Dims, Family, Linear, Mixer, at_least, between, linear_flops};
use serde_json::{Value, json};
use tch::nn;
use tch::{Device, Kind, Tensor};

/// `mixer: { retnet: { n_heads: 8 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Parallel heads, each slower to forget than the one before; must divide `expand_k · d_model` and `expand_v · d_model`. Reference: 8.
    pub n_heads: i64,
    /// Channels of all queries, and of all keys, over `d_model`; an even number a head. Reference: 1.
    pub expand_k: f64,
    /// Channels of all values over `d_model`. Reference: 2.
    pub expand_v: f64,
    /// Base of the frequencies by which queries and keys are turned. Reference: 10000.
    pub rope_base: f64,
    /// Multiplies the normalised output by SiLU of one more projection. Reference: true.
    pub gate: bool,
    /// Width of the causal depthwise convolutions of q, k and v; 0 is none. Reference: 0.
    pub d_conv: i64,
    /// Bias of the convolutions. Reference: false.
    pub conv_bias: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self { n_heads: 8, expand_k: 1.0, expand_v: 2.0, rope_base: 1e4, gate: true, d_conv: 0, conv_bias: false }
    }
}

/// The 340M baseline of Yang et al. 2023, arXiv:2312.06635, §5.1, in whose code these deviations are.
const WIDTH: i64 = 1024;

impl Family for Config {
    const NAME: &'static str = "retnet";
    const ABOUT: &'static str =
        "retention: linear attention with a fixed decay a head, rotary positions (Sun et al. 2023)";
    const PAPER: &'static str = "Sun et al. 2023, arXiv:2307.08621, §2";
    const COMPLEXITY: &'static str = "time O(length · d_model · (d_model + d_k)), memory O(length · d_model)";
    const VERSION: u32 = 1;
    const WIDTH: i64 = WIDTH;

    fn small() -> Value {
        json!({ "n_heads": 2 })
    }

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[("retnet", replay)]
    }

    fn variants() -> Vec<Value> {
        vec![
            json!({ "expand_k": 0.5, "expand_v": 1.0, "gate": false }),
            json!({ "d_conv": 4, "rope_base": 100.0 }),
            json!({ "d_conv": 2, "conv_bias": true, "n_heads": 1 }),
        ]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("weight", 30.0)]
    }

    fn targets() -> Vec<BenchTarget> {
        vec![BenchTarget { label: "retnet", settings: json!({}), size: [256, 4], time: Some(0.9), reference: None }]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let [d, conv] = [dims.d_model, self.d_conv + i64::from(self.conv_bias)].map(|n| n as f64);
        let (keys, values) = (self.expand_k * d, self.expand_v * d);
        let gates = if self.gate { 3.0 } else { 2.0 };
        let one = d * (2.0 * keys + gates * values) + values + conv * (2.0 * keys + values);
        one * if dims.causal { 1.0 } else { 2.0 }
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        [
            at_least("n_heads", self.n_heads, 1),
            expanded("expand_k", self.expand_k, self.n_heads, dims.d_model),
            expanded("expand_v", self.expand_v, self.n_heads, dims.d_model),
            self.even(dims.d_model),
            between("rope_base", self.rope_base, 1.0, 1e9),
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
    /// Pairs of channels are turned.
    fn even(&self, d_model: i64) -> Result<(), ConfigError> {
        let wrong = self.n_heads < 1 || expanded("expand_k", self.expand_k, self.n_heads, d_model).is_err();
        let width = if wrong { 2 } else { head_width(self.expand_k, self.n_heads, d_model) };
        if width % 2 == 0 {
            return Ok(());
        }
        let problem =
            format!("`n_heads` is {}, so that queries are {width} wide and pairs of channels are turned", self.n_heads);
        Err(ConfigError { key: "n_heads", problem, help: "choose heads of an even number of query channels".into() })
    }

    fn layer(&self, vs: &nn::Path, dims: &Dims) -> Directions<Retention> {
        let published = (self.expand_v * WIDTH as f64) as i64 * if dims.causal { 1 } else { 2 };
        let out = |width| Some(dense(vs / "o_proj", [width, published], dims.d_model, false));
        Directions::new(vs, dims, |vs| Retention::new(vs, dims.d_model, self), "o_proj.weight", out)
    }
}

/// γ of a head.
fn decay(head: i64) -> f64 {
    1.0 - (-5.0 - head as f64).exp2()
}

/// Rotary positions: halves (c, c + d_k/2) of `[batch, length, heads, d_k]` turned by `(start + t) · base^(-2c / d_k)`.
fn turn(x: &Tensor, base: f64, start: i64) -> Tensor {
    let [_, length, _, d_k] = x.size4().expect("four axes").into();
    let double = (Kind::Double, x.device());
    let frequency = (Tensor::arange(d_k / 2, double) * (-2.0 * base.ln() / d_k as f64)).exp();
    let angle = Tensor::arange_start(start, start + length, double).unsqueeze(-1) * frequency;
    let angle = angle.unsqueeze(1); // [length, 1, d_k / 2]
    let (cos, sin) = (angle.cos().to_kind(x.kind()), angle.sin().to_kind(x.kind()));
    let (a, b) = (x.narrow(-1, 0, d_k / 2), x.narrow(-1, d_k / 2, d_k / 2));
    Tensor::cat(&[&a * &cos - &b * &sin, a * sin + b * cos], -1)
}

/// One direction; see the head of this file.
#[derive(Debug)]
struct Retention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    g_proj: Option<Linear>,
    convs: Convs,
    norm: Tensor,
    sizes: HeadSizes,
    d_model: i64,
    cfg: Config,
}

impl Retention {
    fn new(vs: &nn::Path, d: i64, cfg: &Config) -> Self {
        let [d_k, d_v] = [cfg.expand_k, cfg.expand_v].map(|factor| head_width(factor, cfg.n_heads, d));
        let sizes = HeadSizes { heads: cfg.n_heads, d_k, d_v };
        let (keys, values) = (sizes.keys(), sizes.values());
        let of_x = |name: &str, to: i64| dense(vs / name, [d, WIDTH], to, false);
        let norm = if cfg.gate { "g_norm_swish_gate" } else { "g_norm" };
        Self {
            q_proj: of_x("q_proj", keys),
            k_proj: of_x("k_proj", keys),
            v_proj: of_x("v_proj", values),
            g_proj: cfg.gate.then(|| of_x("g_proj", values)),
            convs: Convs::new(
                vs,
                &[("q_conv1d", keys), ("k_conv1d", keys), ("v_conv1d", values)],
                cfg.d_conv,
                cfg.conv_bias,
                true,
            ),
            norm: (vs / norm).ones("weight", &[d_v]),
            sizes,
            d_model: d,
            cfg: cfg.clone(),
        }
    }
}

impl Heads for Retention {
    type Scan = [Tensor; 4];

    fn sizes(&self) -> HeadSizes {
        self.sizes
    }

    fn convs(&self) -> &Convs {
        &self.convs
    }

    fn like(&self) -> (Kind, Device) {
        (self.norm.kind(), self.norm.device())
    }

    /// q (scaled), k, v and the decays, each `[batch, length, heads, ·]`, of positions from `at` on; `convolve` has the convolution of
    /// q, k and v.
    fn read(&self, x: &Tensor, at: i64, mut convolve: impl FnMut(usize, Tensor) -> Tensor) -> [Tensor; 4] {
        let mut of = |i: usize, projection: &Linear| cut(&convolve(i, x.apply(projection)), self.cfg.n_heads);
        let q = turn(&of(0, &self.q_proj), self.cfg.rope_base, at) * (self.sizes.d_k as f64).powf(-0.5);
        let (k, v) = (turn(&of(1, &self.k_proj), self.cfg.rope_base, at), of(2, &self.v_proj));
        let shape = [x.size()[0], x.size()[1], self.cfg.n_heads, 1];
        let decays: Vec<f64> = (0..self.cfg.n_heads).map(decay).collect();
        let a = Tensor::from_slice(&decays).to_kind(x.kind()).to_device(x.device()).view([1, 1, -1, 1]);
        [q, k, v, a.expand(shape, false)]
    }

    fn finish(&self, o: &Tensor, x: &Tensor) -> Tensor {
        norm_and_gate(o, &self.norm, self.g_proj.as_ref().map(|g_proj| x.apply(g_proj)).as_ref())
    }

    fn cost(&self, length: i64) -> Cost {
        let (d, d_v) = (self.d_model, self.sizes.d_v);
        let (keys, values) = (self.sizes.keys(), self.sizes.values());
        let maps = d * (2 * keys + (1 + i64::from(self.cfg.gate)) * values);
        let convolved = 2 * keys + values;
        Cost {
            params: maps + d_v + taps(self.cfg.d_conv, self.cfg.conv_bias) * convolved,
            state_bytes: 4 * (keys * d_v + (self.cfg.d_conv - 1).max(0) * convolved),
            flops: 2 * length * (maps + self.cfg.d_conv * convolved) + 2 * linear_flops(length, keys, d_v),
        }
    }
}

/// A whole layer: `retnet__*`. Absent keys are the defaults of the reference's class.
pub fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    let n_heads = golden.int_or("num_heads", 8)?;
    let (d_conv, conv_bias) = convolutions(golden, false)?;
    let cfg = Config {
        n_heads,
        expand_k: golden.number_or("expand_k", 1.0)?,
        expand_v: golden.number_or("expand_v", 2.0)?,
        rope_base: golden.number_or("rope_base", 1e4)?,
        gate: golden.flag_or("use_output_gate", true)?,
        d_conv,
        conv_bias,
    };
    attention_defaults(golden, n_heads)?;
    let size = golden.axes("input.x", &["batch", "L", "hidden_size"])?;
    let dims = Dims { d_model: size[2], seq_len: size[1], causal: true };
    golden.settings(&cfg, &dims)?;
    golden.replay_layer("x", |vs| cfg.layer(vs, &dims))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Context;
    use crate::laws::testing::{assert_layer_twins, deviations};
    use tch::nn::VarStore;

    /// The equations as they stand, as a matrix, without convolutions.
    fn plain(layer: &Directions<Retention>, x: &Tensor) -> Tensor {
        let retention = layer.ahead();
        let (heads, length, d_k) = (retention.cfg.n_heads, x.size()[1], retention.sizes.d_k);
        let of = |map: &Linear| x.matmul(&map.ws.tr()).unflatten(-1, [heads, -1]).transpose(1, 2);
        let [q, k, v] = [&retention.q_proj, &retention.k_proj, &retention.v_proj].map(of);
        let positions = Tensor::arange(length, (Kind::Double, Device::Cpu));
        let frequencies = Tensor::arange(d_k / 2, (Kind::Double, Device::Cpu)) * (-2.0 / d_k as f64);
        let angles = positions.outer(&(frequencies * retention.cfg.rope_base.ln()).exp());
        let turned = |t: &Tensor| {
            let pairs = Tensor::complex(&t.narrow(-1, 0, d_k / 2), &t.narrow(-1, d_k / 2, d_k / 2));
            let turned = pairs * Tensor::complex(&angles.cos(), &angles.sin());
            Tensor::cat(&[turned.real(), turned.imag()], -1)
        };
        let distance = positions.unsqueeze(1) - &positions;
        let decays = Tensor::stack(
            &(0..heads).map(|h| (&distance * (1.0 - 2f64.powi(-5 - h as i32)).ln()).exp()).collect::<Vec<_>>(),
            0,
        );
        let m = (turned(&q).matmul(&turned(&k).transpose(-2, -1)) * decays).tril(0) / (d_k as f64).sqrt();
        let o = m.matmul(&v).transpose(1, 2);
        let mean = o.square().mean_dim([-1].as_slice(), true, Kind::Double);
        let y = (o / (mean + 1e-5).sqrt() * &retention.norm).flatten(2, 3);
        let y = match &retention.g_proj {
            None => y,
            Some(gate) => y * x.matmul(&gate.ws.tr()).silu(),
        };
        layer.project(&y, &Context::eval())
    }

    #[test]
    fn the_layer_is_its_plain_twin_in_values_and_gradients() {
        let small = Config { n_heads: 2, ..Config::default() };
        for cfg in [small.clone(), Config { gate: false, rope_base: 10.0, expand_v: 1.5, ..small }] {
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
            "g_norm_swish_gate.weight" => (1.0, 0.0),
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
        assert_eq!(keys(Config { n_heads: 5, ..default() }), ["expand_k", "expand_v"]);
        assert_eq!(keys(Config { n_heads: 4, ..default() }), ["n_heads"]);
        assert_eq!(keys(Config { n_heads: 0, ..default() }), ["n_heads"]);
        assert_eq!(keys(Config { expand_v: f64::NAN, ..default() }), ["expand_v"]);
        assert_eq!(keys(Config { rope_base: 0.0, d_conv: -1, ..default() }), ["rope_base", "d_conv"]);
    }
}
