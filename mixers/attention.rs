//! Softmax attention: each position reads a weighted average of the positions it may see.
//!
//! ```text
//! Y = M V,   M = softmax(Q Kᵀ / √d_head)        one M per head; each row sums to 1
//! ```
//! Paper    Vaswani et al. 2017, arXiv:1706.03762, §3.2; rotary positions Su et al. 2021, arXiv:2104.09864, §3.4.2;
//!          sliding window Beltagy et al. 2020 (Longformer), arXiv:2004.05150, §3.1
//! Time     O(length² · d_model), with a window O(length · window · d_model)
//! Memory   O(length · d_model) to train, the fused kernel never stores M; state O(length · d_model) to decode, with a
//!          window O(window · d_model)
//! Matches  `torch.nn.MultiheadAttention`: names and initialisation; values and gradients against libtorch's own
//!          `torch::nn::MultiheadAttention` (dumps `attention__*`)
//! Departs  dropout falls on M; the paper drops the layer's output instead (§5.4)

use crate::core::family::{BenchTarget, LayerFacts, Released, ReplayFn};
use crate::laws::goldens::{Golden, GoldenError, Replay};
use crate::native::recompute_rows;
use crate::{
    ConfigError, Context, Cost, Dims, Family, Linear, Mixer, NotLinear, Precision, Recurrent, Structure, at_least,
    between, dense_map, heads, linear_flops, tensor_bytes,
};
use serde_json::{Value, json};
use tch::nn::{self, Init};
use tch::{Kind, Tensor};

/// `mixer: { attention: { n_heads: 4 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Parallel heads; must divide `d_model` unless `d_head` is given. §3.2.2: 8 heads of 64.
    pub n_heads: i64,
    /// Width of a head; null is `d_model / n_heads`.
    pub d_head: Option<i64>,
    /// Bias of the projections; torch's default, absent in the paper.
    pub bias: bool,
    /// Positions read on each side (only the past when causal), the own one included; null reads all.
    pub window: Option<i64>,
    /// Rotary positions: queries and keys are turned by position · base^(-2i / d_head); null has none, the paper's base is
    /// 10000.
    pub rotary_base: Option<f64>,
    /// Probability of dropping an entry of M. Not in the paper; 0 turns it off, and only 0 uses the fused kernel.
    pub dropout: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { n_heads: 4, d_head: None, bias: true, window: None, rotary_base: None, dropout: 0.0 }
    }
}

impl Family for Config {
    const NAME: &'static str = "attention";
    const ABOUT: &'static str = "softmax attention, fused (Vaswani et al. 2017)";
    const PAPER: &'static str = "Vaswani et al. 2017, arXiv:1706.03762, §3.2";
    const COMPLEXITY: &'static str =
        "time O(length² · d_model), with a window O(length · window · d_model); memory O(length · d_model)";
    const VERSION: u32 = 1;
    /// The base model, table 3.
    const WIDTH: i64 = 512;
    const RELEASED: Released = Released::Bert;

    fn facts(&self, d_model: i64) -> LayerFacts {
        LayerFacts::of("bert", &json!(self), d_model)
    }

    fn small() -> Value {
        json!({ "n_heads": 2 })
    }

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[("attention", replay)]
    }

    fn variants() -> Vec<Value> {
        vec![
            json!({ "bias": false }),
            json!({ "d_head": 6 }),
            json!({ "window": 1 }),
            json!({ "window": 5, "rotary_base": 100.0 }),
            json!({ "window": 64 }),
            json!({ "rotary_base": 10_000.0 }),
        ]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("in_proj_weight", 30.0)]
    }

    fn targets() -> Vec<BenchTarget> {
        vec![BenchTarget {
            label: "attention",
            settings: json!({ "n_heads": 4 }),
            size: [256, 4],
            time: None,
            reference: None,
        }]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let d = dims.d_model as f64;
        let inner = self.d_head.map_or(d, |d_head| self.n_heads as f64 * d_head as f64);
        4.0 * d * inner + 3.0 * inner + d
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        let mut checks = vec![
            at_least("window", self.window.unwrap_or(1), 1),
            between("dropout", self.dropout, 0.0, 1.0),
            heads(self.n_heads, self.d_head, dims.d_model),
        ];
        if let Some(base) = self.rotary_base {
            checks.push(between("rotary_base", base, 1.0, 1e9));
            let d_head = self.d_head.unwrap_or(dims.d_model / self.n_heads.max(1));
            if d_head % 2 == 1 {
                let problem = format!("`rotary_base` is set, but heads are {d_head} wide and pairs are turned");
                let help = "use an even `d_head`, or other positions".into();
                checks.push(Err(ConfigError { key: "rotary_base", problem, help }));
            }
        }
        checks.into_iter().filter_map(Result::err).collect()
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(Attention::new(vs, dims, self))
    }
}

/// The layer; see the head of this file.
#[derive(Debug)]
pub struct Attention {
    in_weight: Tensor,
    in_bias: Option<Tensor>,
    out_proj: Linear,
    precision: Precision,
    cfg: Config,
    dims: Dims,
}

impl Attention {
    /// Parameters under `vs`; `cfg` must have passed its check.
    pub fn new(vs: &nn::Path, dims: &Dims, cfg: &Config) -> Self {
        let d = dims.d_model;
        let inner = cfg.n_heads * cfg.d_head.unwrap_or(d / cfg.n_heads);
        let uniform = |bound: f64| Init::Uniform { lo: -bound, up: bound };
        let out = nn::LinearConfig {
            ws_init: uniform(1.0 / (inner as f64).sqrt()),
            bs_init: Some(Init::Const(0.0)),
            bias: cfg.bias,
        };
        let xavier = uniform((6.0 / (3 * inner + d) as f64).sqrt());
        let in_weight = vs.var("in_proj_weight", &[3 * inner, d], xavier);
        let in_bias = cfg.bias.then(|| vs.zeros("in_proj_bias", &[3 * inner]));
        dense_map(&in_weight, in_bias.as_ref(), [d, inner]);
        Self {
            in_weight,
            in_bias,
            out_proj: Linear::new(vs / "out_proj", inner, d, out),
            precision: Precision::of_builder(),
            cfg: cfg.clone(),
            dims: *dims,
        }
    }

    fn inner(&self) -> i64 {
        self.out_proj.ws.size()[1]
    }

    /// `[batch, length, d_model]` → q, k, v, each `[batch, heads, length, d_head]`; the first token stands at position
    /// `start`.
    fn project(&self, x: &Tensor, start: i64) -> [Tensor; 3] {
        let qkv =
            self.precision.linear(x, &self.in_weight, self.in_bias.as_ref()).unflatten(-1, [3, self.cfg.n_heads, -1]);
        let mut parts = qkv.permute([2, 0, 3, 1, 4]).unbind(0).into_iter();
        let [q, k, v] = std::array::from_fn(|_| parts.next().expect("three parts"));
        match self.cfg.rotary_base {
            None => [q, k, v],
            Some(base) => [turn(&q, base, start), turn(&k, base, start), v],
        }
    }

    /// M V, `[batch, heads, length, d_head]`.
    fn attend(&self, qkv: &[Tensor; 3], ctx: &Context) -> Tensor {
        let (length, kind) = (qkv[0].size()[2], qkv[0].kind());
        let qkv = qkv.each_ref().map(|t| self.precision.read(t));
        let dropout = if ctx.train { self.cfg.dropout } else { 0.0 };
        let y = match self.cfg.window.filter(|w| *w < length) {
            Some(window) => {
                let causal = self.dims.causal;
                let [q, k, v] = &qkv;
                let rows: Vec<&Tensor> = [q, k, v].into_iter().chain(&ctx.lengths).collect();
                let near = move |t: &[Tensor]| nearby([&t[0], &t[1], &t[2]], window, (causal, dropout), t.get(3));
                // Dropout would be drawn anew in the backward.
                if dropout > 0.0 {
                    nearby([q, k, v], window, (causal, dropout), ctx.lengths.as_ref())
                } else {
                    recompute_rows(near, &rows, &[])
                }
            }
            None => {
                let [q, k, v] = &qkv;
                // Right padding lies in the future of every valid position: a causal mixer needs no mask for it.
                let mask = if self.dims.causal { None } else { readable(length, ctx, q) };
                Tensor::scaled_dot_product_attention(q, k, v, mask, dropout, self.dims.causal, None, false)
            }
        };
        y.to_kind(kind)
    }

    /// Positions each position may read, boolean `[batch or 1, 1, length, length]`; `None` when all.
    fn may_read(&self, length: i64, ctx: &Context, like: &Tensor) -> Option<Tensor> {
        let all = || Tensor::ones([1, 1, length, length], (Kind::Bool, like.device()));
        let mut mask = self.dims.causal.then(|| all().tril(0));
        if let Some(window) = self.cfg.window.filter(|w| *w < length) {
            let near = all().triu(1 - window).tril(window - 1);
            mask = Some(mask.map_or(near.shallow_clone(), |m| m.logical_and(&near)));
        }
        let readable = if self.dims.causal { None } else { readable(length, ctx, like) };
        match (mask, readable) {
            (None, None) => None,
            (Some(mask), None) => Some(mask),
            (None, Some(readable)) => Some(readable.expand([-1, -1, length, -1], false)),
            // A padded position whose window holds no valid one reads itself.
            (Some(mask), Some(readable)) => {
                let own = Tensor::eye(length, (Kind::Float, like.device())).to_kind(Kind::Bool);
                Some(mask.logical_and(&readable.logical_or(&own)))
            }
        }
    }
}

/// M V under a window: queries in blocks as long as the window read their own block and its neighbours, so that no
/// `[length, length]` tensor is needed.
fn nearby([q, k, v]: [&Tensor; 3], window: i64, (causal, dropout): (bool, f64), lengths: Option<&Tensor>) -> Tensor {
    let [batch, heads, length, d_head] = q.size4().expect("four axes").into();
    let count = (length + window - 1) / window;
    let (before, after) = (1, if causal { 0 } else { 1 });
    let device = q.device();
    let queries = q.constant_pad_nd([0, 0, 0, count * window - length]).unflatten(2, [count, window]);
    // Block b of the keys starts one block early.
    let around = |t: &Tensor| {
        let padded = t.constant_pad_nd([0, 0, before * window, (count + after) * window - length]);
        padded.unfold(2, (before + 1 + after) * window, window).transpose(-2, -1) // [batch, heads, count, keys, d_head]
    };
    let fold = |t: Tensor| t.transpose(1, 2).flatten(0, 1).contiguous(); // [batch · count, heads, ·, d_head]
    let at = |from: i64, to: i64| Tensor::arange_start(from, to, (Kind::Int64, device));
    let starts = (at(0, count) * window).unsqueeze(-1);
    let t = (&starts + at(0, window)).unsqueeze(-1); // [count, window, 1]
    let s = (&starts + at(-before * window, (1 + after) * window)).unsqueeze(1); // [count, 1, keys]
    let distance = &t - &s;
    let near = distance.lt(window).logical_and(&distance.gt(if causal { -1 } else { -window }));
    let ends = match (lengths, causal) {
        (Some(lengths), false) => lengths.to_device(device).view([-1, 1, 1, 1]),
        _ => Tensor::full([1, 1, 1, 1], length, (Kind::Int64, device)),
    };
    let there = s.lt_tensor(&ends).logical_and(&s.ge(0)).logical_or(&distance.eq(0)); // a row never lacks its own position
    let mask = near.logical_and(&there).expand([batch, -1, -1, -1], false).flatten(0, 1).unsqueeze(1);
    let y = Tensor::scaled_dot_product_attention(
        &fold(queries),
        &fold(around(k)),
        &fold(around(v)),
        Some(&mask),
        dropout,
        false,
        None,
        false,
    );
    let y = y.view([batch, count, heads, window, d_head]).transpose(1, 2).flatten(2, 3);
    y.narrow(2, 0, length)
}

/// Keys that may be read, boolean `[batch, 1, 1, length]`. A row without any valid position reads its first: an average of
/// nothing would be NaN.
fn readable(length: i64, ctx: &Context, like: &Tensor) -> Option<Tensor> {
    let lengths = ctx.lengths.as_ref()?.clamp_min(1);
    let valid = Context { train: false, lengths: Some(lengths), ..Context::default() }.valid(length, like.device())?;
    Some(valid.unsqueeze(1).unsqueeze(1))
}

/// Rotary positions: neighbours (2i, 2i + 1) of `[…, length, d_head]` turned by `(start + t) · base^(-2i / d_head)`.
fn turn(x: &Tensor, base: f64, start: i64) -> Tensor {
    let size = x.size();
    let (length, d_head) = (size[size.len() - 2], size[size.len() - 1]);
    let double = (Kind::Double, x.device());
    let frequency = (Tensor::arange(d_head / 2, double) * (-2.0 * base.ln() / d_head as f64)).exp();
    let angle = Tensor::arange_start(start, start + length, double).unsqueeze(-1) * frequency;
    let (cos, sin) = (angle.cos().to_kind(x.kind()), angle.sin().to_kind(x.kind()));
    let pairs = x.unflatten(-1, [-1, 2]);
    let (a, b) = (pairs.select(-1, 0), pairs.select(-1, 1));
    Tensor::stack(&[&a * &cos - &b * &sin, a * sin + b * cos], -1).flatten(-2, -1)
}

impl Mixer for Attention {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        self.attend(&self.project(x, 0), ctx)
            .transpose(1, 2)
            .flatten(2, 3)
            .apply(&ctx.join_heads(&self.out_proj, self.cfg.n_heads))
    }

    fn heads(&self) -> i64 {
        self.cfg.n_heads
    }

    fn materialize(&self, x: &Tensor, ctx: &Context) -> Result<Tensor, NotLinear> {
        let [q, k, _] = self.project(x, 0);
        let mut scores = q.matmul(&k.transpose(-2, -1)) / (q.size()[3] as f64).sqrt();
        if let Some(mask) = self.may_read(q.size()[2], ctx, &q) {
            scores = scores.masked_fill(&mask.logical_not(), f64::NEG_INFINITY);
        }
        Ok(scores.softmax(-1, scores.kind()))
    }

    fn values(&self, x: &Tensor, ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        let qkv = self.project(x, 0);
        let y = self.attend(&qkv, ctx);
        let [_, _, v] = qkv;
        Ok((v, y))
    }

    fn path(&self) -> &'static str {
        match (self.cfg.dropout > 0.0, self.cfg.window) {
            (true, _) => "libtorch",
            (false, None) => "fused",
            (false, Some(_)) => "fused, in blocks",
        }
    }

    fn structure(&self) -> Structure {
        Structure::Stochastic { full: self.cfg.window.is_none() }
    }

    fn recurrent(&self) -> Option<Box<dyn Recurrent + '_>> {
        self.dims.causal.then(|| Box::new(Cache { layer: self, kv: None, seen: 0 }) as Box<dyn Recurrent>)
    }

    /// FLOPs count the whole square (whole blocks under a window), although a causal kernel skips nearly half of it.
    fn cost(&self, length: i64) -> Cost {
        let (d, inner) = (self.dims.d_model, self.inner());
        let biases = if self.cfg.bias { 3 * inner + d } else { 0 };
        let kept = self.cfg.window.unwrap_or(length).min(length);
        let state_bytes = if self.dims.causal { 4 * 2 * kept * inner } else { 0 };
        // Under a window, each block of queries reads its own block and its neighbours.
        let (rows, read) = match self.cfg.window.filter(|w| *w < length) {
            None => (length, length),
            Some(window) => ((length + window - 1) / window * window, if self.dims.causal { 2 } else { 3 } * window),
        };
        let flops = linear_flops(length, d, 4 * inner) + 2 * linear_flops(rows, read, inner); // projections; QKᵀ and MV
        Cost { params: 4 * d * inner + biases, state_bytes, flops }
    }

    fn output_map(&self) -> Option<&'static str> {
        Some("out_proj.weight")
    }
}

/// Keys and values of every token so far, or of the window.
struct Cache<'a> {
    layer: &'a Attention,
    kv: Option<[Tensor; 2]>,
    seen: i64,
}

impl Recurrent for Cache<'_> {
    fn reset(&mut self, _batch: i64) {
        (self.kv, self.seen) = (None, 0);
    }

    fn step(&mut self, x: &Tensor) -> Tensor {
        let [q, k, v] = self.layer.project(&x.unsqueeze(1), self.seen);
        self.seen += 1;
        let window = self.layer.cfg.window.unwrap_or(self.seen).min(self.seen);
        let latest = |t: Tensor| {
            let held = t.size()[2];
            if held > window { t.narrow(2, held - window, window).copy() } else { t }
        };
        let kv = match self.kv.take() {
            None => [k, v],
            Some([ks, vs]) => [latest(Tensor::cat(&[ks, k], 2)), latest(Tensor::cat(&[vs, v], 2))],
        };
        let y = Tensor::scaled_dot_product_attention(&q, &kv[0], &kv[1], None::<Tensor>, 0.0, false, None, false);
        self.kv = Some(kv);
        y.flatten(1, 3).apply(&self.layer.out_proj)
    }

    fn state_bytes(&self) -> i64 {
        self.kv.iter().flatten().map(tensor_bytes).sum()
    }
}

/// The layer of `torch::nn`: `attention__*`.
pub(crate) fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    golden.dropout(&["dropout"])?;
    let cfg = Config {
        n_heads: golden.int("n_heads")?,
        d_head: golden.setting("d_head", None)?,
        bias: golden.flag_or("bias", true)?,
        window: golden.setting("window", None)?,
        rotary_base: golden.setting("rotary_base", None)?,
        dropout: 0.0,
    };
    let d_model = golden.int("d_model")?;
    let causal = golden.flag_or("causal", false)?;
    let dims = Dims { d_model, seq_len: golden.axes("input.x", &["batch", "L", "d_model"])?[1], causal };
    golden.settings(&cfg, &dims)?;
    golden.replay_layer("x", |vs| Attention::new(vs, &dims, &cfg))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::assert_twins;
    use tch::Device;
    use tch::nn::VarStore;

    /// The formula as it stands.
    fn plain(layer: &Attention, x: &Tensor, ctx: &Context) -> Tensor {
        let [_, _, v] = layer.project(x, 0);
        let m = layer.materialize(x, ctx).expect("attention has a matrix");
        m.matmul(&v).transpose(1, 2).flatten(2, 3).apply(&layer.out_proj)
    }

    fn layer(causal: bool) -> (VarStore, Attention, Tensor) {
        layer_of(causal, &Config { n_heads: 3, ..Config::default() })
    }

    fn layer_of(causal: bool, cfg: &Config) -> (VarStore, Attention, Tensor) {
        let mut vs = VarStore::new(Device::Cpu);
        let dims = Dims { d_model: 12, seq_len: 40, causal };
        let layer = Attention::new(&vs.root(), &dims, cfg);
        vs.double();
        (vs, layer, Tensor::randn([2, 40, 12], (Kind::Double, Device::Cpu)).set_requires_grad(true))
    }

    #[test]
    fn the_fused_kernel_is_the_formula_in_values_and_gradients() {
        let full = Config { n_heads: 3, ..Config::default() };
        let near = Config { window: Some(7), rotary_base: Some(100.0), ..full.clone() };
        let cases = [(true, None), (false, None), (false, Some([40i64, 7])), (true, Some([40, 7]))];
        for ((causal, lengths), cfg) in cases.into_iter().flat_map(|case| [(case, &full), (case, &near)]) {
            let (vs, layer, x) = layer_of(causal, cfg);
            let ctx = Context { train: true, lengths: lengths.map(|l| Tensor::from_slice(&l)), ..Context::default() };
            let mut leaves = vs.trainable_variables();
            leaves.push(x.shallow_clone());
            let (fast, slow) = (layer.forward(&x, &ctx), plain(&layer, &x, &ctx));
            let leaves: Vec<&Tensor> = leaves.iter().collect();
            assert_twins(&fast, &slow, &leaves, 1e-10, &format!("causal {causal}, {lengths:?}"));
        }
    }

    #[test]
    fn rows_of_the_matrix_sum_to_one() {
        let (_, layer, x) = layer(true);
        let sums =
            layer.materialize(&x, &Context::eval()).unwrap().sum_dim_intlist([-1].as_slice(), false, Kind::Double);
        assert!(sums.allclose(&sums.ones_like(), 1e-12, 1e-12, false));
    }

    #[test]
    fn a_row_without_valid_positions_gives_numbers() {
        let (vs, layer, x) = layer(false);
        let y = layer.forward(
            &x,
            &Context { train: true, lengths: Some(Tensor::from_slice(&[0i64, 40])), ..Context::default() },
        );
        y.sum(Kind::Double).backward();
        let finite = |t: &Tensor| t.isfinite().all().int64_value(&[]) == 1;
        assert!(finite(&y) && vs.trainable_variables().iter().all(|p| finite(&p.grad())));
    }

    #[test]
    fn turned_queries_and_keys_meet_by_their_distance_alone() {
        let rows = |salt| crate::laws::testing::noise(&[1, 8], salt).expand([9, 8], false).unsqueeze(0);
        let scores = turn(&rows(1), 50.0, 3).matmul(&turn(&rows(2), 50.0, 3).transpose(-2, -1)).squeeze_dim(0);
        let one_further = (scores.narrow(0, 1, 8).narrow(1, 1, 8), scores.narrow(0, 0, 8).narrow(1, 0, 8));
        assert!(one_further.0.allclose(&one_further.1, 1e-12, 1e-12, false));
        assert!((scores.double_value(&[0, 0]) - scores.double_value(&[5, 0])).abs() > 1e-3, "distance must matter");
    }

    #[test]
    fn what_cannot_be_built_is_named() {
        let keys = |cfg: Config| -> Vec<&str> {
            cfg.check(&Dims { d_model: 12, seq_len: 8, causal: false }).iter().map(|e| e.key).collect()
        };
        let default = Config::default;
        assert!(keys(default()).is_empty());
        assert_eq!(keys(Config { n_heads: 5, ..default() }), ["n_heads"]);
        assert!(keys(Config { n_heads: 5, d_head: Some(3), ..default() }).is_empty());
        assert_eq!(keys(Config { window: Some(0), ..default() }), ["window"]);
        assert_eq!(keys(Config { rotary_base: Some(100.0), ..default() }), ["rotary_base"]);
        assert_eq!(keys(Config { d_head: Some(4), rotary_base: Some(0.5), ..default() }), ["rotary_base"]);
    }
}
