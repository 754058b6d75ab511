//! A run as the config describes it, before its data are opened.

use crate::config::origins::Origins;
use crate::model::ModelConfig;
use crate::train::pretrain;
use crate::train::sections::{Sections, Written};
use crate::train::spec::Choice;
use results::Tuned;
use results::published::Beside;
use std::ops::{Deref, DerefMut};
use std::path::PathBuf;
use std::sync::Arc;
use tasks::TaskSpec;

/// A run before its data are opened.
#[derive(Clone, Debug)]
pub struct Draft {
    /// Label of the mixer's entry.
    pub mixer_label: String,
    /// Label of the task's entry.
    pub task_label: String,
    /// The grid point, `("optimizer.lr", "0.001")`.
    pub settings: Vec<(String, String)>,
    /// The task and its settings.
    pub task: Choice,
    /// The mixer and its settings.
    pub mixer: Choice,
    /// `model`, `optimizer` and so on.
    pub sections: Sections,
    /// The same before what is not written took its value: a width that is chosen later decides those that hang on it.
    pub written: Written,
    /// Trainable scalars of the published model that this one follows; only `plan` reads it.
    pub reference_parameters: Option<u64>,
    /// Where its initial weights come from; `None`: they are drawn.
    pub start: Option<Start>,
    /// The run's seed.
    pub seed: u64,
    /// The published numbers it is compared with. A label, no part of the spec.
    pub published: Option<Beside>,
    /// What it is for. A label too.
    pub part: Part,
    /// Where its settings come from; only `plan --print` reads it.
    pub origins: Arc<Origins>,
}

/// The place of a setting that is tuned: an index on every axis, from 0 among the values written, below and above them beyond the ends.
pub type At = Vec<i32>;

/// What a run is for.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Part {
    /// A run of the config.
    #[default]
    Run,
    /// A run of the config with the setting that a search chose.
    Tuned(Tuned),
    /// A short run of a search.
    Search {
        /// Which mixer on which task: a place in [`crate::config::tune::Tune::cells`].
        cell: usize,
        /// The place of its setting.
        at: At,
        /// Its steps as a share of those of a run.
        share: f64,
        /// The setting.
        tried: Vec<(String, String)>,
    },
}

/// Where a run's initial weights come from.
#[derive(Clone, Debug)]
pub enum Start {
    /// The best checkpoint of another run of the config.
    Run(Box<Draft>),
    /// A file of weights.
    Weights(PathBuf),
}

/// `draft.model` is `draft.sections.model`.
impl Deref for Draft {
    type Target = Sections;

    fn deref(&self) -> &Sections {
        &self.sections
    }
}

impl DerefMut for Draft {
    fn deref_mut(&mut self) -> &mut Sections {
        &mut self.sections
    }
}

impl Draft {
    /// The same run of another model.
    pub fn with_model(&self, model: ModelConfig) -> Self {
        let sections = Sections { model, ..self.sections.clone() };
        Self { sections, ..self.clone() }
    }

    /// Whether it belongs to a search.
    pub fn is_search(&self) -> bool {
        matches!(self.part, Part::Search { .. })
    }

    /// This run, the run that it starts from, the run that that one starts from, and so on.
    pub fn chain(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(Some(self), |draft| match &draft.start {
            Some(Start::Run(first)) => Some(first),
            _ => None,
        })
    }

    /// The task as this run's model sees it.
    pub fn seen(&self, task: TaskSpec) -> TaskSpec {
        pretrain::seen(task, self.pretrain.as_ref())
    }
}
