//! Synthetic pairs: two documents of meaningless words, each naming one topic a few times.
//!
//! ```text
//! first topic   uniform          second topic   the same when the label is 1, else uniform among the others
//! document      words of 2 to 8 small letters, uniform, for a length drawn from half of the longest
//!               to the longest, which the last word may fall short of; the topic's name, one or
//!               two capital letters, at random places among them
//! ```

use crate::Split;
use crate::core::rng::{Purpose, Stream};
use crate::data::characters::Vocabulary;

/// What is said of synthetic pairs, wherever they come from.
pub(super) const NOTE: &str =
    "the pairs are synthetic: label 1 is \"same topic\", not a citation, and scores say nothing about AAN";
/// How the ids of synthetic documents begin in a file.
pub(super) const ID: &str = "synthetic-";
/// Topics that two capital letters can name.
pub(super) const MOST_TOPICS: u64 = 26 * 26;

/// The pairs that these numbers draw.
#[derive(Clone, Debug)]
pub(super) struct Drawn {
    /// Topics there are.
    pub topics: u64,
    /// Times a document names its topic.
    pub mentions: usize,
    /// Documents are from half of this to this long.
    pub length: u64,
    /// Seed of all pairs.
    pub seed: u64,
}

impl Drawn {
    /// The shortest length that has room for the mentions and a few words.
    pub fn least_length(&self) -> u64 {
        2 * (20 + 3 * self.mentions as u64)
    }

    /// 1 for one of every two neighbours, a coin says which.
    pub fn label(&self, split: Split, index: u64) -> u8 {
        let coin = Stream::new(self.seed, Purpose::of_split("retrieval label", split), index / 2).below(2);
        (coin ^ (index % 2)) as u8
    }

    /// The two documents of a pair.
    pub fn documents(&self, split: Split, index: u64) -> [Vec<u8>; 2] {
        let mut stream = Stream::new(self.seed, Purpose::of_split("retrieval", split), index);
        let first = stream.below(self.topics);
        let second = match self.label(split, index) {
            1 => first,
            _ => (first + 1 + stream.below(self.topics - 1)) % self.topics,
        };
        [first, second].map(|topic| self.document(topic, &mut stream))
    }

    fn document(&self, topic: u64, stream: &mut Stream) -> Vec<u8> {
        let name = self.name(topic);
        let half = self.length / 2;
        let room = half + stream.below(self.length - half + 1) - (self.mentions * (name.len() + 1)) as u64;
        let (mut words, mut length) = (Vec::new(), 0);
        loop {
            let letters = 2 + stream.below(7);
            if length + letters + 1 > room {
                break;
            }
            length += letters + 1;
            words.push((0..letters).map(|_| b'a' + stream.below(26) as u8).collect::<Vec<u8>>());
        }
        for _ in 0..self.mentions {
            let at = stream.below(words.len() as u64 + 1) as usize;
            words.insert(at, name.clone());
        }
        words.join(&b' ')
    }

    /// Capital letters: one, or two where one does not suffice.
    fn name(&self, topic: u64) -> Vec<u8> {
        let letter = |number: u64| b'A' + number as u8;
        if self.topics <= 26 { vec![letter(topic)] } else { vec![letter(topic / 26), letter(topic % 26)] }
    }
}

/// The topic that a document names.
pub(super) fn topic(document: &str) -> Option<&str> {
    document.split(' ').find(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_uppercase()))
}

/// The characters there are: no document need be read to know them.
pub(super) fn vocabulary() -> Vocabulary {
    Vocabulary::of([' '].into_iter().chain('a'..='z').chain('A'..='Z'))
}
