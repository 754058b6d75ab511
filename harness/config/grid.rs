//! Axes of the grid, and seeds.

use crate::base::diagnostics::{Diagnostics, Place};
use crate::config::layers::Setting;
use crate::config::reader::Reader;
use crate::config::yaml::Node;
use serde_json::Value;
use std::collections::HashSet;

/// Seeds and where they are written; nowhere: the default.
#[derive(Clone, Debug)]
pub struct Seeds {
    pub values: Vec<u64>,
    pub place: Option<Place>,
}

impl Reader<'_> {
    /// `seeds: 3` means 0, 1, 2; a list is taken as it is.
    pub(super) fn seeds(&mut self, node: Option<&Node>) -> Seeds {
        let values = node.map_or(vec![0], |node| self.seed_values(node));
        Seeds { values, place: node.map(|node| node.place.clone()) }
    }

    fn seed_values(&mut self, node: &Node) -> Vec<u64> {
        let help = "write a count, `seeds: 3`, or a list, `seeds: [0, 1, 2]`";
        let wrong = |found: &mut Diagnostics, n: &Node| {
            found.error(
                n.place.clone(),
                format!("a seed is {}, expected a whole number, 0 or more", n.describe()),
                help,
            );
        };
        let whole = |n: &Node| n.to_json().as_u64();
        let mut seeds = Vec::new();
        match (whole(node), node.as_list()) {
            (Some(count @ 1..=10_000), _) => seeds.extend(0..count),
            (Some(count), _) if count > 10_000 => {
                self.found.error(node.place.clone(), format!("`seeds` asks for {count} seeds, at most 10000"), help);
            }
            (None, Some(items)) if !items.is_empty() => {
                for item in items {
                    match whole(item) {
                        Some(seed) if seeds.contains(&seed) => {
                            self.found.error(
                                item.place.clone(),
                                format!("seed {seed} is listed twice"),
                                "list every seed once",
                            );
                        }
                        Some(seed) => seeds.push(seed),
                        None => wrong(self.found, item),
                    }
                }
            }
            (Some(_), _) | (None, Some(_)) => {
                self.found.error(node.place.clone(), "`seeds` names no seed", help);
            }
            _ => wrong(self.found, node),
        }
        seeds
    }

    /// The axes of the grid, each a list of settings of one path.
    pub(super) fn grid(&mut self, node: Option<&Node>) -> Vec<Vec<Setting>> {
        self.axes(node, "grid")
    }

    /// Axes under the key `of`.
    pub(super) fn axes(&mut self, node: Option<&Node>, of: &str) -> Vec<Vec<Setting>> {
        let Some(node) = node else { return Vec::new() };
        let help = match of {
            "grid" => "write `grid: { optimizer.lr: [1e-3, 3e-3] }`, or leave `grid` out",
            _ => "write `over: { optimizer.lr: [1e-3, 3e-3] }`",
        };
        let Some(axes) = node.as_map().filter(|m| !m.is_empty()) else {
            let what = if node.as_map().is_some() { "an empty mapping".into() } else { node.describe() };
            self.found.error(node.place.clone(), format!("`{of}` is {what}, expected paths with their values"), help);
            return Vec::new();
        };
        let mut grid = Vec::new();
        for (key, values) in axes {
            let list = values.as_list().unwrap_or_default();
            if list.is_empty() {
                let what = if values.as_list().is_some() { "an empty list".into() } else { values.describe() };
                self.found.error(
                    values.place.clone(),
                    format!("axis `{}` of `{of}` is {what}, expected a list of values", key.name),
                    help,
                );
                continue;
            }
            let path = path(&key.name);
            if grid.iter().any(|axis: &Vec<Setting>| axis[0].path == path) {
                let problem = format!("`{}` names the axis `{}` a second time", key.name, path.join("."));
                self.found.error(key.place.clone(), problem, "keep one of the two");
                continue;
            }
            self.listed_once(&path, list);
            let setting =
                |value: &Node| Setting { path: path.clone(), key_place: key.place.clone(), value: value.clone() };
            grid.push(list.iter().map(setting).collect());
        }
        grid
    }

    /// A value that an axis has twice would be two equal runs.
    fn listed_once(&mut self, path: &[String], values: &[Node]) {
        let mut known = HashSet::new();
        for value in values.iter().filter(|value| !known.insert(canonical(&value.to_json()))) {
            let problem = format!("{} is listed twice on the axis `{}`", value.describe(), path.join("."));
            self.found.error(value.place.clone(), problem, "list every value once");
        }
    }
}

/// A value as text that is equal for equal values: 1 and 1.0 are one.
pub fn canonical(value: &Value) -> String {
    match value.as_f64() {
        Some(number) => number.to_string(),
        None => value.to_string(),
    }
}

/// A dotted path; `pretrain` alone means its objective.
pub fn path(text: &str) -> Vec<String> {
    let text = if text == "pretrain" { "pretrain.objective" } else { text };
    text.split('.').map(str::to_owned).collect()
}
