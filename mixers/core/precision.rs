//! The number format that dense products are taken in.
//!
//! ```text
//! f32    y = x Wᵀ + b
//! bf16   y = f32( bf16(x) bf16(W)ᵀ ) + b        gradients come back through the same casts
//! ```
//! After    Micikevicius et al. 2018, arXiv:1710.03740, §3.1 (float32 master weights); Kalamkar et al. 2019, arXiv:1905.12322
//!          (bfloat16 has float32's range, so that no loss scaling is needed)
//! bf16     every [`Linear`] (of mixers, feed-forwards and heads) and every other map from weights to positions; QKᵀ and MV
//!          of `attention`, `sliding_window` and `matrix_mixer`'s attention
//! f32      everything else: parameters, their gradients and the optimizer; embeddings, norms, biases, softmax, residuals,
//!          losses; convolutions and Fourier transforms; the scans and states of S4, BiGS, Hydra, Mamba-2, DeltaNet, linear
//!          attention and the recurrent mixers with decays, with Hydra's D, which is made inside its scan; LSTM and GRU; Combiner's attention, which is made of
//!          many small products
//!
//! A layer takes its precision when it is built and keeps it: a custom backward may run on another of libtorch's threads,
//! where a switch thrown around the forward pass would be off.

use std::cell::{Cell, RefCell};
use tch::{Kind, Tensor, nn};

/// What products are taken in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    /// float32, or whatever the weights have.
    #[default]
    F32,
    /// bfloat16: float32's range, 8 bits of precision.
    Bf16,
}

thread_local! {
    static BUILDING: Cell<Precision> = const { Cell::new(Precision::F32) };
    static MAPS: RefCell<Option<Vec<DenseMap>>> = const { RefCell::new(None) };
}

/// A dense map of a layer, from every channel of its input to every channel of its output.
#[derive(Debug)]
pub struct DenseMap {
    /// Its weight, whatever axes it is kept with.
    pub weight: Tensor,
    /// Its bias.
    pub bias: Option<Tensor>,
    /// Channels of its input and of its output. Several maps in one weight, end to end, count as one of them.
    pub ends: [i64; 2],
}

/// What `build` makes, and every dense map that this thread built while it ran.
pub fn recorded<T>(build: impl FnOnce() -> T) -> (T, Vec<DenseMap>) {
    let outer = MAPS.replace(Some(Vec::new()));
    let built = build();
    (built, MAPS.replace(outer).unwrap_or_default())
}

/// Records a dense map that is no [`Linear`], which records itself.
pub fn dense_map(weight: &Tensor, bias: Option<&Tensor>, ends: [i64; 2]) {
    MAPS.with_borrow_mut(|maps| {
        if let Some(maps) = maps {
            maps.push(DenseMap { weight: weight.shallow_clone(), bias: bias.map(Tensor::shallow_clone), ends });
        }
    });
}

/// Ends [`Precision::building`].
#[derive(Debug)]
#[must_use = "layers are built in this precision as long as this lives"]
pub struct Building(Precision);

impl Drop for Building {
    fn drop(&mut self) {
        BUILDING.set(self.0);
    }
}

impl Precision {
    /// Layers that this thread builds while the result lives take this precision.
    pub fn building(self) -> Building {
        Building(BUILDING.replace(self))
    }

    /// What a layer built here and now takes.
    pub fn of_builder() -> Self {
        BUILDING.get()
    }

    /// `t` as a product reads it.
    pub fn read(self, t: &Tensor) -> Tensor {
        match self {
            Self::F32 => t.shallow_clone(),
            Self::Bf16 => t.to_kind(Kind::BFloat16),
        }
    }

    /// `x wsᵀ + bs` in the kind of `x`; the bias is added after the product came back to it.
    pub fn linear(self, x: &Tensor, ws: &Tensor, bs: Option<&Tensor>) -> Tensor {
        match self {
            Self::F32 => x.linear(ws, bs),
            Self::Bf16 => {
                let y = self.read(x).linear::<Tensor>(&self.read(ws), None).to_kind(x.kind());
                bs.map_or_else(|| y.shallow_clone(), |bs| &y + bs)
            }
        }
    }
}

/// A dense layer, `y = x wsᵀ + bs`.
#[derive(Debug)]
pub struct Linear {
    /// `[d_out, d_in]`.
    pub ws: Tensor,
    /// `[d_out]`.
    pub bs: Option<Tensor>,
    /// What the product is taken in.
    pub precision: Precision,
}

impl Linear {
    /// Parameters `weight` and `bias` under `vs`.
    pub fn new<'a>(
        vs: impl std::borrow::Borrow<nn::Path<'a>>,
        d_in: i64,
        d_out: i64,
        config: nn::LinearConfig,
    ) -> Self {
        let nn::Linear { ws, bs } = nn::linear(vs, d_in, d_out, config);
        dense_map(&ws, bs.as_ref(), [d_in, d_out]);
        Self { ws, bs, precision: Precision::of_builder() }
    }
}

impl nn::Module for Linear {
    fn forward(&self, x: &Tensor) -> Tensor {
        self.precision.linear(x, &self.ws, self.bs.as_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::laws::testing::noise;
    use tch::Device;
    use tch::nn::{Module, VarStore};

    fn layer(precision: Precision) -> (VarStore, Linear) {
        let vs = VarStore::new(Device::Cpu);
        let _building = precision.building();
        let layer = Linear::new(vs.root(), 7, 5, nn::LinearConfig::default());
        (vs, layer)
    }

    #[test]
    fn a_layer_keeps_the_precision_it_was_built_in() {
        let (_a, one) = layer(Precision::Bf16);
        let (_b, other) = layer(Precision::F32);
        assert_eq!([one.precision, other.precision], [Precision::Bf16, Precision::F32]);
        assert_eq!(Precision::of_builder(), Precision::F32);
        let caught = std::panic::catch_unwind(|| {
            let _building = Precision::Bf16.building();
            panic!("while building");
        });
        assert!(caught.is_err() && Precision::of_builder() == Precision::F32);
    }

    #[test]
    fn dense_maps_are_recorded_while_that_is_asked_for() {
        let ((_vs, layer), maps) = recorded(|| layer(Precision::F32));
        let [map] = &maps[..] else { panic!("{maps:?}") };
        assert!(map.weight.data_ptr() == layer.ws.data_ptr() && map.bias.is_some() && map.ends == [7, 5]);
        let (_, outer) = recorded(|| recorded(|| dense_map(&layer.ws, None, [7, 5])).1.len());
        assert!(outer.is_empty(), "an inner recording is its own");
    }

    #[test]
    fn a_product_of_numbers_that_bf16_holds_is_exact_and_others_are_rounded() {
        let (_vs, layer) = layer(Precision::Bf16);
        let x = noise(&[3, 7], 1).to_kind(Kind::Float);
        let y = layer.forward(&x);
        let rounded = |t: &Tensor| t.to_kind(Kind::BFloat16).to_kind(Kind::Float);
        let sum = rounded(&x).matmul(&rounded(&layer.ws).tr());
        let bias = layer.bs.as_ref().expect("a bias");
        // The product is rounded once more on its way back: half of the last of 8 bits.
        assert!((&y - (&sum + bias)).abs().le_tensor(&(sum.abs() / 256.0 + 1e-6)).all().int64_value(&[]) == 1);
        assert!((y - x.linear(&layer.ws, Some(bias))).abs().max().double_value(&[]) > 1e-4, "nothing was rounded");
    }

    #[test]
    fn gradients_are_float32_and_those_of_the_float32_layer_rounded() {
        let x = noise(&[64, 7], 1).to_kind(Kind::Float).set_requires_grad(true);
        let ((vs, low), (mut twin, full)) = (layer(Precision::Bf16), layer(Precision::F32));
        twin.copy(&vs).expect("the same names and shapes");
        let weight = noise(&[64, 5], 2).to_kind(Kind::Float);
        let gradients = |layer: &Linear| {
            let leaves = [&x, &layer.ws, layer.bs.as_ref().expect("a bias")];
            Tensor::run_backward(&[(layer.forward(&x) * &weight).sum(Kind::Float)], &leaves, false, false)
        };
        for (low, full) in gradients(&low).iter().zip(gradients(&full)) {
            assert_eq!(low.kind(), Kind::Float);
            let error = (low - &full).norm().double_value(&[]) / full.norm().double_value(&[]);
            assert!(error < 1e-2, "{error}");
        }
    }
}
