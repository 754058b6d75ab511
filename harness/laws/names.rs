//! Outside their crates no code knows a mixer or a task by name: what it must know, the traits carry.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Places that may name a mixer or a task, and why.
const MAY: [(&str, &str, &str); 8] = [
    ("harness/config/presets.rs", "*", "models as they were published, mixer included"),
    ("results/bench/record.rs", "attention", "the yardstick of every benchmark"),
    ("harness/bench/suite.rs", "*", "names of blocks, which are those of their papers"),
    ("results/bench/show.rs", "*", "names of blocks, which are those of their papers"),
    ("harness/train/pretrain.rs", "*", "words of an objective, not tasks"),
    ("harness/bench/steps.rs", "mqar", "the task whose steps are timed"),
    ("results/suites/glue.rs", "glue", "the suite of that name"),
    ("harness/", "text", "a type of setting, not the task"),
];

/// Rust files of a crate that are not tests.
pub(super) fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("one").path()).collect();
    entries.sort();
    let mut tests = BTreeSet::new();
    let parent = folder.with_extension("rs");
    for file in [parent, folder.join("lib.rs")].into_iter().filter(|file| file.is_file()) {
        let text = fs::read_to_string(file).expect("text");
        for declared in text.split("#[cfg(test)]").skip(1) {
            let line = declared.trim_start().lines().next().unwrap_or("");
            tests.extend(line.strip_suffix(';').and_then(|line| line.rsplit("mod ").next()).map(String::from));
        }
    }
    for path in entries {
        let stem = path.file_stem().and_then(|stem| stem.to_str()).expect("a name").to_owned();
        if tests.contains(&stem) || stem == "tests" {
            continue;
        }
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|end| end == "rs") {
            found.push(path);
        }
    }
}

/// The file's code: no comments, and nothing from its tests on.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("text");
    let lines = text.lines().take_while(|line| line.trim() != "#[cfg(test)]" || path.ends_with("lib.rs"));
    lines.filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn outside_their_crates_no_code_knows_a_mixer_or_a_task_by_name() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let named = |folder: &str| -> Vec<PathBuf> {
        let mut found = Vec::new();
        sources(&root.join(folder), &mut found);
        found
    };
    let mixers: Vec<&str> = mixers::registry().iter().map(|entry| entry.name).collect();
    let tasks: Vec<&str> = tasks::registry().iter().map(|entry| entry.name).collect();
    let searched = [("harness", [&mixers, &tasks]), ("results", [&mixers, &tasks])];
    let mut wrong = Vec::new();
    let mut used = BTreeSet::new();
    let (mut files, all) =
        (0, searched.iter().flat_map(|(folder, lists)| lists.iter().map(move |list| (*folder, *list))));
    for (folder, names) in all {
        for path in named(folder) {
            let (text, place) = (code(&path), path.strip_prefix(root).expect("inside").display().to_string());
            files += 1;
            for name in names.iter().filter(|name| text.contains(&format!("\"{name}\""))) {
                match MAY.iter().position(|(at, what, _)| place.starts_with(at) && (what == name || *what == "*")) {
                    Some(exception) => drop(used.insert(exception)),
                    None => wrong.push(format!("{place}: \"{name}\"")),
                }
            }
        }
    }
    assert!(files > 200, "{files} files");
    assert_eq!(wrong, [""; 0], "let the trait carry it, or give a reason in `MAY`");
    let idle: Vec<_> = (0..MAY.len()).filter(|index| !used.contains(index)).map(|index| MAY[index]).collect();
    assert!(idle.is_empty(), "exceptions that are not needed: {idle:?}");
}
