//! HiPPO matrices and the initial spectra of S4 and S4D.
//!
//! ```text
//! LegS   A[n,k] = -√((2n+1)(2k+1))  n > k;   -(n+1)  n = k;   0  n < k
//!        B[n] = √(2n+1),   P[n] = √(n + ½),   A + P Pᵀ = -½ I + skew-symmetric
//! NPLR   A + P Pᵀ = V Λ V*,   so  V* A V = Λ - (V*P)(V*P)*
//! ```
//! Papers   HiPPO (Gu et al. 2020, arXiv:2008.07669); S4 (Gu et al. 2022, arXiv:2111.00396) §3, app. C;
//!          S4D (Gu et al. 2022, arXiv:2206.11893) §4
//! Matches  state-spaces/s4 in everything that does not depend on the phases of eigenvectors (`hippo_init` dumps)
//!
//! A real system of size N has N/2 conjugate pairs of modes; the one of each pair with negative imaginary part is kept.
//! Everything is computed in float64 on the CPU.

use crate::goldens::{Golden, GoldenError, Replay};
use std::collections::BTreeMap;
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

/// The reference keeps Im(V*B) within this bound (`B_clip`).
const B_CLIP: f64 = 2.0;

/// A state matrix as diagonal plus low rank, `V* A V = Λ - P P*`, on the kept half of the modes.
#[derive(Debug)]
pub struct Nplr {
    /// Λ, complex `[n/2]`, ascending in the imaginary part, all of it negative.
    pub lambda: Tensor,
    /// V*B, complex `[n/2]`, not clamped.
    pub b: Tensor,
    /// V*P, complex `[n/2]`.
    pub p: Tensor,
}

impl Nplr {
    /// V*B with its imaginary part clamped to `[-2, 2]`, as the reference starts from. The eigenvectors come with arbitrary
    /// phases, so this depends on LAPACK; upstream's does as well.
    pub fn clamped_b(&self) -> Tensor {
        Tensor::complex(&self.b.real(), &self.b.imag().clamp(-B_CLIP, B_CLIP))
    }
}

/// A, B and P of LegS, dense: `[n, n]`, `[n]`, `[n]`.
pub fn legs(n: i64) -> (Tensor, Tensor, Tensor) {
    let index = Tensor::arange(n, F64);
    let b = (&index * 2.0 + 1.0).sqrt();
    let a = -(b.outer(&b).tril(-1) + (&index + 1.0).diag(0));
    (a, b, (index + 0.5).sqrt())
}

/// The diagonalisation of LegS with `n` real states, `n` even.
pub fn nplr_legs(n: i64) -> Nplr {
    let (a, b, p) = legs(n);
    let s = a + p.outer(&p);
    let real = s.diag(0).mean(Kind::Double);
    let skew = (&s - s.tr()) / 2.0;
    let (imag, v) = Tensor::complex(&skew.zeros_like(), &-skew).linalg_eigh("L"); // -iS is Hermitian
    let (imag, v) = (imag.narrow(0, 0, n / 2), v.narrow(1, 0, n / 2));
    let rotate = |x: &Tensor| v.conj().tr().mv(&x.to_kind(Kind::ComplexDouble));
    Nplr { lambda: Tensor::complex(&(imag.ones_like() * real), &imag), b: rotate(&b), p: rotate(&p) }
}

/// S4D-Lin, `A_n = -½ - iπn`: complex `[n/2]`.
pub fn diag_lin(n: i64) -> Tensor {
    let imag = Tensor::arange(n / 2, F64) * -PI;
    Tensor::complex(&(imag.ones_like() * -0.5), &imag)
}

/// S4D-Inv, `A_n = -½ - i (N/π) (N/(2n+1) - 1)`: complex `[n/2]`.
pub fn diag_inv(n: i64) -> Tensor {
    let size = n as f64;
    let imag = ((Tensor::arange(n / 2, F64) * 2.0 + 1.0).reciprocal() * size - 1.0) * (-size / PI);
    Tensor::complex(&(imag.ones_like() * -0.5), &imag)
}

/// S4D-Real, `A_n = -(n+1)`: real `[modes]`.
pub fn diag_real(modes: i64) -> Tensor {
    -(Tensor::arange(modes, F64) + 1.0)
}

/// The phase-free parts of every initialization, for the `hippo_init` dumps.
pub(crate) fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    let n = golden.int("N")?;
    let ((a, b, p), nplr) = (legs(n), nplr_legs(n));
    let pair = |z: &Tensor| z.resolve_conj().view_as_real();
    let real = diag_real(n / 2);
    let outputs = [
        ("A_dense", a),
        ("B_dense", b),
        ("P_dense", p),
        ("Lambda", pair(&nplr.lambda)),
        ("abs_B", nplr.b.abs()),
        ("abs_P", nplr.p.abs()),
        ("conjP_times_B", pair(&(nplr.p.conj() * &nplr.b))),
        ("diag_lin_A", pair(&diag_lin(n))),
        ("diag_inv_A", pair(&diag_inv(n))),
        ("diag_real_A", pair(&Tensor::complex(&real, &real.zeros_like()))),
    ];
    let named = outputs.map(|(name, value)| (format!("output.{name}"), value.to_kind(golden.kind)));
    Ok(Replay(BTreeMap::from(named)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goldens::relative_error;

    #[test]
    fn legs_of_size_two_is_the_one_worked_by_hand() {
        let (a, b, p) = legs(2);
        let want = Tensor::from_slice(&[-1.0, 0.0, -(3f64.sqrt()), -2.0]).view([2, 2]);
        assert!(relative_error(&a, &want) < 1e-15);
        assert!(relative_error(&b, &Tensor::from_slice(&[1.0, 3f64.sqrt()])) < 1e-15);
        assert!(relative_error(&p, &Tensor::from_slice(&[0.5f64.sqrt(), 1.5f64.sqrt()])) < 1e-15);
    }

    #[test]
    fn both_halves_of_the_modes_rebuild_the_spectrum_of_a() {
        let n = 8;
        let Nplr { lambda, p, .. } = nplr_legs(n);
        let full = |z: &Tensor| Tensor::cat(&[z.shallow_clone(), z.conj().resolve_conj()], 0);
        let (lambda, p) = (full(&lambda), full(&p));
        let a = lambda.diag(0) - p.outer(&p.conj());
        // LegS is triangular: its eigenvalues are -1, -2, …, so the traces of its powers are known.
        for power in 1..=3 {
            let trace = a.linalg_matrix_power(power).trace().real().double_value(&[]);
            let want: f64 = (1..=n).map(|k| (-(k as f64)).powi(power as i32)).sum();
            assert!((trace - want).abs() < 1e-9 * want.abs(), "trace of power {power} is {trace}, not {want}");
        }
    }

    #[test]
    fn size_64_spans_the_published_range_and_loses_eleven_entries_to_the_clamp() {
        let nplr = nplr_legs(64);
        let imag = nplr.lambda.imag();
        assert!((imag.double_value(&[0]) + 1303.3).abs() < 0.1 && (imag.double_value(&[31]) + 0.264).abs() < 1e-3);
        let moved = (nplr.clamped_b() - &nplr.b).abs().gt(0.0).sum(Kind::Int64).int64_value(&[]);
        assert_eq!(moved, 11);
    }
}
