//! Cauchy: each entry is a sum of reciprocals of a row's value and a column's.
//!
//! ```text
//! M[t,s] = Σ_d 1 / (exp q_td + exp k_sd + c) / √(L d)       L = seq_len, d = qk_dim; q | k = conv, c = 2 bias + 1e-8,
//!                                                           or learned for each position, c = 1e-8
//! ```
//! Time     O(length² · (heads · qk_dim + d_inner)), by a kernel of our own
//! Memory   O(length · d_inner): M is computed a few heads at a time, and again in the backward pass
//! Departs  - the formula above is the reference's code. `form: paper` is Σ_d 1 / (q_td - k_sd + c), c = 2 bias for both. Its
//!            poles are rounded off, 1/x being x / (x² + 1e-4): nothing else keeps q_t - k_s + c from zero, and one such pair
//!            would end a run.
//!          - exp is taken of 80 at most: an entry beyond is 0 in float32 anyway, and its gradient would be NaN

use super::{Form, Inside, MatrixClass, QueryKey, Reads, Shape, fold, times, unfold};
use crate::native::kernels::native_for;
use crate::native::{Backward, Scalar, Shared, attach, elements, elements_mut, parallel_for, recompute};
use crate::{Context, linear_flops};
use multiversion::multiversion;
use std::ops::{Add, AddAssign, Div, Mul, Neg, Sub};
use tch::{Kind, Tensor, nn};

#[derive(Debug)]
pub(super) struct Cauchy {
    qk: QueryKey,
    /// Half of c; `None` where c is 1e-8.
    bias: Option<Tensor>,
    form: Form,
    scale: f64,
    heads: i64,
    qk_dim: i64,
    d_inner: i64,
}

/// Added to a sum of exponentials, as the reference does.
const TOLERANCE: f64 = 1e-8;
/// No exponential of more is taken: e⁸⁰ squared is past float32, and its reciprocal is 0 beside any other.
const LARGEST: f64 = 80.0;
/// Of the paper's form: δ² in x / (x² + δ²).
const ROUNDING: f64 = 1e-4;
/// Elements of M held at once.
const HELD: i64 = 1 << 22;

impl Cauchy {
    pub(super) fn new(vs: &nn::Path, shape: &Shape) -> Self {
        let Shape { cfg, heads, qk_dim, seq_len, d_inner, .. } = *shape;
        let biased = cfg.data_dependent || cfg.form == Form::Paper;
        Self {
            qk: QueryKey::new(vs, shape, false),
            bias: biased.then(|| vs.var("bias", &[], nn::Init::Const(0.5))),
            form: cfg.form,
            scale: 1.0 / ((seq_len * qk_dim) as f64).sqrt(),
            heads,
            qk_dim,
            d_inner,
        }
    }

    /// a and b with `M[t,s] = scale · Σ_d f(a_td + b_sd)`, each `[batch or 1, heads, length, qk_dim]`.
    fn terms(&self, inside: &Inside) -> [Tensor; 2] {
        let [q, k] = self.qk.of(inside, |t| t);
        let [a, b] = match self.form {
            Form::Reference => [q.clamp_max(LARGEST).exp() + TOLERANCE, k.clamp_max(LARGEST).exp()],
            Form::Paper => [q, -k],
        };
        match &self.bias {
            Some(bias) => [a + bias * 2.0, b],
            None => [a, b],
        }
    }

    fn rounding(&self) -> f64 {
        if self.form == Form::Paper { ROUNDING } else { 0.0 }
    }
}

impl MatrixClass for Cauchy {
    fn reads(&self) -> Reads {
        self.qk.reads()
    }

    fn path(&self) -> &'static str {
        "native rows"
    }

    fn apply(&self, inside: &Inside, _: &Context) -> Tensor {
        let (v, [a, b]) = (&inside.v, self.terms(inside));
        if !native_for(v) {
            let rounding = self.rounding();
            let one_head = move |t: &[Tensor]| times(&plain_matrix(&t[0], &t[1], rounding), &t[2]);
            let heads: Vec<Tensor> = (0..self.heads)
                .map(|h| recompute(one_head, &[&a.narrow(1, h, 1), &b.narrow(1, h, 1), &v.narrow(2, h, 1)]))
                .collect();
            return Tensor::cat(&heads, 2) * self.scale;
        }
        let rows = |t: Tensor| t.transpose(2, 3).flatten(0, 1).contiguous(); // [batch or 1 · heads, qk_dim, length]
        let [a_rows, b_rows] = [rows(a), rows(b)];
        let shared = a_rows.size()[0] != v.size()[0] * self.heads;
        let values = if shared { fold(v) } else { v.transpose(1, 2).flatten(0, 1) };
        let y = mix(&a_rows, &b_rows, &values, self.rounding()) * self.scale;
        if shared { unfold(&y, v) } else { y.unflatten(0, [v.size()[0], self.heads]).transpose(1, 2) }
    }

    fn matrix(&self, inside: &Inside, _: &Context) -> Tensor {
        let [a, b] = self.terms(inside);
        plain_matrix(&a, &b, self.rounding()) * self.scale
    }

    fn params(&self) -> i64 {
        self.qk.params() + i64::from(self.bias.is_some())
    }

    /// An addition, a reciprocal and an addition for each term.
    fn flops(&self, length: i64) -> i64 {
        3 * length * length * self.heads * self.qk_dim + linear_flops(length, length, self.d_inner)
    }
}

/// `Σ_d f(a_td + b_sd)`, `f(x) = x / (x² + rounding)`: `[…, length, d]` twice → `[…, length, length]`.
fn plain_matrix(a: &Tensor, b: &Tensor, rounding: f64) -> Tensor {
    let x = a.unsqueeze(-2) + b.unsqueeze(-3);
    let terms = if rounding > 0.0 { &x / (x.square() + rounding) } else { x.reciprocal() };
    terms.sum_dim_intlist(-1, false, None::<Kind>)
}

/// `M v`, `M[t,s] = Σ_d f(a_dt + b_ds)`: `a`, `b` `[n, d, length]`, packed, `v` `[n, length, width]` → shaped as `v`.
fn mix(a: &Tensor, b: &Tensor, v: &Tensor, rounding: f64) -> Tensor {
    let op = Mix { rounding };
    let y = tch::no_grad(|| {
        let parts: Vec<Tensor> =
            op.groups(a).map(|(from, n)| op.matrix(a, b, from, n).bmm(&v.narrow(0, from, n))).collect();
        Tensor::cat(&parts, 0)
    });
    attach(op, &[a, b, v], &[&y], &[a, b, v]);
    y
}

/// The node of [`mix`]: M is not kept.
#[derive(Clone, Copy)]
struct Mix {
    rounding: f64,
}

impl Mix {
    /// Matrices to work on together: where they start and how many.
    fn groups(self, a: &Tensor) -> impl Iterator<Item = (i64, i64)> {
        let (count, length) = (a.size()[0], a.size()[2]);
        let together = (HELD / (length * length)).clamp(1, count.max(1));
        (0..count).step_by(together as usize).map(move |from| (from, together.min(count - from)))
    }

    /// M of the `n` matrices from `from`, `[n, length, length]`.
    fn matrix(self, a: &Tensor, b: &Tensor, from: i64, n: i64) -> Tensor {
        let length = a.size()[2];
        let mut m = Tensor::zeros([n, length, length], (a.kind(), a.device()));
        match a.kind() {
            Kind::Double => self.fill::<f64>(&mut m, a, b, from),
            _ => self.fill::<f32>(&mut m, a, b, from),
        }
        m
    }

    fn fill<T: Real>(self, m: &mut Tensor, a: &Tensor, b: &Tensor, from: i64) {
        let (d, length, from) = (a.size()[1] as usize, a.size()[2] as usize, from as usize);
        let (rows, a, b) = (m.size()[0] as usize * length, elements::<T>(a), elements::<T>(b));
        let (m, rounding) = (Shared::new(elements_mut::<T>(m)), T::of(self.rounding));
        parallel_for(rows, 16, |range| {
            for row in range {
                let block = (from + row / length) * d * length..(from + row / length + 1) * d * length;
                // SAFETY: each row of M is reached once.
                let entries = unsafe { m.part(row * length, length) };
                sum_row(entries, &a[block.clone()], &b[block], row % length, rounding);
            }
        });
    }

    /// Gradients of a and b of the matrices from `from`, given `grad` of M: written into `da` and `db`, shaped as a and b.
    fn pull<T: Real>(self, grad: &Tensor, [a, b]: [&Tensor; 2], [da, db]: [&mut Tensor; 2], from: i64) {
        let (d, length, from) = (a.size()[1] as usize, a.size()[2] as usize, from as usize);
        let (count, grad) = (grad.size()[0] as usize, elements::<T>(grad));
        let (a, b) = (elements::<T>(a), elements::<T>(b));
        let (da, db) = (Shared::new(elements_mut::<T>(da)), Shared::new(elements_mut::<T>(db)));
        let rounding = T::of(self.rounding);
        parallel_for(count * d, 1, |range| {
            for term in range {
                let at = (from * d + term) * length;
                let square = (term / d) * length * length;
                // SAFETY: each term of each matrix is reached once, and its rows of da and db lie apart.
                let (da, db) = unsafe { (da.part(at, length), db.part(at, length)) };
                let grad = &grad[square..square + length * length];
                pull_term(grad, [&a[at..at + length], &b[at..at + length]], [da, db], rounding);
            }
        });
    }
}

impl Backward for Mix {
    fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
        let ([a, b, v], Some(dy)) = (saved, &grads[0]) else { return vec![None, None, None] };
        let (mut da, mut db) = (a.zeros_like(), b.zeros_like());
        let mut dv = Vec::new();
        for (from, n) in self.groups(a) {
            let [v, dy] = [v, dy].map(|t| t.narrow(0, from, n));
            dv.push(self.matrix(a, b, from, n).transpose(1, 2).bmm(&dy));
            let dm = dy.bmm(&v.transpose(1, 2));
            match a.kind() {
                Kind::Double => self.pull::<f64>(&dm, [a, b], [&mut da, &mut db], from),
                _ => self.pull::<f32>(&dm, [a, b], [&mut da, &mut db], from),
            }
        }
        vec![Some(da), Some(db), Some(Tensor::cat(&dv, 0))]
    }
}

/// A number with arithmetic.
trait Real:
    Scalar
    + PartialOrd
    + AddAssign
    + Neg<Output = Self>
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
{
    const ZERO: Self;
    const ONE: Self;
    fn of(x: f64) -> Self;
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    fn of(x: f64) -> Self {
        x as f32
    }
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    fn of(x: f64) -> Self {
        x
    }
}

/// Row t of M added to `m`: `m_s += Σ_d f(a_dt + b_ds)`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn sum_row<T: Real>(m: &mut [T], a: &[T], b: &[T], t: usize, rounding: T) {
    let length = m.len();
    for (a, b) in a.chunks_exact(length).zip(b.chunks_exact(length)) {
        let a = a[t];
        if rounding > T::ZERO {
            for (m, &b) in m.iter_mut().zip(b) {
                let x = a + b;
                *m += x / (x * x + rounding);
            }
        } else {
            for (m, &b) in m.iter_mut().zip(b) {
                *m += T::ONE / (a + b);
            }
        }
    }
}

/// `da_t = Σ_s g_ts f'(a_t + b_s)`, `db_s = Σ_t g_ts f'(a_t + b_s)` for one term; both start at zero.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn pull_term<T: Real>(g: &[T], [a, b]: [&[T]; 2], [da, db]: [&mut [T]; 2], rounding: T) {
    // The sum along a row is kept in lanes, which is what lets it run as wide as the rest.
    const LANES: usize = 16;
    let length = a.len();
    for ((g, &a), da) in g.chunks_exact(length).zip(a).zip(da) {
        let slope = |b: T| {
            let x = a + b;
            if rounding > T::ZERO {
                let inverse = T::ONE / (x * x + rounding);
                (rounding - x * x) * inverse * inverse
            } else {
                let inverse = T::ONE / x;
                -(inverse * inverse)
            }
        };
        let mut lanes = [T::ZERO; LANES];
        let whole = length - length % LANES;
        let blocks = g[..whole].chunks_exact(LANES).zip(b[..whole].chunks_exact(LANES));
        for ((g, b), db) in blocks.zip(db[..whole].chunks_exact_mut(LANES)) {
            for lane in 0..LANES {
                let step = g[lane] * slope(b[lane]);
                lanes[lane] += step;
                db[lane] += step;
            }
        }
        for s in whole..length {
            let step = g[s] * slope(b[s]);
            lanes[0] += step;
            db[s] += step;
        }
        lanes.iter().for_each(|&lane| *da += lane);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::noise;

    /// [`mix`] with M kept and differentiated by libtorch.
    fn plain(a: &Tensor, b: &Tensor, v: &Tensor, rounding: f64) -> Tensor {
        plain_matrix(&a.transpose(1, 2), &b.transpose(1, 2), rounding).bmm(v)
    }

    #[test]
    fn the_kernel_has_the_values_and_gradients_of_the_formula() {
        for (kind, tolerance) in [(Kind::Double, 1e-11), (Kind::Float, 2e-5)] {
            for (n, length, rounding) in
                [(1, 1, 0.0), (3, 7, 0.0), (2, 16, 0.0), (5, 37, 0.0), (3, 37, 0.5), (1, 5, 0.5)]
            {
                let leaf = |shape: &[i64], salt: i64, shift: f64| {
                    (noise(shape, salt) + shift).to_kind(kind).set_requires_grad(true)
                };
                let leaves =
                    [leaf(&[n, 3, length], 1, 1.6), leaf(&[n, 3, length], 2, 1.6), leaf(&[n, length, 4], 3, 0.0)];
                let [a, b, v] = &leaves;
                let gradients = |y: &Tensor| {
                    let loss = (y * noise(&y.size(), 4).to_kind(kind)).sum(kind);
                    Tensor::run_backward(&[loss], &leaves, false, false)
                };
                let (fast, slow) = (mix(a, b, v, rounding), plain(a, b, v, rounding));
                let label = format!("{n} of {length}, {rounding}, {kind:?}");
                let near = |x: &Tensor, y: &Tensor| x.allclose(y, tolerance, tolerance, false);
                assert!(near(&fast, &slow), "values: {label}");
                let all = gradients(&fast).into_iter().zip(gradients(&slow));
                all.for_each(|(fast, slow)| assert!(near(&fast, &slow), "gradients: {label}"));
            }
        }
    }

    #[test]
    fn matrices_are_grouped_without_losing_any() {
        let groups = |n: i64, length: i64| -> Vec<(i64, i64)> {
            Mix { rounding: 0.0 }.groups(&Tensor::zeros([n, 1, length], (Kind::Float, tch::Device::Cpu))).collect()
        };
        assert_eq!(groups(5, 17), [(0, 5)]);
        assert_eq!(groups(5, 1024), [(0, 4), (4, 1)]);
        assert_eq!(groups(2, 4096), [(0, 1), (1, 1)]);
    }
}
