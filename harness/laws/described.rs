//! `configs/schema.json` and `docs/settings.md` are current, and the shipped configs are what the schema says.

use crate::base::diagnostics::{Diagnostics, Place};
use crate::commands::{schema, settings};
use crate::config::yaml;
use crate::registry::Registry;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn current(path: &str, text: &str, command: &str) {
    if std::env::var_os("MIXARENA_UPDATE").is_some() {
        std::fs::write(root().join(path), text).expect("the file can be written");
    }
    let there = std::fs::read_to_string(root().join(path)).unwrap_or_default();
    assert!(there == text, "{path} is out of date: write it with `{command} > {path}`");
}

#[test]
fn the_schema_of_configs_is_current() {
    current("configs/schema.json", &schema::text(&Registry::default()), "mixarena schema");
}

#[test]
fn the_page_of_settings_is_current() {
    current("docs/settings.md", &settings::markdown(), "mixarena list settings --markdown");
}

/// What of `value` the schema refuses, as `path: why`: the part of draft 7 that the schema of configs uses.
fn refused(root: &Value, schema: &Value, value: &Value, at: &str) -> Vec<String> {
    let Some(schema) = schema.as_object() else { return Vec::new() };
    if let Some(pointer) = schema.get("$ref").and_then(Value::as_str) {
        let target = root.pointer(&pointer[1..]).unwrap_or_else(|| panic!("{pointer} leads nowhere"));
        return refused(root, target, value, at);
    }
    let mut found = Vec::new();
    let mut wrong = |why: String| found.push(format!("{at}: {why}"));
    if let Some(kinds) = schema.get("type") {
        let kinds: Vec<&str> = kinds
            .as_array()
            .map_or_else(|| kinds.as_str().into_iter().collect(), |all| all.iter().filter_map(Value::as_str).collect());
        let is = |kind: &&str| match *kind {
            "null" => value.is_null(),
            "boolean" => value.is_boolean(),
            "string" => value.is_string(),
            "array" => value.is_array(),
            "object" => value.is_object(),
            "number" => value.is_number(),
            "integer" => value.as_f64().is_some_and(|number| number.fract() == 0.0),
            kind => panic!("unknown type {kind}"),
        };
        if !kinds.iter().any(is) {
            wrong(format!("{value} is none of {kinds:?}"));
        }
    }
    for (key, words) in [
        ("enum", schema.get("enum").and_then(Value::as_array).cloned()),
        ("const", schema.get("const").map(|one| vec![one.clone()])),
    ] {
        if words.is_some_and(|words| !words.contains(value)) {
            wrong(format!("{value} is not in `{key}`"));
        }
    }
    if let Some(number) = value.as_f64() {
        let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
        let below = bound("minimum").is_some_and(|least| number < least)
            || bound("exclusiveMinimum").is_some_and(|least| number <= least);
        let above = bound("maximum").is_some_and(|most| number > most)
            || bound("exclusiveMaximum").is_some_and(|most| number >= most);
        if below || above {
            wrong(format!("{number} is out of bounds"));
        }
    }
    let length = value.as_array().map(Vec::len).or(value.as_object().map(serde_json::Map::len));
    for (key, kind) in [("minItems", value.is_array()), ("minProperties", value.is_object())] {
        if schema.get(key).and_then(Value::as_u64).is_some_and(|least| kind && length < Some(least as usize)) {
            wrong(format!("fewer than {key}"));
        }
    }
    for (key, kind) in [("maxItems", value.is_array()), ("maxProperties", value.is_object())] {
        if schema.get(key).and_then(Value::as_u64).is_some_and(|most| kind && length > Some(most as usize)) {
            wrong(format!("more than {key}"));
        }
    }
    for (i, item) in value.as_array().into_iter().flatten().enumerate() {
        found.extend(
            schema.get("items").into_iter().flat_map(|items| refused(root, items, item, &format!("{at}[{i}]"))),
        );
    }
    for (key, inner) in value.as_object().into_iter().flatten() {
        match schema.get("properties").and_then(|properties| properties.get(key)) {
            Some(property) => found.extend(refused(root, property, inner, &format!("{at}.{key}"))),
            None if schema.get("additionalProperties") == Some(&json!(false)) => {
                found.push(format!("{at}: unknown key {key}"))
            }
            None => {}
        }
    }
    for key in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
        if value.as_object().is_some_and(|map| !map.contains_key(key)) {
            found.push(format!("{at}: no {key}"));
        }
    }
    for part in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
        found.extend(refused(root, part, value, at));
    }
    for key in ["anyOf", "oneOf"] {
        let Some(parts) = schema.get(key).and_then(Value::as_array) else { continue };
        let tried: Vec<Vec<String>> = parts.iter().map(|part| refused(root, part, value, at)).collect();
        if !tried.iter().any(Vec::is_empty) {
            found.extend(tried.into_iter().min_by_key(Vec::len).unwrap_or_default());
        }
    }
    found
}

fn parsed(text: &str) -> Value {
    let mut found = Diagnostics::new("config");
    yaml::parse(text, |line, column| Place::File { line, column }, &mut found).expect("YAML").to_json()
}

#[test]
fn every_shipped_config_names_the_schema_and_is_what_it_says() {
    let schema = crate::config::schema::of(&Registry::default());
    let mut seen = 0;
    for entry in std::fs::read_dir(root().join("configs")).expect("the configs") {
        let path = entry.expect("an entry").path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let (name, text) = (path.display().to_string(), std::fs::read_to_string(&path).expect("a config"));
        assert_eq!(text.lines().next(), Some("# yaml-language-server: $schema=schema.json"), "{name}: the first line");
        assert_eq!(refused(&schema, &schema, &parsed(&text), ""), Vec::<String>::new(), "{name}");
        seen += 1;
    }
    assert!(seen > 20, "{seen} configs");
}

#[test]
fn the_schema_refuses_what_the_loader_refuses_by_name_or_type() {
    let schema = crate::config::schema::of(&Registry::default());
    let base = "tasks: [mqar: { causal: false }]\nmixers: [attention]\n";
    let refuse = |text: &str| refused(&schema, &schema, &parsed(text), "");
    assert_eq!(refuse(base), Vec::<String>::new());
    for (more, why) in [
        ("modle: {}", "unknown key modle"),
        ("model: { d_modle: 8 }", ".model: unknown key d_modle"),
        ("model: { d_model: wide }", "is none of"),
        ("model: { block: hidra }", "hidra"),
        ("optimizer: { lr: fast }", "is none of"),
        ("seeds: 0", "out of bounds"),
        ("grid: { optimizer.lrr: [1] }", "unknown key optimizer.lrr"),
        ("grid: { optimizer.lr: [] }", "fewer than minItems"),
        ("match: { tolerance: 2 }", "out of bounds"),
        ("figures: [{ line: { x: model.d_model } }]", "line"),
        ("published: s4d", "not in `enum`"),
        ("pretrain: mml", "mml"),
    ] {
        let found = refuse(&format!("{base}{more}\n"));
        assert!(found.iter().any(|line| line.contains(why)), "{more}: {found:?}");
    }
    for good in [
        "pretrain: mlm",
        "grid: { pretrain: [none, mlm] }",
        "seeds: [4, 5]",
        "model: { preset: bert_base }",
        "optimizer: { clip_norm: ~ }",
    ] {
        assert_eq!(refuse(&format!("{base}{good}\n")), Vec::<String>::new(), "{good}");
    }
    let entries = "tasks: [{ task: mqar, seeds: 2, start: ~ }, { name: a, task: { mqar: { kv_pair: 3 } } }]\nmixers: [{ mixer: { s4: ~ } }]\n";
    assert!(refuse(entries).iter().any(|line| line.contains("unknown key kv_pair")), "{:?}", refuse(entries));
}
