//! Weights in and out: the names of released models beside our own.
//!
//! ```text
//! own                                  reference (BERT; BiGS has `bigs.` for `bert.`)
//! embedding.weight                     bert.embeddings.word_embeddings.weight
//! embedding_positions | _types | _norm bert.embeddings.position_embeddings | token_type_embeddings | LayerNorm
//! blocks.i.mixer.in_proj_weight        bert.encoder.layer.i.attention.self.{query, key, value}.weight, one below the other
//! blocks.i.mixer.out_proj, mixer_norm  bert.encoder.layer.i.attention.output.{dense, LayerNorm}
//! blocks.i.ffn.{up, down}, ffn_norm    bert.encoder.layer.i.intermediate.dense, output.{dense, LayerNorm}
//! blocks.i.{mixer, mixer_norm}         bigs.encoder.layer.i.{dv, …, LayerNorm}                         BiGS
//! blocks.i.{mixer, mixer_norm}         bert.encoder.layer.i.layer.{mixer.…, norm}                      Hydra, matrix mixers
//! head.{transform, norm, bias}         cls.predictions.{transform.dense, transform.LayerNorm, bias}
//! head.{pooler, classifier}            bert.pooler.dense, classifier
//! ```
//! Names    Hugging Face's BERT [recalled]; jxiw/BiGS `96fa408` and goombalab/hydra `55bef74`, read there. What these have no
//!          name for (other mixers, attention that is not BERT's: pre-norm, rotary, windowed) keeps its own below
//!          `bert.encoder.layer.i`.
//!
//! A `config.json` beside the file is held against the model first (`weights/config_json.rs`): tensors do not say how many heads
//! share them, nor which length they were made for.
//!
//! A file is taken with either names, with or without `model.` before them, LayerNorms also as `gamma` and `beta`. Nothing of
//! the model changes unless all of it can be filled; only a task's own classifier and pooler may be missing.

pub mod config_json;

use crate::model::{Activation, BlockShape, Ffn, ModelConfig, NormKind, NormPlace, Positions};
use crate::registry::Registry;
use crate::train::checkpoint::{self, CheckpointError};
use crate::train::spec::RunSpec;
use mixers::Released;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use tch::nn::VarStore;
use tch::{Tensor, no_grad};

/// Names in a message, at most.
const SHOWN: usize = 4;

/// Why a file's weights cannot be a model's.
#[derive(Debug, thiserror::Error)]
pub enum WeightsError {
    /// The file cannot be read.
    #[error(transparent)]
    Unreadable(#[from] CheckpointError),
    /// The model is another one.
    #[error("{path}: {problem}")]
    Other {
        /// The file.
        path: PathBuf,
        /// What differs.
        problem: String,
        /// What to write instead.
        help: String,
    },
}

impl WeightsError {
    /// What to do about it; empty where nothing is known.
    pub fn help(&self) -> &str {
        match self {
            Self::Unreadable(_) => "give a safetensors file, such as model.safetensors of a released model",
            Self::Other { help, .. } => help,
        }
    }
}

/// What became of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Own names that were filled.
    pub taken: Vec<String>,
    /// Own names of head and pooler that the file lacks, or has for another task: as they were.
    pub fresh: Vec<String>,
    /// Names in the file that this model has no use for.
    pub left: Vec<String>,
}

/// The names a kind of model has where it was released.
#[derive(Clone, Copy, Debug)]
pub struct Naming {
    /// Before embeddings, encoder and pooler.
    base: &'static str,
    inside: Inside,
    /// The feed-forward has BERT's two maps.
    mlp: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Inside {
    Bert,
    Bigs,
    Hydra,
    Own,
}

/// `tensors` by their own names, under the names of the reference.
pub fn export(tensors: Vec<(String, Tensor)>, spec: &RunSpec, registry: &Registry) -> Vec<(String, Tensor)> {
    naming(spec, registry).export(tensors)
}

/// Fills the model `vs` of `spec`, built for `task`, from a safetensors file. Also returns the longest sequence that the
/// weights were made for, where the config beside them says it.
pub fn import(
    path: &Path,
    vs: &VarStore,
    spec: &RunSpec,
    task: &tasks::TaskSpec,
    registry: &Registry,
) -> Result<(Report, Option<i64>), WeightsError> {
    let beside = config_json::ConfigJson::read(path)?;
    let seq_len = beside.as_ref().map_or(Ok(None), config_json::ConfigJson::seq_len)?;
    if let Some(beside) = beside {
        beside.held_against(&spec.model, &spec.mixer, task, registry)?;
    }
    Ok((naming(spec, registry).import(path, vs)?, seq_len))
}

/// The names that `spec`'s model has where it was released.
pub fn naming(spec: &RunSpec, registry: &Registry) -> Naming {
    let released = registry.mixer(&spec.mixer.name).map_or(Released::Nobody, |entry| entry.released);
    Naming::of(&spec.model, released, &spec.mixer.settings)
}

/// Whether an attention model computes what BERT does: under BERT's names another would be read as one, and give other logits.
fn like_bert(model: &ModelConfig, settings: &Value) -> bool {
    let plain = ["rotary_base", "window"].iter().all(|key| settings.get(key).is_none_or(Value::is_null));
    let post = model.norm_place == Some(NormPlace::Post);
    let embeddings = model.positions == Some(Positions::Learned) && model.embedding_norm == Some(true);
    let norm = model.norm == Some(NormKind::Layer);
    plain && post && norm && embeddings && model.ffn == Some(Ffn::Mlp) && model.ffn_activation == Activation::Gelu
}

impl Naming {
    /// Of `model` around a mixer of these `settings`, whose own weights are so `released`.
    pub fn of(model: &ModelConfig, released: Released, settings: &Value) -> Self {
        let model = model.resolved();
        let inside = match released {
            Released::Bert if like_bert(&model, settings) => Inside::Bert,
            Released::Bigs if model.block == BlockShape::Bigs => Inside::Bigs,
            Released::Hydra => Inside::Hydra,
            _ => Inside::Own,
        };
        let base = if inside == Inside::Bigs { "bigs." } else { "bert." };
        Self { base, inside, mlp: model.ffn == Some(Ffn::Mlp) }
    }

    /// The reference's names for the variable `own`, without `base`: several where it holds theirs one below the other.
    /// `decodes` says that `head.weight` gives tokens, `tied` that there is none.
    fn places(&self, own: &str, decodes: bool, tied: bool) -> Vec<String> {
        let one = |name: String| vec![name];
        if let Some((layer, inner)) = own.strip_prefix("blocks.").and_then(|rest| rest.split_once('.')) {
            return self.inner(inner).into_iter().map(|name| format!("encoder.layer.{layer}.{name}")).collect();
        }
        let (stem, last) = own.rsplit_once('.').unwrap_or(("", own));
        one(match stem {
            "embedding" => format!("embeddings.word_embeddings.{last}"),
            "embedding_positions" => format!("embeddings.position_embeddings.{last}"),
            "embedding_types" => format!("embeddings.token_type_embeddings.{last}"),
            "embedding_norm" => format!("embeddings.LayerNorm.{last}"),
            "head.transform" => format!("cls.predictions.transform.dense.{last}"),
            "head.norm" => format!("cls.predictions.transform.LayerNorm.{last}"),
            "head" if tied => format!("cls.predictions.{last}"),
            "head" if decodes && last == "weight" => "cls.predictions.decoder.weight".into(),
            "head" if decodes => "cls.predictions.bias".into(),
            "head" | "head.classifier" => format!("classifier.{last}"),
            "head.pooler" => format!("pooler.dense.{last}"),
            _ => own.into(),
        })
    }

    /// Whether layers have names of ours, since no released model has their shape.
    pub fn is_own(&self) -> bool {
        self.inside == Inside::Own
    }

    /// The same inside a layer.
    fn inner(&self, own: &str) -> Vec<String> {
        let moved = |from: &str, to: &str| {
            let rest = own.strip_prefix(from)?.strip_prefix('.')?;
            Some(vec![if to.is_empty() { rest.to_string() } else { format!("{to}.{rest}") }])
        };
        let found = match self.inside {
            Inside::Bert => match own.strip_prefix("mixer.in_proj_") {
                Some(last) => {
                    Some(["query", "key", "value"].map(|part| format!("attention.self.{part}.{last}")).into())
                }
                None => moved("mixer.out_proj", "attention.output.dense")
                    .or_else(|| moved("mixer_norm", "attention.output.LayerNorm"))
                    .or_else(|| moved("ffn.up", "intermediate.dense").filter(|_| self.mlp))
                    .or_else(|| moved("ffn.down", "output.dense").filter(|_| self.mlp))
                    .or_else(|| moved("ffn_norm", "output.LayerNorm").filter(|_| self.mlp)),
            },
            Inside::Bigs => moved("mixer_norm", "LayerNorm").or_else(|| moved("mixer", "")),
            Inside::Hydra => moved("mixer_norm", "layer.norm").or_else(|| moved("mixer", "layer.mixer")),
            Inside::Own => None,
        };
        found.unwrap_or_else(|| vec![own.into()])
    }

    /// `places` of every variable.
    fn table(&self, shapes: &BTreeMap<String, Vec<i64>>) -> BTreeMap<String, Vec<String>> {
        let rows = |name: &str| shapes.get(name).and_then(|shape| shape.first().copied());
        let tied = rows("head.weight").is_none();
        // A map of real features has a bias; an embedding of tokens has none.
        let words = rows("embedding.weight").filter(|_| rows("embedding.bias").is_none());
        let decodes = words.is_some() && rows("head.weight") == words;
        let places = |own: &String| match own.starts_with("embedding.") && words.is_none() {
            true => vec![own.clone()],
            false => self.places(own, decodes, tied),
        };
        shapes.keys().map(|own| (own.clone(), places(own))).collect()
    }

    /// `tensors` under the reference's names, in the order of those.
    pub fn export(&self, tensors: Vec<(String, Tensor)>) -> Vec<(String, Tensor)> {
        let shapes = tensors.iter().map(|(name, tensor)| (name.clone(), tensor.size())).collect();
        let table = self.table(&shapes);
        let mut found = Vec::new();
        for (own, tensor) in tensors {
            let places = &table[&own];
            let parts = if places.len() == 1 { vec![tensor] } else { tensor.chunk(places.len() as i64, 0) };
            found.extend(places.iter().map(|place| self.full(place)).zip(parts));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        found
    }

    fn full(&self, place: &str) -> String {
        let based = ["embeddings.", "encoder.", "pooler."].iter().any(|start| place.starts_with(start));
        if based { format!("{}{place}", self.base) } else { place.into() }
    }

    /// Fills `vs` from the file at `path`.
    pub fn import(&self, path: &Path, vs: &VarStore) -> Result<Report, WeightsError> {
        let tensors = checkpoint::read_any(path)?;
        let other = |problem: String, help: String| WeightsError::Other { path: path.into(), problem, help };
        let file: BTreeMap<String, (String, Tensor)> =
            tensors.into_iter().map(|(name, tensor)| (plain(&name), (name, tensor))).collect();
        let variables: BTreeMap<String, Tensor> = vs.variables().into_iter().collect();
        let table = self.table(&variables.iter().map(|(name, v)| (name.clone(), v.size())).collect());
        let mut used: BTreeSet<String> = BTreeSet::new();
        let mut found: BTreeMap<String, Tensor> = BTreeMap::new();
        for own in variables.keys() {
            let by_reference = &table[own];
            let names = if file.contains_key(own) { std::slice::from_ref(own) } else { by_reference.as_slice() };
            let parts: Vec<&Tensor> = names.iter().filter_map(|name| file.get(name)).map(|(_, t)| t).collect();
            used.extend(names.iter().cloned());
            let fits = parts.windows(2).all(|pair| pair[0].dim() > 0 && pair[0].size()[1..] == pair[1].size()[1..]);
            if parts.len() < names.len() || !fits {
                continue;
            }
            found.insert(own.clone(), if let [one] = parts[..] { one.shallow_clone() } else { Tensor::cat(&parts, 0) });
        }
        self.same_model(&variables, &found, &file, &other)?;

        let optional = |own: &str| own.starts_with("head.") && !is_language_head(own, &variables);
        let (mut report, mut missing, mut shapes) = (Report::default(), Vec::new(), Vec::new());
        for (own, variable) in &variables {
            match found.get(own) {
                Some(value) if value.size() == variable.size() => report.taken.push(own.clone()),
                Some(_) | None if optional(own) => report.fresh.push(own.clone()),
                Some(value) => shapes.push(format!("`{own}` {:?} for {:?}", value.size(), variable.size())),
                None => {
                    let absent = table[own].iter().filter(|place| !file.contains_key(*place));
                    let absent: Vec<String> = absent.map(|place| format!("`{}`", self.full(place))).collect();
                    if absent.is_empty() {
                        shapes.push(format!("the parts of `{own}`, which do not lie one below the other"));
                    }
                    missing.extend(absent);
                }
            }
        }
        let unused = || file.iter().filter(|(plain, _)| !used.contains(*plain));
        let of_body = |plain: &str| {
            ["blocks.", "encoder.", "embedding", "final_norm."].iter().any(|start| plain.starts_with(start))
                && !is_buffer(plain)
        };
        let unexpected: Vec<String> =
            unused().filter(|(plain, _)| of_body(plain)).map(|(_, (name, _))| format!("`{name}`")).collect();
        if !(missing.is_empty() && shapes.is_empty() && unexpected.is_empty()) {
            let list = |what: &str, names: &[String]| {
                let more =
                    if names.len() > SHOWN { format!(" and {} more", names.len() - SHOWN) } else { String::new() };
                let shown = names[..names.len().min(SHOWN)].join(", ");
                if names.is_empty() { String::new() } else { format!("; {what}: {shown}{more}") }
            };
            let problem = format!(
                "these are not the weights of this model{}{}{}",
                list("missing", &missing),
                list("unexpected", &unexpected),
                list("of another shape", &shapes)
            );
            let help = "give `model` and the mixer the settings the weights were trained with; `mixarena list presets` \
                        names the published ones";
            return Err(other(problem, help.into()));
        }
        self.same_decoder(&file, &variables, &found, &other)?;
        report.left = unused().filter(|(plain, _)| !is_buffer(plain)).map(|(_, (name, _))| name.clone()).collect();
        no_grad(|| {
            for own in &report.taken {
                variables[own].shallow_clone().copy_(&found[own]);
            }
        });
        Ok(report)
    }

    /// Sizes that a user chose and can choose otherwise, each with its key.
    fn same_model(
        &self,
        variables: &BTreeMap<String, Tensor>,
        found: &BTreeMap<String, Tensor>,
        file: &BTreeMap<String, (String, Tensor)>,
        other: &dyn Fn(String, String) -> WeightsError,
    ) -> Result<(), WeightsError> {
        let sizes = |own: &str| Some((found.get(own)?.size(), variables.get(own)?.size()));
        let tables = [
            ("embedding.weight", "vocabulary", "tokens", "give the task the tokenizer these weights were trained with"),
            ("embedding_positions.weight", "position table", "positions", "set `model: { max_positions: N }`"),
            ("embedding_types.weight", "token-type embedding", "types", "set `model: { token_types: N }`"),
        ];
        for (own, what, unit, help) in tables {
            let Some(([theirs, width], [ours, d_model])) =
                sizes(own).and_then(|(a, b)| Some((<[i64; 2]>::try_from(a).ok()?, <[i64; 2]>::try_from(b).ok()?)))
            else {
                continue;
            };
            if width != d_model {
                let problem = format!("the file's {what} is {width} wide, the model {d_model}");
                return Err(other(problem, format!("set `model: {{ d_model: {width} }}`")));
            }
            if theirs != ours {
                let problem = format!("the file's {what} has {theirs} {unit}, the model's {ours}");
                return Err(other(problem, help.replace('N', &theirs.to_string())));
            }
        }
        let layers = |names: &mut dyn Iterator<Item = &String>, start: &str| -> usize {
            let numbers = names.filter_map(|name| name.strip_prefix(start)?.split('.').next()?.parse::<u32>().ok());
            numbers.map(|number| number as usize + 1).max().unwrap_or(0)
        };
        let theirs = layers(&mut file.keys(), "encoder.layer.").max(layers(&mut file.keys(), "blocks."));
        let ours = layers(&mut variables.keys(), "blocks.");
        if theirs > 0 && theirs != ours {
            let problem = format!("the file has {theirs} layers, the model {ours}");
            return Err(other(problem, format!("set `model: {{ n_layers: {theirs} }}`")));
        }
        Ok(())
    }

    /// A decoder beside the embedding must be the embedding where the head is tied to it.
    fn same_decoder(
        &self,
        file: &BTreeMap<String, (String, Tensor)>,
        variables: &BTreeMap<String, Tensor>,
        found: &BTreeMap<String, Tensor>,
        other: &dyn Fn(String, String) -> WeightsError,
    ) -> Result<(), WeightsError> {
        let tied = variables.contains_key("head.bias") && !variables.contains_key("head.weight");
        let decoder = file.get("cls.predictions.decoder.weight").filter(|_| tied);
        match (decoder, found.get("embedding.weight")) {
            (Some((name, decoder)), Some(words)) if decoder.size() != words.size() || !decoder.equal(words) => {
                let problem = format!("`{name}` is not the embedding, and this model's head is tied to it");
                Err(other(problem, "set `model: { head: plain }`, which has a decoder of its own".into()))
            }
            _ => Ok(()),
        }
    }
}

/// Whether a variable of the head gives tokens by way of the embedding, and so belongs to what was pretrained.
fn is_language_head(own: &str, variables: &BTreeMap<String, Tensor>) -> bool {
    match own {
        "head.bias" => !variables.contains_key("head.weight"),
        _ => own.starts_with("head.transform.") || own.starts_with("head.norm."),
    }
}

/// What released files hold besides parameters.
fn is_buffer(plain: &str) -> bool {
    ["position_ids", "token_type_ids", "dft_matrix"].iter().any(|last| plain.ends_with(last))
}

/// A file's name without what stands before embeddings, encoder and blocks, and of today.
fn plain(name: &str) -> String {
    let mut name = name;
    for before in ["module.", "model.", "bert.", "bigs."] {
        name = name.strip_prefix(before).unwrap_or(name);
    }
    let of_norm =
        |old: &str, new: &str| Some(format!("{}LayerNorm.{new}", name.strip_suffix(&format!("LayerNorm.{old}"))?));
    match name {
        "cls.predictions.decoder.bias" => "cls.predictions.bias".into(),
        _ => of_norm("gamma", "weight").or_else(|| of_norm("beta", "bias")).unwrap_or_else(|| name.into()),
    }
}

#[cfg(test)]
mod tests;
