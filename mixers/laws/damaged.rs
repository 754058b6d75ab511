//! Reference dumps on damaged files: they are replayed, or refused, and nothing else happens.

use crate::laws::verify::{Verdict, verify};
use crate::registry;
use fuzzing::Target;
use safetensors::SafeTensors;
use serde_json::{Value, json};
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
            let _ = verify(&path, &registry());
        });
    }
    assert!(families.len() >= 8, "{families:?}");
}

/// Sizes that a machine cannot hold, or counts that never end, in the config of a dump: refused before anything is made.
const ABSURD: [(&str, &str, i64, &str); 19] = [
    ("attention__bidirectional_L11", "n_heads", 1 << 40, "`n_heads`"),
    ("bigs_kernel__N8_L40", "L", 1 << 40, "config `L`"),
    ("bigs_kernel__N8_L40", "N", 1 << 40, "config `N`"),
    ("bigs_layer__L32", "intermediate_size", 1 << 30, "`d_ff`"),
    ("bigs_mlm__2layers_L19", "num_hidden_layers", 4_000_000_000, "`n_layers`"),
    ("bigs_mlm__2layers_L19", "num_hidden_layers", 1000, "parameters"),
    ("bigs_mlm__2layers_L19", "vocab_size", 1 << 20, "parameters"),
    ("combiner__fixed_causal_L32_w8", "w", 1 << 20, "config `w`"),
    ("combiner__fixed_causal_L32_w8", "d", 1 << 40, "config `d`"),
    ("hippo_init__legs_N16", "N", 1 << 20, "config `N`"),
    ("hippo_init__legs_N16", "N", 1024, "config `N`"),
    ("hydra__L33_groups2_bias", "expand", 1 << 16, "`expand"),
    ("mamba2__L33", "d_conv", 200_000_001, "`d_conv`"),
    ("mamba2__L33", "d_state", 4096, "parameters"),
    ("matrix_mixer__cauchy_dd_L17", "qk_dim", 10_000, "parameters"),
    ("s4_block__diag_lin_lengths_L40", "channels", 20_000, "parameters"),
    ("s4_kernel_dplr__legs_state_L24", "l_max", 1 << 40, "config `l_max`"),
    ("s4d_minimal__L33", "d_state", 4096, "parameters"),
    ("ssd__L33_chunk16_D_z_softplus", "chunk_size", 1 << 40, "config `chunk_size`"),
];

#[test]
fn a_dump_that_asks_for_absurd_sizes_is_refused_at_once() {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/goldens");
    let folder = tempfile::tempdir().unwrap();
    for (name, key, size, named) in ABSURD {
        let bytes = fs::read(fixtures.join(format!("{name}.f64.safetensors"))).unwrap();
        let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
        let mut texts = header.metadata().clone().unwrap();
        let mut config: Value = serde_json::from_str(&texts["config"]).unwrap();
        config[key] = json!(size);
        texts.insert("config".into(), config.to_string());
        let path = folder.path().join(format!("{name}.safetensors"));
        let dump = safetensors::serialize(SafeTensors::deserialize(&bytes).unwrap().tensors(), Some(texts)).unwrap();
        fs::write(&path, dump).unwrap();
        let started = std::time::Instant::now();
        let verdict = verify(&path, &registry()).verdict;
        let Verdict::Broken(why) = &verdict else { panic!("{name} with `{key}` of {size}: {verdict:?}") };
        assert!(why.contains(named), "{name} with `{key}` of {size}: {why}");
        assert!(started.elapsed().as_secs() < 5, "{name} with `{key}` of {size}: {:?}", started.elapsed());
    }
}
