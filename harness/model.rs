//! The backbone around a mixer: embedding, residual blocks, head. Shared by every run, so that one thing varies.
//!
//! ```text
//! pre-norm    x ← x + mixer(norm(x));   x ← x + ffn(norm(x));   a final norm after the last block
//! post-norm   x ← norm(x + mixer(x));   x ← norm(x + ffn(x))
//! ```
//! The shapes of the papers: `transformer` (Vaswani et al. 2017; pre-norm as in Xiong et al. 2020), `s4` (batch norm, the
//! mixer's own GLU is the channel mixer), `bigs` (pre-norm around the gated layer, nothing else), `hydra` (post-norm, no
//! feed-forward).

use crate::base::bounds;
use mixers::{Context, Cost, Dims, Linear, Mixer, NotLinear, ParamRule, Precision, linear};
use serde::{Deserialize, Serialize};
use settings::ConfigError;
use tasks::{Input, Output, TaskSpec};
use tch::nn::{self, Module, ModuleT};
use tch::{Kind, Tensor, no_grad};

/// A named shape of block; it decides what the other keys default to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Where the norm stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum NormPlace {
    /// On the branch, before the mixer.
    Pre,
    /// On the sum, after it.
    Post,
}

/// The channel mixer beside the sequence mixer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// What stands between the two layers of `ffn: mlp`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
    fn forward(self, x: &Tensor) -> Tensor {
        match self {
            Self::Gelu => x.gelu("none"),
            Self::GeluTanh => x.gelu("tanh"),
            Self::Relu => x.relu(),
        }
    }
}

/// How dense maps start, where a mixer's own initial values are not wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LinearInit {
    /// As the Long Range Arena: a map of a block `U(±√(6 / (in + out)))`, a map of the head normal of variance 1 / in, cut at two
    /// deviations; biases 0. Attention's fused `in_proj_weight` is three maps.
    Lra,
}

/// What tells positions apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// What reads the answer of a language model, or of a task of one class or number a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// The head over the pooled vectors u and v of two documents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

/// Whether a key stays out of a run's identity, for it is younger than the runs there are.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// `model: { block: transformer, d_model: 128, n_layers: 2 }`. `null` means: what the block's paper uses.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelConfig {
    /// Named shape; decides the keys left `null`.
    pub block: BlockShape,
    /// Width of the residual stream.
    pub d_model: i64,
    /// Blocks.
    pub n_layers: i64,
    /// Norm: layer, and batch for `s4`.
    pub norm: Option<NormKind>,
    /// Where it stands: pre, and post for `hydra`.
    pub norm_place: Option<NormPlace>,
    /// Added to the variance: 1e-5, and 1e-12 for `bigs`.
    pub norm_eps: Option<f64>,
    /// Channel mixer: mlp for `transformer`, else none.
    pub ffn: Option<Ffn>,
    /// Its width: 4 d_model for mlp; 8/3 d_model, rounded up to a multiple of 8, for glu.
    pub d_ff: Option<i64>,
    /// Positions: learned for `transformer`, else none.
    pub positions: Option<Positions>,
    /// Layer norm on the embedding: on for `bigs` and `hydra`.
    pub embedding_norm: Option<bool>,
    /// What stands between the layers of `ffn: mlp`.
    #[serde(skip_serializing_if = "is_default")]
    pub ffn_activation: Activation,
    /// Dropout between the layers of the channel mixer, besides the branch's own.
    #[serde(skip_serializing_if = "is_zero")]
    pub ffn_dropout: f64,
    /// Dropout on each branch.
    pub dropout: f64,
    /// Whether a branch's dropout drops a channel at every position of a sequence or at none, as S4 does.
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
    /// Standard deviation of the initial embedding and learned positions (BERT: 0.02).
    pub init_std: f64,
    /// That of the embedding of tokens alone (S4 and the Long Range Arena: 1); null: `init_std`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_std: Option<f64>,
    /// That of the vector of `pooling: cls` alone (the Long Range Arena: 0); null: `init_std`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cls_std: Option<f64>,
    /// What reads the answer: bert where tokens of a vocabulary are asked for, else plain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub head: Option<HeadKind>,
    /// Bias of `head: plain` and `head: tied` (Zoology: none).
    #[serde(skip_serializing_if = "is_true")]
    pub head_bias: bool,
    /// Dropout between pooler and classes of `head: bert`.
    #[serde(skip_serializing_if = "is_zero")]
    pub classifier_dropout: f64,
    /// Rows of an embedding of token types, which is added to the tokens'; 0: none (BERT: 2). A type beyond the last row reads
    /// the last.
    #[serde(skip_serializing_if = "is_none")]
    pub token_types: i64,
    /// Longest sequence that positions and mixers are made for; null: the task's longest.
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
    /// What dense products are taken in: f32, or bf16 with float32 weights, gradients, norms, softmax, scans and losses.
    #[serde(skip_serializing_if = "is_default")]
    pub precision: Precision,
    /// Keep each layer's input alone and run the layer again in the backward: less memory, about a third more work.
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
            init_std: 0.02,
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
        if !(self.init_std > 0.0 && self.init_std <= 10.0) {
            let problem = format!("`init_std` is {}, which is not above 0 and up to 10", self.init_std);
            found.push(ConfigError::new("init_std", problem, "use a number such as 0.02 or 1"));
        }
        if let Some(std) = self.linear_std.filter(|std| !(*std > 0.0 && *std <= 10.0)) {
            let problem = format!("`linear_std` is {std}, which is not above 0 and up to 10");
            found.push(ConfigError::new(
                "linear_std",
                problem,
                "use a number such as 0.02, or null for the mixers' own",
            ));
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

    /// The head for a task: `head`, or what `null` means.
    fn head_for(&self, output: Output, input: Input) -> HeadKind {
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
            Ffn::Mlp => Some(self.d_ff.unwrap_or(4 * self.d_model)),
            Ffn::Glu => Some(self.d_ff.unwrap_or((8 * self.d_model / 3 + 7) / 8 * 8)),
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

    /// What the mixers are built for, on sequences of at most `max_length`, or of `max_positions`.
    pub fn dims(&self, max_length: i64, causal: bool) -> Dims {
        let seq_len = self.max_positions.unwrap_or(max_length) + i64::from(self.pooling == Pooling::Cls);
        Dims { d_model: self.d_model, seq_len, causal }
    }

    /// Width of the layer between vector and classes where there is one.
    fn decoder_width(&self) -> i64 {
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

/// A norm over the last axis of `[batch, length, d_model]`.
#[derive(Debug)]
enum Norm {
    Layer(nn::LayerNorm),
    Batch(nn::BatchNorm),
    /// Scale `[d_model]`, and what is added to the mean square.
    Rms(Tensor, f64),
}

impl Norm {
    fn new(vs: &nn::Path, kind: NormKind, d: i64, eps: f64) -> Self {
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

    fn forward(&self, x: &Tensor, ctx: &Context) -> Tensor {
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
enum Channels {
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
    fn forward(&self, x: &Tensor, drop: impl Fn(Tensor) -> Tensor) -> Option<Tensor> {
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
    mixer: Box<dyn Mixer>,
    mixer_norm: Norm,
    ffn: Channels,
    ffn_norm: Option<Norm>,
    place: NormPlace,
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
    fn last_maps(&self) -> Vec<String> {
        let mixer = self.mixer.output_map().map(|name| format!("mixer.{name}"));
        let ffn = matches!(self.ffn, Channels::Mlp(..) | Channels::Glu(..)).then(|| "ffn.down.weight".to_string());
        mixer.into_iter().chain(ffn).collect()
    }

    /// Running mean and variance of its batch norms.
    fn running(&self) -> Vec<Tensor> {
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

    fn branch(&self, x: &Tensor, norm: &Norm, ctx: &Context, f: impl Fn(&Tensor) -> Option<Tensor>) -> Tensor {
        let drop = |y: Tensor| self.drop(y, ctx.train);
        match self.place {
            NormPlace::Pre => f(&norm.forward(x, ctx)).map_or_else(|| x.shallow_clone(), |y| x + drop(y)),
            NormPlace::Post => f(x).map_or_else(|| x.shallow_clone(), |y| norm.forward(&(x + drop(y)), ctx)),
        }
    }

    fn drop(&self, y: Tensor, train: bool) -> Tensor {
        match (train && self.dropout > 0.0, self.tied) {
            (false, _) => y,
            (true, false) => y.dropout(self.dropout, true),
            (true, true) => &y * y.narrow(1, 0, 1).detach().ones_like().dropout(self.dropout, true),
        }
    }
}

/// What makes a position's number a vector.
#[derive(Debug)]
enum Encoder {
    /// A row of `[vocab_size, d_model]`.
    Table(Tensor),
    /// A linear map of real features, each `scale · token + shift`.
    Line { map: Linear, scale: f64, shift: f64 },
}

impl Encoder {
    /// int64 `[rows, length]`, or `[rows, length, width]` of several numbers a position → `[rows, length, d_model]`.
    fn forward(&self, tokens: &Tensor) -> Tensor {
        match self {
            Self::Table(table) => Tensor::embedding(table, tokens, -1, false, false),
            Self::Line { map, scale, shift } => {
                let kind = map.ws.kind();
                let numbers = if tokens.dim() == 2 { tokens.unsqueeze(-1) } else { tokens.shallow_clone() };
                (numbers.to_kind(kind) * *scale + *shift).apply(map)
            }
        }
    }
}

/// What reads the answer off pooled vectors or scored positions.
#[derive(Debug)]
enum Head {
    /// `[…, d_model]` → `[…, classes]`.
    Plain(Linear),
    /// The same by the embedding `[classes, d_model]`, behind BERT's transform where there is one.
    Tied { transform: Option<(Linear, nn::LayerNorm)>, table: Tensor, bias: Option<Tensor>, precision: Precision },
    /// BERT's pooler, dropout and classifier.
    Pooled { pooler: Linear, dropout: f64, classifier: Linear },
    /// Two layers with a ReLU between.
    Mlp(Linear, Linear),
    /// Two documents: layers with their activation between, on `[u, v, u·v, u − v]` or `[u, v]`.
    Pair(Vec<Linear>, PairHead),
    /// One vector and a code of the position asked for, `[length, d_model]`: `W₂ gelu(W₁ (x + code))`.
    Decoder { codes: Tensor, up: Linear, down: Linear },
}

impl Head {
    /// `table` is the embedding, where tokens have one.
    fn new(vs: &nn::Path, config: &ModelConfig, task: &TaskSpec, table: Option<Tensor>) -> Self {
        let (d, classes) = (config.d_model, task.classes);
        if task.output == Output::Reconstruction {
            let normal = nn::Init::Randn { mean: 0.0, stdev: config.init_std };
            return Self::Decoder {
                codes: (vs / "positions").var("weight", &[task.max_length, d], normal),
                up: linear(&(vs / "up"), d, config.decoder_width(), true),
                down: linear(&(vs / "down"), config.decoder_width(), classes, true),
            };
        }
        if task.documents == 1 {
            return match (config.head_for(task.output, task.input), table) {
                (HeadKind::Plain, _) | (HeadKind::Tied, None) => Self::Plain(linear(vs, d, classes, config.head_bias)),
                (HeadKind::Mlp, _) => {
                    let wide = config.decoder_width();
                    Self::Mlp(linear(&(vs / "mlp"), d, wide, true), linear(&(vs / "logits"), wide, classes, true))
                }
                (HeadKind::Bert, _) if task.output != Output::Tokens => Self::Pooled {
                    pooler: linear(&(vs / "pooler"), d, d, true),
                    dropout: config.classifier_dropout,
                    classifier: linear(&(vs / "classifier"), d, classes, true),
                },
                (kind, table) => {
                    let eps = config.norm_eps.unwrap_or(1e-5);
                    let norm = nn::LayerNormConfig { eps, ..Default::default() };
                    let transform =
                        || (linear(&(vs / "transform"), d, d, true), nn::layer_norm(vs / "norm", vec![d], norm));
                    Self::Tied {
                        transform: (kind == HeadKind::Bert).then(transform),
                        table: table.expect("tokens have an embedding: the settings were checked"),
                        bias: (config.head_bias || kind == HeadKind::Bert).then(|| vs.zeros("bias", &[classes])),
                        precision: config.precision,
                    }
                }
            };
        }
        let wide = config.decoder_width();
        let widths = match config.pair_head {
            PairHead::S4 => vec![4 * d, d, classes],
            PairHead::Lra => vec![4 * d, wide, (wide / 2).max(1), classes],
            PairHead::LraConcat => vec![2 * d, wide, (wide / 2).max(1), classes],
        };
        let layers = widths.windows(2).enumerate().map(|(i, w)| linear(&(vs / i), w[0], w[1], true)).collect();
        Self::Pair(layers, config.pair_head)
    }

    /// One row an example; of two documents `x` holds every first one's vector, then every second one's.
    fn forward(&self, x: &Tensor, train: bool) -> Tensor {
        let (layers, shape) = match self {
            Self::Plain(map) => return x.apply(map),
            Self::Tied { transform, table, bias, precision } => {
                let x = match transform {
                    None => x.shallow_clone(),
                    Some((map, norm)) => x.apply(map).gelu("none").apply(norm),
                };
                return precision.linear(&x, table, bias.as_ref());
            }
            Self::Pooled { pooler, dropout, classifier } => {
                let x = x.apply(pooler).tanh();
                let x = if *dropout > 0.0 { x.dropout(*dropout, train) } else { x };
                return x.apply(classifier);
            }
            Self::Mlp(mlp, logits) => return x.apply(mlp).relu().apply(logits),
            Self::Decoder { up, down, .. } => return x.apply(up).gelu("none").apply(down),
            Self::Pair(layers, shape) => (layers, shape),
        };
        let examples = x.size()[0] / 2;
        let (u, v) = (x.narrow(0, 0, examples), x.narrow(0, examples, examples));
        let joined = match shape {
            PairHead::S4 | PairHead::Lra => Tensor::cat(&[&u, &v, &(&u * &v), &(&u - &v)], -1),
            PairHead::LraConcat => Tensor::cat(&[&u, &v], -1),
        };
        let (last, inner) = layers.split_last().expect("a head has layers");
        let activation = |x: Tensor| if *shape == PairHead::S4 { x.gelu("none") } else { x.relu() };
        inner.iter().fold(joined, |x, layer| activation(x.apply(layer))).apply(last)
    }

    /// The dense maps, E apart.
    fn maps(&self) -> Vec<&Linear> {
        match self {
            Self::Plain(map) => vec![map],
            Self::Tied { transform, .. } => transform.iter().map(|(map, _)| map).collect(),
            Self::Pooled { pooler, classifier, .. } => vec![pooler, classifier],
            Self::Mlp(mlp, logits) => vec![mlp, logits],
            Self::Pair(layers, _) => layers.iter().collect(),
            Self::Decoder { up, down, .. } => vec![up, down],
        }
    }
}

/// A whole model: tokens in, class logits out.
#[derive(Debug)]
pub struct Model {
    encoder: Encoder,
    positions: Option<Tensor>,
    /// `[token_types, d_model]`.
    types: Option<Tensor>,
    cls: Option<Tensor>,
    embedding_norm: Option<Norm>,
    blocks: Vec<Block>,
    /// Sines and cosines of the number of each application, `[n_layers, d_model]`, where one block has them all.
    steps: Option<Tensor>,
    /// Factors on the heads of each layer; `None`: as they are.
    heads: Vec<Option<Tensor>>,
    final_norm: Option<Norm>,
    head: Head,
    config: ModelConfig,
    output: Output,
}

/// A batch on the device.
#[derive(Debug)]
pub struct Inputs {
    /// Token ids, int64 `[batch, length]`, or `[batch, length, width]` of several numbers a position; of two documents every
    /// example's first, then every example's second.
    pub tokens: Tensor,
    /// Type of each token, 0 or 1, shaped as `tokens`; `None` where all are 0.
    pub types: Option<Tensor>,
    /// Valid length of each row, int64 `[batch]`; `None` when every position is valid.
    pub lengths: Option<Tensor>,
    /// Scored positions as indices into `batch · length`, int64; `None` when a sequence has one class.
    pub positions: Option<Tensor>,
}

/// Positions whose number a model must not see.
#[derive(Debug)]
pub struct Hidden<'a> {
    /// Indices into `batch · length`, int64.
    pub at: &'a Tensor,
    /// What the encoder gives there instead, `[d_model]`.
    pub vector: &'a Tensor,
}

impl Model {
    /// Builds under `vs`; `config` must be resolved, and the mixer's settings checked.
    pub fn new(
        vs: &nn::Path,
        config: &ModelConfig,
        task: &TaskSpec,
        mixer: &mixers::Entry,
        settings: &serde_json::Value,
    ) -> Self {
        let config = config.resolved();
        let _building = config.precision.building();
        let (d, eps) = (config.d_model, config.norm_eps.unwrap_or(1e-5));
        let drawn = |std: Option<f64>| match std.unwrap_or(config.init_std) {
            0.0 => nn::Init::Const(0.0),
            stdev => nn::Init::Randn { mean: 0.0, stdev },
        };
        let normal = drawn(None);
        let of_sequences = matches!(task.output, Output::PerSequence | Output::Value);
        let use_cls = config.pooling == Pooling::Cls && of_sequences;
        let dims = config.dims(task.max_length, task.causal);
        let positions = match config.positions.unwrap_or(Positions::None) {
            Positions::None => None,
            Positions::Learned => Some((vs / "embedding_positions").var("weight", &[dims.seq_len, d], normal)),
            Positions::Sinusoidal => Some(sinusoids(dims.seq_len, d).to_device(vs.device())),
        };
        let kind = config.norm.unwrap_or(NormKind::Layer);
        let place = config.norm_place.unwrap_or(NormPlace::Pre);
        let built = if config.shared_depth { 1 } else { config.n_layers };
        let blocks = (0..built).map(|i| Block::new(&(vs / "blocks" / i), &config, &dims, mixer, settings)).collect();
        let final_norm = place == NormPlace::Pre && config.block != BlockShape::Bigs;
        let encoder = match task.input {
            Input::Tokens => {
                let normal = drawn(config.embedding_std);
                Encoder::Table((vs / "embedding").var("weight", &[task.vocab_size, d], normal))
            }
            Input::Reals { width, scale, shift } => {
                Encoder::Line { map: linear(&(vs / "embedding"), width, d, true), scale, shift }
            }
        };
        let table = match &encoder {
            Encoder::Table(table) => Some(table.shallow_clone()),
            Encoder::Line { .. } => None,
        };
        let model = Self {
            encoder,
            types: (config.token_types > 0)
                .then(|| (vs / "embedding_types").var("weight", &[config.token_types, d], normal)),
            steps: config.shared_depth.then(|| sinusoids(config.n_layers, d).to_device(vs.device())),
            heads: (0..config.n_layers).map(|_| None).collect(),
            positions,
            cls: use_cls.then(|| (vs / "embedding_cls").var("weight", &[1, 1, d], drawn(config.cls_std))),
            embedding_norm: config
                .embedding_norm
                .unwrap_or(false)
                .then(|| Norm::new(&(vs / "embedding_norm"), NormKind::Layer, d, eps)),
            blocks,
            final_norm: final_norm.then(|| Norm::new(&(vs / "final_norm"), kind, d, eps)),
            head: Head::new(&(vs / "head"), &config, task, table),
            config,
            output: task.output,
        };
        let draw = |map: &str, shape: &[i64], of_head: bool| match (model.config.linear_init, model.config.linear_std) {
            (Some(LinearInit::Lra), _) if of_head => Draw::Cut((1.0 / shape[1] as f64).sqrt()),
            (Some(LinearInit::Lra), _) => Draw::Uniform((6.0 / ends(map, shape, d) as f64).sqrt()),
            (None, std) => Draw::Normal(std.expect("one of the two")),
        };
        if model.config.linear_init.is_some() || model.config.linear_std.is_some() {
            // A path cannot list what lies under it: the names are those of a block built aside.
            let aside = nn::VarStore::new(tch::Device::Cpu);
            let block = Block::new(&aside.root(), &model.config, &dims, mixer, settings);
            let maps = dense_maps(&aside);
            let last = if model.config.rescale_residual { block.last_maps() } else { Vec::new() };
            let root = (2.0 * model.config.n_layers as f64).sqrt();
            for at in (0..built).map(|i| vs / "blocks" / i) {
                for (name, bias) in &maps {
                    let weight = find(&at, name).expect("a block built alike");
                    let draw = match draw(name, &weight.size(), false) {
                        Draw::Normal(std) if last.contains(name) => Draw::Normal(std / root),
                        draw => draw,
                    };
                    redraw(weight, find(&at, bias), draw);
                }
            }
            for map in model.head.maps() {
                let draw = draw("", &map.ws.size(), true);
                redraw(map.ws.shallow_clone(), map.bs.as_ref().map(Tensor::shallow_clone), draw);
            }
        }
        model
    }

    /// What the first block reads, `[batch, length, d_model]`; one position more where there is a cls vector.
    fn embed(&self, inputs: &Inputs, hidden: Option<Hidden>, train: bool) -> (Tensor, Context) {
        let mut x = self.encoder.forward(&inputs.tokens);
        if let Some(Hidden { at, vector }) = hidden {
            let vectors = vector.expand([at.size()[0], -1], false);
            x = x.flatten(0, 1).index_copy(0, at, &vectors).view_as(&x);
        }
        if let Some(table) = &self.types {
            let types = match &inputs.types {
                Some(types) => Tensor::embedding(table, &types.clamp_max(table.size()[0] - 1), -1, false, false),
                None => table.narrow(0, 0, 1),
            };
            x = &x + types;
        }
        let mut ctx =
            Context { train, lengths: inputs.lengths.as_ref().map(Tensor::shallow_clone), ..Context::default() };
        if let Some(cls) = &self.cls {
            x = Tensor::cat(&[cls.expand([x.size()[0], 1, -1], false), x], 1);
            ctx.lengths = ctx.lengths.map(|l| l + 1);
        }
        if let Some(table) = &self.positions {
            x = &x + table.narrow(0, 0, x.size()[1]);
        }
        if let Some(norm) = &self.embedding_norm {
            x = norm.forward(&x, &ctx);
        }
        if self.config.embedding_dropout > 0.0 {
            x = x.dropout(self.config.embedding_dropout, train);
        }
        (x, ctx)
    }

    /// Makes weights taken over from a model built for sequences of up to `seq_len` positions mean here what they meant there.
    pub fn adopt(&self, seq_len: i64) -> Result<(), mixers::ConfigError> {
        self.blocks.iter().try_for_each(|block| block.mixer.adopt(seq_len))
    }

    /// Layers: applications of a block.
    pub fn layers(&self) -> usize {
        self.heads.len()
    }

    /// The block of a layer.
    fn block(&self, layer: usize) -> &Block {
        &self.blocks[layer.min(self.blocks.len() - 1)]
    }

    /// One layer on what the layer before it, or the embedding, gave.
    fn layer(&self, layer: usize, x: &Tensor, ctx: &mut Context) -> Tensor {
        ctx.heads = self.heads[layer].as_ref().map(Tensor::shallow_clone);
        self.block(layer).forward(&self.stepped(layer, x), ctx)
    }

    /// `x` with what tells the applications of a shared block apart.
    fn stepped(&self, layer: usize, x: &Tensor) -> Tensor {
        let Some(steps) = &self.steps else { return x.shallow_clone() };
        let x = x + steps.get(layer as i64).to_kind(x.kind());
        match &self.positions {
            Some(table) if layer > 0 => &x + table.narrow(0, 0, x.size()[1]),
            _ => x,
        }
    }

    /// Heads of each layer's mixer that [`Model::silence`] knows; 0 where it has none.
    pub fn mixer_heads(&self) -> i64 {
        self.blocks[0].mixer.heads()
    }

    /// Sets the factors on the heads of a layer's mixer, `[heads]`; `None` leaves them as they are.
    pub fn silence(&mut self, layer: usize, factors: Option<Tensor>) {
        self.heads[layer] = factors;
    }

    /// What the mixer of `layer` reads of `inputs`.
    fn read(&self, inputs: &Inputs, layer: usize) -> (Tensor, Context) {
        let (x, mut ctx) = self.embed(inputs, None, false);
        let x = (0..layer).fold(x, |x, i| self.layer(i, &x, &mut ctx));
        let (x, block) = (self.stepped(layer, &x), self.block(layer));
        let x = match block.place {
            NormPlace::Pre => block.mixer_norm.forward(&x, &ctx),
            NormPlace::Post => x,
        };
        (x, ctx)
    }

    /// The mixing matrix of block `layer` on what its mixer reads of `inputs`: `[batch, heads, length, length]`.
    pub fn matrix(&self, inputs: &Inputs, layer: usize) -> Result<Tensor, NotLinear> {
        let (x, ctx) = self.read(inputs, layer);
        self.block(layer).mixer.materialize(&x, &ctx)
    }

    /// The decoding state of `layer`'s mixer after each of the positions `at`, which rise: each a `[batch, channels]`. Empty
    /// where the mixer has no state of constant size to show.
    pub fn states(&self, inputs: &Inputs, layer: usize, at: &[i64]) -> Vec<Tensor> {
        let (x, _) = self.read(inputs, layer);
        let Some(mut steps) = self.block(layer).mixer.recurrent() else { return Vec::new() };
        steps.reset(x.size()[0]);
        let mut found = Vec::new();
        for (t, x) in x.unbind(1).iter().enumerate() {
            let _ = steps.step(x);
            if at.contains(&(t as i64)) {
                let parts: Vec<Tensor> = steps.state().iter().map(|part| part.flatten(1, -1)).collect();
                if parts.is_empty() {
                    return Vec::new();
                }
                found.push(Tensor::cat(&parts, 1));
            }
        }
        found
    }

    /// What the head could read after the embedding and after each layer, without any norm: `layers + 1` tensors
    /// `[scored, d_model]`.
    pub fn after_layers(&self, inputs: &Inputs) -> Vec<Tensor> {
        let (x, mut ctx) = self.embed(inputs, None, false);
        let mut found = vec![self.scored(&x, inputs, &ctx)];
        let mut x = x;
        for layer in 0..self.layers() {
            x = self.layer(layer, &x, &mut ctx);
            found.push(self.scored(&x, inputs, &ctx));
        }
        found
    }

    /// Rows of the vectors an answer is read off: at scored positions, or one a sequence.
    fn scored(&self, x: &Tensor, inputs: &Inputs, ctx: &Context) -> Tensor {
        match (self.output, &inputs.positions) {
            (Output::PerPosition | Output::Number | Output::Tokens, Some(at)) => x.flatten(0, 1).index_select(0, at),
            _ => self.pool(x, ctx),
        }
    }

    /// Logits `[scored, classes]`: one row a sequence, or one row a scored position.
    pub fn forward(&self, inputs: &Inputs, train: bool) -> Tensor {
        let (x, mut ctx) = self.embed(inputs, None, train);
        let x = (0..self.layers()).fold(x, |x, layer| self.layer(layer, &x, &mut ctx));
        self.answer(&x, inputs, &ctx)
    }

    /// Logits from what the last layer gives.
    pub fn answer(&self, x: &Tensor, inputs: &Inputs, ctx: &Context) -> Tensor {
        // The head, and a per-position final norm, are worth computing only where an answer is asked for.
        let vectors = match (self.output, &self.final_norm) {
            (Output::PerPosition | Output::Number | Output::Tokens, Some(norm @ (Norm::Layer(_) | Norm::Rms(..)))) => {
                norm.forward(&self.scored(x, inputs, ctx), ctx)
            }
            _ => self.scored(&self.normed(x, ctx), inputs, ctx),
        };
        match (&self.head, &inputs.positions) {
            (Head::Decoder { codes, .. }, Some(at)) => {
                let length = x.size()[1];
                let rows = vectors.index_select(0, &at.divide_scalar_mode(length, "floor").to_kind(Kind::Int64));
                self.head.forward(&(rows + codes.index_select(0, &at.remainder(length))), ctx.train)
            }
            _ => self.head.forward(&vectors, ctx.train),
        }
    }

    /// What the last block and the final norm give at positions `at` (indices into `batch · length`, int64), before any
    /// head: `[positions, d_model]`.
    pub fn features(&self, inputs: &Inputs, hidden: Option<Hidden>, at: &Tensor, train: bool) -> Tensor {
        let (x, mut ctx) = self.embed(inputs, hidden, train);
        let x = (0..self.layers()).fold(x, |x, layer| self.layer(layer, &x, &mut ctx));
        self.taken(&x, inputs, at, &ctx)
    }

    /// The same from what the last layer gives.
    pub fn taken(&self, x: &Tensor, inputs: &Inputs, at: &Tensor, ctx: &Context) -> Tensor {
        let length = inputs.tokens.size()[1];
        // Positions count without the cls vector in front, which a batch norm counts like any other.
        let taken = |x: &Tensor| x.narrow(1, x.size()[1] - length, length).flatten(0, 1).index_select(0, at);
        match &self.final_norm {
            Some(norm @ (Norm::Layer(_) | Norm::Rms(..))) => norm.forward(&taken(x), ctx),
            _ => taken(&self.normed(x, ctx)),
        }
    }

    /// The loss that `read` makes of what the last layer gives, and the gradients of all it depends on, as `backward` adds
    /// them. Of each layer only its input is kept, and the layer is run again in the backward. `reseed` is called with 0
    /// before the embedding and with `layer + 1` before a layer, each time it is run: both times it draws the same dropout.
    pub fn backward_by_layers(
        &self,
        inputs: &Inputs,
        hidden: Option<Hidden>,
        reseed: impl Fn(usize),
        read: impl Fn(&Tensor, &Context) -> Tensor,
    ) -> Tensor {
        let leaf = |x: &Tensor| x.detach().set_requires_grad(true);
        let send = |y: &Tensor, grad: &Tensor| (y * grad).sum(y.kind()).backward();
        reseed(0);
        let (embedded, mut ctx) = self.embed(inputs, hidden, true);
        let mut kept = vec![embedded.detach()];
        no_grad(|| {
            for layer in 0..self.layers() {
                reseed(layer + 1);
                kept.push(self.layer(layer, &kept[layer], &mut ctx));
            }
        });
        let last = leaf(&kept.pop().expect("what the last layer gives"));
        let loss = read(&last, &ctx);
        loss.backward();
        let mut grad = last.grad();
        for layer in (0..self.layers()).rev() {
            reseed(layer + 1);
            let x = leaf(&kept.pop().expect("an input a layer"));
            // The first run has moved the running statistics of batch norms; the second must not.
            let running = self.block(layer).running();
            let before: Vec<Tensor> = running.iter().map(Tensor::copy).collect();
            send(&self.layer(layer, &x, &mut ctx), &grad);
            no_grad(|| running.into_iter().zip(&before).for_each(|(mut now, before)| now.copy_(before)));
            grad = x.grad();
        }
        if embedded.requires_grad() {
            send(&embedded, &grad);
        }
        loss.detach()
    }

    fn normed(&self, x: &Tensor, ctx: &Context) -> Tensor {
        self.final_norm.as_ref().map_or_else(|| x.shallow_clone(), |norm| norm.forward(x, ctx))
    }

    /// `[batch, length, d_model]` → `[batch, d_model]`.
    fn pool(&self, x: &Tensor, ctx: &Context) -> Tensor {
        let length = x.size()[1];
        // An auto-encoder reads the last position, whatever sequences of one class are pooled by.
        let pooling = if self.output == Output::Reconstruction { Pooling::Last } else { self.config.pooling };
        match pooling {
            Pooling::Cls | Pooling::First => x.select(1, 0),
            Pooling::Mean => match &ctx.lengths {
                None => x.mean_dim(1, false, None::<Kind>),
                Some(lengths) => {
                    ctx.zero_padding(x).sum_dim_intlist(1, false, None::<Kind>) / lengths.unsqueeze(1).to_kind(x.kind())
                }
            },
            Pooling::Last => match &ctx.lengths {
                None => x.select(1, length - 1),
                Some(lengths) => {
                    let at = (lengths - 1).view([-1, 1, 1]).expand([-1, 1, x.size()[2]], false);
                    x.gather(1, &at, false).squeeze_dim(1)
                }
            },
        }
    }

    /// The mixers' optimizer rules, by full parameter name.
    pub fn param_rules(&self) -> Vec<ParamRule> {
        let full = |i: usize, rule: ParamRule| ParamRule { name: format!("blocks.{i}.mixer.{}", rule.name), ..rule };
        self.blocks
            .iter()
            .enumerate()
            .flat_map(|(i, b)| b.mixer.param_rules().into_iter().map(move |r| full(i, r)))
            .collect()
    }

    /// Cost of one mixer on a sequence of `length`.
    pub fn mixer_cost(&self, length: i64) -> Cost {
        self.blocks[0].mixer.cost(length)
    }
}

/// Weight and bias of every dense map of a block, by name, also of those that a mixer holds with an axis for its heads.
fn dense_maps(block: &nn::VarStore) -> Vec<(String, String)> {
    let variables: std::collections::BTreeMap<_, _> = block.variables().into_iter().collect();
    let map = |(name, value): (&String, &Tensor)| {
        let stem = ["weight", "kernel"].iter().find_map(|last| name.strip_suffix(last))?;
        let convolves = value.dim() == 3 && ["conv1d", "output_linear"].iter().any(|part| name.contains(part));
        let dense = value.dim() >= 2 && !convolves && (stem.ends_with('.') || stem.ends_with(".in_proj_"));
        dense.then(|| (name.clone(), format!("{stem}bias")))
    };
    variables.iter().filter_map(map).collect()
}

/// The variable of a dotted name under `vs`.
fn find(vs: &nn::Path, name: &str) -> Option<Tensor> {
    let (folders, last) = name.rsplit_once('.')?;
    folders.split('.').fold(vs.clone(), |at, part| at / part).get(last)
}

/// What a dense map is drawn from.
#[derive(Clone, Copy, Debug)]
enum Draw {
    /// N(0, σ²).
    Normal(f64),
    /// U(−b, b).
    Uniform(f64),
    /// A normal cut at two of its deviations, whose own deviation after the cut is this.
    Cut(f64),
}

/// Inputs and outputs of the dense map with this name and shape in a model of width `d`: `[out, in]`, or with an axis for its heads
/// `[d, heads, d_head]` or `[heads, d_head, d]`.
fn ends(name: &str, shape: &[i64], d: i64) -> i64 {
    match *shape {
        // Queries, keys and values end to end.
        [out, inputs] if name.ends_with("in_proj_weight") => out / 3 + inputs,
        [out, inputs] => out + inputs,
        [heads, d_head, out] if out == d => heads * d_head + out,
        [inputs, heads, d_head] => inputs + heads * d_head,
        _ => panic!("`{name}` of shape {shape:?} is no dense map"),
    }
}

fn redraw(mut weight: Tensor, bias: Option<Tensor>, draw: Draw) {
    tch::no_grad(|| {
        let _ = match draw {
            Draw::Normal(std) => weight.normal_(0.0, std),
            Draw::Uniform(bound) => weight.uniform_(-bound, bound),
            Draw::Cut(std) => {
                // Φ(±2) bounds a uniform number, whose quantile is the draw; a unit normal cut there deviates by 0.8796.
                let _ = weight.uniform_(-TWO_SIGMA, TWO_SIGMA);
                let _ = weight.erfinv_();
                weight.g_mul_scalar_(std * std::f64::consts::SQRT_2 / DEVIATION_OF_CUT)
            }
        };
        if let Some(mut bias) = bias {
            let _ = bias.zero_();
        }
    });
}

/// `2 Φ(2) − 1`: the share of a normal within two deviations.
const TWO_SIGMA: f64 = 0.954_499_736_103_642;
/// Deviation of a unit normal cut at ±2: `√(1 − 4 φ(2) / (2 Φ(2) − 1))`.
const DEVIATION_OF_CUT: f64 = 0.879_625_661_034_239_8;

/// `[length, d]`: sines in the even columns, cosines in the odd ones.
fn sinusoids(length: i64, d: i64) -> Tensor {
    let periods: Vec<f64> = (0..d).map(|c| 10_000f64.powf((c / 2 * 2) as f64 / d as f64)).collect();
    let entry = |t: i64, c: usize| {
        let angle = t as f64 / periods[c];
        (if c.is_multiple_of(2) { angle.sin() } else { angle.cos() }) as f32
    };
    let table: Vec<f32> =
        (0..length).flat_map(|t| (0..d as usize).map(move |c| (t, c))).map(|(t, c)| entry(t, c)).collect();
    Tensor::from_slice(&table).view([length, d])
}

#[cfg(test)]
mod recomputing;

#[cfg(test)]
mod golden;

#[cfg(test)]
mod language;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::samples::{small_mixers, task_spec};
    use tch::{Device, no_grad};

    fn config(text: &str) -> ModelConfig {
        serde_json::from_str(text).unwrap()
    }

    /// A model around every mixer of the registry, with small settings.
    fn models(config: &ModelConfig, output: Output) -> Vec<(&'static str, nn::VarStore, Model)> {
        let around = |(entry, settings): (mixers::Entry, serde_json::Value)| {
            let vs = nn::VarStore::new(Device::Cpu);
            let model = Model::new(&vs.root(), config, &task_spec(output), &entry, &settings);
            (entry.name, vs, model)
        };
        small_mixers().into_iter().map(around).collect()
    }

    fn tokens(batch: i64, length: i64) -> Tensor {
        (Tensor::arange(batch * length, (Kind::Int64, Device::Cpu)) * 7).remainder(11).view([batch, length])
    }

    #[test]
    fn padding_never_changes_a_sequence_s_logits_in_any_block_or_pooling() {
        for block in ["transformer", "s4", "bigs", "hydra"] {
            for pooling in ["mean", "last", "cls"] {
                let config =
                    config(&format!(r#"{{"block":"{block}","d_model":16,"n_layers":2,"pooling":"{pooling}"}}"#));
                for (name, _vs, model) in models(&config, Output::PerSequence) {
                    let short = tokens(1, 7);
                    let padded = Tensor::cat(&[&short, &Tensor::full([1, 5], 3i64, (Kind::Int64, Device::Cpu))], 1);
                    let run = |tokens: &Tensor, lengths: Option<Tensor>| {
                        let inputs = Inputs { tokens: tokens.shallow_clone(), types: None, lengths, positions: None };
                        no_grad(|| model.forward(&inputs, false))
                    };
                    let alone = run(&short, None);
                    let beside = run(&padded, Some(Tensor::from_slice(&[7i64])));
                    assert!(alone.allclose(&beside, 1e-4, 1e-5, false), "{name} in {block} with {pooling} pooling");
                }
            }
        }
    }

    #[test]
    fn the_towers_of_a_pair_share_their_weights_and_never_see_each_other() {
        let other = |by: i64| (tokens(3, 9) + by).remainder(11);
        let (a, b, c) = (tokens(3, 9), other(3), other(5));
        for head in ["s4", "lra", "lra_concat"] {
            let config = config(&format!(r#"{{"d_model":16,"n_layers":2,"pair_head":"{head}"}}"#));
            for (entry, settings) in small_mixers() {
                let vs = nn::VarStore::new(Device::Cpu);
                let spec = TaskSpec { documents: 2, ..task_spec(Output::PerSequence) };
                let model = Model::new(&vs.root(), &config, &spec, &entry, &settings);
                let run = |first: &Tensor, second: &Tensor| {
                    let inputs = Inputs {
                        tokens: Tensor::cat(&[first, second], 0),
                        types: None,
                        lengths: None,
                        positions: None,
                    };
                    no_grad(|| model.forward(&inputs, false))
                };
                let alike = |x: &Tensor, y: &Tensor| x.allclose(y, 1e-5, 1e-6, false);
                let mut weight = vs.variables()["head.0.weight"].shallow_clone();
                let map = no_grad(|| weight.narrow(1, 0, 16).copy());
                // A head that reads nothing but one of the two vectors.
                let mut read_only = |place: i64| {
                    no_grad(|| {
                        let _ = weight.zero_();
                        weight.narrow(1, 16 * place, 16).copy_(&map);
                    })
                };
                read_only(0);
                let of_first = run(&a, &b);
                assert!(alike(&of_first, &run(&a, &c)), "{}: the first vector knows the second document", entry.name);
                assert!(!alike(&of_first, &run(&c, &b)), "{}: the first vector says nothing", entry.name);
                read_only(1);
                assert!(alike(&of_first, &run(&b, &a)), "{}: the towers differ", entry.name);
            }
        }
    }

    #[test]
    fn a_grey_value_enters_as_one_real_feature() {
        let vs = nn::VarStore::new(Device::Cpu);
        let map = linear(&(&vs.root() / "map"), 1, 4, true);
        let ends = no_grad(|| Tensor::from_slice(&[-1.0f32, 1.0]).view([1, 2, 1]).apply(&map));
        let encoder = Encoder::Line { map, scale: 2.0 / 255.0, shift: -1.0 };
        let read = no_grad(|| encoder.forward(&Tensor::from_slice(&[0i64, 255]).view([1, 2])));
        assert!(read.allclose(&ends, 1e-5, 1e-6, false));
    }

    #[test]
    fn the_head_at_scored_positions_equals_the_head_everywhere() {
        for block in ["transformer", "s4", "hydra", r#"transformer","norm":"rms"#] {
            let config = config(&format!(r#"{{"block":"{block}","d_model":16,"n_layers":1}}"#));
            for (name, _vs, model) in models(&config, Output::PerPosition) {
                let all = Tensor::arange(2 * 9, (Kind::Int64, Device::Cpu));
                let some = Tensor::from_slice(&[2i64, 8, 11]);
                let run = |at: &Tensor| {
                    let inputs = Inputs {
                        tokens: tokens(2, 9),
                        types: None,
                        lengths: None,
                        positions: Some(at.shallow_clone()),
                    };
                    no_grad(|| model.forward(&inputs, false))
                };
                assert!(run(&some).allclose(&run(&all).index_select(0, &some), 1e-5, 1e-6, false), "{name} in {block}");
            }
        }
    }

    #[test]
    fn every_parameter_of_every_model_gets_a_gradient() {
        for block in ["transformer", "s4", "bigs", "hydra"] {
            for ffn in ["mlp", "glu", "none", "identity"] {
                let config = config(&format!(
                    r#"{{"block":"{block}","d_model":16,"n_layers":2,"ffn":"{ffn}","pooling":"cls","positions":"learned"}}"#
                ));
                for (name, vs, model) in models(&config, Output::PerSequence) {
                    let inputs = Inputs { tokens: tokens(4, 12), types: None, lengths: None, positions: None };
                    model
                        .forward(&inputs, true)
                        .cross_entropy_for_logits(&Tensor::from_slice(&[0i64, 1, 2, 3]))
                        .backward();
                    for (parameter, variable) in vs.variables().into_iter().filter(|(_, v)| v.requires_grad()) {
                        assert!(variable.grad().defined(), "{parameter} of {name} in {block} with {ffn}");
                    }
                }
            }
        }
    }

    /// One application of a block is that block; two are that block twice, with the step's sines before each.
    #[test]
    fn a_shared_block_is_applied_as_often_as_there_are_layers_with_its_parameters_once() {
        let shared = |n: i64| {
            let text = format!(r#"{{"d_model":16,"n_layers":{n},"shared_depth":true,"positions":"sinusoidal"}}"#);
            config(&text)
        };
        for (entry, settings) in small_mixers() {
            let spec = task_spec(Output::PerSequence);
            let build = |n: i64| {
                let vs = nn::VarStore::new(Device::Cpu);
                let model = Model::new(&vs.root(), &shared(n), &spec, &entry, &settings);
                (vs, model)
            };
            let ((once, _), (mut twice, model)) = (build(1), build(3));
            assert_eq!(once.variables().len(), twice.variables().len(), "{}", entry.name);
            twice.copy(&once).expect("the same names and shapes");
            let inputs = Inputs { tokens: tokens(3, 9), types: None, lengths: None, positions: None };
            let (x, mut ctx) = model.embed(&inputs, None, false);
            let table = model.positions.as_ref().expect("sines").narrow(0, 0, 9);
            let steps = sinusoids(3, 16);
            let by_hand = (0..3).fold(x, |x, step| {
                let x = if step == 0 { x } else { x + &table };
                model.blocks[0].forward(&(x + steps.get(step)), &ctx)
            });
            ctx.train = false;
            let logits = model.head.forward(&model.scored(&model.normed(&by_hand, &ctx), &inputs, &ctx), false);
            assert!(no_grad(|| model.forward(&inputs, false)).allclose(&logits, 1e-5, 1e-6, false), "{}", entry.name);
        }
    }

    #[test]
    fn an_auto_encoder_tells_every_position_from_the_last_vector_alone() {
        let spec = TaskSpec { causal: true, ..task_spec(Output::Reconstruction) };
        let config = config(r#"{"d_model":16,"n_layers":1}"#);
        let (entry, settings) = small_mixers().swap_remove(0);
        let vs = nn::VarStore::new(Device::Cpu);
        let model = Model::new(&vs.root(), &config, &spec, &entry, &settings);
        let inputs = |tokens: Tensor| Inputs {
            tokens,
            types: None,
            lengths: None,
            positions: Some(Tensor::arange(2 * 9, (Kind::Int64, Device::Cpu))),
        };
        let run = |tokens: Tensor| no_grad(|| model.forward(&inputs(tokens), false));
        let logits = run(tokens(2, 9));
        assert_eq!(logits.size(), [18, 5]);
        assert!(!logits.get(0).allclose(&logits.get(1), 1e-6, 1e-7, false), "positions are told apart");
        // Another last token changes what is said of every position; the first token only through it.
        let other = tokens(2, 9);
        let _ = other.narrow(1, 8, 1).fill_(3);
        let changed = (run(other) - &logits).abs().amax([1].as_slice(), false);
        assert!(changed.min().double_value(&[]) > 0.0, "{changed}");
    }

    #[test]
    fn a_silenced_head_is_silenced_in_its_layer_alone() {
        for (entry, settings) in small_mixers() {
            let vs = nn::VarStore::new(Device::Cpu);
            let config = config(r#"{"d_model":16,"n_layers":2,"ffn":"none"}"#);
            let mut model = Model::new(&vs.root(), &config, &task_spec(Output::PerSequence), &entry, &settings);
            let heads = model.mixer_heads();
            let inputs = Inputs { tokens: tokens(3, 9), types: None, lengths: None, positions: None };
            let run = |model: &Model| no_grad(|| model.forward(&inputs, false));
            let whole = run(&model);
            if heads == 0 {
                continue;
            }
            model.silence(1, Some(Tensor::ones([heads], (Kind::Float, Device::Cpu))));
            assert!(run(&model).allclose(&whole, 1e-5, 1e-6, false), "{}", entry.name);
            let before = no_grad(|| model.after_layers(&inputs));
            model.silence(1, Some(Tensor::zeros([heads], (Kind::Float, Device::Cpu))));
            let after = no_grad(|| model.after_layers(&inputs));
            assert!(before[1].equal(&after[1]) && !before[2].allclose(&after[2], 1e-4, 1e-5, false), "{}", entry.name);
            model.silence(1, None);
            assert!(run(&model).allclose(&whole, 1e-6, 1e-7, false), "{}", entry.name);
        }
    }

    /// Milliseconds of a training step on MQAR with the head where an answer is asked for, and everywhere.
    #[test]
    #[ignore = "a measurement: cargo test --workspace the_head_where -- --ignored --nocapture"]
    fn the_head_where_it_is_asked_for_and_everywhere() {
        use crate::train::optimizer::{AdamW, OptimizerConfig};
        use tasks::{DataDir, Order, Split};
        let entry = tasks::registry().into_iter().find(|entry| entry.name == "mqar").expect("registered");
        let task = entry.open(&(entry.defaults)(), &DataDir("none".into())).expect("drawn");
        let (mixer, _) = small_mixers().swap_remove(0);
        let settings = (mixer.resolve)(&serde_json::json!({ "n_heads": 1 })).expect("settings");
        let vs = nn::VarStore::new(Device::Cpu);
        let config = config(r#"{"d_model":64,"n_layers":2,"ffn":"none"}"#);
        let model = Model::new(&vs.root(), &config, &task.spec(), &mixer, &settings);
        let mut optimizer = AdamW::new(&vs, &OptimizerConfig::default(), &[]);
        let batch = task.batch(Split::Train, 0, &Order { seed: 0, batch_size: 64 }).expect("drawn");
        let (scored, classes) = crate::train::feed::to_tensors(&batch, Device::Cpu);
        let at = scored.positions.as_ref().expect("scored positions").shallow_clone();
        let all = Inputs {
            tokens: scored.tokens.shallow_clone(),
            types: None,
            lengths: None,
            positions: Some(Tensor::arange(64 * 64, (Kind::Int64, Device::Cpu))),
        };
        let mut step = |everywhere: bool| {
            let begun = std::time::Instant::now();
            let logits = match everywhere {
                true => model.forward(&all, true).index_select(0, &at),
                false => model.forward(&scored, true),
            };
            optimizer.zero_grad();
            logits.cross_entropy_for_logits(&classes).backward();
            optimizer.step(1.0);
            1e3 * begun.elapsed().as_secs_f64()
        };
        for threads in [1, 2] {
            tch::set_num_threads(threads);
            let mut times: [Vec<f64>; 2] = Default::default();
            for i in 0..42 {
                let seconds = step(i % 2 == 0);
                times[i % 2].extend((i >= 4).then_some(seconds));
            }
            times.iter_mut().for_each(|times| times.sort_by(f64::total_cmp));
            let [all, some] = times.map(|times| times[times.len() / 2]);
            println!(
                "{threads} threads: all positions {all:.1} ms, scored ones {some:.1} ms a step, {:.1} times",
                all / some
            );
        }
    }

    #[test]
    fn null_means_what_the_block_s_paper_uses() {
        let hydra = config(r#"{"block":"hydra"}"#).resolved();
        assert_eq!(
            (hydra.norm_place, hydra.ffn, hydra.positions),
            (Some(NormPlace::Post), Some(Ffn::None), Some(Positions::None))
        );
        let s4 = config(r#"{"block":"s4"}"#).resolved();
        assert_eq!((s4.norm, s4.norm_place), (Some(NormKind::Batch), Some(NormPlace::Pre)));
        let transformer = config(r#"{"d_model":48,"ffn":"glu"}"#).resolved();
        assert_eq!((transformer.d_ff, transformer.positions), (Some(128), Some(Positions::Learned)));
    }
    /// A model of attention in the block `transformer`, with these keys.
    fn attention_model(keys: &str, spec: &TaskSpec) -> (nn::VarStore, Model) {
        let (entry, settings) = small_mixers().swap_remove(0);
        let vs = nn::VarStore::new(Device::Cpu);
        let model = Model::new(&vs.root(), &config(keys), spec, &entry, &settings);
        (vs, model)
    }

    fn deviation(t: &Tensor) -> f64 {
        t.to_kind(Kind::Double).std(true).double_value(&[])
    }

    #[test]
    fn tokens_positions_and_the_vector_in_front_start_as_far_apart_as_each_is_asked_to() {
        let spec = TaskSpec { vocab_size: 200, max_length: 200, ..task_spec(Output::PerSequence) };
        let keys = r#"{"d_model":64,"n_layers":1,"positions":"learned","pooling":"cls","token_types":2"#;
        let found = |more: &str| {
            let (vs, _model) = attention_model(&format!("{keys}{more}}}"), &spec);
            let all = vs.variables();
            ["embedding", "embedding_positions", "embedding_cls", "embedding_types"]
                .map(|name| deviation(&all[&format!("{name}.weight")]))
        };
        let near = |found: f64, want: f64| (found / want - 1.0).abs() < 0.5;
        assert!(found("").iter().all(|std| near(*std, 0.02)));
        let [tokens, positions, cls, types] = found(r#","embedding_std":1,"cls_std":0"#);
        assert!((tokens - 1.0).abs() < 0.02, "{tokens}");
        assert!(near(positions, 0.02) && near(types, 0.02) && cls == 0.0, "{positions} {types} {cls}");
        assert!(near(found(r#","cls_std":0.5"#)[2], 0.5));
    }

    /// Glorot and Bengio's bound from inputs and outputs of each map, whatever axes it is kept with; in the head 1 / √in.
    #[test]
    fn dense_maps_start_as_the_arena_s_do() {
        let spec = TaskSpec { classes: 100, ..task_spec(Output::PerSequence) };
        let keys = r#"{"d_model":64,"n_layers":2,"d_ff":32,"head":"mlp","linear_init":"lra"}"#;
        let built = |name: &str, settings: serde_json::Value| {
            let entry = mixers::registry().into_iter().find(|entry| entry.name == name).expect("registered");
            let settings = (entry.resolve)(&settings).expect("settings");
            let vs = nn::VarStore::new(Device::Cpu);
            let _ = Model::new(&vs.root(), &config(keys), &spec, &entry, &settings);
            vs.variables()
        };
        let attention = built("attention", serde_json::json!({"n_heads": 2, "d_head": 8}));
        let combiner = built("combiner", serde_json::json!({"n_heads": 2, "d_head": 8}));
        let bounds = [
            (&attention, "blocks.0.mixer.in_proj_weight", 64 + 16),
            (&attention, "blocks.1.mixer.out_proj.weight", 16 + 64),
            (&attention, "blocks.1.ffn.up.weight", 64 + 32),
            (&attention, "blocks.0.ffn.down.weight", 32 + 64),
            (&combiner, "blocks.0.mixer.query.kernel", 64 + 16),
            (&combiner, "blocks.1.mixer.DenseGeneral_0.kernel", 16 + 64),
        ];
        for (all, name, ends) in bounds {
            let (bound, weight) = ((6.0 / f64::from(ends)).sqrt(), &all[name]);
            let (largest, std) = (weight.abs().max().double_value(&[]), deviation(weight));
            assert!(largest < 1.000_001 * bound && largest > 0.97 * bound, "{name}: {largest} of {bound}");
            assert!((std * 3f64.sqrt() / bound - 1.0).abs() < 0.06, "{name}: {std}");
        }
        for (name, inputs) in [("head.mlp", 64), ("head.logits", 32)] {
            let (want, weight) = ((1.0 / f64::from(inputs)).sqrt(), &attention[&format!("{name}.weight")]);
            assert!((deviation(weight) / want - 1.0).abs() < 0.15, "{name}");
            assert!(weight.abs().max().double_value(&[]) < want * 2.0 / 0.879, "{name}: cut at two deviations");
            assert_eq!(attention[&format!("{name}.bias")].abs().max().double_value(&[]), 0.0);
        }
        assert_eq!(attention["blocks.0.ffn.up.bias"].abs().max().double_value(&[]), 0.0);
    }

    /// By integration: `2 Φ(2) − 1` and the deviation of what it keeps.
    #[test]
    fn the_numbers_of_the_cut_normal_are_those_of_the_normal() {
        let n = 200_000;
        let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let step = 4.0 / f64::from(n);
        let sum =
            |f: &dyn Fn(f64) -> f64| -> f64 { (0..n).map(|i| f(-2.0 + (f64::from(i) + 0.5) * step) * step).sum() };
        let mass = sum(&density);
        assert!((mass - TWO_SIGMA).abs() < 1e-9);
        assert!(((sum(&|x| x * x * density(x)) / mass).sqrt() - DEVIATION_OF_CUT).abs() < 1e-9);
    }

    fn set(vs: &nn::VarStore, name: &str, values: &[f32]) {
        let mut variable = vs.variables()[name].shallow_clone();
        let shape = variable.size();
        no_grad(|| variable.copy_(&Tensor::from_slice(values).view(shape.as_slice())));
    }

    #[test]
    fn the_arena_s_head_is_two_layers_with_a_relu_between() {
        let spec = TaskSpec { classes: 2, ..task_spec(Output::PerSequence) };
        let keys = r#"{"d_model":2,"n_layers":1,"d_ff":3,"head":"mlp"}"#;
        let (vs, model) = attention_model(keys, &spec);
        set(&vs, "head.mlp.weight", &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
        set(&vs, "head.mlp.bias", &[0.0, -1.0, 0.5]);
        set(&vs, "head.logits.weight", &[1.0, 1.0, 1.0, 0.0, 2.0, -1.0]);
        set(&vs, "head.logits.bias", &[0.25, 0.0]);
        // W₁ x + b₁ = (−1, 2, 2.5) of x = (−1, 3), and relu takes the first.
        let found = no_grad(|| model.head.forward(&Tensor::from_slice(&[-1f32, 3.0]).view([1, 2]), false));
        assert!(found.allclose(&Tensor::from_slice(&[4.75f32, 1.5]).view([1, 2]), 1e-6, 1e-6, false), "{found}");
        let found: Vec<String> = [
            (r#"{"head":"mlp"}"#, TaskSpec { documents: 2, ..spec.clone() }),
            (r#"{"head":"mlp"}"#, TaskSpec { output: Output::Tokens, ..spec.clone() }),
            (r#"{"head":"mlp"}"#, TaskSpec { output: Output::PerPosition, ..spec.clone() }),
        ]
        .into_iter()
        .flat_map(|(keys, spec)| config(keys).check_task(&outline_of(&spec)))
        .map(|mistake| mistake.problem)
        .collect();
        assert_eq!(found, vec!["`head` is mlp, but the task does not ask for one class of one sequence"; 3]);
        let one = outline_of(&spec);
        assert!(config(keys).check_task(&one).is_empty());
        assert_eq!(config(keys).resolved().head_flops(1, &one), dense_flops(1, 2, 3) + dense_flops(1, 3, 2));
    }

    fn outline_of(spec: &TaskSpec) -> tasks::Outline {
        tasks::Outline {
            causal: spec.causal,
            max_length: spec.max_length,
            needs_files: false,
            vocab_size: spec.vocab_size,
            classes: spec.classes,
            documents: spec.documents,
            input: spec.input,
            output: spec.output,
        }
    }

    #[test]
    fn the_arena_s_head_of_pairs_reads_both_vectors_end_to_end() {
        let spec = TaskSpec { documents: 2, classes: 2, ..task_spec(Output::PerSequence) };
        let keys = r#"{"d_model":1,"n_layers":1,"d_ff":2,"pair_head":"lra_concat"}"#;
        let entry = mixers::registry().into_iter().find(|entry| entry.name == "attention").expect("registered");
        let settings = (entry.resolve)(&serde_json::json!({"n_heads": 1})).expect("settings");
        let vs = nn::VarStore::new(Device::Cpu);
        let model = Model::new(&vs.root(), &config(keys), &spec, &entry, &settings);
        set(&vs, "head.0.weight", &[1.0, 2.0, -1.0, 1.0]);
        set(&vs, "head.0.bias", &[0.0, 0.0]);
        set(&vs, "head.1.weight", &[1.0, 10.0]);
        set(&vs, "head.1.bias", &[1.0]);
        set(&vs, "head.2.weight", &[1.0, -1.0]);
        set(&vs, "head.2.bias", &[0.0, 0.5]);
        // u = 3, v = 5: relu(13, 2), then relu(13 + 20 + 1).
        let found = no_grad(|| model.head.forward(&Tensor::from_slice(&[3f32, 5.0]).view([2, 1]), false));
        assert!(found.allclose(&Tensor::from_slice(&[34f32, -33.5]).view([1, 2]), 1e-5, 1e-5, false), "{found}");
        let flops = dense_flops(1, 2, 2) + dense_flops(1, 2, 1) + dense_flops(1, 1, 2);
        assert_eq!(config(keys).resolved().head_flops(1, &outline_of(&spec)), flops);
    }

    #[test]
    fn the_feed_forward_has_the_activation_and_the_inner_dropout_of_its_keys() {
        let spec = task_spec(Output::PerSequence);
        let x = Tensor::from_slice(&[-2f32, -0.5, 0.5, 2.0]).view([1, 1, 4]);
        type Map = fn(f64) -> f64;
        let want: [(&str, Map); 2] = [
            ("gelu_tanh", |x| {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())
            }),
            ("relu", |x| x.max(0.0)),
        ];
        for (word, by_hand) in want {
            let keys = format!(r#"{{"d_model":4,"n_layers":1,"d_ff":4,"ffn_activation":"{word}"}}"#);
            let (vs, model) = attention_model(&keys, &spec);
            let unit = [1f32, 0., 0., 0., 0., 1., 0., 0., 0., 0., 1., 0., 0., 0., 0., 1.];
            for map in ["up", "down"] {
                set(&vs, &format!("blocks.0.ffn.{map}.weight"), &unit);
                set(&vs, &format!("blocks.0.ffn.{map}.bias"), &[0.0; 4]);
            }
            let found = no_grad(|| model.blocks[0].ffn.forward(&x, |h| h)).expect("a feed-forward");
            let want: Vec<f32> = [-2.0, -0.5, 0.5, 2.0].map(|x: f64| by_hand(x) as f32).to_vec();
            assert!(found.allclose(&Tensor::from_slice(&want).view([1, 1, 4]), 1e-5, 1e-6, false), "{word}: {found}");
        }
        let keys = r#"{"d_model":16,"n_layers":1,"d_ff":64,"norm_place":"post","ffn_dropout":0.5,"ffn":"FFN"}"#;
        for ffn in ["mlp", "glu"] {
            let (_vs, model) = attention_model(&keys.replace("FFN", ffn), &spec);
            let x = Tensor::randn([2, 7, 16], (Kind::Float, Device::Cpu));
            let run = |train: bool| {
                let ctx = Context { train, ..Context::default() };
                no_grad(|| model.blocks[0].forward(&x, &ctx))
            };
            assert!(run(false).equal(&run(false)), "{ffn}: no dropout in evaluation");
            assert!(!run(true).allclose(&run(false), 1e-3, 1e-3, false), "{ffn}: dropout in training");
        }
        let problems = |keys: &str| config(keys).check().into_iter().map(|m| m.key).collect::<Vec<_>>();
        assert_eq!(problems(r#"{"ffn":"none","ffn_dropout":0.1}"#), ["ffn_dropout"]);
        assert_eq!(problems(r#"{"ffn_dropout":1.0}"#), ["ffn_dropout"]);
        assert_eq!(problems(r#"{"ffn":"glu","ffn_activation":"relu"}"#), ["ffn_activation"]);
        assert_eq!(problems(r#"{"linear_init":"lra","linear_std":0.02}"#), ["linear_init"]);
        assert_eq!(problems(r#"{"embedding_std":-1,"cls_std":11}"#), ["embedding_std", "cls_std"]);
        let older = serde_json::to_value(ModelConfig::default()).unwrap();
        for key in ["ffn_activation", "ffn_dropout", "embedding_std", "cls_std", "linear_init"] {
            assert!(older.get(key).is_none(), "run ids of configs without `{key}` stay");
        }
    }

    /// Outside the mixers, `matrices` are the weights of dense maps and nothing else.
    #[test]
    fn what_is_decayed_as_a_matrix_is_what_a_product_reads() {
        use crate::train::optimizer::Decayed;
        let of = |output: Output, keys: &str| {
            let spec = TaskSpec { causal: output == Output::Reconstruction, ..task_spec(output) };
            let (vs, model) = attention_model(keys, &spec);
            let mut maps: Vec<Tensor> = model.head.maps().iter().map(|map| map.ws.shallow_clone()).collect();
            for block in &model.blocks {
                match &block.ffn {
                    Channels::None | Channels::Identity => {}
                    Channels::Mlp(up, down, _) => maps.extend([up, down].map(|map| map.ws.shallow_clone())),
                    Channels::Glu(a, b, c) => maps.extend([a, b, c].map(|map| map.ws.shallow_clone())),
                }
            }
            for (name, variable) in vs.variables().into_iter().filter(|(name, _)| !name.contains(".mixer.")) {
                let is_map = maps.iter().any(|map| map.data_ptr() == variable.data_ptr());
                assert_eq!(Decayed::Matrices.takes(&name, variable.dim()), is_map, "{name} in {keys}");
            }
        };
        let every =
            r#"{"d_model":16,"n_layers":2,"positions":"learned","token_types":2,"pooling":"cls","embedding_norm":true"#;
        of(Output::PerSequence, &format!("{every}}}"));
        for head in ["bert", "mlp"] {
            of(Output::PerSequence, &format!(r#"{every},"ffn":"glu","head":"{head}"}}"#));
        }
        of(Output::Reconstruction, r#"{"d_model":16,"n_layers":1,"positions":"learned"}"#);
        let spec = TaskSpec { classes: 11, ..task_spec(Output::Tokens) };
        let (vs, _model) = attention_model(r#"{"d_model":16,"n_layers":1,"head":"bert"}"#, &spec);
        let decayed: Vec<String> = (vs.variables().into_iter())
            .filter(|(name, v)| Decayed::Matrices.takes(name, v.dim()) && name.starts_with("head"))
            .map(|(name, _)| name)
            .collect();
        assert_eq!(decayed, ["head.transform.weight"]);
    }

    #[test]
    fn tied_dropout_drops_whole_channels_and_only_in_training() {
        let config = config(r#"{"d_model":16,"n_layers":1,"dropout":0.5,"tied_dropout":true}"#);
        for (name, _vs, model) in models(&config, Output::PerSequence) {
            let y = Tensor::rand([3, 7, 16], (Kind::Float, Device::Cpu)) + 1.0;
            assert!(model.blocks[0].drop(y.shallow_clone(), false).equal(&y), "{name}");
            let dropped = model.blocks[0].drop(y.shallow_clone(), true) / &y;
            assert!(dropped.allclose(&dropped.narrow(1, 0, 1).expand_as(&dropped), 1e-6, 1e-6, false), "{name}");
            let kept: f64 = dropped.select(1, 0).gt(0.0).to_kind(Kind::Float).mean(None::<Kind>).double_value(&[]);
            assert!(kept > 0.0 && kept < 1.0, "{name}: of 48 masks some drop and some do not, {kept}");
            assert!((dropped.max().double_value(&[]) - 2.0).abs() < 1e-5, "{name}: what is kept makes up for the rest");
        }
    }
}
