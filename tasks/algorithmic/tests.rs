//! Worked examples, the walk's statistics, lengths and every refusal.

use super::*;
use crate::{FRESH, Targets};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::collections::HashSet;

fn task(changes: Value) -> Algorithmic {
    let cfg: Config = serde_json::from_value(changes).unwrap();
    assert_eq!(cfg.check(), []);
    Algorithmic::new(cfg)
}

fn example(changes: Value, drawn: &[i64], split: Split) -> Example {
    task(changes).form.example(drawn.to_vec(), split)
}

fn asked(positions: &[i64], classes: &[i64]) -> Targets {
    Targets::PerPosition { positions: positions.to_vec(), classes: classes.to_vec() }
}

#[test]
fn answers_are_asked_at_blanks_or_behind_their_predecessors() {
    let blank = example(json!({ "kind": "reverse" }), &[5, 7, 6], Split::Train);
    assert_eq!(blank.tokens, [32, 5, 7, 6, 33, 35, 35, 35]);
    assert_eq!(blank.targets, asked(&[5, 6, 7], &[6, 7, 5]));
    let sorted = json!({ "kind": "sort", "answers": "fed" });
    let fed = example(sorted.clone(), &[5, 7, 5], Split::Train);
    assert_eq!(fed.tokens, [100, 5, 7, 5, 101, 5, 5, 7]);
    assert_eq!(fed.targets, asked(&[4, 5, 6, 7], &[5, 5, 7, 102]));
    let test = example(sorted, &[5, 7, 5], Split::Test);
    assert_eq!((test.tokens, test.targets), (fed.tokens, asked(&[4, 5, 6], &[5, 5, 7])));
    assert_eq!(example(json!({}), &[3, 1], Split::Test).targets, asked(&[4, 5], &[3, 1]));
}

#[test]
fn the_closing_bracket_asked_for_closes_the_innermost_open_one() {
    let two = json!({ "kind": "dyck", "brackets": 2, "depth": 3 });
    let walk = example(two.clone(), &[0, 1, 3, 1, 0, 2, 3, 2, 1, 3], Split::Test);
    assert_eq!(walk.tokens, [0, 1, 3, 1, 0, 2, 3, 2, 1]);
    assert_eq!(walk.targets, asked(&[1, 4, 5, 6, 8], &[3, 2, 3, 2, 3]));
    assert_eq!(task(two).solve(&walk).as_deref(), Some(walk.targets.classes()));
    // Only right where nothing was closed since it was opened.
    assert_eq!(dyck::newest(&walk, 2), [3, 2, 2, 2, 3]);
}

#[test]
fn strings_are_members_when_every_bracket_is_closed_in_order_and_none_is_too_deep() {
    let label = |tokens: &[i64]| {
        example(json!({ "kind": "dyck_membership", "brackets": 2, "depth": 2 }), tokens, Split::Test).targets
    };
    for (tokens, member) in [
        (&[0, 2, 1, 3][..], 1),
        (&[0, 1, 3, 2], 1),
        (&[0, 1, 2, 3], 0),
        (&[2, 0], 0),
        (&[0, 0], 0),
        (&[0, 0, 0, 2, 2, 2], 0),
        (&[0, 3], 0),
    ] {
        assert_eq!(label(tokens), Targets::PerSequence(vec![member]), "{tokens:?}");
    }
}

#[test]
fn broken_strings_have_the_brackets_of_a_member_and_half_of_all_strings_are_broken() {
    let task = task(json!({ "kind": "dyck_membership", "test_examples": 200 }));
    for (split, rows) in [(Split::Train, 400), (Split::Test, 800)] {
        let mut members = 0;
        for index in 0..rows {
            let example = task.example(split, index).unwrap();
            let count = |token: i64| example.tokens.iter().filter(|&&t| t == token).count();
            assert!((0..8).all(|kind| count(kind) == count(kind + 8)));
            members += example.targets.classes()[0];
            assert_eq!(example.targets.classes()[0], i64::from(task.odd(split, index)));
        }
        assert_eq!(members as u64, rows / 2);
    }
    assert_eq!(task.floor().unwrap().score, 0.5);
}

#[test]
fn a_walk_is_open_at_depth_0_and_closed_at_depth_d_and_even_between() {
    let task = task(json!({ "kind": "dyck", "depth": 3, "test_lengths": [400] }));
    let mut moves = [[0_u32; 2]; 4];
    for index in 0..200 {
        let mut depth = 0_usize;
        for token in task.drawn(Split::Test, index) {
            moves[depth][usize::from(token < 8)] += 1;
            depth = if token < 8 { depth + 1 } else { depth - 1 };
        }
    }
    assert_eq!((moves[0][0], moves[3][1]), (0, 0));
    for [closed, opened] in [moves[1], moves[2]] {
        let share = f64::from(opened) / f64::from(opened + closed);
        assert!((share - 0.5).abs() < 0.013, "4 deviations at 26,000 steps: {moves:?}");
    }
}

#[test]
fn the_newest_opening_bracket_is_a_baseline_between_guessing_and_the_stack() {
    let task = task(json!({ "kind": "dyck", "depth": 4, "test_lengths": [100, 200], "test_examples": 300 }));
    let found = task.baselines().unwrap();
    assert_eq!(found.iter().map(|b| b.at).collect::<Vec<_>>(), [Some(100.0), Some(200.0)]);
    // Depths 0 to 4 are visited as 1 : 2 : 2 : 2 : 1, so 5/8 of closing brackets stand right behind what they close; of the
    // others 1 in 8 types is right by chance.
    let reckoned = 5.0 / 8.0 + 3.0 / 8.0 / 8.0;
    assert!(found.iter().all(|baseline| (baseline.value - reckoned).abs() < 0.015), "{found:?}");
    assert!(Algorithmic::new(Config::default()).baselines().unwrap().is_empty());
}

#[test]
fn the_test_split_is_a_subset_for_each_length_and_training_has_all_of_its_own() {
    let task = task(json!({ "test_lengths": [20, 40], "test_examples": 30 }));
    assert_eq!(task.len(Split::Test), 60);
    assert_eq!(task.len(Split::Train), FRESH);
    let sections = task.sections(Split::Test);
    assert_eq!((sections.axis, sections.parts.len()), ("length", 2));
    for index in 0..60 {
        let n = task.drawn(Split::Test, index).len();
        assert_eq!(n as f64, sections.parts[sections.find(index).0].at);
    }
    let lengths: HashSet<usize> = (0..1000).map(|index| task.drawn(Split::Train, index).len()).collect();
    assert_eq!(lengths, (1..=20).collect());
    assert_eq!(task.spec().max_length, 82);
}

#[test]
fn no_input_of_length_three_or_more_is_in_two_splits() {
    // 32^3 inputs of length 3: without owners 2,000 draws of training and as many of validation would share some 120.
    let task = task(json!({ "train_min": 3, "train_max": 3, "test_lengths": [3], "validation_examples": 2000,
        "test_examples": 2000 }));
    assert!(task.notes().is_empty());
    let inputs = |split| -> HashSet<Vec<i64>> { (0..2000).map(|index| task.drawn(split, index)).collect() };
    let [train, validation, test] = Split::ALL.map(inputs);
    assert!(train.is_disjoint(&validation) && train.is_disjoint(&test) && validation.is_disjoint(&test));
}

#[test]
fn lengths_of_few_inputs_are_remarked_upon() {
    assert_eq!(
        task(json!({})).notes(),
        ["lengths 1 to 2 may have fewer than 4096 inputs: there the splits are drawn alike and share some"]
    );
    assert!(task(json!({ "kind": "dyck" })).notes().is_empty());
    assert!(task(json!({ "kind": "dyck_membership" })).notes().is_empty());
    let narrow = task(json!({ "kind": "dyck_membership", "brackets": 1, "depth": 1, "train_min": 2, "train_max": 4,
        "test_lengths": [6] }));
    assert_eq!(narrow.notes().len(), 1);
    assert_eq!(narrow.ceiling().unwrap().score, 1.0);
}

#[test]
fn what_is_fresh_is_distributed_as_specified() {
    let settings = [
        json!({}),
        json!({ "kind": "sort", "distinct": true, "symbols": 200 }),
        json!({ "kind": "dyck" }),
        json!({ "kind": "dyck_membership" }),
    ];
    for changes in settings {
        for test in task(changes.clone()).distributions(2000).unwrap() {
            println!("{changes} {}: {:.1}, {} degrees, p = {:.3}", test.what, test.statistic, test.degrees, test.p);
            assert!(test.p > 1e-3, "{changes}: {test:?}");
        }
    }
}

#[test]
fn every_impossible_setting_is_refused_with_its_inequality() {
    let found = |changes: Value| serde_json::from_value::<Config>(changes).unwrap().check();
    let refused = |changes: Value, key: &str, problem: &str, help: &str| {
        let errors = found(changes);
        assert_eq!(errors.len(), 1, "{errors:?}");
        assert_eq!((errors[0].key, errors[0].problem.as_str(), errors[0].help.as_str()), (key, problem, help));
    };
    refused(
        json!({ "test_lengths": [5, 10] }),
        "test_lengths",
        "the largest of `test_lengths` is 10 < 20 = `train_max`: nothing as long is tested",
        "add 20, or a length beyond training such as 40",
    );
    refused(
        json!({ "kind": "sort", "distinct": true }),
        "distinct",
        "200 `distinct` integers are more than the `symbols` = 100 there are",
        "raise `symbols` to 200 or set `test_lengths` and `train_max` lower",
    );
    refused(
        json!({ "answers": "fed", "causal": false }),
        "causal",
        "`causal` is false, and `answers: fed` puts each answer into the input",
        "use `answers: blank`",
    );
    refused(
        json!({ "kind": "dyck_membership", "test_lengths": [100, 201] }),
        "test_lengths",
        "`test_lengths` has 201, and no string of an odd number of brackets is closed",
        "use 200 or 202",
    );
    refused(
        json!({ "train_min": 9, "train_max": 8 }),
        "train_max",
        "`train_max` = 8 is less than `train_min` = 9",
        "use 9 or more",
    );
    for (changes, key) in [
        (json!({ "kind": "dyck", "causal": false }), "causal"),
        (json!({ "kind": "dyck", "brackets": 1 }), "brackets"),
        (json!({ "kind": "dyck_membership", "brackets": 0 }), "brackets"),
        (json!({ "kind": "dyck", "depth": 0 }), "depth"),
        (json!({ "kind": "dyck", "train_min": 1 }), "train_min"),
        (json!({ "kind": "dyck", "symbols": 8 }), "symbols"),
        (json!({ "kind": "dyck", "answers": "blank" }), "answers"),
        (json!({ "kind": "dyck_membership", "train_min": 11, "train_max": 11 }), "train_max"),
        (json!({ "distinct": true }), "distinct"),
        (json!({ "brackets": 2 }), "brackets"),
        (json!({ "depth": 2 }), "depth"),
        (json!({ "symbols": 1 }), "symbols"),
        (json!({ "train_min": 0 }), "train_min"),
        (json!({ "test_lengths": [] }), "test_lengths"),
        (json!({ "test_lengths": [40, 20] }), "test_lengths"),
        (json!({ "test_lengths": [0, 20] }), "test_lengths"),
        (json!({ "train_examples": 0 }), "train_examples"),
        (json!({ "test_examples": 0 }), "test_examples"),
    ] {
        let keys: Vec<&str> = found(changes.clone()).iter().map(|error| error.key).collect();
        assert_eq!(keys, [key], "{changes}");
    }
}

prop_compose! {
    fn settings()(
        kind in 0_usize..5, symbols in 40_u32..60, distinct: bool, fed: bool, brackets in 2_u32..5, depth in 1_u32..7,
        min in 2_u32..8, more in 1_u32..8, beyond in 0_u32..6, data_seed: u64,
    ) -> Config {
        let kind = [Kind::Copy, Kind::Reverse, Kind::Sort, Kind::Dyck, Kind::DyckMembership][kind];
        let plain = !kind.has_brackets();
        let train_max = min + more;
        Config {
            kind,
            symbols: plain.then_some(symbols),
            distinct: (kind == Kind::Sort).then_some(distinct),
            answers: plain.then_some(if fed { Answers::Fed } else { Answers::Blank }),
            brackets: (!plain).then_some(brackets),
            depth: (!plain).then_some(depth),
            train_min: Some(min),
            train_max: Some(train_max),
            test_lengths: Some(vec![2 * train_max.div_ceil(2) + 2 * beyond]),
            causal: kind == Kind::Dyck || plain && fed,
            data_seed,
            ..Config::default()
        }
    }
}

proptest! {
    #[test]
    fn every_answer_can_be_found_in_the_input(cfg in settings(), index in 0_u64..1000) {
        prop_assert!(cfg.check().is_empty(), "{:?}", cfg.check());
        let task = Algorithmic::new(cfg);
        for split in Split::ALL {
            let example = task.example(split, index).unwrap();
            prop_assert!(!example.tokens.is_empty() && example.tokens.len() as i64 <= task.spec().max_length);
            prop_assert!(example.tokens.iter().all(|token| (0..task.spec().vocab_size).contains(token)));
            let answer = task.solve(&example);
            prop_assert_eq!(answer.as_deref(), Some(example.targets.classes()));
            if let Some(allowed) = task.allowed(split, index).unwrap() {
                prop_assert!(allowed.iter().zip(example.targets.classes()).all(|(sets, class)| sets.contains(class)));
                prop_assert_eq!(allowed.len(), example.targets.classes().len());
            }
        }
    }
}
