//! What can be wrong with a task's settings or its data.

use settings::ConfigError;
use std::path::PathBuf;

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
