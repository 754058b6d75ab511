//! The page of a sweep: question, table, findings, plots, failures and the command, all from manifest and records alone.

use crate::export::{EXPORTERS, ExportError, Markdown, list};
use crate::figures::{self, Built};
use crate::store::Contents;
use crate::table::section::Part;
use crate::table::{Table, frame};
use crate::{Manifest, Record, Store, StoreError, plot, store::files, text};
use polars::prelude::{Column, CsvWriter, DataFrame, PolarsError, SerWriter};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

const CURVES: &str = "Thin lines are seeds, and a cross is where one diverged; the strong line is the mean over the scored \
                      seeds, as far as all of them reached.";

/// Why a report could not be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// The records could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tables could not be built.
    #[error("cannot build the table: {0}")]
    Frame(#[from] PolarsError),
    /// A table could not be written in a format.
    #[error(transparent)]
    Export(#[from] ExportError),
    /// A plot could not be drawn.
    #[error(transparent)]
    Plot(#[from] plot::PlotError),
    /// A file could not be written.
    #[error("{}: cannot write: {source}\n  help: check that the folder can be written", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Tables, plots and page of one sweep.
#[derive(Debug)]
pub struct Report {
    table: Table,
    plots: plot::Data,
    /// What the config asks to be drawn.
    figures: Vec<Built>,
    /// Files of the store that are no records.
    warnings: Vec<String>,
}

impl Report {
    /// Reads the records of a sweep. The same manifest and records give the same bytes on any day.
    pub fn build(store: &Store, manifest: &Manifest) -> Result<Self, ReportError> {
        Self::of(manifest, store.read_of(&manifest.ids())?)
    }

    /// The report of a sweep whose records have been read.
    pub fn of(manifest: &Manifest, mut contents: Contents) -> Result<Self, ReportError> {
        let warnings = std::mem::take(&mut contents.warnings);
        Ok(Self { warnings, ..Self::from_records(manifest, &contents.into_latest())? })
    }

    /// The report of these records.
    pub fn from_records(manifest: &Manifest, records: &[Record]) -> Result<Self, ReportError> {
        let runs = frame::runs(manifest, records);
        let mut table = Table::of_runs(manifest, &runs)?;
        let plots = figures::scores::data(manifest, &runs, &table);
        let (figures, missing) = figures::build(manifest, &runs, &frame::searched(manifest, records), &table);
        table.warnings.extend(missing);
        Ok(Self { table, plots, figures, warnings: Vec::new() })
    }

    /// The tables.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// Files of the store that were passed over, and why.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// For stdout, `width` columns wide and without colour.
    pub fn terminal(&self, width: usize) -> String {
        self.table.terminal(width, false)
    }

    /// For programs: rows, runs that did not finish, caption, warnings and findings.
    pub fn json(&self) -> String {
        self.table.json()
    }

    /// Writes every file into `dir` and returns their paths. Nothing that was there is left half replaced.
    pub fn write(&self, dir: &Path) -> Result<Vec<PathBuf>, ReportError> {
        self.write_kinds(dir, &["svg", "png"])
    }

    /// The same without bitmaps, whose drawing takes most of the time.
    #[cfg(test)]
    pub(crate) fn write_texts_and_svgs(&self, dir: &Path) -> Result<Vec<PathBuf>, ReportError> {
        self.write_kinds(dir, &["svg"])
    }

    fn write_kinds(&self, dir: &Path, kinds: &[&str]) -> Result<Vec<PathBuf>, ReportError> {
        let failed = |path: &Path| {
            let path = path.to_path_buf();
            |source| ReportError::Write { path, source }
        };
        fs::create_dir_all(dir).map_err(failed(dir))?;
        let mut paths = Vec::new();
        let mut texts = vec![("runs.csv".to_string(), self.runs_csv()?.into_bytes())];
        for format in EXPORTERS {
            texts.extend(format.files(&self.table)?);
        }
        for (name, text) in texts {
            let path = dir.join(name);
            files::replace(&path, &text).map_err(failed(&path))?;
            paths.push(path);
        }
        for figure in &self.figures {
            for kind in kinds {
                let path = dir.join(format!("{}.{kind}", figure.stem));
                figure.draw(&path)?;
                paths.push(path);
            }
        }
        let mut images = Vec::new();
        let drawings = [("scores", plot::scores as plot::Drawing), ("curves", plot::curves as plot::Drawing)];
        for (name, draw) in drawings {
            let empty = match name {
                "curves" => self.plots.curves.is_empty(),
                // While a search goes on no run is planned yet.
                _ => self.table.rows.is_empty(),
            };
            if empty {
                continue;
            }
            for kind in kinds {
                let path = dir.join(format!("{name}.{kind}"));
                draw(&self.plots, &path)?;
                paths.push(path);
            }
            images.push(name);
        }
        let path = dir.join("report.md");
        files::replace(&path, self.page(&images).as_bytes()).map_err(failed(&path))?;
        paths.push(path);
        Ok(paths)
    }

    fn runs_csv(&self) -> Result<String, PolarsError> {
        let frame = self.table.runs.drop_many(["mixer_order", "task_order", "setting_order"]);
        let mut frame = as_fields(&frame)?;
        let mut bytes = Vec::new();
        CsvWriter::new(&mut bytes).finish(&mut frame)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// `report.md`.
    fn page(&self, images: &[&str]) -> String {
        let table = &self.table;
        let mut page = format!("# {}\n", text::markdown(&table.name));
        let mut section = |title: &str, body: String| {
            if !body.trim().is_empty() {
                page +=
                    &if title.is_empty() { String::from("\n") } else { format!("\n## {}\n\n", text::markdown(title)) };
                page += &(body.trim_end().to_string() + "\n");
            }
        };
        section("", text::markdown_lines(&table.question));
        section("Scores", table.markdown());
        section("Findings", list(&table.findings));
        for part in table.sections.iter().skip(1).filter(|section| section.part == Part::Main) {
            section(part.title, Markdown.text(part));
        }
        for Built { stem, title, alt, caption, table, .. } in &self.figures {
            let (alt, caption) = (text::markdown_inline(alt), text::markdown(caption));
            section(title, format!("![{alt}]({stem}.svg)\n\n{caption}\n\n{table}"));
        }
        for image in images {
            let (title, alt, caption) = match *image {
                "scores" => ("Plot", "test score of every seed by mixer", ""),
                _ => ("Learning curves", "validation score against training step", CURVES),
            };
            section(title, format!("![{alt}]({image}.svg)\n\n{caption}"));
        }
        for part in table.sections.iter().filter(|section| [Part::Appendix, Part::Page].contains(&section.part)) {
            section(part.title, Markdown.text(part));
        }
        section("Files that are no records", list(&self.warnings));
        page
    }
}

/// A frame whose texts and titles are fields of a CSV file.
fn as_fields(frame: &DataFrame) -> Result<DataFrame, PolarsError> {
    let column = |column: &Column| {
        let name = text::field(column.name()).into_owned();
        match column.str() {
            Ok(texts) => {
                let fields: Vec<Option<String>> =
                    texts.iter().map(|t| t.map(|t| text::field(t).into_owned())).collect();
                Column::new(name.into(), fields)
            }
            Err(_) => column.clone().with_name(name.into()),
        }
    };
    // Two titles that are shown alike are still two columns.
    let mut columns: Vec<Column> = Vec::new();
    for mut column in frame.columns().iter().map(column) {
        while columns.iter().any(|known| known.name() == column.name()) {
            column = column.clone().with_name(format!("{}_", column.name()).into());
        }
        columns.push(column);
    }
    DataFrame::new(frame.height(), columns)
}

#[cfg(test)]
mod tests;
