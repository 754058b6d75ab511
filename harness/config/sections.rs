//! Keys of settings sections, layer over layer. [`crate::train::sections`] has the table of sections.

use crate::base::diagnostics::suggest;
use crate::config::layers::{Layer, Setting, as_entries};
use crate::config::presets;
use crate::config::reader::Reader;
use crate::config::yaml::{Data, Key, Node};
use crate::train::sections::{NAMES, Written};
use serde_json::Value;
use settings::ConfigError;

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
    /// Every section from its keys.
    pub(super) fn sections(&mut self, keys: &Layers) -> Written {
        Written::of(|section| self.section(section, keys.of(section.name)))
    }

    /// Reports what is wrong with sections, each mistake at its key.
    pub(super) fn mistakes_in(&mut self, keys: &Layers, found: Vec<(&'static str, Vec<ConfigError>)>) {
        found.into_iter().for_each(|(section, mistakes)| self.mistakes(keys.of(section), mistakes));
    }

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
