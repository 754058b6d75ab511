//! Layers whose heads are one recurrence over states `[d_k, d_v]` each: what lies between the maps of GLA, RetNet, HGRN2, Gated DeltaNet
//! and KDA.
//!
//! ```text
//! x → what the scan reads (projections, short convolutions, decays) → o → norm and gate → h
//! ```
//! A layer says how x is read and how o is finished; here is the rest of [`Causal`].

use crate::math::directions::Causal;
use crate::math::fla::{Convs, by_head, expanded};
use crate::{ConfigError, Cost, NotLinear, ParamRule, Structure, heads};
use std::fmt::Debug;
use tch::{Device, Kind, Tensor};

/// What a recurrence over states `[batch, heads, d_k, d_v]` reads, of a sequence or of one position.
pub(crate) trait Scan {
    /// o of every position, `[batch, length, heads, d_v]`.
    fn outputs(&self) -> Tensor;

    /// o of the one position there is, and the state after it.
    fn advance(&self, state: &Tensor) -> (Tensor, Tensor);

    /// `[batch, length, heads, d_v]`.
    fn values(&self) -> &Tensor;

    /// M of o = M v, `[batch, heads, length, length]`.
    fn matrix(&self) -> Result<Tensor, NotLinear>;
}

/// Sizes of a layer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HeadSizes {
    pub heads: i64,
    /// Of a head's keys.
    pub d_k: i64,
    /// Of a head's values.
    pub d_v: i64,
}

impl HeadSizes {
    /// Of settings that [`HeadSizes::check`] passed: heads of `d_head`, or `d_model` shared out, values wider by `expand_v`.
    pub fn expanded(heads: i64, d_head: Option<i64>, expand_v: f64, d_model: i64) -> Self {
        let d_k = d_head.unwrap_or(d_model / heads);
        Self { heads, d_k, d_v: (expand_v * d_k as f64) as i64 }
    }

    /// What is wrong with them.
    pub fn check(n_heads: i64, d_head: Option<i64>, expand_v: f64, d_model: i64) -> Result<(), ConfigError> {
        heads(n_heads, d_head, d_model)?;
        expanded("expand_v", expand_v, n_heads, d_head.map_or(d_model, |d_head| n_heads * d_head))
    }

    /// Channels of all keys.
    pub fn keys(&self) -> i64 {
        self.heads * self.d_k
    }

    /// Channels of all values.
    pub fn values(&self) -> i64 {
        self.heads * self.d_v
    }
}

/// A layer around a [`Scan`].
pub(crate) trait Heads: Debug + Send {
    /// Which recurrence.
    type Scan: Scan;

    fn sizes(&self) -> HeadSizes;

    /// Those of projections, in front of the scan.
    fn convs(&self) -> &Convs;

    /// Of the parameters.
    fn like(&self) -> (Kind, Device);

    /// What the scan reads of `x`, `[batch, length, d_model]`, whose first position is the `at`-th; `convolve` has the convolution of a
    /// projection by its number.
    fn read(&self, x: &Tensor, at: i64, convolve: impl FnMut(usize, Tensor) -> Tensor) -> Self::Scan;

    /// o `[batch, length, heads, d_v]` → h `[batch, length, heads · d_v]`.
    fn finish(&self, o: &Tensor, x: &Tensor) -> Tensor;

    /// Of one direction, without the last map.
    fn cost(&self, length: i64) -> Cost;

    /// Whether o is a matrix times the values, which [`Scan::matrix`] gives.
    fn linear(&self) -> Result<(), NotLinear> {
        Ok(())
    }

    /// See [`crate::Mixer::param_rules`].
    fn rules(&self) -> Vec<ParamRule> {
        Vec::new()
    }

    /// What the scan reads of a whole sequence.
    fn whole(&self, x: &Tensor) -> Self::Scan {
        self.read(x, 0, |i, t| self.convs().apply(i, t))
    }
}

impl<L: Heads> Causal for L {
    fn features(&self, x: &Tensor) -> Tensor {
        self.finish(&self.whole(x).outputs(), x)
    }

    fn width(&self) -> i64 {
        self.sizes().values()
    }

    fn heads(&self) -> i64 {
        self.sizes().heads
    }

    fn matrix(&self, x: &Tensor) -> Result<Tensor, NotLinear> {
        self.linear()?;
        self.whole(x).matrix()
    }

    fn values(&self, x: &Tensor) -> Result<(Tensor, Tensor), NotLinear> {
        self.linear()?;
        let scan = self.whole(x);
        Ok((by_head(scan.values()), by_head(&scan.outputs())))
    }

    fn structure(&self) -> Structure {
        if self.linear().is_ok() { Structure::Quasiseparable(self.sizes().d_k) } else { Structure::Dense }
    }

    fn start(&self, batch: i64) -> Vec<Tensor> {
        let HeadSizes { heads, d_k, d_v } = self.sizes();
        let state = Tensor::zeros([batch, heads, d_k, d_v], self.like());
        std::iter::once(state).chain(self.convs().start(batch)).collect()
    }

    fn step(&self, x: &Tensor, state: &mut [Tensor], at: i64) -> Tensor {
        let [state, windows @ ..] = state else { unreachable!("a state and the windows") };
        let (o, next) = self.read(x, at, |i, t| self.convs().step(i, t, windows)).advance(state);
        *state = next;
        self.finish(&o, x)
    }

    fn cost(&self, length: i64) -> Cost {
        Heads::cost(self, length)
    }

    fn rules(&self) -> Vec<ParamRule> {
        Heads::rules(self)
    }
}
