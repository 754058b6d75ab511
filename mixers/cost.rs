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
