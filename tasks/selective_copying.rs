//! Selective copying: symbols stand scattered among noise and are asked for in order at the end.
//!
//! ```text
//! · · 5 · · · 9 · 2 · · · · 7 ·  ?  ?  ?  ?       body: noise with `copy` symbols at random places; then as many slots
//!                                ↓  ↓  ↓  ↓
//!                                5  9  2  7
//! ```
//! Paper    Gu and Dao 2023 (Mamba), arXiv:2312.00752; random places are due to Jing et al. 2019 (gated orthogonal recurrent units), arXiv:1706.02761
//! Matches  the form: places without replacement, symbols with; answers asked at slots that are all the same token. Length 4,096,
//!          16 tokens, 16 to copy as MinhZou/selective-copying-mamba@76160cf:config.py, somebody else's copy of the experiment
//! Departs  the Mamba paper's own generator is not public; `seq_len` counts the slots too; no symbols to copy are shared between splits; the random bits are our own
//!
//! Slots hold no answer, so a bidirectional mixer competes fairly with `causal: false`.

use crate::core::drawn::{self, Counts, Synthetic};
use crate::core::family::{Family, Outline, Variant};
use crate::core::rng::{Purpose, Stream};
use crate::{
    Bound, ConfigError, DataDir, DataError, Example, Goodness, Metric, Split, Targets, Task, TaskSpec, core::bounds,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// `task: { selective_copying: { seq_len: 256, copy: 16 } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Tokens there are: noise first, then the symbols, and last the token of the slots. Mamba: 16.
    pub vocab_size: u32,
    /// Different noise tokens; 1: blanks.
    pub noise_tokens: u32,
    /// Tokens of a training or validation example, slots included. Mamba: 4,096.
    pub seq_len: u32,
    /// Tokens of test examples, each length a subset of the test split; null: `seq_len`.
    pub test_lengths: Option<Vec<u32>>,
    /// Symbols to copy. Mamba: 16.
    pub copy: u32,
    /// Training examples; null: new ones at every step, as Mamba.
    pub train_examples: Option<u64>,
    /// Validation examples.
    pub validation_examples: u64,
    /// Test examples of each length.
    pub test_examples: u64,
    /// Seed of the examples; not the run's seed.
    pub data_seed: u64,
    /// Whether position t may only read up to t.
    pub causal: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 16,
            noise_tokens: 1,
            seq_len: 4096,
            test_lengths: None,
            copy: 16,
            train_examples: None,
            validation_examples: 500,
            test_examples: 500,
            data_seed: 0,
            causal: true,
        }
    }
}

impl Config {
    fn counts(&self) -> Counts<'_> {
        Counts::new(
            self.train_examples,
            self.validation_examples,
            self.test_examples,
            self.test_lengths.as_deref().unwrap_or_default(),
        )
    }

    /// Symbols that may have to be copied; they follow the noise.
    fn symbols(&self) -> u64 {
        u64::from(self.vocab_size).saturating_sub(u64::from(self.noise_tokens) + 1)
    }

    /// The token of the slots.
    fn slot(&self) -> i64 {
        i64::from(self.vocab_size) - 1
    }

    /// Tokens before the slots.
    fn body(&self, length: u32) -> usize {
        length.saturating_sub(self.copy) as usize
    }
}

impl Family for Config {
    const NAME: &'static str = "selective_copying";
    const ABOUT: &'static str =
        "selective copying (Mamba): symbols scattered among noise, repeated in order at the end";
    const PAPER: &'static str = "Gu and Dao 2023 (Mamba), arXiv:2312.00752; Jing et al. 2019, arXiv:1706.02761";
    const STREAM: &'static str = "selective copying";

    fn check(&self) -> Vec<ConfigError> {
        let mut errors = self.counts().errors();
        let mut wrong = |key, problem: String, help: String| errors.push(ConfigError { key, problem, help });
        let (k, length, shortest) = (self.copy, u64::from(self.seq_len), 2 * u64::from(self.copy));
        if self.noise_tokens == 0 {
            wrong("noise_tokens", "`noise_tokens` is 0, so nothing stands between the symbols".into(), "use 1".into());
        }
        if self.symbols() < 2 {
            let (v, noise) = (self.vocab_size, self.noise_tokens);
            let problem =
                format!("`vocab_size` is {v} < {noise} noise + 2 symbols + 1 slot = {}", u64::from(noise) + 3);
            wrong("vocab_size", problem, format!("use {} or more; Mamba uses 16", u64::from(noise) + 3));
        }
        if length < shortest {
            let problem = format!("`seq_len` is {length} < 2·{k} = {shortest}, {k} symbols and {k} slots");
            wrong("seq_len", problem, format!("use {shortest} or more"));
        }
        if length > 1 << 20 {
            wrong("seq_len", format!("`seq_len` is {length}, more than 2^20 = 1048576"), "use at most 1048576".into());
        }
        if self.symbols() >= 2 && self.symbols().checked_pow(k).is_some_and(|ways| ways < drawn::INPUTS) {
            let problem = format!(
                "`copy` is {k}: {}^{k} < {} answers, too few for three splits without a common one",
                self.symbols(),
                drawn::INPUTS
            );
            wrong("copy", problem, "raise `copy` or `vocab_size`".into());
        }
        if let Some(lengths) = &self.test_lengths {
            errors.extend(drawn::length_errors(lengths, shortest, self.seq_len));
        }
        errors
    }

    fn outline(&self) -> Outline {
        Outline {
            causal: self.causal,
            max_length: self.counts().longest(self.seq_len),
            vocab_size: i64::from(self.vocab_size),
            classes: i64::from(self.vocab_size),
            ..drawn::OUTLINE
        }
    }

    fn open(&self, _: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(SelectiveCopying { cfg: self.clone() }))
    }

    fn variants() -> Vec<Variant> {
        vec![
            Variant::drawn(json!({ "seq_len": 48, "copy": 6 })).floor(1.0 / 14.0, 0.019).pin("5d44798f5efaaa7b"),
            Variant::drawn(
                json!({ "seq_len": 40, "copy": 5, "noise_tokens": 4, "test_lengths": [40, 64], "causal": false }),
            )
            .floor(1.0 / 11.0, 0.017)
            .pin("8b578e41c06646c9"),
        ]
    }

    fn small() -> Vec<Value> {
        vec![json!({ "seq_len": 24, "copy": 4 })]
    }
}

/// The opened task.
#[derive(Debug)]
pub struct SelectiveCopying {
    cfg: Config,
}

impl Synthetic for SelectiveCopying {
    fn describe(&self) -> TaskSpec {
        TaskSpec { metric: Metric::accuracy(), version: 1, ..self.cfg.outline().spec() }
    }

    fn counts(&self) -> Counts<'_> {
        self.cfg.counts()
    }

    fn draw(&self, split: Split, index: u64) -> Example {
        let length = self.cfg.counts().length(split, index, self.cfg.seq_len);
        let (copy, body, noise) = (self.cfg.copy as usize, self.cfg.body(length), u64::from(self.cfg.noise_tokens));
        let mut stream = Stream::new(self.cfg.data_seed, Purpose::of_split(Config::STREAM, split), index);
        let drawn = drawn::owned(split, self.cfg.data_seed, || drawn::symbols(&mut stream, copy, self.cfg.symbols()));
        let classes: Vec<i64> = drawn.into_iter().map(|symbol| symbol + noise as i64).collect();
        let mut places = stream.distinct(copy, body);
        places.sort_unstable();
        let mut tokens = match noise {
            1 => vec![0; body],
            _ => drawn::symbols(&mut stream, body, noise),
        };
        places.iter().zip(&classes).for_each(|(&at, &symbol)| tokens[at as usize] = symbol);
        tokens.resize(length as usize, self.cfg.slot());
        let positions = (body as i64..i64::from(length)).collect();
        Example::new(tokens, Targets::PerPosition { positions, classes })
    }

    /// The first symbol and its place: of k places out of n the first is g with probability C(n − 1 − g, k − 1) / C(n, k).
    fn tested(&self, examples: u64) -> Result<Vec<Goodness>, DataError> {
        let (body, noise) = (self.cfg.body(self.cfg.seq_len), i64::from(self.cfg.noise_tokens));
        let (mut places, mut symbols) = (vec![0; body], Vec::new());
        for index in 0..examples {
            let tokens = self.example(Split::Train, index)?.tokens;
            let Some(first) = tokens.iter().position(|&token| token >= noise) else { continue };
            places[first] += 1;
            symbols.push((tokens[first] - noise) as u64);
        }
        let (n, k) = (body as f64, f64::from(self.cfg.copy));
        let mut expected = Vec::with_capacity(body);
        let mut share = k / n;
        for place in 0..body {
            expected.push(share);
            let behind = n - 1.0 - place as f64;
            share = if behind > 0.0 { share * (behind + 1.0 - k).max(0.0) / behind } else { 0.0 };
        }
        let tests = [
            drawn::uniform("first symbol", self.cfg.symbols(), symbols.into_iter()),
            Goodness::chi_square("place of the first symbol", &places, &expected),
        ];
        Ok(tests.into_iter().flatten().collect())
    }

    fn guess(&self) -> Result<Bound, DataError> {
        let noise = i64::from(self.cfg.noise_tokens);
        bounds::guesser(self, self.cfg.data_seed, "a uniform guess among the symbols", |_, stream| {
            let guess = drawn::symbols(stream, self.cfg.copy as usize, self.cfg.symbols());
            guess.into_iter().map(|symbol| symbol + noise).collect()
        })
    }

    /// What is neither noise nor a slot, in order.
    fn answer(&self, example: &Example) -> Option<Vec<i64>> {
        let symbols = i64::from(self.cfg.noise_tokens)..self.cfg.slot();
        Some(example.tokens.iter().copied().filter(|token| symbols.contains(token)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn impossible_settings_are_named() {
        let problem = |cfg: Config| cfg.check().into_iter().map(|error| error.problem).collect::<Vec<_>>();
        let base = Config { seq_len: 64, ..Config::default() };
        assert_eq!(problem(base.clone()), [""; 0]);
        assert_eq!(
            problem(Config { seq_len: 31, ..base.clone() }),
            ["`seq_len` is 31 < 2·16 = 32, 16 symbols and 16 slots"]
        );
        assert_eq!(
            problem(Config { noise_tokens: 14, ..base.clone() }),
            ["`vocab_size` is 16 < 14 noise + 2 symbols + 1 slot = 17"]
        );
        assert_eq!(
            problem(Config { copy: 2, ..base.clone() }),
            ["`copy` is 2: 14^2 < 1000 answers, too few for three splits without a common one"]
        );
        assert_eq!(
            problem(Config { test_lengths: Some(vec![32, 48]), ..base.clone() }),
            ["the longest of `test_lengths` is 48, less than 64, the length trained on"]
        );
        assert_eq!(
            problem(Config { test_lengths: Some(vec![31, 64]), ..base }),
            ["`test_lengths` has 31, less than 32, the fewest tokens of an example"]
        );
    }

    #[test]
    fn a_body_of_nothing_but_symbols_is_possible() {
        let task = SelectiveCopying { cfg: Config { seq_len: 32, ..Config::default() } };
        let example = task.example(Split::Test, 0).unwrap();
        assert_eq!(example.tokens[..16], *example.targets.classes());
        assert_eq!(example.tokens[16..], [15; 16]);
    }

    proptest! {
        #[test]
        fn symbols_come_in_order_among_noise_and_slots_show_none(
            noise_tokens in 1_u32..6, copy in 4_u32..20, spare in 0_u32..100, data_seed: u64, index: u64,
        ) {
            let cfg = Config { noise_tokens, copy, seq_len: 2 * copy + spare, vocab_size: 20, data_seed, ..Config::default() };
            prop_assert_eq!(cfg.check(), []);
            let task = SelectiveCopying { cfg };
            let example = task.example(Split::Train, index).unwrap();
            let (body, slots) = example.tokens.split_at((copy + spare) as usize);
            prop_assert!(slots.iter().all(|&token| token == 19) && slots.len() == copy as usize);
            let symbols: Vec<i64> = body.iter().copied().filter(|&token| token >= i64::from(noise_tokens)).collect();
            prop_assert!(symbols.iter().all(|&symbol| symbol < 19));
            prop_assert_eq!(symbols.as_slice(), example.targets.classes());
            prop_assert_eq!(task.solve(&example), Some(symbols));
        }
    }
}
