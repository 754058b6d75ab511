//! One token at a time: the state space run as the recurrence it is.
//!
//! ```text
//! x ← Ā x + B̄ u,   y = C x        S4D: Ā diagonal, C B̄ in one weight;   S4: C recovered from C̃, and Ā
//! dense      as it is, in real coordinates
//! diagonal   in its eigenvectors, C B̄ in one weight
//! linear     x ← D (1 - P R*) (E x - P (P* x) + 2 B u),   D = 1 / (2/dt - Λ),  E = 2/dt + Λ,  R = (1 + P* D P)⁻¹ P* D
//! ```
//! Everything that does not change from token to token is computed once, in float64, from the parameters as they stand
//! then. A P* that stands before a state is summed over both halves of the conjugate pairs, 2 Re.

use super::kernel::{Kernel, System, unrow};
use super::{Block, StepMode};
use crate::{Recurrent, tensor_bytes};
use tch::{Kind, Tensor, no_grad};

/// The discretized system of every channel, one output a head.
#[derive(Debug)]
enum Matrices {
    /// Ā `[d_model, n]` and C B̄ `[channels, d_model, n]`, complex; real where the system is.
    Diagonal { a: Tensor, weights: Tensor },
    /// In real coordinates (Re x, Im x): Ā `[d_model, d_state, d_state]`, B̄ `[d_model, d_state]`, C `[channels, …]`.
    Dense { a: Tensor, b: Tensor, c: Tensor },
    /// Complex: `d`, `e`, 2 B `[d_model, n]`, P and R `[rank, d_model, n]`, C `[channels, d_model, n]`.
    Linear { d: Tensor, e: Tensor, b: Tensor, p: Tensor, r: Tensor, c: Tensor },
}

/// A one-directional kernel as a recurrence, and the state it has reached.
#[derive(Debug)]
pub(super) struct Recurrence {
    matrices: Matrices,
    /// `[batch, d_model, n]` complex, or `[batch, d_model, d_state]` real.
    pub state: Tensor,
}

impl Recurrence {
    pub fn of(kernel: &Kernel, mode: StepMode) -> Self {
        no_grad(|| {
            let kind = kernel.inv_dt.kind();
            let system = kernel.system(Kind::Double, true);
            let matrices = if system.p.is_some() {
                Matrices::low_rank(&system, kernel.l_kernel, mode)
            } else {
                let (lambda, weights) = kernel.modes(&system, None);
                let weights = weights.transpose(0, 1);
                match kernel.a_imag {
                    Some(_) => Matrices::Diagonal { a: lambda.exp(), weights },
                    None => Matrices::Diagonal { a: lambda.exp().real(), weights: weights.real() },
                }
            };
            Self::from(matrices.to_kind(kind))
        })
    }

    /// Of a system that is diagonal: Ā `[d_model, n]` and C B̄ `[1, d_model, n]`, in the kind they are run in.
    pub fn diagonal(a: Tensor, weights: Tensor) -> Self {
        Self::from(Matrices::Diagonal { a, weights })
    }

    fn from(matrices: Matrices) -> Self {
        let state = matrices.start(1);
        Self { matrices, state }
    }

    pub fn reset(&mut self, batch: i64) {
        self.state = self.matrices.start(batch);
    }

    /// `[batch, d_model, n, 2]` where the state is complex.
    pub fn state_as_real(&self) -> Tensor {
        if self.state.is_complex() { self.state.view_as_real() } else { self.state.shallow_clone() }
    }

    /// `[batch, d_model]` → `K * u` at this position, `[batch, channels, d_model]`.
    pub fn step(&mut self, u: &Tensor) -> Tensor {
        let column = u.unsqueeze(-1);
        let x = &self.state;
        let sum = |t: Tensor| t.sum_dim_intlist(-1, false, t.kind());
        let (next, y) = match &self.matrices {
            Matrices::Diagonal { a, weights } => {
                let next = a * x + column;
                let y = sum(weights * next.unsqueeze(1));
                (next, y)
            }
            Matrices::Dense { a, b, c } => {
                let next = a.matmul(&x.unsqueeze(-1)).squeeze_dim(-1) + b * column;
                let y = sum(c * next.unsqueeze(1));
                (next, y)
            }
            Matrices::Linear { d, e, b, p, r, c } => {
                // P (q x), q read over both halves of the pairs
                let project = |q: &Tensor, x: &Tensor| {
                    let inner = (q * x.unsqueeze(1)).sum_dim_intlist(-1, true, x.kind()).real() * 2.0;
                    (p * inner).sum_dim_intlist(1, false, x.kind())
                };
                let moved = e * x - project(&p.conj(), x) + b * column;
                let next = d * (&moved - project(r, &moved));
                let y = sum(c * next.unsqueeze(1)) * 2.0;
                (next, y)
            }
        };
        self.state = next;
        if y.is_complex() { y.real() } else { y }
    }
}

impl Matrices {
    /// S4.
    fn low_rank(system: &System, l_kernel: i64, mode: StepMode) -> Self {
        let (a, b) = system.dense();
        let c = system.dense_c(&a, l_kernel);
        match mode {
            StepMode::Dense => Self::Dense { a, b, c },
            StepMode::Diagonal => {
                let (eigenvalues, vectors) = a.linalg_eig();
                let complex = |t: &Tensor| t.to_kind(Kind::ComplexDouble);
                let b = Tensor::linalg_solve(&vectors, &complex(&b).unsqueeze(-1), true).squeeze_dim(-1);
                let c = complex(&c).transpose(0, 1).matmul(&vectors).transpose(0, 1);
                Self::Diagonal { a: eigenvalues, weights: c * b }
            }
            StepMode::Linear => {
                let p = system.p.as_ref().expect("S4 has P");
                let twice = system.dt.reciprocal() * 2.0;
                let d = (&twice - &system.a).reciprocal();
                let qd = (p.conj() * &d).transpose(0, 1); // [d_model, rank, n]
                let rank = p.size()[0];
                let inner =
                    qd.matmul(&p.permute([1, 2, 0])).real() * 2.0 + Tensor::eye(rank, (Kind::Double, p.device()));
                let r = Tensor::linalg_solve(&inner.to_kind(Kind::ComplexDouble), &qd, true).transpose(0, 1);
                let e = twice + &system.a;
                Self::Linear { d, e, b: system.b.squeeze_dim(0) * 2.0, p: p.shallow_clone(), r, c: unrow(&c) }
            }
        }
    }

    /// Every tensor in `kind`, or in the complex kind made of it.
    fn to_kind(&self, kind: Kind) -> Self {
        let complex = if kind == Kind::Double { Kind::ComplexDouble } else { Kind::ComplexFloat };
        let turn = |t: &Tensor| t.resolve_conj().to_kind(if t.is_complex() { complex } else { kind });
        match self {
            Self::Diagonal { a, weights } => Self::Diagonal { a: turn(a), weights: turn(weights) },
            Self::Dense { a, b, c } => Self::Dense { a: turn(a), b: turn(b), c: turn(c) },
            Self::Linear { d, e, b, p, r, c } => {
                Self::Linear { d: turn(d), e: turn(e), b: turn(b), p: turn(p), r: turn(r), c: turn(c) }
            }
        }
    }

    /// The state before the first token: zeros for `batch` sequences.
    fn start(&self, batch: i64) -> Tensor {
        let like = match self {
            Self::Diagonal { a, .. } => a,
            Self::Dense { b, .. } => b,
            Self::Linear { d, .. } => d,
        };
        let size = like.size();
        Tensor::zeros([batch, size[0], size[1]], (like.kind(), like.device()))
    }
}

/// The whole block, one token at a time.
#[derive(Debug)]
pub(super) struct Stepper<'a> {
    block: &'a Block,
    recurrence: Recurrence,
}

impl<'a> Stepper<'a> {
    pub fn new(block: &'a Block) -> Self {
        let mode = block.cfg.step_mode.unwrap_or(StepMode::Dense);
        Self { block, recurrence: Recurrence::of(&block.layer.kernel, mode) }
    }
}

impl Recurrent for Stepper<'_> {
    fn reset(&mut self, batch: i64) {
        self.recurrence.reset(batch);
    }

    fn step(&mut self, x: &Tensor) -> Tensor {
        no_grad(|| {
            let y = self.recurrence.step(x) + x.unsqueeze(1) * &self.block.layer.d;
            self.block.output(&y.flatten(1, 2).gelu("none"))
        })
    }

    fn state_bytes(&self) -> i64 {
        tensor_bytes(&self.recurrence.state)
    }

    fn state(&self) -> Vec<Tensor> {
        vec![self.recurrence.state_as_real()]
    }
}
