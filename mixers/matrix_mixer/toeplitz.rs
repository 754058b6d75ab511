//! Toeplitz: M depends on the lag alone, a convolution as long as the sequence.
//!
//! ```text
//! M[t,s] = c[t-s] / (2 √L)        c[1-L .. L-1], L = seq_len; one c per head, learned or read from the sequence
//! read:  f | r = SiLU(conv),      c[l] = f_l for l ≥ 0,   c[-l] = r_l for l > 0
//! ```
//! Time     O(length · log length · d_inner)
//! Memory   O(length · d_inner)
//! Departs  `form: reference` is one lag off, as the reference's code: M[t,s] = c[t-s+1], and lag L-1 wraps around to c[1-L].
//!          A position thus weighs itself by f_1 and the next one by f_0. `form: paper` is the formula above. A sequence
//!          shorter than L has f and r of zero past its end.

use super::{Form, Inside, MatrixClass, Reads, Shape, xavier_uniform};
use crate::math::conv::{fft_conv_bidirectional, fft_conv_flops, rfft_flops};
use crate::{Context, Structure};
use tch::{Kind, Tensor, nn};

#[derive(Debug)]
pub(super) struct Toeplitz {
    /// `[heads, 2 seq_len - 1]`, lag 1 - seq_len first; `None` where read from the sequence.
    learned: Option<Tensor>,
    form: Form,
    scale: f64,
    seq_len: i64,
    heads: i64,
    d_inner: i64,
}

impl Toeplitz {
    pub(super) fn new(vs: &nn::Path, shape: &Shape) -> Self {
        let Shape { cfg, heads, seq_len, d_inner, .. } = *shape;
        let sizes = [heads, 2 * seq_len - 1];
        let learned = (!cfg.data_dependent).then(|| vs.var("conv_params", &sizes, xavier_uniform(&sizes)));
        Self { learned, form: cfg.form, scale: 0.5 / (seq_len as f64).sqrt(), seq_len, heads, d_inner }
    }

    /// c with lag 0 in the middle, `[batch or 1, heads, 2 n - 1]`, n ≥ length.
    fn lags(&self, inside: &Inside) -> Tensor {
        let length = inside.v.size()[1];
        let c = match &self.learned {
            Some(c) => {
                assert!(length <= self.seq_len, "toeplitz: length {length}, but lags for seq_len = {}", self.seq_len);
                c.unsqueeze(0)
            }
            None => {
                let read = inside.convolved.as_ref().expect("f and r are read").silu().transpose(1, 2);
                let [f, r] = [0, self.heads].map(|from| read.narrow(1, from, self.heads));
                let missing = (self.seq_len - length).max(0);
                let past = r.narrow(2, 1, length - 1).constant_pad_nd([0, missing]).flip([2]);
                Tensor::cat(&[past, f.constant_pad_nd([0, missing])], 2)
            }
        };
        match self.form {
            Form::Paper => c,
            Form::Reference => c.roll([-1], [2]),
        }
    }
}

impl MatrixClass for Toeplitz {
    fn reads(&self) -> Reads {
        let convolved = if self.learned.is_some() { 0 } else { 2 * self.heads };
        Reads { convolved, straight: 0 }
    }

    fn path(&self) -> &'static str {
        "FFT"
    }

    fn apply(&self, inside: &Inside, _: &Context) -> Tensor {
        let length = inside.v.size()[1];
        let c = self.lags(inside).unsqueeze(2) * self.scale; // one kernel for all channels of a head
        let zero = c.size()[3] / 2;
        let from_past = c.narrow(3, zero, length);
        let from_future = c.narrow(3, zero - (length - 1), length - 1).flip([3]); // lag -1 first
        let v = inside.v.permute([0, 2, 3, 1]);
        fft_conv_bidirectional(&v, &from_past, &from_future).permute([0, 3, 1, 2])
    }

    fn matrix(&self, inside: &Inside, _: &Context) -> Tensor {
        let length = inside.v.size()[1];
        let c = self.lags(inside);
        let t = Tensor::arange(length, (Kind::Int64, c.device()));
        let lag = t.unsqueeze(1) - t + c.size()[2] / 2;
        c.index_select(2, &lag.flatten(0, 1)).unflatten(2, [length, length]) * self.scale
    }

    fn structure(&self) -> Structure {
        Structure::Toeplitz
    }

    fn params(&self) -> i64 {
        self.learned.as_ref().map_or(0, |c| c.numel() as i64)
    }

    fn flops(&self, length: i64) -> i64 {
        self.d_inner * fft_conv_flops(length, length) + self.heads * rfft_flops(2 * length)
    }
}
