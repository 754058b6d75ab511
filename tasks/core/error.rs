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

impl DataError {
    /// What to do about it; empty where the message says so itself.
    pub fn help(&self) -> &str {
        // The readers of this crate end what can be mended by doing something again with these words.
        let says_so =
            |text: &str| ["start again", "download it again", "prepare it again"].iter().any(|end| text.contains(end));
        match self {
            Self::Missing { help, .. } => help,
            Self::Unreadable { why: text, .. } | Self::Malformed { problem: text, .. } if says_so(text) => "",
            Self::Unreadable { .. } | Self::Malformed { .. } => "mend the file, or move it away",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_is_given_where_the_message_gives_none() {
        let unreadable = |why: &str| DataError::Unreadable { path: "a".into(), why: why.into() };
        assert_eq!(unreadable("ends early; download it again").help(), "");
        assert_eq!(unreadable("permission denied").help(), "mend the file, or move it away");
        let missing = DataError::Missing { what: "it".into(), looked: Vec::new(), help: "get it".into() };
        assert_eq!(missing.help(), "get it");
    }
}
