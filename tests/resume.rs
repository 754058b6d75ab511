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
    folder.run("sweep five.yaml --keep all -j 2 --store whole -q").expect(0);
    let mut cuts = 0;
    for (milliseconds, with_runs) in [(0, false), (150, true), (400, false), (250, true), (550, false)] {
        let sweep = folder.start("sweep five.yaml --keep all -j 2");
        folder.wait_for_checkpoint();
        sleep(Duration::from_millis(milliseconds));
        cuts += usize::from(sweep.is_running());
        cut(&folder, sweep, with_runs);
        // Left alone its runs notice, write a checkpoint and end; killed they are gone.
        wait_until("the orphans' end", || folder.processes().is_empty());
    }
    assert!(cuts > 0, "the first cut comes at the first checkpoint");
    folder.run("sweep five.yaml --keep all -j 2").expect(0);
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
    folder.run("sweep long.yaml --keep all --store whole -q").expect(0);
    let sweep = folder.start("sweep long.yaml --keep all");
    folder.wait_for_checkpoint();
    signal("INT", sweep.id());
    let ended = sweep.wait().expect(130);
    assert_eq!(
        ended.err.lines().last(),
        Some("interrupted; to go on from the checkpoints: mixarena sweep long.yaml --keep all")
    );
    assert_eq!(ended.out, "", "a table of half a sweep is not printed");
    let record = folder.record();
    let Outcome::Interrupted { reason } = &record.outcome else { panic!("{record:?}") };
    assert!(reason.starts_with("stopped by a signal at step ") && record.steps < 600, "{reason}");
    let again = folder.run("sweep long.yaml --keep all").expect(0);
    assert!(again.err.contains(&format!("continues from step {}", record.steps)), "{}", again.err);
    assert_eq!(folder.record().attempt, 2);
    assert_same_ends(&folder, "whole", "runs");
}

#[test]
fn a_sweep_restarted_while_orphans_of_a_killed_one_still_work_ends_as_the_uncut_one() {
    let folder = Folder::with("long.yaml", &long());
    folder.run("sweep long.yaml --keep all --store whole -q").expect(0);
    let sweep = folder.start("sweep long.yaml --keep all");
    folder.wait_for_checkpoint();
    cut(&folder, sweep, false);
    folder.run("sweep long.yaml --keep all").expect(0);
    assert_same_ends(&folder, "whole", "runs");
}

/// The run of `long.yaml` at work in the store `runs`, standing still: to any sweep it is a process that outlived its own.
fn stopped_orphan(folder: &Folder) -> Background {
    let [whole] = &folder.records_in("whole")[..] else { panic!("one run") };
    let (id, threads) = (&whole.id, whole.device.threads);
    let line = format!("run whole/work/{id}/spec.json --store runs --threads {threads} --keep all --events");
    let orphan = folder.start_open(&line);
    folder.wait_for_checkpoint();
    signal("STOP", orphan.id()); // as good as a step that takes minutes
    orphan
}

/// A sweep whose run has found that another process is at it.
fn waiting_sweep(folder: &Folder) -> Background {
    let sweep = folder.start_saying("sweep long.yaml --keep all", "said.txt");
    wait_until("a run that waits", || folder.text("said.txt").contains("waits for a process of an earlier command"));
    assert!(folder.records().is_empty(), "nobody trains");
    sweep
}

#[test]
fn a_run_waits_for_an_orphan_of_its_own_and_goes_on_from_the_orphan_s_checkpoint() {
    let folder = Folder::with("long.yaml", &long());
    folder.run("sweep long.yaml --keep all --store whole -q").expect(0);
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
    folder.run("sweep long.yaml --keep all --store whole -q").expect(0);
    let orphan = stopped_orphan(&folder);
    let sweep = waiting_sweep(&folder);
    signal("INT", sweep.id());
    sweep.wait().expect(130);
    let reason = "stopped by a signal while it waited for another process at this run";
    assert_eq!(folder.record().outcome.reason(), reason);
    drop(orphan);
    folder.run("sweep long.yaml --keep all").expect(0);
    assert_same_ends(&folder, "whole", "runs");
}

#[test]
fn a_sweep_whose_run_was_taken_over_lets_go_of_it_without_a_record() {
    let folder = Folder::with("long.yaml", &long());
    let sweep = folder.start("sweep long.yaml --keep all");
    folder.wait_for_checkpoint();
    let [run] = sweep.runs()[..] else { panic!("one run") };
    signal("STOP", run); // it is not to end before its sweep looks again
    let [id] = &folder.names("runs/work")[..] else { panic!("one run") };
    let claim = format!("runs/work/{id}/claim");
    folder.write(&claim, folder.text(&claim).replacen("\"host\":\"", "\"host\":\"far-", 1));
    let ended = sweep.wait().expect(4);
    assert!(ended.err.contains("another process took it over and runs it"), "{}", ended.err);
    assert!(ended.err.contains("1 run is being done by another process"), "{}", ended.err);
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
        folder.run("sweep pre.yaml --keep all -j 2 --store whole -q").expect(0);
        let mut starts = Vec::new();
        for id in folder.names("whole/work") {
            // Its standard input is closed: it stops after a step.
            let part =
                || folder.run(&format!("run whole/work/{id}/spec.json --store cut --threads 1 --keep all --events"));
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
    folder.run("sweep fast.yaml --keep all -j 2 --store whole -q").expect(0);
    for id in folder.names("whole/work") {
        let part = || folder.run(&format!("run whole/work/{id}/spec.json --store cut --threads 1 --keep all --events"));
        let parts = (1..10).find(|_| part().code != Some(130)).expect("two steps and four");
        assert!(parts >= 6, "cut after every step: {parts} parts");
    }
    assert_same_ends(&folder, "whole", "cut");
    for record in folder.records_in("cut") {
        let measured = |name: &str| record.measures.get(name).copied().unwrap_or_default();
        assert!(measured("model_flops_per_second") > 0.0, "{:?}", record.measures);
        // The machine was measured before the first step; a share above 1 is left out.
        assert!((0.0..=1.0).contains(&measured("mfu")), "{:?}", record.measures);
        assert!(record.tokens_per_second > 0.0, "{record:?}");
    }
}

#[test]
fn two_sweeps_at_once_share_the_work() {
    let folder = Folder::with("five.yaml", &FIVE.replace("seeds: 2", "seeds: 1").replace("steps: 10", "steps: 300"));
    let first = folder.start("sweep five.yaml --keep all -j 1 --set budget.checkpoint_every=1");
    folder.wait_for_checkpoint();
    let [run] = first.runs()[..] else { panic!("one run at a time") };
    // The first stands still in the midst of its first run while the second goes through.
    for pid in [run, first.id()] {
        signal("STOP", pid);
    }
    let second = folder.run("sweep five.yaml --keep all -j 1").expect(4).err;
    for pid in [run, first.id()] {
        signal("CONT", pid);
    }
    let first = first.wait().expect(0).err;
    assert_eq!((first.matches(" started, ").count(), second.matches(" started, ").count()), (1, 4), "{first}{second}");
    assert_eq!(second.matches("skipped: another process is running it").count(), 1, "{second}");
    assert!(second.contains("1 run is being done by another process"), "{second}");
    assert_eq!(first.matches("done by another process meanwhile").count(), 4, "{first}");
    let attempts = folder.names("runs/records").len();
    assert_eq!((folder.records().iter().filter(|r| r.outcome == Outcome::Finished).count(), attempts), (5, 5));
}

#[test]
fn two_sweeps_begun_at_once_leave_one_record_a_run() {
    let folder = Folder::with("five.yaml", &FIVE.replace("seeds: 2", "seeds: 1"));
    let both = [folder.start("sweep five.yaml --keep all -j 1"), folder.start("sweep five.yaml --keep all -j 1")];
    let ended = both.map(Background::wait);
    // Who is through first may find the other at its last run.
    assert!(ended.iter().all(|one| matches!(one.code, Some(0 | 4))), "{ended:?}");
    let attempts = folder.names("runs/records").len();
    assert_eq!(
        (folder.records().iter().filter(|r| r.outcome == Outcome::Finished).count(), attempts),
        (5, 5),
        "{ended:?}"
    );
}

/// Two runs that differ by their seed, sixteen steps each.
const SEEDS: &str = "seeds: 2\ntasks:\n  - mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false, train_examples: 200, validation_examples: 20, test_examples: 30 }\n\
                     model: { d_model: 16, n_layers: 1, dropout: 0.1 }\nbudget: { steps: 16, batch_size: 4, eval_every: 3 }\nmixers:\n  - attention: { n_heads: 2 }\n";

/// Takes every run of `whole` in the store `store` so far that `enough` says so; after each step it stops.
fn partly(folder: &Folder, store: &str, enough: impl Fn(&str) -> bool) {
    for id in folder.names("whole/work") {
        let line = format!("run whole/work/{id}/spec.json --store {store} --threads 1 --keep all --events");
        while !enough(&id) {
            folder.run(&line).expect(130);
        }
    }
}

/// What a record says of the run's checkpoints and threads: of its data it speaks as well.
fn remarks(record: &Record) -> String {
    let own = |note: &&String| note.contains(".safetensors ") || note.contains(" threads, as it began");
    record.notes.iter().filter(own).cloned().collect::<Vec<_>>().join("\n")
}

/// What a checkpoint's header says of training.
fn header(folder: &Folder, store: &str, id: &str, part: &str) -> Value {
    let Ok(bytes) = std::fs::read(folder.path(&format!("{store}/work/{id}/{part}.safetensors"))) else {
        return Value::Null;
    };
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("a length")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("JSON");
    serde_json::from_str(header["__metadata__"]["mixarena"].as_str().expect("a text")).expect("JSON")
}

fn copy(folder: &Folder, from: &str, to: &str) {
    for path in ["work", "records", "sweeps"] {
        std::fs::create_dir_all(folder.path(&format!("{to}/{path}"))).expect("makes folders");
    }
    for id in folder.names(&format!("{from}/work")) {
        for name in folder.names(&format!("{from}/work/{id}")) {
            folder.write(&format!("{to}/work/{id}/{name}"), folder.read(&format!("{from}/work/{id}/{name}")));
        }
    }
}

#[test]
fn a_last_checkpoint_that_is_of_no_use_begins_the_run_again_and_its_record_says_so() {
    let folder = Folder::with("seeds.yaml", SEEDS);
    folder.run("sweep seeds.yaml --keep all --threads 1 --store whole -q").expect(0);
    let step = |id: &str| header(&folder, "half", id, "last")["state"]["step"].as_u64().unwrap_or(0);
    partly(&folder, "half", |id| step(id) >= 5);
    let ids = folder.names("half/work");
    let [first, second] = &ids[..] else { panic!("two runs") };
    let good = folder.read(&format!("half/work/{first}/last.safetensors"));
    let other = folder.read(&format!("half/work/{second}/last.safetensors"));
    let best = folder.read(&format!("half/work/{first}/best.safetensors"));
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 0x10;
        bytes
    };
    let length = good.len();
    let cases: [(&str, Vec<u8>, &str); 8] = [
        ("a flipped bit of a tensor", flipped(length - 9), "is damaged"),
        ("a flipped bit of a moment", flipped(length / 2), "is damaged"),
        ("a flipped bit of the state", flipped(300), "trained again from the start"),
        ("a file cut short", good[..length - 3].to_vec(), "trained again from the start"),
        ("no checkpoint", b"not a checkpoint".to_vec(), "trained again from the start"),
        ("an empty file", Vec::new(), "trained again from the start"),
        ("another run's", other, "is a checkpoint of run"),
        ("the other part", best, "holds the `best` checkpoint"),
    ];
    for (what, bytes, said) in cases {
        let store = what.replace([' ', '\''], "_");
        copy(&folder, "half", &store);
        folder.write(&format!("{store}/work/{first}/last.safetensors"), bytes);
        let ended = folder.run(&format!("sweep seeds.yaml --keep all --threads 1 --store {store}")).expect(0);
        assert_same_ends(&folder, "whole", &store);
        let records = folder.records_in(&store);
        let notes = |id: &str| remarks(records.iter().find(|r| r.id == id).expect("a record"));
        let note = notes(first);
        assert!(note.contains("last.safetensors") && note.contains(said), "{what}: {note}");
        assert!(note.ends_with("trained again from the start"), "{what}: {note}");
        assert_eq!(notes(second), "", "{what}");
        assert!(ended.err.contains("trained again from the start"), "{what}: {}", ended.err);
    }
    copy(&folder, "half", "untouched");
    folder.run("sweep seeds.yaml --keep all --threads 1 --store untouched -q").expect(0);
    assert_same_ends(&folder, "whole", "untouched");
    assert!(folder.records_in("untouched").iter().all(|record| remarks(record).is_empty()));
}

#[test]
fn best_weights_of_a_trained_run_that_are_of_no_use_are_trained_again() {
    let folder = Folder::with("seeds.yaml", &SEEDS.replace("seeds: 2", "seeds: 1"));
    folder.run("sweep seeds.yaml --keep all --threads 1 --store whole -q").expect(0);
    let trained = |id: &str| header(&folder, "half", id, "last")["state"]["trained"] == true;
    partly(&folder, "half", trained);
    let [id] = &folder.names("half/work")[..] else { panic!("one run") };
    let path = |store: &str| format!("{store}/work/{id}/best.safetensors");
    let good = folder.read(&path("half"));
    let mut flipped = good.clone();
    *flipped.last_mut().expect("tensors") ^= 1;
    // That of an evaluation before the best one.
    partly(&folder, "early", |id| folder.path(&format!("early/work/{id}/best.safetensors")).exists());
    let early = folder.read(&path("early"));
    assert_ne!(header(&folder, "early", id, "best")["state"], header(&folder, "half", id, "best")["state"]);
    let cases: [(&str, Option<Vec<u8>>); 4] =
        [("gone", None), ("empty", Some(Vec::new())), ("flipped", Some(flipped)), ("earlier", Some(early))];
    for (store, bytes) in cases {
        copy(&folder, "half", store);
        match bytes {
            Some(bytes) => folder.write(&path(store), bytes),
            None => std::fs::remove_file(folder.path(&path(store))).expect("removes"),
        }
        folder.run(&format!("sweep seeds.yaml --keep all --threads 1 --store {store}")).expect(0);
        assert_same_ends(&folder, "whole", store);
        let [record] = &folder.records_in(store)[..] else { panic!("one run") };
        let note = remarks(record);
        assert!(note.starts_with("best.safetensors ") && note.ends_with("trained again from the start"), "{note}");
    }
}

#[test]
fn a_kill_between_the_best_checkpoint_and_the_last_changes_nothing() {
    let folder = Folder::with("seeds.yaml", &SEEDS.replace("seeds: 2", "seeds: 1"));
    folder.run("sweep seeds.yaml --keep all --threads 1 --store whole -q").expect(0);
    let step = |store: &str, id: &str, part: &str| header(&folder, store, id, part)["state"]["step"].as_u64();
    partly(&folder, "half", |id| step("half", id, "last") == Some(5));
    let [id] = &folder.names("half/work")[..] else { panic!("one run") };
    assert_eq!(step("half", id, "best"), Some(3));
    copy(&folder, "half", "later");
    partly(&folder, "later", |id| step("later", id, "best") > Some(3));
    folder
        .write(&format!("half/work/{id}/best.safetensors"), folder.read(&format!("later/work/{id}/best.safetensors")));
    folder.run("sweep seeds.yaml --keep all --threads 1 --store half").expect(0);
    assert_same_ends(&folder, "whole", "half");
    assert!(remarks(&folder.records_in("half")[0]).is_empty());
}

#[test]
fn a_run_goes_on_with_the_threads_it_began_with_and_a_sweep_s_threads_do_not_follow_what_is_left() {
    let folder = Folder::with("seeds.yaml", SEEDS).measuring();
    folder.run("sweep seeds.yaml --keep all -j 1 --threads 2 --store whole -q").expect(0);
    let threads = |store: &str| folder.records_in(store).iter().map(|r| r.device.threads).collect::<Vec<_>>();
    assert_eq!(threads("whole"), [2, 2]);
    // One run is begun with two threads, and gone on with by a command that says one.
    let id = &folder.names("whole/work")[0];
    let line = format!("run whole/work/{id}/spec.json --store half --keep all --events");
    folder.run(&format!("{line} --threads 2")).expect(130);
    folder.run("sweep seeds.yaml --keep all --threads 1 --store half").expect(0);
    for record in folder.records_in("half") {
        let note = remarks(&record);
        let (threads, said) =
            if record.id == *id { (2, "went on with 2 threads, as it began, and not with 1") } else { (1, "") };
        assert!(
            record.device.threads == threads && note.starts_with(said) && note.is_empty() == said.is_empty(),
            "{note}"
        );
    }
    // Its share of the machine's speed is one of two threads' too.
    let speed = |threads: u64| {
        let figures = folder.measured();
        let figures: Vec<Value> = figures.iter().map(|text| serde_json::from_str(text).expect("JSON")).collect();
        let figure = figures.iter().find(|figure| figure["threads"] == threads).expect("measured");
        figure["flops_per_second"].as_f64().expect("a number")
    };
    assert_ne!(speed(1), speed(2));
    for record in folder.records_in("half") {
        let measured = |name: &str| record.measures[name];
        let of = measured("model_flops_per_second") / measured("mfu");
        let threads = if record.id == *id { 2 } else { 1 };
        assert!((of / speed(threads) - 1.0).abs() < 1e-9, "{of} of {}", speed(threads));
    }
    let file = |store: &str| folder.read(&format!("{store}/work/{id}/last.safetensors"));
    assert!(file("whole") == file("half"), "the run that began with two threads differs");
    // Of two runs one is left: it gets no more threads than the first had.
    folder.run("sweep seeds.yaml --keep all -j 2 --limit 1 --store two -q").expect(0);
    let first = threads("two")[0];
    let said = folder.run("sweep seeds.yaml --keep all -j 2 --store two").expect(0).err;
    assert!(said.contains(&format!("1 to do, 1 at a time with {first} thread")), "{said}");
    assert_eq!(threads("two"), [first, first]);
}

#[test]
fn a_run_that_an_orphan_finishes_meanwhile_is_not_done_twice() {
    let folder = Folder::with("long.yaml", &long());
    folder.run("sweep long.yaml --keep all --store whole -q").expect(0);
    let orphan = stopped_orphan(&folder);
    let sweep = waiting_sweep(&folder);
    signal("CONT", orphan.id());
    // The orphan's standard input stays open: it goes on to its end.
    let ended = sweep.wait().expect(0);
    orphan.wait().expect(0);
    assert!(folder.text("said.txt").contains("was done by another process meanwhile"), "{}", folder.text("said.txt"));
    assert!(ended.out.contains(" 1/1 "), "{}", ended.out);
    assert_eq!(folder.names("runs/records").len(), 1);
    assert_same_ends(&folder, "whole", "runs");
}

#[test]
fn a_finished_run_keeps_its_best_weights_and_by_a_setting_all_or_none() {
    let text = SEEDS.replace("seeds: 2", "seeds: 1");
    let folder = Folder::with("seeds.yaml", &text);
    let left = |store: &str| {
        let [id] = &folder.names(&format!("{store}/work"))[..] else { panic!("one run") };
        folder
            .names(&format!("{store}/work/{id}"))
            .into_iter()
            .filter(|name| name.ends_with("safetensors"))
            .collect::<Vec<_>>()
    };
    for (keep, wanted) in
        [("best", vec!["best.safetensors"]), ("all", vec!["best.safetensors", "last.safetensors"]), ("none", vec![])]
    {
        folder.run(&format!("sweep seeds.yaml --keep {keep} --store {keep} -q")).expect(0);
        assert_eq!(left(keep), wanted);
    }
    // What was kept goes when the same command says so, and what a kill left half-written goes in any case.
    let [id] = &folder.names("all/work")[..] else { panic!("one run") };
    folder.write(&format!("all/work/{id}/.last.safetensors.0123456789abcdef-1-1.0.tmp"), "another machine's");
    let here = folder.run("sweep seeds.yaml --store all -q").expect(0);
    assert!(here.err.is_empty(), "{}", here.err);
    assert_eq!(left("all"), ["best.safetensors"]);
    assert!(folder.names(&format!("all/work/{id}")).iter().any(|name| name.ends_with(".tmp")), "it may be at work");
}
