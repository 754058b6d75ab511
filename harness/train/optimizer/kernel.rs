//! AdamW in one pass over memory.
//!
//! Made of libtorch's operations, a step reads and writes each of its tensors some ten times over. Here each number is read
//! once and written once, and all arithmetic on it is exactly rounded: the result depends neither on the processor's widest
//! instructions nor on the number of threads.

use mixers::native::kernels::native_for;
use mixers::native::{Shared, elements, elements_mut, parallel_for};
use multiversion::multiversion;
use tch::{Kind, Tensor};

/// Numbers that a thread takes at a time.
const PIECE: usize = 1 << 14;
/// Sums that run side by side, so that they are vectors.
const LANES: usize = 16;

/// What a step multiplies by, the same for every number of a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factors {
    /// Of the gradient: what clipping leaves of it.
    pub clip: f32,
    /// 1 − β1.
    pub fresh: f32,
    /// β2.
    pub beta2: f32,
    /// (1 − β2) / (1 − β2ᵗ): from the sum in `v` to the corrected second moment.
    pub second: f32,
    /// ε.
    pub eps: f32,
    /// 1 − η λ: what decay leaves of a parameter.
    pub keep: f32,
    /// η / (1 − β1ᵗ).
    pub rate: f32,
}

/// Whether the kernel takes this tensor; others go through [`plain`].
pub(super) fn takes(flat: &Tensor) -> bool {
    native_for(flat) && flat.kind() == Kind::Float
}

/// One step: `m ← m + (1−β1)(g − m)`, `v ← β2 v + g²`, `θ ← (1 − ηλ) θ − η m̂ / (√v̂ + ε)`.
pub(super) fn step(flat: &mut Tensor, grad: &Tensor, [m, v]: [&mut Tensor; 2], factors: Factors) {
    let grad = elements::<f32>(grad);
    let [flat, m, v] = [flat, m, v].map(|tensor| Shared::new(elements_mut::<f32>(tensor)));
    parallel_for(grad.len(), PIECE, |range| {
        let (from, len) = (range.start, range.len());
        // SAFETY: the ranges do not overlap, and the tensors are the optimizer's own.
        let [flat, m, v] = [&flat, &m, &v].map(|shared| unsafe { shared.part(from, len) });
        step_piece(flat, &grad[range], m, v, factors);
    });
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn step_piece(flat: &mut [f32], grad: &[f32], m: &mut [f32], v: &mut [f32], factors: Factors) {
    for (((p, g), m), v) in flat.iter_mut().zip(grad).zip(m).zip(v) {
        let g = g * factors.clip;
        *m += factors.fresh * (g - *m);
        *v = factors.beta2 * *v + g * g;
        let root = (*v * factors.second).sqrt() + factors.eps;
        *p = factors.keep * *p - factors.rate * (*m / root);
    }
}

/// The sum of squares. Pieces are added in their order, whichever thread summed them.
pub(super) fn squares(grad: &Tensor) -> f64 {
    let grad = elements::<f32>(grad);
    let mut sums = vec![0.0; grad.len().div_ceil(PIECE)];
    let into = Shared::new(&mut sums);
    parallel_for(grad.len().div_ceil(PIECE), 1, |pieces| {
        for piece in pieces {
            let end = grad.len().min((piece + 1) * PIECE);
            // SAFETY: each piece has a sum of its own.
            let sum = unsafe { into.part(piece, 1) };
            sum[0] = squares_piece(&grad[piece * PIECE..end]);
        }
    });
    sums.iter().sum()
}

#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2"))]
fn squares_piece(grad: &[f32]) -> f64 {
    let (rows, rest) = grad.as_chunks::<LANES>();
    let mut lanes = [0.0f64; LANES];
    for row in rows {
        for (lane, g) in lanes.iter_mut().zip(row) {
            *lane += f64::from(*g) * f64::from(*g);
        }
    }
    lanes.iter().sum::<f64>() + rest.iter().map(|g| f64::from(*g) * f64::from(*g)).sum::<f64>()
}

/// The same step by libtorch's operations, for any device and kind.
pub(super) fn plain(flat: &mut Tensor, grad: &Tensor, [m, v]: [&mut Tensor; 2], factors: Factors) {
    let [clip, fresh, beta2] = [factors.clip, factors.fresh, factors.beta2].map(f64::from);
    let [second, eps, keep, rate] = [factors.second, factors.eps, factors.keep, factors.rate].map(f64::from);
    let g = grad * clip;
    let _ = m.lerp_(&g, fresh);
    let _ = v.g_mul_scalar_(beta2);
    let _ = v.addcmul_(&g, &g);
    let root = (&*v * second).sqrt() + eps;
    let _ = flat.g_mul_scalar_(keep);
    let step = (&*m / root) * -rate;
    let _ = flat.g_add_(&step);
}

#[cfg(test)]
mod tests {
    use super::*;
    use mixers::laws::goldens::relative_error;
    use mixers::laws::testing::noise;

    const LENGTHS: [i64; 5] = [1, LANES as i64 - 1, 1000, PIECE as i64, 3 * PIECE as i64 + 17];

    /// Factors of step `t`, which clips, and decays.
    fn factors(t: i32) -> Factors {
        let (beta1, beta2, lr) = (0.9f64, 0.999f64, 1e-2);
        Factors {
            clip: 0.7,
            fresh: (1.0 - beta1) as f32,
            beta2: beta2 as f32,
            second: ((1.0 - beta2) / (1.0 - beta2.powi(t))) as f32,
            eps: 1e-8,
            keep: (1.0 - lr * 0.1) as f32,
            rate: (lr / (1.0 - beta1.powi(t))) as f32,
        }
    }

    /// Parameters and both moments after three steps.
    fn stepped(n: i64, step: impl Fn(&mut Tensor, &Tensor, [&mut Tensor; 2], Factors)) -> [Tensor; 3] {
        let [mut flat, mut m, mut v] = [
            noise(&[n], 1).to_kind(Kind::Float),
            Tensor::zeros([n], (Kind::Float, tch::Device::Cpu)),
            Tensor::zeros([n], (Kind::Float, tch::Device::Cpu)),
        ];
        for t in 1..=3 {
            let grad = noise(&[n], 10 + i64::from(t)).to_kind(Kind::Float);
            step(&mut flat, &grad, [&mut m, &mut v], factors(t));
        }
        [flat, m, v]
    }

    #[test]
    fn the_kernel_steps_as_libtorch_s_operations_do() {
        for n in LENGTHS {
            for (own, plain) in stepped(n, step).iter().zip(stepped(n, plain)) {
                assert!(relative_error(own, &plain) < 1e-6, "{n}: {}", relative_error(own, &plain));
            }
        }
    }

    #[test]
    fn a_step_is_the_papers_on_every_number_in_float64() {
        let n = 1000;
        let [flat, ..] = stepped(n, step);
        let of = |tensor: &Tensor| elements::<f32>(tensor).iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        let start = of(&noise(&[n], 1).to_kind(Kind::Float));
        let grads = [1, 2, 3].map(|t| of(&noise(&[n], 10 + t).to_kind(Kind::Float)));
        for (i, (own, mut x)) in of(&flat).into_iter().zip(start).enumerate() {
            let (mut m, mut v) = (0.0, 0.0);
            for (t, grad) in (1..).zip(&grads) {
                let g = 0.7 * grad[i];
                m = 0.9 * m + 0.1 * g;
                v = 0.999 * v + 0.001 * g * g;
                x -= 1e-2 * 0.1 * x;
                x -= 1e-2 * (m / (1.0 - 0.9f64.powi(t))) / ((v / (1.0 - 0.999f64.powi(t))).sqrt() + 1e-8);
            }
            assert!((own - x).abs() < 1e-6 * x.abs().max(1.0), "{i}: {own} {x}");
        }
    }

    #[test]
    fn a_norm_is_that_of_float64_and_does_not_depend_on_threads() {
        for n in LENGTHS {
            let grad = noise(&[n], 5).to_kind(Kind::Float);
            let want = grad.to_kind(Kind::Double).square().sum(Kind::Double).double_value(&[]);
            assert!((squares(&grad) - want).abs() < 1e-12 * want, "{n}");
        }
        let large = Tensor::full([100], 1e25, (Kind::Float, tch::Device::Cpu));
        assert!((squares(&large) / 1e52 - 1.0).abs() < 1e-6, "beyond float32");
        let broken = Tensor::from_slice(&[1.0f32, f32::NAN]);
        assert!(squares(&broken).is_nan());
    }
}
