use super::*;
use crate::{FRESH, Order};
use std::collections::HashSet;

fn task(problem: &str, change: impl Fn(&mut Config)) -> StateTracking {
    let mut cfg = Config { problem: problem.into(), ..Config::default() };
    change(&mut cfg);
    assert_eq!(cfg.check(), [], "{problem}");
    StateTracking::new(cfg)
}

/// The errors of settings that cannot be, as `key: problem → help`.
fn refused(change: impl Fn(&mut Config)) -> Vec<String> {
    let mut cfg = Config::default();
    change(&mut cfg);
    cfg.check().into_iter().map(|error| format!("{}: {} → {}", error.key, error.problem, error.help)).collect()
}

fn answers(problem: &str, sequence: &[i64]) -> Vec<i64> {
    Config { problem: problem.into(), ..Config::default() }.problem().unwrap().answers(sequence).unwrap()
}

#[test]
fn answers_are_those_found_by_hand() {
    assert_eq!(answers("parity", &[1, 0, 1, 1]), [1, 1, 0, 1]);
    assert_eq!(answers("majority", &[1, 0, 0, 1, 1]), [1, 0, 0, 0, 1]);
    assert_eq!(answers("z60", &[59, 3, 58]), [59, 2, 0]);
    assert_eq!(answers("s3", &[1, 2, 2, 1]), [1, 3, 1, 0]);
    assert_eq!(answers("modular", &[3, 5, 4, 7, 2]), [1]); // 3 + 4 * 2 = 11
    assert_eq!(answers("modular_brackets", &[8, 3, 5, 4, 9, 7, 2]), [4]); // (3 + 4) * 2 = 14
}

#[test]
fn the_last_answer_is_that_of_every_position_and_an_end_token_moves_it_behind() {
    let everywhere = task("s3", |_| ());
    let last = task("s3", |cfg| cfg.scored = Some(Scored::Last));
    let end = task("s3", |cfg| cfg.end_token = true);
    for index in 0..20 {
        let [all, last, end] = [&everywhere, &last, &end].map(|task| task.example(Split::Test, index).unwrap());
        let Targets::PerPosition { positions, classes } = &all.targets else { panic!("per position") };
        assert_eq!((positions.len(), classes.len(), all.tokens.len()), (40, 40, 40));
        assert_eq!(last.tokens, all.tokens);
        assert_eq!(last.targets, Targets::PerPosition { positions: vec![39], classes: vec![classes[39]] });
        assert_eq!(end.tokens, [all.tokens, vec![6]].concat());
        assert_eq!(end.targets, Targets::PerPosition { positions: vec![40], classes: vec![classes[39]] });
    }
}

#[test]
fn training_lengths_are_all_those_between_and_test_lengths_follow_each_other() {
    for (problem, step) in [("parity", 1), ("modular", 2)] {
        let task = task(problem, |cfg| {
            (cfg.train_min, cfg.train_max, cfg.test_lengths, cfg.test_examples) = (4, 13, vec![13, 21], 5);
        });
        let lengths = |split, rows| -> Vec<usize> { (0..rows).map(|i| task.sequence(split, i).len()).collect() };
        let mut seen: Vec<usize> = lengths(Split::Train, 500);
        seen.sort_unstable();
        seen.dedup();
        assert!(seen.into_iter().eq((4 + step - 1..=13).step_by(step)), "{problem}");
        assert_eq!(lengths(Split::Test, 10), [13, 13, 13, 13, 13, 21, 21, 21, 21, 21]);
        assert_eq!(task.sections(Split::Test).parts.iter().map(|part| part.at).collect::<Vec<_>>(), [13.0, 21.0]);
    }
}

#[test]
fn a_sequence_belongs_to_one_split_even_where_every_one_is_drawn() {
    // 2^10 sequences, drawn 20,000 times in training: about every one of its 8 in 10.
    let task = task("parity", |cfg| {
        (cfg.train_min, cfg.train_max, cfg.test_lengths, cfg.pairs_in_train) = (10, 10, vec![10], false);
    });
    let drawn =
        |split| -> HashSet<Vec<i64>> { (0..20_000).map(|i| task.sequence(split, i % task.len(split))).collect() };
    let [train, validation, test] = Split::ALL.map(drawn);
    assert!(train.is_disjoint(&validation) && train.is_disjoint(&test) && validation.is_disjoint(&test));
    assert_eq!(train.len() + validation.len() + test.len(), 1024);
    assert!((60..150).contains(&validation.len()) && (60..150).contains(&test.len()));
}

#[test]
fn pairs_are_all_in_training_and_only_there() {
    let short = |cfg: &mut Config| (cfg.train_min, cfg.train_max, cfg.test_lengths) = (2, 3, vec![3]);
    let pairs = |task: &StateTracking, split| -> HashSet<Vec<i64>> {
        (0..6_000).map(|i| task.sequence(split, i)).filter(|sequence| sequence.len() == 2).collect()
    };
    let z32 = task("z32", short); // 32^2 = 1024 pairs: enough to hold some out
    assert!(pairs(&z32, Split::Validation).is_empty());
    let held = task("z32", |cfg| {
        short(cfg);
        cfg.pairs_in_train = false;
    });
    let [train, validation] = [Split::Train, Split::Validation].map(|split| pairs(&held, split));
    assert!(!validation.is_empty() && train.is_disjoint(&validation));
    assert!(!pairs(&z32, Split::Train).is_disjoint(&validation), "pairs that would be held out are in training");
}

/// What Python's operators would make of it, found by putting brackets round every product first.
fn reference(text: &str) -> i64 {
    let inner = |text: &str| text.rfind('(').map(|open| (open, open + text[open..].find(')').unwrap()));
    if let Some((open, close)) = inner(text) {
        let value = reference(&text[open + 1..close]);
        let sign = if value < 0 { format!("m{}", -value) } else { value.to_string() };
        return reference(&format!("{}{sign}{}", &text[..open], &text[close + 1..]));
    }
    if let Some(at) = text.rfind(['+', '-']) {
        let (left, right) = (reference(&text[..at]), reference(&text[at + 1..]));
        return if text.as_bytes()[at] == b'+' { left + right } else { left - right };
    }
    text.split('*').map(|number| number.replace('m', "-").parse::<i64>().unwrap()).fold(1, |a, b| a * b % 1_000_005)
}

#[test]
fn expressions_come_to_what_they_come_to_and_have_exactly_the_wanted_length() {
    for (problem, modulus) in [("modular", 5), ("modular_brackets", 5), ("modular_brackets", 3)] {
        let task = task(problem, |cfg| {
            (cfg.modulus, cfg.train_min, cfg.train_max, cfg.test_lengths) = (modulus, 1, 21, vec![21]);
        });
        let Problem::Modular { symbols, .. } = task.problem else { panic!("modular") };
        for index in 0..2_000 {
            let example = task.example(Split::Train, index).unwrap();
            let (end, sequence) = example.tokens.split_last().unwrap();
            assert_eq!((*end, sequence.len() % 2), (symbols.equals(), 1));
            let text = symbols.text(sequence);
            let want = reference(&text).rem_euclid(i64::from(modulus));
            assert_eq!(example.targets.classes(), [want], "{text}");
            assert!(problem == "modular_brackets" || !text.contains('('), "{text}");
        }
    }
}

#[test]
fn brackets_come_at_every_place_and_nest_but_never_hold_a_digit_alone_or_everything() {
    let task = task("modular_brackets", |cfg| (cfg.train_min, cfg.train_max, cfg.test_lengths) = (15, 15, vec![15]));
    let Problem::Modular { symbols, .. } = task.problem else { panic!("modular") };
    let texts: Vec<String> = (0..2_000).map(|i| symbols.text(&task.sequence(Split::Train, i))).collect();
    let share = |test: &dyn Fn(&str) -> bool| texts.iter().filter(|text| test(text)).count();
    assert!(share(&|text| text.starts_with('(')) > 500 && share(&|text| text.ends_with(')')) > 200);
    assert!(share(&|text| text.contains("((")) > 100 && share(&|text| !text.contains('(')) > 10);
    let whole = |text: &str| {
        let depth = text.chars().scan(0, |depth, sign| {
            *depth += i32::from(sign == '(') - i32::from(sign == ')');
            Some(*depth)
        });
        depth.take(text.len() - 1).all(|depth| depth > 0)
    };
    assert_eq!(share(&whole), 0);
    let single = |text: &str| text.as_bytes().windows(3).any(|three| three[0] == b'(' && three[2] == b')');
    assert_eq!(share(&single), 0);
    assert!(texts.iter().all(|text| text.len() == 15));
}

#[test]
fn what_is_no_expression_has_no_value() {
    let symbols = Symbols { modulus: 5 };
    for broken in [&[][..], &[5], &[1, 2], &[1, 5], &[8, 1], &[1, 9], &[8, 9], &[1, 10], &[11]] {
        assert_eq!(symbols.value(broken), None, "{broken:?}");
    }
}

#[test]
fn a_group_that_does_not_exist_is_refused_with_those_that_do() {
    let errors = refused(|cfg| cfg.problem = "d4".into());
    assert!(errors[0].starts_with("problem: `problem` is `d4`: `d4` is no group → use parity, majority"), "{errors:?}");
    assert!(errors[0].contains("s3, s4, s5, a5, a4xz5 and z60"));
    assert_eq!(refused(|cfg| cfg.problem = "S7".into()).len(), 1);
    assert_eq!(refused(|cfg| cfg.problem = "S5".into()), [""; 0], "capitals are as good");
}

#[test]
fn impossible_lengths_are_refused_with_the_inequality_written_out() {
    assert_eq!(
        refused(|cfg| cfg.test_lengths = vec![20, 32]),
        [
            "test_lengths: the longest of `test_lengths` 32 < 40 = `train_max` → add 40 or more, or lower `train_max` to 32"
        ]
    );
    assert_eq!(
        refused(|cfg| cfg.train_min = 41),
        ["train_min: `train_min` 41 > `train_max` 40 → lower `train_min` to 40 or raise `train_max` to 41"]
    );
    assert_eq!(
        refused(|cfg| cfg.test_lengths = vec![9, 64]),
        [
            "test_lengths: `test_lengths` has 9, of which no sequence can be held out: 512 sequences of length 9 < 1000 → use 10 \
          or more"
        ]
    );
    assert_eq!(
        refused(|cfg| (cfg.train_max, cfg.test_lengths) = (8, vec![64])),
        ["train_max: `train_max` 8 leaves nothing to validate on: 256 sequences of length 8 < 1000 → use 10 or more"]
    );
    let pairs = |cfg: &mut Config| {
        (cfg.problem, cfg.train_min, cfg.train_max, cfg.test_lengths) = ("s5".into(), 2, 2, vec![2, 4]);
    };
    assert_eq!(refused(pairs).len(), 2);
    assert!(refused(pairs)[0].contains("length 2 ≤ 2, and `pairs_in_train` is true"));
    assert_eq!(refused(|cfg| (pairs(cfg), cfg.pairs_in_train = false).1), [""; 0]);
}

#[test]
fn every_impossible_setting_is_named() {
    let keys = |change: fn(&mut Config)| -> Vec<String> {
        refused(change).iter().map(|error| error.split(':').next().unwrap().to_owned()).collect()
    };
    assert_eq!(keys(|c| c.train_min = 0), ["train_min"]);
    assert_eq!(keys(|c| c.test_lengths = vec![]), ["test_lengths"]);
    assert_eq!(keys(|c| c.test_lengths = vec![64, 64]), ["test_lengths"]);
    assert_eq!(keys(|c| c.test_lengths = vec![64, 2_000_000]), ["test_lengths"]);
    assert_eq!(keys(|c| c.train_examples = Some(0)), ["train_examples"]);
    assert_eq!(keys(|c| (c.problem, c.modulus) = ("modular".into(), 1)), ["modulus"]);
    assert_eq!(keys(|c| c.problem = "modular".into()), ["test_lengths"]); // 40 is even
    assert_eq!(keys(|c| (c.problem, c.test_lengths) = ("modular".into(), vec![41, 81])), [""; 0]);
    let modular = |c: &mut Config| (c.problem, c.test_lengths) = ("modular_brackets".into(), vec![41]);
    assert_eq!(refused(|c| (modular(c), c.scored = Some(Scored::All)).1).len(), 1);
    assert_eq!(refused(|c| (modular(c), c.train_max = 5).1).len(), 1);
    assert_eq!(keys(|c| (c.end_token, c.scored) = (true, Some(Scored::All))), ["scored"]);
    assert_eq!(keys(|c| (c.train_min, c.train_max) = (u32::MAX, u32::MAX)), ["test_lengths"]);
}

#[test]
fn guessing_scores_one_in_c() {
    // No more ones than zeros stand in a half of all beginnings and half of those that are even: over lengths 40, 64, 128 and 256,
    // Σ (1 + C(n, n/2)/2ⁿ)/2 is 0.537. Beginnings of one sequence go together: a deviation of 1,200 sequences is near 0.01.
    for (problem, share, within) in [("parity", 0.5, 0.008), ("s5", 1.0 / 120.0, 0.008), ("majority", 0.537, 0.04)] {
        let floor = task(problem, |cfg| cfg.test_examples = 300).floor().unwrap();
        assert!((floor.score - share).abs() < within, "{problem}: {floor:?}");
        assert!(floor.how.contains("measured on test"));
    }
}

#[test]
fn few_sequences_are_remarked_upon() {
    let fixed = |cfg: &mut Config| {
        (cfg.train_min, cfg.train_max, cfg.test_lengths, cfg.train_examples) = (12, 12, vec![12], Some(1_000));
    };
    // 0.8·4096 sequences, 1,000 draws: 1 − 3277/1000·(1 − e^(−1000/3277)) = 14 % of them are copies.
    assert_eq!(task("parity", fixed).notes(), ["about 14 % of the training sequences are copies of others"]);
    let drawn: HashSet<Vec<i64>> = (0..1_000).map(|i| task("parity", fixed).sequence(Split::Train, i)).collect();
    assert!((835..885).contains(&drawn.len()), "{}", drawn.len());
    assert_eq!(task("s5", fixed).notes(), [""; 0]);
    assert_eq!(task("parity", |_| ()).notes().len(), 1, "lengths 3 to 9 are training's");
}

#[test]
fn a_fresh_training_split_never_ends() {
    let task = task("s3", |_| ());
    assert_eq!(task.len(Split::Train), FRESH);
    let batch = task.batch(Split::Train, 1 << 30, &Order { seed: 0, batch_size: 4 }).unwrap();
    assert_eq!(batch.size, 4);
}

#[test]
fn draws_are_distributed_as_specified() {
    let length = |cfg: &mut Config| (cfg.train_min, cfg.train_max, cfg.test_lengths) = (11, 21, vec![21]);
    for (problem, tests) in
        [("parity", 5), ("s5", 5), ("z60", 5), ("majority", 2), ("modular", 3), ("modular_brackets", 3)]
    {
        let found = task(problem, length).distributions(20_000).unwrap();
        assert_eq!(found.len(), tests, "{problem}");
        assert!(found.iter().all(|test| test.p > 1e-3), "{problem}: {found:?}");
    }
}
