//! Runs that start from other runs: order, what is carried over, what becomes of a run whose start failed.

use results::Record;
use std::collections::BTreeMap;
use tests::Folder;

/// Two tasks of one vocabulary, the second starting from the first; `more` goes into the second's entry.
fn chain(more: &str) -> String {
    format!(
        "\
name: chain
seeds: 2
tasks:
  - task: {{ mqar: {{ vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false, train_examples: 256, test_examples: 64 }} }}
    name: second
    start: first
    {more}
  - task: {{ mqar: {{ vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false, train_examples: 128, test_examples: 64 }} }}
    name: first
mixers: [{{ attention: {{ n_heads: 2 }} }}, {{ s4: {{ d_state: 4 }} }}]
model: {{ d_model: 16, n_layers: 1 }}
budget: {{ steps: 4, batch_size: 8, eval_every: 2 }}
"
    )
}

fn ids_by_task(folder: &Folder) -> BTreeMap<u64, Vec<String>> {
    let mut found: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for record in folder.records() {
        let examples = record.spec["task"]["mqar"]["train_examples"].as_u64().unwrap_or(0);
        found.entry(examples).or_default().push(record.id.clone());
    }
    found
}

/// Every run that started from another, beside that other.
fn starts(records: &[Record]) -> Vec<(&Record, &Record)> {
    let first = |id: &str| records.iter().find(|other| other.id == id).expect("that run is in the store");
    records.iter().filter_map(|record| Some((record, first(record.spec["start"]["run"].as_str()?)))).collect()
}

#[test]
fn a_run_starts_from_the_run_of_its_mixer_and_seed_wherever_the_config_puts_it() {
    let folder = Folder::with("chain.yaml", &chain(""));
    folder.run("sweep chain.yaml -j 2").expect(0);
    let records = folder.records();
    assert_eq!(records.len(), 8);
    for record in records.iter().filter(|record| record.spec["task"]["mqar"]["train_examples"] == 256) {
        let first = record.spec["start"]["run"].as_str().expect("it says from which run");
        let first = records.iter().find(|other| other.id == first).expect("that run is in the store");
        assert_eq!((&first.spec["mixer"], first.seed), (&record.spec["mixer"], record.seed));
        assert!(first.spec["start"].is_null());
        assert!(record.notes.iter().any(|note| note.contains(&first.id)), "{:?}", record.notes);
    }
    // Nothing is left to do, and one seed given for all is another set of runs.
    let said = folder.run("sweep chain.yaml").expect(0).err;
    assert!(said.contains("nothing left to do"), "{said}");
    folder.write("chain.yaml", chain("").replace("start: first", "start: { task: first, seed: 1 }"));
    let said = folder.run("sweep chain.yaml -n").expect(0).err;
    assert!(said.contains("8 runs planned, 2 to do"), "those of seed 1 are the same: {said}");
}

#[test]
fn without_steps_of_its_own_to_speak_of_a_run_scores_as_its_start_does() {
    let text = chain("optimizer: { lr: 1e-30 }\n    budget: { steps: 1 }")
        .replace("train_examples: 128", "train_examples: 256");
    let folder = Folder::with("chain.yaml", &text);
    folder.run("sweep chain.yaml").expect(0);
    let records = folder.records();
    let starts = starts(&records);
    assert_eq!(starts.len(), 4);
    for (record, first) in starts {
        assert_eq!(record.scores.test, first.scores.test, "{}", record.spec["mixer"]);
        assert_eq!(record.measures["loss"], first.measures["loss"], "{}", record.spec["mixer"]);
    }
}

#[test]
fn a_filter_and_a_limit_bring_the_starts_along() {
    let folder = Folder::with("chain.yaml", &chain(""));
    let said = folder.run("sweep chain.yaml --filter task=second&mixer=s4 --set seeds=[0] -q").expect(0);
    assert_eq!(folder.records().len(), 2, "{}", said.err);
    assert!(said.out.contains("second") && !said.out.contains("first"), "{}", said.out);
    let folder = Folder::with("chain.yaml", &chain(""));
    folder.run("sweep chain.yaml --limit 1").expect(0);
    assert_eq!(folder.records().len(), 1);
    folder.run("sweep chain.yaml").expect(0);
    assert_eq!(ids_by_task(&folder).values().map(Vec::len).collect::<Vec<_>>(), [4, 4]);
}

#[test]
fn a_failed_start_is_a_row_and_its_followers_say_so() {
    let text = chain("").replace("name: first\n", "name: first\n    optimizer: { lr: 1e38, clip_norm: null }\n");
    let folder = Folder::with("chain.yaml", &text);
    folder.run("sweep chain.yaml -j 1").expect(1);
    let records = folder.records();
    assert_eq!(records.len(), 8);
    for record in &records {
        let reason = record.outcome.reason();
        match record.spec["start"]["run"].as_str() {
            Some(first) => {
                assert!(reason.starts_with(&format!("run {first}, which it starts from, diverged")), "{reason}")
            }
            None => assert_eq!(record.outcome.word(), "diverged", "{reason}"),
        }
    }
}

#[test]
fn a_checkpoint_that_is_gone_is_named() {
    let folder = Folder::with("chain.yaml", &chain(""));
    folder.run("sweep chain.yaml --filter task=first").expect(0);
    for id in folder.names("runs/work") {
        std::fs::remove_file(folder.path(&format!("runs/work/{id}/best.safetensors"))).unwrap();
    }
    folder.run("sweep chain.yaml").expect(1);
    let records = folder.records();
    let failed: Vec<_> = records.iter().filter(|r| r.spec["start"]["run"].is_string()).collect();
    assert_eq!(failed.len(), 4);
    for record in failed {
        assert!(record.outcome.reason().contains("which this run starts from, is gone"), "{}", record.outcome.reason());
    }
}

#[test]
fn a_start_that_cannot_be_is_refused_at_its_place() {
    let folder = Folder::new();
    let cases = [
        (chain("").replace("start: first", "start: fist"), "bad.yaml:6:12: no task is labelled `fist`"),
        (chain("").replace("start: first", "start: { task: first, seed: 7 }"), "no run on `first` has seed 7"),
        (chain("").replace("start: first", "start: second"), "tasks start from each other: second from second"),
        (chain("").replace("start: first", "start: 3"), "bad.yaml:6:12: `start` is `3`, expected"),
        (chain("").replace("start: first", "start: { weights: no.safetensors }"), "there is no file `no.safetensors`"),
        (
            chain("").replace("name: first\n", "name: first\n    start: second\n"),
            "tasks start from each other: second from first from second",
        ),
        (
            chain("")
                .replace("{ attention: { n_heads: 2 } }", "{ mixer: { attention: { n_heads: 2 } }, tasks: [second] }"),
            "`attention` does not run on `first`",
        ),
    ];
    for (text, wanted) in cases {
        folder.write("bad.yaml", &text);
        let ended = folder.run("plan bad.yaml").expect(2);
        assert!(ended.err.contains(wanted), "{wanted}: {}", ended.err);
    }
}

#[test]
fn a_body_that_is_not_its_start_s_is_refused_before_anything_is_trained() {
    let folder = Folder::new();
    let cases = [
        ("model: { d_model: 32 }", "bad.yaml:6:12: `d_model` is 32 here and 16 on `first`"),
        ("model: { n_layers: 2 }", "`n_layers` is 2 here and 1 on `first`"),
        ("model: { norm_place: post }", "`norm_place` is \"post\" here and \"pre\" on `first`"),
        ("model: { max_positions: 32 }", "learned positions are 32 here and 16 on `first`"),
    ];
    for (more, wanted) in cases {
        folder.write("bad.yaml", chain(more));
        let ended = folder.run("plan bad.yaml").expect(2);
        assert!(ended.err.contains(wanted) && ended.err.contains("help: "), "{wanted}: {}", ended.err);
    }
    let mixer =
        chain("").replace("{ attention: { n_heads: 2 } }", "{ mixer: { attention: { n_heads: 2 } }, start: first }");
    folder.write("bad.yaml", mixer);
    let ended = folder.run("plan bad.yaml").expect(2);
    assert!(ended.err.contains("a mixer's `start` names a task"), "{}", ended.err);
    // What reads the answer, dropout and precision may differ.
    folder.write("good.yaml", chain("model: { pooling: last, dropout: 0.1, precision: bf16 }"));
    folder.run("plan good.yaml --measure 0").expect(0);
    folder.write("weights.safetensors", "no weights");
    folder.write("bad.yaml", chain("").replace("start: first", "start: { weights: weights.safetensors }"));
    let ended = folder.run("sweep bad.yaml");
    assert!(
        ended.code != Some(0) && ended.err.contains("weights.safetensors: is no safetensors file"),
        "{}",
        ended.err
    );
}

#[test]
fn a_limit_of_one_reaches_every_run_in_the_end() {
    let folder = Folder::with("chain.yaml", &chain("").replace("start: first", "start: { task: first, seed: 1 }"));
    for done in 1..=8 {
        folder.run("sweep chain.yaml --limit 1 -q").expect(0);
        assert_eq!(folder.records().len(), done);
    }
}

/// S4's C̃ and C under `disc: dss` belong to the longest sequence; the same data under a model made for longer ones has the same loss.
#[test]
fn weights_made_for_another_length_go_on_as_they_were() {
    let text = chain("optimizer: { lr: 1e-30 }\n    budget: { steps: 1 }\n    model: { max_positions: 40 }")
        .replace("train_examples: 128", "train_examples: 256")
        .replace(
            "{ attention: { n_heads: 2 } }, { s4: { d_state: 4 } }",
            "{ s4: { d_state: 4, dt_max: 0.5 } }, { mixer: { s4: { mode: diag, init: lin, disc: dss, d_state: 4 } }, name: dss }",
        )
        .replace("n_layers: 1 }", "n_layers: 2, positions: none, norm: layer }");
    let folder = Folder::with("chain.yaml", &text);
    folder.run("sweep chain.yaml").expect(0);
    let records = folder.records();
    let starts = starts(&records);
    assert_eq!(starts.len(), 4);
    for (record, first) in starts {
        let (here, there) = (record.measures["loss"], first.measures["loss"]);
        assert!((here - there).abs() < 1e-3 * there, "{here} from {there}: {}", record.spec["mixer"]);
    }
    // What cannot be carried over is refused before anything is trained, with what to write instead.
    let scaled = "{ matrix_mixer: { matrix: low_rank, headdim: 8, qk_dim: 4 } }";
    let text = text.replace("{ s4: { d_state: 4, dt_max: 0.5 } }", scaled);
    folder.write("bad.yaml", &text);
    let ended = folder.run("plan bad.yaml").expect(2);
    let wanted = "`matrix: low_rank` is scaled by the longest sequence, which was 16 and is 40 here on `first`";
    assert!(ended.err.contains(wanted) && ended.err.contains("max_positions: N"), "{}", ended.err);
}

#[test]
fn a_run_whose_start_is_mended_is_run_by_the_next_sweep() {
    // Two files: the same runs, of which the start fails the first time for want of its time.
    let text = chain("").replace("name: first\n", "name: first\n    budget: { timeout_minutes: 1e-9 }\n");
    let folder = Folder::with("chain.yaml", &text);
    folder.run("sweep chain.yaml -j 2").expect(1);
    let outcomes = |folder: &Folder| {
        let mut words: Vec<_> = folder.records().iter().map(|record| record.outcome.word()).collect();
        words.sort_unstable();
        words.dedup();
        words.join(", ")
    };
    assert_eq!(outcomes(&folder), "failed, timed_out");
    for record in folder.records().iter().filter(|record| record.spec["start"]["run"].is_string()) {
        assert_eq!(record.blocked_by.as_ref().map(|by| by.run.as_str()), record.spec["start"]["run"].as_str());
    }
    let again = folder.run("sweep chain.yaml").expect(1);
    assert!(again.err.contains("nothing left to do"), "a start that has not changed: {}", again.err);
    folder.write("chain.yaml", chain(""));
    folder.run("sweep chain.yaml --retry --filter task=first").expect(0);
    assert_eq!(outcomes(&folder), "failed, finished");
    let plain = folder.run("sweep chain.yaml").expect(0);
    assert!(plain.err.contains("8 runs planned, 4 to do"), "{}", plain.err);
    assert_eq!(outcomes(&folder), "finished");
}

#[test]
fn the_weights_that_a_run_starts_from_are_kept_until_it_has_them_and_checked() {
    let folder = Folder::with("chain.yaml", &chain(""));
    folder.run("sweep chain.yaml --keep none").expect(0);
    let files = folder.names("runs/work").into_iter().flat_map(|id| folder.names(&format!("runs/work/{id}")));
    assert!(files.clone().all(|name| !name.ends_with("safetensors")), "{:?}", files.collect::<Vec<_>>());

    let folder = Folder::with("chain.yaml", &chain(""));
    folder.run("sweep chain.yaml --filter task=first").expect(0);
    for id in folder.names("runs/work") {
        let path = format!("runs/work/{id}/best.safetensors");
        let mut bytes = folder.read(&path);
        *bytes.last_mut().expect("tensors") ^= 1;
        folder.write(&path, bytes);
    }
    folder.run("sweep chain.yaml").expect(1);
    let failed: Vec<_> = folder.records().into_iter().filter(|r| r.spec["start"]["run"].is_string()).collect();
    assert_eq!(failed.len(), 4);
    for record in &failed {
        let reason = record.outcome.reason();
        assert!(reason.contains("which this run starts from, is damaged"), "{reason}");
        assert!(record.blocked_by.is_some());
    }
    // Whoever does what the reason says has everything done.
    for name in folder.names("runs/records").iter().filter(|name| !failed.iter().any(|r| name.starts_with(&r.id))) {
        std::fs::remove_file(folder.path(&format!("runs/records/{name}"))).expect("removes");
    }
    let again = folder.run("sweep chain.yaml").expect(0);
    assert!(again.err.contains("8 runs planned, 8 to do"), "{}", again.err);
    assert!(folder.records().iter().all(|record| record.outcome.word() == "finished"));
}

#[test]
fn a_part_of_a_sweep_keeps_the_weights_that_runs_outside_of_it_start_from() {
    let folder = Folder::with("chain.yaml", &chain(""));
    folder.run("sweep chain.yaml --keep none --filter task=first -q").expect(0);
    // Once more: what is there is tidied by the same rule.
    folder.run("sweep chain.yaml --keep none --filter task=first -q").expect(0);
    folder.run("sweep chain.yaml --keep none -q").expect(0);
    assert!(folder.records().iter().all(|record| record.outcome.word() == "finished"));
    let files = folder.names("runs/work").into_iter().flat_map(|id| folder.names(&format!("runs/work/{id}")));
    let files: Vec<_> = files.filter(|name| name.ends_with("safetensors")).collect();
    assert!(files.is_empty(), "now nobody starts from them: {files:?}");
}
