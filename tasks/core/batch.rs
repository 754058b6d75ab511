//! Examples, and how they become a padded batch.

use crate::core::rng::{Permutation, Purpose};
use crate::{DataError, Draw, Sections, Split, Task};

/// One sequence and what is asked about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Token ids, unpadded; at least one. Where a position has several numbers they follow each other.
    pub tokens: Vec<i64>,
    /// The second document of a task about pairs; at least one token.
    pub second: Option<Vec<i64>>,
    /// Where the second segment of a sequence of two texts begins: from there on a token's type is 1, before it 0.
    pub segment: Option<usize>,
    /// What is asked.
    pub targets: Targets,
}

/// What is asked of a sequence, or of a batch of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Targets {
    /// One class for each row.
    PerSequence(Vec<i64>),
    /// Classes at scored positions. In an example a position counts from the sequence's start; in a batch it is
    /// `row * length + position`. Positions rise.
    PerPosition {
        /// Where.
        positions: Vec<i64>,
        /// Which class.
        classes: Vec<i64>,
    },
}

impl Targets {
    /// The classes asked for, in order.
    pub fn classes(&self) -> &[i64] {
        match self {
            Self::PerSequence(classes) | Self::PerPosition { classes, .. } => classes,
        }
    }
}

impl Example {
    /// An example of one document.
    pub fn new(tokens: Vec<i64>, targets: Targets) -> Self {
        Self { tokens, second: None, segment: None, targets }
    }

    /// Its documents: one or two.
    pub fn documents(&self) -> impl Iterator<Item = &[i64]> {
        std::iter::once(self.tokens.as_slice()).chain(self.second.as_deref())
    }
}

/// A padded batch, row-major `[documents · size, length]`: every example's first document, then every example's second.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Examples.
    pub size: usize,
    /// Documents an example has.
    pub documents: usize,
    /// Longest row, in positions.
    pub length: usize,
    /// Numbers a position has: 1 for tokens.
    pub width: usize,
    /// `documents · size · length · width` token ids.
    pub tokens: Vec<i64>,
    /// Type of each token, shaped as `tokens`; empty where no example has a second segment.
    pub types: Vec<i64>,
    /// Valid length of each row.
    pub lengths: Vec<i64>,
    /// What is asked.
    pub targets: Targets,
}

/// How training examples are put in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Order {
    /// The run's seed: runs of equal seed see equal batches, whatever their mixer.
    pub seed: u64,
    /// Rows of a full batch.
    pub batch_size: usize,
}

/// The provided [`Task::batches`].
pub(crate) fn count<T: Task + ?Sized>(task: &T, split: Split, rows: u64) -> u64 {
    let parts = task.sections(split).parts;
    match (split, parts.as_slice()) {
        (Split::Train, [_, _, ..]) => parts.iter().map(|part| in_epoch(part.examples, rows)).sum(),
        _ => parts.iter().map(|part| part.examples.div_ceil(rows)).sum(),
    }
}

/// Training batches that one of several subsets gives to an epoch.
fn in_epoch(examples: u64, rows: u64) -> u64 {
    (examples / rows).max(u64::from(examples > 0))
}

/// The provided [`Task::batch`].
pub(crate) fn collate<T: Task + ?Sized>(task: &T, split: Split, index: u64, order: &Order) -> Result<Batch, DataError> {
    let rows = order.batch_size as u64;
    let sections = task.sections(split);
    let drawn = |(index, epoch): (u64, u64)| task.drawn(index, Draw { seed: order.seed, epoch });
    let examples: Vec<Example> = match (split, sections.parts.as_slice()) {
        (Split::Train, [_, _, ..]) => {
            let in_all = task.batches(split, rows);
            let of_one = of_one_section(&sections, in_all, index, order);
            of_one.into_iter().map(|i| drawn((i, index / in_all))).collect::<Result<_, _>>()?
        }
        (Split::Train, _) => {
            let n = task.len(split);
            let place = |row| {
                let (epoch, place) = ((index * rows + row) / n, (index * rows + row) % n);
                (Permutation::new(n, order.seed, Purpose::EPOCH, epoch).at(place), epoch)
            };
            (0..rows).map(place).map(drawn).collect::<Result<_, _>>()?
        }
        _ => sections.rows(index, rows).into_iter().map(|i| task.example(split, i)).collect::<Result<_, _>>()?,
    };
    let spec = task.spec();
    Ok(pad(&examples, spec.pad_token, spec.input.width() as usize))
}

/// Training batch `index` of a split of several subsets: their batches are shuffled anew each epoch, and so are the examples
/// within each.
fn of_one_section(sections: &Sections, in_all: u64, index: u64, order: &Order) -> Vec<u64> {
    let rows = order.batch_size as u64;
    let (epoch, place) = (index / in_all, index % in_all);
    let mut batch = Permutation::new(in_all, order.seed, Purpose::EPOCH_BATCHES, epoch).at(place);
    let mut begin = 0;
    for (s, part) in (0_u64..).zip(&sections.parts) {
        let own = in_epoch(part.examples, rows);
        if batch < own && part.examples > 0 {
            let shuffled = Permutation::new(part.examples, order.seed, Purpose::EPOCH_SECTION, epoch << 16 | s);
            let end = part.examples.min((batch + 1) * rows);
            return (batch * rows..end).map(|i| begin + shuffled.at(i)).collect();
        }
        batch -= own;
        begin += part.examples;
    }
    unreachable!("a place in the epoch belongs to one of its subsets")
}

impl Sections {
    /// The subset that example `index` lies in, and its place there.
    ///
    /// # Panics
    /// When the split is shorter.
    pub fn find(&self, index: u64) -> (usize, u64) {
        let mut left = index;
        for (s, part) in self.parts.iter().enumerate() {
            if left < part.examples {
                return (s, left);
            }
            left -= part.examples;
        }
        panic!("example {index} lies beyond the split's end")
    }

    /// The examples of batch `index` in file order.
    pub fn rows(&self, index: u64, rows: u64) -> Vec<u64> {
        let (mut batch, mut begin) = (index, 0);
        for part in &self.parts {
            let own = part.examples.div_ceil(rows);
            if batch < own {
                return (begin + batch * rows..begin + part.examples.min((batch + 1) * rows)).collect();
            }
            batch -= own;
            begin += part.examples;
        }
        Vec::new()
    }

    /// Where batch `index` in file order lies.
    pub fn of_batch(&self, index: u64, rows: u64) -> Option<usize> {
        let first = *self.rows(index, rows).first()?;
        Some(self.find(first).0)
    }
}

/// Fills every row to the longest with `pad_token`.
fn pad(examples: &[Example], pad_token: i64, width: usize) -> Batch {
    let seconds = examples.iter().filter_map(|e| e.second.as_deref());
    let rows: Vec<&[i64]> = examples.iter().map(|e| e.tokens.as_slice()).chain(seconds).collect();
    let length = rows.iter().map(|row| row.len() / width).max().unwrap_or(0);
    let mut tokens = Vec::with_capacity(rows.len() * length * width);
    for (i, row) in rows.iter().enumerate() {
        tokens.extend_from_slice(row);
        tokens.resize((i + 1) * length * width, pad_token);
    }
    // An example of which no position is asked is one of positions all the same.
    let by_position = examples.iter().any(|example| matches!(example.targets, Targets::PerPosition { .. }));
    let (mut sequence, mut positions, mut classes) = (Vec::new(), Vec::new(), Vec::new());
    for (row, example) in examples.iter().enumerate() {
        match &example.targets {
            Targets::PerSequence(class) => sequence.extend_from_slice(class),
            Targets::PerPosition { positions: at, classes: want } => {
                positions.extend(at.iter().map(|p| (row * length) as i64 + p));
                classes.extend_from_slice(want);
            }
        }
    }
    let mut types = Vec::new();
    if examples.iter().any(|example| example.segment.is_some()) {
        types.resize(tokens.len(), 0);
        for (row, example) in examples.iter().enumerate() {
            let start = row * length;
            types[start + example.segment.unwrap_or(example.tokens.len())..start + example.tokens.len()].fill(1);
        }
    }
    let lengths = rows.iter().map(|row| (row.len() / width) as i64).collect();
    let targets =
        if by_position { Targets::PerPosition { positions, classes } } else { Targets::PerSequence(sequence) };
    Batch {
        size: examples.len(),
        documents: rows.len() / examples.len().max(1),
        length,
        width,
        tokens,
        types,
        lengths,
        targets,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_of_positions_of_which_none_is_asked_is_still_one_of_positions() {
        let targets = Targets::PerPosition { positions: Vec::new(), classes: Vec::new() };
        let none = Example::new(vec![1, 2, 3], targets.clone());
        assert_eq!(pad(&[none.clone(), none.clone()], 0, 1).targets, targets);
        let one = Example::new(vec![1, 2], Targets::PerPosition { positions: vec![1], classes: vec![4] });
        let both = Targets::PerPosition { positions: vec![4], classes: vec![4] };
        assert_eq!(pad(&[none, one], 0, 1).targets, both);
        let class = Example::new(vec![1], Targets::PerSequence(vec![2]));
        assert_eq!(pad(&[class], 0, 1).targets, Targets::PerSequence(vec![2]));
    }
}
