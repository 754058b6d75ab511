//! The reference's masked language model: what BiGS was pretrained as.
//!
//! ```text
//! x = LayerNorm(word + position + token type), dropout
//! x = x + BiGS(LayerNorm(x))                         n_layers times, no norm after the last
//! logits = LayerNorm(GELU(W x + β)) Eᵀ + bias        E the word embedding itself
//! pooled = tanh(W_p mean(x) + β_p)                   the mean over valid positions; not part of the loss
//! ```
//! Paper    Wang et al. 2022, arXiv:2212.10544, §4
//! Matches  jxiw/BiGS `96fa408`, the PyTorch port: logits, loss and every gradient (dump `bigs_mlm`), parameter names
//!          included. The pooler's output, and the initial values (N(0, 0.02), norms at 1, the padding token's embedding at
//!          zero), were held against nothing.

use super::{Config, Gated, Layer, dense};
use crate::core::limits;
use crate::{ConfigError, Context, Dims, Family, Linear, Mixer, at_least, at_most};
use tch::nn::{self, Init};
use tch::{Kind, Reduction, Tensor};

/// Most tokens there may be.
const MOST_TOKENS: i64 = 1 << 20;
/// Most layers there may be.
const MOST_LAYERS: i64 = 1 << 10;

/// Sizes of a [`MaskedLm`]; the defaults are the published pretraining's.
#[derive(Clone, Debug, PartialEq)]
pub struct MlmConfig {
    /// Tokens, the special ones included.
    pub vocab_size: i64,
    /// Width of the residual stream.
    pub d_model: i64,
    /// Gated layers.
    pub n_layers: i64,
    /// Rows of the position embedding: the longest sequence there can be.
    pub max_positions: i64,
    /// Rows of the token-type embedding; only the first is read unless types are given.
    pub token_types: i64,
    /// The token of padding: its row of the embedding gets no gradient from being read, only from the tied decoder.
    pub pad_token: i64,
    /// Added to the variance in every norm.
    pub norm_eps: f64,
    /// Probability of dropping an entry of the embedding.
    pub dropout: f64,
    /// Whether the decoder is the word embedding, as published, or has a matrix of its own.
    pub tied: bool,
    /// The layers; `layer: gated` only, since nothing here is a feed-forward.
    pub layer: Config,
}

impl Default for MlmConfig {
    fn default() -> Self {
        Self {
            vocab_size: 30_522,
            d_model: 1024,
            n_layers: 23,
            max_positions: 512,
            token_types: 2,
            pad_token: 0,
            norm_eps: 1e-12,
            dropout: 0.1,
            tied: true,
            layer: Config { mask_padding: false, ..Config::default() },
        }
    }
}

impl MlmConfig {
    /// Everything wrong with these sizes, empty when the model can be built.
    pub fn check(&self) -> Vec<ConfigError> {
        let stacked = ConfigError {
            key: "layer",
            problem: "`layer: stacked` needs a feed-forward, and this model has none".into(),
            help: "use `layer: gated`".into(),
        };
        let between = |key, value: i64, least, most| at_least(key, value, least).and(at_most(key, value, most));
        let checks = [
            between("vocab_size", self.vocab_size, 1, MOST_TOKENS),
            between("d_model", self.d_model, 1, limits::D_MODEL),
            between("n_layers", self.n_layers, 0, MOST_LAYERS),
            between("max_positions", self.max_positions, 1, limits::SEQ_LEN),
            between("token_types", self.token_types, 1, limits::WIDTH),
            between("pad_token", self.pad_token, 0, self.vocab_size.saturating_sub(1).max(0)),
            crate::between("dropout", self.dropout, 0.0, 0.99),
            if self.layer.layer == Layer::Stacked { Err(stacked) } else { Ok(()) },
        ];
        let mut wrong: Vec<ConfigError> = checks.into_iter().filter_map(Result::err).collect();
        let layer = serde_json::to_value(&self.layer).expect("settings are plain data");
        wrong.extend(limits::beyond(&layer, &self.dims()));
        if wrong.is_empty() {
            wrong.extend(self.layer.check(&self.dims()));
        }
        wrong
    }

    /// Numbers that the model consists of, about.
    pub fn scalars(&self) -> f64 {
        let [d, words, positions, types, layers] =
            [self.d_model, self.vocab_size, self.max_positions, self.token_types, self.n_layers].map(|n| n as f64);
        let tables = words * if self.tied { 1.0 } else { 2.0 } + positions + types;
        d * (tables + 2.0 * d + 8.0) + words + layers * (self.layer.scalars(&self.dims()) + 2.0 * d)
    }

    fn dims(&self) -> Dims {
        Dims { d_model: self.d_model, seq_len: self.max_positions, causal: false }
    }
}

/// Embeddings, layers, pooler and head; parameters are named as the reference's.
#[derive(Debug)]
pub struct MaskedLm {
    words: Tensor,
    positions: Tensor,
    token_types: Tensor,
    embedding_norm: nn::LayerNorm,
    layers: Vec<(nn::LayerNorm, Gated)>,
    pooler: Linear,
    transform: Linear,
    transform_norm: nn::LayerNorm,
    /// `[vocab_size, d_model]`; `None` where it is `words`.
    decoder: Option<Tensor>,
    bias: Tensor,
    cfg: MlmConfig,
}

impl MaskedLm {
    /// Builds under `vs`, or says everything that is wrong with `cfg`.
    pub fn new(vs: &nn::Path, cfg: &MlmConfig) -> Result<Self, Vec<ConfigError>> {
        let wrong = cfg.check();
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let d = cfg.d_model;
        let norm =
            |vs: nn::Path| nn::layer_norm(vs, vec![d], nn::LayerNormConfig { eps: cfg.norm_eps, ..Default::default() });
        let table = |vs: nn::Path, rows: i64| vs.var("weight", &[rows, d], Init::Randn { mean: 0.0, stdev: 0.02 });
        let (base, head) = (vs / "bigs", vs / "cls" / "predictions");
        let embeddings = &base / "embeddings";
        let words = table(&embeddings / "word_embeddings", cfg.vocab_size);
        let _ = tch::no_grad(|| words.get(cfg.pad_token).zero_());
        let layer = |i: i64| {
            let at = &base / "encoder" / "layer" / i;
            (norm(&at / "LayerNorm"), Gated::new(&at, &cfg.dims(), &cfg.layer))
        };
        Ok(Self {
            words,
            positions: table(&embeddings / "position_embeddings", cfg.max_positions),
            token_types: table(&embeddings / "token_type_embeddings", cfg.token_types),
            embedding_norm: norm(&embeddings / "LayerNorm"),
            layers: (0..cfg.n_layers).map(layer).collect(),
            pooler: dense(&(&base / "pooler" / "dense"), [d, d], Config::WIDTH),
            transform: dense(&(&head / "transform" / "dense"), [d, d], Config::WIDTH),
            transform_norm: norm(&head / "transform" / "LayerNorm"),
            decoder: (!cfg.tied).then(|| table(&head / "decoder", cfg.vocab_size)),
            bias: head.zeros("bias", &[cfg.vocab_size]),
            cfg: cfg.clone(),
        })
    }

    /// Tokens, and their types if not all 0, int64 `[batch, length]` → `[batch, length, d_model]`.
    pub fn encode(&self, tokens: &Tensor, types: Option<&Tensor>, ctx: &Context) -> Tensor {
        let look_up = |table: &Tensor, at: &Tensor, pad: i64| Tensor::embedding(table, at, pad, false, false);
        let words = look_up(&self.words, tokens, self.cfg.pad_token);
        let types = match types {
            Some(types) => look_up(&self.token_types, types, -1),
            None => self.token_types.narrow(0, 0, 1),
        };
        let x = words + types + self.positions.narrow(0, 0, tokens.size()[1]);
        let x = x.apply(&self.embedding_norm).dropout(self.cfg.dropout, ctx.train);
        self.layers.iter().fold(x, |x, (norm, layer)| &x + layer.forward(&x.apply(norm), ctx))
    }

    /// Logits of every token at every position, `[batch, length, vocab_size]`.
    pub fn forward(&self, tokens: &Tensor, types: Option<&Tensor>, ctx: &Context) -> Tensor {
        let x = self.encode(tokens, types, ctx).apply(&self.transform).gelu(self.cfg.layer.gelu());
        x.apply(&self.transform_norm).linear(self.decoder.as_ref().unwrap_or(&self.words), Some(&self.bias))
    }

    /// Mean cross-entropy over the positions whose label is not -100.
    pub fn loss(logits: &Tensor, labels: &Tensor) -> Tensor {
        let classes = logits.size()[2];
        logits.view([-1, classes]).cross_entropy_loss(&labels.view(-1), None::<Tensor>, Reduction::Mean, -100, 0.0)
    }

    /// What a classifier reads: `encode`'s output → `[batch, d_model]`.
    pub fn pool(&self, encoded: &Tensor, ctx: &Context) -> Tensor {
        let sum = ctx.zero_padding(encoded).sum_dim_intlist(1, false, None::<Kind>);
        let count = match &ctx.lengths {
            Some(lengths) => lengths.clamp_min(1).unsqueeze(1).to_kind(encoded.kind()),
            None => Tensor::full([1], encoded.size()[1] as f64, (encoded.kind(), encoded.device())),
        };
        (sum / count).apply(&self.pooler).tanh()
    }

    /// Trainable scalars, by formula.
    pub fn params(&self) -> i64 {
        let MlmConfig { vocab_size, d_model: d, max_positions, token_types, .. } = self.cfg;
        let tables = (vocab_size + max_positions + token_types) * d + 2 * d;
        let layers: i64 = self.layers.iter().map(|(_, layer)| 2 * d + layer.cost(1).params).sum();
        let maps = 2 * d * (d + 1) + 2 * d; // pooler, transform and its norm
        tables + layers + maps + vocab_size + if self.cfg.tied { 0 } else { vocab_size * d }
    }
}
