//! Filler: text that says nothing new, read far beyond the training length, to see a state collapse.
//!
//! ```text
//! train     p1 p2 … pc ⏎  p1 p2 … pc ⏎  …  p1 p2 … pc ⏎ ⏎ ⏎ ⏎ …     a paragraph again and again, then perhaps newlines
//! test      p1 p2 … pc ⏎  p1 p2 … pc ⏎  …                           `test_text: paragraphs`
//!           p1 p2 … pc ⏎  ⏎ ⏎ ⏎ …                                   `test_text: newlines`
//! scored    the next token, wherever what stands before decides it
//! ```
//! Paper    Chen et al. 2024 (Stuffed Mamba), arXiv:2410.07145: loss by position on text and on a prompt of newlines only
//! Matches  the measurement: loss by position beyond the training length, in windows of 128
//! Departs  paragraphs of random tokens, new in each example, instead of text; a paragraph stands before the newlines, so
//!          that test prompts differ and none was trained on; no paragraph is shared between splits
//!
//! A mixer that has learned the text has almost no loss at the training length. A state that collapses shows as a loss that
//! rises with position although nothing new is read.

use crate::core::drawn::{self, Counts, Synthetic};
use crate::core::family::{Family, Outline, Variant};
use crate::core::rng::{Purpose, Stream};
use crate::{
    Bound, ConfigError, DataDir, DataError, Example, Goodness, Metric, Split, Targets, Task, TaskSpec, core::bounds,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// The token that ends a paragraph.
const NEWLINE: i64 = 0;

/// What test examples are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Text {
    /// A paragraph again and again.
    Paragraphs,
    /// A paragraph, then newlines.
    Newlines,
}

/// `task: { filler: { train_length: 256, test_lengths: [256, 1024], test_text: newlines } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Tokens there are: the newline is 0.
    pub vocab_size: u32,
    /// Tokens of a paragraph, its newline included; the others all differ.
    pub paragraph: u32,
    /// Tokens of a training or validation example.
    pub train_length: u32,
    /// Tokens of test examples, each length a subset of the test split.
    pub test_lengths: Vec<u32>,
    /// Share of training examples that go over to newlines, after 1 or more paragraphs.
    pub newlines: f64,
    /// Whether test examples are `paragraphs` or go over to `newlines` after the first.
    pub test_text: Text,
    /// Positions in a window over which loss and score are recorded.
    pub window: u32,
    /// Training examples; null: new ones at every step.
    pub train_examples: Option<u64>,
    /// Validation examples.
    pub validation_examples: u64,
    /// Test examples of each length.
    pub test_examples: u64,
    /// Seed of the examples; not the run's seed.
    pub data_seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 64,
            paragraph: 16,
            train_length: 256,
            test_lengths: vec![2048],
            newlines: 0.25,
            test_text: Text::Paragraphs,
            window: 128,
            train_examples: None,
            validation_examples: 200,
            test_examples: 100,
            data_seed: 0,
        }
    }
}

impl Config {
    fn counts(&self) -> Counts<'_> {
        Counts::new(self.train_examples, self.validation_examples, self.test_examples, &self.test_lengths)
    }
}

impl Family for Config {
    const NAME: &'static str = "filler";
    const ABOUT: &'static str =
        "state collapse (Stuffed Mamba): loss by position on repeated text, past the training length";
    const PAPER: &'static str = "Chen et al. 2024 (Stuffed Mamba), arXiv:2410.07145";

    fn check(&self) -> Vec<ConfigError> {
        let mut errors = self.counts().errors();
        let mut wrong = |key, problem: String, help: String| errors.push(ConfigError { key, problem, help });
        let (v, p, length) = (self.vocab_size, self.paragraph, self.train_length);
        if p < 2 {
            wrong("paragraph", format!("`paragraph` is {p} < 2, one token and a newline"), "use 2 or more".into());
        }
        if v < p {
            let problem = format!("`vocab_size` is {v} < `paragraph` = {p}, whose tokens all differ");
            wrong("vocab_size", problem, format!("use {p} or more"));
        }
        let ways = (0..u64::from(p.saturating_sub(1)))
            .try_fold(1_u64, |ways, i| ways.checked_mul(u64::from(v).saturating_sub(1 + i)));
        if p >= 2 && v >= p && ways.is_some_and(|ways| ways < drawn::INPUTS) {
            let problem = format!(
                "`vocab_size` {v} and `paragraph` {p} make {} < {} paragraphs, too few for three splits without a common one",
                ways.unwrap_or_default(),
                drawn::INPUTS
            );
            wrong("paragraph", problem, "raise either".into());
        }
        let shortest = 2 * u64::from(p);
        if u64::from(length) < shortest {
            let problem = format!("`train_length` is {length} < 2·{p} = {shortest}, two paragraphs");
            wrong("train_length", problem, format!("use {shortest} or more"));
        }
        if length > 1 << 20 {
            wrong("train_length", format!("`train_length` is {length}, more than 2^20"), "use at most 1048576".into());
        }
        if !(0.0..=1.0).contains(&self.newlines) {
            let problem = format!("`newlines` is {}, not between 0 and 1", self.newlines);
            wrong("newlines", problem, "it is a share of the training examples".into());
        }
        if self.newlines == 0.0 && self.test_text == Text::Newlines {
            let problem = "`test_text` is newlines and `newlines` is 0, so newlines would be new to every mixer".into();
            wrong("test_text", problem, "raise `newlines`, such as to 0.25".into());
        }
        if self.window == 0 {
            wrong("window", "`window` is 0".into(), "use 1 or more; Stuffed Mamba averages over 128".into());
        }
        errors.extend(drawn::length_errors(&self.test_lengths, shortest, length));
        errors
    }

    fn outline(&self) -> Outline {
        Outline {
            causal: true,
            max_length: self.counts().longest(self.train_length),
            vocab_size: i64::from(self.vocab_size),
            classes: i64::from(self.vocab_size),
            ..drawn::OUTLINE
        }
    }

    fn open(&self, _: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(Filler { cfg: self.clone() }))
    }

    fn variants() -> Vec<Variant> {
        let text = |test_text: &str| {
            Variant::drawn(json!({
                "vocab_size": 20, "paragraph": 5, "train_length": 40, "test_lengths": [40, 80], "test_examples": 50,
                "test_text": test_text,
            }))
        };
        vec![
            // Of a paragraph of five all but its first token are scored, one of which is the newline.
            text("paragraphs").floor(1.0 / 4.0, 1e-9).pin("b2a82b7f294530f6"),
            // Newlines are scored and nothing else.
            text("newlines").floor(1.0, 0.0).pin("006a68a765ba5e41"),
        ]
    }

    fn small() -> Vec<Value> {
        vec![json!({ "vocab_size": 20, "paragraph": 5, "train_length": 20, "test_lengths": [20] })]
    }
}

/// The opened task.
#[derive(Debug)]
pub struct Filler {
    cfg: Config,
}

impl Filler {
    /// The next token where `before` decides it: after two newlines another, and within a paragraph that is not the first what
    /// the first has there. After the newline of a paragraph either may come: nothing is asked.
    fn next(&self, before: &[i64]) -> Option<i64> {
        let c = self.cfg.paragraph as usize;
        if before.ends_with(&[NEWLINE; 2]) {
            return Some(NEWLINE);
        }
        let after = before.len();
        (after >= c && !after.is_multiple_of(c)).then(|| before[after % c])
    }
}

impl Synthetic for Filler {
    fn describe(&self) -> TaskSpec {
        TaskSpec {
            metric: Metric::accuracy(),
            version: 1,
            by_position: Some(i64::from(self.cfg.window)),
            ..self.cfg.outline().spec()
        }
    }

    fn counts(&self) -> Counts<'_> {
        self.cfg.counts()
    }

    fn draw(&self, split: Split, index: u64) -> Example {
        let (cfg, c) = (&self.cfg, self.cfg.paragraph as usize);
        let mut stream = Stream::new(cfg.data_seed, Purpose::of_split(Config::STREAM, split), index);
        let paragraph = drawn::owned(split, cfg.data_seed, || stream.distinct(c - 1, cfg.vocab_size as usize - 1));
        let length = cfg.counts().length(split, index, cfg.train_length) as usize;
        let paragraphs = match (split, cfg.test_text) {
            (Split::Test, Text::Paragraphs) => length,
            (Split::Test, Text::Newlines) => 1,
            _ if stream.chance(cfg.newlines) => 1 + stream.below((length / c) as u64 - 1) as usize,
            _ => length,
        };
        let whole = paragraph.iter().map(|token| token + 1).chain([NEWLINE]).cycle();
        let mut tokens: Vec<i64> = whole.take((paragraphs * c).min(length + 1)).collect();
        tokens.resize(length + 1, NEWLINE);
        let known = |at: &usize| self.next(&tokens[..=*at]).is_some();
        let positions: Vec<i64> = (0..length).filter(known).map(|at| at as i64).collect();
        let classes = positions.iter().map(|&at| tokens[at as usize + 1]).collect();
        tokens.truncate(length);
        Example::new(tokens, Targets::PerPosition { positions, classes })
    }

    /// The first token; whether an example goes over to newlines; and after how many paragraphs.
    fn tested(&self, examples: u64) -> Result<Vec<Goodness>, DataError> {
        let (c, length) = (self.cfg.paragraph as usize, self.cfg.train_length as usize);
        let (mut first, mut turned) = (Vec::new(), Vec::new());
        for index in 0..examples {
            let tokens = self.example(Split::Train, index)?.tokens;
            first.push(tokens[0] as u64 - 1);
            let twice = tokens.windows(2).position(|pair| pair == [NEWLINE; 2]);
            turned.extend(twice.map(|at| (at / c) as u64));
        }
        let shares = [1.0 - self.cfg.newlines, self.cfg.newlines];
        let seen = turned.len() as u64;
        let last = (length / c - 1) as u64;
        let tests = [
            drawn::uniform("first token", u64::from(self.cfg.vocab_size) - 1, first.into_iter()),
            Goodness::chi_square("goes over to newlines", &[examples - seen, seen], &shares),
            drawn::uniform("paragraphs before newlines", last, turned.into_iter()),
        ];
        Ok(tests.into_iter().flatten().collect())
    }

    fn guess(&self) -> Result<Bound, DataError> {
        bounds::uniform(self, self.cfg.data_seed, self.cfg.vocab_size.into(), "all tokens")
    }

    fn answer(&self, example: &Example) -> Option<Vec<i64>> {
        let Targets::PerPosition { positions, .. } = &example.targets else { return None };
        positions.iter().map(|&at| self.next(&example.tokens[..=at as usize])).collect()
    }

    fn remarks(&self) -> Vec<String> {
        match self.cfg.test_text {
            Text::Paragraphs => Vec::new(),
            Text::Newlines => {
                vec!["always answering a newline is right everywhere on this test split: read its loss".into()]
            }
        }
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
            problem(Config { vocab_size: 15, ..base.clone() }),
            ["`vocab_size` is 15 < `paragraph` = 16, whose tokens all differ"]
        );
        assert_eq!(
            problem(Config { vocab_size: 10, paragraph: 3, ..base.clone() }),
            [
                "`vocab_size` 10 and `paragraph` 3 make 72 < 1000 paragraphs, too few for three splits without a common one"
            ]
        );
        assert_eq!(
            problem(Config { train_length: 31, ..base.clone() }),
            ["`train_length` is 31 < 2·16 = 32, two paragraphs"]
        );
        assert_eq!(
            problem(Config { test_lengths: vec![128], ..base.clone() }),
            ["the longest of `test_lengths` is 128, less than 256, the length trained on"]
        );
        assert_eq!(
            problem(Config { newlines: 0.0, test_text: Text::Newlines, ..base }),
            ["`test_text` is newlines and `newlines` is 0, so newlines would be new to every mixer"]
        );
    }

    #[test]
    fn the_two_texts_are_those_of_the_picture() {
        let cfg = Config { paragraph: 4, test_lengths: vec![256], ..Config::default() };
        let newlines = Filler { cfg: Config { test_text: Text::Newlines, ..cfg.clone() } };
        let (text, newlines) =
            (Filler { cfg }.example(Split::Test, 0).unwrap(), newlines.example(Split::Test, 0).unwrap());
        assert!(text.tokens.chunks(4).all(|paragraph| *paragraph == text.tokens[..4]) && text.tokens[3] == NEWLINE);
        assert_eq!(newlines.tokens[..4], text.tokens[..4]);
        assert!(newlines.tokens[4..].iter().all(|&token| token == NEWLINE));
        let Targets::PerPosition { positions, .. } = &text.targets else { panic!("positions") };
        assert_eq!(positions[..7], [4, 5, 6, 8, 9, 10, 12]);
        let Targets::PerPosition { positions, .. } = newlines.targets else { panic!("positions") };
        assert!(positions.into_iter().eq(4..256));
    }

    proptest! {
        #[test]
        fn what_is_scored_is_decided_by_what_stands_before(
            paragraph in 4_u32..20, spare in 0_u32..100, newlines in 0.0..1.0, data_seed: u64, index: u64,
        ) {
            let train_length = 2 * paragraph + spare;
            let cfg = Config { paragraph, train_length, newlines, data_seed, ..Config::default() };
            prop_assert_eq!(cfg.check(), []);
            let task = Filler { cfg };
            let example = task.example(Split::Train, index).unwrap();
            let Targets::PerPosition { positions, classes } = &example.targets else { panic!("positions") };
            prop_assert_eq!(task.solve(&example), Some(classes.clone()));
            prop_assert!(positions[0] >= i64::from(paragraph));
            for (&at, &class) in positions.iter().zip(classes) {
                prop_assert!(example.tokens.get(at as usize + 1).is_none_or(|&next| next == class));
            }
        }
    }
}
