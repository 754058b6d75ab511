//! What depth buys: four tasks, each said to need more layers of attention than the one before.
//!
//! ```text
//! memorization         s               -> label(s)         N random sequences, each with a random label; test = train
//! in_context_qa        x1 y1 … xn yn xq -> y_i, xq = x_i    new questions and answers in every prompt
//! template_matching    A A B            -> label(AAB)       wildcards stand for symbols; at test for symbols never trained on
//! in_context_template  s1 y1 … sn yn sq -> y_i, sq is of the template of s_i and shares no symbol with s1 … sn
//! ```
//! Paper    Chen and Zou 2024, "What can Transformer learn with varying depth?", arXiv:2404.01601
//! Matches  the four tasks in the style of the paper, from its abstract and summaries; sizes and distributions are ours
//! Departs  answers are drawn with replacement unless `distinct_answers`; labels of templates are as even as can be, so that
//!          no label is worth guessing
//!
//! The answer is read at the last position. No input holds it beforehand where it would tell, so a bidirectional mixer gains
//! nothing that is not the task, and `causal: false` is allowed.

mod templates;
#[cfg(test)]
mod tests;

use crate::core::drawn::{self, Counts};
use crate::core::family::{Family, Outline, Variant};
use crate::core::rng::{self, Purpose, Stream};
use crate::{
    Bound, ConfigError, DataDir, DataError, Example, FRESH, Goodness, Mark, Metric, Split, Targets, Task, TaskSpec,
    core::bounds,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};

/// Which of the four tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Sequence classification: learn N labels by heart. One layer suffices in the paper.
    Memorization,
    /// Answer the question that was answered before in the prompt. Two layers.
    InContextQa,
    /// Tell which positions agree, whatever the symbols. Two layers.
    TemplateMatching,
    /// Both: labels of templates are given in the prompt. Three layers.
    InContextTemplate,
}

impl Kind {
    const fn in_context(self) -> bool {
        matches!(self, Self::InContextQa | Self::InContextTemplate)
    }

    const fn has_templates(self) -> bool {
        matches!(self, Self::TemplateMatching | Self::InContextTemplate)
    }
}

/// `task: { depth: { kind: in_context_qa, pairs: 8 } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which of the four tasks.
    pub kind: Kind,
    /// Symbols that sequences, questions and templates are made of: tokens `0 .. alphabet`.
    pub alphabet: u32,
    /// C: labels or answers. In a prompt answer c is token `alphabet + c`.
    pub classes: u32,
    /// Memorization: N, sequences to learn. They are the training, the validation and the test split.
    pub sequences: u32,
    /// Memorization: tokens of a sequence.
    pub seq_len: u32,
    /// In context: n, questions and answers before the last question.
    pub pairs: u32,
    /// In-context question answering: tokens of a question.
    pub question_length: u32,
    /// In context: whether the n answers of a prompt all differ. Otherwise they are drawn with replacement.
    pub distinct_answers: bool,
    /// Templates: tokens of a sequence.
    pub template_length: u32,
    /// Templates: how many are used, drawn from `data_seed`. `null`: all of that length.
    pub templates: Option<u32>,
    /// Templates: share of the alphabet kept for validation and test; training never shows it. 0, in context only: all
    /// symbols everywhere, and prompts that differ.
    pub held_out: f64,
    /// Training examples; `null`: always new ones. Memorization has `sequences` instead.
    pub train_examples: Option<u64>,
    /// Validation examples, from a stream of their own; memorization has `sequences` instead.
    pub validation_examples: u64,
    /// Test examples, from a stream of their own; memorization has `sequences` instead.
    pub test_examples: u64,
    /// Seed of the examples; not the run's seed, so that all seeds of a run share one data set.
    pub data_seed: u64,
    /// Whether position t may only read up to t.
    pub causal: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            kind: Kind::InContextQa,
            alphabet: 64,
            classes: 8,
            sequences: 512,
            seq_len: 8,
            pairs: 8,
            question_length: 1,
            distinct_answers: false,
            template_length: 4,
            templates: None,
            held_out: 0.5,
            train_examples: None,
            validation_examples: 500,
            test_examples: 2_000,
            data_seed: 0,
            causal: true,
        }
    }
}

/// No example may be longer: a bound against typing errors.
const LONGEST: u64 = 1 << 20;

/// Different prompts that splits by ownership need: with fewer, one of them could own none.
const PROMPTS: f64 = 10_000.0;

impl Config {
    fn counts(&self) -> Counts<'_> {
        Counts::new(self.train_examples, self.validation_examples, self.test_examples, &[])
    }

    /// Symbols that training never shows: the last of the alphabet.
    fn held(&self) -> u32 {
        if self.kind.has_templates() { (self.held_out * f64::from(self.alphabet)).round() as u32 } else { 0 }
    }

    /// Templates that are used.
    fn n_templates(&self) -> u64 {
        self.templates.map_or_else(|| templates::count(self.template_length), u64::from)
    }

    /// Tokens of an example.
    fn length(&self) -> u64 {
        let (n, q, t) = (u64::from(self.pairs), u64::from(self.question_length), u64::from(self.template_length));
        match self.kind {
            Kind::Memorization => self.seq_len.into(),
            Kind::InContextQa => n.saturating_mul(q + 1).saturating_add(q),
            Kind::TemplateMatching => t,
            Kind::InContextTemplate => n.saturating_mul(t + 1).saturating_add(t),
        }
    }

    /// Different prompts, or fewer.
    fn prompts(&self) -> f64 {
        let n = self.pairs;
        let in_order = |of: f64, k: u32| (0..k.min(4096)).map(|i| (of - f64::from(i)).max(0.0)).product::<f64>();
        let power = |base: f64, k: u32| base.powi(k.min(4096) as i32);
        let answers =
            if self.distinct_answers { in_order(self.classes.into(), n) } else { power(self.classes.into(), n) };
        answers
            * match self.kind {
                Kind::InContextQa => in_order(power(self.alphabet.into(), self.question_length), n),
                _ => {
                    let first = f64::from(self.alphabet.saturating_sub(self.template_length));
                    in_order(self.n_templates() as f64, n) * power(first, n)
                }
            }
    }

    fn tokens(&self) -> i64 {
        i64::from(self.alphabet) + if self.kind.in_context() { i64::from(self.classes) } else { 0 }
    }
}

impl Family for Config {
    const NAME: &'static str = "depth";
    const ABOUT: &'static str = "what depth buys (in the style of Chen and Zou 2024): memorization, in-context answers, templates, templates in context";
    const PAPER: &'static str = "Chen and Zou 2024, arXiv:2404.01601";

    fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut wrong = |key, problem: String, help: String| errors.push(ConfigError { key, problem, help });
        let (kind, alphabet, classes, n) = (self.kind, self.alphabet, self.classes, self.pairs);
        for (key, value, least, needed) in [
            ("alphabet", alphabet, 2, true),
            ("classes", classes, 2, true),
            ("seq_len", self.seq_len, 1, kind == Kind::Memorization),
            ("sequences", self.sequences, 2, kind == Kind::Memorization),
            ("pairs", n, 2, kind.in_context()),
            ("question_length", self.question_length, 1, kind == Kind::InContextQa),
            ("template_length", self.template_length, 2, kind.has_templates()),
        ] {
            if needed && value < least {
                wrong(key, format!("`{key}` is {value}, less than {least}"), format!("use {least} or more"));
            }
        }
        if !errors.is_empty() {
            return errors;
        }
        let mut wrong = |key, problem: String, help: String| errors.push(ConfigError { key, problem, help });
        if self.length() > LONGEST {
            let key = if kind == Kind::Memorization { "seq_len" } else { "pairs" };
            let problem = format!("examples have {} tokens, more than {LONGEST}", self.length());
            wrong(key, problem, format!("lower `{key}`"));
            return errors;
        }
        if kind == Kind::Memorization {
            let (a, l) = (f64::from(alphabet), self.seq_len);
            let there_are = a.powi(l.min(4096) as i32);
            if f64::from(self.sequences) > there_are {
                let problem = format!(
                    "`sequences` is {}, more than `alphabet`^`seq_len` = {alphabet}^{l} = {there_are:.0} different ones",
                    self.sequences
                );
                wrong("sequences", problem, format!("use {there_are:.0} or fewer, or raise `seq_len`"));
            }
            if let Some(examples) = self.train_examples {
                let problem = format!("`train_examples` is {examples}, but memorization trains on its `sequences`");
                wrong(
                    "train_examples",
                    problem,
                    format!("write `sequences: {examples}` and leave `train_examples` out"),
                );
            }
            return errors;
        }
        for (key, count) in self.counts().keyed() {
            if !(1..=FRESH).contains(&count) {
                let problem = format!("`{key}` is {count}, which is not in 1 ..= {FRESH}");
                wrong(key, problem, "use a number between; `train_examples: null` is always new ones".into());
            }
        }
        if kind.in_context() && self.distinct_answers && n > classes {
            let problem =
                format!("`distinct_answers` with `pairs` = {n} > `classes` = {classes}: too few answers to differ");
            wrong("distinct_answers", problem, format!("raise `classes` to {n} or lower `pairs` to {classes}"));
        }
        if kind == Kind::InContextQa {
            let questions = f64::from(alphabet).powi(self.question_length.min(4096) as i32);
            if f64::from(n) > questions {
                let q = self.question_length;
                let problem = format!(
                    "`pairs` is {n}, more than `alphabet`^`question_length` = {alphabet}^{q} = {questions:.0} different questions"
                );
                wrong("pairs", problem, format!("use {questions:.0} or fewer, or raise `alphabet`"));
            }
        }
        if kind.has_templates() {
            self.check_templates(&mut wrong);
        }
        if errors.is_empty() && kind.in_context() && self.held() == 0 && self.prompts() < PROMPTS {
            let problem = format!(
                "`pairs` {n}, `alphabet` {alphabet} and `classes` {classes} give at least {:.0} different prompts, and \
                 {PROMPTS} are needed to share them among training, validation and test",
                self.prompts()
            );
            let help = "raise `alphabet`, `classes` or `pairs`".into();
            errors.push(ConfigError { key: "pairs", problem, help });
        }
        errors
    }

    fn outline(&self) -> Outline {
        Outline {
            causal: self.causal,
            max_length: self.length() as i64,
            vocab_size: self.tokens(),
            classes: i64::from(self.classes),
            ..drawn::OUTLINE
        }
    }

    fn open(&self, _: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(Depth::new(self.clone())))
    }

    fn variants() -> Vec<Variant> {
        vec![
            // The most frequent of n uniform answers out of C, asked for once: E[largest count]/n, by the multinomial's exact
            // sums; deviations over 500 examples. Memorization: of N = 96 labels, C = 8, whose largest count has deviation
            // 0.017 N.
            Variant::new(json!({ "kind": "memorization", "sequences": 96 }))
                .floor(0.178_585, 0.07)
                .pin("dd5183fb85926203"),
            // n = 8, C = 8.
            Variant::drawn(json!({ "kind": "in_context_qa" })).floor(0.324_654, 0.084).pin("3d9d44ca0e7b9809"),
            // Answers differ.
            Variant::drawn(
                json!({ "kind": "in_context_qa", "question_length": 2, "pairs": 4, "distinct_answers": true }),
            )
            .floor(0.25, 0.078)
            .pin("4172f484de607ee7"),
            // 15 templates, 8 labels.
            Variant::drawn(json!({ "kind": "template_matching" })).floor(2.0 / 15.0, 0.061).pin("4deaad750baa253f"),
            Variant::drawn(json!({ "kind": "in_context_template" })).floor(0.324_654, 0.084).pin("8f4cef4ac6a60845"),
            // n = 4, C = 8.
            Variant::drawn(json!({ "kind": "in_context_template", "held_out": 0.0, "pairs": 4, "templates": 10 }))
                .floor(0.412_109, 0.088)
                .pin("03bd80033973affd"),
        ]
    }

    fn small() -> Vec<Value> {
        vec![json!({ "kind": "in_context_qa", "pairs": 4, "alphabet": 32 }), json!({ "kind": "template_matching" })]
    }
}

impl Config {
    fn check_templates(&self, wrong: &mut impl FnMut(&'static str, String, String)) {
        let (length, alphabet) = (self.template_length, self.alphabet);
        if length > templates::LONGEST {
            let problem = format!("`template_length` is {length}, more than {}", templates::LONGEST);
            wrong("template_length", problem, format!("use {} or less", templates::LONGEST));
            return;
        }
        let (there_are, used) = (templates::count(length), self.n_templates());
        if used > there_are {
            let problem = format!(
                "`templates` is {used}, more than the Bell number B({length}) = {there_are}: no more templates of \
                 `template_length` {length} exist"
            );
            wrong("templates", problem, format!("use {there_are} or fewer, or `null` for all of them"));
        }
        if used < 2 {
            wrong(
                "templates",
                format!("`templates` is {used}, and with fewer than two there is nothing to tell apart"),
                "use 2 or more".into(),
            );
        }
        let in_context = self.kind == Kind::InContextTemplate;
        if in_context && u64::from(self.pairs) > used {
            let n = self.pairs;
            let problem =
                format!("`pairs` is {n}, more than the {used} templates: each pair has a template of its own");
            wrong("pairs", problem, format!("use {used} or fewer, or raise `template_length`"));
        }
        if !(0.0..=1.0).contains(&self.held_out) {
            let problem = format!("`held_out` is {}, which is not between 0 and 1", self.held_out);
            wrong("held_out", problem, "use a share such as 0.5".into());
            return;
        }
        let held = self.held();
        if in_context && held == 0 && self.held_out > 0.0 {
            let problem = format!("`held_out` {} of `alphabet` {alphabet} rounds to 0 symbols", self.held_out);
            wrong("held_out", problem, "write 0 to hold no symbols out, or a larger share".into());
            return;
        }
        // In context the last sequence shares no symbol with the others.
        let (needed, sum) = if in_context {
            (2 * length, format!("2·{length} = {}", 2 * length))
        } else {
            (length, length.to_string())
        };
        let parts = [("training", alphabet - held, false), ("validation and test", held, in_context && held == 0)];
        for (part, symbols, absent) in parts {
            if symbols < needed && !absent {
                let problem = format!(
                    "`alphabet` {alphabet} with `held_out` {} leaves {symbols} symbols for {part}, fewer than the {sum} \
                     wildcards that `template_length` {length} can ask for",
                    self.held_out
                );
                let key = if self.held_out == 0.0 || self.held_out == 1.0 { "held_out" } else { "alphabet" };
                wrong(key, problem, format!("with `held_out: 0.5` use an `alphabet` of {} or more", 2 * needed));
            }
        }
    }
}

/// The opened task.
#[derive(Debug)]
pub struct Depth {
    cfg: Config,
    /// Sequences of memorization with their labels.
    learnt: Vec<(Vec<i64>, i64)>,
    /// Labels of memorization by sequence, of template matching by template.
    labels: HashMap<Vec<i64>, i64>,
    /// Templates that are used.
    templates: Vec<Vec<usize>>,
}

/// Questions with their answers, and the last question.
type Prompt<'a> = (Vec<(&'a [i64], i64)>, &'a [i64]);

impl Depth {
    /// The task of settings that passed their check.
    pub fn new(cfg: Config) -> Self {
        let mut task = Self { cfg, learnt: Vec::new(), labels: HashMap::new(), templates: Vec::new() };
        let mut stream = Stream::new(task.cfg.data_seed, Purpose::new("depth table"), 0);
        if task.cfg.kind == Kind::Memorization {
            let sequences = sequences(&task.cfg, &mut stream);
            task.learnt = sequences.into_iter().map(|s| (s, stream.below(task.cfg.classes.into()) as i64)).collect();
            task.labels = task.learnt.iter().cloned().collect();
        }
        if task.cfg.kind.has_templates() {
            let all = templates::all(task.cfg.template_length);
            let mut chosen = stream.distinct(task.cfg.n_templates() as usize, all.len());
            task.templates = chosen.iter().map(|&i| all[i as usize].clone()).collect();
            // A label comes as often as any other, give or take one.
            let labels = stream.distinct(task.cfg.classes as usize, task.cfg.classes as usize);
            stream.shuffle(&mut chosen);
            let rank: HashMap<i64, usize> = chosen.iter().enumerate().map(|(rank, &i)| (i, rank)).collect();
            for (i, template) in all.iter().enumerate() {
                if let Some(rank) = rank.get(&(i as i64)) {
                    let key = template.iter().map(|&wildcard| wildcard as i64).collect();
                    task.labels.insert(key, labels[rank % labels.len()]);
                }
            }
        }
        task
    }

    /// The symbols a split may show: the first and how many.
    fn part(&self, split: Split) -> (i64, usize) {
        let (alphabet, held) = (self.cfg.alphabet, self.cfg.held());
        match split {
            _ if held == 0 => (0, alphabet as usize),
            Split::Train => (0, (alphabet - held) as usize),
            Split::Validation | Split::Test => (i64::from(alphabet - held), held as usize),
        }
    }

    /// Whether `prompt` is this split's. Held-out symbols are shared by validation and test: the first one decides, even or odd.
    fn owns(&self, split: Split, prompt: &[i64]) -> bool {
        if self.cfg.held() == 0 {
            return rng::owner(prompt, self.cfg.data_seed) == split;
        }
        let even = (prompt[0] - self.part(split).0) % 2 == 0;
        match split {
            Split::Train => true,
            Split::Validation => even,
            Split::Test => !even,
        }
    }

    /// n answers.
    fn answers(&self, stream: &mut Stream) -> Vec<i64> {
        let (n, classes) = (self.cfg.pairs as usize, self.cfg.classes as usize);
        if self.cfg.distinct_answers {
            return stream.distinct(n, classes);
        }
        (0..n).map(|_| stream.below(classes as u64) as i64).collect()
    }

    /// Questions or sequences, each followed by its answer.
    fn prompt(&self, items: &[Vec<i64>], answers: &[i64]) -> Vec<i64> {
        let pair = |(item, answer): (&Vec<i64>, &i64)| {
            item.iter().copied().chain([answer + i64::from(self.cfg.alphabet)]).collect::<Vec<_>>()
        };
        items.iter().zip(answers).flat_map(pair).collect()
    }

    /// Tokens, class, and which pair or template was asked for.
    fn draw(&self, split: Split, index: u64) -> (Vec<i64>, i64, usize) {
        if self.cfg.kind == Kind::Memorization {
            let (sequence, label) = &self.learnt[index as usize];
            return (sequence.clone(), *label, index as usize);
        }
        let mut stream = Stream::new(self.cfg.data_seed, Purpose::of_split(Config::STREAM, split), index);
        match self.cfg.kind {
            Kind::TemplateMatching => self.template_matching(split, &mut stream),
            Kind::InContextTemplate => self.in_context_template(split, &mut stream),
            _ => self.in_context_qa(split, &mut stream),
        }
    }

    fn in_context_qa(&self, split: Split, stream: &mut Stream) -> (Vec<i64>, i64, usize) {
        loop {
            let mut questions: Vec<Vec<i64>> = Vec::with_capacity(self.cfg.pairs as usize);
            while questions.len() < self.cfg.pairs as usize {
                let question: Vec<i64> =
                    (0..self.cfg.question_length).map(|_| stream.below(self.cfg.alphabet.into()) as i64).collect();
                if !questions.contains(&question) {
                    questions.push(question);
                }
            }
            let answers = self.answers(stream);
            let mut tokens = self.prompt(&questions, &answers);
            if self.owns(split, &tokens) {
                let asked = stream.below(self.cfg.pairs.into()) as usize;
                tokens.extend_from_slice(&questions[asked]);
                return (tokens, answers[asked], asked);
            }
        }
    }

    fn template_matching(&self, split: Split, stream: &mut Stream) -> (Vec<i64>, i64, usize) {
        let which = stream.below(self.templates.len() as u64) as usize;
        let (first, symbols) = self.part(split);
        loop {
            let tokens = filled(&self.templates[which], &stream.distinct(symbols, symbols), first);
            if self.owns(split, &tokens) {
                let label = self.labels[&symbolic(&self.templates[which])];
                return (tokens, label, which);
            }
        }
    }

    fn in_context_template(&self, split: Split, stream: &mut Stream) -> (Vec<i64>, i64, usize) {
        let (n, (first, symbols)) = (self.cfg.pairs as usize, self.part(split));
        loop {
            let chosen = stream.distinct(n, self.templates.len());
            let template = |i: usize| &self.templates[chosen[i] as usize];
            let asked = stream.below(n as u64) as usize;
            // The last sequence takes the first of the shuffled symbols; the others share what it leaves.
            let order = stream.distinct(symbols, symbols);
            let (own, rest) = order.split_at(templates::wildcards(template(asked)));
            let sequences: Vec<Vec<i64>> = (0..n)
                .map(|i| {
                    let picks = stream.distinct(templates::wildcards(template(i)), rest.len());
                    let symbols: Vec<i64> = picks.iter().map(|&pick| rest[pick as usize]).collect();
                    filled(template(i), &symbols, first)
                })
                .collect();
            let answers = self.answers(stream);
            let mut tokens = self.prompt(&sequences, &answers);
            if self.owns(split, &tokens) {
                tokens.extend(filled(template(asked), own, first));
                return (tokens, answers[asked], asked);
            }
        }
    }

    /// Pairs of a prompt and the last question.
    fn read<'a>(&self, tokens: &'a [i64]) -> Option<Prompt<'a>> {
        let item = match self.cfg.kind {
            Kind::InContextQa => self.cfg.question_length,
            _ => self.cfg.template_length,
        } as usize;
        let (prompt, asked) = tokens.split_at_checked((item + 1) * self.cfg.pairs as usize)?;
        let pair = |pair: &'a [i64]| (&pair[..item], pair[item] - i64::from(self.cfg.alphabet));
        Some((prompt.chunks_exact(item + 1).map(pair).collect(), asked))
    }
}

/// N different sequences.
fn sequences(cfg: &Config, stream: &mut Stream) -> Vec<Vec<i64>> {
    let (n, alphabet, length) = (cfg.sequences as usize, u64::from(cfg.alphabet), cfg.seq_len as usize);
    let there_are = f64::from(cfg.alphabet).powi(cfg.seq_len.min(4096) as i32);
    if there_are < 2.0 * n as f64 {
        let digits = |number: i64| {
            let mut left = number as u64;
            let digit = |_| {
                let digit = left % alphabet;
                left /= alphabet;
                digit as i64
            };
            (0..length).map(digit).collect()
        };
        return stream.distinct(n, there_are as usize).into_iter().map(digits).collect();
    }
    let (mut sequences, mut seen) = (Vec::with_capacity(n), HashSet::with_capacity(n));
    while sequences.len() < n {
        let sequence: Vec<i64> = (0..length).map(|_| stream.below(alphabet) as i64).collect();
        if seen.insert(sequence.clone()) {
            sequences.push(sequence);
        }
    }
    sequences
}

/// The template with wildcard w replaced by the w-th of `symbols`, counted from `first`.
fn filled(template: &[usize], symbols: &[i64], first: i64) -> Vec<i64> {
    template.iter().map(|&wildcard| first + symbols[wildcard]).collect()
}

/// A template as a key.
fn symbolic(template: &[usize]) -> Vec<i64> {
    template.iter().map(|&wildcard| wildcard as i64).collect()
}

/// The answer that comes most often in a prompt; of equally frequent ones the first.
fn commonest(answers: &[i64]) -> i64 {
    let count = |answer: &i64| answers.iter().filter(|other| *other == answer).count();
    answers.iter().rev().max_by_key(|answer| count(answer)).copied().unwrap_or(0)
}

impl Task for Depth {
    fn spec(&self) -> TaskSpec {
        let marks = if self.cfg.kind == Kind::Memorization { vec![Mark::TestIsTrain] } else { Vec::new() };
        TaskSpec { metric: Metric::accuracy(), version: 1, marks, ..self.cfg.outline().spec() }
    }

    fn len(&self, split: Split) -> u64 {
        if self.cfg.kind == Kind::Memorization { self.cfg.sequences.into() } else { self.cfg.counts().len(split) }
    }

    fn example(&self, split: Split, index: u64) -> Result<Example, DataError> {
        let (tokens, class, _) = self.draw(split, index);
        let positions = vec![tokens.len() as i64 - 1];
        Ok(Example::new(tokens, Targets::PerPosition { positions, classes: vec![class] }))
    }

    fn distributions(&self, examples: u64) -> Result<Vec<Goodness>, DataError> {
        let (cfg, rows) = (&self.cfg, examples.min(self.len(Split::Train)));
        let (first, symbols) = self.part(Split::Train);
        let asks = if cfg.kind.in_context() { cfg.pairs as usize } else { self.templates.len() };
        let (mut labels, mut asked) = (vec![0; cfg.classes as usize], vec![0; asks]);
        let (mut opening, mut last) = (vec![0; symbols], vec![0; symbols]);
        let mut opened = vec![0; self.templates.len()];
        let number: HashMap<&[usize], usize> = self.templates.iter().map(Vec::as_slice).zip(0..).collect();
        for index in 0..rows {
            let (tokens, class, which) = self.draw(Split::Train, index);
            labels[class as usize] += 1;
            opening[(tokens[0] - first) as usize] += 1;
            last[(tokens[tokens.len() - 1] - first) as usize] += 1;
            if let Some(count) = asked.get_mut(which) {
                *count += 1;
            }
            if cfg.kind == Kind::InContextTemplate {
                opened[number[templates::of(&tokens[..cfg.template_length as usize]).as_slice()]] += 1;
            }
        }
        let mut found = Vec::new();
        let share = |label: i64| self.labels.values().filter(|&&other| other == label).count() as f64;
        match cfg.kind {
            Kind::Memorization => found.push(Goodness::uniform("label of a sequence", &labels)),
            Kind::TemplateMatching => {
                let shares: Vec<f64> = (0..i64::from(cfg.classes)).map(share).collect();
                found.push(Goodness::chi_square("label of a sequence", &labels, &shares));
                found.push(Goodness::uniform("template of a sequence", &asked));
            }
            Kind::InContextQa | Kind::InContextTemplate => {
                found.push(Goodness::uniform("answer asked for", &labels));
                found.push(Goodness::uniform("place of the pair asked for", &asked));
            }
        }
        if cfg.kind == Kind::InContextTemplate {
            found.push(Goodness::uniform("template of the first sequence", &opened));
        }
        found.push(Goodness::uniform("first symbol", &opening));
        found.push(Goodness::uniform("last symbol", &last));
        Ok(found.into_iter().flatten().collect())
    }

    fn floor(&self) -> Result<Bound, DataError> {
        if !self.cfg.kind.in_context() {
            return bounds::best_constant(self);
        }
        bounds::guesser(self, self.cfg.data_seed, "the answer that is most frequent in the prompt", |example, _| {
            let (pairs, _) = self.read(&example.tokens).expect("prompts are of one length");
            vec![commonest(&pairs.iter().map(|(_, answer)| *answer).collect::<Vec<_>>())]
        })
    }

    fn ceiling(&self) -> Result<Bound, DataError> {
        bounds::oracle(self)
    }

    /// Looks the sequence up, the question, the template, or the template among those of the prompt.
    fn solve(&self, example: &Example) -> Option<Vec<i64>> {
        let tokens = &example.tokens;
        let answer = match self.cfg.kind {
            Kind::Memorization => self.labels.get(tokens).copied(),
            Kind::TemplateMatching => self.labels.get(&symbolic(&templates::of(tokens))).copied(),
            Kind::InContextQa => {
                let (pairs, asked) = self.read(tokens)?;
                pairs.iter().find(|(question, _)| *question == asked).map(|(_, answer)| *answer)
            }
            Kind::InContextTemplate => {
                let (pairs, asked) = self.read(tokens)?;
                let template = templates::of(asked);
                pairs.iter().find(|(sequence, _)| templates::of(sequence) == template).map(|(_, answer)| *answer)
            }
        };
        answer.map(|answer| vec![answer])
    }

    fn notes(&self) -> Vec<String> {
        let (kind, classes, used) = (self.cfg.kind, self.cfg.classes, self.templates.len());
        let mut notes = vec!["in the style of Chen and Zou (2024): the sizes and distributions are ours".to_owned()];
        if kind == Kind::TemplateMatching && used < classes as usize {
            notes.push(format!("{used} templates have {used} of the {classes} labels; the others never occur"));
        }
        if self.cfg.held() > 0 {
            notes.push(format!(
                "validation and test show {} symbols that training never shows: their embeddings stay as they were drawn",
                self.cfg.held()
            ));
        }
        notes
    }
}
