//! Files that generators write: under another name until they are whole, and never over one that is there.

use crate::DataError;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

/// A file in the making.
pub(crate) struct NewFile {
    path: PathBuf,
    part: PathBuf,
    file: BufWriter<File>,
    whole: bool,
}

impl NewFile {
    /// Starts a file, with its folders.
    pub fn create(path: PathBuf) -> Result<Self, DataError> {
        if path.exists() {
            let why = "is there already and is not written over; remove it or name another folder".into();
            return Err(DataError::Unreadable { path, why });
        }
        let mut part = path.clone().into_os_string();
        part.push(".part");
        let part = PathBuf::from(part);
        let made = path.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| File::create(&part));
        let file = made.map_err(|error| unwritable(&path, &error))?;
        Ok(Self { path, part, file: BufWriter::with_capacity(1 << 18, file), whole: false })
    }

    /// Appends to it.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), DataError> {
        self.file.write_all(bytes).map_err(|error| unwritable(&self.path, &error))
    }

    /// Gives it its name, and tells that name.
    pub fn finish(mut self) -> Result<PathBuf, DataError> {
        self.file.flush().map_err(|error| unwritable(&self.path, &error))?;
        fs::rename(&self.part, &self.path).map_err(|error| unwritable(&self.path, &error))?;
        self.whole = true;
        Ok(self.path.clone())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.whole {
            let _ = fs::remove_file(&self.part); // an error is being told, or a panic is under way
        }
    }
}

fn unwritable(path: &Path, error: &io::Error) -> DataError {
    let why = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            format!("the disk is full ({error}); make room and start again: nothing half-made is kept")
        }
        _ => format!("cannot be written: {error}"),
    };
    DataError::Unreadable { path: path.into(), why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_its_name_only_when_it_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("deep/file.tsv");
        let mut file = NewFile::create(path.clone()).unwrap();
        file.write(b"one").unwrap();
        assert!(!path.exists());
        file.finish().unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_given_up_leaves_nothing_and_what_is_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file.tsv");
        drop(NewFile::create(path.clone()).unwrap());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        fs::write(&path, "precious").unwrap();
        let error = NewFile::create(path.clone()).err().unwrap().to_string();
        assert!(
            error.ends_with("file.tsv: is there already and is not written over; remove it or name another folder")
        );
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }
}
