//! `mixarena list`: what there is to choose from, and what was run.

use super::fail;
use crate::Exit;
use crate::cli::{ListArgs, Listed};
use crate::registry::Registry;
use results::Store;
use serde_json::{Value, json};

/// Runs the command.
pub fn list(args: &ListArgs, registry: &Registry) -> Exit {
    let entries: Vec<(&str, &str, Value)> = match args.what {
        Listed::Mixers => registry.mixers.iter().map(|m| (m.name, m.about, (m.defaults)())).collect(),
        Listed::Tasks => registry.tasks.iter().map(|t| (t.name, t.about, (t.defaults)())).collect(),
        Listed::Runs => return runs(args),
    };
    if args.json {
        let all: Vec<Value> = entries.iter().map(|(n, a, d)| json!({"name": n, "about": a, "settings": d})).collect();
        println!("{}", serde_json::to_string_pretty(&all).expect("plain data"));
        return Exit::Ok;
    }
    for (name, about, defaults) in entries {
        println!("{name:<12} {about}");
        for (key, value) in defaults.as_object().into_iter().flatten() {
            println!("             {key}: {value}");
        }
    }
    Exit::Ok
}

fn runs(args: &ListArgs) -> Exit {
    let read = match args.store.is_dir() {
        true => Store::open(&args.store).and_then(|s| s.read()).map_err(|e| e.to_string()),
        false => Err(format!("{} is not a folder", args.store.display())),
    };
    let contents = match read {
        Ok(contents) => contents,
        Err(problem) => {
            fail(problem, "name the store with --store");
            return Exit::Environment;
        }
    };
    contents.warnings.iter().for_each(|w| eprintln!("warning: {w}"));
    let records = contents.latest();
    if args.json {
        println!("{}", serde_json::to_string_pretty(&records).expect("plain data"));
        return Exit::Ok;
    }
    let one = |value: &Value| value.as_object().and_then(|m| m.keys().next().cloned()).unwrap_or_default();
    for r in records {
        let test = r.scores.test.map_or("-".into(), |s| format!("{s:.4}"));
        let names = format!("{} · {} · seed {}", one(&r.spec["task"]), one(&r.spec["mixer"]), r.seed);
        println!("{}  {:<11} test {test:<7} {names}  {}", r.id, r.outcome.word(), r.outcome.reason());
    }
    Exit::Ok
}
