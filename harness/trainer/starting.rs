//! Initial weights from another run's checkpoint, or from a file.

use super::{TrainError, Trainer};
use crate::checkpoint::{self, CheckpointError, Part};
use crate::spec::Start;
use crate::weights;

impl Trainer {
    /// Gives the model the weights that its spec starts from.
    pub(super) fn start(&mut self) -> Result<(), TrainError> {
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
                if !path.is_file() {
                    return Err(lost("is gone"));
                }
                let (tensors, _) =
                    checkpoint::read(&path, &id, Part::Best).map_err(|error| match error.is_of_no_use() {
                        true => lost(error.why()),
                        false => error.into(),
                    })?;
                let wrong = |why: String| CheckpointError::new(&path, format!("cannot be started from: {why}"));
                Ok(checkpoint::fill_body(&self.vs, &tensors).map_err(wrong)?)
            }
            Some(Start::Weights { file, hash }) => {
                let found = crate::plan::content_hash(&file)?;
                if found != hash {
                    let why = "is not the file this run was planned with; run the sweep again";
                    return Err(CheckpointError::new(&file, why).into());
                }
                let report = weights::import(&file, &self.vs, &self.spec);
                report.map(drop).map_err(|error| TrainError::Spec(format!("{error}; {}", error.help())))
            }
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
