//! Models brought to one size, and changes to one of them, as a user runs them.

use results::Manifest;
use serde_json::Value;
use tests::{Folder, RECALL};

fn config(more: &str) -> String {
    format!(
        "name: compared\nseeds: 2\ntasks:\n  - {RECALL}\nmodel: {{ d_model: 16, n_layers: 1, ffn: none }}\n\
         budget: {{ steps: 10, batch_size: 8, eval_every: 5 }}\nmixers:\n  - attention: {{ n_heads: 1 }}\n  - s4: {{ d_state: 4 }}\n{more}\n"
    )
}

fn manifest(folder: &Folder) -> Manifest {
    serde_json::from_slice(&folder.read("runs/sweeps/compared.json")).expect("a manifest")
}

#[test]
fn sizes_that_are_chosen_are_printed_kept_and_trained() {
    let folder = Folder::with(
        "compared.yaml",
        &config("match: { parameters: 4000, tolerance: 0.05, by: [d_model, mixer.d_state] }"),
    );
    let planned = folder.run("plan compared.yaml --json").expect(0);
    let planned: Value = serde_json::from_str(&planned.out).expect("JSON");
    let swept = folder.run("sweep compared.yaml").expect(0);
    let manifest = manifest(&folder);
    let matching = manifest.matched.expect("sizes were chosen");
    assert_eq!(planned["match"], serde_json::to_value(&matching).expect("plain data"), "plan and sweep choose alike");
    assert_eq!(matching.models.len(), 2);
    for model in &matching.models {
        assert!((model.size as f64 / 4000.0 - 1.0).abs() <= 0.05, "{model:?}");
        assert!(
            swept.err.contains(&format!("match: mqar · {}: {}, ", model.mixer, model.chosen_text())),
            "{}",
            swept.err
        );
        // The records know the size, and the spec what was chosen.
        let runs: Vec<&str> =
            manifest.runs.iter().filter(|run| run.mixer == model.mixer).map(|run| run.id.as_str()).collect();
        for record in folder.records().iter().filter(|record| runs.contains(&record.id.as_str())) {
            assert_eq!(record.parameters, model.size);
            assert_eq!(record.spec["model"]["d_model"].to_string(), model.chosen[0].1);
        }
    }
    let report = folder.text("runs/reports/compared/report.md");
    assert!(report.contains(
        "Models are matched by parameters, to 4000 within 5 %, by choice of d_model, mixer.d_state; furthest off is "
    ));
    assert!(report.contains("## Sizes"), "{report}");
    assert!(folder.run("sweep compared.yaml").expect(0).err.contains("nothing left to do"));
}

#[test]
fn changes_to_an_entry_are_runs_of_their_own_and_compared_by_seed() {
    let changes = "ablate: { base: s4, changes: { A fixed: { mixer.s4.lr: { A: 0 } }, with a feed-forward: { model.ffn: mlp } } }";
    let folder = Folder::with("compared.yaml", &config(changes));
    let swept = folder.run("sweep compared.yaml").expect(0);
    let manifest = manifest(&folder);
    let rows: Vec<&str> = manifest.runs.iter().map(|run| run.mixer.as_str()).collect();
    assert_eq!(rows.iter().filter(|row| ["A fixed", "with a feed-forward"].contains(row)).count(), 4, "{rows:?}");
    assert!(swept.out.contains("Changes to s4."), "{}", swept.out);
    let json: Value = serde_json::from_slice(&folder.read("runs/reports/compared/table.json")).expect("JSON");
    let score = |mixer: &str, seed: u64| {
        let run = manifest.runs.iter().find(|run| run.mixer == mixer && run.seed == seed).expect("it is planned");
        folder
            .records()
            .into_iter()
            .find(|record| record.id == run.id)
            .and_then(|record| record.scores.test)
            .expect("a score")
    };
    let listed = json["ablation"].as_array().expect("differences");
    assert_eq!(listed.len(), 2);
    for one in listed {
        let change = one["change"].as_str().expect("a label");
        let mean = [0, 1].map(|seed| score(change, seed) - score("s4", seed)).iter().sum::<f64>() / 2.0;
        assert!((one["mean"].as_f64().expect("a mean") - mean).abs() < 1e-12, "{one}");
        assert_eq!((one["pairs"].as_u64(), one["least_p"].as_f64()), (Some(2), Some(0.5)));
    }
    // The setting is trained, not only printed.
    let spec = |mixer: &str| {
        let run = manifest.runs.iter().find(|run| run.mixer == mixer).expect("it is planned");
        folder.records().into_iter().find(|record| record.id == run.id).expect("a record").spec
    };
    assert_eq!(spec("A fixed")["mixer"]["s4"]["lr"]["A"], 0.0);
    assert_eq!(
        (spec("s4")["model"]["ffn"].clone(), spec("with a feed-forward")["model"]["ffn"].clone()),
        ("none".into(), "mlp".into())
    );
}
