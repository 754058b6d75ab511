//! `match: { parameters: 0.02 }`: how alike a sweep's models must be in size.

use crate::base::diagnostics::Place;
use crate::config::draft::Draft;
use crate::config::reader::Reader;
use crate::config::yaml::{Key, Node};
use std::collections::HashSet;

/// How alike a sweep's models must be in size.
#[derive(Clone, Debug)]
pub struct Matched {
    /// Largest share by which a model may differ from the first mixer's on the same task.
    pub(crate) within: f64,
    pub(crate) place: Place,
    pub(crate) source: String,
    /// Every kind of run in the config, whatever a filter leaves of them.
    pub(crate) kinds: Vec<Draft>,
}

impl Matched {
    /// `place` in `source` asks that the models of `runs` be within a share of the first one's size.
    pub fn new(within: f64, place: Place, source: String, runs: &[Draft]) -> Self {
        let mut known = HashSet::new();
        let kinds =
            runs.iter().filter(|&draft| known.insert((&draft.mixer_label, grid_point(draft)))).cloned().collect();
        Self { within, place, source, kinds }
    }

    /// What a table says of it.
    pub fn sentence(&self) -> String {
        format!("Models are matched by parameters within {} %.", percent(self.within))
    }
}

pub(crate) fn percent(share: f64) -> f64 {
    (share * 1e4).round() / 100.0
}

/// The task's label and the point of the grid.
pub(crate) type Point<'a> = (&'a String, &'a Vec<(String, String)>);

pub(crate) fn grid_point(draft: &Draft) -> Point<'_> {
    (&draft.task_label, &draft.settings)
}

impl Reader<'_> {
    /// `match: { parameters: 0.02 }`.
    pub(super) fn matched(&mut self, key: &Key, node: &Node, runs: &[Draft]) -> Option<Matched> {
        let help = "write `match: { parameters: 0.02 }`: within 2 % of the first mixer's";
        let Some(entries) = node.as_map() else {
            let problem = format!("`match` is {}, expected a mapping", node.describe());
            self.found.error(node.place.clone(), problem, help);
            return None;
        };
        self.known_keys(entries, &["parameters"], "`match`", "keys");
        let Some((_, share)) = entries.iter().find(|(k, _)| k.name == "parameters") else {
            self.found.error(key.place.clone(), "`match` has no `parameters`", help);
            return None;
        };
        let within = share.to_json().as_f64().filter(|share| *share > 0.0 && *share < 1.0);
        if within.is_none() {
            let problem = format!("`parameters` is {}, expected a share between 0 and 1", share.describe());
            self.found.error(share.place.clone(), problem, help);
        }
        let source = self.found.source().to_owned();
        within.map(|within| Matched::new(within, key.place.clone(), source, runs))
    }
}
