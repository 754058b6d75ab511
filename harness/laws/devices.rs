//! Mixers, models and losses make their tensors where those are that they read: none names a device.

use super::names::sources;
use std::collections::BTreeSet;
use std::fs::read_to_string;
use std::path::Path;

/// Where a device may be named, and why.
const MAY: [(&str, &str); 11] = [
    ("mixers/laws/", "laws and dumps are held on a CPU"),
    ("mixers/native", "native kernels are a CPU's"),
    ("mixers/math/hippo.rs", "initial values, copied into parameters wherever those are"),
    ("mixers/s4/", "initial values in float64, copied into parameters"),
    ("mixers/bigs/ssm.rs", "initial values, copied into parameters"),
    ("mixers/matrix_mixer/dft.rs", "whole numbers beyond float32, moved where they are used"),
    ("mixers/s5.rs", "initial values, drawn aside and turned into modes"),
    ("mixers/rwkv7.rs", "initial values, copied into parameters"),
    ("mixers/hgrn2.rs", "a number of the config, moved where it is used"),
    (
        "harness/model/",
        "models that are built to be counted, or for names and sizes; a table of sines that the model moves",
    ),
    ("harness/train/", "what leaves a device: scores, checkpoints; counters of the optimizer"),
];

/// The lines of a file without comments and without what only tests see.
fn code(text: &str) -> Vec<&str> {
    let (mut lines, mut kept) = (text.lines(), Vec::new());
    while let Some(line) = lines.next() {
        if line == "#[cfg(test)]" {
            // Its item is one line, or ends with a brace.
            let last = |line: &&str| *line == "}" || (line.ends_with(';') && !line.starts_with(' '));
            let _ = lines.by_ref().find(last);
        } else if !line.trim_start().starts_with("//") {
            kept.push(line);
        }
    }
    kept
}

/// Whether a line of code puts a tensor on a device that it names, or on a CPU because it names none.
fn fixed(line: &str) -> bool {
    let from_numbers = line.contains("Tensor::from_slice(") || line.contains("Tensor::from(");
    let moved = line.contains("to_device(") || line.contains("move_to(");
    line.contains("Device::Cpu") || line.contains("_CPU)") || (from_numbers && !moved)
}

#[test]
fn mixers_models_and_losses_name_no_device() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let mut files = Vec::new();
    for folder in ["mixers", "harness/model", "harness/train"] {
        sources(&root.join(folder), &mut files);
    }
    files.extend(["harness/model.rs", "harness/train.rs"].map(|file| root.join(file)));
    let (mut wrong, mut used) = (Vec::new(), BTreeSet::new());
    for path in files.iter().filter(|path| !path.components().any(|part| part.as_os_str() == "benches")) {
        let place = path.strip_prefix(root).expect("inside").display().to_string();
        let text = read_to_string(path).expect("text");
        for line in code(&text).into_iter().filter(|line| fixed(line)) {
            // The longest place that fits gives the reason.
            let fits = MAY.iter().enumerate().filter(|(_, (at, _))| place.starts_with(at));
            match fits.max_by_key(|(_, (at, _))| at.len()) {
                Some((index, _)) => drop(used.insert(index)),
                None => wrong.push(format!("{place}: {}", line.trim())),
            }
        }
    }
    assert!(files.len() > 120, "{} files", files.len());
    assert_eq!(wrong, [""; 0], "make it on the device of what is read, or give a reason in `MAY`");
    let idle: Vec<_> = (0..MAY.len()).filter(|index| !used.contains(index)).map(|index| MAY[index]).collect();
    assert!(idle.is_empty(), "exceptions that are not needed: {idle:?}");
}

#[test]
fn a_tensor_of_numbers_is_moved_on_its_line() {
    for line in
        ["let t = Tensor::zeros([1], (Kind::Float, Device::Cpu));", "Tensor::from_slice(&[1.0])", "kind::FLOAT_CPU);"]
    {
        assert!(fixed(line), "{line}");
    }
    for line in
        ["Tensor::from_slice(&a).to_device(x.device())", "move_to(Tensor::from_slice(&a))", "a.copy_from_slice(&b)"]
    {
        assert!(!fixed(line), "{line}");
    }
}
