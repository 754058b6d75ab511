//! Shuffled labels teach nothing: a law over every registered task that draws its examples, at its small settings
//! ([`tasks::Family::small`]), with a model small enough for a test.

use crate::laws::samples::alone;
use crate::model::{Model, ModelConfig, Positions};
use crate::train::evaluate;
use crate::train::feed::to_tensors;
use crate::train::optimizer::{AdamW, OptimizerConfig};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use tasks::{Batch, DataDir, Judge, Order, Split, Targets, Task};
use tch::Device;
use tch::nn::VarStore;

const STEPS: u64 = 60;
const ROWS: u64 = 32;

fn open(entry: &tasks::Entry, small: &Value) -> Box<dyn Task> {
    let mut settings = (entry.resolve)(small).expect("settings of the right types");
    let known = settings.as_object_mut().expect("a map");
    for (key, value) in [("validation_examples", 20), ("test_examples", 400)] {
        if known.contains_key(key) {
            known.insert(key.into(), json!(value));
        }
    }
    assert_eq!(entry.check(&settings), [], "{} {small}", entry.name);
    // What a task prepares is for this test alone.
    let data = tempfile::tempdir().expect("a folder");
    entry.open(&settings, &DataDir(data.path().into())).expect("it is drawn")
}

/// The same batch, each row asked for the answers of the row before it.
fn shuffled(batch: &Batch) -> Batch {
    let turn = |classes: &[i64], by: usize| {
        let mut turned = classes.to_vec();
        turned.rotate_right(by);
        turned
    };
    let targets = match &batch.targets {
        Targets::PerSequence(classes) => Targets::PerSequence(turn(classes, 1)),
        Targets::PerPosition { positions, classes } => {
            let by = (classes.len() / batch.size).max(1) + usize::from(classes.len() > batch.size);
            Targets::PerPosition { positions: positions.clone(), classes: turn(classes, by) }
        }
    };
    Batch { targets, ..batch.clone() }
}

/// What the best answer that never looks at the input scores on test: one class for each place, counted there. A bound from above.
fn blind(task: &dyn Task) -> f64 {
    let place = |i: usize, n: usize| if n > 64 { 0 } else { i };
    let rows: Vec<Vec<i64>> = (0..task.len(Split::Test))
        .map(|i| task.example(Split::Test, i).expect("it is drawn").targets.classes().to_vec())
        .collect();
    let mut seen: HashMap<(usize, i64), u64> = HashMap::new();
    for row in &rows {
        row.iter().enumerate().for_each(|(i, class)| *seen.entry((place(i, row.len()), *class)).or_default() += 1);
    }
    let mut best: HashMap<usize, (u64, i64)> = HashMap::new();
    for ((place, class), n) in seen {
        let slot = best.entry(place).or_default();
        *slot = (*slot).max((n, class));
    }
    let hits = |row: &Vec<i64>| {
        let right = row.iter().enumerate().filter(|(i, class)| best[&place(*i, row.len())].1 == **class).count();
        right as f64 / row.len() as f64
    };
    rows.iter().map(hits).sum::<f64>() / rows.len() as f64
}

#[test]
fn shuffled_labels_teach_nothing() {
    if !alone(concat!(module_path!(), "::shuffled_labels_teach_nothing")) {
        return;
    }
    let mixer = mixers::registry().into_iter().find(|entry| entry.name == "attention").expect("it is registered");
    let attention = (mixer.resolve)(&json!({ "n_heads": 1 })).expect("settings");
    let small = |entry: tasks::Entry| (entry.small)().into_iter().map(move |settings| (entry, settings));
    for (entry, changes) in tasks::registry().into_iter().flat_map(small) {
        let (name, task) = (entry.name, open(&entry, &changes));
        // A picture has a thousand positions, and attention reads each from each.
        let (steps, rows) = if task.spec().max_length > 512 { (STEPS / 3, ROWS / 4) } else { (STEPS, ROWS) };
        let spec = task.spec();
        tch::manual_seed(0);
        let vs = VarStore::new(Device::Cpu);
        let config = ModelConfig {
            d_model: 16,
            n_layers: 1,
            positions: Some(Positions::Sinusoidal),
            init_std: Some(0.4),
            ..ModelConfig::default()
        };
        let model = Model::new(&vs.root(), &config, &spec, &mixer, &attention);
        let mut optimizer = AdamW::new(&vs, &OptimizerConfig { lr: 1e-2, ..Default::default() }, &[]);
        for step in 0..steps {
            let batch = task.batch(Split::Train, step, &Order { seed: 0, batch_size: rows as usize }).expect("drawn");
            let (inputs, classes) = to_tensors(&shuffled(&batch), Device::Cpu);
            let loss = evaluate::loss(&model.forward(&inputs, true), &classes, &spec);
            optimizer.zero_grad();
            loss.backward();
            optimizer.step(1.0);
        }
        let never = AtomicBool::new(false);
        let look =
            evaluate::evaluate(&model, &*task, Split::Test, rows, Device::Cpu, false, &never).expect("it is scored");
        let look = look.expect("nobody stops it");
        let floor = match spec.judge {
            Judge::Class => task.floor().expect("measured").score.max(blind(&*task)),
            _ => task.floor().expect("measured").score,
        };
        // Four standard deviations of the score of 400 examples with one answer each.
        let chance = 4.0 * (floor * (1.0 - floor) / 400.0).sqrt().max(0.01);
        assert!(look.score <= floor + chance, "{name} {changes}: {} after shuffled labels, floor {floor}", look.score);
    }
}
