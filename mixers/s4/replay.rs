//! The reference dumps of S4 and S4D.

use super::kernel::Kernel;
use super::layer::Layer;
use super::minimal::{self, Minimal};
use super::recurrent::Recurrence;
use super::{Block, Config, Disc, DtTransform, FinalAct, Mode, RealTransform, StateInit, StepMode};
use crate::laws::goldens::{Golden, GoldenError, Replay, relative_error, whole};
use crate::math::hippo;
use crate::{Context, Dims, Mixer};
use serde_json::Value;
use std::collections::BTreeMap;
use tch::nn::VarStore;
use tch::{Tensor, nn};

/// `s4_kernel_diag` and `s4_kernel_dplr`: the kernel alone, and what an initial state adds.
pub(crate) fn kernel(golden: &Golden) -> Result<Replay, GoldenError> {
    let vs = VarStore::new(golden.device);
    let length = golden.axes("output.K", &["", "d_model", "L"])?[2];
    let kernel = stored_kernel(golden, &vs, "", length)?;
    if !golden.flag_or("state", golden.has("input.state"))? {
        return golden.replay(&[("K", &kernel.kernel(length))], &[], Some(&vs));
    }
    let (state, held) = initial_state(golden, &kernel)?;
    let (k_state, k) = kernel.responses(length, Some(&held));
    golden.replay(&[("K", &k), ("K_state", &k_state)], &[("state", &state)], Some(&vs))
}

/// `input.state` as a leaf, and as the kernel holds it: complex, of a system of conjugate pairs, or real.
fn initial_state(golden: &Golden, kernel: &Kernel) -> Result<(Tensor, Tensor), GoldenError> {
    if kernel.disc == Disc::Dss {
        let why = "config `disc` is dss: the reference adds a state to B without discretizing it";
        return Err(GoldenError::Unsupported(why.into()));
    }
    let real = kernel.a_imag.is_none();
    let axes = ["batch", "d_model", "", ""];
    let size = golden.axes("input.state", &axes[..if real { 3 } else { 4 }])?;
    let mut held = vec![size[0], kernel.c.size()[1], kernel.c.size()[2]];
    held.extend((!real).then_some(2));
    if size != held {
        return Err(golden.malformed(format!("`input.state` has shape {size:?}, and `C` asks for {held:?}")));
    }
    let state = golden.input("state")?;
    let complex = if real { state.shallow_clone() } else { state.view_as_complex() };
    Ok((state, complex))
}

/// `s4_fftconv`: convolution, skip and activation.
pub(crate) fn fftconv(golden: &Golden) -> Result<Replay, GoldenError> {
    let vs = VarStore::new(golden.device);
    let layout = Layout::read(golden)?;
    let gelu = activation(golden)?;
    let layer = stored_layer(golden, &vs)?;
    let x = golden.input("x")?;
    let y = layer.forward(&layout.turn(&x));
    let y = layout.turn(&if gelu { y.gelu("none") } else { y });
    golden.replay(&[("y", &y)], &[("x", &x)], Some(&vs))
}

/// `s4_state_forward`: the same from a state, and the state it leaves.
pub(crate) fn state_forward(golden: &Golden) -> Result<Replay, GoldenError> {
    let vs = VarStore::new(golden.device);
    let layout = Layout::read(golden)?;
    let gelu = activation(golden)?;
    let layer = stored_layer(golden, &vs)?;
    keeps_state(&layer, layout.length)?;
    if layer.kernel.rate != 1.0 {
        let why = format!("config `rate` is {}: the reference takes its state forward at rate 1", layer.kernel.rate);
        return Err(GoldenError::Unsupported(why));
    }
    let (state, held) = initial_state(golden, &layer.kernel)?;
    let x = golden.input("x")?;
    let (y, next) = layer.forward_with_state(&layout.turn(&x), &held);
    let y = layout.turn(&if gelu { y.gelu("none") } else { y });
    let next = if next.is_complex() { next.view_as_real() } else { next };
    golden.replay(&[("y", &y), ("next_state", &next)], &[("x", &x), ("state", &state)], Some(&vs))
}

/// A state stands for the past in one direction, with a kernel as long as the input, and for S4 at rate 1.
fn keeps_state(layer: &Layer, length: i64) -> Result<(), GoldenError> {
    if layer.keeps_state(length) {
        return Ok(());
    }
    let key = match () {
        () if layer.bidirectional => "bidirectional",
        () if layer.kernel.lags(length) != length => "l_max",
        () => "rate",
    };
    Err(GoldenError::Unsupported(format!("config `{key}`: with it no state stands for the past")))
}

/// Where the channels lie: upstream's default is `[batch, d_model, length]`.
struct Layout {
    transposed: bool,
    length: i64,
}

impl Layout {
    fn read(golden: &Golden) -> Result<Self, GoldenError> {
        let transposed = golden.flag_or("transposed", true)?;
        let axes = if transposed { ["batch", "d_model", "L"] } else { ["batch", "L", "d_model"] };
        let name = if golden.has("input.u") { "input.u" } else { "input.x" };
        let sizes = golden.axes(name, &axes)?;
        Ok(Self { transposed, length: sizes[if transposed { 2 } else { 1 }] })
    }

    /// From the dump's layout to `[batch, length, channels]`, and back.
    fn turn(&self, t: &Tensor) -> Tensor {
        if self.transposed { t.transpose(1, 2) } else { t.shallow_clone() }
    }
}

/// Whether the convolution ends in a GELU, upstream's default; `null` is none.
fn activation(golden: &Golden) -> Result<bool, GoldenError> {
    match golden.given("activation") {
        None => Ok(true),
        Some(Value::Null) => Ok(false),
        Some(_) => {
            golden.choice("activation", true, &[("gelu", true), ("id", false), ("identity", false), ("linear", false)])
        }
    }
}

/// `s4_step`: the convolution and its gradients. Of the convolution and every step mode, `output.y` is the one furthest from
/// the dump.
pub(crate) fn step(golden: &Golden) -> Result<Replay, GoldenError> {
    let vs = VarStore::new(golden.device);
    let layout = Layout::read(golden)?;
    let gelu = activation(golden)?;
    let layer = stored_layer(golden, &vs)?;
    keeps_state(&layer, layout.length)?;
    let x = golden.input("x")?;
    let last = |y: Tensor| layout.turn(&if gelu { y.gelu("none") } else { y });
    let mut replay = golden.replay(&[("y", &last(layer.forward(&layout.turn(&x))))], &[("x", &x)], Some(&vs))?;
    let want = golden.tensor("output.y")?;
    let mut worst = relative_error(&replay.0["output.y"], want);
    for &mode in step_modes(&layer) {
        let y = last(stepped(&layer, &layout.turn(&x), mode).0);
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

/// The layer token by token over `x`, `[batch, length, d_model]`, and the recurrence at the end.
pub(super) fn stepped(layer: &Layer, x: &Tensor, mode: StepMode) -> (Tensor, Recurrence) {
    tch::no_grad(|| {
        let mut recurrence = Recurrence::of(&layer.kernel, mode);
        recurrence.reset(x.size()[0]);
        let mut step = |t| (recurrence.step(&x.select(1, t)) + x.select(1, t).unsqueeze(1) * &layer.d).flatten(1, 2);
        let taken: Vec<Tensor> = (0..x.size()[1]).map(&mut step).collect();
        (Tensor::stack(&taken, 1), recurrence)
    })
}

/// `s4d_minimal`: the minimal S4D layer.
pub(crate) fn minimal(golden: &Golden) -> Result<Replay, GoldenError> {
    golden.dropout(&["dropout"])?;
    golden.without_effect(&["dt_min", "dt_max"]);
    trained(golden)?;
    let cfg = minimal::Config { d_state: golden.int_or("d_state", 64)?, ..Default::default() };
    let layout = Layout::read(golden)?;
    let dims = Dims { d_model: golden.int("d_model")?, seq_len: layout.length, causal: true };
    golden.settings(&cfg, &dims)?;
    let mut vs = VarStore::new(golden.device);
    let layer = Minimal::new(&vs.root(), &dims, &cfg);
    golden.fill(&mut vs)?;
    let u = golden.input("u")?;
    let y = layout.turn(&layer.forward(&layout.turn(&u), &Context::eval()));
    golden.replay(&[("y", &y)], &[("u", &u)], Some(&vs))
}

/// The dump's convolution layer, its parameters variables of `vs`.
pub(super) fn stored_layer(golden: &Golden, vs: &VarStore) -> Result<Layer, GoldenError> {
    golden.dropout(&["dropout", "tie_dropout", "drop_kernel"])?;
    golden.only("swap_channels", &[false])?;
    let (bidirectional, x) = (golden.flag_or("bidirectional", false)?, golden.tensor("input.x")?.size());
    let length = if golden.flag_or("transposed", true)? { x[2] } else { x[1] };
    let d = stored(golden, &vs.root(), "", "D")?;
    let channels = d.size()[0];
    golden.agrees("channels", channels, "`param.D` says")?;
    let kernel = stored_kernel(golden, vs, "kernel.", Shared::read(golden)?.lags(length))?;
    let outputs = channels * (1 + i64::from(bidirectional));
    if kernel.c.size()[0] != outputs {
        let why =
            format!("`param.kernel.C` has {} kernels a channel, and the config asks for {outputs}", kernel.c.size()[0]);
        return Err(golden.malformed(why));
    }
    Ok(Layer { kernel, d, bidirectional })
}

/// Whether `config init` is one word for initial values that upstream has, or a list of them: with the parameters given they
/// decide nothing.
fn known_init(golden: &Golden) -> Result<(), GoldenError> {
    let words = match golden.given("init") {
        None | Some(Value::Null) => return Ok(()),
        Some(Value::Array(words)) if !words.is_empty() => words.as_slice(),
        Some(word) => std::slice::from_ref(word),
    };
    let list = words.len() > 1 || golden.given("init").is_some_and(Value::is_array);
    match words.iter().find(|word| !word.as_str().is_some_and(|word| is_init(word, list))) {
        None => Ok(()),
        Some(word) => Err(golden.malformed(format!("config `init` is {word}, which upstream does not have"))),
    }
}

/// One word. Those that stand for several inits stand for themselves in a list, where upstream has only `diag` of them.
fn is_init(word: &str, in_list: bool) -> bool {
    const KNOWN: [&str; 6] = ["legs", "legt", "fout", "fourier", "diag", "dplr"];
    const SPECTRA: [&str; 13] = [
        "random",
        "rand",
        "real",
        "linear",
        "lin",
        "inverse",
        "inv",
        "inverse2",
        "inv2",
        "quadratic",
        "quad",
        "legs",
        "hippo",
    ];
    let spectrum = word.strip_prefix("diag-").or_else(|| word.strip_prefix("dplr-"));
    KNOWN.contains(&word)
        || !in_list && ["hippo", "all"].contains(&word)
        || spectrum.is_some_and(|spectrum| SPECTRA.contains(&spectrum))
}

/// `s4_block`: the mixer as a run builds it.
pub(crate) fn block(golden: &Golden) -> Result<Replay, GoldenError> {
    golden.dropout(&["dropout", "tie_dropout", "drop_kernel"])?;
    golden.only("swap_channels", &[false])?;
    golden.only("weight_norm", &[false])?;
    for key in ["bottleneck", "gate", "gate_act", "mult_act", "postact", "initializer"] {
        golden.only::<Value>(key, &[])?;
    }
    if !activation(golden)? {
        return Err(GoldenError::Unsupported("config `activation`: the block has its GELU always".into()));
    }
    if golden.given("final_act").is_some_and(Value::is_null) {
        return Err(GoldenError::Unsupported("config `final_act` is null: the block has its map always".into()));
    }
    let final_act = golden.choice("final_act", FinalAct::Glu, &[("glu", FinalAct::Glu), ("id", FinalAct::Id)])?;
    let (layout, shared) = (Layout::read(golden)?, Shared::read(golden)?);
    let mode = mode(golden, Mode::Dplr)?;
    let dplr = mode == Mode::Dplr;
    let rank = golden.int_or("rank", 1)?;
    if dplr && rank > 2 {
        return Err(GoldenError::Unsupported(format!("config `rank` is {rank}: the block has 1 or 2")));
    }
    let bidirectional = golden.flag_or("bidirectional", false)?;
    let cfg = Config {
        mode,
        // Only shapes follow from it.
        init: match (dplr, shared.real, rank) {
            (false, true, _) => StateInit::Real,
            (false, false, _) => StateInit::Lin,
            (true, _, 2) => StateInit::Legt,
            (true, ..) => StateInit::Legs,
        },
        rank: dplr.then_some(rank),
        disc: shared.disc,
        d_state: golden.int_or("d_state", 64)?,
        n_ssm: golden.setting("n_ssm", None)?,
        channels: golden.int_or("channels", 1)?,
        dt_tie: shared.dt_tie,
        dt_transform: shared.dt_transform,
        real_transform: shared.real_transform,
        bandlimit: shared.bandlimit,
        l_max: shared.l_max,
        rate: shared.rate,
        bidirectional: Some(bidirectional),
        final_act,
        ..Config::default()
    };
    let lengths = lengths(golden, layout.length)?;
    let d_model = golden.int("d_model")?;
    let dims = Dims { d_model, seq_len: layout.length, causal: !bidirectional };
    golden.settings(&cfg, &dims)?;
    let mut vs = VarStore::new(golden.device);
    let mut block = Block::new(&vs.root(), &dims, &cfg);
    golden.fill(&mut vs)?;
    if dplr {
        block.layer.kernel.l_kernel = tuned_length(golden, "layer.kernel.", shared.lags(layout.length), &shared)?;
    }
    let x = golden.input("x")?;
    let ctx = Context {
        train: false,
        lengths: lengths.map(|l| Tensor::from_slice(&l).to_device(golden.device)),
        ..Context::default()
    };
    let y = layout.turn(&block.forward(&layout.turn(&x), &ctx));
    golden.replay(&[("y", &y)], &[("x", &x)], Some(&vs))
}

/// Valid positions of each row: one number for all rows, or one a row; a number instead of a list has to be the whole length.
fn lengths(golden: &Golden, length: i64) -> Result<Option<Vec<i64>>, GoldenError> {
    let rows = golden.tensor("input.x")?.size()[0];
    let value = golden.setting("lengths", Value::Null)?;
    let given: Vec<i64> = match &value {
        Value::Null => return Ok(None),
        Value::Number(whole) if whole.as_i64() == Some(length) => return Ok(None),
        Value::Array(list) => list.iter().filter_map(Value::as_i64).collect(),
        _ => Vec::new(),
    };
    let counted = [1, rows].contains(&(given.len() as i64)) && value.as_array().is_some_and(|l| l.len() == given.len());
    if !counted || given.iter().any(|l| !(0..=length).contains(l)) {
        return Err(golden.malformed(format!("config `lengths` is {value}: not one a row of {rows}, up to {length}")));
    }
    Ok(Some(if given.len() == 1 { vec![given[0]; rows as usize] } else { given }))
}

/// Upstream's names of the two kernels.
fn mode(golden: &Golden, default: Mode) -> Result<Mode, GoldenError> {
    let known =
        [("s4d", Mode::Diag), ("diag", Mode::Diag), ("s4", Mode::Dplr), ("nplr", Mode::Dplr), ("dplr", Mode::Dplr)];
    golden.choice("mode", default, &known)
}

/// A learning rate of 0 makes buffers of the reference's parameters, which a dump then does not hold as parameters.
fn trained(golden: &Golden) -> Result<(), GoldenError> {
    let zero = |rate: &Value| rate.as_f64() == Some(0.0);
    match golden.given("lr") {
        Some(lr) if zero(lr) || lr.as_object().is_some_and(|each| each.values().any(zero)) => {
            Err(GoldenError::Unsupported(format!("config `lr` is {lr}: the reference keeps no parameters then")))
        }
        _ => Ok(()),
    }
}

/// What the config says of a kernel, whichever dump it stands in.
struct Shared {
    disc: Option<Disc>,
    dt_transform: DtTransform,
    dt_tie: bool,
    real_transform: RealTransform,
    bandlimit: Option<f64>,
    rate: f64,
    l_max: Option<i64>,
    /// Real modes instead of conjugate pairs.
    real: bool,
}

impl Shared {
    fn read(golden: &Golden) -> Result<Self, GoldenError> {
        golden.only("imag_transform", &["none"])?;
        golden.only("dt_fast", &[false])?;
        known_init(golden)?;
        trained(golden)?;
        golden.without_effect(&[
            "dt_min",
            "dt_max",
            "wd",
            "verbose",
            "deterministic",
            "measure",
            "backend",
            "init_args",
        ]);
        let discs = [("zoh", Disc::Zoh), ("bilinear", Disc::Bilinear), ("dss", Disc::Dss)];
        let transforms = [
            ("exp", RealTransform::Exp),
            ("relu", RealTransform::Relu),
            ("softplus", RealTransform::Softplus),
            ("none", RealTransform::None),
        ];
        let rate = golden.number_or("rate", 1.0)?;
        if !(1e-3..=1e3).contains(&rate) {
            return Err(golden.malformed(format!("config `rate` is {rate}")));
        }
        Ok(Self {
            disc: golden.choice("disc", None, &discs.map(|(word, disc)| (word, Some(disc))))?,
            dt_transform: golden.choice(
                "dt_transform",
                DtTransform::Exp,
                &[("exp", DtTransform::Exp), ("softplus", DtTransform::Softplus)],
            )?,
            dt_tie: golden.flag_or("dt_tie", true)?,
            real_transform: golden.choice("real_transform", RealTransform::Exp, &transforms)?,
            bandlimit: golden.setting("bandlimit", None)?,
            rate,
            l_max: golden.given("l_max").filter(|l| !l.is_null()).map(|_| golden.size("l_max", "l_max")).transpose()?,
            real: golden.flag_or("is_real", false)?,
        })
    }
}

impl Shared {
    /// Lags that the convolution of `length` positions asks its kernel for.
    fn lags(&self, length: i64) -> i64 {
        self.l_max.map_or(length, |l_max| length.min((l_max as f64 / self.rate).round_ties_even() as i64))
    }
}

/// The length that C̃ belongs to: the buffer's, which must be what upstream comes to by the lengths in the config.
fn tuned_length(golden: &Golden, prefix: &str, length: i64, shared: &Shared) -> Result<i64, GoldenError> {
    let key = format!("buffer.{prefix}l_kernel");
    let tuned = whole(golden.tensor(&key)?);
    let first = if golden.has_config("L_first") { golden.size("L_first", "l_max")? } else { length };
    let asked = |length: i64| (shared.rate * length as f64).round_ties_even() as i64;
    // Without `l_max` the first forward decides, which may have run at this rate or at 1.
    let expected = [asked(first), first].map(|ask| {
        let mut reached = shared.l_max.unwrap_or(ask);
        for ask in [ask, asked(length)] {
            while reached > 0 && reached < ask {
                reached *= 2;
            }
        }
        reached
    });
    if expected.contains(&tuned) {
        return Ok(tuned);
    }
    let [expected, at_one] = expected;
    let or = if expected == at_one { String::new() } else { format!(", or {at_one} where it first ran at rate 1") };
    Err(golden.malformed(format!("`{key}` is {tuned}, and the lengths of the config come to {expected}{or}")))
}

/// What a kernel of `points` positions for each of `c`'s entries may come to.
const MOST_ENTRIES: f64 = (1_u64 << 30) as f64;

/// The dump's parameters under `prefix`, as variables of `vs`, with its settings.
fn stored_kernel(golden: &Golden, vs: &VarStore, prefix: &str, length: i64) -> Result<Kernel, GoldenError> {
    let shared = Shared::read(golden)?;
    let path =
        prefix.trim_end_matches('.').split('.').filter(|part| !part.is_empty()).fold(vs.root(), |p, part| p / part);
    let parameter = |name: &str| stored(golden, &path, prefix, name);
    let has = |name: &str| golden.has(&format!("param.{prefix}{name}"));
    let dplr = has("P");
    let there = if dplr { Mode::Dplr } else { Mode::Diag };
    let given = mode(golden, there)?;
    if given != there {
        let what = if dplr { "a" } else { "no" };
        return Err(golden.malformed(format!("config `mode` is {given:?}, and there is {what} `P`")));
    }
    let kernel = Kernel {
        inv_dt: parameter("inv_dt")?,
        a_real: parameter("A_real")?,
        a_imag: if shared.real { None } else { Some(parameter("A_imag")?) },
        b: parameter("B")?,
        c: parameter("C")?,
        p: if dplr { Some(parameter("P")?) } else { None },
        disc: match (dplr, shared.disc) {
            (true, None | Some(Disc::Bilinear)) => Disc::Bilinear,
            (true, Some(disc)) => {
                return Err(GoldenError::Unsupported(format!(
                    "config `disc` is {disc:?}: S4 has the bilinear one alone"
                )));
            }
            (false, disc) => disc.unwrap_or(Disc::Zoh),
        },
        dt_transform: shared.dt_transform,
        real_transform: shared.real_transform,
        bandlimit: shared.bandlimit,
        l_kernel: if dplr { tuned_length(golden, prefix, length, &shared)? } else { length },
        rate: shared.rate,
        l_max: shared.l_max,
    };
    fits(golden, &kernel, &shared)?;
    let points = kernel.l_kernel.max(length) as f64 / shared.rate.min(1.0);
    if points * kernel.c.numel() as f64 > MOST_ENTRIES {
        return Err(golden.malformed(format!("a kernel of {points:.0} positions is more than this build replays")));
    }
    Ok(kernel)
}

/// Whether the shapes of the parameters are those that the config asks for.
fn fits(golden: &Golden, kernel: &Kernel, shared: &Shared) -> Result<(), GoldenError> {
    let (c, a) = (kernel.c.size(), kernel.a_real.size());
    let (h, modes) = (c[1], c[2]);
    golden.agrees("d_model", h, "`C` says")?;
    golden.agrees("d_state", if shared.real { modes } else { 2 * modes }, "`C` says")?;
    golden.agrees("n_ssm", a[0], "`A_real` says")?;
    golden.agrees("rank", kernel.p.as_ref().map_or(golden.int_or("rank", 1)?, |p| p.size()[0]), "`P` says")?;
    let sides = if golden.flag_or("bidirectional", false)? { 2 } else { 1 };
    golden.agrees("channels", c[0] / sides, "`C` says")?;
    let steps = if shared.dt_tie { 1 } else { modes };
    if kernel.inv_dt.size() != [h, steps] {
        let why = format!("`inv_dt` has shape {:?}, and the config asks for {:?}", kernel.inv_dt.size(), [h, steps]);
        return Err(golden.malformed(why));
    }
    Ok(())
}

/// `param.<prefix><name>` as a variable of the dump's precision.
fn stored(golden: &Golden, path: &nn::Path, prefix: &str, name: &str) -> Result<Tensor, GoldenError> {
    let value = golden.tensor(&format!("param.{prefix}{name}"))?;
    Ok(path.add(name, value.copy().set_requires_grad(true), true))
}

/// `hippo_init`: the phase-free parts of every initialization.
pub(crate) fn hippo(golden: &Golden) -> Result<Replay, GoldenError> {
    golden.only("measure", &["legs"])?;
    let n = golden.int("N")?;
    if !(2..=hippo::MOST_STATES).contains(&n) || n % 2 != 0 {
        return Err(
            golden.malformed(format!("config `N` is {n}: states come in pairs, {} at most", hippo::MOST_STATES))
        );
    }
    golden.agrees("N", golden.tensor("output.B_dense")?.size()[0], "`output.B_dense` says")?;
    if !matches!(golden.variant.as_str(), "" | "legs") {
        return Err(GoldenError::Unsupported(format!("variant `{}`; replayed is `legs`", golden.variant)));
    }
    let ((a, b, p), nplr) = (hippo::legs(n), hippo::nplr_legs(n));
    let pair = |z: &Tensor| z.resolve_conj().view_as_real();
    let real = hippo::diag_real(n / 2);
    let outputs = [
        ("A_dense", a),
        ("B_dense", b),
        ("P_dense", p),
        ("Lambda", pair(&nplr.lambda)),
        ("abs_B", nplr.b.abs()),
        ("abs_P", nplr.p.abs()),
        ("conjP_times_B", pair(&(nplr.p.conj() * &nplr.b))),
        ("diag_lin_A", pair(&hippo::diag_lin(n))),
        ("diag_inv_A", pair(&hippo::diag_inv(n))),
        ("diag_real_A", pair(&Tensor::complex(&real, &real.zeros_like()))),
    ];
    let named = outputs.map(|(name, value)| (format!("output.{name}"), value.to_kind(golden.kind)));
    Ok(Replay(BTreeMap::from(named)))
}
