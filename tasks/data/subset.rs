//! Which rows of a data set are used, and which of them validate: the same share of every class.

use crate::core::rng::{Permutation, Purpose};
use crate::data::prepared::{Part, Prepared};
use crate::{Bound, Split, core::bounds};

/// Rows by number.
pub(crate) type Rows = Vec<u32>;

/// A prepared set, and which of its rows are examples.
#[derive(Debug)]
pub(crate) struct Subset {
    pub(crate) set: Prepared,
    /// The part of the set that each split lies in, and its rows there, in the order of [`Split::ALL`].
    pub(crate) splits: [(usize, Rows); 3],
}

impl Subset {
    pub(crate) fn len(&self, split: Split) -> u64 {
        self.splits[split as usize].1.len() as u64
    }

    /// The part that an example lies in, and its row there.
    pub(crate) fn place(&self, split: Split, index: u64) -> (&Part, usize) {
        let (part, rows) = &self.splits[split as usize];
        (&self.set.parts[*part], rows[index as usize] as usize)
    }

    pub(crate) fn label(&self, split: Split, index: u64) -> u8 {
        let (part, row) = self.place(split, index);
        part.labels()[row]
    }

    pub(crate) fn labels(&self, split: Split) -> impl Iterator<Item = u8> {
        (0..self.len(split)).map(move |index| self.label(split, index))
    }

    /// The commonest class of test.
    pub(crate) fn floor(&self) -> Bound {
        bounds::constant(self.labels(Split::Test))
    }
}

/// A remark for each split that holds fewer `things` than its `…_examples` ask for.
pub(crate) fn shortages(there: [u64; 3], asked: [Option<u64>; 3], things: &str) -> impl Iterator<Item = String> {
    let splits = Split::ALL.into_iter().zip(there).zip(asked);
    splits
        .filter(|((_, there), asked)| asked.is_some_and(|asked| asked > *there))
        .map(move |((split, there), _)| format!("{0} holds {there} {things}, fewer than `{0}_examples`", split.name()))
}

/// A remark where a file holds fewer `things` than its `…_limit` asks for.
pub(crate) fn shortage(file: &str, there: usize, limit: Option<u64>, things: &str) -> Option<String> {
    let limit = limit.filter(|&limit| limit > there as u64)?;
    Some(format!("{file} holds {there} {things}, fewer than `{file}_limit` = {limit}"))
}

/// Takes `limit` rows, as many of each class as can be, and sets `fraction` of each class apart (at least one of a
/// class that has two, unless the fraction is 0). Gives (set apart, rest), each in the order of `labels`. The rows of a
/// smaller limit are among those of a larger one.
///
/// # Panics
/// When a label is not below `classes`.
pub(crate) fn choose(labels: &[u8], classes: usize, limit: Option<u64>, fraction: f64, seed: u64) -> (Rows, Rows) {
    let mut counts = vec![0_u64; classes];
    labels.iter().for_each(|&label| counts[usize::from(label)] += 1);
    let quotas = quotas(&counts, limit);
    let apart = |quota: u64| {
        let share = (quota as f64 * fraction).round() as u64;
        if fraction > 0.0 { share.clamp(1, quota.max(2) - 1) } else { 0 }
    };
    let apart: Vec<u64> = quotas.iter().map(|&quota| apart(quota)).collect();
    let order = |(class, &count): (usize, &u64)| Permutation::new(count, seed, Purpose::SUBSET, class as u64);
    let ranks: Vec<Permutation> = counts.iter().enumerate().map(order).collect();
    let (mut set_apart, mut rest, mut seen) = (Rows::new(), Rows::new(), vec![0_u64; classes]);
    for (row, &label) in (0..).zip(labels) {
        let class = usize::from(label);
        let rank = ranks[class].at(seen[class]);
        seen[class] += 1;
        if rank >= quotas[class] {
            continue;
        }
        if rank < apart[class] { set_apart.push(row) } else { rest.push(row) }
    }
    (set_apart, rest)
}

/// How many of each class make up `limit`: equal parts, odd ones to the first classes; what one class lacks the others
/// give.
fn quotas(counts: &[u64], limit: Option<u64>) -> Vec<u64> {
    let mut left = limit.unwrap_or(u64::MAX).min(counts.iter().sum());
    let mut quotas = vec![0; counts.len()];
    while left > 0 {
        let open: Vec<usize> = (0..counts.len()).filter(|&class| quotas[class] < counts[class]).collect();
        let part = (left / open.len() as u64).max(1);
        for class in open {
            let more = part.min(counts[class] - quotas[class]).min(left);
            quotas[class] += more;
            left -= more;
        }
    }
    quotas
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_class_fills_in_for_the_other() {
        assert_eq!(quotas(&[10, 10], Some(7)), [4, 3]);
        assert_eq!(quotas(&[10, 2], Some(8)), [6, 2]);
        assert_eq!(quotas(&[1, 10], Some(8)), [1, 7]);
        assert_eq!(quotas(&[3, 5], None), [3, 5]);
        assert_eq!(quotas(&[9, 0, 9, 1], Some(8)), [4, 0, 3, 1]);
        assert_eq!(quotas(&[0, 0], Some(8)), [0, 0]);
    }

    #[test]
    fn every_row_is_in_one_of_the_two_parts_and_each_class_gives_its_share() {
        let labels: Vec<u8> = (0..400).map(|row| (row % 7 % 4) as u8).collect();
        let (apart, rest) = choose(&labels, 4, None, 0.25, 3);
        let mut all: Vec<u32> = apart.iter().chain(&rest).copied().collect();
        all.sort_unstable();
        assert!(all.into_iter().eq(0..400));
        for class in 0..4 {
            let count = |rows: &[u32]| rows.iter().filter(|&&row| labels[row as usize] == class).count();
            assert!((count(&apart) * 4).abs_diff(count(&apart) + count(&rest)) <= 2);
        }
    }

    #[test]
    fn a_larger_limit_holds_the_rows_of_a_smaller_one() {
        let labels: Vec<u8> = (0..100).map(|row| u8::from(row % 3 == 0)).collect();
        let (_, few) = choose(&labels, 2, Some(11), 0.0, 5);
        let (_, more) = choose(&labels, 2, Some(40), 0.0, 5);
        assert_eq!((few.len(), more.len()), (11, 40));
        assert!(few.iter().all(|row| more.contains(row)));
    }
}
