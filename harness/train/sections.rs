//! The table of settings sections: `model`, `optimizer` and so on, each of a type of its own.
//!
//! A new section is its file, with its type and its [`Section`], and a line in [`sections!`]. It is then read from every layer of a
//! config, checked there and where a spec is read, listed, part of the schema, and part of every run.

mod analysis;
mod budget;
mod optimizer;
mod pretrain;
mod schedule;

use crate::base::fields;
use crate::model::ModelConfig;
use crate::train::analysis::AnalysisConfig;
use crate::train::budget::BudgetConfig;
use crate::train::optimizer::OptimizerConfig;
use crate::train::pretrain::{Objective, PretrainConfig};
use crate::train::schedule::ScheduleConfig;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use settings::ConfigError;
use tasks::Outline;

/// Sections by their names: `name: Type`, the type a [`Section`].
macro_rules! sections {
    ($($(#[$about:meta])* $name:ident: $kind:ty,)*) => {
        /// Every section, in the order of the documentation.
        pub const SECTIONS: [SectionEntry; [$(stringify!($name)),*].len()] =
            [$(SectionEntry::of::<$kind>(stringify!($name))),*];

        /// Their names.
        pub const NAMES: [&str; SECTIONS.len()] = [$(stringify!($name)),*];

        /// The sections of one run.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub struct Sections {
            $($(#[$about])* #[serde(skip_serializing_if = "is_absent")] pub $name: <$kind as Section>::InRun,)*
        }

        /// The sections of one run as they are written. `None`: a value has the wrong type, or the run does without.
        #[derive(Clone, Debug)]
        pub struct Written {
            $($(#[$about])* pub $name: Option<$kind>,)*
        }

        impl Sections {
            /// The same as a config would write them.
            pub fn written(&self) -> Written {
                Written { $($name: self.$name.clone().into(),)* }
            }
        }

        impl Written {
            /// From the values of each section's keys.
            pub fn of(mut values: impl FnMut(&SectionEntry) -> Option<Value>) -> Self {
                let mut entries = SECTIONS.iter();
                Self { $($name: {
                    let value = entries.next().and_then(&mut values);
                    value.and_then(|value| <$kind>::deserialize(value).ok())
                },)* }
            }

            /// What is wrong with each section alone.
            pub fn check(&self) -> Vec<(&'static str, Vec<ConfigError>)> {
                vec![$((stringify!($name), self.$name.iter().flat_map(Section::check).collect()),)*]
            }

            /// What is wrong with each beside the others and the task, which messages call `task`.
            pub fn check_together(&self, outline: Option<&Outline>, task: &str) -> Vec<(&'static str, Vec<ConfigError>)> {
                let run = Context { sections: self, outline, task };
                vec![$((stringify!($name), self.$name.iter().flat_map(|section| section.check_in(&run)).collect()),)*]
            }

            /// As a run of a task holds them; `None` where a section could not be read.
            pub fn in_run(&self, outline: &Outline) -> Option<Sections> {
                let run = Context { sections: self, outline: Some(outline), task: "" };
                Some(Sections { $($name: self.$name.clone()?.resolved_in(&run)?,)* })
            }
        }
    };
}

sections! {
    /// The backbone.
    model: ModelConfig,
    /// The optimizer.
    optimizer: OptimizerConfig,
    /// The learning-rate schedule.
    schedule: ScheduleConfig,
    /// How long to train, how often to evaluate.
    budget: BudgetConfig,
    /// What comes before the task; absent where it is learned from scratch.
    pretrain: PretrainConfig,
    /// What is measured after training; absent where nothing is.
    analysis: AnalysisConfig,
}

/// The settings of one section as a config has them.
pub trait Section: Default + Clone + PartialEq + Serialize + DeserializeOwned + JsonSchema {
    /// What a run holds of it: itself, or `Option<Self>` where a run may do without. A section that comes later may be absent, so
    /// that older runs keep their identity.
    type InRun: Into<Option<Self>>;

    /// Keys that change no number: they are no part of a run's identity.
    const WITHOUT_EFFECT: &'static [&'static str] = &[];

    /// Settings of its own that a pinned run is made with, each with a name: one for every key that moves a number.
    fn variants() -> Vec<(&'static str, Value)> {
        Vec::new()
    }

    /// Everything wrong with these settings alone.
    fn check(&self) -> Vec<ConfigError>;

    /// What is wrong with them beside the other sections and the task. It is asked whatever [`Section::check`] found.
    fn check_in(&self, _run: &Context) -> Vec<ConfigError> {
        Vec::new()
    }

    /// As the run holds them, with every `null` replaced by what it means there. `None`: it depends on a section that could not be read.
    fn resolved_in(self, run: &Context) -> Option<Self::InRun>;
}

/// What stands beside a section.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// Every section.
    pub sections: &'a Written,
    /// What the task's settings say of the model; `None`: something is wrong with them.
    pub outline: Option<&'a Outline>,
    /// The task, as messages name it.
    pub task: &'a str,
}

/// A section's type, erased.
#[derive(Clone, Copy, Debug)]
pub struct SectionEntry {
    /// Its key in a config.
    pub name: &'static str,
    /// Every key with its default.
    pub defaults: fn() -> Map<String, Value>,
    /// Whether some keys have the right types.
    pub accepts: fn(&Value) -> Result<(), serde_json::Error>,
    /// Some keys, and the defaults of the others.
    pub resolve: fn(&Value) -> Result<Value, serde_json::Error>,
    /// What each key means and may be, made from doc comments.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
    /// [`Section::WITHOUT_EFFECT`].
    pub without_effect: &'static [&'static str],
    /// [`Section::variants`].
    #[cfg_attr(not(test), expect(dead_code, reason = "laws ask for it"))]
    pub variants: fn() -> Vec<(&'static str, Value)>,
}

impl SectionEntry {
    const fn of<T: Section>(name: &'static str) -> Self {
        Self {
            name,
            defaults: fields::defaults::<T>,
            accepts: |value| T::deserialize(value).map(drop),
            resolve: |value| T::deserialize(value).and_then(serde_json::to_value),
            schema: SchemaGenerator::subschema_for::<T>,
            without_effect: T::WITHOUT_EFFECT,
            variants: T::variants,
        }
    }
}

/// Whether a run does without a section: it is then left out of the spec.
fn is_absent<T: Serialize>(section: &T) -> bool {
    serde_json::to_value(section).is_ok_and(|value| value.is_null())
}

impl Section for ModelConfig {
    type InRun = Self;

    fn check(&self) -> Vec<ConfigError> {
        Self::check(self)
    }

    fn check_in(&self, run: &Context) -> Vec<ConfigError> {
        // Sizes may be absurd until they are checked.
        let Some(outline) = run.outline.filter(|_| self.check().is_empty()) else { return Vec::new() };
        let clm = run.sections.objective() == Objective::Clm;
        [self.check_task(outline), self.check_pooling(outline, clm)].concat()
    }

    fn resolved_in(self, _run: &Context) -> Option<Self> {
        Some(self.resolved())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    #[test]
    fn a_section_that_is_not_written_is_no_part_of_a_run_unless_every_run_has_it() {
        let text = "tasks: [mqar: { causal: false }]\nmixers: [attention]\n";
        let config = crate::config::Config::parse(text, "x.yaml", "x", &[], &Registry::default()).unwrap();
        let spec = serde_json::to_value(config.runs[0].bare(&Registry::default())).unwrap();
        let held: Vec<&str> = NAMES.into_iter().filter(|name| spec.get(name).is_some()).collect();
        assert_eq!(
            held,
            ["model", "optimizer", "schedule", "budget"],
            "a later one would change the identity of runs there are"
        );
    }
}
