//! Sizes of a sweep's models, each found once.

use crate::config::Draft;
use crate::model::ModelConfig;
use crate::model::sizes::{MOST, Sizes};
use crate::registry::Registry;
use crate::sweep::opened::OpenedTask;
use std::collections::HashMap;
use std::sync::Arc;
use tasks::{Outline, Task, TaskSpec};

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

    /// Whether the model of `draft` may be `d_model` wide.
    pub fn allows(&self, draft: &Draft, d_model: i64) -> bool {
        let model = ModelConfig { d_model, ..draft.model.clone() };
        let spec = self.spec(draft);
        let mixer = self.registry.mixer(&draft.mixer.name).expect("the config was checked");
        let dims = model.dims(spec.max_length, spec.causal);
        model.check().is_empty() && mixer.check(&draft.mixer.settings, &dims).is_empty()
    }
}
