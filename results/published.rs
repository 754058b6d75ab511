//! Published numbers on Long Range Arena, GLUE and language modelling, each with the paper or page it was read in, and
//! with the table or section there. A number that nobody has read in such a place has no row: `parse` refuses it.
//!
//! ```text
//! avg5   mean of ListOps, Text, Retrieval, Image, Pathfinder        the leaderboard of 2020
//! avg6   the same with Path-X, which counts 50 % where it failed    the papers since S4
//! ```
//! The tables are `published/*.csv`; `published/README.md` says where they are from. GLUE's averages are in `suites/glue.rs`.

use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// The tasks of the published tables, by the names they use.
pub const TASKS: [&str; 22] = [
    "ListOps",
    "Text",
    "Retrieval",
    "Image",
    "Pathfinder",
    PATH_X,
    PATH_256,
    "CoLA",
    "SST2",
    "MRPC",
    "STS-B",
    "QQP",
    "MNLI",
    "QNLI",
    "RTE",
    "WNLI",
    C4_LOSS,
    C4_ACCURACY,
    "C4 MLM perplexity",
    "PG-19 MLM perplexity, context 2048 (CAB)",
    "PG-19 LM perplexity, context 8192 (CAB)",
    "Wiki-40B-En LM perplexity",
];
/// The tasks of GLUE, by the names of the published table.
pub const GLUE: [&str; 9] = ["CoLA", "SST2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI"];
/// Masked cross-entropy on C4, nats.
pub const C4_LOSS: &str = "C4-MLM-loss";
/// Masked accuracy on C4.
pub const C4_ACCURACY: &str = "C4-MLM-acc";
/// The tasks of avg5.
pub const FIVE: [&str; 5] = ["ListOps", "Text", "Retrieval", "Image", "Pathfinder"];
/// The sixth task.
pub const PATH_X: &str = "Path-X";
/// Path-X at twice its side.
pub const PATH_256: &str = "PathX-256";
/// What a failed Path-X counts in avg6: guessing.
pub const FAILED_PATH_X: f64 = 0.5;

const LRA: &str = include_str!("published/lra.csv");
const GLUE_TABLE: &str = include_str!("published/glue.csv");
const LANGUAGE: &str = include_str!("published/mlm_lm_cab.csv");

/// One published cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Published {
    /// Model and variant: papers disagree about the same model, so a re-run is a model of its own.
    pub model: String,
    /// One of [`TASKS`], the source's own average, `Avg` or `Avg5`, or a quantity that no task has.
    pub task: String,
    /// What the number is of, by the names of the records' measures: `accuracy`, `f1`, `mcc`, `loss`, `perplexity`.
    pub measure: String,
    /// A share of test examples or a correlation; `None` where the model failed or the number is of another kind.
    pub accuracy: Option<f64>,
    /// A number that is no share: nats, a perplexity, tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub number: Option<f64>,
    /// What its column says besides task and measure: `from MNLI`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remark: String,
    /// Whether the source says FAIL: no better than guessing, or out of memory.
    pub failed: bool,
    /// The paper, repository or page that the number was read in.
    pub source: String,
    /// Where in it: the table, section or file. A table that quotes another paper says so here.
    pub place: String,
}

impl Published {
    /// The number, whatever its kind; `None` where the model failed.
    pub fn value(&self) -> Option<f64> {
        self.accuracy.or(self.number)
    }

    /// As the source prints it: shares in percent, `f1 88.40 (from MNLI)`, `FAIL`.
    pub fn shown(&self) -> String {
        let number = match (self.accuracy, self.number) {
            (Some(share), _) => format!("{:.2}", 100.0 * share),
            (None, Some(number)) => number.to_string(),
            (None, None) => "FAIL".into(),
        };
        let measure = if self.is_default() { String::new() } else { format!("{} ", self.measure) };
        let remark = if self.remark.is_empty() { String::new() } else { format!(" ({})", self.remark) };
        format!("{measure}{number}{remark}")
    }

    /// Source and place: `LRU paper (Orvieto et al. 2023, arXiv:2303.06349), Table 3 (mean of 3 seeds)`.
    pub fn cited(&self) -> String {
        format!("{}, {}", self.source, self.place)
    }

    /// Whether the task's name tells the measure.
    fn is_default(&self) -> bool {
        !GLUE.contains(&self.task.as_str()) || ["CoLA", "SST2", "MNLI", "QNLI", "RTE"].contains(&self.task.as_str())
    }

    /// Whether a lower number is the better one.
    pub fn lower_is_better(&self) -> bool {
        crate::store::metric::lower_is_better(&self.measure)
    }
}

/// The published numbers a run stands beside. A label like the run's other labels: no part of its identity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// One of [`TASKS`].
    pub task: String,
    /// A model of the published table.
    #[serde(default)]
    pub model: Option<String>,
    /// Whether the config put another task in this one's place: other data, or another size.
    #[serde(default)]
    pub stand_in: bool,
}

/// Means over five and six tasks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Averages {
    /// Without Path-X; `None` where a cell is missing.
    pub five: Option<f64>,
    /// With Path-X; `None` where a cell is missing.
    pub six: Option<f64>,
    /// The source's own average where it is neither of the two to 0.05 points.
    pub stated: Option<f64>,
}

/// A row of the file.
#[derive(Deserialize)]
struct Line {
    model: String,
    #[serde(alias = "metric")]
    task: String,
    #[serde(alias = "value")]
    accuracy: String,
    source: String,
    place: String,
}

/// Every cell, in the order of the files.
pub fn all() -> &'static [Published] {
    static CELLS: OnceLock<Vec<Published>> = OnceLock::new();
    let read = || [LRA, GLUE_TABLE, LANGUAGE].map(parse).into_iter().collect::<Result<Vec<_>, _>>().map(|t| t.concat());
    CELLS.get_or_init(|| read().expect("the tables are part of the program, and a test reads them"))
}

/// The cell of a model at a task, both named as in the table; where the source has two measures, the first.
pub fn find(model: &str, task: &str) -> Option<&'static Published> {
    all().iter().find(|cell| cell.model == model && cell.task == task)
}

/// The cell of a model at a task for one measure.
pub fn find_measure(model: &str, task: &str, measure: &str) -> Option<&'static Published> {
    all().iter().find(|cell| cell.model == model && cell.task == task && cell.measure == measure)
}

/// Whether a published task's data are nowhere at hand, so that every task of ours only stands for it: C4, PG-19 and
/// Wiki-40B as they were prepared there.
pub fn other_data(task: &str) -> bool {
    [C4_LOSS, C4_ACCURACY].contains(&task) || task.contains("perplexity")
}

/// The tasks of the published tables that are measures of the same models on the same data as this one, itself among them: loss and
/// accuracy on C4.
pub(crate) fn measured_together(task: &str) -> Vec<&str> {
    if [C4_LOSS, C4_ACCURACY].contains(&task) { vec![C4_LOSS, C4_ACCURACY] } else { vec![task] }
}

/// How many numbers were read in each source, in the order of the files.
pub fn sources() -> Vec<(&'static str, usize)> {
    let mut counts: Vec<(&str, usize)> = Vec::new();
    for cell in all() {
        match counts.iter_mut().find(|(source, _)| *source == cell.source) {
            Some((_, count)) => *count += 1,
            None => counts.push((&cell.source, 1)),
        }
    }
    counts
}

/// Every model's name, in the order of the files.
pub fn models() -> Vec<&'static str> {
    let mut names: Vec<&str> = Vec::new();
    for cell in all() {
        if names.last() != Some(&cell.model.as_str()) && !names.contains(&cell.model.as_str()) {
            names.push(&cell.model);
        }
    }
    names
}

/// The averages of a model's published cells, by one rule for all.
pub fn averages(model: &str) -> Averages {
    let share = |task: &str| find(model, task).and_then(|cell| cell.accuracy);
    let five: Option<Vec<f64>> = FIVE.iter().map(|task| share(task)).collect();
    let path_x = find(model, PATH_X).and_then(|cell| if cell.failed { Some(FAILED_PATH_X) } else { cell.accuracy });
    let sum = five.map(|shares| shares.iter().sum::<f64>());
    let (five, six) = (sum.map(|sum| sum / 5.0), sum.zip(path_x).map(|(sum, path_x)| (sum + path_x) / 6.0));
    let agrees = |stated: f64| [five, six].iter().flatten().any(|own| (own - stated).abs() <= 0.000_5 + 1e-9);
    let stated = share("Avg").or_else(|| share("Avg5")).filter(|stated| five.is_some() && !agrees(*stated));
    Averages { five, six, stated }
}

/// What a column is of: task, measure and remark. GLUE's columns name a measure where the source has two for a task;
/// where it has one, `README.md` says why it is taken for the one that it is taken for.
fn column(name: &str) -> (String, String, String) {
    let (name, remark) = match name.split_once(" (from ") {
        Some((name, rest)) => (name, format!("from {}", rest.trim_end_matches(')'))),
        None => (name, String::new()),
    };
    let ends =
        [("-acc", "accuracy"), ("-F1", "f1"), ("-MCC", "mcc"), ("-Pearson", "pearson"), ("-Spearman", "spearman")];
    for (end, measure) in ends {
        if let Some(task) = name.strip_suffix(end).filter(|task| GLUE.contains(task)) {
            return (task.into(), measure.into(), remark);
        }
    }
    let measure = match name {
        "CoLA" => "mcc",
        "STS-B" => "spearman",
        "MRPC" => "f1",
        C4_LOSS => "loss",
        "Avg" | "Avg5" => "average",
        name if name.contains("perplexity") => "perplexity",
        name if name.starts_with("efficiency length") => "length",
        _ => "accuracy",
    };
    (name.into(), measure.into(), remark)
}

/// Whether a place can be looked up: it names a table, a section, the abstract, or a file of a repository.
fn can_be_looked_up(place: &str) -> bool {
    let numbered = |word: &str| {
        place.strip_prefix(word).is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
    };
    let file = place.split([',', ' ']).next().unwrap_or_default();
    numbered("Table ") || numbered("section ") || file == "abstract" || file.ends_with(".md") || file.contains('/')
}

/// The cells of a table with the columns model, task, number (shares in percent) or FAIL, source and place.
///
/// # Errors
/// The line and what is wrong with it: a field too many or missing, a number outside its range, no source, a place that
/// cannot be looked up, or a number that was written down from memory.
fn parse(text: &str) -> Result<Vec<Published>, String> {
    let mut cells = Vec::new();
    for (line, row) in (2..).zip(csv::Reader::from_reader(text.as_bytes()).deserialize()) {
        let Line { model, task, accuracy: printed, source, place } = row.map_err(|error| error.to_string())?;
        let (task, measure, remark) = column(&task);
        let (least, most) = match measure.as_str() {
            "loss" | "perplexity" | "length" => (0.0, f64::INFINITY),
            "mcc" | "pearson" | "spearman" => (-100.0, 100.0),
            _ => (0.0, 100.0),
        };
        let value = match printed.as_str() {
            "FAIL" => None,
            number => match number.parse::<f64>() {
                Ok(value) if value.is_finite() && (least..=most).contains(&value) => Some(value),
                _ if most > 100.0 => return Err(format!("line {line}: the {measure} `{number}` is not 0 or more")),
                _ => return Err(format!("line {line}: the {measure} `{number}` is neither a percentage nor FAIL")),
            },
        };
        let words = format!("{source} {place}").to_lowercase();
        if source.trim().is_empty() {
            return Err(format!("line {line}: the source is missing"));
        }
        if ["recalled", "from memory", "unconfirmed"].iter().any(|word| words.contains(word)) {
            return Err(format!("line {line}: a number from memory; look it up in `{source}` or leave it out"));
        }
        if !can_be_looked_up(&place) {
            return Err(format!(
                "line {line}: the place `{place}` is neither a table, a section, the abstract nor a file"
            ));
        }
        let accuracy = value.filter(|_| most <= 100.0).map(|percent| percent / 100.0);
        let number = value.filter(|_| most > 100.0);
        cells.push(Published {
            model,
            task,
            measure,
            accuracy,
            number,
            remark,
            failed: value.is_none(),
            source,
            place,
        });
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_the_table_is_a_cell_that_can_be_found() {
        let lines = |text: &str| text.lines().count() - 1;
        assert_eq!((lines(LRA), lines(GLUE_TABLE), lines(LANGUAGE)), (351, 270, 52));
        assert_eq!((all().len(), models().len()), (351 + 270 + 52, 106));
        for cell in all() {
            let Published { model, task, measure, .. } = cell;
            assert_eq!(find_measure(model, task, measure), Some(cell), "two cells for {model} at {task}");
            let known = TASKS.contains(&task.as_str()) || ["Avg", "Avg5"].contains(&task.as_str());
            assert!(known || measure == "length", "{task}");
            assert!(cell.failed == cell.value().is_none());
        }
    }

    #[test]
    fn percent_becomes_a_share_and_fail_no_number() {
        let cell = find("S4D-LegS", "ListOps").expect("there");
        assert!((cell.accuracy.expect("a number") - 0.6047).abs() < 1e-12 && !cell.failed);
        let cell = find("Transformer", PATH_X).expect("there");
        assert_eq!((cell.accuracy, cell.failed), (None, true));
        assert_eq!(cell.cited(), "LRA leaderboard 2020-11-08, google-research/long-range-arena README.md");
        assert_eq!(find("S4D-LegS", "Path-Z"), None);
    }

    // By hand from the table: (60.47 + 86.18 + 89.46 + 88.19 + 93.06) / 5 = 83.472 and (417.36 + 91.95) / 6 = 84.885;
    // (36.37 + 64.27 + 57.46 + 42.44 + 71.4) / 5 = 54.388 and (271.94 + 50) / 6 = 53.657.
    #[test]
    fn averages_follow_one_rule_whatever_the_source_did() {
        let near = |found: Option<f64>, percent: f64| (found.expect("a mean") - percent / 100.0).abs() < 1e-5;
        let s4d = averages("S4D-LegS");
        assert!(near(s4d.five, 83.472) && near(s4d.six, 84.885) && s4d.stated.is_none());
        let transformer = averages("Transformer");
        assert!(near(transformer.five, 54.388) && near(transformer.six, 53.657) && transformer.stated.is_none());
        let no_path_x = averages("Combiner-Fixed");
        assert!(no_path_x.five.is_some() && no_path_x.six.is_none());
        assert_eq!(averages("S4"), Averages { five: None, six: None, stated: None });
    }

    #[test]
    fn only_one_source_states_an_average_that_its_cells_do_not_give() {
        let odd: Vec<_> = models().into_iter().filter(|model| averages(model).stated.is_some()).collect();
        assert_eq!(odd, ["Sinkhorn Transformer"]); // 51.29 stated, 51.48 from its cells
    }

    #[test]
    fn a_corpus_is_never_the_published_one() {
        assert!(other_data(C4_ACCURACY) && other_data("Wiki-40B-En LM perplexity"));
        assert!(!other_data("CoLA") && !other_data("Text"));
        for task in GLUE {
            assert!(TASKS.contains(&task), "{task}");
        }
    }

    #[test]
    fn a_source_with_two_measures_has_a_cell_for_each() {
        let model = "BiGS-512 JAX";
        let of = |task: &str, measure: &str| find_measure(model, task, measure).and_then(Published::value);
        assert_eq!((of("QQP", "accuracy"), of("QQP", "f1")), (Some(0.914), Some(0.884)));
        assert_eq!((of("STS-B", "pearson"), of("STS-B", "spearman")), (Some(0.899), Some(0.897)));
        assert_eq!((of("CoLA", "mcc"), of("CoLA", "accuracy")), (Some(0.679), None));
        let mrpc = find(model, "MRPC").expect("there");
        assert_eq!((mrpc.measure.as_str(), mrpc.shown().as_str()), ("f1", "f1 88.30 (from MNLI)"));
        let loss = find("Hydra 112M", C4_LOSS).expect("there");
        assert_eq!((loss.accuracy, loss.number, loss.shown().as_str()), (None, Some(1.46), "1.46"));
        assert!(loss.lower_is_better() && !mrpc.lower_is_better());
        assert_eq!(find("BERT-base (test)", "QQP").map(|cell| cell.measure.as_str()), Some("f1"));
        assert_eq!(find("Hydra 112M", "QQP").map(|cell| cell.measure.as_str()), Some("accuracy"));
    }

    #[test]
    fn every_number_says_where_it_was_read_and_none_is_from_memory() {
        for cell in all() {
            assert!(!cell.source.trim().is_empty() && can_be_looked_up(&cell.place), "{cell:?}");
            let words = cell.cited().to_lowercase();
            assert!(!words.contains("recalled") && !words.contains("memory"), "{cell:?}");
        }
        for text in [LRA, GLUE_TABLE, LANGUAGE] {
            let head = text.lines().next().expect("a header");
            assert!(head.ends_with(",source,place"), "{head}: no column may say that a number is less than read");
        }
        assert_eq!(sources().iter().map(|(_, count)| count).sum::<usize>(), all().len());
    }

    #[test]
    fn a_model_whose_numbers_were_found_nowhere_has_none() {
        for gone in ["SPADE", "SeqBoat", "Transformer + masked SPT (LRA-size)", "Transformer + rotary (scratch)"] {
            assert!(!models().contains(&gone), "{gone}");
        }
        assert_eq!(find("LRU", "Image"), None, "its pictures are in colour: another task");
        assert_eq!(find("S4", PATH_256).and_then(|cell| cell.accuracy), Some(0.67), "the text has whole points");
    }

    #[test]
    fn the_documents_count_what_the_tables_hold() {
        let own = include_str!("published/README.md");
        let lines = |text: &str| text.lines().count() - 1;
        let of = |text| models_of(&parse(text).expect("reads"));
        for (name, text) in [("lra.csv", LRA), ("glue.csv", GLUE_TABLE), ("mlm_lm_cab.csv", LANGUAGE)] {
            let said = format!("| `{name}` | {} | {} |", lines(text), of(text));
            assert!(own.contains(&said), "results/published/README.md does not say {said:?}");
        }
        let (method, total) = (include_str!("../docs/method.md"), all().len());
        let said = format!("`mixarena list published` prints all {total}");
        assert!(method.contains(&said), "docs/method.md does not say {said:?}");
    }

    fn models_of(cells: &[Published]) -> usize {
        cells.iter().map(|cell| &cell.model).collect::<std::collections::BTreeSet<_>>().len()
    }

    #[test]
    fn a_table_with_a_wrong_number_no_place_or_too_many_fields_is_refused() {
        let head = "model,task,accuracy,source,place\n";
        for (row, said) in [
            ("a,Text,101,b,Table 1", "line 2: the accuracy `101`"),
            ("a,Text,50,b,\"Table 1\",c", "fields"),
            ("a,Text,50,b", "fields"),
            ("a,C4-MLM-loss,-1,b,Table 1", "line 2: the loss `-1` is not 0 or more"),
            ("a,C4-MLM-loss,inf,b,Table 1", "line 2: the loss `inf` is not 0 or more"),
            ("a,CoLA,-101,b,Table 1", "line 2: the mcc `-101`"),
            ("a,Text,50,,Table 1", "line 2: the source is missing"),
            ("a,Text,50,b,", "line 2: the place `` is neither"),
            ("a,Text,50,b,Table", "line 2: the place `Table` is neither"),
            ("a,Text,50,b,somewhere", "line 2: the place `somewhere` is neither"),
            ("a,Text,50,b,Table 1; recalled", "line 2: a number from memory"),
            ("a,Text,50,b (from memory),Table 1", "line 2: a number from memory"),
        ] {
            let error = parse(&format!("{head}{row}\n")).expect_err("refused");
            assert!(error.contains(said), "{error}");
        }
        let old = parse("model,task,accuracy,source,recalled(yes/no)\na,Text,50,b,yes\n").expect_err("refused");
        assert!(old.contains("place"), "{old}");
    }
}
