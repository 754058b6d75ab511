//! What the mixers spend their time in, forward and backward, by length. Compare ratios within one run, never times across runs.
//!
//! `make bench`

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mixers::math::conv::{exponential_kernel, fft_conv};
use mixers::math::hippo::nplr_legs;
use mixers::math::ssd::{Stream, quasiseparable, scan};
use mixers::{Context, Dims, registry};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor, nn};

const BATCH: i64 = 2;
const LENGTHS: [i64; 2] = [256, 1024];
const REAL: (Kind, Device) = (Kind::Float, Device::Cpu);

/// One kernel, with its inputs in hand.
type Kernel = Box<dyn Fn() -> Tensor>;

fn leaf(shape: &[i64]) -> Tensor {
    Tensor::randn(shape, REAL).set_requires_grad(true)
}

/// softmax(Q Kᵀ / √d) V as libtorch fuses it: 4 heads of 64.
fn attention(length: i64) -> Kernel {
    let [q, k, v] = [(); 3].map(|()| leaf(&[BATCH, 4, length, 64]));
    Box::new(move || Tensor::scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, false, None, false))
}

/// Steps, B and C of one direction: 8 heads, 1 group, 64 states.
fn stream(length: i64) -> Stream {
    let maps = || leaf(&[BATCH, length, 1, 64]);
    let dt = (Tensor::rand([BATCH, length, 8], REAL) * 0.1 + 1e-3).set_requires_grad(true);
    Stream { dt, b: maps(), c: maps() }
}

fn one_way(length: i64) -> Kernel {
    let (x, a, stream) = (leaf(&[BATCH, length, 8, 64]), -Tensor::rand([8], REAL) - 1.0, stream(length));
    Box::new(move || scan(&x, &a, &stream, 64, None))
}

fn both_ways(length: i64) -> Kernel {
    let (x, a) = (leaf(&[BATCH, length, 8, 64]), -Tensor::rand([8], REAL) - 1.0);
    let [forward, backward] = [stream(length), stream(length)];
    Box::new(move || quasiseparable(&x, &a, [&forward, &backward], 64, None))
}

fn convolution(length: i64) -> Kernel {
    let (u, k) = (leaf(&[BATCH, 256, length]), leaf(&[256, length]));
    Box::new(move || fft_conv(&u, &k))
}

/// 256 kernels of 32 modes.
fn exponentials(length: i64) -> Kernel {
    let complex = |re: Tensor| Tensor::complex(&re, &Tensor::randn([256, 32], REAL));
    let lambda = complex(-Tensor::rand([256, 32], REAL) - 0.5) / length as f64;
    let w = complex(Tensor::randn([256, 32], REAL)).unsqueeze(-2);
    let (w, lambda) = (w.set_requires_grad(true), lambda.set_requires_grad(true));
    Box::new(move || exponential_kernel(&w, &lambda, length))
}

/// S4's layer on one row of 128 channels: most of it is its kernel.
fn s4(length: i64, settings: &Value) -> Kernel {
    let entry = registry().into_iter().find(|entry| entry.name == "s4").expect("s4 is registered");
    let dims = Dims { d_model: 128, seq_len: length, causal: true };
    assert!(entry.check(settings, &dims).is_empty());
    let vs = nn::VarStore::new(Device::Cpu);
    let (layer, x) = (entry.build(settings, &vs.root(), &dims), leaf(&[1, length, 128]));
    Box::new(move || layer.forward(&x, &Context::eval()))
}

fn kernels(c: &mut Criterion) {
    for length in LENGTHS {
        let mut group = c.benchmark_group(format!("kernels at length {length}"));
        group.throughput(Throughput::Elements(length as u64)).sample_size(10);
        let all = [
            ("attention", attention(length)),
            ("ssd scan", one_way(length)),
            ("ssd quasiseparable", both_ways(length)),
            ("fft_conv", convolution(length)),
            ("exponential_kernel", exponentials(length)),
            ("s4 dplr", s4(length, &json!({ "d_state": 64 }))),
            ("s4 diag", s4(length, &json!({ "mode": "diag", "init": "lin", "d_state": 64 }))),
        ];
        for (name, kernel) in all {
            group.bench_function(BenchmarkId::new("forward", name), |b| b.iter(|| tch::no_grad(&kernel)));
            group.bench_function(BenchmarkId::new("forward+backward", name), |b| {
                b.iter(|| kernel().square().sum(Kind::Float).backward());
            });
        }
        group.finish();
    }
}

/// Done once a layer, when it is built.
fn initial_values(c: &mut Criterion) {
    let mut group = c.benchmark_group("hippo");
    group.sample_size(10);
    for n in [64, 256] {
        group.bench_function(BenchmarkId::new("nplr_legs", n), |b| b.iter(|| nplr_legs(n)));
    }
    group.finish();
}

criterion_group!(benches, kernels, initial_values);
criterion_main!(benches);
