//! The reference dumps of S4 and S4D.

use super::kernel::Kernel;
use super::layer::Layer;
use super::minimal::{self, Minimal};
use super::recurrent::Recurrence;
use super::{Block, Config, Disc, DtTransform, FinalAct, Mode, RealTransform, StateInit, StepMode};
use crate::goldens::{Golden, GoldenError, Replay, relative_error};
use crate::{Context, Dims, Mixer};
use serde::de::DeserializeOwned;
use serde_json::Value;
use tch::nn::VarStore;
use tch::{Device, Tensor, nn};

/// `s4_kernel_diag` and `s4_kernel_dplr`: the kernel alone, and what an initial state adds.
pub(crate) fn kernel(golden: &Golden) -> Result<Replay, GoldenError> {
    let vs = VarStore::new(Device::Cpu);
    let kernel = stored_kernel(golden, &vs, "")?;
    let length = golden.int("L")?;
    if !golden.flag("state") {
        return golden.replay(&[("K", &kernel.kernel(length))], &[], Some(&vs));
    }
    let state = golden.input("state")?;
    let (k_state, k) = kernel.responses(length, Some(&state.view_as_complex()));
    golden.replay(&[("K", &k), ("K_state", &k_state)], &[("state", &state)], Some(&vs))
}

/// `s4_fftconv`: convolution and skip.
pub(crate) fn fftconv(golden: &Golden) -> Result<Replay, GoldenError> {
    let vs = VarStore::new(Device::Cpu);
    let layer = stored_layer(golden, &vs)?;
    let x = golden.input("x")?; // [batch, d_model, length]
    let y = layer.forward(&x.transpose(1, 2)).transpose(1, 2); // [batch, channels · d_model, length]
    golden.replay(&[("y", &y)], &[("x", &x)], Some(&vs))
}

/// `s4_state_forward`: the same from a state, and the state it leaves.
pub(crate) fn state_forward(golden: &Golden) -> Result<Replay, GoldenError> {
    let vs = VarStore::new(Device::Cpu);
    let layer = stored_layer(golden, &vs)?;
    let (x, state) = (golden.input("x")?, golden.input("state")?);
    let (y, next) = layer.forward_with_state(&x.transpose(1, 2), &state.view_as_complex());
    let outputs = [("y", &y.transpose(1, 2)), ("next_state", &next.view_as_real())];
    golden.replay(&outputs, &[("x", &x), ("state", &state)], Some(&vs))
}

/// `s4_step`: the convolution and its gradients. Of the convolution and every step mode, `output.y` is the one furthest from
/// the dump.
pub(crate) fn step(golden: &Golden) -> Result<Replay, GoldenError> {
    let vs = VarStore::new(Device::Cpu);
    let layer = stored_layer(golden, &vs)?;
    let x = golden.input("x")?;
    let y = layer.forward(&x.transpose(1, 2)).gelu("none").transpose(1, 2);
    let mut replay = golden.replay(&[("y", &y)], &[("x", &x)], Some(&vs))?;
    let want = golden.tensor("output.y")?;
    let mut worst = relative_error(&y, want);
    for &mode in step_modes(&layer) {
        let y = stepped(&layer, &x, mode).0;
        let error = relative_error(&y, want);
        if error > worst {
            worst = error;
            replay.0.insert("output.y".into(), y);
        }
    }
    Ok(replay)
}

/// The step modes there are.
pub(super) fn step_modes(layer: &Layer) -> &'static [StepMode] {
    const ALL: [StepMode; 3] = [StepMode::Dense, StepMode::Linear, StepMode::Diagonal];
    if layer.kernel.p.is_some() { &ALL } else { &ALL[..1] }
}

/// The layer and its GELU token by token over `x`, `[batch, d_model, length]`, and the recurrence at the end.
pub(super) fn stepped(layer: &Layer, x: &Tensor, mode: StepMode) -> (Tensor, Recurrence) {
    tch::no_grad(|| {
        let mut recurrence = Recurrence::of(&layer.kernel, mode);
        recurrence.reset(x.size()[0]);
        let mut step = |t| (recurrence.step(&x.select(2, t)) + x.select(2, t).unsqueeze(1) * &layer.d).flatten(1, 2);
        let taken: Vec<Tensor> = (0..x.size()[2]).map(&mut step).collect();
        (Tensor::stack(&taken, 2).gelu("none"), recurrence)
    })
}

/// `s4d_minimal`: the minimal S4D layer.
pub(crate) fn minimal(golden: &Golden) -> Result<Replay, GoldenError> {
    let mut vs = VarStore::new(Device::Cpu);
    let cfg = minimal::Config { d_state: golden.int("d_state")?, ..Default::default() };
    let dims = Dims { d_model: golden.int("d_model")?, seq_len: golden.int("L")?, causal: true };
    let layer = Minimal::new(&vs.root(), &dims, &cfg);
    golden.fill(&mut vs)?;
    let u = golden.input("u")?; // [batch, d_model, length]
    let y = layer.forward(&u.transpose(1, 2), &Context::eval()).transpose(1, 2);
    golden.replay(&[("y", &y)], &[("u", &u)], Some(&vs))
}

/// The dump's convolution layer, its parameters variables of `vs`.
pub(super) fn stored_layer(golden: &Golden, vs: &VarStore) -> Result<Layer, GoldenError> {
    Ok(Layer {
        kernel: stored_kernel(golden, vs, "kernel.")?,
        d: stored(golden, &vs.root(), "", "D")?,
        bidirectional: golden.flag("bidirectional"),
    })
}

/// `s4_block`: the mixer as a run builds it.
pub(crate) fn block(golden: &Golden) -> Result<Replay, GoldenError> {
    let mut vs = VarStore::new(Device::Cpu);
    let bidirectional = golden.flag("bidirectional");
    let cfg = Config {
        mode: setting(golden, "mode", Mode::Dplr)?,
        init: init(golden)?,
        disc: setting(golden, "disc", None)?,
        d_state: golden.int("d_state")?,
        n_ssm: golden.config["n_ssm"].as_i64(),
        dt_transform: setting(golden, "dt_transform", DtTransform::Exp)?,
        bidirectional: Some(bidirectional),
        final_act: setting(golden, "final_act", FinalAct::Glu)?,
        ..Config::default()
    };
    let dims = Dims { d_model: golden.int("d_model")?, seq_len: golden.int("L")?, causal: !bidirectional };
    let mut block = Block::new(&vs.root(), &dims, &cfg);
    golden.fill(&mut vs)?;
    if let Ok(length) = golden.tensor("buffer.layer.kernel.l_kernel") {
        block.layer.kernel.l_kernel = length.int64_value(&[]);
    }
    let lengths: Option<Vec<i64>> = setting(golden, "lengths", None)?;
    let ctx = Context { train: false, lengths: lengths.map(|l| Tensor::from_slice(&l)), ..Context::default() };
    // Upstream's default layout has time last.
    let transposed = golden.config["transposed"].as_bool().unwrap_or(true);
    let turn = |t: &Tensor| if transposed { t.transpose(1, 2) } else { t.shallow_clone() };
    let x = golden.input("x")?;
    let y = turn(&block.forward(&turn(&x), &ctx));
    golden.replay(&[("y", &y)], &[("x", &x)], Some(&vs))
}

/// The dump's parameters under `prefix`, as variables of `vs`, with its settings.
fn stored_kernel(golden: &Golden, vs: &VarStore, prefix: &str) -> Result<Kernel, GoldenError> {
    let path =
        prefix.trim_end_matches('.').split('.').filter(|part| !part.is_empty()).fold(vs.root(), |p, part| p / part);
    let parameter = |name: &str| stored(golden, &path, prefix, name);
    let names = golden.names("param");
    let optional = |name: &str| match names.contains(&format!("{prefix}{name}").as_str()) {
        true => parameter(name).map(Some),
        false => Ok(None),
    };
    let tuned = golden.tensor(&format!("buffer.{prefix}l_kernel")).map(|t| t.int64_value(&[]));
    let dplr = names.contains(&format!("{prefix}P").as_str());
    Ok(Kernel {
        inv_dt: parameter("inv_dt")?,
        a_real: parameter("A_real")?,
        a_imag: optional("A_imag")?,
        b: parameter("B")?,
        c: parameter("C")?,
        p: optional("P")?,
        disc: setting(golden, "disc", if dplr { Disc::Bilinear } else { Disc::Zoh })?,
        dt_transform: setting(golden, "dt_transform", DtTransform::Exp)?,
        real_transform: setting(golden, "real_transform", RealTransform::Exp)?,
        bandlimit: golden.config["bandlimit"].as_f64(),
        l_kernel: if dplr { tuned? } else { golden.int("L")? },
        rate: golden.config["rate"].as_f64().unwrap_or(1.0),
        l_max: golden.config["l_max"].as_i64(),
    })
}

/// `param.<prefix><name>` as a variable of the dump's precision.
fn stored(golden: &Golden, path: &nn::Path, prefix: &str, name: &str) -> Result<Tensor, GoldenError> {
    let value = golden.tensor(&format!("param.{prefix}{name}"))?;
    Ok(path.add(name, value.copy().set_requires_grad(true), true))
}

/// `init` of the dump, written `diag-lin` there.
fn init(golden: &Golden) -> Result<StateInit, GoldenError> {
    let word = golden.word_or("init", "legs");
    parse(golden, "init", Value::from(word.trim_start_matches("diag-")))
}

/// A setting of the dump, or `default` where it is absent.
fn setting<T: DeserializeOwned>(golden: &Golden, key: &str, default: T) -> Result<T, GoldenError> {
    match &golden.config[key] {
        Value::Null => Ok(default),
        value => parse(golden, key, value.clone()),
    }
}

fn parse<T: DeserializeOwned>(golden: &Golden, key: &str, value: Value) -> Result<T, GoldenError> {
    let what = format!("config `{key}`");
    serde_json::from_value(value).map_err(|_| GoldenError::Lacks { path: golden.path.clone(), what })
}
