use super::*;
use proptest::prelude::*;

fn task(change: impl FnOnce(&mut Config)) -> Depth {
    let mut cfg = Config { test_examples: 500, validation_examples: 500, ..Config::default() };
    change(&mut cfg);
    assert_eq!(cfg.check(), []);
    Depth::new(cfg)
}

fn tokens(task: &Depth, split: Split, rows: u64) -> Vec<Vec<i64>> {
    (0..rows).map(|i| task.example(split, i).unwrap().tokens).collect()
}

fn symbols(rows: &[Vec<i64>], alphabet: i64) -> HashSet<i64> {
    rows.iter().flatten().copied().filter(|&token| token < alphabet).collect()
}

#[test]
fn memorization_has_n_different_sequences_in_every_split() {
    for (alphabet, seq_len, n) in [(64, 8, 512), (2, 3, 8), (3, 2, 7)] {
        let task = task(|c| {
            (c.kind, c.alphabet, c.seq_len, c.sequences) = (Kind::Memorization, alphabet, seq_len, n);
        });
        let [train, validation, test] = Split::ALL.map(|split| tokens(&task, split, task.len(split)));
        assert_eq!(train.iter().collect::<HashSet<_>>().len(), n as usize);
        assert!(train == validation && train == test);
        assert!(train.iter().all(|s| s.len() == seq_len as usize));
    }
}

#[test]
fn questions_differ_and_the_last_is_one_of_them() {
    for question_length in [1, 3] {
        let task = task(|c| c.question_length = question_length);
        for index in 0..200 {
            let example = task.example(Split::Test, index).unwrap();
            let (pairs, asked) = task.read(&example.tokens).unwrap();
            let questions: HashSet<&[i64]> = pairs.iter().map(|(question, _)| *question).collect();
            assert_eq!((questions.len(), asked.len()), (8, question_length as usize));
            assert_eq!(pairs.iter().filter(|(question, _)| *question == asked).count(), 1);
        }
    }
}

#[test]
fn prompts_of_different_splits_differ_even_without_their_last_question() {
    for change in [
        (|c| (c.alphabet, c.classes, c.pairs) = (12, 4, 3)) as fn(&mut Config),
        |c| (c.kind, c.held_out, c.alphabet, c.template_length, c.pairs) = (Kind::InContextTemplate, 0.0, 8, 3, 3),
        |c| (c.kind, c.alphabet, c.template_length, c.pairs) = (Kind::InContextTemplate, 16, 3, 3),
    ] {
        let task = task(change);
        let last = task.cfg.length() as usize - (task.cfg.length() as usize + 1) / (task.cfg.pairs as usize + 1) + 1;
        let prompts = |split| -> HashSet<Vec<i64>> {
            tokens(&task, split, 2000).into_iter().map(|tokens| tokens[..last].to_vec()).collect()
        };
        let [train, validation, test] = Split::ALL.map(prompts);
        assert!(train.is_disjoint(&validation) && train.is_disjoint(&test) && validation.is_disjoint(&test));
    }
}

#[test]
fn symbols_held_out_are_never_trained_on() {
    for kind in [Kind::TemplateMatching, Kind::InContextTemplate] {
        let task = task(|c| (c.kind, c.held_out) = (kind, 0.25));
        let [train, validation, test] = Split::ALL.map(|split| symbols(&tokens(&task, split, 500), 64));
        assert!(train.iter().all(|&s| s < 48) && train.len() == 48, "{train:?}");
        assert!(validation.union(&test).all(|&s| s >= 48) && test.len() == 16);
    }
}

#[test]
fn a_label_of_template_matching_depends_on_the_template_alone() {
    let task = task(|c| (c.kind, c.templates, c.template_length) = (Kind::TemplateMatching, Some(20), 5));
    let mut known: HashMap<Vec<usize>, i64> = HashMap::new();
    for split in Split::ALL {
        for index in 0..500 {
            let example = task.example(split, index).unwrap();
            let label = example.targets.classes()[0];
            assert_eq!(*known.entry(templates::of(&example.tokens)).or_insert(label), label);
        }
    }
    assert_eq!(known.len(), 20);
    let counts: Vec<usize> = (0..8).map(|c| known.values().filter(|&&label| label == c).count()).collect();
    assert!(counts.iter().all(|count| (2..=3).contains(count)), "{counts:?}");
}

#[test]
fn the_last_sequence_shares_its_template_with_one_other_and_its_symbols_with_none() {
    for (held_out, split) in [(0.5, Split::Train), (0.5, Split::Test), (0.0, Split::Test)] {
        let task = task(|c| (c.kind, c.held_out, c.alphabet) = (Kind::InContextTemplate, held_out, 16));
        for index in 0..300 {
            let example = task.example(split, index).unwrap();
            let (pairs, asked) = task.read(&example.tokens).unwrap();
            let templates: HashSet<Vec<usize>> = pairs.iter().map(|(s, _)| templates::of(s)).collect();
            assert_eq!(templates.len(), 8);
            assert!(templates.contains(&templates::of(asked)));
            assert!(pairs.iter().all(|(s, _)| s.iter().all(|symbol| !asked.contains(symbol))));
        }
    }
}

#[test]
fn distinct_answers_differ_and_are_worth_one_guess_in_n() {
    let task = task(|c| (c.distinct_answers, c.test_examples) = (true, 2000));
    for index in 0..100 {
        let example = task.example(Split::Test, index).unwrap();
        let (pairs, _) = task.read(&example.tokens).unwrap();
        assert_eq!(pairs.iter().map(|(_, answer)| answer).collect::<HashSet<_>>().len(), 8);
    }
    let floor = task.floor().unwrap().score;
    assert!((floor - 0.125).abs() < 0.03, "4 deviations at 2,000 examples: {floor}");
}

#[test]
fn labels_templates_places_and_symbols_are_drawn_as_specified() {
    for (kind, tests) in
        [(Kind::Memorization, 3), (Kind::InContextQa, 4), (Kind::TemplateMatching, 4), (Kind::InContextTemplate, 5)]
    {
        let found = task(|c| (c.kind, c.sequences) = (kind, 4000)).distributions(4000).unwrap();
        assert_eq!(found.len(), tests, "{kind:?}");
        for test in &found {
            println!("{kind:?}: {}: p = {:.3}", test.what, test.p);
            assert!(test.p > 1e-3, "{kind:?}: {test:?}");
        }
    }
}

#[test]
fn the_commonest_answer_is_found_and_ties_go_to_the_first() {
    assert_eq!(commonest(&[3, 1, 1, 2]), 1);
    assert_eq!(commonest(&[3, 1, 1, 3]), 3);
}

#[test]
fn a_fixed_training_set_is_the_beginning_of_the_endless_one() {
    let (fixed, fresh) = (task(|c| c.train_examples = Some(50)), task(|_| ()));
    assert_eq!((fixed.len(Split::Train), fresh.len(Split::Train)), (50, FRESH));
    assert_eq!(tokens(&fixed, Split::Train, 50), tokens(&fresh, Split::Train, 50));
    assert!(fresh.example(Split::Train, FRESH - 1).is_ok());
}

#[test]
fn every_impossible_setting_is_named_with_its_inequality() {
    let bad = |change: fn(&mut Config)| {
        let mut cfg = Config::default();
        change(&mut cfg);
        cfg.check().into_iter().map(|error| (error.key, error.problem)).collect::<Vec<_>>()
    };
    let keys = |change| bad(change).into_iter().map(|(key, _)| key).collect::<Vec<_>>();
    assert_eq!(bad(|_| ()), []);
    assert_eq!(bad(|c| c.kind = Kind::Memorization), []);
    assert_eq!(bad(|c| c.kind = Kind::TemplateMatching), []);
    assert_eq!(bad(|c| c.kind = Kind::InContextTemplate), []);
    assert_eq!(
        bad(|c| (c.kind, c.templates) = (Kind::TemplateMatching, Some(16)))[0].1,
        "`templates` is 16, more than the Bell number B(4) = 15: no more templates of `template_length` 4 exist"
    );
    assert_eq!(
        bad(|c| (c.kind, c.alphabet) = (Kind::TemplateMatching, 6))[0].1,
        "`alphabet` 6 with `held_out` 0.5 leaves 3 symbols for training, fewer than the 4 wildcards that \
         `template_length` 4 can ask for"
    );
    assert_eq!(
        bad(|c| (c.kind, c.alphabet, c.held_out) = (Kind::InContextTemplate, 7, 0.0))[0].1,
        "`alphabet` 7 with `held_out` 0 leaves 7 symbols for training, fewer than the 2·4 = 8 wildcards that \
         `template_length` 4 can ask for"
    );
    assert_eq!(
        bad(|c| (c.kind, c.alphabet, c.seq_len) = (Kind::Memorization, 2, 8))[0].1,
        "`sequences` is 512, more than `alphabet`^`seq_len` = 2^8 = 256 different ones"
    );
    assert_eq!(
        bad(|c| (c.alphabet, c.classes, c.pairs) = (2, 2, 2))[0].1,
        "`pairs` 2, `alphabet` 2 and `classes` 2 give at least 8 different prompts, and 10000 are needed to share them \
         among training, validation and test"
    );
    assert_eq!(keys(|c| c.pairs = 65), ["pairs"]);
    assert_eq!(keys(|c| (c.distinct_answers, c.pairs) = (true, 9)), ["distinct_answers"]);
    assert_eq!(keys(|c| (c.kind, c.pairs) = (Kind::InContextTemplate, 16)), ["pairs"]);
    assert_eq!(keys(|c| (c.kind, c.held_out) = (Kind::TemplateMatching, 0.0)), ["held_out"]);
    assert_eq!(keys(|c| (c.kind, c.held_out) = (Kind::TemplateMatching, f64::NAN)), ["held_out"]);
    assert_eq!(keys(|c| (c.kind, c.held_out) = (Kind::InContextTemplate, 0.001)), ["held_out"]);
    assert_eq!(keys(|c| (c.kind, c.template_length) = (Kind::TemplateMatching, 11)), ["template_length"]);
    assert_eq!(keys(|c| (c.kind, c.train_examples) = (Kind::Memorization, Some(9))), ["train_examples"]);
    assert_eq!(keys(|c| (c.classes, c.alphabet) = (1, 0)), ["alphabet", "classes"]);
    assert_eq!(keys(|c| (c.test_examples, c.train_examples) = (0, Some(0))), ["train_examples", "test_examples"]);
    assert_eq!(keys(|c| (c.pairs, c.question_length) = (u32::MAX, u32::MAX)), ["pairs"]);
}

#[test]
fn labels_that_never_occur_and_symbols_never_trained_are_remarked_upon() {
    let task = task(|c| (c.kind, c.templates) = (Kind::TemplateMatching, Some(5)));
    let notes = task.notes();
    assert_eq!(notes.len(), 3);
    assert_eq!(notes[1], "5 templates have 5 of the 8 labels; the others never occur");
    assert!(notes[2].contains("32 symbols that training never shows"));
}

prop_compose! {
    fn settings()(
        kind in prop::sample::select(vec![
            Kind::Memorization, Kind::InContextQa, Kind::TemplateMatching, Kind::InContextTemplate,
        ]),
        alphabet in 24_u32..80, classes in 2_u32..20, pairs in 4_u32..6, question_length in 1_u32..4,
        template_length in 3_u32..6, held_out in 0.42..0.58, data_seed: u64, sequences in 2_u32..60,
    ) -> Config {
        Config { kind, alphabet, classes, pairs, question_length, template_length, held_out, data_seed, sequences,
            ..Config::default() }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_example_is_as_long_as_the_outline_says_and_can_be_answered(cfg in settings(), place: u64) {
        prop_assert_eq!(cfg.check(), []);
        let task = Depth::new(cfg.clone());
        for split in Split::ALL {
            let example = task.example(split, place % task.len(split)).unwrap();
            prop_assert_eq!(example.tokens.len() as i64, cfg.outline().max_length);
            prop_assert!(example.tokens.iter().all(|&token| (0..cfg.tokens()).contains(&token)));
            let answer = task.solve(&example);
            prop_assert_eq!(answer.as_deref(), Some(example.targets.classes()));
        }
    }
}
