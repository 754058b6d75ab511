//! Sizes of a sweep's models, each found once.

use crate::config::Draft;
use crate::config::matched::{Knob, KnobOf};
use crate::model::sizes::{MOST, Sizes};
use crate::registry::Registry;
use crate::sweep::opened::OpenedTask;
use serde_json::json;
use std::collections::HashMap;
use std::sync::Arc;
use tasks::{Outline, Output, Split, Task, TaskSpec};

/// Counts the models of a sweep.
#[derive(Debug)]
pub struct Counter<'a> {
    registry: &'a Registry,
    opened: &'a [OpenedTask],
    most: f64,
    known: HashMap<String, Option<Sizes>>,
}

impl<'a> Counter<'a> {
    /// For tasks that were opened as far as their data are here.
    pub fn new(registry: &'a Registry, opened: &'a [OpenedTask]) -> Self {
        Self { registry, opened, most: MOST, known: HashMap::new() }
    }

    /// The same, of models of which one block and what is around it have at most so many numbers; the others have no sizes.
    #[cfg(test)]
    pub fn up_to(self, most: f64) -> Self {
        Self { most, ..self }
    }

    /// The task of `draft`, where it could be opened.
    pub fn task(&self, draft: &Draft) -> Option<&'a Arc<dyn Task>> {
        self.opened.iter().find(|(choice, _)| *choice == draft.task).and_then(|(_, task)| task.as_ref().ok())
    }

    /// Whether the task of `draft` reads files.
    pub fn needs_files(&self, draft: &Draft) -> bool {
        self.outline(draft).needs_files
    }

    fn outline(&self, draft: &Draft) -> Outline {
        self.registry.task(&draft.task.name).expect("the config was checked").outline(&draft.task.settings)
    }

    /// The task of `draft` as its model sees it; without the data, the sizes of the official ones stand for them.
    pub fn spec(&self, draft: &Draft) -> TaskSpec {
        draft.seen(self.task(draft).map_or_else(|| self.outline(draft).spec(), |task| task.spec()))
    }

    /// Sizes of the model of `draft`.
    pub fn sizes(&mut self, draft: &Draft) -> Option<Sizes> {
        let spec = self.spec(draft);
        let key = serde_json::to_string(&(&spec, &draft.mixer, &draft.model)).expect("settings are plain data");
        let mixer = self.registry.mixer(&draft.mixer.name).expect("the config was checked");
        let most = self.most;
        let count = || Sizes::up_to(most, &draft.model, &spec, mixer, &draft.mixer.settings);
        *self.known.entry(key).or_insert_with(count)
    }

    /// Operations of a forward pass of the model of `draft` on the task's longest sequence.
    pub fn forward_flops(&mut self, draft: &Draft) -> Option<f64> {
        let (spec, outline) = (self.spec(draft), self.outline(draft));
        let scored = match (self.task(draft), spec.output) {
            (Some(task), Output::PerPosition | Output::Reconstruction | Output::Number | Output::Tokens) => {
                task.example(Split::Train, 0).map_or(1, |e| e.targets.classes().len() as i64)
            }
            _ => 1,
        };
        let mixer = self.sizes(draft)?.mixer.flops as f64;
        let mixers = outline.documents as f64 * draft.model.n_layers as f64 * mixer;
        Some(mixers + draft.model.trunk_flops(spec.max_length, &outline) + draft.model.head_flops(scored, &outline))
    }

    /// `draft` with a whole number of its model or mixer changed, as if it had been written; `None` where no such model can be built.
    pub fn with(&self, draft: &Draft, knob: &Knob, value: i64) -> Option<Draft> {
        let mut changed = draft.clone();
        match &knob.of {
            KnobOf::Model => {
                let model = changed.written.model.as_mut()?;
                match knob.name.as_str() {
                    "d_model" => model.d_model = value,
                    "n_layers" => model.n_layers = value,
                    _ => model.d_ff = Some(value),
                }
                changed.sections = changed.written.in_run(&self.outline(draft))?;
            }
            KnobOf::Mixer { key, .. } => {
                let mixer = self.registry.mixer(&draft.mixer.name)?;
                changed.mixer.settings[key] = value.into();
                changed.mixer.settings = (mixer.resolve)(&changed.mixer.settings).ok()?;
            }
        }
        self.allows(&changed).then_some(changed)
    }

    /// The value of `knob` in `draft`, or where it has none of its own the model's width; `None` where the model or the mixer of
    /// `draft` has no such whole number.
    pub fn value(&self, draft: &Draft, knob: &Knob) -> Option<i64> {
        match &knob.of {
            KnobOf::Model => serde_json::to_value(&draft.model).ok()?[&knob.name].as_i64(),
            KnobOf::Mixer { family, key } => {
                let own = draft.mixer.settings.get(key)?;
                let mixer = self.registry.mixer(&draft.mixer.name)?;
                let is_own = family.as_ref().is_none_or(|family| *family == draft.mixer.name);
                let takes = (mixer.accepts)(&json!({ key.as_str(): 1 })).is_ok();
                let value = if own.is_null() { Some(draft.model.d_model) } else { own.as_i64() };
                value.filter(|_| is_own && takes)
            }
        }
    }

    /// Whether the model of `draft` can be built.
    pub fn allows(&self, draft: &Draft) -> bool {
        let spec = self.spec(draft);
        let mixer = self.registry.mixer(&draft.mixer.name).expect("the config was checked");
        draft.model.check().is_empty()
            && mixer.check(&draft.mixer.settings, &draft.model.dims(spec.max_length, spec.causal)).is_empty()
    }
}
