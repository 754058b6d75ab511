//! Short depthwise convolution: each channel has a filter of a few taps of its own.
//!
//! ```text
//! y[t, c] = bias[c] + Σ_k weight[c, k] x[t + k - left, c]        zeros outside;  then SiLU where asked
//! ```
//! `x` is `[batch, length, channels]` and packed, `weight` `[channels, 1, width]`, `bias` `[channels]`, as in PyTorch's
//! `Conv1d(groups=channels)`; `left` is `width / 2` where the filter is centred and `width - 1` where it is causal.
//!
//! Time     O(length · channels · width); memory bound, since neighbours in memory are neighbouring channels
//! Memory   nothing besides `x` is kept for the backward, which computes what SiLU saw again
//!
//! libtorch's own depthwise convolution, the plain twin, takes tens of times what the bytes allow on a CPU.

use crate::math::real::{Real, by_kind};
use crate::native::kernels::native_for;
use crate::native::{Backward, Shared, attach, elements, elements_mut, parallel_for};
use multiversion::multiversion;
use tch::Tensor;

/// Positions that one piece of a parallel loop takes.
const PIECE: usize = 128;
/// Channels that the backward works on at a time, so that a piece stays in the first cache.
const BLOCK: usize = 64;

/// Centred on each position; the width is odd.
pub fn convolve(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    Depthwise::centred(weight, false).apply(x, weight, bias)
}

/// Reads the position itself and those before it.
pub fn convolve_causal(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    Depthwise::causal(weight, false).apply(x, weight, bias)
}

/// Where the filter lies, and whether SiLU follows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Depthwise {
    left: usize,
    silu: bool,
}

impl Depthwise {
    pub(crate) fn centred(weight: &Tensor, silu: bool) -> Self {
        let width = weight.size()[2] as usize;
        assert!(width % 2 == 1, "a centred filter has an odd width, not {width}");
        Self { left: width / 2, silu }
    }

    pub(crate) fn causal(weight: &Tensor, silu: bool) -> Self {
        Self { left: weight.size()[2] as usize - 1, silu }
    }

    /// With a graph.
    pub(crate) fn apply(self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
        struct Op(Depthwise);

        impl Backward for Op {
            fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
                let [x, weight, bias] = saved else { panic!("three tensors were kept") };
                let Some(grad) = &grads[0] else { return vec![None, None, None] };
                self.0.backward(x, weight, bias, grad).map(Some).into()
            }
        }

        if !native_for(x) {
            return self.plain(x, weight, bias);
        }
        let y = self.forward(x, weight, bias);
        attach(Op(self), &[x, weight, bias], &[&y], &[x, weight, bias]);
        y
    }

    /// libtorch's convolution, on any device.
    fn plain(self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
        let (channels, width, left) = (weight.size()[0], weight.size()[2], self.left as i64);
        let padded = x.transpose(1, 2).constant_pad_nd([left, width - 1 - left]);
        let y = padded.conv1d(weight, Some(bias), 1, 0, 1, channels).transpose(1, 2);
        if self.silu { y.silu() } else { y }
    }

    /// Without a graph.
    pub(crate) fn forward(self, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
        fn run<T: Real>(op: Depthwise, x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
            let sizes = Sizes::of(x, weight);
            let mut y = x.empty_like();
            let (x, taps, bias) = (elements::<T>(x), elements::<T>(weight), elements::<T>(bias));
            let out = Shared::new(elements_mut::<T>(&mut y));
            parallel_for(sizes.pieces(), 1, |pieces| {
                for (row, from, to) in pieces.map(|p| sizes.piece(p)) {
                    let (start, n) = ((row * sizes.length + from) * sizes.channels, (to - from) * sizes.channels);
                    // SAFETY: pieces do not overlap, and `y` is alive and read by nobody else.
                    let y = unsafe { out.part(start, n) };
                    forward_piece(sizes.row(x, row), taps, bias, y, (from, to), &sizes, op);
                }
            });
            y
        }
        tch::no_grad(|| {
            let (x, weight, bias) = (x.detach().contiguous(), by_tap(weight), bias.detach().contiguous());
            by_kind!(x.kind(), run(self, &x, &weight, &bias))
        })
    }

    /// Gradients of `x`, `weight` and `bias`.
    pub(crate) fn backward(self, x: &Tensor, weight: &Tensor, bias: &Tensor, grad: &Tensor) -> [Tensor; 3] {
        fn run<T: Real>(op: Depthwise, x: &Tensor, weight: &Tensor, bias: &Tensor, grad: &Tensor) -> [Tensor; 3] {
            let sizes = Sizes::of(x, weight);
            let (width, channels) = (sizes.width, sizes.channels);
            let mut dx = x.empty_like();
            // Of the taps and, last, of the bias: one set a piece, added up in the end.
            let mut partial =
                Tensor::zeros([sizes.pieces() as i64, width as i64 + 1, channels as i64], (T::KIND, x.device()));
            let (x, taps, bias, grad) =
                (elements::<T>(x), elements::<T>(weight), elements::<T>(bias), elements::<T>(grad));
            let into = Shared::new(elements_mut::<T>(&mut dx));
            let sums = Shared::new(elements_mut::<T>(&mut partial));
            parallel_for(sizes.pieces(), 1, |pieces| {
                for piece in pieces {
                    let (row, from, to) = sizes.piece(piece);
                    let (start, n) = ((row * sizes.length + from) * channels, (to - from) * channels);
                    // SAFETY: pieces do not overlap, and both tensors are alive and read by nobody else.
                    let (dx, sums) = unsafe {
                        (into.part(start, n), sums.part(piece * (width + 1) * channels, (width + 1) * channels))
                    };
                    let read = (sizes.row(x, row), taps, bias, sizes.row(grad, row));
                    backward_piece(read, (dx, sums), (from, to), &sizes, op);
                }
            });
            let sums = partial.sum_dim_intlist([0].as_slice(), false, T::KIND);
            let weight = sums.narrow(0, 0, width as i64).transpose(0, 1).unsqueeze(1).contiguous();
            [dx, weight, sums.select(0, width as i64).contiguous()]
        }
        tch::no_grad(|| {
            let (x, weight, bias) = (x.detach().contiguous(), by_tap(weight), bias.detach().contiguous());
            by_kind!(x.kind(), run(self, &x, &weight, &bias, &grad.contiguous()))
        })
    }
}

/// `[channels, 1, width]` → `[width, channels]`, packed.
fn by_tap(weight: &Tensor) -> Tensor {
    weight.detach().squeeze_dim(1).transpose(0, 1).contiguous()
}

struct Sizes {
    batch: usize,
    length: usize,
    channels: usize,
    width: usize,
}

impl Sizes {
    fn of(x: &Tensor, taps: &Tensor) -> Self {
        let &[batch, length, channels] = x.size().as_slice() else {
            panic!("depthwise: x must be [batch, length, channels], not {:?}", x.size())
        };
        assert_eq!(taps.size()[1], channels, "depthwise: one filter a channel");
        let [batch, length, channels] = [batch, length, channels].map(|n| n as usize);
        Self { batch, length, channels, width: taps.size()[0] as usize }
    }

    fn pieces(&self) -> usize {
        self.batch * self.length.div_ceil(PIECE)
    }

    /// Row, first position, and the one past the last.
    fn piece(&self, piece: usize) -> (usize, usize, usize) {
        let each = self.length.div_ceil(PIECE);
        let from = piece % each * PIECE;
        (piece / each, from, (from + PIECE).min(self.length))
    }

    fn row<'a, T>(&self, x: &'a [T], row: usize) -> &'a [T] {
        let n = self.length * self.channels;
        &x[row * n..(row + 1) * n]
    }
}

/// `y += a x`, entry by entry.
#[inline(always)]
fn add_product<T: Real>(y: &mut [T], a: &[T], x: &[T]) {
    let n = y.len();
    let (a, x) = (&a[..n], &x[..n]);
    for i in 0..n {
        y[i] += a[i] * x[i];
    }
}

/// The sum over the taps at position `t`, for the channels `at ..` that fit in `y`.
#[inline(always)]
fn taps_at<T: Real>(y: &mut [T], x: &[T], taps: &[T], bias: &[T], (t, at): (usize, usize), sizes: &Sizes, left: usize) {
    y.copy_from_slice(&bias[at..at + y.len()]);
    for k in 0..sizes.width {
        if let Some(s) = (t + k).checked_sub(left).filter(|s| *s < sizes.length) {
            add_product(y, &taps[k * sizes.channels + at..], &x[s * sizes.channels + at..]);
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn forward_piece<T: Real>(
    x: &[T],
    taps: &[T],
    bias: &[T],
    y: &mut [T],
    range: (usize, usize),
    sizes: &Sizes,
    op: Depthwise,
) {
    for (t, y) in (range.0..range.1).zip(y.chunks_exact_mut(sizes.channels)) {
        taps_at(y, x, taps, bias, (t, 0), sizes, op.left);
        if op.silu {
            for y in y.iter_mut() {
                *y = *y * y.sigmoid();
            }
        }
    }
}

/// `read` is a row of x, the taps, the bias and a row of the gradient; `written` dx of this piece and its sums.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn backward_piece<T: Real>(
    read: (&[T], &[T], &[T], &[T]),
    written: (&mut [T], &mut [T]),
    range: (usize, usize),
    sizes: &Sizes,
    op: Depthwise,
) {
    let ((x, taps, bias, grad), (dx, sums)) = (read, written);
    let ((from, to), channels, width) = (range, sizes.channels, sizes.width);
    // Outputs that read a position of this piece.
    let first = (from + op.left + 1).saturating_sub(width);
    let end = (to + op.left).min(sizes.length);
    let mut g = vec![T::ZERO; (end - first) * BLOCK];
    let mut before = [T::ZERO; BLOCK];
    for at in (0..channels).step_by(BLOCK) {
        let block = BLOCK.min(channels - at);
        // The gradient in front of SiLU.
        for t in first..end {
            let g = &mut g[(t - first) * BLOCK..][..block];
            g.copy_from_slice(&grad[t * channels + at..][..block]);
            if op.silu {
                let before = &mut before[..block];
                taps_at(before, x, taps, bias, (t, at), sizes, op.left);
                for i in 0..block {
                    let open = before[i].sigmoid();
                    g[i] = g[i] * open * (T::ONE + before[i] * (T::ONE - open));
                }
            }
        }
        for s in from..to {
            let dx = &mut dx[(s - from) * channels + at..][..block];
            dx.fill(T::ZERO);
            for k in 0..width {
                if let Some(t) = (s + op.left).checked_sub(k).filter(|t| *t < sizes.length) {
                    add_product(dx, &taps[k * channels + at..], &g[(t - first) * BLOCK..]);
                }
            }
        }
        for t in from..to {
            let g = &g[(t - first) * BLOCK..][..block];
            for k in 0..width {
                if let Some(s) = (t + k).checked_sub(op.left).filter(|s| *s < sizes.length) {
                    add_product(&mut sums[k * channels + at..][..block], g, &x[s * channels + at..]);
                }
            }
            let bias = &mut sums[width * channels + at..][..block];
            for i in 0..block {
                bias[i] += g[i];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::noise;
    use tch::Kind;

    fn gradients(y: &Tensor, leaves: &[Tensor]) -> Vec<Tensor> {
        let cotangent = noise(&y.size(), 9).to_kind(y.kind());
        Tensor::run_backward(&[(y * cotangent).sum(y.kind())], leaves, false, false)
    }

    /// `y_t = bias + Σ_k weight_k x_{t + k - left}`, zeros outside, as the formula stands.
    fn shifted_products(x: &Tensor, weight: &Tensor, bias: &Tensor, left: i64) -> Tensor {
        let (length, width) = (x.size()[1], weight.size()[2]);
        let padded = x.constant_pad_nd([0, 0, left, width - 1 - left]);
        (0..width)
            .fold(bias + x.zeros_like(), |y, k| y + padded.narrow(1, k, length) * weight.select(2, k).squeeze_dim(1))
    }

    #[test]
    fn the_kernel_is_its_plain_twins_in_values_and_gradients() {
        for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 3e-5)] {
            for (length, width, channels) in
                [(1, 7, 3), (5, 7, 10), (20, 3, 64), (9, 1, 5), (300, 7, 70), (129, 4, 17), (3, 4, 5)]
            {
                for (causal, silu) in [(false, false), (false, true), (true, false), (true, true)] {
                    if !causal && width % 2 == 0 {
                        continue;
                    }
                    let leaf = |shape: &[i64], salt| noise(shape, salt).to_kind(kind).set_requires_grad(true);
                    let leaves =
                        [leaf(&[2, length, channels], 1), leaf(&[channels, 1, width], 2), leaf(&[channels], 3)];
                    let [x, weight, bias] = &leaves;
                    let op = if causal { Depthwise::causal(weight, silu) } else { Depthwise::centred(weight, silu) };
                    let left = if causal { width - 1 } else { width / 2 };
                    let fast = op.apply(x, weight, bias);
                    let products = shifted_products(x, weight, bias, left);
                    let case = format!("{length} by {width} by {channels}, causal {causal}, silu {silu}, {kind:?}");
                    for slow in [op.plain(x, weight, bias), if silu { products.silu() } else { products }] {
                        assert!(fast.allclose(&slow, tolerance, tolerance, false), "values, {case}");
                        let slow = gradients(&slow, &leaves);
                        for (i, (fast, slow)) in
                            gradients(&op.apply(x, weight, bias), &leaves).iter().zip(slow).enumerate()
                        {
                            let error = crate::laws::goldens::relative_error(fast, &slow);
                            assert!(error < tolerance, "gradient {i} is {error:.1e} off, {case}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn the_public_functions_are_centred_and_causal() {
        let [x, weight, bias] = [noise(&[1, 6, 2], 1), noise(&[2, 1, 3], 2), noise(&[2], 3)];
        let same = |a: Tensor, b: Tensor| a.allclose(&b, 1e-13, 1e-13, false);
        assert!(same(convolve(&x, &weight, &bias), shifted_products(&x, &weight, &bias, 1)));
        assert!(same(convolve_causal(&x, &weight, &bias), shifted_products(&x, &weight, &bias, 2)));
    }
}
