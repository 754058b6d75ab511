//! `mixarena data`: data sets fetched, checked, generated and exported. One file each; what they share stands here.

mod bar;
mod check;
mod export;
mod fetch;
mod generate;
mod stats;

use crate::base::diagnostics::{Diagnostics, Place, suggest};
use crate::base::exit::Exit;
use crate::base::text::grouped;
use crate::cli::{Cli, DataArgs, DataCommand};
use crate::config::explain;
use crate::config::yaml;
use crate::registry::Registry;
use serde_json::{Map, Value};
use std::sync::Mutex;
use tasks::{Entry, data::prepared};

/// Runs the command.
pub fn data(args: &DataArgs, cli: &Cli, registry: &Registry) -> Exit {
    let done = match &args.command {
        DataCommand::Fetch(args) => fetch::fetch(args, cli),
        DataCommand::Verify(args) => check::verify(args, cli, registry),
        DataCommand::Generate(args) => generate::generate(args, cli, registry),
        DataCommand::Export(args) => export::export(args, cli, registry),
    };
    done.unwrap_or_else(|exit| exit)
}

/// The bar of the set being prepared, where its size is known.
static BAR: Mutex<Option<bar::Bar>> = Mutex::new(None);

/// What happens to prepared sets, on stderr.
pub(super) fn tell(event: &prepared::Event, quiet: bool) {
    use prepared::Event::{Again, Opened, Preparing, Stopped, Waiting};
    let mut bar = BAR.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    match event {
        _ if quiet => {}
        Waiting(set) => eprintln!("another process prepares {set}; waiting for it"),
        Preparing { set, bytes, of: Some(total), .. } => {
            let begun = bar.get_or_insert_with(|| {
                let mut bar = bar::Bar::new(format!("preparing {set}"), bar::Unit::Bytes, quiet);
                bar.begin(*bytes, Some(*total));
                bar
            });
            begun.at(*bytes);
        }
        Preparing { set, rows, bytes, of: None } => {
            eprintln!("preparing {set}: {rows} rows, {} so far", tasks::data::fetch::size(*bytes));
        }
        Again(set, why) => eprintln!("{set} is prepared again: {why}"),
        Opened(_) | Stopped(_) => *bar = None,
    }
}

/// A task of the registry by name.
fn task<'a>(name: &str, registry: &'a Registry) -> Result<&'a Entry, Exit> {
    registry.tasks.iter().find(|entry| entry.name == name).ok_or_else(|| {
        let known: Vec<&str> = registry.tasks.iter().map(|entry| entry.name).collect();
        super::fail(format!("unknown task `{name}`"), &suggest(name, &known, "tasks"));
        Exit::Usage
    })
}

/// A task's settings with `--set` applied and everything checked; mistakes are printed.
fn settings(entry: &Entry, sets: &[String]) -> Result<Value, Exit> {
    let mut found = Diagnostics::new(entry.name);
    let settings = read_settings(entry, sets, &mut found);
    if found.is_empty() {
        return Ok(settings);
    }
    eprint!("{}", found.render());
    Err(Exit::Usage)
}

fn read_settings(entry: &Entry, sets: &[String], found: &mut Diagnostics) -> Value {
    let defaults = (entry.defaults)();
    let fields: Vec<&str> = defaults.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
    let mut given = Map::new();
    let mut places: Vec<(String, Place)> = Vec::new();
    for set in sets {
        let place = Place::Argument(format!("--set {set}"));
        let Some((path, text)) = set.split_once('=') else {
            found.error(place, "no `=` in it", "write --set key=value");
            continue;
        };
        let key = match path.split('.').collect::<Vec<_>>()[..] {
            [key] => key,
            [name, key] | ["task", name, key] if name == entry.name => key,
            _ => {
                let problem = format!("`{path}` is no setting of `{}`", entry.name);
                found.error(place, problem, suggest(path, &fields, "settings"));
                continue;
            }
        };
        if !fields.contains(&key) {
            let problem = format!("unknown field `{key}` of `{}`", entry.name);
            found.error(place, problem, suggest(key, &fields, "fields"));
            continue;
        }
        let Some(node) = yaml::parse(text, |_, _| place.clone(), found) else { continue };
        let value = node.to_json();
        if let Err(error) = (entry.accepts)(&Value::Object(Map::from_iter([(key.to_owned(), value.clone())]))) {
            let (problem, help) = explain(key, &node, &defaults[key], &error.to_string(), entry.accepts);
            found.error(place, problem, help);
            continue;
        }
        given.insert(key.into(), value);
        places.push((key.into(), place));
    }
    if !found.is_empty() {
        return Value::Null;
    }
    match (entry.resolve)(&Value::Object(given)) {
        Err(error) => {
            found.error(Place::Whole, error.to_string(), "");
            Value::Null
        }
        Ok(settings) => {
            for mistake in entry.check(&settings) {
                let place = places.iter().find(|(key, _)| key == mistake.key).map(|(_, place)| place.clone());
                found.error(place.unwrap_or(Place::Whole), mistake.problem, mistake.help);
            }
            settings
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tried(sets: &[&str]) -> Result<Value, String> {
        let registry = Registry::default();
        let entry = registry.tasks.iter().find(|entry| entry.name == "listops").unwrap();
        let mut found = Diagnostics::new("listops");
        let sets: Vec<String> = sets.iter().map(|set| set.to_string()).collect();
        let settings = read_settings(entry, &sets, &mut found);
        if found.is_empty() { Ok(settings) } else { Err(found.render()) }
    }

    #[test]
    fn a_setting_is_named_alone_or_with_its_task() {
        for set in ["source=files", "listops.source=files", "task.listops.source=files"] {
            assert_eq!(tried(&[set]).unwrap()["source"], "files");
        }
        assert_eq!(tried(&[]).unwrap()["train_examples"], Value::Null);
    }

    #[test]
    fn a_mistake_in_a_setting_names_the_argument_and_the_change() {
        for (set, said) in [
            (
                "sorce=files",
                "error: --set sorce=files: unknown field `sorce` of `listops`\n  help: did you mean `source`?",
            ),
            ("source", "error: --set source: no `=` in it\n"),
            ("text.source=files", "error: --set text.source=files: `text.source` is no setting of `listops`"),
            ("source=flies", "error: --set source=flies: "),
            ("l_max=1", "error: --set l_max=1: `l_max` is less than 2\n"),
        ] {
            let error = tried(&[set]).unwrap_err();
            assert!(error.starts_with(said), "{error}");
        }
    }
}
