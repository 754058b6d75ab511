//! Copy, reverse and sort: one sequence in, another of the same length out.

use super::{Answers, Config, Form, Kind};
use crate::core::rng::Stream;
use crate::{Example, Goodness, Split, Targets};

/// BOS, SEP, EOS and the blank, behind the symbols in this order.
pub(super) const SPECIAL: i64 = 4;

#[derive(Debug)]
pub(super) struct Transduction {
    kind: Kind,
    symbols: u64,
    distinct: bool,
    answers: Answers,
}

impl Transduction {
    pub(super) fn new(cfg: &Config) -> Self {
        let (symbols, distinct) = (cfg.symbols(), cfg.distinct == Some(true));
        Self { kind: cfg.kind, symbols, distinct, answers: cfg.answers() }
    }

    /// y.
    fn answer(&self, x: &[i64]) -> Vec<i64> {
        let mut y = x.to_vec();
        match self.kind {
            Kind::Reverse => y.reverse(),
            Kind::Sort => y.sort_unstable(),
            Kind::Copy | Kind::Dyck | Kind::DyckMembership => {}
        }
        y
    }

    fn special(&self) -> [i64; 4] {
        std::array::from_fn(|i| (self.symbols + i as u64) as i64)
    }

    fn input<'a>(&self, example: &'a Example) -> &'a [i64] {
        let [_, sep, ..] = self.special();
        let end = example.tokens.iter().position(|&token| token == sep).unwrap_or(example.tokens.len());
        &example.tokens[1..end]
    }
}

impl Form for Transduction {
    fn inputs(&self, n: u64) -> u64 {
        let ways = |i: u64| if self.distinct { self.symbols.saturating_sub(i) } else { self.symbols };
        (0..n.min(64)).fold(1, |product: u64, i| product.saturating_mul(ways(i)))
    }

    fn draw(&self, n: usize, _: bool, stream: &mut Stream) -> Vec<i64> {
        if self.distinct {
            return stream.distinct(n, self.symbols as usize);
        }
        (0..n).map(|_| stream.below(self.symbols) as i64).collect()
    }

    fn example(&self, drawn: Vec<i64>, split: Split) -> Example {
        let [bos, sep, eos, blank] = self.special();
        let n = drawn.len();
        let mut classes = self.answer(&drawn);
        let mut tokens = Vec::with_capacity(2 * n + 2);
        tokens.push(bos);
        tokens.extend(drawn);
        tokens.push(sep);
        let first = match self.answers {
            Answers::Fed => {
                tokens.extend_from_slice(&classes);
                if split == Split::Train {
                    classes.push(eos);
                }
                n + 1
            }
            Answers::Blank => {
                tokens.resize(2 * n + 2, blank);
                n + 2
            }
        };
        let positions = (first..first + classes.len()).map(|at| at as i64).collect();
        Example::new(tokens, Targets::PerPosition { positions, classes })
    }

    fn solve(&self, example: &Example) -> Option<Vec<i64>> {
        let [_, _, eos, _] = self.special();
        let mut y = self.answer(self.input(example));
        y.push(eos);
        y.truncate(example.targets.classes().len());
        Some(y)
    }

    fn guess(&self, example: &Example, stream: &mut Stream) -> Vec<i64> {
        let x = self.input(example);
        x.iter().map(|_| x[stream.below(x.len() as u64) as usize]).collect()
    }

    fn guessing(&self) -> &'static str {
        "a token of x, drawn uniformly at each position"
    }

    fn distributions(&self, drawn: &[Vec<i64>]) -> Vec<Option<Goodness>> {
        let mut seen = vec![0; self.symbols as usize];
        // Where symbols differ from each other only one of a sequence is drawn freely.
        let counted = if self.distinct { 1 } else { usize::MAX };
        drawn.iter().flat_map(|x| x.iter().take(counted)).for_each(|&symbol| seen[symbol as usize] += 1);
        vec![Goodness::uniform("symbol", &seen)]
    }
}
