//! `mixarena sweep`: plan, run what is missing, tell what came out.

use super::{data_errors, fail, filtered, load_whole, mistakes, width};
use crate::base::choices::{DeviceKind, KeepKind};
use crate::base::cuda::device;
use crate::base::exit::Exit;
use crate::base::limits;
use crate::base::output;
use crate::base::signals;
use crate::base::template::Template;
use crate::cli::{Cli, SweepArgs};
use crate::config::{Config, MOST_RUNS};
use crate::registry::Registry;
use crate::sweep::gauge::measured;
use crate::sweep::launcher::{Job, Options, Tally, launch, wants};
use crate::sweep::machine::Machine;
use crate::sweep::matching;
use crate::sweep::opened::open_tasks;
use crate::sweep::plan::{Plan, Planned, name};
use crate::sweep::progress;
use crate::sweep::run::Place;
use crate::sweep::sizes::Counter;
use mixers::Precision;
use results::report::Report;
use results::{Contents, Keep, Manifest, Outcome, Store};
use std::collections::HashSet;
use tasks::DataDir;

/// Share of the available memory that the runs of a sweep may use together.
const MEMORY_SHARE: f64 = 0.9;

/// Runs the command.
pub fn sweep(args: &SweepArgs, cli: &Cli, registry: &Registry, template: Option<Template>) -> Exit {
    Sweep::prepare(args, cli, registry).and_then(|sweep| sweep.run(template)).unwrap_or_else(|exit| exit)
}

/// A sweep that is planned. Where a method gives an [`Exit`] for an error, what is wrong has been printed.
struct Sweep<'a> {
    args: &'a SweepArgs,
    cli: &'a Cli,
    plan: Plan,
    /// Names of the runs that runs which a filter left out start from: whether those are done is not known here.
    starts: HashSet<String>,
    data: DataDir,
    store: Store,
}

impl<'a> Sweep<'a> {
    /// Reads the config, opens its tasks and the store.
    fn prepare(args: &'a SweepArgs, cli: &'a Cli, registry: &Registry) -> Result<Self, Exit> {
        let whole = load_whole(&args.config, &args.changes, cli.quiet, registry)?;
        let config = filtered(whole.clone(), &args.changes)?;
        let config = Config { name: args.changes.name(&config.name), ..config };
        let data = DataDir(args.folders.data.clone());
        let opened = open_tasks(&config, registry, &data, |_| true);
        matching::check(&config, &mut Counter::new(registry, &opened))
            .map_err(|found| mistakes(&args.config, &found))?;
        let plan = Plan::expand(&config, registry, &opened).map_err(|errors| data_errors(&errors))?;
        let store = Store::open(&args.folders.store).map_err(environment)?;
        Ok(Self { args, cli, plan, starts: starts_of_others(&whole, &config), data, store })
    }

    fn run(&self, template: Option<Template>) -> Result<Exit, Exit> {
        let records = self.read(self.cli.quiet)?;
        let missing = self.missing(&records);
        let (jobs, threads) = share_cores(limits::cores(), self.args.jobs, self.args.threads);
        self.announce(missing.len(), jobs, threads);
        if self.args.dry_run {
            missing.iter().for_each(|run| println!("{}  {}", run.id, name(&run.draft)));
            return Ok(Exit::Ok);
        }
        // The environment is checked before anything is trained.
        if !missing.is_empty() {
            device(self.args.device).map_err(environment)?;
        }
        if !self.args.changes.name("").is_empty() && !self.cli.quiet {
            eprintln!(
                "note: with --set or --filter this is a sweep of its own, {}: tables of the whole one stay as they are",
                self.plan.name
            );
        }
        output::go_on_without_reader();
        // Before anything is written: what is superfluous may be what fills the disk.
        self.store.clear_abandoned();
        self.tidy(&records);
        let manifest = self.plan.manifest(&command(self.args));
        if let Err(error) = self.store.save_manifest(&manifest) {
            let exit = environment(error);
            if missing.is_empty() {
                // Its table needs nothing but the records.
                self.show(&manifest, records);
            }
            return Err(exit);
        }
        if missing.is_empty() {
            return Ok(self.finish(&manifest, records, &Tally::default()));
        }
        let tally = self.train(&missing, jobs.min(missing.len()), threads, template)?;
        if tally.interrupted {
            eprintln!("interrupted; to go on from the checkpoints: {}", resuming(self.args));
            return Ok(Exit::Interrupted);
        }
        let records = self.read(true)?;
        self.tidy(&records);
        Ok(self.finish(&manifest, records, &tally))
    }

    /// The records of the plan's runs; files that are none are named once.
    fn read(&self, quiet: bool) -> Result<Contents, Exit> {
        let ids: HashSet<&str> = self.plan.all().map(|run| run.id.as_str()).collect();
        let contents = self.store.read_of(&ids).map_err(environment)?;
        if !quiet {
            contents.warnings.iter().for_each(|w| eprintln!("warning: {w}"));
        }
        Ok(contents)
    }

    /// Runs that are to be done now.
    fn missing(&self, records: &Contents) -> Vec<Planned> {
        let found = |id: &str| records.of_run(id).cloned();
        let wanted =
            |run: &Planned| records.of_run(&run.id).is_none_or(|record| wants(record, self.args.retry, &found));
        let mut missing = self.plan.missing(wanted);
        missing.truncate(self.args.limit.unwrap_or(usize::MAX));
        missing
    }

    fn announce(&self, missing: usize, jobs: usize, threads: usize) {
        if self.cli.quiet {
            return;
        }
        let planned = format!("{}: {} runs planned", self.plan.name, self.plan.runs.len());
        let plural = if threads == 1 { "" } else { "s" };
        match missing {
            0 => eprintln!("{planned}, nothing left to do"),
            n => eprintln!("{planned}, {n} to do, {} at a time with {threads} thread{plural} each", jobs.min(n)),
        }
    }

    /// Trains runs, `jobs` at a time.
    fn train(
        &self,
        missing: &[Planned],
        jobs: usize,
        threads: usize,
        template: Option<Template>,
    ) -> Result<Tally, Exit> {
        let args = self.args;
        signals::catch(Some(super::KILLS_AT_ONCE));
        // Before the runs keep the machine busy: what their speeds are a share of.
        let machine = Machine::new(&args.folders.store, args.device, threads);
        for precision in [Precision::F32, Precision::Bf16] {
            if missing.iter().any(|run| run.spec.model.precision == precision) {
                measured(&machine, precision, true);
            }
        }
        let template = match template {
            Some(_) if !Template::fits(threads) && missing.len() == 1 => None,
            Some(_) if !Template::fits(threads) => Template::spawn(threads).ok(),
            template => template,
        };
        let memory = limits::available_memory().map(|bytes| (bytes as f64 * MEMORY_SHARE) as u64 / jobs as u64);
        let (threads, keep) = (threads as i64, Keep::from(args.keep));
        let (store, data) = (args.folders.store.clone(), self.data.clone());
        let place = Place { store, data, device: args.device, threads, memory, keep };
        let options = Options { jobs, fail_fast: args.fail_fast, retry: args.retry, place };
        let mut display = progress::display(missing.len(), self.cli.quiet, self.cli.verbose);
        // Who starts from a run needs its best weights, whatever is kept in the end.
        let followed: HashSet<&str> = self.plan.all().filter_map(|run| run.after.as_deref()).collect();
        let queue = missing.iter().map(|run| Job::new(run, self.kept(run, keep, &followed))).collect();
        launch(queue, &self.store, &options, template, display.as_mut()).map_err(|error| {
            fail(error, "what has finished is kept; the same command goes on from there");
            Exit::Environment
        })
    }

    /// What is kept of a run: at least its best weights where one of `followed`, or a run that a filter left out, starts from it.
    fn kept(&self, run: &Planned, keep: Keep, followed: &HashSet<&str>) -> Keep {
        let needed = followed.contains(run.id.as_str()) || self.starts.contains(&name(&run.draft));
        if needed { keep.max(Keep::Best) } else { keep }
    }

    /// Removes what finished runs no longer need.
    fn tidy(&self, records: &Contents) {
        let finished = |run: &Planned| records.of_run(&run.id).is_some_and(|run| run.outcome == Outcome::Finished);
        let unfinished = self.plan.runs.iter().filter(|run| !finished(run));
        let followed: HashSet<&str> = unfinished.filter_map(|run| run.after.as_deref()).collect();
        let keep = Keep::from(self.args.keep);
        let own = self.plan.runs.iter().map(|run| (run, self.kept(run, keep, &followed)));
        // Whose followers a filter left out is not known.
        for (run, keep) in own.chain(self.plan.needed.iter().map(|run| (run, keep.max(Keep::Best)))) {
            if let Err(error) = self.store.tidy(&run.id, keep) {
                eprintln!("warning: {error}");
            }
        }
    }

    /// Prints the sweep's tables after it wrote them to files; whether that worked.
    fn show(&self, manifest: &Manifest, records: Contents) -> bool {
        let written = Report::of(manifest, records).map_err(|e| e.to_string()).and_then(|report| {
            // Files first: whoever reads stdout may stop reading.
            let files = report.write(&self.store.report_dir(&manifest.name)).map_err(|e| e.to_string());
            let text = if self.args.json { report.json() } else { report.terminal(width()) };
            println!("{}", text.trim_end());
            files
        });
        if let Err(error) = &written {
            fail(format!("the report could not be written: {error}"), "the records are safe; try `mixarena report`");
        }
        written.is_ok()
    }

    /// Tables, plots and the exit code.
    fn finish(&self, manifest: &Manifest, records: Contents, tally: &Tally) -> Exit {
        let (plan, quiet) = (&self.plan, self.cli.quiet);
        let unfinished = |run: &&Planned| records.of_run(&run.id).is_some_and(|r| r.outcome != Outcome::Finished);
        let bad = plan.runs.iter().filter(unfinished).count();
        let still = |id: &&String| records.of_run(id).is_none_or(|record| !record.outcome.is_final());
        let elsewhere = tally.elsewhere.iter().filter(still).count();
        let shown = self.show(manifest, records);
        if !quiet && shown {
            eprintln!("tables and plots: {}", self.store.report_dir(&plan.name).display());
        }
        if bad > 0 && !quiet {
            eprintln!("{bad} of {} runs did not finish; --retry tries them again", plan.runs.len());
        }
        if tally.waiting > 0 {
            eprintln!(
                "{} runs start from runs that are not done; run the command again when they are, without --limit",
                tally.waiting
            );
        }
        if elsewhere > 0 {
            let (runs, are) = if elsewhere == 1 { ("run", "is") } else { ("runs", "are") };
            eprintln!(
                "{elsewhere} {runs} {are} being done by another process; run the command again when it is through"
            );
        }
        exit(bad + tally.failed, elsewhere + tally.waiting, shown)
    }
}

/// Prints an error of the environment, for which nothing general can be advised.
fn environment(error: impl std::fmt::Display) -> Exit {
    fail(error, "");
    Exit::Environment
}

/// Names of the runs that runs which a filter left out start from.
fn starts_of_others(whole: &Config, config: &Config) -> HashSet<String> {
    let own: HashSet<String> = config.runs.iter().map(name).collect();
    let others = whole.runs.iter().filter(|draft| !own.contains(&name(draft)));
    others.flat_map(|draft| draft.chain().skip(1)).map(name).collect()
}

/// The exit code of a sweep of which so many runs failed and so many are left to other processes.
fn exit(failed: usize, left: usize, shown: bool) -> Exit {
    match (failed, shown, left) {
        (1.., ..) => Exit::Failed,
        (_, false, _) => Exit::Environment,
        (_, _, 1..) => Exit::Elsewhere,
        _ => Exit::Ok,
    }
}

/// Runs at a time, at most, and threads of each. Small models gain more from a second run than from a second thread. How many
/// runs are left has no say in it: numbers depend on the threads, and the last run of a sweep is to end as the first did.
pub(super) fn share_cores(cores: usize, jobs: Option<usize>, threads: Option<usize>) -> (usize, usize) {
    let by_default = match threads {
        Some(threads) => cores / threads.max(1),
        None if cores <= 2 => cores,
        None => cores / 2,
    };
    let jobs = jobs.unwrap_or(by_default).max(1);
    (jobs, threads.unwrap_or(cores / jobs).max(1))
}

/// The command as a user would type it again, without what only concerns one call.
fn command(args: &SweepArgs) -> String {
    let mut text = format!("mixarena sweep {}", quoted(&args.config.to_string_lossy()));
    for set in &args.changes.sets {
        text += &format!(" --set {}", in_quotes(set));
    }
    if let Some(filter) = &args.changes.filter {
        text += &format!(" --filter {}", in_quotes(filter));
    }
    if args.changes.max_runs != MOST_RUNS {
        text += &format!(" --max-runs {}", args.changes.max_runs);
    }
    if args.folders.data.as_os_str() != "data" {
        text += &format!(" --data {}", quoted(&args.folders.data.to_string_lossy()));
    }
    if args.folders.store.as_os_str() != "runs" {
        text += &format!(" --store {}", quoted(&args.folders.store.to_string_lossy()));
    }
    text
}

/// The command that goes on with an interrupted sweep as it was begun.
fn resuming(args: &SweepArgs) -> String {
    let mut text = command(args);
    let number = |flag: &str, n: Option<usize>| n.map_or(String::new(), |n| format!(" {flag} {n}"));
    text += &(number("-j", args.jobs) + &number("--threads", args.threads));
    if args.device != DeviceKind::Cpu {
        text += &format!(" --device {}", args.device.word());
    }
    if args.keep != KeepKind::Best {
        text += &format!(" --keep {}", args.keep.word());
    }
    if args.retry {
        text += " --retry";
    }
    text
}

/// A word as a shell takes it: in quotes where it needs them.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(plain) { word.into() } else { in_quotes(word) }
}

fn in_quotes(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_ends_well_only_when_every_run_is_done_and_its_report_is_written() {
        assert_eq!(exit(0, 0, true), Exit::Ok);
        assert_eq!(exit(0, 1, true), Exit::Elsewhere, "runs that wait are not done");
        assert_eq!(exit(0, 0, false), Exit::Environment, "no run failed");
        assert_eq!([exit(1, 0, false), exit(1, 1, true)], [Exit::Failed; 2]);
    }

    #[test]
    fn cores_are_shared_and_never_left_without_a_thread() {
        assert_eq!(share_cores(2, None, None), (2, 1));
        assert_eq!(share_cores(2, Some(1), None), (1, 2));
        assert_eq!(share_cores(16, None, None), (8, 2));
        assert_eq!(share_cores(4, Some(9), None), (9, 1));
        assert_eq!(share_cores(1, Some(0), None), (1, 1));
        assert_eq!(share_cores(16, None, Some(4)), (4, 4));
        assert_eq!(share_cores(2, None, Some(4)), (1, 4));
        assert_eq!(share_cores(2, Some(2), Some(0)), (2, 1));
    }

    #[test]
    fn a_word_is_quoted_for_a_shell_where_it_must_be() {
        assert_eq!(quoted("runs/a-1.yaml"), "runs/a-1.yaml");
        assert_eq!(quoted("my store"), "'my store'");
        assert_eq!(quoted("it's; rm -rf $HOME"), "'it'\\''s; rm -rf $HOME'");
        assert_eq!(quoted(""), "''");
    }
}
