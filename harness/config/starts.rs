//! Whether a run can start from another: the same body around the same mixer, told apart before anything is trained.

use crate::config::Draft;
use crate::model::{ModelConfig, Pooling, Positions};
use crate::registry::Registry;
use mixers::Precision;
use serde_json::Value;

/// Why `run` cannot start from `first`, and what to write; `None` where it can. What reads the answer, dropout, precision and initial
/// values may differ.
pub fn mismatch(run: &Draft, first: &Draft, registry: &Registry) -> Option<(String, String)> {
    let label = &first.task_label;
    if run.mixer.settings != first.mixer.settings {
        let problem = format!("the mixer has other settings here than on `{label}`, which its weights come from");
        return Some((problem, "give both the same, at the mixer's own entry".into()));
    }
    let [here, there] = [run, first].map(|draft| body(&draft.model));
    let differs = |(key, value): &(&String, &Value)| there.get(key.as_str()) != Some(*value);
    if let Some((key, value)) = here.iter().find(differs) {
        let other = there.get(key).unwrap_or(&Value::Null);
        let problem = format!("`{key}` is {value} here and {other} on `{label}`, which the weights come from");
        return Some((problem, "give both the same `model`".into()));
    }
    let [here, there] = [run, first].map(|draft| {
        let entry = registry.task(&draft.task.name).expect("the config was checked");
        let outline = entry.outline(&draft.task.settings);
        let seen = draft.seen(outline.spec());
        (draft.model.dims(seen.max_length, seen.causal), seen.causal)
    });
    if here.1 != there.1 {
        let problem = format!("`{}` is causal and `{label}` is not, or the other way round", run.task_label);
        return Some((problem, "start from a task that is read in the same direction".into()));
    }
    let (ours, theirs) = (here.0.seq_len, there.0.seq_len);
    let mixer = registry.mixer(&run.mixer.name).expect("the config was checked");
    if let Err(wrong) = mixer.carries(&run.mixer.settings, Some(theirs), &here.0) {
        return Some((format!("{} on `{label}`, which the weights come from", wrong.problem), wrong.help));
    }
    if run.model.positions == Some(Positions::Learned) && ours != theirs {
        let problem = format!("learned positions are {ours} here and {theirs} on `{label}`, which they come from");
        let help = format!("set `model: {{ max_positions: {} }}` for both", ours.max(theirs));
        return Some((problem, help));
    }
    None
}

/// The settings that decide which parameters a body has and what they mean.
pub fn body(model: &ModelConfig) -> serde_json::Map<String, Value> {
    let fresh = ModelConfig::default();
    let in_front = if model.pooling == Pooling::Cls { Pooling::Cls } else { Pooling::Mean };
    let model = ModelConfig {
        head: None,
        classifier_dropout: 0.0,
        pooling: in_front,
        pair_head: fresh.pair_head,
        dropout: 0.0,
        ffn_dropout: 0.0,
        tied_dropout: false,
        embedding_dropout: 0.0,
        init_std: fresh.init_std,
        embedding_std: None,
        cls_std: None,
        linear_std: None,
        linear_init: None,
        rescale_residual: false,
        head_bias: true,
        max_positions: None,
        precision: Precision::F32,
        checkpoint_activations: false,
        ..model.resolved()
    };
    match serde_json::to_value(model) {
        Ok(Value::Object(map)) => map,
        _ => unreachable!("settings are a map"),
    }
}
