//! Mathematics shared by mixers: FFT convolution, HiPPO matrices, the chunked scan of SSD, pooling.

pub mod conv;
pub mod depthwise;
pub(crate) mod gated;
pub mod hippo;
pub mod real;
pub mod ssd;
