//! S4, S4D and their kernels as matrices: every Ā is written out and applied step by step. Nothing of `crate::s4` is used.

use super::{Made, joined, leaf};
use crate::laws::testing::noise;
use serde_json::{Value, json};
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

/// One bank of state spaces by its parameters, with the settings of the reference.
struct Bank {
    config: Value,
    params: Vec<(String, Tensor)>,
    prefix: &'static str,
    length: i64,
    /// The length that C̃ belongs to; `None` for S4D.
    tuned: Option<i64>,
}

/// In discrete time, complex: Ā `[H, m, m]`, B̄ `[H, m]`, C `[outputs, H, m]`; the kernel is `factor · Re(C Ā^l B̄)`.
struct Discrete {
    a: Tensor,
    b: Tensor,
    c: Tensor,
    factor: f64,
}

const H: i64 = 4;
/// Complex modes, or real ones.
const N: i64 = 3;

fn complex(t: &Tensor) -> Tensor {
    t.to_kind(Kind::ComplexDouble)
}

impl Bank {
    /// Random parameters in the shapes that `config` asks for.
    fn new(config: &Value, prefix: &'static str, length: i64, tuned: Option<i64>) -> Self {
        let int = |key: &str, default: i64| config.get(key).and_then(Value::as_i64).unwrap_or(default);
        let flag = |key: &str| config.get(key).and_then(Value::as_bool);
        let (copies, rank) = (int("n_ssm", H), int("rank", 1));
        let outputs = int("channels", 1) * if flag("bidirectional") == Some(true) { 2 } else { 1 };
        let real = flag("is_real") == Some(true);
        let steps = if flag("dt_tie") == Some(false) { N } else { 1 };
        let pair = |mut shape: Vec<i64>| {
            shape.extend((!real).then_some(2));
            shape
        };
        let parameter = |name: &str, value: Tensor| (format!("{prefix}{name}"), value.set_requires_grad(true));
        let turns = (Tensor::arange(N, (Kind::Double, Device::Cpu)) + 0.5) * 2.0;
        let mut params = vec![
            parameter("inv_dt", noise(&[H, steps], 1) * 0.4 - 1.5),
            parameter("A_real", noise(&[copies, N], 2) * 0.3 + 0.4),
            parameter("B", noise(&pair(vec![1, copies, N]), 4) + 0.5),
            parameter("C", noise(&pair(vec![outputs, H, N]), 5)),
        ];
        if !real {
            params.push(parameter("A_imag", noise(&[copies, N], 3) * 0.2 + turns));
        }
        if tuned.is_some() {
            params.push(parameter("P", noise(&[rank, copies, N, 2], 6) * 0.4));
        }
        Self { config: config.clone(), params, prefix, length, tuned }
    }

    fn get(&self, name: &str) -> Option<&Tensor> {
        let name = format!("{}{name}", self.prefix);
        self.params.iter().find(|(key, _)| *key == name).map(|(_, t)| t)
    }

    fn word(&self, key: &str, default: &'static str) -> String {
        self.config.get(key).and_then(Value::as_str).unwrap_or(default).to_string()
    }

    fn rate(&self) -> f64 {
        self.config.get("rate").and_then(Value::as_f64).unwrap_or(1.0)
    }

    fn discrete(&self) -> Discrete {
        let parameter = |name| self.get(name).expect("a parameter");
        let (raw_dt, raw_a) = (parameter("inv_dt"), parameter("A_real"));
        let at_one = if self.word("dt_transform", "exp") == "exp" { raw_dt.exp() } else { raw_dt.softplus() };
        let dt = &at_one * self.rate();
        let real = -match self.word("real_transform", "exp").as_str() {
            "exp" => raw_a.exp(),
            "relu" => raw_a.relu() + 1e-4,
            "softplus" => raw_a.softplus(),
            _ => raw_a.shallow_clone(),
        };
        let imag = self.get("A_imag").map_or_else(|| real.zeros_like(), |imag| -imag);
        let number = |t: &Tensor| if self.get("A_imag").is_some() { t.view_as_complex() } else { complex(t) };
        let copies = raw_a.size()[0];
        let dealt = |t: &Tensor, axis: i64| Tensor::cat(&vec![t; (H / copies) as usize], axis);
        let a = dealt(&Tensor::complex(&real, &imag), 0);
        let b = dealt(&number(parameter("B")).squeeze_dim(0), 0);
        let mut c = number(parameter("C"));
        if let Some(share) = self.config.get("bandlimit").and_then(Value::as_f64) {
            let turns = &at_one * dealt(&imag, 0).abs() / (2.0 * PI);
            c = c * complex(&turns.lt(share / 2.0).to_kind(Kind::Double));
        }
        match self.tuned {
            Some(tuned) => low_rank(&dt, &a, &b, &c, &dealt(&parameter("P").view_as_complex(), 1), tuned, self.rate()),
            None => diagonal(&self.word("disc", "zoh"), &dt, &a, &b, &c, self.lags()),
        }
    }

    /// Lags of the kernel.
    fn lags(&self) -> i64 {
        let most = self.config.get("l_max").and_then(Value::as_i64).filter(|_| !self.prefix.is_empty());
        most.map_or(self.length, |most| self.length.min((most as f64 / self.rate()).round_ties_even() as i64))
    }

    fn made(&self, family: &'static str, inputs: &[(&str, &Tensor)], outputs: &[(&str, &Tensor)]) -> Made {
        let sizes =
            json!({ "d_model": H, "d_state": if self.get("A_imag").is_some() { 2 * N } else { N }, "L": self.length });
        let made = Made::new(family, &joined(&sizes, &self.config).to_string(), inputs, &self.params, outputs);
        match self.tuned {
            Some(tuned) => made.whole(&format!("buffer.{}l_kernel", self.prefix), tuned),
            None => made,
        }
    }

    /// A state before the first position, and how it stands in Ā's coordinates.
    fn state(&self) -> (Tensor, Tensor) {
        if self.get("A_imag").is_none() {
            let state = leaf(&[2, H, N], 31);
            let inner = complex(&state);
            return (state, inner);
        }
        let state = leaf(&[2, H, N, 2], 31);
        let half = state.view_as_complex();
        let inner = if self.tuned.is_some() { Tensor::cat(&[half.shallow_clone(), half.conj()], -1) } else { half };
        (state, inner)
    }
}

fn diagonal(disc: &str, dt: &Tensor, a: &Tensor, b: &Tensor, c: &Tensor, length: i64) -> Discrete {
    let x = a * dt;
    let (step, b, factor) = match disc {
        "zoh" => (x.exp(), b * (x.exp() - 1.0) / a, 2.0),
        "bilinear" => ((&x / 2.0 + 1.0) / (-&x / 2.0 + 1.0), b * dt / (-&x / 2.0 + 1.0), 2.0),
        _ => {
            let sum = ((&x * length).exp() - 1.0) * a;
            (x.exp(), b * (x.exp() - 1.0) * sum.conj() / (&sum * sum.conj() + 1e-7), 1.0)
        }
    };
    Discrete { a: step.diag_embed(0, -2, -1), b, c: c.shallow_clone(), factor }
}

/// Both halves of every pair, `A = Λ - P P*`, and C from C̃ by the matrix that made it.
fn low_rank(dt: &Tensor, a: &Tensor, b: &Tensor, c: &Tensor, p: &Tensor, tuned: i64, rate: f64) -> Discrete {
    let both = |t: &Tensor| Tensor::cat(&[t.shallow_clone(), t.conj()], -1).resolve_conj();
    let (a, b, c, p) = (both(a), both(b), both(c), both(p).transpose(0, 1)); // P [H, rank, m]
    let dt = complex(&dt.expand([-1, N], false).repeat([1, 2]));
    let matrix = (a.diag_embed(0, -2, -1) - p.transpose(1, 2).matmul(&p.conj())) * dt.unsqueeze(-1);
    let one = complex(&Tensor::eye(2 * N, (Kind::Double, Device::Cpu)));
    let below = (&one - &matrix / 2.0).inverse();
    let step = below.matmul(&(&one + &matrix / 2.0));
    let points = (tuned as f64 / rate).round_ties_even() as i64;
    let back = (&one - step.linalg_matrix_power(points)).inverse();
    let c = c.transpose(0, 1).matmul(&back).transpose(0, 1);
    Discrete { b: below.matmul(&(b * dt).unsqueeze(-1)).squeeze_dim(-1), a: step, c, factor: 1.0 }
}

impl Discrete {
    fn read(&self, x: &Tensor) -> Tensor {
        (x.unsqueeze(-3) * &self.c).sum_dim_intlist(-1, false, Kind::ComplexDouble).real() * self.factor
    }

    fn step(&self, x: &Tensor) -> Tensor {
        self.a.matmul(&x.unsqueeze(-1)).squeeze_dim(-1)
    }

    /// `[outputs, H, length]`.
    fn kernel(&self, length: i64) -> Tensor {
        self.after(&self.b, length)
    }

    /// `C Ā^l x` for `l` below `length`, `[…, outputs, H, length]`.
    fn after(&self, x: &Tensor, length: i64) -> Tensor {
        let mut x = x.shallow_clone();
        let mut taken = Vec::new();
        for _ in 0..length {
            taken.push(self.read(&x));
            x = self.step(&x);
        }
        Tensor::stack(&taken, -1)
    }

    /// The state after `u`, `[batch, H, length]`.
    fn state_after(&self, u: &Tensor, state: &Tensor) -> Tensor {
        (0..u.size()[2])
            .fold(state.shallow_clone(), |x, t| self.step(&x) + complex(&u.select(2, t).unsqueeze(-1)) * &self.b)
    }
}

/// `y[t] = Σ_l K[l] u[t-l] + D u[t]`: `[batch, channels · H, length]`.
fn convolved(k: &Tensor, d: &Tensor, u: &Tensor) -> Tensor {
    let length = u.size()[2];
    let at = |t: i64| {
        let lags = k.size()[2].min(t + 1);
        let past = u.narrow(2, t + 1 - lags, lags).flip([2]).unsqueeze(1);
        let y = (past * k.narrow(2, 0, lags)).sum_dim_intlist(-1, false, Kind::Double);
        y + u.select(2, t).unsqueeze(1) * d
    };
    Tensor::stack(&(0..length).map(at).collect::<Vec<_>>(), -1).flatten(1, 2)
}

/// A kernel's dump.
fn kernel(config: &Value, length: i64, tuned: Option<i64>) -> Made {
    let bank = Bank::new(config, "", length, tuned);
    let family = if tuned.is_some() { "s4_kernel_dplr" } else { "s4_kernel_diag" };
    let discrete = bank.discrete();
    let k = discrete.kernel(length);
    if config.get("state") != Some(&json!(true)) {
        return bank.made(family, &[], &[("K", &k)]);
    }
    let (state, inner) = bank.state();
    let k_state = discrete.after(&discrete.step(&inner), length);
    bank.made(family, &[("state", &state)], &[("K", &k), ("K_state", &k_state)])
}

pub(super) fn kernels() -> Vec<Made> {
    let mut made = Vec::new();
    for init in ["legs", "diag", "diag-inv2", "diag-quadratic", "dplr-rand", "all"] {
        made.push(kernel(&json!({ "init": init }), 7, None));
    }
    for more in [
        json!({ "init": ["diag-lin", "legs"], "disc": "bilinear", "n_ssm": 2 }),
        json!({ "disc": "dss", "rate": 1.5 }),
        json!({ "rate": 0.5, "bandlimit": 0.3 }),
        json!({ "rate": 2.0, "dt_tie": false, "dt_transform": "softplus" }),
        json!({ "real_transform": "relu", "n_ssm": 1, "mode": "s4d" }),
        json!({ "real_transform": "softplus", "channels": 2 }),
        json!({ "real_transform": "none" }),
        json!({ "l_max": 3 }),
        json!({ "state": true, "rate": 1.5 }),
        json!({ "state": true, "disc": "bilinear" }),
        json!({ "is_real": true, "init": "diag-real" }),
        json!({ "is_real": true, "init": "diag-real", "state": true }),
        json!({ "is_real": true, "init": "diag-real", "state": true, "disc": "bilinear", "rate": 0.5, "dt_tie": false }),
    ] {
        made.push(kernel(&more, 7, None));
    }
    let legt = json!({ "init": "legt", "rank": 2 });
    for (more, length, tuned) in [
        (json!({ "L_first": 7 }), 7, 7),
        (json!({ "L_first": 12, "init": "fourier", "mode": "nplr" }), 7, 12),
        (json!({ "L_first": 3, "init": ["legs", "fout"] }), 7, 12),
        (json!({ "rate": 0.5, "L_first": 14 }), 14, 7),
        // First at rate 1, then at this one.
        (json!({ "rate": 0.5, "L_first": 9, "mode": "s4" }), 14, 9),
        (json!({ "rate": 1.5, "L_first": 6 }), 6, 9),
        (json!({ "rate": 2.0, "L_first": 5 }), 5, 10),
        (json!({ "rate": 2.0, "l_max": 16 }), 7, 16),
        (json!({ "l_max": 4, "L_first": 4 }), 7, 8),
        (joined(&legt, &json!({ "n_ssm": 2 })), 7, 7),
        (joined(&legt, &json!({ "dt_tie": false, "channels": 2, "state": true })), 7, 7),
        (json!({ "rank": 3 }), 7, 7),
        (json!({ "state": true, "dt_transform": "softplus", "real_transform": "softplus" }), 7, 7),
        (json!({ "n_ssm": 1, "bandlimit": 0.4 }), 7, 7),
    ] {
        made.push(kernel(&more, length, Some(tuned)));
    }
    made
}

/// The convolution of `u` and its skip, forward or from a state.
fn layer(family: &'static str, more: &Value, tuned: Option<i64>) -> Made {
    let length = 9;
    let config = joined(&json!({ "mode": if tuned.is_some() { "dplr" } else { "diag" }, "activation": null }), more);
    let mut bank = Bank::new(&config, "kernel.", length, tuned);
    let d = leaf(&[config.get("channels").and_then(Value::as_i64).unwrap_or(1), H], 21);
    let (u, discrete) = (leaf(&[2, H, length], 22), bank.discrete());
    let y = convolved(&discrete.kernel(bank.lags()), &d, &u);
    bank.params.push(("D".into(), d));
    if family != "s4_state_forward" {
        let y = if config["activation"] == "gelu" { y.gelu("none") } else { y };
        return bank.made(family, &[("x", &u)], &[("y", &y)]);
    }
    let (state, inner) = bank.state();
    let y = y + discrete.after(&discrete.step(&inner), length).flatten(1, 2);
    let next = discrete.state_after(&u, &inner).narrow(2, 0, N);
    let next = if state.dim() == 3 { next.real() } else { next.resolve_conj().view_as_real() };
    bank.made(family, &[("x", &u), ("state", &state)], &[("y", &y), ("next_state", &next)])
}

pub(super) fn layers() -> Vec<Made> {
    let real = json!({ "is_real": true, "init": "diag-real" });
    vec![
        layer("s4_fftconv", &json!({ "mode": "s4d", "channels": 2 }), None),
        layer("s4_fftconv", &json!({ "l_max": 5, "rate": 2.0 }), None),
        layer("s4_fftconv", &json!({ "mode": "nplr" }), Some(9)),
        layer("s4_step", &json!({ "activation": "gelu", "disc": "bilinear" }), None),
        layer("s4_step", &json!({ "rank": 2, "init": "legt", "dt_tie": false }), Some(9)),
        layer("s4_step", &real, None),
        layer("s4_state_forward", &json!({ "disc": "bilinear", "dt_tie": false }), None),
        layer("s4_state_forward", &json!({ "rank": 2, "init": "legt", "n_ssm": 2 }), Some(9)),
        layer("s4_state_forward", &real, None),
        layer("s4_state_forward", &joined(&real, &json!({ "disc": "bilinear" })), None),
    ]
}

/// Whether `made` is refused as unsupported, by that name.
fn unsupported(made: &Made, folder: &std::path::Path, name: &str) {
    let (passed, message) = made.verified(folder);
    assert!(!passed && message.starts_with("Unsupported(") && message.contains(name), "{}: {message}", made.label);
}

#[test]
fn what_upstream_computes_otherwise_is_unsupported_by_its_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let state = kernel(&json!({ "state": true }), 7, None);
    unsupported(&state.with("disc", json!("dss")), folder.path(), "`disc`");
    let forward = layer("s4_state_forward", &json!({}), None);
    unsupported(&forward.with("disc", json!("dss")), folder.path(), "`disc`");
    unsupported(&forward.with("rate", json!(2.0)), folder.path(), "`rate`");
    for rate in [json!(0.0), json!({ "dt": 0.001, "A": 0.0 })] {
        unsupported(&kernel(&json!({}), 7, None).with("lr", rate), folder.path(), "`lr`");
    }
    let (kept, message) = kernel(&json!({}), 7, None).with("lr", json!(0.001)).verified(folder.path());
    assert!(kept, "{message}");
}

#[test]
fn the_words_for_initial_values_are_upstream_s_and_no_others() {
    let folder = tempfile::tempdir().expect("a folder");
    let made = kernel(&json!({}), 4, None);
    let mut known: Vec<Value> =
        ["legs", "legt", "fout", "fourier", "hippo", "all", "diag", "dplr"].map(Value::from).into();
    for prefix in ["diag", "dplr"] {
        for end in "random rand real linear lin inverse inv inverse2 inv2 quadratic quad legs hippo".split(' ') {
            known.push(format!("{prefix}-{end}").into());
        }
    }
    known.push(json!(["legs", "diag-lin", "dplr"]));
    for word in &known {
        let (passed, message) = made.with("init", word.clone()).verified(folder.path());
        assert!(passed, "{word}: {message}");
    }
    let lists = [json!([]), json!(["hippo", "legs"]), json!(["legs", "lin"]), json!(["legs", 3]), json!(3)];
    let words =
        ["legsd", "fourier_diag", "lagt", "glagt", "lmu", "lin", "inv", "quad", "rand", "diag-", "diag-fout", "real"];
    for word in words.map(Value::from).into_iter().chain(lists) {
        let (passed, message) = made.with("init", word.clone()).verified(folder.path());
        assert!(!passed && message.contains("which upstream does not have"), "{word}: {message}");
    }
}

#[test]
fn a_length_that_no_order_of_forwards_comes_to_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    for tuned in [4, 7, 18] {
        let made = kernel(&json!({ "rate": 0.5, "L_first": 9 }), 14, Some(tuned));
        let (passed, message) = made.verified(folder.path());
        assert!(!passed && message.contains("lengths of the config"), "{tuned}: {message}");
    }
}
