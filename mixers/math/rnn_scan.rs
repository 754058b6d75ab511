//! The recurrence of a GRU, one direction or both in one loop, with a backward of its own.
//!
//! ```text
//! all positions at once    X = W_ih x                                       one product a direction
//! then step by step        gates = σ or tanh of (X_t + W_hh h_{t-1} + b)    one product for both directions, and one pass
//! ```
//! The second direction takes each row from the end of its valid part: it reads and writes at its own positions, nothing is turned.
//!
//! Time     the products, and one pass over the gates a step; threads take rows of the batch
//! Memory   kept for the backward: x, the open gates and `h_{t-1}`
//!
//! libtorch steps its GRU operation by operation, once a direction. The plain twin is that: `Cell::run`. Its LSTM has a kernel that
//! this loop does not beat.

use crate::math::real::{Real, by_kind};
use crate::native::{Backward, Shared, attach, elements, elements_mut, parallel_for};
use multiversion::multiversion;
use tch::{Kind, Tensor};

/// Rows of a batch that a thread takes at least.
const GRAIN: usize = 8;
/// Blocks of `d_hidden` numbers kept a position and direction: n, r, z and `W_hn h + b_hn`.
const BLOCKS: usize = 4;
/// The blocks that W_ih writes, and those that W_hh writes.
const FED: [std::ops::Range<usize>; 2] = [0..3, 1..4];
/// How many each writes.
const GATES: usize = 3;

/// h of every position and direction, `[batch, length, directions · d_hidden]`, of `x` `[batch, length, d_model]` on the CPU. A network
/// is W_ih, W_hh, b_ih and b_hh as torch keeps them; `lengths` are the valid positions of each row.
pub(crate) fn scan(x: &Tensor, networks: &[&[Tensor; 4]], lengths: Option<&Tensor>) -> Tensor {
    let op = tch::no_grad(|| Scan::new(x, networks, lengths));
    let [y, gates, before] = tch::no_grad(|| by_kind!(x.kind(), forward(&op, &x.detach().contiguous(), networks)));
    let inputs: Vec<&Tensor> = std::iter::once(x).chain(networks.iter().copied().flatten()).collect();
    let saved: Vec<&Tensor> = inputs.iter().copied().chain([&gates, &before]).collect();
    attach(op, &inputs, &[&y], &saved);
    y
}

/// Sizes, and where each direction stands after each step.
struct Scan {
    batch: usize,
    length: usize,
    hidden: usize,
    directions: usize,
    /// Valid positions of each row, where the second direction begins.
    lengths: Option<Vec<usize>>,
}

impl Scan {
    fn new(x: &Tensor, networks: &[&[Tensor; 4]], lengths: Option<&Tensor>) -> Self {
        let size = x.size();
        let whole = size[1];
        let count = |lengths: &Tensor| -> Vec<usize> {
            let lengths = Vec::<i64>::try_from(lengths.to_kind(Kind::Int64)).expect("one length a row");
            lengths.into_iter().map(|n| n.clamp(0, whole) as usize).collect()
        };
        Self {
            batch: size[0] as usize,
            length: whole as usize,
            hidden: networks[0][1].size()[1] as usize,
            directions: networks.len(),
            lengths: lengths.map(count),
        }
    }

    /// Where direction `direction` of `row` stands at step `t`.
    fn position(&self, direction: usize, row: usize, t: usize) -> usize {
        let valid = self.lengths.as_ref().map_or(self.length, |lengths| lengths[row]);
        if direction == 1 && t < valid { valid - 1 - t } else { t }
    }

    /// Of a block `[batch, length, directions]`, the index that direction `direction` of `row` has at step `t`.
    fn at(&self, direction: usize, row: usize, t: usize) -> usize {
        (row * self.length + self.position(direction, row, t)) * self.directions + direction
    }

    /// W_ih in the order of its blocks: n comes first.
    fn input_weight(&self, w_ih: &Tensor) -> Tensor {
        w_ih.roll([self.hidden as i64].as_slice(), [0].as_slice())
    }

    /// The reverse of [`Scan::input_weight`], for its gradient and that of b_ih.
    fn in_torch_s_order(&self, grad: &Tensor) -> Tensor {
        grad.roll([-(self.hidden as i64)].as_slice(), [0].as_slice())
    }

    /// What is added to each block, `[directions, 4 · d_hidden]`.
    fn biases(&self, networks: &[&[Tensor; 4]]) -> Tensor {
        let h = self.hidden as i64;
        let one = |[_, _, b_ih, b_hh]: &&[Tensor; 4]| {
            let r_z = b_ih.narrow(0, 0, 2 * h) + b_hh.narrow(0, 0, 2 * h);
            Tensor::cat(&[b_ih.narrow(0, 2 * h, h), r_z, b_hh.narrow(0, 2 * h, h)], 0)
        };
        Tensor::stack(&networks.iter().map(one).collect::<Vec<_>>(), 0)
    }

    /// Columns of a `[positions, directions · 4 · d_hidden]` that belong to some blocks of a direction.
    fn columns(&self, t: &Tensor, direction: usize, blocks: &std::ops::Range<usize>) -> Tensor {
        let from = direction * BLOCKS + blocks.start;
        t.narrow(1, (from * self.hidden) as i64, (blocks.len() * self.hidden) as i64)
    }

    fn positions(&self) -> i64 {
        (self.batch * self.length) as i64
    }

    fn empty(&self, shape: &[usize], like: &Tensor) -> Tensor {
        let shape: Vec<i64> = shape.iter().map(|n| *n as i64).collect();
        Tensor::empty(shape.as_slice(), (like.kind(), like.device()))
    }

    /// W_hh of all directions, `[directions, gates · d_hidden, d_hidden]`.
    fn recurrent_weights(networks: &[&[Tensor; 4]]) -> Tensor {
        Tensor::stack(&networks.iter().map(|weights| weights[1].detach()).collect::<Vec<_>>(), 0)
    }
}

/// y, the open gates and `h_{t-1}`, each `[batch · length, directions · …]` but y.
fn forward<T: Real>(op: &Scan, x: &Tensor, networks: &[&[Tensor; 4]]) -> [Tensor; 3] {
    let (h, directions, rows) = (op.hidden, op.directions, op.batch * op.length);
    let mut gates = op.empty(&[rows, directions * BLOCKS * h], x);
    let flat = x.view([op.positions(), -1]);
    for (direction, weights) in networks.iter().enumerate() {
        let weight = op.input_weight(&weights[0].detach());
        let _ = flat.mm_out(&op.columns(&gates, direction, &FED[0]), &weight.tr());
    }
    let mut before = op.empty(&[rows, directions * h], x);
    let mut y = op.empty(&[op.batch, op.length, directions * h], x);
    let (bias, weights) = (op.biases(networks).detach(), Scan::recurrent_weights(networks).transpose(1, 2));
    let lent = Lent(weights);
    {
        let bias = elements::<T>(&bias);
        let [gates, before, y] = [&mut gates, &mut before, &mut y].map(|t| Shared::new(elements_mut::<T>(t)));
        let kept = Kept { gates, before, y };
        parallel_for(op.batch, GRAIN, |rows| tch::no_grad(|| forward_rows(op, rows, bias, lent.get(), &kept)));
    }
    [y, gates, before]
}

/// A tensor that threads take views of and nothing else.
struct Lent(Tensor);

// SAFETY: a tensor's reference count is atomic, and nobody writes its numbers meanwhile.
unsafe impl Sync for Lent {}

impl Lent {
    fn get(&self) -> Tensor {
        self.0.shallow_clone()
    }
}

/// What is written for every position and direction.
struct Kept<T> {
    gates: Shared<T>,
    before: Shared<T>,
    y: Shared<T>,
}

/// All steps of some rows. `weights` is `[directions, d_hidden, gates · d_hidden]`.
fn forward_rows<T: Real>(op: &Scan, rows: std::ops::Range<usize>, bias: &[T], weights: Tensor, kept: &Kept<T>) {
    let (h, count, directions) = (op.hidden, rows.len(), op.directions);
    let mut last = op.empty(&[directions, count, h], &weights).zero_();
    let products = op.empty(&[directions, count, GATES * h], &weights).zero_();
    for t in 0..op.length {
        if t > 0 {
            let _ = last.bmm_out(&products, &weights);
        }
        forward_step(op, t, rows.clone(), (elements::<T>(&products), bias), elements_mut::<T>(&mut last), kept);
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn forward_step<T: Real>(
    op: &Scan,
    t: usize,
    rows: std::ops::Range<usize>,
    (products, bias): (&[T], &[T]),
    last: &mut [T],
    kept: &Kept<T>,
) {
    let (h, count) = (op.hidden, rows.len());
    let fed = GATES * h;
    for direction in 0..op.directions {
        let bias = &bias[direction * BLOCKS * h..][..BLOCKS * h];
        for (i, row) in rows.clone().enumerate() {
            let (at, here) = (op.at(direction, row, t), direction * count + i);
            let last = &mut last[here * h..][..h];
            let product = &products[here * fed..][..fed];
            // SAFETY: every row, direction and step has a place of its own, and rows are one thread's.
            let (gates, before, y) = unsafe {
                (kept.gates.part(at * BLOCKS * h, BLOCKS * h), kept.before.part(at * h, h), kept.y.part(at * h, h))
            };
            before.copy_from_slice(last);
            open(gates, product, bias, last);
            y.copy_from_slice(last);
        }
    }
}

/// `x += a + b`.
#[inline(always)]
fn add_two<T: Real>(x: &mut [T], a: &[T], b: &[T]) {
    let n = x.len();
    let (a, b) = (&a[..n], &b[..n]);
    for i in 0..n {
        x[i] = x[i] + a[i] + b[i];
    }
}

#[inline(always)]
fn sigmoids<T: Real>(x: &mut [T]) {
    for x in x {
        *x = x.sigmoid();
    }
}

/// From `W_ih x` in `gates` to n, r, z and `W_hn h + b_hn`; from the last h to the next.
#[inline(always)]
fn open<T: Real>(gates: &mut [T], product: &[T], bias: &[T], h: &mut [T]) {
    let d = h.len();
    let (n, rest) = gates.split_at_mut(d);
    let (r_z, hn) = rest.split_at_mut(2 * d);
    add_two(r_z, product, &bias[d..3 * d]);
    sigmoids(r_z);
    let (r, z) = r_z.split_at(d);
    let (product, from, into) = (&product[2 * d..][..d], &bias[3 * d..][..d], &bias[..d]);
    let (hn, z) = (&mut hn[..d], &z[..d]);
    for j in 0..d {
        hn[j] = product[j] + from[j];
        n[j] = (n[j] + into[j] + r[j] * hn[j]).tanh();
    }
    for j in 0..d {
        h[j] = n[j] + z[j] * (h[j] - n[j]);
    }
}

impl Backward for Scan {
    fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
        let (inputs, kept) = saved.split_at(saved.len() - 2);
        let [gates, before] = kept else { panic!("two tensors were kept") };
        let Some(grad) = &grads[0] else { return inputs.iter().map(|_| None).collect() };
        let networks: Vec<&[Tensor]> = inputs[1..].chunks_exact(4).collect();
        let slopes = {
            let weights: Vec<Tensor> = networks.iter().map(|weights| weights[1].shallow_clone()).collect();
            let kept = [gates, before, &grad.contiguous()];
            by_kind!(grad.kind(), backward(self, &Tensor::stack(&weights, 0), kept))
        };
        let [to_input, to_state] = FED;
        let (x, h) = (inputs[0].contiguous().view([self.positions(), -1]), self.hidden as i64);
        let sums = slopes.sum_dim_intlist([0].as_slice(), false, grad.kind()).unsqueeze(0);
        let dx = x.empty_like();
        let mut found = vec![None];
        for (direction, weights) in networks.iter().enumerate() {
            let (fed, held) =
                (self.columns(&slopes, direction, &to_input), self.columns(&slopes, direction, &to_state));
            let weight = self.input_weight(&weights[0]);
            let mut dx = dx.shallow_clone();
            let _ = if direction == 0 { fed.mm_out(&dx, &weight) } else { dx.addmm_(&fed, &weight) };
            let before = before.narrow(1, direction as i64 * h, h);
            let bias = |blocks| self.columns(&sums, direction, blocks).squeeze_dim(0);
            found.extend([
                Some(self.in_torch_s_order(&fed.tr().mm(&x))),
                Some(held.tr().mm(&before)),
                Some(self.in_torch_s_order(&bias(&to_input))),
                Some(bias(&to_state).contiguous()),
            ]);
        }
        found[0] = Some(dx.view_as(&inputs[0]));
        found
    }
}

/// Gradients of what is added up in front of each gate, shaped as the gates; `kept` are the gates, `h_{t-1}` and the gradient of y.
fn backward<T: Real>(op: &Scan, weights: &Tensor, kept: [&Tensor; 3]) -> Tensor {
    let mut slopes = kept[0].empty_like();
    let lent = Lent(weights.shallow_clone());
    {
        let read = kept.map(elements::<T>);
        let out = Shared::new(elements_mut::<T>(&mut slopes));
        parallel_for(op.batch, GRAIN, |rows| tch::no_grad(|| backward_rows(op, rows, lent.get(), read, out)));
    }
    slopes
}

/// All steps of some rows, from the last. `weights` is `[directions, gates · d_hidden, d_hidden]`.
fn backward_rows<T: Real>(op: &Scan, rows: std::ops::Range<usize>, weights: Tensor, kept: [&[T]; 3], out: Shared<T>) {
    let (h, count, directions) = (op.hidden, rows.len(), op.directions);
    // Gradients of h that come from the step behind, and those in front of the gates that W_hh feeds.
    let mut dh = op.empty(&[directions, count, h], &weights).zero_();
    let mut slopes = op.empty(&[directions, count, GATES * h], &weights);
    for t in (0..op.length).rev() {
        let carried = (elements_mut::<T>(&mut dh), elements_mut::<T>(&mut slopes));
        backward_step(op, t, rows.clone(), kept, carried, out);
        if t > 0 {
            let _ = dh.baddbmm_(&slopes, &weights);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn backward_step<T: Real>(
    op: &Scan,
    t: usize,
    rows: std::ops::Range<usize>,
    [gates, before, grad]: [&[T]; 3],
    (dh, slopes): (&mut [T], &mut [T]),
    out: Shared<T>,
) {
    let (h, count) = (op.hidden, rows.len());
    let fed = GATES * h;
    for direction in 0..op.directions {
        for (i, row) in rows.clone().enumerate() {
            let (at, here) = (op.at(direction, row, t), direction * count + i);
            let gates = &gates[at * BLOCKS * h..][..BLOCKS * h];
            // SAFETY: every row, direction and step has a place of its own, and rows are one thread's.
            let out = unsafe { out.part(at * BLOCKS * h, BLOCKS * h) };
            let dh = &mut dh[here * h..][..h];
            let grad = &grad[at * h..][..h];
            for j in 0..h {
                dh[j] += grad[j];
            }
            close(out, gates, &before[at * h..][..h], dh);
            slopes[here * fed..][..fed].copy_from_slice(&out[h..]);
        }
    }
}

/// From the gradient of h: those in front of n, r and z and of `W_hn h + b_hn`; in `dh` what of it reaches the last h directly.
#[inline(always)]
fn close<T: Real>(out: &mut [T], gates: &[T], before: &[T], dh: &mut [T]) {
    let d = dh.len();
    let [n, r, z, hn] = [0, 1, 2, 3].map(|block| &gates[block * d..][..d]);
    let before = &before[..d];
    let (dn_dr, dz_dhn) = out.split_at_mut(2 * d);
    let ((dn, dr), (dz, dhn)) = (dn_dr.split_at_mut(d), dz_dhn.split_at_mut(d));
    let dhn = &mut dhn[..d];
    for j in 0..d {
        dz[j] = dh[j] * (before[j] - n[j]) * z[j] * (T::ONE - z[j]);
        dn[j] = dh[j] * (T::ONE - z[j]) * (T::ONE - n[j] * n[j]);
    }
    for j in 0..d {
        dr[j] = dn[j] * hn[j] * r[j] * (T::ONE - r[j]);
        dhn[j] = dn[j] * r[j];
        dh[j] = dh[j] * z[j];
    }
}
