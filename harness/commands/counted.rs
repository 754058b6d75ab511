//! The parameters of presets, for `mixarena list presets`.

use crate::config::presets::{Preset, Published};
use crate::model::ModelConfig;
use crate::model::sizes::Sizes;
use crate::registry::Registry;
use serde::Serialize;
use serde_json::{Map, Value};
use tasks::{Input, Outline, Output};

/// What a model with the mixer it was published with comes to.
#[derive(Clone, Debug, Serialize)]
pub struct Counted {
    /// The preset, and the variation where it is one: `matrix_mixer_70m: dft`.
    pub name: String,
    /// What it is.
    pub about: &'static str,
    /// The mixer it was published with.
    pub mixer: &'static str,
    /// Its settings that are not defaults.
    pub settings: Value,
    /// The keys of `model` it stands for.
    pub model: Value,
    /// Layers.
    pub layers: i64,
    /// Width.
    pub d_model: i64,
    /// Tokens.
    pub vocabulary: i64,
    /// Positions of a sequence.
    pub length: i64,
    /// Trainable scalars of the language model built here.
    pub parameters: u64,
    /// As printed.
    pub published: Option<Published>,
    /// `parameters` over the printed ones.
    pub ratio: Option<f64>,
}

/// A preset and its variations, counted as the language models they were trained as.
pub fn counted(preset: &Preset, registry: &Registry) -> Vec<Counted> {
    let own = count(preset, registry, preset.name.into(), preset.model(), preset.settings(), preset.published);
    let varied = preset.variations.iter().map(|variation| {
        let source = preset.published.map_or("", |published| published.source);
        let published = Published { parameters: variation.published * 1_000_000, source };
        let name = format!("{}: {}", preset.name, variation.name);
        let (model, settings) = variation.over(preset);
        count(preset, registry, name, model, settings, Some(published))
    });
    std::iter::once(own).chain(varied).collect()
}

fn count(
    preset: &Preset,
    registry: &Registry,
    name: String,
    model: Map<String, Value>,
    settings: Map<String, Value>,
    published: Option<Published>,
) -> Counted {
    let config: ModelConfig = serde_json::from_value(model.clone().into()).expect("a preset's keys are the model's");
    let mixer = registry.mixer(preset.mixer).expect("a preset's mixer is registered");
    let all = (mixer.resolve)(&settings.clone().into()).expect("a preset's settings are the mixer's");
    let task = Outline {
        causal: false,
        max_length: preset.length,
        needs_files: true,
        vocab_size: preset.vocabulary,
        classes: preset.vocabulary,
        documents: 1,
        input: Input::Tokens,
        output: Output::Tokens,
    };
    let sizes = Sizes::of(&config, &task.spec(), mixer, &all).expect("no preset is too wide to be counted");
    Counted {
        name,
        about: preset.about,
        mixer: preset.mixer,
        settings: settings.into(),
        model: model.into(),
        layers: config.n_layers,
        d_model: config.d_model,
        vocabulary: preset.vocabulary,
        length: preset.length,
        parameters: sizes.parameters,
        published,
        ratio: published.map(|published| sizes.parameters as f64 / published.parameters as f64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::presets;

    /// Within one percent; what is printed is rounded to half a million.
    fn near(counted: &Counted) -> bool {
        let published = counted.published.expect("published").parameters as f64;
        (counted.parameters as f64 - published).abs() <= 0.01 * published
    }

    #[test]
    fn every_published_preset_has_the_published_parameters_within_one_percent() {
        let registry = Registry::default();
        for preset in presets::all() {
            let found = counted(preset, &registry);
            for one in &found {
                println!("{:<45} {:>11} {:?}", one.name, one.parameters, one.ratio);
            }
            let far = |one: &&Counted| one.published.is_some() && !near(one);
            assert_eq!(found.iter().filter(far).map(|one| one.name.as_str()).collect::<Vec<_>>(), Vec::<&str>::new());
        }
    }
}
