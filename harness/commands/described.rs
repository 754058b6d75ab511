//! A page about something with settings: what it is, and every setting with its default, what it may be and what it means.

use super::width;
use crate::cli::ListArgs;
use serde_json::Value;
use std::fmt::Write;
use std::io::IsTerminal;

/// A line longer than this is hard to read, however wide the terminal.
pub const WIDEST: usize = 100;

/// What a page is about: a mixer, a task or a section of settings.
pub struct Described<'a> {
    pub name: &'static str,
    pub about: &'a str,
    pub facts: Vec<(&'static str, &'static str)>,
    pub defaults: Value,
    pub schema: Value,
    /// The largest whole number under a key, in words.
    pub limit: Box<dyn Fn(&str) -> String + 'a>,
}

impl<'a> Described<'a> {
    pub fn mixer(entry: &'a mixers::Entry) -> Self {
        let facts = vec![("  paper  ", entry.paper), ("  cost   ", entry.complexity)];
        let limit = |key: &str| format!("whole number up to {}", mixers::core::limits::most(key));
        let (defaults, schema) = ((entry.defaults)(), (entry.schema)());
        Self { name: entry.name, about: entry.about, facts, defaults, schema, limit: Box::new(limit) }
    }

    pub fn task(entry: &'a tasks::Entry) -> Self {
        let limit = |key: &str| {
            let most = entry.most(key).map(|power| format!(" up to 2^{power}"));
            format!("whole number{}", most.unwrap_or_default())
        };
        let (facts, defaults, schema) = (vec![("  paper  ", entry.paper)], (entry.defaults)(), (entry.schema)());
        Self { name: entry.name, about: entry.about, facts, defaults, schema, limit: Box::new(limit) }
    }
}

pub fn print_pages(args: &ListArgs, described: &[Described]) {
    let (width, bold) = (width().min(WIDEST), std::io::stdout().is_terminal());
    let pages: Vec<String> = described.iter().map(|one| page(one, width, bold, args.name.is_some())).collect();
    print!("{}", pages.join("\n\n"));
}

pub fn print_json(all: &Vec<Value>) {
    println!("{}", serde_json::to_string_pretty(all).expect("plain data"));
}

/// One mixer or task: what it is, then every setting with its default, what it may be and what it means. `words` explains each of
/// the words a setting may be, and each key of a map.
pub fn page(of: &Described, width: usize, bold: bool, words: bool) -> String {
    let mut out = String::new();
    let head = wrap(of.about, width.saturating_sub(of.name.len() + 2));
    for (i, line) in head.iter().enumerate() {
        match (i, bold) {
            (0, true) => writeln!(out, "\x1b[1m{}\x1b[0m  {line}", of.name),
            (0, false) => writeln!(out, "{}  {line}", of.name),
            _ => writeln!(out, "{:indent$}{line}", "", indent = of.name.len() + 2),
        }
        .expect("a string takes all");
    }
    of.facts.iter().for_each(|(lead, fact)| block(&mut out, lead, fact, width));
    let schema = &of.schema;
    let settings: Vec<(String, &str, &Value)> = of
        .defaults
        .as_object()
        .into_iter()
        .flatten()
        .map(|(key, default)| {
            let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
            (format!("{key}: {default}"), key.as_str(), &schema["properties"][key])
        })
        .collect();
    out += "\n";
    // A default too long for the column has a line of its own.
    let column = (settings.iter().map(|(text, ..)| text.chars().count()).max().unwrap_or(0) + 2).min(width / 2 - 8);
    for (text, key, field) in &settings {
        let meaning = field["description"].as_str().unwrap_or_default();
        let meaning = meaning.split_whitespace().collect::<Vec<_>>().join(" ");
        let fits = text.chars().count() + 2 <= column;
        if !fits {
            writeln!(out, "  {text}").expect("a string takes all");
        }
        let lead = if fits { format!("  {text:<column$}") } else { " ".repeat(column + 2) };
        block(&mut out, &lead, &kind(schema, field).replace("whole number", &(of.limit)(key)), width);
        block(&mut out, &" ".repeat(column + 2), &meaning, width);
        let known = [choices(schema, field), keys(schema, field)].concat();
        let longest = known.iter().map(|(word, _)| word.chars().count()).max().unwrap_or(0);
        for (word, meaning) in known.iter().filter(|(_, meaning)| words && !meaning.is_empty()) {
            block(&mut out, &format!("{:column$}    {word:<longest$}  ", ""), meaning, width);
        }
    }
    out
}

/// `text` behind `lead`, its further lines below its first; nothing for no text.
pub fn block(out: &mut String, lead: &str, text: &str, width: usize) {
    let indent = lead.chars().count();
    for (i, line) in wrap(text, width.saturating_sub(indent)).iter().enumerate() {
        let blank = " ".repeat(indent);
        writeln!(out, "{}{line}", if i == 0 { lead } else { &blank }).expect("a string takes all");
    }
}

/// Lines of at most `width` characters, broken at spaces; a longer word has a line of its own.
pub fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(20);
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= width => *line += &format!(" {word}"),
            _ => lines.push(word.into()),
        }
    }
    lines
}

/// The schema a `$ref` stands for.
fn followed<'a>(root: &'a Value, node: &'a Value) -> &'a Value {
    let path = node["$ref"].as_str().and_then(|path| path.strip_prefix('#'));
    path.and_then(|path| root.pointer(path)).unwrap_or(node)
}

/// What a node says of itself, on one line.
fn meaning_of(node: &Value) -> String {
    node["description"].as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The keys of a setting that is a map or a list of maps, each with its meaning.
fn keys(root: &Value, node: &Value) -> Vec<(String, String)> {
    let node = followed(root, node);
    let fields = node["properties"].as_object().into_iter().flatten();
    let own = fields.map(|(key, field)| (format!("{key}:"), meaning_of(field)));
    let inner = ["anyOf"].iter().filter_map(|part| node[part].as_array()).flatten().chain([&node["items"]]);
    own.chain(inner.filter(|part| part.is_object()).flat_map(|part| keys(root, part))).collect()
}

/// The words a setting may be, each with its meaning: of a choice with settings of its own `{ name: {…} }`.
pub fn choices(root: &Value, node: &Value) -> Vec<(String, String)> {
    let node = followed(root, node);
    if let Some(word) = node["const"].as_str() {
        return vec![(word.to_owned(), meaning_of(node))];
    }
    if let Some(words) = node["enum"].as_array() {
        return words.iter().filter_map(|word| Some((word.as_str()?.to_owned(), String::new()))).collect();
    }
    // An object of one key that must be there is how a choice with settings is written; a map of settings requires none.
    if let (Some([only]), false) =
        (node["required"].as_array().map(Vec::as_slice), node["additionalProperties"].is_null())
        && let Some(name) = only.as_str().filter(|_| node["properties"].as_object().is_some_and(|keys| keys.len() == 1))
    {
        return vec![(format!("{{ {name}: {{…}} }}"), meaning_of(node))];
    }
    let parts = ["oneOf", "anyOf"].iter().filter_map(|key| node[key].as_array()).flatten();
    parts.flat_map(|part| choices(root, part)).collect()
}

/// What a setting may be, in a user's words: `dplr | diag`, `whole number or null`.
pub fn kind(root: &Value, node: &Value) -> String {
    let words: Vec<String> = choices(root, node).into_iter().map(|(word, _)| word).collect();
    let node = followed(root, node);
    let nullable = |kinds: &[Value]| kinds.iter().any(|kind| kind == "null" || kind["type"] == "null");
    if !words.is_empty() {
        let null = if node["anyOf"].as_array().is_some_and(|parts| nullable(parts)) { " | null" } else { "" };
        return words.join(" | ") + null;
    }
    if let Some(parts) = node["anyOf"].as_array().or(node["oneOf"].as_array()) {
        return either(parts.iter().map(|part| kind(root, part)).collect());
    }
    let one = |kind_of: &str| match kind_of {
        "integer" if node["minimum"] == 0 => "whole number, 0 or more".into(),
        "integer" => "whole number".into(),
        "boolean" => "true | false".into(),
        "string" => "text".into(),
        "object" => "map".into(),
        "array" => {
            let item = kind(root, &node["items"]);
            match (node["minItems"].as_u64(), node["maxItems"].as_u64()) {
                (Some(least), Some(most)) if least == most => {
                    format!("[{}]", vec![item; least as usize].join(", "))
                }
                _ => format!("list of {item}"),
            }
        }
        other => other.to_string(),
    };
    match &node["type"] {
        Value::String(kind_of) => one(kind_of),
        Value::Array(kinds) => either(kinds.iter().filter_map(Value::as_str).map(one).collect()),
        _ => "any value".into(),
    }
}

/// `true | false | null`, `whole number or null`.
fn either(kinds: Vec<String>) -> String {
    let words = kinds.iter().any(|kind| kind.contains(" | "));
    kinds.join(if words { " | " } else { " or " })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every mixer and every task.
    fn with_every_page(mut each: impl FnMut(&Described)) {
        mixers::registry().iter().for_each(|entry| each(&Described::mixer(entry)));
        tasks::registry().iter().for_each(|entry| each(&Described::task(entry)));
    }

    #[test]
    fn every_setting_of_every_mixer_and_task_has_a_kind_a_default_and_a_meaning() {
        with_every_page(|of| {
            let page = page(of, 100, false, true);
            for (key, default) in of.defaults.as_object().unwrap() {
                let field = &of.schema["properties"][key];
                assert!(field["description"].as_str().is_some_and(|text| !text.is_empty()), "{}: {key}", of.name);
                assert_ne!(kind(&of.schema, field), "any value", "{}: {key}", of.name);
                let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
                assert!(page.contains(&format!("\n  {key}: {default}")), "{}: {key}\n{page}", of.name);
            }
            for text in of.facts.iter().map(|(_, fact)| fact).chain([&of.about]) {
                let flat = page.split_whitespace().collect::<Vec<_>>().join(" ");
                assert!(flat.contains(&text.split_whitespace().collect::<Vec<_>>().join(" ")), "{text}\n{page}");
            }
        });
    }

    #[test]
    fn a_task_says_what_its_maps_hold_and_how_large_its_numbers_may_be() {
        let registry = tasks::registry();
        let page = |name: &str| {
            let page =
                page(&Described::task(registry.iter().find(|task| task.name == name).unwrap()), 100, false, true);
            page.split_whitespace().collect::<Vec<_>>().join(" ")
        };
        let mlm = page("mlm");
        for said in [
            "bytes | { characters: {…} } | { wordpiece: {…} } | { bpe: {…} } | { file: {…} }",
            "held_out: Share of the documents",
        ] {
            assert!(mlm.contains(said), "{said}\n{mlm}");
        }
        let mqar = page("mqar");
        for said in ["whole number up to 2^40", "vocab_size: 8192 whole number up to 2^20", "kv_pairs: K.", "based"] {
            assert!(mqar.contains(said), "{said}\n{mqar}");
        }
        assert!(page("pathfinder").contains("resolution: 32 whole number up to 2^10"), "{}", page("pathfinder"));
    }

    #[test]
    fn words_lists_and_nothing_are_named_as_a_user_writes_them() {
        let registry = mixers::registry();
        let kind_of = |mixer: &str, key: &str| {
            let schema = (registry.iter().find(|m| m.name == mixer).unwrap().schema)();
            kind(&schema, &schema["properties"][key])
        };
        assert_eq!(kind_of("s4", "mode"), "dplr | diag");
        assert_eq!(kind_of("s4", "disc"), "zoh | bilinear | dss | null");
        assert_eq!(kind_of("s4", "d_state"), "whole number");
        assert_eq!(kind_of("s4", "bidirectional"), "true | false | null");
        assert_eq!(kind_of("hydra", "dt_limit"), "[number, number] or null");
        assert_eq!(kind_of("attention", "dropout"), "number");
    }

    #[test]
    fn lines_are_no_wider_than_asked() {
        with_every_page(|of| {
            for width in [80, 100] {
                let long = |line: &&str| line.chars().count() > width && line.trim().contains("  ");
                let page = page(of, width, false, true);
                assert_eq!(page.lines().find(long), None, "{} at {width}:\n{page}", of.name);
            }
        });
        assert_eq!(wrap("one two three four five six", 20), ["one two three four", "five six"]);
    }
}
