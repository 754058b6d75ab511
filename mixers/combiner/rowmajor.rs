//! Rowmajor (axial): own row directly, every other row through a summary that depends on the reader's column.

use super::RowSummary;
use super::fixed::direct_dropout;
use super::inner::{Core, Operands, hide, pairs, rows, unrows, veil};
use tch::{Kind, Tensor};

pub fn attend(core: &Core, o: &Operands, train: bool) -> Tensor {
    let (length, w) = (o.length(), core.segment);
    // Causal readers look only at whole earlier rows and at their own past: padding on the right is never read.
    let valid = if core.causal { None } else { o.valid(w) };
    let ends = valid.as_ref().map(|_| Ends::new(o, w));
    let by_head = o.heads(); // q, k, v and what is read, [batch, heads, length, d]
    let [q, k, v, read] = by_head.each_ref().map(|t| rows(t, w)); // [batch, heads, rows, w, d]
    let (n, kind, device) = (q.size()[2], q.kind(), q.device());

    // Logits inside the rows serve twice: for the rows' own readers, and for their summaries where no token is missing.
    let own = q.matmul(&k.transpose(-2, -1));
    let inside = match &ends {
        None => own.shallow_clone(),
        Some(ends) => ends.rows(&by_head[0]).matmul(&k.transpose(-2, -1)),
    };
    if let Some(valid) = &valid {
        let veil = veil(valid, kind).unsqueeze(-2);
        hide(&own, &veil);
        hide(&inside, &veil);
    }
    let p = core.drop(inside.softmax(-1, kind), train);
    let u = p.matmul(&read);
    let key = match core.row_summary {
        RowSummary::None => ends.as_ref().map_or(k, |ends| ends.rows(&by_head[1])),
        RowSummary::Wsum => p.matmul(&k),
        RowSummary::Proj | RowSummary::WsumProj => {
            let x = o.x.as_ref().expect("the layer's input").unsqueeze(1);
            let x = ends.as_ref().map_or_else(|| rows(&x, w), |ends| ends.rows(&x));
            let weighted = match core.row_summary {
                RowSummary::WsumProj => p.matmul(&k),
                _ if o.read.is_none() => u.shallow_clone(),
                _ => p.matmul(&v),
            };
            project(core, &weighted, &x, &o.learned)
        }
    };

    // By column, [batch, heads, w, rows, d]: readers of one column share their keys.
    let by_column = |t: &Tensor| t.transpose(2, 3).contiguous();
    let regions = by_column(&q).matmul(&by_column(&key).transpose(-2, -1)); // [batch, heads, w, rows, rows]
    let logits = Tensor::cat(&[own, regions.transpose(2, 3)], -1);
    let (own, regions) = (logits.narrow(-1, 0, w), logits.narrow(-1, w, n));
    if core.causal {
        hide(&own, &veil(&pairs(w, device, |i, j| j.le_tensor(i)), kind));
        hide(&regions, &veil(&pairs(n, device, |i, j| j.lt_tensor(i)), kind).unsqueeze(1));
    } else if !core.own_segment {
        hide(&regions, &veil(&pairs(n, device, |i, j| j.ne_tensor(i)), kind).unsqueeze(1));
    }
    if let Some(valid) = &valid {
        hide(&regions, &veil(&valid.any_dim(-1, false), kind).unsqueeze(-2).unsqueeze(-2));
    }
    let weights = direct_dropout(core, logits.softmax(-1, kind), w, train);
    let weights = weights.split_with_sizes([w, n], -1);
    let far = by_column(&weights[1]).matmul(&by_column(&u)).transpose(2, 3);
    unrows(&(weights[0].matmul(&read) + far), length)
}

/// Keys and values of one whole row, `[batch, heads, w, d]`, from its q, k, v and its input `[batch, 1, w, d_model]`.
pub fn summaries(core: &Core, [q, k, v]: [&Tensor; 3], x: Option<&Tensor>, learned: &[Tensor]) -> [Tensor; 2] {
    let p = q.matmul(&k.transpose(-2, -1)).softmax(-1, q.kind());
    let u = p.matmul(v);
    let project = |t: &Tensor| {
        let x = x.expect("the layer's input").unsqueeze(2);
        project(core, &t.unsqueeze(2), &x, learned).squeeze_dim(2)
    };
    let key = match core.row_summary {
        RowSummary::None => k.shallow_clone(),
        RowSummary::Wsum => p.matmul(k),
        RowSummary::Proj => project(&u),
        RowSummary::WsumProj => project(&p.matmul(k)),
    };
    [key, u]
}

/// key = LayerNorm(x + W1 u) W2, `[batch, heads, rows, w, d_head]`, from u of that shape and x `[batch, 1, rows, w, d_model]`.
fn project(core: &Core, u: &Tensor, x: &Tensor, learned: &[Tensor]) -> Tensor {
    let [w1, gamma, beta, w2] = [0, 1, 2, 3].map(|i: usize| &learned[i]);
    let biases = [4, 5].map(|i: usize| learned.get(i).map(|b| b.flatten(0, -1)));
    let joined = u.permute([0, 2, 3, 1, 4]).flatten(3, 4).linear(&w1.flatten(0, 1).tr(), biases[0].as_ref());
    let block = joined + x.squeeze_dim(1);
    let normed = block.layer_norm([gamma.size()[0]], Some(gamma), Some(beta), core.eps, false);
    let key = normed.linear(&w2.flatten(1, 2).tr(), biases[1].as_ref()).unflatten(-1, [u.size()[1], -1]);
    key.permute([0, 3, 1, 2, 4])
}

/// Where a row has no token in some column, the last valid token of its sequence stands in.
struct Ends {
    /// Which token stands at each place of the rows, `[batch or 1, 1, rows · w, 1]`.
    index: Tensor,
    w: i64,
}

impl Ends {
    fn new(o: &Operands, w: i64) -> Self {
        let (length, device) = (o.length(), o.qkv[0].device());
        let places = Tensor::arange((length + w - 1) / w * w, (Kind::Int64, device)).view([1, 1, -1, 1]);
        let index = match &o.lengths {
            Some(lengths) => places.minimum(&(lengths.clamp(1, length).view([-1, 1, 1, 1]) - 1)),
            None => places.clamp_max(length - 1),
        };
        Self { index, w }
    }

    /// `[batch, heads, length, d]` → `[batch, heads, rows, w, d]`.
    fn rows(&self, t: &Tensor) -> Tensor {
        let [b, h, _, d] = <[i64; 4]>::try_from(t.size()).expect("four axes");
        t.gather(2, &self.index.expand([b, h, self.index.size()[2], d], false), false).unflatten(2, [-1, self.w])
    }
}
