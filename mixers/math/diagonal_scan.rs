//! Diagonal linear recurrences: every channel a number of its own.
//!
//! ```text
//! h_t = a_t h_{t-1} + b_t                 [`real`]: a, b, h are [batch, length, width], h_{-1} is [batch, width]
//! h_t = λ h_{t-1} + b_t,   h_{-1} = 0     [`complex`]: b and h are [batch, length, 2 · width], real parts first; λ is [2 · width]
//! ```
//! After    Blelloch 1990, Prefix sums and their applications, §1.4 (the recurrence as a scan)
//! Time     O(length · width) on a CPU, one position after another, bound by memory: no form reads less. Elsewhere 2 ⌈log₂ length⌉ passes
//!          over half as much each time
//! Memory   a (or λ) and h are kept for the backward
//!
//! Nothing is divided by a product of decays and nothing is a logarithm: no value overflows unless h does.
//!
//! The backward is the same recurrence from the end: `G_t = dh_t + a*_{t+1} G_{t+1}`, `db_t = G_t`, `da_t = G_t h*_{t-1}`, with * for complex
//! conjugates.

use crate::math::real::{Real, by_kind};
use crate::native::kernels::native_for;
use crate::native::{Backward, Shared, attach, elements, elements_mut, parallel_for};
use multiversion::multiversion;
use tch::Tensor;

/// Channels that one piece of a parallel loop takes.
const PIECE: usize = 64;

/// h of every position.
///
/// # Panics
/// If shapes differ.
pub fn real(a: &Tensor, b: &Tensor, initial: &Tensor) -> Tensor {
    struct Op;

    impl Backward for Op {
        fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
            let ([a, h, initial], Some(grad)) = (saved, &grads[0]) else { return vec![None, None, None] };
            by_kind!(a.kind(), real_backward([a, h, initial, grad])).map(Some).into()
        }
    }

    let [batch, _, width] = a.size3().expect("a is [batch, length, width]").into();
    assert!(a.size() == b.size() && initial.size() == [batch, width], "diagonal_scan: {a:?}, {b:?}, {initial:?}");
    if !native_for(b) {
        return by_pairs(a, &begun(a, b, initial));
    }
    let h = tch::no_grad(|| by_kind!(a.kind(), real_forward([a, b, initial])));
    attach(Op, &[a, b, initial], &[&h], &[a, &h.detach(), initial]);
    h
}

/// h of every position, real parts before imaginary ones.
///
/// # Panics
/// If shapes differ.
pub fn complex(lambda: &Tensor, b: &Tensor) -> Tensor {
    struct Op;

    impl Backward for Op {
        fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
            let ([lambda, h], Some(grad)) = (saved, &grads[0]) else { return vec![None, None] };
            by_kind!(h.kind(), complex_backward([lambda, h, grad])).map(Some).into()
        }
    }

    let [_, _, both] = b.size3().expect("b is [batch, length, 2 · width]").into();
    assert!(both % 2 == 0 && lambda.size() == [both], "diagonal_scan: {lambda:?}, {b:?}");
    if !native_for(b) {
        return complex_by_pairs(lambda, b);
    }
    let h = tch::no_grad(|| by_kind!(b.kind(), complex_forward([lambda, b])));
    attach(Op, &[lambda, b], &[&h], &[lambda, &h.detach()]);
    h
}

/// The recurrence from libtorch's operations, on any device, along axis 1 from `h_{-1} = 0`: neighbours are joined, the pairs are solved by
/// the same means, and what lies between them follows. `a` may be 1 wide where `b` is wider.
pub(crate) fn by_pairs(a: &Tensor, b: &Tensor) -> Tensor {
    let length = b.size()[1];
    if length == 1 {
        return b.shallow_clone();
    }
    let (evens, pairs) = ((length + 1) / 2, length / 2);
    let [a_even, b_even] = [a, b].map(|t| t.slice(1, 0, length, 2));
    let [a_odd, b_odd] = [a, b].map(|t| t.slice(1, 1, length, 2));
    let whole = |t: &Tensor| t.narrow(1, 0, pairs);
    let odd = by_pairs(&(whole(&a_even) * &a_odd), &(b_odd + &a_odd * whole(&b_even)));
    let later = |t: &Tensor| t.narrow(1, 1, evens - 1);
    let even = Tensor::cat(&[b_even.narrow(1, 0, 1), later(&b_even) + later(&a_even) * odd.narrow(1, 0, evens - 1)], 1);
    let both = Tensor::stack(&[whole(&even), odd], 2).flatten(1, 2);
    if evens == pairs { both } else { Tensor::cat(&[both, even.narrow(1, pairs, 1)], 1) }
}

/// b with what the initial h leaves of itself at the first position.
fn begun(a: &Tensor, b: &Tensor, initial: &Tensor) -> Tensor {
    let first = b.narrow(1, 0, 1) + a.narrow(1, 0, 1) * initial.unsqueeze(1);
    Tensor::cat(&[first, b.narrow(1, 1, b.size()[1] - 1)], 1)
}

/// [`by_pairs`] of complex numbers, real parts first.
fn complex_by_pairs(lambda: &Tensor, b: &Tensor) -> Tensor {
    let width = lambda.size()[0] / 2;
    let join = |t: &Tensor| Tensor::complex(&t.narrow(-1, 0, width), &t.narrow(-1, width, width));
    let h = by_pairs(&join(lambda).view([1, 1, -1]).expand([1, b.size()[1], -1], false), &join(b));
    Tensor::cat(&[h.real(), h.imag()], -1)
}

#[derive(Clone, Copy)]
struct Sizes {
    batch: usize,
    length: usize,
    /// Numbers a position, and channels.
    row: usize,
    width: usize,
}

impl Sizes {
    fn of(t: &Tensor, parts: usize) -> Self {
        let size: Vec<usize> = t.size().iter().map(|&n| n as usize).collect();
        Self { batch: size[0], length: size[1], row: size[2], width: size[2] / parts }
    }

    fn pieces(&self) -> usize {
        self.batch * self.width.div_ceil(PIECE)
    }

    /// Row of the batch, first channel, and how many.
    fn piece(&self, piece: usize) -> (usize, usize, usize) {
        let each = self.width.div_ceil(PIECE);
        let from = piece % each * PIECE;
        (piece / each, from, PIECE.min(self.width - from))
    }

    /// Where the channels from `from` on lie at position `t`; `part` is 1 for imaginary parts.
    #[inline(always)]
    fn at(&self, batch: usize, t: usize, from: usize, part: usize) -> usize {
        (batch * self.length + t) * self.row + part * self.width + from
    }
}

fn real_forward<T: Real>(inputs: [&Tensor; 3]) -> Tensor {
    let packed = inputs.map(|t| t.detach().contiguous());
    let sizes = Sizes::of(&packed[0], 1);
    let mut h = packed[1].empty_like();
    let [a, b, initial] = packed.each_ref().map(|t| elements::<T>(t));
    let out = Shared::new(elements_mut::<T>(&mut h));
    parallel_for(sizes.pieces(), 1, |pieces| {
        pieces.for_each(|piece| real_piece([a, b, initial], &out, sizes, sizes.piece(piece)));
    });
    h
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn real_piece<T: Real>(
    [a, b, initial]: [&[T]; 3],
    out: &Shared<T>,
    sizes: Sizes,
    (batch, from, n): (usize, usize, usize),
) {
    let mut state = [T::ZERO; PIECE];
    let state = &mut state[..n];
    state.copy_from_slice(&initial[batch * sizes.width + from..][..n]);
    for t in 0..sizes.length {
        let at = sizes.at(batch, t, from, 0);
        let (a, b) = (&a[at..][..n], &b[at..][..n]);
        for i in 0..n {
            state[i] = a[i] * state[i] + b[i];
        }
        // SAFETY: pieces and positions do not overlap, and the tensor is alive and read by nobody else.
        unsafe { out.part(at, n) }.copy_from_slice(state);
    }
}

/// Gradients of a, b and the initial h.
fn real_backward<T: Real>(inputs: [&Tensor; 4]) -> [Tensor; 3] {
    let packed = inputs.map(|t| t.detach().contiguous());
    let sizes = Sizes::of(&packed[0], 1);
    let mut found = [packed[0].empty_like(), packed[0].empty_like(), packed[2].empty_like()];
    let read = packed.each_ref().map(|t| elements::<T>(t));
    let into = found.each_mut().map(|t| Shared::new(elements_mut::<T>(t)));
    parallel_for(sizes.pieces(), 1, |pieces| {
        pieces.for_each(|piece| real_piece_back(read, &into, sizes, sizes.piece(piece)));
    });
    found
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn real_piece_back<T: Real>(
    [a, h, initial, grad]: [&[T]; 4],
    into: &[Shared<T>; 3],
    sizes: Sizes,
    (batch, from, n): (usize, usize, usize),
) {
    let mut state = [T::ZERO; PIECE];
    let g = &mut state[..n];
    let start = batch * sizes.width + from;
    for t in (0..sizes.length).rev() {
        let at = sizes.at(batch, t, from, 0);
        let before = if t == 0 { &initial[start..][..n] } else { &h[sizes.at(batch, t - 1, from, 0)..][..n] };
        let (a, grad) = (&a[at..][..n], &grad[at..][..n]);
        // SAFETY: pieces and positions do not overlap, and the tensors are alive and read by nobody else.
        let (da, db) = unsafe { (into[0].part(at, n), into[1].part(at, n)) };
        for i in 0..n {
            let here = g[i] + grad[i];
            da[i] = here * before[i];
            db[i] = here;
            g[i] = a[i] * here;
        }
    }
    // SAFETY: as above.
    unsafe { into[2].part(start, n) }.copy_from_slice(g);
}

fn complex_forward<T: Real>(inputs: [&Tensor; 2]) -> Tensor {
    let packed = inputs.map(|t| t.detach().contiguous());
    let sizes = Sizes::of(&packed[1], 2);
    let mut h = packed[1].empty_like();
    let [lambda, b] = packed.each_ref().map(|t| elements::<T>(t));
    let out = Shared::new(elements_mut::<T>(&mut h));
    parallel_for(sizes.pieces(), 1, |pieces| {
        pieces.for_each(|piece| complex_piece([lambda, b], &out, sizes, sizes.piece(piece)));
    });
    h
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn complex_piece<T: Real>(
    [lambda, b]: [&[T]; 2],
    out: &Shared<T>,
    sizes: Sizes,
    (batch, from, n): (usize, usize, usize),
) {
    let mut state = [[T::ZERO; PIECE]; 2];
    let [re, im] = &mut state;
    let (re, im) = (&mut re[..n], &mut im[..n]);
    let (l_re, l_im) = (&lambda[from..][..n], &lambda[sizes.width + from..][..n]);
    for t in 0..sizes.length {
        let [at, at_im] = [0, 1].map(|part| sizes.at(batch, t, from, part));
        let (b_re, b_im) = (&b[at..][..n], &b[at_im..][..n]);
        for i in 0..n {
            let (x, y) = (re[i], im[i]);
            re[i] = l_re[i] * x - l_im[i] * y + b_re[i];
            im[i] = l_re[i] * y + l_im[i] * x + b_im[i];
        }
        // SAFETY: pieces, parts and positions do not overlap, and the tensor is alive and read by nobody else.
        unsafe {
            out.part(at, n).copy_from_slice(re);
            out.part(at_im, n).copy_from_slice(im);
        }
    }
}

/// Gradients of λ and b.
fn complex_backward<T: Real>(inputs: [&Tensor; 3]) -> [Tensor; 2] {
    let packed = inputs.map(|t| t.detach().contiguous());
    let sizes = Sizes::of(&packed[1], 2);
    let by_row = [sizes.batch as i64, sizes.row as i64];
    let mut found = [Tensor::zeros(by_row, (T::KIND, packed[1].device())), packed[1].empty_like()];
    let read = packed.each_ref().map(|t| elements::<T>(t));
    let into = found.each_mut().map(|t| Shared::new(elements_mut::<T>(t)));
    parallel_for(sizes.pieces(), 1, |pieces| {
        pieces.for_each(|piece| complex_piece_back(read, &into, sizes, sizes.piece(piece)));
    });
    let [of_lambda, of_b] = found;
    [of_lambda.sum_dim_intlist([0].as_slice(), false, T::KIND), of_b]
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn complex_piece_back<T: Real>(
    [lambda, h, grad]: [&[T]; 3],
    into: &[Shared<T>; 2],
    sizes: Sizes,
    (batch, from, n): (usize, usize, usize),
) {
    let mut state = [[T::ZERO; PIECE]; 4];
    let [re, im, sum_re, sum_im] = &mut state;
    let (l_re, l_im) = (&lambda[from..][..n], &lambda[sizes.width + from..][..n]);
    for t in (0..sizes.length).rev() {
        let [at, at_im] = [0, 1].map(|part| sizes.at(batch, t, from, part));
        let (grad_re, grad_im) = (&grad[at..][..n], &grad[at_im..][..n]);
        // SAFETY: pieces, parts and positions do not overlap, and the tensor is alive and read by nobody else.
        let (db_re, db_im) = unsafe { (into[1].part(at, n), into[1].part(at_im, n)) };
        for i in 0..n {
            db_re[i] = re[i] + grad_re[i];
            db_im[i] = im[i] + grad_im[i];
            re[i] = l_re[i] * db_re[i] + l_im[i] * db_im[i];
            im[i] = l_re[i] * db_im[i] - l_im[i] * db_re[i];
        }
        if t > 0 {
            let [before, before_im] = [0, 1].map(|part| sizes.at(batch, t - 1, from, part));
            let (h_re, h_im) = (&h[before..][..n], &h[before_im..][..n]);
            for i in 0..n {
                sum_re[i] += db_re[i] * h_re[i] + db_im[i] * h_im[i];
                sum_im[i] += db_im[i] * h_re[i] - db_re[i] * h_im[i];
            }
        }
    }
    // SAFETY: as above.
    unsafe {
        into[0].part(batch * sizes.row + from, n).copy_from_slice(&sum_re[..n]);
        into[0].part(batch * sizes.row + sizes.width + from, n).copy_from_slice(&sum_im[..n]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::{assert_twins, noise};

    #[test]
    fn the_real_scan_is_the_recurrence_in_values_and_gradients() {
        for (length, width) in [(1, 1), (2, 3), (17, 5), (64, 70), (33, 64)] {
            let leaf = |shape: &[i64], salt| noise(shape, salt).set_requires_grad(true);
            let [a, b] = [1, 2].map(|salt| leaf(&[2, length, width], salt));
            let initial = leaf(&[2, width], 3);
            let slow = || {
                let mut h = initial.shallow_clone();
                let mut outputs = Vec::new();
                for t in 0..length {
                    h = a.select(1, t) * h + b.select(1, t);
                    outputs.push(h.shallow_clone());
                }
                Tensor::stack(&outputs, 1)
            };
            let leaves = [&a, &b, &initial];
            assert_twins(&real(&a, &b, &initial), &slow(), &leaves, 1e-12, &format!("{length} by {width}"));
            let fast = by_pairs(&a, &begun(&a, &b, &initial));
            assert_twins(&fast, &slow(), &leaves, 1e-12, &format!("by pairs, {length} by {width}"));
        }
    }

    #[test]
    fn the_complex_scan_is_the_recurrence_in_values_and_gradients() {
        for (length, width) in [(2, 1), (17, 5), (64, 70), (33, 64)] {
            let lambda = (noise(&[2 * width], 1) * 0.7).set_requires_grad(true);
            let b = noise(&[2, length, 2 * width], 2).set_requires_grad(true);
            let slow = || {
                let (l_re, l_im) = (lambda.narrow(0, 0, width), lambda.narrow(0, width, width));
                let zero = Tensor::zeros([2, width], (tch::Kind::Double, tch::Device::Cpu));
                let (mut re, mut im) = (zero.shallow_clone(), zero);
                let mut outputs = Vec::new();
                for t in 0..length {
                    let (b_re, b_im) = (b.select(1, t).narrow(1, 0, width), b.select(1, t).narrow(1, width, width));
                    (re, im) = (&l_re * &re - &l_im * &im + b_re, &l_re * &im + &l_im * &re + b_im);
                    outputs.push(Tensor::cat(&[&re, &im], 1));
                }
                Tensor::stack(&outputs, 1)
            };
            let case = format!("{length} by {width}");
            assert_twins(&complex(&lambda, &b), &slow(), &[&lambda, &b], 1e-12, &case);
            assert_twins(&complex_by_pairs(&lambda, &b), &slow(), &[&lambda, &b], 1e-12, &format!("by pairs, {case}"));
        }
    }
}
