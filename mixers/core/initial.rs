//! Initial values that travel with the width.
//!
//! ```text
//! scaled      σ(fan_in) = σ √(reference fan_in / fan_in)
//! published   σ
//! ```
//! A deviation that a paper states as a number was found at the paper's width. A map of fan_in inputs multiplies the size of what it reads by
//! σ √fan_in, so that the same number makes a narrower map quieter, and a branch of several maps in a row quieter by a power of it.
//! Scaled, a map does at every width what it does at the paper's. Deviations that are functions of fan_in already (PyTorch's,
//! Xavier's) do so by themselves and are left alone; so is what no width enters: steps, states, skips, convolutions.
//!
//! After    LeCun et al. 1998, Efficient BackProp, §4.6 (σ = fan_in^-½); Yang et al. 2022, arXiv:2203.03466, table 3 (hidden weights)
//!
//! As with precision, a layer takes what is asked for when it is built.

use std::cell::Cell;

/// What becomes of published deviations at other widths than their own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum InitialValues {
    /// They travel: a constant deviation is multiplied by √(reference fan-in / fan-in).
    #[default]
    Scaled,
    /// They stay the numbers of paper or reference code.
    Published,
}

thread_local! {
    static DRAWING: Cell<InitialValues> = const { Cell::new(InitialValues::Scaled) };
}

/// Ends [`InitialValues::drawing`].
#[derive(Debug)]
#[must_use = "layers are drawn so as long as this lives"]
pub struct Drawing(InitialValues);

impl Drop for Drawing {
    fn drop(&mut self) {
        DRAWING.set(self.0);
    }
}

impl InitialValues {
    /// Layers that this thread builds while the result lives are drawn so.
    pub fn drawing(self) -> Drawing {
        Drawing(DRAWING.replace(self))
    }

    /// The deviation that was published as `std` for a map of `reference` inputs, of a map of `fan_in` inputs. At `fan_in` =
    /// `reference` it is `std` to the last bit.
    pub fn deviation(self, std: f64, reference: i64, fan_in: i64) -> f64 {
        match self {
            Self::Scaled => std * (reference as f64 / fan_in as f64).sqrt(),
            Self::Published => std,
        }
    }
}

/// [`InitialValues::deviation`] as this thread draws now: what a mixer asks for.
pub fn deviation(std: f64, reference: i64, fan_in: i64) -> f64 {
    DRAWING.get().deviation(std, reference, fan_in)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_travels_with_the_root_of_the_inputs_and_is_itself_at_its_own_width() {
        assert_eq!(deviation(0.02, 768, 768).to_bits(), 0.02f64.to_bits());
        assert_eq!(deviation(0.02, 768, 192), 0.04);
        assert_eq!(deviation(0.02, 768, 3072), 0.01);
        let _drawing = InitialValues::Published.drawing();
        assert_eq!(deviation(0.02, 768, 192), 0.02);
    }

    #[test]
    fn what_is_drawn_how_ends_with_the_guard_even_in_a_panic() {
        let caught = std::panic::catch_unwind(|| {
            let _drawing = InitialValues::Published.drawing();
            panic!("while building");
        });
        assert!(caught.is_err());
        assert_eq!(deviation(0.02, 768, 192), 0.04);
    }
}
