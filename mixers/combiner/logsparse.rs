//! Logsparse: the past of token i is the blocks of 2^l tokens that the set bits l of i cut `0 .. i` into. Bidirectionally the
//! future is cut by the same rule from the other end.

use super::Pool;
use super::inner::{Core, Operands, hide, veil};
use super::lists::{self, Lists};
use std::sync::Arc;
use tch::{Kind, Tensor};

/// Bits of the last token's position.
pub fn levels(length: i64) -> i64 {
    i64::from(64 - (length - 1).leading_zeros())
}

pub fn attend(core: &Core, o: &Operands, train: bool) -> Tensor {
    let length = o.length();
    let n = levels(length);
    let missing = (1 << n) - length;
    let padded = |t: &Tensor| if missing > 0 { t.constant_pad_nd([0, 0, 0, missing]) } else { t.contiguous() };
    let [q, k, _, v] = o.heads(); // [batch, heads, length, d]
    let kind = q.kind();

    let own = (&q * &k).sum_dim_intlist([-1].as_slice(), true, kind);
    if n == 0 {
        return (own.softmax(-1, kind) * v).transpose(1, 2); // one token, no past
    }
    let past = Side::new(core, [&q, &k, &v].map(padded), &o.learned, n, train);
    let future = (!core.causal).then(|| {
        let mirror = Mirror::new(o);
        let side = Side::new(core, [&q, &k, &v].map(|t| padded(&mirror.apply(t))), &o.learned, n, train);
        (mirror, side)
    });

    let mut logits = vec![own, past.logits(length)];
    if let Some((mirror, side)) = &future {
        logits.push(mirror.apply(&side.logits(length)));
    }
    let weights = Tensor::cat(&logits, -1).softmax(-1, kind); // [batch, heads, length, 1 + levels (+ levels)]
    let mut y = weights.narrow(-1, 0, 1) * &v + past.read(&weights.narrow(-1, 1, n), missing).narrow(2, 0, length);
    if let Some((mirror, side)) = &future {
        let weights = mirror.apply(&weights.narrow(-1, 1 + n, n));
        y += mirror.apply(&side.read(&weights, missing).narrow(2, 0, length));
    }
    y.transpose(1, 2)
}

/// The same by lists, O(length · log length) whatever the length; no padding, no dropout.
pub fn by_lists(core: &Core, o: &Operands) -> Tensor {
    let length = o.length();
    let [q, k, _, v] = o.heads();
    let (mut keys, mut values) = (vec![k.shallow_clone()], vec![v.shallow_clone()]);
    let sides = if core.causal { 1 } else { 2 };
    for side in 0..sides {
        let [q, k, v] = [&q, &k, &v].map(|t| if side == 0 { t.shallow_clone() } else { t.flip([2]) });
        let [block_q, block_k] = [(&q, 0), (&k, 1)].map(|(t, which)| blocks(core, core.mapped(t, which, &o.learned)));
        let mut tokens = Lists::default();
        for level in 0..levels(length) {
            (0..used(length, level)).for_each(|pair| tokens.push((2 * pair) << level..(2 * pair + 1) << level));
        }
        if length > 1 {
            values.push(lists::attend(&block_q, &k, &v, &Arc::new(tokens)));
            keys.push(block_k);
        }
    }
    let mut starts = vec![length]; // of each level among the keys of a side
    for level in 0..levels(length) {
        starts.push(starts[level as usize] + used(length, level));
    }
    let side_length = starts[levels(length) as usize] - length;
    let past = |i: i64, side: i64| {
        let set = (0..levels(length)).filter(move |level| (i >> level) & 1 == 1);
        set.map(|level| starts[level as usize] + (i >> (level + 1)) + side * side_length).collect::<Vec<_>>()
    };
    let mut all = Lists::default();
    for i in 0..length {
        let future = if core.causal { Vec::new() } else { past(length - 1 - i, 1) };
        all.push([i].into_iter().chain(past(i, 0)).chain(future));
    }
    lists::attend(&q, &Tensor::cat(&keys, 2), &Tensor::cat(&values, 2), &Arc::new(all)).transpose(1, 2)
}

/// Blocks of a level that some token reads: the first of two neighbours, where the second has begun.
fn used(length: i64, level: i64) -> i64 {
    (((length - 1) >> level) + 1) / 2
}

/// The pools of all those blocks, level by level: `[batch, heads, length, d]` → `[batch, heads, blocks, d]`.
fn blocks(core: &Core, mapped: Tensor) -> Tensor {
    let length = mapped.size()[2];
    let mut pooled = mapped; // whole blocks of this level
    let mut all = Vec::new();
    for level in 0..levels(length) {
        let whole = pooled.size()[2] / 2;
        let halves = pooled.narrow(2, 0, 2 * whole).unflatten(2, [-1, 2]);
        all.push(pooled.slice(2, 0, 2 * used(length, level) - 1, 2));
        pooled = merge(core, &halves);
    }
    if all.is_empty() { pooled.narrow(2, 0, 0) } else { Tensor::cat(&all, 2) }
}

/// What every token reads of its past, on a length that is a power of two.
struct Side {
    /// Of level l, `[batch, heads, 2^n]`.
    logits: Vec<Tensor>,
    /// u_Ω of the first block of every pair of blocks of level l, `[batch, heads, pairs, d]`.
    values: Vec<Tensor>,
}

impl Side {
    fn new(core: &Core, [q, k, v]: [Tensor; 3], learned: &[Tensor], n: i64, train: bool) -> Self {
        let mut side = Self { logits: Vec::new(), values: Vec::new() };
        let mut pooled = [(&q, 0), (&k, 1)].map(|(t, which)| core.mapped(t, which, learned)); // blocks of this level
        for level in 0..n {
            let width = 1 << level;
            // Only the first of two neighbours is ever read, and only by the second: bit l of the reader is set.
            let neighbours = |t: &Tensor| t.unflatten(2, [-1, 2 * width]);
            let halves = pooled.each_ref().map(|t| t.unflatten(2, [-1, 2]));
            let [block_q, block_k] = halves.each_ref().map(|t| t.select(3, 0)); // [batch, heads, pairs, d]
            let [first_k, first_v] = [&k, &v].map(|t| neighbours(t).narrow(3, 0, width));
            let local = block_q.unsqueeze(-2).matmul(&first_k.transpose(-2, -1)).softmax(-1, q.kind());
            side.values.push(core.drop(local, train).matmul(&first_v).squeeze_dim(-2));
            side.logits.push(neighbours(&q).matmul(&block_k.unsqueeze(-1)).squeeze_dim(-1).flatten(2, 3));
            pooled = halves.map(|t| merge(core, &t));
        }
        side
    }

    /// `[batch, heads, length, levels]`, hidden where a token does not read that level.
    fn logits(&self, length: i64) -> Tensor {
        let logits = Tensor::stack(&self.logits, -1).narrow(2, 0, length);
        let (n, kind, device) = (self.logits.len() as i64, logits.kind(), logits.device());
        let token = Tensor::arange(length, (Kind::Int64, device)).unsqueeze(1);
        let bit = token.bitwise_right_shift(&Tensor::arange(n, (Kind::Int64, device))).remainder(2).eq(1);
        hide(&logits, &veil(&bit, kind));
        logits
    }

    /// Σ_l weight · u_Ω, `[batch, heads, 2^n, d]`, from weights `[batch, heads, length, levels]`.
    fn read(&self, weights: &Tensor, missing: i64) -> Tensor {
        let weights = if missing > 0 { weights.constant_pad_nd([0, 0, 0, missing]) } else { weights.shallow_clone() };
        let [b, h, d] = [0, 1, 3].map(|axis| self.values[0].size()[axis]);
        let mut y = Tensor::zeros([1, 1, 1], (weights.kind(), weights.device()));
        for (level, (value, weight)) in (0..).zip(self.values.iter().zip(weights.unbind(-1))) {
            let weight = weight.reshape([-1, 2 << level, 1]);
            let value = value.reshape([-1, 1, d]); // a value per pair of blocks
            let sum = if level == 0 { y } else { y.view([-1, 2 << level, d]) };
            y = sum.baddbmm(&weight, &value, 1, 1);
        }
        y.view([b, h, -1, d])
    }
}

/// Every row of the batch from its last valid token to its first; padding stays where it is.
enum Mirror {
    Whole,
    /// Where each position comes from, `[batch, 1, length, 1]`.
    Index(Tensor),
}

impl Mirror {
    fn new(o: &Operands) -> Self {
        let Some(lengths) = &o.lengths else { return Self::Whole };
        let position = Tensor::arange(o.length(), (Kind::Int64, lengths.device()));
        let lengths = lengths.unsqueeze(1);
        let mirrored = &lengths - 1 - &position;
        Self::Index(mirrored.where_self(&position.lt_tensor(&lengths), &position).unsqueeze(1).unsqueeze(-1))
    }

    /// `[batch, heads, length, d]`.
    fn apply(&self, t: &Tensor) -> Tensor {
        match self {
            Self::Whole => t.flip([2]),
            Self::Index(index) => t.gather(2, &index.expand(t.size(), false), false),
        }
    }
}

/// Two neighbouring blocks as one: `[…, 2, d]` → `[…, d]`.
pub fn merge(core: &Core, halves: &Tensor) -> Tensor {
    match core.pool {
        Pool::Max => halves.amax([-2], false),
        Pool::Mean => halves.mean_dim([-2].as_slice(), false, halves.kind()),
        Pool::Sum => halves.sum_dim_intlist([-2].as_slice(), false, halves.kind()),
    }
}
