//! State-space duality (SSD): a scalar-decay recurrence computed as matrix products over chunks of the sequence.
//!
//! ```text
//! S_t = exp(dt_t A) S_{t-1} + dt_t x_t B_tᵀ,   y_t = S_t C_t                      one state [P, N] per head
//! M[t,s] = C_t·B_s exp(Σ_{r=s+1..t} dt_r A) dt_s  for s ≤ t                       the same as Y = M X
//! ```
//! Paper    Dao & Gu 2024, arXiv:2405.21060 (Mamba-2); both ways: Hwang et al. 2024, arXiv:2407.09941 (Hydra)
//! Time     O(length · (chunk + d_state) · d_inner), all of it in batched matrix products
//! Memory   nothing but the inputs is kept for the backward; while it runs, O(chunk · n_heads + d_state / chunk · d_inner) a
//!          position, for as many positions as `POSITIONS` at a time
//! Departs  the two directions of a quasiseparable matrix share one within-chunk matrix: the lower triangle reads the
//!          forward stream, the upper one the backward stream, so there is one product with X and nothing is flipped
//!
//! Every exponent is a sum of `dt A ≤ 0` along the way from s to t, and what a position does not read is dropped
//! before it is used, so neither values nor gradients overflow, however strong the decay. A `dt` of 0 stands for "this position
//! is padding": it leaves the state alone.
//!
//! The backward is written out below. With `W = dM ∘ M` (`dM = dY Xᵀ`) the gradient of the exponent from s to t is `W[t,s]`, so
//! that of the running sum of `dt A` is a row sum at t minus a column sum at s, and that of `dt A` its sum from the right.

use crate::math::diagonal_scan::by_pairs;
use crate::math::real::{Real, by_kind, dot};
use crate::native::kernels::native_for;
use crate::native::{Backward, Shared, attach, elements, elements_mut, parallel_for};
use multiversion::multiversion;
use tch::{Kind, Tensor};

/// Rows of a batch are worked on together as long as they have no more positions than this: enough for full speed, little
/// enough that what exists only for a moment stays small beside what is kept.
pub(crate) const POSITIONS: i64 = 4096;

/// What one direction of a scan reads besides `x` and `A`, in natural time order.
#[derive(Debug)]
pub struct Stream {
    /// Step sizes, not negative: `[batch, length, heads]`.
    pub dt: Tensor,
    /// Input map: `[batch, length, groups, d_state]`; head h reads group `h / (heads / groups)`.
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

    fn rows(&self, from: i64, n: i64) -> Self {
        let [dt, b, c] = [&self.dt, &self.b, &self.c].map(|t| t.narrow(0, from, n));
        Self { dt, b, c }
    }

    fn detach(&self) -> Self {
        Self { dt: self.dt.detach(), b: self.b.detach(), c: self.c.detach() }
    }
}

/// Which positions an output reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reads {
    /// s ≤ t.
    PastAndSelf,
    /// s < t, through `C_{t-1}`: the scan of the past shifted one step to the right.
    Past,
    /// s > t, through `C_{t+1}`: the mirror of `Past`.
    Future,
    /// s ≥ t: the mirror of `PastAndSelf`.
    FutureAndSelf,
}

impl Reads {
    /// The direction, and whether the position itself is left out.
    pub fn new(backward: bool, strict: bool) -> Self {
        match (backward, strict) {
            (false, false) => Self::PastAndSelf,
            (false, true) => Self::Past,
            (true, true) => Self::Future,
            (true, false) => Self::FutureAndSelf,
        }
    }

    fn backward(self) -> bool {
        matches!(self, Self::Future | Self::FutureAndSelf)
    }

    /// The same of a sequence whose time runs the other way.
    fn mirrored(self) -> Self {
        match self {
            Self::PastAndSelf => Self::FutureAndSelf,
            Self::Past => Self::Future,
            Self::Future => Self::Past,
            Self::FutureAndSelf => Self::PastAndSelf,
        }
    }

    /// Positions of a chunk of `n` that position `t` reads.
    #[inline(always)]
    fn range(self, t: usize, n: usize) -> (usize, usize) {
        match self {
            Self::PastAndSelf => (0, t + 1),
            Self::Past => (0, t),
            Self::Future => (t + 1, n),
            Self::FutureAndSelf => (t, n),
        }
    }
}

/// One way: `x` `[batch, length, heads, d_head]`, `a` `[heads]` (negative), `initial` `[heads, d_head, d_state]` →
/// y shaped as `x`. The result does not depend on `chunk`.
pub fn scan(x: &Tensor, a: &Tensor, stream: &Stream, chunk: i64, initial: Option<&Tensor>) -> Tensor {
    sum(x, a, &[(stream, Reads::PastAndSelf)], chunk, initial)
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
    sum(x, a, &[(forward, Reads::Past), (backward, Reads::Future)], chunk, initial)
}

/// The sum of scans over the same `x`, each with its own stream and reach. Shapes as in [`scan`].
pub fn sum(x: &Tensor, a: &Tensor, sides: &[(&Stream, Reads)], chunk: i64, initial: Option<&Tensor>) -> Tensor {
    struct Op(Scans);

    impl Backward for Op {
        fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
            let Some(grad) = &grads[0] else { return saved.iter().map(|_| None).collect() };
            let (x, a) = (&saved[0], &saved[1]);
            let streams: Vec<Stream> = saved[2..].chunks_exact(3).map(stream).collect();
            let initial = saved.get(2 + 3 * streams.len());
            let by_piece = pieces(x).map(|(from, n)| {
                let rows: Vec<Stream> = streams.iter().map(|s| s.rows(from, n)).collect();
                self.0.backward(&x.narrow(0, from, n), a, &rows, initial, &grad.narrow(0, from, n))
            });
            let Gradients { x, a, streams, initial } = Gradients::of_all(by_piece.collect());
            let streams = streams.into_iter().flat_map(|s| [s.dt, s.b, s.c]);
            [x, a].into_iter().chain(streams).chain(initial).map(Some).collect()
        }
    }

    fn stream(t: &[Tensor]) -> Stream {
        let [dt, b, c] = [0, 1, 2].map(|i| t[i].shallow_clone());
        Stream { dt, b, c }
    }

    if !native_for(x) {
        return sides.iter().map(|(stream, reads)| plain(x, a, stream, *reads, chunk, initial)).sum();
    }
    let scans = Scans { reads: sides.iter().map(|(_, reads)| *reads).collect(), chunk };
    let y = tch::no_grad(|| {
        let streams: Vec<Stream> = sides.iter().map(|(s, _)| s.detach()).collect();
        let (x, a, initial) = (x.detach(), a.detach(), initial.map(Tensor::detach));
        let parts: Vec<Tensor> = pieces(&x)
            .map(|(from, n)| {
                let rows: Vec<Stream> = streams.iter().map(|s| s.rows(from, n)).collect();
                scans.forward(&x.narrow(0, from, n), &a, &rows, initial.as_ref())
            })
            .collect();
        Tensor::cat(&parts, 0)
    });
    let mut inputs = vec![x, a];
    inputs.extend(sides.iter().flat_map(|(s, _)| [&s.dt, &s.b, &s.c]));
    inputs.extend(initial);
    attach(Op(scans), &inputs, &[&y], &inputs);
    y
}

/// One scan from libtorch's operations, on any device: all chunks at once, the states between them by pairs. What reads the future is
/// turned, and turned back.
fn plain(x: &Tensor, a: &Tensor, stream: &Stream, reads: Reads, chunk: i64, initial: Option<&Tensor>) -> Tensor {
    if reads.backward() {
        return plain(&x.flip([1]), a, &stream.flip(), reads.mirrored(), chunk, initial).flip([1]);
    }
    let strict = reads == Reads::Past;
    let [_, length, heads, _] = x.size4().expect("x is [batch, length, heads, d_head]").into();
    let groups = stream.b.size()[2];
    let chunk = chunk.min(length);
    let count = (length + chunk - 1) / chunk;
    // [batch, chunks, groups, heads of the group or 1, chunk, ·]; positions past the end hold zeros, with a dt of 0.
    let cut = |t: &Tensor| {
        let padded = t.unsqueeze(-1).flatten(3, -1).constant_pad_nd([0, 0, 0, 0, 0, count * chunk - length]);
        padded.unflatten(1, [count, chunk]).transpose(2, 3).unflatten(2, [groups, -1])
    };
    let c = if strict { later(&stream.c) } else { stream.c.shallow_clone() };
    let (x, dt, b, c) = (cut(x), cut(&stream.dt), cut(&stream.b), cut(&c));
    let logs = &dt * a.view([groups, heads / groups, 1, 1]);
    let sums = logs.cumsum(4, logs.kind()); // [batch, chunks, groups, heads, chunk, 1]
    let until = if strict { &sums - &logs } else { sums.shallow_clone() };
    let unread = Tensor::ones([chunk, chunk], (Kind::Bool, x.device())).triu(i64::from(!strict));
    // What is not read is masked before the exponential: its exponent may be positive.
    let on_the_way = (&until - sums.transpose(-2, -1)).masked_fill(&unread, f64::NEG_INFINITY).exp();
    let fed = x * dt;
    let near = (c.matmul(&b.transpose(-2, -1)) * on_the_way).matmul(&fed);
    let y = if count == 1 && initial.is_none() {
        near
    } else {
        let total = sums.narrow(4, chunk - 1, 1);
        let left = (&fed * (&total - &sums).exp()).transpose(-2, -1).matmul(&b); // […, d_head, d_state]
        let first = match initial {
            Some(initial) => initial.unflatten(0, [groups, -1]).expand_as(&left.narrow(1, 0, 1)),
            None => left.narrow(1, 0, 1).zeros_like(),
        };
        // The states before each chunk are the recurrence over the first one and what each chunk leaves.
        let fed = Tensor::cat(&[first, left.narrow(1, 0, count - 1)], 1);
        let kept = Tensor::cat(&[total.narrow(1, 0, 1).zeros_like(), total.narrow(1, 0, count - 1).exp()], 1);
        near + c.matmul(&by_pairs(&kept, &fed).transpose(-2, -1)) * until.exp()
    };
    y.flatten(2, 3).transpose(2, 3).flatten(1, 2).narrow(1, 0, length)
}

/// `[batch, length, …]` moved one position later, with zeros before it.
fn later(t: &Tensor) -> Tensor {
    Tensor::cat(&[t.narrow(1, 0, 1).zeros_like(), t.narrow(1, 0, t.size()[1] - 1)], 1)
}

/// Rows of `x` `[batch, length, …]` to work on at a time: the first, and how many.
pub(crate) fn pieces(x: &Tensor) -> impl Iterator<Item = (i64, i64)> + use<> {
    let (batch, length) = (x.size()[0], x.size()[1]);
    let rows = (POSITIONS / length.max(1)).clamp(1, batch.max(1));
    (0..batch.max(1)).step_by(rows as usize).map(move |from| (from, rows.min(batch - from)))
}

/// The matrix of [`quasiseparable`], `[batch, heads, length, length]`, written as the formula stands. For tests and figures.
pub fn quasiseparable_matrix(a: &Tensor, [forward, backward]: [&Stream; 2]) -> Tensor {
    matrix(a, forward, Reads::Past) + matrix(a, backward, Reads::Future)
}

/// The matrix of one scan, as [`quasiseparable_matrix`].
pub fn matrix(a: &Tensor, stream: &Stream, reads: Reads) -> Tensor {
    if reads.backward() {
        return matrix(a, &stream.flip(), reads.mirrored()).flip([2, 3]);
    }
    let n = stream.dt.size()[1];
    let heads_per_group = stream.dt.size()[2] / stream.b.size()[2];
    let per_head = |t: &Tensor| t.repeat_interleave_self_int(heads_per_group, 2, None::<i64>).transpose(1, 2);
    let (b, c, dt) = (per_head(&stream.b), per_head(&stream.c), stream.dt.transpose(1, 2));
    let sum = (&dt * a.unsqueeze(-1)).cumsum(-1, dt.kind());
    let (reader, until, diagonal) = if reads == Reads::Past {
        let shift = |t: &Tensor, pad: &[i64]| t.narrow(2, 0, n - 1).constant_pad_nd(pad);
        (shift(&c, &[0, 0, 1, 0]), shift(&sum, &[1, 0]), -1) // C_{t-1}, and the decay up to it
    } else {
        (c, sum.shallow_clone(), 0)
    };
    let on_the_way = (until.unsqueeze(-1) - sum.unsqueeze(-2)).clamp_max(0.0);
    (reader.matmul(&b.transpose(2, 3)) * on_the_way.exp() * dt.unsqueeze(-2)).tril(diagonal)
}

/// Scans over one `x` whose results are added, with values and gradients computed on plain tensors, all rows at once.
#[derive(Clone, Debug)]
pub(crate) struct Scans {
    pub(crate) reads: Vec<Reads>,
    pub(crate) chunk: i64,
}

/// Of everything a scan reads, in the shapes it has them.
pub(crate) struct Gradients {
    pub(crate) x: Tensor,
    pub(crate) a: Tensor,
    pub(crate) streams: Vec<Stream>,
    pub(crate) initial: Option<Tensor>,
}

impl Gradients {
    /// Of rows that follow each other.
    fn of_all(pieces: Vec<Self>) -> Self {
        let rows = |part: &dyn Fn(&Self) -> &Tensor| {
            let parts: Vec<&Tensor> = pieces.iter().map(part).collect();
            Tensor::cat(&parts, 0)
        };
        let stream = |i: usize| Stream {
            dt: rows(&|p| &p.streams[i].dt),
            b: rows(&|p| &p.streams[i].b),
            c: rows(&|p| &p.streams[i].c),
        };
        Self {
            x: rows(&|p| &p.x),
            streams: (0..pieces[0].streams.len()).map(stream).collect(),
            a: pieces.iter().map(|p| &p.a).sum(),
            initial: pieces[0].initial.as_ref().map(|_| pieces.iter().flat_map(|p| &p.initial).sum()),
        }
    }
}

impl Scans {
    /// y, shaped as `x`. The caller holds `tch::no_grad`.
    pub(crate) fn forward(&self, x: &Tensor, a: &Tensor, streams: &[Stream], initial: Option<&Tensor>) -> Tensor {
        let plan = Chunks::of(x, &streams[0], self.chunk);
        let x = plan.split(x);
        let sides: Vec<Side> =
            streams.iter().zip(&self.reads).map(|(s, reads)| Side::new(&plan, s, a, *reads)).collect();
        let products: Vec<Tensor> = sides.iter().map(|side| side.products(&plan)).collect();
        let mut m = plan.empty(&x, &[plan.all(), plan.heads, plan.size, plan.size]);
        by_kind!(x.kind(), fill(&mut m, &products, &sides, &plan));
        let mut y = x.empty_like();
        multiply((0..plan.heads).map(|h| [plan.head(&y, h), m.select(1, h), plan.head(&x, h)]));
        drop((m, products));
        let mut room = None;
        for side in &sides {
            if let Some(entering) = side.entering(&plan, &x, initial, &mut room) {
                let read = room.get_or_insert_with(|| x.empty_like());
                side.read_states(&plan, &entering, read);
                by_kind!(x.kind(), add_scaled(&mut y, read, &side.enter));
            }
        }
        plan.join(&y, &[plan.heads, plan.d_head])
    }

    /// Gradients from that of y. The caller holds `tch::no_grad`.
    pub(crate) fn backward(
        &self,
        x: &Tensor,
        a: &Tensor,
        streams: &[Stream],
        initial: Option<&Tensor>,
        grad: &Tensor,
    ) -> Gradients {
        let plan = Chunks::of(x, &streams[0], self.chunk);
        let (x, grad) = (plan.split(x), plan.split(grad));
        let kind = x.kind();
        let sides: Vec<Side> =
            streams.iter().zip(&self.reads).map(|(s, reads)| Side::new(&plan, s, a, *reads)).collect();

        // Within chunks.
        let products: Vec<Tensor> = sides.iter().map(|side| side.products(&plan)).collect();
        let mut slopes: Vec<Slopes> = sides.iter().map(|_| Slopes::new(&plan, &x)).collect();
        let mut dx = x.empty_like();
        {
            let mut m = plan.empty(&x, &[plan.all(), plan.heads, plan.size, plan.size]);
            multiply((0..plan.heads).map(|h| [m.select(1, h), plan.head(&grad, h), plan.head(&x, h).transpose(1, 2)]));
            by_kind!(kind, within_back(&mut m, &products, &sides, &mut slopes, &plan));
            multiply((0..plan.heads).map(|h| [plan.head(&dx, h), m.select(1, h).transpose(1, 2), plan.head(&grad, h)]));
        }
        drop(products);

        let (mut room, mut d_initial) = (None, None);
        let mut done = Vec::new();
        for (side, slopes) in sides.iter().zip(slopes) {
            let Slopes { products, mut exponents } = slopes;
            let db = plan.empty(&x, &[plan.all(), plan.size, plan.groups, plan.d_state]);
            let dc = db.empty_like();
            let groups = 0..plan.groups;
            multiply(groups.clone().flat_map(|g| {
                let (dp, b, c) = (products.select(1, g), plan.group(&side.b, g), plan.group(&side.c, g));
                [[dc.select(2, g), dp.shallow_clone(), b], [db.select(2, g), dp.transpose(1, 2), c]]
            }));
            drop(products);
            // Between chunks.
            if let Some(entering) = side.entering(&plan, &x, initial, &mut room) {
                let room: &mut Tensor = room.get_or_insert_with(|| x.empty_like());
                side.read_states(&plan, &entering, room);
                by_kind!(kind, scaled_back(room, &grad, &side.enter, &mut exponents.enter)); // room: grad · enter
                let mut grad_states = entering.empty_like();
                multiply(
                    groups.clone().map(|g| {
                        [grad_states.select(1, g), plan.group(&side.c, g).transpose(1, 2), plan.group(room, g)]
                    }),
                );
                add_product(
                    groups
                        .clone()
                        .map(|g| [dc.select(2, g), plan.group(room, g), entering.select(1, g).transpose(1, 2)]),
                );
                let start = by_kind!(kind, pass_back(&mut grad_states, &entering, side, &mut exponents.total, &plan));
                drop(entering);
                if initial.is_some() {
                    d_initial = Some(match d_initial.take() {
                        None => start,
                        Some(other) => start + other,
                    });
                }
                if plan.count > 1 {
                    by_kind!(kind, scale(room, &x, &side.leave));
                    add_product(
                        groups
                            .clone()
                            .map(|g| [db.select(2, g), plan.group(room, g), grad_states.select(1, g).transpose(1, 2)]),
                    );
                    multiply(
                        groups.clone().map(|g| [plan.group(room, g), plan.group(&side.b, g), grad_states.select(1, g)]),
                    );
                    by_kind!(kind, add_scaled_back(&mut dx, room, &x, &side.leave, &mut exponents.leave));
                }
            }
            let (d_dt, da) = by_kind!(kind, decay_back(side, &exponents, a, &plan));
            let bc = [plan.groups, plan.d_state];
            let dc = match side.reads {
                Reads::PastAndSelf | Reads::FutureAndSelf => plan.join(&dc, &bc),
                Reads::Past => plan.join(&dc, &bc).narrow(1, 1, plan.length - 1).constant_pad_nd([0, 0, 0, 0, 0, 1]),
                Reads::Future => plan.join(&dc, &bc).narrow(1, 0, plan.length - 1).constant_pad_nd([0, 0, 0, 0, 1, 0]),
            };
            done.push((Stream { dt: plan.join(&d_dt, &[plan.heads]), b: plan.join(&db, &bc), c: dc }, da));
        }
        let (streams, da): (Vec<_>, Vec<_>) = done.into_iter().unzip();
        let a = Tensor::stack(&da, 0).sum_dim_intlist([0].as_slice(), false, kind);
        if let (None, Some(initial)) = (&d_initial, initial) {
            d_initial = Some(initial.zeros_like());
        }
        Gradients { x: plan.join(&dx, &[plan.heads, plan.d_head]), a, streams, initial: d_initial }
    }
}

/// How rows are cut. In chunks, `x` is `[rows, chunks · size, heads, d_head]`, packed.
struct Chunks {
    rows: i64,
    length: i64,
    size: i64,
    count: i64,
    heads: i64,
    groups: i64,
    d_head: i64,
    d_state: i64,
}

impl Chunks {
    fn of(x: &Tensor, stream: &Stream, chunk: i64) -> Self {
        let &[rows, length, heads, d_head] = x.size().as_slice() else {
            panic!("ssd: x must be [batch, length, heads, d_head], not {:?}", x.size())
        };
        let &[_, _, groups, d_state] = stream.b.size().as_slice() else {
            panic!("ssd: b must be [batch, length, groups, d_state], not {:?}", stream.b.size())
        };
        assert!(chunk > 0 && heads % groups == 0, "ssd: chunk {chunk}, {groups} groups of {heads} heads");
        let size = chunk.min(length);
        Self { rows, length, size, count: (length + size - 1) / size, heads, groups, d_head, d_state }
    }

    /// Chunks of all rows.
    fn all(&self) -> i64 {
        self.rows * self.count
    }

    /// `[rows, length, …]` → `[rows, chunks · size, …]`, packed; zeros after the end are exact, since they carry `dt = 0`.
    fn split(&self, t: &Tensor) -> Tensor {
        let missing = self.count * self.size - self.length;
        let mut pad = vec![0; 2 * (t.dim() - 1)];
        *pad.last_mut().expect("t has a length axis") = missing;
        let padded = if missing > 0 { t.constant_pad_nd(pad) } else { t.shallow_clone() };
        padded.contiguous()
    }

    /// The reverse of [`Chunks::split`], from any shape with the same elements to `[rows, length, last …]`.
    fn join(&self, t: &Tensor, last: &[i64]) -> Tensor {
        let shape = [&[self.rows, self.count * self.size], last].concat();
        t.view(shape.as_slice()).narrow(1, 0, self.length)
    }

    fn empty(&self, like: &Tensor, shape: &[i64]) -> Tensor {
        Tensor::empty(shape, (like.kind(), like.device()))
    }

    /// The heads of group `g`: `[rows · chunks, size, channels of the group]` of a tensor that is
    /// `[rows, chunks · size, groups · …, …]`.
    fn group(&self, t: &Tensor, g: i64) -> Tensor {
        t.view([self.all(), self.size, self.groups, -1]).select(2, g)
    }

    /// `[rows · chunks, size, d_head]`.
    fn head(&self, t: &Tensor, h: i64) -> Tensor {
        t.view([self.all(), self.size, self.heads, self.d_head]).select(2, h)
    }
}

/// One direction in chunks. The decay on the way from s to t is `exp(out[t] - into[s])`.
struct Side {
    reads: Reads,
    /// `[rows, chunks · size, groups, d_state]`; `c` is shifted where the direction is strict.
    b: Tensor,
    c: Tensor,
    /// `[rows · chunks, heads, size]`.
    out: Tensor,
    into: Tensor,
    dt: Tensor,
    /// Decay from the edge where the reader enters to t: `[rows · chunks, size, heads]`.
    enter: Tensor,
    /// Decay from s to the edge where the reader leaves, times dt: as `enter`.
    leave: Tensor,
    /// Log decay of whole chunks, `[rows · chunks, heads]`, float64.
    total: Tensor,
}

impl Side {
    fn new(plan: &Chunks, stream: &Stream, a: &Tensor, reads: Reads) -> Self {
        let c = match reads {
            Reads::PastAndSelf | Reads::FutureAndSelf => stream.c.shallow_clone(),
            Reads::Past => stream.c.narrow(1, 0, plan.length - 1).constant_pad_nd([0, 0, 0, 0, 1, 0]),
            Reads::Future => stream.c.narrow(1, 1, plan.length - 1).constant_pad_nd([0, 0, 0, 0, 0, 1]),
        };
        let dt = plan.split(&stream.dt).view([plan.all(), plan.size, plan.heads]).transpose(1, 2).contiguous();
        let [out, into] = [(); 2].map(|()| dt.empty_like());
        let [enter, leave] = [(); 2].map(|()| plan.empty(&dt, &[plan.all(), plan.size, plan.heads]));
        let total = Tensor::empty([plan.all(), plan.heads], (Kind::Double, dt.device()));
        let mut side = Self { reads, b: plan.split(&stream.b), c: plan.split(&c), out, into, dt, enter, leave, total };
        by_kind!(a.kind(), decay(&mut side, a, plan));
        side
    }

    /// C_t·B_s of every chunk and group, `[rows · chunks, groups, size, size]`.
    fn products(&self, plan: &Chunks) -> Tensor {
        let p = plan.empty(&self.b, &[plan.all(), plan.groups, plan.size, plan.size]);
        multiply(
            (0..plan.groups).map(|g| [p.select(1, g), plan.group(&self.c, g), plan.group(&self.b, g).transpose(1, 2)]),
        );
        p
    }

    /// The state that enters each chunk, `[rows · chunks, groups, d_state, channels of the group]`; `None` where all are
    /// zero. `room` is scratch shaped as `x`.
    fn entering(
        &self,
        plan: &Chunks,
        x: &Tensor,
        initial: Option<&Tensor>,
        room: &mut Option<Tensor>,
    ) -> Option<Tensor> {
        if plan.count == 1 && initial.is_none() {
            return None;
        }
        let per_group = plan.heads / plan.groups;
        let mut states = plan.empty(x, &[plan.all(), plan.groups, plan.d_state, per_group * plan.d_head]);
        if plan.count > 1 {
            let fed = room.get_or_insert_with(|| x.empty_like());
            by_kind!(x.kind(), scale(fed, x, &self.leave));
            multiply(
                (0..plan.groups)
                    .map(|g| [states.select(1, g), plan.group(&self.b, g).transpose(1, 2), plan.group(fed, g)]),
            );
        } else {
            let _ = states.zero_(); // what the only chunk leaves goes nowhere
        }
        let initial = initial
            .map(|i| i.view([plan.groups, per_group, plan.d_head, plan.d_state]).permute([0, 3, 1, 2]).contiguous());
        by_kind!(x.kind(), pass(&mut states, initial.as_ref(), self, plan));
        Some(states)
    }

    /// C_t times the state that enters its chunk, into `y` shaped as `x`.
    fn read_states(&self, plan: &Chunks, entering: &Tensor, y: &Tensor) {
        multiply((0..plan.groups).map(|g| [plan.group(y, g), plan.group(&self.c, g), entering.select(1, g)]));
    }
}

/// `out = left · right` for each `[out, left, right]`, all `[rows · chunks, …, …]`.
///
/// Each thread takes some chunks and multiplies alone: MKL's own threads would meet at a barrier for every small matrix,
/// which costs more than the products.
fn multiply(products: impl IntoIterator<Item = [Tensor; 3]>) {
    in_parts(products, |[out, left, right]| {
        let _ = left.bmm_out(&out, &right);
    });
}

/// `out += left · right`, as [`multiply`].
fn add_product(products: impl IntoIterator<Item = [Tensor; 3]>) {
    in_parts(products, |[mut out, left, right]| {
        let _ = out.baddbmm_(&left, &right);
    });
}

fn in_parts(products: impl IntoIterator<Item = [Tensor; 3]>, body: impl Fn([Tensor; 3]) + Sync) {
    struct Lent(Vec<[Tensor; 3]>);
    // SAFETY: threads take views of these tensors and nothing else; a tensor's reference count is atomic, and the parts
    // that are written do not overlap.
    unsafe impl Sync for Lent {}
    impl Lent {
        fn part(&self, i: usize, from: i64, n: i64) -> [Tensor; 3] {
            self.0[i].each_ref().map(|t| t.narrow(0, from, n))
        }
    }

    let lent = Lent(products.into_iter().collect());
    let (count, all) = (lent.0.len(), lent.0.first().map_or(0, |p| p[0].size()[0]));
    parallel_for(all as usize, 1, |range| {
        tch::no_grad(|| {
            for i in 0..count {
                body(lent.part(i, range.start as i64, range.len() as i64));
            }
        });
    });
}

/// Gradients of one side within chunks.
struct Slopes {
    /// Of C·B, `[rows · chunks, groups, size, size]`.
    products: Tensor,
    exponents: Exponents,
}

/// Gradients of one side's decays.
struct Exponents {
    /// Of `out`, `[rows · chunks, heads, size]`.
    out: Tensor,
    /// Of the decay into M, without `dt`: `Σ_t dM C·B decay`, as `out`.
    into: Tensor,
    /// Of the factors `enter` and `leave`, `[rows · chunks, size, heads]`.
    enter: Tensor,
    leave: Tensor,
    /// Of `total`.
    total: Tensor,
}

impl Slopes {
    fn new(plan: &Chunks, x: &Tensor) -> Self {
        let zeros = |shape: &[i64], kind| Tensor::zeros(shape, (kind, x.device()));
        let [out, into] = [(); 2].map(|()| zeros(&[plan.all(), plan.heads, plan.size], x.kind()));
        let [enter, leave] = [(); 2].map(|()| zeros(&[plan.all(), plan.size, plan.heads], x.kind()));
        let total = zeros(&[plan.all(), plan.heads], Kind::Double);
        let products = zeros(&[plan.all(), plan.groups, plan.size, plan.size], x.kind());
        Self { products, exponents: Exponents { out, into, enter, leave, total } }
    }
}

/// Fills `out`, `into`, `enter`, `leave` and `total` of a side from its `dt`. Sums are taken in float64.
fn decay<T: Real>(side: &mut Side, a: &Tensor, plan: &Chunks) {
    let (n, heads) = (plan.size as usize, plan.heads as usize);
    let (reads, all) = (side.reads, plan.all() as usize);
    let a = a.contiguous();
    let (a, dt) = (elements::<T>(&a), elements::<T>(&side.dt));
    let [out, into] = [&mut side.out, &mut side.into].map(|t| Shared::new(elements_mut::<T>(t)));
    let [enter, leave] = [&mut side.enter, &mut side.leave].map(|t| Shared::new(elements_mut::<T>(t)));
    let total = Shared::new(elements_mut::<f64>(&mut side.total));
    parallel_for(all, 1, |chunks| {
        let mut sums = vec![0.0; n + 1]; // sums[t] lies before position t
        for chunk in chunks {
            // SAFETY: each chunk has parts of its own.
            let (enter, leave) =
                unsafe { (enter.part(chunk * n * heads, n * heads), leave.part(chunk * n * heads, n * heads)) };
            for h in 0..heads {
                let (at, a) = ((chunk * heads + h) * n, a[h].wide());
                // SAFETY: as above.
                let (out, into, total) =
                    unsafe { (out.part(at, n), into.part(at, n), total.part(chunk * heads + h, 1)) };
                let dt = &dt[at..at + n];
                for t in 0..n {
                    sums[t + 1] = sums[t] + dt[t].wide() * a;
                }
                total[0] = sums[n];
                for t in 0..n {
                    let (before, after) = (sums[t], sums[t + 1]);
                    let (o, i, e, l) = match reads {
                        Reads::PastAndSelf => (after, after, after, sums[n] - after),
                        Reads::Past => (before, after, before, sums[n] - after),
                        Reads::Future => (-after, -before, sums[n] - after, before),
                        Reads::FutureAndSelf => (-before, -before, sums[n] - before, before),
                    };
                    (out[t], into[t]) = (T::of(o), T::of(i));
                    (enter[t * heads + h], leave[t * heads + h]) = (T::of(e.exp()), T::of(l.exp()) * dt[t]);
                }
            }
        }
    });
}

/// The reverse of [`decay`]: gradients of dt, `[rows · chunks, size, heads]`, and of A.
fn decay_back<T: Real>(side: &Side, slopes: &Exponents, a: &Tensor, plan: &Chunks) -> (Tensor, Tensor) {
    let (n, heads, reads) = (plan.size as usize, plan.heads as usize, side.reads);
    let a = a.contiguous();
    let (a, dt) = (elements::<T>(&a), elements::<T>(&side.dt));
    let (out, into) = (elements::<T>(&slopes.out), elements::<T>(&slopes.into));
    let [d_enter, d_leave, enter, leave] = [&slopes.enter, &slopes.leave, &side.enter, &side.leave].map(elements::<T>);
    let (total, totals) = (elements::<f64>(&slopes.total), elements::<f64>(&side.total));
    let edges = elements::<T>(&side.into);
    let mut d_dt = side.enter.empty_like();
    let mut da = side.total.empty_like();
    let (to_dt, to_a) = (Shared::new(elements_mut::<T>(&mut d_dt)), Shared::new(elements_mut::<f64>(&mut da)));
    parallel_for(plan.all() as usize, 1, |chunks| {
        let mut sums = vec![0.0; n + 1]; // gradient of the sum before position t
        for chunk in chunks {
            // SAFETY: each chunk has parts of its own.
            let (d_dt, da) = unsafe { (to_dt.part(chunk * n * heads, n * heads), to_a.part(chunk * heads, heads)) };
            for h in 0..heads {
                let at = (chunk * heads + h) * n;
                let dt = &dt[at..at + n];
                sums.fill(0.0);
                sums[n] = total[chunk * heads + h];
                for t in 0..n {
                    let (entry, here) = ((chunk * n + t) * heads + h, dt[t].wide());
                    let entered = d_enter[entry].wide() * enter[entry].wide();
                    let left = d_leave[entry].wide() * leave[entry].wide();
                    let (o, i) = (out[at + t].wide() + entered, -into[at + t].wide() * here - left);
                    match reads {
                        Reads::PastAndSelf => sums[t + 1] += o + i,
                        Reads::Past => {
                            sums[t] += o;
                            sums[t + 1] += i;
                        }
                        Reads::Future => {
                            sums[t + 1] -= o;
                            sums[t] -= i;
                        }
                        Reads::FutureAndSelf => sums[t] -= o + i,
                    }
                    sums[n] += if reads.backward() { entered } else { left };
                }
                let mut from_the_right = 0.0;
                da[h] = 0.0;
                for t in (0..n).rev() {
                    from_the_right += sums[t + 1];
                    let entry = (chunk * n + t) * heads + h;
                    da[h] += from_the_right * dt[t].wide();
                    // Besides the exponent, dt is a factor of M and of what leaves.
                    let to_edge = match reads {
                        Reads::PastAndSelf | Reads::Past => totals[chunk * heads + h] - edges[at + t].wide(),
                        Reads::Future | Reads::FutureAndSelf => -edges[at + t].wide(),
                    };
                    let factor = into[at + t].wide() + d_leave[entry].wide() * to_edge.exp();
                    d_dt[t * heads + h] = T::of(from_the_right * a[h].wide() + factor);
                }
            }
        }
    });
    (d_dt, da.sum_dim_intlist([0].as_slice(), false, Kind::Double).to_kind(T::KIND))
}

/// One side of the within-chunk matrices, as a kernel reads it.
struct Half<'a, T> {
    reads: Reads,
    products: &'a [T],
    out: &'a [T],
    into: &'a [T],
    dt: &'a [T],
}

/// What a kernel adds to for one side of one head's square.
struct HalfSlopes<'a, T> {
    products: &'a mut [T],
    out: &'a mut [T],
    into: &'a mut [T],
}

fn halves<'a, T: Real>(sides: &'a [Side], products: &'a [Tensor]) -> Vec<Half<'a, T>> {
    let half = |(side, products): (&'a Side, &'a Tensor)| {
        let [products, out, into, dt] = [products, &side.out, &side.into, &side.dt].map(elements::<T>);
        Half { reads: side.reads, products, out, into, dt }
    };
    sides.iter().zip(products).map(half).collect()
}

/// The within-chunk part of M, `[rows · chunks, heads, size, size]`.
fn fill<T: Real>(m: &mut Tensor, products: &[Tensor], sides: &[Side], plan: &Chunks) {
    let (n, heads, per_group) = (plan.size as usize, plan.heads as usize, (plan.heads / plan.groups) as usize);
    let halves = halves::<T>(sides, products);
    let squares = Shared::new(elements_mut::<T>(m));
    parallel_for(plan.all() as usize * heads, 1, |units| {
        for head in units {
            // SAFETY: each head of each chunk has a square of its own.
            let m = unsafe { squares.part(head * n * n, n * n) };
            fill_square(m, &halves, head, head / per_group, n);
        }
    });
}

/// From `dM` in `m` to M in `m`, adding to the gradients of C·B and of the exponents.
fn within_back<T: Real>(m: &mut Tensor, products: &[Tensor], sides: &[Side], slopes: &mut [Slopes], plan: &Chunks) {
    let (n, per_group) = (plan.size as usize, (plan.heads / plan.groups) as usize);
    let halves = halves::<T>(sides, products);
    let squares = Shared::new(elements_mut::<T>(m));
    let shared: Vec<[Shared<T>; 3]> = slopes
        .iter_mut()
        .map(|s| {
            [&mut s.products, &mut s.exponents.out, &mut s.exponents.into].map(|t| Shared::new(elements_mut::<T>(t)))
        })
        .collect();
    parallel_for((plan.all() * plan.groups) as usize, 1, |groups| {
        for group in groups {
            for head in group * per_group..(group + 1) * per_group {
                // SAFETY: each group of each chunk is one thread's, and so are its heads.
                let m = unsafe { squares.part(head * n * n, n * n) };
                let slopes = shared.iter().map(|[products, out, into]| {
                    // SAFETY: as above.
                    unsafe {
                        HalfSlopes {
                            products: products.part(group * n * n, n * n),
                            out: out.part(head * n, n),
                            into: into.part(head * n, n),
                        }
                    }
                });
                let mut slopes: Vec<HalfSlopes<'_, T>> = slopes.collect();
                square_back(m, &halves, &mut slopes, head, group, n);
            }
        }
    });
}

/// Exponentials are taken of whole vectors of this many; those that are not read are not used.
const VECTOR: usize = 16;

/// `exp(out - into[s])` for `s` in `from..to`, and for some around them.
#[inline(always)]
fn decay_row<T: Real>(row: &mut [T], into: &[T], out: T, (from, to): (usize, usize)) {
    let (from, to) = (from / VECTOR * VECTOR, to.next_multiple_of(VECTOR).min(row.len()));
    let (row, into) = (&mut row[from..to], &into[from..to]);
    for i in 0..row.len() {
        row[i] = (out - into[i]).exp();
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn fill_square<T: Real>(m: &mut [T], halves: &[Half<'_, T>], head: usize, group: usize, n: usize) {
    let mut decay = vec![T::ZERO; n];
    m.fill(T::ZERO);
    for half in halves {
        let (out, into, dt) = (&half.out[head * n..][..n], &half.into[head * n..][..n], &half.dt[head * n..][..n]);
        let products = &half.products[group * n * n..][..n * n];
        for t in 0..n {
            let (from, to) = half.reads.range(t, n);
            decay_row(&mut decay, into, out[t], (from, to));
            let (m, p) = (&mut m[t * n + from..t * n + to], &products[t * n + from..t * n + to]);
            let (decay, dt) = (&decay[from..to], &dt[from..to]);
            for i in 0..m.len() {
                m[i] += p[i] * decay[i] * dt[i];
            }
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn square_back<T: Real>(
    m: &mut [T],
    halves: &[Half<'_, T>],
    slopes: &mut [HalfSlopes<'_, T>],
    head: usize,
    group: usize,
    n: usize,
) {
    let (mut decay, mut grad, mut terms) = (vec![T::ZERO; n], vec![T::ZERO; n], vec![T::ZERO; n]);
    for t in 0..n {
        let m = &mut m[t * n..][..n];
        grad.copy_from_slice(m);
        m.fill(T::ZERO);
        for (half, slopes) in halves.iter().zip(slopes.iter_mut()) {
            let (into, dt) = (&half.into[head * n..][..n], &half.dt[head * n..][..n]);
            let (from, to) = half.reads.range(t, n);
            decay_row(&mut decay, into, half.out[head * n + t], (from, to));
            let (m, grad, terms) = (&mut m[from..to], &grad[from..to], &mut terms[from..to]);
            let (decay, dt) = (&decay[from..to], &dt[from..to]);
            let p = &half.products[(group * n + t) * n..][from..to];
            let (dp, into) = (&mut slopes.products[t * n..][from..to], &mut slopes.into[from..to]);
            for i in 0..m.len() {
                let fed = decay[i] * dt[i];
                m[i] += p[i] * fed;
                dp[i] += grad[i] * fed;
                terms[i] = grad[i] * p[i] * decay[i];
                into[i] += terms[i];
            }
            slopes.out[t] += dot(terms, dt);
        }
    }
}

/// Calls `kernel` on runs of heads, `[positions · heads, d_head]` with one factor each, on all threads.
fn by_runs(heads: usize, kernel: impl Fn(std::ops::Range<usize>) + Sync) {
    parallel_for(heads, 64, kernel);
}

/// `y = x f` with one factor a position and head.
pub(crate) fn scale<T: Real>(y: &mut Tensor, x: &Tensor, f: &Tensor) {
    #[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
    fn run<T: Real>(y: &mut [T], x: &[T], f: &[T], d: usize) {
        for ((y, x), f) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(f) {
            for i in 0..d {
                y[i] = x[i] * *f;
            }
        }
    }
    let d = width(x, f);
    let (x, f, y) = (elements::<T>(x), elements::<T>(f), Shared::new(elements_mut::<T>(y)));
    by_runs(f.len(), |r| {
        // SAFETY: runs do not overlap.
        let y = unsafe { y.part(r.start * d, r.len() * d) };
        run(y, &x[r.start * d..r.end * d], &f[r], d);
    });
}

/// `y += x f`.
pub(crate) fn add_scaled<T: Real>(y: &mut Tensor, x: &Tensor, f: &Tensor) {
    #[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
    fn run<T: Real>(y: &mut [T], x: &[T], f: &[T], d: usize) {
        for ((y, x), f) in y.chunks_exact_mut(d).zip(x.chunks_exact(d)).zip(f) {
            for i in 0..d {
                y[i] += x[i] * *f;
            }
        }
    }
    let d = width(x, f);
    let (x, f, y) = (elements::<T>(x), elements::<T>(f), Shared::new(elements_mut::<T>(y)));
    by_runs(f.len(), |r| {
        // SAFETY: runs do not overlap.
        let y = unsafe { y.part(r.start * d, r.len() * d) };
        run(y, &x[r.start * d..r.end * d], &f[r], d);
    });
}

/// Of `y += x f`, with the gradient of y in `grad`: that of f, and, over `x` itself, that of x.
fn scaled_back<T: Real>(x: &mut Tensor, grad: &Tensor, f: &Tensor, df: &mut Tensor) {
    #[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
    fn run<T: Real>(x: &mut [T], grad: &[T], f: &[T], df: &mut [T], d: usize) {
        for (((x, grad), f), df) in x.chunks_exact_mut(d).zip(grad.chunks_exact(d)).zip(f).zip(df) {
            *df = dot(x, grad);
            for i in 0..d {
                x[i] = grad[i] * *f;
            }
        }
    }
    let d = width(x, f);
    let (grad, f) = (elements::<T>(grad), elements::<T>(f));
    let (x, df) = (Shared::new(elements_mut::<T>(x)), Shared::new(elements_mut::<T>(df)));
    by_runs(f.len(), |r| {
        // SAFETY: runs do not overlap.
        let (x, df) = unsafe { (x.part(r.start * d, r.len() * d), df.part(r.start, r.len())) };
        run(x, &grad[r.start * d..r.end * d], &f[r], df, d);
    });
}

/// Of `y += x f`, with the gradient of y in `grad`: `dx += grad f`, and that of f.
pub(crate) fn add_scaled_back<T: Real>(dx: &mut Tensor, grad: &Tensor, x: &Tensor, f: &Tensor, df: &mut Tensor) {
    #[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
    fn run<T: Real>(dx: &mut [T], grad: &[T], x: &[T], f: &[T], df: &mut [T], d: usize) {
        let read = grad.chunks_exact(d).zip(x.chunks_exact(d)).zip(f);
        for ((dx, df), ((grad, x), f)) in dx.chunks_exact_mut(d).zip(df).zip(read) {
            *df = dot(x, grad);
            for i in 0..d {
                dx[i] += grad[i] * *f;
            }
        }
    }
    let d = width(x, f);
    let (grad, x, f) = (elements::<T>(grad), elements::<T>(x), elements::<T>(f));
    let (dx, df) = (Shared::new(elements_mut::<T>(dx)), Shared::new(elements_mut::<T>(df)));
    by_runs(f.len(), |r| {
        let wide = r.start * d..r.end * d;
        // SAFETY: runs do not overlap.
        let (dx, df) = unsafe { (dx.part(r.start * d, r.len() * d), df.part(r.start, r.len())) };
        run(dx, &grad[wide.clone()], &x[wide], &f[r], df, d);
    });
}

/// Entries of `x` for one of `f`.
fn width(x: &Tensor, f: &Tensor) -> usize {
    assert_eq!(x.numel() % f.numel().max(1), 0, "one factor a head");
    x.numel() / f.numel().max(1)
}

/// Where the states of one head of one row lie: `[rows, chunks, groups, d_state, heads of the group, d_head]`.
struct States {
    chunks: usize,
    groups: usize,
    d_state: usize,
    per_group: usize,
    d_head: usize,
}

impl States {
    fn of(plan: &Chunks) -> Self {
        let [chunks, groups, d_state, per_group, d_head] =
            [plan.count, plan.groups, plan.d_state, plan.heads / plan.groups, plan.d_head].map(|n| n as usize);
        Self { chunks, groups, d_state, per_group, d_head }
    }

    fn heads(&self) -> usize {
        self.groups * self.per_group
    }

    /// The first of `d_head` entries of chunk `chunk` (of all rows), head `h`, state `n`.
    #[inline(always)]
    fn at(&self, chunk: usize, h: usize, n: usize) -> usize {
        let (group, within) = (h / self.per_group, h % self.per_group);
        (((chunk * self.groups + group) * self.d_state + n) * self.per_group + within) * self.d_head
    }

    /// The chunks of row `row` in the order in which a side reads them.
    #[inline(always)]
    fn order(&self, row: usize, backward: bool) -> impl Iterator<Item = usize> + use<> {
        let (first, count) = (row * self.chunks, self.chunks);
        (0..count).map(move |i| first + if backward { count - 1 - i } else { i })
    }
}

/// From what each chunk leaves to what enters each chunk, in place. `initial` is `[groups, d_state, heads of the group, d_head]`.
fn pass<T: Real>(states: &mut Tensor, initial: Option<&Tensor>, side: &Side, plan: &Chunks) {
    #[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
    fn run<T: Real>(
        all: Shared<T>,
        initial: Option<&[T]>,
        total: &[f64],
        at: &States,
        (row, h): (usize, usize),
        backward: bool,
    ) {
        let d = at.d_head;
        let mut state = vec![T::ZERO; at.d_state * d];
        if let Some(initial) = initial {
            for n in 0..at.d_state {
                state[n * d..][..d].copy_from_slice(&initial[at.at(0, h, n)..][..d]);
            }
        }
        for chunk in at.order(row, backward) {
            let decay = T::of(total[chunk * at.heads() + h].exp());
            for n in 0..at.d_state {
                // SAFETY: a head of a row is one thread's.
                let left = unsafe { all.part(at.at(chunk, h, n), d) };
                let state = &mut state[n * d..][..d];
                for i in 0..d {
                    let entering = state[i];
                    state[i] = entering * decay + left[i];
                    left[i] = entering;
                }
            }
        }
    }
    let (at, backward) = (States::of(plan), side.reads.backward());
    let (initial, total) = (initial.map(elements::<T>), elements::<f64>(&side.total));
    let all = Shared::new(elements_mut::<T>(states));
    parallel_for(plan.rows as usize * at.heads(), 1, |units| {
        for unit in units {
            run(all, initial, total, &at, (unit / at.heads(), unit % at.heads()), backward);
        }
    });
}

/// The reverse of [`pass`]: from gradients of what enters to gradients of what is left, in place, of the log decays of
/// whole chunks, and (returned, `[heads, d_head, d_state]`) of the initial state.
fn pass_back<T: Real>(
    grads: &mut Tensor,
    entering: &Tensor,
    side: &Side,
    d_total: &mut Tensor,
    plan: &Chunks,
) -> Tensor {
    #[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
    fn run<T: Real>(
        all: (Shared<T>, Shared<f64>),
        grad: &mut [T],
        (entering, total): (&[T], &[f64]),
        at: &States,
        (row, h): (usize, usize),
        backward: bool,
    ) {
        let d = at.d_head;
        for chunk in at.order(row, !backward) {
            let whole = total[chunk * at.heads() + h].exp();
            let (decay, mut slope) = (T::of(whole), 0.0);
            for n in 0..at.d_state {
                // SAFETY: a head of a row is one thread's.
                let slot = unsafe { all.0.part(at.at(chunk, h, n), d) };
                let grad = &mut grad[n * d..][..d];
                slope += dot(grad, &entering[at.at(chunk, h, n)..][..d]).wide();
                for i in 0..d {
                    let left = grad[i];
                    grad[i] = left * decay + slot[i];
                    slot[i] = left;
                }
            }
            // SAFETY: as above.
            unsafe { all.1.part(chunk * at.heads() + h, 1)[0] = slope * whole };
        }
    }
    let (at, backward) = (States::of(plan), side.reads.backward());
    let mut start = Tensor::zeros([plan.rows, plan.heads, plan.d_state, plan.d_head], (T::KIND, grads.device()));
    let read = (elements::<T>(entering), elements::<f64>(&side.total));
    let all = (Shared::new(elements_mut::<T>(grads)), Shared::new(elements_mut::<f64>(d_total)));
    let starts = Shared::new(elements_mut::<T>(&mut start));
    let each = at.d_state * at.d_head;
    parallel_for(plan.rows as usize * at.heads(), 1, |units| {
        for unit in units {
            // SAFETY: a head of a row is one thread's.
            let grad = unsafe { starts.part(unit * each, each) };
            run(all, grad, read, &at, (unit / at.heads(), unit % at.heads()), backward);
        }
    });
    start.sum_dim_intlist([0].as_slice(), false, T::KIND).transpose(1, 2).contiguous()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::noise;
    use crate::native::kernels::{Kernels, with};

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
        let (batch, d_head, d_state) = (2, 3, 4);
        let signed = |shape: &[i64], salt| noise(shape, salt) * 2.0;
        let positive = |shape: &[i64], salt| noise(shape, salt) / 2.0 + 0.5;
        let bc = |salt| signed(&[batch, length, groups, d_state], salt);
        let dt = |salt| positive(&[batch, length, heads], salt) * strength + 0.01;
        let all = [
            signed(&[batch, length, heads, d_head], 1),
            -positive(&[heads], 2) - 0.2,
            signed(&[heads, d_head, d_state], 3),
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
                for kernels in [Kernels::Native, Kernels::Plain] {
                    let fast = with(kernels, || scan(&leaves[0], &leaves[1], &stream, chunk, initial));
                    let slow = recurrence(&leaves[0], &leaves[1], &stream, initial);
                    let case = format!("{kernels:?}, length {length}, chunk {chunk}, {}", initial.is_some());
                    assert_same(&fast, &slow, &leaves, &case);
                }
            }
        }
    }

    #[test]
    fn both_ways_are_two_shifted_scans_in_values_and_gradients() {
        for (length, chunk, heads, groups) in [(1, 4, 2, 1), (2, 1, 2, 2), (7, 4, 4, 2), (8, 8, 2, 1), (13, 5, 4, 1)] {
            let leaves = leaves(length, heads, groups, 0.5);
            let [forward, backward] = streams(&leaves);
            for initial in [None, Some(&leaves[2])] {
                for kernels in [Kernels::Native, Kernels::Plain] {
                    let both = [&forward, &backward];
                    let fast = with(kernels, || quasiseparable(&leaves[0], &leaves[1], both, chunk, initial));
                    let slow = two_shifted_scans(&leaves[0], &leaves[1], both, initial);
                    let case = format!("{kernels:?}, length {length}, chunk {chunk}, {}", initial.is_some());
                    assert_same(&fast, &slow, &leaves, &case);
                }
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
        for kernels in [Kernels::Native, Kernels::Plain] {
            let (y, exact) = (with(kernels, || run(&single)), run(&double));
            for (i, (got, want)) in gradients(&y, &single).iter().zip(gradients(&exact, &double)).enumerate() {
                let error = crate::laws::goldens::relative_error(got, &want);
                assert!(error < 5e-3, "leaf {i}: {error}, {kernels:?}");
            }
            assert!(crate::laws::goldens::relative_error(&y, &exact) < 1e-4, "{kernels:?}");
        }
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
