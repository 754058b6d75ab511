//! The smallest S4D: one file of upstream's, made for reading.
//!
//! ```text
//! K[l] = 2 Re Σ_n C_n (e^{dt A_n} - 1)/A_n e^{l dt A_n},   A_n = -½ + iπn at first,  B = 1,  one dt a channel
//! y = K * u + D u,   z = GLU(W dropout(GELU(y)) + b)
//! ```
//! Paper    S4D (Gu et al. 2022, arXiv:2206.11893) §4
//! Time     O(d_model · length · (d_state + log length)) + the output map
//! Memory   O(d_model · (d_state · √length + length)); state O(d_model · d_state) to decode
//! Matches  state-spaces/s4 `e757cef` `models/s4/s4d.py`, values and gradients (dumps `s4d_minimal`), parameter names included
//! Departs  nothing in the computation. Upstream leaves `lengths` aside; here the input past them is zeroed.
//! Differs  from `s4: { mode: diag, init: lin }` in B, fixed to 1 and no parameter, in the sign of the stored frequencies, in
//!          the first of them, exactly 0 and not 1e-4, in dt = e^p, and in having one direction only

use super::recurrent::Recurrence;
use crate::core::family::{ReplayFn, Surroundings};
use crate::math::conv::{complex_expm1, exponential_kernel, fft_conv, fft_conv_flops, rfft_flops};
use crate::{
    ConfigError, Context, Cost, Dims, Family, Mixer, NotLinear, ParamRule, Precision, Recurrent, Structure, between,
    linear_flops, tensor_bytes,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor, nn, no_grad};

/// `mixer: { s4d_minimal: { d_state: 64 } }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Real states per channel (N), kept as N/2 complex modes.
    pub d_state: i64,
    /// Least initial step dt, in units of a position; dt is drawn log-uniformly.
    pub dt_min: f64,
    /// Largest initial step dt.
    pub dt_max: f64,
    /// Learning rate of dt and A; null is the run's, 0 freezes them. They never decay.
    pub lr: Option<f64>,
    /// Probability of dropping a channel of a row at all positions, after the GELU.
    pub dropout: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { d_state: 64, dt_min: 0.001, dt_max: 0.1, lr: None, dropout: 0.0 }
    }
}

impl Family for Config {
    const NAME: &'static str = "s4d_minimal";
    const ABOUT: &'static str = "the minimal S4D layer: S4D-Lin with B fixed to 1, one direction";
    const PAPER: &'static str = "Gu et al. 2022, arXiv:2206.11893, §4";
    const COMPLEXITY: &'static str =
        "time O(d_model · length · (d_state + log length)), memory O(d_model · (d_state · length^½ + length))";
    const VERSION: u32 = 1;
    /// Default of the repository's `example.py`.
    const WIDTH: i64 = 128;
    const BLOCK: Surroundings = Surroundings::NoFfn;
    const TRAINING_ONLY: &'static [&'static str] = &["dropout", "lr", "dt_min", "dt_max"];

    fn small() -> Value {
        json!({ "d_state": 4 })
    }

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[("s4d_minimal", super::replay::minimal)]
    }

    fn variants() -> Vec<Value> {
        vec![json!({ "lr": 0.0 })]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("log_dt", 5.0), ("log_A_real", 5.0)]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let [d, modes] = [dims.d_model as f64, self.d_state as f64];
        2.0 * d * modes + 2.0 * d + 2.0 * d * (d + 1.0)
    }

    fn check(&self, _dims: &Dims) -> Vec<ConfigError> {
        let checks = [
            super::even("d_state", self.d_state),
            between("dt_max", self.dt_max, 1e-6, 1e4),
            between("dt_min", self.dt_min, 1e-6, self.dt_max.max(1e-6)),
            self.lr.map_or(Ok(()), |lr| between("lr", lr, 0.0, 1.0)),
            between("dropout", self.dropout, 0.0, 0.99),
        ];
        checks.into_iter().filter_map(Result::err).collect()
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(Minimal::new(vs, dims, self))
    }
}

/// The layer.
#[derive(Debug)]
pub(super) struct Minimal {
    /// `[d_model]`.
    d: Tensor,
    /// `[d_model, n, 2]`.
    c: Tensor,
    /// `[d_model]`.
    log_dt: Tensor,
    /// `[d_model, n]`.
    log_a_real: Tensor,
    /// `[d_model, n]`.
    a_imag: Tensor,
    /// A convolution of width 1 upstream: `[2 d_model, d_model, 1]`.
    weight: Tensor,
    bias: Tensor,
    precision: Precision,
    cfg: Config,
}

impl Minimal {
    pub fn new(vs: &nn::Path, dims: &Dims, cfg: &Config) -> Self {
        let (h, n) = (dims.d_model, cfg.d_state / 2);
        let kernel = vs / "kernel";
        let store = |name, value: Tensor| super::kernel::stored(&kernel, name, &value, cfg.lr);
        let (low, high) = (cfg.dt_min.ln(), cfg.dt_max.ln());
        let rand = Tensor::rand([h], (Kind::Double, Device::Cpu));
        let imag = (Tensor::arange(n, (Kind::Double, Device::Cpu)) * PI).repeat([h, 1]);
        let output = vs / "output_linear" / "0";
        let bound = 1.0 / (h as f64).sqrt();
        Self {
            d: vs.randn_standard("D", &[h]),
            c: kernel.randn("C", &[h, n, 2], 0.0, 0.5f64.sqrt()),
            log_dt: store("log_dt", rand * (high - low) + low),
            log_a_real: store("log_A_real", imag.ones_like().log() - 2f64.ln()),
            a_imag: store("A_imag", imag),
            weight: output.uniform("weight", &[2 * h, h, 1], -bound, bound),
            bias: output.uniform("bias", &[2 * h], -bound, bound),
            precision: Precision::of_builder(),
            cfg: cfg.clone(),
        }
    }

    /// dt A and the weights C (e^{dt A} - 1)/A with the factor of the conjugate pair, complex `[d_model, n]`, from the
    /// parameters in `kind`.
    fn modes(&self, kind: Kind) -> (Tensor, Tensor) {
        let a = Tensor::complex(&-self.log_a_real.to_kind(kind).exp(), &self.a_imag.to_kind(kind));
        let dta = &a * self.log_dt.to_kind(kind).exp().unsqueeze(-1);
        let weights = self.c.to_kind(kind).view_as_complex() * (complex_expm1(&dta) / a) * 2.0;
        (dta, weights)
    }

    /// K, `[d_model, length]`; with `skip`, D is added at lag 0.
    pub fn kernel(&self, length: i64, skip: bool) -> Tensor {
        let (lambda, weights) = self.modes(self.log_dt.kind());
        let k = exponential_kernel(&weights.unsqueeze(1), &lambda, length).squeeze_dim(1);
        if skip { k + self.d.unsqueeze(-1).constant_pad_nd([0, length - 1]) } else { k }
    }

    /// `K * u + D u`, `[batch, length, d_model]`.
    fn linear_part(&self, x: &Tensor, ctx: &Context) -> Tensor {
        let u = ctx.zero_padding(x).transpose(1, 2);
        fft_conv(&u, &self.kernel(x.size()[1], true)).transpose(1, 2)
    }

    /// What follows the GELU, at any number of positions.
    fn output(&self, y: &Tensor) -> Tensor {
        self.precision.linear(y, &self.weight.squeeze_dim(-1), Some(&self.bias)).glu(-1)
    }
}

impl Mixer for Minimal {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        let y = self.linear_part(x, ctx).gelu("none");
        self.output(&super::dropout(&y, self.cfg.dropout, true, ctx.train))
    }

    fn materialize(&self, x: &Tensor, _ctx: &Context) -> Result<Tensor, NotLinear> {
        Ok(super::layer::toeplitz(&self.kernel(x.size()[1], true), None))
    }

    /// V is the input, Y the convolution with its skip, before the GELU.
    fn values(&self, x: &Tensor, ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        let heads = |t: &Tensor| t.transpose(1, 2).unsqueeze(-1);
        Ok((heads(&ctx.zero_padding(x)), heads(&self.linear_part(x, ctx))))
    }

    fn path(&self) -> &'static str {
        "FFT"
    }

    fn structure(&self) -> Structure {
        Structure::Toeplitz
    }

    fn recurrent(&self) -> Option<Box<dyn Recurrent + '_>> {
        let recurrence = no_grad(|| {
            let (lambda, weights) = self.modes(Kind::Double);
            let complex = if self.c.kind() == Kind::Double { Kind::ComplexDouble } else { Kind::ComplexFloat };
            Recurrence::diagonal(lambda.exp().to_kind(complex), weights.unsqueeze(0).to_kind(complex))
        });
        Some(Box::new(Stepper { layer: self, recurrence }))
    }

    /// Element-wise maps are left out.
    fn cost(&self, length: i64) -> Cost {
        let (h, n) = (self.log_dt.size()[0], self.cfg.d_state / 2);
        let trained = if self.cfg.lr == Some(0.0) { 0 } else { h + 2 * h * n };
        let kernel = h * (4 * n * length + rfft_flops(2 * length));
        Cost {
            params: trained + 2 * h * n + h + 2 * h * (h + 1),
            state_bytes: 4 * h * self.cfg.d_state,
            flops: kernel + h * (fft_conv_flops(length, length) + 2 * length) + linear_flops(length, h, 2 * h),
        }
    }

    fn param_rules(&self) -> Vec<ParamRule> {
        let names = ["kernel.log_dt", "kernel.log_A_real", "kernel.A_imag"];
        names.map(|name| ParamRule { name: name.into(), lr: self.cfg.lr, weight_decay: Some(0.0) }).into()
    }
}

/// The layer, one token at a time.
struct Stepper<'a> {
    layer: &'a Minimal,
    recurrence: Recurrence,
}

impl Recurrent for Stepper<'_> {
    fn reset(&mut self, batch: i64) {
        self.recurrence.reset(batch);
    }

    fn step(&mut self, x: &Tensor) -> Tensor {
        no_grad(|| {
            let y = self.recurrence.step(x).squeeze_dim(1) + x * &self.layer.d;
            self.layer.output(&y.gelu("none"))
        })
    }

    fn state_bytes(&self) -> i64 {
        tensor_bytes(&self.recurrence.state)
    }

    fn state(&self) -> Vec<Tensor> {
        vec![self.recurrence.state_as_real()]
    }
}
