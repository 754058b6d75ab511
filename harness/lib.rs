//! The mixarena command: plan, run, record, report. The only crate that sees mixers, tasks and results together.

#[macro_use]
mod base;
#[cfg(test)]
mod laws;
mod sweep;
mod train;

mod bench;
mod cli;
mod commands;
mod config;
mod model;
mod registry;

/// Counts what parsers hold when they are given damaged input.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: fuzzing::Counting = fuzzing::Counting;

pub use registry::Registry;

use clap::Parser;
use std::process::ExitCode;

/// How a command ends; the process's exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Exit {
    /// All well.
    Ok = 0,
    /// Some runs failed, or a check did not hold.
    Failed = 1,
    /// The command line or a config is wrong.
    Usage = 2,
    /// Data or CUDA are missing.
    Environment = 3,
    /// Other processes are still at some of the runs.
    Elsewhere = 4,
    /// Stopped by the user; the same command continues.
    Interrupted = 130,
}

/// The command line of Mixarena with the mixers and tasks of `registry`.
///
/// A crate of the user's own adds a mixer and keeps everything else. Its `main` returns the exit code as it comes: 0 all
/// well, 1 a run or a check failed, 2 usage or config, 3 environment, 130 interrupted.
///
/// ```no_run
/// use std::process::ExitCode;
///
/// fn main() -> ExitCode {
///     let mut registry = harness::Registry::default();
///     // registry.mixers.push(mixers::Entry::of::<my_mixer::Config>());
///     registry.mixers.retain(|mixer| mixer.name != "lstm"); // the list is an ordinary vector
///     harness::main_with(registry)
/// }
/// ```
pub fn main_with(registry: Registry) -> ExitCode {
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and the version come this way too, with code 0.
            let _ = error.print();
            if let Some(hint) = cli::hint(&error) {
                eprintln!("  help: {hint}");
            }
            return ExitCode::from(error.exit_code() as u8);
        }
    };
    let exit = commands::dispatch(&cli, &registry);
    // Where a command has failed, that is what its exit code says.
    if let Some(error) = base::output::lost() {
        commands::fail(
            format!("standard output could not be written: {error}"),
            "free some space, then run the command again",
        );
        if exit == Exit::Ok {
            return ExitCode::from(Exit::Environment as u8);
        }
    }
    ExitCode::from(exit as u8)
}
