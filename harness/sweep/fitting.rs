//! `match: { parameters: 100000, by: d_model }`: each model is brought to a size before it runs.
//!
//! Of the values that model and mixer allow, the one is taken whose model comes nearest to the target. Where that is still too far
//! off and another key is named, the two nearest values are kept in turn and the next key makes up the difference. Sizes are
//! counted, never measured: the same config chooses the same sizes everywhere.

use crate::base::bounds;
use crate::base::diagnostics::Diagnostics;
use crate::config::Draft;
use crate::config::matched::{Fit, Knob, KnobOf, Matched, Measure, Target, percent};
use crate::sweep::sizes::Counter;
use results::{Matching, SizedModel};
use std::collections::{HashMap, HashSet};

/// Brings the model of every run to the size that `fit` asks for, and says what was chosen.
pub(super) fn bring<'a>(
    matched: &Matched,
    fit: &Fit,
    runs: impl Iterator<Item = &'a mut Draft>,
    counter: &mut Counter,
) -> Result<Matching, Diagnostics> {
    let mut fitting = Fitting { matched, fit, counter, known: HashMap::new() };
    let (mut models, mut told): (Vec<SizedModel>, HashSet<String>) = (Vec::new(), HashSet::new());
    let mut found = Diagnostics::new(&matched.source);
    for draft in runs {
        match fitting.model(draft) {
            Ok(model) => {
                let sized = SizedModel {
                    task: draft.task_label.clone(),
                    mixer: draft.mixer_label.clone(),
                    settings: draft.settings.clone(),
                    chosen: model.chosen.iter().map(|(key, value)| (key.clone(), value.to_string())).collect(),
                    size: model.size as u64,
                    target: model.target as u64,
                };
                if told.insert(serde_json::to_string(&sized).expect("plain data")) {
                    models.push(sized);
                }
                (draft.mixer, draft.sections, draft.written) =
                    (model.draft.mixer, model.draft.sections, model.draft.written);
            }
            Err((problem, help)) => found.error(fit.place.clone(), problem, help),
        }
    }
    let (measure, by) = (fit.measure.word().into(), fit.by.iter().map(|knob| knob.name.clone()).collect());
    let of = match &fit.target {
        Target::Of(label) => Some(label.clone()),
        Target::Size(_) => None,
    };
    if found.is_empty() { Ok(Matching { measure, of, tolerance: fit.within, by, models }) } else { Err(found) }
}

/// A model on the way to its size.
#[derive(Clone, Debug)]
struct Model {
    draft: Draft,
    size: f64,
    target: f64,
    /// Keys and the values chosen for them.
    chosen: Vec<(String, i64)>,
    /// How far keys behind the first had to move, in logarithms of their values.
    moved: f64,
}

impl Model {
    fn ratio(&self) -> f64 {
        self.size / self.target
    }

    fn away(&self) -> f64 {
        (self.ratio() - 1.0).abs()
    }
}

/// What is wrong, and what to do.
type Refused = (String, String);

struct Fitting<'a, 'b> {
    matched: &'a Matched,
    fit: &'a Fit,
    counter: &'a mut Counter<'b>,
    /// By task, mixer, sections and point of the grid: seeds share their sizes. What `tune` tries differs in its sections alone.
    known: HashMap<String, Result<Model, Refused>>,
}

impl Fitting<'_, '_> {
    /// The model of `draft` at its size.
    fn model(&mut self, draft: &Draft) -> Result<Model, Refused> {
        let key = (&draft.task_label, &draft.mixer_label, &draft.settings, &draft.mixer, &draft.sections);
        let key = serde_json::to_string(&key).expect("settings are plain data");
        if let Some(known) = self.known.get(&key) {
            return known.clone();
        }
        let found = self.fitted(draft);
        self.known.insert(key, found.clone());
        found
    }

    fn fitted(&mut self, draft: &Draft) -> Result<Model, Refused> {
        let target = self.target(draft)?;
        let here =
            Model { draft: draft.clone(), size: self.known_size(draft)?, target, chosen: Vec::new(), moved: 0.0 };
        if matches!(&self.fit.target, Target::Of(label) if *label == draft.mixer_label) {
            return Ok(here);
        }
        self.has_fixed_state(draft)?;
        let fit = self.fit;
        let knobs: Vec<&Knob> = fit.by.iter().filter(|knob| self.counter.value(draft, knob).is_some()).collect();
        if knobs.is_empty() {
            return Err(self.without_a_key(draft));
        }
        let tried = self.turned(&here, &knobs);
        let good = tried.iter().filter(|model| model.away() <= fit.within);
        let best = good.min_by(|a, b| a.moved.total_cmp(&b.moved).then(a.away().total_cmp(&b.away())));
        best.cloned().ok_or_else(|| self.missed(draft, target, &knobs, tried))
    }

    /// The size that `draft` is to have.
    fn target(&mut self, draft: &Draft) -> Result<f64, Refused> {
        let label = match &self.fit.target {
            Target::Size(size) => return Ok(*size as f64),
            Target::Of(label) => label,
        };
        let matched = self.matched;
        // What `tune` tries stands behind the point of the grid.
        let same = |kind: &&Draft| {
            let place = (&kind.mixer_label, &kind.task_label) == (label, &draft.task_label);
            place && kind.settings.starts_with(&draft.settings)
        };
        let Some(kind) = matched.kinds.iter().find(same) else {
            let problem = format!(
                "`{label}`, whose size `{}` is to have, does not run on `{}`",
                draft.mixer_label, draft.task_label
            );
            return Err((problem, "let it run on every task, or give a number".into()));
        };
        let size = self.known_size(kind)?;
        if size > 0.0 {
            return Ok(size);
        }
        let problem = format!("`{label}` on `{}` has {}", draft.task_label, self.fit.measure.count(0.0));
        Err((problem, "give a number, or the label of another entry".into()))
    }

    fn size(&mut self, draft: &Draft) -> Option<f64> {
        match self.fit.measure {
            Measure::Parameters => Some(self.counter.sizes(draft)?.parameters as f64),
            Measure::Flops => Some(self.counter.forward_flops(draft)?.round()),
            Measure::State => Some(draft.model.n_layers as f64 * self.counter.sizes(draft)?.mixer.state_bytes as f64),
        }
    }

    fn known_size(&mut self, draft: &Draft) -> Result<f64, Refused> {
        let too_large = || {
            let problem =
                format!("the model of `{}` on `{}` is too large to be counted", draft.mixer_label, draft.task_label);
            (problem, "write a smaller one: the search for its size begins there".into())
        };
        self.size(draft).ok_or_else(too_large)
    }

    /// Refuses mixers whose state is none or grows: the state at one length says nothing of another.
    fn has_fixed_state(&mut self, draft: &Draft) -> Result<(), Refused> {
        let sizes = self.counter.sizes(draft).filter(|_| self.fit.measure == Measure::State);
        let (mixer, task) = (&draft.mixer_label, &draft.task_label);
        let (why, or) = match sizes {
            Some(sizes) if sizes.mixer.state_bytes == 0 => {
                ("has no state: it does not decode token by token there", "")
            }
            Some(sizes) if sizes.mixer.state_bytes != sizes.later_state_bytes => (
                "has a state that grows with the length",
                ", or take what it is at the task's length as the size: `{ of: … }`",
            ),
            _ => return Ok(()),
        };
        let problem = format!("`{mixer}` on `{task}` {why}, and cannot be matched by it");
        Err((problem, format!("match by `parameters` or `flops`, or leave `{mixer}` out{or}")))
    }

    /// The models that turning `knobs` leads to, those nearest to the target.
    fn turned(&mut self, from: &Model, knobs: &[&Knob]) -> Vec<Model> {
        let Some((knob, rest)) = knobs.split_first() else { return vec![from.clone()] };
        let near = self.nearest(from, knob);
        if rest.is_empty() || near.iter().any(|model| model.away() <= self.fit.within) {
            return near;
        }
        let turned: Vec<Model> = near.iter().flat_map(|model| self.turned(model, rest)).collect();
        if turned.is_empty() { near } else { turned }
    }

    /// The largest model up to the target and the smallest beyond it, of all values that `knob` may have, the nearer first. Sizes are
    /// taken to rise with the value; where they do not, these may not be the nearest.
    fn nearest(&mut self, from: &Model, knob: &Knob) -> Vec<Model> {
        let Some(start) = self.counter.value(&from.draft, knob) else { return Vec::new() };
        let (low, high) = self.span(from, knob, start.clamp(1, most(knob)));
        let allowed: Vec<i64> =
            (low..=high).filter(|value| self.counter.with(&from.draft, knob, *value).is_some()).collect();
        let Some(last) = allowed.len().checked_sub(1) else { return Vec::new() };
        let (mut below, mut above) = (0, last);
        while above - below > 1 {
            let middle = (below + above) / 2;
            if self.size_at(from, knob, allowed[middle]) <= from.target { below = middle } else { above = middle }
        }
        let mut near: Vec<Model> =
            [below, above].iter().filter_map(|at| self.turned_to(from, knob, allowed[*at], start)).collect();
        near.sort_by(|a, b| a.away().total_cmp(&b.away()));
        near.dedup_by(|a, b| a.chosen == b.chosen);
        near
    }

    /// Values between which the target lies, as far as there are.
    fn span(&mut self, from: &Model, knob: &Knob, start: i64) -> (i64, i64) {
        let (mut low, mut high) = (start, start);
        let allowed = |counter: &Counter, value: &i64| counter.with(&from.draft, knob, *value).is_some();
        while low > 1 {
            let first = (low / 2 + 1..=low).rev().find(|value| allowed(self.counter, value));
            if let Some(value) = first.filter(|value| self.size_at(from, knob, *value) <= from.target) {
                low = value;
                break;
            }
            low /= 2;
        }
        while high < most(knob) {
            let end = (2 * high).min(most(knob));
            let first = (high..end).find(|value| allowed(self.counter, value));
            if let Some(value) = first.filter(|value| self.size_at(from, knob, *value) >= from.target) {
                high = value;
                break;
            }
            high = end;
        }
        (low, high)
    }

    /// The size with `knob` at a value that is allowed; what is too large to be counted is beyond every target.
    fn size_at(&mut self, from: &Model, knob: &Knob, value: i64) -> f64 {
        let draft = self.counter.with(&from.draft, knob, value);
        draft.and_then(|draft| self.size(&draft)).unwrap_or(f64::INFINITY)
    }

    fn turned_to(&mut self, from: &Model, knob: &Knob, value: i64, start: i64) -> Option<Model> {
        let draft = self.counter.with(&from.draft, knob, value)?;
        let size = self.size(&draft)?;
        let turned = if from.chosen.is_empty() { 0.0 } else { (value as f64 / start as f64).ln().abs() };
        let chosen = from.chosen.iter().cloned().chain([(knob.name.clone(), value)]).collect();
        Some(Model { draft, size, chosen, moved: from.moved + turned, target: from.target })
    }

    fn without_a_key(&self, draft: &Draft) -> Refused {
        let names: Vec<String> = self.fit.by.iter().map(|knob| format!("`{}`", knob.name)).collect();
        let problem = format!(
            "`{}` on `{}` has no whole number {} to choose its size by",
            draft.mixer_label,
            draft.task_label,
            names.join(" or ")
        );
        (
            problem,
            "name a key that it has too, as in `by: [d_model, d_ff]`; keys that a model lacks are passed over".into(),
        )
    }

    fn missed(&self, draft: &Draft, target: f64, knobs: &[&Knob], mut tried: Vec<Model>) -> Refused {
        let names: Vec<String> = knobs.iter().map(|knob| format!("`{}`", knob.name)).collect();
        tried.sort_by(|a, b| a.away().total_cmp(&b.away()));
        let near = |model: &Model| {
            let keys: Vec<String> = model.chosen.iter().map(|(key, value)| format!("{key} {value}")).collect();
            format!("{} has {} ({:.3})", keys.join(", "), crate::base::text::grouped(model.size as u64), model.ratio())
        };
        let nearest = match tried.is_empty() {
            true => "no value of it can be built".into(),
            false => format!("the nearest: {}", tried.iter().take(2).map(near).collect::<Vec<_>>().join("; ")),
        };
        let problem = format!(
            "no {} gives `{}` on `{}` {} within {} %; {nearest}",
            names.join(" with "),
            draft.mixer_label,
            draft.task_label,
            self.fit.measure.count(target),
            percent(self.fit.within)
        );
        let help = "name another key under `by` to make up the difference, as in `by: [d_model, d_ff, mixer.d_state]`, or raise \
                    `tolerance`";
        (problem, help.into())
    }
}

/// The largest value of a key.
fn most(knob: &Knob) -> i64 {
    match &knob.of {
        KnobOf::Model => bounds::most(&knob.name) as i64,
        KnobOf::Mixer { key, .. } => mixers::core::limits::most(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::registry::Registry;
    use crate::sweep::matching;

    /// The five card mixers, each in its block in `configs/quick.yaml`.
    const CARD: &str = "\
tasks: [mqar: { vocab_size: 256, seq_len: 32, kv_pairs: 8, causal: false }]
model: { d_model: 64, n_layers: 2, ffn: none }
mixers:
  - mixer: { attention: { n_heads: 1 } }
    model: { block: transformer }
  - mixer: { combiner: { n_heads: 1 } }
    model: { block: transformer }
  - mixer: { s4: { d_state: 64 } }
    model: { block: s4 }
  - mixer: { bigs: {} }
    model: { block: bigs }
  - mixer: { hydra: { d_state: 32, headdim: 32 } }
    model: { block: hydra }
";

    fn fitted(text: &str) -> Result<(Config, Matching), Vec<(String, String)>> {
        let registry = Registry::default();
        let mut config =
            Config::parse(text, "x.yaml", "x", &[], &registry).unwrap_or_else(|e| panic!("{}", e.render()));
        let told = |found: Diagnostics| found.lines().into_iter().zip(found.helps()).collect::<Vec<_>>();
        matching::hold(&mut config, &mut Counter::new(&registry, &[])).map_err(told)?;
        let chosen = config.matched.as_ref().and_then(|matched| matched.chosen.clone()).expect("sizes were chosen");
        Ok((config, chosen))
    }

    /// Every model as it was counted again from its run.
    fn holds((config, matching): &(Config, Matching)) {
        let registry = Registry::default();
        let mut counter = Counter::new(&registry, &[]);
        for (run, model) in config.runs.iter().zip(&matching.models) {
            let size = match matching.measure.as_str() {
                "parameters" => counter.sizes(run).unwrap().parameters as f64,
                "flops" => counter.forward_flops(run).unwrap(),
                _ => run.model.n_layers as f64 * counter.sizes(run).unwrap().mixer.state_bytes as f64,
            };
            assert_eq!((run.mixer_label.as_str(), size as u64), (model.mixer.as_str(), model.size));
            let away = (size / model.target as f64 - 1.0).abs();
            assert!(away <= matching.tolerance, "{}: {size} for {}", model.mixer, model.target);
            println!("{:>10} {:<10} {:>10} {away:.4} {:?}", matching.measure, model.mixer, model.size, model.chosen);
        }
        assert_eq!(config.runs.len(), matching.models.len());
    }

    #[test]
    fn the_card_mixers_are_brought_to_a_hundred_thousand_and_a_million_parameters_and_to_attention_s_flops() {
        for rule in ["parameters: 100000", "parameters: 1000000", "flops: { of: attention }"] {
            holds(
                &fitted(&format!("{CARD}match: {{ {rule}, tolerance: 0.02, by: [d_model, mixer.d_state] }}\n"))
                    .unwrap(),
            );
        }
    }

    #[test]
    fn what_is_tried_keeps_the_rate_that_it_is_tried_for() {
        let text = "\
tasks: [mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false }]
model: { d_model: 32, n_layers: 2 }
mixers: [attention: { n_heads: 1 }]
tune: { over: { optimizer.lr: [1e-3, 1e-2] } }
match: { parameters: 60000, tolerance: 0.05 }
";
        let (config, matching) = fitted(text).unwrap();
        let cell = &config.tune.as_ref().unwrap().cells[0];
        assert_eq!(cell.settings.len(), 6, "two written, two beyond each end");
        for (at, draft) in &cell.settings {
            let rate: f64 = cell.shown(at)[0].1.parse().unwrap();
            assert_eq!((draft.optimizer.lr, draft.model.d_model), (rate, config.runs[0].model.d_model));
        }
        assert_eq!(matching.models.len(), 1, "one size is told once");
    }

    #[test]
    fn what_is_not_written_follows_the_width_that_is_chosen() {
        let text = "\
tasks: [mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false }]
model: { d_model: 32, n_layers: 2 }
mixers: [attention: { n_heads: 1 }]
match: { parameters: 60000, tolerance: 0.05 }
";
        let (config, _) = fitted(text).unwrap();
        let model = &config.runs[0].model;
        assert_eq!(model.d_ff, Some(4 * model.d_model));
        let written = text.replace("d_model: 32", &format!("d_model: {}", model.d_model));
        let written = written.lines().filter(|line| !line.starts_with("match")).collect::<Vec<_>>().join("\n");
        let registry = Registry::default();
        let same = Config::parse(&written, "x.yaml", "x", &[], &registry).unwrap();
        let id = |config: &Config| config.runs[0].bare(&registry).id();
        assert_eq!(id(&config), id(&same), "as if the size had been written");
    }

    #[test]
    fn the_model_that_sets_the_size_stays_as_it_is_and_each_task_has_its_own() {
        let text = "\
tasks:
  - mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false }
  - name: long
    task: { mqar: { vocab_size: 512, seq_len: 64, kv_pairs: 2, causal: false } }
model: { d_model: 24, n_layers: 2 }
mixers: [attention: { n_heads: 2 }, gru: {}]
match: { parameters: { of: attention }, by: [d_model, d_ff] }
";
        let fit = fitted(text).unwrap();
        holds(&fit);
        let (config, matching) = fit;
        assert!(matching.models.iter().all(|model| (model.mixer == "attention") == model.chosen.is_empty()));
        let widths: Vec<i64> = config.runs.iter().map(|run| run.model.d_model).collect();
        assert_eq!((widths[0], widths[2]), (24, 24));
        assert_ne!(matching.models[1].target, matching.models[3].target);
    }

    #[test]
    fn a_state_that_grows_or_is_none_is_refused_and_one_that_is_fixed_is_matched() {
        let text = |task: &str, mixers: &str| {
            format!(
                "tasks: [mqar: {{ vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: {task} }}]\nmodel: {{ d_model: 32, n_layers: 2 }}\n\
                 mixers: [{mixers}]\nmatch: {{ state: 4096, by: [d_model, mixer.d_state] }}\n"
            )
        };
        let grows = fitted(&text("true", "attention: { n_heads: 1 }, s4: {}")).unwrap_err();
        assert_eq!(grows.len(), 1, "{grows:?}");
        assert!(grows[0].0.starts_with("x.yaml:4:17: `attention` on `mqar` has a state that grows"), "{grows:?}");
        let none = fitted(&text("false", "hydra: { headdim: 8 }")).unwrap_err();
        assert!(none[0].0.contains("has no state"), "{none:?}");
        holds(&fitted(&text("true", "s4: {}, mamba2: { headdim: 8 }, gru: {}")).unwrap());
    }

    // A law over the registry: every mixer can be matched, and one that could not would say why here.
    #[test]
    fn every_mixer_is_brought_to_a_size_by_parameters_and_by_operations() {
        for (entry, small) in crate::laws::samples::small_mixers() {
            for (rule, causal) in [("parameters: 12000", true), ("flops: 400000", true), ("parameters: 30000", false)] {
                let text = format!(
                    "tasks: [mqar: {{ vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: {causal} }}]\nmodel: {{ d_model: 16, n_layers: 1 }}\n\
                     mixers: [{{ {}: {small} }}]\nmatch: {{ {rule}, by: [d_model, d_ff] }}\n",
                    entry.name
                );
                // Some are made for one direction only.
                let registry = Registry::default();
                if let Err(found) = Config::parse(&text, "x.yaml", "x", &[], &registry) {
                    assert!(found.render().contains("causal"), "{}: {}", entry.name, found.render());
                    continue;
                }
                holds(&fitted(&text).unwrap_or_else(|found| panic!("{}: {rule}: {found:?}", entry.name)));
            }
        }
    }

    #[test]
    fn what_a_search_tries_has_the_size_too() {
        let text = "\
tasks: [mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false }]
model: { d_model: 32, n_layers: 2, ffn: none }
mixers: [attention: { n_heads: 1 }, gru: {}]
tune: { over: { optimizer.lr: [1e-3, 3e-3] } }
match: { parameters: { of: attention }, tolerance: 0.05 }
";
        let (config, matching) = fitted(text).unwrap();
        assert_eq!(matching.models.len(), 2, "rates have no sizes of their own");
        let widths = |label: &str| -> HashSet<i64> {
            let cells = config.tune.iter().flat_map(|tune| &tune.cells).filter(|cell| cell.mixer == label);
            cells.flat_map(|cell| cell.settings.values().map(|draft| draft.model.d_model)).collect()
        };
        assert_eq!(widths("attention"), HashSet::from([32]));
        assert_eq!(widths("gru"), HashSet::from([config.runs[1].model.d_model]));
        assert_ne!(config.runs[1].model.d_model, 32);
    }

    #[test]
    fn a_size_that_nothing_has_is_refused_with_the_two_nearest() {
        let text = "\
tasks: [mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false }]
model: { d_model: 32, n_layers: 1 }
mixers: [attention: { n_heads: 16 }]
match:
  parameters: 20000
";
        let found = fitted(text).unwrap_err();
        assert!(
            found[0]
                .0
                .starts_with("x.yaml:5:15: no `d_model` gives `attention` on `mqar` 20,000 parameters within 2 %")
        );
        assert!(
            found[0].0.contains("the nearest: d_model 32 has ") && found[0].0.contains("; d_model 48 has "),
            "{found:?}"
        );
        let with = text.replace("20000", "20000\n  by: [d_model, d_ff]");
        holds(&fitted(&with).unwrap());
        let none = fitted(&text.replace("20000", "20000\n  by: mixer.d_state")).unwrap_err();
        assert!(none[0].0.contains("has no whole number `mixer.d_state`"), "{none:?}");
    }
}
