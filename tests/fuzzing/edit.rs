//! Changes of bytes: some know nothing of what they change, some know lines, numbers and brackets, some binary fields.

use proptest::prelude::*;

/// One change. Places are shares of the input, in 2^32nds, so that an edit fits any input and shrinks towards its beginning.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "each variant says what its fields are")]
pub enum Edit {
    /// One bit is turned over.
    Flip { at: u32, bit: u8 },
    /// One byte becomes another.
    Byte { at: u32, byte: u8 },
    /// Everything from here on is gone.
    End { at: u32 },
    /// A stretch is gone.
    Remove { at: u32, bytes: u16 },
    /// A stretch stands there more than once.
    Repeat { at: u32, bytes: u16, times: u8 },
    /// Bytes come in between.
    Insert { at: u32, bytes: Vec<u8> },
    /// A stretch is overwritten by another of the same input.
    Copy { at: u32, from: u32, bytes: u16 },
    /// A field of 1, 2, 4 or 8 bytes gets an extreme value.
    Field { at: u32, value: u64, log_width: u8, big_endian: bool },
    /// The decimal number at this place, or the next one after it, becomes this text.
    Number { at: u32, text: &'static str },
    /// The quoted string, or the word, at this place or after it becomes this text.
    Word { at: u32, text: &'static str },
    /// A line is gone.
    RemoveLine { at: u32 },
    /// A line stands there twice.
    RepeatLine { at: u32 },
    /// Brackets open and never close, or close and never opened.
    Nest { at: u32, bracket: u8, depth: u16 },
}

/// Numbers at the ends of their types, and those that are none.
const NUMBERS: [&str; 24] = [
    "0",
    "-1",
    "1",
    "2",
    "127",
    "128",
    "255",
    "256",
    "65535",
    "65536",
    "2147483647",
    "2147483648",
    "-2147483648",
    "4294967295",
    "4294967296",
    "3000000000",
    "9223372036854775807",
    "-9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e400",
    "0.1",
    "NaN",
    "00",
];

/// Words that mean something to one format or another.
const WORDS: [&str; 18] = [
    "null",
    "true",
    "\"\"",
    "[]",
    "{}",
    "''",
    "~",
    "-",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "../../x",
    "&a",
    "*a",
    "!!int",
    "<<",
    "\t",
    "\r",
    "\u{feff}",
];

/// Values of binary fields.
fn extreme() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(u64::MAX),
        Just(i64::MAX as u64),
        Just(i64::MIN as u64),
        Just(u64::from(u32::MAX)),
        Just(0x7fff_ffff),
        Just(0x8000_0000),
        Just(0xffff),
        Just(0x7fff),
        Just(0xff),
        Just(0x7f),
        (0_u32..64).prop_map(|power| 1 << power),
        any::<u64>(),
    ]
}

fn edit() -> impl Strategy<Value = Edit> {
    let at = || any::<u32>();
    prop_oneof![
        3 => (at(), 0_u8..8).prop_map(|(at, bit)| Edit::Flip { at, bit }),
        3 => (at(), any::<u8>()).prop_map(|(at, byte)| Edit::Byte { at, byte }),
        1 => at().prop_map(|at| Edit::End { at }),
        2 => (at(), 1_u16..64).prop_map(|(at, bytes)| Edit::Remove { at, bytes }),
        1 => (at(), 1_u16..2048).prop_map(|(at, bytes)| Edit::Remove { at, bytes }),
        2 => (at(), 1_u16..64, 1_u8..4).prop_map(|(at, bytes, times)| Edit::Repeat { at, bytes, times }),
        1 => (at(), 1_u16..1024, 1_u8..32).prop_map(|(at, bytes, times)| Edit::Repeat { at, bytes, times }),
        2 => (at(), prop::collection::vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Edit::Insert { at, bytes }),
        2 => (at(), at(), 1_u16..256).prop_map(|(at, from, bytes)| Edit::Copy { at, from, bytes }),
        5 => (at(), extreme(), 0_u8..4, any::<bool>())
            .prop_map(|(at, value, log_width, big_endian)| Edit::Field { at, value, log_width, big_endian }),
        4 => (at(), prop::sample::select(&NUMBERS[..])).prop_map(|(at, text)| Edit::Number { at, text }),
        3 => (at(), prop::sample::select(&WORDS[..])).prop_map(|(at, text)| Edit::Word { at, text }),
        1 => at().prop_map(|at| Edit::RemoveLine { at }),
        1 => at().prop_map(|at| Edit::RepeatLine { at }),
        1 => (at(), prop::sample::select(&b"[]{}()\"'<"[..]), 1_u16..300)
            .prop_map(|(at, bracket, depth)| Edit::Nest { at, bracket, depth }),
    ]
}

/// One to six edits.
pub fn edits() -> impl Strategy<Value = Vec<Edit>> {
    prop::collection::vec(edit(), 1..7)
}

/// The input with the edits made, one after the other.
pub fn apply(input: &[u8], edits: &[Edit]) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for edit in edits {
        edit.make(&mut bytes);
    }
    bytes
}

impl Edit {
    fn make(&self, bytes: &mut Vec<u8>) {
        let length = bytes.len();
        // A place in the input, its end included; and a stretch that begins there.
        let place = |at: u32| ((u64::from(at) * (length as u64 + 1)) >> 32) as usize;
        let stretch = |at: u32, bytes: u16| place(at)..(place(at) + usize::from(bytes)).min(length);
        match self {
            Self::Flip { at, bit } => {
                if let Some(byte) = bytes.get_mut(place(*at)) {
                    *byte ^= 1 << bit;
                }
            }
            Self::Byte { at, byte } => {
                if let Some(slot) = bytes.get_mut(place(*at)) {
                    *slot = *byte;
                }
            }
            Self::End { at } => bytes.truncate(place(*at)),
            Self::Remove { at, bytes: n } => drop(bytes.drain(stretch(*at, *n))),
            Self::Repeat { at, bytes: n, times } => {
                let stretch = stretch(*at, *n);
                let again = bytes[stretch.clone()].repeat(usize::from(*times));
                drop(bytes.splice(stretch.end..stretch.end, again));
            }
            Self::Insert { at, bytes: new } => drop(bytes.splice(place(*at)..place(*at), new.iter().copied())),
            Self::Copy { at, from, bytes: n } => {
                let from = bytes[stretch(*from, *n)].to_vec();
                let to = place(*at)..(place(*at) + from.len()).min(length);
                let fits = to.len();
                bytes[to].copy_from_slice(&from[..fits]);
            }
            Self::Field { at, value, log_width, big_endian } => {
                let width = 1 << log_width;
                let field = if *big_endian {
                    value.to_be_bytes()[8 - width..].to_vec()
                } else {
                    value.to_le_bytes()[..width].to_vec()
                };
                let to = place(*at)..(place(*at) + width).min(length);
                let fits = to.len();
                bytes[to].copy_from_slice(&field[..fits]);
            }
            Self::Number { at, text } => {
                let part = |byte: &u8| byte.is_ascii_digit() || b"+-.eE_".contains(byte);
                let digit = bytes[place(*at)..].iter().position(u8::is_ascii_digit).map(|step| place(*at) + step);
                replace(bytes, digit, part, text);
            }
            Self::Word { at, text } => {
                let part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-\"'.".contains(byte);
                let word = bytes[place(*at)..].iter().position(part).map(|step| place(*at) + step);
                replace(bytes, word, part, text);
            }
            Self::RemoveLine { at } => drop(bytes.drain(line(bytes, place(*at)))),
            Self::RepeatLine { at } => {
                let line = line(bytes, place(*at));
                let again = bytes[line.clone()].to_vec();
                drop(bytes.splice(line.end..line.end, again));
            }
            Self::Nest { at, bracket, depth } => {
                drop(bytes.splice(place(*at)..place(*at), std::iter::repeat_n(*bracket, usize::from(*depth))));
            }
        }
    }
}

/// Replaces the run of bytes around `at` that are `part` of it.
fn replace(bytes: &mut Vec<u8>, at: Option<usize>, part: impl Fn(&u8) -> bool, text: &str) {
    let Some(at) = at else { return };
    let start = bytes[..at].iter().rposition(|byte| !part(byte)).map_or(0, |before| before + 1);
    let end = bytes[at..].iter().position(|byte| !part(byte)).map_or(bytes.len(), |step| at + step);
    drop(bytes.splice(start..end.max(start), text.bytes()));
}

/// The line around a place, with its end.
fn line(bytes: &[u8], at: usize) -> std::ops::Range<usize> {
    let start = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |before| before + 1);
    let end = bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |step| at + step + 1);
    start..end
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIDDLE: u32 = 1 << 31;

    fn made(edit: Edit) -> String {
        String::from_utf8_lossy(&apply(b"one 12\ntwo 34\n", &[edit])).into_owned()
    }

    #[test]
    fn every_edit_does_what_its_name_says() {
        assert_eq!(made(Edit::Flip { at: 0, bit: 1 }), "mne 12\ntwo 34\n");
        assert_eq!(made(Edit::Byte { at: 0, byte: b'x' }), "xne 12\ntwo 34\n");
        assert_eq!(made(Edit::End { at: MIDDLE }), "one 12\n");
        assert_eq!(made(Edit::Remove { at: 0, bytes: 4 }), "12\ntwo 34\n");
        assert_eq!(made(Edit::Repeat { at: 0, bytes: 4, times: 2 }), "one one one 12\ntwo 34\n");
        assert_eq!(made(Edit::Insert { at: MIDDLE, bytes: b"!".into() }), "one 12\n!two 34\n");
        assert_eq!(made(Edit::Copy { at: 0, from: MIDDLE, bytes: 3 }), "two 12\ntwo 34\n");
        let field = |big_endian| made(Edit::Field { at: 0, value: 0x6162, log_width: 1, big_endian });
        assert_eq!((field(true), field(false)), ("abe 12\ntwo 34\n".into(), "bae 12\ntwo 34\n".into()));
        assert_eq!(made(Edit::Number { at: MIDDLE, text: "-1" }), "one 12\ntwo -1\n");
        assert_eq!(made(Edit::Word { at: 0, text: "null" }), "null 12\ntwo 34\n");
        assert_eq!(made(Edit::RemoveLine { at: 0 }), "two 34\n");
        assert_eq!(made(Edit::RepeatLine { at: MIDDLE }), "one 12\ntwo 34\ntwo 34\n");
        assert_eq!(made(Edit::Nest { at: u32::MAX, bracket: b'[', depth: 3 }), "one 12\ntwo 34\n[[[");
    }

    proptest! {
        #[test]
        fn edits_fit_any_input(input: Vec<u8>, edits in edits()) {
            apply(&input, &edits);
        }
    }
}
