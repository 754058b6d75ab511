//! What every mixer is held to: laws over settings and lengths, and dumps of reference code.
//!
//! ```no_run
//! // In a test of one's own crate: every law, on one's own mixer.
//! let entry = mixers::Entry::of::<mixers::attention::Config>();
//! mixers::laws::hold(&[entry]);
//! ```

pub mod conformance;
#[cfg(test)]
pub(crate) mod damaged;
#[cfg(test)]
mod fixtures;
pub mod goldens;
pub mod testing;
pub mod verify;

pub use conformance::hold;
pub use verify::verify;
