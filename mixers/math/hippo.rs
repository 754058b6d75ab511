//! HiPPO matrices and the initial spectra of S4 and S4D.
//!
//! ```text
//! LegS   A[n,k] = -√((2n+1)(2k+1))  n > k;   -(n+1)  n = k;   0  n < k
//!        B[n] = √(2n+1),   P[n] = √(n + ½),   A + P Pᵀ = -½ I + skew-symmetric
//! LegT   A[n,k] = -½ √((2n+1)(2k+1)) · (1  n ≥ k;  (-1)^(n-k)  n < k),   B[n] = ½ √(2n+1)
//!        P = √(n + ½) split into its odd and its even entries: rank 2, A + P Pᵀ skew-symmetric
//! FouT   A = F - B Bᵀ,  F = ⊕ₖ πk [[0, -1], [1, 0]],   B = P = (1, 0, √2, 0, √2, 0, …),   A + P Pᵀ = F
//! NPLR   A + P Pᵀ = V Λ V*,   so  V* A V = Λ - (V*P)(V*P)*
//! ```
//! Papers   HiPPO (Gu et al. 2020, arXiv:2008.07669); S4 (Gu et al. 2022, arXiv:2111.00396) §3, app. C; FouT: Gu et al. 2022,
//!          arXiv:2206.12037; S4D (Gu et al. 2022, arXiv:2206.11893) §4
//! Matches  state-spaces/s4 in everything that does not depend on the phases of eigenvectors: LegS and the diagonal spectra
//!          by the `hippo_init` dumps; LegT (halved, as upstream has it) and FouT by upstream's formulas, there is no dump
//!
//! A real system of size N has N/2 conjugate pairs of modes; the one of each pair with negative imaginary part is kept.
//! Everything is computed in float64 on the CPU.

use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);

/// Most real states of a system: a diagonalisation takes time in n³. Published models have 64 to 256.
pub const MOST_STATES: i64 = 1024;

/// The reference keeps Im(V*B) within this bound (`B_clip`).
const B_CLIP: f64 = 2.0;

/// A state matrix as diagonal plus low rank, `V* A V = Λ - P P*`, on the kept half of the modes.
#[derive(Debug)]
pub struct Nplr {
    /// Λ, complex `[n/2]`, ascending in the imaginary part, all of it negative.
    pub lambda: Tensor,
    /// V*B, complex `[n/2]`, not clamped.
    pub b: Tensor,
    /// V*P, complex `[n/2]`; `[rank, n/2]` where the correction has a rank above 1.
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

/// A, B and P of LegT, dense: `[n, n]`, `[n]`, `[2, n]`. Halved, so that its memory is as long as that of LegS.
pub fn legt(n: i64) -> (Tensor, Tensor, Tensor) {
    let index = Tensor::arange(n, F64);
    let root = (&index * 2.0 + 1.0).sqrt();
    let odd = index.remainder(2.0);
    let sign = -&odd * 2.0 + 1.0;
    let signs = Tensor::ones([n, n], F64).tril(0) + sign.outer(&sign).triu(1);
    let a = root.outer(&root) * signs * -0.5;
    let p = (&index + 0.5).sqrt();
    let even = -&odd + 1.0;
    (a, root * 0.5, Tensor::stack(&[&p * odd, p * even], 0))
}

/// A, B and P of FouT, dense: `[n, n]`, `[n]`, `[n]`; P is B.
pub fn fout(n: i64) -> (Tensor, Tensor, Tensor) {
    let frequencies = Tensor::arange(n / 2, F64) * PI;
    let below = Tensor::stack(&[&frequencies, &frequencies.zeros_like()], 1).flatten(0, 1).narrow(0, 0, n - 1);
    let f = below.diag(-1) - below.diag(1);
    let weights: Vec<f64> = (0..n).map(|i| if i == 0 { 1.0 } else { 2f64.sqrt() * (1 - i % 2) as f64 }).collect();
    let b = Tensor::from_slice(&weights);
    (f - b.outer(&b), b.shallow_clone(), b)
}

/// The diagonalisation of LegS with `n` real states, `n` even.
pub fn nplr_legs(n: i64) -> Nplr {
    diagonalised(legs(n))
}

/// The diagonalisation of LegT with `n` real states, `n` even.
pub fn nplr_legt(n: i64) -> Nplr {
    diagonalised(legt(n))
}

/// The diagonalisation of FouT with `n` real states, `n` even and above 2. F has the eigenvalue 0 twice, on its first two
/// coordinates; LAPACK may return any two vectors there, so the conjugate pair is put in by hand.
pub fn nplr_fout(n: i64) -> Nplr {
    diagonalised(fout(n))
}

/// Λ, V*B and V*P from A, B and P with `A + P Pᵀ` a multiple of the identity plus a skew-symmetric matrix.
fn diagonalised((a, b, p): (Tensor, Tensor, Tensor)) -> Nplr {
    let n = b.size()[0];
    let (lambda, v) = modes(&a, &p);
    let (lambda, v) = (lambda.narrow(0, 0, n / 2), v.narrow(1, 0, n / 2));
    if lambda.imag().double_value(&[n / 2 - 1]).abs() < 1e-4 {
        v.select(1, n / 2 - 1).copy_(&first_pair(n));
    }
    let rotate = |x: &Tensor| x.to_kind(Kind::ComplexDouble).matmul(&v.conj());
    Nplr { lambda, b: rotate(&b), p: rotate(&p) }
}

/// The eigenvalues of `A + P Pᵀ`, complex `[n]`, ascending in the imaginary part, and its eigenvectors, unitary `[n, n]`.
fn modes(a: &Tensor, p: &Tensor) -> (Tensor, Tensor) {
    let rows = p.view([-1, a.size()[0]]);
    let s = a + rows.tr().matmul(&rows);
    let real = s.diag(0).mean(Kind::Double);
    let skew = (&s - s.tr()) / 2.0;
    let (imag, v) = Tensor::complex(&skew.zeros_like(), &-skew).linalg_eigh("L"); // -iS is Hermitian
    (Tensor::complex(&(imag.ones_like() * real), &imag), v)
}

/// The same of LegS with `n` real states.
pub fn modes_legs(n: i64) -> (Tensor, Tensor) {
    let (a, _, p) = legs(n);
    modes(&a, &p)
}

/// (1, i, 0, 0, …) / √2, complex `[n]`.
fn first_pair(n: i64) -> Tensor {
    let unit = |at: i64| Tensor::zeros([n], F64).index_fill(0, &Tensor::from_slice(&[at]), 0.5f64.sqrt());
    Tensor::complex(&unit(0), &unit(1))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::goldens::relative_error;

    #[test]
    fn legs_of_size_two_is_the_one_worked_by_hand() {
        let (a, b, p) = legs(2);
        let want = Tensor::from_slice(&[-1.0, 0.0, -(3f64.sqrt()), -2.0]).view([2, 2]);
        assert!(relative_error(&a, &want) < 1e-15);
        assert!(relative_error(&b, &Tensor::from_slice(&[1.0, 3f64.sqrt()])) < 1e-15);
        assert!(relative_error(&p, &Tensor::from_slice(&[0.5f64.sqrt(), 1.5f64.sqrt()])) < 1e-15);
    }

    #[test]
    fn legt_and_fout_of_size_two_are_the_ones_worked_by_hand() {
        let r = 3f64.sqrt();
        let (a, b, p) = legt(2);
        assert!(relative_error(&a, &Tensor::from_slice(&[-0.5, r / 2.0, -r / 2.0, -1.5]).view([2, 2])) < 1e-15);
        assert!(relative_error(&b, &Tensor::from_slice(&[0.5, r / 2.0])) < 1e-15);
        assert!(
            relative_error(&p, &Tensor::from_slice(&[0.0, 1.5f64.sqrt(), 0.5f64.sqrt(), 0.0]).view([2, 2])) < 1e-15
        );
        let (a, b, _) = fout(4);
        let w = 2f64.sqrt();
        let want = [-1.0, 0.0, -w, 0.0, 0.0, 0.0, 0.0, 0.0, -w, 0.0, -2.0, -PI, 0.0, 0.0, PI, 0.0];
        assert!(relative_error(&a, &Tensor::from_slice(&want).view([4, 4])) < 1e-15);
        assert!(relative_error(&b, &Tensor::from_slice(&[1.0, 0.0, w, 0.0])) < 1e-15);
    }

    /// Bᵀ Aᵏ B does not depend on the coordinates, and with the traces it fixes the system up to a rotation.
    #[test]
    fn both_halves_of_the_modes_rebuild_a_and_what_b_sees_of_it() {
        let n = 8;
        for (name, dense, nplr) in
            [("legs", legs(n), nplr_legs(n)), ("legt", legt(n), nplr_legt(n)), ("fout", fout(n), nplr_fout(n))]
        {
            let (a, b, _) = dense;
            let full = |z: &Tensor| Tensor::cat(&[z.shallow_clone(), z.conj().resolve_conj()], -1);
            let p = full(&nplr.p).view([-1, n]);
            let rebuilt = full(&nplr.lambda).diag(0) - p.tr().matmul(&p.conj());
            let rebuilt_b = full(&nplr.b);
            for power in 1..=4 {
                let (got, want) = (rebuilt.linalg_matrix_power(power), a.linalg_matrix_power(power));
                let near = |got: Tensor, want: Tensor, what: &str| {
                    let (got, want) = (got.real().double_value(&[]), want.double_value(&[]));
                    assert!(
                        (got - want).abs() < 1e-9 * want.abs().max(1.0),
                        "{name} {what} {power}: {got}, not {want}"
                    );
                };
                near(got.trace(), want.trace(), "trace");
                near(got.mv(&rebuilt_b).dot(&rebuilt_b.conj().resolve_conj()), want.mv(&b).dot(&b), "moment");
            }
        }
    }

    #[test]
    fn the_spectra_of_legt_and_fout_lie_on_the_imaginary_axis() {
        for nplr in [nplr_legt(16), nplr_fout(16)] {
            assert!(nplr.lambda.real().abs().max().double_value(&[]) < 1e-12);
            assert_eq!(nplr.lambda.imag().gt(1e-9).any().int64_value(&[]), 0);
        }
        let turns = nplr_fout(8).lambda.imag() / -PI;
        assert!((turns - Tensor::from_slice(&[3.0, 2.0, 1.0, 0.0])).abs().max().double_value(&[]) < 1e-12);
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
