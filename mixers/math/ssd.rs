//! State-space duality (SSD): a scalar-decay recurrence computed as matrix products over chunks of the sequence.
//!
//! ```text
//! S_t = exp(dt_t A) S_{t-1} + dt_t x_t B_tᵀ,   y_t = S_t C_t                      one state [P, N] per head
//! M[t,s] = C_t·B_s exp(Σ_{r=s+1..t} dt_r A) dt_s  for s ≤ t                       the same as Y = M X
//! ```
//! Paper    Dao & Gu 2024, arXiv:2405.21060 (Mamba-2); both ways: Hwang et al. 2024, arXiv:2407.09941 (Hydra)
//! Time     O(length · (chunk + n_state) · d_inner), all of it in batched matrix products
//! Memory   O(length · chunk · n_heads + length / chunk · n_state · d_inner)
//! Departs  the two directions of a quasiseparable matrix share one within-chunk matrix: the lower triangle reads the
//!          forward stream, the upper one the backward stream, so there is one product with X and nothing is flipped
//!
//! Every exponent is a masked sum of `dt A ≤ 0` along the way from s to t, so neither values nor gradients overflow,
//! however strong the decay. The factor `dt_s` rides in the exponent as `ln dt_s`; a `dt` of 0 stands for "this position
//! is padding": it leaves the state alone, and no gradient flows to its `dt`.

use tch::{Kind, Tensor};

/// What one direction of a scan reads besides `x` and `A`, in natural time order.
#[derive(Debug)]
pub struct Stream {
    /// Step sizes, not negative: `[batch, length, heads]`.
    pub dt: Tensor,
    /// Input map: `[batch, length, groups, n_state]`; head h reads group `h / (heads / groups)`.
    pub b: Tensor,
    /// Output map, shaped as `b`.
    pub c: Tensor,
}

impl Stream {
    /// The same stream with time running the other way.
    pub fn flip(&self) -> Self {
        let [dt, b, c] = [&self.dt, &self.b, &self.c].map(|t| t.flip([1]));
        Self { dt, b, c }
    }
}

/// Which positions an output reads.
#[derive(Clone, Copy, PartialEq)]
enum Reads {
    /// s ≤ t.
    PastAndSelf,
    /// s < t, through `C_{t-1}`.
    Past,
    /// s > t, through `C_{t+1}`.
    Future,
}

/// One way: `x` `[batch, length, heads, d_head]`, `a` `[heads]` (negative), `initial` `[heads, d_head, n_state]` →
/// y shaped as `x`. The result does not depend on `chunk`.
pub fn scan(x: &Tensor, a: &Tensor, stream: &Stream, chunk: i64, initial: Option<&Tensor>) -> Tensor {
    let plan = Chunks::of(x, stream, chunk);
    let x_in_chunks = plan.split(x);
    let side = Side::new(&plan, stream, a, Reads::PastAndSelf);
    let future = Tensor::ones([plan.size, plan.size], (Kind::Bool, x.device())).triu(1);
    let exponent = side.exponent().masked_fill(&future, f64::NEG_INFINITY);
    let y = plan.within(&side.products(), &exponent, &x_in_chunks);
    plan.join(&match side.between(&plan, &x_in_chunks, initial) {
        Some(carried) => y + carried,
        None => y,
    })
}

/// Both ways, without the diagonal: with shift moving right one step and 0 first,
/// `shift(scan(x, forward)) + flip(shift(flip(scan(x, backward))))`, that is
///
/// ```text
/// M[t,s] = Cf_{t-1}·Bf_s exp(A Σ_{s<r<t} dtf_r) dtf_s  for s < t,   mirrored with Cb_{t+1}, Bb_s, dtb for s > t
/// ```
/// Shapes as in [`scan`]; both directions start from `initial`.
pub fn quasiseparable(
    x: &Tensor,
    a: &Tensor,
    [forward, backward]: [&Stream; 2],
    chunk: i64,
    initial: Option<&Tensor>,
) -> Tensor {
    let plan = Chunks::of(x, forward, chunk);
    let x_in_chunks = plan.split(x);
    let past = Side::new(&plan, forward, a, Reads::Past);
    let future = Side::new(&plan, backward, a, Reads::Future);
    let square = Tensor::ones([plan.size, plan.size], (Kind::Bool, x.device()));
    let (below, diagonal) = (square.tril(-1), square.tril(0).triu(0));
    let exponent = past.exponent().where_self(&below, &future.exponent());
    let products = past.products().where_self(&below, &future.products());
    let mut y = plan.within(&products, &exponent.masked_fill(&diagonal, f64::NEG_INFINITY), &x_in_chunks);
    for side in [&past, &future] {
        if let Some(carried) = side.between(&plan, &x_in_chunks, initial) {
            y += carried;
        }
    }
    plan.join(&y)
}

/// The matrix of [`quasiseparable`], `[batch, heads, length, length]`, written as the formula stands. For tests and figures.
pub fn quasiseparable_matrix(a: &Tensor, [forward, backward]: [&Stream; 2]) -> Tensor {
    let n = forward.dt.size()[1];
    let one_way = |s: &Stream| {
        let heads_per_group = s.dt.size()[2] / s.b.size()[2];
        let per_head = |t: &Tensor| t.repeat_interleave_self_int(heads_per_group, 2, None::<i64>).transpose(1, 2);
        let (b, c, dt) = (per_head(&s.b), per_head(&s.c), s.dt.transpose(1, 2));
        let reader = c.narrow(2, 0, n - 1).constant_pad_nd([0, 0, 1, 0]); // C_{t-1}
        let sum = (&dt * a.unsqueeze(-1)).cumsum(-1, dt.kind());
        let before = sum.narrow(-1, 0, n - 1).constant_pad_nd([1, 0]);
        let on_the_way = (before.unsqueeze(-1) - sum.unsqueeze(-2)).clamp_max(0.0);
        (reader.matmul(&b.transpose(2, 3)) * on_the_way.exp() * dt.unsqueeze(-2)).tril(-1)
    };
    one_way(forward) + one_way(&backward.flip()).flip([2, 3])
}

/// How a sequence is cut. In chunks, `x` is `[batch, chunks, size, heads, d_head]`.
struct Chunks {
    batch: i64,
    length: i64,
    size: i64,
    count: i64,
    heads: i64,
    groups: i64,
    d_head: i64,
    n_state: i64,
}

impl Chunks {
    fn of(x: &Tensor, stream: &Stream, chunk: i64) -> Self {
        let &[batch, length, heads, d_head] = x.size().as_slice() else {
            panic!("ssd: x must be [batch, length, heads, d_head], not {:?}", x.size())
        };
        let &[_, _, groups, n_state] = stream.b.size().as_slice() else {
            panic!("ssd: b must be [batch, length, groups, n_state], not {:?}", stream.b.size())
        };
        assert!(chunk > 0 && heads % groups == 0, "ssd: chunk {chunk}, {groups} groups of {heads} heads");
        let size = chunk.min(length);
        Self { batch, length, size, count: (length + size - 1) / size, heads, groups, d_head, n_state }
    }

    /// `[batch, length, …]` → `[batch, chunks, size, …]`, zeros after the end: exact, since they carry `dt = 0`.
    fn split(&self, t: &Tensor) -> Tensor {
        let missing = self.count * self.size - self.length;
        let mut pad = vec![0; 2 * (t.dim() - 1)];
        *pad.last_mut().expect("t has a length axis") = missing;
        let padded = if missing > 0 { t.constant_pad_nd(pad) } else { t.shallow_clone() };
        let mut shape = padded.size();
        shape.splice(1..2, [self.count, self.size]);
        padded.reshape(shape)
    }

    /// The reverse of [`Chunks::split`].
    fn join(&self, t: &Tensor) -> Tensor {
        t.flatten(1, 2).narrow(1, 0, self.length)
    }

    /// Y of one chunk from what lies in the same chunk. `products` are C·B, `[batch·chunks·groups, size, size]`;
    /// `exponent` is `[batch, chunks, heads, size, size]`.
    fn within(&self, products: &Tensor, exponent: &Tensor, x: &Tensor) -> Tensor {
        let (q, all) = (self.size, self.batch * self.count);
        let by_group = exponent.exp().view([all * self.groups, self.heads / self.groups, q, q]);
        let m = (by_group * products.unsqueeze(1)).view([all * self.heads, q, q]);
        let x = x.transpose(2, 3).reshape([all * self.heads, q, self.d_head]);
        m.bmm(&x).view([self.batch, self.count, self.heads, q, self.d_head]).transpose(2, 3)
    }
}

/// One direction in chunks. The decay on the way from s to t is `exp(out[t] - into[s])`, where `into` holds `-ln dt` as well.
struct Side {
    /// `[batch·chunks·groups, size, n_state]`, shifted where the direction is strict.
    b: Tensor,
    c: Tensor,
    decay: Decay,
}

impl Side {
    fn new(plan: &Chunks, stream: &Stream, a: &Tensor, reads: Reads) -> Self {
        let dt = plan.split(&stream.dt).transpose(2, 3); // [batch, chunks, heads, size]
        let decay = Decay::along(&(&dt * a.unsqueeze(-1)), reads);
        let into = &decay.into - dt.clamp_min(smallest(dt.kind())).log(); // a new tensor: `into` may be `out`
        let shifted = match reads {
            Reads::PastAndSelf => stream.c.shallow_clone(),
            Reads::Past => stream.c.narrow(1, 0, plan.length - 1).constant_pad_nd([0, 0, 0, 0, 1, 0]),
            Reads::Future => stream.c.narrow(1, 1, plan.length - 1).constant_pad_nd([0, 0, 0, 0, 0, 1]),
        };
        let rows = |t: &Tensor| plan.split(t).transpose(2, 3).reshape([-1, plan.size, plan.n_state]);
        Self { b: rows(&stream.b), c: rows(&shifted), decay: Decay { into, ..decay } }
    }

    /// C_t·B_s of every chunk and group.
    fn products(&self) -> Tensor {
        self.c.bmm(&self.b.transpose(1, 2))
    }

    /// `[batch, chunks, heads, size (t), size (s)]`; only the half this direction reads means anything.
    fn exponent(&self) -> Tensor {
        self.decay.out.unsqueeze(-1) - self.decay.into.unsqueeze(-2)
    }

    /// Y from the states that enter each chunk, `[batch, chunks, size, heads, d_head]`; `None` where there is no state.
    fn between(&self, plan: &Chunks, x: &Tensor, initial: Option<&Tensor>) -> Option<Tensor> {
        if plan.count == 1 && initial.is_none() {
            return None;
        }
        let Chunks { batch, count, groups, d_head, n_state, size, .. } = *plan;
        let per_group = plan.heads / groups;
        // [batch, chunks, heads, size] → one factor per position and head, in the layout of x.
        let factor = |exponent: Tensor| exponent.exp().transpose(2, 3).unsqueeze(-1);
        let rows = |t: Tensor| {
            t.view([batch, count, size, groups, -1]).transpose(2, 3).reshape([-1, size, per_group * d_head])
        };
        let heads_first = [batch, count, groups, n_state, per_group, d_head];

        let mut entering = None;
        if count > 1 {
            let states = self.b.transpose(1, 2).bmm(&rows(x * factor(&self.decay.leave - &self.decay.into)));
            // Chunk c receives what every chunk before it (in reading order) left, decayed by the chunks between.
            let states = states.view(heads_first).permute([0, 2, 4, 1, 3, 5]).reshape([-1, count, n_state * d_head]);
            let received = self.decay.chunk_to_chunk().view([-1, count, count]).bmm(&states);
            entering =
                Some(received.view([batch, groups, per_group, count, n_state, d_head]).permute([0, 3, 1, 4, 2, 5]));
        }
        if let Some(initial) = initial {
            let start = initial.view([groups, per_group, d_head, n_state]).permute([0, 3, 1, 2]);
            let decayed = self.decay.start_to_chunk().view([batch, count, groups, 1, per_group, 1]) * start;
            entering = Some(match entering {
                Some(states) => states + decayed,
                None => decayed,
            });
        }
        let entering = entering?.reshape([-1, n_state, per_group * d_head]);
        let y = self.c.bmm(&entering).view([batch, count, groups, size, per_group * d_head]).transpose(2, 3);
        let y = y.reshape([batch, count, size, plan.heads, d_head]);
        Some(y * factor(&self.decay.out + &self.decay.enter))
    }
}

/// Sums of the log decay along the last axis: from s to t it is `out[t] - into[s]`, from s to the edge where the reader
/// leaves `leave - into[s]`, from the edge where it enters to t `out[t] + enter`.
struct Decay {
    out: Tensor,
    into: Tensor,
    enter: Tensor,
    leave: Tensor,
    /// Log decay of whole chunks, `[batch, chunks, heads]`.
    total: Tensor,
    reads: Reads,
}

impl Decay {
    fn along(log_decay: &Tensor, reads: Reads) -> Self {
        let n = log_decay.size().last().copied().expect("a last axis");
        let inclusive = log_decay.cumsum(-1, log_decay.kind());
        // Shifted rather than subtracted, so that neighbours cancel exactly.
        let exclusive = || inclusive.narrow(-1, 0, n - 1).constant_pad_nd([1, 0]);
        let total = inclusive.narrow(-1, n - 1, 1);
        let none = total.zeros_like();
        let (out, into) = match reads {
            Reads::PastAndSelf => (inclusive.shallow_clone(), inclusive.shallow_clone()),
            Reads::Past => (exclusive(), inclusive.shallow_clone()),
            Reads::Future => (-&inclusive, -exclusive()),
        };
        let (enter, leave) = match reads {
            Reads::Future => (total.shallow_clone(), none),
            _ => (none, total.shallow_clone()),
        };
        Self { out, into, enter, leave, total: total.squeeze_dim(-1), reads }
    }

    /// The same sums over whole chunks, in float64: a long sequence adds up many of them, `[batch, heads, chunks]`.
    fn over_chunks(&self) -> Decay {
        let strict = if self.reads == Reads::Future { Reads::Future } else { Reads::Past };
        Decay::along(&self.total.transpose(1, 2).to_kind(Kind::Double), strict)
    }

    /// Decay of the state that chunk c' leaves until it enters chunk c: `[batch, heads, chunks (c), chunks (c')]`, zero
    /// where c does not read c'.
    fn chunk_to_chunk(&self) -> Tensor {
        let whole = self.over_chunks();
        let exponent = whole.out.unsqueeze(-1) - whole.into.unsqueeze(-2);
        let all = exponent.ones_like().to_kind(Kind::Bool);
        let unread = if self.reads == Reads::Future { all.tril(0) } else { all.triu(0) };
        exponent.masked_fill(&unread, f64::NEG_INFINITY).exp().to_kind(self.total.kind())
    }

    /// Decay of the initial state until it enters each chunk: `[batch, chunks, heads]`.
    fn start_to_chunk(&self) -> Tensor {
        let whole = self.over_chunks();
        (whole.out + whole.enter).exp().transpose(1, 2).contiguous().to_kind(self.total.kind())
    }
}

/// A step below this one adds nothing at the precision of `kind`.
fn smallest(kind: Kind) -> f64 {
    if kind == Kind::Double { f64::MIN_POSITIVE } else { f32::MIN_POSITIVE.into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::noise;

    /// The recurrence of the head of this file, one step at a time.
    fn recurrence(x: &Tensor, a: &Tensor, s: &Stream, initial: Option<&Tensor>) -> Tensor {
        let (heads, groups) = (x.size()[2], s.b.size()[2]);
        let zero = Tensor::zeros([x.size()[0], heads, x.size()[3], s.b.size()[3]], (x.kind(), x.device()));
        let mut state = initial.map_or(zero.shallow_clone(), |i| i + &zero);
        let mut y = Vec::new();
        for t in 0..x.size()[1] {
            let per_head = |m: &Tensor| m.select(1, t).repeat_interleave_self_int(heads / groups, 1, None::<i64>);
            let dt = s.dt.select(1, t); // [batch, heads]
            let fed = (x.select(1, t) * dt.unsqueeze(-1)).unsqueeze(-1) * per_head(&s.b).unsqueeze(-2);
            state = state * (dt * a).exp().unsqueeze(-1).unsqueeze(-1) + fed;
            y.push(state.matmul(&per_head(&s.c).unsqueeze(-1)).squeeze_dim(-1));
        }
        Tensor::stack(&y, 1)
    }

    /// Hydra's definition: two shifted scans, the second on the flipped sequence.
    fn two_shifted_scans(x: &Tensor, a: &Tensor, streams: [&Stream; 2], initial: Option<&Tensor>) -> Tensor {
        let shift = |y: Tensor| y.narrow(1, 0, y.size()[1] - 1).constant_pad_nd([0, 0, 0, 0, 1, 0]);
        let backward = shift(recurrence(&x.flip([1]), a, &streams[1].flip(), initial)).flip([1]);
        shift(recurrence(x, a, streams[0], initial)) + backward
    }

    /// Leaves x, a, initial and two streams, in that order.
    fn leaves(length: i64, heads: i64, groups: i64, strength: f64) -> Vec<Tensor> {
        let (batch, d_head, n_state) = (2, 3, 4);
        let signed = |shape: &[i64], salt| noise(shape, salt) * 2.0;
        let positive = |shape: &[i64], salt| noise(shape, salt) / 2.0 + 0.5;
        let bc = |salt| signed(&[batch, length, groups, n_state], salt);
        let dt = |salt| positive(&[batch, length, heads], salt) * strength + 0.01;
        let all = [
            signed(&[batch, length, heads, d_head], 1),
            -positive(&[heads], 2) - 0.2,
            signed(&[heads, d_head, n_state], 3),
            dt(4),
            bc(5),
            bc(6),
            dt(7),
            bc(8),
            bc(9),
        ];
        all.into_iter().map(|t| t.set_requires_grad(true)).collect()
    }

    fn streams(leaves: &[Tensor]) -> [Stream; 2] {
        let stream = |i: usize| {
            let [dt, b, c] = [0, 1, 2].map(|k| leaves[i + k].shallow_clone());
            Stream { dt, b, c }
        };
        [stream(3), stream(6)]
    }

    /// Gradients of a fixed functional of `y`, zero where a leaf is not used.
    fn gradients(y: &Tensor, leaves: &[Tensor]) -> Vec<Tensor> {
        let weight = (Tensor::arange(y.numel() as i64, (y.kind(), y.device())) * 0.7).sin().view_as(y);
        (y * weight).sum(y.kind()).backward();
        leaves
            .iter()
            .map(|leaf| {
                let mut leaf = leaf.shallow_clone();
                let grad = if leaf.grad().defined() { leaf.grad().copy() } else { leaf.zeros_like() };
                leaf.zero_grad();
                grad
            })
            .collect()
    }

    fn assert_same(fast: &Tensor, slow: &Tensor, leaves: &[Tensor], case: &str) {
        assert!(fast.allclose(slow, 1e-10, 1e-11, false), "values, {case}");
        let pairs = gradients(fast, leaves).into_iter().zip(gradients(slow, leaves));
        for (i, (fast, slow)) in pairs.enumerate() {
            assert!(fast.allclose(&slow, 1e-9, 1e-10, false), "gradient of leaf {i}, {case}");
        }
    }

    #[test]
    fn one_way_is_the_plain_recurrence_in_values_and_gradients() {
        for (length, chunk, heads, groups) in [(1, 4, 2, 1), (7, 4, 4, 2), (8, 8, 2, 1), (12, 4, 2, 2), (13, 5, 4, 1)] {
            let leaves = leaves(length, heads, groups, 0.5);
            let [stream, _] = streams(&leaves);
            for initial in [None, Some(&leaves[2])] {
                let fast = scan(&leaves[0], &leaves[1], &stream, chunk, initial);
                let slow = recurrence(&leaves[0], &leaves[1], &stream, initial);
                assert_same(&fast, &slow, &leaves, &format!("length {length}, chunk {chunk}, {}", initial.is_some()));
            }
        }
    }

    #[test]
    fn both_ways_are_two_shifted_scans_in_values_and_gradients() {
        for (length, chunk, heads, groups) in [(1, 4, 2, 1), (2, 1, 2, 2), (7, 4, 4, 2), (8, 8, 2, 1), (13, 5, 4, 1)] {
            let leaves = leaves(length, heads, groups, 0.5);
            let [forward, backward] = streams(&leaves);
            for initial in [None, Some(&leaves[2])] {
                let fast = quasiseparable(&leaves[0], &leaves[1], [&forward, &backward], chunk, initial);
                let slow = two_shifted_scans(&leaves[0], &leaves[1], [&forward, &backward], initial);
                assert_same(&fast, &slow, &leaves, &format!("length {length}, chunk {chunk}, {}", initial.is_some()));
            }
        }
    }

    #[test]
    fn the_dense_matrix_is_what_both_ways_applies() {
        let leaves = leaves(11, 4, 2, 0.5);
        let [forward, backward] = streams(&leaves);
        let y = quasiseparable(&leaves[0], &leaves[1], [&forward, &backward], 4, None);
        let dense = quasiseparable_matrix(&leaves[1], [&forward, &backward]).matmul(&leaves[0].transpose(1, 2));
        assert!(y.transpose(1, 2).allclose(&dense, 1e-10, 1e-11, false));
    }

    #[test]
    fn the_chunk_does_not_change_the_result() {
        let leaves = leaves(24, 2, 1, 0.5);
        let streams = streams(&leaves);
        let run = |chunk| quasiseparable(&leaves[0], &leaves[1], [&streams[0], &streams[1]], chunk, None);
        for chunk in [1, 5, 8, 100] {
            assert!(run(24).allclose(&run(chunk), 1e-10, 1e-11, false), "chunk {chunk}");
        }
    }

    #[test]
    fn decay_of_500_in_a_chunk_leaves_float32_gradients_finite_and_right() {
        let double = leaves(32, 2, 1, 100.0);
        let _ = tch::no_grad(|| double[1].shallow_clone().fill_(-0.7));
        let in_a_chunk = (&double[3] * 0.7).sum(Kind::Double).double_value(&[]) / 8.0; // 2 rows, 2 heads, 2 chunks
        assert!(in_a_chunk > 450.0, "the case is too mild: {in_a_chunk}");
        // The same numbers in both precisions, so that only the arithmetic differs.
        let cast = |from: &[Tensor], kind| -> Vec<Tensor> {
            from.iter().map(|t| t.detach().to_kind(kind).set_requires_grad(true)).collect()
        };
        let single = cast(&double, Kind::Float);
        let double = cast(&single, Kind::Double);
        let run = |leaves: &[Tensor]| {
            let [forward, backward] = streams(leaves);
            quasiseparable(&leaves[0], &leaves[1], [&forward, &backward], 16, None)
                + scan(&leaves[0], &leaves[1], &forward, 16, None)
        };
        let (y, exact) = (run(&single), run(&double));
        for (i, (got, want)) in gradients(&y, &single).iter().zip(gradients(&exact, &double)).enumerate() {
            let error = crate::goldens::relative_error(got, &want);
            assert!(error < 5e-3, "leaf {i}: {error}");
        }
        assert!(crate::goldens::relative_error(&y, &exact) < 1e-4);
    }

    #[test]
    fn a_step_of_zero_is_padding() {
        let leaves = leaves(9, 2, 1, 0.5);
        let [stream, _] = streams(&leaves);
        let padding = Tensor::from_slice(&[1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0]).view([1, 9, 1]);
        let padded = Stream { dt: &stream.dt * padding, b: stream.b.shallow_clone(), c: stream.c.flip([1]) };
        let y = scan(&leaves[0], &leaves[1], &padded, 4, None);
        let slow = recurrence(&leaves[0], &leaves[1], &padded, None);
        assert!(y.allclose(&slow, 1e-10, 1e-11, false));
    }
}
