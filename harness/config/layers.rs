//! Keys laid over each other: defaults, the top of the file, entries, the grid point, `--set`. Each keeps the place it came from.

use crate::base::diagnostics::Place;
use crate::config::yaml::{Data, Key, Node};
use serde_json::Value;

/// Keys laid over each other, later ones winning.
#[derive(Clone, Debug, Default)]
pub struct Layer(pub Vec<(Key, Node)>);

impl Layer {
    pub fn over(&self, upper: &[(Key, Node)]) -> Self {
        let mut merged = self.0.clone();
        for (key, node) in upper {
            match merged.iter_mut().find(|(k, _)| k.name == key.name) {
                Some(slot) => *slot = (key.clone(), node.clone()),
                None => merged.push((key.clone(), node.clone())),
            }
        }
        Self(merged)
    }

    pub fn place_of(&self, key: &str) -> Option<Place> {
        self.0.iter().find(|(k, _)| k.name == key).map(|(_, node)| node.place.clone())
    }
}

/// One value for one dotted path, from the grid or from `--set`.
#[derive(Clone, Debug)]
pub struct Setting {
    pub path: Vec<String>,
    pub key_place: Place,
    pub value: Node,
}

impl Setting {
    /// The path and the value as a person would write it.
    pub fn label(&self) -> (String, String) {
        (self.path.join("."), plain(&self.value.to_json()))
    }
}

pub fn as_entries<'a, 'b: 'a>(settings: impl Iterator<Item = &'a &'b Setting>) -> Vec<(Key, Node)> {
    settings
        .map(|s| {
            let name = s.path.last().expect("a path has parts").clone();
            (Key { name, place: s.key_place.clone() }, s.value.clone())
        })
        .collect()
}

/// A scalar as a person would write it.
pub fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// `a`, `b` and 3 more
pub fn quoted(names: &[&str]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// The place of a mistake: at its key, or at another key that its text names and the user wrote.
pub fn place_of(problem: &str, key: &str, layers: &[&Layer]) -> Option<Place> {
    let named = std::iter::once(key).chain(problem.split('`').skip(1).step_by(2));
    named.flat_map(|key| layers.iter().map(move |layer| layer.place_of(key))).flatten().next()
}

/// The place of a mistake inside a value: at the key in it that the text names, else at the value.
pub fn blamed(node: &Node, problem: &str) -> Place {
    fn find(node: &Node, name: &str) -> Option<Place> {
        match &node.data {
            Data::Map(entries) => entries
                .iter()
                .find_map(|(key, value)| if key.name == name { Some(key.place.clone()) } else { find(value, name) }),
            Data::List(items) => items.iter().find_map(|item| find(item, name)),
            Data::Scalar(_) => None,
        }
    }
    let unknown = problem.strip_prefix("unknown field `").and_then(|rest| rest.split('`').next());
    unknown.and_then(|name| find(node, name)).unwrap_or_else(|| node.place.clone())
}
