//! `model`: the settings of the backbone, what `null` means for each, which combinations are refused, and FLOPs of head and feed-forward.

use crate::base::bounds;
use mixers::{Dims, InitialValues, Precision};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use settings::ConfigError;
use tasks::{Input, Output};
use tch::Tensor;

/// A named shape of block; it decides what the other keys default to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BlockShape {
    /// Mixer and feed-forward, each with its norm and residual.
    #[default]
    Transformer,
    /// Batch norm and residual around the S4 layer.
    S4,
    /// Layer norm and residual around the gated layer; no final norm.
    Bigs,
    /// Residual, then layer norm.
    Hydra,
}

/// Which norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NormKind {
    /// Over the channels of each position.
    Layer,
    /// Over batch and valid positions of each channel.
    Batch,
    /// By the root mean square over the channels of each position, without mean or bias (Zhang and Sennrich 2019,
    /// arXiv:1910.07467).
    Rms,
}

/// Position of the norm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum NormPlace {
    /// On the branch, before the mixer.
    Pre,
    /// On the sum, after it.
    Post,
}

/// Channel mixer of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ffn {
    /// None.
    None,
    /// `W₂ gelu(W₁ x)`.
    Mlp,
    /// `W₃ (silu(W₁ x) · W₂ x)` (Shazeer 2020, arXiv:2002.05202, SwiGLU).
    Glu,
    /// `x`: the block adds the norm of its own sum to it, as Zoology's blocks without a channel mixer do.
    Identity,
}

/// Activation of `ffn: mlp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x Φ(x)`, PyTorch's default.
    #[default]
    Gelu,
    /// GELU by its tanh approximation, flax's default.
    GeluTanh,
    /// `max(x, 0)`.
    Relu,
}

impl Activation {
    pub(super) fn forward(self, x: &Tensor) -> Tensor {
        match self {
            Self::Gelu => x.gelu("none"),
            Self::GeluTanh => x.gelu("tanh"),
            Self::Relu => x.relu(),
        }
    }
}

/// Initial values of dense maps in place of each mixer's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LinearInit {
    /// As the Long Range Arena: a map of a block `U(±√(6 / (in + out)))`, a map of the head normal of variance 1 / in, cut at two
    /// deviations; biases 0. Attention's fused `in_proj_weight` is three maps.
    Lra,
}

/// Position embeddings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Positions {
    /// Nothing.
    None,
    /// A learned vector per position.
    Learned,
    /// Fixed sines and cosines (Vaswani et al. 2017, §3.5).
    Sinusoidal,
}

/// How a sequence becomes one vector.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// Mean over valid positions.
    #[default]
    Mean,
    /// The last valid position.
    Last,
    /// A learned vector put before the sequence and read at the end.
    Cls,
    /// Position 0: the sequence's own `[CLS]` token, or its first (the Long Range Arena's Retrieval).
    First,
}

/// Output head for language modelling and for sequence classification or regression.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum HeadKind {
    /// `W x + b`.
    Plain,
    /// `E x + b`, E the embedding itself: tasks that ask for their own input tokens only.
    Tied,
    /// As Devlin et al. 2019 (arXiv:1810.04805): tokens by `E norm(gelu(W x + b)) + c`, a class by
    /// `W₂ tanh(W₁ x + b₁) + b₂`.
    Bert,
    /// `W₂ relu(W₁ x + b₁) + b₂` of width d_ff, or 4 d_model without a feed-forward, as the Long Range Arena: a class a sequence.
    Mlp,
}

/// Output head over the pooled vectors u and v of two documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PairHead {
    /// `W₂ gelu(W₁ ·)` of width d_model on `[u, v, u·v, u − v]`, as S4 and Nyströmformer.
    #[default]
    S4,
    /// `W₃ relu(W₂ relu(W₁ ·))` of widths d_ff and d_ff / 2, without a feed-forward 4 d_model, on `[u, v, u·v, u − v]`: the Long Range
    /// Arena with `interaction = NLI`.
    Lra,
    /// The same on `[u, v]`: the Long Range Arena as its Retrieval configs leave it.
    LraConcat,
}

/// Deviation of BERT's embeddings, and the width of its model (Devlin et al. 2019, arXiv:1810.04805, §3; `initializer_range` of the
/// official code).
const TABLE_STD: f64 = 0.02;
const TABLE_WIDTH: i64 = 768;

/// Whether a key is left out of a run's spec: keys added later are, at their defaults, so that older runs keep their ids.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The backbone around every mixer: `model: { block: transformer, d_model: 128, n_layers: 2 }`. `null` means what the block's
/// paper uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Named shape of block. It decides the keys that are `null`.
    pub block: BlockShape,
    /// Width of the residual stream.
    pub d_model: i64,
    /// Number of blocks.
    pub n_layers: i64,
    /// Kind of norm; `null`: layer, and batch for `s4`.
    pub norm: Option<NormKind>,
    /// Position of the norm; `null`: pre, and post for `hydra`.
    pub norm_place: Option<NormPlace>,
    /// Added to the variance in norms; `null`: 1e-5, and 1e-12 for `bigs`.
    pub norm_eps: Option<f64>,
    /// Channel mixer; `null`: mlp for `transformer`, else none.
    pub ffn: Option<Ffn>,
    /// Width of the channel mixer; `null`: 4 d_model for mlp; 8/3 d_model, rounded up to a multiple of 8, for glu.
    pub d_ff: Option<i64>,
    /// Position embeddings; `null`: learned for `transformer`, else none.
    pub positions: Option<Positions>,
    /// Layer norm on the embedding; `null`: true for `bigs` and `hydra`.
    pub embedding_norm: Option<bool>,
    /// Activation between the layers of `ffn: mlp`.
    #[serde(skip_serializing_if = "is_default")]
    pub ffn_activation: Activation,
    /// Dropout between the layers of the channel mixer, in addition to `dropout`.
    #[serde(skip_serializing_if = "is_zero")]
    pub ffn_dropout: f64,
    /// Dropout on the output of each branch, before it is added to the residual stream.
    pub dropout: f64,
    /// Whether `dropout` drops a channel at all positions of a sequence together, as S4 does.
    pub tied_dropout: bool,
    /// Dropout on the embedding.
    pub embedding_dropout: f64,
    /// One block applied `n_layers` times instead of as many blocks (Universal Transformer, Dehghani et al. 2019,
    /// arXiv:1807.03819, without its halting): before each application but the first the positions are added again, and before
    /// each a vector of sines and cosines of its number.
    pub shared_depth: bool,
    /// How a sequence becomes one vector, for tasks of one class a sequence.
    pub pooling: Pooling,
    /// Head of tasks about two documents.
    pub pair_head: PairHead,
    /// What becomes of constant deviations of initial values, which were found at the width of a paper's model: `scaled` multiplies
    /// those of dense maps by √(that model's fan-in / this one's) and those of tables by √(that model's width / this one's);
    /// `published` leaves them alone. Deviations that are functions of fan-in and those that the keys below set are what they are.
    pub init: InitialValues,
    /// Standard deviation of the initial embedding and learned positions; null: BERT's, 0.02 at width 768 (see
    /// `init`).
    pub init_std: Option<f64>,
    /// That of the embedding of tokens alone (S4 and the Long Range Arena: 1); null: `init_std`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_std: Option<f64>,
    /// That of the vector of `pooling: cls` alone (the Long Range Arena: 0); null: `init_std`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cls_std: Option<f64>,
    /// Output head; `null`: bert for language models, else plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadKind>,
    /// Bias of `head: plain` and `head: tied` (Zoology: none).
    #[serde(skip_serializing_if = "is_true")]
    pub head_bias: bool,
    /// Dropout between the pooler and the classifier of `head: bert`.
    #[serde(skip_serializing_if = "is_zero")]
    pub classifier_dropout: f64,
    /// Rows of the token-type embedding, which is added to the tokens'; 0: none (BERT: 2). A type beyond the last row uses the
    /// last row.
    #[serde(skip_serializing_if = "is_none")]
    pub token_types: i64,
    /// Longest sequence that positions and mixers are built for; `null`: the task's longest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_positions: Option<i64>,
    /// Standard deviation of the initial dense maps of blocks and head, their biases 0 (BERT: 0.02, which its every map has);
    /// null: each mixer's own initial values. Convolutions and what else a mixer learns keep theirs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear_std: Option<f64>,
    /// The same maps by a rule: `lra`; null: `linear_std`, or each mixer's own initial values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub linear_init: Option<LinearInit>,
    /// Whether `linear_std` is divided by √(2 n_layers) for the last dense map of each branch, which writes into the residual
    /// stream (GPT-2, Zoology).
    #[serde(skip_serializing_if = "is_default")]
    pub rescale_residual: bool,
    /// Number format of dense products: f32, or bf16 with float32 weights, gradients, norms, softmax, scans and losses.
    #[serde(skip_serializing_if = "is_default")]
    pub precision: Precision,
    /// Activation checkpointing: keep only each layer's input, and recompute the layer in the backward pass (about a third more
    /// compute).
    #[serde(skip_serializing_if = "is_default")]
    pub checkpoint_activations: bool,
}

fn is_true(value: &bool) -> bool {
    *value
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn is_none(rows: &i64) -> bool {
    *rows == 0
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            block: BlockShape::Transformer,
            d_model: 128,
            n_layers: 2,
            norm: None,
            norm_place: None,
            norm_eps: None,
            ffn: None,
            d_ff: None,
            positions: None,
            embedding_norm: None,
            ffn_activation: Activation::Gelu,
            ffn_dropout: 0.0,
            dropout: 0.0,
            tied_dropout: false,
            embedding_dropout: 0.0,
            shared_depth: false,
            pooling: Pooling::Mean,
            pair_head: PairHead::S4,
            init: InitialValues::Scaled,
            init_std: None,
            embedding_std: None,
            cls_std: None,
            precision: Precision::F32,
            checkpoint_activations: false,
            head: None,
            classifier_dropout: 0.0,
            token_types: 0,
            max_positions: None,
            linear_std: None,
            linear_init: None,
            rescale_residual: false,
            head_bias: true,
        }
    }
}

impl ModelConfig {
    /// Everything wrong with these settings.
    pub fn check(&self) -> Vec<ConfigError> {
        let mut found = bounds::beyond(self);
        let counts = [
            ("d_model", self.d_model),
            ("n_layers", self.n_layers),
            ("d_ff", self.d_ff.unwrap_or(1)),
            ("max_positions", self.max_positions.unwrap_or(1)),
        ];
        for (key, value) in counts {
            if value < 1 {
                found.push(ConfigError::new(key, format!("`{key}` is {value}, which is below 1"), "use 1 or more"));
            }
        }
        if self.token_types < 0 {
            let problem = format!("`token_types` is {}, which is below 0", self.token_types);
            found.push(ConfigError::new("token_types", problem, "use 2 as BERT, or 0 for none"));
        }
        let shares = [
            ("dropout", self.dropout),
            ("ffn_dropout", self.ffn_dropout),
            ("embedding_dropout", self.embedding_dropout),
            ("classifier_dropout", self.classifier_dropout),
        ];
        for (key, value) in shares {
            if !(0.0..1.0).contains(&value) {
                let problem = format!("`{key}` is {value}, which is not a probability below 1");
                found.push(ConfigError::new(key, problem, "use 0 to turn it off, or a number such as 0.1"));
            }
        }
        if let Some(eps) = self.norm_eps.filter(|eps| !(*eps > 0.0 && *eps < 1.0)) {
            let problem = format!("`norm_eps` is {eps}, which is not between 0 and 1");
            found.push(ConfigError::new("norm_eps", problem, "use a small number such as 1e-5"));
        }
        for (key, std, null) in
            [("init_std", self.init_std, "BERT's at this width"), ("linear_std", self.linear_std, "the mixers' own")]
        {
            if let Some(std) = std.filter(|std| !(*std > 0.0 && *std <= 10.0)) {
                let problem = format!("`{key}` is {std}, which is not above 0 and up to 10");
                found.push(ConfigError::new(key, problem, format!("use a number such as 0.02, or null for {null}")));
            }
        }
        for (key, std, usual) in [("embedding_std", self.embedding_std, "1"), ("cls_std", self.cls_std, "0")] {
            if let Some(std) = std.filter(|std| !(0.0..=10.0).contains(std)) {
                let problem = format!("`{key}` is {std}, which is not between 0 and 10");
                found.push(ConfigError::new(
                    key,
                    problem,
                    format!("use a number such as {usual}, or null for `init_std`"),
                ));
            }
        }
        if self.linear_init.is_some() && self.linear_std.is_some() {
            let problem = "`linear_init` and `linear_std` both say how dense maps start";
            found.push(ConfigError::new("linear_init", problem, "keep one of the two"));
        }
        if self.ffn_dropout > 0.0 && matches!(self.ffn(), Ffn::None | Ffn::Identity) {
            let problem = format!("`ffn_dropout` is {}, but the blocks have no feed-forward", self.ffn_dropout);
            found.push(ConfigError::new("ffn_dropout", problem, "use 0, or `ffn: mlp`"));
        }
        if self.ffn_activation != Activation::Gelu && self.ffn() != Ffn::Mlp {
            let problem = "`ffn_activation` is set, but the blocks have no `ffn: mlp` that could have it";
            found.push(ConfigError::new("ffn_activation", problem, "leave it out, or use `ffn: mlp`"));
        }
        if self.rescale_residual && self.linear_std.is_none() {
            let problem = "`rescale_residual` is set, but `linear_std` is not: there is no deviation to divide";
            found.push(ConfigError::new("rescale_residual", problem, "set `linear_std` too, such as 0.02"));
        }
        if self.positions() == Positions::Sinusoidal && self.d_model % 2 == 1 {
            let problem = format!("`d_model` is {}, which sinusoidal positions cannot halve", self.d_model);
            found.push(ConfigError::new("d_model", problem, "use an even width, or `positions: learned`"));
        }
        found
    }

    /// What of these settings the task cannot have.
    pub fn check_task(&self, task: &tasks::Outline) -> Vec<ConfigError> {
        let mut found = Vec::new();
        if let Some(rows) = self.max_positions.filter(|rows| *rows < task.max_length) {
            let longest = task.max_length;
            let problem = format!("`max_positions` is {rows}, but the task's sequences have up to {longest} positions");
            let help = format!("use {longest} or more, or null, or make the task's sequences shorter");
            found.push(ConfigError::new("max_positions", problem, help));
        }
        let tokens = task.output == Output::Tokens;
        let pooled = matches!(task.output, Output::PerSequence | Output::Value) && task.documents == 1;
        // Where classes are as many as tokens, class c is token c: MQAR's values, a group's elements.
        let own_tokens = tokens
            || task.input == Input::Tokens
                && task.documents == 1
                && task.classes == task.vocab_size
                && matches!(task.output, Output::PerPosition | Output::PerSequence);
        let plain_or_tied = match self.head_for(task.output, task.input) {
            HeadKind::Bert | HeadKind::Mlp => false,
            HeadKind::Plain | HeadKind::Tied => task.documents == 1 && task.output != Output::Reconstruction,
        };
        if !self.head_bias && !plain_or_tied {
            let problem = "`head_bias` is false, but the task's head is neither plain nor tied and keeps its biases";
            found.push(ConfigError::new(
                "head_bias",
                problem,
                "leave it out in the task's entry, or use `head: plain`",
            ));
        }
        let problem = match self.head {
            Some(HeadKind::Tied) if !own_tokens => {
                "`head` is tied, but the task does not ask for tokens of its vocabulary"
            }
            Some(HeadKind::Bert) if !tokens && !pooled => {
                "`head` is bert, but the task asks neither for tokens of its vocabulary nor for one class of one sequence"
            }
            Some(HeadKind::Mlp) if !pooled => "`head` is mlp, but the task does not ask for one class of one sequence",
            Some(HeadKind::Tied | HeadKind::Bert) if tokens && task.input != Input::Tokens => {
                "`head` is tied to the embedding, but the task's inputs are real numbers, which have none"
            }
            _ => return found,
        };
        found.push(ConfigError::new("head", problem, "use `head: plain`, or null, in the task's entry"));
        found
    }

    /// Whether the vector that is read of a sequence reads anything of it; `clm`: the model is causal, whatever the task.
    pub fn check_pooling(&self, task: &tasks::Outline, clm: bool) -> Vec<ConfigError> {
        let per_sequence = matches!(task.output, Output::PerSequence | Output::Value);
        if !per_sequence || !(task.causal || clm) || !matches!(self.pooling, Pooling::Cls | Pooling::First) {
            return Vec::new();
        }
        let why = if task.causal { "the task is causal" } else { "`objective: clm` makes the model causal" };
        let problem = match self.pooling {
            Pooling::First => format!("`pooling` is first, but {why}: position 0 reads no other"),
            _ => format!("`pooling` is cls, but {why}: the vector in front reads nothing of the sequence"),
        };
        vec![ConfigError::new("pooling", problem, "use `pooling: mean` or `last`")]
    }

    /// Deviation of the tables whose rows are looked up or added. A row is read whole: its length is the same at every width
    /// (docs/decisions/0016-initial-values-travel.md).
    pub fn table_std(&self) -> f64 {
        let travelled = || match self.init {
            InitialValues::Scaled => TABLE_STD * (TABLE_WIDTH as f64 / self.d_model as f64).sqrt(),
            InitialValues::Published => TABLE_STD,
        };
        self.init_std.unwrap_or_else(travelled)
    }

    /// The head for a task: `head`, or what `null` means.
    pub(super) fn head_for(&self, output: Output, input: Input) -> HeadKind {
        let tokens = output == Output::Tokens && input == Input::Tokens;
        self.head.unwrap_or(if tokens { HeadKind::Bert } else { HeadKind::Plain })
    }

    fn positions(&self) -> Positions {
        self.positions.unwrap_or(match self.block {
            BlockShape::Transformer => Positions::Learned,
            _ => Positions::None,
        })
    }

    fn ffn(&self) -> Ffn {
        self.ffn.unwrap_or(if self.block == BlockShape::Transformer { Ffn::Mlp } else { Ffn::None })
    }

    /// The same model with every `null` replaced by what it means.
    pub fn resolved(&self) -> Self {
        let block = self.block;
        let ffn = self.ffn();
        let d_ff = match ffn {
            Ffn::None | Ffn::Identity => None,
            Ffn::Mlp => Some(self.d_ff.unwrap_or(self.d_model.saturating_mul(4))),
            Ffn::Glu => Some(self.d_ff.unwrap_or((self.d_model.saturating_mul(8) / 3 + 7) / 8 * 8)),
        };
        let place = if block == BlockShape::Hydra { NormPlace::Post } else { NormPlace::Pre };
        Self {
            norm: Some(self.norm.unwrap_or(if block == BlockShape::S4 { NormKind::Batch } else { NormKind::Layer })),
            norm_place: Some(self.norm_place.unwrap_or(place)),
            norm_eps: Some(self.norm_eps.unwrap_or(if block == BlockShape::Bigs { 1e-12 } else { 1e-5 })),
            ffn: Some(ffn),
            d_ff,
            positions: Some(self.positions()),
            embedding_norm: Some(self.embedding_norm.unwrap_or(matches!(block, BlockShape::Bigs | BlockShape::Hydra))),
            ..self.clone()
        }
    }

    /// The settings that decide which parameters a body has and what they mean.
    pub fn body(&self) -> serde_json::Map<String, Value> {
        let fresh = Self::default();
        let in_front = if self.pooling == Pooling::Cls { Pooling::Cls } else { Pooling::Mean };
        let model = Self {
            head: None,
            classifier_dropout: 0.0,
            pooling: in_front,
            pair_head: fresh.pair_head,
            dropout: 0.0,
            ffn_dropout: 0.0,
            tied_dropout: false,
            embedding_dropout: 0.0,
            init: fresh.init,
            init_std: None,
            embedding_std: None,
            cls_std: None,
            linear_std: None,
            linear_init: None,
            rescale_residual: false,
            head_bias: true,
            max_positions: None,
            precision: Precision::F32,
            checkpoint_activations: false,
            ..self.resolved()
        };
        match serde_json::to_value(model) {
            Ok(Value::Object(map)) => map,
            _ => unreachable!("settings are a map"),
        }
    }

    /// What the mixers are built for, on sequences of at most `max_length`, or of `max_positions`.
    pub fn dims(&self, max_length: i64, causal: bool) -> Dims {
        let seq_len = self.max_positions.unwrap_or(max_length) + i64::from(self.pooling == Pooling::Cls);
        Dims { d_model: self.d_model, seq_len, causal }
    }

    /// Width of the layer between vector and classes where there is one.
    pub(super) fn decoder_width(&self) -> i64 {
        self.d_ff.unwrap_or(4 * self.d_model)
    }

    /// FLOPs of a task's head on one example: on `scored` positions of one document, once on two.
    pub fn head_flops(&self, scored: i64, outline: &tasks::Outline) -> f64 {
        let (d, classes) = (self.d_model, outline.classes);
        if outline.output == Output::Reconstruction {
            let wide = self.decoder_width();
            return dense_flops(scored, d, wide) + dense_flops(scored, wide, classes);
        }
        match (outline.documents, self.pair_head) {
            (2, PairHead::S4) => dense_flops(1, 4 * d, d) + dense_flops(1, d, classes),
            (2, head) => {
                let (read, wide) = (if head == PairHead::Lra { 4 * d } else { 2 * d }, self.decoder_width());
                dense_flops(1, read, wide) + dense_flops(1, wide, wide / 2) + dense_flops(1, wide / 2, classes)
            }
            _ => match self.head_for(outline.output, outline.input) {
                HeadKind::Bert => dense_flops(scored, d, classes) + dense_flops(scored, d, d),
                HeadKind::Mlp => {
                    let wide = self.decoder_width();
                    dense_flops(scored, d, wide) + dense_flops(scored, wide, classes)
                }
                HeadKind::Plain | HeadKind::Tied => dense_flops(scored, d, classes),
            },
        }
    }

    /// FLOPs of one forward pass on one example whose sequences have `length`, mixers and head excluded.
    pub fn trunk_flops(&self, length: i64, outline: &tasks::Outline) -> f64 {
        let d = self.d_model;
        let encoder = match outline.input {
            Input::Tokens => 0.0,
            Input::Reals { width, .. } => dense_flops(length, width, d),
        };
        let ffn = match (self.ffn, self.d_ff) {
            (Some(Ffn::Mlp), Some(d_ff)) => 2.0 * dense_flops(length, d, d_ff),
            (Some(Ffn::Glu), Some(d_ff)) => 3.0 * dense_flops(length, d, d_ff),
            _ => 0.0,
        };
        outline.documents as f64 * (encoder + self.n_layers as f64 * ffn)
    }
}

/// FLOPs of a dense map at each of `rows` positions: whole numbers up to 2^53, and no bound above.
pub(crate) fn dense_flops(rows: i64, d_in: i64, d_out: i64) -> f64 {
    2.0 * rows as f64 * d_in as f64 * d_out as f64
}
