//! `mixarena list settings`: the sections of a config, every key with its default, what it may be and what it means.

use super::list::{block, choices, kind, print_json};
use super::width;
use crate::Exit;
use crate::base::bounds;
use crate::cli::ListArgs;
use crate::config::sections::{SECTIONS, Section};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// Runs the command.
pub fn settings(args: &ListArgs) -> Exit {
    let wanted = SECTIONS.into_iter().filter(|section| args.name.as_ref().is_none_or(|name| name == section.name));
    if args.markdown {
        print!("{}", markdown());
    } else if args.json {
        let one = |section: Section| {
            let page = Page::of(section);
            json!({ "name": section.name, "settings": page.defaults, "schema": page.schema })
        };
        print_json(&wanted.map(one).collect());
    } else {
        let pages: Vec<String> =
            wanted.map(|section| Page::of(section).text(width().min(super::list::WIDEST))).collect();
        print!("{}", pages.join("\n"));
    }
    Exit::Ok
}

/// What is said of a section.
struct Page {
    name: &'static str,
    /// The section's own schema, with the types it names under `$defs`.
    schema: Value,
    defaults: Map<String, Value>,
}

/// What is said of one key.
struct Key<'a> {
    name: &'a str,
    default: String,
    may_be: String,
    meaning: String,
    /// The words it may be, each with its meaning.
    words: Vec<(&'a str, String)>,
}

impl Page {
    fn of(section: Section) -> Self {
        let mut generator = schemars::SchemaGenerator::default();
        let _ = (section.schema)(&mut generator);
        let types = generator.take_definitions(true);
        let own = types.values().find(|schema| {
            let keys = schema["properties"].as_object();
            keys.is_some_and(|keys| (section.defaults)().keys().all(|key| keys.contains_key(key)))
        });
        let mut schema = own.expect("a section is a type of its own").clone();
        schema["$defs"] = types.into();
        Self { name: section.name, schema, defaults: (section.defaults)() }
    }

    fn about(&self) -> String {
        words(&self.schema["description"])
    }

    fn keys(&self) -> Vec<Key<'_>> {
        let one = |(name, default): (&'_ String, &'_ Value)| {
            let (name, _) = self.defaults.get_key_value(name).expect("a key of the section");
            let field = &self.schema["properties"][name];
            let limit = format!("whole number up to {}", bounds::most(name));
            Key {
                name,
                default: default.as_str().map_or_else(|| default.to_string(), str::to_owned),
                may_be: kind(&self.schema, field)
                    .replace("whole number, 0 or more", &limit)
                    .replace("whole number or", &format!("{limit} or")),
                meaning: words(&field["description"]),
                words: choices(&self.schema, field).into_iter().filter(|(_, meaning)| !meaning.is_empty()).collect(),
            }
        };
        self.defaults.iter().map(one).collect()
    }

    fn text(&self, width: usize) -> String {
        let mut out = String::new();
        block(&mut out, &format!("{}  ", self.name), &self.about(), width);
        let keys = self.keys();
        let lead = |key: &Key| format!("{}: {}", key.name, key.default);
        let column = (keys.iter().map(|key| lead(key).chars().count()).max().unwrap_or(0) + 2).min(width / 2 - 8);
        for key in &keys {
            block(&mut out, &format!("  {:column$}", lead(key)), &key.may_be, width);
            block(&mut out, &" ".repeat(column + 2), &key.meaning, width);
            let longest = key.words.iter().map(|(word, _)| word.len()).max().unwrap_or(0);
            for (word, meaning) in &key.words {
                block(&mut out, &format!("{:column$}    {word:<longest$}  ", ""), meaning, width);
            }
        }
        out
    }

    fn markdown(&self) -> String {
        let mut out = format!(
            "\n## `{}`\n\n{}\n\n| key | default | may be | meaning |\n|---|---|---|---|\n",
            self.name,
            self.about()
        );
        let cell = |text: &str| text.replace('|', "\\|");
        for key in self.keys() {
            let words: Vec<String> = key.words.iter().map(|(word, meaning)| format!("`{word}`: {meaning}")).collect();
            let may_be = if words.is_empty() { key.may_be } else { words.join("<br>") };
            let _ =
                writeln!(out, "| `{}` | `{}` | {} | {} |", key.name, key.default, cell(&may_be), cell(&key.meaning));
        }
        out
    }
}

fn words(text: &Value) -> String {
    text.as_str().unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// `docs/settings.md`.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Settings\n\nThe sections of a config, at the top of a file or in the entry of a task or mixer, and what each key means. Written \
         by\n`mixarena list settings --markdown`. The settings of mixers and tasks are printed by `mixarena list mixers` and `mixarena \
         list tasks`.\n",
    );
    SECTIONS.into_iter().for_each(|section| out += &Page::of(section).markdown());
    out
}
