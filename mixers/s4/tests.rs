use super::recurrent::Recurrence;
use super::*;
use crate::goldens::{Golden, GroupResult, Verdict, relative_error, verify};
use std::path::Path;
use tch::nn::VarStore;
use tch::{Device, Kind};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);
const FIXTURES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures");

fn dims(d_model: i64, seq_len: i64, causal: bool) -> Dims {
    Dims { d_model, seq_len, causal }
}

/// A float64 block with every parameter moved off its initial value.
fn block(cfg: &Config, dims: &Dims) -> (VarStore, Block) {
    tch::manual_seed(7);
    let mut vs = VarStore::new(Device::Cpu);
    let block = Block::new(&vs.root(), dims, cfg);
    vs.set_kind(Kind::Double);
    for (name, mut variable) in vs.variables() {
        if !name.ends_with(".C") {
            tch::no_grad(|| variable.copy_(&(&variable * (variable.rand_like() * 0.2 + 0.9))));
        }
    }
    (vs, block)
}

/// Small settings of every kind of kernel.
fn kinds() -> Vec<Config> {
    let dplr = Config { d_state: 8, dt_min: 0.01, dt_max: 0.2, ..Config::default() };
    let diag = |init, disc| Config { mode: Mode::Diag, init, disc: Some(disc), ..dplr.clone() };
    vec![
        Config { n_ssm: Some(1), dt_transform: DtTransform::Exp, ..dplr.clone() },
        dplr.clone(),
        Config { bandlimit: Some(0.5), ..dplr.clone() },
        diag(StateInit::Legs, Disc::Zoh),
        Config { real_transform: RealTransform::Relu, n_ssm: Some(2), ..diag(StateInit::Lin, Disc::Bilinear) },
        Config { real_transform: RealTransform::Softplus, ..diag(StateInit::Inv, Disc::Dss) },
        Config { bandlimit: Some(0.2), ..diag(StateInit::Lin, Disc::Zoh) },
        diag(StateInit::Real, Disc::Zoh),
    ]
}

/// The value of `f` and the gradient of a fixed functional of it by every parameter.
fn with_gradients(vs: &VarStore, f: impl Fn() -> Tensor) -> Vec<(String, Tensor)> {
    for (_, mut variable) in vs.variables() {
        variable.zero_grad();
    }
    let y = f();
    let probe = Tensor::arange(y.numel() as i64, F64).sin().view_as(&y);
    (&y * probe).sum(Kind::Double).backward();
    let mut all = vec![("value".to_string(), y.detach())];
    for (name, variable) in vs.variables().into_iter().filter(|(_, v)| v.grad().defined()) {
        all.push((name, variable.grad().copy()));
    }
    all.sort_by(|a, b| a.0.cmp(&b.0));
    all
}

fn assert_same(got: &[(String, Tensor)], want: &[(String, Tensor)], tolerance: f64, case: &str) {
    assert_eq!(got.len(), want.len());
    for ((name, got), (_, want)) in got.iter().zip(want) {
        let error = relative_error(got, want);
        assert!(error < tolerance, "{case}: {name} is off by {error:.1e}");
    }
}

/// K[l] = C Ā^l B̄ from the dense discretized system, power by power.
fn powers(kernel: &Kernel, length: i64) -> Tensor {
    let system = kernel.system(Kind::Double, true);
    let (da, mut x) = system.dense();
    let c = system.dense_c(&da, kernel.l_kernel);
    let mut taps = Vec::new();
    for _ in 0..length {
        taps.push((&c * &x).sum_dim_intlist(-1, false, Kind::Double));
        x = da.matmul(&x.unsqueeze(-1)).squeeze_dim(-1);
    }
    Tensor::stack(&taps, -1)
}

/// K[l] = 2 Re Σ_n C_n B̄_n Ā_n^l as S4D's paper writes it; DSS without the 2 and divided by the sum of its powers.
fn diagonal_powers(kernel: &Kernel, length: i64) -> Tensor {
    let system = kernel.system(Kind::Double, true);
    let (a, dta) = (&system.a, &system.a * &system.dt);
    let (a_bar, b_bar, pair) = match kernel.disc {
        Disc::Zoh => (dta.exp(), &system.b * (dta.exp() - 1.0) / a, 2.0),
        Disc::Bilinear => {
            let below = -&dta / 2.0 + 1.0;
            ((&dta / 2.0 + 1.0) / &below, &system.b * &system.dt / below, 2.0)
        }
        Disc::Dss => {
            let x = a * ((&dta * kernel.l_kernel).exp() - 1.0);
            let guarded = x.conj() / (&x * x.conj() + 1e-7);
            (dta.exp(), &system.b * (dta.exp() - 1.0) * guarded, 1.0)
        }
    };
    let mut term = &system.c * b_bar;
    let mut taps = Vec::new();
    for _ in 0..length {
        taps.push(term.real().sum_dim_intlist(-1, false, Kind::Double) * pair);
        term = &term * &a_bar;
    }
    Tensor::stack(&taps, -1)
}

#[test]
fn the_fast_kernel_equals_explicit_powers_below_at_and_past_the_tuned_length() {
    for cfg in kinds() {
        let (vs, block) = block(&cfg, &dims(4, 12, false));
        let kernel = &block.layer.kernel;
        for length in [1, 2, 7, 12, 13, 40] {
            let fast = with_gradients(&vs, || kernel.kernel(length));
            let slow = with_gradients(&vs, || match cfg.mode {
                Mode::Dplr => powers(kernel, length),
                Mode::Diag => diagonal_powers(kernel, length),
            });
            assert_same(&fast, &slow, 1e-9, &format!("{cfg:?} at {length}"));
        }
    }
}

#[test]
fn a_longer_forward_leaves_the_tuned_parameter_alone() {
    let (vs, block) = block(&kinds()[1], &dims(4, 12, true));
    let before = vs.variables()["layer.kernel.C"].copy();
    let short = block.layer.kernel.kernel(12);
    let long = block.layer.kernel.kernel(50);
    assert!(relative_error(&long.narrow(-1, 0, 12), &short) < 1e-9);
    assert!(vs.variables()["layer.kernel.C"].equal(&before));
}

#[test]
fn one_token_at_a_time_equals_the_convolution() {
    for cfg in kinds() {
        let (_vs, block) = block(&cfg, &dims(4, 12, true));
        let x = Tensor::randn([2, 17, 4], F64);
        let whole = block.forward(&x, &Context::eval());
        let mut stepper = block.recurrent().expect("one direction has a recurrence");
        for _ in 0..2 {
            stepper.reset(2);
            let steps: Vec<Tensor> = (0..17).map(|t| stepper.step(&x.select(1, t))).collect();
            let error = relative_error(&Tensor::stack(&steps, 1), &whole);
            assert!(error < 1e-9, "{cfg:?} is off by {error:.1e}");
        }
        assert_eq!(stepper.state_bytes(), 2 * 2 * block.cost(17).state_bytes, "float64, batch of two: {cfg:?}");
    }
}

#[test]
fn the_recurrence_meets_the_reference_steps() {
    for (case, steps) in [
        ("dplr_legs_L30", &["y_step_dense", "y_step_linear", "y_step_diagonal"][..]),
        ("diag_inv_bilinear_L20", &["y_step_diag"]),
        ("diag_lin_zoh_L31", &["y_step_diag"]),
    ] {
        let golden = Golden::read(Path::new(&format!("{FIXTURES}/s4_step__{case}.f64.safetensors"))).unwrap();
        let layer = replay::stored_convolution(&golden, &VarStore::new(Device::Cpu)).unwrap();
        let x = golden.input("x").unwrap(); // [batch, d_model, length]
        let mut recurrence = Recurrence::of(&layer.kernel);
        let step = |t| recurrence.step(&x.select(2, t)) + x.select(2, t) * layer.d.squeeze_dim(0);
        let taken: Vec<Tensor> = (0..x.size()[2]).map(step).collect();
        let y = Tensor::stack(&taken, 2).gelu("none");
        let convolved = layer.apply(&x).squeeze_dim(1).gelu("none");
        assert!(relative_error(&convolved, golden.tensor("output.y").unwrap()) < 1e-9, "{case}");
        for name in steps {
            let error = relative_error(&y, golden.tensor(&format!("aux.{name}")).unwrap());
            assert!(error < 1e-9, "{case}: {name} is off by {error:.1e}");
        }
    }
}

#[test]
fn the_toeplitz_matrix_times_the_input_is_the_convolution() {
    for (causal, length) in [(true, 9), (false, 9), (true, 1), (false, 1), (false, 20)] {
        let (_vs, block) = block(&kinds()[1], &dims(4, 12, causal));
        let x = Tensor::randn([2, length, 4], F64);
        let ctx = Context { train: false, lengths: Some(Tensor::from_slice(&[length, (length + 1) / 2])) };
        let m = block.materialize(&x, &ctx).unwrap();
        let (v, y) = block.values(&x, &ctx).unwrap();
        assert_eq!(m.size(), [1, 4, length, length]);
        assert!(relative_error(&m.matmul(&v), &y) < 1e-10);
        let future = m.triu(1).abs().max().double_value(&[]);
        assert_eq!(future == 0.0, causal || length == 1);
    }
}

#[test]
fn neither_content_nor_amount_of_padding_reaches_a_valid_position() {
    for cfg in kinds() {
        let (_vs, block) = block(&cfg, &dims(4, 12, false));
        let ctx = Context { train: false, lengths: Some(Tensor::from_slice(&[5i64, 3])) };
        let x = Tensor::randn([2, 9, 4], F64);
        let noise = ctx.valid(9, Device::Cpu).unwrap().logical_not().unsqueeze(-1).to_kind(Kind::Double);
        let other = Tensor::cat(&[&x + noise * 100.0, Tensor::randn([2, 8, 4], F64)], 1);
        let (y, z) = (block.forward(&x, &ctx), block.forward(&other, &ctx));
        for (row, length) in [(0, 5), (1, 3)] {
            let valid = |t: &Tensor| t.get(row).narrow(0, 0, length);
            let error = relative_error(&valid(&z), &valid(&y));
            assert!(error < 1e-10, "{cfg:?} is off by {error:.1e}");
        }
    }
}

#[test]
fn a_tied_mask_is_the_same_at_every_position() {
    for (tie_dropout, same) in [(true, true), (false, false)] {
        let (_vs, block) = block(&Config { tie_dropout, dropout: 0.5, ..kinds()[1].clone() }, &dims(8, 12, false));
        let dropped = block.dropout(&Tensor::ones([2, 12, 8], F64), true);
        let spread = (dropped.amax(1, false) - dropped.amin(1, false)).max().double_value(&[]);
        assert_eq!(spread == 0.0, same);
        assert!(block.dropout(&Tensor::ones([2, 12, 8], F64), false).eq(1.0).all().int64_value(&[]) == 1);
    }
}

#[test]
fn cost_counts_the_parameters_there_are() {
    for cfg in kinds() {
        for (causal, final_act) in [(true, FinalAct::Glu), (false, FinalAct::Id)] {
            let (vs, block) = block(&Config { final_act, ..cfg.clone() }, &dims(4, 12, causal));
            let counted: i64 = vs.variables().values().map(|v| v.numel() as i64).sum();
            assert_eq!(block.cost(12).params, counted);
        }
    }
}

#[test]
fn a_dt_and_b_are_spared_weight_decay_and_c_is_not() {
    let cfg = Config { lr: Some(0.001), ..kinds()[0].clone() };
    let (vs, block) = block(&cfg, &dims(4, 12, false));
    let rules = block.param_rules();
    let rule = |name: &str| rules.iter().find(|r| r.name == format!("layer.kernel.{name}"));
    for name in ["A_real", "A_imag", "B", "P"] {
        assert_eq!(rule(name).map(|r| (r.lr, r.weight_decay)), Some((Some(0.001), Some(0.0))), "{name}");
    }
    assert_eq!(rule("inv_dt").map(|r| (r.lr, r.weight_decay)), Some((None, Some(0.0))));
    assert!(rule("C").is_none() && rules.len() == 5);
    assert!(rules.iter().all(|r| vs.variables().contains_key(&r.name)));
}

#[test]
fn initial_steps_lie_in_the_range_asked_for() {
    for dt_transform in [DtTransform::Exp, DtTransform::Softplus] {
        let cfg = Config { dt_transform, d_state: 4, n_ssm: Some(1), dt_min: 0.002, dt_max: 0.05, ..Config::default() };
        let vs = VarStore::new(Device::Cpu);
        let built = Block::new(&vs.root(), &dims(256, 8, true), &cfg);
        let dt = built.layer.kernel.system(Kind::Double, true).dt;
        let (low, high) = (dt.min().double_value(&[]), dt.max().double_value(&[]));
        assert!(low > 0.00199 && low < 0.003 && high < 0.05001 && high > 0.03, "{low} to {high}");
    }
}

#[test]
fn what_cannot_be_is_refused_by_key() {
    let keys = |cfg: Config, causal| {
        let errors = cfg.check(&dims(8, 16, causal));
        errors.iter().map(|e| e.key).collect::<Vec<_>>()
    };
    let base = Config::default;
    assert!(keys(base(), true).is_empty() && keys(base(), false).is_empty());
    assert!(keys(Config { mode: Mode::Diag, init: StateInit::Inv, disc: Some(Disc::Dss), ..base() }, true).is_empty());
    assert_eq!(keys(Config { bidirectional: Some(true), ..base() }, true), ["bidirectional"]);
    assert_eq!(keys(Config { init: StateInit::Lin, ..base() }, true), ["init"]);
    assert_eq!(keys(Config { disc: Some(Disc::Zoh), ..base() }, true), ["disc"]);
    assert_eq!(keys(Config { n_ssm: Some(3), d_state: 5, ..base() }, true), ["d_state", "n_ssm"]);
    assert_eq!(keys(Config { dt_min: 0.2, dropout: f64::NAN, ..base() }, true), ["dt_min", "dropout"]);
}

#[test]
fn the_kept_reference_dumps_are_met() {
    let mut seen = 0;
    for entry in std::fs::read_dir(format!("{FIXTURES}/goldens")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let family = name.split("__").next().unwrap();
        if !["s4_block", "s4_fftconv", "s4_kernel_diag", "s4_kernel_dplr", "hippo_init"].contains(&family) {
            continue;
        }
        match verify(&path) {
            Verdict::Compared(groups) => assert!(groups.iter().all(GroupResult::passed), "{name}: {groups:?}"),
            other => panic!("{name}: {other:?}"),
        }
        seen += 1;
    }
    assert!(seen >= 20, "only {seen} dumps");
}
