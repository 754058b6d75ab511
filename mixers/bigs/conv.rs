//! The convolution of every channel with one kernel, `y[t] = Σ_s k[t-s] σ(x[s])`, or over the future, `k[s-t]`.
//!
//! Fast on a CPU in float32 and float64: one pass from rows of the input to rows of the output (`fft.rs`), with a backward that
//! keeps the input and the kernel and nothing else; spectra and σ(x) are made again. The plain twin is libtorch's FFT.
//!
//! Padding  positions past `lengths` are read as zeros; what is written there is the tail of the convolution, as it is without
//!          the fast path.

use super::fft::{CHANNELS, Plan, Real, Row, correlate, multiply};
use crate::math::conv::{fft_conv, fft_conv_anticausal};
use crate::native::kernels::native_for;
use crate::native::{Backward, Shared, attach, elements, elements_mut, parallel_for, worked};
use crate::{Context, native};
use tch::{Kind, Tensor};

/// Which end of the sequence is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Side {
    /// `s ≤ t`.
    Past,
    /// `s ≥ t`.
    Future,
}

/// Sums of the kernel's gradient that are kept apart: a limit on the threads that work on it, and on memory.
const GROUPS: usize = 16;

/// `σ` before the convolution: GELU by its `approximate` argument, or nothing.
pub(super) type Activation = Option<&'static str>;

/// `x` `[batch, length, channels]`, `k` `[length]` → `[batch, length, channels]`.
pub(super) fn convolve(x: &Tensor, k: &Tensor, side: Side, act: Activation, ctx: &Context) -> Tensor {
    if !native_for(x) {
        return plain(x, k, side, act, ctx);
    }
    let op = Convolution { side, act, lengths: ctx.lengths.as_ref().and_then(|l| Vec::try_from(l).ok()) };
    let y = tch::no_grad(|| op.run(&activate(x, act), k));
    attach(op, &[x, k], &[&y], &[x, k]);
    y
}

/// The same by libtorch's operations.
pub(super) fn plain(x: &Tensor, k: &Tensor, side: Side, act: Activation, ctx: &Context) -> Tensor {
    let u = ctx.zero_padding(&activate(x, act)).transpose(1, 2);
    match side {
        Side::Past => fft_conv(&u, k),
        Side::Future => fft_conv_anticausal(&u, k),
    }
    .transpose(1, 2)
}

fn activate(x: &Tensor, act: Activation) -> Tensor {
    act.map_or_else(|| x.shallow_clone(), |approximate| x.gelu(approximate))
}

/// What the backward knows besides tensors.
struct Convolution {
    side: Side,
    act: Activation,
    /// Valid positions of each row.
    lengths: Option<Vec<i64>>,
}

impl Backward for Convolution {
    fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
        let [x, k] = [&saved[0], &saved[1]];
        let Some(grad) = &grads[0] else { return vec![None, None] };
        let u = activate(x, self.act);
        let (gu, gk) = match x.kind() {
            Kind::Float => self.gradients::<f32>(&u, k, grad),
            _ => self.gradients::<f64>(&u, k, grad),
        };
        let gx = match self.act {
            None => gu,
            Some(approximate) => x.gelu_backward(&gu, approximate),
        };
        vec![Some(gx), Some(gk)]
    }
}

impl Convolution {
    fn run(&self, u: &Tensor, k: &Tensor) -> Tensor {
        match u.kind() {
            Kind::Float => self.values::<f32>(u, k),
            _ => self.values::<f64>(u, k),
        }
    }

    fn shape(&self, u: &Tensor) -> Shape<'_> {
        let size = u.size();
        Shape {
            length: size[1] as usize,
            channels: size[2] as usize,
            pieces: size[0] as usize * (size[2] as usize).div_ceil(CHANNELS),
            lengths: self.lengths.as_deref(),
        }
    }

    fn values<T: Real>(&self, u: &Tensor, k: &Tensor) -> Tensor {
        let (u, shape) = (u.contiguous(), self.shape(u));
        let mut y = u.empty_like();
        let kernel = Spectrum::<T>::of(k, shape.length, self.side == Side::Future);
        let (from, to) = (elements::<T>(&u), Shared::new(elements_mut::<T>(&mut y)));
        // Two complex transforms of a pair of channels, and the kernel's.
        let transform = 5.0 * kernel.n as f64 * (kernel.n as f64).log2();
        worked((shape.pieces * CHANNELS) as f64 * (transform + 3.0 * kernel.n as f64) + transform / 2.0);
        parallel_for(shape.pieces, 1, |pieces| {
            let mut rows = vec![Row::<T>::default(); kernel.n];
            for piece in pieces {
                shape.gather(piece, shape.valid(piece), from, &mut rows);
                kernel.plan.forward(&mut rows);
                multiply(&mut rows, &kernel.values);
                kernel.plan.inverse(&mut rows);
                // SAFETY: pieces write different positions or channels, and nothing reads `y` meanwhile.
                unsafe { shape.scatter(piece, shape.length, &rows, &to) };
            }
        });
        y
    }

    /// Gradients of `u`, zero at padded positions, and of `k`.
    fn gradients<T: Real>(&self, u: &Tensor, k: &Tensor, grad: &Tensor) -> (Tensor, Tensor) {
        let (u, grad, shape) = (u.contiguous(), grad.contiguous(), self.shape(u));
        let mut gu = if self.lengths.is_some() { u.zeros_like() } else { u.empty_like() };
        let kernel = Spectrum::<T>::of(k, shape.length, self.side == Side::Past);
        // Each group of pieces has its own sum: added up in a fixed order, whatever the threads do.
        let groups = shape.pieces.min(GROUPS);
        let mut sums = vec![Row::<T>::default(); groups * kernel.n];
        let (u, grad) = (elements::<T>(&u), elements::<T>(&grad));
        let (to, shared_sums) = (Shared::new(elements_mut::<T>(&mut gu)), Shared::new(&mut sums));
        parallel_for(groups, 1, |range| {
            let (mut x, mut g) = (vec![Row::<T>::default(); kernel.n], vec![Row::<T>::default(); kernel.n]);
            for group in range {
                // SAFETY: each group has a part of its own.
                let sum = unsafe { shared_sums.part(group * kernel.n, kernel.n) };
                for piece in (group..shape.pieces).step_by(groups) {
                    shape.gather(piece, shape.valid(piece), u, &mut x);
                    shape.gather(piece, shape.length, grad, &mut g);
                    kernel.plan.forward(&mut x);
                    kernel.plan.forward(&mut g);
                    match self.side {
                        Side::Past => correlate(&x, &g, sum),
                        Side::Future => correlate(&g, &x, sum),
                    }
                    multiply(&mut g, &kernel.values);
                    kernel.plan.inverse(&mut g);
                    // SAFETY: as in `values`.
                    unsafe { shape.scatter(piece, shape.valid(piece), &g, &to) };
                }
            }
        });
        (gu, kernel.gradient(&sums, k).to_kind(k.kind()).view_as(k))
    }
}

/// Where pieces of sixteen channels of one sequence lie.
struct Shape<'a> {
    length: usize,
    channels: usize,
    pieces: usize,
    lengths: Option<&'a [i64]>,
}

impl Shape<'_> {
    /// First element of the piece's first row, and how many of its sixteen channels there are.
    fn place(&self, piece: usize) -> (usize, usize) {
        let blocks = self.channels.div_ceil(CHANNELS);
        let first = piece % blocks * CHANNELS;
        (piece / blocks * self.length * self.channels + first, CHANNELS.min(self.channels - first))
    }

    /// Valid positions of the piece's sequence.
    fn valid(&self, piece: usize) -> usize {
        let row = piece / self.channels.div_ceil(CHANNELS);
        self.lengths.map_or(self.length, |l| (l[row].max(0) as usize).min(self.length))
    }

    /// The first `count` positions of a piece, zeros after them.
    fn gather<T: Real>(&self, piece: usize, count: usize, from: &[T], rows: &mut [Row<T>]) {
        let (start, width) = self.place(piece);
        let (read, rest) = rows.split_at_mut(count);
        for (t, row) in read.iter_mut().enumerate() {
            let at = start + t * self.channels;
            if width == CHANNELS {
                row.as_flattened_mut().copy_from_slice(&from[at..at + CHANNELS]);
            } else {
                *row = Default::default();
                row.as_flattened_mut()[..width].copy_from_slice(&from[at..at + width]);
            }
        }
        rest.fill(Default::default());
    }

    /// Writes the first `count` positions of a piece.
    ///
    /// # Safety
    /// No other thread holds these elements of `to`.
    unsafe fn scatter<T: Real>(&self, piece: usize, count: usize, rows: &[Row<T>], to: &Shared<T>) {
        let (start, width) = self.place(piece);
        for (t, row) in rows[..count].iter().enumerate() {
            // SAFETY: the caller's promise; the part is checked to lie inside.
            let out = unsafe { to.part(start + t * self.channels, width) };
            out.copy_from_slice(&row.as_flattened()[..width]);
        }
    }
}

/// The kernel by frequency, over the number of rows: a product of it needs no scaling after the inverse.
struct Spectrum<T> {
    n: usize,
    length: usize,
    plan: Plan<T>,
    values: Vec<[T; 2]>,
}

impl<T: Real> Spectrum<T> {
    /// Of `k` `[length]`, or its conjugate; nothing of a convolution over `length` positions wraps around.
    fn of(k: &Tensor, length: usize, conjugate: bool) -> Self {
        let n = Plan::<T>::size(2 * length - 1);
        let plan = Plan::new(n);
        let k = k.to_kind(T::KIND).contiguous();
        let mut rows = vec![Row::<T>::default(); n];
        let scale = T::of(1.0 / n as f64);
        for (row, k) in rows.iter_mut().zip(elements::<T>(&k)) {
            row[0][0] = *k * scale;
        }
        plan.forward(&mut rows);
        let side = |im: T| if conjugate { T::default() - im } else { im };
        Self { n, length, plan, values: rows.iter().map(|[re, im]| [re[0], side(im[0])]).collect() }
    }

    /// The gradient of the kernel `k` from the correlations of all groups.
    fn gradient(&self, sums: &[Row<T>], k: &Tensor) -> Tensor {
        let mut rows = vec![Row::<T>::default(); self.n];
        for group in sums.chunks_exact(self.n) {
            for (row, sum) in rows.iter_mut().zip(group) {
                for (total, part) in row.iter_mut().zip(sum) {
                    total[0] = part.iter().fold(total[0], |a, b| a + *b);
                }
            }
        }
        self.plan.inverse(&mut rows);
        let scale = T::of(1.0 / self.n as f64);
        let mut gradient = Tensor::zeros([self.length as i64], (T::KIND, k.device()));
        for (out, row) in native::elements_mut::<T>(&mut gradient).iter_mut().zip(&rows) {
            *out = row[0][0] * scale;
        }
        gradient
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::goldens::relative_error;

    /// Values and gradients of a fixed functional, in the kind asked for.
    fn run(f: fn(&Tensor, &Tensor, Side, Activation, &Context) -> Tensor, case: &Case, kind: Kind) -> Vec<Tensor> {
        let leaf = |t: &Tensor| t.to_kind(kind).set_requires_grad(true);
        let (x, k) = (leaf(&case.x), leaf(&case.k));
        let ctx = Context { train: true, lengths: case.lengths.map(|l| Tensor::from_slice(&l)), ..Context::default() };
        let y = f(&x, &k, case.side, case.act, &ctx);
        let probe = (Tensor::arange(y.numel() as i64, (Kind::Double, x.device())) * 0.37).sin().view_as(&y);
        (&y * probe.to_kind(kind)).sum(kind).backward();
        vec![y.detach(), x.grad(), k.grad()]
    }

    struct Case {
        x: Tensor,
        k: Tensor,
        side: Side,
        act: Activation,
        lengths: Option<[i64; 2]>,
    }

    fn cases() -> Vec<Case> {
        let mut cases = Vec::new();
        for (length, channels) in [(1, 1), (2, 16), (5, 17), (31, 40), (96, 3), (700, 16)] {
            for side in [Side::Past, Side::Future] {
                for act in [None, Some("none"), Some("tanh")] {
                    for lengths in [None, Some([length, length / 2])] {
                        let salt = cases.len() as i64;
                        let x = crate::laws::testing::noise(&[2, length, channels], salt);
                        let k = crate::laws::testing::noise(&[length], salt + 100);
                        cases.push(Case { x, k, side, act, lengths });
                    }
                }
            }
        }
        cases
    }

    #[test]
    fn the_fast_convolution_is_the_plain_one_in_values_and_gradients() {
        for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 2e-5)] {
            for case in cases() {
                let (fast, slow) = (run(convolve, &case, kind), run(plain, &case, kind));
                for (what, (fast, slow)) in ["y", "dx", "dk"].iter().zip(fast.iter().zip(&slow)) {
                    let error = relative_error(fast, slow);
                    let Case { x, side, act, lengths, .. } = &case;
                    assert!(error < tolerance, "{what} {error:.1e}: {x:?} {side:?} {act:?} {lengths:?} {kind:?}");
                }
            }
        }
    }

    #[test]
    fn the_gradients_do_not_depend_on_the_threads() {
        let case = &Case {
            x: crate::laws::testing::noise(&[2, 300, 64], 1),
            k: crate::laws::testing::noise(&[300], 2),
            side: Side::Past,
            act: Some("none"),
            lengths: None,
        };
        let first = run(convolve, case, Kind::Float);
        for _ in 0..5 {
            assert!(run(convolve, case, Kind::Float).iter().zip(&first).all(|(a, b)| a.equal(b)));
        }
    }
}
