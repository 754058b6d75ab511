//! What a score is: its name, its range, how it comes of the answers. The task declares it and the record keeps it, in the words of
//! `tasks::Metric`; of records written before there were any it is found by the name of the score, here and nowhere else.

use crate::statistics::Range;
use serde::{Deserialize, Serialize};

/// The score of a task; higher is better.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Its name in tables: `accuracy`.
    pub name: String,
    /// The least and the largest score there can be.
    pub range: (f64, f64),
    /// How it comes of the answers.
    pub kind: MetricKind,
    /// Whether checkpoints and grid points are chosen by the validation loss instead of this score: of language models.
    pub chosen_by_loss: bool,
    /// The score of a run that diverged; `None`: the task's floor.
    pub diverged: Option<f64>,
}

/// How a score comes of the answers to a split.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// A mean of answers that are right (1) or wrong (0).
    Proportion,
    /// A share of what can be explained: of the variance of real numbers.
    Explained,
    /// A correlation over the whole split; a constant answer has 0.
    Correlation,
    /// The mean of F1 and accuracy over the whole split.
    F1Accuracy,
    /// The share of tokens that are right, beside a loss that says more.
    LanguageModel,
    /// Any other, from a newer build: nothing is known but its range.
    #[serde(other)]
    Other,
}

/// Scores of older records that are no proportion: their names and kinds.
const OLDER: [(&str, MetricKind); 7] = [
    ("masked accuracy", MetricKind::LanguageModel),
    ("next-token accuracy", MetricKind::LanguageModel),
    ("Matthews correlation", MetricKind::Correlation),
    ("mean of Pearson and Spearman correlation", MetricKind::Correlation),
    ("mean of Pearson's and Spearman's correlation", MetricKind::Correlation),
    ("mean of F1 and accuracy", MetricKind::F1Accuracy),
    ("explained variance", MetricKind::Explained),
];

impl Metric {
    /// The metric of a record that has only its name.
    pub fn of_older(name: &str) -> Self {
        let known = OLDER.iter().find(|(known, _)| *known == name);
        let kind = known.map_or(MetricKind::Proportion, |(_, kind)| *kind);
        let low = if kind == MetricKind::Correlation { -1.0 } else { 0.0 };
        Self {
            name: name.into(),
            range: (low, 1.0),
            kind,
            chosen_by_loss: kind == MetricKind::LanguageModel,
            diverged: None,
        }
    }

    /// Between which ends it lies; what is no range (a record may say anything) is [0, 1].
    pub fn range(&self) -> Range {
        let (low, high) = self.range;
        if low < high && low.is_finite() && high.is_finite() { Range { low, high } } else { Range::SHARE }
    }

    /// Whether it is a mean of answers that are right or wrong.
    pub fn is_proportion(&self) -> bool {
        matches!(self.kind, MetricKind::Proportion | MetricKind::LanguageModel)
    }

    /// Whether it is the accuracy by that name, or the share of tokens that are right: what a measure `accuracy` is too.
    pub fn is_accuracy(&self) -> bool {
        self.kind == MetricKind::LanguageModel || (self.kind == MetricKind::Proportion && self.name == "accuracy")
    }

    /// Whether it is what a published measure of this name is; a score without a name is not known to be another.
    pub fn is_measure(&self, measure: &str) -> bool {
        match measure {
            _ if self.name.is_empty() => true,
            "accuracy" => self.is_proportion(),
            "mcc" => self.kind == MetricKind::Correlation,
            "pearson" | "spearman" | "f1" | "loss" | "perplexity" => self.name.to_lowercase() == measure,
            _ => true,
        }
    }
}

/// Whether the lower one of two numbers of a measure is the better: losses, perplexities, risks, bits, errors.
pub fn lower_is_better(measure: &str) -> bool {
    ["loss", "perplexity", "risk", "bits", "error"].iter().any(|word| measure.contains(word))
}

/// A number beside the score that is known by its name.
pub(crate) struct Measure {
    name: &'static str,
    range: Range,
    /// What a constant answer has of it, where that is the same for every task.
    pub(crate) constant: Option<f64>,
}

/// Measures over a whole split. Any other name may stand in a record too: it is a number without a range.
const MEASURES: &[Measure] = &[
    Measure { name: "f1", range: Range::SHARE, constant: Some(0.0) },
    Measure { name: "mcc", range: Range::CORRELATION, constant: Some(0.0) },
    Measure { name: "pearson", range: Range::CORRELATION, constant: Some(0.0) },
    Measure { name: "spearman", range: Range::CORRELATION, constant: Some(0.0) },
];

/// What is known of a measure.
pub(crate) fn measure(name: &str) -> Option<&'static Measure> {
    MEASURES.iter().find(|measure| measure.name == name)
}

/// Between which ends a measure of answers lies.
pub(crate) fn range_of_measure(name: &str) -> Range {
    measure(name).map_or(Range::SHARE, |measure| measure.range)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_read_as_the_task_writes_it_and_an_unknown_kind_is_none_of_ours() {
        let text = r#"{"name": "accuracy", "range": [0.0, 1.0], "kind": "proportion", "chosen_by_loss": false, "diverged": null}"#;
        let read: Metric = serde_json::from_str(text).expect("reads");
        assert_eq!(read, Metric::of_older("accuracy"));
        let newer: Metric = serde_json::from_str(&text.replace("proportion", "ordinal")).expect("reads");
        assert_eq!((newer.kind, newer.is_proportion()), (MetricKind::Other, false));
    }

    #[test]
    fn the_name_of_an_older_score_says_its_range_and_kind() {
        for name in ["Matthews correlation", "mean of Pearson's and Spearman's correlation"] {
            assert_eq!(Metric::of_older(name).range().text(), "[−1, 1]");
        }
        for name in ["accuracy", "masked accuracy", "mean of F1 and accuracy", "score", ""] {
            assert_eq!(Metric::of_older(name).range(), Range::SHARE);
        }
        assert!(Metric::of_older("next-token accuracy").chosen_by_loss && !Metric::of_older("accuracy").chosen_by_loss);
        assert!(!Metric::of_older("mean of F1 and accuracy").is_proportion());
        let absurd = Metric { range: (f64::NAN, 3.0), ..Metric::of_older("x") };
        assert_eq!(absurd.range(), Range::SHARE);
    }

    #[test]
    fn a_score_is_a_published_measure_by_its_kind() {
        let is = |name: &str, measure: &str| Metric::of_older(name).is_measure(measure);
        assert!(is("accuracy", "accuracy") && is("masked accuracy", "accuracy") && is("Matthews correlation", "mcc"));
        assert!(!is("mean of F1 and accuracy", "accuracy") && !is("mean of F1 and accuracy", "f1"));
        assert!(!is("mean of Pearson and Spearman correlation", "spearman") && !is("accuracy", "loss"));
        assert!(is("", "f1"));
    }
}
