//! Which run each run takes its initial weights from, and whether it can: both need the same body around the same mixer.

use crate::base::diagnostics::{Place, suggest};
use crate::config::draft::{Draft, Start};
use crate::config::entry::{Entry, Source, StartKey};
use crate::config::reader::Reader;
use crate::model::Positions;
use crate::registry::Registry;
use serde_json::Value;
use std::collections::HashMap;

impl Reader<'_> {
    /// Gives every run the run that it starts from. `wanted` has the key of each run's entry.
    pub(super) fn starts(&mut self, runs: &mut [Draft], wanted: &[Option<StartKey>], tasks: &[Entry]) {
        let labels: Vec<&str> = tasks.iter().map(|task| task.label.as_str()).collect();
        let mut alike: HashMap<(String, String), Vec<usize>> = HashMap::new();
        for (at, run) in runs.iter().enumerate() {
            alike.entry((run.task_label.clone(), run.mixer_label.clone())).or_default().push(at);
        }
        // As often as there are tasks: a chain mlm → mnli → rte is found from its beginning on.
        for pass in 0..=tasks.len() {
            for at in 0..runs.len() {
                let Some(StartKey { place, from }) = &wanted[at] else { continue };
                let (label, seed) = match from {
                    Source::Weights(path) => {
                        runs[at].start = Some(Start::Weights(path.clone()));
                        continue;
                    }
                    Source::Task(label, seed) => (label, seed.unwrap_or(runs[at].seed)),
                };
                let run = &runs[at];
                let of_mixer = alike.get(&(label.clone(), run.mixer_label.clone())).map_or(&[][..], Vec::as_slice);
                let mut of_mixer = of_mixer.iter().map(|&at| &runs[at]);
                let same = |other: &&Draft| other.settings.iter().all(|setting| run.settings.contains(setting));
                let known = of_mixer.clone().filter(same).find(|other| other.seed == seed).cloned();
                if let Some(found) = known {
                    let wrong = (pass == 0).then(|| mismatch(&runs[at], &found, self.registry)).flatten();
                    if let Some((problem, help)) = wrong {
                        self.found.error(place.clone(), problem, help);
                    }
                    runs[at].start = Some(Start::Run(Box::new(found)));
                    continue;
                }
                if pass > 0 {
                    continue;
                }
                let (problem, help) = if !labels.contains(&label.as_str()) {
                    (format!("no task is labelled `{label}`"), suggest(label, &labels, "labels of tasks"))
                } else if of_mixer.clone().any(|other| same(&other)) {
                    let problem = format!("no run on `{label}` has seed {seed}");
                    (problem, "give the seed to start from, as in `start: { task: LABEL, seed: 0 }`".into())
                } else if let Some(other) = of_mixer.next() {
                    let axes: Vec<String> = other.settings.iter().map(|(path, _)| format!("`{path}`")).collect();
                    let problem = format!(
                        "`{label}` is swept over {} and `{}` not over the same values: which run to start from is open",
                        axes.join(", "),
                        run.task_label
                    );
                    (problem, format!("put `grid: null` into the entry of `{label}`, or give both the same axis"))
                } else {
                    let problem = format!("`{}` does not run on `{label}`", run.mixer_label);
                    (problem, "add that task to the mixer's `tasks`, or leave `start` out".into())
                };
                self.found.error(place.clone(), problem, help);
            }
        }
        for (run, key) in runs.iter().zip(wanted) {
            let (mut labels, mut at) = (vec![run.task_label.as_str()], run);
            while let Some(Start::Run(next)) = &at.start {
                if labels.contains(&next.task_label.as_str()) {
                    let place = key.as_ref().map_or(Place::Whole, |key| key.place.clone());
                    labels.push(&next.task_label);
                    let chain = labels.join(" from ");
                    self.found.error(place, format!("tasks start from each other: {chain}"), "leave one `start` out");
                    return;
                }
                labels.push(&next.task_label);
                at = next;
            }
        }
    }
}

/// Why `run` cannot start from `first`, and what to write; `None` where it can. What reads the answer, dropout, precision and initial
/// values may differ.
pub fn mismatch(run: &Draft, first: &Draft, registry: &Registry) -> Option<(String, String)> {
    let label = &first.task_label;
    if run.mixer.settings != first.mixer.settings {
        let problem = format!("the mixer has other settings here than on `{label}`, which its weights come from");
        return Some((problem, "give both the same, at the mixer's own entry".into()));
    }
    let [here, there] = [run, first].map(|draft| draft.model.body());
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
