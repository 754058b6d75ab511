//! One run, as it is kept: a JSON file that is written once and never changed.

use crate::Metric;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Raised when the shape of a record changes; older ones stay readable.
pub const FORMAT: u32 = 1;

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Outcome {
    /// Trained and scored on test.
    Finished,
    /// The loss left the finite numbers; scores the task's floor in tables.
    Diverged {
        /// Step and last finite loss.
        reason: String,
    },
    /// The child died: panic, out of memory, signal, missing data.
    Failed {
        /// What is known of the death.
        reason: String,
    },
    /// The budget's wall time ran out.
    TimedOut {
        /// The limit and the step reached.
        reason: String,
    },
    /// Stopped by the user; continues from its checkpoint.
    Interrupted {
        /// The signal and the step reached.
        reason: String,
    },
}

impl Outcome {
    /// `finished`, `diverged`, `failed`, `timed_out` or `interrupted`.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Finished => "finished",
            Self::Diverged { .. } => "diverged",
            Self::Failed { .. } => "failed",
            Self::TimedOut { .. } => "timed_out",
            Self::Interrupted { .. } => "interrupted",
        }
    }

    /// Why, empty for a finished run.
    pub fn reason(&self) -> &str {
        match self {
            Self::Finished => "",
            Self::Diverged { reason }
            | Self::Failed { reason }
            | Self::TimedOut { reason }
            | Self::Interrupted { reason } => reason,
        }
    }

    /// Whether a later sweep leaves this run alone: everything but an interruption is an end.
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::Interrupted { .. })
    }
}

/// What a run measured. `None` where it did not get that far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// Best score on validation.
    pub validation: Option<f64>,
    /// Score of the best checkpoint on test, touched once.
    pub test: Option<f64>,
    /// What the best constant answer or a guesser scores on test, measured.
    pub floor: Option<f64>,
    /// What a perfect solver scores on test.
    pub ceiling: Option<f64>,
    /// What the test score was taken over; absent in records written before it was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tested: Option<Tested>,
}

/// The part of the test split that was scored, and the standard error of its score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Tested {
    /// Examples: what is independent. Positions of one sequence are not.
    pub examples: u64,
    /// Scored positions in them.
    pub positions: u64,
    /// Standard error of the score over the examples; `None` where it has none, as with a single one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub standard_error: Option<f64>,
}

/// One point of the learning curve.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    /// Optimizer steps done.
    pub step: u64,
    /// Mean training loss since the point before, nats.
    #[serde(deserialize_with = "number")]
    pub train_loss: f64,
    /// Loss on validation, nats.
    #[serde(deserialize_with = "number")]
    pub validation_loss: f64,
    /// Score on validation.
    #[serde(deserialize_with = "number")]
    pub validation_score: f64,
}

/// One number of a run that is more than its score: the score at one test length, the weight of one head, the risk of ridge
/// regression at one context length.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Detail {
    /// What was measured: `score`, `loss`, `risk`, `importance`.
    pub measure: String,
    /// Of what: `model`, `head 3`, `probe`, or a baseline's name.
    pub series: String,
    /// The quantity it was measured against: `length`, `pairs`, `layer`, `position`.
    pub axis: String,
    /// Its value.
    pub at: f64,
    /// The number.
    #[serde(deserialize_with = "number")]
    pub value: f64,
    /// Whose it is; absent in records written before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub of: Option<Of>,
    /// What its series are; absent in records written before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series_are: Option<SeriesAre>,
}

/// Whose a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Of {
    /// The model's, or that of a part of it or a change to it.
    Model,
    /// A baseline's of the task: the same for every model.
    Baseline,
}

/// What the series of a detail are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeriesAre {
    /// Lines along an axis of numbers.
    Lines,
    /// Categories with one number each: kinds of sentences.
    Categories,
}

/// First words of the series of a model in older records.
const MODELS: [&str; 7] = ["model", "head", "rank", "probe", "layer", "pruned", "retrained"];

impl Detail {
    /// A number of the model along an axis.
    pub fn new(measure: &str, series: impl Into<String>, axis: &str, at: f64, value: f64) -> Self {
        let (of, series_are) = (Some(Of::Model), Some(SeriesAre::Lines));
        Self { measure: measure.into(), series: series.into(), axis: axis.into(), at, value, of, series_are }
    }

    /// The same number as one of a baseline.
    pub fn of_baseline(self) -> Self {
        Self { of: Some(Of::Baseline), ..self }
    }

    /// The same number with a series that is a category.
    pub fn of_category(self) -> Self {
        Self { series_are: Some(SeriesAre::Categories), ..self }
    }

    /// Whether it is the model's; of older records by the first word of its series.
    pub fn is_models(&self) -> bool {
        let first = || self.series.split([' ', ':', '_', '-']).next().unwrap_or(&self.series);
        self.of.map_or_else(|| MODELS.contains(&first()), |of| of == Of::Model)
    }

    /// Whether its series is a category; of older records by what was measured.
    pub fn is_category(&self) -> bool {
        let older = || self.axis == "phenomenon" || self.measure == "minimal_pairs";
        self.series_are.map_or_else(older, |are| are == SeriesAre::Categories)
    }
}

/// Whose a measure is: what was measured, and of which baseline of the task.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OfBaseline {
    /// `loss`.
    pub measure: String,
    /// `unigram`.
    pub baseline: String,
}

/// Where a run computed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// `cpu` or `cuda`.
    pub kind: String,
    /// The processor's own name.
    pub name: String,
    /// Threads libtorch used.
    pub threads: i64,
    /// `native`, or `plain` where kernels were made of libtorch's operations: the last digits of numbers hang on it. Empty in records
    /// written before it was kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kernels: String,
    /// The machine.
    pub host: String,
}

/// What a run was made with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// This project.
    pub mixarena: String,
    /// libtorch.
    pub libtorch: String,
    /// Git commit of the source, with `-dirty` where it had changes; empty outside a checkout.
    pub commit: String,
}

/// The run without which another could not begin.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// Its id.
    pub run: String,
    /// The attempt that counted then: once another one has finished, the run that was blocked can begin.
    pub attempt: u32,
    /// When that attempt began, seconds since 1970: numbers are given again where records were deleted.
    pub started_unix: u64,
}

impl Blocked {
    /// What `record` stands in the way of is blocked by this.
    pub fn by(record: &Record) -> Self {
        Self { run: record.id.clone(), attempt: record.attempt, started_unix: record.started_unix }
    }

    /// Whether `record`, of that run, is another attempt than the one that stood in the way.
    pub fn is_past(&self, record: &Record) -> bool {
        (record.attempt, record.started_unix) != (self.attempt, self.started_unix)
    }
}

/// One run of a sweep, finished or not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// [`FORMAT`].
    pub format: u32,
    /// Hash of the resolved spec.
    pub id: String,
    /// Counts the tries at this run, from 1.
    pub attempt: u32,
    /// The fully resolved spec: enough to repeat the run.
    pub spec: Value,
    /// The run's seed.
    pub seed: u64,
    /// How it ended.
    pub outcome: Outcome,
    /// Name of the score.
    pub metric: String,
    /// What the score is, as the task declares it; absent in records written before it was kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scored_by: Option<Metric>,
    /// What it scored.
    pub scores: Scores,
    /// Trainable parameters of the whole model.
    pub parameters: u64,
    /// Trainable parameters inside the mixers.
    pub mixer_parameters: u64,
    /// Optimizer steps done, over all attempts.
    pub steps: u64,
    /// Step of the best checkpoint.
    pub best_step: u64,
    /// Training speed, the median over progress intervals.
    #[serde(deserialize_with = "number")]
    pub steps_per_second: f64,
    /// Training speed in tokens, padding included.
    #[serde(deserialize_with = "number")]
    pub tokens_per_second: f64,
    /// Seconds of this run over all attempts.
    #[serde(deserialize_with = "number")]
    pub wall_seconds: f64,
    /// Largest resident memory of the process, bytes.
    pub peak_memory_bytes: u64,
    /// The learning curve.
    pub curve: Vec<Point>,
    /// Numbers of the whole run besides its score, by name: `macro_accuracy`, `exact`, `risk`, `wait_share`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty", deserialize_with = "numbers")]
    pub measures: BTreeMap<String, f64>,
    /// Those of them that are a baseline's of the task; absent in records written before it was kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub baselines: BTreeMap<String, OfBaseline>,
    /// Numbers by length, pairs, layer, head.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<Detail>,
    /// Where it computed.
    pub device: Device,
    /// What it was made with.
    pub versions: Versions,
    /// Start of this attempt, seconds since 1970.
    pub started_unix: u64,
    /// Remarks: data skipped, code path taken.
    pub notes: Vec<String>,
    /// What a reader of the scores must know of the data: `synthetic`, `validation_is_test`.
    #[serde(default)]
    pub marks: Vec<String>,
    /// Of a run that failed because the run it starts from did: that run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocked_by: Option<Blocked>,
}

impl Record {
    /// What its score is: as its task declares it, or else by its name.
    pub fn scored_by(&self) -> Metric {
        self.scored_by.clone().unwrap_or_else(|| Metric::of_older(&self.metric))
    }

    /// Numbers besides the score, by name. Older records took the machine's peak while other runs computed: a share of it above 1 is
    /// none.
    pub fn known_measures(&self) -> impl Iterator<Item = (&str, f64)> {
        let known = self.measures.iter().map(|(name, value)| (name.as_str(), *value));
        known.filter(|(name, value)| *name != "mfu" || value.is_nan() || *value <= 1.0)
    }

    /// Whose a measure is; `None`: the model's. In older records `accuracy of unigram` is a baseline's where `loss of unigram` is there.
    pub fn of_baseline(&self, measure: &str) -> Option<OfBaseline> {
        if !self.baselines.is_empty() {
            return self.baselines.get(measure).cloned();
        }
        let (what, baseline) = measure.split_once(" of ")?;
        let is_known = self.measures.contains_key(&format!("loss of {baseline}"));
        is_known.then(|| OfBaseline { measure: what.into(), baseline: baseline.into() })
    }

    /// What settings are compared by on validation, higher is better: the score at the best step, and minus the loss there where
    /// scores are equal; of language models the loss alone. `None` where the run did not get that far.
    pub fn merit(&self) -> Option<[f64; 2]> {
        let best = self.curve.iter().rfind(|point| point.step == self.best_step);
        let loss = best.map_or(f64::INFINITY, |point| point.validation_loss);
        let merit = match self.scored_by().chosen_by_loss {
            true => [-loss, 0.0],
            false => [self.scores.validation?, -loss],
        };
        (!merit[0].is_nan()).then_some(merit)
    }

    /// Whether its weights started from another run, which runs of the same seed on other tasks may share.
    pub fn starts_from_a_run(&self) -> bool {
        self.spec.pointer("/start/run").is_some()
    }
}

/// JSON has no NaN or infinity and writes `null` for both: a diverged run's last losses come back as NaN.
fn number<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(from)?.unwrap_or(f64::NAN))
}

fn numbers<'de, D: Deserializer<'de>>(from: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let named = BTreeMap::<String, Option<f64>>::deserialize(from)?;
    Ok(named.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_from_before_marks_can_be_read() {
        let mut old = serde_json::to_value(crate::samples::record("a", 0.5)).expect("plain data");
        old.as_object_mut().expect("a map").remove("marks").expect("it was there");
        let record: Record = serde_json::from_value(old).expect("reads");
        assert!(record.marks.is_empty());
    }

    #[test]
    fn a_detail_says_whose_it_is_and_an_older_one_by_its_names() {
        let older = |series: &str, axis: &str| Detail {
            of: None,
            series_are: None,
            ..Detail::new("score", series, axis, 1.0, 0.5)
        };
        assert!(older("head 3", "layer").is_models() && !older("newest opener", "length").is_models());
        assert!(older("binding", "phenomenon").is_category() && !older("model", "length").is_category());
        let text = serde_json::to_string(&older("model", "length")).expect("plain data");
        assert!(!text.contains("series_are") && serde_json::from_str::<Detail>(&text).is_ok(), "{text}");
        // What is said counts, whatever the names.
        let model = Detail::new("score", "newest opener", "phenomenon", 1.0, 0.5);
        assert!(model.is_models() && !model.is_category());
        assert!(!Detail::new("score", "model", "length", 1.0, 0.5).of_baseline().is_models());
        assert!(Detail::new("score", "a", "kind", 1.0, 0.5).of_category().is_category());
    }

    #[test]
    fn a_loss_that_was_not_a_number_can_be_read_back() {
        let point = Point { step: 3, train_loss: f64::NAN, validation_loss: f64::INFINITY, validation_score: 0.25 };
        let text = serde_json::to_string(&point).expect("a point is plain data");
        let back: Point = serde_json::from_str(&text).expect("null stands for NaN");
        assert!(back.train_loss.is_nan() && back.validation_loss.is_nan());
        assert_eq!((back.step, back.validation_score), (3, 0.25));
    }

    #[test]
    fn a_measure_that_was_not_a_number_can_be_read_back() {
        let mut record = crate::samples::record("a", 0.5);
        record.measures = [("exact".to_string(), 0.25), ("risk".to_string(), f64::NAN)].into();
        let text = serde_json::to_string(&record).expect("plain data");
        let back: Record = serde_json::from_str(&text).expect("null stands for NaN");
        assert!(back.measures["risk"].is_nan() && back.measures["exact"] == 0.25);
    }
}
