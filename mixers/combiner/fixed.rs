//! Fixed: own row directly, one summary for each other row.

use super::inner::{Core, Operands, hide, pairs, rows, unrows, veil};
use tch::Tensor;

pub fn attend(core: &Core, o: &Operands, train: bool) -> Tensor {
    let (length, w) = (o.length(), core.segment);
    let [q, k, _, v] = o.heads().map(|t| rows(&t, w)); // [batch, heads, rows, w, d]
    let (n, kind, device) = (q.size()[2], q.kind(), q.device());
    // Causal readers look only at whole earlier rows and at their own past: padding on the right is never read.
    let valid = if core.causal { None } else { o.valid(w) };

    let pooled = |t: &Tensor, which| core.pool(&core.mapped(t, which, &o.learned), valid.as_ref());
    let (summary_q, summary) = (pooled(&q, 0), pooled(&k, 1)); // [batch, heads, rows, d]
    let local = summary_q.unsqueeze(-2).matmul(&k.transpose(-2, -1));
    if let Some(valid) = &valid {
        hide(&local, &veil(valid, kind).unsqueeze(-2));
    }
    let read = core.drop(local.softmax(-1, kind), train).matmul(&v).squeeze_dim(-2);

    // One softmax over a row's own keys and all summaries, [batch, heads, rows, w, w + rows].
    let joined = |own: &Tensor, regions: &Tensor| {
        let [b, h, r, d] = <[i64; 4]>::try_from(regions.size()).expect("four axes");
        Tensor::cat(&[own, &regions.unsqueeze(2).expand([b, h, n, r, d], false)], 3)
    };
    let logits = q.matmul(&joined(&k, &summary).transpose(-2, -1));
    let (own, regions) = (logits.narrow(-1, 0, w), logits.narrow(-1, w, n));
    if core.causal {
        hide(&own, &veil(&pairs(w, device, |i, j| j.le_tensor(i)), kind));
    }
    if core.causal {
        hide(&regions, &veil(&pairs(n, device, |i, j| j.lt_tensor(i)), kind).unsqueeze(1));
    } else if !core.own_segment {
        hide(&regions, &veil(&pairs(n, device, |i, j| j.ne_tensor(i)), kind).unsqueeze(1));
    }
    if let Some(valid) = &valid {
        hide(&own, &veil(valid, kind).unsqueeze(-2));
        hide(&regions, &veil(&valid.any_dim(-1, false), kind).unsqueeze(-2).unsqueeze(-2));
    }
    let weights = direct_dropout(core, logits.softmax(-1, kind), w, train);
    unrows(&weights.matmul(&joined(&v, &read)), length)
}

/// Dropout of the first `direct` weights of each row.
pub fn direct_dropout(core: &Core, weights: Tensor, direct: i64, train: bool) -> Tensor {
    if !train || core.dropout == 0.0 {
        return weights;
    }
    let regions = weights.size()[4] - direct;
    let dropped = core.drop(weights.narrow(-1, 0, direct), train);
    Tensor::cat(&[dropped, weights.narrow(-1, direct, regions)], -1)
}
