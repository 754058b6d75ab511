//! `mixarena report`: tables and plots from records, any day later.

use super::{fail, width};
use crate::base::exit::Exit;
use crate::cli::{Cli, ReportArgs};
use results::Store;
use results::report::Report;

/// Runs the command.
pub fn report(args: &ReportArgs, cli: &Cli) -> Exit {
    match write(args, cli) {
        Ok(()) => Exit::Ok,
        Err((problem, help)) => {
            fail(problem, &help);
            Exit::Environment
        }
    }
}

fn write(args: &ReportArgs, cli: &Cli) -> Result<(), (String, String)> {
    let plain = |e: &dyn std::fmt::Display| (e.to_string(), String::new());
    if !args.dir.is_dir() {
        let help = "give the store of a sweep; its default is `runs`".to_string();
        return Err((format!("{} is not a folder", args.dir.display()), help));
    }
    let store = Store::open(&args.dir).map_err(|e| plain(&e))?;
    let (mut manifests, warnings) = store.manifests().map_err(|e| plain(&e))?;
    if !cli.quiet {
        warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
    }
    let names: Vec<String> = manifests.iter().map(|m| m.name.clone()).collect();
    manifests.retain(|m| args.sweep.as_ref().is_none_or(|name| *name == m.name));
    if manifests.is_empty() {
        // A file that is no manifest is an answer to who asks for its sweep.
        if let Some(name) = &args.sweep {
            store.manifest(name).map_err(|e| plain(&e))?;
        }
        let problem = match &args.sweep {
            Some(name) => format!("{} has no sweep `{name}`", args.dir.display()),
            None if warnings.is_empty() => format!("{} has no sweep", args.dir.display()),
            None => format!("{} has no sweep that can be read", args.dir.display()),
        };
        return Err((
            problem,
            format!("sweeps there: {}", if names.is_empty() { "none".into() } else { names.join(", ") }),
        ));
    }
    for manifest in &manifests {
        let report = Report::build(&store, manifest).map_err(|e| plain(&e))?;
        if !cli.quiet {
            report.warnings().iter().for_each(|w| eprintln!("warning: {w}"));
        }
        println!("{}\n", if args.json { report.json() } else { report.terminal(width()) }.trim_end());
        report.write(&store.report_dir(&manifest.name)).map_err(|e| plain(&e))?;
        if !cli.quiet {
            eprintln!("tables and plots: {}", store.report_dir(&manifest.name).display());
        }
    }
    Ok(())
}
