//! What can be wrong with a task's settings or its data.

use std::path::PathBuf;

/// One setting that cannot be, by key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct ConfigError {
    /// The key of the task's own config that is to blame.
    pub key: &'static str,
    /// What is wrong, naming the key and its value.
    pub problem: String,
    /// What to write instead.
    pub help: String,
}

/// Settings that were changed and do nothing when `source` is `source`.
pub(crate) fn idle(source: &str, keys: &[(&'static str, bool)]) -> Vec<ConfigError> {
    let changed = keys.iter().filter(|(_, changed)| *changed);
    changed
        .map(|&(key, _)| ConfigError {
            key,
            problem: format!("`{key}` does nothing when `source` is `{source}`"),
            help: "remove it, or change `source`".into(),
        })
        .collect()
}

/// What can be wrong with a task's data.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The data are not there: exit code 3.
    #[error("{what} not found")]
    Missing {
        /// The data set.
        what: String,
        /// Every place looked at.
        looked: Vec<PathBuf>,
        /// Where to get it and where to put it.
        help: String,
    },
    /// A file is there and cannot be read.
    #[error("{}: {why}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// A row breaks the format.
    #[error("{}{}: {problem}", path.display(), if *row == 0 { String::new() } else { format!(":{row}") })]
    Malformed {
        /// The file (inside an archive: `archive.tar.gz/inner/path`).
        path: PathBuf,
        /// Row, from 1; 0 when the whole file is meant.
        row: u64,
        /// What is wrong and what was expected.
        problem: String,
    },
}
