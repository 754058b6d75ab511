//! Dumps made here, one for every switch that a reference's config has: parameters and inputs are random, outputs come from
//! the mixers in float64 (which their own tests hold to plain forms) or from a recurrence written out below, and the config
//! has the reference's words. A key that the replay misreads gives other numbers; one that it does not read is refused.

#![expect(clippy::assign_op_pattern, reason = "`+=` on tensors writes in place, through every alias")]

mod others;
mod recurrent;
mod state_spaces;

use super::{Verdict, families, verify};
use crate::laws::testing::noise;
use crate::{Context, Dims, Mixer, bigs, registry, s4};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

/// A dump that is yet to be written.
#[derive(Clone)]
struct Made {
    family: &'static str,
    label: String,
    /// JSON as Python would write it.
    config: String,
    variant: String,
    no_grad_flow: Vec<String>,
    tensors: BTreeMap<String, Vec<u8>>,
    shapes: BTreeMap<String, (Dtype, Vec<usize>)>,
}

impl Made {
    /// Outputs with cotangents, and the gradients of every leaf that wants one.
    fn new(
        family: &'static str,
        config: &str,
        inputs: &[(&str, &Tensor)],
        params: &[(String, Tensor)],
        outputs: &[(&str, &Tensor)],
    ) -> Self {
        let mut made = Self {
            family,
            label: config.into(),
            config: config.into(),
            variant: String::new(),
            no_grad_flow: Vec::new(),
            tensors: BTreeMap::new(),
            shapes: BTreeMap::new(),
        };
        let mut loss = Tensor::zeros([1], (Kind::Double, Device::Cpu));
        for (salt, (name, output)) in outputs.iter().enumerate() {
            let cotangent = noise(&output.size(), 900 + salt as i64);
            loss = loss + (*output * &cotangent).sum(Kind::Double);
            made.put(&format!("output.{name}"), output);
            made.put(&format!("grad_output.{name}"), &cotangent);
        }
        if loss.requires_grad() {
            loss.backward();
        } else {
            outputs.iter().for_each(|(name, _)| made = made.clone().without(&format!("grad_output.{name}")));
        }
        let named =
            |prefix: &'static str| move |(name, t): (&str, &Tensor)| (prefix, name.to_string(), t.shallow_clone());
        let inputs = inputs.iter().copied().map(named("input"));
        let params = params.iter().map(|(name, t)| (name.as_str(), t)).map(named("param"));
        for (prefix, name, leaf) in inputs.chain(params) {
            made.put(&format!("{prefix}.{name}"), &leaf);
            let (gradient, key) = (leaf.grad(), format!("grad_{prefix}.{name}"));
            if gradient.defined() {
                made.put(&key, &gradient);
            } else if leaf.requires_grad() {
                made.no_grad_flow.push(key);
            }
        }
        made
    }

    fn put(&mut self, key: &str, tensor: &Tensor) {
        let tensor = tensor.detach().contiguous();
        let (dtype, width) = match tensor.kind() {
            Kind::Int64 => (Dtype::I64, 8),
            Kind::Float => (Dtype::F32, 4),
            _ => (Dtype::F64, 8),
        };
        let mut bytes = vec![0; tensor.numel() * width];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        self.tensors.insert(key.into(), bytes);
        self.shapes.insert(key.into(), (dtype, tensor.size().iter().map(|&n| n as usize).collect()));
    }

    /// The tensor under `key`.
    fn held(&self, key: &str) -> Tensor {
        let (dtype, shape) = &self.shapes[key];
        let kind = if *dtype == Dtype::I64 { Kind::Int64 } else { Kind::Double };
        let shape: Vec<i64> = shape.iter().map(|&n| n as i64).collect();
        Tensor::from_data_size(&self.tensors[key], &shape, kind)
    }

    /// The same with every number rounded to float32.
    fn in_single(&self) -> Self {
        let mut single = self.clone();
        let real = self.shapes.iter().filter(|(_, (dtype, _))| *dtype == Dtype::F64);
        real.for_each(|(key, _)| single.put(key, &self.held(key).to_kind(Kind::Float)));
        single
    }

    /// The same with `key` of its config set to `value`.
    fn with(&self, key: &str, value: Value) -> Self {
        let mut config = self.config();
        config.insert(key.into(), value);
        Self {
            config: Value::Object(config).to_string(),
            label: format!("{}, `{key}` changed", self.label),
            ..self.clone()
        }
    }

    fn without(mut self, key: &str) -> Self {
        assert!(self.tensors.remove(key).is_some(), "{key}");
        self
    }

    fn whole(mut self, key: &str, value: i64) -> Self {
        self.put(key, &Tensor::from(value));
        self
    }

    fn config(&self) -> Map<String, Value> {
        let read = crate::laws::goldens::reading::python_json(&self.config);
        read.and_then(|config| config.as_object().cloned()).expect("a map")
    }

    fn write(&self, folder: &Path) -> PathBuf {
        let views = self.tensors.iter().map(|(key, bytes)| {
            let (dtype, shape) = &self.shapes[key];
            (key.clone(), TensorView::new(*dtype, shape.clone(), bytes).expect("a tensor"))
        });
        let single = self.shapes.values().any(|(dtype, _)| *dtype == Dtype::F32);
        let texts = HashMap::from([
            ("dtype".to_string(), if single { "float32" } else { "float64" }.to_string()),
            ("config".into(), self.config.clone()),
            ("variant".into(), self.variant.clone()),
            ("no_grad_flow".into(), json!(self.no_grad_flow).to_string()),
        ]);
        let path = folder.join(format!("{}__made.safetensors", self.family));
        std::fs::write(&path, safetensors::serialize(views, Some(texts)).expect("serialises")).expect("writes");
        path
    }

    /// Whether it is met, and the verdict in words.
    fn verified(&self, folder: &Path) -> (bool, String) {
        let held = verify(&self.write(folder), &registry());
        (held.passed(), format!("{:?}", held.verdict))
    }

    /// A dump of the fixtures, taken apart.
    fn read(path: &Path) -> Self {
        let name = path.file_name().and_then(|name| name.to_str()).expect("a name");
        let bytes = std::fs::read(path).expect("a dump");
        let (_, header) = safetensors::SafeTensors::read_metadata(&bytes).expect("a header");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("a dump");
        let texts = header.metadata().clone().expect("texts");
        let families = families(&registry());
        let family = *families.iter().find(|family| name.starts_with(&format!("{family}__"))).expect("a known family");
        let flows = texts.get("no_grad_flow").map_or_else(Vec::new, |text| serde_json::from_str(text).expect("names"));
        Self {
            family,
            label: name.into(),
            config: texts["config"].clone(),
            variant: texts.get("variant").cloned().unwrap_or_default(),
            no_grad_flow: flows,
            tensors: file.tensors().into_iter().map(|(key, view)| (key, view.data().to_vec())).collect(),
            shapes: file
                .tensors()
                .into_iter()
                .map(|(key, view)| (key, (view.dtype(), view.shape().to_vec())))
                .collect(),
        }
    }
}

fn leaf(shape: &[i64], salt: i64) -> Tensor {
    noise(shape, salt).set_requires_grad(true)
}

/// `a` with the keys of `b` over it.
fn joined(a: &Value, b: &Value) -> Value {
    let mut all = a.as_object().expect("a map").clone();
    all.extend(b.as_object().expect("a map").clone());
    Value::Object(all)
}

/// A mixer of the registry in float64, its parameters moved off their initial values, and its parameters by name.
fn built(name: &str, settings: &Value, dims: &Dims) -> (VarStore, Box<dyn Mixer>, Vec<(String, Tensor)>) {
    let entry = registry().into_iter().find(|entry| entry.name == name).expect("a mixer");
    (entry.accepts)(settings).unwrap_or_else(|e| panic!("{settings}: {e}"));
    let wrong = entry.check(settings, dims);
    assert!(wrong.is_empty(), "{settings}: {wrong:?}");
    let mut vs = VarStore::new(Device::Cpu);
    let mixer = entry.build(settings, &vs.root(), dims);
    let parameters = moved(&mut vs);
    (vs, mixer, parameters)
}

fn moved(vs: &mut VarStore) -> Vec<(String, Tensor)> {
    vs.double();
    let mut all: Vec<(String, Tensor)> = vs.variables().into_iter().collect();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    for (salt, (_, parameter)) in all.iter().enumerate() {
        no_grad(|| drop(parameter.shallow_clone().g_add_(&(noise(&parameter.size(), salt as i64) * 0.2))));
    }
    all
}

/// A module whose config has the words of our settings, but for `more`, `[batch, length, d_model]` in and out.
fn module(family: &'static str, name: &str, shared: &Value, theirs: &Value, ours: &Value) -> Made {
    let get = |key: &str| joined(shared, theirs)[key].as_i64();
    let (batch, length, d_model) = (2, get("L").expect("L"), get("d_model").expect("d_model"));
    let mut settings = joined(shared, ours);
    for key in ["L", "batch", "d_model", "max_seq_len", "matrix_mixer_type", "is_data_dependent"] {
        settings.as_object_mut().expect("a map").remove(key);
    }
    let seq_len = get("max_seq_len").unwrap_or(length);
    let (_vs, mixer, params) = built(name, &settings, &Dims { d_model, seq_len, causal: name.starts_with("mamba") });
    let u = leaf(&[batch, length, d_model], 77);
    let y = mixer.forward(&u, &Context::eval());
    Made::new(family, &joined(shared, theirs).to_string(), &[("u", &u)], &params, &[("y", &y)])
}

fn of_hydra() -> Vec<Made> {
    let shared = json!({ "d_model": 8, "d_state": 4, "headdim": 8, "chunk_size": 8, "batch": 2, "L": 11 });
    let same = |more: Value| module("hydra", "hydra", &shared, &more, &more);
    let mut made: Vec<Made> = [
        json!({}),
        json!({ "conv_bias": false }),
        json!({ "conv_bias": false, "d_conv": 3, "bias": true }),
        json!({ "d_conv": 1 }),
        json!({ "expand": 1 }),
        json!({ "headdim": 4, "ngroups": 2 }),
        json!({ "chunk_size": 256 }),
        json!({ "learnable_init_states": true }),
        json!({ "dt_limit": [0.3, 0.6] }),
        json!({ "dt_min": 0.01, "dt_max": 0.2 }),
    ]
    .into_iter()
    .map(same)
    .collect();
    // What the reference leaves at its defaults.
    let short = json!({ "d_model": 32, "batch": 2, "L": 5 });
    made.push(module("hydra", "hydra", &short, &json!({}), &json!({ "headdim": 64, "d_state": 64, "d_conv": 7 })));
    let more = json!({ "activation": "silu", "conv_init": null, "dt_init_floor": 1e-4, "use_mem_eff_path": false,
                       "layer_idx": null, "device": null, "dtype": null, "nheads": 2 });
    let mut unlimited = module("hydra", "hydra", &shared, &more, &json!({}));
    unlimited.config = unlimited.config.replacen('{', "{\"dt_limit\": [0.0, Infinity], ", 1);
    made.push(unlimited);
    made
}

fn of_mamba2() -> Vec<Made> {
    let shared = json!({ "d_model": 8, "d_state": 4, "headdim": 8, "chunk_size": 8, "batch": 2, "L": 11 });
    let same = |more: Value| module("mamba2", "mamba2", &shared, &more, &more);
    let mut made: Vec<Made> = [
        json!({}),
        json!({ "conv_bias": false }),
        json!({ "d_conv": 2, "bias": true }),
        json!({ "headdim": 4, "ngroups": 2, "expand": 1 }),
        json!({ "learnable_init_states": true }),
        json!({ "dt_limit": [0.3, 0.6] }),
        json!({ "norm_before_gate": true }),
    ]
    .into_iter()
    .map(same)
    .collect();
    let short = json!({ "d_model": 64, "batch": 2, "L": 5 });
    made.push(module("mamba2", "mamba2", &short, &json!({}), &json!({ "headdim": 128, "d_state": 64, "d_conv": 4 })));
    made
}

fn of_mamba() -> Vec<Made> {
    let shared = json!({ "d_model": 8, "d_state": 4, "batch": 2, "L": 11 });
    let same = |more: Value| module("mamba", "mamba", &shared, &more, &more);
    let mut made: Vec<Made> = [
        json!({}),
        json!({ "conv_bias": false, "bias": true }),
        json!({ "d_conv": 2, "expand": 3 }),
        json!({ "dt_rank": 3, "dt_min": 0.01, "dt_max": 0.2 }),
    ]
    .into_iter()
    .map(same)
    .collect();
    // What the reference leaves at its defaults, and its word for one of them.
    let short = json!({ "d_model": 40, "batch": 2, "L": 5 });
    made.push(module("mamba", "mamba", &short, &json!({ "dt_rank": "auto", "layer_idx": null }), &json!({})));
    made
}

fn of_matrix_mixers() -> Vec<Made> {
    let shared = json!({ "d_model": 8, "qk_dim": 3, "headdim": 4, "batch": 2, "L": 9, "max_seq_len": 9 });
    let mut made = Vec::new();
    let classes = ["dense", "toeplitz", "vandermonde", "cauchy", "low_rank", "attention", "quasiseparable"];
    for (class, dependent) in classes.iter().flat_map(|class| [(*class, true), (*class, false)]) {
        if class == "dense" && dependent {
            continue;
        }
        let matrix = if class == "vandermonde" && !dependent { "dft" } else { class };
        for more in
            [json!({}), json!({ "d_conv": 5 }), json!({ "conv_bias": false, "bias": true }), json!({ "expand": 1 })]
        {
            let theirs = joined(&json!({ "matrix_mixer_type": class, "is_data_dependent": dependent }), &more);
            let ours = joined(&json!({ "matrix": matrix, "data_dependent": dependent }), &more);
            made.push(module("matrix_mixer", "matrix_mixer", &shared, &theirs, &ours));
        }
    }
    made
}

/// The scan one step after the other, a row at a time.
fn recurrence(x: &Tensor, dt: &Tensor, a: &Tensor, [b, c]: [&Tensor; 2], initial: Option<&Tensor>) -> [Tensor; 2] {
    let size = x.size();
    let per_head = |t: &Tensor| t.repeat_interleave_self_int(size[2] / t.size()[2], 2, None::<i64>);
    let (b, c) = (per_head(b), per_head(c));
    let mut state = Tensor::zeros([size[0], size[2], size[3], b.size()[3]], (Kind::Double, Device::Cpu));
    if let Some(initial) = initial {
        state = state + initial;
    }
    let mut outputs = Vec::new();
    for t in 0..size[1] {
        let step = dt.select(1, t);
        let fed = (x.select(1, t) * step.unsqueeze(-1)).unsqueeze(-1) * b.select(1, t).unsqueeze(2);
        state = state * (&step * a).exp().unsqueeze(-1).unsqueeze(-1) + fed;
        outputs.push(state.matmul(&c.select(1, t).unsqueeze(-1)).squeeze_dim(-1));
    }
    [Tensor::stack(&outputs, 1), state]
}

/// The scan with each subset of what may be absent.
fn of_ssd() -> Vec<Made> {
    let (batch, length, heads, d_head, groups, d_state) = (2, 7, 4, 3, 2, 5);
    let positive = |salt| (noise(&[batch, length, heads], salt) / 4.0 + 0.4).set_requires_grad(true);
    let core = json!({ "batch": batch, "L": length, "nheads": heads, "headdim": d_head, "ngroups": groups,
                       "d_state": d_state, "chunk_size": 4 });
    let mut made = Vec::new();
    for subset in 0..64 {
        let has = |bit: i32| subset >> bit & 1 == 1;
        let x = leaf(&[batch, length, heads, d_head], 1);
        let (dt, a) = (positive(2), (noise(&[heads], 3) / 2.0 - 1.0).set_requires_grad(true));
        let [b, c] = [4, 5].map(|salt| leaf(&[batch, length, groups, d_state], salt));
        let d = has(0).then(|| leaf(&if has(1) { vec![heads] } else { vec![heads, d_head] }, 6));
        let z = has(1).then(|| leaf(&[batch, length, heads, d_head], 7));
        let bias = has(2).then(|| (noise(&[heads], 8) / 8.0 + 0.1).set_requires_grad(true));
        let initial = has(3).then(|| leaf(&[batch, heads, d_head, d_state], 9));
        let mut step = bias.as_ref().map_or_else(|| dt.shallow_clone(), |bias| &dt + bias);
        if has(4) {
            step = step.softplus();
        }
        if has(5) {
            step = step.clamp(0.3, 0.5);
        }
        let [mut y, last] = recurrence(&x, &step, &a, [&b, &c], initial.as_ref());
        if let Some(d) = &d {
            y = y + &x * if d.dim() == 1 { d.unsqueeze(-1) } else { d.shallow_clone() };
        }
        if let Some(z) = &z {
            y = y * z.silu();
        }
        let mut inputs = vec![("x", &x), ("dt", &dt), ("A", &a), ("B", &b), ("C", &c)];
        inputs.extend(d.as_ref().map(|t| ("D", t)));
        inputs.extend(z.as_ref().map(|t| ("z", t)));
        inputs.extend(bias.as_ref().map(|t| ("dt_bias", t)));
        inputs.extend(initial.as_ref().map(|t| ("initial_states", t)));
        let mut config = joined(&core, &json!({ "dt_softplus": has(4), "has_D": has(0), "has_z": has(1) }));
        config["initial_states"] = if has(3) { json!([batch, heads, d_head, d_state]) } else { Value::Null };
        if has(5) {
            config["dt_limit"] = json!([0.3, 0.5]);
        }
        let outputs = [("y", &y), ("final_state", &last)];
        made.push(Made::new("ssd", &config.to_string(), &inputs, &[], &outputs[..1 + usize::from(subset % 3 == 0)]));
    }
    // Everything lies in the file, and what the reference did not read has no gradient.
    let mut stored = made[0].clone();
    for (name, shape) in [("D", vec![heads]), ("z", vec![batch, length, heads, d_head]), ("dt_bias", vec![heads])] {
        stored.put(&format!("input.{name}"), &noise(&shape, 50));
    }
    stored.put("input.initial_states", &noise(&[batch, heads, d_head, d_state], 51));
    made.push(stored);
    // D took part as a constant: its switch is on, and it has no gradient.
    made.push(made[1].clone().without("grad_input.D"));
    made
}

/// S4's block by its settings, in upstream's layout.
fn block(theirs: &Value, ours: &Value, lengths: Option<&[i64]>) -> Made {
    let shared = json!({ "d_model": 4, "d_state": 8, "batch": 3, "L": 9 });
    let config = joined(&shared, theirs);
    let length = 9;
    let settings = joined(&json!({ "d_state": 8, "dt_transform": "exp", "bidirectional": false }), ours);
    let dims = Dims { d_model: 4, seq_len: length, causal: settings["bidirectional"] == false };
    let (_vs, mixer, params) = built("s4", &settings, &dims);
    let transposed = config.get("transposed").is_none_or(|flag| flag == true);
    let x = leaf(&if transposed { [3, 4, length] } else { [3, length, 4] }, 77);
    let turn = |t: &Tensor| if transposed { t.transpose(1, 2) } else { t.shallow_clone() };
    let ctx = Context { lengths: lengths.map(Tensor::from_slice), ..Context::default() };
    let y = turn(&mixer.forward(&turn(&x), &ctx));
    Made::new("s4_block", &config.to_string(), &[("x", &x)], &params, &[("y", &y)])
}

fn of_s4_blocks() -> Vec<Made> {
    let diag = json!({ "mode": "diag", "init": "lin" });
    let same = |more: Value| {
        block(&joined(&json!({ "mode": "diag", "init": "diag-lin" }), &more), &joined(&diag, &more), None)
    };
    let mut made: Vec<Made> = [
        json!({}),
        json!({ "disc": "bilinear" }),
        json!({ "disc": "dss" }),
        json!({ "channels": 2 }),
        json!({ "l_max": 5 }),
        json!({ "rate": 2.0 }),
        json!({ "n_ssm": 2 }),
        json!({ "dt_tie": false }),
        json!({ "dt_transform": "softplus" }),
        json!({ "real_transform": "softplus" }),
        json!({ "bandlimit": 0.1 }),
        json!({ "final_act": "id" }),
        json!({ "bidirectional": true }),
        json!({ "dropout": 0.1 }),
    ]
    .into_iter()
    .map(same)
    .collect();
    made.push(block(&json!({ "mode": "diag", "init": "diag-inv", "transposed": false }), &diag, None));
    made.push(block(&json!({ "mode": "diag", "init": "diag-lin", "lengths": [9, 4, 6] }), &diag, Some(&[9, 4, 6])));
    let real = json!({ "mode": "diag", "init": "real", "d_state": 8 });
    made.push(block(&json!({ "mode": "diag", "init": "diag-real", "is_real": true }), &real, None));
    for (theirs, ours, tuned) in [
        (json!({}), json!({}), 9),
        (json!({ "l_max": 6 }), json!({ "l_max": 6 }), 6),
        (json!({ "rate": 2.0 }), json!({ "rate": 2.0 }), 18),
        (json!({ "init": "legt", "rank": 2 }), json!({ "init": "legt" }), 9),
        (json!({ "init": "fout", "n_ssm": 1 }), json!({ "init": "fout", "n_ssm": 1 }), 9),
    ] {
        made.push(block(&theirs, &ours, None).whole("buffer.layer.kernel.l_kernel", tuned));
    }
    made
}

/// The convolution alone, in both layouts, with and without its activation.
fn of_convolutions() -> Vec<Made> {
    let mut made = Vec::new();
    for (transposed, gelu, bidirectional) in
        [(true, None, false), (false, Some(false), true), (false, Some(true), false)]
    {
        let cfg = s4::Config {
            mode: s4::Mode::Diag,
            init: s4::StateInit::Lin,
            d_state: 4,
            channels: 2,
            l_max: Some(5),
            dt_transform: s4::DtTransform::Exp,
            bidirectional: Some(bidirectional),
            ..s4::Config::default()
        };
        let mut vs = VarStore::new(Device::Cpu);
        let layer = s4::Layer::new(&vs.root(), &Dims { d_model: 3, seq_len: 8, causal: !bidirectional }, &cfg);
        let params = moved(&mut vs);
        let x = leaf(&if transposed { [2, 3, 8] } else { [2, 8, 3] }, 77);
        let turn = |t: &Tensor| if transposed { t.transpose(1, 2) } else { t.shallow_clone() };
        let y = layer.forward(&turn(&x));
        let y = turn(&if gelu == Some(false) { y } else { y.gelu("none") });
        let mut config = json!({ "d_model": 3, "d_state": 4, "mode": "diag", "init": "diag-lin", "channels": 2, "l_max": 5,
                                 "batch": 2, "L": 8, "transposed": transposed, "bidirectional": bidirectional });
        match gelu {
            None => {}
            Some(true) => config["activation"] = "gelu".into(),
            Some(false) => config["activation"] = Value::Null,
        }
        made.push(Made::new("s4_fftconv", &config.to_string(), &[("x", &x)], &params, &[("y", &y)]));
    }
    made
}

fn of_minimal() -> Vec<Made> {
    [Some(true), Some(false), None]
        .into_iter()
        .map(|transposed| {
            let dims = Dims { d_model: 4, seq_len: 6, causal: true };
            let (_vs, mixer, params) = built("s4d_minimal", &json!({ "d_state": 6 }), &dims);
            let turned = transposed.unwrap_or(true);
            let u = leaf(&if turned { [2, 4, 6] } else { [2, 6, 4] }, 77);
            let turn = |t: &Tensor| if turned { t.transpose(1, 2) } else { t.shallow_clone() };
            let y = turn(&mixer.forward(&turn(&u), &Context::eval()));
            let mut config = json!({ "d_model": 4, "d_state": 6, "batch": 2, "L": 6, "dropout": 0.0 });
            if let Some(transposed) = transposed {
                config["transposed"] = transposed.into();
            }
            Made::new("s4d_minimal", &config.to_string(), &[("u", &u)], &params, &[("y", &y)])
        })
        .collect()
}

/// Three layers, tied and not, with types and without, with a loss and without.
fn of_masked_lms() -> Vec<Made> {
    let mut made = Vec::new();
    for (tied, typed, layers) in [(true, false, 3), (false, false, 1), (true, true, 1)] {
        let cfg = bigs::mlm::MlmConfig {
            vocab_size: 11,
            d_model: 6,
            n_layers: layers,
            max_positions: 9,
            token_types: 2,
            pad_token: 1,
            dropout: 0.0,
            tied,
            layer: bigs::Config { d_ff: Some(10), d_state: 4, mask_padding: false, ..bigs::Config::default() },
            ..bigs::mlm::MlmConfig::default()
        };
        let mut vs = VarStore::new(Device::Cpu);
        let model = bigs::mlm::MaskedLm::new(&vs.root(), &cfg).expect("sizes that fit");
        let params = moved(&mut vs);
        let mut tokens = (noise(&[2, 7], 5) * 5.0 + 5.0).to_kind(Kind::Int64);
        // The token of padding and the one after it are read, so that it shows which of their rows gets no gradient.
        for (at, token) in [(0_i64, 1_i64), (1, 2)] {
            tokens = tokens.index_fill(1, &Tensor::from_slice(&[at]), token);
        }
        let types = typed.then(|| (noise(&[2, 7], 6) + 1.0).to_kind(Kind::Int64).clamp(0, 1));
        let labels = (noise(&[2, 7], 7) * 5.0 + 5.0).to_kind(Kind::Int64);
        let logits = model.forward(&tokens, types.as_ref(), &Context::eval());
        let loss = bigs::mlm::MaskedLm::loss(&logits, &labels);
        let mut inputs = vec![("input_ids", &tokens)];
        inputs.extend(types.as_ref().map(|types| ("token_type_ids", types)));
        let mut outputs = vec![("logits", &logits)];
        if !typed {
            inputs.push(("labels", &labels));
            outputs.push(("loss", &loss));
        }
        let config = json!({ "batch": 2, "L": 7, "hidden_size": 6, "intermediate_size": 10, "num_ssm": 4,
            "num_hidden_layers": layers, "vocab_size": 11, "max_position_embeddings": 9, "pad_token_id": 1,
            "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "tied_decoder": tied, "dropout": 0.0,
            "pre_norm": true, "position_embedding_type": "absolute", "pooler_type": "non_padding_mean" });
        made.push(Made::new("bigs_mlm", &config.to_string(), &inputs, &params, &outputs));
    }
    made
}

fn of_attention() -> Vec<Made> {
    let shared = json!({ "d_model": 8, "n_heads": 2 });
    let variants =
        [json!({}), json!({ "bias": false }), json!({ "causal": true }), json!({ "window": 3, "rotary_base": 10.0 })];
    let made = |more: Value| {
        let mut settings = joined(&json!({ "n_heads": 2 }), &more);
        settings.as_object_mut().expect("a map").remove("causal");
        let causal = more.get("causal").is_some();
        let (_vs, mixer, params) = built("attention", &settings, &Dims { d_model: 8, seq_len: 6, causal });
        let x = leaf(&[2, 6, 8], 77);
        let y = mixer.forward(&x, &Context::eval());
        Made::new("attention", &joined(&shared, &more).to_string(), &[("x", &x)], &params, &[("y", &y)])
    };
    variants.into_iter().map(made).collect()
}

/// A module in which the keys have a bias of their own: under the softmax its gradient is 0 but for rounding.
fn shifted_attention() -> Made {
    let settings = json!({ "n_heads": 2, "segment": 1, "naming": "tf", "bias": true });
    let (_vs, mixer, params) = built("combiner", &settings, &Dims { d_model: 6, seq_len: 8, causal: true });
    let x = leaf(&[2, 8, 6], 77);
    let y = mixer.forward(&x, &Context::eval());
    let config = json!({ "H": 2, "d": 3, "L": 8, "w": 1, "fn": "fixed", "level": "module", "causal": true });
    Made::new("combiner", &config.to_string(), &[("x", &x)], &params, &[("y", &y)])
}

/// `cos(2π t s / L)`.
fn cosines(length: i64) -> Tensor {
    let at = Tensor::arange(length, (Kind::Int64, Device::Cpu));
    ((at.unsqueeze(1) * &at).remainder(length).to_kind(Kind::Double) * (2.0 * std::f64::consts::PI / length as f64))
        .cos()
}

fn all_made() -> Vec<Made> {
    let made = [
        of_hydra(),
        of_mamba(),
        of_mamba2(),
        of_matrix_mixers(),
        of_ssd(),
        of_s4_blocks(),
        of_convolutions(),
        of_minimal(),
        of_masked_lms(),
        of_attention(),
        vec![shifted_attention()],
        others::of_bigs(),
        others::of_combiner(),
        others::of_hippo(),
        others::of_matrix_cores(),
        others::of_quasiseparable(),
        recurrent::of_layers(),
        state_spaces::kernels(),
        state_spaces::layers(),
    ];
    made.concat()
}

/// Dumps of the references, float64.
fn fixtures() -> Vec<Made> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/goldens");
    let mut paths: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("fixtures").flatten().map(|file| file.path()).collect();
    paths.retain(|path| path.to_string_lossy().ends_with(".f64.safetensors"));
    paths.sort();
    paths.iter().map(|path| Made::read(path)).collect()
}

#[test]
fn every_switch_of_a_config_is_replayed() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut wrong = Vec::new();
    for made in all_made() {
        let (passed, message) = made.verified(folder.path());
        if !passed {
            wrong.push(format!("{}: {}\n  {message}", made.family, made.label));
        }
    }
    assert!(wrong.is_empty(), "{} dumps are not met:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_key_or_a_tensor_that_nobody_reads_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    for made in fixtures() {
        let mut config = made.config();
        config.insert("frobnicate".into(), 3.into());
        let (passed, message) =
            Made { config: Value::Object(config).to_string(), ..made.clone() }.verified(folder.path());
        assert!(!passed && message.contains("config `frobnicate` (3)"), "{}: {message}", made.label);
        for key in ["input.extra", "buffer.extra", "param.extra", "output.extra", "weight.extra"] {
            let mut more = made.clone();
            more.put(key, &noise(&[2], 1));
            more.no_grad_flow.extend([format!("grad_{key}")]);
            let (passed, message) = more.verified(folder.path());
            assert!(!passed && message.contains(&format!("`{key}`")), "{}, {key}: {message}", made.label);
        }
    }
}

/// Words that a key may have. The classes of matrices are those whose parameters have the same shapes.
fn words(key: &str) -> &'static [&'static str] {
    match key {
        "disc" => &["zoh", "bilinear", "dss"],
        "pool" => &["max", "mean", "sum"],
        "local_summary" => {
            &["identity-max", "relu-max", "identity-mean", "identity-sum", "deepset-max", "deepset-mean"]
        }
        "row_summary" => &["none", "wsum", "proj", "wsum_proj"],
        "dt_transform" => &["exp", "softplus"],
        "real_transform" => &["exp", "relu", "softplus", "none"],
        "final_act" => &["glu", "id"],
        "matrix_mixer_type" => {
            &["dense", "toeplitz", "vandermonde", "cauchy", "low_rank", "attention", "quasiseparable"]
        }
        _ => &[],
    }
}

/// Other values of the same type: a word that nobody knows, and every other one that the key may have.
fn others(key: &str, value: &Value) -> Vec<Value> {
    match value {
        Value::Bool(flag) => vec![(!flag).into()],
        Value::Number(n) if n.is_i64() => vec![(n.as_i64().expect("an integer") + 1).into()],
        Value::Number(_) if key == "bandlimit" => vec![1e-3.into()],
        Value::Number(n) => vec![(n.as_f64().expect("a number") + 0.5).into()],
        Value::String(word) if key == "activation" && word == "gelu" => vec!["gelux".into(), Value::Null],
        Value::Null if key == "activation" => vec!["gelu".into(), "x".into()],
        Value::String(word) => {
            let known = words(key).iter().filter(|other| *other != word).map(|word| (*word).into());
            known.chain([format!("{word}x").into()]).collect()
        }
        Value::Array(_) => vec![json!([0.4, 0.5])],
        _ => vec!["x".into()],
    }
}

/// Keys whose value changes no number of a dump: the parameters are given, and chunks are a matter of speed.
fn without_effect(made: &Made, key: &str) -> bool {
    let config = made.config();
    let class = config.get("matrix_mixer_type").and_then(Value::as_str).unwrap_or_default();
    let dependent = config.get("is_data_dependent") == Some(&Value::Bool(true));
    match (made.family, key) {
        (_, "chunk_size" | "dt_min" | "dt_max" | "conv_init" | "dt_init_floor" | "layer_idx" | "device" | "dtype") => {
            true
        }
        (_, "use_mem_eff_path" | "dropout" | "pooler_type") => true,
        // Of two directions the port's layer does not read `pre_norm`.
        ("bigs_mlm", "pre_norm") => true,
        ("matrix_mixer", "qk_dim") => matches!(class, "dense" | "toeplitz") || class == "vandermonde" && !dependent,
        ("matrix_mixer", "max_seq_len") => matches!(class, "attention" | "quasiseparable") && dependent,
        ("combiner", "w") => config["fn"] == "logsparse",
        ("combiner", "ln_eps") => config.get("row_summary").is_some_and(|word| word == "none" || word == "wsum"),
        ("lru", "r_min" | "r_max" | "max_phase") | ("s5", "C_init" | "blocks" | "clip_eigs") => true,
        ("rwkv7", "num_hidden_layers") => true,
        ("rwkv7", "v_low_rank_dim") => config["layer_idx"] == 0,
        ("lru", "prenorm") => config["layer"] == false,
        (_, "conv_size" | "conv_bias") => config.get("use_short_conv") == Some(&Value::Bool(false)),
        ("s4_kernel_dplr", "L_first") => config.contains_key("l_max"),
        _ => false,
    }
}

#[test]
fn no_key_of_a_dump_can_change_without_the_verdict() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut wrong = Vec::new();
    let mut tried = 0;
    let more = [of_hydra(), of_mamba2(), of_matrix_mixers(), of_s4_blocks(), of_masked_lms(), others::of_combiner()];
    for made in fixtures().into_iter().chain(more.concat()) {
        for (key, value) in made.config() {
            if without_effect(&made, &key) {
                continue;
            }
            for other in others(&key, &value) {
                tried += 1;
                if made.with(&key, other.clone()).verified(folder.path()).0 {
                    wrong.push(format!("{} `{key}` from {value} to {other}: {}", made.family, made.label));
                }
            }
        }
    }
    assert!(tried > 500, "{tried}");
    assert!(wrong.is_empty(), "{} of {tried} changed keys still pass:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_gradient_that_should_be_there_is_asked_for_and_one_that_should_not_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let ssd = of_ssd();
    let (passed, message) = ssd[1].clone().without("grad_input.dt").verified(folder.path());
    assert!(!passed && message.contains("`grad_input.dt` is missing"), "{message}");
    let mut off = ssd[1].clone();
    off.config = off.config.replace("\"has_D\":true", "\"has_D\":false");
    assert_ne!(off.config, ssd[1].config);
    let (passed, message) = off.verified(folder.path());
    assert!(!passed && message.contains("config `has_D` leaves `input.D` out"), "{message}");
    let mut flows = of_minimal().remove(0);
    flows.no_grad_flow.push("grad_param.D".into());
    let (passed, message) = flows.verified(folder.path());
    assert!(!passed && message.contains("`no_grad_flow` names `grad_param.D`"), "{message}");
}

#[test]
fn the_unused_key_is_named_where_the_replay_fails_for_another_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut made = of_hydra().remove(0);
    made.config = made.config.replacen('{', "{\"d_conv\":9,\"frobnicate\":[1],", 1);
    let (passed, message) = made.verified(folder.path());
    assert!(
        !passed && message.contains("conv1d.weight` has shape") && message.contains("config `frobnicate` ([1])"),
        "{message}"
    );
    assert!(matches!(verify(&made.write(folder.path()), &registry()).verdict, Verdict::Broken(_)));
}

#[test]
fn the_gradients_of_one_parameter_in_all_layers_are_one_role_and_nothing_else_is() {
    use crate::laws::goldens::role;
    assert_eq!(role("grad_param.layer.0.fs4.kernel.log_step"), role("grad_param.layer.12.fs4.kernel.log_step"));
    assert_ne!(role("grad_param.layer.0.fs4.kernel.log_step"), role("grad_param.layer.0.bs4.kernel.log_step"));
    assert_ne!(role("grad_param.layer.0.fs4.kernel.log_step"), role("grad_param.layer.0.fs4.kernel.A_re"));
    assert_eq!(role("output.0.y"), "output.0.y");
    assert_ne!(role("grad_param.output_linear.0.weight"), role("grad_param.output_linear.0.bias"));
}
