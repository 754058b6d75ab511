//! Masked language modelling: say which token is hidden behind each mask, from what stands on both sides.
//!
//! ```text
//! [CLS] the cat [MASK] on the mat . [SEP] a new document …  [SEP]      at most seq_len tokens
//!                 ↓
//!                sat                                                    asked for at the hidden positions alone
//! ```
//! Paper    Devlin et al. 2019 (BERT), arXiv:1810.04805; Wang et al. 2022 (BiGS), arXiv:2212.10544; Hwang et al. 2024
//!          (Hydra), arXiv:2407.09941
//! Matches  15 % hidden, of which 80 % are \[MASK\], 10 % a random token and 10 % as they were; loss at the hidden positions;
//!          no prediction of the next sentence; Hydra's training at 30 % is `mask_rate: 0.3`, its evaluation 15 % all the same
//! Departs  see [`crate::language::masking`] for a mask's small print; validation and test have one mask, drawn from `mask_seed`, so that
//!          every model and every seed is asked for the same tokens
//!
//! BiGS hides once and for all (`dynamic: false`, `count: exact`); Hydra, and the default here, anew each time a sequence is
//! drawn, from the run's seed. A corpus may be any text: see [`crate::language::corpus`].
//!
//! Scores of the test split are kept by `frequency` (how often the token stands in train, by powers of ten), `position`
//! (sixteenths of `seq_len`), `distance` (tokens to the nearest visible occurrence of the same token in the sequence, by
//! powers of two: context it could be copied from) and `fate` (0: behind \[MASK\], 1: behind a random token, 2: left as it was).

use crate::core::family::{Family, Outline, Variant};
use crate::core::limits::COUNT;
use crate::core::rng::{Purpose, Stream};
use crate::language::corpus::{CorpusConfig, Packing, Shape};
use crate::language::masking::{Count, Masked, Masking, plain};
use crate::language::shared::{self, EVAL_SEQUENCES, Language};
use crate::language::tokenizer::TokenizerConfig;
use crate::{
    Baseline, Batch, Bound, ConfigError, DataDir, DataError, Draw, Example, Facet, Goodness, Metric, Split, Targets,
    Task, TaskSpec, Text, Tokenizer,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// `task: { mlm: { corpus: { path: tinystories }, tokenizer: { wordpiece: { vocab_size: 4096 } }, seq_len: 128 } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The text.
    pub corpus: CorpusConfig,
    /// What makes tokens of it: `bytes`, `{ characters: {…} }`, `{ wordpiece: {…} }`, `{ bpe: {…} }` or `{ file: {…} }`.
    pub tokenizer: TokenizerConfig,
    /// Tokens of the longest sequence, \[CLS\] and \[SEP\] among them. BiGS and Hydra: 128.
    pub seq_len: u32,
    /// Whether sequences are filled with one document after another (`packed`) or hold one each (`padded`).
    pub packing: Packing,
    /// Share of the training tokens that are hidden. BERT and BiGS: 0.15; Hydra: 0.3.
    pub mask_rate: f64,
    /// Share of the validation and test tokens that are hidden; null: 0.15, whatever `mask_rate`.
    pub eval_mask_rate: Option<f64>,
    /// Whether each token is hidden by itself (`independent`) or an `exact` share of a sequence is.
    pub count: Count,
    /// Most hidden tokens of a sequence; null: no limit. BERT: 20.
    pub most: Option<u32>,
    /// Whether all pieces of a word are hidden together.
    pub whole_words: bool,
    /// Share of the hidden tokens that \[MASK\] stands for.
    pub mask_share: f64,
    /// Share of them that a random token stands for; the rest stays as it was.
    pub random_share: f64,
    /// Whether a training sequence has a new mask each time it is drawn.
    pub dynamic: bool,
    /// Seed of the masks that do not change; not the run's seed, so that all seeds of a run are asked for the same tokens.
    pub mask_seed: u64,
    /// Most sequences of validation, and of test, spread evenly over the split; null: all.
    pub eval_sequences: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            corpus: CorpusConfig::default(),
            tokenizer: TokenizerConfig::default(),
            seq_len: 128,
            packing: Packing::Packed,
            mask_rate: 0.15,
            eval_mask_rate: None,
            count: Count::Independent,
            most: None,
            whole_words: false,
            mask_share: 0.8,
            random_share: 0.1,
            dynamic: true,
            mask_seed: 0,
            eval_sequences: Some(EVAL_SEQUENCES),
        }
    }
}

/// The rate at which models are compared.
const EVAL_RATE: f64 = 0.15;

/// Epochs whose dynamic masks differ, and sequences of each: both are in one index.
const EPOCH_SHIFT: u32 = 40;

impl Config {
    fn masking(&self, rate: f64) -> Masking {
        let Self { count, most, whole_words, mask_share, random_share, .. } = *self;
        Masking { rate, count, most, whole_words, mask_share, random_share }
    }

    fn eval_rate(&self) -> f64 {
        self.eval_mask_rate.unwrap_or(EVAL_RATE)
    }
}

impl Family for Config {
    const NAME: &'static str = "mlm";
    const ABOUT: &'static str =
        "masked language modelling on any text: say the hidden tokens of a sequence (BERT, BiGS, Hydra)";
    const PAPER: &'static str = "Devlin et al. 2019 (BERT), arXiv:1810.04805; Wang et al. 2022 (BiGS), arXiv:2212.10544; Hwang et al. 2024 (Hydra), arXiv:2407.09941";
    const LIMITS: &'static [(&'static str, u32)] = &[("eval_sequences", COUNT), ("min_frequency", COUNT)];
    const SOURCES: &'static [&'static str] = &["/corpus", "/tokenizer"];

    fn check(&self) -> Vec<ConfigError> {
        let mut errors = shared::check(&self.corpus, &self.tokenizer, self.seq_len, 4, self.eval_sequences);
        let mut wrong = |key, problem: String, help: &str| errors.push(ConfigError { key, problem, help: help.into() });
        for (key, rate) in [("mask_rate", self.mask_rate), ("eval_mask_rate", self.eval_rate())] {
            if !(rate > 0.0 && rate <= 1.0) {
                let help = "use a number above 0 and at most 1; BERT hides 0.15, Hydra trains at 0.3";
                wrong(key, format!("`{key}` is {rate}"), help);
            }
        }
        for (key, share) in [("mask_share", self.mask_share), ("random_share", self.random_share)] {
            if !(0.0..=1.0).contains(&share) {
                wrong(key, format!("`{key}` is {share}"), "use a number from 0 to 1; BERT has 0.8 and 0.1");
            }
        }
        if self.mask_share + self.random_share > 1.0 + 1e-9 {
            let sum = self.mask_share + self.random_share;
            let problem =
                format!("`mask_share` + `random_share` = {} + {} = {sum} > 1", self.mask_share, self.random_share);
            wrong("random_share", problem, "lower one of them; what is left of 1 stays as it was");
        }
        if self.most == Some(0) {
            wrong("most", "`most` is 0, so nothing is hidden".into(), "use 1 or more, or null; BERT: 20");
        }
        errors
    }

    fn outline(&self) -> Outline {
        shared::outline(false, self.seq_len, &self.tokenizer)
    }

    fn open(&self, data: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(Mlm::open(self.clone(), data)?))
    }

    fn variants() -> Vec<Variant> {
        vec![
            // Half of the letters are e. 5,760 letters, 0.15 of them asked for.
            Variant::new(json!({
                "corpus": { "path": "letters", "documents": "line" }, "tokenizer": "bytes", "packing": "padded",
                "seq_len": 34, "dynamic": false,
            }))
            .floor(0.5, 4.0 * (0.25_f64 / 860.0).sqrt()),
            // e is rarer where pairs are merged.
            Variant::new(json!({
                "corpus": { "path": "letters", "documents": "line" }, "tokenizer": { "bpe": { "vocab_size": 265 } },
                "packing": "packed", "seq_len": 34, "dynamic": false, "count": "exact", "whole_words": true,
                "eval_sequences": 30,
            }))
            .floor(0.25, 0.15),
        ]
    }

    fn published(&self) -> Option<&'static str> {
        Some("C4-MLM-acc")
    }
}

/// The opened task.
#[derive(Debug)]
pub struct Mlm {
    cfg: Config,
    language: Language,
    plain: Vec<u32>,
}

impl Mlm {
    fn open(cfg: Config, data: &DataDir) -> Result<Self, DataError> {
        let shape = Shape { length: cfg.seq_len as usize, packing: cfg.packing, ends: true };
        let usable = |tokenizer: &Tokenizer| tokenizer.require_mask().map(drop);
        let corpus = shared::open(data, &cfg.corpus, &cfg.tokenizer, shape, usable)?;
        let plain = plain(corpus.tokenizer());
        // Nobody is asked for the others, unknown tokens among them.
        let mut counts = vec![0; corpus.counts().len()];
        plain.iter().for_each(|&token| counts[token as usize] = corpus.counts()[token as usize]);
        Ok(Self { language: Language::new(corpus, counts, cfg.eval_sequences), cfg, plain })
    }

    /// A sequence with a mask of this rate from this stream.
    fn masked(&self, split: Split, index: u64, rate: f64, mut stream: Stream) -> Masked {
        let tokens = self.language.corpus.sequence(split, index);
        self.cfg.masking(rate).draw(&tokens, self.language.corpus.tokenizer(), &self.plain, &mut stream)
    }
}

/// A masked sequence as an example.
fn example(masked: &Masked) -> Example {
    let tokens = masked.tokens.iter().map(|&token| i64::from(token)).collect();
    let asked = masked.hidden.iter().map(|hidden| (hidden.position as i64, i64::from(hidden.token)));
    let (positions, classes) = asked.unzip();
    Example::new(tokens, Targets::PerPosition { positions, classes })
}

impl Text for Mlm {
    fn facets(&self, batch: &Batch) -> Vec<Facet> {
        let Targets::PerPosition { positions, .. } = &batch.targets else { return Vec::new() };
        let mut scored = vec![false; batch.tokens.len()];
        positions.iter().for_each(|&at| scored[at as usize] = true);
        let mask = i64::from(self.language.corpus.tokenizer().specials().mask);
        let distance = |at: usize, class: i64| {
            let row = at / batch.length * batch.length;
            let holds = |other: usize| !scored[other] && batch.tokens[other] == class;
            let reach = (at - row).max(row + batch.length - 1 - at);
            let at_distance = |&distance: &usize| {
                let before = at.checked_sub(distance).is_some_and(|other| other >= row && holds(other));
                before || at + distance < row + batch.length && holds(at + distance)
            };
            shared::octave((1..=reach).find(at_distance))
        };
        let fate = |at: usize, class: i64| match batch.tokens[at] {
            token if token == mask => 0.0,
            token if token == class => 2.0,
            _ => 1.0,
        };
        self.language.facets(batch, self.cfg.seq_len, &[("distance", &distance), ("fate", &fate)])
    }

    fn tokenizer(&self) -> &Tokenizer {
        self.language.corpus.tokenizer()
    }
}

impl Task for Mlm {
    fn spec(&self) -> TaskSpec {
        TaskSpec {
            metric: Metric::language_model("masked accuracy"),
            version: 1,
            ..self.language.spec(self.cfg.outline())
        }
    }

    fn len(&self, split: Split) -> u64 {
        self.language.len(split)
    }

    fn example(&self, split: Split, index: u64) -> Result<Example, DataError> {
        let rate = if split == Split::Train { self.cfg.mask_rate } else { self.cfg.eval_rate() };
        let sequence = self.language.place(split, index);
        let stream = Stream::new(self.cfg.mask_seed, Purpose::of_split("fixed mask", split), sequence);
        Ok(example(&self.masked(split, sequence, rate, stream)))
    }

    fn drawn(&self, index: u64, draw: Draw) -> Result<Example, DataError> {
        if !self.cfg.dynamic {
            return self.example(Split::Train, index);
        }
        let stream = Stream::new(draw.seed, Purpose::new("dynamic mask"), draw.epoch << EPOCH_SHIFT | index);
        Ok(example(&self.masked(Split::Train, index, self.cfg.mask_rate, stream)))
    }

    fn text(&self) -> Option<&dyn Text> {
        Some(self)
    }

    fn baselines(&self) -> Result<Vec<Baseline>, DataError> {
        self.language.baselines(self)
    }

    /// Fates of the hidden tokens, and random tokens, over fixed masks of training sequences.
    fn distributions(&self, examples: u64) -> Result<Vec<Goodness>, DataError> {
        let (mut fates, mut cells) = ([0_u64; 3], vec![0_u64; self.plain.len().min(48)]);
        let mut expected = vec![0.0; cells.len()];
        let cell = |token: u32| {
            let place = self.plain.binary_search(&token).expect("a random token stands for text");
            place * cells.len() / self.plain.len()
        };
        self.plain.iter().for_each(|&token| expected[cell(token)] += 1.0);
        let mut randoms = Vec::new();
        for index in 0..examples.min(self.len(Split::Train)) {
            let stream = Stream::new(self.cfg.mask_seed, Purpose::of_split("fixed mask", Split::Train), index);
            let masked = self.masked(Split::Train, index, self.cfg.mask_rate, stream);
            for hidden in &masked.hidden {
                fates[hidden.fate as usize] += 1;
                if hidden.fate == crate::language::masking::Fate::Swapped {
                    randoms.push(cell(masked.tokens[hidden.position]));
                }
            }
        }
        randoms.into_iter().for_each(|cell| cells[cell] += 1);
        let rest = (1.0 - self.cfg.mask_share - self.cfg.random_share).max(0.0);
        let shares = [self.cfg.mask_share, self.cfg.random_share, rest];
        let found = [
            Goodness::chi_square("fate of a hidden token", &fates, &shares),
            Goodness::chi_square("random token", &cells, &expected),
        ];
        Ok(found.into_iter().flatten().collect())
    }

    fn floor(&self) -> Result<Bound, DataError> {
        self.language.floor(self, "the hidden tokens of test")
    }

    fn ceiling(&self) -> Result<Bound, DataError> {
        Ok(Bound { score: 1.0, how: "by definition; no program knows what was hidden".into() })
    }

    fn fingerprint(&self) -> Option<String> {
        Some(self.language.corpus.fingerprint().to_owned())
    }

    fn notes(&self) -> Vec<String> {
        self.language.corpus.notes().to_vec()
    }
}

#[cfg(test)]
pub(crate) mod tests;
