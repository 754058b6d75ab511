//! What minGRU and minLSTM share: gates that see only the input, so that the state is a diagonal linear recurrence.
//!
//! ```text
//! minGRU     z = σ(W_z x),   h_t = (1 - z) h_{t-1} + z c(W_h x)
//! minLSTM    f, i = σ(W_f x), σ(W_i x) over their sum,   h_t = f h_{t-1} + i c(W_h x)
//! c(u) = u,   or where h is to be positive  u + ½ for u ≥ 0 and σ(u) below
//! y_t = to_out h_t,   left out where h is as wide as x and reads one direction
//! ```

use crate::core::family::ReplayFn;
use crate::laws::goldens::{Golden, GoldenError, Replay};
use crate::math::decay_scan::{self, Read};
use crate::math::diagonal_scan;
use crate::math::directions::{Causal, Directions};
use crate::math::fla::{by_head, expanded};
use crate::{ConfigError, Context, Cost, Dims, Family, Linear, Mixer, NotLinear, Structure, linear};
use serde_json::{Value, json};
use std::fmt::Debug;
use std::marker::PhantomData;
use tch::Tensor;
use tch::nn::{self, Module, VarStore};

/// Which cell.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell {
    /// Hidden, gate.
    Gru,
    /// Hidden, forget gate, input gate.
    Lstm,
}

impl Cell {
    fn maps(self) -> i64 {
        match self {
            Self::Gru => 2,
            Self::Lstm => 3,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Gru => "to_hidden_and_gate",
            Self::Lstm => "to_hidden_and_f_i_gate",
        }
    }
}

/// What tells the two mixers apart.
pub trait Which: Clone + Debug + 'static {
    /// [`Family::NAME`].
    const NAME: &'static str;
    /// [`Family::ABOUT`].
    const ABOUT: &'static str;
    /// [`Family::PAPER`].
    const PAPER: &'static str;
    /// The cell.
    const CELL: Cell;
    /// [`Family::replays`].
    const REPLAYS: &'static [(&'static str, ReplayFn)];
}

/// The settings of minGRU and of minLSTM.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default, bound = "")]
#[schemars(rename = "Config", bound = "")]
pub struct Config<W> {
    /// Width of h over `d_model`. Reference: 1.
    pub expand: f64,
    /// What is written is positive, as the reference's scan in log space needs it. Without, it is any number, as in the paper's §3.
    pub positive: bool,
    #[serde(skip)]
    which: PhantomData<W>,
}

impl<W> Default for Config<W> {
    fn default() -> Self {
        Self { expand: 1.0, positive: true, which: PhantomData }
    }
}

impl<W: Which> Family for Config<W> {
    const NAME: &'static str = W::NAME;
    const ABOUT: &'static str = W::ABOUT;
    const PAPER: &'static str = W::PAPER;
    const COMPLEXITY: &'static str = "time O(length · d_model · d_inner), memory O(length · d_inner)";
    const VERSION: u32 = 1;
    /// The language models of §4.3.
    const WIDTH: i64 = 384;

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        W::REPLAYS
    }

    fn variants() -> Vec<Value> {
        vec![json!({ "expand": 1.5 }), json!({ "positive": false })]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("weight", 30.0)]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let d = dims.d_model as f64;
        let ends = if dims.causal { 1.0 } else { 2.0 };
        let out = if dims.causal && self.expand == 1.0 { 0.0 } else { 1.0 };
        ends * self.expand * d * d * (W::CELL.maps() as f64 + out)
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        expanded("expand", self.expand, 1, dims.d_model).err().into_iter().collect()
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        Box::new(self.layer(vs, dims))
    }
}

impl<W: Which> Config<W> {
    fn layer(&self, vs: &nn::Path, dims: &Dims) -> Directions<MinRnn> {
        let d = dims.d_model;
        let out = |width: i64| (width != d || !dims.causal).then(|| linear(&(vs / "to_out"), width, d, false));
        let sizes =
            Sizes { cell: W::CELL, inner: (self.expand * d as f64) as i64, positive: self.positive, d_model: d };
        Directions::new(vs, dims, |vs| MinRnn::new(vs, sizes), "to_out.weight", out)
    }
}

/// Of one direction.
#[derive(Clone, Copy, Debug)]
struct Sizes {
    cell: Cell,
    inner: i64,
    positive: bool,
    d_model: i64,
}

/// One direction.
#[derive(Debug)]
pub(crate) struct MinRnn {
    maps: Linear,
    sizes: Sizes,
}

/// The decay of h, what is written, and how much of it, each `[batch, length, inner]`.
struct Gates {
    kept: Tensor,
    written: Tensor,
    candidate: Tensor,
}

impl MinRnn {
    fn new(vs: &nn::Path, sizes: Sizes) -> Self {
        let maps = linear(&(vs / sizes.cell.name()), sizes.d_model, sizes.cell.maps() * sizes.inner, false);
        Self { maps, sizes }
    }

    fn gates(&self, x: &Tensor) -> Gates {
        let parts = self.maps.forward(x).chunk(self.sizes.cell.maps(), -1);
        // How much more is written than kept, as a logit.
        let logit = match self.sizes.cell {
            Cell::Gru => parts[1].shallow_clone(),
            Cell::Lstm => (-&parts[1]).softplus() - (-&parts[2]).softplus(),
        };
        let candidate = if self.sizes.positive { positive(&parts[0]) } else { parts[0].shallow_clone() };
        Gates { kept: (-&logit).sigmoid(), written: logit.sigmoid(), candidate }
    }

    /// h of every position from the h before the first, `[batch, inner]`.
    pub fn run(&self, x: &Tensor, initial: &Tensor) -> Tensor {
        let Gates { kept, written, candidate } = self.gates(x);
        diagonal_scan::real(&kept, &(written * candidate), initial)
    }

    /// h of sequences that have not begun, `[batch, inner]`.
    fn nothing(&self, batch: i64) -> Tensor {
        Tensor::zeros([batch, self.sizes.inner], (self.maps.ws.kind(), self.maps.ws.device()))
    }
}

/// u + ½ above 0, σ(u) below.
fn positive(u: &Tensor) -> Tensor {
    (u + 0.5).where_self(&u.ge(0.0), &u.sigmoid())
}

impl Causal for MinRnn {
    fn features(&self, x: &Tensor) -> Tensor {
        self.run(x, &self.nothing(x.size()[0]))
    }

    fn width(&self) -> i64 {
        self.sizes.inner
    }

    /// A matrix for each channel.
    fn matrix(&self, x: &Tensor) -> Result<Tensor, NotLinear> {
        let Gates { kept, written, .. } = self.gates(x);
        let [a, k] = [kept, written].map(|t| t.unsqueeze(-1));
        Ok(decay_scan::matrix(&k.ones_like(), &k, &a, Read::After))
    }

    fn values(&self, x: &Tensor) -> Result<(Tensor, Tensor), NotLinear> {
        let channels = |t: &Tensor| by_head(&t.unsqueeze(-1));
        Ok((channels(&self.gates(x).candidate), channels(&self.features(x))))
    }

    fn structure(&self) -> Structure {
        Structure::Quasiseparable(1)
    }

    fn start(&self, batch: i64) -> Vec<Tensor> {
        vec![self.nothing(batch)]
    }

    fn step(&self, x: &Tensor, state: &mut [Tensor], _at: i64) -> Tensor {
        let h = self.run(x, &state[0]);
        state[0] = h.squeeze_dim(1);
        h
    }

    fn cost(&self, length: i64) -> Cost {
        let Sizes { cell, inner, d_model, .. } = self.sizes;
        let maps = cell.maps() * inner * d_model;
        Cost { params: maps, state_bytes: 4 * inner, flops: 2 * length * (maps + inner) }
    }
}

/// A whole layer, with the h before it where there is one, and the last h. Absent keys are the defaults of the reference's class.
pub(crate) fn replay<W: Which>(golden: &Golden) -> Result<Replay, GoldenError> {
    let cfg = Config::<W> { expand: golden.number_or("expansion_factor", 1.0)?, ..Config::default() };
    golden.only("causal", &[true])?;
    let size = golden.axes("input.x", &["batch", "L", "d_model"])?;
    let dims = Dims { d_model: size[2], seq_len: size[1], causal: true };
    golden.settings(&cfg, &dims)?;
    golden.only("proj_out", &[cfg.expand != 1.0])?;
    let x = golden.input("x")?;
    let initial = golden.optional_input("prev_hidden", &["has_prev_hidden"], false)?;
    let mut vs = VarStore::new(golden.device);
    let layer = cfg.layer(&vs.root(), &dims);
    golden.fill(&mut vs)?;
    let start = match &initial {
        Some(initial) => initial.squeeze_dim(1),
        None => layer.ahead().nothing(size[0]),
    };
    let h = layer.ahead().run(&x, &start);
    let (y, last) = (layer.project(&h, &Context::eval()), h.narrow(1, size[1] - 1, 1));
    let inputs: Vec<(&str, &Tensor)> =
        std::iter::once(("x", &x)).chain(initial.as_ref().map(|initial| ("prev_hidden", initial))).collect();
    golden.replay(&[("y", &y), ("next_hidden", &last)], &inputs, Some(&vs))
}

/// The layer is its `cell`, one position after another, in values and gradients; it is given what the maps gave, part by part, and h.
#[cfg(test)]
pub(crate) fn assert_plain_twin<W: Which>(cell: impl Fn(&[Tensor], &Tensor) -> Tensor) {
    use crate::laws::testing::{assert_twins, noise};
    use tch::Device;
    for (expand, positive) in [(1.0, true), (1.0, false), (1.5, true), (1.5, false)] {
        let cfg = Config::<W> { expand, positive, which: PhantomData };
        let mut vs = VarStore::new(Device::Cpu);
        let layer = cfg.layer(&vs.root(), &Dims { d_model: 6, seq_len: 19, causal: true });
        vs.double();
        let x = noise(&[2, 19, 6], 5).set_requires_grad(true);
        let mut leaves = vs.trainable_variables();
        leaves.push(x.shallow_clone());
        let leaves: Vec<&Tensor> = leaves.iter().collect();
        let mut h = layer.ahead().nothing(2);
        let mut outputs = Vec::new();
        for t in 0..19 {
            let mut parts = x.select(1, t).matmul(&layer.ahead().maps.ws.tr()).chunk(W::CELL.maps(), -1);
            if positive {
                let u = &parts[0];
                parts[0] = u.relu() + u.clamp_max(0.0).sigmoid(); // u + ½ above 0
            }
            h = cell(&parts, &h);
            outputs.push(h.shallow_clone());
        }
        let slow = layer.project(&Tensor::stack(&outputs, 1), &Context::eval());
        let fast = layer.forward(&x, &Context::eval());
        assert_twins(&fast, &slow, &leaves, 1e-11, &format!("{cfg:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::deviations;
    use crate::min_gru::MinGru;
    use crate::min_lstm::MinLstm;
    use tch::Device;

    #[test]
    fn parameters_start_as_published() {
        let uniform = |inputs: f64| (0.0, 1.0 / (3.0 * inputs).sqrt()); // PyTorch's U(±1/√inputs)
        fn built<W: Which>(vs: &VarStore) {
            let cfg = Config::<W> { expand: 2.0, ..Config::default() };
            let _layer = cfg.layer(&vs.root(), &Dims { d_model: 64, seq_len: 8, causal: true });
        }
        for build in [built::<MinGru>, built::<MinLstm>] {
            let vs = VarStore::new(Device::Cpu);
            build(&vs);
            deviations(&vs, |name| uniform(if name == "to_out.weight" { 128.0 } else { 64.0 }));
        }
    }

    #[test]
    fn what_cannot_be_built_is_named() {
        let keys = |expand: f64| -> Vec<&str> {
            let cfg = Config::<MinGru> { expand, ..Config::default() };
            cfg.check(&Dims { d_model: 12, seq_len: 8, causal: false }).iter().map(|e| e.key).collect()
        };
        assert!(keys(1.0).is_empty());
        for expand in [0.0, 0.3, -1.0, 1e9, f64::NAN] {
            assert_eq!(keys(expand), ["expand"]);
        }
    }
}
