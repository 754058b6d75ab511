//! A sweep's YAML, read into runs. Whatever the config decides is checked here, every mistake shown that can be seen.
//!
//! Sections (`model`, `optimizer`, `schedule`, `budget`, `pretrain`) are laid over each other: defaults, then the top of the file, then
//! the task's entry, then the mixer's entry, then the grid point, then `--set`. Each key keeps the place it came from.

pub(crate) mod presets;
pub(crate) mod starts;
pub(crate) mod yaml;

use crate::base::diagnostics::{Diagnostics, Place, suggest};
use crate::base::fields;
use crate::base::names::{LABEL_HELP, NAME_HELP, label_problem, name_problem};
use crate::config::yaml::{Data, Key, Node};
use crate::model::ModelConfig;
use crate::registry::Registry;
use crate::sweep::matching::Matched;
use crate::train::analysis::AnalysisConfig;
use crate::train::optimizer::OptimizerConfig;
use crate::train::pretrain::{Objective, PretrainConfig};
use crate::train::schedule::ScheduleConfig;
use crate::train::spec::Choice;
use crate::train::trainer::BudgetConfig;
use results::Figure;
use results::published::{self, Beside};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use settings::ConfigError;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

/// A sweep, read and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Names the sweep's report folder.
    pub name: String,
    /// What it asks, printed above its table.
    pub question: String,
    /// Every run, in the order of the file: tasks, then mixers, then grid points, then seeds.
    pub runs: Vec<Draft>,
    /// How alike its models must be in size.
    pub matched: Option<Matched>,
    /// What is drawn besides scores and learning curves.
    pub figures: Vec<Figure>,
    /// What `--set` did besides setting: which entries it overrules, which axes of the grid it replaces.
    pub notes: Vec<String>,
}

/// Runs that a config may ask for unless `--max-runs` says otherwise. The largest of this project's own has some hundreds.
pub const MOST_RUNS: u64 = 10_000;

/// A run before its data are opened.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Label of the mixer's entry.
    pub mixer_label: String,
    /// Label of the task's entry.
    pub task_label: String,
    /// The grid point, `("optimizer.lr", "0.001")`.
    pub settings: Vec<(String, String)>,
    /// The task and its settings.
    pub task: Choice,
    /// The mixer and its settings.
    pub mixer: Choice,
    /// The backbone.
    pub model: ModelConfig,
    /// The optimizer.
    pub optimizer: OptimizerConfig,
    /// The learning-rate schedule.
    pub schedule: ScheduleConfig,
    /// How long, how often.
    pub budget: BudgetConfig,
    /// What comes before the task.
    pub pretrain: Option<PretrainConfig>,
    /// What is looked at after training.
    pub analysis: Option<AnalysisConfig>,
    /// Trainable scalars of the published model that this one follows; only `plan` reads it.
    pub reference_parameters: Option<u64>,
    /// Where its initial weights come from; `None`: they are drawn.
    pub start: Option<Start>,
    /// The run's seed.
    pub seed: u64,
    /// The published numbers it stands beside; a label, no part of the spec.
    pub published: Option<Beside>,
}

/// Where a run's initial weights come from.
#[derive(Clone, Debug)]
pub enum Start {
    /// The best checkpoint of another run of the config.
    Run(Box<Draft>),
    /// A file of weights.
    Weights(PathBuf),
}

/// `start` as it is written: `mlm`, `{ task: mlm, seed: 0 }` or `{ weights: bert.safetensors }`.
#[derive(Clone, Debug)]
struct StartKey {
    place: Place,
    from: Source,
}

#[derive(Clone, Debug)]
enum Source {
    /// The run of the same mixer on the task with this label, at the point of its grid that this run's point lies on; of the
    /// same seed unless one is given.
    Task(String, Option<u64>),
    Weights(PathBuf),
}

/// Sections that entries may override.
const SECTIONS: [&str; 6] = ["model", "optimizer", "schedule", "budget", "pretrain", "analysis"];
const TOP_KEYS: [&str; 15] = [
    "name",
    "question",
    "tasks",
    "mixers",
    "model",
    "optimizer",
    "schedule",
    "budget",
    "pretrain",
    "analysis",
    "seeds",
    "grid",
    "figures",
    "match",
    "published",
];
/// One layer a section.
type Layers = [Layer; SECTIONS.len()];

/// Keys laid over each other, later ones winning.
#[derive(Clone, Debug, Default)]
struct Layer(Vec<(Key, Node)>);

impl Layer {
    fn over(&self, upper: &[(Key, Node)]) -> Self {
        let mut merged = self.0.clone();
        for (key, node) in upper {
            match merged.iter_mut().find(|(k, _)| k.name == key.name) {
                Some(slot) => *slot = (key.clone(), node.clone()),
                None => merged.push((key.clone(), node.clone())),
            }
        }
        Self(merged)
    }

    fn place_of(&self, key: &str) -> Option<Place> {
        self.0.iter().find(|(k, _)| k.name == key).map(|(_, node)| node.place.clone())
    }
}

/// One entry under `mixers` or `tasks`.
struct Entry {
    label: String,
    family: String,
    family_place: Place,
    settings: Layer,
    sections: Layers,
    /// A mixer's entry may say how large the model is that it follows.
    reference_parameters: Option<u64>,
    /// A mixer's entry may be limited to some tasks, by label.
    only_tasks: Option<Vec<Node>>,
    /// `published`: the model of a mixer's entry or the task of a task's entry in the published table, or `null` for none.
    published: Option<Option<String>>,
    /// Where the weights of its runs start; `Some(None)`: nowhere, whatever the mixer's entry says.
    start: Option<Option<StartKey>>,
    /// A task's entry may have seeds of its own.
    seeds: Option<Vec<u64>>,
    /// A task's entry may have a grid of its own; no axes: `grid: null`.
    grid: Option<Vec<Vec<Setting>>>,
}

/// One value for one dotted path, from the grid or from `--set`.
#[derive(Clone, Debug)]
struct Setting {
    path: Vec<String>,
    key_place: Place,
    value: Node,
}

impl Config {
    /// The same with the runs that its runs start from, where a filter left them out.
    pub fn with_starts(mut self) -> Self {
        let key = |d: &Draft| (d.task_label.clone(), d.mixer_label.clone(), d.settings.clone(), d.seed);
        let mut known: HashSet<_> = self.runs.iter().map(key).collect();
        let chains: Vec<Draft> = self.runs.iter().flat_map(|run| run.chain().skip(1)).cloned().collect();
        self.runs.extend(chains.into_iter().filter(|first| known.insert(key(first))));
        self
    }

    /// Reads the file at `path` with `--set` arguments `sets`; more than `most` runs are refused.
    pub fn load(path: &Path, sets: &[String], most: u64, registry: &Registry) -> Result<Self, Diagnostics> {
        let shown = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => {
                let stem = path.file_stem().map_or("sweep".into(), |s| s.to_string_lossy().into_owned());
                Self::parse_within(&text, &shown, &stem, sets, most, registry)
            }
            Err(error) => {
                let mut found = Diagnostics::new(shown);
                let help = match error.kind() {
                    std::io::ErrorKind::NotFound => "give the path of a YAML file, such as configs/quick.yaml",
                    _ => "the config must be a readable UTF-8 text file",
                };
                found.error(Place::Whole, format!("cannot be read: {error}"), help);
                Err(found)
            }
        }
    }

    /// [`Config::parse_within`] the usual limit.
    #[cfg(test)]
    pub fn parse(
        text: &str,
        source: &str,
        stem: &str,
        sets: &[String],
        registry: &Registry,
    ) -> Result<Self, Diagnostics> {
        Self::parse_within(text, source, stem, sets, MOST_RUNS, registry)
    }

    /// Reads `text`; `source` names it in messages and `stem` is the sweep's name unless the text gives one. More than `most` runs
    /// are refused, before they are made.
    pub fn parse_within(
        text: &str,
        source: &str,
        stem: &str,
        sets: &[String],
        most: u64,
        registry: &Registry,
    ) -> Result<Self, Diagnostics> {
        let mut found = Diagnostics::new(source);
        let root = yaml::parse(text, |line, column| Place::File { line, column }, &mut found);
        let config = root.and_then(|root| Reader { registry, found: &mut found }.config(&root, stem, sets, most));
        match config {
            Some(config) if found.is_empty() => Ok(config),
            _ => Err(found),
        }
    }
}

/// One mixer from the command line, written as an item under `mixers:`, for models of `dims`: its label and its settings.
/// `source` names the text in messages.
pub fn mixer_item(
    text: &str,
    source: &str,
    dims: &mixers::Dims,
    registry: &Registry,
) -> Result<(String, Choice), Diagnostics> {
    let mut found = Diagnostics::new(source);
    let item = yaml::parse(text, |line, column| Place::File { line, column }, &mut found);
    let chosen = item.and_then(|item| Reader { registry, found: &mut found }.mixer_item(&item, dims));
    match chosen {
        Some(chosen) if found.is_empty() => Ok(chosen),
        _ => Err(found),
    }
}

struct Reader<'a> {
    registry: &'a Registry,
    found: &'a mut Diagnostics,
}

impl Reader<'_> {
    fn config(&mut self, root: &Node, stem: &str, sets: &[String], most: u64) -> Option<Config> {
        let Some(top) = root.as_map() else {
            self.found.error(
                root.place.clone(),
                format!("a config is a mapping, not {}", root.describe()),
                format!("keys are {}", TOP_KEYS.join(", ")),
            );
            return None;
        };
        self.known_keys(top, &TOP_KEYS, "the config", "keys");
        let get = |name: &str| top.iter().find(|(k, _)| k.name == name);
        let base = SECTIONS.map(|name| get(name).map(|(_, node)| self.layer(name, node)).unwrap_or_default());
        // Judged even where no run comes of it, because every mixer or task is misspelt.
        let model = self.with_preset(base[0].clone());
        let _: Option<ModelConfig> = self.section("model", &model);
        let _: Option<OptimizerConfig> = self.section("optimizer", &base[1]);
        let _: Option<ScheduleConfig> = self.section("schedule", &base[2]);
        let _: Option<BudgetConfig> = self.section("budget", &base[3]);
        let _: Option<PretrainConfig> = self.section("pretrain", &base[4]);
        let _: Option<AnalysisConfig> = self.section("analysis", &base[5]);
        let task_names: Vec<&str> = self.registry.tasks.iter().map(|t| t.name).collect();
        let mixer_names: Vec<&str> = self.registry.mixers.iter().map(|m| m.name).collect();
        let mut tasks = self.entries(get("tasks"), "tasks", "task", &task_names);
        let mixers = self.entries(get("mixers"), "mixers", "mixer", &mixer_names);
        self.known_tasks(&mixers, &tasks);
        let mut seeds = self.seeds(get("seeds").map(|(_, n)| n));
        let published = get("published").and_then(|(_, node)| self.published(node, "mixer")).flatten();
        let mut axes = self.grid(get("grid").map(|(_, n)| n));
        let all_axes = |axes: &[Vec<Setting>], tasks: &[Entry]| -> Vec<Vec<Setting>> {
            axes.iter().chain(tasks.iter().filter_map(|task| task.grid.as_ref()).flatten()).cloned().collect()
        };
        let written = all_axes(&axes, &tasks);
        let (sets, set_seeds) = self.arguments(sets);
        for setting in written.iter().flatten().chain(&sets) {
            self.reachable(setting, &tasks, &mixers);
        }
        let mut notes: Vec<String> = sets.iter().filter_map(|set| overruled(set, &tasks, &mixers)).collect();
        notes.extend(sets.iter().filter_map(|set| replaced_axis(set, &written)));
        if let Some(set) = set_seeds {
            let own: Vec<&str> =
                tasks.iter().filter(|task| task.seeds.is_some()).map(|task| task.label.as_str()).collect();
            if !own.is_empty() {
                notes.push(format!("--set seeds also replaces the seeds in the entries of {}", quoted(&own)));
            }
            tasks.iter_mut().for_each(|task| task.seeds = None);
            seeds = set;
        }
        // A value set for every run leaves nothing to sweep: the axis would only label runs with values that they do not have.
        let keep = |axis: &Vec<Setting>| axis.first().is_none_or(|of| sets.iter().all(|set| set.path != of.path));
        axes.retain(keep);
        tasks.iter_mut().filter_map(|task| task.grid.as_mut()).for_each(|grid| grid.retain(keep));
        if self.too_many(get("grid").map(|(key, _)| &key.place), most, (&tasks, &mixers), &axes, &seeds) {
            return None;
        }
        let (mut runs, mut starts) = (Vec::new(), Vec::new());
        for task in &tasks {
            let seeds = task.seeds.as_ref().unwrap_or(&seeds);
            let axes = task.grid.as_ref().unwrap_or(&axes);
            let points = points(axes);
            for mixer in mixers.iter().filter(|m| m.runs_on(&task.label)) {
                let start = task.start.as_ref().or(mixer.start.as_ref()).and_then(Option::as_ref);
                for point in &points {
                    let over: Vec<&Setting> = point.iter().copied().chain(&sets).collect();
                    if let Some(draft) = self.draft(task, mixer, &base, &over) {
                        let settings = point.iter().map(|s| (s.path.join("."), plain(&s.value.to_json()))).collect();
                        let published = beside(task, mixer, published.as_deref(), &draft.task);
                        let draft = Draft { settings, published, ..draft };
                        runs.extend(seeds.iter().map(|&seed| Draft { seed, ..draft.clone() }));
                        starts.resize(runs.len(), start.cloned());
                    }
                }
            }
        }
        if self.found.is_empty() {
            self.starts(&mut runs, &starts, &tasks);
        }
        let figures = get("figures").map(|(_, node)| {
            let paths = |axes: &[Vec<Setting>]| -> Vec<String> {
                axes.iter().filter_map(|axis| axis.first()).map(|s| s.path.join(".")).collect()
            };
            let (written, swept) = (paths(&written), paths(&all_axes(&axes, &tasks)));
            let (there, gone) = self.figures(node, &written).into_iter().partition(|figure| match figure {
                Figure::Lines(lines) => std::iter::once(&lines.x).chain(&lines.panels).all(|path| swept.contains(path)),
                _ => true,
            });
            let gone: Vec<Figure> = gone;
            if !gone.is_empty() {
                notes.push("figures over an axis that --set replaces are left out".into());
            }
            there
        });
        let figures: Vec<Figure> = figures.unwrap_or_default();
        let matched = get("match").and_then(|(key, node)| self.matched(key, node, &runs));
        let name = self.text("name", get("name")).unwrap_or_else(|| stem.into());
        if let Some(why) = name_problem(&name).filter(|_| get("name").is_none_or(|(_, node)| node.as_str().is_some())) {
            match get("name") {
                Some((_, node)) => self.found.error(
                    node.place.clone(),
                    format!("`name` is {}, which {why}", node.describe()),
                    NAME_HELP,
                ),
                None => {
                    let help = format!("rename the file, or write `name: ` with another at its top: {NAME_HELP}");
                    self.found.error(
                        Place::Whole,
                        format!("the sweep is named after the file, `{name}`, which {why}"),
                        help,
                    )
                }
            }
        }
        let question = self.text("question", get("question")).unwrap_or_default();
        Some(Config { name, question, runs, matched, figures, notes })
    }

    /// The text under a key of the top of the file; what is no text is reported.
    fn text(&mut self, key: &str, entry: Option<&(Key, Node)>) -> Option<String> {
        let (_, node) = entry?;
        if node.as_str().is_none() {
            let help = match &node.data {
                Data::Scalar(Value::Null) => format!("write text behind it, or leave `{key}` out"),
                Data::Scalar(value) => format!("put it in quotes: `{key}: \"{value}\"`"),
                _ => format!("write one line of text, `{key}: mine`"),
            };
            self.found.error(node.place.clone(), format!("`{key}` is {}, expected text", node.describe()), help);
        }
        node.as_str().map(str::to_owned)
    }

    /// `figures: [ { lines: { x: model.d_model } } ]`.
    fn figures(&mut self, node: &Node, swept: &[String]) -> Vec<Figure> {
        let help = "figures are `lines: { x: model.d_model }`, `details: { axis: length }`, \
                    `cells: { axis: layer, measure: importance }`, `profile: { shape: heat }` and \
                    `ranking: { measure: loss, published: C4-MLM-loss }`";
        let Some(items) = node.as_list() else {
            self.found.error(node.place.clone(), format!("`figures` is {}, expected a list", node.describe()), help);
            return Vec::new();
        };
        let mut figures = Vec::new();
        for item in items {
            match serde_json::from_value::<Figure>(item.to_json()) {
                Ok(figure) => {
                    if let Figure::Lines(lines) = &figure {
                        for path in std::iter::once(&lines.x).chain(&lines.panels).filter(|path| !swept.contains(path))
                        {
                            let known: Vec<&str> = swept.iter().map(String::as_str).collect();
                            let near = if known.is_empty() {
                                "add the axis to `grid`".into()
                            } else {
                                suggest(path, &known, "axes of the grid")
                            };
                            self.found.error(item.place.clone(), format!("`{path}` is no axis of the grid"), near);
                        }
                    }
                    figures.push(figure);
                }
                Err(error) => {
                    let (problem, help) = no_such_figure(item, &error.to_string(), help);
                    self.found.error(blamed(item, &problem), problem, help)
                }
            }
        }
        figures
    }

    /// `match: { parameters: 0.02 }`.
    fn matched(&mut self, key: &Key, node: &Node, runs: &[Draft]) -> Option<Matched> {
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

    /// Reports keys outside `known`.
    fn known_keys(&mut self, entries: &[(Key, Node)], known: &[&str], of: &str, plural: &str) {
        for (key, _) in entries.iter().filter(|(k, _)| !known.contains(&k.name.as_str())) {
            self.found.error(
                key.place.clone(),
                format!("unknown key `{}` of {of}", key.name),
                suggest(&key.name, known, plural),
            );
        }
    }

    /// A section's own mapping.
    fn layer(&mut self, name: &str, node: &Node) -> Layer {
        match node.as_map() {
            Some(entries) => Layer(entries.to_vec()),
            None if name == "pretrain" && node.as_str().is_some() => Layer(vec![objective_alone(node)]),
            None => {
                self.found.error(
                    node.place.clone(),
                    format!("`{name}` is {}, expected a mapping", node.describe()),
                    match name {
                        "pretrain" => "write `pretrain: mlm`, or `pretrain: { objective: mlm, steps: 500 }`".into(),
                        _ => format!("write `{name}: {{ key: value }}`"),
                    },
                );
                Layer::default()
            }
        }
    }

    /// `model: { preset: bert_base, dropout: 0 }`: the preset's keys, where the preset stands, below every key that is written.
    fn with_preset(&mut self, mut keys: Layer) -> Layer {
        let Some(at) = keys.0.iter().position(|(key, _)| key.name == "preset") else { return keys };
        let (key, node) = keys.0.remove(at);
        if node.data == Data::Scalar(Value::Null) {
            return keys;
        }
        let Some(preset) = node.as_str().and_then(presets::find) else {
            let known: Vec<&str> = presets::all().iter().map(|preset| preset.name).collect();
            let help = suggest(node.as_str().unwrap_or_default(), &known, "presets");
            self.found.error(node.place.clone(), format!("`preset` is {}, which is none", node.describe()), help);
            return keys;
        };
        let below = preset.model().into_iter().map(|(name, value)| {
            let place = node.place.clone();
            (Key { name, place: key.place.clone() }, Node { place, data: Data::Scalar(value) })
        });
        Layer(below.collect()).over(&keys.0)
    }

    /// Every entry of the list under `tasks` or `mixers`. An entry is a name, a one-key map `name: {…}`, or a map with the
    /// key `task` / `mixer` and overrides beside it.
    fn entries(&mut self, list: Option<&(Key, Node)>, plural: &str, kind: &str, known: &[&str]) -> Vec<Entry> {
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

    fn entry(&mut self, item: &Node, kind: &str, known: &[&str]) -> Option<Entry> {
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
        let mut allowed = vec![kind, "name", "published", "start"];
        allowed.extend(SECTIONS);
        allowed.extend(if kind == "mixer" { &["tasks", "reference_parameters"][..] } else { &["seeds", "grid"] });
        self.known_keys(map, &allowed, &format!("this {kind}'s entry"), "keys");
        let mut entry = match (choice.as_str(), choice.as_map()) {
            (Some(family), _) if self.family(family, choice.place.clone(), kind, known) => {
                Entry::plain(family, choice.place.clone())
            }
            (None, Some([(key, settings)])) => self.chosen(key, settings, kind, known)?,
            (Some(_), _) => return None,
            _ => {
                self.found.error(
                    choice.place.clone(),
                    format!("`{kind}` is {}, expected one name with its settings", choice.describe()),
                    format!("write `{kind}: {{ {}: {{}} }}`", known[0]),
                );
                return None;
            }
        };
        for (key, node) in map {
            match key.name.as_str() {
                "name" => match node.as_str() {
                    Some(label) => {
                        if let Some(why) = label_problem(label) {
                            let label: String = label.escape_debug().collect();
                            self.found.error(
                                node.place.clone(),
                                format!("`name` is `{label}`, which {why}"),
                                LABEL_HELP,
                            );
                        }
                        entry.label = label.into()
                    }
                    None => self.found.error(
                        node.place.clone(),
                        format!("`name` is {}, expected text", node.describe()),
                        "put the label in quotes",
                    ),
                },
                "published" => entry.published = self.published(node, kind),
                "start" if node.data == Data::Scalar(Value::Null) => entry.start = Some(None),
                "start" => {
                    entry.start = self.start(node).map(Some);
                    if kind == "mixer" && matches!(&entry.start, Some(Some(StartKey { from: Source::Task(..), .. }))) {
                        let problem =
                            "a mixer's `start` names a task, which its own run on that task cannot start from";
                        let help = "put it into the entries of the tasks, or name a file: `start: { weights: FILE }`";
                        self.found.error(node.place.clone(), problem, help);
                    }
                }
                "seeds" if kind == "task" => entry.seeds = Some(self.seeds(Some(node))),
                "grid" if kind == "task" => {
                    let none = node.data == Data::Scalar(Value::Null);
                    entry.grid = Some(self.grid((!none).then_some(node)));
                }
                "tasks" if kind == "mixer" => {
                    entry.only_tasks = Some(node.as_list().map_or_else(|| vec![node.clone()], <[Node]>::to_vec))
                }
                "reference_parameters" if kind == "mixer" => {
                    entry.reference_parameters = node.to_json().as_u64().filter(|n| *n > 0);
                    if entry.reference_parameters.is_none() {
                        let problem = format!("`reference_parameters` is {}, expected a count", node.describe());
                        self.found.error(node.place.clone(), problem, "write a whole number, such as 1043000");
                    }
                }
                name => {
                    if let Some(at) = SECTIONS.iter().position(|s| *s == name) {
                        entry.sections[at] = self.layer(name, node);
                    }
                }
            }
        }
        Some(entry)
    }

    /// Where the weights of an entry's runs start.
    fn start(&mut self, node: &Node) -> Option<StartKey> {
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

    /// Gives every run the run that it starts from. `wanted` has the key of each run's entry.
    fn starts(&mut self, runs: &mut [Draft], wanted: &[Option<StartKey>], tasks: &[Entry]) {
        let labels: Vec<&str> = tasks.iter().map(|task| task.label.as_str()).collect();
        let mut alike: HashMap<(String, String), Vec<usize>> = HashMap::new();
        for (at, run) in runs.iter().enumerate() {
            alike.entry((run.task_label.clone(), run.mixer_label.clone())).or_default().push(at);
        }
        // As often as there are tasks: a chain mlm → mnli → rte is found from its beginning on.
        for pass in 0..=tasks.len() {
            for at in 0..runs.len() {
                let Some(StartKey { place, from }) = &wanted[at] else { continue };
                let (label, seed) = match from {
                    Source::Weights(path) => {
                        runs[at].start = Some(Start::Weights(path.clone()));
                        continue;
                    }
                    Source::Task(label, seed) => (label, seed.unwrap_or(runs[at].seed)),
                };
                let run = &runs[at];
                let of_mixer = alike.get(&(label.clone(), run.mixer_label.clone())).map_or(&[][..], Vec::as_slice);
                let mut of_mixer = of_mixer.iter().map(|&at| &runs[at]);
                let same = |other: &&Draft| other.settings.iter().all(|setting| run.settings.contains(setting));
                let known = of_mixer.clone().filter(same).find(|other| other.seed == seed).cloned();
                if let Some(found) = known {
                    let wrong = (pass == 0).then(|| starts::mismatch(&runs[at], &found, self.registry)).flatten();
                    if let Some((problem, help)) = wrong {
                        self.found.error(place.clone(), problem, help);
                    }
                    runs[at].start = Some(Start::Run(Box::new(found)));
                    continue;
                }
                if pass > 0 {
                    continue;
                }
                let (problem, help) = if !labels.contains(&label.as_str()) {
                    (format!("no task is labelled `{label}`"), suggest(label, &labels, "labels of tasks"))
                } else if of_mixer.clone().any(|other| same(&other)) {
                    let problem = format!("no run on `{label}` has seed {seed}");
                    (problem, "give the seed to start from, as in `start: { task: LABEL, seed: 0 }`".into())
                } else if let Some(other) = of_mixer.next() {
                    let axes: Vec<String> = other.settings.iter().map(|(path, _)| format!("`{path}`")).collect();
                    let problem = format!(
                        "`{label}` is swept over {} and `{}` not over the same values: which run to start from is open",
                        axes.join(", "),
                        run.task_label
                    );
                    (problem, format!("put `grid: null` into the entry of `{label}`, or give both the same axis"))
                } else {
                    let problem = format!("`{}` does not run on `{label}`", run.mixer_label);
                    (problem, "add that task to the mixer's `tasks`, or leave `start` out".into())
                };
                self.found.error(place.clone(), problem, help);
            }
        }
        for (run, key) in runs.iter().zip(wanted) {
            let (mut labels, mut at) = (vec![run.task_label.as_str()], run);
            while let Some(Start::Run(next)) = &at.start {
                if labels.contains(&next.task_label.as_str()) {
                    let place = key.as_ref().map_or(Place::Whole, |key| key.place.clone());
                    labels.push(&next.task_label);
                    let chain = labels.join(" from ");
                    self.found.error(place, format!("tasks start from each other: {chain}"), "leave one `start` out");
                    return;
                }
                labels.push(&next.task_label);
                at = next;
            }
        }
    }

    /// A mixer without a model around it.
    fn mixer_item(&mut self, item: &Node, dims: &mixers::Dims) -> Option<(String, Choice)> {
        let known: Vec<&str> = self.registry.mixers.iter().map(|m| m.name).collect();
        let entry = self.entry(item, "mixer", &known)?;
        let overrides = entry.sections.iter().flat_map(|layer| &layer.0).map(|(key, _)| key.place.clone());
        for place in overrides.chain(entry.only_tasks.iter().flatten().map(|node| node.place.clone())) {
            let help = "leave it out, or name a config";
            self.found.error(place, "a mixer without a config has no model, no budget and no tasks", help);
        }
        let family = *self.registry.mixer(&entry.family).expect("the entry's family was looked up");
        let settings =
            self.settings(&entry.family, &entry.settings, (family.defaults)(), family.accepts, family.resolve)?;
        for e in family.check(&settings, dims) {
            let place = place_of(&e.problem, e.key, &[&entry.settings]).unwrap_or_else(|| entry.family_place.clone());
            self.found.error(place, e.problem, e.help);
        }
        Some((entry.label, Choice { name: entry.family, settings }))
    }

    /// `family: { settings }`.
    fn chosen(&mut self, key: &Key, settings: &Node, kind: &str, known: &[&str]) -> Option<Entry> {
        if !self.family(&key.name, key.place.clone(), kind, known) {
            return None;
        }
        let mut entry = Entry::plain(&key.name, key.place.clone());
        if settings.data != Data::Scalar(Value::Null) {
            entry.settings = self.layer(&key.name, settings);
        }
        Some(entry)
    }

    fn family(&mut self, name: &str, place: Place, kind: &str, known: &[&str]) -> bool {
        let ok = known.contains(&name);
        if !ok {
            self.found.error(place, format!("unknown {kind} `{name}`"), suggest(name, known, &format!("{kind}s")));
        }
        ok
    }

    /// A name from the published table: of a model in a mixer's entry, of a task in a task's entry; `null` is none.
    fn published(&mut self, node: &Node, kind: &str) -> Option<Option<String>> {
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

    fn known_tasks(&mut self, mixers: &[Entry], tasks: &[Entry]) {
        let labels: Vec<&str> = tasks.iter().map(|t| t.label.as_str()).collect();
        for node in mixers.iter().flat_map(|m| m.only_tasks.iter().flatten()) {
            if !node.as_str().is_some_and(|l| labels.contains(&l)) {
                let help = suggest(node.as_str().unwrap_or_default(), &labels, "labels of tasks");
                self.found.error(node.place.clone(), format!("no task is labelled {}", node.describe()), help);
            }
        }
    }

    /// `seeds: 3` means 0, 1, 2; a list is taken as it is.
    fn seeds(&mut self, node: Option<&Node>) -> Vec<u64> {
        let Some(node) = node else { return vec![0] };
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
    fn grid(&mut self, node: Option<&Node>) -> Vec<Vec<Setting>> {
        let Some(node) = node else { return Vec::new() };
        let help = "write `grid: { optimizer.lr: [1e-3, 3e-3] }`, or leave `grid` out";
        let Some(axes) = node.as_map().filter(|m| !m.is_empty()) else {
            let what = if node.as_map().is_some() { "an empty mapping".into() } else { node.describe() };
            self.found.error(node.place.clone(), format!("`grid` is {what}, expected paths with their values"), help);
            return Vec::new();
        };
        let mut grid = Vec::new();
        for (key, values) in axes {
            let list = values.as_list().unwrap_or_default();
            if list.is_empty() {
                let what = if values.as_list().is_some() { "an empty list".into() } else { values.describe() };
                self.found.error(
                    values.place.clone(),
                    format!("grid axis `{}` is {what}, expected a list of values", key.name),
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
            let setting =
                |value: &Node| Setting { path: path.clone(), key_place: key.place.clone(), value: value.clone() };
            grid.push(list.iter().map(setting).collect());
        }
        grid
    }

    /// Every `--set`, the last of a path alone, and seeds among them.
    fn arguments(&mut self, arguments: &[String]) -> (Vec<Setting>, Option<Vec<u64>>) {
        let (mut sets, mut seeds): (Vec<Setting>, _) = (Vec::new(), None);
        for argument in arguments {
            match self.argument(argument) {
                Some(set) if set.path == ["seeds"] => seeds = Some(self.seeds(Some(&set.value))),
                Some(set) => {
                    sets.retain(|other| other.path != set.path);
                    sets.push(set);
                }
                None => {}
            }
        }
        (sets, seeds)
    }

    /// Whether the config asks for more runs than `most`, which is then said. Nothing was expanded yet.
    fn too_many(
        &mut self,
        grid: Option<&Place>,
        most: u64,
        (tasks, mixers): (&[Entry], &[Entry]),
        axes: &[Vec<Setting>],
        seeds: &[u64],
    ) -> bool {
        let points = |axes: &[Vec<Setting>]| axes.iter().map(|axis| axis.len() as u128).fold(1, u128::saturating_mul);
        let of_task = |task: &Entry| {
            let own = points(task.grid.as_deref().unwrap_or(axes));
            let seeds = task.seeds.as_deref().unwrap_or(seeds).len() as u128;
            let mixers = mixers.iter().filter(|mixer| mixer.runs_on(&task.label)).count() as u128;
            (mixers * seeds).saturating_mul(own)
        };
        let runs = tasks.iter().map(of_task).fold(0, u128::saturating_add);
        let too_many = runs > u128::from(most);
        if too_many {
            let grown = |n: u128| crate::sweep::progress::grouped(u64::try_from(n).unwrap_or(u64::MAX));
            let problem = format!(
                "{} runs are asked for ({} tasks, {} mixers, {} points of the grid, {} seeds), more than {}",
                grown(runs),
                tasks.len(),
                mixers.len(),
                grown(points(axes)),
                seeds.len(),
                grown(most.into())
            );
            let help = format!("take values, entries or seeds out, or raise the limit: --max-runs {runs}");
            self.found.error(grid.cloned().unwrap_or(Place::Whole), problem, help);
        }
        too_many
    }

    /// One `--set path=value`.
    fn argument(&mut self, argument: &str) -> Option<Setting> {
        let place = Place::Argument(format!("--set {argument}"));
        let Some((path, value)) = argument.split_once('=') else {
            let help = "write PATH=VALUE, as in --set model.d_model=128; more of them each have a --set of their own";
            self.found.error(place, "no `=` in it", help);
            return None;
        };
        let value = yaml::parse(value, |_, _| place.clone(), self.found)?;
        Some(Setting { path: self::path(path), key_place: place, value })
    }

    /// A path must lead to a section's key, or to a key of a family that the sweep has.
    fn reachable(&mut self, setting: &Setting, tasks: &[Entry], mixers: &[Entry]) {
        let path: Vec<&str> = setting.path.iter().map(String::as_str).collect();
        let has = |entries: &[Entry], family: &str| entries.iter().any(|e| e.family == family);
        let ok = match path[..] {
            [section, _] => SECTIONS.contains(&section),
            ["task", family, _] => has(tasks, family),
            ["mixer", family, _] => has(mixers, family),
            _ => false,
        };
        if !ok {
            let (problem, help) = nowhere(&path);
            self.found.error(setting.key_place.clone(), problem, help);
        }
    }

    /// One combination, checked; its seed is filled in by the caller.
    fn draft(&mut self, task: &Entry, mixer: &Entry, base: &Layers, over: &[&Setting]) -> Option<Draft> {
        let before = self.found.len();
        let [model_keys, optimizer_keys, schedule_keys, budget_keys, pretrain_keys, analysis_keys]: Layers =
            std::array::from_fn(|i| {
                let own = as_entries(over.iter().filter(|s| s.path.len() == 2 && s.path[0] == SECTIONS[i]));
                base[i].over(&task.sections[i].0).over(&mixer.sections[i].0).over(&own)
            });
        let model_keys = self.with_preset(model_keys);
        let family_keys = |kind: &str, entry: &Entry| {
            let own = over.iter().filter(|s| s.path.len() == 3 && s.path[0] == kind && s.path[1] == entry.family);
            entry.settings.over(&as_entries(own))
        };
        let (task_keys, mixer_keys) = (family_keys("task", task), family_keys("mixer", mixer));
        let model: Option<ModelConfig> = self.section("model", &model_keys);
        let optimizer: Option<OptimizerConfig> = self.section("optimizer", &optimizer_keys);
        let schedule: Option<ScheduleConfig> = self.section("schedule", &schedule_keys);
        let budget: Option<BudgetConfig> = self.section("budget", &budget_keys);
        let pretrain: Option<PretrainConfig> = self.section("pretrain", &pretrain_keys);
        let analysis: Option<AnalysisConfig> = self.section("analysis", &analysis_keys);

        let task_entry = *self.registry.task(&task.family).expect("the entry's family was looked up");
        let task_value =
            self.settings(&task.family, &task_keys, (task_entry.defaults)(), task_entry.accepts, task_entry.resolve);
        if let Some(value) = &task_value {
            for e in task_entry.check(value) {
                let place = place_of(&e.problem, e.key, &[&task_keys]);
                self.found.error(place.unwrap_or_else(|| task.family_place.clone()), e.problem, e.help);
            }
        }
        let mixer_entry = *self.registry.mixer(&mixer.family).expect("the entry's family was looked up");
        let mixer_value = self.settings(
            &mixer.family,
            &mixer_keys,
            (mixer_entry.defaults)(),
            mixer_entry.accepts,
            mixer_entry.resolve,
        );

        // Whatever can be judged is judged, so that one mistake does not hide another.
        if let Some(optimizer) = &optimizer {
            self.mistakes(&optimizer_keys, optimizer.check());
        }
        if let Some(budget) = &budget {
            self.mistakes(&budget_keys, budget.check());
        }
        if let (Some(schedule), Some(budget)) = (&schedule, &budget) {
            let lr = optimizer.as_ref().map_or(f64::INFINITY, |optimizer| optimizer.lr);
            self.mistakes(&schedule_keys, schedule.check(budget.steps, lr));
        }
        if let Some(pretrain) = &pretrain {
            self.mistakes(&pretrain_keys, pretrain.check());
        }
        if let Some(analysis) = &analysis {
            self.mistakes(&analysis_keys, analysis.check());
        }
        let model = model.filter(|model| {
            let found = model.check();
            let well = found.is_empty();
            self.mistakes(&model_keys, found);
            well
        });
        let outline = task_value.as_ref().map(|value| task_entry.outline(value));
        if let (Some(analysis), Some(outline)) = (&analysis, &outline) {
            self.mistakes(&analysis_keys, analysis.check_task(outline.output, outline.causal));
        }
        if let (Some(model), Some(outline), Some(mixer_value)) = (&model, &outline, &mixer_value) {
            let clm = pretrain.as_ref().is_some_and(|p| p.objective == Objective::Clm);
            self.mistakes(&model_keys, model.check_task(outline));
            let dims = model.resolved().dims(outline.max_length, outline.causal || clm);
            let as_the_task = mixer_entry.check(mixer_value, &mixers::Dims { causal: outline.causal, ..dims });
            for e in mixer_entry.check(mixer_value, &dims) {
                // The task alone would be fine with it: then the objective is to blame.
                if !as_the_task.contains(&e) {
                    let place = pretrain_keys.place_of("objective").unwrap_or(Place::Whole);
                    self.found.error(place, needs_causal(&e, mixer, task), without_clm(&e, mixer, over));
                    continue;
                }
                let place = place_of(&e.problem, e.key, &[&mixer_keys, &model_keys]);
                let help = if e.key != "d_model" && e.problem.contains("`d_model`") {
                    self.with_line(e.help, "d_model", &model_keys)
                } else {
                    e.help
                };
                self.found.error(place.unwrap_or_else(|| mixer.family_place.clone()), e.problem, help);
            }
            let told = pretrain.as_ref().is_some_and(|p| p.objective != Objective::None);
            if told && outline.input.width() > 1 {
                let problem =
                    format!("`{}` has vectors of real numbers, which self-pretraining cannot tell", task.label);
                let place = pretrain_keys.place_of("objective").unwrap_or(Place::Whole);
                self.found.error(place, problem, "put `pretrain: none` into the task's entry");
            }
            self.mistakes(&model_keys, model.check_pooling(outline, clm));
        }
        let (model, optimizer, schedule, budget) = (model?.resolved(), optimizer?, schedule?, budget?);
        let pretrain = pretrain?.resolved(outline?.input, &optimizer, &schedule, budget.steps);
        let (task_value, mixer_value, analysis) = (task_value?, mixer_value?, analysis?.resolved());
        (self.found.len() == before).then(|| Draft {
            mixer_label: mixer.label.clone(),
            task_label: task.label.clone(),
            settings: Vec::new(),
            task: Choice { name: task.family.clone(), settings: task_value },
            mixer: Choice { name: mixer.family.clone(), settings: mixer_value },
            model,
            optimizer,
            schedule,
            budget,
            pretrain,
            analysis,
            reference_parameters: mixer.reference_parameters,
            start: None,
            seed: 0,
            published: None,
        })
    }

    /// Adds "on line 9" to a help text that speaks of a key set elsewhere.
    fn with_line(&self, help: String, key: &str, keys: &Layer) -> String {
        match keys.place_of(key) {
            Some(Place::File { line, .. }) => format!("{help} on line {line}"),
            _ => help,
        }
    }

    fn mistakes(&mut self, keys: &Layer, found: Vec<ConfigError>) {
        for m in found {
            self.found.error(keys.place_of(m.key).unwrap_or(Place::Whole), m.problem, m.help);
        }
    }

    /// A section's typed form, every field probed alone so that each mistake has its place.
    fn section<T: Default + Serialize + DeserializeOwned>(&mut self, name: &str, keys: &Layer) -> Option<T> {
        let mut defaults = serde_json::to_value(T::default()).expect("settings are plain data");
        // Keys added later are left out at their defaults, so that older runs keep their identities.
        for field in fields::of::<T>().iter().chain((name == "model").then_some(&"preset")) {
            let known = defaults.as_object_mut().expect("settings are a map");
            known.entry(*field).or_insert(Value::Null);
        }
        let value = self.settings(
            name,
            keys,
            defaults,
            |v| T::deserialize(v).map(drop),
            |v| T::deserialize(v).and_then(serde_json::to_value),
        )?;
        T::deserialize(&value).ok()
    }

    /// Settings with defaults filled in; `None` after a value of the wrong type. Unknown fields are reported and left out, so
    /// that the others can be judged.
    fn settings(
        &mut self,
        of: &str,
        keys: &Layer,
        defaults: Value,
        accepts: Accepts,
        resolve: fn(&Value) -> Result<Value, serde_json::Error>,
    ) -> Option<Value> {
        let mut mistyped = false;
        let fields = fields_of(&defaults, accepts);
        let fields: Vec<&str> = fields.iter().map(String::as_str).collect();
        let mut given = Map::new();
        for (key, node) in &keys.0 {
            if !fields.contains(&key.name.as_str()) {
                let problem = format!("unknown field `{}` of `{of}`", key.name);
                self.found.error(key.place.clone(), problem, suggest(&key.name, &fields, "fields"));
                continue;
            }
            let value = node.to_json();
            let alone = Value::Object(Map::from_iter([(key.name.clone(), value.clone())]));
            match accepts(&alone) {
                Ok(()) => drop(given.insert(key.name.clone(), value)),
                Err(error) => {
                    mistyped = true;
                    let (problem, help) = explain(&key.name, node, &defaults[&key.name], &error.to_string(), accepts);
                    self.found.error(blamed(node, &problem), problem, help);
                }
            }
        }
        if mistyped {
            return None;
        }
        match resolve(&Value::Object(given)) {
            Ok(value) => Some(value),
            Err(error) => {
                self.found.error(Place::Whole, format!("`{of}`: {error}"), "");
                None
            }
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
        }
    }

    fn runs_on(&self, task_label: &str) -> bool {
        self.only_tasks.as_ref().is_none_or(|only| only.iter().any(|n| n.as_str() == Some(task_label)))
    }
}

/// Where a mistake stands: at its key, or at another key that its text names and the user wrote.
fn place_of(problem: &str, key: &str, layers: &[&Layer]) -> Option<Place> {
    let named = std::iter::once(key).chain(problem.split('`').skip(1).step_by(2));
    named.flat_map(|key| layers.iter().map(move |layer| layer.place_of(key))).flatten().next()
}

/// Where a mistake inside a value stands: at the key in it that the text names, else at the value.
fn blamed(node: &Node, problem: &str) -> Place {
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

/// `pretrain: mlm` as the section with that objective.
fn objective_alone(node: &Node) -> (Key, Node) {
    (Key { name: "objective".into(), place: node.place.clone() }, node.clone())
}

/// A dotted path; `pretrain` alone means its objective.
fn path(text: &str) -> Vec<String> {
    let text = if text == "pretrain" { "pretrain.objective" } else { text };
    text.split('.').map(str::to_owned).collect()
}

fn needs_causal(e: &mixers::ConfigError, mixer: &Entry, task: &Entry) -> String {
    let why = e.problem.replace(", but the task is causal", "");
    let entry = format!("`{}` on `{}`", mixer.label, task.label);
    format!("`objective` is clm, for which mixers are made causal, but {entry} cannot be: {why}")
}

fn without_clm(e: &mixers::ConfigError, mixer: &Entry, over: &[&Setting]) -> String {
    let other = if e.key == mixer.family { String::new() } else { format!(", or change its `{}`", e.key) };
    match over.iter().any(|s| s.path == ["pretrain", "objective"]) {
        true => format!("take clm out of the values here, or `{}` out of the config{other}", mixer.label),
        false => format!("put `pretrain: mlm` or `pretrain: none` into the entry of `{}`{other}", mixer.label),
    }
}

/// Whether two entries limited to tasks share one.
fn overlap(a: &Entry, b: &Entry) -> bool {
    let labels = |e: &Entry| -> Vec<String> {
        e.only_tasks.iter().flatten().filter_map(|n| n.as_str().map(str::to_owned)).collect()
    };
    labels(a).iter().any(|l| labels(b).contains(l))
}

fn as_entries<'a, 'b: 'a>(settings: impl Iterator<Item = &'a &'b Setting>) -> Vec<(Key, Node)> {
    settings
        .map(|s| {
            let name = s.path.last().expect("a path has parts").clone();
            (Key { name, place: s.key_place.clone() }, s.value.clone())
        })
        .collect()
}

/// Every combination of one value per axis; one empty combination without axes.
fn points(axes: &[Vec<Setting>]) -> Vec<Vec<&Setting>> {
    axes.iter().fold(vec![Vec::new()], |points, axis| {
        points
            .iter()
            .flat_map(|p| axis.iter().map(move |s| [p.as_slice(), std::slice::from_ref(&s)].concat()))
            .collect()
    })
}

/// `a`, `b` and 3 more
fn quoted(names: &[&str]) -> String {
    const SHOWN: usize = 4;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

/// Why a path of the grid or of `--set` is none, and which there are.
fn nowhere(path: &[&str]) -> (String, String) {
    const PATHS: &str = "paths are model.KEY, optimizer.KEY, schedule.KEY, budget.KEY, pretrain.KEY, analysis.KEY, task.NAME.KEY and \
                         mixer.NAME.KEY (NAME as used in this config), and seeds for --set";
    let shown = path.join(".");
    match *path {
        [section] if SECTIONS.contains(&section) => {
            return (
                format!("`{section}` is a section of settings, not one"),
                format!("name one of its keys: {section}.KEY"),
            );
        }
        ["grid", ref rest @ ..] => {
            let axis = if rest.is_empty() { "optimizer.lr".into() } else { rest.join(".") };
            let problem = "the grid is not set from the command line".into();
            return (
                problem,
                format!("--set {axis}=VALUE takes the place of the axis; more values go into the file's `grid`"),
            );
        }
        [kind @ ("task" | "mixer"), name, key, _, ..] => {
            let problem = format!("`{shown}` goes deeper than a path can");
            return (problem, format!("set `{key}` as a whole: '{kind}.{name}.{key}={{ … }}'"));
        }
        [section, key, _, ..] if SECTIONS.contains(&section) => {
            return (format!("`{shown}` goes deeper than a path can"), format!("set `{section}.{key}` as a whole"));
        }
        _ => {}
    }
    let known = [&SECTIONS[..], &["task", "mixer", "seeds"]].concat();
    let first = path.first().copied().unwrap_or_default();
    let near = if known.contains(&first) { String::new() } else { suggest(first, &known, "") };
    let near = near.split_once('?').map_or(String::new(), |(start, _)| format!("{start}? "));
    (format!("`{shown}` leads nowhere"), near + PATHS)
}

/// What is to be said of a `--set` that entries of the config have values of their own for: it wins over those too.
fn overruled(set: &Setting, tasks: &[Entry], mixers: &[Entry]) -> Option<String> {
    let (key, all): (_, Vec<&Entry>) = match &set.path[..] {
        [section, key] => {
            let at = SECTIONS.iter().position(|name| name == section)?;
            let has = |entry: &&Entry| entry.sections[at].place_of(key).is_some();
            (key, tasks.iter().chain(mixers).filter(has).collect())
        }
        [kind, family, key] => {
            let entries = if kind == "task" { tasks } else { mixers };
            let has = |entry: &&Entry| entry.family == *family && entry.settings.place_of(key).is_some();
            (key, entries.iter().filter(has).collect())
        }
        _ => return None,
    };
    let labels: Vec<&str> = all.iter().map(|entry| entry.label.as_str()).collect();
    let path = set.path.join(".");
    (!labels.is_empty()).then(|| format!("--set {path} also replaces `{key}` in the entries of {}", quoted(&labels)))
}

/// What is to be said of a `--set` of a path that the grid sweeps.
fn replaced_axis(set: &Setting, axes: &[Vec<Setting>]) -> Option<String> {
    let path = set.path.join(".");
    let value = plain(&set.value.to_json());
    let swept = axes.iter().any(|axis| axis.first().is_some_and(|of| of.path == set.path));
    swept.then(|| {
        format!("--set {path} replaces the axis `{path}` of the grid: every run has {value}, none is labelled with it")
    })
}

/// The published numbers beside a run: the task is told by its family and size unless its entry says otherwise, the model
/// by the mixer's entry or else the top of the file.
fn beside(task: &Entry, mixer: &Entry, top: Option<&str>, choice: &Choice) -> Option<Beside> {
    let own = published::task_of(&choice.name, &choice.settings);
    let name = match &task.published {
        Some(said) => said.clone()?,
        None => own?.into(),
    };
    let model = match &mixer.published {
        Some(said) => said.clone(),
        None => top.map(str::to_owned),
    };
    Some(Beside { stand_in: own != Some(&name), task: name, model })
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

/// A scalar as a person would write it.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether a family or section takes these settings: serde's check, without their meaning.
type Accepts = fn(&Value) -> Result<(), serde_json::Error>;

/// Names of a family's settings. The JSON of its defaults may leave some out, so serde is asked, whose message about an unknown
/// key lists them all.
fn fields_of(defaults: &Value, accepts: Accepts) -> Vec<String> {
    const NO_FIELD: &str = "\0";
    let message = accepts(&serde_json::json!({ NO_FIELD: null })).err().map_or(String::new(), |e| e.to_string());
    let listed = message.split_once("expected").map_or("", |(_, listed)| listed);
    let named: Vec<String> = listed.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let written = defaults.as_object().expect("settings are a map").keys();
    if written.clone().all(|key| named.contains(key)) { named } else { written.cloned().collect() }
}

/// Why an item under `figures` is none, and what to write: the figures there are, or the fields of the one that is named.
fn no_such_figure(item: &Node, error: &str, help: &str) -> (String, String) {
    let names: Vec<&str> = error.split('`').skip(1).step_by(2).collect();
    let word = match &item.data {
        Data::Map(entries) => entries.first().map(|(key, _)| key.name.as_str()),
        _ => item.as_str(),
    };
    match (word, names.split_first()) {
        (_, Some((field, fields))) if error.contains("unknown field") => {
            (format!("unknown field `{field}` in `{}`", word.unwrap_or("figures")), suggest(field, fields, "fields"))
        }
        (Some(word), Some((_, kinds))) if error.contains("unknown variant") => {
            (format!("there is no figure `{word}`"), format!("{}; {help}", suggest(word, kinds, "figures")))
        }
        (Some(word), _) if item.as_str().is_some() => {
            (format!("figure `{word}` has no settings here"), help.to_owned())
        }
        (Some(word), _) => (format!("figure `{word}` cannot be read: {error}"), help.to_owned()),
        _ => (format!("a figure is {}, expected one name with its settings", item.describe()), help.to_owned()),
    }
}

/// Serde's complaint about one field, in a user's words. `accepts` is asked what else the field could be.
pub fn explain(key: &str, node: &Node, default: &Value, error: &str, accepts: Accepts) -> (String, String) {
    let shown = node.describe();
    let default_text = match default {
        Value::Null => String::new(),
        value => format!("; the default is `{}`", plain(value)),
    };
    let named = |error: &str| -> Vec<String> { error.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let near = |words: &[String], word: &str, plural: &str| {
        suggest(word, &words.iter().map(String::as_str).collect::<Vec<_>>(), plural)
    };
    if error.contains("unknown field") {
        let words = named(error);
        let (word, words) = words.split_first().map_or(("", &[][..]), |(word, words)| (word.as_str(), words));
        return (format!("unknown field `{word}` in `{key}`"), near(words, word, "fields"));
    }
    if error.contains("missing field") {
        let field = named(error).concat();
        return (format!("`{key}` lacks `{field}`"), format!("add `{field}` to it"));
    }
    // A word where one of several is expected, or a mapping of one key, its name: both ways of writing it are tried.
    let ask = |value: Value| accepts(&Value::Object(Map::from_iter([(key.to_owned(), value)])));
    let nonsense =
        ask(Value::from("\u{1}")).err().map(|error| error.to_string()).filter(|e| e.contains("unknown variant"));
    if let Some(words) = nonsense.map(|error| named(&error)[1..].to_vec()) {
        let form = |word: &String| match ask(Value::from(word.as_str())) {
            Ok(()) => format!("`{word}`"),
            Err(_) => format!("`{{ {word}: {{}} }}`"),
        };
        let chosen = match &node.data {
            Data::Map(entries) => entries.first().map(|(key, _)| key.name.as_str()),
            _ => node.as_str(),
        };
        let forms: Vec<String> = words.iter().map(form).collect();
        let plain_words = forms.iter().all(|form| !form.contains('{'));
        let known = chosen.and_then(|chosen| words.iter().position(|word| word == chosen));
        let inside = known.is_some_and(|at| forms[at].contains('{')) && node.as_map().is_some_and(|map| map.len() == 1);
        match known {
            // One of the forms as it should be: the mistake is further in.
            Some(_) if inside => {}
            Some(at) => {
                let problem = format!("`{key}` is {shown}, but `{}` is not written so", words[at]);
                let form = forms[at].trim_matches('`');
                return (problem, format!("write `{key}: {form}`; its forms are {}", forms.join(", ")));
            }
            None if plain_words => {
                let problem = format!("`{key}` is {shown}, which is not one of its words");
                return (problem, format!("{}{default_text}", near(&words, chosen.unwrap_or_default(), "words")));
            }
            None => {
                let meant = near(&words, chosen.unwrap_or_default(), "");
                let meant = meant.split_once('?').map_or(String::new(), |(start, _)| format!("{start}? "));
                let problem = format!("`{key}` is {shown}, which is none of its forms");
                return (problem, format!("{meant}its forms are {}", forms.join(", ")));
            }
        }
    }
    let expected = error.rsplit("expected ").next().unwrap_or_default().trim();
    let kind = match expected {
        e if e.starts_with('u') && e[1..].parse::<u8>().is_ok() || e == "usize" => "a whole number, 0 or more",
        e if e.starts_with('i') && e[1..].parse::<u8>().is_ok() => "a whole number",
        "f64" | "f32" => "a number",
        "a boolean" => "true or false",
        "a string" => "text",
        other => other,
    };
    let got = error.split_once(", expected ").and_then(|(got, _)| got.strip_prefix("invalid type: "));
    match got.filter(|got| {
        node.as_str().is_none() && !matches!(node.data, Data::Scalar(_)) && !["map", "sequence"].contains(got)
    }) {
        Some(got) => (format!("{got} in `{key}`, where {kind} is expected"), format!("write {kind} there")),
        None => (format!("`{key}` is {shown}, expected {kind}"), format!("write {kind}{default_text}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, sets: &[&str]) -> Result<Config, Diagnostics> {
        let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
        Config::parse(text, "x.yaml", "x", &sets, &Registry::default())
    }

    const BASE: &str = "tasks: [mqar: { causal: false }]\nmixers:\n  - attention\n";

    /// Combiner's `d_head` is left out of its JSON at its default, so that older runs keep their identity.
    #[test]
    fn a_setting_that_json_leaves_out_at_its_default_can_be_written() {
        let registry = Registry::default();
        for entry in mixers::registry() {
            let defaults = (entry.defaults)();
            let fields = fields_of(&defaults, entry.accepts);
            assert!(defaults.as_object().unwrap().keys().all(|key| fields.contains(key)), "{}: {fields:?}", entry.name);
        }
        for entry in tasks::registry() {
            let defaults = (entry.defaults)();
            let fields = fields_of(&defaults, entry.accepts);
            assert!(defaults.as_object().unwrap().keys().all(|key| fields.contains(key)), "{}: {fields:?}", entry.name);
        }
        let text = |key: &str| {
            format!(
                "tasks: [mqar: {{ vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false }}]\n\
                 model: {{ d_model: 16 }}\nmixers: [combiner: {{ {key}: 5, n_heads: 2 }}]\n"
            )
        };
        let parse = |key: &str| Config::parse(&text(key), "x.yaml", "x", &[], &registry);
        let config = parse("d_head").unwrap_or_else(|e| panic!("{}", e.render()));
        assert_eq!(config.runs[0].mixer.settings["d_head"], 5);
        assert!(parse("d_hed").unwrap_err().render().contains("did you mean `d_head`?"));
    }

    #[test]
    fn sections_are_laid_over_each_other_and_the_command_line_wins() {
        let text = "\
optimizer: { lr: 1, weight_decay: 1 }
tasks:
  - task: mqar
    optimizer: { lr: 2 }
mixers:
  - attention
  - mixer: combiner
    optimizer: { lr: 3 }
";
        let lrs = |c: Config| c.runs.iter().map(|r| (r.optimizer.lr, r.optimizer.weight_decay)).collect::<Vec<_>>();
        assert_eq!(lrs(parse(text, &[]).unwrap()), [(2.0, 1.0), (3.0, 1.0)]);
        assert_eq!(lrs(parse(text, &["optimizer.lr=4"]).unwrap()), [(4.0, 1.0), (4.0, 1.0)]);
    }

    #[test]
    fn a_grid_is_the_product_of_its_axes_and_of_the_seeds() {
        let text =
            format!("{BASE}seeds: [3, 5]\ngrid: {{ optimizer.lr: [1e-3, 1e-2], mixer.attention.n_heads: [1, 2] }}\n");
        let config = parse(&text, &[]).unwrap();
        assert_eq!(config.runs.len(), 8);
        assert_eq!(
            config.runs[2].settings,
            [("optimizer.lr".into(), "0.001".to_string()), ("mixer.attention.n_heads".into(), "2".into())]
        );
        assert_eq!(config.runs[2].mixer.settings["n_heads"], 2);
        assert_eq!(config.runs.iter().map(|r| r.seed).collect::<Vec<_>>(), [3, 5, 3, 5, 3, 5, 3, 5]);
    }

    #[test]
    fn a_task_may_have_a_grid_of_its_own_and_starts_from_the_point_that_it_shares() {
        let config = |first: &str, second: &str| {
            let task = "task: { mqar: { causal: false } }";
            format!(
                "seeds: 2\ngrid: {{ optimizer.lr: [1, 2] }}\ntasks:\n  - {{ name: a, {task}, {first} }}\n  \
                 - {{ name: b, {task}, start: a, {second} }}\nmixers: [attention]\n"
            )
        };
        let found = |first: &str, second: &str| -> Vec<(String, f64, f64, Option<f64>)> {
            let runs = parse(&config(first, second), &[]).unwrap().runs;
            let start = |draft: &Draft| match &draft.start {
                Some(Start::Run(first)) => Some(first.optimizer.lr),
                _ => None,
            };
            let of_seed_one = runs.iter().filter(|run| run.seed == 1);
            of_seed_one
                .map(|run| (run.task_label.clone(), run.optimizer.lr, run.optimizer.weight_decay, start(run)))
                .collect()
        };
        let run = |task: &str, lr: f64, decay: f64, start: Option<f64>| (task.to_string(), lr, decay, start);
        let (both, decay) = (Some(1.0), 0.01);
        assert_eq!(
            found("grid: null", "optimizer: {}"),
            [run("a", 1e-3, decay, None), run("b", 1.0, decay, Some(1e-3)), run("b", 2.0, decay, Some(1e-3))]
        );
        assert_eq!(
            found("grid: { optimizer.lr: [1] }", "grid: { optimizer.lr: [1], optimizer.weight_decay: [3, 4] }"),
            [run("a", 1.0, decay, None), run("b", 1.0, 3.0, both), run("b", 1.0, 4.0, both)]
        );
        let refused = parse(&config("optimizer: {}", "grid: { optimizer.weight_decay: [3] }"), &[]).unwrap_err();
        let said = refused.lines().concat();
        assert!(said.contains("`a` is swept over `optimizer.lr` and `b` not over the same values"), "{said}");
        assert!(
            parse(&config("grid: 3", ""), &[]).unwrap_err().lines()[0].contains("expected paths with their values")
        );
    }

    #[test]
    fn equal_settings_written_differently_resolve_to_equal_specs() {
        let a = parse(&format!("{BASE}optimizer: {{ lr: 1 }}\n"), &[]).unwrap();
        let b = parse(&format!("{BASE}optimizer: {{ lr: 1.0, beta1: 0.9 }}\nmodel: {{ d_ff: 512 }}\n"), &[]).unwrap();
        let id = |c: &Config| c.runs[0].spec(&Registry::default(), 1, None).id();
        assert_eq!(id(&a), id(&b));
    }

    #[test]
    fn what_does_not_change_a_number_does_not_change_the_identity() {
        let id = |sets: &[&str]| parse(BASE, sets).unwrap().runs[0].spec(&Registry::default(), 1, None).id();
        assert_eq!(id(&[]), id(&["budget.timeout_minutes=5", "budget.checkpoint_every=7"]));
        for change in [
            "budget.steps=7",
            "model.d_model=64",
            "seeds=[9]",
            "mixer.attention.bias=false",
            "task.mqar.kv_pairs=5",
            "optimizer.eps=1e-7",
        ] {
            assert_ne!(id(&[]), id(&[change]), "{change}");
        }
    }

    #[test]
    fn learning_from_scratch_is_one_spec_however_it_is_written() {
        let id =
            |text: &str| parse(&format!("{BASE}{text}"), &[]).unwrap().runs[0].spec(&Registry::default(), 1, None).id();
        let none = id("");
        for same in ["pretrain: none\n", "pretrain: { objective: none, steps: 7 }\n", "pretrain: { mask_rate: 0.3 }\n"]
        {
            assert_eq!(id(same), none, "{same}");
        }
        let mlm = id("pretrain: mlm\n");
        assert_eq!(id("pretrain: { objective: mlm, steps: 500, mask_rate: 0.15, lr: 1e-3 }\n"), mlm);
        assert_eq!(id("optimizer: { lr: 0.001 }\npretrain: { objective: mlm, lr: 0.001, warmup_steps: 0 }\n"), mlm);
        let clm = id("pretrain: clm\n");
        assert_eq!(id("pretrain: { objective: clm, mask_rate: 0.3 }\n"), clm, "clm hides nothing");
        let others = [
            none,
            mlm,
            clm,
            id("pretrain: { objective: mlm, steps: 7 }\n"),
            id("pretrain: { objective: mlm, lr: 1 }\n"),
        ];
        assert!(others.iter().enumerate().all(|(i, a)| others[..i].iter().all(|b| a != b)), "{others:?}");
    }

    #[test]
    fn pretraining_is_overridden_by_entries_swept_by_a_grid_and_set_on_the_command_line() {
        let text = "\
pretrain: { steps: 9 }
tasks: [{ task: { mqar: { causal: false } }, pretrain: mlm }]
mixers: [attention, { mixer: s4, pretrain: { steps: 5 } }]
";
        let found = |text: &str, sets: &[&str]| -> Vec<Option<(Objective, u64)>> {
            let config = parse(text, sets).unwrap();
            config.runs.iter().map(|r| r.pretrain.as_ref().map(|p| (p.objective, p.steps))).collect()
        };
        let mlm = |steps| Some((Objective::Mlm, steps));
        assert_eq!(found(text, &[]), [mlm(9), mlm(5)]);
        assert_eq!(found(text, &["pretrain=none"]), [None, None]);
        for path in ["pretrain", "pretrain.objective"] {
            let grid = format!("{text}grid: {{ {path}: [none, mlm, clm] }}\n");
            let clm = |steps| Some((Objective::Clm, steps));
            assert_eq!(found(&grid, &[]), [None, mlm(9), clm(9), None, mlm(5), clm(5)]);
            assert_eq!(parse(&grid, &[]).unwrap().runs[1].settings, [("pretrain.objective".into(), "mlm".to_string())]);
        }
    }

    #[test]
    fn a_cls_vector_that_can_read_nothing_is_refused() {
        let text = "tasks: [{ listops: {} }]\nmodel: { pooling: cls }\nmixers: [attention]\n";
        assert!(parse(text, &["pretrain=mlm"]).is_ok());
        let found = parse(text, &["pretrain=clm"]).unwrap_err().lines();
        assert!(found[0].starts_with("x.yaml:2:19: `pooling` is cls, but `objective: clm`"), "{found:#?}");
    }

    #[test]
    fn a_mixer_entry_may_be_limited_to_tasks_and_share_its_label() {
        let text = "\
tasks: [{ name: a, task: { mqar: { kv_pairs: 2 } } }, { name: b, task: mqar }]
mixers:
  - { name: m, tasks: a, mixer: attention }
  - { name: m, tasks: [b], mixer: combiner }
";
        let pairs: Vec<_> =
            parse(text, &[]).unwrap().runs.iter().map(|r| (r.task_label.clone(), r.mixer.name.clone())).collect();
        assert_eq!(pairs, [("a".to_string(), "attention".to_string()), ("b".into(), "combiner".into())]);
        let clash = text.replace("tasks: [b]", "tasks: [a, b]");
        assert!(parse(&clash, &[]).unwrap_err().lines()[0].contains("labelled `m`"));
        let unknown = text.replace("tasks: [b]", "tasks: [c]");
        assert!(parse(&unknown, &[]).unwrap_err().lines()[0].starts_with("x.yaml:4:24: no task is labelled `c`"));
    }

    #[test]
    fn several_mistakes_are_shown_at_once_in_the_order_of_the_file() {
        let text = "\
model: { d_model: 64, n_layer: 2 }
tasks: [mqar: { kv_pairs: 99, causal: false }]
mixers:
  - attention: { n_heads: 5, n_head: 2 }
  - atention
budget: { steps: 0, batch_size: abc }
optimizer: { lr: -1 }
seeds: []
";
        let lines = parse(text, &[]).unwrap_err().lines();
        let places: Vec<&str> = lines.iter().map(|l| l.split(": ").next().unwrap()).collect();
        assert_eq!(
            places,
            [
                "x.yaml:1:23",
                "x.yaml:2:27",
                "x.yaml:4:27",
                "x.yaml:4:30",
                "x.yaml:5:5",
                "x.yaml:6:33",
                "x.yaml:7:18",
                "x.yaml:8:8"
            ],
            "{lines:#?}"
        );
    }

    #[test]
    fn published_numbers_are_named_by_mixer_and_task_and_leave_the_identity_alone() {
        let text = "\
published: Transformer
tasks:
  - text: {}
  - { name: short, task: { mqar: { causal: false } }, published: Path-X }
  - { name: other, task: { text: {} }, published: ~ }
mixers:
  - attention
  - { mixer: s4, published: S4D-LegS }
  - { mixer: bigs, published: ~ }
";
        let config = parse(text, &[]).unwrap();
        let beside: Vec<_> = config.runs.iter().map(|run| run.published.clone()).collect();
        let cell = |task: &str, model: Option<&str>, stand_in| {
            Some(Beside { task: task.into(), model: model.map(str::to_owned), stand_in })
        };
        let models = [Some("Transformer"), Some("S4D-LegS"), None];
        assert_eq!(beside[..3], models.map(|model| cell("Text", model, false)));
        assert_eq!(beside[3..6], models.map(|model| cell("Path-X", model, true)));
        assert_eq!(beside[6..], [None, None, None]);
        let bare = parse(&text.replace("published: Transformer\n", ""), &[]).unwrap();
        let id = |config: &Config| config.runs[0].spec(&Registry::default(), 1, None).id();
        assert_eq!(id(&config), id(&bare));
    }

    #[test]
    fn a_model_without_published_numbers_is_named_with_its_neighbours() {
        let text = "\
published: [S4]
tasks: [{ task: { mqar: { causal: false } }, published: PathX }]
mixers:
  - { mixer: s4, published: s4d }
";
        let error = parse(text, &[]).unwrap_err();
        assert_eq!(
            error.lines(),
            [
                "x.yaml:1:12: `published` is a list, which is no model with published numbers",
                "x.yaml:2:57: `published` is `PathX`, which is no task with published numbers",
                "x.yaml:4:29: `published` is `s4d`, which is no model with published numbers",
            ]
        );
        let help = error.render();
        assert!(help.contains("nearest are `S4D`, `S4`, `S4D-Inv`, `S4D-Lin`; `mixarena list published`"), "{help}");
        assert!(help.contains("did you mean `Path-X`?"), "{help}");
    }

    #[test]
    fn a_value_set_for_every_run_takes_the_place_of_the_grid_s_axis_and_of_what_entries_say() {
        let text = format!(
            "{BASE}  - {{ mixer: combiner, optimizer: {{ lr: 3 }} }}\n\
             grid: {{ optimizer.lr: [1e-3, 1e-2], optimizer.eps: [1e-7, 1e-8] }}\n\
             figures: [{{ lines: {{ x: optimizer.lr }} }}, {{ lines: {{ x: optimizer.eps }} }}]\n"
        );
        assert_eq!(parse(&text, &[]).unwrap().runs.len(), 8);
        assert_eq!(parse(&text, &[]).unwrap().notes, [""; 0]);
        let config = parse(&text, &["optimizer.lr=0.1"]).unwrap();
        assert_eq!(config.runs.len(), 4, "one value is no axis");
        for run in &config.runs {
            assert_eq!(run.optimizer.lr, 0.1);
            let paths: Vec<&str> = run.settings.iter().map(|(path, _)| path.as_str()).collect();
            assert_eq!(paths, ["optimizer.eps"], "no run is labelled with a rate that it does not have");
        }
        assert_eq!(config.figures.len(), 1);
        let notes = config.notes.join("\n");
        assert!(
            notes.contains("--set optimizer.lr replaces the axis `optimizer.lr` of the grid: every run has 0.1"),
            "{notes}"
        );
        assert!(notes.contains("--set optimizer.lr also replaces `lr` in the entries of `combiner`"), "{notes}");
        assert!(notes.contains("figures over an axis that --set replaces are left out"), "{notes}");
        // The last of a key wins, also among seeds.
        let config = parse(&text, &["optimizer.lr=0.1", "seeds=2", "optimizer.lr=0.2", "seeds=[7]"]).unwrap();
        assert!(config.runs.iter().all(|run| run.optimizer.lr == 0.2 && run.seed == 7));
        assert_eq!(config.runs.len(), 4);
    }

    #[test]
    fn an_axis_is_replaced_wherever_it_stands_and_however_it_is_written() {
        let text = "\
pretrain: { steps: 9 }
tasks:
  - { name: a, task: { mqar: { causal: false } }, grid: { model.d_model: [8, 16], optimizer.lr: [1, 2] }, seeds: [5] }
  - { name: b, task: { mqar: { causal: false, kv_pairs: 2 } } }
mixers: [attention: { n_heads: 2 }]
grid: { pretrain: [none, mlm], mixer.attention.n_heads: [1, 2], task.mqar.kv_pairs: [2, 4] }
";
        let of = |sets: &[&str]| -> Vec<(String, Vec<String>)> {
            let runs = parse(text, sets).unwrap().runs;
            let label = |run: &Draft| run.settings.iter().map(|(path, value)| format!("{path}={value}")).collect();
            runs.iter().map(|run| (run.task_label.clone(), label(run))).collect()
        };
        assert_eq!(of(&[]).len(), 4 + 8);
        let sets = ["model.d_model=8", "pretrain=mlm", "mixer.attention.n_heads=1", "task.mqar.kv_pairs=2"];
        let left = of(&sets);
        let label =
            |task: &str, settings: &[&str]| (task.to_string(), settings.iter().map(|s| s.to_string()).collect());
        assert_eq!(left, [label("a", &["optimizer.lr=1"]), label("a", &["optimizer.lr=2"]), label("b", &[])]);
        let notes = parse(text, &["task.mqar.kv_pairs=2", "seeds=2"]).unwrap().notes.join("\n");
        assert!(notes.contains("also replaces `kv_pairs` in the entries of `b`"), "{notes}");
        assert!(notes.contains("--set seeds also replaces the seeds in the entries of `a`"), "{notes}");
        // Two names of one axis would label a run twice.
        let twice = text.replace("pretrain: [none, mlm]", "pretrain: [none], pretrain.objective: [mlm]");
        let found = parse(&twice, &[]).unwrap_err().lines();
        assert!(
            found[0].contains("`pretrain.objective` names the axis `pretrain.objective` a second time"),
            "{found:?}"
        );
    }

    #[test]
    fn what_cannot_be_set_says_what_can() {
        let help = |set: &str| parse(BASE, &[set]).unwrap_err().render();
        assert!(help("optimizer={lr: 0.1}").contains("name one of its keys: optimizer.KEY"));
        assert!(help("grid.optimizer.lr=[1]").contains("--set optimizer.lr=VALUE takes the place of the axis"));
        assert!(help("task.mqar.train_mixture.0=1").contains("set `train_mixture` as a whole"));
        assert!(help("optimizer.lr").contains("more of them each have a --set of their own"));
    }

    #[test]
    fn too_many_runs_are_refused_before_they_are_made() {
        let values: Vec<String> = (1..=1000).map(|n| n.to_string()).collect();
        let axis = values.join(", ");
        let text = format!(
            "{BASE}seeds: 2\ngrid: {{ optimizer.lr: [{axis}], optimizer.eps: [{axis}], budget.steps: [{axis}] }}\n"
        );
        // A billion points: nobody would wait for them.
        let found = parse(&text, &[]).unwrap_err();
        let said = found.render();
        assert!(
            said.contains("x.yaml:5:1: 2,000,000,000 runs are asked for (1 tasks, 1 mixers, 1,000,000,000 points of the grid, 2 seeds)")
                && said.contains("more than 10,000\n")
                && said.contains("--max-runs 2000000000"),
            "{said}"
        );
        let small = format!("{BASE}grid: {{ optimizer.lr: [1, 2, 3] }}\n");
        let within = |most| Config::parse_within(&small, "x.yaml", "x", &[], most, &Registry::default());
        assert_eq!(within(3).unwrap().runs.len(), 3);
        assert!(within(2).is_err());
        assert_eq!(parse(&text, &["optimizer.lr=1", "optimizer.eps=1", "seeds=1"]).unwrap().runs.len(), 1000);
    }

    #[test]
    fn many_entries_cost_as_much_each_as_few() {
        // A comparison of each with each would take minutes here: 30,000 labels are 450 million pairs in a debug build.
        let mixers: String = (0..30_000).map(|n| format!("  - {{ name: m{n}, mixer: gru }}\n")).collect();
        let text = format!("tasks: [mqar: {{ causal: false }}]\nmixers:\n{mixers}  - {{ name: m7, mixer: gru }}\n");
        let found = Config::parse_within(&text, "x.yaml", "x", &[], 10, &Registry::default()).unwrap_err().lines();
        assert!(found.iter().any(|line| line.contains("two mixers are labelled `m7`")), "{found:?}");
        assert!(found.iter().any(|line| line.contains("30,001 runs are asked for")), "{found:?}");
    }

    #[test]
    fn a_name_is_text_that_can_name_files_and_a_label_is_plain_text() {
        let of = |line: &str| parse(&format!("{BASE}{line}\n"), &[]).map(|config| config.name);
        assert_eq!(of("name: mine").unwrap(), "mine");
        assert_eq!(of("name: \"2024\"").unwrap(), "2024");
        for (line, said) in [
            ("name: 2024", "x.yaml:4:7: `name` is `2024`, expected text"),
            ("name: [a]", "x.yaml:4:7: `name` is a list, expected text"),
            ("name: true", "x.yaml:4:7: `name` is `true`, expected text"),
            ("name:", "`name` is nothing, expected text"),
            ("question: 7", "x.yaml:4:11: `question` is `7`, expected text"),
            ("name: -rf", "x.yaml:4:7: `name` is `-rf`, which begins with `-`"),
            ("name: ../evil", "x.yaml:4:7: `name` is `../evil`, which contains `/`"),
        ] {
            let found = of(line).unwrap_err().lines();
            assert_eq!(found.len(), 1, "{line}: {found:?}");
            assert!(found[0].contains(said), "{line}: {found:?}");
        }
        let long = of(&format!("name: {}", "x".repeat(101))).unwrap_err().lines();
        assert!(long[0].contains("has 101 characters"), "{long:?}");
        assert!(of("name: 2024").unwrap_err().render().contains("put it in quotes: `name: \"2024\"`"));
        let stem = Config::parse(BASE, "-x.yaml", "-x", &[], &Registry::default()).unwrap_err().render();
        assert!(stem.contains("the sweep is named after the file, `-x`"), "{stem}");
        let label = |label: &str| parse(&format!("{BASE}  - {{ name: {label}, mixer: gru }}\n"), &[]);
        assert!(label("S4 (diag)").is_ok());
        let found = label("\"\\e[31mred\"").unwrap_err();
        assert!(found.lines()[0].contains("`name` is `\\u{1b}[31mred`, which contains U+001B"), "{:?}", found.lines());
        for wrong in ["\"=1+1\"", "\"<b>\"", "\"a\\u202eb\"", "\"\""] {
            assert!(label(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_setting_of_several_forms_is_told_how_each_is_written() {
        let said = |tokenizer: &str| {
            let text = format!("tasks: [mlm: {{ tokenizer: {tokenizer} }}]\nmixers: [attention]\n");
            parse(&text, &[]).unwrap_err().render()
        };
        let forms = "its forms are `bytes`, `{ characters: {} }`, `{ wordpiece: {} }`, `{ bpe: {} }`, `{ file: {} }`";
        for (tokenizer, problem, help) in [
            (
                "characters",
                "x.yaml:1:27: `tokenizer` is `characters`, but `characters` is not written so",
                "write `tokenizer: { characters: {} }`",
            ),
            ("{ bytes: {} }", "`tokenizer` is a mapping, but `bytes` is not written so", "write `tokenizer: bytes`"),
            ("character", "`tokenizer` is `character`, which is none of its forms", "did you mean `characters`?"),
            ("3", "`tokenizer` is `3`, which is none of its forms", forms),
            ("[bpe]", "`tokenizer` is a list, which is none of its forms", forms),
            (
                "{ bpe: {}, bytes: {} }",
                "`tokenizer` is a mapping, but `bpe` is not written so",
                "write `tokenizer: { bpe: {} }`",
            ),
            ("{ bpes: {} }", "`tokenizer` is a mapping, which is none of its forms", "did you mean `bpe`?"),
        ] {
            let text = said(tokenizer);
            assert!(text.contains(problem) && text.contains(help) && text.contains(forms), "{tokenizer}: {text}");
        }
        // What is wrong further in is said as such, at its place.
        let inner = said("{ bpe: { vocab: 3 } }");
        assert!(
            inner.contains("x.yaml:1:36: unknown field `vocab` in `tokenizer`") && inner.contains("vocab_size"),
            "{inner}"
        );
        let inner = said("{ bpe: { vocab_size: many } }");
        assert!(
            inner.contains("string \"many\" in `tokenizer`, where a whole number, 0 or more is expected"),
            "{inner}"
        );
        assert!(said("{ file: {} }").contains("`tokenizer` lacks `path`"));
    }

    #[test]
    fn a_figure_that_is_none_is_told_which_there_are() {
        let said = |figures: &str| parse(&format!("{BASE}figures: {figures}\n"), &[]).unwrap_err().render();
        let all = "figures are lines, details, cells, profile, ranking";
        assert!(said("[bar]").contains("x.yaml:4:11: there is no figure `bar`") && said("[bar]").contains(all));
        assert!(said("[{ line: { x: model.d_model } }]").contains("did you mean `lines`?"));
        assert!(said("[lines]").contains("figure `lines` has no settings here"));
        let field = said("[{ details: { axes: length } }]");
        assert!(
            field.contains("x.yaml:4:24: unknown field `axes` in `details`") && field.contains("did you mean `axis`?"),
            "{field}"
        );
        assert!(said("[3]").contains("a figure is `3`, expected one name with its settings"));
    }
}
