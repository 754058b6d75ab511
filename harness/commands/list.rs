//! `mixarena list`: what there is to choose from, and what was run.

use super::{fail, width};
use crate::base::diagnostics::suggest;
use crate::base::exit::Exit;
use crate::cli::{ListArgs, Listed};
use crate::commands::counted::{self, Counted};
use crate::commands::settings;
use crate::config::presets;
use crate::config::sections;
use crate::config::suggest_model;
use crate::registry::Registry;
use results::{Store, published, text};
use serde_json::{Value, json};
use std::fmt::Write;
use std::io::IsTerminal;

/// A line longer than this is hard to read, however wide the terminal.
pub(super) const WIDEST: usize = 100;

/// Runs the command.
pub fn list(args: &ListArgs, registry: &Registry) -> Exit {
    let (known, kind): (Vec<&str>, _) = match args.what {
        Listed::Mixers => (registry.mixers.iter().map(|m| m.name).collect(), "mixer"),
        Listed::Tasks => (registry.tasks.iter().map(|t| t.name).collect(), "task"),
        Listed::Settings => (sections::NAMES.to_vec(), "section"),
        Listed::Runs => (Vec::new(), "run"),
        Listed::Published => (published::models(), "published model"),
        Listed::Presets => (presets::all().iter().map(|p| p.name).collect(), "preset"),
    };
    match &args.name {
        Some(_) if args.what == Listed::Runs => {
            fail("`list runs` takes no name", "leave it out, or look at `mixarena list runs --json`");
            return Exit::Usage;
        }
        Some(name) if !known.contains(&name.as_str()) => {
            let help = match args.what {
                Listed::Published => suggest_model(name),
                _ => suggest(name, &known, &format!("{kind}s")),
            };
            fail(format!("unknown {kind} `{name}`"), &help);
            return Exit::Usage;
        }
        _ => {}
    }
    let wanted = |name: &str| args.name.as_ref().is_none_or(|only| only == name);
    match args.what {
        Listed::Mixers => mixers(args, registry.mixers.iter().filter(|m| wanted(m.name)).collect()),
        Listed::Tasks => tasks(args, registry.tasks.iter().filter(|t| wanted(t.name)).collect()),
        Listed::Settings => return settings::settings(args),
        Listed::Runs => return runs(args),
        Listed::Published => scores(args),
        Listed::Presets => presets(args, registry),
    }
    Exit::Ok
}

fn tasks(args: &ListArgs, entries: Vec<&tasks::Entry>) {
    if args.json {
        let one = |t: &&tasks::Entry| json!({"name": t.name, "about": t.about, "paper": t.paper, "settings": (t.defaults)(), "schema": (t.schema)()});
        print_json(&entries.iter().map(one).collect());
        return;
    }
    print_pages(args, &entries.into_iter().map(Described::task).collect::<Vec<_>>());
    println!(
        "\nWhole numbers go up to 2^{}, numbers of examples up to 2^{}, sides of pictures up to 2^{}; seeds are any.",
        tasks::core::limits::SIZE,
        tasks::core::limits::COUNT,
        tasks::core::limits::SIDE
    );
}

fn mixers(args: &ListArgs, entries: Vec<&mixers::Entry>) {
    if args.json {
        let one = |m: &&mixers::Entry| {
            json!({"name": m.name, "about": m.about, "paper": m.paper, "complexity": m.complexity, "version": m.version,
                   "settings": (m.defaults)(), "schema": (m.schema)()})
        };
        print_json(&entries.iter().map(one).collect());
        return;
    }
    print_pages(args, &entries.into_iter().map(Described::mixer).collect::<Vec<_>>());
    if args.name.is_none() {
        println!("\n`mixarena list mixers NAME` says what each word means.");
    }
}

/// What a page is about: a mixer, a task or a section of settings.
pub(super) struct Described<'a> {
    pub(super) name: &'static str,
    pub(super) about: &'a str,
    pub(super) facts: Vec<(&'static str, &'static str)>,
    pub(super) defaults: Value,
    pub(super) schema: Value,
    /// The largest whole number under a key, in words.
    pub(super) limit: Box<dyn Fn(&str) -> String + 'a>,
}

impl<'a> Described<'a> {
    fn mixer(entry: &'a mixers::Entry) -> Self {
        let facts = vec![("  paper  ", entry.paper), ("  cost   ", entry.complexity)];
        let limit = |key: &str| format!("whole number up to {}", mixers::core::limits::most(key));
        let (defaults, schema) = ((entry.defaults)(), (entry.schema)());
        Self { name: entry.name, about: entry.about, facts, defaults, schema, limit: Box::new(limit) }
    }

    fn task(entry: &'a tasks::Entry) -> Self {
        let limit = |key: &str| {
            let most = entry.most(key).map(|power| format!(" up to 2^{power}"));
            format!("whole number{}", most.unwrap_or_default())
        };
        let (facts, defaults, schema) = (vec![("  paper  ", entry.paper)], (entry.defaults)(), (entry.schema)());
        Self { name: entry.name, about: entry.about, facts, defaults, schema, limit: Box::new(limit) }
    }
}

pub(super) fn print_pages(args: &ListArgs, described: &[Described]) {
    let (width, bold) = (width().min(WIDEST), std::io::stdout().is_terminal());
    let pages: Vec<String> = described.iter().map(|one| page(one, width, bold, args.name.is_some())).collect();
    print!("{}", pages.join("\n\n"));
}

pub(super) fn print_json(all: &Vec<Value>) {
    println!("{}", serde_json::to_string_pretty(all).expect("plain data"));
}

/// One mixer or task: what it is, then every setting with its default, what it may be and what it means. `words` explains each of
/// the words a setting may be, and each key of a map.
fn page(of: &Described, width: usize, bold: bool, words: bool) -> String {
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
pub(super) fn block(out: &mut String, lead: &str, text: &str, width: usize) {
    let indent = lead.chars().count();
    for (i, line) in wrap(text, width.saturating_sub(indent)).iter().enumerate() {
        let blank = " ".repeat(indent);
        writeln!(out, "{}{line}", if i == 0 { lead } else { &blank }).expect("a string takes all");
    }
}

/// Lines of at most `width` characters, broken at spaces; a longer word has a line of its own.
fn wrap(text: &str, width: usize) -> Vec<String> {
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
pub(super) fn choices(root: &Value, node: &Value) -> Vec<(String, String)> {
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
pub(super) fn kind(root: &Value, node: &Value) -> String {
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

/// The cells of every wanted model, model by model.
fn scores(args: &ListArgs) {
    let models = published::models().into_iter().filter(|model| args.name.as_ref().is_none_or(|only| only == model));
    let cells = |model: &str| published::all().iter().filter(move |cell| cell.model == model).collect::<Vec<_>>();
    if args.json {
        let all = models.flat_map(cells).map(|cell| json!(cell)).collect();
        return print_json(&all);
    }
    print!("{}", models.map(|model| score_page(model, &cells(model))).collect::<Vec<_>>().join("\n"));
    if args.name.is_none() {
        print!("\n{}", source_page());
    }
}

/// How many numbers there are, and how many were read in each source.
fn source_page() -> String {
    let (total, models, sources) = (published::all().len(), published::models().len(), published::sources());
    let mut out = format!("{total} numbers of {models} models, each with the table or section it was read in:\n");
    for (source, count) in sources {
        let _ = writeln!(out, "  {count:>4}  {source}");
    }
    out
}

/// One model's numbers as their sources print them, shares in percent.
fn score_page(model: &str, cells: &[&published::Published]) -> String {
    let one = |cell: &&published::Published| format!("{} {}", cell.task, cell.shown());
    let mut out = format!("{model}\n  {}\n", cells.iter().map(one).collect::<Vec<_>>().join(", "));
    let mut sources: Vec<String> = Vec::new();
    for cell in cells {
        let source = cell.cited();
        if !sources.contains(&source) {
            block(&mut out, "  ", &source, width().min(WIDEST));
            sources.push(source);
        }
    }
    out
}

/// Every wanted preset with its variations.
fn presets(args: &ListArgs, registry: &Registry) {
    let wanted = presets::all().iter().filter(|preset| args.name.as_ref().is_none_or(|only| only == preset.name));
    let counted: Vec<Counted> = wanted.flat_map(|preset| counted::counted(preset, registry)).collect();
    if args.json {
        return print_json(&counted.iter().map(|one| json!(one)).collect());
    }
    print!("{}", preset_table(&counted));
    if args.name.is_some() {
        for one in counted.iter().take(1) {
            println!(
                "\n{}\nmodel: {}\nmixer: {{ {}: {} }}",
                one.about,
                flow(&one.model),
                one.mixer,
                flow(&one.settings)
            );
            one.published.iter().for_each(|published| println!("published: {}", published.source));
        }
    } else {
        println!("\n`mixarena list presets NAME` shows the keys one stands for.");
    }
}

/// One line a model.
fn preset_table(counted: &[Counted]) -> String {
    let widest = counted.iter().map(|one| one.name.chars().count()).max().unwrap_or(0).max(6);
    let line = |cells: [&str; 7]| {
        let [name, mixer, layers, width, parameters, published, ratio] = cells;
        format!("{name:<widest$}  {mixer:<12}  {layers:>6}  {width:>5}  {parameters:>11}  {published:>9}  {ratio:>5}\n")
    };
    let mut out = line(["preset", "mixer", "layers", "width", "parameters", "published", "ratio"]);
    for one in counted {
        let millions = one.published.map_or("-".into(), |p| format!("{:.0}M", p.parameters as f64 / 1e6));
        let ratio = one.ratio.map_or("-".into(), |ratio| format!("{ratio:.3}"));
        let [layers, width, parameters] =
            [one.layers as u64, one.d_model as u64, one.parameters].map(|n| n.to_string());
        out += &line([&one.name, one.mixer, &layers, &width, &parameters, &millions, &ratio]);
    }
    out
}

/// A map as YAML on one line.
fn flow(map: &Value) -> String {
    let entries: Vec<String> =
        map.as_object().into_iter().flatten().map(|(key, value)| format!("{key}: {value}")).collect();
    format!("{{ {} }}", entries.join(", "))
}

fn runs(args: &ListArgs) -> Exit {
    let read = match args.store.is_dir() {
        true => Store::open(&args.store).and_then(|s| s.read()).map_err(|e| e.to_string()),
        false => Err(format!("{} is not a folder", args.store.display())),
    };
    let contents = match read {
        Ok(contents) => contents,
        Err(problem) => {
            fail(problem, "name the store with --store");
            return Exit::Environment;
        }
    };
    contents.warnings.iter().for_each(|w| eprintln!("warning: {w}"));
    let records = contents.into_latest();
    if args.json {
        println!("{}", text::json(&serde_json::to_string_pretty(&records).expect("plain data")));
        return Exit::Ok;
    }
    let one = |value: &Value| value.as_object().and_then(|m| m.keys().next().cloned()).unwrap_or_default();
    for r in records {
        let test = r.scores.test.map_or("-".into(), |s| format!("{s:.4}"));
        let names = format!("{} · {} · seed {}", one(&r.spec["task"]), one(&r.spec["mixer"]), r.seed);
        let said = format!("{}  {:<11} test {test:<7} {names}  {}", r.id, r.outcome.word(), r.outcome.reason());
        println!("{}", text::line(&said));
    }
    Exit::Ok
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
    fn a_published_model_is_listed_with_its_scores_and_every_source() {
        let page = |model: &str| {
            let cells: Vec<_> = published::all().iter().filter(|cell| cell.model == model).collect();
            score_page(model, &cells).split_whitespace().collect::<Vec<_>>().join(" ") // however wide the terminal
        };
        let lru = page("LRU");
        assert!(lru.starts_with("LRU ListOps 60.20, Text 89.40, Retrieval 89.90, "), "{lru}");
        assert_eq!(lru.matches("Table 3 (mean of 3 seeds)").count(), 1, "{lru}");
        let s4 = page("S4-v2 (S4-LegS)");
        assert!(s4.contains("Mega paper (Ma et al. 2022), Table 2, quoting Gu et al. 2022"), "{s4}");
    }

    #[test]
    fn the_list_of_sources_counts_every_published_number_once() {
        let page = source_page();
        let head = "673 numbers of 106 models, each with the table or section it was read in:\n";
        assert!(page.starts_with(head), "{page}");
        let counts = page.lines().skip(1).map(|line| line.split_whitespace().next()?.parse::<usize>().ok());
        let sum = counts.map(|count| count.expect("a line begins with its count")).sum::<usize>();
        assert_eq!(sum, published::all().len(), "{page}");
        assert!(page.contains("  LRU paper (Orvieto et al. 2023, arXiv:2303.06349)\n"), "{page}");
        assert!(!page.contains("recalled"), "{page}");
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
