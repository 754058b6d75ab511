//! The laws over every registered task, with small data files for those that read some, and what is ours alone: that data which
//! were moved are the same data.

use crate::core::rng::{Purpose, Stream};
use crate::data::formats::tests::put;
use crate::laws::{Case, LAWS, cases};
use crate::{DataDir, Entry, Family, Output, Task, Variant, registry};
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

/// Every variant of every registered task.
fn settings() -> Vec<(&'static str, Value)> {
    let of = |entry: Entry| (entry.variants)().into_iter().map(move |variant| (entry.name, variant.settings));
    registry().into_iter().flat_map(of).collect()
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
            let mut stream = Stream::new(images, Purpose::GUESS, i);
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

/// One test for each law.
macro_rules! laws {
    ($($law:ident),* $(,)?) => {
        $(#[test]
        fn $law() {
            let (_folder, data) = data();
            super::$law(&cases(&registry(), &data));
        })*

        #[test]
        fn every_law_is_tried() {
            assert_eq!([$(stringify!($law)),*].map(|law| law.replace('_', " ")), LAWS.map(|(name, _)| name.to_owned()));
        }
    };
}

laws! {
    the_outline_agrees_with_the_opened_task,
    a_metric_is_of_the_kind_that_its_judge_and_its_output_make_it,
    the_oracle_scores_the_ceiling,
    a_guesser_scores_the_floor,
    no_constant_answer_beats_the_floor,
    the_same_arguments_give_the_same_tokens,
    every_epoch_is_a_permutation_of_the_training_set,
    batches_of_any_size_walk_through_the_same_order,
    only_the_seed_decides_the_order,
    validation_and_test_are_in_file_order_and_end_with_a_short_batch,
    splits_share_no_input,
    tokens_classes_lengths_and_positions_keep_to_the_spec,
    subsets_cover_their_split_and_no_batch_mixes_two,
    generated_tokens_have_not_moved,
    what_is_drawn_is_distributed_as_specified,
}

#[test]
fn every_variant_of_every_registered_task_is_held_to_the_laws() {
    let (_folder, data) = data();
    let tried = cases(&registry(), &data);
    assert_eq!(tried.len(), settings().len(), "the data of some are not there");
    for Case { name, variant, task, .. } in &tried {
        let generated = task.fingerprint().is_none();
        assert_eq!(generated, variant.pin.is_some(), "{name}: what is drawn is pinned");
        let counted = task.spec().output == Output::PerSequence;
        assert!(counted || variant.floor.is_some(), "{name}: write down what a guesser scores");
    }
}

#[test]
fn defaults_are_accepted_possible_and_documented_and_unknown_keys_are_refused() {
    super::settings_are_documented_and_possible(&registry());
}

#[test]
fn a_task_that_draws_has_small_settings() {
    for entry in registry() {
        let drawn = (entry.variants)().iter().any(|variant| variant.pin.is_some());
        assert_eq!(drawn, !(entry.small)().is_empty(), "{}", entry.name);
    }
}

#[test]
fn no_two_tasks_share_a_stream() {
    let keys: HashSet<&str> = registry().iter().map(|entry| entry.stream).collect();
    assert_eq!(keys.len(), registry().len());
    assert!(Purpose::SHARED.iter().all(|shared| keys.iter().all(|key| Purpose::new(key) != *shared)));
}

#[test]
fn what_is_drawn_has_tests_of_its_distribution() {
    let (_folder, data) = data();
    for Case { name, entry, task, .. } in cases(&registry(), &data) {
        let older = ["listops", "retrieval", "pathfinder"].contains(&entry.name); // measured against samples in their own tests
        let tested = older || task.fingerprint().is_some() || !task.distributions(2000).unwrap().is_empty();
        assert!(tested, "{name} tests nothing of its distribution");
    }
}

#[test]
#[should_panic(expected = "pinned as Some(\"0.5\")")]
fn a_broken_law_names_the_task() {
    let (_folder, data) = data();
    let mut broken = cases(&[entry("mqar")], &data);
    broken[0].variant.pin = Some("0.5");
    super::generated_tokens_have_not_moved(&broken);
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

/// A task as somebody else's crate would have it: one file, a stream of its own.
mod own {
    use crate::core::rng::{Purpose, Stream};
    use crate::core::{bounds, drawn};
    use crate::{
        Bound, ConfigError, Counts, DataDir, DataError, Example, Family, Metric, Outline, Split, Synthetic, Targets,
        Task, TaskSpec, Variant,
    };
    use serde_json::json;

    /// Which of the tokens are odd?
    #[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
    #[serde(deny_unknown_fields, default)]
    pub(super) struct Odd {
        /// Tokens of an example.
        pub(super) seq_len: u32,
        /// Training examples.
        pub(super) train_examples: u64,
    }

    impl Default for Odd {
        fn default() -> Self {
            Self { seq_len: 12, train_examples: 50 }
        }
    }

    impl Family for Odd {
        const NAME: &'static str = "odd";
        const ABOUT: &'static str = "which tokens are odd";
        const PAPER: &'static str = "none";

        fn check(&self) -> Vec<ConfigError> {
            settings::at_least("seq_len", self.seq_len.into(), 8).err().into_iter().collect()
        }

        fn outline(&self) -> Outline {
            Outline { max_length: self.seq_len.into(), vocab_size: 10, classes: 2, ..drawn::OUTLINE }
        }

        fn open(&self, _: &DataDir) -> Result<Box<dyn Task>, DataError> {
            Ok(Box::new(self.clone()))
        }

        fn variants() -> Vec<Variant> {
            vec![Variant::new(json!({ "seq_len": 10 })).floor(0.5, 0.1)]
        }
    }

    impl Synthetic for Odd {
        fn describe(&self) -> TaskSpec {
            TaskSpec { metric: Metric::accuracy(), version: 1, ..self.outline().spec() }
        }

        fn counts(&self) -> Counts<'_> {
            Counts::new(Some(self.train_examples), 20, 100, &[])
        }

        fn draw(&self, split: Split, index: u64) -> Example {
            let mut stream = Stream::new(0, Purpose::of_split(Self::STREAM, split), index);
            let tokens = drawn::owned(split, 0, || drawn::symbols(&mut stream, self.seq_len as usize, 10));
            let classes = tokens.iter().map(|token| token % 2).collect();
            Example::new(tokens, Targets::PerPosition { positions: (0..self.seq_len.into()).collect(), classes })
        }

        fn guess(&self) -> Result<Bound, DataError> {
            bounds::uniform(self, 0, 2, "two classes")
        }

        fn answer(&self, example: &Example) -> Option<Vec<i64>> {
            Some(example.tokens.iter().map(|token| token % 2).collect())
        }
    }
}

#[test]
fn a_task_of_somebody_s_own_is_held_to_the_laws() {
    crate::laws::hold(&[Entry::of::<own::Odd>()], &DataDir("none".into()));
}

#[test]
#[should_panic(expected = "odd {\"seq_len\":10}: 0.5")]
fn a_task_of_somebody_s_own_that_breaks_a_law_is_named() {
    let mut tried = cases(&[Entry::of::<own::Odd>()], &DataDir("none".into()));
    tried[0].variant = Variant::new(tried[0].variant.settings.clone()).floor(0.9, 0.1);
    super::a_guesser_scores_the_floor(&tried);
}
