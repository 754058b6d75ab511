//! Laws of every model: padding, pairs, heads, gradients, initial values.

use super::block::Channels;
use super::init::{DEVIATION_OF_CUT, TWO_SIGMA, named};
use super::*;
use crate::laws::samples::{small_mixers, task_spec};
use tch::{Device, no_grad};

fn config(text: &str) -> ModelConfig {
    serde_json::from_str(text).unwrap()
}

/// A model around every mixer of the registry, with small settings.
fn models(config: &ModelConfig, output: Output) -> Vec<(&'static str, nn::VarStore, Model)> {
    let around = |(entry, settings): (mixers::Entry, serde_json::Value)| {
        let vs = nn::VarStore::new(Device::Cpu);
        let model = Model::new(&vs.root(), config, &task_spec(output), &entry, &settings);
        (entry.name, vs, model)
    };
    small_mixers().into_iter().map(around).collect()
}

fn tokens(batch: i64, length: i64) -> Tensor {
    (Tensor::arange(batch * length, (Kind::Int64, Device::Cpu)) * 7).remainder(11).view([batch, length])
}

#[test]
fn padding_never_changes_a_sequence_s_logits_in_any_block_or_pooling() {
    for block in ["transformer", "s4", "bigs", "hydra"] {
        for pooling in ["mean", "last", "cls"] {
            let config = config(&format!(r#"{{"block":"{block}","d_model":16,"n_layers":2,"pooling":"{pooling}"}}"#));
            for (name, _vs, model) in models(&config, Output::PerSequence) {
                let short = tokens(1, 7);
                let padded = Tensor::cat(&[&short, &Tensor::full([1, 5], 3i64, (Kind::Int64, Device::Cpu))], 1);
                let run = |tokens: &Tensor, lengths: Option<Tensor>| {
                    let inputs = Inputs { tokens: tokens.shallow_clone(), types: None, lengths, positions: None };
                    no_grad(|| model.forward(&inputs, false))
                };
                let alone = run(&short, None);
                let beside = run(&padded, Some(Tensor::from_slice(&[7i64])));
                assert!(alone.allclose(&beside, 1e-4, 1e-5, false), "{name} in {block} with {pooling} pooling");
            }
        }
    }
}

#[test]
fn the_towers_of_a_pair_share_their_weights_and_never_see_each_other() {
    let other = |by: i64| (tokens(3, 9) + by).remainder(11);
    let (a, b, c) = (tokens(3, 9), other(3), other(5));
    for head in ["s4", "lra", "lra_concat"] {
        let config = config(&format!(r#"{{"d_model":16,"n_layers":2,"pair_head":"{head}"}}"#));
        for (entry, settings) in small_mixers() {
            let vs = nn::VarStore::new(Device::Cpu);
            let spec = TaskSpec { documents: 2, ..task_spec(Output::PerSequence) };
            let model = Model::new(&vs.root(), &config, &spec, &entry, &settings);
            let run = |first: &Tensor, second: &Tensor| {
                let inputs =
                    Inputs { tokens: Tensor::cat(&[first, second], 0), types: None, lengths: None, positions: None };
                no_grad(|| model.forward(&inputs, false))
            };
            let alike = |x: &Tensor, y: &Tensor| x.allclose(y, 1e-5, 1e-6, false);
            let mut weight = vs.variables()["head.0.weight"].shallow_clone();
            let map = no_grad(|| weight.narrow(1, 0, 16).copy());
            // A head that reads nothing but one of the two vectors.
            let mut read_only = |place: i64| {
                no_grad(|| {
                    let _ = weight.zero_();
                    weight.narrow(1, 16 * place, 16).copy_(&map);
                })
            };
            read_only(0);
            let of_first = run(&a, &b);
            assert!(alike(&of_first, &run(&a, &c)), "{}: the first vector knows the second document", entry.name);
            assert!(!alike(&of_first, &run(&c, &b)), "{}: the first vector says nothing", entry.name);
            read_only(1);
            assert!(alike(&of_first, &run(&b, &a)), "{}: the towers differ", entry.name);
        }
    }
}

#[test]
fn a_grey_value_enters_as_one_real_feature() {
    let vs = nn::VarStore::new(Device::Cpu);
    let map = linear(&(&vs.root() / "map"), 1, 4, true);
    let ends = no_grad(|| Tensor::from_slice(&[-1.0f32, 1.0]).view([1, 2, 1]).apply(&map));
    let encoder = Encoder::Line { map, scale: 2.0 / 255.0, shift: -1.0 };
    let read = no_grad(|| encoder.forward(&Tensor::from_slice(&[0i64, 255]).view([1, 2])));
    assert!(read.allclose(&ends, 1e-5, 1e-6, false));
}

#[test]
fn the_head_at_scored_positions_equals_the_head_everywhere() {
    for block in ["transformer", "s4", "hydra", r#"transformer","norm":"rms"#] {
        let config = config(&format!(r#"{{"block":"{block}","d_model":16,"n_layers":1}}"#));
        for (name, _vs, model) in models(&config, Output::PerPosition) {
            let all = Tensor::arange(2 * 9, (Kind::Int64, Device::Cpu));
            let some = Tensor::from_slice(&[2i64, 8, 11]);
            let run = |at: &Tensor| {
                let inputs =
                    Inputs { tokens: tokens(2, 9), types: None, lengths: None, positions: Some(at.shallow_clone()) };
                no_grad(|| model.forward(&inputs, false))
            };
            assert!(run(&some).allclose(&run(&all).index_select(0, &some), 1e-5, 1e-6, false), "{name} in {block}");
        }
    }
}

#[test]
fn every_parameter_of_every_model_gets_a_gradient() {
    for block in ["transformer", "s4", "bigs", "hydra"] {
        for ffn in ["mlp", "glu", "none", "identity"] {
            let config = config(&format!(
                r#"{{"block":"{block}","d_model":16,"n_layers":2,"ffn":"{ffn}","pooling":"cls","positions":"learned"}}"#
            ));
            for (name, vs, model) in models(&config, Output::PerSequence) {
                let inputs = Inputs { tokens: tokens(4, 12), types: None, lengths: None, positions: None };
                model.forward(&inputs, true).cross_entropy_for_logits(&Tensor::from_slice(&[0i64, 1, 2, 3])).backward();
                for (parameter, variable) in vs.variables().into_iter().filter(|(_, v)| v.requires_grad()) {
                    assert!(variable.grad().defined(), "{parameter} of {name} in {block} with {ffn}");
                }
            }
        }
    }
}

/// One application of a block is that block; two are that block twice, with the step's sines before each.
#[test]
fn a_shared_block_is_applied_as_often_as_there_are_layers_with_its_parameters_once() {
    let shared = |n: i64| {
        let text = format!(r#"{{"d_model":16,"n_layers":{n},"shared_depth":true,"positions":"sinusoidal"}}"#);
        config(&text)
    };
    for (entry, settings) in small_mixers() {
        let spec = task_spec(Output::PerSequence);
        let build = |n: i64| {
            let vs = nn::VarStore::new(Device::Cpu);
            let model = Model::new(&vs.root(), &shared(n), &spec, &entry, &settings);
            (vs, model)
        };
        let ((once, _), (mut twice, model)) = (build(1), build(3));
        assert_eq!(once.variables().len(), twice.variables().len(), "{}", entry.name);
        twice.copy(&once).expect("the same names and shapes");
        let inputs = Inputs { tokens: tokens(3, 9), types: None, lengths: None, positions: None };
        let (x, mut ctx) = model.embed(&inputs, None, false);
        let table = model.positions.as_ref().expect("sines").narrow(0, 0, 9);
        let steps = sinusoids(3, 16);
        let by_hand = (0..3).fold(x, |x, step| {
            let x = if step == 0 { x } else { x + &table };
            model.blocks[0].forward(&(x + steps.get(step)), &ctx)
        });
        ctx.train = false;
        let logits = model.head.forward(&model.scored(&model.normed(&by_hand, &ctx), &inputs, &ctx), false);
        assert!(no_grad(|| model.forward(&inputs, false)).allclose(&logits, 1e-5, 1e-6, false), "{}", entry.name);
    }
}

#[test]
fn an_auto_encoder_tells_every_position_from_the_last_vector_alone() {
    let spec = TaskSpec { causal: true, ..task_spec(Output::Reconstruction) };
    let config = config(r#"{"d_model":16,"n_layers":1}"#);
    let (entry, settings) = small_mixers().swap_remove(0);
    let vs = nn::VarStore::new(Device::Cpu);
    let model = Model::new(&vs.root(), &config, &spec, &entry, &settings);
    let inputs = |tokens: Tensor| Inputs {
        tokens,
        types: None,
        lengths: None,
        positions: Some(Tensor::arange(2 * 9, (Kind::Int64, Device::Cpu))),
    };
    let run = |tokens: Tensor| no_grad(|| model.forward(&inputs(tokens), false));
    let logits = run(tokens(2, 9));
    assert_eq!(logits.size(), [18, 5]);
    assert!(!logits.get(0).allclose(&logits.get(1), 1e-6, 1e-7, false), "positions are told apart");
    // Another last token changes what is said of every position; the first token only through it.
    let other = tokens(2, 9);
    let _ = other.narrow(1, 8, 1).fill_(3);
    let changed = (run(other) - &logits).abs().amax([1].as_slice(), false);
    assert!(changed.min().double_value(&[]) > 0.0, "{changed}");
}

#[test]
fn a_silenced_head_is_silenced_in_its_layer_alone() {
    for (entry, settings) in small_mixers() {
        let vs = nn::VarStore::new(Device::Cpu);
        let config = config(r#"{"d_model":16,"n_layers":2,"ffn":"none"}"#);
        let mut model = Model::new(&vs.root(), &config, &task_spec(Output::PerSequence), &entry, &settings);
        // RWKV-7 begins with a last map of zeros.
        for mut value in vs.trainable_variables() {
            if value.dim() == 2 && value.count_nonzero(None::<i64>).int64_value(&[]) == 0 {
                no_grad(|| value.copy_(&(mixers::laws::testing::noise(&value.size(), 3) * 0.2)));
            }
        }
        let heads = model.mixer_heads();
        let inputs = Inputs { tokens: tokens(3, 9), types: None, lengths: None, positions: None };
        let run = |model: &Model| no_grad(|| model.forward(&inputs, false));
        let whole = run(&model);
        if heads == 0 {
            continue;
        }
        model.silence(1, Some(Tensor::ones([heads], (Kind::Float, Device::Cpu))));
        assert!(run(&model).allclose(&whole, 1e-5, 1e-6, false), "{}", entry.name);
        let before = no_grad(|| model.after_layers(&inputs));
        model.silence(1, Some(Tensor::zeros([heads], (Kind::Float, Device::Cpu))));
        let after = no_grad(|| model.after_layers(&inputs));
        assert!(before[1].equal(&after[1]) && !before[2].allclose(&after[2], 1e-4, 1e-5, false), "{}", entry.name);
        model.silence(1, None);
        assert!(run(&model).allclose(&whole, 1e-6, 1e-7, false), "{}", entry.name);
    }
}

#[test]
fn a_head_where_answers_are_asked_for_learns_what_one_everywhere_learns() {
    use tasks::{DataDir, Order, Split};
    let entry = tasks::registry().into_iter().find(|entry| entry.name == "mqar").expect("registered");
    let small = serde_json::json!({ "vocab_size": 32, "seq_len": 16, "kv_pairs": 2 });
    let task = entry.open(&(entry.resolve)(&small).expect("settings"), &DataDir("none".into())).expect("drawn");
    let (vs, model) = attention_model(r#"{"d_model":16,"n_layers":2,"ffn":"none"}"#, &task.spec());
    let batch = task.batch(Split::Train, 0, &Order { seed: 0, batch_size: 4 }).expect("drawn");
    let (scored, classes) = crate::train::feed::to_tensors(&batch, Device::Cpu);
    let at = scored.positions.as_ref().expect("scored positions").shallow_clone();
    let everywhere = Inputs {
        tokens: scored.tokens.shallow_clone(),
        types: None,
        lengths: None,
        positions: Some(Tensor::arange(scored.tokens.numel() as i64, (Kind::Int64, Device::Cpu))),
    };
    let learned = |logits: &Tensor| {
        logits.cross_entropy_for_logits(&classes).backward();
        let gradients = vs.variables().into_iter().map(|(name, mut variable)| {
            let gradient = variable.grad().copy();
            variable.zero_grad();
            (name, gradient)
        });
        gradients.collect::<std::collections::BTreeMap<_, _>>()
    };
    let (some, all) = (model.forward(&scored, true), model.forward(&everywhere, true));
    assert!(at.numel() < scored.tokens.numel() && all.size()[0] == scored.tokens.numel() as i64);
    let all = all.index_select(0, &at);
    assert!(some.allclose(&all, 1e-5, 1e-6, false), "other logits");
    let (some, all) = (learned(&some), learned(&all));
    for (name, gradient) in &some {
        assert!(gradient.allclose(&all[name], 1e-4, 1e-6, false), "another gradient of {name}");
        assert!(gradient.abs().max().double_value(&[]) > 0.0, "no gradient of {name}");
    }
}

#[test]
fn null_means_what_the_block_s_paper_uses() {
    let hydra = config(r#"{"block":"hydra"}"#).resolved();
    assert_eq!(
        (hydra.norm_place, hydra.ffn, hydra.positions),
        (Some(NormPlace::Post), Some(Ffn::None), Some(Positions::None))
    );
    let s4 = config(r#"{"block":"s4"}"#).resolved();
    assert_eq!((s4.norm, s4.norm_place), (Some(NormKind::Batch), Some(NormPlace::Pre)));
    let transformer = config(r#"{"d_model":48,"ffn":"glu"}"#).resolved();
    assert_eq!((transformer.d_ff, transformer.positions), (Some(128), Some(Positions::Learned)));
}

/// A model of attention in the block `transformer`, with these keys.
fn attention_model(keys: &str, spec: &TaskSpec) -> (nn::VarStore, Model) {
    let (entry, settings) = small_mixers().swap_remove(0);
    let vs = nn::VarStore::new(Device::Cpu);
    let model = Model::new(&vs.root(), &config(keys), spec, &entry, &settings);
    (vs, model)
}

fn deviation(t: &Tensor) -> f64 {
    t.to_kind(Kind::Double).std(true).double_value(&[])
}

#[test]
fn tokens_positions_and_the_vector_in_front_start_as_far_apart_as_each_is_asked_to() {
    let spec = TaskSpec { vocab_size: 200, max_length: 200, ..task_spec(Output::PerSequence) };
    let keys = r#"{"d_model":64,"n_layers":1,"positions":"learned","pooling":"cls","token_types":2"#;
    let found = |more: &str| {
        let (vs, _model) = attention_model(&format!("{keys}{more}}}"), &spec);
        let all = vs.variables();
        ["embedding", "embedding_positions", "embedding_cls", "embedding_types"]
            .map(|name| deviation(&all[&format!("{name}.weight")]))
    };
    let near = |found: f64, want: f64| (found / want - 1.0).abs() < 0.5;
    let scaled = 0.02 * f64::sqrt(768.0 / 64.0);
    assert!(found("").iter().all(|std| near(*std, scaled)));
    assert!(found(r#","init":"published""#).iter().all(|std| near(*std, 0.02)));
    let [tokens, positions, cls, types] = found(r#","embedding_std":1,"cls_std":0"#);
    assert!((tokens - 1.0).abs() < 0.02, "{tokens}");
    assert!(near(positions, scaled) && near(types, scaled) && cls == 0.0, "{positions} {types} {cls}");
    assert!(near(found(r#","cls_std":0.5"#)[2], 0.5));
}

/// A mixer that keeps a map in a weight of its own says so: else it would keep its own initial values where others lose theirs.
#[test]
fn every_dense_map_of_a_block_is_recorded() {
    let config = config(r#"{"d_model":16,"ffn":"glu"}"#).resolved();
    let dims = config.dims(12, false);
    for entry in mixers::registry() {
        let (_, small) = small_mixers().into_iter().find(|(other, _)| other.name == entry.name).expect("a small one");
        for variant in (entry.variants)().into_iter().chain([serde_json::json!({})]) {
            let mut settings = small.clone();
            settings.as_object_mut().unwrap().extend(variant.as_object().unwrap().clone());
            if !entry.check(&settings, &dims).is_empty() {
                continue;
            }
            let aside = nn::VarStore::new(Device::Cpu);
            let (_block, maps) = mixers::recorded(|| Block::new(&aside.root(), &config, &dims, &entry, &settings));
            let recorded: Vec<String> = named(&aside, maps).into_iter().map(|map| map.weight).collect();
            let looks_dense = |(name, value): (&String, &Tensor)| {
                let named = ["weight", "kernel"].iter().find_map(|last| name.strip_suffix(last))?;
                let convolves = value.dim() == 3 && ["conv1d", "output_linear"].iter().any(|part| name.contains(part));
                let dense = value.dim() >= 2 && !convolves && (named.ends_with('.') || named.ends_with(".in_proj_"));
                dense.then(|| name.clone())
            };
            let variables: std::collections::BTreeMap<_, _> = aside.variables().into_iter().collect();
            let want: Vec<String> = variables.iter().filter_map(looks_dense).collect();
            assert_eq!(recorded, want, "{} {settings}", entry.name);
        }
    }
}

/// Glorot and Bengio's bound from inputs and outputs of each map, whatever axes it is kept with; in the head 1 / √in.
#[test]
fn dense_maps_start_as_the_arena_s_do() {
    let spec = TaskSpec { classes: 100, ..task_spec(Output::PerSequence) };
    let keys = r#"{"d_model":64,"n_layers":2,"d_ff":32,"head":"mlp","linear_init":"lra"}"#;
    let built = |name: &str, settings: serde_json::Value| {
        let entry = mixers::registry().into_iter().find(|entry| entry.name == name).expect("registered");
        let settings = (entry.resolve)(&settings).expect("settings");
        let vs = nn::VarStore::new(Device::Cpu);
        let _ = Model::new(&vs.root(), &config(keys), &spec, &entry, &settings);
        vs.variables()
    };
    let attention = built("attention", serde_json::json!({"n_heads": 2, "d_head": 8}));
    let combiner = built("combiner", serde_json::json!({"n_heads": 2, "d_head": 8}));
    let bounds = [
        (&attention, "blocks.0.mixer.in_proj_weight", 64 + 16),
        (&attention, "blocks.1.mixer.out_proj.weight", 16 + 64),
        (&attention, "blocks.1.ffn.up.weight", 64 + 32),
        (&attention, "blocks.0.ffn.down.weight", 32 + 64),
        (&combiner, "blocks.0.mixer.query.kernel", 64 + 16),
        (&combiner, "blocks.1.mixer.DenseGeneral_0.kernel", 16 + 64),
    ];
    for (all, name, ends) in bounds {
        let (bound, weight) = ((6.0 / f64::from(ends)).sqrt(), &all[name]);
        let (largest, std) = (weight.abs().max().double_value(&[]), deviation(weight));
        assert!(largest < 1.000_001 * bound && largest > 0.97 * bound, "{name}: {largest} of {bound}");
        assert!((std * 3f64.sqrt() / bound - 1.0).abs() < 0.06, "{name}: {std}");
    }
    for (name, inputs) in [("head.mlp", 64), ("head.logits", 32)] {
        let (want, weight) = ((1.0 / f64::from(inputs)).sqrt(), &attention[&format!("{name}.weight")]);
        assert!((deviation(weight) / want - 1.0).abs() < 0.15, "{name}");
        assert!(weight.abs().max().double_value(&[]) < want * 2.0 / 0.879, "{name}: cut at two deviations");
        assert_eq!(attention[&format!("{name}.bias")].abs().max().double_value(&[]), 0.0);
    }
    assert_eq!(attention["blocks.0.ffn.up.bias"].abs().max().double_value(&[]), 0.0);
}

/// By integration: `2 Φ(2) − 1` and the deviation of what it keeps.
#[test]
fn the_numbers_of_the_cut_normal_are_those_of_the_normal() {
    let n = 200_000;
    let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let step = 4.0 / f64::from(n);
    let sum = |f: &dyn Fn(f64) -> f64| -> f64 { (0..n).map(|i| f(-2.0 + (f64::from(i) + 0.5) * step) * step).sum() };
    let mass = sum(&density);
    assert!((mass - TWO_SIGMA).abs() < 1e-9);
    assert!(((sum(&|x| x * x * density(x)) / mass).sqrt() - DEVIATION_OF_CUT).abs() < 1e-9);
}

fn set(vs: &nn::VarStore, name: &str, values: &[f32]) {
    let mut variable = vs.variables()[name].shallow_clone();
    let shape = variable.size();
    no_grad(|| variable.copy_(&Tensor::from_slice(values).view(shape.as_slice())));
}

#[test]
fn the_arena_s_head_is_two_layers_with_a_relu_between() {
    let spec = TaskSpec { classes: 2, ..task_spec(Output::PerSequence) };
    let keys = r#"{"d_model":2,"n_layers":1,"d_ff":3,"head":"mlp"}"#;
    let (vs, model) = attention_model(keys, &spec);
    set(&vs, "head.mlp.weight", &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    set(&vs, "head.mlp.bias", &[0.0, -1.0, 0.5]);
    set(&vs, "head.logits.weight", &[1.0, 1.0, 1.0, 0.0, 2.0, -1.0]);
    set(&vs, "head.logits.bias", &[0.25, 0.0]);
    // W₁ x + b₁ = (−1, 2, 2.5) of x = (−1, 3), and relu takes the first.
    let found = no_grad(|| model.head.forward(&Tensor::from_slice(&[-1f32, 3.0]).view([1, 2]), false));
    assert!(found.allclose(&Tensor::from_slice(&[4.75f32, 1.5]).view([1, 2]), 1e-6, 1e-6, false), "{found}");
    let found: Vec<String> = [
        (r#"{"head":"mlp"}"#, TaskSpec { documents: 2, ..spec.clone() }),
        (r#"{"head":"mlp"}"#, TaskSpec { output: Output::Tokens, ..spec.clone() }),
        (r#"{"head":"mlp"}"#, TaskSpec { output: Output::PerPosition, ..spec.clone() }),
    ]
    .into_iter()
    .flat_map(|(keys, spec)| config(keys).check_task(&outline_of(&spec)))
    .map(|mistake| mistake.problem)
    .collect();
    assert_eq!(found, vec!["`head` is mlp, but the task does not ask for one class of one sequence"; 3]);
    let one = outline_of(&spec);
    assert!(config(keys).check_task(&one).is_empty());
    assert_eq!(config(keys).resolved().head_flops(1, &one), dense_flops(1, 2, 3) + dense_flops(1, 3, 2));
}

fn outline_of(spec: &TaskSpec) -> tasks::Outline {
    tasks::Outline {
        causal: spec.causal,
        max_length: spec.max_length,
        needs_files: false,
        vocab_size: spec.vocab_size,
        classes: spec.classes,
        documents: spec.documents,
        input: spec.input,
        output: spec.output,
    }
}

#[test]
fn the_arena_s_head_of_pairs_reads_both_vectors_end_to_end() {
    let spec = TaskSpec { documents: 2, classes: 2, ..task_spec(Output::PerSequence) };
    let keys = r#"{"d_model":1,"n_layers":1,"d_ff":2,"pair_head":"lra_concat"}"#;
    let entry = mixers::registry().into_iter().find(|entry| entry.name == "attention").expect("registered");
    let settings = (entry.resolve)(&serde_json::json!({"n_heads": 1})).expect("settings");
    let vs = nn::VarStore::new(Device::Cpu);
    let model = Model::new(&vs.root(), &config(keys), &spec, &entry, &settings);
    set(&vs, "head.0.weight", &[1.0, 2.0, -1.0, 1.0]);
    set(&vs, "head.0.bias", &[0.0, 0.0]);
    set(&vs, "head.1.weight", &[1.0, 10.0]);
    set(&vs, "head.1.bias", &[1.0]);
    set(&vs, "head.2.weight", &[1.0, -1.0]);
    set(&vs, "head.2.bias", &[0.0, 0.5]);
    // u = 3, v = 5: relu(13, 2), then relu(13 + 20 + 1).
    let found = no_grad(|| model.head.forward(&Tensor::from_slice(&[3f32, 5.0]).view([2, 1]), false));
    assert!(found.allclose(&Tensor::from_slice(&[34f32, -33.5]).view([1, 2]), 1e-5, 1e-5, false), "{found}");
    let flops = dense_flops(1, 2, 2) + dense_flops(1, 2, 1) + dense_flops(1, 1, 2);
    assert_eq!(config(keys).resolved().head_flops(1, &outline_of(&spec)), flops);
}

#[test]
fn the_feed_forward_has_the_activation_and_the_inner_dropout_of_its_keys() {
    let spec = task_spec(Output::PerSequence);
    let x = Tensor::from_slice(&[-2f32, -0.5, 0.5, 2.0]).view([1, 1, 4]);
    type Map = fn(f64) -> f64;
    let want: [(&str, Map); 2] = [
        ("gelu_tanh", |x| 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044_715 * x * x * x)).tanh())),
        ("relu", |x| x.max(0.0)),
    ];
    for (word, by_hand) in want {
        let keys = format!(r#"{{"d_model":4,"n_layers":1,"d_ff":4,"ffn_activation":"{word}"}}"#);
        let (vs, model) = attention_model(&keys, &spec);
        let unit = [1f32, 0., 0., 0., 0., 1., 0., 0., 0., 0., 1., 0., 0., 0., 0., 1.];
        for map in ["up", "down"] {
            set(&vs, &format!("blocks.0.ffn.{map}.weight"), &unit);
            set(&vs, &format!("blocks.0.ffn.{map}.bias"), &[0.0; 4]);
        }
        let found = no_grad(|| model.blocks[0].ffn.forward(&x, |h| h)).expect("a feed-forward");
        let want: Vec<f32> = [-2.0, -0.5, 0.5, 2.0].map(|x: f64| by_hand(x) as f32).to_vec();
        assert!(found.allclose(&Tensor::from_slice(&want).view([1, 1, 4]), 1e-5, 1e-6, false), "{word}: {found}");
    }
    let keys = r#"{"d_model":16,"n_layers":1,"d_ff":64,"norm_place":"post","ffn_dropout":0.5,"ffn":"FFN"}"#;
    for ffn in ["mlp", "glu"] {
        let (_vs, model) = attention_model(&keys.replace("FFN", ffn), &spec);
        let x = Tensor::randn([2, 7, 16], (Kind::Float, Device::Cpu));
        let run = |train: bool| {
            let ctx = Context { train, ..Context::default() };
            no_grad(|| model.blocks[0].forward(&x, &ctx))
        };
        assert!(run(false).equal(&run(false)), "{ffn}: no dropout in evaluation");
        assert!(!run(true).allclose(&run(false), 1e-3, 1e-3, false), "{ffn}: dropout in training");
    }
    let problems = |keys: &str| config(keys).check().into_iter().map(|m| m.key).collect::<Vec<_>>();
    assert_eq!(problems(r#"{"ffn":"none","ffn_dropout":0.1}"#), ["ffn_dropout"]);
    assert_eq!(problems(r#"{"ffn_dropout":1.0}"#), ["ffn_dropout"]);
    assert_eq!(problems(r#"{"ffn":"glu","ffn_activation":"relu"}"#), ["ffn_activation"]);
    assert_eq!(problems(r#"{"linear_init":"lra","linear_std":0.02}"#), ["linear_init"]);
    assert_eq!(problems(r#"{"embedding_std":-1,"cls_std":11}"#), ["embedding_std", "cls_std"]);
    let older = serde_json::to_value(ModelConfig::default()).unwrap();
    for key in ["ffn_activation", "ffn_dropout", "embedding_std", "cls_std", "linear_init"] {
        assert!(older.get(key).is_none(), "run ids of configs without `{key}` stay");
    }
}

/// Outside the mixers, `matrices` are the weights of dense maps and nothing else.
#[test]
fn what_is_decayed_as_a_matrix_is_what_a_product_reads() {
    use crate::train::optimizer::Decayed;
    let of = |output: Output, keys: &str| {
        let spec = TaskSpec { causal: output == Output::Reconstruction, ..task_spec(output) };
        let (vs, model) = attention_model(keys, &spec);
        let mut maps: Vec<Tensor> = model.head.maps().iter().map(|map| map.ws.shallow_clone()).collect();
        for block in &model.blocks {
            match &block.ffn {
                Channels::None | Channels::Identity => {}
                Channels::Mlp(up, down, _) => maps.extend([up, down].map(|map| map.ws.shallow_clone())),
                Channels::Glu(a, b, c) => maps.extend([a, b, c].map(|map| map.ws.shallow_clone())),
            }
        }
        for (name, variable) in vs.variables().into_iter().filter(|(name, _)| !name.contains(".mixer.")) {
            let is_map = maps.iter().any(|map| map.data_ptr() == variable.data_ptr());
            assert_eq!(Decayed::Matrices.takes(&name, variable.dim()), is_map, "{name} in {keys}");
        }
    };
    let every =
        r#"{"d_model":16,"n_layers":2,"positions":"learned","token_types":2,"pooling":"cls","embedding_norm":true"#;
    of(Output::PerSequence, &format!("{every}}}"));
    for head in ["bert", "mlp"] {
        of(Output::PerSequence, &format!(r#"{every},"ffn":"glu","head":"{head}"}}"#));
    }
    of(Output::Reconstruction, r#"{"d_model":16,"n_layers":1,"positions":"learned"}"#);
    let spec = TaskSpec { classes: 11, ..task_spec(Output::Tokens) };
    let (vs, _model) = attention_model(r#"{"d_model":16,"n_layers":1,"head":"bert"}"#, &spec);
    let decayed: Vec<String> = (vs.variables().into_iter())
        .filter(|(name, v)| Decayed::Matrices.takes(name, v.dim()) && name.starts_with("head"))
        .map(|(name, _)| name)
        .collect();
    assert_eq!(decayed, ["head.transform.weight"]);
}

#[test]
fn tied_dropout_drops_whole_channels_and_only_in_training() {
    let config = config(r#"{"d_model":16,"n_layers":1,"dropout":0.5,"tied_dropout":true}"#);
    for (name, _vs, model) in models(&config, Output::PerSequence) {
        let y = Tensor::rand([3, 7, 16], (Kind::Float, Device::Cpu)) + 1.0;
        assert!(model.blocks[0].drop(y.shallow_clone(), false).equal(&y), "{name}");
        let dropped = model.blocks[0].drop(y.shallow_clone(), true) / &y;
        assert!(dropped.allclose(&dropped.narrow(1, 0, 1).expand_as(&dropped), 1e-6, 1e-6, false), "{name}");
        let kept: f64 = dropped.select(1, 0).gt(0.0).to_kind(Kind::Float).mean(None::<Kind>).double_value(&[]);
        assert!(kept > 0.0 && kept < 1.0, "{name}: of 48 masks some drop and some do not, {kept}");
        assert!((dropped.max().double_value(&[]) - 2.0).abs() < 1e-5, "{name}: what is kept makes up for the rest");
    }
}
