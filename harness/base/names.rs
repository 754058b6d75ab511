//! Names that a config may give: to the sweep, which becomes a folder and file names, and to its entries, which become words of
//! tables, figures and CSV files.

/// Longest name of a sweep. Folders hold 255 bytes, of which suffixes and temporary names need some.
const LONGEST_NAME: usize = 100;
/// Longest label of an entry, in characters: it has to fit a table.
const LONGEST_LABEL: usize = 100;
/// Marks that a label may contain besides letters, digits and spaces. Left out are those with a meaning in Markdown tables, HTML,
/// shells or `--filter`: | < > ` " \ $ & and the like.
const MARKS: &str = "-_.,:;/=+*%#()[]~^@!?'";

/// What is wrong with `name` as the name of a sweep; `None` where it is good. It becomes a folder, file names and an argument.
pub fn name_problem(name: &str) -> Option<String> {
    let foreign = name.chars().find(|c| !(c.is_ascii_alphanumeric() || "-_.".contains(*c)));
    if name.is_empty() {
        Some("is empty".into())
    } else if let Some(c) = foreign {
        Some(format!("contains {}", shown(c)))
    } else if name.starts_with(['.', '-']) {
        Some(format!("begins with `{}` (it would be a hidden file or an option)", &name[..1]))
    } else if name.len() > LONGEST_NAME {
        Some(format!("has {} characters, more than {LONGEST_NAME}", name.len()))
    } else {
        None
    }
}

/// What is wrong with `label` as the name of a mixer's or task's entry; `None` where it is good.
pub fn label_problem(label: &str) -> Option<String> {
    let length = label.chars().count();
    let Some(first) = label.chars().next() else { return Some("is empty".into()) };
    if let Some(c) = label.chars().find(|c| !may_stand_in_label(*c)) {
        Some(format!("contains {}", shown(c)))
    } else if !first.is_alphanumeric() {
        Some(format!("begins with {} (a spreadsheet or a command line could take it for more than text)", shown(first)))
    } else if label.ends_with(' ') {
        Some("ends with a space".into())
    } else if length > LONGEST_LABEL {
        Some(format!("has {length} characters, more than {LONGEST_LABEL}"))
    } else {
        None
    }
}

/// What a name of a sweep may look like, for help texts.
pub const NAME_HELP: &str =
    "use letters, digits, `-`, `_` and `.`, at most 100 characters, the first of them not `-` or `.`";
/// What a label may look like, for help texts.
pub const LABEL_HELP: &str = "use letters, digits, spaces and marks such as - _ . / = ( ), at most 100 characters, the first of them a letter or digit";

fn may_stand_in_label(c: char) -> bool {
    match c.is_ascii() {
        true => c.is_ascii_alphanumeric() || c == ' ' || MARKS.contains(c),
        false => is_printable(c),
    }
}

/// Whether `c` shows as itself: no control character, no mark that turns the direction of text, no invisible or private one.
fn is_printable(c: char) -> bool {
    // Behind a letter, so that accents that join it count as printable.
    format!("x{c}").escape_debug().count() == 2
}

/// A character in a message, by its code where it cannot be shown.
fn shown(c: char) -> String {
    if is_printable(c) || matches!(c, '"' | '\'' | '\\') { format!("`{c}`") } else { format!("U+{:04X}", c as u32) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sweep_s_name_is_good_where_the_store_and_the_command_line_take_it() {
        for good in ["quick", "a", "2024", "lra_small-2.1", &"x".repeat(100)] {
            assert_eq!(name_problem(good), None, "{good}");
            assert!(results_takes(good), "{good}");
        }
        for bad in ["", "-rf", ".hidden", "..", "a/b", "../evil", "a b", "ü", "a\0b", "a\nb", &"x".repeat(101)] {
            assert!(name_problem(bad).is_some(), "{bad:?}");
        }
    }

    /// What passes here must pass in the store.
    fn results_takes(name: &str) -> bool {
        let folder = tempfile::tempdir().unwrap();
        results::Store::open(folder.path()).unwrap().manifest(name).is_ok()
    }

    #[test]
    fn a_label_is_plain_text_that_no_table_takes_for_more() {
        let good = [
            "attention",
            "S4 (diag)",
            "deltanet -1..1",
            "selective-copying/copy_tokens=32",
            "vandermonde DD",
            "Δ × 2",
            "e\u{301}tude",
            "注意",
            &"x".repeat(100),
        ];
        for label in good {
            assert_eq!(label_problem(label), None, "{label}");
        }
        let bad = [
            "",
            " a",
            "a ",
            "=cmd()",
            "+1",
            "-x",
            "@x",
            "a\tb",
            "a\nb",
            "\u{1b}[31mred",
            "a\u{7}b",
            "a\0b",
            "a\u{202e}b",
            "a\u{200f}b",
            "a\u{200b}b",
            "a\u{a0}b",
            "a\u{feff}b",
            "a\u{e000}b",
            "a\u{9b}31m",
            "<script>",
            "a|b",
            "a`b",
            "a\"b",
            "a\\b",
            "a & b",
            &"x".repeat(101),
        ];
        for label in bad {
            assert!(label_problem(label).is_some(), "{label:?}");
        }
        assert_eq!(label_problem("a\u{202e}b").unwrap(), "contains U+202E");
    }
}
