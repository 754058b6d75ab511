//! One token at a time. What is kept, in scalars per channel:
//!
//! ```text
//! fixed      open row: q, k, v of its tokens; closed rows: k_Ω, u_Ω
//! rowmajor   open row: q, k, v (and the input) of its tokens; closed rows: the key and u of each of their columns
//! logsparse  k, v of every token, since any may enter a longer block; q_Ω, k_Ω, u_Ω of the blocks in use, one per set bit
//! others     q, k, v of every token: the pooled query of a column changes with every row
//! ```

use super::inner::{Core, Operands};
use super::{Combiner, Pattern, logsparse, rowmajor};
use crate::{Context, Recurrent, tensor_bytes};
use tch::Tensor;

/// State after `length` tokens, of heads that are `d` wide together; the input that some rowmajor keeps is `d_model` wide.
pub fn scalars(core: &Core, d: i64, d_model: i64, length: i64) -> i64 {
    let w = core.segment;
    match core.pattern {
        Pattern::Fixed => d * (3 * (length % w) + 2 * (length / w)),
        Pattern::Rowmajor => {
            let input = if core.reads_input() { d_model } else { 0 };
            (3 * d + input) * (length % w) + 2 * d * (length / w * w)
        }
        Pattern::Logsparse => d * (2 * length + 3 * i64::from(length.count_ones())),
        _ => d * 3 * length,
    }
}

pub fn start(layer: &Combiner) -> Box<dyn Recurrent + '_> {
    Box::new(Cache { layer, tokens: 0, open: None, closed: None, blocks: Vec::new() })
}

struct Cache<'a> {
    layer: &'a Combiner,
    /// How many came.
    tokens: i64,
    /// Of the open row, or of every token: q, k, v (logsparse: k, v; some rowmajor: q, k, v, input),
    /// each `[batch, heads, tokens, d_head]` (input: `[batch, 1, tokens, d_model]`).
    open: Option<Vec<Tensor>>,
    /// Keys and values of closed rows, `[batch, heads, rows, d_head]` or `[batch, heads, rows, w, d_head]`.
    closed: Option<[Tensor; 2]>,
    /// Blocks that the past is cut into, the longest first.
    blocks: Vec<Block>,
}

/// A whole block of a logsparse past, its tensors `[batch, heads, d_head]`.
struct Block {
    level: u32,
    pooled_q: Tensor,
    key: Tensor,
    value: Tensor,
}

/// One softmax over all keys: q `[batch, heads, 1, d]`, keys and values `[batch, heads, n, d]` each.
fn read(q: &Tensor, keys: &[Tensor], values: &[Tensor]) -> Tensor {
    let logits = q.matmul(&Tensor::cat(keys, 2).transpose(-2, -1));
    logits.softmax(-1, q.kind()).matmul(&Tensor::cat(values, 2))
}

impl Cache<'_> {
    /// The tokens kept and this one.
    fn push(&mut self, new: &[&Tensor]) -> Vec<Tensor> {
        match self.open.take() {
            None => new.iter().map(|t| t.shallow_clone()).collect(),
            Some(old) => old.iter().zip(new).map(|(old, new)| Tensor::cat(&[old, *new], 2)).collect(),
        }
    }

    /// Adds to the closed rows.
    fn close(&mut self, row: [Tensor; 2]) {
        self.closed = Some(match self.closed.take() {
            None => row,
            Some([keys, values]) => {
                [Tensor::cat(&[keys, row[0].shallow_clone()], 2), Tensor::cat(&[values, row[1].shallow_clone()], 2)]
            }
        });
    }

    fn step_fixed(&mut self, [q, k, v]: [&Tensor; 3]) -> Tensor {
        let core = &self.layer.core;
        let open = self.push(&[q, k, v]);
        let (mut keys, mut values) = (vec![open[1].shallow_clone()], vec![open[2].shallow_clone()]);
        if let Some([k, v]) = &self.closed {
            keys.push(k.shallow_clone());
            values.push(v.shallow_clone());
        }
        let y = read(q, &keys, &values);
        if open[0].size()[2] == core.segment {
            let row = core.region([&open[0], &open[1], &open[2]], &self.layer.learned);
            self.close(row.map(|t| t.unsqueeze(2)));
        } else {
            self.open = Some(open);
        }
        y
    }

    fn step_rowmajor(&mut self, [q, k, v]: [&Tensor; 3], x: &Tensor) -> Tensor {
        let core = &self.layer.core;
        let x = x.unsqueeze(1).unsqueeze(1).copy(); // a view would hold the whole input
        let open = if core.reads_input() { self.push(&[q, k, v, &x]) } else { self.push(&[q, k, v]) };
        let (mut keys, mut values) = (vec![open[1].shallow_clone()], vec![open[2].shallow_clone()]);
        let column = open[0].size()[2] - 1;
        if let Some([k, v]) = &self.closed {
            keys.push(k.select(3, column));
            values.push(v.select(3, column));
        }
        let y = read(q, &keys, &values);
        if column + 1 == core.segment {
            let row = rowmajor::summaries(core, [&open[0], &open[1], &open[2]], open.get(3), &self.layer.learned);
            self.close(row.map(|t| t.unsqueeze(2)));
        } else {
            self.open = Some(open);
        }
        y
    }

    fn step_logsparse(&mut self, [q, k, v]: [&Tensor; 3]) -> Tensor {
        let (core, learned) = (&self.layer.core, &self.layer.learned);
        let open = self.push(&[k, v]);
        let (mut keys, mut values) = (vec![k.shallow_clone()], vec![v.shallow_clone()]);
        for block in &self.blocks {
            keys.push(block.key.unsqueeze(2));
            values.push(block.value.unsqueeze(2));
        }
        let y = read(q, &keys, &values);
        let [pooled_q, key] = [(q, 0), (k, 1)].map(|(t, which)| core.mapped(&t.squeeze_dim(2), which, learned));
        self.blocks.push(Block { level: 0, pooled_q, key, value: v.squeeze_dim(2) });
        // Two neighbours of one level become one of the next, as the bits of the position carry.
        while let [.., a, b] = self.blocks.as_slice()
            && a.level == b.level
        {
            let merged = |a: &Tensor, b: &Tensor| logsparse::merge(core, &Tensor::stack(&[a, b], -2));
            let (pooled_q, key) = (merged(&a.pooled_q, &b.pooled_q), merged(&a.key, &b.key));
            let level = a.level + 1;
            let [k, v] = [0, 1].map(|i: usize| open[i].narrow(2, self.tokens + 1 - (1 << level), 1 << level));
            let local = pooled_q.unsqueeze(2).matmul(&k.transpose(-2, -1)).softmax(-1, k.kind());
            let value = local.matmul(&v).squeeze_dim(2);
            self.blocks.truncate(self.blocks.len() - 2);
            self.blocks.push(Block { level, pooled_q, key, value });
        }
        self.open = Some(open);
        y
    }

    fn step_axial(&mut self, [q, k, v]: [&Tensor; 3]) -> Tensor {
        let core = &self.layer.core;
        let open = self.push(&[q, k, v]);
        let (row, column) = (self.tokens / core.segment, self.tokens % core.segment);
        let y = match core.pattern {
            Pattern::MixtureAveraged => {
                let [a, b] = [Pattern::Vertical, Pattern::Horizontal].map(|p| self.read_axial(p, &open, [row, column]));
                (a + b) / 2.0
            }
            pattern => self.read_axial(pattern, &open, [row, column]),
        };
        self.open = Some(open);
        y
    }

    /// What the last token of `open` reads, straight from the lists of regions.
    fn read_axial(&self, pattern: Pattern, open: &[Tensor], [row, column]: [i64; 2]) -> Tensor {
        let (core, w) = (&self.layer.core, self.layer.core.segment);
        let region = |lines: [Tensor; 3]| core.region(lines.each_ref(), &self.layer.learned);
        let [keys, values] = [1, 2].map(|i: usize| vec![open[i].narrow(2, row * w, column + 1)]);
        let (mut keys, mut values) = (keys, values);
        let mut add = |[key, value]: [Tensor; 2]| {
            keys.push(key);
            values.push(value);
        };
        if row > 0 {
            let grid = [0, 1, 2].map(|i: usize| open[i].narrow(2, 0, row * w).unflatten(2, [row, w])); // whole earlier rows
            add([1, 2].map(|i: usize| grid[i].select(3, column)));
            let others: Vec<i64> = (0..w).filter(|c| *c != column).collect();
            let others = Tensor::from_slice(&others).to_device(open[0].device());
            if pattern != Pattern::Horizontal && w > 1 {
                add(region(grid.each_ref().map(|t| t.index_select(3, &others).transpose(2, 3))));
            }
            if pattern == Pattern::Horizontal && w > 1 {
                add(region(grid.each_ref().map(|t| t.index_select(3, &others))));
            }
            if pattern == Pattern::MixtureJoint {
                for (from, to) in [(0, column), (column + 1, w)].into_iter().filter(|(from, to)| from < to) {
                    add(region(grid.each_ref().map(|t| t.narrow(3, from, to - from))));
                }
            }
        }
        read(&open[0].narrow(2, self.tokens, 1), &keys, &values)
    }
}

impl Recurrent for Cache<'_> {
    fn reset(&mut self, _batch: i64) {
        *self = Self { layer: self.layer, tokens: 0, open: None, closed: None, blocks: Vec::new() };
    }

    fn step(&mut self, x: &Tensor) -> Tensor {
        let operands: Operands = self.layer.operands(&x.unsqueeze(1), &Context::eval());
        let [q, k, v, _] = operands.heads(); // [batch, heads, 1, d_head]
        let qkv = [&q, &k, &v];
        let y = match self.layer.core.pattern {
            Pattern::Fixed => self.step_fixed(qkv),
            Pattern::Rowmajor => self.step_rowmajor(qkv, x),
            Pattern::Logsparse => self.step_logsparse(qkv),
            _ => self.step_axial(qkv),
        };
        self.tokens += 1;
        self.layer.out.join(&y.flatten(1, 3), &Context::eval())
    }

    fn state_bytes(&self) -> i64 {
        let blocks = self.blocks.iter().flat_map(|b| [&b.pooled_q, &b.key, &b.value]);
        self.open.iter().flatten().chain(self.closed.iter().flatten()).chain(blocks).map(tensor_bytes).sum()
    }
}
