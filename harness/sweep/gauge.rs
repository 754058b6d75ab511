//! Short measurements in a process of their own: how fast this machine takes matrix products, and how long a step of a run takes.
//!
//! The parent writes one job a line, the child answers one line each; a child that does not answer in time is killed, so that no
//! measurement lasts longer than it may, whatever it runs into.

use crate::base::choices::DeviceKind;
use crate::base::cuda::device;
use crate::base::limits;
use crate::base::process::{computing, panic_reason};
use crate::registry::Registry;
use crate::sweep::machine::Machine;
use crate::train::spec::RunSpec;
use crate::train::trainer::Trainer;
use crate::train::trainer::timing::StandIn;
use mixers::Precision;
use mixers::core::quiet::quietly;
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tasks::{DataDir, Task};
use tch::{Device, Kind};

/// What a child is asked for.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Job {
    /// The speed of matrix products.
    Peak {
        /// Of numbers of this kind.
        precision: Precision,
    },
    /// The time of optimizer steps.
    Steps {
        /// The run; what it starts from, its pretraining and its analysis are left out.
        spec: Box<RunSpec>,
        /// The data folder; `None`: made-up examples of the task's longest length stand for its own.
        data: Option<PathBuf>,
        /// Stop after so many seconds of steps.
        seconds: f64,
    },
}

/// What it answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Said {
    /// Speed.
    Peak {
        /// Operations a second, the best of several rounds.
        flops: f64,
        /// Whether nothing else kept the processor busy meanwhile.
        quiet: bool,
    },
    /// Time.
    Steps {
        /// Seconds of a step, the median, the first step left out where there are more.
        step: f64,
        /// Seconds until the first step: opening the task and building the model.
        start: f64,
    },
    /// It could not be measured.
    Failed {
        /// Why.
        why: String,
    },
}

/// A process that measures.
#[derive(Debug)]
pub struct Gauge {
    child: Child,
    stdin: ChildStdin,
    answers: Receiver<Said>,
}

impl Gauge {
    /// Starts one that computes on `device` with `threads` threads.
    pub fn start(device: DeviceKind, threads: usize) -> std::io::Result<Self> {
        let mut command = computing(threads)?;
        command.arg("gauge-child").arg("--device").arg(device.word()).arg("--threads").arg(threads.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let (stdin, stdout) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        let (sender, answers) = channel();
        std::thread::spawn(move || {
            let lines = BufReader::new(stdout).lines().map_while(Result::ok);
            lines.filter_map(|line| serde_json::from_str(&line).ok()).try_for_each(|said| sender.send(said))
        });
        Ok(Self { child, stdin, answers })
    }

    /// The answer to a job; the error says why there is none within `limit`, and then the process is of no use any more.
    pub fn ask(&mut self, job: &Job, limit: Duration) -> Result<Said, String> {
        let line = serde_json::to_string(job).expect("a job is plain data") + "\n";
        self.stdin.write_all(line.as_bytes()).and_then(|()| self.stdin.flush()).map_err(|error| error.to_string())?;
        self.answers.recv_timeout(limit).map_err(|_| format!("no answer in {:.1} s", limit.as_secs_f64()))
    }
}

impl Drop for Gauge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How long a measurement may take, start of the process included.
const PEAK_LIMIT: Duration = Duration::from_secs(20);

/// Operations a second of matrix products on this machine, measured now unless they were before on a quiet machine. Nothing of this
/// process may compute meanwhile. `keep`: whether the store of `machine` gets to know it.
pub fn measured(machine: &Machine, precision: Precision, keep: bool) -> Option<f64> {
    if let Some(settled) = machine.settled(precision) {
        return Some(settled);
    }
    let (device, threads) = machine.place();
    match Gauge::start(device, threads).ok()?.ask(&Job::Peak { precision }, PEAK_LIMIT) {
        Ok(Said::Peak { flops, quiet }) => Some(machine.add(precision, flops, quiet, keep)),
        _ => machine.known(precision),
    }
}

/// The child: answers until its input closes.
pub fn child(device: DeviceKind, threads: usize, registry: &Registry) {
    limits::keep_freed_memory();
    tch::set_num_threads(threads.max(1) as i32);
    if device == DeviceKind::Cpu
        && let Some(bytes) = limits::available_memory()
    {
        limits::limit_memory(bytes / 10 * 9);
    }
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        let answer = match serde_json::from_str::<Job>(&line) {
            Ok(job) => quietly(|| answer(&job, device, registry)).unwrap_or_else(|panic| Err(panic_reason(&panic))),
            Err(error) => Err(error.to_string()),
        };
        let said = answer.unwrap_or_else(|why| Said::Failed { why });
        let mut out = std::io::stdout().lock();
        let line = serde_json::to_string(&said).expect("an answer is plain data");
        if writeln!(out, "{line}").and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}

fn answer(job: &Job, kind: DeviceKind, registry: &Registry) -> Result<Said, String> {
    let device = device(kind)?;
    match job {
        Job::Peak { precision } => {
            let kind = match precision {
                Precision::F32 => Kind::Float,
                Precision::Bf16 => Kind::BFloat16,
            };
            let before = Busy::now();
            let flops = product_speed(device, kind);
            let quiet = before.zip(Busy::now()).is_none_or(|(before, now)| before.others(&now) < OTHERS);
            Ok(Said::Peak { flops, quiet })
        }
        Job::Steps { spec, data, seconds } => steps(spec, data.as_ref(), *seconds, device, registry),
    }
}

fn steps(
    spec: &RunSpec,
    data: Option<&PathBuf>,
    seconds: f64,
    device: Device,
    registry: &Registry,
) -> Result<Said, String> {
    let begun = Instant::now();
    let entry = registry.task(&spec.task.name).ok_or("this build has no such task")?;
    let task: Arc<dyn Task> = match data {
        Some(folder) => {
            let opened = entry.open(&spec.task.settings, &DataDir(folder.clone()));
            Arc::from(opened.map_err(|error| error.to_string())?)
        }
        None => Arc::new(StandIn::new(entry.outline(&spec.task.settings))),
    };
    // Nothing is written: there is no checkpoint to go on from in a folder that is not there.
    let nowhere = PathBuf::from("/nonexistent/gauge");
    let trainer = Trainer::new(spec.clone(), task, registry, device, nowhere);
    let mut trainer = trainer.map_err(|error| error.to_string())?;
    let start = begun.elapsed().as_secs_f64();
    let step = trainer.time_steps(Duration::from_secs_f64(seconds)).map_err(|error| error.to_string())?;
    Ok(Said::Steps { step, start })
}

/// Rounds of matrix products, of which the best counts.
const ROUNDS: u32 = 5;
/// Seconds of a round at least.
const ROUND: f64 = 0.08;
/// Cores that others may keep busy during a measurement that counts as quiet.
const OTHERS: f64 = 0.15;

/// Speed of a square matrix product with the threads that are set, operations a second, the best of some rounds: 512 and 1024 wide on
/// a CPU, and 8192 on a GPU, which a smaller one does not fill. Half a second or so; draws no random number.
fn product_speed(device: Device, kind: Kind) -> f64 {
    let (sizes, wait): (&[i64], _) = match device {
        Device::Cuda(index) => (&[8192], Some(index as i64)),
        _ => (&[512, 1024], None),
    };
    let mut best = 0.0;
    for &n in sizes {
        let a = tch::Tensor::ones([n, n], (kind, device));
        let product = || {
            let _ = a.matmul(&a);
            if let Some(index) = wait {
                tch::Cuda::synchronize(index);
            }
        };
        product();
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            let mut products = 0;
            while products == 0 || begun.elapsed().as_secs_f64() < ROUND {
                product();
                products += 1;
            }
            best = f64::max(best, f64::from(products) * 2.0 * (n as f64).powi(3) / begun.elapsed().as_secs_f64());
        }
    }
    best
}

/// Processor time of the whole machine and of this process, where the system tells (Linux).
struct Busy {
    at: Instant,
    all: f64,
    own: f64,
}

impl Busy {
    fn now() -> Option<Self> {
        let read = |path| std::fs::read_to_string(path).ok();
        let (all, own) = busy_seconds(&read("/proc/stat")?, &read("/proc/self/stat")?)?;
        Some(Self { at: Instant::now(), all, own })
    }

    /// Cores that others kept busy until `now`.
    fn others(&self, now: &Self) -> f64 {
        let seconds = now.at.duration_since(self.at).as_secs_f64().max(0.01);
        ((now.all - self.all) - (now.own - self.own)) / seconds
    }
}

/// Seconds that all processors were busy, and those of this process, from the text of `/proc/stat` and `/proc/self/stat`.
fn busy_seconds(stat: &str, own: &str) -> Option<(f64, f64)> {
    // Ticks of 1/100 s, whatever the kernel's own.
    let ticks: Vec<f64> = stat.lines().next()?.split_whitespace().skip(1).filter_map(|n| n.parse().ok()).collect();
    let busy = ticks.iter().take(8).sum::<f64>() - ticks.get(3)? - ticks.get(4)?;
    // Behind the program's name, which may hold anything.
    let fields: Vec<&str> = own.rsplit(')').next()?.split_whitespace().collect();
    let spent: f64 = fields.get(11..13)?.iter().filter_map(|n| n.parse::<f64>().ok()).sum();
    Some((busy / 100.0, spent / 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_product_has_a_speed() {
        let speed = product_speed(Device::Cpu, Kind::Float);
        assert!(speed > 1e8 && speed.is_finite(), "{speed}");
    }

    #[test]
    fn the_busy_time_of_others_is_none_of_ours() {
        // user nice system idle iowait irq softirq steal guest; of the process utime and stime, behind a name with a bracket.
        let (stat, own) =
            ("cpu  100 20 30 9000 500 4 5 6 7 0\ncpu0 1 2\n", "7 (a) b) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0");
        assert_eq!(busy_seconds(stat, own), Some((1.65, 2.0)));
        assert_eq!(busy_seconds("", own), None);
        let at = Instant::now();
        let before = Busy { at, all: 10.0, own: 2.0 };
        let after = |all: f64, own: f64| Busy { at: at + Duration::from_secs(2), all, own };
        assert_eq!(before.others(&after(14.0, 5.0)), 0.5);
        assert_eq!(before.others(&after(13.0, 5.0)), 0.0, "all of it was our own work");
    }
}
