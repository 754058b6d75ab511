//! Long convolutions by FFT, and kernels that are sums of exponentials.
//!
//! ```text
//! causal         y[t] = Σ_{s ≤ t} k[t-s] u[s]
//! anticausal     y[t] = Σ_{s ≥ t} k[s-t] u[s]
//! bidirectional  y[t] = Σ_{s ≤ t} k0[t-s] u[s] + Σ_{s > t} k1[s-t-1] u[s]
//! exponential    k[l] = Re Σ_n w_n exp(λ_n l)
//! ```
//! Time lies on the last axis, leading axes broadcast. A kernel shorter than the input is zero past its end; of a longer
//! one only the first `length` entries are read. The transform is padded until nothing wraps around.
//!
//! Time     O(length log length) a convolution, O(n · length) multiply-adds but only O(n · √length) exponentials a kernel
//! Memory   A convolution keeps its input and its kernel, both real; the spectra, twice as long, are made again in the
//!          backward, a few rows of the batch at a time

use crate::native::kernels::piece;
use crate::native::{Backward, attach};
use tch::{Kind, Tensor, no_grad};

/// `y[t] = Σ_{s ≤ t} k[t-s] u[s]`: `u` `[…, length]`, `k` `[…, kernel length]` → `[…, length]`.
pub fn fft_conv(u: &Tensor, k: &Tensor) -> Tensor {
    one_sided(u, k, Side::Past)
}

/// `y[t] = Σ_{s ≥ t} k[s-t] u[s]`, the causal convolution of the reversed sequence read backwards.
pub fn fft_conv_anticausal(u: &Tensor, k: &Tensor) -> Tensor {
    one_sided(u, k, Side::Future)
}

/// `y[t] = Σ_{s ≤ t} k0[t-s] u[s] + Σ_{s > t} k1[s-t-1] u[s]`: S4's two-sided kernel, whose backward side starts at the
/// next position with `k1[0]`.
pub fn fft_conv_bidirectional(u: &Tensor, k0: &Tensor, k1: &Tensor) -> Tensor {
    let length = last(u);
    let (k0, k1) = (cut(k0, length), cut(k1, length - 1));
    let points = fast_size(length + last(&k0).max(last(&k1)));
    // Lag -1-j lives at index points-1-j of the circle.
    let gap = points - last(&k0) - last(&k1);
    let k = Tensor::cat(&[k0.constant_pad_nd([0, gap]), k1.flip([-1])], -1);
    circular(u, &k, Circle { points, side: Side::Past })
}

fn one_sided(u: &Tensor, k: &Tensor, side: Side) -> Tensor {
    let length = last(u);
    let k = cut(k, length);
    let points = fast_size(length + last(&k));
    circular(u, &k, Circle { points, side })
}

/// Which way a kernel reads.
#[derive(Clone, Copy, Debug)]
enum Side {
    /// `k[t-s]`.
    Past,
    /// `k[s-t]`: the conjugate spectrum.
    Future,
}

/// A circle long enough that `u` and `k`, padded with zeros, do not wrap around into each other.
#[derive(Clone, Copy, Debug)]
struct Circle {
    points: i64,
    side: Side,
}

/// Complex numbers of one piece's spectrum on a CPU: enough that the start of a transform does not count, few beside a run's memory.
const PIECE: i64 = 1 << 20;

/// The convolution on the circle, cut to the length of `u`. The output lies in memory as `u` does, time first or time last.
fn circular(u: &Tensor, k: &Tensor, circle: Circle) -> Tensor {
    let y = no_grad(|| circle.forward(u, k));
    attach(circle, &[u, k], &[&y], &[u, k]);
    y
}

impl Circle {
    fn forward(&self, u: &Tensor, k: &Tensor) -> Tensor {
        let spectrum = self.spectrum_of(k);
        let mut size = broadcast(&u.size(), &k.size());
        *size.last_mut().expect("time is an axis") = last(u);
        let y = like_in_memory(u, &size);
        for (from, rows) in self.pieces(u, k) {
            let part = self.back(&(self.rfft(&rows_of(u, from, rows)) * &spectrum), last(u));
            rows_of(&y, from, rows).copy_(&part);
        }
        y
    }

    /// Batch pieces `(from, rows)` of the first axis of `u`, where `k` does not have it; otherwise one, the whole.
    fn pieces(&self, u: &Tensor, k: &Tensor) -> Vec<(i64, i64)> {
        let rows = if u.dim() > k.dim() { u.size()[0] } else { return vec![(0, i64::MAX)] };
        let row = (u.numel() as i64 / rows.max(1) / last(u)).max(k.numel() as i64 / last(k)) * (self.points / 2 + 1);
        let step = (piece(u.device(), PIECE) / row).max(1);
        (0..rows).step_by(step as usize).map(|from| (from, step.min(rows - from))).collect()
    }

    fn rfft(&self, x: &Tensor) -> Tensor {
        x.contiguous().fft_rfft(self.points, -1, "backward")
    }

    /// The first `length` points of the inverse transform.
    fn back(&self, spectrum: &Tensor, length: i64) -> Tensor {
        cut(&spectrum.fft_irfft(self.points, -1, "backward"), length)
    }

    /// What multiplies the spectrum of the input.
    fn spectrum_of(&self, k: &Tensor) -> Tensor {
        let spectrum = self.rfft(k);
        match self.side {
            Side::Past => spectrum,
            Side::Future => spectrum.conj().resolve_conj(),
        }
    }
}

impl Backward for Circle {
    fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
        let [u, k] = saved else { panic!("two tensors are kept") };
        let Some(grad) = &grads[0] else { return vec![None, None] };
        let adjoint = self.spectrum_of(k).conj();
        let du = u.requires_grad().then(|| like_in_memory(u, &u.size()));
        let mut dk: Option<Tensor> = None; // a spectrum, summed over everything that `k` is shared by
        for (from, rows) in self.pieces(u, k) {
            let g = self.rfft(&rows_of(grad, from, rows));
            let part = rows_of(u, from, rows);
            if k.requires_grad() {
                let mut shared = k.size();
                *shared.last_mut().expect("time is an axis") = self.points / 2 + 1;
                let term = (&g * self.rfft(&part).conj()).sum_to_size(shared.as_slice());
                dk = Some(match dk {
                    None => term,
                    Some(mut sum) => sum.g_add_(&term),
                });
            }
            if let Some(du) = &du {
                let mut own = part.size();
                *own.last_mut().expect("time is an axis") = self.points / 2 + 1;
                rows_of(du, from, rows).copy_(&self.back(&(g * &adjoint).sum_to_size(own.as_slice()), last(u)));
            }
        }
        let dk = dk.map(|sum| match self.side {
            Side::Past => self.back(&sum, last(k)),
            Side::Future => self.back(&sum.conj(), last(k)),
        });
        vec![du, dk]
    }
}

/// An empty tensor of that size that lies in memory as `t` does: where time is not the quickest axis of `t`, it comes
/// right after the batch.
fn like_in_memory(t: &Tensor, size: &[i64]) -> Tensor {
    let mut order: Vec<usize> = (0..size.len()).collect();
    if size.len() > 2 && t.stride().last() != Some(&1) {
        let time = order.pop().expect("time is an axis");
        order.insert(1, time);
    }
    let mut stride = vec![0; size.len()];
    let mut next = 1;
    for &axis in order.iter().rev() {
        stride[axis] = next;
        next *= size[axis].max(1);
    }
    Tensor::empty_strided(size, stride.as_slice(), (t.kind(), t.device()))
}

/// `rows` entries of the first axis, or all of them.
fn rows_of(t: &Tensor, from: i64, rows: i64) -> Tensor {
    t.narrow(0, from, rows.min(t.size()[0] - from))
}

/// The size that two sizes broadcast to, their last entries aside.
fn broadcast(a: &[i64], b: &[i64]) -> Vec<i64> {
    let dim = a.len().max(b.len());
    let at = |size: &[i64], i: usize| (i + size.len()).checked_sub(dim).map_or(1, |i| size[i]);
    (0..dim).map(|i| if at(a, i) == 1 { at(b, i) } else { at(a, i) }).collect()
}

/// `k[l] = Re Σ_n w_n exp(λ_n l)` for `l` in `0..length`: complex `w` `[…, c, n]` and `lambda` `[…, n]` → real
/// `[…, c, length]`.
///
/// With `l = p·q_len + q` the sum is a product of a `[p, n]` and an `[n, q]` matrix, so only `2 √length` exponentials per
/// mode are taken and the `[…, n, length]` Vandermonde matrix is never held.
pub fn exponential_kernel(w: &Tensor, lambda: &Tensor, length: i64) -> Tensor {
    let q_len = (length as f64).sqrt().ceil().max(1.0) as i64;
    let p_len = (length + q_len - 1) / q_len;
    let steps = (real_kind(lambda.kind()), lambda.device());
    let fine = (lambda.unsqueeze(-1) * Tensor::arange(q_len, steps)).exp(); // […, n, q]
    let coarse = (lambda.unsqueeze(-2) * (Tensor::arange(p_len, steps) * q_len).unsqueeze(-1)).exp(); // […, p, n]
    let weights = w.unsqueeze(-2) * coarse.unsqueeze(-3); // […, c, p, n]
    let rows = Tensor::cat(&[weights.real(), -weights.imag()], -1).flatten(-3, -2); // […, c·p, 2n]
    let columns = Tensor::cat(&[fine.real(), fine.imag()], -2); // […, 2n, q]
    let kernel = rows.matmul(&columns).unflatten(-2, [last_but(w, 1), p_len]).flatten(-2, -1);
    cut(&kernel, length)
}

/// `Σ_l exp(λ_n (length-1-l)) u[l]`, what a mode has gathered after the last position: real `u` `[…, length]`, complex
/// `lambda` `[…, n]` → complex `[…, n]`. As many exponentials as [`exponential_kernel`].
pub fn last_state(u: &Tensor, lambda: &Tensor) -> Tensor {
    let length = last(u);
    let q_len = (length as f64).sqrt().ceil().max(1.0) as i64;
    let p_len = (length + q_len - 1) / q_len;
    let steps = (real_kind(lambda.kind()), lambda.device());
    let fine = (lambda.unsqueeze(-2) * Tensor::arange(q_len, steps).unsqueeze(-1)).exp(); // […, q, n]
    let coarse = (lambda.unsqueeze(-2) * (Tensor::arange(p_len, steps) * q_len).unsqueeze(-1)).exp(); // […, p, n]
    let back = u.flip([-1]).constant_pad_nd([0, p_len * q_len - length]).unflatten(-1, [p_len, q_len]);
    let rows = Tensor::complex(&back.matmul(&fine.real()), &back.matmul(&fine.imag())); // […, p, n]
    (rows * coarse).sum_dim_intlist(-2, false, lambda.kind())
}

/// e^z - 1 without cancellation where z is small.
pub fn complex_expm1(z: &Tensor) -> Tensor {
    let (re, im) = (z.real(), z.imag());
    let grow = re.expm1();
    let turn = (&im / 2.0).sin().square() * 2.0; // 1 - cos im
    let real = &grow - (&grow + 1.0) * turn;
    Tensor::complex(&real, &((grow + 1.0) * im.sin()))
}

/// Floating-point operations of one causal convolution of one channel, the kernel's transform left out: two real
/// transforms of `length + kernel length` points at `5/2 n log₂ n` each and the product of the spectra.
pub fn fft_conv_flops(length: i64, kernel_length: i64) -> i64 {
    let n = length + kernel_length;
    2 * rfft_flops(n) + 6 * (n / 2 + 1)
}

/// Floating-point operations of one real transform of `n` points, `5/2 n log₂ n`.
pub fn rfft_flops(n: i64) -> i64 {
    (2.5 * n as f64 * (n as f64).log2()).round() as i64
}

/// The real kind a complex kind is made of; a real kind is itself.
pub fn real_kind(kind: Kind) -> Kind {
    match kind {
        Kind::ComplexDouble => Kind::Double,
        Kind::ComplexFloat => Kind::Float,
        other => other,
    }
}

/// The smallest even size from `least` whose only prime factors are 2, 3 and 5: FFTs of other sizes are slow.
fn fast_size(least: i64) -> i64 {
    let smooth =
        |n: &i64| [2, 3, 5].iter().fold(*n, |n, p| (0..63).fold(n, |n, _| if n % p == 0 { n / p } else { n })) == 1;
    (least.max(2)..).filter(|n| n % 2 == 0).find(smooth).expect("powers of two are smooth")
}

fn last(t: &Tensor) -> i64 {
    last_but(t, 0)
}

/// Size of the axis `k` before the last.
fn last_but(t: &Tensor, k: usize) -> i64 {
    let size = t.size();
    size[size.len() - 1 - k]
}

/// The first `length` entries of the last axis, or all if there are fewer.
fn cut(t: &Tensor, length: i64) -> Tensor {
    t.narrow(-1, 0, length.min(last(t)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::goldens::relative_error;
    use tch::Device;

    const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

    /// `y[t] = Σ_s weight(t - s) u[s]`, summed directly; `weight` of a lag that has none is 0.
    fn plain(u: &Tensor, weight: impl Fn(i64) -> Option<Tensor>) -> Tensor {
        let length = last(u);
        let rows: Vec<Tensor> = (0..length)
            .map(|t| {
                let zero = u.select(-1, 0) * 0.0;
                (0..length).filter_map(|s| Some(weight(t - s)? * u.select(-1, s))).fold(zero, |sum, term| sum + term)
            })
            .collect();
        Tensor::stack(&rows, -1)
    }

    fn tap(k: &Tensor, lag: i64) -> Option<Tensor> {
        (0..last(k)).contains(&lag).then(|| k.select(-1, lag))
    }

    /// Values and the gradients of a fixed random functional, from both functions.
    fn agree(leaves: &[Tensor], fast: impl Fn(&[Tensor]) -> Tensor, slow: impl Fn(&[Tensor]) -> Tensor) {
        let run = |f: &dyn Fn(&[Tensor]) -> Tensor| {
            let fresh: Vec<Tensor> = leaves.iter().map(|t| t.detach().copy().set_requires_grad(true)).collect();
            let y = f(&fresh);
            let probe = Tensor::arange(y.numel() as i64, F64).sin().view_as(&y);
            (&y * probe).sum(Kind::Double).backward();
            let mut all = vec![y.detach()];
            // A leaf that never entered the sum has no gradient: zero.
            all.extend(fresh.iter().map(|leaf| if leaf.grad().defined() { leaf.grad() } else { leaf.zeros_like() }));
            all
        };
        for (got, want) in run(&fast).iter().zip(&run(&slow)) {
            assert!(relative_error(got, want) < 1e-11, "off by {}", relative_error(got, want));
        }
    }

    /// Lengths of the input and the kernel, equal, shorter, longer, and one.
    const LENGTHS: [(i64, i64); 6] = [(1, 1), (7, 7), (13, 4), (4, 13), (16, 16), (31, 1)];

    #[test]
    fn the_causal_convolution_is_the_plain_sum() {
        for (length, taps) in LENGTHS {
            let (u, k) = (Tensor::randn([2, 3, length], F64), Tensor::randn([3, taps], F64));
            agree(&[u, k], |t| fft_conv(&t[0], &t[1]), |t| plain(&t[0], |lag| tap(&t[1], lag)));
        }
    }

    #[test]
    fn the_anticausal_convolution_is_the_plain_sum_over_the_future() {
        for (length, taps) in LENGTHS {
            let (u, k) = (Tensor::randn([2, 3, length], F64), Tensor::randn([taps], F64));
            agree(&[u, k], |t| fft_conv_anticausal(&t[0], &t[1]), |t| plain(&t[0], |lag| tap(&t[1], -lag)));
        }
    }

    #[test]
    fn the_backward_kernel_starts_at_the_next_position() {
        for (length, taps) in LENGTHS {
            let leaves = [[2, 3, length].as_slice(), &[3, taps], &[3, taps]].map(|shape| Tensor::randn(shape, F64));
            let slow = |t: &[Tensor]| plain(&t[0], |lag| if lag >= 0 { tap(&t[1], lag) } else { tap(&t[2], -lag - 1) });
            agree(
                &leaves[..2],
                |t| fft_conv_bidirectional(&t[0], &t[1], &t[1]),
                |t| slow(&[&t[0], &t[1], &t[1]].map(Tensor::shallow_clone)),
            );
            let fast = fft_conv_bidirectional(&leaves[0], &leaves[1], &leaves[2]);
            assert!(relative_error(&fast, &slow(&leaves)) < 1e-11);
        }
    }

    #[test]
    fn the_exponential_kernel_is_the_sum_of_powers() {
        for length in [1, 2, 3, 10, 37] {
            let leaves = [[2, 3, 5, 2].as_slice(), &[2, 5, 2]].map(|shape| Tensor::randn(shape, F64) * 0.3);
            let slow = |t: &[Tensor]| {
                let (w, base) = (t[0].view_as_complex(), t[1].view_as_complex().exp());
                let mut term = w;
                let mut kernel = Vec::new();
                for _ in 0..length {
                    kernel.push(term.real().sum_dim_intlist(-1, false, Kind::Double));
                    term = &term * base.unsqueeze(-2);
                }
                Tensor::stack(&kernel, -1)
            };
            agree(&leaves, |t| exponential_kernel(&t[0].view_as_complex(), &t[1].view_as_complex(), length), slow);
        }
    }

    #[test]
    fn the_last_state_is_the_recurrence_run_to_the_end() {
        for length in [1, 2, 3, 10, 37] {
            let leaves = [[4, 3, length].as_slice(), &[3, 5, 2]].map(|shape| Tensor::randn(shape, F64) * 0.3);
            let slow = |t: &[Tensor]| {
                let base = t[1].view_as_complex().exp();
                let zero = (t[0].select(-1, 0) * 0.0).unsqueeze(-1) * &base;
                let end = (0..length).fold(zero, |x, l| x * &base + t[0].select(-1, l).unsqueeze(-1));
                end.view_as_real()
            };
            agree(&leaves, |t| last_state(&t[0], &t[1].view_as_complex()).view_as_real(), slow);
        }
    }

    #[test]
    fn expm1_keeps_small_arguments_and_agrees_with_exp_on_large_ones() {
        let z = |re: f64, im: f64| Tensor::from_slice(&[re, im]).view_as_complex();
        let parts = |z: &Tensor| [z.real().double_value(&[]), z.imag().double_value(&[])];
        let [re, im] = parts(&complex_expm1(&z(-1e-12, 2e-12)));
        assert!((re + 1e-12).abs() < 1e-22 && (im - 2e-12).abs() < 1e-22, "{re} {im}");
        let large = z(-1.3, 2.6);
        assert!((complex_expm1(&large) - (large.exp() - 1.0)).abs().double_value(&[]) < 1e-15);
    }

    #[test]
    fn transform_sizes_are_even_and_smooth() {
        assert_eq!([1, 2, 7, 14, 2048, 2050].map(fast_size), [2, 2, 8, 16, 2048, 2160]);
    }
}
