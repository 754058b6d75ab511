//! The reference's dumps.

use super::conv::Side;
use super::mlm::{MaskedLm, MlmConfig};
use super::ssm::{Kernel, Ssm};
use super::{Config, Gated};
use crate::laws::goldens::{Golden, GoldenError, Replay};
use crate::{Context, Dims, Mixer};
use serde_json::Value;
use tch::nn::{self, VarStore};
use tch::{Kind, Tensor};

/// Initial values, and which of two equal kernels runs.
const WITHOUT_EFFECT: [&str; 4] = ["dt_min", "dt_max", "use_pykeops_kernel", "initializer_range"];

/// `bigs_kernel`: the kernel alone.
pub(crate) fn kernel(golden: &Golden) -> Result<Replay, GoldenError> {
    golden.without_effect(&WITHOUT_EFFECT);
    let d_state = golden.axes("param.C", &["N", ""])?[0];
    let length = golden.axes("output.K", &["", "L"])?[1];
    let mut vs = VarStore::new(golden.device);
    let kernel = Kernel::new(&vs.root(), &Config { d_state, ..Config::default() });
    golden.fill(&mut vs)?;
    golden.replay(&[("K", &kernel.kernel(length))], &[], Some(&vs))
}

/// `bigs_ssm`: one direction with its skip.
pub(crate) fn ssm(golden: &Golden) -> Result<Replay, GoldenError> {
    golden.without_effect(&WITHOUT_EFFECT);
    golden.axes("input.u", &["batch", "L", "hidden_size"])?;
    let d_state = golden.axes("param.kernel.C", &["num_ssm", ""])?[0];
    let mut vs = VarStore::new(golden.device);
    let ssm = Ssm::new(&vs.root(), &Config { d_state, ..Config::default() });
    golden.fill(&mut vs)?;
    let u = golden.input("u")?;
    golden.replay(&[("y", &ssm.apply(&u, Side::Past, None, &Context::eval()))], &[("u", &u)], Some(&vs))
}

/// `bigs_layer`: the layer between the reference's LayerNorm and residual.
pub(crate) fn layer(golden: &Golden) -> Result<Replay, GoldenError> {
    let (cfg, eps) = (settings(golden)?, eps(golden)?);
    let d_model = golden.int("hidden_size")?;
    let seq_len = golden.axes("input.x", &["batch", "L", "hidden_size"])?[1];
    let dims = Dims { d_model, seq_len, causal: false };
    golden.settings(&cfg, &dims)?;
    let mut vs = VarStore::new(golden.device);
    let layer = Gated::new(&vs.root(), &dims, &cfg);
    let norm = nn::LayerNormConfig { eps, ..Default::default() };
    let norm = nn::layer_norm(vs.root() / "LayerNorm", vec![d_model], norm);
    golden.fill(&mut vs)?;
    let x = golden.input("x")?;
    let y = &x + layer.forward(&x.apply(&norm), &Context::eval());
    golden.replay(&[("y", &y)], &[("x", &x)], Some(&vs))
}

/// `bigs_mlm`: the whole encoder with its masked-language-model head.
pub(crate) fn masked_lm(golden: &Golden) -> Result<Replay, GoldenError> {
    const TYPES: &str = "param.bigs.embeddings.token_type_embeddings.weight";
    golden.only("position_embedding_type", &["absolute"])?;
    golden.without_effect(&["use_cache", "classifier_dropout", "decode", "pooler_type", "model_type"]);
    let token_types = golden.axes(TYPES, &["type_vocab_size", "hidden_size"])?[0];
    let tied = tied(golden)?;
    let cfg = MlmConfig {
        vocab_size: golden.int("vocab_size")?,
        d_model: golden.int("hidden_size")?,
        n_layers: golden.int("num_hidden_layers")?,
        max_positions: golden.int("max_position_embeddings")?,
        token_types,
        pad_token: pad_token(golden)?,
        norm_eps: eps(golden)?,
        dropout: 0.0,
        tied,
        layer: settings(golden)?,
    };
    let length = golden.axes("input.input_ids", &["batch", "L"])?[1];
    golden.checked(&cfg.check())?;
    golden.no_larger(cfg.scalars())?;
    if length > cfg.max_positions {
        let why = format!("config `max_position_embeddings` is {}, and there are {length} tokens", cfg.max_positions);
        return Err(golden.malformed(why));
    }
    // Counted up and all 0, as the reference makes them: it gets no others here.
    let counted = Tensor::arange(cfg.max_positions, (Kind::Int64, golden.device)).unsqueeze(0);
    for (name, made) in [("position_ids", &counted), ("token_type_ids", &counted.zeros_like())] {
        let key = format!("buffer.bigs.embeddings.{name}");
        if golden.has(&key) && !golden.tensor(&key)?.equal(made) {
            return Err(
                golden.malformed(format!("`{key}` is not what the reference makes of `max_position_embeddings`"))
            );
        }
    }
    if golden.has("input.attention_mask") {
        golden.tensor("input.attention_mask")?; // read by the reference's pooler alone, which no output comes from
    }
    let optional = |key: &str| if golden.has(key) { golden.tensor(key).map(Some) } else { Ok(None) };
    let (types, labels) = (optional("input.token_type_ids")?, optional("input.labels")?);
    let mut vs = VarStore::new(golden.device);
    let model = MaskedLm::new(&vs.root(), &cfg).map_err(|wrong| GoldenError::Unsupported(format!("{wrong:?}")))?;
    golden.fill(&mut vs)?;
    let logits = model.forward(golden.tensor("input.input_ids")?, types, &Context::eval());
    let loss = labels.map(|labels| MaskedLm::loss(&logits, labels));
    let mut outputs = vec![("logits", &logits)];
    outputs.extend(loss.iter().map(|loss| ("loss", loss)));
    golden.replay(&outputs, &[], Some(&vs))
}

/// The dumps were made without any mask. The activation inside a layer is the exact GELU whatever `hidden_act` says, and
/// that of the head what it says.
fn settings(golden: &Golden) -> Result<Config, GoldenError> {
    golden.without_effect(&WITHOUT_EFFECT);
    golden.without_effect(&["pre_norm"]); // the PyTorch port norms before the layer without asking
    golden.dropout(&["dropout", "hidden_dropout_prob"])?;
    golden.only("activation", &["gelu-erf", "gelu"])?;
    golden.only("hidden_act", &["gelu-erf", "gelu"])?;
    Ok(Config {
        d_ff: Some(golden.int("intermediate_size")?),
        d_state: golden.int("num_ssm")?,
        mask_padding: false,
        ..Config::default()
    })
}

fn eps(golden: &Golden) -> Result<f64, GoldenError> {
    golden.number_or("layer_norm_eps", 1e-12)
}

/// Whether the decoder is the word embedding: two keys say it, and must not say different things.
fn tied(golden: &Golden) -> Result<bool, GoldenError> {
    let [decoder, words]: [Option<bool>; 2] =
        [golden.setting("tied_decoder", None)?, golden.setting("tie_word_embeddings", None)?];
    match (decoder, words) {
        (Some(decoder), Some(words)) if decoder != words => {
            Err(golden.malformed(format!("config `tied_decoder` is {decoder}, and `tie_word_embeddings` is {words}")))
        }
        _ => Ok(decoder.or(words).unwrap_or(true)),
    }
}

/// The token whose row of the embedding gets no gradient from being read.
fn pad_token(golden: &Golden) -> Result<i64, GoldenError> {
    if golden.given("pad_token_id").is_some_and(Value::is_null) {
        return Err(GoldenError::Unsupported("config `pad_token_id` is null: here a model has such a token".into()));
    }
    golden.int_or("pad_token_id", 0)
}
