//! Commands that train nothing: verify, doctor, list, plan, help.

use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use tests::{FIVE, Folder, MIXERS};

/// Reference dumps, one of them of the Hydra layer in double precision.
fn goldens() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../mixers/fixtures/goldens")
}

const HYDRA: &str = "hydra__L33_groups2_bias.f64.safetensors";

/// A copy of a dump in a folder of its own, after `change`.
fn changed(change: impl Fn(&mut Vec<u8>)) -> Folder {
    let mut bytes = fs::read(goldens().join(HYDRA)).expect("a dump");
    change(&mut bytes);
    let folder = Folder::new();
    folder.write(&format!("dumps/{HYDRA}"), bytes);
    folder
}

/// Where the bytes of a tensor lie in a safetensors file: eight bytes of header length, the header, the data.
fn place_of(bytes: &[u8], tensor: &str) -> usize {
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
    8 + length + header[tensor]["data_offsets"][0].as_u64().expect("an offset") as usize
}

#[test]
fn the_mixers_agree_with_the_reference_dumps() {
    let folder = Folder::new();
    let ended = folder.run(&format!("verify {} --skip-unsupported", goldens().display())).expect(0);
    let files = fs::read_dir(goldens()).expect("dumps").flatten();
    let files = files.filter(|f| f.path().extension().is_some_and(|e| e == "safetensors")).count();
    assert!(ended.err.starts_with(&format!("{files} files: ")) && ended.err.contains(" 0 failed"), "{}", ended.err);
    for mixer in ["hydra", "s4", "bigs", "combiner"] {
        assert!(ended.out.lines().any(|l| l.starts_with(&format!("ok   {mixer}_"))), "{mixer}:\n{}", ended.out);
    }
    assert!(!ended.out.contains("FAIL"), "{}", ended.out);
}

#[test]
fn one_changed_number_fails_and_names_the_group_and_the_tensor() {
    for (tensor, group) in
        [("output.y", "output"), ("grad_param.conv1d.bias", "grad_param"), ("grad_input.u", "grad_input")]
    {
        let folder = changed(|bytes| {
            let at = place_of(bytes, tensor);
            let number = f64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
            bytes[at..at + 8].copy_from_slice(&(number + 1e-3).to_le_bytes());
        });
        let ended = folder.run("verify dumps -q").expect(1);
        let [line] = ended.out.lines().collect::<Vec<_>>()[..] else { panic!("one group fails:\n{}", ended.out) };
        let name = tensor.split_once('.').expect("group.name").1;
        assert!(line.starts_with(&format!("FAIL {HYDRA}  {group} ")) && line.ends_with(name), "{line}");
        let json = folder.run("verify dumps --json").expect(1);
        let json: Value = serde_json::from_str(&json.out).expect("one object a line");
        assert_eq!(json["passed"], false);
    }
}

#[test]
fn a_family_this_build_does_not_have_fails_unless_it_may_be_skipped() {
    let folder = Folder::new();
    folder.write("dumps/mamba__L33.f64.safetensors", fs::read(goldens().join(HYDRA)).expect("a dump"));
    let ended = folder.run("verify dumps").expect(1);
    assert!(ended.out.starts_with("skip mamba__L33.f64.safetensors  unsupported: "), "{}", ended.out);
    folder.run("verify dumps --skip-unsupported").expect(0);
}

#[test]
fn a_file_that_is_no_dump_is_named() {
    let folder = changed(|bytes| bytes.truncate(bytes.len() / 2));
    folder.write("dumps/text.safetensors", "not a dump");
    let ended = folder.run("verify dumps").expect(1);
    assert_eq!(ended.out.lines().filter(|l| l.starts_with("FAIL ")).count(), 2, "{}", ended.out);
    folder.run("verify nowhere").expect(2);
    folder.write("empty/README", "");
    folder.run("verify empty").expect(2);
}

#[test]
fn the_doctor_looks_at_everything_and_finds_this_machine_fit() {
    let folder = Folder::new();
    let json = folder.run("doctor --json").expect(0);
    let json: Value = serde_json::from_str(&json.out).expect("one JSON document");
    let checks: Vec<&str> = json.as_array().expect("a list").iter().filter_map(|c| c["what"].as_str()).collect();
    assert_eq!(checks, ["libtorch", "CUDA", "threads", "memory", "data", "store", "fonts", "disk"]);
    let text = folder.run("doctor").expect(0);
    assert!(checks.iter().all(|what| text.out.contains(&format!(" {what} "))), "{}", text.out);
    assert!(folder.names("").is_empty(), "a look leaves nothing behind");
    let bad = folder.run("doctor --store /proc/runs").expect(3);
    assert!(bad.out.contains("BAD  store "), "{}", bad.out);
}

#[test]
fn what_there_is_can_be_listed_for_people_and_for_programs() {
    let folder = Folder::new();
    let mixers = folder.run("list mixers").expect(0).out;
    assert!(MIXERS.iter().all(|name| mixers.lines().any(|l| l.starts_with(&format!("{name} ")))), "{mixers}");
    let tasks: Value = serde_json::from_str(&folder.run("list tasks --json").expect(0).out).expect("one JSON document");
    let names: Vec<&str> = tasks.as_array().expect("a list").iter().filter_map(|t| t["name"].as_str()).collect();
    assert!(["mqar", "listops", "text"].iter().all(|name| names.contains(name)), "{names:?}");
    assert_eq!(tasks[0]["settings"]["kv_pairs"], 4);
    folder.run("list runs").expect(3);
    folder.run("list nothing").expect(2);
}

#[test]
fn a_reader_that_leaves_early_causes_no_panic() {
    let folder = Folder::new();
    for line in ["list mixers", "list tasks --json", "doctor"] {
        let mut child = folder.command(line).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
        drop(child.stdout.take()); // gone before the first line, which is harder than `| head -1`
        let output = child.wait_with_output().expect("ends");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{line}");
    }
}

#[test]
fn a_plan_tells_counts_and_costs() {
    let folder = Folder::with("five.yaml", FIVE);
    let json: Value =
        serde_json::from_str(&folder.run("plan five.yaml --json").expect(0).out).expect("one JSON document");
    assert_eq!((&json["name"], &json["runs"]), (&Value::from("five"), &Value::from(10)));
    let kinds = json["kinds"].as_array().expect("a list");
    assert_eq!(kinds.iter().filter_map(|k| k["mixer"].as_str()).collect::<Vec<_>>(), MIXERS);
    for kind in kinds {
        let counted = |key: &str| kind[key].as_f64().unwrap_or(0.0);
        assert!(counted("parameters") > counted("mixer_parameters") && counted("mixer_parameters") > 0.0, "{kind}");
        assert!(counted("flops") > 0.0 && kind["seeds"] == 2, "{kind}");
    }
    let resolved = folder.run("plan five.yaml --print-config --filter mixer=s4").expect(0);
    assert_eq!(resolved.out.matches("\n---\n").count(), 1, "two runs, one mark between them:\n{}", resolved.out);
    assert!(
        resolved.out.contains("dt_min: 0.001") && resolved.out.contains("warmup_steps: 0"),
        "defaults are filled in"
    );
    assert!(folder.run("plan five.yaml").expect(0).out.starts_with("five: 10 runs"));
    assert_eq!(folder.names(""), ["five.yaml"], "a plan writes nothing");
}

#[test]
fn every_command_has_help() {
    let folder = Folder::new();
    let help = folder.run("--help").expect(0).out;
    for command in ["sweep", "plan", "run", "report", "list", "verify", "bench", "doctor"] {
        assert!(help.contains(&format!("\n  {command} ")), "{command}:\n{help}");
        let own = folder.run(&format!("{command} --help")).expect(0).out;
        assert!(own.contains(&format!("Usage: mixarena {command}")), "{own}");
    }
    assert!(help.contains("Exit codes: 0 all well"), "{help}");
    assert!(folder.run("--version").expect(0).out.starts_with("mixarena "));
    let wrong = folder.run("swep five.yaml").expect(2);
    assert!(wrong.err.contains("similar subcommand exists: 'sweep'"), "{}", wrong.err);
}
