//! Long stretches without white space: parts of them are made into tokens here, as Hugging Face would and sooner.
//!
//! ```text
//! BERT     cut around signs of ASCII and Chinese characters │ a word of letters and digits: the longest piece that fits,
//!          never looked for beyond the longest of the vocabulary; [UNK] at once where the word is too long
//! GPT-2    cut between letters, digits and signs of ASCII   │ a run of one kind: merges by rank, then from the left
//! ```
//! Time     O(n) and O(n log n) for n characters; Hugging Face's greedy search is quadratic in a word, and both its paths first
//!          keep an alignment of 16 bytes for each byte
//!
//! What is not of ASCII is left to Hugging Face: which characters are letters depends on its tables.

use super::bytes::byte_of;
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::hash::{BuildHasherDefault, Hasher};

/// How parts of a long stretch are made into tokens.
#[derive(Debug)]
pub(super) enum Unbroken {
    Bert(WordPieces),
    Gpt2(Merges),
    /// The tokenizer has rules of its own.
    None,
}

impl Unbroken {
    /// What a `tokenizer.json` with BERT's or GPT-2's rules allows; [`Unbroken::None`] where its model has settings of its own.
    pub(super) fn of(json: &Value, bert: bool) -> Self {
        let found = match bert {
            true => WordPieces::of(json).map(Self::Bert),
            false => Merges::of(&json["model"]).map(Self::Gpt2),
        };
        found.unwrap_or(Self::None)
    }

    /// Whether tokens never reach across the place between these two.
    fn parts_at(&self, before: char, after: char) -> bool {
        match self {
            Self::Bert(_) => [before, after].iter().any(|c| c.is_ascii_punctuation() || is_chinese(*c)),
            // 's, 't, 're and so on are one word, whatever stands before them.
            Self::Gpt2(_) => match (Kind::of(before), Kind::of(after)) {
                (Some(left), Some(right)) => left != right && before != '\'',
                _ => false,
            },
            Self::None => false,
        }
    }

    /// The parts of a stretch, in order; together they are all of it.
    pub(super) fn parts<'a>(&self, stretch: &'a str) -> impl Iterator<Item = &'a str> {
        let mut rest = stretch;
        std::iter::from_fn(move || {
            let mut before = rest.chars().next()?;
            let end = rest.char_indices().skip(1).find(|&(_, c)| self.parts_at(std::mem::replace(&mut before, c), c));
            let (part, tail) = rest.split_at(end.map_or(rest.len(), |(at, _)| at));
            rest = tail;
            Some(part)
        })
    }

    /// Adds the tokens of a part; false where it is left to Hugging Face.
    pub(super) fn encode(&self, part: &str, tokens: &mut Vec<u32>) -> bool {
        match self {
            Self::Bert(pieces) => pieces.encode(part, tokens),
            Self::Gpt2(merges) => merges.encode(part, tokens),
            Self::None => false,
        }
    }
}

/// Around these BERT's normalizer puts spaces.
fn is_chinese(c: char) -> bool {
    matches!(
        u32::from(c),
        0x4e00..=0x9fff | 0x3400..=0x4dbf | 0x20000..=0x2a6df | 0x2a700..=0x2b73f | 0x2b740..=0x2b81f | 0x2b920..=0x2ceaf
            | 0xf900..=0xfaff | 0x2f800..=0x2fa1f
    )
}

/// Runs of GPT-2's pattern, as far as ASCII goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Letter,
    Digit,
    Sign,
}

impl Kind {
    fn of(c: char) -> Option<Self> {
        match c {
            'a'..='z' | 'A'..='Z' => Some(Self::Letter),
            '0'..='9' => Some(Self::Digit),
            c if c.is_ascii_punctuation() => Some(Self::Sign),
            _ => None,
        }
    }
}

/// BERT's pieces of words in ASCII.
#[derive(Debug)]
pub(super) struct WordPieces {
    lowercase: bool,
    unknown: u32,
    /// Characters of the longest word that is not unknown at once.
    most: usize,
    /// Bytes of the longest piece.
    longest: usize,
    first: HashMap<Box<str>, u32>,
    later: HashMap<Box<str>, u32>,
}

impl WordPieces {
    fn of(json: &Value) -> Option<Self> {
        let (normalizer, model) = (&json["normalizer"], &json["model"]);
        if normalizer["handle_chinese_chars"] != true || model["type"] != "WordPiece" {
            return None;
        }
        let prefix = model["continuing_subword_prefix"].as_str()?;
        let (mut first, mut later) = (HashMap::new(), HashMap::new());
        for (name, id) in model["vocab"].as_object()? {
            let id = u32::try_from(id.as_u64()?).ok()?;
            let add = |to: &mut HashMap<Box<str>, u32>, piece: &str| {
                if !piece.is_empty() && piece.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
                    to.insert(piece.into(), id);
                }
            };
            add(&mut first, name);
            name.strip_prefix(prefix).into_iter().for_each(|piece| add(&mut later, piece));
        }
        let unknown = u32::try_from(model["vocab"][model["unk_token"].as_str()?].as_u64()?).ok()?;
        Some(Self {
            lowercase: normalizer["lowercase"].as_bool()?,
            unknown,
            most: model["max_input_chars_per_word"].as_u64()? as usize,
            longest: first.keys().chain(later.keys()).map(|piece| piece.len()).max().unwrap_or(0),
            first,
            later,
        })
    }

    fn encode(&self, word: &str, tokens: &mut Vec<u32>) -> bool {
        if !word.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return false;
        }
        if word.len() > self.most {
            tokens.push(self.unknown);
            return true;
        }
        let lower = if self.lowercase { word.to_ascii_lowercase() } else { word.to_owned() };
        let (begin, mut rest) = (tokens.len(), &lower[..]);
        while !rest.is_empty() {
            let known = if rest.len() == lower.len() { &self.first } else { &self.later };
            let fits = (1..=rest.len().min(self.longest)).rev().find_map(|end| Some((end, *known.get(&rest[..end])?)));
            let Some((end, id)) = fits else {
                tokens.truncate(begin);
                tokens.push(self.unknown);
                return true;
            };
            tokens.push(id);
            rest = &rest[end..];
        }
        true
    }
}

/// Hashes a pair of tokens.
#[derive(Default)]
struct PairHasher(u64);

impl Hasher for PairHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    fn write_u64(&mut self, pair: u64) {
        self.0 = (self.0.rotate_left(5) ^ pair).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        self.0 ^= self.0 >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// GPT-2's byte-level merges.
#[derive(Debug)]
pub(super) struct Merges {
    bytes: Box<[u32; 256]>,
    /// Of a pair, the left one in the upper half: its rank.
    ranks: HashMap<u64, u32, BuildHasherDefault<PairHasher>>,
    /// By rank.
    merged: Vec<u32>,
}

fn pair(left: u32, right: u32) -> u64 {
    u64::from(left) << 32 | u64::from(right)
}

/// After the last, and of one that was merged away.
const NONE: u32 = u32::MAX;

impl Merges {
    fn of(model: &Value) -> Option<Self> {
        let plain =
            ["dropout", "continuing_subword_prefix", "end_of_word_suffix"].iter().all(|key| model[key].is_null());
        if model["type"] != "BPE" || !plain || model["ignore_merges"] == true {
            return None;
        }
        let id = |name: &str| u32::try_from(model["vocab"][name].as_u64()?).ok();
        let mut bytes = [NONE; 256];
        for c in '\0'..='\u{200}' {
            if let (Some(byte), Some(id)) = (byte_of(c), id(c.encode_utf8(&mut [0; 4]))) {
                bytes[usize::from(byte)] = id;
            }
        }
        if bytes.contains(&NONE) {
            return None;
        }
        let (mut ranks, mut merged) = (HashMap::default(), Vec::new());
        for (merge, rank) in model["merges"].as_array()?.iter().zip(0..) {
            let (left, right) = match merge {
                Value::String(both) => both.split_once(' ').filter(|(_, right)| !right.contains(' '))?,
                both => (both[0].as_str()?, both[1].as_str()?),
            };
            ranks.insert(pair(id(left)?, id(right)?), rank);
            merged.push(id(&format!("{left}{right}"))?);
        }
        Some(Self { bytes: Box::new(bytes), ranks, merged })
    }

    fn encode(&self, run: &str, tokens: &mut Vec<u32>) -> bool {
        let kind = run.chars().next().and_then(Kind::of);
        if kind.is_none() || run.len() >= NONE as usize || run.bytes().any(|byte| Kind::of(byte.into()) != kind) {
            return false;
        }
        let mut row: Vec<u32> = run.bytes().map(|byte| self.bytes[usize::from(byte)]).collect();
        if row.len() > 1 {
            self.merge(&mut row);
        }
        tokens.extend(row.into_iter().filter(|&token| token != NONE));
        true
    }

    /// Merges neighbours, the lowest rank first and of equals the leftmost; what was merged into its neighbour is [`NONE`].
    fn merge(&self, row: &mut [u32]) {
        let last = row.len() - 1;
        let mut next: Vec<u32> = (1..=last as u32).chain([NONE]).collect();
        let mut prev: Vec<u32> = [NONE].into_iter().chain(0..last as u32).collect();
        let entry = |rank: u32, at: u32| Reverse(u64::from(rank) << 32 | u64::from(at));
        let rank = |left: u32, right: u32| self.ranks.get(&pair(left, right)).copied();
        let first = row.windows(2).zip(0..).filter_map(|(two, at)| Some(entry(rank(two[0], two[1])?, at)));
        let mut queue: BinaryHeap<Reverse<u64>> = first.collect::<Vec<_>>().into();
        while let Some(Reverse(top)) = queue.pop() {
            let (at, new) = (top as u32, self.merged[(top >> 32) as usize]);
            let right = next[at as usize];
            if row[at as usize] == NONE || right == NONE {
                continue;
            }
            // An entry may be older than what stands there now.
            let now = rank(row[at as usize], row[right as usize]);
            if now.is_none_or(|now| self.merged[now as usize] != new) {
                continue;
            }
            row[at as usize] = new;
            row[right as usize] = NONE;
            let after = next[right as usize];
            next[at as usize] = after;
            if after != NONE {
                prev[after as usize] = at;
                rank(new, row[after as usize]).into_iter().for_each(|rank| queue.push(entry(rank, at)));
            }
            let before = prev[at as usize];
            if before != NONE {
                rank(row[before as usize], new).into_iter().for_each(|rank| queue.push(entry(rank, before)));
            }
        }
    }
}
