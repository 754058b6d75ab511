//! How long a trainer would wait for its data.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;
use std::hint::black_box;
use tasks::pathfinder::Generator;
use tasks::{DataDir, Order, Split, Task, registry};

fn open(name: &str, changes: serde_json::Value) -> Box<dyn Task> {
    let entry = registry().into_iter().find(|entry| entry.name == name).expect("the name is registered");
    let mut settings = (entry.defaults)();
    settings.as_object_mut().expect("settings are an object").extend(changes.as_object().expect("changes too").clone());
    entry.open(&settings, &DataDir("data".into())).expect("generated tasks need no files")
}

/// One training batch of 64 examples.
fn batches(c: &mut Criterion) {
    let order = Order { seed: 0, batch_size: 64 };
    let mut group = c.benchmark_group("batch of 64");
    for (seq_len, kv_pairs) in [(64, 4), (256, 16), (512, 64)] {
        let task = open("mqar", json!({ "seq_len": seq_len, "kv_pairs": kv_pairs }));
        group.throughput(Throughput::Elements(64 * seq_len));
        let mut index = 0;
        group.bench_function(format!("mqar length {seq_len} pairs {kv_pairs}"), |b| {
            b.iter(|| {
                index += 1;
                black_box(task.batch(Split::Train, index, &order).expect("it is generated"))
            })
        });
    }
    let task = open("retrieval", json!({ "source": "synthetic" }));
    group.throughput(Throughput::Elements(2 * 64 * 1000));
    let mut index = 0;
    group.bench_function("synthetic retrieval length 1000", |b| {
        b.iter(|| {
            index += 1;
            black_box(task.batch(Split::Train, index, &order).expect("it is generated"))
        })
    });
    group.finish();
}

/// Opening ListOps: 64 expressions of the official lengths, with all that are thrown away.
fn expressions(c: &mut Criterion) {
    let mut seed = 0;
    let mut group = c.benchmark_group("listops");
    group.throughput(Throughput::Elements(66)).sample_size(20);
    group.bench_function("66 expressions", |b| {
        b.iter_batched(
            || {
                seed += 1;
                json!({ "train_examples": 64_u64, "validation_examples": 1, "test_examples": 1, "data_seed": seed })
            },
            |changes| black_box(open("listops", changes)),
            BatchSize::PerIteration,
        )
    });
    group.finish();
}

/// One Pathfinder image of each size at the hard level, with all pairs of contours that are given up on the way.
fn images(c: &mut Criterion) {
    let mut group = c.benchmark_group("pathfinder");
    group.throughput(Throughput::Elements(1));
    for resolution in [32, 64, 128, 256] {
        let generator = Generator::new(resolution, 14, 0);
        let mut index = 0;
        group.bench_function(format!("image of {resolution} pixels"), |b| {
            b.iter(|| {
                index += 1;
                black_box(generator.image(Split::Train, index))
            })
        });
    }
    group.finish();
}

criterion_group!(benches, batches, expressions, images);
criterion_main!(benches);
