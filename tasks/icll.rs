//! In-context language learning: words of a language never met before, and which letters may come next.
//!
//! ```text
//! e a f e | e a | b f e a …         10 to 19 words of one random automaton, joined by `|`
//! ↓ ↓ ↓   ↓ ↓   ↓ ↓ ↓ ↓             the next letter at every position but where a word ends
//! ```
//! Paper    Akyürek et al. 2024, arXiv:2401.12973
//! Matches  the automata and prompts of seq_icl: 4 to 12 states, 4 to 18 letters of 18, 1 to 3 edges a state with different
//!          symbols and targets and none to itself, minimised, trimmed, each one once; words of 1 to 49 letters, uniform steps
//! Departs  an automaton belongs to the split that its hash says; Baum–Welch fits transitions that emit, before each word anew
//!
//! A letter counts as right when the automaton allows it (greedy validity). Inputs hold the answers, one position later, so the
//! task is for causal mixers only; and no program can know every answer from a prompt, so the ceiling is that of one who knows the
//! automaton.

mod automaton;
mod baselines;
#[cfg(test)]
mod tests;

use crate::core::family::{Family, Outline, Variant};
use crate::core::limits::COUNT;
use crate::core::rng::{Purpose, Stream, owner};
use crate::{
    Baseline, Bound, ConfigError, DataDir, DataError, Example, FRESH, Goodness, Judge, Metric, Split, Targets, Task,
    TaskSpec,
    core::{bounds, drawn},
};
use automaton::{Automaton, Ranges, Sizes, between};
use baselines::{BaumWelch, Hmm, Learner, Ngram};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::HashSet;

/// How many times as many languages as automata asked for there must be: drawing new ones would not end otherwise.
const PLENTY: f64 = 100.0;

/// `task: { icll: { max_states: 8 } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Letters there are; behind them come `|` and the pad `.`.
    pub letters: u32,
    /// States of the smallest automaton, before it is minimised.
    pub min_states: u32,
    /// States of the largest.
    pub max_states: u32,
    /// Fewest letters of an automaton.
    pub min_alphabet: u32,
    /// Most letters of an automaton.
    pub max_alphabet: u32,
    /// Fewest edges of a state.
    pub min_edges: u32,
    /// Most edges of a state.
    pub max_edges: u32,
    /// Fewest words of a prompt.
    pub min_words: u32,
    /// Most words of a prompt.
    pub max_words: u32,
    /// Letters of the shortest word.
    pub min_word_length: u32,
    /// Letters of the longest word.
    pub max_word_length: u32,
    /// Training automata, each with one prompt; null: every batch has new ones. The paper: 2,500 to 40,000.
    pub train_examples: Option<u64>,
    /// Validation automata.
    pub validation_examples: u64,
    /// Test automata.
    pub test_examples: u64,
    /// States of the model that Baum–Welch fits.
    pub hmm_states: u32,
    /// Its steps of EM before each word.
    pub hmm_iterations: u32,
    /// Test prompts it is fitted to, the first ones; 0: no such baseline.
    pub hmm_prompts: u64,
    /// Seed of the automata, of their words and of which split each automaton belongs to; not the run's seed.
    pub data_seed: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            letters: 18,
            min_states: 4,
            max_states: 12,
            min_alphabet: 4,
            max_alphabet: 18,
            min_edges: 1,
            max_edges: 3,
            min_words: 10,
            max_words: 19,
            min_word_length: 1,
            max_word_length: 49,
            train_examples: Some(5_000),
            validation_examples: 250,
            test_examples: 250,
            hmm_states: 12,
            hmm_iterations: 10,
            hmm_prompts: 50,
            data_seed: 0,
        }
    }
}

impl Config {
    fn ranges(&self) -> Ranges {
        Ranges {
            letters: self.letters,
            states: (self.min_states, self.max_states),
            alphabet: (self.min_alphabet, self.max_alphabet),
            edges: (self.min_edges, self.max_edges),
        }
    }

    /// `|`
    fn bar(&self) -> i64 {
        i64::from(self.letters)
    }

    fn vocab_size(&self) -> i64 {
        i64::from(self.letters) + 2
    }

    /// Tokens of the longest input: of every prompt the last letter is asked for and not shown.
    fn max_length(&self) -> i64 {
        i64::from(self.max_words) * (i64::from(self.max_word_length) + 1) - 2
    }

    fn limit(&self, split: Split) -> Option<u64> {
        match split {
            Split::Train => self.train_examples,
            Split::Validation => Some(self.validation_examples),
            Split::Test => Some(self.test_examples),
        }
    }

    /// `a ≤ b` for every pair of settings that must stand so.
    fn orders(&self) -> Vec<(&'static str, u32, &'static str, u32)> {
        let own = [
            ("min_states", self.min_states, "max_states", self.max_states),
            ("min_alphabet", self.min_alphabet, "max_alphabet", self.max_alphabet),
            ("min_edges", self.min_edges, "max_edges", self.max_edges),
            ("min_words", self.min_words, "max_words", self.max_words),
            ("min_word_length", self.min_word_length, "max_word_length", self.max_word_length),
            ("max_alphabet", self.max_alphabet, "letters", self.letters),
        ];
        own.into_iter().filter(|(_, less, _, more)| less > more).collect()
    }

    /// Settings that lie outside of what they may be.
    fn outside(&self) -> Vec<(&'static str, u64, u64, u64)> {
        [
            ("letters", self.letters.into(), 2, 1_000),
            ("min_states", self.min_states.into(), 2, 100),
            ("max_states", self.max_states.into(), 2, 100),
            ("min_alphabet", self.min_alphabet.into(), 2, 1_000),
            ("min_edges", self.min_edges.into(), 1, 100),
            ("min_words", self.min_words.into(), 2, 10_000),
            ("max_words", self.max_words.into(), 2, 10_000),
            ("min_word_length", self.min_word_length.into(), 1, 10_000),
            ("max_word_length", self.max_word_length.into(), 1, 10_000),
            ("train_examples", self.train_examples.unwrap_or(1), 1, 1_000_000),
            ("validation_examples", self.validation_examples, 1, 1_000_000),
            ("test_examples", self.test_examples, 1, 1_000_000),
            ("hmm_states", self.hmm_states.into(), 1, 100),
            ("hmm_iterations", self.hmm_iterations.into(), 1, 10_000),
        ]
        .into_iter()
        .filter(|(_, value, least, most)| !(least..=most).contains(&value))
        .collect()
    }
}

impl Family for Config {
    const NAME: &'static str = "icll";
    const ABOUT: &'static str =
        "in-context language learning: which letters may come next in a random automaton's words";
    const PAPER: &'static str = "Akyürek et al. 2024, arXiv:2401.12973";
    const LIMITS: &'static [(&'static str, u32)] = &[("hmm_prompts", COUNT)];

    fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut wrong = |key, problem: String, help: String| errors.push(ConfigError { key, problem, help });
        for (key, value, least, most) in self.outside() {
            wrong(
                key,
                format!("`{key}` is {value}, which is not between {least} and {most}"),
                "see the defaults, which are the paper's".into(),
            );
        }
        for (less, a, more, b) in self.orders() {
            wrong(
                less,
                format!("`{less}` {a} > `{more}` {b}"),
                format!("lower `{less}` to {b} or raise `{more}` to {a}"),
            );
        }
        let (states, alphabet, edges) = (self.min_states, self.min_alphabet, self.max_edges);
        if edges >= states && states > 1 {
            let problem = format!(
                "`max_edges` {edges} > {} = `min_states` {states} − 1, the different targets that a state's edges have",
                states - 1
            );
            wrong(
                "max_edges",
                problem,
                format!("raise `min_states` to {} or lower `max_edges`", edges.saturating_add(1)),
            );
        }
        if edges > alphabet {
            let problem = format!(
                "`max_edges` {edges} > `min_alphabet` {alphabet}, the different symbols that a state's edges have"
            );
            wrong("max_edges", problem, format!("raise `min_alphabet` to {edges} or lower `max_edges` to {alphabet}"));
        }
        if self.min_edges >= self.max_alphabet {
            let (least, most) = (self.min_edges, self.max_alphabet);
            let problem = format!("`min_edges` {least} ≥ `max_alphabet` {most}: every state allows every letter");
            wrong(
                "min_edges",
                problem,
                format!("raise `max_alphabet` to {} or lower `min_edges`", least.saturating_add(1)),
            );
        }
        if errors.is_empty() {
            let languages = self.ranges().languages_at_most();
            let splits = [("train_examples", Split::Train, 8.0), ("validation_examples", Split::Validation, 1.0)];
            for (key, split, share) in splits.into_iter().chain([("test_examples", Split::Test, 1.0)]) {
                let asked = self.limit(split).unwrap_or(1);
                let needed = PLENTY * asked as f64 * 10.0 / share;
                if needed > languages {
                    let problem = format!(
                        "`{key}` {asked} needs {PLENTY}·{asked}·10/{share} = {needed:.0} automata to draw from, more than the \
                         {languages:.0} there can be"
                    );
                    errors.push(ConfigError {
                        key,
                        problem,
                        help: "raise `max_states`, `max_edges` or `letters`".into(),
                    });
                }
            }
        }
        errors
    }

    fn outline(&self) -> Outline {
        Outline {
            causal: true,
            max_length: self.max_length(),
            vocab_size: self.vocab_size(),
            classes: self.vocab_size(),
            ..drawn::OUTLINE
        }
    }

    fn open(&self, _: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(Icll::new(self.clone())))
    }

    fn variants() -> Vec<Variant> {
        vec![
            // The token between words, wherever one may end, is right more often than a guess: measured.
            Variant::drawn(json!({})).floor(0.127, 0.03).pin("7f0d9a364c2e958c"),
            Variant::drawn(json!({
                "letters": 6, "min_alphabet": 4, "max_alphabet": 6, "max_states": 5, "max_edges": 2, "max_words": 12,
                "max_word_length": 9,
            }))
            .floor(0.274, 0.04)
            .pin("6c9cc61dbe2daf24"),
        ]
    }

    fn small() -> Vec<Value> {
        vec![json!({
            "letters": 6, "min_alphabet": 4, "max_alphabet": 6, "max_states": 5, "max_edges": 2, "min_words": 2, "max_words": 4,
            "max_word_length": 9,
        })]
    }
}

/// The opened task: the automata of its finite splits.
#[derive(Debug)]
pub struct Icll {
    cfg: Config,
    automata: [Vec<(Automaton, Sizes)>; 3],
}

impl Icll {
    /// The task of settings that passed their check.
    pub fn new(cfg: Config) -> Self {
        let automata = Split::ALL.map(|split| {
            let mut known = HashSet::new();
            let one = |index| loop_until_new(&cfg, split, index, |automaton| known.insert(automaton.clone()));
            (0..cfg.limit(split).unwrap_or(0)).map(one).collect()
        });
        Self { cfg, automata }
    }

    /// The automaton of an example, the smallest of its language.
    fn automaton(&self, split: Split, index: u64) -> Automaton {
        self.drawn(split, index).0
    }

    fn drawn(&self, split: Split, index: u64) -> (Automaton, Sizes) {
        match self.automata[split as usize].get(index as usize) {
            Some(known) => known.clone(),
            None => loop_until_new(&self.cfg, split, index, |_| true),
        }
    }

    /// All tokens of a prompt, the last one included.
    fn prompt(&self, split: Split, index: u64, automaton: &Automaton) -> Vec<i64> {
        let mut stream = Stream::new(self.cfg.data_seed, Purpose::of_split("icll words", split), index);
        let words = between((self.cfg.min_words, self.cfg.max_words), &mut stream);
        let mut tokens = Vec::new();
        for word in 0..words {
            if word > 0 {
                tokens.push(self.cfg.bar());
            }
            let length = between((self.cfg.min_word_length, self.cfg.max_word_length), &mut stream);
            automaton.word(length, &mut stream, &mut tokens);
        }
        tokens
    }

    /// For each letter of a prompt the ones that might have stood there.
    fn might_stand(&self, automaton: &Automaton, prompt: &[i64]) -> Vec<Vec<i64>> {
        let (mut state, mut sets) = (0, Vec::new());
        for &token in prompt {
            if token == self.cfg.bar() {
                state = 0;
                continue;
            }
            sets.push(automaton.symbols(state));
            state = automaton.next(state, token).expect("a word of its own automaton");
        }
        sets
    }

    /// Score, distance and total variation distance of a learner on the first `prompts` test prompts, over the scored positions.
    fn measure(&self, name: &'static str, prompts: u64, learner: impl Fn(u64) -> Box<dyn Learner>) -> [Baseline; 3] {
        let (mut positions, mut valid, mut distance) = (0, 0.0, 0.0);
        for index in 0..prompts {
            let automaton = self.automaton(Split::Test, index);
            let prompt = self.prompt(Split::Test, index, &automaton);
            let words: Vec<&[i64]> = prompt.split(|&token| token == self.cfg.bar()).collect();
            let predictions = learner(index).predict(&words);
            // No input stands before the first letter.
            for (guess, allowed) in predictions.iter().zip(self.might_stand(&automaton, &prompt)).skip(1) {
                let best = (0..guess.len()).rev().max_by(|&a, &b| guess[a].total_cmp(&guess[b])).unwrap_or(0) as i64;
                let truth = |letter: usize| match allowed.binary_search(&(letter as i64)) {
                    Ok(_) => 1.0 / allowed.len() as f64,
                    Err(_) => 0.0,
                };
                positions += 1;
                valid += f64::from(allowed.contains(&best));
                distance += guess.iter().enumerate().map(|(letter, p)| (p - truth(letter)).abs()).sum::<f64>();
            }
        }
        let distance = bounds::share(distance, positions);
        [("score", bounds::share(valid, positions)), ("distance", distance), ("tvd", distance / 2.0)]
            .map(|(measure, value)| Baseline { name, measure, at: None, value })
    }
}

/// Draws until the smallest automaton is the split's and `new`.
fn loop_until_new(
    cfg: &Config,
    split: Split,
    index: u64,
    mut new: impl FnMut(&Automaton) -> bool,
) -> (Automaton, Sizes) {
    let mut stream = Stream::new(cfg.data_seed, Purpose::of_split("icll automaton", split), index);
    loop {
        let (automaton, sizes) = cfg.ranges().draw(&mut stream);
        let automaton = automaton.minimal();
        if owner(&automaton.numbers(), cfg.data_seed) == split && new(&automaton) {
            return (automaton, sizes);
        }
    }
}

impl Task for Icll {
    fn spec(&self) -> TaskSpec {
        TaskSpec {
            pad_token: self.cfg.bar() + 1,
            judge: Judge::Allowed,
            metric: Metric::proportion("greedy validity"),
            version: 1,
            ..self.cfg.outline().spec()
        }
    }

    fn len(&self, split: Split) -> u64 {
        self.cfg.limit(split).unwrap_or(FRESH)
    }

    fn example(&self, split: Split, index: u64) -> Result<Example, DataError> {
        let mut tokens = self.prompt(split, index, &self.automaton(split, index));
        let next = tokens.iter().enumerate().skip(1).filter(|(_, token)| **token != self.cfg.bar());
        let (positions, classes) = next.map(|(at, &token)| (at as i64 - 1, token)).unzip();
        tokens.pop();
        Ok(Example::new(tokens, Targets::PerPosition { positions, classes }))
    }

    fn allowed(&self, split: Split, index: u64) -> Result<Option<Vec<Vec<i64>>>, DataError> {
        let automaton = self.automaton(split, index);
        let mut sets = self.might_stand(&automaton, &self.prompt(split, index, &automaton));
        sets.remove(0); // no input stands before the first letter
        Ok(Some(sets))
    }

    fn floor(&self) -> Result<Bound, DataError> {
        let vocab_size = self.cfg.vocab_size() as u64;
        bounds::uniform(self, self.cfg.data_seed, vocab_size, &format!("{vocab_size} tokens"))
    }

    fn ceiling(&self) -> Result<Bound, DataError> {
        let how =
            "by definition: who knows the automaton never errs; from the prompt alone its states must be inferred";
        Ok(Bound { score: 1.0, how: how.into() })
    }

    fn baselines(&self) -> Result<Vec<Baseline>, DataError> {
        let letters = self.cfg.letters as usize;
        let all = self.len(Split::Test);
        let mut found: Vec<Baseline> = Vec::new();
        for (name, order) in [("2-gram", 2), ("3-gram", 3)] {
            found.extend(self.measure(name, all, |_| Box::new(Ngram { order, letters })));
        }
        if self.cfg.hmm_prompts > 0 {
            let (states, iterations) = (self.cfg.hmm_states as usize, self.cfg.hmm_iterations);
            let learner = |index| -> Box<dyn Learner> {
                let mut stream = Stream::new(self.cfg.data_seed, Purpose::new("icll hmm"), index);
                Box::new(BaumWelch { hmm: Hmm::random(states, letters, &mut stream), iterations })
            };
            found.extend(self.measure("Baum-Welch", all.min(self.cfg.hmm_prompts), learner));
        }
        Ok(found)
    }

    fn distributions(&self, examples: u64) -> Result<Vec<Goodness>, DataError> {
        let cfg = &self.cfg;
        let cells = |range: (u32, u32)| vec![0_u64; (range.1 - range.0) as usize + 1];
        let ranges = cfg.ranges();
        let (word_range, length_range) = ((cfg.min_words, cfg.max_words), (cfg.min_word_length, cfg.max_word_length));
        let (mut states, mut alphabet, mut edges) = (cells(ranges.states), cells(ranges.alphabet), cells(ranges.edges));
        let (mut words, mut lengths) = (cells(word_range), cells(length_range));
        for index in 0..examples.min(self.len(Split::Train)) {
            let (automaton, sizes) = self.drawn(Split::Train, index);
            states[(sizes.states - cfg.min_states) as usize] += 1;
            alphabet[(sizes.alphabet - cfg.min_alphabet) as usize] += 1;
            sizes.edges.iter().for_each(|n| edges[(n - cfg.min_edges) as usize] += 1);
            let prompt = self.prompt(Split::Train, index, &automaton);
            let in_prompt: Vec<&[i64]> = prompt.split(|&token| token == cfg.bar()).collect();
            words[in_prompt.len() - cfg.min_words as usize] += 1;
            in_prompt.iter().for_each(|word| lengths[word.len() - cfg.min_word_length as usize] += 1);
        }
        let tests = [
            Goodness::uniform("states drawn", &states),
            Goodness::uniform("letters drawn", &alphabet),
            Goodness::uniform("edges drawn for a state", &edges),
            Goodness::uniform("words of a prompt", &words),
            Goodness::uniform("letters of a word", &lengths),
        ];
        Ok(tests.into_iter().flatten().collect())
    }

    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let (prompts, all) = (self.cfg.hmm_prompts, self.len(Split::Test));
        if (1..all).contains(&prompts) {
            notes.push(format!("Baum-Welch is fitted to the first {prompts} of {all} test prompts"));
        }
        if self.cfg.train_examples.is_none() {
            notes.push("new training automata are drawn with replacement: small ones come more than once".into());
        }
        notes
    }
}
