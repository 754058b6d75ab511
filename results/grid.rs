//! Tables of text: columns with their cells, for a terminal and as Markdown.

use crate::text;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, ContentLineStyle, LineStyle, TableStyle};

/// Rules above and below and under the header, as in print.
const BOOK: TableStyle = TableStyle::new()
    .top_border(LineStyle::none().fill('─').junction('─'))
    .header_lines(ContentLineStyle::none().junction(' '))
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .content_lines(ContentLineStyle::none().junction(' '))
    .bottom_border(LineStyle::none().fill('─').junction('─'));

/// One column of a printed table.
pub(crate) struct Column<T> {
    title: &'static str,
    /// Columns with a higher number go first where the terminal is narrow; 0 stays.
    rank: u8,
    right: bool,
    cell: fn(&T) -> String,
}

pub(crate) const fn left<T>(title: &'static str, rank: u8, cell: fn(&T) -> String) -> Column<T> {
    Column { title, rank, right: false, cell }
}

pub(crate) const fn right<T>(title: &'static str, rank: u8, cell: fn(&T) -> String) -> Column<T> {
    Column { title, rank, right: true, cell }
}

/// Three digits and no more decimals than those need.
pub(crate) fn significant(value: Option<f64>) -> String {
    match value {
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
        None => "-".into(),
    }
}

/// A cell: whatever a name holds, one line that can be printed.
fn shown(cell: String) -> String {
    text::line(&cell).into_owned()
}

/// Titles and cells of those columns that say anything.
pub(crate) struct Grid {
    pub(crate) titles: Vec<String>,
    right: Vec<bool>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    pub(crate) fn new<T>(columns: &[Column<T>], rows: &[T], rank: u8) -> Self {
        let says = |column: &&Column<T>| rows.iter().any(|row| !(column.cell)(row).is_empty());
        let kept: Vec<_> = columns.iter().filter(|column| column.rank <= rank).filter(says).collect();
        Self {
            titles: kept.iter().map(|column| column.title.to_string()).collect(),
            right: kept.iter().map(|column| column.right).collect(),
            rows: rows.iter().map(|row| kept.iter().map(|column| shown((column.cell)(row))).collect()).collect(),
        }
    }

    /// With columns known only from the records: the first `left` hold words, the others numbers.
    pub(crate) fn of(titles: Vec<String>, left: usize, rows: Vec<Vec<String>>) -> Self {
        let right = (0..titles.len()).map(|i| i >= left).collect();
        let all = |cells: Vec<String>| cells.into_iter().map(shown).collect::<Vec<_>>();
        Self { right, titles: all(titles), rows: rows.into_iter().map(all).collect() }
    }

    /// With as many columns as fit into `width`, and the number of those left out.
    pub(crate) fn fitting<T>(columns: &[Column<T>], rows: &[T], width: usize) -> (Self, usize) {
        let all = Self::new(columns, rows, u8::MAX);
        let most = columns.iter().map(|column| column.rank).max().unwrap_or(0);
        let mut ranks = (0..=most).rev().map(|rank| Self::new(columns, rows, rank));
        let fits = ranks.find(|grid| grid.width() <= width).unwrap_or_else(|| Self::new(columns, rows, 0));
        let hidden = all.titles.len() - fits.titles.len();
        (fits, hidden)
    }

    fn width(&self) -> usize {
        let column = |i: usize| {
            let cells = self.rows.iter().map(|row| row[i].chars().count());
            cells.chain([self.titles[i].chars().count()]).max().unwrap_or(0) + 3
        };
        (0..self.titles.len()).map(column).sum::<usize>().saturating_sub(1)
    }

    pub(crate) fn terminal(&self, width: usize, colour: Option<&dyn Fn(usize) -> Option<Color>>) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(BOOK).force_no_tty().set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(u16::try_from(width).unwrap_or(u16::MAX)).set_header(self.titles.iter().map(Cell::new));
        if colour.is_some() {
            table.enforce_styling();
        }
        for (i, row) in self.rows.iter().enumerate() {
            let paint = |cell: Cell| match colour.and_then(|of| of(i)) {
                Some(Color::Green) => cell.fg(Color::Green).add_attribute(Attribute::Bold),
                Some(colour) => cell.fg(colour),
                None => cell,
            };
            table.add_row(row.iter().map(|text| paint(Cell::new(text))));
        }
        for (i, right) in self.right.iter().enumerate() {
            if let (true, Some(column)) = (right, table.column_mut(i)) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.trim_fmt()
    }

    pub(crate) fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let escape = |cell: &String| text::markdown_inline(cell);
        let rule = |right: &bool| if *right { "---:".to_string() } else { "---".to_string() };
        let mut all = line(self.titles.iter().map(escape).collect());
        all += &line(self.right.iter().map(rule).collect());
        for row in &self.rows {
            all += &line(row.iter().map(escape).collect());
        }
        all
    }
}

/// Three digits that count: `0.0312`, `1.25`, `1234`, `1.23e-7`.
pub(crate) fn digits(value: f64) -> String {
    let size = value.abs();
    match size {
        0.0 => "0".into(),
        1000.0..1e7 => format!("{value:.0}"),
        1e-4..1000.0 => {
            // The power after rounding to three digits: 0.09999 is 0.100.
            let power = format!("{size:.2e}").split_once('e').and_then(|(_, power)| power.parse::<i32>().ok());
            format!("{value:.*}", (2 - power.unwrap_or(0)).clamp(0, 9) as usize)
        }
        _ => format!("{value:.2e}"),
    }
}

/// Breaks a text at spaces.
pub(crate) fn wrap(text: &str, width: usize) -> String {
    let (mut lines, mut line, text) = (Vec::new(), String::new(), text::line(text));
    for word in text.split_whitespace() {
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(std::mem::take(&mut line));
        }
        if !line.is_empty() {
            line.push(' ');
        }
        line += word;
    }
    lines.push(line);
    lines.join("\n")
}
