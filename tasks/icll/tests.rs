use super::*;

fn task(change: impl Fn(&mut Config)) -> Icll {
    let mut cfg = Config { train_examples: Some(300), test_examples: 60, validation_examples: 60, ..Config::default() };
    change(&mut cfg);
    assert_eq!(cfg.check(), []);
    Icll::new(cfg)
}

fn refused(change: impl Fn(&mut Config)) -> Vec<String> {
    let mut cfg = Config::default();
    change(&mut cfg);
    cfg.check().into_iter().map(|error| format!("{}: {}", error.key, error.problem)).collect()
}

#[test]
fn each_position_asks_for_the_next_letter_and_none_for_a_bar() {
    let task = task(|_| ());
    for index in 0..60 {
        let example = task.example(Split::Test, index).unwrap();
        let automaton = task.automaton(Split::Test, index);
        let prompt = task.prompt(Split::Test, index, &automaton);
        assert_eq!(prompt[..prompt.len() - 1], example.tokens);
        let Targets::PerPosition { positions, classes } = &example.targets else { panic!("per position") };
        assert!(positions.iter().zip(classes).all(|(&at, &class)| prompt[at as usize + 1] == class && class < 18));
        let bars = prompt.iter().filter(|&&token| token == 18).count();
        assert_eq!(positions.len(), example.tokens.len() - bars);
        assert!((9..=18).contains(&bars));
        assert!(prompt.split(|&token| token == 18).all(|word| (1..=49).contains(&word.len())));
    }
}

#[test]
fn allowed_symbols_are_those_of_the_state_that_the_word_so_far_leads_to() {
    let task = task(|_| ());
    for index in 0..20 {
        let (example, automaton) = (task.example(Split::Train, index).unwrap(), task.automaton(Split::Train, index));
        let allowed = task.allowed(Split::Train, index).unwrap().unwrap();
        let Targets::PerPosition { positions, classes } = &example.targets else { panic!("per position") };
        assert_eq!(allowed.len(), classes.len());
        for ((at, class), sets) in positions.iter().zip(classes).zip(&allowed) {
            let before = &example.tokens[..=*at as usize];
            let word = before.rsplit(|&token| token == 18).next().unwrap();
            let state = word.iter().fold(0, |state, &symbol| automaton.next(state, symbol).unwrap());
            assert_eq!(*sets, automaton.symbols(state));
            assert!(sets.contains(class) && sets.is_sorted() && (1..=3).contains(&sets.len()));
        }
    }
}

#[test]
fn no_automaton_is_met_twice_neither_in_one_split_nor_in_two() {
    let task = task(|cfg| (cfg.train_examples, cfg.validation_examples) = (Some(3_000), 250));
    let mut known = HashSet::new();
    for split in Split::ALL {
        for index in 0..task.len(split) {
            let automaton = task.automaton(split, index);
            assert_eq!(automaton.minimal(), automaton, "the smallest of its language");
            assert!(known.insert(automaton), "{split:?} {index}");
        }
    }
    assert_eq!(known.len(), 3_310);
    // Those drawn with replacement, too, are never another split's, though small ones come again and again.
    let fresh = self::task(|cfg| {
        cfg.train_examples = None;
        (cfg.letters, cfg.min_alphabet, cfg.max_alphabet, cfg.max_states) = (4, 4, 4, 5);
    });
    let held: HashSet<Automaton> =
        (0..60).flat_map(|i| [fresh.automaton(Split::Validation, i), fresh.automaton(Split::Test, i)]).collect();
    let train: Vec<Automaton> = (0..5_000).map(|index| fresh.automaton(Split::Train, index)).collect();
    assert!(train.iter().all(|automaton| !held.contains(automaton)));
    assert!(train.iter().collect::<HashSet<_>>().len() < 5_000);
    assert_eq!(fresh.notes().len(), 2);
}

#[test]
fn learners_beat_guessing_and_longer_contexts_beat_shorter_ones() {
    let task = task(|cfg| cfg.hmm_prompts = 8);
    let found = task.baselines().unwrap();
    let value = |name: &str, measure: &str| {
        found.iter().find(|b| (b.name, b.measure) == (name, measure)).expect("it is measured").value
    };
    assert_eq!(found.len(), 9);
    println!("{found:#?}");
    assert!(value("2-gram", "score") > 0.5 && value("3-gram", "score") > value("2-gram", "score"));
    assert!(value("Baum-Welch", "score") > 0.5);
    for name in ["2-gram", "3-gram", "Baum-Welch"] {
        assert_eq!(value(name, "tvd"), value(name, "distance") / 2.0);
        assert!((0.0..1.0).contains(&value(name, "tvd")));
    }
    assert_eq!(task.notes(), ["Baum-Welch is fitted to the first 8 of 60 test prompts"]);
    assert_eq!(self::task(|cfg| cfg.hmm_prompts = 0).baselines().unwrap().len(), 6);
}

#[test]
fn requests_that_cannot_be_met_are_refused_with_the_inequality_written_out() {
    assert_eq!(
        refused(|c| c.max_edges = 4),
        ["max_edges: `max_edges` 4 > 3 = `min_states` 4 − 1, the different targets that a state's edges have"]
    );
    assert_eq!(
        refused(|c| c.min_alphabet = 2),
        ["max_edges: `max_edges` 3 > `min_alphabet` 2, the different symbols that a state's edges have"]
    );
    assert_eq!(refused(|c| c.max_alphabet = 19), ["max_alphabet: `max_alphabet` 19 > `letters` 18"]);
    assert_eq!(refused(|c| c.min_states = 13), ["min_states: `min_states` 13 > `max_states` 12"]);
    assert_eq!(refused(|c| c.min_words = 1), ["min_words: `min_words` is 1, which is not between 2 and 10000"]);
    assert_eq!(refused(|c| c.train_examples = Some(0)).len(), 1);
    assert_eq!(
        refused(|c| {
            (c.letters, c.min_alphabet, c.max_alphabet) = (3, 2, 3);
            (c.min_states, c.max_states, c.max_edges) = (3, 3, 2);
            (c.train_examples, c.validation_examples, c.test_examples) = (Some(10), 1, 1);
        }),
        [
            "train_examples: `train_examples` 10 needs 100·10·10/8 = 1250 automata to draw from, more than the 864 there can be",
            "validation_examples: `validation_examples` 1 needs 100·1·10/1 = 1000 automata to draw from, more than the 864 \
             there can be",
            "test_examples: `test_examples` 1 needs 100·1·10/1 = 1000 automata to draw from, more than the 864 there can be"
        ]
    );
    let full = |c: &mut Config| {
        (c.letters, c.min_alphabet, c.max_alphabet, c.min_edges, c.max_edges) = (3, 3, 3, 3, 3);
    };
    assert_eq!(refused(full), ["min_edges: `min_edges` 3 ≥ `max_alphabet` 3: every state allows every letter"]);
}

#[test]
fn sizes_are_distributed_as_specified() {
    let task = task(|cfg| cfg.train_examples = Some(5_000));
    let found = task.distributions(5_000).unwrap();
    assert_eq!(found.len(), 5);
    assert!(found.iter().all(|test| test.p > 1e-3), "{found:?}");
}
