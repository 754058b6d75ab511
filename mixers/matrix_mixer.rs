//! The matrix-mixer framework: one layer around any class of matrices M, so that classes are compared and nothing else.
//!
//! ```text
//! z | c | r = in_proj u,   v | e = conv1d(c),   v = SiLU(v)          c: depthwise, centred; e, r: what M depends on
//! y = out_proj( RMSNorm(M v + v) · weight · SiLU(z) )                one M per head; norm before gate
//! ```
//! | `matrix`         | `data_dependent: true` | `data_dependent: false` | M v for one sequence, in time          |
//! |------------------|------------------------|-------------------------|----------------------------------------|
//! | `dense`          | -                      | yes                     | length² · d_inner                      |
//! | `toeplitz`       | yes                    | yes                     | length · log length · d_inner          |
//! | `vandermonde`    | yes                    | `form: paper`           | length² · (heads · qk_dim + d_inner)   |
//! | `dft`            | -                      | yes, nothing is learned | seq_len · log seq_len · d_inner        |
//! | `cauchy`         | yes                    | yes                     | length² · (heads · qk_dim + d_inner)   |
//! | `low_rank`       | yes                    | yes                     | length · qk_dim · d_inner              |
//! | `attention`      | yes                    | yes                     | length² · d_inner                      |
//! | `quasiseparable` | yes                    | yes                     | length · heads · qk_dim · d_inner      |
//!
//! Paper    Hwang, Lahoti, Dao & Gu 2024, arXiv:2407.09941, §2; the ablation's settings are the defaults
//! Time     O(length · d_model²) and M v as above
//! Memory   O(length · d_inner); the dense M of a layer is held by `dense` (as its parameter) and by nobody else: `vandermonde`
//!          and `cauchy` compute M again in the backward pass, a few heads at a time
//! Matches  goombalab/hydra at 55bef74: outputs and gradients of every class (`fixtures/goldens/matrix_mixer__*`)
//! Departs  - any length up to `seq_len`, where the reference wants exactly `seq_len` of all but five classes: parameters with
//!            a position or a lag for an axis are read from its start, and scales keep `seq_len`. A shorter sequence thus gives
//!            what it would give padded with zeros to `seq_len`.
//!          - padding: padded positions enter the convolution and M as zeros, and attention masks their keys, so a padded row
//!            gives exactly what the same row gives alone. The reference does not know of padding.
//!          - where the reference's code is not its paper (`toeplitz`, `vandermonde`, `cauchy`), `form: reference` is the code,
//!            which the published numbers come from; `form: paper` is in the files of those classes.

mod attention;
mod cauchy;
mod dense;
mod dft;
mod low_rank;
mod quasiseparable;
mod toeplitz;
mod vandermonde;

#[cfg(test)]
mod tests;

use crate::core::error::LENGTH_UNKNOWN;
use crate::core::family::{Released, ReplayFn, Surroundings};
use crate::core::limits::width;
use crate::laws::goldens::{F64_TOLERANCE, Golden, GoldenError, Replay, relative_error};
use crate::math::depthwise::Depthwise;
use crate::math::ssd_block::{Order, norm_gate_project};
use crate::{
    ConfigError, Context, Cost, Dims, Family, Linear, Mixer, NotLinear, ParamRule, Structure, at_least, between,
    divides, linear, linear_flops,
};
use serde_json::{Value, json};
use tch::nn::{self, Init, VarStore};
use tch::{Kind, Tensor};

/// `mixer: { matrix_mixer: { matrix: toeplitz } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Class of the matrix M.
    pub matrix: Matrix,
    /// M depends on the sequence (the paper's "sequence aligned") or is learned for each position or lag.
    pub data_dependent: bool,
    /// Where the reference's code departs from its paper: which of the two.
    pub form: Form,
    /// `d_inner / d_model`. Reference: 2.
    pub expand: i64,
    /// Channels that share one M; must divide `d_inner`. Null takes the ablation's: 64 for `toeplitz`, `dft` and what does not
    /// depend on data, otherwise 128, and `d_inner` where that is smaller. `dense`: 128.
    pub headdim: Option<i64>,
    /// Terms of an entry of M: features of a query and a key; `quasiseparable` has a state of this size times the number of
    /// heads; `dense`, `toeplitz` and `dft` do not read it. Null takes the ablation's: 16 where M depends on data, else 64.
    pub qk_dim: Option<i64>,
    /// Width of the depthwise convolution, odd. Reference: 7.
    pub d_conv: i64,
    /// Bias of `in_proj` and `out_proj`.
    pub bias: bool,
    /// Bias of the convolution. Reference: true.
    pub conv_bias: bool,
    /// `quasiseparable`: positions in a chunk of the scan. Changes speed and memory, not the result.
    pub chunk_size: i64,
    /// `quasiseparable`: smallest step drawn at initialisation.
    pub dt_min: f64,
    /// `quasiseparable`: largest step drawn at initialisation.
    pub dt_max: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            matrix: Matrix::Quasiseparable,
            data_dependent: true,
            form: Form::Reference,
            expand: 2,
            headdim: None,
            qk_dim: None,
            d_conv: 7,
            bias: false,
            conv_bias: true,
            chunk_size: 64,
            dt_min: 1e-3,
            dt_max: 0.1,
        }
    }
}

/// A class of matrices; `M[t,s]` is what position t reads of position s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Matrix {
    /// Every entry is learned.
    Dense,
    /// One value for each lag t - s.
    Toeplitz,
    /// Powers of one node a row, and of one a column; real parts.
    Vandermonde,
    /// The real part of the discrete Fourier transform: fixed.
    Dft,
    /// Reciprocals of sums of a row's and a column's value.
    Cauchy,
    /// Products of a query and a key, without a softmax.
    LowRank,
    /// Softmax of the products of a query and a key.
    Attention,
    /// Products of low rank below and above the diagonal, decaying with distance: Hydra with B and C shared by both directions.
    Quasiseparable,
}

/// Whose formula, where paper and code differ: `toeplitz`, `vandermonde`, `cauchy`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Form {
    /// The code's, which gave the published numbers.
    Reference,
    /// The paper's.
    Paper,
}

/// Steps drawn at initialisation are no smaller than this.
const DT_FLOOR: f64 = 1e-4;

impl Family for Config {
    const NAME: &'static str = "matrix_mixer";
    const ABOUT: &'static str = "one layer, eight classes of mixing matrices (Hwang et al. 2024)";
    const PAPER: &'static str = "Hwang et al. 2024, arXiv:2407.09941, §2";
    const COMPLEXITY: &'static str = "time O(length · log length · d_model) for toeplitz and dft, O(length · d_model) for low_rank and quasiseparable, \
                                      O(length² · d_model) for dense, vandermonde, cauchy and attention; memory O(length · d_model)";
    // 2: rounding moved when the norm and the gate came to be one node.
    const VERSION: u32 = 2;
    /// The ablation of §4.1, 12 layers.
    const WIDTH: i64 = 768;
    const BLOCK: Surroundings = Surroundings::NoFfn;
    const RELEASED: Released = Released::Hydra;
    const TRAINING_ONLY: &'static [&'static str] = &["chunk_size", "dt_min", "dt_max"];

    fn small() -> Value {
        json!({ "headdim": 4, "qk_dim": 4, "chunk_size": 4 })
    }

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[("matrix_mixer", replay), ("matrix_mixer_core", vandermonde::replay_core)]
    }

    fn variants() -> Vec<Value> {
        vec![
            json!({ "qk_dim": 1, "headdim": 8 }),
            json!({ "data_dependent": false, "qk_dim": 2, "bias": true }),
            json!({ "conv_bias": false, "d_conv": 5, "qk_dim": 1 }),
            json!({ "matrix": "dense", "data_dependent": false, "d_conv": 3 }),
            json!({ "matrix": "toeplitz" }),
            json!({ "matrix": "toeplitz", "data_dependent": false }),
            json!({ "matrix": "toeplitz", "form": "paper" }),
            json!({ "matrix": "toeplitz", "data_dependent": false, "form": "paper" }),
            json!({ "matrix": "vandermonde", "qk_dim": 3 }),
            json!({ "matrix": "vandermonde", "form": "paper", "qk_dim": 3 }),
            json!({ "matrix": "vandermonde", "data_dependent": false, "form": "paper", "qk_dim": 3 }),
            json!({ "matrix": "dft", "data_dependent": false }),
            json!({ "matrix": "cauchy", "qk_dim": 3 }),
            json!({ "matrix": "cauchy", "data_dependent": false, "qk_dim": 3 }),
            json!({ "matrix": "cauchy", "form": "paper", "qk_dim": 3 }),
            json!({ "matrix": "cauchy", "data_dependent": false, "form": "paper", "qk_dim": 3 }),
            json!({ "matrix": "low_rank", "qk_dim": 3 }),
            json!({ "matrix": "low_rank", "data_dependent": false, "qk_dim": 3 }),
            json!({ "matrix": "attention", "qk_dim": 3 }),
            json!({ "matrix": "attention", "qk_dim": 6 }),
            json!({ "matrix": "attention", "data_dependent": false, "qk_dim": 3 }),
        ]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("q_matrix", 100.0), ("k_matrix", 100.0), ("bias", 100.0), ("dt_bias", 20.0), ("A_log", 5.0)]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let [d, expand, terms, conv, length] =
            [dims.d_model, self.expand, self.qk_dim(), self.d_conv, dims.seq_len].map(|n| n as f64);
        let d_inner = expand * d;
        let heads = d_inner / self.headdim(self.expand * dims.d_model) as f64;
        // What the class reads at a position, or learns for each one.
        let read = match self.matrix {
            Matrix::Dense => heads * length,
            Matrix::Dft => 0.0,
            Matrix::Toeplitz => 2.0 * heads,
            Matrix::Vandermonde | Matrix::Cauchy | Matrix::LowRank | Matrix::Attention => 2.0 * heads * terms,
            Matrix::Quasiseparable => 2.0 * heads * (terms + 1.0),
        };
        let (convolved, learned) = if self.data_dependent { (read, 0.0) } else { (0.0, read * length) };
        let diagonal = if self.matrix == Matrix::Quasiseparable { heads * (d_inner + 3.0) } else { 1.0 };
        let channels = d_inner + convolved;
        (d + 1.0) * (d_inner + channels) + channels * (conv + 1.0) + learned + diagonal + d_inner * (d + 1.0) + d
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        let d_inner = self.expand * dims.d_model;
        let checks = [
            self.check_causal(dims),
            self.check_dependence(),
            self.check_form(),
            self.check_conv(),
            at_least("qk_dim", self.qk_dim(), 1),
            at_least("expand", self.expand, 1),
            width("expand", "expand · d_model", &[self.expand, dims.d_model]),
            width("qk_dim", "qk_dim · heads", &[self.qk_dim(), d_inner / self.headdim(d_inner).max(1)]),
            at_least("d_conv", self.d_conv, 1),
            at_least("chunk_size", self.chunk_size, 1),
            divides("headdim", self.headdim(d_inner), "expand · d_model", d_inner),
            between("dt_max", self.dt_max, 1e-9, 1e3),
            between("dt_min", self.dt_min, 1e-9, self.dt_max.max(1e-9)),
        ];
        checks.into_iter().filter_map(Result::err).collect()
    }

    /// Parameters with a position or a lag for an axis, and scales of `1/√seq_len`, belong to one length.
    fn carries(&self, from: Option<i64>, dims: &Dims) -> Result<(), ConfigError> {
        let free = self.data_dependent && matches!(self.matrix, Matrix::Attention | Matrix::Quasiseparable);
        if free || from == Some(dims.seq_len) {
            return Ok(());
        }
        let Some(from) = from else {
            let problem =
                format!("`matrix: {}` belongs to the longest sequence, and nothing says which that was", self.word());
            return Err(ConfigError { key: "matrix", problem, help: LENGTH_UNKNOWN.into() });
        };
        let why = if self.data_dependent { "is scaled by" } else { "is made for" };
        let problem = format!(
            "`matrix: {}` {why} the longest sequence, which was {from} and is {} here",
            self.word(),
            dims.seq_len
        );
        let help = "set `model: { max_positions: N }` to the same N, the longer of both, in both".into();
        Err(ConfigError { key: "matrix", problem, help })
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(MatrixMixer::new(vs, dims, self))
    }
}

impl Config {
    fn headdim(&self, d_inner: i64) -> i64 {
        let ablation = match self.matrix {
            Matrix::Dense => 128,
            Matrix::Toeplitz | Matrix::Dft => 64,
            _ if self.data_dependent => 128,
            _ => 64,
        };
        self.headdim.unwrap_or(ablation.min(d_inner))
    }

    fn qk_dim(&self) -> i64 {
        self.qk_dim.unwrap_or(if self.data_dependent { 16 } else { 64 })
    }

    /// The word of the config.
    fn word(&self) -> String {
        serde_json::to_value(self.matrix).ok().and_then(|v| Some(v.as_str()?.to_string())).expect("a word")
    }

    fn check_causal(&self, dims: &Dims) -> Result<(), ConfigError> {
        if !dims.causal {
            return Ok(());
        }
        let problem = "`matrix_mixer` reads the whole sequence and cannot be causal".into();
        let help = "set `causal: false` on the task or leave this mixer out".into();
        Err(ConfigError { key: "matrix_mixer", problem, help })
    }

    fn check_dependence(&self) -> Result<(), ConfigError> {
        let (why, help) = match (self.matrix, self.data_dependent, self.form) {
            (Matrix::Dense, true, _) => ("learns every entry of M", "set `data_dependent: false`"),
            (Matrix::Dft, true, _) => ("is a fixed matrix", "set `data_dependent: false`"),
            (Matrix::Vandermonde, false, Form::Reference) => (
                "without data has no reference: what was published under that name is the Fourier matrix",
                "use `matrix: dft` for the published row, `form: paper` for learned nodes, or `data_dependent: true`",
            ),
            _ => return Ok(()),
        };
        let problem = format!("`data_dependent` is {}, but `matrix: {}` {why}", self.data_dependent, self.word());
        Err(ConfigError { key: "data_dependent", problem, help: help.into() })
    }

    fn check_form(&self) -> Result<(), ConfigError> {
        if self.form == Form::Reference
            || matches!(self.matrix, Matrix::Toeplitz | Matrix::Vandermonde | Matrix::Cauchy)
        {
            return Ok(());
        }
        let problem = format!("`form` is paper, but for `matrix: {}` paper and reference agree", self.word());
        Err(ConfigError { key: "form", problem, help: "leave `form` out".into() })
    }

    fn check_conv(&self) -> Result<(), ConfigError> {
        if self.d_conv % 2 != 0 {
            return Ok(());
        }
        let problem = format!("`d_conv` is {}, but a centred convolution has an odd width", self.d_conv);
        Err(ConfigError { key: "d_conv", problem, help: format!("use {}", self.d_conv + 1) })
    }
}

/// What a class is built for.
struct Shape<'a> {
    cfg: &'a Config,
    d_inner: i64,
    heads: i64,
    qk_dim: i64,
    /// Lmax: the length of every axis of a parameter that runs over positions, and of the scales.
    seq_len: i64,
}

/// What a class reads of the input, V included.
struct Inside {
    /// `[batch, length, heads, headdim]`, zero at padded positions.
    v: Tensor,
    /// [`Reads::convolved`] channels before any activation, zero at padded positions.
    convolved: Option<Tensor>,
    /// [`Reads::straight`] channels.
    straight: Option<Tensor>,
}

/// Channels read beside V.
#[derive(Clone, Copy, Debug, Default)]
struct Reads {
    /// Through the convolution.
    convolved: i64,
    /// From `in_proj` as they are.
    straight: i64,
}

/// A class of matrices: what it learns, what it reads, and M (with its scale), applied and written out.
trait MatrixClass: std::fmt::Debug + Send {
    /// Channels read beside V.
    fn reads(&self) -> Reads {
        Reads::default()
    }

    /// M V by the fast path, `[batch, length, heads, headdim]`.
    fn apply(&self, inside: &Inside, ctx: &Context) -> Tensor;

    /// M as the formula stands, `[batch, heads, length, length]`, `[1, …]` where it does not depend on the input.
    fn matrix(&self, inside: &Inside, ctx: &Context) -> Tensor;

    /// Which code applies M on a CPU.
    fn path(&self) -> &'static str {
        "libtorch"
    }

    /// What the class promises.
    fn structure(&self) -> Structure {
        Structure::Dense
    }

    /// Whether V is added to M V, outside M.
    fn residual(&self) -> bool {
        true
    }

    /// Parameters without weight decay, by the last part of their name.
    fn undecayed(&self) -> &'static [&'static str] {
        &[]
    }

    /// Scalars learned.
    fn params(&self) -> i64;

    /// Of M V, V and what else is read given.
    fn flops(&self, length: i64) -> i64;
}

impl Shape<'_> {
    fn class(&self, vs: &nn::Path) -> Box<dyn MatrixClass> {
        match self.cfg.matrix {
            Matrix::Dense => Box::new(dense::Dense::new(vs, self)),
            Matrix::Toeplitz => Box::new(toeplitz::Toeplitz::new(vs, self)),
            Matrix::Vandermonde => Box::new(vandermonde::Vandermonde::new(vs, self)),
            Matrix::Dft => Box::new(dft::Dft::new(self)),
            Matrix::Cauchy => Box::new(cauchy::Cauchy::new(vs, self)),
            Matrix::LowRank => Box::new(low_rank::LowRank::new(vs, self)),
            Matrix::Attention => Box::new(attention::Attention::new(vs, self)),
            Matrix::Quasiseparable => Box::new(quasiseparable::Quasiseparable::new(vs, self)),
        }
    }
}

/// The layer; see the head of this file.
#[derive(Debug)]
struct MatrixMixer {
    in_proj: Linear,
    conv_weight: Tensor,
    conv_bias: Option<Tensor>,
    class: Box<dyn MatrixClass>,
    norm: Tensor,
    out_proj: Linear,
    cfg: Config,
    d_model: i64,
}

impl MatrixMixer {
    fn new(vs: &nn::Path, dims: &Dims, cfg: &Config) -> Self {
        let d_inner = cfg.expand * dims.d_model;
        let heads = d_inner / cfg.headdim(d_inner);
        let shape = Shape { cfg, d_inner, heads, qk_dim: cfg.qk_dim(), seq_len: dims.seq_len };
        let class = shape.class(&(vs / "matrix_mixer"));
        let Reads { convolved, straight } = class.reads();
        let channels = d_inner + convolved;
        let (conv, bound) = (vs / "conv1d", 1.0 / (cfg.d_conv as f64).sqrt());
        let uniform = Init::Uniform { lo: -bound, up: bound };
        Self {
            in_proj: linear(&(vs / "in_proj"), dims.d_model, d_inner + channels + straight, cfg.bias),
            conv_weight: conv.var("weight", &[channels, 1, cfg.d_conv], uniform),
            conv_bias: cfg.conv_bias.then(|| conv.var("bias", &[channels], uniform)),
            class,
            norm: (vs / "norm").ones("weight", &[d_inner]),
            out_proj: linear(&(vs / "out_proj"), d_inner, dims.d_model, cfg.bias),
            cfg: cfg.clone(),
            d_model: dims.d_model,
        }
    }

    fn d_inner(&self) -> i64 {
        self.cfg.expand * self.d_model
    }

    /// The gate z, `[batch, length, d_inner]`, and what M V is made of.
    fn inside(&self, u: &Tensor, ctx: &Context) -> (Tensor, Inside) {
        let d_inner = self.d_inner();
        let Reads { convolved, straight } = self.class.reads();
        // The weights are cut, not the activations: each part then lies packed, and its gradient needs no padding back.
        let parts = [d_inner, d_inner, convolved, straight];
        let weights = self.in_proj.ws.split_with_sizes(parts, 0);
        let biases = self.in_proj.bs.as_ref().map(|b| b.split_with_sizes(parts, 0));
        let project = |i: usize| self.in_proj.precision.linear(u, &weights[i], biases.as_ref().map(|b| &b[i]));
        let conv_weights = self.conv_weight.split_with_sizes([d_inner, convolved], 0);
        let like = (u.kind(), u.device());
        let conv_bias = self.conv_bias.as_ref().map(Tensor::shallow_clone);
        let conv_bias = conv_bias.unwrap_or_else(|| Tensor::zeros([d_inner + convolved], like));
        let conv_biases = conv_bias.split_with_sizes([d_inner, convolved], 0);
        let convolve = |i: usize, silu: bool| {
            let (read, weight) = (ctx.zero_padding(&project(i + 1)), &conv_weights[i]);
            ctx.zero_padding(&Depthwise::centred(weight, silu).apply(&read, weight, &conv_biases[i]))
        };
        let inside = Inside {
            v: convolve(0, true).unflatten(-1, [-1, self.cfg.headdim(d_inner)]),
            convolved: (convolved > 0).then(|| convolve(1, false)),
            straight: (straight > 0).then(|| project(3)),
        };
        (project(0), inside)
    }
}

impl Mixer for MatrixMixer {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        let (z, inside) = self.inside(x, ctx);
        let mixed = self.class.apply(&inside, ctx);
        let y = if self.class.residual() { mixed + &inside.v } else { mixed };
        let out_proj = ctx.join_heads(&self.out_proj, Mixer::heads(self));
        norm_gate_project(&y.flatten(2, 3), &z, &self.norm, &out_proj, Order::NormThenGate)
    }

    /// A silenced head still counts in the norm that all heads share.
    fn heads(&self) -> i64 {
        self.d_inner() / self.cfg.headdim(self.d_inner())
    }

    fn materialize(&self, x: &Tensor, ctx: &Context) -> Result<Tensor, NotLinear> {
        Ok(self.class.matrix(&self.inside(x, ctx).1, ctx))
    }

    fn values(&self, x: &Tensor, ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        let (_, inside) = self.inside(x, ctx);
        let y = self.class.apply(&inside, ctx);
        Ok((inside.v.transpose(1, 2), y.transpose(1, 2)))
    }

    fn path(&self) -> &'static str {
        self.class.path()
    }

    fn structure(&self) -> Structure {
        self.class.structure()
    }

    fn cost(&self, length: i64) -> Cost {
        let (d, d_inner, cfg) = (self.d_model, self.d_inner(), &self.cfg);
        let Reads { convolved, straight } = self.class.reads();
        let channels = d_inner + convolved;
        let projected = d_inner + channels + straight;
        let biases = if cfg.bias { projected + d } else { 0 };
        let filters = channels * (cfg.d_conv + i64::from(cfg.conv_bias));
        let params = d * projected + filters + self.class.params() + d_inner + d_inner * d + biases;
        let flops = linear_flops(length, d, projected)
            + linear_flops(length, cfg.d_conv, channels)
            + self.class.flops(length)
            + linear_flops(length, d_inner, d);
        Cost { params, state_bytes: 0, flops }
    }

    fn param_rules(&self) -> Vec<ParamRule> {
        let rule = |name: &&str| ParamRule { name: format!("matrix_mixer.{name}"), lr: None, weight_decay: Some(0.0) };
        self.class.undecayed().iter().map(rule).collect()
    }

    fn output_map(&self) -> Option<&'static str> {
        Some("out_proj.weight")
    }
}

/// Q and K.
#[derive(Debug)]
enum QueryKey {
    /// From the convolution, in this order.
    Read { heads: i64, qk_dim: i64 },
    /// For each position: `[seq_len, heads, qk_dim]`, or `[heads, seq_len, qk_dim]`.
    Learned { q: Tensor, k: Tensor, heads_first: bool },
}

impl QueryKey {
    fn new(vs: &nn::Path, shape: &Shape, heads_first: bool) -> Self {
        let Shape { heads, qk_dim, seq_len, .. } = *shape;
        if shape.cfg.data_dependent {
            return Self::Read { heads, qk_dim };
        }
        let sizes = if heads_first { [heads, seq_len, qk_dim] } else { [seq_len, heads, qk_dim] };
        let [q, k] = ["q_matrix", "k_matrix"].map(|name| vs.var(name, &sizes, xavier_normal(&sizes)));
        Self::Learned { q, k, heads_first }
    }

    fn reads(&self) -> Reads {
        match self {
            Self::Read { heads, qk_dim } => Reads { convolved: 2 * heads * qk_dim, straight: 0 },
            Self::Learned { .. } => Reads::default(),
        }
    }

    /// Each `[batch, heads, length, qk_dim]`, `[1, …]` where learned. `activation` falls on what is read.
    fn of(&self, inside: &Inside, activation: fn(Tensor) -> Tensor) -> [Tensor; 2] {
        match self {
            Self::Read { heads, qk_dim } => {
                let read = inside.convolved.as_ref().expect("q and k are read");
                let mut parts = activation(read.shallow_clone())
                    .unflatten(-1, [2, *heads, *qk_dim])
                    .permute([2, 0, 3, 1, 4])
                    .unbind(0)
                    .into_iter();
                std::array::from_fn(|_| parts.next().expect("two parts"))
            }
            Self::Learned { q, k, heads_first } => [q, k].map(|t| {
                let t = if *heads_first { t.shallow_clone() } else { t.transpose(0, 1) };
                leading(&t, 1, inside.v.size()[1]).unsqueeze(0)
            }),
        }
    }

    fn params(&self) -> i64 {
        match self {
            Self::Read { .. } => 0,
            Self::Learned { q, k, .. } => (q.numel() + k.numel()) as i64,
        }
    }
}

/// The first `length` positions of a parameter's axis.
///
/// # Panics
/// If there are fewer.
fn leading(t: &Tensor, axis: i64, length: i64) -> Tensor {
    let there = t.size()[axis as usize];
    assert!(length <= there, "matrix_mixer: a sequence of length {length}, but parameters for seq_len = {there}");
    t.narrow(axis, 0, length)
}

/// M V with M written out, `[batch or 1, heads, length, length]`. One M for all rows of a batch is one wide product a head.
fn times(m: &Tensor, v: &Tensor) -> Tensor {
    if m.size()[0] == v.size()[0] {
        return m.matmul(&v.transpose(1, 2)).transpose(1, 2);
    }
    unfold(&m.squeeze_dim(0).bmm(&fold(v)), v)
}

/// `[batch, length, heads, headdim]` → `[heads, length, batch · headdim]`.
fn fold(v: &Tensor) -> Tensor {
    v.permute([2, 1, 0, 3]).flatten(2, 3)
}

/// The reverse of [`fold`], to the shape of `like`.
fn unfold(y: &Tensor, like: &Tensor) -> Tensor {
    y.unflatten(-1, [like.size()[0], like.size()[3]]).permute([2, 1, 0, 3])
}

/// PyTorch's fans of a weight: of `[a, b, …]` in is b · …, out is a · …
fn fans(sizes: &[i64]) -> f64 {
    let rest: i64 = sizes[2..].iter().product();
    ((sizes[0] + sizes[1]) * rest) as f64
}

fn xavier_normal(sizes: &[i64]) -> Init {
    Init::Randn { mean: 0.0, stdev: (2.0 / fans(sizes)).sqrt() }
}

fn xavier_uniform(sizes: &[i64]) -> Init {
    let bound = (6.0 / fans(sizes)).sqrt();
    Init::Uniform { lo: -bound, up: bound }
}

/// The layer of a dump, its parameters filled in, and its input. Absent keys are the reference's defaults.
fn stored(golden: &Golden) -> Result<(VarStore, MatrixMixer, Tensor), GoldenError> {
    let data_dependent = golden.flag_or("is_data_dependent", false)?;
    let known = [
        ("dense", Matrix::Dense),
        ("toeplitz", Matrix::Toeplitz),
        ("vandermonde", if data_dependent { Matrix::Vandermonde } else { Matrix::Dft }),
        ("cauchy", Matrix::Cauchy),
        ("low_rank", Matrix::LowRank),
        ("attention", Matrix::Attention),
        ("quasiseparable", Matrix::Quasiseparable),
    ];
    let matrix = golden.choice("matrix_mixer_type", None, &known.map(|(word, matrix)| (word, Some(matrix))))?;
    let cfg = Config {
        matrix: matrix.ok_or_else(|| golden.lacking("config `matrix_mixer_type`"))?,
        data_dependent,
        form: Form::Reference,
        expand: golden.int_or("expand", 2)?,
        qk_dim: Some(golden.int("qk_dim")?),
        headdim: Some(golden.int_or("headdim", 128)?),
        d_conv: golden.int_or("d_conv", 7)?,
        bias: golden.flag_or("bias", false)?,
        conv_bias: golden.flag_or("conv_bias", true)?,
        chunk_size: golden.int_or("chunk_size", 256)?,
        ..Config::default()
    };
    golden.only("activation", &["swish", "silu"])?;
    golden.only("is_dft", &[!data_dependent && cfg.matrix == Matrix::Dft])?;
    golden.without_effect(&["conv_init", "layer_idx", "device", "dtype"]);
    let d_model = golden.int("d_model")?;
    let length = golden.axes("input.u", &["batch", "L", "d_model"])?[1];
    let dims = Dims { d_model, seq_len: golden.int_or("max_seq_len", length)?, causal: false };
    golden.settings(&cfg, &dims)?;
    let d_inner = cfg.expand * d_model;
    golden.agrees("nheads", d_inner / cfg.headdim(d_inner), "`expand`, `d_model` and `headdim` say")?;
    held_buffer(golden, &cfg, &dims)?;
    let u = golden.input("u")?;
    let mut vs = VarStore::new(golden.device);
    let mixer = MatrixMixer::new(&vs.root(), &dims, &cfg);
    golden.fill(&mut vs)?;
    Ok((vs, mixer, u))
}

/// The Fourier matrix that the reference keeps beside its parameters is the one made here.
fn held_buffer(golden: &Golden, cfg: &Config, dims: &Dims) -> Result<(), GoldenError> {
    let key = "buffer.matrix_mixer.dft_matrix";
    if cfg.matrix != Matrix::Dft || !golden.has(key) {
        return Ok(());
    }
    let held = golden.tensor(key)?;
    if held.size() != [dims.seq_len, dims.seq_len] {
        return Err(golden.malformed(format!(
            "`{key}` has shape {:?}, and `max_seq_len` is {}",
            held.size(),
            dims.seq_len
        )));
    }
    // In float32 the reference rounds the angle 2π t s / L itself, which is up to 2π L.
    let allowed = if golden.kind == Kind::Double { F64_TOLERANCE } else { 1.2e-6 * dims.seq_len as f64 };
    if relative_error(held, &dft::cosines(dims.seq_len, dims.seq_len)) <= allowed {
        return Ok(());
    }
    Err(golden.malformed(format!("`{key}` is not cos(2π t s / L) for `max_seq_len` = {}", dims.seq_len)))
}

/// The whole layer: `matrix_mixer__*`.
pub fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    let (vs, mixer, u) = stored(golden)?;
    let y = mixer.forward(&u, &Context::eval());
    golden.replay(&[("y", &y)], &[("u", &u)], Some(&vs))
}
