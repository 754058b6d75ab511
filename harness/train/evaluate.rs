//! Scores of a model on a split, under the task's judge.
//!
//! ```text
//! score     mean over examples of the share of their scored positions that are right (under `Exact` the share of examples all of
//!           whose positions are); of real numbers at positions 1 − Σ(ŷ − y)² / Σ y²,
//!           not below 0; of language models the share of all scored positions; the judges of GLUE by `tasks::core::metrics` over the
//!           whole split
//! loss      mean over scored positions of the cross-entropy, nats; of real numbers of the squared error
//! ```
//! Of the test split more is recorded than that: see [`Evaluation::measures`] and [`Evaluation::details`].

use crate::model::Model;
use crate::train::error::TrainError;
use crate::train::feed::to_tensors;
use results::{Detail, Tested};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use tasks::{Batch, Facet, Judge, Order, Output, Sections, Split, Targets, Task, TaskSpec, core::metrics};
use tch::{Device, Kind, Tensor, no_grad};

/// What evaluating a split found.
#[derive(Clone, Debug, Default)]
pub struct Evaluation {
    /// Mean loss over scored positions.
    pub loss: f64,
    /// The score, 0 ..= 1.
    pub score: f64,
    /// Numbers of the whole split by name. `accuracy`: share of scored positions that are right. `macro_accuracy`: its mean over
    /// classes that are asked for or predicted. `predicted_classes`: how many are predicted, 1 of a constant answer. `exact`: share of examples without a mistake. `distance`, `tvd`, `perplexity`:
    /// of the distribution where several classes are right, Σ|p − q|, half of it, and e to the loss. `risk`: mean squared error.
    /// Of language models `perplexity`, e to the loss, and of causal ones `bits_per_byte`. Under the judges of GLUE `f1`, `mcc`,
    /// `pearson`, `spearman` as they apply.
    pub measures: BTreeMap<String, f64>,
    /// What the score was taken over, where details were asked for.
    pub tested: Option<Tested>,
    /// `score`, `loss` and `risk` by section of the split, by position and by [`tasks::Text::facets`].
    pub details: Vec<Detail>,
}

/// Scores `split`, `rows` examples at a time; `None` when `stop` was set before the end. With `with_details`, measures and details
/// are found too.
pub fn evaluate(
    model: &Model,
    task: &dyn Task,
    split: Split,
    rows: u64,
    device: Device,
    with_details: bool,
    stop: &AtomicBool,
) -> Result<Option<Evaluation>, TrainError> {
    let spec = task.spec();
    let sections = task.sections(split);
    let order = Order { seed: 0, batch_size: rows as usize };
    let mut tallies: Vec<Tally> = sections.parts.iter().map(|_| Tally::default()).collect();
    let mut close = Close::default();
    for index in 0..task.batches(split, rows) {
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        let batch = task.batch(split, index, &order)?;
        let allowed = allowed(task, &spec, split, &sections, index, rows)?;
        let (inputs, classes) = to_tensors(&batch, device);
        // A batch in which nothing is asked has examples, and nothing to judge.
        let judged = match batch.targets.classes().is_empty() {
            true => Judged::default(),
            false => no_grad(|| Judged::of(&model.forward(&inputs, false), &classes, &spec, &allowed)),
        };
        let part = sections.of_batch(index, rows).unwrap_or(0);
        tallies[part].add(&batch, &judged);
        if with_details {
            close.add(&batch, &judged, &spec);
            close.add_facets(&task.text().map_or(Vec::new(), |text| text.facets(&batch)), &judged);
        }
    }
    let whole = tallies.iter().fold(Tally::default(), Tally::plus);
    let mut found = Evaluation { loss: whole.loss(), score: whole.score(&spec), ..Evaluation::default() };
    if with_details {
        found.measures = close.measures(&whole, &spec);
        found.tested = Some(whole.tested(&spec));
        if let (Output::Tokens, Some(bytes)) = (spec.output, task.text().and_then(|text| text.bytes(split))) {
            let bits = whole.sums.loss * std::f64::consts::LOG2_E / bytes.max(1) as f64;
            found.measures.insert("bits_per_byte".into(), bits);
        }
        if !sections.axis.is_empty() {
            let parts = sections.parts.iter().zip(&tallies);
            found.details = parts.flat_map(|(part, tally)| tally.details(sections.axis, part.at, &spec)).collect();
        }
        found.details.extend(close.by_position(&spec));
    }
    Ok(Some(found))
}

/// The classes that count at each scored position of a batch, where the judge asks for them.
fn allowed(
    task: &dyn Task,
    spec: &TaskSpec,
    split: Split,
    sections: &Sections,
    index: u64,
    rows: u64,
) -> Result<Vec<Vec<i64>>, TrainError> {
    if !matches!(spec.judge, Judge::Allowed | Judge::Mass { .. }) {
        return Ok(Vec::new());
    }
    let mut all = Vec::new();
    for example in sections.rows(index, rows) {
        let own = task.allowed(split, example)?;
        all.extend(own.ok_or_else(|| TrainError::Spec("the task does not say which classes are allowed".into()))?);
    }
    Ok(all)
}

/// What became of each scored position of a batch.
#[derive(Default)]
struct Judged {
    loss: Vec<f32>,
    /// 1 where right; of real numbers the squared error.
    right: Vec<f32>,
    /// The likeliest class, and the one asked for; of real numbers the two numbers.
    answers: Vec<f32>,
    wanted: Vec<f32>,
    /// Σ|p − q| where several classes are right.
    distance: Vec<f32>,
}

impl Judged {
    fn of(logits: &Tensor, classes: &Tensor, spec: &TaskSpec, allowed: &[Vec<i64>]) -> Self {
        let list = |t: &Tensor| -> Vec<f32> {
            Vec::try_from(t.to_kind(Kind::Float).to_device(Device::Cpu).flatten(0, -1)).unwrap_or_default()
        };
        if spec.output.is_real() {
            let (answers, wanted) = (logits.squeeze_dim(-1), numbers(classes, spec, logits.kind()));
            let error = list(&(&answers - &wanted).square());
            return Self {
                loss: error.clone(),
                right: error,
                answers: list(&answers),
                wanted: list(&wanted),
                distance: Vec::new(),
            };
        }
        let log_p = logits.log_softmax(-1, Kind::Float);
        let loss = -log_p.gather(1, &classes.unsqueeze(1), false).squeeze_dim(1);
        let best = logits.argmax(-1, false);
        let (right, distance) = match spec.judge {
            Judge::Class
            | Judge::Exact
            | Judge::Explained
            | Judge::Matthews
            | Judge::F1Accuracy
            | Judge::Correlation => (best.eq_tensor(classes).to_kind(Kind::Float), None),
            Judge::Allowed => {
                let mask = mask(allowed, spec.classes, logits.device());
                let right = mask.gather(1, &best.unsqueeze(1), false).squeeze_dim(1);
                let q = &mask / mask.sum_dim_intlist([1].as_slice(), true, Kind::Float);
                let distance = (log_p.exp() - q).abs().sum_dim_intlist([1].as_slice(), false, Kind::Float);
                (right, Some(distance))
            }
            Judge::Mass { share } => {
                let mask = mask(allowed, spec.classes, logits.device());
                let rivals = (log_p.exp() * mask).sum_dim_intlist([1].as_slice(), false, Kind::Float);
                ((-&loss).exp().gt_tensor(&(rivals * share)).to_kind(Kind::Float), None)
            }
        };
        Self {
            loss: list(&loss),
            right: list(&right),
            answers: list(&best),
            wanted: list(classes),
            distance: distance.map(|d| list(&d)).unwrap_or_default(),
        }
    }
}

/// The training loss of a batch: mean cross-entropy of its scored positions, or mean squared error of real numbers.
pub fn loss(logits: &Tensor, classes: &Tensor, spec: &TaskSpec) -> Tensor {
    match spec.output.is_real() {
        true => (logits.squeeze_dim(-1) - numbers(classes, spec, logits.kind())).square().mean(logits.kind()),
        false => logits.cross_entropy_for_logits(classes),
    }
}

/// The real numbers behind classes of an [`Output::Number`] or [`Output::Value`].
pub fn numbers(classes: &Tensor, spec: &TaskSpec, kind: Kind) -> Tensor {
    if spec.output == Output::Value {
        return classes.to_kind(kind) * tasks::THOUSANDTH;
    }
    let (shift, scale) = (spec.input.real(0), spec.input.real(1) - spec.input.real(0));
    classes.to_kind(kind) * scale + shift
}

/// 1 at allowed classes, float `[scored, classes]`.
fn mask(allowed: &[Vec<i64>], classes: i64, device: Device) -> Tensor {
    let mut entries = vec![0.0f32; allowed.len() * classes as usize];
    for (row, set) in allowed.iter().enumerate() {
        set.iter().for_each(|class| entries[row * classes as usize + *class as usize] = 1.0);
    }
    Tensor::from_slice(&entries).view([allowed.len() as i64, classes]).to_device(device)
}

/// A struct of sums, which are added field by field.
macro_rules! sums {
    ($(#[$about:meta])* struct $name:ident { $($(#[$meaning:meta])* $sum:ident,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, Default)]
        struct $name {
            $($(#[$meaning])* $sum: f64,)*
        }

        impl $name {
            fn plus(&self, other: &Self) -> Self {
                Self { $($sum: self.$sum + other.$sum,)* }
            }
        }
    };
}

sums! {
    /// Sums over scored positions and over examples.
    struct Sums {
        loss,
        positions,
        shares,
        exact,
        examples,
        hits,
        squares,
    }
}

/// What is known of a section of the split.
#[derive(Clone, Debug, Default)]
struct Tally {
    sums: Sums,
    spread: Spread,
    /// Every answer with the one asked for, under judges that look at all of them together.
    pairs: Vec<(f32, f32)>,
}

impl Tally {
    fn add(&mut self, batch: &Batch, judged: &Judged) {
        let sum = |list: &[f32]| list.iter().map(|x| f64::from(*x)).sum::<f64>();
        self.sums.loss += sum(&judged.loss);
        self.sums.hits += sum(&judged.right);
        self.sums.squares += judged.wanted.iter().map(|y| f64::from(*y).powi(2)).sum::<f64>();
        self.sums.positions += judged.wanted.len() as f64;
        self.sums.examples += batch.size as f64;
        self.spread = self.spread.plus(&Spread::of(batch, judged));
        let shares = shares(batch, &judged.right);
        self.sums.shares += shares.iter().sum::<f64>();
        self.sums.exact += shares.iter().filter(|share| **share >= 1.0).count() as f64;
        if batch.targets.classes().len() == batch.size {
            self.pairs.extend(judged.answers.iter().copied().zip(judged.wanted.iter().copied()));
        }
    }

    fn plus(mut self, other: &Self) -> Self {
        self.pairs.extend_from_slice(&other.pairs);
        Self { sums: self.sums.plus(&other.sums), spread: self.spread.plus(&other.spread), pairs: self.pairs }
    }

    fn loss(&self) -> f64 {
        self.sums.loss / self.sums.positions.max(1.0)
    }

    fn score(&self, spec: &TaskSpec) -> f64 {
        match (spec.output, spec.judge) {
            (Output::Number, _) => (1.0 - self.sums.loss / self.sums.squares.max(f64::MIN_POSITIVE)).max(0.0),
            (_, Judge::Exact) => self.sums.exact / self.sums.examples.max(1.0),
            (_, Judge::Matthews | Judge::F1Accuracy | Judge::Correlation) => of_pairs(&self.pairs, spec.judge),
            (Output::Tokens, _) => self.sums.hits / self.sums.positions.max(1.0),
            _ => self.sums.shares / self.sums.examples.max(1.0),
        }
    }

    /// What the score was taken over.
    fn tested(&self, spec: &TaskSpec) -> Tested {
        let (examples, positions) = (self.sums.examples as u64, self.sums.positions as u64);
        let error = self.standard_error(spec).filter(|error| error.is_finite());
        Tested { examples, positions, standard_error: error }
    }

    /// The standard error of the score over examples, which are independent where positions of one example are not: of ratios by
    /// their linear part (Cochran 1977, §2.11), of the judges that look at all answers together by leaving out one part after the
    /// other (jackknife: Tukey 1958). `None` below two examples.
    fn standard_error(&self, spec: &TaskSpec) -> Option<f64> {
        if self.sums.examples < 2.0 {
            return None;
        }
        let ratio = |above: f64, below: f64, [aa, ab, bb]: [f64; 3]| {
            let ratio = above / below;
            (aa - 2.0 * ratio * ab + ratio * ratio * bb).max(0.0).sqrt() / below
        };
        let Spread { shares, hits, hits_by_count, counts, hits_by_square, squares } = self.spread;
        Some(match (spec.output, spec.judge) {
            (Output::Number, _) => ratio(self.sums.hits, self.sums.squares, [hits, hits_by_square, squares]),
            (_, Judge::Exact) => {
                ratio(self.sums.exact, self.sums.examples, [self.sums.exact, self.sums.exact, self.sums.examples])
            }
            (_, Judge::Matthews | Judge::F1Accuracy | Judge::Correlation) => jackknife(&self.pairs, spec.judge),
            (Output::Tokens, _) => ratio(self.sums.hits, self.sums.positions, [hits, hits_by_count, counts]),
            _ => ratio(self.sums.shares, self.sums.examples, [shares, self.sums.shares, self.sums.examples]),
        })
    }

    fn details(&self, axis: &str, at: f64, spec: &TaskSpec) -> Vec<Detail> {
        let detail = |measure: &str, value: f64| Detail::new(measure, "model", axis, at, value);
        match spec.output.is_real() {
            true => vec![detail("score", self.score(spec)), detail("risk", self.loss())],
            false => vec![
                detail("score", self.score(spec)),
                detail("loss", self.loss()),
                detail("exact", self.sums.exact / self.sums.examples.max(1.0)),
            ],
        }
    }
}

sums! {
    /// Sums over examples of products of what each has: how they spread.
    struct Spread {
        /// Of the share of its positions that are right, with itself.
        shares,
        /// Of its right positions (of real numbers its squared error), with themselves, with how many it has, with their squares.
        hits,
        hits_by_count,
        hits_by_square,
        /// Of how many positions it has, and of their squares, with themselves.
        counts,
        squares,
    }
}

impl Spread {
    fn of(batch: &Batch, judged: &Judged) -> Self {
        let squares: Vec<f32> = judged.wanted.iter().map(|wanted| wanted * wanted).collect();
        let ones = vec![1.0; judged.wanted.len()];
        let [hits, counts, squares] = [&judged.right, &ones, &squares].map(|list| by_example(batch, list));
        let shares = shares(batch, &judged.right);
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        Self {
            shares: dot(&shares, &shares),
            hits: dot(&hits, &hits),
            hits_by_count: dot(&hits, &counts),
            hits_by_square: dot(&hits, &squares),
            counts: dot(&counts, &counts),
            squares: dot(&squares, &squares),
        }
    }
}

/// The score of answers beside what was asked for, under the judges that look at all of them together.
fn of_pairs(pairs: &[(f32, f32)], judge: Judge) -> f64 {
    if judge == Judge::Correlation {
        let (answers, wanted) = values(pairs);
        return (metrics::pearson(&answers, &wanted) + metrics::spearman(&answers, &wanted)) / 2.0;
    }
    let (answers, wanted) = classes(pairs);
    match judge {
        Judge::Matthews => metrics::matthews(&answers, &wanted),
        _ => (metrics::f1(&answers, &wanted) + metrics::accuracy(&answers, &wanted)) / 2.0,
    }
}

/// Parts that are left out one after the other.
const PARTS: usize = 50;

/// The standard error of such a score: every part is left out once.
fn jackknife(pairs: &[(f32, f32)], judge: Judge) -> f64 {
    let parts = pairs.len().min(PARTS);
    let without = |part: usize| {
        let rest = pairs.iter().enumerate().filter(|(i, _)| i % parts != part).map(|(_, pair)| *pair);
        of_pairs(&rest.collect::<Vec<_>>(), judge)
    };
    let scores: Vec<f64> = (0..parts).map(without).collect();
    let mean = scores.iter().sum::<f64>() / parts as f64;
    let squares: f64 = scores.iter().map(|score| (score - mean).powi(2)).sum();
    (squares * (parts as f64 - 1.0) / parts as f64).sqrt()
}

/// Answers and what was asked for, as whole numbers.
fn classes(pairs: &[(f32, f32)]) -> (Vec<i64>, Vec<i64>) {
    pairs.iter().map(|(answer, wanted)| (*answer as i64, *wanted as i64)).unzip()
}

/// Answers and what was asked for, as real numbers.
fn values(pairs: &[(f32, f32)]) -> (Vec<f64>, Vec<f64>) {
    pairs.iter().map(|(answer, wanted)| (f64::from(*answer), f64::from(*wanted))).unzip()
}

/// Sums of a number of each scored position, by example of a batch.
fn by_example(batch: &Batch, list: &[f32]) -> Vec<f64> {
    let Targets::PerPosition { positions, .. } = &batch.targets else {
        return list.iter().map(|x| f64::from(*x)).collect();
    };
    let mut sums = vec![0.0; batch.size];
    for (position, x) in positions.iter().zip(list) {
        sums[*position as usize / batch.length] += f64::from(*x);
    }
    sums
}

/// For each example of a batch, the share of its scored positions that are right; 0 without any.
fn shares(batch: &Batch, right: &[f32]) -> Vec<f64> {
    let (hits, asked) = (by_example(batch, right), by_example(batch, &vec![1.0; right.len()]));
    hits.iter().zip(&asked).map(|(hits, asked)| if *asked > 0.0 { hits / asked } else { 0.0 }).collect()
}

/// What is counted only when looking with_details.
#[derive(Debug, Default)]
struct Close {
    /// By class: right, asked for, predicted.
    classes: BTreeMap<i64, [f64; 3]>,
    distance: f64,
    /// By window of positions: loss, right, count.
    windows: BTreeMap<i64, [f64; 3]>,
    /// By facet and its value, in the order of the values: loss, right, count.
    facets: BTreeMap<(&'static str, u64), [f64; 3]>,
}

impl Close {
    fn add(&mut self, batch: &Batch, judged: &Judged, spec: &TaskSpec) {
        if !spec.output.is_real() {
            for ((answer, wanted), right) in judged.answers.iter().zip(&judged.wanted).zip(&judged.right) {
                let asked = self.classes.entry(*wanted as i64).or_default();
                asked[0] += f64::from(*right);
                asked[1] += 1.0;
                self.classes.entry(*answer as i64).or_default()[2] += 1.0;
            }
        }
        self.distance += judged.distance.iter().map(|x| f64::from(*x)).sum::<f64>();
        if let (Some(window), Targets::PerPosition { positions, .. }) = (spec.by_position, &batch.targets) {
            for ((at, loss), right) in positions.iter().zip(&judged.loss).zip(&judged.right) {
                let sums = self.windows.entry(at % batch.length as i64 / window).or_default();
                sums[0] += f64::from(*loss);
                sums[1] += f64::from(*right);
                sums[2] += 1.0;
            }
        }
    }

    fn add_facets(&mut self, facets: &[Facet], judged: &Judged) {
        for facet in facets {
            let values = facet.at.iter().zip(&judged.loss).zip(&judged.right);
            for ((at, loss), right) in values.filter(|((at, _), _)| !at.is_nan()) {
                let sums = self.facets.entry((facet.axis, at.to_bits())).or_default();
                sums[0] += f64::from(*loss);
                sums[1] += f64::from(*right);
                sums[2] += 1.0;
            }
        }
    }

    fn measures(&self, whole: &Tally, spec: &TaskSpec) -> BTreeMap<String, f64> {
        let mut found = BTreeMap::from([("loss".to_owned(), whole.loss())]);
        let positions = whole.sums.positions.max(1.0);
        if spec.output.is_real() {
            found.insert("risk".into(), whole.loss());
            if spec.output == Output::Value {
                let (answers, wanted) = values(&whole.pairs);
                found.insert("pearson".into(), metrics::pearson(&answers, &wanted));
                found.insert("spearman".into(), metrics::spearman(&answers, &wanted));
            }
            return found;
        }
        found.insert("accuracy".into(), whole.sums.hits / positions);
        let predicted = self.classes.values().filter(|[.., predicted]| *predicted > 0.0).count();
        found.insert("predicted_classes".into(), predicted as f64);
        if spec.output == Output::Tokens {
            found.insert("perplexity".into(), whole.loss().exp());
            return found;
        }
        if spec.output != Output::PerSequence {
            found.insert("exact".into(), whole.sums.exact / whole.sums.examples.max(1.0));
        }
        if matches!(spec.judge, Judge::Matthews | Judge::F1Accuracy) {
            let (answers, wanted) = classes(&whole.pairs);
            found.insert("mcc".into(), metrics::matthews(&answers, &wanted));
            found.insert("f1".into(), metrics::f1(&answers, &wanted));
        }
        if matches!(spec.judge, Judge::Class | Judge::Exact | Judge::Matthews | Judge::F1Accuracy) {
            let seen = self.classes.values().map(|[right, asked, _]| right / asked.max(1.0));
            found.insert("macro_accuracy".into(), seen.sum::<f64>() / self.classes.len().max(1) as f64);
        }
        if spec.judge == Judge::Allowed {
            found.insert("distance".into(), self.distance / positions);
            found.insert("tvd".into(), self.distance / positions / 2.0);
            found.insert("perplexity".into(), whole.loss().exp());
        }
        found
    }

    fn by_position(&self, spec: &TaskSpec) -> Vec<Detail> {
        let window = spec.by_position.unwrap_or(1);
        let details = |axis: &str, at: f64, [loss, right, count]: &[f64; 3]| {
            let found = [("loss", loss / count), ("score", right / count), ("positions", *count)];
            found.map(|(measure, value)| Detail::new(measure, "model", axis, at, value))
        };
        let positions = self.windows.iter().flat_map(|(at, sums)| {
            let [loss, score, _] = details("position", (at * window) as f64, sums);
            [loss, score]
        });
        let facets = self.facets.iter().flat_map(|((axis, at), sums)| details(axis, f64::from_bits(*at), sums));
        positions.chain(facets).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::samples::task_spec;

    fn batch(size: usize, length: usize, positions: &[i64], classes: &[i64]) -> Batch {
        Batch {
            size,
            documents: 1,
            length,
            width: 1,
            tokens: vec![0; size * length],
            types: Vec::new(),
            lengths: vec![length as i64; size],
            targets: Targets::PerPosition { positions: positions.to_vec(), classes: classes.to_vec() },
        }
    }

    fn judged(logits: &[[f32; 5]], classes: &[i64], spec: &TaskSpec, allowed: &[Vec<i64>]) -> Judged {
        let logits = Tensor::from_slice2(logits);
        Judged::of(&logits, &Tensor::from_slice(classes), spec, allowed)
    }

    #[test]
    fn the_score_is_a_mean_over_examples_of_the_mean_over_their_positions() {
        // Row 0 has three positions, one right; row 1 has one, right.
        let shares = shares(&batch(2, 8, &[0, 3, 7, 9], &[1; 4]), &[1.0, 0.0, 0.0, 1.0]);
        assert!((shares[0] - 1.0 / 3.0).abs() < 1e-9 && shares[1] == 1.0);
    }

    #[test]
    fn macro_accuracy_averages_over_classes_asked_for_or_predicted() {
        let spec = task_spec(Output::PerPosition);
        let favour = |class: usize| std::array::from_fn(|i| if i == class { 3.0 } else { 0.0 });
        // Class 0 is right in two of three, class 1 in one of one, class 2 is only ever predicted.
        let wanted = [0, 0, 0, 1];
        let found = judged(&[favour(0), favour(0), favour(2), favour(1)], &wanted, &spec, &[]);
        let (mut close, mut tally) = (Close::default(), Tally::default());
        let batch = batch(4, 1, &[0, 1, 2, 3], &wanted);
        close.add(&batch, &found, &spec);
        tally.add(&batch, &found);
        let measures = close.measures(&tally, &spec);
        assert!((measures["macro_accuracy"] - (2.0 / 3.0 + 1.0 + 0.0) / 3.0).abs() < 1e-9, "{measures:?}");
        assert!((measures["accuracy"] - 0.75).abs() < 1e-9 && (measures["exact"] - 0.75).abs() < 1e-9);
    }

    #[test]
    fn where_several_classes_are_right_the_likeliest_must_be_one_and_the_distance_is_to_their_even_mixture() {
        let spec = TaskSpec { judge: Judge::Allowed, ..task_spec(Output::PerPosition) };
        let logits = [[9.0, 9.0, -90.0, -90.0, -90.0], [0.0, 0.0, 9.0, 0.0, 0.0]];
        let found = judged(&logits, &[1, 0], &spec, &[vec![0, 1], vec![0, 1]]);
        assert_eq!(found.right, [1.0, 0.0]);
        assert!(found.distance[0] < 1e-6 && found.distance[1] > 1.9, "{:?}", found.distance);
    }

    #[test]
    fn a_share_of_the_rivals_mass_is_asked_for_whatever_the_rest_holds() {
        let spec = TaskSpec { judge: Judge::Mass { share: 0.8 }, ..task_spec(Output::PerPosition) };
        let p = |share: f32| [share.ln(), (1.0 - share).ln(), 5.0, 0.0, 0.0];
        let found = judged(&[p(0.81), p(0.79)], &[0, 0], &spec, &[vec![0, 1], vec![0, 1]]);
        assert_eq!(found.right, [1.0, 0.0]);
    }

    #[test]
    fn real_numbers_are_scored_by_the_share_of_their_square_that_is_explained() {
        let input = tasks::Input::Reals { width: 2, scale: 0.5, shift: -2.0 };
        let spec = TaskSpec { input, judge: Judge::Explained, ..task_spec(Output::Number) };
        // Classes 6 and 2 are the numbers 1 and -1.
        let logits = Tensor::from_slice(&[1.0f32, 0.0]).view([2, 1]);
        let found = Judged::of(&logits, &Tensor::from_slice(&[6i64, 2]), &spec, &[]);
        let mut tally = Tally::default();
        tally.add(&batch(2, 3, &[2, 5], &[6, 2]), &found);
        assert!((tally.score(&spec) - 0.5).abs() < 1e-9 && (tally.loss() - 0.5).abs() < 1e-9);
    }

    /// Score and measures of one batch of one class a sequence.
    fn of_sequences(answers: &[i64], wanted: &[i64], spec: &TaskSpec) -> (f64, BTreeMap<String, f64>) {
        let n = answers.len();
        let favour = |class: &i64| std::array::from_fn(|i| if i as i64 == *class { 3.0 } else { 0.0 });
        let logits: Vec<[f32; 5]> = answers.iter().map(favour).collect();
        let found = judged(&logits, wanted, spec, &[]);
        let batch = Batch { targets: Targets::PerSequence(wanted.to_vec()), ..batch(n, 1, &[], &[]) };
        let (mut close, mut tally) = (Close::default(), Tally::default());
        close.add(&batch, &found, spec);
        tally.add(&batch, &found);
        (tally.score(spec), close.measures(&tally, spec))
    }

    #[test]
    fn one_answer_for_all_is_counted_as_one_class_and_halves_the_macro_accuracy() {
        for judge in [Judge::Class, Judge::Matthews, Judge::F1Accuracy] {
            let spec = TaskSpec { judge, ..task_spec(Output::PerSequence) };
            let (_, measures) = of_sequences(&[1; 4], &[1, 1, 1, 0], &spec);
            assert_eq!((measures["predicted_classes"], measures["macro_accuracy"]), (1.0, 0.5), "{judge:?}");
        }
        let (_, measures) = of_sequences(&[1, 1, 1, 0], &[1, 1, 1, 0], &task_spec(Output::PerSequence));
        assert_eq!((measures["predicted_classes"], measures["macro_accuracy"]), (2.0, 1.0));
    }

    /// What a split of examples gives that was judged in two batches.
    fn tested(batches: &[(Batch, Judged)], spec: &TaskSpec) -> Tested {
        let add = |tally: Tally, (batch, judged): &(Batch, Judged)| {
            let mut own = Tally::default();
            own.add(batch, judged);
            tally.plus(&own)
        };
        batches.iter().fold(Tally::default(), add).tested(spec)
    }

    fn right(list: &[f32]) -> Judged {
        let zeros = vec![0.0; list.len()];
        Judged {
            loss: zeros.clone(),
            right: list.to_vec(),
            answers: zeros,
            wanted: vec![2.0; list.len()],
            distance: Vec::new(),
        }
    }

    #[test]
    fn the_error_of_a_score_is_that_of_its_examples_and_not_of_their_positions() {
        let spec = task_spec(Output::PerPosition);
        // Shares 1, 0, 1 and ½ of four examples: mean 0.625, squares 2.25 / 4 − 0.625².
        let first = (batch(2, 8, &[0, 3, 8, 9], &[2; 4]), right(&[1.0, 1.0, 0.0, 0.0]));
        let second = (batch(2, 8, &[1, 2, 8, 12], &[2; 4]), right(&[1.0, 1.0, 1.0, 0.0]));
        let both = [first, second];
        let found = tested(&both, &spec);
        let error = |variance: f64| (variance / 4.0).sqrt();
        assert_eq!((found.examples, found.positions), (4, 8));
        assert!((found.standard_error.unwrap() - error(2.25 / 4.0 - 0.625 * 0.625)).abs() < 1e-12, "{found:?}");
        // Two of four without a mistake.
        let exact = tested(&both, &TaskSpec { judge: Judge::Exact, ..spec.clone() });
        assert!((exact.standard_error.unwrap() - error(0.25)).abs() < 1e-12, "{exact:?}");
        // Of language models the share of all positions, here as many in each example: the same.
        let tokens = tested(&both, &task_spec(Output::Tokens));
        assert!((tokens.standard_error.unwrap() - found.standard_error.unwrap()).abs() < 1e-12, "{tokens:?}");
        // Errors 2, 0, 2, 1 of squares 8 each: 1 − 5/32, and the residuals 0.75, −1.25, 0.75, −0.25 of 32.
        let number = tested(&both, &TaskSpec { judge: Judge::Explained, ..task_spec(Output::Number) });
        assert!((number.standard_error.unwrap() - 2.75_f64.sqrt() / 32.0).abs() < 1e-12, "{number:?}");
        assert_eq!(tested(&both[..0], &spec), Tested::default());
    }

    // Of a mean, leaving out one at a time gives the textbook's s/√n exactly; here of 40 answers, 30 of them right.
    #[test]
    fn the_error_of_a_score_of_all_answers_together_is_found_by_leaving_out_parts() {
        let wanted: Vec<i64> = (0..40).map(|i| i % 2).collect();
        let answers: Vec<i64> = (0..40).map(|i| if i % 4 == 3 { 0 } else { i % 2 }).collect();
        let pairs: Vec<(f32, f32)> = answers.iter().zip(&wanted).map(|(a, w)| (*a as f32, *w as f32)).collect();
        let without = |out: usize| {
            let keep =
                |list: &[i64]| list.iter().enumerate().filter(|(i, _)| *i != out).map(|(_, x)| *x).collect::<Vec<_>>();
            metrics::matthews(&keep(&answers), &keep(&wanted))
        };
        let scores: Vec<f64> = (0..40).map(without).collect();
        let mean = scores.iter().sum::<f64>() / 40.0;
        let by_hand = (scores.iter().map(|s| (s - mean).powi(2)).sum::<f64>() * 39.0 / 40.0).sqrt();
        let found = jackknife(&pairs, Judge::Matthews);
        assert!((found - by_hand).abs() < 1e-12 && found > 0.05 && found < 0.3, "{found} {by_hand}");
        assert_eq!(jackknife(&[(1.0, 1.0), (1.0, 0.0), (1.0, 1.0)], Judge::Matthews), 0.0, "a constant answer");
    }

    #[test]
    fn the_judges_of_glue_look_at_the_whole_split() {
        let (answers, wanted) = ([1, 1, 0, 1, 0, 0], [1, 0, 0, 1, 1, 0]);
        let cola = TaskSpec { judge: Judge::Matthews, ..task_spec(Output::PerSequence) };
        let (score, measures) = of_sequences(&answers, &wanted, &cola);
        // TP 2, TN 2, FP 1, FN 1: (4 - 1) / √(3·3·3·3).
        assert!((score - 1.0 / 3.0).abs() < 1e-12 && measures["mcc"] == score, "{score}");
        let mrpc = TaskSpec { judge: Judge::F1Accuracy, ..cola };
        let (score, measures) = of_sequences(&answers, &wanted, &mrpc);
        assert!((score - 2.0 / 3.0).abs() < 1e-9, "F1 4/6 and accuracy 4/6: {score}");
        assert!((measures["f1"] - 2.0 / 3.0).abs() < 1e-9 && (measures["accuracy"] - 2.0 / 3.0).abs() < 1e-9);
    }

    #[test]
    fn a_value_is_judged_by_its_correlations() {
        let spec = TaskSpec { judge: Judge::Correlation, classes: 1, ..task_spec(Output::Value) };
        let answers = Tensor::from_slice(&[0.1f32, 0.4, 0.35, 0.9]).view([4, 1]);
        let wanted = [500i64, 1250, 3000, 4800];
        let found = Judged::of(&answers, &Tensor::from_slice(&wanted), &spec, &[]);
        let batch = Batch { targets: Targets::PerSequence(wanted.to_vec()), ..batch(4, 1, &[], &[]) };
        let mut tally = Tally::default();
        tally.add(&batch, &found);
        // Ranks 1 3 2 4 and 1 2 3 4: 1 − 6·2 / (4·15).
        assert!((Close::default().measures(&tally, &spec)["spearman"] - 0.8).abs() < 1e-12);
        let pearson = tasks::core::metrics::pearson(&[0.1, 0.4, 0.35, 0.9], &[0.5, 1.25, 3.0, 4.8]);
        assert!((tally.score(&spec) - (0.8 + pearson) / 2.0).abs() < 1e-6);
        let loss = [0.4f64, 0.85, 2.65, 3.9].iter().map(|e| e * e).sum::<f64>() / 4.0;
        let trained = super::loss(&answers, &Tensor::from_slice(&wanted), &spec).double_value(&[]);
        assert!(
            (tally.loss() - loss).abs() < 1e-5 && (trained - loss).abs() < 1e-5,
            "{} {trained} {loss}",
            tally.loss()
        );
    }

    #[test]
    fn a_language_model_has_a_perplexity_and_its_positions_count_alike() {
        let spec = task_spec(Output::Tokens);
        // Row 0 has three positions, one right; row 1 has one, right.
        let logits: Vec<[f32; 5]> = [0, 0, 0, 1].iter().map(|c| std::array::from_fn(|i| f32::from(i == *c))).collect();
        let wanted = [0, 1, 2, 1];
        let found = judged(&logits, &wanted, &spec, &[]);
        let (mut close, mut tally) = (Close::default(), Tally::default());
        let batch = batch(2, 8, &[0, 3, 7, 9], &wanted);
        tally.add(&batch, &found);
        close.add(&batch, &found, &spec);
        assert!((tally.score(&spec) - 0.5).abs() < 1e-12);
        let measures = close.measures(&tally, &spec);
        let all = (1f64.exp() + 4.0).ln();
        let loss = (2.0 * (all - 1.0) + 2.0 * all) / 4.0;
        assert!((measures["perplexity"] - loss.exp()).abs() < 1e-5, "{measures:?}");
        let facets = [Facet { axis: "distance", at: vec![1.0, 4.0, f64::NAN, 4.0] }];
        close.add_facets(&facets, &found);
        let of = |measure: &str, at: f64| {
            let details = close.by_position(&spec);
            details.iter().find(|d| d.axis == "distance" && d.measure == measure && d.at == at).map(|d| d.value)
        };
        assert_eq!((of("score", 1.0), of("score", 4.0), of("positions", 4.0)), (Some(1.0), Some(0.5), Some(2.0)));
    }
}
