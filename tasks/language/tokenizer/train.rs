//! Training: words are counted, and the most frequent pair of neighbouring pieces is merged until the vocabulary is full.
//!
//! ```text
//! h u g s 5   p u n 12   …      counts of words, each a row of pieces
//! (u, n) 16   (h, u) 15  …      counts of pairs: the largest, and of equals the pair of the smallest numbers, becomes one
//! ```
//! Nothing depends on the order of a hash table: counts are sums, and the heap's order is total.

use super::bytes::byte_of;
use super::pieces::{Pieces, Seams};
use super::{BpeConfig, Characters, CharactersConfig, FIRST, NAMES, Texts, TokenizerConfig, WordpieceConfig};
use crate::DataError;
use crate::data::prepared::{Event, TOLD_EVERY, tell};
use serde_json::{Map, Value, json};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, HashMap};
use std::time::Instant;

/// Longest word that is learned from, characters; BERT takes longer ones for unknown.
const LONGEST: usize = 100;

/// The tokenizer that these settings and texts give, as it is kept.
pub(super) fn json(config: &TokenizerConfig, budget: u64, texts: Texts) -> Result<String, DataError> {
    match config {
        TokenizerConfig::Characters(c) => characters(c, budget, texts),
        TokenizerConfig::Wordpiece(c) => {
            let bare = wordpiece_json(&vocabulary(NAMES.iter().map(|name| (*name).to_owned())), c.lowercase);
            let words = words(&bare, budget, texts)?;
            Ok(wordpiece(c, &words))
        }
        TokenizerConfig::Bpe(c) => {
            let bytes = bytes();
            let bare = bpe_json(&vocabulary(NAMES.iter().map(|name| (*name).to_owned()).chain(bytes.clone())), &[]);
            let words = words(&bare, budget, texts)?;
            Ok(bpe(c, bytes, &words))
        }
        TokenizerConfig::Bytes | TokenizerConfig::File(_) => unreachable!("nothing is trained"),
    }
}

/// Calls `each` with texts until they are `budget` bytes long; the last is cut.
fn read(budget: u64, texts: Texts, mut each: impl FnMut(&str)) -> Result<(), DataError> {
    let (mut rows, mut bytes, mut told) = (0, 0, Instant::now());
    for text in texts {
        let text = text?;
        let room = budget - bytes;
        let end = if text.len() as u64 <= room { text.len() } else { text.floor_char_boundary(room as usize) };
        each(&text[..end]);
        (rows, bytes) = (rows + 1, bytes + text.len() as u64);
        if bytes >= budget {
            break;
        }
        if told.elapsed() >= TOLD_EVERY {
            told = Instant::now();
            tell(Event::Preparing { set: "tokenizer", rows, bytes, of: None });
        }
    }
    Ok(())
}

/// Counts the characters and keeps the most frequent; of equals the smallest code points.
fn characters(config: &CharactersConfig, budget: u64, texts: Texts) -> Result<String, DataError> {
    let mut counts: BTreeMap<char, u64> = BTreeMap::new();
    read(budget, texts, |text| {
        let mut count = |c| *counts.entry(c).or_default() += 1;
        if config.lowercase {
            text.chars().flat_map(char::to_lowercase).for_each(&mut count)
        } else {
            text.chars().for_each(&mut count)
        }
    })?;
    let mut characters: Vec<char> = counts.keys().copied().collect();
    characters.sort_by_key(|c| Reverse(counts[c])); // stable: equals stay in the order of their code points
    characters.truncate((config.vocab_size - FIRST) as usize);
    let known = Characters { lowercase: config.lowercase, characters, ids: HashMap::new() };
    Ok(serde_json::to_string(&known).expect("plain data"))
}

/// Words and how often each comes. Stretches are counted before they are normalized: there are far fewer different ones.
fn words(bare: &Value, budget: u64, texts: Texts) -> Result<BTreeMap<String, u64>, DataError> {
    let cutter = Pieces::of_json(bare.to_string().as_bytes()).expect("a vocabulary of single pieces");
    assert_ne!(cutter.seams(), Seams::None, "our own forms have seams");
    let mut stretches: HashMap<String, u64> = HashMap::new();
    read(budget, texts, |text| {
        for stretch in cutter.seams().cut(text).filter(|stretch| stretch.len() <= 4 * LONGEST) {
            match stretches.get_mut(stretch) {
                Some(count) => *count += 1,
                None => _ = stretches.insert(stretch.to_owned(), 1),
            }
        }
    })?;
    let mut words = BTreeMap::new();
    for (stretch, count) in stretches {
        for word in cutter.words(&stretch) {
            if word.chars().nth(LONGEST).is_none() {
                *words.entry(word).or_default() += count;
            }
        }
    }
    Ok(words)
}

/// Pieces, their numbers, and the words made of them.
struct Trainer {
    names: Vec<String>,
    ids: HashMap<String, u32>,
    words: Vec<(Vec<u32>, u64)>,
}

/// Two neighbouring pieces.
type Pair = (u32, u32);

impl Trainer {
    fn new(names: Vec<String>) -> Self {
        let ids = names.iter().cloned().zip(0..).collect();
        Self { names, ids, words: Vec::new() }
    }

    /// The number of a piece; a new one if it is new.
    fn number(&mut self, name: String) -> u32 {
        let next = self.names.len() as u32;
        *self.ids.entry(name).or_insert_with_key(|name| {
            self.names.push(name.clone());
            next
        })
    }

    /// Merges pairs until there are `size` pieces or no pair comes `least` times. Gives the pairs in the order of merging.
    fn merge(&mut self, size: usize, least: u64, joined: impl Fn(&str, &str) -> String) -> Vec<Pair> {
        let (mut counts, mut places): (HashMap<Pair, u64>, HashMap<Pair, Vec<usize>>) = Default::default();
        for (w, (pieces, count)) in self.words.iter().enumerate() {
            for pair in pairs(pieces) {
                *counts.entry(pair).or_default() += count;
                places.entry(pair).or_default().push(w);
            }
        }
        let mut heap: BinaryHeap<(u64, Reverse<Pair>)> = counts.iter().map(|(&pair, &n)| (n, Reverse(pair))).collect();
        let (mut merged, mut done) = (Vec::new(), BTreeSet::new());
        while self.names.len() < size {
            let Some((count, Reverse(pair))) = heap.pop() else { break };
            // What the heap says may be old: merging a neighbour lowers a count.
            let now = counts.get(&pair).copied().unwrap_or_default();
            if now != count {
                if now > 0 {
                    heap.push((now, Reverse(pair)));
                }
                continue;
            }
            if count < least.max(1) {
                break;
            }
            let new = self.number(joined(&self.names[pair.0 as usize], &self.names[pair.1 as usize]));
            if done.insert(pair) {
                merged.push(pair);
            }
            let mut grown = BTreeSet::new();
            for w in places.remove(&pair).unwrap_or_default() {
                let (pieces, n) = &mut self.words[w];
                if !pairs(pieces).any(|here| here == pair) {
                    continue; // gone, or named twice
                }
                pairs(pieces).for_each(|pair| *counts.get_mut(&pair).expect("it was counted") -= *n);
                *pieces = replaced(pieces, pair, new);
                for here in pairs(pieces) {
                    *counts.entry(here).or_default() += *n;
                    if here.0 == new || here.1 == new {
                        grown.insert(here);
                        places.entry(here).or_default().push(w);
                    }
                }
            }
            counts.remove(&pair).filter(|&left| left > 0).into_iter().for_each(|left| _ = counts.insert(pair, left));
            heap.extend(grown.into_iter().map(|pair| (counts[&pair], Reverse(pair))));
        }
        merged
    }
}

fn pairs(pieces: &[u32]) -> impl Iterator<Item = Pair> + '_ {
    pieces.windows(2).map(|two| (two[0], two[1]))
}

/// A word with every `pair` in it as one piece, from the left.
fn replaced(pieces: &[u32], pair: Pair, new: u32) -> Vec<u32> {
    let (mut out, mut i) = (Vec::with_capacity(pieces.len()), 0);
    while i < pieces.len() {
        let here = pieces.get(i + 1).is_some_and(|&next| (pieces[i], next) == pair);
        out.push(if here { new } else { pieces[i] });
        i += 1 + usize::from(here);
    }
    out
}

fn wordpiece(config: &WordpieceConfig, words: &BTreeMap<String, u64>) -> String {
    let (mut first, mut later): (BTreeMap<char, u64>, BTreeMap<char, u64>) = Default::default();
    for (word, count) in words {
        for (i, c) in word.chars().enumerate() {
            *(if i == 0 { &mut first } else { &mut later }).entry(c).or_default() += count;
        }
    }
    let count = |c: &char| first.get(c).unwrap_or(&0) + later.get(c).unwrap_or(&0);
    let mut alphabet: Vec<char> =
        first.keys().chain(later.keys()).copied().collect::<BTreeSet<_>>().into_iter().collect();
    alphabet.sort_by_key(|c| Reverse(count(c))); // stable
    alphabet.truncate(config.alphabet.min((config.vocab_size - FIRST) / 4) as usize);
    alphabet.sort_unstable();
    let names = NAMES.iter().map(|name| (*name).to_owned());
    let plain = alphabet.iter().map(|&c| String::from(c));
    let marked = alphabet.iter().filter(|c| later.contains_key(c)).map(|c| format!("##{c}"));
    let mut trainer = Trainer::new(names.chain(plain).chain(marked).collect());
    for (word, &count) in words {
        let piece = |(i, c): (usize, char)| {
            let name = if i == 0 { String::from(c) } else { format!("##{c}") };
            trainer.ids.get(&name).copied()
        };
        // A word with a character that has no token is unknown as a whole.
        if let Some(pieces) = word.chars().enumerate().map(piece).collect::<Option<Vec<u32>>>() {
            trainer.words.push((pieces, count));
        }
    }
    trainer.merge(config.vocab_size as usize, config.min_frequency, |left, right| {
        format!("{left}{}", right.strip_prefix("##").unwrap_or(right))
    });
    wordpiece_json(&vocabulary(trainer.names), config.lowercase).to_string()
}

/// The 256 pieces of one byte.
fn bytes() -> Vec<String> {
    let all: BTreeMap<u8, char> = ('\0'..='\u{200}').filter_map(|c| byte_of(c).map(|byte| (byte, c))).collect();
    all.into_values().map(String::from).collect()
}

fn bpe(config: &BpeConfig, bytes: Vec<String>, words: &BTreeMap<String, u64>) -> String {
    let names = NAMES.iter().map(|name| (*name).to_owned());
    let mut trainer = Trainer::new(names.chain(bytes).collect());
    for (word, &count) in words {
        let pieces = word.chars().map(|c| trainer.ids[c.encode_utf8(&mut [0; 4]) as &str]).collect();
        trainer.words.push((pieces, count));
    }
    let merged =
        trainer.merge(config.vocab_size as usize, config.min_frequency, |left, right| format!("{left}{right}"));
    let merges: Vec<[&str; 2]> =
        merged.iter().map(|&(left, right)| [left, right].map(|id| trainer.names[id as usize].as_str())).collect();
    bpe_json(&vocabulary(trainer.names.iter().cloned()), &merges).to_string()
}

/// Names and numbers.
pub(super) fn vocabulary(names: impl IntoIterator<Item = String>) -> Map<String, Value> {
    names.into_iter().zip(0_u32..).map(|(name, id)| (name, id.into())).collect()
}

/// The special tokens that a vocabulary has, as Hugging Face writes them.
fn added(vocabulary: &Map<String, Value>) -> Vec<Value> {
    let token = |name: &&str| {
        vocabulary.get(*name).map(|id| {
            json!({
                "id": id, "content": name, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false,
                "special": true,
            })
        })
    };
    let mut tokens: Vec<Value> = NAMES.iter().filter_map(token).collect();
    tokens.sort_by_key(|token| token["id"].as_u64());
    tokens
}

/// A `tokenizer.json` of word pieces under BERT's rules.
pub(super) fn wordpiece_json(vocabulary: &Map<String, Value>, lowercase: bool) -> Value {
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added(vocabulary),
        "normalizer": {
            "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null,
            "lowercase": lowercase,
        },
        "pre_tokenizer": { "type": "BertPreTokenizer" },
        "post_processor": {
            "type": "BertProcessing", "sep": ["[SEP]", vocabulary["[SEP]"]], "cls": ["[CLS]", vocabulary["[CLS]"]],
        },
        "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true },
        "model": {
            "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": LONGEST,
            "vocab": vocabulary,
        },
    })
}

/// A `tokenizer.json` of byte-level pairs under GPT-2's pattern.
fn bpe_json(vocabulary: &Map<String, Value>, merges: &[[&str; 2]]) -> Value {
    let byte_level = json!({ "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added(vocabulary),
        "normalizer": null,
        "pre_tokenizer": byte_level,
        "post_processor": {
            "type": "BertProcessing", "sep": ["[SEP]", vocabulary["[SEP]"]], "cls": ["[CLS]", vocabulary["[CLS]"]],
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "vocab": vocabulary, "merges": merges,
        },
    })
}
