//! A run cut anywhere and continued ends as one that was not cut, to the last bit.

use results::{Outcome, Record};
use serde_json::Value;
use std::thread::sleep;
use std::time::Duration;
use tests::{Background, FIVE, Folder, RECALL, is_alive, mixer, signal, wait_until};

/// What a run leaves: its id, scores and curve, and both checkpoints.
fn ends(folder: &Folder, store: &str) -> Vec<(String, Record, [Vec<u8>; 2])> {
    let of = |r: Record| {
        assert_eq!(r.outcome, Outcome::Finished, "{}", mixer(&r));
        let file = |name: &str| folder.read(&format!("{store}/work/{}/{name}.safetensors", r.id));
        (r.id.clone(), r.clone(), [file("last"), file("best")])
    };
    folder.records_in(store).into_iter().map(of).collect()
}

#[track_caller]
fn assert_same_ends(folder: &Folder, whole: &str, cut: &str) {
    let (whole, cut) = (ends(folder, whole), ends(folder, cut));
    assert_eq!(whole.len(), cut.len());
    for ((id, a, files_a), (cut_id, b, files_b)) in whole.iter().zip(&cut) {
        let name = mixer(a);
        assert_eq!(id, cut_id);
        assert_eq!((a.scores, &a.curve, a.steps, a.best_step), (b.scores, &b.curve, b.steps, b.best_step), "{name}");
        assert!(files_a[0] == files_b[0], "last.safetensors of {name} differs");
        assert!(files_a[1] == files_b[1], "best.safetensors of {name} differs");
    }
}

/// Kills the sweep without a word and gives its runs; `with_runs` takes them along, as a power cut would.
fn cut(sweep: Background, with_runs: bool) -> Vec<u32> {
    let orphans = sweep.runs();
    drop(sweep);
    if with_runs {
        orphans.iter().filter(|&&pid| is_alive(pid)).for_each(|&pid| signal("KILL", pid));
    }
    orphans
}

#[test]
fn every_mixer_cut_again_and_again_ends_as_the_uncut_run() {
    // Dropout is on: the random numbers of a step must not depend on where a run was cut.
    let text = FIVE
        .replace("seeds: 2", "seeds: 1")
        .replace("steps: 10", "steps: 60, checkpoint_every: 4")
        .replace("eval_every: 5", "eval_every: 15");
    let folder = Folder::with("five.yaml", &text);
    folder.run("sweep five.yaml -j 2 --store whole -q").expect(0);
    let mut cuts = 0;
    for (milliseconds, with_runs) in [(0, false), (150, true), (400, false), (250, true), (550, false)] {
        let sweep = folder.start("sweep five.yaml -j 2");
        folder.wait_for_checkpoint();
        sleep(Duration::from_millis(milliseconds));
        cuts += usize::from(sweep.is_running());
        let orphans = cut(sweep, with_runs);
        // Left alone they notice, write a checkpoint and end; killed they are gone.
        wait_until("the orphans' end", || orphans.iter().all(|&pid| !is_alive(pid)));
    }
    assert!(cuts > 0, "the first cut comes at the first checkpoint");
    folder.run("sweep five.yaml -j 2").expect(0);
    assert_same_ends(&folder, "whole", "runs");
}

/// One mixer, six hundred steps: long enough to be caught at work.
fn long() -> String {
    format!(
        "tasks:\n  - {RECALL}\nmodel: {{ d_model: 16, n_layers: 1, dropout: 0.1, embedding_dropout: 0.1 }}\n\
         budget: {{ steps: 600, batch_size: 4, eval_every: 100, checkpoint_every: 7 }}\nmixers:\n  - attention: {{ n_heads: 2, dropout: 0.1 }}\n"
    )
}

#[test]
fn an_interrupted_sweep_says_how_to_go_on_and_ends_as_the_uncut_one() {
    let folder = Folder::with("long.yaml", &long());
    folder.run("sweep long.yaml --store whole -q").expect(0);
    let sweep = folder.start("sweep long.yaml");
    folder.wait_for_checkpoint();
    signal("INT", sweep.id());
    let ended = sweep.wait().expect(130);
    assert_eq!(ended.err.lines().last(), Some("interrupted; to go on from the checkpoints: mixarena sweep long.yaml"));
    assert_eq!(ended.out, "", "a table of half a sweep is not printed");
    let record = folder.record();
    let Outcome::Interrupted { reason } = &record.outcome else { panic!("{record:?}") };
    assert!(reason.starts_with("stopped by a signal at step ") && record.steps < 600, "{reason}");
    let again = folder.run("sweep long.yaml").expect(0);
    assert!(again.err.contains(&format!("continues from step {}", record.steps)), "{}", again.err);
    assert_eq!(folder.record().attempt, 2);
    assert_same_ends(&folder, "whole", "runs");
}

#[test]
fn a_sweep_restarted_while_orphans_of_a_killed_one_still_work_ends_as_the_uncut_one() {
    let folder = Folder::with("long.yaml", &long());
    folder.run("sweep long.yaml --store whole -q").expect(0);
    let sweep = folder.start("sweep long.yaml");
    folder.wait_for_checkpoint();
    cut(sweep, false);
    folder.run("sweep long.yaml").expect(0);
    assert_same_ends(&folder, "whole", "runs");
}

#[test]
fn a_run_cut_after_every_step_of_pretraining_and_of_the_task_ends_as_the_uncut_one() {
    let config = |objective: &str, mixers: &str| {
        format!(
            "tasks:\n  - {RECALL}\nmodel: {{ d_model: 16, n_layers: 1, dropout: 0.1, embedding_dropout: 0.1 }}\n\
             pretrain: {{ objective: {objective}, steps: 3 }}\nbudget: {{ steps: 3, batch_size: 4, eval_every: 2 }}\n\
             mixers:\n{mixers}"
        )
    };
    // Batch norm has statistics to keep as well.
    let s4 = "  - { mixer: { s4: { d_state: 4 } }, model: { block: s4 } }\n";
    for (objective, other) in
        [("mlm", "  - hydra: { d_state: 4, headdim: 8 }\n"), ("clm", "  - bigs: { directions: one }\n")]
    {
        let folder = Folder::with("pre.yaml", &config(objective, &format!("{s4}{other}")));
        folder.run("sweep pre.yaml -j 2 --store whole -q").expect(0);
        let mut starts = Vec::new();
        for id in folder.names("whole/work") {
            // Its standard input is closed: it stops after a step.
            let part = || folder.run(&format!("run whole/work/{id}/spec.json --store cut --threads 1 --events"));
            let ended = (0..10).map(|_| part()).find(|ended| {
                let started: Value = serde_json::from_str(ended.out.lines().next().expect("a line")).expect("JSON");
                starts.push(started["resumed_from"].as_u64().expect("a count"));
                ended.code != Some(130)
            });
            ended.expect("three steps and three steps").expect(0);
        }
        assert!(
            (0..6).all(|step| starts.contains(&step)),
            "cut before, at and after the end of {objective}: {starts:?}"
        );
        assert_same_ends(&folder, "whole", "cut");
        for record in folder.records_in("cut") {
            let begin = format!("pretrained by {objective} for 3 of 3 steps");
            assert!(
                record.notes.iter().any(|note| note.starts_with(&begin)) && record.steps == 3,
                "{:?}",
                record.notes
            );
        }
    }
}

#[test]
fn a_run_in_bf16_in_parts_with_layers_run_again_cut_after_every_step_ends_as_the_uncut_one() {
    let config = format!(
        "tasks:\n  - {RECALL}\nmodel: {{ d_model: 16, n_layers: 2, dropout: 0.1, embedding_dropout: 0.1, precision: bf16, \
         checkpoint_activations: true }}\npretrain: {{ objective: mlm, steps: 2 }}\n\
         budget: {{ steps: 4, batch_size: 6, micro_batch: 4, eval_every: 2 }}\nmixers:\n\
         \x20 - attention: {{ n_heads: 2, dropout: 0.1 }}\n  - {{ mixer: {{ s4: {{ d_state: 4 }} }}, model: {{ block: s4 }} }}\n\
         \x20 - hydra: {{ d_state: 4, headdim: 8 }}\n"
    );
    let folder = Folder::with("fast.yaml", &config);
    folder.run("sweep fast.yaml -j 2 --store whole -q").expect(0);
    for id in folder.names("whole/work") {
        let part = || folder.run(&format!("run whole/work/{id}/spec.json --store cut --threads 1 --events"));
        let parts = (1..10).find(|_| part().code != Some(130)).expect("two steps and four");
        assert!(parts >= 6, "cut after every step: {parts} parts");
    }
    assert_same_ends(&folder, "whole", "cut");
    for record in folder.records_in("cut") {
        let measured = |name: &str| record.measures.get(name).copied().unwrap_or_default();
        assert!(measured("model_flops_per_second") > 0.0 && measured("mfu") > 0.0, "{:?}", record.measures);
        assert!(record.tokens_per_second > 0.0, "{record:?}");
    }
}

#[test]
fn two_sweeps_at_once_share_the_work() {
    let folder = Folder::with("five.yaml", &FIVE.replace("seeds: 2", "seeds: 1"));
    let both = [folder.start("sweep five.yaml -j 1"), folder.start("sweep five.yaml -j 1")];
    let ended = both.map(|sweep| sweep.wait().expect(0));
    assert!(ended.iter().all(|e| e.err.contains(" started, ")), "each trains some:\n{ended:?}");
    assert!(ended.iter().any(|e| e.err.contains("another process is at it, left to it")), "{ended:?}");
    assert_eq!(folder.records().iter().filter(|r| r.outcome == Outcome::Finished).count(), 5);
}

#[test]
fn a_broken_checkpoint_is_a_failed_run_that_names_the_file_and_the_way_out() {
    let folder = Folder::with("long.yaml", &long());
    let dry = folder.run("sweep long.yaml -n --set budget.steps=10").expect(0);
    let id = dry.out.split_whitespace().next().expect("the id comes first");
    let path = format!("runs/work/{id}/last.safetensors");
    for bytes in [&b"not a checkpoint"[..], b"", &[0xff; 200]] {
        folder.write(&path, bytes);
        folder.run("sweep long.yaml --retry --set budget.steps=10").expect(1);
        let record = folder.record();
        let Outcome::Failed { reason } = &record.outcome else { panic!("{record:?}") };
        assert!(reason.contains("last.safetensors"), "{reason}");
        assert!(reason.ends_with("delete the file to start this run again"), "{reason}");
    }
    std::fs::remove_file(folder.path(&path)).expect("deletes the file");
    folder.run("sweep long.yaml --retry --set budget.steps=10").expect(0);
    assert_eq!(folder.record().attempt, 4);
}
