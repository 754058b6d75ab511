use super::*;
use crate::samples;
use crate::statistics::{Estimate, Range};
use crate::table::caption::duration;
use crate::table::row::{Above, clipped_to, normalised};
use crate::table::rows::{above, guessed_accuracy};
use crate::{Metric, MetricKind, Scores, Tested};
use insta::assert_snapshot;
use proptest::prelude::*;

fn table((manifest, records): &(Manifest, Vec<Record>)) -> Table {
    Table::build(manifest, records).expect("builds")
}

fn row<'a>(table: &'a Table, mixer: &str) -> &'a Row {
    table.rows.iter().find(|row| row.mixer == mixer).expect("a row")
}

#[test]
fn everything_that_can_happen_to_a_run_is_visible() {
    let table = table(&samples::eventful());
    assert_snapshot!("eventful_terminal", table.terminal(200, false));
    assert_snapshot!("eventful_markdown", table.markdown() + "\n" + &samples::section(&table, "unfinished"));
    assert_snapshot!("eventful_csv", samples::csv(&table, "table"));
}

#[test]
fn a_narrow_terminal_gets_fewer_columns() {
    let text = table(&samples::eventful()).terminal(80, false);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_snapshot!("eventful_narrow", text);
}

#[test]
fn a_grid_shows_the_setting_chosen_on_validation_and_then_all() {
    let table = table(&samples::grid());
    assert_eq!(row(&table, "attention").settings, "lr=0.001");
    assert_eq!(row(&table, "attention").settings_tried, 3);
    assert_snapshot!("grid_terminal", table.terminal(120, false));
    assert_snapshot!("grid_csv", samples::csv(&table, "table"));
}

#[test]
fn test_scores_play_no_part_in_the_choice_of_settings() {
    let (manifest, mut records) = samples::grid();
    for record in &mut records {
        record.scores.test = record.id.starts_with("attention.0.0003").then_some(1.0).or(Some(0.2));
    }
    assert_eq!(row(&table(&(manifest, records)), "attention").settings, "lr=0.001");
}

/// The sample of a grid as language models: attention's best score is at 0.001, its least loss at 0.003.
fn language_grid() -> (Manifest, Vec<Record>) {
    let (manifest, mut records) = samples::grid();
    for record in &mut records {
        record.metric = "masked accuracy".into();
        let loss = if record.id.contains(".0.003.") { 3.0 } else { 3.2 };
        record.best_step = 750;
        for point in &mut record.curve {
            point.validation_loss = if point.step == 750 { loss } else { 9.0 - loss };
        }
    }
    (manifest, records)
}

#[test]
fn settings_of_a_language_model_are_chosen_by_the_loss_at_the_best_step() {
    let (manifest, mut records) = language_grid();
    let table = table(&(manifest.clone(), records.clone()));
    assert_eq!(row(&table, "attention").settings, "lr=0.003");
    let loss = row(&table, "attention").validation_loss.as_ref().expect("a language model");
    assert_eq!((loss.mean, loss.n), (Some(3.0), 2));
    assert!(table.caption.iter().any(|said| said.starts_with("Settings chosen by least mean validation loss at the")));
    assert!(
        table.markdown().contains("| validation loss |") && samples::csv(&table, "table").contains("validation_loss")
    );
    // A diverged seed has no loss: behind the settings without one.
    let seed = records.iter_mut().find(|record| record.id == "attention.0.003.2").expect("there");
    let metric = seed.metric.clone();
    *seed = Record { seed: 2, metric, ..samples::ended("attention.0.003.2", samples::diverged("NaN")) };
    let table = self::table(&(manifest, records));
    assert_eq!(row(&table, "attention").settings, "lr=0.0003", "the first of equal losses");
}

#[test]
fn other_tasks_are_chosen_by_their_score_whatever_their_loss() {
    let (manifest, mut records) = language_grid();
    records.iter_mut().for_each(|record| record.metric = "greedy validity".into());
    let table = table(&(manifest, records));
    assert_eq!(
        (row(&table, "attention").settings.as_str(), &row(&table, "attention").validation_loss),
        ("lr=0.001", &None)
    );
    assert!(!samples::csv(&table, "table").contains("validation_loss"));
}

#[test]
fn unlike_metrics_and_glue_have_no_mean_over_all_tasks() {
    let manifest = samples::manifest(&["a", "b"], &["mlm", "listops"], 2);
    let mut records: Vec<Record> = manifest.runs.iter().map(|run| samples::record(&run.id, 0.5)).collect();
    assert_eq!(samples::overall(&table(&(manifest.clone(), records.clone()))).len(), 2);
    for record in records.iter_mut().filter(|record| record.id.contains("mlm")) {
        record.metric = "masked accuracy".into();
    }
    let of_metrics = table(&(manifest, records));
    assert!(of_metrics.section("overall").is_none());
    let said = "No mean over all tasks: their metrics differ.";
    assert!(of_metrics.caption.iter().any(|line| line == said), "{:?}", of_metrics.caption);
    assert!(!of_metrics.findings.iter().any(|said| said.starts_with("Over all tasks")));
    let (mut manifest, mut records) = samples::glue();
    manifest.runs.retain(|run| ["qnli", "rte"].contains(&run.task.as_str()));
    records.retain(|record| manifest.runs.iter().any(|run| run.id == record.id));
    let glue = table(&(manifest, records));
    assert!(glue.section("overall").is_none() && glue.section("glue").is_some());
    let said = "No mean over all tasks: GLUE is averaged by its papers' rules.";
    assert!(glue.caption.iter().any(|line| line == said), "{:?}", glue.caption);
}

#[test]
fn a_setting_that_mostly_failed_is_not_chosen_for_one_lucky_seed() {
    let (manifest, mut records) = samples::grid();
    records.retain(|record| record.id != "attention.0.001.2");
    assert_eq!(row(&table(&(manifest, records)), "attention").settings, "lr=0.0003");
}

#[test]
fn a_single_seed_is_shown_without_an_interval() {
    let manifest = samples::manifest(&["attention", "s4"], &["mqar", "listops"], 1);
    let records: Vec<Record> =
        ["attention.mqar.1", "s4.mqar.1", "s4.listops.1"].map(|id| samples::record(id, 0.6)).into();
    assert_snapshot!("one_seed", table(&(manifest, records)).terminal(120, false));
}

#[test]
fn published_numbers_signs_and_averages_stand_in_every_table() {
    let table = table(&samples::lra());
    assert_snapshot!("lra_terminal", table.terminal(140, false));
    let narrow = table.terminal(80, false);
    assert!(narrow.lines().all(|line| line.chars().count() <= 80), "{narrow}");
    assert_snapshot!("lra_narrow", narrow);
    assert_snapshot!("lra_markdown", table.markdown() + "\n" + &samples::section(&table, "lra"));
    assert_snapshot!("lra_csv", samples::csv(&table, "table"));
}

#[test]
fn the_order_of_the_records_leaves_no_trace_beside_published_numbers() {
    let (manifest, mut records) = samples::lra();
    let one = table(&(manifest.clone(), records.clone()));
    records.reverse();
    records.rotate_left(31);
    let other = table(&(manifest, records));
    assert_eq!(one.terminal(120, false), other.terminal(120, false));
    assert_eq!(samples::section(&one, "lra"), samples::section(&other, "lra"));
    assert_eq!(samples::csv(&one, "table"), samples::csv(&other, "table"));
}

#[test]
fn a_source_and_a_model_of_another_build_are_said() {
    let (mut manifest, records) = samples::lra();
    for run in manifest.runs.iter_mut().filter(|run| run.task == "path-x") {
        let model = if run.mixer == "s4" { "FlashAttention Transformer" } else { "Mixer of 2030" };
        run.published.as_mut().expect("named").model = Some(model.into());
    }
    let table = table(&(manifest, records));
    let note = "ᵈ FlashAttention Transformer: FlashAttention paper (Dao et al. 2022, arXiv:2205.14135), abstract.";
    assert!(table.sections[0].notes.iter().any(|said| *said == note), "{:?}", table.sections[0].notes);
    let warning = "`Mixer of 2030` is not in this build's table of published numbers";
    assert!(table.warnings.iter().any(|said| said == warning), "{:?}", table.warnings);
}

#[test]
fn the_time_of_all_runs_is_said_in_hours_minutes_or_seconds() {
    assert_eq!([45.4, 61.0, 3600.0, 90_061.0].map(duration), ["45 s", "1 min 01 s", "1 h 00 min", "25 h 01 min"]);
}

#[test]
fn equal_scores_at_the_floor_are_at_the_floor_whatever_rounding_does() {
    let scores = [0.5046_f64; 3];
    let mean = scores.iter().sum::<f64>() / 3.0;
    assert_eq!(
        above(Some(Estimate::new(mean.next_up(), Some(0.0), 3, Range::SHARE)), Some(0.5046), Some(1.0), None),
        Above::AtFloor
    );
}

#[test]
fn a_diverged_run_pulls_the_mean_to_the_floor() {
    let table = table(&samples::eventful());
    let mamba = row(&table, "mamba");
    let expected = (0.97 + 0.125) / 2.0;
    assert!((mamba.test.expect("two runs count").mean - expected).abs() < 1e-12);
    assert_eq!((mamba.scored, mamba.planned, mamba.counts.diverged, mamba.counts.failed), (2, 3, 1, 1));
}

#[test]
fn a_mixer_whose_every_run_failed_keeps_its_row() {
    let table = table(&samples::eventful());
    let hyena = row(&table, "hyena");
    assert_eq!((hyena.test, hyena.scored), (None, 0));
    assert_eq!(hyena.counts.remarks(), "1 failed, 1 timed out, 1 missing");
    assert!(table.terminal(200, false).contains("shape [2, 3] | expected [2, 4]"));
    assert!(samples::section(&table, "unfinished").contains("shape [2, 3] \\| expected [2, 4]"));
}

#[test]
fn a_score_is_at_the_floor_only_if_its_mean_is_near_it() {
    let estimate = |scores: &[f64]| {
        let sd = crate::statistics::sample_sd(scores);
        Some(Estimate::new(crate::statistics::mean(scores).expect("scores"), sd, scores.len(), Range::SHARE))
    };
    let above = |scores: &[f64]| above(estimate(scores), Some(0.125), Some(1.0), None);
    assert_eq!(above(&[0.12, 0.13, 0.125]), Above::AtFloor);
    assert_eq!(above(&[0.99, 0.98, 0.13]), Above::Unsure);
    assert_eq!(above(&[0.50, 0.52, 0.51]), Above::Floor);
    assert_eq!(above(&[0.12]), Above::AtFloor);
    assert_eq!(super::rows::above(None, Some(0.125), Some(1.0), None), Above::Floor);
}

/// One task of floor 0.2 with these scores of one mixer, each over so many examples.
fn scored(scores: &[f64], examples: Option<u64>) -> Table {
    let manifest = samples::manifest(&["s4"], &["listops"], scores.len() as u64);
    let record = |(seed, score): (u64, &f64)| {
        let mut record = Record { seed, ..samples::record(&format!("s4.listops.{seed}"), *score) };
        record.scores.floor = Some(0.2);
        let error = |n: u64| (score * (1.0 - score) / n as f64).sqrt();
        let tested = |n| Tested { examples: n, positions: n, standard_error: Some(error(n)) };
        record.scores.tested = examples.map(tested);
        record
    };
    let records: Vec<Record> = (1..).zip(scores).map(record).collect();
    Table::build(&manifest, &records).expect("builds")
}

// Wilson at 0.35: of 500 [0.309, 0.393], of 20 [0.181, 0.567]; at 0.216 of 2000 [0.199, 0.235].
#[test]
fn one_seed_is_above_the_floor_only_by_more_than_its_examples_may_err() {
    let above = |scores: &[f64], examples| scored(scores, examples).rows[0].above;
    assert_eq!(above(&[0.35], Some(500)), Above::Floor);
    assert_eq!(above(&[0.35], Some(20)), Above::Unsure);
    assert_eq!(above(&[0.216], Some(2000)), Above::AtFloor);
    assert_eq!(above(&[0.35], None), Above::Unsure, "what is not counted is not known");
    // Seeds that agree were scored on the same few examples.
    assert_eq!(above(&[0.35, 0.35, 0.35], Some(20)), Above::Unsure);
    assert_eq!(above(&[0.35, 0.36, 0.34], Some(500)), Above::Floor);
    assert_eq!(above(&[0.35, 0.36, 0.34], None), Above::Floor);
    let near = scored(&[0.216], Some(2000));
    let text = near.terminal(200, false);
    assert!(text.contains("0.216 (n = 1, examples [0.199, 0.235])") && text.contains("at floor"), "{text}");
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        words(&text).contains("In place of an interval over seeds stands the 95 % interval over the test examples"),
        "{text}"
    );
    assert!(!near.findings.join(" ").contains("only mixer that finished"), "{:?}", near.findings);
    let few = scored(&[0.35], Some(20));
    let said = "Whether s4 is above the floor of listops (0.200, what the best constant answer or a guesser scores) is not settled: its interval over the \
                test examples reaches it.";
    assert!(few.findings.iter().any(|sentence| sentence == said), "{:?}", few.findings);
    let unknown = scored(&[0.35], None).terminal(200, false);
    assert!(unknown.contains("not known to be above the floor"), "{unknown}");
}

#[test]
fn a_mixer_that_answers_one_class_everywhere_is_marked_and_beats_no_floor() {
    let (mut manifest, mut records) = samples::eventful();
    manifest.runs.retain(|run| ["attention", "s4"].contains(&run.mixer.as_str()));
    for record in &mut records {
        record.scores.floor = Some(0.16); // as the commonest class of training had it
        let classes = if record.id.starts_with("s4") { 1.0 } else { 10.0 };
        record.measures.insert("predicted_classes".into(), classes);
        record.scores.test = Some(if classes == 1.0 { 0.5 } else { 0.3 + 0.01 * record.seed as f64 });
    }
    let table = table(&(manifest.clone(), records.clone()));
    let s4 = row(&table, "s4");
    assert_eq!((s4.one_class, s4.above, row(&table, "attention").one_class), (3, Above::AtFloor, 0));
    assert!(table.markdown().contains("| at floor, one class |"), "{}", table.markdown());
    let said = "One class for every test example of mqar: s4 (3 of 3 runs).";
    assert!(table.findings.iter().any(|sentence| sentence == said), "{:?}", table.findings);
    // A single one of three is counted.
    records.iter_mut().filter(|record| record.id != "s4.mqar.1").for_each(|record| {
        record.measures.insert("predicted_classes".into(), 9.0);
    });
    let one = Table::build(&manifest, &records).expect("builds");
    assert_eq!((row(&one, "s4").one_class, row(&one, "s4").above), (1, Above::Floor));
    assert!(one.markdown().contains("| one class 1/3 |"), "{}", one.markdown());
}

#[test]
fn a_correlation_below_zero_is_shown_as_it_is_and_a_guesser_of_it_scores_zero() {
    let (manifest, mut records) = samples::eventful();
    for record in &mut records {
        record.metric = "Matthews correlation".into();
        record.scores.floor = Some(0.0);
        if record.id.starts_with("s4") {
            record.scores.test = Some(-0.1 - 0.02 * record.seed as f64);
            record.curve.iter_mut().for_each(|point| point.validation_score = -0.15);
        }
    }
    let table = table(&(manifest.clone(), records.clone()));
    let s4 = row(&table, "s4");
    let test = s4.test.expect("three seeds");
    assert!((test.mean + 0.14).abs() < 1e-12 && test.interval.expect("three seeds").low < -0.18, "{test:?}");
    assert_eq!((s4.above, normalised(s4).len()), (Above::AtFloor, 3));
    assert!(table.caption[0].contains("clipped to [−1, 1]"), "{}", table.caption[0]);
    for record in records.iter_mut().filter(|record| record.id.starts_with("fnet")) {
        record.metric = "accuracy".into();
    }
    let mixed = Table::build(&manifest, &records).expect("builds");
    assert_eq!(clipped_to(&mixed.rows), "[0, 1], correlations to [−1, 1]");
    let data = crate::figures::scores::data(&manifest, &frame::runs(&manifest, &records), &table);
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (draw, name) in
        [(crate::plot::scores as crate::plot::Drawing, "scores.svg"), (crate::plot::curves, "curves.svg")]
    {
        draw(&data, &folder.path().join(name)).expect("draws");
        let svg = std::fs::read_to_string(folder.path().join(name)).expect("reads");
        assert!(svg.contains("−0.") && svg.contains("1.0"), "{name} begins below 0");
    }
}

/// One run of the sample of GLUE, diverged, at a floor.
fn diverge(records: &mut [Record], id: &str, floor: f64) {
    let record = records.iter_mut().find(|record| record.id == id).expect("there");
    let metric = record.metric.clone();
    *record = Record { metric, seed: record.seed, ..samples::ended(id, samples::diverged("NaN")) };
    record.scores.floor = Some(floor);
}

/// What always answering the positive class scores where a share `p` is positive: F1 2p/(1 + p), accuracy p, and their mean.
fn always_positive(p: f64) -> f64 {
    (2.0 * p / (1.0 + p) + p) / 2.0
}

// Of QQP's validation 36.8 % are duplicates: always "duplicate" has a mean of 0.45321, always "no duplicate" of 0.316.
#[test]
fn the_accuracy_of_the_best_constant_is_found_from_its_mean_with_f1() {
    assert!((guessed_accuracy(0.453_21) - 0.3682).abs() < 1e-4, "{}", guessed_accuracy(0.453_21));
    for p in [0.2812, 0.3682, 0.5, 0.6838, 1.0] {
        assert!(always_positive(p) >= (1.0 - p) / 2.0 - 1e-3, "{p}: the other constant is better");
        assert!((guessed_accuracy(always_positive(p)) - p).abs() < 1e-12, "{p}");
    }
}

// Of attention, seed 2, by the sample: MNLI matched 0.71, mismatched 0.69; QNLI 0.81; MRPC F1 0.82, accuracy 0.73; STS-B Pearson
// 0.63, Spearman 0.59. The best constants: MNLI's commonest class of three 3545 of 9815 and 3463 of 9832, QNLI's 2761 of 5463;
// "equivalent" on 279 of MRPC's 408, "duplicate" on 14885 of QQP's 40430; a constant has no correlation.
#[test]
fn a_diverged_run_counts_the_floor_of_every_measure() {
    let (manifest, mut records) = samples::glue();
    let [mrpc, qqp] = [279.0 / 408.0, 14_885.0 / 40_430.0];
    let [mnli, qnli] = [(3545.0 + 3463.0) / (9815.0 + 9832.0), 2761.0 / 5463.0];
    let floors = [
        ("mnli", mnli),
        ("qnli", qnli),
        ("mrpc", always_positive(mrpc)),
        ("qqp", always_positive(qqp)),
        ("cola", 0.0),
        ("stsb", 0.0),
    ];
    for (task, floor) in floors {
        diverge(&mut records, &format!("attention.{task}.1"), floor);
    }
    let table = table(&(manifest, records));
    let of = |task: &str, measure: &str| {
        let row = table.rows.iter().find(|row| (&*row.task, &*row.mixer) == (task, "attention")).expect("there");
        let measured = row.measures.get(measure).expect("reported");
        assert_eq!((measured.n, row.scored), (2, 2), "{task} {measure}");
        measured.mean.expect("two")
    };
    for (task, measure, floor, other) in [
        ("mnli", "matched", mnli, 0.71),
        ("mnli", "mismatched", mnli, 0.69),
        ("qnli", "accuracy", qnli, 0.81),
        ("mrpc", "f1", 0.0, 0.82),
        ("mrpc", "accuracy", mrpc, 0.73),
        ("qqp", "f1", 0.0, 0.79),
        ("qqp", "accuracy", qqp, 0.85),
        ("cola", "mcc", 0.0, 0.21),
        ("stsb", "pearson", 0.0, 0.63),
        ("stsb", "spearman", 0.0, 0.59),
    ] {
        let mean = of(task, measure);
        assert!((mean - (floor + other) / 2.0).abs() < 1e-9, "{task} {measure}: {mean}");
    }
    let glue = samples::glue_of(&table).expect("GLUE");
    let ours =
        |rule: &str| glue.averages.iter().find(|average| average.rule == rule).and_then(|average| average.number.ours);
    let cells = [(mnli + 0.71) / 2.0, (qnli + 0.81) / 2.0, (qqp + 0.85) / 2.0, 0.6, 0.85, 0.41, 0.105, 0.295];
    assert!((ours("Hydra").expect("whole").mean - cells.iter().sum::<f64>() / 8.0).abs() < 1e-9);
    assert!(
        samples::section(&table, "glue").contains("A diverged run counts 0 of F1"),
        "{}",
        samples::section(&table, "glue")
    );
}

#[test]
fn a_row_whose_every_run_diverged_has_the_measures_of_its_task() {
    let (manifest, mut records) = samples::glue();
    for seed in 1..=2 {
        diverge(&mut records, &format!("attention.mnli.{seed}"), 0.35);
        diverge(&mut records, &format!("s4.stsb.{seed}"), 0.0);
        diverge(&mut records, &format!("attention.stsb.{seed}"), 0.0);
    }
    let table = table(&(manifest, records));
    let of = |task: &str, mixer: &str| {
        let row = table.rows.iter().find(|row| (&*row.task, &*row.mixer) == (task, mixer)).expect("there");
        row.measures.iter().map(|(name, measured)| (name.as_str(), measured.mean)).collect::<Vec<_>>()
    };
    // By what s4 reports there, and where nobody reports anything by the task of GLUE.
    assert_eq!(of("mnli", "attention"), [("accuracy", Some(0.35)), ("matched", Some(0.35))]);
    assert_eq!(of("stsb", "s4"), [("pearson", Some(0.0)), ("spearman", Some(0.0))]);
    // A loss has no floor.
    let (manifest, mut records) = samples::language();
    diverge(&mut records, "fnet.mlm.2", 0.05);
    records.iter_mut().for_each(|record| record.metric = "masked accuracy".into());
    let table = self::table(&(manifest, records));
    let fnet = row(&table, "fnet");
    assert_eq!((fnet.measures["loss"].n, fnet.measures["accuracy"].n), (2, 3));
    assert_eq!(fnet.measures["accuracy"].mean, fnet.test.map(|test| test.mean));
}

#[test]
fn speed_from_unequal_machines_is_called_incomparable() {
    let (manifest, mut records) = samples::eventful();
    records[0].device.threads = 8;
    let table = table(&(manifest, records));
    assert!(table.caption.iter().any(|line| line.contains("unequal machines")));
    assert!(
        table.warnings.iter().any(|line| line.contains("with 2 threads on host; cpu some processor with 8 threads"))
    );
}

#[test]
fn mixers_are_compared_over_all_tasks_only_if_they_entered_all() {
    let manifest = samples::manifest(&["a", "b"], &["mqar", "listops"], 2);
    let ids = ["a.mqar.1", "a.mqar.2", "a.listops.1", "a.listops.2", "b.mqar.1", "b.mqar.2"];
    let records: Vec<Record> = ids.iter().map(|id| samples::record(id, 0.5625)).collect();
    let table = table(&(manifest, records));
    let overall = samples::overall(&table);
    assert_eq!(overall[0].score, Some(0.5), "half of the way from 0.125 to 1");
    assert_eq!((overall[1].score, overall[1].tasks), (None, 1));
}

#[test]
fn a_sweep_without_records_has_rows_without_numbers() {
    let table = table(&(samples::manifest(&["a", "b"], &["mqar"], 2), Vec::new()));
    assert_eq!(table.rows.len(), 2);
    assert_eq!(table.section("unfinished").expect("there").grid.len(), 4);
    assert!(table.terminal(100, false).contains("2 missing"));
}

#[test]
fn colours_are_only_used_when_asked_for() {
    let table = table(&samples::eventful());
    assert!(!table.terminal(120, false).contains('\u{1b}'));
}

// Half of the way on mqar; copy, where always the same answer is right, says nothing.
#[test]
fn a_task_without_room_between_floor_and_ceiling_is_left_out_of_the_mean_and_named() {
    let manifest = samples::manifest(&["a", "b"], &["mqar", "copy", "listops"], 2);
    let mut records: Vec<Record> = manifest.runs.iter().map(|run| samples::record(&run.id, 0.5625)).collect();
    for record in records.iter_mut().filter(|record| record.id.contains("copy")) {
        (record.scores.test, record.scores.floor) = (Some(1.0), Some(1.0));
    }
    let place = records.iter().position(|record| record.id == "b.copy.1").expect("there");
    records[place] = Record {
        scores: Scores { test: None, ..records[place].scores },
        ..samples::ended("b.copy.1", samples::diverged("NaN"))
    };
    let table = table(&(manifest, records));
    assert_eq!(
        samples::overall(&table).iter().map(|row| (row.score, row.tasks)).collect::<Vec<_>>(),
        [(Some(0.5), 2); 2]
    );
    assert!(
        samples::section(&table, "overall").contains("Without copy, where the floor is the ceiling."),
        "{}",
        samples::section(&table, "overall")
    );
    let said = "A diverged run scores the floor, or 0 where the floor is the ceiling.";
    assert!(table.caption.iter().any(|line| line == said), "{:?}", table.caption);
}

/// The sample of GLUE or of groups, every run of which starts from another one.
fn started((manifest, mut records): (Manifest, Vec<Record>)) -> (Manifest, Vec<Record>) {
    records.iter_mut().for_each(|record| record.spec = serde_json::json!({ "start": { "run": "b0" } }));
    (manifest, records)
}

// Every task of attention moves by 0.02 from seed to seed, so the average does: ±12.706 · 0.0141/√2, where independent tasks would
// have ±0.008.
#[test]
fn runs_that_share_a_start_are_paired_by_seed_in_every_average() {
    let apart = table(&samples::glue());
    let shared = table(&started(samples::glue()));
    let width = |table: &Table| {
        let averages = samples::glue_of(table).expect("GLUE").averages;
        let ours = averages.iter().find_map(|average| average.number.ours).expect("whole");
        let interval = ours.interval.expect("two seeds");
        (ours.mean, interval.high - interval.low)
    };
    assert_eq!(width(&apart).0, width(&shared).0);
    assert!(
        width(&apart).1 < 0.03 && (width(&shared).1 - 2.0 * 12.706_204_7 * 0.01).abs() < 1e-6,
        "{:?}",
        width(&shared)
    );
    assert!(samples::section(&shared, "glue").contains("Runs of one seed start from the same pretrained run"));
    assert!(!samples::section(&apart, "glue").contains("Runs of one seed start"));
    let groups = samples::groups(&table(&started(samples::grouped())));
    let interval = groups[0].interval.expect("two seeds");
    assert!((interval.high - interval.low - 2.0 * 12.706_204_7 * 0.02).abs() < 1e-6, "{interval:?}");
    let lra = table(&started(samples::lra()));
    assert!(samples::section(&lra, "lra").contains("Runs of one seed start from the same pretrained run"));
    assert!(samples::section(&lra, "overall").contains("start from the same pretrained run"));
}

// The declared metric, and not the words of its name, says what a score is.
#[test]
fn a_score_is_read_as_its_task_declares_it() {
    let (manifest, mut records) = samples::grid();
    let declared =
        |kind, range, chosen_by_loss, diverged| Metric { name: "kappa".into(), range, kind, chosen_by_loss, diverged };
    for record in &mut records {
        record.metric = "kappa".into();
        record.scored_by = Some(declared(MetricKind::Correlation, (-1.0, 1.0), true, Some(-0.25)));
        record.scores.tested = Some(Tested { examples: 100, positions: 100, standard_error: Some(0.05) });
    }
    let place = records.iter().position(|record| record.id == "s4.0.003.2").expect("there");
    let scored_by = records[place].scored_by.clone();
    records[place] =
        Record { metric: "kappa".into(), scored_by, seed: 2, ..samples::ended("s4.0.003.2", samples::diverged("NaN")) };
    let table = table(&(manifest, records));
    assert!(table.caption[0].contains("clipped to [−1, 1]"), "{}", table.caption[0]);
    assert!(table.caption.iter().any(|line| line.contains("least mean validation loss")), "{:?}", table.caption);
    let settings = samples::json(&table, "settings");
    let rows = settings.as_array().expect("a grid");
    let row = |mixer: &str, lr: &str| {
        rows.iter().find(|row| (&row["settings"], &row["mixer"]) == (&lr.into(), &mixer.into())).expect("there")
    };
    assert_eq!(row("s4", "lr=0.003")["scores"][1], -0.25);
    let attention = row("attention", "lr=0.001");
    let number = |pointer: &str| attention.pointer(pointer).and_then(|value| value.as_f64()).expect("a number");
    let (high, mean) = (number("/over_examples/high"), number("/test/mean"));
    assert!((high - (mean + 1.959_964 * 0.05)).abs() < 1e-6, "{high}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn the_order_of_the_records_leaves_no_trace(order in Just((0..12).collect::<Vec<usize>>()).prop_shuffle()) {
        let (manifest, records) = samples::grid();
        let shuffled: Vec<Record> = order.iter().map(|i| records[*i].clone()).collect();
        let (a, b) = (Table::build(&manifest, &records).unwrap(), Table::build(&manifest, &shuffled).unwrap());
        prop_assert_eq!(a.terminal(200, false), b.terminal(200, false));
        prop_assert_eq!(samples::csv(&a, "table"), samples::csv(&b, "table"));
        prop_assert!(a.runs.equals_missing(&b.runs));
    }
}
