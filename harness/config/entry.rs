//! Entries of `mixers` and `tasks`.

use crate::base::diagnostics::{Place, suggest};
use crate::base::names::{LABEL_HELP, label_problem};
use crate::config::grid::Seeds;
use crate::config::layers::{Layer, Setting};
use crate::config::reader::Reader;
use crate::config::sections::{Layers, is_section};
use crate::config::yaml::{Data, Key, Node};
use crate::train::sections::NAMES;
use serde_json::Value;
use std::collections::HashMap;
use std::path::PathBuf;

/// One entry under `mixers` or `tasks`.
#[derive(Clone)]
pub struct Entry {
    pub label: String,
    pub family: String,
    pub family_place: Place,
    pub settings: Layer,
    pub sections: Layers,
    /// A mixer's entry may say how large the model is that it follows.
    pub reference_parameters: Option<u64>,
    /// A mixer's entry may be limited to some tasks, by label.
    pub only_tasks: Option<Vec<Node>>,
    /// `published`: the model of a mixer's entry or the task of a task's entry in the published table, or `null` for none.
    pub published: Option<Option<String>>,
    /// Where the weights of its runs start; `Some(None)`: nowhere, whatever the mixer's entry says.
    pub start: Option<Option<StartKey>>,
    /// A task's entry may have seeds of its own.
    pub seeds: Option<Seeds>,
    /// A grid in place of the axes that all share: a task's own, or none after `grid: null`.
    pub grid: Option<Vec<Vec<Setting>>>,
    /// A mixer's own axes, beside those that all share.
    pub own_axes: Vec<Vec<Setting>>,
}

/// `start` as it is written: `mlm`, `{ task: mlm, seed: 0 }` or `{ weights: bert.safetensors }`.
#[derive(Clone, Debug)]
pub struct StartKey {
    pub place: Place,
    pub from: Source,
}

#[derive(Clone, Debug)]
pub enum Source {
    /// The run of the same mixer on the task with this label, at the point of its grid that this run's point lies on; of the
    /// same seed unless one is given.
    Task(String, Option<u64>),
    Weights(PathBuf),
}

/// Keys of every entry, besides `mixer` or `task` and the sections.
const ENTRY_KEYS: [&str; 3] = ["name", "published", "start"];
/// Reads one key into an entry.
type Read = fn(&mut Reader, &mut Entry, &Node);
/// Keys of a mixer's entry alone.
const MIXER_KEYS: [(&str, Read); 3] = [
    ("tasks", |_, entry, node| {
        entry.only_tasks = Some(node.as_list().map_or_else(|| vec![node.clone()], <[Node]>::to_vec));
    }),
    ("reference_parameters", |reader, entry, node| reader.reference_parameters(entry, node)),
    ("grid", |reader, entry, node| match node.is_null() {
        true => entry.grid = Some(Vec::new()),
        false => entry.own_axes = reader.grid(Some(node)),
    }),
];
/// Keys of a task's entry alone.
const TASK_KEYS: [(&str, Read); 2] = [
    ("seeds", |reader, entry, node| entry.seeds = Some(reader.seeds(Some(node)))),
    ("grid", |reader, entry, node| entry.grid = Some(reader.grid((!node.is_null()).then_some(node)))),
];

impl StartKey {
    /// The task's label and its seed, where both are named.
    pub fn seed(&self) -> Option<(String, u64)> {
        match &self.from {
            Source::Task(label, Some(seed)) => Some((label.clone(), *seed)),
            _ => None,
        }
    }
}

impl Entry {
    fn plain(family: &str, place: Place) -> Self {
        Self {
            label: family.into(),
            family: family.into(),
            family_place: place,
            settings: Layer::default(),
            sections: Default::default(),
            reference_parameters: None,
            only_tasks: None,
            published: None,
            start: None,
            seeds: None,
            grid: None,
            own_axes: Vec::new(),
        }
    }

    pub fn runs_on(&self, task_label: &str) -> bool {
        self.only_tasks.as_ref().is_none_or(|only| only.iter().any(|n| n.as_str() == Some(task_label)))
    }
}

impl Reader<'_> {
    /// Every entry of the list under `tasks` or `mixers`. An entry is a name, a one-key map `name: {…}`, or a map with the
    /// key `task` / `mixer` and overrides next to it.
    pub(super) fn entries(
        &mut self,
        list: Option<&(Key, Node)>,
        plural: &str,
        kind: &str,
        known: &[&str],
    ) -> Vec<Entry> {
        let example =
            format!("write `{plural}:` and below it `- {}: {{}}`; {plural} are {}", known[0], known.join(", "));
        let Some((_, node)) = list else {
            self.found.error(Place::File { line: 1, column: 1 }, format!("`{plural}` is missing"), example);
            return Vec::new();
        };
        let items = node.as_list().unwrap_or_default();
        if items.is_empty() {
            let what = if node.as_list().is_some() { "an empty list".into() } else { node.describe() };
            self.found.error(
                node.place.clone(),
                format!("`{plural}` is {what}, expected a list of at least one"),
                example,
            );
            return Vec::new();
        }
        let entries: Vec<Entry> = items.iter().filter_map(|item| self.entry(item, kind, known)).collect();
        let mut of_label: HashMap<&str, Vec<&Entry>> = HashMap::new();
        for entry in &entries {
            let others = of_label.entry(&entry.label).or_default();
            let same = |e: &&Entry| e.only_tasks.is_none() || entry.only_tasks.is_none() || overlap(e, entry);
            let doubled = others.iter().any(same);
            others.push(entry);
            if doubled {
                self.found.error(
                    entry.family_place.clone(),
                    format!("two {plural} are labelled `{}`", entry.label),
                    format!("give one of them another `name`, as in `- name: {}_2`", entry.label),
                );
            }
        }
        entries
    }

    /// One entry; `None` where its mixer or task cannot be made out.
    pub(super) fn entry(&mut self, item: &Node, kind: &str, known: &[&str]) -> Option<Entry> {
        if let Some(family) = item.as_str() {
            return self
                .family(family, item.place.clone(), kind, known)
                .then(|| Entry::plain(family, item.place.clone()));
        }
        let Some(map) = item.as_map().filter(|m| !m.is_empty()) else {
            self.found.error(
                item.place.clone(),
                format!("a {kind} is {}, expected a name with its settings", item.describe()),
                format!("write `- {}: {{}}`", known[0]),
            );
            return None;
        };
        let Some((_, choice)) = map.iter().find(|(k, _)| k.name == kind) else {
            // The short form: one key, which is the family.
            let [(key, settings)] = map else {
                let (key, _) = &map[0];
                self.found.error(
                    key.place.clone(),
                    format!("this entry has {} keys and no `{kind}`", map.len()),
                    format!("write `- {kind}: {{ {}: {{}} }}` and put overrides beside it", known[0]),
                );
                return None;
            };
            return self.chosen(key, settings, kind, known);
        };
        let own: &[(&str, Read)] = if kind == "mixer" { &MIXER_KEYS } else { &TASK_KEYS };
        let allowed: Vec<&str> =
            [kind].into_iter().chain(ENTRY_KEYS).chain(own.iter().map(|(key, _)| *key)).chain(NAMES).collect();
        self.known_keys(map, &allowed, &format!("this {kind}'s entry"), "keys");
        let mut entry = self.choice(choice, kind, known)?;
        for (key, node) in map {
            match own.iter().find(|(name, _)| *name == key.name) {
                Some((_, read)) => read(self, &mut entry, node),
                None => self.shared_key(&mut entry, key, node, kind),
            }
        }
        Some(entry)
    }

    /// The value of `mixer:` or `task:`.
    fn choice(&mut self, choice: &Node, kind: &str, known: &[&str]) -> Option<Entry> {
        match (choice.as_str(), choice.as_map()) {
            (Some(family), _) => self
                .family(family, choice.place.clone(), kind, known)
                .then(|| Entry::plain(family, choice.place.clone())),
            (None, Some([(key, settings)])) => self.chosen(key, settings, kind, known),
            _ => {
                self.found.error(
                    choice.place.clone(),
                    format!("`{kind}` is {}, expected one name with its settings", choice.describe()),
                    format!("write `{kind}: {{ {}: {{}} }}`", known[0]),
                );
                None
            }
        }
    }

    /// A key that entries of both kinds may have.
    fn shared_key(&mut self, entry: &mut Entry, key: &Key, node: &Node, kind: &str) {
        match key.name.as_str() {
            "name" => self.label(entry, node),
            "published" => entry.published = self.published(node, kind),
            "start" if node.data == Data::Scalar(Value::Null) => entry.start = Some(None),
            "start" => {
                entry.start = self.start(node).map(Some);
                if kind == "mixer" && matches!(&entry.start, Some(Some(StartKey { from: Source::Task(..), .. }))) {
                    let problem = "a mixer's `start` names a task, which its own run on that task cannot start from";
                    let help = "put it into the entries of the tasks, or name a file: `start: { weights: FILE }`";
                    self.found.error(node.place.clone(), problem, help);
                }
            }
            name if is_section(name) => *entry.sections.of_mut(name) = self.layer(name, node),
            _ => {}
        }
    }

    /// `name`: the label of an entry.
    fn label(&mut self, entry: &mut Entry, node: &Node) {
        let Some(label) = node.as_str() else {
            let problem = format!("`name` is {}, expected text", node.describe());
            self.found.error(node.place.clone(), problem, "put the label in quotes");
            return;
        };
        if let Some(why) = label_problem(label) {
            let label: String = label.escape_debug().collect();
            self.found.error(node.place.clone(), format!("`name` is `{label}`, which {why}"), LABEL_HELP);
        }
        entry.label = label.into();
    }

    fn reference_parameters(&mut self, entry: &mut Entry, node: &Node) {
        entry.reference_parameters = node.to_json().as_u64().filter(|n| *n > 0);
        if entry.reference_parameters.is_none() {
            let problem = format!("`reference_parameters` is {}, expected a count", node.describe());
            self.found.error(node.place.clone(), problem, "write a whole number, such as 1043000");
        }
    }

    /// Where the weights of an entry's runs start.
    pub(super) fn start(&mut self, node: &Node) -> Option<StartKey> {
        let help = "write `start: LABEL` with the label of another task, `start: { task: LABEL, seed: 0 }` or \
                    `start: { weights: FILE }`";
        let place = node.place.clone();
        let key = |from: Source| Some(StartKey { place: node.place.clone(), from });
        if let Some(label) = node.as_str() {
            return key(Source::Task(label.into(), None));
        }
        let Some(map) = node.as_map() else {
            self.found.error(place, format!("`start` is {}, expected a task's label", node.describe()), help);
            return None;
        };
        self.known_keys(map, &["task", "seed", "weights"], "`start`", "keys");
        let get = |name: &str| map.iter().find(|(key, _)| key.name == name).map(|(_, node)| node);
        let seed = match get("seed") {
            None => None,
            Some(node) => {
                let seed = node.to_json().as_u64();
                if seed.is_none() {
                    let problem = format!("`seed` is {}, expected a whole number, 0 or more", node.describe());
                    self.found.error(node.place.clone(), problem, help);
                }
                seed
            }
        };
        match (get("task"), get("weights")) {
            (Some(label), None) if label.as_str().is_some() => {
                key(Source::Task(label.as_str().unwrap_or_default().into(), seed))
            }
            (None, Some(file)) if file.as_str().is_some() => {
                let path = PathBuf::from(file.as_str().unwrap_or_default());
                if !path.is_file() {
                    let problem = format!("there is no file `{}`", path.display());
                    let help = "give the path of a safetensors file, from the folder this command runs in";
                    self.found.error(file.place.clone(), problem, help);
                }
                key(Source::Weights(path))
            }
            _ => {
                self.found.error(place, "`start` names neither one task nor one file of weights", help);
                None
            }
        }
    }

    /// `family: { settings }`.
    pub(super) fn chosen(&mut self, key: &Key, settings: &Node, kind: &str, known: &[&str]) -> Option<Entry> {
        if !self.family(&key.name, key.place.clone(), kind, known) {
            return None;
        }
        let mut entry = Entry::plain(&key.name, key.place.clone());
        if settings.data != Data::Scalar(Value::Null) {
            entry.settings = self.layer(&key.name, settings);
        }
        Some(entry)
    }

    pub(super) fn family(&mut self, name: &str, place: Place, kind: &str, known: &[&str]) -> bool {
        let ok = known.contains(&name);
        if !ok {
            self.found.error(place, format!("unknown {kind} `{name}`"), suggest(name, known, &format!("{kind}s")));
        }
        ok
    }

    /// Whether an axis in an entry of its own is one of that entry: it says so where it is not.
    pub(super) fn of_the_entry(&mut self, setting: &Setting, entry: &Entry, kind: &str) -> bool {
        let path: Vec<&str> = setting.path.iter().map(String::as_str).collect();
        let shown = path.join(".");
        let (problem, help) = match path[..] {
            [of, family, key] if of == kind && family != entry.family => (
                format!("`{shown}` is a setting of `{family}`, and this entry is of `{}`", entry.family),
                format!("write {kind}.{}.{key}, or put the axis into an entry of `{family}`", entry.family),
            ),
            ["task", ..] if kind == "mixer" => (
                format!("`{shown}` is the task's, and this entry is a mixer's"),
                "put the axis under `grid` at the top of the file or in the task's entry".into(),
            ),
            _ => return true,
        };
        self.found.error(setting.key_place.clone(), problem, help);
        false
    }

    pub(super) fn known_tasks(&mut self, mixers: &[Entry], tasks: &[Entry]) {
        let labels: Vec<&str> = tasks.iter().map(|t| t.label.as_str()).collect();
        for node in mixers.iter().flat_map(|m| m.only_tasks.iter().flatten()) {
            if !node.as_str().is_some_and(|l| labels.contains(&l)) {
                let help = suggest(node.as_str().unwrap_or_default(), &labels, "labels of tasks");
                self.found.error(node.place.clone(), format!("no task is labelled {}", node.describe()), help);
            }
        }
    }
}

/// Whether two entries limited to tasks share one.
fn overlap(a: &Entry, b: &Entry) -> bool {
    let labels = |e: &Entry| -> Vec<String> {
        e.only_tasks.iter().flatten().filter_map(|n| n.as_str().map(str::to_owned)).collect()
    };
    labels(a).iter().any(|l| labels(b).contains(l))
}
