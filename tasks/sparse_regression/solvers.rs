//! The baselines of in-context sparse regression: each makes an estimate of w* from the n pairs of one context.
//!
//! ```text
//! G = XᵀX / n,  b = Xᵀy / n,  λ₁ the largest eigenvalue of G
//! ols               G⁺ b                                   the least of all with the least squared error
//! ridge             (G + λ I)⁻¹ b
//! lasso             argmin ½ wᵀGw − bᵀw + λ |w|₁           by coordinate descent (Friedman et al. 2010)
//! gradient_descent  w ← w + (c / λ₁) (b − G w), k times from 0
//! support_oracle    ols on the coordinates where w* is not 0
//! preprocess        gradient_descent on X R, R = diag |b_j|^power, then R times its result
//! ```
//! λ and c are chosen on contexts of their own.

use nalgebra::DMatrix;

/// Eigenvalues below this share of the largest are taken for 0.
const NEGLIGIBLE: f64 = 1e-12;
/// Coordinate descent ends when no coordinate moved farther, or after so many rounds.
const STILL: f64 = 1e-8;
const ROUNDS: usize = 500;

/// One context with its question.
#[derive(Clone, Debug)]
pub(super) struct Problem {
    /// n rows of d numbers.
    pub x: Vec<f64>,
    /// n noisy answers.
    pub y: Vec<f64>,
    /// x_q.
    pub query: Vec<f64>,
    /// ⟨w*, x_q⟩.
    pub wanted: f64,
    /// Where w* is not 0.
    pub support: Vec<usize>,
}

/// G, b and n.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    gram: DMatrix<f64>,
    b: Vec<f64>,
    n: usize,
}

/// G = V diag(λ) Vᵀ with λ falling.
struct Spectrum {
    values: Vec<f64>,
    vectors: DMatrix<f64>, // columns, in the order of the values
}

/// What can be chosen: one method with the settings that are tried.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Method {
    pub name: &'static str,
    pub settings: Vec<f64>,
}

/// Every method with its grid.
pub(super) fn methods() -> Vec<Method> {
    let powers = |base: f64, from: i32, to: i32| (from..=to).map(|k| base.powi(k)).collect::<Vec<_>>();
    let steps: Vec<f64> = (1..=9).map(|c| 0.2 * f64::from(c)).collect();
    let with_zero = |rest: Vec<f64>| std::iter::once(0.0).chain(rest).collect();
    vec![
        Method { name: "ols", settings: vec![0.0] },
        Method { name: "ridge", settings: with_zero(powers(4.0, -5, 2)) },
        Method { name: "lasso", settings: powers(2.0, -10, 1) },
        Method { name: "gradient_descent", settings: steps.clone() },
        Method { name: "support_oracle", settings: vec![0.0] },
        Method { name: "preprocess_then_optimise", settings: steps },
    ]
}

impl Problem {
    pub fn moments(&self) -> Moments {
        Moments::of(&self.x, &self.y)
    }

    fn error(&self, w: &[f64]) -> f64 {
        (dot(w, &self.query) - self.wanted).powi(2)
    }

    /// The squared error of `method` at each of its settings, with `steps` steps of gradient descent and R to the `power`.
    pub fn errors(&self, moments: &Moments, method: &Method, steps: u32, power: f64) -> Vec<f64> {
        let each = |estimate: &dyn Fn(f64) -> Vec<f64>| {
            method.settings.iter().map(|&setting| self.error(&estimate(setting))).collect()
        };
        match method.name {
            "ols" => each(&|_| moments.ols()),
            "ridge" => {
                let spectrum = moments.spectrum();
                each(&|lambda| moments.ridge(&spectrum, lambda))
            }
            "lasso" => {
                let mut w = vec![0.0; moments.b.len()]; // warm starts, from the largest λ down
                let down = method.settings.iter().rev().map(|&lambda| {
                    moments.lasso(&mut w, lambda);
                    self.error(&w)
                });
                let mut errors: Vec<f64> = down.collect();
                errors.reverse();
                errors
            }
            "gradient_descent" => {
                let spectrum = moments.spectrum();
                each(&|c| moments.gradient_descent(&spectrum, c, steps))
            }
            "support_oracle" => each(&|_| moments.on_support(&self.support)),
            _ => {
                let (scaled, r) = moments.preprocessed(power);
                let spectrum = scaled.spectrum();
                each(&|c| times(&r, &scaled.gradient_descent(&spectrum, c, steps)))
            }
        }
    }
}

impl Moments {
    /// Of n rows of x and as many y.
    pub fn of(x: &[f64], y: &[f64]) -> Self {
        let (n, d) = (y.len(), x.len() / y.len());
        let (mut gram, mut b) = (DMatrix::zeros(d, d), vec![0.0; d]);
        for (row, y) in x.chunks_exact(d).zip(y) {
            for i in 0..d {
                b[i] += row[i] * y / n as f64;
                for j in 0..=i {
                    gram[(i, j)] += row[i] * row[j] / n as f64;
                }
            }
        }
        for i in 0..d {
            for j in 0..i {
                gram[(j, i)] = gram[(i, j)];
            }
        }
        Self { gram, b, n }
    }

    fn spectrum(&self) -> Spectrum {
        let eigen = self.gram.clone().symmetric_eigen();
        let mut order: Vec<usize> = (0..self.b.len()).collect();
        order.sort_by(|&i, &j| eigen.eigenvalues[j].total_cmp(&eigen.eigenvalues[i]));
        let values = order.iter().map(|&i| eigen.eigenvalues[i].max(0.0)).collect();
        Spectrum { values, vectors: eigen.eigenvectors.select_columns(&order) }
    }

    /// V diag(f(λ)) Vᵀ b, over the eigenvalues that n rows can make.
    fn filtered(&self, spectrum: &Spectrum, f: impl Fn(f64) -> f64) -> Vec<f64> {
        let (d, smallest) = (self.b.len(), NEGLIGIBLE * spectrum.values[0]);
        let mut w = vec![0.0; d];
        for (k, &value) in spectrum.values.iter().enumerate().take(self.n) {
            if value <= smallest {
                break;
            }
            let vector = spectrum.vectors.column(k);
            let along: f64 = vector.iter().zip(&self.b).map(|(v, b)| v * b).sum();
            w.iter_mut().zip(vector.iter()).for_each(|(w, v)| *w += f(value) * along * v);
        }
        w
    }

    pub fn ols(&self) -> Vec<f64> {
        self.ridge(&self.spectrum(), 0.0)
    }

    fn ridge(&self, spectrum: &Spectrum, lambda: f64) -> Vec<f64> {
        self.filtered(spectrum, |value| 1.0 / (value + lambda))
    }

    /// From `w` to the minimum for `lambda`.
    fn lasso(&self, w: &mut [f64], lambda: f64) {
        let d = w.len();
        let mut rest: Vec<f64> = (0..d).map(|i| self.b[i] - dot(w, self.gram.column(i).as_slice())).collect(); // b − G w
        for _ in 0..ROUNDS {
            let mut farthest = 0.0_f64;
            for i in 0..d {
                let column = self.gram.column(i);
                if column[i] <= 0.0 {
                    continue;
                }
                let pull = rest[i] + column[i] * w[i];
                let new = pull.signum() * (pull.abs() - lambda).max(0.0) / column[i];
                let change = new - w[i];
                if change != 0.0 {
                    w[i] = new;
                    rest.iter_mut().zip(column.iter()).for_each(|(rest, g)| *rest -= change * g);
                    farthest = farthest.max(change.abs());
                }
            }
            if farthest < STILL {
                break;
            }
        }
    }

    /// `steps` steps at once: Σ_t η (1 − ηλ)^t along each eigenvector.
    fn gradient_descent(&self, spectrum: &Spectrum, c: f64, steps: u32) -> Vec<f64> {
        if spectrum.values[0] <= 0.0 {
            return vec![0.0; self.b.len()];
        }
        let eta = c / spectrum.values[0];
        self.filtered(spectrum, |value| {
            let (mut sum, mut left) = (0.0, eta);
            for _ in 0..steps {
                sum += left;
                left *= 1.0 - eta * value;
            }
            sum
        })
    }

    fn on_support(&self, support: &[usize]) -> Vec<f64> {
        let gram = self.gram.select_rows(support).select_columns(support);
        let small = Self { gram, b: support.iter().map(|&i| self.b[i]).collect(), n: self.n };
        let mut w = vec![0.0; self.b.len()];
        support.iter().zip(small.ols()).for_each(|(&i, value)| w[i] = value);
        w
    }

    /// The moments of X R, and R. R is taken relative to its largest entry: a step's size is relative anyway.
    fn preprocessed(&self, power: f64) -> (Self, Vec<f64>) {
        let largest = self.b.iter().fold(0.0_f64, |most, b| most.max(b.abs()));
        let share = |b: &f64| if largest > 0.0 { b.abs() / largest } else { 0.0 };
        let r: Vec<f64> = self.b.iter().map(|b| libm::pow(share(b), power)).collect();
        let gram = DMatrix::from_fn(r.len(), r.len(), |i, j| r[i] * r[j] * self.gram[(i, j)]);
        (Self { gram, b: times(&r, &self.b), n: self.n }, r)
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn times(a: &[f64], b: &[f64]) -> Vec<f64> {
    a.iter().zip(b).map(|(a, b)| a * b).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rng::{Purpose, Stream};

    fn close(got: &[f64], want: &[f64], within: f64) {
        assert!(got.iter().zip(want).all(|(a, b)| (a - b).abs() <= within), "{got:?} is not {want:?}");
    }

    /// n = 2 rows √2 e_j: G = I, b = y / √2.
    fn orthogonal(y: [f64; 2]) -> Moments {
        let root = 2.0_f64.sqrt();
        Moments::of(&[root, 0.0, 0.0, root], &y.map(|y| y * root))
    }

    fn gaussian(d: usize, n: usize) -> (Vec<f64>, Vec<f64>) {
        let mut stream = Stream::new(5, Purpose::GUESS, (d * n) as u64);
        let w: Vec<f64> = (0..d).map(|_| stream.normal()).collect();
        (w, (0..n * d).map(|_| stream.normal()).collect())
    }

    #[test]
    fn with_orthonormal_columns_every_estimate_is_known() {
        let moments = orthogonal([2.0, 1.0]);
        let spectrum = moments.spectrum();
        close(&moments.ols(), &[2.0, 1.0], 1e-12);
        close(&moments.ridge(&spectrum, 1.0), &[1.0, 0.5], 1e-12);
        let mut w = vec![0.0; 2];
        moments.lasso(&mut w, 1.5); // soft threshold
        close(&w, &[0.5, 0.0], 1e-12);
        close(&moments.gradient_descent(&spectrum, 0.5, 1), &[1.0, 0.5], 1e-12);
        close(&moments.gradient_descent(&spectrum, 0.5, 2), &[1.5, 0.75], 1e-12);
        close(&moments.on_support(&[1]), &[0.0, 1.0], 1e-12);
        // R ∝ (2, 1): G' ∝ diag(4, 1), b' ∝ (4, 1); a step of 1/4 gives (1, 1/4), times R (2, 1/4).
        let (scaled, r) = moments.preprocessed(1.0);
        close(&times(&r, &scaled.gradient_descent(&scaled.spectrum(), 1.0, 1)), &[2.0, 0.25], 1e-12);
    }

    #[test]
    fn one_equation_gives_the_shortest_of_its_solutions() {
        close(&Moments::of(&[1.0, 2.0], &[5.0]).ols(), &[1.0, 2.0], 1e-12);
    }

    #[test]
    fn without_noise_least_squares_recovers_w_from_as_many_rows_as_coordinates() {
        for (d, n) in [(6, 6), (6, 8), (16, 16), (16, 40)] {
            let (w, x) = gaussian(d, n);
            let y: Vec<f64> = x.chunks(d).map(|row| dot(row, &w)).collect();
            let moments = Moments::of(&x, &y);
            close(&moments.ols(), &w, 1e-6);
            close(&moments.on_support(&(0..d).collect::<Vec<_>>()), &w, 1e-6);
        }
    }

    #[test]
    fn lasso_without_penalty_is_least_squares_and_with_it_meets_its_own_condition() {
        let (d, n) = (8, 30);
        let (w, x) = gaussian(d, n);
        let mut stream = Stream::new(6, Purpose::GUESS, 0);
        let y: Vec<f64> = x.chunks(d).map(|row| dot(row, &w) + stream.normal()).collect();
        let moments = Moments::of(&x, &y);
        let mut found = vec![0.0; d];
        moments.lasso(&mut found, 0.0);
        close(&found, &moments.ols(), 1e-6);
        let lambda = 0.4;
        moments.lasso(&mut found, lambda);
        assert!(found.contains(&0.0) && found.iter().any(|&w| w != 0.0), "{found:?}");
        for i in 0..d {
            let slope = moments.b[i] - dot(&found, moments.gram.column(i).as_slice()); // Karush, Kuhn, Tucker
            if found[i] == 0.0 {
                assert!(slope.abs() <= lambda + 1e-6);
            } else {
                assert!((slope - lambda * found[i].signum()).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn gradient_descent_at_once_is_gradient_descent_step_by_step() {
        let (d, n) = (5, 3);
        let (w, x) = gaussian(d, n);
        let y: Vec<f64> = x.chunks(d).map(|row| dot(row, &w)).collect();
        let moments = Moments::of(&x, &y);
        let spectrum = moments.spectrum();
        let (mut slow, eta) = (vec![0.0; d], 1.2 / spectrum.values[0]);
        for _ in 0..7 {
            let rest: Vec<f64> = (0..d).map(|i| moments.b[i] - dot(&slow, moments.gram.column(i).as_slice())).collect();
            slow.iter_mut().zip(rest).for_each(|(w, rest)| *w += eta * rest);
        }
        close(&moments.gradient_descent(&spectrum, 1.2, 7), &slow, 1e-10);
        close(&moments.gradient_descent(&spectrum, 1.2, 100_000), &moments.ols(), 1e-6);
        let (scaled, r) = moments.preprocessed(0.0);
        close(&times(&r, &scaled.gradient_descent(&scaled.spectrum(), 1.2, 7)), &slow, 1e-10);
    }
}
