//! The linear recurrent unit: a diagonal complex recurrence with its eigenvalues drawn on a ring, and a gate behind it.
//!
//! ```text
//! λ = exp(-exp(nu_log) + i exp(theta_log)),   h_t = λ ⊙ h_{t-1} + exp(gamma_log) ⊙ (B x_t),   y_t = Re(C h_t) + D ⊙ x_t
//! (out1 g) σ(out2 g),   g = GELU(y)
//! ```
//! Both directions share λ, γ and B; the one from the end has a C of its own ([`crate::math::complex_ssm`]).
//!
//! Paper    Orvieto et al. 2023, arXiv:2303.06349, §3 (the unit), lemma 3.2 (initial values), appendix A (the layer)
//! Time     O(length · d_model · (d_model + d_state)), the scan one position after another on a CPU ([`crate::math::diagonal_scan`])
//! Memory   O(length · (d_model + d_state)) to train; state 2 · d_state to decode, whatever the length
//! Matches  NicolasZucchet/minimal-LRU at bbd71b1, `LRU`, and `SequenceLayer` without its norm and skip, which are the block's here:
//!          outputs and gradients (`fixtures/goldens/lru__*`)
//! Departs  as that code from the paper: phases are drawn up to 6.28, and D is a vector. No reference in both directions

use crate::core::family::{BenchTarget, ReplayFn};
use crate::core::precision::Precision;
use crate::laws::goldens::{Golden, GoldenError, Replay};
use crate::math::complex_ssm::{Gate, Layer, Recurrence, Ssm, run};
use crate::{ConfigError, Context, Dims, Family, Mixer, ParamRule, at_least, between};
use serde_json::{Value, json};
use std::f64::consts::TAU;
use tch::Tensor;
use tch::nn::{self, Init, VarStore};

/// `mixer: { lru: { d_state: 64 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Complex states of the layer. Reference: 64.
    pub d_state: i64,
    /// Least modulus of an eigenvalue at initialisation. Reference: 0.
    pub r_min: f64,
    /// Largest modulus of an eigenvalue at initialisation; below, or at, 1. Reference: 1.
    pub r_max: f64,
    /// Largest phase of an eigenvalue at initialisation, in radians. Reference: 6.28; the paper, for long inputs: π/10.
    pub max_phase: f64,
}

impl Default for Config {
    #[expect(clippy::approx_constant, reason = "the number of the reference")]
    fn default() -> Self {
        Self { d_state: 64, r_min: 0.0, r_max: 1.0, max_phase: 6.28 }
    }
}

impl Family for Config {
    const NAME: &'static str = "lru";
    const ABOUT: &'static str =
        "linear recurrent unit: complex eigenvalues on a ring, a scan, a gate (Orvieto et al. 2023)";
    const PAPER: &'static str = "Orvieto et al. 2023, arXiv:2303.06349, §3, appendix A";
    const COMPLEXITY: &'static str =
        "time O(length · d_model · (d_model + d_state)), memory O(length · (d_model + d_state))";
    const VERSION: u32 = 1;
    /// Of the models for the Long Range Arena, table 10 [recalled].
    const WIDTH: i64 = 128;
    const TRAINING_ONLY: &'static [&'static str] = &["r_min", "r_max", "max_phase"];

    fn small() -> Value {
        json!({ "d_state": 6 })
    }

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[("lru", replay)]
    }

    fn variants() -> Vec<Value> {
        vec![json!({ "r_min": 0.5, "r_max": 0.9, "max_phase": 0.3 })]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("nu_log", 10.0)]
    }

    fn targets() -> Vec<BenchTarget> {
        vec![BenchTarget { label: "lru", settings: json!({}), size: [256, 4], time: Some(0.7), reference: None }]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let (d, states) = (dims.d_model as f64, self.d_state as f64);
        let maps = if dims.causal { 4.0 } else { 6.0 };
        states * (3.0 + maps * d) + 2.0 * d * d + 3.0 * d
    }

    fn check(&self, _dims: &Dims) -> Vec<ConfigError> {
        [
            at_least("d_state", self.d_state, 1),
            between("r_max", self.r_max, 1e-6, 1.0),
            between("r_min", self.r_min, 0.0, self.r_max),
            between("max_phase", self.max_phase, 1e-6, TAU),
        ]
        .into_iter()
        .filter_map(Result::err)
        .collect()
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(self.layer(vs, dims))
    }
}

impl Config {
    fn layer(&self, vs: &nn::Path, dims: &Dims) -> Layer<Lru> {
        let lru = Lru::new(&(vs / "seq"), dims, self);
        Layer::new(vs, lru, Gate::FullGlu, dims.d_model, dims.causal)
    }
}

/// The recurrence.
#[derive(Debug)]
struct Lru {
    nu_log: Tensor,
    theta_log: Tensor,
    gamma_log: Tensor,
    /// Real and imaginary part, `[d_state, d_model]`.
    b: [Tensor; 2],
    /// The same a direction, `[d_model, d_state]`.
    c: Vec<[Tensor; 2]>,
    d: Tensor,
}

impl Lru {
    fn new(vs: &nn::Path, dims: &Dims, cfg: &Config) -> Self {
        let (d, states) = (dims.d_model, cfg.d_state);
        let draw = |name: &str| vs.var(name, &[states], Init::Uniform { lo: 0.0, up: 1.0 });
        let (mut nu_log, mut theta_log) = (draw("nu_log"), draw("theta_log"));
        let mut gamma_log = vs.zeros("gamma_log", &[states]);
        let (low, high) = (cfg.r_min.powi(2), cfg.r_max.powi(2));
        tch::no_grad(|| {
            // -ln|λ|, kept from 0 and ∞, whose logarithms are no numbers.
            let rate = ((&nu_log * (high - low) + low).log() * -0.5).clamp(1e-7, 87.0);
            let scale = (-(&rate * -2.0).expm1()).log() * 0.5;
            gamma_log.copy_(&scale);
            nu_log.copy_(&rate.log());
            theta_log.copy_(&(&theta_log * cfg.max_phase).clamp_min(1e-7).log());
        });
        let normal = |name: &str, shape: [i64; 2], std: f64| vs.randn(name, &shape, 0.0, std);
        let (of_b, of_c) = (1.0 / (2.0 * d as f64).sqrt(), 1.0 / (states as f64).sqrt());
        let b = ["B_re", "B_im"].map(|name| normal(name, [states, d], of_b));
        let names = [["C_re", "C_im"], ["C_re_reverse", "C_im_reverse"]];
        let directions = names.into_iter().take(if dims.causal { 1 } else { 2 });
        let c: Vec<[Tensor; 2]> = directions.map(|names| names.map(|name| normal(name, [d, states], of_c))).collect();
        Self { nu_log, theta_log, gamma_log, b, c, d: vs.randn_standard("D", &[d]) }
    }
}

impl Ssm for Lru {
    fn recurrence(&self) -> Recurrence {
        let (modulus, phase) = ((-self.nu_log.exp()).exp(), self.theta_log.exp());
        let gamma = self.gamma_log.exp();
        Recurrence {
            lambda: Tensor::cat(&[&modulus * phase.cos(), modulus * phase.sin()], 0),
            b: Tensor::cat(&self.b, 0) * Tensor::cat(&[&gamma, &gamma], 0).unsqueeze(-1),
            c: self.c.iter().map(|[re, im]| Tensor::cat(&[re, &-im], 1)).collect(),
        }
    }

    fn skip(&self) -> &Tensor {
        &self.d
    }

    fn states(&self) -> i64 {
        self.nu_log.size()[0]
    }

    fn params(&self, directions: i64) -> i64 {
        let (d, states) = (self.d.size()[0], self.states());
        states * (3 + 2 * d * (1 + directions)) + d
    }

    fn rules(&self) -> Vec<ParamRule> {
        let rule = |name: &str| ParamRule { name: name.into(), lr: None, weight_decay: Some(0.0) };
        ["nu_log", "theta_log", "gamma_log", "B_re", "B_im"].map(rule).into()
    }
}

/// The unit alone, or with norm, gate and skip around it: `lru__*`. Absent keys are the defaults of the reference's classes.
pub fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    let size = golden.axes("input.x", &["batch", "L", "d_model"])?;
    let dims = Dims { d_model: size[2], seq_len: size[1], causal: true };
    let cfg = Config { d_state: golden.int_or("d_hidden", 64)?, ..Config::default() };
    golden.without_effect(&["r_min", "r_max", "max_phase"]);
    golden.only("causal", &[true])?;
    golden.only("activation", &["full_glu"])?;
    golden.settings(&cfg, &dims)?;
    let whole = golden.flag_or("layer", false)?;
    let first = golden.flag_or("prenorm", true)?;
    let mut vs = VarStore::new(golden.device);
    let x = golden.input("x")?;
    let y = if whole {
        let layer = cfg.layer(&vs.root(), &dims);
        let norm = Norm::new(&(vs.root() / "normalization"), size[2]);
        golden.fill(&mut vs)?;
        norm.around(&x, first, |x| layer.forward(x, &Context::eval()))
    } else {
        let lru = Lru::new(&vs.root(), &dims, &cfg);
        golden.fill(&mut vs)?;
        run(&lru, &x, &Context::eval(), Precision::F32)
    };
    golden.replay(&[("y", &y)], &[("x", &x)], Some(&vs))
}

/// The norm and the skip that the references' layers have around them, and blocks here.
pub(crate) struct Norm {
    scale: Tensor,
    bias: Tensor,
}

impl Norm {
    /// As JAX names its parameters.
    pub fn new(vs: &nn::Path, d: i64) -> Self {
        Self { scale: vs.ones("scale", &[d]), bias: vs.zeros("bias", &[d]) }
    }

    /// `f` with a skip, the norm before f or after the skip.
    pub fn around(&self, x: &Tensor, first: bool, f: impl FnOnce(&Tensor) -> Tensor) -> Tensor {
        const EPS: f64 = 1e-6;
        let norm =
            |t: &Tensor| t.layer_norm(self.scale.size().as_slice(), Some(&self.scale), Some(&self.bias), EPS, false);
        if first { x + f(&norm(x)) } else { norm(&(x + f(x))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::{deviations, noise};
    use crate::math::complex_ssm::assert_plain_twin;
    use tch::{Device, Kind};

    #[test]
    fn the_layer_is_its_equations_in_values_and_gradients() {
        for causal in [true, false] {
            let mut vs = VarStore::new(Device::Cpu);
            let layer =
                Config { d_state: 4, ..Config::default() }.layer(&vs.root(), &Dims { d_model: 6, seq_len: 19, causal });
            vs.double();
            tch::no_grad(|| {
                for (salt, mut p) in (0..).zip(vs.trainable_variables()) {
                    p.copy_(&noise(&p.size(), salt));
                }
            });
            let named = vs.variables();
            let of =
                |g: &Tensor, name: &str| g.matmul(&named[&format!("{name}.kernel")]) + &named[&format!("{name}.bias")];
            assert_plain_twin(&layer, &vs, |y| {
                let g = y.gelu("tanh");
                of(&g, "out1") * of(&g, "out2").sigmoid()
            });
        }
    }

    #[test]
    fn parameters_start_as_published() {
        let vs = VarStore::new(Device::Cpu);
        let cfg = Config { d_state: 400, r_min: 0.5, r_max: 0.9, max_phase: 0.6 };
        let _layer = cfg.layer(&vs.root(), &Dims { d_model: 100, seq_len: 8, causal: true });
        let named = vs.variables();
        let modulus = (-named["seq.nu_log"].to_kind(Kind::Double).exp()).exp();
        let square = modulus.square();
        let gamma = named["seq.gamma_log"].to_kind(Kind::Double).exp();
        assert!(gamma.allclose(&(-&square + 1.0).sqrt(), 1e-5, 1e-5, false));
        // The square of the modulus and the phase are uniform.
        for (found, low, high) in [(square, 0.25, 0.81), (named["seq.theta_log"].to_kind(Kind::Double).exp(), 0.0, 0.6)]
        {
            let (least, most) = (found.min().double_value(&[]), found.max().double_value(&[]));
            let (mean, near) = (found.mean(Kind::Double).double_value(&[]), (high - low) / 12f64.sqrt() / 20.0 * 5.0);
            assert!(low * 0.999 <= least && most <= high * 1.001, "{least} .. {most}");
            assert!((mean - (low + high) / 2.0).abs() < near, "{mean}");
        }
        deviations(&vs, |name| match name {
            "seq.nu_log" | "seq.theta_log" | "seq.gamma_log" => {
                let values = named[name].to_kind(Kind::Double);
                (values.mean(Kind::Double).double_value(&[]), values.std(false).double_value(&[]))
            }
            "seq.B_re" | "seq.B_im" => (0.0, 1.0 / 200f64.sqrt()),
            "seq.C_re" | "seq.C_im" => (0.0, 0.05),
            "seq.D" => (0.0, 1.0),
            "out1.kernel" | "out2.kernel" => (0.0, 0.1),
            _ => (0.0, 0.0),
        });
    }

    #[test]
    fn what_cannot_be_built_is_named() {
        let keys = |cfg: Config| -> Vec<&str> {
            cfg.check(&Dims { d_model: 12, seq_len: 8, causal: false }).iter().map(|e| e.key).collect()
        };
        let default = Config::default;
        assert!(keys(default()).is_empty());
        assert_eq!(keys(Config { d_state: 0, r_max: 1.1, ..default() }), ["d_state", "r_max"]);
        assert_eq!(keys(Config { r_min: 0.9, r_max: 0.5, ..default() }), ["r_min"]);
        assert_eq!(keys(Config { max_phase: f64::NAN, ..default() }), ["max_phase"]);
    }
}
