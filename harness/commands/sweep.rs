//! `mixarena sweep`: plan, run what is missing, tell what came out.

use super::{data_errors, fail, filtered, load_whole, mistakes, sizes_chosen, width};
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
use crate::sweep::opened::{OpenedTask, open_tasks};
use crate::sweep::plan::{Plan, Planned, name};
use crate::sweep::progress;
use crate::sweep::run::Place;
use crate::sweep::search::{Known, runs};
use crate::sweep::sizes::Counter;
use mixers::Precision;
use results::report::Report;
use results::{Contents, Expected, Keep, Manifest, Outcome, Store};
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
    registry: &'a Registry,
    config: Config,
    opened: Vec<OpenedTask>,
    /// The runs that are known so far: under `tune` those of the config are when their setting is chosen.
    plan: Plan,
    /// Names of the runs that runs which a filter left out start from: whether those are done is not known here.
    starts: HashSet<String>,
    data: DataDir,
    store: Store,
}

impl<'a> Sweep<'a> {
    /// Reads the config, opens its tasks and the store.
    fn prepare(args: &'a SweepArgs, cli: &'a Cli, registry: &'a Registry) -> Result<Self, Exit> {
        let whole = load_whole(&args.config, &args.changes, cli.quiet, registry)?;
        let config = filtered(whole.clone(), &args.changes)?;
        let mut config = Config { name: args.changes.name(&config.name), ..config };
        let data = DataDir(args.folders.data.clone());
        let opened = open_tasks(&config, registry, &data, |_| true);
        matching::hold(&mut config, &mut Counter::new(registry, &opened))
            .map_err(|found| mistakes(&args.config, &found))?;
        if !cli.quiet {
            sizes_chosen(&config).iter().for_each(|line| eprintln!("match: {line}"));
        }
        let plan = planned(&config, &Known::default(), registry, &opened)?;
        let store = Store::open(&args.folders.store).map_err(environment)?;
        let starts = starts_of_others(&whole, &config);
        Ok(Self { args, cli, registry, config, opened, plan, starts, data, store })
    }

    /// Plans every run that what has been found decides; the records of these runs.
    fn replan(&mut self, quiet: bool) -> Result<Contents, Exit> {
        let mut known = 0;
        let mut records = self.read(quiet)?;
        loop {
            let found = Known::of(&self.plan.runs, &records);
            if found.len() == known {
                return Ok(records);
            }
            known = found.len();
            self.plan = planned(&self.config, &found, self.registry, &self.opened)?;
            records = self.read(true)?;
        }
    }

    fn run(mut self, mut template: Option<Template>) -> Result<Exit, Exit> {
        let mut records = self.replan(self.cli.quiet)?;
        let mut left = self.args.limit.unwrap_or(usize::MAX);
        let mut missing = self.missing(&records, left, &HashSet::new());
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
        let mut tally = Tally::default();
        let mut tried: HashSet<String> = HashSet::new();
        // Once, but under `tune` again whenever a search has chosen what is to be run next.
        loop {
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
                return Ok(self.finish(&manifest, records, &tally));
            }
            if tried.is_empty() {
                template = self.begin(&missing, threads, template);
            }
            tally = tally.and(self.train(&missing, jobs.min(missing.len()), threads, &mut template)?);
            if tally.interrupted {
                eprintln!("interrupted; to go on from the checkpoints: {}", resuming(self.args));
                return Ok(Exit::Interrupted);
            }
            left -= missing.len();
            tried.extend(missing.into_iter().map(|run| run.id));
            records = self.replan(true)?;
            self.tidy(&records);
            missing = match self.args.fail_fast && tally.failed > 0 {
                true => Vec::new(),
                false => self.missing(&records, left, &tried),
            };
            if !missing.is_empty() {
                self.announce(missing.len(), jobs, threads);
            }
        }
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

    /// Runs that are to be done now, `most` at most and none that was `tried` before.
    fn missing(&self, records: &Contents, most: usize, tried: &HashSet<String>) -> Vec<Planned> {
        let found = |id: &str| records.of_run(id).cloned();
        let wanted = |run: &Planned| {
            let wanted = records.of_run(&run.id).is_none_or(|record| wants(record, self.args.retry, &found));
            wanted && !tried.contains(&run.id)
        };
        let mut missing = self.plan.missing(wanted);
        missing.truncate(most);
        missing
    }

    /// Runs of the config whose setting is not chosen yet.
    fn unplanned(&self) -> usize {
        self.config.runs.len() - self.plan.runs.iter().filter(|run| !run.draft.is_search()).count()
    }

    fn announce(&self, missing: usize, jobs: usize, threads: usize) {
        if self.cli.quiet {
            return;
        }
        let later = match self.unplanned() {
            0 => String::new(),
            n => format!(" and {n} more when the search has chosen their settings"),
        };
        let planned = format!("{}: {} runs planned{later}", self.plan.name, self.plan.runs.len());
        let plural = if threads == 1 { "" } else { "s" };
        match missing {
            0 => eprintln!("{planned}, nothing left to do"),
            n => eprintln!("{planned}, {n} to do, {} at a time with {threads} thread{plural} each", jobs.min(n)),
        }
    }

    /// What comes before the first run: signals, the machine's speed while it is idle, and the process that runs are copies of.
    fn begin(&self, missing: &[Planned], threads: usize, template: Option<Template>) -> Option<Template> {
        signals::catch(Some(super::KILLS_AT_ONCE));
        // Before the runs keep the machine busy: what their speeds are a share of.
        let machine = Machine::new(self.args.device, threads);
        for precision in [Precision::F32, Precision::Bf16] {
            if missing.iter().any(|run| run.spec.model.precision == precision) {
                measured(&machine, precision);
            }
        }
        match template {
            Some(_) if !Template::fits(threads) && missing.len() == 1 => None,
            Some(_) if !Template::fits(threads) => Template::spawn(threads).ok(),
            template => template,
        }
    }

    /// Trains runs, `jobs` at a time.
    fn train(
        &self,
        missing: &[Planned],
        jobs: usize,
        threads: usize,
        template: &mut Option<Template>,
    ) -> Result<Tally, Exit> {
        let args = self.args;
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
        match keep {
            Keep::Best if run.draft.is_search() => Keep::None,
            keep if needed => keep.max(Keep::Best),
            keep => keep,
        }
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

    /// Prints the sweep's tables after it wrote them to files.
    fn show(&self, manifest: &Manifest, records: Contents) -> Shown {
        let mut missed = Vec::new();
        let written = Report::of(manifest, records).map_err(|e| e.to_string()).and_then(|report| {
            missed = report.table().missed(manifest);
            // Files first: whoever reads stdout may stop reading.
            let files = report.write(&self.store.report_dir(&manifest.name)).map_err(|e| e.to_string());
            let text = if self.args.json { report.json() } else { report.terminal(width()) };
            println!("{}", text.trim_end());
            files
        });
        if let Err(error) = &written {
            fail(format!("the report could not be written: {error}"), "the records are safe; try `mixarena report`");
        }
        Shown { written: written.is_ok(), missed }
    }

    /// Tables, plots and the exit code.
    fn finish(&self, manifest: &Manifest, records: Contents, tally: &Tally) -> Exit {
        let (plan, quiet) = (&self.plan, self.cli.quiet);
        let unfinished = |run: &&Planned| records.of_run(&run.id).is_some_and(|r| r.outcome != Outcome::Finished);
        // A setting that diverges is what a search finds out.
        let (searched, own): (Vec<&Planned>, _) = plan.runs.iter().partition(|run| run.draft.is_search());
        let bad = own.into_iter().filter(unfinished).count();
        let searched = searched.into_iter().filter(unfinished).count();
        let unplanned = self.unplanned();
        let still = |id: &&String| records.of_run(id).is_none_or(|record| !record.outcome.is_final());
        let elsewhere = tally.elsewhere.iter().filter(still).count();
        let Shown { written: shown, missed } = self.show(manifest, records);
        if !quiet && shown {
            eprintln!("tables and plots: {}", self.store.report_dir(&plan.name).display());
        }
        for expected in &missed {
            let Expected { mixer, task, claim, score, .. } = expected;
            eprintln!("missed: {mixer} on {task} was expected {claim}; it scored {score}");
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
        if unplanned > 0 {
            eprintln!("the search is not over: {unplanned} runs have no setting yet; run the command again");
        }
        exit(bad + missed.len() + tally.failed.saturating_sub(searched), elsewhere + tally.waiting + unplanned, shown)
    }
}

/// What came of printing tables.
struct Shown {
    /// Whether they are in files too.
    written: bool,
    /// Expectations that do not hold.
    missed: Vec<Expected>,
}

/// The plan of what is known; what is wrong with the data has been printed.
fn planned(config: &Config, known: &Known, registry: &Registry, opened: &[OpenedTask]) -> Result<Plan, Exit> {
    let config = Config { runs: runs(config, known), ..config.clone() };
    Plan::expand(&config, registry, opened).map_err(|errors| data_errors(&errors))
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
