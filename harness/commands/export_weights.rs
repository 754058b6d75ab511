//! `mixarena export-weights`: a run's best weights, under the names of released models.

use super::fail;
use crate::base::exit::Exit;
use crate::cli::{ExportWeightsArgs, NamesKind};
use crate::registry::Registry;
use crate::train::spec::RunSpec;
use crate::train::{checkpoint, pretrain, weights};
use results::{Record, Store};
use serde_json::Value;
use std::path::{Path, PathBuf};
use tasks::TaskSpec;
use tch::Tensor;

/// Runs named when a prefix fits several, at most.
const SHOWN: usize = 5;

/// What went wrong, what to do, and the exit code.
type Trouble = (String, &'static str, Exit);

/// Weights by name, and what their checkpoint says of itself.
type Weights = (Vec<(String, Tensor)>, Value);

/// Runs the command.
pub fn export_weights(args: &ExportWeightsArgs, registry: &Registry) -> Exit {
    match export(args, registry) {
        Ok(()) => Exit::Ok,
        Err((problem, help, exit)) => {
            fail(problem, help);
            exit
        }
    }
}

fn export(args: &ExportWeightsArgs, registry: &Registry) -> Result<(), Trouble> {
    if args.out.extension().is_none_or(|e| e != "safetensors") {
        let problem = format!("--out {}: weights are written as .safetensors", args.out.display());
        return Err((problem, "write --out model.safetensors", Exit::Usage));
    }
    let (record, path) = find(args)?;
    let spec = spec(&record).map_err(|problem| (problem, retraining(&record), Exit::Failed))?;
    let (own, at) = read(&path, &record)?;
    // Settings alone do not always say how many tokens the data have.
    let words = own.iter().find(|(name, _)| name == "embedding.weight").map(|(_, table)| table.size()[0]);
    let named = match args.names {
        NamesKind::Reference => weights::export(own, &spec, registry),
        NamesKind::Own => own,
    };
    if args.names == NamesKind::Reference && weights::naming(&spec, registry).is_own() {
        eprintln!("note: no released model has layers like these ({}): they keep our names", spec.mixer.name);
    }
    let config = write(args, registry, &spec, &named, words)?;
    let scalars: usize = named.iter().map(|(_, tensor)| tensor.numel()).sum();
    eprintln!(
        "weights: {}, {} tensors of {scalars} numbers, of run {} at step {}",
        args.out.display(),
        named.len(),
        record.id,
        at["step"]
    );
    eprintln!("config:  {}, held against the model that starts from these weights", config.display());
    Ok(())
}

/// The run asked for, and its best checkpoint.
fn find(args: &ExportWeightsArgs) -> Result<(Record, PathBuf), Trouble> {
    let read = match args.store.is_dir() {
        true => Store::open(&args.store).and_then(|store| Ok((store.records()?, store))).map_err(|e| e.to_string()),
        false => Err(format!("{} is not a folder", args.store.display())),
    };
    let (records, store) = read.map_err(|problem| (problem, "name the store with --store", Exit::Environment))?;
    let record = chosen(&records, &args.run);
    let record =
        record.map_err(|problem| (problem, "`mixarena list runs` shows every run with its id", Exit::Usage))?;
    let path = store.work_dir(&record.id).join("best.safetensors");
    if path.is_file() {
        return Ok((record.clone(), path));
    }
    let (id, word) = (&record.id, record.outcome.word());
    let problem = format!("run {id} ({word}) has no best weights: {} is not there", path.display());
    let help = "a run keeps them from its first evaluation on; sweep it again with --retry";
    Err((problem, help, Exit::Environment))
}

/// The weights of a run. Those that are of no use are trained again; for what the system says there is no advice.
fn read(path: &Path, record: &Record) -> Result<Weights, Trouble> {
    let (tensors, at) = checkpoint::read(path, &record.id, checkpoint::Part::Best).map_err(|error| {
        let help = if error.is_of_no_use() { retraining(record) } else { "" };
        (error.to_string(), help, Exit::Failed)
    })?;
    let own = |(name, tensor): (String, Tensor)| Some((name.strip_prefix("model.")?.to_string(), tensor));
    Ok((tensors.into_iter().filter_map(own).collect(), at))
}

/// How a run is trained again.
fn retraining(record: &Record) -> &'static str {
    match record.outcome == results::Outcome::Finished {
        true => "to train the run again, delete its records and run its sweep",
        false => "sweep it again with --retry",
    }
}

/// Writes the weights and the config beside them; where that lies.
fn write(
    args: &ExportWeightsArgs,
    registry: &Registry,
    spec: &RunSpec,
    named: &[(String, Tensor)],
    words: Option<i64>,
) -> Result<PathBuf, Trouble> {
    let entry = registry.task(&spec.task.name);
    let entry = entry.ok_or_else(|| (format!("this build has no task `{}`", spec.task.name), "", Exit::Environment))?;
    let seen = pretrain::seen(entry.outline(&spec.task.settings).spec(), spec.pretrain.as_ref());
    let seen = TaskSpec { vocab_size: words.unwrap_or(seen.vocab_size), ..seen };
    // What readers of other projects' files ask for.
    checkpoint::write_with(&args.out, named, ("format", "pt"))
        .and_then(|()| weights::config_json::write(&args.out, &spec.model, &spec.mixer, &seen, registry))
        .map_err(|error| (error.to_string(), "", Exit::Environment))
}

/// The one run whose id begins with `start`.
fn chosen<'a>(records: &'a [Record], start: &str) -> Result<&'a Record, String> {
    let mut found: Vec<&Record> = Vec::new();
    for record in records.iter().filter(|record| !start.is_empty() && record.id.starts_with(start)) {
        // The last attempt stands for the run.
        match found.iter_mut().find(|other| other.id == record.id) {
            Some(other) if other.attempt < record.attempt => *other = record,
            Some(_) => {}
            None => found.push(record),
        }
    }
    match found[..] {
        [one] => Ok(one),
        [] => Err(format!("no run of the store begins with `{start}`")),
        _ => {
            let ids: Vec<&str> = found.iter().take(SHOWN).map(|record| record.id.as_str()).collect();
            Err(format!("`{start}` begins {} runs: {}", found.len(), ids.join(", ")))
        }
    }
}

fn spec(record: &Record) -> Result<RunSpec, String> {
    serde_json::from_value(record.spec.clone())
        .map_err(|e| format!("run {}: its spec is not of this version: {e}", record.id))
}
