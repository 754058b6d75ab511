//! Language models in one table: what a model loses on the test tokens, with the names by which papers quote it.
//!
//! ```text
//! perplexity          e^loss; over seeds e^(mean loss), and its interval e^(interval of the loss)
//! pseudo-perplexity   e^(-1/N Σ log p(w_i | all others)), over seeds likewise          Salazar et al. 2020, arXiv:1910.14659
//! MFU                 model FLOPs a second over the machine's measured peak            Chowdhery et al. 2022, arXiv:2204.02311
//! ```
//! Baselines whose loss the records hold have rows of their own. Rows stand in the order of their losses.

use crate::grid::{Column, Frame, Grid, Value, digits, field, left, right, significant};
use crate::published;
use crate::statistics::{Interval, Measured, Range};
use crate::table::numbers::{decimals_or_none, digits_or_none};
use crate::table::row::{Row, places, sign_notes};
use crate::table::section::Section;
use crate::table::sweep::Sweep;
use serde::Serialize;
use std::collections::BTreeSet;

/// In the order of print; the fields of `language.csv` follow the same list.
const COLUMNS: &[Column<Language>] = &[
    left("task", 0, |r: &Language| r.task.clone()).in_files("task", |r| r.task.as_str().into()),
    left("mixer", 0, |r: &Language| if r.baseline { format!("baseline: {}", r.mixer) } else { r.mixer.clone() })
        .in_files("mixer", |r| r.mixer.as_str().into()),
    field("baseline", |r| r.baseline.into()),
    field("n", |r| r.n.into()),
    field("planned", |r| r.planned.into()),
    field("parameters", |r| r.parameters.into()),
    field("tokens_per_second", |r| r.tokens_per_second.into()),
    left("loss", 0, |r: &Language| decimals_or_none(r.loss.as_ref())).in_files("loss", |r| mean(&r.loss)),
    field("loss_low", |r| low(&r.loss)),
    field("loss_high", |r| high(&r.loss)),
    left("perplexity", 0, |r: &Language| digits_or_none(r.perplexity.as_ref()))
        .in_files("perplexity", |r| mean(&r.perplexity)),
    field("perplexity_low", |r| low(&r.perplexity)),
    field("perplexity_high", |r| high(&r.perplexity)),
    left("accuracy", 0, |r: &Language| decimals_or_none(r.accuracy.as_ref()))
        .in_files("accuracy", |r| mean(&r.accuracy)),
    field("accuracy_low", |r| low(&r.accuracy)),
    field("accuracy_high", |r| high(&r.accuracy)),
    left("pseudo-perplexity", 1, |r: &Language| digits_or_none(r.pseudo_perplexity.as_ref()))
        .in_files("pseudo_perplexity", |r| mean(&r.pseudo_perplexity)),
    field("pseudo_perplexity_low", |r| low(&r.pseudo_perplexity)),
    field("pseudo_perplexity_high", |r| high(&r.pseudo_perplexity)),
    left("bits/byte", 1, |r: &Language| decimals_or_none(r.bits_per_byte.as_ref()))
        .in_files("bits_per_byte", |r| mean(&r.bits_per_byte)),
    field("bits_per_byte_low", |r| low(&r.bits_per_byte)),
    field("bits_per_byte_high", |r| high(&r.bits_per_byte)),
    left("minimal pairs", 1, |r: &Language| decimals_or_none(r.minimal_pairs.as_ref()))
        .in_files("minimal_pairs", |r| mean(&r.minimal_pairs)),
    field("minimal_pairs_low", |r| low(&r.minimal_pairs)),
    field("minimal_pairs_high", |r| high(&r.minimal_pairs)),
    right("tokens/s", 2, |r| r.tokens_per_second.map_or(String::new(), |speed| significant(Some(speed)))),
    right("MFU", 3, |r: &Language| {
        r.mfu.as_ref().and_then(|m| m.mean).map_or(String::new(), |m| format!("{} %", digits(100.0 * m)))
    })
    .in_files("mfu", |r| mean(&r.mfu)),
    field("mfu_low", |r| low(&r.mfu)),
    field("mfu_high", |r| high(&r.mfu)),
    right("parameters", 4, |r| r.parameters.map_or(String::new(), |n| n.to_string())),
    left("n", 0, |r| if r.baseline { String::new() } else { format!("{}/{}", r.n, r.planned) }),
    left("published", 5, |r: &Language| r.published.clone()).in_files("published", |r| r.published.as_str().into()),
];

fn mean(measured: &Option<Measured>) -> Value {
    measured.as_ref().and_then(|measured| measured.mean).into()
}

fn low(measured: &Option<Measured>) -> Value {
    measured.as_ref().and_then(|measured| measured.interval).map(|interval| interval.low).into()
}

fn high(measured: &Option<Measured>) -> Value {
    measured.as_ref().and_then(|measured| measured.interval).map(|interval| interval.high).into()
}

const CAPTION: &str = "Language models in the order of their test losses (nats a scored token). Means and 95 % Student-t \
                       intervals over seeds; perplexity is e to the mean loss and its interval e to the interval \
                       of the loss, pseudo-perplexity likewise. n: runs with a loss; a run that diverged has none, and \
                       of accuracy the floor.";

const OF_COLUMNS: [(&str, &str); 3] = [
    ("tokens/s", "Tokens/s is the median training speed."),
    ("MFU", "MFU is the share of the machine's peak that the model's own operations make up."),
    (
        "published",
        "Published losses and accuracies are of other corpora and tokenizers: beside ours they say \
         how the papers' models lie to each other, and no difference is taken.",
    ),
];

/// One language model, or one baseline, on one task.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Language {
    /// The task with the signs of its marks, and the values of the swept axes.
    pub task: String,
    /// Mixer, or the baseline's name.
    pub mixer: String,
    /// Whether nothing was trained: a baseline of the task.
    pub baseline: bool,
    /// Mean cross-entropy of the scored tokens, nats.
    pub loss: Option<Measured>,
    /// Of the mean loss, so a geometric mean over seeds.
    pub perplexity: Option<Measured>,
    /// Share of the scored tokens that are the most probable one.
    pub accuracy: Option<Measured>,
    /// With each token masked alone; a geometric mean over seeds.
    pub pseudo_perplexity: Option<Measured>,
    /// Loss of causal models in bits by byte of text.
    pub bits_per_byte: Option<Measured>,
    /// Share of minimal pairs whose acceptable sentence is the more probable one.
    pub minimal_pairs: Option<Measured>,
    /// Median training speed.
    pub tokens_per_second: Option<f64>,
    /// Model-FLOPs use, a share of the peak.
    pub mfu: Option<Measured>,
    /// Runs with a loss.
    pub n: usize,
    /// Planned runs; of a baseline, the runs that carry it.
    pub planned: u64,
    /// Trainable parameters of the model.
    pub parameters: Option<u64>,
    /// The published numbers of the model it stands beside: `loss 1.46, accuracy 0.691`.
    pub published: String,
}

/// The section; none unless runs report a perplexity.
pub(crate) fn section(sweep: &Sweep) -> Vec<Section> {
    let languages = languages(sweep.rows);
    if languages.is_empty() {
        return Vec::new();
    }
    let section = Section {
        name: "language",
        title: "Language models",
        grid: Grid::new(COLUMNS, &languages),
        caption: CAPTION.into(),
        of_columns: OF_COLUMNS.into(),
        notes: sign_notes(sweep.rows),
        data: Some(Frame::new(COLUMNS, &languages)),
        ..Section::default()
    };
    vec![section.with_json("language", &languages)]
}

/// The rows of every place some of whose runs report a perplexity; empty without any.
pub(crate) fn languages(rows: &[Row]) -> Vec<Language> {
    let mut all = Vec::new();
    for place in places(rows) {
        let of_place: Vec<&Row> = rows.iter().filter(|row| row.place() == place).collect();
        if of_place.iter().all(|row| !row.measures.contains_key("perplexity")) {
            continue;
        }
        let mut found: Vec<Language> = of_place.iter().map(|row| model(row)).collect();
        found.extend(baselines(&of_place));
        let loss = |row: &Language| row.loss.as_ref().and_then(|loss| loss.mean).unwrap_or(f64::INFINITY);
        found.sort_by(|a, b| loss(a).total_cmp(&loss(b))); // stable: equals stay in the manifest's order
        all.extend(found);
    }
    all
}

fn model(row: &Row) -> Language {
    let of = |name: &str| row.measures.get(name).filter(|measured| measured.n > 0).cloned();
    let share = |name: &str| of(name).map(clipped);
    let loss = of("loss");
    Language {
        task: row.place_shown(),
        mixer: row.mixer.clone(),
        baseline: false,
        perplexity: of("perplexity").map(|measured| geometric(&measured)),
        accuracy: share("accuracy"),
        pseudo_perplexity: of("pseudo_perplexity").map(|measured| geometric(&measured)),
        bits_per_byte: of("bits_per_byte"),
        minimal_pairs: share("minimal_pairs"),
        tokens_per_second: row.tokens_per_second,
        mfu: share("mfu"),
        n: loss.as_ref().map_or(0, |loss| loss.n),
        loss,
        planned: row.planned,
        parameters: row.parameters,
        published: published_text(row),
    }
}

/// What the task's baselines lose and reach: the mean over all runs of the task, which agree on it.
fn baselines(rows: &[&Row]) -> Vec<Language> {
    let names: BTreeSet<&str> = rows.iter().flat_map(|row| row.baselines_with_loss()).collect();
    let of_baseline = |name: &str| {
        let of = |measure: &str| {
            let measured = rows.iter().filter_map(|row| row.of_baseline(name, measure));
            let values = measured.flat_map(|measured| measured.values.iter().copied()).collect();
            // One number measured again and again has no spread to speak of.
            Some(Measured { interval: None, ..Measured::new(values) }).filter(|measured| measured.n > 0)
        };
        let loss = of("loss");
        let n = loss.as_ref().map_or(0, |loss| loss.n);
        Language {
            task: rows.first().map(|row| row.place_shown()).unwrap_or_default(),
            mixer: name.into(),
            baseline: true,
            perplexity: of("perplexity")
                .or(loss.clone().map(exponential))
                .map(|measured| Measured { interval: None, ..measured }),
            accuracy: of("accuracy"),
            pseudo_perplexity: of("pseudo_perplexity"),
            bits_per_byte: of("bits_per_byte"),
            minimal_pairs: of("minimal_pairs"),
            loss,
            tokens_per_second: None,
            mfu: None,
            n,
            planned: n as u64,
            parameters: None,
            published: String::new(),
        }
    };
    names.into_iter().map(of_baseline).collect()
}

/// The mean of logarithms, and its interval, taken back: of perplexities that of their losses.
pub(crate) fn geometric(measured: &Measured) -> Measured {
    let logarithms = measured.values.iter().map(|value| value.ln());
    exponential(Measured::of_runs(measured.runs.iter().copied().zip(logarithms).collect()))
}

fn exponential(logarithms: Measured) -> Measured {
    Measured {
        mean: logarithms.mean.map(f64::exp),
        interval: logarithms.interval.map(|Interval { low, high }| Interval { low: low.exp(), high: high.exp() }),
        n: logarithms.n,
        runs: logarithms.runs,
        values: logarithms.values.into_iter().map(f64::exp).collect(),
    }
}

fn clipped(measured: Measured) -> Measured {
    Measured { interval: measured.interval.map(|interval| interval.clipped(Range::SHARE)), ..measured }
}

/// The cell of its task, and of the tasks that are other measures of it.
fn published_text(row: &Row) -> String {
    let (Some(model), Some(task)) = (&row.published_model, &row.published_task) else { return String::new() };
    let tasks = published::measured_together(task);
    let cell = |task: &str| {
        let cell = published::find(model, task)?;
        let number = match cell.accuracy {
            Some(share) => format!("{share:.3}"),
            None => cell.number?.to_string(),
        };
        Some(format!("{} {number}", cell.measure))
    };
    let texts: Vec<String> = tasks.into_iter().filter_map(cell).collect();
    if texts.is_empty() { String::new() } else { format!("{}{}", texts.join(", "), row.letter) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::OfBaseline;
    use crate::report::Report;
    use crate::samples;
    use crate::table::Table;

    #[test]
    fn rows_stand_in_the_order_of_their_losses_with_the_baseline_among_them() {
        let (manifest, records) = samples::language();
        let table = Table::build(&manifest, &records).expect("builds");
        let languages = languages(&table.rows);
        let names: Vec<&str> = languages.iter().map(|row| row.mixer.as_str()).collect();
        assert_eq!(names, ["hydra", "attention", "fnet", "unigram", "s4"]);
        let unigram = &languages[3];
        assert!(unigram.baseline && unigram.loss.as_ref().is_some_and(|loss| loss.mean == Some(6.5)));
        assert!(languages[4].loss.is_none(), "every run of it failed");
        insta::assert_snapshot!(samples::section(&table, "language"), @r"
        | task | mixer | loss | perplexity | accuracy | pseudo-perplexity | minimal pairs | tokens/s | MFU | parameters | n | published |
        | --- | --- | --- | --- | --- | --- | --- | ---: | ---: | ---: | --- | --- |
        | mlm § | hydra | 3.950 [3.925, 3.975] | 51.9 [50.7, 53.2] | 0.330 [0.325, 0.335] | 67.5 [65.9, 69.2] | 0.665 [0.665, 0.665] | 40960 | 1.20 % | 70000 | 3/3 | loss 1.46, accuracy 0.691ᵇ |
        | mlm § | attention | 4.100 [4.075, 4.125] | 60.3 [58.9, 61.9] | 0.310 [0.305, 0.315] | 78.4 [76.5, 80.4] | 0.655 [0.655, 0.655] | 40960 | 1.20 % | 70000 | 3/3 | loss 1.59, accuracy 0.673ᵃ |
        | mlm § | fnet | 4.600 [4.575, 4.625] | 99.5 [97.0, 102] | 0.260 [0.255, 0.265] | 129 [126, 133] | 0.630 [0.630, 0.630] | 40960 | 1.20 % | 70000 | 3/3 | loss 1.94, accuracy 0.613ᶜ |
        | mlm § | baseline: unigram | 6.500 | 665 | 0.050 |  |  |  |  |  |  |  |
        | mlm § | s4 |  |  |  |  |  |  |  | 70000 | 0/3 |  |

        Language models in the order of their test losses (nats a scored token). Means and 95 % Student-t intervals over seeds; perplexity is e to the mean loss and its interval e to the interval of the loss, pseudo-perplexity likewise. n: runs with a loss; a run that diverged has none, and of accuracy the floor. Tokens/s is the median training speed. MFU is the share of the machine's peak that the model's own operations make up. Published losses and accuracies are of other corpora and tokenizers: beside ours they say how the papers' models lie to each other, and no difference is taken.

        - § mlm: taken for C4-MLM-acc here, but not the same: other data or another size.
        ");
    }

    #[test]
    fn a_share_of_the_peak_above_one_is_left_out_everywhere() {
        let (manifest, mut records) = samples::language();
        for record in records.iter_mut().filter(|record| record.id.starts_with("fnet")) {
            record.measures.insert("mfu".into(), 2.14);
        }
        records.iter_mut().find(|record| record.id == "hydra.mlm.1").expect("there").measures.insert("mfu".into(), 1.2);
        let report = Report::from_records(&manifest, &records).expect("builds");
        let mfu = |mixer: &str| {
            let rows = languages(&report.table().rows);
            rows.iter().find(|row| row.mixer == mixer).and_then(|row| row.mfu.as_ref()).map(|mfu| mfu.n)
        };
        assert_eq!((mfu("fnet"), mfu("hydra"), mfu("attention")), (None, Some(2), Some(3)));
        let folder = tempfile::tempdir().expect("a temporary folder");
        report.write_texts_and_svgs(folder.path()).expect("writes");
        for name in ["table.csv", "runs.csv", "language.csv", "table.json", "report.md"] {
            let text = std::fs::read_to_string(folder.path().join(name)).expect("reads");
            assert!(!text.contains("2.14") && !text.contains(",1.2,"), "{name}: {text}");
        }
    }

    // Losses 4.0, 4.1, 4.2: mean 4.1, sd 0.1, t 4.302653, so 4.1 ± 0.248414.
    #[test]
    fn the_interval_of_a_perplexity_is_that_of_its_loss_taken_back() {
        let losses = [4.0_f64, 4.1, 4.2];
        let perplexity = geometric(&Measured::new(losses.map(f64::exp).to_vec()));
        let interval = perplexity.interval.expect("three seeds");
        assert!((perplexity.mean.expect("three seeds") - 4.1_f64.exp()).abs() < 1e-9);
        assert!((interval.low.ln() - (4.1 - 0.248_414)).abs() < 1e-6 && (interval.high.ln() - 4.348_414).abs() < 1e-6);
        let one = geometric(&Measured::new(vec![60.0]));
        assert!((one.mean.expect("one seed") - 60.0).abs() < 1e-9 && one.interval.is_none());
    }

    #[test]
    fn one_seed_is_said_to_be_one_and_published_numbers_stand_for_other_data() {
        let (mut manifest, mut records) = samples::language();
        manifest.runs.retain(|run| run.seed == 1);
        records.retain(|record| record.seed == 1);
        let table = Table::build(&manifest, &records).expect("builds");
        let text = samples::section(&table, "language");
        assert!(text.contains("| 4.090 (n = 1) |"), "{text}");
        assert!(text.contains("loss 1.46, accuracy 0.691ᵇ"), "{text}");
        let stands = |table: &Table| {
            table.sections[0].notes.iter().any(|note| note.starts_with("§ mlm: taken for C4-MLM-acc here"))
        };
        assert!(stands(&table), "{:?}", table.sections[0].notes);
        for run in &mut manifest.runs {
            run.published.as_mut().expect("named").model = None;
        }
        let table = Table::build(&manifest, &records).expect("builds");
        assert!(
            !stands(&table) && !samples::section(&table, "language").contains('§'),
            "{:?}",
            table.sections[0].notes
        );
    }

    #[test]
    fn every_number_stands_in_a_file_and_in_json() {
        let (manifest, records) = samples::language();
        let report = Report::from_records(&manifest, &records).expect("builds");
        let text = samples::csv(report.table(), "language");
        assert_eq!(text.lines().count(), 6);
        assert!(
            text.lines().all(|line| line.starts_with("task,mixer,baseline") || line.starts_with("mlm §,")),
            "{text}"
        );
        let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
        assert_eq!(
            (&json["language"][3]["mixer"], &json["language"][3]["baseline"]),
            (&"unigram".into(), &true.into())
        );
        let folder = tempfile::tempdir().expect("a temporary folder");
        report.write(folder.path()).expect("writes");
        assert_eq!(std::fs::read_to_string(folder.path().join("language.csv")).expect("reads"), text);
        let page = std::fs::read_to_string(folder.path().join("report.md")).expect("reads");
        assert!(page.contains("## Language models\n\n| task | mixer | loss |"), "{page}");
        assert!(!page.contains("| loss of unigram |"), "baselines are rows, not columns: {page}");
        assert!(report.terminal(160).contains("pseudo-perplexity"), "{}", report.terminal(160));
    }

    #[test]
    fn a_caption_explains_the_columns_that_are_shown() {
        let (manifest, records) = samples::language();
        let table = Table::build(&manifest, &records).expect("builds");
        let of = |width: usize| table.terminal(width, false).split_whitespace().collect::<Vec<_>>().join(" ");
        let (wide, narrow) = (of(300), of(90));
        for said in ["MFU is the share", "Tokens/s is the median", "Published losses and accuracies"] {
            assert!(wide.contains(said), "{said}: {wide}");
            assert!(!narrow.contains(said), "{said}: {narrow}");
        }
        assert!(narrow.contains("Language models in the order") && !narrow.contains("MFU"), "{narrow}");
    }

    #[test]
    fn a_baseline_is_what_the_record_says_is_one_whatever_the_names_of_its_measures() {
        let (manifest, mut records) = samples::language();
        for record in &mut records {
            record.measures.remove("perplexity of unigram");
            for measure in ["loss", "accuracy"] {
                let Some(value) = record.measures.remove(&format!("{measure} of unigram")) else { continue };
                let key = format!("{measure}_by_frequency");
                record.measures.insert(key.clone(), value);
                record.baselines.insert(key, OfBaseline { measure: measure.into(), baseline: "unigram".into() });
            }
        }
        let table = Table::build(&manifest, &records).expect("builds");
        let unigram = &languages(&table.rows)[3];
        let mean = |measured: &Option<Measured>| measured.as_ref().and_then(|measured| measured.mean);
        assert_eq!((unigram.mixer.as_str(), unigram.baseline), ("unigram", true));
        assert_eq!(mean(&unigram.loss), Some(6.5));
        assert!((mean(&unigram.accuracy).expect("kept") - 0.05).abs() < 1e-12);
        assert!((mean(&unigram.perplexity).expect("of the loss") - 6.5_f64.exp()).abs() < 1e-9);
        assert!(!samples::section(&table, "measures").contains("by_frequency"));
    }

    #[test]
    fn without_a_perplexity_there_is_no_table() {
        let (manifest, records) = samples::eventful();
        let table = Table::build(&manifest, &records).expect("builds");
        assert!(table.section("language").is_none());
    }
}
