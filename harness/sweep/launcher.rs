//! Local runs: one child process each, `jobs` at a time, sharing the cores.
//!
//! A child trains and writes its own record when it ends in an orderly way; this process writes one only for a child that
//! could not. Closing a child's standard input asks it to checkpoint and stop, which also happens by itself when this
//! process dies.

use crate::base::child::{Process, Started};
use crate::base::choices::KeepKind;
use crate::base::events::Event;
use crate::base::exit::Exit;
use crate::base::process::death;
use crate::base::signals;
use crate::base::template::Template;
use crate::sweep::plan::{Planned, name};
use crate::sweep::progress::Display;
use crate::sweep::run::{Place, blank};
use crate::train::spec::RunSpec;
use results::{Blocked, Claim, Keep, Outcome, Record, Store};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, PipeWriter};
use std::path::Path;
use std::process::ExitStatus;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

/// Seconds that training may pass its own limit before the run is killed: one that hangs does not notice the limit.
const GRACE_SECONDS: f64 = 120.0;
/// How often claims are renewed, and looked at: a sweep that slept too long may have lost some.
const TOUCH_EVERY: Duration = Duration::from_secs(5);

/// What [`Process::kill`] sends.
const SIGKILL: i32 = 9;

/// Runs before a run, at most: a record that was tampered with may name itself.
const MOST_STARTS: usize = 1000;

/// A run to be started.
#[derive(Clone, Debug)]
pub struct Job {
    /// What people call it.
    pub name: String,
    /// The spec, fully resolved.
    pub spec: RunSpec,
    /// The spec's hash.
    pub id: String,
    /// The run it starts from.
    pub after: Option<String>,
    /// Which checkpoints are kept once it has finished.
    pub keep: Keep,
}

impl Job {
    /// The run of a plan.
    pub fn new(run: &Planned, keep: Keep) -> Self {
        Self { name: name(&run.draft), spec: run.spec.clone(), id: run.id.clone(), after: run.after.clone(), keep }
    }
}

/// How a sweep's runs went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Runs that finished now.
    pub finished: usize,
    /// Runs that ended otherwise now.
    pub failed: usize,
    /// Ids of runs that another process still held when there was nothing else left to do.
    pub elsewhere: Vec<String>,
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
    run: Job,
    child: Process,
    /// Dropped to ask the child to stop.
    stdin: Option<PipeWriter>,
    claim: Claim,
    begun: Instant,
    /// Since when it trains; absent before its model is built, and after its last step, when only scoring is left.
    training: Option<Instant>,
    /// Whether it was killed for the time it took.
    overdue: bool,
    /// Whether it was killed because the user asked a second time.
    killed: bool,
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

/// Whether a run with this record is to be done (again); `latest` finds the record that counts of any run.
///
/// A run that failed because the run it starts from had not finished follows that one: once that one is done again, or is to
/// be, so is this.
pub fn wants(record: &Record, retry: bool, latest: &dyn Fn(&str) -> Option<Record>) -> bool {
    let own = |record: &Record| !record.outcome.is_final() || (retry && record.outcome != Outcome::Finished);
    if record.outcome == Outcome::Finished || own(record) {
        return record.outcome != Outcome::Finished;
    }
    let mut blocked = record.blocked_by.clone();
    for _ in 0..MOST_STARTS {
        let Some(by) = blocked else { return false };
        match latest(&by.run) {
            None => return true,
            Some(start) if start.outcome == Outcome::Finished => return by.is_past(&start),
            Some(start) if own(&start) => return true,
            Some(start) => blocked = start.blocked_by,
        }
    }
    false
}

/// Runs everything in `queue`, as copies of `template` where there is one.
pub fn launch(
    queue: Vec<Job>,
    store: &Store,
    options: &Options,
    template: Option<Template>,
    display: &mut dyn Display,
) -> Result<Tally, LaunchError> {
    let (sender, receiver) = channel();
    let mut launcher = Launcher {
        store,
        options,
        template,
        display,
        sender,
        running: Vec::new(),
        queue: queue.into(),
        elsewhere: Vec::new(),
        asked_again: false,
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
    template: Option<Template>,
    display: &'a mut dyn Display,
    sender: Sender<Message>,
    /// By slot; a slot is never used twice.
    running: Vec<Option<Running>>,
    queue: VecDeque<Job>,
    /// Runs that another process holds.
    elsewhere: Vec<Job>,
    /// Whether these were tried a second time.
    asked_again: bool,
    tally: Tally,
    touched: Instant,
}

impl Launcher<'_> {
    fn drive(&mut self, receiver: &Receiver<Message>) -> Result<(), LaunchError> {
        loop {
            self.obey_signals();
            let active = self.running.iter().flatten().count();
            let stopping = self.tally.interrupted || (self.options.fail_fast && self.tally.failed > 0);
            if active == 0 && stopping {
                return self.leave(0);
            }
            if active < self.options.jobs && !stopping {
                match self.ready()? {
                    Some(run) => {
                        self.start(run)?;
                        continue;
                    }
                    // Their holder may have ended since.
                    None if active == 0 && !self.asked_again && !self.elsewhere.is_empty() => {
                        self.asked_again = true;
                        self.queue.extend(std::mem::take(&mut self.elsewhere));
                        continue;
                    }
                    None if active == 0 => return self.leave(self.queue.len()),
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

    /// Nothing more can be done here: says what others are still at, and how many runs wait for another.
    fn leave(&mut self, waiting: usize) -> Result<(), LaunchError> {
        self.tally.waiting = waiting;
        for run in &self.elsewhere {
            if self.unfinished(run)? && !self.tally.elsewhere.contains(&run.id) {
                self.tally.elsewhere.push(run.id.clone());
            }
        }
        Ok(())
    }

    /// Whether a run is still to be done, by its records of now.
    fn unfinished(&self, run: &Job) -> Result<bool, LaunchError> {
        let latest = |id: &str| self.store.latest(id).ok().flatten();
        Ok(self.store.latest(&run.id)?.is_none_or(|record| wants(&record, self.options.retry, &latest)))
    }

    /// Takes the first run out of the queue whose start is there. One whose start ended badly gets a record that says so.
    fn ready(&mut self) -> Result<Option<Job>, LaunchError> {
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

    /// Whether a run is still to end, in this sweep or in another.
    fn expects(&self, id: &str) -> bool {
        self.queue
            .iter()
            .chain(&self.elsewhere)
            .map(|run| &run.id)
            .chain(self.running.iter().flatten().map(|r| &r.run.id))
            .any(|own| own == id)
    }

    /// The record of a run whose start `before` did not finish.
    fn bury(&mut self, run: &Job, before: &Record) -> Result<(), LaunchError> {
        let mut record = blank(&run.spec, &self.options.place, tch::Device::Cpu);
        record.device.kind = self.options.place.device.word().into();
        let why =
            format!("run {}, which it starts from, {}: {}", before.id, past(&before.outcome), before.outcome.reason());
        record.outcome = Outcome::Failed { reason: why };
        record.blocked_by = Some(Blocked::by(before));
        record.attempt = self.store.append(&record)?;
        self.tally.failed += 1;
        let slot = self.running.len();
        self.running.push(None);
        self.display.started(slot, &run.name);
        self.display.ended(slot, &run.name, &record);
        Ok(())
    }

    /// Passes Ctrl-C on: once to stop at the next step, twice to kill.
    fn obey_signals(&mut self) {
        let signals = signals::requests();
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
                running.killed = true;
                let _ = running.child.kill();
            }
        }
    }

    fn start(&mut self, run: Job) -> Result<(), LaunchError> {
        let Some(claim) = self.store.claim(&run.id)? else {
            if !self.asked_again {
                self.display.say(&format!("{}: skipped: another process is running it", run.name));
            }
            self.elsewhere.push(run);
            return Ok(());
        };
        // Another sweep on this store may have done it since this one was planned.
        if !self.unfinished(&run)? {
            self.display.say(&format!("{}: done by another process meanwhile", run.name));
            return Ok(());
        }
        let work_dir = self.store.work_dir(&run.id);
        let failed =
            |what: &Path, e: io::Error| LaunchError::Start { what: what.display().to_string(), why: e.to_string() };
        fs::create_dir_all(&work_dir).map_err(|e| failed(&work_dir, e))?;
        let spec_path = work_dir.join("spec.json");
        let spec = serde_json::to_vec_pretty(&run.spec).expect("a spec is plain data");
        results::replace(&spec_path, &spec).map_err(|e| failed(&spec_path, e))?;
        let log_path = work_dir.join("log.txt");
        // A new file: a process of an earlier sweep may still write to its own.
        let _ = fs::remove_file(&log_path);
        let log = File::create(&log_path).map_err(|e| failed(&log_path, e))?;
        let program = Path::new("mixarena");
        let started = self.process(&spec_path, run.keep, &log).map_err(|e| failed(program, e))?;
        let slot = self.running.len();
        let sender = self.sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(started.stdout).lines().map_while(Result::ok) {
                if let Ok(event) = serde_json::from_str(&line) {
                    let _ = sender.send(Message::Event(slot, event));
                }
            }
            let _ = sender.send(Message::Closed(slot));
        });
        self.display.started(slot, &run.name);
        let running = Running {
            run,
            child: started.process,
            stdin: Some(started.stdin),
            claim,
            begun: Instant::now(),
            training: None,
            overdue: false,
            killed: false,
            ended: None,
            lost: false,
        };
        self.running.push(Some(running));
        Ok(())
    }

    /// The process of a run. A template that can start none is given up.
    fn process(&mut self, spec: &Path, keep: Keep, log: &File) -> io::Result<Started> {
        let (line, threads) = (arguments(&self.options.place, spec, keep), self.options.place.threads.max(1) as usize);
        if self.template.is_some() {
            match Process::start(self.template.as_ref(), threads, line.clone(), log.try_clone()?) {
                Ok(started) => return Ok(started),
                Err(error) => {
                    self.display.say(&format!("warning: runs are started anew, not as copies of one process: {error}"));
                    self.template = None;
                }
            }
        }
        Process::start(None, threads, line, log.try_clone()?)
    }

    fn hear(&mut self, slot: usize, event: &Event) {
        if let Some(running) = self.running[slot].as_mut() {
            match event {
                Event::Started { .. } => running.training = Some(Instant::now()),
                Event::Trained => running.training = None,
                Event::Ended { attempt, .. } => running.ended = Some(*attempt),
                Event::Already { attempt } => {
                    running.ended = Some(*attempt);
                    self.display.say(&format!("{}: was done by another process meanwhile", running.run.name));
                }
                _ => {}
            }
            self.display.event(slot, event);
        }
    }

    /// A child is gone: its record is there, or is written now.
    fn reap(&mut self, slot: usize) -> Result<(), LaunchError> {
        let Some(mut running) = self.running[slot].take() else { return Ok(()) };
        let status = running
            .child
            .wait()
            .map_err(|e| LaunchError::Start { what: running.run.name.clone(), why: e.to_string() })?;
        let attempts = self.store.attempts(&running.run.id)?;
        // One that was killed between its record and its last word has finished all the same.
        let by_word = attempts.iter().find(|record| Some(record.attempt) == running.ended);
        let own = by_word.or_else(|| attempts.iter().rfind(|record| record.outcome == Outcome::Finished)).cloned();
        let record = match own {
            Some(record) => record,
            None if running.lost => {
                let mut record = blank(&running.run.spec, &self.options.place, tch::Device::Cpu);
                record.outcome = Outcome::Interrupted { reason: "another process took it over and runs it".into() };
                self.display.ended(slot, &running.run.name, &record);
                self.elsewhere.push(running.run);
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
        self.display.ended(slot, &running.run.name, &record);
        Ok(())
    }

    /// The record of a child that could not write one.
    fn obituary(&self, running: &Running, status: ExitStatus) -> Record {
        let place = &self.options.place;
        let mut record = blank(&running.run.spec, place, tch::Device::Cpu);
        record.device.kind = place.device.word().into();
        record.wall_seconds = running.begun.elapsed().as_secs_f64();
        let log = fs::read_to_string(self.store.work_dir(&running.run.id).join("log.txt")).unwrap_or_default();
        record.outcome = fate(running.overdue, running.killed, status, &log);
        record
    }

    fn kill_overdue(&mut self) {
        for running in self.running.iter_mut().flatten() {
            let minutes = running.run.spec.budget.timeout_minutes;
            if is_overdue(minutes, running.training.map(|since| since.elapsed())) {
                running.overdue = true;
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

/// The command line of a run's process.
fn arguments(place: &Place, spec: &Path, keep: Keep) -> Vec<OsString> {
    let mut line: Vec<OsString> = vec!["run".into(), spec.into(), "--events".into()];
    line.extend(["--store".into(), place.store.clone().into(), "--data".into(), place.data.0.clone().into()]);
    line.extend(["--device", place.device.word(), "--keep", KeepKind::from(keep).word()].map(OsString::from));
    line.extend(["--threads".into(), place.threads.to_string().into()]);
    if let Some(bytes) = place.memory {
        line.extend(["--memory".into(), bytes.to_string().into()]);
    }
    line
}

/// Whether a run has trained for so long past its limit that it must hang. One that does not train yet, or only scores, never has.
fn is_overdue(minutes: Option<f64>, training: Option<Duration>) -> bool {
    minutes.zip(training).is_some_and(|(minutes, so_far)| so_far.as_secs_f64() > minutes * 60.0 + GRACE_SECONDS)
}

/// How a run ended, in a sentence.
fn past(outcome: &Outcome) -> String {
    outcome.word().replace('_', " ")
}

/// How a child ended that left no record; `overdue` and `killed` say why this process killed it, if it did.
fn fate(overdue: bool, killed: bool, status: ExitStatus, log: &str) -> Outcome {
    if overdue {
        return Outcome::TimedOut { reason: "did not end within its limit and was killed".into() };
    }
    // A crash is a crash, even when it comes between the user's wish and the kill.
    match killed && signal_of(status) == Some(SIGKILL) {
        true => Outcome::Interrupted { reason: "killed by the user".into() },
        false => ending(status, log),
    }
}

/// The signal that ended a process.
fn signal_of(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

/// How a child ended that nobody killed here: interrupted by a signal that asks a program to stop, wherever that struck it, and
/// failed by anything else.
fn ending(status: ExitStatus, log: &str) -> Outcome {
    match signal_of(status).filter(|signal| signals::asks_to_stop(*signal)) {
        Some(signal) => {
            let word = match signal {
                1 => "SIGHUP",
                2 => "SIGINT",
                _ => "SIGTERM",
            };
            Outcome::Interrupted { reason: format!("stopped by {word} before it could write a checkpoint") }
        }
        None if status.code() == Some(Exit::Interrupted as i32) => {
            Outcome::Interrupted { reason: "stopped by a signal before it could write a checkpoint".into() }
        }
        None => Outcome::Failed { reason: death(status, log) },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::process::ExitStatusExt;

    #[test]
    fn a_signal_that_asks_to_stop_is_an_interruption_and_any_other_a_failure() {
        let word = |status: i32| ending(ExitStatus::from_raw(status), "").word();
        assert_eq!([1, 2, 15, 130 << 8].map(word), ["interrupted"; 4]);
        assert_eq!([3, 6, 9, 11, 0, 1 << 8, 134 << 8].map(word), ["failed"; 7]);
    }

    #[test]
    fn only_a_kill_that_the_user_asked_for_twice_is_the_user_s() {
        let word = |killed: bool, status: i32| fate(false, killed, ExitStatus::from_raw(status), "").word();
        assert_eq!((word(true, 9), word(false, 9)), ("interrupted", "failed"));
        assert_eq!([word(true, 11), word(false, 11), word(true, 1 << 8)], ["failed"; 3], "a crash");
        assert_eq!(fate(true, true, ExitStatus::from_raw(9), "").word(), "timed_out");
    }

    #[test]
    fn the_limit_of_time_is_one_of_training() {
        let seconds = |s: u64| Some(Duration::from_secs(s));
        assert!(is_overdue(Some(1.0), seconds(181)) && !is_overdue(Some(1.0), seconds(179)));
        assert!(!is_overdue(Some(1.0), None) && !is_overdue(None, seconds(1_000_000)));
    }

    #[test]
    fn a_run_that_failed_for_its_start_s_sake_is_wanted_once_the_start_is_done_again_or_to_be() {
        let record = |id: &str, attempt: u32, outcome: Outcome, blocked: Option<(&str, u32)>| Record {
            id: id.into(),
            attempt,
            outcome,
            blocked_by: blocked.map(|(run, attempt)| Blocked { run: run.into(), attempt, started_unix: 0 }),
            ..crate::laws::samples::record()
        };
        let failed = || Outcome::Failed { reason: String::new() };
        let follower = record("b", 1, failed(), Some(("a", 1)));
        let second = record("c", 1, failed(), Some(("b", 1)));
        let wanted = |start: Option<Record>| {
            let all = |id: &str| match id {
                "a" => start.clone(),
                _ => Some(follower.clone()),
            };
            [&follower, &second].map(|run| wants(run, false, &all))
        };
        assert_eq!(wanted(Some(record("a", 1, failed(), None))), [false; 2]);
        assert_eq!(wanted(Some(record("a", 2, failed(), None))), [false; 2]);
        assert_eq!(wanted(Some(record("a", 2, Outcome::Finished, None))), [true; 2]);
        assert_eq!(wanted(Some(record("a", 2, Outcome::Interrupted { reason: String::new() }, None))), [true; 2]);
        assert_eq!(wanted(None), [true; 2]);
        // It failed although its start had finished: that is its own fault.
        assert_eq!(wanted(Some(record("a", 1, Outcome::Finished, None))), [false; 2]);
        assert!(wants(&record("d", 1, failed(), None), true, &|_| None));
        assert!(!wants(&record("d", 1, failed(), None), false, &|_| None));
        assert!(!wants(&record("d", 1, Outcome::Finished, Some(("a", 1))), true, &|_| None));
    }
}
