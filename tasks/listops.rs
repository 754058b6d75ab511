//! ListOps: evaluate nested list operations written as a sequence of tokens; ten classes.
//!
//! ```text
//! [MAX 2 [MIN 8 4 ] [SM 1 9 3 ] ]  =  4          MIN, MAX, MED (median, fraction dropped), SM (sum modulo 10)
//! tree(depth) = digit                            with probability 3/4, and always at max_depth
//!             = operator, 2 ..= max_args trees   otherwise; kept when min_length < tokens < max_length
//! ```
//! Paper    Nangia and Bowman 2018, arXiv:1804.06028; long form: Tay et al. 2020 (Long Range Arena), arXiv:2011.04006
//! Matches  the distribution of `lra_benchmarks/data/listops.py`; reads the files it writes and those of the LRA release
//! Departs  the random bits are our own; parentheses are dropped, as every later user does (kept, they make sequences of
//!          6,000 tokens, and a cut at 2,000 destroys the answer)
//!
//! Labels are not uniform: 0 comes in 17 % and 9 in 16 % of examples, so a constant answer scores 17 %, which is where
//! several entries of the first leaderboard stand.

mod files;
mod rows;
mod tree;

pub use files::{Checked, check_labels};

use crate::core::error::idle;
use crate::core::family::{Family, Generated, Outline, Variant};
use crate::core::limits::COUNT_KEYS;
use crate::core::rng::{Purpose, Stream};
use crate::data::Source;
use crate::data::prepared::Prepared;
use crate::{
    Bound, ConfigError, DataDir, DataError, Example, Input, Mark, Metric, Output, Split, Targets, Task, TaskSpec,
    core::bounds, data::subset,
};
use rows::Rows;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tree::{SYMBOLS, Shape, Symbol};

/// Which number a symbol gets, and how a sequence ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Tokens {
    /// As S4 (Gu et al. 2022): 0 `<pad>`, 1 `<unk>`, 2 `<eos>`, symbols from 3; `<eos>` is appended. Vocabulary 18.
    S4,
    /// As LRA: 0 pads, symbols from 1, 16 is for unknown words. Vocabulary 17.
    Lra,
}

impl Tokens {
    const fn first_symbol(self) -> i64 {
        match self {
            Self::S4 => 3,
            Self::Lra => 1,
        }
    }

    const fn end(self) -> Option<i64> {
        match self {
            Self::S4 => Some(2),
            Self::Lra => None,
        }
    }

    const fn vocab_size(self) -> i64 {
        match self {
            Self::S4 => 18,
            Self::Lra => 17,
        }
    }

    /// The longest input of the convention's own experiments.
    const fn l_max(self) -> u32 {
        match self {
            Self::S4 => 2048,
            Self::Lra => 2000,
        }
    }
}

/// `task: { listops: { source: generate, max_length: 2000 } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether expressions are drawn here (`generate`) or read from the official `files`.
    pub source: Source,
    /// `generate`: expressions are longer than this, in tokens without parentheses.
    pub min_length: u32,
    /// `generate`: expressions are shorter than this.
    pub max_length: u32,
    /// `generate`: levels of an expression, its digits included.
    pub max_depth: u32,
    /// `generate`: most operands of an operator; the least is 2.
    pub max_args: u32,
    /// `generate`: seed of the examples; not the run's seed, so that all seeds of a run share one data set.
    pub data_seed: u64,
    /// `files`: the folder or `.tar.gz` with basic_train.tsv, basic_val.tsv and basic_test.tsv, absolute or below the
    /// data folder; null looks in the usual places.
    pub path: Option<PathBuf>,
    /// `files`: whether each label is held against the value of its expression when the files are read.
    pub verify_labels: bool,
    /// Training examples; null is 96,000 when they are generated, all rows of a file.
    pub train_examples: Option<u64>,
    /// Validation examples; null is 2,000 when they are generated, all rows of a file.
    pub validation_examples: Option<u64>,
    /// Test examples; null is 2,000 when they are generated, all rows of a file.
    pub test_examples: Option<u64>,
    /// Numbers of the symbols, and whether a sequence ends with `<eos>`: `s4` or `lra`.
    pub tokens: Tokens,
    /// Longest input, `<eos>` included: longer ones lose their end, and with it their answer. Null is the convention's own,
    /// 2048 or 2000, or the longest that can be generated if that is shorter.
    pub l_max: Option<u32>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            source: Source::Generate,
            min_length: 500,
            max_length: 2000,
            max_depth: 10,
            max_args: 10,
            data_seed: 0,
            path: None,
            verify_labels: true,
            train_examples: None,
            validation_examples: None,
            test_examples: None,
            tokens: Tokens::S4,
            l_max: None,
        }
    }
}

/// Sizes of the official splits.
const OFFICIAL: [u64; 3] = [96_000, 2_000, 2_000];
/// The limit of recursion, far above what any length needs.
const DEEPEST: u32 = 100;
/// The limit of length, so that a slip of the pen does not fill the memory.
const LONGEST: u32 = 1_000_000;
/// Expressions longer than this are too many to run out of: they have 9 digits or more.
const FEW: usize = 24;

impl Config {
    fn shape(&self) -> Shape {
        Shape {
            longer_than: self.min_length as usize,
            shorter_than: self.max_length as usize,
            max_depth: self.max_depth,
            max_args: u64::from(self.max_args),
        }
    }

    /// In the order of [`Split::ALL`].
    fn limits(&self) -> [Option<u64>; 3] {
        [self.train_examples, self.validation_examples, self.test_examples]
    }

    fn counts(&self) -> [u64; 3] {
        let limits = self.limits();
        std::array::from_fn(|split| limits[split].unwrap_or(OFFICIAL[split]))
    }

    fn longest_input(&self) -> u32 {
        let longest_drawn = self.max_length.saturating_sub(1) + u32::from(self.tokens.end().is_some());
        match (self.l_max, self.source) {
            (Some(l_max), _) => l_max,
            (None, Source::Files) => self.tokens.l_max(),
            (None, Source::Generate) => self.tokens.l_max().min(longest_drawn),
        }
    }

    /// Limits that contradict themselves.
    fn check_limits(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut wrong = |key, problem: String, help: &str| errors.push(ConfigError { key, problem, help: help.into() });
        if self.max_args < 2 {
            let problem = format!("`max_args` is {}; operators take at least 2 operands", self.max_args);
            wrong("max_args", problem, "use 2 or more; LRA uses 10");
        }
        if !(1..=DEEPEST).contains(&self.max_depth) {
            let problem = format!("`max_depth` is {}, not from 1 to {DEEPEST}", self.max_depth);
            wrong("max_depth", problem, "LRA uses 10");
        }
        let (low, high) = (self.min_length, self.max_length);
        if high > LONGEST {
            wrong("max_length", format!("`max_length` is {high}, more than {LONGEST}"), "LRA uses 2000");
        }
        if high < low.saturating_add(2) {
            let problem = format!("no length lies strictly between `min_length` = {low} and `max_length` = {high}");
            wrong("max_length", problem, "LRA keeps lengths between 500 and 2000");
        }
        errors
    }

    /// Limits that no tree, or too few trees, can keep: found by drawing and by counting.
    fn check_trees(&self) -> Option<ConfigError> {
        let (low, high) = (self.min_length, self.max_length);
        let mut stream = Stream::new(self.data_seed, Purpose::of_split(Config::STREAM, Split::Train), 0);
        if self.shape().draw(&mut stream, &mut Vec::new(), rows::TRIES).is_none() {
            let problem = format!(
                "none of {} expressions drawn with `max_depth` {} and `max_args` {} had a length strictly between {low} and {high}",
                rows::TRIES,
                self.max_depth,
                self.max_args
            );
            let help = "lower `min_length`, or raise `max_depth` or `max_args`".into();
            return Some(ConfigError { key: "min_length", problem, help });
        }
        let wanted: f64 = self.counts().iter().map(|&count| count as f64).sum();
        let distinct = self.shape().distinct(FEW);
        if low >= FEW as u32 || distinct >= 2.0 * wanted {
            return None;
        }
        let problem = format!(
            "{wanted:.0} different expressions are wanted, and lengths between {low} and {high} allow about {distinct:.0}"
        );
        Some(ConfigError { key: "max_length", problem, help: "raise `max_length`, or lower `train_examples`".into() })
    }

    /// Settings that would do nothing.
    fn check_source(&self) -> Vec<ConfigError> {
        let own = Self::default();
        match self.source {
            Source::Generate => idle(
                "generate",
                &[("path", self.path != own.path), ("verify_labels", self.verify_labels != own.verify_labels)],
            ),
            Source::Files => idle(
                "files",
                &[
                    ("min_length", self.min_length != own.min_length),
                    ("max_length", self.max_length != own.max_length),
                    ("max_depth", self.max_depth != own.max_depth),
                    ("max_args", self.max_args != own.max_args),
                    ("data_seed", self.data_seed != own.data_seed),
                ],
            ),
        }
    }
}

impl Family for Config {
    const NAME: &'static str = "listops";
    const ABOUT: &'static str =
        "Long Range Arena ListOps: evaluate nested MIN, MAX, MED and SM; drawn here or from the files";
    const PAPER: &'static str =
        "Nangia and Bowman 2018, arXiv:1804.06028; Tay et al. 2020 (Long Range Arena), arXiv:2011.04006";
    const SOURCES: &'static [&'static str] = &["/path", "/verify_labels"];

    fn check(&self) -> Vec<ConfigError> {
        let mut errors = self.check_source();
        for (key, limit) in COUNT_KEYS.into_iter().zip(self.limits()) {
            if limit == Some(0) {
                let help = "use 1 or more, or null".into();
                errors.push(ConfigError { key, problem: format!("`{key}` is 0"), help });
            }
        }
        if self.l_max.is_some_and(|l_max| l_max < 2) {
            let help = format!("{} uses {}", if self.tokens == Tokens::S4 { "S4" } else { "LRA" }, self.tokens.l_max());
            errors.push(ConfigError { key: "l_max", problem: "`l_max` is less than 2".into(), help });
        }
        if self.source == Source::Generate {
            let limits = self.check_limits();
            errors.extend(if limits.is_empty() { self.check_trees().into_iter().collect() } else { limits });
        }
        errors
    }

    fn outline(&self) -> Outline {
        let needs_files = self.source == Source::Files;
        Outline {
            causal: false,
            max_length: i64::from(self.longest_input()),
            needs_files,
            vocab_size: self.tokens.vocab_size(),
            classes: 10,
            documents: 1,
            input: Input::Tokens,
            output: Output::PerSequence,
        }
    }

    fn open(&self, data: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(ListOps::open(self.clone(), data)?))
    }

    fn generate(&self, folder: &Path, step: &(dyn Fn(u64, u64) + Sync)) -> Option<Result<Generated, DataError>> {
        let draws = self.source == Source::Generate;
        draws.then(|| files::write(&self.shape(), self.counts(), self.data_seed, folder, step))
    }

    fn variants() -> Vec<Variant> {
        vec![
            Variant::drawn(json!({ "min_length": 5, "max_length": 50, "max_depth": 3 })).pin("47b8be781dd7ce7f"),
            Variant::drawn(json!({ "min_length": 5, "max_length": 50, "max_depth": 3, "tokens": "lra" }))
                .pin("752c87c1d1380d0c"),
            Variant::new(json!({ "source": "files", "path": "drawn/listops-1000" })),
        ]
    }

    fn small() -> Vec<Value> {
        vec![json!({ "min_length": 5, "max_length": 30, "max_depth": 3, "train_examples": 500 })]
    }

    fn published(&self) -> Option<&'static str> {
        Some("ListOps")
    }
}

/// Places where the files are looked for, below the data folder.
const CANDIDATES: [&str; 6] = [
    "listops-1000",
    "lra_release/listops-1000",
    "lra_release/lra_release/listops-1000",
    "listops/listops-1000",
    "listops/*.tar.gz",
    "listops*.tar.gz",
];

/// Where the files come from.
fn help(data: &DataDir) -> String {
    let folder = data.0.join("listops-1000");
    let folder = folder.display();
    let address = "https://storage.googleapis.com/long-range-arena/lra_release/listops-1000";
    format!(
        "download the three files:\n  mkdir -p {folder}\n  for part in train val test; do curl -fL -o {folder}/basic_$part.tsv {address}/basic_$part.tsv; done\n\
         or name a folder or .tar.gz in `path`, or set `source: generate` to draw expressions of the same distribution"
    )
}

/// The examples of all splits.
#[derive(Debug)]
enum Examples {
    /// Drawn when the task was opened: few.
    Drawn([Rows; 3]),
    /// Drawn or read once, by this run or an earlier one, and the first rows of each split that are used.
    Prepared(Prepared, [usize; 3]),
}

/// More drawn examples than this are prepared, so that the runs of a sweep draw them once. The official 100,000 take
/// seconds to draw.
const MANY: u64 = 10_000;

/// The opened task.
#[derive(Debug)]
pub struct ListOps {
    cfg: Config,
    examples: Examples,
    notes: Vec<String>,
}

impl ListOps {
    fn open(cfg: Config, data: &DataDir) -> Result<Self, DataError> {
        if cfg.source == Source::Generate {
            let (shape, counts, seed) = (cfg.shape(), cfg.counts(), cfg.data_seed);
            let few = counts.iter().fold(0, |sum: u64, &count| sum.saturating_add(count)) <= MANY;
            let examples = if few {
                Examples::Drawn(rows::generate(&shape, counts, seed))
            } else {
                Examples::Prepared(rows::prepare(&shape, counts, seed, data)?, counts.map(|n| n as usize))
            };
            return Ok(Self { cfg, examples, notes: Vec::new() });
        }
        let root = data.locate("ListOps files", cfg.path.as_deref(), &CANDIDATES, &help(data))?;
        let set = files::prepare(&root, cfg.verify_labels, data)?;
        let mut notes = vec![format!("ListOps is read from {}", root.display())];
        let (there, limits) = (Split::ALL.map(|split| set.parts[split as usize].len() as u64), cfg.limits());
        notes.extend(subset::shortages(there, limits, "rows"));
        let used = std::array::from_fn(|split| limits[split].map_or(there[split], |n| n.min(there[split])) as usize);
        let task = Self { cfg, examples: Examples::Prepared(set, used), notes };
        Ok(task.with_note_of_absent_classes())
    }

    fn with_note_of_absent_classes(mut self) -> Self {
        let train = self.labels(Split::Train);
        let absent: Vec<String> =
            (0..10).filter(|class| !train.contains(class)).map(|class| class.to_string()).collect();
        if !absent.is_empty() {
            self.notes.push(format!("no training example has the label {}", absent.join(", ")));
        }
        self
    }

    fn labels(&self, split: Split) -> &[u8] {
        match &self.examples {
            Examples::Drawn(splits) => splits[split as usize].labels(),
            Examples::Prepared(set, used) => &set.parts[split as usize].labels()[..used[split as usize]],
        }
    }

    fn symbols(&self, split: Split, index: usize) -> &[Symbol] {
        match &self.examples {
            Examples::Drawn(splits) => splits[split as usize].symbols(index),
            Examples::Prepared(set, _) => set.parts[split as usize].document(index, 0),
        }
    }
}

impl Task for ListOps {
    fn spec(&self) -> TaskSpec {
        let shorter = self.cfg.source == Source::Generate && self.cfg.max_length < Config::default().max_length;
        let marks = if shorter { vec![Mark::Reduced] } else { Vec::new() };
        TaskSpec { metric: Metric::accuracy(), version: 1, marks, ..self.cfg.outline().spec() }
    }

    fn len(&self, split: Split) -> u64 {
        self.labels(split).len() as u64
    }

    fn example(&self, split: Split, index: u64) -> Result<Example, DataError> {
        let index = index as usize;
        let convention = self.cfg.tokens;
        let end = convention.end();
        let room = self.cfg.longest_input() as usize - usize::from(end.is_some());
        let symbols = self.symbols(split, index).iter().take(room);
        let tokens = symbols.map(|&symbol| convention.first_symbol() + i64::from(symbol)).chain(end).collect();
        Ok(Example::new(tokens, Targets::PerSequence(vec![i64::from(self.labels(split)[index])])))
    }

    fn floor(&self) -> Result<Bound, DataError> {
        Ok(bounds::constant(self.labels(Split::Test).iter().copied()))
    }

    fn ceiling(&self) -> Result<Bound, DataError> {
        bounds::oracle(self)
    }

    /// Reads the tokens back as an expression and evaluates it; one that was cut short has no value.
    fn solve(&self, example: &Example) -> Option<Vec<i64>> {
        let convention = self.cfg.tokens;
        let symbol = |&token: &i64| {
            let symbol = token - convention.first_symbol();
            (0..SYMBOLS).contains(&symbol).then_some(symbol as Symbol)
        };
        let expression = match (convention.end(), example.tokens.split_last()?) {
            (Some(end), (last, rest)) if *last == end => rest,
            _ => &example.tokens,
        };
        let symbols: Vec<Symbol> = expression.iter().map(symbol).collect::<Option<_>>()?;
        tree::evaluate(&symbols).ok().map(|value| vec![i64::from(value)])
    }

    fn fingerprint(&self) -> Option<String> {
        match (&self.examples, self.cfg.source) {
            (Examples::Prepared(set, _), Source::Files) => Some(set.meta.fingerprint.clone()),
            _ => None,
        }
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

#[cfg(test)]
mod tests;
