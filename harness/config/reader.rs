//! What every part of the config is read with: the registry, and the mistakes found so far.

use crate::base::diagnostics::{Diagnostics, Place, suggest};
use crate::config::explain::{Accepts, explain, fields_of};
use crate::config::layers::{Layer, blamed};
use crate::config::yaml::{Data, Key, Node};
use crate::registry::Registry;
use crate::train::sections::SectionEntry;
use serde_json::{Map, Value};
use settings::ConfigError;

/// Reads a config, or a part of one.
pub struct Reader<'a> {
    pub registry: &'a Registry,
    pub found: &'a mut Diagnostics,
}

impl Reader<'_> {
    /// The text under a key of the top of the file; what is no text is reported.
    pub(super) fn text(&mut self, key: &str, entry: Option<&(Key, Node)>) -> Option<String> {
        let (_, node) = entry?;
        if node.as_str().is_none() {
            let help = match &node.data {
                Data::Scalar(Value::Null) => format!("write text behind it, or leave `{key}` out"),
                Data::Scalar(value) => format!("put it in quotes: `{key}: \"{value}\"`"),
                _ => format!("write one line of text, `{key}: mine`"),
            };
            self.found.error(node.place.clone(), format!("`{key}` is {}, expected text", node.describe()), help);
        }
        node.as_str().map(str::to_owned)
    }

    /// Reports keys outside `known`.
    pub(super) fn known_keys(&mut self, entries: &[(Key, Node)], known: &[&str], of: &str, plural: &str) {
        for (key, _) in entries.iter().filter(|(k, _)| !known.contains(&k.name.as_str())) {
            self.found.error(
                key.place.clone(),
                format!("unknown key `{}` of {of}", key.name),
                suggest(&key.name, known, plural),
            );
        }
    }

    /// A section's own mapping.
    pub(super) fn layer(&mut self, name: &str, node: &Node) -> Layer {
        match node.as_map() {
            Some(entries) => Layer(entries.to_vec()),
            None if name == "pretrain" && node.as_str().is_some() => Layer(vec![objective_alone(node)]),
            None => {
                self.found.error(
                    node.place.clone(),
                    format!("`{name}` is {}, expected a mapping", node.describe()),
                    match name {
                        "pretrain" => "write `pretrain: mlm`, or `pretrain: { objective: mlm, steps: 500 }`".into(),
                        _ => format!("write `{name}: {{ key: value }}`"),
                    },
                );
                Layer::default()
            }
        }
    }

    /// Adds "on line 9" to a help text that speaks of a key set elsewhere.
    pub(super) fn with_line(&self, help: String, key: &str, keys: &Layer) -> String {
        match keys.place_of(key) {
            Some(Place::File { line, .. }) => format!("{help} on line {line}"),
            Some(Place::Extended { file, line, .. }) => format!("{help} on line {line} of {file}"),
            _ => help,
        }
    }

    pub(super) fn mistakes(&mut self, keys: &Layer, found: Vec<ConfigError>) {
        for m in found {
            self.found.error(keys.place_of(m.key).unwrap_or(Place::Whole), m.problem, m.help);
        }
    }

    /// A section's values, every field probed alone so that each mistake has its place.
    pub(super) fn section(&mut self, section: &SectionEntry, keys: &Layer) -> Option<Value> {
        let mut defaults = (section.defaults)();
        if section.name == "model" {
            defaults.insert("preset".into(), Value::Null);
        }
        self.settings(section.name, keys, defaults.into(), section.accepts, section.resolve)
    }

    /// Settings with defaults filled in; `None` after a value of the wrong type. Unknown fields are reported and left out, so
    /// that the others can be checked.
    pub(super) fn settings(
        &mut self,
        of: &str,
        keys: &Layer,
        defaults: Value,
        accepts: Accepts,
        resolve: fn(&Value) -> Result<Value, serde_json::Error>,
    ) -> Option<Value> {
        let mut mistyped = false;
        let fields = fields_of(&defaults, accepts);
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let mut given = Map::new();
        for (key, node) in &keys.0 {
            if !fields.contains(&key.name.as_str()) {
                let problem = format!("unknown field `{}` of `{of}`", key.name);
                self.found.error(key.place.clone(), problem, suggest(&key.name, &fields, "fields"));
                continue;
            }
            let value = node.to_json();
            let alone = Value::Object(Map::from_iter([(key.name.clone(), value.clone())]));
            match accepts(&alone) {
                Ok(()) => drop(given.insert(key.name.clone(), value)),
                Err(error) => {
                    mistyped = true;
                    let (problem, help) = explain(&key.name, node, &defaults[&key.name], &error.to_string(), accepts);
                    self.found.error(blamed(node, &problem), problem, help);
                }
            }
        }
        if mistyped {
            return None;
        }
        match resolve(&Value::Object(given)) {
            Ok(value) => Some(value),
            Err(error) => {
                self.found.error(Place::Whole, format!("`{of}`: {error}"), "");
                None
            }
        }
    }
}

/// `pretrain: mlm` as the section with that objective.
pub(super) fn objective_alone(node: &Node) -> (Key, Node) {
    (Key { name: "objective".into(), place: node.place.clone() }, node.clone())
}
