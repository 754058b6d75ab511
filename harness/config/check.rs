//! One task and one mixer with all that is set over them: checked alone, then together.

use crate::base::diagnostics::Place;
use crate::config::draft::{Draft, Part};
use crate::config::entry::Entry;
use crate::config::layers::{Layer, Setting, as_entries, place_of};
use crate::config::origins::Origins;
use crate::config::reader::Reader;
use crate::config::sections::Layers;
use crate::config::yaml::Node;
use crate::model::ModelConfig;
use crate::train::optimizer::OptimizerConfig;
use crate::train::pretrain::Objective;
use crate::train::sections::{NAMES, Section};
use crate::train::spec::Choice;
use serde_json::Value;
use std::sync::Arc;
use tasks::Outline;

/// One task, one mixer, and what the grid point and `--set` put over both.
pub struct Combination<'a> {
    pub task: &'a Entry,
    pub mixer: &'a Entry,
    pub over: &'a [&'a Setting],
}

/// The keys of a combination, every layer applied.
struct Keys {
    sections: Layers,
    task: Layer,
    mixer: Layer,
    /// Where they come from.
    origins: Origins,
}

impl Reader<'_> {
    /// One combination, checked; its seed is filled in by the caller.
    pub(super) fn draft(&mut self, of: &Combination, base: &Layers) -> Option<Draft> {
        let before = self.found.len();
        let keys = self.keys(of, base);
        let sections = self.sections(&keys.sections);
        let (task, outline) = self.task_settings(of.task, &keys.task).unzip();
        let mixer = self.mixer_settings(of.mixer, &keys.mixer);
        // Everything that can be checked is checked, so that one mistake does not hide another.
        self.mistakes_in(&keys.sections, sections.check());
        let task_name = format!("`{}`", of.task.label);
        self.mistakes_in(&keys.sections, sections.check_together(outline.as_ref(), &task_name));
        let model = sections.model.as_ref().filter(|model| model.check().is_empty());
        if let (Some(model), Some(outline), Some(mixer)) = (model, &outline, &mixer) {
            let optimizer = sections.optimizer.as_ref().filter(|optimizer| Section::check(*optimizer).is_empty());
            self.mixer_in_model(of, &keys, mixer, (model, optimizer), outline, sections.objective());
        }
        let written = sections;
        let sections = written.in_run(&outline?)?;
        let (task, mixer) = (task?, mixer?);
        (self.found.len() == before).then(|| Draft {
            mixer_label: of.mixer.label.clone(),
            task_label: of.task.label.clone(),
            settings: Vec::new(),
            task: Choice { name: of.task.family.clone(), settings: task },
            mixer: Choice { name: of.mixer.family.clone(), settings: mixer },
            sections,
            written,
            reference_parameters: of.mixer.reference_parameters,
            start: None,
            seed: 0,
            published: None,
            part: Part::Run,
            origins: Arc::new(keys.origins),
        })
    }

    /// Every layer of a combination applied: the top of the file, the task's entry, the mixer's, and single settings.
    fn keys(&mut self, of: &Combination, base: &Layers) -> Keys {
        let sections = base.over(&of.task.sections).over(&of.mixer.sections).set(of.over);
        let family = |kind: &str, entry: &Entry| {
            let own = of.over.iter().filter(|s| s.path.len() == 3 && s.path[0] == kind && s.path[1] == entry.family);
            entry.settings.over(&as_entries(own))
        };
        let (task, mixer) = (family("task", of.task), family("mixer", of.mixer));
        let written = sections.clone();
        let sections = self.with_preset(sections);
        let origins = Origins::of((of.task, &task), (of.mixer, &mixer), &written, &sections);
        Keys { sections, task, mixer, origins }
    }

    /// The task's settings, checked, and what a model needs to know of it.
    fn task_settings(&mut self, task: &Entry, keys: &Layer) -> Option<(Value, Outline)> {
        let entry = *self.registry.task(&task.family).expect("the entry's family was looked up");
        let value = self.settings(&task.family, keys, (entry.defaults)(), entry.accepts, entry.resolve)?;
        for e in entry.check(&value) {
            let place = place_of(&e.problem, e.key, &[keys]);
            self.found.error(place.unwrap_or_else(|| task.family_place.clone()), e.problem, e.help);
        }
        let outline = entry.outline(&value);
        Some((value, outline))
    }

    /// The mixer's settings, of the right types; whether they go with the model is checked later.
    fn mixer_settings(&mut self, mixer: &Entry, keys: &Layer) -> Option<Value> {
        let entry = *self.registry.mixer(&mixer.family).expect("the entry's family was looked up");
        self.settings(&mixer.family, keys, (entry.defaults)(), entry.accepts, entry.resolve)
    }

    /// Whether the mixer can be built at the model's width and the task's length, read in the direction they ask for.
    fn mixer_in_model(
        &mut self,
        of: &Combination,
        keys: &Keys,
        settings: &Value,
        (model, optimizer): (&ModelConfig, Option<&OptimizerConfig>),
        outline: &Outline,
        objective: Objective,
    ) {
        let entry = *self.registry.mixer(&of.mixer.family).expect("the entry's family was looked up");
        let dims = model.resolved().dims(outline.max_length, outline.causal || objective == Objective::Clm);
        let as_the_task = entry.check(settings, &mixers::Dims { causal: outline.causal, ..dims });
        if let Some(optimizer) = optimizer {
            let longest = (outline.max_length, dims.causal);
            let wide = optimizer.check_width(&model.resolved(), (&entry, settings), longest);
            self.mistakes(keys.sections.of("optimizer"), wide.into_iter().collect());
        }
        let model_keys = keys.sections.of("model");
        for e in entry.check(settings, &dims) {
            // The task alone would be fine with it: then the objective is to blame.
            if !as_the_task.contains(&e) {
                let place = keys.sections.of("pretrain").place_of("objective").unwrap_or(Place::Whole);
                self.found.error(place, needs_causal(&e, of.mixer, of.task), without_clm(&e, of.mixer, of.over));
                continue;
            }
            let place = place_of(&e.problem, e.key, &[&keys.mixer, model_keys]);
            let help = if e.key != "d_model" && e.problem.contains("`d_model`") {
                self.with_line(e.help, "d_model", model_keys)
            } else {
                e.help
            };
            self.found.error(place.unwrap_or_else(|| of.mixer.family_place.clone()), e.problem, help);
        }
    }

    /// A mixer without a model around it.
    pub(super) fn mixer_item(&mut self, item: &Node, dims: &mixers::Dims) -> Option<(String, Choice)> {
        let known: Vec<&str> = self.registry.mixers.iter().map(|m| m.name).collect();
        let entry = self.entry(item, "mixer", &known)?;
        let overrides = NAMES.iter().flat_map(|name| &entry.sections.of(name).0).map(|(key, _)| key.place.clone());
        let axes = entry.own_axes.iter().map(|axis| axis[0].key_place.clone());
        for place in overrides.chain(axes).chain(entry.only_tasks.iter().flatten().map(|node| node.place.clone())) {
            let help = "leave it out, or name a config";
            self.found.error(place, "a mixer without a config has no model, no budget and no tasks", help);
        }
        let family = *self.registry.mixer(&entry.family).expect("the entry's family was looked up");
        let settings = self.mixer_settings(&entry, &entry.settings)?;
        for e in family.check(&settings, dims) {
            let place = place_of(&e.problem, e.key, &[&entry.settings]).unwrap_or_else(|| entry.family_place.clone());
            self.found.error(place, e.problem, e.help);
        }
        Some((entry.label, Choice { name: entry.family, settings }))
    }
}

fn needs_causal(e: &mixers::ConfigError, mixer: &Entry, task: &Entry) -> String {
    let why = e.problem.replace(", but the task is causal", "");
    let entry = format!("`{}` on `{}`", mixer.label, task.label);
    format!("`objective` is clm, for which mixers are made causal, but {entry} cannot be: {why}")
}

fn without_clm(e: &mixers::ConfigError, mixer: &Entry, over: &[&Setting]) -> String {
    let other = if e.key == mixer.family { String::new() } else { format!(", or change its `{}`", e.key) };
    match over.iter().any(|s| s.path == ["pretrain", "objective"]) {
        true => format!("take clm out of the values here, or `{}` out of the config{other}", mixer.label),
        false => format!("put `pretrain: mlm` or `pretrain: none` into the entry of `{}`{other}", mixer.label),
    }
}
