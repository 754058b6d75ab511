//! `mixarena plan`: what a sweep would cost, before it does.

use super::{data_errors, load, mistakes};
use crate::Exit;
use crate::cli::PlanArgs;
use crate::limits;
use crate::matching;
use crate::plan::{Estimate, Plan, Speeds, estimates, matrix_speed, open_tasks};
use crate::progress::{duration, grouped};
use crate::registry::Registry;
use crate::sizes::Counter;
use results::Store;
use serde_json::json;
use tasks::{DataDir, DataError, Outline, Output};

/// A GPU's speed where the user gives none, operations a second: 30 % of the 19.5 TFLOP/s that NVIDIA states for an A100
/// in float32. An assumption: nothing here was measured on a GPU.
const GPU: f64 = 0.3 * 19.5e12;

/// Runs the command.
pub fn plan(args: &PlanArgs, registry: &Registry) -> Exit {
    let config = match load(&args.config, &args.changes, registry) {
        Ok(config) => config.with_starts(),
        Err(exit) => return exit,
    };
    // Hundreds of thousands of images are not drawn to be counted: without files, the outline knows a task's sizes. The
    // share of scored positions is read off an example, and the identity of a run off its opened task.
    let wanted = |outline: &Outline| args.print_config || outline.needs_files || outline.output == Output::PerPosition;
    let opened = open_tasks(&config, registry, &DataDir(args.folders.data.clone()), wanted);
    let mut counter = Counter::new(registry, &opened);
    if let Err(found) = matching::check(&config, &mut counter) {
        return mistakes(&args.config, &found);
    }
    if args.print_config {
        return match Plan::expand(&config, registry, &opened) {
            Ok(plan) => {
                for run in &plan.runs {
                    let yaml = serde_yaml::to_string(&run.spec).expect("a spec is plain data");
                    println!("---\n# {}  {}\n{}", run.id, crate::launcher::name(run), yaml.trim_end());
                }
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
    let records = match args.folders.store.is_dir() {
        true => Store::open(&args.folders.store).and_then(|s| s.records()).unwrap_or_default(),
        false => Vec::new(),
    };
    let cores = limits::cores();
    let speeds = Speeds { here: matrix_speed(cores), gpu: args.gpu_tflops.map_or(GPU, |t| t * 1e12) };
    let all = estimates(&config, registry, &mut counter, &records, speeds);
    if args.json {
        let out = json!({
            "name": config.name, "runs": config.runs.len(), "cores": cores, "flops_per_second": speeds.here,
            "gpu_flops_per_second_assumed": speeds.gpu, "missing_data": absent, "kinds": all
        });
        println!("{}", serde_json::to_string_pretty(&out).expect("plain data"));
        return Exit::Ok;
    }
    print_table(&config.name, config.runs.len(), &all, &absent);
    println!(
        "Time marked * is a lower bound: all FLOPs (3 forward passes a step and one for each look at an example, at the \
         task's longest sequence) at this machine's float32 matrix-product speed, {:.0} GFLOP/s on {cores} cores; without * it was measured in an earlier run.",
        speeds.here / 1e9
    );
    let gpu = match args.gpu_tflops {
        Some(given) => format!("the {given} TFLOP/s of --gpu-tflops"),
        None => format!("{:.2} TFLOP/s, 30 % of an A100's 19.5 in float32", GPU / 1e12),
    };
    println!(
        "Time on a GPU is an estimate, not measured: all FLOPs at {gpu}; set what yours sustains with --gpu-tflops."
    );
    Exit::Ok
}

fn print_table(name: &str, runs: usize, all: &[Estimate], absent: &[String]) {
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
        let star = if e.seconds_from == "measured" { "" } else { " *" };
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
            e.seconds.map_or("-".into(), |s| duration(s) + star),
            e.gpu_seconds.map_or("-".into(), duration),
            settings.join(" ")
        );
        println!("{}", line.trim_end());
    }
    print_totals(all, absent);
}

/// A model's size as a share of the one it follows.
fn ratio(e: &Estimate) -> String {
    match (e.parameters, e.reference_parameters) {
        (Some(here), Some(reference)) => format!("{:.3}", here as f64 / reference as f64),
        _ => "-".into(),
    }
}

fn print_totals(all: &[Estimate], absent: &[String]) {
    let total =
        |of: fn(&Estimate) -> Option<f64>| -> f64 { all.iter().map(|e| of(e).unwrap_or(0.0) * e.seeds as f64).sum() };
    let optimizer = all.iter().filter_map(|e| e.optimizer_bytes).max().unwrap_or(0);
    println!(
        "in all: {} one after the other here, {:.1} hours on one GPU; largest parameters with gradient and optimizer \
         state: {:.0} MiB",
        duration(total(|e| e.seconds)),
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
