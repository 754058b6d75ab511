//! Reference dumps on damaged files: they are replayed, or refused, and nothing else happens.

use crate::laws::goldens;
use fuzzing::Target;
use std::fs;
use std::path::Path;

/// Makes the length before a safetensors header that of the JSON behind it, where it has an end.
#[expect(clippy::ptr_arg, reason = "the edits of `fuzzing` work on vectors")]
fn mend(bytes: &mut Vec<u8>) {
    let (mut depth, mut quoted, mut escaped) = (0_i64, false, false);
    let end = bytes.iter().skip(8).position(|&byte| {
        match (quoted, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => quoted = !quoted,
            (false, b'{') => depth += 1,
            (false, b'}') => depth -= 1,
            _ => {}
        }
        depth == 0 && byte == b'}'
    });
    if let Some(end) = end {
        bytes[..8].copy_from_slice(&(end as u64 + 1).to_le_bytes());
    }
}

#[test]
fn any_bytes_are_a_dump_that_is_replayed_or_refused() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/goldens");
    let folder = tempfile::tempdir().unwrap();
    let mut files: Vec<_> = fs::read_dir(&fixtures).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|end| end == "safetensors"));
    files.sort();
    let mut families = std::collections::BTreeSet::new();
    for file in files {
        let name = file.file_name().unwrap().to_str().unwrap();
        // The first dump of each family: they are alike.
        if !families.insert(name.split("__").next().unwrap().to_owned()) {
            continue;
        }
        let path = folder.path().join(name);
        let valid = fs::read(&file).unwrap();
        // What libtorch holds is not counted here.
        Target::new(name, [valid]).usual(48).mended(mend).run(|bytes| {
            fs::write(&path, bytes).unwrap();
            let _ = goldens::hold(&path);
        });
    }
    assert!(families.len() >= 8, "{families:?}");
}
