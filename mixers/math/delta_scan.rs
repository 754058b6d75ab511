//! Linear attention that decays and takes back: the recurrence of the delta rule and its kin, whose transition is diagonal plus rank one.
//!
//! ```text
//! p_t = S_{t-1}ᵀ r_t,   S_t = diag(a_t) S_{t-1} - e_t p_tᵀ + w_t v_tᵀ         one state [d_k, d_v] per head
//! o_t = S_tᵀ q_t                                                              after the last of a token's `per_token` steps
//! the delta rule    w = e = β k,   r = a ⊙ k:     S_t = (I - β k kᵀ) diag(a) S_{t-1} + β k vᵀ        [`Inputs::delta`]
//! ```
//! With `steps = length · per_token`: q is `[batch, length, heads, d_k]`; w, r and e are `[batch, steps, heads, d_k]`, v is
//! `[batch, steps, heads, d_v]`, and a is `[batch, steps, heads, d_k]`, or `[batch, steps, heads, 1]` where a head decays as one. What comes
//! out is `[batch, length, heads, d_v]`.
//!
//! After    Yang et al. 2024, arXiv:2412.06464, eq. 10 (scalar a), §3.3 (chunks); Kimi Team 2025, arXiv:2510.26692, eq. 1 (a a channel);
//!          Siems et al. 2025, arXiv:2502.10297, §3 (several steps a token)
//! Time     O(steps · heads · d_k · d_v) on a CPU, one step after another. The columns of a state never meet: a few of them at a time go
//!          through the whole sequence, in kilobytes that stay in the first cache. Elsewhere chunks of 16: a triangular solve within each,
//!          a running S between them
//! Memory   nothing but the inputs is kept for the backward; while it runs, O(√length · per_token · d_k) a thread for states computed again
//!
//! The decays come as they are and not as logarithms, 0 included, and nothing is divided by them: no value and no gradient overflows.
//!
//! The backward, with G the gradient of S_t from everything that reads it, `G += q_t do_tᵀ` first where the token ends:
//!
//! ```text
//! dq = S_t do,   dw = G v,   dv = Gᵀ w,   de = -G p,   dp = -Gᵀ e,   da[c] = Σ_d G[c,d] S_{t-1}[c,d],   dr = S_{t-1} dp
//! then  G ← diag(a) G + r dpᵀ
//! ```
//! States are stored every √length tokens and computed again in between.

use crate::NotLinear;
use crate::math::decay_scan::logarithm;
use crate::math::heads::Scan;
use crate::math::real::{Real, by_kind, product};
use crate::native::kernels::native_for;
use crate::native::{Backward, Shared, attach, elements, elements_mut, parallel_for, worked};
use multiversion::multiversion;
use tch::{Kind, Tensor};

/// Why there is no matrix where a token takes several steps.
pub(crate) const SEVERAL_STEPS: NotLinear =
    NotLinear("several steps a token write several values, so that no matrix over positions gives Y");

/// What a scan reads; shapes as in the head of this file.
#[derive(Debug)]
pub struct Inputs {
    /// Reads the state after a token.
    pub q: Tensor,
    /// Where values are written.
    pub w: Tensor,
    /// What is looked up in the state before.
    pub r: Tensor,
    /// Values.
    pub v: Tensor,
    /// Decays.
    pub a: Tensor,
    /// Where what was found is taken from; `None` is `w`.
    pub e: Option<Tensor>,
}

impl Inputs {
    /// Of the delta rule: `S_t = (I - β k kᵀ) diag(a) S_{t-1} + β k vᵀ`, β `[batch, steps, heads, 1]`.
    pub fn delta(q: Tensor, k: &Tensor, v: Tensor, beta: &Tensor, a: Tensor) -> Self {
        Self { q, w: k * beta, r: k * &a, v, a, e: None }
    }

    fn list(&self) -> Vec<&Tensor> {
        [&self.q, &self.w, &self.r, &self.v, &self.a].into_iter().chain(&self.e).collect()
    }

    fn per_token(&self) -> i64 {
        self.v.size()[1] / self.q.size()[1]
    }

    /// One token: the output, `[batch, 1, heads, d_v]`, and the state after it; both states are `[batch, heads, d_k, d_v]`.
    fn step(&self, state: &Tensor) -> (Tensor, Tensor) {
        let e = self.e.as_ref().unwrap_or(&self.w);
        let state = (0..self.per_token()).fold(state.shallow_clone(), |state, i| {
            let [w, r, v, a, e] = [&self.w, &self.r, &self.v, &self.a, e].map(|t| t.select(1, i));
            let found = r.unsqueeze(-2).matmul(&state);
            state * a.unsqueeze(-1) - e.unsqueeze(-1) * found + w.unsqueeze(-1) * v.unsqueeze(-2)
        });
        (self.q.transpose(1, 2).matmul(&state).transpose(1, 2), state)
    }
}

impl Scan for Inputs {
    fn outputs(&self) -> Tensor {
        scan(self)
    }

    fn advance(&self, state: &Tensor) -> (Tensor, Tensor) {
        self.step(state)
    }

    fn values(&self) -> &Tensor {
        &self.v
    }

    /// What the chunks make of unit vectors for values.
    fn matrix(&self) -> Result<Tensor, NotLinear> {
        let [batch, steps, heads, _] = self.v.size4().expect("four axes").into();
        if self.per_token() > 1 {
            return Err(SEVERAL_STEPS);
        }
        let unit = Tensor::eye(steps, (self.v.kind(), self.v.device())).view([1, steps, 1, steps]);
        let [q, w, r, a] = [&self.q, &self.w, &self.r, &self.a].map(Tensor::shallow_clone);
        let e = self.e.as_ref().map(Tensor::shallow_clone);
        let inputs = Self { q, w, r, v: unit.expand([batch, steps, heads, steps], false), a, e };
        Ok(in_chunks(&inputs).transpose(1, 2))
    }
}

/// The outputs, `[batch, length, heads, d_v]`.
///
/// # Panics
/// If shapes do not fit each other.
pub fn scan(inputs: &Inputs) -> Tensor {
    struct Op;

    impl Backward for Op {
        fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
            let Some(grad) = &grads[0] else { return saved.iter().map(|_| None).collect() };
            let saved: Vec<&Tensor> = saved.iter().collect();
            by_kind!(grad.kind(), backward(&saved, grad)).into_iter().map(Some).collect()
        }
    }

    if !native_for(&inputs.q) {
        return in_chunks(inputs);
    }
    let list = inputs.list();
    let o = tch::no_grad(|| by_kind!(inputs.q.kind(), forward(&list)));
    attach(Op, &list, &[&o], &list);
    o
}

/// The scan from libtorch's operations, on any device: chunks of 16 steps, a running state between them.
///
/// ```text
/// b_t the logarithms of the decays in the chunk up to t, and t's own;  b'_t without it
/// A[t,j] = Σ_c r_t[c] e_j[c] exp(b'_t[c] - b_j[c])  for j < t,   B the same with w for e
/// (I + A) [X | Y] = [r ⊙ exp b' | B V],   that is  P = X S + Y
/// ```
fn in_chunks(inputs: &Inputs) -> Tensor {
    const CHUNK: i64 = 16;
    let (steps, per_token) = (inputs.v.size()[1], inputs.per_token());
    let count = (steps + CHUNK - 1) / CHUNK;
    // [batch, heads, chunks, CHUNK, ·]; steps past the end write nothing, and what they read is cut off.
    let cut =
        |t: &Tensor| t.transpose(1, 2).constant_pad_nd([0, 0, 0, count * CHUNK - steps]).unflatten(2, [count, CHUNK]);
    // A token's query stands at its last step.
    let q = cut(&inputs.q.unsqueeze(2).constant_pad_nd([0, 0, 0, 0, per_token - 1, 0]).flatten(1, 2));
    let [w, r, v] = [&inputs.w, &inputs.r, &inputs.v].map(cut);
    let e = inputs.e.as_ref().map_or_else(|| w.shallow_clone(), cut);
    let logs = cut(&logarithm(&inputs.a));
    let sums = logs.cumsum(3, logs.kind());
    let before = &sums - &logs;
    // What is not read is masked before the exponential: its exponent may be positive.
    let on_the_way = |until: &Tensor, first: i64| {
        let unread = Tensor::ones([CHUNK, CHUNK], (Kind::Bool, v.device())).triu(first).unsqueeze(-1);
        (until.unsqueeze(4) - sums.unsqueeze(3)).masked_fill(&unread, f64::NEG_INFINITY).exp()
    };
    let (strictly, also) = (on_the_way(&before, 0), on_the_way(&sums, 1));
    let found = pairs(&r, &e, &strictly);
    let right = Tensor::cat(&[&r * before.exp(), pairs(&r, &w, &strictly).matmul(&v)], -1);
    // The solve reads nothing on or above the diagonal.
    let solved = found.linalg_solve_triangular(&right, false, true, true);
    let d_k = q.size()[4];
    let (x, y) = (solved.narrow(-1, 0, d_k), solved.narrow(-1, d_k, v.size()[4]));
    let taken = pairs(&q, &e, &also);
    let inside = pairs(&q, &w, &also).matmul(&v) - taken.matmul(&y);
    let reads = &q * sums.exp() - taken.matmul(&x);
    let total = sums.narrow(3, CHUNK - 1, 1);
    let left = (&total - &sums).exp();
    let (e_left, w_left) = ((e * &left).transpose(-2, -1), (w * left).transpose(-2, -1));
    let added = w_left.matmul(&v) - e_left.matmul(&y);
    let kept = Tensor::eye(d_k, (v.kind(), v.device())) * total.exp().transpose(-2, -1) - e_left.matmul(&x);
    let mut states = vec![added.select(2, 0).zeros_like()];
    for i in 0..count - 1 {
        states.push(kept.select(2, i).matmul(&states[i as usize]) + added.select(2, i));
    }
    let o = inside + reads.matmul(&Tensor::stack(&states, 2));
    let o = o.flatten(2, 3).narrow(2, 0, steps).transpose(1, 2);
    o.unflatten(1, [-1, per_token]).select(2, per_token - 1)
}

/// `Σ_c x_t[c] y_j[c] way[t,j,c]`, `[…, CHUNK, CHUNK]`.
fn pairs(x: &Tensor, y: &Tensor, way: &Tensor) -> Tensor {
    if way.size()[5] == 1 {
        return x.matmul(&y.transpose(-2, -1)) * way.squeeze_dim(-1);
    }
    (x.unsqueeze(4) * y.unsqueeze(3) * way).sum_dim_intlist([-1].as_slice(), false, x.kind())
}

#[derive(Clone, Copy)]
struct Sizes {
    /// Tokens, and the steps of each.
    length: usize,
    per_token: usize,
    heads: usize,
    /// Sequences and heads together.
    rows: usize,
    d_k: usize,
    d_v: usize,
    /// `d_k`, or 1.
    d_a: usize,
}

impl Sizes {
    /// Of q, w, r, v, a and, where it is apart, e.
    fn of(inputs: &[&Tensor]) -> Self {
        let sizes: Vec<Vec<usize>> = inputs.iter().map(|t| t.size().iter().map(|&n| n as usize).collect()).collect();
        let axes = sizes.iter().all(|size| size.len() == 4);
        assert!(axes, "delta_scan: four axes, not {sizes:?}");
        let (batch, length, heads, d_k) = (sizes[0][0], sizes[0][1], sizes[0][2], sizes[0][3]);
        let (steps, d_v, d_a) = (sizes[3][1], sizes[3][3], sizes[4][3]);
        let keys = [1, 2].into_iter().chain(5..sizes.len()).all(|i| sizes[i] == [batch, steps, heads, d_k]);
        let others = [3, 4].iter().all(|&i| sizes[i][..3] == [batch, steps, heads]);
        let whole = length > 0 && steps % length == 0 && steps >= length;
        assert!(keys && others && whole && (d_a == d_k || d_a == 1), "delta_scan: shapes {sizes:?}");
        Self { length, per_token: steps / length, heads, rows: batch * heads, d_k, d_v, d_a }
    }

    /// Where entry `t` of `entries` of a row lies in a tensor of `width` channels a head.
    #[inline(always)]
    fn at(&self, row: usize, t: usize, entries: usize, width: usize) -> usize {
        ((row / self.heads * entries + t) * self.heads + row % self.heads) * width
    }

    fn steps(&self) -> usize {
        self.length * self.per_token
    }

    /// Steps of a token.
    fn of_token(&self, t: usize) -> std::ops::Range<usize> {
        t * self.per_token..(t + 1) * self.per_token
    }

    /// A multiply-add a state entry for each product with a step or a token.
    fn work(&self, of_step: usize, of_token: usize) {
        let products = self.rows * (of_step * self.steps() + of_token * self.length);
        worked(2.0 * (products * self.d_k * self.d_v) as f64);
    }
}

/// Columns of a state that go through the sequence together.
type Tile<T, const W: usize> = [[T; W]];

/// What one row of the batch and one head read.
#[derive(Clone, Copy)]
struct Row<'a, T> {
    /// q, w, r, v, a and e, which is w where it is not apart.
    tensors: [&'a [T]; 6],
    apart: bool,
    sizes: Sizes,
    row: usize,
}

/// What one step reads.
#[derive(Clone, Copy)]
struct Step<'a, T> {
    w: &'a [T],
    r: &'a [T],
    a: &'a [T],
    e: &'a [T],
    apart: bool,
}

impl<'a, T: Real> Row<'a, T> {
    #[inline(always)]
    fn query(&self, t: usize) -> &'a [T] {
        let Sizes { length, d_k, .. } = self.sizes;
        &self.tensors[0][self.sizes.at(self.row, t, length, d_k)..][..d_k]
    }

    #[inline(always)]
    fn step(&self, s: usize) -> Step<'a, T> {
        let part = |i: usize, width: usize| {
            let of: &'a [T] = self.tensors[i];
            &of[self.sizes.at(self.row, s, self.sizes.steps(), width)..][..width]
        };
        let d_k = self.sizes.d_k;
        Step { w: part(1, d_k), r: part(2, d_k), a: part(4, self.sizes.d_a), e: part(5, d_k), apart: self.apart }
    }

    /// The columns from `from` on of the values of a step, and zeros past the last.
    #[inline(always)]
    fn values<const W: usize>(&self, s: usize, from: usize) -> [T; W] {
        let d_v = self.sizes.d_v;
        columns(&self.tensors[3][self.sizes.at(self.row, s, self.sizes.steps(), d_v)..][..d_v], from)
    }
}

#[inline(always)]
fn columns<T: Real, const W: usize>(of: &[T], from: usize) -> [T; W] {
    let mut found = [T::ZERO; W];
    let n = W.min(of.len() - from);
    found[..n].copy_from_slice(&of[from..from + n]);
    found
}

/// `Sᵀ r`.
#[inline(always)]
fn held<T: Real, const W: usize>(state: &Tile<T, W>, r: &[T]) -> [T; W] {
    let mut found = [T::ZERO; W];
    for (s, r) in state.iter().zip(r) {
        for j in 0..W {
            found[j] += *r * s[j];
        }
    }
    found
}

/// `next = diag(a) S - e pᵀ + w vᵀ`.
#[inline(always)]
fn advance<T: Real, const W: usize>(
    next: &mut Tile<T, W>,
    state: &Tile<T, W>,
    step: Step<'_, T>,
    v: &[T; W],
    p: &[T; W],
) {
    let mut new = *v;
    if !step.apart {
        for j in 0..W {
            new[j] = v[j] - p[j];
        }
    }
    for (i, (next, s)) in next.iter_mut().zip(state).enumerate() {
        let (w, a, e) = (step.w[i], step.a[i.min(step.a.len() - 1)], step.e[i]);
        for j in 0..W {
            next[j] = a * s[j] + w * new[j];
        }
        if step.apart {
            for j in 0..W {
                next[j] = next[j] - e * p[j];
            }
        }
    }
}

/// Columns that go through the sequence together.
fn columns_of(d_v: usize) -> usize {
    [8, 16, 32].into_iter().find(|width| d_v <= *width).unwrap_or(64)
}

/// Calls a kernel of [`columns_of`] columns.
macro_rules! by_width {
    ($width:expr, $kernel:ident ::<$t:ty>($($argument:expr),*)) => {
        match $width {
            8 => $kernel::<$t, 8>($($argument),*),
            16 => $kernel::<$t, 16>($($argument),*),
            32 => $kernel::<$t, 32>($($argument),*),
            _ => $kernel::<$t, 64>($($argument),*),
        }
    };
}

/// The tensors packed, and e as w where it is not apart.
fn packed(inputs: &[&Tensor]) -> Vec<Tensor> {
    let mut packed: Vec<Tensor> = inputs.iter().map(|t| t.detach().contiguous()).collect();
    if packed.len() == 5 {
        packed.push(packed[1].shallow_clone());
    }
    packed
}

fn row_of<'a, T: Real>(packed: &'a [Tensor], apart: bool, sizes: Sizes) -> Row<'a, T> {
    Row { tensors: std::array::from_fn(|i| elements::<T>(&packed[i])), apart, sizes, row: 0 }
}

fn forward<T: Real>(inputs: &[&Tensor]) -> Tensor {
    let (sizes, apart, packed) = (Sizes::of(inputs), inputs.len() > 5, packed(inputs));
    let row = row_of::<T>(&packed, apart, sizes);
    let shape = [packed[0].size()[0], sizes.length as i64, sizes.heads as i64, sizes.d_v as i64];
    let mut o = Tensor::empty(shape, (T::KIND, packed[0].device()));
    let out = Shared::new(elements_mut::<T>(&mut o));
    let width = columns_of(sizes.d_v);
    let tiles = sizes.d_v.div_ceil(width);
    parallel_for(sizes.rows * tiles, 1, |pieces| {
        for piece in pieces {
            let (row, from) = (Row { row: piece / tiles, ..row }, piece % tiles * width);
            by_width!(width, forward_tile::<T>(row, from, &out));
        }
    });
    sizes.work(2 + usize::from(apart), 1);
    o
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn forward_tile<T: Real, const W: usize>(row: Row<'_, T>, from: usize, out: &Shared<T>) {
    let sizes = row.sizes;
    let mut state = vec![[T::ZERO; W]; sizes.d_k];
    let mut next = state.clone();
    for t in 0..sizes.length {
        for s in sizes.of_token(t) {
            let step = row.step(s);
            advance(&mut next, &state, step, &row.values(s, from), &held(&state, step.r));
            std::mem::swap(&mut next, &mut state);
        }
        let o = held(&state, row.query(t));
        let n = W.min(sizes.d_v - from);
        // SAFETY: rows, tiles and positions do not overlap, and the tensor is alive and read by nobody else.
        let out = unsafe { out.part(sizes.at(row.row, t, sizes.length, sizes.d_v) + from, n) };
        out.copy_from_slice(&o[..n]);
    }
}

/// Gradients of the inputs, in their order.
fn backward<T: Real>(inputs: &[&Tensor], grad: &Tensor) -> Vec<Tensor> {
    let (sizes, apart, packed) = (Sizes::of(inputs), inputs.len() > 5, packed(inputs));
    let row = row_of::<T>(&packed, apart, sizes);
    let grad = grad.contiguous();
    let grad = elements::<T>(&grad);
    let mut found: Vec<Tensor> = packed[..inputs.len()].iter().map(Tensor::zeros_like).collect();
    let into: Vec<Shared<T>> = found.iter_mut().map(|t| Shared::new(elements_mut::<T>(t))).collect();
    parallel_for(sizes.rows, 1, |rows| {
        for index in rows {
            let (row, width) = (Row { row: index, ..row }, columns_of(sizes.d_v));
            for from in (0..sizes.d_v).step_by(width) {
                by_width!(width, backward_tile::<T>(row, from, grad, &into));
            }
        }
    });
    sizes.work(9 + 3 * usize::from(apart), 2);
    found
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn backward_tile<T: Real, const W: usize>(row: Row<'_, T>, from: usize, grad: &[T], into: &[Shared<T>]) {
    let sizes = row.sizes;
    let (d_k, per_token) = (sizes.d_k, sizes.per_token);
    let chunk = sizes.length.isqrt().max(8).min(sizes.length);
    // The state before each chunk.
    let mut starts = vec![[T::ZERO; W]; sizes.length.div_ceil(chunk) * d_k];
    let mut state = vec![[T::ZERO; W]; d_k];
    let mut next = state.clone();
    for t in 0..sizes.length {
        if t % chunk == 0 {
            starts[t / chunk * d_k..][..d_k].copy_from_slice(&state);
        }
        for s in sizes.of_token(t) {
            let step = row.step(s);
            advance(&mut next, &state, step, &row.values(s, from), &held(&state, step.r));
            std::mem::swap(&mut next, &mut state);
        }
    }
    // The states before and after each step of one chunk, and what each step found.
    let mut states = vec![[T::ZERO; W]; (chunk * per_token + 1) * d_k];
    let mut finds = vec![[T::ZERO; W]; chunk * per_token];
    let mut g = vec![[T::ZERO; W]; d_k];
    for (i, start) in starts.chunks_exact(d_k).enumerate().rev() {
        let (first, end) = (i * chunk, ((i + 1) * chunk).min(sizes.length));
        states[..d_k].copy_from_slice(start);
        for s in first * per_token..end * per_token {
            let (step, at) = (row.step(s), s - first * per_token);
            let (before, after) = states[at * d_k..].split_at_mut(d_k);
            finds[at] = held(before, step.r);
            advance(&mut after[..d_k], before, step, &row.values(s, from), &finds[at]);
        }
        for t in (first..end).rev() {
            let after = &states[(t + 1 - first) * per_token * d_k..][..d_k];
            let grad = columns(&grad[sizes.at(row.row, t, sizes.length, sizes.d_v)..][..sizes.d_v], from);
            // SAFETY: rows and positions do not overlap, and the tensors are alive and read by nobody else.
            let dq = unsafe { into[0].part(sizes.at(row.row, t, sizes.length, d_k), d_k) };
            read_back(&mut g, after, row.query(t), &grad, dq);
            for s in sizes.of_token(t).rev() {
                let at = s - first * per_token;
                let (before, v) = (&states[at * d_k..][..d_k], row.values(s, from));
                step_back(&mut g, before, (row, s, from), [&v, &finds[at]], into);
            }
        }
    }
}

/// The end of a token: `dq = S do`, `G += q doᵀ`.
#[inline(always)]
fn read_back<T: Real, const W: usize>(g: &mut Tile<T, W>, state: &Tile<T, W>, q: &[T], grad: &[T; W], dq: &mut [T]) {
    for (i, (g, s)) in g.iter_mut().zip(state).enumerate() {
        dq[i] += product(s, grad);
        for j in 0..W {
            g[j] += q[i] * grad[j];
        }
    }
}

/// One step: `before` is the state that it found.
#[inline(always)]
fn step_back<T: Real, const W: usize>(
    g: &mut Tile<T, W>,
    before: &Tile<T, W>,
    (row, s, from): (Row<'_, T>, usize, usize),
    [v, p]: [&[T; W]; 2],
    into: &[Shared<T>],
) {
    let (sizes, step) = (row.sizes, row.step(s));
    let (d_k, d_v, d_a) = (sizes.d_k, sizes.d_v, sizes.d_a);
    let at = |width: usize| sizes.at(row.row, s, sizes.steps(), width);
    // SAFETY: rows and positions do not overlap, and the tensors are alive and read by nobody else.
    let [dw, dr, dv, da] = [(1, d_k), (2, d_k), (3, d_v), (4, d_a)].map(|(i, n)| unsafe { into[i].part(at(n), n) });
    let (mut of_v, mut of_p, mut of_a) = ([T::ZERO; W], [T::ZERO; W], [T::ZERO; W]);
    let mut new = *v;
    if !step.apart {
        for j in 0..W {
            new[j] = v[j] - p[j];
        }
    }
    for (i, (g, before)) in g.iter().zip(before).enumerate() {
        dw[i] += product(g, &new);
        for j in 0..W {
            of_v[j] += step.w[i] * g[j];
        }
        if d_a == 1 {
            for j in 0..W {
                of_a[j] += g[j] * before[j];
            }
        } else {
            da[i] += product(g, before);
        }
    }
    if d_a == 1 {
        da[0] += product(&of_a, &[T::ONE; W]);
    }
    if step.apart {
        // SAFETY: as above.
        let de = unsafe { into[5].part(at(d_k), d_k) };
        for (i, g) in g.iter().enumerate() {
            de[i] += -product(g, p);
            for j in 0..W {
                of_p[j] += -(step.e[i] * g[j]);
            }
        }
    } else {
        for j in 0..W {
            of_p[j] = -of_v[j];
        }
    }
    let n = W.min(d_v - from);
    dv[from..from + n].copy_from_slice(&of_v[..n]);
    for (i, (g, before)) in g.iter_mut().zip(before).enumerate() {
        dr[i] += product(before, &of_p);
        let (a, r) = (step.a[i.min(d_a - 1)], step.r[i]);
        for j in 0..W {
            g[j] = a * g[j] + r * of_p[j];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::{assert_twins, noise};
    use tch::Device;

    /// The recurrence as it stands.
    fn looped(inputs: &Inputs) -> Tensor {
        let [batch, length, heads, d_k] = inputs.q.size4().expect("four axes").into();
        let mut state = Tensor::zeros([batch, heads, d_k, inputs.v.size()[3]], (inputs.q.kind(), Device::Cpu));
        let e = inputs.e.as_ref().unwrap_or(&inputs.w);
        let mut outputs = Vec::new();
        for s in 0..inputs.v.size()[1] {
            let [w, r, v, a, e] = [&inputs.w, &inputs.r, &inputs.v, &inputs.a, e].map(|t| t.select(1, s).unsqueeze(-1));
            let found = (&state * r).sum_dim_intlist([2].as_slice(), false, Kind::Double).unsqueeze(-2);
            state = &state * a - e * found + w * v.transpose(-2, -1);
            if (s + 1) % inputs.per_token() == 0 {
                let q = inputs.q.select(1, s / inputs.per_token()).unsqueeze(-1);
                outputs.push((q * &state).sum_dim_intlist([2].as_slice(), false, Kind::Double));
            }
        }
        assert_eq!(outputs.len() as i64, length);
        Tensor::stack(&outputs, 1)
    }

    fn leaf(shape: [i64; 4], salt: i64, scale: f64) -> Tensor {
        (noise(&shape, salt) * scale).set_requires_grad(true)
    }

    /// Decays in 0 .. 1, some of them near either end; keys so short that the state stays small.
    fn inputs([length, per_token, d_k, d_v, d_a]: [i64; 5], apart: bool) -> Inputs {
        let steps = length * per_token;
        let of = |width: i64, salt, scale| leaf([2, steps, 3, width], salt, scale);
        Inputs {
            q: leaf([2, length, 3, d_k], 1, 1.0),
            w: of(d_k, 2, 0.6),
            r: of(d_k, 3, 0.6),
            v: of(d_v, 4, 1.0),
            a: (noise(&[2, steps, 3, d_a], 5) * 8.0 + 2.0).sigmoid().set_requires_grad(true),
            e: apart.then(|| of(d_k, 6, 0.6)),
        }
    }

    #[test]
    fn the_kernel_and_the_chunks_are_the_recurrence_in_values_and_gradients() {
        let cases: [[i64; 5]; 7] = [
            [1, 1, 3, 2, 3],
            [2, 3, 1, 1, 1],
            [16, 1, 4, 16, 4],
            [17, 2, 4, 5, 1],
            [33, 1, 2, 35, 2],
            [70, 1, 5, 8, 5],
            [40, 1, 6, 9, 1],
        ];
        for (sizes, apart) in cases.iter().flat_map(|sizes| [false, true].map(|apart| (*sizes, apart))) {
            let inputs = inputs(sizes, apart);
            let case = format!("[length, per token, d_k, d_v, d_a] {sizes:?}, apart {apart}");
            let leaves = inputs.list();
            assert_twins(&scan(&inputs), &looped(&inputs), &leaves, 1e-11, &format!("kernel, {case}"));
            assert_twins(&in_chunks(&inputs), &looped(&inputs), &leaves, 1e-11, &format!("chunks, {case}"));
        }
    }

    #[test]
    fn the_matrix_applied_to_v_and_the_steps_are_the_scan() {
        for (d_a, apart) in [(4, true), (1, false)] {
            let whole = inputs([21, 1, 4, 3, d_a], apart);
            let o = scan(&whole);
            let product = whole.matrix().expect("one step a token").matmul(&whole.v.transpose(1, 2)).transpose(1, 2);
            assert!(product.allclose(&o, 1e-12, 1e-12, false), "{d_a} decays");
        }
        let whole = inputs([9, 2, 4, 3, 1], false);
        assert!(whole.matrix().is_err());
        let o = scan(&whole);
        let mut state = Tensor::zeros([2, 3, 4, 3], (Kind::Double, Device::Cpu));
        for t in 0..9 {
            let part = |of: &Tensor, n: i64| of.narrow(1, t * n, n);
            let [w, r, v, a] = [&whole.w, &whole.r, &whole.v, &whole.a].map(|of| part(of, 2));
            let (y, next) = Inputs { q: part(&whole.q, 1), w, r, v, a, e: None }.step(&state);
            state = next;
            assert!(y.allclose(&o.narrow(1, t, 1), 1e-12, 1e-12, false), "token {t}");
        }
    }

    /// One key written twice: the second value replaces the first. With β = 2 and no value the state is reflected.
    #[test]
    fn the_delta_rule_replaces_and_reflects() {
        let double = (Kind::Double, Device::Cpu);
        let key = Tensor::from_slice(&[0.6, 0.8]).view([1, 1, 1, 2]).expand([1, 2, 1, 2], false);
        let v = Tensor::from_slice(&[1.0, 2.0, -3.0, 5.0]).view([1, 2, 1, 2]);
        let of = |v: &Tensor, beta: f64| {
            let [beta, one] = [beta, 1.0].map(|x| Tensor::full([1, 2, 1, 1], x, double));
            scan(&Inputs::delta(key.shallow_clone(), &key, v.shallow_clone(), &beta, one))
        };
        assert!(of(&v, 1.0).allclose(&v, 1e-12, 1e-12, false));
        let once = Tensor::cat(&[v.narrow(1, 0, 1) / 2.0, v.narrow(1, 0, 1) * 0.0], 1);
        let flipped = Tensor::cat(&[v.narrow(1, 0, 1), -v.narrow(1, 0, 1)], 1);
        assert!(of(&once, 2.0).allclose(&flipped, 1e-12, 1e-12, false));
    }

    /// A decay of 0 forgets everything, in both precisions and without a strange gradient.
    #[test]
    fn a_decay_of_nothing_forgets_everything() {
        for kind in [Kind::Float, Kind::Double] {
            let [q, k, v] = [1, 2, 3].map(|salt| noise(&[2, 40, 3, 4], salt).to_kind(kind).set_requires_grad(true));
            let beta = Tensor::full([2, 40, 3, 1], 0.5, (kind, Device::Cpu));
            let a = Tensor::zeros([2, 40, 3, 4], (kind, Device::Cpu)).set_requires_grad(true);
            let o = scan(&Inputs::delta(q.shallow_clone(), &k, v.shallow_clone(), &beta, a.shallow_clone()));
            let want = (&q * &k).sum_dim_intlist([3].as_slice(), true, kind) * 0.5 * &v;
            assert!(o.allclose(&want, 1e-5, 1e-5, false), "{kind:?}");
            for gradient in Tensor::run_backward(&[o.square().sum(kind)], &[&q, &k, &v, &a], false, false) {
                assert_eq!(gradient.isfinite().all().int64_value(&[]), 1, "{kind:?}");
            }
        }
    }
}
