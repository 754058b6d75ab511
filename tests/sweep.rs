//! One config, one command, one table.

use results::Outcome;
use serde_json::Value;
use std::fs;
use tests::{FIVE, Folder, MIXERS, RECALL, mixer};

/// Two runs of one mixer, under the name of the file.
fn pair(steps: u32) -> String {
    format!(
        "seeds: 2\ntasks:\n  - {RECALL}\nmodel: {{ d_model: 16, n_layers: 1 }}\n\
         budget: {{ steps: {steps}, batch_size: 8, eval_every: 5 }}\nmixers:\n  - attention: {{ n_heads: 2 }}\n"
    )
}

#[test]
fn a_config_that_extends_another_is_the_same_runs_and_its_report_needs_no_config() {
    let axes = "grid: { optimizer.lr: [1e-3, 1e-2] }\n";
    let folder = Folder::with("parts/base.yaml", &(pair(9) + "name: base\n" + axes));
    folder.write("top.yaml", "extends: parts/base.yaml\nbudget: { steps: 5 }\ngrid: { optimizer.lr: [1e-2] }\n");
    let first = folder.run("sweep top.yaml").expect(0);
    assert_eq!((folder.names("runs/sweeps"), folder.records().len()), (vec!["top.json".to_owned()], 2));
    folder.write("whole.yaml", pair(5) + "name: top\ngrid: { optimizer.lr: [1e-2] }\n");
    let again = folder.run("sweep whole.yaml").expect(0);
    assert!(again.err.contains("nothing left to do"), "{}", again.err);
    for name in ["parts/base.yaml", "top.yaml", "whole.yaml"] {
        fs::remove_file(folder.path(name)).expect("it was written");
    }
    let scores =
        |out: &str| out.lines().take_while(|line| !line.contains("Made by")).map(str::to_owned).collect::<Vec<_>>();
    assert_eq!(scores(&folder.run("report runs").expect(0).out), scores(&first.out));
}

#[test]
fn five_mixers_end_in_one_table_and_the_same_command_again_trains_nothing() {
    let folder = Folder::with("five.yaml", FIVE);
    let first = folder.run("sweep five.yaml").expect(0);
    let records = folder.names("runs/records");
    assert_eq!(records.len(), 10, "{records:?}");
    assert!(
        folder.records().iter().all(|r| r.outcome == Outcome::Finished && r.steps == 10 && r.scores.test.is_some())
    );
    for name in MIXERS {
        let row = first.out.lines().find(|line| line.split_whitespace().nth(1) == Some(name));
        assert!(row.is_some_and(|row| row.starts_with(" mqar") && row.contains(" 2/2 ")), "{name}:\n{}", first.out);
    }
    assert!(first.out.starts_with("Does every mixer come through?"), "{}", first.out);
    let files = [
        "curves.png",
        "curves.svg",
        "report.md",
        "runs.csv",
        "scores.png",
        "scores.svg",
        "table.csv",
        "table.json",
        "table.md",
    ];
    assert_eq!(folder.names("runs/reports/five"), files);
    assert!(folder.read("runs/reports/five/scores.png").starts_with(b"\x89PNG"));

    let again = folder.run("sweep five.yaml").expect(0);
    assert_eq!(again.out, first.out);
    assert!(again.err.starts_with("five: 10 runs planned, nothing left to do"), "{}", again.err);
    assert_eq!(folder.names("runs/records"), records);

    // A report is made from the records alone, and to the byte.
    let written: Vec<Vec<u8>> = files.iter().map(|f| folder.read(&format!("runs/reports/five/{f}"))).collect();
    std::fs::remove_dir_all(folder.path("runs/reports")).expect("removes the reports");
    let report = folder.run("report runs").expect(0);
    assert_eq!(report.out.trim_end(), first.out.trim_end());
    for (file, bytes) in files.iter().zip(&written) {
        assert!(folder.read(&format!("runs/reports/five/{file}")) == *bytes, "{file} differs");
    }

    let json = folder.run("sweep five.yaml --json").expect(0);
    let json: Value = serde_json::from_str(&json.out).expect("stdout is one JSON document");
    let rows = json["rows"].as_array().expect("rows");
    assert_eq!(rows.iter().map(|r| r["mixer"].as_str().unwrap_or_default()).collect::<Vec<_>>(), MIXERS);
    assert!(rows.iter().all(|r| r["counts"]["finished"] == 2 && r["scores"].as_array().is_some_and(|s| s.len() == 2)));

    let listed = folder.run("list runs").expect(0);
    assert_eq!(listed.out.lines().filter(|l| l.contains("  finished ")).count(), 10, "{}", listed.out);
    folder.run("report elsewhere").expect(3);
    folder.run("report runs --sweep six").expect(3);
}

#[test]
fn a_dry_run_prints_what_is_to_do_and_trains_nothing() {
    let folder = Folder::with("five.yaml", FIVE);
    let all = folder.run("sweep five.yaml --dry-run").expect(0);
    assert_eq!(all.out.lines().count(), 10, "{}", all.out);
    assert!(
        all.out.lines().take(5).all(|line| line.ends_with("seed 0")),
        "first results cover every mixer:\n{}",
        all.out
    );
    let some = folder.run("sweep five.yaml -n --filter mixer=s4&seed=1").expect(0);
    let [line] = some.out.lines().collect::<Vec<_>>()[..] else { panic!("one run:\n{}", some.out) };
    assert!(line.ends_with("mqar · s4 · seed 1") && all.out.contains(line), "{line}");
    let other = folder.run("sweep five.yaml -n --filter mixer=s4&seed=1 --set optimizer.lr=0.5").expect(0);
    assert_ne!(other.out, some.out, "another learning rate is another run");
    let seeds = folder.run("sweep five.yaml -n -k mixer=s4 --set seeds=[7]").expect(0);
    assert!(seeds.out.trim_end().ends_with("seed 7") && seeds.out.lines().count() == 1, "{}", seeds.out);
    assert_eq!(folder.names("runs/records").len() + folder.names("runs/sweeps").len(), 0);
    for wrong in ["mixer=mamba", "mixr=s4", "s4"] {
        folder.run(&format!("sweep five.yaml -n --filter {wrong}")).expect(2);
    }
}

#[test]
fn a_limit_leaves_the_rest_to_the_next_command() {
    let folder = Folder::with("pair.yaml", &pair(5));
    let first = folder.run("sweep pair.yaml --limit 1").expect(0);
    assert_eq!(folder.names("runs/records").len(), 1);
    assert!(first.out.contains(" 1/2 ") && first.out.contains("1 missing"), "{}", first.out);
    let second = folder.run("sweep pair.yaml").expect(0);
    assert!(second.err.starts_with("pair: 2 runs planned, 1 to do"), "{}", second.err);
    assert!(second.out.contains(" 2/2 "), "{}", second.out);
    assert_eq!(folder.names("runs/records").len(), 2);
}

#[test]
fn the_same_run_in_two_sweeps_is_trained_once() {
    let folder = Folder::with("pair.yaml", &pair(5));
    folder.write("other.yaml", pair(5).replace("seeds: 2", "seeds: [1]"));
    folder.run("sweep pair.yaml -q").expect(0);
    let other = folder.run("sweep other.yaml").expect(0);
    assert!(other.err.starts_with("other: 1 runs planned, nothing left to do"), "{}", other.err);
    assert!(other.out.contains(" 1/1 "), "{}", other.out);
    assert_eq!(folder.names("runs/records").len(), 2);
    assert_eq!(folder.names("runs/reports"), ["other", "pair"]);
    // Neither a limit of time nor the rhythm of checkpoints makes another run.
    let same =
        folder.run("sweep pair.yaml -n --set budget.timeout_minutes=9 --set budget.checkpoint_every=1").expect(0);
    assert_eq!(same.out, "");
}

#[test]
fn the_same_run_under_two_labels_is_trained_once_and_fills_both_rows() {
    let text = pair(5).replace("seeds: 2", "seeds: 1")
        + "  - combiner: { n_heads: 2 }\n  - { name: twin, mixer: { attention: { n_heads: 2 } } }\n";
    let folder = Folder::with("twins.yaml", &text);
    let ended = folder.run("sweep twins.yaml").expect(0);
    assert!(ended.err.starts_with("twins: 3 runs planned, 2 to do"), "{}", ended.err);
    let score = |name: &str| {
        let mut rows = ended.out.lines().map(|l| l.split_whitespace().collect::<Vec<_>>());
        rows.find(|row| row.get(1) == Some(&name)).map(|row| row[2].to_string()).expect("a row")
    };
    assert_eq!(score("twin"), score("attention"));
    assert_eq!(folder.names("runs/records").len(), 2);
}

#[test]
fn how_many_runs_go_at_a_time_changes_no_score() {
    let folder = Folder::with("five.yaml", FIVE);
    // On one core every run has one thread, whatever the number of jobs.
    folder.run_on_one_core("sweep five.yaml --set seeds=1 -j 1 --store one").expect(0);
    folder.run_on_one_core("sweep five.yaml --set seeds=1 -j 3 --store three").expect(0);
    let (one, three) = (folder.records_in("one"), folder.records_in("three"));
    assert_eq!((one.len(), three.len()), (5, 5));
    for (a, b) in one.iter().zip(&three) {
        assert_eq!((&a.id, a.device.threads, b.device.threads), (&b.id, 1, 1));
        assert_eq!((a.scores, &a.curve), (b.scores, &b.curve), "{}", mixer(a));
    }
}

#[test]
fn a_spec_that_a_sweep_wrote_can_be_run_by_itself() {
    let folder = Folder::with("pair.yaml", &pair(5));
    folder.run("sweep pair.yaml --limit 1 -q").expect(0);
    let swept = folder.record();
    let spec = format!("runs/work/{}/spec.json", swept.id);
    let threads = swept.device.threads;
    let alone = folder.run(&format!("run {spec} --store alone --threads {threads}")).expect(0);
    assert!(alone.err.contains("test "), "{}", alone.err);
    let [record] = &folder.records_in("alone")[..] else { panic!("one record") };
    assert_eq!((&record.id, record.scores, &record.curve), (&swept.id, swept.scores, &swept.curve));
    assert_eq!(
        folder.read(&format!("alone/work/{}/best.safetensors", swept.id)),
        folder.read(&format!("runs/work/{}/best.safetensors", swept.id))
    );
    folder.write("broken.json", "{ \"engine\": 1,");
    let broken = folder.run("run broken.json").expect(2);
    assert!(broken.err.starts_with("error: broken.json:1:"), "{}", broken.err);
}

#[test]
fn published_numbers_stand_beside_ours_and_make_no_other_runs() {
    let folder = Folder::with("pair.yaml", &pair(5));
    folder.run("sweep pair.yaml -q").expect(0);
    let task = format!("  - {{ name: short, task: {{ {RECALL} }}, published: Text }}");
    folder.write(
        "beside.yaml",
        "published: Transformer\n".to_string() + &pair(5).replace(&format!("  - {RECALL}"), &task),
    );
    let beside = folder.run("sweep beside.yaml").expect(0);
    assert!(beside.err.starts_with("beside: 2 runs planned, nothing left to do"), "{}", beside.err);
    assert!(beside.out.contains(" short § ") && beside.out.contains(" 0.643ᵃ "), "{}", beside.out);
    assert!(beside.out.contains("ᵃ Transformer: LRA leaderboard 2020-11-08"), "{}", beside.out);
    assert!(beside.out.contains("2 runs took "), "{}", beside.out);
    // The config is not asked again.
    std::fs::remove_file(folder.path("beside.yaml")).expect("removes the config");
    assert_eq!(folder.run("report runs --sweep beside").expect(0).out.trim_end(), beside.out.trim_end());
    let listed = folder.run("list published Transformer").expect(0);
    assert!(listed.out.starts_with("Transformer\n  ListOps 36.37, Text 64.27, "), "{}", listed.out);
    let all = folder.run("list published").expect(0).out;
    let count = all.lines().find_map(|line| line.split_once(" numbers of ")).expect("the number of numbers").0;
    let json: serde_json::Value =
        serde_json::from_str(&folder.run("list published --json").expect(0).out).expect("JSON");
    let cells = json.as_array().expect("cells");
    assert_eq!(count.parse(), Ok(cells.len()), "{count}");
    assert!(cells.iter().all(|cell| cell["place"].as_str().is_some_and(|place| !place.is_empty())));
    assert!(!all.to_lowercase().contains("recalled"), "{all}");
    let unknown = folder.run("list published Transfomer").expect(2);
    assert!(unknown.err.contains("nearest are `Transformer`"), "{}", unknown.err);
}

#[test]
fn a_plan_counts_both_stages_a_gpu_s_time_and_the_share_of_the_published_size() {
    let text = pair(5).replace(
        "mixers:\n  - attention: { n_heads: 2 }",
        "pretrain: { steps: 10 }\nmixers:\n  - { mixer: { attention: { n_heads: 2 } }, reference_parameters: 10000 }",
    );
    let folder = Folder::with("pair.yaml", &text);
    let kind = |arguments: &str| -> Value {
        let planned = folder.run(&format!("plan pair.yaml --measure 0 --json {arguments}")).expect(0);
        serde_json::from_str::<Value>(&planned.out).expect("one JSON document")["kinds"][0].clone()
    };
    let number = |kind: &Value, key: &str| kind[key].as_f64().unwrap_or_else(|| panic!("{key}: {kind}"));
    let (scratch, mlm, clm) = (kind(""), kind("--set pretrain=mlm"), kind("--set pretrain=clm"));
    // Ten steps more, and one look as before.
    let long = number(&kind("--set budget.steps=15 --set budget.eval_every=15"), "flops");
    let ten = long - number(&kind("--set budget.eval_every=5"), "flops");
    assert_eq!(number(&scratch, "pretraining_flops"), 0.0);
    for first in [&mlm, &clm] {
        let more = number(first, "flops") - number(&scratch, "flops");
        assert_eq!(number(first, "pretraining_flops"), more);
        assert!(more > 0.75 * ten && ten > 0.0, "ten steps of another head: {first}");
        assert_eq!(first["parameters"], scratch["parameters"], "what is only pretrained is not counted");
    }
    let slow = kind("--gpu-tflops 0.001");
    assert!((number(&slow, "gpu_seconds") * 1e9 / number(&slow, "flops") - 1.0).abs() < 1e-9);
    let shown = folder.run("plan pair.yaml --measure 0 --gpu-tflops 40").expect(0).out;
    let ratio = format!("{:.3}", number(&scratch, "parameters") / 10000.0);
    assert!(
        shown.contains("of reference") && shown.contains(&ratio) && shown.contains("the 40 TFLOP/s of --gpu-tflops"),
        "{shown}"
    );
    let assumed = folder.run("plan pair.yaml --measure 0").expect(0).out;
    assert!(assumed.contains("not measured: all FLOPs at 5.85 TFLOP/s, 30 % of an A100's 19.5"), "{assumed}");
    folder.run("plan pair.yaml --gpu-tflops 0").expect(2);
}

#[test]
fn a_matched_sweep_runs_and_its_table_says_so() {
    let folder = Folder::with(
        "pair.yaml",
        &(pair(5) + "  - { name: twin, mixer: { attention: { n_heads: 4 } } }\nmatch: { parameters: 0.02 }\n"),
    );
    let ended = folder.run("sweep pair.yaml -q").expect(0);
    assert!(ended.out.starts_with("Models are matched by parameters within 2 %."), "{}", ended.out);
}

#[test]
fn every_config_that_ships_can_be_planned_without_its_data() {
    let folder = Folder::with("none.yaml", "");
    let configs = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs");
    folder.write("configs/pairs.jsonl", std::fs::read(configs.join("pairs.jsonl")).expect("minimal pairs"));
    for entry in std::fs::read_dir(configs).expect("the configs are there") {
        let path = entry.expect("a config").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let planned = folder.run(&format!("plan {} --measure 0", path.display())).expect(0);
        assert!(planned.out.contains(" runs\n"), "{}: {}", path.display(), planned.out);
        if path.ends_with("lra.yaml") {
            let s4 = planned.out.lines().filter(|line| line.split_whitespace().nth(1) == Some("s4"));
            let of_reference: Vec<bool> = s4.map(|line| line.contains(" 1.000 ")).collect();
            assert_eq!(of_reference, [true; 6], "S4 has the sizes of its reference: {}", planned.out);
        }
    }
}

#[test]
fn a_run_s_weights_leave_under_the_names_of_released_models() {
    let text = FIVE.replace("seeds: 2", "seeds: 1");
    let folder = Folder::with("five.yaml", &text);
    folder.run("sweep five.yaml").expect(0);
    let names = |file: &str| -> Vec<String> {
        let bytes = folder.read(file);
        let header = u64::from_le_bytes(bytes[..8].try_into().expect("a length")) as usize;
        let header: Value = serde_json::from_slice(&bytes[8..8 + header]).expect("JSON");
        assert_eq!(header["__metadata__"], serde_json::json!({"format": "pt"}));
        header.as_object().expect("a map").keys().filter(|key| *key != "__metadata__").cloned().collect()
    };
    for record in folder.records() {
        let start = &record.id[..10];
        let ended = folder.run(&format!("export-weights {start} --out w.safetensors")).expect(0);
        assert!(ended.err.contains(&record.id) && ended.out.is_empty(), "{}", ended.err);
        let reference = names("w.safetensors");
        folder.run(&format!("export-weights {start} --out own.safetensors --names own")).expect(0);
        let own = names("own.safetensors");
        let inside = match mixer(&record) {
            "bigs" => "bigs.encoder.layer.0.du_forward.weight",
            "hydra" => "bert.encoder.layer.0.layer.mixer.in_proj.weight",
            _ => "bert.encoder.layer.0.mixer_norm.weight",
        };
        // Attention stands in a pre-norm block: no BERT.
        assert_eq!(ended.err.contains("keep our names"), inside.ends_with("mixer_norm.weight"), "{}", ended.err);
        assert!(reference.iter().any(|name| name == inside), "{inside}: {reference:#?}");
        assert!(own.iter().all(|name| !name.starts_with("model.")) && own.contains(&"embedding.weight".to_string()));
        assert!(reference.iter().any(|name| name.ends_with(".embeddings.word_embeddings.weight")), "{reference:#?}");
    }
    let ids: Vec<String> = folder.records().into_iter().map(|record| record.id).collect();
    let wrong = folder.run("export-weights zz --out w.safetensors").expect(2);
    assert!(wrong.err.starts_with("error: no run of the store begins with `zz`\n  help: "), "{}", wrong.err);
    let wrong = folder.run(&format!("export-weights {} --out w.bin", ids[0])).expect(2);
    assert!(wrong.err.contains("weights are written as .safetensors"), "{}", wrong.err);
    let wrong = folder.run(&format!("export-weights {} --out w.safetensors --store none", ids[0])).expect(3);
    assert!(wrong.err.contains("none is not a folder"), "{}", wrong.err);
    let nowhere = folder.run(&format!("export-weights {} --out no/such/w.safetensors", ids[0])).expect(3);
    assert!(nowhere.err.contains("No such file") && !nowhere.err.contains("help: "), "{}", nowhere.err);
    let path = format!("runs/work/{}/best.safetensors", ids[1]);
    let mut bytes = folder.read(&path);
    *bytes.last_mut().expect("tensors") ^= 1;
    folder.write(&path, bytes);
    let damaged = folder.run(&format!("export-weights {} --out w.safetensors", ids[1])).expect(1);
    assert!(damaged.err.contains("is damaged") && damaged.err.contains("delete its records"), "{}", damaged.err);
    std::fs::remove_file(folder.path(&format!("runs/work/{}/best.safetensors", ids[0]))).expect("a checkpoint");
    let gone = folder.run(&format!("export-weights {} --out w.safetensors", ids[0])).expect(3);
    assert!(gone.err.contains("has no best weights"), "{}", gone.err);
}

#[test]
fn a_part_or_a_trial_of_a_sweep_never_takes_the_place_of_the_whole_one() {
    let folder = Folder::with("pair.yaml", &(pair(5) + "  - combiner: { n_heads: 2 }\n"));
    folder.run("sweep pair.yaml -q").expect(0);
    let whole = |name: &str| folder.read(&format!("runs/{name}"));
    let files = ["sweeps/pair.json", "reports/pair/table.md", "reports/pair/runs.csv"];
    let before = files.map(whole);
    let said = folder.run("sweep pair.yaml --set seeds=[5]").expect(0);
    assert!(said.err.contains("a sweep of its own, pair-part-"), "{}", said.err);
    folder.run("sweep pair.yaml --filter mixer=combiner -q").expect(0);
    folder.run("sweep pair.yaml --limit 1 -q").expect(0);
    assert!(files.map(whole) == before, "tables of the whole sweep moved");
    let sweeps = folder.names("runs/sweeps");
    assert_eq!(sweeps.len(), 3, "{sweeps:?}");
    assert!(sweeps.iter().all(|name| name == "pair.json" || name.starts_with("pair-part-")), "{sweeps:?}");
    // The same changes, in another order, are the same part.
    folder.run("sweep pair.yaml -q --set model.d_model=8 --set seeds=1").expect(0);
    folder.run("sweep pair.yaml -q --set seeds=1 --set model.d_model=8").expect(0);
    assert_eq!(folder.names("runs/sweeps").len(), 4);
    let report = folder.run(&format!("report runs --sweep {}", sweeps[0].trim_end_matches(".json"))).expect(0);
    assert!(report.out.contains(" mqar"), "{}", report.out);
}

#[test]
fn a_value_set_for_every_run_replaces_the_axis_and_is_said() {
    let folder = Folder::with("pair.yaml", &(pair(5) + "grid: { optimizer.lr: [1e-3, 1e-2] }\n"));
    let dry = folder.run("sweep pair.yaml -n").expect(0);
    assert_eq!(dry.out.lines().count(), 4, "{}", dry.out);
    let set = folder.run("sweep pair.yaml -n --set optimizer.lr=0.1").expect(0);
    assert_eq!(set.out.lines().count(), 2, "{}", set.out);
    assert!(!set.out.contains("optimizer.lr"), "a label would be of another rate: {}", set.out);
    assert!(set.err.contains("note: --set optimizer.lr replaces the axis `optimizer.lr`"), "{}", set.err);
    assert!(!folder.run("sweep pair.yaml -n -q --set optimizer.lr=0.1").expect(0).err.contains("note"));
}

#[test]
fn arguments_that_are_none_are_told_what_to_write() {
    let folder = Folder::with("pair.yaml", &pair(5));
    for (line, hint) in [
        ("sweep pair.yaml --set budget.steps=3 seeds=1", "every assignment has a --set of its own"),
        ("sweep pair.yaml --seed 3", "--set 'seeds=[3]'"),
        ("plan pair.yaml --seed=3", "--filter seed=3"),
        ("sweep pair.yaml --resume", "the same command goes on by itself"),
        ("sweep pair.yaml --steps 5", "--set budget.steps=100"),
    ] {
        let ended = folder.run(line).expect(2);
        assert!(ended.err.contains("unexpected argument") && ended.err.contains(hint), "{line}: {}", ended.err);
    }
    assert!(folder.run("sweep --help").expect(0).out.contains("--max-runs"));
    let many = folder.run("plan pair.yaml --max-runs 1").expect(2);
    assert!(many.err.contains("2 runs are asked for") && many.err.contains("--max-runs 2"), "{}", many.err);
}

#[test]
fn a_plan_s_time_is_of_steps_timed_here_and_of_runs_that_were_made() {
    let text = pair(5).replace("eval_every: 5", "eval_every: 1, stop_at: 0.9");
    let folder = Folder::with("pair.yaml", &text).measuring();
    let plan = |arguments: &str| -> Value {
        let planned = folder.run(&format!("plan pair.yaml --json {arguments}")).expect(0);
        serde_json::from_str(&planned.out).expect("one JSON document")
    };
    let from = |plan: &Value| plan["kinds"][0]["seconds_from"].as_str().expect("a word").to_owned();
    let number = |plan: &Value, key: &str| plan[key].as_f64().unwrap_or_else(|| panic!("{key}: {plan}"));
    let bound = plan("--measure 0");
    assert_eq!(from(&bound), "at matrix-product speed");
    let timed = plan("-j 1");
    assert_eq!(from(&timed), "timed");
    assert!(number(&timed, "seconds") > number(&bound, "seconds"), "no run is faster than products alone");
    assert!(number(&timed, "seconds_least") < number(&timed, "seconds"), "it may stop at its first look");
    assert!(!folder.path("runs").exists(), "a plan makes no store");
    plan("--measure 0 --store .");
    assert_eq!(folder.names("."), ["pair.yaml"], "not of a folder that is none either");
    // Two runs at a time: half as long, on paper. (Their steps may be slower: a share of the machine each.)
    let both = plan("-j 2 --measure 0");
    assert_eq!(both["jobs"], 2);
    assert!((number(&both, "seconds") / number(&both["kinds"][0], "seconds") - 1.0).abs() < 1e-9);
    let shown = folder.run("plan pair.yaml -j 1").expect(0).out;
    assert!(shown.contains(" ~") && shown.contains("~: steps as long as those timed on this machine"), "{shown}");
    assert!(shown.contains("if every run stops at its first chance"), "{shown}");

    folder.run("sweep pair.yaml -q -j 1").expect(0);
    let done = plan("-j 1");
    assert_eq!(from(&done), "measured");
    let walls: Vec<f64> = folder.records().iter().map(|record| record.wall_seconds).collect();
    let mean = walls.iter().sum::<f64>() / walls.len() as f64;
    assert!((number(&done["kinds"][0], "seconds") / mean - 1.0).abs() < 1e-9);
    // The machine's speed was measured once for one thread and for all of them, and is kept; shares of it are shares.
    assert!((1..=2).contains(&folder.measured().len()), "{:?}", folder.measured());
    for record in folder.records() {
        assert!(record.measures["model_flops_per_second"] > 0.0);
        assert!(record.measures.get("mfu").is_none_or(|share| *share > 0.0 && *share <= 1.0), "{:?}", record.measures);
    }
}

#[test]
fn plain_kernels_train_a_sweep_and_its_records_say_so() {
    let folder = Folder::with("five.yaml", FIVE);
    let swept = |kernels: &str, store: &str| {
        let mut command = folder.command(&format!("sweep five.yaml --set seeds=1 --store {store}"));
        let ended: tests::Ended = command.env("MIXARENA_KERNELS", kernels).output().expect("the binary starts").into();
        ended.expect(0);
        let mut records = folder.records_in(store);
        records.sort_by(|a, b| a.id.cmp(&b.id));
        records
    };
    let (plain, native) = (swept("plain", "plain"), swept("auto", "native"));
    assert_eq!((plain.len(), native.len()), (MIXERS.len(), MIXERS.len()));
    for (plain, native) in plain.iter().zip(&native) {
        assert_eq!((plain.id.as_str(), &plain.outcome), (native.id.as_str(), &Outcome::Finished), "the same run");
        assert_eq!((plain.device.kernels.as_str(), native.device.kernels.as_str()), ("plain", "native"));
        let first = |record: &results::Record| record.curve[0].train_loss;
        assert!((first(plain) / first(native) - 1.0).abs() < 1e-3, "{} and {}", first(plain), first(native));
    }
    let mut command = folder.command("sweep five.yaml");
    let ended: tests::Ended = command.env("MIXARENA_KERNELS", "fast").output().expect("the binary starts").into();
    let told = ended.expect(2).err;
    assert!(told.contains("MIXARENA_KERNELS is `fast`") && told.contains("plain, native or auto"), "{told}");
}
