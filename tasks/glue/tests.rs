//! GLUE: every task in its official form, the cut of a pair, and every way in which a file can be wrong.

use super::*;
use crate::data::formats::tests::{archive, missing, put};
use crate::language::corpus::Paths;
use crate::language::tokenizer::WordpieceConfig;
use crate::laws::conformance::faulty;
use std::collections::BTreeMap;

/// Every task's settings key, in the order of [`files::FORMS`].
const KEYS: [&str; 9] = ["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte", "wnli"];

/// Small files of the nine tasks in the forms in which they are released, `[train, dev]` rows of each. Classes take turns,
/// the first of three once more at the end of each file, and no sentence comes twice.
pub(crate) fn release(folder: &Path, [train, dev]: [u64; 2]) {
    let inference = ["entailment", "not_entailment"];
    let write = |name: &str, header: &str, rows: u64, row: &dyn Fn(u64) -> String| {
        let rows: Vec<String> = (0..rows).map(row).collect();
        let text = format!("{header}{}\n", rows.join("\n"));
        put(folder, &format!("glue/{name}.tsv"), text.as_bytes());
    };
    for (file, n) in [("train", train), ("dev", dev)] {
        let two = |i: u64| u64::from(i % 3 < 2);
        let words = |i: u64| "so ".repeat(1 + i as usize % 9);
        let a = |i: u64| format!("A \"{file} sentence {i} .");
        let b = |i: u64| format!("It is {}{file} {i} .", words(i));
        write(&format!("CoLA/{file}"), "", n, &|i| {
            format!("gj04\t{}\t{}\t{}", two(i), if two(i) == 0 { "*" } else { "" }, a(i))
        });
        write(&format!("SST-2/{file}"), "sentence\tlabel\n", n, &|i| format!("{} \t{}", b(i), two(i)));
        let header = "\u{feff}Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n";
        write(&format!("MRPC/{file}"), header, n, &|i| format!("{}\t{i}\t{}\t{}\t{}\r", two(i), i + 1, a(i), b(i)));
        let header = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n";
        write(&format!("STS-B/{file}"), header, n, &|i| {
            let score = i as f64 * 0.2 % 5.2;
            format!("{i}\tmain-news\theadlines\t2013\t0001\tnone\tnone\t{}\t{}\t{score:.3}", a(i), b(i))
        });
        let header = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n";
        write(&format!("QQP/{file}"), header, n, &|i| format!("{i}\t{i}\t{i}\t{}?\t{}?\t{}", a(i), b(i), two(i)));
        let (header, class) = ("index\tquestion\tsentence\tlabel\n", |i: u64| inference[two(i) as usize]);
        write(&format!("QNLI/{file}"), header, n, &|i| format!("{i}\t{}?\t{}\t{}", a(i), b(i), class(i)));
        let header = "index\tsentence1\tsentence2\tlabel\n";
        write(&format!("RTE/{file}"), header, n, &|i| format!("{i}\t{}\t{}\t{}", a(i), b(i), class(i)));
        write(&format!("WNLI/{file}"), header, n, &|i| format!("{i}\t{}\t{}\t{}", a(i), b(i), two(i)));
    }
    let parses = "sentence1_binary_parse\tsentence2_binary_parse\tsentence1_parse\tsentence2_parse";
    for (file, n, labels) in [("train", train, 1), ("dev_matched", dev, 5), ("dev_mismatched", dev + 1, 5)] {
        let names: Vec<String> = (1..=labels).map(|k| format!("label{k}")).collect();
        let header = format!(
            "index\tpromptID\tpairID\tgenre\t{parses}\tsentence1\tsentence2\t{}\tgold_label\n",
            names.join("\t")
        );
        write(&format!("MNLI/{file}"), &header, n, &|i| {
            let class = ["contradiction", "entailment", "neutral"][(i % 3) as usize];
            let each = vec![class; labels + 1].join("\t");
            format!("{i}\t{i}\t{i}e\tfiction\t(\t(\t(\t(\tA {file} {i}.\tSo it is {file} {i}.\t{each}")
        });
    }
}

fn released() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    release(folder.path(), [60, 21]);
    folder
}

fn bytes(task: Name) -> Config {
    Config { task, tokenizer: TokenizerConfig::Bytes, ..Config::default() }
}

fn named(key: &str) -> Name {
    serde_json::from_value(serde_json::json!(key)).unwrap()
}

fn open(folder: &tempfile::TempDir, cfg: Config) -> Result<Glue, DataError> {
    assert_eq!(cfg.check(), []);
    Glue::open(cfg, &DataDir(folder.path().into()))
}

/// An example's text, `|` for the tokens of no text, and its types.
fn read(task: &Glue, split: Split, index: u64) -> (String, usize, Vec<i64>) {
    let example = task.example(split, index).unwrap();
    let tokens: Vec<u32> = example.tokens.iter().map(|&token| token as u32).collect();
    let specials = task.tokenizer.specials();
    assert_eq!((tokens[0], *tokens.last().unwrap()), (specials.cls, specials.sep));
    let texts: Vec<String> = tokens.split(|&t| t == specials.sep).map(|text| task.tokenizer.decode(text)).collect();
    let classes = example.targets.classes().to_vec();
    (texts[..texts.len() - 1].join("|"), example.segment.unwrap_or(0), classes)
}

/// The message when CoLA's or another task's file holds `content`, from the file's name on.
fn complaint(task: Name, name: &str, content: &str) -> String {
    let folder = released();
    let path = format!("glue/{}/{name}", task.form().folder);
    put(folder.path(), &path, content.as_bytes());
    let message = open(&folder, bytes(task)).unwrap_err().to_string();
    message[message.find(&path).expect("the file is named") + 5..].to_owned()
}

#[test]
fn every_task_reads_its_official_form() {
    let folder = released();
    let first = |key| read(&open(&folder, bytes(named(key))).unwrap(), Split::Train, 2);
    let (a, b) = ("A \"train sentence 2 .", "It is so so so train 2 .");
    assert_eq!(first("cola"), (a.into(), 0, vec![0]));
    assert_eq!(first("sst2"), (format!("{b} "), 0, vec![0]));
    let pair = format!("{a}|{b}");
    assert_eq!(first("mrpc"), (pair.clone(), a.len() + 2, vec![0]));
    assert_eq!(first("stsb"), (pair.clone(), a.len() + 2, vec![400]));
    assert_eq!(first("qqp"), (format!("{a}?|{b}?"), a.len() + 3, vec![0]));
    assert_eq!(first("mnli"), ("A train 2.|So it is train 2.".into(), 12, vec![1]));
    assert_eq!(first("qnli"), (format!("{a}?|{b}"), a.len() + 3, vec![0]));
    assert_eq!(first("rte"), (pair.clone(), a.len() + 2, vec![0]));
    assert_eq!(first("wnli"), (pair, a.len() + 2, vec![0]));
}

#[test]
fn each_task_has_the_score_of_its_paper() {
    let folder = released();
    let scores: BTreeMap<&str, (String, Judge, Output, i64)> = KEYS
        .into_iter()
        .map(|key| (key, open(&folder, bytes(named(key))).unwrap().spec()))
        .map(|(key, spec)| (key, (spec.metric.name, spec.judge, spec.output, spec.classes)))
        .collect();
    let class = |n| ("accuracy".to_owned(), Judge::Class, Output::PerSequence, n);
    let both = ("mean of F1 and accuracy".to_owned(), Judge::F1Accuracy, Output::PerSequence, 2);
    for key in ["sst2", "qnli", "rte", "wnli"] {
        assert_eq!(scores[key], class(2), "{key}");
    }
    assert_eq!(scores["mnli"], class(3));
    assert_eq!((&scores["mrpc"], &scores["qqp"]), (&both, &both));
    assert_eq!(scores["cola"], ("Matthews correlation".into(), Judge::Matthews, Output::PerSequence, 2));
    let name = "mean of Pearson and Spearman correlation";
    assert_eq!(scores["stsb"], (name.into(), Judge::Correlation, Output::Value, 1));
}

#[test]
fn dev_is_validation_and_test_and_mnli_tests_both_of_its() {
    let folder = released();
    let task = open(&folder, bytes(Name::Rte)).unwrap();
    assert_eq!(Split::ALL.map(|split| task.len(split)), [60, 21, 21]);
    assert_eq!(task.spec().marks, [Mark::ValidationIsTest]);
    assert_eq!(task.example(Split::Validation, 3).unwrap(), task.example(Split::Test, 3).unwrap());
    let task = open(&folder, bytes(Name::Mnli)).unwrap();
    assert_eq!(Split::ALL.map(|split| task.len(split)), [60, 21, 43]);
    let sections = task.sections(Split::Test);
    assert_eq!(sections.axis, "mismatched");
    assert_eq!(sections.parts, [(0.0, 21), (1.0, 22)].map(|(at, examples)| Section { at, examples }));
    assert_eq!(read(&task, Split::Test, 20).0, "A dev_matched 20.|So it is dev_matched 20.");
    assert_eq!(read(&task, Split::Test, 21).0, "A dev_mismatched 0.|So it is dev_mismatched 0.");
    assert_eq!(task.sections(Split::Validation).parts.len(), 1);
}

#[test]
fn the_longer_text_is_cut_first_and_of_equal_ones_the_second() {
    assert_eq!(longest_first([3, 4], 9), [3, 4]);
    assert_eq!(longest_first([3, 10], 8), [3, 5]);
    assert_eq!(longest_first([10, 3], 8), [5, 3]);
    assert_eq!(longest_first([10, 10], 7), [4, 3]);
    assert_eq!(longest_first([10, 10], 8), [4, 4]);
    assert_eq!(longest_first([9, 0], 4), [4, 0]);
    let folder = released();
    let task = open(&folder, Config { max_length: 9, ..bytes(Name::Mnli) }).unwrap();
    assert_eq!(read(&task, Split::Train, 0), ("A t|So ".into(), 5, vec![2]));
    assert_eq!(task.spec().marks, [Mark::ValidationIsTest, Mark::Reduced]);
    let task = open(&folder, Config { max_length: 9, ..bytes(Name::Cola) }).unwrap();
    assert_eq!(task.example(Split::Train, 0).unwrap().tokens.len(), 9);
    assert_eq!(read(&task, Split::Train, 0).0, "A \"trai");
}

#[test]
fn a_batch_has_types_where_there_are_two_sentences() {
    let folder = released();
    let order = crate::Order { seed: 0, batch_size: 2 };
    let batch = open(&folder, bytes(Name::Wnli)).unwrap().batch(Split::Test, 0, &order).unwrap();
    let (first, types) = ("A \"dev sentence 0 .".len(), &batch.types[..batch.length]);
    assert!(types[..first + 2].iter().all(|&kind| kind == 0));
    assert!(types[first + 2..batch.lengths[0] as usize].iter().all(|&kind| kind == 1));
    assert_eq!(batch.types.len(), batch.tokens.len());
    let single = open(&folder, bytes(Name::Cola)).unwrap().batch(Split::Test, 0, &order).unwrap();
    assert!(single.types.is_empty());
}

#[test]
fn a_trained_tokenizer_reads_the_training_sentences() {
    let folder = released();
    let wordpiece = WordpieceConfig { vocab_size: 90, ..WordpieceConfig::default() };
    let cfg = Config { tokenizer: TokenizerConfig::Wordpiece(wordpiece), ..bytes(Name::Qnli) };
    let task = open(&folder, cfg.clone()).unwrap();
    let token = task.tokenizer.encode("sentence train");
    assert_eq!(token.len(), 2, "both words come in every training row");
    assert_eq!(task.tokenizer.encode("dev"), [task.tokenizer.specials().unknown], "no training row has a v");
    assert_eq!(task.spec().vocab_size, task.tokenizer.vocab_size() as i64);
    let other = open(&folder, bytes(Name::Qnli)).unwrap();
    assert_ne!(task.fingerprint(), other.fingerprint());
    assert_eq!(task.fingerprint(), open(&folder, cfg).unwrap().fingerprint());
}

#[test]
fn a_tokenizer_trained_on_a_corpus_is_that_of_every_task_and_of_the_pretrained_model() {
    let folder = released();
    let story = |i: u64| format!("Once upon a time there was a small dog number {i}.\n\n");
    put(folder.path(), "stories/all.txt", (0..40).map(story).collect::<String>().as_bytes());
    let corpus = CorpusConfig { path: Paths::of(["stories"]), ..CorpusConfig::default() };
    let tokenizer = TokenizerConfig::Wordpiece(WordpieceConfig { vocab_size: 90, ..WordpieceConfig::default() });
    let cfg = |task| Config { corpus: Some(corpus.clone()), tokenizer: tokenizer.clone(), ..bytes(task) };
    let [rte, cola] = [Name::Rte, Name::Cola].map(|task| open(&folder, cfg(task)).unwrap());
    assert_eq!(rte.tokenizer.encode("a small dog").len(), 3);
    assert_eq!(rte.tokenizer.fingerprint(), cola.tokenizer.fingerprint());
    let data = DataDir(folder.path().into());
    let stamp = corpus.stamp(&data).unwrap();
    let pretrained =
        Tokenizer::obtain(&data, &tokenizer, &stamp, &mut || corpus.documents(&data, Split::Train)).unwrap();
    assert_eq!(rte.tokenizer.fingerprint(), pretrained.fingerprint());
    let own = open(&folder, Config { corpus: None, ..cfg(Name::Rte) }).unwrap();
    assert_ne!(own.tokenizer.fingerprint(), pretrained.fingerprint());
}

#[test]
fn a_limit_takes_rows_of_every_kind_and_a_larger_one_holds_a_smaller() {
    let folder = released();
    let limited = |limit| open(&folder, Config { train_examples: Some(limit), ..bytes(Name::Cola) }).unwrap();
    let (few, more) = (limited(9), limited(30));
    assert_eq!((few.len(Split::Train), more.len(Split::Train)), (9, 30));
    assert!(few.train.iter().all(|row| more.train.contains(row)));
    assert!(few.train.is_sorted() && more.train != (0..30).collect::<Vec<_>>());
    assert_eq!(few.len(Split::Test), 21);
    let note = "train holds 60 examples, fewer than `train_examples` = 61";
    assert_eq!(limited(61).notes().last().unwrap(), note);
}

#[test]
fn the_floor_is_the_best_constant_by_the_tasks_own_score() {
    let folder = released();
    let floor = |key| open(&folder, bytes(named(key))).unwrap().floor().unwrap();
    // 14 of 21 are of class 1: F1 2 · 14 / (2 · 14 + 7)
    assert_eq!(floor("sst2").score, 14.0 / 21.0);
    assert_eq!(floor("mrpc").score, (28.0 / 35.0 + 14.0 / 21.0) / 2.0);
    assert_eq!((floor("cola").score, floor("stsb").score), (0.0, 0.0));
    assert_eq!(floor("mnli").score, 15.0 / 43.0, "the commonest of test, where training has three equal ones");
    assert_eq!(floor("stsb").how, "a constant answer has no Pearson or Spearman correlation");
}

#[test]
fn scores_are_thousandths() {
    let folder = released();
    let header = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n";
    let row = |score: &str| format!("0\tg\tf\ty\t1\ts\ts\tA.\tB.\t{score}\n");
    let scores = ["3.800", "0", "5", "5.000", "1.2345", "0.0004", "2.6"];
    put(folder.path(), "glue/STS-B/dev.tsv", (header.to_owned() + &scores.map(row).concat()).as_bytes());
    let task = open(&folder, bytes(Name::Stsb)).unwrap();
    assert_eq!(task.labels(Split::Test), [3800, 0, 5000, 5000, 1235, 0, 2600]);
    assert_eq!(read(&task, Split::Test, 0).0, "A.|B.");
}

#[test]
fn mrpc_reads_its_authors_file_with_the_ids_of_dev() {
    let header = "\u{feff}Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n";
    let row = |i: u64| format!("{}\t{i}\t{}\tOne {i} .\tTwo {i} .\r\n", i % 2, 100 + i);
    let text = header.to_owned() + &(0..9).map(row).collect::<String>();
    for name in files_of_ids() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "glue/MRPC/msr_paraphrase_train.txt", text.as_bytes());
        let message = open(&folder, bytes(Name::Mrpc)).unwrap_err().to_string();
        let expected = "holds no train.tsv; expected train.tsv, dev.tsv, or msr_paraphrase_train.txt with dev_ids.tsv or \
                        mrpc_dev_ids.tsv";
        assert!(message.ends_with(expected), "{message}");
        put(folder.path(), &format!("glue/MRPC/{name}"), b"3\t103\n7\t107\n");
        let task = open(&folder, bytes(Name::Mrpc)).unwrap();
        assert_eq!(Split::ALL.map(|split| task.len(split)), [7, 2, 2]);
        assert_eq!(read(&task, Split::Test, 1).0, "One 7 .|Two 7 .");
        put(folder.path(), &format!("glue/MRPC/{name}"), b"1000\t1001\n");
        let message = open(&folder, bytes(Name::Mrpc)).unwrap_err().to_string();
        assert!(message.ends_with("what dev_ids.tsv names is in no row of msr_paraphrase_train.txt"), "{message}");
    }
}

fn files_of_ids() -> [&'static str; 2] {
    ["dev_ids.tsv", "mrpc_dev_ids.tsv"]
}

#[test]
fn broken_rows_are_skipped_counted_and_the_first_is_named() {
    let folder = released();
    let rows = "id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n\
                1\t1\t2\tWho?\tWhy?\t1\n2\t3\t4\tWho?\n3\t5\t6\tWhen?\t \t0\n4\t7\t8\tHow?\tHow so?\t2\n\
                5\t9\t10\tA\tB\tC\t1\n6\t11\t12\tHow?\tHow so?\t0\n";
    put(folder.path(), "glue/QQP/train.tsv", rows.as_bytes());
    let task = open(&folder, bytes(Name::Qqp)).unwrap();
    assert_eq!(task.len(Split::Train), 2);
    let notes = task.notes();
    let of_train: Vec<&String> = notes.iter().filter(|note| note.contains("train.tsv")).collect();
    assert_eq!(
        of_train,
        [
            "4 of 6 rows are skipped, the first is train.tsv:3: 4 columns, expected 6; the row may be cut short",
            "train.tsv: 2 rows, and 363846 in the release",
        ]
        .map(|note| if note.starts_with('4') { format!("train.tsv: {note}") } else { note.to_owned() })
        .iter()
        .collect::<Vec<_>>()
    );
    assert_eq!(open(&folder, bytes(Name::Qqp)).unwrap().notes(), notes, "a second start repeats them");
}

#[test]
fn a_file_of_broken_rows_alone_is_refused_by_its_first() {
    let all = |n: u64| format!("; so or in another way, all {n} rows are broken");
    for (task, content, row, problem) in [
        (Name::Sst2, "sentence\tlabel\ngood\t2\nbad\t\n", 2, "the label is `2`, expected 0 or 1"),
        (Name::Sst2, "sentence\tlabel\ngood\nbad\n", 2, "1 columns, expected 2; the row may be cut short"),
        (Name::Sst2, "sentence\tlabel\n\t0\n \t1\n", 2, "a sentence is empty"),
        (Name::Cola, "a\t1\t\tb\tc\nd\t1\t\te\tf\n", 1, "5 columns, expected 4; a sentence may hold a tab"),
        (
            Name::Rte,
            "index\tsentence1\tsentence2\tlabel\n0\ta\tb\tneutral\n1\ta\tb\t0\n",
            2,
            "the label is `neutral`, expected entailment or not_entailment",
        ),
    ] {
        let folder = task.form().folder;
        let expected = format!("{folder}/train.tsv:{row}: {problem}{}", all(2));
        assert_eq!(complaint(task, "train.tsv", content), expected);
    }
    let header = "index\tgenre\tfilename\tyear\told_index\tsource1\tsource2\tsentence1\tsentence2\tscore\n";
    for score in ["5.001", "-0.1", "NaN", "inf", "", "much"] {
        let row = format!("{header}0\tg\tf\ty\t1\ts\ts\tA.\tB.\t{score}\n");
        let expected = format!("STS-B/dev.tsv:2: the score is `{score}`, expected 0 to 5{}", all(1));
        assert_eq!(complaint(Name::Stsb, "dev.tsv", &row), expected);
    }
}

#[test]
fn bytes_that_are_not_utf8_are_a_broken_row() {
    let folder = released();
    put(folder.path(), "glue/SST-2/dev.tsv", b"sentence\tlabel\nfine\t1\nbro\xffken\t1\n");
    let task = open(&folder, bytes(Name::Sst2)).unwrap();
    assert_eq!(task.len(Split::Test), 1);
    let note = "dev.tsv: 1 of 2 rows are skipped, the first is dev.tsv:3: is not UTF-8";
    assert!(task.notes().contains(&note.to_owned()), "{:?}", task.notes());
}

#[test]
fn a_file_without_labels_is_told_as_such() {
    let said = "has no labels: no column `label` beside the sentences. Files such as test.tsv are released without, and cannot \
                be learned from or scored; use train.tsv, dev.tsv";
    let cola = complaint(Name::Cola, "dev.tsv", "index\tsentence\n0\tBill whistled past the house.\n");
    assert_eq!(cola, format!("CoLA/dev.tsv:1: {said}"));
    let rte = complaint(Name::Rte, "dev.tsv", "index\tsentence1\tsentence2\n0\ta\tb\n");
    assert_eq!(rte, format!("RTE/dev.tsv:1: {said}"));
    let sst = complaint(Name::Sst2, "train.tsv", "index\tsentence\n0\ta\n");
    assert_eq!(sst, format!("SST-2/train.tsv:1: {said}"));
}

#[test]
fn another_header_and_an_empty_file_are_refused() {
    assert_eq!(
        complaint(Name::Qqp, "train.tsv", "1\t1\t2\tWho?\tWhy?\t1\n"),
        "QQP/train.tsv:1: expected a header with `question1`, `question2`, `is_duplicate`, found `1\\t1\\t2\\tWho?\\tWhy?\\t1`"
    );
    assert_eq!(complaint(Name::Wnli, "dev.tsv", ""), "WNLI/dev.tsv: holds no rows; is it a complete download?");
    let only_header = complaint(Name::Wnli, "dev.tsv", "index\tsentence1\tsentence2\tlabel\n");
    assert_eq!(only_header, "WNLI/dev.tsv: holds no rows; is it a complete download?");
}

#[test]
fn folder_gzip_and_archive_read_alike_and_files_elsewhere_are_passed_over() {
    let folder = released();
    put(folder.path(), "glue/RTE/original/train.tsv", b"nonsense");
    put(folder.path(), "glue/RTE/test.tsv", b"index\tsentence1\tsentence2\n0\ta\tb\n");
    let loose = open(&folder, bytes(Name::Rte)).unwrap();
    let read = |name: &str| std::fs::read(folder.path().join("glue/RTE").join(name)).unwrap();
    let (train, dev) = (read("train.tsv"), read("dev.tsv"));

    let packed = tempfile::tempdir().unwrap();
    for (name, content) in [("train", &train), ("dev", &dev)] {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut gzip, content).unwrap();
        put(packed.path(), &format!("RTE/{name}.tsv.gz"), &gzip.finish().unwrap());
    }
    let archived = tempfile::tempdir().unwrap();
    let files: [(&str, &[u8]); 3] =
        [("RTE/dev.tsv", &dev), ("RTE/original/train.tsv", b"nonsense"), ("RTE/train.tsv", &train)];
    put(archived.path(), "glue/RTE-v1.tar.gz", &archive(&files));
    let zip = tempfile::tempdir().unwrap();
    put(zip.path(), "glue/RTE.zip", &crate::data::zip::tests::zipped(&files));
    for other in [packed, archived, zip] {
        let other = open(&other, bytes(Name::Rte)).unwrap();
        assert_eq!(other.fingerprint(), loose.fingerprint());
        assert_eq!(other.example(Split::Train, 7).unwrap(), loose.example(Split::Train, 7).unwrap());
    }
    put(folder.path(), "glue/RTE/dev.tsv.gz", b"");
    let message = open(&folder, bytes(Name::Rte)).unwrap_err().to_string();
    assert!(message.ends_with("RTE: holds more than one dev.tsv"), "{message}");
}

#[test]
fn missing_files_say_where_to_get_them() {
    let (what, looked, help) = missing(|data| Glue::open(bytes(Name::Stsb), data));
    assert_eq!(what, "GLUE's STS-B");
    assert_eq!(looked[0], Path::new("no/such/folder/glue/STS-B"));
    let lines = "download STS-B; a zip need not be unpacked:\n  curl -fL --create-dirs -o no/such/folder/glue/STS-B.zip \
                 https://dl.fbaipublicfiles.com/glue/data/STS-B.zip\nor put train.tsv, dev.tsv into no/such/folder/glue/STS-B,";
    assert!(help.starts_with(lines), "{help}");
    let (_, looked, help) = missing(|data| Glue::open(bytes(Name::Mrpc), data));
    assert!(help.contains("-o no/such/folder/glue/MRPC/mrpc_dev_ids.tsv https://"), "{help}");
    assert_eq!(crate::data::fetch::set_at(&looked).map(|set| set.name), Some("glue"));
    let folder = released();
    std::fs::remove_file(folder.path().join("glue/MNLI/dev_mismatched.tsv")).unwrap();
    let message = open(&folder, bytes(Name::Mnli)).unwrap_err().to_string();
    let expected = "MNLI: holds no dev_mismatched.tsv; expected train.tsv, dev_matched.tsv, dev_mismatched.tsv";
    assert!(message.ends_with(expected), "{message}");
}

#[test]
fn every_impossible_setting_is_named() {
    let bad = |change: fn(&mut Config)| faulty(bytes(Name::Cola), change);
    assert_eq!(bad(|_| ()), [""; 0]);
    assert_eq!(bad(|c| c.max_length = 4), ["max_length"]);
    assert_eq!(bad(|c| c.train_examples = Some(0)), ["train_examples"]);
    assert_eq!(bad(|c| c.corpus = Some(CorpusConfig::default())), ["corpus"]);
    let none = WordpieceConfig { alphabet: 0, ..WordpieceConfig::default() };
    assert_eq!(Config { tokenizer: TokenizerConfig::Wordpiece(none), ..Config::default() }.check()[0].key, "tokenizer");
    let corpus = Some(CorpusConfig { held_out: 0.7, ..CorpusConfig::default() });
    let error = &Config { corpus, ..Config::default() }.check()[0];
    assert_eq!((error.key, error.problem.as_str()), ("corpus", "`corpus.held_out` is 0.7"));
}

/// Over what is there; `MIXARENA_DATA=… cargo test -p tasks glue -- --ignored --nocapture`.
#[test]
#[ignore = "needs data"]
fn what_is_there_has_the_rows_of_the_release() {
    let data = DataDir(std::env::var_os("MIXARENA_DATA").expect("MIXARENA_DATA names the data folder").into());
    for key in KEYS {
        let begun = std::time::Instant::now();
        let task = match Glue::open(Config { task: named(key), ..Config::default() }, &data) {
            Err(DataError::Missing { .. }) => continue,
            opened => opened.unwrap(),
        };
        let opened = begun.elapsed();
        let rows: Vec<u64> = task.set.parts.iter().map(|part| part.len() as u64).collect();
        assert_eq!(rows, task.form().rows, "{key}");
        let length = |index| task.example(Split::Train, index).unwrap().tokens.len();
        let lengths: Vec<usize> = (0..task.len(Split::Train)).map(length).collect();
        println!(
            "{key}: {rows:?} rows, opened in {opened:.1?}; {:.1} tokens a row, {} of 128, cut in {:.1?}; floor {:.4}; {:?}",
            lengths.iter().sum::<usize>() as f64 / rows[0] as f64,
            lengths.iter().filter(|&&length| length == 128).count(),
            begun.elapsed() - opened,
            task.floor().unwrap().score,
            &task.notes()[1..]
        );
    }
}
