//! Attention over lists: every reader has its own places to read. A kernel for the CPU with its own backward, which keeps one
//! number a reader and no logits; [`plain`] is its twin.
//!
//! ```text
//! y_i = Σ_{e ∈ E(i)} softmax_e(q_i·k_e) v_e          zero where E(i) is empty
//! ```

use crate::native::{Backward, Scalar, Shared, attach, elements, elements_mut, parallel_for};
use std::sync::Arc;
use tch::{Kind, Tensor};

/// The places of every reader, one reader after another.
#[derive(Debug, Default)]
pub struct Lists {
    /// Where each reader's places end.
    ends: Vec<usize>,
    places: Vec<u32>,
}

impl Lists {
    /// Adds a reader.
    pub fn push(&mut self, places: impl IntoIterator<Item = i64>) {
        self.places.extend(places.into_iter().map(|place| place as u32));
        self.ends.push(self.places.len());
    }

    fn of(&self, reader: usize) -> &[u32] {
        let start = if reader == 0 { 0 } else { self.ends[reader - 1] };
        &self.places[start..self.ends[reader]]
    }
}

/// q `[batch, heads, readers, d]`, k and v `[batch, heads, places, d]` → `[batch, heads, readers, d]`.
pub fn attend(q: &Tensor, k: &Tensor, v: &Tensor, lists: &Arc<Lists>) -> Tensor {
    let packed = [q, k, v].map(Tensor::contiguous);
    let [q, k, v] = packed.each_ref();
    assert_eq!(lists.ends.len() as i64, q.size()[2], "a list for every reader");
    assert!(lists.places.iter().all(|&place| i64::from(place) < k.size()[2]), "places that are there");
    let [y, norm] = tch::no_grad(|| match q.kind() {
        Kind::Double => forward::<f64>([q, k, v], lists),
        _ => forward::<f32>([q, k, v], lists),
    });
    attach(OverLists(lists.clone()), &[q, k, v], &[&y], &[q, k, v, &y.detach(), &norm]);
    y
}

struct OverLists(Arc<Lists>);

impl Backward for OverLists {
    fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
        let Some(grad) = &grads[0] else { return vec![None, None, None] };
        let grad = grad.contiguous();
        let gradients = match grad.kind() {
            Kind::Double => backward::<f64>(saved, &grad, &self.0),
            _ => backward::<f32>(saved, &grad, &self.0),
        };
        gradients.into_iter().map(Some).collect()
    }
}

/// y, and log Σ exp of each reader's logits.
fn forward<T: Number>([q, k, v]: [&Tensor; 3], lists: &Lists) -> [Tensor; 2] {
    let [readers, places, d, n] = sizes(q, k);
    let mut y = Tensor::zeros(q.size(), (T::KIND, q.device()));
    let mut norm = Tensor::zeros([(n * readers) as i64], (T::KIND, q.device()));
    let [q, k, v] = [q, k, v].map(elements::<T>);
    let shared_y = Shared::new(elements_mut::<T>(&mut y));
    let shared_norm = Shared::new(elements_mut::<T>(&mut norm));
    parallel_for(n * readers, 256, |range| {
        let mut weights = Vec::new();
        for at in range {
            let (head, reader) = (at / readers, at % readers);
            let table = head * places * d..(head + 1) * places * d;
            // SAFETY: the ranges of a parallel loop do not overlap, so neither do the parts.
            let (y, norm) = unsafe { (shared_y.part(at * d, d), shared_norm.part(at, 1)) };
            let q = &q[at * d..(at + 1) * d];
            norm[0] = read(q, &k[table.clone()], &v[table], lists.of(reader), &mut weights, y);
        }
    });
    [y, norm]
}

fn backward<T: Number>(saved: &[Tensor], grad: &Tensor, lists: &Lists) -> [Tensor; 3] {
    let [readers, places, d, n] = sizes(&saved[0], &saved[1]);
    let mut gradients = [0, 1, 2].map(|i: usize| saved[i].zeros_like());
    let [q, k, v, y, norm] = [0, 1, 2, 3, 4].map(|i: usize| elements::<T>(&saved[i]));
    let grad = elements::<T>(grad);
    let [dq, dk, dv] = gradients.each_mut().map(|t| Shared::new(elements_mut::<T>(t)));
    parallel_for(n, 1, |range| {
        for head in range {
            let (own, table) = (head * readers * d, head * places * d);
            // SAFETY: a head belongs to one range of the parallel loop, and its parts to it.
            let (dq, dk, dv) =
                unsafe { (dq.part(own, readers * d), dk.part(table, places * d), dv.part(table, places * d)) };
            for reader in 0..readers {
                let row = own + reader * d..own + (reader + 1) * d;
                unread(
                    [&q[row.clone()], &y[row.clone()], &grad[row]],
                    [&k[table..table + places * d], &v[table..table + places * d]],
                    norm[head * readers + reader],
                    lists.of(reader),
                    [&mut dq[reader * d..(reader + 1) * d], dk, dv],
                );
            }
        }
    });
    gradients
}

/// Readers, places, d, and heads of all batch rows.
fn sizes(q: &Tensor, k: &Tensor) -> [usize; 4] {
    let (q, k) = (q.size(), k.size());
    [q[2], k[2], q[3], q[0] * q[1]].map(|n| n as usize)
}

/// One reader forward; gives log Σ exp.
#[multiversion::multiversion(targets("x86_64+avx2+fma", "x86_64+avx512f+avx512vl"))]
fn read<T: Number>(q: &[T], k: &[T], v: &[T], places: &[u32], weights: &mut Vec<T>, y: &mut [T]) -> T {
    let d = q.len();
    let row = |place: u32| place as usize * d..(place as usize + 1) * d;
    weights.clear();
    let mut largest = T::LOWEST;
    for &place in places {
        let logit = dot(q, &k[row(place)]);
        largest = if logit > largest { logit } else { largest };
        weights.push(logit);
    }
    let mut sum = T::default();
    for weight in weights.iter_mut() {
        *weight = (*weight - largest).exp();
        sum += *weight;
    }
    if places.is_empty() {
        return T::default();
    }
    for (&place, &weight) in places.iter().zip(weights.iter()) {
        add(y, weight / sum, &v[row(place)]);
    }
    largest + sum.ln()
}

/// One reader backward: q, y and the gradient of y; k and v; gradients of q (its own), k and v (everyone's).
#[multiversion::multiversion(targets("x86_64+avx2+fma", "x86_64+avx512f+avx512vl"))]
fn unread<T: Number>([q, y, grad]: [&[T]; 3], [k, v]: [&[T]; 2], norm: T, places: &[u32], [dq, dk, dv]: [&mut [T]; 3]) {
    let d = q.len();
    let mean = dot(grad, y);
    for &place in places {
        let row = place as usize * d..(place as usize + 1) * d;
        let weight = (dot(q, &k[row.clone()]) - norm).exp();
        let slope = weight * (dot(grad, &v[row.clone()]) - mean); // of the logit
        add(dq, slope, &k[row.clone()]);
        add(&mut dk[row.clone()], slope, q);
        add(&mut dv[row], weight, grad);
    }
}

/// Partial sums side by side, so that they fit the processor's registers.
const LANES: usize = 16;

#[inline(always)]
fn dot<T: Number>(a: &[T], b: &[T]) -> T {
    let (a, b) = (a.chunks_exact(LANES), b.chunks_exact(LANES));
    let mut rest = T::default();
    for (x, y) in a.remainder().iter().zip(b.remainder()) {
        rest += *x * *y;
    }
    let mut lanes = [T::default(); LANES];
    for (a, b) in a.zip(b) {
        for lane in 0..LANES {
            lanes[lane] += a[lane] * b[lane];
        }
    }
    lanes.iter().fold(rest, |sum, lane| sum + *lane)
}

#[inline(always)]
fn add<T: Number>(to: &mut [T], factor: T, what: &[T]) {
    for (to, what) in to.iter_mut().zip(what) {
        *to += factor * *what;
    }
}

/// float32 and float64.
trait Number:
    Scalar
    + Default
    + PartialOrd
    + std::ops::Add<Output = Self>
    + std::ops::Sub<Output = Self>
    + std::ops::Mul<Output = Self>
    + std::ops::Div<Output = Self>
    + std::ops::AddAssign
{
    const LOWEST: Self;
    fn exp(self) -> Self;
    fn ln(self) -> Self;
}

impl Number for f32 {
    const LOWEST: Self = Self::MIN;
    fn exp(self) -> Self {
        self.exp()
    }
    fn ln(self) -> Self {
        self.ln()
    }
}

impl Number for f64 {
    const LOWEST: Self = Self::MIN;
    fn exp(self) -> Self {
        self.exp()
    }
    fn ln(self) -> Self {
        self.ln()
    }
}

/// The largest of what lies before each place along the second of three axes (after it, in `reverse`); `nothing` at the first.
/// Of equal entries the earliest met gets the gradient.
pub fn running_max(t: &Tensor, reverse: bool, nothing: f64) -> Tensor {
    let t = t.contiguous();
    let y = tch::no_grad(|| match t.kind() {
        Kind::Double => scan::<f64>(&t, reverse, nothing),
        _ => scan::<f32>(&t, reverse, nothing as f32),
    });
    attach(RunningMax { reverse }, &[&t], &[&y], &[&t, &y.detach()]);
    y
}

struct RunningMax {
    reverse: bool,
}

impl Backward for RunningMax {
    fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
        vec![grads[0].as_ref().map(|grad| {
            let grad = grad.contiguous();
            match grad.kind() {
                Kind::Double => unscan::<f64>(&saved[0], &saved[1], &grad, self.reverse),
                _ => unscan::<f32>(&saved[0], &saved[1], &grad, self.reverse),
            }
        })]
    }
}

/// The place after `step` steps along a line of `n`.
fn place(n: usize, step: usize, reverse: bool) -> usize {
    if reverse { n - 1 - step } else { step }
}

fn scan<T: Number>(t: &Tensor, reverse: bool, nothing: T) -> Tensor {
    let [lines, n, d] = three(t);
    let mut y = t.empty_like();
    let x = elements::<T>(t);
    let shared = Shared::new(elements_mut::<T>(&mut y));
    parallel_for(lines, 1, |range| {
        for line in range {
            let x = &x[line * n * d..(line + 1) * n * d];
            // SAFETY: the ranges of a parallel loop do not overlap, so neither do the lines.
            let y = unsafe { shared.part(line * n * d, n * d) };
            y[place(n, 0, reverse) * d..][..d].fill(nothing);
            for step in 1..n {
                let [here, last] = [step, step - 1].map(|s| place(n, s, reverse) * d);
                for i in 0..d {
                    let (so_far, new) = (y[last + i], x[last + i]);
                    y[here + i] = if step == 1 || new > so_far { new } else { so_far };
                }
            }
        }
    });
    y
}

fn unscan<T: Number>(t: &Tensor, y: &Tensor, grad: &Tensor, reverse: bool) -> Tensor {
    let [lines, n, d] = three(t);
    let mut dx = t.zeros_like();
    let (x, y, grad) = (elements::<T>(t), elements::<T>(y), elements::<T>(grad));
    let shared = Shared::new(elements_mut::<T>(&mut dx));
    parallel_for(lines, 1, |range| {
        let mut carried = vec![T::default(); d];
        for line in range {
            let from = line * n * d;
            let (x, y, grad) = (&x[from..], &y[from..], &grad[from..]);
            // SAFETY: as in `scan`.
            let dx = unsafe { shared.part(from, n * d) };
            carried.fill(T::default());
            for step in (1..n).rev() {
                let [here, last] = [step, step - 1].map(|s| place(n, s, reverse) * d);
                for i in 0..d {
                    let sum = carried[i] + grad[here + i];
                    let record = step == 1 || x[last + i] > y[last + i];
                    dx[last + i] = if record { sum } else { T::default() };
                    carried[i] = if record { T::default() } else { sum };
                }
            }
        }
    });
    dx
}

fn three(t: &Tensor) -> [usize; 3] {
    <[i64; 3]>::try_from(t.size()).expect("three axes").map(|n| n as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::noise;

    fn gradients(y: &Tensor, leaves: &[Tensor]) -> Vec<Tensor> {
        Tensor::run_backward(&[(y * noise(&y.size(), 9)).sum(Kind::Double)], leaves, false, false)
    }

    /// The formula, one reader at a time.
    fn plain(q: &Tensor, k: &Tensor, v: &Tensor, lists: &Lists) -> Tensor {
        let rows = (0..q.size()[2]).map(|reader| {
            let places: Vec<i64> = lists.of(reader as usize).iter().map(|p| i64::from(*p)).collect();
            let [k, v] = [k, v].map(|t| t.index_select(2, &Tensor::from_slice(&places)));
            let q = q.narrow(2, reader, 1);
            q.matmul(&k.transpose(-2, -1)).softmax(-1, q.kind()).matmul(&v)
        });
        Tensor::cat(&rows.collect::<Vec<_>>(), 2)
    }

    #[test]
    fn the_kernel_is_the_formula_in_values_and_gradients() {
        for d in [3, 16, 37] {
            let leaves = [(4, 1), (6, 2), (6, 3)].map(|(n, salt)| noise(&[2, 3, n, d], salt).set_requires_grad(true));
            let mut lists = Lists::default();
            [vec![0, 5], vec![3], vec![], vec![1, 1, 4, 2]].into_iter().for_each(|places| lists.push(places));
            let [q, k, v] = &leaves;
            let slow = plain(q, k, v, &lists);
            let fast = attend(q, k, v, &Arc::new(lists));
            assert!(fast.allclose(&slow, 1e-12, 1e-13, false), "values, d {d}");
            for (fast, slow) in gradients(&fast, &leaves).iter().zip(gradients(&slow, &leaves)) {
                assert!(fast.allclose(&slow, 1e-11, 1e-12, false), "gradients, d {d}");
            }
        }
    }

    #[test]
    fn the_running_maximum_is_cummax_moved_by_one() {
        for reverse in [false, true] {
            for n in [1, 2, 7] {
                let x = [noise(&[3, n, 5], 1).set_requires_grad(true)];
                let there = if reverse { x[0].flip([1]) } else { x[0].shallow_clone() };
                let earlier = there.narrow(1, 0, n - 1);
                let first = Tensor::zeros([3, 1, 5], (Kind::Double, tch::Device::Cpu));
                let slow = Tensor::cat(&[first, if n > 1 { earlier.cummax(1).0 } else { earlier }], 1);
                let slow = if reverse { slow.flip([1]) } else { slow };
                let fast = running_max(&x[0], reverse, 0.0);
                assert!(fast.equal(&slow), "values, {n}, {reverse}");
                for (fast, slow) in gradients(&fast, &x).iter().zip(gradients(&slow, &x)) {
                    assert!(fast.allclose(&slow, 1e-13, 1e-14, false), "gradients, {n}, {reverse}");
                }
            }
        }
    }
}
