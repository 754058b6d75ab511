//! Characters as tokens, as S4 has them for the text tasks of Long Range Arena (Gu et al. 2022).
//!
//! ```text
//! 0 <pad>   1 <unk>   2 <eos>   3 … the characters that come min_freq times in train, the most frequent first
//! ```
//! A character is a Unicode code point; bytes that are not UTF-8 are read as U+FFFD. Characters are counted once, when
//! a data set is prepared, and the counts are part of the prepared set: a later start, whatever its `min_freq`, reads
//! no text.

use crate::DataError;
use crate::data::prepared::{Part, Writer};

/// How often each code point comes.
pub(crate) struct Census(Vec<u64>);

impl Census {
    /// The name of its part in a prepared set.
    pub const PART: &str = "characters";

    /// Nothing counted yet.
    pub fn new() -> Self {
        Self(vec![0; char::MAX as usize + 1])
    }

    /// Counts a text.
    pub fn count(&mut self, text: &[u8]) {
        String::from_utf8_lossy(text).chars().for_each(|c| self.0[c as usize] += 1);
    }

    /// Writes one row for each character that was seen, the most frequent first, then by code point. A row has the
    /// documents of any other row of its set: the first holds code point and count, the others nothing.
    pub fn write(&self, writer: &mut Writer, part: usize, documents: usize) -> Result<(), DataError> {
        for (code, &count) in self.0.iter().enumerate().filter(|&(_, &count)| count > 0) {
            let row = [(code as u64).to_le_bytes(), count.to_le_bytes()].concat();
            let mut all: Vec<&[u8]> = vec![&[]; documents];
            all[0] = &row;
            writer.row(part, u64::MAX - count, 0, &all)?;
        }
        Ok(())
    }
}

/// The characters that have a number of their own.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    ids: Vec<i64>,    // by code point
    known: Vec<char>, // by id - FIRST
}

impl Vocabulary {
    /// Stands for every other character.
    pub const UNKNOWN: i64 = 1;
    /// Ends a text.
    pub const END: i64 = 2;
    const FIRST: i64 = 3;

    /// Of the part that a [`Census`] wrote: characters that come `min_freq` times.
    pub fn of_part(part: &Part, min_freq: u64) -> Self {
        let number = |bytes: &[u8]| bytes.try_into().map(u64::from_le_bytes).unwrap_or_default();
        let rows = (0..part.len()).map(|row| part.document(row, 0));
        let counted = rows.filter_map(|row| row.split_at_checked(8)).map(|(code, count)| (number(code), number(count)));
        Self::of(counted.filter(|&(_, n)| n >= min_freq).filter_map(|(code, _)| char::from_u32(code as u32)))
    }

    /// Of these characters, numbered in their order.
    pub fn of(characters: impl Iterator<Item = char>) -> Self {
        let known: Vec<char> = characters.collect();
        let mut ids = vec![Self::UNKNOWN; known.iter().map(|&c| c as usize + 1).max().unwrap_or(0)];
        known.iter().zip(Self::FIRST..).for_each(|(&c, id)| ids[c as usize] = id);
        Self { ids, known }
    }

    /// Tokens there are, the three special ones included.
    pub fn size(&self) -> i64 {
        Self::FIRST + self.known.len() as i64
    }

    /// The number of a character.
    pub fn id(&self, c: char) -> i64 {
        self.ids.get(c as usize).copied().unwrap_or(Self::UNKNOWN)
    }

    /// The character of a number; `None` for the special ones.
    pub fn character(&self, id: i64) -> Option<char> {
        self.known.get(usize::try_from(id - Self::FIRST).ok()?).copied()
    }

    /// The head of a text and `<eos>`, at most `max_length` tokens together.
    pub fn encode(&self, text: &[u8], max_length: usize) -> Vec<i64> {
        let room = max_length - 1;
        let head = &text[..text.len().min(4 * room)]; // no character takes more than four bytes
        let ids = String::from_utf8_lossy(head).chars().take(room).map(|c| self.id(c)).collect::<Vec<_>>();
        ids.into_iter().chain([Self::END]).collect()
    }
}

/// Bytes as tokens, as LRA has them: `id = byte + 1`, 0 pads; the head of a text, at most `max_length` tokens.
pub(crate) fn bytes(text: &[u8], max_length: usize) -> Vec<i64> {
    text.iter().take(max_length).map(|&byte| i64::from(byte) + 1).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::DataDir;
    use crate::data::prepared::Request;

    #[test]
    fn a_census_comes_back_from_its_prepared_part_with_any_least_frequency() {
        let folder = tempfile::tempdir().unwrap();
        let request = Request { family: "c", version: 1, stamp: "s".into(), parts: &[Census::PART], documents: 2 };
        let set = DataDir(folder.path().into()).prepared(&request, |writer| {
            let mut census = Census::new();
            census.count("zz\u{1F600} é é b".as_bytes());
            census.count(b"b\xff");
            census.write(writer, 0, 2)
        });
        let part = &set.unwrap().parts[0];
        let known = |min_freq| Vocabulary::of_part(part, min_freq).known.iter().collect::<String>();
        assert_eq!(known(1), " bzé\u{FFFD}\u{1F600}");
        assert_eq!(known(2), " bzé");
        assert_eq!(known(4), "");
    }

    #[test]
    fn numbers_and_characters_are_each_others_inverse_and_unknown_ones_are_one() {
        let vocabulary = Vocabulary::of("aé\u{1F600}".chars());
        assert_eq!(vocabulary.size(), 6);
        assert!("aé\u{1F600}".chars().all(|c| vocabulary.character(vocabulary.id(c)) == Some(c)));
        assert_eq!([vocabulary.id('b'), vocabulary.id(char::MAX)], [Vocabulary::UNKNOWN; 2]);
        assert_eq!([0, 1, 2, 6].map(|id| vocabulary.character(id)), [None; 4]);
    }

    #[test]
    fn a_text_is_cut_between_characters_and_its_end_stands_within_the_length() {
        let vocabulary = Vocabulary::of("aé\u{1F600}".chars());
        assert_eq!(vocabulary.encode("a\u{1F600}\u{1F600}é".as_bytes(), 4), [3, 5, 5, 2]);
        assert_eq!(vocabulary.encode("a".as_bytes(), 4), [3, 2]);
        assert_eq!(vocabulary.encode(b"\xff\xff\xff\xff\xffa", 4), [1, 1, 1, 2]);
        assert_eq!(bytes(b"\x00\xffa", 2), [1, 256]);
    }
}
