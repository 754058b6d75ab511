//! Tables: columns with their cells, printed on a terminal and as Markdown, or as data for files.

use crate::text;
use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, ContentLineStyle, LineStyle, TableStyle};
use std::fmt;

/// Rules above and below and under the header, as in print.
const BOOK: TableStyle = TableStyle::new()
    .top_border(LineStyle::none().fill('─').junction('─'))
    .header_lines(ContentLineStyle::none().junction(' '))
    .header_separator(LineStyle::none().fill('─').junction('─'))
    .content_lines(ContentLineStyle::none().junction(' '))
    .bottom_border(LineStyle::none().fill('─').junction('─'));

/// The name of a column in files, and its value there.
type Field<T> = (&'static str, fn(&T) -> Value);

/// One column of a table: what it says in print, what it holds in a file of data, or both.
pub(crate) struct Column<T> {
    title: &'static str,
    /// Columns with a higher number go first where the terminal is narrow; 0 stays.
    rank: u8,
    right: bool,
    text: Option<fn(&T) -> String>,
    /// In full precision.
    field: Option<Field<T>>,
}

pub(crate) const fn left<T>(title: &'static str, rank: u8, text: fn(&T) -> String) -> Column<T> {
    Column { title, rank, right: false, text: Some(text), field: None }
}

pub(crate) const fn right<T>(title: &'static str, rank: u8, text: fn(&T) -> String) -> Column<T> {
    Column { title, rank, right: true, text: Some(text), field: None }
}

/// A column of files alone.
pub(crate) const fn field<T>(name: &'static str, value: fn(&T) -> Value) -> Column<T> {
    Column { title: "", rank: 0, right: false, text: None, field: Some((name, value)) }
}

impl<T> Column<T> {
    /// The same, in files too.
    pub(crate) const fn in_files(self, name: &'static str, value: fn(&T) -> Value) -> Self {
        Self { field: Some((name, value)), ..self }
    }
}

/// A number or a word in full precision.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Missing,
    Word(String),
    Count(u64),
    Number(f64),
    Flag(bool),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => Ok(()),
            Self::Word(word) => write!(f, "{word}"),
            Self::Count(n) => write!(f, "{n}"),
            Self::Number(number) => write!(f, "{number}"),
            Self::Flag(flag) => write!(f, "{flag}"),
        }
    }
}

impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Missing, Into::into)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl From<u64> for Value {
    fn from(n: u64) -> Self {
        Self::Count(n)
    }
}

impl From<usize> for Value {
    fn from(n: usize) -> Self {
        Self::Count(n as u64)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<&str> for Value {
    fn from(word: &str) -> Self {
        Self::Word(word.into())
    }
}

impl From<String> for Value {
    fn from(word: String) -> Self {
        Self::Word(word)
    }
}

/// Named columns of data, for files.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Frame {
    pub(crate) columns: Vec<String>,
    pub(crate) rows: Vec<Vec<Value>>,
}

impl Frame {
    /// Those of the columns that are in files.
    pub(crate) fn new<T>(columns: &[Column<T>], rows: &[T]) -> Self {
        let fields: Vec<_> = columns.iter().filter_map(|column| column.field).collect();
        let values = |row: &T| fields.iter().map(|(_, value)| value(row)).collect();
        Self {
            columns: fields.iter().map(|(name, _)| name.to_string()).collect(),
            rows: rows.iter().map(values).collect(),
        }
    }

    /// With another column at the end.
    pub(crate) fn push(&mut self, name: String, values: impl Iterator<Item = Value>) {
        self.columns.push(name);
        self.rows.iter_mut().zip(values).for_each(|(row, value)| row.push(value));
    }
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

/// A column of a printed table.
#[derive(Clone, Debug, PartialEq)]
struct Head {
    title: String,
    rank: u8,
    right: bool,
}

/// Titles and cells of those columns that say anything.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Grid {
    heads: Vec<Head>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    pub(crate) fn new<T>(columns: &[Column<T>], rows: &[T]) -> Self {
        let printed = columns.iter().filter_map(|column| Some((column, column.text?)));
        let kept: Vec<_> = printed.filter(|(_, text)| rows.iter().any(|row| !text(row).is_empty())).collect();
        let head =
            |(column, _): &(&Column<T>, _)| Head { title: column.title.into(), rank: column.rank, right: column.right };
        Self {
            heads: kept.iter().map(head).collect(),
            rows: rows.iter().map(|row| kept.iter().map(|(_, text)| shown(text(row))).collect()).collect(),
        }
    }

    /// With columns known only from the records: the first `left` hold words, the others numbers.
    pub(crate) fn of(titles: Vec<String>, left: usize, rows: Vec<Vec<String>>) -> Self {
        let head = |(i, title): (usize, String)| Head { title: shown(title), rank: 0, right: i >= left };
        Self {
            heads: titles.into_iter().enumerate().map(head).collect(),
            rows: rows.into_iter().map(|cells| cells.into_iter().map(shown).collect()).collect(),
        }
    }

    /// How many rows it has.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether it has no rows.
    pub(crate) fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Whether it has a column of this title.
    pub(crate) fn has(&self, title: &str) -> bool {
        self.heads.iter().any(|head| head.title == title)
    }

    /// With as many columns as fit into `width`, and the number of those left out.
    pub(crate) fn fitting(&self, width: usize) -> (Self, usize) {
        let most = self.heads.iter().map(|head| head.rank).max().unwrap_or(0);
        let fits = (0..=most).rev().map(|rank| self.up_to(rank)).find(|grid| grid.width() <= width);
        let fits = fits.unwrap_or_else(|| self.up_to(0));
        let hidden = self.heads.len() - fits.heads.len();
        (fits, hidden)
    }

    /// Without the columns of a higher rank.
    fn up_to(&self, rank: u8) -> Self {
        let kept: Vec<usize> = (0..self.heads.len()).filter(|i| self.heads[*i].rank <= rank).collect();
        let cells = |row: &Vec<String>| kept.iter().map(|i| row[*i].clone()).collect();
        Self {
            heads: kept.iter().map(|i| self.heads[*i].clone()).collect(),
            rows: self.rows.iter().map(cells).collect(),
        }
    }

    fn width(&self) -> usize {
        let column = |i: usize| {
            let cells = self.rows.iter().map(|row| row[i].chars().count());
            cells.chain([self.heads[i].title.chars().count()]).max().unwrap_or(0) + 3
        };
        (0..self.heads.len()).map(column).sum::<usize>().saturating_sub(1)
    }

    pub(crate) fn terminal(&self, width: usize, colour: Option<&dyn Fn(usize) -> Option<Color>>) -> String {
        let mut table = comfy_table::Table::new();
        table.load_style(BOOK).force_no_tty().set_content_arrangement(ContentArrangement::Dynamic);
        table
            .set_width(u16::try_from(width).unwrap_or(u16::MAX))
            .set_header(self.heads.iter().map(|head| Cell::new(&head.title)));
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
        for (i, head) in self.heads.iter().enumerate() {
            if let (true, Some(column)) = (head.right, table.column_mut(i)) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.trim_fmt()
    }

    pub(crate) fn markdown(&self) -> String {
        let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
        let escape = |cell: &String| text::markdown_inline(cell);
        let rule = |head: &Head| if head.right { "---:".to_string() } else { "---".to_string() };
        let mut all = line(self.heads.iter().map(|head| escape(&head.title)).collect());
        all += &line(self.heads.iter().map(rule).collect());
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
