//! Mathematics shared by mixers: FFT convolution, HiPPO matrices, the chunked scan of SSD, scans with decay, the delta rule, selective scans,
//! recurrent networks, pooling.

pub(crate) mod complex_ssm;
pub mod conv;
pub mod decay_scan;
pub mod delta_scan;
pub mod depthwise;
pub mod diagonal_scan;
pub(crate) mod directions;
pub(crate) mod fla;
pub(crate) mod heads;
pub mod hippo;
pub(crate) mod min_rnn;
pub mod real;
pub(crate) mod rnn;
pub(crate) mod rnn_scan;
pub mod selective_scan;
pub(crate) mod short_conv;
pub mod ssd;
pub(crate) mod ssd_block;
