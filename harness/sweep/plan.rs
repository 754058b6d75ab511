//! From a config to runs with identities, and what they would cost.

use crate::base::hashes::pairs_hash;
use crate::config::draft::Part;
use crate::config::matched::percent;
use crate::config::{Config, Draft, Matched, Start};
use crate::model::ModelConfig;
use crate::registry::Registry;
use crate::sweep::opened::OpenedTask;
use crate::sweep::sizes::Counter;
use crate::train::budget::BudgetConfig;
use crate::train::spec::{self, Choice, ENGINE, LIBTORCH, RunSpec};
use results::{Ablation, Expectation, Manifest, Matching, PlannedRun, SearchRun};
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tasks::{DataError, Task};

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
    /// What it asks, and within what its models are alike where `match` checks that.
    pub question: String,
    /// How the sizes of its models were chosen.
    pub matched: Option<Matching>,
    /// Which mixers are changes to another one.
    pub ablation: Option<Ablation>,
    /// Seed by seed, so that the first results cover every mixer; of a seed, runs before those that start from them.
    pub runs: Vec<Planned>,
    /// Runs that others start from and that a filter left out.
    pub needed: Vec<Planned>,
    /// What its scores must be.
    pub expect: Vec<results::Expectation>,
    /// What is drawn besides scores and learning curves.
    pub figures: Vec<results::Figure>,
}

/// What people call the runs of a draft: "mqar · s4 · seed 2", with the grid point where there is one, and of a search with the
/// setting it tries.
pub fn name(draft: &Draft) -> String {
    let mut name = format!("{} · {}", draft.task_label, draft.mixer_label);
    let tried = match &draft.part {
        Part::Search { tried, .. } => &tried[..],
        _ => &[],
    };
    for (path, value) in draft.settings.iter().chain(tried) {
        name += &format!(" · {path}={value}");
    }
    match &draft.part {
        Part::Search { share, .. } => format!("{name} · search with {} % of the steps", percent(*share)),
        _ => format!("{name} · seed {}", draft.seed),
    }
}

impl Plan {
    /// Every run, also those that a filter left out and others start from.
    pub fn all(&self) -> impl Iterator<Item = &Planned> {
        self.needed.iter().chain(&self.runs)
    }

    /// The runs that are `wanted`, each behind the run it starts from: so a limit never asks for runs without their starts.
    pub fn missing(&self, wanted: impl Fn(&Planned) -> bool) -> Vec<Planned> {
        let all: HashMap<&str, &Planned> = self.all().map(|run| (run.id.as_str(), run)).collect();
        let before = |run: &&Planned| run.after.as_ref().and_then(|id| all.get(id.as_str()).copied());
        let (mut missing, mut seen) = (Vec::new(), HashSet::new());
        for run in &self.runs {
            let mut chain: Vec<&Planned> = std::iter::successors(Some(run), before).collect();
            chain.reverse();
            missing.extend(chain.into_iter().filter(|run| wanted(run) && seen.insert(&run.id)).cloned());
        }
        missing
    }

    /// Resolves every run; the errors are of all tasks whose data cannot be opened.
    pub fn expand(config: &Config, registry: &Registry, opened: &[OpenedTask]) -> Result<Self, Vec<Arc<DataError>>> {
        let errors: Vec<_> = opened.iter().filter_map(|(_, task)| task.as_ref().err().map(Arc::clone)).collect();
        if !errors.is_empty() {
            return Err(errors);
        }
        let mut hashes = Hashes::default();
        let (mut runs, mut needed) = (Vec::new(), Vec::new());
        for draft in &config.runs {
            runs.push(Planned::of(draft, registry, opened, &mut hashes)?);
        }
        let mut known: HashSet<String> = runs.iter().map(|run: &Planned| run.id.clone()).collect();
        for first in config.runs.iter().flat_map(|draft| draft.chain().skip(1)) {
            let planned = Planned::of(first, registry, opened, &mut hashes)?;
            if known.insert(planned.id.clone()) {
                needed.push(planned);
            }
        }
        runs.sort_by_key(|r| (r.spec.seed, r.draft.depth()));
        needed.sort_by_key(|r| (r.spec.seed, r.draft.depth()));
        let sentence = config.matched.as_ref().and_then(Matched::sentence);
        let matched = config.matched.as_ref().and_then(|matched| matched.chosen.clone());
        let question = [Some(config.question.clone()), sentence].into_iter().flatten().collect::<Vec<_>>().join(" ");
        let (name, figures, expect) = (config.name.clone(), config.figures.clone(), config.expect.clone());
        let (question, ablation) = (question.trim().into(), config.ablation.clone());
        Ok(Self { name, question, matched, ablation, runs, needed, expect, figures })
    }

    /// What is wrong with how runs start, of tasks that were opened.
    pub fn check_starts(
        config: &Config,
        registry: &Registry,
        opened: &[OpenedTask],
    ) -> Result<(), Vec<Arc<DataError>>> {
        let there = |draft: &Draft| opened.iter().any(|(choice, task)| *choice == draft.task && task.is_ok());
        let mut starting = config.runs.iter().filter(|draft| draft.start.is_some() && draft.chain().all(there));
        let mut hashes = Hashes::default();
        starting.try_for_each(|draft| Planned::of(draft, registry, opened, &mut hashes).map(drop))
    }

    /// The plan as it is kept beside the records; `command` made it.
    pub fn manifest(&self, command: &str) -> Manifest {
        let (name, question, figures) = (self.name.clone(), self.question.clone(), self.figures.clone());
        // An expectation of runs that a filter left out is none of this sweep.
        let has = |claim: &&Expectation| {
            self.runs.iter().any(|run| (&run.draft.mixer_label, &run.draft.task_label) == (&claim.mixer, &claim.task))
        };
        let expect = self.expect.iter().filter(has).cloned().collect();
        let runs = self.runs.iter().filter(|run| !run.draft.is_search()).map(Planned::row).collect();
        let search = self.runs.iter().filter_map(Planned::search_row).collect();
        let (matched, ablation) = (self.matched.clone(), self.ablation.clone());
        Manifest { name, question, command: command.into(), runs, search, expect, figures, matched, ablation }
    }
}

impl Planned {
    fn row(&self) -> PlannedRun {
        let tuned = match &self.draft.part {
            Part::Tuned(tuned) => Some(tuned.clone()),
            _ => None,
        };
        PlannedRun {
            id: self.id.clone(),
            mixer: self.draft.mixer_label.clone(),
            task: self.draft.task_label.clone(),
            seed: self.spec.seed,
            settings: self.draft.settings.clone(),
            published: self.draft.published.clone(),
            tuned,
        }
    }

    fn search_row(&self) -> Option<SearchRun> {
        let Part::Search { share, tried, .. } = &self.draft.part else { return None };
        Some(SearchRun {
            id: self.id.clone(),
            mixer: self.draft.mixer_label.clone(),
            task: self.draft.task_label.clone(),
            seed: self.spec.seed,
            settings: self.draft.settings.clone(),
            tried: tried.clone(),
            share: *share,
        })
    }
}

/// Hashes of files that runs name, each read once for a whole plan.
#[derive(Debug, Default)]
pub struct Hashes(HashMap<(&'static str, PathBuf), String>);

impl Hashes {
    fn of(
        &mut self,
        kind: &'static str,
        path: &Path,
        read: impl FnOnce(&Path) -> Result<String, DataError>,
    ) -> Result<String, Vec<Arc<DataError>>> {
        let key = (kind, path.to_path_buf());
        if let Some(known) = self.0.get(&key) {
            return Ok(known.clone());
        }
        let hash = read(path).map_err(|error| vec![Arc::new(error)])?;
        Ok(self.0.entry(key).or_insert(hash).clone())
    }
}

impl Planned {
    /// The run of a draft whose task was opened, and those of its chain: the only way from a config to a spec, whichever command
    /// asks. The error is that of a file that cannot be read, or of another tokenizer than that of the run it starts from.
    pub fn of(
        draft: &Draft,
        registry: &Registry,
        opened: &[OpenedTask],
        hashes: &mut Hashes,
    ) -> Result<Self, Vec<Arc<DataError>>> {
        let task = |draft: &Draft| -> Result<&Arc<dyn Task>, Vec<Arc<DataError>>> {
            let (_, task) = opened.iter().find(|(choice, _)| *choice == draft.task).expect("every task was opened");
            task.as_ref().map_err(|error| vec![error.clone()])
        };
        let own = task(draft)?;
        let start = match &draft.start {
            None => None,
            Some(Start::Weights(file)) => {
                let hash = hashes.of("weights", file, |file| {
                    let whole = crate::train::checkpoint::looks_whole(file);
                    whole.map_err(|error| DataError::Unreadable { path: file.into(), why: error.why().into() })?;
                    crate::train::weights::config_json::fingerprint(file)
                })?;
                described(file, draft, own.spec(), registry).map_err(|error| vec![Arc::new(error)])?;
                Some(spec::Start::Weights { hash, file: file.clone() })
            }
            Some(Start::Run(first)) => {
                let cut_by = |task: &Arc<dyn Task>| task.text().map(|text| text.tokenizer().fingerprint());
                if let (Some(own), Some(before)) = (cut_by(own), cut_by(task(first)?))
                    && own != before
                {
                    let problem = format!(
                        "its tokenizer is not that of `{}`, which it starts from: give both the same `tokenizer` and `corpus`",
                        first.task_label
                    );
                    let path = PathBuf::from(format!("task `{}`", draft.task_label));
                    return Err(vec![Arc::new(DataError::Malformed { path, row: 0, problem })]);
                }
                Some(spec::Start::Run(Self::of(first, registry, opened, hashes)?.id))
            }
        };
        let after = match &start {
            Some(spec::Start::Run(id)) => Some(id.clone()),
            _ => None,
        };
        let pairs = draft.analysis.as_ref().and_then(|analysis| analysis.minimal_pairs.as_ref());
        let minimal_pairs = pairs.map(|path| hashes.of("pairs", path.as_ref(), pairs_hash)).transpose()?;
        let spec =
            RunSpec { start, minimal_pairs, ..draft.on_its_own(registry, own.spec().version, own.fingerprint()) };
        Ok(Self { id: spec.id(), spec, draft: draft.clone(), after })
    }
}

/// Whether the config beside a file of weights, where there is one, is that of the draft's model.
fn described(
    file: &std::path::Path,
    draft: &Draft,
    task: tasks::TaskSpec,
    registry: &Registry,
) -> Result<(), DataError> {
    let malformed = |error: crate::train::weights::WeightsError| {
        let (text, help) = (error.to_string(), error.help().to_string());
        let (path, problem) = text.split_once(": ").unwrap_or(("", &text));
        DataError::Malformed { path: path.into(), row: 0, problem: format!("{problem}: {help}") }
    };
    match crate::train::weights::config_json::ConfigJson::read(file).map_err(malformed)? {
        None => Ok(()),
        Some(beside) => beside.held_against(&draft.model, &draft.mixer, &draft.seen(task), registry).map_err(malformed),
    }
}

impl Draft {
    /// Runs that come before this one.
    fn depth(&self) -> usize {
        self.chain().count() - 1
    }

    /// [`Draft::on_its_own`], for tests of what needs no file.
    #[cfg(test)]
    pub fn spec(&self, registry: &Registry, task_version: u32, data: Option<String>) -> RunSpec {
        assert!(self.start.is_none(), "its identity depends on its start: use Planned::of");
        self.on_its_own(registry, task_version, data)
    }

    /// A spec to time steps of: without data, start and hashes, it is nobody's identity.
    pub fn bare(&self, registry: &Registry) -> RunSpec {
        self.on_its_own(registry, 0, None)
    }

    /// The spec without the hashes of what else it reads: its start and its minimal pairs. Only [`Planned::of`] knows those.
    fn on_its_own(&self, registry: &Registry, task_version: u32, data: Option<String>) -> RunSpec {
        let mixer = registry.mixer(&self.mixer.name).expect("the config was checked");
        let task = registry.task(&self.task.name).expect("the config was checked");
        RunSpec {
            engine: ENGINE,
            libtorch: LIBTORCH.into(),
            task: self.task.clone(),
            task_version,
            data,
            sources: task.sources.iter().map(|pointer| (*pointer).to_owned()).collect(),
            mixer: self.mixer.clone(),
            mixer_version: mixer.version,
            sections: self.sections.clone(),
            minimal_pairs: None,
            start: None,
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
    /// Trainable scalars of the model that this one is held against, from the config.
    pub reference_parameters: Option<u64>,
    /// Bytes of decoding state of one mixer at the task's longest sequence; 0 without a recurrent form.
    pub state_bytes: i64,
    /// Floating-point operations of one run, at the longest sequence: three forward passes a step, pretraining's too, and one for
    /// every example that validation and test are evaluated on, as far as their number is known.
    pub flops: f64,
    /// Those of pretraining.
    pub pretraining_flops: f64,
    /// Those of one optimizer step of the task itself.
    pub step_flops: f64,
    /// Seconds of one run on this machine, if it goes through its whole budget.
    pub seconds: Option<f64>,
    /// Seconds of one run that stops at the first step at which `stop_at` or `patience` let it.
    pub seconds_least: Option<f64>,
    /// Where the seconds come from: `measured`, `timed`, `reckoned`, or `at matrix-product speed`, which is a lower bound; see
    /// [`crate::sweep::forecast`].
    pub seconds_from: &'static str,
    /// Seconds of one run on a GPU of the speed assumed.
    pub gpu_seconds: Option<f64>,
    /// Bytes of parameters, gradients and optimizer state.
    pub optimizer_bytes: Option<u64>,
    /// Whether FLOPs and seconds are also those of evaluating validation and test: without the data it may not be known how many
    /// examples there are.
    pub with_evaluation: bool,
}

/// Operations a second, to make times of FLOPs.
#[derive(Clone, Copy, Debug)]
pub struct Speeds {
    /// This machine's, at matrix products.
    pub here: f64,
    /// A GPU's, as assumed.
    pub gpu: f64,
}

/// Costs of a sweep's runs, with times at matrix-product speed: [`crate::sweep::forecast`] knows better ones.
pub fn estimates(config: &Config, registry: &Registry, counter: &mut Counter, speeds: Speeds) -> Vec<Estimate> {
    let mut estimates: Vec<Estimate> = Vec::new();
    let mut known: HashMap<_, usize> = HashMap::new();
    for draft in &config.runs {
        match known.get(&(&draft.mixer_label, &draft.task_label, &draft.settings)) {
            Some(&at) => estimates[at].seeds += 1,
            None => {
                known.insert((&draft.mixer_label, &draft.task_label, &draft.settings), estimates.len());
                estimates.push(estimate(draft, registry, counter, speeds));
            }
        }
    }
    estimates
}

fn estimate(draft: &Draft, registry: &Registry, counter: &mut Counter, speeds: Speeds) -> Estimate {
    let entry = registry.task(&draft.task.name).expect("the config was checked");
    let outline = entry.outline(&draft.task.settings);
    let spec = counter.spec(draft);
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
        step_flops: 0.0,
        seconds: None,
        seconds_least: None,
        seconds_from: "unknown",
        gpu_seconds: None,
        optimizer_bytes: None,
        with_evaluation: false,
    };
    let (Some(sizes), Some(forward)) = (counter.sizes(draft), counter.forward_flops(draft)) else { return estimate };
    let length = spec.max_length;
    let passes = |steps: u64, forward: f64| 3.0 * forward * steps as f64 * draft.budget.batch_size as f64;
    estimate.parameters = Some(sizes.parameters);
    estimate.mixer_parameters = Some(sizes.mixer_parameters);
    estimate.optimizer_bytes = Some(16 * sizes.parameters);
    estimate.state_bytes = sizes.mixer.state_bytes;
    if let Some(first) = &draft.pretrain {
        let forward = first.forward_flops(&draft.model, length, sizes.mixer.flops, &outline, spec.vocab_size);
        estimate.pretraining_flops = passes(first.steps, forward);
    }
    let evaluated = evaluated(draft, counter);
    estimate.with_evaluation = evaluated.is_some();
    estimate.flops =
        estimate.pretraining_flops + passes(draft.budget.steps, forward) + forward * evaluated.unwrap_or(0.0);
    estimate.gpu_seconds = Some(estimate.flops / speeds.gpu);
    estimate.step_flops = passes(1, forward);
    (estimate.seconds, estimate.seconds_from) = (Some(estimate.flops / speeds.here), "at matrix-product speed");
    estimate
}

/// Examples that validation and test are evaluated on in one run. Where the task is not open, its settings say how many it draws;
/// `None` where they do not.
fn evaluated(draft: &Draft, counter: &Counter) -> Option<f64> {
    let (validation, test) = match counter.task(draft) {
        Some(task) => (task.len(tasks::Split::Validation) as f64, task.len(tasks::Split::Test) as f64),
        None => {
            let settings = &draft.task.settings;
            let count = |key: &str| settings[key].as_u64().map(|count| count as f64);
            let lengths = settings["test_lengths"].as_array().map_or(1, |lengths| lengths.len().max(1));
            (count("validation_examples")?, count("test_examples")? * lengths as f64)
        }
    };
    let evaluations = draft.budget.steps.div_ceil(draft.budget.eval_every) as f64;
    Some(evaluations * validation + test)
}

/// What decides how long a step takes, as text: the task wherever its files lie, the mixer, the model and the batch.
pub fn shape_of(
    task: &Choice,
    mixer: &Choice,
    model: &ModelConfig,
    budget: &BudgetConfig,
    registry: &Registry,
) -> String {
    let sources = registry.task(&task.name).map_or(&[][..], |entry| entry.sources);
    let settings = tasks::without(task.settings.clone(), sources);
    let shape = (&task.name, settings, mixer, model, budget.batch_size, budget.micro_batch);
    spec::canonical(&serde_json::to_value(shape).expect("settings are plain data"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::opened::open_tasks;
    use std::fs;
    use tasks::DataDir;

    /// Identities of the runs of a config.
    fn ids(text: &str, data: &Path) -> Vec<String> {
        let registry = Registry::default();
        let config = Config::parse(text, "x.yaml", "x", &[], &registry).unwrap_or_else(|e| panic!("{}", e.render()));
        let opened = open_tasks(&config, &registry, &DataDir(data.into()), |_| true);
        let plan = Plan::expand(&config, &registry, &opened).unwrap_or_else(|errors| panic!("{errors:?}"));
        plan.runs.into_iter().map(|run| run.id).collect()
    }

    #[test]
    fn a_run_is_named_by_what_its_files_hold_and_not_by_where_they_lie() {
        let folder = tempfile::tempdir().unwrap();
        let stories = |last: &str| (0..200).map(|n| format!("story {n} of a cat.\n\n")).collect::<String>() + last;
        let pair = |bad: &str| format!("{{\"sentence_good\": \"a cat.\", \"sentence_bad\": \"{bad}\"}}\n");
        let vocabulary = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nof\ncat\nstory\n.\n";
        let place = |name: &str| folder.path().join(name);
        fs::create_dir_all(place("deep/er")).unwrap();
        for (name, content) in [
            ("one.txt", stories("")),
            ("deep/er/two.dat", stories("")),
            ("other.txt", stories("Another one.")),
            ("pairs.jsonl", pair("cat a.")),
            ("deep/moved.jsonl", pair("cat a.")),
            ("others.jsonl", pair("a cats.")),
            ("vocab.txt", vocabulary.into()),
            ("deep/v.txt", vocabulary.into()),
            ("longer.txt", vocabulary.to_owned() + "cats\n"),
        ] {
            fs::write(place(name), content).unwrap();
        }
        let config = |corpus: &str, pairs: &str, vocabulary: &str, more: &str| {
            let (corpus, pairs, vocabulary) = (place(corpus), place(pairs), place(vocabulary));
            let [corpus, pairs, vocabulary] = [corpus, pairs, vocabulary].map(|path| path.display().to_string());
            format!(
                "tasks: [{{ mlm: {{ corpus: {{ path: {corpus}, held_out: 0.2{more} }}, tokenizer: {{ file: {{ path: {vocabulary} }} }}, seq_len: 16 }} }}]\n\
                 mixers: [attention: {{ n_heads: 2 }}]\nmodel: {{ d_model: 8, n_layers: 1 }}\n\
                 analysis: {{ minimal_pairs: {pairs} }}\n"
            )
        };
        let data = |name: &str| place(&format!("data-{name}"));
        let id = |text: &str, name: &str| ids(text, &data(name))[0].clone();
        let first = id(&config("one.txt", "pairs.jsonl", "vocab.txt", ""), "a");
        let moved = id(&config("deep/er/two.dat", "deep/moved.jsonl", "deep/v.txt", ""), "b");
        assert_eq!(first, moved, "the same content elsewhere");
        // How files are read counts by what comes of it.
        assert_eq!(
            first,
            id(&config("one.txt", "pairs.jsonl", "vocab.txt", ", invalid_utf8: replace, format: text"), "c")
        );
        for (changed, name) in [
            (config("other.txt", "pairs.jsonl", "vocab.txt", ""), "d"),
            (config("one.txt", "others.jsonl", "vocab.txt", ""), "e"),
            (config("one.txt", "pairs.jsonl", "longer.txt", ""), "f"),
            (config("one.txt", "pairs.jsonl", "vocab.txt", "").replace("held_out: 0.2", "held_out: 0.3"), "g"),
        ] {
            assert_ne!(first, id(&changed, name), "{changed}");
        }
    }

    #[test]
    fn evaluations_are_counted_whether_or_not_a_task_is_open() {
        let registry = Registry::default();
        let estimate = |text: &str, open: bool| {
            let text = format!(
                "tasks: [{text}]\nmixers: [attention: {{ n_heads: 2 }}]\nmodel: {{ d_model: 8, n_layers: 1 }}\n"
            );
            let config = Config::parse(&text, "x.yaml", "x", &[], &registry).unwrap();
            let opened = open_tasks(&config, &registry, &DataDir("none".into()), |_| open);
            let mut counter = Counter::new(&registry, &opened);
            let speeds = Speeds { here: 1e9, gpu: 1e12 };
            estimates(&config, &registry, &mut counter, speeds).remove(0)
        };
        let listops = "listops: { min_length: 5, max_length: 30, max_depth: 3, train_examples: 40, validation_examples: 900, test_examples: 800 }";
        let induction =
            "induction_heads: { seq_len: 16, test_lengths: [16, 24], validation_examples: 900, test_examples: 800 }";
        for task in [listops, induction] {
            let (open, closed) = (estimate(task, true), estimate(task, false));
            assert!(open.with_evaluation && closed.with_evaluation);
            assert!((open.flops / closed.flops - 1.0).abs() < 1e-9, "{task}: {} {}", open.flops, closed.flops);
        }
        assert!(!estimate("glue: { tokenizer: bytes }", false).with_evaluation, "its files are not here");
    }

    #[test]
    fn a_path_counts_where_no_hash_stands_for_what_it_leads_to() {
        let registry = Registry::default();
        let text = "tasks: [mqar: { causal: false }]\nmixers: [attention]\n";
        let config = Config::parse(text, "x.yaml", "x", &[], &registry).unwrap();
        let spec = config.runs[0].spec(&registry, 1, None);
        let id = |path: &str, data: Option<&str>, sources: &[&str]| {
            let mut spec = spec.clone();
            spec.task.settings["path"] = path.into();
            spec.data = data.map(str::to_owned);
            spec.sources = sources.iter().map(|pointer| (*pointer).to_owned()).collect();
            spec.id()
        };
        assert_ne!(id("a", None, &["/path"]), id("b", None, &["/path"]));
        assert_ne!(id("a", Some("hash"), &[]), id("b", Some("hash"), &[]));
        assert_eq!(id("a", Some("hash"), &["/path"]), id("b", Some("hash"), &["/path"]));
        assert_ne!(id("a", Some("hash"), &["/path"]), id("a", Some("other"), &["/path"]));
    }
}
