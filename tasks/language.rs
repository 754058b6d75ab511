//! What tasks about text share: corpora, tokenizers, masks and minimal pairs.

pub mod corpus;
pub mod masking;
pub mod minimal_pairs;
pub(crate) mod shared;
pub mod tokenizer;
