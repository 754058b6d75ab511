//! Files: downloads, archives, the official formats, and the prepared form of every data set.

pub(crate) mod characters;
pub mod fetch;
pub mod formats;
pub(crate) mod members;
pub(crate) mod newfile;
pub(crate) mod packed;
pub mod prepared;
pub(crate) mod shrink;
pub(crate) mod subset;
pub(crate) mod zip;

/// Where the examples of a task come from that can be drawn and read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Drawn here.
    Generate,
    /// The official files.
    Files,
}
