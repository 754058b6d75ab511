//! The process that asks: starts children, one at a time, and puts what they say into cases. Whatever a child dies of, this
//! process lives, and the subject it was at is to blame.

use super::{Job, Said, Subject, Work};
use crate::base::choices::DeviceKind;
use crate::base::limits;
use crate::base::process::{computing, death};
use crate::base::signals;
use results::bench::{Case, Pass, Protocol, State};
use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// Seconds that starting and building may take beyond a pass.
const START_SECONDS: f64 = 60.0;
/// A pass that takes so many times the cap is killed instead of waited for.
const PATIENCE: f64 = 4.0;

/// How a measurement is done.
#[derive(Clone, Debug)]
pub struct Conductor {
    /// Rounds and caps.
    pub protocol: Protocol,
    /// Threads of libtorch.
    pub threads: usize,
    /// Where to compute.
    pub device: DeviceKind,
    /// Say on stderr what is being measured.
    pub talk: bool,
}

/// How a child ended.
enum End {
    Done,
    /// Death or silence, with the place of the subject it was at.
    Died(usize, String),
    Interrupted,
}

/// Why nothing can be measured at all.
#[derive(Debug, thiserror::Error)]
#[error("cannot start a measuring process: {0}")]
pub struct StartError(#[from] std::io::Error);

/// A case and, where its mixer can be built, what a child needs to know of it.
pub type Planned = (Case, Option<Subject>);

impl Conductor {
    /// Measures one group; `true` when the user stopped it.
    pub fn measure(&self, group: &mut [Planned]) -> Result<bool, StartError> {
        let interrupted = self.all(group)?;
        let heaviest = self.protocol.heaviest();
        let unfinished = |case: &Case| case.pass(heaviest).seconds.len() < self.protocol.repeats;
        for (case, _) in group.iter_mut().filter(|(case, _)| case.state == State::Measured && unfinished(case)) {
            case.state = State::Stopped { reason: "interrupted".into() };
        }
        Ok(interrupted)
    }

    /// Memory first, one process each; then the times of what is left. A GPU's memory is not that of the process: it is not weighed.
    fn all(&self, group: &mut [Planned]) -> Result<bool, StartError> {
        let name = group.first().map(|(case, _)| case.group.clone()).unwrap_or_default();
        if self.device != DeviceKind::Cpu {
            return self.clock(group, &name);
        }
        for (case, subject) in group.iter_mut() {
            for pass in self.protocol.passes.iter().copied() {
                let Some(subject) = subject.as_ref().filter(|_| case.state == State::Measured) else { continue };
                self.say(&format!("{name}: memory of {}, {}", case.label, pass.word()));
                if self.weigh(case, subject, pass)? {
                    return Ok(true);
                }
            }
        }
        self.clock(group, &name)
    }

    fn say(&self, text: &str) {
        if self.talk {
            eprintln!("{text}");
        }
    }

    /// Memory of one pass in a process of its own.
    fn weigh(&self, case: &mut Case, subject: &Subject, pass: Pass) -> Result<bool, StartError> {
        let job = Job {
            subjects: vec![subject.clone()],
            threads: self.threads,
            device: self.device,
            memory: self.protocol.memory_cap,
            work: Work::Memory(pass),
        };
        let mut dropped = None;
        let end = self.hear(&job, |said| match said {
            Said::Grew(memory) => case.pass_mut(pass).memory = Some(memory),
            Said::Dropped { reason, .. } => dropped = Some(reason),
            _ => {}
        })?;
        let reason = match end {
            End::Interrupted => return Ok(true),
            End::Died(_, reason) => Some(reason),
            End::Done => dropped,
        };
        let within = |reason: String| match self.protocol.memory_cap {
            Some(cap) if reason.starts_with("out of memory") => {
                format!("{}: out of memory within the cap of {} MiB", pass.word(), cap >> 20)
            }
            _ => reason,
        };
        let reason = reason.map(within);
        let over = |cap: &u64| case.pass(pass).memory.is_some_and(|m| m.peak_bytes > *cap);
        let reason = reason.or_else(|| {
            let cap = self.protocol.memory_cap.filter(over)?;
            Some(format!("{} grew over the cap of {} MiB", pass.word(), cap >> 20))
        });
        if let Some(reason) = reason {
            case.state = State::Stopped { reason };
        }
        Ok(false)
    }

    /// Times of everything that is left, in one process; without whoever kills it, again.
    fn clock(&self, group: &mut [Planned], name: &str) -> Result<bool, StartError> {
        loop {
            let places: Vec<usize> =
                (0..group.len()).filter(|i| group[*i].0.state == State::Measured && group[*i].1.is_some()).collect();
            if places.is_empty() {
                return Ok(false);
            }
            let labels: Vec<&str> = places.iter().map(|i| group[*i].0.label.as_str()).collect();
            let Protocol { warmup, repeats, time_cap, passes, .. } = self.protocol.clone();
            self.say(&format!("{name}: {} + {repeats} rounds of {}", warmup, labels.join(", ")));
            let subjects = places.iter().filter_map(|i| group[*i].1.clone()).collect();
            // Here all mixers stand side by side: the cap for one has been held already, and the machine's own holds for all.
            let job = Job {
                subjects,
                threads: self.threads,
                device: self.device,
                memory: limits::available_memory().map(|bytes| bytes / 10 * 9),
                work: Work::Time { passes, warmup, repeats, cap: time_cap },
            };
            for i in &places {
                clear(&mut group[*i].0);
            }
            let end = self.hear(&job, |said| match said {
                Said::Built { subject, parameters, path } => {
                    let case = &mut group[places[subject]].0;
                    (case.parameters, case.path) = (parameters, path);
                }
                Said::Took { subject, pass, seconds } => group[places[subject]].0.pass_mut(pass).seconds.push(seconds),
                Said::Dropped { subject, reason, took } => {
                    let case = &mut group[places[subject]].0;
                    case.state = State::Stopped { reason };
                    clear(case);
                    for (pass, seconds) in took {
                        case.pass_mut(pass).seconds.push(seconds);
                    }
                }
                _ => {}
            })?;
            match end {
                End::Done => return Ok(false),
                End::Died(at, reason) => group[places[at]].0.state = State::Stopped { reason },
                End::Interrupted => return Ok(true),
            }
        }
    }

    /// Runs a child on a job and passes on what it says.
    fn hear(&self, job: &Job, mut told: impl FnMut(Said)) -> Result<End, StartError> {
        let mut command = computing(self.threads)?;
        command.arg("bench-child").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // A group of its own: the terminal's Ctrl-C reaches this process alone.
        #[cfg(unix)]
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let mut child = command.spawn()?;
        let mut stdin = child.stdin.take().expect("the input is piped");
        let line = serde_json::to_string(job).expect("a job is plain data") + "\n";
        hand_over(&mut stdin, line.as_bytes());
        let mut stderr = child.stderr.take().expect("the errors are piped");
        let log = std::thread::spawn(move || {
            let mut text = Vec::new();
            let _ = stderr.read_to_end(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        });
        let stdout = child.stdout.take().expect("the output is piped");
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Ok(said) = serde_json::from_str::<Said>(&line)
                    && sender.send(said).is_err()
                {
                    break;
                }
            }
        });
        let end = self.listen(&mut child, &receiver, &mut told);
        drop(stdin);
        let status = child.wait()?;
        let log = log.join().unwrap_or_default();
        Ok(match end {
            End::Died(at, reason) if reason.is_empty() => End::Died(at, death(status, &log)),
            end => end,
        })
    }

    /// Until the child is done, dead, silent for too long, or the user has had enough. A dead one's reason is left empty.
    fn listen(&self, child: &mut Child, receiver: &Receiver<Said>, told: &mut impl FnMut(Said)) -> End {
        let patience = START_SECONDS + PATIENCE * self.protocol.time_cap;
        let (mut at, mut heard) = (0, Instant::now());
        loop {
            if signals::STOP.load(Ordering::Relaxed) {
                let _ = child.kill();
                return End::Interrupted;
            }
            match receiver.recv_timeout(Duration::from_millis(100)) {
                Ok(Said::Done) => return End::Done,
                Ok(said) => {
                    heard = Instant::now();
                    if let Said::At(subject) = said {
                        at = subject;
                    }
                    told(said);
                }
                Err(RecvTimeoutError::Disconnected) => return End::Died(at, String::new()),
                Err(RecvTimeoutError::Timeout) if heard.elapsed().as_secs_f64() > patience => {
                    let grown = limits::peak_memory_of(child.id());
                    let _ = child.kill();
                    let grown =
                        grown.map_or(String::new(), |bytes| format!(" with a peak of {} MiB so far", bytes >> 20));
                    return End::Died(at, format!("no pass ended within {patience:.0} s: killed{grown}"));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}

/// Writes to a child. One that died already is heard of elsewhere: it must not take this process along, which is what the
/// signal of a closed pipe does to a program that ends quietly behind `| head`.
fn hand_over(stdin: &mut impl Write, bytes: &[u8]) {
    // SAFETY: only changes what a write to a closed pipe does, to an error and back; children were started before or start later.
    #[cfg(unix)]
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
    let _ = stdin.write_all(bytes);
    // SAFETY: as above.
    #[cfg(unix)]
    unsafe {
        libc::signal(libc::SIGPIPE, before);
    }
}

/// Forgets the times.
fn clear(case: &mut Case) {
    for pass in Pass::ALL {
        case.pass_mut(pass).seconds.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    #[test]
    fn a_child_that_died_before_it_heard_of_its_job_takes_nobody_along() {
        // Alone: it changes what a signal does to the whole process.
        if !crate::laws::samples::alone(concat!(
            module_path!(),
            "::a_child_that_died_before_it_heard_of_its_job_takes_nobody_along"
        )) {
            return;
        }
        let mut child = Command::new("true").stdin(Stdio::piped()).spawn().expect("`true` runs");
        let mut stdin = child.stdin.take().expect("the input is piped");
        child.wait().expect("it ends");
        // SAFETY: this process does nothing else; the action is the one of `mixarena`.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        hand_over(&mut stdin, b"job");
        // SAFETY: as above.
        let after = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
        assert_eq!(after, libc::SIG_DFL, "as it was");
    }
}
