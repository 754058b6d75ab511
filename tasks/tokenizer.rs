//! What makes tokens of text.

use serde::{Deserialize, Serialize};

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
    /// Stands where a token is hidden.
    pub mask: u32,
}

/// A vocabulary and the way text is cut into it.
#[derive(Clone, Debug)]
pub struct Tokenizer {
    specials: Specials,
}

impl Tokenizer {
    /// One token a byte, after the five special ones.
    pub fn bytes() -> Self {
        Self { specials: Specials { pad: 0, unknown: 1, cls: 2, sep: 3, mask: 4 } }
    }

    /// Tokens are `0 .. vocab_size`.
    pub fn vocab_size(&self) -> usize {
        256 + 5
    }

    /// The special tokens.
    pub fn specials(&self) -> Specials {
        self.specials
    }

    /// Whether a token stands for no text.
    pub fn is_special(&self, token: u32) -> bool {
        token < 5
    }

    /// The tokens of a text, no special ones added.
    pub fn encode(&self, text: &str) -> Vec<u32> {
        text.bytes().map(|byte| u32::from(byte) + 5).collect()
    }

    /// Whether `token` continues the word that `before` belongs to: for masks of whole words.
    pub fn continues(&self, before: u32, token: u32) -> bool {
        [before, token].iter().all(|t| *t >= 5 && !((*t - 5) as u8).is_ascii_whitespace())
    }

    /// Text of tokens, special ones left out.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let bytes: Vec<u8> = tokens.iter().filter(|t| !self.is_special(**t)).map(|t| (*t - 5) as u8).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Hash of everything that decides how text is cut: part of a run's identity, and of a prepared corpus' name.
    pub fn fingerprint(&self) -> String {
        blake3::hash(b"bytes").to_hex().to_string()
    }
}
