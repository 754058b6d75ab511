//! How far two rankings agree.
//!
//! ```text
//! ρ   Pearson's correlation of average ranks                           Spearman 1904
//!     tanh(atanh ρ ± z √((1 + ρ²/2) / (n - 3)))                        Bonett & Wright 2000, Psychometrika 65(1):23-28
//! τ   (C - D) / √((C + D + X)(C + D + Y)), τ-b: X, Y tied in one alone Kendall 1945, Biometrika 33(3):239-251
//!     tanh(atanh τ ± z √(0.437 / (n - 4)))                             Fieller, Hartley & Pearson 1957, Biometrika 44:470-481
//! p   share of all n! pairings with |ρ| at least as large; above eight pairs (1 + hits) / (1 + draws) of random ones
//!                                                                      Phipson & Smyth 2010, arXiv:1603.05766
//! ```

use crate::statistics::{Interval, Z, below, mean, percentile, redrawn};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;
use serde::Serialize;

/// Up to so many pairs every pairing is tried: 8! = 40 320.
const EXACT: usize = 8;

/// The agreement of two rankings.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Agreement {
    /// Pairs.
    pub(crate) n: usize,
    /// Spearman's ρ.
    pub(crate) rho: f64,
    /// `None` below four pairs and at ±1, where the transform has no end.
    pub(crate) rho_interval: Option<Interval>,
    /// Kendall's τ-b.
    pub(crate) tau: f64,
    /// `None` below five pairs and at ±1.
    pub(crate) tau_interval: Option<Interval>,
    /// Two-sided, of ρ.
    pub(crate) p: f64,
    /// Whether every pairing was tried.
    pub(crate) exact: bool,
}

/// `None` below three pairs, or where one side is all ties.
pub(crate) fn agreement(a: &[f64], b: &[f64], draws: usize, seed: u64) -> Option<Agreement> {
    let (rho, tau, n) = (spearman(a, b)?, kendall(a, b)?, a.len());
    let (p, exact) = p_value(&ranks(a), &ranks(b), rho, draws, seed);
    let around = |estimate: f64, variance: f64| {
        let (centre, half) = (estimate.atanh(), Z * variance.sqrt());
        centre.is_finite().then(|| Interval { low: (centre - half).tanh(), high: (centre + half).tanh() })
    };
    Some(Agreement {
        n,
        rho,
        rho_interval: (n > 3).then(|| around(rho, (1.0 + rho * rho / 2.0) / (n - 3) as f64)).flatten(),
        tau,
        tau_interval: (n > 4).then(|| around(tau, 0.437 / (n - 4) as f64)).flatten(),
        p,
        exact,
    })
}

/// Ranks from 1, the smallest first; equals share the mean of their places.
pub(crate) fn ranks(values: &[f64]) -> Vec<f64> {
    let rank = |value: &f64| {
        let below = values.iter().filter(|other| *other < value).count();
        let equal = values.iter().filter(|other| *other == value).count();
        below as f64 + (equal + 1) as f64 / 2.0
    };
    values.iter().map(rank).collect()
}

/// Spearman's ρ; `None` below three pairs, or where one side is all ties.
pub(crate) fn spearman(a: &[f64], b: &[f64]) -> Option<f64> {
    (a.len() == b.len() && a.len() > 2).then(|| pearson(&ranks(a), &ranks(b))).flatten()
}

fn pearson(a: &[f64], b: &[f64]) -> Option<f64> {
    let (centre_a, centre_b) = (mean(a)?, mean(b)?);
    let sum = |of: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(x, y)| of(x - centre_a, y - centre_b)).sum::<f64>();
    let scale = (sum(&|x, _| x * x) * sum(&|_, y| y * y)).sqrt();
    (scale > 0.0).then(|| (sum(&|x, y| x * y) / scale).clamp(-1.0, 1.0))
}

/// Kendall's τ-b; `None` below three pairs, or where one side is all ties.
pub(crate) fn kendall(a: &[f64], b: &[f64]) -> Option<f64> {
    if a.len() != b.len() || a.len() < 3 {
        return None;
    }
    let (mut agree, mut untied_a, mut untied_b) = (0_i64, 0_i64, 0_i64);
    for i in 0..a.len() {
        for j in 0..i {
            let sign = |x: &[f64]| i64::from(x[i] > x[j]) - i64::from(x[i] < x[j]);
            agree += sign(a) * sign(b);
            untied_a += sign(a).abs();
            untied_b += sign(b).abs();
        }
    }
    let scale = (untied_a as f64 * untied_b as f64).sqrt();
    (scale > 0.0).then(|| agree as f64 / scale)
}

fn p_value(a: &[f64], b: &[f64], rho: f64, draws: usize, seed: u64) -> (f64, bool) {
    // Pairings of equal ρ may differ in the last digits.
    let hit = |other: &[f64]| pearson(other, b).is_some_and(|other| other.abs() >= rho.abs() - 1e-12);
    let mut order = a.to_vec();
    if a.len() <= EXACT {
        let (mut hits, mut all) = (0_u64, 0_u64);
        every_order(&mut order, 0, &mut |order| {
            hits += u64::from(hit(order));
            all += 1;
        });
        return (hits as f64 / all as f64, true);
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut hits = 0;
    for _ in 0..draws {
        shuffle(&mut order, &mut rng);
        hits += usize::from(hit(&order));
    }
    ((1 + hits) as f64 / (1 + draws) as f64, false)
}

fn every_order(values: &mut [f64], from: usize, seen: &mut impl FnMut(&[f64])) {
    if from == values.len() {
        return seen(values);
    }
    for i in from..values.len() {
        values.swap(from, i);
        every_order(values, from + 1, seen);
        values.swap(from, i);
    }
}

fn shuffle(values: &mut [f64], rng: &mut ChaCha8Rng) {
    for i in (1..values.len()).rev() {
        values.swap(i, below(rng, i + 1));
    }
}

/// Between which ends ρ lies in 95 of 100 redraws of the seeds. No confidence interval: seeds that spread lower ρ, and redrawing
/// them lowers it once more, so that the ρ of the true means lies above more often than not. Each entry's seeds are redrawn and averaged anew, the other side
/// stays. A mean of n redrawn seeds has the variance (n - 1)/n · s²/n, so its distance from the mean is stretched by
/// √(n/(n - 1)) to that of s²/n (narrowness bias: Hesterberg 2015, arXiv:1411.5279). `None` unless every entry
/// has two seeds.
pub(crate) fn over_seeds(seeds: &[Vec<f64>], fixed: &[f64], draws: usize, seed: u64) -> Option<Interval> {
    if draws == 0 || seeds.iter().any(|seeds| seeds.len() < 2) {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut all = Vec::with_capacity(draws);
    for _ in 0..draws {
        let means: Vec<f64> = seeds.iter().filter_map(|seeds| mean(&redrawn(seeds, &mut rng))).collect();
        all.extend(spearman(&means, fixed));
    }
    if all.is_empty() {
        return None;
    }
    all.sort_by(f64::total_cmp);
    Some(Interval { low: percentile(&all, 0.025), high: percentile(&all, 0.975) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b}");
    }

    const OURS: [f64; 14] = [4.31, 4.12, 4.05, 4.80, 4.77, 4.21, 4.52, 4.02, 4.25, 3.99, 4.40, 3.91, 4.28, 3.95];
    /// The fourteen classes' losses as published, with a tie.
    const PAPER: [f64; 14] = [2.05, 1.97, 1.91, 2.46, 2.46, 2.04, 2.25, 1.94, 2.06, 1.90, 2.08, 1.87, 2.03, 1.84];
    const SIX: [[f64; 6]; 2] = [[1.0, 3.0, 2.0, 5.0, 4.0, 6.0], [2.0, 1.0, 3.0, 3.0, 6.0, 5.0]];

    // From SciPy 1.17.1: stats.spearmanr, stats.kendalltau; NumPy for the intervals' formulas.
    #[test]
    fn correlations_of_ranks_are_those_of_scipy() {
        let found = agreement(&OURS, &PAPER, 2000, 0).expect("fourteen pairs");
        near(found.rho, 0.968_097_395_497_227, 1e-12);
        near(found.tau, 0.883_991_392_175_727_9, 1e-12);
        let (rho, tau) = (found.rho_interval.expect("fourteen"), found.tau_interval.expect("fourteen"));
        near(rho.low, 0.872_848_134_218_578_3, 1e-12);
        near(rho.high, 0.992_289_343_715_819_7, 1e-12);
        near(tau.low, 0.754_800_951_457_318_3, 1e-12);
        near(tau.high, 0.947_163_492_786_007_4, 1e-12);
        // SciPy's t approximation says 1.4e-8: no random pairing comes near.
        assert!(!found.exact && found.p == 1.0 / 2001.0, "{}", found.p);
    }

    // From SciPy 1.17.1, stats.permutation_test(permutation_type="pairings", n_resamples=inf): 172 of 720.
    #[test]
    fn few_pairs_are_tried_in_every_order() {
        let found = agreement(&SIX[0], &SIX[1], 10, 0).expect("six pairs");
        near(found.rho, 0.579_771_035_652_448_4, 1e-12);
        near(found.tau, 0.414_039_335_605_412_56, 1e-12);
        near(found.p, 172.0 / 720.0, 1e-12);
        assert!(found.exact);
        near(found.rho_interval.expect("six").low, -0.508_621_146_136_464_1, 1e-12);
        near(found.tau_interval.expect("six").high, 0.875_611_873_588_369_3, 1e-12);
    }

    #[test]
    fn random_orders_give_the_share_that_all_orders_give() {
        // Nine pairs of which SciPy cannot try all in reasonable time; eight of them can be, and both ways must agree.
        let (a, b) = (&OURS[..8], [3.0, 1.0, 2.0, 8.0, 4.0, 7.0, 5.0, 6.0]);
        let exact = agreement(a, &b, 0, 0).expect("eight pairs");
        let mut order = ranks(a);
        let (rho, mut hits, mut rng) = (exact.rho.abs() - 1e-12, 0, ChaCha8Rng::seed_from_u64(7));
        for _ in 0..20_000 {
            shuffle(&mut order, &mut rng);
            hits += usize::from(pearson(&order, &ranks(&b)).is_some_and(|r| r.abs() >= rho));
        }
        // Four standard deviations of a share near 0.2 of 20 000 draws are 0.012.
        near(f64::from(hits as u32) / 20_000.0, exact.p, 0.012);
        assert!(exact.p > 0.001 && exact.p < 0.9, "{}", exact.p);
    }

    #[test]
    fn equals_share_the_mean_of_their_places() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, 2.0]), [3.5, 1.0, 3.5, 2.0]); // scipy.stats.rankdata
    }

    #[test]
    fn perfect_agreement_has_no_interval_and_all_ties_no_correlation() {
        let found = agreement(&OURS, &OURS, 100, 0).expect("fourteen pairs");
        assert_eq!((found.rho, found.tau, found.rho_interval, found.tau_interval), (1.0, 1.0, None, None));
        let turned: Vec<f64> = OURS.iter().map(|value| -value).collect();
        assert_eq!(agreement(&OURS, &turned, 100, 0).map(|found| (found.rho, found.tau)), Some((-1.0, -1.0)));
        assert_eq!(agreement(&OURS, &[1.0; 14], 100, 0), None);
        assert_eq!(agreement(&OURS[..2], &PAPER[..2], 100, 0), None);
        let three = agreement(&OURS[..3], &PAPER[..3], 100, 0).expect("three pairs");
        assert_eq!((three.rho_interval, three.tau_interval, three.p), (None, None, 2.0 / 6.0));
    }

    // Redrawn means of two, three and five seeds have the variance s²/n. The variance of a sample variance of 20 000 draws is near
    // 2/20 000, so that 5 % are five standard deviations and more.
    #[test]
    fn redrawn_means_spread_as_far_as_the_standard_error() {
        for seeds in [&[4.0, 4.2][..], &[4.0, 4.1, 4.5], &[3.9, 4.0, 4.1, 4.3, 4.2]] {
            let mut rng = ChaCha8Rng::seed_from_u64(3);
            let drawn: Vec<f64> = (0..20_000).map(|_| mean(&redrawn(seeds, &mut rng)).expect("some")).collect();
            let sd = |values: &[f64]| crate::statistics::sample_sd(values).expect("some");
            let wanted = sd(seeds) / (seeds.len() as f64).sqrt();
            assert!(((sd(&drawn) / wanted).powi(2) - 1.0).abs() < 0.05, "{} is not {wanted}", sd(&drawn));
            near(mean(&drawn).expect("some"), mean(seeds).expect("some"), 0.03 * wanted);
        }
    }

    // Seeds that agree leave the ranking as it is; seeds that do not, do not.
    #[test]
    fn redrawn_seeds_say_how_sure_our_ranking_is() {
        let alike: Vec<Vec<f64>> = OURS.iter().map(|value| vec![*value; 3]).collect();
        let interval = over_seeds(&alike, &PAPER, 200, 0).expect("three seeds each");
        near(interval.low, 0.968_097_395_497_227, 1e-12);
        near(interval.high, interval.low, 1e-12);
        let wild: Vec<Vec<f64>> = OURS.iter().map(|value| vec![value - 1.0, value + 1.0]).collect();
        let interval = over_seeds(&wild, &PAPER, 500, 0).expect("two seeds each");
        assert!(interval.high - interval.low > 0.3, "{interval:?}");
        assert_eq!(over_seeds(&[vec![1.0], vec![2.0, 3.0]], &PAPER[..2], 10, 0), None);
    }
}
