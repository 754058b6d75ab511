//! What a task declares: its settings, where it comes from, what the laws try it on. Settings of any task, their types erased.

use crate::core::limits;
use crate::{ConfigError, DataDir, DataError, Input, Metric, Output, Task, TaskSpec};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// A task's settings and how to open it: implemented by the `Config` of each task file.
///
/// Every field has a default, unknown fields are refused (`#[serde(deny_unknown_fields, default)]`), and a field's doc comment
/// says what it means and what the papers use: `mixarena list tasks NAME` prints it.
pub trait Family: Default + Serialize + DeserializeOwned + JsonSchema + 'static {
    /// The key in a config: `task: { mqar: {…} }`.
    const NAME: &'static str;
    /// One line for `mixarena list tasks`.
    const ABOUT: &'static str;
    /// Authors, year, arXiv number.
    const PAPER: &'static str;
    /// Key of the random streams behind the examples, [`crate::core::rng::Purpose::of_split`]; no two tasks share one.
    const STREAM: &'static str = Self::NAME;
    /// Keys of whole numbers with a limit of their own, as powers of two; any other goes up to 2^[`limits::SIZE`], and the usual
    /// numbers of examples up to 2^[`limits::COUNT`].
    const LIMITS: &'static [(&'static str, u32)] = &[];
    /// Settings that say where data files lie or how they are read, as JSON pointers such as `/path`. Their whole effect is in
    /// [`Task::fingerprint`], which takes their place in a run's identity: data that were moved are still the same data.
    const SOURCES: &'static [&'static str] = &[];
    /// Everything wrong with these settings, empty when the task can be opened. No whole number is beyond [`crate::core::limits`].
    fn check(&self) -> Vec<ConfigError>;
    /// What the settings alone say of the sequences, so that mixers can be checked before any data are read.
    fn outline(&self) -> Outline;
    /// Reads or prepares the data. Called only after `check` found nothing.
    fn open(&self, data: &DataDir) -> Result<Box<dyn Task>, DataError>;
    /// Writes the examples that these settings draw into `folder`, in the layout of the official files; `None` when the
    /// task, or its settings, draw nothing. `step` hears of examples done and examples wanted.
    fn generate(&self, _folder: &Path, _step: &(dyn Fn(u64, u64) + Sync)) -> Option<Result<Generated, DataError>> {
        None
    }
    /// Settings that the laws are tried on, small enough for a test: one for every switch that changes the examples. The default
    /// is the default settings.
    fn variants() -> Vec<Variant> {
        vec![Variant::new(json!({}))]
    }
    /// Settings with which a small model learns the task in seconds, one for each kind of example; empty where data files are
    /// needed. The default: the first of the variants that needs none.
    fn small() -> Vec<Value> {
        let drawn =
            |variant: &Variant| Self::deserialize(&variant.settings).is_ok_and(|cfg| !cfg.outline().needs_files);
        Self::variants().into_iter().find(drawn).map(|variant| variant.settings).into_iter().collect()
    }
    /// The name in published tables of the task that these settings make, or of one that it is compared with.
    fn published(&self) -> Option<&'static str> {
        None
    }
}

/// Settings that the laws are tried on, and what is known of the task with them.
#[derive(Clone, Debug, PartialEq)]
pub struct Variant {
    /// Changes to the defaults.
    pub settings: Value,
    /// What a guesser scores, by arithmetic rather than by a draw, and how far the measured floor may lie from it: four standard
    /// deviations of a mean over the test examples. Not asked of tasks of one class a sequence, whose classes are counted.
    pub floor: Option<(f64, f64)>,
    /// Hash of the first batches ([`crate::laws::pin`]). When it moves, every record does: raise the version in the spec with it.
    pub pin: Option<&'static str>,
    /// Whether texts are cut so short that two splits may share one.
    pub overlapping: bool,
}

impl Variant {
    /// Of these changes to the defaults.
    pub fn new(settings: Value) -> Self {
        Self { settings, floor: None, pin: None, overlapping: false }
    }

    /// The same with 90 training, 20 validation and 500 test examples where the changes say nothing else.
    pub fn drawn(changes: Value) -> Self {
        let mut settings = json!({ "train_examples": 90, "validation_examples": 20, "test_examples": 500 });
        if let (Value::Object(settings), Value::Object(changes)) = (&mut settings, changes) {
            settings.extend(changes);
        }
        Self::new(settings)
    }

    /// Texts are cut so short that two splits may share one.
    pub fn overlapping(self) -> Self {
        Self { overlapping: true, ..self }
    }

    /// A guesser scores `expected`, give or take `within`.
    pub fn floor(self, expected: f64, within: f64) -> Self {
        Self { floor: Some((expected, within)), ..self }
    }

    /// The first batches have this hash.
    pub fn pin(self, pin: &'static str) -> Self {
        Self { pin: Some(pin), ..self }
    }
}

/// What [`Family::generate`] wrote.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Generated {
    /// Files, or folders full of them, as a user would name them.
    pub paths: Vec<PathBuf>,
    /// Examples in all.
    pub examples: u64,
    /// What was measured on the way: share of draws kept, ink, lengths.
    pub facts: Vec<(String, String)>,
}

/// What is known of a task before its data are read; its [`crate::TaskSpec`] must agree.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Outline {
    /// Whether position `t` may only read positions up to `t`.
    pub causal: bool,
    /// No example is longer.
    pub max_length: i64,
    /// Whether data files are needed.
    pub needs_files: bool,
    /// Tokens are `0 .. vocab_size`; where the data decide, what the official data give.
    pub vocab_size: i64,
    /// Classes are `0 .. classes`.
    pub classes: i64,
    /// Sequences an example consists of.
    pub documents: i64,
    /// What the tokens are to a model.
    pub input: Input,
    /// What is predicted, and where.
    pub output: Output,
}

impl Outline {
    /// A spec for a task whose data are not here, good for building a model and counting it.
    pub fn spec(&self) -> TaskSpec {
        let Self { causal, max_length, vocab_size, classes, documents, input, output, needs_files: _ } = *self;
        TaskSpec {
            vocab_size,
            input,
            documents,
            classes,
            max_length,
            pad_token: 0,
            causal,
            output,
            judge: crate::Judge::Class,
            by_position: None,
            metric: if output == Output::Tokens {
                Metric::language_model("token accuracy")
            } else {
                Metric::accuracy()
            },
            version: 0,
            marks: Vec::new(),
        }
    }
}

/// How examples are written once their settings' type is erased.
type Generate = fn(&Value, &Path, &(dyn Fn(u64, u64) + Sync)) -> Option<Result<Generated, DataError>>;
/// How a task is opened once its settings' type is erased.
type Open = fn(&Value, &DataDir) -> Result<Box<dyn Task>, DataError>;

/// One registered task, its types erased.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// [`Family::NAME`].
    pub name: &'static str,
    /// [`Family::ABOUT`].
    pub about: &'static str,
    /// [`Family::PAPER`].
    pub paper: &'static str,
    /// [`Family::STREAM`].
    pub stream: &'static str,
    /// [`Family::LIMITS`].
    pub limits: &'static [(&'static str, u32)],
    /// [`Family::SOURCES`].
    pub sources: &'static [&'static str],
    /// The default settings as a JSON object: its keys are the fields there are.
    pub defaults: fn() -> Value,
    /// What each field means and may be, as a JSON schema made from its doc comments.
    pub schema: fn() -> Value,
    /// [`Family::variants`].
    pub variants: fn() -> Vec<Variant>,
    /// [`Family::small`].
    pub small: fn() -> Vec<Value>,
    /// Whether `settings` has the right types; the error is serde's.
    pub accepts: fn(&Value) -> Result<(), serde_json::Error>,
    /// `settings` with every default filled in and numbers in their field's type, so that equal settings hash equally.
    pub resolve: fn(&Value) -> Result<Value, serde_json::Error>,
    published: fn(&Value) -> Option<&'static str>,
    check: fn(&Value) -> Vec<ConfigError>,
    outline: fn(&Value) -> Outline,
    open: Open,
    generate: Generate,
}

impl Entry {
    /// The entry of one family.
    pub fn of<F: Family>() -> Self {
        fn typed<F: Family>(settings: &Value) -> F {
            F::deserialize(settings).expect("settings were accepted when the config was loaded")
        }
        Self {
            name: F::NAME,
            about: F::ABOUT,
            paper: F::PAPER,
            stream: F::STREAM,
            limits: F::LIMITS,
            schema: || schemars::schema_for!(F).to_value(),
            variants: F::variants,
            small: F::small,
            published: |settings| F::deserialize(settings).ok()?.published(),
            sources: F::SOURCES,
            defaults: || serde_json::to_value(F::default()).expect("settings are plain data"),
            accepts: |settings| F::deserialize(settings).map(drop),
            resolve: |settings| serde_json::to_value(F::deserialize(settings)?),
            check: |settings| {
                let beyond = limits::beyond(settings, F::LIMITS);
                if beyond.is_empty() { typed::<F>(settings).check() } else { beyond }
            },
            outline: |settings| match limits::beyond(settings, F::LIMITS).is_empty() {
                true => typed::<F>(settings).outline(),
                false => F::default().outline(),
            },
            open: |settings, data| typed::<F>(settings).open(data),
            generate: |settings, folder, step| typed::<F>(settings).generate(folder, step),
        }
    }

    /// Everything wrong with `settings`, which must have been accepted.
    pub fn check(&self, settings: &Value) -> Vec<ConfigError> {
        (self.check)(settings)
    }

    /// [`Family::published`] of `settings`; `None` of settings that are not accepted.
    pub fn published(&self, settings: &Value) -> Option<&'static str> {
        (self.published)(settings)
    }

    /// The power of two of the largest value that the whole number under `key` may have; `None` for seeds, which may be anything.
    pub fn most(&self, key: &str) -> Option<u32> {
        limits::most(key, self.limits)
    }

    /// What the settings alone say; `settings` must have been accepted. Of settings beyond [`crate::core::limits`], which
    /// [`Entry::check`] refuses, what the defaults say.
    pub fn outline(&self, settings: &Value) -> Outline {
        (self.outline)(settings)
    }

    /// [`Family::generate`]; `settings` must have passed [`Entry::check`].
    pub fn generate(
        &self,
        settings: &Value,
        folder: &Path,
        step: &(dyn Fn(u64, u64) + Sync),
    ) -> Option<Result<Generated, DataError>> {
        (self.generate)(settings, folder, step)
    }

    /// Opens the task; `settings` must have passed [`Entry::check`].
    pub fn open(&self, settings: &Value, data: &DataDir) -> Result<Box<dyn Task>, DataError> {
        (self.open)(settings, data)
    }
}

/// `settings` without what the JSON pointers lead to; a pointer that leads nowhere changes nothing.
pub fn without(mut settings: Value, pointers: &[impl AsRef<str>]) -> Value {
    for pointer in pointers {
        if let Some((parent, key)) = pointer.as_ref().rsplit_once('/')
            && let Some(Value::Object(map)) = settings.pointer_mut(parent)
        {
            map.remove(key);
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_the_published_one_by_its_settings() {
        let registry = crate::registry();
        let of = |name: &str, settings: Value| {
            registry.iter().find(|entry| entry.name == name).expect("registered").published(&settings)
        };
        let sides = [32, 64, 128, 256].map(|side| of("pathfinder", json!({ "resolution": side })));
        assert_eq!(sides, [Some("Pathfinder"), None, Some("Path-X"), Some("PathX-256")]);
        assert_eq!(of("pathfinder", json!({ "resolution": 32, "contour_length": 14 })), Some("Pathfinder"));
        assert_eq!(of("pathfinder", json!({ "resolution": 32, "contour_length": 9 })), None, "not the hard level");
        assert_eq!(["cola", "sst2", "stsb"].map(|task| of("glue", json!({ "task": task }))), {
            [Some("CoLA"), Some("SST2"), Some("STS-B")]
        });
        assert_eq!((of("text", json!({})), of("mqar", json!({})), of("clm", json!({}))), (Some("Text"), None, None));
        assert_eq!(of("mlm", json!({})), Some("C4-MLM-acc"));
        assert_eq!(of("text", json!({ "no": 1 })), None);
    }
}
