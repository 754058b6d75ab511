//! Laws that every task obeys, a task of your own too:
//!
//! ```text
//! #[test]
//! fn my_task_obeys_the_laws() {
//!     tasks::laws::hold(&[tasks::Entry::of::<Mine>()], &tasks::DataDir("data".into()));
//! }
//! ```
//! They are tried on [`Family::variants`](crate::Family::variants), and panic where one is broken. A variant whose data files are
//! not in the data folder is left out; of each task one must be there.

#[cfg(test)]
pub(crate) mod conformance;
#[cfg(test)]
pub(crate) mod damaged;

use crate::core::{bounds, metrics};
use crate::{
    Batch, DataDir, DataError, Entry, Example, Judge, Mark, MetricKind, Order, Output, Split, Targets, Task, TaskSpec,
    Variant,
};
use serde_json::{Value, json};
use std::collections::HashSet;

/// Most examples that a split of a variant may have: the laws look at every one.
const MOST: u64 = 100_000;

/// One variant of a task, opened.
#[derive(Debug)]
pub struct Case {
    /// For messages: the task and what differs from its defaults.
    pub name: String,
    /// The task.
    pub entry: Entry,
    /// All of its settings.
    pub settings: Value,
    /// What the laws know of it.
    pub variant: Variant,
    /// Opened.
    pub task: Box<dyn Task>,
    data: DataDir,
}

impl Case {
    /// Opens it again.
    fn open(&self) -> Box<dyn Task> {
        self.entry.open(&self.settings, &self.data).expect("it was opened before")
    }
}

/// A law: it panics where a task breaks it.
pub type Law = fn(&[Case]);

/// Every law by name.
pub const LAWS: [(&str, Law); 15] = [
    ("the outline agrees with the opened task", the_outline_agrees_with_the_opened_task),
    (
        "a metric is of the kind that its judge and its output make it",
        a_metric_is_of_the_kind_that_its_judge_and_its_output_make_it,
    ),
    ("the oracle scores the ceiling", the_oracle_scores_the_ceiling),
    ("a guesser scores the floor", a_guesser_scores_the_floor),
    ("no constant answer beats the floor", no_constant_answer_beats_the_floor),
    ("the same arguments give the same tokens", the_same_arguments_give_the_same_tokens),
    ("every epoch is a permutation of the training set", every_epoch_is_a_permutation_of_the_training_set),
    ("batches of any size walk through the same order", batches_of_any_size_walk_through_the_same_order),
    ("only the seed decides the order", only_the_seed_decides_the_order),
    (
        "validation and test are in file order and end with a short batch",
        validation_and_test_are_in_file_order_and_end_with_a_short_batch,
    ),
    ("splits share no input", splits_share_no_input),
    ("tokens classes lengths and positions keep to the spec", tokens_classes_lengths_and_positions_keep_to_the_spec),
    ("subsets cover their split and no batch mixes two", subsets_cover_their_split_and_no_batch_mixes_two),
    ("generated tokens have not moved", generated_tokens_have_not_moved),
    ("what is drawn is distributed as specified", what_is_drawn_is_distributed_as_specified),
];

/// Holds these tasks to every law. Data files are looked for below `data`, and what is drawn may be kept there.
///
/// # Panics
/// Where a law is broken: the message names the task, its settings and what was found.
pub fn hold(entries: &[Entry], data: &DataDir) {
    settings_are_documented_and_possible(entries);
    let cases = cases(entries, data);
    LAWS.iter().for_each(|(_, law)| law(&cases));
}

/// Every variant of these tasks, opened, but those whose data files are not there.
///
/// # Panics
/// Where a variant is refused or cannot be opened, has more examples than the laws can look at, or all of a task lack their data.
pub fn cases(entries: &[Entry], data: &DataDir) -> Vec<Case> {
    let mut cases = Vec::new();
    for entry in entries {
        let before = cases.len();
        for variant in (entry.variants)() {
            let (name, settings) = (format!("{} {}", entry.name, variant.settings), over(entry, &variant.settings));
            assert_eq!(entry.check(&settings), [], "{name}");
            let task = match entry.open(&settings, data) {
                Ok(task) => task,
                Err(DataError::Missing { .. }) => continue,
                Err(error) => panic!("{name}: {error}"),
            };
            for split in Split::ALL {
                let n = task.len(split);
                assert!(n <= MOST, "{name}: {n} examples in {}; the laws look at each: use fewer", split.name());
            }
            cases.push(Case { name, entry: *entry, settings, variant, task, data: data.clone() });
        }
        assert!(cases.len() > before, "{}: {} has no data of any of its variants", entry.name, data.0.display());
    }
    cases
}

/// The defaults with `changes` over them.
fn over(entry: &Entry, changes: &Value) -> Value {
    (entry.resolve)(changes).unwrap_or_else(|error| panic!("{} {changes}: {error}", entry.name))
}

/// Defaults are accepted and possible, unknown keys are refused, every setting says what it means, and the small settings need
/// no data.
///
/// # Panics
/// Where they are not.
pub fn settings_are_documented_and_possible(entries: &[Entry]) {
    for entry in entries {
        let (name, mut settings) = (entry.name, (entry.defaults)());
        assert!((entry.accepts)(&settings).is_ok(), "{name}");
        assert_eq!(entry.check(&settings), [], "{name}");
        assert!(!entry.about.is_empty() && !entry.paper.is_empty(), "{name}");
        let schema = (entry.schema)();
        for key in settings.as_object().into_iter().flatten().map(|(key, _)| key) {
            let said = schema["properties"][key]["description"].as_str().unwrap_or_default();
            assert!(!said.is_empty(), "{name}: `{key}` has no doc comment");
        }
        for small in (entry.small)() {
            let whole = over(entry, &small);
            assert_eq!(entry.check(&whole), [], "{name} {small}");
            assert!(!entry.outline(&whole).needs_files, "{name} {small}: small settings need data files");
        }
        settings["no_such_setting"] = json!(1);
        let refused = (entry.accepts)(&settings).expect_err("unknown keys are refused").to_string();
        assert!(refused.contains("no_such_setting"), "{name}: {refused}");
    }
}

/// A hash of the first batches of every split, for [`Variant::pin`].
///
/// # Panics
/// When an example cannot be read.
pub fn pin(task: &dyn Task) -> String {
    let order = Order { seed: 5, batch_size: 7 };
    let mut hasher = blake3::Hasher::new();
    for split in Split::ALL {
        for batch in batches(task, split, &order, 3) {
            let classes = batch.targets.classes().iter();
            batch.tokens.iter().chain(classes).for_each(|id| _ = hasher.update(&id.to_le_bytes()));
        }
    }
    hasher.finalize().to_hex()[..16].to_owned()
}

/// The first batches are those of the pins: a change here changes every record, so raise the task's version with it.
pub(crate) fn generated_tokens_have_not_moved(cases: &[Case]) {
    for Case { name, task, variant, .. } in cases {
        let found = pin(&**task);
        assert!(variant.pin.is_none_or(|pin| pin == found), "{name}: {found}, pinned as {:?}", variant.pin);
    }
}

/// What is drawn passes the task's own tests of its distribution.
pub(crate) fn what_is_drawn_is_distributed_as_specified(cases: &[Case]) {
    for Case { name, task, .. } in cases {
        for test in task.distributions(2000).unwrap() {
            assert!(test.p > 1e-3, "{name}: {test:?}");
        }
    }
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

/// What the settings say before any data are read is what the opened task says.
pub(crate) fn the_outline_agrees_with_the_opened_task(cases: &[Case]) {
    for Case { name, entry, settings, task, .. } in cases {
        let (outline, spec) = (entry.outline(settings), task.spec());
        // A vocabulary may depend on the data: then the outline has that of the official ones.
        let vocab_size = if outline.needs_files { spec.vocab_size } else { outline.vocab_size };
        let (metric, version, marks, pad_token) =
            (spec.metric.clone(), spec.version, spec.marks.clone(), spec.pad_token);
        let (judge, by_position) = (spec.judge, spec.by_position);
        // A language model's classes are its vocabulary.
        let classes = if spec.output == Output::Tokens { vocab_size } else { outline.classes };
        let promised =
            TaskSpec { metric, version, marks, pad_token, vocab_size, classes, judge, by_position, ..outline.spec() };
        assert_eq!(promised, spec, "{name}");
        assert_eq!(outline.needs_files, task.fingerprint().is_some(), "{name}");
    }
}

/// The metric declared is the one that answers are scored by, and the bounds lie in its range.
pub(crate) fn a_metric_is_of_the_kind_that_its_judge_and_its_output_make_it(cases: &[Case]) {
    for Case { name, task, .. } in cases {
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

/// The task's own solver reaches its ceiling.
pub(crate) fn the_oracle_scores_the_ceiling(cases: &[Case]) {
    for Case { name, task, .. } in cases {
        let (mut score, mut solved) = (0.0, 0);
        for index in 0..task.len(Split::Test) {
            let example = task.example(Split::Test, index).unwrap();
            if let Some(answer) = task.solve(&example) {
                solved += 1;
                score += bounds::judged(&**task, Split::Test, index, &answer, &example).unwrap();
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

/// The measured floor is the one that arithmetic promises.
pub(crate) fn a_guesser_scores_the_floor(cases: &[Case]) {
    for Case { name, task, variant, .. } in cases {
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
        } else if let Some((expected, within)) = variant.floor {
            assert!((floor - expected).abs() <= within, "{name}: {floor}, expected {expected} ± {within}");
        }
    }
}

/// No constant answer scores more than the floor.
pub(crate) fn no_constant_answer_beats_the_floor(cases: &[Case]) {
    for Case { name, task, .. } in cases {
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
                        bounds::judged(&**task, Split::Test, index, &answer, row).unwrap()
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

/// Opened twice, a task gives the same batches.
pub(crate) fn the_same_arguments_give_the_same_tokens(cases: &[Case]) {
    let order = Order { seed: 5, batch_size: 7 };
    for case in cases {
        let (name, task, again) = (&case.name, &case.task, case.open());
        for split in Split::ALL {
            let (first, second) = (batches(&**task, split, &order, 3), batches(&*again, split, &order, 3));
            assert_eq!(first, second, "{name} {split:?}");
        }
        assert_eq!(task.fingerprint(), again.fingerprint(), "{name}");
    }
}

/// An epoch shows every training example once, in an order of its own.
pub(crate) fn every_epoch_is_a_permutation_of_the_training_set(cases: &[Case]) {
    for Case { name, task, .. } in cases {
        let n = task.len(Split::Train);
        assert_eq!(task.batches(Split::Train, 1), n, "{name}");
        let rows_of_two_epochs = batches(&**task, Split::Train, &Order { seed: 1, batch_size: 1 }, 2 * n);
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

/// The size of a batch does not change the order.
pub(crate) fn batches_of_any_size_walk_through_the_same_order(cases: &[Case]) {
    for Case { name, task, .. } in cases {
        if task.sections(Split::Train).parts.len() > 1 {
            continue; // a batch lies in one subset: other batches, another order
        }
        let walk = |batch_size, count| {
            let mut all = rows(&batches(&**task, Split::Train, &Order { seed: 1, batch_size }, count));
            all.truncate(105); // past the first epoch's end
            all
        };
        assert_eq!(walk(7, 15), walk(35, 3), "{name}");
    }
}

/// Another seed, another order.
pub(crate) fn only_the_seed_decides_the_order(cases: &[Case]) {
    for Case { name, task, .. } in cases {
        let order = |seed| rows(&batches(&**task, Split::Train, &Order { seed, batch_size: 16 }, 3));
        assert_eq!(order(1), order(1), "{name}");
        assert_ne!(order(1), order(2), "{name}");
    }
}

/// Validation and test are walked through once, in order.
pub(crate) fn validation_and_test_are_in_file_order_and_end_with_a_short_batch(cases: &[Case]) {
    for Case { name, task, .. } in cases {
        for split in [Split::Validation, Split::Test] {
            let n = task.len(split);
            let walked = batches(&**task, split, &Order { seed: 1, batch_size: 7 }, task.batches(split, 7));
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

/// No input is in two splits, but where the marks say that it is.
pub(crate) fn splits_share_no_input(cases: &[Case]) {
    for Case { name, task, .. } in cases.iter().filter(|case| !case.variant.overlapping) {
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

/// Batches keep to what the spec promises.
pub(crate) fn tokens_classes_lengths_and_positions_keep_to_the_spec(cases: &[Case]) {
    for Case { name, task, .. } in cases {
        let spec = task.spec();
        for split in Split::ALL {
            assert!(!task.is_empty(split), "{name}");
            let some = task.batches(split, 6).min(12);
            for batch in batches(&**task, split, &Order { seed: 3, batch_size: 6 }, some) {
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

/// The subsets of a split cover it, and no batch mixes two.
pub(crate) fn subsets_cover_their_split_and_no_batch_mixes_two(cases: &[Case]) {
    for Case { name, task, .. } in cases {
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
            for batch in batches(&**task, split, &order, task.batches(split, 5)) {
                let homes: HashSet<usize> = rows(std::slice::from_ref(&batch)).iter().map(|row| home[row]).collect();
                assert_eq!(homes.len(), 1, "{name} {split:?}");
            }
        }
    }
}
