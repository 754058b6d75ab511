//! Sparse linear regression in context: n noisy examples of a linear function of few coordinates, then a question.
//!
//! ```text
//! [x1; y1] [x2; y2] … [xn; yn] [xq; 0]  ->  ⟨w*, xq⟩       a token is a vector of d + 1 reals
//! x ~ N(0, Σ),  y = ⟨w*, x⟩ + e,  e ~ N(0, σ²),  w* is 0 but on s coordinates of a uniformly random support
//! ```
//! Paper    Chen, Zhao and Zou 2024, "How transformers utilize multi-head attention in in-context learning? A case study on
//!          sparse linear regression", arXiv:2408.04532
//! Matches  the data in the style of the paper, from its abstract; sizes are ours
//! Departs  reals travel as 24-bit fixed point, steps of 2^-16 in ±128, which moves a value by 8e-6 at most
//!
//! Training asks for the noisy y_q, as data would give it; validation and test ask for ⟨w*, x_q⟩, so that their squared error
//! is the excess risk. The target is nowhere in the input, so `causal: false` is the default; the paper has no position codes.
//!
//! Preprocess-then-optimise, the paper's account of what a trained model does, has less risk than ridge and gradient descent at
//! every n of the defaults. At σ = 0.1 that is measured for n <= d only: with more examples than coordinates and hardly any
//! noise nothing is left to gain from sparsity, and its weak coordinates converge slowly.

mod solvers;
#[cfg(test)]
mod tests;

use crate::core::drawn::{self, Counts};
use crate::core::family::{Family, Outline, Variant};
use crate::core::rng::{Purpose, Stream};
use crate::{
    Baseline, Bound, ConfigError, DataDir, DataError, Example, FRESH, Goodness, Input, Judge, Metric, Output, Section,
    Sections, Split, Targets, Task, TaskSpec,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use solvers::{Method, Problem};
use statrs::function::beta::beta_reg;
use std::sync::OnceLock;

/// How the non-zero coordinates of w* are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Weights {
    /// Each from N(0, 1).
    Normal,
    /// In a uniformly random direction, of length 1.
    UnitNorm,
}

/// The diagonal of Σ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Covariance {
    /// 1 for every coordinate.
    Identity,
    /// 1 / j for coordinate j = 1 .. d.
    Decaying,
}

/// `task: { sparse_regression: { dimension: 16, sparsity: 4 } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// d: coordinates of x.
    pub dimension: u32,
    /// s: coordinates of w* that are not 0.
    pub sparsity: u32,
    /// σ: standard deviation of the noise on every y.
    pub noise: f64,
    /// How the non-zero coordinates of w* are drawn.
    pub weights: Weights,
    /// The diagonal of Σ.
    pub covariance: Covariance,
    /// n, examples in a context: training and validation have as many prompts of each. Rising.
    pub contexts: Vec<u32>,
    /// n of the test split. Rising.
    pub test_contexts: Vec<u32>,
    /// k: steps of the baselines that descend a gradient.
    pub gradient_steps: u32,
    /// Power of |Xᵀy / n| by which preprocess-then-optimise scales coordinates; 0 makes it gradient descent.
    pub preprocess_power: f64,
    /// Training prompts in all; `null`: always new ones.
    pub train_examples: Option<u64>,
    /// Validation prompts in all, from a stream of their own.
    pub validation_examples: u64,
    /// Test prompts in all, from a stream of their own.
    pub test_examples: u64,
    /// Seed of the examples; not the run's seed, so that all seeds of a run share one data set.
    pub data_seed: u64,
    /// Whether position t may only read up to t.
    pub causal: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            dimension: 16,
            sparsity: 4,
            noise: 0.4,
            weights: Weights::Normal,
            covariance: Covariance::Identity,
            contexts: vec![8, 16, 24, 32, 40],
            test_contexts: vec![8, 16, 24, 32, 40],
            gradient_steps: 50,
            preprocess_power: 1.0,
            train_examples: None,
            validation_examples: 500,
            test_examples: 2_500,
            data_seed: 0,
            causal: false,
        }
    }
}

/// Fixed point: real = token / STEPS − REACH.
const STEPS: f64 = 65_536.0;
const REACH: f64 = 128.0;
const TOKENS: i64 = 1 << 24;
/// The token of 0.
const ZERO: i64 = 1 << 23;
/// Prompts of each n on which the baselines' settings are chosen.
const TUNING: u64 = 200;
/// Cells of equal probability in the tests of continuous draws.
const BINS: usize = 16;

/// The nearest token.
fn token(real: f64) -> i64 {
    (((real + REACH) * STEPS).round() as i64).clamp(0, TOKENS - 1)
}

impl Config {
    const fn input(&self) -> Input {
        Input::Reals { width: self.dimension as i64 + 1, scale: 1.0 / STEPS, shift: -REACH }
    }

    /// What a model reads where `real` was drawn.
    fn rounded(&self, real: f64) -> f64 {
        self.input().real(token(real))
    }

    /// Standard deviation of coordinate `j`.
    fn deviation(&self, j: usize) -> f64 {
        match self.covariance {
            Covariance::Identity => 1.0,
            Covariance::Decaying => (1.0 / (j + 1) as f64).sqrt(),
        }
    }

    fn counts(&self) -> Counts<'_> {
        Counts::new(self.train_examples, self.validation_examples, self.test_examples, &[])
    }

    fn contexts(&self, split: Split) -> &[u32] {
        if split == Split::Test { &self.test_contexts } else { &self.contexts }
    }

    fn longest(&self) -> i64 {
        self.contexts.iter().chain(&self.test_contexts).max().map_or(1, |&n| i64::from(n) + 1)
    }
}

impl Family for Config {
    const NAME: &'static str = "sparse_regression";
    const ABOUT: &'static str =
        "sparse linear regression in context (in the style of Chen, Zhao and Zou 2024), against six baselines";
    const PAPER: &'static str = "Chen, Zhao and Zou 2024, arXiv:2408.04532";
    const STREAM: &'static str = "sparse regression";

    fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut wrong = |key, problem: String, help: String| errors.push(ConfigError { key, problem, help });
        let (d, s) = (self.dimension, self.sparsity);
        if !(1..=256).contains(&d) {
            wrong("dimension", format!("`dimension` is {d}, which is not in 1 ..= 256"), "use 16".into());
        }
        if s == 0 {
            wrong("sparsity", "`sparsity` is 0, so every answer is 0".into(), "use 1 or more".into());
        }
        if s > d {
            let problem = format!("`sparsity` is {s}, more than `dimension` = {d}");
            wrong("sparsity", problem, format!("use {d} or less"));
        }
        if !(0.0..=16.0).contains(&self.noise) {
            let problem = format!("`noise` is {}, which is not between 0 and 16", self.noise);
            wrong("noise", problem, "use a deviation such as 0.4; numbers reach to ±128".into());
        }
        if !(0.0..=4.0).contains(&self.preprocess_power) {
            let problem = format!("`preprocess_power` is {}, which is not between 0 and 4", self.preprocess_power);
            wrong("preprocess_power", problem, "use 1".into());
        }
        if !(1..=10_000).contains(&self.gradient_steps) {
            let problem = format!("`gradient_steps` is {}, which is not in 1 ..= 10000", self.gradient_steps);
            wrong("gradient_steps", problem, "use 50, or the model's layers".into());
        }
        for (key, contexts) in [("contexts", &self.contexts), ("test_contexts", &self.test_contexts)] {
            let rise = contexts.windows(2).all(|pair| pair[0] < pair[1]);
            if contexts.is_empty() || !rise || !contexts.iter().all(|n| (1..=65_536).contains(n)) {
                let problem = format!("`{key}` is {contexts:?}, not a rising list of numbers in 1 ..= 65536");
                wrong(key, problem, "use a list such as [8, 16, 24, 32, 40]".into());
            }
        }
        for ((key, count), split) in self.counts().keyed().into_iter().zip(Split::ALL) {
            let least = self.contexts(split).len().max(1) as u64;
            if !(least..=FRESH).contains(&count) {
                let problem = format!("`{key}` is {count}, fewer than the {least} contexts or more than {FRESH}");
                wrong(key, problem, format!("use {least} or more; `train_examples: null` is always new ones"));
            }
        }
        errors
    }

    fn outline(&self) -> Outline {
        Outline {
            causal: self.causal,
            max_length: self.longest(),
            vocab_size: TOKENS,
            classes: 1,
            input: self.input(),
            output: Output::Number,
            ..drawn::OUTLINE
        }
    }

    fn open(&self, _: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(SparseRegression::new(self.clone())))
    }

    fn variants() -> Vec<Variant> {
        vec![
            // A constant explains nothing but the mean that a finite test happens to have.
            Variant::drawn(json!({ "contexts": [8, 12], "test_contexts": [4, 16, 20] }))
                .floor(0.0, 0.01)
                .pin("358f7d4a93cea026"),
            Variant::drawn(json!({
                "contexts": [6], "dimension": 5, "weights": "unit_norm", "covariance": "decaying", "noise": 0.0,
            }))
            .floor(0.0, 0.01)
            .pin("6638e833061787f2"),
        ]
    }

    fn small() -> Vec<Value> {
        vec![json!({ "dimension": 4, "sparsity": 2, "contexts": [8], "test_contexts": [8] })]
    }
}

/// The opened task.
#[derive(Debug)]
pub struct SparseRegression {
    cfg: Config,
    baselines: OnceLock<Vec<Baseline>>,
}

/// One prompt in reals, before rounding.
struct Drawn {
    /// In the order drawn.
    support: Vec<i64>,
    /// w* on the support.
    values: Vec<f64>,
    /// n + 1 rows of d; the last is the question.
    x: Vec<f64>,
    /// ⟨w*, x⟩ of each row.
    clean: Vec<f64>,
    /// e of each row.
    noise: Vec<f64>,
}

impl SparseRegression {
    /// The task of settings that passed their check.
    pub const fn new(cfg: Config) -> Self {
        Self { cfg, baselines: OnceLock::new() }
    }

    fn draw(&self, purpose: Purpose, index: u64, n: u32) -> Drawn {
        let mut stream = Stream::new(self.cfg.data_seed, purpose, index);
        let (d, s) = (self.cfg.dimension as usize, self.cfg.sparsity as usize);
        let support = stream.distinct(s, d);
        let mut values: Vec<f64> = (0..s).map(|_| stream.normal()).collect();
        if self.cfg.weights == Weights::UnitNorm {
            let norm = values.iter().map(|v| v * v).sum::<f64>().sqrt();
            values.iter_mut().for_each(|v| *v /= norm);
        }
        let (mut x, mut clean, mut noise) = (Vec::with_capacity((n as usize + 1) * d), Vec::new(), Vec::new());
        for row in 0..=n as usize {
            x.extend((0..d).map(|j| self.cfg.deviation(j) * stream.normal()));
            let own = &x[row * d..];
            clean.push(support.iter().zip(&values).map(|(&j, value)| value * own[j as usize]).sum());
            noise.push(self.cfg.noise * stream.normal());
        }
        Drawn { support, values, x, clean, noise }
    }

    /// Prompt `index` of a split, and its n.
    fn prompt(&self, split: Split, index: u64) -> (Drawn, u32) {
        let n = self.cfg.contexts(split)[self.sections(split).find(index).0];
        (self.draw(Purpose::of_split(Config::STREAM, split), index, n), n)
    }

    /// What a solver sees of a prompt: the numbers a model reads.
    fn problem(&self, drawn: &Drawn) -> Problem {
        let d = self.cfg.dimension as usize;
        let n = drawn.clean.len() - 1;
        let x: Vec<f64> = drawn.x.iter().map(|&x| self.cfg.rounded(x)).collect();
        Problem {
            y: (0..n).map(|i| self.cfg.rounded(drawn.clean[i] + drawn.noise[i])).collect(),
            query: x[n * d..].to_vec(),
            x: x[..n * d].to_vec(),
            wanted: self.cfg.rounded(drawn.clean[n]),
            support: drawn.support.iter().map(|&j| j as usize).collect(),
        }
    }

    /// `method` with the one setting that has the least error on contexts of `n` drawn for this alone.
    fn tuned(&self, method: Method, tuning: &[(Problem, solvers::Moments)]) -> Method {
        if method.settings.len() == 1 {
            return method;
        }
        let (steps, power) = (self.cfg.gradient_steps, self.cfg.preprocess_power);
        let mut sums = vec![0.0; method.settings.len()];
        for (problem, moments) in tuning {
            let errors = problem.errors(moments, &method, steps, power);
            sums.iter_mut().zip(errors).for_each(|(sum, error)| *sum += error);
        }
        let best = (0..sums.len()).min_by(|&i, &j| sums[i].total_cmp(&sums[j])).unwrap_or(0);
        Method { settings: vec![method.settings[best]], ..method }
    }

    fn measured(&self) -> Vec<Baseline> {
        let (steps, power) = (self.cfg.gradient_steps, self.cfg.preprocess_power);
        let sections = self.sections(Split::Test).parts;
        let (mut found, mut begin) = (Vec::new(), 0);
        let mut sums = vec![0.0; solvers::methods().len()];
        for (section, &n) in sections.iter().zip(&self.cfg.test_contexts) {
            let ready = |drawn: Drawn| {
                let problem = self.problem(&drawn);
                let moments = problem.moments();
                (problem, moments)
            };
            let apart = |i| self.draw(Purpose::new("sparse regression tuning"), u64::from(n) << 32 | i, n);
            let tuning: Vec<_> = (0..TUNING).map(|i| ready(apart(i))).collect();
            let test: Vec<_> =
                (begin..begin + section.examples).map(|i| ready(self.prompt(Split::Test, i).0)).collect();
            begin += section.examples;
            for (method, total) in solvers::methods().into_iter().zip(&mut sums) {
                let method = self.tuned(method, &tuning);
                let sum: f64 = test.iter().flat_map(|(p, moments)| p.errors(moments, &method, steps, power)).sum();
                *total += sum;
                let (at, value) = (Some(f64::from(n)), sum / section.examples as f64);
                found.push(Baseline { name: method.name, measure: "risk", at, value });
            }
        }
        for (method, sum) in solvers::methods().into_iter().zip(sums) {
            found.push(Baseline { name: method.name, measure: "risk", at: None, value: sum / begin as f64 });
        }
        found
    }
}

/// Standard normal distribution function.
fn phi(z: f64) -> f64 {
    0.5 * libm::erfc(-z / std::f64::consts::SQRT_2)
}

/// Counts `u`, uniform in 0 ..= 1, in its cell.
fn count(u: f64, cells: &mut [u64; BINS]) {
    cells[((u * BINS as f64) as usize).min(BINS - 1)] += 1;
}

impl Task for SparseRegression {
    fn spec(&self) -> TaskSpec {
        TaskSpec {
            pad_token: ZERO,
            judge: Judge::Explained,
            metric: Metric::explained("explained variance"),
            version: 1,
            ..self.cfg.outline().spec()
        }
    }

    fn len(&self, split: Split) -> u64 {
        self.cfg.counts().len(split)
    }

    fn sections(&self, split: Split) -> Sections {
        let contexts = self.cfg.contexts(split);
        let (each, rest) = (self.len(split) / contexts.len() as u64, self.len(split) % contexts.len() as u64);
        let part = |(i, &n): (u64, &u32)| Section { at: f64::from(n), examples: each + u64::from(i < rest) };
        Sections { axis: "context", parts: (0..).zip(contexts).map(part).collect() }
    }

    fn example(&self, split: Split, index: u64) -> Result<Example, DataError> {
        let (drawn, n) = self.prompt(split, index);
        let (d, n) = (self.cfg.dimension as usize, n as usize);
        let mut tokens = Vec::with_capacity((n + 1) * (d + 1));
        for (i, row) in drawn.x.chunks_exact(d).enumerate() {
            tokens.extend(row.iter().map(|&x| token(x)));
            tokens.push(if i < n { token(drawn.clean[i] + drawn.noise[i]) } else { ZERO });
        }
        let noise = if split == Split::Train { drawn.noise[n] } else { 0.0 };
        let classes = vec![token(drawn.clean[n] + noise)];
        Ok(Example::new(tokens, Targets::PerPosition { positions: vec![n as i64], classes }))
    }

    /// Mean squared errors on the test split by n and in all. The penalties and steps are chosen for each n on 200 prompts that
    /// are in no split.
    fn baselines(&self) -> Result<Vec<Baseline>, DataError> {
        Ok(self.baselines.get_or_init(|| self.measured()).clone())
    }

    fn distributions(&self, examples: u64) -> Result<Vec<Goodness>, DataError> {
        let (d, s) = (self.cfg.dimension as usize, self.cfg.sparsity);
        let mut support = vec![0; d];
        let [mut x, mut noise, mut weight] = [[0; BINS]; 3];
        for index in 0..examples.min(self.len(Split::Train)) {
            let (drawn, _) = self.prompt(Split::Train, index);
            support[drawn.support[0] as usize] += 1;
            (0..d).for_each(|j| count(phi(drawn.x[j] / self.cfg.deviation(j)), &mut x));
            count(phi(drawn.noise[0] / self.cfg.noise), &mut noise);
            match self.cfg.weights {
                Weights::Normal => count(phi(drawn.values[0]), &mut weight),
                // A coordinate of a random direction: its square is Beta(1/2, (s − 1)/2).
                Weights::UnitNorm if s > 1 => {
                    let square = (drawn.values[0] * drawn.values[0]).clamp(0.0, 1.0);
                    let half = beta_reg(0.5, f64::from(s - 1) / 2.0, square) / 2.0;
                    count(0.5 + half.copysign(drawn.values[0]), &mut weight);
                }
                Weights::UnitNorm => count(if drawn.values[0] > 0.0 { 0.75 } else { 0.25 }, &mut weight),
            }
        }
        let mut found = vec![
            Goodness::uniform("coordinate in the support", &support),
            Goodness::uniform("coordinate of x, by quantile", &x),
        ];
        if self.cfg.noise > 0.0 {
            found.push(Goodness::uniform("noise, by quantile", &noise));
        }
        found.push(if self.cfg.weights == Weights::UnitNorm && s == 1 {
            Goodness::uniform("sign of a weight", &[weight[BINS / 4], weight[3 * BINS / 4]])
        } else {
            Goodness::uniform("weight, by quantile", &weight)
        });
        Ok(found.into_iter().flatten().collect())
    }

    fn floor(&self) -> Result<Bound, DataError> {
        let (mut squares, mut sum, mut count) = (0.0, 0.0, 0_u64);
        for index in 0..self.len(Split::Test) {
            let example = self.example(Split::Test, index)?;
            for &class in example.targets.classes() {
                let wanted = self.cfg.input().real(class);
                squares += wanted * wanted;
                sum += wanted;
                count += 1;
            }
        }
        // Of all constants the mean m has the smallest squared error, Σ y² − n m².
        let mean = crate::core::bounds::share(sum, count);
        let score = if squares > 0.0 { sum * mean / squares } else { 0.0 };
        Ok(Bound { score, how: format!("always {mean:.4}, the mean of what test asks for, measured on test") })
    }

    fn ceiling(&self) -> Result<Bound, DataError> {
        let how = "by definition: the test asks for ⟨w*, x_q⟩ without noise, which has no error; a context tells w* up to noise";
        Ok(Bound { score: 1.0, how: how.into() })
    }

    fn notes(&self) -> Vec<String> {
        let (d, style) = (self.cfg.dimension, "in the style of Chen, Zhao and Zou (2024): the sizes are ours");
        let mut notes = vec![format!("{style}, and reals are rounded to steps of 2^-16")];
        let near: Vec<u32> = self.cfg.test_contexts.iter().copied().filter(|n| n.abs_diff(d) < 2).collect();
        if self.cfg.noise > 0.0 && !near.is_empty() {
            notes.push(format!(
                "the expected risk of `ols` is infinite within 1 of `dimension` {d}, as at {near:?}: what is measured there is \
                 its largest draws"
            ));
        }
        notes
    }
}
