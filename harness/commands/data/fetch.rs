//! `mixarena data fetch`: from an address, or from a file that was downloaded elsewhere, to the data folder.

use super::super::fail;
use super::bar::{Bar, Unit};
use super::grouped;
use crate::base::diagnostics::suggest;
use crate::base::exit::Exit;
use crate::cli::{Cli, FetchArgs};
use serde_json::{Value, json};
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use tasks::DataDir;
use tasks::data::fetch::{
    self, Basis, DataSet, Event, FailureKind, FetchError, Fetched, Options, RemoteFile, SETS, size,
};

/// Runs the command.
pub fn fetch(args: &FetchArgs, cli: &Cli) -> Result<Exit, Exit> {
    let data = DataDir(args.data.clone());
    if args.list {
        list(&data, args.json);
        return Ok(Exit::Ok);
    }
    let sets = args.names.iter().map(|name| by_name(name)).collect::<Result<Vec<_>, _>>()?;
    let given = match_files(&sets, &args.files)?;
    if args.dry_run {
        dry_run(&data, &sets, args);
        return Ok(Exit::Ok);
    }
    let mut report = Vec::new();
    for set in &sets {
        consent(&data, set, args, io::stdin().is_terminal(), &mut io::stdin().lock(), &mut io::stderr())?;
        for file in set.files {
            let from = given.iter().find(|(name, _)| *name == file.name()).map(|(_, path)| path.as_path());
            if from.is_none() && !given.is_empty() && !data.0.join(file.target).is_file() {
                continue; // only what was brought
            }
            let done = one(&data, file, from, args, cli).map_err(|error| refuse(&data, set, args, &error))?;
            report.push(told(file, &done, args.json));
            if args.unpack && tasks::data::formats::is_archive(&done.path) {
                unpack(&data, &done.path, args.json, cli).map_err(|error| refuse(&data, set, args, &error))?;
            }
        }
        if !args.json && !cli.quiet {
            eprintln!("{}: {}", set.name, set.licence);
        }
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report).expect("plain data"));
    }
    Ok(Exit::Ok)
}

fn by_name(name: &str) -> Result<&'static DataSet, Exit> {
    SETS.iter().find(|set| set.name == name).ok_or_else(|| {
        let known: Vec<&str> = SETS.iter().map(|set| set.name).collect();
        let help = match SETS.iter().find(|set| set.tasks.contains(&name)) {
            Some(set) => format!("task `{name}` reads `{}`: mixarena data fetch {}", set.name, set.name),
            None => suggest(name, &known, "sets"),
        };
        fail(format!("unknown set `{name}`"), &help);
        Exit::Usage
    })
}

/// Which file of the sets each `--file` is: by its name, or the only one there is.
fn match_files(sets: &[&'static DataSet], given: &[PathBuf]) -> Result<Vec<(&'static str, PathBuf)>, Exit> {
    let names: Vec<&'static str> = sets.iter().flat_map(|set| set.files).map(RemoteFile::name).collect();
    let usage = |problem: String, help: &str| {
        fail(problem, help);
        Exit::Usage
    };
    let mut matched = Vec::new();
    for path in given {
        let own = path.file_name().unwrap_or_default().to_string_lossy();
        let own = own.strip_suffix(".refused").unwrap_or(&own);
        let name = match &names[..] {
            [only] => Some(*only),
            _ => names.iter().copied().find(|name| *name == own),
        };
        let Some(name) = name else {
            let problem = format!("--file {}: no file of that name is wanted", path.display());
            return Err(usage(problem, &format!("names are {}", names.join(", "))));
        };
        if !path.is_file() {
            return Err(usage(format!("--file {}: no such file", path.display()), "look at the path"));
        }
        if matched.iter().any(|(other, _)| *other == name) {
            return Err(usage(format!("--file {}: `{name}` is given twice", path.display()), "keep one"));
        }
        matched.push((name, path.clone()));
    }
    Ok(matched)
}

fn one(
    data: &DataDir,
    file: &RemoteFile,
    from: Option<&Path>,
    args: &FetchArgs,
    cli: &Cli,
) -> Result<Fetched, FetchError> {
    let options = Options {
        mirror: args.from.clone(),
        accept: args.accept_checksum,
        most: args.max_bytes,
        retries: args.retries,
        ..Options::default()
    };
    let mut bar = Bar::new(file.name(), Unit::Bytes, cli.quiet);
    let mut watch = |event: Event| match event {
        Event::Begin(have, total) => {
            if have > 0 {
                bar.say(&format!("continues from {} bytes", grouped(have)));
            }
            bar.begin(have, total);
        }
        Event::Bytes(done) => bar.at(done),
        Event::Remark(text) => bar.say(text),
    };
    match from {
        Some(path) => fetch::take(data, file, path, &options, &mut watch),
        None => fetch::fetch(data, file, &options, &mut watch),
    }
}

/// Asks, where somebody sits at a terminal, before the first download of files that nobody publishes a checksum of: they
/// would be taken on trust. A script is not asked; the output and the pin say of each such file that it was trusted.
fn consent(
    data: &DataDir,
    set: &DataSet,
    args: &FetchArgs,
    somebody: bool,
    answers: &mut impl BufRead,
    out: &mut impl Write,
) -> Result<(), Exit> {
    if args.accept_checksum || !somebody {
        return Ok(());
    }
    let mut trusted = Vec::new();
    for file in set.files {
        if fetch::is_first_use(data, file).map_err(|error| refuse(data, set, args, &error))? {
            trusted.push(file);
        }
    }
    if trusted.is_empty() {
        return Ok(());
    }
    let mut question = format!("{}: nobody publishes a checksum of\n", set.name);
    for file in &trusted {
        question += &format!("  {} ({})\n", fetch::address(file, args.from.as_deref()), size(file.about_bytes));
    }
    question += "trust the first download, and pin it in fetch.lock.json for every later one? [y/N] ";
    let mut answer = String::new();
    let asked = out.write_all(question.as_bytes()).and_then(|()| out.flush());
    let answered = asked.and_then(|()| answers.read_line(&mut answer));
    if answered.is_ok() && ["y", "yes"].contains(&answer.trim().to_lowercase().as_str()) {
        return Ok(());
    }
    fail(
        format!("{}: not fetched: no checksum is published, and its first download was not trusted", set.name),
        "answer y, or add --accept-checksum to trust it without being asked",
    );
    Err(Exit::Environment)
}

/// What came of one file: a line on stdout, or a JSON object.
fn told(file: &RemoteFile, done: &Fetched, as_json: bool) -> Value {
    let basis = match done.basis {
        Basis::Pinned => "equal to its pin".to_owned(),
        Basis::Published => format!("published {} holds", file.checksum.map_or("checksum", |sum| sum.algorithm())),
        Basis::FirstUse => "no checksum is published: trusted and pinned".into(),
        Basis::Accepted => "accepted against the checksum, pinned".into(),
    };
    let was = if done.present { "is there" } else { "fetched" };
    if !as_json {
        println!("{}: {was}, {} bytes, {basis}", done.path.display(), grouped(done.bytes));
    }
    json!({"path": done.path, "present": done.present, "bytes": done.bytes, "sha256": done.sha256, "basis": basis})
}

fn unpack(data: &DataDir, archive: &Path, as_json: bool, cli: &Cli) -> Result<(), FetchError> {
    let mut bar = Bar::new("unpacking", Unit::Bytes, cli.quiet);
    let done = fetch::unpack(archive, &data.0, &mut |event| {
        if let Event::Bytes(bytes) = event {
            bar.at(bytes);
        }
    })?;
    drop(bar);
    let places: Vec<String> = done.paths.iter().map(|path| path.display().to_string()).collect();
    let what = places.join(", ");
    let links = if done.links > 0 { format!("; {} links left out", done.links) } else { String::new() };
    let line = format!("{what}: unpacked, {} files, {}{links}", grouped(done.files), size(done.bytes));
    if as_json {
        eprintln!("{line}")
    } else {
        println!("{line}")
    }
    Ok(())
}

/// Prints why, with what to run elsewhere where that helps.
fn refuse(data: &DataDir, set: &DataSet, args: &FetchArgs, error: &FetchError) -> Exit {
    fail(error, &error.help);
    match error.kind {
        FailureKind::Refused => Exit::Failed,
        FailureKind::Disk => Exit::Environment,
        FailureKind::Unreachable => {
            let lines = fetch::commands(data, set, args.from.as_deref());
            lines.iter().for_each(|line| eprintln!("  {line}"));
            Exit::Environment
        }
    }
}

fn list(data: &DataDir, as_json: bool) {
    if as_json {
        let one = |set: &DataSet| {
            let files: Vec<Value> = set.files.iter().map(listed).collect();
            json!({"name": set.name, "about": set.about, "tasks": set.tasks, "licence": set.licence,
                   "found": fetch::found(data, set), "files": files})
        };
        let all: Vec<Value> = SETS.iter().map(one).collect();
        println!("{}", serde_json::to_string_pretty(&all).expect("plain data"));
        return;
    }
    for set in SETS {
        println!("{:<8} {}", set.name, set.about);
        println!("         for {}; {}", set.tasks.join(", "), set.licence);
        for file in set.files {
            println!("         {}  {}", file.url, known(file));
        }
        match fetch::found(data, set) {
            Some(path) => println!("         found at {}", path.display()),
            None => println!("         missing: mixarena data fetch {}", set.name),
        }
    }
}

fn listed(file: &RemoteFile) -> Value {
    let sum = file.checksum.map(|sum| json!({"algorithm": sum.algorithm(), "hex": sum.hex()}));
    json!({"url": file.url, "target": file.target, "bytes": file.bytes, "about_bytes": file.about_bytes, "checksum": sum,
           "published_in": file.published_in})
}

/// Size and checksum in words.
fn known(file: &RemoteFile) -> String {
    let bytes = file.bytes.map_or_else(|| format!("about {}", size(file.about_bytes)), |n| grouped(n) + " bytes");
    match file.checksum {
        Some(sum) => format!("{bytes}, {} {}", sum.algorithm(), sum.hex()),
        None => format!("{bytes}, no checksum published"),
    }
}

fn dry_run(data: &DataDir, sets: &[&'static DataSet], args: &FetchArgs) {
    for file in sets.iter().flat_map(|set| set.files) {
        let place = data.0.join(file.target);
        if place.is_file() {
            println!("{}: is there, would be checked", place.display());
        } else {
            let from = fetch::address(file, args.from.as_deref());
            println!("{}: would be fetched from {from}, {}", place.display(), known(file));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Command, DataCommand};
    use clap::Parser;

    fn args(line: &str) -> FetchArgs {
        let cli = Cli::parse_from(["mixarena", "data", "fetch"].into_iter().chain(line.split(' ')));
        let Command::Data(data) = cli.command else { panic!("{line}: another command") };
        let DataCommand::Fetch(args) = data.command else { panic!("{line}: another command") };
        args
    }

    /// What comes of a question about a set in an empty data folder, and what was asked.
    fn asked(line: &str, somebody: bool, answer: &str) -> (Result<(), Exit>, String) {
        let (folder, args, mut out) = (tempfile::tempdir().unwrap(), args(line), Vec::new());
        let set = by_name(&args.names[0]).unwrap();
        let data = DataDir(folder.path().into());
        let came = consent(&data, set, &args, somebody, &mut answer.as_bytes(), &mut out);
        (came, String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_first_download_without_a_checksum_is_asked_about_at_a_terminal() {
        let (came, question) = asked("aan", true, "y\n");
        assert_eq!(came, Ok(()));
        assert_eq!(question.matches("only_ids.tsv (").count(), 3, "{question}");
        assert!(question.starts_with("aan: nobody publishes a checksum of\n"), "{question}");
        assert_eq!(asked("aan", true, " YES \n").0, Ok(()));
        for no in ["\n", "n\n", "", "yeah\n"] {
            assert_eq!(asked("aan", true, no).0, Err(Exit::Environment), "{no:?}");
        }
    }

    #[test]
    fn nobody_is_asked_about_what_is_published_or_was_agreed_to_and_a_script_never() {
        for (line, somebody) in [("imdb", true), ("cifar10", true), ("aan --accept-checksum", true), ("aan", false)] {
            assert_eq!(asked(line, somebody, ""), (Ok(()), String::new()), "{line}");
        }
    }
}
