//! What can go wrong with a store.

use std::io;
use std::path::{Path, PathBuf};

/// Something the store could not do, where, and what may help.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The file system refused.
    #[error("{}: cannot {action}: {source}\n  help: {help}", path.display())]
    Io {
        /// File or folder.
        path: PathBuf,
        /// What was tried.
        action: &'static str,
        /// What to do.
        help: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// A file is not what its place says.
    #[error("{}: {problem}\n  help: {help}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
        /// What to do.
        help: &'static str,
    },
    /// An id or a sweep's name that cannot be a file name.
    #[error(
        "`{name}` cannot be the name of a file\n  help: use letters, digits, `-`, `_` and `.`, and begin with none of the last"
    )]
    Name {
        /// The name.
        name: String,
    },
}

impl StoreError {
    /// For `map_err`: wraps what the system said.
    pub(crate) fn io(path: &Path, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| {
            let help = match source.kind() {
                io::ErrorKind::PermissionDenied => "check who owns the folder, or choose another with --store",
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free some space; no record was lost",
                io::ErrorKind::NotFound => "check that the folder still exists and its disk is mounted",
                _ => "check that the folder can be written, then run the same command again",
            };
            Self::Io { path, action, help, source }
        }
    }
}
