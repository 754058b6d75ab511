//! The coordinate check: a branch is as loud at every width as at the width its mixer's initial values were made for.
//!
//! ```text
//! loudness   RMS of what a branch gives / RMS of what it reads, at initialisation and after ten steps of AdamW on one batch
//! law        1/3 ≤ loudness(width) / loudness(reference width) ≤ 3
//! rates      travel from the reference width ([`WidthScaling::Mup`]): with one rate ten steps make a wide branch louder than a narrow one
//! ```
//! After    Yang et al. 2022, arXiv:2203.03466, appendix D.1 ("coordinate checking")
//!
//! Over the registry and every variant, at [`WIDTHS`] and [`mixers::Family::WIDTH`], each mixer in the block of its paper; the two
//! feed-forwards have cases of their own. Every variant is looked at as it starts; after training the defaults are, and with `--ignored`
//! (`every_table`, minutes) every variant. What no width enters (a state space that all channels share) is given the values that it has at
//! the reference width: else the law would compare draws. `cargo test --workspace --lib coordinates -- --nocapture` prints the table.

use crate::bench::suite::surroundings;
use crate::laws::samples::{alone, task_spec};
use crate::model::width::rate_factors;
use crate::model::{Ffn, Inputs, Model, ModelConfig};
use crate::registry::Registry;
use crate::train::evaluate;
use crate::train::optimizer::{AdamW, OptimizerConfig, WidthScaling};
use mixers::{Entry, InitialValues};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write;
use tasks::{Output, TaskSpec};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor, no_grad};

const WIDTHS: [i64; 5] = [32, 64, 128, 256, 512];
const STEPS: u64 = 10;
/// Largest factor between the loudness at a width and at the reference width.
const MOST: f64 = 3.0;
/// BERT's peak rate (Devlin et al. 2019, arXiv:1810.04805, §A.2).
const RATE: f64 = 1e-4;
/// A usual rate of narrow models, too large for wide ones.
const LARGE_RATE: f64 = 3e-3;
const ROWS: i64 = 2;

/// How the models of a table start and are trained.
#[derive(Clone, Debug)]
struct How {
    init: InitialValues,
    optimizer: OptimizerConfig,
}

impl How {
    fn new(init: InitialValues) -> Self {
        Self { init, optimizer: OptimizerConfig { lr: RATE, ..OptimizerConfig::default() } }
    }

    /// Rates that travel from each mixer's own width.
    fn from_the_reference(lr: f64) -> Self {
        let mut how = Self::new(InitialValues::Scaled);
        how.optimizer = OptimizerConfig { lr, width_scaling: WidthScaling::Mup, ..how.optimizer };
        how
    }

    /// Rates that travel from `base`.
    fn mup(lr: f64, base: i64) -> Self {
        let mut how = Self::new(InitialValues::Scaled);
        how.optimizer =
            OptimizerConfig { lr, width_scaling: WidthScaling::Mup, base_width: Some(base), ..how.optimizer };
        how
    }
}

/// A mixer with settings, in a model of whatever width.
#[derive(Clone, Debug)]
struct Case {
    entry: Entry,
    settings: Value,
    label: String,
    model: ModelConfig,
    task: TaskSpec,
    /// Whether it is looked at after training too.
    trained: bool,
}

impl Case {
    fn trained(self) -> Self {
        Self { trained: true, ..self }
    }

    fn at(&self, width: i64, how: &How) -> ModelConfig {
        ModelConfig { d_model: width, init: how.init, ..self.model.clone() }.resolved()
    }
}

/// Loudness of each branch before training, and after it where that was asked for.
type Loudness = Vec<(f64, Option<f64>)>;

/// Every mixer and variant, in the direction that it can have; without the feed-forward, which is the same for all.
fn cases(entries: &[Entry]) -> Vec<Case> {
    let registry = Registry { mixers: entries.to_vec(), ..Registry::default() };
    let mut found = Vec::new();
    for entry in entries {
        let model = surroundings(&registry, entry.name, entry.width).0;
        let model = ModelConfig { ffn: Some(Ffn::None), d_ff: None, ..model };
        for variant in [vec![json!({})], (entry.variants)()].concat() {
            let mut settings = (entry.small)();
            settings.as_object_mut().expect("a map").extend(variant.as_object().expect("a map").clone());
            let settings = (entry.resolve)(&settings).expect("settings of the right types");
            let task = task_spec(Output::PerSequence);
            let fits = |task: &TaskSpec| entry.check(&settings, &model.dims(task.max_length, task.causal)).is_empty();
            let one_way = TaskSpec { causal: true, ..task.clone() };
            let Some(task) = [task, one_way].into_iter().find(fits) else { continue };
            let label = format!("{} {variant}", entry.name);
            let trained = variant == json!({});
            found.push(Case { entry: *entry, settings, label, model: model.clone(), task, trained });
        }
    }
    found
}

/// Feed-forwards around attention.
fn feed_forwards() -> Vec<Case> {
    let attention = Registry::default().mixer("attention").copied().expect("it is registered");
    let plain = cases(&[attention]).swap_remove(0);
    let with = |ffn: Ffn, name: &str| {
        let model = ModelConfig { ffn: Some(ffn), ..plain.model.clone() };
        Case { model, label: format!("{} + {name}", plain.label), ..plain.clone() }
    };
    vec![with(Ffn::Mlp, "mlp"), with(Ffn::Glu, "glu")]
}

/// One batch for all.
fn batch(task: &TaskSpec) -> (Inputs, Tensor) {
    let numbers = |n: i64| Tensor::arange(n, (Kind::Int64, Device::Cpu));
    let tokens = (numbers(ROWS * task.max_length) * 7).remainder(task.vocab_size).view([ROWS, task.max_length]);
    (Inputs { tokens, types: None, lengths: None, positions: None }, numbers(ROWS).remainder(task.classes))
}

fn rms(t: &Tensor) -> f64 {
    t.to_kind(Kind::Double).square().mean(Kind::Double).sqrt().double_value(&[])
}

fn loudness(model: &Model, inputs: &Inputs) -> Vec<f64> {
    no_grad(|| model.branches(inputs).iter().map(|[x, y]| rms(y) / rms(x)).collect())
}

/// The loudness of a case at one width. `shared` are the variables at the reference width, empty for that width itself.
fn measure(
    case: &Case,
    width: i64,
    how: &How,
    shared: &BTreeMap<String, Tensor>,
) -> (Loudness, BTreeMap<String, Tensor>) {
    let config = case.at(width, how);
    tch::manual_seed(0);
    let vs = VarStore::new(Device::Cpu);
    let build = || Model::new(&vs.root(), &config, &case.task, &case.entry, &case.settings);
    let (model, maps) = mixers::recorded(build);
    let variables: BTreeMap<String, Tensor> = vs.variables().into_iter().collect();
    for (name, mut variable) in variables.iter().map(|(name, v)| (name, v.shallow_clone())) {
        if let Some(value) = shared.get(name).filter(|value| value.size() == variable.size()) {
            no_grad(|| variable.copy_(value));
        }
    }
    let drawn = no_grad(|| variables.iter().map(|(name, v)| (name.clone(), v.copy())).collect());
    let (inputs, classes) = batch(&case.task);
    let before = loudness(&model, &inputs);
    if !case.trained {
        return (before.into_iter().map(|before| (before, None)).collect(), drawn);
    }
    let base = (how.optimizer.width_scaling == WidthScaling::Mup)
        .then(|| how.optimizer.base_width.unwrap_or(case.entry.width));
    let rates = match base {
        Some(base) => rate_factors(&vs, maps, (&config, base), &case.task, (&case.entry, &case.settings)),
        None => BTreeMap::new(),
    };
    let mut optimizer = AdamW::over(vs.variables(), &how.optimizer, &model.param_rules(), &rates);
    for _ in 0..STEPS {
        optimizer.zero_grad();
        evaluate::loss(&model.forward(&inputs, true), &classes, &case.task).backward();
        optimizer.step(1.0);
    }
    let after = loudness(&model, &inputs);
    (before.into_iter().zip(after.into_iter().map(Some)).collect(), drawn)
}

/// One branch of one case.
struct Line {
    label: String,
    branch: &'static str,
    reference: i64,
    /// At the reference width.
    loudness: (f64, Option<f64>),
    /// By [`WIDTHS`], over that at the reference width.
    relative: Loudness,
}

impl Line {
    /// Whether the law holds.
    fn holds(&self) -> bool {
        let near = |r: f64| (1.0 / MOST..=MOST).contains(&r);
        self.relative.iter().all(|(before, after)| near(*before) && after.is_none_or(near))
    }
}

fn table(cases: &[Case], how: &How) -> Vec<Line> {
    let mut found = Vec::new();
    for case in cases {
        let (at_reference, shared) = measure(case, case.entry.width, how, &BTreeMap::new());
        let others: Vec<Loudness> =
            WIDTHS
                .iter()
                .map(|width| {
                    if *width == case.entry.width {
                        at_reference.clone()
                    } else {
                        measure(case, *width, how, &shared).0
                    }
                })
                .collect();
        for (i, (branch, own)) in ["mixer", "feed-forward"].into_iter().zip(&at_reference).enumerate() {
            let over = |(before, after): (f64, Option<f64>)| {
                (before / own.0, after.zip(own.1).map(|(after, own)| after / own))
            };
            let relative = others.iter().map(|other| over(other[i])).collect();
            let (label, reference) = (case.label.clone(), case.entry.width);
            found.push(Line { label, branch, reference, loudness: *own, relative });
        }
    }
    found
}

/// The table as text: before / after training.
fn rendered(lines: &[Line]) -> String {
    let widths: String = WIDTHS.iter().map(|width| format!("{width:>13}")).collect();
    let mut text = format!("{widths}  reference: width, loudness   (at initialisation / after {STEPS} steps)\n");
    let number = |n: Option<f64>, digits: usize| n.map_or_else(|| "-".to_owned(), |n| format!("{n:.digits$}"));
    for Line { label, branch, reference, loudness: (before, after), relative } in lines {
        for (before, after) in relative {
            let _ = write!(text, "{before:>6.2}/{:<6}", number(*after, 2));
        }
        let _ = writeln!(text, "  {reference:>4} {before:>8.4}/{:<8} {label}, {branch}", number(*after, 4));
    }
    text
}

/// What breaks the law and does not say so, and what says so and does not break it.
fn judged(lines: &[Line], entries: &[Entry]) -> Vec<String> {
    let excused = |line: &Line| {
        entries
            .iter()
            .flat_map(|entry| (entry.unsteady)().into_iter().map(|(v, _)| format!("{} {v}", entry.name)))
            .any(|label| label == line.label)
    };
    let fault = |line: &Line| match (line.holds(), excused(line)) {
        (false, false) => Some(format!("{}, {}: not as loud at every width", line.label, line.branch)),
        (true, true) if line.loudness.1.is_some() => {
            Some(format!("{}: declared unsteady (`Family::unsteady`), and steady", line.label))
        }
        _ => None,
    };
    lines.iter().filter_map(fault).collect()
}

#[test]
fn every_branch_is_as_loud_at_every_width_as_at_the_reference_width() {
    if !alone(concat!(module_path!(), "::every_branch_is_as_loud_at_every_width_as_at_the_reference_width")) {
        return;
    }
    let entries = mixers::registry();
    let lines = table(&[cases(&entries), feed_forwards()].concat(), &How::from_the_reference(RATE));
    let (text, wrong) = (rendered(&lines), judged(&lines, &entries));
    println!("{text}");
    assert!(wrong.is_empty(), "{text}\n{}", wrong.join("\n"));
}

/// The law with rates that travel: a rate at which the widest models leave it without them.
#[test]
fn rates_by_width_keep_every_branch_as_loud_after_training_as_before() {
    if !alone(concat!(module_path!(), "::rates_by_width_keep_every_branch_as_loud_after_training_as_before")) {
        return;
    }
    let attention = Registry::default().mixer("attention").copied().expect("it is registered");
    let cases = [cases(&[attention]).swap_remove(0), feed_forwards().swap_remove(0)];
    let travelling = table(&cases, &How::mup(LARGE_RATE, 64));
    let fixed = How {
        optimizer: OptimizerConfig { lr: LARGE_RATE, ..OptimizerConfig::default() },
        ..How::new(InitialValues::Scaled)
    };
    let fixed = table(&cases, &fixed);
    println!("one rate\n{}rates by width\n{}", rendered(&fixed), rendered(&travelling));
    assert!(travelling.iter().all(Line::holds), "{}", rendered(&travelling));
    assert!(
        !fixed.iter().all(Line::holds),
        "one rate for all does as well: the law says nothing\n{}",
        rendered(&fixed)
    );
}

/// The law can fail: with the numbers that BiGS's paper has for its own width it does.
#[test]
fn published_constants_are_too_quiet_in_narrow_models_and_the_same_to_the_last_bit_at_the_reference_width() {
    const NAME: &str =
        "published_constants_are_too_quiet_in_narrow_models_and_the_same_to_the_last_bit_at_the_reference_width";
    if !alone(&format!("{}::{NAME}", module_path!())) {
        return;
    }
    let bigs = Registry::default().mixer("bigs").copied().expect("it is registered");
    let case = cases(&[bigs]).swap_remove(0);
    let of = |init: InitialValues, width: i64| measure(&case, width, &How::new(init), &BTreeMap::new());
    let (published, drawn) = of(InitialValues::Published, bigs.width);
    let (scaled, drawn_scaled) = of(InitialValues::Scaled, bigs.width);
    assert_eq!(published, scaled);
    assert!(drawn.iter().all(|(name, value)| value.equal(&drawn_scaled[name])), "values differ at the reference width");
    let narrow = measure(&case, 64, &How::new(InitialValues::Published), &drawn).0;
    assert!(narrow[0].0 * MOST < published[0].0, "{narrow:?} at 64, {published:?} at {}", bigs.width);
}

/// Every table there is, for whoever asks: published and scaled initial values, one rate and rates by width.
#[test]
#[ignore = "a report of minutes: MIXARENA_RATE=1e-3 cargo test --workspace --lib coordinates -- --ignored --nocapture"]
fn every_table() {
    let rate = std::env::var("MIXARENA_RATE").ok().and_then(|rate| rate.parse().ok()).unwrap_or(RATE);
    let only = std::env::var("MIXARENA_ONLY").unwrap_or_default();
    let entries: Vec<Entry> = mixers::registry().into_iter().filter(|e| e.name.contains(&only)).collect();
    let cases: Vec<Case> = [cases(&entries), feed_forwards()].concat().into_iter().map(Case::trained).collect();
    let with_rate =
        |init| How { optimizer: OptimizerConfig { lr: rate, ..OptimizerConfig::default() }, ..How::new(init) };
    let all = [
        ("published", with_rate(InitialValues::Published)),
        ("scaled", with_rate(InitialValues::Scaled)),
        ("scaled, rates by width", How::from_the_reference(rate)),
    ];
    for (name, how) in all {
        let start = std::time::Instant::now();
        let lines = table(&cases, &how);
        let failed: Vec<String> =
            lines.iter().filter(|line| !line.holds()).map(|line| format!("{}, {}", line.label, line.branch)).collect();
        println!(
            "{name}, rate {rate}, {:.0} s\n{}{} of {} fail:\n{}\n",
            start.elapsed().as_secs_f64(),
            rendered(&lines),
            failed.len(),
            lines.len(),
            failed.join("\n")
        );
    }
}
