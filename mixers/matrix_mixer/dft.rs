//! DFT: the real part of the discrete Fourier transform over the sequence. Nothing is learned.
//!
//! ```text
//! M[t,s] = cos(2π t s / L) / √L                  L = seq_len
//! ```
//! Time     O(seq_len · log seq_len · d_inner)
//! Memory   O(seq_len · d_inner)
//! Departs  the reference holds M and multiplies by it; here M V is the real part of an FFT of V, padded with zeros to L

use super::{Inside, MatrixClass, Shape};
use crate::Context;
use crate::math::conv::rfft_flops;
use std::f64::consts::PI;
use tch::{Device, Kind, Tensor};

#[derive(Debug)]
pub(super) struct Dft {
    seq_len: i64,
    d_inner: i64,
}

impl Dft {
    pub(super) fn new(shape: &Shape) -> Self {
        Self { seq_len: shape.seq_len, d_inner: shape.d_inner }
    }

    fn scale(&self) -> f64 {
        1.0 / (self.seq_len as f64).sqrt()
    }
}

/// `cos(2π t s / L)` for t and s below `length`, float64.
pub(super) fn cosines(seq_len: i64, length: i64) -> Tensor {
    let t = Tensor::arange(length, (Kind::Int64, Device::Cpu));
    let turns = (t.unsqueeze(1) * &t).remainder(seq_len).to_kind(Kind::Double) / seq_len as f64;
    (turns * (2.0 * PI)).cos()
}

impl MatrixClass for Dft {
    fn path(&self) -> &'static str {
        "FFT"
    }

    fn apply(&self, inside: &Inside, _: &Context) -> Tensor {
        let (n, length) = (self.seq_len, inside.v.size()[1]);
        assert!(length <= n, "dft: a sequence of length {length}, but a transform of seq_len = {n}");
        let half = inside.v.permute([0, 2, 3, 1]).fft_rfft(n, -1, "backward").real(); // 0 ..= n/2
        let mirrored = half.narrow(3, 1, (n - 1) / 2).flip([3]); // the real part is the same at t and n - t
        (Tensor::cat(&[half, mirrored], 3).narrow(3, 0, length) * self.scale()).permute([0, 3, 1, 2])
    }

    fn matrix(&self, inside: &Inside, _: &Context) -> Tensor {
        let &[_, length, heads, _] = inside.v.size().as_slice() else { unreachable!("v has four axes") };
        let m = cosines(self.seq_len, length).to_device(inside.v.device()) * self.scale();
        m.to_kind(inside.v.kind()).expand([1, heads, length, length], false)
    }

    fn params(&self) -> i64 {
        0
    }

    fn flops(&self, _: i64) -> i64 {
        self.d_inner * rfft_flops(self.seq_len)
    }
}
