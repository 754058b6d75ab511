//! How the gradients of one step are computed: at once, or in parts, keeping every activation or running layers again.
//!
//! ```text
//! micro_batch             ∇ loss = Σ (nᵢ / n) ∇ lossᵢ over parts of the batch, of which part i is asked nᵢ of n classes
//! checkpoint_activations  forward without a graph, keeping each layer's input; backward layer by layer, each run again
//! ```
//! Papers   Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174, with one layer a segment
//! Memory   of activations: `micro_batch / batch_size` of the whole batch's; one layer's, and an input a layer
//! Departs  a batch norm sees one part at a time, so that its statistics are those of parts, and its running ones move
//!          once a part; every other model's gradients are the whole batch's
//!
//! Dropout is seeded by step and part, and by layer too where layers are run again: it never depends on where a run was cut.
//! A part is padded to the length of the whole batch.

use super::Trainer;
use crate::train::feed::to_tensors;
use crate::train::seeds::{Purpose, reseed, reseed_within};
use mixers::Context;
use std::ops::Range;
use tasks::{Batch, Outline, Output, Targets, TaskSpec};
use tch::Tensor;

/// Examples `rows` of a batch, padded as the batch is.
fn part(batch: &Batch, rows: Range<usize>) -> Batch {
    // A row of every document, every document's rows lying together.
    let cut = |list: &[i64], each: usize| -> Vec<i64> {
        let of = |document: usize| {
            let start = document * batch.size;
            &list[(start + rows.start) * each..(start + rows.end) * each]
        };
        if list.is_empty() { Vec::new() } else { (0..batch.documents).flat_map(of).copied().collect() }
    };
    let each = batch.length * batch.width;
    let targets = match &batch.targets {
        Targets::PerSequence(classes) => Targets::PerSequence(classes[rows.clone()].to_vec()),
        Targets::PerPosition { positions, classes } => {
            let [start, end] = [rows.start, rows.end].map(|row| (row * batch.length) as i64);
            let asked = positions.iter().zip(classes).filter(|(at, _)| (start..end).contains(*at));
            let (positions, classes) = asked.map(|(at, class)| (at - start, *class)).unzip();
            Targets::PerPosition { positions, classes }
        }
    };
    Batch {
        size: rows.len(),
        documents: batch.documents,
        length: batch.length,
        width: batch.width,
        tokens: cut(&batch.tokens, each),
        types: cut(&batch.types, each),
        lengths: cut(&batch.lengths, 1),
        targets,
    }
}

/// A batch in parts of at most `micro` examples, those left out that are asked nothing.
fn parts(batch: &Batch, micro: usize) -> impl Iterator<Item = (u64, Batch)> {
    let starts = (0..batch.size).step_by(micro.max(1));
    let all = starts.map(move |start| part(batch, start..batch.size.min(start + micro.max(1))));
    (0..).zip(all).filter(|(_, part)| !part.targets.classes().is_empty())
}

impl Trainer {
    /// Adds the gradients of a batch's loss to the parameters'; the loss. Dropout is that of `step`.
    pub(super) fn gradients(&self, batch: &Batch, purpose: Purpose, step: u64) -> f64 {
        let whole = batch.targets.classes().len();
        // Nothing is asked: a sum of no terms. The gradients stay zero.
        if whole == 0 {
            return 0.0;
        }
        match self.spec.budget.micro_batch {
            Some(micro) => {
                let of_part = |(i, part): (u64, Batch)| self.gradients_of(&part, whole, purpose, step, Some(i));
                parts(batch, micro as usize).map(of_part).sum()
            }
            None => self.gradients_of(batch, whole, purpose, step, None),
        }
    }

    /// The same of one part, weighted by its share of the `whole` batch's classes.
    fn gradients_of(&self, batch: &Batch, whole: usize, purpose: Purpose, step: u64, part: Option<u64>) -> f64 {
        let (inputs, classes) = to_tensors(batch, self.vs.device());
        let asked = batch.targets.classes().len();
        // Nothing is multiplied where there is one part: an ordinary step stays what it was, bit for bit.
        let share = |loss: Tensor| if asked == whole { loss } else { loss * (asked as f64 / whole as f64) };
        let seed = self.spec.seed;
        if self.spec.model.checkpoint_activations {
            let reseed = |layer: usize| reseed_within(seed, purpose, step, &[part.unwrap_or(0), layer as u64]);
            let read = |x: &Tensor, ctx: &Context| share(self.loss_of(&self.model.answer(x, &inputs, ctx), &classes));
            return self.model.backward_by_layers(&inputs, None, reseed, read).double_value(&[]);
        }
        match part {
            None => reseed(seed, purpose, step),
            Some(part) => reseed_within(seed, purpose, step, &[part]),
        }
        let loss = share(self.loss_of(&self.model.forward(&inputs, true), &classes));
        loss.backward();
        loss.double_value(&[])
    }

    /// The same while pretraining: what is predicted of a batch is drawn for all of it, whatever its parts.
    pub(super) fn pretraining_gradients(&self, batch: &Batch, step: u64) -> f64 {
        let stage = self.stage.as_ref().expect("called while pretraining");
        let (asked, seed, device) = (stage.asked(batch, step), self.spec.seed, self.vs.device());
        let whole = asked.targets.classes().len();
        let of_part = |part: &Batch, i: Option<u64>| {
            let (inputs, classes) = to_tensors(part, device);
            let at = inputs.positions.as_ref().expect("what is predicted has a position");
            let hidden = stage.hidden(at);
            let purpose = Purpose::PretrainDropout;
            let loss = if self.spec.model.checkpoint_activations {
                let reseed = |layer: usize| reseed_within(seed, purpose, step, &[i.unwrap_or(0), layer as u64]);
                let read =
                    |x: &Tensor, ctx: &Context| stage.loss_of(&self.model.taken(x, &inputs, at, ctx), &classes, whole);
                self.model.backward_by_layers(&inputs, hidden, reseed, read)
            } else {
                match i {
                    None => reseed(seed, purpose, step),
                    Some(i) => reseed_within(seed, purpose, step, &[i]),
                }
                let loss = stage.loss_of(&self.model.features(&inputs, hidden, at, true), &classes, whole);
                loss.backward();
                loss
            };
            loss.double_value(&[])
        };
        match self.spec.budget.micro_batch {
            // Every document of an example is a row of its own here.
            Some(micro) if whole > 0 => {
                parts(&asked, micro as usize * batch.documents).map(|(i, part)| of_part(&part, Some(i))).sum()
            }
            _ => of_part(&asked, None),
        }
    }

    /// FLOPs of one forward pass on a batch, padding included, by the papers' formulas.
    pub(super) fn forward_flops(&self, batch: &Batch) -> f64 {
        let (config, length, examples) = (&self.spec.model, batch.length as i64, batch.size as i64);
        let TaskSpec { causal, max_length, vocab_size, classes, documents, input, output, .. } = self.task_spec;
        let outline = Outline { causal, max_length, needs_files: false, vocab_size, classes, documents, input, output };
        let mixers = documents as f64 * config.n_layers as f64 * self.model.mixer_cost(length).flops as f64;
        let head = match output {
            Output::PerSequence | Output::Value => examples as f64 * config.head_flops(1, &outline),
            _ => config.head_flops(batch.targets.classes().len() as i64, &outline),
        };
        examples as f64 * (mixers + config.trunk_flops(length, &outline)) + head
    }
}

#[cfg(test)]
mod tests;
