//! The list of tasks. A new one is a file and a line here.

use crate::{ConfigError, DataDir, DataError, Input, Metric, Output, Task, TaskSpec, core::limits};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// A task's settings and how to open it: implemented by the `Config` of each task file.
///
/// Every field has a default, unknown fields are refused (`#[serde(deny_unknown_fields, default)]`).
pub trait Family: Default + Serialize + DeserializeOwned + 'static {
    /// The key in a config: `task: { mqar: {…} }`.
    const NAME: &'static str;
    /// One line for `mixarena list tasks`.
    const ABOUT: &'static str;
    /// Settings that say where data files lie or how they are read, as JSON pointers such as `/path`. Their whole effect is in
    /// [`Task::fingerprint`], which stands for them in a run's identity: data that were moved are still the same data.
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
    /// [`Family::SOURCES`].
    pub sources: &'static [&'static str],
    /// The default settings as a JSON object: its keys are the fields there are.
    pub defaults: fn() -> Value,
    /// Whether `settings` has the right types; the error is serde's.
    pub accepts: fn(&Value) -> Result<(), serde_json::Error>,
    /// `settings` with every default filled in and numbers in their field's type, so that equal settings hash equally.
    pub resolve: fn(&Value) -> Result<Value, serde_json::Error>,
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
            sources: F::SOURCES,
            defaults: || serde_json::to_value(F::default()).expect("settings are plain data"),
            accepts: |settings| F::deserialize(settings).map(drop),
            resolve: |settings| serde_json::to_value(F::deserialize(settings)?),
            check: |settings| {
                let beyond = limits::beyond(settings);
                if beyond.is_empty() { typed::<F>(settings).check() } else { beyond }
            },
            outline: |settings| match limits::beyond(settings).is_empty() {
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

/// Every task of this crate.
pub fn registry() -> Vec<Entry> {
    vec![
        Entry::of::<crate::mqar::Config>(),
        Entry::of::<crate::associative_recall::Config>(),
        Entry::of::<crate::induction_heads::Config>(),
        Entry::of::<crate::selective_copying::Config>(),
        Entry::of::<crate::passkey::Config>(),
        Entry::of::<crate::filler::Config>(),
        Entry::of::<crate::listops::Config>(),
        Entry::of::<crate::text::Config>(),
        Entry::of::<crate::retrieval::Config>(),
        Entry::of::<crate::image::Config>(),
        Entry::of::<crate::pathfinder::Config>(),
        Entry::of::<crate::depth::Config>(),
        Entry::of::<crate::state_tracking::Config>(),
        Entry::of::<crate::mad::Config>(),
        Entry::of::<crate::algorithmic::Config>(),
        Entry::of::<crate::sparse_regression::Config>(),
        Entry::of::<crate::icll::Config>(),
        Entry::of::<crate::glue::Config>(),
        Entry::of::<crate::mlm::Config>(),
        Entry::of::<crate::clm::Config>(),
    ]
}
