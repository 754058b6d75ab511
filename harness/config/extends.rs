//! `extends: base.yaml`: the keys of another file, below those of this one.
//!
//! ```text
//! base.yaml        model: { d_model: 64, n_layers: 2 }    mixers: [attention, s4]
//! this.yaml        model: { n_layers: 4 }                 mixers: [gru]               extends: base.yaml
//! what is read     model: { d_model: 64, n_layers: 4 }    mixers: [gru]
//! ```
//! Sections merge key by key, `grid` and what is searched axis by axis, the changes of an ablation by label. Everything else is replaced
//! whole. Every key keeps the place where it was written.

use crate::base::diagnostics::{Diagnostics, Place, suggest};
use crate::config::grid;
use crate::config::reader::objective_alone;
use crate::config::sections::is_section;
use crate::config::yaml::{self, Data, Key, Node};
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The key at the top of a file.
pub(super) const KEY: &str = "extends";

const HELP: &str = "write `extends: base.yaml`, the path of another config from the folder of this one";

/// The config `text` of the file `source`, laid over the file that it extends, that over the one that it extends, and so on.
pub(super) fn whole(text: &str, source: &str, found: &mut Diagnostics) -> Option<Node> {
    let mut lowest = yaml::parse(text, |line, column| Place::File { line, column }, found)?;
    let mut chain = vec![PathBuf::from(source)];
    let mut above = Vec::new();
    while let Some((_, named)) = taken(&mut lowest, KEY) {
        let base = base(&named, &mut chain, found)?;
        above.push(std::mem::replace(&mut lowest, base));
        // Two sweeps of one name would write one report.
        taken(&mut lowest, "name");
    }
    Some(above.into_iter().rev().fold(lowest, |base, upper| over(base, upper, &mut Vec::new())))
}

/// An entry of a mapping, taken out.
fn taken(node: &mut Node, name: &str) -> Option<(Key, Node)> {
    let Data::Map(entries) = &mut node.data else { return None };
    let at = entries.iter().position(|(key, _)| key.name == name)?;
    Some(entries.remove(at))
}

/// The file that the last one of `chain` extends.
fn base(named: &Node, chain: &mut Vec<PathBuf>, found: &mut Diagnostics) -> Option<Node> {
    let Some(name) = named.as_str().filter(|name| !name.is_empty()) else {
        let problem = format!("`{KEY}` is {}, expected the path of a config", named.describe());
        found.error(named.place.clone(), problem, HELP);
        return None;
    };
    let path = chain.last()?.parent().unwrap_or(Path::new("")).join(name);
    if let Some(at) = chain.iter().position(|known| is_same(known, &path)) {
        let files = chain[at..].iter().chain([&path]).map(|file| file.display().to_string());
        let problem = format!("files extend each other: {}", files.collect::<Vec<_>>().join(" extends "));
        found.error(named.place.clone(), problem, format!("leave one `{KEY}` out"));
        return None;
    }
    let text = match fs::metadata(&path) {
        Ok(about) if !about.is_file() => Err(ErrorKind::IsADirectory.into()),
        _ => fs::read_to_string(&path),
    };
    let text = text.map_err(|error| {
        let (problem, help) = unreadable(&path, &error);
        found.error(named.place.clone(), problem, help);
    });
    let file: Arc<str> = path.display().to_string().into();
    let place = |line, column| Place::Extended { file: file.clone(), line, column };
    let node = yaml::parse(&text.ok()?, place, found)?;
    if node.as_map().is_none() {
        let problem = format!("a config is a mapping, not {}", node.describe());
        let by = chain.last()?.display();
        found.error(node.place.clone(), problem, format!("`{KEY}` in {by} names this file: name a config there"));
        return None;
    }
    chain.push(path);
    Some(node)
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (fs::canonicalize(one), fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => one == other,
    }
}

/// Why a file cannot be extended, and what to write.
fn unreadable(path: &Path, error: &std::io::Error) -> (String, String) {
    let shown = path.display();
    match error.kind() {
        ErrorKind::NotFound => {
            let near = suggest(&file_name(path), &beside(path).iter().map(String::as_str).collect::<Vec<_>>(), "");
            let near = near.split_once('?').map_or(String::new(), |(question, _)| format!("{question}? "));
            (format!("there is no file `{shown}`"), near + HELP)
        }
        ErrorKind::InvalidData => (format!("`{shown}` is no text, so no config"), HELP.into()),
        ErrorKind::IsADirectory => (format!("`{shown}` is no file"), HELP.into()),
        _ => (format!("`{shown}` cannot be read: {error}"), "make it readable, or name another file".into()),
    }
}

fn file_name(path: &Path) -> String {
    path.file_name().map_or(String::new(), |name| name.to_string_lossy().into_owned())
}

/// Names of the YAML files in a path's folder.
fn beside(path: &Path) -> Vec<String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let files = fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut names: Vec<String> =
        files.filter(|file| file.extension().is_some_and(|end| end == "yaml")).map(|file| file_name(&file)).collect();
    names.sort();
    names
}

/// `upper` laid over `base`; `at` is where both lie.
fn over(base: Node, upper: Node, at: &mut Vec<String>) -> Node {
    let (place, (below, above)) = match (base.data, upper.data) {
        (Data::Map(below), Data::Map(above)) if is_merged(at) => (upper.place, (below, above)),
        (_, data) => return Node { place: upper.place, data },
    };
    let mut merged: Vec<(Key, Node)> = below;
    for (key, node) in above {
        let known = merged.iter().position(|(other, _)| grid::path(&other.name) == grid::path(&key.name));
        let Some(known) = known else {
            merged.push((key, node));
            continue;
        };
        let (_, beneath) = merged.remove(known);
        if at.is_empty() && node.is_null() {
            continue;
        }
        let [beneath, node] = [beneath, node].map(|node| written_out(&key.name, node, at));
        at.push(key.name.clone());
        merged.insert(known, (key, over(beneath, node, at)));
        at.pop();
    }
    Node { place, data: Data::Map(merged) }
}

/// `pretrain: mlm` as `pretrain: { objective: mlm }`, so that it merges.
fn written_out(key: &str, node: Node, at: &[String]) -> Node {
    match at.is_empty() && key == "pretrain" && node.as_str().is_some() {
        true => Node { place: node.place.clone(), data: Data::Map(vec![objective_alone(&node)]) },
        false => node,
    }
}

/// Whether two mappings there merge key by key.
fn is_merged(at: &[String]) -> bool {
    let at: Vec<&str> = at.iter().map(String::as_str).collect();
    match at[..] {
        [] => true,
        [key] => is_section(key) || ["grid", "random", "tune", "ablate"].contains(&key),
        [of, key] => [("random", "over"), ("tune", "over"), ("ablate", "changes")].contains(&(of, key)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::registry::Registry;
    use tempfile::TempDir;

    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        folder
    }

    fn load(folder: &TempDir, name: &str) -> Result<Config, Diagnostics> {
        Config::load(&folder.path().join(name), &[], crate::config::MOST_RUNS, &Registry::default())
    }

    /// Its runs without their order.
    fn ids(config: &Config) -> Vec<String> {
        let mut ids: Vec<String> = config.runs.iter().map(|run| run.spec(&Registry::default(), 1, None).id()).collect();
        ids.sort();
        ids
    }

    const BASE: &str = "\
name: base
question: Which?
seeds: 2
tasks: [mqar: { causal: false }]
model: { d_model: 16, n_layers: 1 }
pretrain: { steps: 9 }
grid: { optimizer.lr: [1, 2], optimizer.eps: [1e-7, 1e-8] }
mixers: [attention: { n_heads: 2 }, gru]
";

    #[test]
    fn the_keys_of_the_file_win_and_equal_content_is_the_same_runs() {
        let folder = folder(&[
            ("deep/base.yaml", BASE),
            ("deep/middle.yaml", "extends: base.yaml\nmodel: { n_layers: 3 }\nmixers: [gru]\npretrain: mlm\n"),
            ("top.yaml", "grid: { optimizer.lr: [5] }\nmodel: { dropout: 0.1 }\nextends: deep/middle.yaml\n"),
            (
                "spelt.yaml",
                "seeds: 2\ntasks: [mqar: { causal: false }]\nmixers: [gru]\nmodel: { d_model: 16, n_layers: 3, dropout: 0.1 }\n\
                 pretrain: { objective: mlm, steps: 9 }\ngrid: { optimizer.lr: [5], optimizer.eps: [1e-7, 1e-8] }\n",
            ),
        ]);
        let top = load(&folder, "top.yaml").unwrap_or_else(|e| panic!("{}", e.render()));
        assert_eq!(ids(&top), ids(&load(&folder, "spelt.yaml").unwrap()));
        assert_eq!((top.name.as_str(), top.question.as_str()), ("top", "Which?"), "a name is not inherited");
        let settings: Vec<&str> = top.runs[0].settings.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(settings, ["optimizer.lr", "optimizer.eps"], "an axis stays at its place");
        let middle = load(&folder, "deep/middle.yaml").unwrap();
        assert_eq!((middle.runs.len(), middle.runs[0].model.n_layers), (8, 3));
    }

    #[test]
    fn nothing_over_a_key_takes_it_away_and_only_the_maps_named_merge() {
        let base =
            format!("{BASE}match: {{ parameters: 0.5 }}\nexpect: [{{ mixer: gru, task: mqar, at_least: 0.1 }}]\n");
        let folder = folder(&[
            ("base.yaml", &base),
            ("top.yaml", "extends: base.yaml\ngrid: ~\nexpect: ~\npretrain: ~\nmatch: { tolerance: 0.1 }\n"),
            ("none.yaml", "extends: base.yaml\nlist: ~\n"),
        ]);
        let top = load(&folder, "top.yaml").unwrap_or_else(|e| panic!("{}", e.render()));
        assert_eq!((top.runs.len(), top.expect.len()), (4, 0));
        assert!(top.runs.iter().all(|run| run.pretrain.is_none() && run.settings.is_empty()));
        assert!(top.matched.unwrap().sentence().unwrap().contains("within 10 %"));
        let refused = load(&folder, "none.yaml").unwrap_err().lines();
        assert!(refused[0].contains("none.yaml:2:7: `list` is nothing"), "there was nothing to take away: {refused:?}");
    }

    #[test]
    fn a_mistake_is_said_where_it_was_written() {
        let base = BASE.replace("d_model: 16", "d_model: 17").replace("gru]", "gru: { x: 1 }]");
        let folder = folder(&[("base.yaml", &base), ("top.yaml", "extends: base.yaml\nmodel: { n_layer: 2 }\n")]);
        let found = load(&folder, "top.yaml").unwrap_err();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let lines = found.lines();
        assert!(lines[0].starts_with(&format!("{}:2:10: unknown field `n_layer`", at("top.yaml"))), "{lines:#?}");
        let heads = lines.iter().find(|line| line.contains("`n_heads` is 2")).expect("17 is odd");
        assert!(heads.starts_with(&format!("{}:8:", at("base.yaml"))), "{heads}");
        assert!(found.render().contains(&format!("or change `d_model` on line 5 of {}", at("base.yaml"))));
        assert!(lines.iter().any(|line| line.contains("base.yaml:8:") && line.contains("unknown field `x`")));
    }
}
