//! Published scores on Long Range Arena, each with the text it was read in.
//!
//! ```text
//! avg5   mean of ListOps, Text, Retrieval, Image, Pathfinder        the leaderboard of 2020
//! avg6   the same with Path-X, which counts 50 % where it failed    the papers since S4
//! ```
//! The table is `published/lra.csv`; `published/README.md` says where it is from.

use serde::{Deserialize, Serialize};
use std::sync::OnceLock;

/// The tasks of the published table, by the names it uses.
pub const TASKS: [&str; 7] = ["ListOps", "Text", "Retrieval", "Image", "Pathfinder", PATH_X, PATH_256];
/// The tasks of avg5.
pub const FIVE: [&str; 5] = ["ListOps", "Text", "Retrieval", "Image", "Pathfinder"];
/// The sixth task.
pub const PATH_X: &str = "Path-X";
/// Path-X at twice its side.
pub const PATH_256: &str = "PathX-256";
/// What a failed Path-X counts in avg6: guessing.
pub const FAILED_PATH_X: f64 = 0.5;

const TABLE: &str = include_str!("published/lra.csv");

/// One published cell.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Published {
    /// Model and variant: papers disagree about the same model, so a re-run is a model of its own.
    pub model: String,
    /// One of [`TASKS`], or the source's own average, `Avg` or `Avg5`.
    pub task: String,
    /// Share of test examples; `None` where the model failed.
    pub accuracy: Option<f64>,
    /// Whether the source says FAIL: no better than guessing, or out of memory.
    pub failed: bool,
    /// Paper or page, with its table.
    pub source: String,
    /// Written down from memory; the source was not at hand.
    pub recalled: bool,
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
    task: String,
    accuracy: String,
    source: String,
    #[serde(rename = "recalled(yes/no)")]
    recalled: String,
}

/// Every cell, in the order of the file.
pub fn all() -> &'static [Published] {
    static CELLS: OnceLock<Vec<Published>> = OnceLock::new();
    CELLS.get_or_init(|| parse(TABLE).expect("the table is part of the program, and a test reads it"))
}

/// The cell of a model at a task, both named as in the table.
pub fn find(model: &str, task: &str) -> Option<&'static Published> {
    all().iter().find(|cell| cell.model == model && cell.task == task)
}

/// Every model's name, in the order of the file.
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
    let stated = share("Avg").or_else(|| share("Avg5")).filter(|stated| !agrees(*stated));
    Averages { five, six, stated }
}

/// The published task that a task family with these settings is, if it is one: pathfinder by its side in pixels, and only
/// in its hard form, with contours of 14 bars.
pub fn task_of(family: &str, settings: &serde_json::Value) -> Option<&'static str> {
    let hard = settings["contour_length"].as_u64().is_none_or(|bars| bars == 14);
    match (family, settings["resolution"].as_u64()) {
        ("listops", _) => Some("ListOps"),
        ("text", _) => Some("Text"),
        ("retrieval", _) => Some("Retrieval"),
        ("image", _) => Some("Image"),
        ("pathfinder", Some(32)) if hard => Some("Pathfinder"),
        ("pathfinder", Some(128)) if hard => Some(PATH_X),
        ("pathfinder", Some(256)) if hard => Some(PATH_256),
        _ => None,
    }
}

/// The cells of a table with the columns model, task, accuracy in percent or FAIL, source, recalled.
fn parse(text: &str) -> Result<Vec<Published>, String> {
    let mut cells = Vec::new();
    for (line, row) in (2..).zip(csv::Reader::from_reader(text.as_bytes()).deserialize()) {
        let Line { model, task, accuracy, source, recalled } = row.map_err(|error| error.to_string())?;
        let percent = match accuracy.as_str() {
            "FAIL" => None,
            number => match number.parse::<f64>() {
                Ok(percent) if (0.0..=100.0).contains(&percent) => Some(percent),
                _ => return Err(format!("line {line}: the accuracy `{number}` is neither a percentage nor FAIL")),
            },
        };
        let recalled = match recalled.as_str() {
            "yes" => true,
            "no" => false,
            word => return Err(format!("line {line}: recalled is `{word}`, expected yes or no")),
        };
        let accuracy = percent.map(|percent| percent / 100.0);
        cells.push(Published { model, task, accuracy, failed: accuracy.is_none(), source, recalled });
    }
    Ok(cells)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_line_of_the_table_is_a_cell_that_can_be_found() {
        let cells = parse(TABLE).expect("the table is well formed");
        assert_eq!((cells.len(), models().len()), (TABLE.lines().count() - 1, 61));
        for cell in &cells {
            assert_eq!(find(&cell.model, &cell.task), Some(cell), "two cells for {} at {}", cell.model, cell.task);
            assert!(TASKS.contains(&cell.task.as_str()) || ["Avg", "Avg5"].contains(&cell.task.as_str()));
            assert!(!cell.source.is_empty());
        }
    }

    #[test]
    fn percent_becomes_a_share_and_fail_no_number() {
        let cell = find("S4D-LegS", "ListOps").expect("there");
        assert!((cell.accuracy.expect("a number") - 0.6047).abs() < 1e-12 && !cell.failed && !cell.recalled);
        let cell = find("Transformer", PATH_X).expect("there");
        assert_eq!((cell.accuracy, cell.failed), (None, true));
        let cell = find("S4 + masked SPT", PATH_256).expect("there");
        assert!(cell.recalled && cell.source.starts_with("Never Train from Scratch (Amos, Berant, Gupta"));
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
    fn a_task_is_told_by_its_family_and_size() {
        let of = |family: &str, resolution: u64| task_of(family, &json!({ "resolution": resolution }));
        assert_eq!((of("pathfinder", 32), of("pathfinder", 64)), (Some("Pathfinder"), None));
        assert_eq!(task_of("pathfinder", &json!({ "resolution": 32, "contour_length": 14 })), Some("Pathfinder"));
        assert_eq!((of("pathfinder", 128), of("pathfinder", 256)), (Some(PATH_X), Some(PATH_256)));
        assert_eq!(task_of("pathfinder", &json!({ "resolution": 32, "contour_length": 9 })), None);
        assert_eq!((task_of("text", &json!({})), task_of("mqar", &json!({}))), (Some("Text"), None));
    }

    #[test]
    fn a_table_with_a_wrong_number_or_too_many_fields_is_refused() {
        let head = "model,task,accuracy,source,recalled(yes/no)\n";
        for (row, said) in [
            ("a,Text,101,b,no", "line 2: the accuracy `101`"),
            ("a,Text,50,b,maybe", "line 2: recalled is `maybe`"),
            ("a,Text,50,by (A, B),no", "fields"),
        ] {
            let error = parse(&format!("{head}{row}\n")).expect_err("refused");
            assert!(error.contains(said), "{error}");
        }
    }
}
