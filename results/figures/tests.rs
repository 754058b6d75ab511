use super::*;
use crate::Record;
use crate::figures::cells::Cells;
use crate::figures::details::Details;
use crate::figures::lined::MODEL;
use crate::figures::lines::Lines;
use crate::figures::profile::{Profile, Shape};
use crate::figures::ranking::Ranking;
use crate::figures::source::SCORE;
use crate::plot::cells::{Filling, Maps};
use crate::plot::radar::Radar;
use crate::report::Report;
use crate::table::frame;
use crate::{Scale, samples};
use insta::assert_snapshot;
use std::any::Any;
use std::fs;

fn made((manifest, records): &(Manifest, Vec<Record>)) -> (Vec<Built>, Vec<String>) {
    build(
        manifest,
        &frame::runs(manifest, records),
        &frame::searched(manifest, records),
        &Table::build(manifest, records).expect("builds"),
    )
}

fn with(figure: Figure, (manifest, records): (Manifest, Vec<Record>)) -> (Manifest, Vec<Record>) {
    (Manifest { figures: vec![figure], ..manifest }, records)
}

fn details(measure: &str, axis: &str) -> Figure {
    let scale = Scale::Log;
    let y_scale = if measure == SCORE { Scale::Linear } else { Scale::Log };
    Figure::from(Details { axis: axis.into(), measure: measure.into(), scale, y_scale })
}

fn importance() -> Figure {
    Figure::from(Cells { axis: "layer".into(), measure: "importance".into() })
}

fn profile(shape: Shape) -> Figure {
    Figure::from(Profile { shape })
}

fn ranking(measure: &str) -> Figure {
    let published = "C4-MLM-loss".into();
    Figure::from(Ranking { measure: measure.into(), lower_is_better: None, published })
}

fn linear(measure: &str, axis: &str) -> Figure {
    let (scale, y_scale) = (Scale::Linear, Scale::Linear);
    Figure::from(Details { axis: axis.into(), measure: measure.into(), scale, y_scale })
}

/// What it draws, if that is a `T`.
fn drawing<T: 'static>(built: &Built) -> Option<&T> {
    let drawing: &dyn Any = built.drawing.as_ref();
    drawing.downcast_ref()
}

fn svg(built: &Built) -> String {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for kind in ["svg", "png"] {
        built.draw(&folder.path().join(format!("{}.{kind}", built.stem))).expect("draws");
    }
    assert_eq!(fs::read_dir(folder.path()).expect("lists").count(), 2, "no temporary file is left");
    fs::read_to_string(folder.path().join(format!("{}.svg", built.stem))).expect("reads")
}

/// `GALLERY=FOLDER cargo test --workspace --lib gallery` keeps the pictures.
#[test]
fn every_kind_of_figure_in_the_gallery_is_drawn() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let folder = std::env::var_os("GALLERY").map_or(temporary.path().to_path_buf(), Into::into);
    for (i, sample) in gallery_samples().iter().enumerate() {
        let (built, missing) = made(sample);
        assert!(missing.is_empty() && !built.is_empty(), "sample {i}: {missing:?}");
        for figure in built {
            let picture = folder.join(format!("figs-{i}-{}.png", figure.stem));
            figure.draw(&picture).expect("draws");
            assert!(fs::metadata(&picture).expect("is written").len() > 5_000, "{} is empty", figure.title);
        }
    }
}

fn gallery_samples() -> Vec<(Manifest, Vec<Record>)> {
    vec![
        samples::swept(),
        with(details(SCORE, "length"), samples::detailed()),
        with(details("risk", "context"), samples::detailed()),
        with(importance(), samples::detailed()),
        with(profile(Shape::Heat), samples::eventful_profile()),
        with(profile(Shape::Radar), samples::eventful_profile()),
        with(ranking("loss"), samples::matrix_mixers()),
        with(details(SCORE, "frequency"), samples::language()),
        with(details("loss", "frequency"), samples::language()),
        with(details(SCORE, "distance"), samples::language()),
        with(linear(SCORE, "position"), samples::language()),
        with(linear("minimal_pairs", "phenomenon"), samples::language()),
    ]
}

#[test]
fn scores_by_a_swept_setting_are_drawn_and_told() {
    let sample = samples::swept();
    let (built, missing) = made(&sample);
    assert_eq!((built.len(), missing.len()), (1, 0));
    let figure = &built[0];
    assert_eq!((figure.stem.as_str(), figure.title.as_str()), ("lines", "Test accuracy by d_model"));
    assert_snapshot!(figure.caption, @"Means and 95 % Student-t intervals over n = 2 seeds, clipped to [0, 1]. Floor: what the best constant answer or a guesser scores on the whole test split. No score: s4 on copy at d_model=32 (2 failed). The other settings are the best on validation at each d_model.");
    assert_snapshot!(figure.table, @r"
    | task | d_model | 32 | 64 | 128 |
    | --- | --- | ---: | ---: | ---: |
    | mqar | attention | 0.955 [0.891, 1.000] | 0.955 [0.891, 1.000] | 0.955 [0.891, 1.000] |
    | mqar | s4 | 0.285 [0.221, 0.349] | 0.307 [0.000, 1.000] | 0.685 [0.621, 0.749] |
    | copy | attention | 0.955 [0.891, 1.000] | 0.955 [0.891, 1.000] | 0.955 [0.891, 1.000] |
    | copy | s4 | - | 0.485 [0.421, 0.549] | 0.685 [0.621, 0.749] |
    ");
    let svg = svg(figure);
    for text in
        ["mqar", "copy", "attention", "s4", "floor", "d_model", "test accuracy", "128", "No score: s4 on copy at"]
    {
        assert!(svg.contains(text), "{text}");
    }
}

#[test]
fn each_value_of_a_swept_setting_is_tuned_by_itself_and_warned_of_by_none() {
    let (manifest, records) = samples::swept();
    let table = Table::build(&manifest, &records).expect("builds");
    assert_eq!(table.rows.len(), 12, "mixers by tasks by widths");
    assert!(table.rows.iter().all(|row| row.settings_tried == 2 && row.swept.starts_with("d_model=")));
    assert!(table.warnings.iter().all(|said| !said.contains("`model.d_model`")), "{:?}", table.warnings);
    assert!(table.warnings[0].starts_with("attention on mqar at d_model=32: the best `optimizer.lr` = 0.001"));
    assert!(["overall", "lra", "groups"].iter().all(|name| table.section(name).is_none()));
    assert!(table.findings.iter().any(|said| said.contains("on mqar at d_model=64")), "{:?}", table.findings);
    assert_snapshot!("swept_terminal", table.terminal(140, false));
    let plots = scores::data(&manifest, &frame::runs(&manifest, &records), &table);
    assert_eq!(plots.panels.len(), 6, "a panel for each task and width");
    assert!(plots.panels.iter().all(|panel| panel.entries.len() == 2));
}

#[test]
fn without_the_figure_the_same_setting_is_tuned_over() {
    let (mut manifest, records) = samples::swept();
    manifest.figures.clear();
    let table = Table::build(&manifest, &records).expect("builds");
    assert_eq!(table.rows.len(), 4);
    assert!(table.section("overall").is_some() && table.rows.iter().all(|row| row.swept.is_empty()));
}

#[test]
fn measures_stand_in_every_table() {
    let (manifest, mut records) = samples::swept();
    for record in &mut records {
        record.measures.insert("test".into(), if record.seed == 1 { f64::NAN } else { 2.0 });
    }
    let report = Report::from_records(&manifest, &records).expect("builds");
    assert_snapshot!(samples::section(report.table(), "measures"), @r"
    | task | mixer | settings | test | wait_share |
    | --- | --- | --- | ---: | ---: |
    | mqar | attention | d_model=32 lr=0.001 | 2.00 (1/2) | 0.0150 |
    | mqar | attention | d_model=64 lr=0.001 | 2.00 (1/2) | 0.0150 |
    | mqar | attention | d_model=128 lr=0.001 | 2.00 (1/2) | 0.0150 |
    | mqar | s4 | d_model=32 lr=0.001 | 2.00 (1/2) | 0.0150 |
    | mqar | s4 | d_model=64 lr=0.001 | 2.00 (1/2) | 0.0100 (1/2) |
    | mqar | s4 | d_model=128 lr=0.001 | 2.00 (1/2) | 0.0150 |
    | copy | attention | d_model=32 lr=0.001 | 2.00 (1/2) | 0.0150 |
    | copy | attention | d_model=64 lr=0.001 | 2.00 (1/2) | 0.0150 |
    | copy | attention | d_model=128 lr=0.001 | 2.00 (1/2) | 0.0150 |
    | copy | s4 | d_model=32 lr=0.001 | - | - |
    | copy | s4 | d_model=64 lr=0.001 | 2.00 (1/2) | 0.0150 |
    | copy | s4 | d_model=128 lr=0.001 | 2.00 (1/2) | 0.0150 |

    Mean over the scored seeds that report a measure; (k/n) where only k of the n planned runs do: a run that failed has none, nor one that diverged, except of accuracies, F1 and correlations, of which it counts the floor. Intervals are in table.json, single runs in runs.csv.
    ");
    let csv = samples::csv(report.table(), "table");
    assert!(csv.lines().next().expect("a header").ends_with(",measure.test,wait_share"), "{csv}");
    assert!(csv.lines().nth(1).expect("a row").ends_with(",2,0.015"), "{csv}");
    let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
    assert_eq!(
        (&json["rows"][0]["measures"]["wait_share"]["n"], &json["rows"][0]["swept"]),
        (&2.into(), &"d_model=32".into())
    );
    let folder = tempfile::tempdir().expect("a temporary folder");
    report.write(folder.path()).expect("writes");
    let runs = fs::read_to_string(folder.path().join("runs.csv")).expect("reads");
    let header = runs.lines().next().expect("a header");
    assert!(header.ends_with(",id,measure.test,wait_share"), "{header}");
}

#[test]
fn a_measure_can_be_drawn_against_a_setting() {
    let (mut manifest, records) = samples::swept();
    let asked =
        |measure: &str| Lines { x: "model.d_model".into(), panels: None, measure: measure.into(), scale: Scale::Log };
    manifest.figures = vec![Figure::from(asked("wait_share")), Figure::from(asked("exact"))];
    let (built, missing) = made(&(manifest, records));
    assert_eq!(built[0].title, "Wait_share by d_model");
    assert!(svg(&built[0]).contains("wait_share"));
    assert_eq!(
        missing,
        ["the figure `lines-2` is not drawn: no scored run has the measure `exact`; recorded are `wait_share`"]
    );
}

#[test]
fn an_axis_of_words_and_a_second_axis_are_drawn_too() {
    let (mut manifest, records) = samples::swept();
    for run in &mut manifest.runs {
        let kind = if run.settings[1].1 == "0.001" { "shared" } else { "stacked" };
        run.settings[1] = ("model.stack".into(), kind.into());
    }
    let asked = Lines {
        x: "model.stack".into(),
        panels: Some("model.d_model".into()),
        measure: SCORE.into(),
        scale: Scale::Log,
    };
    manifest.figures = vec![Figure::from(asked)];
    let sample = (manifest, records);
    let table = Table::build(&sample.0, &sample.1).expect("builds");
    assert!(
        table.rows.len() == 24 && samples::json(&table, "settings") == serde_json::json!([]),
        "no setting is left to tune"
    );
    let (built, missing) = made(&sample);
    assert!(missing.is_empty(), "{missing:?}");
    let svg = svg(&built[0]);
    for text in ["shared", "stacked", "mqar, d_model=128"] {
        assert!(svg.contains(text), "{text}");
    }
}

#[test]
fn details_by_length_and_by_context_are_drawn_with_baselines_and_without_what_is_missing() {
    let (built, missing) = made(&with(details("risk", "context"), samples::detailed()));
    assert!(missing.is_empty(), "{missing:?}");
    assert_snapshot!(built[0].caption, @"Means and 95 % Student-t intervals over n = 2 to 3 seeds. Grey: baselines, the same for every mixer of a task, as means over its runs. Fewer seeds: s4 on parity (2 of 3, 1 failed). No risk by context: fnet on parity (3 missing); mamba on s5 (3 failed); fnet on s5 (3 missing). Every run's numbers are in details.csv.");
    assert_snapshot!(built[0].table, @r"
    | task | context | 8 | 16 | 24 | 32 |
    | --- | --- | ---: | ---: | ---: | ---: |
    | parity | attention | 0.421 [0.416, 0.426] | 0.212 [0.207, 0.217] | 0.143 [0.138, 0.148] | 0.108 [0.103, 0.113] |
    | parity | s4 | 0.628 [0.615, 0.641] | 0.316 [0.303, 0.328] | 0.211 [0.199, 0.224] | 0.159 [0.147, 0.172] |
    | parity | mamba | 0.629 [0.624, 0.634] | 0.317 [0.312, 0.321] | 0.212 [0.207, 0.217] | 0.160 [0.155, 0.165] |
    | parity | baseline: ridge | 0.250 | 0.125 | 0.0833 | 0.0625 |
    | parity | baseline: support oracle | 0.0500 | 0.0250 | 0.0167 | 0.0125 |
    | s5 | attention | 0.421 [0.416, 0.426] | 0.212 [0.207, 0.217] | 0.143 [0.138, 0.148] | 0.108 [0.103, 0.113] |
    | s5 | s4 | 0.629 [0.624, 0.634] | 0.317 [0.312, 0.321] | 0.212 [0.207, 0.217] | 0.160 [0.155, 0.165] |
    | s5 | baseline: ridge | 0.250 | 0.125 | 0.0833 | 0.0625 |
    | s5 | baseline: support oracle | 0.0500 | 0.0250 | 0.0167 | 0.0125 |
    ");
    let risk = svg(&built[0]);
    for text in ["attention", "s4", "mamba", "ridge", "support oracle", "parity", "context", "risk"] {
        assert!(risk.contains(text), "{text}");
    }
    let (built, _) = made(&with(details(SCORE, "length"), samples::detailed()));
    assert_eq!(built[0].title, "Test accuracy by length");
    let score = svg(&built[0]);
    assert!(score.contains("floor") && score.contains("256") && !score.contains("ridge"));
}

#[test]
fn a_heat_map_has_a_cell_for_each_layer_and_head_and_says_why_one_is_missing() {
    let (manifest, mut records) = with(importance(), samples::detailed());
    for record in records.iter_mut().filter(|record| record.id.starts_with("attention.parity")) {
        record.details.retain(|detail| (detail.at, detail.series.as_str()) != (1.0, "head 3"));
    }
    let (built, missing) = made(&(manifest, records));
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!((built[0].stem.as_str(), built[0].title.as_str()), ("cells", "Importance by layer and head"));
    assert_snapshot!(built[0].caption, @"Means over n = 2 to 3 seeds. Blue is positive, orange negative, white 0; one scale for all panels. Fewer seeds: s4 on parity (2 of 3, 1 failed). Every run's numbers are in details.csv.");
    let maps: &Maps = drawing(&built[0]).expect("a heat map");
    let first = &maps.panels[0];
    assert_eq!((first.columns.join(" "), first.rows.join(" ")), ("0 1 2 3".into(), "0 1".into()));
    assert_eq!(first.cells.len(), 8);
    assert_eq!(first.cells[7], Filling::Blank, "nobody measured it");
    // 0.4 · 0.9 + 0.001 · 2 - 0.02, the mean over seeds 1, 2 and 3.
    let Filling::Number(value, text) = &first.cells[4] else { panic!("a number") };
    assert!((value - 0.342).abs() < 1e-12 && text == "0.34", "{value} {text}");
    let svg = svg(&built[0]);
    for text in ["attention, parity", "mamba, s5", "3 failed", "fnet, s5", "3 missing", "layer", "head", "−0.02"] {
        assert!(svg.contains(text), "{text}");
    }
}

#[test]
fn a_profile_shows_every_mixer_on_every_task_with_its_failures() {
    let (built, missing) = made(&with(profile(Shape::Heat), samples::eventful_profile()));
    assert!(missing.is_empty(), "{missing:?}");
    assert_snapshot!(built[0].caption, @"Mean over seeds of (score - floor) / (ceiling - floor), cut to 0..1: 0 is guessing, 1 perfect. Diverged seeds count 0 (*): s4 on mqar (1 of 2). Fewer seeds (*): mamba on sort (1 of 2, 1 failed).");
    assert_snapshot!(built[0].table, @r"
    | mixer | mqar | selective-copy | parity | s5 | in-context-recall | in-context-recall/vocab_size=32 | sort |
    | --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
    | attention | 1.00 | 0.74 | 0.44 | 0.14 | 0.89 | 0.59 | 0.29 |
    | s4 | 0.30* | 0.29 | 1.00 | 0.74 | 0.44 | 0.14 | 0.89 |
    | mamba | 0.14 | 0.89 | 0.59 | failed | 1.00 | 0.74 | 0.43* |
    | gated_deltanet | 0.74 | 0.44 | 0.14 | 0.89 | 0.59 | 0.29 | 1.00 |
    ");
    let heat = svg(&built[0]);
    for text in ["attention", "in-context-recall/vocab_size=32", "failed", "0 floor, 1 ceiling"] {
        assert!(heat.contains(text), "{text}");
    }
    let (built, _) = made(&with(profile(Shape::Radar), samples::eventful_profile()));
    assert!(drawing::<Radar>(&built[0]).is_some() && built[0].caption.contains("thin lines are seeds"));
    let radar = svg(&built[0]);
    for text in ["attention", "selective-copy", "failed"] {
        assert!(radar.contains(text), "{text}");
    }
}

#[test]
fn two_tasks_make_no_polygon() {
    let (mut manifest, records) = with(profile(Shape::Radar), samples::eventful_profile());
    manifest.runs.retain(|run| ["parity", "s5"].contains(&run.task.as_str()));
    let (built, _) = made(&(manifest, records));
    assert!(drawing::<Maps>(&built[0]).is_some());
    assert!(built[0].caption.contains("Fewer than three tasks"), "{}", built[0].caption);
}

#[test]
fn numbers_that_are_none_or_off_the_axis_are_said_and_not_drawn() {
    let (manifest, mut records) = with(details("risk", "context"), samples::detailed());
    for record in records.iter_mut().filter(|record| record.id == "attention.s5.1") {
        for detail in record.details.iter_mut().filter(|detail| detail.measure == "risk" && detail.series == MODEL) {
            detail.value = f64::NAN;
        }
    }
    for record in records.iter_mut().filter(|record| record.id.starts_with("s4.s5")) {
        for detail in record.details.iter_mut().filter(|detail| detail.at == 8.0) {
            detail.value = 0.0;
        }
    }
    let (built, _) = made(&(manifest, records));
    let said = &built[0].caption;
    assert!(said.contains("Left out, being no finite number: attention on s5 (4)"), "{said}");
    assert!(said.contains("Outside the logarithmic axes: s4 on s5 at context 8"), "{said}");
    svg(&built[0]);
}

#[test]
fn one_seed_and_one_point_are_drawn_without_an_interval() {
    let (mut manifest, mut records) = with(details(SCORE, "length"), samples::detailed());
    manifest.runs.retain(|run| run.seed == 1 && run.mixer == "attention");
    for record in &mut records {
        record.details.retain(|detail| detail.measure == SCORE && detail.at == 64.0);
    }
    let (built, missing) = made(&(manifest, records));
    assert!(missing.is_empty() && built[0].caption.starts_with("One seed a point, so no interval."));
    svg(&built[0]);
}

#[test]
fn a_figure_of_what_nobody_recorded_is_a_warning() {
    let (mut manifest, records) = samples::detailed();
    let lines = Lines { x: "model.d_model".into(), panels: None, measure: SCORE.into(), scale: Scale::Linear };
    manifest.figures = vec![Figure::from(lines), details("loss", "position"), details("risk", "context")];
    let report = Report::from_records(&manifest, &records).expect("builds");
    let said = report.table().warnings.join("\n");
    assert!(said.contains("the figure `lines` is not drawn: no run has the setting `model.d_model`"), "{said}");
    let known = "recorded are `importance` by `layer`, `risk` by `context`, `score` by `length`";
    assert!(said.contains(&format!("the figure `details` is not drawn: no record has `loss` by `position`; {known}")));
    let folder = tempfile::tempdir().expect("a temporary folder");
    let paths = report.write(folder.path()).expect("writes");
    let names: Vec<String> =
        paths.iter().map(|path| path.file_name().expect("a name").to_string_lossy().into_owned()).collect();
    assert!(names.contains(&"details-2.png".to_string()) && !names.contains(&"lines.svg".to_string()), "{names:?}");
    let page = fs::read_to_string(folder.path().join("report.md")).expect("reads");
    assert!(page.contains("**Warning:** the figure `lines` is not drawn"), "{page}");
    assert!(page.contains("## Risk by context") && page.contains("(details-2.svg)"), "{page}");
}

#[test]
fn every_detail_of_every_run_is_a_line_of_a_file() {
    let (manifest, records) = samples::detailed();
    let table = Table::build(&manifest, &records).expect("builds");
    let text = samples::csv(&table, "details");
    let count: usize = records.iter().map(|record| record.details.len()).sum();
    assert_eq!(text.lines().count(), 1 + count);
    let first = "parity,attention,,1,finished,true,score,model,length,32,0.91,attention.parity.1";
    assert_eq!(text.lines().nth(1), Some(first));
    let (manifest, records) = samples::eventful();
    assert!(Table::build(&manifest, &records).expect("builds").section("details").is_none());
}

#[test]
fn a_sweep_that_has_not_begun_has_a_figure_of_nothing_or_a_warning() {
    let (manifest, _) = samples::swept();
    let (built, missing) = made(&(manifest, Vec::new()));
    assert!(missing.is_empty() && svg(&built[0]).contains("nothing to draw"));
    let (manifest, _) = with(details(SCORE, "length"), samples::detailed());
    let (built, missing) = made(&(manifest, Vec::new()));
    assert!(built.is_empty() && missing[0].ends_with("no record has `score` by `length`"), "{missing:?}");
}

#[test]
fn the_order_of_the_records_leaves_no_trace_in_a_figure() {
    for sample in gallery_samples() {
        let one = made(&sample);
        let (manifest, mut records) = sample;
        records.reverse();
        records.rotate_left(3);
        let other = made(&(manifest, records));
        assert_eq!(one.1, other.1);
        for (a, b) in one.0.iter().zip(&other.0) {
            assert_eq!((&a.caption, &a.table, svg(a)), (&b.caption, &b.table, svg(b)));
        }
    }
}

#[test]
fn our_ranking_stands_beside_the_published_one() {
    let (built, missing) = made(&with(ranking("loss"), samples::matrix_mixers()));
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!((built[0].stem.as_str(), built[0].title.as_str()), ("ranking", "Ranking by loss beside C4-MLM-loss"));
    assert_snapshot!(built[0].caption, @"On mlm § the orders by loss and by the published C4-MLM-loss agree to Spearman's ρ = 0.97 [0.87, 0.99] and Kendall's τ = 0.88 [0.75, 0.95], n = 14 mixers, p = 0.0001 over 10000 random pairings. Over redrawn seeds (n = 3 each) ρ lies in [0.95, 0.98] in 95 of 100 draws. Intervals of the correlations: Fisher's z with the standard errors of Bonett and Wright (ρ) and of Fieller, Hartley and Pearson (τ), as if mixers were drawn at random; over redrawn seeds: how far our own seeds move the order, the published one fixed; not a confidence interval, since redrawing adds the spread of the seeds once more.");
    assert_snapshot!(built[0].table, @r"
    | task | mixer | rank | loss | published rank | C4-MLM-loss | moved |
    | --- | --- | ---: | ---: | ---: | ---: | ---: |
    | mlm § | attention_dd | 1 | 3.910 [3.835, 3.985] | 2 | 1.87 | +1 |
    | mlm § | quasiseparable_dd | 2 | 3.950 [3.875, 4.025] | 1 | 1.84 | -1 |
    | mlm § | low_rank_dd | 3 | 3.990 [3.915, 4.065] | 3 | 1.90 | 0 |
    | mlm § | cauchy_dd | 4 | 4.020 [3.945, 4.095] | 5 | 1.94 | +1 |
    | mlm § | toeplitz_dd | 5 | 4.050 [3.975, 4.125] | 4 | 1.91 | -1 |
    | mlm § | toeplitz | 6 | 4.120 [4.045, 4.195] | 6 | 1.97 | 0 |
    | mlm § | vandermonde_dd | 7 | 4.210 [4.135, 4.285] | 8 | 2.04 | +1 |
    | mlm § | low_rank | 8 | 4.250 [4.175, 4.325] | 10 | 2.06 | +2 |
    | mlm § | quasiseparable | 9 | 4.280 [4.205, 4.355] | 7 | 2.03 | -2 |
    | mlm § | dense | 10 | 4.310 [4.235, 4.385] | 9 | 2.05 | -1 |
    | mlm § | attention | 11 | 4.400 [4.325, 4.475] | 11 | 2.08 | 0 |
    | mlm § | cauchy | 12 | 4.520 [4.445, 4.595] | 12 | 2.25 | 0 |
    | mlm § | vandermonde | 13 | 4.770 [4.695, 4.845] | 13.5 | 2.46 | +0.5 |
    | mlm § | dft | 14 | 4.800 [4.725, 4.875] | 13.5 | 2.46 | -0.5 |
    ");
    let svg = svg(&built[0]);
    for text in ["quasiseparable_dd", "loss, best on top", "published C4-MLM-loss", "13.5", "1.84"] {
        assert!(svg.contains(text), "{text}");
    }
}

#[test]
fn accuracy_is_ranked_the_other_way_round_and_by_losses_alike() {
    let by_loss = made(&with(ranking("loss"), samples::matrix_mixers())).0;
    let by_score = made(&with(ranking(SCORE), samples::matrix_mixers())).0;
    let order = |built: &Built| {
        let lines = built.table.lines().skip(2);
        lines.map(|line| line.split('|').nth(2).expect("a mixer").trim().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(order(&by_loss[0])[0], "attention_dd");
    assert_eq!(order(&by_loss[0]), order(&by_score[0]));
    let lowest = Ranking { measure: SCORE.into(), lower_is_better: Some(true), published: "C4-MLM-acc".into() };
    let turned = made(&with(Figure::from(lowest), samples::matrix_mixers())).0;
    assert_eq!(order(&turned[0])[0], "dft");
    assert!(turned[0].caption.contains("ρ = −0.9"), "{}", turned[0].caption);
}

#[test]
fn how_many_seeds_a_ranking_stands_on_is_said() {
    let of = |kept: fn(&Record) -> bool| {
        let (mut manifest, mut records) = samples::matrix_mixers();
        records.retain(kept);
        manifest.runs.retain(|run| records.iter().any(|record| record.id == run.id));
        made(&with(ranking("loss"), (manifest, records))).0[0].caption.clone()
    };
    let one = of(|record| record.seed == 1);
    assert!(one.contains("A mixer has n = 1 seed, so seeds cannot be judged."), "{one}");
    let uneven = of(|record| record.seed < 3 || record.id.starts_with("dft"));
    assert!(uneven.contains("Over redrawn seeds (n = 2 to 3) ρ lies in ["), "{uneven}");
}

#[test]
fn who_cannot_be_ranked_is_named_and_a_ranking_of_nobody_is_a_warning() {
    let (built, _) = made(&with(ranking("loss"), samples::language()));
    assert!(built[0].caption.contains("Not ranked, having no loss: s4 on mlm § (3 failed)."), "{}", built[0].caption);
    assert!(built[0].caption.contains("n = 3 mixers, p = 0.333 over all pairings"), "{}", built[0].caption);
    let unknown = Ranking { measure: "loss".into(), lower_is_better: None, published: "C5".into() };
    let (manifest, records) = with(Figure::from(unknown), samples::language());
    assert!(made(&(manifest, records)).1[0].ends_with("`C5` is no task of the published tables"));
    let (_, missing) = made(&with(ranking("risk"), samples::language()));
    assert!(missing[0].contains("no scored run has the measure `risk`"), "{missing:?}");
    let (_, missing) = made(&with(ranking(SCORE), samples::eventful()));
    assert!(missing[0].ends_with("no mixer has both a score and a published C4-MLM-loss"), "{missing:?}");
}

#[test]
fn minimal_pairs_are_shown_by_phenomenon_the_easiest_first() {
    let (built, missing) = made(&with(linear("minimal_pairs", "phenomenon"), samples::language()));
    assert!(missing.is_empty(), "{missing:?}");
    assert_eq!(built[0].title, "Minimal pairs by phenomenon");
    let maps: &Maps = drawing(&built[0]).expect("a heat map");
    let map = &maps.panels[0];
    assert_eq!((map.rows.len(), map.columns.join(" ")), (13, "attention hydra fnet".into()));
    assert_eq!((map.rows[0].as_str(), map.rows[12].as_str()), ("irregular forms", "all"));
    assert!(built[0].caption.contains("No minimal pairs: s4 on mlm § (3 failed)."), "{}", built[0].caption);
    let line = built[0].table.lines().last().expect("a line");
    assert!(line.starts_with("| mlm § | all | 0.655 [0.655, 0.655] |") && line.ends_with("| - |"), "{line}");
    assert!(svg(&built[0]).contains("determiner noun agreement"));
}

#[test]
fn details_of_language_models_are_drawn_by_frequency_distance_and_position() {
    for (figure, title) in [
        (details(SCORE, "frequency"), "Test accuracy by frequency"),
        (details("loss", "frequency"), "Loss by frequency"),
        (details(SCORE, "distance"), "Test accuracy by distance"),
        (linear(SCORE, "position"), "Test accuracy by position"),
    ] {
        let (built, missing) = made(&with(figure, samples::language()));
        assert!(missing.is_empty(), "{missing:?}");
        assert_eq!(built[0].title, title);
        assert!(svg(&built[0]).contains("hydra"));
    }
}

#[test]
fn a_correlation_below_zero_is_on_the_axis_and_its_interval_is_not_cut_at_zero() {
    let (manifest, mut records) = with(details(SCORE, "length"), samples::detailed());
    for record in &mut records {
        record.metric = "Matthews correlation".into();
        record.scores.floor = Some(0.0);
        for detail in record.details.iter_mut().filter(|detail| detail.measure == SCORE) {
            detail.value -= 0.9;
        }
    }
    let (built, _) = made(&(manifest, records));
    assert!(built[0].caption.contains("clipped to [−1, 1]"), "{}", built[0].caption);
    assert!(built[0].table.contains("-0.280 [-0.305, -0.255]"), "{}", built[0].table);
    let svg = svg(&built[0]);
    assert!(svg.contains("−0.4") && svg.contains("test Matthews correlation"));
}

#[test]
fn many_places_on_an_axis_have_round_ticks_and_many_lengths_evenly_labelled_ones() {
    let labels = |figure: Figure| {
        let text = svg(&made(&with(figure, samples::language())).0[0]);
        let lines: Vec<String> = text.lines().map(|line| line.trim().to_string()).collect();
        lines.into_iter().filter(|line| line.parse::<u32>().is_ok()).collect::<Vec<_>>()
    };
    assert_eq!(labels(linear(SCORE, "position")), ["0", "50", "100"]);
    assert_eq!(labels(details(SCORE, "distance")), ["1", "2", "4", "8", "16", "32", "64"]);
    assert_eq!(labels(details(SCORE, "frequency")), ["4", "32", "256", "2048", "16384", "131072"]);
}

#[test]
fn a_figure_of_another_build_is_named_and_the_others_are_drawn() {
    let (mut manifest, records) = samples::swept();
    let pie = Figure { kind: "pie".into(), settings: serde_json::json!({}) };
    manifest.figures.insert(0, pie);
    let (built, missing) = made(&(manifest, records));
    assert_eq!((built.len(), built[0].stem.as_str()), (1, "lines"));
    assert!(missing[0].starts_with("the figure `pie` is not drawn: this build cannot read it: unknown variant"));
}
