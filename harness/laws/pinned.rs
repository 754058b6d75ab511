//! Numbers of this build against a table, `harness/laws/pinned.jsonl`: they move only together with a version.
//!
//! A row holds the losses of the first training steps, the scores and every measure of one small run: of each mixer with its
//! defaults and each of its [`mixers::Family::variants`], causal and not where it can be either; of each task, with a fixed model and
//! each analysis; of models, optimizers and schedules. A row is owned by a version: [`mixers::Family::VERSION`] of the mixer,
//! [`tasks::TaskSpec::version`] of the task, [`ENGINE`] of all. When numbers move and none of its versions did, the test fails and names
//! the version to raise.
//!
//! After a version was raised, or a mixer, a variant or a task was added, the table is made again by
//!
//! ```text
//! MIXARENA_PIN=1 cargo test --workspace --lib pinned
//! ```
//!
//! which refuses rows whose numbers moved under the same version. (A row whose version no record of anybody's carries yet may be
//! deleted from the file and made again.)
//!
//! What it notices: on a processor like the one a row was made on (`cpu`), every change of a float32 result, rounding included: there
//! equal builds agree to the last bit on one thread. On other processors libtorch adds in another order, so that only a relative change
//! of losses above [`ELSEWHERE`] is noticed: another formula, initial value, mask or group of parameters, but not another order of
//! additions.
//! What it cannot notice: what shows only at other sizes, longer lengths, on a GPU, in bf16 or after many steps.

use crate::base::process::panic_text;
use crate::laws::samples::{alone, trainer};
use crate::train::sections::{SECTIONS, SectionEntry};
use crate::train::spec::ENGINE;
use crate::train::trainer::{Ended, State};
use mixers::native::kernels::{Kernels, with};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Largest relative change on the processor that a row was made on: the numbers are the same.
const HERE: f64 = 1e-12;
/// Largest relative change on other processors, whose vectors have another width: float32 rounds to 6e-8, three steps of an
/// optimizer with a large ε amplify it.
const ELSEWHERE: f64 = 1e-4;
/// The same of scores and measures on other processors: which answer is the likeliest, and which step the best, hangs on rounding where two
/// are nearly alike. (With SSE in place of AVX 3 of 270 rows had a test loss further off than [`ELSEWHERE`], by up to 3.5e-3, and no row
/// a training or validation loss.)
const SCORES_ELSEWHERE: f64 = 0.1;
/// Below this a loss is compared by its difference; a score is below 1.
const SMALL: f64 = 1e-2;

/// What owns a row, besides [`ENGINE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Of {
    Mixer,
    Task,
    Model,
}

/// One line of the table.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Row {
    of: Of,
    name: String,
    /// What is not at its default, with the seed.
    settings: Value,
    engine: u32,
    version: u32,
    /// Hash of the processor's model and of what it can do.
    cpu: String,
    values: BTreeMap<String, Vec<Option<f64>>>,
}

impl Row {
    fn key(&self) -> (Of, String, String) {
        (self.of, self.name.clone(), self.settings.to_string())
    }

    fn label(&self) -> String {
        format!("{:?} `{}` {}", self.of, self.name, self.settings)
    }

    /// The version to raise.
    fn owner(&self) -> String {
        match self.of {
            Of::Mixer => format!("`VERSION` of `{}` in mixers/", self.name),
            Of::Task => format!(
                "the `version` in `TaskSpec` of `{}` in tasks/ if its data or its judge moved, else `ENGINE`",
                self.name
            ),
            Of::Model => "`ENGINE` in harness/train/spec.rs".into(),
        }
    }

    /// Where the numbers of two rows differ by more than rounding may.
    fn moved(&self, new: &Self) -> Option<String> {
        // By how much a number may differ, and the size below which it is the difference that counts.
        let limits = |key: &str| match key {
            _ if self.cpu == new.cpu => (HERE, SMALL),
            "train_loss" | "validation_loss" | "floor" | "ceiling" => (ELSEWHERE, SMALL),
            _ => (SCORES_ELSEWHERE, 1.0),
        };
        let keys = |row: &Self| row.values.keys().cloned().collect::<BTreeSet<_>>();
        if let Some(key) = keys(self).symmetric_difference(&keys(new)).next() {
            return Some(format!("`{key}` is in one of them only"));
        }
        for (key, old) in &self.values {
            let now = &new.values[key];
            if old.len() != now.len() {
                return Some(format!("{key}: {} numbers, {} before", now.len(), old.len()));
            }
            let (most, small) = limits(key);
            for (at, pair) in old.iter().zip(now).enumerate() {
                let far = match pair {
                    (Some(old), Some(now)) => (old - now).abs() / old.abs().max(now.abs()).max(small),
                    (None, None) => 0.0,
                    _ => f64::INFINITY,
                };
                // Not a number is no small change either.
                if far.is_nan() || far > most {
                    return Some(format!("{key}[{at}] is {:?}, {:?} before ({far:.1e} of {most:.0e})", pair.1, pair.0));
                }
            }
        }
        None
    }
}

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq)]
enum Fault {
    /// Numbers moved and no version did: the code has to change.
    Moved(String),
    /// The table is older than the code: it has to be made again.
    Stale(String),
}

/// Holds a new row against the table's.
fn judge(old: Option<&Row>, new: &Row) -> Result<(), Fault> {
    let Some(old) = old else { return Err(Fault::Stale(format!("{} is not in the table", new.label()))) };
    if (old.engine, old.version) == (new.engine, new.version) {
        return match old.moved(new) {
            None => Ok(()),
            Some(what) => Err(Fault::Moved(format!("{}: {what}: raise {}", new.label(), new.owner()))),
        };
    }
    let versions = |row: &Row| format!("engine {}, version {}", row.engine, row.version);
    if new.engine < old.engine || (new.engine == old.engine && new.version < old.version) {
        return Err(Fault::Moved(format!("{}: {} here, {} in the table", new.label(), versions(new), versions(old))));
    }
    Err(Fault::Stale(format!("{}: the table is of {}, the code of {}", new.label(), versions(old), versions(new))))
}

/// Every number of a run that ended, NaN as `None`.
fn numbers(state: &State, ended: &Ended) -> BTreeMap<String, Vec<Option<f64>>> {
    let number = |value: f64| value.is_finite().then_some(value);
    let curve = |of: fn(&results::Point) -> f64| state.curve.iter().map(|point| number(of(point))).collect();
    let mut values = BTreeMap::from([
        ("train_loss".to_owned(), curve(|point| point.train_loss)),
        ("validation_loss".into(), curve(|point| point.validation_loss)),
        ("validation_score".into(), curve(|point| point.validation_score)),
    ]);
    let scores = [("test", ended.scores.test), ("floor", ended.scores.floor), ("ceiling", ended.scores.ceiling)];
    values.extend(scores.map(|(name, score)| (name.to_owned(), vec![score.and_then(number)])));
    values.extend(ended.measures.iter().map(|(name, value)| (format!("measure {name}"), vec![number(*value)])));
    // Of details the mean of each kind, and how many there are.
    let mut details: BTreeMap<String, Vec<f64>> = BTreeMap::new();
    for detail in ended.details.iter().filter(|detail| detail.value.is_finite()) {
        let kind = format!("details {} {} {}", detail.measure, detail.series, detail.axis);
        details.entry(kind).or_default().push(detail.value);
    }
    let mean =
        |values: Vec<f64>| vec![number(values.iter().sum::<f64>() / values.len() as f64), number(values.len() as f64)];
    values.extend(details.into_iter().map(|(kind, values)| (kind, mean(values))));
    values
}

/// A hash of the processor's model and flags, and of libtorch's setting for what to use of them.
fn cpu() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let kinds = ["vendor_id", "cpu family", "model", "model name", "stepping", "flags", "Features", "CPU part"];
    let of = |line: &&str| kinds.contains(&line.split(':').next().unwrap_or_default().trim());
    let first: BTreeSet<&str> = text.split("\n\n").next().unwrap_or_default().lines().filter(of).collect();
    let mut hasher = blake3::Hasher::new();
    first.iter().for_each(|line| _ = hasher.update(line.as_bytes()));
    for name in ["ATEN_CPU_CAPABILITY", "MKL_ENABLE_INSTRUCTIONS", "ONEDNN_MAX_CPU_ISA"] {
        hasher.update(std::env::var(name).unwrap_or_default().as_bytes()).update(b"\0");
    }
    if first.is_empty() { "unknown".into() } else { hasher.finalize().to_hex()[..12].to_owned() }
}

/// A config of one run, `more` laid over its sections.
fn config(task: Value, mixer: Value, more: &Value) -> String {
    let mut config = json!({
        "tasks": [task],
        "mixers": [mixer],
        "model": { "d_model": 8, "n_layers": 1 },
        // A large ε, so that a gradient that is nothing but rounding moves nothing.
        "optimizer": { "lr": 0.01, "weight_decay": 0.1, "eps": 1e-3 },
        "budget": { "steps": 3, "batch_size": 4, "eval_every": 1 },
    });
    for (section, keys) in more.as_object().expect("sections") {
        match (config.get_mut(section).and_then(Value::as_object_mut), keys) {
            (Some(map), Value::Object(keys)) => map.extend(keys.clone()),
            _ => config[section] = keys.clone(),
        }
    }
    config.to_string()
}

/// What a run came to, by name.
type Numbers = BTreeMap<String, Vec<Option<f64>>>;

/// A folder of data, and the configs whose runs broke off.
struct Bench<'a> {
    data: &'a Path,
    cpu: String,
    broken: Vec<String>,
}

impl Bench<'_> {
    /// The numbers of a run of the config, and its task's version; `None` and a line in `broken` where it panicked.
    fn run(&mut self, config: &str) -> Option<(Numbers, u32)> {
        for file in ["last.safetensors", "best.safetensors", "clock.json"] {
            let _ = std::fs::remove_file(self.data.join(file));
        }
        let run = || {
            let mut trainer = trainer(config, self.data);
            let ended = trainer.train(&AtomicBool::new(false), |_| ()).unwrap_or_else(|error| panic!("{error}"));
            (numbers(&trainer.state, &ended), trainer.task.spec().version)
        };
        match std::panic::catch_unwind(std::panic::AssertUnwindSafe(run)) {
            Ok(found) => Some(found),
            Err(panic) => {
                let why = panic_text(&*panic);
                self.broken.push(format!("{config}: {why}"));
                None
            }
        }
    }
}

fn recall(causal: bool) -> Value {
    json!({ "mqar": { "vocab_size": 32, "seq_len": 16, "kv_pairs": 2, "causal": causal, "train_examples": 40,
                      "validation_examples": 8, "test_examples": 8 } })
}

/// Sizes that fit a width of 8, where a mixer has such a setting.
fn small(entry: &mixers::Entry) -> serde_json::Map<String, Value> {
    let sizes = [
        ("n_heads", 2),
        ("d_state", 4),
        ("headdim", 4),
        ("chunk_size", 4),
        ("segment", 3),
        ("d_hidden", 8),
        ("d_inner", 8),
    ];
    let defaults = (entry.defaults)();
    sizes
        .into_iter()
        .filter(|(key, _)| defaults.get(key).is_some())
        .map(|(key, n)| (key.to_owned(), json!(n)))
        .collect()
}

/// Rows of every mixer with its defaults and each of the variants, in both directions.
fn of_mixers(bench: &mut Bench, variants: impl Fn(&mixers::Entry) -> Vec<Value>) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for entry in mixers::registry() {
        let before = rows.len();
        for variant in [vec![json!({})], variants(&entry)].concat() {
            let mut settings = small(&entry);
            settings.extend(variant.as_object().expect("settings are a map").clone());
            let settings = Value::Object(settings);
            for causal in [false, true] {
                // As many positions as the task has.
                let dims = mixers::Dims { d_model: 8, seq_len: 16, causal };
                let row_settings = json!({ "variant": variant, "causal": causal, "seed": 0 });
                let known = rows[before..].iter().any(|row| row.settings == row_settings);
                if known || !entry.check(&settings, &dims).is_empty() {
                    continue;
                }
                let config = config(recall(causal), json!({ entry.name: settings }), &json!({}));
                let Some((values, _)) = bench.run(&config) else { continue };
                rows.push(Row {
                    of: Of::Mixer,
                    name: entry.name.to_owned(),
                    settings: row_settings,
                    engine: ENGINE,
                    version: entry.version,
                    cpu: bench.cpu.clone(),
                    values,
                });
            }
        }
        assert!(rows.len() > before, "`{}` cannot be built with small settings", entry.name);
    }
    rows
}

/// Settings of every task: of those that are named below, and of every other one its first variant with few examples.
fn tasks(data: &Path) -> Vec<(&'static str, Value, Value)> {
    let mut all = named_tasks(data);
    let named: BTreeSet<&str> = all.iter().map(|(name, ..)| *name).collect();
    let others = tasks::registry().into_iter().filter(|entry| !named.contains(entry.name));
    let of_variant = |entry: tasks::Entry| {
        let mut settings = (entry.variants)().into_iter().next().map_or_else(|| json!({}), |variant| variant.settings);
        let defaults = (entry.defaults)();
        for (key, few) in COUNTS.iter().filter(|(key, _)| defaults.get(key).is_some()) {
            settings[key] = json!(few);
        }
        (entry.name, settings, json!({}))
    };
    all.extend(others.map(of_variant));
    all
}

/// Few examples, by the settings that say how many there are.
const COUNTS: [(&str, u64); 3] = [("train_examples", 40), ("validation_examples", 8), ("test_examples", 16)];

/// Small settings of tasks that have more than one row, data files, or measures that other sections ask for.
fn named_tasks(data: &Path) -> Vec<(&'static str, Value, Value)> {
    let counts: Value = COUNTS.map(|(key, few)| (key.to_owned(), json!(few))).into_iter().collect();
    let with = |more: Value| {
        let mut all = counts.clone();
        all.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        all
    };
    let plain = json!({});
    let looked_at = json!({ "analysis": { "heads": true, "prune": true, "retrain_steps": 1, "probes": true, "probe_examples": 20 },
                            "model": { "n_layers": 2 } });
    let states = json!({ "analysis": { "states": true } });
    let reads = json!({ "analysis": { "pseudo_perplexity": 4, "minimal_pairs": data.join("pairs.jsonl") } });
    let pairs = json!({ "analysis": { "minimal_pairs": data.join("pairs.jsonl") } });
    let stories = json!({ "corpus": { "path": "stories.txt", "held_out": 0.2 }, "tokenizer": { "characters": { "vocab_size": 24 } }, "seq_len": 16 });
    let laid = |more: Value| {
        let mut all = stories.clone();
        all.as_object_mut().expect("a map").extend(more.as_object().expect("a map").clone());
        all
    };
    vec![
        ("mqar", with(json!({ "vocab_size": 32, "seq_len": 16, "kv_pairs": 2 })), looked_at),
        ("mqar", with(json!({ "vocab_size": 32, "seq_len": 16, "kv_pairs": 2 })), states),
        (
            "mqar",
            with(json!({ "vocab_size": 32, "seq_len": 16, "kv_pairs": 2, "causal": false })),
            json!({ "pretrain": { "objective": "mlm", "steps": 2 } }),
        ),
        (
            "mqar",
            with(json!({ "vocab_size": 32, "seq_len": 16, "kv_pairs": 2 })),
            json!({ "pretrain": { "objective": "clm", "steps": 2 } }),
        ),
        ("associative_recall", with(json!({ "seq_len": 16 })), plain.clone()),
        ("induction_heads", with(json!({ "seq_len": 16, "test_lengths": [16, 24] })), plain.clone()),
        ("selective_copying", with(json!({ "seq_len": 24, "copy": 4 })), plain.clone()),
        (
            "passkey",
            with(json!({ "train_min_length": 24, "train_max_length": 32, "test_lengths": [32, 40], "filler": 5 })),
            plain.clone(),
        ),
        (
            "filler",
            with(json!({ "vocab_size": 20, "paragraph": 5, "train_length": 20, "test_lengths": [20, 40] })),
            plain.clone(),
        ),
        ("listops", with(json!({ "min_length": 5, "max_length": 30, "max_depth": 3 })), plain.clone()),
        ("text", json!({ "max_length": 24 }), plain.clone()),
        ("retrieval", with(json!({ "source": "synthetic", "document_length": 90, "mentions": 4 })), plain.clone()),
        ("image", json!({ "batch_files": 1, "side": 8 }), plain.clone()),
        ("pathfinder", with(json!({ "contour_length": 6, "side": 8 })), plain.clone()),
        ("depth", with(json!({ "kind": "template_matching" })), plain.clone()),
        ("depth", with(json!({ "kind": "in_context_qa", "pairs": 4, "alphabet": 32 })), plain.clone()),
        ("state_tracking", with(json!({ "train_max": 12, "test_lengths": [12, 20] })), plain.clone()),
        ("mad", with(json!({ "seq_len": 24 })), plain.clone()),
        ("mad", with(json!({ "task": "compression", "seq_len": 12 })), plain.clone()),
        ("algorithmic", with(json!({ "train_max": 8, "test_lengths": [8, 12] })), plain.clone()),
        ("algorithmic", with(json!({ "kind": "dyck", "train_max": 16, "test_lengths": [16] })), plain.clone()),
        (
            "sparse_regression",
            with(json!({ "dimension": 4, "sparsity": 2, "contexts": [8], "test_contexts": [4, 8] })),
            plain.clone(),
        ),
        ("icll", with(json!({})), plain.clone()),
        ("glue", json!({ "tokenizer": "bytes", "max_length": 32 }), plain.clone()),
        ("glue", json!({ "task": "mrpc", "tokenizer": "bytes", "max_length": 64 }), plain.clone()),
        ("glue", json!({ "task": "stsb", "tokenizer": "bytes", "max_length": 64 }), plain),
        ("mlm", laid(json!({ "eval_sequences": 12 })), reads),
        ("clm", laid(json!({ "eval_sequences": 12 })), pairs),
    ]
}

/// A data folder for [`named_tasks`].
fn put_data(folder: &Path) {
    let put = |name: String, text: &[u8]| {
        let path = folder.join(name);
        std::fs::create_dir_all(path.parent().expect("below a folder")).expect("makes folders");
        std::fs::write(path, text).expect("writes a file");
    };
    for (split, n) in [("train", 30), ("test", 12)] {
        for i in 0..n {
            put(format!("aclImdb/{split}/pos/{i}_9.txt"), format!("fine {} {split}", "film ".repeat(i % 4)).as_bytes());
            put(format!("aclImdb/{split}/neg/{i}_2.txt"), format!("poor {} {split}", "plot ".repeat(i % 3)).as_bytes());
        }
    }
    for (file, images) in [("data_batch_1.bin", 60_u32), ("test_batch.bin", 30)] {
        let pixel = |image: u32, at: u32| ((image * 2_654_435 + at * 40_503 + images) >> 7) as u8;
        let record = |i: u32| std::iter::once((i % 10) as u8).chain((0..3 * 1024).map(move |at| pixel(i, at)));
        put(format!("cifar-10-batches-bin/{file}"), &(0..images).flat_map(record).collect::<Vec<u8>>());
    }
    for (file, n) in [("train", 24_u32), ("dev", 12)] {
        let words = |i: u32| ["so ", "very ", "not "][i as usize % 3].repeat(1 + i as usize % 4);
        let rows = |row: &dyn Fn(u32) -> String| (0..n).map(row).collect::<Vec<_>>().join("\n") + "\n";
        let cola = rows(&|i| format!("gj04\t{}\t\tIt is {}{i}.", u32::from(i % 3 < 2), words(i)));
        put(format!("glue/CoLA/{file}.tsv"), cola.as_bytes());
        let header = "Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n";
        let mrpc = rows(&|i| {
            format!("{}\t{i}\t{}\tIt is {}{i}.\tIt was {}{i}.", u32::from(i % 3 < 2), i + 1, words(i), words(i + 1))
        });
        put(format!("glue/MRPC/{file}.tsv"), (header.to_owned() + &mrpc).as_bytes());
        let header = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n";
        let stsb = rows(&|i| {
            let score = f64::from(i * 7 % 26) / 5.0;
            format!(
                "{i}\tnews\theadlines\t2013\t1\tnone\tnone\tIt is {}{i}.\tIt was {}{i}.\t{score:.3}",
                words(i),
                words(i + 1)
            )
        });
        put(format!("glue/STS-B/{file}.tsv"), (header.to_owned() + &stsb).as_bytes());
    }
    let stories: String =
        (0..120).map(|n| format!("story {n} of a {} cat.\n\n", ["red", "blue", "grey"][n % 3])).collect();
    put("stories.txt".into(), stories.as_bytes());
    let pair = |n: u32| {
        let (good, bad) = (format!("story {n} of a cat."), format!("story of {n} cat a."));
        let field = ["order", "other"][n as usize % 2];
        json!({ "sentence_good": good, "sentence_bad": bad, "field": field }).to_string()
    };
    put("pairs.jsonl".into(), (0..6).map(pair).collect::<Vec<_>>().join("\n").as_bytes());
}

/// Rows of every task: its metric, its bounds, its measures, with a fixed model.
fn of_tasks(bench: &mut Bench) -> Vec<Row> {
    let all = tasks(bench.data);
    let row = |(name, settings, more): (&str, Value, Value)| {
        let attention = json!({ "attention": { "n_heads": 2 } });
        let (values, version) = bench.run(&config(json!({ name: settings }), attention, &more))?;
        // The folder is another one each time.
        let more = more.to_string().replace(&*bench.data.to_string_lossy(), "DATA");
        let more: Value = serde_json::from_str(&more).expect("JSON");
        let settings = json!({ "task": settings, "config": more, "seed": 0 });
        let cpu = bench.cpu.clone();
        Some(Row { of: Of::Task, name: name.into(), settings, engine: ENGINE, version, cpu, values })
    };
    all.into_iter().filter_map(row).collect()
}

/// Fields that no row sets, and why.
const UNPINNED: [(&str, &str); 1] = [("precision", "of bf16 a processor of another kind gives other numbers")];

/// Every field of a section that no row of the table says and [`UNPINNED`] does not excuse.
fn without_a_row(section: &SectionEntry, rows: &[Row]) -> Vec<String> {
    let default: Value = serde_json::from_str(&config(json!({}), json!({}), &json!({}))).expect("JSON");
    let said = |key: &str| {
        let own = rows.iter().any(|row| row.settings["config"][section.name].get(key).is_some());
        own || default[section.name].get(key).is_some()
            || section.without_effect.contains(&key)
            || UNPINNED.iter().any(|(other, _)| *other == key)
    };
    (section.defaults)().keys().filter(|key| !said(key)).map(|key| format!("{}.{key}", section.name)).collect()
}

/// Models, optimizers, schedules and budgets that do the shared work in other ways.
fn of_models(bench: &mut Bench) -> Vec<Row> {
    let model = |keys: Value| json!({ "model": keys });
    let of_positions = vec![
        ("s4 block", model(json!({ "block": "s4" }))),
        ("bigs block", model(json!({ "block": "bigs" }))),
        ("hydra block", model(json!({ "block": "hydra" }))),
        ("two layers", model(json!({ "n_layers": 2 }))),
        ("post-norm", model(json!({ "norm_place": "post", "norm": "batch" }))),
        ("gated feed-forward", model(json!({ "ffn": "glu" }))),
        ("no feed-forward", model(json!({ "ffn": "none" }))),
        ("learned positions", model(json!({ "positions": "learned" }))),
        ("no positions", model(json!({ "positions": "none" }))),
        ("norm of the embedding", model(json!({ "embedding_norm": true }))),
        ("dropout", model(json!({ "dropout": 0.2, "embedding_dropout": 0.1 }))),
        ("tied dropout", model(json!({ "dropout": 0.2, "tied_dropout": true }))),
        ("shared depth", model(json!({ "n_layers": 2, "shared_depth": true }))),
        ("deviation of linear maps", model(json!({ "linear_std": 0.02, "init_std": 0.02 }))),
        ("published initial values", model(json!({ "init": "published" }))),
        ("layers run again", model(json!({ "n_layers": 2, "checkpoint_activations": true, "dropout": 0.1 }))),
        ("rms norm", model(json!({ "norm": "rms", "norm_eps": 1e-3 }))),
        ("identity for a feed-forward", model(json!({ "ffn": "identity" }))),
        ("GELU by tanh", model(json!({ "ffn_activation": "gelu_tanh", "d_ff": 12 }))),
        ("ReLU", model(json!({ "ffn_activation": "relu" }))),
        ("dropout of the feed-forward", model(json!({ "ffn_dropout": 0.2 }))),
        ("linear maps of LRA", model(json!({ "linear_init": "lra" }))),
        ("deviation of the embedding", model(json!({ "embedding_std": 1.0 }))),
        ("no bias of the head", model(json!({ "head_bias": false }))),
        ("branches rescaled", model(json!({ "n_layers": 2, "linear_std": 0.1, "rescale_residual": true }))),
        ("more positions than the task has", model(json!({ "positions": "learned", "max_positions": 20 }))),
    ];
    let variants = |section: &SectionEntry| {
        let name = section.name;
        (section.variants)().into_iter().map(move |(label, keys)| (label, json!({ name: keys })))
    };
    let of_positions = of_positions.into_iter().chain(SECTIONS.iter().flat_map(variants)).collect();
    let of_sequences = vec![
        ("mean", model(json!({ "pooling": "mean" }))),
        ("last", model(json!({ "pooling": "last" }))),
        ("cls", model(json!({ "pooling": "cls" }))),
        ("first", model(json!({ "pooling": "first" }))),
        ("BERT's head", model(json!({ "head": "bert", "classifier_dropout": 0.1 }))),
        ("LRA's head", model(json!({ "head": "mlp" }))),
        ("deviation of the vector in front", model(json!({ "pooling": "cls", "cls_std": 0.5 }))),
    ];
    let of_pairs = vec![
        ("LRA's head of pairs", model(json!({ "pair_head": "lra" }))),
        ("S4's head of pairs", model(json!({ "pair_head": "s4" }))),
        ("LRA's head of both alone", model(json!({ "pair_head": "lra_concat" }))),
    ];
    let of_tokens = vec![
        ("plain head", model(json!({ "head": "plain" }))),
        ("tied head", model(json!({ "head": "tied" }))),
        ("BERT's language head", model(json!({ "head": "bert", "positions": "learned", "token_types": 2 }))),
    ];
    let task = |name: &str| {
        let (name, settings, _) = tasks(bench.data).into_iter().find(|(own, ..)| *own == name).expect("in the list");
        json!({ name: settings })
    };
    let groups = [
        (recall(false), of_positions),
        (task("listops"), of_sequences),
        (task("retrieval"), of_pairs),
        (task("mlm"), of_tokens),
    ];
    let mut rows = Vec::new();
    for (task, models) in groups {
        for (name, more) in models {
            let config = config(task.clone(), json!({ "attention": { "n_heads": 2 } }), &more);
            let Some((values, _)) = bench.run(&config) else { continue };
            let (settings, cpu) = (json!({ "config": more, "seed": 0 }), bench.cpu.clone());
            rows.push(Row { of: Of::Model, name: name.into(), settings, engine: ENGINE, version: 0, cpu, values });
        }
    }
    rows
}

fn table() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("laws/pinned.jsonl")
}

fn read_table() -> Vec<Row> {
    let text = std::fs::read_to_string(table()).unwrap_or_default();
    let row = |(at, line): (usize, &str)| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("laws/pinned.jsonl:{}: {error}", at + 1))
    };
    text.lines().enumerate().map(row).collect()
}

#[test]
fn pinned_numbers_move_only_with_a_version() {
    if !alone(concat!(module_path!(), "::pinned_numbers_move_only_with_a_version")) {
        return;
    }
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().unwrap();
    put_data(folder.path());
    let mut bench = Bench { data: folder.path(), cpu: cpu(), broken: Vec::new() };
    let new = [of_mixers(&mut bench, |entry| (entry.variants)()), of_tasks(&mut bench), of_models(&mut bench)].concat();
    assert!(bench.broken.is_empty(), "{}", bench.broken.join("\n"));
    let listed: BTreeSet<String> = new.iter().filter(|row| row.of == Of::Task).map(|row| row.name.clone()).collect();
    let registered: BTreeSet<String> = tasks::registry().iter().map(|entry| entry.name.to_owned()).collect();
    assert_eq!(listed, registered, "every task has a row");
    // Of these two not every key has a row: most of them say how long a stage goes on and when it is evaluated.
    let held = SECTIONS.iter().filter(|section| !["budget", "pretrain"].contains(&section.name));
    let unsaid: Vec<String> = held.flat_map(|section| without_a_row(section, &new)).collect();
    assert_eq!(unsaid, [""; 0], "every setting that moves a number has a row in `of_models` or in `Section::variants`");
    let keys: BTreeSet<_> = new.iter().map(Row::key).collect();
    assert_eq!(keys.len(), new.len(), "no row stands there twice");

    let old = read_table();
    let known: BTreeMap<_, &Row> = old.iter().map(|row| (row.key(), row)).collect();
    let (mut kept, mut moved, mut stale) = (Vec::new(), Vec::new(), Vec::new());
    for row in &new {
        let before = known.get(&row.key()).copied();
        match judge(before, row) {
            Ok(()) => kept.push(before.expect("it was judged").clone()),
            Err(Fault::Moved(what)) => {
                moved.push(what);
                kept.extend(before.cloned());
            }
            Err(Fault::Stale(what)) => {
                stale.push(what);
                kept.push(row.clone());
            }
        }
    }
    stale.extend(old.iter().filter(|row| !keys.contains(&row.key())).map(|row| format!("{} is no more", row.label())));
    if std::env::var_os("MIXARENA_PIN").is_some() {
        let lines: Vec<String> =
            kept.iter().map(|row| serde_json::to_string(row).expect("plain data") + "\n").collect();
        std::fs::write(table(), lines.concat()).expect("writes the table");
        stale.clear();
    }
    let mixers: BTreeSet<&str> = new.iter().filter(|row| row.of == Of::Mixer).map(|row| row.name.as_str()).collect();
    let whole = mixers.iter().all(|name| moved.iter().any(|what| what.contains(&format!("Mixer `{name}`"))));
    let engine = if whole && !moved.is_empty() {
        "\nEvery mixer moved: what they share did, so raise `ENGINE` in harness/train/spec.rs."
    } else {
        ""
    };
    assert!(
        moved.is_empty() && stale.is_empty(),
        "{} numbers moved under the same version, {} rows are to be made again with MIXARENA_PIN=1 cargo test --workspace --lib pinned\n{}{engine}",
        moved.len(),
        stale.len(),
        [moved, stale].concat().join("\n")
    );
}

#[test]
fn a_moved_number_is_named_with_the_version_to_raise() {
    let row = |engine, version, cpu: &str, loss: f64| Row {
        of: Of::Mixer,
        name: "s4".into(),
        settings: json!({ "seed": 0 }),
        engine,
        version,
        cpu: cpu.into(),
        values: BTreeMap::from([("train_loss".into(), vec![Some(2.0), Some(loss)])]),
    };
    let old = row(2, 1, "here", 1.5);
    assert_eq!(judge(Some(&old), &old), Ok(()));
    // Rounding is noticed where the row was made, and only there.
    let rounded = 1.5 * (1.0 + 1e-7);
    let Err(Fault::Moved(what)) = judge(Some(&old), &row(2, 1, "here", rounded)) else { panic!("it moved") };
    assert!(what.contains("train_loss[1]") && what.contains("raise `VERSION` of `s4`"), "{what}");
    assert_eq!(judge(Some(&old), &row(2, 1, "elsewhere", rounded)), Ok(()));
    assert!(matches!(judge(Some(&old), &row(2, 1, "elsewhere", 1.51)), Err(Fault::Moved(_))));
    assert!(matches!(judge(Some(&old), &row(2, 1, "elsewhere", f64::NAN)), Err(Fault::Moved(_))));
    // With a version raised the table is what is old, whichever it is; a version never goes back.
    assert!(matches!(judge(Some(&old), &row(2, 2, "here", 1.6)), Err(Fault::Stale(_))));
    assert!(matches!(judge(Some(&old), &row(3, 1, "here", 1.5)), Err(Fault::Stale(_))));
    assert!(matches!(judge(Some(&old), &row(1, 1, "here", 1.5)), Err(Fault::Moved(_))));
    assert!(matches!(judge(None, &old), Err(Fault::Stale(_))));
    let more = Row { values: BTreeMap::from([("test".into(), vec![None])]), ..old.clone() };
    assert!(matches!(judge(Some(&old), &more), Err(Fault::Moved(_))));
}

/// Every mixer with its defaults, and the optimizer: what differs is rounding, as on another processor.
#[test]
fn plain_kernels_give_the_pinned_losses() {
    if !alone(concat!(module_path!(), "::plain_kernels_give_the_pinned_losses")) {
        return;
    }
    tch::set_num_threads(1);
    let folder = tempfile::tempdir().unwrap();
    let mut bench = Bench { data: folder.path(), cpu: "plain kernels".into(), broken: Vec::new() };
    let rows = with(Kernels::Plain, || of_mixers(&mut bench, |_| Vec::new()));
    assert!(bench.broken.is_empty(), "{}", bench.broken.join("\n"));
    let old = read_table();
    let known: BTreeMap<_, &Row> = old.iter().map(|row| (row.key(), row)).collect();
    let moved: Vec<String> = rows
        .iter()
        .filter_map(|row| {
            known.get(&row.key()).and_then(|old| old.moved(row)).map(|what| format!("{}: {what}", row.label()))
        })
        .collect();
    assert_eq!(moved, [""; 0]);
    assert!(rows.iter().all(|row| known.contains_key(&row.key())), "the table has a row of every mixer's defaults");
}
