//! Laws that every registered task obeys, with settings small enough for a test.
//!
//! A new task gets one line in [`settings`]; the laws then hold it to account.

use crate::core::rng::{Purpose, Stream};
use crate::data::formats::tests::put;
use crate::{
    Batch, DataDir, Entry, Example, Family, Judge, Mark, MetricKind, Order, Output, Split, Targets, Task, TaskSpec,
    core::{bounds, metrics},
    registry,
};
use serde_json::{Value, json};
use std::collections::HashSet;

/// What is wrong with settings once they are changed: keys with their problems.
pub(crate) fn faults<F: Family>(mut cfg: F, change: impl FnOnce(&mut F)) -> Vec<(&'static str, String)> {
    change(&mut cfg);
    cfg.check().into_iter().map(|error| (error.key, error.problem)).collect()
}

/// The keys alone.
pub(crate) fn faulty<F: Family>(cfg: F, change: impl FnOnce(&mut F)) -> Vec<&'static str> {
    faults(cfg, change).into_iter().map(|(key, _)| key).collect()
}

/// Small settings for each registered task; changes are laid over the defaults.
fn settings() -> Vec<(&'static str, Value)> {
    let counts = json!({ "train_examples": 90, "validation_examples": 20, "test_examples": 500 });
    let with = |more: Value| merged(counts.clone(), more);
    let filler = json!({
        "vocab_size": 20, "paragraph": 5, "train_length": 40, "test_lengths": [40, 80], "test_examples": 50,
    });
    let short = json!({ "min_length": 5, "max_length": 50, "max_depth": 3 });
    let letters = json!({
        "corpus": { "path": "letters", "documents": "line" }, "tokenizer": "bytes", "packing": "padded", "seq_len": 34,
    });
    vec![
        ("mqar", with(json!({}))),
        ("mqar", with(json!({ "seq_len": 32, "vocab_size": 64 }))),
        ("mqar", with(json!({ "seq_len": 32, "vocab_size": 64, "random_non_queries": false, "passes": 2 }))),
        (
            "mqar",
            json!({
                "train_mixture": [
                    { "seq_len": 32, "kv_pairs": 4, "examples": 60 }, { "seq_len": 64, "kv_pairs": 8, "examples": 30 },
                ],
                "test_mixture": [
                    { "seq_len": 64, "kv_pairs": 4, "examples": 300 }, { "seq_len": 128, "kv_pairs": 16, "examples": 100 },
                ],
                "validation_examples": 20,
            }),
        ),
        ("associative_recall", with(json!({}))),
        (
            "associative_recall",
            with(json!({ "vocab_size": 40, "allow_dot": false, "targets": "last", "causal": false })),
        ),
        ("induction_heads", with(json!({ "test_examples": 250, "seq_len": 48, "test_lengths": [32, 64] }))),
        (
            "induction_heads",
            with(json!({
                "form": "h3", "vocab_size": 20, "test_lengths": [64], "seq_len": 64, "induction_len": 3, "triggers": 4,
                "targets": "all",
            })),
        ),
        ("selective_copying", with(json!({ "seq_len": 48, "copy": 6 }))),
        (
            "selective_copying",
            with(json!({
                "seq_len": 40, "copy": 5, "noise_tokens": 4, "test_lengths": [40, 64], "causal": false,
            })),
        ),
        (
            "passkey",
            with(json!({
                "train_min_length": 24, "train_max_length": 64, "test_lengths": [32, 64], "test_examples": 100, "filler": 5,
            })),
        ),
        ("filler", with(filler.clone())),
        ("filler", with(merged(filler, json!({ "test_text": "newlines" })))),
        ("listops", with(short.clone())),
        (
            "listops",
            with({
                let mut lra = short;
                lra["tokens"] = json!("lra");
                lra
            }),
        ),
        ("listops", json!({ "source": "files", "path": "drawn/listops-1000" })),
        ("text", json!({})),
        ("text", json!({ "tokens": "chars", "min_freq": 2, "max_length": 20 })),
        ("text", json!({ "validation": "test" })),
        ("retrieval", with(json!({ "source": "synthetic", "document_length": 90, "mentions": 4 }))),
        (
            "retrieval",
            with(json!({
                "source": "synthetic", "document_length": 90, "mentions": 4, "tokens": "chars", "topics": 30,
            })),
        ),
        ("retrieval", json!({ "path": "drawn/retrieval-synthetic" })),
        ("retrieval", json!({ "tokens": "chars", "max_length": 60 })),
        ("image", json!({ "batch_files": 1, "side": 8 })),
        ("image", json!({ "batch_files": 1, "convention": "lra" })),
        ("pathfinder", with(json!({ "contour_length": 6, "train_examples": 60, "test_examples": 40 }))),
        ("pathfinder", json!({ "source": "files", "contour_length": 9, "pixels": "lra" })),
        ("depth", json!({ "kind": "memorization", "sequences": 96 })),
        ("depth", with(json!({ "kind": "in_context_qa" }))),
        ("depth", with(json!({ "kind": "in_context_qa", "question_length": 2, "pairs": 4, "distinct_answers": true }))),
        ("depth", with(json!({ "kind": "template_matching" }))),
        ("depth", with(json!({ "kind": "in_context_template" }))),
        ("depth", with(json!({ "kind": "in_context_template", "held_out": 0.0, "pairs": 4, "templates": 10 }))),
        ("state_tracking", with(json!({ "train_min": 12, "train_max": 20, "test_lengths": [20, 30] }))),
        ("state_tracking", with(json!({ "problem": "s3", "train_min": 4, "train_max": 9, "test_lengths": [9, 17] }))),
        ("state_tracking", with(json!({ "problem": "s5", "train_min": 8, "train_max": 8, "test_lengths": [8] }))),
        (
            "state_tracking",
            with(json!({ "problem": "a4xz5", "train_max": 12, "test_lengths": [12], "scored": "last" })),
        ),
        (
            "state_tracking",
            with(
                json!({ "problem": "parity", "train_min": 30, "end_token": true, "train_max": 30, "test_lengths": [30] }),
            ),
        ),
        (
            "state_tracking",
            with(json!({ "problem": "majority", "train_min": 20, "test_lengths": [40], "causal": false })),
        ),
        ("state_tracking", with(json!({ "problem": "modular", "train_max": 15, "test_lengths": [15, 31] }))),
        ("state_tracking", with(json!({ "problem": "modular_brackets", "train_max": 15, "test_lengths": [15, 31] }))),
        ("mad", with(json!({}))),
        ("mad", with(json!({ "multi_query": false, "causal": false }))),
        ("mad", with(json!({ "task": "noisy_recall" }))),
        ("mad", with(json!({ "task": "noisy_recall", "multi_query": false, "frac_noise": 0.8, "seq_len": 32 }))),
        ("mad", with(json!({ "task": "fuzzy_recall" }))),
        ("mad", with(json!({ "task": "fuzzy_recall", "multi_query": false, "motif_length": 2, "causal": false }))),
        ("mad", with(json!({ "task": "selective_copying" }))),
        ("mad", with(json!({ "task": "selective_copying", "seq_len": 64, "fix_last_blank": true, "causal": false }))),
        ("mad", with(json!({ "task": "compression", "causal": false }))),
        ("mad", with(json!({ "task": "memorization", "vocab_size": 64 }))),
        ("algorithmic", with(json!({ "train_min": 4, "test_lengths": [20, 40] }))),
        ("algorithmic", with(json!({ "kind": "reverse", "answers": "fed", "train_min": 4, "test_lengths": [20, 40] }))),
        ("algorithmic", with(json!({ "kind": "sort", "train_min": 4, "test_lengths": [20, 40], "causal": false }))),
        (
            "algorithmic",
            with(json!({
                "kind": "sort", "distinct": true, "answers": "fed", "train_min": 4, "test_lengths": [20, 40],
            })),
        ),
        ("algorithmic", with(json!({ "kind": "dyck", "train_max": 30, "test_lengths": [30, 60] }))),
        (
            "algorithmic",
            with(json!({ "kind": "dyck_membership", "train_max": 30, "test_lengths": [30, 60], "causal": false })),
        ),
        ("sparse_regression", with(json!({ "contexts": [8, 12], "test_contexts": [4, 16, 20] }))),
        (
            "sparse_regression",
            with(json!({
                "contexts": [6], "dimension": 5, "weights": "unit_norm", "covariance": "decaying", "noise": 0.0,
            })),
        ),
        ("icll", with(json!({}))),
        (
            "icll",
            with(json!({
                "letters": 6, "min_alphabet": 4, "max_alphabet": 6, "max_states": 5, "max_edges": 2, "max_words": 12,
                "max_word_length": 9,
            })),
        ),
        ("glue", json!({ "tokenizer": { "wordpiece": { "vocab_size": 80 } } })),
        ("glue", json!({ "task": "sst2", "tokenizer": "bytes", "train_examples": 50 })),
        ("glue", json!({ "task": "mrpc", "tokenizer": "bytes" })),
        ("glue", json!({ "task": "stsb", "tokenizer": "bytes" })),
        ("glue", json!({ "task": "qqp", "tokenizer": "bytes" })),
        ("glue", json!({ "task": "mnli", "tokenizer": "bytes" })),
        ("glue", json!({ "task": "qnli", "tokenizer": "bytes", "max_length": 512 })),
        ("glue", json!({ "task": "rte", "tokenizer": "bytes" })),
        ("glue", json!({ "task": "wnli", "tokenizer": "bytes" })),
        ("mlm", merged(letters.clone(), json!({ "dynamic": false }))),
        (
            "mlm",
            merged(
                letters.clone(),
                json!({
                    "dynamic": false, "tokenizer": { "bpe": { "vocab_size": 265 } }, "packing": "packed", "count": "exact",
                    "whole_words": true, "eval_sequences": 30,
                }),
            ),
        ),
        ("clm", letters.clone()),
        ("clm", merged(letters, json!({ "tokenizer": { "characters": {} }, "packing": "packed" }))),
    ]
}

/// What a guesser scores, by arithmetic rather than by a draw, and how far the measured floor may lie from it: four standard
/// deviations of a mean over the test examples. Tasks of one class a sequence need no line: the law counts their classes.
fn expected_floor(name: &str, settings: &Value) -> (f64, f64) {
    match name {
        // The most frequent of n uniform answers out of C, asked for once: E[largest count]/n, by the multinomial's exact sums;
        // deviations over 500 examples. Memorization: of N labels, whose largest count has deviation 0.017 N.
        "depth" => match (settings["kind"].as_str().unwrap(), settings["pairs"].as_u64()) {
            ("memorization", _) => (0.178_585, 0.07),        // N = 96, C = 8
            ("in_context_qa", Some(4)) => (0.25, 0.078),     // answers differ
            ("template_matching", _) => (2.0 / 15.0, 0.061), // 15 templates, 8 labels
            (_, None) => (0.324_654, 0.084),                 // n = 8, C = 8
            _ => (0.412_109, 0.088),                         // n = 4, C = 8
        },
        // One of C classes, at 500 examples of each test length or at each of their positions.
        "state_tracking" => {
            let class = match settings["problem"].as_str() {
                Some("s3") => 6.0,
                Some("s5") => 120.0,
                Some("a4xz5") => 60.0,
                Some("modular" | "modular_brackets") => 5.0,
                _ => 2.0,
            };
            let share: f64 = 1.0 / class;
            (share, 4.0 * (share * (1.0 - share) / 500.0).sqrt())
        }
        // A pair of those shown has the asked key in one of K cases, or another key of the same value in one of V. Early on
        // fewer pairs are shown and one of them must have the key, which the measured score shows: within 0.03.
        "mad" => match settings["task"].as_str().unwrap_or("in_context_recall") {
            "in_context_recall" | "noisy_recall" if settings["seq_len"].is_null() => (1.0 / 8.0 + 7.0 / 64.0, 0.07),
            // 15 steps of which a fifth are pairs: of 1 to 15, 3.8 on average; the key asked for is one of those.
            "noisy_recall" => (0.4, 0.1),
            // Of V = 16: 8 symbols of values, 4 targets; without the copy prefix one less of either kind.
            "fuzzy_recall" if settings["multi_query"].is_null() => (1.0 / 8.0, 0.04),
            "fuzzy_recall" => (1.0 / 7.0, 0.06),
            // The token asked for in one of 16 cases, another that equals it in one of 14.
            "selective_copying" => (1.0 / 16.0 + 15.0 / 16.0 / 14.0, 0.015),
            // 31 guesses among 15 tokens, and the last position is known.
            "compression" => ((31.0 / 15.0 + 1.0) / 32.0, 0.009),
            // 63 symbols: keys 0 .. 31, values 31 .. 63.
            "memorization" => (1.0 / 32.0, 0.008),
            task => panic!("write down what a guesser scores on {task}"),
        },
        // One of K = 4 values; 500 examples of 4 queries are 2,000 guesses of deviation 0.01.
        "mqar" if settings["test_mixture"].is_null() => (0.25, 0.04),
        // Three examples of 4 pairs to one of 16: 300 · 4 and 100 · 16 guesses.
        "mqar" => (0.75 / 4.0 + 0.25 / 16.0, 0.04),
        // The key was shown with probability 1 − (8/9)^20, and then one of 9 values; or always, and one of 19.
        "associative_recall" if settings["allow_dot"].is_null() => (0.9052 / 9.0, 0.054),
        "associative_recall" => (1.0 / 19.0, 0.04),
        "induction_heads" if settings["form"].is_null() => (1.0 / 15.0, 0.045),
        "induction_heads" => (1.0 / 18.0, 0.024),
        // One of n tokens, or another that equals it; lengths 20 and 40.
        "algorithmic" => {
            let chance =
                |equal: f64| [20.0, 40.0].map(|n: f64| 1.0 / n + (1.0 - 1.0 / n) * equal).iter().sum::<f64>() / 2.0;
            match (settings["kind"].as_str().unwrap_or("copy"), settings["distinct"].as_bool()) {
                ("copy" | "reverse", _) => (chance(1.0 / 32.0), 0.007),
                ("sort", None) => (chance(1.0 / 100.0), 0.006),
                ("sort", _) => (chance(0.0), 0.006),
                ("dyck", _) => (1.0 / 8.0, 0.012),
                kind => panic!("write down what a guesser scores on {kind:?}"),
            }
        }
        // A constant explains nothing but the mean that a finite test happens to have.
        "sparse_regression" => (0.0, 0.01),
        "selective_copying" if settings["noise_tokens"].is_null() => (1.0 / 14.0, 0.019),
        "selective_copying" => (1.0 / 11.0, 0.017),
        "passkey" => (0.0, 0.01),
        // Newlines are scored and nothing else; of a paragraph of five all but its first token, one of which is the newline.
        "filler" if settings["test_text"] == "newlines" => (1.0, 0.0),
        "filler" => (1.0 / 4.0, 1e-9),
        // More often than by guessing stands the token between words, wherever one may end: measured, 0.274 and 0.127.
        "icll" if settings["letters"] == 6 => (0.274, 0.04),
        "icll" => (0.127, 0.03),
        // STS-B: a constant has no correlation.
        "glue" => (0.0, 0.0),
        // Half of the letters are e. 5,760 letters: all of them, or 0.15 of them; e is rarer where pairs are merged.
        "mlm" if settings["tokenizer"] == "bytes" => (0.5, 4.0 * (0.25_f64 / 860.0).sqrt()),
        "mlm" => (0.25, 0.15),
        "clm" => (0.5, 4.0 * (0.25_f64 / 5_760.0).sqrt()),
        _ => panic!("write down what a guesser scores on {name} {settings}"),
    }
}

/// Settings with `more` laid over them.
fn merged(mut settings: Value, more: Value) -> Value {
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    settings
}

/// A data folder for the tasks that read files.
fn data() -> (tempfile::TempDir, DataDir) {
    let folder = tempfile::tempdir().unwrap();
    for split in ["train", "test"] {
        for id in 0..30_u64 {
            let words = "film ".repeat(1 + id as usize % 7);
            put(
                folder.path(),
                &format!("aclImdb/{split}/pos/{id}_9.txt"),
                format!("a fine {words}{split}{id}").as_bytes(),
            );
            put(
                folder.path(),
                &format!("aclImdb/{split}/neg/{id}_2.txt"),
                format!("a poor {words}{split}{id}").as_bytes(),
            );
        }
    }
    for (part, rows) in [("train", 64), ("eval", 20), ("test", 30)] {
        let row =
            |i: u64| format!("{}.0\tA{i}\tB{i}\tone {part} {i}\t{}\r\n", i % 2, "two ".repeat(1 + i as usize % 30));
        let text: String = (0..rows).map(row).collect();
        put(folder.path(), &format!("tsv_data/new_aan_pairs.{part}.tsv"), text.as_bytes());
    }
    for (file, images) in [("data_batch_1.bin", 60_u64), ("test_batch.bin", 30)] {
        let noise = |i: u64| {
            let mut stream = Stream::new(images, Purpose::Guess, i);
            (0..3 * 1024 / 8).flat_map(move |_| stream.word().to_le_bytes())
        };
        let records: Vec<u8> = (0..images).flat_map(|i| std::iter::once((i % 10) as u8).chain(noise(i))).collect();
        put(folder.path(), &format!("cifar-10-batches-bin/{file}"), &records);
    }
    crate::mlm::tests::put_letters(folder.path());
    let drawn = |name: &str, changes: Value| {
        let settings = (entry(name).resolve)(&changes).unwrap();
        entry(name).generate(&settings, &folder.path().join("drawn"), &|_, _| ()).expect("it draws").unwrap();
    };
    let sizes =
        |more: Value| merged(json!({ "train_examples": 90, "validation_examples": 20, "test_examples": 50 }), more);
    drawn("listops", sizes(json!({ "min_length": 5, "max_length": 50, "max_depth": 3, "data_seed": 9 })));
    drawn("retrieval", sizes(json!({ "source": "synthetic", "document_length": 90, "mentions": 4, "data_seed": 9 })));
    let images = json!({ "contour_length": 9, "train_examples": 60, "validation_examples": 8, "test_examples": 8 });
    let images = (entry("pathfinder").resolve)(&images).unwrap();
    entry("pathfinder").generate(&images, folder.path(), &|_, _| ()).expect("they are drawn").unwrap();
    crate::glue::tests::release(folder.path(), [64, 30]);
    let data = DataDir(folder.path().into());
    (folder, data)
}

fn entry(name: &str) -> Entry {
    registry().into_iter().find(|entry| entry.name == name).expect("the name is registered")
}

fn open(name: &str, changes: &Value, data: &DataDir) -> Box<dyn Task> {
    let entry = entry(name);
    let settings = merged((entry.defaults)(), changes.clone());
    (entry.accepts)(&settings).unwrap();
    assert_eq!(entry.check(&settings), []);
    entry.open(&settings, data).unwrap()
}

/// Every task, with a name for messages.
fn every_task() -> Vec<(String, Box<dyn Task>)> {
    let (_folder, data) = data();
    settings().iter().map(|(name, changes)| (format!("{name} {changes}"), open(name, changes, &data))).collect()
}

fn batches(task: &dyn Task, split: Split, order: &Order, count: u64) -> Vec<Batch> {
    (0..count).map(|index| task.batch(split, index, order).unwrap()).collect()
}

/// The rows of batches: each row's tokens without padding.
fn rows(batches: &[Batch]) -> Vec<Vec<i64>> {
    let row = |batch: &Batch, row: usize| {
        let start = row * batch.length * batch.width;
        batch.tokens[start..start + batch.lengths[row] as usize * batch.width].to_vec()
    };
    batches.iter().flat_map(|batch| (0..batch.size).map(move |i| row(batch, i))).collect()
}

#[test]
fn every_registered_task_is_held_to_these_laws() {
    let tested: HashSet<&str> = settings().iter().map(|(name, _)| *name).collect();
    let registered: HashSet<&str> = registry().iter().map(|entry| entry.name).collect();
    assert_eq!(tested, registered);
}

#[test]
fn defaults_are_accepted_possible_and_documented_and_unknown_keys_are_refused() {
    for entry in registry() {
        let mut settings = (entry.defaults)();
        assert!((entry.accepts)(&settings).is_ok(), "{}", entry.name);
        assert_eq!(entry.check(&settings), [], "{}", entry.name);
        assert!(!entry.about.is_empty());
        settings["no_such_setting"] = json!(1);
        assert!((entry.accepts)(&settings).unwrap_err().to_string().contains("no_such_setting"), "{}", entry.name);
    }
}

#[test]
fn the_outline_agrees_with_the_opened_task() {
    let (_folder, data) = data();
    for (name, changes) in settings() {
        let (entry, task) = (entry(name), open(name, &changes, &data));
        let (outline, spec) = (entry.outline(&(entry.resolve)(&changes).unwrap()), task.spec());
        // A vocabulary may depend on the data: then the outline has that of the official ones.
        let vocab_size = if outline.needs_files { spec.vocab_size } else { outline.vocab_size };
        let (metric, version, marks, pad_token) =
            (spec.metric.clone(), spec.version, spec.marks.clone(), spec.pad_token);
        let (judge, by_position) = (spec.judge, spec.by_position);
        // A language model's classes are its vocabulary.
        let classes = if spec.output == Output::Tokens { vocab_size } else { outline.classes };
        let promised =
            TaskSpec { metric, version, marks, pad_token, vocab_size, classes, judge, by_position, ..outline.spec() };
        assert_eq!(promised, spec, "{name} {changes}");
        assert_eq!(outline.needs_files, task.fingerprint().is_some(), "{name} {changes}");
    }
}

#[test]
fn a_metric_is_of_the_kind_that_its_judge_and_its_output_make_it() {
    for (name, task) in every_task() {
        let TaskSpec { metric, judge, output, .. } = task.spec();
        let kind = match (output, judge) {
            (Output::Tokens, _) => MetricKind::LanguageModel,
            (_, Judge::Class | Judge::Allowed | Judge::Exact | Judge::Mass { .. }) => MetricKind::Proportion,
            (_, Judge::Explained) => MetricKind::Explained,
            (_, Judge::Matthews | Judge::Correlation) => MetricKind::Correlation,
            (_, Judge::F1Accuracy) => MetricKind::F1Accuracy,
        };
        assert_eq!(metric.kind, kind, "{name}: {}", metric.name);
        assert_eq!(metric.range, (if kind == MetricKind::Correlation { -1.0 } else { 0.0 }, 1.0), "{name}");
        assert_eq!(metric.chosen_by_loss, output == Output::Tokens, "{name}: {}", metric.name);
        for bound in [task.floor().unwrap(), task.ceiling().unwrap()] {
            assert!((metric.range.0..=metric.range.1).contains(&bound.score), "{name}: {bound:?}");
        }
    }
}

#[test]
fn the_oracle_scores_the_ceiling() {
    for (name, task) in every_task() {
        let (mut score, mut solved) = (0.0, 0);
        for index in 0..task.len(Split::Test) {
            let example = task.example(Split::Test, index).unwrap();
            if let Some(answer) = task.solve(&example) {
                solved += 1;
                score += bounds::judged(&*task, Split::Test, index, &answer, &example).unwrap();
            }
        }
        let ceiling = task.ceiling().unwrap();
        assert_eq!(ceiling.score, 1.0, "{name}: {ceiling:?}");
        // A task that a program solves says so by solving: without a program its ceiling would be 0.
        if ceiling.how.starts_with("by definition") {
            assert_eq!(solved, 0, "{name}");
        } else {
            assert_eq!(score / task.len(Split::Test) as f64, ceiling.score, "{name}");
        }
    }
}

#[test]
fn a_guesser_scores_the_floor() {
    let (_folder, data) = data();
    for (family, changes) in settings() {
        let (name, task) = (format!("{family} {changes}"), open(family, &changes, &data));
        let floor = task.floor().unwrap().score;
        let classes = |split| -> Vec<Vec<i64>> {
            (0..task.len(split)).map(|i| task.example(split, i).unwrap().targets.classes().to_vec()).collect()
        };
        if task.spec().output == Output::PerSequence {
            let wanted = classes(Split::Test).concat();
            let score = |class: i64| {
                let answers = vec![class; wanted.len()];
                match task.spec().judge {
                    Judge::Matthews => metrics::matthews(&answers, &wanted),
                    Judge::F1Accuracy => (metrics::f1(&answers, &wanted) + metrics::accuracy(&answers, &wanted)) / 2.0,
                    _ => metrics::accuracy(&answers, &wanted),
                }
            };
            let expected = (0..task.spec().classes).map(score).fold(f64::NEG_INFINITY, f64::max);
            assert_eq!(expected, floor, "{name}");
        } else {
            let (expected, within) = expected_floor(family, &changes);
            assert!((floor - expected).abs() <= within, "{name}: {floor}, expected {expected} ± {within}");
        }
    }
}

#[test]
fn no_constant_answer_beats_the_floor() {
    for (name, task) in every_task() {
        let (spec, floor) = (task.spec(), task.floor().unwrap());
        let rows: Vec<Example> = (0..task.len(Split::Test)).map(|i| task.example(Split::Test, i).unwrap()).collect();
        let wanted: Vec<&[i64]> = rows.iter().map(|row| row.targets.classes()).collect();
        if spec.output.is_real() {
            let real = |class: &i64| if spec.output == Output::Value { *class as f64 } else { spec.input.real(*class) };
            let wanted: Vec<f64> = wanted.concat().iter().map(real).collect();
            let mean = wanted.iter().sum::<f64>() / wanted.len() as f64;
            let squares: f64 = wanted.iter().map(|y| y * y).sum();
            for constant in [mean, 0.0, 2.0 * mean, mean + 0.1] {
                let error: f64 = wanted.iter().map(|y| (constant - y).powi(2)).sum();
                let score = match spec.judge {
                    Judge::Correlation => metrics::pearson(&vec![constant; wanted.len()], &wanted),
                    _ => 1.0 - error / squares,
                };
                assert!(score <= floor.score + 1e-9, "{name}: {constant} scores {score}, {floor:?}");
            }
            continue;
        }
        // What is never asked for is never right, but where several classes are.
        let asked: HashSet<i64> = match spec.judge {
            Judge::Allowed => (0..spec.classes).collect(),
            _ => wanted.concat().into_iter().collect(),
        };
        let mut best = f64::NEG_INFINITY;
        for class in asked {
            let score = match (spec.output, spec.judge) {
                (Output::Tokens, _) => {
                    let wanted = wanted.concat();
                    wanted.iter().filter(|other| **other == class).count() as f64 / wanted.len() as f64
                }
                (_, Judge::Matthews | Judge::F1Accuracy) => {
                    let (wanted, answers) = (wanted.concat(), vec![class; rows.len()]);
                    match spec.judge {
                        Judge::Matthews => metrics::matthews(&answers, &wanted),
                        _ => (metrics::f1(&answers, &wanted) + metrics::accuracy(&answers, &wanted)) / 2.0,
                    }
                }
                _ => {
                    let judged = |(index, row): (u64, &Example)| {
                        let answer = vec![class; row.targets.classes().len()];
                        bounds::judged(&*task, Split::Test, index, &answer, row).unwrap()
                    };
                    (0..).zip(&rows).map(judged).sum::<f64>() / rows.len() as f64
                }
            };
            best = best.max(score);
        }
        assert!(best <= floor.score + 1e-9, "{name}: a constant scores {best}, {floor:?}");
        if floor.how.starts_with("always class") {
            assert!((best - floor.score).abs() < 1e-9, "{name}: {best}, {floor:?}");
        }
    }
}

#[test]
fn the_same_arguments_give_the_same_tokens() {
    let order = Order { seed: 5, batch_size: 7 };
    for ((name, task), (_, again)) in every_task().into_iter().zip(every_task()) {
        for split in Split::ALL {
            let (first, second) = (batches(&*task, split, &order, 3), batches(&*again, split, &order, 3));
            assert_eq!(first, second, "{name} {split:?}");
        }
        assert_eq!(task.fingerprint(), again.fingerprint(), "{name}");
    }
}

#[test]
fn generated_tokens_have_not_moved() {
    // A change here changes every record: raise the task's version with it.
    let order = Order { seed: 5, batch_size: 7 };
    let hash = |task: &dyn Task| {
        let mut hasher = blake3::Hasher::new();
        for split in Split::ALL {
            for batch in batches(task, split, &order, 3) {
                let classes = batch.targets.classes().iter();
                batch.tokens.iter().chain(classes).for_each(|id| _ = hasher.update(&id.to_le_bytes()));
            }
        }
        hasher.finalize().to_hex()[..16].to_owned()
    };
    let generated = every_task().into_iter().filter(|(_, task)| task.fingerprint().is_none());
    let hashes: Vec<String> = generated.map(|(_, task)| hash(&*task)).collect();
    assert_eq!(
        hashes,
        [
            "542205ed54cad881",
            "d7c27d9b975a4f13",
            "65e391d7eaeb8216",
            "32558635f8105d1d",
            "3f5bb39807f73401",
            "fa9352e669b96014",
            "e16a73c19af6dc73",
            "39dfb6c80181bf51",
            "5d44798f5efaaa7b",
            "8b578e41c06646c9",
            "19931cef18b9fb96",
            "b2a82b7f294530f6",
            "006a68a765ba5e41",
            "47b8be781dd7ce7f",
            "752c87c1d1380d0c",
            "354fdaa9891a36bb",
            "fd6bd1675050c618",
            "af075bf99bd1ddd9",
            "dd5183fb85926203",
            "3d9d44ca0e7b9809",
            "4172f484de607ee7",
            "4deaad750baa253f",
            "8f4cef4ac6a60845",
            "03bd80033973affd",
            "56469bdeaf42ef90",
            "bc81050da314716f",
            "7b20f6078e3fdb6f",
            "47687d49827d1969",
            "8c9d53e8ee113908",
            "5d48e3896718e7a2",
            "b3a6dee1ef24af59",
            "062a56a7f7fcac96",
            "d810e6ebfa628634",
            "da7d426999626fa9",
            "fb085f98721ce23b",
            "7ec2bbbfe1e8b292",
            "4b8c45025aea2007",
            "e5a062dc62b7205c",
            "a624b0cfc240d47d",
            "867b8d77b839c343",
            "b302afe6a65fa9c3",
            "71ccd2ae4fefd1eb",
            "51faba20ba081e7c",
            "0c3a0bc00fe92c8d",
            "84eef15abd819c1a",
            "b6154a553dfc14f4",
            "d266d325c6ad017b",
            "2620b4beabfb24bd",
            "358f7d4a93cea026",
            "6638e833061787f2",
            "7f0d9a364c2e958c",
            "6c9cc61dbe2daf24"
        ]
    );
}

#[test]
fn every_epoch_is_a_permutation_of_the_training_set() {
    for (name, task) in every_task() {
        let n = task.len(Split::Train);
        assert_eq!(task.batches(Split::Train, 1), n, "{name}");
        let rows_of_two_epochs = batches(&*task, Split::Train, &Order { seed: 1, batch_size: 1 }, 2 * n);
        let (first, second) = rows_of_two_epochs.split_at(n as usize);
        let (mut one, mut two) = (rows(first), rows(second));
        assert_ne!(one, two, "{name}: epochs differ in their order");
        one.sort_unstable();
        two.sort_unstable();
        assert_eq!(one, two, "{name}");
        let mut all: Vec<Vec<i64>> = (0..n).map(|i| task.example(Split::Train, i).unwrap().tokens).collect();
        all.sort_unstable();
        assert_eq!(one, all, "{name}");
    }
}

#[test]
fn batches_of_any_size_walk_through_the_same_order() {
    for (name, task) in every_task() {
        if task.sections(Split::Train).parts.len() > 1 {
            continue; // a batch lies in one stretch: other batches, another order
        }
        let walk = |batch_size, count| {
            let mut all = rows(&batches(&*task, Split::Train, &Order { seed: 1, batch_size }, count));
            all.truncate(105); // past the first epoch's end
            all
        };
        assert_eq!(walk(7, 15), walk(35, 3), "{name}");
    }
}

#[test]
fn only_the_seed_decides_the_order() {
    for (name, task) in every_task() {
        let order = |seed| rows(&batches(&*task, Split::Train, &Order { seed, batch_size: 16 }, 3));
        assert_eq!(order(1), order(1), "{name}");
        assert_ne!(order(1), order(2), "{name}");
    }
}

#[test]
fn validation_and_test_are_in_file_order_and_end_with_a_short_batch() {
    for (name, task) in every_task() {
        for split in [Split::Validation, Split::Test] {
            let n = task.len(split);
            let walked = batches(&*task, split, &Order { seed: 1, batch_size: 7 }, task.batches(split, 7));
            let sizes = |part: &crate::Section| {
                (0..part.examples.div_ceil(7)).map(|i| (part.examples - 7 * i).min(7)).collect::<Vec<_>>()
            };
            let expected: Vec<u64> = task.sections(split).parts.iter().flat_map(sizes).collect();
            assert_eq!(walked.iter().map(|batch| batch.size as u64).collect::<Vec<_>>(), expected, "{name}");
            let all: Vec<Vec<i64>> = (0..n).map(|i| task.example(split, i).unwrap().tokens).collect();
            assert_eq!(rows(&walked), all, "{name}");
        }
    }
}

#[test]
fn splits_share_no_input() {
    for (name, task) in every_task().into_iter().filter(|(name, _)| !name.contains("max_length\":20")) {
        if task.spec().marks.iter().any(|mark| [Mark::ValidationIsTest, Mark::TestIsTrain].contains(mark)) {
            continue;
        }
        let inputs = |split| -> HashSet<Vec<i64>> {
            (0..task.len(split)).map(|i| task.example(split, i).unwrap().tokens).collect()
        };
        let [train, validation, test] = Split::ALL.map(inputs);
        assert!(train.is_disjoint(&validation) && train.is_disjoint(&test) && validation.is_disjoint(&test), "{name}");
    }
}

#[test]
fn tokens_classes_lengths_and_positions_keep_to_the_spec() {
    for (name, task) in every_task() {
        let spec = task.spec();
        for split in Split::ALL {
            assert!(!task.is_empty(split), "{name}");
            let some = task.batches(split, 6).min(12);
            for batch in batches(&*task, split, &Order { seed: 3, batch_size: 6 }, some) {
                let (rows, length) = ((batch.size * batch.documents) as i64, batch.length as i64);
                assert_eq!(batch.documents as i64, spec.documents, "{name}");
                let width = spec.input.width();
                assert_eq!(batch.width as i64, width, "{name}");
                assert_eq!(
                    (batch.tokens.len() as i64, batch.lengths.len() as i64),
                    (rows * length * width, rows),
                    "{name}"
                );
                assert!(batch.tokens.iter().all(|token| (0..spec.vocab_size).contains(token)), "{name}");
                assert!(batch.lengths.iter().all(|&valid| 1 <= valid && valid <= length), "{name}");
                assert!(batch.lengths.contains(&length) && length <= spec.max_length, "{name}");
                for (row, &valid) in batch.lengths.iter().enumerate() {
                    let (from, to) = (row * batch.length + valid as usize, (row + 1) * batch.length);
                    let padding = &batch.tokens[from * batch.width..to * batch.width];
                    assert!(padding.iter().all(|&token| token == spec.pad_token), "{name}");
                }
                let answers = match spec.output {
                    Output::Number => spec.vocab_size,
                    Output::Value => i64::MAX,
                    _ => spec.classes,
                };
                assert!(batch.targets.classes().iter().all(|class| (0..answers).contains(class)), "{name}");
                match &batch.targets {
                    Targets::PerSequence(classes) => {
                        assert!(matches!(spec.output, Output::PerSequence | Output::Value), "{name}");
                        assert_eq!(classes.len(), batch.size, "{name}");
                    }
                    Targets::PerPosition { positions, classes } => {
                        assert!(!matches!(spec.output, Output::PerSequence | Output::Value), "{name}");
                        assert_eq!(positions.len(), classes.len(), "{name}");
                        assert!(positions.windows(2).all(|pair| pair[0] < pair[1]), "{name}: positions rise");
                        let valid = |at: &i64| at % length < batch.lengths[(at / length) as usize];
                        assert!(positions.iter().all(valid), "{name}: a scored position is padding");
                    }
                }
            }
        }
    }
}

#[test]
fn stretches_cover_their_split_and_no_batch_mixes_two() {
    for (name, task) in every_task() {
        for split in Split::ALL {
            let sections = task.sections(split);
            assert_eq!(
                sections.parts.iter().map(|part| part.examples).sum::<u64>(),
                task.len(split),
                "{name} {split:?}"
            );
            let order = Order { seed: 4, batch_size: 5 };
            let mut home: std::collections::HashMap<Vec<i64>, usize> = Default::default();
            for index in 0..task.len(split) {
                home.insert(task.example(split, index).unwrap().tokens, sections.find(index).0);
            }
            for batch in batches(&*task, split, &order, task.batches(split, 5)) {
                let homes: HashSet<usize> = rows(std::slice::from_ref(&batch)).iter().map(|row| home[row]).collect();
                assert_eq!(homes.len(), 1, "{name} {split:?}");
            }
        }
    }
}

#[test]
fn what_is_drawn_is_distributed_as_specified() {
    let (_folder, data) = data();
    for (family, changes) in settings() {
        let task = open(family, &changes, &data);
        let found = task.distributions(2000).unwrap();
        for test in &found {
            println!(
                "{family} {changes}: {}: chi-square {:.1}, {} degrees, p = {:.3}",
                test.what, test.statistic, test.degrees, test.p
            );
            assert!(test.p > 1e-3, "{family} {changes}: {test:?}");
        }
        let generated = task.fingerprint().is_none();
        let older = ["listops", "retrieval", "pathfinder"].contains(&family); // measured against samples in their own tests
        assert!(!generated || older || !found.is_empty(), "{family} tests nothing of its distribution");
    }
}

/// Where [`data`] has the files of a task that reads some: the setting that may say so, the place, and a file in it with what makes
/// other data of it.
fn files_of(name: &str, changes: &Value) -> (&'static str, String, &'static str, fn(&mut Vec<u8>)) {
    fn without_last_line(bytes: &mut Vec<u8>) {
        bytes.truncate(bytes.trim_ascii_end().iter().rposition(|&byte| byte == b'\n').unwrap_or(0) + 1);
    }
    #[expect(clippy::ptr_arg, reason = "the edits of `fuzzing` work on vectors")]
    fn flipped(bytes: &mut Vec<u8>) {
        *bytes.last_mut().unwrap() ^= 1;
    }
    let given = |standard: &str| changes["path"].as_str().unwrap_or(standard).to_owned();
    match name {
        "text" => ("/path", given("aclImdb"), "test/pos/3_9.txt", flipped),
        "image" => ("/path", given("cifar-10-batches-bin"), "data_batch_1.bin", flipped),
        "retrieval" => match changes["path"].is_null() {
            true => ("/path", given("tsv_data"), "new_aan_pairs.train.tsv", without_last_line),
            false => ("/path", given(""), "new_aan_pairs.train.tsv", without_last_line),
        },
        "listops" => ("/path", given("listops-1000"), "basic_train.tsv", without_last_line),
        "pathfinder" => ("/path", "pathfinder32/curv_contour_length_9".into(), "metadata/0.npy", without_last_line),
        "glue" => ("/folder", "glue".into(), "", without_last_line),
        "mlm" | "clm" => ("/corpus/path", "letters".into(), "test.txt", without_last_line),
        _ => panic!("say where the files of {name} lie"),
    }
}

/// Every file below a folder.
fn below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { below(&path) } else { vec![path] }).collect()
}

#[test]
fn data_that_were_moved_are_the_same_data_and_changed_ones_are_not() {
    let (folder, data) = data();
    for (name, changes) in settings() {
        let here = open(name, &changes, &data);
        let Some(hash) = here.fingerprint() else { continue };
        let (pointer, place, changed, change) = files_of(name, &changes);
        let elsewhere = tempfile::tempdir().unwrap();
        let moved = elsewhere.path().join("other place").join("renamed");
        for file in below(&folder.path().join(&place)) {
            let to = moved.join(file.strip_prefix(folder.path().join(&place)).unwrap());
            std::fs::create_dir_all(to.parent().unwrap()).unwrap();
            std::fs::copy(file, to).unwrap();
        }
        let mut there = merged((entry(name).defaults)(), changes.clone());
        *there.pointer_mut(pointer).unwrap() = json!(moved);
        // A data folder of its own, so that nothing prepared is found.
        let empty = DataDir(elsewhere.path().join("data"));
        let identity = |settings: &Value| crate::without((entry(name).resolve)(settings).unwrap(), entry(name).sources);
        let whole = merged((entry(name).defaults)(), changes.clone());
        assert_eq!(identity(&there), identity(&whole), "{name} {changes}: a path is left in the identity");
        let again = open(name, &there, &empty).fingerprint();
        assert_eq!(again.as_ref(), Some(&hash), "{name} {changes}: a path is in the hash");
        let is_changed = |file: &std::path::PathBuf| match name {
            "glue" => here_is_read(&changes, file),
            _ => file.ends_with(changed),
        };
        let file = below(&moved).into_iter().find(is_changed).unwrap();
        let mut bytes = std::fs::read(&file).unwrap();
        change(&mut bytes);
        std::fs::write(&file, bytes).unwrap();
        let other = open(name, &there, &DataDir(elsewhere.path().join("data again"))).fingerprint();
        assert_ne!(other, Some(hash), "{name} {changes}: {} was changed", file.display());
    }
}

/// Whether a file of GLUE is the training file of the task that these settings choose.
fn here_is_read(changes: &Value, file: &std::path::Path) -> bool {
    let folder = file.parent().unwrap().file_name().unwrap().to_string_lossy().to_lowercase().replace('-', "");
    let task = changes["task"].as_str().unwrap_or("cola");
    folder == task && file.file_name().unwrap() == "train.tsv"
}

#[test]
fn every_setting_that_names_a_file_is_declared() {
    const NOWHERE: &str = "/nowhere/probe";
    fn leaves(value: &Value, at: String, found: &mut Vec<String>) {
        match value {
            Value::Object(map) => {
                found.push(at.clone());
                map.iter().for_each(|(key, value)| leaves(value, format!("{at}/{key}"), found));
            }
            Value::String(_) | Value::Null | Value::Array(_) => found.push(at),
            _ => {}
        }
    }
    let (_folder, data) = data();
    let mut declared: HashSet<(&str, &str)> = HashSet::new();
    let defaults = registry().into_iter().map(|entry| (entry.name, json!({})));
    for (name, changes) in defaults.chain(settings()) {
        let entry = entry(name);
        let whole = merged((entry.defaults)(), changes);
        let mut pointers = Vec::new();
        leaves(&whole, String::new(), &mut pointers);
        for pointer in pointers.iter().filter(|pointer| !pointer.is_empty()) {
            for probe in [json!(NOWHERE), json!({ "path": NOWHERE }), json!({ "file": { "path": NOWHERE } })] {
                let mut settings = whole.clone();
                *settings.pointer_mut(pointer).unwrap() = probe;
                if (entry.accepts)(&settings).is_err() || !entry.check(&settings).is_empty() {
                    continue;
                }
                // A setting that leads to a file is one whose file is missed.
                let missed = entry.open(&settings, &data).err().is_some_and(|e| format!("{e:?}").contains(NOWHERE));
                let source = entry.sources.iter().find(|source| {
                    pointer.strip_prefix(**source).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
                });
                assert!(!missed || source.is_some(), "{name}: `{pointer}` names a file and is not in `SOURCES`");
                declared.extend(source.filter(|_| missed).map(|source| (entry.name, *source)));
            }
        }
    }
    for entry in registry() {
        for source in entry.sources.iter().filter(|source| **source != "/verify_labels") {
            assert!(declared.contains(&(entry.name, source)), "{}: `{source}` leads to no file", entry.name);
        }
    }
}
