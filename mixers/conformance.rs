//! Laws that every mixer of the registry obeys, and every reference dump of the fixtures. A new mixer is tested on the day
//! it is listed.

use crate::goldens::{Verdict, verify};
use crate::{Context, Dims, Entry, Mixer, registry};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use tch::nn::VarStore;
use tch::{Device, Kind, Tensor};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);
const BATCH: i64 = 2;
const D_MODEL: i64 = 8;
/// A prime above every chunk and segment below, so that the last one is never whole.
const SEQ_LEN: i64 = 17;

/// Sizes that keep the laws quick, for whichever of these fields a mixer has.
const SMALL: [(&str, i64); 7] = [
    ("n_heads", 2),
    ("d_state", 4),
    ("headdim", 4),
    ("chunk_size", 4),
    ("segment", 3),
    ("d_hidden", 8),
    ("d_inner", 8),
];

/// One mixer in float64, its parameters moved off their initial values.
struct Case {
    label: String,
    mixer: Box<dyn Mixer>,
    vs: VarStore,
    causal: bool,
}

/// Every mixer with its small settings and its variants, causal and bidirectional, where its own check allows it.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for entry in registry() {
        let before = cases.len();
        for extra in [vec![json!({})], (entry.variants)()].concat() {
            for causal in [true, false] {
                let settings = small(&entry, &extra);
                let dims = Dims { d_model: D_MODEL, seq_len: SEQ_LEN, causal };
                if entry.check(&settings, &dims).is_empty() {
                    cases.push(case(&entry, &settings, &dims));
                }
            }
        }
        assert!(cases.len() > before, "`{}` cannot be built with small settings", entry.name);
    }
    cases
}

fn small(entry: &Entry, extra: &Value) -> Value {
    let mut settings = json!({});
    let defaults = (entry.defaults)();
    for (key, value) in SMALL.iter().filter(|(key, _)| defaults.get(key).is_some()) {
        settings[key] = json!(value);
    }
    for (key, value) in extra.as_object().expect("a map") {
        settings[key] = value.clone();
    }
    (entry.accepts)(&settings).unwrap_or_else(|e| panic!("{}: {settings}: {e}", entry.name));
    settings
}

fn case(entry: &Entry, settings: &Value, dims: &Dims) -> Case {
    let mut vs = VarStore::new(Device::Cpu);
    let mixer = entry.build(settings, &vs.root(), dims);
    vs.double();
    tch::no_grad(|| {
        for (salt, mut parameter) in vs.trainable_variables().into_iter().enumerate() {
            let _ = parameter.g_add_(&(noise(&parameter.size(), salt as i64) * 0.1));
        }
        // A mixer that prepares itself at its first forward does so now.
        let _ = mixer.forward(&Tensor::zeros([1, SEQ_LEN, D_MODEL], F64), &Context::eval());
    });
    Case { label: format!("{} {settings} causal: {}", entry.name, dims.causal), mixer, vs, causal: dims.causal }
}

/// Numbers in -1 .. 1 that look random and are the same everywhere, whatever other tests draw meanwhile.
pub(crate) fn noise(shape: &[i64], salt: i64) -> Tensor {
    let n: i64 = shape.iter().product();
    let mut state = (salt as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let draw = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / (1u64 << 30) as f64 - 1.0
    };
    Tensor::from_slice(&(0..n).map(draw).collect::<Vec<f64>>()).view(shape)
}

fn input(length: i64, salt: i64) -> Tensor {
    noise(&[BATCH, length, D_MODEL], salt)
}

fn padded(lengths: &[i64]) -> Context {
    Context { train: false, lengths: Some(Tensor::from_slice(lengths)) }
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 5, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_past_never_sees_the_future((length, cut) in (1..=SEQ_LEN).prop_flat_map(|n| (Just(n), 0..=n)), salt in 0..1000i64) {
        let x = input(length, salt);
        let altered = Tensor::cat(&[x.narrow(1, 0, cut), input(length - cut, salt + 1) * 9.0], 1);
        for case in cases().iter().filter(|c| c.causal) {
            let past = |x: &Tensor| case.mixer.forward(x, &Context::eval()).narrow(1, 0, cut);
            assert_close(&past(&altered), &past(&x), case, &format!("sees past {cut} of {length}"));
        }
    }

    #[test]
    fn padding_changes_no_valid_position(lengths in proptest::array::uniform2(1..=SEQ_LEN), salt in 0..1000i64) {
        let x = input(SEQ_LEN, salt);
        for case in cases().into_iter().filter(|c| c.mixer.reads_padding().is_none()) {
            let junk = (padded(&lengths).zero_padding(&x) - &x) * 50.0;
            let y = case.mixer.forward(&x, &padded(&lengths));
            let with_junk = case.mixer.forward(&(&x + junk), &padded(&lengths));
            for (row, &length) in (0..).zip(&lengths) {
                let valid = |t: &Tensor| t.narrow(0, row, 1).narrow(1, 0, length);
                let alone = case.mixer.forward(&valid(&x), &Context::eval());
                assert_close(&valid(&y), &alone, &case, &format!("{length} padded to {SEQ_LEN}"));
                assert_close(&valid(&with_junk), &alone, &case, &format!("{length} padded with junk"));
            }
        }
    }

    #[test]
    fn the_shape_is_kept_at_any_length(length in 1..=SEQ_LEN, salt in 0..1000i64) {
        let x = input(length, salt);
        for case in cases() {
            for x in [&x, &x.narrow(1, 0, 1)] {
                let y = case.mixer.forward(x, &Context::eval());
                prop_assert_eq!(y.size(), x.size(), "{}", case.label);
                prop_assert!(largest(&y).is_finite(), "{}", case.label);
            }
        }
    }
}

#[test]
fn rows_of_a_batch_are_independent() {
    let x = input(13, 1);
    for case in cases() {
        let alone = case.mixer.forward(&x.narrow(0, 1, 1), &Context::eval());
        assert_close(&case.mixer.forward(&x, &Context::eval()).narrow(0, 1, 1), &alone, &case, "row 1");
    }
}

#[test]
fn every_parameter_gets_a_gradient() {
    for case in cases() {
        loss(&case.mixer.forward(&input(SEQ_LEN, 2), &Context::eval())).backward();
        for (name, parameter) in case.vs.variables().into_iter().filter(|(_, p)| p.requires_grad()) {
            assert!(parameter.grad().defined(), "`{name}` takes no part: {}", case.label);
            assert!(largest(&parameter.grad()) > 1e-10, "`{name}` has a zero gradient: {}", case.label);
        }
    }
}

#[test]
fn padded_inputs_get_no_gradient_and_no_gradient_is_nan() {
    for case in cases().into_iter().filter(|c| c.mixer.reads_padding().is_none()) {
        let x = input(SEQ_LEN, 3).set_requires_grad(true);
        let ctx = padded(&[SEQ_LEN, 5]);
        loss(&ctx.zero_padding(&case.mixer.forward(&x, &ctx))).backward();
        let unread = x.grad().narrow(0, 1, 1).narrow(1, 5, SEQ_LEN - 5);
        assert_eq!(largest(&unread), 0.0, "{}", case.label);
        for (name, parameter) in case.vs.variables().into_iter().filter(|(_, p)| p.requires_grad()) {
            assert!(largest(&parameter.grad()).is_finite(), "`{name}`: {}", case.label);
        }
    }
}

#[test]
fn gradients_agree_with_finite_differences() {
    const STEP: f64 = 1e-6;
    for case in cases() {
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
        let ahead = shift(STEP);
        let behind = shift(-2.0 * STEP);
        let measured = (ahead - behind) / (2.0 * STEP);
        assert!((measured - slope).abs() < 1e-6 * (1.0 + slope.abs()), "{measured} is not {slope}: {}", case.label);
    }
}

#[test]
fn the_matrix_applied_to_v_is_what_the_fast_path_gives() {
    let x = input(13, 5);
    for case in cases() {
        for lengths in [[13, 13], [13, 4]] {
            let ctx = padded(&lengths);
            let m = match (case.mixer.materialize(&x, &ctx), case.mixer.values(&x, &ctx)) {
                (Ok(m), Ok((v, y))) => {
                    for (row, &length) in (0..).zip(&lengths) {
                        let [my, y] = [&m.matmul(&v), &y].map(|t| t.narrow(0, row, 1).narrow(2, 0, length));
                        assert_close(&my, &y, &case, "M V");
                    }
                    m
                }
                (Err(m), Err(v)) => {
                    assert_eq!(m, v, "two reasons: {}", case.label);
                    continue;
                }
                _ => panic!("one of materialize and values is there without the other: {}", case.label),
            };
            assert!(m.size()[0] == BATCH || m.size()[0] == 1, "{:?}: {}", m.size(), case.label);
            assert_eq!(m.size()[2..], [13, 13], "{}", case.label);
            if case.causal {
                assert_eq!(largest(&m.triu(1)), 0.0, "M reads the future: {}", case.label);
            }
        }
    }
}

#[test]
fn step_by_step_is_the_parallel_form_and_its_state_is_what_the_cost_says() {
    let x = input(SEQ_LEN, 6);
    for case in cases() {
        let Some(mut steps) = case.mixer.recurrent() else {
            assert_eq!(case.mixer.cost(SEQ_LEN).state_bytes, 0, "a state but no recurrent form: {}", case.label);
            continue;
        };
        let whole = case.mixer.forward(&x, &Context::eval());
        for pass in 0..2 {
            steps.reset(BATCH);
            for t in 0..SEQ_LEN {
                let y = steps.step(&x.select(1, t));
                assert_close(&y, &whole.select(1, t), &case, &format!("pass {pass}, step {t}"));
                let stated = BATCH * 2 * case.mixer.cost(t + 1).state_bytes; // the cost is in float32
                assert_eq!(steps.state_bytes(), stated, "after {} tokens: {}", t + 1, case.label);
            }
        }
    }
}

#[test]
fn the_cost_counts_the_parameters_there_are() {
    for case in cases() {
        let scalars = |t: &Tensor| t.numel() as i64 * if t.is_complex() { 2 } else { 1 };
        let there: i64 = case.vs.trainable_variables().iter().map(scalars).sum();
        assert_eq!(case.mixer.cost(SEQ_LEN).params, there, "{}", case.label);
    }
}

#[test]
fn flops_grow_with_the_length() {
    for case in cases() {
        let flops = [1, 16, 256].map(|length| case.mixer.cost(length).flops);
        assert!(0 < flops[0] && flops[0] < flops[1] && 8 * flops[1] < flops[2], "{flops:?}: {}", case.label);
    }
}

#[test]
fn rules_name_parameters_that_are_there() {
    for case in cases() {
        let names = case.vs.variables();
        for rule in case.mixer.param_rules() {
            assert!(names.contains_key(&rule.name), "`{}`: {}", rule.name, case.label);
        }
    }
}

#[test]
fn defaults_can_be_built_and_unknown_fields_are_refused() {
    for entry in registry() {
        let defaults = (entry.defaults)();
        assert!((entry.accepts)(&defaults).is_ok() && (entry.accepts)(&json!({})).is_ok(), "{}", entry.name);
        assert!((entry.accepts)(&json!({ "no_such_field": 1 })).is_err(), "{}", entry.name);
        let wrong = [true, false].map(|causal| entry.check(&defaults, &Dims { d_model: 64, seq_len: 64, causal }));
        assert!(wrong.iter().any(Vec::is_empty), "{}: {wrong:?}", entry.name);
        assert!(wrong.iter().flatten().all(|e| !e.help.is_empty()), "{}: {wrong:?}", entry.name);
    }
}

/// Runs itself in a process of its own: libtorch's generator is one for all threads, and other tests draw from it.
#[test]
fn the_same_seed_gives_the_same_parameters() {
    const ALONE: &str = "MIXERS_TEST_ALONE";
    let name = concat!(module_path!(), "::the_same_seed_gives_the_same_parameters");
    let (_, name) = name.split_once("::").expect("the crate's name comes first");
    if std::env::var_os(ALONE).is_none() {
        let this = std::env::current_exe().expect("a test knows its own binary");
        let output =
            std::process::Command::new(this).args([name, "--exact"]).env(ALONE, "1").output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    for entry in registry() {
        let draw = |seed| {
            tch::manual_seed(seed);
            let dims = [true, false].map(|causal| Dims { d_model: D_MODEL, seq_len: SEQ_LEN, causal });
            let settings = small(&entry, &json!({}));
            let dims = dims.into_iter().find(|d| entry.check(&settings, d).is_empty()).expect("one of the two");
            let vs = VarStore::new(Device::Cpu);
            entry.build(&settings, &vs.root(), &dims);
            vs.variables()
        };
        let (first, again, other) = (draw(1), draw(1), draw(2));
        assert!(first.iter().all(|(name, t)| t.equal(&again[name])), "{}", entry.name);
        assert!(first.iter().any(|(name, t)| !t.equal(&other[name])), "{} ignores the seed", entry.name);
    }
}

/// The reference dumps kept with the code, at least one of each family below.
fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/goldens");
    let files = std::fs::read_dir(&folder).expect("the fixtures lie beside the code");
    let mut paths: Vec<PathBuf> = files.map(|f| f.expect("a readable folder").path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "safetensors"));
    for family in ["hydra__", "quasiseparable_matrix__", "combiner__fixed", "matrix_mixer__", "matrix_mixer_core__"] {
        let of_it = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(family));
        assert!(paths.iter().any(of_it), "no fixture of {family}");
    }
    paths
}

#[test]
fn every_fixture_is_met() {
    for path in fixtures() {
        match verify(&path) {
            Verdict::Compared(groups) => {
                assert!(!groups.is_empty(), "{}: nothing to compare", path.display());
                assert!(groups.iter().all(|g| g.passed()), "{}: {groups:?}", path.display());
            }
            other => panic!("{}: {other:?}", path.display()),
        }
    }
}

#[test]
fn a_fixture_with_one_number_changed_is_not_met() {
    let folder = std::env::temp_dir().join(format!("mixers-changed-goldens-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for temporary files");
    for path in fixtures() {
        let mut bytes = std::fs::read(&path).expect("a readable fixture");
        let (header, metadata) = safetensors::SafeTensors::read_metadata(&bytes).expect("safetensors");
        let tensors = metadata.tensors();
        let held = |name: &str| ["grad_input.", "grad_param.", "output."].iter().any(|prefix| name.starts_with(prefix));
        let (name, info) = tensors.iter().find(|(name, _)| held(name)).expect("something to compare");
        // The top byte of a little-endian float: this bit of the exponent makes 2 of 0, and much of little.
        let top = 8 + header + info.data_offsets.0 + info.dtype.bitsize() / 8 - 1;
        bytes[top] ^= 0x40;
        let name = format!("{} with one entry of {name} changed", path.display());
        let changed = folder.join(path.file_name().expect("a file"));
        std::fs::write(&changed, bytes).expect("a writable folder");
        let met = matches!(verify(&changed), Verdict::Compared(groups) if groups.iter().all(|g| g.passed()));
        assert!(!met, "{name}");
    }
    std::fs::remove_dir_all(&folder).expect("it was just made");
}
