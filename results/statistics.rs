//! The few statistics the tables need, each checked against independent numbers.
//!
//! ```text
//! t interval   x̄ ± t(0.975, n-1) · s/√n                             Student 1908
//! Wilson       (p + z²/2n ± z √(p(1-p)/n + z²/4n²)) / (1 + z²/n)    Wilson 1927, JASA 22(158)
//! IQM          mean of the middle half: ⌊n/4⌋ scores cut at each end Agarwal et al. 2021, arXiv:2108.13264
//! ```

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use serde::Serialize;

/// The 97.5 % quantile of the standard normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// A 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Interval {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Interval {
    /// Both ends brought into a range.
    pub fn clipped(self, range: Range) -> Self {
        Self { low: self.low.clamp(range.low, range.high), high: self.high.clamp(range.low, range.high) }
    }

    /// Whether the two share a point.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}

/// Between which ends a score lies.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Range {
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
}

impl Range {
    /// Where shares live.
    pub const SHARE: Self = Self { low: 0.0, high: 1.0 };
    /// Where correlations live.
    pub const CORRELATION: Self = Self { low: -1.0, high: 1.0 };

    /// The range of a score by its name: correlations are said to be some, everything else is a share.
    pub fn of(metric: &str) -> Self {
        if metric.to_lowercase().contains("correlation") { Self::CORRELATION } else { Self::SHARE }
    }

    /// As it is printed: `[−1, 1]`.
    pub fn text(self) -> String {
        format!("[{}, {}]", self.low, self.high).replace('-', "−")
    }

    /// The part of the range that is drawn: from 0, or from the fifth below the lowest of these numbers, to the upper end.
    pub(crate) fn drawn(self, values: impl IntoIterator<Item = f64>) -> Self {
        let lowest = values.into_iter().filter(|value| value.is_finite()).fold(0.0, f64::min);
        // Rounding may put a fifth a little below itself.
        Self { low: ((5.0 * lowest + 1e-9).floor() / 5.0).max(self.low), ..self }
    }

    /// Fifths within the range, with their labels.
    pub(crate) fn ticks(self) -> Vec<(f64, String)> {
        let (first, last) = ((5.0 * self.low).round() as i32, (5.0 * self.high).round() as i32);
        let fifth = |i: i32| (f64::from(i) / 5.0, format!("{:.1}", f64::from(i) / 5.0).replace('-', "−"));
        // Every second one below 0 and above, where all would crowd.
        let step = if last - first > 6 { 2 } else { 1 };
        (first..=last).filter(|i| i % step == 0 || *i == last).map(fifth).collect()
    }

    /// Where a value lies from the lower end, 0, to the upper, 1; what is beyond lies at the end.
    pub(crate) fn share(self, value: f64) -> f64 {
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }
}

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
}

impl Measured {
    /// Of these values; what is no finite number is left out and not counted.
    pub fn new(mut values: Vec<f64>) -> Self {
        values.retain(|value| value.is_finite());
        let (mean, n) = (mean(&values), values.len());
        let interval = mean.zip(sample_sd(&values)).and_then(|(mean, sd)| t_interval(mean, sd, n));
        Self { mean, interval, n, values }
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
    let half = t_quantile(u32::try_from(n.checked_sub(1)?).ok()?)? * sd / (n as f64).sqrt();
    Some(Interval { low: mean - half, high: mean + half })
}

/// The 97.5 % quantile of Student's t, by bisection of its exact distribution; `None` without a degree of freedom.
pub fn t_quantile(degrees: u32) -> Option<f64> {
    if degrees == 0 {
        return None;
    }
    let (mut low, mut high) = (0.0, 13.0); // one degree of freedom, the largest, has 12.706
    for _ in 0..60 {
        let middle = (low + high) / 2.0;
        if t_within(middle, degrees) < 0.95 {
            low = middle;
        } else {
            high = middle;
        }
    }
    Some((low + high) / 2.0)
}

/// P(|T| < t) for whole degrees of freedom: the finite trigonometric sums of Abramowitz & Stegun 26.7.3 and 26.7.4.
fn t_within(t: f64, degrees: u32) -> f64 {
    let theta = (t / f64::from(degrees).sqrt()).atan();
    let (sin, cos) = theta.sin_cos();
    let odd = degrees % 2 == 1;
    let (mut term, mut sum) = if odd { (cos, 0.0) } else { (1.0, 0.0) };
    let mut k = if odd { 1 } else { 0 };
    while k + 2 <= degrees {
        sum += term;
        k += 2;
        term *= cos * cos * f64::from(k - 1) / f64::from(k);
    }
    if odd { (theta + sin * sum) * std::f64::consts::FRAC_2_PI } else { sin * sum }
}

/// The mean of the middle half; `None` of nothing.
pub fn interquartile_mean(x: &[f64]) -> Option<f64> {
    let mut sorted = x.to_vec();
    sorted.sort_by(f64::total_cmp);
    let cut = sorted.len() / 4;
    mean(&sorted[cut..sorted.len() - cut])
}

/// The 95 % percentile-bootstrap interval of the interquartile mean over tasks: seeds are redrawn within each task, so
/// that every redraw holds every task (stratified). `None` unless every task has at least two seeds.
pub fn bootstrap_interval(tasks: &[Vec<f64>], draws: usize, seed: u64) -> Option<Interval> {
    bootstrap(tasks, draws, seed, |tasks| interquartile_mean(&tasks.concat()))
}

/// The same bootstrap of the mean over tasks of the mean over seeds: every task weighs the same, whatever its seeds.
pub fn bootstrap_task_mean(tasks: &[Vec<f64>], draws: usize, seed: u64) -> Option<Interval> {
    bootstrap(tasks, draws, seed, |tasks| mean(&tasks.iter().filter_map(|scores| mean(scores)).collect::<Vec<_>>()))
}

/// The same bootstrap of [`mean_of_group_means`].
pub fn bootstrap_group_mean(groups: &[Vec<Vec<f64>>], draws: usize, seed: u64) -> Option<Interval> {
    let sizes: Vec<usize> = groups.iter().map(Vec::len).collect();
    bootstrap(&groups.concat(), draws, seed, |tasks| {
        let (mut rest, mut groups) = (tasks, Vec::new());
        for size in &sizes {
            let (group, after) = rest.split_at(*size);
            groups.push(group.to_vec());
            rest = after;
        }
        mean_of_group_means(&groups)
    })
}

/// The mean over groups of the mean over their tasks of the mean over seeds; `None` if one of them holds nothing.
pub fn mean_of_group_means(groups: &[Vec<Vec<f64>>]) -> Option<f64> {
    let of_group = |group: &Vec<Vec<f64>>| mean(&group.iter().map(|seeds| mean(seeds)).collect::<Option<Vec<_>>>()?);
    mean(&groups.iter().map(of_group).collect::<Option<Vec<_>>>()?)
}

fn bootstrap(
    tasks: &[Vec<f64>],
    draws: usize,
    seed: u64,
    statistic: impl Fn(&[Vec<f64>]) -> Option<f64>,
) -> Option<Interval> {
    if draws == 0 || tasks.is_empty() || tasks.iter().any(|scores| scores.len() < 2) {
        return None;
    }
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut pick = |scores: &[f64]| scores[((u128::from(rng.next_u64()) * scores.len() as u128) >> 64) as usize];
    let mut redraw = || tasks.iter().map(|t| t.iter().map(|_| pick(t)).collect()).collect::<Vec<Vec<f64>>>();
    let mut means: Vec<f64> = (0..draws).filter_map(|_| statistic(&redraw())).collect();
    means.sort_by(f64::total_cmp);
    Some(Interval { low: percentile(&means, 0.025), high: percentile(&means, 0.975) })
}

/// The value below which a share `q` of the sorted values lies, interpolated linearly. Panics on an empty slice.
pub(crate) fn percentile(sorted: &[f64], q: f64) -> f64 {
    let place = q * (sorted.len() - 1) as f64;
    let (below, above) = (sorted[place.floor() as usize], sorted[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

/// The 95 % Wilson interval of a success rate; `None` without a trial.
pub fn wilson_interval(successes: usize, trials: usize) -> Option<Interval> {
    if trials == 0 {
        return None;
    }
    let (n, p) = (trials as f64, successes as f64 / trials as f64);
    let (centre, scale) = (p + Z * Z / (2.0 * n), 1.0 + Z * Z / n);
    let half = Z * (p * (1.0 - p) / n + Z * Z / (4.0 * n * n)).sqrt();
    Some(Interval { low: (centre - half) / scale, high: (centre + half) / scale }.clipped(Range::SHARE))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(a: f64, b: f64, tolerance: f64) {
        assert!((a - b).abs() <= tolerance, "{a} is not {b}");
    }

    // From SciPy 1.17.1: stats.t.ppf(0.975, degrees).
    #[test]
    fn the_t_quantile_is_that_of_scipy() {
        let expected = [
            (1, 12.706_204_736_174_694),
            (2, 4.302_652_729_749_462),
            (3, 3.182_446_305_283_708),
            (4, 2.776_445_105_197_793_4),
            (9, 2.262_157_162_798_205),
            (29, 2.045_229_642_132_703),
        ];
        for (degrees, quantile) in expected {
            near(t_quantile(degrees).expect("at least one degree"), quantile, 1e-11);
        }
        assert_eq!(t_quantile(0), None);
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
        let of = |mean: f64| Estimate::new(mean, Some(0.05), 2, Range::of("Matthews correlation")).interval;
        near(of(0.1).expect("two seeds").low, 0.1 - 0.449_232, 1e-6);
        assert_eq!(of(-0.8).expect("two seeds").low, -1.0);
    }

    #[test]
    fn the_name_of_a_score_says_its_range() {
        for name in ["Matthews correlation", "mean of Pearson's and Spearman's correlation"] {
            assert_eq!(Range::of(name).text(), "[−1, 1]");
        }
        for name in ["accuracy", "masked accuracy", "mean of F1 and accuracy", "score", ""] {
            assert_eq!(Range::of(name), Range::SHARE);
        }
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

    // Two seeds per task: a redraw of {a, b} is aa, ab, ba or bb, so the pooled means can be listed by hand. Tasks {0, 1}
    // and {0, 1} give means 0, ¼, ½, ¾, 1 with the weights of a coin thrown four times, and 1/16 > 2.5 %.
    #[test]
    fn the_bootstrap_redraws_within_each_task() {
        let both = [vec![0.0, 1.0], vec![0.0, 1.0]];
        assert_eq!(bootstrap_interval(&both, 4000, 1), Some(Interval { low: 0.0, high: 1.0 }));
        // No redraw can mix these tasks: each keeps its own constant.
        let constant = [vec![0.2, 0.2], vec![0.8, 0.8]];
        let interval = bootstrap_interval(&constant, 500, 1).expect("two seeds each");
        near(interval.low, 0.5, 1e-12);
        near(interval.high, 0.5, 1e-12);
    }

    // A task with four seeds weighs no more than one with two: constants 0.2 and 0.8 have the mean 0.5.
    #[test]
    fn every_task_weighs_the_same_in_the_mean_over_tasks() {
        let interval = bootstrap_task_mean(&[vec![0.2; 4], vec![0.8; 2]], 200, 1).expect("two seeds each");
        near(interval.low, 0.5, 1e-12);
        near(interval.high, 0.5, 1e-12);
        assert_eq!(bootstrap_task_mean(&[vec![0.2; 4], vec![0.8]], 200, 1), None);
    }

    // Groups {0.2, 0.4} and {0.9}: (0.3 + 0.9) / 2, where the mean over the three tasks would be 0.5.
    #[test]
    fn every_group_weighs_the_same_whatever_its_tasks() {
        let groups = [vec![vec![0.2; 2], vec![0.4; 2]], vec![vec![0.9; 3]]];
        near(mean_of_group_means(&groups).expect("whole"), 0.6, 1e-12);
        let interval = bootstrap_group_mean(&groups, 200, 1).expect("two seeds each");
        near(interval.low, 0.6, 1e-12);
        near(interval.high, 0.6, 1e-12);
        assert_eq!(mean_of_group_means(&[vec![vec![0.2], vec![]]]), None);
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
        assert_eq!(bootstrap_interval(&scores, 300, 7), bootstrap_interval(&scores, 300, 7));
        assert_ne!(bootstrap_interval(&scores, 300, 7), bootstrap_interval(&scores, 300, 8));
        assert_eq!(bootstrap_interval(&[vec![0.1, 0.2], vec![0.5]], 300, 7), None);
    }
}
