//! A causal exponential moving average of every channel.
//!
//! ```text
//! y_t = a y_{t-1} + (1 - a) x_t,   a = σ(decay),   that is  M[t,s] = (1 - a) a^{t-s}   for s ≤ t
//! ```

use mixers::laws::goldens::{Golden, GoldenError, Replay};
use mixers::math::conv::{fft_conv, fft_conv_flops, rfft_flops};
use mixers::{ConfigError, Context, Cost, Dims, Family, Mixer, NotLinear, Recurrent, ReplayFn, Structure, between};
use tch::nn::{Path, VarStore};
use tch::{Device, Kind, Tensor};

/// `mixer: { ema: { half_life: 8 } }`
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Positions after which a token counts half, about, at the start of training: drawn around this for each channel.
    pub half_life: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self { half_life: 8.0 }
    }
}

impl Family for Config {
    const NAME: &'static str = "ema";
    const ABOUT: &'static str = "a causal exponential moving average of every channel";
    const PAPER: &'static str = "an example";
    const COMPLEXITY: &'static str = "time O(length · log length · d_model), memory O(length · d_model)";
    const VERSION: u32 = 1;
    /// An example has no published model; nothing in it depends on the width.
    const WIDTH: i64 = 64;

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[("ema", replay)]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        dims.d_model as f64
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        let backwards = ConfigError {
            key: "ema",
            problem: "`ema` reads the past alone, and the task is not causal".into(),
            help: "set `causal: true` on the task or leave this mixer out".into(),
        };
        let checks =
            [between("half_life", self.half_life, 0.1, 1e4), if dims.causal { Ok(()) } else { Err(backwards) }];
        checks.into_iter().filter_map(Result::err).collect()
    }

    fn build(&self, vs: &Path, dims: &Dims) -> Box<dyn Mixer> {
        let keep = 0.5_f64.powf(1.0 / self.half_life);
        let start = (keep / (1.0 - keep)).ln();
        Box::new(Ema { decay: vs.uniform("decay", &[dims.d_model], start - 1.0, start + 1.0) })
    }
}

/// The layer.
#[derive(Debug)]
struct Ema {
    /// `[d_model]`.
    decay: Tensor,
}

impl Ema {
    /// `(1 - a) a^l` for lags `l` below `length`, `[d_model, length]`.
    fn kernel(&self, length: i64) -> Tensor {
        let lags = Tensor::arange(length, (self.decay.kind(), self.decay.device()));
        let log = -(-&self.decay).softplus(); // of a
        (log.unsqueeze(-1) * lags).exp() * (-&self.decay).sigmoid().unsqueeze(-1)
    }
}

impl Mixer for Ema {
    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        fft_conv(&ctx.zero_padding(x).transpose(1, 2), &self.kernel(x.size()[1])).transpose(1, 2)
    }

    fn materialize(&self, x: &Tensor, _ctx: &Context) -> Result<Tensor, NotLinear> {
        let length = x.size()[1];
        let at = Tensor::arange(length, (Kind::Int64, x.device()));
        let lags = at.unsqueeze(1) - &at;
        let rows = self.kernel(length).index_select(1, &lags.clamp_min(0).flatten(0, 1));
        Ok(rows.view([1, -1, length, length]).tril(0))
    }

    fn values(&self, x: &Tensor, ctx: &Context) -> Result<(Tensor, Tensor), NotLinear> {
        let channels = |t: Tensor| t.transpose(1, 2).unsqueeze(-1);
        Ok((channels(ctx.zero_padding(x)), channels(self.forward(x, ctx))))
    }

    fn structure(&self) -> Structure {
        Structure::Toeplitz
    }

    fn recurrent(&self) -> Option<Box<dyn Recurrent + '_>> {
        Some(Box::new(Stepper { layer: self, y: self.decay.zeros_like().unsqueeze(0) }))
    }

    fn cost(&self, length: i64) -> Cost {
        let d = self.decay.size()[0];
        Cost { params: d, state_bytes: 4 * d, flops: d * (fft_conv_flops(length, length) + rfft_flops(2 * length)) }
    }
}

/// One token at a time: the state is the last output.
struct Stepper<'a> {
    layer: &'a Ema,
    /// `[batch, d_model]`.
    y: Tensor,
}

impl Recurrent for Stepper<'_> {
    fn reset(&mut self, batch: i64) {
        self.y = self.layer.decay.zeros_like().expand([batch, -1], false).contiguous();
    }

    fn step(&mut self, x: &Tensor) -> Tensor {
        self.y = x + self.layer.decay.sigmoid() * (&self.y - x);
        self.y.shallow_clone()
    }

    fn state_bytes(&self) -> i64 {
        mixers::tensor_bytes(&self.y)
    }

    fn state(&self) -> Vec<Tensor> {
        vec![self.y.shallow_clone()]
    }
}

/// Dumps `ema__*`: the input x, the parameter, the output y.
fn replay(golden: &Golden) -> Result<Replay, GoldenError> {
    let size = golden.axes("input.x", &["batch", "L", "d_model"])?;
    let (cfg, dims) = (Config::default(), Dims { d_model: size[2], seq_len: size[1], causal: true });
    golden.settings(&cfg, &dims)?;
    let mut vs = VarStore::new(Device::Cpu);
    let layer = cfg.build(&vs.root(), &dims);
    golden.fill(&mut vs)?;
    let x = golden.input("x")?;
    let y = layer.forward(&x, &Context::eval());
    golden.replay(&[("y", &y)], &[("x", &x)], Some(&vs))
}

#[cfg(test)]
mod tests;
