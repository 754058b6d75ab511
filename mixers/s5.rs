//! S5: one state space of diagonal complex modes that all channels feed and read, with a gate behind it.
//!
//! ```text
//! λ = exp(Λ Δ),   B̄ = Λ⁻¹ (λ - 1) B,   Λ = Lambda_re + i Lambda_im,   Δ = exp(log_step) a mode         zero-order hold
//! h_t = λ ⊙ h_{t-1} + B̄ x_t,   y_t = 2 Re(C h_t) + D ⊙ x_t                                             1 Re where all modes are kept
//! g σ(out2 g),   g = GELU(y);  other gates in math/complex_ssm.rs
//! ```
//! Of the conjugate pairs of modes of a real system those with negative imaginary part are kept. Both directions share Λ, Δ and B; C has
//! the forward columns, then the backward ones ([`crate::math::complex_ssm`]).
//!
//! Paper    Smith et al. 2023, arXiv:2208.04933, §3 (the layer), appendix B (initial values)
//! Time     O(length · d_model · (d_model + d_state)), the scan one position after another on a CPU ([`crate::math::diagonal_scan`])
//! Memory   O(length · (d_model + d_state)) to train; state d_state to decode, whatever the length
//! Matches  lindermanlab/S5 at 3c18fdb, `S5SSM`, and `SequenceLayer` without its norm and skip, which are the block's here: outputs and
//!          gradients (`fixtures/goldens/s5__*`)
//! Departs  λ - 1 keeps its places where Λ Δ is small; bilinear discretisation is left out. As in the code, and not the paper, B starts with a
//!          variance of 1 / d_state whatever the channels; at other widths than [`WIDTH`] it travels

use crate::core::family::{BenchTarget, ReplayFn};
use crate::core::precision::Precision;
use crate::laws::goldens::{Golden, GoldenError, Replay};
use crate::lru::Norm;
pub use crate::math::complex_ssm::Gate;
use crate::math::complex_ssm::{Layer, Recurrence, Ssm, lecun, run};
use crate::math::hippo;
use crate::{ConfigError, Context, Dims, Family, Mixer, ParamRule, at_least, at_most, between, deviation, divides};
use serde_json::{Value, json};
use tch::nn::{self, Init, VarStore};
use tch::{Device, Kind, Tensor};

/// `mixer: { s5: { d_state: 64 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Real states of the layer, all blocks together. Reference: 256.
    pub d_state: i64,
    /// Blocks of the state, each of which starts from a HiPPO matrix of its own; must divide `d_state` (twice, for conjugate pairs).
    /// Reference: 8.
    pub blocks: i64,
    /// What stands behind the state space. Reference: `half_glu1`.
    pub gate: Gate,
    /// Keeps one mode of each conjugate pair. Reference: true.
    pub conjugate: bool,
    /// Holds real parts of Λ to -0.0001 or less. Reference: false.
    pub clip_eigenvalues: bool,
    /// Smallest step drawn at initialisation. Reference: 0.001.
    pub dt_min: f64,
    /// Largest step drawn at initialisation. Reference: 0.1.
    pub dt_max: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            d_state: 64,
            blocks: 1,
            gate: Gate::HalfGlu1,
            conjugate: true,
            clip_eigenvalues: false,
            dt_min: 1e-3,
            dt_max: 0.1,
        }
    }
}

/// The width by default of the reference's training script.
const WIDTH: i64 = 128;

impl Family for Config {
    const NAME: &'static str = "s5";
    const ABOUT: &'static str = "one diagonal state space over all channels, a scan, a gate (Smith et al. 2023)";
    const PAPER: &'static str = "Smith et al. 2023, arXiv:2208.04933, §3";
    const COMPLEXITY: &'static str =
        "time O(length · d_model · (d_model + d_state)), memory O(length · (d_model + d_state))";
    const VERSION: u32 = 1;
    const WIDTH: i64 = WIDTH;
    const TRAINING_ONLY: &'static [&'static str] = &["dt_min", "dt_max", "blocks"];

    fn small() -> Value {
        json!({ "d_state": 8 })
    }

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[("s5", replay)]
    }

    fn variants() -> Vec<Value> {
        vec![
            json!({ "gate": "full_glu", "blocks": 2 }),
            json!({ "gate": "half_glu2", "conjugate": false, "clip_eigenvalues": true }),
            json!({ "gate": "gelu" }),
        ]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("Lambda_re", -1e5), ("log_step", 3.0)]
    }

    fn targets() -> Vec<BenchTarget> {
        vec![BenchTarget { label: "s5", settings: json!({}), size: [256, 4], time: Some(0.8), reference: None }]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let (d, kept) = (dims.d_model as f64, self.d_state as f64 / if self.conjugate { 2.0 } else { 1.0 });
        let maps = if dims.causal { 4.0 } else { 6.0 };
        kept * (3.0 + maps * d) + 2.0 * d * d + 3.0 * d
    }

    fn check(&self, _dims: &Dims) -> Vec<ConfigError> {
        let each = if self.conjugate { 2 } else { 1 };
        [
            at_least("d_state", self.d_state, 1).and(at_most("d_state", self.d_state, hippo::MOST_STATES)),
            divides("blocks", self.blocks, if self.conjugate { "d_state / 2" } else { "d_state" }, self.d_state / each),
            self.paired(),
            between("dt_max", self.dt_max, 1e-9, 1e3),
            between("dt_min", self.dt_min, 1e-9, self.dt_max),
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
    /// Conjugate pairs are two states each.
    fn paired(&self) -> Result<(), ConfigError> {
        if !self.conjugate || self.d_state % 2 == 0 {
            return Ok(());
        }
        let problem = format!("`d_state` is {}, and states come in conjugate pairs", self.d_state);
        Err(ConfigError { key: "d_state", problem, help: "use an even number, or `conjugate: false`".into() })
    }

    fn layer(&self, vs: &nn::Path, dims: &Dims) -> Layer<S5> {
        Layer::new(vs, S5::new(&(vs / "seq"), dims, self), self.gate, dims.d_model, dims.causal)
    }

    /// Λ, complex `[modes]`, and its eigenvectors, `[d_state, modes]`: as many blocks of the same.
    fn modes(&self) -> [Tensor; 2] {
        let size = self.d_state / self.blocks;
        let kept = if self.conjugate { size / 2 } else { size };
        let (lambda, vectors) = hippo::modes_legs(size);
        let blocks = |t: &Tensor| (0..self.blocks).map(|_| t.narrow(-1, 0, kept)).collect::<Vec<Tensor>>();
        [Tensor::cat(&blocks(&lambda), 0), Tensor::block_diag(&blocks(&vectors))]
    }
}

/// The state space.
#[derive(Debug)]
struct S5 {
    lambda: [Tensor; 2],
    /// `[modes, 1]`.
    log_step: Tensor,
    /// `[modes, d_model, 2]`, real and imaginary parts, as of C.
    b: Tensor,
    /// `[d_model, modes of each direction, 2]`.
    c: Tensor,
    d: Tensor,
    /// Directions.
    directions: i64,
    conjugate: bool,
    clip: bool,
}

impl S5 {
    fn new(vs: &nn::Path, dims: &Dims, cfg: &Config) -> Self {
        let (d, directions) = (dims.d_model, if dims.causal { 1 } else { 2 });
        let [lambda, vectors] = cfg.modes();
        let modes = lambda.size()[0];
        let of_states = 1.0 / (cfg.d_state as f64).sqrt();
        let scratch = VarStore::new(Device::Cpu);
        // Drawn for the real system, then turned into its modes.
        let drawn =
            |name: &str, shape: &[i64], std: f64| lecun(&scratch.root(), name, shape, std).to_kind(Kind::Double);
        let turn_b = vectors
            .conj()
            .tr()
            .matmul(&drawn("B", &[cfg.d_state, d], deviation(of_states, WIDTH, d)).to_kind(Kind::ComplexDouble));
        let turn_c = |i: i64| {
            let [re, im] = ["re", "im"].map(|part| drawn(&format!("C_{part}_{i}"), &[d, cfg.d_state], of_states));
            Tensor::complex(&re, &im).matmul(&vectors)
        };
        let turned_c = Tensor::cat(&(0..directions).map(turn_c).collect::<Vec<_>>(), 1);
        let parameter = |name: &str, value: &Tensor| {
            let mut t = vs.zeros(name, &value.size());
            tch::no_grad(|| t.copy_(value));
            t
        };
        let (b, c) = (parameter("B", &turn_b.view_as_real()), parameter("C", &turned_c.view_as_real()));
        Self {
            lambda: [parameter("Lambda_re", &lambda.real()), parameter("Lambda_im", &lambda.imag())],
            log_step: vs.var("log_step", &[modes, 1], Init::Uniform { lo: cfg.dt_min.ln(), up: cfg.dt_max.ln() }),
            b,
            c,
            d: vs.randn_standard("D", &[d]),
            directions,
            conjugate: cfg.conjugate,
            clip: cfg.clip_eigenvalues,
        }
    }
}

impl Ssm for S5 {
    fn recurrence(&self) -> Recurrence {
        let [re, im] = &self.lambda;
        let re = if self.clip { re.clamp_max(-1e-4) } else { re.shallow_clone() };
        let step = self.log_step.exp().squeeze_dim(-1);
        let (rate, angle) = (&re * &step, im * step);
        // λ - 1 = exp(rate) cos(angle) - 1 + i exp(rate) sin(angle), without the cancellation.
        let half = (&angle * 0.5).sin();
        let less_re = rate.expm1() * angle.cos() - half.square() * 2.0;
        let less_im = rate.exp() * angle.sin();
        // (λ - 1) / Λ, with the conjugate of Λ over |Λ|².
        let size = re.square() + im.square();
        let hold_re = ((&less_re * &re + &less_im * im) / &size).unsqueeze(-1);
        let hold_im = ((&less_im * &re - &less_re * im) / &size).unsqueeze(-1);
        let (b_re, b_im) = (self.b.select(2, 0), self.b.select(2, 1));
        let times = if self.conjugate { 2.0 } else { 1.0 };
        let of_direction = |c: Tensor| Tensor::cat(&[c.select(2, 0), -c.select(2, 1)], 1) * times;
        Recurrence {
            lambda: Tensor::cat(&[less_re + 1.0, less_im], 0),
            b: Tensor::cat(&[&hold_re * &b_re - &hold_im * &b_im, hold_re * b_im + hold_im * b_re], 0),
            c: self.c.chunk(self.directions, 1).into_iter().map(of_direction).collect(),
        }
    }

    fn skip(&self) -> &Tensor {
        &self.d
    }

    fn states(&self) -> i64 {
        self.log_step.size()[0]
    }

    fn params(&self, directions: i64) -> i64 {
        let (d, modes) = (self.d.size()[0], self.states());
        modes * (3 + 2 * d * (1 + directions)) + d
    }

    fn rules(&self) -> Vec<ParamRule> {
        let rule = |name: &str| ParamRule { name: name.into(), lr: Some(1e-3), weight_decay: Some(0.0) };
        ["Lambda_re", "Lambda_im", "log_step", "B"].map(rule).into()
    }
}

/// The state space alone, or with norm, gate and skip around it: `s5__*`. Absent keys are the defaults of the reference's classes.
pub fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    let size = golden.axes("input.x", &["batch", "L", "d_model"])?;
    let dims = Dims { d_model: size[2], seq_len: size[1], causal: !golden.flag_or("bidirectional", false)? };
    let gates = [
        ("full_glu", Gate::FullGlu),
        ("half_glu1", Gate::HalfGlu1),
        ("half_glu2", Gate::HalfGlu2),
        ("gelu", Gate::Gelu),
    ];
    let cfg = Config {
        d_state: golden.int_or("ssm_size", 256)?,
        blocks: golden.int_or("blocks", 8)?,
        gate: golden.choice("activation", Gate::Gelu, &gates)?,
        conjugate: golden.flag_or("conj_sym", true)?,
        clip_eigenvalues: golden.flag_or("clip_eigs", false)?,
        ..Config::default()
    };
    golden.only("discretization", &["zoh"])?;
    golden.only("step_rescale", &[1.0])?;
    golden.only("causal", &[dims.causal])?;
    golden.without_effect(&["C_init", "dt_min", "dt_max"]);
    golden.settings(&cfg, &dims)?;
    let whole = golden.flag_or("layer", false)?;
    let first = golden.flag_or("prenorm", false)?;
    let mut vs = VarStore::new(golden.device);
    let x = golden.input("x")?;
    let y = if whole {
        let layer = cfg.layer(&vs.root(), &dims);
        let norm = Norm::new(&(vs.root() / "norm"), size[2]);
        golden.fill(&mut vs)?;
        norm.around(&x, first, |x| layer.forward(x, &Context::eval()))
    } else {
        let s5 = S5::new(&vs.root(), &dims, &cfg);
        golden.fill(&mut vs)?;
        run(&s5, &x, &Context::eval(), Precision::F32)
    };
    golden.replay(&[("y", &y)], &[("x", &x)], Some(&vs))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::{deviations, noise};
    use crate::math::complex_ssm::assert_plain_twin;

    #[test]
    fn the_layer_is_its_equations_in_values_and_gradients() {
        let sizes = Config { d_state: 6, ..Config::default() };
        for (cfg, causal) in [
            (sizes.clone(), true),
            (Config { gate: Gate::FullGlu, ..sizes.clone() }, false),
            (Config { gate: Gate::HalfGlu2, conjugate: false, ..sizes.clone() }, true),
            (Config { gate: Gate::Gelu, ..sizes }, true),
        ] {
            let mut vs = VarStore::new(Device::Cpu);
            let layer = cfg.layer(&vs.root(), &Dims { d_model: 5, seq_len: 19, causal });
            vs.double();
            tch::no_grad(|| {
                for (salt, (name, mut p)) in (0..).zip(vs.variables()) {
                    let values = noise(&p.size(), salt);
                    p.copy_(&if name.ends_with("Lambda_re") { values - 1.5 } else { values });
                }
            });
            let named = vs.variables();
            let of =
                |g: &Tensor, name: &str| g.matmul(&named[&format!("{name}.kernel")]) + &named[&format!("{name}.bias")];
            assert_plain_twin(&layer, &vs, |y| {
                let g = y.gelu("tanh");
                match cfg.gate {
                    Gate::FullGlu => of(&g, "out1") * of(&g, "out2").sigmoid(),
                    Gate::HalfGlu1 => &g * of(&g, "out2").sigmoid(),
                    Gate::HalfGlu2 => y * of(&g, "out2").sigmoid(),
                    Gate::Gelu => g,
                }
            });
        }
    }

    /// Zero-order hold by complex numbers as they stand.
    #[test]
    fn the_recurrence_is_held_for_a_step() {
        let mut vs = VarStore::new(Device::Cpu);
        let cfg = Config { d_state: 8, ..Config::default() };
        let s5 = S5::new(&vs.root(), &Dims { d_model: 3, seq_len: 8, causal: true }, &cfg);
        vs.double();
        let Recurrence { lambda, b, c } = s5.recurrence();
        let exponent = Tensor::complex(&s5.lambda[0], &s5.lambda[1]);
        let held = (&exponent * s5.log_step.exp().squeeze_dim(-1)).exp();
        let fed = ((&held - 1.0) / exponent).unsqueeze(-1) * s5.b.view_as_complex();
        let near = |got: &Tensor, want: &Tensor| {
            let want = Tensor::cat(&[want.real(), want.imag()], 0);
            assert!(got.allclose(&want, 1e-10, 1e-10, false), "{got} is not {want}");
        };
        near(&lambda, &held);
        near(&b, &fed);
        let read = s5.c.view_as_complex().conj().resolve_conj() * 2.0;
        near(&c[0].tr(), &read.tr());
    }

    #[test]
    fn parameters_start_as_published() {
        let vs = VarStore::new(Device::Cpu);
        let cfg = Config { d_state: 64, blocks: 2, ..Config::default() };
        let _layer = cfg.layer(&vs.root(), &Dims { d_model: WIDTH, seq_len: 8, causal: true });
        let named = vs.variables();
        let of = |name: &str| named[name].to_kind(Kind::Double);
        let steps = of("seq.log_step").exp();
        let (least, most) = (steps.min().double_value(&[]), steps.max().double_value(&[]));
        assert!(0.000_999 <= least && most <= 0.1001 && least < 0.01 && most > 0.01, "{least} .. {most}");
        let each = of("seq.Lambda_im").chunk(2, 0);
        assert!(each[0].equal(&each[1]) && each[0].max().double_value(&[]) < 0.0);
        deviations(&vs, |name| match name {
            "seq.log_step" | "seq.Lambda_im" => {
                (of(name).mean(Kind::Double).double_value(&[]), of(name).std(false).double_value(&[]))
            }
            "seq.Lambda_re" => (-0.5, 0.0),
            // A unitary half turn of real numbers, and of complex ones, whose parts are as large each.
            "seq.B" => (0.0, (1.0 / 64f64).sqrt() / 2f64.sqrt()),
            "seq.C" => (0.0, (1.0 / 64f64).sqrt()),
            "seq.D" => (0.0, 1.0),
            "out2.kernel" => (0.0, 1.0 / 128f64.sqrt()),
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
        assert_eq!(keys(Config { d_state: 2048, ..default() }), ["d_state"]);
        assert_eq!(keys(Config { d_state: 7, ..default() }), ["d_state"]);
        assert_eq!(keys(Config { blocks: 3, ..default() }), ["blocks"]);
        assert_eq!(keys(Config { dt_min: 0.2, ..default() }), ["dt_min"]);
    }
}
