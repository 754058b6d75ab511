//! Multi-query associative recall: remember key–value pairs, then answer when a key comes again.
//!
//! ```text
//! [ k1 v1 k2 v2 … kK vK ] × R   0 k2 0 0 0 k1 0 0 0 0 …       context, 2KR tokens, then slots of two tokens
//!                                 ↓        ↓
//!                                 v2       v1                  asked for at the query itself
//! p(slot g) ∝ (g + 1)^(a − 1)                                  K slots without replacement
//! ```
//! Paper    Arora et al. 2024 (Zoology), arXiv:2312.04927
//! Matches  the distribution of zoology's `multiquery_ar.py`: key, value and slot draws, and the shares measured on it
//! Departs  only zeros outside the context and the queries are replaced by random tokens, so every query stays
//!          answerable (zoology#29); R > 1 repeats the context, which there is a shape error; the random bits are our own
//!
//! A query's answer always lies before it, and what follows a query is independent of its answer. So a bidirectional
//! mixer gains nothing from seeing the whole sequence, and `causal: false` lets mixers without a causal form compete.

use crate::bounds;
use crate::registry::{Family, Outline};
use crate::rng::{Purpose, Stream};
use crate::{Bound, ConfigError, DataDir, DataError, Example, Input, Judge, Output, Split, Targets, Task, TaskSpec};
use serde::{Deserialize, Serialize};

/// `task: { mqar: { seq_len: 64, kv_pairs: 4 } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Tokens there are: keys are `1 .. vocab_size / 2`, values `vocab_size / 2 .. vocab_size`, 0 is the filler.
    pub vocab_size: u32,
    /// Tokens of every example; even.
    pub seq_len: u32,
    /// K: pairs to remember, and queries to answer.
    pub kv_pairs: u32,
    /// R: how often the context is shown.
    pub passes: u32,
    /// a: 1 spreads queries evenly; towards 0 they crowd near the context.
    pub power_a: f64,
    /// Whether the filler after the context is random tokens instead of zeros. Zoology's figure 2 has zeros.
    pub random_non_queries: bool,
    /// Training examples. Zoology's figure 2: 100,000.
    pub train_examples: u64,
    /// Validation examples, from a stream of their own.
    pub validation_examples: u64,
    /// Test examples, from a stream of their own. Zoology's figure 2: 3,000.
    pub test_examples: u64,
    /// Seed of the examples; not the run's seed, so that all seeds of a run share one data set.
    pub data_seed: u64,
    /// Whether position t may only read up to t.
    pub causal: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            vocab_size: 8192,
            seq_len: 64,
            kv_pairs: 4,
            passes: 1,
            power_a: 0.01,
            random_non_queries: true,
            train_examples: 100_000,
            validation_examples: 1_000,
            test_examples: 3_000,
            data_seed: 0,
            causal: true,
        }
    }
}

impl Config {
    /// 2KR, the tokens of the context.
    fn context(&self) -> u64 {
        (2 * u64::from(self.kv_pairs)).saturating_mul(u64::from(self.passes))
    }

    /// Pairs of tokens after the context; a query opens one.
    fn slots(&self) -> u64 {
        u64::from(self.seq_len).saturating_sub(self.context()) / 2
    }

    /// The smallest value; keys lie below.
    fn first_value(&self) -> u32 {
        self.vocab_size / 2
    }
}

impl Family for Config {
    const NAME: &'static str = "mqar";
    const ABOUT: &'static str = "multi-query associative recall (Zoology): recall the value of each key that returns";

    fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut wrong = |key, problem: String, help: String| errors.push(ConfigError { key, problem, help });
        let (length, k, r) = (u64::from(self.seq_len), u64::from(self.kv_pairs), u64::from(self.passes));
        if k < 2 {
            let problem = format!("`kv_pairs` is {k}, and with fewer than two pairs there is nothing to tell apart");
            wrong("kv_pairs", problem, "use 2 or more".into());
        }
        if r == 0 {
            wrong("passes", "`passes` is 0, so no pair is ever shown".into(), "use 1, as Zoology does".into());
        }
        if length % 2 == 1 {
            let help = format!("use {} or {}", length - 1, length + 1);
            wrong("seq_len", format!("`seq_len` is {length}, which is odd; slots are two tokens wide"), help);
        }
        let needed = self.context().saturating_add(2 * k);
        if needed > length {
            let problem = format!(
                "`kv_pairs` {k} and `passes` {r} need 2·{k}·{r} + 2·{k} = {needed} tokens, more than `seq_len` = {length}"
            );
            let help = format!("raise `seq_len` to {needed} or lower `kv_pairs` to {}", length / (2 * r.max(1) + 2));
            wrong("kv_pairs", problem, help);
        }
        if self.vocab_size <= self.seq_len {
            let problem = format!("`vocab_size` is {}, not more than `seq_len` = {length}", self.vocab_size);
            wrong("vocab_size", problem, format!("use {} or more; Zoology uses 8192", length + 1));
        }
        let keys = u64::from(self.first_value()).saturating_sub(1);
        if k > keys {
            let problem = format!("`vocab_size` {} leaves {keys} keys, fewer than `kv_pairs` = {k}", self.vocab_size);
            wrong("vocab_size", problem, format!("use {} or more", 2 * (k + 1)));
        }
        if !(0.0..=2.0).contains(&self.power_a) {
            let help = "use a number from 0 to 2; Zoology uses 0.01, and 1 spreads queries evenly".into();
            wrong("power_a", format!("`power_a` is {}, which is not between 0 and 2", self.power_a), help);
        }
        for (key, count) in [
            ("train_examples", self.train_examples),
            ("validation_examples", self.validation_examples),
            ("test_examples", self.test_examples),
        ] {
            if count == 0 {
                wrong(key, format!("`{key}` is 0"), "use 1 or more".into());
            }
        }
        errors
    }

    fn outline(&self) -> Outline {
        Outline {
            causal: self.causal,
            max_length: i64::from(self.seq_len),
            needs_files: false,
            vocab_size: i64::from(self.vocab_size),
            classes: i64::from(self.vocab_size),
            documents: 1,
            input: Input::Tokens,
            output: Output::PerPosition,
        }
    }

    fn open(&self, _: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(Mqar::new(self.clone())))
    }
}

/// The opened task: nothing but its settings, examples are drawn when asked for.
#[derive(Debug)]
pub struct Mqar {
    cfg: Config,
    weights: Vec<u64>, // one for each slot
}

impl Mqar {
    /// The task of settings that passed their check.
    pub fn new(cfg: Config) -> Self {
        let weights = slot_weights(cfg.slots(), cfg.power_a);
        Self { cfg, weights }
    }

    /// The slots of the queries, in the order in which the keys are asked: drawn one after the other, each time among
    /// those that are left, in proportion to their weights.
    fn query_slots(&self, stream: &mut Stream) -> Vec<usize> {
        let mut weights = self.weights.clone();
        let mut total: u64 = weights.iter().sum();
        (0..self.cfg.kv_pairs)
            .map(|_| {
                let slot = stream.weighted(&weights, total);
                total -= std::mem::take(&mut weights[slot]);
                slot
            })
            .collect()
    }

    /// The values shown in an example's context, in order.
    fn values<'a>(&self, tokens: &'a [i64]) -> impl Iterator<Item = i64> + use<'a> {
        tokens.chunks_exact(2).take(self.cfg.kv_pairs as usize).map(|pair| pair[1])
    }
}

/// `(g + 1)^(a − 1)` for each slot g, the largest being 2^32. Integers, because a last bit that differs between two
/// machines' `powf` would otherwise move a draw.
fn slot_weights(slots: u64, power_a: f64) -> Vec<u64> {
    let weight = |g: u64| ((g + 1) as f64).powf(power_a - 1.0);
    let largest = weight(0).max(weight(slots.saturating_sub(1)));
    (0..slots).map(|g| ((weight(g) / largest * (1_u64 << 32) as f64).round() as u64).max(1)).collect()
}

impl Task for Mqar {
    fn spec(&self) -> TaskSpec {
        TaskSpec {
            vocab_size: i64::from(self.cfg.vocab_size),
            input: Input::Tokens,
            documents: 1,
            classes: i64::from(self.cfg.vocab_size),
            max_length: i64::from(self.cfg.seq_len),
            pad_token: 0,
            causal: self.cfg.causal,
            output: Output::PerPosition,
            judge: Judge::Class,
            by_position: None,
            metric: "accuracy".into(),
            version: 1,
            marks: Vec::new(),
        }
    }

    fn len(&self, split: Split) -> u64 {
        match split {
            Split::Train => self.cfg.train_examples,
            Split::Validation => self.cfg.validation_examples,
            Split::Test => self.cfg.test_examples,
        }
    }

    fn example(&self, split: Split, index: u64) -> Result<Example, DataError> {
        let mut stream = Stream::new(self.cfg.data_seed, Purpose::Mqar(split), index);
        let (k, context) = (self.cfg.kv_pairs as usize, self.cfg.context() as usize);
        let (vocab_size, first_value) = (self.cfg.vocab_size as usize, self.cfg.first_value() as usize);
        let keys = stream.distinct(k, first_value - 1); // one less than the key
        let values = stream.distinct(k, vocab_size - first_value); // less than the value by first_value

        let mut tokens = Vec::with_capacity(self.cfg.seq_len as usize);
        for _ in 0..self.cfg.passes {
            tokens.extend(keys.iter().zip(&values).flat_map(|(key, value)| [key + 1, value + first_value as i64]));
        }
        tokens.resize(self.cfg.seq_len as usize, 0);

        let mut queries: Vec<(i64, i64)> = Vec::with_capacity(k); // position, class
        for (i, slot) in self.query_slots(&mut stream).into_iter().enumerate() {
            let position = context + 2 * slot;
            tokens[position] = keys[i] + 1;
            queries.push((position as i64, values[i] + first_value as i64));
        }
        queries.sort_unstable();
        if self.cfg.random_non_queries {
            for token in tokens[context..].iter_mut().filter(|token| **token == 0) {
                *token = stream.below(vocab_size as u64) as i64;
            }
        }
        let (positions, classes) = queries.into_iter().unzip();
        Ok(Example::new(tokens, Targets::PerPosition { positions, classes }))
    }

    fn floor(&self) -> Result<Bound, DataError> {
        let rows = self.len(Split::Test);
        let mut score = 0.0;
        for index in 0..rows {
            let example = self.example(Split::Test, index)?;
            let mut stream = Stream::new(self.cfg.data_seed, Purpose::Guess, index);
            let values: Vec<i64> = self.values(&example.tokens).collect();
            let classes = example.targets.classes();
            let guesses: Vec<i64> =
                classes.iter().map(|_| values[stream.below(values.len() as u64) as usize]).collect();
            score += bounds::agreement(&guesses, classes);
        }
        let how = "a uniform guess among the values of the context, measured on test".into();
        Ok(Bound { score: bounds::share(score, rows), how })
    }

    fn ceiling(&self) -> Result<Bound, DataError> {
        bounds::oracle(self)
    }

    /// Reads the pairs from the context and looks up the token at every scored position.
    fn solve(&self, example: &Example) -> Option<Vec<i64>> {
        let Targets::PerPosition { positions, .. } = &example.targets else { return None };
        let pairs = example.tokens.get(..2 * self.cfg.kv_pairs as usize)?;
        let recall = |query: i64| pairs.chunks_exact(2).find(|pair| pair[0] == query).map(|pair| pair[1]);
        positions.iter().map(|&at| example.tokens.get(at as usize).copied().and_then(recall)).collect()
    }

    fn notes(&self) -> Vec<String> {
        let k = self.cfg.kv_pairs;
        let ways = |n: u32| (0..k).map(|i| f64::from(n.saturating_sub(i))).product::<f64>();
        let contexts = ways(self.cfg.first_value() - 1) * ways(self.cfg.vocab_size - self.cfg.first_value());
        let drawn: f64 = Split::ALL.iter().map(|&split| self.len(split) as f64).sum();
        if contexts >= 1e3 * drawn {
            return Vec::new();
        }
        vec![format!(
            "these settings allow {contexts:.0} different contexts for {drawn:.0} examples: some test contexts occur in training"
        )]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn task(seq_len: u32, kv_pairs: u32) -> Mqar {
        Mqar::new(Config { seq_len, kv_pairs, ..Config::default() })
    }

    fn parts(example: &Example) -> (&[i64], &[i64]) {
        match &example.targets {
            Targets::PerPosition { positions, classes } => (positions, classes),
            Targets::PerSequence(_) => panic!("MQAR asks at positions"),
        }
    }

    /// Share of queries in the first `k` slots, and the mean slot, over `examples` examples.
    fn slot_statistics(seq_len: u32, k: u32, examples: u64) -> (f64, f64) {
        let task = task(seq_len, k);
        let slots: Vec<f64> = (0..examples)
            .flat_map(|i| {
                let example = task.example(Split::Train, i).unwrap();
                parts(&example).0.iter().map(|at| (at - 2 * i64::from(k)) as f64 / 2.0).collect::<Vec<_>>()
            })
            .collect();
        let count = slots.len() as f64;
        (slots.iter().filter(|&&slot| slot < f64::from(k)).count() as f64 / count, slots.iter().sum::<f64>() / count)
    }

    #[test]
    fn queries_crowd_near_the_context_as_in_zoology_at_length_64() {
        let (share, mean) = slot_statistics(64, 4, 20_000);
        assert!((share - 0.457).abs() < 0.006, "share in slots 0..4 is {share}");
        assert!((mean - 7.15).abs() < 0.12, "mean slot is {mean}");
    }

    #[test]
    fn queries_crowd_near_the_context_as_in_zoology_at_length_256() {
        let (share, mean) = slot_statistics(256, 16, 5_000);
        assert!((share - 0.488).abs() < 0.006, "share in slots 0..16 is {share}");
        assert!((mean - 28.2).abs() < 0.5, "mean slot is {mean}");
    }

    #[test]
    fn when_slots_equal_pairs_every_slot_is_a_query() {
        let example = task(256, 64).example(Split::Test, 0).unwrap();
        assert!(parts(&example).0.iter().copied().eq((128..256).step_by(2)));
    }

    #[test]
    fn two_passes_show_the_context_twice() {
        let task = Mqar::new(Config { passes: 2, seq_len: 64, kv_pairs: 4, ..Config::default() });
        let tokens = task.example(Split::Train, 9).unwrap().tokens;
        assert_eq!(tokens[..8], tokens[8..16]);
        assert!(task.example(Split::Train, 9).unwrap().targets.classes().len() == 4);
    }

    #[test]
    fn without_random_filler_everything_but_context_and_queries_is_zero() {
        let task = Mqar::new(Config { random_non_queries: false, ..Config::default() });
        let example = task.example(Split::Train, 3).unwrap();
        let zeros = example.tokens.iter().filter(|&&token| token == 0).count();
        assert_eq!(zeros, 64 - 8 - 4);
    }

    #[test]
    fn random_filler_leaves_context_queries_and_answers_as_they_were() {
        let zeros = Mqar::new(Config { random_non_queries: false, ..Config::default() });
        let random = Mqar::new(Config::default());
        for index in 0..200 {
            let (bare, filled) =
                (zeros.example(Split::Test, index).unwrap(), random.example(Split::Test, index).unwrap());
            assert_eq!(bare.targets, filled.targets);
            assert!(bare.tokens.iter().zip(&filled.tokens).all(|(bare, filled)| *bare == 0 || bare == filled));
        }
    }

    #[test]
    fn guessing_scores_about_one_in_k() {
        let floor = task(64, 4).floor().unwrap();
        assert!((floor.score - 0.25).abs() < 0.016, "4 deviations at 12,000 queries: {floor:?}");
    }

    #[test]
    fn a_length_that_is_too_short_is_refused_with_the_sum_written_out() {
        let errors = Config { seq_len: 64, kv_pairs: 32, ..Config::default() }.check();
        assert_eq!(errors.len(), 1);
        assert_eq!(
            errors[0].problem,
            "`kv_pairs` 32 and `passes` 1 need 2·32·1 + 2·32 = 128 tokens, more than `seq_len` = 64"
        );
        assert_eq!(errors[0].help, "raise `seq_len` to 128 or lower `kv_pairs` to 16");
    }

    #[test]
    fn every_impossible_setting_is_named() {
        let bad = |change: fn(&mut Config)| {
            let mut cfg = Config::default();
            change(&mut cfg);
            let mut keys: Vec<&str> = cfg.check().iter().map(|error| error.key).collect();
            keys.sort_unstable();
            keys
        };
        assert_eq!(bad(|_| ()), [""; 0]);
        assert_eq!(bad(|c| c.kv_pairs = 1), ["kv_pairs"]);
        assert_eq!(bad(|c| c.passes = 0), ["passes"]);
        assert_eq!(bad(|c| c.seq_len = 65), ["seq_len"]);
        assert_eq!(bad(|c| c.vocab_size = 64), ["vocab_size"]);
        assert_eq!(bad(|c| (c.vocab_size, c.seq_len, c.kv_pairs) = (17, 16, 4)), [""; 0]);
        assert_eq!(bad(|c| c.power_a = f64::NAN), ["power_a"]);
        assert_eq!(bad(|c| c.power_a = -0.1), ["power_a"]);
        assert_eq!(bad(|c| c.train_examples = 0), ["train_examples"]);
        assert_eq!(bad(|c| (c.kv_pairs, c.passes) = (u32::MAX, u32::MAX)), ["kv_pairs", "vocab_size"]);
    }

    #[test]
    fn a_tiny_vocabulary_is_remarked_upon() {
        let tiny = Mqar::new(Config { vocab_size: 18, seq_len: 16, kv_pairs: 2, ..Config::default() });
        assert_eq!(
            tiny.notes(),
            ["these settings allow 4032 different contexts for 104000 examples: some test contexts occur in training"]
        );
        assert!(Mqar::new(Config::default()).notes().is_empty());
    }

    prop_compose! {
        fn settings()(
            kv_pairs in 2_u32..12, passes in 1_u32..4, spare in 0_u32..20, wide in 0_u32..200,
            power_a in 0.0..2.0, random_non_queries: bool, data_seed: u64,
        ) -> Config {
            let seq_len = 2 * kv_pairs * passes + 2 * kv_pairs + 2 * spare;
            let vocab_size = seq_len + 1 + wide;
            Config { kv_pairs, passes, seq_len, vocab_size, power_a, random_non_queries, data_seed, ..Config::default() }
        }
    }

    proptest! {
        #[test]
        fn every_query_is_a_key_whose_value_stands_behind_it_in_the_context(cfg in settings(), index: u64) {
            prop_assert!(cfg.check().is_empty(), "{:?}", cfg.check());
            let task = Mqar::new(cfg.clone());
            let example = task.example(Split::Train, index).unwrap();
            let (positions, classes) = parts(&example);
            let context = &example.tokens[..cfg.context() as usize];
            let half = i64::from(cfg.first_value());
            prop_assert_eq!(example.tokens.len(), cfg.seq_len as usize);
            prop_assert!(context.chunks(2).all(|pair| (1..half).contains(&pair[0]) && pair[1] >= half));
            prop_assert_eq!(positions.len(), cfg.kv_pairs as usize);
            prop_assert!(positions.windows(2).all(|pair| pair[0] < pair[1]));
            for (&at, &class) in positions.iter().zip(classes) {
                prop_assert!(at >= cfg.context() as i64 && at % 2 == 0);
                let shown = context.chunks(2).filter(|pair| pair[0] == example.tokens[at as usize]);
                let answers: Vec<i64> = shown.map(|pair| pair[1]).collect();
                prop_assert_eq!(answers, vec![class; cfg.passes as usize]);
            }
            let answer = task.solve(&example);
            prop_assert_eq!(answer.as_deref(), Some(classes));
        }
    }
}
