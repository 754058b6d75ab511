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
mod figures;
mod grid;
mod layers;
pub(crate) mod matched;
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
use grid::points;
use layers::{Setting, plain, quoted};
use reader::Reader;
use results::published::Beside;
use results::{Ablation, Expectation, Figure};
use sections::Layers;
use sets::{overruled, replaced_axis};
use std::collections::HashSet;
use std::path::Path;
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
    sets: Vec<Setting>,
    seeds: Vec<u64>,
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
        let written = product.all_axes();
        let mut notes = self.set(&mut product, sets);
        let grid = top.entry("grid").map(|(key, _)| &key.place);
        if self.too_many(grid, most, &product) {
            return None;
        }
        let (runs, cells) = self.runs(&product);
        let figures = top.get("figures").map(|node| self.figures_left(node, &written, &product, &mut notes));
        let sized: Vec<Draft> =
            if cells.is_empty() { runs.clone() } else { cells.iter().flat_map(Cell::kinds).collect() };
        let tuned = product.tune.as_ref().map_or(&[][..], |tune| &tune.axes);
        let axes: Vec<&Setting> = written.iter().chain(tuned).filter_map(|axis| axis.first()).collect();
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
        let tune = self.tune(top.entry("tune"));
        Product { base, tasks, mixers, axes, sets: Vec::new(), seeds, published, tune, ablate }
    }

    /// Applies the `--set` arguments; what they replace besides a value of the top of the file is returned as notes.
    fn set(&mut self, product: &mut Product, arguments: &[String]) -> Vec<String> {
        let (sets, seeds) = self.arguments(arguments);
        let written = product.all_axes();
        let tuned = product.tune.as_ref().map_or(&[][..], |tune| &tune.axes);
        for setting in written.iter().chain(tuned).flatten().chain(&sets) {
            self.reachable(setting, &product.tasks, &product.mixers);
        }
        self.swept_and_tuned(&written, tuned);
        let mut notes: Vec<String> =
            sets.iter().filter_map(|set| overruled(set, &product.tasks, &product.mixers)).collect();
        notes.extend(sets.iter().filter_map(|set| replaced_axis(set, &written, "grid")));
        notes.extend(sets.iter().filter_map(|set| replaced_axis(set, tuned, "tune")));
        if let Some(seeds) = seeds {
            notes.extend(product.set_seeds(seeds));
        }
        // A value set for every run leaves nothing to sweep: the axis would only label runs with values that they do not have.
        let keep = |axis: &Vec<Setting>| axis.first().is_none_or(|of| sets.iter().all(|set| set.path != of.path));
        product.axes.retain(keep);
        product.tasks.iter_mut().filter_map(|task| task.grid.as_mut()).for_each(|grid| grid.retain(keep));
        if let Some(tune) = &mut product.tune {
            tune.axes.retain(keep);
        }
        product.tune.take_if(|tune| tune.axes.is_empty());
        product.sets = sets;
        notes
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
            grown(count(&product.axes)),
            product.seeds.len(),
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
            let points = points(task.grid.as_ref().unwrap_or(&product.axes));
            for mixer in product.mixers.iter().filter(|m| m.runs_on(&task.label)) {
                let start = task.start.as_ref().or(mixer.start.as_ref()).and_then(Option::as_ref);
                for point in &points {
                    let over: Vec<&Setting> = point.iter().copied().chain(&product.sets).collect();
                    let cell = product.tune.as_ref().map(|tune| self.cell(tune, (task, mixer), &over, &product.base));
                    let draft = match &cell {
                        Some(cell) => cell.first().cloned(),
                        None => self.draft(&Combination { task, mixer, over: &over }, &product.base),
                    };
                    let Some(draft) = draft else { continue };
                    let settings = point.iter().map(|s| (s.path.join("."), plain(&s.value.to_json()))).collect();
                    let own =
                        self.registry.task(&draft.task.name).and_then(|entry| entry.published(&draft.task.settings));
                    let published = beside(task, mixer, product.published.as_deref(), own);
                    let draft = Draft { settings, published, ..draft };
                    cells.extend(cell.map(|cell| cell.labelled(&draft, start)));
                    runs.extend(seeds.iter().map(|&seed| Draft { seed, ..draft.clone() }));
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
        written: &[Vec<Setting>],
        product: &Product,
        notes: &mut Vec<String>,
    ) -> Vec<Figure> {
        let paths = |axes: &[Vec<Setting>]| -> Vec<String> {
            axes.iter().filter_map(|axis| axis.first()).map(|s| s.path.join(".")).collect()
        };
        let swept = paths(&product.all_axes());
        let has_axes = |figure: &Figure| figure.axes().all(|path| swept.iter().any(|known| known == path));
        let (left, gone): (Vec<Figure>, Vec<Figure>) =
            self.figures(node, &paths(written)).into_iter().partition(has_axes);
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
    /// The grid's axes and those of tasks' own grids.
    fn all_axes(&self) -> Vec<Vec<Setting>> {
        let own = self.tasks.iter().filter_map(|task| task.grid.as_ref()).flatten();
        self.axes.iter().chain(own).cloned().collect()
    }

    /// Takes these seeds in place of the file's and of those of tasks' own. A task keeps its own where another task's `start` names
    /// one of them: without it, that run would be missing. The notes say which were replaced and which were kept.
    fn set_seeds(&mut self, seeds: Vec<u64>) -> Vec<String> {
        let starts = self.tasks.iter().filter_map(|task| task.start.as_ref()?.as_ref()?.seed());
        let named: HashSet<(String, u64)> = starts.collect();
        let (mut kept, mut replaced) = (Vec::new(), Vec::new());
        for task in &mut self.tasks {
            let Some(own) = &task.seeds else { continue };
            if own.iter().any(|seed| named.contains(&(task.label.clone(), *seed))) {
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
        let of_task = |task: &Entry| {
            let own = count(task.grid.as_deref().unwrap_or(&self.axes));
            let seeds = task.seeds.as_deref().unwrap_or(&self.seeds).len() as u128;
            let mixers = self.mixers.iter().filter(|mixer| mixer.runs_on(&task.label)).count() as u128;
            let searched = self.tune.as_ref().map_or(0, |tune| tune.runs());
            mixers.saturating_mul(seeds.saturating_add(searched)).saturating_mul(own)
        };
        self.tasks.iter().map(of_task).fold(0, u128::saturating_add)
    }
}

/// Points of a grid.
fn count(axes: &[Vec<Setting>]) -> u128 {
    axes.iter().map(|axis| axis.len() as u128).fold(1, u128::saturating_mul)
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
