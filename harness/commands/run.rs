//! `mixarena run`: one run, in a process of its own.
//!
//! With `--events` this process trains, and talks to the one that started it. Without, it is that other one, as `sweep` is: whatever
//! the run dies of then becomes a record, memory that ran out included.

use super::fail;
use crate::base::cuda::device;
use crate::base::events::Event;
use crate::base::exit::Exit;
use crate::base::limits;
use crate::base::output;
use crate::base::process::name_process;
use crate::base::signals;
use crate::base::template::Template;
use crate::cli::{Cli, RunArgs};
use crate::registry::Registry;
use crate::sweep::gauge::measured;
use crate::sweep::launcher::{Job, Options, launch};
use crate::sweep::machine::Machine;
use crate::sweep::progress;
use crate::sweep::run::{Place, RunError, run as train};
use crate::train::spec::RunSpec;
use crate::train::vet;
use results::{Outcome, Store};
use std::io::{Read, Write};
use std::sync::atomic::Ordering;
use tasks::DataDir;

/// Runs the command.
pub fn run(args: &RunArgs, cli: &Cli, registry: &Registry, template: Option<Template>) -> Exit {
    output::go_on_without_reader();
    if args.events {
        // First of all: until now signals waited.
        signals::catch(None);
        name_process(c"mixarena-run");
    }
    let spec = match vet::read_file(&args.spec, registry) {
        Ok(spec) => spec,
        Err(problem) => {
            fail(problem, "give a spec.json that `mixarena sweep` wrote");
            return Exit::Usage;
        }
    };
    let memory = args.memory.or_else(|| limits::available_memory().map(|bytes| bytes / 10 * 9));
    let place = Place {
        store: args.folders.store.clone(),
        data: DataDir(args.folders.data.clone()),
        device: args.device,
        threads: args.threads.unwrap_or_else(limits::cores).max(1) as i64,
        memory,
        keep: args.keep.into(),
    };
    // Before anything computes here. A sweep has done it for its runs.
    let machine = Machine::new(&place.store, place.device, place.threads as usize);
    if !args.events || machine.known(spec.model.precision).is_none() {
        measured(&machine, spec.model.precision, true);
    }
    if args.events {
        return child(&spec, &place, registry);
    }
    match parent(spec, place, template, cli) {
        Ok(exit) => exit,
        Err(problem) => {
            fail(problem, "");
            Exit::Environment
        }
    }
}

/// Trains in this process.
fn child(spec: &RunSpec, place: &Place, registry: &Registry) -> Exit {
    watch_stdin();
    match train(spec, place, registry, &signals::STOP, print_event) {
        Ok(record) => match record.outcome {
            Outcome::Finished => Exit::Ok,
            Outcome::Interrupted { .. } => Exit::Interrupted,
            _ => Exit::Failed,
        },
        Err(error) => {
            fail(&error, "");
            match error {
                RunError::Environment(_) => Exit::Environment,
                _ => Exit::Failed,
            }
        }
    }
}

/// Starts the process that trains, and shows how it gets on.
fn parent(spec: RunSpec, place: Place, template: Option<Template>, cli: &Cli) -> Result<Exit, String> {
    device(place.device)?;
    let store = Store::open(&place.store).map_err(|error| error.to_string())?;
    let (id, name) = (spec.id(), format!("{} · {} · seed {}", spec.task.name, spec.mixer.name, spec.seed));
    let latest = store.latest(&id).map_err(|error| error.to_string())?;
    if let Some(record) = latest.filter(|record| record.outcome == Outcome::Finished) {
        eprintln!("{name}: has finished already (run {id}, attempt {})", record.attempt);
        return Ok(Exit::Ok);
    }
    signals::catch(Some(super::KILLS_AT_ONCE));
    // Whether the run it starts from is there is for the run to say.
    let job = Job { name, id, spec, after: None, keep: place.keep };
    let template = template.filter(|_| Template::fits(place.threads as usize));
    let options = Options { jobs: 1, fail_fast: false, retry: true, place };
    let mut display = progress::display(1, cli.quiet, cli.verbose);
    let tally = launch(vec![job], &store, &options, template, display.as_mut()).map_err(|error| error.to_string())?;
    Ok(match tally {
        tally if tally.interrupted => Exit::Interrupted,
        tally if tally.failed > 0 => Exit::Failed,
        tally if !tally.elsewhere.is_empty() => Exit::Elsewhere,
        _ => Exit::Ok,
    })
}

/// One line on stdout. A reader that is gone is noticed through stdin.
fn print_event(event: Event) {
    let line = serde_json::to_string(&event).expect("an event is plain data");
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The parent holds the other end: when it closes, by wish or by death, the run checkpoints and ends.
fn watch_stdin() {
    std::thread::spawn(|| {
        let mut buffer = [0u8; 64];
        while matches!(std::io::stdin().read(&mut buffer), Ok(n) if n > 0) {}
        signals::STOP.store(true, Ordering::Relaxed);
    });
}
