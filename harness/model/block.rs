//! One residual block: mixer and feed-forward, each with its norm.

use crate::model::settings::{Activation, Ffn, ModelConfig, NormKind, NormPlace};
use mixers::{Context, Dims, Linear, Mixer, linear};
use tch::Tensor;
use tch::nn::{self, Module, ModuleT};

/// A norm over the last axis of `[batch, length, d_model]`.
#[derive(Debug)]
pub(super) enum Norm {
    Layer(nn::LayerNorm),
    Batch(nn::BatchNorm),
    /// Scale `[d_model]`, and what is added to the mean square.
    Rms(Tensor, f64),
}

impl Norm {
    pub(super) fn new(vs: &nn::Path, kind: NormKind, d: i64, eps: f64) -> Self {
        match kind {
            NormKind::Layer => {
                Self::Layer(nn::layer_norm(vs, vec![d], nn::LayerNormConfig { eps, ..Default::default() }))
            }
            NormKind::Batch => {
                let config = nn::BatchNormConfig { eps, ws_init: nn::Init::Const(1.0), ..Default::default() };
                Self::Batch(nn::batch_norm1d(vs, d, config))
            }
            NormKind::Rms => Self::Rms(vs.ones("weight", &[d]), eps),
        }
    }

    pub(super) fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        match self {
            Self::Layer(norm) => norm.forward(x),
            Self::Rms(scale, eps) => x.rms_norm([scale.size()[0]], Some(scale), *eps),
            Self::Batch(norm) => {
                let shape = x.size();
                let flat = x.reshape([-1, shape[2]]);
                match ctx.valid(shape[1], x.device()) {
                    None => norm.forward_t(&flat, ctx.train).view(shape.as_slice()),
                    // Padding must not enter the statistics: only valid rows are normalised, the rest stay zero.
                    Some(valid) => {
                        let rows = valid.flatten(0, 1).nonzero().squeeze_dim(1);
                        let normed = norm.forward_t(&flat.index_select(0, &rows), ctx.train);
                        flat.zeros_like().index_copy(0, &rows, &normed).view(shape.as_slice())
                    }
                }
            }
        }
    }
}

#[derive(Debug)]
pub(super) enum Channels {
    None,
    Identity,
    Mlp(Linear, Linear, Activation),
    Glu(Linear, Linear, Linear),
}

impl Channels {
    fn new(vs: &nn::Path, config: &ModelConfig) -> Self {
        let (d, d_ff) = (config.d_model, config.d_ff.unwrap_or(0));
        match config.ffn.unwrap_or(Ffn::None) {
            Ffn::None => Self::None,
            Ffn::Identity => Self::Identity,
            Ffn::Mlp => Self::Mlp(
                linear(&(vs / "up"), d, d_ff, true),
                linear(&(vs / "down"), d_ff, d, true),
                config.ffn_activation,
            ),
            Ffn::Glu => Self::Glu(
                linear(&(vs / "gate"), d, d_ff, false),
                linear(&(vs / "up"), d, d_ff, false),
                linear(&(vs / "down"), d_ff, d, false),
            ),
        }
    }

    /// `drop` falls on what the last layer reads.
    pub(super) fn forward(&self, x: &Tensor, drop: impl Fn(Tensor) -> Tensor) -> Option<Tensor> {
        match self {
            Self::None => None,
            Self::Identity => Some(x.shallow_clone()),
            Self::Mlp(up, down, activation) => Some(drop(activation.forward(&x.apply(up))).apply(down)),
            Self::Glu(gate, up, down) => Some(drop(x.apply(gate).silu() * x.apply(up)).apply(down)),
        }
    }
}

/// Mixer and channel mixer with their norms and residuals.
#[derive(Debug)]
pub struct Block {
    pub(super) mixer: Box<dyn Mixer>,
    pub(super) mixer_norm: Norm,
    pub(super) ffn: Channels,
    ffn_norm: Option<Norm>,
    pub(super) place: NormPlace,
    dropout: f64,
    tied: bool,
    ffn_dropout: f64,
}

impl Block {
    /// Builds under `vs`; `config` must be resolved, and the mixer's settings checked.
    pub fn new(
        vs: &nn::Path,
        config: &ModelConfig,
        dims: &Dims,
        mixer: &mixers::Entry,
        settings: &serde_json::Value,
    ) -> Self {
        let kind = config.norm.unwrap_or(NormKind::Layer);
        let (d, eps) = (config.d_model, config.norm_eps.unwrap_or(1e-5));
        let has_ffn = config.ffn.is_some_and(|f| f != Ffn::None);
        Self {
            mixer: mixer.build(settings, &(vs / "mixer"), dims),
            mixer_norm: Norm::new(&(vs / "mixer_norm"), kind, d, eps),
            ffn: Channels::new(&(vs / "ffn"), config),
            ffn_norm: has_ffn.then(|| Norm::new(&(vs / "ffn_norm"), kind, d, eps)),
            place: config.norm_place.unwrap_or(NormPlace::Pre),
            dropout: config.dropout,
            tied: config.tied_dropout,
            ffn_dropout: config.ffn_dropout,
        }
    }

    /// Weights of the dense maps that its branches end in, by name.
    pub(super) fn last_maps(&self) -> Vec<String> {
        let mixer = self.mixer.output_map().map(|name| format!("mixer.{name}"));
        let ffn = matches!(self.ffn, Channels::Mlp(..) | Channels::Glu(..)).then(|| "ffn.down.weight".to_string());
        mixer.into_iter().chain(ffn).collect()
    }

    /// Running mean and variance of its batch norms.
    pub(super) fn running(&self) -> Vec<Tensor> {
        let of_norm = |norm: &Norm| match norm {
            Norm::Layer(_) | Norm::Rms(..) => Vec::new(),
            Norm::Batch(norm) => vec![norm.running_mean.shallow_clone(), norm.running_var.shallow_clone()],
        };
        std::iter::once(&self.mixer_norm).chain(&self.ffn_norm).flat_map(of_norm).collect()
    }

    /// Which code the mixer runs.
    pub fn path(&self) -> &'static str {
        self.mixer.path()
    }

    /// `[batch, length, d_model]` → the same shape.
    pub fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
        let x = self.branch(x, &self.mixer_norm, ctx, |h| Some(self.mixer.forward(h, ctx)));
        match &self.ffn_norm {
            None => x,
            Some(norm) => {
                let (rate, train) = (self.ffn_dropout, ctx.train);
                let drop = |h: Tensor| if rate > 0.0 { h.dropout(rate, train) } else { h };
                self.branch(&x, norm, ctx, |h| self.ffn.forward(h, drop))
            }
        }
    }

    /// What each branch reads and gives on `x`, `[batch, length, d_model]` each: the mixer, then the feed-forward.
    #[cfg(test)]
    pub(super) fn branches(&self, x: &Tensor, ctx: &Context) -> Vec<[Tensor; 2]> {
        let read = |x: &Tensor, norm: &Norm| match self.place {
            NormPlace::Pre => norm.forward(x, ctx),
            NormPlace::Post => x.shallow_clone(),
        };
        let x_of_mixer = read(x, &self.mixer_norm);
        let y = self.mixer.forward(&x_of_mixer, ctx);
        let mut found = vec![[x_of_mixer, y]];
        if let Some(norm) = &self.ffn_norm {
            let x = self.branch(x, &self.mixer_norm, ctx, |h| Some(self.mixer.forward(h, ctx)));
            let x = read(&x, norm);
            found.extend(self.ffn.forward(&x, |h| h).map(|y| [x, y]));
        }
        found
    }

    fn branch(&self, x: &Tensor, norm: &Norm, ctx: &Context, f: impl Fn(&Tensor) -> Option<Tensor>) -> Tensor {
        let drop = |y: Tensor| self.drop(y, ctx.train);
        match self.place {
            NormPlace::Pre => f(&norm.forward(x, ctx)).map_or_else(|| x.shallow_clone(), |y| x + drop(y)),
            NormPlace::Post => f(x).map_or_else(|| x.shallow_clone(), |y| norm.forward(&(x + drop(y)), ctx)),
        }
    }

    pub(super) fn drop(&self, y: Tensor, train: bool) -> Tensor {
        match (train && self.dropout > 0.0, self.tied) {
            (false, _) => y,
            (true, false) => y.dropout(self.dropout, true),
            (true, true) => &y * y.narrow(1, 0, 1).detach().ones_like().dropout(self.dropout, true),
        }
    }
}
