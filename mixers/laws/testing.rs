//! What tests share: numbers that look random and are the same everywhere, and a fast form held to its plain one.

use crate::laws::goldens::relative_error;
use tch::Tensor;

/// Numbers in -1 .. 1 that look random and are the same everywhere, whatever else draws from libtorch's generator.
pub fn noise(shape: &[i64], salt: i64) -> Tensor {
    let n: i64 = shape.iter().product();
    let mut state = (salt as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
    let draw = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as f64 / (1u64 << 30) as f64 - 1.0
    };
    Tensor::from_slice(&(0..n).map(draw).collect::<Vec<f64>>()).view(shape)
}

/// A fast form is its plain one, in values and in the gradients of `leaves`, each relative to its largest entry.
///
/// # Panics
/// If it is not; the message begins with `case`.
#[track_caller]
pub fn assert_twins(fast: &Tensor, plain: &Tensor, leaves: &[&Tensor], tolerance: f64, case: &str) {
    let error = relative_error(fast, plain);
    assert!(error < tolerance, "{case}: values are {error:.1e} off");
    let weights = noise(&plain.size(), 77).to_kind(plain.kind());
    let gradients = |y: &Tensor| Tensor::run_backward(&[(y * &weights).sum(y.kind())], leaves, false, false);
    for (i, (fast, plain)) in gradients(fast).iter().zip(gradients(plain)).enumerate() {
        let error = relative_error(fast, &plain);
        assert!(error < tolerance, "{case}: gradient {i} is {error:.1e} off");
    }
}

/// A layer of width 8 over 21 positions, read in one direction, is its plain form in values and in the gradients of its input and
/// parameters. Parameters are noise, whatever they start as.
///
/// # Panics
/// If it is not; the message begins with `case`.
#[cfg(test)]
#[track_caller]
pub(crate) fn assert_layer_twins<L: crate::Mixer>(
    build: impl FnOnce(&tch::nn::Path, &crate::Dims) -> L,
    plain: impl FnOnce(&L, &Tensor) -> Tensor,
    case: &str,
) {
    let mut vs = tch::nn::VarStore::new(tch::Device::Cpu);
    let layer = build(&vs.root(), &crate::Dims { d_model: 8, seq_len: 21, causal: true });
    vs.double();
    let mut leaves = vs.trainable_variables();
    tch::no_grad(|| {
        for (salt, parameter) in (0..).zip(&mut leaves) {
            parameter.copy_(&noise(&parameter.size(), salt));
        }
    });
    leaves.push(noise(&[2, 21, 8], 50).set_requires_grad(true));
    let x = &leaves[leaves.len() - 1];
    let (fast, slow) = (layer.forward(x, &crate::Context::eval()), plain(&layer, x));
    assert_twins(&fast, &slow, &leaves.iter().collect::<Vec<_>>(), 1e-10, case);
}

/// Every parameter has the mean and the standard deviation that `expected` has for its name, as nearly as so many draws can.
///
/// # Panics
/// If one does not; the message names it.
#[cfg(test)]
#[track_caller]
pub(crate) fn deviations(vs: &tch::nn::VarStore, expected: impl Fn(&str) -> (f64, f64)) {
    for (name, parameter) in vs.variables() {
        let (mean, std) = expected(&name);
        let count = parameter.numel() as f64;
        let values = parameter.to_kind(tch::Kind::Double);
        let found = (values.mean(tch::Kind::Double).double_value(&[]), values.std(false).double_value(&[]));
        let near = (found.0 - mean).abs() <= 5.0 * std / count.sqrt() + 1e-6;
        let wide = (found.1 - std).abs() <= std * (5.0 / count.sqrt()) + 1e-6;
        assert!(near && wide, "`{name}` has mean and deviation {found:?}, not {:?}", (mean, std));
    }
}
