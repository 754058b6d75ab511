//! What is analysed after training, on the best checkpoint.

use super::{Ended, Trainer};
use crate::train::error::TrainError;
use crate::train::evaluate::{self, Evaluation};
use crate::train::feed::{Feed, to_tensors};
use crate::train::seeds::Purpose;
use results::{Detail, OfBaseline};
use std::sync::atomic::{AtomicBool, Ordering};
use tasks::{Batch, Output, Split};
use tch::{Kind, Tensor, no_grad};

/// Ridge of the probes, as a share of the mean square of a feature: least squares without trouble from equal features.
const RIDGE: f64 = 1e-6;
/// Examples whose states are watched.
const WATCHED: usize = 2;
/// Positions at which states are measured, at most.
const WATCHED_POSITIONS: i64 = 32;
/// A loss so many times that at the training length is called a collapse (Stuffed Mamba, COLM 2025).
const COLLAPSE: f64 = 2.0;
/// And the least rise that counts, nats: text that is known by heart has almost no loss to double.
const RISE: f64 = 0.1;

impl Trainer {
    /// What simpler methods reach on the test split.
    pub(super) fn baselines(&self, ended: &mut Ended) -> Result<(), TrainError> {
        let axis = self.task.sections(Split::Test).axis;
        for baseline in self.task.baselines()? {
            match baseline.at {
                Some(at) => {
                    ended
                        .details
                        .push(Detail::new(baseline.measure, baseline.name, axis, at, baseline.value).of_baseline());
                }
                None => {
                    let (measure, name) = (baseline.measure, baseline.name);
                    let key = format!("{measure} of {name}");
                    ended.measures.insert(key.clone(), baseline.value);
                    ended.baselines.insert(key, OfBaseline { measure: measure.into(), baseline: name.into() });
                }
            }
        }
        Ok(())
    }

    /// Everything the run's analysis asks for. Pruning comes last: it changes the model.
    pub(super) fn analyse(&mut self, ended: &mut Ended, stop: &AtomicBool) -> Result<(), TrainError> {
        self.collapse(ended)?;
        let Some(asked) = self.spec.analysis.clone() else { return Ok(()) };
        if asked.probes {
            ended.details.extend(self.probes(asked.probe_examples, stop)?);
        }
        if asked.states {
            ended.details.extend(self.states()?);
        }
        if asked.pseudo_perplexity > 0 {
            self.pseudo_perplexity(asked.pseudo_perplexity, ended, stop)?;
        }
        if let Some(path) = &asked.minimal_pairs {
            self.minimal_pairs(path.as_ref(), ended, stop)?;
        }
        if (asked.heads || asked.prune) && !stop.load(Ordering::Relaxed) {
            self.heads(ended, asked.heads, asked.prune, asked.retrain_steps, stop)?;
        }
        Ok(())
    }

    /// The first position past the training length at which the loss is more than twice what it is at that length.
    fn collapse(&self, ended: &mut Ended) -> Result<(), TrainError> {
        let Some(window) = self.task_spec.by_position else { return Ok(()) };
        let mut trained = 0;
        for index in 0..self.task.len(Split::Train).min(64) {
            trained = trained.max(self.task.example(Split::Train, index)?.tokens.len() as i64);
        }
        let losses: Vec<(f64, f64)> = ended
            .details
            .iter()
            .filter(|d| d.axis == "position" && d.measure == "loss")
            .map(|d| (d.at, d.value))
            .collect();
        let at_length =
            losses.iter().rev().find(|(at, _)| *at + window as f64 <= trained as f64).map(|(_, loss)| *loss);
        let Some(at_length) = at_length else { return Ok(()) };
        let past = losses.iter().find(|(at, loss)| {
            *at >= trained as f64 && (loss.is_nan() || *loss > (COLLAPSE * at_length).max(at_length + RISE))
        });
        if let Some((at, _)) = past {
            ended.measures.insert("collapse_at".into(), *at);
        }
        ended.measures.insert("loss_at_training_length".into(), at_length);
        Ok(())
    }

    /// Vectors after the embedding and each layer with a column of ones, and the answers, of one batch.
    fn features(&self, batch: &Batch) -> (Vec<Tensor>, Tensor) {
        let (inputs, classes) = to_tensors(batch, self.vs.device());
        let with_ones = |x: Tensor| {
            let x = x.to_kind(Kind::Double);
            Tensor::cat(&[&x, &x.narrow(1, 0, 1).ones_like()], 1)
        };
        let layers = no_grad(|| self.model.after_layers(&inputs)).into_iter().map(with_ones).collect();
        let answers = match self.task_spec.output {
            Output::Number | Output::Value => evaluate::numbers(&classes, &self.task_spec, Kind::Double).unsqueeze(1),
            _ => classes.one_hot(self.task_spec.classes).to_kind(Kind::Double),
        };
        (layers, answers)
    }

    /// Risk (of numbers) or accuracy (of classes) on test of the best linear map from each layer; layer 0 is the embedding.
    fn probes(&self, examples: u64, stop: &AtomicBool) -> Result<Vec<Detail>, TrainError> {
        if self.task_spec.output == Output::Reconstruction || self.task_spec.documents > 1 {
            return Ok(Vec::new());
        }
        let order = self.order();
        let rows = order.batch_size as u64;
        let from = self.spec.budget.steps;
        let mut sums: Vec<(Tensor, Tensor)> = Vec::new(); // XᵀX and XᵀY of each layer
        for index in from..from + examples.div_ceil(rows) {
            if stop.load(Ordering::Relaxed) {
                return Ok(Vec::new());
            }
            let (layers, y) = self.features(&self.task.batch(Split::Train, index, &order)?);
            let products: Vec<_> = layers.iter().map(|x| (x.tr().matmul(x), x.tr().matmul(&y))).collect();
            sums = match sums.is_empty() {
                true => products,
                false => sums.iter().zip(&products).map(|(sum, new)| (&sum.0 + &new.0, &sum.1 + &new.1)).collect(),
            };
        }
        let solve = |(gram, moment): &(Tensor, Tensor)| {
            let ridge = gram.diag(0).mean(Kind::Double) * RIDGE;
            let eye = Tensor::eye(gram.size()[0], (Kind::Double, gram.device()));
            Tensor::linalg_solve(&(gram + eye * ridge), moment, true)
        };
        let maps: Vec<Tensor> = sums.iter().map(solve).collect();
        let (mut totals, mut count) = (vec![0.0; maps.len()], 0.0);
        for index in 0..self.task.batches(Split::Test, rows) {
            let (layers, y) = self.features(&self.task.batch(Split::Test, index, &order)?);
            for ((x, map), total) in layers.iter().zip(&maps).zip(&mut totals) {
                let answer = x.matmul(map);
                let sum = match self.task_spec.output {
                    Output::Number | Output::Value => (answer - &y).square().sum(Kind::Double),
                    _ => answer.argmax(1, false).eq_tensor(&y.argmax(1, false)).sum(Kind::Double),
                };
                *total += sum.double_value(&[]);
            }
            count += y.size()[0] as f64;
        }
        let measure = if self.task_spec.output.is_real() { "probe_risk" } else { "probe_accuracy" };
        let found = totals.iter().enumerate();
        Ok(found.map(|(layer, sum)| Detail::new(measure, "probe", "layer", layer as f64, sum / count)).collect())
    }

    /// Statistics of the decoding states, by layer and position.
    fn states(&self) -> Result<Vec<Detail>, TrainError> {
        let sections = self.task.sections(Split::Test);
        let mut batches = 0..self.task.batches(Split::Test, WATCHED as u64);
        let longest = sections.parts.iter().enumerate().max_by(|a, b| a.1.at.total_cmp(&b.1.at)).map_or(0, |(i, _)| i);
        let Some(index) = batches.find(|&index| sections.of_batch(index, WATCHED as u64) == Some(longest)) else {
            return Ok(Vec::new());
        };
        let batch = self.task.batch(Split::Test, index, &tasks::Order { batch_size: WATCHED, ..self.order() })?;
        let (inputs, _) = to_tensors(&batch, self.vs.device());
        let length = *batch.lengths.iter().min().unwrap_or(&1);
        let stride = (length / WATCHED_POSITIONS).max(1);
        let at: Vec<i64> = (1..=length / stride).map(|i| i * stride - 1).collect();
        let mut found = Vec::new();
        for layer in 0..self.model.layers() {
            let states = no_grad(|| self.model.states(&inputs, layer, &at));
            for (at, state) in at.iter().zip(states) {
                let state = state.to_kind(Kind::Double);
                let series = format!("layer {}", layer + 1);
                let values = [
                    ("state_mean", state.mean(Kind::Double)),
                    ("state_variance", state.var(false)),
                    ("state_largest", state.abs().max()),
                ];
                for (measure, value) in values {
                    let (at, value) = ((at + 1) as f64, value.double_value(&[]));
                    found.push(Detail::new(measure, series.clone(), "position", at, value));
                }
            }
        }
        Ok(found)
    }

    /// Importance of every head; then the model without the unimportant ones.
    fn heads(
        &mut self,
        ended: &mut Ended,
        importance: bool,
        prune: bool,
        retrain_steps: u64,
        stop: &AtomicBool,
    ) -> Result<(), TrainError> {
        let heads = self.model.mixer_heads();
        if heads == 0 {
            return Ok(());
        }
        let options = (Kind::Float, self.vs.device());
        let layers = self.model.layers();
        let Some(base) = self.evaluate(Split::Validation, false, stop)? else { return Ok(()) };
        let mut best = Vec::new();
        for layer in 0..layers {
            let mut rises = Vec::new();
            for head in 0..heads {
                let factors = Tensor::ones([heads], options);
                let _ = factors.narrow(0, head, 1).zero_();
                self.model.silence(layer, Some(factors));
                let Some(without) = self.evaluate(Split::Validation, false, stop)? else { return Ok(()) };
                rises.push(without.loss - base.loss);
            }
            self.model.silence(layer, None);
            best.push((0..heads).max_by(|a, b| rises[*a as usize].total_cmp(&rises[*b as usize])).unwrap_or(0));
            if !importance {
                continue;
            }
            let at = (layer + 1) as f64;
            for (head, rise) in rises.iter().enumerate() {
                ended.details.push(Detail::new("loss_rise", format!("head {}", head + 1), "layer", at, *rise));
            }
            // Heads have no order that two seeds share: only by rank can they be averaged. One whose absence helps weighs nothing.
            let mut ranked: Vec<f64> = rises.iter().map(|rise| rise.max(0.0)).collect();
            ranked.sort_by(|a, b| b.total_cmp(a));
            let whole: f64 = ranked.iter().sum();
            for (rank, rise) in ranked.iter().enumerate() {
                let share = if whole > 0.0 { rise / whole } else { 0.0 };
                ended.details.push(Detail::new("importance", format!("rank {}", rank + 1), "layer", at, share));
            }
        }
        if !prune {
            return Ok(());
        }
        for (layer, best) in best.into_iter().enumerate().skip(1) {
            let factors = Tensor::zeros([heads], options);
            let _ = factors.narrow(0, best, 1).fill_(1.0);
            self.model.silence(layer, Some(factors));
        }
        let Some(pruned) = self.evaluate(Split::Test, true, stop)? else { return Ok(()) };
        keep(ended, "pruned", pruned);
        if retrain_steps > 0 && !stop.load(Ordering::Relaxed) {
            self.retrain(retrain_steps, stop)?;
            let Some(retrained) = self.evaluate(Split::Test, true, stop)? else { return Ok(()) };
            keep(ended, "retrained", retrained);
        }
        Ok(())
    }

    /// Trains on with the batches after those of the budget and a new optimizer, under the whole schedule in so many steps.
    fn retrain(&mut self, steps: u64, stop: &AtomicBool) -> Result<(), TrainError> {
        let mut optimizer = self.fresh_optimizer();
        let from = self.spec.budget.steps;
        let mut feed = Feed::start(self.task.clone(), self.order(), from, from + steps);
        for step in 0..steps {
            if stop.load(Ordering::Relaxed) {
                return Ok(());
            }
            optimizer.zero_grad();
            self.gradients(&feed.take()?, Purpose::Dropout, from + step);
            optimizer.step(self.spec.schedule.factor(step, steps, self.spec.optimizer.lr));
        }
        Ok(())
    }
}

/// Keeps what a changed model scored beside the whole one.
fn keep(ended: &mut Ended, series: &str, found: Evaluation) {
    ended.measures.insert(format!("{series}_score"), found.score);
    ended.measures.insert(format!("{series}_loss"), found.loss);
    let of = |d: Detail| Detail { series: series.into(), ..d };
    ended.details.extend(found.details.into_iter().map(of));
}
