//! Softmax attention: each position reads a weighted average of the positions it may see.
//!
//! ```text
//! Y = M V,   M = softmax(Q Kᵀ / √d_head)        one M per head; each row sums to 1
//! ```
//! Paper    Vaswani et al. 2017, arXiv:1706.03762, §3.2
//! Time     O(length² · d_model)
//! Memory   O(length · d_model) to train, the fused kernel never stores M; state O(length · d_model) to decode
//! Matches  `torch.nn.MultiheadAttention`: names, initialisation and formula
//! Departs  dropout falls on M; the paper drops the layer's output instead (§5.4)

use crate::{
    ConfigError, Context, Cost, Dims, Family, Mixer, NotLinear, Recurrent, between, divides, linear_flops, tensor_bytes,
};
use serde_json::{Value, json};
use tch::nn::{self, Init};
use tch::{Kind, Tensor};

/// `mixer: { attention: { n_heads: 4 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Parallel heads; must divide `d_model`. §3.2.2: 8 heads of 64.
    pub n_heads: i64,
    /// Bias of the projections; torch's default, absent in the paper.
    pub bias: bool,
    /// Probability of dropping an entry of M. Not in the paper; 0 turns it off, and only 0 uses the fused kernel.
    pub dropout: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { n_heads: 4, bias: true, dropout: 0.0 }
    }
}

impl Family for Config {
    const NAME: &'static str = "attention";
    const ABOUT: &'static str = "softmax attention, fused (Vaswani et al. 2017)";
    const PAPER: &'static str = "Vaswani et al. 2017, arXiv:1706.03762, §3.2";
    const COMPLEXITY: &'static str = "time O(length² · d_model), memory O(length · d_model)";
    const VERSION: u32 = 1;

    fn variants() -> Vec<Value> {
        vec![json!({ "bias": false })]
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        let checks =
            [divides("n_heads", self.n_heads, "d_model", dims.d_model), between("dropout", self.dropout, 0.0, 1.0)];
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
    out_proj: nn::Linear,
    cfg: Config,
    dims: Dims,
}

impl Attention {
    fn new(vs: &nn::Path, dims: &Dims, cfg: &Config) -> Self {
        let d = dims.d_model;
        let uniform = |bound: f64| Init::Uniform { lo: -bound, up: bound };
        let out = nn::LinearConfig {
            ws_init: uniform(1.0 / (d as f64).sqrt()),
            bs_init: Some(Init::Const(0.0)),
            bias: cfg.bias,
        };
        Self {
            in_weight: vs.var("in_proj_weight", &[3 * d, d], uniform((6.0 / (4 * d) as f64).sqrt())), // Xavier
            in_bias: cfg.bias.then(|| vs.zeros("in_proj_bias", &[3 * d])),
            out_proj: nn::linear(vs / "out_proj", d, d, out),
            cfg: cfg.clone(),
            dims: *dims,
        }
    }

    /// `[batch, length, d_model]` → q, k, v, each `[batch, heads, length, d_head]`.
    fn project(&self, x: &Tensor) -> [Tensor; 3] {
        let qkv = x.linear(&self.in_weight, self.in_bias.as_ref()).unflatten(-1, [3, self.cfg.n_heads, -1]);
        let mut parts = qkv.permute([2, 0, 3, 1, 4]).unbind(0).into_iter();
        std::array::from_fn(|_| parts.next().expect("three parts"))
    }

    /// M V by the fused kernel, `[batch, heads, length, d_head]`.
    fn attend(&self, [q, k, v]: &[Tensor; 3], ctx: &Context) -> Tensor {
        // Right padding lies in the future of every valid position: a causal mixer needs no mask for it.
        let mask = if self.dims.causal { None } else { readable(q.size()[2], ctx, q) };
        let dropout = if ctx.train { self.cfg.dropout } else { 0.0 };
        Tensor::scaled_dot_product_attention(q, k, v, mask, dropout, self.dims.causal, None, false)
    }
}

/// Keys that may be read, boolean `[batch, 1, 1, length]`. A row without any valid position reads its first: an average of
/// nothing would be NaN.
fn readable(length: i64, ctx: &Context, like: &Tensor) -> Option<Tensor> {
    let lengths = ctx.lengths.as_ref()?.clamp_min(1);
    let valid = Context { train: false, lengths: Some(lengths) }.valid(length, like.device())?;
    Some(valid.unsqueeze(1).unsqueeze(1))
}

impl Mixer for Attention {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        self.attend(&self.project(x), ctx).transpose(1, 2).flatten(2, 3).apply(&self.out_proj)
    }

    fn materialize(&self, x: &Tensor, ctx: &Context) -> Result<Tensor, NotLinear> {
        let [q, k, _] = self.project(x);
        let mut scores = q.matmul(&k.transpose(-2, -1)) / (q.size()[3] as f64).sqrt();
        if self.dims.causal {
            let future = scores.ones_like().to_kind(Kind::Bool).triu(1);
            scores = scores.masked_fill(&future, f64::NEG_INFINITY);
        } else if let Some(readable) = readable(q.size()[2], ctx, &q) {
            scores = scores.masked_fill(&readable.logical_not(), f64::NEG_INFINITY);
        }
        Ok(scores.softmax(-1, scores.kind()))
    }

    fn values(&self, x: &Tensor, ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        let qkv = self.project(x);
        let y = self.attend(&qkv, ctx);
        let [_, _, v] = qkv;
        Ok((v, y))
    }

    fn recurrent(&self) -> Option<Box<dyn Recurrent + '_>> {
        self.dims.causal.then(|| Box::new(Cache { layer: self, kv: None }) as Box<dyn Recurrent>)
    }

    /// FLOPs count the whole square, although a causal kernel skips nearly half of it.
    fn cost(&self, length: i64) -> Cost {
        let d = self.dims.d_model;
        let biases = if self.cfg.bias { 4 * d } else { 0 };
        let state_bytes = if self.dims.causal { 4 * 2 * length * d } else { 0 };
        let flops = linear_flops(length, d, 4 * d) + 2 * linear_flops(length, length, d); // projections; QKᵀ and MV
        Cost { params: 4 * d * d + biases, state_bytes, flops }
    }
}

/// Keys and values of every token so far.
struct Cache<'a> {
    layer: &'a Attention,
    kv: Option<[Tensor; 2]>,
}

impl Recurrent for Cache<'_> {
    fn reset(&mut self, _batch: i64) {
        self.kv = None;
    }

    fn step(&mut self, x: &Tensor) -> Tensor {
        let [q, k, v] = self.layer.project(&x.unsqueeze(1));
        let kv = match self.kv.take() {
            None => [k, v],
            Some([ks, vs]) => [Tensor::cat(&[ks, k], 2), Tensor::cat(&[vs, v], 2)],
        };
        let y = Tensor::scaled_dot_product_attention(&q, &kv[0], &kv[1], None::<Tensor>, 0.0, false, None, false);
        self.kv = Some(kv);
        y.flatten(1, 3).apply(&self.layer.out_proj)
    }

    fn state_bytes(&self) -> i64 {
        self.kv.iter().flatten().map(tensor_bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;
    use tch::nn::VarStore;

    /// The formula as it stands.
    fn plain(layer: &Attention, x: &Tensor, ctx: &Context) -> Tensor {
        let [_, _, v] = layer.project(x);
        let m = layer.materialize(x, ctx).expect("attention has a matrix");
        m.matmul(&v).transpose(1, 2).flatten(2, 3).apply(&layer.out_proj)
    }

    fn layer(causal: bool) -> (VarStore, Attention, Tensor) {
        let mut vs = VarStore::new(Device::Cpu);
        let dims = Dims { d_model: 12, seq_len: 40, causal };
        let layer = Attention::new(&vs.root(), &dims, &Config { n_heads: 3, ..Config::default() });
        vs.double();
        (vs, layer, Tensor::randn([2, 40, 12], (Kind::Double, Device::Cpu)).set_requires_grad(true))
    }

    #[test]
    fn the_fused_kernel_is_the_formula_in_values_and_gradients() {
        for (causal, lengths) in [(true, None), (false, None), (false, Some([40i64, 7])), (true, Some([40, 7]))] {
            let (vs, layer, x) = layer(causal);
            let ctx = Context { train: true, lengths: lengths.map(|l| Tensor::from_slice(&l)) };
            let mut leaves = vs.trainable_variables();
            leaves.push(x.shallow_clone());
            let (fast, slow) = (layer.forward(&x, &ctx), plain(&layer, &x, &ctx));
            assert!(fast.allclose(&slow, 1e-10, 1e-12, false), "values, causal {causal}, {lengths:?}");
            let weight = fast.randn_like();
            let gradient = |y: &Tensor| Tensor::run_backward(&[(y * &weight).sum(Kind::Double)], &leaves, false, false);
            for (fast, slow) in gradient(&fast).iter().zip(gradient(&slow)) {
                assert!(fast.allclose(&slow, 1e-9, 1e-11, false), "gradients, causal {causal}, {lengths:?}");
            }
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
        let y = layer.forward(&x, &Context { train: true, lengths: Some(Tensor::from_slice(&[0i64, 40])) });
        y.sum(Kind::Double).backward();
        let finite = |t: &Tensor| t.isfinite().all().int64_value(&[]) == 1;
        assert!(finite(&y) && vs.trainable_variables().iter().all(|p| finite(&p.grad())));
    }
}
