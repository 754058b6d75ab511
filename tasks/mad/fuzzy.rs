//! Fuzzy in-context recall: keys and values are tuples of different symbols.
//!
//! ```text
//! n symbols: keys of 0 .. n/2, values of n/2 .. n; pad V − 1, or V − 2 where the copy prefix is V − 1
//! [pad …] (key value)*  probe-key probe-value      sizes uniform in 1 ..= m; keys of a tested example: m
//! probe   shown once the sequence has reached a length uniform in 0 .. L − 2·(its size), and asked for at the end
//! pairs   while the sequence is shorter than L − (size of the probe) − 2m
//! ```
//! Quirks of mad-lab: so the padding stands on the left; a key drawn again keeps its value whatever size was drawn for it.
//! Departs: mad-lab's loop may end before the probe's place, and then nobody can know the answer; here the probe takes the
//! place of the pair that would have ended the loop. Where the probe alone is asked for, the input has pads instead of its
//! value's symbols, so that no answer stands in it.

use super::{Config, Form};
use crate::core::rng::Stream;
use crate::{Example, Goodness, Split, Targets};
use std::ops::Range;

#[derive(Debug)]
pub(super) struct Fuzzy {
    keys: i64,
    symbols: i64,
    motif: u64,
    length: usize,
    pad: i64,
    prefix: Option<i64>,
}

/// A sequence of L + 1 tokens: the last is only ever asked for.
struct Sequence {
    tokens: Vec<i64>,
    /// Where values stand that are known by then.
    known: Vec<Range<usize>>,
}

impl Fuzzy {
    pub(super) fn new(cfg: &Config) -> Self {
        let (symbols, vocab_size) = (cfg.symbols() as i64, cfg.vocab_size() as i64);
        let prefix = (!cfg.multi_query()).then_some(vocab_size - 1);
        Self {
            keys: symbols / 2,
            symbols,
            motif: cfg.motif_length(),
            length: cfg.seq_len() as usize,
            pad: vocab_size - 1 - i64::from(prefix.is_some()),
            prefix,
        }
    }

    fn key(&self, split: Split, stream: &mut Stream) -> Vec<i64> {
        let size = if split == Split::Train { 1 + stream.below(self.motif) } else { self.motif };
        stream.distinct(size as usize, self.keys as usize)
    }

    fn value(&self, stream: &mut Stream) -> Vec<i64> {
        let size = 1 + stream.below(self.motif) as usize;
        let mut value = stream.distinct(size, (self.symbols - self.keys) as usize);
        value.iter_mut().for_each(|symbol| *symbol += self.keys);
        value
    }

    fn sequence(&self, split: Split, stream: &mut Stream) -> Sequence {
        let (probe, answer) = (self.key(split, stream), self.value(stream));
        let probe_size = probe.len() + answer.len();
        let place = stream.below((self.length - 2 * probe_size) as u64) as usize;
        let end = self.length - probe_size - 2 * self.motif as usize;

        let mut tokens: Vec<i64> = Vec::with_capacity(self.length + 1);
        let mut pairs: std::collections::HashMap<Vec<i64>, Vec<i64>> = Default::default();
        let (mut known, mut shown) = (Vec::new(), false);
        while tokens.len() < end {
            let key = self.key(split, stream);
            let value = match pairs.get(&key) {
                _ if key == probe => answer.clone(),
                Some(value) => value.clone(),
                None => self.value(stream),
            };
            let due = tokens.len() >= place || tokens.len() + key.len() + value.len() >= end;
            let (key, value) = if due && !shown { (probe.clone(), answer.clone()) } else { (key, value) };
            shown |= key == probe;
            tokens.extend_from_slice(&key);
            let at = tokens.len()..tokens.len() + value.len();
            tokens.extend_from_slice(&value);
            if pairs.insert(key, value).is_some() {
                known.push(at);
            }
        }
        tokens.extend(self.prefix);
        tokens.extend_from_slice(&probe);
        known.push(tokens.len()..tokens.len() + answer.len());
        tokens.extend_from_slice(&answer);

        let pads = self.length + 1 - tokens.len();
        tokens.splice(0..0, std::iter::repeat_n(self.pad, pads));
        known.iter_mut().for_each(|at| *at = at.start + pads..at.end + pads);
        Sequence { tokens, known }
    }

    fn is_key(&self, token: i64) -> bool {
        (0..self.keys).contains(&token)
    }

    fn is_value(&self, token: i64) -> bool {
        (self.keys..self.symbols).contains(&token)
    }

    /// Where the keys stand, and the values behind them: runs of symbols of one kind.
    fn pairs(&self, tokens: &[i64]) -> Vec<(Range<usize>, Range<usize>)> {
        let run = |from: usize, kind: &dyn Fn(i64) -> bool| {
            from..from + tokens[from..].iter().take_while(|&&token| kind(token)).count()
        };
        let (mut pairs, mut at) = (Vec::new(), 0);
        while at < tokens.len() {
            let key = run(at, &|token| self.is_key(token));
            let value = run(key.end, &|token| self.is_value(token));
            at = value.end.max(at + 1);
            if !key.is_empty() {
                pairs.push((key, value));
            }
        }
        pairs
    }
}

impl Form for Fuzzy {
    fn example(&self, split: Split, stream: &mut Stream) -> Example {
        let Sequence { mut tokens, known } = self.sequence(split, stream);
        let asked: Vec<usize> = match (self.prefix, split) {
            (None, Split::Train) => (1..tokens.len()).collect(),
            (None, _) => known.into_iter().flatten().collect(),
            (Some(_), _) => known.into_iter().next_back().into_iter().flatten().collect(),
        };
        let classes = asked.iter().map(|&at| tokens[at]).collect();
        if self.prefix.is_some() {
            asked.iter().for_each(|&at| tokens[at] = self.pad);
        }
        tokens.pop();
        let positions = asked.iter().map(|&at| at as i64 - 1).collect();
        Example::new(tokens, Targets::PerPosition { positions, classes })
    }

    fn solve(&self, example: &Example) -> Option<Vec<i64>> {
        let Targets::PerPosition { positions, .. } = &example.targets else { return None };
        let (tokens, pairs) = (&example.tokens, self.pairs(&example.tokens));
        let recall = |&at: &i64| {
            let next = at as usize + 1;
            let (key, _) = pairs.iter().rfind(|(key, _)| key.end <= next)?;
            let same = |pair: &&(Range<usize>, Range<usize>)| {
                pair.0.start < key.start && tokens[pair.0.clone()] == tokens[key.clone()]
            };
            tokens[pairs.iter().find(same)?.1.clone()].get(next - key.end).copied()
        };
        positions.iter().map(recall).collect()
    }

    fn guess(&self, example: &Example, stream: &mut Stream) -> Vec<i64> {
        let values = (self.symbols - self.keys) as u64;
        example.targets.classes().iter().map(|_| self.keys + stream.below(values) as i64).collect()
    }

    fn guessing(&self) -> &'static str {
        "a uniform guess among the symbols of values"
    }

    fn distributions(&self, drawn: &[Example]) -> Vec<Option<Goodness>> {
        let (keys, values) = (self.keys as usize, (self.symbols - self.keys) as usize);
        let (mut key_sizes, mut value_sizes) = (vec![0; self.motif as usize], vec![0; self.motif as usize]);
        let (mut key_symbols, mut value_symbols) = (vec![0; keys], vec![0; values]);
        for example in drawn {
            let asked = example.targets.classes();
            let value_size = asked.iter().rev().take_while(|&&token| self.is_value(token)).count();
            let value = &asked[asked.len() - value_size..];
            let before = &example.tokens[..=example.tokens.len() - value_size];
            let key_size = before.iter().rev().take_while(|&&token| self.is_key(token)).count();
            let key = &before[before.len() - key_size..];
            key_sizes[key_size - 1] += 1;
            value_sizes[value_size - 1] += 1;
            key_symbols[key[0] as usize] += 1;
            value_symbols[value[0] as usize - keys] += 1;
        }
        vec![
            Goodness::uniform("size of the last key", &key_sizes),
            Goodness::uniform("size of the last value", &value_sizes),
            Goodness::uniform("first symbol of the last key", &key_symbols),
            Goodness::uniform("first symbol of the last value", &value_symbols),
        ]
    }

    fn bits(&self) -> f64 {
        let pairs = (self.length / (2 * self.motif as usize)) as f64;
        pairs * (self.keys as f64).log2()
    }
}
