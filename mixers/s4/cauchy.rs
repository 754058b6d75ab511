//! The Cauchy sums of S4's generating function at the roots of unity, in the form the head of `kernel.rs` derives.
//!
//! ```text
//! ρ = Σ_n (c S_n + 2is R_n) / q_n,   q_n = |a_n|² c² - 4s² - 4i Re(a_n) s c,   s = sin θ/2,  c = cos θ/2
//! ```
//! On the CPU one pass over the nodes forms all sums of a channel, a block of nodes at a time, and the backward forms the
//! 1/q_n again: nothing of size modes · nodes is kept or even written. [`Nodes::plain`] is the twin made of products of
//! matrices, which other devices use.

use crate::math::conv::real_kind;
use crate::native::kernels::native_for;
use crate::native::{Backward, Scalar, Shared, attach, elements, elements_mut, parallel_for, worked};
use std::f64::consts::PI;
use std::ops::{Add, AddAssign, Div, Mul, Sub};
use tch::{Kind, Tensor, no_grad};

/// The roots of unity of the truncated generating function, half of them.
pub(super) struct Nodes {
    /// sin θ/2, `[nodes]`.
    pub sin: Tensor,
    /// cos θ/2, `[nodes]`.
    pub cos: Tensor,
}

impl Nodes {
    pub fn new(points: i64, like: &Tensor) -> Self {
        let kind = real_kind(like.kind());
        let half = Tensor::arange(points / 2 + 1, (Kind::Double, like.device())) * (PI / points as f64);
        Self { sin: half.sin().to_kind(kind), cos: half.cos().to_kind(kind) }
    }

    /// ρ: complex `weights` v w, `[H, sums, n]`, and `a` `[H, n]` → complex `[H, sums, nodes]`.
    pub fn cauchy(&self, weights: &Tensor, a: &Tensor) -> Tensor {
        let r = weights.real() * 2.0;
        let s = (weights * a.conj().unsqueeze(1)).real() * -2.0;
        let rho = match r.kind() {
            _ if !native_for(&r) => self.plain(&s, &r, a),
            Kind::Double => self.native::<f64>(&s, &r, a),
            _ => self.native::<f32>(&s, &r, a),
        };
        rho.view_as_complex()
    }

    /// ρ as pairs (re, im), `[H, sums, nodes, 2]`, from all 1/q at once.
    pub fn plain(&self, s: &Tensor, r: &Tensor, a: &Tensor) -> Tensor {
        let Self { sin, cos } = self;
        let (u, v) = self.reciprocals(a);
        let twice = sin * 2.0;
        let real = s.bmm(&u) * cos - r.bmm(&v) * &twice;
        let imag = s.bmm(&v) * cos + r.bmm(&u) * &twice;
        Tensor::stack(&[real, imag], -1)
    }

    /// `1 / q = u + iv`, real `[H, n, nodes]`.
    fn reciprocals(&self, a: &Tensor) -> (Tensor, Tensor) {
        let Self { sin, cos } = self;
        let turn = a.imag().unsqueeze(-1) * cos;
        let twice = sin * 2.0;
        // Re q = (Re a)² c² + (Im a c)² - 4s²; factored, it keeps its digits near a resonance.
        let x = ((&turn - &twice) * (turn + twice)).addcmul(&a.real().square().unsqueeze(-1), &cos.square());
        let y = a.real().unsqueeze(-1) * (sin * cos * 4.0);
        let norm = x.square().addcmul(&y, &y).reciprocal();
        (x * &norm, y * norm)
    }

    /// The same in one pass.
    fn native<T: Real>(&self, s: &Tensor, r: &Tensor, a: &Tensor) -> Tensor {
        let inputs = [s, r, &a.real(), &a.imag()].map(Tensor::contiguous);
        let [s, r, re, im] = &inputs;
        let size = s.size();
        let (sums, modes, nodes) = (size[1] as usize, size[2] as usize, self.sin.numel());
        let rho = no_grad(|| {
            let mut rho = Tensor::empty([size[0], size[1], nodes as i64, 2], (T::KIND, s.device()));
            let out = Shared::new(elements_mut::<T>(&mut rho));
            let channels = Channels::<T>::new([s, r, re, im, &self.sin, &self.cos]);
            worked((size[0] as usize * nodes * modes * (10 + 8 * sums)) as f64); // a reciprocal, then four products a sum
            parallel_for(size[0] as usize, 1, |range| {
                for h in range {
                    // SAFETY: each channel writes its own part.
                    T::forward(&channels.get(h, sums, modes), unsafe {
                        out.part(h * sums * nodes * 2, sums * nodes * 2)
                    });
                }
            });
            rho
        });
        let op = Sums(std::marker::PhantomData::<T>);
        attach(op, &[s, r, re, im], &[&rho], &[s, r, re, im, &self.sin, &self.cos]);
        rho
    }
}

/// The backward of [`Nodes::native`].
struct Sums<T>(std::marker::PhantomData<T>);

impl<T: Real> Backward for Sums<T> {
    fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
        let Some(grad) = &grads[0] else { return vec![None, None, None, None] };
        let grad = grad.contiguous();
        let size = saved[0].size();
        let (sums, modes, nodes) = (size[1] as usize, size[2] as usize, saved[4].numel());
        let mut found: Vec<Tensor> = saved[..4].iter().map(Tensor::zeros_like).collect();
        {
            let parts: Vec<Shared<T>> = found.iter_mut().map(|t| Shared::new(elements_mut::<T>(t))).collect();
            let channels = Channels::<T>::new([&saved[0], &saved[1], &saved[2], &saved[3], &saved[4], &saved[5]]);
            let grad = elements::<T>(&grad);
            parallel_for(size[0] as usize, 1, |range| {
                for h in range {
                    let of = |i: usize, each: usize| {
                        // SAFETY: each channel writes its own part.
                        unsafe { parts[i].part(h * each, each) }
                    };
                    let out = Gradients {
                        s: of(0, sums * modes),
                        r: of(1, sums * modes),
                        re: of(2, modes),
                        im: of(3, modes),
                    };
                    T::backward(&channels.get(h, sums, modes), &grad[h * sums * nodes * 2..][..sums * nodes * 2], out);
                }
            });
        }
        found.into_iter().map(Some).collect()
    }
}

/// The numbers of every channel.
struct Channels<'a, T>([&'a [T]; 6]);

impl<'a, T: Real> Channels<'a, T> {
    fn new(tensors: [&'a Tensor; 6]) -> Self {
        Self(tensors.map(elements::<T>))
    }

    fn get(&self, h: usize, sums: usize, modes: usize) -> Channel<'a, T> {
        let [s, r, re, im, sin, cos] = self.0;
        let of = |all: &'a [T], each: usize| &all[h * each..][..each];
        Channel { s: of(s, sums * modes), r: of(r, sums * modes), re: of(re, modes), im: of(im, modes), sin, cos }
    }
}

/// What one channel is made from: S and R of each sum, `[sums, n]`; a; the nodes.
struct Channel<'a, T> {
    s: &'a [T],
    r: &'a [T],
    re: &'a [T],
    im: &'a [T],
    sin: &'a [T],
    cos: &'a [T],
}

/// Gradients of one channel, zero at first.
struct Gradients<'a, T> {
    s: &'a mut [T],
    r: &'a mut [T],
    re: &'a mut [T],
    im: &'a mut [T],
}

/// Arithmetic and the two kernels of one kind of number, compiled for several sets of instructions.
trait Real:
    Scalar
    + Default
    + From<f32>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + AddAssign
{
    fn forward(channel: &Channel<'_, Self>, rho: &mut [Self]);
    fn backward(channel: &Channel<'_, Self>, grad: &[Self], out: Gradients<'_, Self>);
}

macro_rules! real {
    ($number:ty, $forward:ident, $backward:ident) => {
        #[multiversion::multiversion(targets(
            "x86_64+avx512f+avx512dq+avx512vl+avx512bw+avx2+fma",
            "x86_64+avx2+fma",
            "aarch64+neon"
        ))]
        fn $forward(channel: &Channel<$number>, rho: &mut [$number]) {
            forward(channel, rho)
        }

        #[multiversion::multiversion(targets(
            "x86_64+avx512f+avx512dq+avx512vl+avx512bw+avx2+fma",
            "x86_64+avx2+fma",
            "aarch64+neon"
        ))]
        fn $backward(channel: &Channel<$number>, grad: &[$number], out: Gradients<$number>) {
            backward(channel, grad, out)
        }

        impl Real for $number {
            fn forward(channel: &Channel<'_, Self>, rho: &mut [Self]) {
                $forward(channel, rho)
            }

            fn backward(channel: &Channel<'_, Self>, grad: &[Self], out: Gradients<'_, Self>) {
                $backward(channel, grad, out)
            }
        }
    };
}

real!(f32, forward_f32, backward_f32);
real!(f64, forward_f64, backward_f64);

/// Nodes worked on at once: their 1/q and a few sums stay in the first-level cache.
const BLOCK: usize = 64;
/// Partial sums of a reduction: as many as the widest registers hold of the narrower number.
const LANES: usize = 16;

/// One number a node.
type Row<T> = [T; BLOCK];

/// A block of nodes; past the last node it repeats that one.
struct Block<T> {
    cos: Row<T>,
    /// 2 sin θ/2.
    twice: Row<T>,
    len: usize,
}

impl<T: Real> Block<T> {
    #[inline(always)]
    fn at(channel: &Channel<'_, T>, from: usize) -> Self {
        let len = BLOCK.min(channel.sin.len() - from);
        let mut block = Self { cos: [T::default(); BLOCK], twice: [T::default(); BLOCK], len };
        for j in 0..BLOCK {
            let node = from + j.min(len - 1);
            block.cos[j] = channel.cos[node];
            block.twice[j] = channel.sin[node] + channel.sin[node];
        }
        block
    }

    /// u and v of `1 / q = u + iv`.
    #[inline(always)]
    fn reciprocals(&self, re: T, im: T) -> (Row<T>, Row<T>) {
        let (mut u, mut v) = ([T::default(); BLOCK], [T::default(); BLOCK]);
        let twice_re = re + re;
        for j in 0..BLOCK {
            let (c, t) = (self.cos[j], self.twice[j]);
            let (turn, fade) = (im * c, re * c);
            let x = (turn - t) * (turn + t) + fade * fade;
            let y = twice_re * t * c;
            let norm = T::from(1.0) / (x * x + y * y);
            u[j] = x * norm;
            v[j] = y * norm;
        }
        (u, v)
    }
}

#[inline(always)]
fn times<T: Real>(a: &Row<T>, b: &Row<T>) -> Row<T> {
    std::array::from_fn(|j| a[j] * b[j])
}

#[inline(always)]
fn forward<T: Real>(channel: &Channel<'_, T>, rho: &mut [T]) {
    let (modes, nodes) = (channel.re.len(), channel.sin.len());
    let sums = channel.s.len() / modes;
    let mut acc = vec![([T::default(); BLOCK], [T::default(); BLOCK]); sums];
    for from in (0..nodes).step_by(BLOCK) {
        let block = Block::at(channel, from);
        acc.fill(([T::default(); BLOCK], [T::default(); BLOCK]));
        for n in 0..modes {
            let (u, v) = block.reciprocals(channel.re[n], channel.im[n]);
            let (cu, cv) = (times(&block.cos, &u), times(&block.cos, &v));
            let (tu, tv) = (times(&block.twice, &u), times(&block.twice, &v));
            for (k, (real, imag)) in acc.iter_mut().enumerate() {
                let (s, r) = (channel.s[k * modes + n], channel.r[k * modes + n]);
                for j in 0..BLOCK {
                    real[j] += s * cu[j] - r * tv[j];
                    imag[j] += s * cv[j] + r * tu[j];
                }
            }
        }
        for (k, (real, imag)) in acc.iter().enumerate() {
            let out = &mut rho[(k * nodes + from) * 2..][..block.len * 2];
            for (j, pair) in out.chunks_exact_mut(2).enumerate() {
                (pair[0], pair[1]) = (real[j], imag[j]);
            }
        }
    }
}

#[inline(always)]
fn backward<T: Real>(channel: &Channel<'_, T>, grad: &[T], out: Gradients<'_, T>) {
    let zero = [T::default(); BLOCK];
    let (modes, nodes) = (channel.re.len(), channel.sin.len());
    let sums = channel.s.len() / modes;
    let mut grads = vec![(zero, zero); sums];
    for from in (0..nodes).step_by(BLOCK) {
        let block = Block::at(channel, from);
        for (k, (real, imag)) in grads.iter_mut().enumerate() {
            (*real, *imag) = (zero, zero); // nothing comes from past the last node
            for (j, pair) in grad[(k * nodes + from) * 2..][..block.len * 2].chunks_exact(2).enumerate() {
                (real[j], imag[j]) = (pair[0], pair[1]);
            }
        }
        for n in 0..modes {
            let (re, im) = (channel.re[n], channel.im[n]);
            let (u, v) = block.reciprocals(re, im);
            let (cu, cv) = (times(&block.cos, &u), times(&block.cos, &v));
            let (tu, tv) = (times(&block.twice, &u), times(&block.twice, &v));
            // Σ over the sums of S·Re, R·Im, R·Re and S·Im of the gradient.
            let (mut sr, mut ri, mut rr, mut si) = (zero, zero, zero, zero);
            for (k, (real, imag)) in grads.iter().enumerate() {
                let (s, r) = (channel.s[k * modes + n], channel.r[k * modes + n]);
                let (mut ds, mut dr) = ([T::default(); LANES], [T::default(); LANES]);
                for from in (0..BLOCK).step_by(LANES) {
                    for lane in 0..LANES {
                        let j = from + lane;
                        let (x, y) = (real[j], imag[j]);
                        ds[lane] += cu[j] * x + cv[j] * y;
                        dr[lane] += tu[j] * y - tv[j] * x;
                        sr[j] += s * x;
                        ri[j] += r * y;
                        rr[j] += r * x;
                        si[j] += s * y;
                    }
                }
                out.s[k * modes + n] += total(&ds);
                out.r[k * modes + n] += total(&dr);
            }
            // dL/dq = -conj(1/q²) (du + i dv), then by the parts of q.
            let (mut by_square, mut by_turn) = ([T::default(); LANES], [T::default(); LANES]);
            for from in (0..BLOCK).step_by(LANES) {
                for lane in 0..LANES {
                    let j = from + lane;
                    let (c, t) = (block.cos[j], block.twice[j]);
                    let du = c * sr[j] + t * ri[j];
                    let dv = c * si[j] - t * rr[j];
                    let (real, imag) = (u[j] * u[j] - v[j] * v[j], u[j] * v[j] + u[j] * v[j]);
                    by_square[lane] += (T::default() - real * du - imag * dv) * c * c;
                    by_turn[lane] += (real * dv - imag * du) * c * t;
                }
            }
            let (square, turn) = (total(&by_square), total(&by_turn));
            out.im[n] += (im + im) * square;
            out.re[n] += (re + re) * square + turn + turn;
        }
    }
}

#[inline(always)]
fn total<T: Real>(lanes: &[T; LANES]) -> T {
    lanes.iter().fold(T::default(), |sum, lane| sum + *lane)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::goldens::relative_error;
    use crate::laws::testing::noise;
    use tch::Device;

    /// S and R, `[3, sums, modes]`, and a with a negative real part, its parts stacked, `[3, modes, 2]`.
    fn leaves(sums: i64, modes: i64) -> [Tensor; 3] {
        let a = noise(&[3, modes, 2], 3) * Tensor::from_slice(&[0.4, 3.0]) - Tensor::from_slice(&[0.5, 0.0]);
        [noise(&[3, sums, modes], 1), noise(&[3, sums, modes], 2), a].map(|t| t.set_requires_grad(true))
    }

    /// Values and gradients of a fixed functional.
    fn run(leaves: &[Tensor; 3], kind: Kind, f: impl Fn(&Tensor, &Tensor, &Tensor) -> Tensor) -> Vec<Tensor> {
        let [s, r, a] = leaves.each_ref().map(|t| t.to_kind(kind));
        let rho = f(&s, &r, &a.view_as_complex());
        let loss = (&rho * noise(&rho.size(), 4)).sum(Kind::Double);
        let mut all = vec![rho.detach()];
        all.extend(Tensor::run_backward(&[loss], leaves, false, false));
        all
    }

    #[test]
    fn one_pass_over_the_nodes_gives_what_the_products_of_matrices_give() {
        for (points, sums, modes) in [(1, 1, 1), (2, 6, 3), (126, 4, 5), (127, 6, 8), (128, 1, 2), (1000, 12, 4)] {
            let leaves = leaves(sums, modes);
            for (kind, tolerance) in [(Kind::Double, 1e-11), (Kind::Float, 2e-4)] {
                let nodes = Nodes::new(points, &Tensor::empty([0], (kind, Device::Cpu)));
                let fast = match kind {
                    Kind::Double => run(&leaves, kind, |s, r, a| nodes.native::<f64>(s, r, a)),
                    _ => run(&leaves, kind, |s, r, a| nodes.native::<f32>(s, r, a)),
                };
                let exact = Nodes::new(points, &Tensor::empty([0], (Kind::Double, Device::Cpu)));
                let slow = run(&leaves, Kind::Double, |s, r, a| exact.plain(s, r, a));
                for (what, (fast, slow)) in ["rho", "S", "R", "a"].iter().zip(fast.iter().zip(&slow)) {
                    let error = relative_error(fast, slow);
                    assert!(error < tolerance, "{what} is off by {error:.1e} at {points} points in {kind:?}");
                }
            }
        }
    }
}
