//! From a config to runs with identities, and what they would cost.

use crate::config::{Config, Draft, Start};
use crate::matching::Matched;
use crate::pretrain;
use crate::registry::Registry;
use crate::sizes::Counter;
use crate::spec::{self, ENGINE, LIBTORCH, RunSpec};
use results::{Manifest, PlannedRun, Record};
use serde::Serialize;
use std::sync::Arc;
use tasks::{DataDir, DataError, Outline, Output, Task, TaskSpec};
use tch::{Device, Kind};

/// A planned run: its labels and its spec.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Labels of the sweep.
    pub draft: Draft,
    /// The spec, fully resolved.
    pub spec: RunSpec,
    /// The spec's hash.
    pub id: String,
    /// The run it starts from.
    pub after: Option<String>,
}

/// Every run of a sweep.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The sweep's name.
    pub name: String,
    /// What it asks, and by what its models are matched.
    pub question: String,
    /// Seed by seed, so that the first results cover every mixer; of a seed, runs before those that start from them.
    pub runs: Vec<Planned>,
    /// Runs that others start from and that a filter left out.
    pub needed: Vec<Planned>,
    /// What is drawn besides scores and learning curves.
    pub figures: Vec<results::Figure>,
}

/// A task by its settings, and what opening it gave.
pub type OpenedTask = (crate::spec::Choice, Result<Arc<dyn Task>, Arc<DataError>>);

/// Opens every task of the sweep whose outline is `wanted`, once.
pub fn open_tasks(
    config: &Config,
    registry: &Registry,
    data: &DataDir,
    wanted: impl Fn(&Outline) -> bool,
) -> Vec<OpenedTask> {
    let mut opened: Vec<OpenedTask> = Vec::new();
    for draft in config.runs.iter().flat_map(Draft::chain) {
        let entry = registry.task(&draft.task.name).expect("the config was checked");
        if !opened.iter().any(|(choice, _)| *choice == draft.task) && wanted(&entry.outline(&draft.task.settings)) {
            let task = entry.open(&draft.task.settings, data).map(Arc::from).map_err(Arc::new);
            opened.push((draft.task.clone(), task));
        }
    }
    opened
}

impl Plan {
    /// Resolves every run; the errors are of all tasks whose data cannot be opened.
    pub fn expand(config: &Config, registry: &Registry, opened: &[OpenedTask]) -> Result<Self, Vec<Arc<DataError>>> {
        let errors: Vec<_> = opened.iter().filter_map(|(_, task)| task.as_ref().err().map(Arc::clone)).collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        let (mut runs, mut needed) = (Vec::new(), Vec::new());
        for draft in &config.runs {
            runs.push(Planned::of(draft, registry, opened)?);
        }
        for first in config.runs.iter().flat_map(|draft| draft.chain().skip(1)) {
            let planned = Planned::of(first, registry, opened)?;
            if !runs.iter().chain(&needed).any(|run: &Planned| run.id == planned.id) {
                needed.push(planned);
            }
        }
        runs.sort_by_key(|r| (r.spec.seed, r.draft.depth()));
        needed.sort_by_key(|r| (r.spec.seed, r.draft.depth()));
        let sentence = config.matched.as_ref().map(Matched::sentence);
        let question = [Some(config.question.clone()), sentence].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let (name, figures) = (config.name.clone(), config.figures.clone());
        Ok(Self { name, question: question.trim().into(), runs, needed, figures })
    }

    /// What is wrong with how runs start, of tasks that were opened.
    pub fn check_starts(
        config: &Config,
        registry: &Registry,
        opened: &[OpenedTask],
    ) -> Result<(), Vec<Arc<DataError>>> {
        let there = |draft: &Draft| opened.iter().any(|(choice, task)| *choice == draft.task && task.is_ok());
        let mut starting = config.runs.iter().filter(|draft| draft.start.is_some() && draft.chain().all(there));
        starting.try_for_each(|draft| Planned::of(draft, registry, opened).map(drop))
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
            figures: self.figures.clone(),
        }
    }
}

impl Planned {
    /// The run of a draft whose task was opened; the error is that of a file of weights, or of another tokenizer than that of the
    /// run it starts from.
    fn of(draft: &Draft, registry: &Registry, opened: &[OpenedTask]) -> Result<Self, Vec<Arc<DataError>>> {
        let task = |draft: &Draft| -> Result<&Arc<dyn Task>, Vec<Arc<DataError>>> {
            let (_, task) = opened.iter().find(|(choice, _)| *choice == draft.task).expect("every task was opened");
            task.as_ref().map_err(|error| vec![error.clone()])
        };
        let own = task(draft)?;
        let start = match &draft.start {
            None => None,
            Some(Start::Weights(file)) => {
                let wrong = |error: DataError| vec![Arc::new(error)];
                let whole = crate::checkpoint::looks_whole(file);
                whole.map_err(|error| wrong(DataError::Unreadable { path: file.clone(), why: error.why().into() }))?;
                let hash = crate::weights::beside::fingerprint(file).map_err(wrong)?;
                described(file, draft, own.spec()).map_err(wrong)?;
                Some(spec::Start::Weights { hash, file: file.clone() })
            }
            Some(Start::Run(first)) => {
                let cut_by = |task: &Arc<dyn Task>| task.tokenizer().map(tasks::Tokenizer::fingerprint);
                if let (Some(own), Some(before)) = (cut_by(own), cut_by(task(first)?))
                    && own != before
                {
                    let problem = format!(
                        "its tokenizer is not that of `{}`, which it starts from: give both the same `tokenizer` and `corpus`",
                        first.task_label
                    );
                    let path = std::path::PathBuf::from(format!("task `{}`", draft.task_label));
                    return Err(vec![Arc::new(DataError::Malformed { path, row: 0, problem })]);
                }
                Some(spec::Start::Run(Self::of(first, registry, opened)?.id))
            }
        };
        let after = match &start {
            Some(spec::Start::Run(id)) => Some(id.clone()),
            _ => None,
        };
        let pairs = draft.analysis.as_ref().and_then(|analysis| analysis.minimal_pairs.as_ref());
        let minimal_pairs = pairs.map(|path| pairs_hash(path.as_ref())).transpose();
        let minimal_pairs = minimal_pairs.map_err(|error| vec![Arc::new(error)])?;
        let spec = RunSpec { start, minimal_pairs, ..draft.spec(registry, own.spec().version, own.fingerprint()) };
        Ok(Self { id: spec.id(), spec, draft: draft.clone(), after })
    }
}

/// BLAKE3 of a file of minimal pairs, or of the files of a folder.
pub fn pairs_hash(path: &std::path::Path) -> Result<String, DataError> {
    let files = tasks::minimal_pairs::files(path)?;
    if let [one] = files.as_slice() {
        return content_hash(one);
    }
    let hashes = files.iter().map(|file| content_hash(file)).collect::<Result<Vec<_>, _>>()?;
    Ok(blake3::hash(hashes.concat().as_bytes()).to_hex().to_string())
}

/// Whether the config beside a file of weights, where there is one, is that of the draft's model.
fn described(file: &std::path::Path, draft: &Draft, task: tasks::TaskSpec) -> Result<(), DataError> {
    let malformed = |error: crate::weights::WeightsError| {
        let (text, help) = (error.to_string(), error.help().to_string());
        let (path, problem) = text.split_once(": ").unwrap_or(("", &text));
        DataError::Malformed { path: path.into(), row: 0, problem: format!("{problem}: {help}") }
    };
    match crate::weights::beside::Beside::read(file).map_err(malformed)? {
        None => Ok(()),
        Some(beside) => beside.held_against(&draft.model, &draft.mixer, &draft.seen(task)).map_err(malformed),
    }
}

/// BLAKE3 of a file.
pub fn content_hash(path: &std::path::Path) -> Result<String, DataError> {
    let mut hasher = blake3::Hasher::new();
    std::fs::File::open(path)
        .and_then(|file| hasher.update_reader(file).map(drop))
        .map_err(|error| DataError::Unreadable { path: path.into(), why: error.to_string() })?;
    Ok(hasher.finalize().to_hex().to_string())
}

impl Draft {
    /// This run, the run that it starts from, the run that that one starts from, and so on.
    pub fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |draft| match &draft.start {
            Some(Start::Run(first)) => Some(first),
            _ => None,
        })
    }

    /// Runs that come before this one.
    fn depth(&self) -> usize {
        self.chain().count() - 1
    }

    /// The full spec but for its start, once the task's version and data are known.
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
            pretrain: self.pretrain.clone(),
            analysis: self.analysis.clone(),
            minimal_pairs: None,
            start: None,
            seed: self.seed,
        }
    }

    /// The task as this run's model sees it.
    pub fn seen(&self, task: TaskSpec) -> TaskSpec {
        pretrain::seen(task, self.pretrain.as_ref())
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
    /// Trainable scalars of the model that this one is held against, from the config.
    pub reference_parameters: Option<u64>,
    /// Bytes of decoding state of one mixer at the task's longest sequence; 0 without a recurrent form.
    pub state_bytes: i64,
    /// Floating-point operations of one run, at the longest sequence: three forward passes a step, pretraining's too, and one for
    /// every example that validation and test are scored on, as far as the task is open.
    pub flops: f64,
    /// Those of pretraining.
    pub pretraining_flops: f64,
    /// Seconds of one run on this machine, and where the figure comes from.
    pub seconds: Option<f64>,
    /// `measured` (records of this spec in the store) or `at matrix-product speed` (a lower bound).
    pub seconds_from: &'static str,
    /// Seconds of one run on a GPU of the speed assumed.
    pub gpu_seconds: Option<f64>,
    /// Bytes of parameters, gradients and optimizer state.
    pub optimizer_bytes: Option<u64>,
}

/// Operations a second, to make times of FLOPs.
#[derive(Clone, Copy, Debug)]
pub struct Speeds {
    /// This machine's, at matrix products.
    pub here: f64,
    /// A GPU's, as assumed.
    pub gpu: f64,
}

/// Costs of a sweep's runs; records of equal specs give better times than speeds do.
pub fn estimates(
    config: &Config,
    registry: &Registry,
    counter: &mut Counter,
    records: &[Record],
    speeds: Speeds,
) -> Vec<Estimate> {
    let mut estimates: Vec<Estimate> = Vec::new();
    for draft in &config.runs {
        let known = estimates
            .iter_mut()
            .find(|e| e.mixer == draft.mixer_label && e.task == draft.task_label && e.settings == draft.settings);
        match known {
            Some(estimate) => estimate.seeds += 1,
            None => {
                estimates.push(estimate(draft, registry, counter, records, speeds));
            }
        }
    }
    estimates
}

fn estimate(draft: &Draft, registry: &Registry, counter: &mut Counter, records: &[Record], speeds: Speeds) -> Estimate {
    let entry = registry.task(&draft.task.name).expect("the config was checked");
    let outline = entry.outline(&draft.task.settings);
    let spec = counter.spec(draft);
    let scored = match (counter.task(draft), spec.output) {
        (Some(task), Output::PerPosition | Output::Reconstruction | Output::Number | Output::Tokens) => {
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
        reference_parameters: draft.reference_parameters,
        state_bytes: 0,
        flops: 0.0,
        pretraining_flops: 0.0,
        seconds: None,
        seconds_from: "unknown",
        gpu_seconds: None,
        optimizer_bytes: None,
    };
    let Some(sizes) = counter.sizes(draft) else { return estimate };
    let length = spec.max_length;
    let mixers = outline.documents as f64 * draft.model.n_layers as f64 * sizes.mixer.flops as f64;
    let forward = mixers + draft.model.trunk_flops(length, &outline) + draft.model.head_flops(scored, &outline);
    let passes = |steps: u64, forward: f64| 3.0 * forward * steps as f64 * draft.budget.batch_size as f64;
    estimate.parameters = Some(sizes.parameters);
    estimate.mixer_parameters = Some(sizes.mixer_parameters);
    estimate.optimizer_bytes = Some(16 * sizes.parameters);
    estimate.state_bytes = sizes.mixer.state_bytes;
    if let Some(first) = &draft.pretrain {
        let forward = first.forward_flops(&draft.model, length, sizes.mixer.flops, &outline, spec.vocab_size);
        estimate.pretraining_flops = passes(first.steps, forward);
    }
    let looked = counter.task(draft).map_or(0.0, |task| {
        let looks = draft.budget.steps.div_ceil(draft.budget.eval_every);
        looks as f64 * task.len(tasks::Split::Validation) as f64 + task.len(tasks::Split::Test) as f64
    });
    let looking = forward * looked;
    estimate.flops = estimate.pretraining_flops + passes(draft.budget.steps, forward) + looking;
    estimate.gpu_seconds = Some(estimate.flops / speeds.gpu);
    let twin = records.iter().find(|r| same_but_seed(r, draft));
    (estimate.seconds, estimate.seconds_from) = match twin {
        Some(record) => (Some(record.wall_seconds), "measured"),
        None => (Some(estimate.flops / speeds.here), "at matrix-product speed"),
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
        && same("pretrain", json(&draft.pretrain))
        && same("analysis", json(&draft.analysis))
}

fn json(value: &impl Serialize) -> serde_json::Value {
    serde_json::to_value(value).expect("settings are plain data")
}

/// Speed of a float32 matrix product on this machine with `threads`, operations a second.
pub fn matrix_speed(threads: usize) -> f64 {
    tch::set_num_threads(threads as i32);
    product_speed(Device::Cpu, Kind::Float)
}

/// Speed of a square matrix product with the threads that are set, operations a second: 512 wide on a CPU, and 8192 on a GPU,
/// which a smaller one does not fill. 0.2 seconds; draws no random number.
pub fn product_speed(device: Device, kind: Kind) -> f64 {
    let (n, wait): (i64, _) = match device {
        Device::Cuda(index) => (8192, Some(index as i64)),
        _ => (512, None),
    };
    let a = tch::Tensor::ones([n, n], (kind, device));
    let product = || {
        let _ = a.matmul(&a);
        if let Some(index) = wait {
            tch::Cuda::synchronize(index);
        }
    };
    product();
    let begun = std::time::Instant::now();
    let mut products = 0;
    while begun.elapsed().as_secs_f64() < 0.2 {
        product();
        products += 1;
    }
    f64::from(products) * 2.0 * (n as f64).powi(3) / begun.elapsed().as_secs_f64()
}
