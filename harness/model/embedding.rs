//! What makes a position's number a vector, and what tells positions apart.

use mixers::Linear;
use tch::Tensor;

/// What makes a position's number a vector.
#[derive(Debug)]
pub(super) enum Encoder {
    /// A row of `[vocab_size, d_model]`.
    Table(Tensor),
    /// A linear map of real features, each `scale · token + shift`.
    Line { map: Linear, scale: f64, shift: f64 },
}

impl Encoder {
    /// int64 `[rows, length]`, or `[rows, length, width]` of several numbers a position → `[rows, length, d_model]`.
    pub(super) fn forward(&self, tokens: &Tensor) -> Tensor {
        match self {
            Self::Table(table) => Tensor::embedding(table, tokens, -1, false, false),
            Self::Line { map, scale, shift } => {
                let kind = map.ws.kind();
                let numbers = if tokens.dim() == 2 { tokens.unsqueeze(-1) } else { tokens.shallow_clone() };
                (numbers.to_kind(kind) * *scale + *shift).apply(map)
            }
        }
    }
}

/// `[length, d]`: sines in the even columns, cosines in the odd ones.
pub(super) fn sinusoids(length: i64, d: i64) -> Tensor {
    let periods: Vec<f64> = (0..d).map(|c| 10_000f64.powf((c / 2 * 2) as f64 / d as f64)).collect();
    let entry = |t: i64, c: usize| {
        let angle = t as f64 / periods[c];
        (if c.is_multiple_of(2) { angle.sin() } else { angle.cos() }) as f32
    };
    let table: Vec<f32> =
        (0..length).flat_map(|t| (0..d as usize).map(move |c| (t, c))).map(|(t, c)| entry(t, c)).collect();
    Tensor::from_slice(&table).view([length, d])
}
