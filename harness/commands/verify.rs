//! `mixarena verify`: the mixers against reference dumps.

use super::fail;
use crate::base::cuda::device;
use crate::base::exit::Exit;
use crate::cli::{Cli, VerifyArgs};
use crate::registry::Registry;
use mixers::laws::verify::{GroupResult, Held, Verdict, families, verify_on};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tch::Kind;

/// Runs the command.
pub fn verify(args: &VerifyArgs, cli: &Cli, registry: &Registry) -> Exit {
    let device = match device(args.device) {
        Ok(device) => device,
        Err(problem) => {
            fail(problem, "");
            return Exit::Environment;
        }
    };
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
    let mut summary = Vec::new();
    for path in &files {
        let held = verify_on(path, &registry.mixers, device);
        match &held.verdict {
            _ if held.passed() => passed += 1,
            Verdict::Unsupported(_) => unsupported += 1,
            _ => failed += 1,
        }
        if args.json {
            print_json(path, &held.verdict)
        } else {
            print_lines(path, &held.verdict, cli.quiet)
        }
        add(&mut summary, &held);
    }
    summary.sort_by(|a, b| (&a.family, a.precision).cmp(&(&b.family, b.precision)));
    if args.json {
        println!("{}", json!({"summary": summary.iter().map(Line::json).collect::<Vec<_>>()}));
    } else if !cli.quiet {
        print_summary(&summary);
    }
    eprintln!("{} files: {passed} passed, {failed} failed, {unsupported} unsupported", files.len());
    if unsupported > 0 && !args.skip_unsupported {
        eprintln!(
            "  help: --skip-unsupported passes over what this build has no mixer for; it replays {}",
            families(&registry.mixers).join(", ")
        );
    }
    if failed > 0 || (unsupported > 0 && !args.skip_unsupported) { Exit::Failed } else { Exit::Ok }
}

/// A family's dumps of one precision, taken together.
#[derive(Debug)]
struct Line {
    family: String,
    precision: &'static str,
    files: usize,
    passed: usize,
    unsupported: usize,
    tensors: usize,
    /// Of outputs, and of gradients: the tensor nearest to its tolerance, or furthest past it.
    worst: [Option<Worst>; 2],
}

/// One tensor.
#[derive(Clone, Debug)]
struct Worst {
    key: String,
    error: f64,
    allowed: f64,
}

/// Counts one file in.
fn add(summary: &mut Vec<Line>, held: &Held) {
    let precision = match held.kind {
        Some(Kind::Double) => "float64",
        Some(_) => "float32",
        None => "unreadable",
    };
    let at = summary.iter().position(|line| line.family == held.family && line.precision == precision);
    let at = at.unwrap_or_else(|| {
        let family = held.family.clone();
        summary.push(Line { family, precision, files: 0, passed: 0, unsupported: 0, tensors: 0, worst: [None, None] });
        summary.len() - 1
    });
    let line = &mut summary[at];
    line.files += 1;
    line.passed += usize::from(held.passed());
    line.unsupported += usize::from(matches!(held.verdict, Verdict::Unsupported(_)));
    let Verdict::Compared(groups) = &held.verdict else { return };
    for group in groups {
        line.tensors += group.tensors;
        let worst = &mut line.worst[usize::from(group.group != "output")];
        let new =
            Worst { key: format!("{}.{}", group.group, group.worst), error: group.error, allowed: group.tolerance };
        if worst.as_ref().is_none_or(|old| new.error / new.allowed > old.error / old.allowed) {
            *worst = Some(new);
        }
    }
}

impl Line {
    fn json(&self) -> Value {
        // JSON has no infinity: a missing tensor has no error, and did not pass.
        let worst = |worst: &Option<Worst>| match worst {
            None => Value::Null,
            Some(w) => json!({"key": w.key, "error": w.error.is_finite().then_some(w.error), "allowed": w.allowed}),
        };
        json!({"family": self.family, "precision": self.precision, "files": self.files, "passed": self.passed,
               "unsupported": self.unsupported, "tensors": self.tensors,
               "values": worst(&self.worst[0]), "gradients": worst(&self.worst[1])})
    }
}

/// Worst errors by family and precision, in columns as wide as they must be.
fn print_summary(summary: &[Line]) {
    let worst = |worst: &Option<Worst>| match worst {
        None => ["-".to_string(), "-".into(), "-".into()],
        Some(w) => [format!("{:.1e}", w.error), format!("{:.1e}", w.allowed), w.key.clone()],
    };
    let head = ["family", "precision", "files", "passed", "unsupported", "tensors"];
    let tail = ["values", "allowed", "worst of them", "gradients", "allowed", "worst of them"];
    let mut rows: Vec<Vec<String>> = vec![head.into_iter().chain(tail).map(String::from).collect()];
    for line in summary {
        let counts = [line.files, line.passed, line.unsupported, line.tensors].map(|n| n.to_string());
        let [values, gradients] = [0, 1].map(|i: usize| worst(&line.worst[i]));
        let names = [line.family.clone(), line.precision.into()];
        rows.push(names.into_iter().chain(counts).chain(values).chain(gradients).collect());
    }
    let widths: Vec<usize> =
        (0..rows[0].len()).map(|i| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0)).collect();
    println!();
    for row in &rows {
        let cells = row.iter().zip(&widths).enumerate().map(|(i, (cell, width))| match i {
            0 | 1 | 8 | 11 => format!("{cell:<width$}"),
            _ => format!("{cell:>width$}"),
        });
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
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
        Verdict::Broken(why) => {
            let path = format!("{}: ", path.display());
            println!("FAIL {name}  {}", why.strip_prefix(&path).unwrap_or(why));
        }
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
