//! Laws of masked language modelling on a corpus made for them.

use super::*;
use crate::Order;
use crate::data::formats::tests::put;
use serde_json::json;

/// Half of the letters are `e`, the others even among eight: a unigram's scores follow by arithmetic.
fn letters(seed: u64, count: usize) -> String {
    let mut stream = Stream::new(seed, Purpose::GUESS, 7);
    let mut letter = || if stream.chance(0.5) { 'e' } else { char::from(b"abcdfghi"[stream.below(8) as usize]) };
    (0..count).map(|_| letter()).collect()
}

/// Writes a corpus with one document a line.
pub(crate) fn put_letters(folder: &std::path::Path) {
    for (split, seed, rows) in [("train", 1, 40), ("valid", 2, 15), ("test", 3, 60)] {
        let rows: Vec<String> = (0..rows).map(|row| letters(seed * 1000 + row, 96)).collect();
        put(folder, &format!("letters/{split}.txt"), rows.join("\n").as_bytes());
    }
}

/// A data folder with that corpus.
pub(crate) fn folder() -> (tempfile::TempDir, DataDir) {
    let folder = tempfile::tempdir().unwrap();
    put_letters(folder.path());
    let data = DataDir(folder.path().into());
    (folder, data)
}

/// Settings for that corpus, byte by byte.
pub(crate) fn settings<F: Family>(own: serde_json::Value, changes: serde_json::Value) -> F {
    let mut settings = json!({ "corpus": { "path": "letters", "documents": "line" }, "tokenizer": "bytes" });
    for more in [own, changes] {
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    }
    let cfg: F = serde_json::from_value(settings).unwrap();
    assert_eq!(cfg.check(), []);
    cfg
}

fn open(changes: serde_json::Value) -> Mlm {
    Mlm::open(settings(json!({ "seq_len": 34, "packing": "padded" }), changes), &folder().1).unwrap()
}

/// A masked sequence with what is asked for put back.
fn restored(example: &Example) -> Vec<i64> {
    let mut tokens = example.tokens.clone();
    let Targets::PerPosition { positions, classes } = &example.targets else { panic!("positions") };
    positions.iter().zip(classes).for_each(|(&at, &class)| tokens[at as usize] = class);
    tokens
}

#[test]
fn what_is_asked_for_is_the_corpus_and_ends_are_never_hidden() {
    let task = open(json!({}));
    for split in Split::ALL {
        for index in 0..task.len(split) {
            let (example, sequence) =
                (task.example(split, index).unwrap(), task.language.corpus.sequence(split, index));
            assert_eq!(restored(&example), sequence.iter().map(|&token| i64::from(token)).collect::<Vec<_>>());
            assert!(!example.targets.classes().is_empty());
            assert!(example.targets.classes().iter().all(|&class| class > 4));
            let (first, last) = (example.tokens[0], *example.tokens.last().unwrap());
            assert_eq!([first, last], [2, 3]);
        }
    }
}

#[test]
fn training_hides_anew_each_epoch_and_evaluation_never() {
    let task = open(json!({}));
    let draw = |seed, epoch| task.drawn(3, Draw { seed, epoch }).unwrap();
    assert_eq!(draw(1, 0), draw(1, 0));
    assert_ne!(draw(1, 0), draw(1, 1));
    assert_ne!(draw(1, 0), draw(2, 0));
    assert_eq!(restored(&draw(1, 0)), restored(&draw(2, 5)));
    assert_eq!(task.example(Split::Test, 3).unwrap(), task.example(Split::Test, 3).unwrap());
    let fixed = open(json!({ "dynamic": false }));
    let draw = |seed, epoch| fixed.drawn(3, Draw { seed, epoch }).unwrap();
    assert_eq!(draw(1, 0), draw(2, 7));
    assert_eq!(draw(1, 0), task.example(Split::Train, 3).unwrap());
    let other = open(json!({ "mask_seed": 1 }));
    assert_ne!(other.example(Split::Test, 3).unwrap(), task.example(Split::Test, 3).unwrap());
    // Each epoch's batches hold every sequence once.
    let order = Order { seed: 4, batch_size: 1 };
    let n = task.len(Split::Train);
    let mut rows: Vec<Vec<i64>> = (0..n)
        .map(|step| {
            let batch = task.batch(Split::Train, n + step, &order).unwrap();
            restored(&Example::new(batch.tokens, batch.targets))
        })
        .collect();
    let mut all: Vec<Vec<i64>> = (0..n).map(|i| restored(&task.example(Split::Train, i).unwrap())).collect();
    rows.sort_unstable();
    all.sort_unstable();
    assert_eq!(rows, all);
}

#[test]
fn training_and_evaluation_have_rates_of_their_own() {
    let task = open(json!({ "mask_rate": 0.3, "count": "exact", "most": 11 }));
    let hidden = |split, index| task.example(split, index).unwrap().targets.classes().len();
    // 32 letters between the ends: 0.3 · 32 = 9.6, 0.15 · 32 = 4.8.
    assert_eq!([hidden(Split::Train, 0), hidden(Split::Validation, 0), hidden(Split::Test, 0)], [10, 5, 5]);
    let task = open(json!({ "mask_rate": 0.5, "eval_mask_rate": 0.25, "count": "exact", "most": 11 }));
    let hidden = |split, index| task.example(split, index).unwrap().targets.classes().len();
    assert_eq!([hidden(Split::Train, 0), hidden(Split::Test, 0)], [11, 8]);
}

#[test]
fn a_unigram_reaches_what_arithmetic_says() {
    let task = open(json!({ "eval_mask_rate": 1.0, "mask_rate": 1.0 }));
    let floor = task.floor().unwrap();
    assert!((floor.score - 0.5).abs() < 0.03, "{floor:?}");
    assert_eq!(floor.how, "always \"0x65\", the most frequent token of the hidden tokens of test");
    let baselines = task.baselines().unwrap();
    let value = |measure: &str| baselines.iter().find(|b| b.measure == measure).unwrap().value;
    // Entropy: ½ ln 2 + ½ ln 16 nats, and a little for the 261 added counts.
    let entropy = 0.5 * 2.0_f64.ln() + 0.5 * 16.0_f64.ln();
    assert!((value("loss") - entropy).abs() < 0.12, "{baselines:?}, {entropy}");
    assert_eq!(value("accuracy"), floor.score);
    assert!((value("perplexity").ln() - value("loss")).abs() < 1e-12);
}

#[test]
fn a_unigram_does_not_say_what_nobody_is_asked_for() {
    // `e` and two other letters have tokens: shares 0.8, 0.1 and 0.1 of what is asked for; three eighths of the text are unknown.
    let task = open(json!({ "tokenizer": { "characters": { "vocab_size": 8 } } }));
    let loss = task.baselines().unwrap().iter().find(|b| b.measure == "loss").unwrap().value;
    let entropy = -(0.8 * 0.8_f64.ln() + 0.2 * 0.1_f64.ln());
    assert!((loss - entropy).abs() < 0.1, "{loss} {entropy}");
}

#[test]
fn a_few_sequences_stand_for_the_split() {
    let (all, few) = (open(json!({})), open(json!({ "eval_sequences": 7 })));
    assert_eq!([few.len(Split::Validation), few.len(Split::Test)], [7, 7]);
    assert_eq!(few.len(Split::Train), all.len(Split::Train));
    let third = all.len(Split::Test) * 3 / 7;
    assert_eq!(few.example(Split::Test, 3).unwrap(), all.example(Split::Test, third).unwrap());
}

#[test]
fn facets_are_those_of_each_scored_position() {
    let task = open(json!({ "seq_len": 34 }));
    //       0  1  2  3  4  5  6  7, letters a = 102, e = 106; hidden: 1, 4, 6
    let rows = [vec![2, 4, 106, 102, 120, 102, 102, 3], vec![2, 106, 4, 3]];
    let asked = [(vec![1, 4, 6], vec![106, 102, 102]), (vec![2], vec![105])];
    let (mut tokens, mut positions, mut classes) = (Vec::new(), Vec::new(), Vec::new());
    for (row, (at, of)) in rows.iter().zip(asked) {
        positions.extend(at.into_iter().map(|at: i64| at + tokens.len() as i64));
        classes.extend(of);
        tokens.extend(row);
        tokens.resize(tokens.len().next_multiple_of(8), 0);
    }
    let batch = Batch {
        size: 2,
        documents: 1,
        length: 8,
        width: 1,
        tokens,
        types: Vec::new(),
        lengths: vec![8, 4],
        targets: Targets::PerPosition { positions, classes },
    };
    let facets = task.facets(&batch);
    assert_eq!(
        facets.iter().map(|facet| facet.axis).collect::<Vec<_>>(),
        ["frequency", "position", "distance", "fate"]
    );
    // 3,840 letters: about 1,920 of e, 240 of any other.
    assert_eq!(facets[0].at, [1000.0, 100.0, 100.0, 100.0]);
    assert_eq!(facets[1].at, [0.0, 4.0, 6.0, 2.0]);
    assert!(facets[2].at[..3] == [1.0, 1.0, 1.0] && facets[2].at[3].is_nan(), "{facets:?}");
    assert_eq!(facets[3].at, [0.0, 1.0, 2.0, 0.0]);
}

#[test]
fn what_is_drawn_is_distributed_as_asked() {
    let task = open(json!({ "mask_rate": 0.5, "mask_share": 0.6, "random_share": 0.3 }));
    let tests = task.distributions(1000).unwrap();
    assert_eq!(tests.len(), 2);
    assert!(tests.iter().all(|test| test.p > 1e-3), "{tests:?}");
}

#[test]
fn a_tokenizer_without_a_mask_is_refused_before_the_corpus_is_prepared() {
    let (folder, data) = folder();
    put(folder.path(), "vocab.txt", b"[PAD]\n[UNK]\n[CLS]\n[SEP]\na\n");
    let cfg: Config = serde_json::from_value(json!({
        "corpus": { "path": "letters", "documents": "line" }, "tokenizer": { "file": { "path": "vocab.txt" } },
    }))
    .unwrap();
    let error = Family::open(&cfg, &data).unwrap_err().to_string();
    assert!(error.contains("vocab.txt: has no mask token"), "{error}");
    assert!(!folder.path().join(".prepared").exists());
}

#[test]
fn settings_that_cannot_be_are_named() {
    let problems = |changes: serde_json::Value| -> Vec<String> {
        let cfg: Config = serde_json::from_value(changes).unwrap();
        cfg.check().into_iter().map(|error| error.problem).collect()
    };
    assert_eq!(problems(json!({})), [""; 0]);
    assert_eq!(problems(json!({ "mask_rate": 0.0 })), ["`mask_rate` is 0"]);
    assert_eq!(problems(json!({ "eval_mask_rate": 1.5 })), ["`eval_mask_rate` is 1.5"]);
    assert_eq!(
        problems(json!({ "mask_share": 0.9, "random_share": 0.25 })),
        ["`mask_share` + `random_share` = 0.9 + 0.25 = 1.15 > 1"]
    );
    assert_eq!(problems(json!({ "most": 0 })), ["`most` is 0, so nothing is hidden"]);
    assert_eq!(problems(json!({ "seq_len": 3 })), ["`seq_len` is 3, not between 4 and 2^20"]);
    assert_eq!(problems(json!({ "eval_sequences": 0 })), ["`eval_sequences` is 0, so nothing is measured"]);
    let nested = problems(json!({ "corpus": { "held_out": 0.7 }, "tokenizer": { "bpe": { "vocab_size": 9 } } }));
    assert_eq!(nested, ["`corpus.held_out` is 0.7", "`bpe.vocab_size` is 9, not between 261 and 2^20"]);
}
