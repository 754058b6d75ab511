//! Local runs: one child process each, `jobs` at a time, sharing the cores.
//!
//! A child trains and writes its own record when it ends in an orderly way; this process writes one only for a child that
//! could not. Closing a child's standard input asks it to checkpoint and stop, which also happens by itself when this
//! process dies.

use crate::events::Event;
use crate::plan::Planned;
use crate::progress::Display;
use crate::run::{Place, blank, panic_reason};
use results::{Claim, Outcome, Record, Store};
use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Seconds a run may pass its own limit before it is killed.
const GRACE_SECONDS: f64 = 120.0;
/// How often claims are renewed, and looked at: a sweep that slept too long may have lost some.
const TOUCH_EVERY: Duration = Duration::from_secs(5);

/// Set by the handler of Ctrl-C: 1 asks children to stop, 2 and more kill them.
pub static SIGNALS: AtomicU8 = AtomicU8::new(0);

/// How a sweep's runs went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Runs that finished now.
    pub finished: usize,
    /// Runs that ended otherwise now.
    pub failed: usize,
    /// Runs that another process holds.
    pub elsewhere: usize,
    /// Runs whose start is not there yet.
    pub waiting: usize,
    /// Whether the user stopped the sweep.
    pub interrupted: bool,
}

/// What can stop a sweep itself.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] results::StoreError),
    /// A child cannot be started.
    #[error("cannot start {what}: {why}")]
    Start {
        /// The file or program.
        what: String,
        /// What the system said.
        why: String,
    },
}

struct Running {
    run: Planned,
    child: Child,
    /// Dropped to ask the child to stop.
    stdin: Option<ChildStdin>,
    claim: Claim,
    begun: Instant,
    /// The attempt that the child's record was filed under.
    ended: Option<u32>,
    /// Whether another process took the run over, and the child was killed for it.
    lost: bool,
}

enum Message {
    Event(usize, Event),
    /// The child closed its output.
    Closed(usize),
}

/// Options of a launch.
#[derive(Clone, Debug)]
pub struct Options {
    /// Children at a time.
    pub jobs: usize,
    /// Stop starting runs after the first that fails.
    pub fail_fast: bool,
    /// Try failed, diverged and timed-out runs again.
    pub retry: bool,
    /// Where and how children compute; threads are per child.
    pub place: Place,
}

impl Options {
    /// Whether a run with this record is to be done (again).
    pub fn wants(&self, record: &Record) -> bool {
        wants(record, self.retry)
    }
}

/// Whether a run with this record is to be done (again).
pub fn wants(record: &Record, retry: bool) -> bool {
    !record.outcome.is_final() || (retry && record.outcome != Outcome::Finished)
}

/// Runs everything in `queue`.
pub fn launch(
    queue: Vec<Planned>,
    store: &Store,
    options: &Options,
    display: &mut dyn Display,
) -> Result<Tally, LaunchError> {
    let (sender, receiver) = channel();
    let mut launcher = Launcher {
        store,
        options,
        display,
        sender,
        running: Vec::new(),
        queue: queue.into(),
        tally: Tally::default(),
        touched: Instant::now(),
    };
    let outcome = launcher.drive(&receiver);
    if outcome.is_err() {
        // An error of ours must not leave children behind.
        for slot in launcher.running.iter_mut().flatten() {
            let _ = slot.child.kill();
        }
    }
    outcome.map(|()| launcher.tally)
}

struct Launcher<'a> {
    store: &'a Store,
    options: &'a Options,
    display: &'a mut dyn Display,
    sender: Sender<Message>,
    /// By slot; a slot is never used twice.
    running: Vec<Option<Running>>,
    queue: VecDeque<Planned>,
    tally: Tally,
    touched: Instant,
}

impl Launcher<'_> {
    fn drive(&mut self, receiver: &Receiver<Message>) -> Result<(), LaunchError> {
        loop {
            self.obey_signals();
            let active = self.running.iter().flatten().count();
            let stopping = self.tally.interrupted || (self.options.fail_fast && self.tally.failed > 0);
            if active == 0 && (stopping || self.queue.is_empty()) {
                return Ok(());
            }
            if active < self.options.jobs && !stopping {
                match self.ready()? {
                    Some(run) => {
                        self.start(run)?;
                        continue;
                    }
                    None if active == 0 => {
                        self.tally.waiting = self.queue.len();
                        return Ok(());
                    }
                    None => {}
                }
            }
            match receiver.recv_timeout(Duration::from_millis(200)) {
                Ok(Message::Event(slot, event)) => self.hear(slot, &event),
                Ok(Message::Closed(slot)) => self.reap(slot)?,
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {}
            }
            self.touch_claims();
            self.kill_overdue();
        }
    }

    /// Takes the first run out of the queue whose start is there. One whose start ended badly gets a record that says so.
    fn ready(&mut self) -> Result<Option<Planned>, LaunchError> {
        let mut at = 0;
        while at < self.queue.len() {
            let before = match &self.queue[at].after {
                None => return Ok(self.queue.remove(at)),
                Some(id) => self.store.latest(id)?,
            };
            match before {
                Some(record) if record.outcome == Outcome::Finished => return Ok(self.queue.remove(at)),
                // One that is to be tried again is in the queue itself, or running.
                Some(record) if record.outcome.is_final() && !self.expects(&record.id) => {
                    let run = self.queue.remove(at).expect("it was just looked at");
                    self.bury(&run, &record)?;
                }
                _ => at += 1,
            }
        }
        Ok(None)
    }

    /// Whether a run is still to end in this sweep.
    fn expects(&self, id: &str) -> bool {
        self.queue
            .iter()
            .map(|run| &run.id)
            .chain(self.running.iter().flatten().map(|r| &r.run.id))
            .any(|own| own == id)
    }

    /// The record of a run whose start `before` did not finish.
    fn bury(&mut self, run: &Planned, before: &Record) -> Result<(), LaunchError> {
        let mut record = blank(&run.spec, &self.options.place, tch::Device::Cpu);
        record.device.kind = self.options.place.device.word().into();
        let why =
            format!("run {}, which it starts from, {}: {}", before.id, past(&before.outcome), before.outcome.reason());
        record.outcome = Outcome::Failed { reason: why };
        record.attempt = self.store.append(&record)?;
        self.tally.failed += 1;
        let slot = self.running.len();
        self.running.push(None);
        self.display.started(slot, &name(run));
        self.display.ended(slot, &name(run), &record);
        Ok(())
    }

    /// Passes Ctrl-C on: once to stop at the next step, twice to kill.
    fn obey_signals(&mut self) {
        let signals = SIGNALS.load(Ordering::Relaxed);
        if signals == 0 {
            return;
        }
        if !self.tally.interrupted {
            self.tally.interrupted = true;
            self.display.say("stopping: runs write a checkpoint and end (press Ctrl-C again to kill them)");
        }
        for running in self.running.iter_mut().flatten() {
            running.stdin = None;
            if signals > 1 {
                let _ = running.child.kill();
            }
        }
    }

    fn start(&mut self, run: Planned) -> Result<(), LaunchError> {
        let Some(claim) = self.store.claim(&run.id)? else {
            self.tally.elsewhere += 1;
            self.display.say(&format!("{}: another process is at it, left to it", name(&run)));
            return Ok(());
        };
        // Another sweep on this store may have done it since this one was planned.
        if self.store.latest(&run.id)?.is_some_and(|r| !self.options.wants(&r)) {
            self.tally.elsewhere += 1;
            self.display.say(&format!("{}: done by another process meanwhile", name(&run)));
            return Ok(());
        }
        let work_dir = self.store.work_dir(&run.id);
        let failed = |what: &std::path::Path, e: std::io::Error| LaunchError::Start {
            what: what.display().to_string(),
            why: e.to_string(),
        };
        fs::create_dir_all(&work_dir).map_err(|e| failed(&work_dir, e))?;
        let spec_path = work_dir.join("spec.json");
        let spec = serde_json::to_vec_pretty(&run.spec).expect("a spec is plain data");
        crate::checkpoint::write_then_rename(&spec_path, &spec).map_err(|e| failed(&spec_path, e))?;
        let log_path = work_dir.join("log.txt");
        // A new file: a process of an earlier sweep may still write to its own.
        let _ = fs::remove_file(&log_path);
        let log = File::create(&log_path).map_err(|e| failed(&log_path, e))?;
        let program = own_program().map_err(|e| failed(std::path::Path::new("mixarena"), e))?;
        let place = &self.options.place;
        let mut command = Command::new(&program);
        command
            .arg("run")
            .arg(&spec_path)
            .arg("--events")
            .arg("--store")
            .arg(&place.store)
            .arg("--data")
            .arg(&place.data.0);
        command.arg("--device").arg(place.device.word()).arg("--threads").arg(place.threads.to_string());
        if let Some(bytes) = place.memory {
            command.arg("--memory").arg(bytes.to_string());
        }
        command.env("OMP_NUM_THREADS", place.threads.to_string());
        // Threads that spin while they wait starve each other on a busy machine (one trial: 5 steps/s against 296).
        if std::env::var_os("OMP_WAIT_POLICY").is_none() {
            command.env("OMP_WAIT_POLICY", "passive");
        }
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        // A group of its own: the terminal's Ctrl-C reaches this process, which passes it on.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn().map_err(|e| failed(&program, e))?;
        let slot = self.running.len();
        let stdout = child.stdout.take().expect("the output is piped");
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str(&line) {
                    let _ = sender.send(Message::Event(slot, event));
                }
            }
            let _ = sender.send(Message::Closed(slot));
        });
        self.display.started(slot, &name(&run));
        let stdin = child.stdin.take();
        self.running.push(Some(Running { run, child, stdin, claim, begun: Instant::now(), ended: None, lost: false }));
        Ok(())
    }

    fn hear(&mut self, slot: usize, event: &Event) {
        if let Some(running) = self.running[slot].as_mut() {
            if let Event::Ended { attempt, .. } = event {
                running.ended = Some(*attempt);
            }
            self.display.event(slot, event);
        }
    }

    /// A child is gone: its record is there, or is written now.
    fn reap(&mut self, slot: usize) -> Result<(), LaunchError> {
        let Some(mut running) = self.running[slot].take() else { return Ok(()) };
        let status =
            running.child.wait().map_err(|e| LaunchError::Start { what: name(&running.run), why: e.to_string() })?;
        let attempts = self.store.attempts(&running.run.id)?;
        let own = attempts.into_iter().find(|record| Some(record.attempt) == running.ended);
        let record = match own {
            Some(record) => record,
            None if running.lost => {
                let mut record = blank(&running.run.spec, &self.options.place, tch::Device::Cpu);
                record.outcome = Outcome::Interrupted { reason: "another process took it over, left to it".into() };
                self.tally.elsewhere += 1;
                self.display.ended(slot, &name(&running.run), &record);
                return Ok(());
            }
            None => {
                let mut record = self.obituary(&running, status);
                record.attempt = self.store.append(&record)?;
                record
            }
        };
        match record.outcome {
            Outcome::Finished => self.tally.finished += 1,
            Outcome::Interrupted { .. } => self.tally.interrupted = true,
            _ => self.tally.failed += 1,
        }
        self.display.ended(slot, &name(&running.run), &record);
        Ok(())
    }

    /// The record of a child that could not write one.
    fn obituary(&self, running: &Running, status: ExitStatus) -> Record {
        let place = &self.options.place;
        let mut record = blank(&running.run.spec, place, tch::Device::Cpu);
        record.device.kind = place.device.word().into();
        record.wall_seconds = running.begun.elapsed().as_secs_f64();
        let log = fs::read_to_string(self.store.work_dir(&running.run.id).join("log.txt")).unwrap_or_default();
        let overdue = self.overdue(running);
        record.outcome = if overdue {
            Outcome::TimedOut { reason: "did not end within its limit and was killed".into() }
        } else if self.tally.interrupted {
            Outcome::Interrupted { reason: "killed by the user".into() }
        } else {
            Outcome::Failed { reason: death(status, &log) }
        };
        record
    }

    fn overdue(&self, running: &Running) -> bool {
        let limit = running.run.spec.budget.timeout_minutes;
        limit.is_some_and(|minutes| running.begun.elapsed().as_secs_f64() > minutes * 60.0 + GRACE_SECONDS)
    }

    fn kill_overdue(&mut self) {
        let overdue: Vec<usize> =
            (0..self.running.len()).filter(|&s| self.running[s].as_ref().is_some_and(|r| self.overdue(r))).collect();
        for slot in overdue {
            if let Some(running) = self.running[slot].as_mut() {
                let _ = running.child.kill();
            }
        }
    }

    fn touch_claims(&mut self) {
        if self.touched.elapsed() < TOUCH_EVERY {
            return;
        }
        self.touched = Instant::now();
        for running in self.running.iter_mut().flatten() {
            match running.claim.touch() {
                Ok(true) => {}
                // Without a word: its checkpoint and its record would only be in the other's way.
                Ok(false) => {
                    running.lost = true;
                    let _ = running.child.kill();
                }
                Err(error) => self.display.say(&format!("warning: {error}")),
            }
        }
    }
}

/// How a run ended, in a sentence.
fn past(outcome: &Outcome) -> String {
    outcome.word().replace('_', " ")
}

/// This program. On Linux the kernel's own link to it, which still works after the file was rebuilt or moved.
pub fn own_program() -> std::io::Result<std::path::PathBuf> {
    let link = std::path::PathBuf::from("/proc/self/exe");
    if cfg!(target_os = "linux") && link.exists() { Ok(link) } else { std::env::current_exe() }
}

/// What is known of a child's death from its status and what it wrote to its log.
pub fn death(status: ExitStatus, log: &str) -> String {
    let last = log.lines().rev().map(str::trim).find(|l| !l.is_empty());
    let said = last.map_or(String::new(), |l| format!("; its last words: {}", l.chars().take(200).collect::<String>()));
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let of_memory = panic_reason(log);
        return match signal {
            _ if of_memory.starts_with("out of memory") => of_memory,
            9 => format!("killed by SIGKILL: by hand, or by the kernel because memory ran out{said}"),
            6 => format!("aborted (SIGABRT){said}"),
            11 => format!("crashed (SIGSEGV){said}"),
            n => format!("killed by signal {n}{said}"),
        };
    }
    match status.code() {
        Some(code) => format!("the process ended with code {code}{said}"),
        None => format!("the process ended{said}"),
    }
}

/// "mqar · s4 · seed 2", with the grid point where there is one.
pub fn name(run: &Planned) -> String {
    let mut name = format!("{} · {}", run.draft.task_label, run.draft.mixer_label);
    for (path, value) in &run.draft.settings {
        name += &format!(" · {path}={value}");
    }
    format!("{name} · seed {}", run.spec.seed)
}
