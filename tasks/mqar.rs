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
//! Zoology's figure 2 is one setting at a time: (`seq_len`, `kv_pairs`) = (64, 4), (128, 8), (256, 16), (512, 64) with
//! `random_non_queries: false`. Figure 2 of Arora et al. 2024 (Based), arXiv:2402.18668, is `mixture: based`: five kinds
//! of training examples and seven of test examples, never two in a batch, scored by K.
//!
//! A query's answer always lies before it, and what follows a query is independent of its answer. So a bidirectional
//! mixer gains nothing from seeing the whole sequence, and `causal: false` lets mixers without a causal form compete.

use crate::core::drawn::{self, Counts};
use crate::core::family::{Family, Outline, Variant};
use crate::core::limits::COUNT;
use crate::core::rng::{Purpose, Stream};
use crate::{
    Bound, ConfigError, DataDir, DataError, Example, FRESH, Goodness, Metric, Section, Sections, Split, Targets, Task,
    TaskSpec, core::bounds,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// A published mixture of kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Mixture {
    /// Figure 2 of Based.
    Based,
}

/// Examples of one length and one number of pairs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kind {
    /// Tokens of every example; even.
    pub seq_len: u32,
    /// K.
    pub kv_pairs: u32,
    /// How many there are; null, in every kind of a training mixture: new ones at every step.
    pub examples: Option<u64>,
}

impl Mixture {
    /// The kinds of a split, (L, K, examples).
    fn kinds(self, split: Split) -> Vec<Kind> {
        let Self::Based = self;
        let kind = |(seq_len, kv_pairs, examples)| Kind { seq_len, kv_pairs, examples: Some(examples) };
        let train = [(64, 4, 100_000), (128, 8, 20_000), (256, 16, 20_000), (256, 32, 20_000), (256, 64, 20_000)];
        let test = [(64, 4), (64, 8), (64, 16), (128, 32), (256, 64), (512, 128), (1024, 256)];
        match split {
            Split::Test => test.into_iter().map(|(l, k)| kind((l, k, 1_000))).collect(),
            Split::Train | Split::Validation => train.into_iter().map(kind).collect(),
        }
    }
}

/// `task: { mqar: { seq_len: 64, kv_pairs: 4 } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Both mixtures at once; null: the lists below.
    pub mixture: Option<Mixture>,
    /// Kinds of training examples, `[{ seq_len: 64, kv_pairs: 4, examples: 100000 }, …]`; null: one, of the keys here.
    pub train_mixture: Option<Vec<Kind>>,
    /// Kinds of test examples, likewise.
    pub test_mixture: Option<Vec<Kind>>,
    /// Training examples; null: new ones at every step. Zoology's figure 2: 100,000.
    pub train_examples: Option<u64>,
    /// Validation examples, from a stream of their own, shared out over the kinds that are trained on.
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
            mixture: None,
            train_mixture: None,
            test_mixture: None,
            train_examples: Some(100_000),
            validation_examples: 1_000,
            test_examples: 3_000,
            data_seed: 0,
            causal: true,
        }
    }
}

impl Config {
    /// The smallest value; keys lie below.
    fn first_value(&self) -> u32 {
        self.vocab_size / 2
    }

    /// The list that says what a split's kinds are, if there is one.
    fn listed(&self, split: Split) -> Option<Vec<Kind>> {
        let list = if split == Split::Test { &self.test_mixture } else { &self.train_mixture };
        self.mixture.map(|mixture| mixture.kinds(split)).or_else(|| list.clone())
    }

    /// What a split consists of.
    fn kinds(&self, split: Split) -> Vec<Kind> {
        let one = |examples| vec![Kind { seq_len: self.seq_len, kv_pairs: self.kv_pairs, examples }];
        match split {
            Split::Train => self.listed(split).unwrap_or_else(|| one(self.train_examples)),
            Split::Test => self.listed(split).unwrap_or_else(|| one(Some(self.test_examples))),
            Split::Validation => {
                let mut kinds = self.listed(split).unwrap_or_else(|| one(None));
                let (n, all) = (kinds.len() as u64, self.validation_examples);
                for (i, kind) in (0..n).zip(&mut kinds) {
                    kind.examples = Some(all / n + u64::from(i < all % n));
                }
                kinds
            }
        }
    }

    /// Longest example of any split.
    fn max_length(&self) -> u32 {
        Split::ALL.into_iter().flat_map(|split| self.kinds(split)).map(|kind| kind.seq_len).max().unwrap_or_default()
    }

    /// What is wrong with a kind. `keys` are the keys to blame for its length and its pairs.
    fn check_kind(&self, kind: Kind, keys: [&'static str; 2], wrong: &mut dyn FnMut(&'static str, String, String)) {
        let (length, k, r) = (u64::from(kind.seq_len), u64::from(kind.kv_pairs), u64::from(self.passes));
        if k < 2 {
            let problem = format!("`kv_pairs` is {k}, and with fewer than two pairs there is nothing to tell apart");
            wrong(keys[1], problem, "use 2 or more".into());
        }
        if length % 2 == 1 {
            let help = format!("use {} or {}", length - 1, length + 1);
            wrong(keys[0], format!("`seq_len` is {length}, which is odd; slots are two tokens wide"), help);
        }
        let needed = kind.context(self.passes).saturating_add(2 * k);
        if needed > length {
            let problem = format!(
                "`kv_pairs` {k} and `passes` {r} need 2·{k}·{r} + 2·{k} = {needed} tokens, more than `seq_len` = {length}"
            );
            let help = format!("raise `seq_len` to {needed} or lower `kv_pairs` to {}", length / (2 * r.max(1) + 2));
            wrong(keys[1], problem, help);
        }
        if u64::from(self.vocab_size) <= length {
            let problem = format!("`vocab_size` is {}, not more than `seq_len` = {length}", self.vocab_size);
            wrong("vocab_size", problem, format!("use {} or more; Zoology uses 8192", length + 1));
        }
        let there = u64::from(self.first_value()).saturating_sub(1);
        if k > there {
            let problem = format!("`vocab_size` {} leaves {there} keys, fewer than `kv_pairs` = {k}", self.vocab_size);
            wrong("vocab_size", problem, format!("use {} or more", 2 * (k + 1)));
        }
    }

    /// What is wrong with a list of kinds.
    fn check_list(
        &self,
        key: &'static str,
        list: &[Kind],
        split: Split,
        wrong: &mut dyn FnMut(&'static str, String, String),
    ) {
        if list.is_empty() {
            wrong(key, format!("`{key}` is an empty list"), "name at least one kind, or use null".into());
        }
        list.iter().for_each(|&kind| self.check_kind(kind, [key, key], wrong));
        if let Some(kind) = list.iter().find(|kind| kind.examples.is_some_and(|n| !(1..=FRESH).contains(&n))) {
            let problem = format!("`{key}` has `examples` {}, not 1 to 2^40", kind.examples.unwrap_or_default());
            wrong(key, problem, "use 1 or more".into());
        }
        let fresh = list.iter().filter(|kind| kind.examples.is_none()).count();
        if split == Split::Test && fresh > 0 {
            wrong(key, format!("`{key}` has a kind without `examples`"), "say how many; Based has 1000".into());
        } else if fresh > 0 && fresh < list.len() {
            let problem = format!("`{key}` has {fresh} of {} kinds with `examples: null`", list.len());
            wrong(key, problem, "use null in all of them or in none: the others would hardly ever come".into());
        }
        let twice = |i: usize| list[..i].iter().any(|kind| kind.kv_pairs == list[i].kv_pairs);
        if split == Split::Test
            && let Some(i) = (0..list.len()).find(|&i| twice(i))
        {
            let problem = format!("`{key}` has `kv_pairs` {} twice", list[i].kv_pairs);
            wrong(key, problem, "name each number of pairs once: scores are kept by it".into());
        }
    }
}

impl Kind {
    /// 2KR, the tokens of the context.
    fn context(self, passes: u32) -> u64 {
        (2 * u64::from(self.kv_pairs)).saturating_mul(u64::from(passes))
    }

    /// Pairs of tokens after the context; a query opens one.
    fn slots(self, passes: u32) -> u64 {
        u64::from(self.seq_len).saturating_sub(self.context(passes)) / 2
    }
}

impl Family for Config {
    const NAME: &'static str = "mqar";
    const ABOUT: &'static str = "multi-query associative recall (Zoology): recall the value of each key that returns";
    const PAPER: &'static str = "Arora et al. 2024 (Zoology), arXiv:2312.04927";
    const STREAM: &'static str = "mqar";
    const LIMITS: &'static [(&'static str, u32)] = &[("examples", COUNT)];

    fn check(&self) -> Vec<ConfigError> {
        let mut errors: Vec<ConfigError> = Vec::new();
        let mut wrong = |key: &'static str, problem: String, help: String| {
            let error = ConfigError { key, problem, help };
            if !errors.contains(&error) {
                errors.push(error);
            }
        };
        if self.passes == 0 {
            wrong("passes", "`passes` is 0, so no pair is ever shown".into(), "use 1, as Zoology does".into());
        }
        let lists =
            [("train_mixture", &self.train_mixture, Split::Train), ("test_mixture", &self.test_mixture, Split::Test)];
        for (key, list, split) in lists {
            match (list, self.mixture) {
                (Some(_), Some(_)) => {
                    let problem = format!("both `mixture` and `{key}` say what the kinds are");
                    wrong(key, problem, "use one of them".into());
                }
                (Some(list), None) => self.check_list(key, list, split, &mut wrong),
                (None, Some(_)) => {
                    self.kinds(split).into_iter().for_each(|kind| self.check_kind(kind, ["mixture"; 2], &mut wrong));
                }
                (None, None) => self.check_kind(self.kinds(split)[0], ["seq_len", "kv_pairs"], &mut wrong),
            }
        }
        if !(0.0..=2.0).contains(&self.power_a) {
            let help = "use a number from 0 to 2; Zoology uses 0.01, and 1 spreads queries evenly".into();
            wrong("power_a", format!("`power_a` is {}, which is not between 0 and 2", self.power_a), help);
        }
        for error in Counts::new(self.train_examples, self.validation_examples, self.test_examples, &[]).errors() {
            wrong(error.key, error.problem, error.help);
        }
        let kinds = self.listed(Split::Validation).map_or(1, |list| list.len() as u64);
        if (1..kinds).contains(&self.validation_examples) {
            let problem = format!(
                "`validation_examples` is {}, fewer than {kinds} kinds to share them",
                self.validation_examples
            );
            wrong("validation_examples", problem, format!("use {kinds} or more"));
        }
        errors
    }

    fn outline(&self) -> Outline {
        Outline {
            causal: self.causal,
            max_length: i64::from(self.max_length()),
            vocab_size: i64::from(self.vocab_size),
            classes: i64::from(self.vocab_size),
            ..drawn::OUTLINE
        }
    }

    fn open(&self, _: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(Mqar::new(self.clone())))
    }

    fn variants() -> Vec<Variant> {
        vec![
            // One of K = 4 values; 500 examples of 4 queries are 2,000 guesses of deviation 0.01.
            Variant::drawn(json!({})).floor(0.25, 0.04).pin("542205ed54cad881"),
            Variant::drawn(json!({ "seq_len": 32, "vocab_size": 64 })).floor(0.25, 0.04).pin("d7c27d9b975a4f13"),
            Variant::drawn(json!({ "seq_len": 32, "vocab_size": 64, "random_non_queries": false, "passes": 2 })).floor(0.25, 0.04).pin("65e391d7eaeb8216"),
            // Three examples of 4 pairs to one of 16: 300 · 4 and 100 · 16 guesses.
            Variant::new(json!({
                "train_mixture": [
                    { "seq_len": 32, "kv_pairs": 4, "examples": 60 }, { "seq_len": 64, "kv_pairs": 8, "examples": 30 },
                ],
                "test_mixture": [
                    { "seq_len": 64, "kv_pairs": 4, "examples": 300 }, { "seq_len": 128, "kv_pairs": 16, "examples": 100 },
                ],
                "validation_examples": 20,
            })).floor(0.75 / 4.0 + 0.25 / 16.0, 0.04).pin("32558635f8105d1d"),
        ]
    }

    fn small() -> Vec<Value> {
        vec![json!({ "seq_len": 24, "kv_pairs": 4, "vocab_size": 32 })]
    }
}

/// The opened task: nothing but its settings, examples are drawn when asked for.
#[derive(Debug)]
pub struct Mqar {
    cfg: Config,
    parts: [Vec<Part>; 3], // of each split
}

/// A subset of a split.
#[derive(Debug)]
struct Part {
    kind: Kind,
    examples: u64,
    weights: Vec<u64>, // one for each slot
}

impl Mqar {
    /// The task of settings that passed their check.
    pub fn new(cfg: Config) -> Self {
        let part = |kind: Kind| Part {
            kind,
            examples: kind.examples.unwrap_or(FRESH),
            weights: slot_weights(kind.slots(cfg.passes), cfg.power_a),
        };
        let parts = Split::ALL.map(|split| cfg.kinds(split).into_iter().map(part).collect());
        Self { cfg, parts }
    }

    fn parts(&self, split: Split) -> &[Part] {
        &self.parts[split as usize]
    }

    /// Example `index` of a split, of the given kind.
    fn draw(&self, split: Split, index: u64, part: &Part) -> Example {
        let mut stream = Stream::new(self.cfg.data_seed, Purpose::of_split(Config::STREAM, split), index);
        let (k, context) = (part.kind.kv_pairs as usize, part.kind.context(self.cfg.passes) as usize);
        let (vocab_size, first_value) = (self.cfg.vocab_size as usize, self.cfg.first_value() as usize);
        let keys = stream.distinct(k, first_value - 1); // one less than the key
        let values = stream.distinct(k, vocab_size - first_value); // less than the value by first_value

        let mut tokens = Vec::with_capacity(part.kind.seq_len as usize);
        for _ in 0..self.cfg.passes {
            tokens.extend(keys.iter().zip(&values).flat_map(|(key, value)| [key + 1, value + first_value as i64]));
        }
        tokens.resize(part.kind.seq_len as usize, 0);

        let mut queries: Vec<(i64, i64)> = Vec::with_capacity(k); // position, class
        for (i, slot) in query_slots(&part.weights, k, &mut stream).into_iter().enumerate() {
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
        Example::new(tokens, Targets::PerPosition { positions, classes })
    }
}

/// The slots of `k` queries, in the order in which the keys are asked: drawn one after the other, each time among those that
/// are left, in proportion to their weights.
fn query_slots(weights: &[u64], k: usize, stream: &mut Stream) -> Vec<usize> {
    let mut weights = weights.to_vec();
    let mut total: u64 = weights.iter().sum();
    (0..k)
        .map(|_| {
            let slot = stream.weighted(&weights, total);
            total -= std::mem::take(&mut weights[slot]);
            slot
        })
        .collect()
}

/// The key–value pairs at the front of an example of `k` pairs.
fn pairs(tokens: &[i64], k: usize) -> impl Iterator<Item = (i64, i64)> {
    tokens.chunks_exact(2).take(k).map(|pair| (pair[0], pair[1]))
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
        TaskSpec { metric: Metric::accuracy(), version: 1, ..self.cfg.outline().spec() }
    }

    fn len(&self, split: Split) -> u64 {
        self.parts(split).iter().map(|part| part.examples).sum()
    }

    fn sections(&self, split: Split) -> Sections {
        let section = |part: &Part| Section { at: f64::from(part.kind.kv_pairs), examples: part.examples };
        let axis = if self.cfg.listed(split).is_some() { "pairs" } else { "" };
        Sections { axis, parts: self.parts(split).iter().map(section).collect() }
    }

    fn example(&self, split: Split, index: u64) -> Result<Example, DataError> {
        let parts = self.parts(split);
        let own = if let [_] = parts { 0 } else { self.sections(split).find(index).0 };
        Ok(self.draw(split, index, &parts[own]))
    }

    /// The first key, its value, the slot where it returns, and the token after the context's end plus one, which is never a
    /// query: each is one draw of an example, so their counts are exactly multinomial.
    fn distributions(&self, examples: u64) -> Result<Vec<Goodness>, DataError> {
        let (vocab_size, first_value) = (i64::from(self.cfg.vocab_size), i64::from(self.cfg.first_value()));
        let mut found = Vec::new();
        for part in self.parts(Split::Train) {
            let of = |what: &str| format!("{what}, length {}, {} pairs", part.kind.seq_len, part.kind.kv_pairs);
            let context = part.kind.context(self.cfg.passes) as usize;
            let (mut keys, mut values, mut fillers) = (Vec::new(), Vec::new(), Vec::new());
            let mut slots = vec![0; part.weights.len()];
            for index in 0..examples {
                let Example { tokens, targets, .. } = self.draw(Split::Train, index, part);
                let Targets::PerPosition { positions, .. } = targets else { continue };
                keys.push(tokens[0] as u64 - 1);
                values.push((tokens[1] - first_value) as u64);
                fillers.push(tokens[context + 1] as u64);
                let asked = positions.iter().find(|&&at| tokens[at as usize] == tokens[0]);
                asked.into_iter().for_each(|&at| slots[(at as usize - context) / 2] += 1);
            }
            let weights: Vec<f64> = part.weights.iter().map(|&weight| weight as f64).collect();
            found.extend(drawn::uniform(of("first key"), first_value as u64 - 1, keys.into_iter()));
            found.extend(drawn::uniform(of("first value"), (vocab_size - first_value) as u64, values.into_iter()));
            found.extend(Goodness::chi_square(of("slot of the first key's query"), &slots, &weights));
            if self.cfg.random_non_queries {
                found.extend(drawn::uniform(of("filler"), vocab_size as u64, fillers.into_iter()));
            }
        }
        Ok(found)
    }

    fn floor(&self) -> Result<Bound, DataError> {
        let how = "a uniform guess among the values of the context";
        bounds::guesser(self, self.cfg.data_seed, how, |example, stream| {
            let k = example.targets.classes().len();
            let values: Vec<i64> = pairs(&example.tokens, k).map(|(_, value)| value).collect();
            (0..k).map(|_| values[stream.below(k as u64) as usize]).collect()
        })
    }

    fn ceiling(&self) -> Result<Bound, DataError> {
        bounds::oracle(self)
    }

    /// Reads the pairs from the context, as many as are asked for, and looks up the token at every scored position.
    fn solve(&self, example: &Example) -> Option<Vec<i64>> {
        let Targets::PerPosition { positions, .. } = &example.targets else { return None };
        let recall =
            |query: i64| pairs(&example.tokens, positions.len()).find(|pair| pair.0 == query).map(|pair| pair.1);
        positions.iter().map(|&at| example.tokens.get(at as usize).copied().and_then(recall)).collect()
    }

    fn notes(&self) -> Vec<String> {
        let values = self.cfg.vocab_size - self.cfg.first_value();
        let ways = |n: u32, k: u32| (0..k).map(|i| f64::from(n.saturating_sub(i))).product::<f64>();
        let contexts = |kind: &Kind| ways(self.cfg.first_value() - 1, kind.kv_pairs) * ways(values, kind.kv_pairs);
        let fewest = self.parts(Split::Test).iter().map(|part| contexts(&part.kind)).fold(f64::INFINITY, f64::min);
        let drawn: f64 = Split::ALL.iter().map(|&split| self.len(split) as f64).sum();
        if fewest >= 1e3 * drawn {
            return Vec::new();
        }
        let examples = if self.len(Split::Train) >= FRESH { "ever new".into() } else { format!("{drawn:.0}") };
        vec![format!(
            "these settings allow {fewest:.0} different contexts for {examples} examples: some test contexts occur in training"
        )]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::conformance::faulty;
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
            let mut keys = faulty(Config::default(), change);
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
        assert_eq!(bad(|c| c.train_examples = Some(0)), ["train_examples"]);
        assert_eq!(bad(|c| c.train_examples = None), [""; 0]);
        assert_eq!(bad(|c| c.mixture = Some(Mixture::Based)), [""; 0]);
        assert_eq!(bad(|c| (c.mixture, c.vocab_size) = (Some(Mixture::Based), 1024)), ["vocab_size"]);
        assert_eq!(bad(|c| (c.mixture, c.validation_examples) = (Some(Mixture::Based), 4)), ["validation_examples"]);
        let kinds = |list: &[(u32, u32, Option<u64>)]| -> Option<Vec<Kind>> {
            Some(list.iter().map(|&(seq_len, kv_pairs, examples)| Kind { seq_len, kv_pairs, examples }).collect())
        };
        let mixed = |train, test| {
            let cfg = Config { train_mixture: train, test_mixture: test, ..Config::default() };
            cfg.check().into_iter().map(|error| error.problem).collect::<Vec<_>>()
        };
        let two = kinds(&[(64, 4, Some(1)), (64, 8, Some(1))]);
        assert_eq!(mixed(two.clone(), two.clone()), [""; 0]);
        assert_eq!(mixed(kinds(&[(64, 4, None), (64, 8, None)]), two.clone()), [""; 0]);
        assert_eq!(
            mixed(kinds(&[(64, 4, None), (64, 8, Some(1))]), None),
            ["`train_mixture` has 1 of 2 kinds with `examples: null`"]
        );
        assert_eq!(mixed(None, kinds(&[(64, 4, None)])), ["`test_mixture` has a kind without `examples`"]);
        assert_eq!(
            mixed(None, kinds(&[(64, 4, Some(1)), (32, 4, Some(1))])),
            ["`test_mixture` has `kv_pairs` 4 twice"]
        );
        assert_eq!(
            mixed(kinds(&[(64, 32, Some(1))]), None),
            ["`kv_pairs` 32 and `passes` 1 need 2·32·1 + 2·32 = 128 tokens, more than `seq_len` = 64"]
        );
        assert_eq!(bad(|c| (c.kv_pairs, c.passes) = (u32::MAX, u32::MAX)), ["kv_pairs", "vocab_size"]);
    }

    #[test]
    fn the_mixture_of_based_has_its_kinds_in_subsets() {
        let task = Mqar::new(Config { mixture: Some(Mixture::Based), ..Config::default() });
        assert_eq!(Split::ALL.map(|split| task.len(split)), [180_000, 1_000, 7_000]);
        let pairs = |split| task.sections(split).parts.iter().map(|part| part.at).collect::<Vec<_>>();
        assert_eq!(pairs(Split::Test), [4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0]);
        assert_eq!(pairs(Split::Validation), [4.0, 8.0, 16.0, 32.0, 64.0]);
        let size = |split, index| {
            let example = task.example(split, index).unwrap();
            (example.tokens.len(), example.targets.classes().len())
        };
        assert_eq!((size(Split::Train, 99_999), size(Split::Train, 100_000)), ((64, 4), (128, 8)));
        assert_eq!((size(Split::Train, 179_999), size(Split::Test, 6_999)), ((256, 64), (1024, 256)));
        assert_eq!((size(Split::Validation, 199), size(Split::Validation, 200)), ((64, 4), (128, 8)));
        assert_eq!(task.spec().max_length, 1024);
    }

    #[test]
    fn a_mixture_of_one_kind_has_the_tokens_of_the_single_setting() {
        let single = Mqar::new(Config::default());
        let list = Some(vec![Kind { seq_len: 64, kv_pairs: 4, examples: Some(50) }]);
        let mixed = Mqar::new(Config { train_mixture: list.clone(), test_mixture: list, ..Config::default() });
        for split in Split::ALL {
            assert_eq!(single.example(split, 7).unwrap(), mixed.example(split, 7).unwrap());
        }
    }

    #[test]
    fn fresh_examples_never_end_and_begin_as_the_fixed_ones() {
        let (fresh, fixed) = (Config { train_examples: None, ..Config::default() }, Config::default());
        let (fresh, fixed) = (Mqar::new(fresh), Mqar::new(fixed));
        assert_eq!(fresh.len(Split::Train), FRESH);
        assert_eq!(fresh.example(Split::Train, 5).unwrap(), fixed.example(Split::Train, 5).unwrap());
        fresh.example(Split::Train, FRESH - 1).unwrap();
    }

    #[test]
    fn a_tiny_vocabulary_is_remarked_upon() {
        let tiny = Mqar::new(Config { vocab_size: 18, seq_len: 16, kv_pairs: 2, ..Config::default() });
        assert_eq!(
            tiny.notes(),
            ["these settings allow 4032 different contexts for 104000 examples: some test contexts occur in training"]
        );
        let fresh = Mqar::new(Config { train_examples: None, ..tiny.cfg });
        assert!(fresh.notes()[0].contains("4032 different contexts for ever new examples"));
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
            let kind = cfg.kinds(Split::Train)[0];
            let context = &example.tokens[..kind.context(cfg.passes) as usize];
            let half = i64::from(cfg.first_value());
            prop_assert_eq!(example.tokens.len(), cfg.seq_len as usize);
            prop_assert!(context.chunks(2).all(|pair| (1..half).contains(&pair[0]) && pair[1] >= half));
            prop_assert_eq!(positions.len(), cfg.kv_pairs as usize);
            prop_assert!(positions.windows(2).all(|pair| pair[0] < pair[1]));
            for (&at, &class) in positions.iter().zip(classes) {
                prop_assert!(at >= context.len() as i64 && at % 2 == 0);
                let shown = context.chunks(2).filter(|pair| pair[0] == example.tokens[at as usize]);
                let answers: Vec<i64> = shown.map(|pair| pair[1]).collect();
                prop_assert_eq!(answers, vec![class; cfg.passes as usize]);
            }
            let answer = task.solve(&example);
            prop_assert_eq!(answer.as_deref(), Some(classes));
        }
    }
}
