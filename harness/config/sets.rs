//! `--set PATH=VALUE`, and the paths of the grid: whether they lead anywhere, and what they replace.

use crate::base::diagnostics::{Place, suggest};
use crate::config::entry::Entry;
use crate::config::grid::{self, Seeds};
use crate::config::layers::{Setting, plain, quoted};
use crate::config::reader::Reader;
use crate::config::sections::is_section;
use crate::config::yaml;
use crate::train::sections::NAMES;

impl Reader<'_> {
    /// Every `--set`, the last of a path alone, and seeds among them.
    pub(super) fn arguments(&mut self, arguments: &[String]) -> (Vec<Setting>, Option<Seeds>) {
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

    /// One `--set path=value`.
    pub(super) fn argument(&mut self, argument: &str) -> Option<Setting> {
        let place = Place::Argument(format!("--set {argument}"));
        let Some((path, value)) = argument.split_once('=') else {
            let help = "write PATH=VALUE, as in --set model.d_model=128; more of them each have a --set of their own";
            self.found.error(place, "no `=` in it", help);
            return None;
        };
        let value = yaml::parse(value, |_, _| place.clone(), self.found)?;
        Some(Setting { path: grid::path(path), key_place: place, value })
    }

    /// A path must lead to a section's key, or to a key of a family that the sweep has.
    pub(super) fn reachable(&mut self, setting: &Setting, tasks: &[Entry], mixers: &[Entry]) {
        let path: Vec<&str> = setting.path.iter().map(String::as_str).collect();
        let has = |entries: &[Entry], family: &str| entries.iter().any(|e| e.family == family);
        let ok = match path[..] {
            [section, _] => is_section(section),
            ["task", family, _] => has(tasks, family),
            ["mixer", family, _] => has(mixers, family),
            _ => false,
        };
        if !ok {
            let (problem, help) = not_a_setting(&path);
            self.found.error(setting.key_place.clone(), problem, help);
        }
    }
}

/// Why a path of the grid or of `--set` is not a setting, and which paths are.
fn not_a_setting(path: &[&str]) -> (String, String) {
    let sections: String = NAMES.iter().map(|name| format!("{name}.KEY, ")).collect();
    let paths = format!(
        "paths are {sections}task.NAME.KEY and mixer.NAME.KEY (NAME as used in this config), and seeds for --set"
    );
    let shown = path.join(".");
    match *path {
        [section] if is_section(section) => {
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
        [section, key, _, ..] if is_section(section) => {
            return (format!("`{shown}` goes deeper than a path can"), format!("set `{section}.{key}` as a whole"));
        }
        _ => {}
    }
    let known = [&NAMES[..], &["task", "mixer", "seeds"]].concat();
    let first = path.first().copied().unwrap_or_default();
    let near = if known.contains(&first) { String::new() } else { suggest(first, &known, "") };
    let near = near.split_once('?').map_or(String::new(), |(start, _)| format!("{start}? "));
    (format!("`{shown}` is not a setting"), near + &paths)
}

/// What is to be said of a `--set` that entries of the config have values of their own for: it wins over those too.
pub fn overruled(set: &Setting, tasks: &[Entry], mixers: &[Entry]) -> Option<String> {
    let (key, all): (_, Vec<&Entry>) = match &set.path[..] {
        [section, key] if is_section(section) => {
            let own = |entry: &&Entry| entry.sections.of(section).place_of(key).is_some();
            (key, tasks.iter().chain(mixers).filter(own).collect())
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

/// What is to be said of a `--set` of a path that is an axis of `grid`, `tune` or another.
pub fn replaced_axis(set: &Setting, axes: &[Vec<Setting>], of: &str) -> Option<String> {
    let path = set.path.join(".");
    let value = plain(&set.value.to_json());
    let swept = axes.iter().any(|axis| axis.first().is_some_and(|of| of.path == set.path));
    swept.then(|| {
        format!("--set {path} replaces the axis `{path}` of `{of}`: every run has {value}, none is labelled with it")
    })
}
