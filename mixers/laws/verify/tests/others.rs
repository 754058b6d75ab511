//! Dumps of BiGS, Combiner, HiPPO and the cores of Hydra's matrices.

use super::{Made, built, joined, leaf, moved, recurrence};
use crate::math::hippo;
use crate::{Context, Dims};
use serde_json::{Value, json};
use std::f64::consts::PI;
use tch::nn::{self, Module};
use tch::{Device, Kind, Tensor};

/// BiGS's kernel as a sum, `[1, length]`, and its parameters under `prefix`.
fn bigs_kernel(n: i64, length: i64, prefix: &str) -> (Tensor, Vec<(String, Tensor)>) {
    let parameter = |name: &str, value: Tensor| (format!("{prefix}{name}"), value.set_requires_grad(true));
    let turns = Tensor::arange(n, (Kind::Double, Device::Cpu)) * PI;
    let params = vec![
        parameter("C", leaf(&[n, 2], 1).detach()),
        parameter("A_re", leaf(&[n], 2).detach() * 0.2 - 0.6),
        parameter("A_im", leaf(&[n], 3).detach() * 0.1 + turns),
        parameter("log_step", leaf(&[1], 4).detach() - 2.0),
    ];
    let [c, re, im, step] = [0, 1, 2, 3].map(|i| &params[i].1);
    let a = Tensor::complex(re, im);
    let x = &a * step.exp();
    let weights = c.view_as_complex() * (x.exp() - 1.0) / &a;
    let at = |l: i64| (&weights * (&x * l).exp()).real().sum(Kind::Double);
    (Tensor::stack(&(0..length).map(at).collect::<Vec<_>>(), 0).unsqueeze(0), params)
}

pub(super) fn of_bigs() -> Vec<Made> {
    let mut made = Vec::new();
    for (n, length) in [(3, 7), (5, 1)] {
        let (k, params) = bigs_kernel(n, length, "");
        made.push(Made::new("bigs_kernel", &json!({ "N": n, "L": length }).to_string(), &[], &params, &[("K", &k)]));
    }
    let (n, length) = (3, 7);
    let (k, mut params) = bigs_kernel(n, length, "kernel.");
    let (u, d) = (leaf(&[2, length, 4], 8), leaf(&[1], 9));
    let at = |t: i64| {
        let past = u.narrow(1, 0, t + 1).flip([1]) * k.narrow(1, 0, t + 1).transpose(0, 1);
        past.sum_dim_intlist(1, false, Kind::Double) + u.select(1, t) * &d
    };
    let y = Tensor::stack(&(0..length).map(at).collect::<Vec<_>>(), 1);
    params.push(("D".into(), d));
    let config = json!({ "batch": 2, "L": length, "hidden_size": 4, "num_ssm": n });
    made.push(Made::new("bigs_ssm", &config.to_string(), &[("u", &u)], &params, &[("y", &y)]));
    for (more, eps) in [(json!({}), 1e-12), (json!({ "layer_norm_eps": 0.01, "hidden_act": "gelu" }), 0.01)] {
        let settings = json!({ "d_ff": 5, "d_state": n, "mask_padding": false });
        let (mut vs, mixer, _) = built("bigs", &settings, &Dims { d_model: 4, seq_len: length, causal: false });
        let norm = nn::LayerNormConfig { eps, ..Default::default() };
        let norm = nn::layer_norm(vs.root() / "LayerNorm", vec![4], norm);
        let params = moved(&mut vs);
        let x = leaf(&[2, length, 4], 8);
        let y = &x + mixer.forward(&norm.forward(&x), &Context::eval());
        let config =
            joined(&json!({ "batch": 2, "L": length, "hidden_size": 4, "intermediate_size": 5, "num_ssm": n }), &more);
        made.push(Made::new("bigs_layer", &config.to_string(), &[("x", &x)], &params, &[("y", &y)]));
    }
    made
}

pub(super) fn of_hippo() -> Vec<Made> {
    let made = |n: i64| {
        let ((a, b, p), nplr) = (hippo::legs(n), hippo::nplr_legs(n));
        let pair = |z: &Tensor| z.resolve_conj().view_as_real();
        let product = pair(&(nplr.p.conj() * &nplr.b));
        let (lambda, abs_b, abs_p) = (pair(&nplr.lambda), nplr.b.abs(), nplr.p.abs());
        let outputs = [
            ("A_dense", &a),
            ("B_dense", &b),
            ("P_dense", &p),
            ("Lambda", &lambda),
            ("abs_B", &abs_b),
            ("abs_P", &abs_p),
            ("conjP_times_B", &product),
        ];
        Made::new("hippo_init", &json!({ "N": n }).to_string(), &[], &[], &outputs)
    };
    [2, 6, 10].map(made).into()
}

/// The attention of one pattern in a whole module, with `d_model` not the heads' width.
fn module(theirs: &Value, ours: &Value, d_model: i64, causal: bool, variant: &str) -> Made {
    let (heads, d, length) = (2, 3, 12);
    let settings = joined(&json!({ "n_heads": heads, "d_head": d }), ours);
    let (_vs, mixer, params) = built("combiner", &settings, &Dims { d_model, seq_len: length, causal });
    let x = leaf(&[2, length, d_model], 77);
    let y = mixer.forward(&x, &Context::eval());
    let config = json!({ "H": heads, "d": d, "L": length, "batch": 2, "level": "module", "causal": causal });
    let made = Made::new("combiner", &joined(&config, theirs).to_string(), &[("x", &x)], &params, &[("y", &y)]);
    Made { variant: variant.into(), ..made }
}

/// Causal Fixed, as its formula stands: one row of M at a time.
fn fixed_core(map: &str, pool: &str) -> Made {
    let (heads, d, length, w) = (2, 3, 12, 4);
    let [q, k, v] = [1, 2, 3].map(|salt| leaf(&[2, length, heads, d], salt));
    let weights = [("pooling_query", 4), ("pooling_key", 5)]
        .map(|(name, salt)| (format!("{name}.dense.weight"), leaf(&[d, d], salt)));
    let scaled = &q / f64::from(d as i32).sqrt();
    let mapped = |t: &Tensor, i: usize| match map {
        "identity" => t.shallow_clone(),
        "relu" => t.relu(),
        _ => t.matmul(&weights[i].1).relu(),
    };
    let pooled = |t: &Tensor, segment: i64| {
        let t = t.narrow(1, segment * w, w);
        match pool {
            "max" => t.amax([1], false),
            "mean" => t.mean_dim([1].as_slice(), false, Kind::Double),
            _ => t.sum_dim_intlist([1].as_slice(), false, Kind::Double),
        }
    };
    let sum = |t: Tensor, axis: i64| t.sum_dim_intlist(axis, false, Kind::Double);
    let (queries, keys) = (mapped(&scaled, 0), mapped(&k, 1));
    // Of each segment its key and its value, `[batch, heads, d]`.
    let regions: Vec<[Tensor; 2]> = (0..length / w)
        .map(|segment| {
            let inside = |t: &Tensor| t.narrow(1, segment * w, w);
            let logits = sum(pooled(&queries, segment).unsqueeze(1) * inside(&k), -1); // [batch, w, heads]
            let p = logits.softmax(1, Kind::Double).unsqueeze(-1);
            [pooled(&keys, segment), sum(p * inside(&v), 1)]
        })
        .collect();
    let at = |t: i64| {
        let own = t / w * w;
        let mut read: Vec<[Tensor; 2]> = (own..=t).map(|s| [k.select(1, s), v.select(1, s)]).collect();
        read.extend(regions[..(t / w) as usize].iter().map(|r| r.each_ref().map(Tensor::shallow_clone)));
        let [keys, values] = [0, 1].map(|i| Tensor::stack(&read.iter().map(|r| &r[i]).collect::<Vec<_>>(), 1));
        let p = sum(scaled.select(1, t).unsqueeze(1) * keys, -1).softmax(1, Kind::Double).unsqueeze(-1);
        sum(p * values, 1)
    };
    let o = Tensor::stack(&(0..length).map(at).collect::<Vec<_>>(), 1);
    let config = json!({ "H": heads, "d": d, "L": length, "batch": 2, "w": w, "level": "core", "causal": true, "fn": "fixed",
                         "local_summary": format!("{map}-{pool}") });
    let params: &[(String, Tensor)] = if map == "deepset" { &weights } else { &[] };
    Made::new("combiner", &config.to_string(), &[("q", &q), ("k", &k), ("v", &v)], params, &[("o", &o)])
}

pub(super) fn of_combiner() -> Vec<Made> {
    let mut made = Vec::new();
    for map in ["identity", "relu", "deepset"] {
        made.extend(["max", "mean", "sum"].map(|pool| fixed_core(map, pool)));
    }
    let tf = json!({ "naming": "tf", "bias": true });
    for (theirs, ours, causal, variant) in [
        (json!({ "fn": "fixed", "w": 4 }), json!({ "segment": 4 }), true, ""),
        (
            json!({ "fn": "fixed", "w": 4, "local_summary": "deepset-sum" }),
            json!({ "segment": 4, "map": "deepset", "pool": "sum", "own_segment": true }),
            false,
            "fixed_bidir_ref",
        ),
        (json!({ "fn": "logsparse", "w": 0 }), json!({ "pattern": "logsparse" }), true, ""),
        (json!({ "fn": "axial_vertical", "w": 3 }), json!({ "pattern": "vertical", "segment": 3 }), true, ""),
        (json!({ "fn": "axial_horizontal", "w": 6 }), json!({ "pattern": "horizontal", "segment": 6 }), true, ""),
        (
            json!({ "fn": "mixture_joint", "w": 4, "pool": "sum" }),
            json!({ "pattern": "mixture_joint", "segment": 4, "pool": "sum" }),
            false,
            "",
        ),
        (json!({ "fn": "mixture_avg", "w": 4 }), json!({ "pattern": "mixture_averaged", "segment": 4 }), true, ""),
        (json!({ "fn": "rowmajor", "w": 4 }), json!({ "pattern": "rowmajor", "segment": 4 }), true, ""),
        (
            json!({ "fn": "rowmajor", "w": 4, "row_summary": "wsum_proj", "ln_eps": 1e-5 }),
            joined(&json!({ "pattern": "rowmajor", "segment": 4, "row_summary": "wsum_proj" }), &tf),
            true,
            "",
        ),
        (
            json!({ "fn": "rowmajor", "w": 3, "row_summary": "none" }),
            json!({ "pattern": "rowmajor", "segment": 3, "row_summary": "none" }),
            true,
            "",
        ),
    ] {
        made.extend([6, 5].map(|d_model| module(&theirs, &ours, d_model, causal, variant)));
    }
    made
}

/// The scans of both directions, each one step late, and the diagonal.
pub(super) fn of_quasiseparable() -> Vec<Made> {
    let made = |(heads, d_head, groups, d_state, length): (i64, i64, i64, i64, i64)| {
        let dt = |salt| (leaf(&[2, length, heads], salt).detach() / 4.0 + 0.4).set_requires_grad(true);
        let map = |salt| leaf(&[2, length, groups, d_state], salt);
        let x = leaf(&[2, length, heads, d_head], 1);
        let a = (leaf(&[heads], 2).detach() / 2.0 - 1.0).set_requires_grad(true);
        let (forward, backward) = ([map(3), map(4)], [map(5), map(6)]);
        let (dt_forward, dt_backward, diagonal) = (dt(7), dt(8), leaf(&[2, length, heads], 9));
        let late = |y: &Tensor| Tensor::cat(&[y.narrow(1, 0, 1) * 0.0, y.narrow(1, 0, length - 1)], 1);
        let [past, _] = recurrence(&x, &dt_forward, &a, forward.each_ref(), None);
        let turned = backward.each_ref().map(|t| t.flip([1]));
        let [future, _] = recurrence(&x.flip([1]), &dt_backward.flip([1]), &a, turned.each_ref(), None);
        let y = late(&past) + late(&future).flip([1]) + &x * diagonal.unsqueeze(-1);
        let inputs = [
            ("x", &x),
            ("A", &a),
            ("dt_fwd", &dt_forward),
            ("B_fwd", &forward[0]),
            ("C_fwd", &forward[1]),
            ("dt_bwd", &dt_backward),
            ("B_bwd", &backward[0]),
            ("C_bwd", &backward[1]),
            ("diag", &diagonal),
        ];
        let config = json!({ "batch": 2, "L": length, "nheads": heads, "headdim": d_head, "ngroups": groups,
                             "d_state": d_state, "chunk_size": 4 });
        Made::new("quasiseparable_matrix", &config.to_string(), &inputs, &[], &[("y", &y)])
    };
    [(2, 3, 1, 2, 7), (4, 2, 2, 3, 5)].map(made).into()
}

/// The learned Vandermonde matrix of the reference: its rows' sums, one a head and position, times v.
pub(super) fn of_matrix_cores() -> Vec<Made> {
    let made = |(headdim, qk_dim, length): (i64, i64, i64)| {
        let (d_model, d_inner) = (3 * headdim, 6 * headdim);
        let v = leaf(&[2, length, d_inner], 1);
        let [q, k] = [2, 3].map(|salt| (leaf(&[6, qk_dim, length], salt).detach() * 0.5).set_requires_grad(true));
        let steps = Tensor::arange(length, (Kind::Double, Device::Cpu));
        // [heads, t, s]: cos of t's query angle times s, and of s's key angle times t.
        let waves = |t: &Tensor| ((t.transpose(1, 2) * (2.0 * PI)).unsqueeze(-1) * &steps).cos();
        let [q_wave, k_wave] = [&q, &k].map(|t| waves(t).sum_dim_intlist(2, false, Kind::Double));
        let sums = (q_wave + k_wave.transpose(1, 2)).sum_dim_intlist(-1, false, Kind::Double).transpose(0, 1);
        let scale = 1.0 / ((2 * length * qk_dim) as f64).sqrt();
        let y = (v.unflatten(-1, [-1, headdim]) * sums.unsqueeze(-1)).flatten(2, 3) * scale + &v;
        let config = json!({ "batch": 2, "L": length, "d_model": d_model, "headdim": headdim, "qk_dim": qk_dim,
                             "max_seq_len": length, "is_dft": false });
        let params = [("q_bias".to_string(), q), ("k_bias".to_string(), k)];
        Made::new("matrix_mixer_core", &config.to_string(), &[("v", &v)], &params, &[("y", &y)])
    };
    [(2, 2, 5), (1, 3, 8)].map(made).into()
}

/// Whether `made` ends so, saying that.
fn ends(made: &Made, folder: &std::path::Path, verdict: &str, name: &str) {
    let (passed, message) = made.verified(folder);
    assert!(!passed && message.starts_with(verdict) && message.contains(name), "{}: {message}", made.label);
}

#[test]
fn what_a_combiner_s_core_lacks_is_unsupported_by_its_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let core = fixed_core("identity", "max").with("fn", json!("rowmajor"));
    ends(&core, folder.path(), "Unsupported(", "`row_summary`");
    let wide = fixed_core("identity", "max").with("w", json!(1 << 19));
    ends(&wide, folder.path(), "Broken(", "config `w` is 524288");
}

#[test]
fn a_masked_language_model_s_keys_must_not_contradict_each_other() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = super::of_masked_lms().remove(0);
    ends(&made.with("tie_word_embeddings", json!(false)), folder.path(), "Broken(", "`tie_word_embeddings` is false");
    let (passed, message) = made.with("tie_word_embeddings", json!(true)).verified(folder.path());
    assert!(passed, "{message}");
    ends(&made.with("pad_token_id", Value::Null), folder.path(), "Unsupported(", "`pad_token_id`");
}

#[test]
fn the_bias_of_a_scan_s_steps_takes_part_with_a_gradient_or_a_softplus() {
    let folder = tempfile::tempdir().expect("a folder");
    // Bit 2 is the bias, bit 4 the softplus.
    let ssd = super::of_ssd();
    let constant = ssd[0b01_0100].clone().without("grad_input.dt_bias");
    let (passed, message) = constant.verified(folder.path());
    assert!(passed, "read by the softplus: {message}");
    let (passed, message) = ssd[0b00_0100].verified(folder.path());
    assert!(passed, "it has a gradient: {message}");
    let left_out = ssd[0b00_0100].clone().without("grad_input.dt_bias");
    let (passed, message) = left_out.verified(folder.path());
    assert!(!passed && message.starts_with("Compared("), "without either it is not read: {message}");
}

/// The reference makes its Fourier matrix in float32, angles included.
#[test]
fn a_fourier_matrix_made_in_float32_is_met_at_length_64() {
    let folder = tempfile::tempdir().expect("a folder");
    let length = 64;
    let sizes = json!({ "d_model": 8, "qk_dim": 3, "headdim": 4, "L": length, "max_seq_len": length });
    let theirs = json!({ "matrix_mixer_type": "vandermonde", "is_data_dependent": false });
    let ours = json!({ "matrix": "dft", "data_dependent": false });
    let made = super::module("matrix_mixer", "matrix_mixer", &sizes, &theirs, &ours);
    let at = Tensor::arange(length, (Kind::Float, Device::Cpu));
    let held = ((at.unsqueeze(1) * (2.0 * PI)) * &at / length as f64).cos();
    let mut single = made.in_single();
    single.put("buffer.matrix_mixer.dft_matrix", &held);
    let (passed, message) = single.verified(folder.path());
    assert!(passed, "{message}");
    single.put("buffer.matrix_mixer.dft_matrix", &(held + 1e-3));
    ends(&single, folder.path(), "Broken(", "dft_matrix");
    let mut double = made.clone();
    double.put("buffer.matrix_mixer.dft_matrix", &(super::cosines(length) + 1e-8));
    ends(&double, folder.path(), "Broken(", "dft_matrix");
}

/// A key bias under a softmax moves nothing: the reference gives its gradient as rounding noise, or names it in `no_grad_flow`.
#[test]
fn a_gradient_that_is_zero_but_for_rounding_is_met_whether_it_is_there_or_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let bias = super::shifted_attention();
    assert!(bias.no_grad_flow.is_empty());
    // Not the noise that is found here.
    let mut other = bias.clone();
    other.put("grad_param.k.bias", &(bias.held("grad_param.k.bias") * -3.0));
    let mut named = bias.clone().without("grad_param.k.bias");
    named.no_grad_flow.push("grad_param.k.bias".into());
    for made in [&bias, &other, &named] {
        let (passed, message) = made.verified(folder.path());
        assert!(passed, "{message}");
    }
    let mut wrong = bias.clone().without("grad_param.v.bias");
    wrong.no_grad_flow.push("grad_param.v.bias".into());
    ends(&wrong, folder.path(), "Broken(", "`no_grad_flow` names `grad_param.v.bias`");
}
