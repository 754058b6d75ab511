//! `ablate: { base: hydra, changes: { no shift: { mixer.hydra.shift: false } } }`: every change is an entry like the base, with these
//! keys set.

use crate::base::diagnostics::{Place, suggest};
use crate::base::names::{LABEL_HELP, label_problem};
use crate::config::draft::Draft;
use crate::config::entry::Entry;
use crate::config::grid;
use crate::config::layers::{Setting, as_entries, plain};
use crate::config::reader::Reader;
use crate::config::sections::is_section;
use crate::config::yaml::{Key, Node};
use std::collections::HashMap;

/// The changes to an entry, with the places of what was written.
#[derive(Clone, Debug)]
pub(super) struct Ablate {
    base: String,
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
struct Change {
    label: String,
    place: Place,
    settings: Vec<Setting>,
}

const HELP: &str = "write `ablate: { base: hydra, changes: { no shift: { mixer.hydra.shift: false } } }`";

impl Reader<'_> {
    /// What stands under `ablate`. Every change becomes an entry behind the base's own.
    pub(super) fn ablate(&mut self, entry: Option<&(Key, Node)>, mixers: &mut Vec<Entry>) -> Option<Ablate> {
        let (key, node) = entry?;
        let Some(keys) = node.as_map() else {
            self.found.error(node.place.clone(), format!("`ablate` is {}, expected a mapping", node.describe()), HELP);
            return None;
        };
        let before = self.found.len();
        self.known_keys(keys, &["base", "changes"], "`ablate`", "keys");
        let get = |name: &str| keys.iter().find(|(key, _)| key.name == name).map(|(_, node)| node);
        for name in ["base", "changes"] {
            if get(name).is_none() {
                self.found.error(key.place.clone(), format!("`ablate` has no `{name}`"), HELP);
            }
        }
        let base = self.base(get("base")?, mixers)?;
        let changes = self.changes(get("changes")?)?;
        let own: Vec<&Entry> = mixers.iter().filter(|mixer| mixer.label == base).collect();
        for setting in changes.iter().flat_map(|change| &change.settings) {
            self.of_the_base(setting, &base, &own);
        }
        let mut changed = Vec::new();
        for change in &changes {
            if let Some(why) = label_problem(&change.label) {
                let problem = format!("a change is labelled `{}`, which {why}", change.label.escape_debug());
                self.found.error(change.place.clone(), problem, LABEL_HELP);
            } else if mixers.iter().any(|mixer| mixer.label == change.label) {
                let problem = format!("`{}` is the label of a mixer's entry too", change.label);
                self.found.error(
                    change.place.clone(),
                    problem,
                    "give the change another one: both are rows of a table",
                );
            }
            changed.extend(own.iter().map(|entry| change.applied(entry)));
        }
        mixers.extend(changed);
        (self.found.len() == before).then_some(Ablate { base, changes })
    }

    fn base(&mut self, node: &Node, mixers: &[Entry]) -> Option<String> {
        let labels: Vec<&str> = mixers.iter().map(|mixer| mixer.label.as_str()).collect();
        let base = node.as_str().filter(|label| labels.contains(label));
        // Where no entry could be read, that has been said.
        if base.is_none() && !labels.is_empty() {
            let help = suggest(node.as_str().unwrap_or_default(), &labels, "labels of mixers");
            self.found.error(node.place.clone(), format!("no mixer's entry is labelled {}", node.describe()), help);
        }
        base.map(str::to_owned)
    }

    fn changes(&mut self, node: &Node) -> Option<Vec<Change>> {
        let Some(changes) = node.as_map().filter(|changes| !changes.is_empty()) else {
            let what = if node.as_map().is_some() { "an empty mapping".into() } else { node.describe() };
            self.found.error(
                node.place.clone(),
                format!("`changes` is {what}, expected changes by their labels"),
                HELP,
            );
            return None;
        };
        let mut read = Vec::new();
        for (label, keys) in changes {
            let Some(settings) = keys.as_map().filter(|settings| !settings.is_empty()) else {
                let what = if keys.as_map().is_some() { "an empty mapping".into() } else { keys.describe() };
                let problem = format!("the change `{}` is {what}, expected settings with their values", label.name);
                self.found.error(keys.place.clone(), problem, HELP);
                continue;
            };
            let setting = |(key, value): &(Key, Node)| Setting {
                path: grid::path(&key.name),
                key_place: key.place.clone(),
                value: value.clone(),
            };
            let settings = settings.iter().map(setting).collect();
            read.push(Change { label: label.name.clone(), place: label.place.clone(), settings });
        }
        (read.len() == changes.len()).then_some(read)
    }

    /// A change sets a key of a section, or of the base's own mixer.
    fn of_the_base(&mut self, setting: &Setting, base: &str, own: &[&Entry]) {
        let path: Vec<&str> = setting.path.iter().map(String::as_str).collect();
        let families = || own.iter().map(|entry| entry.family.as_str());
        let (problem, help) = match path[..] {
            [section, _] if is_section(section) => return,
            ["mixer", family, _] if families().any(|own| own == family) => return,
            ["mixer", family, key] => (
                format!(
                    "`{}` is a setting of `{family}`, and the base `{base}` is {}",
                    path.join("."),
                    families().collect::<Vec<_>>().join(", ")
                ),
                format!("set mixer.{}.{key}, or take another base", families().next().unwrap_or_default()),
            ),
            ["task", ..] => (
                format!("`{}` is the task's: its scores would be of another task", path.join(".")),
                "make the task an entry of its own under `tasks`".into(),
            ),
            _ => {
                let known: Vec<Entry> = own.iter().map(|entry| (*entry).clone()).collect();
                return self.reachable(setting, &[], &known);
            }
        };
        self.found.error(setting.key_place.clone(), problem, help);
    }

    /// No axis takes the place of a change.
    pub(super) fn ablated_and_swept(&mut self, ablate: &Ablate, axes: &[&Setting]) {
        for setting in ablate.settings().filter(|setting| axes.iter().any(|axis| axis.path == setting.path)) {
            let problem =
                format!("`{}` is an axis too, whose values would take the place of this one", setting.path.join("."));
            self.found.error(
                setting.key_place.clone(),
                problem,
                "leave it out of `grid` and `tune`, or out of the change",
            );
        }
    }

    /// Every change makes another run of the base, and no two the same.
    pub(super) fn changes_something(&mut self, ablate: &Ablate, runs: &[Draft]) {
        let ids_of = |label: &str| -> Vec<String> {
            let own = runs.iter().filter(|run| run.mixer_label == label);
            own.map(|run| run.bare(self.registry).id()).collect()
        };
        let base = ablate.base.as_str();
        let mut known: HashMap<String, &str> = ids_of(base).into_iter().map(|id| (id, base)).collect();
        let mut found = Vec::new();
        for change in &ablate.changes {
            let ids = ids_of(&change.label);
            if let Some(other) = ids.iter().find_map(|id| known.get(id)) {
                let problem = format!("`{}` changes nothing: its run is that of `{other}`", change.label);
                found.push((change.place.clone(), problem));
            }
            known.extend(ids.into_iter().map(|id| (id, change.label.as_str())));
        }
        for (place, problem) in found {
            self.found.error(place, problem, "set a key to another value than it has, or leave the change out");
        }
    }
}

impl Ablate {
    /// Everything that a change sets.
    pub(super) fn settings(&self) -> impl Iterator<Item = &Setting> {
        self.changes.iter().flat_map(|change| &change.settings)
    }

    /// As a manifest keeps it.
    pub(super) fn kept(&self) -> results::Ablation {
        let change = |change: &Change| results::Change {
            label: change.label.clone(),
            sets: change.settings.iter().map(|s| (s.path.join("."), plain(&s.value.to_json()))).collect(),
        };
        results::Ablation { base: self.base.clone(), changes: self.changes.iter().map(change).collect() }
    }
}

impl Change {
    /// An entry like `base` with the settings of this change.
    fn applied(&self, base: &Entry) -> Entry {
        let settings: Vec<&Setting> = self.settings.iter().collect();
        let own = settings.iter().filter(|s| s.path.len() == 3 && s.path[0] == "mixer" && s.path[1] == base.family);
        Entry {
            label: self.label.clone(),
            settings: base.settings.over(&as_entries(own)),
            sections: base.sections.set(&settings),
            reference_parameters: None,
            // A changed model is not the one whose numbers were published.
            published: Some(None),
            ..base.clone()
        }
    }
}
