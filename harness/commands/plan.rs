//! `mixarena plan`: what a sweep would cost, before it does.

use super::{data_errors, load};
use crate::Exit;
use crate::cli::PlanArgs;
use crate::limits;
use crate::plan::{Estimate, Plan, estimates, matrix_speed, open_tasks};
use crate::progress::duration;
use crate::registry::Registry;
use results::Store;
use serde_json::json;
use tasks::{DataDir, DataError};

/// Runs the command.
pub fn plan(args: &PlanArgs, registry: &Registry) -> Exit {
    let config = match load(&args.config, &args.changes, registry) {
        Ok(config) => config,
        Err(exit) => return exit,
    };
    let data = DataDir(args.folders.data.clone());
    if args.print_config {
        return match Plan::expand(&config, registry, &data) {
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
    let opened = open_tasks(&config, registry, &data);
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
    let records = match args.folders.store.is_dir() {
        true => Store::open(&args.folders.store).and_then(|s| s.records()).unwrap_or_default(),
        false => Vec::new(),
    };
    let cores = limits::cores();
    let speed = matrix_speed(cores);
    let all = estimates(&config, registry, &opened, &records, speed);
    if args.json {
        let out = json!({"name": config.name, "runs": config.runs.len(), "cores": cores, "flops_per_second": speed, "missing_data": absent, "kinds": all});
        println!("{}", serde_json::to_string_pretty(&out).expect("plain data"));
        return Exit::Ok;
    }
    print_table(&config.name, config.runs.len(), &all, &absent);
    println!(
        "Time marked * is a lower bound: all FLOPs (3 forward passes a step, at the task's longest sequence) at this machine's \
         float32 matrix-product speed, {:.0} GFLOP/s on {cores} cores; without * it was measured in an earlier run.",
        speed / 1e9
    );
    Exit::Ok
}

fn print_table(name: &str, runs: usize, all: &[Estimate], absent: &[String]) {
    println!("{name}: {runs} runs");
    println!(
        "{:<14} {:<16} {:>5} {:>12} {:>12} {:>10} {:>10} {:>14}  settings",
        "task", "mixer", "seeds", "parameters", "in mixers", "TFLOP/run", "state kB", "time/run"
    );
    let count = |n: Option<u64>| n.map_or("-".into(), grouped);
    let mut total = 0.0;
    for e in all {
        let time = e
            .seconds
            .map_or("-".into(), |s| format!("{}{}", duration(s), if e.seconds_from == "measured" { "" } else { " *" }));
        total += e.seconds.unwrap_or(0.0) * e.seeds as f64;
        let settings: Vec<String> = e.settings.iter().map(|(k, v)| format!("{k}={v}")).collect();
        println!(
            "{:<14} {:<16} {:>5} {:>12} {:>12} {:>10.2} {:>10.1} {:>14}  {}",
            e.task,
            e.mixer,
            e.seeds,
            count(e.parameters),
            count(e.mixer_parameters),
            e.flops / 1e12,
            e.state_bytes as f64 / 1024.0,
            time,
            settings.join(" ")
        );
    }
    let optimizer = all.iter().filter_map(|e| e.optimizer_bytes).max().unwrap_or(0);
    println!(
        "in all: {} one after the other; largest parameters with gradient and optimizer state: {:.0} MiB",
        duration(total),
        optimizer as f64 / f64::from(1 << 20)
    );
    for line in absent {
        println!("data missing, counted with the vocabulary of the official data: {line}");
    }
}

/// `1234567` as `1,234,567`.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    #[test]
    fn digits_are_grouped_by_three() {
        assert_eq!(super::grouped(1234567), "1,234,567");
        assert_eq!(super::grouped(999), "999");
    }
}
