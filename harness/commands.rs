//! One file a command; what they share stands here.

mod bench;
mod counted;
mod data;
mod described;
mod doctor;
mod export_weights;
mod list;
mod matrix;
mod plan;
mod printed;
mod report;
mod run;
pub(crate) mod schema;
pub(crate) mod settings;
mod sweep;
mod verify;

use crate::base::choices::DeviceKind;
use crate::base::diagnostics::{Diagnostics, suggest};
use crate::base::exit::Exit;
use crate::base::output;
use crate::base::template::{Template, serve_stdin};
use crate::base::text::grouped;
use crate::cli::{Changes, Cli, Command, hint};
use crate::config::{Config, Draft};
use crate::registry::Registry;
use clap::Parser;
use mixers::native::kernels;
use results::SizedModel;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use tasks::DataError;

/// How often a signal must come until a sweep ends at once: the first asks its runs to stop, the second kills them.
const KILLS_AT_ONCE: u8 = 4;

/// Does what a command line says; the exit code.
pub(crate) fn obey(line: Vec<OsString>, registry: &Registry) -> u8 {
    let cli = match Cli::try_parse_from(line) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and the version come this way too, with code 0.
            let _ = error.print();
            if let Some(hint) = hint(&error) {
                eprintln!("  help: {hint}");
            }
            return error.exit_code() as u8;
        }
    };
    let exit = choose_kernels().unwrap_or_else(|| dispatch(&cli, registry));
    // Where a command has failed, that is what its exit code says.
    if let Some(error) = output::lost() {
        fail(format!("standard output could not be written: {error}"), "free some space, then run the command again");
        if exit == Exit::Ok {
            return Exit::Environment as u8;
        }
    }
    exit as u8
}

/// Which form of the kernels this process runs, and every process that it starts: the one place that reads the variable. An exit code
/// where its word is unknown.
fn choose_kernels() -> Option<Exit> {
    let word = std::env::var_os(kernels::VARIABLE)?;
    match word.to_string_lossy().parse() {
        Ok(form) => kernels::choose(form),
        Err(problem) => {
            let problem: String = problem;
            fail(problem, "set it to plain, native or auto, or leave it unset: auto");
            return Some(Exit::Usage);
        }
    }
    None
}

/// Runs the command typed.
fn dispatch(cli: &Cli, registry: &Registry) -> Exit {
    // Before anything else: it must be forked while this process has one thread.
    let template = template(&cli.command, registry);
    // A run that `sweep` started talks to it alone.
    if !matches!(&cli.command, Command::BenchChild | Command::GaugeChild(_))
        && !matches!(&cli.command, Command::Run(args) if args.events)
    {
        let quiet = cli.quiet;
        tasks::data::prepared::listen(Box::new(move |event| data::tell(&event, quiet)));
    }
    match &cli.command {
        Command::Sweep(args) => sweep::sweep(args, cli, registry, template),
        Command::Plan(args) => plan::plan(args, cli, registry),
        Command::Run(args) => run::run(args, cli, registry, template),
        Command::Report(args) => report::report(args, cli),
        Command::List(args) => list::list(args, registry),
        Command::Schema => schema::schema(registry),
        Command::Matrix(args) => matrix::matrix(args, cli, registry),
        Command::Verify(args) => verify::verify(args, cli, registry),
        Command::Bench(args) => bench::bench(args, cli, registry),
        Command::BenchChild => bench::child(registry),
        Command::Template => serve_stdin(&|line| obey(line, registry)),
        Command::GaugeChild(args) => {
            crate::sweep::gauge::child(args.device, args.threads, registry);
            Exit::Ok
        }
        Command::ExportWeights(args) => export_weights::export_weights(args, registry),
        Command::Data(args) => data::data(args, cli, registry),
        Command::Doctor(args) => doctor::doctor(args),
    }
}

/// What a command's runs are copies of. Without `--threads` a sweep finds out later whether it fits them ([`Template::fits`]).
fn template(command: &Command, registry: &Registry) -> Option<Template> {
    let device = match command {
        Command::Sweep(args) if !args.dry_run => args.device,
        Command::Run(args) if !args.events => args.device,
        _ => return None,
    };
    // CUDA does not outlive a fork.
    if device == DeviceKind::Cpu { Template::fork(&|line| obey(line, registry)) } else { None }
}

/// An error in the project's form, on stderr.
pub(crate) fn fail(problem: impl std::fmt::Display, help: &str) {
    eprintln!("error: {}", problem);
    if !help.is_empty() {
        eprintln!("  help: {help}");
    }
}

/// A config with `--set` and `--filter` applied; mistakes are printed, and unless `quiet` what `--set` took the place of.
fn load(path: &Path, changes: &Changes, quiet: bool, registry: &Registry) -> Result<Config, Exit> {
    filtered(load_whole(path, changes, quiet, registry)?, changes)
}

/// The same before `--filter`.
fn load_whole(path: &Path, changes: &Changes, quiet: bool, registry: &Registry) -> Result<Config, Exit> {
    let config = Config::load(path, &changes.sets, changes.max_runs, registry);
    let config = config.map_err(|found| mistakes(path, &found))?;
    if !quiet {
        config.notes.iter().for_each(|note| eprintln!("note: {note}"));
    }
    Ok(config)
}

/// The runs of a config that `--filter` leaves.
fn filtered(mut config: Config, changes: &Changes) -> Result<Config, Exit> {
    if let Some(filter) = &changes.filter {
        let terms = terms(filter).map_err(|problem| {
            fail(format!("--filter '{filter}': {problem}"), "write --filter 'mixer=s4 & task=mqar & seed=0'");
            Exit::Usage
        })?;
        config.runs.retain(|draft| terms.iter().all(|(key, value)| matches(draft, key, value)));
        if config.runs.is_empty() {
            fail(
                format!("--filter '{filter}' matches none of the runs"),
                "leave it out to see them all with `mixarena plan`",
            );
            return Err(Exit::Usage);
        }
    }
    Ok(config)
}

/// Everything wrong with the config at `path`.
fn mistakes(path: &Path, found: &Diagnostics) -> Exit {
    eprint!("{}", found.render());
    let plural = if found.len() == 1 { "mistake" } else { "mistakes" };
    eprintln!("{} {plural} in {}; nothing was run", found.len(), path.display());
    Exit::Usage
}

/// What `match` chose, a model a line; nothing where sizes are written.
fn sizes_chosen(config: &Config) -> Vec<String> {
    let Some(chosen) = config.matched.as_ref().and_then(|matched| matched.chosen.as_ref()) else { return Vec::new() };
    let line = |model: &SizedModel| {
        let point: String = model.settings.iter().map(|(key, value)| format!(" · {key}={value}")).collect();
        let (task, mixer, text) = (&model.task, &model.mixer, model.chosen_text());
        let (size, off) = (grouped(model.size), 100.0 * model.off());
        format!("{task} · {mixer}{point}: {text}, {size} {} ({off:+.2} % of {})", chosen.measure, grouped(model.target))
    };
    chosen.models.iter().map(line).collect()
}

/// `a=b & c=d` as pairs.
fn terms(filter: &str) -> Result<Vec<(String, String)>, String> {
    const KEYS: [&str; 3] = ["mixer", "task", "seed"];
    let term = |text: &str| {
        let (key, value) = text.split_once('=').ok_or_else(|| format!("`{}` has no `=`", text.trim()))?;
        let (key, value) = (key.trim(), value.trim());
        match KEYS.contains(&key) {
            true => Ok((key.to_string(), value.to_string())),
            false => Err(format!("unknown key `{key}`; {}", suggest(key, &KEYS, "keys"))),
        }
    };
    filter.split('&').map(term).collect()
}

fn matches(draft: &Draft, key: &str, value: &str) -> bool {
    match key {
        "mixer" => draft.mixer_label == value || draft.mixer.name == value,
        "task" => draft.task_label == value || draft.task.name == value,
        _ => draft.seed.to_string() == value,
    }
}

/// Data that cannot be used, every set of them, and the exit code that goes with it.
fn data_errors(errors: &[Arc<DataError>]) -> Exit {
    errors.iter().for_each(|error| data_error(error));
    eprintln!("nothing was run");
    Exit::Environment
}

/// Data that cannot be used.
fn data_error(error: &DataError) {
    match error {
        DataError::Missing { looked, help, .. } => {
            eprintln!("error: {error}");
            looked.iter().for_each(|path| eprintln!("  looked at {}", path.display()));
            if let Some(set) = tasks::data::fetch::set_at(looked) {
                eprintln!("  fetch it with `mixarena data fetch {}`, or:", set.name);
            }
            help.lines().for_each(|line| eprintln!("  {line}"));
        }
        _ => fail(error.to_string(), error.help()),
    }
}

/// Columns of the terminal; wide where the output is a file.
fn width() -> usize {
    match terminal_size::terminal_size() {
        Some((columns, _)) => usize::from(columns.0).max(60),
        None => 160,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_filter_is_terms_joined_by_and() {
        let pairs = terms("mixer=s4 & seed = 0").unwrap();
        assert_eq!(pairs, [("mixer".to_string(), "s4".to_string()), ("seed".into(), "0".into())]);
        assert!(terms("mixr=s4").unwrap_err().contains("did you mean `mixer`?"));
        assert!(terms("s4").is_err());
    }
}
