//! `mixarena sweep`: plan, run what is missing, tell what came out.

use super::{data_errors, fail, load, mistakes, width};
use crate::Exit;
use crate::cli::{Cli, SweepArgs};
use crate::config::{Config, MOST_RUNS};
use crate::launcher::{self, Options, SIGNALS, Tally, launch, wants};
use crate::limits;
use crate::machine::Machine;
use crate::matching;
use crate::plan::{Plan, Planned, open_tasks};
use crate::progress;
use crate::registry::Registry;
use crate::run::{Place, device};
use crate::sizes::Counter;
use mixers::Precision;
use results::report::Report;
use results::{Contents, Outcome, Store};
use std::collections::{HashMap, HashSet};
use std::sync::atomic::Ordering;
use tasks::DataDir;

/// Share of the available memory that the runs of a sweep may use together.
const MEMORY_SHARE: f64 = 0.9;

/// Runs the command.
pub fn sweep(args: &SweepArgs, cli: &Cli, registry: &Registry) -> Exit {
    let config = match load(&args.config, &args.changes, cli.quiet, registry) {
        Ok(config) => Config { name: args.changes.name(&config.name), ..config },
        Err(exit) => return exit,
    };
    let data = DataDir(args.folders.data.clone());
    let opened = open_tasks(&config, registry, &data, |_| true);
    if let Err(found) = matching::check(&config, &mut Counter::new(registry, &opened)) {
        return mistakes(&args.config, &found);
    }
    let plan = match Plan::expand(&config, registry, &opened) {
        Ok(plan) => plan,
        Err(errors) => return data_errors(&errors),
    };
    let store = match Store::open(&args.folders.store) {
        Ok(store) => store,
        Err(error) => {
            fail(error, "");
            return Exit::Environment;
        }
    };
    let ids: HashSet<&str> = plan.needed.iter().chain(&plan.runs).map(|run| run.id.as_str()).collect();
    let records = match read(&store, &ids, cli.quiet) {
        Ok(records) => records,
        Err(exit) => return exit,
    };
    let wanted = |run: &&Planned| records.of_run(&run.id).is_none_or(|r| wants(r, args.retry));
    let all: HashMap<&str, &Planned> = plan.needed.iter().chain(&plan.runs).map(|run| (run.id.as_str(), run)).collect();
    // What a run starts from comes before it, so that a limit never asks for runs without their starts.
    let (mut missing, mut seen): (Vec<Planned>, _) = (Vec::new(), HashSet::new());
    for run in &plan.runs {
        let before = |run: &&Planned| run.after.as_ref().and_then(|id| all.get(id.as_str()).copied());
        let mut chain: Vec<&Planned> = std::iter::successors(Some(run), before).collect();
        chain.reverse();
        missing.extend(chain.into_iter().filter(wanted).filter(|run| seen.insert(run.id.clone())).cloned());
    }
    missing.truncate(args.limit.unwrap_or(usize::MAX));
    let (jobs, threads) = share_cores(limits::cores(), args.jobs, missing.len());
    if !cli.quiet {
        let planned = format!("{}: {} runs planned", plan.name, plan.runs.len());
        let plural = if threads == 1 { "" } else { "s" };
        match missing.len() {
            0 => eprintln!("{planned}, nothing left to do"),
            n => eprintln!("{planned}, {n} to do, {jobs} at a time with {threads} thread{plural} each"),
        }
    }
    if args.dry_run {
        missing.iter().for_each(|run| println!("{}  {}", run.id, launcher::name(run)));
        return Exit::Ok;
    }
    // The environment is looked at before anything is trained.
    if !missing.is_empty()
        && let Err(error) = device(args.device)
    {
        fail(error, "");
        return Exit::Environment;
    }
    if args.changes.name("") != "" && !cli.quiet {
        eprintln!(
            "note: with --set or --filter this is a sweep of its own, {}: tables of the whole one stay as they are",
            plan.name
        );
    }
    if let Err(error) = store.save_manifest(&plan.manifest(&command(args))) {
        fail(error, "");
        return Exit::Environment;
    }
    // Records of a sweep that is done are read once.
    let records = missing.is_empty().then_some(records);
    let tally = match missing.is_empty() {
        true => Tally::default(),
        false => {
            catch_signals();
            let memory = limits::available_memory().map(|bytes| (bytes as f64 * MEMORY_SHARE) as u64 / jobs as u64);
            let place =
                Place { store: args.folders.store.clone(), data, device: args.device, threads: threads as i64, memory };
            // Before its runs keep the machine busy: what their speeds are a share of.
            let machine = Machine::new(&args.folders.store, args.device, threads);
            for precision in [Precision::F32, Precision::Bf16] {
                if missing.iter().any(|run| run.spec.model.precision == precision) {
                    machine.measured(precision, true);
                }
            }
            let options = Options { jobs, fail_fast: args.fail_fast, retry: args.retry, place };
            let mut display = progress::display(missing.len(), cli.quiet, cli.verbose);
            match launch(missing, &store, &options, display.as_mut()) {
                Ok(tally) => tally,
                Err(error) => {
                    fail(error, "what has finished is kept; the same command goes on from there");
                    return Exit::Environment;
                }
            }
        }
    };
    if tally.interrupted {
        eprintln!("interrupted; to go on from the checkpoints: {}", command(args));
        return Exit::Interrupted;
    }
    let records = match records.map_or_else(|| read(&store, &ids, true), Ok) {
        Ok(records) => records,
        Err(exit) => return exit,
    };
    finish(args, cli, &plan, &store, records, tally)
}

/// Tables, plots and the exit code.
fn finish(args: &SweepArgs, cli: &Cli, plan: &Plan, store: &Store, records: Contents, tally: Tally) -> Exit {
    let of_run = |run: &&Planned| records.of_run(&run.id).is_some_and(|r| r.outcome != Outcome::Finished);
    let bad = plan.runs.iter().filter(of_run).count();
    let written = store
        .manifest(&plan.name)
        .map_err(|e| e.to_string())
        .and_then(|m| m.ok_or_else(|| "the sweep's plan is gone from the store".to_string()))
        .and_then(|manifest| Report::of(&manifest, records).map_err(|e| e.to_string()))
        .and_then(|report| {
            // Files first: whoever reads stdout may stop reading.
            let files = report.write(&store.report_dir(&plan.name)).map_err(|e| e.to_string());
            let text = if args.json { report.json() } else { report.terminal(width()) };
            println!("{}", text.trim_end());
            files
        });
    match written {
        Ok(_) if !cli.quiet => eprintln!("tables and plots: {}", store.report_dir(&plan.name).display()),
        Ok(_) => {}
        Err(error) => {
            fail(format!("the report could not be written: {error}"), "the records are safe; try `mixarena report`");
            return Exit::Failed;
        }
    }
    if bad > 0 && !cli.quiet {
        eprintln!("{bad} of {} runs did not finish; --retry tries them again", plan.runs.len());
    }
    if tally.waiting > 0 {
        eprintln!(
            "{} runs start from runs that are not done; run the command again when they are, without --limit",
            tally.waiting
        );
    }
    if tally.elsewhere > 0 {
        eprintln!(
            "{} runs are being done by another process; run the command again when it is through",
            tally.elsewhere
        );
    }
    if bad > 0 || tally.failed > 0 { Exit::Failed } else { Exit::Ok }
}

/// The records of these runs; files that are none are named once.
fn read(store: &Store, ids: &HashSet<&str>, quiet: bool) -> Result<Contents, Exit> {
    let contents = store.read_of(ids).map_err(|error| {
        fail(error, "");
        Exit::Environment
    })?;
    if !quiet {
        contents.warnings.iter().for_each(|w| eprintln!("warning: {w}"));
    }
    Ok(contents)
}

/// Children at a time and threads each. Small models gain more from a second run than from a second thread.
pub(super) fn share_cores(cores: usize, jobs: Option<usize>, runs: usize) -> (usize, usize) {
    let jobs = jobs.unwrap_or(if cores <= 2 { cores } else { cores / 2 }).clamp(1, runs.max(1));
    (jobs, (cores / jobs).max(1))
}

/// The command as a user would type it again, without what only concerns one call.
fn command(args: &SweepArgs) -> String {
    let mut text = format!("mixarena sweep {}", args.config.display());
    for set in &args.changes.sets {
        text += &format!(" --set '{set}'");
    }
    if let Some(filter) = &args.changes.filter {
        text += &format!(" --filter '{filter}'");
    }
    if args.changes.max_runs != MOST_RUNS {
        text += &format!(" --max-runs {}", args.changes.max_runs);
    }
    if args.folders.data.as_os_str() != "data" {
        text += &format!(" --data {}", args.folders.data.display());
    }
    if args.folders.store.as_os_str() != "runs" {
        text += &format!(" --store {}", args.folders.store.display());
    }
    text
}

/// Ctrl-C and SIGTERM are counted; the launcher acts on them.
fn catch_signals() {
    let handler = ctrlc::set_handler(|| {
        if SIGNALS.fetch_add(1, Ordering::Relaxed) > 2 {
            std::process::exit(130);
        }
    });
    if let Err(error) = handler {
        eprintln!("warning: Ctrl-C will not checkpoint: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_shared_and_never_left_without_a_thread() {
        assert_eq!(share_cores(2, None, 15), (2, 1));
        assert_eq!(share_cores(2, None, 1), (1, 2));
        assert_eq!(share_cores(16, None, 100), (8, 2));
        assert_eq!(share_cores(4, Some(9), 100), (9, 1));
        assert_eq!(share_cores(1, Some(0), 3), (1, 1));
    }
}
