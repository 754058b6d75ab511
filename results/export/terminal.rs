//! Text for a terminal: as many columns as fit, every note once.

use crate::export::exporter::{ExportError, Exporter};
use crate::grid::wrap;
use crate::table::Table;
use crate::table::section::{Part, Section, Tone};
use crate::text;
use comfy_table::Color;

pub(crate) struct Terminal {
    /// Its columns, 40 or more.
    pub(crate) width: usize,
    pub(crate) colour: bool,
}

impl Terminal {
    /// Everything that is printed of a sweep.
    pub(crate) fn document(&self, table: &Table) -> String {
        let mut parts = Vec::new();
        if !table.question.is_empty() {
            parts.push(text::lines(table.question.trim()).into_owned());
        }
        let mut said: Vec<&String> = Vec::new();
        for section in table.sections.iter().filter(|section| [Part::Main, Part::Appendix].contains(&section.part)) {
            let text = self.text(section, &said);
            said.extend(&section.notes);
            if !text.is_empty() {
                parts.push(text);
            }
        }
        parts.extend(table.warnings.iter().map(|warning| wrap(&format!("warning: {warning}"), self.width)));
        if !table.findings.is_empty() {
            parts.push(table.findings.iter().map(|said| wrap(said, self.width)).collect::<Vec<_>>().join("\n"));
        }
        parts.join("\n\n") + "\n"
    }

    /// A section, without the notes that have been said.
    fn text(&self, section: &Section, said: &[&String]) -> String {
        let mut lines = Vec::new();
        let (grid, hidden) = section.grid.fitting(self.width);
        if !grid.is_empty() {
            // A caption says what a table is; without one its title does.
            lines.extend(section.caption.is_empty().then(|| section.title.to_string()));
            let paint = |i: usize| section.tones.get(i).and_then(|tone| colour(*tone));
            lines.push(grid.terminal(self.width, (self.colour && !section.tones.is_empty()).then_some(&paint)));
        }
        let notes: Vec<&String> = section.notes.iter().filter(|note| !said.contains(note)).collect();
        if !section.caption.is_empty() {
            let named = if notes.is_empty() { &section.includes[..] } else { &[] };
            let includes = if named.is_empty() { String::new() } else { format!(" Includes {}.", named.join(", ")) };
            lines.push(wrap(&(section.caption_of(&grid) + &includes), self.width));
        }
        lines.extend(notes.into_iter().map(|note| wrap(note, self.width)));
        lines.extend(section.data.is_some().then(|| columns_left_out(hidden, section.name)).flatten());
        lines.join("\n")
    }
}

/// How many columns a narrow terminal has left out, and where they are.
fn columns_left_out(hidden: usize, file: &str) -> Option<String> {
    match hidden {
        0 => None,
        1 => Some(format!("1 more column in {file}.csv.")),
        n => Some(format!("{n} more columns in {file}.csv.")),
    }
}

fn colour(tone: Tone) -> Option<Color> {
    match tone {
        Tone::Best => Some(Color::Green),
        Tone::AtFloor => Some(Color::Yellow),
        Tone::Unscored => Some(Color::Red),
        Tone::Plain => None,
    }
}

impl Exporter for Terminal {
    fn ending(&self) -> &'static str {
        "txt"
    }

    fn section(&self, section: &Section) -> Result<Vec<u8>, ExportError> {
        Ok(self.text(section, &[]).into_bytes())
    }
}
