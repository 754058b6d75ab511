//! What every mixer is held to: laws over the registry, and dumps of reference code.

#[cfg(test)]
pub(crate) mod conformance;
#[cfg(test)]
pub(crate) mod damaged;
pub mod goldens;
