//! `mixarena data export`: the examples of a split as a model gets them, for use elsewhere.

use super::super::{data_error, fail};
use super::bar::{Bar, Unit};
use super::{grouped, settings, task};
use crate::base::exit::Exit;
use crate::base::limits;
use crate::cli::{Cli, ExportArgs, ExportFormat, SplitName};
use crate::registry::Registry;
use serde_json::{Map, Value};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use tasks::{DataDir, DataError, Example, Split, Targets, Task};
use tch::Tensor;

/// The largest array that fits in the zip file an npz is, whose sizes have 32 bits.
const LARGEST_ARRAY: u64 = u32::MAX as u64 - 1024;

/// Why nothing was exported.
enum Failure {
    Data(DataError),
    Write(String),
    TooLarge(String),
}

impl From<DataError> for Failure {
    fn from(error: DataError) -> Self {
        Self::Data(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Write(error.to_string())
    }
}

impl From<SplitName> for Split {
    fn from(name: SplitName) -> Self {
        match name {
            SplitName::Train => Self::Train,
            SplitName::Validation => Self::Validation,
            SplitName::Test => Self::Test,
        }
    }
}

/// Runs the command.
pub fn export(args: &ExportArgs, cli: &Cli, registry: &Registry) -> Result<Exit, Exit> {
    let entry = task(&args.name, registry)?;
    let settings = settings(entry, &args.source.sets)?;
    let format = format_of(args)?;
    let opened = entry.open(&settings, &DataDir(args.source.data.clone()));
    let task = opened.map_err(|error| {
        data_error(&error);
        Exit::Environment
    })?;
    let split = Split::from(args.split);
    if args.limit.is_none() && task.len(split) >= tasks::FRESH {
        let problem =
            format!("{} of {} never ends: its examples are drawn as they are needed", split.name(), args.name);
        fail(problem, "say how many with --limit, or write `train_examples: N`");
        return Err(Exit::Usage);
    }
    let rows = args.limit.unwrap_or(u64::MAX).min(task.len(split));
    let part = part_of(&args.out);
    let mut bar = Bar::new(args.name.clone(), Unit::Examples, cli.quiet);
    bar.begin(0, Some(rows));
    let examples = Examples { task: &*task, split, rows, bar };
    let written = match format {
        ExportFormat::Jsonl => write_jsonl(examples, &part),
        ExportFormat::Npz => write_npz(examples, &part),
    };
    let written = written.and_then(|()| Ok(fs::rename(&part, &args.out)?));
    if let Err(failure) = written {
        let _ = fs::remove_file(&part); // the first error is the one to tell
        return Err(refuse(failure, &args.out));
    }
    println!("{}: {} examples of {} {}", args.out.display(), grouped(rows), args.name, split.name());
    Ok(Exit::Ok)
}

fn format_of(args: &ExportArgs) -> Result<ExportFormat, Exit> {
    let by_name = match args.out.extension().and_then(|extension| extension.to_str()) {
        Some("jsonl") => Some(ExportFormat::Jsonl),
        Some("npz") => Some(ExportFormat::Npz),
        _ => None,
    };
    args.format.or(by_name).ok_or_else(|| {
        fail(format!("--out {}: its name does not tell its form", args.out.display()), "add --format jsonl or npz");
        Exit::Usage
    })
}

fn part_of(out: &Path) -> PathBuf {
    let mut name = out.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

fn refuse(failure: Failure, out: &Path) -> Exit {
    match failure {
        Failure::Data(error) => data_error(&error),
        Failure::Write(why) => {
            fail(format!("{}: {why}", out.display()), "make room, or name another file; nothing half-made is kept");
        }
        Failure::TooLarge(problem) => {
            fail(format!("{}: {problem}", out.display()), "take --format jsonl, or fewer examples with --limit N");
            return Exit::Usage;
        }
    }
    Exit::Environment
}

/// The examples asked for, one after the other.
struct Examples<'a> {
    task: &'a dyn Task,
    split: Split,
    rows: u64,
    bar: Bar,
}

impl Examples<'_> {
    fn each(&mut self, mut visit: impl FnMut(u64, &Example) -> Result<(), Failure>) -> Result<(), Failure> {
        for index in 0..self.rows {
            visit(index, &self.task.example(self.split, index)?)?;
            self.bar.at(index + 1);
        }
        Ok(())
    }
}

fn write_jsonl(mut examples: Examples, path: &Path) -> Result<(), Failure> {
    let mut file = BufWriter::with_capacity(1 << 18, File::create(path)?);
    examples.each(|_, example| {
        serde_json::to_writer(&mut file, &as_json(example)).map_err(io::Error::from)?;
        Ok(file.write_all(b"\n")?)
    })?;
    file.flush()?;
    Ok(file.get_ref().sync_all()?)
}

fn as_json(example: &Example) -> Value {
    let mut object = Map::new();
    object.insert("tokens".into(), example.tokens.clone().into());
    if let Some(second) = &example.second {
        object.insert("second".into(), second.clone().into());
    }
    match &example.targets {
        Targets::PerSequence(classes) => drop(object.insert("label".into(), classes.first().copied().into())),
        Targets::PerPosition { positions, classes } => {
            object.insert("positions".into(), positions.clone().into());
            object.insert("classes".into(), classes.clone().into());
        }
    }
    object.into()
}

/// Rows of different lengths, to become one padded array.
#[derive(Default)]
struct Ragged {
    tokens: Vec<i32>,
    lengths: Vec<i64>,
    longest: usize,
}

impl Ragged {
    fn push(&mut self, row: &[i64]) {
        self.tokens.extend(row.iter().map(|&token| i32::try_from(token).expect("a vocabulary is smaller than 2^31")));
        self.lengths.push(row.len() as i64);
        self.longest = self.longest.max(row.len());
    }

    /// Bytes once padded.
    fn padded(&self) -> u64 {
        4 * self.lengths.len() as u64 * self.longest as u64
    }

    /// `[rows, longest]`, and the lengths.
    fn tensors(self, pad_token: i64) -> (Tensor, Tensor) {
        let longest = self.longest;
        let pad = i32::try_from(pad_token).expect("a vocabulary is smaller than 2^31");
        let mut padded = vec![pad; self.lengths.len() * longest];
        let mut start = 0;
        for (row, &length) in self.lengths.iter().enumerate() {
            let (at, length) = (row * longest, length as usize);
            padded[at..at + length].copy_from_slice(&self.tokens[start..start + length]);
            start += length;
        }
        let tokens = Tensor::from_slice(&padded).view([self.lengths.len() as i64, longest as i64]);
        (tokens, Tensor::from_slice(&self.lengths))
    }
}

fn write_npz(mut examples: Examples, path: &Path) -> Result<(), Failure> {
    let spec = examples.task.spec();
    let (mut first, mut second) = (Ragged::default(), Ragged::default());
    let (mut labels, mut rows, mut positions, mut classes) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let room = limits::available_memory().unwrap_or(u64::MAX) / 3;
    examples.each(|index, example| {
        first.push(&example.tokens);
        example.second.iter().for_each(|document| second.push(document));
        match &example.targets {
            Targets::PerSequence(class) => labels.extend_from_slice(class),
            Targets::PerPosition { positions: at, classes: wanted } => {
                rows.extend(at.iter().map(|_| index as i64));
                positions.extend_from_slice(at);
                classes.extend_from_slice(wanted);
            }
        }
        let largest = first.padded().max(second.padded());
        if largest > LARGEST_ARRAY {
            return Err(Failure::TooLarge("an array of an npz file holds at most 4 GB, and this one is larger".into()));
        }
        match first.padded() + second.padded() > room {
            true => Err(Failure::TooLarge("the arrays do not fit in memory".into())),
            false => Ok(()),
        }
    })?;
    let mut arrays = Vec::new();
    let (tokens, lengths) = first.tensors(spec.pad_token);
    arrays.extend([("tokens", tokens), ("lengths", lengths)]);
    if spec.documents == 2 {
        let (tokens, lengths) = second.tensors(spec.pad_token);
        arrays.extend([("second", tokens), ("second_lengths", lengths)]);
    }
    if spec.output == tasks::Output::PerSequence {
        arrays.push(("labels", Tensor::from_slice(&labels)));
    } else {
        let lists = [("rows", rows), ("positions", positions), ("classes", classes)];
        arrays.extend(lists.map(|(name, list)| (name, Tensor::from_slice(&list))));
    }
    arrays.push(("pad_token", Tensor::from_slice(&[spec.pad_token])));
    Tensor::write_npz(&arrays, path).map_err(|error| Failure::Write(error.to_string()))?;
    ends_whole(path)
}

/// Whether the zip's last record, 22 bytes that begin with `PK\5\6`, reached the disk: the writer does not say when the
/// last bytes of a file find no room.
fn ends_whole(path: &Path) -> Result<(), Failure> {
    let mut file = File::options().read(true).write(true).open(path)?;
    let mut last = [0; 22];
    let there = file.seek(SeekFrom::End(-22)).and_then(|_| file.read_exact(&mut last)).is_ok();
    if !there || !last.starts_with(b"PK\x05\x06") {
        return Err(Failure::Write("its end was not written; is the disk full?".into()));
    }
    Ok(file.sync_all()?)
}
