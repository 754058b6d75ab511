//! Associative recall: many key–value pairs, then one key whose value is asked for.
//!
//! ```text
//! k3 v7  k1 v2  k3 v7  k5 v2 …  =>  k1          L tokens of pairs, the copy prefix, a key
//!                                   ↓
//!                                   v2           or the noop `.` if the key was never shown
//! symbols   keys: first half, values: second half; every example has its own map, values may serve two keys
//! ```
//! Paper    Fu et al. 2023 (H3), arXiv:2212.14052; longer and larger: Poli et al. 2023 (Hyena), arXiv:2302.10866
//! Matches  the form of H3's generator: pairs with replacement and consistent values, next-token training, last token tested
//! Departs  no input is shared between splits (an input's hash says which it belongs to) where the original removes
//!          duplicates; the random bits are our own
//!
//! The value asked for is not in the input, so with `targets: last` a bidirectional mixer competes fairly.

use crate::core::drawn::{self, Counts, Synthetic};
use crate::core::family::{Family, Outline, Variant};
use crate::core::rng::{Purpose, Stream};
use crate::{
    Bound, ConfigError, DataDir, DataError, Example, Goodness, Metric, Split, Targets, Task, TaskSpec, core::bounds,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Where a training example is scored; validation and test examples are scored at the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scored {
    /// Every position, on its next token.
    All,
    /// The answer.
    Last,
}

/// `task: { associative_recall: { vocab_size: 40, seq_len: 128 } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Tokens there are; the last two are `=>` and `.`. H3: 20 or 40.
    pub vocab_size: u32,
    /// L: tokens of the pairs, even; an example has two more. H3: from 40.
    pub seq_len: u32,
    /// Whether a key that was never shown may be asked for; its answer is `.`.
    pub allow_dot: bool,
    /// Where training examples are scored: `all` (H3) or `last`.
    pub targets: Scored,
    /// Training examples; null: new ones at every step. H3: 5,000.
    pub train_examples: Option<u64>,
    /// Validation examples.
    pub validation_examples: u64,
    /// Test examples. H3: 500.
    pub test_examples: u64,
    /// Seed of the examples; not the run's seed.
    pub data_seed: u64,
    /// Whether position t may only read up to t; `false` goes with `targets: last`.
    pub causal: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 20,
            seq_len: 40,
            allow_dot: true,
            targets: Scored::All,
            train_examples: Some(5_000),
            validation_examples: 500,
            test_examples: 500,
            data_seed: 0,
            causal: true,
        }
    }
}

impl Config {
    fn counts(&self) -> Counts<'_> {
        Counts::new(self.train_examples, self.validation_examples, self.test_examples, &[])
    }

    const fn keys(&self) -> u64 {
        self.vocab_size.saturating_sub(2) as u64 / 2
    }

    const fn values(&self) -> u64 {
        self.vocab_size.saturating_sub(2) as u64 - self.keys()
    }

    /// `=>`; `.` is one more.
    fn prefix(&self) -> i64 {
        i64::from(self.vocab_size) - 2
    }

    /// Probability that the key asked for was shown.
    fn shown(&self) -> f64 {
        let missed = libm::pow(1.0 - 1.0 / self.keys() as f64, f64::from(self.seq_len / 2));
        if self.allow_dot { 1.0 - missed } else { 1.0 }
    }
}

/// What is wrong with scoring at `targets` when a mixer may read everything.
pub(crate) fn causal_error(causal: bool, targets: Scored) -> Option<ConfigError> {
    (!causal && targets == Scored::All).then(|| ConfigError {
        key: "targets",
        problem: "`targets` is all and `causal` is false, so each position would read the token it predicts".into(),
        help: "use `targets: last`, or `causal: true`".into(),
    })
}

impl Family for Config {
    const NAME: &'static str = "associative_recall";
    const ABOUT: &'static str = "associative recall (H3, Hyena): many key-value pairs, then the value of one key";
    const PAPER: &'static str = "Fu et al. 2023 (H3), arXiv:2212.14052; Poli et al. 2023 (Hyena), arXiv:2302.10866";
    const STREAM: &'static str = "associative recall";

    fn check(&self) -> Vec<ConfigError> {
        let mut errors = self.counts().errors();
        let mut wrong = |key, problem: String, help: String| errors.push(ConfigError { key, problem, help });
        let length = self.seq_len;
        if self.vocab_size < 6 {
            let problem = format!("`vocab_size` is {} < 6 = 2 keys + 2 values + `=>` + `.`", self.vocab_size);
            wrong("vocab_size", problem, "use 6 or more; H3 uses 20 and 40".into());
        }
        if length % 2 == 1 {
            let help = format!("use {} or {}", length - 1, length + 1);
            wrong("seq_len", format!("`seq_len` is {length}, which is odd; pairs are two tokens"), help);
        }
        if length > 1 << 20 {
            wrong("seq_len", format!("`seq_len` is {length}, more than 2^20 = 1048576"), "use at most 1048576".into());
        }
        let (keys, pairs) = (self.keys(), length.min(drawn::HEAD as u32) / 2);
        if self.vocab_size >= 6 && keys.checked_pow(pairs).is_some_and(|ways| ways < drawn::INPUTS) {
            let problem = format!(
                "`vocab_size` {} and `seq_len` {length} make {keys}^{pairs} < {} sequences of keys, too few for three splits",
                self.vocab_size,
                drawn::INPUTS
            );
            wrong("seq_len", problem, "raise either".into());
        }
        errors.extend(causal_error(self.causal, self.targets));
        errors
    }

    fn outline(&self) -> Outline {
        Outline {
            causal: self.causal,
            max_length: i64::from(self.seq_len) + 2,
            vocab_size: i64::from(self.vocab_size),
            classes: i64::from(self.vocab_size),
            ..drawn::OUTLINE
        }
    }

    fn open(&self, _: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(AssociativeRecall { cfg: self.clone() }))
    }

    fn variants() -> Vec<Variant> {
        vec![
            // The key was shown with probability 1 − (8/9)^20, and then one of 9 values.
            Variant::drawn(json!({})).floor(0.9052 / 9.0, 0.054).pin("3f5bb39807f73401"),
            // It was always shown: one of 19 values.
            Variant::drawn(json!({ "vocab_size": 40, "allow_dot": false, "targets": "last", "causal": false }))
                .floor(1.0 / 19.0, 0.04)
                .pin("fa9352e669b96014"),
        ]
    }

    fn small() -> Vec<Value> {
        vec![json!({ "seq_len": 16, "targets": "last" })]
    }
}

/// The opened task.
#[derive(Debug)]
pub struct AssociativeRecall {
    cfg: Config,
}

impl AssociativeRecall {
    /// An input: pairs, `=>`, a key.
    fn input(&self, stream: &mut Stream) -> Vec<i64> {
        let (keys, values) = (self.cfg.keys(), self.cfg.values());
        let map: Vec<i64> = (0..keys).map(|_| (keys + stream.below(values)) as i64).collect();
        let mut shown = vec![false; keys as usize];
        let mut tokens = Vec::with_capacity(self.cfg.seq_len as usize + 3);
        for _ in 0..self.cfg.seq_len / 2 {
            let key = stream.below(keys) as usize;
            shown[key] = true;
            tokens.extend([key as i64, map[key]]);
        }
        let mut asked = stream.below(keys);
        while !self.cfg.allow_dot && !shown[asked as usize] {
            asked = stream.below(keys);
        }
        tokens.extend([self.cfg.prefix(), asked as i64]);
        tokens
    }

    /// The value that followed the last token where it came before, or `.`.
    fn value(&self, tokens: &[i64]) -> Option<i64> {
        let (asked, before) = tokens.split_last()?;
        let shown = before.chunks_exact(2).find(|pair| pair[0] == *asked).map(|pair| pair[1]);
        Some(shown.unwrap_or(self.cfg.prefix() + 1))
    }
}

/// Next tokens at every position, or `answers` at the last ones.
pub(crate) fn targets(tokens: &[i64], answers: &[i64], scored: Scored) -> Targets {
    let (all, asked) = (tokens.len(), answers.len());
    let from = if scored == Scored::All { 0 } else { all - asked };
    let next = tokens[..all - asked + 1].iter().skip(1 + from);
    Targets::PerPosition {
        positions: (from as i64..all as i64).collect(),
        classes: next.chain(answers).copied().collect(),
    }
}

impl Synthetic for AssociativeRecall {
    fn describe(&self) -> TaskSpec {
        TaskSpec { metric: Metric::accuracy(), version: 1, ..self.cfg.outline().spec() }
    }

    fn counts(&self) -> Counts<'_> {
        self.cfg.counts()
    }

    fn draw(&self, split: Split, index: u64) -> Example {
        let mut stream = Stream::new(self.cfg.data_seed, Purpose::of_split(Config::STREAM, split), index);
        let tokens = drawn::owned(split, self.cfg.data_seed, || self.input(&mut stream));
        let answer = self.value(&tokens).unwrap_or_default();
        let scored = if split == Split::Train { self.cfg.targets } else { Scored::Last };
        let targets = targets(&tokens, &[answer], scored);
        Example::new(tokens, targets)
    }

    fn tested(&self, examples: u64) -> Result<Vec<Goodness>, DataError> {
        let inputs: Vec<Vec<i64>> =
            (0..examples).map(|i| self.example(Split::Train, i).map(|e| e.tokens)).collect::<Result<_, _>>()?;
        let (keys, values) = (self.cfg.keys(), self.cfg.values());
        let at = |place: usize, from: u64| inputs.iter().map(move |tokens| tokens[place] as u64 - from);
        let asked = self.cfg.seq_len as usize + 1;
        let dots = inputs.iter().filter(|tokens| self.value(tokens) == Some(self.cfg.prefix() + 1)).count() as u64;
        let tests = [
            drawn::uniform("first key", keys, at(0, 0)),
            drawn::uniform("first value", values, at(1, keys)),
            drawn::uniform("key asked for", keys, at(asked, 0)),
            Goodness::chi_square("key shown", &[examples - dots, dots], &[self.cfg.shown(), 1.0 - self.cfg.shown()]),
        ];
        Ok(tests.into_iter().flatten().collect())
    }

    fn guess(&self) -> Result<Bound, DataError> {
        let (keys, values, shown) = (self.cfg.keys(), self.cfg.values(), self.cfg.shown());
        let noop = 1.0 - shown > shown / values as f64;
        let how = if noop { "always `.`" } else { "a uniform guess among the values there are" };
        bounds::guesser(self, self.cfg.data_seed, how, |_, stream| {
            vec![if noop { self.cfg.prefix() + 1 } else { (keys + stream.below(values)) as i64 }]
        })
    }

    fn answer(&self, example: &Example) -> Option<Vec<i64>> {
        let answer = self.value(&example.tokens)?;
        (example.targets.classes().len() == 1).then(|| vec![answer])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn task(cfg: Config) -> AssociativeRecall {
        assert_eq!(cfg.check(), []);
        AssociativeRecall { cfg }
    }

    #[test]
    fn impossible_settings_are_named() {
        let problem = |cfg: Config| cfg.check().into_iter().map(|error| error.problem).collect::<Vec<_>>();
        assert_eq!(
            problem(Config { vocab_size: 5, ..Config::default() }),
            ["`vocab_size` is 5 < 6 = 2 keys + 2 values + `=>` + `.`"]
        );
        assert_eq!(
            problem(Config { seq_len: 41, ..Config::default() }),
            ["`seq_len` is 41, which is odd; pairs are two tokens"]
        );
        assert_eq!(
            problem(Config { vocab_size: 6, seq_len: 18, ..Config::default() }),
            ["`vocab_size` 6 and `seq_len` 18 make 2^9 < 1000 sequences of keys, too few for three splits"]
        );
        assert_eq!(
            problem(Config { causal: false, ..Config::default() }),
            ["`targets` is all and `causal` is false, so each position would read the token it predicts"]
        );
        assert_eq!(problem(Config { causal: false, targets: Scored::Last, ..Config::default() }), [""; 0]);
    }

    #[test]
    fn training_predicts_every_next_token_and_testing_the_value() {
        let task = task(Config::default());
        let train = task.example(Split::Train, 3).unwrap();
        let Targets::PerPosition { positions, classes } = &train.targets else { panic!("positions") };
        assert!(positions.iter().copied().eq(0..42));
        assert_eq!(classes[..41], train.tokens[1..]);
        assert_eq!(classes[41], task.value(&train.tokens).unwrap());
        let test = task.example(Split::Test, 3).unwrap();
        assert!(matches!(test.targets, Targets::PerPosition { positions, .. } if positions == [41]));
    }

    #[test]
    fn the_share_of_keys_never_shown_is_that_of_drawing_with_replacement() {
        // 9 keys, 20 draws: (8/9)^20 = 0.0948.
        let task = task(Config::default());
        let dot = |index| task.example(Split::Train, index).unwrap().targets.classes()[41] == 19;
        let share = (0..20_000).filter(|&index| dot(index)).count() as f64 / 20_000.0;
        assert!((share - 0.0948).abs() < 0.0083, "4 deviations: {share}");
    }

    proptest! {
        #[test]
        fn pairs_are_consistent_and_the_answer_stands_in_the_input(
            vocab_size in 8_u32..60, half in 20_u32..60, allow_dot: bool, data_seed: u64, index: u64,
        ) {
            let task = task(Config { vocab_size, seq_len: 2 * half, allow_dot, data_seed, ..Config::default() });
            let example = task.example(Split::Test, index).unwrap();
            let (pairs, end) = example.tokens.split_at(2 * half as usize);
            let (keys, prefix) = (task.cfg.keys() as i64, i64::from(vocab_size) - 2);
            let mut map = std::collections::HashMap::new();
            for pair in pairs.chunks(2) {
                prop_assert!((0..keys).contains(&pair[0]) && (keys..prefix).contains(&pair[1]));
                prop_assert_eq!(*map.entry(pair[0]).or_insert(pair[1]), pair[1]);
            }
            prop_assert_eq!(end[0], prefix);
            let answer = map.get(&end[1]).copied();
            prop_assert!(allow_dot || answer.is_some());
            prop_assert_eq!(example.targets.classes(), [answer.unwrap_or(prefix + 1)]);
            prop_assert_eq!(task.solve(&example), Some(vec![answer.unwrap_or(prefix + 1)]));
        }
    }
}
