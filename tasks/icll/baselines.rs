//! Learners that see nothing but the prompt: n-grams with back-off, and Baum–Welch.

use crate::core::rng::Stream;

/// One prompt as a learner sees it: words of letters.
pub type Words<'a> = &'a [&'a [i64]];

/// What a learner gives each letter at each position of the words, every word's first letter included, from what stands before.
pub trait Learner {
    /// Probabilities of the letters, position by position.
    fn predict(&mut self, words: Words<'_>) -> Vec<Vec<f64>>;
}

/// Shares of letters behind the longest context that was seen before, of at most `order − 1` symbols. A context ends at the word's
/// beginning, which is one of its symbols; nothing is smoothed, and before the first letter all are equally likely.
#[derive(Debug)]
pub struct Ngram {
    /// n
    pub order: usize,
    /// Letters there are.
    pub letters: usize,
}

impl Learner for Ngram {
    fn predict(&mut self, words: Words<'_>) -> Vec<Vec<f64>> {
        let mut counts: std::collections::HashMap<Vec<i64>, Vec<f64>> = Default::default();
        let mut predictions = Vec::new();
        for word in words {
            let mut history = vec![-1]; // the word's beginning
            for &letter in *word {
                let longest = history.len().min(self.order - 1);
                let contexts = || (0..=longest).rev().map(|n| &history[history.len() - n..]);
                let known = contexts().find_map(|context| counts.get(context));
                predictions.push(known.map_or(vec![1.0 / self.letters as f64; self.letters], |counts| {
                    let total: f64 = counts.iter().sum();
                    counts.iter().map(|count| count / total).collect()
                }));
                for context in contexts() {
                    counts.entry(context.to_vec()).or_insert_with(|| vec![0.0; self.letters])[letter as usize] += 1.0;
                }
                history.push(letter);
            }
        }
        predictions
    }
}

/// Added to every expected count: an event that was never seen keeps a small chance.
const PSEUDO_COUNT: f64 = 1e-3;

/// A hidden Markov model that emits a letter on each transition, so that every automaton of as many states is one of them. It
/// starts in state 0.
///
/// ```text
/// p(a, t | s)      letter a and next state t, from state s
/// E step           expected uses of each (s, a, t) in the words so far, by forward and backward sums
/// M step           p(a, t | s) ∝ uses + 0.001
/// ```
/// Paper    Baum et al. 1970
#[derive(Clone, Debug)]
pub struct Hmm {
    states: usize,
    letters: usize,
    /// `[letter][from][to]`, flat.
    chances: Vec<f64>,
}

impl Hmm {
    /// A random one, near to uniform.
    pub fn random(states: usize, letters: usize, stream: &mut Stream) -> Self {
        let chances = (0..letters * states * states).map(|_| 0.5 + stream.unit()).collect();
        let mut hmm = Self { states, letters, chances };
        hmm.normalize();
        hmm
    }

    /// Makes the chances from each state sum to 1.
    fn normalize(&mut self) {
        let n = self.states;
        for from in 0..n {
            let cells = |letter: usize| (letter * n + from) * n..(letter * n + from + 1) * n;
            let total: f64 = (0..self.letters).map(|letter| self.chances[cells(letter)].iter().sum::<f64>()).sum();
            (0..self.letters).for_each(|letter| self.chances[cells(letter)].iter_mut().for_each(|p| *p /= total));
        }
    }

    fn start(&self) -> Vec<f64> {
        let mut state = vec![0.0; self.states];
        state[0] = 1.0;
        state
    }

    /// The transitions that emit a letter, `[from][to]`.
    fn emitting(&self, letter: i64) -> &[f64] {
        let size = self.states * self.states;
        &self.chances[letter as usize * size..][..size]
    }

    /// Chances of the states after a letter, and that of the letter.
    fn forward(&self, state: &[f64], letter: i64) -> (Vec<f64>, f64) {
        let mut next = vec![0.0; self.states];
        for (row, chance) in self.emitting(letter).chunks_exact(self.states).zip(state) {
            next.iter_mut().zip(row).for_each(|(next, p)| *next += chance * p);
        }
        let total: f64 = next.iter().sum();
        next.iter_mut().for_each(|next| *next /= total);
        (next, total)
    }

    /// Chances of the letters in a state.
    pub fn letters(&self, state: &[f64]) -> Vec<f64> {
        let emits = |letter: usize| {
            let rows = self.emitting(letter as i64).chunks_exact(self.states);
            rows.zip(state).map(|(row, chance)| chance * row.iter().sum::<f64>()).sum()
        };
        (0..self.letters).map(emits).collect()
    }

    /// One step of EM on the words; returns the log-likelihood before it.
    pub fn step(&mut self, words: Words<'_>) -> f64 {
        let n = self.states;
        let mut uses = vec![PSEUDO_COUNT; self.chances.len()];
        let mut log_likelihood = 0.0;
        for word in words {
            let mut states = vec![self.start()];
            let mut totals = Vec::new();
            for &letter in *word {
                let (next, total) = self.forward(&states[states.len() - 1], letter);
                log_likelihood += libm::log(total);
                states.push(next);
                totals.push(total);
            }
            let mut after = vec![1.0; n];
            for ((&letter, &total), state) in word.iter().zip(&totals).zip(&states).rev() {
                let mut before = vec![0.0; n];
                let cells = uses[letter as usize * n * n..].chunks_exact_mut(n);
                let rows = self.emitting(letter).chunks_exact(n);
                for (((row, uses), chance), before) in rows.zip(cells).zip(state).zip(&mut before) {
                    for ((p, uses), after) in row.iter().zip(uses).zip(&after) {
                        let through = p * after / total;
                        *uses += chance * through;
                        *before += through;
                    }
                }
                after = before;
            }
        }
        self.chances = uses;
        self.normalize();
        log_likelihood
    }
}

/// An [`Hmm`] that is fitted again before each word, to all words before it, going on from the last fit.
#[derive(Debug)]
pub struct BaumWelch {
    /// The model to begin with.
    pub hmm: Hmm,
    /// Steps of EM before each word.
    pub iterations: u32,
}

impl Learner for BaumWelch {
    fn predict(&mut self, words: Words<'_>) -> Vec<Vec<f64>> {
        let mut predictions = Vec::new();
        for (seen, word) in words.iter().enumerate() {
            for _ in 0..if seen == 0 { 0 } else { self.iterations } {
                self.hmm.step(&words[..seen]);
            }
            let mut state = self.hmm.start();
            for &letter in *word {
                predictions.push(self.hmm.letters(&state));
                state = self.hmm.forward(&state, letter).0;
            }
        }
        predictions
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rng::Purpose;

    fn hmm(states: usize, letters: usize, index: u64) -> Hmm {
        Hmm::random(states, letters, &mut Stream::new(0, Purpose::GUESS, index))
    }

    #[test]
    fn bigrams_are_those_counted_by_hand() {
        let mut bigram = Ngram { order: 2, letters: 3 };
        let predictions = bigram.predict(&[&[0, 1, 0], &[0, 2]]);
        let third = vec![1.0 / 3.0; 3];
        let sure = |letter: usize| (0..3).map(|a| f64::from(a == letter)).collect::<Vec<f64>>();
        // Nothing seen; 0 seen behind the beginning alone, so the letters so far: 0; then behind 1, likewise: 0 and 1;
        // behind a beginning: 0; behind 0: 1.
        assert_eq!(predictions, [third, sure(0), vec![0.5, 0.5, 0.0], sure(0), sure(1)]);
    }

    #[test]
    fn trigrams_use_two_symbols_and_back_off_to_one() {
        let mut trigram = Ngram { order: 3, letters: 3 };
        let predictions = trigram.predict(&[&[0, 1, 1, 2], &[1, 1]]);
        // The second word: at its beginning 0; behind (beginning, 1), which is new, what came behind 1: 1 and 2.
        assert_eq!(predictions[4], [1.0, 0.0, 0.0]);
        assert_eq!(predictions[5], [0.0, 0.5, 0.5]);
    }

    #[test]
    fn predictions_never_look_ahead() {
        let mut learners: Vec<Box<dyn Learner>> = vec![
            Box::new(Ngram { order: 3, letters: 4 }),
            Box::new(BaumWelch { hmm: hmm(3, 4, 0), iterations: 4 }),
            Box::new(BaumWelch { hmm: hmm(3, 4, 0), iterations: 4 }),
        ];
        let [first, second] = [[&[0, 1, 2][..], &[2, 2, 1, 0]], [&[0, 1, 2][..], &[2, 2, 3, 3]]];
        assert_eq!(learners[0].predict(&first)[..6], Ngram { order: 3, letters: 4 }.predict(&second)[..6]);
        let (one, two) = (learners[1].predict(&first), learners[2].predict(&second));
        assert_eq!(one[..6], two[..6]);
        assert_ne!(one[6], two[6]);
    }

    #[test]
    fn the_likelihood_of_an_hmm_is_the_sum_over_all_its_paths() {
        let mut model = hmm(3, 2, 1);
        let word = [1_i64, 0, 0, 1];
        let path = |path: usize| {
            let mut from = 0;
            (0..4).fold(1.0, |p, at| {
                let to = path / 3_usize.pow(at) % 3;
                let p = p * model.chances[(word[at as usize] as usize * 3 + from) * 3 + to];
                from = to;
                p
            })
        };
        let sum: f64 = (0..81).map(path).sum();
        assert!((model.step(&[&word]) - sum.ln()).abs() < 1e-12);
    }

    #[test]
    fn em_never_lowers_the_likelihood_and_learns_an_alternation() {
        let words: Vec<Vec<i64>> = (1..9).map(|n| (0..n).map(|i| i % 2).collect()).collect();
        let words: Vec<&[i64]> = words.iter().map(Vec::as_slice).collect();
        for index in 0..5 {
            let mut model = hmm(2, 2, index);
            let steps: Vec<f64> = (0..60).map(|_| model.step(&words)).collect();
            assert!(steps.windows(2).all(|pair| pair[1] >= pair[0] - 1e-2), "{steps:?}");
            assert!(steps[59] > steps[0] + 10.0, "{steps:?}");
            let letters = model.letters(&model.start());
            assert!((letters.iter().sum::<f64>() - 1.0).abs() < 1e-12 && letters[0] > 0.5);
        }
    }
}
