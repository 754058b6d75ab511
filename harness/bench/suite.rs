//! What is measured: every mixer by length, or the fixed comparisons with attention.

use super::Subject;
use super::conductor::Planned;
use crate::model::{BlockShape, Ffn, ModelConfig};
use crate::registry::Registry;
use mixers::{BenchTarget, Surroundings};
use results::bench::{Case, Measured, State, Target};
use serde_json::Value;

/// Lengths of the default suite.
pub const LENGTHS: [i64; 7] = [256, 512, 1024, 2048, 4096, 8192, 16384];

/// A mixer with its settings, before its size.
#[derive(Clone, Debug)]
pub struct Chosen {
    /// As printed.
    pub label: String,
    /// The mixer's name in the registry.
    pub mixer: String,
    /// Its settings; what is not said is default.
    pub settings: Value,
}

/// One size.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Width.
    pub d_model: i64,
    /// Sequences.
    pub batch: i64,
    /// Positions of each.
    pub length: i64,
}

/// The block that a mixer's paper puts around it, and its name; attention's for a mixer that this build lacks.
pub fn surroundings(registry: &Registry, mixer: &str, d_model: i64) -> (ModelConfig, &'static str) {
    let shaped = |block| ModelConfig { block, d_model, n_layers: 1, ..ModelConfig::default() };
    let (config, name) = match registry.mixer(mixer).map_or(Surroundings::Transformer, |entry| entry.block) {
        Surroundings::S4 => (shaped(BlockShape::S4), "s4"),
        Surroundings::Bigs => (shaped(BlockShape::Bigs), "bigs"),
        Surroundings::Hydra => (shaped(BlockShape::Hydra), "hydra"),
        Surroundings::NoFfn => (ModelConfig { ffn: Some(Ffn::None), ..shaped(BlockShape::Transformer) }, "no ffn"),
        Surroundings::Transformer => (shaped(BlockShape::Transformer), "transformer"),
    };
    (config.resolved(), name)
}

/// A case of which nothing is known yet.
fn blank(registry: &Registry, chosen: &Chosen, size: Size, causal: bool, group: &str) -> Case {
    Case {
        group: group.into(),
        label: chosen.label.clone(),
        mixer: chosen.mixer.clone(),
        settings: chosen.settings.clone(),
        block: surroundings(registry, &chosen.mixer, size.d_model).1.into(),
        path: String::new(),
        causal,
        d_model: size.d_model,
        batch: size.batch,
        length: size.length,
        parameters: 0,
        forward: Measured::default(),
        training: Measured::default(),
        state: State::Measured,
        target: None,
    }
}

/// The case of a mixer at a size; an error names what its settings get wrong. A mixer that can only read the past is built
/// to read the past.
pub fn plan(
    registry: &Registry,
    chosen: &Chosen,
    size: Size,
    causal: bool,
    group: &str,
) -> Result<Planned, Vec<String>> {
    let case = blank(registry, chosen, size, causal, group);
    let Some(entry) = registry.mixer(&chosen.mixer) else {
        return Ok((Case { state: State::Absent, ..case }, None));
    };
    let settings = (entry.resolve)(&chosen.settings).map_err(|error| vec![error.to_string()])?;
    let (model, _) = surroundings(registry, &chosen.mixer, size.d_model);
    let mut subject =
        Subject { mixer: chosen.mixer.clone(), settings, model, causal, batch: size.batch, length: size.length };
    let wrong = entry.check(&subject.settings, &subject.dims());
    if !wrong.is_empty() {
        subject.causal = true;
        if causal || !entry.check(&subject.settings, &subject.dims()).is_empty() {
            return Err(wrong.into_iter().map(|e| format!("{}; {}", e.problem, e.help)).collect());
        }
    }
    Ok((Case { settings: subject.settings.clone(), causal: subject.causal, ..case }, Some(subject)))
}

/// At length 4,096: no slower than attention, and no larger.
const AT_ATTENTION_S_SIZE: Target = Target { time: Some(1.0), memory: Some(1.0), reference: None };

/// The fixed comparisons with an attention block of width 256, 4 heads, batch 4: at length 1,024 each at its own size, at
/// 4,096 all at attention's, where being subquadratic has to pay in time and in memory.
pub fn targets(registry: &Registry) -> Vec<Vec<Planned>> {
    let fixed: Vec<(&str, BenchTarget)> = registry
        .mixers
        .iter()
        .flat_map(|entry| (entry.targets)().into_iter().map(|target| (entry.name, target)))
        .collect();
    let planned = |(mixer, fixed): &(&str, BenchTarget), length: i64| {
        let own_size = length == 1024;
        let chosen = Chosen { label: fixed.label.into(), mixer: (*mixer).into(), settings: fixed.settings.clone() };
        let [d_model, batch] = if own_size { fixed.size } else { [256, 4] };
        let (size, group) = (Size { d_model, batch, length }, format!("length {length}"));
        let (case, subject) = plan(registry, &chosen, size, false, &group).unwrap_or_else(|wrong| {
            let state = State::Stopped { reason: wrong.join("; ") };
            (Case { state, ..blank(registry, &chosen, size, false, &group) }, None)
        });
        let target = fixed.time.map(|time| match own_size {
            true => Target { time: Some(time), memory: None, reference: fixed.reference },
            false => AT_ATTENTION_S_SIZE,
        });
        (Case { target, ..case }, subject)
    };
    [1024, 4096].map(|length| fixed.iter().map(|fixed| planned(fixed, length)).collect()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn every_mixer_of_the_registry_stands_in_a_block_at_the_default_size() {
        let registry = Registry::default();
        for entry in &registry.mixers {
            let chosen = Chosen { label: entry.name.into(), mixer: entry.name.into(), settings: json!({}) };
            for length in LENGTHS {
                let size = Size { d_model: 256, batch: 4, length };
                let (case, subject) = plan(&registry, &chosen, size, false, "g").expect("defaults are right");
                assert!(subject.is_some() && case.state == State::Measured, "{}", entry.name);
            }
        }
    }

    #[test]
    fn the_targets_name_settings_that_this_build_knows() {
        for (case, subject) in targets(&Registry::default()).into_iter().flatten() {
            let known = Registry::default().mixer(&case.mixer).is_some();
            assert_eq!(subject.is_some(), known, "{}: {:?}", case.label, case.state);
            assert_eq!(case.state == State::Absent, !known, "{}: {:?}", case.label, case.state);
            assert_eq!(case.target.is_some(), case.mixer != "attention");
        }
    }

    #[test]
    fn a_mixer_that_no_build_has_is_absent_and_wrong_settings_are_named() {
        let size = Size { d_model: 16, batch: 1, length: 8 };
        let chosen = |mixer: &str, settings| Chosen { label: mixer.into(), mixer: mixer.into(), settings };
        let plan = |chosen: Chosen| super::plan(&Registry::default(), &chosen, size, false, "g");
        assert_eq!(plan(chosen("nobody", json!({}))).expect("absent is no mistake").0.state, State::Absent);
        assert!(plan(chosen("attention", json!({ "n_heads": 3 }))).is_err());
        assert!(plan(chosen("attention", json!({ "heads": 3 }))).is_err());
    }
}
