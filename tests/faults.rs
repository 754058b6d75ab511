//! Whatever a run dies of becomes a row with its reason, and the others go on.

use results::{Outcome, Record};
use std::fs::File;
use std::process::Stdio;
use tests::{Folder, RECALL, mixer, signal, try_signal, wait_until};

/// A config whose task and model are small; `mixers` is the list's text.
fn config(mixers: &str) -> String {
    format!(
        "tasks:\n  - {RECALL}\nmodel: {{ d_model: 16, n_layers: 1 }}\n\
         budget: {{ steps: 20, batch_size: 8, eval_every: 10 }}\nmixers:\n{mixers}"
    )
}

const GOOD: &str = "  - attention: { n_heads: 2 }\n";
const WILD: &str =
    "  - { name: wild, mixer: { attention: { n_heads: 2 } }, optimizer: { lr: 1e30, clip_norm: null } }\n";
const WIDE: &str = "  - { name: wide, mixer: { attention: { n_heads: 2 } }, model: { d_model: 65536 } }\n";
const SLOW: &str = "  - { name: slow, mixer: { s4: { d_state: 4 } }, budget: { timeout_minutes: 1e-6 } }\n";
/// Far from its end when something happens to it; writes a checkpoint at every step.
const ENDLESS: &str =
    "  - { name: endless, mixer: { combiner: { n_heads: 2 } }, budget: { steps: 20000, checkpoint_every: 1 } }\n";

fn of<'a>(records: &'a [Record], name: &str) -> &'a Record {
    records.iter().find(|r| mixer(r) == name).unwrap_or_else(|| panic!("no record of {name}"))
}

#[test]
fn bad_runs_are_rows_with_their_reasons_and_the_good_one_finishes() {
    let folder = Folder::with("faults.yaml", &config(&[WILD, WIDE, SLOW, GOOD].concat()));
    let ended = folder.run("sweep faults.yaml").expect(1);
    let row = |name: &str| {
        let mut rows = ended.out.lines().filter(|line| line.split_whitespace().nth(1) == Some(name));
        rows.next().unwrap_or_else(|| panic!("no row of {name}:\n{}", ended.out)).to_string()
    };
    assert!(row("attention").contains(" 1/1 "), "{}", ended.out);
    assert!(row("wild").contains("1 diverged"), "{}", ended.out);
    assert!(row("wide").contains("1 failed"), "{}", ended.out);
    assert!(row("slow").contains("1 timed out"), "{}", ended.out);
    for reason in [
        "training loss is NaN at step 2",
        "out of memory: asked for ",
        "passed its limit of 0.000001 minutes at step 1 of 20",
    ] {
        assert!(ended.out.contains(reason), "{reason}:\n{}", ended.out);
        assert!(folder.text("runs/reports/faults/report.md").contains(reason), "{reason}");
    }
    assert!(ended.err.contains("3 of 4 runs did not finish; --retry tries them again"), "{}", ended.err);
    let words: Vec<_> = folder.records().iter().map(|r| r.outcome.word()).collect();
    for word in ["finished", "diverged", "failed", "timed_out"] {
        assert_eq!(words.iter().filter(|w| **w == word).count(), 1, "{words:?}");
    }
    // A failed run is an end: it is not tried again unless that is asked for.
    let again = folder.run("sweep faults.yaml").expect(1);
    assert!(again.err.starts_with("faults: 4 runs planned, nothing left to do"), "{}", again.err);
    assert_eq!((again.out, folder.names("runs/records").len()), (ended.out, 4));
    // One that only lacked time goes on when it is given some.
    folder.write("faults.yaml", folder.text("faults.yaml").replace("1e-6", "10"));
    let retried = folder.run("sweep faults.yaml --retry --filter mixer=slow").expect(0);
    assert!(
        retried.err.contains("1 planned, 1 to do") || retried.err.contains("1 runs planned, 1 to do"),
        "{}",
        retried.err
    );
    let records = folder.records();
    assert_eq!((&of(&records, "s4").outcome, of(&records, "s4").attempt), (&Outcome::Finished, 2));
}

#[test]
fn after_the_first_failure_a_sweep_that_fails_fast_starts_no_more() {
    let folder = Folder::with("faults.yaml", &config(&[WILD, GOOD].concat()));
    let ended = folder.run("sweep faults.yaml --fail-fast -j 1").expect(1);
    let record = folder.record();
    assert!(matches!(record.outcome, Outcome::Diverged { .. }), "{record:?}");
    assert!(ended.out.contains("1 missing"), "{}", ended.out);
}

#[test]
fn a_killed_child_is_a_failed_row_the_others_finish_and_a_retry_goes_on() {
    let folder = Folder::with("faults.yaml", &config(&[ENDLESS, GOOD].concat()));
    let sweep = folder.start("sweep faults.yaml -j 1");
    folder.wait_for_checkpoint();
    let [run] = sweep.runs()[..] else { panic!("one run at a time") };
    signal("KILL", run);
    let ended = sweep.wait().expect(1);
    let records = folder.records();
    assert_eq!(of(&records, "attention").outcome, Outcome::Finished);
    let killed = of(&records, "combiner");
    assert_eq!(killed.outcome.word(), "failed");
    assert!(killed.outcome.reason().starts_with("killed by SIGKILL"), "{}", killed.outcome.reason());
    assert!(ended.out.contains("endless") && ended.out.contains("killed by SIGKILL"), "{}", ended.out);

    let checkpoint = folder.path(&format!("runs/work/{}/last.safetensors", killed.id));
    let written = || std::fs::metadata(&checkpoint).and_then(|m| m.modified()).expect("a checkpoint");
    let before = written();
    let retry = folder.start("sweep faults.yaml --retry");
    wait_until("another checkpoint", || written() > before);
    signal("TERM", retry.id());
    let ended = retry.wait().expect(130);
    assert!(ended.err.contains(" parameters, continues from step "), "{}", ended.err);
    let records = folder.records();
    let (endless, good) = (of(&records, "combiner"), of(&records, "attention"));
    assert_eq!((endless.outcome.word(), endless.attempt), ("interrupted", 2));
    assert_eq!(good.attempt, 1, "what has finished is left alone");
}

#[test]
fn a_run_that_aborts_is_told_apart_from_one_that_was_killed() {
    let folder = Folder::with("faults.yaml", &config(ENDLESS));
    let sweep = folder.start("sweep faults.yaml");
    folder.wait_for_checkpoint();
    let [run] = sweep.runs()[..] else { panic!("one run") };
    signal("ABRT", run);
    sweep.wait().expect(1);
    assert_eq!(folder.record().outcome.reason(), "aborted (SIGABRT)");
}

#[test]
fn a_record_that_was_torn_is_named_and_passed_over() {
    let folder = Folder::with("faults.yaml", &config(GOOD));
    folder.run("sweep faults.yaml -q").expect(0);
    let [name] = &folder.names("runs/records")[..] else { panic!("one record") };
    let text = folder.text(&format!("runs/records/{name}"));
    folder.write(&format!("runs/records/{name}"), &text[..text.len() / 2]);
    let again = folder.run("sweep faults.yaml").expect(0);
    assert!(again.err.contains(&format!("warning: records/{name}: skipped: ")), "{}", again.err);
    assert!(again.out.contains(" 1/1 "), "{}", again.out);
    assert_eq!(folder.record().attempt, 2);
}

#[test]
fn a_report_stays_in_its_store_and_names_every_manifest_that_is_none() {
    let folder = Folder::with("tiny.yaml", &config(GOOD));
    folder.run("sweep tiny.yaml").expect(0);
    let manifest = folder.text("runs/sweeps/tiny.json");
    let outside = folder.path("outside");
    for (file, name) in [("up", "../../up"), ("rooted", outside.to_str().expect("a path")), ("copy", "tiny")] {
        folder.write(&format!("runs/sweeps/{file}.json"), manifest.replacen("\"tiny\"", &format!("{name:?}"), 1));
    }
    folder.write("runs/sweeps/torn.json", &manifest[..50]);
    folder.write("runs/sweeps/empty.json", "");
    let before = (folder.names("."), folder.names("runs/reports"));
    let ended = folder.run("report runs").expect(0);
    assert_eq!((folder.names("."), folder.names("runs/reports")), before, "nothing is written elsewhere");
    for (file, why) in [
        ("up", "cannot be a file's name"),
        ("rooted", "cannot be a file's name"),
        ("copy", "its name does not match its content (`tiny`)"),
        ("torn", "torn or not JSON"),
        ("empty", "it is empty"),
    ] {
        let said = format!("warning: sweeps/{file}.json: skipped: ");
        assert!(ended.err.lines().any(|line| line.starts_with(&said) && line.contains(why)), "{file}: {}", ended.err);
    }
    assert!(ended.out.contains("attention"), "{}", ended.out);
    let asked = folder.run("report runs --sweep torn").expect(3);
    assert!(asked.err.contains("sweeps/torn.json: torn or not JSON"), "{}", asked.err);
    std::fs::remove_file(folder.path("runs/sweeps/tiny.json")).expect("removes");
    assert!(folder.run("report runs").expect(3).err.contains("has no sweep that can be read"));
}

#[test]
fn a_pipe_among_the_records_is_named_and_not_waited_for() {
    let folder = Folder::with("tiny.yaml", &config(GOOD));
    folder.run("sweep tiny.yaml").expect(0);
    let record = folder.path("runs/records").join(&folder.names("runs/records")[0]);
    std::fs::remove_file(&record).expect("removes");
    for pipe in [record, folder.path("runs/sweeps/pipe.json")] {
        let made = std::process::Command::new("mkfifo").arg(pipe).status().expect("mkfifo runs");
        assert!(made.success());
    }
    let ended = folder.run("report runs").expect(0);
    assert_eq!(ended.err.matches("it is not a regular file").count(), 2, "{}", ended.err);
    assert!(ended.out.contains("1 missing"), "{}", ended.out);
    let planned = folder.run("sweep tiny.yaml -n").expect(0);
    assert!(planned.err.contains("1 to do") && planned.err.contains("it is not a regular file"), "{}", planned.err);
}

#[test]
fn a_sweep_and_its_run_asked_to_end_at_one_moment_are_interrupted_wherever_that_strikes_them() {
    let folder = Folder::with("faults.yaml", &config(ENDLESS));
    // As a service manager does it, when the run is not yet more than a process that links its libraries, and later.
    for pause in [0, 100, 300, 600] {
        let sweep = folder.start("sweep faults.yaml");
        wait_until("a run", || !sweep.runs().is_empty());
        std::thread::sleep(std::time::Duration::from_millis(pause));
        let runs = sweep.runs();
        for pid in runs.iter().chain([&sweep.id()]) {
            for name in ["TERM", "HUP"] {
                try_signal(name, *pid);
            }
        }
        let ended = sweep.wait().expect(130);
        assert!(ended.err.contains("interrupted; to go on"), "{}", ended.err);
        let record = folder.record();
        assert_eq!(record.outcome.word(), "interrupted", "after {pause} ms: {}", record.outcome.reason());
    }
    let plan = folder.run("sweep faults.yaml -n").expect(0);
    assert!(plan.err.contains("1 to do"), "the same command goes on: {}", plan.err);
}

#[test]
fn what_was_ignored_when_a_sweep_began_stays_ignored() {
    let folder = Folder::with("faults.yaml", &config(GOOD).replace("steps: 20", "steps: 400"));
    for name in ["HUP", "INT"] {
        let store = format!("runs-{name}");
        let sweep = folder.start_ignoring(name, &format!("sweep faults.yaml --store {store}"));
        wait_until("a run", || !sweep.runs().is_empty());
        for pid in sweep.runs().into_iter().chain([sweep.id()]) {
            try_signal(name, pid);
        }
        sweep.wait().expect(0);
        assert_eq!(folder.records_in(&store)[0].outcome, Outcome::Finished);
    }
}

#[test]
fn what_cannot_be_printed_neither_ends_a_sweep_nor_is_taken_for_printed() {
    let folder = Folder::with("faults.yaml", &config(GOOD));
    let full = || Stdio::from(File::options().write(true).open("/dev/full").expect("Linux"));
    let closed = || {
        let (reader, writer) = std::io::pipe().expect("a pipe");
        drop(reader);
        Stdio::from(writer)
    };
    let run = |line: &str, out: Stdio, err: Stdio| {
        folder.command(line).stdout(out).stderr(err).status().expect("the binary starts").code()
    };
    assert_eq!(run("sweep faults.yaml --store a", Stdio::null(), full()), Some(0));
    assert_eq!(run("sweep faults.yaml --store b -v", Stdio::null(), closed()), Some(0));
    assert_eq!(run("sweep faults.yaml --store c", full(), full()), Some(3), "the table was lost");
    assert_eq!(run("sweep faults.yaml --store d", closed(), closed()), Some(0), "nobody wants the table");
    for store in ["a", "b", "c", "d"] {
        let [record] = &folder.records_in(store)[..] else { panic!("one record in {store}") };
        assert_eq!(record.outcome, Outcome::Finished, "{store}");
    }
    // Other commands say so, and end quietly where the reader has had enough.
    let full = folder.command("list mixers").stdout(full()).output().expect("the binary starts");
    let said = String::from_utf8_lossy(&full.stderr);
    assert!(full.status.code() == Some(3) && said.contains("standard output could not be written"), "{said}");
    let closed = folder.command("list mixers").stdout(closed()).output().expect("the binary starts");
    assert_eq!((closed.status.code(), closed.stderr.len()), (Some(141), 0));
}

#[test]
fn a_run_by_hand_that_memory_does_not_suffice_for_leaves_a_record() {
    let folder = Folder::with("faults.yaml", &config(GOOD));
    folder.run("sweep faults.yaml -q").expect(0);
    let id = &folder.record().id;
    for bytes in [1_000_000, 50_000_000] {
        let store = format!("small-{bytes}");
        let ended = folder.run(&format!("run runs/work/{id}/spec.json --store {store} --memory {bytes}"));
        let [record] = &folder.records_in(&store)[..] else { panic!("one record: {}", ended.err) };
        assert_eq!((ended.code, record.outcome.word()), (Some(1), "failed"), "{}", ended.err);
        assert!(ended.err.contains("failed - "), "{}", ended.err);
    }
    let again = folder.run(&format!("run runs/work/{id}/spec.json")).expect(0);
    assert!(again.err.contains("has finished already"), "{}", again.err);
    assert_eq!(folder.names("runs/records").len(), 1);
}

#[test]
fn a_finished_sweep_in_a_store_that_cannot_be_written_prints_its_table() {
    let folder = Folder::with("faults.yaml", &config(GOOD));
    let first = folder.run("sweep faults.yaml").expect(0);
    // A folder where the file should go: root, as whom tests may run, writes to what is read-only.
    std::fs::remove_file(folder.path("runs/sweeps/faults.json")).expect("removes");
    folder.write("runs/sweeps/faults.json/x", "");
    let again = folder.run("sweep faults.yaml").expect(3);
    assert_eq!(again.out, first.out);
    assert!(again.err.contains("cannot write the manifest"), "{}", again.err);
}

#[test]
fn a_sweep_whose_report_cannot_be_written_has_no_failed_run() {
    let folder = Folder::with("faults.yaml", &config(GOOD));
    folder.write("runs/reports/faults", "a file where the folder should be");
    let ended = folder.run("sweep faults.yaml").expect(3);
    assert!(ended.err.contains("the report could not be written") && ended.out.contains(" 1/1 "), "{}", ended.err);
    assert_eq!(folder.record().outcome, Outcome::Finished);
}

#[test]
fn a_spec_of_another_version_of_its_task_is_not_trained_under_the_old_name() {
    let folder = Folder::with("faults.yaml", &config(GOOD));
    folder.run("sweep faults.yaml -q").expect(0);
    let spec = folder.text(&format!("runs/work/{}/spec.json", folder.record().id));
    folder.write("other.json", spec.replacen("\"task_version\": 1", "\"task_version\": 2", 1));
    folder.run("run other.json --store other").expect(1);
    let [record] = &folder.records_in("other")[..] else { panic!("one record") };
    let reason = "task_version: made for version 2 of `mqar`, and this build has 1";
    assert_eq!((record.outcome.reason(), record.steps), (reason, 0));
}

/// The kill test with this program in place of `mixarena`.
fn chaos(folder: &Folder, program: &str, arguments: &[&str]) -> tests::Ended {
    folder.write("program", program);
    let path = folder.path("program");
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, executable).expect("it is ours");
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts/chaos.sh");
    let mut command = std::process::Command::new("bash");
    command.arg(script).arg("-b").arg(path).arg("-d").arg(folder.path("work")).args(arguments);
    command.stdin(Stdio::null()).output().expect("bash is there").into()
}

#[test]
fn the_kill_test_removes_nothing_that_it_has_not_made() {
    let folder = Folder::new();
    folder.write("work/whole/mine", "");
    folder.write("work/chaos/mine", "");
    let ended = chaos(&folder, "#!/bin/sh\nexit 1\n", &[]).expect(1);
    assert!(ended.err.contains("the undisturbed sweep failed"), "{}", ended.err);
    assert_eq!([folder.names("work/whole"), folder.names("work/chaos")], [["mine"]; 2]);
}

#[test]
fn the_kill_test_ends_whatever_its_sweep_does() {
    let folder = Folder::new();
    let ended = chaos(&folder, "#!/bin/sh\nsleep 600\n", &["-t", "0", "-g", "1"]).expect(1);
    assert!(ended.err.contains("the sweep has not ended after 1 seconds"), "{}", ended.err);
    let inside = std::fs::canonicalize(folder.path("work")).expect("a folder");
    let processes = std::fs::read_dir("/proc").expect("Linux").flatten();
    let left = processes.filter(|p| std::fs::read_link(p.path().join("cwd")).is_ok_and(|cwd| cwd.starts_with(&inside)));
    assert_eq!(left.count(), 0, "nothing is left at work");
}
