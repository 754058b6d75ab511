//! Depthwise convolution centred on each position: `y_t = bias + Σ_k weight_k x_{t + k - width/2}`, zeros outside.

use tch::Tensor;

/// `x` `[batch, length, channels]`, `weight` `[channels, 1, width]`, `bias` `[channels]` → shaped as `x`.
///
/// Channels lie last in memory, which is how libtorch's two-dimensional kernel likes them best: on a CPU it takes a quarter of
/// the time of `conv1d`, which transposes, and of a sum of shifted products. The bias is added outside, since the kernel's
/// own gradient of it costs as much as all its other gradients.
pub fn convolve(x: &Tensor, weight: &Tensor, bias: &Tensor) -> Tensor {
    let (channels, width) = (weight.size()[0], weight.size()[2]);
    let image = x.transpose(1, 2).unsqueeze(2); // [batch, channels, 1, length], channels last in memory
    let y = image.conv2d(&weight.unsqueeze(2), None::<Tensor>, [1, 1], [0, width / 2], [1, 1], channels);
    y.squeeze_dim(2).transpose(1, 2) + bias
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::noise;
    use tch::Kind;

    #[test]
    fn the_convolution_is_a_sum_of_shifted_products_in_values_and_gradients() {
        for (length, width) in [(1, 7), (5, 7), (20, 3), (9, 1)] {
            let leaf = |shape: &[i64], salt| noise(shape, salt).set_requires_grad(true);
            let leaves = [leaf(&[2, length, 10], 1), leaf(&[10, 1, width], 2), leaf(&[10], 3)];
            let [x, weight, bias] = &leaves;
            let padded = x.constant_pad_nd([0, 0, width / 2, width / 2]);
            let shifted = |k: i64| padded.narrow(1, k, length) * weight.select(2, k).squeeze_dim(1);
            let (fast, plain) =
                (convolve(x, weight, bias), (0..width).fold(bias + x.zeros_like(), |y, k| y + shifted(k)));
            let gradients = |y: &Tensor| {
                Tensor::run_backward(&[(y * noise(&y.size(), 4)).sum(Kind::Double)], &leaves, false, false)
            };
            assert!(fast.allclose(&plain, 1e-12, 1e-12, false), "values, {length} by {width}");
            for (fast, plain) in gradients(&fast).iter().zip(gradients(&plain)) {
                assert!(fast.allclose(&plain, 1e-11, 1e-11, false), "a gradient, {length} by {width}");
            }
        }
    }
}
