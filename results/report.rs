//! The page of a sweep: question, table, findings, plots, failures and the command, all from manifest and records alone.

use crate::figures::{self, Built};
use crate::store::Contents;
use crate::table::frame::{self, Run};
use crate::table::overall::Overall;
use crate::table::row::Row;
use crate::table::{Ended, Table};
use crate::{
    Average, Glue, Group, Language, Manifest, Record, Store, StoreError, plot,
    store::files,
    table::{glue, language},
    text,
};
use polars::prelude::{Column, CsvWriter, DataFrame, PolarsError, SerWriter};
use serde::Serialize;
use std::collections::HashMap;
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
    /// The CSV could not be built.
    #[error("cannot build table.csv: {0}")]
    Csv(#[from] csv::Error),
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
    /// One line a run and detail; empty without details.
    details: String,
    /// What runs remark on their data, by task.
    remarks: Vec<String>,
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
        let (figures, missing) = figures::build(manifest, &runs, &table);
        table.warnings.extend(missing);
        let details = figures::details_csv(&runs, &table)?;
        Ok(Self { table, plots, figures, details, remarks: remarks(&runs), warnings: Vec::new() })
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
        #[derive(Serialize)]
        struct Json<'a> {
            name: &'a str,
            question: &'a str,
            rows: &'a [Row],
            settings: &'a [Row],
            overall: &'a [Overall],
            averages: &'a [Average],
            #[serde(skip_serializing_if = "<[Group]>::is_empty")]
            groups: &'a [Group],
            #[serde(skip_serializing_if = "Option::is_none")]
            glue: Option<&'a Glue>,
            #[serde(skip_serializing_if = "<[Language]>::is_empty")]
            language: &'a [Language],
            unfinished: &'a [Ended],
            caption: &'a [String],
            notes: &'a [String],
            #[serde(skip_serializing_if = "<[String]>::is_empty")]
            remarks: &'a [String],
            warnings: &'a [String],
            findings: &'a [String],
        }
        let table = &self.table;
        let json = Json {
            name: &table.name,
            question: &table.question,
            rows: &table.rows,
            settings: &table.settings,
            overall: &table.overall,
            averages: &table.averages,
            groups: &table.groups,
            glue: table.glue.as_ref(),
            language: &table.languages,
            unfinished: &table.ended,
            caption: &table.caption,
            notes: &table.notes,
            remarks: &self.remarks,
            warnings: &table.warnings,
            findings: &table.findings,
        };
        text::json(&serde_json::to_string_pretty(&json).expect("tables are plain data")).into_owned()
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
        let mut texts = vec![
            ("table.md", self.table.markdown()),
            ("table.csv", self.table.csv()?),
            ("table.json", self.json() + "\n"),
            ("runs.csv", self.runs_csv()?),
        ];
        if !self.details.is_empty() {
            texts.push(("details.csv", self.details.clone()));
        }
        let languages = language::csv(&self.table.languages)?;
        if !languages.is_empty() {
            texts.push(("language.csv", languages));
        }
        if let Some(glue) = &self.table.glue {
            texts.push(("glue.csv", glue::csv(glue)?));
        }
        for (name, text) in texts {
            let path = dir.join(name);
            files::replace(&path, text.as_bytes()).map_err(failed(&path))?;
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
            if name == "curves" && self.plots.curves.is_empty() {
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
        let list =
            |lines: &[String]| lines.iter().map(|line| format!("- {}\n", text::markdown(line))).collect::<String>();
        section("", text::markdown_lines(&table.question));
        section("Scores", table.markdown());
        section("Findings", list(&table.findings));
        section("Language models", table.markdown_languages());
        section("GLUE", table.markdown_glue());
        section("Long Range Arena averages", table.markdown_averages());
        section("Means over groups", table.markdown_groups());
        section("Over all tasks", table.markdown_overall());
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
        section("Measures", table.markdown_measures());
        section("Data", list(&self.remarks));
        section("Runs that did not finish", table.markdown_ended());
        section("All settings", table.markdown_settings());
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

/// "TASK: remark", in the order of the tasks. What one run of several remarks is about that run, not about the data.
fn remarks(joined: &[Run]) -> Vec<String> {
    let mut counts: Vec<(&str, &str, usize)> = Vec::new();
    let mut runs: HashMap<&str, usize> = HashMap::new();
    for (planned, record) in joined.iter().filter_map(|run| Some((run.planned, run.record?))) {
        *runs.entry(&planned.task).or_default() += 1;
        for note in &record.notes {
            match counts.iter_mut().find(|(task, own, _)| (*task, *own) == (&planned.task, note)) {
                Some((_, _, count)) => *count += 1,
                None => counts.push((&planned.task, note, 1)),
            }
        }
    }
    counts.retain(|(task, _, count)| *count > 1 || runs[task] == 1);
    counts.into_iter().map(|(task, note, _)| format!("{task}: {note}")).collect()
}

#[cfg(test)]
mod tests;
