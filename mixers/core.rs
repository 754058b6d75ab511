//! What every mixer is made of: costs, errors, limits, dense layers and their precision.

pub(crate) mod cost;
pub(crate) mod error;
pub mod limits;
pub(crate) mod precision;
pub mod weights;
