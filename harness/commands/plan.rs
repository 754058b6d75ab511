//! `mixarena plan`: what a sweep would cost, before it does.

use super::printed::Printed;
use super::sweep::share_cores;
use super::{data_errors, fail, load, mistakes, sizes_chosen};
use crate::base::choices::DeviceKind;
use crate::base::exit::Exit;
use crate::base::limits;
use crate::base::text::{duration, grouped};
use crate::cli::{Cli, PlanArgs};
use crate::config::{Config, Matched};
use crate::registry::Registry;
use crate::sweep::forecast::{Forecast, Terms, forecast};
use crate::sweep::gauge::measured;
use crate::sweep::machine::Machine;
use crate::sweep::matching;
use crate::sweep::opened::open_tasks;
use crate::sweep::plan::{Estimate, Plan, Speeds, estimates};
use crate::sweep::search::expected;
use crate::sweep::sizes::Counter;
use mixers::Precision;
use results::Store;
use serde_json::json;
use std::collections::BTreeSet;
use tasks::{DataDir, DataError, Outline, Output};

/// A GPU's speed where the user gives none, operations a second: 30 % of the 19.5 TFLOP/s that NVIDIA states for an A100
/// in float32. An assumption: nothing here was measured on a GPU.
const GPU: f64 = 0.3 * 19.5e12;

/// Runs the command.
pub fn plan(args: &PlanArgs, cli: &Cli, registry: &Registry) -> Exit {
    let mut config = match load(&args.config, &args.changes, cli.quiet, registry) {
        Ok(config) => config.with_starts(),
        Err(exit) => return exit,
    };
    // Hundreds of thousands of images are not drawn to be counted: without files, the outline knows a task's sizes. The
    // share of scored positions is read off an example, and the identity of a run off its opened task. Sizes that are chosen must be
    // those that `sweep` chooses, which opens every task.
    let whole = args.print_config || config.matched.as_ref().is_some_and(Matched::chooses);
    let wanted = |outline: &Outline| whole || outline.needs_files || outline.output == Output::PerPosition;
    let opened = open_tasks(&config, registry, &DataDir(args.folders.data.clone()), wanted);
    let mut counter = Counter::new(registry, &opened);
    if let Err(found) = matching::hold(&mut config, &mut counter) {
        return mistakes(&args.config, &found);
    }
    let config = with_search(config);
    if args.print_config {
        return match Plan::expand(&config, registry, &opened) {
            Ok(plan) => {
                let printed = Printed { config: &config, source: &args.config.display().to_string() };
                plan.runs.iter().for_each(|run| print!("{}", printed.document(run)));
                Exit::Ok
            }
            Err(errors) => data_errors(&errors),
        };
    }
    let mut absent = Vec::new();
    for (choice, task) in &opened {
        match task {
            Ok(_) => {}
            Err(error) if matches!(**error, DataError::Missing { .. }) => {
                absent.push(format!("{}: {error}", choice.name))
            }
            Err(error) => return data_errors(std::slice::from_ref(error)),
        }
    }
    if let Err(errors) = Plan::check_starts(&config, registry, &opened) {
        return data_errors(&errors);
    }
    // Any folder can be named: a store is one that has records.
    let is_store = args.folders.store.join("records").is_dir();
    let records = match is_store {
        true => Store::open(&args.folders.store).and_then(|s| s.records()).unwrap_or_default(),
        false => Vec::new(),
    };
    let (jobs, threads) = share_cores(limits::cores(), args.jobs, None);
    let jobs = jobs.min(config.runs.len().max(1));
    let machine = Machine::new(DeviceKind::Cpu, threads);
    let Some(here) = measured(&machine, Precision::F32) else {
        fail("the speed of this machine could not be measured", "`mixarena doctor` says what is missing");
        return Exit::Environment;
    };
    let speeds = Speeds { here, gpu: args.gpu_tflops.map_or(GPU, |t| t * 1e12) };
    let mut all = estimates(&config, registry, &mut counter, speeds);
    let terms = Terms {
        registry,
        records: &records,
        data: &args.folders.data,
        jobs,
        threads,
        peak: here,
        seconds: args.measure,
    };
    let whole = forecast(&config, &mut all, &counter, &terms);
    if args.json {
        let out = json!({
            "name": config.name, "runs": config.runs.len(), "jobs": jobs, "threads": threads, "flops_per_second": here,
            "gpu_flops_per_second_assumed": speeds.gpu, "seconds": whole.seconds, "seconds_least": whole.least,
            "missing_data": absent, "kinds": all,
            "match": config.matched.as_ref().and_then(|matched| matched.chosen.as_ref())
        });
        println!("{}", serde_json::to_string_pretty(&out).expect("plain data"));
        return Exit::Ok;
    }
    print_table(&config.name, config.runs.len(), &all);
    let chosen = sizes_chosen(&config);
    if !chosen.is_empty() {
        println!("sizes chosen by `match`:");
        chosen.iter().for_each(|line| println!("  {line}"));
    }
    print_totals(&all, &absent, &whole, jobs, threads);
    print_legend(&all, here, threads);
    let gpu = match args.gpu_tflops {
        Some(given) => format!("the {given} TFLOP/s of --gpu-tflops"),
        None => format!("{:.2} TFLOP/s, 30 % of an A100's 19.5 in float32", GPU / 1e12),
    };
    println!(
        "Time on a GPU is an estimate, not measured: all FLOPs at {gpu}; set what yours sustains with --gpu-tflops."
    );
    Exit::Ok
}

/// The same with the runs that its search makes at least.
fn with_search(mut config: Config) -> Config {
    if let Some(tune) = &config.tune {
        let searched = expected(tune, |cell| config.runs.iter().any(|run| cell.is_of(run)));
        config.runs.extend(searched);
    }
    config
}

/// Where a time comes from, as it is marked and explained.
const MARKS: [(&str, &str, &str); 4] = [
    ("measured", "", "without a mark: finished runs of the same settings on this machine"),
    ("timed", " ~", "~: steps as long as those timed on this machine"),
    ("reckoned", " ≈", "≈: as far below the speed of matrix products as the runs that were timed"),
    ("at matrix-product speed", " *", "*: a lower bound, at the speed of matrix products: nothing like it was timed"),
];

fn mark(from: &str) -> &'static str {
    MARKS.iter().find(|(name, ..)| *name == from).map_or("", |(_, mark, _)| mark)
}

fn print_legend(all: &[Estimate], here: f64, threads: usize) {
    let there: Vec<&str> = MARKS
        .iter()
        .filter(|(name, ..)| all.iter().any(|e| e.seconds_from == *name))
        .map(|(_, _, words)| *words)
        .collect();
    let unknown = all.iter().filter(|e| !e.with_evaluation && e.flops > 0.0).map(|e| e.task.as_str());
    let unknown: Vec<&str> = unknown.collect::<BTreeSet<_>>().into_iter().collect();
    let evaluation = match unknown.is_empty() {
        true => String::new(),
        false => format!(" (but those of {}: how many examples they have is not known)", unknown.join(", ")),
    };
    println!(
        "Time goes through the whole budget and every evaluation{evaluation}, at the task's longest length; analysis is not in it. {}. \
         Matrix products in float32 run at {:.0} GFLOP/s with {threads} thread{} here.",
        there.join("; "),
        here / 1e9,
        if threads == 1 { "" } else { "s" }
    );
}

fn print_table(name: &str, runs: usize, all: &[Estimate]) {
    println!("{name}: {runs} runs");
    let with_reference = all.iter().any(|e| e.reference_parameters.is_some());
    let reference = |text: &str| if with_reference { format!(" {text:>12}") } else { String::new() };
    println!(
        "{:<14} {:<16} {:>5} {:>12}{} {:>12} {:>10} {:>10} {:>14} {:>14}  settings",
        "task",
        "mixer",
        "seeds",
        "parameters",
        reference("of reference"),
        "in mixers",
        "TFLOP/run",
        "state kB",
        "time/run",
        "GPU time/run"
    );
    let count = |n: Option<u64>| n.map_or("-".into(), grouped);
    for e in all {
        let settings: Vec<String> = e.settings.iter().map(|(k, v)| format!("{k}={v}")).collect();
        let line = format!(
            "{:<14} {:<16} {:>5} {:>12}{} {:>12} {:>10.2} {:>10.1} {:>14} {:>14}  {}",
            e.task,
            e.mixer,
            e.seeds,
            count(e.parameters),
            reference(&ratio(e)),
            count(e.mixer_parameters),
            e.flops / 1e12,
            e.state_bytes as f64 / 1024.0,
            e.seconds.map_or("-".into(), |s| duration(s) + mark(e.seconds_from)),
            e.gpu_seconds.map_or("-".into(), duration),
            settings.join(" ")
        );
        println!("{}", line.trim_end());
    }
}

/// A model's size as a share of the one it follows.
fn ratio(e: &Estimate) -> String {
    match (e.parameters, e.reference_parameters) {
        (Some(here), Some(reference)) => format!("{:.3}", here as f64 / reference as f64),
        _ => "-".into(),
    }
}

fn print_totals(all: &[Estimate], absent: &[String], whole: &Forecast, jobs: usize, threads: usize) {
    let total =
        |of: fn(&Estimate) -> Option<f64>| -> f64 { all.iter().map(|e| of(e).unwrap_or(0.0) * e.seeds as f64).sum() };
    let optimizer = all.iter().filter_map(|e| e.optimizer_bytes).max().unwrap_or(0);
    let bound = all.iter().any(|e| e.seconds_from == "at matrix-product speed");
    let plural = if threads == 1 { "" } else { "s" };
    let early = match whole.least < 0.99 * whole.seconds {
        true => format!(", {} if every run stops at its first chance", duration(whole.least)),
        false => String::new(),
    };
    println!(
        "in all: {} {} with {jobs} at a time of {threads} thread{plural}{early}; {} one after the other; {:.1} hours on one GPU; \
         largest parameters with gradient and optimizer state: {:.0} MiB",
        if bound { "at least" } else { "about" },
        duration(whole.seconds),
        duration(whole.alone),
        total(|e| e.gpu_seconds) / 3600.0,
        optimizer as f64 / f64::from(1 << 20)
    );
    let pretraining = total(|e| Some(e.pretraining_flops));
    if pretraining > 0.0 {
        println!("pretraining: {:.0} % of all FLOPs", 100.0 * pretraining / total(|e| Some(e.flops)));
    }
    for line in absent {
        println!("data missing, counted with the vocabulary and sizes of the official data: {line}");
    }
}
