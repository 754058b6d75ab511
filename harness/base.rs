//! What every part of the command line stands on: messages, output, signals, and what the machine grants.

pub(crate) mod bounds;
pub(crate) mod child;
pub(crate) mod choices;
pub(crate) mod cuda;
pub(crate) mod diagnostics;
pub(crate) mod events;
pub(crate) mod exit;
pub(crate) mod fields;
pub(crate) mod hashes;
pub(crate) mod limits;
pub(crate) mod names;
#[macro_use]
pub(crate) mod output;
pub(crate) mod process;
pub(crate) mod signals;
pub(crate) mod template;
pub(crate) mod text;
