//! Processor time of whole optimizer steps of small models: the mixers take turns, round after round, in one process.

use super::suite::{Chosen, surroundings};
use crate::base::limits::{page_faults, processor_seconds};
use crate::config::{Config, MOST_RUNS};
use crate::model::ModelConfig;
use crate::registry::Registry;
use crate::train::trainer::Trainer;
use crate::train::trainer::timing::Stepper;
use results::bench::{Spread, YARDSTICK};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::Arc;
use tasks::{DataDir, Task};

/// Steps of each mixer that are not counted.
const WARMUP: u64 = 5;

/// What is stepped, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Width.
    pub d_model: i64,
    /// Positions.
    pub length: i64,
    /// Sequences.
    pub batch: i64,
    /// Layers.
    pub n_layers: i64,
    /// Turns of each mixer.
    pub rounds: u64,
    /// Steps of a turn.
    pub steps: u64,
}

/// What the steps of one mixer took.
#[derive(Clone, Debug)]
pub struct Stepped {
    /// The mixer.
    pub label: String,
    /// Trainable parameters of the model.
    pub parameters: u64,
    /// Processor seconds of a step, by round.
    pub seconds: Vec<f64>,
    /// Page faults of a step, by round.
    pub faults: Vec<f64>,
}

/// Measures them all; an error says which mixer cannot be built or stepped, and why.
pub fn measure(chosen: &[Chosen], plan: &Plan, registry: &Registry) -> Result<Vec<Stepped>, String> {
    let mut models = Vec::new();
    for one in chosen {
        let trainer = trainer(one, plan, registry).map_err(|why| format!("{}: {why}", one.label))?;
        let (parameters, _) = trainer.parameters();
        let stepped = Stepped { label: one.label.clone(), parameters, seconds: Vec::new(), faults: Vec::new() };
        models.push((Stepper::new(trainer, WARMUP + plan.rounds * plan.steps), stepped));
    }
    for round in 0..=plan.rounds {
        for (stepper, stepped) in &mut models {
            let steps = if round == 0 { WARMUP } else { plan.steps };
            let (seconds, faults) = (processor_seconds(), page_faults());
            for _ in 0..steps {
                stepper.step().map_err(|why| format!("{}: {why}", stepped.label))?;
            }
            if round > 0 {
                stepped.seconds.push((processor_seconds() - seconds) / steps as f64);
                stepped.faults.push((page_faults() - faults) as f64 / steps as f64);
            }
        }
    }
    Ok(models.into_iter().map(|(_, stepped)| stepped).collect())
}

/// A model in the block of its mixer's paper, on multi-query associative recall. A mixer that can only read the past reads the past.
fn trainer(chosen: &Chosen, plan: &Plan, registry: &Registry) -> Result<Trainer, String> {
    let Plan { d_model, length, batch, n_layers, rounds, steps } = *plan;
    // More words than positions, as the task wants.
    let vocab_size = if length < 256 { 256 } else { 2 * length };
    let text = |causal: bool| {
        json!({
            "tasks": [{ "mqar": { "vocab_size": vocab_size, "seq_len": length, "kv_pairs": (length / 4).max(1), "causal": causal } }],
            "model": { "d_model": d_model, "n_layers": n_layers },
            "budget": { "steps": WARMUP + rounds * steps, "batch_size": batch },
            "mixers": [{ chosen.mixer.as_str(): chosen.settings }],
        })
        .to_string()
    };
    let read = |causal: bool| Config::parse_within(&text(causal), "bench steps", "steps", &[], MOST_RUNS, registry);
    let config = read(false).or_else(|_| read(true)).map_err(|found| found.render())?;
    let draft = &config.runs[0];
    let entry = registry.task(&draft.task.name).ok_or("this build has no mqar")?;
    let opened =
        entry.open(&draft.task.settings, &DataDir(PathBuf::from("data"))).map_err(|error| error.to_string())?;
    let task: Arc<dyn Task> = Arc::from(opened);
    let (block, _) = surroundings(registry, &chosen.mixer, d_model);
    let mut spec = draft.bare(registry);
    spec.model = ModelConfig { n_layers, ..block };
    // Nothing is written: there is no checkpoint to go on from in a folder that is not there.
    let nowhere = PathBuf::from("/nonexistent/steps");
    Trainer::new(spec, task, registry, tch::Device::Cpu, nowhere).map_err(|error| error.to_string())
}

impl Stepped {
    /// Seconds of a step by round, as ratios to those of `other` in the same round.
    fn ratio(&self, other: &Self) -> Option<Spread> {
        Spread::of(&self.seconds.iter().zip(&other.seconds).map(|(own, other)| own / other).collect::<Vec<_>>())
    }
}

/// A line a mixer: parameters, milliseconds, ratio to the yardstick where it was measured, page faults; medians and quartiles.
pub fn table(stepped: &[Stepped]) -> String {
    let yardstick = stepped.iter().find(|one| one.label == YARDSTICK);
    let spread = |spread: Option<Spread>, scale: f64| {
        spread.map_or("-".into(), |s| format!("{:.2} [{:.2}, {:.2}]", s.median * scale, s.low * scale, s.high * scale))
    };
    let mut lines = format!(
        "{:<18} {:>10}  {:<22} {:<20} {:>11}\n",
        "mixer", "parameters", "ms a step, CPU", "to attention", "page faults"
    );
    for one in stepped {
        let ratio = yardstick.and_then(|yardstick| one.ratio(yardstick));
        let faults = Spread::of(&one.faults).map_or(0.0, |faults| faults.median);
        let (time, ratio) = (spread(Spread::of(&one.seconds), 1e3), spread(ratio, 1.0));
        lines += &format!("{:<18} {:>10}  {time:<22} {ratio:<20} {faults:>11.0}\n", one.label, one.parameters);
    }
    lines
}

/// The same as JSON, with every round.
pub fn document(stepped: &[Stepped], plan: &Plan) -> Value {
    let of = |one: &Stepped| json!({ "mixer": one.label, "parameters": one.parameters, "seconds": one.seconds, "page_faults": one.faults });
    let Plan { d_model, length, batch, n_layers, .. } = plan;
    json!({ "d_model": d_model, "length": length, "batch": batch, "n_layers": n_layers,
            "mixers": stepped.iter().map(of).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mixer_of_the_registry_is_stepped_in_every_round() {
        let registry = Registry::default();
        let chosen = |entry: &mixers::Entry| Chosen {
            label: entry.name.into(),
            mixer: entry.name.into(),
            settings: (entry.small)(),
        };
        let chosen: Vec<Chosen> = registry.mixers.iter().map(chosen).collect();
        let plan = Plan { d_model: 16, length: 8, batch: 2, n_layers: 1, rounds: 2, steps: 1 };
        let stepped = measure(&chosen, &plan, &registry).unwrap();
        assert_eq!(stepped.len(), registry.mixers.len());
        for one in &stepped {
            assert!(one.seconds.len() == 2 && one.seconds.iter().all(|s| *s > 0.0), "{one:?}");
        }
        let lines = table(&stepped);
        assert!(lines.contains("attention") && lines.contains("1.00 [1.00, 1.00]"), "{lines}");
        assert_eq!(document(&stepped, &plan)["mixers"].as_array().unwrap().len(), stepped.len());
    }

    #[test]
    fn a_ratio_is_taken_round_by_round() {
        let of =
            |seconds: &[f64]| Stepped { label: "a".into(), parameters: 1, seconds: seconds.into(), faults: vec![] };
        let ratio = of(&[1.0, 30.0, 3.0]).ratio(&of(&[1.0, 10.0, 1.0])).unwrap();
        assert_eq!(ratio.median, 3.0);
    }
}
