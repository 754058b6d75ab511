//! `match`: how alike a sweep's models must be in size, or to which size they are brought.
//!
//! ```yaml
//! match: { tolerance: 0.02 }                            # a check: within 2 % of the parameters of the first mixer's model
//! match: { parameters: 0.02 }                           # the same
//! match: { parameters: 100000, by: d_model }            # sizes are chosen: every model has 100,000 parameters within 2 %
//! match: { flops: { of: attention }, tolerance: 0.01, by: [d_model, mixer.d_state] }
//! ```
//! A number below 1 under `parameters` is a tolerance, for no model is that small; from 1 on it is a size to reach.

use crate::base::diagnostics::{Place, suggest};
use crate::config::draft::{Draft, Start};
use crate::config::layers::Setting;
use crate::config::reader::Reader;
use crate::config::yaml::{Data, Key, Node};
use std::collections::HashSet;

/// How alike a sweep's models must be in size.
#[derive(Clone, Debug)]
pub struct Matched {
    pub(crate) rule: Rule,
    pub(crate) place: Place,
    pub(crate) source: String,
    /// Every kind of run in the config, whatever a filter leaves of them.
    pub(crate) kinds: Vec<Draft>,
    /// What was chosen, once it was: see [`crate::sweep::matching`].
    pub(crate) chosen: Option<results::Matching>,
}

/// What is asked of the sizes.
#[derive(Clone, Debug)]
pub(crate) enum Rule {
    /// Every model's parameters are within this share of those of the first mixer's on the same task.
    Check(f64),
    /// Every model is brought to a size.
    Fit(Fit),
}

/// A size that models are brought to.
#[derive(Clone, Debug)]
pub(crate) struct Fit {
    pub(crate) measure: Measure,
    pub(crate) target: Target,
    pub(crate) place: Place,
    /// Largest share by which a model may miss it.
    pub(crate) within: f64,
    /// What is changed, the first alone where that is enough.
    pub(crate) by: Vec<Knob>,
}

/// What a size is counted in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    Parameters,
    Flops,
    State,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Target {
    Size(u64),
    /// The size of the entry with this label, which stays as it is written.
    Of(String),
}

/// A whole number that is changed to bring a model to its size.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Knob {
    /// As it is written: `d_model`, `mixer.d_state`.
    pub(crate) name: String,
    pub(crate) place: Place,
    pub(crate) of: KnobOf,
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum KnobOf {
    /// A key of `model`.
    Model,
    /// A key of every mixer that has it, or of one family alone.
    Mixer { family: Option<String>, key: String },
}

/// Keys of `model` that sizes can be chosen by.
const MODEL_KEYS: [&str; 3] = ["d_model", "n_layers", "d_ff"];
/// What sizes are counted in.
const MEASURES: [(&str, Measure); 3] =
    [("parameters", Measure::Parameters), ("flops", Measure::Flops), ("state", Measure::State)];
const HELP: &str = "write `match: { parameters: 100000, tolerance: 0.02, by: d_model }` to choose sizes, or \
                    `match: { tolerance: 0.02 }` to check them";
const BY_HELP: &str = "write `by: d_model`, or more keys, of which a later one makes up what the earlier leave: \
                       d_model, n_layers, d_ff, mixer.KEY and mixer.NAME.KEY";
const TARGET_HELP: &str = "write a whole number, or `{ of: LABEL }` with the label of a mixer's entry";

impl Measure {
    pub(crate) fn word(self) -> &'static str {
        MEASURES.iter().find(|(_, measure)| *measure == self).map_or("", |(word, _)| word)
    }

    /// `100,000 parameters`.
    pub(crate) fn count(self, size: f64) -> String {
        let grouped = crate::base::text::grouped(size as u64);
        match self {
            Self::Parameters => format!("{grouped} parameters"),
            Self::Flops => format!("{grouped} FLOPs a forward pass"),
            Self::State => format!("{grouped} bytes of state"),
        }
    }
}

impl Matched {
    /// Every run of a kind of its own among `runs`.
    fn kinds(runs: &[Draft]) -> Vec<Draft> {
        let mut known = HashSet::new();
        runs.iter().filter(|&draft| known.insert((&draft.mixer_label, grid_point(draft)))).cloned().collect()
    }

    /// Whether sizes are chosen.
    pub fn chooses(&self) -> bool {
        matches!(self.rule, Rule::Fit(_))
    }

    /// What a table says of a check; a choice of sizes has a place of its own in the manifest.
    pub fn sentence(&self) -> Option<String> {
        match self.rule {
            Rule::Check(within) => Some(format!("Models are matched by parameters within {} %.", percent(within))),
            Rule::Fit(_) => None,
        }
    }
}

pub(crate) fn percent(share: f64) -> f64 {
    (share * 1e4).round() / 100.0
}

/// The task's label and the point of the grid.
pub(crate) type Point<'a> = (&'a String, &'a Vec<(String, String)>);

pub(crate) fn grid_point(draft: &Draft) -> Point<'_> {
    (&draft.task_label, &draft.settings)
}

impl Reader<'_> {
    /// What stands under `match`; `swept` are the settings that the grid or `--set` decides.
    pub(super) fn matched(&mut self, key: &Key, node: &Node, runs: &[Draft], swept: &[&Setting]) -> Option<Matched> {
        let Some(keys) = node.as_map() else {
            let problem = format!("`match` is {}, expected a mapping", node.describe());
            self.found.error(node.place.clone(), problem, HELP);
            return None;
        };
        let before = self.found.len();
        let known: Vec<&str> = MEASURES.iter().map(|(word, _)| *word).chain(["step_time", "tolerance", "by"]).collect();
        self.known_keys(keys, &known, "`match`", "keys");
        let get = |name: &str| keys.iter().find(|(key, _)| key.name == name).map(|(_, node)| node);
        if let Some((key, _)) = keys.iter().find(|(key, _)| key.name == "step_time") {
            let problem = "models cannot be matched by `step_time`: a time differs from machine to machine and from \
                           day to day, and the sizes chosen by it, which are part of a run's identity, would too";
            self.found.error(key.place.clone(), problem, "match by `flops`, and read the times in the table");
            return None;
        }
        let tolerance = get("tolerance").map(|node| self.tolerance("tolerance", node));
        let of: Vec<(Measure, &Node)> =
            MEASURES.iter().filter_map(|(word, measure)| Some((*measure, get(word)?))).collect();
        let rule = match of[..] {
            [] => self.check(key, tolerance, get("by")),
            [(Measure::Parameters, share)] if is_share(share) => {
                if let Some(node) = get("by").or_else(|| get("tolerance")) {
                    let problem = "`parameters` is below 1, a tolerance for a check, and nothing is chosen by that";
                    self.found.error(node.place.clone(), problem, HELP);
                }
                self.tolerance("parameters", share).map(Rule::Check)
            }
            [(measure, target)] => {
                self.fit(measure, target, tolerance.unwrap_or(Some(0.02)), get("by"), runs, swept).map(Rule::Fit)
            }
            [_, (_, second), ..] => {
                self.found.error(second.place.clone(), "models can be matched by one measure", "keep one of them");
                None
            }
        };
        let source = self.found.source().to_owned();
        let matched =
            Matched { rule: rule?, place: key.place.clone(), source, kinds: Matched::kinds(runs), chosen: None };
        (self.found.len() == before).then_some(matched)
    }

    /// `tolerance` alone.
    fn check(&mut self, key: &Key, tolerance: Option<Option<f64>>, by: Option<&Node>) -> Option<Rule> {
        match (tolerance, by) {
            (_, Some(by)) => {
                let problem = "`by` says what to choose sizes by, and no size is given";
                self.found.error(by.place.clone(), problem, HELP);
                None
            }
            (None, None) => {
                self.found.error(key.place.clone(), "`match` has neither a size nor a `tolerance`", HELP);
                None
            }
            (Some(within), None) => within.map(Rule::Check),
        }
    }

    fn tolerance(&mut self, name: &str, node: &Node) -> Option<f64> {
        let within = node.to_json().as_f64().filter(|share| *share > 0.0 && *share < 1.0);
        if within.is_none() {
            let problem = format!("`{name}` is {}, expected a share between 0 and 1", node.describe());
            self.found.error(node.place.clone(), problem, "write 0.02 for 2 %");
        }
        within
    }

    fn fit(
        &mut self,
        measure: Measure,
        node: &Node,
        within: Option<f64>,
        by: Option<&Node>,
        runs: &[Draft],
        swept: &[&Setting],
    ) -> Option<Fit> {
        let target = self.target(measure, node, runs);
        let by = self.knobs(by, &node.place, swept);
        if let Some(run) = runs.iter().find(|run| run.start.is_some()) {
            let from = match &run.start {
                Some(Start::Run(first)) => format!("a run on `{}`", first.task_label),
                _ => "a file of weights".into(),
            };
            let problem = format!(
                "sizes are chosen task by task, and `{}` on `{}` starts from {from}, whose sizes are given",
                run.mixer_label, run.task_label
            );
            self.found.error(
                node.place.clone(),
                problem,
                "write the sizes, and check them with `match: { tolerance: 0.02 }`",
            );
        }
        Some(Fit { measure, target: target?, place: node.place.clone(), within: within?, by: by? })
    }

    fn target(&mut self, measure: Measure, node: &Node, runs: &[Draft]) -> Option<Target> {
        let word = measure.word();
        if let [(of, label)] = node.as_map().unwrap_or_default()
            && of.name == "of"
        {
            let labels: HashSet<&str> = runs.iter().map(|run| run.mixer_label.as_str()).collect();
            return match label.as_str().filter(|label| labels.contains(label)) {
                Some(label) => Some(Target::Of(label.into())),
                None => {
                    let mut labels: Vec<&str> = labels.into_iter().collect();
                    labels.sort_unstable();
                    let help = suggest(label.as_str().unwrap_or_default(), &labels, "labels of mixers");
                    let problem = format!("no mixer's entry is labelled {}", label.describe());
                    self.found.error(label.place.clone(), problem, help);
                    None
                }
            };
        }
        // Up to 2⁵³, where every whole number is a float.
        let size = node.to_json().as_f64().filter(|size| *size >= 1.0 && *size <= 9e15 && size.fract() == 0.0);
        if size.is_none() {
            let problem = format!("`{word}` is {}, expected a size to reach", node.describe());
            self.found.error(node.place.clone(), problem, TARGET_HELP);
        }
        size.map(|size| Target::Size(size as u64))
    }

    fn knobs(&mut self, node: Option<&Node>, place: &Place, swept: &[&Setting]) -> Option<Vec<Knob>> {
        let items = match node {
            None => vec![Node { place: place.clone(), data: Data::Scalar("d_model".into()) }],
            Some(node) => node.as_list().map_or_else(|| vec![node.clone()], <[Node]>::to_vec),
        };
        if items.is_empty() {
            self.found.error(place.clone(), "`by` names no key", BY_HELP);
            return None;
        }
        let mut knobs: Vec<Knob> = Vec::new();
        for item in &items {
            let knob = self.knob(item)?;
            if knobs.iter().any(|known| known.of == knob.of && known.name == knob.name) {
                self.found.error(item.place.clone(), format!("`{}` is named twice", knob.name), "keep one of the two");
                return None;
            }
            if let Some(setting) = swept.iter().find(|setting| knob.is(&setting.path)) {
                let problem = format!("`{}` is set here, and `match` is to choose it", setting.path.join("."));
                let help = "take it out of `grid`, `tune`, `ablate` or `--set`, or name another key under `by`";
                self.found.error(setting.key_place.clone(), problem, help);
                return None;
            }
            knobs.push(knob);
        }
        Some(knobs)
    }

    fn knob(&mut self, node: &Node) -> Option<Knob> {
        let path: Vec<&str> = node.as_str().unwrap_or_default().split('.').collect();
        let mixer =
            |family: Option<&str>, key: &str| KnobOf::Mixer { family: family.map(str::to_owned), key: key.into() };
        let of = match path[..] {
            [key] if MODEL_KEYS.contains(&key) => Some(KnobOf::Model),
            ["mixer", key] => Some(mixer(None, key)),
            ["mixer", family, key] if self.registry.mixer(family).is_some() => Some(mixer(Some(family), key)),
            _ => None,
        };
        if of.is_none() {
            self.found.error(
                node.place.clone(),
                format!("`by` has {}, which is no key to choose sizes by", node.describe()),
                BY_HELP,
            );
        }
        Some(Knob { name: node.as_str()?.into(), place: node.place.clone(), of: of? })
    }
}

/// Whether a node holds a number below 1.
fn is_share(node: &Node) -> bool {
    node.to_json().as_f64().is_some_and(|number| number < 1.0)
}

impl Knob {
    /// Whether `path` leads to it.
    fn is(&self, path: &[String]) -> bool {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        match (&self.of, &path[..]) {
            (KnobOf::Model, ["model", key]) => self.name == *key,
            (KnobOf::Mixer { family, key }, ["mixer", of, name]) => {
                key == name && family.as_ref().is_none_or(|family| family == of)
            }
            _ => false,
        }
    }
}
