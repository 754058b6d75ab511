//! Parquet: one column of strings, row group by row group.

use super::long::Long;
use super::reader::{Inner, Position, Tally};
use super::sources::Source;
use super::{CorpusConfig, InvalidUtf8};
use crate::DataError;
use crate::data::packed::Unpacked;
use parquet::basic::Type;
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, ByteArrayType};
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;
use parquet::file::reader::{FileReader, SerializedFileReader};
use std::collections::VecDeque;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Rows read at once.
const ROWS: usize = 64;

pub(super) struct Columns {
    path: PathBuf,
    file: SerializedFileReader<File>,
    column: usize,
    field: String,
    policy: InvalidUtf8,
    group: usize, // the next to be opened
    reader: Option<ColumnReaderImpl<ByteArrayType>>,
    rows: VecDeque<Option<ByteArray>>,
    row: u64, // given out
    long: Long,
    bytes: u64,
    read: Arc<AtomicU64>,
}

fn damaged(path: &Path, error: &ParquetError) -> DataError {
    let why = match error.to_string() {
        why if why.contains("Disabled feature") => {
            format!("is compressed in a way this program does not read ({why}); write it with Snappy or Zstandard")
        }
        why => format!("is no Parquet file that can be read ({why}); download it again"),
    };
    DataError::Unreadable { path: path.into(), why }
}

/// Holds what the file says of a row group's column against the file: the library trusts it.
fn check_group(group: &RowGroupMetaData, column: usize, bytes: u64) -> Result<(), &'static str> {
    let Some(column) = group.columns().get(column) else { return Err("it has fewer columns than the schema") };
    let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
    let numbers = [start, column.data_page_offset(), column.compressed_size(), column.uncompressed_size()];
    if numbers.into_iter().chain([column.num_values(), group.num_rows()]).any(|number| number < 0) {
        return Err("a size or a place is below 0");
    }
    if start.checked_add(column.compressed_size()).is_none_or(|end| end as u64 > bytes) {
        return Err("its column lies beyond the end of the file");
    }
    if Unpacked::<File>::too_many(column.uncompressed_size() as u64, column.compressed_size() as u64) {
        return Err("its column unpacks to more than 250 times its size");
    }
    Ok(())
}

impl Columns {
    pub fn open(
        source: &Source,
        file: File,
        config: &CorpusConfig,
        from: &Position,
        read: Arc<AtomicU64>,
    ) -> Result<Self, DataError> {
        let path = &source.path;
        let file = SerializedFileReader::new(file).map_err(|error| damaged(path, &error))?;
        let schema = file.metadata().file_metadata().schema_descr_ptr();
        let wrong = |problem| Err(DataError::Malformed { path: path.clone(), row: 0, problem });
        let Some(column) = schema.columns().iter().position(|column| column.path().string() == config.field) else {
            let there: Vec<String> = schema
                .columns()
                .iter()
                .map(|column| format!("`{}` ({})", column.path().string(), column.physical_type()))
                .collect();
            let there = there.join(", ");
            return wrong(format!("no column `{}`; there are {there}: name one in `field`", config.field));
        };
        let found = &schema.columns()[column];
        if found.physical_type() != Type::BYTE_ARRAY || found.max_rep_level() > 0 {
            let what = if found.max_rep_level() > 0 { "a list".into() } else { found.physical_type().to_string() };
            return wrong(format!("column `{}` is {what}, not strings; name another in `field`", config.field));
        }
        for (group, meta) in file.metadata().row_groups().iter().enumerate() {
            check_group(meta, column, source.bytes).map_err(|why| DataError::Unreadable {
                path: path.clone(),
                why: format!("is no Parquet file that can be read (row group {group}: {why}); download it again"),
            })?;
        }
        let mut columns = Self {
            path: path.clone(),
            file,
            column,
            field: config.field.clone(),
            policy: config.invalid_utf8,
            group: 0,
            reader: None,
            rows: VecDeque::new(),
            row: from.offset,
            long: Long::default(),
            bytes: source.bytes,
            read,
        };
        columns.go_to(from.offset).map_err(|error| damaged(path, &error))?;
        Ok(columns)
    }

    fn rows_of(&self, group: usize) -> u64 {
        self.file.metadata().row_group(group).num_rows() as u64
    }

    /// Passes over rows.
    fn go_to(&mut self, row: u64) -> Result<(), ParquetError> {
        let mut left = row;
        while self.group < self.file.num_row_groups() && left >= self.rows_of(self.group) {
            left -= self.rows_of(self.group);
            self.group += 1;
        }
        if left > 0 && self.open_group()? {
            let reader = self.reader.as_mut().expect("just opened");
            reader.skip_records(left as usize)?;
        }
        Ok(())
    }

    /// Opens the next row group; false after the last.
    fn open_group(&mut self) -> Result<bool, ParquetError> {
        if self.group == self.file.num_row_groups() {
            return Ok(false);
        }
        let ColumnReader::ByteArrayColumnReader(reader) =
            self.file.get_row_group(self.group)?.get_column_reader(self.column)?
        else {
            return Err(ParquetError::General("the column's type differs between row groups".into()));
        };
        self.reader = Some(reader);
        self.group += 1;
        Ok(true)
    }

    /// Reads some rows; false after the last.
    fn fill(&mut self) -> Result<bool, ParquetError> {
        loop {
            let Some(reader) = &mut self.reader else {
                if !self.open_group()? {
                    return Ok(false);
                }
                continue;
            };
            let (mut levels, mut values) = (Vec::new(), Vec::new());
            let (records, ..) = reader.read_records(ROWS, Some(&mut levels), None, &mut values)?;
            if records == 0 {
                self.reader = None;
                continue;
            }
            if levels.is_empty() {
                self.rows.extend(values.into_iter().map(Some));
            } else {
                let most = self.file.metadata().file_metadata().schema_descr().column(self.column).max_def_level();
                let mut values = values.into_iter();
                self.rows.extend(levels.iter().map(|&level| if level == most { values.next() } else { None }));
            }
            return Ok(true);
        }
    }

    /// The text of a row; `None` where there is none to give out.
    fn text(&self, bytes: &[u8], tally: &mut Tally) -> Result<Option<String>, DataError> {
        let place = || format!("{}:{}", self.path.display(), self.row);
        match str::from_utf8(bytes) {
            Ok(text) => Ok(Some(text.to_owned())),
            Err(error) => match self.policy {
                InvalidUtf8::Error => {
                    let problem = format!(
                        "`{}` is not UTF-8 at its byte {}; set `invalid_utf8` to `replace` or `skip`",
                        self.field,
                        error.valid_up_to()
                    );
                    Err(DataError::Malformed { path: self.path.clone(), row: self.row, problem })
                }
                InvalidUtf8::Skip => {
                    tally.skipped.add(place);
                    Ok(None)
                }
                InvalidUtf8::Replace => {
                    let broken = bytes.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).count();
                    (0..broken).for_each(|_| tally.replaced.add(place));
                    Ok(Some(String::from_utf8_lossy(bytes).into_owned()))
                }
            },
        }
    }
}

impl Inner for Columns {
    fn next_piece(&mut self, tally: &mut Tally) -> Result<Option<(String, bool)>, DataError> {
        loop {
            if let Some(piece) = self.long.next_piece() {
                return Ok(Some(piece));
            }
            let Some(row) = self.rows.pop_front() else {
                if !self.fill().map_err(|error| damaged(&self.path, &error))? {
                    return Ok(None);
                }
                continue;
            };
            self.row += 1;
            let rows = self.file.metadata().file_metadata().num_rows().max(1) as f64;
            self.read.store((self.bytes as f64 * (self.row as f64 / rows)) as u64, Ordering::Relaxed);
            let text = self.text(row.as_ref().map_or(&[], ByteArray::data), tally)?;
            if text.is_some_and(|text| !self.long.begin(text)) {
                tally.empty.add(|| format!("{}:{}", self.path.display(), self.row));
            }
        }
    }

    fn position(&self) -> Option<Position> {
        self.long.is_over().then(|| Position { offset: self.row, ..Position::default() })
    }
}
