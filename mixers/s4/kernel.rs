//! The convolution kernel of a bank of state spaces: S4's by a generating function at the roots of unity, S4D's as a sum
//! of exponentials.
//!
//! ```text
//! S4D   K[l] = 2 Re Σ_n C_n B̄_n Ā_n^l
//! S4    K̂(ω_j) = 2/(1+ω_j) [ r_BC - r_BQ (1 + r_PQ)⁻¹ r_PC ](z_j),   K = irfft K̂,   ω_j = e^{-iθ_j},  θ_j = 2πj/L
//!       r_vw(z) = Σ_n dt v_n w_n / (z - dt a_n) + conjugate pair,   z = 2 (1-ω)/(1+ω) = 2i tan(θ/2),   Q = P*
//! ```
//! z is imaginary, so a conjugate pair is one term with real coefficients. With s = sin θ/2, c = cos θ/2, a scaled by dt,
//! and both fractions multiplied by c², nothing divides by c and the last node of an even L (ω = -1) is an ordinary one:
//! ```text
//! ρ_vw = r_vw / c = Σ_n (c S_n + 2is R_n) / q_n,   R = 2 Re(v w),  S = -2 Re(v w ā),   q_n = |a_n|² c² - 4s² - 4i Re(a_n) s c
//! K̂ = e^{iθ/2} [ ρ_BC - ρ_BQ (1 + c ρ_PQ)⁻¹ c ρ_PC ]
//! ```
//! R and S are the only things that differ between the four r's, so all of them are one product of real matrices.

use super::{Config, Disc, DtTransform, Mode, RealTransform, StateInit};
use crate::math::conv::{complex_expm1, exponential_kernel, real_kind, rfft_flops};
use crate::math::hippo;
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor, nn, no_grad};

/// Floor of -Re A, of -Im A and, under softplus, of dt where parameters are initialized.
const FLOOR: f64 = 1e-4;

/// Sizes of a kernel bank.
pub(super) struct Shape {
    /// Kernels per channel: one per direction.
    pub outputs: i64,
    pub d_model: i64,
    /// The length that C̃ is tuned to.
    pub seq_len: i64,
}

/// Parameters and settings of a bank of state spaces: H channels, S copies of A, n modes.
#[derive(Debug)]
pub(super) struct Kernel {
    /// `[H, 1]`, or `[H, n]` where each mode has its own step.
    pub inv_dt: Tensor,
    /// `[S, n]`.
    pub a_real: Tensor,
    /// `[S, n]`; `None` where the system is real.
    pub a_imag: Option<Tensor>,
    /// `[1, S, n, 2]`; `[1, S, n]` where the system is real.
    pub b: Tensor,
    /// `[outputs, H, n, 2]`; `[outputs, H, n]` where the system is real. In `dplr` mode it is C̃.
    pub c: Tensor,
    /// `[rank, S, n, 2]`, `dplr` only.
    pub p: Option<Tensor>,
    pub disc: Disc,
    pub dt_transform: DtTransform,
    pub real_transform: RealTransform,
    pub bandlimit: Option<f64>,
    /// `dplr`: the length that C̃ belongs to. `dss`: the length over which the kernel is normalised.
    pub l_kernel: i64,
    /// Factor on dt: 2 reads a signal sampled half as often.
    pub rate: f64,
}

/// The continuous system of every channel, complex; the copies of A dealt out to the channels.
pub(super) struct System {
    /// Real `[H, 1 or n]`.
    pub dt: Tensor,
    /// `[H, n]`.
    pub a: Tensor,
    /// `[1, H, n]`.
    pub b: Tensor,
    /// `[outputs, H, n]`.
    pub c: Tensor,
    /// `[rank, H, n]`.
    pub p: Option<Tensor>,
}

impl Kernel {
    pub fn new(vs: &nn::Path, shape: &Shape, cfg: &Config) -> Self {
        let (h, real) = (shape.d_model, cfg.init == StateInit::Real);
        let copies = cfg.n_ssm.unwrap_or(h);
        let modes = if real { cfg.d_state } else { cfg.d_state / 2 };
        let (a, b, p) = initial_state(cfg, modes);
        let tile = |t: &Tensor| t.unsqueeze(0).repeat([copies, 1]);
        let pairs = |t: &Tensor| t.resolve_conj().view_as_real().unsqueeze(0);
        let normal = |n: &[i64]| Tensor::randn(n, (Kind::Double, Device::Cpu));
        let mut kernel = Self {
            inv_dt: vs.var_copy("inv_dt", &initial_dt(cfg, h)),
            a_real: vs.var_copy("A_real", &inverse_real(cfg.real_transform, &-tile(&a).real())),
            a_imag: (!real).then(|| vs.var_copy("A_imag", &(-tile(&a).imag()).clamp_min(FLOOR))),
            b: vs.var_copy("B", &if real { tile(&b).unsqueeze(0) } else { pairs(&tile(&b)) }),
            c: vs.var_copy(
                "C",
                &if real {
                    normal(&[shape.outputs, h, modes])
                } else {
                    normal(&[shape.outputs, h, modes, 2]) * 0.5f64.sqrt()
                },
            ),
            p: p.map(|p| vs.var_copy("P", &pairs(&tile(&p)))),
            disc: cfg.disc.unwrap_or(if cfg.mode == Mode::Dplr { Disc::Bilinear } else { Disc::Zoh }),
            dt_transform: cfg.dt_transform,
            real_transform: cfg.real_transform,
            bandlimit: None,
            l_kernel: shape.seq_len,
            rate: 1.0,
        };
        if kernel.p.is_some() {
            kernel.tune_to(shape.seq_len);
        }
        kernel.bandlimit = cfg.bandlimit; // of C̃, as upstream: C is tuned whole
        kernel
    }

    /// Overwrites C with C̃ = C (I - Ā^length), computed in float64.
    fn tune_to(&mut self, length: i64) {
        no_grad(|| {
            let system = self.system(Kind::Double, false);
            let (da, _) = system.dense();
            let c = row(&system.c); // [outputs, H, 2n]
            let tuned = &c - times(&c, &da.linalg_matrix_power(length));
            self.c.copy_(&unrow(&tuned).resolve_conj().view_as_real());
        });
        self.l_kernel = length;
    }

    /// Names of the parameters.
    pub fn names(&self) -> Vec<&'static str> {
        let mut names = vec!["inv_dt", "A_real", "B", "C"];
        names.extend(self.a_imag.as_ref().map(|_| "A_imag"));
        names.extend(self.p.as_ref().map(|_| "P"));
        names
    }

    /// Trainable scalars.
    pub fn params(&self) -> i64 {
        let optional = [&self.a_imag, &self.p].into_iter().flatten();
        [&self.inv_dt, &self.a_real, &self.b, &self.c].into_iter().chain(optional).map(|t| t.numel() as i64).sum()
    }

    /// `K` for lags `0..length`, `[outputs, H, length]`.
    pub fn kernel(&self, length: i64) -> Tensor {
        self.responses(length, None).1
    }

    /// What an initial `state`, complex `[batch, H, n]`, adds to the outputs, `C Ā^{l+1} x`: `[batch, outputs, H, length]`.
    pub fn state_kernel(&self, length: i64, state: &Tensor) -> Tensor {
        self.responses(length, Some(state)).0
    }

    /// The responses to the state (empty without one) and to an impulse.
    fn responses(&self, length: i64, state: Option<&Tensor>) -> (Tensor, Tensor) {
        let system = self.system(self.inv_dt.kind(), true);
        let rows = match self.p {
            Some(_) => self.generating_function(&self.extended(system, length), length, state),
            None => {
                let (lambda, weights) = self.modes(&system, state);
                exponential_kernel(&weights, &lambda, length) // [H, rows · outputs, length]
            }
        };
        let outputs = self.c.size()[0];
        let rows = rows.unflatten(1, [-1, outputs]).permute([1, 2, 0, 3]); // [rows, outputs, H, length]
        let last = rows.size()[0] - 1;
        (rows.narrow(0, 0, last), rows.get(last))
    }

    /// dt, A, B, C, P of every channel in the given real kind; `at_rate` applies `rate` to dt.
    pub fn system(&self, kind: Kind, at_rate: bool) -> System {
        let h = self.inv_dt.size()[0];
        let deal = |t: &Tensor| {
            let mut repeats = vec![1; t.dim()];
            repeats[t.dim() - 2] = h / t.size()[t.dim() - 2];
            t.repeat(repeats.as_slice())
        };
        let stored = |t: &Tensor| t.to_kind(kind);
        let complex = |t: &Tensor| match self.a_imag {
            Some(_) => stored(t).view_as_complex(),
            None => Tensor::complex(&stored(t), &stored(t).zeros_like()),
        };
        let raw_dt = stored(&self.inv_dt);
        let dt = match self.dt_transform {
            DtTransform::Softplus => raw_dt.softplus(),
            DtTransform::Exp => raw_dt.exp(),
        };
        let raw_a = stored(&self.a_real);
        let real = -match self.real_transform {
            RealTransform::Exp => raw_a.exp(),
            RealTransform::Relu => raw_a.relu() + FLOOR,
            RealTransform::Softplus => raw_a.softplus(),
        };
        let imag = self.a_imag.as_ref().map_or_else(|| real.zeros_like(), |imag| -stored(imag));
        let c = match self.bandlimit {
            None => complex(&self.c),
            Some(share) => {
                let turns = &dt * deal(&imag).abs() / (2.0 * PI); // per position
                complex(&self.c) * turns.lt(share / 2.0).to_kind(kind)
            }
        };
        System {
            dt: if at_rate { dt * self.rate } else { dt },
            a: deal(&Tensor::complex(&real, &imag)),
            b: deal(&complex(&self.b)),
            c,
            p: self.p.as_ref().map(|p| deal(&complex(p))),
        }
    }

    /// S4D as weighted exponentials: log Ā, complex `[H, n]`, and C B̄ with the factor of the pair, complex
    /// `[H, rows · outputs, n]`; one row for the input, after one per entry of `state`.
    pub fn modes(&self, system: &System, state: Option<&Tensor>) -> (Tensor, Tensor) {
        let System { dt, a, b, c, .. } = system;
        let dta = a * dt;
        let (lambda, b_bar, pair) = match self.disc {
            Disc::Zoh => (dta.shallow_clone(), b * (complex_expm1(&dta) / a), 2.0),
            Disc::Bilinear => {
                let half = &dta / 2.0;
                let below = (-&half + 1.0).reciprocal();
                (((half + 1.0) * &below).log(), b * (dt * below), 2.0)
            }
            Disc::Dss => {
                let x = a * complex_expm1(&(&dta * self.l_kernel));
                let inverse = x.conj() / (&x * x.conj() + 1e-7);
                (dta.shallow_clone(), b * (complex_expm1(&dta) * inverse), 1.0)
            }
        };
        let inputs = match state {
            None => b_bar,
            Some(x) => Tensor::cat(&[x * lambda.exp(), b_bar], 0),
        };
        let weights = inputs.unsqueeze(1) * c.unsqueeze(0) * pair; // [rows, outputs, H, n]
        (lambda, weights.flatten(0, 1).transpose(0, 1))
    }

    /// The least length from `length` that C̃ can be brought to by doubling, and how many doublings that takes.
    fn reach(&self, length: i64) -> (i64, u32) {
        let mut doublings = 0;
        while ((self.l_kernel << doublings) as f64) < self.rate * length as f64 {
            doublings += 1;
        }
        (self.l_kernel << doublings, doublings)
    }

    /// The system with C̃ for twice, four times, … `l_kernel`, until `length` is reached: C̃ ← C̃ (I + Ā^l_kernel).
    fn extended(&self, mut system: System, length: i64) -> System {
        let (_, doublings) = self.reach(length);
        if doublings == 0 {
            return system;
        }
        let (da, _) = self.system(Kind::Double, false).dense();
        let mut power = da.linalg_matrix_power(self.l_kernel);
        let kind = system.c.kind();
        let mut c = row(&system.c.to_kind(Kind::ComplexDouble));
        for _ in 0..doublings {
            c = &c + times(&c, &power);
            power = power.matmul(&power);
        }
        system.c = unrow(&c).to_kind(kind);
        system
    }

    /// S4's kernel by the formulas in the head of this file: real `[H, rows · outputs, length]`.
    fn generating_function(&self, system: &System, length: i64, state: Option<&Tensor>) -> Tensor {
        let System { dt, a, b, c, p } = system;
        let p = p.as_ref().expect("S4 has P");
        let points = (self.reach(length).0 as f64 / self.rate).round() as i64;
        let nodes = Nodes::new(points, b);
        let inputs = match state {
            None => b.shallow_clone(),
            Some(x) => Tensor::cat(&[unbilinear(x, a, p, dt), b.shallow_clone()], 0),
        };
        let (rows, outputs, rank) = (inputs.size()[0], c.size()[0], p.size()[0]);
        let left = Tensor::cat(&[&inputs, p], 0).transpose(0, 1); // [H, rows + rank, n]
        let right = Tensor::cat(&[c.shallow_clone(), p.conj()], 0).transpose(0, 1); // [H, outputs + rank, n]
        let weights = left.unsqueeze(2) * right.unsqueeze(1) * dt.view([-1, 1, 1, dt.size()[1]]);
        let rho = nodes.cauchy(&weights.flatten(1, 2), &(a * dt)).unflatten(1, [rows + rank, outputs + rank]);
        let block = |from: [i64; 2], size: [i64; 2]| rho.narrow(1, from[0], size[0]).narrow(2, from[1], size[1]);
        let bc = block([0, 0], [rows, outputs]);
        let bq = block([0, outputs], [rows, rank]);
        let pc = block([rows, 0], [rank, outputs]) * &nodes.cos;
        let pq = block([rows, outputs], [rank, rank]) * &nodes.cos;
        let correction = if rank == 1 {
            bq * (pc / (pq + 1))
        } else {
            let square = |t: Tensor| t.permute([0, 3, 1, 2]); // [H, nodes, ·, ·]
            let one = eye(rank, &pq);
            square(bq).matmul(&Tensor::linalg_solve(&(square(pq) + one), &square(pc), true)).permute([0, 2, 3, 1])
        };
        let spectrum = (bc - correction) * Tensor::complex(&nodes.cos, &nodes.sin);
        spectrum.fft_irfft(points, -1, "backward").narrow(-1, 0, length).flatten(1, 2)
    }

    /// Floating-point operations of the kernel for `length` positions: for S4 the four Cauchy sums at L/2 + 1 nodes and an
    /// inverse transform, for S4D the sum of exponentials.
    pub fn flops(&self, length: i64) -> i64 {
        let size = self.c.size();
        let (outputs, h, modes) = (size[0], size[1], size[2]);
        let kernel = match self.p {
            None => 4 * outputs * modes * length,
            Some(_) => {
                let points = self.reach(length).0;
                let nodes = points / 2 + 1;
                // Denominators (10), then real products with U and V for R and S of each of (1 + 1)(outputs + 1) sums.
                nodes * modes * (10 + 8 * 2 * (outputs + 1)) + outputs * rfft_flops(points)
            }
        };
        h * (kernel + rfft_flops(2 * length))
    }
}

impl System {
    /// The bilinear discretization in real coordinates (Re x, Im x): Ā `[H, 2n, 2n]` and B̄ `[H, 2n]`.
    pub fn dense(&self) -> (Tensor, Tensor) {
        let Self { dt, a, b, p, .. } = self;
        let (re, im) = (a.real().diag_embed(0, -2, -1), a.imag().diag_embed(0, -2, -1));
        let halves = [Tensor::cat(&[re.shallow_clone(), -&im], -1), Tensor::cat(&[im, re], -1)];
        let mut a = Tensor::cat(&halves, -2);
        if let Some(p) = p {
            let p = stacked(p).permute([1, 2, 0]); // [H, 2n, rank]
            a = &a - p.matmul(&p.transpose(1, 2)) * 2.0; // P*x of both halves of the pairs is 2 Re(P̄·x)
        }
        let half = a * (dt.unsqueeze(-1) / 2.0);
        let one = eye(half.size()[1], &half);
        let b = stacked(&b.squeeze_dim(0)).unsqueeze(-1) * dt.unsqueeze(-1);
        let solved = Tensor::linalg_solve(&(&one - &half), &Tensor::cat(&[&one + &half, b], -1), true);
        let n = solved.size()[1];
        (solved.narrow(-1, 0, n), solved.select(-1, n))
    }

    /// C as it reads the real coordinates, tuned back from C̃: `dC = C̃ (I - Ā^l_kernel)⁻¹`, `[outputs, H, 2n]`.
    pub fn dense_c(&self, da: &Tensor, l_kernel: i64) -> Tensor {
        let truncated = eye(da.size()[1], da) - da.linalg_matrix_power(l_kernel);
        let rows = row(&self.c).transpose(0, 1); // [H, outputs, 2n]
        Tensor::linalg_solve(&truncated, &rows, false).transpose(0, 1)
    }
}

/// The roots of unity of the truncated generating function, half of them.
struct Nodes {
    /// sin θ/2, `[nodes]`.
    sin: Tensor,
    /// cos θ/2, `[nodes]`.
    cos: Tensor,
}

impl Nodes {
    fn new(points: i64, like: &Tensor) -> Self {
        let kind = real_kind(like.kind());
        let half = Tensor::arange(points / 2 + 1, (Kind::Double, like.device())) * (PI / points as f64);
        Self { sin: half.sin().to_kind(kind), cos: half.cos().to_kind(kind) }
    }

    /// ρ: complex `weights` `[H, sums, n]` and `a` `[H, n]` → complex `[H, sums, nodes]`.
    fn cauchy(&self, weights: &Tensor, a: &Tensor) -> Tensor {
        let Self { sin, cos } = self;
        let (u, v) = self.reciprocals(a);
        let r = weights.real() * 2.0;
        let s = (weights * a.conj().unsqueeze(1)).real() * -2.0;
        let both = Tensor::cat(&[s, r], 1); // [H, 2 sums, n]
        let (real, imag) = (both.bmm(&u).chunk(2, 1), both.bmm(&v).chunk(2, 1));
        let twice = sin * 2.0;
        Tensor::complex(&(&real[0] * cos - &imag[1] * &twice), &(&imag[0] * cos + &real[1] * &twice))
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
}

/// `(I + dt/2 A) x / dt`: what B would have to be for the bilinear B̄ to be Ā x. `x` is `[batch, H, n]`.
fn unbilinear(x: &Tensor, a: &Tensor, p: &Tensor, dt: &Tensor) -> Tensor {
    let inner = (p.conj().unsqueeze(0) * x.unsqueeze(1)).sum_dim_intlist(-1, true, x.kind()); // [batch, rank, H, 1]
    let low_rank = (p * (inner.real() * 2.0)).sum_dim_intlist(1, false, x.kind());
    x / dt + (x * a - low_rank) / 2.0
}

/// The real identity, on the device of `like`.
fn eye(n: i64, like: &Tensor) -> Tensor {
    Tensor::eye(n, (real_kind(like.kind()), like.device()))
}

/// Complex `[…, n]` as the real vector (re, im), `[…, 2n]`.
fn stacked(z: &Tensor) -> Tensor {
    Tensor::cat(&[z.real(), z.imag()], -1)
}

/// The real row that gives 2 Re(c·x) from (re x, im x).
fn row(c: &Tensor) -> Tensor {
    stacked(&c.conj().resolve_conj()) * 2.0
}

/// The inverse of [`row`].
fn unrow(row: &Tensor) -> Tensor {
    let halves = row.chunk(2, -1);
    Tensor::complex(&(&halves[0] / 2.0), &(&halves[1] / -2.0))
}

/// Rows `[outputs, H, m]` times matrices `[H, m, m]`.
fn times(rows: &Tensor, matrices: &Tensor) -> Tensor {
    rows.transpose(0, 1).matmul(matrices).transpose(0, 1)
}

/// A, B and P of one copy at the start: complex (real for `init: real`) `[n]`.
fn initial_state(cfg: &Config, modes: i64) -> (Tensor, Tensor, Option<Tensor>) {
    let ones = |a: &Tensor| a.ones_like();
    match cfg.init {
        StateInit::Legs => {
            let nplr = hippo::nplr_legs(cfg.d_state);
            let b = nplr.clamped_b();
            (nplr.lambda, b, (cfg.mode == Mode::Dplr).then_some(nplr.p))
        }
        StateInit::Lin => {
            let a = hippo::diag_lin(cfg.d_state);
            let b = ones(&a);
            (a, b, None)
        }
        StateInit::Inv => {
            let a = hippo::diag_inv(cfg.d_state);
            let b = ones(&a);
            (a, b, None)
        }
        StateInit::Real => {
            let a = hippo::diag_real(modes);
            let b = ones(&a);
            (a, b, None)
        }
    }
}

/// log-uniform dt, in the form it is stored: `[h, 1]`.
fn initial_dt(cfg: &Config, h: i64) -> Tensor {
    let (low, high) = (cfg.dt_min.ln(), cfg.dt_max.ln());
    let log_dt = Tensor::rand([h, 1], (Kind::Double, Device::Cpu)) * (high - low) + low;
    match cfg.dt_transform {
        DtTransform::Exp => log_dt,
        DtTransform::Softplus => log_dt.exp().clamp_min(FLOOR).expm1().log(),
    }
}

/// The parameter that the transform maps to `-Re A`.
fn inverse_real(transform: RealTransform, decay: &Tensor) -> Tensor {
    let decay = decay.clamp_min(FLOOR);
    match transform {
        RealTransform::Exp => decay.log(),
        RealTransform::Relu => decay - FLOOR,
        RealTransform::Softplus => decay.expm1().log(),
    }
}
