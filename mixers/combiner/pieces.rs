//! The fast path: a piece of the batch and of the heads at a time. Only the operands are kept; the backward computes each piece
//! again, so that what one piece needs is all the memory the attention takes.

use super::inner::{Core, Operands};
use crate::native::{Backward, attach};
use std::ops::Range;
use tch::Tensor;

/// Logits and weights of a piece: small enough to stay near the processor, large enough to be worth a call.
const SCALARS: i64 = 1 << 20;

/// M V, as [`Core::attend`] gives it.
pub fn attend(core: &Core, o: &Operands, train: bool) -> Tensor {
    let pieces = cut(core, <[i64; 4]>::try_from(o.qkv[2].size()).expect("four axes"));
    // Dropout would be drawn anew in the backward.
    if pieces.len() <= 1 || (train && core.dropout > 0.0) { core.fast(o, train) } else { in_pieces(core, o, pieces) }
}

/// The same in these pieces, which together are the whole.
pub fn in_pieces(core: &Core, o: &Operands, pieces: Vec<Piece>) -> Tensor {
    let y = tch::no_grad(|| {
        let y = o.qkv[2].empty_like();
        for piece in &pieces {
            piece.of(&y).copy_(&core.fast(&piece.operands(o), false));
        }
        y
    });
    let inputs = o.tensors();
    let mut saved = inputs.clone();
    saved.extend(&o.lengths);
    attach(Again { core: *core, pieces, padded: o.lengths.is_some() }, &inputs, &[&y], &saved);
    y
}

/// The smallest pieces there are.
#[cfg(test)]
pub fn smallest(batch: i64, heads: i64, core: &Core) -> Vec<Piece> {
    cut(core, [batch, SCALARS, heads, 1])
}

/// Rows of the batch and heads.
#[derive(Debug)]
pub struct Piece {
    batch: Range<i64>,
    heads: Range<i64>,
}

fn cut(core: &Core, [batch, length, heads, d]: [i64; 4]) -> Vec<Piece> {
    // Lists keep no logits, and share their work out by heads.
    let width = if core.lists() { d } else { core.columns(length) };
    let least = if core.lists() { i64::from(tch::get_num_threads()) } else { 1 };
    let affordable = (SCALARS / (length * width).max(1)).max(least); // rows times heads
    let heads_at_once = if core.reads_input() { heads } else { affordable.min(heads) };
    let rows_at_once = (affordable / heads_at_once).clamp(1, batch.max(1));
    let ranges = |n: i64, step: i64| (0..n).step_by(step as usize).map(move |from| from..(from + step).min(n));
    let pieces = ranges(batch, rows_at_once)
        .flat_map(|batch| ranges(heads, heads_at_once).map(move |heads| Piece { batch: batch.clone(), heads }));
    pieces.collect()
}

impl Piece {
    /// Of `[batch, length, heads, d]`; the layer's input, `[batch, length, d_model]`, has no heads.
    fn of(&self, t: &Tensor) -> Tensor {
        let rows = t.narrow(0, self.batch.start, self.batch.end - self.batch.start);
        if t.dim() == 4 { rows.narrow(2, self.heads.start, self.heads.end - self.heads.start) } else { rows }
    }

    fn operands(&self, o: &Operands) -> Operands {
        Operands {
            qkv: o.qkv.each_ref().map(|t| self.of(t)),
            x: o.x.as_ref().map(|t| self.of(t)),
            read: o.read.as_ref().map(|t| self.of(t)),
            learned: o.learned.iter().map(Tensor::shallow_clone).collect(),
            lengths: o.lengths.as_ref().map(|t| t.narrow(0, self.batch.start, self.batch.end - self.batch.start)),
        }
    }
}

impl Operands {
    /// q, k, v, the input where there is one, and what is learned.
    fn tensors(&self) -> Vec<&Tensor> {
        self.qkv.iter().chain(&self.x).chain(&self.learned).collect()
    }
}

struct Again {
    core: Core,
    pieces: Vec<Piece>,
    padded: bool,
}

impl Backward for Again {
    fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
        let inputs = saved.len() - usize::from(self.padded);
        let Some(grad) = &grads[0] else { return (0..inputs).map(|_| None).collect() };
        let split = if self.core.reads_input() { 4 } else { 3 }; // q, k, v and the input are cut; the rest is shared
        let wanted: Vec<bool> = saved[..inputs].iter().map(Tensor::requires_grad).collect();
        let gradients: Vec<Tensor> = saved[..inputs].iter().map(Tensor::zeros_like).collect();
        for piece in &self.pieces {
            let leaves: Vec<Tensor> = (saved[..inputs].iter().enumerate())
                .map(|(i, t)| if i < split { piece.of(t) } else { t.shallow_clone() })
                .zip(&wanted)
                .map(|(t, wanted)| t.detach().set_requires_grad(*wanted))
                .collect();
            let operands = Operands {
                qkv: [0, 1, 2].map(|i: usize| leaves[i].shallow_clone()),
                x: (split == 4).then(|| leaves[3].shallow_clone()),
                read: None,
                learned: leaves[split..].iter().map(Tensor::shallow_clone).collect(),
                lengths: saved.get(inputs).map(|t| t.narrow(0, piece.batch.start, piece.batch.end - piece.batch.start)),
            };
            let asked: Vec<&Tensor> = leaves.iter().zip(&wanted).filter(|(_, w)| **w).map(|(l, _)| l).collect();
            let found = tch::with_grad(|| {
                let y = self.core.fast(&operands, false);
                Tensor::run_backward(&[(y * piece.of(grad)).sum(grad.kind())], &asked, false, false)
            });
            let places = gradients.iter().enumerate().zip(&wanted).filter(|(_, wanted)| **wanted);
            for (((i, gradient), _), found) in places.zip(&found).filter(|(_, found)| found.defined()) {
                if i < split {
                    piece.of(gradient).copy_(found);
                } else {
                    let _ = gradient.shallow_clone().g_add_(found);
                }
            }
        }
        gradients.into_iter().zip(wanted).map(|(g, wanted)| wanted.then_some(g)).collect()
    }
}
