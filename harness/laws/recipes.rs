//! The tables beside the recipes, `configs/recipes/NAME.csv`, held against `configs/NAME.yaml`. `configs/recipes/README.md`
//! says what a table is.

use crate::base::diagnostics::{Diagnostics, Place};
use crate::config::presets;
use crate::config::sections::is_section;
use crate::config::yaml::{self, Node};
use crate::config::{Config, Draft};
use crate::registry::Registry;
use crate::train::sections::Sections;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

const COLUMNS: [&str; 7] = ["task", "mixer", "key", "source_value", "our_value", "reason", "source"];
/// Configs that say they follow a published recipe: each has its table.
const PUBLISHED: [&str; 7] = ["lra", "bigs", "hydra_glue", "matrix_mixers_full", "mqar_full", "mad", "mad_full"];
/// Sections whose keys need a row where a config writes them.
const SECTIONS: [&str; 4] = ["model", "optimizer", "schedule", "budget"];

fn configs() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../configs")
}

/// One line of a table.
#[derive(Debug)]
struct Row {
    line: u64,
    tasks: Vec<String>,
    mixers: Vec<String>,
    key: String,
    theirs: Option<Value>,
    ours: Option<Value>,
    reason: String,
    source: String,
}

impl Row {
    fn is_of(&self, task: &str, mixer: &str) -> bool {
        let any = |labels: &[String], label: &str| labels.iter().any(|l| l == "*" || l == label);
        any(&self.tasks, task) && any(&self.mixers, mixer)
    }
}

/// A cell: YAML, or nothing.
fn cell(text: &str) -> Result<Option<Value>, String> {
    if text.is_empty() {
        return Ok(None);
    }
    let mut found = Diagnostics::new("cell");
    let node = yaml::parse(text, |line, column| Place::File { line, column }, &mut found);
    node.filter(|_| found.is_empty()).map(|node| Some(node.to_json())).ok_or_else(|| format!("`{text}` is no YAML"))
}

fn rows(text: &str) -> Result<Vec<Row>, String> {
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|e| e.to_string())?;
    if header.iter().ne(COLUMNS) {
        return Err(format!("the columns are {COLUMNS:?}, not {header:?}"));
    }
    let row = |record: csv::StringRecord| {
        let line = record.position().map_or(0, csv::Position::line);
        let at = |i: usize| record.get(i).unwrap_or_default().to_owned();
        let labels = |i: usize| at(i).split('|').map(|label| label.trim().to_owned()).collect();
        let value = |i: usize| cell(&at(i)).map_err(|e| format!("line {line}: {e}"));
        let (theirs, ours) = (value(3)?, value(4)?);
        Ok(Row { line, tasks: labels(0), mixers: labels(1), key: at(2), theirs, ours, reason: at(5), source: at(6) })
    };
    reader.records().map(|record| row(record.map_err(|e| e.to_string())?)).collect()
}

/// Equal as numbers, or as what else they are.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(_), Value::Number(_)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

/// Whether `sections` with `section.key` set to `value` are what they were. A key that JSON leaves out at its default counts too.
fn unchanged(sections: &Sections, section: &str, key: &str, value: &Value) -> Result<bool, String> {
    let mut json = serde_json::to_value(sections).expect("settings are plain data");
    let keys = json.get_mut(section).ok_or_else(|| format!("the run has no `{section}`"))?;
    keys[key] = value.clone();
    let with: Sections = serde_json::from_value(json).map_err(|e| format!("`{value}` cannot be there: {e}"))?;
    let resolved = |of: &Sections| Sections { model: of.model.resolved(), ..of.clone() };
    Ok(resolved(&with) == resolved(sections))
}

/// Whether the run of `draft` has `value` at `key`.
fn holds(draft: &Draft, key: &str, value: &Value, registry: &Registry) -> Result<bool, String> {
    let path: Vec<&str> = key.split('.').collect();
    let family =
        |name: &str, choice: &crate::train::spec::Choice, resolve: fn(&Value) -> Result<Value, serde_json::Error>| {
            let last = path[2];
            if choice.name != name {
                return Err(format!("the run is of `{}`", choice.name));
            }
            let mut settings = choice.settings.clone();
            settings[last] = value.clone();
            let with = resolve(&settings).map_err(|e| format!("`{value}` cannot be there: {e}"))?;
            Ok(with == choice.settings)
        };
    match path[..] {
        [section, key] if is_section(section) => unchanged(&draft.sections, section, key, value),
        ["task", name, _] => family(name, &draft.task, registry.task(name).ok_or("no such task")?.resolve),
        ["mixer", name, _] => family(name, &draft.mixer, registry.mixer(name).ok_or("no such mixer")?.resolve),
        _ => Err("no such key: paths are model.KEY, optimizer.KEY, …, task.NAME.KEY, mixer.NAME.KEY".into()),
    }
}

/// What an entry under `tasks` or `mixers` writes.
struct Written {
    label: String,
    keys: BTreeSet<String>,
    only: Option<Vec<String>>,
}

fn get<'a>(node: &'a Node, key: &str) -> Option<&'a Node> {
    node.as_map()?.iter().find(|(k, _)| k.name == key).map(|(_, node)| node)
}

/// Dotted keys of the sections that `node` has.
fn section_keys(node: &Node) -> BTreeSet<String> {
    let keys = |section: &'static str| {
        let entries = get(node, section).and_then(Node::as_map).unwrap_or_default();
        entries.iter().flat_map(move |(key, value)| match (key.name.as_str(), value.as_str()) {
            ("preset", Some(name)) => {
                let preset = presets::find(name).expect("the config was checked").model();
                preset.into_iter().map(|(key, _)| format!("{section}.{key}")).collect()
            }
            ("preset", None) => Vec::new(),
            (key, _) => vec![format!("{section}.{key}")],
        })
    };
    SECTIONS.into_iter().flat_map(keys).collect()
}

/// The axes of a grid that `node` has.
fn axes(node: &Node) -> Option<BTreeSet<String>> {
    let grid = get(node, "grid")?;
    Some(grid.as_map().unwrap_or_default().iter().map(|(key, _)| key.name.clone()).collect())
}

impl Written {
    fn of(item: &Node, kind: &str) -> Self {
        let whole = get(item, kind);
        let choice = whole.unwrap_or(item);
        let (family, settings) = match (choice.as_str(), choice.as_map()) {
            (Some(family), _) => (family.to_owned(), None),
            (None, Some([(key, settings)])) => (key.name.clone(), settings.as_map()),
            _ => panic!("the config was checked"),
        };
        let mut keys = if whole.is_some() { section_keys(item) } else { BTreeSet::new() };
        keys.extend(settings.unwrap_or_default().iter().map(|(key, _)| format!("{kind}.{family}.{}", key.name)));
        let only = whole.and_then(|_| get(item, "tasks")).and_then(Node::as_list);
        let only = only.map(|labels| labels.iter().filter_map(Node::as_str).map(str::to_owned).collect());
        let label = whole.and_then(|_| get(item, "name")).and_then(Node::as_str).map_or(family, str::to_owned);
        Self { label, keys, only }
    }
}

/// Keys that the config at `text` writes for every pair of a task's and a mixer's label, `grid` among them.
fn written(text: &str) -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut found = Diagnostics::new("config");
    let root = yaml::parse(text, |line, column| Place::File { line, column }, &mut found).expect("it was checked");
    let entries = |plural: &str| get(&root, plural).and_then(Node::as_list).unwrap_or_default();
    let mut all: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for task_item in entries("tasks") {
        let task = Written::of(task_item, "task");
        let axes = axes(task_item).or_else(|| axes(&root)).unwrap_or_default();
        for mixer in entries("mixers").iter().map(|item| Written::of(item, "mixer")) {
            if mixer.only.as_ref().is_some_and(|only| !only.contains(&task.label)) {
                continue;
            }
            let keys = all.entry((task.label.clone(), mixer.label)).or_default();
            keys.extend(section_keys(&root).into_iter().chain(axes.clone()));
            keys.extend(task.keys.iter().cloned().chain(mixer.keys));
        }
    }
    all
}

/// What a table came to.
#[derive(Debug, Default)]
struct Checked {
    /// Everything wrong with it.
    wrong: Vec<String>,
    /// Rows, keys of runs compared, and rows in which source and config differ.
    rows: usize,
    compared: usize,
    different: Vec<String>,
}

/// Holds a table against a config.
fn check(table: &str, config_text: &str, config: &Config, registry: &Registry) -> Checked {
    let mut checked = Checked::default();
    let rows = match rows(table) {
        Ok(rows) => rows,
        Err(error) => return Checked { wrong: vec![error], ..checked },
    };
    checked.rows = rows.len();
    let mut pairs: BTreeMap<(&str, &str), Vec<&Draft>> = BTreeMap::new();
    for draft in &config.runs {
        pairs.entry((&draft.task_label, &draft.mixer_label)).or_default().push(draft);
    }
    for row in &rows {
        let mut wrong = |what: String| checked.wrong.push(format!("line {}: `{}`: {what}", row.line, row.key));
        let labels_known = |labels: &[String], known: &dyn Fn(&Draft) -> bool| {
            labels.iter().all(|l| l == "*") || config.runs.iter().any(known)
        };
        for label in &row.tasks {
            if !labels_known(std::slice::from_ref(label), &|d: &Draft| d.task_label == *label) {
                wrong(format!("no task is labelled `{label}`"));
            }
        }
        for label in &row.mixers {
            if !labels_known(std::slice::from_ref(label), &|d: &Draft| d.mixer_label == *label) {
                wrong(format!("no mixer is labelled `{label}`"));
            }
        }
        let differ = match (&row.theirs, &row.ours) {
            (Some(theirs), Some(ours)) => !same(theirs, ours),
            _ => true,
        };
        match (differ, row.reason.is_empty()) {
            (true, true) => wrong("source and config differ, and no reason is given".into()),
            (false, false) => wrong("a reason is given, but source and config agree".into()),
            _ => {}
        }
        if row.theirs.is_none() && row.ours.is_none() {
            wrong("neither the source nor the config has a value".into());
        }
        if row.theirs.is_some() && row.source.is_empty() {
            wrong("the source's value has no source".into());
        }
        if differ {
            let show = |value: &Option<Value>| value.as_ref().map_or("-".into(), Value::to_string);
            checked.different.push(format!(
                "{} / {}: {}: {} there, {} here: {}",
                row.tasks.join("|"),
                row.mixers.join("|"),
                row.key,
                show(&row.theirs),
                show(&row.ours),
                row.reason
            ));
        }
        let mut matched = false;
        for ((task, mixer), drafts) in &pairs {
            if !row.is_of(task, mixer) {
                continue;
            }
            matched = true;
            let twice = |other: &&Row| other.key == row.key && other.is_of(task, mixer) && other.ours.is_some();
            if row.ours.is_some() && rows.iter().take_while(|other| other.line < row.line).any(|other| twice(&other)) {
                wrong(format!("a second row for `{mixer}` on `{task}`"));
            }
            let Some(ours) = &row.ours else { continue };
            checked.compared += 1;
            let swept = drafts[0].settings.iter().any(|(path, _)| *path == row.key);
            let values = match (swept, ours) {
                (true, Value::Array(values)) => values.clone(),
                (true, _) => {
                    wrong(format!("swept for `{mixer}` on `{task}`: write the list of its values"));
                    continue;
                }
                (false, value) => vec![value.clone()],
            };
            for draft in drafts {
                let held: Result<Vec<bool>, String> =
                    values.iter().map(|value| holds(draft, &row.key, value, registry)).collect();
                match held {
                    Ok(held) if held.contains(&true) => {}
                    Ok(_) => {
                        wrong(format!("`{mixer}` on `{task}` has another value than {ours}"));
                        break;
                    }
                    Err(error) => {
                        wrong(format!("`{mixer}` on `{task}`: {error}"));
                        break;
                    }
                }
            }
            for value in values.iter().filter(|_| swept) {
                if !drafts.iter().any(|draft| holds(draft, &row.key, value, registry) == Ok(true)) {
                    wrong(format!("no run of `{mixer}` on `{task}` has {value}"));
                }
            }
        }
        if !matched {
            wrong("no run has these labels".into());
        }
    }
    for ((task, mixer), keys) in written(config_text) {
        for key in keys {
            if !rows.iter().any(|row| row.key == key && row.ours.is_some() && row.is_of(&task, &mixer)) {
                checked.wrong.push(format!("`{key}` of `{mixer}` on `{task}` has no row"));
            }
        }
    }
    checked
}

fn load(name: &str) -> (String, Config) {
    let path = configs().join(format!("{name}.yaml"));
    let text = std::fs::read_to_string(&path).expect("a config");
    let config = Config::load(&path, &[], crate::config::MOST_RUNS, &Registry::default())
        .unwrap_or_else(|e| panic!("{}", e.render()));
    (text, config)
}

/// `cargo test --workspace --lib -- every_recipe --nocapture` prints what was compared and what differs, and why.
#[test]
fn every_recipe_is_what_the_table_beside_it_says() {
    let folder = configs().join("recipes");
    let names = std::fs::read_dir(&folder).expect("the tables").filter_map(|entry| {
        let path = entry.expect("an entry").path();
        (path.extension()? == "csv").then(|| path.file_stem().expect("a name").to_string_lossy().into_owned())
    });
    let names: BTreeSet<String> = names.collect();
    for name in PUBLISHED {
        assert!(names.contains(name), "configs/{name}.yaml says it follows a source, and has no table");
    }
    let mut wrong = Vec::new();
    for name in names {
        let table = std::fs::read_to_string(folder.join(format!("{name}.csv"))).expect("a table");
        let (text, config) = load(&name);
        let checked = check(&table, &text, &config, &Registry::default());
        println!(
            "{name}: {} rows, {} keys of recipes compared, {} differences",
            checked.rows,
            checked.compared,
            checked.different.len()
        );
        checked.different.iter().for_each(|line| println!("  {line}"));
        wrong.extend(checked.wrong.iter().map(|line| format!("{name}.csv: {line}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Labels of mixers and tasks to what their runs are made of.
fn recipes(config: &Config) -> BTreeMap<(String, String), Value> {
    let whole = |draft: &Draft| {
        let mut whole = serde_json::to_value(&draft.sections).expect("settings are plain data");
        (whole["task"], whole["mixer"]) = (serde_json::json!(draft.task), serde_json::json!(draft.mixer));
        whole
    };
    config.runs.iter().map(|d| ((d.task_label.clone(), d.mixer_label.clone()), whole(d))).collect()
}

#[test]
fn what_lra_tune_tunes_is_what_lra_runs() {
    let ((_, tune), (_, lra)) = (load("lra_tune"), load("lra"));
    let (tuned, run) = (recipes(&tune), recipes(&lra));
    let untuned: BTreeSet<_> = run.keys().filter(|(_, mixer)| ["bigs", "hydra"].contains(&mixer.as_str())).collect();
    assert_eq!(tuned.keys().collect::<BTreeSet<_>>(), untuned, "every recipe that nobody published, and no other");
    // A tenth of the steps, whatever the tuned rate.
    let tenth = ["/budget/steps", "/schedule/warmup_steps"];
    let free = ["/optimizer/lr", "/budget/eval_every"];
    for (labels, mut tuned) in tuned {
        let mut there = run[&labels].clone();
        for path in tenth {
            let steps = |value: &Value| value.pointer(path).and_then(Value::as_u64).expect("a count");
            assert_eq!(10 * steps(&tuned), steps(&there), "{path} of {labels:?}");
        }
        for path in tenth.into_iter().chain(free) {
            for value in [&mut tuned, &mut there] {
                value.pointer_mut(path).expect("a key").take();
            }
        }
        assert_eq!(tuned, there, "{labels:?}");
    }
    for draft in &lra.runs {
        let point = |other: &&Draft| other.task_label == draft.task_label && other.mixer_label == draft.mixer_label;
        let rates: Vec<f64> = tune.runs.iter().filter(point).map(|d| d.optimizer.lr).collect();
        assert!(rates.is_empty() || rates.contains(&draft.optimizer.lr), "{rates:?} for {}", draft.mixer_label);
    }
}

mod checker {
    use super::*;

    const CONFIG: &str = "\
tasks:
  - task: { mqar: { seq_len: 16, vocab_size: 32, kv_pairs: 2, causal: false } }
    budget: { steps: 10 }
mixers:
  - mixer: { attention: { n_heads: 2 } }
    model: { d_model: 16, dropout: 0.1 }
grid: { optimizer.lr: [1e-3, 1e-2] }
";
    const TABLE: &str = "\
task,mixer,key,source_value,our_value,reason,source
mqar,*,task.mqar.seq_len,16,16,,paper
*,*,task.mqar.vocab_size,64,32,a small one,paper
*,*,task.mqar.kv_pairs,2,2,,paper
*,*,task.mqar.causal,false,false,,paper
*,*,budget.steps,1e1,10,,paper
*,attention,mixer.attention.n_heads,2,2,,paper
*,attention,mixer.attention.window,null,null,,paper
*,attention,model.d_model,16,16,,paper
*,attention,model.dropout,0.1,0.10,,paper
*,attention,model.token_types,0,0,,paper
*,attention,model.norm,layer,layer,,paper
*,attention,optimizer.lr,\"[0.001, 0.01]\",\"[1e-3, 1e-2]\",,paper
*,attention,ema,0.99,,not here,paper
";

    fn wrong(table: &str) -> Vec<String> {
        let registry = Registry::default();
        let config = Config::parse(CONFIG, "x.yaml", "x", &[], &registry).unwrap_or_else(|e| panic!("{}", e.render()));
        check(table, CONFIG, &config, &registry).wrong
    }

    #[test]
    fn a_table_that_says_what_is_passes() {
        assert_eq!(wrong(TABLE), Vec::<String>::new());
    }

    #[test]
    fn whatever_a_table_gets_wrong_is_named_with_its_line() {
        let cases = [
            (
                "model.d_model,16,16,",
                "model.d_model,32,32,",
                "line 9: `model.d_model`: `attention` on `mqar` has another value than 32",
            ),
            (
                "model.token_types,0,0,",
                "model.token_types,2,2,",
                "line 11: `model.token_types`: `attention` on `mqar` has another value than 2",
            ),
            (
                "model.norm,layer,layer",
                "model.norm,batch,batch",
                "line 12: `model.norm`: `attention` on `mqar` has another value than \"batch\"",
            ),
            (
                "model.norm",
                "model.nrm",
                "line 12: `model.nrm`: `attention` on `mqar`: `\"layer\"` cannot be there: unknown field `nrm`",
            ),
            (
                "window,null,null",
                "window,4,4",
                "line 8: `mixer.attention.window`: `attention` on `mqar` has another value than 4",
            ),
            (
                "vocab_size,64,32,a small one",
                "vocab_size,64,32,",
                "line 3: `task.mqar.vocab_size`: source and config differ, and no reason is given",
            ),
            (
                "kv_pairs,2,2,",
                "kv_pairs,2,2,why",
                "line 4: `task.mqar.kv_pairs`: a reason is given, but source and config agree",
            ),
            ("ema,0.99,,not here", "ema,0.99,,", "line 14: `ema`: source and config differ, and no reason is given"),
            ("ema,0.99,,not here", "ema,,,not here", "line 14: `ema`: neither the source nor the config has a value"),
            (
                "causal,false,false,,paper",
                "causal,false,false,,",
                "line 5: `task.mqar.causal`: the source's value has no source",
            ),
            ("mqar,*,task", "mqr,*,task", "line 2: `task.mqar.seq_len`: no task is labelled `mqr`"),
            ("*,*,budget.steps,1e1,10,,paper\n", "", "`budget.steps` of `attention` on `mqar` has no row"),
            (
                "\"[0.001, 0.01]\",\"[1e-3, 1e-2]\"",
                "1e-3,1e-3",
                "line 13: `optimizer.lr`: swept for `attention` on `mqar`: write the list of its values",
            ),
            (
                "\"[0.001, 0.01]\",\"[1e-3, 1e-2]\"",
                "[0.001],[0.001]",
                "line 13: `optimizer.lr`: `attention` on `mqar` has another value than [0.001]",
            ),
            (
                "*,*,budget.steps",
                "*,*,budget.steps,10,10,,paper\n*,*,budget.steps",
                "line 7: `budget.steps`: a second row for `attention` on `mqar`",
            ),
        ];
        for (there, put, complaint) in cases {
            assert!(TABLE.contains(there), "{there}");
            let wrong = wrong(&TABLE.replacen(there, put, 1));
            assert!(wrong.iter().any(|line| line.starts_with(complaint)), "{put}: {wrong:#?}");
        }
        assert!(wrong("task,mixer\n")[0].contains("the columns are"));
    }
}
