//! Mechanistic architecture design (MAD): six small tasks whose mean score foretells how a mixer scales.
//!
//! ```text
//! in_context_recall   k1 v1 k2 v2 k1 v1 … kq vq          a value is known once its key was shown; read by next token
//! noisy_recall        k1 v1 # # k2 v2 # # k1 v1 … kq vq   the same between pairs of noise tokens
//! fuzzy_recall        · · · k1k2k3 v1v2 k4k5 v3 … kq vq   keys and values of one to three symbols, padded on the left
//! selective_copying   _ a _ _ b c _ _ _ d C _ _ _ _       at the blanks after C: a b c d
//! compression         a b c … d C                         the vector at C must tell every token of the input
//! memorization        k1 ? k2 ? k1 ? …                    at ?: the value of k in a map that never changes
//! ```
//! Paper    Poli et al. 2024, arXiv:2403.17844
//! Matches  the distributions of mad-lab's `instances.py`, its baselines and its one-at-a-time changes ([`changes`]), and the
//!          number of targets measured on it; quirks included, each described in the file of its task
//! Departs  the probe of `fuzzy_recall` is always shown before it is asked for; with `multi_query: false` only the last value
//!          is asked for in training too; noise is a matter of `noisy_recall` alone; the random bits are our own; the score
//!
//! The score here is the mean over examples of the share of an example's scored positions that are right; it chooses checkpoints
//! and is what `stop_at` asks of. mad-lab's `test/Accuracy_epoch` is another: the mean over classes of the share of each class's
//! positions that are right. The trainer records that as `macro_accuracy`, which stops nothing, and `accuracy`, the plain share
//! of right positions. mad-lab's score of a task is the mean over its baseline and all of its changes.
//!
//! Recall that is read by next token shows the answer at the next position, so it is causal only. With `multi_query: false`
//! the one answer asked for is not in the input, and bidirectional mixers may run; the other three tasks leak nothing.

use crate::core::drawn::{self, Counts};
use crate::core::family::{Family, Outline, Variant};
use crate::core::rng::{Purpose, Stream};
use crate::{
    Bound, ConfigError, DataDir, DataError, Example, Goodness, Mark, Metric, Output, Split, Task, TaskSpec,
    core::bounds,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt::Debug;

mod compression;
mod copying;
mod fuzzy;
mod memorization;
mod recall;
#[cfg(test)]
mod tests;

/// Which of the six.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Recall values of keys within the example.
    InContextRecall,
    /// The same with keys and values of several symbols.
    FuzzyRecall,
    /// The same between noise.
    NoisyRecall,
    /// Copy the tokens that are not blank, in order.
    SelectiveCopying,
    /// Put a sequence into one vector.
    Compression,
    /// Learn a fixed map.
    Memorization,
}

impl Kind {
    /// Every task, in the order of mad-lab's tables.
    pub const ALL: [Self; 6] = [
        Self::InContextRecall,
        Self::FuzzyRecall,
        Self::NoisyRecall,
        Self::SelectiveCopying,
        Self::Compression,
        Self::Memorization,
    ];

    /// As it is written in a config.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InContextRecall => "in_context_recall",
            Self::FuzzyRecall => "fuzzy_recall",
            Self::NoisyRecall => "noisy_recall",
            Self::SelectiveCopying => "selective_copying",
            Self::Compression => "compression",
            Self::Memorization => "memorization",
        }
    }

    /// Vocabulary, length and training examples of the published baseline.
    const fn baseline(self) -> (u32, u32, u64) {
        match self {
            Self::InContextRecall | Self::FuzzyRecall => (16, 128, 12_800),
            Self::NoisyRecall => (32, 128, 12_800),
            Self::SelectiveCopying => (16, 256, 12_800),
            Self::Compression => (16, 32, 12_800),
            Self::Memorization => (256, 32, 256),
        }
    }

    /// Whether values are recalled from the example itself.
    const fn recalls(self) -> bool {
        matches!(self, Self::InContextRecall | Self::FuzzyRecall | Self::NoisyRecall)
    }
}

/// `task: { mad: { task: fuzzy_recall, vocab_size: 32 } }`
///
/// What is `null` is as in the published baseline of the task; a key that the task has no use for must be `null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which of the six tasks.
    pub task: Kind,
    /// Tokens there are, special ones and noise included. Published: 16; `noisy_recall` 32, `memorization` 256.
    pub vocab_size: Option<u32>,
    /// Tokens of the whole sequence. Published: 128; `selective_copying` 256, `compression` and `memorization` 32.
    pub seq_len: Option<u32>,
    /// Tokens that are noise, out of `vocab_size`; `noisy_recall` only. Published: 16.
    pub noise_vocab: Option<u32>,
    /// Probability that a pair is noise; `noisy_recall` only. Published: 0.2.
    pub frac_noise: Option<f64>,
    /// Most symbols of a key, and of a value; `fuzzy_recall` only. Published: 3.
    pub motif_length: Option<u32>,
    /// Tokens to copy; `selective_copying` only. Published: 16.
    pub copy_tokens: Option<u32>,
    /// Whether every value is asked for rather than the last alone; the three recall tasks only. Published: true.
    pub multi_query: Option<bool>,
    /// Whether blanks may also follow the last token to copy, which they never do in mad-lab; `selective_copying` only.
    /// Published: false.
    pub fix_last_blank: Option<bool>,
    /// Training examples. Published: 12,800; `memorization` 256.
    pub train_examples: Option<u64>,
    /// Validation examples, from a stream of their own. mad-lab has none; 1,280 as its test.
    pub validation_examples: Option<u64>,
    /// Test examples, from a stream of their own. Published: 1,280.
    pub test_examples: Option<u64>,
    /// Seed of the examples and of the map to memorize; not the run's seed.
    pub data_seed: u64,
    /// Whether position t may only read up to t.
    pub causal: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            task: Kind::InContextRecall,
            vocab_size: None,
            seq_len: None,
            noise_vocab: None,
            frac_noise: None,
            motif_length: None,
            copy_tokens: None,
            multi_query: None,
            fix_last_blank: None,
            train_examples: None,
            validation_examples: None,
            test_examples: None,
            data_seed: 12_345,
            causal: true,
        }
    }
}

/// The settings of a MAD task as laid over its defaults: the published baseline first, then every published change, one at a
/// time, each with a label such as `vocab_size 32`. mad-lab's score of the task is the mean over all of them.
pub fn changes(task: Kind) -> Vec<(String, Value)> {
    let (vocab_sizes, lengths): (&[u32], &[u32]) = match task {
        Kind::InContextRecall | Kind::FuzzyRecall => (&[32, 64, 128], &[256, 512, 1024]),
        Kind::NoisyRecall => (&[48, 80, 144], &[256, 512, 1024]),
        Kind::SelectiveCopying => (&[32, 64, 128], &[512, 1024]),
        Kind::Compression => (&[32, 64, 128], &[64, 128, 256]),
        Kind::Memorization => (&[512, 1024, 2048, 4096, 8192], &[]),
    };
    let examples: &[u32] = if task == Kind::Memorization { &[] } else { &[6400, 3200, 1600, 800] };
    let of = |key: &'static str, values: &[u32]| -> Vec<(&'static str, Value)> {
        values.iter().map(|value| (key, json!(value))).collect()
    };
    let own = match task {
        Kind::NoisyRecall => [0.4, 0.6, 0.8].map(|share| ("frac_noise", json!(share))).to_vec(),
        Kind::SelectiveCopying => of("copy_tokens", &[32, 64, 96]),
        _ => Vec::new(),
    };
    let all = [of("vocab_size", vocab_sizes), of("seq_len", lengths), of("train_examples", examples), own].concat();
    let change = |(key, value): (&str, Value)| (format!("{key} {value}"), json!({ "task": task, key: value }));
    std::iter::once(("baseline".into(), json!({ "task": task }))).chain(all.into_iter().map(change)).collect()
}

impl Config {
    fn vocab_size(&self) -> u64 {
        self.vocab_size.unwrap_or(self.task.baseline().0).into()
    }

    fn seq_len(&self) -> u64 {
        self.seq_len.unwrap_or(self.task.baseline().1).into()
    }

    fn multi_query(&self) -> bool {
        !self.task.recalls() || self.multi_query.unwrap_or(true)
    }

    fn noise_vocab(&self) -> u64 {
        if self.task == Kind::NoisyRecall { self.noise_vocab.unwrap_or(16).into() } else { 0 }
    }

    fn frac_noise(&self) -> f64 {
        if self.task == Kind::NoisyRecall { self.frac_noise.unwrap_or(0.2) } else { 0.0 }
    }

    fn motif_length(&self) -> u64 {
        self.motif_length.unwrap_or(3).into()
    }

    fn copy_tokens(&self) -> u64 {
        self.copy_tokens.unwrap_or(16).into()
    }

    fn examples(&self, split: Split) -> u64 {
        match split {
            Split::Train => self.train_examples.unwrap_or(self.task.baseline().2),
            Split::Validation => self.validation_examples.unwrap_or(1_280),
            Split::Test => self.test_examples.unwrap_or(1_280),
        }
    }

    /// Tokens with a meaning of their own, the last of the vocabulary: copy, blank, padding, insert, compression.
    fn special(&self) -> u64 {
        let prefix = u64::from(!self.multi_query());
        match self.task {
            Kind::InContextRecall | Kind::NoisyRecall => prefix,
            Kind::FuzzyRecall => 1 + prefix,
            Kind::SelectiveCopying => 2,
            Kind::Compression | Kind::Memorization => 1,
        }
    }

    /// Tokens that are neither special nor noise.
    fn symbols(&self) -> u64 {
        self.vocab_size().saturating_sub(self.special() + self.noise_vocab())
    }

    /// Fewest symbols that leave something to tell apart.
    fn fewest_symbols(&self) -> u64 {
        match self.task {
            Kind::InContextRecall | Kind::NoisyRecall | Kind::Memorization => 4,
            Kind::FuzzyRecall => 2 * self.motif_length().max(2),
            Kind::SelectiveCopying | Kind::Compression => 2,
        }
    }

    /// Tokens of an example's input.
    fn length(&self) -> u64 {
        let shifted = matches!(self.task, Kind::InContextRecall | Kind::NoisyRecall) && self.multi_query();
        self.seq_len().saturating_sub(u64::from(shifted))
    }

    /// Keys that are set, with the tasks that have a use for them.
    fn unused(&self) -> Vec<&'static str> {
        let is = |kind| self.task == kind;
        [
            ("noise_vocab", self.noise_vocab.is_some(), is(Kind::NoisyRecall)),
            ("frac_noise", self.frac_noise.is_some(), is(Kind::NoisyRecall)),
            ("motif_length", self.motif_length.is_some(), is(Kind::FuzzyRecall)),
            ("copy_tokens", self.copy_tokens.is_some(), is(Kind::SelectiveCopying)),
            ("multi_query", self.multi_query.is_some(), self.task.recalls()),
            ("fix_last_blank", self.fix_last_blank.is_some(), is(Kind::SelectiveCopying)),
        ]
        .into_iter()
        .filter_map(|(key, set, used)| (set && !used).then_some(key))
        .collect()
    }

    fn form(&self) -> Box<dyn Form> {
        match self.task {
            Kind::InContextRecall | Kind::NoisyRecall => Box::new(recall::Recall::new(self)),
            Kind::FuzzyRecall => Box::new(fuzzy::Fuzzy::new(self)),
            Kind::SelectiveCopying => Box::new(copying::Copying::new(self)),
            Kind::Compression => Box::new(compression::Compression::new(self)),
            Kind::Memorization => Box::new(memorization::Memorization::new(self)),
        }
    }

    fn output(&self) -> Output {
        if self.task == Kind::Compression { Output::Reconstruction } else { Output::PerPosition }
    }
}

impl Family for Config {
    const NAME: &'static str = "mad";
    const ABOUT: &'static str = "MAD: recall plain, fuzzy and noisy, selective copying, compression, memorization";
    const PAPER: &'static str = "Poli et al. 2024, arXiv:2403.17844";

    fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut wrong = |key, problem: String, help: String| errors.push(ConfigError { key, problem, help });
        let (vocab_size, length, task) = (self.vocab_size(), self.seq_len(), self.task.name());
        for key in self.unused() {
            wrong(key, format!("`{key}` is set, and `{task}` has no use for it"), "leave it out, or write null".into());
        }
        let (symbols, fewest, noise) = (self.symbols(), self.fewest_symbols(), self.noise_vocab());
        if symbols < fewest {
            let special = self.special();
            let problem = format!(
                "`vocab_size` {vocab_size} − {special} special tokens − {noise} of noise leaves `{task}` {symbols} symbols, \
                 fewer than {fewest}"
            );
            wrong("vocab_size", problem, format!("use {} or more", special + noise + fewest));
        }
        let pairs = matches!(self.task, Kind::InContextRecall | Kind::NoisyRecall | Kind::Memorization);
        if pairs && length % 2 == 1 {
            let help = format!("use {} or {}", length - 1, length + 1);
            wrong("seq_len", format!("`seq_len` is {length}, which is odd; `{task}` is made of pairs"), help);
        }
        let shortest = match self.task {
            Kind::InContextRecall | Kind::NoisyRecall => 4,
            _ => 2,
        };
        if length < shortest {
            wrong("seq_len", format!("`seq_len` is {length}, less than {shortest}"), format!("use {shortest} or more"));
        }
        let motif = self.motif_length();
        if self.task == Kind::FuzzyRecall && motif == 0 {
            wrong("motif_length", "`motif_length` is 0".into(), "use 3, as mad-lab does".into());
        }
        if self.task == Kind::FuzzyRecall && 4 * motif >= length {
            let problem = format!(
                "two pairs of `motif_length` {motif} need 4·{motif} = {} tokens, and `seq_len` = {length} is not more",
                4 * motif
            );
            let help = format!("raise `seq_len` to {} or lower `motif_length`", 4 * motif + 1);
            wrong("motif_length", problem, help);
        }
        let copies = self.copy_tokens();
        if self.task == Kind::SelectiveCopying && copies == 0 {
            wrong("copy_tokens", "`copy_tokens` is 0, so nothing is asked".into(), "use 16, as mad-lab does".into());
        }
        if self.task == Kind::SelectiveCopying && 2 * copies + 1 > length {
            let needed = 2 * copies + 1;
            let problem = format!(
                "`copy_tokens` {copies} needs 2·{copies} + 1 = {needed} tokens, more than `seq_len` = {length}"
            );
            let most = length.saturating_sub(1) / 2;
            let help = format!("raise `seq_len` to {needed} or lower `copy_tokens` to {most}");
            wrong("copy_tokens", problem, help);
        }
        let noisy = self.task == Kind::NoisyRecall;
        if noisy && !(0.0..1.0).contains(&self.frac_noise()) {
            let problem = format!("`frac_noise` is {}, which is not in 0 ≤ share < 1", self.frac_noise());
            wrong("frac_noise", problem, "use 0.2; mad-lab goes up to 0.8".into());
        }
        if noisy && self.frac_noise() > 0.0 && noise == 0 {
            let problem = format!("`noise_vocab` is 0, so `frac_noise` = {} has nothing to draw", self.frac_noise());
            wrong("noise_vocab", problem, "use 16, as mad-lab does".into());
        }
        if self.task.recalls() && self.multi_query() && !self.causal {
            let problem = format!(
                "`causal` is false, and `{task}` with `multi_query` asks for tokens that stand one position on in the input"
            );
            wrong("causal", problem, "use `multi_query: false`, which asks for the last value alone".into());
        }
        let [train, validation, test] = Split::ALL.map(|split| self.examples(split));
        errors.extend(Counts::new(Some(train), validation, test, &[]).zeros());
        errors
    }

    fn outline(&self) -> Outline {
        Outline {
            causal: self.causal,
            max_length: self.length() as i64,
            vocab_size: self.vocab_size() as i64,
            classes: self.vocab_size() as i64,
            output: self.output(),
            ..drawn::OUTLINE
        }
    }

    fn open(&self, _: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(Mad::new(self.clone())))
    }

    fn variants() -> Vec<Variant> {
        vec![
            // A pair of those shown has the asked key in one of K cases, or another key of the same value in one of V. Early on
            // fewer pairs are shown and one of them must have the key, which the measured score shows: within 0.03.
            Variant::drawn(json!({})).floor(1.0 / 8.0 + 7.0 / 64.0, 0.07).pin("d810e6ebfa628634"),
            Variant::drawn(json!({ "multi_query": false, "causal": false }))
                .floor(1.0 / 8.0 + 7.0 / 64.0, 0.07)
                .pin("da7d426999626fa9"),
            Variant::drawn(json!({ "task": "noisy_recall" }))
                .floor(1.0 / 8.0 + 7.0 / 64.0, 0.07)
                .pin("fb085f98721ce23b"),
            // 15 steps of which a fifth are pairs: of 1 to 15, 3.8 on average; the key asked for is one of those.
            Variant::drawn(json!({ "task": "noisy_recall", "multi_query": false, "frac_noise": 0.8, "seq_len": 32 }))
                .floor(0.4, 0.1)
                .pin("7ec2bbbfe1e8b292"),
            // Of V = 16: 8 symbols of values, 4 targets; without the copy prefix one less of either kind.
            Variant::drawn(json!({ "task": "fuzzy_recall" })).floor(1.0 / 8.0, 0.04).pin("4b8c45025aea2007"),
            Variant::drawn(json!({ "task": "fuzzy_recall", "multi_query": false, "motif_length": 2, "causal": false }))
                .floor(1.0 / 7.0, 0.06)
                .pin("e5a062dc62b7205c"),
            // The token asked for in one of 16 cases, another that equals it in one of 14.
            Variant::drawn(json!({ "task": "selective_copying" }))
                .floor(1.0 / 16.0 + 15.0 / 16.0 / 14.0, 0.015)
                .pin("a624b0cfc240d47d"),
            Variant::drawn(
                json!({ "task": "selective_copying", "seq_len": 64, "fix_last_blank": true, "causal": false }),
            )
            .floor(1.0 / 16.0 + 15.0 / 16.0 / 14.0, 0.015)
            .pin("867b8d77b839c343"),
            // 31 guesses among 15 tokens, and the last position is known.
            Variant::drawn(json!({ "task": "compression", "causal": false }))
                .floor((31.0 / 15.0 + 1.0) / 32.0, 0.009)
                .pin("b302afe6a65fa9c3"),
            // 63 symbols: keys 0 .. 31, values 31 .. 63.
            Variant::drawn(json!({ "task": "memorization", "vocab_size": 64 }))
                .floor(1.0 / 32.0, 0.008)
                .pin("71ccd2ae4fefd1eb"),
        ]
    }

    fn small() -> Vec<Value> {
        vec![
            json!({ "task": "in_context_recall", "seq_len": 24 }),
            json!({ "task": "compression", "seq_len": 12, "causal": false }),
        ]
    }
}

/// One of the six tasks: how an example is drawn, and answered.
trait Form: Debug + Send + Sync {
    /// An example; of training, every next token is asked for where that is how the task is learned.
    fn example(&self, split: Split, stream: &mut Stream) -> Example;
    /// The answers to an example as it is tested, from its input alone.
    fn solve(&self, example: &Example) -> Option<Vec<i64>>;
    /// Answers of someone who knows which tokens can be answers and nothing else.
    fn guess(&self, example: &Example, stream: &mut Stream) -> Vec<i64>;
    /// What [`Form::guess`] does, in words.
    fn guessing(&self) -> &'static str;
    /// Tests of what was drawn for training.
    fn distributions(&self, drawn: &[Example]) -> Vec<Option<Goodness>>;
    /// Binary digits of the number of inputs there are, at the least.
    fn bits(&self) -> f64;
}

/// The opened task: examples are drawn when asked for.
#[derive(Debug)]
pub struct Mad {
    cfg: Config,
    form: Box<dyn Form>,
}

impl Mad {
    /// The task of settings that passed their check.
    pub fn new(cfg: Config) -> Self {
        let form = cfg.form();
        Self { cfg, form }
    }
}

impl Task for Mad {
    fn spec(&self) -> TaskSpec {
        let marks = if self.cfg.task == Kind::Memorization { vec![Mark::TestIsTrain] } else { Vec::new() };
        TaskSpec { metric: Metric::accuracy(), version: 1, marks, ..self.cfg.outline().spec() }
    }

    fn len(&self, split: Split) -> u64 {
        self.cfg.examples(split)
    }

    fn example(&self, split: Split, index: u64) -> Result<Example, DataError> {
        Ok(self
            .form
            .example(split, &mut Stream::new(self.cfg.data_seed, Purpose::of_split(Config::STREAM, split), index)))
    }

    fn distributions(&self, examples: u64) -> Result<Vec<Goodness>, DataError> {
        let rows = 0..examples.min(self.len(Split::Train));
        let drawn: Vec<Example> = rows.map(|i| self.example(Split::Train, i)).collect::<Result<_, _>>()?;
        Ok(self.form.distributions(&drawn).into_iter().flatten().collect())
    }

    fn floor(&self) -> Result<Bound, DataError> {
        bounds::guesser(self, self.cfg.data_seed, self.form.guessing(), |example, stream| {
            self.form.guess(example, stream)
        })
    }

    fn ceiling(&self) -> Result<Bound, DataError> {
        let mut bound = bounds::oracle(self)?;
        if self.cfg.task == Kind::Memorization {
            bound.how = "a memory of every pair that training shows, measured on test".into();
        }
        Ok(bound)
    }

    fn solve(&self, example: &Example) -> Option<Vec<i64>> {
        self.form.solve(example)
    }

    fn notes(&self) -> Vec<String> {
        let drawn: f64 = Split::ALL.iter().map(|&split| self.len(split) as f64).sum();
        let bits = self.form.bits();
        if self.cfg.task == Kind::Memorization || bits >= drawn.log2() + 10.0 {
            return Vec::new();
        }
        vec![format!(
            "these settings allow about 2^{bits:.0} inputs for {drawn:.0} examples: some test inputs occur in training"
        )]
    }
}
