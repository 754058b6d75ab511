//! What tasks that draw their examples share: numbers of examples, splits without a common input, and tests of single draws.

use crate::core::bounds;
use crate::core::family::Outline;
use crate::core::limits::COUNT_KEYS;
use crate::core::rng::{Stream, owner};
use crate::{
    Baseline, Bound, ConfigError, DataError, Example, FRESH, Goodness, Input, Output, Section, Sections, Split, Task,
    TaskSpec,
};
use std::fmt::Debug;

/// Leading tokens whose hash decides which split owns an input: two inputs that differ here differ, and a million tokens need
/// not be hashed.
pub(crate) const HEAD: usize = 64;

/// Fewest inputs there must be: with 1,000 the chance that a split owns none is 0.9^1000.
pub(crate) const INPUTS: u64 = 1_000;

/// Cells of a test of uniformity over many values.
const CELLS: u64 = 48;

/// The outline of one sequence of tokens with classes at its positions; lengths, tokens and classes are the task's.
pub const OUTLINE: Outline = Outline {
    causal: true,
    max_length: 0,
    needs_files: false,
    vocab_size: 0,
    classes: 0,
    documents: 1,
    input: Input::Tokens,
    output: Output::PerPosition,
};

/// A task that draws each example when it is asked for it. It is a [`Task`] by that: what it says here is all there is to say.
pub trait Synthetic: Debug + Send + Sync {
    /// [`Task::spec`].
    fn describe(&self) -> TaskSpec;

    /// How many examples the splits have, and what lengths test has.
    fn counts(&self) -> Counts<'_>;

    /// Example `index` of a split; the same on any machine.
    fn draw(&self, split: Split, index: u64) -> Example;

    /// What guessing scores on test: [`Task::floor`].
    fn guess(&self) -> Result<Bound, DataError>;

    /// What a program finds from the inputs alone, [`Task::solve`]: its score is the ceiling.
    fn answer(&self, example: &Example) -> Option<Vec<i64>>;

    /// [`Task::allowed`].
    fn accepted(&self, _split: Split, _index: u64) -> Result<Option<Vec<Vec<i64>>>, DataError> {
        Ok(None)
    }

    /// What simpler methods reach: [`Task::baselines`].
    fn simpler(&self) -> Result<Vec<Baseline>, DataError> {
        Ok(Vec::new())
    }

    /// Tests of what is drawn: [`Task::distributions`].
    fn tested(&self, _examples: u64) -> Result<Vec<Goodness>, DataError> {
        Ok(Vec::new())
    }

    /// [`Task::notes`].
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
}

impl<T: Synthetic> Task for T {
    fn spec(&self) -> TaskSpec {
        self.describe()
    }

    fn len(&self, split: Split) -> u64 {
        self.counts().len(split)
    }

    fn sections(&self, split: Split) -> Sections {
        self.counts().sections(split)
    }

    fn example(&self, split: Split, index: u64) -> Result<Example, DataError> {
        Ok(self.draw(split, index))
    }

    fn allowed(&self, split: Split, index: u64) -> Result<Option<Vec<Vec<i64>>>, DataError> {
        self.accepted(split, index)
    }

    fn baselines(&self) -> Result<Vec<Baseline>, DataError> {
        self.simpler()
    }

    fn distributions(&self, examples: u64) -> Result<Vec<Goodness>, DataError> {
        self.tested(examples)
    }

    fn floor(&self) -> Result<Bound, DataError> {
        self.guess()
    }

    fn ceiling(&self) -> Result<Bound, DataError> {
        bounds::oracle(self)
    }

    fn solve(&self, example: &Example) -> Option<Vec<i64>> {
        self.answer(example)
    }

    fn notes(&self) -> Vec<String> {
        self.remarks()
    }
}

/// How many examples a task draws, and how long those of its test split are.
#[derive(Clone, Copy, Debug)]
pub struct Counts<'a> {
    each: [u64; 3], // in the order of `Split::ALL`, of test for each length
    test_lengths: &'a [u32],
}

impl<'a> Counts<'a> {
    /// `train` is `None` where training examples are always new, `test` is of each length, and `test_lengths` is empty where
    /// they are as in training.
    pub fn new(train: Option<u64>, validation: u64, test: u64, test_lengths: &'a [u32]) -> Self {
        Self { each: [train.unwrap_or(FRESH), validation, test], test_lengths }
    }

    /// The numbers with their keys, in the order of [`Split::ALL`].
    pub fn keyed(&self) -> [(&'static str, u64); 3] {
        std::array::from_fn(|split| (COUNT_KEYS[split], self.each[split]))
    }

    /// Numbers that cannot be.
    pub fn errors(&self) -> Vec<ConfigError> {
        let wrong = self.keyed().into_iter().filter(|(_, count)| !(1..=FRESH).contains(count));
        wrong
            .map(|(key, count)| {
                let problem = format!("`{key}` is {count}, not between 1 and 2^40");
                let new = if key == "train_examples" { ", or null for new examples at every step" } else { "" };
                ConfigError { key, problem, help: format!("use 1 or more{new}") }
            })
            .collect()
    }

    /// Numbers that are 0.
    pub fn zeros(&self) -> impl Iterator<Item = ConfigError> {
        let zero = self.keyed().into_iter().filter(|(_, count)| *count == 0);
        zero.map(|(key, _)| ConfigError { key, problem: format!("`{key}` is 0"), help: "use 1 or more".into() })
    }

    /// Examples in a split.
    pub fn len(&self, split: Split) -> u64 {
        let subsets = if split == Split::Test { self.test_lengths.len().max(1) } else { 1 };
        self.each[split as usize] * subsets as u64
    }

    /// The subsets of a split: of test one of each length.
    pub fn sections(&self, split: Split) -> Sections {
        if split != Split::Test || self.test_lengths.is_empty() {
            return whole(self.len(split));
        }
        let part = |&length: &u32| Section { at: f64::from(length), examples: self.each[2] };
        Sections { axis: "length", parts: self.test_lengths.iter().map(part).collect() }
    }

    /// Length of an example: `trained`, or its subset's.
    pub fn length(&self, split: Split, index: u64, trained: u32) -> u32 {
        if split != Split::Test || self.test_lengths.is_empty() {
            return trained;
        }
        self.test_lengths[(index / self.each[2]) as usize]
    }

    /// The longest example where none of training is longer than `trained`.
    pub fn longest(&self, trained: u32) -> i64 {
        self.test_lengths.iter().copied().fold(trained, u32::max).into()
    }
}

/// A list of test lengths that cannot be: `shortest` is the least length of an example, `train` the longest of training.
pub fn length_errors(lengths: &[u32], shortest: u64, train: u32) -> Vec<ConfigError> {
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

/// A split of one kind.
pub(crate) fn whole(examples: u64) -> Sections {
    Sections { axis: "", parts: vec![Section { at: 0.0, examples }] }
}

/// The first input that `draw` makes and `split` owns, by its first tokens.
pub fn owned(split: Split, data_seed: u64, mut draw: impl FnMut() -> Vec<i64>) -> Vec<i64> {
    loop {
        let input = draw();
        if owner(&input[..input.len().min(HEAD)], data_seed) == split {
            return input;
        }
    }
}

/// Whether `draws`, each in `0 .. n`, are uniform. More than 48 values are counted in 48 cells of neighbours.
pub fn uniform(what: impl Into<String>, n: u64, draws: impl Iterator<Item = u64>) -> Option<Goodness> {
    let cells = n.min(CELLS);
    let cell = |value: u64| (value * cells / n) as usize;
    let mut expected = vec![0.0; cells as usize];
    (0..n).for_each(|value| expected[cell(value)] += 1.0);
    let mut seen = vec![0; cells as usize];
    draws.for_each(|value| seen[cell(value)] += 1);
    Goodness::chi_square(what, &seen, &expected)
}

/// Tokens uniform in `0 .. symbols`.
pub fn symbols(stream: &mut Stream, count: usize, symbols: u64) -> Vec<i64> {
    (0..count).map(|_| stream.below(symbols) as i64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rng::Purpose;

    #[test]
    fn many_values_are_tested_in_cells_of_known_size() {
        let mut stream = Stream::new(4, Purpose::GUESS, 0);
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
        let mut stream = Stream::new(4, Purpose::GUESS, 1);
        for split in Split::ALL {
            let input = owned(split, 9, || symbols(&mut stream, 100, 4));
            assert_eq!(owner(&input[..HEAD], 9), split);
        }
    }

    #[test]
    fn no_examples_are_refused_and_fresh_ones_are_not() {
        let keys = |train, test| -> Vec<_> {
            Counts::new(train, 1, test, &[]).errors().into_iter().map(|error| error.key).collect()
        };
        assert_eq!(keys(None, 1), [""; 0]);
        assert_eq!(keys(Some(0), 0), ["train_examples", "test_examples"]);
    }

    #[test]
    fn test_examples_are_counted_by_length() {
        let counts = Counts::new(None, 5, 3, &[8, 16]);
        assert_eq!(Split::ALL.map(|split| counts.len(split)), [FRESH, 5, 6]);
        assert_eq!([0, 2, 3, 5].map(|index| counts.length(Split::Test, index, 9)), [8, 8, 16, 16]);
        assert_eq!((counts.length(Split::Validation, 4, 9), counts.longest(9), counts.longest(99)), (9, 16, 99));
        let at = |split| counts.sections(split).parts.iter().map(|part| (part.at, part.examples)).collect::<Vec<_>>();
        assert_eq!((at(Split::Validation), at(Split::Test)), (vec![(0.0, 5)], vec![(8.0, 3), (16.0, 3)]));
        let alike = Counts::new(None, 5, 3, &[]);
        assert_eq!(
            (alike.len(Split::Test), alike.sections(Split::Test), alike.length(Split::Test, 2, 9)),
            (3, whole(3), 9)
        );
        assert_eq!(
            Counts::new(None, 0, 3, &[]).zeros().map(|error| error.problem).collect::<Vec<_>>(),
            ["`validation_examples` is 0"]
        );
    }
}
