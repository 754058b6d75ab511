//! The reference's dumps.

use super::conv::Side;
use super::mlm::{MaskedLm, MlmConfig};
use super::ssm::{Kernel, Ssm};
use super::{Config, Gated};
use crate::goldens::{Golden, GoldenError, Replay};
use crate::{Context, Dims, Mixer};
use tch::Device;
use tch::nn::{self, VarStore};

/// `bigs_kernel`: the kernel alone.
pub(crate) fn kernel(golden: &Golden) -> Result<Replay, GoldenError> {
    let mut vs = VarStore::new(Device::Cpu);
    let cfg = Config { d_state: golden.int("N")?, ..Config::default() };
    let kernel = Kernel::new(&vs.root(), &cfg);
    golden.fill(&mut vs)?;
    golden.replay(&[("K", &kernel.kernel(golden.int("L")?))], &[], Some(&vs))
}

/// `bigs_ssm`: one direction with its skip.
pub(crate) fn ssm(golden: &Golden) -> Result<Replay, GoldenError> {
    let mut vs = VarStore::new(Device::Cpu);
    let ssm = Ssm::new(&vs.root(), &Config { d_state: golden.int("num_ssm")?, ..Config::default() });
    golden.fill(&mut vs)?;
    let u = golden.input("u")?;
    golden.replay(&[("y", &ssm.apply(&u, Side::Past, None, &Context::eval()))], &[("u", &u)], Some(&vs))
}

/// `bigs_layer`: the layer between the reference's LayerNorm and residual.
pub(crate) fn layer(golden: &Golden) -> Result<Replay, GoldenError> {
    let mut vs = VarStore::new(Device::Cpu);
    let d_model = golden.int("hidden_size")?;
    let layer = Gated::new(&vs.root(), &Dims { d_model, seq_len: golden.int("L")?, causal: false }, &settings(golden)?);
    let norm = nn::LayerNormConfig { eps: eps(golden), ..Default::default() };
    let norm = nn::layer_norm(vs.root() / "LayerNorm", vec![d_model], norm);
    golden.fill(&mut vs)?;
    let x = golden.input("x")?;
    let y = &x + layer.forward(&x.apply(&norm), &Context::eval());
    golden.replay(&[("y", &y)], &[("x", &x)], Some(&vs))
}

/// `bigs_mlm`: the whole encoder with its masked-language-model head.
pub(crate) fn masked_lm(golden: &Golden) -> Result<Replay, GoldenError> {
    let mut vs = VarStore::new(Device::Cpu);
    let cfg = MlmConfig {
        vocab_size: golden.int("vocab_size")?,
        d_model: golden.int("hidden_size")?,
        n_layers: golden.int("num_hidden_layers")?,
        max_positions: golden.int("max_position_embeddings")?,
        token_types: golden.tensor("param.bigs.embeddings.token_type_embeddings.weight")?.size()[0],
        pad_token: golden.int("pad_token_id")?,
        norm_eps: eps(golden),
        dropout: golden.config["dropout"].as_f64().unwrap_or(0.0),
        layer: settings(golden)?,
    };
    let model = MaskedLm::new(&vs.root(), &cfg).map_err(|e| GoldenError::Unsupported(format!("{e:?}")))?;
    golden.fill(&mut vs)?;
    let logits = model.forward(golden.tensor("input.input_ids")?, None, &Context::eval());
    let loss = MaskedLm::loss(&logits, golden.tensor("input.labels")?);
    golden.replay(&[("logits", &logits), ("loss", &loss)], &[], Some(&vs))
}

/// The dumps were made without any mask.
fn settings(golden: &Golden) -> Result<Config, GoldenError> {
    Ok(Config {
        d_ff: Some(golden.int("intermediate_size")?),
        d_state: golden.int("num_ssm")?,
        mask_padding: false,
        ..Config::default()
    })
}

fn eps(golden: &Golden) -> f64 {
    golden.config["layer_norm_eps"].as_f64().unwrap_or(1e-12)
}
