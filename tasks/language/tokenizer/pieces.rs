//! A tokenizer of Hugging Face's form, its pieces remembered.

use super::bytes::{byte_of, in_word};
use super::unbroken::Unbroken;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use tokenizers::{
    Normalizer, OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer as HuggingFace,
};

/// Where text can be cut before anything else is done to it, without moving a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seams {
    /// At white space, which BERT's rules drop.
    Bert,
    /// Before white space after something else: GPT-2's pattern never matches across it.
    Gpt2,
    /// Nowhere: the tokenizer has rules of its own.
    None,
}

impl Seams {
    /// What a `tokenizer.json` allows.
    pub(super) fn of(json: &Value) -> Self {
        let part = |key: &str| json[key]["type"].as_str().unwrap_or_default();
        let added = json["added_tokens"].as_array().into_iter().flatten();
        // A special one is never looked for in text; another may hold white space.
        if added.into_iter().any(|token| token["special"] != true) {
            return Self::None;
        }
        let before = &json["pre_tokenizer"];
        match (part("normalizer"), part("pre_tokenizer")) {
            ("BertNormalizer", "BertPreTokenizer") if json["normalizer"]["clean_text"] == true => Self::Bert,
            ("", "ByteLevel") if before["add_prefix_space"] == false && before["use_regex"] != false => Self::Gpt2,
            _ => Self::None,
        }
    }

    /// The stretches of a text, in order; together they are all of it but dropped white space.
    pub(super) fn cut(self, text: &str) -> impl Iterator<Item = &str> {
        // BERT's rules delete control characters before they split, some of which are white space: "a\u{b}b" is one word.
        let dropped = |c: char| matches!(c, '\t' | '\n' | '\r') || c.is_whitespace() && !c.is_control();
        let mut rest = text;
        std::iter::from_fn(move || {
            if self == Self::Bert {
                rest = rest.trim_start_matches(dropped);
            }
            if rest.is_empty() {
                return None;
            }
            let end = match self {
                Self::Bert => rest.find(dropped),
                Self::Gpt2 => {
                    let word = rest.find(|c: char| !c.is_whitespace()).unwrap_or(rest.len());
                    rest[word..].find(char::is_whitespace).map(|after| word + after)
                }
                Self::None => None,
            };
            let (head, tail) = rest.split_at(end.unwrap_or(rest.len()));
            rest = tail;
            Some(head)
        })
    }
}

/// Stretches longer than this are not remembered, bytes.
const LONGEST: usize = 40;

/// Stretches a shard remembers before it begins anew, and shards.
const REMEMBERED: usize = 4096;
const SHARDS: usize = 64;

/// A stretch's tokens.
type Memory = Mutex<HashMap<Box<str>, Box<[u32]>>>;

/// A token's place in words.
#[derive(Clone, Copy, Debug, Default)]
struct Edges {
    special: bool,
    /// It is marked as the continuation of a word.
    marked: bool,
    /// Its first and its last byte belong to a word.
    begins: bool,
    ends: bool,
}

/// A tokenizer of Hugging Face's form.
pub(super) struct Pieces {
    inner: HuggingFace,
    seams: Seams,
    unbroken: Unbroken,
    /// Whether continuations are marked, by `##`.
    marks: bool,
    tokens: Vec<Edges>,
    memory: Vec<Memory>,
}

impl std::fmt::Debug for Pieces {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.debug_struct("Pieces").field("vocab_size", &self.tokens.len()).field("seams", &self.seams).finish()
    }
}

/// Refuses a vocabulary whose largest number is far beyond how many tokens it has: a table of all numbers would be made of
/// little else than holes.
fn refuse_far_numbers(json: &Value) -> Result<(), String> {
    let model = &json["model"]["vocab"];
    let named = model.as_object().into_iter().flatten().map(|(name, id)| (name.as_str(), id));
    let added = json["added_tokens"].as_array().into_iter().flatten();
    let added = added.map(|token| (token["content"].as_str().unwrap_or_default(), &token["id"]));
    let listed = model.as_array().map_or(0, Vec::len) as u64; // a unigram model numbers its list
    let (mut numbers, mut last) = (HashSet::new(), None);
    for (name, id) in named.chain(added) {
        let id = id.as_u64().unwrap_or(0); // another type is the library's to refuse
        if id >= listed {
            numbers.insert(id);
        }
        if last.is_none_or(|(_, last)| id > last) {
            last = Some((name, id));
        }
    }
    let tokens = listed + numbers.len() as u64;
    match last {
        Some((name, id)) if id >= 2 * tokens + HOLES => Err(format!(
            "token `{}` has the number {id}, and there are {tokens} tokens: number them from 0 on",
            crate::data::formats::shorten(name.as_bytes()).trim_matches('`')
        )),
        _ => Ok(()),
    }
}

/// Numbers without a token that any vocabulary may have, besides as many as it has tokens.
const HOLES: u64 = 1024;

impl Pieces {
    /// Reads a `tokenizer.json`.
    pub(super) fn of_json(json: &[u8]) -> Result<Self, String> {
        let value: Value = serde_json::from_slice(json).map_err(|error| error.to_string())?;
        refuse_far_numbers(&value)?;
        let mut inner = HuggingFace::from_bytes(json).map_err(|error| error.to_string())?;
        // A name of a special token in a text is text; lengths are the task's business.
        inner.set_encode_special_tokens(true);
        inner.with_padding(None).with_truncation(None).map_err(|error| error.to_string())?;
        let added = inner.get_added_tokens_decoder();
        let prefix = match value["model"]["type"].as_str() {
            Some("WordPiece") => value["model"]["continuing_subword_prefix"].as_str().unwrap_or("##"),
            _ => "",
        };
        let byte_level = value["decoder"].to_string().contains("\"ByteLevel\"");
        let size = inner.get_vocab(true).into_values().max().map_or(0, |last| last as usize + 1);
        let edges = |id: u32| {
            let Some(name) = inner.id_to_token(id) else { return Edges { special: true, ..Edges::default() } };
            let marked = !prefix.is_empty() && name.len() > prefix.len() && name.starts_with(prefix);
            let bytes: Vec<u8> = if byte_level {
                name.chars().filter_map(byte_of).collect()
            } else {
                name.replace('\u{2581}', " ").into_bytes() // SentencePiece's space
            };
            let is_word = |byte: Option<&u8>| byte.is_some_and(|&byte| in_word(byte));
            let special = added.get(&id).is_some_and(|token| token.special);
            Edges { special, marked, begins: is_word(bytes.first()), ends: is_word(bytes.last()) }
        };
        let tokens = (0..size as u32).map(edges).collect();
        let memory = (0..SHARDS).map(|_| Memory::default()).collect();
        let seams = Seams::of(&value);
        let unbroken = match seams {
            Seams::None => Unbroken::None,
            seams => Unbroken::of(&value, seams == Seams::Bert),
        };
        Ok(Self { seams, unbroken, marks: !prefix.is_empty(), tokens, memory, inner })
    }

    pub(super) fn vocab_size(&self) -> usize {
        self.tokens.len()
    }

    /// The number of the first of these names that the vocabulary has.
    pub(super) fn find(&self, names: &[&str]) -> Option<u32> {
        names.iter().find_map(|name| self.inner.token_to_id(name))
    }

    pub(super) fn name(&self, token: u32) -> String {
        self.inner.id_to_token(token).unwrap_or_default()
    }

    pub(super) fn is_special(&self, token: u32) -> bool {
        self.tokens.get(token as usize).is_none_or(|edges| edges.special)
    }

    /// Takes a token for special though its file does not say so.
    pub(super) fn mark_special(&mut self, token: u32) {
        self.tokens[token as usize].special = true;
    }

    pub(super) fn continues(&self, before: u32, token: u32) -> bool {
        let (before, token) = (self.tokens[before as usize], self.tokens[token as usize]);
        if self.marks { token.marked } else { before.ends && token.begins }
    }

    /// Why a text, or some tokens, cannot be cut or joined; nothing where they can.
    pub(super) fn fails_on(&self, text: &str) -> Option<String> {
        let tokens = match self.inner.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().to_vec(),
            Err(error) => return Some(error.to_string()),
        };
        self.inner.decode(&tokens, false).err().map(|error| error.to_string())
    }

    pub(super) fn decode(&self, tokens: &[u32]) -> String {
        self.inner.decode(tokens, false).expect("decoders of byte pieces and word pieces do not fail")
    }

    /// As Hugging Face cuts a text.
    pub(super) fn encode_directly(&self, text: &str) -> Vec<u32> {
        let encoding = self.inner.encode_fast(text, false);
        encoding.expect("a model with a token for the unknown cuts every text").get_ids().to_vec()
    }

    /// The same, stretch by stretch.
    pub(super) fn encode(&self, text: &str) -> Vec<u32> {
        if self.seams == Seams::None {
            return self.encode_directly(text);
        }
        let mut tokens = Vec::with_capacity(text.len() / 4);
        for stretch in self.seams.cut(text) {
            if stretch.len() <= LONGEST {
                self.remember(stretch, &mut tokens);
                continue;
            }
            for part in self.unbroken.parts(stretch) {
                if self.unbroken.encode(part, &mut tokens) {
                    continue;
                }
                match part.len() {
                    ..=LONGEST => self.remember(part, &mut tokens),
                    _ => tokens.extend(self.encode_directly(part)),
                }
            }
        }
        tokens
    }

    /// Adds the tokens of a short stretch, which may have been met before.
    fn remember(&self, stretch: &str, tokens: &mut Vec<u32>) {
        let shard = stretch.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
        let memory = || self.memory[shard % SHARDS].lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = memory().get(stretch) {
            tokens.extend_from_slice(known);
            return;
        }
        let new = self.encode_directly(stretch);
        tokens.extend_from_slice(&new);
        let mut memory = memory();
        if memory.len() >= REMEMBERED {
            memory.clear();
        }
        memory.insert(stretch.into(), new.into());
    }

    /// The words of a stretch of text, before they are cut into pieces.
    pub(super) fn words(&self, text: &str) -> Vec<String> {
        let mut normal = tokenizers::NormalizedString::from(text);
        if let Some(normalizer) = self.inner.get_normalizer() {
            normalizer.normalize(&mut normal).expect("BERT's normalizer does not fail");
        }
        let mut parts = PreTokenizedString::from(normal);
        if let Some(splitter) = self.inner.get_pre_tokenizer() {
            splitter.pre_tokenize(&mut parts).expect("splitting by fixed patterns does not fail");
        }
        let splits = parts.get_splits(OffsetReferential::Normalized, OffsetType::None);
        splits.into_iter().map(|(word, _, _)| word.to_owned()).filter(|word| !word.is_empty()).collect()
    }

    /// Byte-level pairs without a rule before them keep every byte.
    pub(super) fn is_lossless(&self) -> bool {
        self.seams == Seams::Gpt2
    }

    pub(super) fn seams(&self) -> Seams {
        self.seams
    }
}
