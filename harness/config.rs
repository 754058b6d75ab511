//! A sweep's YAML, read into runs. Whatever the config decides is checked here, every mistake shown that can be seen.
//!
//! Sections (`model`, `optimizer`, `schedule`, `budget`, `pretrain`, `analysis`) are laid over each other: defaults, then the top of
//! the file, then the task's entry, then the mixer's entry, then the grid point, then `--set`. Each key keeps the place it came from.

mod ablate;
mod check;
pub(crate) mod draft;
mod entry;
mod expect;
mod explain;
mod extends;
mod figures;
mod grid;
mod joint;
mod layers;
pub(crate) mod matched;
pub(crate) mod origins;
pub(crate) mod presets;
mod published;
mod reader;
pub(crate) mod schema;
pub(crate) mod sections;
mod sets;
mod starts;
pub(crate) mod tune;
pub(crate) mod yaml;

pub use draft::{Draft, Start};
pub use explain::explain;
pub use matched::Matched;
pub(crate) use published::suggest_model;

use crate::base::diagnostics::{Diagnostics, Place};
use crate::base::names::{NAME_HELP, name_problem};
use crate::base::text::grouped;
use crate::registry::Registry;
use crate::train::spec::Choice;
use ablate::Ablate;
use check::Combination;
use entry::{Entry, StartKey};
use grid::Seeds;
use joint::{Joint, Point, points};
use layers::{Setting, quoted};
use origins::Origin;
use reader::Reader;
use results::published::Beside;
use results::{Ablation, Expectation, Figure};
use sections::Layers;
use sets::{overruled, replaced_axis};
use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use tune::{Cell, Tune};
use yaml::{Key, Node};

/// A sweep, read and checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Names the sweep's report folder.
    pub name: String,
    /// What it asks, printed above its table.
    pub question: String,
    /// Every run, in the order of the file: tasks, then mixers, then grid points, then seeds. Under `tune` with the first setting
    /// in place of the one that will be chosen.
    pub runs: Vec<Draft>,
    /// What is searched before the runs.
    pub tune: Option<Tune>,
    /// What its scores must be.
    pub expect: Vec<Expectation>,
    /// How alike its models must be in size.
    pub matched: Option<Matched>,
    /// Which of its entries are changes to another one.
    pub ablation: Option<Ablation>,
    /// What is drawn besides scores and learning curves.
    pub figures: Vec<Figure>,
    /// What `--set` did besides setting: which entries it overrules, which axes of the grid it replaces.
    pub notes: Vec<String>,
}

/// Runs that a config may ask for unless `--max-runs` says otherwise. The largest of this project's own has some hundreds.
pub const MOST_RUNS: u64 = 10_000;

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
        let root = extends::whole(text, source, &mut found);
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

/// The top of a file: its keys and their values.
#[derive(Clone, Copy)]
struct Top<'a>(&'a [(Key, Node)]);

impl<'a> Top<'a> {
    fn entry(self, name: &str) -> Option<&'a (Key, Node)> {
        self.0.iter().find(|(key, _)| key.name == name)
    }

    fn get(self, name: &str) -> Option<&'a Node> {
        self.entry(name).map(|(_, node)| node)
    }
}

/// What is run: every combination of these is one run.
struct Product {
    base: Layers,
    tasks: Vec<Entry>,
    mixers: Vec<Entry>,
    axes: Vec<Vec<Setting>>,
    joint: Vec<Joint>,
    sets: Vec<Setting>,
    seeds: Seeds,
    published: Option<String>,
    tune: Option<tune::Written>,
    ablate: Option<Ablate>,
}

impl Reader<'_> {
    fn config(&mut self, root: &Node, stem: &str, sets: &[String], most: u64) -> Option<Config> {
        let keys = schema::top_keys();
        let Some(top) = root.as_map().map(Top) else {
            self.found.error(
                root.place.clone(),
                format!("a config is a mapping, not {}", root.describe()),
                format!("keys are {}", keys.join(", ")),
            );
            return None;
        };
        self.known_keys(top.0, &keys, "the config", "keys");
        let mut product = self.product(top);
        let (written, drawable) = (product.all_axes(), product.labels());
        let mut notes = self.set(&mut product, sets);
        let axes = ["grid", "list", "random"].iter().find_map(|of| top.entry(of));
        let grid = axes.map(|(key, _)| &key.place);
        if self.too_many(grid, most, &product) {
            return None;
        }
        let (runs, cells) = self.runs(&product);
        let figures = top.get("figures").map(|node| self.figures_left(node, &drawable, &product, &mut notes));
        let sized: Vec<Draft> =
            if cells.is_empty() { runs.clone() } else { cells.iter().flat_map(Cell::kinds).collect() };
        let axes: Vec<&Setting> = written.iter().chain(product.tuned_axes()).filter_map(|axis| axis.first()).collect();
        if let Some(ablate) = &product.ablate {
            self.ablated_and_swept(ablate, &axes);
            self.changes_something(ablate, &runs);
        }
        let changed = product.ablate.iter().flat_map(Ablate::settings);
        let decided: Vec<&Setting> = axes.into_iter().chain(&product.sets).chain(changed).collect();
        let matched = top.entry("match").and_then(|(key, node)| self.matched(key, node, &sized, &decided));
        let tune = product.tune.as_ref().map(|tune| tune.over(cells));
        let sensitivities = tune.as_ref().map(Tune::figures).unwrap_or_default();
        let expect = self.expect(top.get("expect"), &product.tasks, &product.mixers);
        let name = self.sweep_name(top.entry("name"), stem);
        let question = self.text("question", top.entry("question")).unwrap_or_default();
        let figures = figures.unwrap_or_default().into_iter().chain(sensitivities).collect();
        let ablation = product.ablate.as_ref().map(Ablate::kept);
        Some(Config { name, question, runs, tune, expect, matched, ablation, figures, notes })
    }

    /// Everything under the keys of the file, `--set` apart.
    fn product(&mut self, top: Top) -> Product {
        let base = Layers::by_name(|name| top.get(name).map(|node| self.layer(name, node)).unwrap_or_default());
        // Checked even where no run comes of it, because every mixer or task is misspelt.
        let alone = self.with_preset(base.clone());
        let _ = self.sections(&alone);
        let task_names: Vec<&str> = self.registry.tasks.iter().map(|t| t.name).collect();
        let mixer_names: Vec<&str> = self.registry.mixers.iter().map(|m| m.name).collect();
        let tasks = self.entries(top.entry("tasks"), "tasks", "task", &task_names);
        let mut mixers = self.entries(top.entry("mixers"), "mixers", "mixer", &mixer_names);
        self.known_tasks(&mixers, &tasks);
        let ablate = self.ablate(top.entry("ablate"), &mut mixers);
        let seeds = self.seeds(top.get("seeds"));
        let published = top.get("published").and_then(|node| self.published(node, "mixer")).flatten();
        let axes = self.grid(top.get("grid"));
        let mut joint = self.lists(top.get("list"));
        joint.extend(self.random(top.entry("random")));
        let tune = self.tune(top.entry("tune"));
        Product { base, tasks, mixers, axes, joint, sets: Vec::new(), seeds, published, tune, ablate }
    }

    /// Applies the `--set` arguments; what they replace besides a value of the top of the file is returned as notes.
    fn set(&mut self, product: &mut Product, arguments: &[String]) -> Vec<String> {
        let (sets, seeds) = self.arguments(arguments);
        self.lead_somewhere(product, &sets);
        let (grid, tuned) = (product.grid_axes(), product.tuned_axes());
        // A task's own grid has these in its place.
        let beside_joint = product.axes.iter().chain(product.mixers.iter().flat_map(|mixer| &mixer.own_axes));
        self.swept_once(beside_joint, &product.joint);
        let mut notes: Vec<String> =
            sets.iter().filter_map(|set| overruled(set, &product.tasks, &product.mixers)).collect();
        let joint = product.joint.iter().map(|joint| (joint.of, joint.axes()));
        for (of, axes) in std::iter::once(("grid", grid)).chain(joint) {
            self.swept_and_tuned(&axes, of, tuned);
            notes.extend(sets.iter().filter_map(|set| replaced_axis(set, &axes, of)));
        }
        notes.extend(sets.iter().filter_map(|set| replaced_axis(set, tuned, "tune")));
        if let Some(seeds) = seeds {
            notes.extend(product.set_seeds(seeds));
        }
        // A value set for every run leaves nothing to sweep: the axis would only label runs with values that they do not have.
        let keep = |axis: &Vec<Setting>| axis.first().is_none_or(|of| sets.iter().all(|set| set.path != of.path));
        product.axes.retain(keep);
        product.tasks.iter_mut().filter_map(|task| task.grid.as_mut()).for_each(|grid| grid.retain(keep));
        product.mixers.iter_mut().for_each(|mixer| mixer.own_axes.retain(keep));
        let is_set = |of: &Setting| sets.iter().any(|set| set.path == of.path);
        product.joint.iter_mut().for_each(|joint| joint.without(is_set));
        product.joint.retain(|joint| !joint.items.is_empty());
        if let Some(tune) = &mut product.tune {
            tune.axes.retain(keep);
        }
        product.tune.take_if(|tune| tune.axes.is_empty());
        product.sets = sets;
        notes
    }

    /// Every path of the grid, of other axes and of `--set` leads somewhere, and an entry's own axis into that entry.
    fn lead_somewhere(&mut self, product: &Product, sets: &[Setting]) {
        let (tasks, mixers) = (&product.tasks, &product.mixers);
        let own = |entry: &Entry| entry.grid.iter().flatten().chain(&entry.own_axes).flatten().cloned().collect();
        for (entry, kind) in tasks.iter().map(|task| (task, "task")).chain(mixers.iter().map(|mixer| (mixer, "mixer")))
        {
            let axes: Vec<Setting> = own(entry);
            for setting in &axes {
                if self.of_the_entry(setting, entry, kind) {
                    self.reachable(setting, tasks, mixers);
                }
            }
        }
        let joint: Vec<Setting> = product.joint_axes().into_iter().flatten().collect();
        let tuned = product.tuned_axes().iter().flatten();
        for setting in product.axes.iter().flatten().chain(&joint).chain(tuned).chain(sets) {
            self.reachable(setting, tasks, mixers);
        }
    }

    /// Whether the config asks for more runs than `most`, which is then said. Nothing was expanded yet.
    fn too_many(&mut self, grid: Option<&Place>, most: u64, product: &Product) -> bool {
        let runs = product.count();
        if runs <= u128::from(most) {
            return false;
        }
        let grown = |n: u128| grouped(u64::try_from(n).unwrap_or(u64::MAX));
        let problem = format!(
            "{} runs are asked for ({} tasks, {} mixers, {} points of the grid, {} seeds), more than {}",
            grown(runs),
            product.tasks.len(),
            product.mixers.len(),
            grown(count(product.axes.iter().map(Vec::len)).saturating_mul(product.joint_points())),
            product.seeds.values.len(),
            grown(most.into())
        );
        // More than the option can say is no limit to raise to.
        let raise =
            u64::try_from(runs).map_or(String::new(), |runs| format!(", or raise the limit: --max-runs {runs}"));
        let help = format!("take values, entries or seeds out{raise}");
        self.found.error(grid.cloned().unwrap_or(Place::Whole), problem, help);
        true
    }

    /// Every combination, checked, each with the run that it starts from; and under `tune` what is searched for each.
    fn runs(&mut self, product: &Product) -> (Vec<Draft>, Vec<Cell>) {
        let (mut runs, mut starts): (Vec<Draft>, Vec<Option<StartKey>>) = (Vec::new(), Vec::new());
        let mut cells = Vec::new();
        for task in &product.tasks {
            let seeds = task.seeds.as_ref().unwrap_or(&product.seeds);
            for mixer in product.mixers.iter().filter(|m| m.runs_on(&task.label)) {
                let start = task.start.as_ref().or(mixer.start.as_ref()).and_then(Option::as_ref);
                for point in product.points(task, mixer) {
                    let over: Vec<&Setting> = point.settings.iter().copied().chain(&product.sets).collect();
                    let cell = product.tune.as_ref().map(|tune| self.cell(tune, (task, mixer), &over, &product.base));
                    let draft = match &cell {
                        Some(cell) => cell.first().cloned(),
                        None => self.draft(&Combination { task, mixer, over: &over }, &product.base),
                    };
                    let Some(draft) = draft else { continue };
                    let own =
                        self.registry.task(&draft.task.name).and_then(|entry| entry.published(&draft.task.settings));
                    let published = beside(task, mixer, product.published.as_deref(), own);
                    let mut draft = Draft { settings: point.labels, published, ..draft };
                    if let Some(place) = &seeds.place {
                        Arc::make_mut(&mut draft.origins).insert("seed", Origin::Written(place.clone()));
                    }
                    cells.extend(cell.map(|cell| cell.labelled(&draft, start)));
                    runs.extend(seeds.values.iter().map(|&seed| Draft { seed, ..draft.clone() }));
                    starts.resize(runs.len(), start.cloned());
                }
            }
        }
        if product.tune.is_some() {
            self.tuned_starts(&starts);
        }
        if self.found.is_empty() {
            self.starts(&mut runs, &starts, &product.tasks);
        }
        (runs, cells)
    }

    /// The figures asked for, without those over an axis that `--set` replaced.
    fn figures_left(
        &mut self,
        node: &Node,
        written: &[String],
        product: &Product,
        notes: &mut Vec<String>,
    ) -> Vec<Figure> {
        let swept = product.labels();
        let has_axes = |figure: &Figure| figure.axes().all(|path| swept.iter().any(|known| known == path));
        let (left, gone): (Vec<Figure>, Vec<Figure>) = self.figures(node, written).into_iter().partition(has_axes);
        if !gone.is_empty() {
            notes.push("figures over an axis that --set replaces are left out".into());
        }
        left
    }

    /// `name`, or else the file's.
    fn sweep_name(&mut self, entry: Option<&(Key, Node)>, stem: &str) -> String {
        let written = self.text("name", entry);
        if entry.is_some() && written.is_none() {
            return stem.into();
        }
        let name = written.unwrap_or_else(|| stem.into());
        match (entry, name_problem(&name)) {
            (_, None) => {}
            (Some((_, node)), Some(why)) => {
                let problem = format!("`name` is {}, which {why}", node.describe());
                self.found.error(node.place.clone(), problem, NAME_HELP);
            }
            (None, Some(why)) => {
                let problem = format!("the sweep is named after the file, `{name}`, which {why}");
                let help = format!("rename the file, or write `name: ` with another at its top: {NAME_HELP}");
                self.found.error(Place::Whole, problem, help);
            }
        }
        name
    }
}

impl Product {
    /// The grid's axes, those of tasks' own grids and those of mixers' entries.
    fn grid_axes(&self) -> Vec<Vec<Setting>> {
        let tasks = self.tasks.iter().filter_map(|task| task.grid.as_ref()).flatten();
        let mixers = self.mixers.iter().flat_map(|mixer| &mixer.own_axes);
        self.axes.iter().chain(tasks).chain(mixers).cloned().collect()
    }

    /// Settings that vary together, by path.
    fn joint_axes(&self) -> Vec<Vec<Setting>> {
        self.joint.iter().flat_map(Joint::axes).collect()
    }

    fn tuned_axes(&self) -> &[Vec<Setting>] {
        self.tune.as_ref().map_or(&[], |tune| &tune.axes)
    }

    /// Everything that is swept.
    fn all_axes(&self) -> Vec<Vec<Setting>> {
        [self.grid_axes(), self.joint_axes()].concat()
    }

    /// What runs are labelled by: what a figure can be drawn along.
    fn labels(&self) -> Vec<String> {
        let grid = self.grid_axes().into_iter().filter_map(|axis| Some(axis.first()?.path.join(".")));
        grid.chain(self.joint.iter().flat_map(Joint::keys)).collect()
    }

    /// The axes of a mixer on a task: those that all share unless an entry has a grid in their place, and the mixer's own, which take
    /// the place of others over the same setting.
    fn axes_of<'a>(&'a self, task: &'a Entry, mixer: &'a Entry) -> (Vec<&'a [Setting]>, &'a [Joint]) {
        let (shared, joint) = match mixer.grid.as_ref().or(task.grid.as_ref()) {
            Some(own) => (own, &[][..]),
            None => (&self.axes, &self.joint[..]),
        };
        let mut axes: Vec<&[Setting]> = shared.iter().map(Vec::as_slice).collect();
        for own in &mixer.own_axes {
            match axes.iter_mut().find(|axis| axis[0].path == own[0].path) {
                Some(axis) => *axis = own,
                None => axes.push(own),
            }
        }
        (axes, joint)
    }

    fn points<'a>(&'a self, task: &'a Entry, mixer: &'a Entry) -> Vec<Point<'a>> {
        let (axes, joint) = self.axes_of(task, mixer);
        points(&axes, joint)
    }

    fn joint_points(&self) -> u128 {
        count(self.joint.iter().map(|joint| joint.items.len()))
    }

    /// Takes these seeds in place of the file's and of those of tasks' own. A task keeps its own where another task's `start` names
    /// one of them: without it, that run would be missing. The notes say which were replaced and which were kept.
    fn set_seeds(&mut self, seeds: Seeds) -> Vec<String> {
        let starts = self.tasks.iter().filter_map(|task| task.start.as_ref()?.as_ref()?.seed());
        let named: HashSet<(String, u64)> = starts.collect();
        let (mut kept, mut replaced) = (Vec::new(), Vec::new());
        for task in &mut self.tasks {
            let Some(own) = &task.seeds else { continue };
            if own.values.iter().any(|seed| named.contains(&(task.label.clone(), *seed))) {
                kept.push(task.label.as_str());
            } else {
                task.seeds = None;
                replaced.push(task.label.as_str());
            }
        }
        self.seeds = seeds;
        let note = |labels: &[&str], text: &str| (!labels.is_empty()).then(|| format!("{text} {}", quoted(labels)));
        let replaced = note(&replaced, "--set seeds also replaces the seeds in the entries of");
        let kept = note(&kept, "--set seeds leaves tasks their own seeds where others start from one of them:");
        replaced.into_iter().chain(kept).collect()
    }

    /// How many runs it comes to.
    fn count(&self) -> u128 {
        let searched = self.tune.as_ref().map_or(0, |tune| tune.runs());
        let of_task = |task: &Entry| {
            let seeds = task.seeds.as_ref().unwrap_or(&self.seeds).values.len() as u128;
            let points = |mixer: &Entry| {
                let (axes, joint) = self.axes_of(task, mixer);
                let joint = if joint.is_empty() { 1 } else { self.joint_points() };
                count(axes.iter().map(|axis| axis.len())).saturating_mul(joint)
            };
            let mixers = self.mixers.iter().filter(|mixer| mixer.runs_on(&task.label));
            let points = mixers.map(points).fold(0, u128::saturating_add);
            points.saturating_mul(seeds.saturating_add(searched))
        };
        self.tasks.iter().map(of_task).fold(0, u128::saturating_add)
    }
}

/// Points of axes of these lengths.
fn count(lengths: impl Iterator<Item = usize>) -> u128 {
    lengths.map(|length| length as u128).fold(1, u128::saturating_mul)
}

/// The published numbers that a run is compared with: those of the task that it is (`own`) unless its entry says otherwise, of
/// the model that the mixer's entry or else the top of the file names.
fn beside(task: &Entry, mixer: &Entry, top: Option<&str>, own: Option<&str>) -> Option<Beside> {
    let name = match &task.published {
        Some(said) => said.clone()?,
        None => own?.into(),
    };
    let model = match &mixer.published {
        Some(said) => said.clone(),
        None => top.map(str::to_owned),
    };
    Some(Beside { stand_in: own != Some(name.as_str()), task: name, model })
}

#[cfg(test)]
mod tests;
