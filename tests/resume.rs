//! A run cut anywhere and continued ends as one that was not cut, to the last bit.

use results::{Outcome, Record, Store};
use serde_json::Value;
use std::thread::sleep;
use std::time::Duration;
use tests::{Background, FIVE, Folder, RECALL, mixer, signal, try_signal, wait_until};

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

/// Kills the sweep without a word; `with_runs` takes its runs along, as a power cut would.
fn cut(folder: &Folder, sweep: Background, with_runs: bool) {
    drop(sweep);
    if with_runs {
        for pid in folder.processes() {
            try_signal("KILL", pid);
        }
    }
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
        cut(&folder, sweep, with_runs);
        // Left alone its runs notice, write a checkpoint and end; killed they are gone.
        wait_until("the orphans' end", || folder.processes().is_empty());
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
    cut(&folder, sweep, false);
    folder.run("sweep long.yaml").expect(0);
    assert_same_ends(&folder, "whole", "runs");
}

/// The run of `long.yaml` at work in the store `runs`, standing still: to any sweep it is a process that outlived its own.
fn stopped_orphan(folder: &Folder) -> Background {
    let [whole] = &folder.records_in("whole")[..] else { panic!("one run") };
    let (id, threads) = (&whole.id, whole.device.threads);
    let line = format!("run whole/work/{id}/spec.json --store runs --threads {threads} --events");
    let orphan = folder.start_open(&line);
    folder.wait_for_checkpoint();
    signal("STOP", orphan.id()); // as good as a step that takes minutes
    orphan
}

/// A sweep whose run has found that another process is at it.
fn waiting_sweep(folder: &Folder) -> Background {
    let sweep = folder.start_saying("sweep long.yaml", "said.txt");
    wait_until("a run that waits", || folder.text("said.txt").contains("waits for a process of an earlier command"));
    assert!(folder.records().is_empty(), "nobody trains");
    sweep
}

#[test]
fn a_run_waits_for_an_orphan_of_its_own_and_goes_on_from_the_orphan_s_checkpoint() {
    let folder = Folder::with("long.yaml", &long());
    folder.run("sweep long.yaml --store whole -q").expect(0);
    let mut orphan = stopped_orphan(&folder);
    let sweep = waiting_sweep(&folder);
    orphan.hang_up();
    signal("CONT", orphan.id());
    orphan.wait().expect(130);
    sweep.wait().expect(0);
    let records = Store::open(folder.path("runs")).and_then(|store| store.read()).expect("a readable store").all;
    let attempts: Vec<&Record> = records.values().flat_map(|attempts| attempts.values()).collect();
    assert_eq!(attempts.iter().map(|r| r.outcome.word()).collect::<Vec<_>>(), ["interrupted", "finished"]);
    let (said, from) = (folder.text("said.txt"), format!("continues from step {}", attempts[0].steps));
    assert!(attempts[0].steps > 0 && said.contains(&from), "{from}: {said}");
    assert_same_ends(&folder, "whole", "runs");
}

#[test]
fn a_run_stopped_while_it_waits_for_an_orphan_is_interrupted() {
    let folder = Folder::with("long.yaml", &long());
    folder.run("sweep long.yaml --store whole -q").expect(0);
    let orphan = stopped_orphan(&folder);
    let sweep = waiting_sweep(&folder);
    signal("INT", sweep.id());
    sweep.wait().expect(130);
    let reason = "stopped by a signal while it waited for another process at this run";
    assert_eq!(folder.record().outcome.reason(), reason);
    drop(orphan);
    folder.run("sweep long.yaml").expect(0);
    assert_same_ends(&folder, "whole", "runs");
}

#[test]
fn a_sweep_whose_run_was_taken_over_lets_go_of_it_without_a_record() {
    let folder = Folder::with("long.yaml", &long());
    let sweep = folder.start("sweep long.yaml");
    folder.wait_for_checkpoint();
    let [run] = sweep.runs()[..] else { panic!("one run") };
    signal("STOP", run); // it is not to end before its sweep looks again
    let [id] = &folder.names("runs/work")[..] else { panic!("one run") };
    let claim = format!("runs/work/{id}/claim");
    folder.write(&claim, folder.text(&claim).replacen("\"host\":\"", "\"host\":\"far-", 1));
    let ended = sweep.wait().expect(0);
    assert!(ended.err.contains("another process took it over, left to it"), "{}", ended.err);
    assert!(ended.err.contains("1 runs are being done by another process"), "{}", ended.err);
    assert!(folder.records().is_empty() && folder.processes().is_empty(), "{}", ended.err);
    assert!(folder.text(&claim).contains("far-"), "the other's claim stays");
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
    let folder = Folder::with("five.yaml", &FIVE.replace("seeds: 2", "seeds: 1").replace("steps: 10", "steps: 300"));
    let first = folder.start("sweep five.yaml -j 1 --set budget.checkpoint_every=1");
    folder.wait_for_checkpoint();
    let [run] = first.runs()[..] else { panic!("one run at a time") };
    // The first stands still in the midst of its first run while the second goes through.
    for pid in [run, first.id()] {
        signal("STOP", pid);
    }
    let second = folder.run("sweep five.yaml -j 1").expect(0).err;
    for pid in [run, first.id()] {
        signal("CONT", pid);
    }
    let first = first.wait().expect(0).err;
    assert_eq!((first.matches(" started, ").count(), second.matches(" started, ").count()), (1, 4), "{first}{second}");
    assert_eq!(second.matches("another process is at it, left to it").count(), 1, "{second}");
    assert_eq!(first.matches("done by another process meanwhile").count(), 4, "{first}");
    let attempts = folder.names("runs/records").len();
    assert_eq!((folder.records().iter().filter(|r| r.outcome == Outcome::Finished).count(), attempts), (5, 5));
}

#[test]
fn two_sweeps_begun_at_once_leave_one_record_a_run() {
    let folder = Folder::with("five.yaml", &FIVE.replace("seeds: 2", "seeds: 1"));
    let both = [folder.start("sweep five.yaml -j 1"), folder.start("sweep five.yaml -j 1")];
    let ended = both.map(|sweep| sweep.wait().expect(0));
    let attempts = folder.names("runs/records").len();
    assert_eq!(
        (folder.records().iter().filter(|r| r.outcome == Outcome::Finished).count(), attempts),
        (5, 5),
        "{ended:?}"
    );
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
