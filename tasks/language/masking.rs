//! Masks: which tokens of a sequence are hidden, and what stands in their place.
//!
//! ```text
//! [CLS] the cat sat on the mat [SEP]        never a special token; each of the others with probability 0.15, or
//!            ↓           ↓                  exactly round(0.15 · 6) of them, at least one
//! [CLS] the [MASK] sat on dog mat [SEP]     of those: 0.8 [MASK], 0.1 a random token, 0.1 as it was; all are asked for
//! ```
//! Paper    Devlin et al. 2019 (BERT), arXiv:1810.04805; every rate: Wettig et al. 2023, arXiv:2202.08005
//! Matches  `independent`: Hugging Face's collator for language modelling; `exact`, with `most` 20: google-research/bert;
//!          `whole_words`: the same repository, a word that would go beyond the count is passed over
//! Departs  an independent mask that chose nothing chooses one token, and so does a count whose words are all too long: every
//!          sequence has something to score; a random token is never special, and counts are of tokens that are not special,
//!          where BERT counts `[CLS]` and `[SEP]` too
//!
//! A token for the unknown counts as special: a model gains nothing by saying it. Where a sequence has no other token, these
//! are hidden, so that every sequence is scored.

use crate::Tokenizer;
use crate::core::rng::Stream;
use serde::{Deserialize, Serialize};

/// How many tokens are hidden.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Count {
    /// Each by itself, with the probability of the rate.
    Independent,
    /// The rate's share of the tokens, rounded, and at least one.
    Exact,
}

/// What is hidden.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Masking {
    /// Share of the tokens that are hidden.
    pub rate: f64,
    /// How many tokens that makes.
    pub count: Count,
    /// Never more than this many; BERT: 20 of 128.
    pub most: Option<u32>,
    /// Whether all pieces of a word are hidden together.
    pub whole_words: bool,
    /// Share of the hidden ones that `[MASK]` stands for.
    pub mask_share: f64,
    /// Share of them that a random token stands for; the rest stays as it was.
    pub random_share: f64,
}

/// What stands in place of a hidden token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Fate {
    /// `[MASK]`.
    Masked,
    /// A random token.
    Swapped,
    /// Itself.
    Kept,
}

/// One hidden token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hidden {
    /// Where it stands.
    pub position: usize,
    /// What it was.
    pub token: u32,
    /// What stands in its place.
    pub fate: Fate,
}

/// A sequence with its mask.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Masked {
    /// What a model sees.
    pub tokens: Vec<u32>,
    /// What it is asked for, by position.
    pub hidden: Vec<Hidden>,
}

/// The tokens of a vocabulary that stand for text: what a random token is drawn from.
pub fn plain(tokenizer: &Tokenizer) -> Vec<u32> {
    (0..tokenizer.vocab_size() as u32).filter(|&token| !tokenizer.is_special(token)).collect()
}

impl Masking {
    /// Draws the mask of a sequence. `plain` is what [`plain`] gives.
    ///
    /// # Panics
    /// When the sequence or `plain` is empty.
    pub fn draw(&self, tokens: &[u32], tokenizer: &Tokenizer, plain: &[u32], stream: &mut Stream) -> Masked {
        assert!(!tokens.is_empty(), "a mask of nothing");
        let words = self.words(tokens, tokenizer);
        let mut positions = match self.count {
            Count::Independent => self.independent(&words, stream),
            Count::Exact => self.exact(&words, stream),
        };
        positions.sort_unstable();
        let (mask, mut seen) = (tokenizer.specials().mask, tokens.to_vec());
        let hide = |position: usize| {
            let draw = stream.unit();
            let (fate, stands) = if draw < self.mask_share {
                (Fate::Masked, mask)
            } else if draw < self.mask_share + self.random_share {
                (Fate::Swapped, plain[stream.below(plain.len() as u64) as usize])
            } else {
                (Fate::Kept, tokens[position])
            };
            seen[position] = stands;
            Hidden { position, token: tokens[position], fate }
        };
        let hidden = positions.into_iter().map(hide).collect();
        Masked { tokens: seen, hidden }
    }

    /// What is hidden together: words or single tokens, by position.
    fn words(&self, tokens: &[u32], tokenizer: &Tokenizer) -> Vec<std::ops::Range<usize>> {
        let unknown = tokenizer.specials().unknown;
        let of = |may: &dyn Fn(u32) -> bool| {
            let mut words: Vec<std::ops::Range<usize>> = Vec::new();
            for (i, &token) in tokens.iter().enumerate().filter(|&(_, &token)| may(token)) {
                match words.last_mut() {
                    Some(word) if self.whole_words && word.end == i && tokenizer.continues(tokens[i - 1], token) => {
                        word.end = i + 1;
                    }
                    _ => words.push(i..i + 1),
                }
            }
            words
        };
        let choices: [&dyn Fn(u32) -> bool; 3] =
            [&|token| !tokenizer.is_special(token), &|token| token == unknown, &|_| true];
        choices.into_iter().map(of).find(|words| !words.is_empty()).unwrap_or_default()
    }

    fn independent(&self, words: &[std::ops::Range<usize>], stream: &mut Stream) -> Vec<usize> {
        let mut chosen: Vec<usize> = (0..words.len()).filter(|_| stream.chance(self.rate)).collect();
        if chosen.is_empty() {
            chosen.push(stream.below(words.len() as u64) as usize);
        }
        let most = self.most.map_or(usize::MAX, |most| most as usize);
        if chosen.iter().map(|&w| words[w].len()).sum::<usize>() > most {
            stream.shuffle(&mut chosen);
            return fitting(chosen.iter().map(|&w| &words[w]), most);
        }
        chosen.into_iter().flat_map(|w| words[w].clone()).collect()
    }

    fn exact(&self, words: &[std::ops::Range<usize>], stream: &mut Stream) -> Vec<usize> {
        let tokens: usize = words.iter().map(ExactSizeIterator::len).sum();
        let asked = (self.rate * tokens as f64).round() as usize;
        let count = asked.min(self.most.map_or(usize::MAX, |most| most as usize)).max(1);
        if !self.whole_words {
            let chosen = stream.distinct(count, words.len());
            return chosen.into_iter().map(|w| words[w as usize].start).collect();
        }
        let order = stream.distinct(words.len(), words.len());
        fitting(order.iter().map(|&w| &words[w as usize]), count)
    }
}

/// The tokens of the words that fit in `count` together, taken in this order; where none fits, those of the first.
fn fitting<'a>(words: impl Iterator<Item = &'a std::ops::Range<usize>> + Clone, count: usize) -> Vec<usize> {
    let mut positions = Vec::new();
    for word in words.clone() {
        if positions.len() + word.len() <= count {
            positions.extend(word.clone());
        }
    }
    if positions.is_empty() { words.take(1).cloned().flatten().collect() } else { positions }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Goodness;
    use crate::core::rng::Purpose;
    use proptest::prelude::*;
    use std::collections::HashMap;

    const BERT: Masking = Masking {
        rate: 0.15,
        count: Count::Independent,
        most: None,
        whole_words: false,
        mask_share: 0.8,
        random_share: 0.1,
    };

    fn stream(index: u64) -> Stream {
        Stream::new(3, Purpose::GUESS, index)
    }

    /// A sequence of text between special tokens.
    fn sequence(text: &str) -> Vec<u32> {
        [vec![2], Tokenizer::bytes().encode(text), vec![3, 0]].concat()
    }

    #[test]
    fn shares_are_those_asked_for() {
        let (tokenizer, text) = (Tokenizer::bytes(), "abcdefghij".repeat(10));
        let (tokens, plain) = (sequence(&text), plain(&tokenizer));
        for count in [Count::Independent, Count::Exact] {
            let masking = Masking { count, rate: 0.2, ..BERT };
            let (mut fates, mut places, mut randoms) = (HashMap::new(), vec![0_u64; 100], vec![0_u64; 256]);
            let mut hidden = 0;
            for draw in 0..4000 {
                let masked = masking.draw(&tokens, &tokenizer, &plain, &mut stream(draw));
                hidden += masked.hidden.len() as u64;
                for token in masked.hidden {
                    *fates.entry(token.fate).or_insert(0_u64) += 1;
                    places[token.position - 1] += 1;
                    if token.fate == Fate::Swapped {
                        randoms[masked.tokens[token.position] as usize - 5] += 1;
                    }
                }
            }
            let fates = [Fate::Masked, Fate::Swapped, Fate::Kept].map(|fate| fates[&fate]);
            let tests = [
                Goodness::chi_square("fates", &fates, &[0.8, 0.1, 0.1]),
                Goodness::uniform("positions", &places),
                Goodness::uniform("random tokens", &randoms),
                Goodness::chi_square("rate", &[hidden, 400_000 - hidden], &[0.2, 0.8]),
            ];
            for test in tests.into_iter().flatten() {
                assert!(test.p > 1e-3, "{count:?} {test:?}");
            }
            if count == Count::Exact {
                assert_eq!(hidden, 80_000);
            }
        }
    }

    #[test]
    fn counts_are_rounded_capped_and_at_least_one() {
        let (tokenizer, plain) = (Tokenizer::bytes(), plain(&Tokenizer::bytes()));
        let count = |letters: usize, rate, most| {
            let masking = Masking { count: Count::Exact, rate, most, ..BERT };
            masking.draw(&sequence(&"a".repeat(letters)), &tokenizer, &plain, &mut stream(0)).hidden.len()
        };
        // 0.15 · 126 = 18.9; BERT caps at 20.
        assert_eq!([count(126, 0.15, None), count(1, 0.15, None), count(10, 0.15, None)], [19, 1, 2]);
        assert_eq!([count(200, 0.15, Some(20)), count(100, 0.15, Some(20)), count(4, 1.0, None)], [20, 15, 4]);
    }

    #[test]
    fn a_sequence_without_text_is_scored_all_the_same() {
        let (tokenizer, plain) = (Tokenizer::bytes(), plain(&Tokenizer::bytes()));
        for count in [Count::Independent, Count::Exact] {
            let masking = Masking { count, ..BERT };
            let unknown = masking.draw(&[2, 1, 1, 3], &tokenizer, &plain, &mut stream(1));
            assert!(unknown.hidden.iter().all(|hidden| hidden.token == 1) && !unknown.hidden.is_empty());
            assert_eq!(masking.draw(&[3], &tokenizer, &plain, &mut stream(1)).hidden.len(), 1);
        }
    }

    proptest! {
        #[test]
        fn masks_keep_their_laws(
            text in "[ab ,é]{1,40}", rate in 0.0..1.0, exact: bool, whole_words: bool, most in proptest::option::of(1..9_u32),
            mask_share in 0.0..1.0, seed: u64,
        ) {
            let count = if exact { Count::Exact } else { Count::Independent };
            let masking = Masking { rate, count, most, whole_words, mask_share, random_share: (1.0 - mask_share) / 2.0 };
            let (tokenizer, tokens) = (Tokenizer::bytes(), sequence(&text));
            let plain = plain(&tokenizer);
            let draw = || masking.draw(&tokens, &tokenizer, &plain, &mut Stream::new(seed, Purpose::GUESS, 0));
            let masked = draw();
            prop_assert_eq!(&masked, &draw());
            prop_assert!(!masked.hidden.is_empty());
            prop_assert!(masked.hidden.windows(2).all(|two| two[0].position < two[1].position));
            let mut seen = masked.tokens.clone();
            for hidden in &masked.hidden {
                prop_assert_eq!(tokens[hidden.position], hidden.token);
                prop_assert!(!tokenizer.is_special(hidden.token));
                let stands = masked.tokens[hidden.position];
                let as_told = match hidden.fate {
                    Fate::Masked => stands == 4,
                    Fate::Swapped => !tokenizer.is_special(stands),
                    Fate::Kept => stands == hidden.token,
                };
                prop_assert!(as_told, "{:?}", hidden);
                seen[hidden.position] = hidden.token;
            }
            prop_assert_eq!(&seen, &tokens, "nothing else is touched");

            let is_hidden = |at: usize| masked.hidden.iter().any(|hidden| hidden.position == at);
            let asked = ((rate * text.len() as f64).round() as usize).min(most.unwrap_or(99) as usize).max(1);
            if whole_words {
                let whole = (1..tokens.len()).filter(|&at| tokenizer.continues(tokens[at - 1], tokens[at]));
                prop_assert!(whole.into_iter().all(|at| is_hidden(at) == is_hidden(at - 1)), "words are whole");
                let one_word = masked.hidden.windows(2).all(|two| {
                    two[0].position + 1 == two[1].position && tokenizer.continues(two[0].token, two[1].token)
                });
                prop_assert!(!exact || masked.hidden.len() <= asked || one_word);
            } else if exact {
                prop_assert_eq!(masked.hidden.len(), asked);
            }
            prop_assert!(whole_words || most.is_none_or(|most| masked.hidden.len() <= most as usize));
        }
    }
}
