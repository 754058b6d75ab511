//! `mixarena list`: what there is to choose from, and what was run.

use super::{fail, width};
use crate::base::diagnostics::suggest;
use crate::base::exit::Exit;
use crate::cli::{ListArgs, Listed};
use crate::commands::counted::{self, Counted};
use crate::commands::described::{Described, WIDEST, block, print_json, print_pages};
use crate::commands::settings;
use crate::config::presets;
use crate::config::suggest_model;
use crate::registry::Registry;
use crate::train::sections;
use results::{Store, published, text};
use serde_json::{Value, json};
use std::fmt::Write;

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
                   "width": m.width, "settings": (m.defaults)(), "schema": (m.schema)()})
        };
        print_json(&entries.iter().map(one).collect());
        return;
    }
    print_pages(args, &entries.into_iter().map(Described::mixer).collect::<Vec<_>>());
    if args.name.is_none() {
        println!("\n`mixarena list mixers NAME` says what each word means.");
    }
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
}
