//! What a byte is to those who cut text.

/// Whether a byte of UTF-8 belongs to a word: letters, digits, and all that is not ASCII.
pub(super) fn in_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || !byte.is_ascii()
}

/// The byte that a character of a byte-level token stands for: printable ones themselves, the others from U+0100 on (GPT-2).
pub(super) fn byte_of(c: char) -> Option<u8> {
    let printable = |byte: u8| matches!(byte, b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff);
    match u32::from(c) {
        code @ 0..=255 => Some(code as u8).filter(|&byte| printable(byte)),
        code => (0..=255).filter(|&byte| !printable(byte)).nth(code as usize - 256),
    }
}
