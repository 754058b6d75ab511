//! Made-up records for the tests.

use crate::bench::{Bench, Case, Measured, Memory, Pass, Protocol, State, Suite, Target};
use crate::export::exporter::Exporter;
use crate::export::{Csv, Markdown};
use crate::figures::lines::Lines;
use crate::published::Beside;
use crate::suites::{glue, lra};
use crate::table::Table;
use crate::table::groups::{self, Group};
use crate::table::overall::{self, Overall};
use crate::{Detail, Device, Figure, Manifest, Outcome, PlannedRun, Point, Record, Scale, Scores, Store, Versions};

/// A section as Markdown, with those that belong to it; empty without it.
pub(crate) fn section(table: &Table, name: &str) -> String {
    let from = table.sections.iter().position(|section| section.name == name).unwrap_or(table.sections.len());
    let of_it =
        table.sections[from..].iter().enumerate().take_while(|(i, section)| *i == 0 || section.title.is_empty());
    let shown = of_it.map(|(_, section)| Markdown.text(section)).filter(|text| !text.is_empty());
    shown.collect::<Vec<_>>().join("\n")
}

/// The file of a section.
pub(crate) fn csv(table: &Table, name: &str) -> String {
    let bytes = Csv.section(table.section(name).expect("a section")).expect("writes");
    String::from_utf8(bytes).expect("text")
}

/// What programs read of a table under a key.
pub(crate) fn json(table: &Table, key: &str) -> serde_json::Value {
    let all: serde_json::Value = serde_json::from_str(&table.json()).expect("JSON");
    all[key].clone()
}

/// The mixers of a table.
fn mixers(table: &Table) -> Vec<&str> {
    let mut mixers: Vec<&str> = Vec::new();
    for row in &table.rows {
        if !mixers.contains(&row.mixer.as_str()) {
            mixers.push(&row.mixer);
        }
    }
    mixers
}

pub(crate) fn averages(table: &Table) -> Vec<lra::Average> {
    lra::averages(&mixers(table), &table.rows).expect("no task twice")
}

pub(crate) fn glue_of(table: &Table) -> Option<glue::Glue> {
    glue::glue(&mixers(table), &table.rows).expect("no task twice")
}

pub(crate) fn groups(table: &Table) -> Vec<Group> {
    groups::groups(&mixers(table), &table.rows)
}

pub(crate) fn overall(table: &Table) -> Vec<Overall> {
    overall::overall(&mixers(table), &table.rows)
}

/// A new store, and the folder that it is deleted with.
pub(crate) fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Store::open(folder.path().join("runs")).expect("opens");
    (folder, store)
}

/// A finished run that scored `test`.
pub(crate) fn record(id: &str, test: f64) -> Record {
    let curve = |i: u64| Point {
        step: 250 * i,
        train_loss: 2.0 / i as f64,
        validation_loss: 2.1 / i as f64,
        validation_score: test * (1.0 - 0.5 / i as f64),
    };
    Record {
        format: 1,
        id: id.into(),
        attempt: 1,
        spec: serde_json::json!({ "made": "up" }),
        seed: 1,
        outcome: Outcome::Finished,
        metric: "accuracy".into(),
        scored_by: None,
        scores: Scores {
            validation: Some(test),
            test: Some(test),
            floor: Some(0.125),
            ceiling: Some(1.0),
            tested: None,
        },
        parameters: 70_000,
        mixer_parameters: 33_000,
        steps: 1000,
        best_step: 1000,
        steps_per_second: 20.0,
        tokens_per_second: 40_960.0,
        wall_seconds: 61.0,
        peak_memory_bytes: 300 << 20,
        curve: (1..=4).map(curve).collect(),
        measures: Default::default(),
        baselines: Default::default(),
        details: Vec::new(),
        device: Device {
            kind: "cpu".into(),
            name: "some processor".into(),
            threads: 2,
            kernels: "native".into(),
            host: "host".into(),
        },
        versions: Versions { mixarena: "0.1.0".into(), libtorch: "2.11.0".into(), commit: "abc".into() },
        started_unix: 1_700_000_000,
        notes: Vec::new(),
        marks: Vec::new(),
        blocked_by: None,
    }
}

/// A run that ended otherwise, with the scores it has by then.
pub(crate) fn ended(id: &str, outcome: Outcome) -> Record {
    let scores = Scores { validation: None, test: None, ..record(id, 0.5).scores };
    Record { outcome, scores, steps: 400, curve: Vec::new(), ..record(id, 0.5) }
}

/// A plan of every mixer on every task with seeds 1 to `seeds`; ids are `mixer.task.seed`.
pub(crate) fn manifest(mixers: &[&str], tasks: &[&str], seeds: u64) -> Manifest {
    let mut runs = Vec::new();
    for mixer in mixers {
        for task in tasks {
            for seed in 1..=seeds {
                let id = format!("{mixer}.{task}.{seed}");
                let (mixer, task) = (mixer.to_string(), task.to_string());
                runs.push(PlannedRun { id, mixer, task, seed, settings: Vec::new(), published: None, tuned: None });
            }
        }
    }
    let (question, command) = ("Which mixers recall?".into(), "mixarena sweep configs/recall.yaml".into());
    Manifest {
        name: "recall".into(),
        question,
        command,
        runs,
        search: Vec::new(),
        expect: Vec::new(),
        figures: Vec::new(),
        matched: None,
        ablation: None,
    }
}

/// A sweep in which everything that can happen to a run has happened.
pub(crate) fn eventful() -> (Manifest, Vec<Record>) {
    let manifest = manifest(&["attention", "s4", "mamba", "hyena", "fnet"], &["mqar"], 3);
    let mut records: Vec<Record> = Vec::new();
    let scores = [("attention", [0.998, 0.997, 0.999]), ("s4", [0.26, 0.24, 0.31]), ("fnet", [0.12, 0.13, 0.124])];
    for (mixer, scores) in scores {
        for (seed, score) in (1..).zip(scores) {
            let parameters = if mixer == "s4" { 90_000 } else { 70_000 };
            records.push(Record { seed, parameters, ..record(&format!("{mixer}.mqar.{seed}"), score) });
        }
    }
    records.push(record("mamba.mqar.1", 0.97));
    records.push(Record { seed: 2, ..ended("mamba.mqar.2", diverged("loss NaN at step 400, last finite loss 3.1")) });
    records.push(Record { seed: 3, ..ended("mamba.mqar.3", failed("killed by signal 9, out of memory?")) });
    records.push(ended("hyena.mqar.1", failed("panicked: shape [2, 3] | expected [2, 4]")));
    let timed_out = Outcome::TimedOut { reason: "60 s reached at step 400".into() };
    records.push(Record { seed: 2, ..ended("hyena.mqar.2", timed_out) });
    (manifest, records)
}

/// Five mixers on six tasks as Long Range Arena has them, three seeds each: retrieval is made up, text is chosen on test,
/// and path-x is another task in the place of Path-X. Only s4 gets above the floor of path-x; hydra has no run on text.
pub(crate) fn lra() -> (Manifest, Vec<Record>) {
    let mixers = [
        ("attention", Some("Transformer"), [0.364, 0.641, 0.575, 0.424, 0.714, 0.501]),
        ("combiner", Some("Combiner-Fixed"), [0.362, 0.652, 0.597, 0.493, 0.731, 0.502]),
        ("s4", Some("S4D-LegS"), [0.484, 0.861, 0.871, 0.612, 0.893, 0.842]),
        ("bigs", None, [0.391, 0.843, 0.802, 0.567, 0.842, 0.498]),
        ("hydra", None, [0.377, 0.834, 0.790, 0.551, 0.801, 0.502]),
    ];
    let tasks = [
        ("listops", "ListOps", 0.17, None),
        ("text", "Text", 0.5, Some("validation_is_test")),
        ("retrieval", "Retrieval", 0.5, Some("synthetic")),
        ("image", "Image", 0.1, None),
        ("pathfinder", "Pathfinder", 0.5, None),
        ("path-x", "Path-X", 0.5, None),
    ];
    let (mut runs, mut records) = (Vec::new(), Vec::new());
    for (column, (task, cell, floor, mark)) in tasks.into_iter().enumerate() {
        for (mixer, model, scores) in mixers {
            for seed in 1..=3_u64 {
                let id = format!("{mixer}.{task}.{seed}");
                let beside = Beside { task: cell.into(), model: model.map(str::to_owned), stand_in: task == "path-x" };
                let (mixer, task, settings) = (mixer.to_string(), task.to_string(), Vec::new());
                let score = scores[column] + 0.006 * (seed as f64 - 2.0) * if column == 5 { 0.2 } else { 1.0 };
                let mut record = Record { seed, ..record(&id, score) };
                record.scores.floor = Some(floor);
                record.marks = mark.iter().map(|mark: &&str| mark.to_string()).collect();
                runs.push(PlannedRun { id, mixer, task, seed, settings, published: Some(beside), tuned: None });
                if !record.id.starts_with("hydra.text") {
                    records.push(record);
                }
            }
        }
    }
    let command = "mixarena sweep configs/lra_small.yaml".into();
    (
        Manifest {
            name: "lra_small".into(),
            question: "Who sees far?".into(),
            command,
            runs,
            search: Vec::new(),
            expect: Vec::new(),
            figures: Vec::new(),
            matched: None,
            ablation: None,
        },
        records,
    )
}

/// A task with two changes and a task without, two mixers, two seeds; macro accuracy is half of the score.
pub(crate) fn grouped() -> (Manifest, Vec<Record>) {
    let tasks = ["recall", "recall/vocab_size=32", "recall/noise=0.2", "compression"];
    let manifest = manifest(&["attention", "s4"], &tasks, 2);
    let of_run = |run: &PlannedRun| {
        let place = tasks.iter().position(|task| *task == run.task).expect("planned");
        let score = [0.9, 0.7, 0.5, 0.3][place] - if run.mixer == "s4" { 0.15 } else { 0.0 };
        let score = score + if run.seed == 1 { 0.02 } else { -0.02 };
        let measures = [("macro_accuracy".to_string(), score / 2.0)].into();
        Record { seed: run.seed, measures, ..record(&run.id, score) }
    };
    let records = manifest.runs.iter().map(of_run).collect();
    (manifest, records)
}

/// Two mixers by two tasks by three widths by two learning rates by two seeds; attention needs no width, s4 grows with it.
/// Every run reports `wait_share`. s4 failed at the smallest width on copy, and one of its seeds diverged at 64 on mqar.
pub(crate) fn swept() -> (Manifest, Vec<Record>) {
    let (mut runs, mut records) = (Vec::new(), Vec::new());
    for mixer in ["attention", "s4"] {
        for task in ["mqar", "copy"] {
            for (place, width) in ["32", "64", "128"].into_iter().enumerate() {
                for (lr, loss) in [("0.001", 0.0), ("0.01", 0.05)] {
                    for seed in 1..=2 {
                        let id = format!("{mixer}.{task}.{width}.{lr}.{seed}");
                        let pair = |key: &str, value: &str| (key.to_string(), value.to_string());
                        let settings = vec![pair("model.d_model", width), pair("optimizer.lr", lr)];
                        let (label, task_label) = (mixer.to_string(), task.to_string());
                        let run = PlannedRun {
                            id,
                            mixer: label,
                            task: task_label,
                            seed,
                            settings,
                            published: None,
                            tuned: None,
                        };
                        let score = if mixer == "attention" { 0.97 } else { 0.3 + 0.2 * place as f64 };
                        let made = Record { seed, ..record(&run.id, score - loss - 0.01 * seed as f64) };
                        let measures = [("wait_share".to_string(), 0.01 * seed as f64)].into();
                        records.push(match (mixer, task, width, seed) {
                            ("s4", "copy", "32", _) => Record { seed, ..ended(&run.id, failed("out of memory")) },
                            ("s4", "mqar", "64", 2) => Record { seed, ..ended(&run.id, diverged("NaN")) },
                            _ => Record { measures, parameters: 1000 << place, ..made },
                        });
                        runs.push(run);
                    }
                }
            }
        }
    }
    let lines = Lines { x: "model.d_model".into(), panels: None, measure: "score".into(), scale: Scale::Log };
    (Manifest { runs, figures: vec![Figure::from(lines)], ..manifest(&[], &[], 0) }, records)
}

/// Four mixers on seven tasks with two seeds; mamba failed on one task, one seed of it on another, and one of s4 diverged.
pub(crate) fn eventful_profile() -> (Manifest, Vec<Record>) {
    let tasks =
        ["mqar", "selective-copy", "parity", "s5", "in-context-recall", "in-context-recall/vocab_size=32", "sort"];
    let mixers = ["attention", "s4", "mamba", "gated_deltanet"];
    let manifest = manifest(&mixers, &tasks, 2);
    let of_run = |run: &PlannedRun| {
        let place = |names: &[&str], name: &String| names.iter().position(|n| n == name).expect("planned") as f64;
        let (mixer, task) = (place(&mixers, &run.mixer), place(&tasks, &run.task));
        let score = (1.0 - 0.13 * ((mixer * 3.0 + task * 2.0) % 7.0) + 0.02 * run.seed as f64).clamp(0.1, 1.0);
        match (run.mixer.as_str(), run.task.as_str(), run.seed) {
            ("mamba", "s5", _) | ("mamba", "sort", 2) => Record { seed: run.seed, ..ended(&run.id, failed("killed")) },
            ("s4", "mqar", 1) => Record { seed: run.seed, ..ended(&run.id, diverged("NaN")) },
            _ => Record { seed: run.seed, ..record(&run.id, score) },
        }
    };
    let records = manifest.runs.iter().map(of_run).collect();
    (manifest, records)
}

/// Three mixers on two tasks with three seeds: scores by length, the risk of each mixer and of two baselines by context,
/// and the importance of four heads in two layers. s4 failed once, mamba on every s5; fnet has not begun.
pub(crate) fn detailed() -> (Manifest, Vec<Record>) {
    let manifest = manifest(&["attention", "s4", "mamba", "fnet"], &["parity", "s5"], 3);
    let detail = |measure: &str, series: &str, axis: &str, at: f64, value: f64| Detail {
        measure: measure.into(),
        series: series.into(),
        axis: axis.into(),
        at,
        value,
        of: None,
        series_are: None,
    };
    let mut records = Vec::new();
    for run in manifest.runs.iter().filter(|run| run.mixer != "fnet") {
        let made = Record { seed: run.seed, ..record(&run.id, 0.8) };
        let seed = run.seed as f64;
        let strength = if run.mixer == "attention" { 0.9 } else { 0.6 };
        let mut details = Vec::new();
        for (place, length) in [32.0, 64.0, 128.0, 256.0].into_iter().enumerate() {
            let fall = if run.task == "s5" { 0.15 } else { 0.02 } * place as f64;
            details.push(detail("score", "model", "length", length, strength - fall + 0.01 * seed));
            let context = 8.0 * (place + 1) as f64;
            details.push(detail("risk", "model", "context", context, 3.0 / context / strength + 0.002 * seed));
            details.push(detail("risk", "ridge", "context", context, 2.0 / context));
            details.push(detail("risk", "support oracle", "context", context, 0.4 / context));
        }
        for (layer, head) in [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1), (1, 2), (1, 3)] {
            let weight = if layer == 0 { 0.05 * head as f64 } else { 0.4 / (1 + head) as f64 };
            let value = weight * strength + 0.001 * seed - 0.02;
            details.push(detail("importance", &format!("head {head}"), "layer", f64::from(layer), value));
        }
        records.push(match (run.mixer.as_str(), run.task.as_str(), run.seed) {
            ("s4", "parity", 3) | ("mamba", "s5", _) => Record { seed: run.seed, ..ended(&run.id, failed("killed")) },
            _ => Record { details, ..made },
        });
    }
    (manifest, records)
}

/// Four masked language models beside the published ones with three seeds; s4 failed. Losses of attention are 4.09, 4.1 and
/// 4.11, of the unigram baseline 6.5. Details by frequency, distance, position, and minimal pairs by phenomenon.
pub(crate) fn language() -> (Manifest, Vec<Record>) {
    let mixers = [
        ("attention", "BERT-base 110M", 4.1, 0.31),
        ("hydra", "Hydra 112M", 3.95, 0.33),
        ("fnet", "FNet 112M", 4.6, 0.26),
        ("s4", "", f64::NAN, 0.0),
    ];
    let names = mixers.map(|(name, ..)| name);
    let manifest = manifest(&names, &["mlm"], 3);
    let mut records = Vec::new();
    let mut runs = manifest.runs.clone();
    for run in &mut runs {
        let (_, model, loss, accuracy) = mixers[names.iter().position(|name| *name == run.mixer).expect("planned")];
        let model = Some(model).filter(|model| !model.is_empty()).map(String::from);
        run.published = Some(Beside { task: "C4-MLM-acc".into(), model, stand_in: false });
        let step = run.seed as f64 - 2.0;
        if loss.is_nan() {
            records.push(Record { seed: run.seed, ..ended(&run.id, failed("out of memory")) });
            continue;
        }
        let loss: f64 = loss + 0.01 * step;
        let measures = [
            ("loss", loss),
            ("perplexity", loss.exp()),
            ("accuracy", accuracy + 0.002 * step),
            ("pseudo_perplexity", 1.3 * loss.exp()),
            ("minimal_pairs", 0.5 + accuracy / 2.0),
            ("mfu", 0.012),
            ("model_flops_per_second", 3.1e9),
            ("loss of unigram", 6.5),
            ("perplexity of unigram", 6.5_f64.exp()),
            ("accuracy of unigram", 0.05),
        ];
        let mut record = Record { seed: run.seed, ..record(&run.id, accuracy + 0.002 * step) };
        record.scores.floor = Some(0.05);
        record.measures = measures.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
        record.details = language_details(accuracy, loss, run.seed);
        records.push(record);
    }
    (Manifest { runs, name: "mlm_small".into(), question: "Who fills gaps?".into(), ..manifest }, records)
}

/// The fourteen classes of matrices beside the published ones, three seeds each, of which our order is nearly theirs.
pub(crate) fn matrix_mixers() -> (Manifest, Vec<Record>) {
    let classes = [
        ("dense", "Dense", 4.31),
        ("toeplitz", "Toeplitz", 4.12),
        ("toeplitz_dd", "Toeplitz DD", 4.05),
        ("dft", "DFT", 4.80),
        ("vandermonde", "Vandermonde", 4.77),
        ("vandermonde_dd", "Vandermonde DD", 4.21),
        ("cauchy", "Cauchy", 4.52),
        ("cauchy_dd", "Cauchy DD", 4.02),
        ("low_rank", "Low-rank", 4.25),
        ("low_rank_dd", "Low-rank DD", 3.99),
        ("attention", "Attention", 4.40),
        ("attention_dd", "Attention DD", 3.91),
        ("quasiseparable", "Quasiseparable", 4.28),
        ("quasiseparable_dd", "Quasiseparable DD", 3.95),
    ];
    let manifest = manifest(&classes.map(|(label, ..)| label), &["mlm"], 3);
    let (mut runs, mut records) = (manifest.runs.clone(), Vec::new());
    for run in &mut runs {
        let (_, class, loss) = classes.into_iter().find(|(label, ..)| *label == run.mixer).expect("planned");
        let model = Some(format!("Matrix mixer: {class}"));
        run.published = Some(Beside { task: "C4-MLM-acc".into(), model, stand_in: false });
        let loss: f64 = loss + 0.03 * (run.seed as f64 - 2.0);
        let mut record = Record { seed: run.seed, ..record(&run.id, 0.6 - 0.08 * loss) };
        record.measures = [("loss".to_string(), loss), ("perplexity".to_string(), loss.exp())].into();
        records.push(record);
    }
    (Manifest { runs, name: "matrix_mixers".into(), question: "Is the order theirs?".into(), ..manifest }, records)
}

/// Attention beside BERT, and s4 beside nothing, on eight tasks of GLUE with two seeds. s4 has no RTE, and its MNLI is not told
/// apart; its CoLA is below 0.
pub(crate) fn glue() -> (Manifest, Vec<Record>) {
    type Measures = [(&'static str, f64)];
    let tasks: [(&str, &str, &str, &Measures); 8] = [
        ("mnli", "MNLI", "accuracy", &[("accuracy", 0.69), ("matched", 0.70), ("mismatched", 0.68)]),
        ("qnli", "QNLI", "accuracy", &[("accuracy", 0.8)]),
        ("qqp", "QQP", "mean of F1 and accuracy", &[("accuracy", 0.84), ("f1", 0.78)]),
        ("rte", "RTE", "accuracy", &[("accuracy", 0.6)]),
        ("sst2", "SST2", "accuracy", &[("accuracy", 0.85)]),
        ("mrpc", "MRPC", "mean of F1 and accuracy", &[("accuracy", 0.72), ("f1", 0.81)]),
        ("cola", "CoLA", "Matthews correlation", &[("mcc", 0.2)]),
        ("stsb", "STS-B", "mean of Pearson's and Spearman's correlation", &[("pearson", 0.62), ("spearman", 0.58)]),
    ];
    let names = tasks.map(|(task, ..)| task);
    let manifest = manifest(&["attention", "s4"], &names, 2);
    let (mut runs, mut records) = (manifest.runs.clone(), Vec::new());
    for run in &mut runs {
        let place = names.iter().position(|task| *task == run.task).expect("planned");
        let (task, cell, metric, numbers) = tasks[place];
        let model = (run.mixer == "attention").then(|| "BERT-base 110M".to_string());
        run.published = Some(Beside { task: cell.into(), model, stand_in: false });
        let below = if run.mixer == "s4" { 0.21 } else { 0.0 };
        let shift = 0.01 * (2.0 * run.seed as f64 - 3.0) - below;
        let of = |name: &str| numbers.iter().find(|(known, _)| *known == name).map(|(_, value)| value + shift);
        let of_two = |a: &str, b: &str| of(a).zip(of(b)).map(|(a, b)| (a + b) / 2.0);
        let score = of_two("accuracy", "f1").or(of_two("pearson", "spearman")).or(of("accuracy")).or(of("mcc"));
        let mut record = Record { seed: run.seed, metric: metric.into(), ..record(&run.id, score.expect("a number")) };
        record.scores.floor = Some(if metric == "accuracy" { 0.5 } else { 0.0 });
        for (name, _) in numbers.iter().filter(|(name, _)| *name != "matched" && *name != "mismatched") {
            record.measures.insert(name.to_string(), of(name).expect("there"));
        }
        if (task, run.mixer.as_str()) == ("mnli", "attention") {
            let set = |at: f64, name: &str| Detail {
                measure: "score".into(),
                series: "model".into(),
                axis: "mismatched".into(),
                at,
                value: of(name).expect("there"),
                of: None,
                series_are: None,
            };
            record.details = vec![set(0.0, "matched"), set(1.0, "mismatched")];
        }
        if (task, run.mixer.as_str()) == ("mnli", "s4") {
            record.measures.insert("matched".into(), of("matched").expect("there"));
        }
        if (task, run.mixer.as_str()) != ("rte", "s4") {
            records.push(record);
        }
    }
    (Manifest { runs, name: "glue_small".into(), question: "Who understands?".into(), ..manifest }, records)
}

fn language_details(accuracy: f64, loss: f64, seed: u64) -> Vec<Detail> {
    let noise = |i: usize| 0.01 * ((i * 7 + 3 * seed as usize) % 5) as f64;
    let of = |measure: &str, series: &str, axis: &str, at: f64, value: f64| {
        let (measure, series, axis) = (measure.into(), series.into(), axis.into());
        Detail { measure, series, axis, at, value, of: None, series_are: None }
    };
    let mut details = Vec::new();
    for power in 0..=17 {
        let at = 2f64.powi(power);
        let share = (accuracy * (0.1 + 0.12 * f64::from(power))).min(0.95) + noise(power as usize);
        details.push(of("score", "model", "frequency", at, share));
        details.push(of("loss", "model", "frequency", at, 2.2 * loss * 0.93f64.powi(power)));
    }
    for power in 0..=6 {
        let at = 2f64.powi(power);
        details.push(of(
            "score",
            "model",
            "distance",
            at,
            accuracy * (1.6 - 0.17 * f64::from(power)) + noise(power as usize),
        ));
    }
    for position in 0..128 {
        let edge = if position == 0 || position == 127 { 0.08 } else { 0.0 };
        details.push(of("score", "model", "position", f64::from(position), accuracy - edge + noise(position as usize)));
    }
    let phenomena = [
        "anaphor_agreement",
        "argument_structure",
        "binding",
        "control_raising",
        "determiner_noun_agreement",
        "ellipsis",
        "filler_gap_dependency",
        "irregular_forms",
        "island_effects",
        "npi_licensing",
        "quantifiers",
        "subject_verb_agreement",
    ];
    for (i, phenomenon) in phenomena.into_iter().enumerate() {
        let share = 0.45 + accuracy * (0.3 + 0.11 * ((i * 5) % 12) as f64) + noise(i);
        details.push(of("minimal_pairs", phenomenon, "phenomenon", i as f64, share.min(1.0)));
    }
    details
}

/// Two mixers, three learning rates each, two seeds; the best rate of `s4` lies at the edge.
pub(crate) fn grid() -> (Manifest, Vec<Record>) {
    let (mut runs, mut records) = (Vec::new(), Vec::new());
    for (mixer, validation) in [("attention", [0.7, 0.9, 0.6]), ("s4", [0.2, 0.3, 0.5])] {
        for (lr, score) in ["0.0003", "0.001", "0.003"].into_iter().zip(validation) {
            for seed in 1..=2 {
                let id = format!("{mixer}.{lr}.{seed}");
                let settings = vec![("optimizer.lr".into(), lr.into())];
                let (mixer, task) = (mixer.to_string(), "mqar".to_string());
                runs.push(PlannedRun { id: id.clone(), mixer, task, seed, settings, published: None, tuned: None });
                let mut record = Record { seed, ..record(&id, score - 0.02 * seed as f64) };
                record.scores.validation = Some(score);
                records.push(record);
            }
        }
    }
    (Manifest { runs, ..manifest(&[], &[], 0) }, records)
}

pub(crate) fn diverged(reason: &str) -> Outcome {
    Outcome::Diverged { reason: reason.into() }
}

pub(crate) fn failed(reason: &str) -> Outcome {
    Outcome::Failed { reason: reason.into() }
}

/// Attention's parabola, S4's line, and a Hydra that stops at length 2048, by length; times without any spread.
pub(crate) fn bench() -> Bench {
    let lengths = [256i64, 512, 1024, 2048, 4096];
    let cases = lengths.into_iter().flat_map(|length| {
        let n = length as f64;
        let attention = case("attention", length, 1e-8 * n * n + 1e-6 * n + 2e-3, 8.0 * n * n + 4e3 * n);
        let s4 = case("s4", length, 2e-5 * n + 4e-3, 4e4 * n + 1e6);
        let mut hydra = case("hydra", length, 1e-4 * n.powf(1.25), 9e4 * n);
        let stop = |hydra: &mut Case, reason: &str| hydra.state = State::Stopped { reason: reason.into() };
        if length >= 2048 {
            (hydra.forward.seconds, hydra.training.seconds) = (Vec::new(), Vec::new());
            stop(&mut hydra, "forward+backward took 1.200 s, over the cap of 1 s");
        }
        if length > 2048 {
            (hydra.forward, hydra.training) = Default::default();
            stop(&mut hydra, "left out: stopped at length 2048");
        }
        [attention, s4, hydra]
    });
    Bench {
        format: crate::bench::FORMAT,
        command: "mixarena bench --time-cap 1".into(),
        suite: Suite::Lengths,
        protocol: Protocol {
            warmup: 1,
            repeats: 3,
            time_cap: 1.0,
            memory_cap: Some(8 << 30),
            passes: Pass::ALL.into(),
        },
        device: record("x", 0.5).device,
        versions: record("x", 0.5).versions,
        started_unix: 1_700_000_000,
        interrupted: false,
        cases: cases.collect(),
    }
}

/// Fixed comparisons: one target met, one missed, one of a mixer that is not there.
pub(crate) fn bench_targets() -> Bench {
    let one = |label: &str, time: Option<f64>, seconds| {
        let target = time.map(|time| Target { time: Some(time), memory: None, reference: Some(10.0 * time) });
        Case { target, ..case(label, 1024, seconds, 4e6) }
    };
    let mut absent = one("mamba2", Some(1.5), 1.0);
    (absent.forward, absent.training, absent.state) = (Measured::default(), Measured::default(), State::Absent);
    let mut hydra = one("hydra", Some(3.0), 0.31);
    hydra.training.seconds = vec![0.30, 0.31, 0.32];
    let cases = vec![one("attention", None, 0.1), one("s4", Some(0.9), 0.08), hydra, absent];
    Bench { suite: Suite::Targets, cases, ..bench() }
}

/// Three equal rounds; forward takes and adds half.
fn case(label: &str, length: i64, seconds: f64, added: f64) -> Case {
    let memory = |bytes: f64| Some(Memory { built_bytes: 200 << 20, peak_bytes: (200 << 20) + bytes as u64 });
    Case {
        group: format!("length {length}"),
        label: label.into(),
        mixer: label.into(),
        settings: serde_json::json!({ "d_state": 64 }),
        block: if label == "attention" { "transformer".into() } else { label.into() },
        path: "libtorch".into(),
        causal: false,
        d_model: 256,
        batch: 4,
        length,
        parameters: 263_168,
        forward: Measured { seconds: vec![seconds / 2.0; 3], memory: memory(added / 2.0) },
        training: Measured { seconds: vec![seconds; 3], memory: memory(added) },
        state: State::Measured,
        target: None,
    }
}
