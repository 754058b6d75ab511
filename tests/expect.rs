//! A sweep that says what its scores must be.

use tests::{Folder, RECALL};

fn config(expect: &str) -> String {
    format!(
        "name: claims\nseeds: 2\ntasks:\n  - {RECALL}\nmodel: {{ d_model: 16, n_layers: 1 }}\n\
         budget: {{ steps: 10, batch_size: 8, eval_every: 5 }}\nexpect:\n{expect}\
         mixers: [gru, attention: {{ n_heads: 2 }}]\n"
    )
}

#[test]
fn what_holds_ends_well_and_what_is_missed_is_named_and_ends_with_one() {
    let folder = Folder::with("claims.yaml", &config("  - { mixer: gru, at_most: 1, source: arithmetic }\n"));
    let held = folder.run("sweep claims.yaml").expect(0);
    assert!(held.out.contains("at most 1") && held.out.contains("arithmetic"), "{}", held.out);
    folder.write("claims.yaml", config("  - { mixer: gru, task: mqar, at_least: 1, by: interval }\n"));
    let missed = folder.run("sweep claims.yaml").expect(1);
    assert!(missed.err.contains("nothing left to do"), "an expectation changes no run: {}", missed.err);
    assert!(
        missed.err.contains("missed: gru on mqar was expected at least 1, by interval; it scored"),
        "{}",
        missed.err
    );
    assert!(folder.text("runs/reports/claims/report.md").contains("| missed |"));
    let other = folder.run("sweep claims.yaml --filter mixer=attention").expect(0);
    assert!(!other.out.contains("at least 1"), "of a run that was left out nothing is expected: {}", other.out);
}

#[test]
fn what_cannot_be_expected_is_refused_with_its_place() {
    for (expect, said) in [
        ("  - 3\n", "bad.yaml:8:5: an expectation is `3`, expected a mapping"),
        ("  - { task: mqar, at_least: 1 }\n", "bad.yaml:8:5: an expectation names no `mixer`"),
        ("  - { mixer: gro, at_least: 1 }\n", "bad.yaml:8:14: no mixer is labelled `gro`"),
        ("  - { mixer: gru, task: text, at_least: 1 }\n", "bad.yaml:8:25: no task is labelled `text`"),
        ("  - { mixer: gru }\n", "bad.yaml:8:5: an expectation says nothing of the score"),
        ("  - { mixer: gru, at_least: 0.1, at_most: 0.2 }\n", "bad.yaml:8:5: an expectation has two bounds"),
        ("  - { mixer: gru, at_least: 95 }\n", "bad.yaml:8:29: `at_least` is `95`, which is no score"),
        ("  - { mixer: gru, above: gru }\n", "bad.yaml:8:5: expects a mixer above itself"),
        ("  - { mixer: gru, above: s4 }\n", "bad.yaml:8:26: no mixer is labelled `s4`"),
        ("  - { mixer: gru, at_least: 0, by: luck }\n", "bad.yaml:8:36: `by` is `luck`, expected mean or interval"),
        ("  - { mixer: gru, atleast: 0 }\n", "bad.yaml:8:19: unknown key `atleast` of an expectation"),
    ] {
        let ended = Folder::with("bad.yaml", &config(expect)).run("plan bad.yaml").expect(2);
        assert!(ended.err.contains(said), "{expect}:\n{}", ended.err);
    }
}
