//! Initial weights from another run's checkpoint, or from a file, and what becomes of them where they were made for sequences
//! of another length.

use super::Trainer;
use crate::registry::Registry;
use crate::train::checkpoint::{self, CheckpointError, Part};
use crate::train::error::TrainError;
use crate::train::pretrain;
use crate::train::spec::{RunSpec, Start};
use crate::train::{vet, weights};
use std::path::Path;

impl Trainer {
    /// Gives the model the weights that its spec starts from.
    pub(super) fn start(&mut self, registry: &Registry) -> Result<(), TrainError> {
        match self.spec.start.clone() {
            None => Ok(()),
            Some(Start::Run(id)) => {
                let work = self.work_dir.parent().unwrap_or(&self.work_dir);
                let path = work.join(&id).join("best.safetensors");
                let lost = |what: &str| {
                    let why = format!(
                        "the checkpoint of run {id}, which this run starts from, {what}; delete that run's records and \
                         run the sweep again to train it anew"
                    );
                    TrainError::StartLost(CheckpointError::new(&path, why))
                };
                if !path.try_exists().map_err(|why| CheckpointError::io(&path, &why))? {
                    return Err(lost("is gone"));
                }
                let (tensors, _) =
                    checkpoint::read(&path, &id, Part::Best).map_err(|error| match error.is_of_no_use() {
                        true => lost(error.why()),
                        false => error.into(),
                    })?;
                let wrong = |why: String| CheckpointError::new(&path, format!("cannot be started from: {why}"));
                checkpoint::fill_body(&self.vs, &tensors).map_err(wrong)?;
                let from = made_for(&work.join(&id).join("spec.json"), registry);
                Ok(self.carry_over(from.as_ref().ok().copied(), registry).map_err(|why| match from {
                    Ok(_) => wrong(why),
                    Err(unknown) => wrong(format!("{why} ({unknown})")),
                })?)
            }
            Some(Start::Weights { file, hash }) => {
                let found = weights::config_json::fingerprint(&file)?;
                if found != hash {
                    let why = "is not the file this run was planned with; run the sweep again";
                    return Err(CheckpointError::new(&file, why).into());
                }
                let seen = pretrain::seen(self.task_spec.clone(), self.spec.pretrain.as_ref());
                let imported = weights::import(&file, &self.vs, &self.spec, &seen, registry);
                let (_, from) = imported.map_err(|error| TrainError::Spec(format!("{error}; {}", error.help())))?;
                let wrong = |why: String| TrainError::Spec(format!("{}: {why}", file.display()));
                self.carry_over(from, registry).map_err(wrong)
            }
        }
    }

    /// Converts weights made for sequences of up to `from` positions (`None`: nobody knows) to the model's own length, or says
    /// why they cannot be and what to do.
    fn carry_over(&self, from: Option<i64>, registry: &Registry) -> Result<(), String> {
        let said = |wrong: mixers::ConfigError| format!("{}; {}", wrong.problem, wrong.help);
        let seen = pretrain::seen(self.task_spec.clone(), self.spec.pretrain.as_ref());
        let dims = self.spec.model.dims(seen.max_length, seen.causal);
        let mixer = &self.spec.mixer;
        let entry = registry.mixer(&mixer.name).ok_or_else(|| format!("this build has no mixer `{}`", mixer.name))?;
        entry.carries(&mixer.settings, from, &dims).map_err(said)?;
        match from {
            Some(from) if from != dims.seq_len => self.model.adopt(from).map_err(said),
            _ => Ok(()),
        }
    }

    /// Where the weights came from, as a remark on the run.
    pub fn start_note(&self) -> Option<String> {
        match self.spec.start.as_ref()? {
            Start::Run(id) => Some(format!("started from the best checkpoint of run {id}")),
            Start::Weights { file, hash } => {
                Some(format!("started from {} (BLAKE3 {})", file.display(), &hash[..hash.len().min(12)]))
            }
        }
    }
}

/// The longest sequence that the models of the run in `spec.json` are built for.
fn made_for(path: &Path, registry: &Registry) -> Result<i64, String> {
    let spec: RunSpec = vet::read_file(path, registry)?;
    let task = registry.task(&spec.task.name).ok_or_else(|| format!("this build has no task `{}`", spec.task.name))?;
    let seen = pretrain::seen(task.outline(&spec.task.settings).spec(), spec.pretrain.as_ref());
    Ok(spec.model.dims(seen.max_length, seen.causal).seq_len)
}
