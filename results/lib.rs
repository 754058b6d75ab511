//! Records of runs, and the tables and plots made of them. Never links libtorch: a report can be rebuilt on any machine.

pub(crate) mod figures;

mod export;
mod grid;
mod store;
mod suites;

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

pub use export::ExportError;
pub use figures::FigureKind;
pub use figures::sensitivity::Sensitivity;
pub use store::figure::{Figure, Scale};
pub use store::files::replace;
pub use store::manifest::{
    Ablation, By, Change, Expectation, Manifest, Matching, PlannedRun, SearchRun, SizedModel, Tuned, Wanted,
};
pub use store::metric::{Metric, MetricKind};
pub use store::record::{
    Blocked, Detail, Device, FORMAT, Of, OfBaseline, Outcome, Point, Record, Scores, SeriesAre, Tested, Versions,
};
pub use store::tidy::Keep;
pub use store::{Claim, Contents, Store, StoreError, WorkLock};
pub use table::expectations::{Expected, Verdict};
pub use table::unfinished::Ended;
