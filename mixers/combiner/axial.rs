//! Vertical, horizontal and their mixtures: own row and own column directly, other columns and parts of other rows
//! summarised.

use super::inner::{Core, Operands, hide, pairs, rows, unrows, veil};
use super::lists::{self, Lists};
use super::{Pattern, Pool};
use std::sync::Arc;
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
    /// Whether the region of a reader at place `at` of a line holds its place `i`.
    fn holds(self, at: i64, i: i64) -> bool {
        match self {
            Self::Before => i < at,
            Self::After => i > at,
            Self::Others => i != at,
        }
    }

    /// The same for all places of a line of `n`, boolean `[n, n]`.
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

pub fn attend(core: &Core, o: &Operands, train: bool) -> Tensor {
    let grid = Grid::new(core, o);
    match core.pattern {
        Pattern::MixtureAveraged => {
            let [a, b] = [Pattern::Vertical, Pattern::Horizontal].map(|p| grid.attend(core, p, train));
            unrows(&((a + b) / 2.0), o.length())
        }
        pattern => unrows(&grid.attend(core, pattern, train), o.length()),
    }
}

/// The same by lists: no masked logits; causal, no dropout.
pub fn by_lists(core: &Core, o: &Operands) -> Tensor {
    let (length, w) = (o.length(), core.segment);
    let n = (length + w - 1) / w;
    let [q, k, _, v] = o.heads().map(|t| rows(&t, w)); // [batch, heads, rows, w, d]
    let mapped = [(&q, 0), (&k, 1)].map(|(t, which)| core.mapped(t, which, &o.learned));
    let flat = |t: &Tensor| t.flatten(2, 3);
    let place = |r: i64, c: i64| r * w + c;
    // A table of keys and values: the tokens, then a region for every place of the grid and kind of region in turn.
    let (mut keys, mut values) = (vec![flat(&k)], vec![flat(&v)]);
    let mut add = |axis: i64, part: Part| {
        let [region_q, key] = mapped.each_ref().map(|t| {
            let lines = if axis == 2 { t.flatten(0, 1).flatten(2, 3) } else { t.flatten(0, 2) };
            partial(core.pool, &lines, part, lists::running_max).view_as(t)
        });
        let mut tokens = Lists::default();
        for (r, c) in (0..n).flat_map(|r| (0..w).map(move |c| (r, c))) {
            let (at, end) = if axis == 2 { (r, n) } else { (c, w) };
            let on_line = (0..end).filter(|&i| part.holds(at, i));
            tokens.push(on_line.map(|i| if axis == 2 { place(i, c) } else { place(r, i) }));
        }
        values.push(lists::attend(&flat(&region_q), &flat(&k), &flat(&v), &Arc::new(tokens)));
        keys.push(flat(&key));
    };
    let patterns = match core.pattern {
        Pattern::MixtureAveraged => vec![Pattern::Vertical, Pattern::Horizontal],
        pattern => vec![pattern],
    };
    let mut starts = vec![n * w]; // of each pattern's regions in the table
    for &pattern in &patterns {
        let (columns, parts) = regions(core, pattern);
        columns.iter().for_each(|part| add(2, *part));
        parts.iter().for_each(|part| add(3, *part));
        starts.push(starts[starts.len() - 1] + (columns.len() + parts.len()) as i64 * n * w);
    }
    let (keys, values) = (Tensor::cat(&keys, 2), Tensor::cat(&values, 2));
    let readers = flat(&q).narrow(2, 0, length);
    let mut y: Option<Tensor> = None;
    for (&pattern, from) in patterns.iter().zip(starts) {
        let (columns, parts) = regions(core, pattern);
        let mut all = Lists::default();
        for i in 0..length {
            let (r, c) = (i / w, i % w);
            let mut list: Vec<i64> = (place(r, 0)..=i).chain((0..r).map(|t| place(t, c))).collect();
            let mut start = from;
            for _ in columns {
                list.extend((0..w).filter(|&t| r > 0 && t != c).map(|t| start + place(r, t)));
                start += n * w;
            }
            for part in parts {
                let some = (0..w).any(|j| part.holds(c, j));
                list.extend((0..r).filter(|_| some).map(|t| start + place(t, c)));
                start += n * w;
            }
            all.push(list);
        }
        let read = lists::attend(&readers, &keys, &values, &Arc::new(all));
        y = Some(y.map_or_else(|| read.shallow_clone(), |y| (y + &read) / 2.0));
    }
    y.expect("one pattern or two").transpose(1, 2)
}

/// Everything on the grid of rows and columns.
struct Grid {
    /// q, k, v: `[batch, heads, rows, w, d]`, and by column `[batch, heads, w, rows, d]`.
    by_row: Lines,
    by_column: Lines,
    /// Positions that hold data, `[batch or 1, 1, rows, w]`; `None` when all do, or when nobody looks.
    valid: Option<Tensor>,
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
    fn new(core: &Core, o: &Operands) -> Self {
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
        Self { by_row: Lines { q, k, v, mapped }, by_column, valid }
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
            let [key, value] = by_column.summaries(core, *part, valid_across.as_ref(), train);
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
            let [key, value] = by_row.summaries(core, *part, self.valid.as_ref(), train);
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
    fn summaries(&self, core: &Core, part: Part, valid: Option<&Tensor>, train: bool) -> [Tensor; 2] {
        let (tokens, kind) = (self.k.size()[3], self.k.kind());
        let [q, key] =
            self.mapped.each_ref().map(|t| partial(core.pool, &t.flatten(0, 2), part, running_max).view_as(t));
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
/// [`lists::running_max`] or its twin.
fn partial(pool: Pool, t: &Tensor, part: Part, scan: fn(&Tensor, bool, f64) -> Tensor) -> Tensor {
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

/// The twin of [`lists::running_max`], of libtorch operations.
fn running_max(t: &Tensor, reverse: bool, nothing: f64) -> Tensor {
    let turned = |t: Tensor| if reverse { t.flip([1]) } else { t };
    let there = turned(t.shallow_clone());
    let earlier = there.narrow(1, 0, t.size()[1] - 1);
    let largest = if earlier.size()[1] > 0 { earlier.cummax(1).0 } else { earlier };
    turned(Tensor::cat(&[there.narrow(1, 0, 1).full_like(nothing), largest], 1))
}
