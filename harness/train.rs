//! One run: its spec, and everything that trains and evaluates a model by it.

pub(crate) mod analysis;
pub(crate) mod budget;
pub(crate) mod checkpoint;
pub(crate) mod error;
pub(crate) mod evaluate;
pub(crate) mod feed;
pub(crate) mod optimizer;
pub(crate) mod pretrain;
pub(crate) mod schedule;
pub(crate) mod sections;
pub(crate) mod seeds;
pub(crate) mod spec;
pub(crate) mod trainer;
pub(crate) mod vet;
pub(crate) mod weights;
