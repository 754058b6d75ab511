//! The fast path and the plain path against the lists of regions, one row of M at a time.

use super::*;
use crate::laws::testing::noise;
use tch::{Device, Kind};

const F64: (Kind, Device) = (Kind::Double, Device::Cpu);
const HEADS: i64 = 2;
const D_HEAD: i64 = 3;

/// One core and its operands of random numbers, as the layer would make them.
struct Case {
    core: Core,
    operands: Operands,
    label: String,
}

impl Case {
    fn new(settings: Value, length: i64, causal: bool) -> Option<Self> {
        let cfg = Config { n_heads: HEADS, ..serde_json::from_value(settings.clone()).expect("settings") };
        let dims = Dims { d_model: HEADS * D_HEAD, seq_len: length, causal };
        if !cfg.check(&dims).is_empty() {
            return None;
        }
        let mut vs = VarStore::new(Device::Cpu);
        let layer = Combiner::new(&vs.root(), &dims, &cfg);
        vs.double();
        let parameters = vs.trainable_variables();
        tch::no_grad(|| {
            for (mut p, salt) in parameters.into_iter().zip(50..) {
                let _ = p.g_add_(&noise(&p.size(), salt));
            }
        });
        let leaf = |shape: &[i64], salt| (noise(shape, salt) * 2.0).set_requires_grad(true);
        let operands = Operands {
            qkv: [1, 2, 3].map(|salt| leaf(&[2, length, HEADS, cfg.d_head.unwrap_or(D_HEAD)], salt)),
            x: layer.core.reads_input().then(|| leaf(&[2, length, HEADS * D_HEAD], 4)),
            read: None,
            learned: layer.learned.iter().map(Tensor::shallow_clone).collect(),
            lengths: None,
        };
        Some(Self { core: layer.core, operands, label: format!("{settings}, length {length}, causal {causal}") })
    }

    fn leaves(&self) -> Vec<Tensor> {
        let o = &self.operands;
        o.qkv.iter().chain(&o.x).chain(&o.learned).map(Tensor::shallow_clone).collect()
    }

    fn gradients(&self, y: &Tensor) -> Vec<Tensor> {
        let leaves = self.leaves();
        // A term of 0 for leaves that a short sequence never reads.
        let all: Tensor = leaves.iter().map(|t| t.sum(Kind::Double) * 0.0).sum();
        Tensor::run_backward(&[(y * noise(&y.size(), 9)).sum(Kind::Double) + all], &leaves, true, false)
    }

    #[track_caller]
    fn assert_same(&self, got: &Tensor, want: &Tensor, what: &str) {
        assert!(got.allclose(want, 1e-9, 1e-11, false), "{what}: {}", self.label);
        for (got, want) in self.gradients(got).iter().zip(self.gradients(want)) {
            assert!(got.allclose(&want, 1e-8, 1e-10, false), "gradients, {what}: {}", self.label);
        }
    }

    /// The matrix that the plain path applies, `[batch, heads, length, length]`.
    fn matrix(&self) -> Tensor {
        let (o, length) = (&self.operands, self.operands.length());
        let eye = Tensor::eye(length, F64).view([1, length, 1, length]).expand([2, length, HEADS, length], false);
        let copy = |t: &Tensor| t.shallow_clone();
        let operands = Operands {
            qkv: o.qkv.each_ref().map(copy),
            x: o.x.as_ref().map(copy),
            read: Some(eye),
            learned: o.learned.iter().map(copy).collect(),
            lengths: None,
        };
        self.core.attend(&operands, false).transpose(1, 2)
    }

    /// M from the lists of regions.
    fn dense(&self) -> Tensor {
        let of = |b: i64| (0..HEADS).map(|h| self.dense_head(b, h)).collect::<Vec<_>>();
        Tensor::stack(&[0, 1].map(|b| Tensor::stack(&of(b), 0)), 0)
    }

    fn dense_head(&self, b: i64, h: i64) -> Tensor {
        let length = self.operands.length();
        let pattern = self.core.pattern;
        let row = |i: i64| match pattern {
            Pattern::MixtureAveraged => {
                let half = |p| self.dense_row(p, b, h, i);
                (half(Pattern::Vertical) + half(Pattern::Horizontal)) / 2.0
            }
            _ => self.dense_row(pattern, b, h, i),
        };
        Tensor::stack(&(0..length).map(row).collect::<Vec<_>>(), 0)
    }

    /// Row i of M: direct tokens and regions under one softmax.
    fn dense_row(&self, pattern: Pattern, b: i64, h: i64, i: i64) -> Tensor {
        let o = &self.operands;
        let [q, k, _] = o.qkv.each_ref().map(|t| t.get(b).select(1, h));
        let q = &q / (q.size()[1] as f64).sqrt();
        let length = o.length();
        let (direct, regions) = lists(&self.core, pattern, i, length);
        let mut keys: Vec<Tensor> = direct.iter().map(|&j| k.get(j)).collect();
        // What each direct token and each region gives to the positions, `[length]`.
        let one = |j: i64| Tensor::eye(length, F64).get(j);
        let mut spreads: Vec<Tensor> = direct.iter().map(|&j| one(j)).collect();
        for region in &regions {
            let (query, key) = match region.stand_in {
                Some(at) => (q.get(at), self.row_key(b, h, at, &region.set)),
                None if region.set.is_empty() => (q.get(0).zeros_like(), q.get(0).zeros_like()),
                None => (self.pooled(&q, &region.set, 0), self.pooled(&k, &region.set, 1)),
            };
            let set = if region.set.is_empty() { &region.line } else { &region.set };
            let local = rows(&k, set).mv(&query).softmax(0, Kind::Double);
            let spread = (0..).zip(set).map(|(n, &j)| one(j) * local.get(n)).reduce(|a, b| a + b);
            spreads.push(spread.expect("a region that is read holds something"));
            keys.push(key);
        }
        let joint = Tensor::stack(&keys, 0).mv(&q.get(i)).softmax(0, Kind::Double);
        (0..).zip(&spreads).map(|(n, spread)| spread * joint.get(n)).sum()
    }

    fn pooled(&self, t: &Tensor, set: &[i64], which: usize) -> Tensor {
        let t = rows(t, set);
        let t = match self.core.map {
            Map::Identity => t,
            Map::Relu => t.relu(),
            Map::Deepset => t.matmul(&self.operands.learned[which]).relu(),
        };
        match self.core.pool {
            Pool::Max => t.amax([0], false),
            Pool::Mean => t.mean_dim([0].as_slice(), false, t.kind()),
            Pool::Sum => t.sum_dim_intlist([0].as_slice(), false, t.kind()),
        }
    }

    /// The rowmajor key of the row `set` at its token `at`.
    fn row_key(&self, b: i64, h: i64, at: i64, set: &[i64]) -> Tensor {
        let o = &self.operands;
        // Σ_j p_j t_j of one head.
        let weighted = |which: usize, h: i64| {
            let [q, k, t] = [0, 1, which].map(|i: usize| o.qkv[i].get(b).select(1, h));
            let p = rows(&k, set).mv(&(q.get(at) / (q.size()[1] as f64).sqrt())).softmax(0, Kind::Double);
            p.unsqueeze(0).matmul(&rows(&t, set)).squeeze_dim(0)
        };
        let which = match self.core.row_summary {
            RowSummary::None => return o.qkv[1].get(b).get(at).get(h),
            RowSummary::Wsum => return weighted(1, h),
            RowSummary::Proj => 2,
            RowSummary::WsumProj => 1,
        };
        let [w1, gamma, beta, w2] = [0, 1, 2, 3].map(|i: usize| &o.learned[i]);
        let mut block = o.x.as_ref().expect("an input").get(b).get(at).copy();
        for head in 0..HEADS {
            block += w1.get(head).tr().mv(&weighted(which, head));
        }
        if let Some(bias) = o.learned.get(4) {
            block += bias;
        }
        let centred = &block - block.mean(Kind::Double);
        let normed = &centred / (centred.square().mean(Kind::Double) + self.core.eps).sqrt() * gamma + beta;
        let key = w2.select(1, h).tr().mv(&normed);
        o.learned.get(5).map_or(key.shallow_clone(), |bias| &key + bias.get(h))
    }
}

fn rows(t: &Tensor, set: &[i64]) -> Tensor {
    t.index_select(0, &Tensor::from_slice(set))
}

/// Tokens read through one summary.
#[derive(Default)]
struct Region {
    set: Vec<i64>,
    /// What is read evenly where `set` is empty.
    line: Vec<i64>,
    /// The token whose query stands for the region (rowmajor).
    stand_in: Option<i64>,
}

fn plain_region(set: Vec<i64>) -> Region {
    Region { set, ..Region::default() }
}

/// What token i reads directly, and its regions.
fn lists(core: &Core, pattern: Pattern, i: i64, length: i64) -> (Vec<i64>, Vec<Region>) {
    let (w, causal) = (core.segment, core.causal);
    let (r, c, n) = (i / w, i % w, (length + w - 1) / w);
    let row = |t: i64| (t * w..(t * w + w).min(length)).collect::<Vec<_>>();
    let column = |t: i64| (t..length).step_by(w as usize).collect::<Vec<_>>();
    let other_rows = |t: &i64| if causal { *t < r } else { core.own_segment || *t != r };
    let own_row: Vec<i64> = row(r).into_iter().filter(|&j| !causal || j <= i).collect();
    match pattern {
        Pattern::Fixed => (own_row, (0..n).filter(other_rows).map(|t| plain_region(row(t))).collect()),
        Pattern::Rowmajor => {
            let summary = |t: i64| Region { stand_in: Some((t * w + c).min(length - 1)), ..plain_region(row(t)) };
            (own_row, (0..n).filter(other_rows).map(summary).collect())
        }
        Pattern::Logsparse => {
            // From the bits of the position, highest first: where the last block ended, the next begins.
            let blocks = |i: i64| {
                let mut end = 0;
                let levels = (0..63).rev().filter(|l| (i >> l) & 1 == 1).collect::<Vec<i64>>();
                levels.into_iter().map(move |l| {
                    end += 1 << l;
                    end - (1 << l)..end
                })
            };
            let mut regions: Vec<Region> = blocks(i).map(|set| plain_region(set.collect())).collect();
            if !causal {
                regions.extend(blocks(length - 1 - i).map(|set| plain_region(set.map(|j| length - 1 - j).collect())));
            }
            (vec![i], regions)
        }
        _ => {
            let mut direct = own_row;
            direct.extend(column(c).into_iter().filter(|&j| !causal || j < r * w));
            let mut regions = Vec::new();
            let part = |line: Vec<i64>, keep: &dyn Fn(i64) -> bool| Region {
                set: line.iter().copied().filter(|&j| keep(j)).collect(),
                line,
                stand_in: None,
            };
            for t in 0..w.min(length) {
                if causal && t != c && r > 0 && pattern != Pattern::Horizontal {
                    regions.push(part(column(t), &|j| j < r * w));
                }
                if !causal {
                    regions.push(part(column(t), &|j| j / w < r));
                    regions.push(part(column(t), &|j| j / w > r));
                }
            }
            for t in (0..n).filter(|t| !causal || *t < r) {
                if pattern == Pattern::Horizontal {
                    regions.push(part(row(t), &|j| j % w != c));
                }
                if pattern == Pattern::MixtureJoint {
                    regions.push(part(row(t), &|j| j % w < c));
                    regions.push(part(row(t), &|j| j % w > c));
                }
            }
            if causal {
                regions.retain(|region| !region.set.is_empty());
            }
            (direct, regions)
        }
    }
}

/// Every variant the laws run on, at lengths around whole rows, in both directions.
fn cases() -> Vec<Case> {
    let mut cases = Vec::new();
    for settings in [vec![json!({})], Config::variants()].concat() {
        for (length, segment) in [(1, 3), (9, 3), (11, 4), (5, 8), (6, 1)] {
            let mut settings = settings.clone();
            settings["segment"] = json!(segment);
            cases.extend([true, false].into_iter().filter_map(|causal| Case::new(settings.clone(), length, causal)));
        }
    }
    cases
}

#[test]
fn the_plain_path_is_the_matrix_of_the_region_lists_in_values_and_gradients() {
    for case in cases() {
        let m = case.dense();
        let full = case.matrix();
        assert!(full.allclose(&m, 1e-10, 1e-12, false), "matrix: {}", case.label);
        let v = case.operands.qkv[2].transpose(1, 2);
        let y = case.core.attend(&case.operands, false);
        case.assert_same(&y, &m.matmul(&v).transpose(1, 2), "M V");
    }
}

#[test]
fn the_fast_path_is_the_plain_path_in_values_and_gradients() {
    for case in cases() {
        let plain = case.core.attend(&case.operands, false);
        case.assert_same(&case.core.fast(&case.operands, false), &plain, "fast");
        case.assert_same(&pieces::attend(&case.core, &case.operands, false), &plain, "whole");
        case.assert_same(
            &pieces::in_pieces(&case.core, &case.operands, pieces::smallest(2, HEADS, &case.core)),
            &plain,
            "in pieces",
        );
    }
}

#[test]
fn pieces_of_a_padded_batch_are_the_whole() {
    let lengths = Tensor::from_slice(&[11i64, 4]);
    for settings in [vec![json!({})], Config::variants()].concat() {
        let Some(mut case) = Case::new(settings, 11, false) else { continue };
        case.operands.lengths = Some(lengths.shallow_clone());
        let whole = case.core.attend(&case.operands, false);
        let pieces = pieces::in_pieces(&case.core, &case.operands, pieces::smallest(2, HEADS, &case.core));
        case.assert_same(&pieces, &whole, "padded");
    }
}

#[test]
fn a_layer_from_its_input_row_by_row_is_the_layer_in_values_and_gradients() {
    for settings in [vec![json!({})], Config::variants()].concat() {
        for causal in [true, false] {
            let cfg: Config = serde_json::from_value(settings.clone()).expect("variants are settings");
            let dims = Dims { d_model: 8, seq_len: 11, causal };
            if !cfg.check(&dims).is_empty() {
                continue;
            }
            let mut vs = VarStore::new(Device::Cpu);
            let layer = Combiner::new(&vs.root(), &dims, &cfg);
            vs.double();
            let x = noise(&[2, 11, 8], 3).set_requires_grad(true);
            for lengths in [None, Some(Tensor::from_slice(&[11i64, 4]))] {
                let ctx =
                    Context { train: true, lengths: lengths.as_ref().map(Tensor::shallow_clone), ..Context::default() };
                let plain = layer.core.attend(&layer.operands(&x, &ctx), false);
                let again = pieces::from_input(&layer.core, &x, &layer.qkv, &layer.learned, lengths);
                assert!(again.allclose(&plain, 1e-11, 1e-12, false), "values: {settings}, causal {causal}");
                let of_maps = layer.qkv.iter().flat_map(|p| [Some(&p.weight), p.bias.as_ref()]).flatten();
                let leaves: Vec<&Tensor> = of_maps.chain(&layer.learned).chain([&x]).collect();
                let weight = noise(&plain.size(), 5);
                let gradients =
                    |y: &Tensor| Tensor::run_backward(&[(y * &weight).sum(Kind::Double)], &leaves, false, false);
                for (again, plain) in gradients(&again).iter().zip(gradients(&plain)) {
                    assert!(again.allclose(&plain, 1e-9, 1e-11, false), "gradients: {settings}, causal {causal}");
                }
            }
        }
    }
}

#[test]
fn every_token_in_reach_has_weight_and_rows_sum_to_one() {
    for case in cases() {
        let (m, length) = (case.matrix(), case.operands.length());
        let sums = m.sum_dim_intlist([-1].as_slice(), false, Kind::Double);
        assert!(sums.allclose(&sums.ones_like(), 1e-12, 1e-12, false), "{}", case.label);
        let reach = if case.core.causal { length * (length + 1) / 2 } else { length * length };
        assert_eq!(m.gt(0.0).sum(Kind::Int64).int64_value(&[]), 2 * HEADS * reach, "{}", case.label);
    }
}

#[test]
fn one_row_or_rows_of_one_token_are_softmax_attention() {
    // Directions where the partition is disjoint; a single token in a region is read as itself.
    let cases = [
        (json!({ "segment": 10 }), true),
        (json!({ "segment": 10 }), false),
        (json!({ "segment": 16 }), true),
        (json!({ "segment": 1 }), true),
        (json!({ "segment": 1 }), false),
        (json!({ "pattern": "rowmajor", "segment": 10 }), true),
        (json!({ "pattern": "rowmajor", "segment": 10 }), false),
        (json!({ "pattern": "vertical", "segment": 10 }), true),
        (json!({ "pattern": "mixture_joint", "segment": 16 }), true),
        (json!({ "pattern": "horizontal", "segment": 1 }), true),
        (json!({ "pattern": "mixture_averaged", "segment": 10 }), true),
    ];
    for (settings, causal) in cases {
        let case = Case::new(settings, 10, causal).expect("settings that exist");
        let [q, k, v] = case.operands.qkv.each_ref().map(|t| t.transpose(1, 2));
        let full = Tensor::scaled_dot_product_attention(&q, &k, &v, None::<Tensor>, 0.0, causal, None, false);
        let y = pieces::attend(&case.core, &case.operands, false);
        assert!(y.allclose(&full.transpose(1, 2), 1e-10, 1e-12, false), "{}", case.label);
    }
}

#[test]
fn a_token_after_a_power_of_two_keeps_its_history() {
    let case = Case::new(json!({ "pattern": "logsparse" }), 17, true).expect("settings that exist");
    let last = case.matrix().select(2, 16);
    assert!(last.gt(0.0).all().int64_value(&[]) == 1, "the reference reads itself alone here");
}

#[test]
fn padding_does_not_enter_the_pools() {
    // All keys and queries negative: a zero from padding would win every maximum.
    let case = |length| {
        let mut case = Case::new(json!({ "segment": 4 }), length, false).expect("settings that exist");
        let [q, k, v] = [1, 2, 3].map(|salt| noise(&[2, 11, HEADS, D_HEAD], salt));
        let longer = |t: Tensor| t.constant_pad_nd([0, 0, 0, 0, 0, length - 11]);
        case.operands.qkv = [-q.abs(), -k.abs(), v].map(longer);
        case
    };
    let alone = case(11);
    let mut longer = case(21);
    longer.operands.lengths = Some(Tensor::from_slice(&[11i64, 11]));
    let y = pieces::attend(&longer.core, &longer.operands, false).narrow(1, 0, 11);
    assert!(y.allclose(&pieces::attend(&alone.core, &alone.operands, false), 1e-12, 1e-14, false));
}

#[test]
fn dropout_leaves_the_average_where_it_was() {
    let patterns = ["fixed", "logsparse", "rowmajor", "mixture_joint"];
    for pattern in patterns {
        let mut case = Case::new(json!({ "pattern": pattern, "segment": 3, "row_summary": "proj" }), 6, true)
            .expect("settings that exist");
        case.core.dropout = 0.5;
        // Only reads are linear in what is dropped: keys that are made of dropped weights would move.
        case.core.row_summary = RowSummary::None;
        let draw = || tch::no_grad(|| pieces::attend(&case.core, &case.operands, true));
        let mean = Tensor::stack(&(0..3000).map(|_| draw()).collect::<Vec<_>>(), 0);
        let mean = mean.mean_dim([0].as_slice(), false, Kind::Double);
        let still = pieces::attend(&case.core, &case.operands, false);
        assert!((&mean - &still).abs().max().double_value(&[]) < 0.3, "{pattern}");
        assert!(!draw().allclose(&still, 1e-6, 1e-6, false), "{pattern}");
    }
}

#[test]
fn the_segment_defaults_to_the_root_of_the_length() {
    for (seq_len, segment) in [(1, 1), (16, 4), (17, 5), (1024, 32)] {
        let dims = Dims { d_model: 8, seq_len, causal: true };
        let combiner = Combiner::new(&VarStore::new(Device::Cpu).root(), &dims, &Config::default());
        assert_eq!(combiner.core.segment, segment);
    }
}

#[test]
fn what_does_not_exist_is_refused_and_the_key_named() {
    let cases = [
        (json!({ "own_segment": true }), true, Some("own_segment")),
        (json!({ "own_segment": true }), false, None),
        (json!({ "own_segment": true, "pattern": "logsparse" }), false, Some("own_segment")),
        (json!({ "pattern": "vertical" }), false, Some("pattern")),
        (json!({ "pattern": "horizontal" }), false, Some("pattern")),
        (json!({ "pattern": "mixture_averaged" }), false, Some("pattern")),
        (json!({ "pattern": "mixture_averaged" }), true, None),
        (json!({ "pattern": "mixture_joint" }), false, Some("pool")),
        (json!({ "pattern": "mixture_joint", "pool": "sum" }), false, None),
        (json!({ "pattern": "rowmajor", "pool": "sum" }), true, Some("pool")),
        (json!({ "pattern": "rowmajor", "map": "relu" }), true, Some("map")),
        (json!({ "row_summary": "wsum" }), true, Some("row_summary")),
        (json!({ "pattern": "rowmajor", "row_summary": "wsum" }), false, None),
    ];
    for (settings, causal, key) in cases {
        let cfg: Config = serde_json::from_value(settings.clone()).expect("settings");
        let wrong = cfg.check(&Dims { d_model: 8, seq_len: 8, causal });
        let keys: Vec<&str> = wrong.iter().map(|e| e.key).collect();
        assert_eq!(keys, Vec::from_iter(key), "{settings}, causal {causal}");
        assert!(wrong.iter().all(|e| e.problem.contains(e.key) && !e.help.is_empty()), "{wrong:?}");
    }
}
