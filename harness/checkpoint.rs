//! Checkpoints: safetensors files written beside their final name and renamed, so that a half-written one never counts.
//!
//! `last.safetensors` holds the model, the optimizer and the training state; `best.safetensors` the model alone. A run cut
//! anywhere and resumed writes the same bytes as one that was not cut.

use safetensors::tensor::{Dtype, TensorView};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::path::{Path, PathBuf};
use tch::nn::VarStore;
use tch::{Kind, Tensor, no_grad};

/// What is wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct CheckpointError {
    path: PathBuf,
    why: String,
}

impl CheckpointError {
    /// `why` concerns the file at `path`.
    pub fn new(path: &Path, why: impl std::fmt::Display) -> Self {
        Self { path: path.into(), why: why.to_string() }
    }

    /// What is wrong, without the path.
    pub fn why(&self) -> &str {
        &self.why
    }
}

/// Writes `tensors` and the training state to `path`, all or nothing.
pub fn write(path: &Path, tensors: &[(String, Tensor)], state: &str) -> Result<(), CheckpointError> {
    write_with(path, tensors, ("state", state))
}

/// The same with a text of any name.
pub fn write_with(path: &Path, tensors: &[(String, Tensor)], (key, text): (&str, &str)) -> Result<(), CheckpointError> {
    let fail = |why: String| CheckpointError::new(path, why);
    let mut bytes = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let kind = tensor.kind();
        let dtype = match kind {
            Kind::Float => Dtype::F32,
            Kind::Double => Dtype::F64,
            Kind::Int64 => Dtype::I64,
            other => return Err(fail(format!("`{name}` has type {other:?}, which checkpoints do not hold"))),
        };
        let tensor = tensor.detach().to_device(tch::Device::Cpu).contiguous();
        let mut data = vec![0u8; tensor.numel() * kind.elt_size_in_bytes()];
        tensor.f_copy_data_u8(&mut data, tensor.numel()).map_err(|e| fail(e.to_string()))?;
        bytes.push((name.clone(), dtype, tensor.size().iter().map(|&n| n as usize).collect::<Vec<_>>(), data));
    }
    let views: Result<BTreeMap<_, _>, _> = bytes
        .iter()
        .map(|(name, dtype, shape, data)| Ok((name.clone(), TensorView::new(*dtype, shape.clone(), data)?)))
        .collect();
    let views = views.map_err(|e: safetensors::SafeTensorError| fail(e.to_string()))?;
    // One metadata key only: the order of several would differ from process to process.
    let metadata = HashMap::from([(key.to_string(), text.to_string())]);
    let buffer = safetensors::serialize(views, Some(metadata)).map_err(|e| fail(e.to_string()))?;
    write_then_rename(path, &buffer).map_err(|e| fail(e.to_string()))
}

/// Reads tensors and text back.
pub fn read(path: &Path) -> Result<(BTreeMap<String, Tensor>, String), CheckpointError> {
    let fail = |why: String| CheckpointError::new(path, why);
    let bytes = std::fs::read(path).map_err(|e| fail(e.to_string()))?;
    let (tensors, mut header) = mixers::weights::from_bytes(&bytes).map_err(fail)?;
    let state = header.remove("state").unwrap_or_default();
    Ok((tensors, state))
}

/// Gives every variable of `vs` its value in a checkpoint; the error names the tensor.
pub fn fill(vs: &VarStore, tensors: &BTreeMap<String, Tensor>) -> Result<(), String> {
    for (name, mut variable) in vs.variables() {
        let value = tensors.get(&format!("model.{name}")).ok_or_else(|| format!("`model.{name}` is missing"))?;
        if value.size() != variable.size() {
            return Err(format!("`model.{name}` has shape {:?}, expected {:?}", value.size(), variable.size()));
        }
        no_grad(|| variable.copy_(value));
    }
    Ok(())
}

/// Gives every variable of `vs` its value in another run's checkpoint. What reads the answer (`head.…`) keeps its first values
/// where that run had none of its name and shape; the error names a tensor elsewhere that only one of both has, or that is of
/// another shape.
pub fn fill_body(vs: &VarStore, tensors: &BTreeMap<String, Tensor>) -> Result<(), String> {
    let mut variables: Vec<_> = vs.variables().into_iter().collect();
    variables.sort_by(|a, b| a.0.cmp(&b.0));
    let known = |name: &str| variables.iter().any(|(own, _)| own == name);
    let body = tensors.keys().filter_map(|name| name.strip_prefix("model.")).filter(|name| !name.starts_with("head."));
    if let Some(name) = body.into_iter().find(|name| !known(name)) {
        return Err(format!("it has `{name}`, which this model has not; give both the same `model` and mixer"));
    }
    for (name, mut variable) in variables {
        let value = tensors.get(&format!("model.{name}"));
        let (head, fits) = (name.starts_with("head."), value.is_some_and(|value| value.size() == variable.size()));
        match value {
            Some(value) if fits => no_grad(|| variable.copy_(value)),
            _ if head => {}
            Some(value) if name == "embedding.weight" && value.size().last() == variable.size().last() => {
                let (there, here) = (value.size()[0], variable.size()[0]);
                return Err(format!(
                    "its vocabulary has {there} tokens, and the task's has {here}; give both the same tokenizer"
                ));
            }
            Some(value) => {
                let (there, here) = (value.size(), variable.size());
                return Err(format!(
                    "`{name}` has shape {there:?} there and {here:?} here; give both the same `model`"
                ));
            }
            None => return Err(format!("it has no `{name}`; give both the same `model` and mixer")),
        }
    }
    Ok(())
}

/// Whether a file begins as safetensors does: a length and that many bytes of JSON.
pub fn looks_whole(path: &Path) -> Result<(), CheckpointError> {
    use std::io::Read;
    let fail = |why: &str| CheckpointError::new(path, format!("{why}; give a safetensors file"));
    let mut file = std::fs::File::open(path).map_err(|error| CheckpointError::new(path, error))?;
    let size = file.metadata().map_or(0, |data| data.len());
    let mut length = [0; 8];
    file.read_exact(&mut length).map_err(|_| fail("is too short to hold weights"))?;
    let length = u64::from_le_bytes(length);
    if length > size.saturating_sub(8) {
        return Err(fail("is no safetensors file, or is cut short"));
    }
    let mut header = Vec::new();
    file.take(length).read_to_end(&mut header).map_err(|error| CheckpointError::new(path, error))?;
    match serde_json::from_slice::<serde_json::Map<String, serde_json::Value>>(&header) {
        Ok(_) => Ok(()),
        Err(_) => Err(fail("has no header of JSON")),
    }
}

/// Writes a file so that a reader sees the old one or the new one, never part of it.
pub fn write_then_rename(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let beside = path.with_extension(format!("tmp{}", std::process::id()));
    let mut file = std::fs::File::create(&beside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_comes_back_bit_for_bit_and_is_written_the_same_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let tensors = vec![
            ("b".to_string(), Tensor::randn([3, 5], (Kind::Float, tch::Device::Cpu))),
            ("a".to_string(), Tensor::from_slice(&[7i64])),
            ("empty".to_string(), Tensor::zeros([0, 2], (Kind::Double, tch::Device::Cpu))),
        ];
        write(&path, &tensors, "{\"step\":3}").unwrap();
        let first = std::fs::read(&path).unwrap();
        let (read_back, state) = read(&path).unwrap();
        assert_eq!(state, "{\"step\":3}");
        for (name, tensor) in &tensors {
            assert!(read_back[name].equal(tensor), "{name}");
        }
        write(&path, &tensors, "{\"step\":3}").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_truncated_checkpoint_is_an_error_that_names_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        write(&path, &[("x".into(), Tensor::from_slice(&[1f32, 2.0]))], "").unwrap();
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() - 3]).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("a.safetensors"));
    }

    #[test]
    fn a_body_is_taken_whole_or_not_at_all_and_a_head_where_it_fits() {
        let store = |names: &[(&str, i64)]| {
            let vs = VarStore::new(tch::Device::Cpu);
            for (name, size) in names {
                let (stem, last) = name.rsplit_once('.').unwrap();
                let _ = stem.split('.').fold(vs.root(), |path, part| &path / part).zeros(last, &[*size]);
            }
            vs
        };
        let saved = |names: &[(&str, i64)]| -> BTreeMap<String, Tensor> {
            let ones = |size: i64| Tensor::ones([size], (Kind::Float, tch::Device::Cpu));
            names.iter().map(|(name, size)| (format!("model.{name}"), ones(*size))).collect()
        };
        let vs = store(&[("blocks.0.weight", 3), ("head.weight", 2), ("head.bias", 2)]);
        fill_body(&vs, &saved(&[("blocks.0.weight", 3), ("head.weight", 5), ("head.bias", 2)])).unwrap();
        let sum = |name: &str| vs.variables()[name].sum(Kind::Float).double_value(&[]);
        assert_eq!((sum("blocks.0.weight"), sum("head.weight"), sum("head.bias")), (3.0, 0.0, 2.0));
        let more = fill_body(&vs, &saved(&[("blocks.0.weight", 3), ("blocks.1.weight", 3)])).unwrap_err();
        assert!(more.contains("`blocks.1.weight`, which this model has not"), "{more}");
        let other = fill_body(&vs, &saved(&[("blocks.0.weight", 4)])).unwrap_err();
        assert!(other.contains("[4] there and [3] here"), "{other}");
        assert!(fill_body(&vs, &saved(&[])).unwrap_err().contains("it has no `blocks.0.weight`"));
    }
}
