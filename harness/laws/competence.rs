//! `configs/competence.yaml` against the registry: of every mixer it expects what is said of it in print.

use crate::config::{Config, MOST_RUNS};
use crate::registry::Registry;
use results::Wanted;
use std::collections::BTreeSet;
use std::path::Path;

/// Tasks on which each mixer shows what it can do.
const LEAST: usize = 2;
/// Mixers whose lines are still to be written, in the order of the registry. One that has them must leave this list.
const OWING: [&str; 4] = ["kda", "mamba", "lru", "s5"];

/// Tasks on which `config` expects a least score of the mixer `name` in the registry, and names a source.
fn claimed<'a>(config: &'a Config, name: &str) -> BTreeSet<&'a str> {
    let is_of = |mixer: &str, task: &str| {
        config.runs.iter().any(|run| run.mixer_label == mixer && run.task_label == task && run.mixer.name == name)
    };
    let claims = config.expect.iter().filter(|claim| {
        let sourced = claim.source.as_ref().is_some_and(|source| !source.trim().is_empty());
        sourced && matches!(claim.wanted, Wanted::AtLeast(_)) && is_of(&claim.mixer, &claim.task)
    });
    claims.map(|claim| claim.task.as_str()).collect()
}

/// Mixers of the registry with too few such tasks.
fn lacking(config: &Config, registry: &Registry) -> Vec<&'static str> {
    let names = registry.mixers.iter().map(|mixer| mixer.name);
    names.filter(|name| claimed(config, name).len() < LEAST).collect()
}

#[test]
fn of_every_mixer_that_owes_none_two_expectations_have_a_source() {
    let registry = Registry::default();
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../configs/competence.yaml");
    let config = Config::load(&path, &[], MOST_RUNS, &registry).unwrap_or_else(|e| panic!("{}", e.render()));
    assert_eq!(lacking(&config, &registry), OWING, "add an entry under `mixers` and two lines under `expect`");
}

#[test]
fn what_has_no_source_or_no_least_score_does_not_count() {
    let text = |source: &str, bound: &str| {
        format!(
            "tasks:\n  - mqar: {{ seq_len: 16, vocab_size: 32, kv_pairs: 2 }}\n  - induction_heads: {{}}\n\
             mixers:\n  - gru\nexpect:\n  - {{ mixer: gru, task: mqar, at_least: 0.5, source: one }}\n  \
             - {{ mixer: gru, task: induction_heads, {bound}: 0.5{source} }}\n"
        )
    };
    let registry = Registry::default();
    let tasks = |source: &str, bound: &str| {
        let read = Config::parse(&text(source, bound), "x.yaml", "x", &[], &registry);
        let config = read.unwrap_or_else(|e| panic!("{}", e.render()));
        claimed(&config, "gru").len()
    };
    assert_eq!(tasks(", source: two", "at_least"), 2);
    assert_eq!(tasks("", "at_least"), 1);
    assert_eq!(tasks(", source: two", "at_most"), 1);
}
