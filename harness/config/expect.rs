//! `expect: [ { mixer: attention, task: mqar, at_least: 0.95, source: … } ]`: what scores must be for the command to end well.

use crate::base::diagnostics::suggest;
use crate::config::entry::Entry;
use crate::config::reader::Reader;
use crate::config::yaml::{Key, Node};
use results::{By, Expectation, Wanted};

const HELP: &str = "write `expect: [{ mixer: LABEL, task: LABEL, at_least: 0.9, source: WHO }]`";
const KEYS: [&str; 7] = ["mixer", "task", "at_least", "at_most", "above", "by", "source"];

impl Reader<'_> {
    /// What stands under `expect`.
    pub(super) fn expect(&mut self, node: Option<&Node>, tasks: &[Entry], mixers: &[Entry]) -> Vec<Expectation> {
        let Some(node) = node else { return Vec::new() };
        let Some(items) = node.as_list() else {
            self.found.error(node.place.clone(), format!("`expect` is {}, expected a list", node.describe()), HELP);
            return Vec::new();
        };
        items.iter().filter_map(|item| self.claim(item, tasks, mixers)).collect()
    }

    fn claim(&mut self, item: &Node, tasks: &[Entry], mixers: &[Entry]) -> Option<Expectation> {
        let Some(keys) = item.as_map() else {
            let problem = format!("an expectation is {}, expected a mapping", item.describe());
            self.found.error(item.place.clone(), problem, HELP);
            return None;
        };
        self.known_keys(keys, &KEYS, "an expectation", "keys");
        let get = |name: &str| keys.iter().find(|(key, _)| key.name == name);
        let labels = |entries: &[Entry]| -> Vec<String> { entries.iter().map(|entry| entry.label.clone()).collect() };
        let (task_labels, mixer_labels) = (labels(tasks), labels(mixers));
        let task = match (get("task"), &task_labels[..]) {
            (None, [only]) => Some(only.clone()),
            (entry, _) => self.label_of(item, "task", entry, &task_labels),
        };
        let mixer = self.label_of(item, "mixer", get("mixer"), &mixer_labels);
        let wanted = self.wanted(item, keys, &mixer_labels);
        let by = match get("by").map(|(_, node)| (node, node.as_str())) {
            None | Some((_, Some("mean"))) => Some(By::Mean),
            Some((_, Some("interval"))) => Some(By::Interval),
            Some((node, _)) => {
                let problem = format!("`by` is {}, expected mean or interval", node.describe());
                self.found.error(node.place.clone(), problem, "mean is the default");
                None
            }
        };
        let source = self.text("source", get("source"));
        let (mixer, task, wanted) = (mixer?, task?, wanted?);
        let runs = mixers.iter().any(|entry| entry.label == mixer && entry.runs_on(&task));
        if !runs {
            let problem = format!("`{mixer}` does not run on `{task}`");
            self.found.error(
                item.place.clone(),
                problem,
                "add the task to the mixer's `tasks`, or take the expectation out",
            );
        }
        if let Wanted::Above(other) = &wanted {
            let same = (*other == mixer, "expects a mixer above itself".to_owned());
            let absent = !mixers.iter().any(|entry| entry.label == *other && entry.runs_on(&task));
            for (wrong, problem) in [same, (absent, format!("`{other}` does not run on `{task}`"))] {
                if wrong {
                    self.found.error(item.place.clone(), problem, "name another mixer that runs on the task");
                }
            }
        }
        Some(Expectation { mixer, task, wanted, by: by?, source })
    }

    /// A label of an entry under `key`.
    fn label_of(&mut self, item: &Node, key: &str, entry: Option<&(Key, Node)>, known: &[String]) -> Option<String> {
        let Some((_, node)) = entry else {
            self.found.error(item.place.clone(), format!("an expectation names no `{key}`"), HELP);
            return None;
        };
        let label = node.as_str().filter(|label| known.iter().any(|known| known == label));
        if label.is_none() {
            let names: Vec<&str> = known.iter().map(String::as_str).collect();
            let help = suggest(node.as_str().unwrap_or_default(), &names, &format!("labels of {key}s"));
            self.found.error(node.place.clone(), format!("no {key} is labelled {}", node.describe()), help);
        }
        label.map(str::to_owned)
    }

    /// The one bound of an expectation.
    fn wanted(&mut self, item: &Node, keys: &[(Key, Node)], mixers: &[String]) -> Option<Wanted> {
        let bounds: Vec<&(Key, Node)> =
            keys.iter().filter(|(key, _)| ["at_least", "at_most", "above"].contains(&key.name.as_str())).collect();
        let [bound] = bounds[..] else {
            let problem = match bounds.len() {
                0 => "an expectation says nothing of the score",
                _ => "an expectation has two bounds",
            };
            self.found.error(item.place.clone(), problem, "give one of at_least, at_most and above");
            return None;
        };
        let (key, node) = bound;
        if key.name == "above" {
            return self.label_of(item, "mixer", Some(bound), mixers).map(Wanted::Above);
        }
        let Some(score) = node.to_json().as_f64().filter(|score| (-1.0..=1.0).contains(score)) else {
            let problem = format!("`{}` is {}, which is no score", key.name, node.describe());
            self.found.error(node.place.clone(), problem, "scores lie between -1 and 1: 0.95");
            return None;
        };
        Some(if key.name == "at_least" { Wanted::AtLeast(score) } else { Wanted::AtMost(score) })
    }
}
