//! What makes tokens of text: bytes, characters, or word pieces as everybody else cuts them.
//!
//! ```text
//! bytes        [PAD] [UNK] [CLS] [SEP] [MASK]  then one token a byte                                    vocabulary 261
//! characters   the same five                   then the characters of the training text, most frequent first
//! wordpiece    the same five                   then a, b, … ##a, ##b, … and what merging neighbours gives     (BERT)
//! bpe          the same five                   then 256 bytes and what merging neighbours gives               (GPT-2)
//! file         tokenizer.json or vocab.txt     whatever stands in it
//! ```
//! Paper    Sennrich et al. 2016 (byte-pair merges), arXiv:1508.07909; Wu et al. 2016 (word pieces), arXiv:1609.08144;
//!          Devlin et al. 2019 (BERT's rules), arXiv:1810.04805; Radford et al. 2019 (byte-level pairs)
//! Matches  Hugging Face `tokenizers`, which does the cutting: its BERT normalizer, its GPT-2 pattern, its file form
//! Departs  training is our own: theirs numbers the pieces `##a` in the order of a hash table, so that two trainings differ;
//!          a special token's name in a text is cut like any other text and never becomes that token
//!
//! Word pieces are trained as Hugging Face trains them: the most frequent pair of neighbours is merged until the vocabulary
//! is full, and of equally frequent pairs the one of smaller numbers. Text is cut at white space first and each piece between
//! is cut once and remembered, and words of ASCII in long pieces are cut by code of our own (`unbroken`), which changes no token.

mod bytes;
mod files;
mod pieces;
mod train;
mod unbroken;

use crate::data::prepared::{Request, stamp_of_settings};
use crate::{ConfigError, DataDir, DataError};
use bytes::in_word;
use pieces::Pieces;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

/// The tokens that stand for no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Specials {
    /// Fills a batch.
    pub pad: u32,
    /// What the vocabulary has no token for.
    pub unknown: u32,
    /// Begins a sequence.
    pub cls: u32,
    /// Ends a text.
    pub sep: u32,
    /// Stands where a token is hidden; [`u32::MAX`] where a file names none: see [`Tokenizer::require_mask`].
    pub mask: u32,
}

impl Specials {
    /// Of every tokenizer that is made here.
    const OURS: Self = Self { pad: 0, unknown: 1, cls: 2, sep: 3, mask: 4 };
}

/// Names of the special tokens of every tokenizer that is made here, by number.
const NAMES: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// Tokens before the first that stands for text.
const FIRST: u32 = NAMES.len() as u32;

/// Characters as tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CharactersConfig {
    /// Most tokens, the five special ones among them: the most frequent characters have one, others are unknown.
    pub vocab_size: u32,
    /// Whether capitals become small letters.
    pub lowercase: bool,
    /// Megabytes from the beginning of the training text in which characters are counted.
    pub train_megabytes: u32,
}

/// Word pieces, trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WordpieceConfig {
    /// Tokens, the five special ones among them; fewer where the text has too few words.
    pub vocab_size: u32,
    /// Whether capitals become small letters and accents go, as in BERT uncased.
    pub lowercase: bool,
    /// Least count of a pair that is merged.
    pub min_frequency: u64,
    /// Most characters that have a token, and never more than a quarter of the vocabulary; words with others are unknown.
    pub alphabet: u32,
    /// Megabytes from the beginning of the training text that are learned from.
    pub train_megabytes: u32,
}

/// Byte-level pairs, trained.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BpeConfig {
    /// Tokens, the five special ones and 256 bytes among them; fewer where the text has too few words.
    pub vocab_size: u32,
    /// Least count of a pair that is merged.
    pub min_frequency: u64,
    /// Megabytes from the beginning of the training text that are learned from.
    pub train_megabytes: u32,
}

/// A tokenizer that somebody made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FileConfig {
    /// `tokenizer.json` of Hugging Face, or a list of word pieces, one a line (`vocab.txt` of BERT); absolute, or below the
    /// data folder.
    pub path: PathBuf,
    /// `vocab.txt`: whether capitals become small letters and accents go; null is true. A `tokenizer.json` says so itself.
    #[serde(default)]
    pub lowercase: Option<bool>,
}

/// `tokenizer: bytes`, `tokenizer: { wordpiece: { vocab_size: 4096 } }`, `tokenizer: { file: { path: bert/vocab.txt } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenizerConfig {
    /// One token a byte.
    Bytes,
    /// One token a character.
    Characters(CharactersConfig),
    /// Word pieces trained on the training text.
    Wordpiece(WordpieceConfig),
    /// Byte-level pairs trained on the training text.
    Bpe(BpeConfig),
    /// Read from a file.
    File(FileConfig),
}

impl Default for CharactersConfig {
    fn default() -> Self {
        Self { vocab_size: 512, lowercase: false, train_megabytes: 200 }
    }
}

impl Default for WordpieceConfig {
    fn default() -> Self {
        Self { vocab_size: 8192, lowercase: true, min_frequency: 2, alphabet: 1000, train_megabytes: 200 }
    }
}

impl Default for BpeConfig {
    fn default() -> Self {
        Self { vocab_size: 8192, min_frequency: 2, train_megabytes: 200 }
    }
}

impl Default for TokenizerConfig {
    fn default() -> Self {
        Self::Wordpiece(WordpieceConfig::default())
    }
}

/// Word pieces of `bert-base-uncased`, the vocabulary of the papers.
const BERT: i64 = 30_522;

impl TokenizerConfig {
    /// What is wrong with it.
    pub fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut wrong = |problem: String, help: String| errors.push(ConfigError { key: "tokenizer", problem, help });
        let sizes = match self {
            Self::Bytes | Self::File(_) => None,
            Self::Characters(c) => Some(("characters", c.vocab_size, FIRST + 1, c.train_megabytes)),
            Self::Wordpiece(c) => Some(("wordpiece", c.vocab_size, 64, c.train_megabytes)),
            Self::Bpe(c) => Some(("bpe", c.vocab_size, FIRST + 256, c.train_megabytes)),
        };
        if let Some((name, size, least, megabytes)) = sizes {
            if !(least..=1 << 20).contains(&size) {
                let problem = format!("`{name}.vocab_size` is {size}, not between {least} and 2^20");
                wrong(problem, "use a number such as 8192; BERT has 30522".into());
            }
            if !(1..=20_000).contains(&megabytes) {
                let problem = format!("`{name}.train_megabytes` is {megabytes}, not between 1 and 20000");
                wrong(problem, "use 200: more text hardly moves a vocabulary".into());
            }
        }
        if let Self::Wordpiece(WordpieceConfig { alphabet: 0, .. }) = self {
            wrong("`wordpiece.alphabet` is 0, so every word is unknown".into(), "use 1000".into());
        }
        if let Self::File(file) = self
            && file.lowercase.is_some()
            && file.path.extension().is_some_and(|extension| extension == "json")
        {
            let problem = format!("`file.lowercase` does nothing with {}", file.path.display());
            wrong(problem, "remove it: a tokenizer.json says itself what becomes of capitals".into());
        }
        errors
    }

    /// Tokens there are, as far as the settings say; of a file, those of `bert-base-uncased`.
    pub fn vocab_size_hint(&self) -> i64 {
        match self {
            Self::Bytes => i64::from(FIRST) + 256,
            Self::Characters(c) => i64::from(c.vocab_size),
            Self::Wordpiece(c) => i64::from(c.vocab_size),
            Self::Bpe(c) => i64::from(c.vocab_size),
            Self::File(_) => BERT,
        }
    }

    /// Bytes of text that training reads; `None` where nothing is trained.
    fn budget(&self) -> Option<u64> {
        let megabytes = match self {
            Self::Bytes | Self::File(_) => return None,
            Self::Characters(c) => c.train_megabytes,
            Self::Wordpiece(c) => c.train_megabytes,
            Self::Bpe(c) => c.train_megabytes,
        };
        Some(u64::from(megabytes) * 1_000_000)
    }
}

/// Texts of a corpus, one after the other.
pub type Texts = Box<dyn Iterator<Item = Result<String, DataError>>>;

/// A vocabulary and the way text is cut into it.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    specials: Specials,
    form: Form,
    fingerprint: String,
    /// The file it was read from.
    file: Option<PathBuf>,
}

#[derive(Clone, Debug)]
enum Form {
    Bytes,
    Characters(Arc<Characters>),
    Pieces(Arc<Pieces>),
}

/// The characters that have a token.
#[derive(Debug, Serialize, Deserialize)]
struct Characters {
    lowercase: bool,
    characters: Vec<char>,
    #[serde(skip)]
    ids: HashMap<char, u32>,
}

impl Characters {
    fn of_json(json: &[u8]) -> Result<Self, serde_json::Error> {
        let mut read: Self = serde_json::from_slice(json)?;
        read.ids = read.characters.iter().copied().zip(FIRST..).collect();
        Ok(read)
    }

    fn encode(&self, text: &str) -> Vec<u32> {
        let id = |c: char| self.ids.get(&c).copied().unwrap_or(Specials::OURS.unknown);
        if self.lowercase {
            text.chars().flat_map(char::to_lowercase).map(id).collect()
        } else {
            text.chars().map(id).collect()
        }
    }

    fn character(&self, token: u32) -> Option<char> {
        self.characters.get(token.checked_sub(FIRST)? as usize).copied()
    }
}

impl Tokenizer {
    /// One token a byte, after the five special ones.
    pub fn bytes() -> Self {
        let fingerprint = blake3::hash(b"bytes").to_hex().to_string();
        Self { specials: Specials::OURS, form: Form::Bytes, fingerprint, file: None }
    }

    /// The tokenizer of these settings. One that is trained is trained once, on texts that `texts` begins anew, and kept among
    /// the prepared sets: `stamp` names the texts. Of two processes one trains and the other waits.
    pub fn obtain(
        data: &DataDir,
        config: &TokenizerConfig,
        stamp: &str,
        texts: &mut dyn FnMut() -> Result<Texts, DataError>,
    ) -> Result<Self, DataError> {
        let Some(budget) = config.budget() else {
            return match config {
                TokenizerConfig::File(file) => files::read(data, file),
                _ => Ok(Self::bytes()),
            };
        };
        let stamp = stamp_of_settings(&(stamp, config));
        let request = Request { family: "tokenizer", version: 1, stamp, parts: &["tokenizer"], documents: 1 };
        let set = data.prepared(&request, |writer| {
            let json = train::json(config, budget, texts()?)?;
            writer.row(0, 0, 0, &[json.as_bytes()])
        })?;
        let damaged = |why: String| DataError::Unreadable {
            path: set.folder.clone(),
            why: format!("{why}; delete the folder to train the tokenizer again"),
        };
        if set.parts[0].is_empty() {
            return Err(damaged("holds no tokenizer".into()));
        }
        Self::of_json(config, set.parts[0].document(0, 0)).map_err(damaged)
    }

    /// What [`train::json`] made with these settings.
    fn of_json(config: &TokenizerConfig, json: &[u8]) -> Result<Self, String> {
        let form = match config {
            TokenizerConfig::Characters(_) => {
                Form::Characters(Arc::new(Characters::of_json(json).map_err(|error| error.to_string())?))
            }
            _ => Form::Pieces(Arc::new(Pieces::of_json(json)?)),
        };
        let fingerprint = blake3::hash(json).to_hex().to_string();
        Ok(Self { specials: Specials::OURS, form, fingerprint, file: None })
    }

    /// Tokens are `0 .. vocab_size`.
    pub fn vocab_size(&self) -> usize {
        match &self.form {
            Form::Bytes => 256 + FIRST as usize,
            Form::Characters(known) => known.characters.len() + FIRST as usize,
            Form::Pieces(pieces) => pieces.vocab_size(),
        }
    }

    /// The special tokens.
    pub fn specials(&self) -> Specials {
        self.specials
    }

    /// The token that stands where one is hidden; an error that names the file where it has none.
    pub fn require_mask(&self) -> Result<u32, DataError> {
        if self.specials.mask != u32::MAX {
            return Ok(self.specials.mask);
        }
        let problem = format!(
            "has no mask token, which masked language modelling needs: add one of {} to it (as an added token that is \
             special, or as a line of a vocab.txt)",
            files::MASK.join(", ")
        );
        Err(DataError::Malformed { path: self.file.clone().unwrap_or_default(), row: 0, problem })
    }

    /// Whether a token stands for no text.
    pub fn is_special(&self, token: u32) -> bool {
        match &self.form {
            Form::Pieces(pieces) => pieces.is_special(token),
            _ => token < FIRST,
        }
    }

    /// The tokens of a text, no special ones added.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        match &self.form {
            Form::Bytes => text.bytes().map(|byte| u32::from(byte) + FIRST).collect(),
            Form::Characters(known) => known.encode(text),
            Form::Pieces(pieces) => pieces.encode(text),
        }
    }

    /// The tokens of many texts, on every processor core.
    pub fn encode_all(&self, texts: &[String]) -> Vec<Vec<u32>> {
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(texts.len());
        if workers <= 1 {
            return texts.iter().map(|text| self.encode(text)).collect();
        }
        let next = std::sync::atomic::AtomicUsize::new(0);
        let work = || {
            let take = || next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            std::iter::repeat_with(take)
                .map_while(|i| texts.get(i).map(|text| (i, self.encode(text))))
                .collect::<Vec<_>>()
        };
        let mut all = vec![Vec::new(); texts.len()];
        std::thread::scope(|scope| {
            let workers: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
            for worker in workers {
                let done = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                done.into_iter().for_each(|(i, tokens)| all[i] = tokens);
            }
        });
        all
    }

    /// Whether `token` continues the word that `before` belongs to: for masks of whole words. A word is a run of letters and
    /// digits; every other sign is a word of its own.
    pub fn continues(&self, before: u32, token: u32) -> bool {
        let plain = |token: u32| !self.is_special(token);
        match &self.form {
            Form::Bytes => [before, token].iter().all(|&t| plain(t) && in_word((t - FIRST) as u8)),
            Form::Characters(known) => {
                [before, token].iter().all(|&t| known.character(t).is_some_and(char::is_alphanumeric))
            }
            Form::Pieces(pieces) => plain(before) && plain(token) && pieces.continues(before, token),
        }
    }

    /// Text of tokens, special ones left out.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let mut plain = tokens.iter().copied().filter(|&token| !self.is_special(token));
        match &self.form {
            Form::Bytes => {
                let bytes: Vec<u8> = plain.map(|token| (token - FIRST) as u8).collect();
                String::from_utf8_lossy(&bytes).into_owned()
            }
            Form::Characters(known) => plain.filter_map(|token| known.character(token)).collect(),
            Form::Pieces(pieces) => pieces.decode(&plain.by_ref().collect::<Vec<_>>()),
        }
    }

    /// A token as it is written in its vocabulary: `##ing`, `Ġthe`, `0x61`.
    pub fn name(&self, token: u32) -> String {
        match &self.form {
            Form::Pieces(pieces) => pieces.name(token),
            _ if token < FIRST => NAMES[token as usize].into(),
            Form::Bytes => format!("0x{:02x}", token - FIRST),
            Form::Characters(known) => known.character(token).map_or_else(String::new, String::from),
        }
    }

    /// Whether every text can be had back from its tokens.
    pub fn is_lossless(&self) -> bool {
        match &self.form {
            Form::Bytes => true,
            Form::Characters(_) => false,
            Form::Pieces(pieces) => pieces.is_lossless(),
        }
    }

    /// Hash of everything that decides how text is cut: part of a run's identity, and of a prepared corpus' name.
    pub fn fingerprint(&self) -> String {
        self.fingerprint.clone()
    }
}

#[cfg(test)]
pub(crate) mod tests;
