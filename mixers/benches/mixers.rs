//! Forward and backward of every mixer with its defaults, by length. Compare ratios within one run, never times across runs.
//!
//! `make bench`

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use mixers::{Context, Dims, registry};
use tch::{Device, Kind, Tensor, nn};

const BATCH: i64 = 8;
const D_MODEL: i64 = 64;

fn forward_and_backward(c: &mut Criterion) {
    for seq_len in [64, 256, 1024] {
        let mut group = c.benchmark_group(format!("length {seq_len}"));
        group.throughput(Throughput::Elements((BATCH * seq_len) as u64)).sample_size(10);
        for entry in registry() {
            let vs = nn::VarStore::new(Device::Cpu);
            let mixer =
                entry.build(&(entry.defaults)(), &vs.root(), &Dims { d_model: D_MODEL, seq_len, causal: false });
            let x = Tensor::randn([BATCH, seq_len, D_MODEL], (Kind::Float, Device::Cpu)).set_requires_grad(true);
            group.bench_function(BenchmarkId::from_parameter(entry.name), |b| {
                b.iter(|| mixer.forward(&x, &Context::eval()).square().sum(Kind::Float).backward());
            });
        }
        group.finish();
    }
}

criterion_group!(benches, forward_and_backward);
criterion_main!(benches);
