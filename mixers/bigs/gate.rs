//! The second half of the gated layer, `y = W_o (σ(W_l (a ⊙ b) + β_l) ⊙ σ(W_v h + β_v)) + β_o`.
//!
//! Written in libtorch's operations it keeps a ⊙ b and, at the gate's width, both arguments of σ, both values and their
//! product for the backward, which then holds two gradients of that width. The fast form keeps `W_v h` alone at that width
//! and makes the rest again, a block of rows at a time.

use crate::native::kernels::native_for;
use crate::native::{Backward, attach};
use crate::{Linear, Precision};
use tch::{Kind, Tensor};

/// Rows that are worked on together: a block of the gate stays in the cache.
const ROWS: i64 = 512;

/// The three maps around the gate.
#[derive(Debug)]
pub(super) struct Gate {
    /// `dv`, d → f.
    pub value: Linear,
    /// `dol`, d → f.
    pub open: Linear,
    /// `do`, f → d.
    pub out: Linear,
    /// `approximate` of the GELU.
    pub gelu: &'static str,
}

impl Gate {
    /// `a`, `b` and `h` `[…, d]` → `[…, d]`; without `b` the gate opens by `a` alone.
    pub fn forward(&self, a: &Tensor, b: Option<&Tensor>, h: &Tensor) -> Tensor {
        let full = self.out.precision == Precision::F32;
        if !full || !native_for(a) {
            return self.plain(a, b, h);
        }
        let bias = |map: &Linear| map.bs.as_ref().expect("every map has a bias").shallow_clone();
        let maps = [&self.open, &self.value, &self.out].map(|map| [map.ws.shallow_clone(), bias(map)]);
        let read: Vec<&Tensor> = std::iter::once(a).chain(b).collect();
        fast(&read, h, &maps, self.gelu)
    }

    /// The formula as it stands.
    pub fn plain(&self, a: &Tensor, b: Option<&Tensor>, h: &Tensor) -> Tensor {
        let read = b.map_or_else(|| a.shallow_clone(), |b| a * b);
        (read.apply(&self.open).gelu(self.gelu) * h.apply(&self.value).gelu(self.gelu)).apply(&self.out)
    }
}

/// `read` is a, or a and b; `maps` are weight and bias of W_l, W_v, W_o.
fn fast(read: &[&Tensor], h: &Tensor, maps: &[[Tensor; 2]; 3], gelu: &'static str) -> Tensor {
    let [[w_l, b_l], [w_v, b_v], [w_o, b_o]] = maps;
    let (packed, q, y) = tch::no_grad(|| {
        let packed: Vec<Tensor> = read.iter().chain([&h]).map(|t| t.contiguous()).collect();
        let rows: Vec<Tensor> = packed.iter().map(flat).collect();
        let (h, read) = rows.split_last().expect("h is the last");
        let (q, y) = (Tensor::empty([h.size()[0], w_v.size()[0]], (h.kind(), h.device())), h.empty_like());
        for at in blocks(h) {
            let q = cut(&q, at);
            let _ = b_v.addmm_out(&q, &cut(h, at), &w_v.tr());
            let mut opened = b_l.addmm(&product(read, at), &w_l.tr()).gelu_(gelu);
            let _ = b_o.addmm_out(&cut(&y, at), &opened.g_mul_(&q.gelu(gelu)), &w_o.tr());
        }
        let y = y.view_as(&packed[0]);
        (packed, q, y)
    });
    let inputs: Vec<&Tensor> = read.iter().copied().chain([h]).chain(maps.iter().flatten()).collect();
    let saved: Vec<&Tensor> = packed.iter().chain([&q, w_l, b_l, w_v, w_o]).collect();
    attach(Gated { gelu }, &inputs, &[&y], &saved);
    y
}

struct Gated {
    gelu: &'static str,
}

impl Backward for Gated {
    fn backward(&self, saved: &[Tensor], grads: &[Option<Tensor>]) -> Vec<Option<Tensor>> {
        let (inputs, rest) = saved.split_at(saved.len() - 5);
        let [q, w_l, b_l, w_v, w_o] = rest else { panic!("the gate keeps five tensors besides what it reads") };
        let Some(grad) = &grads[0] else { return (0..inputs.len() + 6).map(|_| None).collect() };
        let g_inputs: Vec<Tensor> = inputs.iter().map(Tensor::empty_like).collect();
        let [rows, g_rows] = [inputs, &g_inputs].map(|list| list.iter().map(flat).collect::<Vec<Tensor>>());
        let (h, read) = rows.split_last().expect("h is the last");
        let (g_h, g_read) = g_rows.split_last().expect("h is the last");
        let [mut g_wl, mut g_wv, mut g_wo] = [w_l, w_v, w_o].map(Tensor::zeros_like);
        let [mut g_bl, mut g_bv] = [b_l, b_l].map(Tensor::zeros_like);
        let grad = flat(grad);
        let sum = |t: &Tensor| t.sum_dim_intlist([0].as_slice(), false, None::<Kind>);
        for at in blocks(h) {
            let [q, h, g] = [q, h, &grad].map(|t| cut(t, at));
            let ab = product(read, at);
            let p = b_l.addmm(&ab, &w_l.tr());
            let (mut opened, mut value) = (p.gelu(self.gelu), q.gelu(self.gelu));
            let _ = g_wo.addmm_(&g.tr(), &(&opened * &value));
            let g = g.mm(w_o);
            let g_q = q.gelu_backward(&opened.g_mul_(&g), self.gelu);
            let g_p = p.gelu_backward(&value.g_mul_(&g), self.gelu);
            let _ = g_q.mm_out(&cut(g_h, at), w_v);
            let _ = g_wv.addmm_(&g_q.tr(), &h);
            let _ = g_wl.addmm_(&g_p.tr(), &ab);
            let _ = g_bv.g_add_(&sum(&g_q));
            let _ = g_bl.g_add_(&sum(&g_p));
            match (read, g_read) {
                ([a, b], [g_a, g_b]) => {
                    let g = g_p.mm(w_l);
                    let _ = g.mul_out(&cut(g_a, at), &cut(b, at));
                    let _ = g.mul_out(&cut(g_b, at), &cut(a, at));
                }
                _ => {
                    let _ = g_p.mm_out(&cut(&g_read[0], at), w_l);
                }
            }
        }
        g_inputs.into_iter().chain([g_wl, g_bl, g_wv, g_bv, g_wo, sum(&grad)]).map(Some).collect()
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
    use crate::laws::goldens::relative_error;
    use crate::laws::testing::noise;

    #[test]
    fn the_fast_gate_is_the_plain_one_in_values_and_gradients() {
        for (kind, tolerance) in [(Kind::Double, 1e-12), (Kind::Float, 2e-5)] {
            for (rows, both, gelu) in [(3, true, "none"), (3, false, "tanh"), (700, true, "tanh"), (700, false, "none")]
            {
                let leaf = |shape: &[i64], salt| noise(shape, salt).to_kind(kind).set_requires_grad(true);
                let leaves = [
                    leaf(&[2, rows, 6], 1),
                    leaf(&[2, rows, 6], 2),
                    leaf(&[2, rows, 6], 3),
                    leaf(&[10, 6], 4),
                    leaf(&[10], 5),
                    leaf(&[10, 6], 6),
                    leaf(&[10], 7),
                    leaf(&[6, 10], 8),
                    leaf(&[6], 9),
                ];
                let [a, b, h, w_l, b_l, w_v, b_v, w_o, b_o] = leaves.each_ref().map(Tensor::shallow_clone);
                let linear = |ws, bs| Linear { ws, bs: Some(bs), precision: Precision::F32 };
                let gate = Gate { value: linear(w_v, b_v), open: linear(w_l, b_l), out: linear(w_o, b_o), gelu };
                let asked: Vec<&Tensor> =
                    leaves.iter().enumerate().filter(|(i, _)| both || *i != 1).map(|l| l.1).collect();
                let gradients = |y: &Tensor| {
                    let loss = (y * noise(&y.size(), 10).to_kind(kind)).sum(kind);
                    let mut all = Tensor::run_backward(&[loss], &asked, false, false);
                    all.push(y.detach());
                    all
                };
                let other = both.then_some(&b);
                let fast = gradients(&gate.forward(&a, other, &h));
                let slow = gradients(&gate.plain(&a, other, &h));
                for (i, (fast, slow)) in fast.iter().zip(&slow).enumerate() {
                    let error = relative_error(fast, slow);
                    assert!(error < tolerance, "{i} is {error:.1e} off at {rows} rows, {both}, {gelu}, {kind:?}");
                }
            }
        }
    }
}
