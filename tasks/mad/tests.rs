//! What was measured on mad-lab's generators, worked examples, and every refusal.

use super::*;
use crate::Targets;
use proptest::prelude::*;

fn task(changes: Value) -> Mad {
    let cfg: Config = serde_json::from_value(changes).unwrap();
    assert_eq!(cfg.check(), []);
    Mad::new(cfg)
}

fn parts(example: &Example) -> (&[i64], &[i64]) {
    match &example.targets {
        Targets::PerPosition { positions, classes } => (positions, classes),
        Targets::PerSequence(_) => panic!("MAD asks at positions"),
    }
}

fn examples(task: &Mad, split: Split, count: u64) -> Vec<Example> {
    (0..count).map(|index| task.example(split, index).unwrap()).collect()
}

fn mean(values: impl ExactSizeIterator<Item = usize>) -> f64 {
    let count = values.len() as f64;
    values.sum::<usize>() as f64 / count
}

fn targets(changes: Value) -> f64 {
    mean(examples(&task(changes), Split::Test, 1280).iter().map(|example| example.targets.classes().len()))
}

#[test]
fn as_many_targets_are_tested_as_measured_on_mad_lab() {
    // 63 pairs of 8 keys of which about 8·(1 − (7/8)^63) were new, and the last: 56 and a little.
    let plain = targets(json!({}));
    assert!((plain - 56.0).abs() < 0.15, "{plain}");
    let noisy = targets(json!({ "task": "noisy_recall" }));
    assert!((noisy - 43.6).abs() < 0.5, "{noisy}");
    let fuzzy = targets(json!({ "task": "fuzzy_recall" }));
    assert!((fuzzy - 4.3).abs() < 0.25, "{fuzzy}");
}

#[test]
fn fuzzy_examples_have_about_five_pads_and_all_on_the_left() {
    let drawn = examples(&task(json!({ "task": "fuzzy_recall" })), Split::Test, 1280);
    let pads = |example: &Example| example.tokens.iter().take_while(|&&token| token == 15).count();
    assert!((mean(drawn.iter().map(pads)) - 5.0).abs() < 0.5, "{}", mean(drawn.iter().map(pads)));
    for example in &drawn {
        assert_eq!(example.tokens.len(), 128);
        assert!(!example.tokens[pads(example)..].contains(&15));
    }
}

#[test]
fn the_last_token_to_copy_stands_at_position_238_of_256_unless_the_quirk_is_mended() {
    for (fix, always) in [(false, true), (true, false)] {
        let drawn = examples(&task(json!({ "task": "selective_copying", "fix_last_blank": fix })), Split::Test, 100);
        assert!(drawn.iter().all(|example| example.tokens[239] == 15 && example.tokens[240..] == [14; 16]));
        assert_eq!(drawn.iter().all(|example| example.tokens[238] < 14), always);
    }
}

#[test]
fn recall_is_trained_on_every_next_token_and_tested_on_values_of_keys_already_shown() {
    let task = task(json!({ "seq_len": 16 }));
    let train = task.example(Split::Train, 0).unwrap();
    assert_eq!(train.tokens.len(), 15);
    assert_eq!(parts(&train).0, (0..15).collect::<Vec<i64>>());
    assert_eq!(parts(&train).1[..14], train.tokens[1..]);
    for example in examples(&task, Split::Test, 50) {
        let (positions, classes) = parts(&example);
        let whole = [&example.tokens[..], &classes[classes.len() - 1..]].concat();
        let known = |at: &usize| whole[..*at].chunks_exact(2).any(|pair| pair[0] == whole[*at]);
        let expected: Vec<i64> = (0..16).step_by(2).filter(known).map(|at| at as i64).collect();
        assert_eq!(positions, expected);
        assert!(positions.iter().zip(classes).all(|(&at, &class)| whole[at as usize + 1] == class));
    }
}

#[test]
fn a_single_query_follows_the_copy_prefix_and_its_answer_is_not_in_the_input() {
    for split in Split::ALL {
        for example in examples(&task(json!({ "multi_query": false, "seq_len": 16 })), split, 50) {
            assert_eq!((example.tokens.len(), example.tokens[14]), (16, 15));
            assert_eq!(parts(&example).0, [15]);
        }
        for example in examples(&task(json!({ "task": "fuzzy_recall", "multi_query": false })), split, 50) {
            let (positions, _) = parts(&example);
            assert_eq!(example.tokens.len(), 128);
            assert_eq!(positions[positions.len() - 1], 127);
            let blanks = &example.tokens[128 - positions.len() + 1..];
            assert!(blanks.iter().all(|&token| token == 14), "{blanks:?}");
        }
    }
}

#[test]
fn fuzzy_keys_have_one_to_three_symbols_in_training_and_three_in_test() {
    let fuzzy = fuzzy::Fuzzy::new(&Config { task: Kind::FuzzyRecall, ..Config::default() });
    let run = |tokens: &[i64]| -> Vec<usize> {
        let runs = tokens.chunk_by(|a, b| (*a < 7) == (*b < 7)).filter(|run| run[0] < 7);
        runs.map(<[i64]>::len).collect()
    };
    for index in 0..50 {
        let draw = |split| fuzzy.example(split, &mut Stream::new(0, Purpose::of_split("mad", split), index)).tokens;
        assert!(run(&draw(Split::Train)).iter().all(|size| (1..=3).contains(size)));
        assert!(run(&draw(Split::Test)).iter().all(|&size| size == 3));
    }
}

#[test]
fn memory_is_of_one_map_whose_keys_have_different_values() {
    let task = task(json!({ "task": "memorization" }));
    let mut map = std::collections::HashMap::new();
    for split in Split::ALL {
        for example in examples(&task, split, 256) {
            for (pair, &class) in example.tokens.chunks_exact(2).zip(example.targets.classes()) {
                assert!((0..127).contains(&pair[0]) && pair[1] == 255 && (127..255).contains(&class));
                assert_eq!(*map.entry(pair[0]).or_insert(class), class);
            }
        }
    }
    assert_eq!(map.len(), 127);
    assert_eq!(map.values().collect::<std::collections::HashSet<_>>().len(), 127);
    assert_eq!(task.ceiling().unwrap().score, 1.0);
}

#[test]
fn nobody_remembers_what_training_never_showed() {
    let score = task(json!({ "task": "memorization", "vocab_size": 8192 })).ceiling().unwrap().score;
    let shown = 1.0 - (1.0 - 1.0 / 4095.0_f64).powi(256 * 16);
    assert!((score - shown).abs() < 0.02, "{score}, expected {shown}");
}

#[test]
fn the_published_changes_are_all_there_and_possible() {
    let count = Kind::ALL.map(|kind| changes(kind).len());
    assert_eq!(count, [11, 11, 14, 13, 11, 6]);
    for kind in Kind::ALL {
        for (label, settings) in changes(kind) {
            let cfg: Config = serde_json::from_value(settings.clone()).unwrap();
            assert_eq!(cfg.check(), [], "{label}");
            let task = Mad::new(cfg);
            assert_eq!(task.example(Split::Test, 0).unwrap().tokens.len() as i64, task.spec().max_length, "{label}");
            assert_eq!(settings.as_object().unwrap().len(), if label == "baseline" { 1 } else { 2 });
        }
    }
    let labels: Vec<String> = changes(Kind::SelectiveCopying).into_iter().map(|(label, _)| label).collect();
    assert_eq!(
        labels,
        [
            "baseline",
            "vocab_size 32",
            "vocab_size 64",
            "vocab_size 128",
            "seq_len 512",
            "seq_len 1024",
            "train_examples 6400",
            "train_examples 3200",
            "train_examples 1600",
            "train_examples 800",
            "copy_tokens 32",
            "copy_tokens 64",
            "copy_tokens 96"
        ]
    );
    assert_eq!(changes(Kind::NoisyRecall)[11].1, json!({ "task": "noisy_recall", "frac_noise": 0.4 }));
}

#[test]
fn every_impossible_setting_is_refused_with_its_inequality() {
    let problem = |changes: Value| {
        let errors = serde_json::from_value::<Config>(changes).unwrap().check();
        assert_eq!(errors.len(), 1, "{errors:?}");
        (errors[0].key, errors[0].problem.clone(), errors[0].help.clone())
    };
    let refused = |changes: Value, key: &str, problem_is: &str, help: &str| {
        assert_eq!(problem(changes), (key, problem_is.to_owned(), help.to_owned()));
    };
    refused(
        json!({ "task": "selective_copying", "seq_len": 64, "copy_tokens": 32 }),
        "copy_tokens",
        "`copy_tokens` 32 needs 2·32 + 1 = 65 tokens, more than `seq_len` = 64",
        "raise `seq_len` to 65 or lower `copy_tokens` to 31",
    );
    refused(
        json!({ "task": "noisy_recall", "vocab_size": 18 }),
        "vocab_size",
        "`vocab_size` 18 − 0 special tokens − 16 of noise leaves `noisy_recall` 2 symbols, fewer than 4",
        "use 20 or more",
    );
    refused(
        json!({ "task": "fuzzy_recall", "vocab_size": 6 }),
        "vocab_size",
        "`vocab_size` 6 − 1 special tokens − 0 of noise leaves `fuzzy_recall` 5 symbols, fewer than 6",
        "use 7 or more",
    );
    refused(
        json!({ "task": "fuzzy_recall", "seq_len": 12 }),
        "motif_length",
        "two pairs of `motif_length` 3 need 4·3 = 12 tokens, and `seq_len` = 12 is not more",
        "raise `seq_len` to 13 or lower `motif_length`",
    );
    refused(
        json!({ "causal": false }),
        "causal",
        "`causal` is false, and `in_context_recall` with `multi_query` asks for tokens that stand one position on in the \
         input",
        "use `multi_query: false`, which asks for the last value alone",
    );
    refused(
        json!({ "task": "compression", "copy_tokens": 8 }),
        "copy_tokens",
        "`copy_tokens` is set, and `compression` has no use for it",
        "leave it out, or write null",
    );
    for (changes, key) in [
        (json!({ "seq_len": 127 }), "seq_len"),
        (json!({ "seq_len": 2 }), "seq_len"),
        (json!({ "task": "compression", "seq_len": 1 }), "seq_len"),
        (json!({ "task": "compression", "vocab_size": 2 }), "vocab_size"),
        (json!({ "task": "memorization", "vocab_size": 4 }), "vocab_size"),
        (json!({ "task": "memorization", "frac_noise": 0.2 }), "frac_noise"),
        (json!({ "task": "memorization", "multi_query": true }), "multi_query"),
        (json!({ "task": "noisy_recall", "frac_noise": 1.0 }), "frac_noise"),
        (json!({ "task": "noisy_recall", "noise_vocab": 0 }), "noise_vocab"),
        (json!({ "task": "fuzzy_recall", "motif_length": 0 }), "motif_length"),
        (json!({ "task": "selective_copying", "copy_tokens": 0 }), "copy_tokens"),
        (json!({ "motif_length": 3 }), "motif_length"),
        (json!({ "fix_last_blank": false }), "fix_last_blank"),
        (json!({ "test_examples": 0 }), "test_examples"),
    ] {
        assert_eq!(problem(changes).0, key);
    }
}

#[test]
fn the_published_baselines_are_distributed_as_specified_and_guessed_as_reckoned() {
    // Per task: what a guesser scores by arithmetic, and 4 deviations of the measured mean. In-context: one of the pairs shown
    // has the asked key with probability 1/8 / (1 − (7/8)^m) when m were shown, and otherwise the same value in 1 of 8.
    let reckoned = [0.26, 0.125, 0.27, 1.0 / 16.0 + 15.0 / 16.0 / 14.0, (31.0 / 15.0 + 1.0) / 32.0, 1.0 / 128.0];
    let within = [0.015, 0.025, 0.02, 0.01, 0.006, 0.003];
    for (kind, (reckoned, within)) in Kind::ALL.into_iter().zip(reckoned.into_iter().zip(within)) {
        let task = task(json!({ "task": kind }));
        for test in task.distributions(2000).unwrap() {
            println!("{kind:?} {}: {:.1}, {} degrees, p = {:.3}", test.what, test.statistic, test.degrees, test.p);
            assert!(test.p > 1e-3, "{kind:?}: {test:?}");
        }
        let floor = task.floor().unwrap().score;
        println!("{kind:?} floor {floor:.4}");
        assert!((floor - reckoned).abs() < within, "{kind:?}: {floor}, expected {reckoned}");
    }
}

#[test]
fn a_tiny_space_of_inputs_is_remarked_upon() {
    let tiny = task(json!({ "task": "compression", "vocab_size": 3, "seq_len": 9 }));
    assert_eq!(
        tiny.notes(),
        ["these settings allow about 2^8 inputs for 15360 examples: some test inputs occur in training"]
    );
    for kind in Kind::ALL {
        assert!(task(json!({ "task": kind })).notes().is_empty(), "{kind:?}");
    }
}

prop_compose! {
    fn settings()(
        which in 0_usize..6, half in 9_u32..60, wide in 0_u32..40, single: bool, frac_noise in 0.0..0.95,
        motif in 1_u32..5, copies in 1_u32..8, fix: bool, data_seed: u64,
    ) -> Config {
        let task = Kind::ALL[which];
        let noisy = task == Kind::NoisyRecall;
        Config {
            task,
            vocab_size: Some(30 + wide),
            seq_len: Some(2 * half),
            noise_vocab: noisy.then_some(12),
            frac_noise: noisy.then_some(frac_noise),
            motif_length: (task == Kind::FuzzyRecall).then_some(motif),
            copy_tokens: (task == Kind::SelectiveCopying).then_some(copies),
            multi_query: task.recalls().then_some(!single),
            fix_last_blank: (task == Kind::SelectiveCopying).then_some(fix),
            causal: task.recalls() && !single,
            data_seed,
            ..Config::default()
        }
    }
}

proptest! {
    #[test]
    fn every_answer_can_be_found_in_the_input(cfg in settings(), index: u64) {
        prop_assert!(cfg.check().is_empty(), "{:?}", cfg.check());
        let task = Mad::new(cfg);
        let example = task.example(Split::Test, index).unwrap();
        prop_assert_eq!(example.tokens.len() as i64, task.spec().max_length);
        prop_assert!(example.tokens.iter().all(|token| (0..task.spec().vocab_size).contains(token)));
        prop_assert!(parts(&example).0.iter().all(|at| (0..task.spec().max_length).contains(at)));
        let answer = task.solve(&example);
        prop_assert_eq!(answer.as_deref(), Some(example.targets.classes()));
        let train = task.example(Split::Train, index).unwrap();
        prop_assert_eq!(train.tokens.len() as i64, task.spec().max_length);
    }
}
