//! ListOps: the generator's distribution, and every way in which a file can be wrong.

use super::*;
use crate::data::formats::tests::{archive, missing, prepared_sets, put};
use crate::laws::conformance::faults;
use std::collections::HashSet;
use std::io::Read;
use std::path::Path;

/// Short expressions, for speed.
fn small() -> Config {
    Config {
        min_length: 5,
        max_length: 50,
        max_depth: 3,
        train_examples: Some(300),
        validation_examples: Some(50),
        test_examples: Some(50),
        ..Config::default()
    }
}

/// Every example of a split.
fn all(task: &ListOps, split: Split) -> Vec<Example> {
    (0..task.len(split)).map(|index| task.example(split, index).unwrap()).collect()
}

fn nowhere() -> DataDir {
    DataDir("no/such/folder".into())
}

fn generated(cfg: Config) -> ListOps {
    assert_eq!(cfg.check(), []);
    ListOps::open(cfg, &nowhere()).unwrap()
}

const GOOD: &str = "Source\tTarget\r\n( ( ( [MAX 2 ) 7 ) ] )\t7\r\n( ( ( [SM 8 ) 7 ) ] )\t5\r\n";

/// Opens a folder whose training file is `train`.
fn with_train(folder: &Path, train: &str) -> Result<ListOps, DataError> {
    put(folder, "listops-1000/basic_train.tsv", train.as_bytes());
    put(folder, "listops-1000/basic_val.tsv", GOOD.as_bytes());
    put(folder, "listops-1000/basic_test.tsv", GOOD.as_bytes());
    ListOps::open(Config { source: Source::Files, ..Config::default() }, &DataDir(folder.into()))
}

/// The message for a broken training file, from the file's name on.
fn complaint(train: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let message = with_train(folder.path(), train).unwrap_err().to_string();
    message[message.find("basic_train").expect("the file is named")..].to_owned()
}

#[test]
fn lengths_and_labels_are_those_measured_on_the_reference_generator() {
    // 4,000 drawn here, 2,000 there: four deviations are 45 tokens of the mean and 0.04 of a label's share.
    let few = Config { validation_examples: Some(1), test_examples: Some(1), ..Config::default() };
    let task = generated(Config { train_examples: Some(4_000), ..few });
    let mut lengths: Vec<usize> = (0..4_000).map(|i| task.symbols(Split::Train, i).len()).collect();
    lengths.sort_unstable();
    let mean = lengths.iter().sum::<usize>() as f64 / 4_000.0;
    assert!(lengths[0] > 500 && lengths[3_999] < 2000);
    assert!((mean - 1038.0).abs() < 45.0, "mean length is {mean}");
    assert!(lengths[2_000].abs_diff(968) < 65, "median length is {}", lengths[2_000]);
    let share = |class: u8| task.labels(Split::Train).iter().filter(|&&label| label == class).count() as f64 / 4_000.0;
    for (class, expected) in [(0, 0.17), (9, 0.16), (1, 0.11)] {
        assert!((share(class) - expected).abs() < 0.03, "share of label {class} is {}", share(class));
    }
    assert!((2..9).all(|class| (0.05..0.11).contains(&share(class))), "{:?}", (0..10).map(share).collect::<Vec<_>>());
}

#[test]
fn the_deepest_nesting_is_nine_in_long_expressions() {
    let task = generated(Config {
        train_examples: Some(50),
        validation_examples: Some(1),
        test_examples: Some(1),
        ..Config::default()
    });
    for i in 0..50 {
        let (mut depth, mut deepest) = (0, 0);
        for &symbol in task.symbols(Split::Train, i) {
            depth += i32::from((tree::MIN..=tree::SM).contains(&symbol)) - i32::from(symbol == tree::CLOSE);
            deepest = deepest.max(depth);
        }
        assert_eq!(deepest, 9);
    }
}

#[test]
fn no_expression_comes_twice_even_when_few_are_possible() {
    let cfg = Config {
        min_length: 0,
        max_length: 5,
        max_depth: 2,
        train_examples: Some(150),
        validation_examples: Some(30),
        test_examples: Some(20),
        ..Config::default()
    };
    let task = generated(cfg);
    let distinct: HashSet<Vec<i64>> =
        Split::ALL.into_iter().flat_map(|split| all(&task, split)).map(|example| example.tokens).collect();
    assert_eq!(distinct.len(), 200);
}

#[test]
fn the_test_set_stays_when_the_training_set_grows() {
    let test = |train_examples| all(&generated(Config { train_examples, ..small() }), Split::Test);
    assert_eq!(test(Some(10)), test(Some(1_000)));
}

#[test]
fn many_drawn_examples_are_prepared_once_and_are_the_same_as_few() {
    let folder = tempfile::tempdir().unwrap();
    let many = || {
        let cfg = Config { train_examples: Some(MANY), ..small() };
        ListOps::open(cfg, &DataDir(folder.path().into())).unwrap()
    };
    let (first, again) = (many(), many());
    assert_eq!(prepared_sets(folder.path()), 1);
    assert_eq!(Split::ALL.map(|split| first.len(split)), [MANY, 50, 50]);
    let few = generated(small());
    assert_eq!(all(&first, Split::Test), all(&few, Split::Test));
    assert_eq!(all(&again, Split::Train)[..300], all(&few, Split::Train));
    assert_eq!((first.fingerprint(), first.notes()), (None, Vec::new()));
}

#[test]
fn conventions_number_the_same_expression_differently() {
    let task = |tokens| generated(Config { tokens, ..small() });
    let (s4, lra) = (task(Tokens::S4), task(Tokens::Lra));
    let tokens = |task: &ListOps| task.example(Split::Test, 0).unwrap().tokens;
    let shifted: Vec<i64> = tokens(&lra).iter().map(|token| token + 2).chain([2]).collect();
    assert_eq!(tokens(&s4), shifted);
    assert_eq!((s4.spec().vocab_size, lra.spec().vocab_size), (18, 17));
    assert_eq!((s4.spec().max_length, lra.spec().max_length), (50, 49));
    assert_eq!(Config::default().longest_input(), 2000);
    assert_eq!(Config { source: Source::Files, ..Config::default() }.longest_input(), 2048);
}

#[test]
fn an_expression_that_is_cut_short_is_not_solved_and_the_ceiling_says_so() {
    let task = generated(Config { l_max: Some(12), ..small() });
    let long = (0..50).find(|&i| task.symbols(Split::Test, i).len() > 11).unwrap();
    let example = task.example(Split::Test, long as u64).unwrap();
    assert_eq!((example.tokens.len(), example.tokens[11]), (12, 2), "the head is kept and <eos> stands at the end");
    assert_eq!(task.solve(&example), None);
    let ceiling = task.ceiling().unwrap();
    assert!(ceiling.score < 1.0 && ceiling.how.contains("of 50 examples are cut short"), "{ceiling:?}");
}

#[test]
fn files_are_read_with_either_line_end_from_a_folder_and_from_an_archive() {
    let folder = tempfile::tempdir().unwrap();
    let loose = with_train(folder.path(), &GOOD.replace("\r\n", "\n")).unwrap();
    assert_eq!(loose.len(Split::Train), 2);
    assert_eq!(loose.example(Split::Train, 1).unwrap().tokens, [3 + 13, 3 + 8, 3 + 7, 3 + 14, 2]);
    assert_eq!(loose.example(Split::Train, 1).unwrap().targets, Targets::PerSequence(vec![5]));
    assert_eq!(loose.notes()[1], "no training example has the label 0, 1, 2, 3, 4, 6, 8, 9");

    let folder = tempfile::tempdir().unwrap();
    let name = |part: &str| format!("listops-1000/basic_{part}.tsv");
    let (train, val, test) = (name("train"), name("val"), name("test"));
    let lf = GOOD.replace("\r\n", "\n");
    let files: [(&str, &[u8]); 3] = [(&train, lf.as_bytes()), (&val, GOOD.as_bytes()), (&test, GOOD.as_bytes())];
    put(folder.path(), "listops/any.tar.gz", &archive(&files));
    let packed = ListOps::open(Config { source: Source::Files, ..Config::default() }, &DataDir(folder.path().into()));
    let packed = packed.unwrap();
    Split::ALL.iter().for_each(|&split| assert_eq!(all(&packed, split), all(&loose, split)));
    assert_eq!(packed.fingerprint(), loose.fingerprint());
    assert!(packed.fingerprint().is_some());
}

#[test]
fn a_limit_takes_the_first_rows_and_too_high_a_limit_is_remarked_upon() {
    let folder = tempfile::tempdir().unwrap();
    drop(with_train(folder.path(), GOOD).unwrap());
    let cfg = Config { source: Source::Files, train_examples: Some(1), test_examples: Some(9), ..Config::default() };
    let task = ListOps::open(cfg, &DataDir(folder.path().into())).unwrap();
    assert_eq!([1, 2, 2], Split::ALL.map(|split| task.len(split)));
    assert_eq!(task.notes()[1], "test holds 2 rows, fewer than `test_examples`");
}

#[test]
fn every_broken_row_is_named_with_its_problem() {
    let row = |text: &str| complaint(&format!("Source\tTarget\n( [MAX 2 ) 7 ) ]\t7\n{text}\n"));
    assert_eq!(
        row("( ( ( [MIN 2 ) 3"),
        "basic_train.tsv:3: no tab between expression and label in `( ( ( [MIN 2 ) 3`; the row may be cut short"
    );
    assert_eq!(row("[MIN 2 3 ]\t"), "basic_train.tsv:3: no label after the tab; the row may be cut short");
    assert_eq!(row("[MIN 2 3 ]\t10"), "basic_train.tsv:3: the label is `10`, expected a digit from 0 to 9");
    assert_eq!(row("[MIN 2 3 ]\t-1"), "basic_train.tsv:3: the label is `-1`, expected a digit from 0 to 9");
    assert_eq!(row("[MIN 2 [AVG 3 ] ]\t2"), "basic_train.tsv:3: token 3 is `[AVG`, which ListOps does not have");
    assert_eq!(row("( )\t2"), "basic_train.tsv:3: the expression is empty");
    assert_eq!(row("[MIN 2 3\t2"), "basic_train.tsv:3: the expression ends with 1 brackets open");
    assert_eq!(row("[MIN 2 3 ]\t3"), "basic_train.tsv:3: the label is 3, but the expression's value is 2");
    assert!(row("").starts_with("basic_train.tsv:3: no tab"));
}

#[test]
fn every_broken_file_is_named_with_its_problem() {
    assert_eq!(
        complaint("( [MAX 2 ) 7 ) ]\t7\n"),
        "basic_train.tsv:1: expected the header `Source<TAB>Target`, found `( [MAX 2 ) 7 ) ]\\t7`"
    );
    assert_eq!(complaint(""), "basic_train.tsv: holds no rows; is it a complete download?");
    assert_eq!(complaint("Source\tTarget\r\n"), "basic_train.tsv: holds no rows; is it a complete download?");
}

#[test]
fn a_wrong_label_is_let_through_when_verification_is_off_and_lowers_the_ceiling() {
    let folder = tempfile::tempdir().unwrap();
    drop(with_train(folder.path(), GOOD).unwrap());
    put(folder.path(), "listops-1000/basic_test.tsv", GOOD.replace("\t5", "\t6").as_bytes());
    let cfg = Config { source: Source::Files, verify_labels: false, ..Config::default() };
    let task = ListOps::open(cfg, &DataDir(folder.path().into())).unwrap();
    assert_eq!(task.ceiling().unwrap().score, 0.5);
}

#[test]
fn a_second_start_reads_no_file_and_says_the_same_unless_it_verifies_what_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let first = with_train(folder.path(), GOOD).unwrap();
    let prepared = || prepared_sets(folder.path());
    let open = |verify_labels| {
        let cfg = Config { source: Source::Files, verify_labels, ..Config::default() };
        ListOps::open(cfg, &DataDir(folder.path().into())).unwrap()
    };
    assert_eq!(prepared(), 1);
    let again = open(true);
    assert_eq!((prepared(), again.notes()), (1, first.notes()));
    assert_eq!(all(&again, Split::Test), all(&first, Split::Test));
    let unverified = open(false);
    assert_eq!((prepared(), unverified.fingerprint()), (2, first.fingerprint()));
}

#[test]
fn what_is_drawn_and_what_is_written_and_read_again_are_the_same_examples() {
    let folder = tempfile::tempdir().unwrap();
    let steps = std::sync::Mutex::new(Vec::new());
    let step = |done, wanted| steps.lock().unwrap().push((done, wanted));
    let written = small().generate(folder.path(), &step).expect("it draws").unwrap();
    assert_eq!(steps.into_inner().unwrap().last(), Some(&(400, 400)));
    assert_eq!(written.examples, 400);
    let names: Vec<String> =
        written.paths.iter().map(|path| path.strip_prefix(folder.path()).unwrap().display().to_string()).collect();
    assert_eq!(names, ["train", "val", "test"].map(|part| format!("listops-1000/basic_{part}.tsv")));
    let text = std::fs::read_to_string(&written.paths[2]).unwrap();
    assert!(text.starts_with("Source\tTarget\r\n( ( ( ") && text.ends_with("\r\n"), "{text}");
    let cfg = Config { source: Source::Files, l_max: Some(50), ..Config::default() };
    let read = ListOps::open(cfg, &DataDir(folder.path().into())).unwrap();
    let drawn = generated(small());
    Split::ALL.iter().for_each(|&split| assert_eq!(all(&read, split), all(&drawn, split)));

    let again = small().generate(folder.path(), &|_, _| ()).expect("it draws").unwrap_err().to_string();
    assert!(again.contains("basic_train.tsv: is there already"), "{again}");
    assert!(Config { source: Source::Files, ..Config::default() }.generate(folder.path(), &|_, _| ()).is_none());
}

#[test]
fn the_facts_of_a_generated_set_are_those_of_its_examples() {
    let folder = tempfile::tempdir().unwrap();
    let cfg = Config { min_length: 0, max_length: 5, max_depth: 2, max_args: 2, ..small() };
    let cfg = Config { train_examples: Some(8), validation_examples: Some(1), test_examples: Some(1), ..cfg };
    let facts = cfg.generate(folder.path(), &|_, _| ()).expect("it draws").unwrap().facts;
    let fact = |name: &str| facts.iter().find(|(known, _)| known == name).expect("it is told").1.clone();
    assert!(fact("trees kept").contains(" % of ") && fact("trees kept").ends_with(" drawn"));
    assert!(fact("tokens without parentheses").starts_with("1 to 4, mean "), "{}", fact("tokens without parentheses"));
    assert!(fact("deepest nesting").starts_with("0: "), "{}", fact("deepest nesting"));
    assert_eq!(fact("operands of an operator"), "2.00 on average");
}

#[test]
fn labels_are_checked_in_both_forms_gzipped_or_not_and_in_archives() {
    let folder = tempfile::tempdir().unwrap();
    let short = "7\t( ( ( [MAX 2 ) 7 ) ] )\n4\t3\n4\t( ( ( [SM 8 ) 7 ) ] )\n";
    let mut packed = Vec::new();
    flate2::read::GzEncoder::new(short.as_bytes(), flate2::Compression::fast()).read_to_end(&mut packed).unwrap();
    let found = |file: &str, rows, disagreements, first| Checked { file: file.into(), rows, disagreements, first };
    let check = |name: &str, content: &[u8]| check_labels(&put(folder.path(), name, content));
    assert_eq!(check("d.tsv", short.as_bytes()).unwrap(), [found("d.tsv", 3, 2, Some((2, 4, 3)))]);
    assert_eq!(check("d.tsv.gz", &packed).unwrap(), [found("d.tsv.gz", 3, 2, Some((2, 4, 3)))]);
    assert_eq!(check("basic_val.tsv", GOOD.as_bytes()).unwrap(), [found("basic_val.tsv", 2, 0, None)]);
    let inside = archive(&[("a/basic_test.tsv", GOOD.as_bytes()), ("a/readme", b"x")]);
    assert_eq!(check("set.tar.gz", &inside).unwrap(), [found("a/basic_test.tsv", 2, 0, None)]);

    let problem = |name: &str, content: &[u8]| {
        let message = check(name, content).unwrap_err().to_string();
        message[message.find(name).unwrap()..].to_owned()
    };
    assert_eq!(problem("e.tsv", b""), "e.tsv: holds no rows; is it a complete download?");
    assert_eq!(problem("e.tsv", b"7\t7\nx\t7\n"), "e.tsv:2: the label is `x`, expected a digit from 0 to 9");
    assert_eq!(problem("e.tsv", b"7\t[MAX 7\n"), "e.tsv:1: the expression ends with 1 brackets open");
    assert!(problem("e.tsv", b"7 7\n").starts_with("e.tsv:1: no tab between expression and label"));
    let none = "none.tar.gz: holds none of basic_train.tsv, basic_val.tsv, basic_test.tsv";
    assert_eq!(problem("none.tar.gz", &archive(&[("readme", b"x")])), none);
    assert!(check_labels(&folder.path().join("absent.tsv")).unwrap_err().to_string().contains("absent.tsv: "));
}

#[test]
fn a_missing_or_doubled_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    drop(with_train(folder.path(), GOOD).unwrap());
    let open = || {
        let cfg = Config { source: Source::Files, ..Config::default() };
        ListOps::open(cfg, &DataDir(folder.path().into())).unwrap_err().to_string()
    };
    put(folder.path(), "listops-1000/copy/basic_val.tsv", GOOD.as_bytes());
    let doubled = open();
    assert!(
        doubled.ends_with("listops-1000: holds more than one basic_val.tsv; name the folder to use in `path`"),
        "{doubled}"
    );
    std::fs::remove_file(folder.path().join("listops-1000/copy/basic_val.tsv")).unwrap();
    std::fs::remove_file(folder.path().join("listops-1000/basic_test.tsv")).unwrap();
    let missing = open();
    let expected = "holds no basic_test.tsv; expected basic_train.tsv, basic_val.tsv, basic_test.tsv";
    assert!(missing.ends_with(expected), "{missing}");
}

#[test]
fn missing_data_says_where_to_get_them() {
    let files = Config { source: Source::Files, ..Config::default() };
    let (what, looked, help) = missing(|data| ListOps::open(files.clone(), data));
    assert_eq!((what.as_str(), looked.len()), ("ListOps files", CANDIDATES.len()));
    assert!(help.contains("curl -fL -o no/such/folder/listops-1000/basic_$part.tsv https://storage.googleapis.com/"));
    let (_, looked, _) = missing(|data| ListOps::open(Config { path: Some("mine".into()), ..files }, data));
    assert_eq!(looked, [PathBuf::from("no/such/folder/mine")]);
}

#[test]
fn every_impossible_setting_is_named() {
    let bad = |change: fn(&mut Config)| faults(small(), change);
    let one = |key, problem: &str| vec![(key, problem.to_owned())];
    assert_eq!(bad(|_| ()), []);
    assert_eq!(bad(|c| c.max_args = 1), one("max_args", "`max_args` is 1; operators take at least 2 operands"));
    assert_eq!(bad(|c| c.max_depth = 0), one("max_depth", "`max_depth` is 0, not from 1 to 100"));
    assert_eq!(
        bad(|c| c.max_length = 6),
        one("max_length", "no length lies strictly between `min_length` = 5 and `max_length` = 6")
    );
    assert_eq!(
        bad(|c| (c.min_length, c.max_depth, c.max_args) = (13, 2, 10)),
        one(
            "min_length",
            "none of 10000 expressions drawn with `max_depth` 2 and `max_args` 10 had a length strictly between 13 and 50"
        )
    );
    assert_eq!(
        bad(|c| (c.min_length, c.max_length, c.max_depth) = (0, 5, 2)),
        one("max_length", "400 different expressions are wanted, and lengths between 0 and 5 allow about 410")
    );
    assert_eq!(bad(|c| c.max_length = 1_000_001), one("max_length", "`max_length` is 1000001, more than 1000000"));
    assert_eq!(bad(|c| (c.min_length, c.train_examples) = (30, Some(u64::MAX))), []);
    assert_eq!(bad(|c| c.test_examples = Some(0)), one("test_examples", "`test_examples` is 0"));
    assert_eq!(bad(|c| c.l_max = Some(1)), one("l_max", "`l_max` is less than 2"));
    assert_eq!(bad(|c| c.path = Some("x".into())), one("path", "`path` does nothing when `source` is `generate`"));
    let idle = bad(|c| c.source = Source::Files);
    assert_eq!(idle.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["min_length", "max_length", "max_depth"]);
}
