//! Reference dumps: one safetensors file per case and precision, keys `input.*`, `param.*`, `output.*`, `grad_*`.
//!
//! A [`Golden`] is what a file holds. A family's replay rebuilds the mixer from `param.*`, runs it on `input.*` and hands
//! back what it got; [`verify`](crate::laws::verify()) holds that against the file, tensor by tensor. A dump with a key or a tensor that
//! the replay does not use is refused by that name (`goldens/reading.rs`): an unread key is a comparison that did not happen.

mod fitting;
pub(crate) mod reading;

pub(crate) use reading::whole;

use crate::{Context, Mixer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tch::nn::{self, VarStore};
use tch::{Device, Kind, Tensor};

/// float64 files must be met to this, relative to the largest reference entry of the same tensor.
pub const F64_TOLERANCE: f64 = 1e-9;
/// float32 files must be met to this or to four times the reference's own recorded float32 error, whichever is larger: with `t`
/// a tensor of the file, `s` the largest entry and `e` the recorded error, `max |f32 - f64| / max |f64|`,
///
/// ```text
/// max |ours_t - theirs_t|  ≤  max( 1e-5 · max_r s_r,  4 · max_r e_r s_r )          r over the tensors of t's role
/// ```
/// A role is a parameter's name without the numbers of layers: the gradients of one parameter in every layer are held as the
/// one tensor they would be if layers were an axis, and so are scale and error. That matters for gradients of single numbers, such
/// as BiGS's `log_step`: each is a small sum of large terms, so its rounding error relative to itself is anything, for the
/// reference too (1e-7 to 1e-5 within one file), and four times a sample of one bounds nothing. Tensors of another shape are
/// another role; outputs, inputs and parameters that exist once are a role each. Errors and tolerances are shown relative to
/// `max_r s_r`.
///
/// A gradient's scale is in both precisions at least 1e-4 of the file's largest gradient: one that is zero in exact arithmetic
/// (a key bias under a softmax) is rounding noise in the reference and here.
pub const F32_TOLERANCE: f64 = 1e-5;

/// Least scale of a gradient, as a share of the file's largest.
const LEAST_SCALE: f64 = 1e-4;

/// What a gradient that `no_grad_flow` names may have, as a share of the file's largest gradient: rounding noise of a gradient
/// that is zero in exact arithmetic.
pub(crate) fn rounding_noise(kind: Kind) -> f64 {
    if kind == Kind::Double { 1e-12 } else { 1e-5 }
}

/// What goes wrong with a dump.
#[derive(Debug, thiserror::Error)]
pub enum GoldenError {
    /// The file cannot be read as safetensors.
    #[error("{path}: {why}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The message of the reader.
        why: String,
    },
    /// The file lacks something its family needs.
    #[error("{path}: {what} is missing or malformed")]
    Lacks {
        /// The file.
        path: PathBuf,
        /// The key.
        what: String,
    },
    /// The file contradicts itself, or holds what no mixer can be held against.
    #[error("{path}: {why}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The key, and what is wrong with it.
        why: String,
    },
    /// This build has no mixer for the case.
    #[error("unsupported: {0}")]
    Unsupported(String),
}

/// A dump, in memory. Its config and tensors are read through methods that remember what was asked for.
#[derive(Debug)]
pub struct Golden {
    /// Where it was read.
    pub path: PathBuf,
    /// The part of the file name before `__`.
    pub family: String,
    /// `Float` or `Double`.
    pub kind: Kind,
    /// Where its tensors are, and where its replay computes.
    pub device: Device,
    /// The metadata entry `config`, parsed: a map.
    config: Value,
    /// The metadata entry `variant`.
    pub variant: String,
    f32_errors: BTreeMap<String, f64>,
    /// Gradients of what takes no part in the output: the file has none.
    without_gradient: Vec<String>,
    tensors: BTreeMap<String, Tensor>,
    marks: reading::Marks,
}

impl Golden {
    /// Reads one file, to be replayed on a CPU.
    pub fn read(path: &Path) -> Result<Self, GoldenError> {
        Self::read_to(path, Device::Cpu)
    }

    /// Reads one file, to be replayed on `device`.
    pub fn read_to(path: &Path, device: Device) -> Result<Self, GoldenError> {
        let unreadable = |why: String| GoldenError::Unreadable { path: path.into(), why };
        let bytes = std::fs::read(path).map_err(|e| unreadable(e.to_string()))?;
        let (tensors, meta) = crate::core::weights::from_bytes(&bytes).map_err(unreadable)?;
        let lacks = |what: &str| GoldenError::Lacks { path: path.into(), what: what.into() };
        let json = |key: &str| meta.get(key).and_then(|text| reading::python_json(text));
        let kind = match meta.get("dtype").map(String::as_str) {
            Some(d) if d.ends_with("float32") || d == "f32" => Kind::Float,
            Some(d) if d.ends_with("float64") || d == "f64" => Kind::Double,
            _ => return Err(lacks("metadata `dtype`")),
        };
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let errors = json("f32_vs_f64_max_err_rel_to_max_abs").unwrap_or(Value::Null);
        Ok(Self {
            path: path.into(),
            family: name.split_once("__").map_or(name, |(family, _)| family).to_string(),
            kind,
            device,
            config: json("config").filter(Value::is_object).ok_or_else(|| lacks("metadata `config`"))?,
            variant: meta.get("variant").cloned().unwrap_or_default(),
            f32_errors: errors
                .as_object()
                .map(|map| map.iter().filter_map(|(k, v)| Some((k.clone(), v.as_f64()?))).collect())
                .unwrap_or_default(),
            without_gradient: json("no_grad_flow")
                .and_then(|names| serde_json::from_value(names).ok())
                .unwrap_or_default(),
            tensors: tensors.into_iter().map(|(name, tensor)| (name, tensor.to_device(device))).collect(),
            marks: reading::Marks::default(),
        })
    }

    /// Whether the file is one a mixer can be held against: finite numbers of the stated precision, outputs to meet, and
    /// for every gradient the tensor it belongs to, of the same shape, and the other way round.
    pub fn check(&self) -> Result<(), GoldenError> {
        let malformed = |why: String| GoldenError::Malformed { path: self.path.clone(), why };
        for (key, tensor) in &self.tensors {
            if !tensor.is_floating_point() {
                continue;
            }
            if tensor.kind() != self.kind {
                let why = format!("`{key}` is {:?}, but metadata `dtype` says {:?}", tensor.kind(), self.kind);
                return Err(malformed(why));
            }
            let bad = tensor.isfinite().logical_not();
            let first = bad.flatten(0, -1).nonzero();
            if first.numel() > 0 {
                let at = first.int64_value(&[0, 0]);
                let value = tensor.flatten(0, -1).double_value(&[at]);
                let what = match first.size()[0] {
                    1 => "1 number that is".to_string(),
                    count => format!("{count} numbers that are"),
                };
                return Err(malformed(format!("`{key}` holds {what} not finite, {value} at entry {at}")));
            }
        }
        if self.names("output").is_empty() {
            return Err(self.lacks("every `output.*`"));
        }
        let has_gradients = !self.names("grad_input").is_empty() || !self.names("grad_param").is_empty();
        if has_gradients && self.names("grad_output").is_empty() {
            return Err(self.lacks("every `grad_output.*`"));
        }
        for (gradient, of) in [("grad_output", "output"), ("grad_input", "input"), ("grad_param", "param")] {
            for name in self.names(gradient) {
                let (gradient, of) = (format!("{gradient}.{name}"), format!("{of}.{name}"));
                let held = |key: &str| self.tensors.get(key).ok_or_else(|| self.lacks(format!("`{key}`")));
                let (got, want) = (held(&gradient)?.size(), held(&of)?.size());
                if got != want {
                    return Err(malformed(format!("`{gradient}` has shape {got:?}, and `{of}` has {want:?}")));
                }
            }
        }
        for name in self.names("param") {
            let differentiable = self.tensors[&format!("param.{name}")].is_floating_point();
            let gradient = format!("grad_param.{name}");
            let there = self.has(&gradient) || self.without_gradient.contains(&gradient);
            if has_gradients && differentiable && !there {
                return Err(self.lacks(format!("`{gradient}`")));
            }
        }
        Ok(())
    }

    fn lacks(&self, what: impl Into<String>) -> GoldenError {
        GoldenError::Lacks { path: self.path.clone(), what: what.into() }
    }

    /// Names after `prefix.`, such as every parameter under `param`.
    pub fn names(&self, prefix: &str) -> Vec<&str> {
        self.tensors.keys().filter_map(|k| k.strip_prefix(prefix)?.strip_prefix('.')).collect()
    }

    /// Turns `vs` to this file's precision and fills every parameter from `param.<name>`. A parameter that the file lacks,
    /// one that only the file has, or another shape is an error.
    pub fn fill(&self, vs: &mut VarStore) -> Result<(), GoldenError> {
        vs.set_kind(self.kind);
        let mut left: Vec<&str> = self.names("param");
        // In order of name, so that the same file always fails for the same reason.
        for (name, mut variable) in vs.variables().into_iter().collect::<BTreeMap<_, _>>() {
            let value = self.tensor(&format!("param.{name}"))?;
            let (theirs, ours) = (value.size(), variable.size());
            if theirs != ours {
                let why = format!("`param.{name}` has shape {theirs:?}, and the config asks for {ours:?}");
                return Err(GoldenError::Malformed { path: self.path.clone(), why });
            }
            tch::no_grad(|| variable.copy_(value));
            left.retain(|n| *n != name);
        }
        match left.first() {
            None => Ok(()),
            Some(name) => Err(self.lacks(format!("a place for `param.{name}`"))),
        }
    }

    /// Replays a whole layer: what `layer` makes, with the file's parameters, from `input.<input>` to `output.y`.
    pub fn replay_layer<M: Mixer>(
        &self,
        input: &str,
        layer: impl FnOnce(&nn::Path) -> M,
    ) -> Result<Replay, GoldenError> {
        let x = self.input(input)?;
        let mut vs = VarStore::new(self.device);
        let layer = layer(&vs.root());
        self.fill(&mut vs)?;
        let y = layer.forward(&x, &Context::eval());
        self.replay(&[("y", &y)], &[(input, &x)], Some(&vs))
    }

    /// Back-propagates `sum(output · grad_output)` over all `outputs` and collects values and gradients of the named
    /// outputs, of `inputs` (leaves from [`Golden::input`]) and of every parameter in `vs`.
    pub fn replay(
        &self,
        outputs: &[(&str, &Tensor)],
        inputs: &[(&str, &Tensor)],
        vs: Option<&VarStore>,
    ) -> Result<Replay, GoldenError> {
        let mut got = BTreeMap::new();
        let mut loss: Option<Tensor> = None;
        for (name, value) in outputs {
            if let Some(cotangent) = self.tensors.get(&format!("grad_output.{name}")) {
                let term = (*value * cotangent).sum(value.kind());
                loss = Some(match loss {
                    None => term,
                    Some(sum) => sum + term,
                });
            }
            got.insert(format!("output.{name}"), value.detach());
        }
        if let Some(loss) = loss {
            loss.backward();
        }
        let mut gradient = |key: String, leaf: &Tensor| {
            let grad = leaf.grad();
            if grad.defined() {
                got.insert(key, grad);
            } else if self.has(&key) {
                got.insert(key, leaf.zeros_like());
            }
        };
        for (name, leaf) in inputs {
            gradient(format!("grad_input.{name}"), leaf);
        }
        for (name, variable) in vs.map(VarStore::variables).unwrap_or_default() {
            gradient(format!("grad_param.{name}"), &variable);
        }
        Ok(Replay(got))
    }

    /// Keys whose values a replay must meet: what the reference gave and, where the reference is known to be wrong, what it
    /// should have given.
    pub(crate) fn expected(&self) -> impl Iterator<Item = (&str, &Tensor)> {
        let given = |key: &str| ["output.", "grad_input.", "grad_param."].iter().any(|p| key.starts_with(p));
        let held = move |key: &str| given(key) || key.starts_with("aux.") && key.ends_with("_full_support");
        self.tensors.iter().map(|(k, t)| (k.as_str(), t)).filter(move |(k, _)| held(k))
    }

    /// The largest entry of all gradients in the file; 0 where there are none.
    pub(crate) fn largest_gradient(&self) -> f64 {
        let gradients = self.tensors.iter().filter(|(key, _)| is_gradient(key));
        gradients.map(|(_, t)| largest_entry(t)).fold(0.0, f64::max)
    }

    /// What a tensor's deviation is measured in and how much of that it may be: see [`F32_TOLERANCE`].
    pub(crate) fn bound(&self, key: &str) -> Bound {
        let least = if is_gradient(key) { LEAST_SCALE * self.largest_gradient() } else { 0.0 };
        let scale = self.tensors.get(key).map_or(0.0, largest_entry);
        if self.kind == Kind::Double {
            return Bound { scale: scale.max(least), tolerance: F64_TOLERANCE };
        }
        let (mut largest, mut error) = (least, 0f64);
        let shape = self.tensors.get(key).map(Tensor::size);
        let of_role = role(key);
        let of_it = |other: &str, t: &Tensor| role(other) == of_role && Some(t.size()) == shape;
        for (other, tensor) in self.tensors.iter().filter(|(other, tensor)| of_it(other, tensor)) {
            let scale = largest_entry(tensor);
            largest = largest.max(scale);
            error = error.max(scale * self.f32_errors.get(other).copied().unwrap_or(0.0));
        }
        let relative = if largest > 0.0 { 4.0 * error / largest } else { 0.0 };
        Bound { scale: largest, tolerance: F32_TOLERANCE.max(relative) }
    }
}

fn is_gradient(key: &str) -> bool {
    key.starts_with("grad_input.") || key.starts_with("grad_param.")
}

/// The largest magnitude in `t`; 0 where it has no entries.
fn largest_entry(t: &Tensor) -> f64 {
    if t.numel() == 0 { 0.0 } else { t.to_kind(Kind::Double).abs().max().double_value(&[]) }
}

/// How far a tensor may be off: `tolerance · scale`.
pub(crate) struct Bound {
    pub scale: f64,
    pub tolerance: f64,
}

/// A gradient's key without the numbers of layers; other keys are as they stand.
pub(crate) fn role(key: &str) -> String {
    if !key.starts_with("grad_param.") {
        return key.into();
    }
    let numbered = |part: &&str| part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit());
    key.split('.').filter(numbered).collect::<Vec<_>>().join(".")
}

/// What a mixer gave, by key.
#[derive(Debug)]
pub struct Replay(pub BTreeMap<String, Tensor>);

/// Largest deviation over the largest reference entry (over 1 where the reference is all zero). Another shape or a
/// non-finite entry is infinitely wrong.
pub fn relative_error(got: &Tensor, want: &Tensor) -> f64 {
    error_in(largest_entry(want), got, want)
}

/// Largest deviation in units of `scale` (of 1 where that is 0).
pub(crate) fn error_in(scale: f64, got: &Tensor, want: &Tensor) -> f64 {
    if got.size() != want.size() {
        return f64::INFINITY;
    }
    if want.numel() == 0 {
        return 0.0;
    }
    let deviation = (got.to_kind(Kind::Double) - want.to_kind(Kind::Double)).abs().max().double_value(&[]);
    let error = deviation / if scale > 0.0 { scale } else { 1.0 };
    if error.is_finite() { error } else { f64::INFINITY }
}
