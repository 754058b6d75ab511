//! Tests over everything that is registered: every mixer, task, setting and shipped config.

pub(crate) mod absurd;
pub(crate) mod competence;
pub(crate) mod coordinates;
pub(crate) mod damaged;
pub(crate) mod described;
pub(crate) mod devices;
pub(crate) mod names;
pub(crate) mod pinned;
pub(crate) mod recipes;
pub(crate) mod samples;
pub(crate) mod shuffled;
