//! Whole numbers that nobody means: every setting of every mixer, task and section is set to them, alone and in pairs, and what
//! follows is an error with its place and its remedy, or a plan; never a panic.

use crate::base::process::panic_text;
use crate::config::Config;
use crate::laws::samples::small_mixers;
use crate::registry::Registry;
use crate::sweep::opened::open_tasks;
use crate::sweep::plan::{Speeds, estimates};
use crate::sweep::sizes::Counter;
use crate::train::sections::{SECTIONS, SectionEntry};
use crate::train::spec::RunSpec;
use crate::train::vet;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use std::panic::{AssertUnwindSafe, catch_unwind};
use tasks::{DataDir, Output};

/// The numbers: ends of types, what a typing error makes of a usual one, and the limits themselves.
const NUMBERS: [i128; 16] = [
    i64::MAX as i128,
    u64::MAX as i128,
    i64::MIN as i128,
    4_000_000_000,
    u32::MAX as i128,
    1 << 31,
    (1 << 20) + 1,
    1 << 20,
    1 << 17,
    65_536,
    4096,
    1024,
    3,
    1,
    0,
    -1,
];

/// Numbers beyond which a block is not built here.
const SMALL: f64 = (1_u64 << 18) as f64;

/// A config, as JSON, which is YAML.
fn config(task: &str, mixer: &str) -> Value {
    let (_, settings) = small_mixers().into_iter().find(|(entry, _)| entry.name == mixer).expect("a mixer");
    let small = match task {
        "mqar" => json!({ "vocab_size": 32, "seq_len": 16, "kv_pairs": 2, "causal": mixer == "attention" }),
        _ => json!({}),
    };
    json!({
        "tasks": [{ "task": { task: small } }],
        "mixers": [{ "mixer": { mixer: settings } }],
        "model": { "d_model": 16, "n_layers": 1 },
    })
}

/// One setting: where it stands in a config, and how its number is written: alone or in a list.
#[derive(Clone, Debug)]
struct Setting {
    place: String,
    listed: bool,
}

impl Setting {
    fn set(&self, config: &mut Value, number: i128) {
        let number: Value = serde_json::from_str(&number.to_string()).expect("a number");
        let value = if self.listed { json!([number]) } else { number };
        let (mut at, parts) = (config, self.place.split('/').skip(1));
        for part in parts {
            at = match part.parse::<usize>() {
                Ok(index) => &mut at[index],
                Err(_) => &mut at[part],
            };
        }
        *at = value;
    }
}

/// Keys that take whole numbers, or lists of them.
fn whole_numbers<'a>(
    keys: impl IntoIterator<Item = &'a str>,
    place: &str,
    accepts: impl Fn(&Value) -> bool,
) -> Vec<Setting> {
    let takes = |key: &str, value: Value| accepts(&Value::Object(Map::from_iter([(key.to_owned(), value)])));
    let setting = |key: &str| {
        // What takes a fraction as well is a real number, and no size of anything.
        let whole = |value: Value, fraction: Value| takes(key, value) && !takes(key, fraction);
        let alone = whole(json!(1), json!(1.5)).then_some(false);
        let listed = alone.or_else(|| whole(json!([1]), json!([1.5])).then_some(true))?;
        Some(Setting { place: format!("{place}/{key}"), listed })
    };
    keys.into_iter().filter_map(setting).collect()
}

fn of_sections() -> Vec<Setting> {
    let keys = |section: &SectionEntry| {
        let keys = (section.defaults)();
        whole_numbers(keys.keys().map(String::as_str), &format!("/{}", section.name), |v| (section.accepts)(v).is_ok())
    };
    SECTIONS.iter().flat_map(keys).collect()
}

fn of_mixer(entry: &mixers::Entry) -> Vec<Setting> {
    let (defaults, place) = ((entry.defaults)(), format!("/mixers/0/mixer/{}", entry.name));
    let keys = defaults.as_object().expect("settings are a map").keys().map(String::as_str);
    whole_numbers(keys, &place, |value| (entry.accepts)(value).is_ok())
}

fn of_task(entry: &tasks::Entry) -> Vec<Setting> {
    let (defaults, place) = ((entry.defaults)(), format!("/tasks/0/task/{}", entry.name));
    let keys = defaults.as_object().expect("settings are a map").keys().map(String::as_str);
    let mut settings = whole_numbers(keys, &place, |value| (entry.accepts)(value).is_ok());
    let nested = |key: &str| Setting { place: format!("{place}/{key}"), listed: false };
    if defaults.get("tokenizer").is_some() {
        for kind in ["characters", "wordpiece", "bpe"] {
            settings.extend(["vocab_size", "train_megabytes"].map(|key| nested(&format!("tokenizer/{kind}/{key}"))));
        }
    }
    settings
}

/// What a config comes to by the way that `plan` goes: nothing, or what is wrong with it; a panic's words where one happens.
fn planned(config: &Value) -> Result<Option<String>, String> {
    let registry = Registry::default();
    let text = config.to_string();
    let tried = catch_unwind(AssertUnwindSafe(|| {
        let config = match Config::parse(&text, "x.yaml", "x", &[], &registry) {
            Ok(config) => config,
            Err(found) => return Some(found.render()),
        };
        let nowhere = DataDir("no/such/folder".into());
        // This one draws every example when it is opened: up to a million, which takes minutes.
        let long = config.runs.iter().any(|run| {
            let counts =
                run.task.settings.as_object().into_iter().flatten().filter(|(key, _)| key.ends_with("_examples"));
            run.task.name == "icll" && counts.filter_map(|(_, count)| count.as_u64()).any(|count| count > 2000)
        });
        let opened = open_tasks(&config, &registry, &nowhere, |outline| {
            !long && !outline.needs_files && outline.output == Output::PerPosition
        });
        let mut counter = Counter::new(&registry, &opened).up_to(SMALL);
        let all = estimates(&config, &registry, &mut counter, Speeds { here: 1e9, gpu: 1e12 });
        assert!(all.iter().all(|estimate| estimate.flops.is_finite() && estimate.flops >= 0.0), "{all:?}");
        for draft in &config.runs {
            let spec = draft.spec(&registry, 1, None);
            assert_eq!(vet::wrong(&spec, &registry), [""; 0], "a spec is held to what its config is held to");
        }
        None
    }));
    tried.map_err(|panic| panic_text(&*panic))
}

/// Whether errors say where they are, what is wrong and what to do.
fn well_said(errors: &str) -> bool {
    errors.contains("x.yaml:1:") && errors.contains("help: ") && !errors.contains("help: \n")
}

fn hold(tried: &mut usize, bad: &mut Vec<String>, base: &Value, settings: &[Setting], numbers: &[i128]) {
    for setting in settings {
        for &number in numbers {
            let mut config = base.clone();
            setting.set(&mut config, number);
            *tried += 1;
            match planned(&config) {
                Ok(None) => {}
                Ok(Some(errors)) if well_said(&errors) => {}
                Ok(Some(errors)) => bad.push(format!("{} = {number}: {errors}", setting.place)),
                Err(panic) => bad.push(format!("{} = {number} panics: {panic}", setting.place)),
            }
        }
    }
}

#[track_caller]
fn none(tried: usize, bad: &[String]) {
    println!("{tried} configs, {} of them bad", bad.len());
    assert!(bad.is_empty(), "{} of {tried}:\n{}", bad.len(), bad.join("\n"));
}

#[test]
fn no_whole_number_in_a_section_makes_plan_panic() {
    let (mut tried, mut bad) = (0, Vec::new());
    for extra in
        [json!({}), json!({ "pretrain": { "objective": "mlm" }, "analysis": { "probes": true, "prune": true } })]
    {
        let mut base = config("mqar", "attention");
        base.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        hold(&mut tried, &mut bad, &base, &of_sections(), &NUMBERS);
    }
    assert!(tried > 500, "{tried}");
    none(tried, &bad);
}

#[test]
fn no_whole_number_in_a_mixer_makes_plan_panic() {
    let (mut tried, mut bad, mut with) = (0, Vec::new(), 0);
    for entry in mixers::registry() {
        let settings = of_mixer(&entry);
        with += usize::from(!settings.is_empty());
        for (at, extra) in [vec![json!({})], (entry.variants)()].concat().into_iter().enumerate() {
            let numbers = if at == 0 { &NUMBERS[..] } else { &[i64::MAX as i128, 4_000_000_000, 1 << 17, -1][..] };
            let mut base = config("mqar", entry.name);
            let own = base.pointer_mut(&format!("/mixers/0/mixer/{}", entry.name)).unwrap().as_object_mut().unwrap();
            own.extend(extra.as_object().unwrap().clone());
            hold(&mut tried, &mut bad, &base, &settings, numbers);
        }
    }
    // A mixer of which only factors can be set has none.
    assert!(with + 2 >= mixers::registry().len(), "{with} mixers have whole numbers");
    none(tried, &bad);
}

#[test]
fn no_whole_number_in_a_task_makes_plan_panic() {
    let (mut tried, mut bad) = (0, Vec::new());
    for entry in tasks::registry() {
        hold(&mut tried, &mut bad, &config(entry.name, "lstm"), &of_task(&entry), &NUMBERS);
    }
    let kind = |key: &str| Setting { place: format!("/tasks/0/task/mqar/train_mixture/0/{key}"), listed: false };
    let mut base = config("mqar", "lstm");
    base["tasks"][0]["task"]["mqar"]["train_mixture"] = json!([{ "seq_len": 64, "kv_pairs": 4, "examples": 10 }]);
    hold(&mut tried, &mut bad, &base, &["seq_len", "kv_pairs", "examples"].map(kind), &NUMBERS);
    none(tried, &bad);
}

#[test]
fn no_pair_of_whole_numbers_makes_plan_panic() {
    let (mixers, tasks) = (mixers::registry(), tasks::registry());
    let cases = std::env::var("MIXARENA_FUZZ").ok().and_then(|n| n.replace('_', "").parse().ok()).unwrap_or(256);
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() },
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let drawn = (
        0..mixers.len(),
        0..tasks.len(),
        prop::collection::vec((any::<prop::sample::Index>(), prop::sample::select(&NUMBERS[..])), 2..5),
    );
    let result = runner.run(&drawn, |(mixer, task, numbers)| {
        let mut config = config(tasks[task].name, mixers[mixer].name);
        let settings = [of_sections(), of_mixer(&mixers[mixer]), of_task(&tasks[task])].concat();
        for (which, number) in numbers {
            settings[which.index(settings.len())].set(&mut config, number);
        }
        match planned(&config) {
            Ok(None) => Ok(()),
            Ok(Some(errors)) if well_said(&errors) => Ok(()),
            other => Err(TestCaseError::fail(format!("{config}: {other:?}"))),
        }
    });
    println!("{cases} configs with numbers in pairs");
    result.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_spec_is_refused_for_what_its_config_would_be_refused_for() {
    let registry = Registry::default();
    let text = config("mqar", "attention").to_string();
    let draft = Config::parse(&text, "x.yaml", "x", &[], &registry).unwrap().runs.remove(0);
    let draft = draft.spec(&registry, 1, None);
    let entry = registry.task("mqar").unwrap();
    let task = entry.open(&draft.task.settings, &DataDir("no/such/folder".into())).unwrap();
    vet::opened(&draft, &*task).unwrap();
    for (changed, said) in [
        (
            RunSpec { task_version: 99, ..draft.clone() },
            "task_version: made for version 99 of `mqar`, and this build has 1",
        ),
        (
            RunSpec { data: Some("x".into()), ..draft.clone() },
            "the data files are not the ones this run was planned with",
        ),
    ] {
        assert_eq!(vet::opened(&changed, &*task).unwrap_err(), said);
    }
    let mut spec = serde_json::to_value(&draft).unwrap();
    // A key that is left out at its default is there to be changed.
    spec["sources"] = json!([]);
    let read = |spec: &Value| vet::read(spec.to_string().as_bytes(), "spec.json", &registry).map(drop);
    read(&spec).unwrap();
    for (place, value, said) in [
        ("/task/mqar/validation_examples", json!(u64::MAX), "task: `validation_examples` is 18446744073709551615"),
        ("/task/mqar/seq_len", json!("x"), "task: `mqar`: invalid type"),
        ("/mixer/attention/n_heads", json!(3), "mixer: `n_heads` is 3, which does not divide"),
        ("/model/d_model", json!(i64::MAX), "model: `d_model` is 9223372036854775807, more than 65536"),
        ("/budget/batch_size", json!(0), "budget: `batch_size` is 0"),
        ("/optimizer/lr", json!(-1), "optimizer: `lr` is -1"),
        ("/schedule/warmup_steps", json!(5000), "schedule: `warmup_steps` is 5000, more than the 1000 steps"),
        ("/mixer_version", json!(99), "mixer_version: made for version 99 of `attention`"),
        ("/engine", json!(0), "made for engine 0"),
        ("/sources", json!(["/path"]), "sources: made for `/path` of `mqar`, and this build has ``"),
    ] {
        let mut changed = spec.clone();
        *changed.pointer_mut(place).unwrap() = value;
        let error = read(&changed).unwrap_err();
        assert!(error.starts_with("spec.json: ") && error.contains(said), "{place}: {error}");
    }
}

#[test]
fn any_bytes_are_a_spec_that_can_run_or_are_refused() {
    let registry = Registry::default();
    let specs = ["attention", "s4", "mamba2"].map(|mixer| {
        let text = config("mqar", mixer).to_string();
        let draft = Config::parse(&text, "x.yaml", "x", &[], &registry).unwrap().runs.remove(0);
        serde_json::to_vec_pretty(&draft.spec(&registry, 1, None)).unwrap()
    });
    fuzzing::Target::new("spec.json", specs).run(|bytes| {
        let Ok(spec) = vet::read(bytes, "spec.json", &registry) else { return };
        let mixer = registry.mixer(&spec.mixer.name).unwrap();
        let outline = registry.task(&spec.task.name).unwrap().outline(&spec.task.settings);
        crate::model::sizes::Sizes::up_to(SMALL, &spec.model, &outline.spec(), mixer, &spec.mixer.settings);
    });
}
