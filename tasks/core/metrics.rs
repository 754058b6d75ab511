//! What a set of answers scores: accuracy, F1, Matthews' correlation; Pearson's, Spearman's and Kendall's for real numbers.
//!
//! ```text
//! accuracy   share of answers that are right
//! F1         2 TP / (2 TP + FP + FN)                                              positive class 1; 0 where there is none
//! Matthews   (c s − Σ p_k t_k) / √((s² − Σ p_k²) (s² − Σ t_k²))                   0 where the root is 0
//!            = (TP TN − FP FN) / √((TP+FP) (TP+FN) (TN+FP) (TN+FN))               of two classes
//! Pearson    Σ (x − x̄) (y − ȳ) / √(Σ (x − x̄)² Σ (y − ȳ)²)
//! Spearman   Pearson of the ranks, ties sharing their average rank
//! Kendall    τ_b = (C − D) / √((C + D + T_x) (C + D + T_y))                       pairs: concordant, discordant, tied in one
//! ```
//! c right answers of s; class k answered p_k times and wanted t_k times.
//!
//! Sources  van Rijsbergen 1979 (F1); Matthews 1975, Gorodkin 2004 (more than two classes); Pearson 1895; Spearman 1904;
//!          Kendall 1945 (τ_b). GLUE takes F1, Matthews, Pearson and Spearman: Wang et al. 2019, arXiv:1804.07461
//! Matches  scikit-learn 1.9.1 and SciPy 1.17.1 to 1e-12 (metrics/fixtures.json, made by metrics/fixtures.py)
//! Departs  a constant input has no correlation: SciPy gives NaN and warns, here it is 0, the score of knowing nothing

use std::collections::BTreeMap;

/// Share of answers that are right; 0 of none.
///
/// # Panics
/// When there are not as many answers as are wanted; so for every metric here.
pub fn accuracy(answers: &[i64], wanted: &[i64]) -> f64 {
    crate::core::bounds::share(hits(answers, wanted) as f64, wanted.len() as u64)
}

/// F1 of class 1 among whatever classes there are; 0 where it is neither answered nor wanted.
pub fn f1(answers: &[i64], wanted: &[i64]) -> f64 {
    paired(answers, wanted);
    let positives = |classes: &[i64]| classes.iter().filter(|&&class| class == 1).count();
    let both = answers.iter().zip(wanted).filter(|pair| *pair == (&1, &1)).count();
    let all = positives(answers) + positives(wanted); // 2 TP + FP + FN
    if all == 0 { 0.0 } else { 2.0 * both as f64 / all as f64 }
}

/// Matthews' correlation of classes, two or more: −1 ..= 1, and 0 where all answers or all wanted are of one class.
pub fn matthews(answers: &[i64], wanted: &[i64]) -> f64 {
    let right = i128::from(hits(answers, wanted));
    let (mut counts, all) = (BTreeMap::<i64, [i128; 2]>::new(), wanted.len() as i128);
    for (column, classes) in [answers, wanted].into_iter().enumerate() {
        classes.iter().for_each(|&class| counts.entry(class).or_default()[column] += 1);
    }
    let sum = |of: fn([i128; 2]) -> i128| counts.values().map(|&count| of(count)).sum::<i128>();
    let spread = [all * all - sum(|[p, _]| p * p), all * all - sum(|[_, t]| t * t)];
    let root = (spread[0] as f64 * spread[1] as f64).sqrt();
    if root == 0.0 { 0.0 } else { (right * all - sum(|[p, t]| p * t)) as f64 / root }
}

/// Pearson's correlation: −1 ..= 1, 0 where one of the two is constant, NaN where a value is not finite.
pub fn pearson(answers: &[f64], wanted: &[f64]) -> f64 {
    paired(answers, wanted);
    if !answers.iter().chain(wanted).all(|value| value.is_finite()) {
        return f64::NAN;
    }
    let (Some(x), Some(y)) = (unit(answers), unit(wanted)) else { return 0.0 };
    x.iter().zip(&y).map(|(x, y)| x * y).sum::<f64>().clamp(-1.0, 1.0)
}

/// Spearman's correlation: as [`pearson`], of ranks.
pub fn spearman(answers: &[f64], wanted: &[f64]) -> f64 {
    paired(answers, wanted);
    if answers.iter().chain(wanted).any(|value| value.is_nan()) {
        return f64::NAN;
    }
    pearson(&ranks(answers), &ranks(wanted))
}

/// Kendall's τ_b: −1 ..= 1, 0 where one of the two is constant, NaN where a value is. Every pair is looked at: n²/2 steps.
pub fn kendall(answers: &[f64], wanted: &[f64]) -> f64 {
    paired(answers, wanted);
    if answers.iter().chain(wanted).any(|value| value.is_nan()) {
        return f64::NAN;
    }
    let sign = |a: f64, b: f64| i64::from(a > b) - i64::from(a < b);
    let (mut agree, mut untied) = (0, [0_i64; 2]);
    for (i, (&x, &y)) in answers.iter().zip(wanted).enumerate() {
        for (&other_x, &other_y) in answers[..i].iter().zip(wanted) {
            let (x, y) = (sign(x, other_x), sign(y, other_y));
            agree += x * y;
            untied = [untied[0] + x * x, untied[1] + y * y];
        }
    }
    let root = (untied[0] as f64 * untied[1] as f64).sqrt();
    if root == 0.0 { 0.0 } else { (agree as f64 / root).clamp(-1.0, 1.0) }
}

/// Ranks from 1 in rising order; equal values share the average of theirs.
pub fn ranks(values: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_by(|&a, &b| values[a].total_cmp(&values[b]));
    let (mut ranks, mut start) = (vec![0.0; values.len()], 0);
    for equal in order.chunk_by(|&a, &b| values[a] == values[b]) {
        let shared = start as f64 + (equal.len() + 1) as f64 / 2.0;
        equal.iter().for_each(|&at| ranks[at] = shared);
        start += equal.len();
    }
    ranks
}

fn hits(answers: &[i64], wanted: &[i64]) -> u64 {
    paired(answers, wanted);
    answers.iter().zip(wanted).map(|(got, want)| u64::from(got == want)).sum()
}

fn paired<T>(answers: &[T], wanted: &[T]) {
    assert_eq!(answers.len(), wanted.len(), "one answer for each that is wanted");
}

/// Values less their mean, as a vector of length 1; `None` of a constant. Divided by the largest before they are squared, so
/// that no square is beyond what a number holds.
fn unit(values: &[f64]) -> Option<Vec<f64>> {
    if values.iter().all(|value| *value == values[0]) {
        return None;
    }
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let apart: Vec<f64> = values.iter().map(|value| value - mean).collect();
    let largest = apart.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
    let length = apart.iter().map(|value| (value / largest).powi(2)).sum::<f64>().sqrt();
    Some(apart.iter().map(|value| value / largest / length).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Fixtures {
        classes: Vec<Classes>,
        values: Vec<Values>,
    }

    #[derive(Deserialize)]
    struct Classes {
        name: String,
        answers: Vec<i64>,
        wanted: Vec<i64>,
        accuracy: f64,
        f1: f64,
        matthews: f64,
    }

    #[derive(Deserialize)]
    struct Values {
        name: String,
        answers: Vec<f64>,
        wanted: Vec<f64>,
        pearson: Option<f64>,
        spearman: Option<f64>,
        kendall: Option<f64>,
    }

    fn fixtures() -> Fixtures {
        serde_json::from_str(include_str!("metrics/fixtures.json")).unwrap()
    }

    #[track_caller]
    fn close(name: &str, ours: f64, theirs: f64) {
        assert!((ours - theirs).abs() <= 1e-12, "{name}: {ours}, reference {theirs}");
    }

    #[test]
    fn metrics_of_classes_are_those_of_scikit_learn() {
        let cases = fixtures().classes;
        assert_eq!(cases.len(), 14);
        for Classes { name, answers, wanted, accuracy: right, f1: of_ones, matthews: correlation } in cases {
            close(&name, accuracy(&answers, &wanted), right);
            close(&name, f1(&answers, &wanted), of_ones);
            close(&name, matthews(&answers, &wanted), correlation);
        }
    }

    #[test]
    fn correlations_are_those_of_scipy_and_0_where_scipy_has_none() {
        let cases = fixtures().values;
        assert_eq!(cases.len(), 13);
        for Values { name, answers, wanted, pearson: p, spearman: s, kendall: k } in cases {
            assert_eq!(p.is_none(), name.contains("constant"), "{name}");
            close(&name, pearson(&answers, &wanted), p.unwrap_or(0.0));
            close(&name, spearman(&answers, &wanted), s.unwrap_or(0.0));
            close(&name, kendall(&answers, &wanted), k.unwrap_or(0.0));
        }
    }

    #[test]
    fn matthews_is_its_binary_formula() {
        // TP 3, TN 2, FP 1, FN 1: (6 − 1) / √(4 · 4 · 3 · 3)
        let (answers, wanted) = ([1, 1, 0, 0, 1, 0, 1], [1, 0, 0, 1, 1, 0, 1]);
        close("by hand", matthews(&answers, &wanted), 5.0 / 12.0);
        close("by hand", f1(&answers, &wanted), 6.0 / 8.0);
    }

    #[test]
    fn equal_values_share_their_average_rank() {
        assert_eq!(ranks(&[3.0, 1.0, 3.0, -0.0, 0.0, 3.0]), [5.0, 3.0, 5.0, 1.5, 1.5, 5.0]);
    }

    #[test]
    fn nothing_scores_nothing_and_a_diverged_model_has_no_correlation() {
        for score in [accuracy(&[], &[]), f1(&[], &[]), matthews(&[], &[]), pearson(&[], &[]), kendall(&[], &[])] {
            assert_eq!(score, 0.0);
        }
        assert_eq!(pearson(&[1.0], &[2.0]), 0.0);
        for metric in [pearson, spearman, kendall] {
            assert!(metric(&[1.0, f64::NAN], &[1.0, 2.0]).is_nan());
        }
        assert!(pearson(&[1.0, f64::INFINITY], &[1.0, 2.0]).is_nan());
    }

    #[test]
    fn a_split_of_any_size_counts_without_overflow() {
        let wanted: Vec<i64> = (0..400_000).map(|row| row % 3).collect();
        assert_eq!(matthews(&wanted, &wanted), 1.0);
    }

    #[test]
    #[should_panic(expected = "one answer for each that is wanted")]
    fn answers_and_wanted_must_pair() {
        pearson(&[1.0], &[]);
    }
}
