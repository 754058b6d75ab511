//! Retrieval: pairs from files and drawn ones, and every way in which a file can be wrong.

use super::*;
use crate::data::formats::tests::{archive, missing, prepared_sets, put};
use crate::laws::conformance::{faults, faulty};
use std::collections::HashMap;

/// A file of `n` rows, labels in turn.
fn rows(n: usize, part: &str) -> String {
    (0..n).map(|i| format!("{}.0\tA{i}\tB{i}\tfirst {part} {i}\tsecond {part} {i}\n", i % 2)).collect()
}

/// A folder whose training file is `train`.
fn folder(train: &[u8]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "tsv_data/new_aan_pairs.train.tsv", train);
    put(folder.path(), "tsv_data/new_aan_pairs.eval.tsv", rows(4, "eval").replace('\n', "\r\n").as_bytes());
    put(folder.path(), "tsv_data/new_aan_pairs.test.tsv", rows(6, "test").as_bytes());
    folder
}

fn open(folder: &Path, cfg: Config) -> Result<Retrieval, DataError> {
    assert_eq!(cfg.check(), []);
    Retrieval::open(cfg, &DataDir(folder.into()))
}

/// The message for a broken training file, from the file's name on.
fn complaint(train: &[u8]) -> String {
    let message = open(folder(train).path(), Config::default()).unwrap_err().to_string();
    message[message.find("new_aan").expect("the file is named")..].to_owned()
}

/// Two hundred good rows and these: few enough to be skipped.
fn notes_with(bad: &[u8]) -> Vec<String> {
    let train = [rows(200, "train").as_bytes(), bad].concat();
    let task = open(folder(&train).path(), Config::default()).unwrap();
    assert_eq!(task.notes()[0].rsplit('/').next(), Some("tsv_data"));
    task.notes()[1..].to_vec()
}

fn synthetic() -> Config {
    Config {
        source: Source::Synthetic,
        train_examples: Some(400),
        validation_examples: Some(40),
        test_examples: Some(60),
        document_length: 120,
        mentions: 2,
        ..Config::default()
    }
}

fn drawn(cfg: Config) -> Retrieval {
    assert_eq!(cfg.check(), []);
    Retrieval::open(cfg, &DataDir("no/such/folder".into())).unwrap()
}

fn all(task: &Retrieval, split: Split) -> Vec<Example> {
    (0..task.len(split)).map(|index| task.example(split, index).unwrap()).collect()
}

#[test]
fn both_documents_are_read_as_bytes_with_either_line_end() {
    let folder = folder(rows(10, "train").as_bytes());
    let task = open(folder.path(), Config { max_length: 13, ..Config::default() }).unwrap();
    assert_eq!(Split::ALL.map(|split| task.len(split)), [10, 4, 6]);
    let example = task.example(Split::Validation, 3).unwrap();
    let bytes = |text: &str| text.bytes().map(|byte| i64::from(byte) + 1).collect::<Vec<_>>();
    assert_eq!((example.tokens, example.second), (bytes("first eval 3"), Some(bytes("second eval 3"))));
    assert_eq!(example.targets, Targets::PerSequence(vec![1]));
    assert_eq!(task.example(Split::Test, 0).unwrap().second, Some(bytes("second test 0")));
    assert_eq!(task.example(Split::Train, 0).unwrap().second, Some(bytes("second train ")), "the head is kept");
    assert_eq!(task.spec().marks, []);
    assert_eq!(task.solve(&task.example(Split::Test, 0).unwrap()), None);
}

#[test]
fn characters_are_those_of_the_training_documents() {
    let folder = folder("1.0\ta\tb\tabab\tb\u{e9}\n0.0\ta\tb\tbé\taba\n".as_bytes());
    let cfg = Config { tokens: Tokens::Chars, min_freq: 3, max_length: 4, ..Config::default() };
    let task = open(folder.path(), cfg).unwrap();
    assert_eq!(task.spec().vocab_size, 3 + 2, "a and b; é comes twice");
    let example = task.example(Split::Train, 0).unwrap();
    let [a, b] = ['a', 'b'].map(|c| task.vocabulary.as_ref().unwrap().id(c));
    assert_eq!(example.tokens, [a, b, a, Vocabulary::END]);
    assert_eq!(example.second, Some(vec![b, Vocabulary::UNKNOWN, Vocabulary::END]));
}

#[test]
fn quotes_are_data_and_are_counted() {
    let bad = b"1.0\ta\tb\t\"an open quote\tx\n0.0\ta\tb\tsay \"so\"\tx\"\n";
    assert_eq!(notes_with(bad), ["new_aan_pairs.train.tsv: 2 rows hold quote characters, which are data"]);
}

#[test]
fn a_row_of_another_form_is_skipped_counted_and_named() {
    for (bad, problem) in [
        ("1.0\ta\tb\ta\ttab\tx", "6 columns, expected 5; a text may hold a tab"),
        ("1.0\ta\tb\tcut", "4 columns, expected 5; the row may be cut short"),
        ("", "1 columns, expected 5; the row may be cut short"),
        ("2.0\ta\tb\tx\ty", "the label is `2.0`, expected 0.0 or 1.0"),
        ("label\ta\tb\tx\ty", "the label is `label`, expected 0.0 or 1.0"),
        ("0.0\ta\tb\tx\t ", "document 2 is empty"),
        ("0.0\ta\tb\t\ty", "document 1 is empty"),
    ] {
        let notes = notes_with(format!("{bad}\n").as_bytes());
        let expected = format!("1 of 201 rows are skipped: new_aan_pairs.train.tsv:201: {problem}");
        assert_eq!(notes, [expected]);
    }
    let many = [rows(400, "train"), "x\n".repeat(4)].concat();
    let task = open(folder(many.as_bytes()).path(), Config::default()).unwrap();
    assert_eq!(task.len(Split::Train), 400);
    assert!(task.notes()[1].starts_with("4 of 404 rows are skipped: ") && task.notes()[1].ends_with("; …"));
    assert_eq!(task.notes()[1].matches("tsv:40").count(), 3, "three are named");
}

#[test]
fn bytes_that_are_not_utf8_are_counted_and_the_first_row_named() {
    let expected = "new_aan_pairs.train.tsv: 2 rows are not UTF-8, the first is 201; as characters their broken bytes \
                    are U+FFFD, as bytes they are what they are";
    assert_eq!(notes_with(b"1.0\ta\tb\tx\xff\ty\n1.0\ta\tb\tx\t\xc3\n"), [expected]);
}

#[test]
fn a_file_with_too_many_broken_rows_is_refused_by_its_first() {
    let train = [rows(100, "train").as_bytes(), b"0.5\ta\tb\tx\ty\n1.0\ta\tb\tx\n"].concat();
    assert_eq!(
        complaint(&train),
        "new_aan_pairs.train.tsv:101: the label is `0.5`, expected 0.0 or 1.0; 2 of 102 rows are broken, more than 1 \
         in 100: this is not a pair file"
    );
    assert_eq!(complaint(b""), "new_aan_pairs.train.tsv: holds no rows; is it a complete download?");
    assert!(complaint(b"Source\tTarget\n").starts_with("new_aan_pairs.train.tsv:1: 2 columns, expected 5"));
}

#[test]
fn a_missing_or_doubled_file_is_named() {
    let folder = folder(rows(4, "train").as_bytes());
    let message = || open(folder.path(), Config::default()).unwrap_err().to_string();
    put(folder.path(), "tsv_data/copy/new_aan_pairs.eval.tsv", rows(4, "copy").as_bytes());
    let doubled = "tsv_data: holds more than one new_aan_pairs.eval.tsv; name the folder to use in `path`";
    assert!(message().ends_with(doubled), "{}", message());
    std::fs::remove_file(folder.path().join("tsv_data/copy/new_aan_pairs.eval.tsv")).unwrap();
    std::fs::remove_file(folder.path().join("tsv_data/new_aan_pairs.test.tsv")).unwrap();
    let missing = "tsv_data: holds no new_aan_pairs.test.tsv; expected new_aan_pairs.train.tsv, \
                   new_aan_pairs.eval.tsv, new_aan_pairs.test.tsv";
    assert!(message().ends_with(missing), "{}", message());
}

#[test]
fn missing_data_says_where_to_get_them() {
    let (what, looked, help) = missing(|data| Retrieval::open(Config::default(), data));
    assert_eq!((what.as_str(), looked.len()), ("retrieval pairs", CANDIDATES.len()));
    assert!(help.contains("tar -xzf no/such/folder/lra_release.tar.gz -C no/such/folder --wildcards"), "{help}");
}

#[test]
fn an_archive_and_its_folder_hold_the_same_pairs_and_a_second_start_reads_neither() {
    let loose = folder(rows(30, "train").as_bytes());
    let parts = [("train", 30), ("eval", 4), ("test", 6)].map(|(part, n)| {
        let text = rows(n, part);
        (
            format!("lra_release/tsv_data/new_aan_pairs.{part}.tsv"),
            if part == "eval" { text.replace('\n', "\r\n") } else { text },
        )
    });
    let borrowed = parts.each_ref().map(|(name, text)| (name.as_str(), text.as_bytes()));
    let packed = tempfile::tempdir().unwrap();
    put(packed.path(), "lra_release_part.tar.gz", &archive(&borrowed));
    let (loose_task, packed_task) =
        (open(loose.path(), Config::default()).unwrap(), open(packed.path(), Config::default()).unwrap());
    assert_eq!(loose_task.fingerprint(), packed_task.fingerprint());
    Split::ALL.iter().for_each(|&split| assert_eq!(all(&loose_task, split), all(&packed_task, split)));

    let sets = || prepared_sets(loose.path());
    assert_eq!(sets(), 1);
    let again = open(loose.path(), Config { tokens: Tokens::Chars, ..Config::default() }).unwrap();
    assert_eq!((sets(), again.fingerprint()), (1, loose_task.fingerprint()));
}

#[test]
fn a_limit_keeps_the_classes_balanced() {
    let folder = folder(rows(30, "train").as_bytes());
    let cfg = Config { train_examples: Some(9), test_examples: Some(100), ..Config::default() };
    let task = open(folder.path(), cfg).unwrap();
    assert_eq!(Split::ALL.map(|split| task.len(split)), [9, 4, 6]);
    assert_eq!(task.labels(Split::Train).filter(|&label| label == 1).count(), 4);
    assert_eq!(task.notes()[1], "test holds 6 pairs, fewer than `test_examples`");
}

#[test]
fn synthetic_labels_are_balanced_and_no_document_tells_its_label_alone() {
    let task = drawn(Config { train_examples: Some(8_000), topics: 4, ..synthetic() });
    let mut seen: HashMap<(usize, String, u8), u32> = HashMap::new();
    for index in 0..8_000 {
        let example = task.example(Split::Train, index).unwrap();
        for (place, document) in example.documents().enumerate() {
            let topic = synthetic::topic(&task.text(document)).unwrap().to_owned();
            *seen.entry((place, topic, task.label(Split::Train, index))).or_default() += 1;
        }
    }
    assert_eq!(seen.len(), 2 * 4 * 2);
    assert!(seen.values().all(|count| count.abs_diff(1_000) < 130), "4 deviations are 122: {seen:?}");
    assert_eq!(task.labels(Split::Train).filter(|&label| label == 1).count(), 4_000);
    assert_eq!(task.floor().unwrap().score, 0.5);
}

#[test]
fn synthetic_documents_keep_to_their_length_and_name_their_topic_as_often_as_asked() {
    for (topics, name) in [(26, 1), (27, 2), (676, 2)] {
        let task = drawn(Config { topics, mentions: 3, ..synthetic() });
        for example in all(&task, Split::Train) {
            for document in example.documents() {
                let text = task.text(document);
                assert!((50..=120).contains(&text.len()), "at most a word short of half: {}", text.len());
                let names: Vec<&str> =
                    text.split(' ').filter(|word| word.bytes().all(|b| b.is_ascii_uppercase())).collect();
                assert_eq!(names, vec![names[0]; 3], "{text}");
                assert_eq!(names[0].len(), name);
                assert!(text.bytes().all(|byte| byte == b' ' || byte.is_ascii_alphabetic()));
            }
        }
    }
}

#[test]
fn synthetic_pairs_are_solved_by_comparison_marked_and_said_to_be_synthetic() {
    for tokens in [Tokens::Bytes, Tokens::Chars] {
        let task = drawn(Config { tokens, ..synthetic() });
        assert_eq!(task.ceiling().unwrap().score, 1.0);
        assert_eq!(task.spec().marks, [Mark::Synthetic]);
        assert_eq!(task.notes(), [synthetic::NOTE]);
    }
    assert_eq!(drawn(Config { tokens: Tokens::Chars, ..synthetic() }).spec().vocab_size, 3 + 53);
}

#[test]
fn a_test_pair_stays_when_other_splits_grow() {
    let more = drawn(Config { train_examples: Some(1_000), test_examples: Some(80), ..synthetic() });
    assert_eq!(all(&drawn(synthetic()), Split::Test), all(&more, Split::Test)[..60]);
}

#[test]
fn written_synthetic_pairs_read_back_the_same_and_stay_marked_wherever_they_lie() {
    let folder = tempfile::tempdir().unwrap();
    let written = synthetic().generate(folder.path(), &|_, _| ()).expect("it draws").unwrap();
    assert_eq!(written.examples, 500);
    let names: Vec<String> =
        written.paths.iter().map(|path| path.strip_prefix(folder.path()).unwrap().display().to_string()).collect();
    let parts = ["train", "eval", "test"];
    assert_eq!(names, parts.map(|part| format!("retrieval-synthetic/tsv_data/new_aan_pairs.{part}.tsv")));
    assert_eq!(written.facts[1], ("pairs of one topic".into(), "250 of 500".into()));

    let elsewhere = folder.path().join("tsv_data");
    assert!(matches!(open(folder.path(), Config::default()), Err(DataError::Missing { .. })), "never found by itself");
    std::fs::rename(folder.path().join("retrieval-synthetic/tsv_data"), elsewhere).unwrap();
    let read = open(folder.path(), Config::default()).unwrap();
    assert_eq!(read.spec().marks, [Mark::Synthetic]);
    assert_eq!(read.ceiling().unwrap().score, 1.0);
    let task = drawn(synthetic());
    Split::ALL.iter().for_each(|&split| assert_eq!(all(&read, split), all(&task, split)));
}

#[test]
fn every_impossible_setting_is_named() {
    let bad = |change: fn(&mut Config)| faults(synthetic(), change);
    let one = |key, problem: &str| vec![(key, problem.to_owned())];
    assert_eq!(bad(|_| ()), []);
    assert_eq!(bad(|c| c.topics = 1), one("topics", "`topics` is 1, not from 2 to 676"));
    assert_eq!(bad(|c| c.topics = 677), one("topics", "`topics` is 677, not from 2 to 676"));
    assert_eq!(bad(|c| c.mentions = 0), one("mentions", "`mentions` is 0: no document would name its topic"));
    assert_eq!(
        bad(|c| c.document_length = 51),
        one("document_length", "`document_length` is 51, too short for 2 mentions")
    );
    assert_eq!(
        bad(|c| (c.max_length, c.tokens) = (120, Tokens::Chars)),
        one("document_length", "documents of `document_length` 120 have 121 tokens, more than `max_length` = 120")
    );
    assert_eq!(bad(|c| c.test_examples = Some(1)), one("test_examples", "`test_examples` is 1; there are two classes"));
    assert_eq!(bad(|c| c.path = Some("x".into())), one("path", "`path` does nothing when `source` is `synthetic`"));
    assert_eq!(bad(|c| c.min_freq = 2), one("min_freq", "`min_freq` does nothing when `source` is `synthetic`"));
    let idle = bad(|c| c.source = Source::Files);
    assert_eq!(idle.iter().map(|(key, _)| *key).collect::<Vec<_>>(), ["mentions", "document_length"]);
    let files = |change: fn(&mut Config)| faulty(Config::default(), change);
    assert_eq!(files(|c| c.min_freq = 2), ["min_freq"]);
    assert_eq!(files(|c| c.max_length = 1), ["max_length"]);
    assert_eq!(files(|c| (c.min_freq, c.tokens) = (2, Tokens::Chars)), [""; 0]);
}
