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

/// The command line of Mixarena with the mixers and tasks of `registry`.
///
/// A crate of the user's own adds a mixer and keeps everything else. The process ends here, with one of these exit codes:
///
/// - 0: all well
/// - 1: some runs failed, or a check did not hold
/// - 2: the command line or a config is wrong
/// - 3: data or CUDA are missing, a folder cannot be used, or output was lost
/// - 4: other processes are still at some of the runs, or some wait for runs that are not done
/// - 130: interrupted, the same command continues
///
/// ```no_run
/// let mut registry = harness::Registry::default();
/// // registry.mixers.push(mixers::Entry::of::<my_mixer::Config>());
/// registry.mixers.retain(|mixer| mixer.name != "lstm"); // the list is an ordinary vector
/// harness::main_with(registry)
/// ```
pub fn main_with(registry: Registry) -> ! {
    base::template::end(commands::obey(std::env::args_os().collect(), &registry))
}
