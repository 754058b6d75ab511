//! Causal language modelling: say every token from those before it.
//!
//! ```text
//! [CLS] the cat sat …   mat            at most seq_len tokens
//!   ↓    ↓   ↓   ↓       ↓
//!  the  cat sat  on … [SEP]            every token of the corpus is asked for once
//! ```
//! Paper    Bengio et al. 2003, JMLR 3; bits per byte: Gao et al. 2021 (The Pile), arXiv:2101.00027
//! Matches  loss at every position, perplexity e to it, documents packed one after the other with \[SEP\] between them
//! Departs  every sequence begins with \[CLS\] in place of a token, so that the first is asked for too, from nothing: packed
//!          sequences do not see the end of the one before, which costs a little perplexity at short `seq_len` and leaves
//!          none of the text out of bits per byte
//!
//! Bits per byte are the losses of a split, in bits, by the UTF-8 bytes of its text. Ends of documents (`packed`) are asked
//! for and have no bytes. Where a tokenizer drops something (capitals, what it does not know), a remark says so: the bits are
//! of less than the text.
//!
//! Scores of the test split are kept by `frequency` (how often the token stands in train, by powers of ten), `position`
//! (sixteenths of `seq_len`) and `distance` (tokens back to the nearest occurrence of the same token, by powers of two).

use crate::core::family::{Family, Outline, Variant};
use crate::core::limits::COUNT;
use crate::language::corpus::{CorpusConfig, Packing, Shape};
use crate::language::shared::{self, EVAL_SEQUENCES, Language};
use crate::language::tokenizer::TokenizerConfig;
use crate::{
    Baseline, Batch, Bound, ConfigError, DataDir, DataError, Example, Facet, Metric, Split, Targets, Task, TaskSpec,
    Text, Tokenizer,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// `task: { clm: { corpus: { path: tinystories }, tokenizer: { bpe: { vocab_size: 4096 } }, seq_len: 128 } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// The text.
    pub corpus: CorpusConfig,
    /// What makes tokens of it: `bytes`, `{ characters: {…} }`, `{ wordpiece: {…} }`, `{ bpe: {…} }` or `{ file: {…} }`.
    pub tokenizer: TokenizerConfig,
    /// Tokens of the longest sequence.
    pub seq_len: u32,
    /// Whether sequences are filled with one document after another (`packed`) or hold one each (`padded`).
    pub packing: Packing,
    /// Most sequences of validation, and of test, spread evenly over the split; null: all. Bits per byte are of all.
    pub eval_sequences: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            corpus: CorpusConfig::default(),
            tokenizer: TokenizerConfig::Bpe(crate::language::tokenizer::BpeConfig::default()),
            seq_len: 128,
            packing: Packing::Packed,
            eval_sequences: Some(EVAL_SEQUENCES),
        }
    }
}

impl Family for Config {
    const NAME: &'static str = "clm";
    const ABOUT: &'static str = "causal language modelling on any text: say every token from those before it";
    const PAPER: &'static str =
        "Bengio et al. 2003, JMLR 3; bits per byte: Gao et al. 2021 (The Pile), arXiv:2101.00027";
    const LIMITS: &'static [(&'static str, u32)] = &[("eval_sequences", COUNT), ("min_frequency", COUNT)];
    const SOURCES: &'static [&'static str] = &["/corpus", "/tokenizer"];

    fn check(&self) -> Vec<ConfigError> {
        shared::check(&self.corpus, &self.tokenizer, self.seq_len, 2, self.eval_sequences)
    }

    fn outline(&self) -> Outline {
        shared::outline(true, self.seq_len, &self.tokenizer)
    }

    fn open(&self, data: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(Clm::open(self.clone(), data)?))
    }

    fn variants() -> Vec<Variant> {
        vec![
            // Half of the 5,760 letters are e.
            Variant::new(json!({
                "corpus": { "path": "letters", "documents": "line" }, "tokenizer": "bytes", "packing": "padded",
                "seq_len": 34,
            }))
            .floor(0.5, 4.0 * (0.25_f64 / 5_760.0).sqrt()),
            Variant::new(json!({
                "corpus": { "path": "letters", "documents": "line" }, "tokenizer": { "characters": {} },
                "packing": "packed", "seq_len": 34,
            }))
            .floor(0.5, 4.0 * (0.25_f64 / 5_760.0).sqrt()),
        ]
    }
}

/// The opened task.
#[derive(Debug)]
pub struct Clm {
    cfg: Config,
    language: Language,
}

impl Clm {
    fn open(cfg: Config, data: &DataDir) -> Result<Self, DataError> {
        let shape = Shape { length: cfg.seq_len as usize, packing: cfg.packing, ends: false };
        let corpus = shared::open(data, &cfg.corpus, &cfg.tokenizer, shape, |_| Ok(()))?;
        let mut counts = corpus.counts().to_vec();
        if cfg.packing == Packing::Packed {
            counts[corpus.tokenizer().specials().sep as usize] += corpus.documents(Split::Train);
        }
        Ok(Self { language: Language::new(corpus, counts, cfg.eval_sequences), cfg })
    }
}

impl Text for Clm {
    fn facets(&self, batch: &Batch) -> Vec<Facet> {
        let distance = |at: usize, class: i64| {
            // What is asked for at a position comes after it: the token that stands there is at distance 1.
            let row = &batch.tokens[at / batch.length * batch.length..=at];
            shared::octave(row.iter().rev().position(|&token| token == class).map(|back| back + 1))
        };
        self.language.facets(batch, self.cfg.seq_len, &[("distance", &distance)])
    }

    fn tokenizer(&self) -> &Tokenizer {
        self.language.corpus.tokenizer()
    }

    fn bytes(&self, split: Split) -> Option<u64> {
        (self.len(split) == self.language.corpus.len(split)).then(|| self.language.corpus.bytes(split))
    }
}

impl Task for Clm {
    fn spec(&self) -> TaskSpec {
        TaskSpec {
            metric: Metric::language_model("next-token accuracy"),
            version: 1,
            ..self.language.spec(self.cfg.outline())
        }
    }

    fn len(&self, split: Split) -> u64 {
        self.language.len(split)
    }

    fn example(&self, split: Split, index: u64) -> Result<Example, DataError> {
        let (corpus, sequence) = (&self.language.corpus, self.language.place(split, index));
        let classes: Vec<i64> = corpus.sequence(split, sequence).into_iter().map(i64::from).collect();
        let begin = i64::from(corpus.tokenizer().specials().cls);
        let tokens = std::iter::once(begin).chain(classes[..classes.len() - 1].iter().copied()).collect();
        let positions = (0..classes.len() as i64).collect();
        Ok(Example::new(tokens, Targets::PerPosition { positions, classes }))
    }

    fn text(&self) -> Option<&dyn Text> {
        Some(self)
    }

    fn baselines(&self) -> Result<Vec<Baseline>, DataError> {
        self.language.baselines(self)
    }

    fn floor(&self) -> Result<Bound, DataError> {
        self.language.floor(self, "test")
    }

    fn ceiling(&self) -> Result<Bound, DataError> {
        Ok(Bound { score: 1.0, how: "by definition; no program knows what comes next".into() })
    }

    fn fingerprint(&self) -> Option<String> {
        Some(self.language.corpus.fingerprint().to_owned())
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.language.corpus.notes().to_vec();
        if !self.language.corpus.tokenizer().is_lossless() {
            let why = "the tokenizer drops some of the text (capitals, spaces, what it does not know)";
            notes.push(format!("{why}: bits per byte are of less than the text"));
        }
        notes
    }
}

#[cfg(test)]
mod tests;
