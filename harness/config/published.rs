//! `published`: the paper's numbers that a run is compared with.

use crate::base::diagnostics::suggest;
use crate::config::reader::Reader;
use crate::config::yaml::{Data, Node};
use results::published;
use serde_json::Value;

impl Reader<'_> {
    /// A name from the published table: of a model in a mixer's entry, of a task in a task's entry; `null` is none.
    pub(super) fn published(&mut self, node: &Node, kind: &str) -> Option<Option<String>> {
        if node.data == Data::Scalar(Value::Null) {
            return Some(None);
        }
        let name = node.as_str().unwrap_or_default();
        let (known, help) = match kind {
            "task" => (published::TASKS.to_vec(), suggest(name, &published::TASKS, "published tasks")),
            _ => (published::models(), suggest_model(name)),
        };
        if known.contains(&name) {
            return Some(Some(name.into()));
        }
        let what = if kind == "task" { "task" } else { "model" };
        let problem = format!("`published` is {}, which is no {what} with published numbers", node.describe());
        self.found.error(node.place.clone(), problem, help);
        None
    }
}

/// The published models whose names are nearest.
pub(crate) fn suggest_model(name: &str) -> String {
    let all = published::models();
    let lower = name.to_lowercase();
    let distance = |model: &&str| {
        let model = model.to_lowercase();
        let part = !lower.is_empty() && (model.contains(&lower) || lower.contains(&model));
        (!part, strsim::damerau_levenshtein(&lower, &model))
    };
    let mut near = all.clone();
    near.sort_by_key(distance);
    let near: Vec<String> = near.iter().take(4).map(|model| format!("`{model}`")).collect();
    format!("nearest are {}; `mixarena list published` names all {}", near.join(", "), all.len())
}
