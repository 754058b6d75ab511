//! `figures`: what is drawn besides scores and learning curves.

use crate::base::diagnostics::suggest;
use crate::config::layers::blamed;
use crate::config::reader::Reader;
use crate::config::yaml::{Data, Node};
use results::{Figure, FigureKind};

impl Reader<'_> {
    /// `figures: [ { lines: { x: model.d_model } } ]`.
    pub(super) fn figures(&mut self, node: &Node, swept: &[String]) -> Vec<Figure> {
        let help = &help();
        let Some(items) = node.as_list() else {
            self.found.error(node.place.clone(), format!("`figures` is {}, expected a list", node.describe()), help);
            return Vec::new();
        };
        let mut figures = Vec::new();
        for item in items {
            match serde_json::from_value::<FigureKind>(item.to_json()) {
                Ok(figure) => {
                    let figure = Figure::from(figure);
                    let known: Vec<&str> = swept.iter().map(String::as_str).collect();
                    for path in figure.axes().filter(|path| !known.contains(path)) {
                        let near = if known.is_empty() {
                            "add the axis to `grid`".into()
                        } else {
                            suggest(path, &known, "axes of the grid")
                        };
                        self.found.error(item.place.clone(), format!("`{path}` is no axis of the grid"), near);
                    }
                    figures.push(figure);
                }
                Err(error) => {
                    let (problem, help) = no_such_figure(item, &error.to_string(), help);
                    self.found.error(blamed(item, &problem), problem, help)
                }
            }
        }
        figures
    }
}

/// An example of each figure.
fn help() -> String {
    let examples: Vec<String> = FigureKind::EXAMPLES.iter().map(|example| format!("`{example}`")).collect();
    let (last, others) = examples.split_last().expect("there are figures");
    format!("figures are {} and {last}", others.join(", "))
}

/// Why an item under `figures` is none, and what to write: the figures there are, or the fields of the one that is named.
fn no_such_figure(item: &Node, error: &str, help: &str) -> (String, String) {
    let names: Vec<&str> = error.split('`').skip(1).step_by(2).collect();
    let word = match &item.data {
        Data::Map(entries) => entries.first().map(|(key, _)| key.name.as_str()),
        _ => item.as_str(),
    };
    match (word, names.split_first()) {
        (_, Some((field, fields))) if error.contains("unknown field") => {
            (format!("unknown field `{field}` in `{}`", word.unwrap_or("figures")), suggest(field, fields, "fields"))
        }
        (Some(word), Some((_, kinds))) if error.contains("unknown variant") => {
            (format!("there is no figure `{word}`"), format!("{}; {help}", suggest(word, kinds, "figures")))
        }
        (Some(word), _) if item.as_str().is_some() => {
            (format!("figure `{word}` has no settings here"), help.to_owned())
        }
        (Some(word), _) => (format!("figure `{word}` cannot be read: {error}"), help.to_owned()),
        _ => (format!("a figure is {}, expected one name with its settings", item.describe()), help.to_owned()),
    }
}
