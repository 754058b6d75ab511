//! `mixarena data verify`: files against their checksums, prepared sets against their hashes, examples against their task.

use super::super::{data_error, fail};
use super::bar::{Bar, Unit};
use super::stats::{SplitStats, Stats, measure};
use super::{grouped, settings, task, tell};
use crate::base::diagnostics::suggest;
use crate::base::exit::Exit;
use crate::cli::{Cli, DataVerifyArgs};
use crate::registry::Registry;
use serde::Serialize;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tasks::data::fetch::{self, DataSet, FileState, SETS};
use tasks::{Bound, DataDir, DataError, Entry, Goodness, Prepared, Split, Task, TaskSpec, data::prepared, listops};

/// A task with more classes than this has its label shares left out of the table; `--json` has them all.
const MANY: usize = 12;
/// Training examples whose distributions are tested.
const DRAWN: u64 = 10_000;
/// A p-value that no draw as specified gives in practice.
const UNLIKELY: f64 = 1e-6;

/// One fetched file.
#[derive(Debug, Serialize)]
struct FileReport {
    set: &'static str,
    path: PathBuf,
    ok: bool,
    found: String,
}

/// One prepared set.
#[derive(Debug, Serialize)]
struct PreparedReport {
    folder: PathBuf,
    ok: bool,
    found: String,
}

/// One task.
#[derive(Debug, Serialize)]
struct TaskReport {
    name: &'static str,
    settings: Value,
    prepared: Vec<PreparedReport>,
    others: Vec<PathBuf>,
    spec: TaskSpec,
    fingerprint: Option<String>,
    floor: Bound,
    notes: Vec<String>,
    stats: Stats,
    distributions: Vec<Goodness>,
    /// Training examples that one core draws a second; none where they are read.
    drawn_per_second: Option<f64>,
}

/// Everything that was looked at.
#[derive(Debug, Default, Serialize)]
struct Report {
    files: Vec<FileReport>,
    tasks: Vec<TaskReport>,
    failures: Vec<String>,
}

/// Runs the command.
pub fn verify(args: &DataVerifyArgs, cli: &Cli, registry: &Registry) -> Result<Exit, Exit> {
    if !args.labels.is_empty() {
        return Ok(check_labels(&args.labels));
    }
    let data = DataDir(args.source.data.clone());
    let (sets, tasks) = chosen(args, registry)?;
    let mut report = Report::default();
    for set in sets {
        check_files(&data, set, &mut report);
    }
    let opened = follow_prepared(cli.quiet);
    for (entry, settings) in tasks {
        opened.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clear();
        match check_task(entry, settings, &data, &opened, cli) {
            Ok(found) => {
                note_failures(&found, &mut report.failures);
                report.tasks.push(found);
            }
            Err(DataError::Missing { what, .. }) if args.name.is_none() => {
                eprintln!("{}: {what} not found, not checked", entry.name);
            }
            Err(error @ DataError::Missing { .. }) => {
                data_error(&error);
                return Err(Exit::Environment);
            }
            Err(error) => report.failures.push(format!("{}: {error}", entry.name)),
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).expect("plain data"));
    } else {
        print(&report);
    }
    report.failures.iter().for_each(|failure| fail(failure, ""));
    if report.files.is_empty() && report.tasks.is_empty() && report.failures.is_empty() {
        let help = "`mixarena data fetch --list` says what there is; tasks that draw their data are checked by name";
        fail(format!("{} holds nothing to check", args.source.data.display()), help);
        return Err(Exit::Environment);
    }
    Ok(if report.failures.is_empty() { Exit::Ok } else { Exit::Failed })
}

/// ListOps files against the evaluator.
fn check_labels(paths: &[PathBuf]) -> Exit {
    let mut exit = Exit::Ok;
    for path in paths {
        let checked = match listops::check_labels(path) {
            Ok(checked) => checked,
            Err(error) => {
                data_error(&error);
                exit = Exit::Failed;
                continue;
            }
        };
        for listops::Checked { file, rows, disagreements, first } in checked {
            println!(
                "{file}: {} of {} labels are the values of their expressions",
                grouped(rows - disagreements),
                grouped(rows)
            );
            if let Some((row, label, value)) = first {
                fail(format!("{file}:{row}: the label is {label}, but the expression's value is {value}"), "");
                exit = Exit::Failed;
            }
        }
    }
    exit
}

/// Sets whose files are looked at, and tasks with their settings.
type Chosen<'a> = (Vec<&'static DataSet>, Vec<(&'a Entry, Value)>);

fn chosen<'a>(args: &DataVerifyArgs, registry: &'a Registry) -> Result<Chosen<'a>, Exit> {
    let usage = |problem: String, help: &str| {
        fail(problem, help);
        Exit::Usage
    };
    let Some(name) = args.name.as_deref() else {
        if !args.source.sets.is_empty() {
            return Err(usage(
                "--set without a task".into(),
                "name the task: mixarena data verify NAME --set key=value",
            ));
        }
        let mut tasks = Vec::new();
        for entry in &registry.tasks {
            let settings = reads_files(entry);
            tasks.extend(settings.map(|settings| (entry, settings)));
        }
        return Ok((SETS.iter().collect(), tasks));
    };
    if registry.tasks.iter().any(|entry| entry.name == name) {
        let entry = task(name, registry)?;
        let settings = settings(entry, &args.source.sets)?;
        let needed = entry.outline(&settings).needs_files;
        let sets = SETS.iter().filter(|set| needed && set.tasks.contains(&name)).collect();
        return Ok((sets, vec![(entry, settings)]));
    }
    match SETS.iter().find(|set| set.name == name) {
        Some(set) => Ok((vec![set], Vec::new())),
        None => {
            let tasks = registry.tasks.iter().map(|entry| entry.name);
            let mut known: Vec<&str> = tasks.chain(SETS.iter().map(|set| set.name)).collect();
            known.sort_unstable();
            known.dedup();
            Err(usage(format!("unknown task or set `{name}`"), &suggest(name, &known, "names")))
        }
    }
}

/// The settings with which a task reads files: its defaults, or those with `source: files`.
fn reads_files(entry: &Entry) -> Option<Value> {
    let of_files = serde_json::json!({"source": "files"});
    let tried = [serde_json::json!({}), of_files].into_iter().filter(|given| (entry.accepts)(given).is_ok());
    let mut resolved = tried.filter_map(|given| (entry.resolve)(&given).ok());
    resolved.find(|settings| entry.check(settings).is_empty() && entry.outline(settings).needs_files)
}

fn check_files(data: &DataDir, set: &'static DataSet, report: &mut Report) {
    for file in set.files {
        let path = data.0.join(file.target);
        let (ok, found) = match fetch::verify(data, file) {
            Ok(FileState::Absent) => continue,
            Ok(FileState::Right(basis, bytes)) => {
                let why = if basis == fetch::Basis::Pinned { "equal to its pin" } else { "as published" };
                (true, format!("{} bytes, {why}", grouped(bytes)))
            }
            Ok(FileState::Unpinned(bytes)) => {
                let name = set.name;
                (
                    true,
                    format!(
                        "{} bytes, nothing to hold it against: `mixarena data fetch {name}` pins it",
                        grouped(bytes)
                    ),
                )
            }
            Ok(FileState::Wrong(problem)) => (false, problem),
            Err(error) => (false, error.to_string()),
        };
        if !ok {
            report.failures.push(format!("{}: {found}", path.display()));
        }
        report.files.push(FileReport { set: set.name, path, ok, found });
    }
}

/// Listens to prepared sets: the folders opened, beside what is said of them anyway.
fn follow_prepared(quiet: bool) -> Arc<Mutex<Vec<PathBuf>>> {
    let opened = Arc::new(Mutex::new(Vec::new()));
    let folders = Arc::clone(&opened);
    prepared::listen(Box::new(move |event| {
        tell(&event, quiet);
        if let prepared::Event::Opened(folder) = event {
            folders.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(folder.to_owned());
        }
    }));
    opened
}

fn check_task(
    entry: &Entry,
    settings: Value,
    data: &DataDir,
    opened: &Mutex<Vec<PathBuf>>,
    cli: &Cli,
) -> Result<TaskReport, DataError> {
    let task = entry.open(&settings, data)?;
    let folders = std::mem::take(&mut *opened.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    let others = other_sets(&folders);
    let prepared = folders.into_iter().map(check_prepared).collect();
    let mut bar = Bar::new(entry.name, Unit::Examples, cli.quiet);
    let stats = measure(&*task, &mut bar)?;
    Ok(TaskReport {
        name: entry.name,
        settings,
        prepared,
        others,
        spec: task.spec(),
        fingerprint: task.fingerprint(),
        floor: task.floor()?,
        notes: task.notes(),
        stats,
        distributions: task.distributions(DRAWN.min((1 << 24) / task.spec().max_length.max(1) as u64).max(100))?,
        drawn_per_second: task.fingerprint().is_none().then(|| speed(&*task)).transpose()?,
    })
}

/// Training examples drawn a second, over half a second.
fn speed(task: &dyn Task) -> Result<f64, DataError> {
    let begun = Instant::now();
    let (mut drawn, n) = (0_u64, task.len(Split::Train).max(1));
    while begun.elapsed().as_secs_f64() < 0.5 {
        for _ in 0..16 {
            std::hint::black_box(task.example(Split::Train, drawn % n)?);
            drawn += 1;
        }
    }
    Ok(drawn as f64 / begun.elapsed().as_secs_f64())
}

/// Prepared sets of the same families besides: of other settings, or of a source that has changed since.
fn other_sets(folders: &[PathBuf]) -> Vec<PathBuf> {
    let family = |path: &Path| -> Option<(PathBuf, String)> {
        let name = path.file_name()?.to_str()?.rsplitn(3, '-').nth(2)?.to_owned();
        Some((path.parent()?.to_owned(), name))
    };
    let wanted: Vec<_> = folders.iter().filter_map(|folder| family(folder)).collect();
    let near = folders.iter().filter_map(|folder| std::fs::read_dir(folder.parent()?).ok()).flatten().flatten();
    let sets = near.map(|entry| entry.path()).filter(|path| path.join("meta.json").is_file());
    let mut others: Vec<PathBuf> = sets
        .filter(|path| !folders.contains(path) && family(path).is_some_and(|family| wanted.contains(&family)))
        .collect();
    others.sort();
    others.dedup();
    others
}

fn check_prepared(folder: PathBuf) -> PreparedReport {
    let corpus = folder.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"corpus-v"));
    let verified = match corpus {
        true => tasks::language::corpus::verify(&folder),
        false => Prepared::open(&folder).and_then(|set| set.verify()),
    };
    let (ok, found) = match verified {
        Ok(()) => (true, "every byte as it was prepared".into()),
        Err(error) => (false, error.to_string()),
    };
    PreparedReport { folder, ok, found }
}

fn note_failures(task: &TaskReport, failures: &mut Vec<String>) {
    failures.extend(task.prepared.iter().filter(|set| !set.ok).map(|set| format!("{}: {}", task.name, set.found)));
    failures.extend(task.stats.broken.iter().map(|broken| format!("{}: {broken}", task.name)));
    let odd = task.distributions.iter().filter(|test| test.p < UNLIKELY);
    failures.extend(odd.map(|test| format!("{}: {}: p = {:.1e} if drawn as specified", task.name, test.what, test.p)));
    let empty = task.stats.splits.iter().filter(|split| split.examples == 0);
    failures.extend(empty.map(|split| format!("{}: {} holds nothing", task.name, split.split.name())));
}

fn print(report: &Report) {
    for file in &report.files {
        println!("{} {}: {}", if file.ok { "ok " } else { "BAD" }, file.path.display(), file.found);
    }
    for task in &report.tasks {
        print_task(task);
    }
}

fn print_task(task: &TaskReport) {
    let spec = &task.spec;
    let documents = if spec.documents == 2 { ", two documents" } else { "" };
    println!(
        "\n{}: {} classes, vocabulary {}, at most {} tokens{documents}",
        task.name, spec.classes, spec.vocab_size, spec.max_length
    );
    let line = |what: &str, text: &str| println!("  {what:<9} {text}");
    for set in &task.prepared {
        line("prepared", &format!("{}: {}", set.folder.display(), set.found));
    }
    for folder in &task.others {
        line("besides", &format!("{}: of other settings or an earlier source, may be deleted", folder.display()));
    }
    task.fingerprint.iter().for_each(|hash| line("contents", hash));
    spec.marks.iter().for_each(|mark| line("mark", mark.name()));
    line("floor", &format!("{:.4} ({})", task.floor.score, task.floor.how));
    task.notes.iter().for_each(|note| line("note", note));
    println!(
        "  {:<11} {:>9} {:>7} {:>8} {:>7} {:>7} {:>9} {:>8}",
        "", "examples", "min", "mean", "median", "max", "at limit", "repeats"
    );
    task.stats.splits.iter().for_each(print_split);
    print_labels(&task.stats.splits);
    for split in task.stats.splits.iter().filter(|split| split.solved > 0) {
        let (name, solved) = (split.split.name(), grouped(split.solved));
        println!("  {name}: {} of {solved} answers are those of an exact solver", grouped(split.agreed));
    }
    for split in &task.stats.splits {
        if let Some([index, before]) = split.first_repeat {
            println!("  {0} {index} repeats {0} {before}", split.split.name());
        }
    }
    for overlap in &task.stats.between {
        println!(
            "  {} of {} stand in {} too, {} with another answer; the first is {} {} = {} {}",
            grouped(overlap.examples),
            overlap.split.name(),
            overlap.earlier.name(),
            grouped(overlap.other_label),
            overlap.split.name(),
            overlap.first[0],
            overlap.earlier.name(),
            overlap.first[1]
        );
    }
    if task.stats.between.is_empty() {
        println!("  no example stands in two splits");
    }
    for test in &task.distributions {
        let Goodness { what, statistic, degrees, p } = test;
        println!("  as specified: {what}: chi-square {statistic:.1}, {degrees} degrees of freedom, p = {p:.3}");
    }
    if let Some(speed) = task.drawn_per_second {
        println!("  one core draws {} training examples a second", grouped(speed as u64));
    }
}

fn print_split(split: &SplitStats) {
    let l = &split.lengths;
    println!(
        "  {:<11} {:>9} {:>7} {:>8.1} {:>7} {:>7} {:>7.1} % {:>8}",
        split.split.name(),
        grouped(split.examples),
        l.min,
        l.mean,
        l.median,
        l.max,
        100.0 * split.at_limit,
        grouped(split.repeats)
    );
}

/// Shares of the classes in each split, a line a split.
fn print_labels(splits: &[SplitStats]) {
    let mut classes: Vec<i64> = splits.iter().flat_map(|split| split.labels.keys().copied()).collect();
    classes.sort_unstable();
    classes.dedup();
    if classes.len() > MANY {
        println!("  {} classes are answers; their shares are in --json", classes.len());
        return;
    }
    let head: String = classes.iter().map(|class| format!(" {class:>7}")).collect();
    println!("  {:<11}{head}", "label");
    for split in splits {
        let total: u64 = split.labels.values().sum();
        let share = |class| 100.0 * split.labels.get(class).copied().unwrap_or(0) as f64 / total.max(1) as f64;
        let shares: String = classes.iter().map(|class| format!(" {:>5.1} %", share(class))).collect();
        println!("  {:<11}{shares}", split.split.name());
    }
}
