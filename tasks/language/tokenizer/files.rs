//! Tokenizers that somebody made: `tokenizer.json`, or BERT's `vocab.txt`.

use super::pieces::Pieces;
use super::{FileConfig, Form, Specials, Tokenizer, train};
use crate::{DataDir, DataError, data::formats};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Names that files give a special token, the most usual first.
pub(super) const MASK: [&str; 3] = ["[MASK]", "<mask>", "<|mask|>"];
const PAD: [&str; 3] = ["[PAD]", "<pad>", "<|padding|>"];
const UNKNOWN: [&str; 2] = ["[UNK]", "<unk>"];
const CLS: [&str; 6] = ["[CLS]", "<s>", "<cls>", "<bos>", "<|begin_of_text|>", "<|endoftext|>"];
const SEP: [&str; 6] = ["[SEP]", "</s>", "<sep>", "<eos>", "<|end_of_text|>", "<|endoftext|>"];

const HELP: &str = "give a tokenizer.json of Hugging Face, or BERT's vocab.txt, one word piece a line \
                    (https://huggingface.co/google-bert/bert-base-uncased has both)";

/// Texts of letters that a vocabulary has, of those it hardly has, and of those that nothing has.
const PROBES: [&str; 4] = ["a word, another", "\u{4e2d}\u{6587} \u{1f600}", "\u{e000}", "\u{10fffd}\u{0}\n"];

/// Largest file of a tokenizer, bytes: a quarter of a million tokens take 35 MB.
const LONGEST: u64 = 256 << 20;

pub(super) fn read(data: &DataDir, config: &FileConfig) -> Result<Tokenizer, DataError> {
    let path = data.locate("tokenizer", Some(&config.path), &[], HELP)?;
    let text = formats::plain_file(&path)?.bytes("tokenizer", LONGEST)?;
    let is_json = text.trim_ascii_start().starts_with(b"{");
    let refused = |row: u64, problem: String| DataError::Malformed { path: path.clone(), row, problem };
    if is_json && config.lowercase.is_some() {
        return Err(refused(
            0,
            "is a tokenizer.json, which says itself what becomes of capitals; remove `lowercase`".into(),
        ));
    }
    let json = if is_json { text } else { of_vocabulary(&path, &text, config.lowercase.unwrap_or(true))? };
    let mut pieces = Pieces::of_json(&json).map_err(|why| refused(0, format!("is no tokenizer: {why}")))?;
    let specials = specials(&pieces).map_err(|problem| refused(0, problem))?;
    let Specials { pad, unknown, cls, sep, mask } = specials;
    [pad, unknown, cls, sep, mask].into_iter().filter(|&id| id != u32::MAX).for_each(|id| pieces.mark_special(id));
    if (0..pieces.vocab_size() as u32).all(|token| pieces.is_special(token)) {
        return Err(refused(0, "has no token that stands for text".into()));
    }
    // Every text must have tokens: one that a model cannot cut would stop a preparation half way.
    let value: serde_json::Value = serde_json::from_slice(&json).expect("it was just read");
    let model = &value["model"];
    if let ("WordPiece" | "WordLevel", Some(name)) =
        (model["type"].as_str().unwrap_or_default(), model["unk_token"].as_str())
        && pieces.find(&[name]).is_none()
    {
        return Err(refused(0, format!("has no {name}, the token of words it does not know; add it")));
    }
    if model["dropout"].as_f64().is_some_and(|share| share > 0.0) {
        return Err(refused(
            0,
            "drops merges at random (`dropout`), so that a text is cut anew each time; set it to null".into(),
        ));
    }
    if let Some(why) = PROBES.iter().find_map(|text| pieces.fails_on(text)) {
        return Err(refused(0, format!("cannot cut every text ({why}); give it a token of what it does not know")));
    }
    let fingerprint = blake3::hash(&json).to_hex().to_string();
    Ok(Tokenizer { specials, form: Form::Pieces(Arc::new(pieces)), fingerprint, file: Some(path) })
}

/// The special tokens a vocabulary has. What it has no token for is done by its neighbour in purpose, except a mask.
fn specials(pieces: &Pieces) -> Result<Specials, String> {
    let (cls, sep) = (pieces.find(&CLS), pieces.find(&SEP));
    let (Some(cls), Some(sep)) = (cls.or(sep), sep.or(cls)) else {
        return Err(format!(
            "has no token that begins or ends a text; add one of {} or {}",
            CLS.join(", "),
            SEP.join(", ")
        ));
    };
    let pad = pieces.find(&PAD).unwrap_or(sep);
    let unknown = pieces.find(&UNKNOWN).unwrap_or(pad);
    Ok(Specials { pad, unknown, cls, sep, mask: pieces.find(&MASK).unwrap_or(u32::MAX) })
}

/// A `tokenizer.json` of a list of word pieces.
fn of_vocabulary(path: &Path, text: &[u8], lowercase: bool) -> Result<Vec<u8>, DataError> {
    let refused = |row: u64, problem: String| DataError::Malformed { path: path.into(), row, problem };
    let (mut names, mut rows) = (Vec::new(), HashMap::new());
    for (row, line) in (1..).zip(text.strip_suffix(b"\n").unwrap_or(text).split(|&byte| byte == b'\n')) {
        let name =
            std::str::from_utf8(line).map_err(|_| refused(row, "is not UTF-8; a vocab.txt is".into()))?.trim_end();
        if name.is_empty() {
            return Err(refused(row, "is empty; every line of a vocab.txt is a word piece".into()));
        }
        if let Some(before) = rows.insert(name, row) {
            return Err(refused(row, format!("`{name}` stands in line {before} already")));
        }
        names.push(name.to_owned());
    }
    for needed in ["[UNK]", "[CLS]", "[SEP]"] {
        if !rows.contains_key(needed) {
            return Err(refused(
                0,
                format!("has no {needed}, which a vocab.txt of BERT has; add it as a line of its own"),
            ));
        }
    }
    Ok(train::wordpiece_json(&train::vocabulary(names), lowercase).to_string().into_bytes())
}
