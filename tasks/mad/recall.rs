//! In-context recall, plain and noisy.
//!
//! ```text
//! n symbols: keys 0 .. n/2, values n/2 .. n; noise n .. n + noise; the copy prefix is V − 1
//! L/2 − 1 steps: noise noise  with probability frac_noise, except at one protected step
//!                key value    otherwise; the key uniform, its value uniform at first and then the same
//! last pair:     its key uniform among those shown
//! ```
//! Quirk of mad-lab: the protected step is one of L/2, and the last of them is not a step, so one example in L/2 has none.

use super::{Config, Form};
use crate::core::rng::Stream;
use crate::{Example, Goodness, Split, Targets};

#[derive(Debug)]
pub(super) struct Recall {
    keys: i64,
    symbols: i64,
    noise: u64,
    frac_noise: f64,
    steps: u64,
    /// Stands before the last key where that alone asks.
    prefix: Option<i64>,
}

impl Recall {
    pub(super) fn new(cfg: &Config) -> Self {
        let symbols = cfg.symbols() as i64;
        Self {
            keys: symbols / 2,
            symbols,
            noise: cfg.noise_vocab(),
            frac_noise: cfg.frac_noise(),
            steps: cfg.seq_len() / 2 - 1,
            prefix: (!cfg.multi_query()).then_some(cfg.vocab_size() as i64 - 1),
        }
    }

    /// The sequence up to its last pair, and the value of each key that it shows.
    fn context(&self, stream: &mut Stream) -> (Vec<i64>, Vec<Option<i64>>) {
        let mut tokens = Vec::with_capacity(2 * self.steps as usize + 3);
        let mut values: Vec<Option<i64>> = vec![None; self.keys as usize];
        let protected = stream.below(self.steps + 1);
        for step in 0..self.steps {
            if self.frac_noise > 0.0 && step != protected && stream.chance(self.frac_noise) {
                tokens.extend([(); 2].map(|()| self.symbols + stream.below(self.noise) as i64));
                continue;
            }
            let key = stream.below(self.keys as u64) as usize;
            let value =
                *values[key].get_or_insert_with(|| self.keys + stream.below((self.symbols - self.keys) as u64) as i64);
            tokens.extend([key as i64, value]);
        }
        (tokens, values)
    }

    fn is_key(&self, token: i64) -> bool {
        (0..self.keys).contains(&token)
    }

    /// The pairs that start before `end`.
    fn pairs<'a>(&self, tokens: &'a [i64], end: usize) -> impl Iterator<Item = (i64, i64)> + use<'a> {
        let keys = self.keys;
        tokens[..end.min(tokens.len())]
            .chunks_exact(2)
            .filter(move |pair| (0..keys).contains(&pair[0]))
            .map(|pair| (pair[0], pair[1]))
    }
}

impl Form for Recall {
    fn example(&self, split: Split, stream: &mut Stream) -> Example {
        let (mut tokens, values) = std::iter::repeat_with(|| self.context(stream))
            .find(|(_, values)| values.iter().any(Option::is_some))
            .expect("a step is a pair with a probability above 0");
        let shown: Vec<i64> = (0..self.keys).filter(|&key| values[key as usize].is_some()).collect();
        let key = shown[stream.below(shown.len() as u64) as usize];
        let value = values[key as usize].expect("it was shown");
        tokens.extend(self.prefix);
        tokens.push(key);

        let (mut positions, mut classes) = (Vec::new(), Vec::new());
        if self.prefix.is_none() && split == Split::Train {
            positions.extend(0..tokens.len() as i64);
            classes.extend_from_slice(&tokens[1..]);
        } else {
            if self.prefix.is_none() {
                let mut seen = vec![false; self.keys as usize];
                for (at, pair) in tokens.chunks_exact(2).enumerate().filter(|(_, pair)| self.is_key(pair[0])) {
                    if std::mem::replace(&mut seen[pair[0] as usize], true) {
                        positions.push(2 * at as i64);
                        classes.push(pair[1]);
                    }
                }
            }
            positions.push(tokens.len() as i64 - 1);
        }
        classes.push(value);
        Example::new(tokens, Targets::PerPosition { positions, classes })
    }

    fn solve(&self, example: &Example) -> Option<Vec<i64>> {
        let Targets::PerPosition { positions, .. } = &example.targets else { return None };
        let recall = |&at: &i64| {
            let at = at as usize;
            let key = *example.tokens.get(at)?;
            self.pairs(&example.tokens, at).find(|pair| pair.0 == key).map(|pair| pair.1)
        };
        positions.iter().map(recall).collect()
    }

    fn guess(&self, example: &Example, stream: &mut Stream) -> Vec<i64> {
        let Targets::PerPosition { positions, .. } = &example.targets else { return Vec::new() };
        let mut guess = |&at: &i64| {
            let shown: Vec<i64> = self.pairs(&example.tokens, at as usize).map(|pair| pair.1).collect();
            shown[stream.below(shown.len() as u64) as usize]
        };
        positions.iter().map(&mut guess).collect()
    }

    fn guessing(&self) -> &'static str {
        "the value of a pair drawn uniformly from those shown so far"
    }

    fn distributions(&self, drawn: &[Example]) -> Vec<Option<Goodness>> {
        let (keys, symbols) = (self.keys as usize, self.symbols as usize);
        let (mut key, mut value, mut last) = (vec![0; keys], vec![0; symbols - keys], vec![0; keys]);
        let (mut noise, mut first) = (vec![0; self.noise as usize], [0, 0]);
        for example in drawn {
            let context = &example.tokens[..2 * self.steps as usize];
            let mut seen = vec![false; keys];
            first[usize::from(!self.is_key(context[0]))] += 1;
            for pair in context.chunks_exact(2) {
                if !self.is_key(pair[0]) {
                    pair.iter().for_each(|&token| noise[token as usize - symbols] += 1);
                    continue;
                }
                key[pair[0] as usize] += 1;
                if !std::mem::replace(&mut seen[pair[0] as usize], true) {
                    value[pair[1] as usize - keys] += 1;
                }
            }
            last[example.tokens[example.tokens.len() - 1] as usize] += 1;
        }
        let noisy = self.frac_noise * (1.0 - 1.0 / (self.steps + 1) as f64);
        vec![
            Goodness::uniform("key", &key),
            Goodness::uniform("value at its first use", &value),
            Goodness::uniform("key of the last pair", &last),
            Goodness::uniform("noise token", &noise),
            (noisy > 0.0)
                .then(|| Goodness::chi_square("noise at the first step", &first, &[1.0 - noisy, noisy]))
                .flatten(),
        ]
    }

    fn bits(&self) -> f64 {
        self.steps as f64 * (self.keys as f64).log2()
    }
}
