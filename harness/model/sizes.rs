//! How large a model is, without building all of it: blocks are alike, and a table of positions is as long as it is wide.

use crate::model::{Model, ModelConfig, Positions};
use mixers::{Cost, Entry};
use serde_json::Value;
use tasks::TaskSpec;
use tch::{Device, nn::VarStore};

/// Numbers beyond which a block is not built just to be counted: 4 GiB of them.
pub(crate) const MOST: f64 = (1_u64 << 30) as f64;

/// What a model's settings come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizes {
    /// Trainable scalars.
    pub parameters: u64,
    /// Those inside the mixers.
    pub mixer_parameters: u64,
    /// Cost of one mixer on the longest sequence.
    pub mixer: Cost,
    /// Bytes of its state after a sequence twice as long.
    pub later_state_bytes: i64,
}

impl Sizes {
    /// Of the model that [`Model::new`] builds from the same arguments; `None` for one too large to be built for this.
    pub fn of(config: &ModelConfig, task: &TaskSpec, mixer: &Entry, settings: &Value) -> Option<Self> {
        Self::up_to(MOST, config, task, mixer, settings)
    }

    /// The same, of a model of which one block and what is around it have at most so many numbers.
    pub(crate) fn up_to(
        most: f64,
        config: &ModelConfig,
        task: &TaskSpec,
        mixer: &Entry,
        settings: &Value,
    ) -> Option<Self> {
        let config = config.resolved();
        let dims = config.dims(task.max_length, task.causal);
        if mixer.scalars(settings, &dims) + around(&config, task) > most {
            return None;
        }
        let learned = config.positions == Some(Positions::Learned);
        let one = ModelConfig {
            n_layers: 1,
            positions: Some(Positions::None),
            linear_std: None,
            linear_init: None,
            rescale_residual: false,
            ..config.clone()
        };
        let vs = VarStore::new(Device::Cpu);
        let model = Model::new(&vs.root(), &one, task, mixer, settings);
        let all = vs.variables();
        let count = |part: &str| -> u64 {
            let wanted = all.iter().filter(|(name, v)| v.requires_grad() && name.contains(part));
            wanted.map(|(_, v)| v.numel() as u64).sum()
        };
        let rows = config.dims(task.max_length, task.causal).seq_len;
        let positions = if learned { rows as u64 * config.d_model as u64 } else { 0 };
        let more = if config.shared_depth { 0 } else { config.n_layers as u64 - 1 };
        Some(Self {
            parameters: count("") + more * count("blocks.0.") + positions,
            mixer_parameters: (1 + more) * count(".mixer."),
            mixer: model.mixer_cost(task.max_length),
            later_state_bytes: model.mixer_cost(2 * task.max_length).state_bytes,
        })
    }
}

/// Numbers of a model's feed-forward, embeddings and head, roughly and not too few. A float: settings may be absurd.
fn around(config: &ModelConfig, task: &TaskSpec) -> f64 {
    let [d, vocab, classes, types] =
        [config.d_model, task.vocab_size, task.classes, config.token_types].map(|n| n as f64);
    let wide = config.d_ff.map_or(4.0 * d, |d_ff| d_ff as f64);
    let embedding = match task.input {
        tasks::Input::Tokens => vocab * d,
        tasks::Input::Reals { width, .. } => (width as f64 + 1.0) * d,
    };
    let head = match (task.output, task.documents) {
        (tasks::Output::Reconstruction, _) => task.max_length as f64 * d + wide * (d + classes),
        (_, 1) => (d + wide) * (d + classes),
        _ => wide * (4.0 * d + wide) + (d + wide) * classes,
    };
    3.0 * d * wide + embedding + head + (types + 16.0) * d
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::pretrain::seen;
    use serde_json::json;
    use tasks::Output;

    #[test]
    fn the_sizes_of_every_mixer_in_every_block_are_those_of_the_whole_model() {
        let classes = crate::laws::samples::task_spec(Output::PerSequence);
        let tokens = TaskSpec { output: Output::Tokens, classes: classes.vocab_size, ..classes.clone() };
        let of_classes = [
            json!({}),
            json!({"positions": "learned", "pooling": "cls"}),
            json!({"ffn": "glu"}),
            json!({"ffn": "identity", "norm": "rms", "head_bias": false}),
            json!({"head": "bert", "pooling": "first", "token_types": 2, "linear_std": 0.02}),
            json!({"head": "mlp", "linear_init": "lra", "embedding_std": 1.0}),
        ];
        let of_tokens = [
            json!({"token_types": 3, "max_positions": 20, "positions": "learned"}),
            json!({"head": "tied", "max_positions": 20}),
            json!({"head": "tied", "head_bias": false}),
            json!({"head": "plain"}),
        ];
        let extras: Vec<_> = of_classes
            .iter()
            .map(|extra| (&classes, extra))
            .chain(of_tokens.iter().map(|extra| (&tokens, extra)))
            .collect();
        for (entry, settings) in crate::laws::samples::small_mixers() {
            for block in ["transformer", "s4", "bigs", "hydra"] {
                for (task, extra) in &extras {
                    let mut text = json!({"block": block, "d_model": 16, "n_layers": 3});
                    text.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
                    let config: ModelConfig = serde_json::from_value(text.clone()).unwrap();
                    let vs = VarStore::new(Device::Cpu);
                    let model = Model::new(&vs.root(), &config, &seen((*task).clone(), None), &entry, &settings);
                    let count = |part: &str| -> u64 {
                        let all = vs.variables();
                        let wanted = all.iter().filter(|(n, v)| v.requires_grad() && n.contains(part));
                        wanted.map(|(_, v)| v.numel() as u64).sum()
                    };
                    let want = Sizes {
                        parameters: count(""),
                        mixer_parameters: count(".mixer."),
                        mixer: model.mixer_cost(task.max_length),
                        later_state_bytes: model.mixer_cost(2 * task.max_length).state_bytes,
                    };
                    let found = Sizes::of(&config.resolved(), task, &entry, &settings);
                    assert_eq!(found, Some(want), "{} in {text}", entry.name);
                }
            }
        }
    }
}
