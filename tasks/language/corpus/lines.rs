//! Plain text and WikiText, cut into documents as it streams by.

use super::reader::{Inner, Input, Position, Tally};
use super::sources::Source;
use super::{CorpusConfig, Documents, Format, InvalidUtf8, PIECE};
use crate::DataError;
use crate::data::formats::unreadable;
use std::io::{self, Read};
use std::path::PathBuf;

/// A line longer than this is read in fragments.
const FRAGMENT: usize = 1 << 16;

/// Text at the start of a file in which a separator is looked for.
const HEAD: usize = 1 << 20;

/// Looked for where the settings name no separator.
const END_OF_TEXT: &str = "<|endoftext|>";

/// The unread part of a stream, of which some can be seen.
struct Window {
    input: Box<dyn Input>,
    buffer: Vec<u8>,
    at: usize,
    ended: bool,
    /// Of the first byte unread, in the text.
    offset: u64,
}

impl Window {
    fn new(input: Box<dyn Input>) -> Self {
        Self { input, buffer: Vec::new(), at: 0, ended: false, offset: 0 }
    }

    /// At least `wish` bytes, fewer only at the end of the text.
    fn look(&mut self, wish: usize) -> io::Result<&[u8]> {
        if self.buffer.len() - self.at < wish && !self.ended {
            self.buffer.drain(..self.at);
            self.at = 0;
            let room = wish.max(4 * FRAGMENT) as u64;
            while self.buffer.len() < wish && !self.ended {
                self.ended = self.input.by_ref().take(room).read_to_end(&mut self.buffer)? == 0;
            }
        }
        Ok(&self.buffer[self.at..])
    }

    fn skip(&mut self, bytes: usize) {
        self.at += bytes;
        self.offset += bytes as u64;
    }

    /// Goes on to an offset that may lie behind what can be seen.
    fn go_to(&mut self, offset: u64) -> io::Result<()> {
        let (step, seen) = (offset - self.offset, (self.buffer.len() - self.at) as u64);
        if step > seen {
            self.input.skip(step - seen)?;
        }
        self.at += step.min(seen) as usize;
        self.offset = offset;
        Ok(())
    }
}

/// The lines at the start of a text that is one document as far as can be seen there; `None` where a blank line or a mark stands
/// between two documents.
pub(super) fn lines_unless_cut(input: Box<dyn Input>) -> io::Result<Option<usize>> {
    let mut window = Window::new(input);
    let seen = window.look(HEAD + 1)?;
    let (head, whole) = (&seen[..seen.len().min(HEAD)], seen.len() <= HEAD);
    if find(head, END_OF_TEXT.as_bytes()).is_some() {
        return Ok(None);
    }
    let head = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    let lines = match head.iter().rposition(|&byte| byte == b'\n') {
        _ if whole => head.trim_ascii_end(),
        Some(end) => &head[..end],
        None => head,
    };
    let count = lines.split(|&byte| byte == b'\n').count();
    Ok((lines.is_empty() || !lines.split(|&byte| byte == b'\n').any(is_blank)).then_some(count))
}

/// What ends a document.
#[derive(Clone, Debug, PartialEq)]
enum Cut {
    File,
    Line,
    Paragraph,
    Separator(Vec<u8>),
    /// A line ` = Title = `; where the file has blank lines, only one that follows a blank line.
    Title {
        blanks: bool,
    },
}

/// A line, or a part of one that is long.
struct Fragment {
    /// Bytes of text.
    length: usize,
    /// Bytes to skip: with the line end or the separator.
    consumed: usize,
    ends_line: bool,
    ends_document: bool,
}

/// Reads documents of one file. After every document given out, its state is that of a reader that begins at [`Inner::position`].
pub(super) struct Lines {
    path: PathBuf,
    window: Window,
    cut: Cut,
    policy: InvalidUtf8,
    line: u64, // before the window
    inside_line: bool,
    after_blank: bool,
    document: String,
    inside_document: bool, // a piece of it was given out
    broken: bool,          // what follows of it is passed over
}

impl Lines {
    pub fn open(
        source: &Source,
        input: Box<dyn Input>,
        config: &CorpusConfig,
        from: &Position,
    ) -> Result<Self, DataError> {
        let broken = |error| unreadable(&source.path, &error);
        let mut window = Window::new(input);
        let head = window.look(HEAD).map_err(broken)?;
        let head = &head[..head.len().min(HEAD)];
        let marked = |mark: &str| find(head, mark.as_bytes()).is_some();
        let cut = match (source.format, &config.separator, config.documents) {
            (Format::Wikitext, ..) => {
                let lines = head.iter().rposition(|&byte| byte == b'\n').map_or(&[][..], |end| &head[..end]);
                Cut::Title { blanks: lines.split(|&byte| byte == b'\n').skip(1).any(is_blank) }
            }
            (_, Some(mark), _) => Cut::Separator(mark.clone().into()),
            (_, _, Documents::File) => Cut::File,
            (_, _, Documents::Line) => Cut::Line,
            (_, _, Documents::Auto) if marked(END_OF_TEXT) => Cut::Separator(END_OF_TEXT.into()),
            (_, _, Documents::Auto | Documents::Paragraph) => Cut::Paragraph,
        };
        let start = from.offset == 0 && head.starts_with(b"\xef\xbb\xbf");
        window.go_to(if start { 3 } else { from.offset }).map_err(broken)?;
        Ok(Self {
            path: source.path.clone(),
            window,
            cut,
            policy: config.invalid_utf8,
            line: from.line,
            inside_line: from.inside_line,
            after_blank: from.after_blank || from.offset == 0,
            document: String::new(),
            inside_document: from.inside_document,
            broken: false,
        })
    }

    /// The next line, or the next part of a long one; the cuts depend on nothing before it.
    fn fragment(&mut self) -> io::Result<Option<Fragment>> {
        let mark = if let Cut::Separator(mark) = &self.cut { &mark[..] } else { &[] };
        let window = self.window.look(FRAGMENT + mark.len() + 2)?;
        if window.is_empty() {
            return Ok(None);
        }
        let near = &window[..window.len().min(FRAGMENT)];
        let mut found = match near.iter().position(|&byte| byte == b'\n') {
            Some(at) => Fragment { length: at, consumed: at + 1, ends_line: true, ends_document: false },
            None => {
                let length = if window.len() <= FRAGMENT { window.len() } else { cut_at(window, FRAGMENT) };
                let ends_line = window.len() <= FRAGMENT;
                Fragment { length, consumed: length, ends_line, ends_document: false }
            }
        };
        let reach = if found.ends_line { found.length } else { found.length + mark.len().saturating_sub(1) };
        if let Some(at) = find(&window[..reach.min(window.len())], mark) {
            let rest = &window[at + mark.len()..];
            let line_end = if rest.starts_with(b"\r\n") { 2 } else { usize::from(rest.starts_with(b"\n")) };
            let consumed = at + mark.len() + line_end;
            found = Fragment { length: at, consumed, ends_line: line_end > 0, ends_document: true };
        }
        if found.ends_line && window[..found.length].ends_with(b"\r") {
            found.length -= 1;
        }
        Ok(Some(found))
    }

    /// Ends the document; `None` where nothing of it is to be given out.
    fn end(&mut self, tally: &mut Tally) -> Option<(String, bool)> {
        let (text, inside) = (std::mem::take(&mut self.document), std::mem::take(&mut self.inside_document));
        if std::mem::take(&mut self.broken) {
            return None;
        }
        let text = trimmed(text, !inside, true);
        if text.is_empty() {
            if !inside && matches!(self.cut, Cut::Line | Cut::Separator(_)) {
                tally.empty.add(|| self.place());
            }
            return None;
        }
        Some((text, inside))
    }

    fn place(&self) -> String {
        format!("{}:{}", self.path.display(), self.line.max(1))
    }

    /// Adds bytes of the window to the document.
    fn append(&mut self, bytes: usize, tally: &mut Tally) -> Result<(), DataError> {
        if self.broken {
            return Ok(());
        }
        if !self.inside_line && (self.inside_document || !self.document.is_empty()) {
            self.document.push('\n');
        }
        let text = &self.window.buffer[self.window.at..][..bytes];
        match str::from_utf8(text) {
            Ok(text) => self.document.push_str(text),
            Err(error) => {
                let (path, row) = (self.path.clone(), self.line + 1);
                let place = || format!("{}:{row}", path.display());
                match self.policy {
                    InvalidUtf8::Error => {
                        let problem = not_utf8(self.window.offset + error.valid_up_to() as u64);
                        return Err(DataError::Malformed { path, row, problem });
                    }
                    InvalidUtf8::Replace => {
                        for chunk in text.utf8_chunks() {
                            self.document.push_str(chunk.valid());
                            if !chunk.invalid().is_empty() {
                                self.document.push('\u{fffd}');
                                tally.replaced.add(place);
                            }
                        }
                    }
                    InvalidUtf8::Skip => {
                        tally.skipped.add(place);
                        self.broken = true;
                        self.document.clear();
                    }
                }
            }
        }
        Ok(())
    }
}

/// What is said of bytes that are not UTF-8.
pub(super) fn not_utf8(offset: u64) -> String {
    format!(
        "is not UTF-8 at byte {offset} of the text; convert the file (`iconv -f latin1 -t utf-8`), or set `invalid_utf8` to \
         `replace` or `skip`"
    )
}

impl Inner for Lines {
    fn next_piece(&mut self, tally: &mut Tally) -> Result<Option<(String, bool)>, DataError> {
        loop {
            let found = self.fragment();
            let Some(found) = found.map_err(|error| unreadable(&self.path, &error))? else {
                if self.window.offset == 0 {
                    tally.empty.add(|| self.path.display().to_string());
                }
                let separated = std::mem::replace(&mut self.cut, Cut::File); // what follows the last separator is no document
                let last = self.end(tally);
                self.cut = separated;
                return Ok(last);
            };
            let text = &self.window.buffer[self.window.at..][..found.length];
            let whole = !self.inside_line && found.ends_line;
            let blank = whole && is_blank(text);
            if let Cut::Title { blanks } = self.cut {
                let title = whole && (self.after_blank || !blanks) && is_title(text);
                let begun = !self.document.is_empty() || self.inside_document || self.broken;
                if title && begun {
                    match self.end(tally) {
                        None => continue,
                        document => return Ok(document),
                    }
                }
            }
            if self.document.len() + found.length + 1 > PIECE {
                let inside = self.inside_document;
                let text = trimmed(std::mem::take(&mut self.document), !inside, false);
                if !text.is_empty() {
                    self.inside_document = true;
                    return Ok(Some((text, inside)));
                }
            }
            self.append(found.length, tally)?;
            self.window.skip(found.consumed);
            self.line += u64::from(found.ends_line);
            self.inside_line = !found.ends_line;
            self.after_blank = blank;
            let ends = match self.cut {
                Cut::Line => found.ends_line,
                Cut::Paragraph => blank,
                Cut::Separator(_) => found.ends_document,
                Cut::File | Cut::Title { .. } => false,
            };
            if ends && let Some(document) = self.end(tally) {
                return Ok(Some(document));
            }
        }
    }

    fn position(&self) -> Option<Position> {
        Some(Position {
            offset: self.window.offset,
            line: self.line,
            inside_line: self.inside_line,
            after_blank: self.after_blank,
            inside_document: self.inside_document,
            ..Position::default()
        })
    }
}

fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

/// Whether a line is ` = Title = `; ` = = Section = = ` is not.
fn is_title(line: &[u8]) -> bool {
    let line = line.trim_ascii();
    let inner = line.strip_prefix(b"= ").and_then(|line| line.strip_suffix(b" ="));
    inner.is_some_and(|inner| !inner.trim_ascii().is_empty() && !inner.starts_with(b"= ") && !inner.ends_with(b" ="))
}

/// Where `mark` begins; nowhere where it is empty.
fn find(text: &[u8], mark: &[u8]) -> Option<usize> {
    let first = *mark.first()?;
    let mut from = 0;
    while let Some(at) = text[from..].iter().position(|&byte| byte == first) {
        if text[from + at..].starts_with(mark) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

/// Where text is cut that is longer than `most`: before white space in its second half, else between two characters.
pub(super) fn cut_at(text: &[u8], most: usize) -> usize {
    let near = &text[most / 2..most];
    if let Some(at) = near.iter().rposition(u8::is_ascii_whitespace) {
        return most / 2 + at;
    }
    let inside = |at: usize| text[at] & 0b1100_0000 == 0b1000_0000; // of a character's bytes all but the first
    (most.saturating_sub(3)..=most).rev().find(|&at| !inside(at)).unwrap_or(most)
}

/// A text without the white space at the ends that are asked for.
pub(super) fn trimmed(mut text: String, start: bool, end: bool) -> String {
    if end {
        text.truncate(text.trim_end().len());
    }
    if start {
        let space = text.len() - text.trim_start().len();
        text.drain(..space);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_title_is_a_heading_of_the_first_level() {
        for line in [" = Robert Boulter = ", "= Du Fu =", " = No. 20 = \r"] {
            assert!(is_title(line.as_bytes()), "{line}");
        }
        for line in
            [" = = Career = = ", " = = = Film = = = ", "=", " = = ", "a = b", " = x", "= Qualified = Record", ""]
        {
            assert!(!is_title(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn long_text_is_cut_before_white_space_and_never_inside_a_character() {
        assert_eq!(cut_at(b"aaaa bbbb cccc", 8), 4);
        assert_eq!(cut_at(b"aa bbbbbbbbbbb", 8), 8);
        let text = "aaaaaaa€€€".as_bytes(); // three bytes each
        assert_eq!(cut_at(text, 8), 7);
        assert_eq!(cut_at(text, 10), 10);
    }

    #[test]
    fn a_window_shows_what_it_was_asked_for_across_reads() {
        let bytes: Vec<u8> = (0..=255).cycle().take(1_000_000).collect();
        let mut window = Window::new(Box::new(io::Cursor::new(bytes.clone())));
        for step in [1, 70_000, 3, 300_000, 65_537] {
            let offset = window.offset as usize;
            assert!(window.look(step).unwrap().starts_with(&bytes[offset..offset + step]));
            window.skip(step);
        }
        window.go_to(999_999).unwrap();
        assert_eq!(window.look(10).unwrap(), &bytes[999_999..]);
        assert!(window.go_to(1_000_001).unwrap_err().to_string().contains("shorter"));
    }
}
