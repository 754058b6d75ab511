//! Which file computes a pattern, and how many logits it takes.

use super::inner::{Core, Operands};
use super::{Pattern, RowSummary, axial, fixed, lists, logsparse, rowmajor};
use crate::native::kernels::native_for;
use tch::Tensor;

impl Core {
    /// M V, `[batch, length, heads, d_head]`, by libtorch operations whose intermediate results autograd keeps.
    pub fn attend(&self, o: &Operands, train: bool) -> Tensor {
        match self.pattern {
            Pattern::Fixed => fixed::attend(self, o, train),
            Pattern::Logsparse => logsparse::attend(self, o, train),
            Pattern::Rowmajor => rowmajor::attend(self, o, train),
            Pattern::Vertical | Pattern::Horizontal | Pattern::MixtureJoint | Pattern::MixtureAveraged => {
                axial::attend(self, o, train, axial::running_max)
            }
        }
    }

    /// As [`Core::attend`], with the kernels of `lists.rs` where they are made for it.
    pub fn fast(&self, o: &Operands, train: bool) -> Tensor {
        let q = &o.qkv[0];
        if !native_for(q) || (train && self.dropout > 0.0) {
            return self.attend(o, train);
        }
        match self.pattern {
            Pattern::Logsparse if self.causal || o.lengths.is_none() => logsparse::by_lists(self, o),
            Pattern::Vertical | Pattern::Horizontal | Pattern::MixtureJoint | Pattern::MixtureAveraged => {
                axial::attend(self, o, train, lists::running_max)
            }
            _ => self.attend(o, train),
        }
    }

    /// Logits and weights a token computes: each costs a multiply-add per channel.
    pub fn columns(&self, length: i64) -> i64 {
        let (w, rows) = (self.segment, (length + self.segment - 1) / self.segment);
        let (direct, column, row) = (2 * (w + rows), 2 * w + 2 * rows, 2 * rows + 2 * w); // region logits, reads, summaries
        let both = if self.causal { 1 } else { 2 };
        match self.pattern {
            Pattern::Fixed => direct + 2,
            Pattern::Logsparse => 2 + 3 * both * logsparse::levels(length),
            Pattern::Rowmajor => {
                let weighted = matches!(self.row_summary, RowSummary::Wsum | RowSummary::WsumProj);
                direct + w + if weighted { w } else { 0 }
            }
            Pattern::Vertical => direct + column,
            Pattern::Horizontal => direct + row,
            Pattern::MixtureJoint => direct + both * (column + 2 * row),
            Pattern::MixtureAveraged => 2 * direct + column + row,
        }
    }
}
