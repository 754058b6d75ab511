//! `mixarena export-weights`: a run's best weights, under the names of released models.

use super::fail;
use crate::cli::{ExportWeightsArgs, NamesKind};
use crate::registry::Registry;
use crate::train::spec::RunSpec;
use crate::{
    Exit,
    train::{checkpoint, pretrain, weights},
};
use results::{Record, Store};
use tasks::TaskSpec;
use tch::Tensor;

/// Runs named when a prefix fits several, at most.
const SHOWN: usize = 5;

/// Runs the command.
pub fn export_weights(args: &ExportWeightsArgs, registry: &Registry) -> Exit {
    if args.out.extension().is_none_or(|e| e != "safetensors") {
        fail(
            format!("--out {}: weights are written as .safetensors", args.out.display()),
            "write --out model.safetensors",
        );
        return Exit::Usage;
    }
    let read = match args.store.is_dir() {
        true => Store::open(&args.store).and_then(|store| Ok((store.records()?, store))).map_err(|e| e.to_string()),
        false => Err(format!("{} is not a folder", args.store.display())),
    };
    let (records, store) = match read {
        Ok(read) => read,
        Err(problem) => {
            fail(problem, "name the store with --store");
            return Exit::Environment;
        }
    };
    let record = match chosen(&records, &args.run) {
        Ok(record) => record,
        Err(problem) => {
            fail(problem, "`mixarena list runs` shows every run with its id");
            return Exit::Usage;
        }
    };
    let path = store.work_dir(&record.id).join("best.safetensors");
    if !path.is_file() {
        let problem = format!(
            "run {} ({}) has no best weights: {} is not there",
            record.id,
            record.outcome.word(),
            path.display()
        );
        fail(problem, "a run keeps them from its first look at validation on; sweep it again with --retry");
        return Exit::Environment;
    }
    let written = spec(record).and_then(|spec| {
        let (tensors, at) = checkpoint::read(&path, &record.id, checkpoint::Part::Best).map_err(|e| e.to_string())?;
        let own = |(name, tensor): (String, Tensor)| Some((name.strip_prefix("model.")?.to_string(), tensor));
        let own: Vec<(String, Tensor)> = tensors.into_iter().filter_map(own).collect();
        // Settings alone do not always say how many tokens the data have.
        let words = own.iter().find(|(name, _)| name == "embedding.weight").map(|(_, table)| table.size()[0]);
        let named = match args.names {
            NamesKind::Reference => weights::export(own, &spec),
            NamesKind::Own => own,
        };
        if args.names == NamesKind::Reference && weights::naming(&spec).is_own() {
            eprintln!("note: no released model has layers like these ({}): they keep our names", spec.mixer.name);
        }
        // What readers of other projects' files ask for.
        checkpoint::write_with(&args.out, &named, ("format", "pt")).map_err(|e| e.to_string())?;
        let entry = registry.task(&spec.task.name);
        let entry = entry.ok_or_else(|| format!("this build has no task `{}`", spec.task.name))?;
        let seen = pretrain::seen(entry.outline(&spec.task.settings).spec(), spec.pretrain.as_ref());
        let seen = TaskSpec { vocab_size: words.unwrap_or(seen.vocab_size), ..seen };
        let config = weights::beside::write(&args.out, &spec.model, &spec.mixer, &seen).map_err(|e| e.to_string())?;
        Ok((named, config, at))
    });
    match written {
        Ok((named, config, at)) => {
            let scalars: usize = named.iter().map(|(_, tensor)| tensor.numel()).sum();
            eprintln!(
                "weights: {}, {} tensors of {scalars} numbers, of run {} at step {}",
                args.out.display(),
                named.len(),
                record.id,
                at["step"]
            );
            eprintln!("config:  {}, held against the model that starts from these weights", config.display());
            Exit::Ok
        }
        Err(problem) => {
            let help = match record.outcome == results::Outcome::Finished {
                true => "to train the run again, delete its records and run its sweep",
                false => "sweep it again with --retry",
            };
            fail(problem, help);
            Exit::Failed
        }
    }
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
