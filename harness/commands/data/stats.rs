//! What the examples of a task are: counts, labels, lengths, and those that stand there twice.

use super::bar::Bar;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use tasks::{DataError, Example, FRESH, Output, Sections, Split, Targets, Task, TaskSpec};

/// Examples that break the task's own terms and are named one by one; more are counted.
const NAMED: usize = 5;
/// Examples read of a split that is drawn anew at every step.
const OF_FRESH: u64 = 10_000;

/// What every example of a task says.
#[derive(Debug, Serialize)]
pub struct Stats {
    /// One for each split that holds anything.
    pub splits: Vec<SplitStats>,
    /// Examples of one split that stand in an earlier one too.
    pub between: Vec<Overlap>,
    /// Examples that break the task's terms: the first few, and how many more.
    pub broken: Vec<String>,
}

/// What the examples of a split say.
#[derive(Debug, Serialize)]
pub struct SplitStats {
    /// Its name.
    pub split: Split,
    /// How many.
    pub examples: u64,
    /// Answers by class.
    pub labels: BTreeMap<i64, u64>,
    /// Lengths of documents, in tokens.
    pub lengths: Lengths,
    /// Share of documents that are as long as can be: cut there, or just so long.
    pub at_limit: f64,
    /// Examples that the task's own solver answers from the inputs alone; none where no solver is known.
    pub solved: u64,
    /// Those of them whose answer is the one in the data.
    pub agreed: u64,
    /// Examples that repeat an earlier one of the split.
    pub repeats: u64,
    /// The first of them, with the one it repeats.
    pub first_repeat: Option<[u64; 2]>,
}

/// Least, mean, median (the lower of two) and most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Lengths {
    /// The shortest.
    pub min: u32,
    /// The mean.
    pub mean: f64,
    /// As many are longer as are shorter.
    pub median: u32,
    /// The longest.
    pub max: u32,
}

/// Examples that stand in two splits.
#[derive(Debug, Serialize)]
pub struct Overlap {
    /// The later split.
    pub split: Split,
    /// The earlier one.
    pub earlier: Split,
    /// Examples of the later one whose tokens stand in the earlier one.
    pub examples: u64,
    /// Those of them whose answer differs.
    pub other_label: u64,
    /// The first: its index, and that of the earlier one.
    pub first: [u64; 2],
}

/// One example, as far as it is kept: a 128-bit hash of its tokens and one of its answer.
#[derive(Clone, Copy)]
struct Seen {
    tokens: [u8; 16],
    answer: [u8; 8],
}

/// By the hash of tokens: the first example that has them, and its answer.
type Index = HashMap<[u8; 16], (u64, [u8; 8])>;

/// One split, read.
#[derive(Default)]
struct Read {
    seen: Vec<Seen>,
    lengths: Vec<u32>,
    labels: BTreeMap<i64, u64>,
    solved: u64,
    agreed: u64,
    broken: Vec<(u64, String)>,
}

/// Examples of a split that are read: all of them, and the first ones where they never end.
pub fn shown(task: &dyn Task, split: Split) -> u64 {
    match task.len(split) {
        FRESH.. => OF_FRESH,
        n => n,
    }
}

/// The example at `place` of what is read: itself, and of a split without end each stretch in turn.
fn spread(place: u64, sections: &Sections, len: u64) -> u64 {
    if len < FRESH {
        return place;
    }
    let parts = sections.parts.len().max(1) as u64;
    let before: u64 = sections.parts.iter().take((place % parts) as usize).map(|part| part.examples).sum();
    before + place / parts
}

/// Reads every example of every split, with all cores; of a split without end the first ones.
pub fn measure(task: &dyn Task, bar: &mut Bar) -> Result<Stats, DataError> {
    let spec = task.spec();
    let total = Split::ALL.iter().map(|&split| shown(task, split)).sum();
    bar.begin(0, Some(total));
    let (mut splits, mut between, mut broken) = (Vec::new(), Vec::new(), Vec::new());
    let mut earlier: Vec<(Split, Index)> = Vec::new();
    let mut done = 0;
    for split in Split::ALL {
        let read = read(task, &spec, split, bar, done)?;
        done += shown(task, split);
        broken.extend(read.broken.iter().map(|(index, what)| format!("{} {index}: {what}", split.name())));
        let mut own: Index = HashMap::with_capacity(read.seen.len());
        let (mut repeats, mut first_repeat) = (0, None);
        for (index, seen) in (0..).zip(&read.seen) {
            let before = *own.entry(seen.tokens).or_insert((index, seen.answer));
            if before.0 != index {
                repeats += 1;
                first_repeat.get_or_insert([index, before.0]);
            }
        }
        between.extend(earlier.iter().filter_map(|(name, other)| overlap(split, &read.seen, *name, other)));
        splits.push(summary(split, read, &spec, repeats, first_repeat));
        earlier.push((split, own));
    }
    if broken.len() > NAMED {
        let more = broken.len() - NAMED;
        broken.truncate(NAMED);
        broken.push(format!("and {more} more"));
    }
    Ok(Stats { splits, between, broken })
}

fn overlap(split: Split, seen: &[Seen], earlier: Split, other: &Index) -> Option<Overlap> {
    let mut found: Option<Overlap> = None;
    for (index, one) in (0..).zip(seen) {
        let Some(&(at, answer)) = other.get(&one.tokens) else { continue };
        let overlap = found.get_or_insert(Overlap { split, earlier, examples: 0, other_label: 0, first: [index, at] });
        overlap.examples += 1;
        overlap.other_label += u64::from(answer != one.answer);
    }
    found
}

fn summary(split: Split, read: Read, spec: &TaskSpec, repeats: u64, first_repeat: Option<[u64; 2]>) -> SplitStats {
    let mut sorted = read.lengths;
    sorted.sort_unstable();
    let n = sorted.len();
    let sum: u64 = sorted.iter().map(|&length| u64::from(length)).sum();
    let lengths = match n {
        0 => Lengths::default(),
        _ => Lengths { min: sorted[0], mean: sum as f64 / n as f64, median: sorted[(n - 1) / 2], max: sorted[n - 1] },
    };
    let at_limit = sorted.iter().rev().take_while(|&&length| i64::from(length) >= spec.max_length).count();
    SplitStats {
        split,
        examples: read.seen.len() as u64,
        labels: read.labels,
        solved: read.solved,
        agreed: read.agreed,
        lengths,
        at_limit: if n == 0 { 0.0 } else { at_limit as f64 / n as f64 },
        repeats,
        first_repeat,
    }
}

/// One split in stretches, one for each core.
fn read(task: &dyn Task, spec: &TaskSpec, split: Split, bar: &mut Bar, before: u64) -> Result<Read, DataError> {
    let rows = shown(task, split);
    let workers = crate::base::limits::cores().max(1) as u64;
    let stretch = rows.div_ceil(workers).max(1);
    let (counted, bar) = (AtomicU64::new(before), Mutex::new(bar));
    let parts: Vec<Result<Read, DataError>> = std::thread::scope(|scope| {
        let start = |worker: u64| {
            let (counted, bar) = (&counted, &bar);
            let range = (worker * stretch).min(rows)..((worker + 1) * stretch).min(rows);
            scope.spawn(move || {
                read_stretch(task, spec, split, range, |n| {
                    let done = counted.fetch_add(n, Ordering::Relaxed) + n;
                    if let Ok(mut bar) = bar.try_lock() {
                        bar.at(done);
                    }
                })
            })
        };
        let handles: Vec<_> = (0..workers).map(start).collect();
        handles.into_iter().map(|handle| handle.join().expect("reading examples does not panic")).collect()
    });
    let mut all = Read::default();
    for part in parts {
        let part = part?;
        all.seen.extend(part.seen);
        all.lengths.extend(part.lengths);
        part.labels.into_iter().for_each(|(class, n)| *all.labels.entry(class).or_default() += n);
        all.solved += part.solved;
        all.agreed += part.agreed;
        all.broken.extend(part.broken);
    }
    Ok(all)
}

fn read_stretch(
    task: &dyn Task,
    spec: &TaskSpec,
    split: Split,
    range: std::ops::Range<u64>,
    done: impl Fn(u64),
) -> Result<Read, DataError> {
    /// Examples between two looks at the bar.
    const STEP: u64 = 64;
    let mut read = Read::default();
    let sections = task.sections(split);
    for place in range {
        let index = spread(place, &sections, task.len(split));
        let example = task.example(split, index)?;
        read.seen.push(Seen::of(&example));
        let width = spec.input.width() as usize;
        read.lengths.extend(example.documents().map(|document| (document.len() / width) as u32));
        example.targets.classes().iter().for_each(|&class| *read.labels.entry(class).or_default() += 1);
        if let Some(answer) = task.solve(&example) {
            read.solved += 1;
            read.agreed += u64::from(answer == example.targets.classes());
        }
        read.broken.extend(broken(&example, spec).map(|what| (index, what)));
        if (place + 1).is_multiple_of(STEP) {
            done(STEP);
        }
    }
    Ok(read)
}

impl Seen {
    fn of(example: &Example) -> Self {
        let mut tokens = blake3::Hasher::new();
        let mut bytes = Vec::new();
        for document in example.documents() {
            bytes.clear();
            bytes.extend((document.len() as u64).to_le_bytes());
            // Tokens are below 2^31 in every vocabulary; half the bytes are half the work.
            bytes.extend(document.iter().flat_map(|&token| (token as i32).to_le_bytes()));
            tokens.update(&bytes);
        }
        let mut answer = blake3::Hasher::new();
        if let Targets::PerPosition { positions, .. } = &example.targets {
            for position in positions {
                answer.update(&position.to_le_bytes());
            }
        }
        for class in example.targets.classes() {
            answer.update(&class.to_le_bytes());
        }
        let (tokens, answer) = (tokens.finalize(), answer.finalize());
        Self {
            tokens: *tokens.as_bytes().first_chunk().expect("32 bytes"),
            answer: *answer.as_bytes().first_chunk().expect("32 bytes"),
        }
    }
}

/// How an example breaks the task's own terms.
fn broken(example: &Example, spec: &TaskSpec) -> Option<String> {
    let documents = example.documents().count() as i64;
    if documents != spec.documents {
        return Some(format!("{documents} documents, and the task has {}", spec.documents));
    }
    for document in example.documents() {
        if document.is_empty() {
            return Some("an empty document".into());
        }
        let length = document.len() as i64 / spec.input.width();
        if length > spec.max_length {
            return Some(format!("{length} tokens, more than {}", spec.max_length));
        }
        if let Some(token) = document.iter().find(|token| !(0..spec.vocab_size).contains(token)) {
            return Some(format!("token {token} is not in the vocabulary of {}", spec.vocab_size));
        }
    }
    let classes = example.targets.classes();
    let of = if spec.output == Output::Number { spec.vocab_size } else { spec.classes };
    if spec.output != Output::Value
        && let Some(class) = classes.iter().find(|class| !(0..of).contains(class))
    {
        return Some(format!("class {class} is none of the {of} classes"));
    }
    match (&example.targets, spec.output) {
        (Targets::PerSequence(classes), Output::PerSequence | Output::Value) if classes.len() == 1 => None,
        (
            Targets::PerPosition { positions, classes },
            Output::PerPosition | Output::Reconstruction | Output::Number | Output::Tokens,
        ) => {
            let length = example.tokens.len() as i64 / spec.input.width();
            let inside = positions.iter().all(|&at| (0..length).contains(&at));
            let rising = positions.windows(2).all(|pair| pair[0] < pair[1]);
            (!inside || !rising || positions.len() != classes.len())
                .then(|| "positions that do not rise or lie outside".into())
        }
        _ => Some("another kind of answer than the task's".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::bar::Unit;
    use super::*;
    use tasks::{Bound, Input};

    /// Six examples whose tokens and labels are given.
    #[derive(Debug)]
    struct Given([Vec<(Vec<i64>, i64)>; 3]);

    impl Task for Given {
        fn spec(&self) -> TaskSpec {
            TaskSpec {
                vocab_size: 10,
                input: Input::Tokens,
                documents: 1,
                classes: 2,
                max_length: 4,
                pad_token: 0,
                causal: false,
                output: Output::PerSequence,
                judge: tasks::Judge::Class,
                by_position: None,
                metric: tasks::Metric::accuracy(),
                version: 1,
                marks: Vec::new(),
            }
        }

        fn len(&self, split: Split) -> u64 {
            self.0[split as usize].len() as u64
        }

        fn example(&self, split: Split, index: u64) -> Result<Example, DataError> {
            let (tokens, class) = self.0[split as usize][index as usize].clone();
            Ok(Example::new(tokens, Targets::PerSequence(vec![class])))
        }

        fn floor(&self) -> Result<Bound, DataError> {
            Ok(Bound { score: 0.5, how: String::new() })
        }

        fn ceiling(&self) -> Result<Bound, DataError> {
            self.floor()
        }

        fn solve(&self, _: &Example) -> Option<Vec<i64>> {
            None
        }
    }

    fn measured(splits: [Vec<(Vec<i64>, i64)>; 3]) -> Stats {
        measure(&Given(splits), &mut Bar::new("", Unit::Examples, true)).unwrap()
    }

    #[test]
    fn counts_labels_lengths_and_repeats_are_those_of_the_examples() {
        let stats = measured([
            vec![(vec![1], 0), (vec![1, 2, 3, 4], 1), (vec![1], 0)],
            vec![(vec![5, 6], 1)],
            vec![(vec![1, 2, 3, 4], 0), (vec![5, 6], 1), (vec![1, 2, 3, 4], 1)],
        ]);
        let train = &stats.splits[0];
        assert_eq!((train.examples, train.repeats, train.first_repeat), (3, 1, Some([2, 0])));
        assert_eq!(train.labels, BTreeMap::from([(0, 2), (1, 1)]));
        assert_eq!(train.lengths, Lengths { min: 1, mean: 2.0, median: 1, max: 4 });
        assert!((train.at_limit - 1.0 / 3.0).abs() < 1e-12);
        let found: Vec<_> =
            stats.between.iter().map(|o| (o.split, o.earlier, o.examples, o.other_label, o.first)).collect();
        assert_eq!(found, [(Split::Test, Split::Train, 2, 1, [0, 1]), (Split::Test, Split::Validation, 1, 0, [1, 0])]);
        assert!(stats.broken.is_empty());
    }

    #[test]
    fn examples_that_break_the_terms_are_named_and_counted() {
        let bad = [(vec![], 0), (vec![11], 0), (vec![1; 5], 0), (vec![1], 2), (vec![-1], 0), (vec![1], -1)];
        let stats = measured([bad.to_vec(), Vec::new(), Vec::new()]);
        assert_eq!(
            stats.broken,
            [
                "train 0: an empty document",
                "train 1: token 11 is not in the vocabulary of 10",
                "train 2: 5 tokens, more than 4",
                "train 3: class 2 is none of the 2 classes",
                "train 4: token -1 is not in the vocabulary of 10",
                "and 1 more"
            ]
        );
    }
}
