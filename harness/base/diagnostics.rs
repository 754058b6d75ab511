//! A user's mistakes: where, what, and what to do, all of them in one go.

use std::collections::HashSet;
use std::fmt::Write;
use std::sync::Arc;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// In the config file, both from 1.
    File {
        /// Line.
        line: u64,
        /// Column, in characters.
        column: u64,
    },
    /// In a file that the config extends, both from 1.
    Extended {
        /// Its path, from where the command runs.
        file: Arc<str>,
        /// Line.
        line: u64,
        /// Column, in characters.
        column: u64,
    },
    /// In an argument on the command line, as typed.
    Argument(String),
    /// Nowhere in particular.
    Whole,
}

impl Place {
    /// File and line, or the argument; `source` is the config's file.
    pub fn line_in(&self, source: &str) -> String {
        match self {
            Self::File { line, .. } => format!("{source}:{line}"),
            Self::Extended { file, line, .. } => format!("{file}:{line}"),
            Self::Argument(argument) => argument.clone(),
            Self::Whole => source.to_owned(),
        }
    }

    /// The same with the column.
    fn column_in(&self, source: &str) -> String {
        match self {
            Self::File { column, .. } | Self::Extended { column, .. } => format!("{}:{column}", self.line_in(source)),
            _ => self.line_in(source),
        }
    }
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Diagnostic {
    /// Where.
    pub place: Place,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub help: String,
}

/// Mistakes found so far in one source.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    source: String,
    found: Vec<Diagnostic>,
    known: HashSet<Diagnostic>,
}

/// Mistakes that are printed; of more, their number.
const SHOWN: usize = 100;

impl Diagnostics {
    /// None yet in `source`, a path as the user typed it.
    pub fn new(source: impl Into<String>) -> Self {
        Self { source: source.into(), found: Vec::new(), known: HashSet::new() }
    }

    /// What the mistakes are in.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// Adds a mistake; the same one twice is kept once.
    pub fn error(&mut self, place: Place, problem: impl Into<String>, help: impl Into<String>) {
        let new = Diagnostic { place, problem: problem.into(), help: help.into() };
        if self.known.insert(new.clone()) {
            self.found.push(new);
        }
    }

    /// Whether nothing is wrong.
    pub fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    /// How many mistakes.
    pub fn len(&self) -> usize {
        self.found.len()
    }

    /// One line per mistake, `file:line:column: problem`, in the file's order.
    #[cfg(test)]
    pub fn lines(&self) -> Vec<String> {
        self.sorted().iter().map(|d| format!("{}: {}", self.place(&d.place), d.problem)).collect()
    }

    /// What to do about each, in the same order.
    #[cfg(test)]
    pub fn helps(&self) -> Vec<String> {
        self.sorted().iter().map(|d| d.help.clone()).collect()
    }

    /// Everything, as printed to stderr.
    pub fn render(&self) -> String {
        let mut out = String::new();
        for d in self.sorted().into_iter().take(SHOWN) {
            let _ = writeln!(out, "error: {}: {}", self.place(&d.place), d.problem);
            if !d.help.is_empty() {
                let _ = writeln!(out, "  help: {}", d.help);
            }
        }
        if let Some(more @ 1..) = self.len().checked_sub(SHOWN) {
            let _ = writeln!(out, "and {more} more");
        }
        out
    }

    fn sorted(&self) -> Vec<&Diagnostic> {
        let mut all: Vec<&Diagnostic> = self.found.iter().collect();
        all.sort_by(|a, b| a.place.cmp(&b.place));
        all
    }

    fn place(&self, place: &Place) -> String {
        place.column_in(&self.source)
    }
}

/// "did you mean `d_state`? fields are …", or just the list where nothing is near.
pub fn suggest(word: &str, known: &[&str], plural: &str) -> String {
    let near = known
        .iter()
        .map(|k| (strsim::damerau_levenshtein(word, k), k))
        .filter(|(distance, k)| *distance <= 1 + k.len() / 3)
        .min_by_key(|(distance, _)| *distance);
    let list = format!("{plural} are {}", known.join(", "));
    match near {
        Some((_, k)) => format!("did you mean `{k}`? {list}"),
        None => list,
    }
}
