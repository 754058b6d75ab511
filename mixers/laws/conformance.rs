//! Laws that every mixer obeys. A new one of this crate is tested on the day it is listed; a crate of one's own holds its
//! mixers to them with [`hold`].

use crate::laws::testing::noise;
use crate::native::kernels::{Kernels, with};
use crate::{Context, Dims, Entry, Mixer, Structure};
use proptest::array::uniform2;
use proptest::prelude::{Just, Strategy};
use proptest::test_runner::{Config as Tries, TestRunner};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::sync::{Mutex, PoisonError};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);
const BATCH: i64 = 2;
const D_MODEL: i64 = 8;
/// A prime above every chunk and segment of small settings, so that the last one is never whole.
const SEQ_LEN: i64 = 17;
/// Draws of a law over random lengths.
const TRIES: u32 = 5;

/// A law: panics on the first mixer that breaks it, and returns how many cases it spoke of.
pub type Law = fn(&[Entry]) -> usize;

/// Names the laws, and makes a test of each over this crate's registry, where each has to speak of some mixer.
macro_rules! laws {
    ($($name:ident),* $(,)?) => {
        /// Every law by its name.
        pub const LAWS: &[(&str, Law)] = &[$((stringify!($name), $name as Law)),*];

        #[cfg(test)]
        mod tests {
            $(#[test]
            fn $name() {
                let cases = super::$name(&crate::registry());
                println!("law on {cases} cases: {}", stringify!($name));
                assert!(cases > 0, "it speaks of no case");
            })*
        }
    };
}

laws! {
    the_past_never_sees_the_future,
    padding_changes_no_valid_position,
    the_shape_is_kept_at_any_length,
    rows_of_a_batch_are_independent,
    every_parameter_gets_a_gradient,
    padded_inputs_get_no_gradient_and_no_gradient_is_nan,
    gradients_agree_with_finite_differences,
    plain_kernels_give_what_native_ones_give,
    the_matrix_applied_to_v_is_what_the_fast_path_gives,
    a_mixer_without_a_matrix_says_why,
    the_matrix_has_the_structure_its_class_promises,
    no_value_and_no_gradient_is_nan_at_the_strongest_decay,
    float32_stays_near_float64_at_length_4096,
    step_by_step_is_the_parallel_form_and_its_state_is_what_the_cost_says,
    the_state_shown_is_the_state_held,
    each_head_can_be_silenced_and_the_output_is_their_sum,
    a_mixer_without_heads_ignores_their_factors,
    the_cost_counts_the_parameters_there_are,
    the_size_that_is_known_before_building_is_that_of_what_is_built,
    flops_grow_with_the_length,
    the_flops_of_the_formula_are_those_counted,
    weights_made_for_another_length_give_what_they_gave,
    rules_name_parameters_that_are_there,
    defaults_can_be_built_and_unknown_fields_are_refused,
    the_same_seed_gives_the_same_parameters,
}

/// Holds every entry, with its small settings and its variants, to every law.
///
/// # Panics
/// If a mixer breaks a law: the message names the law, the settings and what differs.
pub fn hold(entries: &[Entry]) {
    for (name, law) in LAWS {
        let held = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| law(entries)));
        if let Err(panic) = held {
            eprintln!("the law broken is `{name}`");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Draws `TRIES` values for `law`; the same ones every time.
fn drawn<S: Strategy>(strategy: S, law: impl Fn(S::Value))
where
    S::Value: Debug,
{
    let tries = Tries { cases: TRIES, failure_persistence: None, ..Tries::default() };
    let outcome = TestRunner::new(tries).run(&strategy, |value| {
        law(value);
        Ok(())
    });
    outcome.unwrap_or_else(|broken| panic!("{broken}"));
}

/// One mixer in float64, its parameters moved off their initial values.
struct Case {
    entry: Entry,
    settings: Value,
    dims: Dims,
    label: String,
    mixer: Box<dyn Mixer>,
    vs: VarStore,
    causal: bool,
}

/// The cases that a law speaks of.
fn under(entries: &[Entry], speaks_of: impl Fn(&Case) -> bool) -> Vec<Case> {
    let mut all = cases(entries);
    all.retain(speaks_of);
    all
}

fn linear(case: &Case) -> bool {
    case.mixer.materialize(&input(3, 0), &Context::eval()).is_ok()
}

fn every(_: &Case) -> bool {
    true
}

fn hides_padding(case: &Case) -> bool {
    case.mixer.reads_padding().is_none()
}

/// Every mixer with its small settings and its variants, causal and bidirectional, where its own check allows it.
fn cases(entries: &[Entry]) -> Vec<Case> {
    let mut cases = Vec::new();
    for entry in entries {
        let before = cases.len();
        for extra in [vec![json!({})], (entry.variants)()].concat() {
            for causal in [true, false] {
                let settings = small(entry, &extra);
                let dims = Dims { d_model: D_MODEL, seq_len: SEQ_LEN, causal };
                if entry.check(&settings, &dims).is_empty() {
                    cases.push(case(entry, &settings, &dims));
                }
            }
        }
        assert!(cases.len() > before, "`{}` cannot be built with small settings", entry.name);
    }
    cases
}

/// The entry's small settings with `extra` over them.
fn small(entry: &Entry, extra: &Value) -> Value {
    let mut settings = (entry.small)();
    for (key, value) in extra.as_object().expect("a map") {
        settings[key] = value.clone();
    }
    (entry.accepts)(&settings).unwrap_or_else(|e| panic!("{}: {settings}: {e}", entry.name));
    settings
}

/// A mixer with the initial values of one seed, whatever other tests draw meanwhile from libtorch's generator, which all
/// threads share: built until two in a row come out alike.
fn undisturbed(entry: &Entry, settings: &Value, dims: &Dims, seed: i64) -> (VarStore, Box<dyn Mixer>) {
    static BUILDING: Mutex<()> = Mutex::new(());
    let _alone = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    let build = || {
        tch::manual_seed(seed);
        let vs = VarStore::new(Device::Cpu);
        let mixer = entry.build(settings, &vs.root(), dims);
        (vs, mixer)
    };
    let mut pairs = std::iter::repeat_with(|| (build(), build())).take(1000);
    let found = pairs.find(|(first, second)| alike(&first.0, &second.0));
    found.unwrap_or_else(|| panic!("`{}` never starts from the same values twice", entry.name)).0
}

/// Whether both hold the same numbers.
fn alike(first: &VarStore, second: &VarStore) -> bool {
    let again = second.variables();
    first.variables().iter().all(|(name, values)| values.equal(&again[name]))
}

fn case(entry: &Entry, settings: &Value, dims: &Dims) -> Case {
    let (mut vs, mixer) = undisturbed(entry, settings, dims, 0);
    vs.double();
    tch::no_grad(|| {
        for (salt, mut parameter) in vs.trainable_variables().into_iter().enumerate() {
            let _ = parameter.g_add_(&(noise(&parameter.size(), salt as i64) * 0.1));
        }
        // A mixer that prepares itself at its first forward does so now.
        let _ = mixer.forward(&Tensor::zeros([1, SEQ_LEN, D_MODEL], F64), &Context::eval());
    });
    let label = format!("{} {settings} causal: {}", entry.name, dims.causal);
    Case { entry: *entry, settings: settings.clone(), dims: *dims, label, mixer, vs, causal: dims.causal }
}

fn input(length: i64, salt: i64) -> Tensor {
    noise(&[BATCH, length, D_MODEL], salt)
}

fn padded(lengths: &[i64]) -> Context {
    Context { train: false, lengths: Some(Tensor::from_slice(lengths)), ..Context::default() }
}

/// A fixed functional of `y`.
fn loss(y: &Tensor) -> Tensor {
    (y * noise(&y.size(), 99)).sum(y.kind())
}

fn largest(t: &Tensor) -> f64 {
    t.abs().max().double_value(&[])
}

#[track_caller]
fn assert_close(got: &Tensor, want: &Tensor, case: &Case, what: &str) {
    assert_eq!(got.size(), want.size(), "{what}: {}", case.label);
    if want.numel() == 0 {
        return;
    }
    let error = largest(&(got - want)) / largest(want).max(1.0);
    assert!(error < 1e-9, "{what}: {} is {error:.1e} off", case.label);
}

fn the_past_never_sees_the_future(entries: &[Entry]) -> usize {
    let cases = under(entries, |c| c.causal);
    drawn(((1..=SEQ_LEN).prop_flat_map(|n| (Just(n), 0..=n)), 0..1000i64), |((length, cut), salt)| {
        let x = input(length, salt);
        let altered = Tensor::cat(&[x.narrow(1, 0, cut), input(length - cut, salt + 1) * 9.0], 1);
        for case in &cases {
            let past = |x: &Tensor| case.mixer.forward(x, &Context::eval()).narrow(1, 0, cut);
            assert_close(&past(&altered), &past(&x), case, &format!("sees past {cut} of {length}"));
        }
    });
    cases.len()
}

fn padding_changes_no_valid_position(entries: &[Entry]) -> usize {
    let cases = under(entries, hides_padding);
    drawn((uniform2(1..=SEQ_LEN), 0..1000i64), |(lengths, salt)| {
        let x = input(SEQ_LEN, salt);
        for case in &cases {
            let junk = (padded(&lengths).zero_padding(&x) - &x) * 50.0;
            let y = case.mixer.forward(&x, &padded(&lengths));
            let with_junk = case.mixer.forward(&(&x + junk), &padded(&lengths));
            for (row, &length) in (0..).zip(&lengths) {
                let valid = |t: &Tensor| t.narrow(0, row, 1).narrow(1, 0, length);
                let alone = case.mixer.forward(&valid(&x), &Context::eval());
                assert_close(&valid(&y), &alone, case, &format!("{length} padded to {SEQ_LEN}"));
                assert_close(&valid(&with_junk), &alone, case, &format!("{length} padded with junk"));
            }
        }
    });
    cases.len()
}

fn the_shape_is_kept_at_any_length(entries: &[Entry]) -> usize {
    let cases = under(entries, every);
    drawn((1..=SEQ_LEN, 0..1000i64), |(length, salt)| {
        let x = input(length, salt);
        for case in &cases {
            for x in [&x, &x.narrow(1, 0, 1)] {
                let y = case.mixer.forward(x, &Context::eval());
                assert_eq!(y.size(), x.size(), "{}", case.label);
                assert!(largest(&y).is_finite(), "{}", case.label);
            }
        }
    });
    cases.len()
}

fn rows_of_a_batch_are_independent(entries: &[Entry]) -> usize {
    let x = input(13, 1);
    let cases = under(entries, every);
    for case in &cases {
        let alone = case.mixer.forward(&x.narrow(0, 1, 1), &Context::eval());
        assert_close(&case.mixer.forward(&x, &Context::eval()).narrow(0, 1, 1), &alone, case, "row 1");
    }
    cases.len()
}

fn every_parameter_gets_a_gradient(entries: &[Entry]) -> usize {
    let cases = under(entries, every);
    for case in &cases {
        loss(&case.mixer.forward(&input(SEQ_LEN, 2), &Context::eval())).backward();
        for (name, parameter) in case.vs.variables().into_iter().filter(|(_, p)| p.requires_grad()) {
            assert!(parameter.grad().defined(), "`{name}` takes no part: {}", case.label);
            assert!(largest(&parameter.grad()) > 1e-10, "`{name}` has a zero gradient: {}", case.label);
        }
    }
    cases.len()
}

fn padded_inputs_get_no_gradient_and_no_gradient_is_nan(entries: &[Entry]) -> usize {
    let cases = under(entries, hides_padding);
    for case in &cases {
        let x = input(SEQ_LEN, 3).set_requires_grad(true);
        let ctx = padded(&[SEQ_LEN, 5]);
        loss(&ctx.zero_padding(&case.mixer.forward(&x, &ctx))).backward();
        let unread = x.grad().narrow(0, 1, 1).narrow(1, 5, SEQ_LEN - 5);
        assert_eq!(largest(&unread), 0.0, "{}", case.label);
        for (name, parameter) in case.vs.variables().into_iter().filter(|(_, p)| p.requires_grad()) {
            assert!(largest(&parameter.grad()).is_finite(), "`{name}`: {}", case.label);
        }
    }
    cases.len()
}

fn gradients_agree_with_finite_differences(entries: &[Entry]) -> usize {
    const STEPS: [f64; 3] = [1e-6, 1e-7, 1e-8];
    let cases = under(entries, every);
    for case in &cases {
        let x = input(11, 4).set_requires_grad(true);
        let mut leaves = case.vs.trainable_variables();
        leaves.push(x.shallow_clone());
        let run = || loss(&case.mixer.forward(&x, &padded(&[11, 8])));
        let directions: Vec<Tensor> = leaves.iter().zip(7..).map(|(leaf, salt)| noise(&leaf.size(), salt)).collect();
        let gradients = Tensor::run_backward(&[run()], &leaves, false, false);
        let slope: f64 =
            gradients.iter().zip(&directions).map(|(g, d)| (g * d).sum(Kind::Double).double_value(&[])).sum();
        let mut shift = |by: f64| {
            tch::no_grad(|| {
                for (leaf, direction) in leaves.iter_mut().zip(&directions) {
                    let _ = leaf.g_add_(&(direction * by));
                }
                run().double_value(&[])
            })
        };
        let mut quotient = |step: f64| {
            let (ahead, behind) = (shift(step), shift(-2.0 * step));
            let _back = shift(step);
            (ahead - behind) / (2.0 * step)
        };
        // A kink (ReLU) or a pole (Cauchy) may lie within one step of the start, but not within every smaller one; a wrong
        // gradient agrees at none.
        let measured = STEPS.map(&mut quotient);
        let agrees = |measured: &f64| (measured - slope).abs() < 1e-6 * (1.0 + slope.abs());
        assert!(measured.iter().any(agrees), "{measured:?} are not {slope}: {}", case.label);
    }
    cases.len()
}

/// Values and every gradient, of rows with padding and without, of a few positions and of many chunks.
fn plain_kernels_give_what_native_ones_give(entries: &[Entry]) -> usize {
    let cases = under(entries, every);
    for case in &cases {
        let mut leaves = case.vs.trainable_variables();
        for lengths in [[SEQ_LEN, SEQ_LEN], [SEQ_LEN, 6], [1, 1]] {
            let x = input(lengths[0], 13).set_requires_grad(true);
            leaves.push(x.shallow_clone());
            let run = |kernels| {
                with(kernels, || {
                    let ctx = padded(&lengths);
                    let y = ctx.zero_padding(&case.mixer.forward(&x, &ctx));
                    // A position that reads nothing leaves what it would read out of the graph.
                    let found = Tensor::run_backward(&[loss(&y)], &leaves, false, false).into_iter().zip(&leaves);
                    let found = found.map(|(g, leaf)| if g.defined() { g } else { leaf.zeros_like() });
                    found.chain([y.detach()]).collect::<Vec<_>>()
                })
            };
            for (plain, native) in run(Kernels::Plain).iter().zip(run(Kernels::Native)) {
                assert_close(plain, &native, case, &format!("plain kernels, {lengths:?}"));
            }
            leaves.pop();
        }
    }
    cases.len()
}

fn the_matrix_applied_to_v_is_what_the_fast_path_gives(entries: &[Entry]) -> usize {
    let x = input(13, 5);
    let cases = under(entries, linear);
    for case in &cases {
        for lengths in [[13, 13], [13, 4]] {
            let ctx = padded(&lengths);
            let m = case.mixer.materialize(&x, &ctx).expect("linear");
            let (v, y) = case.mixer.values(&x, &ctx).expect("linear");
            for (row, &length) in (0..).zip(&lengths) {
                let [my, y] = [&m.matmul(&v), &y].map(|t| t.narrow(0, row, 1).narrow(2, 0, length));
                assert_close(&my, &y, case, "M V");
            }
            assert!(m.size()[0] == BATCH || m.size()[0] == 1, "{:?}: {}", m.size(), case.label);
            assert_eq!(m.size()[2..], [13, 13], "{}", case.label);
            if case.causal {
                assert_eq!(largest(&m.triu(1)), 0.0, "M reads the future: {}", case.label);
            }
        }
    }
    cases.len()
}

fn a_mixer_without_a_matrix_says_why(entries: &[Entry]) -> usize {
    let (x, ctx) = (input(5, 5), Context::eval());
    let cases = under(entries, |c| !linear(c));
    for case in &cases {
        let reasons = (case.mixer.materialize(&x, &ctx).unwrap_err(), case.mixer.values(&x, &ctx).unwrap_err());
        assert_eq!(reasons.0, reasons.1, "{}", case.label);
        assert_eq!(case.mixer.structure(), Structure::Dense, "a class without a matrix: {}", case.label);
    }
    cases.len()
}

/// Ranks are counted above this share of the largest entry.
const NEGLIGIBLE: f64 = 1e-9;

fn rank(block: &Tensor, scale: f64) -> i64 {
    let (_, values, _) = block.f_svd(true, false).expect("a finite block");
    values.gt(NEGLIGIBLE * scale).sum(Kind::Int64).int64_value(&[])
}

fn the_matrix_has_the_structure_its_class_promises(entries: &[Entry]) -> usize {
    let cases = under(entries, |c| linear(c) && c.mixer.structure() != Structure::Dense);
    for case in &cases {
        let m = case.mixer.materialize(&input(SEQ_LEN, 5), &Context::eval()).expect("linear");
        let (n, scale) = (SEQ_LEN, largest(&m));
        for m in m.flatten(0, 1).unbind(0) {
            match case.mixer.structure() {
                Structure::Dense => unreachable!("filtered out"),
                Structure::Toeplitz => {
                    let corner = |at| m.narrow(0, at, n - 1).narrow(1, at, n - 1);
                    assert_close(&corner(0), &corner(1), case, "one step down a diagonal");
                }
                Structure::LowRank(bound) => {
                    assert!(rank(&m, scale) <= bound, "rank {} over {bound}: {}", rank(&m, scale), case.label);
                }
                Structure::Quasiseparable(bound) => {
                    for cut in 1..n {
                        let below = m.narrow(0, cut, n - cut).narrow(1, 0, cut);
                        let above = m.narrow(0, 0, cut).narrow(1, cut, n - cut);
                        for block in [below, above] {
                            let rank = rank(&block, scale);
                            assert!(rank <= bound, "rank {rank} over {bound} at {cut}: {}", case.label);
                        }
                    }
                }
                Structure::Stochastic { full } => {
                    let sums = m.sum_dim_intlist([-1].as_slice(), false, Kind::Double);
                    assert_close(&sums, &sums.ones_like(), case, "the sum of a row");
                    assert!(m.min().double_value(&[]) >= 0.0, "a negative weight: {}", case.label);
                    let readable = if case.causal { m.ones_like().tril(0) } else { m.ones_like() };
                    let empty = (m.gt(0.0).logical_not().logical_and(&readable.to_kind(Kind::Bool))).any();
                    assert!(!full || empty.int64_value(&[]) == 0, "a position left out: {}", case.label);
                }
            }
        }
    }
    cases.len()
}

/// The same mixer in float32, with the same parameters.
fn in_single(case: &Case) -> (VarStore, Box<dyn Mixer>) {
    let vs = VarStore::new(Device::Cpu);
    let mixer = case.entry.build(&case.settings, &vs.root(), &case.dims);
    let double = case.vs.variables();
    tch::no_grad(|| vs.variables().into_iter().for_each(|(name, mut t)| t.copy_(&double[&name])));
    (vs, mixer)
}

fn no_value_and_no_gradient_is_nan_at_the_strongest_decay(entries: &[Entry]) -> usize {
    [Kernels::Native, Kernels::Plain].map(|kernels| with(kernels, || all_finite_at_the_strongest_decay(entries)))[0]
}

fn all_finite_at_the_strongest_decay(entries: &[Entry]) -> usize {
    let x = input(SEQ_LEN, 8).to_kind(Kind::Float).set_requires_grad(true);
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_string();
    let moves = |c: &Case| {
        let names = c.vs.variables();
        (c.entry.extremes)().iter().any(|(of, _)| names.keys().any(|name| last(name) == *of))
    };
    let cases = under(entries, moves);
    for case in &cases {
        let (vs, mixer) = in_single(case);
        for (name, mut parameter) in vs.variables() {
            for (_, value) in (case.entry.extremes)().iter().filter(|(of, _)| last(&name) == *of) {
                let _ = tch::no_grad(|| parameter.fill_(*value));
            }
        }
        let y = mixer.forward(&x, &Context::eval());
        assert!(largest(&y).is_finite(), "{}", case.label);
        y.square().mean(Kind::Float).backward();
        for (name, parameter) in vs.variables().into_iter().filter(|(_, p)| p.requires_grad()) {
            assert!(largest(&parameter.grad()).is_finite(), "gradient of `{name}`: {}", case.label);
        }
        assert!(largest(&x.grad()).is_finite(), "gradient of the input: {}", case.label);
    }
    cases.len()
}

/// What float32 may lose against float64 at length 4,096, relative to the largest output.
const SINGLE_AT_4096: f64 = 1e-4;
/// The same for Vandermonde matrices, whose angles grow with the position.
const WAVES_AT_4096: f64 = 2e-3;

fn float32_stays_near_float64_at_length_4096(entries: &[Entry]) -> usize {
    const LONG: i64 = 4096;
    let x = noise(&[1, LONG, D_MODEL], 9);
    let mut worst: BTreeMap<&str, f64> = BTreeMap::new();
    let cases = under(entries, every);
    for small in &cases {
        let case = case(&small.entry, &small.settings, &Dims { seq_len: LONG, ..small.dims });
        let (_vs, single) = in_single(&case);
        let (double, single) = tch::no_grad(|| {
            let ctx = Context::eval();
            (case.mixer.forward(&x, &ctx), single.forward(&x.to_kind(Kind::Float), &ctx).to_kind(Kind::Double))
        });
        let error = largest(&(single - &double)) / largest(&double);
        let bound = if case.settings["matrix"] == "vandermonde" { WAVES_AT_4096 } else { SINGLE_AT_4096 };
        assert!(error < bound, "{error:.1e} off: {}", case.label);
        let of_mixer = worst.entry(case.entry.name).or_default();
        *of_mixer = of_mixer.max(error);
    }
    cases.len()
}

fn step_by_step_is_the_parallel_form_and_its_state_is_what_the_cost_says(entries: &[Entry]) -> usize {
    let x = input(SEQ_LEN, 6);
    for case in &under(entries, |c| c.mixer.recurrent().is_none()) {
        assert_eq!(case.mixer.cost(SEQ_LEN).state_bytes, 0, "{}", case.label);
    }
    let cases = under(entries, |c| c.mixer.recurrent().is_some());
    for case in &cases {
        let mut steps = case.mixer.recurrent().expect("chosen for it");
        let whole = case.mixer.forward(&x, &Context::eval());
        for pass in 0..2 {
            steps.reset(BATCH);
            for t in 0..SEQ_LEN {
                let y = steps.step(&x.select(1, t));
                assert_close(&y, &whole.select(1, t), case, &format!("pass {pass}, step {t}"));
                let stated = BATCH * 2 * case.mixer.cost(t + 1).state_bytes; // the cost is in float32
                assert_eq!(steps.state_bytes(), stated, "after {} tokens: {}", t + 1, case.label);
            }
        }
    }
    cases.len()
}

fn the_state_shown_is_the_state_held(entries: &[Entry]) -> usize {
    let x = input(SEQ_LEN, 6);
    let cases = under(entries, |c| c.mixer.recurrent().is_some());
    // Mixers that keep the tokens they read may show nothing; one whose state never grows shows it.
    let grows = |case: &&Case| case.mixer.cost(1).state_bytes != case.mixer.cost(SEQ_LEN).state_bytes;
    let growing: BTreeSet<&str> = cases.iter().filter(grows).map(|case| case.entry.name).collect();
    for case in &cases {
        let mut steps = case.mixer.recurrent().expect("chosen for it");
        let mut states = |rows: i64| {
            steps.reset(rows);
            (0..SEQ_LEN).for_each(|t| drop(steps.step(&x.narrow(0, 0, rows).select(1, t))));
            (steps.state(), steps.state_bytes())
        };
        let (both, bytes) = states(BATCH);
        assert!(growing.contains(case.entry.name) || !both.is_empty(), "shows nothing: {}", case.label);
        if both.is_empty() {
            continue;
        }
        assert_eq!(both.iter().map(crate::tensor_bytes).sum::<i64>(), bytes, "{}", case.label);
        let (first, _) = states(1);
        for (both, first) in both.iter().zip(&first) {
            assert!(both.kind() == Kind::Double && both.size()[0] == BATCH, "{both:?}: {}", case.label);
            assert_close(&both.narrow(0, 0, 1), first, case, "the state of one row");
            assert!(both.numel() == 0 || largest(both) > 0.0, "a state of zeros: {}", case.label);
        }
    }
    cases.len()
}

fn each_head_can_be_silenced_and_the_output_is_their_sum(entries: &[Entry]) -> usize {
    let x = input(13, 12);
    let cases = under(entries, |c| c.mixer.heads() > 0);
    for case in &cases {
        let heads = case.mixer.heads();
        if let Ok(m) = case.mixer.materialize(&x, &Context::eval()) {
            assert_eq!(heads, m.size()[1], "heads of M: {}", case.label);
        }
        for lengths in [None, Some([13i64, 7])] {
            let ctx = |heads: Option<&Tensor>| Context {
                lengths: lengths.map(|l| Tensor::from_slice(&l)),
                heads: heads.map(Tensor::shallow_clone),
                ..Context::default()
            };
            let with = |factors: &Tensor| case.mixer.forward(&x, &ctx(Some(factors)));
            let whole = case.mixer.forward(&x, &ctx(None));
            let ones = Tensor::ones([heads], F64).set_requires_grad(true);
            let weighed = with(&ones);
            assert_close(&weighed, &whole, case, "factors of one");
            let silence = with(&Tensor::zeros([heads], F64));
            let constant = silence.narrow(0, 0, 1).narrow(1, 0, 1).expand_as(&silence);
            assert_close(&silence, &constant, case, "silence is the bias of the last projection");
            let each: Vec<Tensor> = Tensor::eye(heads, F64).unbind(0).iter().map(with).collect();
            let sum = each.iter().fold(silence.shallow_clone(), |sum, y| sum + y - &silence);
            assert_close(&sum, &whole, case, "the sum over heads");
            // The output is linear in the factors: the gradient of each is what its head adds.
            let gradient = Tensor::run_backward(&[loss(&weighed)], &[&ones], false, false).remove(0);
            let added: Vec<f64> = each.iter().map(|y| loss(&(y - &silence)).double_value(&[])).collect();
            assert_close(&gradient, &Tensor::from_slice(&added), case, "the gradient of the factors");
            assert!(added.iter().all(|added| added.abs() > 1e-9), "a head that adds nothing: {}", case.label);
        }
    }
    cases.len()
}

fn a_mixer_without_heads_ignores_their_factors(entries: &[Entry]) -> usize {
    let x = input(9, 12);
    let cases = under(entries, |c| c.mixer.heads() == 0);
    for case in &cases {
        let ctx = Context { heads: Some(Tensor::zeros([3], F64)), ..Context::default() };
        let (with, without) = (case.mixer.forward(&x, &ctx), case.mixer.forward(&x, &Context::eval()));
        assert_close(&with, &without, case, "factors of no head");
    }
    cases.len()
}

fn the_cost_counts_the_parameters_there_are(entries: &[Entry]) -> usize {
    let cases = under(entries, every);
    for case in &cases {
        let scalars = |t: &Tensor| t.numel() as i64 * if t.is_complex() { 2 } else { 1 };
        let there: i64 = case.vs.trainable_variables().iter().map(scalars).sum();
        assert_eq!(case.mixer.cost(SEQ_LEN).params, there, "{}", case.label);
    }
    cases.len()
}

fn the_size_that_is_known_before_building_is_that_of_what_is_built(entries: &[Entry]) -> usize {
    let cases = under(entries, every);
    for case in &cases {
        let scalars = |t: &Tensor| t.numel() as f64 * if t.is_complex() { 2.0 } else { 1.0 };
        let there: f64 = case.vs.variables().values().map(scalars).sum();
        let known = case.entry.scalars(&case.settings, &case.dims);
        assert!(there <= known && known <= 2.5 * there + 100.0, "{known} of {there}: {}", case.label);
    }
    cases.len()
}

fn flops_grow_with_the_length(entries: &[Entry]) -> usize {
    let cases = under(entries, every);
    for case in &cases {
        let flops = [1, 16, 256].map(|length| case.mixer.cost(length).flops);
        assert!(0 < flops[0] && flops[0] < flops[1] && 8 * flops[1] < flops[2], "{flops:?}: {}", case.label);
    }
    cases.len()
}

/// How far the FLOPs counted in matrix products, convolutions and transforms may lie from the formula. Below 1: formulas count
/// some elementwise work. Above: q, k, v padded to one width, or prefixes made again, for speed.
const COUNTED: std::ops::RangeInclusive<f64> = 0.7..=1.6;

fn the_flops_of_the_formula_are_those_counted(entries: &[Entry]) -> usize {
    const LENGTH: i64 = 256;
    let x = noise(&[1, LENGTH, 64], 3).to_kind(Kind::Float);
    let cases = under(entries, every);
    for small in &cases {
        // The laws' small sizes would leave little but elementwise work.
        let (entry, settings) = (small.entry, restored(small));
        let dims = Dims { d_model: 64, seq_len: LENGTH, ..small.dims };
        if !entry.check(&settings, &dims).is_empty() {
            continue;
        }
        let vs = VarStore::new(Device::Cpu);
        let mixer = entry.build(&settings, &vs.root(), &dims);
        let counted = crate::core::cost::counted_flops(|| tch::no_grad(|| mixer.forward(&x, &Context::eval())));
        let share = counted / mixer.cost(LENGTH).flops as f64;
        assert!(COUNTED.contains(&share), "{share:.2} of the formula: {} {settings}", small.label);
    }
    cases.len()
}

/// The settings of a case with its small sizes back at their defaults.
fn restored(case: &Case) -> Value {
    let defaults = (case.entry.defaults)();
    let mut settings = case.settings.clone();
    for (key, value) in (case.entry.small)().as_object().expect("a map") {
        if settings.get(key) == Some(value) {
            settings[key] = defaults.get(key).cloned().unwrap_or(Value::Null);
        }
    }
    settings
}

/// Weights of one length under another: where a mixer says that they carry over, a sequence that fits both gives the same.
fn weights_made_for_another_length_give_what_they_gave(entries: &[Entry]) -> usize {
    let cases = under(entries, every);
    for case in &cases {
        let x = input(SEQ_LEN - 6, 3);
        let want = tch::no_grad(|| case.mixer.forward(&x, &Context::eval()));
        let entry = &case.entry;
        assert!(entry.carries(&case.settings, Some(SEQ_LEN), &case.dims).is_ok(), "the same length: {}", case.label);
        // Where nobody knows the length, weights carry over if those of any length do, as they are.
        let other = Dims { seq_len: SEQ_LEN + 8, ..case.dims };
        match entry.carries(&case.settings, None, &case.dims) {
            Ok(()) => {
                let known = entry.carries(&case.settings, Some(SEQ_LEN), &other);
                assert!(known.is_ok(), "an unknown length carries over, a known one does not: {}", case.label);
            }
            Err(wrong) => assert!(wrong.help.contains("config.json"), "{wrong:?}: {}", case.label),
        }
        for seq_len in [SEQ_LEN - 5, SEQ_LEN + 8, 3 * SEQ_LEN] {
            let dims = Dims { seq_len, ..case.dims };
            if let Err(wrong) = entry.carries(&case.settings, Some(SEQ_LEN), &dims) {
                assert!(!wrong.help.is_empty() && wrong.problem.contains(wrong.key), "{wrong:?}: {}", case.label);
                continue;
            }
            let (mut vs, mixer) = undisturbed(entry, &case.settings, &dims, 0);
            vs.double();
            let theirs = case.vs.variables();
            for (name, variable) in vs.variables() {
                assert_eq!(variable.size(), theirs[&name].size(), "{name}: {}", case.label);
                tch::no_grad(|| variable.shallow_clone().copy_(&theirs[&name]));
            }
            let got = |mixer: &dyn Mixer| tch::no_grad(|| mixer.forward(&x, &Context::eval()));
            if entry.carries(&case.settings, None, &dims).is_ok() {
                assert_close(&got(&*mixer), &want, case, &format!("from an unknown length to {seq_len}"));
            }
            mixer.adopt(SEQ_LEN).unwrap_or_else(|wrong| panic!("{wrong:?}: {}", case.label));
            assert_close(&got(&*mixer), &want, case, &format!("from {SEQ_LEN} to {seq_len}"));
        }
    }
    cases.len()
}

fn rules_name_parameters_that_are_there(entries: &[Entry]) -> usize {
    let cases = under(entries, |c| !c.mixer.param_rules().is_empty());
    for case in &cases {
        let names = case.vs.variables();
        for rule in case.mixer.param_rules() {
            assert!(names.contains_key(&rule.name), "`{}`: {}", rule.name, case.label);
        }
    }
    cases.len()
}

fn defaults_can_be_built_and_unknown_fields_are_refused(entries: &[Entry]) -> usize {
    for entry in entries {
        let defaults = (entry.defaults)();
        assert!((entry.accepts)(&defaults).is_ok() && (entry.accepts)(&json!({})).is_ok(), "{}", entry.name);
        assert!((entry.accepts)(&json!({ "no_such_field": 1 })).is_err(), "{}", entry.name);
        let wrong = [true, false].map(|causal| entry.check(&defaults, &Dims { d_model: 64, seq_len: 64, causal }));
        assert!(wrong.iter().any(Vec::is_empty), "{}: {wrong:?}", entry.name);
        assert!(wrong.iter().flatten().all(|e| !e.help.is_empty()), "{}: {wrong:?}", entry.name);
    }
    entries.len()
}

fn the_same_seed_gives_the_same_parameters(entries: &[Entry]) -> usize {
    for entry in entries {
        let settings = small(entry, &json!({}));
        let dims = [true, false].map(|causal| Dims { d_model: D_MODEL, seq_len: SEQ_LEN, causal });
        let dims = dims.into_iter().find(|d| entry.check(&settings, d).is_empty()).expect("one of the two");
        let [one, other] = [1, 2].map(|seed| undisturbed(entry, &settings, &dims, seed).0);
        assert!(!alike(&one, &other), "{} ignores the seed", entry.name);
    }
    entries.len()
}
