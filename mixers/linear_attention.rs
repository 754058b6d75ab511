//! Linear attention: a weighted average whose weights are products of features, so that sums over the past replace the square.
//!
//! ```text
//! y_t = φ(q_t)ᵀ S_t / φ(q_t)ᵀ z_t,   S_t = Σ_s φ(k_s) v_sᵀ,   z_t = Σ_s φ(k_s)        over all s, or s ≤ t when causal
//! M[t,s] = φ(q_t)ᵀφ(k_s) / Σ_r φ(q_t)ᵀφ(k_r)                                one M per head; each row sums to 1
//! ```
//! Paper    Katharopoulos et al. 2020, arXiv:2006.16236, §3.2 (eqs. 4–7), §3.3 (8–15), §3.4; without the quotient Qin et al.
//!          2022, arXiv:2210.10340
//! Time     O(length · d_model · d_head); causal O(length · d_model · (d_head + chunk_size)): a masked product within a chunk,
//!          a running S and z between chunks
//! Memory   O(length · d_model) to train: the causal sums keep only their inputs (eqs. 13–15 are the same sums again), and need
//!          one chunk's square and one S meanwhile; state O(d_model · d_head) to decode, whatever the length
//! Matches  names and initialisation of `AttentionLayer` with `LinearAttention` or `CausalLinearAttention` in
//!          github.com/idiap/fast-transformers; no dump of it
//! Departs  the reference adds 1e-6 to the denominator and computes φ as elu + 1, which is 0 in float32 below -17; here nothing is
//!          added, rows sum to 1, and φ is exact down to its floor, e^-30. The paper has neither `relu` nor
//!          `normalise: false`

use crate::native::kernels::native_for;
use crate::native::{Backward, attach, recompute, recompute_rows};
use crate::{
    ConfigError, Context, Cost, Dims, Family, Linear, Mixer, NotLinear, Recurrent, Structure, at_least, heads, linear,
    linear_flops, tensor_bytes,
};
use serde_json::{Value, json};
use tch::{Tensor, nn};

/// `mixer: { linear_attention: { n_heads: 4 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Parallel heads; must divide `d_model` unless `d_head` is given. The state of a head is `d_head` × `d_head`: fewer heads
    /// remember more.
    pub n_heads: i64,
    /// Width of a head; null is `d_model / n_heads`.
    pub d_head: Option<i64>,
    /// Bias of the projections.
    pub bias: bool,
    /// φ, the feature map of queries and keys, §3.2.1.
    pub feature_map: FeatureMap,
    /// Divides by the sum of the weights (eq. 4). Without it each head's output is divided by its root mean square instead, as
    /// in Qin et al. 2022.
    pub normalise: bool,
    /// Positions multiplied at once when causal; changes speed and memory, numbers only by rounding. Unused when bidirectional.
    pub chunk_size: i64,
}

/// φ. Each is positive, so that no sum of weights is zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FeatureMap {
    /// elu(x) + 1: x + 1 above 0, e^x below (eq. 7).
    Elu,
    /// max(x, 0) + 1e-3 (Performer, Choromanski et al. 2021, arXiv:2009.14794).
    Relu,
}

impl FeatureMap {
    /// φ(x), elementwise.
    fn of(self, x: &Tensor) -> Tensor {
        match self {
            // The floor keeps the reciprocal of a product of two features far inside float32.
            Self::Elu => x.clamp(-30.0, 0.0).exp() + x.relu(),
            Self::Relu => x.relu() + 1e-3,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self { n_heads: 4, d_head: None, bias: true, feature_map: FeatureMap::Elu, normalise: true, chunk_size: 64 }
    }
}

impl Family for Config {
    const NAME: &'static str = "linear_attention";
    const ABOUT: &'static str = "linear attention, elu + 1 and a quotient (Katharopoulos et al. 2020)";
    const PAPER: &'static str = "Katharopoulos et al. 2020, arXiv:2006.16236, §3.2-3.4";
    const COMPLEXITY: &'static str = "time O(length · d_model · d_head), causal O(length · d_model · (d_head + chunk_size)); memory O(length · d_model)";
    const VERSION: u32 = 2;
    /// §4.2: 8 heads of 32.
    const WIDTH: i64 = 256;
    const TRAINING_ONLY: &'static [&'static str] = &["chunk_size"];

    fn small() -> Value {
        json!({ "n_heads": 2, "chunk_size": 4 })
    }

    fn variants() -> Vec<Value> {
        vec![
            json!({ "bias": false }),
            json!({ "d_head": 6 }),
            json!({ "feature_map": "relu" }),
            json!({ "normalise": false }),
            json!({ "chunk_size": 1 }),
            json!({ "chunk_size": 64 }),
        ]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("weight", 30.0)]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let d = dims.d_model as f64;
        let inner = self.d_head.map_or(d, |d_head| self.n_heads as f64 * d_head as f64);
        4.0 * d * inner + 3.0 * inner + d
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        [heads(self.n_heads, self.d_head, dims.d_model), at_least("chunk_size", self.chunk_size, 1)]
            .into_iter()
            .filter_map(Result::err)
            .collect()
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(LinearAttention::new(vs, dims, self))
    }
}

/// The layer; see the head of this file.
#[derive(Debug)]
pub struct LinearAttention {
    query_projection: Linear,
    key_projection: Linear,
    value_projection: Linear,
    out_projection: Linear,
    d_head: i64,
    cfg: Config,
    dims: Dims,
}

impl LinearAttention {
    /// Parameters under `vs`; `cfg` must have passed its check.
    pub fn new(vs: &nn::Path, dims: &Dims, cfg: &Config) -> Self {
        let d = dims.d_model;
        let d_head = cfg.d_head.unwrap_or(d / cfg.n_heads);
        let inner = cfg.n_heads * d_head;
        Self {
            query_projection: linear(&(vs / "query_projection"), d, inner, cfg.bias),
            key_projection: linear(&(vs / "key_projection"), d, inner, cfg.bias),
            value_projection: linear(&(vs / "value_projection"), d, inner, cfg.bias),
            out_projection: linear(&(vs / "out_projection"), inner, d, cfg.bias),
            d_head,
            cfg: cfg.clone(),
            dims: *dims,
        }
    }

    /// `[batch, length, d_model]` → q, k, v, each `[batch, heads, length, d_head]`.
    fn project(&self, x: &Tensor) -> [Tensor; 3] {
        [&self.query_projection, &self.key_projection, &self.value_projection]
            .map(|projection| x.apply(projection).unflatten(-1, [self.cfg.n_heads, -1]).transpose(1, 2))
    }

    /// Columns of S, with z where M is a quotient.
    fn width(&self) -> i64 {
        self.d_head + i64::from(self.cfg.normalise)
    }

    fn rule(&self) -> Rule {
        let Config { feature_map: map, normalise, chunk_size: chunk, .. } = self.cfg;
        Rule { map, normalise, chunk, causal: self.dims.causal }
    }

    /// M V, `[batch, heads, length, d_head]`.
    fn attend(&self, [q, k, v]: &[Tensor; 3], ctx: &Context) -> Tensor {
        let rule = self.rule();
        let rows: Vec<&Tensor> = [q, k, v].into_iter().chain(&ctx.lengths).collect();
        recompute_rows(move |t| rule.attend(&t[0], &t[1], &t[2], t.get(3)), &rows, &[])
    }

    /// `[batch, heads, length, d_head]` → `[batch, length, d_model]`.
    fn merge(&self, y: &Tensor, ctx: &Context) -> Tensor {
        let y = if self.cfg.normalise { y.shallow_clone() } else { y / rms(y) };
        y.transpose(1, 2).flatten(2, 3).apply(&ctx.join_heads(&self.out_projection, self.cfg.n_heads))
    }
}

/// What is done with q, k and v.
#[derive(Clone, Copy, Debug)]
struct Rule {
    map: FeatureMap,
    normalise: bool,
    chunk: i64,
    causal: bool,
}

impl Rule {
    /// φ(x), of which the backward needs only x.
    fn features(self, x: &Tensor) -> Tensor {
        recompute(move |x| self.map.of(&x[0]), &[x])
    }

    /// v, and a column of ones that gathers z beside S where M is a quotient: `[…, width]`.
    fn widened(self, v: &Tensor) -> Tensor {
        if self.normalise { Tensor::cat(&[v, &v.narrow(-1, 0, 1).ones_like()], -1) } else { v.shallow_clone() }
    }

    /// φ(q)ᵀS / φ(q)ᵀz from `[…, width]`.
    fn quotient(self, sums: &Tensor) -> Tensor {
        if !self.normalise {
            return sums.shallow_clone();
        }
        let d_head = sums.size()[sums.dim() - 1] - 1;
        sums.narrow(-1, 0, d_head) / sums.narrow(-1, d_head, 1)
    }

    /// M V, all `[batch, heads, length, d_head]`.
    fn attend(self, q: &Tensor, k: &Tensor, v: &Tensor, lengths: Option<&Tensor>) -> Tensor {
        let (q, k, v) = (self.features(q), self.features(k), self.widened(v));
        // Right padding lies in the future of every valid position: a causal mixer needs no mask for it.
        let sums = if self.causal {
            sums_so_far(&q, &k, &v, self.chunk)
        } else {
            q.matmul(&unpadded(&k, lengths).transpose(-2, -1).matmul(&v))
        };
        self.quotient(&sums)
    }
}

/// Root mean square of the last axis, kept.
fn rms(y: &Tensor) -> Tensor {
    (y.square().mean_dim([-1].as_slice(), true, y.kind()) + 1e-6).sqrt()
}

/// Features of keys `[batch, heads, length, d_head]`, zero at padded positions. A row without any valid position reads its
/// first: an average of nothing would be NaN.
fn unpadded(k: &Tensor, lengths: Option<&Tensor>) -> Tensor {
    let lengths = lengths.map(|lengths| lengths.clamp_min(1));
    Context { train: false, lengths, ..Context::default() }.zero_padding(&k.transpose(1, 2)).transpose(1, 2)
}

/// Which positions `s` a position `t` reads.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Side {
    /// s ≤ t.
    Past,
    /// s ≥ t.
    Future,
}

/// Σ_s (a_t · b_s) c_s over one side of each t, `[batch, heads, length, width of c]`, chunk by chunk: no tensor grows with the
/// square of the length.
fn one_sided([a, b, c]: [&Tensor; 3], side: Side, chunk: i64) -> Tensor {
    let [batch, heads, length, _] = a.size4().expect("four axes").into();
    let count = (length + chunk - 1) / chunk;
    let mut state: Option<Tensor> = None; // Σ b_s c_sᵀ over the chunks done
    let mut done = Vec::new();
    for i in 0..count {
        let from = chunk * if side == Side::Past { i } else { count - 1 - i };
        let here = |t: &Tensor| t.narrow(2, from, chunk.min(length - from)).flatten(0, 1);
        let [a, b, c] = [a, b, c].map(here);
        let products = a.bmm(&b.transpose(1, 2));
        let near = if side == Side::Past { products.tril(0) } else { products.triu(0) }.bmm(&c);
        done.push(state.as_ref().map_or_else(|| near.shallow_clone(), |s| near.baddbmm(&a, s, 1, 1)));
        if i + 1 < count {
            let b = b.transpose(1, 2);
            state = Some(state.map_or_else(|| b.bmm(&c), |s| s.baddbmm(&b, &c, 1, 1)));
        }
    }
    if side == Side::Future {
        done.reverse();
    }
    Tensor::cat(&done, 1).unflatten(0, [batch, heads])
}

/// Σ_{s ≤ t} (q_t · k_s) v_s with all chunks in one call, for devices where a call costs more than a chunk.
fn sums_at_once(q: &Tensor, k: &Tensor, v: &Tensor, chunk: i64) -> Tensor {
    let length = q.size()[2];
    let chunk = chunk.min(length);
    let count = (length + chunk - 1) / chunk;
    let cut = |t: &Tensor| t.constant_pad_nd([0, 0, 0, count * chunk - length]).unflatten(2, [count, chunk]);
    let (q, k, v) = (cut(q), cut(k), cut(v));
    let near = q.matmul(&k.transpose(-2, -1)).tril(0).matmul(&v);
    let y = if count == 1 {
        near
    } else {
        let added = k.transpose(-2, -1).matmul(&v);
        let first = added.narrow(2, 0, 1).zeros_like();
        let before = Tensor::cat(&[first, added.narrow(2, 0, count - 1)], 2).cumsum(2, added.kind());
        near + q.matmul(&before)
    };
    y.flatten(2, 3).narrow(2, 0, length)
}

/// Σ_{s ≤ t} (q_t · k_s) v_s, keeping q, k and v for the backward and nothing else.
fn sums_so_far(q: &Tensor, k: &Tensor, v: &Tensor, chunk: i64) -> Tensor {
    struct Sums(i64);

    impl Backward for Sums {
        /// Eqs. 13–15: each gradient is a sum of the same kind.
        fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
            let (Some(g), [q, k, v]) = (&grads[0], saved) else { return vec![None, None, None] };
            let of_q = one_sided([g, v, k], Side::Past, self.0);
            let of_k = one_sided([v, g, q], Side::Future, self.0);
            let of_v = one_sided([k, q, g], Side::Future, self.0);
            vec![Some(of_q), Some(of_k), Some(of_v)]
        }
    }

    if !native_for(q) {
        return sums_at_once(q, k, v, chunk);
    }
    let y = tch::no_grad(|| one_sided([q, k, v], Side::Past, chunk));
    attach(Sums(chunk), &[q, k, v], &[&y], &[q, k, v]);
    y
}

impl Mixer for LinearAttention {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        self.merge(&self.attend(&self.project(x), ctx), ctx)
    }

    fn heads(&self) -> i64 {
        self.cfg.n_heads
    }

    fn materialize(&self, x: &Tensor, ctx: &Context) -> Result<Tensor, NotLinear> {
        let [q, k, _] = self.project(x).map(|t| self.cfg.feature_map.of(&t));
        let weights = if self.dims.causal {
            q.matmul(&k.transpose(-2, -1)).tril(0)
        } else {
            q.matmul(&unpadded(&k, ctx.lengths.as_ref()).transpose(-2, -1))
        };
        if !self.cfg.normalise {
            return Ok(weights);
        }
        let sums = weights.sum_dim_intlist([-1].as_slice(), true, weights.kind());
        Ok(weights / sums)
    }

    fn values(&self, x: &Tensor, ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        let qkv = self.project(x);
        let y = self.attend(&qkv, ctx);
        let [_, _, v] = qkv;
        Ok((v, y))
    }

    fn path(&self) -> &'static str {
        if self.dims.causal { "in chunks" } else { "libtorch" }
    }

    fn structure(&self) -> Structure {
        match (self.cfg.normalise, self.dims.causal) {
            (true, _) => Structure::Stochastic { full: true },
            (false, true) => Structure::Quasiseparable(self.d_head),
            (false, false) => Structure::LowRank(self.d_head),
        }
    }

    fn recurrent(&self) -> Option<Box<dyn Recurrent + '_>> {
        self.dims.causal.then(|| Box::new(Sum { layer: self, state: None }) as Box<dyn Recurrent>)
    }

    /// FLOPs count the whole square of a chunk, as they run.
    fn cost(&self, length: i64) -> Cost {
        let (d, heads, width) = (self.dims.d_model, self.cfg.n_heads, self.width());
        let inner = heads * self.d_head;
        let biases = if self.cfg.bias { 3 * inner + d } else { 0 };
        let per_head = if self.dims.causal {
            let earlier = (length - 1) / self.cfg.chunk_size * self.cfg.chunk_size; // positions before the last chunk
            let later = length - self.cfg.chunk_size.min(length); // positions after the first one
            let squares = earlier * self.cfg.chunk_size + (length - earlier).pow(2);
            linear_flops(squares, 1, self.d_head + width) + linear_flops(earlier + later, self.d_head, width)
        } else {
            2 * linear_flops(length, self.d_head, width)
        };
        Cost {
            params: 4 * d * inner + biases,
            state_bytes: if self.dims.causal { 4 * inner * width } else { 0 },
            flops: linear_flops(length, d, 4 * inner) + heads * per_head,
        }
    }

    fn output_map(&self) -> Option<&'static str> {
        Some("out_projection.weight")
    }
}

/// S, and z as its last column, `[batch, heads, d_head, width]`.
struct Sum<'a> {
    layer: &'a LinearAttention,
    state: Option<Tensor>,
}

impl Recurrent for Sum<'_> {
    fn reset(&mut self, _batch: i64) {
        self.state = None;
    }

    fn step(&mut self, x: &Tensor) -> Tensor {
        let [q, k, v] = self.layer.project(&x.unsqueeze(1));
        let [q, k] = [q, k].map(|t| self.layer.cfg.feature_map.of(&t));
        let new = k.transpose(-2, -1).matmul(&self.layer.rule().widened(&v));
        let state = match self.state.take() {
            None => new,
            Some(state) => state + new,
        };
        let y = self.layer.rule().quotient(&q.matmul(&state));
        self.state = Some(state);
        self.layer.merge(&y, &Context::eval()).squeeze_dim(1)
    }

    fn state_bytes(&self) -> i64 {
        self.state.iter().map(tensor_bytes).sum()
    }

    fn state(&self) -> Vec<Tensor> {
        self.state.iter().map(Tensor::shallow_clone).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::assert_twins;
    use tch::nn::VarStore;
    use tch::{Device, Kind};

    fn layer_of(causal: bool, cfg: &Config) -> (VarStore, LinearAttention, Tensor) {
        let mut vs = VarStore::new(Device::Cpu);
        let dims = Dims { d_model: 12, seq_len: 40, causal };
        let layer = LinearAttention::new(&vs.root(), &dims, cfg);
        vs.double();
        (vs, layer, Tensor::randn([2, 40, 12], (Kind::Double, Device::Cpu)).set_requires_grad(true))
    }

    /// The formula as it stands.
    fn plain(layer: &LinearAttention, x: &Tensor, ctx: &Context) -> Tensor {
        let [_, _, v] = layer.project(x);
        layer.merge(&layer.materialize(x, ctx).expect("linear attention has a matrix").matmul(&v), ctx)
    }

    fn finite(t: &Tensor) -> bool {
        t.isfinite().all().int64_value(&[]) == 1
    }

    #[test]
    fn the_sums_are_the_formula_in_values_and_gradients() {
        let with = |chunk_size, feature_map, normalise| Config {
            n_heads: 3,
            chunk_size,
            feature_map,
            normalise,
            ..Config::default()
        };
        let settings = [
            with(1, FeatureMap::Elu, true),
            with(7, FeatureMap::Elu, true),
            with(8, FeatureMap::Relu, true),
            with(39, FeatureMap::Elu, false),
            with(64, FeatureMap::Relu, false),
        ];
        let cases = [(true, None), (false, None), (false, Some([40i64, 7])), (true, Some([40, 7]))];
        for ((causal, lengths), cfg) in cases.into_iter().flat_map(|case| settings.iter().map(move |cfg| (case, cfg))) {
            let (vs, layer, x) = layer_of(causal, cfg);
            let ctx = Context { train: true, lengths: lengths.map(|l| Tensor::from_slice(&l)), ..Context::default() };
            let mut leaves = vs.trainable_variables();
            leaves.push(x.shallow_clone());
            let (fast, slow) = (layer.forward(&x, &ctx), plain(&layer, &x, &ctx));
            let leaves: Vec<&Tensor> = leaves.iter().collect();
            assert_twins(&fast, &slow, &leaves, 1e-10, &format!("causal {causal}, {lengths:?}, {cfg:?}"));
        }
    }

    #[test]
    fn the_feature_maps_are_positive_and_keep_their_digits_far_below_zero() {
        let x = Tensor::from_slice(&[-1000.0f32, -20.0, -1.0, 0.0, 2.0]).set_requires_grad(true);
        let near = |t: &Tensor, want: [f64; 5]| {
            let want = Tensor::from_slice(&want);
            assert!(t.to_kind(Kind::Double).allclose(&want, 1e-6, 0.0, false), "{t}");
        };
        let of = |map: FeatureMap| map.of(&x);
        near(&of(FeatureMap::Elu), [(-30f64).exp(), (-20f64).exp(), (-1f64).exp(), 1.0, 3.0]);
        near(&of(FeatureMap::Relu), [1e-3, 1e-3, 1e-3, 1e-3, 2.001]);
        of(FeatureMap::Elu).sum(Kind::Float).backward();
        near(&x.grad(), [0.0, (-20f64).exp(), (-1f64).exp(), 1.0, 1.0]);
    }

    #[test]
    fn the_state_does_not_grow() {
        let (_vs, layer, x) = layer_of(true, &Config { n_heads: 3, ..Config::default() });
        let mut steps = layer.recurrent().expect("it is causal");
        let sizes: Vec<i64> = x.unbind(1).iter().map(|x| (steps.step(x), steps.state_bytes()).1).collect();
        assert_eq!(sizes, [2 * 8 * 3 * 4 * 5; 40]); // batch, float64, heads, d_head, d_head + 1
    }

    #[test]
    fn a_row_without_valid_positions_gives_numbers() {
        let (vs, layer, x) = layer_of(false, &Config { n_heads: 3, ..Config::default() });
        let y = layer.forward(
            &x,
            &Context { train: true, lengths: Some(Tensor::from_slice(&[0i64, 40])), ..Context::default() },
        );
        y.sum(Kind::Double).backward();
        assert!(finite(&y) && vs.trainable_variables().iter().all(|p| finite(&p.grad())));
    }

    #[test]
    fn what_cannot_be_built_is_named() {
        let keys = |cfg: Config| -> Vec<&str> {
            cfg.check(&Dims { d_model: 12, seq_len: 8, causal: false }).iter().map(|e| e.key).collect()
        };
        let default = Config::default;
        assert!(keys(default()).is_empty());
        assert_eq!(keys(Config { n_heads: 5, chunk_size: 0, ..default() }), ["n_heads", "chunk_size"]);
        assert!(keys(Config { n_heads: 5, d_head: Some(3), ..default() }).is_empty());
        assert_eq!(keys(Config { d_head: Some(0), ..default() }), ["d_head"]);
    }
}
