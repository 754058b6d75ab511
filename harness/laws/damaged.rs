//! What the harness reads of files that others may have damaged: configs and checkpoints.

use crate::base::diagnostics::{Diagnostics, Place};
use crate::config::Config;
use crate::config::yaml;
use crate::registry::Registry;
use crate::train::checkpoint::{self, Part};
use fuzzing::Target;
use std::fs;
use tch::{Kind, Tensor};

/// A config with everything that YAML has: comments, both styles, strings of every kind, anchors.
const CONFIG: &str = "\
# A comment.
name: quick
question: \"Does \\u00e9 come \\\"through\\\"?\"
seeds: [0, 2]
tasks:
  - mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false, train_examples: 200 }
  - name: 'second task'
    task: { mqar: { vocab_size: 64 } }
    budget: &short { steps: 10, batch_size: 8, eval_every: 5 }
    seeds: 1
model: { d_model: 16, n_layers: 1, dropout: 0.1 }
optimizer:
  lr: 1e-2
  clip_norm: ~
budget: { steps: 0x10, batch_size: 8, eval_every: 5, stop_at: .5 }
grid: { optimizer.lr: [1e-3, 1.e-2] }
figures: [{ lines: { x: optimizer.lr } }]
match: { parameters: 0.5 }
mixers:
  - attention: { n_heads: 2 }
  - mixer:
      s4:
        d_state: 4
    model: { block: s4 }
    published: S4
";

#[test]
fn any_bytes_are_a_config_or_are_refused_with_a_place() {
    let registry = Registry::default();
    let alone = "budget: &short";
    let valid = [CONFIG.replace(alone, "budget:"), "tasks: [mqar]\nmixers: [attention]\n".into()];
    Target::new("yaml", valid.clone()).run(|bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return };
        let mut found = Diagnostics::new("x.yaml");
        let _ = yaml::parse(text, |line, column| Place::File { line, column }, &mut found);
    });
    Target::new("config", valid).may_hold(64 << 20, 4096).run(|bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return };
        let read = Config::parse(text, "x.yaml", "x", &["budget.steps=3".into()], &registry);
        if let Err(found) = read {
            let said = found.render();
            assert!(said.contains("x.yaml") || said.contains("--set"), "{said}");
        }
    });
}

#[test]
fn any_bytes_are_a_checkpoint_or_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("last.safetensors");
    let tensors = [
        ("model.weight".to_owned(), Tensor::arange(12, (Kind::Float, tch::Device::Cpu)).view([3, 4])),
        ("model.bias".to_owned(), Tensor::zeros([3], (Kind::Double, tch::Device::Cpu))),
    ];
    checkpoint::write(&path, "run", Part::Last, &tensors, &serde_json::json!({"step": 3})).unwrap();
    let valid = fs::read(&path).unwrap();
    Target::new("checkpoint", [valid]).run(|bytes| {
        fs::write(&path, bytes).unwrap();
        let _ = checkpoint::read(&path, "run", Part::Last);
        let _ = checkpoint::read_any(&path);
        let _ = checkpoint::looks_whole(&path);
    });
}
