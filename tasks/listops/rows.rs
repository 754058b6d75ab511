//! Many expressions in one piece of memory, drawn here.

use super::tree::{self, Shape, Symbol};
use crate::core::rng::{Purpose, Stream};
use crate::data::prepared::{self, Prepared, Request};
use crate::{DataDir, DataError, Split};
use std::collections::HashSet;
use std::convert::Infallible;

/// Expressions end to end, with their values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rows {
    symbols: Vec<Symbol>,
    ends: Vec<usize>,
    labels: Vec<u8>,
}

impl Rows {
    /// Adds an expression.
    pub fn push(&mut self, symbols: &[Symbol], label: u8) {
        self.symbols.extend_from_slice(symbols);
        self.ends.push(self.symbols.len());
        self.labels.push(label);
    }

    /// Adds a drawn tree with its value.
    fn add(&mut self, tree: &[Symbol]) {
        self.push(tree, tree::evaluate(tree).expect("a drawn tree is an expression"));
    }

    /// The symbols of expression `i`.
    pub fn symbols(&self, i: usize) -> &[Symbol] {
        let start = if i == 0 { 0 } else { self.ends[i - 1] };
        &self.symbols[start..self.ends[i]]
    }

    /// The value of each expression.
    pub fn labels(&self) -> &[u8] {
        &self.labels
    }
}

/// Trees drawn for one that is kept before the settings are taken to be impossible. The official settings keep 8 %;
/// settings that keep less than one in this many would take hours to open.
pub(super) const TRIES: u32 = 10_000;

/// Examples drawn at once: memory holds so many, whatever their count.
const BLOCK: u64 = 4096;

/// The trees of example (split, index), in the order in which they would be taken.
struct Draws {
    stream: Stream,
    tree: Vec<Symbol>,
    drawn: u64,
}

impl Draws {
    fn new(data_seed: u64, split: Split, index: u64) -> Self {
        Self { stream: Stream::new(data_seed, Purpose::of_split("listops", split), index), tree: Vec::new(), drawn: 0 }
    }

    fn next(&mut self, shape: &Shape) -> &[Symbol] {
        loop {
            let kept = shape.draw(&mut self.stream, &mut self.tree, TRIES);
            self.drawn += u64::from(kept.unwrap_or(TRIES));
            // A single stream could be unlucky with settings that barely pass their check.
            if kept.is_some() {
                return &self.tree;
            }
        }
    }
}

/// Draws the examples of every split, `counts` in the order of [`Split::ALL`], and keeps them.
pub(super) fn generate(shape: &Shape, counts: [u64; 3], data_seed: u64) -> [Rows; 3] {
    let mut splits: [Rows; 3] = Default::default();
    let Ok(_) = draw(shape, counts, data_seed, |split, tree, label| {
        splits[split as usize].push(tree, label);
        Ok::<(), Infallible>(())
    });
    splits
}

/// Draws the examples of every split into a prepared set, the first time.
pub(super) fn prepare(shape: &Shape, counts: [u64; 3], data_seed: u64, data: &DataDir) -> Result<Prepared, DataError> {
    let Shape { longer_than, shorter_than, max_depth, max_args } = *shape;
    let stamp = prepared::stamp_of_settings(&(longer_than, shorter_than, max_depth, max_args, counts, data_seed));
    let parts = Split::ALL.map(Split::name);
    let request = Request { family: "listops-drawn", version: 1, stamp, parts: &parts, documents: 1 };
    data.prepared(&request, |writer| {
        let mut key = 0;
        draw(shape, counts, data_seed, |split, tree, label| {
            key += 1;
            writer.row(split as usize, key, label, &[tree])
        })?;
        Ok(())
    })
}

/// Draws the examples of every split and hands each to `take`; gives how many trees were drawn.
///
/// Example i takes the first tree of its own stream that no earlier example has, test before validation before train: the
/// test set does not move when the training set grows. First trees are drawn in parallel, duplicates settled one by one.
pub(super) fn draw<E>(
    shape: &Shape,
    counts: [u64; 3],
    data_seed: u64,
    mut take: impl FnMut(Split, &[Symbol], u8) -> Result<(), E>,
) -> Result<u64, E> {
    let mut taken: HashSet<[u8; 32]> = HashSet::new();
    let mut drawn = 0;
    for split in Split::ALL.into_iter().rev() {
        let count = counts[split as usize];
        for start in (0..count).step_by(BLOCK as usize) {
            let mut index = start;
            let firsts = in_parallel(start, count.min(start + BLOCK), |index, rows| {
                let mut draws = Draws::new(data_seed, split, index);
                rows.add(draws.next(shape));
                draws.drawn
            });
            for (first, tries) in firsts {
                drawn += tries;
                for (i, &label) in first.labels().iter().enumerate() {
                    let tree = first.symbols(i);
                    if taken.insert(*blake3::hash(tree).as_bytes()) {
                        take(split, tree, label)?;
                    } else {
                        let mut draws = Draws::new(data_seed, split, index);
                        while !taken.insert(*blake3::hash(draws.next(shape)).as_bytes()) {}
                        drawn += draws.drawn;
                        let value = tree::evaluate(&draws.tree).expect("a drawn tree is an expression");
                        take(split, &draws.tree, value)?;
                    }
                    index += 1;
                }
            }
        }
    }
    Ok(drawn)
}

/// `fill(index, rows)` for each index of `start .. end`, on every core: parts in the order of the indices, each with
/// the sum of what `fill` gave.
fn in_parallel(start: u64, end: u64, fill: impl Fn(u64, &mut Rows) -> u64 + Sync) -> Vec<(Rows, u64)> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let part = (end - start).div_ceil(cores).max(1);
    let fill = &fill;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (start..end)
            .step_by(part as usize)
            .map(|from| {
                scope.spawn(move || {
                    let mut rows = Rows::default();
                    let sum = (from..end.min(from + part)).map(|index| fill(index, &mut rows)).sum();
                    (rows, sum)
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("drawing trees does not panic")).collect()
    })
}
