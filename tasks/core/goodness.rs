//! Chi-square tests: whether what a generator draws is distributed as its specification says.

use serde::Serialize;
use statrs::function::gamma::gamma_ur;

/// Cells whose expected count is below this are tested as one (Cochran 1954).
const SMALLEST: f64 = 5.0;

/// Pearson's chi-square test of counts against what they should be.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Goodness {
    /// What was counted: "slot of a query".
    pub what: String,
    /// Σ (observed − expected)² / expected.
    pub statistic: f64,
    /// Degrees of freedom: cells − 1.
    pub degrees: u32,
    /// Chance that right draws give a statistic as large.
    pub p: f64,
}

impl Goodness {
    /// Tests `observed` counts against probabilities proportional to `expected`. Cells with an expected count below 5 are put
    /// together; a draw in a cell of probability 0 gives p = 0. `None` where fewer than two cells are left.
    ///
    /// # Panics
    /// When the two differ in length.
    pub fn chi_square(what: impl Into<String>, observed: &[u64], expected: &[f64]) -> Option<Self> {
        assert_eq!(observed.len(), expected.len(), "one probability for each count");
        let (total, weight) = (observed.iter().sum::<u64>() as f64, expected.iter().sum::<f64>());
        let cells = observed.iter().zip(expected).map(|(&count, &share)| (count as f64, total * share / weight));
        let (small, mut large): (Vec<_>, Vec<_>) = cells.partition(|(_, wanted)| *wanted < SMALLEST);
        let pooled = small.iter().fold((0.0, 0.0), |sum, cell| (sum.0 + cell.0, sum.1 + cell.1));
        let impossible = small.iter().any(|(count, wanted)| *wanted == 0.0 && *count > 0.0);
        if pooled.1 > 0.0 {
            large.push(pooled);
        }
        if large.len() < 2 && !impossible {
            return None;
        }
        let statistic: f64 = large.iter().map(|(count, wanted)| (count - wanted).powi(2) / wanted).sum();
        let degrees = large.len().saturating_sub(1) as u32;
        let p = match (impossible, statistic > 0.0) {
            (true, _) => 0.0,
            (false, true) => gamma_ur(f64::from(degrees) / 2.0, statistic / 2.0),
            (false, false) => 1.0,
        };
        Some(Self { what: what.into(), statistic, degrees, p })
    }

    /// Tests that every cell is as likely as any other.
    pub fn uniform(what: impl Into<String>, observed: &[u64]) -> Option<Self> {
        Self::chi_square(what, observed, &vec![1.0; observed.len()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn p_values_are_those_of_scipy() {
        // scipy.stats.chisquare([16, 18, 16, 14, 12, 12]): 2.0, 0.84914503608460956
        let even = Goodness::uniform("die", &[16, 18, 16, 14, 12, 12]).expect("six cells");
        assert!((even.statistic - 2.0).abs() < 1e-12 && (even.p - 0.849_145_036_084_609_6).abs() < 1e-12, "{even:?}");
        assert_eq!(even.degrees, 5);
        // chisquare([30, 10, 60], [25, 25, 50]): 12.0, 0.0024787521766663585
        let uneven = Goodness::chi_square("three", &[30, 10, 60], &[1.0, 1.0, 2.0]).expect("three cells");
        assert!((uneven.p - 0.002_478_752_176_666_358_5).abs() < 1e-12, "{uneven:?}");
    }

    #[test]
    fn rare_cells_are_tested_together_and_impossible_ones_fail() {
        let few = Goodness::chi_square("tail", &[50, 44, 3, 2, 1], &[0.5, 0.44, 0.03, 0.02, 0.01]).expect("cells");
        assert_eq!((few.degrees, few.statistic), (2, 0.0));
        assert_eq!(Goodness::chi_square("never", &[9, 1], &[1.0, 0.0]).expect("a verdict").p, 0.0);
        assert_eq!(Goodness::uniform("one", &[7]), None);
    }
}
