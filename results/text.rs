//! Text of records, manifests and configs on its way to a reader. Whoever wrote it, it stays text: it moves no cursor, is no mark-up
//! and no formula.
//!
//! ```text
//! terminal   characters that are not shown or move what is shown become their escape, \u{1b}; in one line, breaks become spaces
//! SVG        the same: XML has no such characters
//! Markdown   besides, `<` and `&` become entities, and `\`, `|` and what would make a link are escaped; where a line begins, also
//!            what would make it a heading, a quotation, a list, a rule or a block of code
//! CSV        besides, `'` goes before text that a spreadsheet would take for a formula; numbers stay as they are
//! JSON       its own escape, \u001b
//! ```
//! Sources  Unicode 16.0 (general categories Cc, Cf, Zl, Zp and noncharacters); XML 1.0, §2.2; CommonMark 0.31;
//!          OWASP, CSV Injection

use std::borrow::Cow;
use std::fmt::Write;

/// Whether a character is not shown, or moves, turns round or hides what is shown.
fn is_hidden(c: char) -> bool {
    let code = u32::from(c);
    c.is_control()
        || matches!(code,
            0xAD | 0x34F | 0x61C | 0x115F | 0x1160 | 0x17B4 | 0x17B5 | 0x180B..=0x180F | 0x200B..=0x200F | 0x2028..=0x202E
            | 0x2060..=0x206F | 0x3164 | 0xFDD0..=0xFDEF | 0xFEFF | 0xFFA0 | 0xFFF0..=0xFFFB
            | 0x1BCA0..=0x1BCA3 | 0x1D173..=0x1D17A | 0xE0000..=0xE0FFF)
        || matches!(code & 0xFFFF, 0xFFFE | 0xFFFF)
}

/// One line that can be printed: breaks and tabs are spaces, and what is not shown is its escape.
pub fn line(text: &str) -> Cow<'_, str> {
    shown(text, |c| matches!(c, '\n' | '\r' | '\t').then_some(' '))
}

/// The same of a text whose line breaks stay.
pub fn lines(text: &str) -> Cow<'_, str> {
    shown(text, |c| match c {
        '\n' => Some('\n'),
        '\t' => Some(' '),
        _ => None,
    })
}

fn shown(text: &str, instead: impl Fn(char) -> Option<char>) -> Cow<'_, str> {
    // A line break that stays is nothing to do.
    if text.chars().all(|c| !is_hidden(c) || instead(c) == Some(c)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match instead(c) {
            Some(other) => out.push(other),
            None if is_hidden(c) => out.extend(c.escape_unicode()),
            None => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// A line of Markdown that reads as the text, whatever is in it: a paragraph, an item of a list.
pub(crate) fn markdown(text: &str) -> String {
    begun(&markdown_inline(text))
}

/// The same of a text whose line breaks stay.
pub(crate) fn markdown_lines(text: &str) -> String {
    let all = escaped(&lines(text));
    all.split('\n').map(begun).collect::<Vec<_>>().join("\n")
}

/// The same of text that no line begins with: a cell of a table, words of an image.
pub(crate) fn markdown_inline(text: &str) -> String {
    escaped(&line(text))
}

fn escaped(text: &str) -> String {
    let (mut out, mut before) = (String::with_capacity(text.len()), ' ');
    for (at, c) in text.char_indices() {
        let ends = |word: &str| text[..at].len() >= word.len() && ends_with(&text[..at], word);
        match c {
            '<' => out += "&lt;",
            '&' => out += "&amp;",
            // `@` makes names and addresses of mail links.
            '\\' | '|' | '@' => out.extend(['\\', c]),
            // `[text](address)` and `[label]: address`.
            '(' | ':' if before == ']' => out.extend(['\\', c]),
            // Addresses are links without brackets too.
            ':' if text[at..].starts_with("://") => out.extend(['\\', c]),
            '.' if ends("www") => out.extend(['\\', c]),
            _ => out.push(c),
        }
        before = c;
    }
    out
}

/// Whether the text ends with these ASCII letters, large or small.
fn ends_with(text: &str, word: &str) -> bool {
    text.as_bytes()[text.len() - word.len()..].eq_ignore_ascii_case(word.as_bytes())
}

/// An escaped line whose first sign begins no block: `# heading`, `> quotation`, `- item`, `1. item`, `---`, `===`, a fence of code.
fn begun(line: &str) -> String {
    let text = line.trim_start_matches(' ');
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let at = match text.chars().next() {
        Some('`' | '~' | '#' | '>' | '-' | '+' | '*' | '=' | '_') => 0,
        Some('0'..='9')
            if text[digits..].starts_with(['.', ')']) && !text[digits + 1..].starts_with(char::is_alphanumeric) =>
        {
            digits
        }
        _ => return line.into(),
    };
    let at = line.len() - text.len() + at;
    format!("{}\\{}", &line[..at], &line[at..])
}

/// A field of a CSV file, before it is quoted.
pub(crate) fn field(text: &str) -> Cow<'_, str> {
    let text = line(text);
    // With their full-width forms, which some spreadsheets read alike.
    let begins = text.trim_start().starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']);
    let number = text.parse::<f64>().is_ok_and(f64::is_finite);
    if begins && !number { Cow::Owned(format!("'{text}")) } else { text }
}

/// JSON whose strings show no hidden character: between its strings JSON has none but line breaks.
pub fn json(text: &str) -> Cow<'_, str> {
    let stays = |c: char| c == '\n' || !is_hidden(c);
    if text.chars().all(stays) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if stays(c) {
            out.push(c);
        } else {
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                write!(out, "\\u{unit:04x}").expect("a string takes all");
            }
        }
    }
    Cow::Owned(out)
}

/// A CSV file of these rows, every field by [`field`].
pub(crate) fn csv<R, F>(rows: R) -> Result<String, csv::Error>
where
    R: IntoIterator<Item = F>,
    F: IntoIterator<Item: AsRef<str>>,
{
    let mut writer = csv::Writer::from_writer(Vec::new());
    for row in rows {
        writer.write_record(row.into_iter().map(|cell| field(cell.as_ref()).into_owned()))?;
    }
    let bytes = writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_not_shown_is_its_escape_and_all_else_stays() {
        assert_eq!(line("a\u{1b}[31mb\0\u{7f}\u{9b}"), "a\\u{1b}[31mb\\u{0}\\u{7f}\\u{9b}");
        assert_eq!(line("x\u{202e}y\u{200f}\u{2066}\u{feff}"), "x\\u{202e}y\\u{200f}\\u{2066}\\u{feff}");
        assert_eq!((line("a\r\nb\tc"), lines("a\nb\tc\r")), ("a  b c".into(), Cow::Borrowed("a\nb c\\u{d}")));
        for plain in ["S4 · Δ −0.5 ᵃ ‖ żółć 変換 🦀", ""] {
            assert!(matches!(line(plain), Cow::Borrowed(same) if same == plain));
        }
    }

    #[test]
    fn markdown_has_no_tags_links_or_cells_of_a_text() {
        assert_eq!(
            markdown("<script>&lt; | \\ [a](javascript:b) [c]: d"),
            "&lt;script>&amp;lt; \\| \\\\ [a]\\(javascript:b) [c]\\: d"
        );
        assert_eq!(markdown("0.5 [0.4, 0.6] (2/3)"), "0.5 [0.4, 0.6] (2/3)");
        assert_eq!((markdown("a\n# b"), markdown_lines("a\n# b")), ("a # b".into(), "a\n\\# b".into()));
    }

    #[test]
    fn no_line_of_a_text_begins_a_section_and_no_address_is_a_link() {
        for text in ["# h", "> q", "- i", "+ i", "* i", "```", "~~~", "===", "---", "___", "  # h"] {
            let escaped = text.replacen(text.trim_start(), &format!("\\{}", text.trim_start()), 1);
            assert_eq!(markdown(text), escaped);
            assert_eq!(markdown_lines(&format!("a\n{text}")), format!("a\n{escaped}"));
            assert_eq!(markdown_inline(text), text, "a cell begins no line");
        }
        assert_eq!(
            (markdown("12. i"), markdown("3) i"), markdown("0.5 of")),
            ("12\\. i".into(), "3\\) i".into(), "0.5 of".into())
        );
        assert_eq!(markdown("see https://x.y, WWW.x.y, a@b.c @d"), "see https\\://x.y, WWW\\.x.y, a\\@b.c \\@d");
        assert_eq!(markdown_inline("http://x"), "http\\://x");
        assert_eq!(markdown("on mlm: 0.5"), "on mlm: 0.5");
    }

    #[test]
    fn a_formula_is_text_and_a_number_is_a_number() {
        for text in ["=1+1", "+1+1", "-2+3", "@SUM(1)", " =1", "\t=1", "－1", "-inf", "-", "+nan"] {
            assert!(field(text).starts_with('\''), "{text:?}: {}", field(text));
        }
        for text in ["-0.25", "+3", "-1e-7", "a=1", "lr=0.1", "", "−0.5"] {
            assert_eq!(field(text), text);
        }
    }

    proptest! {
        #[test]
        fn any_text_stays_text(text in any::<String>()) {
            for said in [line(&text), lines(&text)] {
                prop_assert!(!said.chars().any(|c| c != '\n' && is_hidden(c)), "{said:?}");
            }
            prop_assert!(!line(&text).contains('\n'));
            let once = line(&text);
            prop_assert_eq!(line(&once), once.as_ref());
            prop_assert!(!markdown(&text).contains('<'));
            prop_assert!(!markdown_lines(&text).lines().any(|line| line.trim_start().starts_with(['#', '>', '`', '~', '='])));
            prop_assert!(!markdown(&text).replace("\\://", "").contains("://"));
            let value = serde_json::json!({ "text": text, "list": [text] });
            let shown = serde_json::to_string_pretty(&value).expect("plain data");
            let shown = json(&shown);
            prop_assert!(!shown.chars().any(|c| c != '\n' && is_hidden(c)), "{shown:?}");
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&shown).expect("still JSON"), value);
        }
    }
}
