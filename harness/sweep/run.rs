//! One run, in this process: open the task, train, write the record.

use crate::base::choices::DeviceKind;
use crate::base::cuda::device;
use crate::base::events::Event;
use crate::base::limits;
use crate::base::process::{one_line, panic_reason, panic_text};
use crate::registry::Registry;
use crate::sweep::machine::Machine;
use crate::train::error::TrainError;
use crate::train::spec::RunSpec;
use crate::train::trainer::{Ended, Trainer};
use crate::train::vet;
use mixers::native::kernels;
use results::{Blocked, Keep, Outcome, Record, Scores, Store, StoreError, Versions, WorkLock};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tasks::{DataDir, DataError};
use tch::Device;

/// The git commit of the source this was built from.
pub const COMMIT: &str = env!("MIXARENA_COMMIT");
/// This project's version.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Where and how a run computes. Nothing here is part of its identity; of the threads the last digits of its numbers depend, so
/// that a run keeps those it began with.
#[derive(Clone, Debug)]
pub struct Place {
    /// The store of records.
    pub store: PathBuf,
    /// The data folder.
    pub data: DataDir,
    /// `cpu` or `cuda`.
    pub device: DeviceKind,
    /// Threads of libtorch.
    pub threads: i64,
    /// Memory this process may use on the CPU, bytes; `None` for no limit.
    pub memory: Option<u64>,
    /// Which checkpoints are kept once a run has finished.
    pub keep: Keep,
}

/// What can stop a run before it is a record.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// Training could not go on.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// The store cannot be written.
    #[error(transparent)]
    Store(#[from] results::StoreError),
    /// No such device.
    #[error("{0}")]
    Environment(String),
}

impl From<DataError> for RunError {
    fn from(error: DataError) -> Self {
        Self::Train(error.into())
    }
}

/// How often it is tried whether another process has let go of a run.
const TRY_AGAIN: Duration = Duration::from_millis(20);

/// Trains `spec` and appends its record; `send` gets its messages. A panic of libtorch becomes a record too. One process at a
/// time trains a run: this one waits for another to end. Where that one came to an end of the run, its record is given back,
/// and nothing is trained or scored a second time.
pub fn run(
    spec: &RunSpec,
    place: &Place,
    registry: &Registry,
    stop: &AtomicBool,
    mut send: impl FnMut(Event),
) -> Result<Record, RunError> {
    let device = device(place.device).map_err(RunError::Environment)?;
    limits::keep_freed_memory();
    tch::set_num_threads(place.threads as i32);
    if let (Some(bytes), Device::Cpu) = (place.memory, device) {
        limits::limit_memory(bytes);
    }
    let store = Store::open(&place.store)?;
    let id = spec.id();
    let mut record = blank(spec, place, device);
    let before = store.latest(&id)?.map(|record| record.attempt);
    // Held until the record is written.
    let Some(_lock) = lock(&store, &id, stop, &mut send)? else {
        let reason = "stopped by a signal while it waited for another process at this run".into();
        record.outcome = Outcome::Interrupted { reason };
        return file(&store, record, send);
    };
    // Whoever held the lock until now may have written a record. One that was there before is known to who asked for the run.
    let now = store.latest(&id)?;
    if let Some(done) = now.filter(|now| {
        now.outcome == Outcome::Finished || (now.outcome.is_final() && before.is_none_or(|before| now.attempt > before))
    }) {
        send(Event::Already { attempt: done.attempt });
        return Ok(done);
    }
    let work_dir = store.work_dir(&id);
    let begun = Instant::now();
    let trained =
        catch_unwind(AssertUnwindSafe(|| train(spec, place, registry, device, work_dir, stop, &mut record, &mut send)));
    match trained {
        Ok(Ok(ended)) => {
            record.outcome = ended.outcome;
            record.scores = ended.scores;
            record.measures.extend(ended.measures);
            record.baselines = ended.baselines;
            record.details = ended.details;
        }
        Ok(Err(error)) => {
            record.outcome = Outcome::Failed { reason: one_line(&error.to_string()) };
            if let (TrainError::StartLost(_), Some(crate::train::spec::Start::Run(start))) = (&error, &spec.start) {
                record.blocked_by = store.latest(start)?.as_ref().map(Blocked::by);
            }
        }
        Err(panic) => {
            record.outcome = Outcome::Failed { reason: panic_reason(&panic_text(&*panic)) };
        }
    }
    if record.wall_seconds == 0.0 {
        record.wall_seconds = begun.elapsed().as_secs_f64();
    }
    record.peak_memory_bytes = limits::peak_memory();
    let record = file(&store, record, &mut send)?;
    if record.outcome == Outcome::Finished {
        // What cannot be removed now the next sweep removes.
        let _ = store.remove_checkpoints(&id, place.keep);
    }
    Ok(record)
}

/// Locks a run's work folder, once nobody else trains there: what a killed sweep leaves behind still ends its step and writes
/// a checkpoint and a record, behind which this process goes on. `None` when `stop` was set first.
fn lock(
    store: &Store,
    id: &str,
    stop: &AtomicBool,
    send: &mut impl FnMut(Event),
) -> Result<Option<WorkLock>, StoreError> {
    let mut waits = false;
    loop {
        if let Some(lock) = store.lock_work(id)? {
            return Ok(Some(lock));
        }
        if stop.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if !std::mem::replace(&mut waits, true) {
            send(Event::Waiting);
        }
        std::thread::sleep(TRY_AGAIN);
    }
}

/// Appends the record and tells of it.
fn file(store: &Store, mut record: Record, mut send: impl FnMut(Event)) -> Result<Record, RunError> {
    record.attempt = store.append(&record)?;
    let (attempt, outcome) = (record.attempt, record.outcome.word().into());
    send(Event::Ended { attempt, outcome, test: record.scores.test });
    Ok(record)
}

#[expect(
    clippy::too_many_arguments,
    reason = "one call site; the record is filled as facts become known, so that a panic keeps them"
)]
fn train(
    spec: &RunSpec,
    place: &Place,
    registry: &Registry,
    device: Device,
    work_dir: PathBuf,
    stop: &AtomicBool,
    record: &mut Record,
    send: &mut impl FnMut(Event),
) -> Result<Ended, TrainError> {
    let task = registry
        .task(&spec.task.name)
        .ok_or_else(|| TrainError::Spec(format!("this build has no task `{}`", spec.task.name)))?;
    let task: Arc<dyn tasks::Task> = Arc::from(task.open(&spec.task.settings, &place.data)?);
    vet::opened(spec, &*task).map_err(TrainError::Spec)?;
    let metric = task.spec().metric;
    record.metric = metric.name.clone();
    record.scored_by = Some(kept(metric));
    record.notes = task.notes();
    record.marks = task.spec().marks.iter().map(|mark| mark.name().into()).collect();
    record.scores.floor = Some(task.floor()?.score);
    let mut trainer = Trainer::new(spec.clone(), task, registry, device, work_dir)?;
    (record.parameters, record.mixer_parameters) = trainer.parameters();
    record.device.threads = trainer.state.threads;
    send(started(&trainer, record));
    let mut ended = trainer.train(stop, &mut *send);
    // Once: a disk that loses a second one loses a third.
    if let Err(TrainError::BestLost(error)) = &ended {
        trainer = trainer.again(registry, error)?;
        send(started(&trainer, record));
        ended = trainer.train(stop, &mut *send);
    }
    // Facts first: they hold whether training ended well or not.
    record.steps = trainer.state.step;
    record.best_step = trainer.state.best_step;
    record.curve = trainer.state.curve.clone();
    record.notes.extend(trainer.start_note());
    record.notes.extend(trainer.pretraining_note());
    record.notes.extend(trainer.notes().iter().cloned());
    let machine = Machine::new(place.device, trainer.state.threads as usize);
    trainer.clock.peak_flops = machine.known(spec.model.precision).unwrap_or(0.0);
    record.wall_seconds = trainer.clock.wall_seconds;
    record.steps_per_second = median(&trainer.clock.steps_per_second);
    let speeds = trainer.clock.speeds(record.steps_per_second);
    let measures = trainer.clock.measures().into_iter().chain(speeds);
    record.measures.extend(measures.map(|(name, value)| (name.to_owned(), value)));
    record.tokens_per_second = record.steps_per_second * trainer.clock.tokens_per_step;
    ended
}

/// That a run begins to train, or goes on.
fn started(trainer: &Trainer, record: &Record) -> Event {
    let notes = record.notes.iter().chain(trainer.notes()).cloned().collect();
    let (parameters, resumed_from) = (record.parameters, trainer.steps_done());
    Event::Started { parameters, resumed_from, notes, groups: trainer.group_lines() }
}

/// A task's metric as records keep it.
fn kept(metric: tasks::Metric) -> results::Metric {
    let tasks::Metric { name, range, kind, chosen_by_loss, diverged } = metric;
    let kind = match kind {
        tasks::MetricKind::Proportion => results::MetricKind::Proportion,
        tasks::MetricKind::Explained => results::MetricKind::Explained,
        tasks::MetricKind::Correlation => results::MetricKind::Correlation,
        tasks::MetricKind::F1Accuracy => results::MetricKind::F1Accuracy,
        tasks::MetricKind::LanguageModel => results::MetricKind::LanguageModel,
    };
    results::Metric { name, range, kind, chosen_by_loss, diverged }
}

/// A record of nothing yet.
pub fn blank(spec: &RunSpec, place: &Place, device: Device) -> Record {
    let kind = if device == Device::Cpu { "cpu" } else { "cuda" };
    Record {
        format: results::FORMAT,
        id: spec.id(),
        attempt: 1,
        spec: serde_json::to_value(spec).expect("a spec is plain data"),
        seed: spec.seed,
        outcome: Outcome::Failed { reason: "nothing is known of its end".into() },
        metric: String::new(),
        scored_by: None,
        scores: Scores::default(),
        parameters: 0,
        mixer_parameters: 0,
        steps: 0,
        best_step: 0,
        steps_per_second: 0.0,
        tokens_per_second: 0.0,
        wall_seconds: 0.0,
        peak_memory_bytes: 0,
        curve: Vec::new(),
        measures: Default::default(),
        baselines: Default::default(),
        details: Vec::new(),
        device: results::Device {
            kind: kind.into(),
            name: limits::processor_name(),
            threads: place.threads,
            kernels: kernels::chosen().on(device).word().into(),
            host: limits::host_name(),
        },
        versions: Versions { mixarena: VERSION.into(), libtorch: spec.libtorch.clone(), commit: COMMIT.into() },
        started_unix: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs()),
        notes: Vec::new(),
        marks: Vec::new(),
        blocked_by: None,
    }
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    match n {
        0 => 0.0,
        _ => (sorted[(n - 1) / 2] + sorted[n / 2]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_count_is_between_the_middle_two() {
        assert_eq!(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
        assert_eq!(median(&[]), 0.0);
    }
}
