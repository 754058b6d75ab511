//! The fast path: a piece of the batch and of the heads at a time. Only the operands are kept; the backward computes each piece
//! again, so that what one piece needs is all the memory the attention takes.

use super::Projection;
use super::inner::{Core, Operands};
use crate::Precision;
use crate::native::kernels::piece;
use crate::native::{Backward, attach};
use std::ops::Range;
use tch::{Device, Tensor};

/// Logits and weights of a piece on a CPU: small enough to stay near the processor, large enough to be worth a call.
const SCALARS: i64 = 1 << 20;
/// Scalars of an input from which it pays to make q, k and v again rather than to keep them.
const LARGE: i64 = 1 << 21;

/// M V, as [`Core::attend`] gives it.
pub fn attend(core: &Core, o: &Operands, train: bool) -> Tensor {
    let pieces = cut(core, axes(&o.qkv[2]), o.qkv[2].device());
    // Dropout would be drawn anew in the backward.
    if pieces.len() <= 1 || (train && core.dropout > 0.0) { core.fast(o, train) } else { in_pieces(core, o, pieces) }
}

/// The same in these pieces, which together are the whole.
pub fn in_pieces(core: &Core, o: &Operands, pieces: Vec<Piece>) -> Tensor {
    linked(core, o, pieces, true)
}

/// A node of the graph; without `filled` its values are left zero, for a caller that wants gradients alone.
fn linked(core: &Core, o: &Operands, pieces: Vec<Piece>, filled: bool) -> Tensor {
    let y = tch::no_grad(|| {
        let y = if filled { o.qkv[2].empty_like() } else { o.qkv[2].zeros_like() };
        for piece in pieces.iter().filter(|_| filled) {
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

/// Whether a layer with this input is worth [`from_input`].
pub fn many(core: &Core, x: &Tensor, heads: i64, d_head: i64) -> bool {
    let size = x.size();
    x.numel() as i64 >= LARGE && cut(core, [size[0], size[1], heads, d_head], x.device()).len() > 1
}

/// M V from the layer's input: q, k and v are made a row of the batch at a time, and again in the backward, so that none of
/// them is ever there whole.
pub fn from_input(
    core: &Core,
    x: &Tensor,
    qkv: &[Projection; 3],
    learned: &[Tensor],
    lengths: Option<Tensor>,
) -> Tensor {
    let op =
        Anew { core: *core, biased: qkv[0].bias.is_some(), padded: lengths.is_some(), precision: qkv[0].precision };
    let mut inputs = vec![x];
    inputs.extend(qkv.iter().map(|p| &p.weight));
    inputs.extend(qkv.iter().filter_map(|p| p.bias.as_ref()));
    inputs.extend(learned);
    let mut saved = inputs.clone();
    saved.extend(&lengths);
    let y = tch::no_grad(|| {
        let detached: Vec<Tensor> = inputs.iter().map(|t| t.detach()).collect();
        let rows = (0..x.size()[0]).map(|row| op.row(row, &detached, lengths.as_ref(), true));
        Tensor::cat(&rows.collect::<Vec<_>>(), 0)
    });
    attach(op, &inputs, &[&y], &saved);
    y
}

/// What [`from_input`] knows besides tensors.
struct Anew {
    core: Core,
    biased: bool,
    padded: bool,
    precision: Precision,
}

impl Anew {
    /// M V of one row of the batch.
    fn row(&self, row: i64, inputs: &[Tensor], lengths: Option<&Tensor>, filled: bool) -> Tensor {
        let x = if inputs[0].size()[0] == 1 { inputs[0].shallow_clone() } else { inputs[0].narrow(0, row, 1) };
        let maps = [0, 1, 2].map(|i| Projection {
            weight: inputs[1 + i].shallow_clone(),
            bias: self.biased.then(|| inputs[4 + i].shallow_clone()),
            precision: self.precision,
        });
        let learned = &inputs[if self.biased { 7 } else { 4 }..];
        let operands = Operands {
            qkv: maps.each_ref().map(|p| p.split(&x)),
            x: self.core.reads_input().then_some(x),
            read: None,
            learned: learned.iter().map(Tensor::shallow_clone).collect(),
            lengths: lengths.map(|l| l.narrow(0, row, 1)),
        };
        let v = &operands.qkv[2];
        let pieces = cut(&self.core, axes(v), v.device());
        linked(&self.core, &operands, pieces, filled)
    }
}

impl Backward for Anew {
    fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
        let (inputs, lengths) = saved.split_at(saved.len() - usize::from(self.padded));
        let Some(grad) = &grads[0] else { return inputs.iter().map(|_| None).collect() };
        let wanted: Vec<bool> = inputs.iter().map(Tensor::requires_grad).collect();
        let mut rows_of_x = Vec::new();
        let mut shared: Vec<Option<Tensor>> = inputs.iter().map(|_| None).collect();
        for row in 0..inputs[0].size()[0] {
            let leaves: Vec<Tensor> = (inputs.iter().enumerate())
                .map(|(i, t)| if i == 0 { t.narrow(0, row, 1) } else { t.shallow_clone() })
                .zip(&wanted)
                .map(|(t, wanted)| t.detach().set_requires_grad(*wanted))
                .collect();
            let lengths = lengths.first().map(|l| l.narrow(0, row, 1));
            let asked: Vec<&Tensor> = leaves.iter().zip(&wanted).filter(|(_, w)| **w).map(|(l, _)| l).collect();
            let found = tch::with_grad(|| {
                let y = self.row(0, &leaves, lengths.as_ref(), false);
                Tensor::run_backward(&[(y * grad.narrow(0, row, 1)).sum(grad.kind())], &asked, false, false)
            });
            let places = wanted.iter().enumerate().filter(|(_, wanted)| **wanted).map(|(i, _)| i);
            for (i, gradient) in places.zip(found).filter(|(_, found)| found.defined()) {
                match shared[i].take() {
                    _ if i == 0 => rows_of_x.push(gradient),
                    None => shared[i] = Some(gradient),
                    Some(sum) => shared[i] = Some(sum + gradient),
                }
            }
        }
        shared[0] = wanted[0].then(|| Tensor::cat(&rows_of_x, 0));
        shared
    }
}

/// The smallest pieces there are.
#[cfg(test)]
pub fn smallest(batch: i64, heads: i64, core: &Core) -> Vec<Piece> {
    cut(core, [batch, SCALARS, heads, 1], Device::Cpu)
}

/// Rows of the batch and heads.
#[derive(Debug)]
pub struct Piece {
    batch: Range<i64>,
    heads: Range<i64>,
}

/// Batch, length, heads and width.
fn axes(t: &Tensor) -> [i64; 4] {
    t.size4().expect("four axes").into()
}

fn cut(core: &Core, [batch, length, heads, d]: [i64; 4], device: Device) -> Vec<Piece> {
    // Lists keep no logits, and share their work out by heads.
    let width = if core.lists() { d } else { core.columns(length) };
    let least = if core.lists() { i64::from(tch::get_num_threads()) } else { 1 };
    let affordable = (piece(device, SCALARS) / (length * width).max(1)).max(least); // rows times heads
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
