//! What tasks that draw their examples share: numbers of examples, splits without a common input, and tests of single draws.

use crate::rng::{Stream, owner};
use crate::{ConfigError, FRESH, Goodness, Section, Sections, Split};

/// Leading tokens whose hash decides which split owns an input: two inputs that differ here differ, and a million tokens need
/// not be hashed.
pub(crate) const HEAD: usize = 64;

/// Fewest inputs there must be: with 1,000 the chance that a split owns none is 0.9^1000.
pub(crate) const INPUTS: u64 = 1_000;

/// Cells of a test of uniformity over many values.
const CELLS: u64 = 48;

/// Numbers of examples that cannot be. `train` is `None` where training examples are always new.
pub(crate) fn count_errors(train: Option<u64>, validation: u64, test: u64) -> Vec<ConfigError> {
    let counts = [("train_examples", train), ("validation_examples", Some(validation)), ("test_examples", Some(test))];
    let wrong = counts.into_iter().filter(|(_, count)| !count.is_none_or(|n| (1..=FRESH).contains(&n)));
    wrong
        .map(|(key, count)| {
            let problem = format!("`{key}` is {}, not between 1 and 2^40", count.unwrap_or_default());
            let new = if key == "train_examples" { ", or null for new examples at every step" } else { "" };
            ConfigError { key, problem, help: format!("use 1 or more{new}") }
        })
        .collect()
}

/// A list of test lengths that cannot be: `shortest` is the least length of an example, `train` the longest of training.
pub(crate) fn length_errors(lengths: &[u32], shortest: u64, train: u32) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    let mut wrong = |problem: String, help: String| errors.push(ConfigError { key: "test_lengths", problem, help });
    let Some(&longest) = lengths.iter().max() else {
        wrong("`test_lengths` is an empty list".into(), format!("name at least one length: [{train}]"));
        return errors;
    };
    if longest < train {
        let problem = format!("the longest of `test_lengths` is {longest}, less than {train}, the length trained on");
        wrong(problem, format!("add {train} or more; shorter ones may stand beside it"));
    }
    if longest > 1 << 20 {
        wrong(format!("`test_lengths` has {longest}, more than 2^20 = 1048576"), "use at most 1048576".into());
    }
    if let Some(short) = lengths.iter().find(|&&length| u64::from(length) < shortest) {
        let problem = format!("`test_lengths` has {short}, less than {shortest}, the fewest tokens of an example");
        wrong(problem, format!("use {shortest} or more"));
    }
    if lengths.iter().enumerate().any(|(i, length)| lengths[..i].contains(length)) {
        wrong("`test_lengths` names a length twice".into(), "name each once: scores are kept by length".into());
    }
    errors
}

/// Stretches of a test split: `examples` of each length.
pub(crate) fn by_length(lengths: &[u32], examples: u64) -> Sections {
    let parts = lengths.iter().map(|&length| Section { at: f64::from(length), examples }).collect();
    Sections { axis: "length", parts }
}

/// A split of one kind.
pub(crate) fn whole(examples: u64) -> Sections {
    Sections { axis: "", parts: vec![Section { at: 0.0, examples }] }
}

/// The first input that `draw` makes and `split` owns, by its first tokens.
pub(crate) fn owned(split: Split, data_seed: u64, mut draw: impl FnMut() -> Vec<i64>) -> Vec<i64> {
    loop {
        let input = draw();
        if owner(&input[..input.len().min(HEAD)], data_seed) == split {
            return input;
        }
    }
}

/// Whether `draws`, each in `0 .. n`, are uniform. More than 48 values are counted in 48 cells of neighbours.
pub(crate) fn uniform(what: impl Into<String>, n: u64, draws: impl Iterator<Item = u64>) -> Option<Goodness> {
    let cells = n.min(CELLS);
    let cell = |value: u64| (value * cells / n) as usize;
    let mut expected = vec![0.0; cells as usize];
    (0..n).for_each(|value| expected[cell(value)] += 1.0);
    let mut seen = vec![0; cells as usize];
    draws.for_each(|value| seen[cell(value)] += 1);
    Goodness::chi_square(what, &seen, &expected)
}

/// Tokens uniform in `0 .. symbols`.
pub(crate) fn symbols(stream: &mut Stream, count: usize, symbols: u64) -> Vec<i64> {
    (0..count).map(|_| stream.below(symbols) as i64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Purpose;

    #[test]
    fn many_values_are_tested_in_cells_of_known_size() {
        let mut stream = Stream::new(4, Purpose::Guess, 0);
        let even = uniform("even", 1000, (0..5000).map(|_| stream.below(1000))).expect("cells");
        assert!(even.degrees == 47 && even.p > 0.01, "{even:?}");
        let low = uniform("low", 1000, (0..5000).map(|_| stream.below(950))).expect("cells");
        assert!(low.p < 1e-9, "{low:?}");
    }

    #[test]
    fn lengths_that_cannot_be_are_named_with_the_inequality() {
        let problems = |lengths: &[u32]| -> Vec<String> {
            length_errors(lengths, 3, 256).into_iter().map(|error| error.problem).collect()
        };
        assert_eq!(problems(&[64, 256]), [""; 0]);
        assert_eq!(
            problems(&[64, 128]),
            ["the longest of `test_lengths` is 128, less than 256, the length trained on"]
        );
        assert_eq!(problems(&[2, 256]), ["`test_lengths` has 2, less than 3, the fewest tokens of an example"]);
        assert_eq!(problems(&[256, 256]), ["`test_lengths` names a length twice"]);
        assert_eq!(problems(&[1 << 21]), ["`test_lengths` has 2097152, more than 2^20 = 1048576"]);
        assert_eq!(problems(&[]), ["`test_lengths` is an empty list"]);
    }

    #[test]
    fn an_input_belongs_to_the_split_it_is_drawn_for() {
        let mut stream = Stream::new(4, Purpose::Guess, 1);
        for split in Split::ALL {
            let input = owned(split, 9, || symbols(&mut stream, 100, 4));
            assert_eq!(owner(&input[..HEAD], 9), split);
        }
    }

    #[test]
    fn no_examples_are_refused_and_fresh_ones_are_not() {
        let keys =
            |train, test| -> Vec<_> { count_errors(train, 1, test).into_iter().map(|error| error.key).collect() };
        assert_eq!(keys(None, 1), [""; 0]);
        assert_eq!(keys(Some(0), 0), ["train_examples", "test_examples"]);
    }
}
