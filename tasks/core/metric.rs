//! What the number is by which models are compared on a task: its name, its range, how it is averaged.

/// The score of a task; higher is better.
#[derive(Clone, Debug, PartialEq, serde::Serialize, serde::Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MetricKind {
    /// A mean of answers that are right (1) or wrong (0).
    Proportion,
    /// 1 − (mean squared error) / (mean square of what is asked for), and not below 0.
    Explained,
    /// A correlation over the whole split; a constant answer has 0.
    Correlation,
    /// The mean of F1 and accuracy over the whole split.
    F1Accuracy,
    /// The share of tokens that are right; the loss says more.
    LanguageModel,
}

impl Metric {
    fn new(name: impl Into<String>, kind: MetricKind) -> Self {
        let lowest = if kind == MetricKind::Correlation { -1.0 } else { 0.0 };
        let chosen_by_loss = kind == MetricKind::LanguageModel;
        Self { name: name.into(), range: (lowest, 1.0), kind, chosen_by_loss, diverged: None }
    }

    /// Share of answers that are right.
    pub fn accuracy() -> Self {
        Self::proportion("accuracy")
    }

    /// A share of answers by another name: `exact match`.
    pub fn proportion(name: impl Into<String>) -> Self {
        Self::new(name, MetricKind::Proportion)
    }

    /// Share of the variance of real numbers that is explained.
    pub fn explained(name: impl Into<String>) -> Self {
        Self::new(name, MetricKind::Explained)
    }

    /// A correlation, −1 ..= 1.
    pub fn correlation(name: impl Into<String>) -> Self {
        Self::new(name, MetricKind::Correlation)
    }

    /// Mean of F1 and accuracy.
    pub fn f1_accuracy(name: impl Into<String>) -> Self {
        Self::new(name, MetricKind::F1Accuracy)
    }

    /// Share of tokens that a language model predicts rightly; the loss chooses.
    pub fn language_model(name: impl Into<String>) -> Self {
        Self::new(name, MetricKind::LanguageModel)
    }
}
