//! Linear attention with a decay a channel: the recurrence that gated linear attention, retention, HGRN2, RWKV-6 and mLSTM share.
//!
//! ```text
//! S_t = diag(a_t) S_{t-1} + k_t v_tᵀ                              one state [d_k, d_v] per head
//! o_t = S_tᵀ q_t           [`Read::After`]        M[t,s] = Σ_c q_t[c] k_s[c] Π_{s<r≤t} a_r[c]     for s ≤ t
//! o_t = S_{t-1}ᵀ q_t       [`Read::Before`]       M[t,s] = Σ_c q_t[c] k_s[c] Π_{s<r<t} a_r[c]     for s < t
//! ```
//! q and k are `[batch, length, heads, d_k]`, v is `[batch, length, heads, d_v]`, a is `[batch, length, heads, d_k]`, or
//! `[batch, length, heads, 1]` where a head decays as one. What comes out has the shape of v.
//!
//! After    Yang et al. 2023, arXiv:2312.06635, eq. 3 (the recurrence), §4.3 (chunks, blocks with exact pairs)
//! Time     O(length · heads · d_k · d_v) on a CPU, one position after another: a state is a few kilobytes, which stay in the first
//!          cache, and no form does less arithmetic. Elsewhere chunks of 16 with exact pairs (of 64 where a head decays
//!          as one), all at once, and the states between them by pairs
//! Memory   nothing but the inputs is kept for the backward; while it runs, O(√length · d_k · d_v) a thread for states computed again
//!
//! The decays come as they are and not as logarithms, 0 included, and nothing is divided by them: no value and no gradient overflows.
//!
//! The backward, with G the gradient of S_t from everything that reads it:
//!
//! ```text
//! dq_t = S do_t,   dk_t = G v_t,   dv_t = Gᵀ k_t,   da_t[c] = Σ_d G[c,d] S_{t-1}[c,d],   then G ← diag(a_t) G
//! ```
//! where `G += q_t do_tᵀ` comes before the rest (After) or after it (Before). States are stored every √length positions and computed
//! again in between.

use crate::NotLinear;
use crate::math::diagonal_scan::by_pairs;
use crate::math::heads::Scan;
use crate::math::real::{Real, by_kind};
use crate::native::kernels::native_for;
use crate::native::{Backward, Shared, attach, elements, elements_mut, parallel_for, worked};
use multiversion::multiversion;
use tch::{Kind, Tensor};

/// Which state an output reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// S_t: the position itself is written first.
    After,
    /// S_{t-1}: neither the position itself nor its decay is in it.
    Before,
}

/// q, k, v and a, read after they are written.
impl Scan for [Tensor; 4] {
    fn outputs(&self) -> Tensor {
        let [q, k, v, a] = self;
        scan(q, k, v, a, Read::After)
    }

    fn advance(&self, state: &Tensor) -> (Tensor, Tensor) {
        step(state, self, Read::After)
    }

    fn values(&self) -> &Tensor {
        &self[2]
    }

    fn matrix(&self) -> Result<Tensor, NotLinear> {
        let [q, k, _, a] = self;
        Ok(matrix(q, k, a, Read::After))
    }
}

/// The outputs, shaped as `v`; shapes as in the head of this file.
///
/// # Panics
/// If shapes do not fit each other.
pub fn scan(q: &Tensor, k: &Tensor, v: &Tensor, a: &Tensor, read: Read) -> Tensor {
    struct Op(Read);

    impl Backward for Op {
        fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
            let ([q, k, v, a], Some(grad)) = (saved, &grads[0]) else { return vec![None, None, None, None] };
            by_kind!(q.kind(), backward([q, k, v, a], grad, self.0)).map(Some).into()
        }
    }

    if !native_for(q) {
        return in_chunks(q, k, v, a, read);
    }
    let o = tch::no_grad(|| by_kind!(q.kind(), forward([q, k, v, a], read)));
    attach(Op(read), &[q, k, v, a], &[&o], &[q, k, v, a]);
    o
}

/// One position, everything `[batch, 1, heads, …]` and the state `[batch, heads, d_k, d_v]`: the output, and the state after it.
pub fn step(state: &Tensor, [q, k, v, a]: &[Tensor; 4], read: Read) -> (Tensor, Tensor) {
    let [q, k, v, a] = [q, k, v, a].map(|t| t.squeeze_dim(1));
    let next = state * a.unsqueeze(-1) + k.unsqueeze(-1) * v.unsqueeze(-2);
    let reads = if read == Read::After { &next } else { state };
    let o = q.unsqueeze(-2).matmul(reads).squeeze_dim(-2);
    (o.unsqueeze(1), next)
}

/// M, `[batch, heads, length, length]`, written as the formula stands. For tests and figures.
pub fn matrix(q: &Tensor, k: &Tensor, a: &Tensor, read: Read) -> Tensor {
    let (length, d_k) = (q.size()[1], q.size()[3]);
    let logs = logarithm(a).expand(q.size(), false);
    let sums = logs.cumsum(1, logs.kind());
    let until = if read == Read::After { sums.shallow_clone() } else { &sums - &logs };
    let of = |t: &Tensor, c: i64| t.select(3, c).transpose(1, 2); // [batch, heads, length]
    let zero = Tensor::zeros([1, 1, length, length], (q.kind(), q.device()));
    let m = (0..d_k).fold(zero, |m, c| {
        let on_the_way = (of(&until, c).unsqueeze(-1) - of(&sums, c).unsqueeze(-2)).clamp_max(0.0).exp();
        m + of(q, c).unsqueeze(-1) * of(k, c).unsqueeze(-2) * on_the_way
    });
    m.tril(if read == Read::After { 0 } else { -1 })
}

/// ln a; what is smaller than float32's smallest normal number counts as that.
pub(crate) fn logarithm(a: &Tensor) -> Tensor {
    a.clamp_min(f64::from(f32::MIN_POSITIVE)).log()
}

/// The scan from libtorch's operations, on any device: chunks at once, and the states between them by pairs.
fn in_chunks(q: &Tensor, k: &Tensor, v: &Tensor, a: &Tensor, read: Read) -> Tensor {
    let (length, alike) = (q.size()[1], a.size()[3] == 1);
    let chunk = if alike { 64 } else { 16 }.min(length);
    let count = (length + chunk - 1) / chunk;
    // [batch, heads, chunks, chunk, ·]; positions past the end hold zeros.
    let cut =
        |t: &Tensor| t.transpose(1, 2).constant_pad_nd([0, 0, 0, count * chunk - length]).unflatten(2, [count, chunk]);
    let (q, k, v, logs) = (cut(q), cut(k), cut(v), cut(&logarithm(a)));
    let sums = logs.cumsum(3, logs.kind());
    let until = if read == Read::After { sums.shallow_clone() } else { &sums - &logs };
    let unread = Tensor::ones([chunk, chunk], (Kind::Bool, q.device())).triu(i64::from(read == Read::After));
    // What is not read is masked before the exponential: its exponent may be positive.
    let on_the_way = until.unsqueeze(4) - sums.unsqueeze(3);
    let on_the_way = on_the_way.masked_fill(&unread.unsqueeze(-1), f64::NEG_INFINITY).exp();
    let m = if alike {
        q.matmul(&k.transpose(-2, -1)) * on_the_way.squeeze_dim(-1)
    } else {
        (q.unsqueeze(4) * k.unsqueeze(3) * on_the_way).sum_dim_intlist([-1].as_slice(), false, q.kind())
    };
    let near = m.matmul(&v);
    let o = if count == 1 {
        near
    } else {
        let total = sums.narrow(3, chunk - 1, 1);
        let added = (&k * (&total - &sums).exp()).transpose(-2, -1).matmul(&v);
        let kept = total.exp().transpose(-2, -1); // [batch, heads, chunks, d_k or 1, 1]
        let after = by_pairs(&kept.transpose(1, 2), &added.transpose(1, 2)).transpose(1, 2);
        let first = added.narrow(2, 0, 1).zeros_like();
        near + (q * until.exp()).matmul(&Tensor::cat(&[first, after.narrow(2, 0, count - 1)], 2))
    };
    o.flatten(2, 3).narrow(2, 0, length).transpose(1, 2)
}

#[derive(Clone, Copy)]
struct Sizes {
    length: usize,
    heads: usize,
    /// Sequences and heads together.
    rows: usize,
    d_k: usize,
    d_v: usize,
    /// `d_k`, or 1.
    d_a: usize,
    read: Read,
}

impl Sizes {
    fn of([q, k, v, a]: [&Tensor; 4], read: Read) -> Self {
        let size = |t: &Tensor| <[usize; 4]>::try_from(t.size().iter().map(|&n| n as usize).collect::<Vec<_>>());
        let sizes =
            [q, k, v, a].map(|t| size(t).unwrap_or_else(|_| panic!("decay_scan: four axes, not {:?}", t.size())));
        let [[batch, length, heads, d_k], of_k, of_v, of_a] = sizes;
        let (d_v, d_a) = (of_v[3], of_a[3]);
        let fits = of_k == sizes[0] && [of_v, of_a].iter().all(|of| of[..3] == [batch, length, heads]);
        assert!(fits && (d_a == d_k || d_a == 1), "decay_scan: shapes {sizes:?}");
        Self { length, heads, rows: batch * heads, d_k, d_v, d_a, read }
    }

    fn state(&self) -> usize {
        self.d_k * self.d_v
    }

    /// Where position `t` of a row lies in a tensor of `width` channels a head.
    #[inline(always)]
    fn at(&self, row: usize, t: usize, width: usize) -> usize {
        ((row / self.heads * self.length + t) * self.heads + row % self.heads) * width
    }

    /// A multiply-add a state entry for each product.
    fn work(&self, products: usize) {
        worked(2.0 * (products * self.rows * self.length * self.state()) as f64);
    }
}

/// What one row of the batch and one head read.
#[derive(Clone, Copy)]
struct Row<'a, T> {
    tensors: [&'a [T]; 4],
    sizes: Sizes,
    row: usize,
}

impl<'a, T: Real> Row<'a, T> {
    /// q, k, v and a at a position.
    #[inline(always)]
    fn at(&self, t: usize) -> [&'a [T]; 4] {
        let Sizes { d_k, d_v, d_a, .. } = self.sizes;
        let part = |of: &'a [T], width: usize| &of[self.sizes.at(self.row, t, width)..][..width];
        let [q, k, v, a] = self.tensors;
        [part(q, d_k), part(k, d_k), part(v, d_v), part(a, d_a)]
    }
}

fn forward<T: Real>(inputs: [&Tensor; 4], read: Read) -> Tensor {
    let sizes = Sizes::of(inputs, read);
    let packed = inputs.map(|t| t.detach().contiguous());
    let tensors = packed.each_ref().map(|t| elements::<T>(t));
    let mut o = Tensor::zeros_like(&packed[2]);
    let out = Shared::new(elements_mut::<T>(&mut o));
    parallel_for(sizes.rows, 1, |rows| rows.for_each(|row| forward_row(Row { tensors, sizes, row }, &out)));
    sizes.work(2);
    o
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn forward_row<T: Real>(row: Row<'_, T>, out: &Shared<T>) {
    let sizes = row.sizes;
    let mut state = vec![T::ZERO; sizes.state()];
    for t in 0..sizes.length {
        let [q, k, v, a] = row.at(t);
        // SAFETY: rows and positions do not overlap, and the tensor is alive and read by nobody else.
        let o = unsafe { out.part(sizes.at(row.row, t, sizes.d_v), sizes.d_v) };
        for (i, s) in state.chunks_exact_mut(sizes.d_v).enumerate() {
            let (q, k, a) = (q[i], k[i], a[i.min(sizes.d_a - 1)]);
            let (v, o) = (&v[..s.len()], &mut o[..s.len()]);
            if sizes.read == Read::After {
                for j in 0..s.len() {
                    s[j] = a * s[j] + k * v[j];
                    o[j] += q * s[j];
                }
            } else {
                for j in 0..s.len() {
                    o[j] += q * s[j];
                    s[j] = a * s[j] + k * v[j];
                }
            }
        }
    }
}

fn backward<T: Real>(inputs: [&Tensor; 4], grad: &Tensor, read: Read) -> [Tensor; 4] {
    let sizes = Sizes::of(inputs, read);
    let packed = inputs.map(|t| t.detach().contiguous());
    let tensors = packed.each_ref().map(|t| elements::<T>(t));
    let grad = grad.contiguous();
    let grad = elements::<T>(&grad);
    let mut found = packed.each_ref().map(Tensor::zeros_like);
    let into = found.each_mut().map(|t| Shared::new(elements_mut::<T>(t)));
    parallel_for(sizes.rows, 1, |rows| {
        rows.for_each(|row| backward_row(Row { tensors, sizes, row }, grad, &into));
    });
    sizes.work(7);
    found
}

/// `next = diag(a) s + k vᵀ`.
#[inline(always)]
fn advance<T: Real>(next: &mut [T], s: &[T], [k, v, a]: [&[T]; 3]) {
    for (i, (next, s)) in next.chunks_exact_mut(v.len()).zip(s.chunks_exact(v.len())).enumerate() {
        let (k, a) = (k[i], a[i.min(a.len() - 1)]);
        for j in 0..v.len() {
            next[j] = a * s[j] + k * v[j];
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn backward_row<T: Real>(row: Row<'_, T>, grad: &[T], into: &[Shared<T>; 4]) {
    let sizes = row.sizes;
    let size = sizes.state();
    let chunk = sizes.length.isqrt().max(8);
    // The state before each chunk.
    let mut starts = vec![T::ZERO; sizes.length.div_ceil(chunk) * size];
    let mut state = vec![T::ZERO; size];
    let mut next = state.clone();
    for t in 0..sizes.length {
        if t % chunk == 0 {
            starts[t / chunk * size..][..size].copy_from_slice(&state);
        }
        let [_, k, v, a] = row.at(t);
        advance(&mut next, &state, [k, v, a]);
        std::mem::swap(&mut next, &mut state);
    }
    // The states before and after each position of one chunk.
    let mut states = vec![T::ZERO; (chunk + 1) * size];
    let mut g = vec![T::ZERO; size];
    for (i, start) in starts.chunks_exact(size).enumerate().rev() {
        let (from, to) = (i * chunk, ((i + 1) * chunk).min(sizes.length));
        states[..size].copy_from_slice(start);
        for t in from..to {
            let (before, after) = states[(t - from) * size..].split_at_mut(size);
            let [_, k, v, a] = row.at(t);
            advance(&mut after[..size], before, [k, v, a]);
        }
        for t in (from..to).rev() {
            let around = &states[(t - from) * size..][..2 * size];
            let widths = [sizes.d_k, sizes.d_k, sizes.d_v, sizes.d_a];
            // SAFETY: rows and positions do not overlap, and the tensors are alive and read by nobody else.
            let found = [0, 1, 2, 3].map(|i| unsafe { into[i].part(sizes.at(row.row, t, widths[i]), widths[i]) });
            let grad = &grad[sizes.at(row.row, t, sizes.d_v)..][..sizes.d_v];
            back(&mut g, around, row.at(t), grad, found, sizes.read);
        }
    }
}

/// Sums are kept in this many parts.
const LANES: usize = 16;

/// One position: `around` holds the state before it and the one after.
#[inline(always)]
fn back<T: Real>(g: &mut [T], around: &[T], [q, k, v, a]: [&[T]; 4], grad: &[T], found: [&mut [T]; 4], read: Read) {
    let [dq, dk, dv, da] = found;
    let (d_v, size) = (v.len(), g.len());
    let (before, after) = around.split_at(size);
    for i in 0..q.len() {
        let of_a = i.min(a.len() - 1);
        let (at, row) = (i * d_v, (q[i], k[i], a[of_a]));
        let (g, before, after) = (&mut g[at..][..d_v], &before[at..][..d_v], &after[at..][..d_v]);
        let mut parts = [[T::ZERO; LANES]; 3];
        let whole = d_v / LANES * LANES;
        for j in (0..whole).step_by(LANES) {
            let lanes = j..j + LANES;
            entries(
                (&mut g[lanes.clone()], &mut dv[lanes.clone()]),
                [&before[lanes.clone()], &after[lanes.clone()], &v[lanes.clone()], &grad[lanes]],
                &mut parts,
                row,
                read,
            );
        }
        let rest = whole..d_v;
        entries(
            (&mut g[rest.clone()], &mut dv[rest.clone()]),
            [&before[rest.clone()], &after[rest.clone()], &v[rest.clone()], &grad[rest]],
            &mut parts,
            row,
            read,
        );
        let sum = |parts: [T; LANES]| parts.into_iter().fold(T::ZERO, |sum, part| sum + part);
        let [of_q, of_k, of_decay] = parts;
        (dq[i], dk[i]) = (sum(of_q), sum(of_k));
        da[of_a] += sum(of_decay);
    }
}

/// At most `LANES` entries of one row of the state.
#[inline(always)]
fn entries<T: Real>(
    (g, dv): (&mut [T], &mut [T]),
    [before, after, v, grad]: [&[T]; 4],
    [of_q, of_k, of_a]: &mut [[T; LANES]; 3],
    (q, k, a): (T, T, T),
    read: Read,
) {
    let n = g.len().min(LANES);
    let (dv, before, after, v, grad) = (&mut dv[..n], &before[..n], &after[..n], &v[..n], &grad[..n]);
    if read == Read::After {
        for j in 0..n {
            let here = g[j] + q * grad[j];
            of_q[j] += after[j] * grad[j];
            of_k[j] += here * v[j];
            of_a[j] += here * before[j];
            dv[j] += k * here;
            g[j] = a * here;
        }
    } else {
        for j in 0..n {
            let here = g[j];
            of_q[j] += before[j] * grad[j];
            of_k[j] += here * v[j];
            of_a[j] += here * before[j];
            dv[j] += k * here;
            g[j] = a * here + q * grad[j];
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::{assert_twins, noise};

    /// The recurrence as it stands.
    fn looped([q, k, v, a]: [&Tensor; 4], read: Read) -> Tensor {
        let [batch, length, heads, d_k] = q.size4().expect("four axes").into();
        let mut state = Tensor::zeros([batch, heads, d_k, v.size()[3]], (q.kind(), q.device()));
        let mut outputs = Vec::new();
        for t in 0..length {
            let [q, k, v, a] = [q, k, v, a].map(|x| x.select(1, t).unsqueeze(-1));
            let next = &state * a + k.matmul(&v.transpose(-2, -1));
            let reads = if read == Read::After { &next } else { &state };
            outputs.push((q * reads).sum_dim_intlist([2].as_slice(), false, Kind::Double));
            state = next;
        }
        Tensor::stack(&outputs, 1)
    }

    /// q, k, v and decays in 0 .. 1, some of them near either end.
    fn leaves(length: i64, d_k: i64, d_v: i64, d_a: i64) -> [Tensor; 4] {
        let leaf = |width: i64, salt| noise(&[2, length, 3, width], salt);
        let decays = (leaf(d_a, 4) * 8.0 + 2.0).sigmoid();
        [leaf(d_k, 1), leaf(d_k, 2), leaf(d_v, 3), decays].map(|t| t.set_requires_grad(true))
    }

    #[test]
    fn the_kernel_and_the_chunks_are_the_recurrence_in_values_and_gradients() {
        for (length, d_k, d_v, d_a) in
            [(1, 3, 2, 3), (2, 1, 1, 1), (16, 4, 16, 4), (17, 4, 5, 1), (33, 2, 35, 2), (70, 5, 8, 5)]
        {
            for read in [Read::After, Read::Before] {
                let leaves = leaves(length, d_k, d_v, d_a);
                let [q, k, v, a] = &leaves;
                for (name, fast) in [("kernel", scan(q, k, v, a, read)), ("chunks", in_chunks(q, k, v, a, read))] {
                    let case = format!("{name}, {read:?}, length {length}, {d_k} by {d_v}, {d_a} decays");
                    let slow = looped([q, k, v, a], read);
                    // A first position that reads nothing leaves the others out of the graph.
                    let read_any = if length == 1 && read == Read::Before { vec![q] } else { vec![q, k, v, a] };
                    assert_twins(&fast, &slow, &read_any, 1e-11, &case);
                }
            }
        }
    }

    #[test]
    fn the_matrix_applied_to_v_and_the_steps_are_the_scan() {
        for (d_a, read) in [(4, Read::After), (1, Read::Before), (1, Read::After), (4, Read::Before)] {
            let inputs = leaves(13, 4, 3, d_a);
            let [q, k, v, a] = &inputs;
            let o = scan(q, k, v, a, read);
            let product = matrix(q, k, a, read).matmul(&v.transpose(1, 2)).transpose(1, 2);
            assert!(product.allclose(&o, 1e-12, 1e-12, false), "{read:?}");
            let mut state = Tensor::zeros([2, 3, 4, 3], (Kind::Double, tch::Device::Cpu));
            for t in 0..13 {
                let here = inputs.each_ref().map(|x| x.narrow(1, t, 1));
                let (y, next) = step(&state, &here, read);
                state = next;
                assert!(y.allclose(&o.narrow(1, t, 1), 1e-12, 1e-12, false), "{read:?}, step {t}");
            }
        }
    }

    /// A decay of 0 forgets everything, one of 1 nothing, in both precisions and without a strange gradient.
    #[test]
    fn decays_of_nothing_and_of_everything_are_exact() {
        for kind in [Kind::Float, Kind::Double] {
            let [q, k, v, _] = leaves(40, 4, 3, 4).map(|t| t.detach().to_kind(kind).set_requires_grad(true));
            for (decay, read) in [(0.0, Read::After), (1.0, Read::After), (1.0, Read::Before)] {
                let a = Tensor::full([2, 40, 3, 4], decay, (kind, tch::Device::Cpu)).set_requires_grad(true);
                let o = scan(&q, &k, &v, &a, read);
                let products = q.transpose(1, 2).matmul(&k.transpose(1, 2).transpose(-2, -1));
                let from = if read == Read::After { 0 } else { -1 };
                let m = if decay == 0.0 { products.tril(0).triu(0) } else { products.tril(from) };
                let want = m.matmul(&v.transpose(1, 2)).transpose(1, 2);
                assert!(o.allclose(&want, 1e-4, 1e-4, false), "decay {decay}, {read:?}, {kind:?}");
                for gradient in Tensor::run_backward(&[o.square().sum(kind)], &[&q, &k, &v, &a], false, false) {
                    assert_eq!(gradient.isfinite().all().int64_value(&[]), 1, "decay {decay}, {read:?}, {kind:?}");
                }
            }
        }
    }
}
