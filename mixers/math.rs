//! Mathematics shared by mixers: FFT convolution, HiPPO matrices, the chunked scan of SSD, scans with decay, recurrent networks, pooling.

pub mod conv;
pub mod decay_scan;
pub mod depthwise;
pub mod diagonal_scan;
pub(crate) mod directions;
pub(crate) mod fla;
pub mod hippo;
pub(crate) mod min_rnn;
pub mod real;
pub(crate) mod rnn;
pub(crate) mod rnn_scan;
pub(crate) mod short_conv;
pub mod ssd;
pub(crate) mod ssd_block;
