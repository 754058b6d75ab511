//! `mixarena run`: one run in this process.

use super::fail;
use crate::Exit;
use crate::cli::{Cli, RunArgs};
use crate::events::Event;
use crate::launcher::SIGNALS;
use crate::limits;
use crate::progress;
use crate::registry::Registry;
use crate::run::{Place, RunError, read_own_spec, run as train};
use results::Outcome;
use std::io::{Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use tasks::DataDir;

/// Set when the run is to checkpoint and end.
static STOP: AtomicBool = AtomicBool::new(false);

/// Runs the command.
pub fn run(args: &RunArgs, cli: &Cli, registry: &Registry) -> Exit {
    let spec = match read_own_spec(&args.spec, registry) {
        Ok(spec) => spec,
        Err(problem) => {
            fail(problem, "give a spec.json that `mixarena sweep` wrote");
            return Exit::Usage;
        }
    };
    let handler = ctrlc::set_handler(|| {
        STOP.store(true, Ordering::Relaxed);
        if SIGNALS.fetch_add(1, Ordering::Relaxed) > 0 {
            std::process::exit(130);
        }
    });
    if let Err(error) = handler {
        eprintln!("warning: Ctrl-C will not checkpoint: {error}");
    }
    let memory = args.memory.or_else(|| limits::available_memory().map(|bytes| bytes / 10 * 9));
    let place = Place {
        store: args.folders.store.clone(),
        data: DataDir(args.folders.data.clone()),
        device: args.device,
        threads: args.threads.unwrap_or_else(limits::cores).max(1) as i64,
        memory,
    };
    let ended = match args.events {
        true => {
            watch_stdin();
            train(&spec, &place, registry, &STOP, print_event)
        }
        false => {
            let mut display = progress::display(1, cli.quiet, cli.verbose);
            let name = format!("{} · {} · seed {}", spec.task.name, spec.mixer.name, spec.seed);
            display.started(0, &name);
            let ended = train(&spec, &place, registry, &STOP, |event| display.event(0, &event));
            if let Ok(record) = &ended {
                display.ended(0, &name, record);
            }
            ended
        }
    };
    match ended {
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

/// One line on stdout. A reader that is gone is noticed through stdin.
fn print_event(event: Event) {
    let line = serde_json::to_string(&event).expect("an event is plain data");
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The parent holds the other end: when it closes, by wish or by death, the run checkpoints and ends.
fn watch_stdin() {
    // A parent that dies takes the reader of stdout along: writing to it must not kill this process before its checkpoint.
    #[cfg(unix)]
    // SAFETY: only changes what a write to a closed pipe does: an error instead of a signal.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_IGN);
    }
    std::thread::spawn(|| {
        let mut buffer = [0u8; 64];
        while matches!(std::io::stdin().read(&mut buffer), Ok(n) if n > 0) {}
        STOP.store(true, Ordering::Relaxed);
    });
}
