//! What a config asks to be drawn at its end, as a manifest keeps it. Presentation alone: no part of a run. Which kinds there are is
//! known in `figures.rs`.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};

/// One figure of a sweep, written as a one-key map: `{ lines: { x: model.d_model } }`.
#[derive(Clone, Debug, PartialEq)]
pub struct Figure {
    /// `lines`.
    pub kind: String,
    /// Its settings, by name.
    pub settings: Value,
}

impl Figure {
    /// Paths of the axes of the grid that it draws along, its settings `x` and `panels`. They are not tuned over: every value has its
    /// row in the tables.
    pub fn axes(&self) -> impl Iterator<Item = &str> {
        ["x", "panels"].into_iter().filter_map(|key| self.settings.get(key)?.as_str())
    }
}

impl Serialize for Figure {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map([(&self.kind, &self.settings)])
    }
}

impl<'de> Deserialize<'de> for Figure {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let mut entries = Map::deserialize(from)?.into_iter();
        match (entries.next(), entries.next()) {
            (Some((kind, settings)), None) => Ok(Self { kind, settings }),
            _ => Err(D::Error::custom("a figure is one name with its settings")),
        }
    }
}

/// Steps of an axis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scale {
    /// Equal differences.
    #[default]
    Linear,
    /// Equal ratios.
    Log,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_kept_as_it_was_written_whatever_its_kind() {
        let text = r#"{"lines":{"x":"model.d_model","panels":null,"measure":"score","scale":"log"}}"#;
        let read: Figure = serde_json::from_str(text).expect("reads");
        assert_eq!((read.kind.as_str(), read.axes().collect::<Vec<_>>()), ("lines", vec!["model.d_model"]));
        assert_eq!(serde_json::to_string(&read).expect("plain data"), text);
        let newer: Figure = serde_json::from_str(r#"{"pie": {"x": 3}}"#).expect("reads");
        assert_eq!(newer.axes().count(), 0);
        for none in ["{}", "[]", r#"{"a": {}, "b": {}}"#, r#""lines""#] {
            assert!(serde_json::from_str::<Figure>(none).is_err(), "{none}");
        }
    }
}
