//! Axes whose points set several keys at once: `list`, where they are written, and `random`, where they are drawn.
//!
//! ```yaml
//! list:                                        # two points
//!   - { name: quick, optimizer.lr: 1e-2, schedule.warmup_steps: 10 }
//!   - { name: slow, optimizer.lr: 1e-3, schedule.warmup_steps: 100 }
//! random:                                      # eight points, drawn from seed 0
//!   over: { optimizer.lr: { log_uniform: [1e-4, 1e-1] }, model.n_layers: { int_uniform: [1, 4] } }
//!   samples: 8
//!   seed: 0
//! ```
//! A random value depends on the seed, the path of its setting and how many were drawn before it for that path, and on nothing else:
//! more samples leave the first ones as they are, and another setting under `over` does not move the values of this one, unless a point
//! is drawn that was there before, which is drawn again.

use crate::base::diagnostics::suggest;
use crate::base::names::{LABEL_HELP, label_problem};
use crate::config::grid::{self, canonical};
use crate::config::layers::Setting;
use crate::config::reader::Reader;
use crate::config::yaml::{Data, Key, Node};
use serde_json::{Number, Value};
use std::collections::HashSet;
use std::ops::RangeInclusive;
use tasks::core::rng::{Purpose, Stream};

/// An axis of points that each set several keys.
#[derive(Clone, Debug)]
pub struct Joint {
    /// The key that it is written under.
    pub of: &'static str,
    /// What its points are called by, where they have names.
    pub name: String,
    /// Its points.
    pub items: Vec<Item>,
}

/// A point.
#[derive(Clone, Debug)]
pub struct Item {
    pub name: Option<String>,
    pub settings: Vec<Setting>,
}

/// What a random value is drawn from. Bounds are among the values.
#[derive(Clone, Debug)]
enum Distribution {
    Uniform(f64, f64),
    LogUniform(f64, f64),
    IntUniform(i64, i64),
    Choice(Vec<Node>),
}

const LIST_HELP: &str = "write `list: [{ optimizer.lr: 1e-2, schedule.warmup_steps: 10 }, { optimizer.lr: 1e-3, schedule.warmup_steps: 100 }]`";
const RANDOM_HELP: &str =
    "write `random: { over: { optimizer.lr: { log_uniform: [1e-4, 1e-1] } }, samples: 8, seed: 0 }`";
const DISTRIBUTIONS: [&str; 4] = ["uniform", "log_uniform", "int_uniform", "choice"];
/// Whole numbers up to here are floats too.
const EXACT: i64 = 1 << 53;
/// Draws in a row without a new point, for each point there is, until no more is looked for. Of n equally likely points the last one is
/// missed with probability (1 - 1/n)^(100 n), about e^-100.
const TRIES: usize = 100;

impl Joint {
    /// How the runs of a point are labelled: by its name, or by everything that it sets.
    pub fn labels(&self, item: &Item) -> Vec<(String, String)> {
        match &item.name {
            Some(name) => vec![(self.name.clone(), name.clone())],
            None => item.settings.iter().map(Setting::label).collect(),
        }
    }

    /// Its settings by path, as axes of the grid are.
    pub fn axes(&self) -> Vec<Vec<Setting>> {
        let mut axes: Vec<Vec<Setting>> = Vec::new();
        for setting in self.items.iter().flat_map(|item| &item.settings) {
            match axes.iter_mut().find(|axis| axis[0].path == setting.path) {
                Some(axis) => axis.push(setting.clone()),
                None => axes.push(vec![setting.clone()]),
            }
        }
        axes
    }

    /// First words of its labels.
    pub fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = Vec::new();
        for (key, _) in self.items.iter().flat_map(|item| self.labels(item)) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        keys
    }

    /// Without the settings of these paths, and without points that are then equal to others or set nothing.
    pub fn without(&mut self, gone: impl Fn(&Setting) -> bool) {
        let mut known = HashSet::new();
        self.items.iter_mut().for_each(|item| item.settings.retain(|setting| !gone(setting)));
        self.items.retain(|item| !item.settings.is_empty() && known.insert(item.canonical()));
    }
}

impl Item {
    /// Text that is equal for points that set the same.
    fn canonical(&self) -> String {
        let text = |setting: &Setting| format!("{}={}", setting.path.join("."), canonical(&setting.value.to_json()));
        let mut all: Vec<String> = self.settings.iter().map(text).collect();
        all.sort();
        all.join("\n")
    }
}

impl Reader<'_> {
    /// What stands under `list`: one list, or several by their names.
    pub(super) fn lists(&mut self, node: Option<&Node>) -> Vec<Joint> {
        let Some(node) = node else { return Vec::new() };
        match &node.data {
            Data::List(_) => self.list("list", node).into_iter().collect(),
            Data::Map(lists) if !lists.is_empty() => lists.iter().filter_map(|list| self.named_list(list)).collect(),
            _ => {
                let problem = format!("`list` is {}, expected settings that go together", node.describe_filling());
                self.found.error(node.place.clone(), problem, LIST_HELP);
                Vec::new()
            }
        }
    }

    fn named_list(&mut self, (key, node): &(Key, Node)) -> Option<Joint> {
        if key.name.contains('.') {
            let problem = format!("`{}` is a setting, and lists have plain names", key.name);
            let help = format!("an axis of one setting belongs under `grid`; {LIST_HELP}");
            self.found.error(key.place.clone(), problem, help);
            return None;
        }
        if let Some(why) = label_problem(&key.name) {
            let problem = format!("a list is called `{}`, which {why}", key.name.escape_debug());
            self.found.error(key.place.clone(), problem, LABEL_HELP);
        }
        self.list(&key.name, node)
    }

    fn list(&mut self, name: &str, node: &Node) -> Option<Joint> {
        let Some(items) = node.as_list().filter(|items| !items.is_empty()) else {
            let problem =
                format!("the list `{name}` is {}, expected settings that go together", node.describe_filling());
            self.found.error(node.place.clone(), problem, LIST_HELP);
            return None;
        };
        let items: Vec<(&Node, Item)> = items.iter().filter_map(|item| Some((item, self.item(name, item)?))).collect();
        let (mut names, mut points) = (HashSet::new(), HashSet::new());
        for (node, item) in &items {
            if item.name.as_ref().is_some_and(|name| !names.insert(name.clone())) {
                let problem = format!("two points of the list `{name}` have one name");
                self.found.error(node.place.clone(), problem, "give one of them another `name`");
            } else if !points.insert(item.canonical()) {
                let problem = format!("two points of the list `{name}` set the same");
                self.found.error(node.place.clone(), problem, "leave one of them out");
            }
        }
        if let Some((node, _)) = items.iter().find(|(_, item)| item.name.is_some() != items[0].1.name.is_some()) {
            let problem = format!("some points of the list `{name}` have a name and some have none");
            self.found.error(node.place.clone(), problem, "name all of them, or none: names are the words of a table");
        }
        let items: Vec<Item> = items.into_iter().map(|(_, item)| item).collect();
        (!items.is_empty()).then(|| Joint { of: "list", name: name.into(), items })
    }

    fn item(&mut self, list: &str, node: &Node) -> Option<Item> {
        let keys = node.as_map().unwrap_or_default();
        let settings: Vec<Setting> = keys.iter().filter(|(key, _)| key.name != "name").map(setting).collect();
        self.named_once(settings.iter());
        if settings.is_empty() {
            let what = if keys.is_empty() { node.describe_filling() } else { "a name".into() };
            let problem = format!("a point of the list `{list}` is {what}, expected settings with their values");
            self.found.error(node.place.clone(), problem, LIST_HELP);
            return None;
        }
        let name = keys.iter().find(|(key, _)| key.name == "name").and_then(|(_, node)| self.point_name(node));
        Some(Item { name, settings })
    }

    fn point_name(&mut self, node: &Node) -> Option<String> {
        let name = node.as_str();
        match name.map(label_problem) {
            None => {
                let problem = format!("`name` is {}, expected text", node.describe());
                self.found.error(node.place.clone(), problem, "put the name in quotes");
            }
            Some(Some(why)) => {
                let problem = format!("`name` is `{}`, which {why}", name.unwrap_or_default().escape_debug());
                self.found.error(node.place.clone(), problem, LABEL_HELP);
            }
            Some(None) => {}
        }
        name.map(str::to_owned)
    }

    /// What stands under `random`.
    pub(super) fn random(&mut self, entry: Option<&(Key, Node)>) -> Option<Joint> {
        let (key, node) = entry?;
        let Some(keys) = node.as_map() else {
            self.found.error(
                node.place.clone(),
                format!("`random` is {}, expected a mapping", node.describe()),
                RANDOM_HELP,
            );
            return None;
        };
        let before = self.found.len();
        self.known_keys(keys, &["over", "samples", "seed", "digits"], "`random`", "keys");
        let get = |name: &str| keys.iter().find(|(key, _)| key.name == name).map(|(_, node)| node);
        for name in ["over", "samples"] {
            if get(name).is_none() {
                self.found.error(key.place.clone(), format!("`random` has no `{name}`"), RANDOM_HELP);
            }
        }
        let samples = get("samples").and_then(|node| self.count("samples", node, 1..=10_000));
        let seed = get("seed").map_or(Some(0), |node| self.count("seed", node, 0..=u64::MAX));
        let digits = get("digits").map_or(Some(3), |node| self.count("digits", node, 1..=15));
        let over = get("over").map(|node| self.distributions(node));
        let (samples, seed, digits, over) = (samples?, seed?, digits? as usize, over?);
        if self.found.len() > before {
            return None;
        }
        let items = drawn(&over, samples, seed, digits);
        if (items.len() as u64) < samples {
            let problem =
                format!("`random` asks for {samples} points, and only {} different ones can be drawn", items.len());
            let help = format!("set `samples: {}`, widen a range, or keep more `digits`", items.len().max(1));
            self.found.error(key.place.clone(), problem, help);
        }
        Some(Joint { of: "random", name: "random".into(), items })
    }

    fn count(&mut self, name: &str, node: &Node, range: RangeInclusive<u64>) -> Option<u64> {
        let count = node.to_json().as_u64().filter(|count| range.contains(count));
        if count.is_none() {
            let (least, most) = range.into_inner();
            let expected = match most {
                u64::MAX => format!("a whole number, {least} or more"),
                most => format!("a whole number from {least} to {most}"),
            };
            let problem = format!("`{name}` is {}, expected {expected}", node.describe());
            self.found.error(node.place.clone(), problem, RANDOM_HELP);
        }
        count
    }

    /// What stands under `over`: settings and what they are drawn from.
    fn distributions(&mut self, node: &Node) -> Vec<(Setting, Distribution)> {
        let Some(axes) = node.as_map().filter(|axes| !axes.is_empty()) else {
            let problem =
                format!("`random.over` is {}, expected paths with their distributions", node.describe_filling());
            self.found.error(node.place.clone(), problem, RANDOM_HELP);
            return Vec::new();
        };
        let read = |axis: &(Key, Node)| Some((setting(axis), self.distribution(&axis.0.name, &axis.1)?));
        let axes: Vec<(Setting, Distribution)> = axes.iter().filter_map(read).collect();
        self.named_once(axes.iter().map(|(setting, _)| setting));
        axes
    }

    /// Two names of one path would set it twice.
    fn named_once<'b>(&mut self, settings: impl Iterator<Item = &'b Setting>) {
        let mut known = HashSet::new();
        for setting in settings.filter(|setting| !known.insert(setting.path.clone())) {
            let problem = format!("`{}` is set a second time", setting.path.join("."));
            self.found.error(setting.key_place.clone(), problem, "keep one of the two");
        }
    }

    fn distribution(&mut self, path: &str, node: &Node) -> Option<Distribution> {
        let known = DISTRIBUTIONS.join(", ");
        let Some([(key, values)]) = node.as_map() else {
            let problem = format!("`{path}` is {}, expected one distribution", node.describe_filling());
            self.found.error(
                node.place.clone(),
                problem,
                format!("write `{path}: {{ uniform: [0, 1] }}`; distributions are {known}"),
            );
            return None;
        };
        let list = values.as_list().unwrap_or_default();
        let numbers: Vec<f64> = list.iter().filter_map(|value| value.to_json().as_f64()).collect();
        let whole: Vec<i64> = list.iter().filter_map(|value| value.to_json().as_i64()).collect();
        let (kind, expected) = (key.name.as_str(), "expected two numbers, the smaller first");
        let (distribution, expected) = match (kind, &numbers[..], &whole[..]) {
            ("uniform", &[low, high], _) if low < high => (Some(Distribution::Uniform(low, high)), expected),
            ("log_uniform", &[low, high], _) if 0.0 < low && low < high => {
                (Some(Distribution::LogUniform(low, high)), expected)
            }
            ("int_uniform", _, &[low, high]) if low < high && low >= -EXACT && high <= EXACT => {
                (Some(Distribution::IntUniform(low, high)), expected)
            }
            ("choice", ..) if !list.is_empty() => (Some(Distribution::Choice(list.to_vec())), expected),
            ("uniform", ..) => (None, expected),
            ("log_uniform", ..) => (None, "expected two numbers above 0, the smaller first"),
            ("int_uniform", ..) => (None, "expected two whole numbers, the smaller first"),
            ("choice", ..) => (None, "expected a list of values"),
            _ => {
                let help = suggest(kind, &DISTRIBUTIONS, "distributions");
                self.found.error(key.place.clone(), format!("there is no distribution `{kind}`"), help);
                return None;
            }
        };
        // `low` and `high` of two numbers among more would be others than were meant.
        let distribution = distribution.filter(|of| matches!(of, Distribution::Choice(_)) || list.len() == 2);
        if distribution.is_none() {
            let problem = format!("`{kind}` is {}, {expected}", shown(values));
            let help = match kind {
                "choice" => format!("write `{path}: {{ choice: [a, b] }}`"),
                "int_uniform" => format!("write `{path}: {{ int_uniform: [1, 4] }}`, both ends included"),
                _ => format!("write `{path}: {{ {kind}: [1e-4, 1e-1] }}`"),
            };
            self.found.error(values.place.clone(), problem, help);
        }
        distribution
    }

    /// No setting is swept over twice.
    pub(super) fn swept_once<'b>(&mut self, grid: impl Iterator<Item = &'b Vec<Setting>>, joints: &[Joint]) {
        let mut known: Vec<(&[String], &str)> = grid.map(|axis| (&axis[0].path[..], "grid")).collect();
        let axes: Vec<(&Joint, Vec<Vec<Setting>>)> = joints.iter().map(|joint| (joint, joint.axes())).collect();
        for (joint, axis) in axes.iter().flat_map(|(joint, axes)| axes.iter().map(move |axis| (joint, &axis[0]))) {
            if let Some((_, other)) = known.iter().find(|(path, _)| *path == axis.path) {
                let problem = format!("`{}` is swept by `{other}` and by `{}`", axis.path.join("."), joint.name);
                self.found.error(axis.key_place.clone(), problem, "leave it in one of them");
            }
            known.push((&axis.path, &joint.name));
        }
    }
}

/// A key of a mapping as a setting.
fn setting((key, value): &(Key, Node)) -> Setting {
    Setting { path: grid::path(&key.name), key_place: key.place.clone(), value: value.clone() }
}

/// A short list as it is written.
fn shown(node: &Node) -> String {
    match node.as_list() {
        Some(list) if !list.is_empty() && list.len() < 5 => format!("`{}`", node.to_json()),
        _ => node.describe_filling(),
    }
}

/// Different points, `samples` of them, or as many as are found.
fn drawn(over: &[(Setting, Distribution)], samples: u64, seed: u64, digits: usize) -> Vec<Item> {
    let mut streams: Vec<Stream> =
        over.iter().map(|(axis, _)| Stream::new(seed, Purpose::AXIS, index(&axis.path))).collect();
    let (mut items, mut known, mut in_vain) = (Vec::new(), HashSet::new(), 0);
    while (items.len() as u64) < samples && in_vain < TRIES * (items.len() + 1) {
        in_vain += 1;
        let settings = over.iter().zip(&mut streams).map(|((axis, of), stream)| axis.drawn(of, stream, digits));
        let item = Item { name: None, settings: settings.collect() };
        if known.insert(item.canonical()) {
            items.push(item);
            in_vain = 0;
        }
    }
    items
}

/// Which stream a setting has.
fn index(path: &[String]) -> u64 {
    blake3::hash(path.join(".").as_bytes()).as_bytes()[..8].try_into().map_or(0, u64::from_le_bytes)
}

impl Setting {
    /// This setting with a value drawn.
    fn drawn(&self, of: &Distribution, stream: &mut Stream, digits: usize) -> Self {
        let value = match of {
            Distribution::Uniform(low, high) => float(stream.between(*low, *high), (*low, *high), digits),
            Distribution::LogUniform(low, high) => float(stream.log_between(*low, *high), (*low, *high), digits),
            Distribution::IntUniform(low, high) => Value::from(low + stream.below((high - low) as u64 + 1) as i64),
            Distribution::Choice(values) => {
                let value = values[stream.below(values.len() as u64) as usize].clone();
                return Self { value, ..self.clone() };
            }
        };
        Self { value: Node { place: self.value.place.clone(), data: Data::Scalar(value) }, ..self.clone() }
    }
}

/// A number to so many significant digits, between its bounds.
fn float(value: f64, (low, high): (f64, f64), digits: usize) -> Value {
    let rounded: f64 = format!("{value:.*e}", digits - 1).parse().unwrap_or(value);
    Number::from_f64(rounded.clamp(low, high)).map_or(Value::Null, Value::Number)
}

/// A point of the axes: what it sets, and how its runs are labelled.
#[derive(Clone, Debug, Default)]
pub struct Point<'a> {
    pub settings: Vec<&'a Setting>,
    pub labels: Vec<(String, String)>,
}

impl<'a> Point<'a> {
    fn with(&self, settings: impl Iterator<Item = &'a Setting>, labels: Vec<(String, String)>) -> Self {
        Self {
            settings: self.settings.iter().copied().chain(settings).collect(),
            labels: [self.labels.as_slice(), &labels].concat(),
        }
    }
}

/// Every combination of one value per axis; one empty combination without axes.
pub fn points<'a>(grid: &[&'a [Setting]], joints: &'a [Joint]) -> Vec<Point<'a>> {
    let one = |point: &Point<'a>, setting: &'a Setting| point.with(std::iter::once(setting), vec![setting.label()]);
    let points = grid.iter().fold(vec![Point::default()], |points, axis| {
        points.iter().flat_map(|point| axis.iter().map(move |setting| one(point, setting))).collect()
    });
    joints.iter().fold(points, |points, joint| {
        let with = |point: &Point<'a>| -> Vec<Point<'a>> {
            joint.items.iter().map(|item| point.with(item.settings.iter(), joint.labels(item))).collect()
        };
        points.iter().flat_map(with).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::registry::Registry;

    const BASE: &str = "tasks: [mqar: { causal: false }]\nmixers: [attention]\n";

    fn config(more: &str) -> Config {
        Config::parse(&format!("{BASE}{more}\n"), "x.yaml", "x", &[], &Registry::default())
            .unwrap_or_else(|e| panic!("{}", e.render()))
    }

    fn settings(more: &str) -> Vec<String> {
        let label = |run: &crate::config::Draft| -> String {
            run.settings.iter().map(|(key, value)| format!("{key}={value} ")).collect()
        };
        config(more).runs.iter().map(label).collect()
    }

    #[test]
    fn settings_of_a_list_vary_together_and_cross_the_grid() {
        let list = "list: [{ optimizer.lr: 1, budget.steps: 5 }, { optimizer.lr: 2, budget.steps: 6 }]\n";
        let all = config(&format!("{list}grid: {{ model.dropout: [0, 0.1] }}"));
        let values: Vec<(f64, u64, f64)> =
            all.runs.iter().map(|run| (run.optimizer.lr, run.budget.steps, run.model.dropout)).collect();
        assert_eq!(values, [(1.0, 5, 0.0), (2.0, 6, 0.0), (1.0, 5, 0.1), (2.0, 6, 0.1)]);
        assert_eq!(settings(list), ["optimizer.lr=1 budget.steps=5 ", "optimizer.lr=2 budget.steps=6 "]);
        let named = "list: { recipe: [{ name: a, optimizer.lr: 1 }, { name: b, optimizer.eps: 1e-7 }] }";
        assert_eq!(settings(named), ["recipe=a ", "recipe=b "]);
    }

    #[test]
    fn random_values_are_the_same_everywhere_and_depend_on_their_own_setting_alone() {
        let lr = "optimizer.lr: { log_uniform: [1e-4, 1e-1] }";
        let of = |over: &str, more: &str| settings(&format!("random: {{ over: {{ {over} }}, {more} }}"));
        // Pinned: these values are in the identities of runs.
        assert_eq!(of(lr, "samples: 3"), PINNED);
        assert_eq!(of(lr, "samples: 5")[..3], PINNED, "more samples leave the first as they are");
        let more = of(&format!("model.n_layers: {{ int_uniform: [1, 2] }}, {lr}"), "samples: 3");
        let rates: Vec<String> = more.iter().map(|all| all.split_once(' ').unwrap().1.to_owned()).collect();
        assert_eq!(rates, PINNED);
        assert_ne!(of(lr, "samples: 3, seed: 1"), PINNED);
        let short = of(lr, "samples: 3, digits: 1");
        assert!(
            short.iter().all(|label| label.matches(char::is_numeric).filter(|c| *c != "0").count() == 1),
            "{short:?}"
        );
    }

    const PINNED: [&str; 3] = ["optimizer.lr=0.00296 ", "optimizer.lr=0.000267 ", "optimizer.lr=0.000194 "];

    #[test]
    fn draws_lie_in_their_range_and_all_of_few_are_found() {
        let over = "optimizer.weight_decay: { uniform: [0.12345, 0.2] }, model.n_layers: { int_uniform: [1, 4] }, \
                    model.norm: { choice: [layer, rms] }";
        let all = config(&format!("random: {{ over: {{ {over} }}, samples: 60, digits: 2 }}"));
        assert_eq!(all.runs.len(), 60, "no point comes twice");
        for run in &all.runs {
            assert!((0.12345..=0.2).contains(&run.optimizer.weight_decay) && (1..=4).contains(&run.model.n_layers));
        }
        let kinds: HashSet<String> =
            all.runs.iter().map(|run| format!("{} {:?}", run.model.n_layers, run.model.norm)).collect();
        assert_eq!(kinds.len(), 8);
        assert_eq!(settings("random: { over: { model.n_layers: { int_uniform: [1, 9] } }, samples: 9 }").len(), 9);
    }

    #[test]
    fn the_logarithm_of_a_log_uniform_value_is_uniform() {
        let mut stream = Stream::new(0, Purpose::AXIS, 0);
        let logs: Vec<f64> = (0..10_000).map(|_| stream.log_between(1e-4, 1.0).log10()).collect();
        let mean = logs.iter().sum::<f64>() / 1e4;
        let variance = logs.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / 1e4;
        assert!((mean + 2.0).abs() < 0.05 && (variance - 16.0 / 12.0).abs() < 0.05, "{mean} {variance}");
    }

    #[test]
    fn a_value_set_for_every_run_leaves_the_axis() {
        let text = format!(
            "{BASE}list: [{{ optimizer.lr: 1, budget.steps: 5 }}, {{ optimizer.lr: 2, budget.steps: 5 }}, {{ optimizer.lr: 1, budget.steps: 6 }}]\n"
        );
        let config = Config::parse(&text, "x.yaml", "x", &["optimizer.lr=9".into()], &Registry::default()).unwrap();
        let labels: Vec<_> = config.runs.iter().map(|run| run.settings.clone()).collect();
        let step = |n: &str| vec![("budget.steps".to_owned(), n.to_owned())];
        assert_eq!(labels, [step("5"), step("6")], "equal points are one");
        let note = "--set optimizer.lr replaces the axis `optimizer.lr` of `list`: every run has 9";
        assert!(config.notes[0].contains(note), "{:?}", config.notes);
    }
}
