//! Induction heads: a special symbol comes again, and what followed it the first time is asked for.
//!
//! ```text
//! 3 9 2 S 7 1 4 0 5 9 … 6 2 S         n random symbols with S and its successors in them, then S
//!       ^^^                 ↓
//!                           7          induction_len symbols; all but the last are shown before the next is asked for
//! ```
//! Paper    Gu and Dao 2023 (Mamba), arXiv:2312.00752; Fu et al. 2023 (H3), arXiv:2212.14052 (several symbols to copy, several
//!          places)
//! Matches  the form of HazyResearch/safari@42f326e:src/dataloaders/synthetics.py: one place with probability ½, otherwise
//!          `triggers` places less those that overlap; its two special tokens with `form: h3`
//! Departs  the Mamba paper's own generator is not public: length 256 and 16 tokens, one of them special, are our choice after the
//!          paper's description; `seq_len` counts every input token; no input is shared between splits; the random bits are our own
//!
//! The last answer is not in the input, so with one symbol to copy a bidirectional mixer competes fairly.

use crate::associative_recall::{Scored, causal_error, targets};
use crate::core::drawn::{self, Counts, Synthetic};
use crate::core::family::{Family, Outline, Variant};
use crate::core::rng::{Purpose, Stream};
use crate::{Bound, ConfigError, DataDir, DataError, Example, Goodness, Metric, Split, Task, TaskSpec, core::bounds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Whose vocabulary.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Form {
    /// The last token is special.
    Mamba,
    /// The last two are: the copy prefix, and a noop that never comes.
    H3,
}

/// `task: { induction_heads: { form: mamba, seq_len: 256, test_lengths: [256, 1024, 4096] } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whose vocabulary: `mamba` has one special token, `h3` two.
    pub form: Form,
    /// Tokens there are, special ones included. Mamba: 16; H3: 20 or 40.
    pub vocab_size: u32,
    /// Tokens of a training or validation example. Mamba: 256.
    pub seq_len: u32,
    /// Tokens of test examples, each length a subset of the test split. Mamba: 2^6 to 2^20.
    pub test_lengths: Vec<u32>,
    /// Symbols to copy. Mamba: 1.
    pub induction_len: u32,
    /// Most places where the special symbol stands before its last. Mamba: 1.
    pub triggers: u32,
    /// Where training examples are scored: at the answers (`last`), or at `all` positions on their next token.
    pub targets: Scored,
    /// Training examples; null: new ones at every step, as Mamba. H3: 5,000.
    pub train_examples: Option<u64>,
    /// Validation examples.
    pub validation_examples: u64,
    /// Test examples of each length.
    pub test_examples: u64,
    /// Seed of the examples; not the run's seed.
    pub data_seed: u64,
    /// Whether position t may only read up to t; `false` goes with `targets: last` and one symbol to copy.
    pub causal: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            form: Form::Mamba,
            vocab_size: 16,
            seq_len: 256,
            test_lengths: vec![64, 128, 256, 512, 1024],
            induction_len: 1,
            triggers: 1,
            targets: Scored::Last,
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
        Counts::new(self.train_examples, self.validation_examples, self.test_examples, &self.test_lengths)
    }

    /// Symbols that are not special; the copy prefix is the first after them.
    fn plain(&self) -> u64 {
        u64::from(self.vocab_size).saturating_sub(if self.form == Form::Mamba { 1 } else { 2 })
    }

    fn prefix(&self) -> i64 {
        self.plain() as i64
    }

    /// Tokens before the last copy prefix.
    fn body(&self, length: u32) -> usize {
        length.saturating_sub(self.induction_len) as usize
    }

    /// Places where a copy prefix and its successors fit.
    fn places(&self, length: u32) -> u64 {
        (self.body(length) as u64).saturating_sub(u64::from(self.induction_len))
    }
}

impl Family for Config {
    const NAME: &'static str = "induction_heads";
    const ABOUT: &'static str = "induction heads (H3, Mamba): what followed the special symbol before, at any length";
    const PAPER: &'static str = "Gu and Dao 2023 (Mamba), arXiv:2312.00752; Fu et al. 2023 (H3), arXiv:2212.14052";
    const STREAM: &'static str = "induction heads";

    fn check(&self) -> Vec<ConfigError> {
        let mut errors = self.counts().errors();
        let mut wrong = |key, problem: String, help: String| errors.push(ConfigError { key, problem, help });
        let (n, plain, least) = (u64::from(self.induction_len), self.plain(), drawn::INPUTS);
        if self.triggers > self.seq_len {
            let problem = format!("`triggers` is {}, more than `seq_len` = {}", self.triggers, self.seq_len);
            wrong("triggers", problem, "use 1, or a few".into());
        }
        for (key, value) in [("induction_len", self.induction_len), ("triggers", self.triggers)] {
            if value == 0 {
                wrong(key, format!("`{key}` is 0, so there is nothing to copy"), "use 1 or more".into());
            }
        }
        if plain < 2 {
            let special = if self.form == Form::Mamba { 1 } else { 2 };
            let problem = format!("`vocab_size` is {} < 2 plain symbols + {special} special", self.vocab_size);
            wrong("vocab_size", problem, format!("use {} or more; Mamba uses 16", 2 + special));
        }
        // Copy prefix and symbols, twice less the last symbol; and so many free symbols that three splits can differ.
        let free = (1_u32..).find(|&free| plain.max(2).pow(free) >= least).map_or(0, u64::from);
        let shortest = (2 * n + 1).max(n + 1 + free);
        if u64::from(self.seq_len) < shortest {
            let problem = format!(
                "`seq_len` is {} < max(2·{n} + 1, {n} + 1 + {free}) = {shortest}: room for two copies of {n}, and {free} free \
                 symbols, for {plain}^{free} ≥ {least} inputs",
                self.seq_len
            );
            wrong("seq_len", problem, format!("use {shortest} or more"));
        }
        if self.seq_len > 1 << 20 {
            wrong("seq_len", format!("`seq_len` is {}, more than 2^20", self.seq_len), "use at most 1048576".into());
        }
        if n > 16 {
            wrong("induction_len", format!("`induction_len` is {n}, more than 16"), "use 16 or less".into());
        }
        if !self.causal && n > 1 {
            let problem =
                format!("`induction_len` is {n} > 1 and `causal` is false, so answers would be read from the input");
            wrong("induction_len", problem, "use 1, or `causal: true`".into());
        }
        errors.extend(drawn::length_errors(&self.test_lengths, shortest, self.seq_len));
        errors.extend(causal_error(self.causal, self.targets));
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
        Ok(Box::new(InductionHeads { cfg: self.clone() }))
    }

    fn variants() -> Vec<Variant> {
        vec![
            Variant::drawn(json!({ "test_examples": 250, "seq_len": 48, "test_lengths": [32, 64] }))
                .floor(1.0 / 15.0, 0.045)
                .pin("e16a73c19af6dc73"),
            Variant::drawn(json!({
                "form": "h3", "vocab_size": 20, "test_lengths": [64], "seq_len": 64, "induction_len": 3, "triggers": 4,
                "targets": "all",
            }))
            .floor(1.0 / 18.0, 0.024)
            .pin("39dfb6c80181bf51"),
        ]
    }

    fn small() -> Vec<Value> {
        vec![json!({ "seq_len": 16, "test_lengths": [16] })]
    }
}

/// The opened task.
#[derive(Debug)]
pub struct InductionHeads {
    cfg: Config,
}

impl InductionHeads {
    /// An input of `length` tokens that `split` owns. Its first tokens decide, and the rest is drawn only then.
    fn input(&self, length: u32, split: Split, stream: &mut Stream) -> Vec<i64> {
        let (n, body) = (self.cfg.induction_len as usize, self.cfg.body(length));
        let mut at = Vec::new();
        let mut tokens = drawn::owned(split, self.cfg.data_seed, || {
            let one = self.cfg.triggers > 1 && stream.below(2) == 0;
            let triggers = if one { 1 } else { self.cfg.triggers };
            at = (0..triggers).map(|_| stream.below(self.cfg.places(length)) as usize).collect();
            at.sort_unstable();
            let mut front = drawn::symbols(stream, body.min(drawn::HEAD + n), self.cfg.plain());
            self.put(&at, &mut front);
            front
        });
        tokens.extend(drawn::symbols(stream, body - tokens.len(), self.cfg.plain()));
        self.put(&at, &mut tokens);
        let copy = tokens[at[0] + 1..at[0] + n].to_vec(); // all but the last, which is asked for
        tokens.push(self.cfg.prefix());
        tokens.extend(copy);
        tokens
    }

    /// Writes the copy prefix, and what follows its first place, at the places `at` as far as they lie within `tokens`. Places
    /// rise; those that an earlier copy covers are left out.
    fn put(&self, at: &[usize], tokens: &mut [i64]) {
        let (n, end) = (self.cfg.induction_len as usize, tokens.len());
        let mut free = 0;
        for &place in at.iter().filter(|&&place| place < end) {
            if place >= free {
                tokens[place] = self.cfg.prefix();
                let fits = n.min(end - place - 1);
                tokens.copy_within(at[0] + 1..at[0] + 1 + fits, place + 1);
                free = place + n + 1;
            }
        }
    }

    /// What follows the first copy prefix.
    fn answers<'a>(&self, tokens: &'a [i64]) -> Option<&'a [i64]> {
        let first = tokens.iter().position(|&token| token == self.cfg.prefix())?;
        tokens.get(first + 1..=first + self.cfg.induction_len as usize)
    }
}

impl Synthetic for InductionHeads {
    fn describe(&self) -> TaskSpec {
        TaskSpec { metric: Metric::accuracy(), version: 1, ..self.cfg.outline().spec() }
    }

    fn counts(&self) -> Counts<'_> {
        self.cfg.counts()
    }

    fn draw(&self, split: Split, index: u64) -> Example {
        let length = self.cfg.counts().length(split, index, self.cfg.seq_len);
        let mut stream = Stream::new(self.cfg.data_seed, Purpose::of_split(Config::STREAM, split), index);
        let tokens = self.input(length, split, &mut stream);
        let scored = if split == Split::Train { self.cfg.targets } else { Scored::Last };
        let targets = targets(&tokens, self.answers(&tokens).unwrap_or_default(), scored);
        Example::new(tokens, targets)
    }

    fn tested(&self, examples: u64) -> Result<Vec<Goodness>, DataError> {
        let inputs: Vec<Vec<i64>> =
            (0..examples).map(|i| self.example(Split::Train, i).map(|e| e.tokens)).collect::<Result<_, _>>()?;
        let prefix = self.cfg.prefix();
        let answers = inputs.iter().filter_map(|tokens| Some(*self.answers(tokens)?.first()? as u64));
        let opening = inputs.iter().map(|tokens| tokens[0]).filter(|&token| token != prefix).map(|token| token as u64);
        let mut found = vec![
            drawn::uniform("answer", self.cfg.plain(), answers),
            drawn::uniform("first symbol", self.cfg.plain(), opening),
        ];
        if self.cfg.triggers == 1 {
            let place = |tokens: &Vec<i64>| tokens.iter().position(|&token| token == prefix).map(|at| at as u64);
            let places = inputs.iter().filter_map(place);
            found.push(drawn::uniform("place of the special symbol", self.cfg.places(self.cfg.seq_len), places));
        }
        Ok(found.into_iter().flatten().collect())
    }

    fn guess(&self) -> Result<Bound, DataError> {
        bounds::guesser(self, self.cfg.data_seed, "a uniform guess among the plain symbols", |_, stream| {
            drawn::symbols(stream, self.cfg.induction_len as usize, self.cfg.plain())
        })
    }

    fn answer(&self, example: &Example) -> Option<Vec<i64>> {
        let answers = self.answers(&example.tokens)?;
        (example.targets.classes().len() == answers.len()).then(|| answers.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Targets;
    use proptest::prelude::*;

    fn task(cfg: Config) -> InductionHeads {
        assert_eq!(cfg.check(), []);
        InductionHeads { cfg }
    }

    #[test]
    fn impossible_settings_are_named() {
        let problem = |cfg: Config| cfg.check().into_iter().map(|error| error.problem).collect::<Vec<_>>();
        let base = Config { test_lengths: vec![512], ..Config::default() };
        assert_eq!(
            problem(Config { test_lengths: vec![64, 128], ..base.clone() }),
            ["the longest of `test_lengths` is 128, less than 256, the length trained on"]
        );
        assert_eq!(
            problem(Config { seq_len: 4, ..base.clone() }),
            [
                "`seq_len` is 4 < max(2·1 + 1, 1 + 1 + 3) = 5: room for two copies of 1, and 3 free symbols, for 15^3 ≥ 1000 inputs"
            ]
        );
        assert_eq!(
            problem(Config { vocab_size: 3, form: Form::H3, ..base.clone() }),
            ["`vocab_size` is 3 < 2 plain symbols + 2 special"]
        );
        assert_eq!(
            problem(Config { causal: false, induction_len: 2, ..base.clone() }),
            ["`induction_len` is 2 > 1 and `causal` is false, so answers would be read from the input"]
        );
        assert_eq!(problem(Config { causal: false, ..base.clone() }), [""; 0]);
        assert_eq!(problem(Config { triggers: 0, ..base }), ["`triggers` is 0, so there is nothing to copy"]);
    }

    #[test]
    fn a_million_tokens_are_one_example() {
        let task = task(Config { test_lengths: vec![256, 1 << 20], test_examples: 1, ..Config::default() });
        let example = task.example(Split::Test, 1).unwrap();
        assert_eq!((example.tokens.len(), task.spec().max_length), (1 << 20, 1 << 20));
        assert_eq!(task.solve(&example).as_deref(), Some(example.targets.classes()));
        assert!(matches!(example.targets, Targets::PerPosition { positions, .. } if positions == [(1 << 20) - 1]));
    }

    #[test]
    fn half_of_the_examples_have_one_place_and_the_others_up_to_all() {
        let task = task(Config { triggers: 4, form: Form::H3, vocab_size: 20, ..Config::default() });
        let mut seen = [0; 6];
        for index in 0..2_000 {
            let tokens = task.example(Split::Train, index).unwrap().tokens;
            seen[tokens.iter().filter(|&&token| token == task.cfg.prefix()).count()] += 1;
        }
        assert!((1_000_i32 - seen[2]).abs() < 95, "one place and the last: {seen:?}");
        assert!(seen[0] + seen[1] == 0 && seen[5] > 900 && seen[4] > 0, "{seen:?}");
    }

    proptest! {
        #[test]
        fn every_copy_prefix_is_followed_by_the_answers(
            h3: bool, n in 1_u32..6, triggers in 1_u32..5, spare in 0_u32..60, vocab_size in 12_u32..40,
            data_seed: u64, index: u64,
        ) {
            let seq_len = 2 * n + 6 + spare;
            let form = if h3 { Form::H3 } else { Form::Mamba };
            let lengths = vec![seq_len];
            let cfg = Config {
                form, vocab_size, seq_len, induction_len: n, triggers, data_seed, test_lengths: lengths,
                targets: Scored::All, ..Config::default()
            };
            let task = task(cfg);
            let example = task.example(Split::Train, index).unwrap();
            let Targets::PerPosition { positions, classes } = &example.targets else { panic!("positions") };
            prop_assert!(positions.iter().copied().eq(0..i64::from(seq_len)));
            prop_assert_eq!(&classes[..classes.len() - 1], &example.tokens[1..]);
            let whole: Vec<i64> = example.tokens.iter().chain(classes.last()).copied().collect();
            let answers = &whole[whole.len() - n as usize..];
            let places: Vec<usize> = (0..whole.len()).filter(|&at| whole[at] == task.cfg.prefix()).collect();
            prop_assert!((2..=triggers as usize + 1).contains(&places.len()));
            prop_assert_eq!(places.last().copied(), Some((seq_len - n) as usize));
            for at in places {
                prop_assert_eq!(&whole[at + 1..=at + n as usize], answers);
            }
        }
    }
}
