//! What one sequence costs, from the papers' formulas.

/// Cost of one mixer on one sequence (batch of one).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Cost {
    /// Trainable scalars (a complex number counts as two). A law counts them for real.
    pub params: i64,
    /// Bytes of float32 state needed to decode the next token after `length` tokens; 0 where there is no recurrent form.
    pub state_bytes: i64,
    /// Floating-point operations of a forward pass; a multiply-add counts as two.
    pub flops: i64,
}

/// FLOPs of a dense map from `d_in` to `d_out` at each of `length` positions.
pub const fn linear_flops(length: i64, d_in: i64, d_out: i64) -> i64 {
    2 * length * d_in * d_out
}

/// Floating-point operations in the matrix products, convolutions and Fourier transforms of what `f` runs, by the shapes that
/// libtorch was given, and what native kernels say of themselves. Elementwise work is not counted.
pub(crate) fn counted_flops<T>(f: impl FnOnce() -> T) -> f64 {
    let product = |shape: &[i64]| shape.iter().product::<i64>() as f64;
    let last = |shape: &[i64]| shape.last().copied().unwrap_or(1) as f64;
    // A complex transform of n points takes 5 n log₂ n, a real one half of that.
    let transform = |points: f64, n: f64, each: f64| each * points * n.max(2.0).log2();
    let mut total = 0.0;
    let seen = |name: &str, shapes: &[&[i64]]| {
        total += match (name, shapes) {
            ("aten::mm" | "aten::bmm" | "aten::mv" | "aten::dot", [a, b, ..]) => {
                2.0 * product(a) * if b.len() > 1 { last(b) } else { 1.0 }
            }
            ("aten::addmm" | "aten::baddbmm", [_, a, b, ..]) => 2.0 * product(a) * last(b),
            ("aten::convolution", [x, weight, ..]) => 2.0 * product(x) / x[1] as f64 * product(weight),
            ("aten::_scaled_dot_product_flash_attention_for_cpu", [q, k, ..]) => 4.0 * product(q) * k[2] as f64,
            // One gated network over all positions, `[length, batch, …]`, in one operation.
            ("aten::mkldnn_rnn_layer", [x, w_ih, w_hh, ..]) => 2.0 * product(&x[..2]) * (product(w_ih) + product(w_hh)),
            // Half of the square.
            ("aten::linalg_solve_triangular", [a, right, ..]) => product(right) * last(a),
            ("aten::_fft_r2c", [x, ..]) => transform(product(x), last(x), 2.5),
            ("aten::_fft_c2r", [x, ..]) => {
                let n = 2.0 * (last(x) - 1.0);
                transform(product(x) / last(x) * n, n, 2.5)
            }
            ("aten::_fft_c2c", [x, ..]) => transform(product(x), last(x), 5.0),
            _ => 0.0,
        };
    };
    // Only this thread is watched: work handed to others would be missed.
    let threads = tch::get_num_threads();
    tch::set_num_threads(1);
    crate::native::take_worked();
    crate::native::watch(seen, f);
    tch::set_num_threads(threads);
    total + crate::native::take_worked()
}
