use super::*;
use crate::samples;

fn store_with(records: &[Record]) -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path().join("runs")).expect("opens");
    for record in records {
        store.append(record).expect("appends");
    }
    (folder, store)
}

#[test]
fn a_report_is_made_of_manifest_and_records_alone() {
    let (manifest, mut records) = samples::eventful();
    let (_a, first) = store_with(&records);
    records.reverse();
    let (_b, second) = store_with(&records);
    let mut files = Vec::new();
    for store in [&first, &second] {
        let report = Report::build(store, &manifest).expect("builds");
        let paths = report.write(&store.report_dir(&manifest.name)).expect("writes");
        let read = |path: &PathBuf| (path.file_name().expect("a name").to_owned(), fs::read(path).expect("reads"));
        files.push(paths.iter().map(read).collect::<Vec<_>>());
    }
    assert_eq!(files[0].len(), 9);
    for ((name, a), (_, b)) in files[0].iter().zip(&files[1]) {
        assert!(a == b, "{name:?} depends on the day or the order");
    }
}

#[test]
fn the_page_holds_question_table_findings_failures_and_command() {
    let (manifest, records) = samples::eventful();
    let (_folder, store) = store_with(&records);
    fs::write(store.dir().join("records/torn-0001.json"), "{").expect("writes");
    let report = Report::build(&store, &manifest).expect("builds");
    insta::assert_snapshot!("page", report.page(&["scores", "curves"]));
}

#[test]
fn runs_csv_has_a_line_for_every_planned_run() {
    let (manifest, records) = samples::eventful();
    let report = Report::from_records(&manifest, &records).expect("builds");
    let text = report.runs_csv().expect("writes");
    assert_eq!(text.lines().count(), 1 + manifest.runs.len());
    insta::assert_snapshot!("runs_csv", text);
}

#[test]
fn a_program_can_read_rows_and_failures() {
    let (manifest, records) = samples::eventful();
    let report = Report::from_records(&manifest, &records).expect("builds");
    let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
    assert_eq!(json["rows"][0]["mixer"], "attention");
    assert_eq!(json["rows"][0]["test"]["n"], 3);
    assert_eq!(json["rows"][3]["test"], serde_json::Value::Null);
    assert_eq!(json["rows"][4]["above"], "at_floor");
    assert_eq!(json["unfinished"].as_array().map(Vec::len), Some(5));
}

#[test]
fn what_all_runs_remark_on_their_data_stands_on_the_page_once() {
    let manifest = samples::manifest(&["a", "b"], &["mqar"], 1);
    let note =
        |id: &str, own: &str| Record { notes: vec!["3 rows skipped".into(), own.into()], ..samples::record(id, 0.5) };
    let records: Vec<Record> = manifest.runs.iter().map(|run| note(&run.id, &format!("of {}", run.mixer))).collect();
    let report = Report::from_records(&manifest, &records).expect("builds");
    let remarks = |report: &Report| report.table().section("remarks").expect("there").notes.clone();
    assert_eq!(remarks(&report), ["mqar: 3 rows skipped"]);
    assert!(report.page(&[]).contains("\n## Data\n\n- mqar: 3 rows skipped\n"));
    assert!(report.json().contains("3 rows skipped"));
    let alone = Report::from_records(&samples::manifest(&["a"], &["mqar"], 1), &records).expect("builds");
    assert_eq!(remarks(&alone), ["mqar: 3 rows skipped", "mqar: of a"]);
}

#[test]
fn a_sweep_that_has_not_begun_has_a_report() {
    let (folder, store) = store_with(&[]);
    let manifest = samples::manifest(&["a"], &["mqar"], 2);
    let paths = Report::build(&store, &manifest).expect("builds").write(&folder.path().join("out")).expect("writes");
    assert!(paths.iter().all(|path| path.exists()));
    assert!(paths.iter().all(|path| !path.ends_with("curves.svg")));
}

#[test]
fn the_page_of_long_range_arena_holds_its_averages_and_explains_its_signs() {
    let (manifest, records) = samples::lra();
    let report = Report::from_records(&manifest, &records).expect("builds");
    let page = report.page(&["scores"]);
    let averages = page.split("## Long Range Arena averages").nth(1).expect("a section");
    assert!(averages.contains("| hydra | - |") && averages.contains("no score on Text"), "{averages}");
    assert_eq!(page.matches("‡ retrieval: synthetic").count(), 3, "below the scores, the averages and all tasks");
    let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
    assert_eq!(json["rows"][2]["published"]["model"], "S4D-LegS");
    assert_eq!(json["rows"][10]["marks"], serde_json::json!(["synthetic"]));
    assert_eq!(json["averages"][4]["missing"], serde_json::json!(["Text"]));
    assert!(report.runs_csv().expect("writes").contains(",synthetic,s4.retrieval.1"));
}
