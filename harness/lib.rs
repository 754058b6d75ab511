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

use base::exit::Exit;

use clap::Parser;
use std::process::ExitCode;

/// The command line of Mixarena with the mixers and tasks of `registry`.
///
/// A crate of the user's own adds a mixer and keeps everything else. Its `main` returns the exit code as it comes, which is one of
///
/// - 0: all well
/// - 1: some runs failed, or a check did not hold
/// - 2: the command line or a config is wrong
/// - 3: data or CUDA are missing, a folder cannot be used, or output was lost
/// - 4: other processes are still at some of the runs, or some wait for runs that are not done
/// - 130: interrupted, the same command continues
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
