//! The mixarena command: plan, run, record, report. The only crate that sees mixers, tasks and results together.

#[macro_use]
mod output;

mod analysis;
mod bench;
mod checkpoint;
mod cli;
mod commands;
mod config;
mod cuda;
mod diagnostics;
mod events;
mod feed;
mod fields;
mod launcher;
mod limits;
mod matching;
mod model;
mod optimizer;
mod plan;
mod presets;
mod pretrain;
mod progress;
mod registry;
mod run;
#[cfg(test)]
mod samples;
mod schedule;
mod scoring;
mod seeds;
#[cfg(test)]
mod shuffled;
mod signals;
mod sizes;
mod spec;
mod starts;
mod trainer;
mod weights;
mod yaml;

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
/// A crate of the user's own adds a mixer and keeps everything else:
///
/// ```no_run
/// let mut registry = harness::Registry::default();
/// // registry.mixers.push(mixers::Entry::of::<my_mixer::Config>());
/// registry.mixers.dedup_by_key(|m| m.name);
/// std::process::exit(if harness::main_with(registry) == std::process::ExitCode::SUCCESS { 0 } else { 1 });
/// ```
pub fn main_with(registry: Registry) -> ExitCode {
    let cli = cli::Cli::parse();
    let exit = commands::dispatch(&cli, &registry);
    // Where a command has failed, that is what its exit code says.
    if let Some(error) = output::lost() {
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
