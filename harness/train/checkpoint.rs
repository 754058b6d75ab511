//! Checkpoints: safetensors files written beside their final name and renamed, so that a half-written one never counts.
//!
//! ```text
//! last.safetensors   model, optimizer and training state
//! best.safetensors   the model of the best evaluation, and its step
//! __metadata__       { mixarena: {"run": ID, "part": "last", "blake3": HASH, "state": …} }
//! ```
//! The hash covers the run, the part, the state and every tensor with its name, type and shape; a reader computes it again
//! before it takes anything. A run cut anywhere and resumed writes the same bytes as one that was not cut.

use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use tch::nn::VarStore;
use tch::{Kind, Tensor, no_grad};

/// The key of the metadata under which a checkpoint says what it is.
const MARK: &str = "mixarena";

/// What is wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {why}")]
pub struct CheckpointError {
    path: PathBuf,
    why: String,
    /// Whether the file is there and says something else than it should; otherwise the system did not give it out.
    content: bool,
}

impl CheckpointError {
    /// `why` concerns the file at `path`.
    pub fn new(path: &Path, why: impl std::fmt::Display) -> Self {
        Self { path: path.into(), why: why.to_string(), content: true }
    }

    /// The system's answer to who read the file. A file that is not there has no content that could be used, which is a fact about the run.
    pub fn io(path: &Path, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::new(path, "is not there"),
            _ => Self { content: false, ..Self::new(path, error) },
        }
    }

    /// The system's answer to who wrote the file.
    fn unwritten(path: &Path, error: &io::Error) -> Self {
        Self { content: false, ..Self::new(path, error) }
    }

    /// What is wrong, without the path.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// The file's name, without its folder.
    pub fn file(&self) -> std::borrow::Cow<'_, str> {
        self.path.file_name().unwrap_or_default().to_string_lossy()
    }

    /// Whether the content is of no use (damaged, another run's, or gone), rather than out of reach for now.
    pub fn is_of_no_use(&self) -> bool {
        self.content
    }
}

/// Which of a run's two checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Where training stands.
    Last,
    /// The model of the best evaluation.
    Best,
}

impl Part {
    fn word(self) -> &'static str {
        match self {
            Self::Last => "last",
            Self::Best => "best",
        }
    }
}

/// Tensors by name, and the state beside them.
pub type Loaded = (BTreeMap<String, Tensor>, Value);

/// Writes `tensors` and `state` to `path` as one part of `run`, all or nothing.
pub fn write(
    path: &Path,
    run: &str,
    part: Part,
    tensors: &[(String, Tensor)],
    state: &Value,
) -> Result<(), CheckpointError> {
    let data = Data::of(tensors).map_err(|why| CheckpointError::new(path, why))?;
    let views = data.views().map_err(|why| CheckpointError::new(path, why))?;
    let blake3 = digest(run, part.word(), state, views.iter());
    let mark = json!({ "run": run, "part": part.word(), "blake3": blake3, "state": state }).to_string();
    write_views(path, views, MARK, mark)
}

/// Writes `tensors` for readers of other projects, with one text of any name beside them.
pub fn write_with(path: &Path, tensors: &[(String, Tensor)], (key, text): (&str, &str)) -> Result<(), CheckpointError> {
    let data = Data::of(tensors).map_err(|why| CheckpointError::new(path, why))?;
    let views = data.views().map_err(|why| CheckpointError::new(path, why))?;
    write_views(path, views, key, text.into())
}

fn write_views(
    path: &Path,
    views: BTreeMap<String, TensorView<'_>>,
    key: &str,
    text: String,
) -> Result<(), CheckpointError> {
    // One metadata key only: the order of several would differ from process to process.
    let metadata = HashMap::from([(key.to_string(), text)]);
    let buffer = safetensors::serialize(views, Some(metadata)).map_err(|e| CheckpointError::new(path, e))?;
    results::replace(path, &buffer).map_err(|e| CheckpointError::unwritten(path, &e))
}

/// Tensors as bytes.
struct Data(Vec<(String, Dtype, Vec<usize>, Vec<u8>)>);

impl Data {
    fn of(tensors: &[(String, Tensor)]) -> Result<Self, String> {
        let mut bytes = Vec::with_capacity(tensors.len());
        for (name, tensor) in tensors {
            let kind = tensor.kind();
            let dtype = match kind {
                Kind::Float => Dtype::F32,
                Kind::Double => Dtype::F64,
                Kind::Int64 => Dtype::I64,
                other => return Err(format!("`{name}` has type {other:?}, which checkpoints do not hold")),
            };
            let tensor = tensor.detach().to_device(tch::Device::Cpu).contiguous();
            let mut data = vec![0u8; tensor.numel() * kind.elt_size_in_bytes()];
            tensor.f_copy_data_u8(&mut data, tensor.numel()).map_err(|e| e.to_string())?;
            bytes.push((name.clone(), dtype, tensor.size().iter().map(|&n| n as usize).collect(), data));
        }
        Ok(Self(bytes))
    }

    fn views(&self) -> Result<BTreeMap<String, TensorView<'_>>, String> {
        let mut views = BTreeMap::new();
        for (name, dtype, shape, data) in &self.0 {
            let view = TensorView::new(*dtype, shape.clone(), data).map_err(|e| e.to_string())?;
            views.insert(name.clone(), view);
        }
        Ok(views)
    }
}

/// BLAKE3 of all that a checkpoint says; `views` are sorted by name. Every item is preceded by its length, so that no two
/// contents run together to the same bytes.
fn digest<'a>(
    run: &str,
    part: &str,
    state: &Value,
    views: impl Iterator<Item = (&'a String, &'a TensorView<'a>)>,
) -> String {
    let mut hasher = blake3::Hasher::new();
    let mut add = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    [run, part, &state.to_string()].iter().for_each(|text| add(text.as_bytes()));
    for (name, view) in views {
        add(name.as_bytes());
        add(format!("{:?} {:?}", view.dtype(), view.shape()).as_bytes());
        add(view.data());
    }
    hasher.finalize().to_hex().to_string()
}

/// Reads one part of `run` back. One that was changed since it was written, or that is another run's, is an error.
pub fn read(path: &Path, run: &str, part: Part) -> Result<Loaded, CheckpointError> {
    let fail = |why: String| CheckpointError::new(path, why);
    let (tensors, mark) = read_marked(path)?;
    let mark = mark.ok_or_else(|| fail("has no checksum: it is not a checkpoint of this version".into()))?;
    if mark.run != run {
        return Err(fail(format!("is a checkpoint of run {}, not of run {run}", mark.run)));
    }
    if mark.part != part.word() {
        return Err(fail(format!("holds the `{}` checkpoint of its run, not the `{}` one", mark.part, part.word())));
    }
    Ok((tensors, mark.state))
}

/// Reads any safetensors file. One that is a checkpoint must be as it was written.
pub fn read_any(path: &Path) -> Result<BTreeMap<String, Tensor>, CheckpointError> {
    read_marked(path).map(|(tensors, _)| tensors)
}

/// What a checkpoint says of itself.
struct Mark {
    run: String,
    part: String,
    state: Value,
}

fn read_marked(path: &Path) -> Result<(BTreeMap<String, Tensor>, Option<Mark>), CheckpointError> {
    let fail = |why: String| CheckpointError::new(path, why);
    let bytes = std::fs::read(path).map_err(|e| CheckpointError::io(path, &e))?;
    let (tensors, mut header) = mixers::core::weights::from_bytes(&bytes).map_err(fail)?;
    let Some(text) = header.remove(MARK) else { return Ok((tensors, None)) };
    let damaged = || fail("is damaged: it is not what was written (its BLAKE3 hash differs)".into());
    let mut value: Value = serde_json::from_str(&text).map_err(|_| damaged())?;
    let word = |key: &str| value[key].as_str().map(str::to_owned);
    let (Some(run), Some(part), Some(blake3)) = (word("run"), word("part"), word("blake3")) else {
        return Err(damaged());
    };
    let state = value["state"].take();
    let file = SafeTensors::deserialize(&bytes).map_err(|e| fail(e.to_string()))?;
    let views: BTreeMap<String, TensorView<'_>> = file.tensors().into_iter().collect();
    if digest(&run, &part, &state, views.iter()) != blake3 {
        return Err(damaged());
    }
    Ok((tensors, Some(Mark { run, part, state })))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn tensors() -> Vec<(String, Tensor)> {
        vec![
            ("b".to_string(), Tensor::from_slice(&[0.5f32, -1.5, 2.0, 3.25, 0.0, 7.0]).view([2, 3])),
            ("a".to_string(), Tensor::from_slice(&[7i64])),
            ("empty".to_string(), Tensor::zeros([0, 2], (Kind::Double, tch::Device::Cpu))),
        ]
    }

    #[test]
    fn a_checkpoint_comes_back_bit_for_bit_and_is_written_the_same_twice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let (tensors, state) = (tensors(), json!({"step": 3, "loss": 0.1, "best": f64::NAN}));
        write(&path, "r1", Part::Last, &tensors, &state).unwrap();
        let first = std::fs::read(&path).unwrap();
        let (read_back, said) = read(&path, "r1", Part::Last).unwrap();
        assert_eq!(said, state);
        for (name, tensor) in &tensors {
            assert!(read_back[name].equal(tensor), "{name}");
        }
        write(&path, "r1", Part::Last, &tensors, &state).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), first);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing is left beside it");
        assert_eq!(read_any(&path).unwrap().len(), 3);
    }

    #[test]
    fn no_bit_of_a_checkpoint_can_change_unnoticed_and_none_can_be_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        let (tensors, state) = (tensors(), json!({"step": 3, "loss": 0.1}));
        write(&path, "r1", Part::Best, &tensors, &state).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let mut unnoticed = Vec::new();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &changed).unwrap();
            match read(&path, "r1", Part::Best) {
                Ok(_) => unnoticed.push(bit),
                Err(error) => assert!(error.is_of_no_use() && error.to_string().contains("a.safetensors"), "{error}"),
            }
        }
        assert!(unnoticed.is_empty(), "{unnoticed:?}");
        for length in 0..bytes.len() {
            std::fs::write(&path, &bytes[..length]).unwrap();
            assert!(read(&path, "r1", Part::Best).is_err(), "the first {length} bytes");
        }
    }

    #[test]
    fn a_checkpoint_of_another_run_or_of_none_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.safetensors");
        write(&path, "r1", Part::Best, &tensors(), &json!({"step": 3})).unwrap();
        let why = |run: &str, part: Part| read(&path, run, part).unwrap_err().why().to_owned();
        assert_eq!(why("r2", Part::Best), "is a checkpoint of run r1, not of run r2");
        assert_eq!(why("r1", Part::Last), "holds the `best` checkpoint of its run, not the `last` one");
        write_with(&path, &tensors(), ("format", "pt")).unwrap();
        assert_eq!(why("r1", Part::Best), "has no checksum: it is not a checkpoint of this version");
        assert_eq!(read_any(&path).unwrap().len(), 3, "a file of weights is none");
        let gone = read(&dir.path().join("none"), "r1", Part::Last).unwrap_err();
        assert!(gone.is_of_no_use());
        let folder = read(dir.path(), "r1", Part::Last).unwrap_err();
        assert!(!folder.is_of_no_use(), "what the system does not give out may be there tomorrow");
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
