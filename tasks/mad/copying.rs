//! Selective copying: tell the tokens that are not blank, in order.
//!
//! ```text
//! data 0 .. V − 2, blank V − 2, copy token V − 1
//! [ data and L − 2c − 1 blanks ]  copy  blank × c         c = copy_tokens; asked for at the last c positions
//! each blank stands before a data token drawn uniformly
//! ```
//! Quirk of mad-lab: a blank never follows the last data token, which therefore always stands right before the copy token
//! (position 238 of 256). `fix_last_blank` gives blanks that place too.

use super::{Config, Form};
use crate::core::rng::Stream;
use crate::{Example, Goodness, Split, Targets};

#[derive(Debug)]
pub(super) struct Copying {
    symbols: u64,
    copies: usize,
    blanks: usize,
    /// Places that a blank may have: before each data token, and behind the last.
    gaps: usize,
}

impl Copying {
    pub(super) fn new(cfg: &Config) -> Self {
        let copies = cfg.copy_tokens() as usize;
        Self {
            symbols: cfg.symbols(),
            copies,
            blanks: cfg.seq_len() as usize - 2 * copies - 1,
            gaps: copies + usize::from(cfg.fix_last_blank.unwrap_or(false)),
        }
    }

    fn blank(&self) -> i64 {
        self.symbols as i64
    }

    /// The tokens before the copy token.
    fn shown<'a>(&self, example: &'a Example) -> &'a [i64] {
        &example.tokens[..self.copies + self.blanks]
    }

    /// The data tokens.
    fn data(&self, example: &Example) -> Vec<i64> {
        self.shown(example).iter().copied().filter(|&token| token != self.blank()).collect()
    }
}

impl Form for Copying {
    fn example(&self, _: Split, stream: &mut Stream) -> Example {
        let data: Vec<i64> = (0..self.copies).map(|_| stream.below(self.symbols) as i64).collect();
        let mut before = vec![0; self.copies + 1];
        (0..self.blanks).for_each(|_| before[stream.below(self.gaps as u64) as usize] += 1);
        let mut tokens = Vec::with_capacity(2 * self.copies + self.blanks + 1);
        for (gap, &blanks) in before.iter().enumerate() {
            tokens.resize(tokens.len() + blanks, self.blank());
            tokens.extend(data.get(gap));
        }
        tokens.push(self.blank() + 1);
        let first = tokens.len();
        tokens.resize(first + self.copies, self.blank());
        let positions = (first as i64..tokens.len() as i64).collect();
        Example::new(tokens, Targets::PerPosition { positions, classes: data })
    }

    fn solve(&self, example: &Example) -> Option<Vec<i64>> {
        Some(self.data(example))
    }

    fn guess(&self, example: &Example, stream: &mut Stream) -> Vec<i64> {
        let data = self.data(example);
        data.iter().map(|_| data[stream.below(data.len() as u64) as usize]).collect()
    }

    fn guessing(&self) -> &'static str {
        "one of the tokens to copy, drawn uniformly at each position"
    }

    fn distributions(&self, drawn: &[Example]) -> Vec<Option<Goodness>> {
        let (mut data, mut gaps) = (vec![0; self.symbols as usize], vec![0; self.gaps]);
        for example in drawn {
            let mut gap = 0;
            for &token in self.shown(example) {
                if token == self.blank() {
                    gaps[gap] += 1;
                } else {
                    data[token as usize] += 1;
                    gap += 1;
                }
            }
        }
        vec![Goodness::uniform("token to copy", &data), Goodness::uniform("gap of a blank", &gaps)]
    }

    fn bits(&self) -> f64 {
        self.copies as f64 * (self.symbols as f64).log2()
    }
}
