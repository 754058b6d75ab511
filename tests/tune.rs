//! A sweep that searches settings before its runs.

use results::Manifest;
use tests::{Folder, RECALL};

/// Two mixers, two seeds, three rates.
fn config(more: &str) -> String {
    format!(
        "name: tuned\nseeds: 2\ntasks:\n  - {RECALL}\nmodel: {{ d_model: 16, n_layers: 1 }}\n\
         budget: {{ steps: 20, batch_size: 8, eval_every: 10 }}\ntune: {{ over: {{ optimizer.lr: [1e-3, 1e-2, 1e-1] }}, budget: 0.5{more} }}\n\
         mixers: [gru, attention: {{ n_heads: 2 }}]\n"
    )
}

fn manifest(folder: &Folder) -> Manifest {
    serde_json::from_slice(&folder.read("runs/sweeps/tuned.json")).expect("a manifest")
}

#[test]
fn short_runs_choose_the_setting_of_the_runs_and_enter_no_mean() {
    let folder = Folder::with("tuned.yaml", &config(""));
    let first = folder.run("sweep tuned.yaml").expect(0);
    assert!(first.err.contains("tuned: 6 runs planned and 4 more when the search has chosen"), "{}", first.err);
    let manifest = manifest(&folder);
    assert!(manifest.search.len() >= 6 && manifest.runs.len() == 4, "{manifest:?}");
    for run in &manifest.runs {
        let tuned = run.tuned.as_ref().expect("its setting was searched");
        let of_cell = manifest.search.iter().filter(|other| other.mixer == run.mixer);
        assert_eq!(tuned.tried, of_cell.clone().count());
        // The one with the best validation score of all that were tried, whatever it scored on test.
        let record = |id: &str| folder.records().into_iter().find(|record| record.id == id).expect("a record");
        let best = of_cell.max_by(|a, b| {
            let [a, b] = [a, b].map(|run| record(&run.id).merit().unwrap_or([f64::MIN; 2]));
            a[0].total_cmp(&b[0]).then(a[1].total_cmp(&b[1]))
        });
        assert_eq!(best.map(|best| &best.tried), Some(&tuned.chosen));
        let [done, searched] = [record(&run.id), record(&best.expect("some").id)];
        assert_eq!(done.spec["optimizer"], searched.spec["optimizer"]);
        assert_eq!((done.steps, searched.steps), (20, 10));
        assert!(manifest.search.iter().all(|other| other.seed != run.seed));
    }
    let table = folder.text("runs/reports/tuned/table.csv");
    assert_eq!(table.lines().count(), 3, "a row a mixer:\n{table}");
    assert!(table.lines().next().is_some_and(|titles| titles.contains("tuned")), "{table}");
    assert!(folder.text("runs/reports/tuned/report.md").contains("Before the runs, optimizer.lr was searched"));
    assert!(folder.read("runs/reports/tuned/sensitivity.png").starts_with(b"\x89PNG"));

    let records = folder.names("runs/records");
    let again = folder.run("sweep tuned.yaml").expect(0);
    assert_eq!(again.out, first.out);
    assert!(again.err.contains("nothing left to do"), "{}", again.err);
    assert_eq!(folder.names("runs/records"), records);
    assert_eq!(folder.run("report runs").expect(0).out.trim_end(), first.out.trim_end());
}

#[test]
fn a_search_goes_on_where_a_limit_stopped_it() {
    let folder = Folder::with("tuned.yaml", &config(", by: halving"));
    let part = folder.run("sweep tuned.yaml --limit 2").expect(4);
    assert!(part.err.contains("the search is not over: 4 runs have no setting yet"), "{}", part.err);
    assert_eq!(folder.names("runs/records").len(), 2);
    let whole = folder.run("sweep tuned.yaml").expect(0);
    let other = Folder::with("tuned.yaml", &config(", by: halving"));
    other.run("sweep tuned.yaml").expect(0);
    assert_eq!(manifest(&folder), manifest(&other), "{}", whole.err);
    let plan = other.run("plan tuned.yaml").expect(0);
    assert!(plan.out.contains("search=3 settings"), "{}", plan.out);
}

#[test]
fn what_cannot_be_tuned_is_refused_with_its_place() {
    let refused = |tune: &str, more: &str, said: &str| {
        let text = config("").replace("{ over: { optimizer.lr: [1e-3, 1e-2, 1e-1] }, budget: 0.5 }", tune) + more;
        let ended = Folder::with("bad.yaml", &text).run("plan bad.yaml").expect(2);
        assert!(ended.err.contains(said), "{tune} {more}:\n{}", ended.err);
        assert!(ended.err.contains("help: "), "{}", ended.err);
    };
    refused("3", "", "bad.yaml:7:7: `tune` is `3`, expected a mapping");
    refused("{ budget: 0.5 }", "", "bad.yaml:7:1: `tune` has no `over`");
    refused("{ over: {} }", "", "bad.yaml:7:15: `tune.over` is an empty mapping");
    refused("{ over: { optimizer.lr: [] } }", "", "bad.yaml:7:31: axis `optimizer.lr` of `tune.over` is an empty list");
    refused("{ over: { optimizer.rl: [1e-3] } }", "", "bad.yaml:7:17: unknown field `rl` of `optimizer`");
    refused("{ over: { optimizer.lr: [fast] } }", "", "bad.yaml:7:32: ");
    refused("{ over: { mixer.s4.d_state: [4] } }", "", "bad.yaml:7:17: `mixer.s4.d_state` is not a setting");
    refused("{ over: { mixer.gru.d_sate: [4] } }", "", "bad.yaml:7:17: unknown field `d_sate`");
    refused("{ over: { task.mqar.kv_pairs: [1, 2] } }", "", "bad.yaml:7:17: `task.mqar.kv_pairs` is the task's");
    refused("{ over: { budget.steps: [1, 2] } }", "", "bad.yaml:7:17: `budget.steps` is what the search shortens");
    refused("{ over: { optimizer.lr: [1e-3] }, budget: 2 }", "", "bad.yaml:7:49: `budget` is `2`, expected a share");
    refused("{ over: { optimizer.lr: [1e-3] }, by: luck }", "", "`by` is `luck`, expected grid or halving");
    refused("{ over: { optimizer.lr: [1e-3] }, seeds: 0 }", "", "`seeds` is `0`, expected a count from 1 to 100");
    refused("{ over: { optimizer.lr: [1e-3] }, seed: 1 }", "", "unknown key `seed` of `tune`");
    let swept = "grid: { optimizer.lr: [1e-3, 1e-2] }\n";
    refused(
        "{ over: { optimizer.lr: [1e-3] } }",
        swept,
        "bad.yaml:7:17: `optimizer.lr` is an axis of `grid` and of `tune`",
    );
}
