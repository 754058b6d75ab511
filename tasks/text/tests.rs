//! Text: the choice of reviews, both tokenizations, and every way in which the folder can be wrong.

use super::*;
use crate::data::formats::tests::{archive, missing, put};
use crate::laws::conformance::faulty;
use std::collections::HashSet;

/// A folder with `n` reviews in each of the four folders.
fn folder(n: u64) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for split in ["train", "test"] {
        for id in 0..n {
            put(folder.path(), &format!("aclImdb/{split}/pos/{id}_9.txt"), format!("good {split} {id}").as_bytes());
            put(folder.path(), &format!("aclImdb/{split}/neg/{id}_1.txt"), format!("bad {split} {id}").as_bytes());
        }
    }
    folder
}

fn open(folder: &tempfile::TempDir, cfg: Config) -> Result<Text, DataError> {
    assert_eq!(cfg.check(), []);
    Text::open(cfg, &DataDir(folder.path().into()))
}

/// The message when `name` holds `content`, from `aclImdb` on.
fn complaint(name: &str, content: &[u8]) -> String {
    let folder = folder(3);
    put(folder.path(), name, content);
    let message = open(&folder, Config::default()).unwrap_err().to_string();
    message[message.find("aclImdb").expect("the file is named")..].to_owned()
}

/// The reviews of a split, in order.
fn texts(task: &Text, split: Split) -> Vec<&[u8]> {
    let place = |index| task.used.place(split, index);
    (0..task.len(split)).map(place).map(|(part, row)| part.document(row, 0)).collect()
}

fn positive(task: &Text, split: Split) -> usize {
    task.used.labels(split).filter(|&class| class == 1).count()
}

fn text_set(task: &Text, split: Split) -> HashSet<&[u8]> {
    texts(task, split).into_iter().collect()
}

#[test]
fn bytes_are_shifted_by_one_and_cut_at_the_end() {
    let folder = folder(12);
    let task = open(&folder, Config { max_length: 5, ..Config::default() }).unwrap();
    let example = task.example(Split::Test, 0).unwrap();
    assert_eq!(example.tokens, b"bad t".map(|byte| i64::from(byte) + 1));
    assert_eq!(example.targets, Targets::PerSequence(vec![0]));
    assert_eq!(task.spec().vocab_size, 257);
}

#[test]
fn characters_are_numbered_by_frequency_and_end_within_the_length() {
    let folder = folder(3);
    put(folder.path(), "aclImdb/train/pos/7_10.txt", "ééé zzz".as_bytes());
    put(folder.path(), "aclImdb/test/pos/7_10.txt", "éxzé<br />".as_bytes());
    let cfg = Config { tokens: Tokens::Chars, min_freq: 3, max_length: 6, ..Config::default() };
    let task = open(&folder, cfg).unwrap();
    let last = task.example(Split::Test, task.len(Split::Test) - 1).unwrap();
    let id = |c| task.vocabulary.as_ref().unwrap().id(c);
    assert_eq!(last.tokens, [id('é'), Vocabulary::UNKNOWN, id('z'), id('é'), Vocabulary::UNKNOWN, Vocabulary::END]);
    assert_eq!(id(' '), 3, "13 spaces are the most frequent");
    // space, a, d, o, g, b, r, i, n, t, é, z; each digit comes twice and < not at all
    assert_eq!(task.spec().vocab_size, 3 + 12);
}

#[test]
fn reviews_come_by_number_with_both_classes_mixed_whatever_the_archive_order() {
    let mut files: Vec<(String, Vec<u8>)> = Vec::new();
    for (split, id, class, rating) in [
        ("test", 10, "pos", 7),
        ("test", 9, "pos", 8),
        ("test", 10, "neg", 4),
        ("test", 9, "neg", 2),
        ("train", 1, "neg", 2),
        ("train", 0, "pos", 7),
        ("train", 1, "pos", 8),
        ("train", 0, "neg", 3),
    ] {
        files.push((format!("aclImdb/{split}/{class}/{id}_{rating}.txt"), format!("{class}{id}").into_bytes()));
    }
    let borrowed: Vec<(&str, &[u8])> = files.iter().map(|(name, text)| (name.as_str(), text.as_slice())).collect();
    let folder = tempfile::tempdir().unwrap();
    put(folder.path(), "imdb/aclImdb_any.tar.gz", &archive(&borrowed));
    let task = open(&folder, Config::default()).unwrap();
    assert_eq!(texts(&task, Split::Test), [b"neg9", b"pos9".as_slice(), b"neg10", b"pos10"]);

    let loose = tempfile::tempdir().unwrap();
    for (name, text) in &files {
        put(loose.path(), name, text);
    }
    assert_eq!(open(&loose, Config::default()).unwrap().fingerprint(), task.fingerprint());
}

#[test]
fn validation_is_a_balanced_part_of_train_that_train_does_not_hold() {
    let folder = folder(40);
    let task = open(&folder, Config::default()).unwrap();
    assert_eq!(Split::ALL.map(|split| task.len(split)), [72, 8, 80]);
    assert_eq!(positive(&task, Split::Validation), 4);
    assert!(text_set(&task, Split::Train).is_disjoint(&text_set(&task, Split::Validation)));
    let other = open(&folder, Config { split_seed: 1, ..Config::default() }).unwrap();
    assert_ne!(text_set(&task, Split::Validation), text_set(&other, Split::Validation));
}

#[test]
fn a_limit_keeps_the_classes_balanced_and_a_larger_one_holds_a_smaller() {
    let folder = folder(40);
    let limited = |limit| {
        let cfg = Config { train_limit: Some(limit), test_limit: Some(limit), val_fraction: 0.25, ..Config::default() };
        open(&folder, cfg).unwrap()
    };
    let (few, more) = (limited(9), limited(20));
    assert_eq!(Split::ALL.map(|split| few.len(split)), [7, 2, 9]);
    assert_eq!(positive(&few, Split::Test), 4);
    assert!(text_set(&few, Split::Test).is_subset(&text_set(&more, Split::Test)));
    let used = |task| &text_set(task, Split::Train) | &text_set(task, Split::Validation);
    assert!(used(&few).is_subset(&used(&more)));
}

#[test]
fn a_limit_above_what_is_there_is_remarked_upon() {
    let folder = folder(3);
    let task = open(&folder, Config { test_limit: Some(100), ..Config::default() }).unwrap();
    assert_eq!(task.len(Split::Test), 6);
    assert_eq!(task.notes()[1], "test holds 6 reviews, fewer than `test_limit` = 100");
}

#[test]
fn validation_is_test_only_when_asked_for_and_is_marked() {
    let folder = folder(10);
    let task = open(&folder, Config { validation: Validation::Test, ..Config::default() }).unwrap();
    assert_eq!(Split::ALL.map(|split| task.len(split)), [20, 20, 20]);
    assert_eq!(texts(&task, Split::Validation), texts(&task, Split::Test));
    assert_eq!(task.spec().marks, [Mark::ValidationIsTest]);
    assert_eq!(open(&folder, Config::default()).unwrap().spec().marks, []);
}

#[test]
fn a_second_start_reads_no_review_and_says_the_same() {
    let folder = folder(5);
    put(folder.path(), "aclImdb/test/neg/9_1.txt", b"a\xff");
    let chars = || open(&folder, Config { tokens: Tokens::Chars, min_freq: 2, ..Config::default() }).unwrap();
    let first = chars();
    let meta = std::fs::read(first.used.set.folder.join("meta.json")).unwrap();
    let again = chars();
    assert_eq!(std::fs::read(again.used.set.folder.join("meta.json")).unwrap(), meta);
    assert_eq!((first.notes(), first.fingerprint()), (again.notes(), again.fingerprint()));
    assert_eq!(first.example(Split::Train, 3).unwrap(), again.example(Split::Train, 3).unwrap());
    put(folder.path(), "aclImdb/test/neg/8_1.txt", b"one more");
    assert_eq!(chars().len(Split::Test), 12, "a set that has changed is read again");
}

#[test]
fn line_ends_inside_a_review_are_kept() {
    let folder = folder(3);
    put(folder.path(), "aclImdb/test/pos/9_9.txt", b"one\r\ntwo\n");
    let task = open(&folder, Config::default()).unwrap();
    assert_eq!(*texts(&task, Split::Test).last().unwrap(), b"one\r\ntwo\n");
}

#[test]
fn bytes_that_are_not_utf8_are_counted_and_read_as_replacements() {
    let folder = folder(3);
    put(folder.path(), "aclImdb/test/neg/9_1.txt", b"a\xff\xfeb");
    put(folder.path(), "aclImdb/test/neg/0_1.txt", b"\xc3(");
    let task = open(&folder, Config { tokens: Tokens::Chars, ..Config::default() }).unwrap();
    assert_eq!(
        task.notes()[1],
        "reviews that are not UTF-8: 2 (test/neg/0_1.txt, test/neg/9_1.txt); as characters their broken bytes are \
         U+FFFD, as bytes they are what they are"
    );
    let last = task.example(Split::Test, task.len(Split::Test) - 1).unwrap();
    assert_eq!(last.tokens.len(), 5, "a, two replacements, b, <eos>");
    let bytes = open(&folder, Config::default()).unwrap();
    assert_eq!(bytes.example(Split::Test, 6).unwrap().tokens, [98, 256, 255, 99]);
}

#[test]
fn every_broken_review_is_named_with_its_problem() {
    assert_eq!(complaint("aclImdb/train/pos/5_8.txt", b""), "aclImdb/train/pos/5_8.txt: the review is empty");
    assert_eq!(complaint("aclImdb/train/pos/5_8.txt", b" \n"), "aclImdb/train/pos/5_8.txt: the review is empty");
    let form = "not a name of the form ID_RATING.txt, like 127_8.txt";
    for name in ["notes.txt", "5.txt", "5_8.html", "x_8.txt", "5_300.txt", "99999999999_8.txt"] {
        assert_eq!(complaint(&format!("aclImdb/test/neg/{name}"), b"x"), format!("aclImdb/test/neg/{name}: {form}"));
    }
    assert_eq!(
        complaint("aclImdb/train/pos/5_2.txt", b"x"),
        "aclImdb/train/pos/5_2.txt: a rating of 2 in `pos`, which holds 7 to 10"
    );
    assert_eq!(
        complaint("aclImdb/train/neg/2_3.txt", b"x"),
        "aclImdb/train/neg/2_3.txt: a second review 2 in train/neg"
    );
}

#[test]
fn hidden_files_and_the_unlabelled_folder_are_passed_over() {
    let folder = folder(3);
    put(folder.path(), "aclImdb/train/pos/.DS_Store", b"x");
    put(folder.path(), "aclImdb/train/unsup/0_0.txt", b"x");
    assert_eq!(open(&folder, Config::default()).unwrap().len(Split::Train), 4);
}

#[test]
fn a_missing_class_folder_is_named() {
    let folder = folder(2);
    std::fs::remove_dir_all(folder.path().join("aclImdb/test/pos")).unwrap();
    let message = open(&folder, Config::default()).unwrap_err().to_string();
    assert!(message.ends_with("aclImdb: holds no reviews in test/pos; expected test/pos/ID_RATING.txt"), "{message}");
}

#[test]
fn a_truncated_archive_is_noticed() {
    let folder = tempfile::tempdir().unwrap();
    let whole = archive(&[("aclImdb/train/pos/0_9.txt", b"good"), ("aclImdb/train/neg/0_1.txt", b"bad")]);
    put(folder.path(), "aclImdb_v1.tar.gz", &whole[..whole.len() - 20]);
    let message = open(&folder, Config::default()).unwrap_err().to_string();
    assert!(message.contains("aclImdb_v1.tar.gz") && message.contains("download it again"), "{message}");
}

#[test]
fn missing_data_says_where_to_get_them() {
    let (what, looked, help) = missing(|data| Text::open(Config::default(), data));
    assert_eq!((what.as_str(), looked.len()), ("IMDB reviews", CANDIDATES.len()));
    assert!(help.contains("curl -fL -o no/such/folder/aclImdb_v1.tar.gz https://ai.stanford.edu/"), "{help}");
}

#[test]
fn every_impossible_setting_is_named() {
    let bad = |change: fn(&mut Config)| faulty(Config::default(), change);
    assert_eq!(bad(|_| ()), [""; 0]);
    assert_eq!(bad(|c| c.max_length = 1), ["max_length"]);
    for fraction in [0.0, 1.0, -0.5, f64::NAN] {
        assert_eq!(Config { val_fraction: fraction, ..Config::default() }.check()[0].key, "val_fraction");
    }
    assert_eq!(bad(|c| c.train_limit = Some(3)), ["train_limit"]);
    assert_eq!(bad(|c| c.test_limit = Some(1)), ["test_limit"]);
    assert_eq!(bad(|c| c.min_freq = 2), ["min_freq"]);
    assert_eq!(bad(|c| (c.validation, c.val_fraction) = (Validation::Test, 0.2)), ["val_fraction"]);
}
