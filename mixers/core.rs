//! What every mixer is made of: costs, errors, limits, dense layers, their precision and initial values.

pub(crate) mod cost;
pub(crate) mod error;
pub(crate) mod family;
pub(crate) mod initial;
pub mod limits;
pub(crate) mod precision;
pub mod quiet;
pub mod weights;
