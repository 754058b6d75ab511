//! Combiner-Fixed: full attention at sub-quadratic cost. Nearby tokens are read directly, distant ones through one summary
//! per segment, under one softmax.
//!
//! ```text
//! M[i,j] = exp(q_i·k_j) / Z_i                                j in i's own segment
//! M[i,j] = exp(q_i·k_Ω) / Z_i · softmax_{j∈Ω}(q_Ω·k_j)        j in another segment Ω; q is scaled by 1/√d_head
//! k_Ω = pool_{j∈Ω} f(k_j),   q_Ω = pool_{j∈Ω} f(q_j),   Z_i = Σ_own exp(q_i·k_j) + Σ_Ω exp(q_i·k_Ω)
//! ```
//! Paper    Ren et al. 2021, arXiv:2107.05768, §4.1 (the fixed pattern)
//! Time     O(length · (segment + length / segment) · d_model); segment = √length is best
//! Memory   O(length · (segment + length / segment) · n_heads) to train; state O((segment + length / segment) · d_model)
//! Matches  google-research `combiner/` (JAX causal, TF causal and bidirectional): outputs and gradients
//!          (`fixtures/goldens/combiner__fixed_*`)
//! Departs  any length: the last segment may be short, and padded positions are left out of pools and of both softmaxes,
//!          where the reference wants a multiple of the segment and ignores padding. Both directions leave a token's own
//!          segment out of its regions, as the paper does; `own_segment` adds it, as the TF code does. Dropout falls where
//!          the TF code has it, on the softmax inside a region and on the direct weights (the JAX code: only the former).

use crate::goldens::{Golden, GoldenError, Replay};
use crate::{
    ConfigError, Context, Cost, Dims, Family, Mixer, NotLinear, Recurrent, at_least, between, divides, linear_flops,
    tensor_bytes,
};
use serde_json::{Value, json};
use tch::nn::{self, Init, VarStore};
use tch::{Device, Kind, Tensor};

/// `mixer: { combiner: { segment: 32 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Parallel heads; must divide `d_model`.
    pub n_heads: i64,
    /// Tokens in a segment; `null` takes √seq_len, rounded up.
    pub segment: Option<i64>,
    /// How a segment's queries and keys become one. Paper: max.
    pub pool: Pool,
    /// What is applied to queries and keys before pooling. Paper: identity, or DeepSets.
    pub map: Map,
    /// Bidirectional only: also read the summary of one's own segment, as the TF code does.
    pub own_segment: bool,
    /// Bias of the four projections. JAX code: no; TF code: yes.
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
            segment: None,
            pool: Pool::Max,
            map: Map::Identity,
            own_segment: false,
            bias: false,
            naming: Naming::Jax,
            dropout: 0.0,
        }
    }
}

/// How a segment's vectors become one.
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
    /// `query.kernel`, …, `DenseGeneral_0.kernel`; Xavier uniform.
    Jax,
    /// `q.weight`, …, `dense.weight`; normal of deviation 0.02.
    Tf,
}

impl Family for Config {
    const NAME: &'static str = "combiner";
    const ABOUT: &'static str =
        "Combiner-Fixed: direct attention nearby, segment summaries elsewhere (Ren et al. 2021)";
    const PAPER: &'static str = "Ren et al. 2021, arXiv:2107.05768, §4.1";
    const COMPLEXITY: &'static str = "time and memory O(length^1.5 · d_model)";
    const VERSION: u32 = 1;

    fn variants() -> Vec<Value> {
        vec![
            json!({ "segment": null, "pool": "sum", "map": "relu" }),
            json!({ "segment": 4, "pool": "mean", "map": "deepset", "bias": true, "naming": "tf" }),
            json!({ "own_segment": true, "map": "deepset" }),
            json!({ "segment": 1 }),
            json!({ "segment": 64 }),
        ]
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        let mut wrong = Vec::new();
        if dims.causal && self.own_segment {
            let problem =
                "`own_segment` is true, but a causal token must not read the summary of its own segment".into();
            wrong.push(ConfigError { key: "own_segment", problem, help: "leave it out, or set it to false".into() });
        }
        let checks = [
            divides("n_heads", self.n_heads, "d_model", dims.d_model),
            at_least("segment", self.segment.unwrap_or(1), 1),
            between("dropout", self.dropout, 0.0, 1.0),
        ];
        wrong.extend(checks.into_iter().filter_map(Result::err));
        wrong
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(Combiner::new(vs, dims, self))
    }
}

/// The layer; see the head of this file.
#[derive(Debug)]
pub struct Combiner {
    qkv: [Projection; 3],
    out: Projection,
    pattern: Pattern,
    dims: Dims,
}

/// A learned map between `d_model` and heads: `[d_model, heads, d_head]`, or `[heads, d_head, d_model]` for the output.
#[derive(Debug)]
struct Projection {
    weight: Tensor,
    bias: Option<Tensor>,
}

/// The attention itself, without projections.
#[derive(Debug)]
struct Pattern {
    segment: i64,
    pool: Pool,
    map: Map,
    /// DeepSets weights for queries and keys, `[d_head, d_head]`.
    deepset: Option<[Tensor; 2]>,
    own_segment: bool,
    causal: bool,
    dropout: f64,
}

/// Queries (scaled), keys and values in segments, and the segments' summaries.
struct Segments {
    /// Each `[batch, heads, segments, segment, d_head]`.
    q: Tensor,
    k: Tensor,
    v: Tensor,
    /// Positions that hold data, `[batch or 1, 1, segments, segment]`; `None` when all do.
    valid: Option<Tensor>,
    /// k_Ω, `[batch, heads, segments, d_head]`.
    summary: Tensor,
    /// softmax_{j∈Ω}(q_Ω·k_j), `[batch, heads, segments, segment]`.
    local: Tensor,
}

impl Combiner {
    fn new(vs: &nn::Path, dims: &Dims, cfg: &Config) -> Self {
        let (d, heads) = (dims.d_model, cfg.n_heads);
        let d_head = d / heads;
        let bound = (6.0 / (2 * d) as f64).sqrt();
        let (names, weight, init) = match cfg.naming {
            Naming::Jax => {
                (["query", "key", "value", "DenseGeneral_0"], "kernel", Init::Uniform { lo: -bound, up: bound })
            }
            Naming::Tf => (["q", "k", "v", "dense"], "weight", Init::Randn { mean: 0.0, stdev: 0.02 }),
        };
        let projection = |name: &str, shape: [i64; 3], bias: &[i64]| Projection {
            weight: (vs / name).var(weight, &shape, init),
            bias: cfg.bias.then(|| (vs / name).zeros("bias", bias)),
        };
        let deepset = |name: &str| {
            let bound = (6.0 / (2 * d_head) as f64).sqrt();
            (vs / name / "dense").var("weight", &[d_head, d_head], Init::Uniform { lo: -bound, up: bound })
        };
        Self {
            qkv: [0, 1, 2].map(|i| projection(names[i], [d, heads, d_head], &[heads, d_head])),
            out: projection(names[3], [heads, d_head, d], &[d]),
            pattern: Pattern {
                segment: cfg.segment.unwrap_or((dims.seq_len as f64).sqrt().ceil() as i64).max(1),
                pool: cfg.pool,
                map: cfg.map,
                deepset: (cfg.map == Map::Deepset).then(|| ["pooling_query", "pooling_key"].map(deepset)),
                own_segment: cfg.own_segment,
                causal: dims.causal,
                dropout: cfg.dropout,
            },
            dims: *dims,
        }
    }

    /// `[batch, length, d_model]` → q (scaled), k, v, each `[batch, length, heads, d_head]`.
    fn project(&self, x: &Tensor) -> [Tensor; 3] {
        let d_head = self.out.weight.size()[1];
        let project = |p: &Projection| {
            let y = x.matmul(&p.weight.flatten(1, 2)).unflatten(-1, [-1, d_head]);
            p.bias.as_ref().map_or(y.shallow_clone(), |b| &y + b)
        };
        let [q, k, v] = [0, 1, 2].map(|i| project(&self.qkv[i]));
        [q / (d_head as f64).sqrt(), k, v]
    }

    /// `[…, heads · d_head]` → `[…, d_model]`.
    fn output(&self, y: &Tensor) -> Tensor {
        let y = y.matmul(&self.out.weight.flatten(0, 1));
        self.out.bias.as_ref().map_or(y.shallow_clone(), |b| &y + b)
    }
}

impl Pattern {
    /// q (scaled), k, v `[batch, length, heads, d_head]` → M V, same shape.
    fn attend(&self, qkv: &[Tensor; 3], ctx: &Context) -> Tensor {
        let length = qkv[0].size()[1];
        let segments = self.segments(qkv, ctx);
        let [direct, region] = self.weights(&segments);
        let drop = |t: &Tensor| {
            if ctx.train && self.dropout > 0.0 { t.dropout(self.dropout, true) } else { t.shallow_clone() }
        };
        let read = drop(&segments.local).unsqueeze(-2).matmul(&segments.v).squeeze_dim(-2); // u, a value per segment
        let y = drop(&direct).matmul(&segments.v) + region.matmul(&read).view_as(&segments.q);
        y.flatten(2, 3).narrow(2, 0, length).transpose(1, 2)
    }

    fn segments(&self, qkv: &[Tensor; 3], ctx: &Context) -> Segments {
        let length = qkv[0].size()[1];
        let missing = (self.segment - length % self.segment) % self.segment;
        let [q, k, v] = [0, 1, 2].map(|i: usize| {
            let padded = qkv[i].constant_pad_nd([0, 0, 0, 0, 0, missing]);
            padded.transpose(1, 2).unflatten(2, [-1, self.segment]).contiguous()
        });
        // Causal readers look only at whole earlier segments and at their own past: padding on the right is never read.
        let valid = if self.causal { None } else { self.valid(length, missing, ctx, q.device()) };
        let [pooled_q, summary] = [(&q, 0), (&k, 1)].map(|(t, i)| self.summarise(t, i, valid.as_ref()));
        let local = pooled_q.unsqueeze(-2).matmul(&k.transpose(-2, -1)).squeeze_dim(-2);
        let local = hide(local, valid.as_ref()).softmax(-1, q.kind());
        Segments { q, k, v, valid, summary, local }
    }

    fn valid(&self, length: i64, missing: i64, ctx: &Context, device: Device) -> Option<Tensor> {
        let valid = match ctx.valid(length, device) {
            Some(valid) => valid,
            None if missing > 0 => Tensor::ones([1, length], (Kind::Bool, device)),
            None => return None,
        };
        Some(valid.constant_pad_nd([0, missing]).unflatten(1, [-1, self.segment]).unsqueeze(1))
    }

    /// pool_{j∈Ω} f(t_j) of every segment, `[batch, heads, segments, d_head]`; zero where a segment holds no data.
    fn summarise(&self, t: &Tensor, which: usize, valid: Option<&Tensor>) -> Tensor {
        let mapped = match (&self.deepset, self.map) {
            (Some(weights), _) => t.matmul(&weights[which]).relu(),
            (None, Map::Relu) => t.relu(),
            (None, _) => t.shallow_clone(),
        };
        let Some(valid) = valid else {
            return match self.pool {
                Pool::Max => mapped.amax([-2], false),
                Pool::Mean => mapped.mean_dim([-2].as_slice(), false, mapped.kind()),
                Pool::Sum => mapped.sum_dim_intlist([-2].as_slice(), false, mapped.kind()),
            };
        };
        let hidden = valid.logical_not().unsqueeze(-1);
        let count = valid.to_kind(mapped.kind()).sum_dim_intlist([-1].as_slice(), true, mapped.kind());
        let sum = || mapped.masked_fill(&hidden, 0.0).sum_dim_intlist([-2].as_slice(), false, mapped.kind());
        match self.pool {
            Pool::Max => mapped.masked_fill(&hidden, HIDDEN).amax([-2], false).masked_fill(&count.eq(0.0), 0.0),
            Pool::Mean => sum() / count.clamp_min(1.0),
            Pool::Sum => sum(),
        }
    }

    /// The joint softmax: direct weights `[batch, heads, segments, segment, segment]` and the weight of every region
    /// `[batch, heads, segments · segment, segments]`.
    fn weights(&self, s: &Segments) -> [Tensor; 2] {
        let (w, count) = (self.segment, s.q.size()[2]);
        let kind = s.q.kind();
        let mut direct = s.q.matmul(&s.k.transpose(-2, -1));
        if self.causal {
            direct = direct.masked_fill(&Tensor::ones([w, w], (Kind::Bool, s.q.device())).triu(1), HIDDEN);
        }
        direct = hide(direct, s.valid.as_ref().map(|v| v.unsqueeze(-2)).as_ref());
        let region = s.q.flatten(2, 3).matmul(&s.summary.transpose(-2, -1)).unflatten(2, [count, w]);
        let all = Tensor::ones([count, count], (Kind::Bool, s.q.device()));
        let readable = match (self.causal, self.own_segment) {
            (true, _) => all.tril(-1),
            (false, true) => all,
            (false, false) => all.triu(1).logical_or(&all.tril(-1)),
        };
        let mut readable = readable.unsqueeze(1); // [segments, 1, regions]
        if let Some(valid) = &s.valid {
            readable = readable.logical_and(&valid.any_dim(-1, false).unsqueeze(-2).unsqueeze(-2));
        }
        let joint = Tensor::cat(&[direct, hide(region, Some(&readable))], -1).softmax(-1, kind);
        let mut parts = joint.split_with_sizes([w, count], -1).into_iter();
        let [direct, region] = std::array::from_fn(|_| parts.next().expect("two parts"));
        [direct, region.flatten(2, 3)]
    }

    /// M, `[batch, heads, length, length]`.
    fn matrix(&self, qkv: &[Tensor; 3], ctx: &Context) -> Tensor {
        let length = qkv[0].size()[1];
        let s = self.segments(qkv, ctx);
        let [direct, region] = self.weights(&s);
        let abstracted =
            region.repeat_interleave_self_int(self.segment, 3, None::<i64>) * s.local.flatten(2, 3).unsqueeze(2);
        let own = direct.permute([0, 1, 3, 4, 2]).diag_embed(0, 2, 4); // [.., segments, segment, segments, segment]
        let m = abstracted + own.flatten(4, 5).flatten(2, 3);
        m.narrow(2, 0, length).narrow(3, 0, length)
    }
}

/// A logit that underflows to a weight of exactly 0, yet keeps a row of nothing else, and its gradient, finite.
const HIDDEN: f64 = -1e30;

fn hide(logits: Tensor, readable: Option<&Tensor>) -> Tensor {
    readable.map_or_else(|| logits.shallow_clone(), |r| logits.masked_fill(&r.logical_not(), HIDDEN))
}

impl Mixer for Combiner {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        self.output(&self.pattern.attend(&self.project(x), ctx).flatten(2, 3))
    }

    fn materialize(&self, x: &Tensor, ctx: &Context) -> Result<Tensor, NotLinear> {
        Ok(self.pattern.matrix(&self.project(x), ctx))
    }

    fn values(&self, x: &Tensor, ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        let qkv = self.project(x);
        let y = self.pattern.attend(&qkv, ctx).transpose(1, 2);
        let [_, _, v] = qkv;
        Ok((v.transpose(1, 2), y))
    }

    fn recurrent(&self) -> Option<Box<dyn Recurrent + '_>> {
        self.dims.causal.then(|| Box::new(Cache { layer: self, open: None, closed: None }) as Box<dyn Recurrent>)
    }

    /// FLOPs: projections, direct logits and reads, region logits and reads, summaries. The state is the open segment's
    /// q, k, v and a key and a value per closed one.
    fn cost(&self, length: i64) -> Cost {
        let (d, w) = (self.dims.d_model, self.pattern.segment);
        let d_head = self.out.weight.size()[1];
        let regions = (length + w - 1) / w;
        let biases = if self.out.bias.is_some() { 4 * d } else { 0 };
        let deepset = self.pattern.deepset.as_ref().map_or(0, |_| 2 * d_head * d_head);
        let state = if self.dims.causal { 4 * d * (3 * (length % w) + 2 * (length / w)) } else { 0 };
        let mapped = if deepset > 0 { 2 * linear_flops(length, d_head, d) } else { 0 };
        let flops = linear_flops(length, d, 4 * d)
            + 2 * linear_flops(length, w, d)
            + 2 * linear_flops(length, regions, d)
            + 2 * linear_flops(length, 1, d)
            + mapped;
        Cost { params: 4 * d * d + biases + deepset, state_bytes: state, flops }
    }
}

/// The open segment's q, k, v, each `[batch, tokens, heads, d_head]`, and k_Ω, u_Ω of the closed ones.
struct Cache<'a> {
    layer: &'a Combiner,
    open: Option<[Tensor; 3]>,
    closed: Option<[Tensor; 2]>,
}

impl Cache<'_> {
    /// Once a segment is whole, only its summary is kept.
    fn close(&mut self, open: &[Tensor; 3]) {
        let s = self.layer.pattern.segments(open, &Context::eval());
        let read = s.local.unsqueeze(-2).matmul(&s.v).squeeze_dim(-2); // [batch, heads, 1, d_head]
        self.closed = Some(match self.closed.take() {
            None => [s.summary, read],
            Some([keys, values]) => [Tensor::cat(&[keys, s.summary], 2), Tensor::cat(&[values, read], 2)],
        });
    }
}

impl Recurrent for Cache<'_> {
    fn reset(&mut self, _batch: i64) {
        (self.open, self.closed) = (None, None);
    }

    fn step(&mut self, x: &Tensor) -> Tensor {
        let new = self.layer.project(&x.unsqueeze(1));
        let open = match self.open.take() {
            None => new,
            Some(old) => [0, 1, 2].map(|i| Tensor::cat(&[&old[i], &new[i]], 1)),
        };
        let tokens = open[0].size()[1];
        let q = open[0].narrow(1, tokens - 1, 1).transpose(1, 2);
        let [k, v] = [1, 2].map(|i: usize| open[i].transpose(1, 2));
        let [k, v] = match &self.closed {
            None => [k, v],
            Some([keys, values]) => [Tensor::cat(&[keys, &k], 2), Tensor::cat(&[values, &v], 2)],
        };
        let y = q.matmul(&k.transpose(-2, -1)).softmax(-1, q.kind()).matmul(&v);
        if tokens == self.layer.pattern.segment {
            self.close(&open);
        } else {
            self.open = Some(open);
        }
        self.layer.output(&y.flatten(1, 3))
    }

    fn state_bytes(&self) -> i64 {
        let open = self.open.iter().flatten().map(tensor_bytes).sum::<i64>();
        open + self.closed.iter().flatten().map(tensor_bytes).sum::<i64>()
    }
}

/// `combiner__fixed_*`: the attention alone (inputs q, k, v) or the whole module (input x).
pub fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    if golden.word_or("fn", "") != "fixed" {
        return Err(GoldenError::Unsupported(format!("Combiner variant `{}`; only Fixed is built", golden.variant)));
    }
    let (map, pool) = summary(golden)?;
    let names = golden.names("param");
    let cfg = Config {
        n_heads: golden.int("H")?,
        segment: Some(golden.int("w")?),
        pool,
        map,
        own_segment: golden.variant.starts_with("fixed_bidir_ref"),
        bias: names.contains(&"q.bias"),
        naming: if names.contains(&"q.weight") { Naming::Tf } else { Naming::Jax },
        dropout: 0.0,
    };
    let d_model = cfg.n_heads * golden.int("d")?;
    let dims = Dims { d_model, seq_len: golden.int("L")?, causal: golden.flag("causal") };
    let mut vs = VarStore::new(Device::Cpu);
    let combiner = Combiner::new(&vs.root(), &dims, &cfg);
    if golden.word_or("level", "") == "core" {
        let [q, k, v] = [golden.input("q")?, golden.input("k")?, golden.input("v")?];
        let scaled = &q / (golden.int("d")? as f64).sqrt();
        let o = combiner.pattern.attend(&[scaled, k.shallow_clone(), v.shallow_clone()], &Context::eval());
        return golden.replay(&[("o", &o)], &[("q", &q), ("k", &k), ("v", &v)], None);
    }
    golden.fill(&mut vs)?;
    let x = golden.input("x")?;
    let y = combiner.forward(&x, &Context::eval());
    golden.replay(&[("y", &y)], &[("x", &x)], Some(&vs))
}

/// The config entry `local_summary`, such as `deepset-mean`.
fn summary(golden: &Golden) -> Result<(Map, Pool), GoldenError> {
    let word = golden.word_or("local_summary", "identity-max");
    let parse = |word: &str| {
        let (map, pool) = word.split_once('-')?;
        Some((serde_json::from_value(map.into()).ok()?, serde_json::from_value(pool.into()).ok()?))
    };
    parse(word).ok_or_else(|| GoldenError::Unsupported(format!("summary `{word}`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

    fn pattern(segment: i64, causal: bool) -> Pattern {
        let (pool, map) = (Pool::Max, Map::Identity);
        Pattern { segment, pool, map, deepset: None, own_segment: false, causal, dropout: 0.0 }
    }

    fn qkv(length: i64) -> [Tensor; 3] {
        [0, 1, 2].map(|_| Tensor::randn([2, length, 2, 3], F64).set_requires_grad(true))
    }

    /// M of one batch row and head, `[length, length]`, from the lists of regions, one row of it at a time.
    fn from_region_lists(p: &Pattern, q: &Tensor, k: &Tensor) -> Tensor {
        let (length, w) = (q.size()[0], p.segment);
        let rows = |t: &Tensor, set: &[i64]| t.index_select(0, &Tensor::from_slice(set));
        let pooled = |t: &Tensor, set: &[i64], which: usize| {
            let t = rows(t, set);
            let t = match p.map {
                Map::Identity => t,
                Map::Relu => t.relu(),
                Map::Deepset => t.matmul(&p.deepset.as_ref().expect("weights")[which]).relu(),
            };
            match p.pool {
                Pool::Max => t.amax([0], false),
                Pool::Mean => t.mean_dim([0].as_slice(), false, t.kind()),
                Pool::Sum => t.sum_dim_intlist([0].as_slice(), false, t.kind()),
            }
        };
        let row = |i: i64| {
            let own = i / w;
            let direct: Vec<i64> = (own * w..(own * w + w).min(length)).filter(|&j| !p.causal || j <= i).collect();
            let regions: Vec<Vec<i64>> = (0..(length + w - 1) / w)
                .filter(|&r| if p.causal { r < own } else { p.own_segment || r != own })
                .map(|r| (r * w..(r * w + w).min(length)).collect())
                .collect();
            let mut keys = vec![rows(k, &direct)];
            keys.extend(regions.iter().map(|set| pooled(k, set, 1).unsqueeze(0)));
            let joint = Tensor::cat(&keys, 0).mv(&q.get(i)).softmax(0, Kind::Double);
            let spread = |set: &[i64], weights: &Tensor| {
                let basis = Tensor::eye(length, F64);
                weights.unsqueeze(0).matmul(&rows(&basis, set)).squeeze_dim(0)
            };
            let mut m = spread(&direct, &joint.narrow(0, 0, direct.len() as i64));
            for (n, set) in regions.iter().enumerate() {
                let local = rows(k, set).mv(&pooled(q, set, 0)).softmax(0, Kind::Double);
                m += spread(set, &local) * joint.get((direct.len() + n) as i64);
            }
            m
        };
        Tensor::stack(&(0..length).map(row).collect::<Vec<_>>(), 0)
    }

    fn dense(p: &Pattern, [q, k, _]: &[Tensor; 3]) -> Tensor {
        let one = |b: i64, h: i64| from_region_lists(p, &q.get(b).select(1, h), &k.get(b).select(1, h));
        let heads = |b: i64| Tensor::stack(&[one(b, 0), one(b, 1)], 0);
        Tensor::stack(&[heads(0), heads(1)], 0)
    }

    fn softmax_attention([q, k, v]: &[Tensor; 3], causal: bool) -> Tensor {
        let [q, k, v] = [q, k, v].map(|t| t.transpose(1, 2));
        Tensor::scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, causal, 1.0, false).transpose(1, 2)
    }

    #[test]
    fn the_fast_path_is_the_matrix_of_the_region_lists_in_values_and_gradients() {
        let weights = || Some([0, 1].map(|_| Tensor::randn([3, 3], F64)));
        for (length, segment) in [(1, 3), (9, 3), (11, 4), (5, 8), (7, 1)] {
            for (causal, own_segment) in [(true, false), (false, false), (false, true)] {
                for (map, pool) in [(Map::Identity, Pool::Max), (Map::Relu, Pool::Sum), (Map::Deepset, Pool::Mean)] {
                    let deepset = if map == Map::Deepset { weights() } else { None };
                    let p = Pattern { pool, map, deepset, own_segment, ..pattern(segment, causal) };
                    let case = format!("length {length}, {p:?}");
                    let qkv = qkv(length);
                    let m = dense(&p, &qkv);
                    assert!(p.matrix(&qkv, &Context::eval()).allclose(&m, 1e-10, 1e-12, false), "matrix, {case}");
                    let (fast, slow) =
                        (p.attend(&qkv, &Context::eval()), m.matmul(&qkv[2].transpose(1, 2)).transpose(1, 2));
                    assert!(fast.allclose(&slow, 1e-10, 1e-12, false), "values, {case}");
                    let cotangent = fast.randn_like();
                    let gradient =
                        |y: &Tensor| Tensor::run_backward(&[(y * &cotangent).sum(Kind::Double)], &qkv, false, false);
                    for (fast, slow) in gradient(&fast).iter().zip(gradient(&slow)) {
                        assert!(fast.allclose(&slow, 1e-9, 1e-11, false), "gradients, {case}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_token_in_reach_has_weight_and_rows_sum_to_one() {
        for causal in [true, false] {
            let m = pattern(4, causal).matrix(&qkv(11), &Context::eval());
            let sums = m.sum_dim_intlist([-1].as_slice(), false, Kind::Double);
            assert!(sums.allclose(&sums.ones_like(), 1e-12, 1e-12, false));
            let reach = if causal { 2 * 2 * 11 * 12 / 2 } else { 2 * 2 * 11 * 11 };
            assert_eq!(m.gt(0.0).sum(Kind::Int64).int64_value(&[]), reach, "causal {causal}");
        }
    }

    #[test]
    fn one_segment_or_segments_of_one_token_are_softmax_attention() {
        let qkv = qkv(10);
        for (segment, causal) in [(10, true), (10, false), (16, true), (1, true), (1, false)] {
            let y = pattern(segment, causal).attend(&qkv, &Context::eval());
            let full = softmax_attention(&qkv, causal);
            assert!(y.allclose(&full, 1e-10, 1e-12, false), "segment {segment}, causal {causal}");
        }
    }

    #[test]
    fn padding_does_not_enter_the_pools() {
        // All keys and queries negative: a zero from padding would win every maximum.
        let [q, k, v] = qkv(11);
        let qkv = [-q.abs(), -k.abs(), v];
        let alone = pattern(4, false).attend(&qkv, &Context::eval());
        let longer = qkv.each_ref().map(|t| t.constant_pad_nd([0, 0, 0, 0, 0, 10]));
        let ctx = Context { train: false, lengths: Some(Tensor::from_slice(&[11i64, 11])) };
        let y = pattern(4, false).attend(&longer, &ctx).narrow(1, 0, 11);
        assert!(y.allclose(&alone, 1e-12, 1e-14, false));
    }

    #[test]
    fn dropout_leaves_the_average_where_it_was() {
        let qkv = qkv(6);
        let p = Pattern { dropout: 0.5, ..pattern(3, false) };
        let ctx = Context { train: true, lengths: None };
        let mean = Tensor::stack(&(0..4000).map(|_| p.attend(&qkv, &ctx).detach()).collect::<Vec<_>>(), 0);
        let mean = mean.mean_dim([0].as_slice(), false, Kind::Double);
        let still = p.attend(&qkv, &Context::eval());
        assert!((&mean - &still).abs().max().double_value(&[]) < 0.2);
        assert!(!p.attend(&qkv, &ctx).allclose(&still, 1e-6, 1e-6, false));
    }

    #[test]
    fn the_segment_defaults_to_the_root_of_the_length() {
        for (seq_len, segment) in [(1, 1), (16, 4), (17, 5), (1024, 32)] {
            let dims = Dims { d_model: 8, seq_len, causal: true };
            let combiner = Combiner::new(&VarStore::new(Device::Cpu).root(), &dims, &Config::default());
            assert_eq!(combiner.pattern.segment, segment);
        }
    }

    #[test]
    fn a_causal_token_may_not_ask_for_its_own_segment() {
        let cfg = Config { own_segment: true, ..Config::default() };
        let wrong = |causal| cfg.check(&Dims { d_model: 8, seq_len: 8, causal }).len();
        assert_eq!((wrong(true), wrong(false)), (1, 0));
    }
}
