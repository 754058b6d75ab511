//! Documents of any length, in pieces.

use super::PIECE;
use super::lines::{cut_at, trimmed};

/// A long text on its way out in pieces.
#[derive(Default)]
pub(super) struct Long {
    text: String,
    at: usize,
}

impl Long {
    /// Takes a document; false where it is empty.
    pub fn begin(&mut self, text: String) -> bool {
        *self = Self { text: trimmed(text, true, true), at: 0 };
        !self.text.is_empty()
    }

    pub fn next_piece(&mut self) -> Option<(String, bool)> {
        let (rest, continues) = (&self.text[self.at..], self.at > 0);
        if rest.len() <= PIECE {
            let whole = std::mem::take(self);
            let text = if continues { whole.text[whole.at..].to_owned() } else { whole.text };
            return (!text.is_empty()).then_some((text, continues));
        }
        let cut = cut_at(rest.as_bytes(), PIECE);
        let piece = rest[..cut].to_owned();
        self.at += cut;
        Some((piece, continues))
    }

    pub fn is_over(&self) -> bool {
        self.text.is_empty()
    }
}
