//! Laws that every registered task obeys, with settings small enough for a test.
//!
//! A new task gets one line in [`settings`]; the laws then hold it to account.

use crate::formats::tests::put;
use crate::rng::{Purpose, Stream};
use crate::{Batch, DataDir, Entry, Mark, Order, Output, Split, Targets, Task, TaskSpec, bounds, registry};
use serde_json::{Value, json};
use std::collections::HashSet;

/// Small settings for each registered task; changes are laid over the defaults.
fn settings() -> Vec<(&'static str, Value)> {
    let counts = json!({ "train_examples": 90, "validation_examples": 20, "test_examples": 500 });
    let with = |more: Value| merged(counts.clone(), more);
    let short = json!({ "min_length": 5, "max_length": 50, "max_depth": 3 });
    vec![
        ("mqar", with(json!({}))),
        ("mqar", with(json!({ "seq_len": 32, "vocab_size": 64 }))),
        ("mqar", with(json!({ "seq_len": 32, "vocab_size": 64, "random_non_queries": false, "passes": 2 }))),
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
        ("icll", with(json!({}))),
        (
            "icll",
            with(json!({
                "letters": 6, "min_alphabet": 4, "max_alphabet": 6, "max_states": 5, "max_edges": 2, "max_words": 12,
                "max_word_length": 9,
            })),
        ),
    ]
}

/// What a guesser scores, by arithmetic rather than by a draw, and how far the measured floor may lie from it: four standard
/// deviations of a mean over the test examples. Tasks of one class a sequence need no line: the law counts their majority.
fn expected_floor(name: &str, settings: &Value) -> (f64, f64) {
    match name {
        // One of K = 4 values; 500 examples of 4 queries are 2,000 guesses of deviation 0.01.
        "mqar" => (0.25, 0.04),
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
        // Two edges on average of 20 tokens; 1 or 2 edges, 1.5 on average, of 8. How often a state is met is not uniform, which
        // moves both by less than a fifth.
        "icll" if settings["letters"] == 6 => (1.5 / 8.0, 0.3 / 8.0),
        "icll" => (2.0 / 20.0, 0.4 / 20.0),
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
        let promised = TaskSpec { metric, version, marks, pad_token, vocab_size, judge, by_position, ..outline.spec() };
        assert_eq!(promised, spec, "{name} {changes}");
        assert_eq!(outline.needs_files, task.fingerprint().is_some(), "{name} {changes}");
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
        let (train, test) = (classes(Split::Train), classes(Split::Test));
        if task.spec().output == Output::PerSequence {
            let count = |class: i64| train.iter().filter(|row| row[0] == class).count();
            let favourite = (0..task.spec().classes).rev().max_by_key(|&class| count(class)).unwrap();
            let hits = test.iter().filter(|row| row[0] == favourite).count();
            assert_eq!(hits as f64 / test.len() as f64, floor, "{name}");
        } else {
            let (expected, within) = expected_floor(family, &changes);
            assert!((floor - expected).abs() <= within, "{name}: {floor}, expected {expected} ± {within}");
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
            "47b8be781dd7ce7f",
            "752c87c1d1380d0c",
            "354fdaa9891a36bb",
            "fd6bd1675050c618",
            "af075bf99bd1ddd9",
            "56469bdeaf42ef90",
            "bc81050da314716f",
            "7b20f6078e3fdb6f",
            "47687d49827d1969",
            "8c9d53e8ee113908",
            "5d48e3896718e7a2",
            "b3a6dee1ef24af59",
            "062a56a7f7fcac96",
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
                let answers = if spec.output == Output::Number { spec.vocab_size } else { spec.classes };
                assert!(batch.targets.classes().iter().all(|class| (0..answers).contains(class)), "{name}");
                match &batch.targets {
                    Targets::PerSequence(classes) => {
                        assert_eq!(spec.output, Output::PerSequence, "{name}");
                        assert_eq!(classes.len(), batch.size, "{name}");
                    }
                    Targets::PerPosition { positions, classes } => {
                        assert_ne!(spec.output, Output::PerSequence, "{name}");
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
