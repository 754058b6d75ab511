//! Synthetic tasks from config to figure: what cannot be is refused with its inequality, what is measured by length, head and
//! layer stands in the record, and every figure a config asks for is drawn.

use std::collections::BTreeSet;
use tests::Folder;

/// A config of one task.
fn config(task: &str) -> String {
    format!("tasks: [{task}]\nmixers: [{{ attention: {{ n_heads: 2 }} }}]\nmodel: {{ d_model: 16 }}\n")
}

#[test]
fn what_cannot_be_is_refused_at_load_with_the_inequality_written_out() {
    let folder = Folder::new();
    let cases = [
        (
            "mqar: { seq_len: 30, kv_pairs: 8, vocab_size: 64 }",
            "need 2·8·1 + 2·8 = 32 tokens, more than `seq_len` = 30",
        ),
        (
            "mqar: { test_mixture: [{ seq_len: 64, kv_pairs: 20, examples: 5 }] }",
            "= 80 tokens, more than `seq_len` = 64",
        ),
        ("induction_heads: { vocab_size: 2 }", "`vocab_size` is 2 < 2 plain symbols + 1 special"),
        ("depth: { kind: template_matching, templates: 20 }", "more than the Bell number B(4) = 15"),
        (
            "depth: { kind: template_matching, template_length: 8, alphabet: 10 }",
            "leaves 5 symbols for training, fewer than the 8",
        ),
        ("state_tracking: { problem: q8 }", "`problem` is `q8`: `q8` is no group"),
        ("state_tracking: { problem: s9 }", "its order 362880 > 720"),
        ("state_tracking: { test_lengths: [20] }", "the longest of `test_lengths` 20 < 40 = `train_max`"),
        ("induction_heads: { test_lengths: [64] }", "the longest of `test_lengths` is 64, less than 256"),
        ("passkey: { test_lengths: [30] }", "the longest of `test_lengths` is 30, less than 256"),
        ("icll: { min_edges: 5, max_edges: 8 }", "`max_edges` 8 > 3 = `min_states` 4 − 1"),
        ("algorithmic: { kind: sort, distinct: true, symbols: 10 }", "integers are more than the `symbols` = 10"),
        ("sparse_regression: { sparsity: 20 }", "`sparsity` is 20, more than `dimension` = 16"),
        ("mad: { task: selective_copying, seq_len: 20 }", "needs 2·16 + 1 = 33 tokens, more than `seq_len` = 20"),
        ("state_tracking: { problem: Modular, modulus: 0 }", "`modulus` is 0, which is not between 2 and 1000"),
        ("algorithmic: { train_max: 4294967295 }", "`train_max` is 4294967295, more than 2^20"),
        ("algorithmic: { test_examples: 9223372036854775808 }", "more than 2^40"),
        ("mad: { task: compression, noise_vocab: 3 }", "`noise_vocab` is set, and `compression` has no use for it"),
    ];
    for (task, wanted) in cases {
        folder.write("bad.yaml", config(task));
        let ended = folder.run("plan bad.yaml").expect(2);
        let first = ended.err.lines().next().unwrap_or_default();
        assert!(first.starts_with("error: bad.yaml:1:") && first.contains(wanted), "{task}: {}", ended.err);
        assert!(ended.err.contains("help: "), "{task}: {}", ended.err);
    }
}

#[test]
fn a_figure_of_what_is_not_swept_and_an_analysis_of_nothing_are_refused() {
    let folder = Folder::new();
    let base = config("depth: { kind: memorization }");
    let cases = [
        ("figures: [{ lines: { x: model.d_model } }]\n", "bad.yaml:4:11: `model.d_model` is no axis of the grid"),
        ("figures: [{ line: { x: model.d_model } }]\n", "bad.yaml:4:11: there is no figure `line`"),
        ("figures: lines\n", "bad.yaml:4:10: `figures` is `lines`, expected a list"),
        ("analysis: { retrain_steps: 5 }\n", "bad.yaml:4:28: `retrain_steps` is 5, but nothing is pruned"),
        ("pretrain: mlm\n", ""),
    ];
    for (more, wanted) in cases {
        folder.write("bad.yaml", base.clone() + more);
        let code = if wanted.is_empty() { 0 } else { 2 };
        let ended = folder.run("plan bad.yaml").expect(code);
        assert!(ended.err.contains(wanted), "{more}: {}", ended.err);
    }
    let vectors = config("sparse_regression: { contexts: [4], test_contexts: [4] }") + "pretrain: mlm\n";
    folder.write("bad.yaml", vectors);
    let err = folder.run("plan bad.yaml").expect(2).err;
    assert!(err.contains("bad.yaml:4:11") && err.contains("which self-pretraining cannot predict"), "{err}");
}

/// Real vectors, a swept axis, heads, probes and every kind of figure, in some seconds.
const FIGURES: &str = "\
name: figures
seeds: 2
tasks:
  - name: regression
    task: { sparse_regression: { dimension: 3, sparsity: 1, contexts: [4, 6], test_contexts: [4, 8], validation_examples: 20, test_examples: 20 } }
model: { d_model: 16, positions: none }
budget: { steps: 6, batch_size: 8, eval_every: 3 }
analysis: { heads: true, prune: true, retrain_steps: 2, probes: true, probe_examples: 40 }
grid: { model.n_layers: [1, 2] }
mixers:
  - { name: two heads, mixer: { attention: { n_heads: 2 } } }
  - { name: no heads, mixer: { lstm: {} } }
figures:
  - lines: { x: model.n_layers }
  - details: { axis: context, measure: risk, y_scale: log }
  - details: { axis: layer, measure: probe_risk }
  - cells: { axis: layer, measure: importance }
  - profile: { shape: heat }
  - profile: { shape: radar }
";

#[test]
fn what_is_measured_by_context_head_and_layer_is_recorded_and_drawn() {
    let folder = Folder::new();
    folder.write("figures.yaml", FIGURES);
    folder.run("sweep figures.yaml -j 1").expect(0);
    let records = folder.records();
    assert_eq!(records.len(), 8);
    for record in &records {
        let heads = record.spec["mixer"]["attention"].is_object();
        let layers = record.spec["model"]["n_layers"].as_f64().expect("a number");
        let found: BTreeSet<(&str, &str)> =
            record.details.iter().map(|d| (d.measure.as_str(), d.series.as_str())).collect();
        for baseline in
            ["model", "ols", "ridge", "lasso", "gradient_descent", "support_oracle", "preprocess_then_optimise"]
        {
            assert!(found.contains(&("risk", baseline)), "{baseline}: {found:?}");
        }
        assert_eq!(found.contains(&("importance", "rank 2")) && found.contains(&("loss_rise", "head 2")), heads);
        assert_eq!(found.contains(&("risk", "retrained")), heads);
        let probes = record.details.iter().filter(|d| d.measure == "probe_risk").count() as f64;
        assert_eq!(probes, layers + 1.0, "one probe a layer and one of the embedding");
        let shares = record.details.iter().filter(|d| d.measure == "importance" && d.at == 1.0).map(|d| d.value);
        let sum: f64 = shares.sum();
        assert!(!heads || (sum - 1.0).abs() < 1e-9 || sum == 0.0, "shares of a layer sum to 1: {sum}");
        for measure in ["risk", "scaled", "wait_share", "examples_made_per_second"] {
            assert!(record.measures.contains_key(measure), "{measure}: {:?}", record.measures);
        }
    }
    let folder_of = |name: &str| format!("runs/reports/figures/{name}");
    for name in ["lines", "details", "details-2", "cells", "profile", "profile-2"] {
        assert!(folder.read(&folder_of(&format!("{name}.png"))).starts_with(b"\x89PNG"), "{name}");
        assert!(folder.text(&folder_of(&format!("{name}.svg"))).contains("<svg"), "{name}");
    }
    let page = folder.text(&folder_of("report.md"));
    assert!(page.contains("ridge") && page.contains("n_layers=2"), "{page}");
    let again = folder.run("sweep figures.yaml -j 1").expect(0);
    assert_eq!(folder.records().len(), 8, "nothing is run twice: {}", again.err);
}

#[test]
fn longer_tests_are_scored_length_by_length_and_positions_past_the_training_length_are_watched() {
    let folder = Folder::new();
    let text = "\
tasks:
  - { name: parity, task: { state_tracking: { train_max: 12, test_lengths: [12, 24], validation_examples: 20, test_examples: 20 } } }
  - { name: text, task: { filler: { train_length: 64, test_lengths: [128], window: 16, validation_examples: 4, test_examples: 4 } } }
model: { d_model: 16, n_layers: 1, positions: none, shared_depth: true }
budget: { steps: 4, batch_size: 4, eval_every: 2 }
analysis: { states: true }
mixers: [deltanet: { n_heads: 2 }]
";
    folder.write("long.yaml", text);
    folder.run("sweep long.yaml -j 1").expect(0);
    for record in folder.records() {
        let at = |measure: &str, axis: &str| -> Vec<f64> {
            record.details.iter().filter(|d| d.measure == measure && d.axis == axis).map(|d| d.at).collect()
        };
        if record.spec["task"]["filler"].is_object() {
            let windows = at("loss", "position");
            assert!(windows.iter().any(|at| *at >= 64.0), "{windows:?}");
            assert!(record.measures.contains_key("loss_at_training_length"), "{:?}", record.measures);
        } else {
            assert_eq!(at("score", "length"), [12.0, 24.0]);
        }
        assert!(!at("state_variance", "position").is_empty());
    }
}

#[test]
fn a_generated_task_is_verified_by_its_p_values() {
    let folder = Folder::new();
    let ended = folder.run("data verify depth --set kind=in_context_qa").expect(0);
    assert!(ended.out.contains("as specified: ") && ended.out.contains(" p = "), "{}", ended.out);
    assert!(ended.out.contains("training examples a second"), "{}", ended.out);
}

#[test]
fn a_split_without_end_is_exported_only_as_far_as_it_is_asked_for() {
    let folder = Folder::new();
    let endless = folder.run("data export depth --split train -o all.jsonl").expect(2);
    assert!(endless.err.contains("train of depth never ends") && endless.err.contains("--limit"), "{}", endless.err);
    folder.run("data export depth --split train --limit 3 -o three.jsonl").expect(0);
    assert_eq!(folder.text("three.jsonl").lines().count(), 3);
}
