//! Tensors from safetensors bytes: reference dumps and checkpoints.

use safetensors::{Dtype, SafeTensors};
use std::collections::{BTreeMap, HashMap};
use tch::{Kind, Tensor};

/// Tensors by name, and the texts beside them.
pub type Loaded = (BTreeMap<String, Tensor>, HashMap<String, String>);

/// Tensors by name, and the metadata of the header. Floats of 16, 32 and 64 bits and int64 are known; the error names the tensor.
pub fn from_bytes(bytes: &[u8]) -> Result<Loaded, String> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
    let file = SafeTensors::deserialize(bytes).map_err(|e| e.to_string())?;
    let mut tensors = BTreeMap::new();
    for (name, view) in file.tensors() {
        let kind = match view.dtype() {
            Dtype::F32 => Kind::Float,
            Dtype::F64 => Kind::Double,
            Dtype::F16 => Kind::Half,
            Dtype::BF16 => Kind::BFloat16,
            Dtype::I64 => Kind::Int64,
            other => return Err(format!("`{name}` has unsupported type {other:?}")),
        };
        let shape: Vec<i64> = view.shape().iter().map(|&n| n as i64).collect();
        let tensor = Tensor::f_from_data_size(view.data(), &shape, kind).map_err(|e| e.to_string())?;
        tensors.insert(name, tensor);
    }
    Ok((tensors, header.metadata().clone().unwrap_or_default()))
}
