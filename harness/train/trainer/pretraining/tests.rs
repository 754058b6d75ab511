use super::*;
use crate::train::checkpoint::{self, Part};
use crate::train::trainer::State;
use std::collections::BTreeMap;
use std::path::Path;
use tch::Kind;

/// A trainer of the first run of this config, its work in `folder`.
fn trainer(mixer: &str, pretrain: &str, folder: &Path) -> Trainer {
    let text = format!(
        "tasks: [mqar: {{ vocab_size: 16, seq_len: 12, kv_pairs: 2, causal: false, train_examples: 60, validation_examples: 10, test_examples: 10 }}]\n\
         model: {{ d_model: 8, n_layers: 1, dropout: 0.1, embedding_dropout: 0.1 }}\noptimizer: {{ lr: 1e-2 }}\n\
         schedule: {{ warmup_steps: 2 }}\nbudget: {{ steps: 4, batch_size: 4, eval_every: 3 }}\npretrain: {pretrain}\nmixers: [{mixer}]\n"
    );
    crate::laws::samples::trainer(&text, folder)
}

const ATTENTION: &str = "attention: { n_heads: 2 }";
/// Batch norm: its running statistics are part of what is kept.
const S4: &str = "{ mixer: { s4: { d_state: 4 } }, model: { block: s4 } }";

/// Model, by name, as it is now.
fn weights(trainer: &Trainer) -> BTreeMap<String, Tensor> {
    trainer.vs.variables().into_iter().map(|(name, tensor)| (name, tensor.copy())).collect()
}

#[test]
fn the_task_begins_with_the_pretrained_body_a_fresh_head_and_an_optimizer_that_knows_nothing() {
    for mixer in [ATTENTION, S4] {
        let folder = tempfile::tempdir().unwrap();
        let mut pretrained = trainer(mixer, "{ objective: mlm, steps: 5 }", folder.path());
        let start = weights(&pretrained);
        assert!(pretrained.pretrain(&AtomicBool::new(false), &mut |_| {}).unwrap().is_none());
        for (name, value) in weights(&pretrained) {
            let moved = !value.equal(&start[&name]);
            assert_eq!(moved, !name.starts_with("head."), "{name} of {mixer}");
        }
        let fresh = pretrained.optimizer.state();
        let sum: f64 = fresh.iter().map(|(_, t)| t.abs().sum(Kind::Double).double_value(&[])).sum();
        assert_eq!(sum, 0.0, "{mixer}: no moment, no update");
        let (tensors, state) =
            checkpoint::read(&folder.path().join("last.safetensors"), &pretrained.id, Part::Last).unwrap();
        assert!(tensors.keys().all(|name| !name.starts_with("model.pretrain.")), "{mixer}");
        let state: State = serde_json::from_value(state).unwrap();
        assert_eq!((state.step, state.pretraining.map(|p| p.step)), (0, Some(5)), "{mixer}");
    }
}

#[test]
fn pretraining_learns_its_inputs_and_says_so() {
    for objective in ["mlm", "clm"] {
        let folder = tempfile::tempdir().unwrap();
        let mut run = trainer(ATTENTION, &format!("{{ objective: {objective}, steps: 200 }}"), folder.path());
        assert_eq!(run.pretraining_note(), None);
        run.pretrain(&AtomicBool::new(false), &mut |_| {}).unwrap();
        let done = run.state.pretraining.unwrap();
        let last = done.last_sum / done.last_count as f64;
        assert_eq!((done.step, done.last_count), (200, 20));
        assert!(last < done.first_loss - 0.2, "{objective}: from {} to {last}", done.first_loss);
        let note = run.pretraining_note().unwrap();
        assert!(note.starts_with(&format!("pretrained by {objective} for 200 of 200 steps: loss ")), "{note}");
        assert!(note.ends_with(" over the last 20"), "{note}");
    }
}

#[test]
fn a_stage_that_diverges_says_where_and_fine_tuning_does_not_begin() {
    let folder = tempfile::tempdir().unwrap();
    let mut run = trainer(ATTENTION, "{ objective: mlm, steps: 50, lr: 1e30 }", folder.path());
    let ended = run.train(&AtomicBool::new(false), |_| {}).unwrap();
    let Outcome::Diverged { reason } = ended.outcome else { panic!("{ended:?}") };
    assert!(reason.starts_with("pretraining loss is ") && reason.ends_with(" of 50"), "{reason}");
    assert_eq!((run.state.step, ended.scores.validation), (0, None));
}
