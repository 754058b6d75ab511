//! Mathematics shared by mixers: FFT convolution, HiPPO matrices, the chunked scan of SSD, recurrent networks, pooling.

pub mod conv;
pub(crate) mod delta_rule;
pub mod depthwise;
pub mod hippo;
pub mod real;
pub(crate) mod rnn;
pub(crate) mod rnn_scan;
pub mod ssd;
pub(crate) mod ssd_block;
