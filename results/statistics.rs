//! The few statistics the tables need, each checked against independent numbers.
//!
//! ```text
//! t interval   x̄ ± t(0.975, n-1) · s/√n                             Student 1908
//! of a sum     Σ wₜ x̄ₜ ± t(0.975, ν) · √Σ vₜ, vₜ = wₜ² sₜ²/nₜ        Welch 1938, Biometrika 29; Satterthwaite 1946, Biometrics 2(6)
//!              ν = (Σ vₜ)² / Σ vₜ²/(nₜ-1)
//! paired       the t interval of Σ wₜ xₜₛ by seed s, where runs of one seed share a pretrained start
//! Wilson       (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)    Wilson 1927, JASA 22(158)
//! IQM          mean of the middle half: ⌊n/4⌋ scores cut at each end Agarwal et al. 2021, arXiv:2108.13264
//!              IQM ± t(0.975, ν) · s*, s* over redrawn seeds, whose distances from their task's mean are stretched by
//!              √(n/(n-1)) against the bootstrap's narrowness       Hesterberg 2015, arXiv:1411.5279
//! ```
//! sign flip    share of the 2ⁿ sign patterns of n paired differences whose sum is as far from 0 as theirs, in both directions: an
//!              exact test that they are as likely to be − as +         Fisher 1935, The Design of Experiments, §21
//! Departs  rliable takes percentiles of redrawn seeds; with 2, 3 and 5 seeds of 2 to 6 tasks those hold the true value in 62 to
//!          90 of 100 cases where they promise 95 (the test `intervals_cover_what_they_promise` prints both)

pub(crate) mod correlation;
pub(crate) mod interval;

pub use interval::{Interval, Range};

use crate::{Metric, Tested};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde::Serialize;
use statrs::function::beta::beta_reg;

/// The 97.5 % quantile of the standard normal distribution.
pub(crate) const Z: f64 = 1.959_963_984_540_054;

/// A mean over seeds and how far it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Estimate {
    /// Mean over seeds.
    pub mean: f64,
    /// Student-t interval clipped to the score's range; `None` for a single seed, which has no spread.
    pub interval: Option<Interval>,
    /// Number of seeds.
    pub n: usize,
}

impl Estimate {
    /// The estimate from a mean, a sample standard deviation, the number of seeds and the range of the score.
    pub fn new(mean: f64, sd: Option<f64>, n: usize, range: Range) -> Self {
        let interval = sd.and_then(|sd| t_interval(mean, sd, n)).map(|interval| interval.clipped(range));
        Self { mean, interval, n }
    }
}

/// A number besides the score over seeds: of any size, so its interval is not clipped.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measured {
    /// Mean over the finite values; `None` without one.
    pub mean: Option<f64>,
    /// Student-t interval; `None` below two finite values.
    pub interval: Option<Interval>,
    /// Number of finite values.
    pub n: usize,
    /// Those values, in the order of the seeds.
    #[serde(skip)]
    pub values: Vec<f64>,
    /// Which run of its row each value is of, counted from 0 in the manifest's order: numbers of one run are joined by it, since a
    /// run without a finite value has no place among the values.
    #[serde(skip)]
    pub runs: Vec<usize>,
}

impl Measured {
    /// Of these values, one a run; what is no finite number is left out and not counted.
    pub fn new(values: Vec<f64>) -> Self {
        Self::of_runs(values.into_iter().enumerate().collect())
    }

    /// Of these values with their runs; what is no finite number is left out and not counted.
    pub fn of_runs(mut values: Vec<(usize, f64)>) -> Self {
        values.retain(|(_, value)| value.is_finite());
        let (runs, values): (Vec<usize>, Vec<f64>) = values.into_iter().unzip();
        let (mean, n) = (mean(&values), values.len());
        let interval = mean.zip(sample_sd(&values)).and_then(|(mean, sd)| t_interval(mean, sd, n));
        Self { mean, interval, n, values, runs }
    }

    /// The value of a run.
    pub(crate) fn of_run(&self, run: usize) -> Option<f64> {
        self.runs.iter().position(|known| *known == run).map(|place| self.values[place])
    }
}

/// The arithmetic mean; `None` of nothing.
pub fn mean(x: &[f64]) -> Option<f64> {
    (!x.is_empty()).then(|| x.iter().sum::<f64>() / x.len() as f64)
}

/// The sample standard deviation (divisor n-1); `None` below two values.
pub fn sample_sd(x: &[f64]) -> Option<f64> {
    let centre = mean(x)?;
    (x.len() > 1).then(|| (x.iter().map(|v| (v - centre).powi(2)).sum::<f64>() / (x.len() - 1) as f64).sqrt())
}

/// The 95 % Student-t interval of a mean; `None` below two values.
pub fn t_interval(mean: f64, sd: f64, n: usize) -> Option<Interval> {
    let half = t_quantile(n.checked_sub(1)? as f64)? * sd / (n as f64).sqrt();
    Some(Interval { low: mean - half, high: mean + half })
}

/// The 95 % interval of the difference of two means, by Welch and Satterthwaite; `None` where one has fewer than two values.
pub fn difference_interval(ours: &[f64], theirs: &[f64]) -> Option<Interval> {
    let difference = mean(ours)? - mean(theirs)?;
    let variance = |x: &[f64]| Some(sample_sd(x)?.powi(2) / x.len() as f64);
    let (a, b) = (variance(ours)?, variance(theirs)?);
    if a + b == 0.0 {
        return Some(Interval { low: difference, high: difference });
    }
    let part = |variance: f64, n: usize| variance * variance / (n - 1) as f64;
    let degrees = (a + b).powi(2) / (part(a, ours.len()) + part(b, theirs.len()));
    let half = t_quantile(degrees)? * (a + b).sqrt();
    Some(Interval { low: difference - half, high: difference + half })
}

/// The 97.5 % quantile of Student's t of any number of degrees from 1 on, by bisection of its exact distribution; `None` below.
pub fn t_quantile(degrees: f64) -> Option<f64> {
    if !(1.0..f64::INFINITY).contains(&degrees) {
        return None;
    }
    let (mut low, mut high) = (0.0, 13.0); // one degree of freedom, the largest, has 12.706
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        // P(|T| > t) of Student's t, Abramowitz & Stegun 26.7.1.
        if beta_reg(degrees / 2.0, 0.5, degrees / (degrees + middle * middle)) > 0.05 {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some((low + high) / 2.0)
}

/// The mean of the middle half; `None` of nothing.
pub fn interquartile_mean(x: &[f64]) -> Option<f64> {
    let mut sorted = x.to_vec();
    sorted.sort_by(f64::total_cmp);
    let cut = sorted.len() / 4;
    mean(&sorted[cut..sorted.len() - cut])
}

/// The 95 % interval of the interquartile mean over tasks. Seeds are redrawn within each task, so that every redraw holds every
/// task (stratified); the spread of the redraws takes the place of a standard error. `None` unless every task has at least two
/// seeds.
pub fn interquartile_interval(tasks: &[Vec<f64>], draws: usize, seed: u64) -> Option<Interval> {
    let centre = interquartile_mean(&tasks.concat())?;
    // Every run weighs the same, so a task weighs as much as it has runs.
    let all = tasks.iter().map(Vec::len).sum::<usize>() as f64;
    let parts: Vec<Part> = tasks.iter().map(|scores| Part { weight: scores.len() as f64 / all, scores }).collect();
    let t = t_quantile(variance_of_sum(&parts)?.1)?;
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut redraw = || tasks.iter().flat_map(|scores| redrawn(scores, &mut rng)).collect::<Vec<f64>>();
    let redrawn: Vec<f64> = (0..draws).filter_map(|_| interquartile_mean(&redraw())).collect();
    let half = t * sample_sd(&redrawn)?;
    Some(Interval { low: centre - half, high: centre + half })
}

/// The same interval where runs of one seed share something, such as a pretrained start: the t interval of the interquartile means of
/// the seeds that have every task, around that of all runs. `None` below two such seeds.
pub fn interquartile_by_seed(tasks: &[Vec<(u64, f64)>]) -> Option<Interval> {
    let values = tasks.iter().flatten().map(|(_, value)| *value).collect::<Vec<f64>>();
    let of_seed = |seed: u64| {
        let value = |task: &Vec<(u64, f64)>| task.iter().find(|(own, _)| *own == seed).map(|(_, value)| *value);
        interquartile_mean(&tasks.iter().map(value).collect::<Option<Vec<f64>>>()?)
    };
    let middles: Vec<f64> = tasks.first()?.iter().filter_map(|(seed, _)| of_seed(*seed)).collect();
    t_interval(interquartile_mean(&values)?, sample_sd(&middles)?, middles.len())
}

/// As many redrawn scores as there are, two or more, each stretched around the mean of all: their mean then spreads by s/√n.
pub(crate) fn redrawn(scores: &[f64], rng: &mut ChaCha8Rng) -> Vec<f64> {
    let n = scores.len();
    let (centre, stretch) = (scores.iter().sum::<f64>() / n as f64, (n as f64 / (n as f64 - 1.0)).sqrt());
    (0..n).map(|_| centre + (scores[below(rng, n)] - centre) * stretch).collect()
}

/// A whole number below `n`.
pub(crate) fn below(rng: &mut ChaCha8Rng, n: usize) -> usize {
    ((u128::from(rng.next_u64()) * n as u128) >> 64) as usize
}

/// One task of a mean over tasks: its weight, and the number of each of its runs with the seed.
#[derive(Clone, Debug, PartialEq)]
pub struct Seeds {
    /// Weight of the task's mean.
    pub weight: f64,
    /// `(seed, number)`.
    pub runs: Vec<(u64, f64)>,
}

impl Seeds {
    /// Mean over its runs; `None` without one.
    pub fn mean(&self) -> Option<f64> {
        mean(&self.runs.iter().map(|(_, value)| *value).collect::<Vec<_>>())
    }

    /// Its weight times its mean; `None` without a run.
    pub fn weighted_mean(&self) -> Option<f64> {
        Some(self.weight * self.mean()?)
    }
}

/// The 95 % interval of Σ weight · mean over seeds, around `centre`. Of tasks whose runs share nothing by Welch and Satterthwaite
/// ([`weighted_interval`]). With `paired`, runs of one seed share something, such as a pretrained start, and the tasks are not
/// independent: then it is the t interval of the sums by seed, over the seeds with a number on every task.
pub fn seeds_interval(centre: f64, tasks: &[Seeds], paired: bool) -> Option<Interval> {
    if !paired {
        let values = |task: &Seeds| (task.weight, task.runs.iter().map(|(_, value)| *value).collect());
        return weighted_interval(&tasks.iter().map(values).collect::<Vec<_>>());
    }
    let of_seed = |seed: u64| {
        let value = |task: &Seeds| task.runs.iter().find(|(own, _)| *own == seed).map(|(_, value)| task.weight * value);
        tasks.iter().map(value).sum::<Option<f64>>()
    };
    let sums: Vec<f64> = tasks.first()?.runs.iter().filter_map(|(seed, _)| of_seed(*seed)).collect();
    t_interval(centre, sample_sd(&sums)?, sums.len())
}

/// The 95 % interval of the mean over tasks of the mean over seeds: every task weighs the same, whatever its seeds. `None` unless
/// every task has at least two.
pub fn task_mean_interval(tasks: &[Vec<f64>]) -> Option<Interval> {
    let weight = 1.0 / tasks.len() as f64;
    sum_interval(&tasks.iter().map(|scores| Part { weight, scores }).collect::<Vec<_>>())
}

/// The same interval of a sum over tasks of a weight times the mean over seeds.
pub fn weighted_interval(tasks: &[(f64, Vec<f64>)]) -> Option<Interval> {
    sum_interval(&tasks.iter().map(|(weight, scores)| Part { weight: *weight, scores }).collect::<Vec<_>>())
}

/// The mean over groups of the mean over their tasks of the mean over seeds; `None` if one of them holds nothing.
pub fn mean_of_group_means(groups: &[Vec<Vec<f64>>]) -> Option<f64> {
    let of_group = |group: &Vec<Vec<f64>>| mean(&group.iter().map(|seeds| mean(seeds)).collect::<Option<Vec<_>>>()?);
    mean(&groups.iter().map(of_group).collect::<Option<Vec<_>>>()?)
}

/// The seeds of one task, and the weight of their mean in a sum over tasks.
#[derive(Clone, Copy, Debug)]
struct Part<'a> {
    weight: f64,
    scores: &'a [f64],
}

/// The 95 % interval of Σ weight · mean over seeds, by Welch and Satterthwaite.
fn sum_interval(parts: &[Part]) -> Option<Interval> {
    let (variance, degrees) = variance_of_sum(parts)?;
    let centre = parts.iter().map(|part| Some(part.weight * mean(part.scores)?)).sum::<Option<f64>>()?;
    let half = t_quantile(degrees)? * variance.sqrt();
    Some(Interval { low: centre - half, high: centre + half })
}

/// The variance of Σ weight · mean over seeds, and its degrees of freedom; 1 where no seed differs from another. `None` of nothing,
/// and unless every part has at least two seeds.
fn variance_of_sum(parts: &[Part]) -> Option<(f64, f64)> {
    let of_part = |part: &Part| {
        let n = part.scores.len() as f64;
        Some(((part.weight * sample_sd(part.scores)?).powi(2) / n, n - 1.0))
    };
    let variances = parts.iter().map(of_part).collect::<Option<Vec<_>>>()?;
    let (all, squares) = variances.iter().fold((0.0, 0.0), |(sum, squares), (v, n)| (sum + v, squares + v * v / n));
    // Rounding may put the degrees a little below those of the smallest part.
    let degrees = if squares > 0.0 { (all * all / squares).max(1.0) } else { 1.0 };
    (!variances.is_empty()).then_some((all, degrees))
}

/// How often the intervals of averages hold the true value: of 100 simulated sweeps, the least and the most. Captions print it, and
/// the test `intervals_cover_what_they_promise` holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Coverage {
    /// Of tasks whose seeds spread somehow around one score.
    pub(crate) usual: [u32; 2],
    /// Where one task spreads 40 times as far as the others.
    pub(crate) wide: [u32; 2],
    /// Where seeds of one task either solve it or do not, with 2, 3 and 5 seeds.
    pub(crate) one: [[u32; 2]; 3],
    /// Where seeds of every task either solve it or do not.
    pub(crate) all: [u32; 2],
}

/// Of the mean over tasks.
pub(crate) const OF_MEANS: Coverage =
    Coverage { usual: [93, 99], wide: [92, 96], one: [[41, 43], [61, 65], [82, 83]], all: [63, 99] };
/// Of the interquartile mean.
pub(crate) const OF_MIDDLES: Coverage =
    Coverage { usual: [94, 99], wide: [82, 97], one: [[41, 44], [61, 63], [80, 82]], all: [64, 90] };

/// The two-sided p of the exact sign-flip test of paired differences; `None` of nothing, and of more than 20, whose sign patterns would
/// be too many to try.
pub fn sign_flip_p(differences: &[f64]) -> Option<f64> {
    let n = differences.len();
    if !(1..=20).contains(&n) {
        return None;
    }
    let scale: f64 = differences.iter().map(|d| d.abs()).sum();
    let sum = |signs: u32| -> f64 {
        let signed = |(i, d): (usize, &f64)| if signs >> i & 1 == 1 { -d } else { *d };
        differences.iter().enumerate().map(signed).sum()
    };
    // What is equal but for rounding is as far.
    let least = sum(0).abs() - 1e-9 * scale;
    let patterns = 1_u32 << n;
    Some((0..patterns).filter(|signs| sum(*signs).abs() >= least).count() as f64 / f64::from(patterns))
}

/// The smallest p that this test can give with `n` differences: only the two patterns of equal signs are as far from 0.
pub fn least_sign_flip_p(n: usize) -> f64 {
    2.0_f64.powi(1 - n as i32).min(1.0)
}

/// The value below which a share `q` of the sorted values lies, interpolated linearly. Panics on an empty slice.
pub(crate) fn percentile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// The 95 % Wilson interval of a success rate; `None` without a trial.
pub fn wilson_interval(successes: usize, trials: usize) -> Option<Interval> {
    (trials > 0).then(|| wilson(successes as f64 / trials as f64, trials as f64))
}

/// The 95 % Wilson interval of a share `p` of `n` trials, which may be an effective number.
fn wilson(p: f64, n: f64) -> Interval {
    let (centre, scale) = (p + Z * Z / (2.0 * n), 1.0 + Z * Z / n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    Interval { low: (centre - half) / scale, high: (centre + half) / scale }.clipped(Range::SHARE)
}

/// The 95 % interval of a score over the test examples that it was taken over: what other examples of the same kind might have
/// given. Of proportions Wilson's, of as many independent trials as have the standard error (Korn & Graubard 1998, Survey
/// Methodology 24(2)): positions of one example may all be right or wrong together, and then count as one. Of every other score by
/// the normal distribution. `None` where nothing was counted, and of what is no proportion without a standard error.
pub fn over_examples(score: f64, tested: &Tested, metric: &Metric) -> Option<Interval> {
    let error = tested.standard_error.filter(|error| error.is_finite() && *error >= 0.0);
    if tested.examples == 0 || !score.is_finite() {
        return None;
    }
    if !metric.is_proportion() {
        let half = Z * error?;
        return Some(Interval { low: score - half, high: score + half }.clipped(metric.range()));
    }
    let (p, examples) = (score.clamp(0.0, 1.0), tested.examples as f64);
    let effective = match error {
        Some(error) if error > 0.0 && p > 0.0 && p < 1.0 => (p * (1.0 - p) / (error * error)).max(1.0),
        // All examples scored alike: no more is known than that each is one trial.
        _ => examples,
    };
    Some(wilson(p, effective.min(examples.max(tested.positions as f64))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b}");
    }

    // By hand: of the 8 patterns of (3, 1, 2) only +++ and −−− reach 6; of (3, −1, 2), whose sum is 4, those with sums ±4 and ±6.
    #[test]
    fn the_sign_flip_test_counts_patterns() {
        assert_eq!(sign_flip_p(&[0.3, 0.1, 0.2]), Some(0.25));
        assert_eq!(sign_flip_p(&[0.3, -0.1, 0.2]), Some(0.5));
        assert_eq!(sign_flip_p(&[0.0, 0.0]), Some(1.0));
        assert_eq!((sign_flip_p(&[0.5]), sign_flip_p(&[]), sign_flip_p(&[1.0; 21])), (Some(1.0), None, None));
        assert_eq!([1, 2, 3, 5].map(least_sign_flip_p), [1.0, 0.5, 0.25, 0.0625]);
        assert_eq!(sign_flip_p(&[0.1; 5]), Some(least_sign_flip_p(5)));
    }

    // From SciPy 1.17.1: stats.t.ppf(0.975, degrees).
    #[test]
    fn the_t_quantile_is_that_of_scipy() {
        let expected = [
            (1.0, 12.706_204_736_174_694),
            (2.0, 4.302_652_729_749_462),
            (3.0, 3.182_446_305_283_708),
            (4.0, 2.776_445_105_197_793_4),
            (9.0, 2.262_157_162_798_205),
            (29.0, 2.045_229_642_132_703),
        ];
        for (degrees, quantile) in expected {
            near(t_quantile(degrees).expect("at least one degree"), quantile, 1e-11);
        }
        near(t_quantile(1.5).expect("more than one"), 6.016_663_104_427_929, 1e-9);
        near(t_quantile(7.25).expect("more than one"), 2.348_194_849_105_371, 1e-9);
        assert_eq!((t_quantile(0.0), t_quantile(f64::NAN), t_quantile(f64::INFINITY)), (None, None, None));
    }

    // From SciPy 1.17.1: stats.t.interval(0.95, 4, loc=mean(x), scale=sem(x)).
    #[test]
    fn the_t_interval_is_that_of_scipy() {
        let x = [0.91, 0.95, 0.89, 0.97, 0.93];
        let (centre, sd) = (mean(&x).expect("five values"), sample_sd(&x).expect("five values"));
        near(centre, 0.93, 1e-12);
        near(sd, 0.031_622_776_601_683_77, 1e-12);
        let interval = t_interval(centre, sd, 5).expect("five values");
        near(interval.low, 0.890_735_136_770_448_8, 1e-12);
        near(interval.high, 0.969_264_863_229_551_2, 1e-12);
    }

    #[test]
    fn a_single_seed_has_no_interval() {
        assert_eq!(sample_sd(&[0.5]), None);
        assert_eq!(t_interval(0.5, 0.1, 1), None);
        assert_eq!(t_interval(0.5, 0.1, 0), None);
        assert_eq!(Estimate::new(0.5, None, 1, Range::SHARE).interval, None);
        assert_eq!(mean(&[]), None);
    }

    #[test]
    fn an_interval_of_scores_stays_between_zero_and_one() {
        // 12.706 · 0.05 / √2 = 0.4492
        let interval = Estimate::new(0.99, Some(0.05), 2, Range::SHARE).interval.expect("two seeds");
        near(interval.low, 0.99 - 0.449_232, 1e-6);
        assert_eq!(interval.high, 1.0);
        assert_eq!(Estimate::new(0.1, Some(0.05), 2, Range::SHARE).interval.expect("two seeds").low, 0.0);
    }

    #[test]
    fn an_interval_of_correlations_may_reach_below_zero_but_not_below_minus_one() {
        let of = |mean: f64| Estimate::new(mean, Some(0.05), 2, Range::CORRELATION).interval;
        near(of(0.1).expect("two seeds").low, 0.1 - 0.449_232, 1e-6);
        assert_eq!(of(-0.8).expect("two seeds").low, -1.0);
    }

    #[test]
    fn what_is_drawn_of_a_range_begins_at_zero_or_a_fifth_below_the_lowest() {
        let low = |values: &[f64]| Range::CORRELATION.drawn(values.iter().copied()).low;
        assert_eq!((low(&[]), low(&[0.3, f64::NAN]), low(&[-0.01]), low(&[-0.2])), (0.0, 0.0, -0.2, -0.2));
        assert_eq!((low(&[0.5, -0.21]), low(&[-1.0]), low(&[-3.0])), (-0.4, -1.0, -1.0));
        let texts =
            |low: f64| Range { low, high: 1.0 }.ticks().into_iter().map(|(_, t)| t).collect::<Vec<_>>().join(" ");
        assert_eq!(texts(0.0), "0.0 0.2 0.4 0.6 0.8 1.0");
        assert_eq!(texts(-0.2), "−0.2 0.0 0.2 0.4 0.6 0.8 1.0");
        assert_eq!(texts(-1.0), "−0.8 −0.4 0.0 0.4 0.8 1.0");
    }

    // From SciPy 1.17.1: stats.trim_mean(x, 0.25), which is what rliable calls.
    #[test]
    fn the_interquartile_mean_ignores_the_outer_quarters() {
        let x = [100.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0];
        near(interquartile_mean(&x).expect("ten values"), 5.5, 1e-12);
        near(interquartile_mean(&[1.0, 2.0, 9.0]).expect("three values"), 4.0, 1e-12);
    }

    // From SciPy 1.17.1: stats.binomtest(k, n).proportion_ci(0.95, "wilson").
    #[test]
    fn the_wilson_interval_is_that_of_scipy() {
        let expected = [
            (2, 3, 0.207_659_600_802_047_82, 0.938_508_055_279_603_8),
            (3, 3, 0.438_502_968_244_954_6, 1.0),
            (0, 5, 0.0, 0.434_482_464_783_174_76),
            (81, 263, 0.255_288_519_878_274_2, 0.366_209_576_982_800_04),
        ];
        for (successes, trials, low, high) in expected {
            let interval = wilson_interval(successes, trials).expect("there were trials");
            near(interval.low, low, 1e-12);
            near(interval.high, high, 1e-12);
        }
        assert_eq!(wilson_interval(0, 0), None);
    }

    #[test]
    fn a_score_is_as_sure_as_its_examples_are_many_and_not_its_positions() {
        let tested = |examples, positions, standard_error| Tested { examples, positions, standard_error };
        let accuracy = Metric::of_older("accuracy");
        let share = |score, tested: &Tested| over_examples(score, tested, &accuracy).expect("counted");
        // One position an example: 81 of 263, as above.
        let p = 81.0 / 263.0;
        let error = |n: f64| Some((p * (1.0 - p) / n).sqrt());
        near(share(p, &tested(263, 263, error(263.0))).low, 0.255_288_519_878_274_2, 1e-9);
        // Eight positions that are right or wrong together are one.
        near(share(p, &tested(263, 2104, error(263.0))).low, 0.255_288_519_878_274_2, 1e-9);
        // And eight that are independent are eight.
        let sure = share(p, &tested(263, 2104, error(2104.0)));
        near(sure.low, wilson_interval(648, 2104).expect("trials").low, 1e-9);
        // No more than there are positions, however small the spread happens to be.
        assert_eq!(share(p, &tested(263, 2104, Some(1e-9))), sure);
        // All wrong, all right, all alike: as many trials as examples.
        assert_eq!(share(0.0, &tested(5, 80, Some(0.0))), wilson_interval(0, 5).expect("trials"));
        assert_eq!(share(1.0, &tested(3, 3, None)), wilson_interval(3, 3).expect("trials"));
        near(share(0.5, &tested(100, 1000, Some(0.0))).low, wilson_interval(50, 100).expect("trials").low, 1e-12);
        let matthews = Metric::of_older("Matthews correlation");
        let correlation = |error| over_examples(0.2, &tested(50, 50, error), &matthews);
        near(correlation(Some(0.1)).expect("counted").low, 0.2 - 0.195_996, 1e-6);
        assert_eq!((correlation(None), over_examples(0.2, &Tested::default(), &accuracy)), (None, None));
        // No proportion: 500 values of explained variance with this error are no 500 trials, of which Wilson makes ±0.026.
        for name in ["explained variance", "mean of F1 and accuracy"] {
            let of = |score, error| {
                over_examples(score, &tested(500, 500, Some(error)), &Metric::of_older(name)).expect("counted")
            };
            near(of(0.9, 0.004).low, 0.9 - 0.007_84, 1e-6);
            near(of(0.9, 0.004).high, 0.9 + 0.007_84, 1e-6);
            assert_eq!(of(0.999, 0.004).high, 1.0);
        }
    }

    // From SciPy 1.17.1: stats.ttest_ind(a, -b, equal_var=False).confidence_interval(0.95), halved.
    /// With equal variances and sizes Welch's interval is the pooled one of 2 (n - 1) degrees.
    #[test]
    fn the_interval_of_a_difference_of_equal_spreads_is_the_pooled_one() {
        let (a, b) = ([1.0, 2.0, 3.0], [4.0, 5.0, 6.0]);
        let found = difference_interval(&a, &b).expect("three values each");
        let half = t_quantile(4.0).expect("four degrees") * (2.0_f64 / 3.0).sqrt();
        assert!((found.low + 3.0 + half).abs() < 1e-9 && (found.high + 3.0 - half).abs() < 1e-9, "{found:?}");
        assert!(difference_interval(&a, &[1.0]).is_none());
        let alone = difference_interval(&[1.0, 1.0], &[0.5, 0.5]).expect("no spread");
        assert_eq!((alone.low, alone.high), (0.5, 0.5));
    }

    #[test]
    fn the_interval_of_a_mean_over_tasks_is_that_of_welch_and_satterthwaite() {
        let tasks = [vec![0.0, 2.0], vec![0.0, 4.0, 8.0]];
        let interval = task_mean_interval(&tasks).expect("two seeds each");
        near(interval.low, -1.837_302_080_473_301_2, 1e-9);
        near(interval.high, 6.837_302_080_473_302, 1e-9);
        // One task: Student's.
        let one = task_mean_interval(&[vec![0.91, 0.95, 0.89, 0.97, 0.93]]).expect("five seeds");
        near(one.low, 0.890_735_136_770_448_8, 1e-12);
        assert_eq!((task_mean_interval(&[]), task_mean_interval(&[vec![0.2; 4], vec![0.8]])), (None, None));
    }

    // A task with four seeds weighs no more than one with two: constants 0.2 and 0.8 have the mean 0.5.
    #[test]
    fn every_task_weighs_the_same_in_the_mean_over_tasks() {
        let interval = task_mean_interval(&[vec![0.2; 4], vec![0.8; 2]]).expect("two seeds each");
        near(interval.low, 0.5, 1e-12);
        near(interval.high, 0.5, 1e-12);
    }

    // No redraw can mix these tasks: each keeps its own constant.
    #[test]
    fn the_bootstrap_redraws_within_each_task() {
        let interval = interquartile_interval(&[vec![0.2, 0.2], vec![0.8, 0.8]], 500, 1).expect("two seeds each");
        near(interval.low, 0.5, 1e-12);
        near(interval.high, 0.5, 1e-12);
    }

    // Of one task with three seeds no score is cut, so that it is Student's interval up to the error of 20 000 redraws, near 1 %.
    #[test]
    fn the_interval_of_an_interquartile_mean_is_as_wide_as_that_of_a_mean_where_nothing_is_cut() {
        let scores = vec![0.5, 0.62, 0.7];
        let exact = task_mean_interval(std::slice::from_ref(&scores)).expect("three seeds");
        let drawn = interquartile_interval(&[scores], 20_000, 3).expect("three seeds");
        near((drawn.high - drawn.low) / (exact.high - exact.low), 1.0, 0.03);
    }

    /// A standard normal number (Box & Muller 1958).
    fn normal(rng: &mut ChaCha8Rng) -> f64 {
        let mut share = || (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64;
        (-2.0 * (1.0 - share()).ln()).sqrt() * (std::f64::consts::TAU * share()).cos()
    }

    /// A score of task `t`.
    type Spread = fn(usize, &mut ChaCha8Rng) -> f64;
    /// How the seeds of task `t` spread.
    const SPREADS: [(&str, Spread); 8] = [
        ("alike", |t, rng| 0.3 + 0.1 * t as f64 + 0.02 * normal(rng)),
        ("from task to task twice as wide", |t, rng| 0.5 + 0.005 * 2f64.powi(t as i32) * normal(rng)),
        ("heavy tails, t with 3 degrees", |t, rng| {
            let squares: f64 = (0..3).map(|_| normal(rng).powi(2)).sum();
            0.3 + 0.1 * t as f64 + 0.02 * normal(rng) / (squares / 3.0).sqrt()
        }),
        ("cut off at 1", |_, rng| (0.985 + 0.02 * normal(rng)).min(1.0)),
        ("skewed below 1", |t, rng| {
            let odds = (3.0 - 0.3 * t as f64 + 0.5 * normal(rng)).exp();
            odds / (1.0 + odds)
        }),
        (TWO_KINDS, |_, rng| of_two_kinds(rng)),
        (ONE_OF_TWO_KINDS, |t, rng| if t == 1 { of_two_kinds(rng) } else { quiet(t, rng) }),
        (ONE_WIDE, |t, rng| if t == 1 { 0.4 + 0.2 * normal(rng) } else { quiet(t, rng) }),
    ];
    /// For which no interval from two seeds can hold what it promises; captions say so.
    const TWO_KINDS: &str = "a seed solves a task or does not";
    const ONE_OF_TWO_KINDS: &str = "one task of two kinds among quiet ones";
    /// Which the interquartile mean cuts or not by chance.
    const ONE_WIDE: &str = "one task 40 times as wide";

    fn quiet(t: usize, rng: &mut ChaCha8Rng) -> f64 {
        0.3 + 0.1 * t as f64 + 0.005 * normal(rng)
    }

    fn of_two_kinds(rng: &mut ChaCha8Rng) -> f64 {
        let solved = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 > 0.3;
        if solved { 0.9 } else { 0.2 }
    }

    /// The percentile bootstrap that stood here before.
    fn percentile_interval(tasks: &[Vec<f64>], rng: &mut ChaCha8Rng) -> Interval {
        let mut pick = |scores: &[f64]| scores[((u128::from(rng.next_u64()) * scores.len() as u128) >> 64) as usize];
        let mut redraw = || {
            let means: Vec<f64> = tasks
                .iter()
                .map(|scores| scores.iter().map(|_| pick(scores)).sum::<f64>() / scores.len() as f64)
                .collect();
            mean(&means).expect("some tasks")
        };
        let mut means: Vec<f64> = (0..200).map(|_| redraw()).collect();
        means.sort_by(f64::total_cmp);
        Interval { low: percentile(&means, 0.025), high: percentile(&means, 0.975) }
    }

    /// In how many of so many sweeps the interval holds the true value.
    const SWEEPS: usize = 1000;

    fn coverage(
        truth: f64,
        (tasks, seeds): (usize, usize),
        spread: fn(usize, &mut ChaCha8Rng) -> f64,
        interval: impl Fn(&[Vec<f64>], &mut ChaCha8Rng) -> Interval,
    ) -> f64 {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut held = 0;
        for _ in 0..SWEEPS {
            let mut task = |t: usize| (0..seeds).map(|_| spread(t, &mut rng)).collect::<Vec<f64>>();
            let scores: Vec<Vec<f64>> = (0..tasks).map(&mut task).collect();
            let Interval { low, high } = interval(&scores, &mut rng);
            held += usize::from(low - 1e-12 <= truth && truth <= high + 1e-12);
        }
        held as f64 / SWEEPS as f64
    }

    /// The least and the most of some shares, in hundredths.
    fn span(shares: impl Iterator<Item = f64>) -> [u32; 2] {
        let hundredth = |share: f64| (100.0 * share).round() as u32;
        shares.fold([100, 0], |[low, high], share| [low.min(hundredth(share)), high.max(hundredth(share))])
    }

    /// What was found, as captions state it.
    fn found(all: &[(&str, (usize, usize), f64)]) -> Coverage {
        let of = |wanted: &dyn Fn(&str, (usize, usize)) -> bool| {
            span(all.iter().filter(|(name, size, _)| wanted(name, *size)).map(|(.., share)| *share))
        };
        let one = |seeds: usize| of(&|name, size| name == ONE_OF_TWO_KINDS && size.1 == seeds);
        Coverage {
            usual: of(&|name, _| ![TWO_KINDS, ONE_OF_TWO_KINDS, ONE_WIDE].contains(&name)),
            wide: of(&|name, _| name == ONE_WIDE),
            one: [2, 3, 5].map(one),
            all: of(&|name, _| name == TWO_KINDS),
        }
    }

    // A share near 0.95 of 1000 sweeps is good to 0.014 (two standard deviations). Truths are from 50 000 seeds a task.
    #[test]
    fn intervals_cover_what_they_promise() {
        println!("share of {SWEEPS} sweeps in which a 95 % interval holds the true value");
        println!("{:<38} tasks seeds  percentile  mean over tasks  interquartile mean", "seeds");
        let (mut of_means, mut of_middles) = (Vec::new(), Vec::new());
        for (name, spread) in SPREADS {
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let mut task = |t: usize| (0..50_000).map(|_| spread(t, &mut rng)).collect::<Vec<f64>>();
            let all: Vec<Vec<f64>> = (0..6).map(&mut task).collect();
            for tasks in [2, 5, 6] {
                let all = &all[..tasks];
                let true_mean = mean(&all.iter().filter_map(|scores| mean(scores)).collect::<Vec<_>>()).expect("tasks");
                let true_middle = interquartile_mean(&all.concat()).expect("tasks");
                for seeds in [2, 3, 5] {
                    let size = (tasks, seeds);
                    let before = coverage(true_mean, size, spread, percentile_interval);
                    let of_mean = coverage(true_mean, size, spread, |scores, _| {
                        task_mean_interval(scores).expect("two seeds each")
                    });
                    let of_middle = coverage(true_middle, size, spread, |scores, rng| {
                        interquartile_interval(scores, 60, rng.next_u64()).expect("two seeds each")
                    });
                    println!("{name:<38} {tasks:>5} {seeds:>5}  {before:>10.3}  {of_mean:>15.3}  {of_middle:>18.3}");
                    of_means.push((name, size, of_mean));
                    of_middles.push((name, size, of_middle));
                    if ![TWO_KINDS, ONE_OF_TWO_KINDS, ONE_WIDE].contains(&name) {
                        assert!(of_mean >= 0.9 && of_middle >= 0.9, "{name}, {size:?}: {of_mean}, {of_middle}");
                        assert!(before < of_mean, "{name}, {size:?}: {before}, {of_mean}");
                    }
                }
            }
        }
        assert_eq!(found(&of_means), OF_MEANS);
        assert_eq!(found(&of_middles), OF_MIDDLES);
    }

    // A seed whose pretraining went well is better on every task: independent tasks would average that away.
    #[test]
    fn intervals_over_seeds_that_share_a_start_cover_what_they_promise() {
        const TASKS: usize = 8;
        let truth = 0.5;
        println!("shared sd  seeds  as if tasks were independent  by seed  interquartile mean by seed");
        for shared in [0.01, 0.02] {
            for seeds in [2, 3, 5] {
                let mut rng = ChaCha8Rng::seed_from_u64(11);
                let mut held = [0; 3];
                for _ in 0..SWEEPS {
                    let starts: Vec<f64> = (0..seeds).map(|_| shared * normal(&mut rng)).collect();
                    let mut task = |_| {
                        let run = |(seed, start): (u64, &f64)| (seed, truth + start + 0.02 * normal(&mut rng));
                        Seeds { weight: 1.0 / TASKS as f64, runs: (1..).zip(&starts).map(run).collect() }
                    };
                    let tasks: Vec<Seeds> = (0..TASKS).map(&mut task).collect();
                    let centre = tasks.iter().map(Seeds::weighted_mean).sum::<Option<f64>>().expect("runs");
                    let runs: Vec<Vec<(u64, f64)>> = tasks.iter().map(|task| task.runs.clone()).collect();
                    let intervals = [
                        seeds_interval(centre, &tasks, false),
                        seeds_interval(centre, &tasks, true),
                        interquartile_by_seed(&runs),
                    ];
                    for (held, interval) in held.iter_mut().zip(intervals) {
                        let Interval { low, high } = interval.expect("two seeds each");
                        *held += usize::from(low <= truth && truth <= high);
                    }
                }
                let [before, by_seed, middle] = held.map(|held| held as f64 / SWEEPS as f64);
                println!("{shared:>9} {seeds:>6}  {before:>28.3}  {by_seed:>7.3}  {middle:>26.3}");
                assert!(before < by_seed, "{shared}, {seeds}: {before}");
                assert!(by_seed >= 0.9 && middle >= 0.9, "{shared}, {seeds}: {by_seed}, {middle}");
            }
        }
    }

    // Sums 0.5 · (0.2 + 0.6) = 0.4 of seed 1 and 0.5 · (0.4 + 0.8) = 0.6 of seed 2; seed 3 has one task alone.
    #[test]
    fn seeds_that_share_a_start_are_paired_by_their_seed_and_not_by_their_place() {
        let part = |runs: &[(u64, f64)]| Seeds { weight: 0.5, runs: runs.to_vec() };
        let tasks = [part(&[(3, 0.9), (1, 0.2), (2, 0.4)]), part(&[(2, 0.8), (1, 0.6)])];
        let half = 12.706_204_736_174_694 * 0.2 / 2.0;
        near(seeds_interval(0.5, &tasks, true).expect("two whole seeds").high, 0.5 + half, 1e-9);
        let one = [part(&[(1, 0.2), (3, 0.4)]), part(&[(2, 0.8), (1, 0.6)])];
        assert_eq!((seeds_interval(0.5, &one, true), seeds_interval(0.5, &[], true)), (None, None));
    }

    // The degrees of the mean's variance, in which a task weighs as much as it has runs: 0.01 and 0.04 of 2 and 5 seeds.
    #[test]
    fn a_task_weighs_in_the_degrees_of_an_interquartile_mean_as_much_as_it_has_runs() {
        let tasks = [vec![0.5, 0.6], vec![0.5, 0.5, 0.5, 0.5, 0.6]];
        let parts: Vec<f64> =
            [(2.0_f64, 0.005), (5.0, 0.002)].map(|(n, variance)| (n / 7.0).powi(2) * variance / n).into();
        let sum = parts[0] + parts[1];
        let degrees = sum * sum / (parts[0] * parts[0] + parts[1] * parts[1] / 4.0);
        let interval = interquartile_interval(&tasks, 200, 5).expect("two seeds each");
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let middles: Vec<f64> = (0..200)
            .filter_map(|_| {
                interquartile_mean(&tasks.iter().flat_map(|seeds| redrawn(seeds, &mut rng)).collect::<Vec<_>>())
            })
            .collect();
        let half = t_quantile(degrees).expect("more than one") * sample_sd(&middles).expect("some");
        near((interval.high - interval.low) / 2.0, half, 1e-9);
    }

    #[test]
    fn a_measure_is_not_clipped_and_leaves_out_what_is_no_number() {
        // As above: 0.93 ± 0.039265, here shifted by 7.
        let measured = Measured::new(vec![7.91, 7.95, f64::NAN, 7.89, 7.97, 7.93, f64::INFINITY]);
        assert_eq!(measured.n, 5);
        near(measured.interval.expect("five values").low, 7.890_735_136_770_449, 1e-9);
        assert_eq!((Measured::new(vec![f64::NAN]).mean, Measured::new(vec![2.0]).interval), (None, None));
    }

    #[test]
    fn the_same_seed_gives_the_same_bootstrap_interval() {
        let scores = [vec![0.1, 0.4, 0.35], vec![0.8, 0.7, 0.9]];
        assert_eq!(interquartile_interval(&scores, 300, 7), interquartile_interval(&scores, 300, 7));
        assert_ne!(interquartile_interval(&scores, 300, 7), interquartile_interval(&scores, 300, 8));
        assert_eq!(interquartile_interval(&[vec![0.1, 0.2], vec![0.5]], 300, 7), None);
    }
}
