//! The JSON schema of configs, from which editors complete keys and underline mistakes.
//!
//! Settings describe themselves by their doc comments. What the loader
//! checks beyond names and types (`n_heads` divides `d_model`) is not in it.

use crate::config::presets;
use crate::registry::Registry;
use crate::train::sections::{NAMES, SECTIONS};
use results::{FigureKind, published};
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Keys at the top of a file besides the sections, and what they hold.
const BEFORE: [(&str, &str); 5] = [
    ("name", "Names the sweep and the folder of its report. Default: the name of the file."),
    ("question", "What the experiment asks. Printed above its table."),
    (
        "extends",
        "Another config, by its path from this file's folder: its keys lie below those of this file. Sections, `grid`, `random`, `tune` and \
         `ablate` merge, everything else is replaced, and `KEY: ~` takes one away.",
    ),
    (
        "tasks",
        "Tasks: one entry or more. An entry may have a `name`, sections, `seeds`, `grid`, `start` and `published`.",
    ),
    (
        "mixers",
        "Mixers: one entry or more. An entry may have a `name`, sections, `tasks` that it is limited to, `grid` and `published`.",
    ),
];
const AFTER: [(&str, &str); 10] = [
    ("seeds", "How many seeds each run has (`3` means 0, 1 and 2), or which. Default: seed 0."),
    (
        "grid",
        "Values to try at the full budget, chosen on validation. Each axis is a path with a list: `optimizer.lr: [1e-3, 3e-3]`.",
    ),
    (
        "list",
        "Settings that vary together, beside `grid`: `[{ name: quick, optimizer.lr: 1e-2, budget.steps: 100 }, …]`, or several such lists by \
         their names.",
    ),
    (
        "random",
        "Settings that are drawn together, beside `grid`: `{ over: { optimizer.lr: { log_uniform: [1e-4, 1e-1] } }, samples: 8, seed: 0 }`.",
    ),
    (
        "tune",
        "Values searched with short runs of seeds of their own, chosen on validation, before the runs themselves: `{ over: { optimizer.lr: [1e-3, 3e-3, 1e-2] }, budget: 0.25 }`.",
    ),
    (
        "ablate",
        "Changes to a mixer's entry, each a row of its own and compared with it seed by seed: \
         `{ base: hydra, changes: { no shift: { mixer.hydra.shift: false } } }`.",
    ),
    ("figures", "Figures besides the standard ones."),
    (
        "expect",
        "What test scores must be for the command to end with exit code 0: `- { mixer: LABEL, task: LABEL, at_least: 0.95, source: WHO }`.",
    ),
    (
        "match",
        "How alike the models must be in size: `{ tolerance: 0.02 }` refuses models that are not within 2 % of the first mixer's parameters; \
         `{ parameters: 100000, by: d_model }` chooses the sizes.",
    ),
    ("published", "The model whose published numbers are printed with ours."),
];

/// Keys at the top of a file.
pub fn top_keys() -> Vec<&'static str> {
    let own = |keys: &'static [(&str, &str)]| keys.iter().map(|(key, _)| *key);
    own(&BEFORE).chain(NAMES).chain(own(&AFTER)).collect()
}

/// The schema of a config over the mixers and tasks of `registry`.
pub fn of(registry: &Registry) -> Value {
    let mut schemas = Schemas { generator: SchemaSettings::draft07().into_generator(), definitions: Map::new() };
    for section in SECTIONS {
        schemas.section(section.name);
    }
    let mixers: Vec<&str> = registry.mixers.iter().map(|mixer| mixer.name).collect();
    let tasks: Vec<&str> = registry.tasks.iter().map(|task| task.name).collect();
    for mixer in &registry.mixers {
        schemas.family("mixer", mixer.name, mixer.about, (mixer.schema)());
    }
    for task in &registry.tasks {
        schemas.family("task", task.name, task.about, (task.schema)());
    }
    let grid = schemas.grid(&mixers, &tasks);
    let figure = schemas.generator.subschema_for::<FigureKind>().to_value();
    for (name, definition) in schemas.generator.take_definitions(true) {
        schemas.definitions.insert(name, definition);
    }
    let mut definitions = schemas.definitions;
    definitions.insert("seeds".into(), seeds());
    definitions.insert("change".into(), change(&grid));
    definitions.insert("point".into(), point(&grid));
    definitions.insert("random".into(), random(&grid));
    definitions.insert("distribution".into(), distribution());
    definitions.insert("grid".into(), grid);
    definitions.insert("start".into(), start());
    definitions.insert("task".into(), entry("task", &tasks));
    definitions.insert("mixer".into(), entry("mixer", &mixers));
    let mut properties = Map::new();
    let own = |keys: &[(&str, &str)], properties: &mut Map<String, Value>| {
        for (key, about) in keys {
            properties.insert((*key).into(), described(top_key(key, &figure), about));
        }
    };
    own(&BEFORE, &mut properties);
    properties.extend(sections());
    own(&AFTER, &mut properties);
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Mixarena experiment",
        "type": "object",
        "anyOf": [{ "required": ["tasks", "mixers"] }, { "required": ["extends"] }],
        "properties": properties,
        "additionalProperties": false,
        "definitions": definitions,
    })
}

/// What a key at the top of a file may be.
fn top_key(key: &str, figure: &Value) -> Value {
    match key {
        "name" | "question" | "extends" => json!({ "type": "string" }),
        "tasks" => json!({ "type": "array", "minItems": 1, "items": reference("task") }),
        "mixers" => json!({ "type": "array", "minItems": 1, "items": reference("mixer") }),
        "seeds" | "grid" | "random" => reference(key),
        "list" => {
            let points = json!({ "type": "array", "minItems": 1, "items": reference("point") });
            json!({ "anyOf": [points, { "type": ["object", "null"], "minProperties": 1, "additionalProperties": points }] })
        }
        "figures" => or_null(json!({ "type": "array", "items": figure })),
        "tune" => json!({
            "type": ["object", "null"],
            "required": ["over"],
            "properties": {
                "over": reference("grid"),
                "budget": { "type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 0.25,
                            "description": "The search's steps as a share of those of a run." },
                "by": { "enum": ["grid", "halving"], "default": "grid",
                        "description": "`grid`: every setting has the whole budget of the search. `halving`: the better half goes on with twice as much, until two are left." },
                "seeds": { "type": "integer", "minimum": 1, "maximum": 100, "default": 1,
                           "description": "Seeds of each setting; none is one of the sweep's." },
                "extensions": { "type": "integer", "minimum": 0, "maximum": 2, "default": 2,
                                "description": "Times an axis is extended at most, where its best value stands at its end." },
            },
            "additionalProperties": false,
        }),
        "expect" => or_null(json!({ "type": "array", "items": {
            "type": "object",
            "required": ["mixer"],
            "properties": {
                "mixer": described(json!({ "type": "string" }), "Label of the mixer."),
                "task": described(json!({ "type": "string" }), "Label of the task; may be left out where there is one."),
                "at_least": described(json!({ "type": "number", "minimum": -1, "maximum": 1 }), "The least score."),
                "at_most": described(json!({ "type": "number", "minimum": -1, "maximum": 1 }), "The largest score."),
                "above": described(json!({ "type": "string" }), "Label of a mixer whose score must be lower."),
                "by": { "enum": ["mean", "interval"], "default": "mean",
                        "description": "What decides: the mean over seeds, or the whole 95 % interval." },
                "source": described(json!({ "type": "string" }), "Who says so, printed beside the verdict."),
            },
            "additionalProperties": false,
        } })),
        "ablate" => or_null(json!({
            "type": "object",
            "required": ["base", "changes"],
            "properties": {
                "base": { "type": "string", "description": "The label of the entry that is changed." },
                "changes": { "type": "object", "minProperties": 1, "additionalProperties": reference("change"),
                             "description": "Settings by the label of the change." },
            },
            "additionalProperties": false,
        })),
        "match" => or_null(matching()),
        _ => one_of_or_null(&published::models()),
    }
}

/// Settings of one change: what an axis of the grid has a list of.
fn change(grid: &Value) -> Value {
    let axes = grid["properties"].as_object().into_iter().flatten();
    let of_model = axes.filter(|(path, _)| !path.starts_with("task."));
    let settings: Map<String, Value> = of_model.map(|(path, axis)| (path.clone(), axis["items"].clone())).collect();
    json!({ "type": "object", "minProperties": 1, "properties": settings, "additionalProperties": false })
}

/// A point of a list: what an axis of the grid has a list of, and a name.
fn point(grid: &Value) -> Value {
    let axes = grid["properties"].as_object().into_iter().flatten();
    let mut keys: Map<String, Value> = axes.map(|(path, axis)| (path.clone(), axis["items"].clone())).collect();
    keys.insert("name".into(), described(json!({ "type": "string" }), "What its runs are labelled with."));
    json!({ "type": "object", "minProperties": 1, "properties": keys, "additionalProperties": false })
}

/// What a value is drawn from.
fn distribution() -> Value {
    let numbers = |about: &str| json!({ "description": about, "type": "array", "minItems": 2, "maxItems": 2, "items": { "type": "number" } });
    json!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "properties": {
            "uniform": numbers("A number between two."),
            "log_uniform": numbers("A number whose logarithm is uniform; both bounds are above 0."),
            "int_uniform": numbers("A whole number from one to another, both included."),
            "choice": { "description": "One of these values.", "type": "array", "minItems": 1 },
        },
        "additionalProperties": false,
    })
}

/// What is drawn, from what, and how often.
fn random(grid: &Value) -> Value {
    let paths = grid["properties"].as_object().into_iter().flatten().map(|(path, _)| path);
    let over: Map<String, Value> = paths.map(|path| (path.clone(), reference("distribution"))).collect();
    json!({
        "type": ["object", "null"],
        "required": ["over", "samples"],
        "properties": {
            "over": { "type": "object", "minProperties": 1, "properties": over, "additionalProperties": false,
                      "description": "Settings and what each is drawn from." },
            "samples": { "type": "integer", "minimum": 1, "maximum": 10_000, "description": "Points that are drawn." },
            "seed": { "type": "integer", "minimum": 0, "default": 0,
                      "description": "Seed of the draws; the runs' own seeds are others." },
            "digits": { "type": "integer", "minimum": 1, "maximum": 15, "default": 3,
                        "description": "Significant digits that a drawn number is rounded to." },
        },
        "additionalProperties": false,
    })
}

/// A check of sizes, or a choice.
fn matching() -> Value {
    let of = json!({ "type": "object", "required": ["of"], "properties": { "of": { "type": "string" } },
                     "additionalProperties": false });
    let size = |about: &str| json!({ "description": about, "anyOf": [{ "type": "number", "minimum": 1 }, of] });
    let share = json!({ "type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1 });
    let key = json!({ "type": "string",
                      "anyOf": [{ "enum": ["d_model", "n_layers", "d_ff"] }, { "pattern": "^mixer\\.[a-z0-9_.]+$" }] });
    let parameters = json!({
        "description": "Trainable parameters of every model: a number, or those of the entry with a label. A number below 1 is a \
                        tolerance for a check, as `tolerance` alone.",
        "anyOf": [{ "type": "number", "minimum": 1 }, of, share],
    });
    json!({
        "type": "object",
        "minProperties": 1,
        "properties": {
            "parameters": parameters,
            "flops": size("Operations of a forward pass on the task's longest sequence, as `plan` counts them."),
            "state": size("Bytes of decoding state of all layers; of mixers whose state does not grow with the length."),
            "tolerance": described(share, "Largest share by which a model may miss the size, 0.02 where one is given. Alone: how far \
                                           the parameters may be from the first mixer's."),
            "by": { "description": "What is changed to reach the size. A later key makes up what the earlier leave; keys that a model \
                                    lacks are passed over. Default: d_model.",
                    "anyOf": [key, { "type": "array", "minItems": 1, "items": key }] },
        },
        "additionalProperties": false,
    })
}

/// Schemas of settings, and the types they name.
struct Schemas {
    generator: SchemaGenerator,
    definitions: Map<String, Value>,
}

impl Schemas {
    /// A section with the default of every key.
    fn section(&mut self, name: &str) {
        let section = SECTIONS.iter().find(|section| section.name == name).expect("a section");
        let of_type = (section.schema)(&mut self.generator).to_value();
        let pointer = of_type["$ref"].as_str().unwrap_or_default();
        let type_name = pointer.rsplit('/').next().unwrap_or_default();
        let mut schema = self.generator.definitions_mut().remove(type_name).expect("a section is a type of its own");
        for (key, default) in (section.defaults)() {
            schema["properties"][&key]["default"] = default;
        }
        if name == "model" {
            let names: Vec<&str> = presets::all().iter().map(|preset| preset.name).collect();
            let about = "A model as published, or a small one: its keys lie below every key that is written.";
            schema["properties"]["preset"] = described(one_of_or_null(&names), about);
        }
        self.definitions.insert(name.into(), plain(schema));
    }

    /// A family's settings, and below them the types that its schema names.
    fn family(&mut self, kind: &str, name: &str, about: &str, mut schema: Value) {
        let at = format!("{kind}.{name}");
        let map = schema.as_object_mut().expect("a schema of settings is a map");
        let inner = map.remove("$defs");
        map.remove("$schema");
        map.remove("title");
        map.insert("description".into(), about.into());
        for (key, definition) in inner.as_ref().and_then(Value::as_object).into_iter().flatten() {
            self.definitions.insert(format!("{at}.{key}"), plain(moved(definition.clone(), &at)));
        }
        self.definitions.insert(at.clone(), plain(moved(schema, &at)));
    }

    /// Axes of a grid: every key of a section, of a mixer and of a task, by its path.
    fn grid(&self, mixers: &[&str], tasks: &[&str]) -> Value {
        let mut axes = Map::new();
        let families = |kind: &'static str, names: &[&str]| -> Vec<String> {
            names.iter().map(|name| format!("{kind}.{name}")).collect()
        };
        let all = NAMES.iter().map(|name| (*name).to_string());
        for path in all.chain(families("mixer", mixers)).chain(families("task", tasks)) {
            for key in self.definitions[&path]["properties"].as_object().into_iter().flatten().map(|(key, _)| key) {
                let item = json!({ "$ref": format!("#/definitions/{path}/properties/{key}") });
                axes.insert(format!("{path}.{key}"), json!({ "type": "array", "minItems": 1, "items": item }));
            }
        }
        axes.insert("pretrain".into(), axes["pretrain.objective"].clone());
        json!({ "type": ["object", "null"], "minProperties": 1, "properties": axes, "additionalProperties": false })
    }
}

/// `$ref`s into the definitions of a schema of its own, turned to where those are kept here.
fn moved(mut schema: Value, at: &str) -> Value {
    match &mut schema {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value.as_str().filter(|_| key == "$ref").and_then(|path| path.strip_prefix("#/$defs/")) {
                    Some(name) => *value = format!("#/definitions/{at}.{name}").into(),
                    None => *value = moved(value.take(), at),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = moved(item.take(), at)),
        _ => {}
    }
    schema
}

/// Without line breaks in descriptions: doc comments are broken where a source line ends.
fn plain(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value.as_str().filter(|_| key == "description") {
                    Some(text) => *value = text.split_whitespace().collect::<Vec<_>>().join(" ").into(),
                    None => *value = plain(value.take()),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| *item = plain(item.take())),
        _ => {}
    }
    schema
}

/// Every section as a property. `pretrain` may be its objective alone.
fn sections() -> Map<String, Value> {
    let one = |name: &str| match name {
        "pretrain" => json!({
            "description": "A stage before the task: its objective, or a mapping of settings.",
            "anyOf": [reference("pretrain"), { "$ref": "#/definitions/pretrain/properties/objective" }],
        }),
        name => reference(name),
    };
    NAMES.iter().map(|name| ((*name).to_string(), one(name))).collect()
}

/// An item under `tasks` or `mixers`: a name, a name with its settings, or those under `task` or `mixer` and more keys beside them.
fn entry(kind: &str, names: &[&str]) -> Value {
    let choices: Map<String, Value> = names
        .iter()
        .map(|name| {
            ((*name).to_string(), json!({ "anyOf": [reference(&format!("{kind}.{name}")), { "type": "null" }] }))
        })
        .collect();
    let word = json!({ "type": "string", "enum": names });
    let choice = json!({ "type": "object", "properties": choices, "additionalProperties": false, "minProperties": 1,
                         "maxProperties": 1 });
    let label = "How the entry is called in tables and by other entries. Default: the name of its mixer or task.";
    let mut keys = Map::new();
    keys.insert(kind.into(), json!({ "anyOf": [word, choice] }));
    keys.insert("name".into(), described(json!({ "type": "string" }), label));
    keys.extend(sections());
    let start = "Initial weights: the best checkpoint of the same mixer's run on another task, or a file.";
    keys.insert("start".into(), described(reference("start"), start));
    if kind == "mixer" {
        let of = json!({ "anyOf": [{ "type": "string" }, { "type": "array", "items": { "type": "string" } }] });
        keys.insert("tasks".into(), described(of, "Labels of the tasks that this mixer runs on. Default: all."));
        let about = "The model whose published numbers are printed with this mixer's.";
        keys.insert("published".into(), described(one_of_or_null(&published::models()), about));
        let axes = "Axes of this mixer alone, beside those that all share; `null`: it has none at all.";
        keys.insert("grid".into(), described(reference("grid"), axes));
        let about = "Trainable scalars of the published model; `plan` prints ours with it.";
        let count = json!({ "type": "integer", "minimum": 1 });
        keys.insert("reference_parameters".into(), described(count, about));
    } else {
        keys.insert("seeds".into(), described(reference("seeds"), "Seeds of this task alone."));
        keys.insert("grid".into(), described(reference("grid"), "A grid of this task alone; `null`: none."));
        let about = "The task whose published numbers are printed with this one's.";
        keys.insert("published".into(), described(one_of_or_null(&published::TASKS), about));
    }
    let long = json!({ "type": "object", "required": [kind], "properties": keys, "additionalProperties": false });
    json!({ "anyOf": [word, choice, long] })
}

fn start() -> Value {
    let of_task = json!({
        "type": "object",
        "required": ["task"],
        "properties": { "task": { "type": "string" }, "seed": { "type": "integer", "minimum": 0 } },
        "additionalProperties": false,
    });
    let of_file = json!({
        "type": "object",
        "required": ["weights"],
        "properties": { "weights": { "type": "string" } },
        "additionalProperties": false,
    });
    json!({ "anyOf": [{ "type": ["string", "null"] }, of_task, of_file] })
}

fn seeds() -> Value {
    let seed = json!({ "type": "integer", "minimum": 0 });
    json!({ "anyOf": [
        { "type": "integer", "minimum": 1, "maximum": 10_000 },
        { "type": "array", "minItems": 1, "items": seed },
    ] })
}

fn one_of_or_null(words: &[&str]) -> Value {
    let all: Vec<Value> = words.iter().map(|word| json!(word)).chain([Value::Null]).collect();
    json!({ "enum": all })
}

/// The same, or nothing: what takes a key of an extended file away.
fn or_null(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

fn reference(name: &str) -> Value {
    json!({ "$ref": format!("#/definitions/{name}") })
}

/// A schema with a description; beside a `$ref` other keys do not count in draft 7.
fn described(schema: Value, about: &str) -> Value {
    match schema {
        Value::Object(mut map) if !map.contains_key("$ref") => {
            map.insert("description".into(), about.into());
            map.into()
        }
        schema => json!({ "description": about, "allOf": [schema] }),
    }
}
