//! `tune: { over: { optimizer.lr: [1e-3, 3e-3, 1e-2] }, budget: 0.25 }`: settings that are searched before the runs themselves.
//!
//! Every mixer on every task gets the same values. Short runs with seeds of their own choose among them by validation; then the
//! runs of the config begin anew with the setting that won, at the full budget. [`crate::sweep::search`] has the search itself.

use crate::base::diagnostics::{Diagnostics, Place};
use crate::config::check::Combination;
use crate::config::draft::{At, Draft, Start};
use crate::config::entry::{Entry, Source, StartKey};
use crate::config::layers::{Setting, plain};
use crate::config::reader::Reader;
use crate::config::sections::Layers;
use crate::config::yaml::{Data, Key, Node};
use results::{Figure, FigureKind, Sensitivity};
use serde_json::{Number, Value};
use std::collections::BTreeMap;

/// Times an axis is extended beyond an end at which its best value stands, where a config does not say less.
pub const EXTENSIONS: i32 = 2;

/// Settings that one mixer may try on one task, with those beyond the ends of the axes.
const MOST_SETTINGS: usize = 1_000;

/// How the values are searched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Every setting has the search's whole budget.
    #[default]
    Grid,
    /// Successive halving: every setting has a small budget; the better half goes on with twice as much, until two are left, which
    /// have the search's whole budget (Jamieson and Talwalkar 2016).
    Halving,
}

/// A search over settings, for every mixer on every task.
#[derive(Clone, Debug)]
pub struct Tune {
    /// How the values are searched.
    pub by: By,
    /// The search's budget as a share of the steps of a run.
    pub budget: f64,
    /// Seeds of each setting.
    pub seeds: u64,
    /// Times an axis is extended at most.
    pub extensions: i32,
    /// What is searched, in the order of the config's runs.
    pub cells: Vec<Cell>,
}

/// One mixer on one task at one point of the grid.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Label of the task.
    pub task: String,
    /// Label of the mixer.
    pub mixer: String,
    /// Point of the grid.
    pub point: Vec<(String, String)>,
    /// What is tuned over.
    pub axes: Vec<Axis>,
    /// Runs at the full budget by the place of their setting. Those beyond the ends of an axis are only here if they can be run.
    pub settings: BTreeMap<At, Draft>,
}

/// An axis and its values.
#[derive(Clone, Debug)]
pub struct Axis {
    /// The setting: `optimizer.lr`.
    pub path: String,
    /// Values written, by index from 0, and those beyond the ends.
    values: BTreeMap<i32, Setting>,
    /// How many were written.
    pub written: i32,
}

impl Tune {
    /// How the validation score follows every axis of numbers.
    pub(super) fn figures(&self) -> Vec<Figure> {
        let mut paths: Vec<&str> = Vec::new();
        for axis in self.cells.iter().flat_map(|cell| &cell.axes).filter(|axis| axis.has_ends()) {
            if !paths.contains(&axis.path.as_str()) {
                paths.push(&axis.path);
            }
        }
        paths.into_iter().map(|path| Figure::from(FigureKind::Sensitivity(Sensitivity::over(path)))).collect()
    }
}

impl Axis {
    /// The value at an index, as a person would write it.
    pub fn shown(&self, at: i32) -> String {
        self.values.get(&at).map_or_else(String::new, |setting| plain(&setting.value.to_json()))
    }

    /// Whether its values are numbers with ends that can be gone beyond.
    pub fn has_ends(&self) -> bool {
        self.written > 1 && self.values.values().all(|setting| setting.value.to_json().is_number())
    }
}

impl Cell {
    /// Whether this is where `draft` is searched for.
    pub fn is_of(&self, draft: &Draft) -> bool {
        self.task == draft.task_label && self.mixer == draft.mixer_label && self.point == draft.settings
    }

    /// The settings written in the config.
    pub fn written(&self) -> Vec<At> {
        let inside = |at: &&At| at.iter().zip(&self.axes).all(|(index, axis)| (0..axis.written).contains(index));
        self.settings.keys().filter(inside).cloned().collect()
    }

    /// The first setting written, where it can be run.
    pub(super) fn first(&self) -> Option<&Draft> {
        self.written().first().and_then(|at| self.settings.get(at))
    }

    /// With the labels of a run of this cell, and its initial weights where they are a file's.
    pub(super) fn labelled(mut self, run: &Draft, start: Option<&StartKey>) -> Self {
        self.point.clone_from(&run.settings);
        for draft in self.settings.values_mut() {
            draft.settings.clone_from(&run.settings);
            draft.published.clone_from(&run.published);
            draft.start = start.and_then(|key| match &key.from {
                Source::Weights(path) => Some(Start::Weights(path.clone())),
                Source::Task(..) => None,
            });
        }
        self
    }

    /// A run of every setting written, labelled with the setting too.
    pub(super) fn kinds(&self) -> Vec<Draft> {
        let of = |at: &At| {
            let draft = self.settings[at].clone();
            let settings = draft.settings.iter().cloned().chain(self.shown(at)).collect();
            Draft { settings, ..draft }
        };
        self.written().iter().map(of).collect()
    }

    /// A setting as paths and values.
    pub fn shown(&self, at: &At) -> Vec<(String, String)> {
        self.axes.iter().zip(at).map(|(axis, index)| (axis.path.clone(), axis.shown(*index))).collect()
    }
}

/// `tune`, before it is laid over the mixers and tasks.
#[derive(Clone, Debug)]
pub(super) struct Written {
    by: By,
    budget: f64,
    seeds: u64,
    extensions: i32,
    place: Place,
    pub axes: Vec<Vec<Setting>>,
}

impl Reader<'_> {
    /// What stands under `tune`.
    pub(super) fn tune(&mut self, entry: Option<&(Key, Node)>) -> Option<Written> {
        let (key, node) = entry?;
        if node.data == Data::Scalar(Value::Null) {
            return None;
        }
        let help = "write `tune: { over: { optimizer.lr: [1e-3, 3e-3, 1e-2] } }`";
        let Some(keys) = node.as_map() else {
            self.found.error(node.place.clone(), format!("`tune` is {}, expected a mapping", node.describe()), help);
            return None;
        };
        let before = self.found.len();
        self.known_keys(keys, &["over", "budget", "by", "seeds", "extensions"], "`tune`", "keys");
        let get = |name: &str| keys.iter().find(|(key, _)| key.name == name).map(|(_, node)| node);
        let Some(over) = get("over") else {
            self.found.error(key.place.clone(), "`tune` has no `over`", help);
            return None;
        };
        let axes = self.axes(Some(over), "tune.over");
        for axis in &axes {
            self.not_the_task(&axis[0]);
        }
        let budget = get("budget").map_or(Some(0.25), |node| self.share(node));
        let by = get("by").map_or(Some(By::default()), |node| self.by(node));
        let seeds = get("seeds").map_or(Some(1), |node| self.search_seeds(node));
        let extensions = get("extensions").map_or(Some(EXTENSIONS), |node| self.extensions(node));
        let place = key.place.clone();
        let written = Written { by: by?, budget: budget?, seeds: seeds?, extensions: extensions?, place, axes };
        (self.found.len() == before).then_some(written)
    }

    fn not_the_task(&mut self, setting: &Setting) {
        let path = setting.path.join(".");
        let (problem, help) = match setting.path.first().map(String::as_str) {
            Some("task") => {
                (format!("`{path}` is the task's: scores of other tasks cannot be compared"), "sweep it under `grid`")
            }
            Some("budget") if ["budget.steps", "budget.eval_every"].contains(&path.as_str()) => (
                format!("`{path}` is what the search shortens"),
                "set it under `budget`, and the search's share with `tune: { budget: … }`",
            ),
            Some("analysis") => (format!("`{path}` changes no score"), "set it under `analysis`"),
            _ => return,
        };
        self.found.error(setting.key_place.clone(), problem, help);
    }

    fn share(&mut self, node: &Node) -> Option<f64> {
        let share = node.to_json().as_f64().filter(|share| *share > 0.0 && *share <= 1.0);
        if share.is_none() {
            let problem = format!("`budget` is {}, expected a share above 0 and up to 1", node.describe());
            self.found.error(node.place.clone(), problem, "write 0.25 to search with a quarter of the steps of a run");
        }
        share
    }

    fn by(&mut self, node: &Node) -> Option<By> {
        match node.as_str() {
            Some("grid") => Some(By::Grid),
            Some("halving") => Some(By::Halving),
            _ => {
                let problem = format!("`by` is {}, expected grid or halving", node.describe());
                self.found.error(
                    node.place.clone(),
                    problem,
                    "grid gives every setting the whole budget of the search",
                );
                None
            }
        }
    }

    fn search_seeds(&mut self, node: &Node) -> Option<u64> {
        let seeds = node.to_json().as_u64().filter(|seeds| (1..=100).contains(seeds));
        if seeds.is_none() {
            let problem = format!("`seeds` is {}, expected a count from 1 to 100", node.describe());
            self.found.error(
                node.place.clone(),
                problem,
                "seeds of the search are its own: those of the sweep are not among them",
            );
        }
        seeds
    }

    fn extensions(&mut self, node: &Node) -> Option<i32> {
        let times =
            node.to_json().as_i64().and_then(|n| i32::try_from(n).ok()).filter(|n| (0..=EXTENSIONS).contains(n));
        if times.is_none() {
            let problem = format!("`extensions` is {}, expected a count from 0 to {EXTENSIONS}", node.describe());
            self.found.error(
                node.place.clone(),
                problem,
                "0 leaves every axis as written; its row is marked where the best value is an end",
            );
        }
        times
    }

    /// No setting is swept and tuned over at once.
    pub(super) fn swept_and_tuned(&mut self, swept: &[Vec<Setting>], of: &str, tuned: &[Vec<Setting>]) {
        for axis in tuned.iter().filter(|axis| swept.iter().any(|other| other[0].path == axis[0].path)) {
            let problem = format!("`{}` is an axis of `{of}` and of `tune`", axis[0].path.join("."));
            let help = format!("leave it under `{of}` to see every value, under `tune` to see the best of each mixer");
            self.found.error(axis[0].key_place.clone(), problem, help);
        }
    }

    /// A run that starts from another could only be searched with that one's setting known.
    pub(super) fn tuned_starts(&mut self, starts: &[Option<StartKey>]) {
        let of_run = |key: &&StartKey| matches!(key.from, Source::Task(..));
        if let Some(key) = starts.iter().flatten().find(of_run) {
            let problem =
                "`tune` stands beside a `start` from another run, whose setting would have to be chosen first";
            let help = "tune each stage in a config of its own, and start from a file: `start: { weights: FILE }`";
            self.found.error(key.place.clone(), problem, help);
        }
    }

    /// What is searched for one mixer on one task at one point of the grid: every setting drafted. Axes of other mixers' keys are
    /// none of its own.
    pub(super) fn cell(
        &mut self,
        tune: &Written,
        (task, mixer): (&Entry, &Entry),
        over: &[&Setting],
        base: &Layers,
    ) -> Cell {
        let own = |axis: &&Vec<Setting>| axis[0].path[0] != "mixer" || axis[0].path[1] == mixer.family;
        let axes: Vec<Axis> = tune.axes.iter().filter(own).map(|axis| Axis::of(axis, tune.extensions)).collect();
        let mut cell = Cell {
            task: task.label.clone(),
            mixer: mixer.label.clone(),
            point: Vec::new(),
            axes,
            settings: BTreeMap::new(),
        };
        let places = places(&cell.axes);
        if places.len() > MOST_SETTINGS {
            let problem = format!(
                "`tune` asks `{}` to try {} settings on `{}`, with those beyond the ends of the axes; at most {MOST_SETTINGS}",
                mixer.label,
                places.len(),
                task.label
            );
            self.found.error(tune.place.clone(), problem, "take axes or values out");
            return cell;
        }
        for at in places {
            let inside = at.iter().zip(&cell.axes).all(|(index, axis)| (0..axis.written).contains(index));
            let values: Vec<&Setting> = at.iter().zip(&cell.axes).map(|(index, axis)| &axis.values[index]).collect();
            let over: Vec<&Setting> = over.iter().copied().chain(values).collect();
            let combination = Combination { task, mixer, over: &over };
            let draft = match inside {
                true => self.draft(&combination, base),
                // What lies beyond an end may be no value at all; then the axis ends there.
                false => {
                    let mut aside = Diagnostics::new(self.found.source());
                    Reader { registry: self.registry, found: &mut aside }.draft(&combination, base)
                }
            };
            cell.settings.extend(draft.map(|draft| (at, draft)));
        }
        cell
    }
}

impl Written {
    /// The search over these cells.
    pub(super) fn over(&self, cells: Vec<Cell>) -> Tune {
        Tune { by: self.by, budget: self.budget, seeds: self.seeds, extensions: self.extensions, cells }
    }

    /// Runs of the search for one mixer on one task at most, those beyond the ends of the axes apart.
    pub(super) fn runs(&self) -> u128 {
        let settings = self.axes.iter().map(|axis| axis.len() as u128).fold(1, u128::saturating_mul);
        // Halving makes fewer than two runs of each setting.
        let rounds = if self.by == By::Halving { 2 } else { 1 };
        settings.saturating_mul(rounds * u128::from(self.seeds))
    }
}

impl Axis {
    /// The values of an axis, numbers in rising order, and as many beyond each end.
    fn of(written: &[Setting], beyond_ends: i32) -> Self {
        let mut settings = written.to_vec();
        let number = |setting: &Setting| setting.value.to_json().as_f64();
        let numbers: Option<Vec<f64>> = settings.iter().map(number).collect();
        let mut values = BTreeMap::new();
        if let Some(mut numbers) = numbers.filter(|numbers| numbers.len() > 1) {
            settings.sort_by(|a, b| number(a).unwrap_or(f64::NAN).total_cmp(&number(b).unwrap_or(f64::NAN)));
            numbers.sort_by(f64::total_cmp);
            let whole = settings.iter().all(|setting| setting.value.to_json().is_u64());
            let last = settings.len() as i32 - 1;
            for (ends, up) in [(beyond(&numbers, whole), true), (beyond(&reversed(&numbers), whole), false)] {
                for (step, value) in (1..=beyond_ends).zip(ends) {
                    let at = if up { last + step } else { -step };
                    values.insert(at, settings[0].with(value));
                }
            }
        }
        let written = settings.len() as i32;
        values.extend((0..).zip(settings.iter().cloned()));
        Self { path: settings[0].path.join("."), values, written }
    }
}

impl Setting {
    /// The same setting with another value.
    fn with(&self, value: Value) -> Self {
        let value = Node { place: self.value.place.clone(), data: Data::Scalar(value) };
        Self { value, ..self.clone() }
    }
}

fn reversed(numbers: &[f64]) -> Vec<f64> {
    numbers.iter().rev().copied().collect()
}

/// The next values after the last of `numbers`: by its ratio to the one before where all are above 0, else by the difference.
/// Of whole numbers they are whole; where neither rule gives a whole number, there are none.
fn beyond(numbers: &[f64], whole: bool) -> Vec<Value> {
    let [.., before, last] = numbers else { return Vec::new() };
    let (ratio, difference) = (last / before, last - before);
    let written = |value: f64| if whole { value } else { rounded(value) };
    let by_ratio = |step: i32| written(last * ratio.powi(step));
    let by_difference = |step: i32| written(last + difference * f64::from(step));
    let is_whole = |value: f64| value.fract() == 0.0 && value >= 0.0;
    let steps = || 1..=EXTENSIONS;
    let ratios = numbers.iter().all(|number| *number > 0.0) && (!whole || steps().all(|step| is_whole(by_ratio(step))));
    let values = steps().map(|step| if ratios { by_ratio(step) } else { by_difference(step) });
    values
        .filter(|value| value.is_finite() && (!whole || is_whole(*value)))
        .filter_map(
            |value| if whole { Some(Value::from(value as u64)) } else { Number::from_f64(value).map(Value::Number) },
        )
        .collect()
}

/// To two significant digits: 3.333e-4 is written 3.3e-4.
fn rounded(value: f64) -> f64 {
    format!("{value:.1e}").parse().unwrap_or(value)
}

/// Every combination of indices of the axes.
fn places(axes: &[Axis]) -> Vec<At> {
    axes.iter().fold(vec![Vec::new()], |places, axis| {
        places.iter().flat_map(|at| axis.values.keys().map(move |index| [at.as_slice(), &[*index]].concat())).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn values(numbers: &[f64], whole: bool) -> Vec<Value> {
        beyond(numbers, whole)
    }

    #[test]
    fn values_beyond_an_end_go_on_as_the_axis_does() {
        assert_eq!(values(&[1e-3, 3e-3, 1e-2], false), [json!(0.033), json!(0.11)]);
        assert_eq!(values(&[1e-2, 3e-3, 1e-3], false), [json!(0.00033), json!(0.00011)]);
        assert_eq!(values(&[0.0, 0.1], false), [json!(0.2), json!(0.3)]);
        assert_eq!(values(&[16.0, 32.0, 64.0], true), [json!(128), json!(256)]);
        assert_eq!(values(&[3.0, 2.0, 1.0], true), [json!(0)], "a count has no value below 0");
        assert_eq!(values(&[1.0, 2.0, 3.0], true), [json!(4), json!(5)]);
        assert!(values(&[1e-3], false).is_empty());
    }
}
