//! Vertical, horizontal and their mixtures: own row and own column directly, other columns and parts of other rows
//! summarised.

use super::inner::{Core, Operands, hide, pairs, rows, unrows, veil};
use super::{Pattern, Pool};
use tch::{Device, Kind, Tensor};

/// Which tokens of a line (a row or a column) a reader's region holds, seen from the reader's place on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Before,
    After,
    /// Both of them as one region.
    Others,
}

impl Part {
    /// Whether the region of the reader at a place of a line of `n` holds each of its places, boolean `[n, n]`.
    fn pairs(self, n: i64, device: Device) -> Tensor {
        pairs(n, device, |at, i| match self {
            Self::Before => i.lt_tensor(at),
            Self::After => i.gt_tensor(at),
            Self::Others => i.ne_tensor(at),
        })
    }
}

/// The regions of a pattern: parts of every column, and of every row.
fn regions(core: &Core, pattern: Pattern) -> (&'static [Part], &'static [Part]) {
    use Part::{After, Before, Others};
    match pattern {
        Pattern::Vertical => (&[Before], &[]),
        Pattern::Horizontal => (&[], &[Others]),
        _ if core.causal => (&[Before], &[Before, After]),
        _ => (&[Before, After], &[Before, After]),
    }
}

/// A running maximum: [`super::lists::running_max`], or its twin.
pub type Scan = fn(&Tensor, bool, f64) -> Tensor;

pub fn attend(core: &Core, o: &Operands, train: bool, scan: Scan) -> Tensor {
    let grid = Grid::new(core, o, scan);
    match core.pattern {
        Pattern::MixtureAveraged => {
            let [a, b] = [Pattern::Vertical, Pattern::Horizontal].map(|p| grid.attend(core, p, train));
            unrows(&((a + b) / 2.0), o.length())
        }
        pattern => unrows(&grid.attend(core, pattern, train), o.length()),
    }
}

/// Everything on the grid of rows and columns.
struct Grid {
    /// q, k, v: `[batch, heads, rows, w, d]`, and by column `[batch, heads, w, rows, d]`.
    by_row: Lines,
    by_column: Lines,
    /// Positions that hold data, `[batch or 1, 1, rows, w]`; `None` when all do, or when nobody looks.
    valid: Option<Tensor>,
    scan: Scan,
}

/// Lines of tokens, `[batch, heads, lines, tokens, d]`.
struct Lines {
    q: Tensor,
    k: Tensor,
    v: Tensor,
    /// f(q) and f(k).
    mapped: [Tensor; 2],
}

impl Grid {
    fn new(core: &Core, o: &Operands, scan: Scan) -> Self {
        let [q, k, _, v] = o.heads().map(|t| rows(&t, core.segment));
        // Causal readers look only at whole earlier rows and at their own past: padding on the right is never read.
        let valid = if core.causal { None } else { o.valid(core.segment) };
        let mapped = [(&q, 0), (&k, 1)].map(|(t, which)| core.mapped(t, which, &o.learned));
        // Pools of a sum leave padding out by themselves once it is zero; only sums are bidirectional.
        let mapped = match &valid {
            Some(valid) => mapped.map(|t| t.masked_fill(&valid.logical_not().unsqueeze(-1), 0.0)),
            None => mapped,
        };
        let across = |t: &Tensor| t.transpose(2, 3).contiguous();
        let by_column = Lines { q: across(&q), k: across(&k), v: across(&v), mapped: mapped.each_ref().map(across) };
        Self { by_row: Lines { q, k, v, mapped }, by_column, valid, scan }
    }

    /// M V on the grid.
    fn attend(&self, core: &Core, pattern: Pattern, train: bool) -> Tensor {
        let (by_row, by_column) = (&self.by_row, &self.by_column);
        let (kind, device) = (by_row.q.kind(), by_row.q.device());
        let (n, w) = (by_row.q.size()[2], by_row.q.size()[3]);
        let (columns, parts) = regions(core, pattern);
        let across = |t: &Tensor| t.transpose(2, 3);
        let strictly = |n| veil(&pairs(n, device, |i, j| j.lt_tensor(i)), kind);
        let whole = |t: &Tensor| veil(t, kind).unsqueeze(-2);
        let valid_across = self.valid.as_ref().map(across);
        let used = |valid: &Option<Tensor>| valid.as_ref().map(|v| whole(&v.any_dim(-1, false)).unsqueeze(-2));
        let (rows_used, columns_used) = (used(&self.valid), used(&valid_across));

        // What a token reads along its own row: the row's tokens, and a region of every column.
        let mut keys = vec![by_row.k.shallow_clone()];
        let mut values = vec![by_row.v.shallow_clone()];
        for part in columns {
            let [key, value] = by_column.summaries(core, *part, valid_across.as_ref(), train, self.scan);
            keys.push(across(&key));
            values.push(across(&value));
        }
        let row_values = Tensor::cat(&values, 3);
        let in_row = by_row.q.matmul(&Tensor::cat(&keys, 3).transpose(-2, -1)); // [batch, heads, rows, w, w · (1 + regions)]
        let of = |i: i64| in_row.narrow(-1, i * w, w);
        if core.causal {
            hide(&of(0), &veil(&pairs(w, device, |i, j| j.le_tensor(i)), kind));
            if !columns.is_empty() {
                hide(&of(1), &veil(&pairs(w, device, |i, j| j.ne_tensor(i)), kind));
                hide(&of(1).narrow(2, 0, 1), &veil(&Tensor::zeros([1], (Kind::Bool, device)), kind)); // nothing is above row 0
            }
        } else if let (Some(valid), Some(columns_used)) = (&self.valid, &columns_used) {
            hide(&of(0), &whole(valid));
            (1..=columns.len() as i64).for_each(|i| hide(&of(i), columns_used));
        }

        // What it reads along its own column: the column's tokens, and a region of every row.
        let mut keys = vec![by_column.k.shallow_clone()];
        let mut values = vec![by_column.v.shallow_clone()];
        for part in parts {
            let [key, value] = by_row.summaries(core, *part, self.valid.as_ref(), train, self.scan);
            keys.push(across(&key));
            values.push(across(&value));
        }
        let column_values = Tensor::cat(&values, 3);
        let in_column = by_column.q.matmul(&Tensor::cat(&keys, 3).transpose(-2, -1)); // [batch, heads, w, rows, rows · …]
        let of = |i: i64| in_column.narrow(-1, i * n, n);
        if core.causal {
            let earlier = strictly(n);
            (0..=parts.len() as i64).for_each(|i| hide(&of(i), &earlier));
            let nothing = veil(&Tensor::zeros([1], (Kind::Bool, device)), kind);
            for (i, part) in (1..).zip(parts) {
                match part {
                    Part::Before => hide(&of(i).narrow(2, 0, 1), &nothing),
                    Part::After => hide(&of(i).narrow(2, w - 1, 1), &nothing),
                    Part::Others if w == 1 => hide(&of(i), &nothing),
                    Part::Others => {}
                }
            }
        } else if let (Some(valid), Some(rows_used)) = (&valid_across, &rows_used) {
            hide(&of(0), &whole(valid));
            (1..=parts.len() as i64).for_each(|i| hide(&of(i), rows_used));
        }

        let widths = [in_row.size()[4], in_column.size()[4]];
        let weights = Tensor::cat(&[in_row.shallow_clone(), across(&in_column)], -1).softmax(-1, kind);
        let weights = weights.split_with_sizes(widths, -1);
        let along_row = weights[0].matmul(&row_values);
        let along_column = across(&weights[1]).matmul(&column_values);
        along_row + across(&along_column)
    }
}

impl Lines {
    /// k_Ω and u_Ω of the region that `part` cuts from each line at each of its places, `[batch, heads, lines, tokens, d]`.
    /// A region without tokens has the key 0 and reads its line evenly.
    fn summaries(&self, core: &Core, part: Part, valid: Option<&Tensor>, train: bool, scan: Scan) -> [Tensor; 2] {
        let (tokens, kind) = (self.k.size()[3], self.k.kind());
        let [q, key] = self.mapped.each_ref().map(|t| partial(core.pool, &t.flatten(0, 2), part, scan).view_as(t));
        let logits = q.matmul(&self.k.transpose(-2, -1));
        let inside = part.pairs(tokens, self.k.device());
        hide(&logits, &veil(&inside, kind));
        if let Some(valid) = valid {
            // Deeper than what lies outside the region: an empty region reads the valid tokens of its line.
            hide(&logits, &(veil(valid, kind) * 2.0).unsqueeze(-2));
        }
        [key, core.drop(logits.softmax(-1, kind), train).matmul(&self.v)]
    }
}

/// Pools of what lies before (after, around) each place along the second of three axes; zero where that is nothing. `scan` is
/// for maxima.
fn partial(pool: Pool, t: &Tensor, part: Part, scan: Scan) -> Tensor {
    let n = t.size()[1];
    if pool == Pool::Max {
        return match part {
            Part::Before => scan(t, false, 0.0),
            Part::After => scan(t, true, 0.0),
            Part::Others if n == 1 => t.zeros_like(),
            Part::Others => scan(t, false, f64::NEG_INFINITY).maximum(&scan(t, true, f64::NEG_INFINITY)),
        };
    }
    let held = part.pairs(n, t.device()).to_kind(t.kind());
    let count = held.sum_dim_intlist([-1].as_slice(), true, t.kind()).clamp_min(1.0);
    let sum = held.matmul(t);
    if pool == Pool::Mean { sum / count } else { sum }
}

/// The twin of [`super::lists::running_max`], of libtorch operations.
pub fn running_max(t: &Tensor, reverse: bool, nothing: f64) -> Tensor {
    let turned = |t: Tensor| if reverse { t.flip([1]) } else { t };
    let there = turned(t.shallow_clone());
    let earlier = there.narrow(1, 0, t.size()[1] - 1);
    let largest = if earlier.size()[1] > 0 { earlier.cummax(1).0 } else { earlier };
    turned(Tensor::cat(&[there.narrow(1, 0, 1).full_like(nothing), largest], 1))
}
