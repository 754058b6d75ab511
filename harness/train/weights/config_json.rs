//! The `config.json` beside a file of weights: what its tensors do not say of the model, such as the number of heads.
//!
//! Read are the keys that Hugging Face's BERT, the BiGS port and their relatives write, this project's own names for the same
//! things, the settings of the mixer by their names, and `seq_len`, the longest sequence the weights were made for. A key
//! that the model holds otherwise is refused; keys about other things are left aside.

use super::WeightsError;
use crate::model::{Activation, Ffn, HeadKind, ModelConfig, Positions};
use crate::registry::Registry;
use crate::train::checkpoint::CheckpointError;
use crate::train::spec::Choice;
use mixers::LayerFacts;
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use tasks::{Input, TaskSpec};

/// Where our own description of the model stands.
const OWN: &str = "mixarena";

/// A `config.json`.
#[derive(Debug)]
pub struct ConfigJson {
    path: PathBuf,
    weights: PathBuf,
    keys: Map<String, Value>,
}

/// One thing that a config may say of a model.
struct Fact {
    /// What it is called in configs; the first is written.
    names: &'static [&'static str],
    /// What it is called here.
    key: &'static str,
    ours: Value,
    /// Other values that mean the same.
    also: &'static [&'static str],
    /// What to do, with `{}` for the value in the file.
    remedy: &'static str,
}

/// `STEM.config.json` for weights `STEM.safetensors`, and `config.json` for all of a folder.
fn places(weights: &Path) -> [PathBuf; 2] {
    [weights.with_extension("config.json"), weights.with_file_name("config.json")]
}

impl ConfigJson {
    /// The config of the weights at `path`, where there is one.
    pub fn read(path: &Path) -> Result<Option<Self>, WeightsError> {
        let Some(at) = places(path).into_iter().find(|at| at.is_file()) else { return Ok(None) };
        let unreadable = |why: String| WeightsError::Other {
            path: at.clone(),
            problem: why,
            help: "mend it, or remove it if it does not belong to the weights beside it".into(),
        };
        let text = std::fs::read_to_string(&at).map_err(|e| unreadable(e.to_string()))?;
        match serde_json::from_str(&text) {
            Ok(Value::Object(keys)) => Ok(Some(Self { path: at, weights: path.into(), keys })),
            Ok(_) => Err(unreadable("is no map of settings".into())),
            Err(e) => Err(unreadable(format!("line {}, column {}: {e}", e.line(), e.column()))),
        }
    }

    /// The longest sequence that the weights were made for, where the file says it.
    pub fn seq_len(&self) -> Result<Option<i64>, WeightsError> {
        let Some((key, value)) = ["seq_len", "max_seq_len"].iter().find_map(|key| Some((key, self.given(key)?))) else {
            return Ok(None);
        };
        match value.as_i64() {
            Some(length) if length > 0 => Ok(Some(length)),
            _ => {
                Err(self
                    .refused(format!("`{key}` is {value}, which is no length"), "write a whole number from 1".into()))
            }
        }
    }

    /// Whether everything that the file says of a model is so of this one.
    pub fn held_against(
        &self,
        model: &ModelConfig,
        mixer: &Choice,
        task: &TaskSpec,
        registry: &Registry,
    ) -> Result<(), WeightsError> {
        let settings = mixer.settings.as_object();
        let own = self.keys.get(OWN).and_then(Value::as_object);
        let mixers = own.and_then(|own| own.get("mixer")).and_then(Value::as_object);
        let of_mixer = mixers.and_then(|mixers| mixers.get(&mixer.name)).and_then(Value::as_object);
        if let (Some(mixers), None) = (mixers, of_mixer) {
            let names: Vec<&str> = mixers.keys().map(String::as_str).collect();
            let problem =
                format!("the weights are of `{}`, and this model's mixer is `{}`", names.join(", "), mixer.name);
            return Err(self.refused(problem, "give the run the mixer that the weights were trained with".into()));
        }
        let mut aside = registry.mixer(&mixer.name).map_or(Vec::new(), |entry| entry.training_only.to_vec());
        for fact in facts(model, &layer(model, mixer, registry), task) {
            aside.extend(fact.names);
            for name in fact.names {
                let Some(theirs) = self.given(name) else { continue };
                if !same(theirs, &fact.ours) && !fact.also.iter().any(|word| theirs.as_str() == Some(*word)) {
                    let problem = format!("`{name}` is {theirs}, and `{}` of this model is {}", fact.key, fact.ours);
                    return Err(self.refused(problem, remedy(&fact, theirs)));
                }
            }
        }
        if let Some(there) = of_mixer {
            self.same_settings(settings, there, &aside)?;
        }
        self.same_settings(settings, &self.keys, &aside)?;
        if let Some(there) = own.and_then(|own| own.get("model")).and_then(Value::as_object) {
            let here = model.body();
            let differs = |(key, value): &(&String, &Value)| here.get(key.as_str()).is_some_and(|ours| ours != *value);
            if let Some((key, value)) = there.iter().find(differs) {
                let problem = format!("`{key}` is {value}, and {} in this model", here[key]);
                return Err(self.refused(problem, format!("set `model: {{ {key}: {} }}`", plain(value))));
            }
        }
        match own.and_then(|own| own.get("causal")).and_then(Value::as_bool) {
            Some(causal) if causal != task.causal => {
                let word = |causal| if causal { "causal" } else { "not causal" };
                let problem =
                    format!("the weights were trained {}, and the task is {}", word(causal), word(task.causal));
                Err(self.refused(problem, "start from weights trained in the task's direction".into()))
            }
            _ => Ok(()),
        }
    }

    /// Whether the mixer's settings are the same by their own names, those that are left aside excepted.
    fn same_settings(
        &self,
        ours: Option<&Map<String, Value>>,
        theirs: &Map<String, Value>,
        aside: &[&str],
    ) -> Result<(), WeightsError> {
        for (key, value) in ours.into_iter().flatten() {
            let Some(there) = theirs.get(key).filter(|_| !aside.contains(&key.as_str())) else { continue };
            if !same(there, value) {
                let problem = format!("`{key}` is {there}, and {value} in this model's mixer");
                return Err(self.refused(problem, format!("set `{key}: {}` at the mixer", plain(there))));
            }
        }
        Ok(())
    }

    fn given(&self, key: &str) -> Option<&Value> {
        self.keys.get(key).filter(|value| !value.is_null())
    }

    fn refused(&self, problem: String, remedy: String) -> WeightsError {
        let weights = self.weights.file_name().unwrap_or_default().to_string_lossy();
        let help = format!("{remedy}; if this file does not describe `{weights}`, keep the two in different folders");
        WeightsError::Other { path: self.path.clone(), problem, help }
    }
}

/// Numbers as numbers (1e-12 and 1.0e-12, 4 and 4.0), the rest as it stands.
fn same(a: &Value, b: &Value) -> bool {
    match (a.as_f64(), b.as_f64()) {
        (Some(a), Some(b)) => (a - b).abs() <= 1e-6 * a.abs().max(b.abs()),
        _ => a == b,
    }
}

/// A value as YAML would have it.
fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

impl Fact {
    fn new(names: &'static [&'static str], key: &'static str, ours: impl Into<Value>, remedy: &'static str) -> Self {
        Self { names, key, ours: ours.into(), also: &[], remedy }
    }

    /// With other words that mean the same.
    fn also(self, words: &'static [&'static str]) -> Self {
        Self { also: words, ..self }
    }
}

/// What a config can say of this model.
fn facts(model: &ModelConfig, layer: &LayerFacts, task: &TaskSpec) -> Vec<Fact> {
    let model = model.resolved();
    let parts = [of_sizes(&model), of_layer(&model, layer), of_embedding(&model, task), of_activation(&model, layer)];
    parts.into_iter().flatten().flatten().collect()
}

/// Width, depth and norm.
fn of_sizes(model: &ModelConfig) -> Vec<Option<Fact>> {
    let widths = &["hidden_size", "d_model", "n_embd", "dim"];
    let depths = &["num_hidden_layers", "n_layers", "n_layer", "num_layers"];
    let epsilons = &["layer_norm_eps", "layer_norm_epsilon", "norm_eps"];
    vec![
        Some(Fact::new(widths, "d_model", model.d_model, "set `model: { d_model: {} }`")),
        Some(Fact::new(depths, "n_layers", model.n_layers, "set `model: { n_layers: {} }`")),
        model.norm_eps.map(|eps| Fact::new(epsilons, "norm_eps", eps, "set `model: { norm_eps: {} }`")),
    ]
}

/// Heads, states and the feed-forward, which may be the mixer's own.
fn of_layer(model: &ModelConfig, layer: &LayerFacts) -> Vec<Option<Fact>> {
    let heads = &["num_attention_heads", "n_heads", "n_head", "num_heads"];
    let inner = &["intermediate_size", "d_ff", "n_inner", "ffn_dim"];
    let d_ff = match layer.ffn {
        Some(own) => Some(Fact::new(inner, "d_ff", own.d_ff, "set `d_ff: {}` at the mixer")),
        None => model
            .d_ff
            .filter(|_| model.ffn != Some(Ffn::None))
            .map(|d_ff| Fact::new(inner, "d_ff", d_ff, "set `model: { d_ff: {} }`")),
    };
    vec![
        layer.n_heads.map(|heads_here| Fact::new(heads, "n_heads", heads_here, "set `n_heads: {}` at the mixer")),
        layer.d_head.map(|width| Fact::new(&["head_dim", "d_head"], "d_head", width, "set `d_head: {}` at the mixer")),
        d_ff,
        layer.d_state.map(|states| Fact::new(&["num_ssm"], "d_state", states, "set `d_state: {}` at the mixer")),
    ]
}

/// Tokens, positions and types.
fn of_embedding(model: &ModelConfig, task: &TaskSpec) -> Vec<Option<Fact>> {
    let tokenizer = "give the task the tokenizer of {} tokens that these weights were trained with";
    let kind = "weights with positions of the kind `{}` cannot be loaded into learned ones; see `model: { positions }`";
    let rows = &["max_position_embeddings", "max_positions", "n_positions"];
    let types = &["type_vocab_size", "token_types"];
    let learned = model.positions == Some(Positions::Learned);
    let length = model.dims(task.max_length, task.causal).seq_len;
    vec![
        (task.input == Input::Tokens).then(|| Fact::new(&["vocab_size"], "vocab_size", task.vocab_size, tokenizer)),
        learned.then(|| Fact::new(rows, "max_positions", length, "set `model: { max_positions: {} }`")),
        learned.then(|| Fact::new(&["position_embedding_type"], "positions", "absolute", kind).also(&["learned"])),
        (model.token_types > 0)
            .then(|| Fact::new(types, "token_types", model.token_types, "set `model: { token_types: {} }`")),
    ]
}

/// The activation of the feed-forward, else that of the head.
fn of_activation(model: &ModelConfig, layer: &LayerFacts) -> Vec<Option<Fact>> {
    let names = &["hidden_act", "activation_function"];
    if let (Some(Ffn::Mlp), None) = (model.ffn, layer.ffn) {
        let (word, also) = activation(model.ffn_activation);
        let remedy = "set `model: { ffn_activation: {} }`";
        return vec![Some(Fact::new(names, "ffn_activation", word, remedy).also(also))];
    }
    let exact = layer.ffn.map_or(model.head == Some(HeadKind::Bert), |own| own.exact_gelu);
    let remedy = "no setting gives `{}`: the activation of this model is the exact GELU";
    let (word, also) = activation(Activation::Gelu);
    vec![exact.then(|| Fact::new(names, "activation", word, remedy).also(also))]
}

/// What the registry knows of the mixer; of one that it lacks, its name alone.
fn layer(model: &ModelConfig, mixer: &Choice, registry: &Registry) -> LayerFacts {
    match registry.mixer(&mixer.name) {
        Some(entry) => entry.facts(&mixer.settings, model.d_model),
        None => LayerFacts { model_type: mixer.name.clone(), ..LayerFacts::default() },
    }
}

/// What Hugging Face calls an activation, and its other names there.
fn activation(of: Activation) -> (&'static str, &'static [&'static str]) {
    match of {
        Activation::Gelu => ("gelu", &["gelu_python"]),
        Activation::GeluTanh => ("gelu_new", &["gelu_pytorch_tanh"]),
        Activation::Relu => ("relu", &[]),
    }
}

/// What to do about a fact that the file has otherwise.
fn remedy(fact: &Fact, theirs: &Value) -> String {
    let shown = theirs.as_str().map_or_else(|| theirs.to_string(), String::from);
    if fact.key != "ffn_activation" {
        return fact.remedy.replace("{}", &shown);
    }
    let called = |of: &Activation| {
        let (word, also) = activation(*of);
        word == shown || also.contains(&shown.as_str())
    };
    match [Activation::Gelu, Activation::GeluTanh, Activation::Relu].into_iter().find(called) {
        Some(ours) => fact.remedy.replace("{}", &plain(&json!(ours))),
        None => format!("no setting gives `{shown}`: `ffn_activation` is gelu, gelu_tanh or relu"),
    }
}

/// Writes the config of weights at `path`: the names that released models have for what there is, and our own description.
/// Where `config.json` already describes something else, the config is `STEM.config.json`. Returns where it stands.
pub fn write(
    path: &Path,
    model: &ModelConfig,
    mixer: &Choice,
    task: &TaskSpec,
    registry: &Registry,
) -> Result<PathBuf, CheckpointError> {
    let mut keys = Map::new();
    let layer = layer(model, mixer, registry);
    keys.insert("model_type".into(), layer.model_type.as_str().into());
    for fact in facts(model, &layer, task) {
        keys.insert(fact.names[0].into(), fact.ours);
    }
    keys.insert("seq_len".into(), model.dims(task.max_length, task.causal).seq_len.into());
    let mixer = json!({ (mixer.name.as_str()): mixer.settings });
    keys.insert(OWN.into(), json!({ "mixer": mixer, "model": model.body(), "causal": task.causal }));
    let text = serde_json::to_string_pretty(&keys).expect("settings are plain data") + "\n";
    let [own, shared] = places(path);
    let taken = std::fs::read(&shared).is_ok_and(|there| there != text.as_bytes());
    let at = if taken || own.is_file() { own } else { shared };
    results::replace(&at, text.as_bytes()).map_err(|e| CheckpointError::new(&at, e))?;
    Ok(at)
}

/// BLAKE3 of a file of weights, or of it and of the config beside it, which decides what the weights mean.
pub fn fingerprint(path: &Path) -> Result<String, tasks::DataError> {
    let weights = crate::base::hashes::content_hash(path)?;
    match places(path).into_iter().find(|at| at.is_file()) {
        None => Ok(weights),
        Some(config) => {
            let both = weights + &crate::base::hashes::content_hash(&config)?;
            Ok(blake3::hash(both.as_bytes()).to_hex().to_string())
        }
    }
}
