//! Compression: one vector from which every token of the input can be read.
//!
//! ```text
//! L − 1 tokens uniform in 0 .. V − 1, then the compression token V − 1
//! asked for at every position: the token there, the last one included
//! ```
//! mad-lab's encoder gives the vector at the last position; a decoder adds a position code to it and reads each token off the
//! sum by an MLP. That is [`crate::Output::Reconstruction`].

use super::{Config, Form};
use crate::core::rng::Stream;
use crate::{Example, Goodness, Split, Targets};

#[derive(Debug)]
pub(super) struct Compression {
    symbols: u64,
    length: usize,
}

impl Compression {
    pub(super) fn new(cfg: &Config) -> Self {
        Self { symbols: cfg.symbols(), length: cfg.seq_len() as usize }
    }
}

impl Form for Compression {
    fn example(&self, _: Split, stream: &mut Stream) -> Example {
        let mut tokens: Vec<i64> = (1..self.length).map(|_| stream.below(self.symbols) as i64).collect();
        tokens.push(self.symbols as i64);
        let targets = Targets::PerPosition { positions: (0..self.length as i64).collect(), classes: tokens.clone() };
        Example::new(tokens, targets)
    }

    fn solve(&self, example: &Example) -> Option<Vec<i64>> {
        Some(example.tokens.clone())
    }

    fn guess(&self, _: &Example, stream: &mut Stream) -> Vec<i64> {
        let uniform = (1..self.length).map(|_| stream.below(self.symbols) as i64);
        uniform.chain([self.symbols as i64]).collect()
    }

    fn guessing(&self) -> &'static str {
        "a uniform guess at every position but the last, whose token never changes"
    }

    fn distributions(&self, drawn: &[Example]) -> Vec<Option<Goodness>> {
        let mut seen = vec![0; self.symbols as usize];
        for example in drawn {
            example.tokens[..self.length - 1].iter().for_each(|&token| seen[token as usize] += 1);
        }
        vec![Goodness::uniform("token", &seen)]
    }

    fn bits(&self) -> f64 {
        (self.length - 1) as f64 * (self.symbols as f64).log2()
    }
}
