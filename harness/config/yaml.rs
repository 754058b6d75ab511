//! YAML with places: every key and value knows its line and column, so that a mistake can be pointed at.

use crate::base::diagnostics::{Diagnostics, Place};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_yaml::{DuplicateKeyPolicy, Location, NonFiniteFloatPolicy, Spanned};
use std::fmt;

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where the value begins.
    pub place: Place,
    /// The value.
    pub data: Data,
}

/// What a [`Node`] holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Data {
    /// Null, boolean, number or text.
    Scalar(Value),
    /// A sequence.
    List(Vec<Node>),
    /// A mapping in the file's order.
    Map(Vec<(Key, Node)>),
}

/// A mapping's key and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Key {
    /// The key.
    pub name: String,
    /// Where it begins.
    pub place: Place,
}

impl Node {
    /// The same value without its places.
    pub fn to_json(&self) -> Value {
        match &self.data {
            Data::Scalar(value) => value.clone(),
            Data::List(items) => Value::Array(items.iter().map(Node::to_json).collect()),
            Data::Map(entries) => {
                Value::Object(entries.iter().map(|(k, v)| (k.name.clone(), v.to_json())).collect::<Map<_, _>>())
            }
        }
    }

    /// The text of a scalar that is text.
    pub fn as_str(&self) -> Option<&str> {
        match &self.data {
            Data::Scalar(Value::String(s)) => Some(s),
            _ => None,
        }
    }

    /// Whether it is `null`, written as such or as nothing.
    pub fn is_null(&self) -> bool {
        self.data == Data::Scalar(Value::Null)
    }

    /// Entries of a mapping.
    pub fn as_map(&self) -> Option<&[(Key, Node)]> {
        match &self.data {
            Data::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// Items of a sequence.
    pub fn as_list(&self) -> Option<&[Node]> {
        match &self.data {
            Data::List(items) => Some(items),
            _ => None,
        }
    }

    /// The same, and "an empty list" and "an empty mapping" where that is what is wrong.
    pub fn describe_filling(&self) -> String {
        match &self.data {
            Data::Map(entries) if entries.is_empty() => "an empty mapping".into(),
            Data::List(items) if items.is_empty() => "an empty list".into(),
            _ => self.describe(),
        }
    }

    /// "a mapping", "a list", "`abc`": for messages.
    pub fn describe(&self) -> String {
        match &self.data {
            Data::Map(_) => "a mapping".into(),
            Data::List(_) => "a list".into(),
            Data::Scalar(Value::Null) => "nothing".into(),
            Data::Scalar(value) => format!("`{}`", value.as_str().map_or(value.to_string(), str::to_owned)),
        }
    }
}

/// Parses `text`; `at` turns a line and column into a place (a file, or an argument of `--set`). Mistakes of syntax and
/// duplicate keys go to `found`; with a duplicate key the first value is used, so that the rest can be looked at.
pub fn parse(text: &str, at: impl Fn(u64, u64) -> Place, found: &mut Diagnostics) -> Option<Node> {
    match read(text, DuplicateKeyPolicy::Error) {
        Ok(raw) => Some(raw.place_with(&at)),
        Err(error) => {
            let place = error.location().map_or_else(|| at(1, 1), |l| at(l.line(), l.column()));
            let what = first_line(&error.without_snippet().to_string());
            let duplicate = what.contains("duplicate");
            match what.split_once("duplicate mapping key: ").and_then(|(_, rest)| rest.split(',').next()) {
                Some(key) => found.error(place, format!("`{key}` is given twice"), "keep one of the two"),
                None => found.error(place, what, "check indentation, brackets and quotes here and on the lines above"),
            }
            // Only a duplicate key leaves something to look at.
            if !duplicate {
                return None;
            }
            read(text, DuplicateKeyPolicy::FirstWins).ok().map(|raw| raw.place_with(&at))
        }
    }
}

fn read(text: &str, duplicates: DuplicateKeyPolicy) -> Result<Spanned<Raw>, serde_yaml::Error> {
    let options = serde_yaml::options! {
        duplicate_keys: duplicates,
        strict_booleans: true,
        with_snippet: false,
        // As text, so that the field that gets it says what it wants instead.
        non_finite_float_policy: NonFiniteFloatPolicy::AsString,
    };
    serde_yaml::from_str_with_options(text, options)
}

/// The message without its location, which the diagnostic prints itself.
fn first_line(message: &str) -> String {
    let line = message.lines().next().unwrap_or_default().trim();
    let line = line.strip_prefix("error: ").unwrap_or(line);
    match line.split_once(": ") {
        Some((head, rest)) if head.starts_with("line ") => rest.to_string(),
        _ => line.split(" at line ").next().unwrap_or(line).to_string(),
    }
}

/// As it comes out of the parser.
#[derive(Debug)]
enum Raw {
    Scalar(Value),
    List(Vec<Spanned<Raw>>),
    Map(Vec<(Spanned<String>, Spanned<Raw>)>),
}

trait PlaceWith {
    fn place_with(self, at: &impl Fn(u64, u64) -> Place) -> Node;
}

impl PlaceWith for Spanned<Raw> {
    fn place_with(self, at: &impl Fn(u64, u64) -> Place) -> Node {
        let place = |l: Location| at(l.line(), l.column());
        let data = match self.value {
            Raw::Scalar(value) => Data::Scalar(value),
            Raw::List(items) => Data::List(items.into_iter().map(|item| item.place_with(at)).collect()),
            Raw::Map(entries) => Data::Map(
                entries
                    .into_iter()
                    .map(|(key, value)| {
                        let key = Key { place: place(key.referenced), name: key.value };
                        (key, value.place_with(at))
                    })
                    .collect(),
            ),
        };
        Node { place: place(self.referenced), data }
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Raw, D::Error> {
        Raw::deserialize(deserializer)
    }

    fn visit_bool<E>(self, v: bool) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::Bool(v)))
    }

    fn visit_i64<E>(self, v: i64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::from(v)))
    }

    fn visit_u64<E>(self, v: u64) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::from(v)))
    }

    fn visit_f64<E: serde::de::Error>(self, v: f64) -> Result<Raw, E> {
        let number = Number::from_f64(v).ok_or_else(|| E::custom(format!("{v} is not a finite number")))?;
        Ok(Raw::Scalar(Value::Number(number)))
    }

    fn visit_str<E>(self, v: &str) -> Result<Raw, E> {
        Ok(Raw::Scalar(Value::from(v)))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Map(entries))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> (Option<Node>, Vec<String>) {
        let mut found = Diagnostics::new("x.yaml");
        let node = parse(text, |line, column| Place::File { line, column }, &mut found);
        (node, found.lines())
    }

    #[test]
    fn keys_and_values_know_their_line_and_column() {
        let (node, found) = parsed("a: 1\nb:\n  - c: 1e-3\n    d: [x, yes]\n");
        assert!(found.is_empty(), "{found:?}");
        let node = node.unwrap();
        let (key, list) = &node.as_map().unwrap()[1];
        assert_eq!((key.name.as_str(), key.place.clone()), ("b", Place::File { line: 2, column: 1 }));
        let inner = list.as_list().unwrap()[0].as_map().unwrap();
        assert_eq!(inner[0].1.data, Data::Scalar(Value::from(1e-3)));
        assert_eq!(inner[0].1.place, Place::File { line: 3, column: 8 });
        assert_eq!(inner[1].0.place, Place::File { line: 4, column: 5 });
        let words = inner[1].1.as_list().unwrap();
        assert_eq!(words[1].data, Data::Scalar(Value::from("yes")), "yes is a word, not a boolean");
        assert_eq!(words[1].place, Place::File { line: 4, column: 12 });
    }

    #[test]
    fn a_duplicate_key_is_reported_and_the_rest_still_read() {
        let (node, found) = parsed("a: 1\nb: 2\na: 3\n");
        assert_eq!(found.len(), 1);
        assert!(found[0].starts_with("x.yaml:3:1: "), "{}", found[0]);
        assert_eq!(node.unwrap().as_map().unwrap().len(), 2);
    }

    #[test]
    fn broken_syntax_names_a_place() {
        let (node, found) = parsed("a: [1, 2\nb: 3\n");
        assert!(node.is_none());
        assert!(found[0].starts_with("x.yaml:"), "{}", found[0]);
    }
}
