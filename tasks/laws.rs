//! Tests over everything that is registered.

#[cfg(test)]
pub(crate) mod conformance;
#[cfg(test)]
pub(crate) mod damaged;
