//! The table of settings sections: `model`, `optimizer` and so on, each of a type of its own.
//!
//! A new section is its file, a line in [`sections!`], and a field of [`crate::train::spec::RunSpec`] and
//! [`crate::config::Draft`], which carry it to the run.

use crate::base::diagnostics::suggest;
use crate::base::fields;
use crate::config::layers::{Layer, Setting, as_entries};
use crate::config::presets;
use crate::config::reader::Reader;
use crate::config::yaml::{Data, Key, Node};
use crate::model::ModelConfig;
use crate::train::analysis::AnalysisConfig;
use crate::train::budget::BudgetConfig;
use crate::train::optimizer::OptimizerConfig;
use crate::train::pretrain::PretrainConfig;
use crate::train::schedule::ScheduleConfig;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use settings::ConfigError;

/// A section's name, its type, and what is wrong with it alone.
macro_rules! sections {
    ($($name:ident: $kind:ty, $check:expr;)*) => {
        /// Names of the sections, in the order of the documentation.
        pub const NAMES: [&str; [$(stringify!($name)),*].len()] = [$(stringify!($name)),*];

        /// What each section holds, in the same order.
        pub const SECTIONS: [Section; NAMES.len()] = [$(Section::of::<$kind>(stringify!($name))),*];

        /// The sections of one run. `None`: a value has the wrong type.
        #[derive(Debug)]
        pub struct Sections {
            $(pub $name: Option<$kind>,)*
        }

        impl Reader<'_> {
            /// Every section from its keys.
            pub(super) fn sections(&mut self, keys: &Layers) -> Sections {
                Sections { $($name: self.section(stringify!($name), keys.of(stringify!($name))),)* }
            }

            /// Reports what is wrong with each section alone.
            pub(super) fn each_section(&mut self, sections: &Sections, keys: &Layers) {
                $(if let Some(section) = &sections.$name {
                    let check: fn(&$kind) -> Vec<ConfigError> = $check;
                    self.mistakes(keys.of(stringify!($name)), check(section));
                })*
            }
        }
    };
}

sections! {
    model: ModelConfig, ModelConfig::check;
    optimizer: OptimizerConfig, OptimizerConfig::check;
    // Checked together with the steps of `budget`.
    schedule: ScheduleConfig, |_| Vec::new();
    budget: BudgetConfig, BudgetConfig::check;
    pretrain: PretrainConfig, PretrainConfig::check;
    analysis: AnalysisConfig, AnalysisConfig::check;
}

/// A section as `mixarena list settings` and the schema of configs describe it.
#[derive(Clone, Copy, Debug)]
pub struct Section {
    /// Its key in a config.
    pub name: &'static str,
    /// Every key with its default.
    pub defaults: fn() -> Map<String, Value>,
    /// What each key means and may be, made from doc comments.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Section {
    const fn of<T: Default + PartialEq + Serialize + DeserializeOwned + JsonSchema>(name: &'static str) -> Self {
        Self { name, defaults: fields::defaults::<T>, schema: SchemaGenerator::subschema_for::<T> }
    }
}

/// Whether there is a section of this name.
pub fn is_section(name: &str) -> bool {
    NAMES.contains(&name)
}

/// The keys of every section.
#[derive(Clone, Debug, Default)]
pub struct Layers([Layer; NAMES.len()]);

impl Layers {
    /// Keys by section.
    pub fn by_name(layer: impl FnMut(&'static str) -> Layer) -> Self {
        Self(NAMES.map(layer))
    }

    /// The keys of a section.
    pub fn of(&self, name: &str) -> &Layer {
        &self.0[at(name)]
    }

    /// The same, to change.
    pub fn of_mut(&mut self, name: &str) -> &mut Layer {
        &mut self.0[at(name)]
    }

    /// These with `upper` over them.
    pub fn over(&self, upper: &Self) -> Self {
        Self::by_name(|name| self.of(name).over(&upper.of(name).0))
    }

    /// These with single settings over them, those whose path is a section's key.
    pub fn set(&self, settings: &[&Setting]) -> Self {
        Self::by_name(|name| {
            let own = settings.iter().filter(|set| set.path.len() == 2 && set.path[0] == name);
            self.of(name).over(&as_entries(own))
        })
    }
}

impl Reader<'_> {
    /// `model: { preset: bert_base, dropout: 0 }`: the preset's keys, at the preset's place, below every key that is written.
    pub(super) fn with_preset(&mut self, mut sections: Layers) -> Layers {
        let keys = sections.of_mut("model");
        let Some(at) = keys.0.iter().position(|(key, _)| key.name == "preset") else { return sections };
        let (key, node) = keys.0.remove(at);
        if node.data == Data::Scalar(Value::Null) {
            return sections;
        }
        let Some(preset) = node.as_str().and_then(presets::find) else {
            let known: Vec<&str> = presets::all().iter().map(|preset| preset.name).collect();
            let help = suggest(node.as_str().unwrap_or_default(), &known, "presets");
            let problem = match node.as_str() {
                Some(name) => format!("unknown preset `{name}`"),
                None => format!("`preset` is {}, expected the name of one", node.describe()),
            };
            self.found.error(node.place.clone(), problem, help);
            return sections;
        };
        let below = preset.model().into_iter().map(|(name, value)| {
            let place = node.place.clone();
            (Key { name, place: key.place.clone() }, Node { place, data: Data::Scalar(value) })
        });
        *keys = Layer(below.collect()).over(&keys.0);
        sections
    }
}

fn at(name: &str) -> usize {
    NAMES.iter().position(|known| *known == name).expect("a section's name")
}
