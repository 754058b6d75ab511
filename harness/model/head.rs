//! The output head.

use crate::model::settings::{HeadKind, ModelConfig, PairHead};
use mixers::{Linear, Precision, linear};
use tasks::{Output, TaskSpec};
use tch::Tensor;
use tch::nn;

/// What reads the answer off pooled vectors or scored positions.
#[derive(Debug)]
pub(super) enum Head {
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
    pub(super) fn new(vs: &nn::Path, config: &ModelConfig, task: &TaskSpec, table: Option<Tensor>) -> Self {
        let (d, classes) = (config.d_model, task.classes);
        if task.output == Output::Reconstruction {
            let normal = nn::Init::Randn { mean: 0.0, stdev: config.table_std() };
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
    pub(super) fn forward(&self, x: &Tensor, train: bool) -> Tensor {
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
    pub(super) fn maps(&self) -> Vec<&Linear> {
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
