//! What every task is made of: batches, metrics, bounds, limits and random streams.

pub(crate) mod batch;
pub mod bounds;
pub mod drawn;
pub(crate) mod error;
pub(crate) mod family;
pub(crate) mod goodness;
pub mod limits;
pub mod metric;
pub mod metrics;
pub mod rng;
