//! The list of tasks. A new one is a file and a line here.

use crate::Entry;

/// Every task of this crate.
pub fn registry() -> Vec<Entry> {
    vec![
        Entry::of::<crate::mqar::Config>(),
        Entry::of::<crate::associative_recall::Config>(),
        Entry::of::<crate::induction_heads::Config>(),
        Entry::of::<crate::selective_copying::Config>(),
        Entry::of::<crate::passkey::Config>(),
        Entry::of::<crate::filler::Config>(),
        Entry::of::<crate::listops::Config>(),
        Entry::of::<crate::text::Config>(),
        Entry::of::<crate::retrieval::Config>(),
        Entry::of::<crate::image::Config>(),
        Entry::of::<crate::pathfinder::Config>(),
        Entry::of::<crate::depth::Config>(),
        Entry::of::<crate::state_tracking::Config>(),
        Entry::of::<crate::mad::Config>(),
        Entry::of::<crate::algorithmic::Config>(),
        Entry::of::<crate::sparse_regression::Config>(),
        Entry::of::<crate::icll::Config>(),
        Entry::of::<crate::glue::Config>(),
        Entry::of::<crate::mlm::Config>(),
        Entry::of::<crate::clm::Config>(),
    ]
}
