//! Many expressions in one piece of memory, drawn or read.

use super::tree::{self, Shape, Symbol};
use crate::DataError;
use crate::Split;
use crate::formats::{self, Found};
use crate::rng::{Purpose, Stream};
use std::collections::HashSet;
use std::path::Path;

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

    /// How many there are.
    pub fn len(&self) -> usize {
        self.labels.len()
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

/// The trees of example (split, index), in the order in which they would be taken.
struct Draws {
    stream: Stream,
    tree: Vec<Symbol>,
}

impl Draws {
    fn new(data_seed: u64, split: Split, index: u64) -> Self {
        Self { stream: Stream::new(data_seed, Purpose::ListOps(split), index), tree: Vec::new() }
    }

    fn next(&mut self, shape: &Shape) -> &[Symbol] {
        // A single stream could be unlucky with settings that barely pass their check.
        while shape.draw(&mut self.stream, &mut self.tree, TRIES).is_none() {}
        &self.tree
    }
}

/// Draws the examples of every split; `counts` in the order of [`Split::ALL`].
///
/// Example i takes the first tree of its own stream that no earlier example has, test before validation before train: the
/// test set does not move when the training set grows. First trees are drawn in parallel, duplicates settled one by one.
pub(super) fn generate(shape: &Shape, counts: [u64; 3], data_seed: u64) -> [Rows; 3] {
    let mut taken: HashSet<[u8; 32]> = HashSet::new();
    let mut splits: [Rows; 3] = Default::default();
    for split in Split::ALL.into_iter().rev() {
        let rows = &mut splits[split as usize];
        let mut index = 0;
        let firsts = in_parallel(counts[split as usize], |index, rows| {
            let mut draws = Draws::new(data_seed, split, index);
            rows.add(draws.next(shape));
        });
        for first in firsts {
            for (i, &label) in first.labels().iter().enumerate() {
                let tree = first.symbols(i);
                if taken.insert(*blake3::hash(tree).as_bytes()) {
                    rows.push(tree, label);
                } else {
                    let mut draws = Draws::new(data_seed, split, index);
                    while !taken.insert(*blake3::hash(draws.next(shape)).as_bytes()) {}
                    rows.add(&draws.tree);
                }
                index += 1;
            }
        }
    }
    splits
}

/// `fill(index, rows)` for each index below `count`, on every core: parts in the order of the indices.
fn in_parallel(count: u64, fill: impl Fn(u64, &mut Rows) + Sync) -> Vec<Rows> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
    let part = count.div_ceil(cores).max(1);
    let fill = &fill;
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..count)
            .step_by(part as usize)
            .map(|start| {
                scope.spawn(move || {
                    let mut rows = Rows::default();
                    (start..count.min(start + part)).for_each(|index| fill(index, &mut rows));
                    rows
                })
            })
            .collect();
        workers.into_iter().map(|worker| worker.join().expect("drawing trees does not panic")).collect()
    })
}

/// Header of the official files.
const HEADER: &[u8] = b"Source\tTarget";

/// Reads the official files, the first `limits` rows of each split (in the order of [`Split::ALL`]), and their
/// fingerprint. With `verify`, each label is held against the value of its expression.
pub(super) fn read(root: &Path, limits: [Option<u64>; 3], verify: bool) -> Result<([Rows; 3], String), DataError> {
    const NAMES: [&str; 3] = ["basic_train.tsv", "basic_val.tsv", "basic_test.tsv"];
    let which = |name: &str| NAMES.iter().position(|file| name.rsplit('/').next() == Some(file));
    let mut splits: [Option<Rows>; 3] = Default::default();
    let mut hashes = std::collections::BTreeMap::new();
    let malformed = |problem| DataError::Malformed { path: root.into(), row: 0, problem };
    formats::visit(
        root,
        |name| which(name).is_some(),
        |found| {
            let split = which(found.name).expect("only wanted files are visited");
            if splits[split].is_some() {
                return Err(malformed(format!(
                    "holds more than one {}; name the folder to use in `path`",
                    NAMES[split]
                )));
            }
            let limit = limits[split].map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
            let (rows, hash) = read_split(found, limit, verify)?;
            splits[split] = Some(rows);
            hashes.insert(NAMES[split].to_owned(), hash);
            Ok(())
        },
    )?;
    for (rows, name) in splits.iter().zip(NAMES) {
        if rows.is_none() {
            return Err(malformed(format!("holds no {name}; expected {}", NAMES.join(", "))));
        }
    }
    Ok((splits.map(|rows| rows.expect("every split was found")), formats::fingerprint(&hashes)))
}

fn read_split(found: Found, limit: usize, verify: bool) -> Result<(Rows, blake3::Hash), DataError> {
    let path = found.path.clone();
    let malformed = |row, problem| DataError::Malformed { path: path.clone(), row, problem };
    let (mut rows, mut symbols) = (Rows::default(), Vec::new());
    let hash = found.lines(|row, line| {
        if row == 1 {
            if line == HEADER {
                return Ok(());
            }
            let found = formats::shorten(line);
            return Err(malformed(row, format!("expected the header `Source<TAB>Target`, found {found}")));
        }
        if rows.len() == limit {
            return Ok(());
        }
        let label = read_row(line, &mut symbols, verify).map_err(|problem| malformed(row, problem))?;
        rows.push(&symbols, label);
        Ok(())
    })?;
    if rows.len() == 0 {
        return Err(malformed(0, "holds no rows; is it a complete download?".into()));
    }
    Ok((rows, hash))
}

/// One row: leaves the expression without its parentheses in `symbols` and gives the label.
fn read_row(line: &[u8], symbols: &mut Vec<Symbol>, verify: bool) -> Result<u8, String> {
    let tab = line.iter().position(|&byte| byte == b'\t').ok_or_else(|| {
        format!("no tab between expression and label in {}; the row may be cut short", formats::shorten(line))
    })?;
    let (source, target) = (&line[..tab], &line[tab + 1..]);
    let label = match target {
        [digit @ b'0'..=b'9'] => digit - b'0',
        [] => return Err("no label after the tab; the row may be cut short".into()),
        other => return Err(format!("the label is {}, expected a digit from 0 to 9", formats::shorten(other))),
    };
    symbols.clear();
    for (i, word) in source.split(|&byte| byte == b' ').filter(|word| !word.is_empty()).enumerate() {
        match word {
            b"(" | b")" => {}
            word => symbols.push(tree::parse(word).ok_or_else(|| {
                format!("token {} is {}, which ListOps does not have", i + 1, formats::shorten(word))
            })?),
        }
    }
    if symbols.is_empty() {
        return Err("the expression is empty".into());
    }
    if verify {
        let value = tree::evaluate(symbols)?;
        if value != label {
            return Err(format!("the label is {label}, but the expression's value is {value}"));
        }
    }
    Ok(label)
}
