//! The scalar state space that all channels of a direction share.
//!
//! ```text
//! y = K * u + D u,   K[l] = Re Σ_n C_n (e^{dt A_n} - 1)/A_n e^{l dt A_n}
//! ```

use super::conv::{Activation, Side, convolve};
use super::{Config, Init as Start, Scaling};
use crate::math::conv::{complex_expm1, exponential_kernel, real_kind};
use crate::math::hippo::legs;
use crate::{Context, tensor_bytes};
use std::f64::consts::PI;
use tch::nn::{self, Init};
use tch::{Device, Kind, Tensor, no_grad};

/// One scalar state space with a skip connection, the same for every channel.
#[derive(Debug)]
pub(super) struct Ssm {
    pub kernel: Kernel,
    /// `[1]`.
    pub d: Tensor,
}

impl Ssm {
    pub fn new(vs: &nn::Path, cfg: &Config) -> Self {
        let kernel = Kernel::new(&(vs / "kernel"), cfg);
        let d = match cfg.init {
            Start::Port => vs.randn_standard("D", &[1]),
            Start::Official => vs.ones("D", &[1]),
        };
        Self { kernel, d }
    }

    /// `σ(x)` `[batch, length, channels]` through the state space from one end.
    pub fn apply(&self, x: &Tensor, side: Side, act: Activation, ctx: &Context) -> Tensor {
        convolve(x, &self.taps(x.size()[1]), side, act, ctx)
    }

    /// The kernel with the skip connection at lag 0, `[length]`.
    pub fn taps(&self, length: i64) -> Tensor {
        self.kernel.kernel(length).squeeze_dim(0) + self.d.constant_pad_nd([0, length - 1])
    }

    /// The same as a recurrence, from the parameters as they stand now.
    pub fn recurrence(&self, channels: i64) -> Recurrence {
        no_grad(|| {
            let (weights, lambda) = self.kernel.modes(Kind::Double);
            let kind = self.kernel.c.kind();
            let complex = if kind == Kind::Double { Kind::ComplexDouble } else { Kind::ComplexFloat };
            let mut recurrence = Recurrence {
                a: lambda.exp().to_kind(complex),
                weights: weights.to_kind(complex),
                d: self.d.detach(),
                state: Tensor::default(),
                channels,
            };
            recurrence.reset(1);
            recurrence
        })
    }
}

/// S4D's kernel with zero-order hold and B = 1, its modes unpaired.
#[derive(Debug)]
pub(super) struct Kernel {
    /// `[n, 2]`.
    pub c: Tensor,
    /// `[n]`.
    pub a_re: Tensor,
    /// `[n]`.
    pub a_im: Tensor,
    /// log dt, `[1]`.
    pub log_step: Tensor,
}

impl Kernel {
    pub fn new(vs: &nn::Path, cfg: &Config) -> Self {
        let n = cfg.d_state;
        Self {
            c: vs.randn("C", &[n, 2], 0.0, 0.5f64.sqrt()),
            a_re: vs.var("A_re", &[n], Init::Const(-0.5)),
            a_im: vs.var_copy("A_im", &frequencies(cfg.scaling(), n)),
            log_step: vs.uniform("log_step", &[1], cfg.dt_min.ln(), cfg.dt_max.ln()),
        }
    }

    /// `C (e^{dt A} - 1)/A` and `dt A`, complex `[n]`.
    fn modes(&self, kind: Kind) -> (Tensor, Tensor) {
        let a = Tensor::complex(&self.a_re.to_kind(kind).clamp_max(-1e-4), &self.a_im.to_kind(kind));
        let lambda = &a * self.log_step.to_kind(kind).exp();
        (self.c.to_kind(kind).view_as_complex() * complex_expm1(&lambda) / a, lambda)
    }

    /// `[1, length]`, summed in float64: there is one kernel for all channels, and the gradient of its one step size is a
    /// small difference of large numbers.
    pub fn kernel(&self, length: i64) -> Tensor {
        let (weights, lambda) = self.modes(Kind::Double);
        exponential_kernel(&weights.unsqueeze(0), &lambda, length).to_kind(self.c.kind())
    }
}

/// Im A at the start, `[n]`: the modes are not paired, so all n are kept.
pub(super) fn frequencies(scaling: Scaling, n: i64) -> Tensor {
    let f64 = (Kind::Double, Device::Cpu);
    match scaling {
        Scaling::Lin => Tensor::arange(n, f64) * PI,
        Scaling::Inv => {
            let size = n as f64;
            ((Tensor::arange(n, f64) * 2.0 + 1.0).reciprocal() * size - 1.0) * (size / PI)
        }
        Scaling::Hippo => {
            let (a, _, p) = legs(n);
            let normal = a + p.outer(&p);
            let skew = (&normal - normal.tr()) / 2.0;
            Tensor::complex(&skew.zeros_like(), &-skew).linalg_eigh("L").0 // -iS is Hermitian
        }
    }
}

/// A state space one token at a time: `x ← Ā x + u`, `y = Re(C B̄ x) + D u`.
#[derive(Debug)]
pub(super) struct Recurrence {
    a: Tensor,
    weights: Tensor,
    d: Tensor,
    /// Complex `[batch, channels, n]`.
    state: Tensor,
    channels: i64,
}

impl Recurrence {
    /// Forgets everything.
    pub fn reset(&mut self, batch: i64) {
        self.state = Tensor::zeros([batch, self.channels, self.a.size()[0]], (self.a.kind(), self.a.device()));
    }

    /// `[batch, channels]` → `[batch, channels]`.
    pub fn step(&mut self, u: &Tensor) -> Tensor {
        self.state = &self.a * &self.state + u.unsqueeze(-1);
        let y = (&self.weights * &self.state).real();
        y.sum_dim_intlist(-1, false, real_kind(self.a.kind())) + u * &self.d
    }

    /// Bytes of the state.
    pub fn bytes(&self) -> i64 {
        tensor_bytes(&self.state)
    }

    /// `[batch, channels, n, 2]`.
    pub fn state_as_real(&self) -> Tensor {
        self.state.view_as_real()
    }
}
