//! `mixarena verify`: the mixers against reference dumps.

use super::fail;
use crate::Exit;
use crate::cli::{Cli, VerifyArgs};
use mixers::goldens::{GroupResult, Verdict, verify as hold};
use serde_json::json;
use std::path::{Path, PathBuf};

/// Runs the command.
pub fn verify(args: &VerifyArgs, cli: &Cli) -> Exit {
    let mut files = Vec::new();
    for path in &args.files {
        match gather(path) {
            Ok(found) if found.is_empty() => {
                fail(format!("{}: no .safetensors file in it", path.display()), "name dumps, or a folder of them");
                return Exit::Usage;
            }
            Ok(found) => files.extend(found),
            Err(error) => {
                fail(format!("{}: {error}", path.display()), "name dumps, or a folder of them");
                return Exit::Usage;
            }
        }
    }
    let (mut passed, mut failed, mut unsupported) = (0, 0, 0);
    for path in &files {
        let verdict = hold(path);
        match &verdict {
            Verdict::Compared(groups) if groups.iter().all(GroupResult::passed) => passed += 1,
            Verdict::Unsupported(_) => unsupported += 1,
            _ => failed += 1,
        }
        if args.json { print_json(path, &verdict) } else { print_lines(path, &verdict, cli.quiet) }
    }
    eprintln!("{} files: {passed} passed, {failed} failed, {unsupported} unsupported", files.len());
    if failed > 0 || (unsupported > 0 && !args.skip_unsupported) { Exit::Failed } else { Exit::Ok }
}

/// The file itself, or the dumps of a folder by name.
fn gather(path: &Path) -> std::io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return std::fs::metadata(path).map(|_| vec![path.to_path_buf()]);
    }
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let path = entry?.path();
        if path.extension().is_some_and(|e| e == "safetensors") {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn print_lines(path: &Path, verdict: &Verdict, quiet: bool) {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    match verdict {
        Verdict::Compared(groups) => {
            for g in groups.iter().filter(|g| !quiet || !g.passed()) {
                let word = if g.passed() { "ok  " } else { "FAIL" };
                println!(
                    "{word} {name}  {:<10} {:>2} tensors  worst {:.1e} of {:.1e} allowed  {}",
                    g.group, g.tensors, g.error, g.tolerance, g.worst
                );
            }
        }
        Verdict::Unsupported(why) if !quiet => println!("skip {name}  unsupported: {why}"),
        Verdict::Unsupported(_) => {}
        Verdict::Broken(why) => println!("FAIL {name}  {why}"),
    }
}

fn print_json(path: &Path, verdict: &Verdict) {
    let file = path.display().to_string();
    let line = match verdict {
        Verdict::Compared(groups) => {
            // JSON has no infinity: a missing tensor has no error, and did not pass.
            let group = |g: &GroupResult| {
                json!({"group": g.group, "tensors": g.tensors, "worst": g.worst, "error": g.error.is_finite().then_some(g.error),
                       "tolerance": g.tolerance, "passed": g.passed()})
            };
            json!({"file": file, "passed": groups.iter().all(GroupResult::passed), "groups": groups.iter().map(group).collect::<Vec<_>>()})
        }
        Verdict::Unsupported(why) => json!({"file": file, "unsupported": why}),
        Verdict::Broken(why) => json!({"file": file, "passed": false, "broken": why}),
    };
    println!("{line}");
}
