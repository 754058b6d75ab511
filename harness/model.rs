//! The backbone around a mixer: embedding, residual blocks, head. Shared by every run, so that one thing varies.
//!
//! ```text
//! pre-norm    x ← x + mixer(norm(x));   x ← x + ffn(norm(x));   a final norm after the last block
//! post-norm   x ← norm(x + mixer(x));   x ← norm(x + ffn(x))
//! ```
//! The shapes of the papers: `transformer` (Vaswani et al. 2017; pre-norm as in Xiong et al. 2020), `s4` (batch norm, the
//! mixer's own GLU is the channel mixer), `bigs` (pre-norm around the gated layer, nothing else), `hydra` (post-norm, no
//! feed-forward).

mod block;
mod checkpointing;
mod embedding;
mod head;
mod init;
mod settings;
pub(crate) mod sizes;
pub(crate) mod width;

pub use block::Block;
pub(crate) use settings::dense_flops;
pub use settings::{Activation, BlockShape, Ffn, HeadKind, ModelConfig, NormKind, NormPlace, Pooling, Positions};

use block::Norm;
use embedding::{Encoder, sinusoids};
use head::Head;
use mixers::{Context, Cost, NotLinear, ParamRule, linear};
use tasks::{Input, Output, TaskSpec};
use tch::nn;
use tch::{Kind, Tensor};

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
        let (_building, _drawing) = (config.precision.building(), config.init.drawing());
        let (d, eps) = (config.d_model, config.norm_eps.unwrap_or(1e-5));
        let drawn = |std: Option<f64>| match std.unwrap_or_else(|| config.table_std()) {
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
        init::dense(vs, &model.config, &dims, (mixer, settings), built, &model.head);
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

    /// What each branch of the first layer reads and gives on `inputs`.
    #[cfg(test)]
    pub(crate) fn branches(&self, inputs: &Inputs) -> Vec<[Tensor; 2]> {
        let (x, ctx) = self.embed(inputs, None, false);
        self.block(0).branches(&self.stepped(0, &x), &ctx)
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

#[cfg(test)]
mod golden;
#[cfg(test)]
mod language;
#[cfg(test)]
mod recomputing;
#[cfg(test)]
mod tests;
