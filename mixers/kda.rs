//! Kimi Delta Attention: the delta rule in a state whose key channels each forget at a rate of their own.
//!
//! ```text
//! q | k | v = SiLU of a short causal convolution of q_proj x | k_proj x | v_proj x;   k = k / ‖k‖,   q = q / (‖q‖ √d_head)      per head
//! β = σ(b_proj x), twice that for negative eigenvalues                                                                          per head
//! a = exp(-exp(A_log) softplus(f_proj.1 f_proj.0 x + dt_bias))                             a decay a key channel, A_log a head
//! S_t = (I - β_t k_t k_tᵀ) diag(a_t) S_{t-1} + β_t k_t v_tᵀ,   o_t = S_tᵀ q_t              one state [d_head, expand_v · d_head] per head
//! y_t = o_proj( RMSNorm(o_t) · σ(g_proj.1 g_proj.0 x_t) )                                  norm per head, its weight shared by the heads
//! M = the scan with unit vectors for values                                                quasiseparable of rank d_head
//! ```
//! Paper    Kimi Team 2025, arXiv:2510.26692, §3 (eq. 1), §4 (the layer)
//! Time     O(length · d_model · (d_model + d_head)), the scan one position after another on a CPU ([`crate::math::delta_scan`])
//! Memory   O(length · d_model) to train; state O(d_model · d_head) to decode, whatever the length
//! Matches  the recurrence as it stands, in values and gradients. No dump: parameters, their initial values and the equations are those of
//!          fla-org/flash-linear-attention at 0812a88, `KimiDeltaAttention` (fla/layers/kda.py, fla/ops/kda/naive.py)
//! Departs  grouped values are left out
//!
//! Bidirectional: a second layer reads from the end ([`crate::math::directions`]).

use crate::core::family::BenchTarget;
use crate::gated_deltanet::decay_rates;
use crate::math::delta_scan::Inputs;
use crate::math::directions::Directions;
use crate::math::fla::{Convs, UNIT_VECTORS, cut, dense, norm_and_gate, taps, unit};
use crate::math::heads::{HeadSizes, Heads};
use crate::math::ssd_block::param_rules;
use crate::{ConfigError, Cost, Dims, Family, Linear, Mixer, ParamRule, at_least, linear_flops};
use serde_json::{Value, json};
use tch::nn;
use tch::{Kind, Tensor};

/// `mixer: { kda: { n_heads: 4 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Parallel heads; must divide `d_model` unless `d_head` is given. Reference: 16.
    pub n_heads: i64,
    /// Width of a head's queries and keys; null is `d_model / n_heads`. Reference: 128.
    pub d_head: Option<i64>,
    /// Channels of a head's values over `d_head`. Reference: 1.
    pub expand_v: f64,
    /// Width of the bottlenecks that decays and the output gate come through; null is that of a head's values, as in the reference.
    pub gate_rank: Option<i64>,
    /// β = 2 σ(·): the eigenvalue 1 - β of a step along its key may be negative. Reference: false.
    pub negative_eigenvalues: bool,
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
            expand_v: 1.0,
            gate_rank: None,
            negative_eigenvalues: false,
            d_conv: 4,
            conv_bias: false,
        }
    }
}

/// The width of the reference's layer and model by default.
const WIDTH: i64 = 2048;

impl Family for Config {
    const NAME: &'static str = "kda";
    const ABOUT: &'static str = "Kimi delta attention: the delta rule with a decay a key channel (Kimi Team 2025)";
    const PAPER: &'static str = "Kimi Team 2025, arXiv:2510.26692, §3, §4";
    const COMPLEXITY: &'static str = "time O(length · d_model · (d_model + d_head)), memory O(length · d_model)";
    const VERSION: u32 = 1;
    const WIDTH: i64 = WIDTH;

    fn small() -> Value {
        json!({ "n_heads": 2 })
    }

    fn variants() -> Vec<Value> {
        vec![
            json!({ "d_head": 6, "expand_v": 1.5, "negative_eigenvalues": true, "gate_rank": 3 }),
            json!({ "d_head": 5, "d_conv": 2, "conv_bias": true, "n_heads": 1 }),
            json!({ "d_head": 4, "d_conv": 0, "expand_v": 2.0 }),
        ]
    }

    fn unsteady() -> Vec<(Value, &'static str)> {
        vec![(json!({}), UNIT_VECTORS)]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("A_log", 8.0), ("dt_bias", 8.0), ("weight", 30.0)]
    }

    fn targets() -> Vec<BenchTarget> {
        vec![BenchTarget { label: "kda", settings: json!({}), size: [256, 4], time: Some(1.8), reference: None }]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let [d, heads] = [dims.d_model, self.n_heads].map(|n| n as f64);
        let taps = (self.d_conv + i64::from(self.conv_bias)) as f64;
        let keys = self.d_head.map_or(d, |d_head| heads * d_head as f64);
        let values = self.expand_v * keys;
        let rank = self.gate_rank.map_or(values / heads, |rank| rank as f64);
        let convolved = 2.0 * keys + values;
        let one = convolved * (d + taps) + values * d + rank * (2.0 * d + keys + values) + heads * d + heads;
        (one + keys + 2.0 * values) * if dims.causal { 1.0 } else { 2.0 }
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        let shape = HeadSizes::check(self.n_heads, self.d_head, self.expand_v, dims.d_model);
        [shape, at_least("gate_rank", self.gate_rank.unwrap_or(1), 1), at_least("d_conv", self.d_conv, 0)]
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

    fn rank(&self, d_model: i64) -> i64 {
        self.gate_rank.unwrap_or(self.sizes(d_model).d_v)
    }

    fn layer(&self, vs: &nn::Path, dims: &Dims) -> Directions<Kda> {
        let published = self.sizes(WIDTH).values() * if dims.causal { 1 } else { 2 };
        let out = |width| Some(dense(vs / "o_proj", [width, published], dims.d_model, false));
        Directions::new(vs, dims, |vs| Kda::new(vs, dims.d_model, self), "o_proj.weight", out)
    }
}

/// One direction; see the head of this file.
#[derive(Debug)]
struct Kda {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    b_proj: Linear,
    /// Into the bottleneck of the decays, and out of it.
    f_proj: [Linear; 2],
    /// Of the gate.
    g_proj: [Linear; 2],
    a_log: Tensor,
    dt_bias: Tensor,
    convs: Convs,
    o_norm: Tensor,
    sizes: HeadSizes,
    rank: i64,
    d_model: i64,
    cfg: Config,
}

impl Kda {
    fn new(vs: &nn::Path, d: i64, cfg: &Config) -> Self {
        let (sizes, rank) = (cfg.sizes(d), cfg.rank(d));
        let (keys, values) = (sizes.keys(), sizes.values());
        let of_x = |name: &str, to: i64| dense(vs / name, [d, WIDTH], to, false);
        let low_rank = |name: &str, to: i64, bias: bool| {
            let vs = vs / name;
            [dense(&vs / "0", [d, WIDTH], rank, false), dense(&vs / "1", [rank, cfg.rank(WIDTH)], to, bias)]
        };
        let convolved = [("q_conv1d", keys), ("k_conv1d", keys), ("v_conv1d", values)];
        Self {
            q_proj: of_x("q_proj", keys),
            k_proj: of_x("k_proj", keys),
            v_proj: of_x("v_proj", values),
            b_proj: of_x("b_proj", sizes.heads),
            f_proj: low_rank("f_proj", keys, false),
            g_proj: low_rank("g_proj", values, true),
            a_log: decay_rates(vs, sizes.heads, 1.0),
            dt_bias: vs.zeros("dt_bias", &[keys]),
            convs: Convs::new(vs, &convolved, cfg.d_conv, cfg.conv_bias, true),
            o_norm: (vs / "o_norm").ones("weight", &[sizes.d_v]),
            sizes,
            rank,
            d_model: d,
            cfg: cfg.clone(),
        }
    }
}

impl Heads for Kda {
    type Scan = Inputs;

    fn sizes(&self) -> HeadSizes {
        self.sizes
    }

    fn convs(&self) -> &Convs {
        &self.convs
    }

    fn like(&self) -> (Kind, tch::Device) {
        (self.o_norm.kind(), self.o_norm.device())
    }

    fn read(&self, x: &Tensor, _at: i64, mut convolve: impl FnMut(usize, Tensor) -> Tensor) -> Inputs {
        let heads = self.sizes.heads;
        let mut of = |i: usize, map: &Linear| {
            let t = convolve(i, x.apply(map));
            cut(&if self.cfg.d_conv > 0 { t } else { t.silu() }, heads) // the convolution ends in SiLU
        };
        let q = unit(&of(0, &self.q_proj)) * (self.sizes.d_k as f64).powf(-0.5);
        let (k, v) = (unit(&of(1, &self.k_proj)), of(2, &self.v_proj));
        let beta = x.apply(&self.b_proj).sigmoid() * if self.cfg.negative_eigenvalues { 2.0 } else { 1.0 };
        let [down, up] = &self.f_proj;
        let rate = cut(&(x.apply(down).apply(up) + &self.dt_bias).softplus(), heads) * self.a_log.exp().unsqueeze(-1);
        Inputs::delta(q, &k, v, &beta.unsqueeze(-1), (-rate).exp())
    }

    fn finish(&self, o: &Tensor, x: &Tensor) -> Tensor {
        let [down, up] = &self.g_proj;
        norm_and_gate(o, &self.o_norm, None) * x.apply(down).apply(up).sigmoid()
    }

    fn rules(&self) -> Vec<ParamRule> {
        param_rules(false, false)
    }

    fn cost(&self, length: i64) -> Cost {
        let (d, rank, conv) = (self.d_model, self.rank, self.cfg.d_conv);
        let HeadSizes { heads, d_v, .. } = self.sizes;
        let (keys, values) = (self.sizes.keys(), self.sizes.values());
        let convolved = 2 * keys + values;
        let maps = d * (convolved + heads + 2 * rank) + rank * (keys + values);
        Cost {
            params: maps + heads + keys + values + d_v + taps(conv, self.cfg.conv_bias) * convolved,
            state_bytes: 4 * (keys * d_v + (conv - 1).max(0) * convolved),
            flops: 2 * length * (maps + conv * convolved) + 3 * linear_flops(length, keys, d_v),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Context;
    use crate::laws::testing::{assert_layer_twins, deviations};
    use tch::Device;
    use tch::nn::VarStore;

    /// The equations as they stand, one position after another, without convolutions.
    fn plain(layer: &Directions<Kda>, x: &Tensor) -> Tensor {
        let kda = layer.ahead();
        let HeadSizes { heads, d_k, d_v } = kda.sizes;
        let of = |map: &Linear| x.matmul(&map.ws.tr());
        let unit = |t: Tensor| &t / (t.square().sum_dim_intlist([-1].as_slice(), true, Kind::Double) + 1e-6).sqrt();
        let q = unit(of(&kda.q_proj).silu().unflatten(-1, [heads, d_k])) / (d_k as f64).sqrt();
        let k = unit(of(&kda.k_proj).silu().unflatten(-1, [heads, d_k]));
        let v = of(&kda.v_proj).silu().unflatten(-1, [heads, d_v]);
        let beta = of(&kda.b_proj).sigmoid() * if kda.cfg.negative_eigenvalues { 2.0 } else { 1.0 };
        let logits = of(&kda.f_proj[0]).matmul(&kda.f_proj[1].ws.tr()) + &kda.dt_bias;
        let rates = (logits.exp() + 1.0).log().unflatten(-1, [heads, d_k]) * kda.a_log.exp().view([-1, 1]);
        let mut state = Tensor::zeros([x.size()[0], heads, d_k, d_v], (Kind::Double, Device::Cpu));
        let mut outputs = Vec::new();
        for t in 0..x.size()[1] {
            let [q, k, v, rate] = [&q, &k, &v, &rates].map(|of| of.select(1, t));
            let beta = beta.select(1, t).unsqueeze(-1).unsqueeze(-1);
            let kept = state * (-rate).exp().unsqueeze(-1);
            let held = (&kept * k.unsqueeze(-1)).sum_dim_intlist([2].as_slice(), false, Kind::Double);
            state = kept + beta * k.unsqueeze(-1) * (v - held).unsqueeze(-2);
            outputs.push((&state * q.unsqueeze(-1)).sum_dim_intlist([2].as_slice(), false, Kind::Double));
        }
        let o = Tensor::stack(&outputs, 1);
        let mean = o.square().mean_dim([-1].as_slice(), true, Kind::Double);
        let gate = of(&kda.g_proj[0]).matmul(&kda.g_proj[1].ws.tr()) + kda.g_proj[1].bs.as_ref().expect("a bias");
        layer.project(&((o / (mean + 1e-5).sqrt() * &kda.o_norm).flatten(2, 3) * gate.sigmoid()), &Context::eval())
    }

    #[test]
    fn the_layer_is_its_plain_twin_in_values_and_gradients() {
        let small = Config { n_heads: 2, d_conv: 0, ..Config::default() };
        for cfg in [
            small.clone(),
            Config { negative_eigenvalues: true, expand_v: 1.5, gate_rank: Some(3), d_head: Some(6), ..small },
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
        let rates = vs.variables()["A_log"].exp().to_kind(Kind::Double);
        let (least, most) = (rates.min().double_value(&[]), rates.max().double_value(&[]));
        let mean = rates.mean(Kind::Double).double_value(&[]);
        // U(1, 16) has a deviation of 4.33: the mean of 256 is within 5 of its own.
        assert!(0.999 <= least && most <= 16.001 && (mean - 8.5).abs() < 1.4, "{least} .. {most}, mean {mean}");
        deviations(&vs, |name| match name {
            "A_log" => {
                let values = vs.variables()[name].to_kind(Kind::Double);
                (values.mean(Kind::Double).double_value(&[]), values.std(false).double_value(&[]))
            }
            "dt_bias" | "g_proj.1.bias" => (0.0, 0.0),
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
        assert_eq!(keys(Config { gate_rank: Some(0), expand_v: f64::NAN, ..default() }), ["expand_v", "gate_rank"]);
    }
}
