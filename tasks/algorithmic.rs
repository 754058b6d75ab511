//! Copy, reverse, sort and nested brackets: short programs, trained on short inputs and tested on longer ones.
//!
//! ```text
//! answers: fed      BOS x1 … xn SEP y1 … yn    [EOS]      y read by next token, from SEP on
//! answers: blank    BOS x1 … xn SEP _  … _                y asked for at n blanks behind SEP
//!                   copy y = x     reverse y = x backwards     sort y = x in rising order
//! dyck              ( [ ] ( ) [ …                         the next token where it is a closing bracket
//! dyck_membership   ( [ ] )  → 1      ( ] [ )  → 0        is every bracket closed in order, and none too deep?
//! train, validate   n uniform in train_min ..= train_max;  test: each of test_lengths
//! ```
//! Paper    copy: Graves et al. 2014, arXiv:1410.5401; Dyck-(k, D): Hewitt et al. 2020, arXiv:2010.07515
//! Matches  vocabulary, lengths, walk and metric of the forms in common use: brackets are pushed with probability 1/2, always at
//!          depth 0 and never at depth D; a closing bracket is right when it has more than 0.8 of all closing brackets'
//!          probability
//! Departs  no code of a paper is followed: sizes are common ones, special tokens come on top of `symbols`, a walk is cut at its
//!          length rather than closed
//!
//! Inputs are drawn until [`owner`] gives them to the split they are drawn for, so that splits share none, at every length
//! that has 4,096 inputs or more. What is fed, and the next bracket, stand in the input one position on: these forms are causal
//! only. Blanks and membership leak nothing, so `causal: false` lets bidirectional mixers compete.

use crate::core::drawn::{self, Counts, Synthetic};
use crate::core::family::{Family, Outline, Variant};
use crate::core::rng::{Purpose, Stream, owner};
use crate::{
    Baseline, Bound, ConfigError, DataDir, DataError, Example, Goodness, Judge, Metric, Output, Split, Task, TaskSpec,
    core::bounds,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::fmt::Debug;

mod dyck;
#[cfg(test)]
mod tests;
mod transduction;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The input again.
    Copy,
    /// The input from its end to its beginning.
    Reverse,
    /// The input in rising order.
    Sort,
    /// Which bracket closes the one that is open.
    Dyck,
    /// Whether brackets are nested rightly.
    DyckMembership,
}

impl Kind {
    /// As it is written in a config.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Copy => "copy",
            Self::Reverse => "reverse",
            Self::Sort => "sort",
            Self::Dyck => "dyck",
            Self::DyckMembership => "dyck_membership",
        }
    }

    const fn has_brackets(self) -> bool {
        matches!(self, Self::Dyck | Self::DyckMembership)
    }
}

/// Where an answer of several tokens is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Answers {
    /// Behind its predecessor, which is in the input: next-token prediction.
    Fed,
    /// At blanks, one for each token.
    #[default]
    Blank,
}

/// `task: { algorithmic: { kind: sort, test_lengths: [20, 40] } }`
///
/// What is `null` has a default that depends on the kind; a key that the kind has no use for must be `null`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which of the five.
    pub kind: Kind,
    /// Symbols of x, `0 .. symbols`; special tokens come on top. Null: 32, and 100 for `sort`. Not for brackets.
    pub symbols: Option<u32>,
    /// Whether the integers to sort differ from each other; `sort` only. Null: false.
    pub distinct: Option<bool>,
    /// Where the answer is asked for; not for brackets. Null: `blank`.
    pub answers: Option<Answers>,
    /// k: types of brackets; `dyck` and `dyck_membership` only. Null: 8.
    pub brackets: Option<u32>,
    /// D: most brackets that are open at once; `dyck` and `dyck_membership` only. Null: 4.
    pub depth: Option<u32>,
    /// Shortest n of training: tokens of x, or brackets of a string. Null: 1, and 10 for brackets.
    pub train_min: Option<u32>,
    /// Longest n of training. Null: 20, and 100 for brackets.
    pub train_max: Option<u32>,
    /// Each n of the test split, rising. Null: 20, 40, 100, 200, and 100, 200, 400, 700 for brackets.
    pub test_lengths: Option<Vec<u32>>,
    /// Training examples; null: always new ones.
    pub train_examples: Option<u64>,
    /// Validation examples, as long as those of training.
    pub validation_examples: u64,
    /// Test examples of each length.
    pub test_examples: u64,
    /// Seed of the examples; not the run's seed.
    pub data_seed: u64,
    /// Whether position t may only read up to t.
    pub causal: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kind: Kind::Copy,
            symbols: None,
            distinct: None,
            answers: None,
            brackets: None,
            depth: None,
            train_min: None,
            train_max: None,
            test_lengths: None,
            train_examples: None,
            validation_examples: 1_000,
            test_examples: 1_000,
            data_seed: 0,
            causal: true,
        }
    }
}

impl Config {
    fn symbols(&self) -> u64 {
        self.symbols.unwrap_or(if self.kind == Kind::Sort { 100 } else { 32 }).into()
    }

    fn answers(&self) -> Answers {
        self.answers.unwrap_or_default()
    }

    fn brackets(&self) -> u64 {
        self.brackets.unwrap_or(8).into()
    }

    fn depth(&self) -> u64 {
        self.depth.unwrap_or(4).into()
    }

    fn train_min(&self) -> u64 {
        self.train_min.unwrap_or(if self.kind.has_brackets() { 10 } else { 1 }).into()
    }

    fn train_max(&self) -> u64 {
        self.train_max.unwrap_or(if self.kind.has_brackets() { 100 } else { 20 }).into()
    }

    fn test_lengths(&self) -> Vec<u32> {
        match &self.test_lengths {
            Some(lengths) => lengths.clone(),
            None if self.kind.has_brackets() => vec![100, 200, 400, 700],
            None => vec![20, 40, 100, 200],
        }
    }

    fn counts<'a>(&self, test_lengths: &'a [u32]) -> Counts<'a> {
        Counts::new(self.train_examples, self.validation_examples, self.test_examples, test_lengths)
    }

    fn longest(&self) -> u64 {
        self.test_lengths().into_iter().map(u64::from).fold(self.train_max(), u64::max)
    }

    /// Whether an answer is in the input.
    fn leaks(&self) -> bool {
        match self.kind {
            Kind::Copy | Kind::Reverse | Kind::Sort => self.answers() == Answers::Fed,
            Kind::Dyck => true,
            Kind::DyckMembership => false,
        }
    }

    fn vocab_size(&self) -> i64 {
        match self.kind {
            Kind::Copy | Kind::Reverse | Kind::Sort => self.symbols() as i64 + transduction::SPECIAL,
            Kind::Dyck | Kind::DyckMembership => 2 * self.brackets() as i64,
        }
    }

    fn max_length(&self) -> i64 {
        let n = self.longest() as i64;
        match self.kind {
            Kind::Copy | Kind::Reverse | Kind::Sort => 2 * n + 2,
            Kind::Dyck => n - 1,
            Kind::DyckMembership => n,
        }
    }

    fn output(&self) -> Output {
        if self.kind == Kind::DyckMembership { Output::PerSequence } else { Output::PerPosition }
    }

    fn classes(&self) -> i64 {
        if self.kind == Kind::DyckMembership { 2 } else { self.vocab_size() }
    }

    /// Keys that are set, and of no use to the kind.
    fn unused(&self) -> Vec<&'static str> {
        let brackets = self.kind.has_brackets();
        [
            ("symbols", self.symbols.is_some(), !brackets),
            ("distinct", self.distinct.is_some(), self.kind == Kind::Sort),
            ("answers", self.answers.is_some(), !brackets),
            ("brackets", self.brackets.is_some(), brackets),
            ("depth", self.depth.is_some(), brackets),
        ]
        .into_iter()
        .filter_map(|(key, set, used)| (set && !used).then_some(key))
        .collect()
    }

    fn form(&self) -> Box<dyn Form> {
        match self.kind {
            Kind::Copy | Kind::Reverse | Kind::Sort => Box::new(transduction::Transduction::new(self)),
            Kind::Dyck => Box::new(dyck::Closing::new(self)),
            Kind::DyckMembership => Box::new(dyck::Membership::new(self)),
        }
    }
}

impl Family for Config {
    const NAME: &'static str = "algorithmic";
    const ABOUT: &'static str = "copy, reverse, sort, Dyck-(k, D): trained on short inputs, tested on longer ones";
    const PAPER: &'static str =
        "Graves et al. 2014 (copy), arXiv:1410.5401; Hewitt et al. 2020 (Dyck-(k, D)), arXiv:2010.07515";

    fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut wrong = |key, problem: String, help: String| errors.push(ConfigError { key, problem, help });
        let kind = self.kind.name();
        for key in self.unused() {
            wrong(key, format!("`{key}` is set, and `{kind}` has no use for it"), "leave it out, or write null".into());
        }
        let (brackets, member) = (self.kind.has_brackets(), self.kind == Kind::DyckMembership);
        if !brackets && self.symbols() < 2 {
            let problem =
                format!("`symbols` is {}, and with fewer than 2 there is nothing to tell apart", self.symbols());
            wrong("symbols", problem, "use 2 or more".into());
        }
        if self.kind == Kind::Dyck && self.brackets() < 2 {
            let problem = format!(
                "`brackets` is {}, and with fewer than 2 types every closing bracket is right",
                self.brackets()
            );
            wrong("brackets", problem, "use 2 or more".into());
        }
        if member && self.brackets() == 0 {
            wrong("brackets", "`brackets` is 0".into(), "use 1 or more".into());
        }
        if brackets && self.depth() == 0 {
            wrong("depth", "`depth` is 0, so no bracket may be opened".into(), "use 1 or more".into());
        }
        let (min, max) = (self.train_min(), self.train_max());
        let lengths: Vec<u64> = self.test_lengths().into_iter().map(u64::from).collect();
        let fewest = if brackets { 2 } else { 1 };
        if min < fewest {
            wrong("train_min", format!("`train_min` is {min}, less than {fewest}"), format!("use {fewest} or more"));
        }
        if max < min {
            let problem = format!("`train_max` = {max} is less than `train_min` = {min}");
            wrong("train_max", problem, format!("use {min} or more"));
        }
        let rising = lengths.windows(2).all(|pair| pair[0] < pair[1]);
        if !rising || lengths.first().is_none_or(|&length| length < fewest) {
            let problem =
                format!("`test_lengths` is {lengths:?}: not one or more numbers that rise from {fewest} or more");
            wrong("test_lengths", problem, format!("write them as [{max}, {}]", 2 * max));
        } else if let Some(&longest) = lengths.last().filter(|&&longest| longest < max) {
            let problem =
                format!("the largest of `test_lengths` is {longest} < {max} = `train_max`: nothing as long is tested");
            wrong("test_lengths", problem, format!("add {max}, or a length beyond training such as {}", 2 * max));
        }
        if let Some(odd) = lengths.iter().find(|&&length| member && length % 2 == 1) {
            let problem = format!("`test_lengths` has {odd}, and no string of an odd number of brackets is closed");
            wrong("test_lengths", problem, format!("use {} or {}", odd - 1, odd + 1));
        }
        if member && max == min && min % 2 == 1 {
            let problem =
                format!("`train_min` = `train_max` = {min}, and no string of an odd number of brackets is closed");
            wrong("train_max", problem, format!("use {}", min + 1));
        }
        if self.kind == Kind::Sort && self.distinct == Some(true) && self.longest() > self.symbols() {
            let (n, symbols) = (self.longest(), self.symbols());
            let problem = format!("{n} `distinct` integers are more than the `symbols` = {symbols} there are");
            wrong("distinct", problem, format!("raise `symbols` to {n} or set `test_lengths` and `train_max` lower"));
        }
        if self.leaks() && !self.causal {
            let (problem, help) = if self.kind == Kind::Dyck {
                (
                    "`causal` is false, and `dyck` asks for the token that stands one position on",
                    "use `dyck_membership`",
                )
            } else {
                ("`causal` is false, and `answers: fed` puts each answer into the input", "use `answers: blank`")
            };
            wrong("causal", problem.into(), help.into());
        }
        errors.extend(self.counts(&[]).zeros());
        errors
    }

    fn outline(&self) -> Outline {
        Outline {
            causal: self.causal,
            max_length: self.max_length(),
            vocab_size: self.vocab_size(),
            classes: self.classes(),
            output: self.output(),
            ..drawn::OUTLINE
        }
    }

    fn open(&self, _: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(Algorithmic::new(self.clone())))
    }

    fn variants() -> Vec<Variant> {
        // One of n tokens, or another that equals it; lengths 20 and 40.
        let chance =
            |equal: f64| [20.0, 40.0].map(|n: f64| 1.0 / n + (1.0 - 1.0 / n) * equal).iter().sum::<f64>() / 2.0;
        vec![
            Variant::drawn(json!({ "train_min": 4, "test_lengths": [20, 40] }))
                .floor(chance(1.0 / 32.0), 0.007)
                .pin("51faba20ba081e7c"),
            Variant::drawn(json!({ "kind": "reverse", "answers": "fed", "train_min": 4, "test_lengths": [20, 40] }))
                .floor(chance(1.0 / 32.0), 0.007)
                .pin("0c3a0bc00fe92c8d"),
            Variant::drawn(json!({ "kind": "sort", "train_min": 4, "test_lengths": [20, 40], "causal": false }))
                .floor(chance(1.0 / 100.0), 0.006)
                .pin("84eef15abd819c1a"),
            Variant::drawn(json!({
                "kind": "sort", "distinct": true, "answers": "fed", "train_min": 4, "test_lengths": [20, 40],
            }))
            .floor(chance(0.0), 0.006)
            .pin("b6154a553dfc14f4"),
            Variant::drawn(json!({ "kind": "dyck", "train_max": 30, "test_lengths": [30, 60] }))
                .floor(1.0 / 8.0, 0.012)
                .pin("d266d325c6ad017b"),
            Variant::drawn(
                json!({ "kind": "dyck_membership", "train_max": 30, "test_lengths": [30, 60], "causal": false }),
            )
            .pin("2620b4beabfb24bd"),
        ]
    }

    fn small() -> Vec<Value> {
        vec![json!({ "train_max": 8, "test_lengths": [8] })]
    }
}

/// One of the kinds: how an example is drawn, and answered.
trait Form: Debug + Send + Sync {
    /// Inputs of n there are, at the least.
    fn inputs(&self, n: u64) -> u64;
    /// Something to ask about, n long; `odd` is the label where there are two.
    fn draw(&self, n: usize, odd: bool, stream: &mut Stream) -> Vec<i64>;
    /// What is asked about it.
    fn example(&self, drawn: Vec<i64>, split: Split) -> Example;
    /// The answers, from the input alone.
    fn solve(&self, example: &Example) -> Option<Vec<i64>>;
    /// Answers of someone who knows which tokens can be answers.
    fn guess(&self, example: &Example, stream: &mut Stream) -> Vec<i64>;
    /// What [`Form::guess`] does, in words.
    fn guessing(&self) -> &'static str;
    /// Tests of what was drawn for training.
    fn distributions(&self, drawn: &[Vec<i64>]) -> Vec<Option<Goodness>>;
}

/// Lengths with fewer inputs are drawn alike for all splits.
const FEW: u64 = 4096;

/// The opened task: examples are drawn when asked for.
#[derive(Debug)]
pub struct Algorithmic {
    cfg: Config,
    form: Box<dyn Form>,
    test_lengths: Vec<u32>,
}

impl Algorithmic {
    /// The task of settings that passed their check.
    pub fn new(cfg: Config) -> Self {
        let (form, test_lengths) = (cfg.form(), cfg.test_lengths());
        Self { cfg, form, test_lengths }
    }

    /// n of an example.
    fn length(&self, split: Split, index: u64, stream: &mut Stream) -> u64 {
        if split == Split::Test {
            return self.counts().length(split, index, 0).into();
        }
        let (min, max) = (self.cfg.train_min(), self.cfg.train_max());
        if self.cfg.kind == Kind::DyckMembership {
            let (min, max) = (min.div_ceil(2), max / 2);
            return 2 * (min + stream.below(max - min + 1));
        }
        min + stream.below(max - min + 1)
    }

    /// Of two neighbours one is labelled 1, which of them is drawn: half of any subset.
    fn odd(&self, split: Split, index: u64) -> bool {
        self.cfg.kind == Kind::DyckMembership && {
            let mut stream = Stream::new(self.cfg.data_seed, Purpose::of_split("algorithmic label", split), index / 2);
            (stream.below(2) + index) % 2 == 1
        }
    }

    fn drawn(&self, split: Split, index: u64) -> Vec<i64> {
        let mut stream = Stream::new(self.cfg.data_seed, Purpose::of_split(Config::STREAM, split), index);
        let (n, odd) = (self.length(split, index, &mut stream), self.odd(split, index));
        let shared = self.form.inputs(n) < FEW;
        let unseen = usize::from(self.cfg.kind == Kind::Dyck); // the last bracket is only ever asked for
        std::iter::repeat_with(|| self.form.draw(n as usize, odd, &mut stream))
            .find(|drawn| shared || owner(&drawn[..drawn.len() - unseen], self.cfg.data_seed) == split)
            .expect("every split owns some of many inputs")
    }
}

impl Synthetic for Algorithmic {
    fn describe(&self) -> TaskSpec {
        let closing = self.cfg.kind == Kind::Dyck;
        TaskSpec {
            judge: if closing { Judge::Mass { share: 0.8 } } else { Judge::Class },
            metric: Metric::proportion(if closing { "closing_accuracy" } else { "accuracy" }),
            version: 1,
            ..self.cfg.outline().spec()
        }
    }

    fn counts(&self) -> Counts<'_> {
        self.cfg.counts(&self.test_lengths)
    }

    fn draw(&self, split: Split, index: u64) -> Example {
        self.form.example(self.drawn(split, index), split)
    }

    fn accepted(&self, split: Split, index: u64) -> Result<Option<Vec<Vec<i64>>>, DataError> {
        if self.cfg.kind != Kind::Dyck {
            return Ok(None);
        }
        let brackets = self.cfg.brackets() as i64;
        let asked = self.example(split, index)?.targets.classes().len();
        Ok(Some(vec![(brackets..2 * brackets).collect(); asked]))
    }

    fn tested(&self, examples: u64) -> Result<Vec<Goodness>, DataError> {
        let rows = examples.min(self.len(Split::Train));
        let drawn: Vec<Vec<i64>> = (0..rows).map(|index| self.drawn(Split::Train, index)).collect();
        let (min, max) = (self.cfg.train_min(), self.cfg.train_max());
        let step = if self.cfg.kind == Kind::DyckMembership { 2 } else { 1 };
        let mut lengths = vec![0; (max / step - min.div_ceil(step) + 1) as usize];
        drawn.iter().for_each(|x| lengths[(x.len() as u64 / step - min.div_ceil(step)) as usize] += 1);
        let mut found = vec![Goodness::uniform("n", &lengths)];
        found.extend(self.form.distributions(&drawn));
        Ok(found.into_iter().flatten().collect())
    }

    fn guess(&self) -> Result<Bound, DataError> {
        if self.cfg.kind == Kind::DyckMembership {
            let labels = (0..self.len(Split::Test)).map(|index| u8::from(self.odd(Split::Test, index)));
            return Ok(bounds::constant(labels));
        }
        bounds::guesser(self, self.cfg.data_seed, self.form.guessing(), |example, stream| {
            self.form.guess(example, stream)
        })
    }

    fn simpler(&self) -> Result<Vec<Baseline>, DataError> {
        if self.cfg.kind != Kind::Dyck {
            return Ok(Vec::new());
        }
        let mut found = Vec::new();
        for (s, &length) in (0..).zip(&self.test_lengths) {
            let mut score = 0.0;
            for index in 0..self.cfg.test_examples {
                let example = self.example(Split::Test, s * self.cfg.test_examples + index)?;
                let answers = dyck::newest(&example, self.cfg.brackets() as i64);
                score += bounds::agreement(&answers, example.targets.classes());
            }
            let value = bounds::share(score, self.cfg.test_examples);
            found.push(Baseline { name: "newest opener", measure: "score", at: Some(f64::from(length)), value });
        }
        Ok(found)
    }

    fn answer(&self, example: &Example) -> Option<Vec<i64>> {
        self.form.solve(example)
    }

    fn remarks(&self) -> Vec<String> {
        let trained = self.cfg.train_min()..=self.cfg.train_max();
        let few: Vec<u64> =
            trained.chain(self.test_lengths.iter().map(|&n| n.into())).filter(|&n| self.form.inputs(n) < FEW).collect();
        let (Some(first), Some(last)) = (few.first(), few.last()) else { return Vec::new() };
        vec![format!(
            "lengths {first} to {last} may have fewer than {FEW} inputs: there the splits are drawn alike and share some"
        )]
    }
}
