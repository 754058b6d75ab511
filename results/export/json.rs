//! One JSON object for programs: the numbers of each section under its key, and the words.

use crate::export::exporter::{ExportError, Exporter};
use crate::table::Table;
use crate::table::section::Section;
use crate::text;
use serde_json::{Map, Value};

pub(crate) struct Json;

impl Json {
    pub(crate) fn document(&self, table: &Table) -> String {
        let mut all = Map::new();
        let mut put = |key: &str, value: Value| drop(all.insert(key.into(), value));
        put("name", table.name.as_str().into());
        put("question", table.question.as_str().into());
        for (key, value) in table.sections.iter().filter_map(|section| section.json.as_ref()) {
            put(key, value.clone());
        }
        let notes = table.sections.first().map(|scores| scores.notes.clone()).unwrap_or_default();
        put("caption", table.caption.clone().into());
        put("notes", notes.into());
        put("warnings", table.warnings.clone().into());
        put("findings", table.findings.clone().into());
        pretty(&all.into())
    }
}

impl Exporter for Json {
    fn ending(&self) -> &'static str {
        "json"
    }

    fn section(&self, section: &Section) -> Result<Vec<u8>, ExportError> {
        Ok(section.json.as_ref().map(|(_, value)| pretty(value).into_bytes()).unwrap_or_default())
    }

    /// All in one.
    fn files(&self, table: &Table) -> Result<Vec<(String, Vec<u8>)>, ExportError> {
        Ok(vec![("table.json".into(), (self.document(table) + "\n").into_bytes())])
    }
}

fn pretty(value: &Value) -> String {
    text::json(&serde_json::to_string_pretty(value).expect("plain data")).into_owned()
}
