//! S4 and S4D: a long convolution whose kernel is the impulse response of a linear state space, one per channel.
//!
//! ```text
//! x' = A x + B u,  y = Re(C x) + D u          A = Λ - P P*  (S4, `mode: dplr`)  or  A = Λ  (S4D, `mode: diag`)
//! K[l] = C Ā^l B̄,  y = K * u + D u            Ā, B̄ from A, B and the step dt of the channel
//! z = GLU(W dropout(GELU(dropout(y))) + b)    the channels meet only here
//! ```
//! Papers   S4 (Gu, Goel, Ré 2022, arXiv:2111.00396) §3, alg. 1; S4D (Gu et al. 2022, arXiv:2206.11893) §3-4; LegT and FouT
//!          (`init`): Gu et al. 2022, arXiv:2206.12037
//! Time     O(d_model · length · (d_state + log length)) + the output map; the kernel does not depend on the batch
//! Memory   O(length · d_model) a row of the batch, plus O(d_model · length) for the S4 kernel and
//!          O(d_model · d_state · √length) for S4D's; state O(d_model · d_state) to decode
//! Matches  state-spaces/s4 `e757cef` `S4Block`, values and gradients (dumps `s4_block`, `s4_fftconv`, `s4_kernel_*`,
//!          `s4_step`, `s4_state_forward`), parameter names included; `s4d_minimal` is upstream's minimal S4D;
//!          float32 at length 4096 and d_state 64 stays within 1e-5 of float64 in values, 1e-3 in gradients (a test)
//! Departs  - C̃ = C (I - Ā^l), l = `l_max` or the positions of `seq_len` at rate 1, is made when the layer is built, in
//!            float64; upstream overwrites C at the first forward. A length past it extends C̃ inside the forward, leaving
//!            the parameter as it is.
//!          - `disc: dss` normalises at `seq_len`, not at the length of the batch at hand.
//!          - Weights taken over from a layer built for another length are converted (`Mixer::adopt`): the state space is
//!            what carries over, not C̃.
//!          - The state that a forward ends in is differentiable in both modes; upstream's S4 cuts the graph there.
//!          - upstream's `init: legt` has Re A = -1e-4 where the transform is `exp`, and so has this: its floor is kept.
//!          - Not here: `gate` and `bottleneck` (broken upstream), `dplr-*` inits (their P is random), other transforms of
//!            the imaginary part, and of `init` the words `inv2`, `quad`, `rand`.
//! Padding  The input past `lengths` is zeroed, as upstream does. With the first two points above the kernel does not depend
//!          on how far a batch is padded, so neither the content nor the amount of padding reaches a valid position.

mod cauchy;
mod kernel;
mod layer;
pub mod minimal;
mod recurrent;
mod replay;

#[cfg(test)]
mod tests;

pub use layer::Layer;

use crate::core::error::LENGTH_UNKNOWN;
use crate::core::family::{BenchTarget, ReplayFn, Surroundings};
use crate::core::limits::width;
use crate::math::conv::fft_conv_flops;
use crate::math::hippo;
use crate::{
    ConfigError, Context, Cost, Dims, Family, Linear, Mixer, NotLinear, ParamRule, Recurrent, Structure, at_least,
    at_most, between, divides, linear, linear_flops,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Tensor, nn};

/// `mixer: { s4: { d_state: 64 } }`; S4D is `mixer: { s4: { mode: diag, init: lin } }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `dplr` (S4: diagonal plus low rank) or `diag` (S4D).
    pub mode: Mode,
    /// Initial A: `legs` for both modes; `legt`, `fout`, `hippo` for `dplr`; `lin`, `inv`, `real` for `diag`.
    pub init: StateInit,
    /// Rank of the correction P P*, `dplr` only. Null is what `init` needs, 2 for `legt` and 1 for the others; no other rank
    /// exists, since rows of P that start at 0 stay there.
    pub rank: Option<i64>,
    /// From continuous to discrete time: `bilinear` for `dplr`; `zoh`, `bilinear`, `dss` for `diag`. Null is `bilinear` for
    /// `dplr` and `zoh` for `diag`.
    pub disc: Option<Disc>,
    /// Real states per channel (N), at most 1024, kept as N/2 complex modes; under `init: real` N real modes.
    pub d_state: i64,
    /// Independent copies of A, B, P; channel h uses copy h mod n_ssm. Null is one per channel, 1 ties all.
    pub n_ssm: Option<i64>,
    /// Kernels a channel of the input goes through, each with its own C and D; the output map reads them all.
    pub channels: i64,
    /// Least initial step dt, in units of a position; dt is drawn log-uniformly.
    pub dt_min: f64,
    /// Largest initial step dt.
    pub dt_max: f64,
    /// One dt a channel (true), or one a mode of each channel.
    pub dt_tie: bool,
    /// What maps the parameter to dt: `softplus` (upstream's Long Range Arena settings) or `exp`.
    pub dt_transform: DtTransform,
    /// What maps the parameter to -Re A.
    pub real_transform: RealTransform,
    /// Modes that turn faster than this share of the Nyquist rate are left out of the kernel; null keeps all.
    pub bandlimit: Option<f64>,
    /// Longest kernel, in positions at rate 1: what lies further back is not read. Null is as long as the input.
    pub l_max: Option<i64>,
    /// Factor on dt, for a signal sampled that much more sparsely than the one the parameters belong to.
    pub rate: f64,
    /// How S4 decodes token by token: `dense` (Ā as a matrix), `linear` (O(d_state) by the low-rank form) or `diagonal` (its
    /// eigenvectors). Null is `dense`. S4D is elementwise and takes null only.
    pub step_mode: Option<StepMode>,
    /// Learning rates of the state space as upstream writes them: a number for all of dt, A (with P), B and C, or a map such
    /// as `{ A: 0.001, B: 0.001 }` (upstream's Long Range Arena settings) whose absent keys follow the run. 0 freezes a
    /// parameter. dt, A, P and B never decay; C decays as the run says.
    pub lr: Option<Rates>,
    /// Probability of dropping an entry, before and after the GELU.
    pub dropout: f64,
    /// One dropout mask per row and channel, held over time.
    pub tie_dropout: bool,
    /// A second kernel over later positions (same A, B, dt; its own C). Null is: exactly when the task is not causal.
    pub bidirectional: Option<bool>,
    /// The map after the convolution: `glu` (d_model → 2 d_model, gated) or `id` (d_model → d_model).
    pub final_act: FinalAct,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            mode: Mode::Dplr,
            init: StateInit::Legs,
            disc: None,
            rank: None,
            d_state: 64,
            n_ssm: None,
            channels: 1,
            dt_min: 0.001,
            dt_max: 0.1,
            dt_tie: true,
            dt_transform: DtTransform::Softplus,
            real_transform: RealTransform::Exp,
            bandlimit: None,
            l_max: None,
            rate: 1.0,
            step_mode: None,
            lr: None,
            dropout: 0.0,
            tie_dropout: false,
            bidirectional: None,
            final_act: FinalAct::Glu,
        }
    }
}

/// The structure of A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Diagonal plus low rank: S4.
    Dplr,
    /// Diagonal: S4D.
    Diag,
}

/// Where A starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StateInit {
    /// HiPPO-LegS; with `diag` its diagonal part alone.
    Legs,
    /// HiPPO-LegT, a sliding window in Legendre polynomials.
    Legt,
    /// Truncated Fourier, a sliding window in waves.
    Fout,
    /// The first half of the copies `legs`, the second half `fout`.
    Hippo,
    /// A_n = -½ - iπn.
    Lin,
    /// A_n = -½ - i (N/π)(N/(2n+1) - 1).
    Inv,
    /// A_n = -(n+1), real, with real B and C: a bank of moving averages. Upstream's factor 2 for conjugate pairs stays.
    Real,
}

/// How the continuous system becomes a recurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Disc {
    /// Zero-order hold: Ā = exp(dt A), B̄ = B (exp(dt A) - 1) / A.
    Zoh,
    /// Ā = (1 + dt A/2) / (1 - dt A/2), B̄ = B dt / (1 - dt A/2).
    Bilinear,
    /// DSS (Gupta et al. 2022, arXiv:2203.14343): zero-order hold over the sum of the kernel's powers.
    Dss,
}

/// From the stored parameter to dt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum DtTransform {
    /// dt = log(1 + e^p).
    Softplus,
    /// dt = e^p.
    Exp,
}

/// From the stored parameter to -Re A.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RealTransform {
    /// e^p.
    Exp,
    /// max(p, 0) + 1e-4.
    Relu,
    /// log(1 + e^p).
    Softplus,
    /// p itself, which nothing keeps positive.
    None,
}

/// How S4 takes one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum StepMode {
    /// Ā as a matrix: O(d_state²) a channel.
    Dense,
    /// Diagonal plus low rank: O(d_state) a channel.
    Linear,
    /// In the eigenvectors of Ā: O(d_state) a channel, twice the state.
    Diagonal,
}

/// Learning rates of the state space, in either of upstream's two forms.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged, expecting = "expected a number or a map of dt, A, B and C")]
pub enum Rates {
    /// One for all of dt, A, B and C.
    All(f64),
    /// Each its own.
    Each(RateOf),
}

/// Learning rates by parameter; null is the run's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RateOf {
    /// The step.
    pub dt: Option<f64>,
    /// A and P.
    #[serde(rename = "A")]
    pub a: Option<f64>,
    /// B.
    #[serde(rename = "B")]
    pub b: Option<f64>,
    /// C.
    #[serde(rename = "C")]
    pub c: Option<f64>,
}

impl Default for Rates {
    fn default() -> Self {
        Self::Each(RateOf::default())
    }
}

impl Rates {
    fn each(self) -> RateOf {
        match self {
            Self::All(lr) => RateOf { dt: Some(lr), a: Some(lr), b: Some(lr), c: Some(lr) },
            Self::Each(rates) => rates,
        }
    }
}

/// What follows the convolution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum FinalAct {
    /// Gated linear unit.
    Glu,
    /// Nothing.
    Id,
}

impl Family for Config {
    const NAME: &'static str = "s4";
    const ABOUT: &'static str = "structured state spaces: S4 (diagonal plus low rank) and S4D (diagonal)";
    const PAPER: &'static str = "Gu, Goel, Ré 2022, arXiv:2111.00396, §3; S4D: Gu et al. 2022, arXiv:2206.11893, §3-4";
    const COMPLEXITY: &'static str =
        "time O(d_model · length · (d_state + log length)), memory O(d_model · (d_state · length^½ + length))";
    // 3: lengths are rounded half to even, as upstream; weights taken over from a run of another length are converted.
    const VERSION: u32 = 3;
    /// The official configs for the Long Range Arena.
    const WIDTH: i64 = 256;
    const BLOCK: Surroundings = Surroundings::S4;
    const TRAINING_ONLY: &'static [&'static str] = &["dropout", "tie_dropout", "lr", "dt_min", "dt_max", "step_mode"];

    fn small() -> Value {
        json!({ "d_state": 4 })
    }

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[
            ("hippo_init", replay::hippo),
            ("s4_block", replay::block),
            ("s4_fftconv", replay::fftconv),
            ("s4_kernel_diag", replay::kernel),
            ("s4_kernel_dplr", replay::kernel),
            ("s4_state_forward", replay::state_forward),
            ("s4_step", replay::step),
        ]
    }

    fn variants() -> Vec<Value> {
        vec![
            json!({ "mode": "diag", "init": "lin" }),
            json!({ "mode": "diag", "init": "inv", "disc": "dss" }),
            json!({ "mode": "diag", "init": "legs", "disc": "bilinear", "real_transform": "softplus" }),
            json!({ "mode": "diag", "init": "real", "rate": 1.5 }),
            json!({ "mode": "diag", "init": "lin", "dt_tie": false, "bandlimit": 0.5, "dt_max": 1.0, "real_transform": "relu" }),
            json!({ "mode": "diag", "init": "lin", "l_max": 6, "channels": 2 }),
            json!({ "n_ssm": 1, "dt_transform": "exp" }),
            json!({ "n_ssm": 2, "init": "hippo", "step_mode": "linear" }),
            json!({ "init": "legt", "step_mode": "linear" }),
            json!({ "init": "legt" }),
            json!({ "init": "fout", "step_mode": "diagonal" }),
            json!({ "dt_tie": false, "step_mode": "linear", "real_transform": "none" }),
            json!({ "channels": 2, "final_act": "id" }),
            json!({ "l_max": 5 }),
            json!({ "rate": 2.0 }),
            json!({ "bidirectional": false }),
            json!({ "lr": 0.0 }),
            json!({ "lr": { "A": 0.0, "dt": 0.001 } }),
        ]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("inv_dt", 5.0), ("A_real", 5.0)]
    }

    fn targets() -> Vec<BenchTarget> {
        vec![
            BenchTarget {
                label: "s4",
                settings: json!({ "d_state": 64 }),
                size: [128, 8],
                time: Some(0.9),
                reference: Some(3.8),
            },
            BenchTarget {
                label: "s4d",
                settings: json!({ "mode": "diag", "init": "lin", "d_state": 64 }),
                size: [128, 8],
                time: Some(0.5),
                reference: Some(1.5),
            },
        ]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let [d, modes, channels] = [dims.d_model, self.d_state, self.channels].map(|n| n as f64);
        let copies = self.n_ssm.map_or(d, |n| n as f64);
        let ends = if self.is_bidirectional(dims.causal) { 2.0 } else { 1.0 };
        let kernel = 4.0 * copies * modes + ends * channels * d * modes + d * if self.dt_tie { 1.0 } else { modes };
        kernel + channels * d + 2.0 * d * (channels * d + 1.0)
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        let n_ssm = self.n_ssm.map(|n| divides("n_ssm", n, "d_model", dims.d_model));
        let lr = self.lr.unwrap_or_default().each();
        let rates = [lr.dt, lr.a, lr.b, lr.c].into_iter().flatten().find_map(|lr| between("lr", lr, 0.0, 1.0).err());
        let checks = [
            self.check_state(),
            at_most("d_state", self.d_state, hippo::MOST_STATES),
            n_ssm.unwrap_or(Ok(())),
            self.check_halves(dims),
            at_least("channels", self.channels, 1),
            width("channels", "channels · d_model", &[self.channels, dims.d_model]),
            between("dt_max", self.dt_max, 1e-4, 1e4),
            between("dt_min", self.dt_min, 1e-6, self.dt_max.max(1e-6)),
            between("dropout", self.dropout, 0.0, 0.99),
            self.check_bandlimit(),
            between("rate", self.rate, 1e-3, 1e3),
            self.check_l_max(),
            rates.map_or(Ok(()), Err),
            self.check_mode(),
            self.check_rank(),
            self.check_direction(dims),
            self.check_step_mode(dims),
        ];
        checks.into_iter().filter_map(Result::err).collect()
    }

    /// C̃ of S4 and C under `disc: dss` belong to a length; from a known one they are converted.
    fn carries(&self, from: Option<i64>, dims: &Dims) -> Result<(), ConfigError> {
        let dplr = self.mode == Mode::Dplr;
        if self.l_max.is_some() && dplr || !dplr && self.disc != Some(Disc::Dss) || from == Some(dims.seq_len) {
            return Ok(());
        }
        if let (true, Some(from), Some(share)) = (dplr, from, self.bandlimit) {
            // What is left of C̃ at one length is not what is left of it at another.
            let problem = format!(
                "`bandlimit` is {share}, and cuts C̃ as it is for one longest sequence, which was {from} and is {} here",
                dims.seq_len
            );
            let help = "set `model: { max_positions: N }` to the same N, the longer of both, in both".into();
            return Err(ConfigError { key: "bandlimit", problem, help });
        }
        if from.is_some() {
            return Ok(());
        }
        let (key, what) = if dplr { ("mode", "C̃ = C (I - Ā^L)") } else { ("disc", "C under `disc: dss`") };
        let problem =
            format!("`{key}`: {what} belongs to the length L it was made for, and nothing says which that was");
        Err(ConfigError { key, problem, help: LENGTH_UNKNOWN.into() })
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(Block::new(vs, dims, self))
    }
}

impl Config {
    fn check_state(&self) -> Result<(), ConfigError> {
        match self.init {
            StateInit::Real => at_least("d_state", self.d_state, 1),
            // The first two states of FouT turn at frequency 0; it takes another pair to tell them apart.
            StateInit::Fout | StateInit::Hippo => {
                at_least("d_state", self.d_state, 4).and(even("d_state", self.d_state))
            }
            _ => even("d_state", self.d_state),
        }
    }

    /// `hippo` deals its copies out to two inits.
    fn check_halves(&self, dims: &Dims) -> Result<(), ConfigError> {
        let copies = self.n_ssm.unwrap_or(dims.d_model);
        if self.init != StateInit::Hippo || copies % 2 == 0 {
            return Ok(());
        }
        let (key, name) = if self.n_ssm.is_some() { ("n_ssm", "n_ssm") } else { ("init", "d_model") };
        let problem =
            format!("`init: hippo` makes half the copies `legs` and half `fout`, but `{name}` is {copies}, odd");
        Err(ConfigError { key, problem, help: "use an even `n_ssm` that divides `d_model`, or `init: legs`".into() })
    }

    fn check_bandlimit(&self) -> Result<(), ConfigError> {
        let Some(share) = self.bandlimit else { return Ok(()) };
        if self.init != StateInit::Real {
            return between("bandlimit", share, 1e-6, 1e6);
        }
        let problem = format!("`bandlimit` is {share}, but the modes of `init: real` do not turn");
        Err(ConfigError { key: "bandlimit", problem, help: "leave `bandlimit` out, or use another `init`".into() })
    }

    fn check_l_max(&self) -> Result<(), ConfigError> {
        let Some(l_max) = self.l_max else { return Ok(()) };
        at_least("l_max", l_max, 1)?;
        if l_max as f64 / self.rate >= 0.5 || !self.rate.is_finite() {
            return Ok(());
        }
        let problem = format!("`l_max` is {l_max}, not one position at `rate` = {}", self.rate);
        Err(ConfigError { key: "l_max", problem, help: format!("use {} or more", (self.rate / 2.0).ceil()) })
    }

    fn check_mode(&self) -> Result<(), ConfigError> {
        use StateInit::{Fout, Hippo, Inv, Legs, Legt, Lin, Real};
        let (key, problem, fits) = match (self.mode, self.init, self.disc) {
            (Mode::Diag, Legs | Lin | Inv | Real, _) => return Ok(()),
            (Mode::Dplr, Legs | Legt | Fout | Hippo, None | Some(Disc::Bilinear)) => return Ok(()),
            (Mode::Dplr, Legs | Legt | Fout | Hippo, Some(disc)) => {
                ("disc", format!("`disc: {disc:?}`"), "disc: bilinear` or `mode: diag")
            }
            (Mode::Dplr, init, _) => ("init", format!("`init: {init:?}`"), "init: legs` or `mode: diag"),
            (Mode::Diag, init, _) => ("init", format!("`init: {init:?}`"), "init: lin` or `mode: dplr"),
        };
        let problem = format!("{problem} does not go with `mode: {:?}`", self.mode).to_lowercase();
        Err(ConfigError { key, problem, help: format!("use `{fits}`") })
    }

    fn check_rank(&self) -> Result<(), ConfigError> {
        let Some(rank) = self.rank else { return Ok(()) };
        let needed = if self.init == StateInit::Legt { 2 } else { 1 };
        let init = format!("{:?}", self.init).to_lowercase();
        let (problem, help) = if self.mode == Mode::Diag {
            (
                format!("`rank` is {rank}, but `mode: diag` has no low-rank part"),
                "leave `rank` out, or use `mode: dplr`",
            )
        } else if rank < needed {
            (
                format!("`rank` is {rank}, but `init: {init}` needs rank {needed}"),
                "leave `rank` out, or use `init: legs`",
            )
        } else if rank > needed {
            let problem =
                format!("`rank` is {rank}, but `init: {init}` fills {needed}, and a row of P that is 0 never trains");
            (problem, if needed == 1 { "leave `rank` out, or use `init: legt`" } else { "leave `rank` out" })
        } else {
            return Ok(());
        };
        Err(ConfigError { key: "rank", problem, help: help.into() })
    }

    fn check_step_mode(&self, dims: &Dims) -> Result<(), ConfigError> {
        let Some(mode) = self.step_mode else { return Ok(()) };
        let word = format!("{mode:?}").to_lowercase();
        let short = self.l_max.is_some_and(|l_max| (l_max as f64 / self.rate).round_ties_even() < dims.seq_len as f64);
        let (why, help) = if self.mode == Mode::Diag {
            ("the step of `mode: diag` is elementwise", "leave `step_mode` out, or use `mode: dplr`")
        } else if self.is_bidirectional(dims.causal) {
            (
                "a two-sided kernel cannot be run token by token",
                "leave `step_mode` out, or set `bidirectional` to false",
            )
        } else if short {
            ("a kernel cut at `l_max` is not that of a recurrence", "leave `step_mode` or `l_max` out")
        } else if self.rate != 1.0 {
            ("C̃ belongs to rate 1, where alone the kernel is that of a recurrence", "leave `step_mode` or `rate` out")
        } else {
            return Ok(());
        };
        Err(ConfigError { key: "step_mode", problem: format!("`step_mode` is {word}, but {why}"), help: help.into() })
    }

    fn check_direction(&self, dims: &Dims) -> Result<(), ConfigError> {
        if !(dims.causal && self.bidirectional == Some(true)) {
            return Ok(());
        }
        let problem = "`bidirectional` is true, but the task is causal: no position may read a later one".into();
        Err(ConfigError { key: "bidirectional", problem, help: "leave `bidirectional` out or set it to false".into() })
    }

    fn is_bidirectional(&self, causal: bool) -> bool {
        self.bidirectional.unwrap_or(!causal)
    }
}

/// States come in conjugate pairs.
fn even(key: &'static str, d_state: i64) -> Result<(), ConfigError> {
    at_least(key, d_state, 2)?;
    if d_state % 2 == 0 {
        return Ok(());
    }
    let problem = format!("`{key}` is {d_state}, which is odd, but states come in conjugate pairs");
    Err(ConfigError { key, problem, help: format!("use {}", d_state + 1) })
}

/// Of `[batch, length, d]`, entries dropped with probability `p`; `tied`, whole channels of a row.
fn dropout(y: &Tensor, p: f64, tied: bool, train: bool) -> Tensor {
    if !train || p == 0.0 {
        y.shallow_clone()
    } else if tied {
        y * y.narrow(1, 0, 1).ones_like().dropout(p, true)
    } else {
        y.dropout(p, true)
    }
}

/// The whole block.
#[derive(Debug)]
struct Block {
    layer: Layer,
    output_linear: Linear,
    cfg: Config,
    dims: Dims,
}

impl Block {
    fn new(vs: &nn::Path, dims: &Dims, cfg: &Config) -> Self {
        let d_model = dims.d_model;
        let layer = Layer::new(&(vs / "layer"), dims, cfg);
        let d_out = d_model * if cfg.final_act == FinalAct::Glu { 2 } else { 1 };
        let output_linear = linear(&(vs / "output_linear" / "0"), cfg.channels * d_model, d_out, true);
        Self { layer, output_linear, cfg: cfg.clone(), dims: *dims }
    }

    /// `[batch, length, d_model]` → `K * u + D u`, `[batch, length, channels · d_model]`.
    fn linear_part(&self, x: &Tensor, ctx: &Context) -> Tensor {
        self.layer.forward(&ctx.zero_padding(x))
    }

    /// What follows the GELU, at any number of positions: `[…, channels · d_model]` → `[…, d_model]`.
    fn output(&self, y: &Tensor) -> Tensor {
        let y = y.apply(&self.output_linear);
        match self.cfg.final_act {
            FinalAct::Glu => y.glu(-1),
            FinalAct::Id => y,
        }
    }

    fn dropout(&self, y: &Tensor, train: bool) -> Tensor {
        dropout(y, self.cfg.dropout, self.cfg.tie_dropout, train)
    }

    fn keeps_state(&self) -> bool {
        self.layer.keeps_state(self.dims.seq_len)
    }
}

impl Mixer for Block {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        let y = self.dropout(&self.linear_part(x, ctx), ctx.train).gelu("none");
        self.output(&self.dropout(&y, ctx.train))
    }

    /// The Toeplitz matrix of each channel's convolution, D on its diagonal.
    fn materialize(&self, x: &Tensor, _ctx: &Context) -> Result<Tensor, NotLinear> {
        Ok(self.layer.matrices(x.size()[1]))
    }

    /// V is the input, once a head, Y the convolution with its skip, before the GELU.
    fn values(&self, x: &Tensor, ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        let heads = |t: &Tensor| t.transpose(1, 2).unsqueeze(-1);
        let v = ctx.zero_padding(x).repeat([1, 1, self.cfg.channels]);
        Ok((heads(&v), heads(&self.linear_part(x, ctx))))
    }

    fn path(&self) -> &'static str {
        if self.cfg.mode == Mode::Dplr { "native sums, FFT" } else { "FFT" }
    }

    fn structure(&self) -> Structure {
        Structure::Toeplitz
    }

    fn recurrent(&self) -> Option<Box<dyn Recurrent + '_>> {
        self.keeps_state().then(|| Box::new(recurrent::Stepper::new(self)) as Box<dyn Recurrent>)
    }

    /// The kernel counts for every sequence, though a batch shares it. Element-wise maps are left out.
    fn cost(&self, length: i64) -> Cost {
        let (h, channels) = (self.dims.d_model, self.cfg.channels);
        let d_out = self.output_linear.ws.size()[0];
        let kernel = self.cfg.l_max.unwrap_or(length).min(length);
        let convolution =
            channels * h * (fft_conv_flops(length, kernel) + 2 * length) + self.layer.kernel.flops(kernel);
        let state = match self.cfg.step_mode {
            _ if !self.keeps_state() => 0,
            Some(StepMode::Diagonal) => 8 * h * self.cfg.d_state, // complex, no longer in pairs
            _ => 4 * h * self.cfg.d_state,
        };
        Cost {
            params: self.layer.kernel.params() + channels * h + d_out * (channels * h + 1),
            state_bytes: state,
            flops: convolution + linear_flops(length, channels * h, d_out),
        }
    }

    fn adopt(&self, seq_len: i64) -> Result<(), ConfigError> {
        if self.layer.kernel.adopt(seq_len) {
            return Ok(());
        }
        let problem = format!(
            "C cannot be brought from length {seq_len} to {}: a mode does not decay, so that I - Ā^L has no inverse",
            self.dims.seq_len
        );
        let help = "give both the same length: set `model: { max_positions: N }` for both".into();
        Err(ConfigError { key: "l_max", problem, help })
    }

    /// dt, A, P and B do not decay, C does as the run says; each at its rate.
    fn param_rules(&self) -> Vec<ParamRule> {
        let lr = self.cfg.lr.unwrap_or_default().each();
        let rule = |name: &str| {
            let (lr, weight_decay) = match name {
                "inv_dt" => (lr.dt, Some(0.0)),
                "B" => (lr.b, Some(0.0)),
                "C" => (lr.c, None),
                _ => (lr.a, Some(0.0)),
            };
            ParamRule { name: format!("layer.kernel.{name}"), lr, weight_decay }
        };
        self.layer.kernel.parameters().into_iter().map(|(name, _)| rule(name)).collect()
    }

    fn output_map(&self) -> Option<&'static str> {
        Some("output_linear.0.weight")
    }
}
