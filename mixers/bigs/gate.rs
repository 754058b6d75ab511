//! The second half of the gated layer, `y = W_o (σ(W_l (a ⊙ b) + β_l) ⊙ σ(q)) + β_o`.
//!
//! Written in libtorch's operations it keeps a ⊙ b, σ of both gates and their product for the backward, of which three have
//! the gate's width. The fast form keeps what enters σ and makes the rest again, a block of rows at a time.

use crate::native::{Backward, attach};
use tch::{Device, Kind, Tensor, nn};

/// Rows that are worked on together: a block of the gate stays in the cache.
const ROWS: i64 = 512;

/// The two maps around the gate.
#[derive(Debug)]
pub(super) struct Gate {
    /// `dol`, d → f.
    pub open: nn::Linear,
    /// `do`, f → d.
    pub out: nn::Linear,
    /// `approximate` of the GELU.
    pub gelu: &'static str,
}

impl Gate {
    /// `a` and `b` `[…, d]` (no `b`: the gate opens by `a` alone), `q` `[…, f]` before its σ → `[…, d]`.
    pub fn forward(&self, a: &Tensor, b: Option<&Tensor>, q: &Tensor) -> Tensor {
        match (&self.open.bs, &self.out.bs) {
            (Some(open), Some(out)) if a.device() == Device::Cpu && matches!(a.kind(), Kind::Float | Kind::Double) => {
                let read: Vec<&Tensor> = std::iter::once(a).chain(b).collect();
                fast(&read, q, [&self.open.ws, open, &self.out.ws, out], self.gelu)
            }
            _ => self.plain(a, b, q),
        }
    }

    /// The formula as it stands.
    pub fn plain(&self, a: &Tensor, b: Option<&Tensor>, q: &Tensor) -> Tensor {
        let read = b.map_or_else(|| a.shallow_clone(), |b| a * b);
        (read.apply(&self.open).gelu(self.gelu) * q.gelu(self.gelu)).apply(&self.out)
    }
}

/// `read` is a, or a and b.
fn fast(read: &[&Tensor], q: &Tensor, [w_l, b_l, w_o, b_o]: [&Tensor; 4], gelu: &'static str) -> Tensor {
    let (packed, p, y) = tch::no_grad(|| {
        let packed: Vec<Tensor> = read.iter().chain([&q]).map(|t| t.contiguous()).collect();
        let rows: Vec<Tensor> = packed.iter().map(flat).collect();
        let (q, read) = rows.split_last().expect("q is the last");
        let (p, y) = (q.empty_like(), read[0].empty_like());
        for at in blocks(q) {
            let [q, p, y] = [q, &p, &y].map(|t| cut(t, at));
            let _ = b_l.addmm_out(&p, &product(read, at), &w_l.tr());
            let _ = b_o.addmm_out(&y, &p.gelu(gelu).g_mul_(&q.gelu(gelu)), &w_o.tr());
        }
        let y = y.view_as(&packed[0]);
        (packed, p, y)
    });
    let inputs: Vec<&Tensor> = read.iter().copied().chain([q, w_l, b_l, w_o, b_o]).collect();
    let saved: Vec<&Tensor> = packed.iter().chain([&p, w_l, w_o]).collect();
    attach(Gated { gelu }, &inputs, &[&y], &saved);
    y
}

struct Gated {
    gelu: &'static str,
}

impl Backward for Gated {
    fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
        let (read, rest) = saved.split_at(saved.len() - 4);
        let Some(grad) = &grads[0] else { return (0..read.len() + 5).map(|_| None).collect() };
        let [w_l, w_o] = [&rest[2], &rest[3]];
        let g_read: Vec<Tensor> = read.iter().map(Tensor::empty_like).collect();
        let g_q = rest[0].empty_like();
        let (mut g_wl, mut g_wo) = (w_l.zeros_like(), w_o.zeros_like());
        let mut g_bl = Tensor::zeros([w_l.size()[0]], (w_l.kind(), w_l.device()));
        let [q, p, grad, gq_rows] = [&rest[0], &rest[1], grad, &g_q].map(flat);
        let [read, gread_rows] = [read, &g_read].map(|list| list.iter().map(flat).collect::<Vec<Tensor>>());
        for at in blocks(&q) {
            let [q, p, grad, g_q] = [&q, &p, &grad, &gq_rows].map(|t| cut(t, at));
            let (sp, sq) = (p.gelu(self.gelu), q.gelu(self.gelu));
            let _ = g_wo.addmm_(&grad.tr(), &(&sp * &sq));
            let g = grad.mm(w_o);
            let _ = q.gelu_backward_grad_input(&g_q, &(&g * sp), self.gelu);
            let g_p = p.gelu_backward(&(g * sq), self.gelu);
            g_bl += g_p.sum_dim_intlist([0].as_slice(), false, None::<Kind>);
            let _ = g_wl.addmm_(&g_p.tr(), &product(&read, at));
            match (read.as_slice(), gread_rows.as_slice()) {
                ([a, b], [g_a, g_b]) => {
                    let g = g_p.mm(w_l);
                    let _ = g.mul_out(&cut(g_a, at), &cut(b, at));
                    let _ = g.mul_out(&cut(g_b, at), &cut(a, at));
                }
                _ => {
                    let _ = g_p.mm_out(&cut(&gread_rows[0], at), w_l);
                }
            }
        }
        let g_bo = grad.sum_dim_intlist([0].as_slice(), false, None::<Kind>);
        g_read.into_iter().chain([g_q, g_wl, g_bl, g_wo, g_bo]).map(Some).collect()
    }
}

/// a, or a ⊙ b, at some rows.
fn product(read: &[Tensor], at: (i64, i64)) -> Tensor {
    match read {
        [a, b] => cut(a, at) * cut(b, at),
        _ => cut(&read[0], at),
    }
}

/// `[…, width]` → `[rows, width]`, packed.
fn flat(t: &Tensor) -> Tensor {
    t.contiguous().view([-1, t.size()[t.dim() - 1]])
}

fn cut(t: &Tensor, (from, count): (i64, i64)) -> Tensor {
    t.narrow(0, from, count)
}

/// First row and number of rows of each block.
fn blocks(t: &Tensor) -> impl Iterator<Item = (i64, i64)> + use<> {
    let rows = t.size()[0];
    (0..rows).step_by(ROWS as usize).map(move |from| (from, ROWS.min(rows - from)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::noise;
    use crate::goldens::relative_error;

    #[test]
    fn the_fast_gate_is_the_plain_one_in_values_and_gradients() {
        for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 2e-5)] {
            for (rows, both, gelu) in [(3, true, "none"), (3, false, "tanh"), (700, true, "tanh"), (700, false, "none")]
            {
                let leaf = |shape: &[i64], salt| noise(shape, salt).to_kind(kind).set_requires_grad(true);
                let leaves = [
                    leaf(&[2, rows, 6], 1),
                    leaf(&[2, rows, 6], 2),
                    leaf(&[2, rows, 10], 3),
                    leaf(&[10, 6], 4),
                    leaf(&[10], 5),
                    leaf(&[6, 10], 6),
                    leaf(&[6], 7),
                ];
                let [a, b, q, w_l, b_l, w_o, b_o] = leaves.each_ref().map(Tensor::shallow_clone);
                let linear = |ws, bs| nn::Linear { ws, bs: Some(bs) };
                let gate = Gate { open: linear(w_l, b_l), out: linear(w_o, b_o), gelu };
                let asked: Vec<&Tensor> =
                    leaves.iter().enumerate().filter(|(i, _)| both || *i != 1).map(|l| l.1).collect();
                let gradients = |y: &Tensor| {
                    let loss = (y * noise(&y.size(), 8).to_kind(kind)).sum(kind);
                    let mut all = Tensor::run_backward(&[loss], &asked, false, false);
                    all.push(y.detach());
                    all
                };
                let other = both.then_some(&b);
                let fast = gradients(&gate.forward(&a, other, &q));
                let slow = gradients(&gate.plain(&a, other, &q));
                for (i, (fast, slow)) in fast.iter().zip(&slow).enumerate() {
                    let error = relative_error(fast, slow);
                    assert!(error < tolerance, "{i} is {error:.1e} off at {rows} rows, {both}, {gelu}, {kind:?}");
                }
            }
        }
    }
}
