//! Learning rates that travel with the width: µP's factors for Adam.
//!
//! ```text
//! dense map         rate · base fan_in / fan_in        hidden weights, and the head's, which read the model's width
//! everything else   rate                               embeddings and maps of features, biases, norms, convolutions, states
//! ```
//! Paper    Yang et al. 2022, Tensor Programs V, arXiv:2203.03466, table 3 (rows of Adam)
//! Departs  rates alone: attention divides its logits by √d_head as ever (the paper by d_head), and the head starts with a variance of
//!          1 / fan_in (the paper: 1 / fan_in², or zero). A tied head is the embedding and keeps its rate.
//!
//! What grows with the width is read off a model of the base width with the same settings, by comparing shapes.

use crate::model::init::named;
use crate::model::{Model, ModelConfig};
use mixers::{DenseMap, Entry};
use serde_json::Value;
use std::collections::BTreeMap;
use tasks::TaskSpec;
use tch::{Device, nn::VarStore};

/// The settings of the model of width `base`: a feed-forward as wide as `null` makes it is so there too, other settings stay.
pub fn base_of(model: &ModelConfig, base: i64) -> ModelConfig {
    let usual = ModelConfig { d_ff: None, ..model.clone() }.resolved().d_ff;
    let d_ff = model.d_ff.filter(|d_ff| Some(*d_ff) != usual);
    ModelConfig { d_model: base, d_ff, ..model.clone() }
}

/// Factors on the learning rate, by name, of those parameters whose factor is not 1. `maps` are the dense maps of the model in `vs`,
/// built from `config` ([`mixers::recorded`]); `base` is the width at which every factor is 1.
pub fn rate_factors(
    vs: &VarStore,
    maps: Vec<DenseMap>,
    (config, base): (&ModelConfig, i64),
    task: &TaskSpec,
    (mixer, settings): (&Entry, &Value),
) -> BTreeMap<String, f64> {
    let small = VarStore::new(Device::Cpu);
    let (_, small_maps) = mixers::recorded(|| Model::new(&small.root(), &base_of(config, base), task, mixer, settings));
    let read_by = |vs: &VarStore, maps: Vec<DenseMap>| -> BTreeMap<String, i64> {
        named(vs, maps).into_iter().map(|map| (map.weight, map.ends[0])).collect()
    };
    let (here, there, shapes) = (read_by(vs, maps), read_by(&small, small_maps), small.variables());
    let factor = |name: &str, shape: Vec<i64>| match (here.get(name), there.get(name), shapes.get(name)) {
        (Some(here), Some(there), _) => *there as f64 / *here as f64,
        (_, _, Some(there)) => of_shapes(&shape, &there.size()),
        _ => unreachable!("models of one config have parameters of the same names: {name}"),
    };
    let all = vs.variables().into_iter().map(|(name, v)| (factor(&name, v.size()), name));
    all.filter(|(factor, _)| *factor != 1.0).map(|(factor, name)| (name, factor)).collect()
}

/// Of a parameter that is no dense map: one of which two axes grow is a matrix (a recurrent network's weights) and reads its last one.
fn of_shapes(here: &[i64], there: &[i64]) -> f64 {
    let grown: Vec<(i64, i64)> = here.iter().copied().zip(there.iter().copied()).filter(|(a, b)| a != b).collect();
    match grown[..] {
        [_, .., (here, there)] => there as f64 / here as f64,
        _ => 1.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::samples::task_spec;
    use serde_json::json;
    use tasks::Output;

    fn factors(model: Value, mixer: &str, settings: Value, base: i64) -> BTreeMap<String, f64> {
        let entry = mixers::registry().into_iter().find(|entry| entry.name == mixer).expect("it is registered");
        let settings = (entry.resolve)(&settings).expect("settings");
        let config: ModelConfig = serde_json::from_value(model).expect("a model");
        let (config, task) = (config.resolved(), task_spec(Output::PerSequence));
        let vs = VarStore::new(Device::Cpu);
        let (_, maps) = mixers::recorded(|| Model::new(&vs.root(), &config, &task, &entry, &settings));
        rate_factors(&vs, maps, (&config, base), &task, (&entry, &settings))
    }

    #[test]
    fn what_reads_the_width_has_a_factor_and_nothing_else() {
        let found = factors(json!({ "d_model": 64, "n_layers": 1 }), "attention", json!({}), 16);
        let named = [
            "blocks.0.ffn.down.weight",
            "blocks.0.ffn.up.weight",
            "blocks.0.mixer.in_proj_weight",
            "blocks.0.mixer.out_proj.weight",
            "head.weight",
        ];
        let want: BTreeMap<String, f64> = named.map(|name| (name.to_owned(), 0.25)).into();
        assert_eq!(found, want);
        assert_eq!(factors(json!({ "d_model": 64, "n_layers": 1 }), "attention", json!({}), 64), BTreeMap::new());
    }

    #[test]
    fn a_width_that_the_settings_fix_does_not_travel() {
        let model = json!({ "d_model": 64, "n_layers": 1, "d_ff": 48 });
        let found = factors(model, "attention", json!({ "n_heads": 2, "d_head": 4 }), 16);
        assert_eq!(found.get("blocks.0.mixer.in_proj_weight"), Some(&0.25));
        assert_eq!(found.get("blocks.0.ffn.up.weight"), Some(&0.25));
        let fixed = ["blocks.0.mixer.out_proj.weight", "blocks.0.ffn.down.weight"];
        assert!(fixed.iter().all(|name| !found.contains_key(*name)), "{found:?}");
    }

    #[test]
    fn weights_of_a_recurrent_network_are_matrices() {
        let found = factors(json!({ "d_model": 64, "n_layers": 1, "ffn": "none" }), "gru", json!({}), 32);
        let matrix = |name: &&String| name.contains("weight_ih") || name.contains("weight_hh");
        let matrices: Vec<&f64> = found.iter().filter(|(name, _)| matrix(name)).map(|(_, factor)| factor).collect();
        assert!(!matrices.is_empty() && matrices.iter().all(|factor| **factor == 0.5), "{found:?}");
        assert!(found.keys().all(|name| !name.contains("bias")), "{found:?}");
    }
}
