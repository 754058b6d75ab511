//! A spec from a file is held to what a config is held to: it may have been edited, or damaged.

use crate::registry::Registry;
use crate::train::pretrain::Objective;
use crate::train::spec::{ENGINE, LIBTORCH, RunSpec};
use settings::ConfigError;
use std::path::Path;
use tasks::Task;

fn said((section, mistakes): (&'static str, Vec<ConfigError>)) -> impl Iterator<Item = String> {
    mistakes.into_iter().map(move |mistake| format!("{section}: {}; {}", mistake.problem, mistake.help))
}

/// Everything wrong with a spec, each with the section it stands in; empty where it can be run.
pub fn wrong(spec: &RunSpec, registry: &Registry) -> Vec<String> {
    let Some(task) = registry.task(&spec.task.name) else {
        return vec![format!("task: this build has no task `{}`", spec.task.name)];
    };
    let Some(mixer) = registry.mixer(&spec.mixer.name) else {
        return vec![format!("mixer: this build has no mixer `{}`", spec.mixer.name)];
    };
    let mut found = Vec::new();
    for (section, choice, accepts) in [("task", &spec.task, task.accepts), ("mixer", &spec.mixer, mixer.accepts)] {
        found.extend(accepts(&choice.settings).err().map(|error| format!("{section}: `{}`: {error}", choice.name)));
    }
    if !found.is_empty() {
        return found;
    }
    if spec.mixer_version != mixer.version {
        let (made, now) = (spec.mixer_version, mixer.version);
        found.push(format!("mixer_version: made for version {made} of `{}`, and this build has {now}", mixer.name));
    }
    if spec.sources != task.sources {
        let (made, now) = (spec.sources.join(", "), task.sources.join(", "));
        found.push(format!("sources: made for `{made}` of `{}`, and this build has `{now}`", task.name));
    }
    let written = spec.sections.written();
    found.extend(written.check().into_iter().flat_map(said));
    found.extend(task.check(&spec.task.settings).into_iter().map(|e| format!("task: {}; {}", e.problem, e.help)));
    if !found.is_empty() {
        return found; // the rest reckons with sizes that may be absurd
    }
    let outline = task.outline(&spec.task.settings);
    let clm = written.objective() == Objective::Clm;
    let dims = spec.model.resolved().dims(outline.max_length, outline.causal || clm);
    found.extend(written.check_together(Some(&outline), "the task").into_iter().flat_map(said));
    let wide =
        spec.optimizer.check_width(&spec.model, (mixer, &spec.mixer.settings), (outline.max_length, dims.causal));
    found.extend(wide.map(|e| format!("optimizer: {}; {}", e.problem, e.help)));
    let of_mixer = mixer.check(&spec.mixer.settings, &dims);
    found.extend(of_mixer.into_iter().map(|e| format!("mixer: {}; {}", e.problem, e.help)));
    found
}

/// Whether the task as it was opened is the one that the spec was planned with.
pub fn opened(spec: &RunSpec, task: &dyn Task) -> Result<(), String> {
    let (name, now) = (&spec.task.name, task.spec().version);
    if spec.task_version != now {
        return Err(format!(
            "task_version: made for version {} of `{name}`, and this build has {now}",
            spec.task_version
        ));
    }
    match task.fingerprint() == spec.data {
        true => Ok(()),
        false => Err("the data files are not the ones this run was planned with".into()),
    }
}

/// Reads a spec and holds it to all of that; `source` names it in messages.
pub fn read(text: &[u8], source: &str, registry: &Registry) -> Result<RunSpec, String> {
    let spec: RunSpec =
        serde_json::from_slice(text).map_err(|e| format!("{source}:{}:{}: {e}", e.line(), e.column()))?;
    if spec.engine != ENGINE || spec.libtorch != LIBTORCH {
        return Err(format!(
            "{source}: made for engine {} with libtorch {}; this build is engine {ENGINE} with libtorch {LIBTORCH}",
            spec.engine, spec.libtorch
        ));
    }
    match wrong(&spec, registry).into_iter().next() {
        Some(wrong) => Err(format!("{source}: {wrong}")),
        None => Ok(spec),
    }
}

/// Reads a spec written by `sweep`; an error where it could not be a run of this build.
pub fn read_file(path: &Path, registry: &Registry) -> Result<RunSpec, String> {
    let text = std::fs::read(path).map_err(|e| format!("{}: {e}", path.display()))?;
    read(&text, &path.display().to_string(), registry)
}
