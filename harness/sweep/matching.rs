//! `match`, held before a sweep runs: `{ tolerance: 0.02 }` refuses models that differ in size by more than that, and a target brings
//! them to it ([`crate::sweep::fitting`]).

use crate::base::bounds;
use crate::base::diagnostics::Diagnostics;
use crate::base::text::grouped;
use crate::config::matched::{Matched, Point, Rule, grid_point, percent};
use crate::config::{Config, Draft};
use crate::model::{Ffn, ModelConfig};
use crate::sweep::fitting;
use crate::sweep::sizes::Counter;
use mixers::core::limits::D_MODEL;
use std::collections::{HashMap, HashSet};

/// Holds the models of `config` to its `match`. What is wrong are models larger or smaller than it allows, or which cannot be brought to
/// their size.
pub fn hold(config: &mut Config, counter: &mut Counter) -> Result<(), Diagnostics> {
    let Some(matched) = &mut config.matched else { return Ok(()) };
    matched.chosen = match &matched.rule {
        Rule::Check(within) => {
            check(matched, *within, &config.runs, counter)?;
            None
        }
        Rule::Fit(fit) => {
            let runs = config.runs.clone();
            let cells = config.tune.iter_mut().flat_map(|tune| &mut tune.cells);
            let tried =
                cells.filter(|cell| runs.iter().any(|run| cell.is_of(run))).flat_map(|cell| cell.settings.values_mut());
            Some(fitting::bring(matched, fit, config.runs.iter_mut().chain(tried), counter)?)
        }
    };
    Ok(())
}

/// Every model that is larger or smaller than `within` allows.
fn check(matched: &Matched, within: f64, runs: &[Draft], counter: &mut Counter) -> Result<(), Diagnostics> {
    let mut found = Diagnostics::new(&matched.source);
    let tasks: HashSet<&String> = runs.iter().map(|run| &run.task_label).collect();
    let mut firsts: HashMap<Point, &Draft> = HashMap::new();
    for draft in &matched.kinds {
        let first = *firsts.entry(grid_point(draft)).or_insert(draft);
        let runs = tasks.contains(&draft.task_label);
        let sizes = (counter.sizes(first), counter.sizes(draft));
        let (true, (Some(first_sizes), Some(sizes))) = (runs, sizes) else { continue };
        let (target, here) = (first_sizes.parameters, sizes.parameters);
        if !near(here, target, within) {
            let problem = format!(
                "on `{}`, `{}`{} has {} parameters, {:.3} times the {} of `{}`: more than {} % away",
                draft.task_label,
                draft.mixer_label,
                point(draft),
                grouped(here),
                here as f64 / target as f64,
                grouped(target),
                first.mixer_label,
                percent(within)
            );
            let help = hint(draft, target, within, counter);
            found.error(matched.place.clone(), problem, help);
        }
    }
    if found.is_empty() { Ok(()) } else { Err(found) }
}

fn near(here: u64, target: u64, within: f64) -> bool {
    (here as f64 / target as f64 - 1.0).abs() <= within
}

/// The grid point as far as it can change a size.
fn point(draft: &Draft) -> String {
    let sized = draft.settings.iter().filter(|(key, _)| ["model", "mixer", "task"].iter().any(|s| key.starts_with(s)));
    let words: Vec<String> = sized.map(|(key, value)| format!("{key}={value}")).collect();
    if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) }
}

/// Which width would come nearest to `target`: of the feed-forward where there is one and it can, else of the model.
fn hint(draft: &Draft, target: u64, within: f64, counter: &mut Counter) -> String {
    let tries = [with_d_ff(draft, target, counter), with_d_model(draft, target, counter)];
    let away = |size: u64| (size as f64 / target as f64 - 1.0).abs();
    let good = tries.iter().flatten().find(|(_, size)| near(*size, target, within));
    let best = good.or_else(|| tries.iter().flatten().min_by(|a, b| away(a.1).total_cmp(&away(b.1))));
    let Some((model, size)) = best else {
        return format!("change `model` in the entry of `{}`", draft.mixer_label);
    };
    let ffn = match model.d_ff {
        Some(d_ff) if model.d_model == draft.model.d_model => format!("d_ff: {d_ff}"),
        Some(d_ff) => format!("d_model: {}, d_ff: {d_ff}", model.d_model),
        None => format!("d_model: {}", model.d_model),
    };
    let nearest =
        if good.is_some() { "" } else { "; no width alone comes nearer, so change `n_layers` or the mixer's own" };
    let ratio = *size as f64 / target as f64;
    format!("`model: {{ {ffn} }}` in the entry of `{}` has {} ({ratio:.3}){nearest}", draft.mixer_label, grouped(*size))
}

/// Size is linear in the feed-forward's width.
fn with_d_ff(draft: &Draft, target: u64, counter: &mut Counter) -> Option<(ModelConfig, u64)> {
    let d_ff = draft.model.d_ff.filter(|_| draft.model.ffn != Some(Ffn::None))?;
    let mut size = |d_ff: i64| {
        let model = ModelConfig { d_ff: Some(d_ff), ..draft.model.clone() };
        Some((model.clone(), counter.sizes(&draft.with_model(model))?.parameters))
    };
    let (here, next) = (size(d_ff)?.1 as f64, size(d_ff + 1)?.1 as f64);
    let wanted = d_ff as f64 + (target as f64 - here) / (next - here);
    size((wanted.round() as i64).clamp(1, bounds::most("d_ff") as i64))
}

/// Size rises with the model's width: the mixer's own rules leave some widths out, bisection finds the nearest.
fn with_d_model(draft: &Draft, target: u64, counter: &mut Counter) -> Option<(ModelConfig, u64)> {
    let here = counter.sizes(draft)?.parameters;
    let guess = draft.model.d_model as f64 * (target as f64 / here as f64).sqrt();
    let allowed: Vec<i64> = ((guess / 2.0).max(1.0) as i64..=((2.0 * guess) as i64).min(D_MODEL))
        .filter(|d| counter.allows(&draft.with_model(ModelConfig { d_model: *d, ..draft.model.clone() })))
        .collect();
    let mut size = |at: usize| {
        let model = ModelConfig { d_model: allowed[at], ..draft.model.clone() };
        Some((model.clone(), counter.sizes(&draft.with_model(model))?.parameters))
    };
    let (mut low, mut high) = (0, allowed.len().checked_sub(1)?);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if size(middle)?.1 <= target { low = middle } else { high = middle }
    }
    let (below, above) = (size(low)?, size(high)?);
    Some(if target.abs_diff(below.1) <= target.abs_diff(above.1) { below } else { above })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    const TEXT: &str = "\
tasks: [mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false }]
match: { parameters: 0.02 }
model: { d_model: 32, n_layers: 2 }
mixers:
  - attention: { n_heads: 2 }
  - mixer: { s4: { d_state: 8 } }
    model: { block: transformer, positions: none }
  - mixer: { hydra: { d_state: 8, headdim: 8 } }
    model: { block: hydra, d_model: 40 }
";

    fn checked(text: &str) -> Vec<(String, String)> {
        let registry = Registry::default();
        let mut config = Config::parse(text, "x.yaml", "x", &[], &registry).unwrap();
        match hold(&mut config, &mut Counter::new(&registry, &[])) {
            Ok(()) => Vec::new(),
            Err(found) => found.lines().into_iter().zip(found.helps()).collect(),
        }
    }

    #[test]
    fn models_of_other_sizes_are_refused_at_the_place_of_the_key_and_the_hint_leads_to_a_match() {
        let found = checked(TEXT);
        assert_eq!(found.len(), 2, "{found:#?}");
        assert!(found.iter().all(|(line, _)| line.starts_with("x.yaml:2:1: on `mqar`, `")), "{found:#?}");
        // What each hint says is written into its entry, which then says nothing more.
        let model = |at: usize| found[at].1.split(['{', '}']).nth(1).unwrap().trim().to_string();
        let mended = TEXT.replace("positions: none", &format!("positions: none, {}", model(0)));
        let mended = mended.replace("d_model: 40", &model(1));
        let left = checked(&mended);
        let unreachable = found.iter().filter(|(_, help)| help.contains("no width alone")).count();
        assert_eq!(left.len(), unreachable, "{found:#?} {left:#?}");
        assert_eq!(checked(&TEXT.replace("match: { parameters: 0.02 }", "")), []);
        assert_eq!(
            checked(&TEXT.replace("{ parameters: 0.02 }", "{ tolerance: 0.02 }")),
            found,
            "the same in other words"
        );
    }

    #[test]
    fn a_share_that_is_none_is_a_mistake_with_a_place() {
        for (wrong, place) in
            [("{ parameters: 0 }", "x.yaml:2:22"), ("{ parameter: 0.1 }", "x.yaml:2:1"), ("0.1", "x.yaml:2:8")]
        {
            let text = TEXT.replace("{ parameters: 0.02 }", wrong);
            let found = Config::parse(&text, "x.yaml", "x", &[], &Registry::default()).unwrap_err().lines();
            assert!(found.iter().any(|line| line.starts_with(place)), "{wrong}: {found:#?}");
        }
    }
}
