//! `mixarena bench` at sizes of a few tokens: what it prints, writes, compares and refuses. Nothing here holds a time.

use serde_json::Value;
use tests::{Folder, MIXERS, children, signal, wait_until};

/// Every mixer at two lengths.
const TINY: &str = "bench --d-model 16 --batch 2 --lengths 8,16 --repeats 2 --set hydra.headdim=8 \
    --mixers attention,combiner,s4,bigs,hydra";
/// Two mixers at one length.
const PAIR: &str = "bench --d-model 16 --batch 2 --lengths 8 --repeats 2 --mixers attention,s4 -q";

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("one JSON document")
}

#[test]
fn every_mixer_is_measured_at_every_length_in_the_block_of_its_paper() {
    let folder = Folder::new();
    let line = format!("{TINY} --json --export out.csv --plot plot.svg --baseline first");
    let ended = folder.run(&line).expect(0);
    let all = json(&ended.out);
    let cases = all["cases"].as_array().expect("a list");
    assert_eq!(cases.len(), 2 * MIXERS.len());
    for (i, case) in cases.iter().enumerate() {
        assert_eq!((&case["mixer"], &case["state"]["kind"]), (&MIXERS[i % 5].into(), &"measured".into()), "{case}");
        assert_eq!(case["block"], ["transformer", "transformer", "s4", "bigs", "hydra"][i % 5]);
        assert!(case["parameters"].as_u64().is_some_and(|n| n > 0) && case["path"] != "", "{case}");
        for pass in ["forward", "training"] {
            assert_eq!(case[pass]["seconds"].as_array().map(Vec::len), Some(2), "{case}");
            let memory = &case[pass]["memory"];
            let (built, peak) = (memory["built_bytes"].as_u64(), memory["peak_bytes"].as_u64());
            assert!(built.is_some_and(|b| b > 1 << 20) && peak >= built, "{case}");
        }
    }
    assert_eq!(cases[4]["settings"]["headdim"], 8);
    assert_eq!(all["summary"].as_array().map(Vec::len), Some(20));
    assert_eq!(all["growth"].as_array().map(Vec::len), Some(20));
    let few = "attention at 2 of the 4 lengths its fit needs";
    assert!(all["efficiency_lengths"].as_array().expect("a list").iter().all(|e| e["remark"] == few));
    assert_eq!(folder.text("out.csv").lines().count(), 21);
    assert!(folder.text("plot.svg").contains("fitted exponent"));
    assert_eq!(json(&folder.text("runs/bench/first.json")), all);
    folder.run("bench compare first runs/bench/first.json").expect(0);
}

#[test]
fn forward_alone_is_measured_where_only_it_is_asked_for() {
    let folder = Folder::new();
    let all = json(&folder.run(&format!("{PAIR} --passes forward --json --export out.csv")).expect(0).out);
    for case in all["cases"].as_array().expect("a list") {
        assert_eq!((&case["state"]["kind"], &case["forward"]["seconds"][1].is_f64()), (&"measured".into(), &true));
        assert_eq!((&case["training"]["seconds"], &case["training"]["memory"]), (&serde_json::json!([]), &Value::Null));
    }
    assert_eq!(folder.text("out.csv").lines().count(), 3, "a line a case");
    let table = folder.run(&format!("{PAIR} --passes forward")).expect(0).out;
    assert!(table.contains("forward, ms") && !table.contains("forward+backward"), "{table}");
    let refused = folder.run("bench --suite targets --passes forward").expect(2);
    assert!(refused.err.contains("--passes does not go with --suite targets"), "{}", refused.err);
}

#[test]
fn decoding_prints_prompt_step_and_state_by_context() {
    let folder = Folder::new();
    let line = "bench decode --d-model 16 --contexts 64,32 --repeats 2 --mixers attention,mamba2,combiner --set mamba2.headdim=8";
    let all = json(&folder.run(&format!("{line} --json")).expect(0).out);
    let state = |mixer: usize, context: usize| all["mixers"][mixer]["contexts"][context]["state_bytes"].as_i64();
    assert_eq!(all["mixers"][0]["contexts"][0]["context"], 32);
    let labels: Vec<&Value> = (0..3).map(|i| &all["mixers"][i]["label"]).collect();
    let at = |name: &str| labels.iter().position(|label| **label == name).expect("measured");
    assert_eq!(state(at("attention"), 1), state(at("attention"), 0).map(|bytes| 2 * bytes), "keys and values grow");
    assert_eq!(state(at("mamba2"), 1), state(at("mamba2"), 0), "a state of fixed size");
    let table = folder.run(line).expect(0).out;
    assert!(table.contains("x attention") && table.contains("tokens/s"), "{table}");
    let refused = folder.run("bench decode --contexts 8").expect(2);
    assert!(refused.err.contains("--contexts"), "{}", refused.err);
}

#[test]
fn the_table_says_what_was_measured_and_what_stopped() {
    let folder = Folder::new();
    let ended = folder.run(&PAIR.replace(" -q", "")).expect(0);
    for word in ["attention", "transformer", "s4", "fused", "native sums", "x attention", "added MiB", "GLU,"] {
        assert!(ended.out.contains(word), "{word}:\n{}", ended.out);
    }
    assert!(ended.out.contains("No efficiency lengths: attention at 1 of the 4 lengths"), "{}", ended.out);
    assert!(ended.err.contains("length 8: memory of s4, forward+backward"), "{}", ended.err);
    assert!(ended.err.contains("length 8: 1 + 2 rounds of attention, s4"), "{}", ended.err);
    // No pass is this quick: both stop, and nothing measured is a failure.
    let stopped = folder.run(&format!("{PAIR} --time-cap 1e-9")).expect(1);
    assert_eq!(stopped.out.matches("over the cap of 0.000000001 s").count(), 2, "{}", stopped.out);
    let stopped = json(&folder.run(&format!("{PAIR} --time-cap 1e-9 --json")).expect(1).out);
    for pass in ["forward", "training"] {
        let kept = stopped["cases"][1][pass]["seconds"].as_array().map(Vec::len);
        assert_eq!(kept, Some(1), "the round that passed the cap is kept: {stopped}");
    }
    let stopped = folder.run(&format!("{} --memory-cap 1MiB", PAIR.replace("--lengths 8", "--lengths 8,16"))).expect(1);
    assert_eq!(stopped.out.matches("left out: stopped at length 8").count(), 2, "{}", stopped.out);
}

#[test]
fn a_measurement_that_is_interrupted_says_how_far_it_got() {
    let folder = Folder::new();
    let running =
        folder.start("bench --d-model 16 --lengths 8,16 --repeats 100000 --mixers attention -q --baseline cut");
    wait_until("a measuring process", || !children(running.id()).is_empty());
    signal("INT", running.id());
    let ended = running.wait().expect(130);
    assert!(ended.out.contains("left out: interrupted"), "{}", ended.out);
    assert!(ended.out.contains("warning: stopped by the user before its end"), "{}", ended.out);
    let cases = json(&folder.text("runs/bench/cut.json"))["cases"].clone();
    assert!(cases.as_array().expect("a list").iter().all(|case| case["state"]["kind"] == "stopped"), "{cases}");
}

#[test]
fn a_mixer_that_got_worse_fails_the_comparison() {
    let folder = Folder::new();
    folder.run(&format!("{PAIR} --export a.json")).expect(0);
    let mut after = json(&folder.text("a.json"));
    for seconds in after["cases"][1]["training"]["seconds"].as_array_mut().expect("a list") {
        *seconds = (seconds.as_f64().expect("a number") * 2.0).into();
    }
    folder.write("b.json", after.to_string());
    assert!(folder.run("bench compare a.json a.json").expect(0).out.contains("Nothing of 6 got worse"));
    let worse = folder.run("bench compare a.json b.json").expect(1);
    assert!(worse.out.contains("WORSE") && worse.out.contains("1 of 6 worse, 0 lost"), "{}", worse.out);
    folder.run("bench compare a.json b.json --threshold 3").expect(0);
    folder.run("bench compare a.json b.json --absolute").expect(1);
    let worse = json(&folder.run("bench compare a.json b.json --json").expect(1).out);
    assert_eq!((&worse["holds"], &worse["held"]), (&false.into(), &"to_attention".into()));
    after["device"]["name"] = "another processor".into();
    folder.write("b.json", after.to_string());
    assert!(folder.run("bench compare a.json b.json").expect(1).out.contains("warning: processor differs: "));
}

#[test]
fn the_comparisons_of_the_targets_are_fixed() {
    let folder = Folder::new();
    let wrong = folder.run("bench --suite targets --lengths 8").expect(2);
    assert!(wrong.err.contains("--lengths does not go with --suite targets"), "{}", wrong.err);
    let wrong = folder.run("bench --suite targets --mixers s9").expect(2);
    assert!(wrong.err.contains("unknown mixer `s9`"), "{}", wrong.err);
    // Nothing passes this cap, so every target whose mixer is there is missed.
    let ended = folder.run("bench --suite targets --mixers combiner --memory-cap 1MiB --json -q").expect(1);
    let all = json(&ended.out);
    let labels: Vec<&str> =
        all["cases"].as_array().expect("a list").iter().filter_map(|c| c["label"].as_str()).collect();
    assert_eq!(labels, ["attention", "combiner", "attention", "combiner"]);
    assert_eq!(all["missed"], 2);
}

#[test]
fn what_is_mistyped_is_named_before_anything_is_measured() {
    let folder = Folder::new();
    folder.write("text.json", "not a measurement");
    for (line, said) in [
        ("bench --mixers atention", "unknown mixer `atention`"),
        ("bench --mixers atention", "did you mean `attention`?"),
        ("bench --lengths 8,0", "--lengths holds 0, which is below 1"),
        ("bench --d-model -4", "unexpected argument '-4'"),
        ("bench --batch 0", "--batch holds 0"),
        ("bench --repeats 0", "--repeats is 0"),
        ("bench --time-cap 0", "--time-cap is 0"),
        ("bench --memory-cap much", "write 8GiB, 512MiB, or bytes"),
        ("bench --d-model 16 --mixers hydra", "--set hydra.KEY=VALUE"),
        ("bench --mixers hydra --causal", "cannot be causal"),
        ("bench --set s4.d_stat=4", "did you mean `d_state`?"),
        ("bench --set s4.d_state=few", "--set s4.d_state=few: "),
        ("bench --set d_state=4", "write --set s4.d_state=16"),
        ("bench --mixers attention --set s4.d_state=4", "add s4 to --mixers"),
        ("bench --export out.txt", "end it in .json or .csv"),
        ("bench --plot no/out.svg", "no is not a folder"),
        ("bench --baseline ../x", "--baseline ../x: not a name"),
        ("bench compare a b", "no file and no baseline `a`"),
        ("bench compare text.json text.json", "not a measurement of `mixarena bench`"),
    ] {
        let ended = folder.run(line).expect(2);
        assert!(ended.err.contains(said) && ended.out.is_empty(), "{line}:\n{}", ended.err);
    }
    assert_eq!(folder.names(""), ["text.json"], "nothing is written");
}
