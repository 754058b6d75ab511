//! How long the runs of a sweep will take on this machine.
//!
//! ```text
//! measured   wall time of finished runs of the same spec but for the seed, on this machine
//! timed      start + FLOPs · (seconds of a step / FLOPs of a step), a step as timed now, or in finished runs of the same shapes
//! reckoned   FLOPs at the share of the peak that timed runs of the same mixer reach, or else all timed runs
//! bound      FLOPs at the peak: no run is faster, most are much slower
//! ```

use crate::base::choices::DeviceKind;
use crate::base::limits;
use crate::config::{Config, Draft};
use crate::model::ModelConfig;
use crate::registry::Registry;
use crate::sweep::gauge::{Gauge, Job, Said};
use crate::sweep::plan::{Estimate, shape_of};
use crate::sweep::sizes::Counter;
use crate::train::budget::BudgetConfig;
use crate::train::sections::Sections;
use crate::train::spec::RunSpec;
use results::{Outcome, Record};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Seconds of steps of one kind, at most and at least.
const SLICE: [f64; 2] = [0.2, 2.0];
/// Seconds that opening a task and building a model may take besides.
const START: f64 = 4.0;
/// Share of the peak that a step is expected to reach, to choose how much of a batch can be timed.
const EXPECTED: f64 = 0.1;
/// Seconds that a process takes before it opens its task.
const PROCESS: f64 = 0.5;

/// What a forecast is made from.
#[derive(Debug)]
pub struct Terms<'a> {
    /// The build's mixers and tasks.
    pub registry: &'a Registry,
    /// Runs that are done.
    pub records: &'a [Record],
    /// The data folder.
    pub data: &'a Path,
    /// Runs at a time.
    pub jobs: usize,
    /// Threads of each.
    pub threads: usize,
    /// Speed of matrix products with so many threads, operations a second.
    pub peak: f64,
    /// Seconds in which steps may be timed.
    pub seconds: f64,
}

/// Time of a whole sweep, seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Forecast {
    /// With so many runs at a time.
    pub seconds: f64,
    /// The same where every run that may stop early does so at its first chance.
    pub least: f64,
    /// One run after the other.
    pub alone: f64,
}

/// A kind of run to be timed.
struct Kind<'a> {
    draft: &'a Draft,
    /// Whether its task is open: then its own batches are taken.
    open: bool,
    /// FLOPs of a step.
    flops: f64,
}

/// Fills in the times of `estimates`, which are those of `config`, and adds them up.
pub fn forecast(config: &Config, estimates: &mut [Estimate], counter: &Counter, terms: &Terms) -> Forecast {
    let drafts = first_drafts(config);
    let shapes: Vec<String> = drafts.iter().map(|draft| shape(draft, terms.registry)).collect();
    let done = done(terms);
    let known: HashMap<&str, f64> =
        done.iter().filter_map(|(shape, runs)| Some((&**shape, known_step(runs)?))).collect();
    let of_shape = |shape: &String| done.get(shape).map_or(&[][..], Vec::as_slice);
    let twins: Vec<Option<f64>> = drafts
        .iter()
        .zip(&shapes)
        .map(|(draft, shape)| wall_seconds(draft, &data(draft, counter), of_shape(shape)))
        .collect();
    let mut kinds: HashMap<&str, Kind> = HashMap::new();
    for (((draft, shape), estimate), twin) in drafts.iter().zip(&shapes).zip(estimates.iter()).zip(&twins) {
        if twin.is_none() && !known.contains_key(shape.as_str()) && estimate.step_flops > 0.0 {
            let open = counter.task(draft).is_some();
            kinds.entry(shape).or_insert(Kind { draft, open, flops: estimate.step_flops });
        }
    }
    let timed = time(&kinds, terms);
    // Until the first step, as far as that was timed.
    let mut before = vec![0.0; drafts.len()];
    for (((estimate, shape), twin), before) in estimates.iter_mut().zip(&shapes).zip(&twins).zip(&mut before) {
        let step = known.get(shape.as_str()).map(|step| (*step, 0.0)).or_else(|| timed.get(shape.as_str()).copied());
        match (twin, step) {
            (Some(seconds), _) => (estimate.seconds, estimate.seconds_from) = (Some(*seconds), "measured"),
            (None, Some((step, start))) if estimate.step_flops > 0.0 => {
                *before = PROCESS + start;
                let seconds = *before + estimate.flops * step / estimate.step_flops;
                (estimate.seconds, estimate.seconds_from) = (Some(seconds), "timed");
            }
            _ => {}
        }
    }
    reckon(estimates, &drafts, terms.peak);
    for ((estimate, draft), before) in estimates.iter_mut().zip(&drafts).zip(before) {
        estimate.seconds_least = estimate.seconds.map(|seconds| match estimate.seconds_from {
            // Where runs of the same spec stopped is in their time.
            "measured" => seconds,
            _ => least(seconds, before, estimate, first_chance(draft) as f64 / draft.budget.steps.max(1) as f64),
        });
    }
    let total = |of: &dyn Fn(&Estimate) -> f64, jobs| {
        let longest = estimates.iter().map(|e| e.seeds).max().unwrap_or(0);
        let runs = (0..longest).flat_map(|seed| estimates.iter().filter(move |e| e.seeds > seed));
        makespan(runs.map(of), jobs)
    };
    let (whole, least) = (|e: &Estimate| e.seconds.unwrap_or(0.0), |e: &Estimate| e.seconds_least.unwrap_or(0.0));
    Forecast { seconds: total(&whole, terms.jobs), least: total(&least, terms.jobs), alone: total(&whole, 1) }
}

/// Seconds of a run of `seconds` that makes only a `share` of its steps: what comes `before` the first one and pretraining are done in
/// any case.
fn least(seconds: f64, before: f64, estimate: &Estimate, share: f64) -> f64 {
    let pretraining = (seconds - before) * estimate.pretraining_flops / estimate.flops.max(f64::MIN_POSITIVE);
    let whole = before + pretraining;
    whole + (seconds - whole) * share
}

/// What the data of a draft's runs hold, as their specs say it; `None` where it is not known because the task is not open.
fn data(draft: &Draft, counter: &Counter) -> Option<Option<String>> {
    match counter.task(draft) {
        Some(task) => Some(task.fingerprint()),
        None if counter.needs_files(draft) => None,
        None => Some(None),
    }
}

fn shape(draft: &Draft, registry: &Registry) -> String {
    shape_of(&draft.task, &draft.mixer, &draft.model, &draft.budget, registry)
}

/// The first run of every kind, in the order in which [`crate::sweep::plan::estimates`] lists the kinds.
fn first_drafts(config: &Config) -> Vec<&Draft> {
    let mut known = std::collections::HashSet::new();
    config.runs.iter().filter(|draft| known.insert((&draft.mixer_label, &draft.task_label, &draft.settings))).collect()
}

/// A finished run on this machine.
type Done<'a> = (RunSpec, &'a Record);

/// Those that computed with as many threads as the forecast is for, by shape.
fn done<'a>(terms: &Terms<'a>) -> HashMap<String, Vec<Done<'a>>> {
    let host = limits::host_name();
    let here = |record: &&Record| {
        let device = &record.device;
        record.outcome == Outcome::Finished
            && device.kind == "cpu"
            && device.host == host
            && device.threads == terms.threads as i64
    };
    let mut done: HashMap<String, Vec<Done>> = HashMap::new();
    for record in terms.records.iter().filter(here) {
        let Ok(spec) = serde_json::from_value::<RunSpec>(record.spec.clone()) else { continue };
        let shape = shape_of(&spec.task, &spec.mixer, &spec.model, &spec.budget, terms.registry);
        done.entry(shape).or_default().push((spec, record));
    }
    done
}

/// Mean wall time of the runs that take as long as `draft`: they differ by the seed, and where no score ends them early, by
/// optimizer and schedule.
fn wall_seconds(draft: &Draft, data: &Option<Option<String>>, done: &[Done]) -> Option<f64> {
    let wanted = of_time(draft);
    let alike = |(spec, _): &&Done| data.as_ref() == Some(&spec.data) && of_time(spec) == wanted;
    let seconds: Vec<f64> = done.iter().filter(alike).map(|(_, record)| record.wall_seconds).collect();
    (!seconds.is_empty()).then(|| seconds.iter().sum::<f64>() / seconds.len() as f64)
}

/// The sections as far as the time of a run hangs on them, besides its shape.
fn of_time(sections: &Sections) -> Sections {
    let fresh = BudgetConfig::default();
    let budget = BudgetConfig {
        batch_size: fresh.batch_size,
        micro_batch: fresh.micro_batch,
        checkpoint_every: fresh.checkpoint_every,
        timeout_minutes: fresh.timeout_minutes,
        ..sections.budget.clone()
    };
    let mut of_time = Sections { model: ModelConfig::default(), budget, ..sections.clone() };
    // No score ends it early.
    if sections.budget.stop_at.is_none() && sections.budget.patience.is_none() {
        (of_time.optimizer, of_time.schedule) = Default::default();
    }
    of_time
}

/// Seconds of a step in runs of one shape: the median.
fn known_step(done: &[Done]) -> Option<f64> {
    let speeds = done.iter().map(|(_, record)| record.steps_per_second).filter(|speed| *speed > 0.0);
    let mut seconds: Vec<f64> = speeds.map(f64::recip).collect();
    seconds.sort_by(f64::total_cmp);
    seconds.get(seconds.len() / 2).copied()
}

/// Times steps of each kind, `jobs` at a time as they will run, until the time is over: seconds of a step, and until the first.
fn time<'a>(kinds: &HashMap<&'a str, Kind>, terms: &Terms) -> HashMap<&'a str, (f64, f64)> {
    let mut queue: Vec<(&&str, &Kind)> = kinds.iter().collect();
    // The cheap ones first: more kinds are timed before the time is over.
    queue.sort_by(|a, b| a.1.flops.total_cmp(&b.1.flops).then(a.0.cmp(b.0)));
    let deadline = Instant::now() + Duration::from_secs_f64(terms.seconds);
    let left = || deadline.saturating_duration_since(Instant::now()).as_secs_f64();
    let next = AtomicUsize::new(0);
    let found = Mutex::new(HashMap::new());
    let work = || {
        let mut gauge: Option<Gauge> = None;
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some((shape, kind)) = queue.get(at).filter(|_| left() > 0.0) else { return };
            let slice = (left() * terms.jobs as f64 / (queue.len() - at) as f64).clamp(SLICE[0], SLICE[1]);
            let Some((job, scale)) = job(kind, slice, terms) else { continue };
            if gauge.is_none() {
                gauge = Gauge::start(DeviceKind::Cpu, terms.threads).ok();
            }
            let Some(open) = &mut gauge else { return };
            let limit = Duration::from_secs_f64((slice + START).min(left().max(SLICE[0])));
            match open.ask(&job, limit) {
                Ok(Said::Steps { step, start }) => {
                    let mut found = found.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    found.insert(**shape, (step * scale, start));
                }
                Ok(_) => {}
                // It may be busy for minutes: the next kind gets a new one.
                Err(_) => gauge = None,
            }
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..terms.jobs.min(queue.len()) {
            scope.spawn(work);
        }
    });
    found.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// What is asked of a child, on as much of a batch as fits the time, and by what its seconds are then multiplied; `None` where not even
/// one sequence would.
fn job(kind: &Kind, slice: f64, terms: &Terms) -> Option<(Job, f64)> {
    let budget = &kind.draft.budget;
    let sequence = kind.flops / budget.batch_size as f64 / (terms.peak * EXPECTED);
    // Two steps at least: the first is not counted.
    let fits = (slice / (2.0 * sequence)).floor().min(budget.batch_size as f64);
    if fits < 1.0 && 2.0 * sequence > START {
        return None;
    }
    let rows = (fits as u64).max(1);
    let mut spec = kind.draft.bare(terms.registry);
    spec.budget.batch_size = rows;
    spec.budget.micro_batch = budget.micro_batch.filter(|_| rows == budget.batch_size);
    (spec.pretrain, spec.analysis) = (None, None);
    let data = kind.open.then(|| terms.data.to_path_buf());
    Some((Job::Steps { spec: Box::new(spec), data, seconds: slice }, budget.batch_size as f64 / rows as f64))
}

/// Times of kinds that were not timed, from the speeds of those that were.
fn reckon(estimates: &mut [Estimate], drafts: &[&Draft], peak: f64) {
    let median = |mut shares: Vec<f64>| {
        shares.sort_by(f64::total_cmp);
        shares.get(shares.len() / 2).copied()
    };
    let shares: Vec<(&str, f64)> = estimates
        .iter()
        .zip(drafts)
        .filter(|(e, _)| e.seconds_from == "timed")
        .filter_map(|(e, draft)| Some((draft.mixer.name.as_str(), e.flops / e.seconds? / peak)))
        .collect();
    let of = |name: Option<&str>| {
        median(shares.iter().filter(|(own, _)| name.is_none_or(|name| name == *own)).map(|(_, share)| *share).collect())
    };
    let shares: Vec<Option<f64>> =
        drafts.iter().map(|draft| of(Some(&draft.mixer.name)).or_else(|| of(None))).collect();
    for (estimate, share) in estimates.iter_mut().zip(shares) {
        if estimate.flops == 0.0 || estimate.seconds_from == "timed" || estimate.seconds_from == "measured" {
            continue;
        }
        let speed = share.filter(|share| *share > 0.0).map(|share| share.min(1.0) * peak);
        estimate.seconds = Some(estimate.flops / speed.unwrap_or(peak));
        estimate.seconds_from = if speed.is_some() { "reckoned" } else { "at matrix-product speed" };
    }
}

/// The first step at which a run may end: at its first evaluation where a score ends it, after some without a better one where patience
/// does.
fn first_chance(draft: &Draft) -> u64 {
    let budget = &draft.budget;
    let evaluations = |n: u64| budget.eval_every.saturating_mul(n).min(budget.steps);
    let by_score = budget.stop_at.map_or(budget.steps, |_| evaluations(1));
    let by_patience = budget.patience.map_or(budget.steps, |most| evaluations(most.saturating_add(1)));
    by_score.min(by_patience)
}

/// Seconds until the last of some runs ends, each taken in turn by whoever of `jobs` is free first.
fn makespan(runs: impl Iterator<Item = f64>, jobs: usize) -> f64 {
    let mut free = vec![0.0_f64; jobs.max(1)];
    for seconds in runs {
        let first = free.iter_mut().min_by(|a, b| a.total_cmp(b)).expect("there is one job at least");
        *first += seconds;
    }
    free.into_iter().fold(0.0, f64::max)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::plan::{Speeds, estimates};

    const TEXT: &str = "\
tasks: [mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false }]
model: { d_model: 16, n_layers: 1 }
budget: { steps: 400, eval_every: 100 }
mixers: [attention: { n_heads: 2 }, combiner: { n_heads: 2 }]
seeds: 3
";

    fn parsed(text: &str) -> Config {
        Config::parse(text, "x.yaml", "x", &[], &Registry::default()).unwrap()
    }

    fn made(config: &Config, records: &[Record], jobs: usize) -> (Vec<Estimate>, Forecast) {
        let registry = Registry::default();
        let mut counter = Counter::new(&registry, &[]);
        let speeds = Speeds { here: 1e9, gpu: 1e12 };
        let mut all = estimates(config, &registry, &mut counter, speeds);
        let data = Path::new("none");
        let terms = Terms { registry: &registry, records, data, jobs, threads: 1, peak: 1e9, seconds: 0.0 };
        let forecast = forecast(config, &mut all, &counter, &terms);
        (all, forecast)
    }

    /// A finished run of `draft` on this machine.
    fn record(draft: &Draft, wall: f64, steps_per_second: f64) -> Record {
        let registry = Registry::default();
        let place = crate::sweep::run::Place {
            store: "runs".into(),
            data: tasks::DataDir("none".into()),
            device: DeviceKind::Cpu,
            threads: 1,
            memory: None,
            keep: results::Keep::Best,
        };
        let record = crate::sweep::run::blank(&draft.spec(&registry, 1, None), &place, tch::Device::Cpu);
        Record { outcome: Outcome::Finished, wall_seconds: wall, steps_per_second, ..record }
    }

    #[test]
    fn runs_share_the_jobs_and_the_longest_decides() {
        assert_eq!(makespan([3.0, 1.0, 1.0, 1.0].into_iter(), 2), 3.0);
        assert_eq!(makespan([3.0, 1.0, 1.0, 1.0].into_iter(), 1), 6.0);
        assert_eq!(makespan([1.0, 1.0, 4.0].into_iter(), 2), 5.0);
        assert_eq!(makespan(std::iter::empty(), 3), 0.0);
    }

    #[test]
    fn a_run_may_stop_at_its_first_evaluation_or_when_patience_ends() {
        let chance = |budget: &str| {
            let text = TEXT.replace("eval_every: 100", &format!("eval_every: 100{budget}"));
            first_chance(&parsed(&text).runs[0])
        };
        assert_eq!(chance(""), 400);
        assert_eq!(chance(", stop_at: 0.9"), 100);
        assert_eq!(chance(", patience: 1"), 200);
        assert_eq!(chance(", patience: 1, stop_at: 0.9"), 100);
        assert_eq!(chance(", patience: 9"), 400);
    }

    #[test]
    fn what_comes_before_the_first_step_is_done_however_early_a_run_stops() {
        let text = TEXT.replace("eval_every: 100", "eval_every: 100, stop_at: 0.9");
        let (plain, _) = made(&parsed(&text), &[], 1);
        let share = |e: &Estimate| e.seconds_least.unwrap() / e.seconds.unwrap();
        assert!((share(&plain[0]) - 0.25).abs() < 1e-9, "a quarter of its steps: {}", share(&plain[0]));
        let (both, _) = made(&parsed(&(text.clone() + "pretrain: { objective: mlm, steps: 4000 }\n")), &[], 1);
        let first = &both[0];
        let of_pretraining = first.pretraining_flops / first.flops;
        assert!(of_pretraining > 0.8, "{of_pretraining}");
        assert!((share(first) - (of_pretraining + 0.25 * (1.0 - of_pretraining))).abs() < 1e-9, "{}", share(first));
        // What it took to start was timed, and is there in any case too.
        assert_eq!(least(10.0, 4.0, &plain[0], 0.5), 7.0);
    }

    #[test]
    fn runs_on_other_data_say_nothing_of_how_long_these_take_in_all() {
        let config = parsed(TEXT);
        let from = |data: Option<&str>| {
            let mut done = record(&config.runs[1], 4.0, 10.0);
            done.spec["data"] = data.into();
            made(&config, &[done], 1).0[0].seconds_from
        };
        assert_eq!((from(None), from(Some("a hash"))), ("measured", "timed"));
    }

    #[test]
    fn a_time_says_what_it_is_from_and_the_best_of_them_is_taken() {
        let config = parsed(TEXT);
        let from = |all: &[Estimate]| all.iter().map(|e| e.seconds_from).collect::<Vec<_>>();
        let (bound, whole) = made(&config, &[], 1);
        assert_eq!(from(&bound), ["at matrix-product speed"; 2]);
        assert_eq!(bound[0].seconds, Some(bound[0].flops / 1e9));
        assert!((whole.seconds - 3.0 * (bound[0].seconds.unwrap() + bound[1].seconds.unwrap())).abs() < 1e-9);
        // Another learning rate, as many steps again: the same shapes.
        let alike = parsed(&TEXT.replace("steps: 400", "steps: 20").replace("seeds", "optimizer: { lr: 0.5 }\nseeds"));
        let done = [record(&alike.runs[0], 2.0, 10.0)];
        let (timed, _) = made(&config, &done, 1);
        assert_eq!(from(&timed), ["timed", "reckoned"]);
        let expected = PROCESS + 0.1 * timed[0].flops / timed[0].step_flops;
        assert!((timed[0].seconds.unwrap() - expected).abs() < 1e-9, "a step takes 0.1 s: {:?}", timed[0]);
        let slowness = |e: &Estimate| e.seconds.unwrap() / e.flops;
        assert!((slowness(&timed[1]) / slowness(&timed[0]) - 1.0).abs() < 1e-9, "as slow as what was timed");
        // The same run of another seed is the best witness; its early end is in its time.
        let twins = [record(&config.runs[1], 4.0, 10.0), record(&config.runs[2], 6.0, 10.0)];
        let (measured, whole) = made(&config, &twins, 3);
        assert_eq!((measured[0].seconds, from(&measured)[0]), (Some(5.0), "measured"));
        assert_eq!(measured[0].seconds_least, Some(5.0));
        assert!(whole.seconds < whole.alone);
        // On another machine it says nothing about this one.
        let mut elsewhere = twins.clone();
        elsewhere.iter_mut().for_each(|record| record.device.host = "another".into());
        assert_eq!(from(&made(&config, &elsewhere, 1).0), ["at matrix-product speed"; 2]);
    }

    #[test]
    fn only_as_much_of_a_batch_is_timed_as_the_time_allows() {
        let config = parsed(TEXT);
        let registry = Registry::default();
        let terms = |peak: f64| Terms {
            registry: &registry,
            records: &[],
            data: Path::new("none"),
            jobs: 1,
            threads: 1,
            peak,
            seconds: 1.0,
        };
        let kind = Kind { draft: &config.runs[0], open: false, flops: 32e6 };
        let rows = |peak: f64| match job(&kind, 1.0, &terms(peak))? {
            (Job::Steps { spec, .. }, scale) => Some((spec.budget.batch_size, scale)),
            _ => None,
        };
        assert_eq!(rows(1e12), Some((32, 1.0)));
        // 8e6 operations a second at the expected share: 0.125 s a sequence, four of them twice in a second.
        assert_eq!(rows(8e7), Some((4, 8.0)));
        assert_eq!(rows(1e5), None, "100 s a sequence");
    }
}
