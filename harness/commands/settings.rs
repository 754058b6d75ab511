//! `mixarena list settings`: the sections of a config, every key with its default, what it may be and what it means.

use super::described::{Described, choices, kind, print_json, print_pages};
use crate::base::bounds;
use crate::base::exit::Exit;
use crate::cli::ListArgs;
use crate::train::sections::{SECTIONS, SectionEntry};
use serde_json::{Map, Value, json};
use std::fmt::Write;

/// Runs the command.
pub fn settings(args: &ListArgs) -> Exit {
    if args.markdown {
        print!("{}", markdown());
        return Exit::Ok;
    }
    let wanted = SECTIONS.into_iter().filter(|section| args.name.as_ref().is_none_or(|name| name == section.name));
    let pages: Vec<Page> = wanted.map(Page::of).collect();
    if args.json {
        let one = |page: &Page| json!({ "name": page.name, "settings": page.defaults, "schema": page.schema });
        print_json(&pages.iter().map(one).collect());
    } else {
        print_pages(args, &pages.iter().map(Page::described).collect::<Vec<_>>());
    }
    Exit::Ok
}

/// What is said of a section.
struct Page {
    name: &'static str,
    about: String,
    /// The section's own schema, with the types it names under `$defs`.
    schema: Value,
    defaults: Map<String, Value>,
}

impl Page {
    fn of(section: SectionEntry) -> Self {
        let mut generator = schemars::SchemaGenerator::default();
        let pointer = (section.schema)(&mut generator).to_value();
        let name = pointer["$ref"].as_str().and_then(|path| path.rsplit('/').next()).unwrap_or_default();
        let types = generator.take_definitions(true);
        let mut schema = types.get(name).expect("a section is a type of its own").clone();
        schema["$defs"] = types.into();
        Self { name: section.name, about: words(&schema["description"]), schema, defaults: (section.defaults)() }
    }

    fn described(&self) -> Described<'_> {
        Described {
            name: self.name,
            about: &self.about,
            facts: Vec::new(),
            defaults: self.defaults.clone().into(),
            schema: self.schema.clone(),
            limit: Box::new(limit),
        }
    }

    fn markdown(&self) -> String {
        let mut out = format!("\n## `{}`\n\n{}\n\n", self.name, self.about);
        out += "| key | default | may be | meaning |\n|---|---|---|---|\n";
        let cell = |text: &str| text.replace('|', "\\|");
        for (key, default) in &self.defaults {
            let field = &self.schema["properties"][key];
            let default = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
            let known = choices(&self.schema, field).into_iter().filter(|(_, meaning)| !meaning.is_empty());
            let mut known: Vec<String> = known.map(|(word, meaning)| format!("`{word}`: {meaning}")).collect();
            let kind = kind(&self.schema, field);
            if known.is_empty() {
                known.push(kind.replace(", 0 or more", "").replace("whole number", &limit(key)));
            } else if kind.ends_with("null") {
                known.push("`null`".into());
            }
            let (may_be, meaning) = (cell(&known.join("<br>")), cell(&words(&field["description"])));
            let _ = writeln!(out, "| `{key}` | `{default}` | {may_be} | {meaning} |");
        }
        out
    }
}

/// The largest whole number under a key, in words.
fn limit(key: &str) -> String {
    format!("whole number up to {}", bounds::most(key))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_of_every_section_has_a_kind_a_default_and_a_meaning() {
        for section in SECTIONS {
            let page = Page::of(section);
            let keys: Vec<&String> = page.schema["properties"].as_object().unwrap().keys().collect();
            assert_eq!(page.defaults.keys().collect::<Vec<_>>(), keys, "{}", page.name);
            for (key, field) in page.schema["properties"].as_object().unwrap() {
                assert!(!words(&field["description"]).is_empty(), "{}.{key}", page.name);
                assert_ne!(kind(&page.schema, field), "any value", "{}.{key}", page.name);
            }
            assert!(!page.about.is_empty() && page.markdown().contains("| key | default |"), "{}", page.name);
        }
    }
}
