//! Laws of causal language modelling on a corpus made for them.

use super::*;
use crate::mlm::tests::{folder, settings};
use serde_json::json;

fn open(changes: serde_json::Value) -> Clm {
    Clm::open(settings(json!({ "seq_len": 32 }), changes), &folder().1).unwrap()
}

#[test]
fn every_token_is_asked_for_once_from_those_before_it() {
    for packing in ["packed", "padded"] {
        let task = open(json!({ "packing": packing }));
        for split in Split::ALL {
            let mut asked = Vec::new();
            for index in 0..task.len(split) {
                let example = task.example(split, index).unwrap();
                let Targets::PerPosition { positions, classes } = &example.targets else { panic!("positions") };
                assert!(positions.iter().copied().eq(0..example.tokens.len() as i64));
                assert_eq!(example.tokens[0], 2);
                assert_eq!(example.tokens[1..], classes[..classes.len() - 1]);
                asked.extend(classes.iter().copied());
            }
            let text = asked.iter().filter(|&&class| class > 4).count() as u64;
            assert_eq!(
                (text, Some(text)),
                (task.language.corpus.tokens(split), task.bytes(split)),
                "a byte is a token"
            );
            let ends = asked.len() as u64 - text;
            assert!(if packing == "packed" {
                ends.abs_diff(task.language.corpus.documents(split)) <= 1
            } else {
                ends == 0
            });
        }
    }
}

#[test]
fn bits_per_byte_are_of_whole_splits_alone() {
    let task = open(json!({ "eval_sequences": 3 }));
    assert_eq!((task.len(Split::Test), task.bytes(Split::Test)), (3, None));
    assert!(task.bytes(Split::Train).is_some());
    let remark = "bits per byte are of less than the text";
    assert!(!task.notes().iter().any(|note| note.contains(remark)));
    let pieces = open(json!({ "tokenizer": { "wordpiece": { "vocab_size": 64 } } }));
    assert!(pieces.notes().iter().any(|note| note.contains(remark)));
    let pairs = open(json!({ "tokenizer": { "bpe": { "vocab_size": 280 } } }));
    assert!(!pairs.notes().iter().any(|note| note.contains(remark)));
}

#[test]
fn a_unigram_reaches_what_arithmetic_says() {
    let task = open(json!({ "packing": "padded" }));
    let floor = task.floor().unwrap();
    assert!((floor.score - 0.5).abs() < 0.03, "{floor:?}");
    let loss = task.baselines().unwrap().iter().find(|b| b.measure == "loss").unwrap().value;
    let entropy = 0.5 * 2.0_f64.ln() + 0.5 * 16.0_f64.ln();
    assert!((loss - entropy).abs() < 0.12, "{loss} {entropy}");
}

#[test]
fn facets_are_those_of_each_position() {
    let task = open(json!({}));
    //             asked for: e    a    e    e; a = 102, e = 106
    let (tokens, classes) = (vec![2, 106, 102, 106], vec![106, 102, 106, 106]);
    let targets = Targets::PerPosition { positions: (0..4).collect(), classes };
    let batch =
        Batch { size: 1, documents: 1, length: 4, width: 1, tokens, types: Vec::new(), lengths: vec![4], targets };
    let facets = task.facets(&batch);
    assert_eq!(facets.iter().map(|facet| facet.axis).collect::<Vec<_>>(), ["frequency", "position", "distance"]);
    assert_eq!(facets[0].at, [1000.0, 100.0, 1000.0, 1000.0]);
    assert_eq!(facets[1].at, [0.0, 0.0, 2.0, 2.0]);
    assert!(facets[2].at[0].is_nan() && facets[2].at[1].is_nan() && facets[2].at[2..] == [2.0, 1.0], "{facets:?}");
}
