//! Nested brackets of k types, at most D open at once: Dyck-(k, D).
//!
//! ```text
//! opening brackets 0 .. k, closing k .. 2k, of types in the same order
//! walk    at depth 0 open, at depth D close, otherwise open with probability 1/2; the type of an opening one uniform
//! member  a walk that also closes as soon as what is left of its length is all needed for that
//! broken  a member with two brackets of its changed round, drawn again until it is none; counting brackets tells nothing
//! ```

use super::{Config, Form};
use crate::core::rng::Stream;
use crate::{Example, Goodness, Split, Targets};

#[derive(Debug)]
struct Walk {
    brackets: u64,
    depth: usize,
}

impl Walk {
    fn new(cfg: &Config) -> Self {
        Self { brackets: cfg.brackets(), depth: cfg.depth() as usize }
    }

    fn draw(&self, n: usize, closed: bool, stream: &mut Stream) -> Vec<i64> {
        let (mut tokens, mut open) = (Vec::with_capacity(n), Vec::with_capacity(self.depth.min(n)));
        while tokens.len() < n {
            let must_close = open.len() == self.depth || closed && open.len() == n - tokens.len();
            if open.is_empty() || !must_close && stream.below(2) == 0 {
                let kind = stream.below(self.brackets) as i64;
                open.push(kind);
                tokens.push(kind);
            } else {
                tokens.extend(open.pop().map(|kind| kind + self.brackets as i64));
            }
        }
        tokens
    }

    /// The closing bracket that is due after each token, if one is; `None` where a bracket is wrong.
    fn due(&self, tokens: &[i64]) -> Option<Vec<Option<i64>>> {
        let (k, mut open) = (self.brackets as i64, Vec::new());
        let step = |&token: &i64| {
            if token < k {
                open.push(token + k);
            } else if open.pop() != Some(token) {
                return None;
            }
            (open.len() <= self.depth).then(|| open.last().copied())
        };
        tokens.iter().map(step).collect()
    }

    fn is_member(&self, tokens: &[i64]) -> bool {
        self.due(tokens).is_some_and(|due| due.last().is_none_or(Option::is_none))
    }

    /// Strings of n brackets, at the least: n/2 types, and with D > 1 every second step may go either way.
    fn strings(&self, n: u64) -> u64 {
        let half = (n / 2).min(64) as u32;
        let ways = if self.depth > 1 { 2_u64.saturating_pow(half.saturating_sub(1)) } else { 1 };
        self.brackets.saturating_pow(half).saturating_mul(ways)
    }

    /// Tests of the types of opening brackets, and of the steps at depths where both are possible.
    fn distributions(&self, drawn: &[Vec<i64>], closed: bool) -> Vec<Option<Goodness>> {
        let (mut kinds, mut steps) = (vec![0; self.brackets as usize], [0, 0]);
        for tokens in drawn {
            let mut depth = 0;
            for (at, &token) in tokens.iter().enumerate() {
                let opens = token < self.brackets as i64;
                let free = (1..self.depth).contains(&depth) && !(closed && depth >= tokens.len() - at);
                steps[usize::from(opens)] += u64::from(free);
                if opens {
                    kinds[token as usize] += 1;
                    depth += 1;
                } else {
                    depth -= 1;
                }
            }
        }
        vec![
            Goodness::uniform("type of an opening bracket", &kinds),
            Goodness::uniform("closed or opened where both are possible", &steps),
        ]
    }
}

/// Which bracket closes, wherever one does.
#[derive(Debug)]
pub(super) struct Closing(Walk);

impl Closing {
    pub(super) fn new(cfg: &Config) -> Self {
        Self(Walk::new(cfg))
    }
}

impl Form for Closing {
    fn inputs(&self, n: u64) -> u64 {
        self.0.strings(n - 1)
    }

    fn draw(&self, n: usize, _: bool, stream: &mut Stream) -> Vec<i64> {
        let closes = |walk: &Vec<i64>| walk.iter().any(|&token| token >= self.0.brackets as i64);
        std::iter::repeat_with(|| self.0.draw(n, false, stream)).find(closes).expect("half of the second steps close")
    }

    fn example(&self, mut drawn: Vec<i64>, _: Split) -> Example {
        let closing = |&(_, &token): &(usize, &i64)| token >= self.0.brackets as i64;
        let (positions, classes) =
            drawn.iter().enumerate().filter(closing).map(|(at, &token)| (at as i64 - 1, token)).unzip();
        drawn.pop();
        Example::new(drawn, Targets::PerPosition { positions, classes })
    }

    fn solve(&self, example: &Example) -> Option<Vec<i64>> {
        let Targets::PerPosition { positions, .. } = &example.targets else { return None };
        let due = self.0.due(&example.tokens)?;
        positions.iter().map(|&at| *due.get(at as usize)?).collect()
    }

    fn guess(&self, example: &Example, stream: &mut Stream) -> Vec<i64> {
        let k = self.0.brackets;
        example.targets.classes().iter().map(|_| (k + stream.below(k)) as i64).collect()
    }

    fn guessing(&self) -> &'static str {
        "all probability on one closing bracket, drawn uniformly"
    }

    fn distributions(&self, drawn: &[Vec<i64>]) -> Vec<Option<Goodness>> {
        self.0.distributions(drawn, false)
    }
}

/// The closing bracket of the newest opening one, closed or not: right without a stack wherever nothing was closed since.
pub(super) fn newest(example: &Example, brackets: i64) -> Vec<i64> {
    let Targets::PerPosition { positions, .. } = &example.targets else { return Vec::new() };
    let opener = |at: i64| example.tokens[..=at as usize].iter().rfind(|&&token| token < brackets);
    positions.iter().map(|&at| opener(at).map_or(brackets, |token| token + brackets)).collect()
}

/// Whether a string is nested rightly.
#[derive(Debug)]
pub(super) struct Membership(Walk);

impl Membership {
    pub(super) fn new(cfg: &Config) -> Self {
        Self(Walk::new(cfg))
    }
}

impl Form for Membership {
    fn inputs(&self, n: u64) -> u64 {
        self.0.strings(n)
    }

    fn draw(&self, n: usize, odd: bool, stream: &mut Stream) -> Vec<i64> {
        let member = self.0.draw(n, true, stream);
        if odd {
            return member;
        }
        let swapped = || {
            let mut broken = member.clone();
            broken.swap(stream.below(n as u64) as usize, stream.below(n as u64) as usize);
            broken
        };
        // The first bracket and its partner, changed round, always break it.
        std::iter::repeat_with(swapped).find(|broken| !self.0.is_member(broken)).expect("some pair breaks it")
    }

    fn example(&self, drawn: Vec<i64>, _: Split) -> Example {
        let member = i64::from(self.0.is_member(&drawn));
        Example::new(drawn, Targets::PerSequence(vec![member]))
    }

    fn solve(&self, example: &Example) -> Option<Vec<i64>> {
        Some(vec![i64::from(self.0.is_member(&example.tokens))])
    }

    fn guess(&self, _: &Example, stream: &mut Stream) -> Vec<i64> {
        vec![stream.below(2) as i64]
    }

    fn guessing(&self) -> &'static str {
        "a fair coin"
    }

    fn distributions(&self, drawn: &[Vec<i64>]) -> Vec<Option<Goodness>> {
        let members: Vec<Vec<i64>> = drawn.iter().filter(|tokens| self.0.is_member(tokens)).cloned().collect();
        let labels = [(drawn.len() - members.len()) as u64, members.len() as u64];
        let mut found = vec![Goodness::uniform("label", &labels)];
        found.extend(self.0.distributions(&members, true));
        found
    }
}
