//! The binary version of CIFAR-10, `data_batch_{1..5}.bin` and `test_batch.bin`, as a prepared set.
//!
//! ```text
//! record = label (1 byte), red plane, green plane, blue plane (1,024 bytes each, row by row)
//! ```

use crate::data::formats::{self, Found};
use crate::data::prepared::{self, Prepared, Request, Writer};
use crate::{DataDir, DataError};
use std::path::Path;

/// Pixels of a side.
pub(super) const SIDE: usize = 32;
/// Pixels of an image.
pub(super) const PIXELS: usize = SIDE * SIDE;
/// Classes: labels are 0 to 9.
pub(super) const CLASSES: usize = 10;
/// Training files of the whole set.
pub(super) const BATCHES: u32 = 5;
/// Bytes of a record.
pub(super) const RECORD: usize = 1 + 3 * PIXELS;

/// Part of the set: the training files.
pub(super) const TRAIN: usize = 0;
/// Part of the set: the test file.
pub(super) const TEST: usize = 1;

/// Opens the images in `root`, read and checked the first time, colours and all. They come in the order of the files.
pub(super) fn prepare(root: &Path, batch_files: u32, data: &DataDir) -> Result<Prepared, DataError> {
    let names = names(batch_files);
    let stamp = prepared::stamp_of_source(root, |name| formats::named(&names, name).is_some())?;
    let stamp = format!("{stamp}-{batch_files}");
    let request = Request { family: "image", version: 1, stamp, parts: &["train", "test"], documents: 1 };
    data.prepared(&request, |writer| read(root, &names, writer))
}

/// The files there must be: those of training, then that of testing.
fn names(batch_files: u32) -> Vec<String> {
    let training = (1..=batch_files).map(|batch| format!("data_batch_{batch}.bin"));
    training.chain(["test_batch.bin".to_owned()]).collect()
}

fn read(root: &Path, names: &[String], writer: &mut Writer) -> Result<(), DataError> {
    let missing = |file: usize| {
        if file == 0 || file + 1 == names.len() {
            return "expected the files of the binary version of CIFAR-10".into();
        }
        format!("is it a complete download? `batch_files: {file}` uses only the training files before it")
    };
    formats::visit_each(root, names, missing, |file, found| {
        let part = if file + 1 == names.len() { TEST } else { TRAIN };
        let hash = read_file(found, (file as u64) << 32, part, writer)?;
        writer.source(names[file].clone(), hash);
        Ok(())
    })
}

fn read_file(found: Found, first_key: u64, part: usize, writer: &mut Writer) -> Result<blake3::Hash, DataError> {
    let path = found.path.clone();
    let malformed = |row, problem| DataError::Malformed { path: path.clone(), row, problem };
    let mut images = 0;
    let hash = found.records(RECORD, |number, record| {
        if record.len() < RECORD {
            let left = record.len();
            let problem =
                format!("the record has {left} of its {RECORD} bytes: the file is cut short; download it again");
            return Err(malformed(number, problem));
        }
        let (label, planes) = (record[0], &record[1..]);
        if usize::from(label) >= CLASSES {
            let problem = format!("the record's label is {label}, expected 0 to 9");
            return Err(malformed(number, problem));
        }
        images = number;
        writer.row(part, first_key + number, label, &[planes])
    })?;
    if images == 0 {
        return Err(malformed(0, "holds no images; download it again".into()));
    }
    Ok(hash)
}
