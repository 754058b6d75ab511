//! What files hold, as a hash: a run is named by the content of its files and not by where they lie.

use std::path::Path;
use tasks::DataError;

/// BLAKE3 of a file of minimal pairs, or of the files of a folder.
pub fn pairs_hash(path: &Path) -> Result<String, DataError> {
    let files = tasks::language::minimal_pairs::files(path)?;
    if let [one] = files.as_slice() {
        return content_hash(one);
    }
    let hashes = files.iter().map(|file| content_hash(file)).collect::<Result<Vec<_>, _>>()?;
    Ok(blake3::hash(hashes.concat().as_bytes()).to_hex().to_string())
}

/// BLAKE3 of a file.
pub fn content_hash(path: &Path) -> Result<String, DataError> {
    let mut hasher = blake3::Hasher::new();
    std::fs::File::open(path)
        .and_then(|file| hasher.update_reader(file).map(drop))
        .map_err(|error| DataError::Unreadable { path: path.into(), why: error.to_string() })?;
    Ok(hasher.finalize().to_hex().to_string())
}
