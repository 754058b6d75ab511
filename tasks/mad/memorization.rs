//! Memorization: a map from keys to values that is the same in every example.
//!
//! ```text
//! n = V − 1 symbols: keys 0 .. n/2, values n/2 .. n; insert token V − 1
//! map     keys and values in random order, paired; where n is odd one value is left over
//! key ? key ? …      keys uniform; at each ?, the insert token, its key's value is asked for
//! ```
//! With the published 256 examples of 16 keys, training shows 4,096 keys: all of V = 256, and 63 % of V = 8,192. The ceiling is
//! what a memory of exactly these reaches.

use super::{Config, Form};
use crate::core::rng::{Purpose, Stream};
use crate::{Example, Goodness, Split, Targets};

#[derive(Debug)]
pub(super) struct Memorization {
    /// The value of each key.
    map: Vec<i64>,
    /// Whether training shows a key.
    shown: Vec<bool>,
    values: std::ops::Range<i64>,
    pairs: usize,
}

impl Memorization {
    pub(super) fn new(cfg: &Config) -> Self {
        let symbols = cfg.symbols() as i64;
        let keys = (symbols / 2) as usize;
        let values = symbols / 2..symbols;
        // To pair both in random order is to put the values in random order.
        let mut map: Vec<i64> = values.clone().collect();
        Stream::new(cfg.data_seed, Purpose::new("mad/map"), 0).shuffle(&mut map);
        map.truncate(keys);
        let mut form = Self { map, shown: vec![false; keys], values, pairs: cfg.seq_len() as usize / 2 };
        let mut left = keys;
        for index in 0..cfg.examples(Split::Train) {
            let stream = &mut Stream::new(cfg.data_seed, Purpose::of_split("mad", Split::Train), index);
            for key in form.example(Split::Train, stream).tokens.into_iter().step_by(2) {
                left -= usize::from(!std::mem::replace(&mut form.shown[key as usize], true));
            }
            if left == 0 {
                break;
            }
        }
        form
    }
}

impl Form for Memorization {
    fn example(&self, _: Split, stream: &mut Stream) -> Example {
        let keys: Vec<usize> = (0..self.pairs).map(|_| stream.below(self.map.len() as u64) as usize).collect();
        let tokens = keys.iter().flat_map(|&key| [key as i64, self.values.end]).collect();
        let positions = (0..self.pairs as i64).map(|pair| 2 * pair + 1).collect();
        let classes = keys.iter().map(|&key| self.map[key]).collect();
        Example::new(tokens, Targets::PerPosition { positions, classes })
    }

    fn solve(&self, example: &Example) -> Option<Vec<i64>> {
        let value = |&key: &i64| if self.shown[key as usize] { self.map[key as usize] } else { self.values.end };
        Some(example.tokens.iter().step_by(2).map(value).collect())
    }

    fn guess(&self, _: &Example, stream: &mut Stream) -> Vec<i64> {
        let values = (self.values.end - self.values.start) as u64;
        (0..self.pairs).map(|_| self.values.start + stream.below(values) as i64).collect()
    }

    fn guessing(&self) -> &'static str {
        "a uniform guess among the values"
    }

    fn distributions(&self, drawn: &[Example]) -> Vec<Option<Goodness>> {
        let mut seen = vec![0; self.map.len()];
        drawn.iter().flat_map(|example| example.tokens.iter().step_by(2)).for_each(|&key| seen[key as usize] += 1);
        vec![Goodness::uniform("key", &seen)]
    }

    fn bits(&self) -> f64 {
        self.pairs as f64 * (self.map.len() as f64).log2()
    }
}
