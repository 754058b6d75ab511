//! One token at a time: the state space run as the recurrence it is.
//!
//! ```text
//! x ← Ā x + B̄ u,   y = C x        S4D: Ā diagonal, C B̄ in one weight;   S4: Ā dense, C recovered from C̃
//! ```
//! Ā, B̄ and C are computed once, in float64, from the parameters as they stand then.

use super::Block;
use super::kernel::Kernel;
use crate::{Recurrent, tensor_bytes};
use tch::{Kind, Tensor, no_grad};

/// The discretized system of every channel.
#[derive(Debug)]
enum Matrices {
    /// Ā and C B̄, `[d_model, n]`, complex; real where the system is.
    Diagonal { a: Tensor, weights: Tensor },
    /// In real coordinates (Re x, Im x): Ā `[d_model, d_state, d_state]`, B̄ and C `[d_model, d_state]`.
    Dense { a: Tensor, b: Tensor, c: Tensor },
}

/// A one-directional kernel as a recurrence, and the state it has reached.
#[derive(Debug)]
pub(super) struct Recurrence {
    matrices: Matrices,
    /// `[batch, d_model, n]` complex, or `[batch, d_model, d_state]` real.
    state: Tensor,
}

impl Recurrence {
    pub fn of(kernel: &Kernel) -> Self {
        no_grad(|| {
            let matrices = Matrices::of(kernel);
            let state = matrices.start(1);
            Self { matrices, state }
        })
    }

    /// `[batch, d_model]` → `K * u` at this position, `[batch, d_model]`.
    pub fn step(&mut self, u: &Tensor) -> Tensor {
        let column = u.unsqueeze(-1);
        let y = match &self.matrices {
            Matrices::Diagonal { a, weights } => {
                self.state = a * &self.state + column;
                weights * &self.state
            }
            Matrices::Dense { a, b, c } => {
                self.state = a.matmul(&self.state.unsqueeze(-1)).squeeze_dim(-1) + b * column;
                c * &self.state
            }
        };
        let y = if y.is_complex() { y.real() } else { y };
        y.sum_dim_intlist(-1, false, u.kind())
    }
}

impl Matrices {
    fn of(kernel: &Kernel) -> Self {
        let kind = kernel.inv_dt.kind();
        let system = kernel.system(Kind::Double, true);
        if system.p.is_some() {
            let (a, b) = system.dense();
            let c = system.dense_c(&a, kernel.l_kernel).get(0);
            return Self::Dense { a: a.to_kind(kind), b: b.to_kind(kind), c: c.to_kind(kind) };
        }
        let (lambda, weights) = kernel.modes(&system, None);
        let (a, weights) = (lambda.exp(), weights.select(1, 0));
        if kernel.a_imag.is_none() {
            return Self::Diagonal { a: a.real().to_kind(kind), weights: weights.real().to_kind(kind) };
        }
        let complex = if kind == Kind::Double { Kind::ComplexDouble } else { Kind::ComplexFloat };
        Self::Diagonal { a: a.to_kind(complex), weights: weights.to_kind(complex) }
    }

    /// The state before the first token: zeros for `batch` sequences.
    fn start(&self, batch: i64) -> Tensor {
        let like = match self {
            Self::Diagonal { weights, .. } => weights,
            Self::Dense { b, .. } => b,
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
        Self { block, recurrence: Recurrence::of(&block.layer.kernel) }
    }
}

impl Recurrent for Stepper<'_> {
    fn reset(&mut self, batch: i64) {
        self.recurrence.state = self.recurrence.matrices.start(batch);
    }

    fn step(&mut self, x: &Tensor) -> Tensor {
        no_grad(|| {
            let y = self.recurrence.step(x) + x * self.block.layer.d.squeeze_dim(0);
            self.block.output(&y.gelu("none"))
        })
    }

    fn state_bytes(&self) -> i64 {
        tensor_bytes(&self.recurrence.state)
    }
}
