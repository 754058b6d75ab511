//! The process that measures: reads its job from standard input, tells what it finds in JSON lines, and ends when standard
//! input closes.

use super::{Job, Said, Subject, Work};
use crate::base::cuda;
use crate::base::limits;
use crate::base::process::{panic_reason, panic_text};
use crate::model::Block;
use crate::registry::Registry;
use mixers::Context;
use results::bench::{Memory, Pass};
use std::io::{BufRead, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;
use tch::{Device, Kind, Tensor, nn};

/// Positions of the pass that brings libtorch's code into memory before a pass is weighed.
const SHORT: i64 = 16;

/// Does the job on standard input; an error says why it could not be read.
pub fn serve(registry: &Registry) -> Result<(), String> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).map_err(|e| e.to_string())?;
    let job: Job = serde_json::from_str(&line).map_err(|e| e.to_string())?;
    // Nobody listens any more: measuring on would only disturb who comes next.
    std::thread::spawn(|| {
        let mut buffer = [0u8; 64];
        while matches!(std::io::stdin().read(&mut buffer), Ok(n) if n > 0) {}
        std::process::exit(130);
    });
    limits::keep_freed_memory();
    tch::set_num_threads(i32::try_from(job.threads).unwrap_or(i32::MAX));
    let device = cuda::device(job.device)?;
    if let (Some(bytes), Device::Cpu) = (job.memory, device) {
        limits::limit_memory(bytes);
    }
    match job.work {
        Work::Memory(pass) => weigh(&job.subjects, pass, (registry, device)),
        Work::Time { passes, warmup, repeats, cap } => {
            clock(&job.subjects, &passes, &Rounds { warmup, repeats, cap }, (registry, device));
        }
    }
    say(Said::Done);
    Ok(())
}

fn say(what: Said) {
    let line = serde_json::to_string(&what).expect("plain data");
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// `f`, with a panic of libtorch as a reason.
fn tried<T>(f: impl FnOnce() -> T) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(f)).map_err(|panic| panic_reason(&panic_text(&*panic)))
}

/// A block that stands, with an input and a gradient to go through it.
struct Standing {
    block: Block,
    input: Tensor,
    gradient: Tensor,
    /// Input and parameters.
    leaves: Vec<Tensor>,
}

impl Standing {
    fn new(subject: &Subject, (registry, device): (&Registry, Device)) -> (Self, u64) {
        let entry = registry.mixer(&subject.mixer).expect("the parent runs the same program");
        tch::manual_seed(0);
        let vs = nn::VarStore::new(device);
        let block = Block::new(&vs.root(), &subject.model, &subject.dims(), entry, &subject.settings);
        let shape = [subject.batch, subject.length, subject.model.d_model];
        let input = Tensor::randn(shape, (Kind::Float, device)).set_requires_grad(true);
        let gradient = Tensor::randn(shape, (Kind::Float, device));
        let mut leaves = vs.trainable_variables();
        let parameters = leaves.iter().map(|p| p.numel() as u64).sum();
        leaves.push(input.shallow_clone());
        (Self { block, input, gradient, leaves }, parameters)
    }

    fn pass(&self, pass: Pass, length: i64) {
        let cut = |t: &Tensor| t.narrow(1, 0, length);
        let y = match pass {
            Pass::Forward => tch::no_grad(|| self.block.forward(&cut(&self.input), &Context::eval())),
            Pass::Training => {
                let y = self
                    .block
                    .forward(&cut(&self.input), &Context { train: true, lengths: None, ..Context::default() });
                let loss = (&y * cut(&self.gradient)).sum(Kind::Float);
                // Returned, not accumulated: a training step clears its gradients first.
                drop(Tensor::run_backward(&[loss], &self.leaves, false, false));
                y
            }
        };
        assert_eq!(y.size(), [y.size()[0], length, y.size()[2]]);
    }

    fn seconds(&self, pass: Pass) -> f64 {
        let begun = Instant::now();
        self.pass(pass, self.input.size()[1]);
        if let Device::Cuda(index) = self.input.device() {
            tch::Cuda::synchronize(index as i64);
        }
        begun.elapsed().as_secs_f64()
    }
}

/// One pass, and how large it made this process.
fn weigh(subjects: &[Subject], pass: Pass, place: (&Registry, Device)) {
    for (i, subject) in subjects.iter().enumerate() {
        say(Said::At(i));
        let grown = tried(|| {
            let (standing, _) = Standing::new(subject, place);
            standing.pass(pass, SHORT.min(subject.length));
            let built_bytes = limits::resident_memory();
            standing.pass(pass, subject.length);
            // Linux counts resident pages per thread and adds them up now and then: its peak may lag behind its own present.
            Memory { built_bytes, peak_bytes: limits::peak_memory().max(built_bytes) }
        });
        say(match grown {
            Ok(memory) => Said::Grew(memory),
            Err(reason) => Said::Dropped { subject: i, reason, took: Vec::new() },
        });
    }
}

/// How often each subject is timed, and how long it may take.
struct Rounds {
    warmup: usize,
    repeats: usize,
    cap: f64,
}

/// The passes of each in turns, round after round.
fn clock(subjects: &[Subject], passes: &[Pass], rounds: &Rounds, place: (&Registry, Device)) {
    let mut standing: Vec<Option<Standing>> = Vec::new();
    for (i, subject) in subjects.iter().enumerate() {
        say(Said::At(i));
        match tried(|| Standing::new(subject, place)) {
            Ok((built, parameters)) => {
                say(Said::Built { subject: i, parameters, path: built.block.path().into() });
                standing.push(Some(built));
            }
            Err(reason) => {
                say(Said::Dropped { subject: i, reason, took: Vec::new() });
                standing.push(None);
            }
        }
    }
    for round in 0..rounds.warmup + rounds.repeats {
        for (i, slot) in standing.iter_mut().enumerate() {
            let Some(built) = slot else { continue };
            say(Said::At(i));
            let timed = || passes.iter().map(|pass| (*pass, built.seconds(*pass))).collect::<Vec<_>>();
            match tried(timed) {
                Ok(took) if round < rounds.warmup => {
                    let Some(reason) = over(&took, rounds.cap) else { continue };
                    say(Said::Dropped { subject: i, reason, took });
                    *slot = None;
                }
                Ok(took) => {
                    for (pass, seconds) in took {
                        say(Said::Took { subject: i, pass, seconds });
                    }
                }
                Err(reason) => {
                    say(Said::Dropped { subject: i, reason, took: Vec::new() });
                    *slot = None;
                }
            }
        }
    }
}

/// Which pass took longer than `cap` seconds, in words.
fn over(took: &[(Pass, f64)], cap: f64) -> Option<String> {
    let (pass, seconds) = took.iter().rfind(|(_, seconds)| *seconds > cap)?;
    Some(format!("{} took {seconds:.3} s in its only round, over the cap of {cap} s", pass.word()))
}
