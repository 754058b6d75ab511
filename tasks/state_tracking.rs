//! State tracking: what a sequence of moves has led to, trained on short sequences and tested on long ones.
//!
//! ```text
//! group      g1   g2     g3        …        word problem of S3, S4, A5, Z60, … ; parity is that of Z2
//!            ↓    ↓      ↓
//!            g1   g1·g2  g1·g2·g3  …        read from left to right: what was reached, then the next move
//! majority   1 0 0 1 1            ↓ 1       more ones than zeros
//! modular    3 + 4 * ( 2 - 0 ) =  ↓ 1       modulo 5, with or without brackets
//! ```
//! Paper    Merrill et al. 2024 (word problems), arXiv:2404.08819; Grazzi et al. 2025 (parity and modular arithmetic, train
//!          short and test long), arXiv:2411.12537; parity and majority at an end token as zoology's `circuits`
//! Matches  jopetty/word-problem@0fb17d1:src/generate_data.py: elements uniform, one prefix product a position, what was reached
//!          on the left; all sequences of length 2 in training. Parity at lengths 3 to 40, and 40 to 256 in test:
//!          adankow/unlocking_state_tracking@7145c7a:xlstm/experiments/parity_delta_net_single_layer.yaml
//! Departs  sequences are drawn when asked for, with replacement, so short ones may come twice in a split; a sequence belongs to
//!          the split that its hash says; which of two permutations the reference's library applies first was not read; which
//!          expressions with brackets there are is our choice
//!
//! Composing permutations the other way round is the same task with every element renamed to its inverse. No input holds an
//! answer, so `causal: false` is allowed: a bidirectional mixer must still track the state at every scored position.

mod expressions;
mod groups;
#[cfg(test)]
mod tests;

use crate::core::drawn::{self, Counts, Synthetic};
use crate::core::family::{Family, Outline, Variant};
use crate::core::rng::{Purpose, Stream, owner};
use crate::{
    Bound, ConfigError, DataDir, DataError, Example, Goodness, Metric, Split, Targets, Task, TaskSpec, core::bounds,
};
use expressions::{OPERATORS, Symbols};
use groups::Group;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Fewest sequences a length must have for some of them to be held out: of these, one in ten validates and one tests.
const FEWEST: u64 = 1000;

/// Which positions are scored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scored {
    /// Every one.
    All,
    /// The last one.
    Last,
}

/// `task: { state_tracking: { problem: s5 } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `parity`, `majority`, `modular`, `modular_brackets`, or a group: `zN` cyclic, `sN` symmetric, `aN` alternating, and
    /// their products with `x` between, `a4xz5`. The word-problem paper has s3, s4, a5, s5, a4xz5 and z60.
    pub problem: String,
    /// Where the answer is asked; null: everywhere, and of `modular` at its `=`.
    pub scored: Option<Scored>,
    /// Whether a token of its own ends the sequence and the answer is asked there, as in zoology's circuits.
    pub end_token: bool,
    /// m of `modular`: digits are `0 .. m`.
    pub modulus: u32,
    /// Elements, bits or tokens of the shortest training sequence, end tokens and `=` not counted.
    pub train_min: u32,
    /// Those of the longest; lengths between are equally likely. Validation sequences have training lengths.
    pub train_max: u32,
    /// Lengths of test sequences, rising.
    pub test_lengths: Vec<u32>,
    /// Whether every sequence of length 2 is for training only, as in the reference.
    pub pairs_in_train: bool,
    /// Training sequences; null: every batch is new.
    pub train_examples: Option<u64>,
    /// Validation sequences.
    pub validation_examples: u64,
    /// Test sequences of each length.
    pub test_examples: u64,
    /// Seed of the sequences and of which split each belongs to; not the run's seed.
    pub data_seed: u64,
    /// Whether position t may only read up to t.
    pub causal: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            problem: "parity".into(),
            scored: None,
            end_token: false,
            modulus: 5,
            train_min: 3,
            train_max: 40,
            test_lengths: vec![40, 64, 128, 256],
            pairs_in_train: true,
            train_examples: None,
            validation_examples: 1_000,
            test_examples: 1_000,
            data_seed: 0,
            causal: true,
        }
    }
}

/// What is tracked.
#[derive(Clone, Debug)]
enum Problem {
    Group(Group),
    Majority,
    Modular { symbols: Symbols, brackets: bool },
}

impl Config {
    fn counts(&self) -> Counts<'_> {
        Counts::new(self.train_examples, self.validation_examples, self.test_examples, &self.test_lengths)
    }

    fn problem(&self) -> Result<Problem, String> {
        let symbols = Symbols { modulus: i64::from(self.modulus) };
        Ok(match self.problem.to_ascii_lowercase().as_str() {
            "parity" => Problem::Group(Group::named("z2")?),
            "majority" => Problem::Majority,
            "modular" => Problem::Modular { symbols, brackets: false },
            "modular_brackets" => Problem::Modular { symbols, brackets: true },
            group => Problem::Group(Group::named(group)?),
        })
    }

    fn scored(&self, problem: &Problem) -> Scored {
        let usual = if self.has_end(problem) { Scored::Last } else { Scored::All };
        self.scored.unwrap_or(usual)
    }

    /// Whether a token behind the sequence asks for the answer.
    fn has_end(&self, problem: &Problem) -> bool {
        self.end_token || matches!(problem, Problem::Modular { .. })
    }

    /// The shortest sequences of which some are held out.
    fn held_out_from(&self, problem: &Problem) -> u32 {
        let enough = (1..).find(|&length| problem.sequences(length) >= FEWEST as f64).unwrap_or(u32::MAX);
        enough.max(if self.pairs_in_train { 3 } else { 1 })
    }

    /// Lengths between the two that the problem has, as the first and how many.
    fn lengths(problem: &Problem, min: u32, max: u32) -> (u32, u32) {
        match problem {
            Problem::Modular { .. } => (min | 1, max.div_ceil(2).saturating_sub(min / 2)),
            _ if min > max => (min, 0),
            _ => (min, (max - min).saturating_add(1)),
        }
    }

    fn max_length(&self, problem: &Problem) -> i64 {
        self.counts().longest(self.train_max) + i64::from(self.has_end(problem))
    }

    fn shape(&self, problem: &Problem) -> Outline {
        Outline {
            causal: self.causal,
            max_length: self.max_length(problem),
            vocab_size: problem.pad() + 1,
            classes: problem.classes(),
            ..drawn::OUTLINE
        }
    }

    fn check_lengths(&self, problem: &Problem, wrong: &mut dyn FnMut(&'static str, String, String)) {
        let (min, max) = (self.train_min, self.train_max);
        if min == 0 {
            wrong("train_min", "`train_min` is 0, and an empty sequence leads nowhere".into(), "use 1 or more".into());
        }
        if min > max {
            let problem = format!("`train_min` {min} > `train_max` {max}");
            wrong("train_min", problem, format!("lower `train_min` to {max} or raise `train_max` to {min}"));
            return;
        }
        let first = self.held_out_from(problem);
        let why = |length: u32| match problem.sequences(length) {
            few if few < FEWEST as f64 => format!("{few} sequences of length {length} < {FEWEST}"),
            _ => format!("length {length} ≤ 2, and `pairs_in_train` is true"),
        };
        let (from, many) = Self::lengths(problem, min.max(first), max);
        if many == 0 {
            let reason = if max < first { why(max) } else { format!("no odd length from {from} to {max}") };
            let message = format!("`train_max` {max} leaves nothing to validate on: {reason}");
            wrong("train_max", message, format!("use {first} or more"));
        }
        if let Some(&short) = self.test_lengths.iter().find(|&&length| length < first) {
            let message = format!("`test_lengths` has {short}, of which no sequence can be held out: {}", why(short));
            wrong("test_lengths", message, format!("use {first} or more"));
        }
        if let (Problem::Modular { .. }, Some(even)) = (problem, self.test_lengths.iter().find(|&n| n % 2 == 0)) {
            let message = format!("`test_lengths` has {even}, which is even; operands and operators take turns");
            wrong("test_lengths", message, format!("use {} or {}", even.saturating_sub(1), even.saturating_add(1)));
        }
        if let (Problem::Modular { brackets: true, .. }, 0..7) = (problem, max) {
            let message = format!("`train_max` {max} < 7 = the tokens of `(a+b)*c`, so no expression has brackets");
            wrong("train_max", message, "use 7 or more, or `problem: modular`".into());
        }
        match self.test_lengths.iter().max() {
            None => wrong("test_lengths", "`test_lengths` is empty".into(), format!("use [{max}] or longer ones")),
            Some(&longest) if longest < max => {
                let message = format!("the longest of `test_lengths` {longest} < {max} = `train_max`");
                wrong("test_lengths", message, format!("add {max} or more, or lower `train_max` to {longest}"));
            }
            Some(_) if !self.test_lengths.is_sorted_by(|a, b| a < b) => {
                let message = format!("`test_lengths` {:?} do not rise", self.test_lengths);
                wrong("test_lengths", message, "write each once, in rising order".into());
            }
            Some(&longest) if longest > LONGEST => {
                let message = format!("`test_lengths` has {longest} > {LONGEST}");
                wrong("test_lengths", message, format!("use {LONGEST} or less"));
            }
            Some(_) => (),
        }
    }
}

/// Longest sequence: 2^20, as far as anyone has tested extrapolation.
const LONGEST: u32 = 1 << 20;

impl Problem {
    /// Different elements, bits or tokens a sequence is made of.
    fn symbols(&self) -> i64 {
        match self {
            Self::Group(group) => group.order() as i64,
            Self::Majority => 2,
            Self::Modular { symbols, .. } => symbols.modulus + expressions::SIGNS.len() as i64 - 1,
        }
    }

    fn classes(&self) -> i64 {
        match self {
            Self::Modular { symbols, .. } => symbols.modulus,
            _ => self.symbols(),
        }
    }

    /// The token behind the sequence that asks for the answer: `=` of expressions.
    fn end(&self) -> i64 {
        self.symbols()
    }

    /// Fills a batch.
    fn pad(&self) -> i64 {
        self.end() + 1
    }

    /// How many different sequences of a length there are; of expressions those without brackets.
    fn sequences(&self, length: u32) -> f64 {
        let power = |base: f64, exponent: u32| (0..exponent.min(1100)).fold(1.0, |product, _| product * base);
        match self {
            Self::Modular { symbols, .. } => {
                power(symbols.modulus as f64, length.div_ceil(2)) * power(OPERATORS as f64, length / 2)
            }
            _ => power(self.symbols() as f64, length),
        }
    }

    /// A random sequence.
    fn draw(&self, length: u32, stream: &mut Stream) -> Vec<i64> {
        let mut tokens = Vec::with_capacity(length as usize + 1);
        match self {
            Self::Modular { symbols, brackets: false } => symbols.flat(length, stream, &mut tokens),
            Self::Modular { symbols, brackets: true } => symbols.nested(length, stream, &mut tokens),
            _ => tokens.extend((0..length).map(|_| stream.below(self.symbols() as u64) as i64)),
        }
        tokens
    }

    /// The answer at every position of a sequence, or, of an expression, the one at its end.
    fn answers(&self, sequence: &[i64]) -> Option<Vec<i64>> {
        match self {
            Self::Group(group) => Some(running(sequence, 0, |state, next| {
                *state = group.product(*state, next);
                *state
            })),
            Self::Majority => Some(running(sequence, 0, |lead, bit| {
                *lead += 2 * bit - 1;
                i64::from(*lead > 0)
            })),
            Self::Modular { symbols, .. } => Some(vec![symbols.value(sequence)?]),
        }
    }
}

/// The answer after each element.
fn running(sequence: &[i64], mut state: i64, step: impl Fn(&mut i64, i64) -> i64) -> Vec<i64> {
    sequence.iter().map(|&element| step(&mut state, element)).collect()
}

impl Family for Config {
    const NAME: &'static str = "state_tracking";
    const ABOUT: &'static str =
        "word problems of groups, parity, majority, modular arithmetic: train short and test long";
    const PAPER: &'static str = "Merrill et al. 2024, arXiv:2404.08819; Grazzi et al. 2025, arXiv:2411.12537";
    const STREAM: &'static str = "state tracking";

    fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut wrong = |key, problem: String, help: String| errors.push(ConfigError { key, problem, help });
        if self.problem.to_lowercase().starts_with("modular") && !(2..=1000).contains(&self.modulus) {
            let message = format!("`modulus` is {}, which is not between 2 and 1000", self.modulus);
            wrong("modulus", message, "use 5, as Grazzi et al. do".into());
            return errors;
        }
        match self.problem() {
            Err(why) => {
                let help = "use parity, majority, modular, modular_brackets, one of the groups s3, s4, s5, a5, a4xz5 and z60, \
                            or any zN, sN, aN and products of them with `x`, up to 720 elements";
                wrong("problem", format!("`problem` is `{}`: {why}", self.problem), help.into());
            }
            Ok(problem) => {
                self.check_lengths(&problem, &mut wrong);
                if self.scored == Some(Scored::All) && self.has_end(&problem) {
                    let message = "`scored: all` asks for answers before the end token, which is where they are asked";
                    let help = "use `scored: last`, or set `end_token: false` where the problem is not `modular`";
                    wrong("scored", message.into(), help.into());
                }
            }
        }
        errors.extend(self.counts().zeros());
        errors
    }

    fn outline(&self) -> Outline {
        self.problem().map_or_else(|_| self.shape(&Problem::Majority), |problem| self.shape(&problem))
    }

    fn open(&self, _: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(StateTracking::new(self.clone())))
    }

    fn variants() -> Vec<Variant> {
        // One of C classes, at 500 examples of each test length or at each of their positions.
        let of = |classes: f64, changes: Value| {
            let share: f64 = 1.0 / classes;
            Variant::drawn(changes).floor(share, 4.0 * (share * (1.0 - share) / 500.0).sqrt())
        };
        vec![
            of(2.0, json!({ "train_min": 12, "train_max": 20, "test_lengths": [20, 30] })).pin("56469bdeaf42ef90"),
            of(6.0, json!({ "problem": "s3", "train_min": 4, "train_max": 9, "test_lengths": [9, 17] })).pin("bc81050da314716f"),
            of(120.0, json!({ "problem": "s5", "train_min": 8, "train_max": 8, "test_lengths": [8] })).pin("7b20f6078e3fdb6f"),
            of(60.0, json!({ "problem": "a4xz5", "train_max": 12, "test_lengths": [12], "scored": "last" })).pin("47687d49827d1969"),
            of(
                2.0,
                json!({ "problem": "parity", "train_min": 30, "end_token": true, "train_max": 30, "test_lengths": [30] }),
            ).pin("8c9d53e8ee113908"),
            of(2.0, json!({ "problem": "majority", "train_min": 20, "test_lengths": [40], "causal": false })).pin("5d48e3896718e7a2"),
            of(5.0, json!({ "problem": "modular", "train_max": 15, "test_lengths": [15, 31] })).pin("b3a6dee1ef24af59"),
            of(5.0, json!({ "problem": "modular_brackets", "train_max": 15, "test_lengths": [15, 31] })).pin("062a56a7f7fcac96"),
        ]
    }

    fn small() -> Vec<Value> {
        vec![
            json!({ "train_max": 16, "test_lengths": [16] }),
            json!({ "problem": "s3", "train_max": 12, "test_lengths": [12] }),
        ]
    }
}

/// The opened task: nothing but its settings and the group's table, examples are drawn when asked for.
#[derive(Debug)]
pub struct StateTracking {
    problem: Problem,
    held_out_from: u32,
    cfg: Config,
}

impl StateTracking {
    /// The task of settings that passed their check.
    ///
    /// # Panics
    /// When they did not.
    pub fn new(cfg: Config) -> Self {
        let problem = cfg.problem().expect("the settings were checked");
        Self { held_out_from: cfg.held_out_from(&problem), problem, cfg }
    }

    /// The length of an example, drawn or its subset's.
    fn length(&self, split: Split, index: u64, stream: &mut Stream) -> u32 {
        let min = match split {
            Split::Train => self.cfg.train_min,
            Split::Validation => self.cfg.train_min.max(self.held_out_from),
            Split::Test => return self.cfg.counts().length(split, index, 0),
        };
        let (first, many) = Config::lengths(&self.problem, min, self.cfg.train_max);
        let step = if matches!(self.problem, Problem::Modular { .. }) { 2 } else { 1 };
        first + step * stream.below(u64::from(many)) as u32
    }

    /// Whether a sequence is the split's. Sequences too short to be held out are training's.
    fn belongs(&self, sequence: &[i64], split: Split) -> bool {
        let short = sequence.len() < self.held_out_from as usize;
        split == if short { Split::Train } else { owner(sequence, self.cfg.data_seed) }
    }

    /// The elements, bits or tokens of an example, without its end token.
    fn sequence(&self, split: Split, index: u64) -> Vec<i64> {
        let mut stream = Stream::new(self.cfg.data_seed, Purpose::of_split(Config::STREAM, split), index);
        let length = self.length(split, index, &mut stream);
        loop {
            let sequence = self.problem.draw(length, &mut stream);
            if self.belongs(&sequence, split) {
                return sequence;
            }
        }
    }

    /// Training sequences that are expected to be copies of earlier ones, by length: n − s (1 − (1 − 1/s)^n).
    fn repeats(&self, drawn: f64) -> f64 {
        let (first, many) = Config::lengths(&self.problem, self.cfg.train_min, self.cfg.train_max);
        let step = if matches!(self.problem, Problem::Modular { .. }) { 2 } else { 1 };
        let n = drawn / f64::from(many);
        let of_length = |length: u32| {
            let there_are = self.problem.sequences(length) * if length < self.held_out_from { 1.0 } else { 0.8 };
            if there_are > 1e15 { 0.0 } else { n + there_are * libm::expm1(n * libm::log1p(-1.0 / there_are)) }
        };
        (0..many).map(|i| of_length(first + step * i)).sum()
    }
}

impl Synthetic for StateTracking {
    fn describe(&self) -> TaskSpec {
        TaskSpec {
            pad_token: self.problem.pad(),
            metric: Metric::accuracy(),
            version: 1,
            ..self.cfg.shape(&self.problem).spec()
        }
    }

    fn counts(&self) -> Counts<'_> {
        self.cfg.counts()
    }

    fn draw(&self, split: Split, index: u64) -> Example {
        let mut tokens = self.sequence(split, index);
        let mut classes = self.problem.answers(&tokens).expect("what is drawn has an answer");
        if self.cfg.has_end(&self.problem) {
            tokens.push(self.problem.end());
        }
        if self.cfg.scored(&self.problem) == Scored::Last {
            classes.drain(..classes.len() - 1);
        }
        let length = tokens.len() as i64;
        let positions = (length - classes.len() as i64..length).collect();
        Example::new(tokens, Targets::PerPosition { positions, classes })
    }

    fn guess(&self) -> Result<Bound, DataError> {
        let classes = self.problem.classes() as u64;
        bounds::uniform(self, self.cfg.data_seed, classes, &format!("{classes} classes"))
    }

    /// Follows the moves: of a group by moving its points, without the table of products.
    fn answer(&self, example: &Example) -> Option<Vec<i64>> {
        let Targets::PerPosition { positions, .. } = &example.targets else { return None };
        let end = usize::from(self.cfg.has_end(&self.problem));
        let sequence = example.tokens.get(..example.tokens.len().checked_sub(end)?)?;
        let answers = match &self.problem {
            Problem::Group(group) => {
                let mut reached = group.elements[0].clone();
                let mut number = |&element: &i64| {
                    reached = groups::then(&reached, group.elements.get(element as usize)?);
                    group.elements.binary_search(&reached).ok().map(|number| number as i64)
                };
                sequence.iter().map(&mut number).collect::<Option<Vec<i64>>>()?
            }
            other => other.answers(sequence)?,
        };
        Some(answers[answers.len().checked_sub(positions.len())?..].to_vec())
    }

    fn tested(&self, examples: u64) -> Result<Vec<Goodness>, DataError> {
        let (first, many) = Config::lengths(&self.problem, self.cfg.train_min, self.cfg.train_max);
        let step = if matches!(self.problem, Problem::Modular { .. }) { 2 } else { 1 };
        let classes = self.problem.classes() as usize;
        let mut lengths = vec![0; many as usize];
        let mut inputs = vec![0; self.problem.symbols() as usize];
        let mut labels = [vec![0; classes], vec![0; classes], vec![0; classes]]; // first, in the middle, last
        for index in 0..examples.min(self.len(Split::Train)) {
            let sequence = self.sequence(Split::Train, index);
            lengths[((sequence.len() as u32 - first) / step) as usize] += 1;
            sequence.iter().for_each(|&token| inputs[token as usize] += 1);
            if let Problem::Group(_) = self.problem {
                let answers = self.problem.answers(&sequence).expect("what is drawn has an answer");
                for (place, counts) in [0, answers.len() / 2, answers.len() - 1].into_iter().zip(&mut labels) {
                    counts[answers[place] as usize] += 1;
                }
            }
        }
        let mut tests = vec![Goodness::uniform("length of a training sequence", &lengths)];
        match self.problem {
            Problem::Modular { .. } => {
                let (digits, operators) = inputs.split_at(classes);
                tests.push(Goodness::uniform("digit", digits));
                tests.push(Goodness::uniform("operator", &operators[..OPERATORS as usize]));
            }
            Problem::Majority => tests.push(Goodness::uniform("bit", &inputs)),
            Problem::Group(_) => {
                tests.push(Goodness::uniform("input", &inputs));
                let names = ["label at the first position", "label in the middle", "label at the last position"];
                tests.extend(names.iter().zip(&labels).map(|(name, counts)| Goodness::uniform(*name, counts)));
            }
        }
        Ok(tests.into_iter().flatten().collect())
    }

    fn remarks(&self) -> Vec<String> {
        let mut notes = Vec::new();
        let (first, held) = (self.cfg.train_min, self.held_out_from);
        if first < held {
            notes.push(format!(
                "sequences shorter than {held} are all training's and none is held out: there are too few of them"
            ));
        }
        if let Some(drawn) = self.cfg.train_examples {
            let share = self.repeats(drawn as f64) / drawn as f64;
            if share >= 0.01 {
                notes.push(format!("about {:.0} % of the training sequences are copies of others", 100.0 * share));
            }
        }
        notes
    }
}
