//! S4 and S4D: a long convolution whose kernel is the impulse response of a linear state space, one per channel.
//!
//! ```text
//! x' = A x + B u,  y = Re(C x) + D u          A = Λ - P P*  (S4, `mode: dplr`)  or  A = Λ  (S4D, `mode: diag`)
//! K[l] = C Ā^l B̄,  y = K * u + D u            Ā, B̄ from A, B and the step dt of the channel
//! z = GLU(W dropout(GELU(dropout(y))) + b)    the channels meet only here
//! ```
//! Papers   S4 (Gu, Goel, Ré 2022, arXiv:2111.00396) §3, alg. 1; S4D (Gu et al. 2022, arXiv:2206.11893) §3-4
//! Time     O(d_model · length · (d_state + log length)) + the output map; the kernel does not depend on the batch
//! Memory   O(d_model · d_state · length) for the S4 kernel, O(d_model · d_state · √length) for S4D's; state
//!          O(d_model · d_state) to decode
//! Matches  state-spaces/s4 `e757cef` `S4Block`, values and gradients (dumps `s4_block`, `s4_fftconv`, `s4_kernel_*`,
//!          `s4_step`), parameter names included
//! Departs  - C̃ = C (I - Ā^seq_len) is made when the layer is built, in float64; upstream overwrites C at the first
//!            forward. A length past `seq_len` extends C̃ inside the forward, leaving the parameter as it is.
//!          - `disc: dss` normalises at `seq_len`, not at the length of the batch at hand.
//!          - `lr` applies to A, P and B only, as in upstream's current Long Range Arena settings.
//! Padding  The input past `lengths` is zeroed, as upstream does. With the two points above the kernel does not depend on
//!          how far a batch is padded, so neither the content nor the amount of padding reaches a valid position.

mod kernel;
mod recurrent;
mod replay;

#[cfg(test)]
mod tests;

pub(crate) use replay::{
    block as replay_block, fftconv as replay_fftconv, kernel as replay_kernel_diag, kernel as replay_kernel_dplr,
};

use crate::math::conv::{fft_conv, fft_conv_bidirectional, fft_conv_flops};
use crate::{
    ConfigError, Context, Cost, Dims, Family, Mixer, NotLinear, ParamRule, Recurrent, at_least, between, divides,
    linear, linear_flops,
};
use kernel::{Kernel, Shape};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tch::{Tensor, nn};

/// `mixer: { s4: { d_state: 64 } }`; S4D is `mixer: { s4: { mode: diag, init: lin } }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `dplr` (S4: diagonal plus low rank) or `diag` (S4D).
    pub mode: Mode,
    /// Initial A: `legs` for both modes; `lin`, `inv`, `real` for `diag`.
    pub init: StateInit,
    /// From continuous to discrete time: `bilinear` for `dplr`; `zoh`, `bilinear`, `dss` for `diag`. Null is `bilinear` for
    /// `dplr` and `zoh` for `diag`.
    pub disc: Option<Disc>,
    /// Real states per channel (N), kept as N/2 complex modes; under `init: real` N real modes.
    pub d_state: i64,
    /// Independent copies of A, B, P; channel h uses copy h mod n_ssm. Null is one per channel, 1 ties all.
    pub n_ssm: Option<i64>,
    /// Least initial step dt, in units of a position; dt is drawn log-uniformly.
    pub dt_min: f64,
    /// Largest initial step dt.
    pub dt_max: f64,
    /// What maps the parameter to dt: `softplus` (upstream's Long Range Arena settings) or `exp`.
    pub dt_transform: DtTransform,
    /// What maps the parameter to -Re A.
    pub real_transform: RealTransform,
    /// Modes that turn faster than this share of the Nyquist rate are left out of the kernel; null keeps all.
    pub bandlimit: Option<f64>,
    /// Learning rate of A, P and B; null is the run's. Upstream's Long Range Arena settings: 0.001.
    pub lr: Option<f64>,
    /// Learning rate of dt; null is the run's.
    pub lr_dt: Option<f64>,
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
            d_state: 64,
            n_ssm: None,
            dt_min: 0.001,
            dt_max: 0.1,
            dt_transform: DtTransform::Softplus,
            real_transform: RealTransform::Exp,
            bandlimit: None,
            lr: None,
            lr_dt: None,
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
    const VERSION: u32 = 1;

    fn variants() -> Vec<Value> {
        vec![
            json!({ "mode": "diag", "init": "lin" }),
            json!({ "mode": "diag", "init": "inv", "disc": "dss" }),
            json!({ "mode": "diag", "init": "real" }),
            json!({ "n_ssm": 1 }),
        ]
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        let n_ssm = self.n_ssm.map(|n| divides("n_ssm", n, "d_model", dims.d_model));
        let rate = |key, lr: Option<f64>| lr.map_or(Ok(()), |lr| between(key, lr, 0.0, 1.0));
        let checks = [
            self.check_state(),
            n_ssm.unwrap_or(Ok(())),
            between("dt_max", self.dt_max, 1e-4, 1e4),
            between("dt_min", self.dt_min, 1e-6, self.dt_max.max(1e-6)),
            between("dropout", self.dropout, 0.0, 0.99),
            self.bandlimit.map_or(Ok(()), |share| between("bandlimit", share, 1e-6, 1e6)),
            rate("lr", self.lr),
            rate("lr_dt", self.lr_dt),
            self.check_mode(),
            self.check_direction(dims),
        ];
        checks.into_iter().filter_map(Result::err).collect()
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(Block::new(vs, dims, self))
    }
}

impl Config {
    fn check_state(&self) -> Result<(), ConfigError> {
        if self.init == StateInit::Real {
            return at_least("d_state", self.d_state, 1);
        }
        at_least("d_state", self.d_state, 2)?;
        if self.d_state % 2 == 0 {
            return Ok(());
        }
        let problem = format!("`d_state` is {}, which is odd, but states come in conjugate pairs", self.d_state);
        Err(ConfigError { key: "d_state", problem, help: format!("use {}", self.d_state + 1) })
    }

    fn check_mode(&self) -> Result<(), ConfigError> {
        if self.mode == Mode::Diag {
            return Ok(());
        }
        let (key, problem, fits) = match (self.init, self.disc) {
            (StateInit::Legs, None | Some(Disc::Bilinear)) => return Ok(()),
            (StateInit::Legs, Some(disc)) => ("disc", format!("`disc: {disc:?}`").to_lowercase(), "disc: bilinear"),
            (init, _) => ("init", format!("`init: {init:?}`").to_lowercase(), "init: legs"),
        };
        let problem = format!("{problem} does not go with `mode: dplr`");
        Err(ConfigError { key, problem, help: format!("use `{fits}`, or `mode: diag`") })
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

/// The whole block.
#[derive(Debug)]
struct Block {
    layer: Convolution,
    output_linear: nn::Linear,
    cfg: Config,
    dims: Dims,
}

/// Convolution and skip connection: `K * u + D u`.
#[derive(Debug)]
struct Convolution {
    kernel: Kernel,
    /// `[outputs, d_model]`; the block has one output per channel.
    d: Tensor,
    bidirectional: bool,
}

impl Convolution {
    /// `[batch, d_model, length]` → `[batch, outputs, d_model, length]`.
    fn apply(&self, u: &Tensor) -> Tensor {
        self.convolve(u, &self.kernel.kernel(u.size()[2]))
    }

    /// The same with a kernel already made, `[outputs · directions, d_model, lags]`.
    fn convolve(&self, u: &Tensor, k: &Tensor) -> Tensor {
        let wide = u.unsqueeze(1);
        let y = if self.bidirectional {
            let sides = k.chunk(2, 0);
            fft_conv_bidirectional(&wide, &sides[0], &sides[1])
        } else {
            fft_conv(&wide, k)
        };
        y + wide * self.d.unsqueeze(-1)
    }
}

impl Block {
    fn new(vs: &nn::Path, dims: &Dims, cfg: &Config) -> Self {
        let d_model = dims.d_model;
        let bidirectional = cfg.is_bidirectional(dims.causal);
        let shape = Shape { outputs: 1 + i64::from(bidirectional), d_model, seq_len: dims.seq_len };
        let layer = Convolution {
            kernel: Kernel::new(&(vs / "layer" / "kernel"), &shape, cfg),
            d: (vs / "layer").randn_standard("D", &[1, d_model]),
            bidirectional,
        };
        let d_out = d_model * if cfg.final_act == FinalAct::Glu { 2 } else { 1 };
        let output_linear = linear(&(vs / "output_linear" / "0"), d_model, d_out, true);
        Self { layer, output_linear, cfg: cfg.clone(), dims: *dims }
    }

    /// `[batch, length, d_model]` → `K * u + D u`, `[batch, d_model, length]`.
    fn linear_part(&self, x: &Tensor, ctx: &Context) -> Tensor {
        self.layer.apply(&ctx.zero_padding(x).transpose(1, 2)).squeeze_dim(1)
    }

    /// What follows the convolution, at any number of positions: `[…, d_model]` → `[…, d_model]`.
    fn output(&self, y: &Tensor) -> Tensor {
        let y = y.apply(&self.output_linear);
        match self.cfg.final_act {
            FinalAct::Glu => y.glu(-1),
            FinalAct::Id => y,
        }
    }

    /// `[batch, length, d_model]`.
    fn dropout(&self, y: &Tensor, train: bool) -> Tensor {
        let p = self.cfg.dropout;
        if !train || p == 0.0 {
            y.shallow_clone()
        } else if self.cfg.tie_dropout {
            y * y.narrow(1, 0, 1).ones_like().dropout(p, true)
        } else {
            y.dropout(p, true)
        }
    }
}

impl Mixer for Block {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        let y = self.linear_part(x, ctx).transpose(1, 2);
        let y = self.dropout(&y, ctx.train).gelu("none");
        self.output(&self.dropout(&y, ctx.train))
    }

    /// The Toeplitz matrix of each channel's convolution, D on its diagonal.
    fn materialize(&self, x: &Tensor, _ctx: &Context) -> Result<Tensor, NotLinear> {
        let length = x.size()[1];
        let k = self.layer.kernel.kernel(length);
        let side = |i: i64| k.get(i); // [d_model, length]
        let future = if self.layer.bidirectional { side(1).flip([-1]) } else { side(0).zeros_like() };
        let lag_0 = side(0).narrow(1, 0, 1) + self.layer.d.transpose(0, 1);
        let by_lag = Tensor::cat(&[future.narrow(1, 1, length - 1), lag_0, side(0).narrow(1, 1, length - 1)], 1);
        let positions = Tensor::arange(length, (tch::Kind::Int64, x.device()));
        let lags = positions.unsqueeze(1) - positions.unsqueeze(0) + (length - 1);
        Ok(by_lag.index_select(1, &lags.flatten(0, 1)).view([1, -1, length, length]))
    }

    /// V is the input, Y the convolution with its skip, before the GELU.
    fn values(&self, x: &Tensor, ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        let v = ctx.zero_padding(x).transpose(1, 2).unsqueeze(-1);
        Ok((v, self.linear_part(x, ctx).unsqueeze(-1)))
    }

    fn recurrent(&self) -> Option<Box<dyn Recurrent + '_>> {
        (!self.layer.bidirectional).then(|| Box::new(recurrent::Stepper::new(self)) as Box<dyn Recurrent>)
    }

    /// The kernel counts for every sequence, though a batch shares it. Element-wise maps are left out.
    fn cost(&self, length: i64) -> Cost {
        let h = self.dims.d_model;
        let outputs = 1 + i64::from(self.layer.bidirectional);
        let d_out = self.output_linear.ws.size()[0];
        let convolution = h * (fft_conv_flops(length, length) + 2 * length) + self.layer.kernel.flops(length);
        Cost {
            params: self.layer.kernel.params() + h + d_out * (h + 1),
            state_bytes: if outputs == 1 { 4 * h * self.cfg.d_state } else { 0 },
            flops: convolution + linear_flops(length, h, d_out),
        }
    }

    fn param_rules(&self) -> Vec<ParamRule> {
        let rule = |name: &str, lr| ParamRule { name: format!("layer.kernel.{name}"), lr, weight_decay: Some(0.0) };
        let names = self.layer.kernel.names();
        let state = ["A_real", "A_imag", "P", "B"].into_iter().filter(|name| names.contains(name));
        let mut rules: Vec<ParamRule> = state.map(|name| rule(name, self.cfg.lr)).collect();
        rules.push(rule("inv_dt", self.cfg.lr_dt));
        rules
    }
}
