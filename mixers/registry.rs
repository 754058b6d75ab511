//! The list of mixers. A new one is a file and a line here; a crate of the user's own adds entries at run time.

use crate::Entry;

/// Every mixer of this crate.
pub fn registry() -> Vec<Entry> {
    vec![
        Entry::of::<crate::attention::Config>(),
        Entry::of::<crate::combiner::Config>(),
        Entry::of::<crate::s4::Config>(),
        Entry::of::<crate::s4::minimal::Config>(),
        Entry::of::<crate::bigs::Config>(),
        Entry::of::<crate::hydra::Config>(),
        Entry::of::<crate::matrix_mixer::Config>(),
        Entry::of::<crate::mamba2::Config>(),
        Entry::of::<crate::linear_attention::Config>(),
        Entry::of::<crate::lstm::Config>(),
        Entry::of::<crate::gru::Config>(),
        Entry::of::<crate::deltanet::Config>(),
        Entry::of::<crate::sliding_window::Config>(),
        Entry::of::<crate::gla::Config>(),
        Entry::of::<crate::retnet::Config>(),
        Entry::of::<crate::hgrn2::Config>(),
        Entry::of::<crate::rwkv6::Config>(),
        Entry::of::<crate::mlstm::Config>(),
        Entry::of::<crate::min_gru::Config>(),
        Entry::of::<crate::min_lstm::Config>(),
        Entry::of::<crate::gated_deltanet::Config>(),
        Entry::of::<crate::kda::Config>(),
        Entry::of::<crate::mamba::Config>(),
        Entry::of::<crate::lru::Config>(),
        Entry::of::<crate::s5::Config>(),
        Entry::of::<crate::rwkv7::Config>(),
    ]
}
