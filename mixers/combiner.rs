//! Combiner: full attention at sub-quadratic cost. Some tokens are read directly, the others through one summary per region,
//! under one softmax.
//!
//! ```text
//! M[i,j] = exp(q_i·k_j) / Z_i                                 j read directly; q is scaled by 1/√d_head
//! M[i,j] = exp(q_i·k_Ω) / Z_i · softmax_{j∈Ω}(q_Ω·k_j)        j in a region Ω;  Z_i = Σ_direct exp(q_i·k_j) + Σ_Ω exp(q_i·k_Ω)
//! k_Ω = pool_{j∈Ω} f(k_j),   q_Ω = pool_{j∈Ω} f(q_j)          rowmajor: q_Ω = q_{t,c}, k_Ω by `row_summary`
//! ```
//! Tokens lie in rows of `segment`; i is at row r, column c.
//!
//! ```text
//! pattern           direct                        regions
//! fixed             own row                       every other row                           (causal: earlier rows)
//! logsparse         i                             blocks of 2^l, one per set bit l of i; mirrored for the future
//! rowmajor          own row                       every other row t, summarised for column c
//! vertical          row up to i, column above     every other column above row r
//! horizontal        row up to i, column above     every earlier row without column c
//! mixture_joint     row up to i, column above     columns above; rows left of c; rows right of c       one softmax
//! mixture_averaged  M = (vertical + horizontal) / 2
//! ```
//! Paper    Ren et al. 2021, arXiv:2107.05768, §4 and appendix B
//! Time     O(length · (segment + length / segment) · d_model), segment = √length is best; logsparse O(length · log length · d_model)
//! Memory   O(length · d_model) to train: what a piece of the heads and of the batch computes is not kept but computed again;
//!          state O((segment + length / segment) · d_model) for fixed, O(length · d_model) for the others
//! Matches  google-research `combiner/` (JAX causal, TF causal and bidirectional): outputs and gradients
//!          (`fixtures/goldens/combiner__*`); the paper's formulas where there is no code: vertical, horizontal,
//!          mixture_averaged, bidirectional logsparse and bidirectional fixed
//! Departs  any length: the last row may be short, and padded positions are left out of pools and of softmaxes, where the
//!          reference wants a multiple of the segment and ignores padding. Both directions leave a token's own row out of its
//!          regions, as the paper does; `own_segment` adds it, as the TF code does. logsparse has as many levels as length - 1
//!          has bits; the reference is one short where length - 1 is a power of two. Bidirectional rowmajor: where the last row
//!          has no column c, its last token stands in. Bidirectional mixture_joint follows the TF code: i is read directly
//!          twice (row and column), own row and column are regions too, and an empty region has the key 0 and reads its whole
//!          line evenly, so `M[i,j]` sums several terms; the rows still sum to 1. Dropout falls on the softmax inside a region,
//!          and for fixed and rowmajor on the direct weights (TF code; the JAX code and the mixtures differ).

use crate::core::error::LENGTH_UNKNOWN;
use crate::core::family::{BenchTarget, ReplayFn};
use crate::laws::goldens::{Golden, GoldenError, Replay};
use crate::{
    ConfigError, Context, Cost, Dims, Family, Mixer, NotLinear, Precision, Recurrent, Structure, at_least, between,
    dense_map, deviation, heads, linear_flops,
};
use inner::{Core, Operands};
use serde_json::{Value, json};
use tch::Tensor;
use tch::nn::{self, Init, VarStore};

mod axial;
mod fixed;
mod inner;
mod lists;
mod logsparse;
mod patterns;
mod pieces;
mod recurrent;
mod rowmajor;
#[cfg(test)]
mod tests;

/// `mixer: { combiner: { pattern: rowmajor, segment: 32 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Parallel heads; must divide `d_model` unless `d_head` is given.
    pub n_heads: i64,
    /// Width of a head; null is `d_model / n_heads`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub d_head: Option<i64>,
    /// Which tokens are read directly and which regions are summarised.
    pub pattern: Pattern,
    /// Tokens in a segment (a row); `null` takes √seq_len, rounded up. Logsparse has none.
    pub segment: Option<i64>,
    /// How a region's queries and keys become one. Paper: max; TF mixtures: sum. Rowmajor does not pool.
    pub pool: Pool,
    /// What is applied to queries and keys before pooling. Paper: identity, or DeepSets.
    pub map: Map,
    /// Rowmajor only: the key of an earlier row for the readers of one column. JAX code: proj.
    pub row_summary: RowSummary,
    /// Bidirectional fixed and rowmajor: also read the summary of one's own segment, as the TF code does.
    pub own_segment: bool,
    /// Bias of the projections. JAX code: no; TF code: yes.
    pub bias: bool,
    /// Whose parameter names and initialisation.
    pub naming: Naming,
    /// Probability of dropping a direct weight, or a weight inside a region.
    pub dropout: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            n_heads: 4,
            d_head: None,
            pattern: Pattern::Fixed,
            segment: None,
            pool: Pool::Max,
            map: Map::Identity,
            row_summary: RowSummary::Proj,
            own_segment: false,
            bias: false,
            naming: Naming::Jax,
            dropout: 0.0,
        }
    }
}

/// Which tokens are read directly and which regions are summarised; the table is in the head of this file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pattern {
    /// Own segment directly, the others summarised.
    Fixed,
    /// Blocks of 2, 4, 8, … tokens, the further the longer.
    Logsparse,
    /// Own row directly, other rows through summaries that depend on the reader's column.
    Rowmajor,
    /// Own row and column directly, other columns summarised. Causal only.
    Vertical,
    /// Own row and column directly, the rest of earlier rows summarised. Causal only.
    Horizontal,
    /// Columns and both halves of rows summarised, under one softmax (JAX and TF code).
    MixtureJoint,
    /// The average of vertical and horizontal (paper). Causal only.
    MixtureAveraged,
}

/// The key of row t for readers in column c; q and p are those of the token (t, c), p its softmax over row t.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RowSummary {
    /// k of the token (t, c).
    None,
    /// Σ_j p_j k_j.
    Wsum,
    /// LayerNorm(x + W1 Σ_j p_j v_j) W2.
    Proj,
    /// LayerNorm(x + W1 Σ_j p_j k_j) W2.
    WsumProj,
}

/// How a region's vectors become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Pool {
    /// Elementwise maximum; ties share the gradient.
    Max,
    /// Average.
    Mean,
    /// Sum.
    Sum,
}

/// What is applied to each vector before pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Map {
    /// Nothing.
    Identity,
    /// relu(x).
    Relu,
    /// relu(x W), one learned W for queries and one for keys, shared by the heads.
    Deepset,
}

/// Whose parameter names and initialisation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Naming {
    /// `query.kernel`, …, `DenseGeneral_0.kernel`; Xavier uniform; layer norms with 1e-6.
    Jax,
    /// `q.weight`, …, `dense.weight`; normal of deviation 0.02; layer norms with 1e-5.
    Tf,
}

impl Family for Config {
    const NAME: &'static str = "combiner";
    const ABOUT: &'static str =
        "Combiner: direct attention to some tokens, region summaries elsewhere (Ren et al. 2021)";
    const PAPER: &'static str = "Ren et al. 2021, arXiv:2107.05768, §4";
    const COMPLEXITY: &'static str = "time O(length^1.5 · d_model), logsparse O(length · log length · d_model)";
    // 2: rounding moved when q, k and v came to be made in pieces.
    const VERSION: u32 = 2;
    /// The language model's default in the TF code; image ablations have 512 (§5.1).
    const WIDTH: i64 = 768;

    fn small() -> Value {
        json!({ "n_heads": 2, "segment": 3 })
    }

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[("combiner", replay)]
    }

    fn variants() -> Vec<Value> {
        vec![
            json!({ "segment": null, "pool": "sum", "map": "relu" }),
            json!({ "segment": 4, "pool": "mean", "map": "deepset", "bias": true, "naming": "tf" }),
            json!({ "own_segment": true, "map": "deepset" }),
            json!({ "segment": 1 }),
            json!({ "segment": 64 }),
            json!({ "pattern": "logsparse" }),
            json!({ "pattern": "logsparse", "pool": "mean", "map": "deepset" }),
            json!({ "pattern": "logsparse", "pool": "sum", "map": "relu" }),
            json!({ "pattern": "rowmajor" }),
            json!({ "pattern": "rowmajor", "row_summary": "none", "segment": 4 }),
            json!({ "pattern": "rowmajor", "row_summary": "wsum", "segment": 64 }),
            json!({ "pattern": "rowmajor", "row_summary": "wsum_proj", "bias": true, "naming": "tf" }),
            json!({ "pattern": "rowmajor", "own_segment": true }),
            json!({ "pattern": "rowmajor", "row_summary": "wsum", "own_segment": true }),
            json!({ "pattern": "vertical" }),
            json!({ "pattern": "vertical", "pool": "mean", "map": "relu" }),
            json!({ "pattern": "horizontal" }),
            json!({ "pattern": "horizontal", "pool": "mean", "map": "deepset", "segment": null }),
            json!({ "pattern": "horizontal", "pool": "sum", "segment": 1 }),
            json!({ "pattern": "mixture_joint" }),
            json!({ "pattern": "mixture_joint", "pool": "sum" }),
            json!({ "pattern": "mixture_joint", "pool": "sum", "map": "deepset", "segment": 4 }),
            json!({ "pattern": "mixture_joint", "pool": "sum", "segment": 1 }),
            json!({ "pattern": "mixture_joint", "pool": "sum", "segment": 64 }),
            json!({ "pattern": "mixture_joint", "pool": "mean" }),
            json!({ "d_head": 5 }),
            json!({ "d_head": 5, "pattern": "rowmajor", "bias": true, "naming": "tf" }),
            json!({ "d_head": 5, "pattern": "mixture_joint", "pool": "sum", "map": "deepset" }),
            json!({ "pattern": "mixture_averaged" }),
            json!({ "pattern": "mixture_averaged", "pool": "sum", "map": "relu" }),
        ]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("kernel", 10.0), ("weight", 10.0)]
    }

    fn unsteady() -> Vec<(Value, &'static str)> {
        const WHY: &str = "Xavier's deviation counts outputs too: into few channels, whose number is fixed, a narrow model's map is louder";
        vec![
            (json!({ "d_head": 5 }), WHY),
            (json!({ "d_head": 5, "pattern": "mixture_joint", "pool": "sum", "map": "deepset" }), WHY),
        ]
    }

    fn targets() -> Vec<BenchTarget> {
        vec![BenchTarget { label: "combiner", settings: json!({}), size: [256, 4], time: Some(1.0), reference: None }]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let [d, heads] = [dims.d_model, self.n_heads].map(|n| n as f64);
        let d_head = self.d_head.map_or(d / heads, |d_head| d_head as f64);
        let inner = heads * d_head;
        let pooling = if self.map == Map::Deepset { 2.0 * d_head * d_head } else { 0.0 };
        let keys = if self.pattern == Pattern::Rowmajor { 2.0 * d * inner + 3.0 * d + inner } else { 0.0 };
        4.0 * d * inner + 3.0 * inner + d + pooling + keys
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        let mut wrong = Vec::new();
        let mut refuse = |key, problem: &str, help: &str| {
            wrong.push(ConfigError { key, problem: problem.into(), help: help.into() });
        };
        let causal_only = matches!(self.pattern, Pattern::Vertical | Pattern::Horizontal | Pattern::MixtureAveraged);
        if causal_only && !dims.causal {
            let problem = format!("`pattern` is {}, which only exists causally", word(self.pattern));
            refuse("pattern", &problem, "use fixed, logsparse, rowmajor or mixture_joint, or a causal task");
        }
        if self.pattern == Pattern::MixtureJoint && !dims.causal && self.pool != Pool::Sum {
            let problem = format!("`pool` is {}, but a bidirectional mixture_joint sums", word(self.pool));
            refuse("pool", &problem, "set it to sum, or use another pattern");
        }
        if self.own_segment && !matches!(self.pattern, Pattern::Fixed | Pattern::Rowmajor) {
            let problem = format!("`own_segment` is true, but {} has no such choice", word(self.pattern));
            refuse("own_segment", &problem, "leave it out, or use fixed or rowmajor");
        } else if self.own_segment && dims.causal {
            let problem = "`own_segment` is true, but a causal token must not read the summary of its own segment";
            refuse("own_segment", problem, "leave it out, or set it to false");
        }
        if self.pattern != Pattern::Rowmajor && self.row_summary != RowSummary::Proj {
            let problem = format!("`row_summary` is set, but {} has no row summaries", word(self.pattern));
            refuse("row_summary", &problem, "leave it out, or set `pattern: rowmajor`");
        }
        if self.pattern == Pattern::Rowmajor && self.pool != Pool::Max {
            refuse(
                "pool",
                "`pool` is set, but rowmajor does not pool",
                "leave it out; `row_summary` is the choice here",
            );
        }
        if self.pattern == Pattern::Rowmajor && self.map != Map::Identity {
            refuse("map", "`map` is set, but rowmajor does not pool", "leave it out; `row_summary` is the choice here");
        }
        let checks = [
            heads(self.n_heads, self.d_head, dims.d_model),
            at_least("segment", self.segment.unwrap_or(1), 1),
            between("dropout", self.dropout, 0.0, 1.0),
        ];
        wrong.extend(checks.into_iter().filter_map(Result::err));
        wrong
    }

    /// Without a `segment` of its own its width follows the length, and with it what a token reads.
    fn carries(&self, from: Option<i64>, dims: &Dims) -> Result<(), ConfigError> {
        if self.segment.is_some() || self.pattern == Pattern::Logsparse {
            return Ok(());
        }
        let Some(from) = from else {
            let problem = "`segment` is null, which is √seq_len, and nothing says what that was for the weights".into();
            return Err(ConfigError { key: "segment", problem, help: LENGTH_UNKNOWN.into() });
        };
        let [there, here] = [from, dims.seq_len].map(|length| self.width(length));
        if there == here {
            return Ok(());
        }
        let problem = format!("`segment` is null, which is √seq_len: {there} for the weights and {here} here");
        Err(ConfigError { key: "segment", problem, help: format!("set `segment: {there}` for both") })
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(Combiner::new(vs, dims, self))
    }
}

/// A setting as it is written in a config.
fn word(setting: impl serde::Serialize) -> String {
    serde_json::to_value(setting).ok().and_then(|v| v.as_str().map(Into::into)).unwrap_or_default()
}

/// The layer; see the head of this file.
#[derive(Debug)]
pub struct Combiner {
    qkv: [Projection; 3],
    out: Projection,
    core: Core,
    /// What the core learns: DeepSets' weights of queries and keys, `[d_head, d_head]`, or the projections of rowmajor keys.
    learned: Vec<Tensor>,
    output_map: &'static str,
    dims: Dims,
}

impl Config {
    /// Tokens in a segment where sequences have up to `seq_len`.
    fn width(&self, seq_len: i64) -> i64 {
        self.segment.unwrap_or((seq_len as f64).sqrt().ceil() as i64).max(1)
    }

    fn core(&self, dims: &Dims) -> Core {
        Core {
            pattern: self.pattern,
            segment: self.width(dims.seq_len),
            pool: self.pool,
            map: self.map,
            row_summary: self.row_summary,
            own_segment: self.own_segment,
            causal: dims.causal,
            dropout: self.dropout,
            eps: if self.naming == Naming::Jax { 1e-6 } else { 1e-5 },
        }
    }
}

/// DeepSets' weights of queries and of keys.
fn deep_sets(vs: &nn::Path, d_head: i64) -> [Tensor; 2] {
    let bound = (6.0 / (2 * d_head) as f64).sqrt();
    let init = Init::Uniform { lo: -bound, up: bound };
    ["pooling_query", "pooling_key"].map(|name| (vs / name / "dense").var("weight", &[d_head, d_head], init))
}

/// A learned map between `d_model` and heads: `[d_model, heads, d_head]`, or `[heads, d_head, d_model]` for the output.
#[derive(Debug)]
struct Projection {
    weight: Tensor,
    bias: Option<Tensor>,
    precision: Precision,
}

impl Projection {
    /// `[…, d_model]` → `[…, heads, d_head]`.
    fn split(&self, x: &Tensor) -> Tensor {
        let [_, heads, d_head] = self.shape();
        let bias = self.bias.as_ref().map(|b| b.flatten(0, 1));
        self.precision.linear(x, &self.weight.flatten(1, 2).tr(), bias.as_ref()).unflatten(-1, [heads, d_head])
    }

    /// `[…, heads · d_head]` → `[…, d_model]`.
    fn join(&self, y: &Tensor, ctx: &Context) -> Tensor {
        self.precision.linear(y, &ctx.weigh_heads(&self.weight, 0).flatten(0, 1).tr(), self.bias.as_ref())
    }

    fn shape(&self) -> [i64; 3] {
        let size = self.weight.size();
        [size[0], size[1], size[2]]
    }
}

impl Combiner {
    fn new(vs: &nn::Path, dims: &Dims, cfg: &Config) -> Self {
        let (d, heads) = (dims.d_model, cfg.n_heads);
        let d_head = cfg.d_head.unwrap_or(d / heads);
        let bound = (6.0 / (d + heads * d_head) as f64).sqrt();
        let core = cfg.core(dims);
        let (weight, xavier) = match cfg.naming {
            Naming::Jax => ("kernel", Some(Init::Uniform { lo: -bound, up: bound })),
            Naming::Tf => ("weight", None),
        };
        let names = match cfg.naming {
            Naming::Jax if core.reads_input() => ["query", "key", "value", "DenseGeneral_2"],
            Naming::Jax => ["query", "key", "value", "DenseGeneral_0"],
            Naming::Tf => ["q", "k", "v", "dense"],
        };
        let projection = |vs: nn::Path, shape: [i64; 3], bias: &[i64]| {
            let joined = heads * d_head;
            let ends = if shape[0] == d { [d, joined] } else { [joined, d] };
            // The heads of the TF code's model are as wide together as the model.
            let normal = || Init::Randn { mean: 0.0, stdev: deviation(0.02, Config::WIDTH, ends[0]) };
            let weight = vs.var(weight, &shape, xavier.unwrap_or_else(normal));
            let bias = cfg.bias.then(|| vs.zeros("bias", bias));
            dense_map(&weight, bias.as_ref(), ends);
            Projection { weight, bias, precision: Precision::of_builder() }
        };
        let qkv = [0, 1, 2].map(|i| projection(vs / names[i], [d, heads, d_head], &[heads, d_head]));
        let out = projection(vs / names[3], [heads, d_head, d], &[d]);
        let output_map = match (cfg.naming, names[3]) {
            (Naming::Tf, _) => "dense.weight",
            (Naming::Jax, "DenseGeneral_2") => "DenseGeneral_2.kernel",
            (Naming::Jax, _) => "DenseGeneral_0.kernel",
        };
        let mut learned = Vec::new();
        if cfg.map == Map::Deepset {
            learned.extend(deep_sets(vs, d_head));
            learned.iter().for_each(|weight| dense_map(weight, None, [d_head, d_head]));
        }
        if core.reads_input() {
            let (paths, norm) = match cfg.naming {
                Naming::Jax => ([vs / "DenseGeneral_0", vs / "LayerNorm_0", vs / "DenseGeneral_1"], ["scale", "bias"]),
                Naming::Tf => {
                    (["dense", "pre_norm", "dense_1"].map(|name| vs / "rowmajor_param_post" / name), ["gamma", "beta"])
                }
            };
            let [first, middle, last] = paths;
            let first = projection(first, [heads, d_head, d], &[d]);
            learned.extend([first.weight, middle.ones(norm[0], &[d]), middle.zeros(norm[1], &[d])]);
            let last = projection(last, [d, heads, d_head], &[heads, d_head]);
            learned.push(last.weight);
            learned.extend([first.bias, last.bias].into_iter().flatten());
        }
        Self { qkv, out, core, learned, output_map, dims: *dims }
    }

    /// `[batch, length, d_model]` → what the core reads.
    fn operands(&self, x: &Tensor, ctx: &Context) -> Operands {
        Operands {
            qkv: self.qkv.each_ref().map(|p| p.split(x)),
            x: self.core.reads_input().then(|| x.shallow_clone()),
            read: None,
            learned: self.learned.iter().map(Tensor::shallow_clone).collect(),
            lengths: ctx.lengths.as_ref().map(|l| l.to_device(x.device())),
        }
    }
}

impl Mixer for Combiner {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        let [heads, d_head, _] = self.out.shape();
        // Dropout would be drawn anew in the backward.
        if (!ctx.train || self.core.dropout == 0.0) && pieces::many(&self.core, x, heads, d_head) {
            let lengths = ctx.lengths.as_ref().map(|l| l.to_device(x.device()));
            let y = pieces::from_input(&self.core, x, &self.qkv, &self.learned, lengths);
            return self.out.join(&y.flatten(2, 3), ctx);
        }
        self.out.join(&pieces::attend(&self.core, &self.operands(x, ctx), ctx.train).flatten(2, 3), ctx)
    }

    fn heads(&self) -> i64 {
        self.out.shape()[0]
    }

    /// The plain path, whole and with the identity for V.
    fn materialize(&self, x: &Tensor, ctx: &Context) -> Result<Tensor, NotLinear> {
        let operands = self.operands(x, ctx);
        let length = x.size()[1];
        let identity = Tensor::eye(length, (x.kind(), x.device())).unsqueeze(0).unsqueeze(2);
        let heads = self.out.shape()[0];
        let read = Some(identity.expand([x.size()[0], length, heads, length], false));
        Ok(self.core.attend(&Operands { read, ..operands }, false).transpose(1, 2))
    }

    fn values(&self, x: &Tensor, ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        let operands = self.operands(x, ctx);
        let y = pieces::attend(&self.core, &operands, false).transpose(1, 2);
        let [_, _, v] = operands.qkv;
        Ok((v.transpose(1, 2), y))
    }

    fn path(&self) -> &'static str {
        if self.core.lists() { "native lists" } else { "in pieces" }
    }

    fn structure(&self) -> Structure {
        Structure::Stochastic { full: true }
    }

    fn recurrent(&self) -> Option<Box<dyn Recurrent + '_>> {
        self.dims.causal.then(|| recurrent::start(self))
    }

    /// FLOPs: projections, logits and reads of tokens and of regions, the regions' own softmaxes, the maps before pooling.
    /// The state: see `recurrent.rs`.
    fn cost(&self, length: i64) -> Cost {
        let d = self.dims.d_model;
        let [heads, d_head, _] = self.out.shape();
        let inner = heads * d_head;
        let biases = if self.out.bias.is_some() { 3 * inner + d } else { 0 };
        let learned: i64 = self.learned.iter().map(|t| t.numel() as i64).sum();
        let mapped = if self.core.map == Map::Deepset { 2 * linear_flops(length, d_head, inner) } else { 0 };
        let keys = if self.core.reads_input() { 2 * linear_flops(length, d, inner) } else { 0 };
        let logits = linear_flops(length, self.core.columns(length), inner);
        let flops = linear_flops(length, d, 4 * inner) + logits + mapped + keys;
        let state_bytes = if self.dims.causal { 4 * recurrent::scalars(&self.core, inner, d, length) } else { 0 };
        Cost { params: 4 * d * inner + biases + learned, state_bytes, flops }
    }

    fn output_map(&self) -> Option<&'static str> {
        Some(self.output_map)
    }
}

/// `combiner__*`: the attention alone (inputs q, k, v) or the whole module (input x).
pub fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    let patterns = [
        ("fixed", Pattern::Fixed),
        ("logsparse", Pattern::Logsparse),
        ("rowmajor", Pattern::Rowmajor),
        ("axial_vertical", Pattern::Vertical),
        ("axial_horizontal", Pattern::Horizontal),
        ("mixture_joint", Pattern::MixtureJoint),
        ("mixture_avg", Pattern::MixtureAveraged),
    ];
    let pattern = golden.choice("fn", None, &patterns.map(|(word, pattern)| (word, Some(pattern))))?;
    let pattern = pattern.ok_or_else(|| golden.lacking("config `fn`"))?;
    let rows = [
        ("none", RowSummary::None),
        ("proj", RowSummary::Proj),
        ("wsum", RowSummary::Wsum),
        ("wsum_proj", RowSummary::WsumProj),
    ];
    let row_summary = golden.choice("row_summary", RowSummary::Proj, &rows)?;
    let (map, pool) = summary(golden)?;
    let whole = golden.choice("level", true, &[("core", false), ("module", true)])?;
    let quirk = golden.choice("quirk", false, &[("none", false), ("last_token_self_only", true)])?;
    golden.dropout(&["dropout", "dropout_rate"])?;
    let has = |name: &str| golden.has(&format!("param.{name}"));
    let d_head = golden.size("d", "d")?;
    let cfg = Config {
        n_heads: golden.size("H", "H")?,
        d_head: Some(d_head),
        pattern,
        segment: Some(golden.int("w")?.max(1)), // 0 where the pattern has none
        pool,
        map,
        row_summary,
        own_segment: golden.variant.contains("bidir_ref") && matches!(pattern, Pattern::Fixed | Pattern::Rowmajor),
        bias: has("q.bias"),
        naming: if has("q.weight") { Naming::Tf } else { Naming::Jax },
        dropout: 0.0,
    };
    let causal = golden.flag_or("causal", false)?;
    let (length, d_model) = if whole {
        let size = golden.axes("input.x", &["batch", "L", "d_model"])?;
        (size[1], size[2])
    } else {
        for name in ["input.q", "input.k"] {
            golden.axes(name, &["batch", "L", "H", "d"])?;
        }
        (golden.axes("input.v", &["batch", "L", "H", "d"])?[1], cfg.n_heads * d_head)
    };
    let dims = Dims { d_model, seq_len: length, causal };
    golden.within_limits(&cfg, &dims)?;
    if pattern != Pattern::Logsparse && cfg.width(length) > length.max(1) {
        return Err(golden.malformed(format!("config `w` is {}, and there are {length} positions", cfg.width(length))));
    }
    if let Some(wrong) = cfg.check(&dims).first() {
        return Err(GoldenError::Unsupported(wrong.problem.clone()));
    }
    let ln_eps = golden.number_or("ln_eps", cfg.core(&dims).eps)?;
    if whole {
        return replay_module(golden, &cfg, &dims, ln_eps, quirk);
    }
    let core = Core { eps: ln_eps, ..cfg.core(&dims) };
    if core.reads_input() {
        let why = "config `row_summary`: this one reads the layer's input, which the attention alone does not have";
        return Err(GoldenError::Unsupported(why.into()));
    }
    replay_core(golden, &core, d_head, quirk)
}

/// The whole module.
fn replay_module(golden: &Golden, cfg: &Config, dims: &Dims, ln_eps: f64, quirk: bool) -> Result<Replay, GoldenError> {
    if quirk {
        return Err(GoldenError::Unsupported("config `quirk`: replayed for the attention alone".into()));
    }
    golden.no_larger(cfg.scalars(dims))?;
    let mut vs = VarStore::new(golden.device);
    let mut combiner = Combiner::new(&vs.root(), dims, cfg);
    combiner.core.eps = ln_eps;
    golden.fill(&mut vs)?;
    let x = golden.input("x")?;
    let y = combiner.forward(&x, &Context::eval());
    golden.replay(&[("y", &y)], &[("x", &x)], Some(&vs))
}

/// The attention alone, with DeepSets' weights if it has them.
fn replay_core(golden: &Golden, core: &Core, d_head: i64, quirk: bool) -> Result<Replay, GoldenError> {
    let mut vs = VarStore::new(golden.device);
    let mut learned = Vec::new();
    if core.map == Map::Deepset {
        golden.no_larger(2.0 * (d_head * d_head) as f64)?;
        learned.extend(deep_sets(&vs.root(), d_head));
    }
    golden.fill(&mut vs)?;
    let qkv = [golden.input("q")?, golden.input("k")?, golden.input("v")?];
    let [q, k, v] = qkv.each_ref().map(Tensor::shallow_clone);
    let o = pieces::attend(core, &Operands { qkv, x: None, read: None, learned, lengths: None }, false);
    let inputs = [("q", &q), ("k", &k), ("v", &v)];
    if !quirk {
        return golden.replay(&[("o", &o)], &inputs, Some(&vs));
    }
    // The reference drops the last token's history here, and its gradients with it: they are met with that token reading
    // itself. What this mixer gives at every token is held against the file's own full-support result.
    let as_there = Tensor::cat(&[o.narrow(1, 0, o.size()[1] - 1), v.narrow(1, -1, 1)], 1);
    let mut replay = golden.replay(&[("o", &as_there)], &inputs, Some(&vs))?;
    replay.0.insert("aux.o_full_support".into(), o.detach());
    Ok(replay)
}

/// The config entry `local_summary`, such as `deepset-mean`, or `pool`.
fn summary(golden: &Golden) -> Result<(Map, Pool), GoldenError> {
    let pool = golden.choice("pool", Pool::Max, &[("max", Pool::Max), ("mean", Pool::Mean), ("sum", Pool::Sum)])?;
    let Some(word) = golden.setting("local_summary", None::<String>)? else { return Ok((Map::Identity, pool)) };
    let parse = |word: &str| {
        let (map, pool) = word.split_once('-')?;
        Some((serde_json::from_value(map.into()).ok()?, serde_json::from_value(pool.into()).ok()?))
    };
    let found: Option<(Map, Pool)> = parse(&word);
    let (map, own) = found.ok_or_else(|| GoldenError::Unsupported(format!("summary `{word}`")))?;
    if golden.has_config("pool") && own != pool {
        return Err(golden.malformed(format!("config `pool` is not that of `local_summary` = `{word}`")));
    }
    Ok((map, own))
}
