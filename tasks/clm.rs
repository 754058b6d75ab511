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

use crate::corpus::{Corpus, CorpusConfig, Packing, Shape};
use crate::language::{self, Reached, Unigram};
use crate::registry::{Family, Outline};
use crate::tokenizer::TokenizerConfig;
use crate::{
    Baseline, Batch, Bound, ConfigError, DataDir, DataError, Example, Facet, Input, Judge, Output, Split, Targets,
    Task, TaskSpec, Tokenizer,
};
use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// `task: { clm: { corpus: { path: tinystories }, tokenizer: { bpe: { vocab_size: 4096 } }, seq_len: 128 } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
            tokenizer: TokenizerConfig::Bpe(crate::tokenizer::BpeConfig::default()),
            seq_len: 128,
            packing: Packing::Packed,
            eval_sequences: None,
        }
    }
}

impl Family for Config {
    const NAME: &'static str = "clm";
    const ABOUT: &'static str = "causal language modelling on any text: say every token from those before it";

    fn check(&self) -> Vec<ConfigError> {
        language::check(&self.corpus, &self.tokenizer, self.seq_len, 2, self.eval_sequences)
    }

    fn outline(&self) -> Outline {
        let vocab_size = self.tokenizer.vocab_size_hint();
        Outline {
            causal: true,
            max_length: i64::from(self.seq_len),
            needs_files: true,
            vocab_size,
            classes: vocab_size,
            documents: 1,
            input: Input::Tokens,
            output: Output::Tokens,
        }
    }

    fn open(&self, data: &DataDir) -> Result<Box<dyn Task>, DataError> {
        let shape = Shape { length: self.seq_len as usize, packing: self.packing, ends: false };
        let corpus = language::open(data, &self.corpus, &self.tokenizer, shape, |_| Ok(()))?;
        Ok(Box::new(Clm::new(self.clone(), corpus)))
    }
}

/// The opened task.
#[derive(Debug)]
pub struct Clm {
    cfg: Config,
    corpus: Corpus,
    unigram: Unigram,
    reached: OnceLock<Reached>,
}

impl Clm {
    fn new(cfg: Config, corpus: Corpus) -> Self {
        let mut counts = corpus.counts().to_vec();
        if cfg.packing == Packing::Packed {
            counts[corpus.tokenizer().specials().sep as usize] += corpus.documents(Split::Train);
        }
        Self { cfg, unigram: Unigram::new(counts), corpus, reached: OnceLock::new() }
    }

    /// What a unigram reaches on the test split.
    fn reached(&self) -> Result<Reached, DataError> {
        if let Some(reached) = self.reached.get() {
            return Ok(*reached);
        }
        let example = |index| self.example(Split::Test, index).map(|example| example.targets.classes().to_vec());
        let reached = self.unigram.reached((0..self.len(Split::Test)).map(example))?;
        Ok(*self.reached.get_or_init(|| reached))
    }
}

impl Task for Clm {
    fn spec(&self) -> TaskSpec {
        let vocab_size = self.corpus.tokenizer().vocab_size() as i64;
        TaskSpec {
            vocab_size,
            classes: vocab_size,
            pad_token: i64::from(self.corpus.tokenizer().specials().pad),
            judge: Judge::Class,
            metric: "next-token accuracy".into(),
            version: 1,
            ..self.cfg.outline().spec()
        }
    }

    fn len(&self, split: Split) -> u64 {
        let all = self.corpus.len(split);
        match split {
            Split::Train => all,
            _ => self.cfg.eval_sequences.map_or(all, |most| most.min(all)),
        }
    }

    fn example(&self, split: Split, index: u64) -> Result<Example, DataError> {
        let sequence = language::spread(index, self.len(split), self.corpus.len(split));
        let classes: Vec<i64> = self.corpus.sequence(split, sequence).into_iter().map(i64::from).collect();
        let begin = i64::from(self.corpus.tokenizer().specials().cls);
        let tokens = std::iter::once(begin).chain(classes[..classes.len() - 1].iter().copied()).collect();
        let positions = (0..classes.len() as i64).collect();
        Ok(Example::new(tokens, Targets::PerPosition { positions, classes }))
    }

    fn facets(&self, batch: &Batch) -> Vec<Facet> {
        let Targets::PerPosition { positions, classes } = &batch.targets else { return Vec::new() };
        let facet = |axis, of: &dyn Fn(usize, i64) -> f64| {
            let at = positions.iter().zip(classes).map(|(&at, &class)| of(at as usize, class)).collect();
            Facet { axis, at }
        };
        let distance = |at: usize, class: i64| {
            // What is asked for at a position comes after it: the token that stands there is at distance 1.
            let row = &batch.tokens[at / batch.length * batch.length..=at];
            language::octave(row.iter().rev().position(|&token| token == class).map(|back| back + 1))
        };
        vec![
            facet("frequency", &|_, class| language::decade(self.unigram.count(class))),
            facet("position", &|at, _| language::sixteenth(at % batch.length, self.cfg.seq_len)),
            facet("distance", &distance),
        ]
    }

    fn tokenizer(&self) -> Option<&Tokenizer> {
        Some(self.corpus.tokenizer())
    }

    fn bytes(&self, split: Split) -> Option<u64> {
        (self.len(split) == self.corpus.len(split)).then(|| self.corpus.bytes(split))
    }

    fn baselines(&self) -> Result<Vec<Baseline>, DataError> {
        Ok(self.reached()?.baselines())
    }

    fn floor(&self) -> Result<Bound, DataError> {
        Ok(self.unigram.floor(self.reached()?, self.corpus.tokenizer(), "test"))
    }

    fn ceiling(&self) -> Result<Bound, DataError> {
        Ok(Bound { score: 1.0, how: "by definition; no program knows what comes next".into() })
    }

    fn solve(&self, _: &Example) -> Option<Vec<i64>> {
        None
    }

    fn fingerprint(&self) -> Option<String> {
        Some(self.corpus.fingerprint().to_owned())
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = self.corpus.notes().to_vec();
        if !self.corpus.tokenizer().is_lossless() {
            let why = "the tokenizer drops some of the text (capitals, spaces, what it does not know)";
            notes.push(format!("{why}: bits per byte are of less than the text"));
        }
        notes
    }
}

#[cfg(test)]
mod tests;
