//! The reference dumps kept with the code.

use crate::laws::verify::{Verdict, verify};
use crate::native::kernels::{Kernels, with};
use crate::registry;
use std::path::{Path, PathBuf};

/// The reference dumps kept with the code, at least one of each family below.
fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/goldens");
    let files = std::fs::read_dir(&folder).expect("the fixtures lie beside the code");
    let mut paths: Vec<PathBuf> = files.map(|f| f.expect("a readable folder").path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "safetensors"));
    for family in ["hydra__", "quasiseparable_matrix__", "combiner__fixed", "matrix_mixer__", "matrix_mixer_core__"] {
        let of_it = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(family));
        assert!(paths.iter().any(of_it), "no fixture of {family}");
    }
    paths
}

#[test]
fn every_fixture_is_met_by_native_kernels_and_by_plain_ones() {
    for (path, kernels) in fixtures().iter().flat_map(|path| [(path, Kernels::Native), (path, Kernels::Plain)]) {
        match with(kernels, || verify(path, &registry())).verdict {
            Verdict::Compared(groups) => {
                assert!(!groups.is_empty(), "{}: nothing to compare", path.display());
                assert!(groups.iter().all(|g| g.passed()), "{}, {kernels:?}: {groups:?}", path.display());
            }
            other => panic!("{}, {kernels:?}: {other:?}", path.display()),
        }
    }
}

#[test]
fn a_fixture_with_one_number_changed_is_not_met() {
    let folder = tempfile::tempdir().expect("a folder for temporary files");
    for path in fixtures() {
        let mut bytes = std::fs::read(&path).expect("a readable fixture");
        let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes).expect("safetensors");
        let tensors = metadata.tensors();
        let held = |name: &str| ["grad_input.", "grad_param.", "output."].iter().any(|prefix| name.starts_with(prefix));
        let (name, info) = tensors.iter().find(|(name, _)| held(name)).expect("something to compare");
        // The top byte of a little-endian float: this bit of the exponent makes 2 of 0, and much of little.
        let top = 8 + header + info.data_offsets.0 + info.dtype.bitsize() / 8 - 1;
        bytes[top] ^= 0x40;
        let name = format!("{} with one entry of {name} changed", path.display());
        let changed = folder.path().join(path.file_name().expect("a file"));
        std::fs::write(&changed, bytes).expect("a writable folder");
        let met = verify(&changed, &registry()).passed();
        assert!(!met, "{name}");
    }
}
