//! `mixarena bench`: speed and memory of the mixers by length, and whether they got worse.

use super::{fail, width};
use crate::base::cuda;
use crate::base::diagnostics::suggest;
use crate::base::exit::Exit;
use crate::base::limits;
use crate::base::output;
use crate::base::signals;
use crate::bench::conductor::{Conductor, Planned};
use crate::bench::decode;
use crate::bench::steps::{Plan, document, measure as measure_steps, table};
use crate::bench::suite::{Chosen, LENGTHS, Size, plan, targets};
use crate::cli::{BenchArgs, BenchCommand, BenchPasses, BenchSuite, Cli, CompareArgs, DecodeArgs, StepsArgs};
use crate::registry::Registry;
use crate::sweep::run::{COMMIT, VERSION};
use mixers::native::kernels;
use results::bench::{Bench, FORMAT, Pass, Protocol, State, Suite, compare};
use results::{Device, Versions, plot};
use serde_json::{Map, Value};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// A user's mistake: what, and what to do.
type Mistake = (String, String);

/// Runs the command.
pub fn bench(args: &BenchArgs, cli: &Cli, registry: &Registry) -> Exit {
    match &args.command {
        Some(BenchCommand::Compare(args)) => return beside(args),
        Some(BenchCommand::Steps(args)) => return step(args, registry),
        Some(BenchCommand::Decode(args)) => return decoded(args, registry),
        None => {}
    }
    let prepared = check_outputs(args).and_then(|()| prepare(args, registry));
    let (groups, conductor) = match prepared {
        Ok((groups, protocol)) => {
            let threads = args.threads.unwrap_or_else(limits::cores);
            (groups, Conductor { protocol, threads, device: args.device, talk: !cli.quiet })
        }
        Err((problem, help)) => {
            fail(problem, &help);
            return Exit::Usage;
        }
    };
    if let Err(problem) = cuda::device(args.device) {
        fail(problem, "");
        return Exit::Environment;
    }
    output::go_on_without_reader();
    signals::catch(None);
    let bench = match measure(groups, &conductor) {
        Ok(bench) => bench,
        Err(error) => {
            fail(error, "run `mixarena doctor`");
            return Exit::Environment;
        }
    };
    print!("{}", if args.json { bench.json() } else { bench.terminal(width()) });
    if let Err(problem) = write(args, &bench, cli.quiet) {
        fail(problem, "");
        return Exit::Environment;
    }
    if bench.interrupted {
        return Exit::Interrupted;
    }
    // With lengths, to stop at a cap is a result; where nothing at all could be measured, something is wrong.
    let nothing = bench.cases.iter().all(|case| case.state != State::Measured);
    if bench.missed() > 0 || nothing { Exit::Failed } else { Exit::Ok }
}

/// Runs `bench steps`.
fn step(args: &StepsArgs, registry: &Registry) -> Exit {
    let chosen = match choose(args.mixers.as_deref(), &args.sets, registry) {
        Ok(chosen) => chosen,
        Err((problem, help)) => {
            fail(problem, &help);
            return Exit::Usage;
        }
    };
    let StepsArgs { d_model, length, batch, layers: n_layers, rounds, steps, .. } = *args;
    let plan = Plan { d_model, length, batch, n_layers, rounds, steps };
    limits::keep_freed_memory();
    tch::set_num_threads(1);
    match measure_steps(&chosen, &plan, registry) {
        Ok(stepped) if args.json => println!("{:#}", document(&stepped, &plan)),
        Ok(stepped) => print!("{}", table(&stepped)),
        Err(problem) => {
            fail(problem, "choose another size, or others with --mixers");
            return Exit::Usage;
        }
    }
    Exit::Ok
}

/// Runs `bench decode`.
fn decoded(args: &DecodeArgs, registry: &Registry) -> Exit {
    let chosen = match choose(args.mixers.as_deref(), &args.sets, registry) {
        Ok(chosen) => chosen,
        Err((problem, help)) => {
            fail(problem, &help);
            return Exit::Usage;
        }
    };
    let DecodeArgs { d_model, batch, repeats, time_cap: cap, .. } = *args;
    let mut contexts = args.contexts.clone();
    contexts.sort_unstable();
    contexts.dedup();
    let plan = decode::Plan { d_model, batch, contexts, repeats, cap };
    limits::keep_freed_memory();
    tch::set_num_threads(args.threads.map_or_else(|| i32::try_from(limits::cores()).unwrap_or(i32::MAX), i32::from));
    let decoders = decode::measure(&chosen, &plan, registry);
    match args.json {
        true => println!("{:#}", decode::document(&decoders, &plan)),
        false => print!("{}", decode::table(&decoders, &plan)),
    }
    // Where nothing at all could be decoded, something is wrong.
    if decoders.iter().all(|one| one.contexts.is_empty()) { Exit::Failed } else { Exit::Ok }
}

/// Child process of `bench`.
pub fn child(registry: &Registry) -> Exit {
    match crate::bench::child::serve(registry) {
        Ok(()) => Exit::Ok,
        Err(error) => {
            fail(format!("no job on standard input: {error}"), "this is how `mixarena bench` talks to itself");
            Exit::Usage
        }
    }
}

/// Everything wrong with where results go, before an hour is spent on them.
fn check_outputs(args: &BenchArgs) -> Result<(), Mistake> {
    let kinds: [(&Option<PathBuf>, &str, &[&str]); 2] =
        [(&args.export, "--export", &["json", "csv"]), (&args.plot, "--plot", &["svg", "png"])];
    for (path, flag, kinds) in kinds {
        let Some(path) = path else { continue };
        if !path.extension().is_some_and(|e| kinds.iter().any(|kind| e == *kind)) {
            let help = format!("end it in .{}", kinds.join(" or ."));
            return Err((
                format!("{flag} {}: its name tells the kind of file, and this one is unknown", path.display()),
                help,
            ));
        }
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        if let Some(folder) = folder.filter(|folder| !folder.is_dir()) {
            return Err((
                format!("{flag} {}: {} is not a folder", path.display(), folder.display()),
                "make it first".into(),
            ));
        }
    }
    if args.plot.is_some() && args.suite == BenchSuite::Targets {
        return Err((
            "--plot: fixed comparisons have no lengths to draw against".into(),
            "leave out --suite targets".into(),
        ));
    }
    match &args.baseline {
        Some(name) if !is_name(name) => Err((
            format!("--baseline {name}: not a name"),
            "use letters, digits, `-`, `_` and `.`, a letter or digit first; --export takes a path".into(),
        )),
        _ => Ok(()),
    }
}

fn is_name(name: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.len() <= 200 && name.chars().all(plain)
}

/// What is to be measured, group by group, and how.
fn prepare(args: &BenchArgs, registry: &Registry) -> Result<(Vec<Vec<Planned>>, Protocol), Mistake> {
    let memory_cap = match &args.memory_cap {
        Some(text) => Some(bytes(text)?),
        None => limits::available_memory().map(|bytes| bytes / 10 * 9),
    };
    if !(args.time_cap > 0.0 && args.time_cap.is_finite()) {
        return Err((
            format!("--time-cap is {}, which is not above 0", args.time_cap),
            "give seconds, such as 10".into(),
        ));
    }
    let counts = [("--repeats", Some(args.repeats)), ("--warmup", Some(args.warmup)), ("--threads", args.threads)];
    if let Some((flag, _)) = counts.iter().find(|(_, n)| *n == Some(0)) {
        return Err((format!("{flag} is 0"), "use 1 or more".into()));
    }
    let passes = match args.passes {
        BenchPasses::Both => Pass::ALL.to_vec(),
        BenchPasses::Forward => vec![Pass::Forward],
    };
    let protocol = Protocol { warmup: args.warmup, repeats: args.repeats, time_cap: args.time_cap, memory_cap, passes };
    if args.suite == BenchSuite::Targets {
        let fixed = [
            ("--lengths", args.lengths.is_some()),
            ("--d-model", args.d_model.is_some()),
            ("--batch", args.batch.is_some()),
            ("--set", !args.sets.is_empty()),
            ("--causal", args.causal),
            ("--passes", args.passes != BenchPasses::Both),
        ];
        if let Some((flag, _)) = fixed.iter().find(|(_, given)| *given) {
            let help = "leave it out, or leave out --suite targets".into();
            return Err((format!("{flag} does not go with --suite targets, whose sizes are fixed"), help));
        }
        let mut groups = targets(registry);
        if let Some(names) = &args.mixers {
            let known: Vec<String> = groups[0].iter().map(|(case, _)| case.label.clone()).collect();
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            check_names(names, &known)?;
            let wanted = |label: &str| label == results::bench::YARDSTICK || names.iter().any(|name| name == label);
            groups.iter_mut().for_each(|group| group.retain(|(case, _)| wanted(&case.label)));
        }
        return Ok((groups, protocol));
    }
    let (d_model, batch) = (args.d_model.unwrap_or(256), args.batch.unwrap_or(4));
    let mut lengths = args.lengths.clone().unwrap_or(LENGTHS.to_vec());
    lengths.sort_unstable();
    lengths.dedup();
    let least = [("--d-model", d_model), ("--batch", batch), ("--lengths", lengths.first().copied().unwrap_or(0))];
    if let Some((flag, n)) = least.iter().find(|(_, n)| *n < 1) {
        return Err((format!("{flag} holds {n}, which is below 1"), "use 1 or more".into()));
    }
    let chosen = choose(args.mixers.as_deref(), &args.sets, registry)?;
    let mut groups = Vec::new();
    for length in lengths {
        let name = format!("length {length}");
        let size = Size { d_model, batch, length };
        let planned = |chosen: &Chosen| {
            plan(registry, chosen, size, args.causal, &name).map_err(|wrong| {
                let problem = format!("{} at length {length}, d_model {d_model}: {}", chosen.label, wrong.join("; "));
                let help = format!("change it with --set {}.KEY=VALUE, or choose others with --mixers", chosen.label);
                (problem, help)
            })
        };
        groups.push(chosen.iter().map(planned).collect::<Result<Vec<_>, _>>()?);
    }
    Ok((groups, protocol))
}

fn check_names(names: &[String], known: &[&str]) -> Result<(), Mistake> {
    match names.iter().find(|name| !known.contains(&name.as_str())) {
        Some(name) => Err((format!("unknown mixer `{name}`"), suggest(name, known, "mixers"))),
        None => Ok(()),
    }
}

/// The mixers asked for, in the registry's order, with their settings.
fn choose(mixers: Option<&[String]>, sets: &[String], registry: &Registry) -> Result<Vec<Chosen>, Mistake> {
    let known: Vec<&str> = registry.mixers.iter().map(|m| m.name).collect();
    check_names(mixers.unwrap_or_default(), &known)?;
    let wanted = |name: &str| mixers.is_none_or(|names| names.iter().any(|n| n == name));
    let mut chosen: Vec<Chosen> = known
        .iter()
        .filter(|name| wanted(name))
        .map(|name| Chosen { label: (*name).into(), mixer: (*name).into(), settings: Value::Object(Map::new()) })
        .collect();
    for set in sets {
        let form =
            || (format!("--set {set}: not of the form MIXER.KEY=VALUE"), "write --set s4.d_state=16".to_string());
        let (path, value) = set.split_once('=').ok_or_else(form)?;
        let (mixer, key) = path.trim().split_once('.').ok_or_else(form)?;
        check_names(&[mixer.to_string()], &known)?;
        let entry = registry.mixer(mixer).expect("the name was checked");
        let defaults = (entry.defaults)();
        let keys: Vec<&str> = defaults.as_object().into_iter().flat_map(Map::keys).map(String::as_str).collect();
        if !keys.contains(&key) {
            return Err((format!("--set {set}: `{mixer}` has no setting `{key}`"), suggest(key, &keys, "settings")));
        }
        // What is no JSON is a word: mode=diag.
        let value = serde_json::from_str(value.trim()).unwrap_or_else(|_| Value::from(value.trim()));
        let Some(of_mixer) = chosen.iter_mut().find(|c| c.mixer == mixer) else {
            let help = format!("add {mixer} to --mixers, or leave the setting out");
            return Err((format!("--set {set}: `{mixer}` is not among the mixers chosen"), help));
        };
        of_mixer.settings[key] = value;
        if let Err(error) = (entry.accepts)(&of_mixer.settings) {
            return Err((
                format!("--set {set}: {error}"),
                format!("`mixarena list mixers` shows the settings of {mixer}"),
            ));
        }
    }
    Ok(chosen)
}

/// `8GiB`, `512MiB`, or plain bytes.
fn bytes(text: &str) -> Result<u64, Mistake> {
    let units = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("", 0)];
    let read = units.iter().find_map(|(unit, power)| {
        let number: f64 = text.trim().strip_suffix(unit)?.trim().parse().ok()?;
        (number > 0.0 && number.is_finite()).then_some((number * f64::from(1 << power)) as u64)
    });
    read.ok_or_else(|| (format!("--memory-cap {text}: not an amount of memory"), "write 8GiB, 512MiB, or bytes".into()))
}

/// Every group in turn. A mixer that stops at one length is not tried at longer ones.
fn measure(groups: Vec<Vec<Planned>>, conductor: &Conductor) -> Result<Bench, crate::bench::conductor::StartError> {
    let started_unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs());
    let by_length = !groups.iter().flatten().any(|(case, _)| case.target.is_some());
    let mut stopped: Vec<(String, i64)> = Vec::new();
    let (mut cases, mut interrupted) = (Vec::new(), false);
    for mut group in groups {
        for (case, _) in &mut group {
            if interrupted {
                case.state = State::Stopped { reason: "left out: interrupted".into() };
            } else if let Some((_, length)) = stopped.iter().find(|(label, _)| by_length && *label == case.label) {
                case.state = State::Stopped { reason: format!("left out: stopped at length {length}") };
            }
        }
        interrupted = interrupted || conductor.measure(&mut group)?;
        for (case, _) in group {
            if matches!(case.state, State::Stopped { .. }) && !stopped.iter().any(|(label, _)| *label == case.label) {
                stopped.push((case.label.clone(), case.length));
            }
            cases.push(case);
        }
    }
    let device = Device {
        kind: conductor.device.word().into(),
        name: limits::processor_name(),
        threads: conductor.threads as i64,
        kernels: kernels::chosen().on(conductor.device.place()).word().into(),
        host: limits::host_name(),
    };
    Ok(Bench {
        format: FORMAT,
        command: std::env::args().collect::<Vec<_>>().join(" "),
        suite: if by_length { Suite::Lengths } else { Suite::Targets },
        protocol: conductor.protocol.clone(),
        device,
        versions: Versions {
            mixarena: VERSION.into(),
            libtorch: crate::train::spec::LIBTORCH.into(),
            commit: COMMIT.into(),
        },
        started_unix,
        interrupted,
        cases,
    })
}

/// Files asked for.
fn write(args: &BenchArgs, bench: &Bench, quiet: bool) -> Result<(), String> {
    let mut wrote = Vec::new();
    if let Some(path) = &args.export {
        bench.write(path).map_err(|e| e.to_string())?;
        wrote.push(path.clone());
    }
    if let Some(path) = &args.plot {
        plot::bench(bench, path).map_err(|e| e.to_string())?;
        wrote.push(path.clone());
    }
    if let Some(name) = &args.baseline {
        let folder = args.store.join("bench");
        std::fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
        let path = stored(&args.store, name);
        bench.write(&path).map_err(|e| e.to_string())?;
        wrote.push(path);
    }
    if !quiet {
        wrote.iter().for_each(|path| eprintln!("written: {}", path.display()));
    }
    Ok(())
}

fn stored(store: &Path, name: &str) -> PathBuf {
    store.join("bench").join(format!("{name}.json"))
}

/// `bench compare`.
fn beside(args: &CompareArgs) -> Exit {
    let both = [&args.before, &args.after].map(|name| find(name, &args.store));
    let [before, after] = match both {
        [Ok(before), Ok(after)] => [before, after],
        [first, second] => {
            for (problem, help) in [first.err(), second.err()].into_iter().flatten() {
                fail(problem, &help);
            }
            return Exit::Usage;
        }
    };
    if !(args.threshold >= 1.0 && args.threshold.is_finite()) {
        fail(format!("--threshold is {}, which is below 1", args.threshold), "use a factor such as 1.2");
        return Exit::Usage;
    }
    let comparison = compare(&before, &after, args.threshold, args.absolute);
    if comparison.changes.is_empty() && comparison.lost.is_empty() {
        comparison.warnings.iter().for_each(|w| eprintln!("warning: {w}"));
        let help = "measure both with the same --suite, --mixers, --lengths, --d-model and --batch; attention's own times \
                    need --absolute";
        fail(format!("{} and {} have nothing in common to compare", args.before, args.after), help);
        return Exit::Usage;
    }
    match args.json {
        true => {
            let mut json = serde_json::to_value(&comparison).expect("a comparison is plain data");
            json["holds"] = comparison.holds().into();
            println!("{}", serde_json::to_string_pretty(&json).expect("plain data"));
        }
        false => print!("{}", comparison.terminal(width())),
    }
    if comparison.holds() { Exit::Ok } else { Exit::Failed }
}

/// A file, or what `--baseline` stored under a name.
fn find(name: &str, store: &Path) -> Result<Bench, Mistake> {
    let path = if Path::new(name).is_file() || !is_name(name) { PathBuf::from(name) } else { stored(store, name) };
    if path.is_file() {
        return Bench::read(&path)
            .map_err(|e| (e.to_string(), "give a JSON file of --export, or the name of a --baseline".into()));
    }
    let mut names: Vec<String> = std::fs::read_dir(store.join("bench"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".json").map(String::from))
        .collect();
    names.sort();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let help = match names.is_empty() {
        true => format!("{} has none: store one with `mixarena bench --baseline NAME`", store.join("bench").display()),
        false => suggest(name, &names, "baselines"),
    };
    Err((format!("no file and no baseline `{name}`"), help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory_are_read_with_and_without_a_unit() {
        assert_eq!(bytes("8GiB").ok(), Some(8 << 30));
        assert_eq!(bytes("1.5 MiB").ok(), Some(3 << 19));
        assert_eq!(bytes("4096").ok(), Some(4096));
        assert!(["", "much", "-1", "0", "8GB"].iter().all(|text| bytes(text).is_err()));
    }

    #[test]
    fn a_baseline_s_name_cannot_leave_its_folder() {
        assert!(["main", "v1.2", "2024-05-01"].iter().all(|name| is_name(name)));
        assert!(["", "../x", "a/b", ".hidden", "-q"].iter().all(|name| !is_name(name)));
    }
}
