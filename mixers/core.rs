//! What every mixer is made of: costs, errors, limits, dense layers and their precision.

pub(crate) mod cost;
pub(crate) mod error;
pub(crate) mod family;
pub mod limits;
pub(crate) mod precision;
pub mod quiet;
pub mod weights;
