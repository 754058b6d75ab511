//! Records of runs, and the tables and plots made of them. Never links libtorch: a report can be rebuilt on any machine.

mod averages;
mod charts;
mod claim;
mod correlation;
mod figure;
mod files;
mod findings;
mod frame;
mod glue;
mod groups;
mod language;
mod manifest;
mod record;
mod render;
mod signs;
mod store;
mod tidy;

pub mod bench;
pub mod plot;
pub mod published;
pub mod report;
pub mod statistics;
pub mod table;
pub mod text;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod samples;

pub use averages::{Average, TaskMean};
pub use figure::{Cells, Details, Figure, Lines, Profile, Ranking, Scale, Shape};
pub use files::replace;
pub use glue::{Glue, GlueAverage, GlueCell, GlueLine};
pub use groups::{Group, GroupMean};
pub use language::Language;
pub use manifest::{Manifest, PlannedRun};
pub use record::{Blocked, Detail, Device, FORMAT, Outcome, Point, Record, Scores, Tested, Versions};
pub use store::{Claim, Contents, Store, StoreError, WorkLock};
pub use tidy::Keep;
