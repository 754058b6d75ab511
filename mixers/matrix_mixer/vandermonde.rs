//! Vandermonde: each position holds frequencies; M is a wave along its row less a wave along its column.
//!
//! ```text
//! M[t,s] = Σ_d (cos(2π ε q_td s) - cos(2π ε k_sd t)) / √(2 L d)      L = seq_len, d = qk_dim; q | k = conv, or learned
//! ```
//! Time     O(length² · (heads · qk_dim + d_inner)), by a kernel of our own that turns a wave step by step and takes few cosines
//! Memory   O(length · d_inner): M is computed head by head, and again in the backward pass
//! Departs  - `form: reference` has ε = 1/1000, as the reference's code: M is then small, and M v + v is mostly v.
//!            `form: paper` has ε = 1.
//!          - q and k that are learned exist in `form: paper` only. The reference's class adds the two waves and scales each v_t
//!            by the sum of its row, which mixes nothing, and its layer never builds it: what was published as data-independent
//!            Vandermonde is the Fourier matrix, `matrix: dft`. They start uniform in ±1/2, up to the highest frequency there
//!            is: at zero, where the reference starts, no gradient ever comes.

use super::{Form, Inside, MatrixClass, QueryKey, Reads, Shape, leading, times};
use crate::laws::goldens::{Golden, GoldenError, Replay};
use crate::native::kernels::native_for;
use crate::native::{Backward, Scalar, Shared, attach, elements, elements_mut, parallel_for, recompute};
use crate::{Context, divides, linear_flops};
use multiversion::multiversion;
use std::f64::consts::PI;
use std::ops::{Add, Mul, Neg, Sub};
use tch::nn::Init;
use tch::{Kind, Tensor, nn};

#[derive(Debug)]
pub(super) struct Vandermonde {
    nodes: Nodes,
    /// Cycles a position, for one unit of q or k.
    epsilon: f64,
    scale: f64,
    heads: i64,
    qk_dim: i64,
    d_inner: i64,
}

#[derive(Debug)]
enum Nodes {
    Read(QueryKey),
    /// Each `[heads, qk_dim, seq_len]`.
    Learned {
        q: Tensor,
        k: Tensor,
    },
}

impl Vandermonde {
    pub(super) fn new(vs: &nn::Path, shape: &Shape) -> Self {
        let Shape { cfg, heads, qk_dim, seq_len, d_inner, .. } = *shape;
        let nodes = if cfg.data_dependent {
            Nodes::Read(QueryKey::new(vs, shape, false))
        } else {
            let init = Init::Uniform { lo: -0.5, up: 0.5 };
            let [q, k] = ["q_bias", "k_bias"].map(|name| vs.var(name, &[heads, qk_dim, seq_len], init));
            Nodes::Learned { q, k }
        };
        let epsilon = if cfg.form == Form::Paper { 1.0 } else { 1e-3 };
        Self { nodes, epsilon, scale: scale(seq_len, qk_dim), heads, qk_dim, d_inner }
    }

    /// Radians a position, each `[batch or 1, heads, length, qk_dim]`.
    fn angles(&self, inside: &Inside) -> [Tensor; 2] {
        let qk = match &self.nodes {
            Nodes::Read(qk) => qk.of(inside, |t| t),
            Nodes::Learned { q, k } => [q, k].map(|t| leading(t, 2, inside.v.size()[1]).transpose(1, 2).unsqueeze(0)),
        };
        qk.map(|t| t * (2.0 * PI * self.epsilon))
    }
}

fn scale(seq_len: i64, qk_dim: i64) -> f64 {
    1.0 / ((2 * seq_len * qk_dim) as f64).sqrt()
}

impl MatrixClass for Vandermonde {
    fn reads(&self) -> Reads {
        match &self.nodes {
            Nodes::Read(qk) => qk.reads(),
            Nodes::Learned { .. } => Reads::default(),
        }
    }

    fn path(&self) -> &'static str {
        "native rows"
    }

    fn apply(&self, inside: &Inside, _: &Context) -> Tensor {
        let ([q, k], scale) = (self.angles(inside), self.scale);
        let one_head = move |t: &[Tensor]| {
            let length = t[2].size()[1];
            let m = waves(&t[0], length) - waves(&t[1], length).transpose(2, 3);
            times(&m, &t[2]) * scale
        };
        let heads: Vec<Tensor> = (0..self.heads)
            .map(|h| recompute(one_head, &[&q.narrow(1, h, 1), &k.narrow(1, h, 1), &inside.v.narrow(2, h, 1)]))
            .collect();
        Tensor::cat(&heads, 2)
    }

    fn matrix(&self, inside: &Inside, _: &Context) -> Tensor {
        let [q, k] = self.angles(inside).map(|angles| plain_waves(&angles, inside.v.size()[1]));
        (q - k.transpose(2, 3)) * self.scale
    }

    fn params(&self) -> i64 {
        match &self.nodes {
            Nodes::Read(_) => 0,
            Nodes::Learned { q, k } => (q.numel() + k.numel()) as i64,
        }
    }

    /// A step of one of the two waves is four products, two sums, and a sum into M.
    fn flops(&self, length: i64) -> i64 {
        2 * 7 * length * length * self.heads * self.qk_dim + linear_flops(length, length, self.d_inner)
    }
}

/// `Σ_d cos(angle_d l)` for l in `0..length`: `[…, n, d]` → `[…, n, length]`.
fn waves(angles: &Tensor, length: i64) -> Tensor {
    if !native_for(angles) {
        return plain_waves(angles, length);
    }
    let angles = angles.contiguous();
    let mut shape = angles.size();
    *shape.last_mut().expect("an axis of terms") = length;
    let mut m = Tensor::zeros(shape, (angles.kind(), angles.device()));
    tch::no_grad(|| match angles.kind() {
        Kind::Double => fill::<f64>(&mut m, &angles),
        _ => fill::<f32>(&mut m, &angles),
    });
    attach(Waves, &[&angles], &[&m], &[&angles]);
    m
}

/// The node of [`waves`].
struct Waves;

impl Backward for Waves {
    fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
        let Some(grad) = grads[0].as_ref().map(Tensor::contiguous) else { return vec![None] };
        let mut slope = saved[0].zeros_like();
        match grad.kind() {
            Kind::Double => pull::<f64>(&mut slope, &saved[0], &grad),
            _ => pull::<f32>(&mut slope, &saved[0], &grad),
        }
        vec![Some(slope)]
    }
}

/// Sizes of the last axis of two tensors, as a kernel counts.
fn widths(a: &Tensor, b: &Tensor) -> [usize; 2] {
    [a, b].map(|t| t.size().last().copied().unwrap_or(0) as usize)
}

/// Rows of `m`, one for each row of `angles`.
fn fill<T: Wave>(m: &mut Tensor, angles: &Tensor) {
    let [d, length] = widths(angles, m);
    let (angles, rows) = (elements::<T>(angles), m.numel() / length);
    let m = Shared::new(elements_mut::<T>(m));
    parallel_for(rows, 16, |range| {
        for row in range {
            // SAFETY: each row is reached once.
            let m = unsafe { m.part(row * length, length) };
            angles[row * d..(row + 1) * d].iter().for_each(|&angle| add_wave(m, &Turns::of(angle)));
        }
    });
}

/// `slope_d = -Σ_l grad_l l sin(angle_d l)`, row by row.
fn pull<T: Wave>(slope: &mut Tensor, angles: &Tensor, grad: &Tensor) {
    let [d, length] = widths(angles, grad);
    let (angles, grad) = (elements::<T>(angles), elements::<T>(grad));
    let slope = Shared::new(elements_mut::<T>(slope));
    parallel_for(angles.len() / d, 16, |range| {
        let mut by_step = vec![T::of(0.0); length];
        for row in range {
            let grad = grad[row * length..(row + 1) * length].iter().enumerate();
            by_step.iter_mut().zip(grad).for_each(|(by_step, (l, &grad))| *by_step = grad * T::of(l as f64));
            // SAFETY: each row is reached once.
            let slope = unsafe { slope.part(row * d, d) };
            for (slope, &angle) in slope.iter_mut().zip(&angles[row * d..(row + 1) * d]) {
                *slope = -sine_sum(&by_step, &Turns::of(angle));
            }
        }
    });
}

/// Steps of a wave taken together, a power of two: enough that the compiler keeps a loop, which it then makes wide.
const LANES: usize = 64;
/// Blocks of as many steps before the wave is set anew: a turn by multiplication adds its rounding each time.
const BLOCKS: usize = 16;

/// The numbers of a kernel.
trait Wave: Scalar + Neg<Output = Self> + Add<Output = Self> + Sub<Output = Self> + Mul<Output = Self> {
    fn of(x: f64) -> Self;
    fn wide(self) -> f64;
}

impl Wave for f32 {
    fn of(x: f64) -> Self {
        x as f32
    }
    fn wide(self) -> f64 {
        self.into()
    }
}

impl Wave for f64 {
    fn of(x: f64) -> Self {
        x
    }
    fn wide(self) -> f64 {
        self
    }
}

/// Cosines and sines of the first steps of a wave, and of the turn from one block of them to the next.
struct Turns<T> {
    angle: f64,
    cos: [T; LANES],
    sin: [T; LANES],
    block: [T; 2],
}

impl<T: Wave> Turns<T> {
    fn of(angle: T) -> Self {
        let angle = angle.wide();
        let (mut cos, mut sin) = ([0.0; LANES], [0.0; LANES]);
        cos[0] = 1.0;
        let (mut turn_sin, mut turn_cos) = angle.sin_cos();
        let mut known = 1;
        // The steps known, turned by as many steps, are as many more.
        while known < LANES {
            for lane in 0..known {
                cos[known + lane] = cos[lane] * turn_cos - sin[lane] * turn_sin;
                sin[known + lane] = cos[lane] * turn_sin + sin[lane] * turn_cos;
            }
            (turn_cos, turn_sin) = (turn_cos * turn_cos - turn_sin * turn_sin, 2.0 * turn_cos * turn_sin);
            known *= 2;
        }
        Self { angle, cos: cos.map(T::of), sin: sin.map(T::of), block: [T::of(turn_cos), T::of(turn_sin)] }
    }

    /// The first lanes, cosines and sines, turned to step `at`.
    #[inline(always)]
    fn at(&self, at: usize) -> [[T; LANES]; 2] {
        let (sin, cos) = (self.angle * at as f64).sin_cos();
        let mut lanes = [self.cos, self.sin];
        let [cosines, sines] = &mut lanes;
        cosines.iter_mut().zip(sines).for_each(|(cosine, sine)| turn(cosine, sine, [T::of(cos), T::of(sin)]));
        lanes
    }
}

#[inline(always)]
fn turn<T: Wave>(cosine: &mut T, sine: &mut T, [cos, sin]: [T; 2]) {
    (*cosine, *sine) = (*cosine * cos - *sine * sin, *cosine * sin + *sine * cos);
}

/// `m_l += cos(angle l)`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn add_wave<T: Wave>(m: &mut [T], turns: &Turns<T>) {
    for (n, stretch) in m.chunks_mut(LANES * BLOCKS).enumerate() {
        let [mut cosines, mut sines] = turns.at(n * LANES * BLOCKS);
        for block in stretch.chunks_mut(LANES) {
            for ((m, cosine), sine) in block.iter_mut().zip(&mut cosines).zip(&mut sines) {
                *m = *m + *cosine;
                turn(cosine, sine, turns.block);
            }
        }
    }
}

/// `Σ_l x_l sin(angle l)`.
#[multiversion(targets("x86_64+avx512f+avx512vl", "x86_64+avx2+fma"))]
fn sine_sum<T: Wave>(x: &[T], turns: &Turns<T>) -> T {
    let mut sums = [T::of(0.0); LANES];
    for (n, stretch) in x.chunks(LANES * BLOCKS).enumerate() {
        let [mut cosines, mut sines] = turns.at(n * LANES * BLOCKS);
        for block in stretch.chunks(LANES) {
            for (((x, sum), cosine), sine) in block.iter().zip(&mut sums).zip(&mut cosines).zip(&mut sines) {
                *sum = *sum + *x * *sine;
                turn(cosine, sine, turns.block);
            }
        }
    }
    sums.into_iter().fold(T::of(0.0), |total, sum| total + sum)
}

/// [`waves`] as it is defined.
fn plain_waves(angles: &Tensor, length: i64) -> Tensor {
    let steps = Tensor::arange(length, (angles.kind(), angles.device()));
    (angles.unsqueeze(-1) * steps).cos().sum_dim_intlist(-2, false, None::<Kind>)
}

/// What the reference's class computes of q and k that are learned: `matrix_mixer_core__*`, see the head of this file.
pub fn replay_core(golden: &Golden) -> Result<Replay, GoldenError> {
    golden.only("is_dft", &[false])?;
    golden.only("is_data_dependent", &[false])?;
    golden.without_effect(&["device", "dtype"]);
    let qk_dim = golden.size("qk_dim", "qk_dim")?;
    let width = golden.axes("input.v", &["batch", "L", ""])?;
    let (length, d_inner) = (width[1], width[2]);
    golden.agrees("d_model", d_inner / golden.int_or("expand", 2)?.max(1), "`input.v` and `expand` say")?;
    let headdim = golden.int_or("headdim", 128)?;
    golden.checked(
        &divides("headdim", headdim, "the width of `input.v`", d_inner).err().into_iter().collect::<Vec<_>>(),
    )?;
    let seq_len = golden.int_or("max_seq_len", length)?;
    golden.agrees("L", seq_len, "`max_seq_len` says: this class runs at no other length")?;
    golden.agrees("nheads", d_inner / headdim, "`input.v` and `headdim` say")?;
    let v = golden.input("v")?;
    let stored = |name: &str| {
        let key = format!("param.{name}");
        let (theirs, ours) = (golden.tensor(&key)?.size(), [d_inner / headdim, qk_dim, seq_len]);
        if theirs != ours {
            return Err(golden.malformed(format!("`{key}` has shape {theirs:?}, and the config asks for {ours:?}")));
        }
        Ok(golden.tensor(&key)?.copy().set_requires_grad(true))
    };
    let leaves: [Tensor; 2] = [stored("q_bias")?, stored("k_bias")?];
    let [q, k] = [0, 1].map(|i| waves(&(leaves[i].transpose(1, 2) * (2.0 * PI)), length));
    let row_sums = (q + k.transpose(1, 2)).sum_dim_intlist(-1, false, None::<Kind>).transpose(0, 1); // [length, heads]
    let by_head = v.unflatten(-1, [-1, headdim]);
    let y = (by_head * row_sums.unsqueeze(-1)).flatten(2, 3) * scale(seq_len, qk_dim) + &v;
    let mut replay = golden.replay(&[("y", &y)], &[("v", &v)], None)?;
    for (name, leaf) in ["q_bias", "k_bias"].into_iter().zip(&leaves) {
        replay.0.insert(format!("grad_param.{name}"), leaf.grad());
    }
    Ok(replay)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::noise;

    #[test]
    fn waves_turned_step_by_step_are_the_sum_of_cosines_in_values_and_gradients() {
        for (kind, tolerance) in [(Kind::Double, 1e-11), (Kind::Float, 1e-4)] {
            for length in [1, 2, 63, 64, 65, 200, 1024, 1025, 2100] {
                // Whole sixteenths: a float32 angle is then the same number in the plain sum, step by step.
                let angles = (noise(&[2, 5, 3], length) * 50.0).round() / 16.0;
                let angles = angles.to_kind(kind).set_requires_grad(true);
                let gradient = |y: &Tensor| {
                    let loss = (y * noise(&y.size(), 1).to_kind(kind)).sum(kind) / length as f64;
                    Tensor::run_backward(&[loss], &[&angles], false, false).remove(0)
                };
                let (fast, plain) = (waves(&angles, length), plain_waves(&angles, length));
                assert!(fast.allclose(&plain, tolerance, tolerance, false), "values at {length}, {kind:?}");
                let (fast, plain) = (gradient(&fast), gradient(&plain));
                assert!(fast.allclose(&plain, tolerance, tolerance, false), "gradients at {length}, {kind:?}");
            }
        }
    }
}
