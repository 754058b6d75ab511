//! `plan --print`: every run with all its settings as YAML, and behind each value a comment that says where it comes from.

use crate::config::draft::{Draft, Part};
use crate::config::origins::Origin;
use crate::config::{Config, Matched};
use crate::sweep::plan::{Planned, name};
use crate::train::sections::NAMES;
use serde_json::{Map, Value};
use std::fmt::Write;

/// What origins are read off: a config, and the path of its file as the user typed it.
pub struct Printed<'a> {
    pub config: &'a Config,
    pub source: &'a str,
}

impl Printed<'_> {
    /// A run as a YAML document.
    pub fn document(&self, run: &Planned) -> String {
        let mut out = format!("---\n# {}  {}\n", run.id, one_line(&name(&run.draft)));
        let spec = serde_json::to_value(&run.spec).expect("a spec is plain data");
        for (key, value) in spec.as_object().into_iter().flatten() {
            match (key.as_str(), value.as_object()) {
                ("task" | "mixer", Some(choice)) => self.choice(&mut out, key, choice, &run.draft),
                (section, Some(keys)) if NAMES.contains(&section) => {
                    let _ = writeln!(out, "{section}:");
                    self.keys(&mut out, "  ", section, keys, &run.draft);
                }
                ("seed" | "start", _) => line(&mut out, "", key, value, &self.origin(&run.draft, key, value)),
                ("data", None) if value.is_null() => line(&mut out, "", key, value, "no files"),
                ("data" | "minimal_pairs", _) => line(&mut out, "", key, value, "contents of the files"),
                _ => line(&mut out, "", key, value, "this build"),
            }
        }
        out
    }

    /// A task or a mixer with its settings.
    fn choice(&self, out: &mut String, kind: &str, choice: &Map<String, Value>, draft: &Draft) {
        let _ = writeln!(out, "{kind}:");
        for (family, settings) in choice {
            let origin = self.origin(draft, kind, &Value::Null);
            match settings.as_object().filter(|settings| !settings.is_empty()) {
                Some(settings) => {
                    let _ = writeln!(out, "  {family}:  # {origin}");
                    self.keys(out, "    ", kind, settings, draft);
                }
                None => line(out, "  ", family, settings, &origin),
            }
        }
    }

    fn keys(&self, out: &mut String, indent: &str, of: &str, keys: &Map<String, Value>, draft: &Draft) {
        for (key, value) in keys {
            line(out, indent, key, value, &self.origin(draft, &format!("{of}.{key}"), value));
        }
    }

    /// Where a value comes from, in words.
    fn origin(&self, draft: &Draft, path: &str, value: &Value) -> String {
        let written = match draft.origins.get(path) {
            None => "default".into(),
            Some(Origin::Written(place)) => place.line_in(self.source),
            Some(Origin::Preset(preset, place)) => format!("preset {preset}, {}", place.line_in(self.source)),
        };
        let origin = match &draft.part {
            _ if self.is_chosen(draft, path, value) => {
                let place = self.config.matched.as_ref().map_or(String::new(), |of| of.place.line_in(self.source));
                format!("chosen by `match`, {place}")
            }
            Part::Search { .. } if path == "seed" => "`tune`: no run of the sweep has it".into(),
            Part::Search { .. } if self.is_shortened(draft, path, value) => format!("shortened by `tune`, {written}"),
            Part::Run if self.is_tuned(draft, path) => format!("first of those that `tune` tries, {written}"),
            _ => written,
        };
        one_line(&origin)
    }

    /// Whether `match` chose the value.
    fn is_chosen(&self, draft: &Draft, path: &str, value: &Value) -> bool {
        let models = self.config.matched.as_ref().and_then(|matched: &Matched| matched.chosen.as_ref());
        let of_run = models.iter().flat_map(|chosen| &chosen.models).filter(|model| {
            let labels = (&model.task, &model.mixer) == (&draft.task_label, &draft.mixer_label);
            labels && model.settings.iter().all(|setting| draft.settings.contains(setting))
        });
        let mut chosen = of_run.flat_map(|model| &model.chosen);
        chosen.any(|(knob, number)| {
            let knob = if knob.contains('.') { settings_path(knob) } else { format!("model.{knob}") };
            knob == path && number.parse().ok() == value.as_i64()
        })
    }

    /// Whether the search made it smaller than it is in the run itself.
    fn is_shortened(&self, draft: &Draft, path: &str, value: &Value) -> bool {
        let Part::Search { cell, at, .. } = &draft.part else { return false };
        let cell = self.config.tune.as_ref().and_then(|tune| tune.cells.get(*cell));
        let whole = cell.and_then(|cell| cell.settings.get(at)).map(|draft| serde_json::to_value(&draft.sections));
        let pointer = format!("/{}", path.replace('.', "/"));
        whole.and_then(Result::ok).is_some_and(|whole| whole.pointer(&pointer).is_some_and(|other| other != value))
    }

    /// Whether a search is to choose the value.
    fn is_tuned(&self, draft: &Draft, path: &str) -> bool {
        let mut cells = self.config.tune.iter().flat_map(|tune| &tune.cells).filter(|cell| cell.is_of(draft));
        cells.any(|cell| cell.axes.iter().any(|axis| settings_path(&axis.path) == path))
    }
}

/// `mixer.s4.d_state` as `mixer.d_state`, as origins have it.
fn settings_path(path: &str) -> String {
    match path.split('.').collect::<Vec<_>>()[..] {
        [kind @ ("mixer" | "task"), _, key] => format!("{kind}.{key}"),
        _ => path.to_owned(),
    }
}

fn line(out: &mut String, indent: &str, key: &str, value: &Value, origin: &str) {
    let _ = writeln!(out, "{indent}{}: {}  # {origin}", word(key), flow(value));
}

/// A value in one line of YAML.
fn flow(value: &Value) -> String {
    match value {
        Value::String(text) => word(text),
        Value::Array(items) => format!("[{}]", items.iter().map(flow).collect::<Vec<_>>().join(", ")),
        Value::Object(keys) if keys.is_empty() => "{}".into(),
        Value::Object(keys) => {
            let keys = keys.iter().map(|(key, value)| format!("{}: {}", word(key), flow(value)));
            format!("{{ {} }}", keys.collect::<Vec<_>>().join(", "))
        }
        value => value.to_string(),
    }
}

/// Text as YAML: in quotes unless it is a plain word that would be read as text.
fn word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./".contains(c);
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(is_plain);
    match plain && serde_yaml::from_str::<Value>(text).is_ok_and(|read| read == *text) {
        true => text.to_owned(),
        false => Value::from(text).to_string(),
    }
}

/// A comment ends with its line.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;
    use crate::sweep::opened::open_tasks;
    use crate::sweep::plan::Plan;
    use tasks::DataDir;

    const TEXT: &str = "\
tasks: [mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false }]
seeds: [3]
model: { preset: bert_small_cpu, head: plain, d_model: 16, n_layers: 1 }
grid: { optimizer.lr: [1e-3, 1e-2] }
mixers:
  - attention: { n_heads: 2 }
  - mixer: gru
    model: { n_layers: 2 }
";

    fn printed(text: &str, sets: &[&str]) -> Vec<(Planned, String)> {
        let registry = Registry::default();
        let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
        let config = Config::parse(text, "x.yaml", "x", &sets, &registry).unwrap_or_else(|e| panic!("{}", e.render()));
        let opened = open_tasks(&config, &registry, &DataDir("data".into()), |_| true);
        let plan = Plan::expand(&config, &registry, &opened).unwrap();
        let printed = Printed { config: &config, source: "x.yaml" };
        plan.runs.iter().map(|run| (run.clone(), printed.document(run))).collect()
    }

    #[test]
    fn what_is_printed_is_the_run_and_each_value_says_where_it_comes_from() {
        let all = printed(TEXT, &["budget.steps=7"]);
        assert_eq!(all.len(), 4);
        for (run, document) in &all {
            let read: Value = serde_yaml::from_str(document).unwrap_or_else(|e| panic!("{e}:\n{document}"));
            assert_eq!(read, serde_json::to_value(&run.spec).unwrap(), "{document}");
            let settings = document.lines().skip(2).filter(|line| !line.ends_with(':'));
            settings.for_each(|line| assert!(line.contains("  # "), "{line}"));
        }
        let has = |at: usize, line: &str| {
            let document = &all[at].1;
            assert!(document.lines().any(|other| other.trim() == line), "{line} in\n{document}");
        };
        has(0, "n_heads: 2  # x.yaml:6");
        has(0, "attention:  # x.yaml:6");
        has(0, "bias: true  # default");
        has(0, "n_layers: 1  # x.yaml:3");
        has(0, "norm_place: post  # preset bert_small_cpu, x.yaml:3");
        has(0, "head: plain  # x.yaml:3");
        has(0, "lr: 0.001  # x.yaml:4");
        has(0, "steps: 7  # --set budget.steps=7");
        has(0, "seed: 3  # x.yaml:2");
        has(2, "n_layers: 2  # x.yaml:8");
    }

    #[test]
    fn text_is_quoted_where_yaml_would_read_something_else() {
        for text in ["a b", "true", "1e3", "null", "", "it's: \"#x\"", "two\nlines", "é", "~", "yes", "0x10", "- a"] {
            let read: Value = serde_yaml::from_str(&format!("k: {}", word(text))).unwrap();
            assert_eq!(read["k"], text);
        }
        assert_eq!(word("bert_small"), "bert_small");
        assert_eq!(flow(&serde_json::json!({ "bpe": { "size": [1, 2.5] } })), "{ bpe: { size: [1, 2.5] } }");
    }
}
