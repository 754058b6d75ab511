//! `mixarena data generate`: what a task's settings draw, in the layout of the official files.

use super::super::{data_error, fail};
use super::bar::{Bar, Unit};
use super::{grouped, settings, task};
use crate::base::exit::Exit;
use crate::cli::{Cli, GenerateArgs};
use crate::registry::Registry;
use serde_json::{Map, Value, json};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Mutex;
use tasks::{Entry, Generated};

/// Where files are written until all of them are.
const PART: &str = ".generating";

/// Runs the command.
pub fn generate(args: &GenerateArgs, cli: &Cli, registry: &Registry) -> Result<Exit, Exit> {
    let entry = task(&args.name, registry)?;
    let settings = settings(entry, &args.sets)?;
    refuse_other_files(args)?;
    let part = args.out.join(PART);
    let fresh = !args.out.exists();
    let made = clear(&part).and_then(|()| fs::create_dir_all(&part));
    made.map_err(|error| unwritable(&part, &error))?;
    let bar = Mutex::new(Bar::new(entry.name, Unit::Examples, cli.quiet));
    let step = |done: u64, wanted: u64| {
        let mut bar = bar.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        bar.of(wanted);
        bar.at(done);
    };
    let drawn = entry.generate(&settings, &part, &step);
    drop(bar);
    let outcome = match drawn {
        None => Err(draws_nothing(entry, registry)),
        Some(Err(error)) => {
            data_error(&error);
            Err(Exit::Environment)
        }
        Some(Ok(made)) => settle(&part, &args.out).map_err(|error| unwritable(&args.out, &error)).map(|()| made),
    };
    let _ = clear(&part); // what is left is of no use
    if outcome.is_err() && fresh {
        let _ = fs::remove_dir(&args.out);
    }
    report(&outcome?, &part, args);
    Ok(Exit::Ok)
}

fn refuse_other_files(args: &GenerateArgs) -> Result<(), Exit> {
    let entries = match fs::read_dir(&args.out) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unwritable(&args.out, &error)),
    };
    let other = entries.flatten().map(|entry| entry.file_name()).find(|name| name != PART);
    let Some(other) = other.filter(|_| !args.force) else { return Ok(()) };
    fail(
        format!("--out {}: is not empty, it holds {}", args.out.display(), other.to_string_lossy()),
        "name another folder, or add --force to write over files of the same names",
    );
    Err(Exit::Usage)
}

/// Tasks that take `source: generate` or `source: synthetic` draw what they write.
fn draws_nothing(entry: &Entry, registry: &Registry) -> Exit {
    let source = |entry: &Entry| {
        let takes = |word: &&str| {
            (entry.accepts)(&Value::Object(Map::from_iter([("source".to_owned(), Value::from(*word))]))).is_ok()
        };
        ["generate", "synthetic"].into_iter().find(takes)
    };
    let help = match source(entry) {
        Some(word) => format!("add --set source={word}"),
        None => {
            let with = |entry: &Entry| source(entry).map(|word| format!("{} (source={word})", entry.name));
            let names: Vec<String> = registry.tasks.iter().filter_map(with).collect();
            format!("tasks that can are {}", names.join(", "))
        }
    };
    fail(format!("`{}` writes no files with these settings", entry.name), &help);
    Exit::Usage
}

/// Moves everything from `part` to `out`, in place of what has the same names.
fn settle(part: &Path, out: &Path) -> io::Result<()> {
    for entry in fs::read_dir(part)? {
        let entry = entry?;
        let place = out.join(entry.file_name());
        if place.is_dir() {
            fs::remove_dir_all(&place)?;
        }
        fs::rename(entry.path(), place)?;
    }
    Ok(())
}

fn clear(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Exit {
    fail(format!("{}: {error}", path.display()), "look at the path and its permissions, or name another with --out");
    Exit::Environment
}

fn report(made: &Generated, part: &Path, args: &GenerateArgs) {
    let place = |path: &std::path::PathBuf| path.strip_prefix(part).map_or_else(|_| path.clone(), |p| args.out.join(p));
    let paths: Vec<_> = made.paths.iter().map(place).collect();
    if args.json {
        let facts: Map<String, Value> = made.facts.iter().map(|(k, v)| (k.clone(), Value::from(v.as_str()))).collect();
        let all = json!({"paths": paths, "examples": made.examples, "facts": facts});
        println!("{}", serde_json::to_string_pretty(&all).expect("plain data"));
        return;
    }
    paths.iter().for_each(|path| println!("{}", path.display()));
    let widest = made.facts.iter().map(|(fact, _)| fact.chars().count()).max().unwrap_or(0).max(8);
    println!("{:<widest$}  {}", "examples", grouped(made.examples));
    made.facts.iter().for_each(|(fact, value)| println!("{fact:<widest$}  {value}"));
}
