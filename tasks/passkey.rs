//! Passkey retrieval: a number is stated once in a long stretch of filler and asked for at the end.
//!
//! ```text
//! f1 f2 … fc  f1 f2 … fc  K 4 0 7 7 1 K 4 0 7 7 1  f1 f2 … fc  …  Q  ?  ?  ?  ?  ?
//! paragraph 0             the place: ⌊depth · (N − 1)⌋                ↓  ↓  ↓  ↓  ↓
//!                                                                     4  0  7  7  1
//! ```
//! Paper    Mohtashami and Jaggi 2023, arXiv:2305.16300; form and depths: Chen et al. 2024 (Stuffed Mamba), arXiv:2410.07145
//! Matches  N paragraphs one of which states a 5-digit number twice, at ten depths; right is all five digits
//! Departs  tokens instead of text: filler is a fixed cycle of c tokens, and the length is met exactly by a piece of the cycle
//!          at the front; the depths are j / 9; digits are asked for at slots that are all the same token, so that a
//!          bidirectional mixer competes fairly; no number is shared between splits
//!
//! Training lengths are uniform between two bounds; test lengths are subsets of the test split, in each of which every
//! depth comes equally often.

use crate::core::drawn::{self, Counts, Synthetic};
use crate::core::family::{Family, Outline, Variant};
use crate::core::rng::{Purpose, Stream};
use crate::{
    Bound, ConfigError, DataDir, DataError, Example, Goodness, Judge, Metric, Split, Targets, Task, TaskSpec,
    core::bounds,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Tokens 0 to 9 are the digits.
const DIGITS: u64 = 10;
/// Opens each statement of the number.
const KEY: i64 = 10;
/// Asks for it.
const QUESTION: i64 = 11;
/// A slot for a digit.
const SLOT: i64 = 12;
/// The first token of the filler.
const FILLER: i64 = 13;

/// `task: { passkey: { train_max_length: 256, test_lengths: [256, 1024] } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Shortest training example, in tokens.
    pub train_min_length: u32,
    /// Longest training example.
    pub train_max_length: u32,
    /// Tokens of test examples, each length a subset of the test split.
    pub test_lengths: Vec<u32>,
    /// Digits of the number. Published: 5.
    pub digits: u32,
    /// Places of the statement, evenly from first to last. Published: 10.
    pub depths: u32,
    /// c: tokens of a paragraph of filler, all different.
    pub filler: u32,
    /// Training examples; null: new ones at every step.
    pub train_examples: Option<u64>,
    /// Validation examples, of the training lengths.
    pub validation_examples: u64,
    /// Test examples of each length. Published: 200.
    pub test_examples: u64,
    /// Seed of the examples; not the run's seed.
    pub data_seed: u64,
    /// Whether position t may only read up to t.
    pub causal: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            train_min_length: 64,
            train_max_length: 256,
            test_lengths: vec![64, 128, 256, 512, 1024],
            digits: 5,
            depths: 10,
            filler: 12,
            train_examples: None,
            validation_examples: 500,
            test_examples: 200,
            data_seed: 0,
            causal: true,
        }
    }
}

impl Config {
    fn counts(&self) -> Counts<'_> {
        Counts::new(self.train_examples, self.validation_examples, self.test_examples, &self.test_lengths)
    }

    /// Tokens of the two statements.
    const fn statement(&self) -> u64 {
        2 * (1 + self.digits as u64)
    }

    /// Tokens that are no filler: statements, question, slots.
    const fn fixed(&self) -> u64 {
        self.statement() + 1 + self.digits as u64
    }

    /// N and the tokens at the front that are no whole paragraph, for an example of `length` tokens.
    fn paragraphs(&self, length: u32) -> (u64, u64) {
        let (spare, filler) = (u64::from(length).saturating_sub(self.fixed()), u64::from(self.filler));
        (1 + spare / filler, spare % filler)
    }

    /// The paragraph that states the number at depth `depth` of `depths`: ⌊depth / (depths − 1) · (N − 1)⌋.
    fn place(&self, depth: u64, length: u32) -> u64 {
        depth * (self.paragraphs(length).0 - 1) / u64::from(self.depths - 1).max(1)
    }

    fn vocab_size(&self) -> i64 {
        FILLER + i64::from(self.filler)
    }
}

impl Family for Config {
    const NAME: &'static str = "passkey";
    const ABOUT: &'static str =
        "passkey retrieval (Stuffed Mamba): a five-digit number somewhere in a long stretch of filler";
    const PAPER: &'static str =
        "Mohtashami and Jaggi 2023, arXiv:2305.16300; Chen et al. 2024 (Stuffed Mamba), arXiv:2410.07145";

    fn check(&self) -> Vec<ConfigError> {
        let mut errors = self.counts().errors();
        let mut wrong = |key, problem: String, help: String| errors.push(ConfigError { key, problem, help });
        let (d, least, most) = (self.digits, self.train_min_length, self.train_max_length);
        if !(5..=18).contains(&d) {
            let help = "use 5 to 18: splits share no number, and fewer than 100,000 are too few".into();
            wrong("digits", format!("`digits` is {d}, not between 5 and 18"), help);
        }
        for (key, value) in [("depths", self.depths), ("filler", self.filler)] {
            if value == 0 {
                wrong(key, format!("`{key}` is 0"), "use 1 or more".into());
            }
        }
        if self.filler > 1 << 16 {
            wrong("filler", format!("`filler` is {}, more than 2^16 = 65536", self.filler), "use less".into());
        }
        let shortest = self.fixed();
        if u64::from(least) < shortest {
            let problem =
                format!("`train_min_length` is {least} < 2·(1 + {d}) + 1 + {d} = {shortest}, with no filler at all");
            wrong("train_min_length", problem, format!("use {shortest} or more"));
        }
        if most < least {
            let problem = format!("`train_max_length` is {most} < `train_min_length` = {least}");
            wrong("train_max_length", problem, format!("use {least} or more"));
        }
        if most > 1 << 20 {
            wrong(
                "train_max_length",
                format!("`train_max_length` is {most}, more than 2^20"),
                "use at most 1048576".into(),
            );
        }
        errors.extend(drawn::length_errors(&self.test_lengths, shortest, most));
        errors
    }

    fn outline(&self) -> Outline {
        Outline {
            causal: self.causal,
            max_length: self.counts().longest(self.train_max_length),
            vocab_size: self.vocab_size(),
            classes: DIGITS as i64,
            ..drawn::OUTLINE
        }
    }

    fn open(&self, _: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(Passkey { cfg: self.clone() }))
    }

    fn variants() -> Vec<Variant> {
        vec![
            Variant::drawn(json!({
                "train_min_length": 24, "train_max_length": 64, "test_lengths": [32, 64], "test_examples": 100, "filler": 5,
            })).floor(0.0, 0.01).pin("19931cef18b9fb96"),
        ]
    }

    fn small() -> Vec<Value> {
        vec![json!({ "train_min_length": 40, "train_max_length": 48, "test_lengths": [48] })]
    }
}

/// The opened task.
#[derive(Debug)]
pub struct Passkey {
    cfg: Config,
}

impl Passkey {
    /// An example of `length` tokens that states `digits` in paragraph `place`.
    fn prompt(&self, length: u32, place: u64, digits: Vec<i64>) -> Example {
        let (paragraphs, rest) = self.cfg.paragraphs(length);
        let cycle = FILLER..self.cfg.vocab_size();
        let mut tokens = Vec::with_capacity(length as usize);
        tokens.extend(cycle.clone().skip(self.cfg.filler as usize - rest as usize));
        for paragraph in 0..paragraphs {
            if paragraph == place {
                for _ in 0..2 {
                    tokens.push(KEY);
                    tokens.extend_from_slice(&digits);
                }
            } else {
                tokens.extend(cycle.clone());
            }
        }
        tokens.push(QUESTION);
        let positions = (tokens.len() as i64..i64::from(length)).collect();
        tokens.resize(length as usize, SLOT);
        Example::new(tokens, Targets::PerPosition { positions, classes: digits })
    }
}

impl Synthetic for Passkey {
    fn describe(&self) -> TaskSpec {
        TaskSpec {
            metric: Metric::proportion("exact match"),
            judge: Judge::Exact,
            version: 1,
            ..self.cfg.outline().spec()
        }
    }

    fn counts(&self) -> Counts<'_> {
        self.cfg.counts()
    }

    fn draw(&self, split: Split, index: u64) -> Example {
        let (cfg, depths) = (&self.cfg, u64::from(self.cfg.depths));
        let mut stream = Stream::new(cfg.data_seed, Purpose::of_split(Config::STREAM, split), index);
        let digits = drawn::owned(split, cfg.data_seed, || drawn::symbols(&mut stream, cfg.digits as usize, DIGITS));
        let (length, depth) = match split {
            Split::Test => (cfg.test_lengths[(index / cfg.test_examples) as usize], index % cfg.test_examples % depths),
            Split::Train | Split::Validation => {
                let more = stream.below(u64::from(cfg.train_max_length - cfg.train_min_length) + 1);
                (cfg.train_min_length + more as u32, stream.below(depths))
            }
        };
        self.prompt(length, cfg.place(depth, length), digits)
    }

    /// The first and the last digit, the length, and, given the lengths, the paragraph.
    fn tested(&self, examples: u64) -> Result<Vec<Goodness>, DataError> {
        let drawn: Vec<Example> = (0..examples).map(|i| self.example(Split::Train, i)).collect::<Result<_, _>>()?;
        let (least, most) = (self.cfg.train_min_length, self.cfg.train_max_length);
        let digit = |place: usize| drawn.iter().map(move |example| example.targets.classes()[place] as u64);
        let lengths = drawn.iter().map(|example| example.tokens.len() as u64 - u64::from(least));
        let mut found = vec![
            drawn::uniform("first digit", DIGITS, digit(0)),
            drawn::uniform("last digit", DIGITS, digit(self.cfg.digits as usize - 1)),
            drawn::uniform("length", u64::from(most - least) + 1, lengths),
        ];
        let paragraphs = self.cfg.paragraphs(most).0 as usize;
        let (mut seen, mut expected) = (vec![0; paragraphs], vec![0.0; paragraphs]);
        for example in &drawn {
            let length = example.tokens.len() as u32;
            let stated = example.tokens.iter().position(|&token| token == KEY).unwrap_or_default() as u64;
            seen[((stated - self.cfg.paragraphs(length).1) / u64::from(self.cfg.filler)) as usize] += 1;
            (0..u64::from(self.cfg.depths)).for_each(|depth| expected[self.cfg.place(depth, length) as usize] += 1.0);
        }
        found.push(Goodness::chi_square("paragraph of the number", &seen, &expected));
        Ok(found.into_iter().flatten().collect())
    }

    fn guess(&self) -> Result<Bound, DataError> {
        bounds::guesser(self, self.cfg.data_seed, "a uniform guess among the digits", |_, stream| {
            drawn::symbols(stream, self.cfg.digits as usize, DIGITS)
        })
    }

    /// The digits behind the first key token.
    fn answer(&self, example: &Example) -> Option<Vec<i64>> {
        let stated = example.tokens.iter().position(|&token| token == KEY)?;
        example.tokens.get(stated + 1..=stated + self.cfg.digits as usize).map(<[i64]>::to_vec)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn impossible_settings_are_named() {
        let problem = |cfg: Config| cfg.check().into_iter().map(|error| error.problem).collect::<Vec<_>>();
        let base = Config::default();
        assert_eq!(problem(base.clone()), [""; 0]);
        assert_eq!(
            problem(Config { train_min_length: 17, ..base.clone() }),
            ["`train_min_length` is 17 < 2·(1 + 5) + 1 + 5 = 18, with no filler at all"]
        );
        assert_eq!(
            problem(Config { train_max_length: 63, ..base.clone() }),
            ["`train_max_length` is 63 < `train_min_length` = 64"]
        );
        assert_eq!(
            problem(Config { test_lengths: vec![128], ..base.clone() }),
            ["the longest of `test_lengths` is 128, less than 256, the length trained on"]
        );
        assert_eq!(problem(Config { digits: 2, ..base.clone() }), ["`digits` is 2, not between 5 and 18"]);
        assert_eq!(problem(Config { filler: 0, ..base }), ["`filler` is 0"]);
    }

    #[test]
    fn an_example_is_the_prompt_of_the_picture() {
        let task = Passkey { cfg: Config { digits: 3, filler: 4, ..Config::default() } };
        let example = task.prompt(12 + 9, 1, vec![4, 0, 7]);
        assert_eq!(example.tokens, [16, 13, 14, 15, 16, 10, 4, 0, 7, 10, 4, 0, 7, 13, 14, 15, 16, 11, 12, 12, 12]);
        let positions = vec![18, 19, 20];
        assert_eq!(example.targets, Targets::PerPosition { positions, classes: vec![4, 0, 7] });
    }

    #[test]
    fn test_examples_have_every_depth_equally_often_from_the_first_paragraph_to_the_last() {
        let task = Passkey { cfg: Config::default() };
        let mut places = std::collections::BTreeMap::new();
        for index in 4 * 200..5 * 200 {
            let tokens = task.example(Split::Test, index).unwrap().tokens;
            assert_eq!(tokens.len(), 1024);
            *places.entry(tokens.iter().position(|&token| token == KEY).unwrap()).or_insert(0) += 1;
        }
        // 1006 = 83 · 12 + 10 tokens of filler: N = 84, places ⌊83 j / 9⌋.
        let expected: Vec<usize> = (0..10).map(|j| 10 + 12 * (83 * j / 9)).collect();
        assert_eq!(places.keys().copied().collect::<Vec<_>>(), expected);
        assert!(places.values().all(|&count| count == 20));
    }

    proptest! {
        #[test]
        fn lengths_are_met_and_the_number_is_stated_twice(
            digits in 5_u32..8, filler in 1_u32..20, depths in 1_u32..12, spare in 0_u32..90, data_seed: u64, index: u64,
        ) {
            let train_min_length = 3 * digits + 3 + spare;
            let train_max_length = train_min_length + 40;
            let test_lengths = vec![train_max_length];
            let cfg = Config { digits, filler, depths, train_min_length, train_max_length, test_lengths, data_seed, ..Config::default() };
            prop_assert_eq!(cfg.check(), []);
            let task = Passkey { cfg };
            let example = task.example(Split::Train, index).unwrap();
            let tokens = &example.tokens;
            prop_assert!((train_min_length as usize..=train_max_length as usize).contains(&tokens.len()));
            let stated: Vec<usize> = (0..tokens.len()).filter(|&at| tokens[at] == KEY).collect();
            prop_assert_eq!(stated.len(), 2);
            for at in stated {
                prop_assert_eq!(&tokens[at + 1..=at + digits as usize], example.targets.classes());
            }
            prop_assert_eq!(tokens.iter().filter(|&&token| token < 10).count(), 2 * digits as usize);
            prop_assert!(tokens[tokens.len() - digits as usize..].iter().all(|&token| token == SLOT));
            prop_assert_eq!(tokens[tokens.len() - digits as usize - 1], QUESTION);
        }
    }
}
