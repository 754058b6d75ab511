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

use super::cauchy::Nodes;
use super::{Config, Disc, DtTransform, Mode, RealTransform, StateInit};
use crate::math::conv::{complex_expm1, exponential_kernel, last_state, real_kind, rfft_flops};
use crate::math::hippo;
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor, nn, no_grad};

/// Floor of -Re A, of -Im A and, under softplus, of dt where parameters are initialized.
const FLOOR: f64 = 1e-4;

/// Sizes of a kernel bank.
pub(super) struct Shape {
    /// Kernels per channel: one per head and direction.
    pub outputs: i64,
    pub d_model: i64,
    /// The longest input, in positions.
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
    /// `dplr`: the length that C̃ belongs to, in positions at rate 1. `dss`: the length over which the kernel is normalised.
    pub l_kernel: i64,
    /// Factor on dt: 2 reads a signal sampled half as often.
    pub rate: f64,
    /// Lags there are, in positions at rate 1; `None` where the kernel is as long as the input.
    pub l_max: Option<i64>,
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
        let modes = if real { cfg.d_state } else { cfg.d_state / 2 };
        let (a, b, p) = initial_state(cfg, modes, cfg.n_ssm.unwrap_or(h));
        let pairs = |t: &Tensor| t.resolve_conj().view_as_real();
        let normal = |n: &[i64]| Tensor::randn(n, (Kind::Double, Device::Cpu));
        let (lr, store) = (cfg.lr.unwrap_or_default().each(), |name, value, lr| stored(vs, name, &value, lr));
        let mut kernel = Self {
            inv_dt: store("inv_dt", initial_dt(cfg, h, modes), lr.dt),
            a_real: store("A_real", inverse_real(cfg.real_transform, &-a.real()), lr.a),
            a_imag: (!real).then(|| store("A_imag", (-a.imag()).clamp_min(FLOOR), lr.a)),
            b: store("B", if real { b.unsqueeze(0) } else { pairs(&b).unsqueeze(0) }, lr.b),
            c: store(
                "C",
                if real {
                    normal(&[shape.outputs, h, modes])
                } else {
                    normal(&[shape.outputs, h, modes, 2]) * 0.5f64.sqrt()
                },
                lr.c,
            ),
            p: p.map(|p| store("P", pairs(&p), lr.a)),
            disc: cfg.disc.unwrap_or(if cfg.mode == Mode::Dplr { Disc::Bilinear } else { Disc::Zoh }),
            dt_transform: cfg.dt_transform,
            real_transform: cfg.real_transform,
            bandlimit: None,
            l_kernel: 0,
            rate: cfg.rate,
            l_max: cfg.l_max,
        };
        let length = kernel.length_for(shape.seq_len);
        if kernel.p.is_some() {
            kernel.tune_to(length);
        } else {
            kernel.l_kernel = length;
        }
        kernel.bandlimit = cfg.bandlimit; // of C̃, as upstream: C is tuned whole
        kernel
    }

    /// Lags of the kernel for an input of `length` positions.
    pub fn lags(&self, length: i64) -> i64 {
        self.l_max.map_or(length, |l_max| length.min(((l_max as f64 / self.rate).round_ties_even() as i64).max(1)))
    }

    /// The length that C̃ belongs to, or over which `dss` normalises, where inputs have up to `seq_len` positions.
    fn length_for(&self, seq_len: i64) -> i64 {
        match self.p {
            Some(_) => self.l_max.unwrap_or((self.rate * seq_len as f64).ceil() as i64),
            None => self.lags(seq_len),
        }
    }

    /// Brings C, which was taken over from a kernel of the same settings built for inputs of up to `seq_len` positions, to
    /// the length of this one, so that the kernel stays what it was: `C = C̃ (I - Ā^l)⁻¹` with the length there, then
    /// `C̃ = C (I - Ā^l)` with the length here, both at the kernel's rate; under `dss` C takes the quotient of both
    /// normalisations. Computed in float64. Returns whether C stayed finite; where it did not, it is as it was.
    pub fn adopt(&self, seq_len: i64) -> bool {
        let (from, to) = (self.length_for(seq_len), self.l_kernel);
        if from == to || self.p.is_none() && self.disc != Disc::Dss {
            return true;
        }
        no_grad(|| {
            let c = if self.p.is_some() {
                let system = self.whole_system(Kind::Double, true);
                let (da, _) = system.dense();
                let c = system.dense_c(&da, self.points(from));
                unrow(&(&c - times(&c, &da.linalg_matrix_power(self.points(to)))))
            } else {
                let system = self.whole_system(Kind::Double, true);
                let quotient = normaliser(&system, from) / normaliser(&system, to);
                &system.c * quotient
            };
            let c = if self.c.dim() == 4 { c.resolve_conj().view_as_real() } else { c.real() };
            if c.isfinite().all().int64_value(&[]) == 0 {
                return false;
            }
            self.c.shallow_clone().copy_(&c);
            true
        })
    }

    /// Whether a state carries all that the convolution of `length` positions knows of the past: not where the kernel is cut
    /// short, nor for S4 at another rate than the one C̃ was tuned at, where the kernel is not exactly that of a recurrence.
    pub fn is_recurrence(&self, length: i64) -> bool {
        self.lags(length) == length && (self.p.is_none() || self.rate == 1.0)
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

    /// The parameters by name.
    pub fn parameters(&self) -> Vec<(&'static str, &Tensor)> {
        let mut all = vec![("inv_dt", &self.inv_dt), ("A_real", &self.a_real), ("B", &self.b), ("C", &self.c)];
        all.extend(self.a_imag.as_ref().map(|t| ("A_imag", t)));
        all.extend(self.p.as_ref().map(|t| ("P", t)));
        all
    }

    /// Trainable scalars.
    pub fn params(&self) -> i64 {
        self.parameters().iter().filter(|(_, t)| t.requires_grad()).map(|(_, t)| t.numel() as i64).sum()
    }

    /// `K` for lags `0..length`, `[outputs, H, length]`.
    pub fn kernel(&self, length: i64) -> Tensor {
        self.responses(length, None).1
    }

    /// What an initial `state`, complex `[batch, H, n]`, adds to the outputs, `C Ā^{l+1} x`, `[batch, outputs, H, length]`
    /// (empty without one), and `K`.
    pub fn responses(&self, length: i64, state: Option<&Tensor>) -> (Tensor, Tensor) {
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

    /// The state after `u`, `[batch, H, length]`, from `state` before it, complex `[batch, H, n]`: the recurrence unrolled.
    pub fn state_after(&self, u: &Tensor, state: &Tensor) -> Tensor {
        let system = self.system(self.inv_dt.kind(), true);
        if system.p.is_none() {
            let (lambda, b_bar, _) = self.discretized(&system);
            let length = u.size()[2];
            return state * (&lambda * length).exp() + last_state(u, &lambda) * b_bar;
        }
        let (da, db) = system.dense();
        let halves = dense_state_after(&da, &db, u, &stacked(state)).chunk(2, -1);
        Tensor::complex(&halves[0], &halves[1])
    }

    /// dt, A, B, C, P of every channel in the given real kind; `at_rate` applies `rate` to dt.
    pub fn system(&self, kind: Kind, at_rate: bool) -> System {
        self.limited_system(kind, at_rate, self.bandlimit)
    }

    /// The same with every mode, however fast it turns.
    fn whole_system(&self, kind: Kind, at_rate: bool) -> System {
        self.limited_system(kind, at_rate, None)
    }

    fn limited_system(&self, kind: Kind, at_rate: bool, bandlimit: Option<f64>) -> System {
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
            RealTransform::None => raw_a,
        };
        let imag = self.a_imag.as_ref().map_or_else(|| real.zeros_like(), |imag| -stored(imag));
        let c = match bandlimit {
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

    /// S4D in discrete time: log Ā, complex `[H, n]`, B̄, complex `[1, H, n]`, and the factor of the conjugate pair.
    fn discretized(&self, system: &System) -> (Tensor, Tensor, f64) {
        let System { dt, a, b, .. } = system;
        let dta = a * dt;
        match self.disc {
            Disc::Zoh => (dta.shallow_clone(), b * (complex_expm1(&dta) / a), 2.0),
            Disc::Bilinear => {
                let half = &dta / 2.0;
                let below = (-&half + 1.0).reciprocal();
                (((half + 1.0) * &below).log(), b * (dt * below), 2.0)
            }
            Disc::Dss => (dta.shallow_clone(), b * (complex_expm1(&dta) * normaliser(system, self.l_kernel)), 1.0),
        }
    }

    /// S4D as weighted exponentials: log Ā, complex `[H, n]`, and C B̄ with the factor of the pair, complex
    /// `[H, rows · outputs, n]`; one row for the input, after one per entry of `state`.
    pub fn modes(&self, system: &System, state: Option<&Tensor>) -> (Tensor, Tensor) {
        let (lambda, b_bar, pair) = self.discretized(system);
        let inputs = match state {
            None => b_bar,
            Some(x) => Tensor::cat(&[x * lambda.exp(), b_bar], 0),
        };
        let weights = inputs.unsqueeze(1) * system.c.unsqueeze(0) * pair; // [rows, outputs, H, n]
        (lambda, weights.flatten(0, 1).transpose(0, 1))
    }

    /// The least length from `length` that C̃ can be brought to by doubling, and how many doublings that takes.
    fn reach(&self, length: i64) -> (i64, u32) {
        let asked = (self.rate * length as f64).round_ties_even() as i64;
        let short = |tuned: i64| tuned < asked || self.points(tuned) < length;
        let mut doublings = 0;
        while short(self.l_kernel << doublings) {
            doublings += 1;
        }
        (self.l_kernel << doublings, doublings)
    }

    /// Positions at this rate of a kernel tuned to `l_kernel` positions at rate 1.
    fn points(&self, l_kernel: i64) -> i64 {
        (l_kernel as f64 / self.rate).round_ties_even() as i64
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
        let points = self.points(self.reach(length).0);
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

    /// Floating-point operations of the kernel for `length` positions: for S4 the Cauchy sums at L/2 + 1 nodes and an
    /// inverse transform, for S4D the sum of exponentials.
    pub fn flops(&self, length: i64) -> i64 {
        let size = self.c.size();
        let (outputs, h, modes) = (size[0], size[1], size[2]);
        let kernel = match &self.p {
            None => 4 * outputs * modes * length,
            Some(p) => {
                let rank = p.size()[0];
                let points = self.points(self.reach(length).0);
                let nodes = points / 2 + 1;
                // Denominators (10), then real products with U and V for R and S of each of (1 + rank)(outputs + rank) sums.
                nodes * modes * (10 + 8 * (1 + rank) * (outputs + rank)) + outputs * rfft_flops(points)
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
        let dt = dt.expand([-1, b.size()[2]], false).repeat([1, 2]).unsqueeze(-1); // of Re x and of Im x
        let half = a * (&dt / 2.0);
        let one = eye(half.size()[1], &half);
        let b = stacked(&b.squeeze_dim(0)).unsqueeze(-1) * dt;
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

/// `Ā^length x + Σ_l Ā^{length-1-l} B̄ u_l` in real coordinates: `[batch, H, 2n]`. Chunks of about √length positions at a
/// time: within one by the powers of Ā on B̄, from one to the next by Ā to the chunk's length.
fn dense_state_after(da: &Tensor, db: &Tensor, u: &Tensor, state: &Tensor) -> Tensor {
    let length = u.size()[2];
    let chunk = (length as f64).sqrt().ceil() as i64;
    let mut krylov = db.unsqueeze(-1); // B̄, Ā B̄, Ā² B̄, …
    let mut power = da.shallow_clone();
    while krylov.size()[2] < chunk {
        krylov = Tensor::cat(&[&krylov, &power.matmul(&krylov)], -1);
        power = power.matmul(&power);
    }
    let krylov = krylov.narrow(-1, 0, chunk).transpose(1, 2); // [H, chunk, 2n], the last position's first
    let step = |x: &Tensor, m: &Tensor| m.matmul(&x.unsqueeze(-1)).squeeze_dim(-1);
    let first = length % chunk;
    let inside = |from: i64, len: i64| {
        let u = u.narrow(2, from, len).flip([2]).unsqueeze(2);
        u.matmul(&krylov.narrow(1, 0, len)).squeeze_dim(2)
    };
    let mut x = step(state, &da.linalg_matrix_power(first)) + inside(0, first);
    let whole = da.linalg_matrix_power(chunk);
    for from in (first..length).step_by(chunk as usize) {
        x = step(&x, &whole) + inside(from, chunk);
    }
    x
}

/// What `dss` divides by over `length` positions, as a factor: `1 / (A (e^{dt A length} - 1))`, kept finite; complex `[H, n]`.
fn normaliser(system: &System, length: i64) -> Tensor {
    let x = &system.a * complex_expm1(&(&system.a * &system.dt * length));
    x.conj() / (&x * x.conj() + 1e-7)
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
pub(super) fn unrow(row: &Tensor) -> Tensor {
    let halves = row.chunk(2, -1);
    Tensor::complex(&(&halves[0] / 2.0), &(&halves[1] / -2.0))
}

/// Rows `[outputs, H, m]` times matrices `[H, m, m]`.
fn times(rows: &Tensor, matrices: &Tensor) -> Tensor {
    rows.transpose(0, 1).matmul(matrices).transpose(0, 1)
}

/// A, B and P of every copy at the start: complex (real for `init: real`) `[copies, n]`, and `[rank, copies, n]`.
fn initial_state(cfg: &Config, modes: i64, copies: i64) -> (Tensor, Tensor, Option<Tensor>) {
    let tile = |t: &Tensor, copies: i64| t.unsqueeze(-2).repeat([copies, 1]);
    let plain = |a: Tensor| (tile(&a, copies), tile(&a.ones_like(), copies), None);
    let hippo = |nplr: hippo::Nplr, copies: i64| {
        let p = nplr.p.view([-1, modes]).unsqueeze(1).repeat([1, copies, 1]);
        (tile(&nplr.lambda, copies), tile(&nplr.clamped_b(), copies), (cfg.mode == Mode::Dplr).then_some(p))
    };
    match cfg.init {
        StateInit::Legs => hippo(hippo::nplr_legs(cfg.d_state), copies),
        StateInit::Legt => hippo(hippo::nplr_legt(cfg.d_state), copies),
        StateInit::Fout => hippo(hippo::nplr_fout(cfg.d_state), copies),
        StateInit::Hippo => {
            let (a, b, p) = hippo(hippo::nplr_legs(cfg.d_state), copies / 2);
            let (other_a, other_b, other_p) = hippo(hippo::nplr_fout(cfg.d_state), copies / 2);
            let p = p.zip(other_p).map(|(p, other)| Tensor::cat(&[p, other], 1));
            (Tensor::cat(&[a, other_a], 0), Tensor::cat(&[b, other_b], 0), p)
        }
        StateInit::Lin => plain(hippo::diag_lin(cfg.d_state)),
        StateInit::Inv => plain(hippo::diag_inv(cfg.d_state)),
        StateInit::Real => plain(hippo::diag_real(modes)),
    }
}

/// log-uniform dt, in the form it is stored: `[h, 1]`, or `[h, modes]` where it is not tied.
fn initial_dt(cfg: &Config, h: i64, modes: i64) -> Tensor {
    let (low, high) = (cfg.dt_min.ln(), cfg.dt_max.ln());
    let size = [h, if cfg.dt_tie { 1 } else { modes }];
    let log_dt = Tensor::rand(size, (Kind::Double, Device::Cpu)) * (high - low) + low;
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
        RealTransform::Relu | RealTransform::None => decay,
        RealTransform::Softplus => decay.expm1().log(),
    }
}

/// A variable, or under a learning rate of 0 a fixed tensor.
pub(super) fn stored(vs: &nn::Path, name: &str, value: &Tensor, lr: Option<f64>) -> Tensor {
    if lr != Some(0.0) {
        return vs.var_copy(name, value);
    }
    let mut fixed = vs.zeros_no_train(name, &value.size());
    no_grad(|| fixed.copy_(value));
    fixed
}
