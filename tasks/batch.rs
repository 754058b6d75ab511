//! Examples, and how they become a padded batch.

use crate::rng::{Permutation, Purpose};
use crate::{DataError, Split, Task};

/// One sequence and what is asked about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Example {
    /// Token ids, unpadded; at least one.
    pub tokens: Vec<i64>,
    /// The second document of a task about pairs; at least one token.
    pub second: Option<Vec<i64>>,
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
        Self { tokens, second: None, targets }
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
    /// Longest row.
    pub length: usize,
    /// `documents · size · length` token ids.
    pub tokens: Vec<i64>,
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

/// The provided [`Task::batch`].
pub(crate) fn collate<T: Task + ?Sized>(task: &T, split: Split, index: u64, order: &Order) -> Result<Batch, DataError> {
    let n = task.len(split);
    let rows = order.batch_size as u64;
    let examples: Vec<Example> = match split {
        Split::Train => (0..rows)
            .map(|row| {
                let drawn = index * rows + row;
                let epoch = Permutation::new(n, order.seed, Purpose::Epoch, drawn / n);
                task.example(split, epoch.at(drawn % n))
            })
            .collect::<Result<_, _>>()?,
        _ => (index * rows..n.min((index + 1) * rows)).map(|i| task.example(split, i)).collect::<Result<_, _>>()?,
    };
    Ok(pad(&examples, task.spec().pad_token))
}

/// Fills every row to the longest with `pad_token`.
fn pad(examples: &[Example], pad_token: i64) -> Batch {
    let seconds = examples.iter().filter_map(|e| e.second.as_deref());
    let rows: Vec<&[i64]> = examples.iter().map(|e| e.tokens.as_slice()).chain(seconds).collect();
    let length = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    let mut tokens = Vec::with_capacity(rows.len() * length);
    for (i, row) in rows.iter().enumerate() {
        tokens.extend_from_slice(row);
        tokens.resize((i + 1) * length, pad_token);
    }
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
    let lengths = rows.iter().map(|row| row.len() as i64).collect();
    let targets =
        if classes.is_empty() { Targets::PerSequence(sequence) } else { Targets::PerPosition { positions, classes } };
    Batch { size: examples.len(), documents: rows.len() / examples.len().max(1), length, tokens, lengths, targets }
}
