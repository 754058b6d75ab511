//! DeltaNet: linear attention that takes back what a key already holds before it writes the new value.
//!
//! ```text
//! q | k | v = SiLU(causal conv1d(in_proj x)),   k = k / ‖k‖,   q = q / (‖q‖ √d_head),   β = σ(b_proj x)     per head
//! S_t = (I - β_t k_t k_tᵀ) S_{t-1} + β_t k_t v_tᵀ,   o_t = S_tᵀ q_t            one state [d_head, d_head] per head
//! y_t = o_proj( RMSNorm(o_t) · SiLU(g_proj x_t) )                             norm per head; the gate where asked
//!
//! a chunk at once:   A = tril(diag(β) K Kᵀ, -1),   (I + A) [W | U] = diag(β) [K | V]              one triangular solve
//!                    O = (Q - G W) S + G U,   S ← (I - Kᵀ W) S + Kᵀ U,   G = tril(Q Kᵀ)
//! M = tril(Q Kᵀ) (I + A)⁻¹ diag(β)                                            the same with one chunk
//! ```
//! Paper    Schlag, Irie & Schmidhuber 2021, arXiv:2102.11174; chunks and the layer: Yang et al. 2024, arXiv:2406.06484;
//!          negative eigenvalues: Grazzi et al. 2024, arXiv:2411.12537; several steps a token (DeltaProduct): Siems et al. 2025,
//!          arXiv:2502.10297
//! Time     O(length · d_model · (d_model + d_head + chunk_size) · householder); the solves of all chunks at once, only S goes
//!          from chunk to chunk
//! Memory   O(length · (d_model + n_heads · chunk_size) · householder) to train, of large inputs for one row of the batch at a time, beside
//!          what the projections gave; state O(d_model · d_head) to decode
//! Matches  the recurrence as it stands, in values and gradients, for any chunk. No dump: the references' layers run Triton kernels
//! Departs  q, k and v come from one projection, cut, where the references keep three
//!
//! Bidirectional: a second set of heads, with weights of its own (`reverse.…`), reads each row from the end of its valid part; the
//! heads of both are joined by one projection. Padding lies behind what either has to read.

use crate::core::limits::width;
use crate::math::delta_scan::SEVERAL_STEPS;
use crate::math::depthwise::Depthwise;
use crate::math::fla::{UNIT_VECTORS, unit};
use crate::native::recompute_rows;
use crate::{
    ConfigError, Context, Cost, Dims, Family, Linear, Mixer, NotLinear, Recurrent, Structure, at_least, heads, linear,
    linear_flops, tensor_bytes,
};
use serde_json::{Value, json};
use tch::nn::{self, Init};
use tch::{Kind, Tensor};

/// `mixer: { deltanet: { negative_eigenvalues: true } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Parallel heads; must divide `d_model` unless `d_head` is given. The state of a head is `d_head` × `d_head`.
    pub n_heads: i64,
    /// Width of a head; null is `d_model / n_heads`.
    pub d_head: Option<i64>,
    /// Width of the causal depthwise convolution. Reference: 4.
    pub d_conv: i64,
    /// β = 2 σ(·): the eigenvalue 1 - β of a step along its key may be negative, which parity needs (Grazzi et al. 2024).
    pub negative_eigenvalues: bool,
    /// Steps a token, each with a key, a value and a β of its own; the state is read after the last (DeltaProduct).
    pub householder: i64,
    /// Multiplies the normalised output by SiLU of one more projection.
    pub gate: bool,
    /// Steps in a chunk, `householder` of them a token. Changes speed and memory, numbers only by rounding.
    pub chunk_size: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            n_heads: 4,
            d_head: None,
            d_conv: 4,
            negative_eigenvalues: false,
            householder: 1,
            gate: false,
            chunk_size: 32,
        }
    }
}

impl Family for Config {
    const NAME: &'static str = "deltanet";
    const ABOUT: &'static str = "linear attention with the delta rule, in chunks (Yang et al. 2024)";
    const PAPER: &'static str = "Yang et al. 2024, arXiv:2406.06484, §3";
    const COMPLEXITY: &'static str = "time O(length · d_model · (d_model + d_head + chunk_size)), memory O(length · (d_model + n_heads · chunk_size))";
    // 2: rounding moved when queries and keys came to be normalised where they lie packed.
    const VERSION: u32 = 3;
    /// The 340M model, §4.
    const WIDTH: i64 = 1024;

    fn small() -> Value {
        json!({ "n_heads": 2, "chunk_size": 4 })
    }

    fn unsteady() -> Vec<(Value, &'static str)> {
        let settings = [
            json!({}),
            json!({ "negative_eigenvalues": true, "chunk_size": 1 }),
            json!({ "d_conv": 1, "chunk_size": 5 }),
            json!({ "householder": 3, "gate": true, "chunk_size": 64 }),
        ];
        settings.map(|settings| (settings, UNIT_VECTORS)).to_vec()
    }

    fn variants() -> Vec<Value> {
        vec![
            json!({ "negative_eigenvalues": true, "chunk_size": 1 }),
            json!({ "d_head": 6, "gate": true, "chunk_size": 64 }),
            json!({ "d_conv": 1, "chunk_size": 5 }),
            json!({ "householder": 2, "negative_eigenvalues": true }),
            json!({ "householder": 3, "gate": true, "chunk_size": 64 }),
        ]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("weight", 30.0)]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let [d, heads, conv, steps] = [dims.d_model, self.n_heads, self.d_conv, self.householder].map(|n| n as f64);
        let inner = self.d_head.map_or(d, |d_head| heads * d_head as f64);
        let ends = if dims.causal { 1.0 } else { 2.0 };
        let channels = (1.0 + 2.0 * steps) * inner;
        let outer = inner * d * if self.gate { 2.0 } else { 1.0 };
        ends * (channels * (d + conv) + steps * heads * d + outer) + inner
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        [
            heads(self.n_heads, self.d_head, dims.d_model),
            at_least("d_conv", self.d_conv, 1),
            at_least("householder", self.householder, 1),
            width(
                "householder",
                "householder · n_heads · d_head",
                &[self.householder, self.d_head.map_or(dims.d_model, |d_head| self.n_heads.saturating_mul(d_head))],
            ),
            at_least("chunk_size", self.chunk_size, 1),
        ]
        .into_iter()
        .filter_map(Result::err)
        .collect()
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(DeltaNet::new(vs, dims, self))
    }
}

impl Config {
    /// Tokens in a chunk.
    fn chunk(&self) -> i64 {
        (self.chunk_size / self.householder).max(1)
    }
}

/// Of the RMSNorm of a head's output.
const EPS: f64 = 1e-5;

/// The layer; see the head of this file.
#[derive(Debug)]
pub struct DeltaNet {
    /// The causal one, or both.
    directions: Vec<Direction>,
    g_proj: Option<Linear>,
    o_norm: Tensor,
    o_proj: Linear,
    cfg: Config,
    d_model: i64,
    d_head: i64,
}

/// What one direction learns.
#[derive(Debug)]
struct Direction {
    /// q, then the keys of each step, then their values.
    in_proj: Linear,
    conv_weight: Tensor,
    /// β of each step and head.
    b_proj: Linear,
}

/// What the recurrence reads, with `householder` rows of k, v and β a token; the output is divided by √d_head, not q.
struct Steps {
    /// `[batch, heads, length, d_head]`.
    q: Tensor,
    /// `[batch, heads, length · householder, d_head]`.
    k: Tensor,
    v: Tensor,
    /// `[batch, heads, length · householder, 1]`.
    beta: Tensor,
}

impl Direction {
    /// `[batch, length, d_model]` → the input of the convolution, `[batch, length, channels]`.
    fn project(&self, x: &Tensor) -> Tensor {
        x.apply(&self.in_proj)
    }

    /// Before the sigmoid.
    fn logits(&self, x: &Tensor) -> Tensor {
        x.apply(&self.b_proj)
    }
}

/// `[batch, length, channels]` of the input projection → the same.
fn convolve(projected: &Tensor, weight: &Tensor) -> Tensor {
    let no_bias = Tensor::zeros([weight.size()[0]], (projected.kind(), projected.device()));
    Depthwise::causal(weight, true).apply(projected, weight, &no_bias)
}

/// What is done with what the projections gave.
#[derive(Clone, Copy, Debug)]
struct Rule {
    heads: i64,
    d_head: i64,
    householder: i64,
    negative_eigenvalues: bool,
    /// Tokens in a chunk.
    chunk: i64,
}

impl Rule {
    /// What the recurrence reads, of the convolution's output and of β before its sigmoid.
    fn steps(self, convolved: &Tensor, logits: &Tensor) -> Steps {
        let (n, heads) = (self.householder, self.heads);
        let parts = convolved.unflatten(-1, [1 + 2 * n, heads, self.d_head]);
        let qk = parts.narrow(2, 0, 1 + n);
        let unit = unit(&qk);
        let rows = |t: Tensor| t.permute([0, 3, 1, 2, 4]).flatten(2, 3);
        let beta = logits.sigmoid() * if self.negative_eigenvalues { 2.0 } else { 1.0 };
        Steps {
            q: rows(unit.narrow(2, 0, 1)),
            k: rows(unit.narrow(2, 1, n)),
            v: rows(parts.narrow(2, 1 + n, n)),
            beta: rows(beta.unflatten(-1, [n, heads]).unsqueeze(-1)),
        }
    }

    /// o, `[batch, heads, length, d_head]`, of what the projections gave. In large inputs nothing else is kept for the backward.
    fn recall(self, projected: &Tensor, logits: &Tensor, filter: &Tensor) -> Tensor {
        let o =
            move |t: &[Tensor]| in_chunks(&self.steps(&convolve(&t[0], &t[2]), &t[1]), self.chunk, self.householder);
        recompute_rows(o, &[projected, logits], &[filter])
    }
}

impl DeltaNet {
    fn new(vs: &nn::Path, dims: &Dims, cfg: &Config) -> Self {
        let d = dims.d_model;
        let d_head = cfg.d_head.unwrap_or(d / cfg.n_heads);
        let inner = cfg.n_heads * d_head;
        let channels = (1 + 2 * cfg.householder) * inner;
        let bound = 1.0 / (cfg.d_conv as f64).sqrt();
        let direction = |vs: nn::Path| Direction {
            in_proj: linear(&(&vs / "in_proj"), d, channels, false),
            conv_weight: (&vs / "conv1d").var(
                "weight",
                &[channels, 1, cfg.d_conv],
                Init::Uniform { lo: -bound, up: bound },
            ),
            b_proj: linear(&(&vs / "b_proj"), d, cfg.householder * cfg.n_heads, false),
        };
        let mut directions = vec![direction(vs.clone())];
        if !dims.causal {
            directions.push(direction(vs / "reverse"));
        }
        let width = directions.len() as i64 * inner;
        Self {
            directions,
            g_proj: cfg.gate.then(|| linear(&(vs / "g_proj"), d, width, false)),
            o_norm: (vs / "o_norm").ones("weight", &[d_head]),
            o_proj: linear(&(vs / "o_proj"), width, d, false),
            cfg: cfg.clone(),
            d_model: d,
            d_head,
        }
    }

    fn rule(&self) -> Rule {
        let Config { n_heads: heads, householder, negative_eigenvalues, .. } = self.cfg;
        Rule { heads, d_head: self.d_head, householder, negative_eigenvalues, chunk: self.cfg.chunk() }
    }

    /// `of` each direction, of what it reads in its order.
    fn each<T>(&self, x: &Tensor, ctx: &Context, of: impl Fn(&Direction, &Tensor) -> T) -> Vec<T> {
        let order = |i: usize| if i == 0 { x.shallow_clone() } else { ctx.reversed(x) };
        self.directions.iter().enumerate().map(|(i, direction)| of(direction, &order(i))).collect()
    }

    /// What the recurrence of each direction reads, in the order it reads.
    fn read(&self, x: &Tensor, ctx: &Context) -> Vec<Steps> {
        let rule = self.rule();
        self.each(x, ctx, |direction, x| {
            rule.steps(&convolve(&direction.project(x), &direction.conv_weight), &direction.logits(x))
        })
    }

    /// One direction's `[batch, heads, length, …]`, each in the order it read, in the order of the input, heads after heads.
    fn in_order(&self, parts: Vec<Tensor>, ctx: &Context) -> Tensor {
        let turn = |(i, part): (usize, Tensor)| if i == 0 { part } else { turned(&part, ctx) };
        let parts: Vec<Tensor> = parts.into_iter().enumerate().map(turn).collect();
        if let [only] = parts.as_slice() { only.shallow_clone() } else { Tensor::cat(&parts, 1) }
    }

    /// o of every head, `[batch, heads of all directions, length, d_head]`.
    fn recall(&self, x: &Tensor, ctx: &Context) -> Tensor {
        let rule = self.rule();
        let recall = |direction: &Direction, x: &Tensor| {
            rule.recall(&direction.project(x), &direction.logits(x), &direction.conv_weight)
        };
        self.in_order(self.each(x, ctx, recall), ctx)
    }

    /// o `[batch, heads of all directions, length, d_head]` → `[batch, length, d_model]`.
    fn merge(&self, o: &Tensor, x: &Tensor, ctx: &Context) -> Tensor {
        let y = o.transpose(1, 2).rms_norm([self.d_head], Some(&self.o_norm), EPS).flatten(2, 3);
        let y = match &self.g_proj {
            None => y,
            Some(g_proj) => y * x.apply(g_proj).silu(),
        };
        y.apply(&ctx.join_heads(&self.o_proj, self.heads()))
    }

    fn linear(&self) -> Result<(), NotLinear> {
        match self.cfg.householder {
            1 => Ok(()),
            _ => Err(SEVERAL_STEPS),
        }
    }
}

/// Of every output.
fn scale(d_head: i64) -> f64 {
    1.0 / (d_head as f64).sqrt()
}

/// `[batch, heads, length, …]` with the valid positions of each row in the opposite order.
fn turned(t: &Tensor, ctx: &Context) -> Tensor {
    ctx.reversed(&t.transpose(1, 2)).transpose(1, 2)
}

/// Q Kᵀ of the keys that each query may read, `[…, tokens, tokens · per_token]`.
fn readable(q: &Tensor, k: &Tensor, per_token: i64) -> Tensor {
    let scores = q.matmul(&k.transpose(-2, -1));
    if per_token == 1 {
        return scores.tril(0);
    }
    let size = scores.size();
    let (tokens, rows) = (size[size.len() - 2], size[size.len() - 1]);
    let like = (Kind::Int64, q.device());
    let token = Tensor::arange(rows, like).divide_scalar_mode(per_token, "floor");
    let later = token.unsqueeze(0).gt_tensor(&Tensor::arange(tokens, like).unsqueeze(1));
    scores.masked_fill(&later, 0.0)
}

/// (I + tril(`kb` Kᵀ, -1))⁻¹ `right`, of `kb` = diag(β) K: what a chunk's steps write, each having taken back what those before
/// it wrote.
fn solve(kb: &Tensor, k: &Tensor, right: &Tensor) -> Tensor {
    // The solve reads nothing on or above the diagonal.
    kb.matmul(&k.transpose(-2, -1)).linalg_solve_triangular(right, false, true, true)
}

/// o, `[batch, heads, length, d_head]`.
fn in_chunks(steps: &Steps, chunk: i64, per_token: i64) -> Tensor {
    let [batch, heads, length, d] = steps.q.size4().expect("four axes").into();
    let chunk = chunk.min(length);
    let count = (length + chunk - 1) / chunk;
    let scale = scale(d);
    let missing = count * chunk - length;
    // Steps past the end have β = 0: they write nothing, and what they read is cut off.
    let cut = |t: &Tensor, rows: i64| {
        let whole = if missing > 0 { t.constant_pad_nd([0, 0, 0, missing * rows]) } else { t.shallow_clone() };
        whole.reshape([batch * heads * count, chunk * rows, -1])
    };
    let (q, k, v) = (cut(&steps.q, 1), cut(&steps.k, per_token), cut(&steps.v, per_token));
    let beta = cut(&steps.beta, per_token);
    let kb = &k * &beta;
    let written = solve(&kb, &k, &Tensor::cat(&[&kb, &(v * &beta)], -1)); // W | U
    let read = readable(&q, &k, per_token).bmm(&written); // G W | G U
    let (gw, gu) = (read.narrow(-1, 0, d), read.narrow(-1, d, d));
    if count == 1 {
        return (gu * scale).reshape([batch, heads, chunk, d]);
    }
    let of_chunks = |t: Tensor| t.unflatten(0, [batch * heads, count]).unbind(1);
    let moved = k.transpose(1, 2).bmm(&written); // Kᵀ W | Kᵀ U
    let kept = of_chunks(Tensor::eye(d, (q.kind(), q.device())) - moved.narrow(-1, 0, d));
    let added = of_chunks(moved.narrow(-1, d, d));
    let mut states = vec![added[0].zeros_like(), added[0].shallow_clone()];
    for i in 1..count as usize - 1 {
        states.push(added[i].baddbmm(&kept[i], &states[i], 1, 1));
    }
    let states = Tensor::stack(&states, 1).flatten(0, 1); // S before each chunk
    let o = gu.baddbmm(&(&q - gw), &states, scale, scale).view([batch, heads, count * chunk, d]);
    if missing > 0 { o.narrow(2, 0, length) } else { o }
}

impl Mixer for DeltaNet {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        self.merge(&self.recall(x, ctx), x, ctx)
    }

    /// Of the forward heads, then of the backward ones.
    fn materialize(&self, x: &Tensor, ctx: &Context) -> Result<Tensor, NotLinear> {
        self.linear()?;
        let matrix = |steps: &Steps| {
            let Steps { q, k, beta, .. } = steps;
            let written = solve(&(k * beta), k, &beta.squeeze_dim(-1).diag_embed(0, -2, -1));
            readable(q, k, 1).matmul(&written) * scale(self.d_head)
        };
        // Rows are turned by `in_order`, columns here.
        let columns = |(i, m): (usize, Tensor)| {
            if i == 0 { m } else { turned(&m.transpose(-2, -1), ctx).transpose(-2, -1) }
        };
        let parts = self.read(x, ctx).iter().map(matrix).enumerate().map(columns).collect();
        Ok(self.in_order(parts, ctx))
    }

    fn values(&self, x: &Tensor, ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        self.linear()?;
        let y = self.recall(x, ctx);
        Ok((self.in_order(self.read(x, ctx).into_iter().map(|steps| steps.v).collect(), ctx), y))
    }

    fn structure(&self) -> Structure {
        if self.linear().is_ok() { Structure::Quasiseparable(self.d_head) } else { Structure::Dense }
    }

    fn heads(&self) -> i64 {
        self.directions.len() as i64 * self.cfg.n_heads
    }

    fn path(&self) -> &'static str {
        "in chunks"
    }

    fn recurrent(&self) -> Option<Box<dyn Recurrent + '_>> {
        let [direction] = self.directions.as_slice() else { return None };
        let mut state = State { layer: self, direction, window: Tensor::new(), state: Tensor::new() };
        state.reset(1);
        Some(Box::new(state))
    }

    /// FLOPs count the whole square of a chunk, as they run, and half of it for the solve.
    fn cost(&self, length: i64) -> Cost {
        let (d, d_head, n) = (self.d_model, self.d_head, self.cfg.householder);
        let (ends, inner) = (self.directions.len() as i64, self.cfg.n_heads * d_head);
        let channels = (1 + 2 * n) * inner;
        let outer = ends * inner * d * (1 + i64::from(self.cfg.gate)); // o_proj, g_proj
        let direction = channels * (d + self.cfg.d_conv) + n * self.cfg.n_heads * d;
        let chunk = self.cfg.chunk().min(length);
        let count = (length + chunk - 1) / chunk;
        let (tokens, rows) = (count * chunk, count * chunk * n);
        let within = linear_flops(rows, chunk * n, 2 * d_head) // K Kᵀ, and half of twice as much to solve
            + linear_flops(tokens, chunk * n, 3 * d_head); // Q Kᵀ; G W and G U
        let between = linear_flops(rows, d_head, 2 * d_head) + linear_flops(tokens + count * d_head, d_head, d_head);
        let chunks = within + if count > 1 { between } else { 0 };
        let state = channels * (self.cfg.d_conv - 1) + inner * d_head;
        Cost {
            params: ends * direction + outer + d_head,
            state_bytes: if ends == 1 { 4 * state } else { 0 },
            flops: 2 * length * (ends * direction + outer) + ends * self.cfg.n_heads * chunks,
        }
    }

    fn output_map(&self) -> Option<&'static str> {
        Some("o_proj.weight")
    }
}

/// The last inputs of the convolution, and S.
struct State<'a> {
    layer: &'a DeltaNet,
    direction: &'a Direction,
    /// `[batch, d_conv - 1, channels]`.
    window: Tensor,
    /// `[batch, heads, d_head, d_head]`.
    state: Tensor,
}

/// `S + β k (v - Sᵀ k)ᵀ`, which is `(I - β k kᵀ) S + β k vᵀ`: S `[…, d, d]`, k and v `[…, 1, d]`, β `[…, 1, 1]`.
fn write(s: &Tensor, k: &Tensor, v: &Tensor, beta: &Tensor) -> Tensor {
    s + (k * beta).transpose(-2, -1).matmul(&(v - k.matmul(s)))
}

impl Recurrent for State<'_> {
    fn reset(&mut self, batch: i64) {
        let (layer, weight) = (self.layer, &self.direction.conv_weight);
        let like = (weight.kind(), weight.device());
        self.window = Tensor::zeros([batch, layer.cfg.d_conv - 1, weight.size()[0]], like);
        self.state = Tensor::zeros([batch, layer.cfg.n_heads, layer.d_head, layer.d_head], like);
    }

    fn step(&mut self, x: &Tensor) -> Tensor {
        let (layer, direction) = (self.layer, self.direction);
        let x = x.unsqueeze(1);
        let seen = Tensor::cat(&[&self.window, &direction.project(&x)], 1);
        self.window = seen.narrow(1, 1, layer.cfg.d_conv - 1).contiguous();
        let taps = direction.conv_weight.squeeze_dim(1).transpose(0, 1);
        let convolved = (seen * taps).sum_dim_intlist([1].as_slice(), true, x.kind()).silu();
        let Steps { q, k, v, beta } = layer.rule().steps(&convolved, &direction.logits(&x));
        for step in 0..layer.cfg.householder {
            let [k, v, beta] = [&k, &v, &beta].map(|t| t.narrow(2, step, 1));
            self.state = write(&self.state, &k, &v, &beta);
        }
        layer.merge(&(q.matmul(&self.state) * scale(layer.d_head)), &x, &Context::eval()).squeeze_dim(1)
    }

    fn state_bytes(&self) -> i64 {
        tensor_bytes(&self.window) + tensor_bytes(&self.state)
    }

    fn state(&self) -> Vec<Tensor> {
        vec![self.state.shallow_clone(), self.window.shallow_clone()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::goldens::relative_error;
    use crate::laws::testing::noise;
    use crate::math::fla::L2_EPS;
    use tch::Device;
    use tch::nn::VarStore;

    fn layer_of(dims: &Dims, cfg: &Config) -> (VarStore, DeltaNet) {
        let mut vs = VarStore::new(Device::Cpu);
        let layer = DeltaNet::new(&vs.root(), dims, cfg);
        vs.double();
        (vs, layer)
    }

    /// `S_t = (I - β k kᵀ) S_{t-1} + β k vᵀ`, `o_t = Sᵀ q_t / √d`, as they stand: q, k, v `[length, d]` of one head.
    fn recurrence(q: &Tensor, k: &Tensor, v: &Tensor, beta: &Tensor, per_token: i64) -> Tensor {
        let d = q.size()[1];
        let like = (q.kind(), q.device());
        let mut s = Tensor::zeros([d, d], like);
        let mut outputs = Vec::new();
        for row in 0..k.size()[0] {
            let (k, v, beta) = (k.get(row), v.get(row), beta.get(row));
            s = (Tensor::eye(d, like) - &beta * k.outer(&k)).matmul(&s) + &beta * k.outer(&v);
            if (row + 1) % per_token == 0 {
                outputs.push(s.tr().mv(&q.get(row / per_token)) / (d as f64).sqrt());
            }
        }
        Tensor::stack(&outputs, 0)
    }

    /// The whole layer of one row without padding, from libtorch's operations.
    fn plain(layer: &DeltaNet, x: &Tensor) -> Tensor {
        let (n, heads, d) = (layer.cfg.householder, layer.cfg.n_heads, layer.d_head);
        let mut outputs = Vec::new();
        for (i, direction) in layer.directions.iter().enumerate() {
            let x = if i == 0 { x.shallow_clone() } else { x.flip([0]) };
            let image = x.matmul(&direction.in_proj.ws.tr()).tr().unsqueeze(0);
            let weight = &direction.conv_weight;
            let image = image.constant_pad_nd([weight.size()[2] - 1, 0]);
            let convolved = image.conv1d(weight, None::<Tensor>, 1, 0, 1, weight.size()[0]).squeeze_dim(0).tr().silu();
            let beta = x.matmul(&direction.b_proj.ws.tr()).sigmoid(); // [length, steps · heads]
            let beta = if layer.cfg.negative_eigenvalues { beta * 2.0 } else { beta };
            for head in 0..heads {
                let column = |part: i64| convolved.narrow(1, part * heads * d + head * d, d);
                let unit =
                    |t: Tensor| &t / (t.square().sum_dim_intlist([1].as_slice(), true, Kind::Double) + L2_EPS).sqrt();
                let of_steps = |from: i64, norm: bool| {
                    let steps: Vec<Tensor> =
                        (0..n).map(|step| if norm { unit(column(from + step)) } else { column(from + step) }).collect();
                    Tensor::stack(&steps, 1).flatten(0, 1)
                };
                let betas: Vec<Tensor> = (0..n).map(|step| beta.select(1, step * heads + head)).collect();
                let beta = Tensor::stack(&betas, 1).flatten(0, 1);
                let o = recurrence(&unit(column(0)), &of_steps(1, true), &of_steps(1 + n, false), &beta, n);
                let o = if i == 0 { o } else { o.flip([0]) };
                let mean = o.square().mean_dim([1].as_slice(), true, Kind::Double);
                outputs.push(o / (mean + EPS).sqrt() * &layer.o_norm);
            }
        }
        let y = Tensor::cat(&outputs, 1);
        let y = match &layer.g_proj {
            None => y,
            Some(g_proj) => y * x.matmul(&g_proj.ws.tr()).silu(),
        };
        y.matmul(&layer.o_proj.ws.tr())
    }

    #[test]
    fn chunks_are_the_recurrence_in_values_and_gradients() {
        for (length, per_token, chunks) in [(19, 1, [1, 4, 19, 32].as_slice()), (16, 1, &[8]), (7, 3, &[1, 2, 5, 8])] {
            let rows = length * per_token;
            let leaf = |shape: &[i64], salt| noise(shape, salt).set_requires_grad(true);
            let leaves = [
                leaf(&[2, 2, length, 4], 1),
                leaf(&[2, 2, rows, 4], 2),
                leaf(&[2, 2, rows, 4], 3),
                leaf(&[2, 2, rows, 1], 4),
            ];
            let [q, k, v, beta] = leaves.each_ref().map(Tensor::shallow_clone);
            let k = &k / k.square().sum_dim_intlist([-1].as_slice(), true, Kind::Double).sqrt();
            let beta = beta + 1.0; // 0 .. 2
            let row = |t: &Tensor, i: i64| t.flatten(0, 1).get(i);
            let each: Vec<Tensor> = (0..4)
                .map(|i| recurrence(&row(&q, i), &row(&k, i), &row(&v, i), &row(&beta, i).squeeze_dim(1), per_token))
                .collect();
            let slow = Tensor::stack(&each, 0).unflatten(0, [2, 2]);
            let gradients =
                |y: &Tensor| Tensor::run_backward(&[(y * noise(&y.size(), 5)).sum(Kind::Double)], &leaves, true, false);
            let steps = Steps { q, k, v, beta };
            for &chunk in chunks {
                let fast = in_chunks(&steps, chunk, per_token);
                let case = format!("length {length}, {per_token} a token, chunks of {chunk}");
                let error = relative_error(&fast, &slow);
                assert!(error < 1e-12, "values are {error:.1e} off, {case}");
                for (i, (fast, slow)) in gradients(&fast).iter().zip(gradients(&slow)).enumerate() {
                    let error = relative_error(fast, &slow);
                    assert!(error < 1e-11, "gradient {i} is {error:.1e} off, {case}");
                }
            }
        }
    }

    #[test]
    fn the_layer_is_its_plain_twin_in_values_and_gradients() {
        let small = Config { n_heads: 2, chunk_size: 4, ..Config::default() };
        let settings = [
            small.clone(),
            Config { negative_eigenvalues: true, gate: true, d_head: Some(5), d_conv: 3, ..small.clone() },
            Config { householder: 2, chunk_size: 64, ..small },
        ];
        let cases = [(true, [11, 11]), (false, [11, 11]), (false, [11, 4])];
        for (cfg, (causal, lengths)) in settings.iter().flat_map(|cfg| cases.map(|case| (cfg, case))) {
            let (vs, layer) = layer_of(&Dims { d_model: 6, seq_len: 11, causal }, cfg);
            let x = noise(&[2, 11, 6], 3).set_requires_grad(true);
            let mut leaves = vs.trainable_variables();
            leaves.push(x.shallow_clone());
            let ctx = Context { lengths: Some(Tensor::from_slice(&lengths)), ..Context::default() };
            let fast = ctx.zero_padding(&layer.forward(&x, &ctx));
            let rows = lengths.iter().zip(0..).map(|(&length, row)| {
                plain(&layer, &x.get(row).narrow(0, 0, length)).constant_pad_nd([0, 0, 0, 11 - length])
            });
            let slow = Tensor::stack(&rows.collect::<Vec<_>>(), 0);
            let error = relative_error(&fast, &slow);
            assert!(error < 1e-11, "values are {error:.1e} off, causal {causal}, {lengths:?}, {cfg:?}");
            let gradients = |y: &Tensor| {
                Tensor::run_backward(&[(y * noise(&y.size(), 4)).sum(Kind::Double)], &leaves, false, false)
            };
            for (i, (fast, slow)) in gradients(&fast).iter().zip(gradients(&slow)).enumerate() {
                let error = relative_error(fast, &slow);
                assert!(error < 1e-10, "gradient {i} is {error:.1e} off, causal {causal}, {lengths:?}, {cfg:?}");
            }
        }
    }

    /// One key written twice: the second value replaces the first, where a sum would hold both.
    #[test]
    fn a_value_written_to_a_known_key_replaces_the_old_one() {
        let key = Tensor::from_slice(&[0.6, 0.8]);
        let rows = |t: &Tensor| t.view([1, 1, 1, 2]).expand([1, 1, 2, 2], false);
        let v = Tensor::from_slice(&[1.0, 2.0, -3.0, 5.0]).view([1, 1, 2, 2]);
        let beta = Tensor::ones([1, 1, 2, 1], (Kind::Double, Device::Cpu));
        let o = in_chunks(&Steps { q: rows(&key), k: rows(&key), v: v.shallow_clone(), beta }, 2, 1) * 2f64.sqrt();
        assert!(o.allclose(&v, 1e-12, 1e-12, false), "{o}");
    }

    /// β = 2 reflects the state: a run of equal keys flips its sign at every step.
    #[test]
    fn a_step_of_two_flips_the_sign_along_its_key() {
        let key = Tensor::from_slice(&[0.6, 0.8]).view([1, 1, 1, 2]);
        let k = key.expand([1, 1, 5, 2], false);
        let v = Tensor::zeros([1, 1, 5, 2], (Kind::Double, Device::Cpu));
        let _ = v.select(2, 0).fill_(0.5); // written with β = 2: the state holds 1
        let beta = Tensor::full([1, 1, 5, 1], 2.0, (Kind::Double, Device::Cpu));
        let o = in_chunks(&Steps { q: k.shallow_clone(), k, v, beta }, 2, 1) * 2f64.sqrt();
        let signs = Tensor::from_slice(&[1.0, -1.0, 1.0, -1.0, 1.0]).view([1, 1, 5, 1]).expand([1, 1, 5, 2], false);
        assert!(o.allclose(&signs, 1e-12, 1e-12, false), "{o}");
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
        assert_eq!(keys(Config { d_conv: 0, householder: 0, ..default() }), ["d_conv", "householder"]);
    }
}
