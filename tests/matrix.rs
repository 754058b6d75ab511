//! `mixarena matrix`: mixing matrices of trained runs and of fresh weights.

use serde_json::Value;
use std::process::Output;
use tests::{Ended, FIVE, Folder, MIXERS};

/// `mixarena` with arguments that hold spaces.
fn run(folder: &Folder, arguments: &[&str]) -> Ended {
    let output: Output = folder.command("").args(arguments).output().expect("the binary starts");
    output.into()
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.out).expect("one JSON document")
}

fn panels(ended: &Ended) -> Vec<Value> {
    json(ended)["panels"].as_array().expect("a list").clone()
}

fn is_png(bytes: &[u8]) -> bool {
    bytes.starts_with(b"\x89PNG") && bytes.ends_with(b"IEND\xaeB`\x82")
}

#[test]
fn mixers_without_a_config_are_drawn_side_by_side() {
    let folder = Folder::new();
    let options = [
        "--mixers",
        "attention,bigs",
        "--mixer",
        "{ s4: { mode: diag, init: lin } }",
        "--mixer",
        "{ hydra: { headdim: 32 } }",
    ];
    let rest = ["--length", "20", "--d-model", "32", "--heads", "0,1", "--json", "--values", "m.csv", "-o", "m.png"];
    let ended = run(&folder, &[&["matrix"][..], &options, &rest].concat()).expect(0);
    assert!(is_png(&folder.read("m.png")));
    let panels = panels(&ended);
    let labels: Vec<&str> = panels.iter().filter_map(|p| p["label"].as_str()).collect();
    let of_bigs = |panel: &Value| panel["mixer"]["bigs"].is_object();
    let labels: Vec<&str> = labels.into_iter().map(|l| if l.starts_with("bigs") { "bigs" } else { l }).collect();
    let want = ["attention", "bigs", "s4: diag, init lin", "hydra: headdim 32"];
    assert_eq!(labels, want.map(|label| [label; 2]).concat(), "two heads each, in the order typed");
    for panel in &panels {
        match of_bigs(panel) {
            true => assert!(panel["reason"].as_str().is_some_and(|why| why.contains("multiplied")), "{panel}"),
            false => assert_eq!(panel["shape"], serde_json::json!([20, 20]), "{panel}"),
        }
        assert_eq!(panel["weights"], "fresh weights, seed 0");
    }
    for sum in panels[0]["row_sums"].as_array().expect("a pair") {
        assert!((sum.as_f64().expect("a number") - 1.0).abs() < 1e-5, "a row of softmax sums to 1: {sum}");
    }
    assert_eq!(ended.err.matches("not drawn: bigs").count(), 1, "{}", ended.err);
    // The S4 matrix is Toeplitz, entry by entry.
    let csv = folder.text("m.csv");
    let mut by_lag = std::collections::BTreeMap::new();
    for line in csv.lines().filter(|line| line.starts_with("\"s4: diag, init lin\",\"\",0,1,")) {
        let [.., t, s, value] = line.split(',').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let lag = t.parse::<i64>().expect("a number") - s.parse::<i64>().expect("a number");
        let value: f64 = value.parse().expect("a number");
        assert!((*by_lag.entry(lag).or_insert(value) - value).abs() < 1e-6, "{line}");
    }
    assert_eq!(by_lag.len(), 39);
    assert_eq!(csv.lines().count(), 1 + 6 * 400, "a line an entry");
}

#[test]
fn a_causal_mixer_reads_nothing_later_and_a_seed_gives_the_same_numbers() {
    let folder = Folder::new();
    let draw = |seed: &str, file: &str| {
        let line = format!("matrix --mixers attention,s4 --causal --length 12 --seed {seed} --values {file} -o m.svg");
        folder.run(&line).expect(0);
        folder.text(file)
    };
    let first = draw("3", "a.json");
    assert_eq!(first, draw("3", "b.json"));
    assert_ne!(first, draw("4", "c.json"));
    let list: Value = serde_json::from_str(&first).expect("JSON");
    for one in list.as_array().expect("a list") {
        for t in 0..12 {
            for s in t + 1..12 {
                assert_eq!(one["values"][t][s], 0.0, "{} reads {s} at {t}", one["mixer"]);
            }
        }
    }
    assert!(folder.text("m.svg").contains("12 positions of width 64, causal"));
}

#[test]
fn a_finished_run_is_drawn_with_its_weights_and_says_so() {
    let folder = Folder::with("five.yaml", FIVE);
    let before = panels(&folder.run("matrix five.yaml --json").expect(0));
    assert_eq!(before.iter().filter_map(|p| p["weights"].as_str()).collect::<Vec<_>>(), ["fresh weights, seed 0"; 5]);
    assert!(!folder.path("runs").exists(), "looking for runs makes no store");
    // Seed 1 of two mixers, so that "the first seed that has finished" is not the first seed.
    for filter in ["mixer=attention & seed=1", "mixer=hydra & seed=1"] {
        run(&folder, &["sweep", "five.yaml", "--filter", filter]).expect(0);
    }
    let after = folder.run("matrix five.yaml --json --values m.csv").expect(0);
    let records = folder.records();
    for (panel, name) in panels(&after).iter().zip(MIXERS) {
        let weights = panel["weights"].as_str().expect("words");
        match records.iter().find(|record| tests::mixer(record) == name) {
            Some(record) => {
                assert_eq!(panel["run"], record.id.as_str());
                let want = format!("trained (step {} of 10), run {}", record.best_step, &record.id[..8]);
                assert_eq!(weights, want);
            }
            None => assert_eq!((weights, &panel["run"]), ("fresh weights, seed 0", &Value::Null)),
        }
    }
    let of = |text: &str| panels(&folder.run(text).expect(0))[0].clone();
    let trained = of("matrix five.yaml --json --filter mixer=attention");
    let fresh = of("matrix five.yaml --json --filter mixer=attention --fresh --seed 1");
    assert_eq!(fresh["weights"], "fresh weights, seed 1");
    assert_ne!(trained["max"], fresh["max"], "training moves the matrix");
    assert_eq!(of("matrix five.yaml --json --filter mixer=attention --seed 1"), trained);
    // A checkpoint that is gone, and one that is broken.
    let best = |name: &str| {
        let record = records.iter().find(|record| tests::mixer(record) == name).expect("trained above");
        format!("runs/work/{}/best.safetensors", record.id)
    };
    std::fs::remove_file(folder.path(&best("attention"))).expect("there");
    folder.write(&best("hydra"), "no checkpoint");
    let ended = folder.run("matrix five.yaml --json").expect(0);
    assert!(
        ended.err.contains("has finished, but ") && ended.err.contains("best.safetensors is gone"),
        "{}",
        ended.err
    );
    let panels = panels(&ended);
    assert_eq!(panels[0]["weights"], "fresh weights, seed 0");
    assert!(panels[4]["reason"].as_str().is_some_and(|why| why.contains(&best("hydra"))), "{}", panels[4]);
}

#[test]
fn every_layer_and_head_can_be_asked_for_and_one_that_is_missing_says_so() {
    let folder = Folder::with("five.yaml", FIVE);
    let line = "matrix five.yaml --json --set model.n_layers=2 --filter mixer=attention --length 9";
    let all = panels(&folder.run(&format!("{line} --layers all --heads all")).expect(0));
    let places: Vec<_> = all.iter().map(|p| (p["layer"].as_u64(), p["head"].as_u64())).collect();
    assert_eq!(places, [(0, 0), (0, 1), (1, 0), (1, 1)].map(|(l, h)| (Some(l), Some(h))));
    assert!(all.iter().all(|p| p["shape"] == serde_json::json!([9, 9])));
    let some = folder.run(&format!("{line} --layers 1,7 --heads 0,5")).expect(0);
    assert!(some.err.contains("no layer 7: the model has 2 layers"), "{}", some.err);
    assert!(some.err.contains("no head 5: the layer has 2 heads"), "{}", some.err);
    let none = folder.run("matrix five.yaml --layers 7 -o none.png").expect(1);
    assert!(none.err.contains("error: none of the mixers has a matrix to draw"), "{}", none.err);
    assert!(!folder.path("none.png").exists());
    folder.run("matrix --mixers bigs -o none.png").expect(1);
    assert!(!folder.path("none.png").exists());
}

#[test]
fn a_user_s_mistake_names_its_place() {
    let folder = Folder::with("five.yaml", FIVE);
    let wrong = |arguments: &[&str], want: &str| {
        let ended = run(&folder, &[&["matrix"], arguments].concat()).expect(2);
        assert!(ended.err.contains(want), "{arguments:?}: {}", ended.err);
    };
    wrong(&[], "required");
    wrong(&["--mixers", "atention"], "unknown mixer `atention`\n  help: did you mean `attention`?");
    wrong(&["--mixer", "{ s4: { mode: dig } }"], "--mixer '{ s4: { mode: dig } }':1:15: `mode` is `dig`");
    wrong(&["--mixer", "{ s4: { mod: diag } }"], ":1:9: unknown field `mod` of `s4`");
    wrong(&["--mixer", "{ attention: { n_heads: 5 } }"], ":1:25: `n_heads` is 5, which does not divide `d_model` = 64");
    wrong(&["--mixer", "{ s4: { "], "--mixer '{ s4: { ':1:");
    wrong(&["--mixer", "{ mixer: s4, model: { d_model: 8 } }"], ":1:23: a mixer without a config has no model");
    wrong(&["--mixers", "s4", "--layers", "1"], "without a config there is one layer");
    wrong(&["--mixers", "s4", "--filter", "mixer=s4"], "--set and --filter change a config");
    wrong(&["--mixers", "s4", "five.yaml"], "cannot be used with");
    wrong(&["--mixers", "s4", "-o", "m.gif"], "m.gif: plots are drawn as .svg or .png");
    wrong(&["--mixers", "s4", "--values", "m.npy"], "m.npy: values are written as .csv or .json");
    wrong(&["--mixers", "s4", "--heads", "x"], "`x` is not a whole number");
    wrong(&["--mixers", "s4", "--d-model", "256", "--heads", "all"], "256 panels, at most 64");
    wrong(&["five.yaml", "--example", "999"], "--example 999: the validation split has 20 examples");
    wrong(&["nowhere.yaml"], "nowhere.yaml: cannot be read");
    assert_eq!(folder.names(""), ["five.yaml"], "nothing was written");
    let blocked = run(&folder, &["matrix", "--mixers", "attention", "-o", "no/folder.png"]).expect(1);
    assert!(blocked.err.contains("no/folder.png: cannot write"), "{}", blocked.err);
}

#[test]
fn a_run_that_starts_from_another_or_reads_minimal_pairs_is_drawn_with_its_weights() {
    let task = |examples: u32| {
        format!(
            "mqar: {{ vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false, train_examples: {examples}, \
             validation_examples: 20, test_examples: 30 }}"
        )
    };
    let text = format!(
        "seeds: 2\ntasks:\n  - {{ name: first, task: {{ {} }} }}\n  - {{ name: second, start: first, task: {{ {} }} }}\n\
         model: {{ d_model: 16, n_layers: 1 }}\nbudget: {{ steps: 4, batch_size: 8, eval_every: 2 }}\n\
         mixers: [attention: {{ n_heads: 2 }}]\n",
        task(200),
        task(100)
    );
    let folder = Folder::with("chain.yaml", &text);
    folder.run("sweep chain.yaml -q").expect(0);
    let second = |seed: u64| {
        let of = |record: &&results::Record| record.seed == seed && record.spec["start"]["run"].is_string();
        folder.records().iter().find(of).expect("it ran").id.clone()
    };
    let run = |line: &str| panels(&folder.run(line).expect(0)).last().expect("a panel")["run"].clone();
    assert_eq!(run("matrix chain.yaml --json"), second(0).as_str());
    assert_eq!(run("matrix chain.yaml --json --seed 1"), second(1).as_str(), "its start is of that seed too");
    assert_eq!(run("matrix chain.yaml --json --filter task=second"), second(0).as_str());
    // Seeds that the config does not have are drawn as if it had them.
    folder.run("sweep chain.yaml -q --set seeds=[7]").expect(0);
    assert_eq!(run("matrix chain.yaml --json --seed 7"), second(7).as_str());
    // A task keeps the seed that another starts from, and has no run of the seed that is asked for.
    let own = text
        .replace("name: first,", "name: first, seeds: [0],")
        .replace("start: first", "start: { task: first, seed: 0 }");
    folder.write("own.yaml", own);
    for seed in [1, 7] {
        let drawn = panels(&folder.run(&format!("matrix own.yaml --json --seed {seed}")).expect(0));
        assert_eq!(drawn.len(), 1, "{drawn:?}");
        assert_eq!(drawn[0]["weights"], format!("fresh weights, seed {seed}"));
    }

    let stories: String = (0..200).map(|n| format!("story {n} of a cat.\n\n")).collect();
    folder.write("data/stories.txt", stories);
    folder.write("pairs.jsonl", "{\"sentence_good\": \"a cat.\", \"sentence_bad\": \"cat a.\"}\n");
    folder.write(
        "pairs.yaml",
        "tasks: [mlm: { corpus: { path: stories.txt, held_out: 0.2 }, tokenizer: { characters: { vocab_size: 24 } }, seq_len: 16, \
         eval_sequences: 8 }]\nmodel: { d_model: 16, n_layers: 1 }\n\
         budget: { steps: 4, batch_size: 8, eval_every: 2 }\nanalysis: { minimal_pairs: pairs.jsonl }\n\
         mixers: [attention: { n_heads: 2 }]\n",
    );
    folder.run("sweep pairs.yaml -q --store pairs").expect(0);
    let [record] = &folder.records_in("pairs")[..] else { panic!("one run") };
    assert_eq!(run("matrix pairs.yaml --json --store pairs"), record.id.as_str());
}
