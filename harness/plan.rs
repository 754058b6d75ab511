//! From a config to runs with identities, and what they would cost.

use crate::config::{Config, Draft};
use crate::model::Model;
use crate::registry::Registry;
use crate::spec::{ENGINE, LIBTORCH, RunSpec};
use results::{Manifest, PlannedRun, Record};
use serde::Serialize;
use std::sync::Arc;
use tasks::{DataDir, DataError, Output, Task};
use tch::{Device, nn::VarStore};

/// A planned run: its labels and its spec.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Labels of the sweep.
    pub draft: Draft,
    /// The spec, fully resolved.
    pub spec: RunSpec,
    /// The spec's hash.
    pub id: String,
}

/// Every run of a sweep.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The sweep's name.
    pub name: String,
    /// What it asks.
    pub question: String,
    /// Seed by seed, so that the first results cover every mixer.
    pub runs: Vec<Planned>,
}

/// A task by its settings, and what opening it gave.
pub type OpenedTask = (crate::spec::Choice, Result<Arc<dyn Task>, Arc<DataError>>);

/// Opens every task of the sweep once.
pub fn open_tasks(config: &Config, registry: &Registry, data: &DataDir) -> Vec<OpenedTask> {
    let mut opened: Vec<OpenedTask> = Vec::new();
    for draft in &config.runs {
        if !opened.iter().any(|(choice, _)| *choice == draft.task) {
            let entry = registry.task(&draft.task.name).expect("the config was checked");
            let task = entry.open(&draft.task.settings, data).map(Arc::from).map_err(Arc::new);
            opened.push((draft.task.clone(), task));
        }
    }
    opened
}

impl Plan {
    /// Resolves every run; the errors are of all tasks whose data cannot be opened.
    pub fn expand(config: &Config, registry: &Registry, data: &DataDir) -> Result<Self, Vec<Arc<DataError>>> {
        let opened = open_tasks(config, registry, data);
        let errors: Vec<_> = opened.iter().filter_map(|(_, task)| task.as_ref().err().map(Arc::clone)).collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut runs = Vec::new();
        for draft in &config.runs {
            let (_, task) = opened.iter().find(|(choice, _)| *choice == draft.task).expect("every task was opened");
            let Ok(task) = task else { continue };
            let spec = draft.spec(registry, task.spec().version, task.fingerprint());
            runs.push(Planned { id: spec.id(), spec, draft: draft.clone() });
        }
        runs.sort_by_key(|r| r.spec.seed);
        Ok(Self { name: config.name.clone(), question: config.question.clone(), runs })
    }

    /// The plan as it is kept beside the records; `command` made it.
    pub fn manifest(&self, command: &str) -> Manifest {
        let planned = |r: &Planned| PlannedRun {
            id: r.id.clone(),
            mixer: r.draft.mixer_label.clone(),
            task: r.draft.task_label.clone(),
            seed: r.spec.seed,
            settings: r.draft.settings.clone(),
            published: r.draft.published.clone(),
        };
        Manifest {
            name: self.name.clone(),
            question: self.question.clone(),
            command: command.into(),
            runs: self.runs.iter().map(planned).collect(),
        }
    }
}

impl Draft {
    /// The full spec, once the task's version and data are known.
    pub fn spec(&self, registry: &Registry, task_version: u32, data: Option<String>) -> RunSpec {
        let mixer = registry.mixer(&self.mixer.name).expect("the config was checked");
        RunSpec {
            engine: ENGINE,
            libtorch: LIBTORCH.into(),
            task: self.task.clone(),
            task_version,
            data,
            mixer: self.mixer.clone(),
            mixer_version: mixer.version,
            model: self.model.clone(),
            optimizer: self.optimizer.clone(),
            schedule: self.schedule.clone(),
            budget: self.budget.clone(),
            seed: self.seed,
        }
    }
}

/// What one kind of run (all seeds alike) would cost.
#[derive(Clone, Debug, Serialize)]
pub struct Estimate {
    /// Label of the mixer.
    pub mixer: String,
    /// Label of the task.
    pub task: String,
    /// Grid point.
    pub settings: Vec<(String, String)>,
    /// Runs of this kind.
    pub seeds: usize,
    /// Trainable scalars; where the task's data are missing, with the vocabulary of the official data.
    pub parameters: Option<u64>,
    /// Those inside the mixers.
    pub mixer_parameters: Option<u64>,
    /// Bytes of decoding state of one mixer at the task's longest sequence; 0 without a recurrent form.
    pub state_bytes: i64,
    /// Floating-point operations of one run: three forward passes a step, at the longest sequence.
    pub flops: f64,
    /// Seconds of one run on this machine, and where the figure comes from.
    pub seconds: Option<f64>,
    /// `measured` (records of this spec in the store) or `at matrix-product speed` (a lower bound).
    pub seconds_from: &'static str,
    /// Bytes of parameters, gradients and optimizer state.
    pub optimizer_bytes: Option<u64>,
}

/// Widths beyond which a model is not built just to be counted.
const WIDEST_COUNTED: i64 = 8192;

/// Costs of a sweep's runs. `flops_per_second` is this machine's matrix-product speed; records of equal specs give better
/// times.
pub fn estimates(
    config: &Config,
    registry: &Registry,
    opened: &[OpenedTask],
    records: &[Record],
    flops_per_second: f64,
) -> Vec<Estimate> {
    let mut estimates: Vec<Estimate> = Vec::new();
    for draft in &config.runs {
        let known = estimates
            .iter_mut()
            .find(|e| e.mixer == draft.mixer_label && e.task == draft.task_label && e.settings == draft.settings);
        match known {
            Some(estimate) => estimate.seeds += 1,
            None => {
                let task = opened.iter().find(|(choice, _)| *choice == draft.task).and_then(|(_, t)| t.as_ref().ok());
                estimates.push(estimate(draft, registry, task, records, flops_per_second));
            }
        }
    }
    estimates
}

fn estimate(
    draft: &Draft,
    registry: &Registry,
    task: Option<&Arc<dyn Task>>,
    records: &[Record],
    speed: f64,
) -> Estimate {
    let entry = registry.task(&draft.task.name).expect("the config was checked");
    let outline = entry.outline(&draft.task.settings);
    // Without the data, the sizes of the official ones stand for them, and the caption says so.
    let spec = task.map_or_else(|| outline.spec(), |t| t.spec());
    let scored = match (task, spec.output) {
        (Some(task), Output::PerPosition) => {
            task.example(tasks::Split::Train, 0).map_or(1, |e| e.targets.classes().len() as i64)
        }
        _ => 1,
    };
    let mut estimate = Estimate {
        mixer: draft.mixer_label.clone(),
        task: draft.task_label.clone(),
        settings: draft.settings.clone(),
        seeds: 1,
        parameters: None,
        mixer_parameters: None,
        state_bytes: 0,
        flops: 0.0,
        seconds: None,
        seconds_from: "unknown",
        optimizer_bytes: None,
    };
    if draft.model.d_model > WIDEST_COUNTED || draft.model.n_layers > 512 {
        return estimate;
    }
    let vs = VarStore::new(Device::Cpu);
    let mixer = registry.mixer(&draft.mixer.name).expect("the config was checked");
    let model = Model::new(&vs.root(), &draft.model, &spec, mixer, &draft.mixer.settings);
    let count = |inside: bool| -> u64 {
        let all = vs.variables();
        let wanted = all.iter().filter(|(n, v)| v.requires_grad() && (!inside || n.contains(".mixer.")));
        wanted.map(|(_, v)| v.numel() as u64).sum()
    };
    let cost = model.mixer_cost(spec.max_length);
    let mixers = outline.documents * draft.model.n_layers * cost.flops;
    let forward = mixers + draft.model.flops(spec.max_length, scored, &outline);
    estimate.parameters = Some(count(false));
    estimate.mixer_parameters = Some(count(true));
    estimate.optimizer_bytes = estimate.parameters.map(|n| 16 * n);
    estimate.state_bytes = cost.state_bytes;
    estimate.flops = 3.0 * forward as f64 * (draft.budget.steps * draft.budget.batch_size) as f64;
    let twin = records.iter().find(|r| same_but_seed(r, draft));
    (estimate.seconds, estimate.seconds_from) = match twin {
        Some(record) => (Some(record.wall_seconds), "measured"),
        None => (Some(estimate.flops / speed), "at matrix-product speed"),
    };
    estimate
}

/// Whether a finished record is of this draft, its seed apart.
fn same_but_seed(record: &Record, draft: &Draft) -> bool {
    let same = |key: &str, value: serde_json::Value| record.spec[key] == value;
    record.outcome == results::Outcome::Finished
        && same("task", json(&draft.task))
        && same("mixer", json(&draft.mixer))
        && same("model", json(&draft.model))
        && same("budget", json(&draft.budget))
}

fn json(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).expect("settings are plain data")
}

/// Speed of a float32 matrix product on this machine with `threads`, operations a second.
pub fn matrix_speed(threads: usize) -> f64 {
    tch::set_num_threads(threads as i32);
    let n = 512;
    let a = tch::Tensor::ones([n, n], (tch::Kind::Float, Device::Cpu));
    let _warm = a.matmul(&a);
    let begun = std::time::Instant::now();
    let mut products = 0;
    while begun.elapsed().as_secs_f64() < 0.2 {
        let _ = a.matmul(&a);
        products += 1;
    }
    f64::from(products) * 2.0 * (n as f64).powi(3) / begun.elapsed().as_secs_f64()
}
