//! Gated linear attention: linear attention whose state forgets, channel by channel of the keys, as much as the input says.
//!
//! ```text
//! q | k | v = q_proj x | k_proj x | v_proj x                        where asked: SiLU of a short causal convolution of each
//! a_t = σ(gk_proj.1 gk_proj.0 x_t)^(1 / gate_divisor)               a decay a key channel, through a bottleneck of gate_rank
//! S_t = diag(a_t) S_{t-1} + k_t v_tᵀ,   o_t = S_tᵀ q_t / √d_k       one state [d_k, d_v] per head
//! y_t = o_proj( RMSNorm(o_t) · SiLU(g_proj x_t) )                   norm per head, its weight shared by the heads
//! M[t,s] = Σ_c q_t[c] k_s[c] Π_{s<r≤t} a_r[c] / √d_k                for s ≤ t
//! ```
//! Paper    Yang et al. 2023, arXiv:2312.06635, §4.2 (eq. 3), §4.4 (the layer)
//! Time     O(length · d_model · (d_model + d_k)), the scan one position after another on a CPU ([`crate::math::decay_scan`])
//! Memory   O(length · d_model) to train; state O(d_model · d_k) to decode, whatever the length
//! Matches  fla-org/flash-linear-attention at bc3b101, `GatedLinearAttention` with its naive recurrence: outputs and gradients
//!          (`fixtures/goldens/gla__*`)
//! Departs  as the layer from the paper, where the output gate has a bias; grouped keys and values, feature maps and a least decay are
//!          left out
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

/// `mixer: { gla: { n_heads: 4 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Parallel heads; must divide `expand_k · d_model` and `expand_v · d_model`. Reference: 4.
    pub n_heads: i64,
    /// Channels of all queries, and of all keys, over `d_model`. Reference: 0.5.
    pub expand_k: f64,
    /// Channels of all values over `d_model`. Reference: 1.
    pub expand_v: f64,
    /// Width of the bottleneck that decays come through. Reference: 16.
    pub gate_rank: i64,
    /// Decays are σ(·) to the power of one over this: the larger, the longer the memory at initialisation. Reference: 16.
    pub gate_divisor: f64,
    /// Multiplies the normalised output by SiLU of one more projection. Reference: true.
    pub gate: bool,
    /// Width of the causal depthwise convolutions of q, k and v; 0 is none. Reference: 0.
    pub d_conv: i64,
    /// Bias of the convolutions. Reference: false.
    pub conv_bias: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            n_heads: 4,
            expand_k: 0.5,
            expand_v: 1.0,
            gate_rank: 16,
            gate_divisor: 16.0,
            gate: true,
            d_conv: 0,
            conv_bias: false,
        }
    }
}

/// The 340M model, §5.1.
const WIDTH: i64 = 1024;

impl Family for Config {
    const NAME: &'static str = "gla";
    const ABOUT: &'static str = "gated linear attention, a decay a key channel (Yang et al. 2023)";
    const PAPER: &'static str = "Yang et al. 2023, arXiv:2312.06635, §4";
    const COMPLEXITY: &'static str = "time O(length · d_model · (d_model + d_k)), memory O(length · d_model)";
    const VERSION: u32 = 1;
    const WIDTH: i64 = WIDTH;

    fn small() -> Value {
        json!({ "n_heads": 2, "gate_rank": 4 })
    }

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[("gla", replay)]
    }

    fn variants() -> Vec<Value> {
        vec![
            json!({ "expand_k": 1.0, "expand_v": 2.0, "gate": false }),
            json!({ "d_conv": 4, "gate_divisor": 1.0 }),
            json!({ "d_conv": 2, "conv_bias": true, "n_heads": 1 }),
        ]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("bias", -2000.0), ("weight", 30.0)]
    }

    fn targets() -> Vec<BenchTarget> {
        vec![BenchTarget { label: "gla", settings: json!({}), size: [256, 4], time: Some(1.2), reference: None }]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let [d, rank, conv] = [dims.d_model, self.gate_rank, self.d_conv + i64::from(self.conv_bias)].map(|n| n as f64);
        let (keys, values) = (self.expand_k * d, self.expand_v * d);
        let gates = if self.gate { 3.0 } else { 2.0 };
        let one = d * (2.0 * keys + gates * values) + rank * (d + keys) + keys + values + conv * (2.0 * keys + values);
        one * if dims.causal { 1.0 } else { 2.0 }
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        [
            at_least("n_heads", self.n_heads, 1),
            expanded("expand_k", self.expand_k, self.n_heads, dims.d_model),
            expanded("expand_v", self.expand_v, self.n_heads, dims.d_model),
            at_least("gate_rank", self.gate_rank, 1),
            between("gate_divisor", self.gate_divisor, 1e-3, 1e6),
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
    fn layer(&self, vs: &nn::Path, dims: &Dims) -> Directions<Gla> {
        let published = (self.expand_v * WIDTH as f64) as i64 * if dims.causal { 1 } else { 2 };
        let out = |width| Some(dense(vs / "o_proj", [width, published], dims.d_model, false));
        Directions::new(vs, dims, |vs| Gla::new(vs, dims.d_model, self), "o_proj.weight", out)
    }
}

/// One direction; see the head of this file.
#[derive(Debug)]
struct Gla {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    g_proj: Option<Linear>,
    /// Into the bottleneck, and out of it.
    gk_proj: [Linear; 2],
    convs: Convs,
    norm: Tensor,
    sizes: HeadSizes,
    d_model: i64,
    cfg: Config,
}

impl Gla {
    fn new(vs: &nn::Path, d: i64, cfg: &Config) -> Self {
        let [d_k, d_v] = [cfg.expand_k, cfg.expand_v].map(|factor| head_width(factor, cfg.n_heads, d));
        let sizes = HeadSizes { heads: cfg.n_heads, d_k, d_v };
        let (keys, values) = (sizes.keys(), sizes.values());
        let of_x = |name: &str, to: i64| dense(vs / name, [d, WIDTH], to, false);
        let gk = vs / "gk_proj";
        let norm = if cfg.gate { "g_norm_swish_gate" } else { "g_norm" };
        Self {
            q_proj: of_x("q_proj", keys),
            k_proj: of_x("k_proj", keys),
            v_proj: of_x("v_proj", values),
            g_proj: cfg.gate.then(|| of_x("g_proj", values)),
            gk_proj: [
                dense(&gk / "0", [d, WIDTH], cfg.gate_rank, false),
                dense(&gk / "1", [cfg.gate_rank; 2], keys, true),
            ],
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

impl Heads for Gla {
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

    /// q (scaled), k, v and the decays, each `[batch, length, heads, ·]`; `convolve` has the convolution of q, k and v.
    fn read(&self, x: &Tensor, _at: i64, mut convolve: impl FnMut(usize, Tensor) -> Tensor) -> [Tensor; 4] {
        let mut of = |i: usize, projection: &Linear| cut(&convolve(i, x.apply(projection)), self.cfg.n_heads);
        let q = of(0, &self.q_proj) * (self.sizes.d_k as f64).powf(-0.5);
        let (k, v) = (of(1, &self.k_proj), of(2, &self.v_proj));
        let [down, up] = &self.gk_proj;
        let decay = (x.apply(down).apply(up).log_sigmoid() / self.cfg.gate_divisor).exp();
        [q, k, v, cut(&decay, self.cfg.n_heads)]
    }

    fn finish(&self, o: &Tensor, x: &Tensor) -> Tensor {
        norm_and_gate(o, &self.norm, self.g_proj.as_ref().map(|g_proj| x.apply(g_proj)).as_ref())
    }

    fn cost(&self, length: i64) -> Cost {
        let (d, rank) = (self.d_model, self.cfg.gate_rank);
        let HeadSizes { d_v, .. } = self.sizes;
        let (keys, values) = (self.sizes.keys(), self.sizes.values());
        let maps = d * (2 * keys + (1 + i64::from(self.cfg.gate)) * values) + rank * (d + keys);
        let convolved = 2 * keys + values;
        Cost {
            params: maps + keys + d_v + taps(self.cfg.d_conv, self.cfg.conv_bias) * convolved,
            state_bytes: 4 * (keys * d_v + (self.cfg.d_conv - 1).max(0) * convolved),
            flops: 2 * length * (maps + self.cfg.d_conv * convolved) + 2 * linear_flops(length, keys, d_v),
        }
    }
}

/// A whole layer: `gla__*`. Absent keys are the defaults of the reference's class.
pub fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    let n_heads = golden.int_or("num_heads", 4)?;
    let (d_conv, conv_bias) = convolutions(golden, false)?;
    let cfg = Config {
        n_heads,
        expand_k: golden.number_or("expand_k", 0.5)?,
        expand_v: golden.number_or("expand_v", 1.0)?,
        gate_rank: golden.int_or("gate_low_rank_dim", 16)?,
        gate_divisor: golden.number_or("gate_logit_normalizer", 16.0)?,
        gate: golden.flag_or("use_output_gate", true)?,
        d_conv,
        conv_bias,
    };
    attention_defaults(golden, n_heads)?;
    golden.only::<Value>("clamp_min", &[])?;
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

    /// The equations as they stand, one position after another, without convolutions.
    fn plain(layer: &Directions<Gla>, x: &Tensor) -> Tensor {
        let gla = layer.ahead();
        let (heads, length) = (gla.cfg.n_heads, x.size()[1]);
        let of = |map: &Linear| x.matmul(&map.ws.tr()).unflatten(-1, [heads, -1]);
        let [q, k, v] = [&gla.q_proj, &gla.k_proj, &gla.v_proj].map(of);
        let [down, up] = &gla.gk_proj;
        let logits = x.matmul(&down.ws.tr()).matmul(&up.ws.tr()) + up.bs.as_ref().expect("a bias");
        let decay = logits.sigmoid().pow_tensor_scalar(1.0 / gla.cfg.gate_divisor).unflatten(-1, [heads, -1]);
        let mut state = Tensor::zeros([x.size()[0], heads, gla.sizes.d_k, gla.sizes.d_v], (Kind::Double, Device::Cpu));
        let mut outputs = Vec::new();
        for t in 0..length {
            let [q, k, v, a] = [&q, &k, &v, &decay].map(|t_of| t_of.select(1, t));
            state = state * a.unsqueeze(-1) + k.unsqueeze(-1) * v.unsqueeze(-2);
            outputs.push((&state * q.unsqueeze(-1)).sum_dim_intlist([2].as_slice(), false, Kind::Double));
        }
        let o = Tensor::stack(&outputs, 1) / (gla.sizes.d_k as f64).sqrt();
        let mean = o.square().mean_dim([-1].as_slice(), true, Kind::Double);
        let y = (o / (mean + 1e-5).sqrt() * &gla.norm).flatten(2, 3);
        let y = match &gla.g_proj {
            None => y,
            Some(gate) => y * x.matmul(&gate.ws.tr()).silu(),
        };
        layer.project(&y, &Context::eval())
    }

    #[test]
    fn the_layer_is_its_plain_twin_in_values_and_gradients() {
        let small = Config { n_heads: 2, gate_rank: 3, ..Config::default() };
        for cfg in [small.clone(), Config { gate: false, gate_divisor: 1.0, expand_v: 1.5, ..small }] {
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
            "gk_proj.1.bias" => (0.0, 0.0),
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
        assert_eq!(keys(Config { n_heads: 0, ..default() }), ["n_heads"]);
        assert_eq!(keys(Config { expand_v: f64::NAN, ..default() }), ["expand_v"]);
        assert_eq!(keys(Config { expand_k: 0.3, gate_rank: 0, ..default() }), ["expand_k", "gate_rank"]);
        assert_eq!(keys(Config { gate_divisor: 0.0, d_conv: -1, ..default() }), ["gate_divisor", "d_conv"]);
    }
}
