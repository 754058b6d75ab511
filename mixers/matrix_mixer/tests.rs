use super::*;
use crate::laws::goldens::relative_error;
use crate::laws::testing::noise;
use std::path::PathBuf;
use tch::{Device, Kind};

fn dims(seq_len: i64, causal: bool) -> Dims {
    Dims { d_model: 8, seq_len, causal }
}

/// Dumps of whole layers kept with the code.
fn fixtures() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/goldens");
    let files = std::fs::read_dir(folder).expect("the fixtures lie beside the code");
    let paths = files.map(|f| f.expect("a readable folder").path());
    let layer = |p: &PathBuf| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with("matrix_mixer__"));
    let paths: Vec<PathBuf> = paths.filter(layer).collect();
    assert!(paths.len() >= 13, "{} dumps of 13 kinds of matrix", paths.len());
    paths
}

#[test]
fn m_and_its_product_with_v_are_the_references() {
    for path in fixtures() {
        let golden = Golden::read(&path).expect("a readable dump");
        let tolerance = if golden.kind == Kind::Double { 1e-12 } else { 1e-5 };
        let (_vs, mixer, u) = stored(&golden).expect("a layer");
        let near = |got: &Tensor, key: &str| {
            let error = relative_error(got, golden.tensor(key).expect("a tensor"));
            assert!(error < tolerance, "{}: {key} is {error:.1e} off", path.display());
        };
        if golden.tensor("aux.mix_matrix").is_ok() {
            near(&mixer.materialize(&u, &Context::eval()).expect("a matrix"), "aux.mix_matrix");
        } else {
            assert_eq!(mixer.cfg.matrix, Matrix::Quasiseparable, "{}", path.display());
        }
        let (v, y) = mixer.values(&u, &Context::eval()).expect("values");
        let whole = |t: Tensor| t.transpose(1, 2).flatten(2, 3);
        near(&whole(v.shallow_clone()), "aux.mixer_in");
        near(&whole(if mixer.class.residual() { y + v } else { y }), "aux.mixer_out");
    }
}

#[test]
fn what_cannot_be_built_is_named() {
    let wrong = |settings: Value, causal: bool| -> Vec<&'static str> {
        let cfg: Config = serde_json::from_value(settings).expect("settings");
        let errors = cfg.check(&dims(16, causal));
        assert!(errors.iter().all(|e| !e.help.is_empty() && e.problem.contains('`')), "{errors:?}");
        errors.into_iter().map(|e| e.key).collect()
    };
    let data = |matrix: &str, data_dependent: bool, form: &str| {
        wrong(json!({ "matrix": matrix, "data_dependent": data_dependent, "form": form }), false)
    };
    for matrix in ["toeplitz", "cauchy", "low_rank", "attention", "quasiseparable"] {
        assert!(data(matrix, true, "reference").is_empty() && data(matrix, false, "reference").is_empty(), "{matrix}");
    }
    for matrix in ["dense", "dft"] {
        assert!(data(matrix, false, "reference").is_empty(), "{matrix}");
        assert_eq!(data(matrix, true, "reference"), ["data_dependent"], "{matrix}");
    }
    assert!(data("vandermonde", true, "reference").is_empty() && data("vandermonde", false, "paper").is_empty());
    assert_eq!(data("vandermonde", false, "reference"), ["data_dependent"]);
    for matrix in ["low_rank", "attention", "quasiseparable"] {
        assert_eq!(data(matrix, true, "paper"), ["form"], "{matrix}");
    }
    assert_eq!(wrong(json!({}), true), ["matrix_mixer"]);
    assert_eq!(wrong(json!({ "headdim": 5 }), false), ["headdim"]);
    assert_eq!(wrong(json!({ "qk_dim": 0 }), false), ["qk_dim"]);
    assert_eq!(wrong(json!({ "d_conv": 4 }), false), ["d_conv"]);
    assert_eq!(wrong(json!({ "dt_min": 0.5 }), false), ["dt_min"]);
    assert!(wrong(json!({ "expand": 0 }), false).contains(&"expand"));
}

/// A float64 layer of width 8 for sequences of 6, its parameters moved off their initial values.
fn layer(settings: Value) -> (VarStore, MatrixMixer) {
    layer_for(6, settings)
}

fn layer_for(seq_len: i64, settings: Value) -> (VarStore, MatrixMixer) {
    let cfg: Config = serde_json::from_value(settings).expect("settings");
    let mut vs = VarStore::new(Device::Cpu);
    let mixer = MatrixMixer::new(&vs.root(), &dims(seq_len, false), &cfg);
    vs.double();
    tch::no_grad(|| {
        for (salt, mut parameter) in vs.trainable_variables().into_iter().enumerate() {
            parameter.copy_(&(noise(&parameter.size(), salt as i64 + 1) * 0.7));
        }
    });
    (vs, mixer)
}

#[test]
fn a_learned_toeplitz_matrix_holds_its_lags_in_order_in_the_paper_and_one_off_in_the_reference() {
    for (form, at) in [("paper", [5, 6, 4, 0, 10]), ("reference", [6, 7, 5, 1, 0])] {
        let (vs, mixer) = layer(json!({ "matrix": "toeplitz", "data_dependent": false, "form": form, "headdim": 8 }));
        let c = &vs.variables()["matrix_mixer.conv_params"];
        let m = mixer.materialize(&noise(&[1, 6, 8], 1), &Context::eval()).expect("a matrix");
        // M[t,s] at the lags 0, 1, -1, -5 and 5.
        for ([t, s], at) in [[2, 2], [3, 2], [2, 3], [0, 5], [5, 0]].into_iter().zip(at) {
            let want = c.double_value(&[1, at]) * 0.5 / 6f64.sqrt();
            assert!((m.double_value(&[0, 1, t, s]) - want).abs() < 1e-15, "{form} at {t}, {s}");
        }
    }
}

#[test]
fn a_toeplitz_matrix_of_data_reads_f_behind_and_r_ahead() {
    let (_vs, mixer) = layer(json!({ "matrix": "toeplitz", "form": "paper", "headdim": 8 }));
    let x = noise(&[1, 6, 8], 1);
    let read = mixer.inside(&x, &Context::eval()).1.convolved.expect("f and r").silu();
    let m = mixer.materialize(&x, &Context::eval()).expect("a matrix");
    for (t, s, channel, lag) in [(0, 0, 1, 0), (4, 1, 1, 3), (1, 4, 3, 3), (0, 5, 3, 5)] {
        let want = read.double_value(&[0, lag, channel]) * 0.5 / 6f64.sqrt();
        assert!((m.double_value(&[0, 1, t, s]) - want).abs() < 1e-15, "at {t}, {s}");
    }
}

#[test]
fn a_short_sequence_gives_what_it_gives_padded_with_zeros_to_the_full_length() {
    for matrix in ["dense", "toeplitz", "dft", "cauchy", "low_rank"] {
        let (_vs, mixer) = layer(json!({ "matrix": matrix, "data_dependent": false, "headdim": 8, "qk_dim": 3 }));
        let m = |length: i64| mixer.materialize(&noise(&[1, length, 8], 1), &Context::eval()).expect("a matrix");
        assert!(m(4).equal(&m(6).narrow(2, 0, 4).narrow(3, 0, 4)), "{matrix}");
    }
}

#[test]
#[should_panic(expected = "a sequence of length 7, but parameters for seq_len = 6")]
fn a_sequence_longer_than_the_parameters_is_refused_by_name() {
    let (_vs, mixer) = layer(json!({ "matrix": "dense", "data_dependent": false }));
    let _ = mixer.forward(&noise(&[1, 7, 8], 1), &Context::eval());
}

#[test]
fn the_papers_cauchy_matrix_is_one_over_q_less_k_plus_c_away_from_its_poles() {
    let (vs, mixer) =
        layer(json!({ "matrix": "cauchy", "data_dependent": false, "form": "paper", "headdim": 8, "qk_dim": 1 }));
    let [q, k, bias] = ["q_matrix", "k_matrix", "bias"].map(|n| vs.variables()[&format!("matrix_mixer.{n}")].detach());
    let m = mixer.materialize(&noise(&[1, 6, 8], 1), &Context::eval()).expect("a matrix");
    let x = q.select(1, 1) - k.select(1, 1).transpose(0, 1) + bias * 2.0; // [t, s]
    let near = m.select(1, 1).squeeze_dim(0) * 6f64.sqrt() * &x; // 1 but for the rounding 1e-4 / x²
    let away = x.abs().gt(0.5).to_kind(Kind::Double);
    assert!(away.sum(Kind::Double).double_value(&[]) >= 18.0, "{x:?}");
    assert!(((near - 1.0) * away).abs().max().double_value(&[]) < 1e-3);
}

#[test]
fn sizes_left_out_are_the_ablations() {
    let sizes = |matrix: Matrix, data_dependent: bool| {
        let cfg = Config { matrix, data_dependent, ..Config::default() };
        (cfg.headdim(1536), cfg.qk_dim())
    };
    assert_eq!(sizes(Matrix::Attention, true), (128, 16));
    assert_eq!(sizes(Matrix::Quasiseparable, false), (64, 64));
    assert_eq!(sizes(Matrix::Dense, false).0, 128);
    assert_eq!(sizes(Matrix::Toeplitz, true).0, 64);
    assert_eq!(Config::default().headdim(32), 32);
}

/// The settings of the laws, in heads of 8.
fn variants() -> impl Iterator<Item = Value> {
    Config::variants().into_iter().map(|mut settings| {
        settings["headdim"] = json!(8);
        settings
    })
}

/// The largest rank of the matrices.
fn rank(m: &Tensor) -> i64 {
    let (_, values, _) = m.svd(true, false); // largest first
    let counting = values.ge_tensor(&(values.narrow(-1, 0, 1) * 1e-10)).to_kind(Kind::Int64);
    counting.sum_dim_intlist(-1, false, None::<Kind>).max().int64_value(&[])
}

#[test]
fn every_class_keeps_the_promise_of_its_structure() {
    const LENGTH: i64 = 15;
    let mut promises = 0;
    for settings in variants() {
        let (_vs, mixer) = layer_for(17, settings.clone());
        let m = mixer.materialize(&noise(&[2, LENGTH, 8], 1), &Context::eval()).expect("a matrix");
        let from = |row: i64, column: i64| m.narrow(2, row, LENGTH - row).narrow(3, column, LENGTH - column);
        match mixer.structure() {
            Structure::Dense => continue,
            Structure::Toeplitz => assert!(from(1, 1).equal(&m.narrow(2, 0, LENGTH - 1).narrow(3, 0, LENGTH - 1))),
            Structure::LowRank(most) => assert_eq!(rank(&m), most, "{settings}"),
            Structure::Quasiseparable(most) => {
                let blocks = (1..LENGTH).flat_map(|k| [from(k, 0).narrow(3, 0, k), from(0, k).narrow(2, 0, k)]);
                assert_eq!(blocks.map(|block| rank(&block)).max(), Some(most), "{settings}");
            }
            Structure::Stochastic { full } => {
                let sums = m.sum_dim_intlist(-1, false, None::<Kind>);
                assert!((sums - 1.0).abs().max().double_value(&[]) < 1e-12, "{settings}");
                assert!(full && m.min().double_value(&[]) > 0.0, "{settings}");
            }
        }
        promises += 1;
    }
    assert!(promises >= 10, "{promises} settings promise something");
}

#[test]
fn parameters_at_their_extremes_leave_float32_gradients_finite() {
    for settings in variants() {
        let cfg: Config = serde_json::from_value(settings.clone()).expect("settings");
        for (name, value) in Config::extremes() {
            let vs = VarStore::new(Device::Cpu);
            let mixer = MatrixMixer::new(&vs.root(), &dims(17, false), &cfg);
            for (path, mut parameter) in vs.variables() {
                if path.ends_with(name) {
                    let _ = tch::no_grad(|| parameter.fill_(value));
                }
            }
            let x = noise(&[2, 17, 8], 1).to_kind(Kind::Float).set_requires_grad(true);
            mixer.forward(&x, &Context::eval()).square().sum(Kind::Float).backward();
            for (path, leaf) in vs.variables().into_iter().chain([("x".to_string(), x)]) {
                let largest = leaf.grad().abs().max().double_value(&[]);
                assert!(largest.is_finite(), "`{path}` where {name} is {value}: {settings}");
            }
        }
    }
}
