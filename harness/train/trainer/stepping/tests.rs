use super::*;
use crate::laws::samples::{alone, small_mixers};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use tasks::{Order, Split};

/// Every kind of answer, one and two documents, rows of one length and of several.
const TASKS: [&str; 5] = [
    "mqar: { vocab_size: 16, seq_len: 12, kv_pairs: 2, causal: false, train_examples: 60, validation_examples: 10, test_examples: 10 }",
    "retrieval: { source: synthetic, document_length: 60, topics: 4, mentions: 2, train_examples: 60, validation_examples: 10, test_examples: 10 }",
    "listops: { source: generate, min_length: 4, max_length: 24, train_examples: 60, validation_examples: 10, test_examples: 10 }",
    "sparse_regression: { }",
    "mad: { task: compression }",
];

/// A trainer of the only run of a config.
fn trainer(task: &str, mixer: &str, more: &str, folder: &Path) -> Trainer {
    crate::laws::samples::trainer(&format!("tasks:\n  - {task}\nmixers: [{mixer}]\n{more}\n"), folder)
}

const ATTENTION: &str = "attention: { n_heads: 2 }";
const SMALL: &str = "model: { d_model: 8, n_layers: 2 }\nbudget: { steps: 4, batch_size: 7, eval_every: 3 }";

fn first_batch(run: &Trainer) -> Batch {
    run.task.batch(Split::Train, 0, &Order { seed: 1, batch_size: 7 }).unwrap()
}

/// The loss and every parameter's gradient.
fn gradients(run: &mut Trainer, batch: &Batch) -> (f64, BTreeMap<String, Tensor>) {
    run.optimizer.zero_grad();
    let loss = run.gradients(batch, Purpose::Dropout, 0);
    let all = run.vs.variables().into_iter().filter(|(_, v)| v.requires_grad());
    (loss, all.map(|(name, v)| (name, v.grad().copy())).collect())
}

fn assert_near(found: &(f64, BTreeMap<String, Tensor>), want: &(f64, BTreeMap<String, Tensor>), case: &str) {
    assert!((found.0 - want.0).abs() < 1e-5 * (1.0 + want.0.abs()), "{case}: loss {} for {}", found.0, want.0);
    let largest = |t: &Tensor| t.abs().max().double_value(&[]);
    let scale = want.1.values().map(largest).fold(0.0, f64::max);
    assert!(scale > 1e-4, "{case}: nothing to compare");
    for (name, want) in &want.1 {
        let error = largest(&(&found.1[name] - want));
        assert!(error < 3e-5 * scale, "{name} of {case}: {error:.1e} off beside {scale:.1e}");
    }
}

#[test]
fn gradients_of_parts_add_up_to_the_whole_batch_s_for_every_kind_of_answer() {
    for task in TASKS {
        let folder = tempfile::tempdir().unwrap();
        let mut run = trainer(task, ATTENTION, SMALL, folder.path());
        let batch = first_batch(&run);
        let want = gradients(&mut run, &batch);
        for micro in [1, 3, 7, 100] {
            for again in [false, true] {
                run.spec.budget.micro_batch = Some(micro);
                run.spec.model.checkpoint_activations = again;
                let case = format!("{micro} at a time, run again {again}, of {task}");
                assert_near(&gradients(&mut run, &batch), &want, &case);
            }
        }
    }
}

#[test]
fn gradients_of_parts_add_up_to_the_whole_batch_s_for_every_mixer() {
    for (entry, settings) in small_mixers() {
        let folder = tempfile::tempdir().unwrap();
        let mixer = json!({ entry.name: settings }).to_string();
        let more = SMALL.replace("d_model: 8", "d_model: 16, block: hydra");
        let mut run = trainer(TASKS[1], &mixer, &more, folder.path());
        let batch = first_batch(&run);
        let want = gradients(&mut run, &batch);
        run.spec.budget.micro_batch = Some(2);
        assert_near(&gradients(&mut run, &batch), &want, entry.name);
    }
}

#[test]
fn a_part_of_pairs_holds_both_documents_and_parts_with_nothing_asked_are_left_out() {
    let batch = Batch {
        size: 3,
        documents: 2,
        length: 2,
        width: 1,
        tokens: vec![1, 2, 3, 4, 5, 6, 11, 12, 13, 14, 15, 16],
        types: Vec::new(),
        lengths: vec![2, 1, 2, 1, 2, 2],
        targets: Targets::PerSequence(vec![0, 1, 2]),
    };
    let two = part(&batch, 1..3);
    assert_eq!((two.size, two.documents, two.length), (2, 2, 2));
    assert_eq!(two.tokens, [3, 4, 5, 6, 13, 14, 15, 16]);
    assert_eq!(two.lengths, [1, 2, 2, 2]);
    assert_eq!(two.targets, Targets::PerSequence(vec![1, 2]));
    let one = Batch {
        documents: 1,
        tokens: vec![1, 2, 3, 4, 5, 6],
        types: vec![0, 1, 0, 0, 1, 1],
        lengths: vec![2; 3],
        targets: Targets::PerPosition { positions: vec![1, 4, 5], classes: vec![7, 8, 9] },
        ..batch
    };
    let parts: Vec<(u64, Batch)> = parts(&one, 1).collect();
    assert_eq!(parts.iter().map(|(i, _)| *i).collect::<Vec<_>>(), [0, 2], "dropout goes by the part's place");
    assert_eq!(parts[0].1.targets, Targets::PerPosition { positions: vec![1], classes: vec![7] });
    assert_eq!(parts[1].1.targets, Targets::PerPosition { positions: vec![0, 1], classes: vec![8, 9] });
    assert_eq!((&parts[0].1.types, &parts[1].1.types), (&vec![0, 1], &vec![1, 1]));
}

#[test]
fn pretraining_in_parts_hides_what_the_whole_batch_hides_and_gives_its_gradients() {
    for (objective, task) in [("mlm", TASKS[0]), ("mlm", TASKS[1]), ("clm", TASKS[0])] {
        let folder = tempfile::tempdir().unwrap();
        let more = format!("{SMALL}\npretrain: {{ objective: {objective}, steps: 3 }}");
        let mut run = trainer(task, ATTENTION, &more, folder.path());
        let batch = first_batch(&run);
        let mut found = |micro: Option<u64>, again: bool| {
            run.spec.budget.micro_batch = micro;
            run.spec.model.checkpoint_activations = again;
            run.optimizer.zero_grad();
            let loss = run.pretraining_gradients(&batch, 0);
            let named = run.stage.as_ref().expect("a stage").trained(&run.vs).into_iter();
            (loss, named.filter(|(_, v)| v.requires_grad()).map(|(n, v)| (n, v.grad().copy())).collect())
        };
        let want = found(None, false);
        for (micro, again) in [(Some(2), false), (None, true), (Some(3), true)] {
            assert_near(&found(micro, again), &want, &format!("{objective} {micro:?} {again} of {task}"));
        }
    }
}

#[test]
fn dropout_differs_from_part_to_part_and_is_the_step_s_own() {
    if !alone(concat!(module_path!(), "::dropout_differs_from_part_to_part_and_is_the_step_s_own")) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let more = SMALL.replace("n_layers: 2", "n_layers: 2, dropout: 0.5");
    let mut run = trainer(TASKS[1], ATTENTION, &more, folder.path());
    let one = first_batch(&run);
    // The same pair twice: only dropout can tell the parts apart.
    let pair = part(&one, 0..1);
    let twice = Batch {
        size: 2,
        tokens: pair.tokens.chunks(pair.length).flat_map(|row| row.repeat(2)).collect(),
        lengths: pair.lengths.iter().flat_map(|n| [*n, *n]).collect(),
        targets: Targets::PerSequence(pair.targets.classes().repeat(2)),
        ..pair.clone()
    };
    run.spec.budget.micro_batch = Some(1);
    let (alone, _) = gradients(&mut run, &pair);
    let (both, _) = gradients(&mut run, &twice);
    assert!((alone - both).abs() > 1e-6, "both parts drew the same masks");
    assert_eq!(gradients(&mut run, &twice).0, both);
}

#[test]
fn training_in_bf16_in_parts_with_layers_run_again_lowers_the_loss() {
    for mixer in [ATTENTION, "hydra: { d_state: 4, headdim: 8 }", "bigs: { d_state: 4 }"] {
        let folder = tempfile::tempdir().unwrap();
        let more = "model: { d_model: 16, n_layers: 2, precision: bf16, checkpoint_activations: true }\n\
                    optimizer: { lr: 1e-2 }\nbudget: { steps: 60, batch_size: 8, micro_batch: 4, eval_every: 20 }";
        let mut run = trainer(TASKS[0], mixer, more, folder.path());
        let ended = run.train(&AtomicBool::new(false), |_| {}).unwrap();
        assert_eq!(ended.outcome, results::Outcome::Finished);
        let losses: Vec<f64> = run.state.curve.iter().map(|point| point.train_loss).collect();
        assert!(losses.last() < losses.first().map(|first| first - 0.1).as_ref(), "{mixer}: {losses:?}");
        assert!(run.vs.variables().values().all(|v| v.kind() == tch::Kind::Float), "{mixer}");
    }
}

#[test]
fn speed_is_told_in_model_flops_and_as_a_share_of_this_machine_s() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = trainer(TASKS[0], ATTENTION, SMALL, folder.path());
    let batch = first_batch(&run);
    // Two layers of width 8 on 12 positions: 8 n d² + 4 n² d in attention, 16 n d² in the feed-forward; the head where asked.
    let (n, d, classes) = (12.0, 8.0, run.task_spec.classes as f64);
    let layer = 8.0 * n * d * d + 4.0 * n * n * d + 16.0 * n * d * d;
    let head = 2.0 * batch.targets.classes().len() as f64 * d * classes;
    assert_eq!(run.forward_flops(&batch), 7.0 * 2.0 * layer + head);
    assert_eq!(run.clock.speeds(10.0), [], "no step was made yet");
    run.train(&AtomicBool::new(false), |_| {}).unwrap();
    assert!((run.clock.flops_per_step / (3.0 * run.forward_flops(&batch)) - 1.0).abs() < 0.2);
    let speed_alone = run.clock.speeds(10.0);
    assert_eq!(speed_alone, [("model_flops_per_second", 10.0 * run.clock.flops_per_step)], "no peak, no share of it");
    let measured = 40.0 * run.clock.flops_per_step;
    run.clock.peak_flops = measured;
    let [(speed_name, speed), (mfu_name, mfu)] = run.clock.speeds(10.0)[..] else { panic!("two measures") };
    assert_eq!([speed_name, mfu_name], ["model_flops_per_second", "mfu"]);
    assert_eq!((speed, mfu), (10.0 * run.clock.flops_per_step, 10.0 * run.clock.flops_per_step / measured));
    // More than all of it says that the peak was taken on a busy machine: a share that cannot be is none.
    assert_eq!(run.clock.speeds(41.0).len(), 1);
    assert_eq!(run.clock.speeds(40.0).len(), 2);
}
