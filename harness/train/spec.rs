//! One run, fully resolved: every choice that can change a number, and nothing else. Its hash is the run's identity.

use crate::train::sections::{SECTIONS, Sections};
use serde::de::{Deserialize, Deserializer, Error as _};
use serde::{Deserialize as DeriveDeserialize, Serialize, Serializer, ser::SerializeMap};
use serde_json::Value;
use std::ops::{Deref, DerefMut};

/// Raised whenever the trainer or the models give other numbers for the same spec, or a run's identity is formed otherwise: a record
/// of an older engine is then not taken for the run. `pinned.rs` fails where numbers move and this does not.
///
/// 2: `pseudo_perplexity` reads sequences spread over the whole test split and asks for no unknown token; `head.positions.weight` is
///    not decayed; the first evaluation of a language model that is NaN is no best one; floors are the best constant on the split
///    that is scored; paths left the identity, contents stand for them.
/// 3: constant deviations of initial values travel with the width (`model.init: scaled`); AdamW is rounded otherwise, and the
///    gradient's norm is summed in float64.
/// 4: tables of embeddings and positions start at 0.02 √(768 / d_model), no longer at 0.02 · 768 / d_model.
pub const ENGINE: u32 = 4;
/// The libtorch this build is made for.
pub const LIBTORCH: &str = "2.11.0";

/// A choice from a registry with its settings, written as a one-key map: `{ s4: { d_state: 64 } }`.
#[derive(Clone, Debug, PartialEq)]
pub struct Choice {
    /// Name in the registry.
    pub name: String,
    /// Every setting of it, defaults included.
    pub settings: Value,
}

impl Serialize for Choice {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry(&self.name, &self.settings)?;
        map.end()
    }
}

impl<'de> Deserialize<'de> for Choice {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = serde_json::Map::deserialize(deserializer)?;
        let mut entries = map.into_iter();
        match (entries.next(), entries.next()) {
            (Some((name, settings)), None) => Ok(Self { name, settings }),
            _ => Err(D::Error::custom("expected one name with its settings")),
        }
    }
}

/// Everything a run depends on.
#[derive(Clone, Debug, PartialEq, Serialize, DeriveDeserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// [`ENGINE`].
    pub engine: u32,
    /// [`LIBTORCH`].
    pub libtorch: String,
    /// The task and its settings.
    pub task: Choice,
    /// [`tasks::TaskSpec::version`].
    pub task_version: u32,
    /// Content hash of the data files, absent for generated tasks.
    pub data: Option<String>,
    /// Settings of the task for which that hash stands in the identity, as JSON pointers ([`tasks::Family::SOURCES`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sources: Vec<String>,
    /// The mixer and its settings.
    pub mixer: Choice,
    /// [`mixers::Family::VERSION`].
    pub mixer_version: u32,
    /// `model`, `optimizer` and so on, each a key of the spec.
    #[serde(flatten)]
    pub sections: Sections,
    /// BLAKE3 of the file of minimal pairs that the analysis asks for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub minimal_pairs: Option<String>,
    /// What the weights start from; absent where they are drawn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<Start>,
    /// Seed of initial values, data order and dropout.
    pub seed: u64,
}

/// What the weights of a run start from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, DeriveDeserialize)]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// The best checkpoint of the run with this identity, in the same store.
    Run(String),
    /// A file of weights.
    Weights {
        /// BLAKE3 of its content.
        hash: String,
        /// Where it lies; no part of the identity.
        file: std::path::PathBuf,
    },
}

/// `spec.model` is `spec.sections.model`.
impl Deref for RunSpec {
    type Target = Sections;

    fn deref(&self) -> &Sections {
        &self.sections
    }
}

impl DerefMut for RunSpec {
    fn deref_mut(&mut self) -> &mut Sections {
        &mut self.sections
    }
}

impl RunSpec {
    /// The run's identity: 20 hex digits of the BLAKE3 hash of the spec as compact JSON with sorted keys. Wall-clock limits
    /// and how often a checkpoint is written do not change a result and stay out of it; so do paths and the settings by which files
    /// are read, for which hashes of what was read stand: of the task's data, of minimal pairs, of a file of weights.
    pub fn id(&self) -> String {
        let mut value = serde_json::to_value(self).expect("a spec is plain data");
        for section in SECTIONS {
            let keys = value.get_mut(section.name).and_then(Value::as_object_mut);
            keys.into_iter().for_each(|keys| keys.retain(|key, _| !section.without_effect.contains(&key.as_str())));
        }
        let spec = value.as_object_mut().expect("a spec is a map");
        spec.remove("sources");
        if self.data.is_some() {
            let settings = tasks::without(self.task.settings.clone(), &self.sources);
            spec.insert("task".into(), serde_json::json!({ self.task.name.as_str(): settings }));
        }
        if self.minimal_pairs.is_some() {
            value["analysis"]["minimal_pairs"].take(); // its content counts, not its path
        }
        if let Some(weights) = value.pointer_mut("/start/weights").and_then(Value::as_object_mut) {
            weights.remove("file");
        }
        blake3::hash(canonical(&value).as_bytes()).to_hex()[..20].to_string()
    }
}

/// Compact JSON with the keys of every object sorted.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_by_key(|(k, _)| k.as_str());
            let inner: Vec<_> =
                entries.iter().map(|(k, v)| format!("{}:{}", Value::from(k.as_str()), canonical(v))).collect();
            format!("{{{}}}", inner.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        scalar => scalar.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_order_does_not_change_the_hash_text() {
        let a: Value = serde_json::from_str(r#"{"b":[1,{"y":2.5,"x":null}],"a":"q\"uote"}"#).unwrap();
        let b: Value = serde_json::from_str(r#"{"a":"q\"uote","b":[1,{"x":null,"y":2.5}]}"#).unwrap();
        assert_eq!(canonical(&a), canonical(&b));
        assert_eq!(canonical(&a), r#"{"a":"q\"uote","b":[1,{"x":null,"y":2.5}]}"#);
    }

    #[test]
    fn a_choice_is_a_one_key_map() {
        let choice: Choice = serde_json::from_str(r#"{"s4":{"d_state":64}}"#).unwrap();
        assert_eq!(choice.name, "s4");
        assert_eq!(serde_json::to_string(&choice).unwrap(), r#"{"s4":{"d_state":64}}"#);
        assert!(serde_json::from_str::<Choice>(r#"{"s4":{},"hydra":{}}"#).is_err());
    }
}
