//! Tests of what language models and their fine-tuning need of a model: heads, token types, places, initial values.

use super::*;
use crate::laws::samples::{small_mixers, task_spec};
use std::collections::BTreeMap;
use tch::{Device, no_grad};

fn config(text: &str) -> ModelConfig {
    serde_json::from_str(text).unwrap()
}

fn task(output: Output) -> TaskSpec {
    let spec = task_spec(output);
    let classes = if output == Output::Tokens { spec.vocab_size } else { spec.classes };
    TaskSpec { classes, ..spec }
}

fn build(text: &str, output: Output) -> (nn::VarStore, Model) {
    let (entry, settings) = small_mixers().swap_remove(0);
    let vs = nn::VarStore::new(Device::Cpu);
    let model = Model::new(&vs.root(), &config(text), &task(output), &entry, &settings);
    (vs, model)
}

fn inputs(types: Option<Tensor>, positions: Option<&[i64]>) -> Inputs {
    let tokens = (Tensor::arange(18, (Kind::Int64, Device::Cpu)) * 7).remainder(11).view([2, 9]);
    Inputs { tokens, types, lengths: None, positions: positions.map(Tensor::from_slice) }
}

fn outline(output: Output) -> tasks::Outline {
    let TaskSpec { causal, max_length, vocab_size, classes, documents, input, .. } = task(output);
    tasks::Outline { causal, max_length, needs_files: false, vocab_size, classes, documents, input, output }
}

#[test]
fn keys_at_their_defaults_are_not_written_so_that_older_runs_keep_their_identities() {
    let json = serde_json::to_string(&ModelConfig::default()).unwrap();
    assert_eq!(
        json,
        r#"{"block":"transformer","d_model":128,"n_layers":2,"norm":null,"norm_place":null,"norm_eps":null,"ffn":null,"d_ff":null,"positions":null,"embedding_norm":null,"dropout":0.0,"tied_dropout":false,"embedding_dropout":0.0,"shared_depth":false,"pooling":"mean","pair_head":"s4","init":"scaled","init_std":null}"#
    );
    let resolved = serde_json::to_value(ModelConfig::default().resolved()).unwrap();
    assert_eq!(resolved.as_object().unwrap().len(), 18, "{resolved}");
}

#[test]
fn bert_s_heads_are_their_formulas() {
    let (vs, model) = build(r#"{"d_model":16,"norm_eps":1e-12,"head":"bert"}"#, Output::Tokens);
    let all = vs.variables();
    let x = Tensor::randn([4, 16], (Kind::Float, Device::Cpu));
    for name in ["head.bias", "head.norm.bias"] {
        let _ = no_grad(|| all[name].shallow_clone().normal_(0.0, 1.0));
    }
    let h = (x.matmul(&all["head.transform.weight"].tr()) + &all["head.transform.bias"]).gelu("none");
    let (mean, variance) = (h.mean_dim(-1, true, Kind::Float), h.var_dim(-1, false, true));
    let h = (h - mean) / (variance + 1e-12).sqrt() * &all["head.norm.weight"] + &all["head.norm.bias"];
    let want = h.matmul(&all["embedding.weight"].tr()) + &all["head.bias"];
    assert!(model.head.forward(&x, false).allclose(&want, 1e-4, 1e-5, false));

    let (vs, model) = build(r#"{"d_model":16,"head":"tied"}"#, Output::Tokens);
    let all = vs.variables();
    let want = x.matmul(&all["embedding.weight"].tr()) + &all["head.bias"];
    assert!(model.head.forward(&x, false).allclose(&want, 1e-5, 1e-6, false));

    let (vs, model) = build(r#"{"d_model":16,"head":"tied","head_bias":false}"#, Output::Tokens);
    let want = x.matmul(&vs.variables()["embedding.weight"].tr());
    assert!(model.head.forward(&x, false).allclose(&want, 1e-5, 1e-6, false), "Zoology's head is the embedding alone");

    for output in [Output::PerSequence, Output::Value] {
        let (vs, model) = build(r#"{"d_model":16,"head":"bert","classifier_dropout":0.5}"#, output);
        let all = vs.variables();
        let pooled = (x.matmul(&all["head.pooler.weight"].tr()) + &all["head.pooler.bias"]).tanh();
        let want = pooled.matmul(&all["head.classifier.weight"].tr()) + &all["head.classifier.bias"];
        assert!(model.head.forward(&x, false).allclose(&want, 1e-5, 1e-6, false));
        assert!(!model.head.forward(&x, true).allclose(&want, 1e-5, 1e-6, false), "dropout in training");
    }
}

#[test]
fn a_head_left_null_is_bert_s_for_tokens_and_plain_for_classes() {
    for (text, output, wanted) in [
        (
            "{}",
            Output::Tokens,
            vec!["head.bias", "head.norm.bias", "head.norm.weight", "head.transform.bias", "head.transform.weight"],
        ),
        (r#"{"head":"tied"}"#, Output::Tokens, vec!["head.bias"]),
        (r#"{"head":"tied","head_bias":false}"#, Output::Tokens, vec![]),
        (r#"{"head_bias":false}"#, Output::PerPosition, vec!["head.weight"]),
        (r#"{"head":"plain"}"#, Output::Tokens, vec!["head.bias", "head.weight"]),
        ("{}", Output::PerSequence, vec!["head.bias", "head.weight"]),
        ("{}", Output::PerPosition, vec!["head.bias", "head.weight"]),
    ] {
        let (vs, _) = build(text, output);
        let mut names: Vec<String> = vs.variables().into_keys().filter(|name| name.starts_with("head.")).collect();
        names.sort();
        assert_eq!(names, wanted, "{text} of {output:?}");
    }
}

#[test]
fn a_language_model_s_logits_are_those_of_the_asked_positions_and_its_embedding_learns_from_both_ends() {
    for (text, norm) in [(r#"{"d_model":16}"#, "pre"), (r#"{"d_model":16,"norm_place":"post"}"#, "post")] {
        let (vs, model) = build(text, Output::Tokens);
        let all: Vec<i64> = (0..18).collect();
        let everywhere = no_grad(|| model.forward(&inputs(None, Some(&all)), false));
        assert_eq!(everywhere.size(), [18, 11]);
        let some = no_grad(|| model.forward(&inputs(None, Some(&[2, 8, 11])), false));
        assert!(
            some.allclose(&everywhere.index_select(0, &Tensor::from_slice(&[2i64, 8, 11])), 1e-5, 1e-6, false),
            "{norm}"
        );
        let loss =
            model.forward(&inputs(None, Some(&[2])), true).cross_entropy_for_logits(&Tensor::from_slice(&[10i64]));
        loss.backward();
        let gradient = vs.variables()["embedding.weight"].grad().abs().sum_dim_intlist(-1, false, Kind::Float);
        assert!(gradient.min().double_value(&[]) > 0.0, "every row of the decoder has a gradient: {norm}");
    }
}

#[test]
fn token_types_are_added_and_the_first_position_can_be_read() {
    let text = r#"{"d_model":16,"token_types":2,"pooling":"first","positions":"none"}"#;
    let (vs, model) = build(text, Output::PerSequence);
    let run = |types: Option<Tensor>| no_grad(|| model.embed(&inputs(types, None), None, false).0);
    let types = Tensor::from_slice(&[0i64, 0, 0, 1, 1, 1, 1, 1, 1]).repeat([2, 1]);
    let table = &vs.variables()["embedding_types.weight"];
    let (without, with) = (run(None), run(Some(types.shallow_clone())));
    let want = &without - table.get(0) + table.index_select(0, &types.view(-1)).view([2, 9, 16]);
    assert!(with.allclose(&want, 1e-5, 1e-6, false) && !with.allclose(&without, 1e-5, 1e-6, false));
    assert!(run(Some(Tensor::zeros([2, 9], (Kind::Int64, Device::Cpu)))).allclose(&without, 1e-6, 1e-7, false));
    let (x, ctx) = model.embed(&inputs(None, None), None, false);
    assert!(model.pool(&x, &ctx).equal(&x.select(1, 0)) && x.size() == [2, 9, 16], "no vector is put in front");
}

#[test]
fn a_model_may_be_made_for_more_positions_than_its_task_has_but_not_for_fewer() {
    let (vs, model) = build(r#"{"d_model":16,"max_positions":40}"#, Output::Tokens);
    assert_eq!(vs.variables()["embedding_positions.weight"].size(), [40, 16]);
    assert_eq!(no_grad(|| model.forward(&inputs(None, Some(&[0])), false)).size(), [1, 11]);
    let said = |text: &str, output: Output| -> Vec<String> {
        config(text).check_task(&outline(output)).into_iter().map(|m| format!("{}: {}", m.key, m.problem)).collect()
    };
    assert_eq!(said(r#"{"max_positions":12}"#, Output::Tokens), Vec::<String>::new());
    assert_eq!(
        said(r#"{"max_positions":11}"#, Output::Tokens),
        ["max_positions: `max_positions` is 11, but the task's sequences have up to 12 positions"]
    );
    for head in ["bert", "tied", "plain"] {
        let text = format!(r#"{{"head":"{head}"}}"#);
        for output in [Output::Tokens, Output::PerSequence, Output::Value, Output::PerPosition, Output::Number] {
            let allowed = matches!(
                (head, output),
                ("plain", _) | (_, Output::Tokens) | ("bert", Output::PerSequence | Output::Value)
            );
            assert_eq!(said(&text, output).is_empty(), allowed, "{head} of {output:?}");
        }
    }
    let of_tokens = |output| tasks::Outline { classes: 11, ..outline(output) };
    let tied = config(r#"{"head":"tied"}"#);
    assert!(
        tied.check_task(&of_tokens(Output::PerPosition)).is_empty(),
        "as many classes as tokens: MQAR's are tokens"
    );
    assert_eq!(tied.check_task(&tasks::Outline { documents: 2, ..of_tokens(Output::PerSequence) }).len(), 1);
    let bare = |text: &str, output| -> Vec<&str> {
        config(text).check_task(&outline(output)).into_iter().map(|m| m.key).collect()
    };
    assert!(bare(r#"{"head_bias":false,"head":"plain"}"#, Output::Tokens).is_empty());
    assert_eq!(bare(r#"{"head_bias":false}"#, Output::Tokens), ["head_bias"], "null is BERT's head there");
    assert_eq!(bare(r#"{"head_bias":false}"#, Output::Reconstruction), ["head_bias"]);
    let pixels = tasks::Outline { input: Input::Reals { width: 1, scale: 1.0, shift: 0.0 }, ..outline(Output::Tokens) };
    assert_eq!(config(r#"{"head":"bert"}"#).check_task(&pixels).len(), 1);
    assert!(config("{}").check_task(&pixels).is_empty(), "null is plain there");
    for (text, key) in [
        (r#"{"token_types":-1}"#, "token_types"),
        (r#"{"max_positions":0}"#, "max_positions"),
        (r#"{"linear_std":0}"#, "linear_std"),
        (r#"{"rescale_residual":true}"#, "rescale_residual"),
        (r#"{"classifier_dropout":1}"#, "classifier_dropout"),
    ] {
        assert_eq!(config(text).check().iter().map(|m| m.key).collect::<Vec<_>>(), [key], "{text}");
    }
}

#[test]
fn linear_std_redraws_dense_maps_and_nothing_else() {
    let values = |linear_std: &str, mixer: &str| -> BTreeMap<String, Tensor> {
        let (entry, settings) = small_mixers().into_iter().find(|(entry, _)| entry.name == mixer).unwrap();
        let vs = nn::VarStore::new(Device::Cpu);
        let model = format!(r#"{{"d_model":16,"linear_std":{linear_std},"block":"hydra","ffn":"mlp","head":"bert"}}"#);
        let _ = Model::new(&vs.root(), &config(&model), &task(Output::Tokens), &entry, &settings);
        vs.variables().into_iter().collect()
    };
    let largest = |value: &Tensor| value.abs().max().double_value(&[]);
    // What is redrawn is tiny, and nothing else is.
    let tiny = |value: &Tensor| (1e-12..1e-6).contains(&largest(value));
    let redrawn = |mixer: &str| -> Vec<String> {
        assert!(values("null", mixer).values().all(|value| !tiny(value)), "{mixer}");
        let values = values("1e-8", mixer);
        let names: Vec<String> = values.iter().filter(|(_, value)| tiny(value)).map(|(name, _)| name.clone()).collect();
        for name in &names {
            let bias = values.get(&name.replace("weight", "bias").replace("kernel", "bias"));
            assert!(bias.is_none_or(|bias| largest(bias) == 0.0), "{mixer}: the bias of {name}");
        }
        names
    };
    let of_mixer = |mixer: &str| -> Vec<String> {
        let names = redrawn(mixer);
        let under = |start: &str| -> Vec<String> {
            names.iter().filter_map(|name| name.strip_prefix(start).map(str::to_string)).collect()
        };
        let layers = [under("blocks.0.mixer."), under("blocks.1.mixer.")];
        assert_eq!(layers[0], layers[1], "{mixer}");
        assert_eq!(under("blocks.1.ffn."), ["down.weight", "up.weight"], "{mixer}");
        assert_eq!(under("head."), ["transform.weight"], "{mixer}");
        assert_eq!(names.len(), 2 * layers[0].len() + 5, "{mixer}: {names:?}");
        layers.into_iter().next().unwrap()
    };
    let told: Vec<(&str, String)> = small_mixers().iter().map(|(e, _)| (e.name, of_mixer(e.name).join(" "))).collect();
    let names = |mixer: &str| told.iter().find(|(name, _)| *name == mixer).unwrap().1.as_str();
    for (mixer, wanted) in [
        ("attention", "in_proj_weight out_proj.weight"),
        (
            "bigs",
            "do.weight dol.weight du_backward.weight du_forward.weight duc_backward.weight duc_forward.weight dv.weight",
        ),
        ("hydra", "fc_D.weight in_proj.weight out_proj.weight"),
        ("mamba2", "in_proj.weight out_proj.weight"),
        ("matrix_mixer", "in_proj.weight matrix_mixer.fc_D.weight out_proj.weight"),
        ("s4", "output_linear.0.weight"),
        ("s4d_minimal", ""),
    ] {
        assert_eq!(names(mixer), wanted, "{mixer}");
    }
    assert!(told.iter().all(|(_, names)| !names.contains("conv") && !names.contains("norm")), "{told:?}");
    let after = values("0.05", "hydra");
    let drawn = &after["blocks.0.mixer.in_proj.weight"];
    assert!((drawn.std(true).double_value(&[]) - 0.05).abs() < 0.01, "{drawn}");
    assert!(!drawn.equal(&after["blocks.1.mixer.in_proj.weight"]), "each layer has its own draw");
}

#[test]
fn operations_of_the_heads_are_those_of_their_maps() {
    let flops = |text: &str, output: Output, scored: i64| config(text).head_flops(scored, &outline(output));
    let (d, v, c) = (16, 11, 5);
    let map = |rows: i64, from: i64, to: i64| dense_flops(rows, from, to);
    assert_eq!(flops(r#"{"d_model":16}"#, Output::Tokens, 3), map(3, d, d) + map(3, d, v));
    assert_eq!(flops(r#"{"d_model":16,"head":"tied"}"#, Output::Tokens, 3), map(3, d, v));
    assert_eq!(flops(r#"{"d_model":16,"head":"bert"}"#, Output::PerSequence, 1), map(1, d, d) + map(1, d, c));
    assert_eq!(flops(r#"{"d_model":16}"#, Output::PerSequence, 1), map(1, d, c));
    assert_eq!(flops(r#"{"d_model":16}"#, Output::PerPosition, 3), map(3, d, c));
}

/// MQAR's own check, through the task's outline: its answers are tokens, so the embedding can read them.
#[test]
fn a_tied_head_reads_the_values_that_mqar_asks_for() {
    let entry = tasks::registry().into_iter().find(|entry| entry.name == "mqar").expect("registered");
    let settings =
        (entry.resolve)(&serde_json::json!({"vocab_size": 32, "seq_len": 16, "kv_pairs": 2})).expect("types");
    let outline = entry.outline(&settings);
    let config = config(r#"{"d_model":16,"head":"tied","head_bias":false}"#);
    assert!(config.check_task(&outline).is_empty());
    let (mixer, mixer_settings) = small_mixers().swap_remove(0);
    let vs = nn::VarStore::new(Device::Cpu);
    let model = Model::new(&vs.root(), &config, &outline.spec(), &mixer, &mixer_settings);
    assert!(vs.variables().keys().all(|name| !name.starts_with("head")));
    let at = [3i64, 12];
    let logits = no_grad(|| model.forward(&inputs(None, Some(&at)), false));
    let features = no_grad(|| model.features(&inputs(None, None), None, &Tensor::from_slice(&at), false));
    let want = features.matmul(&vs.variables()["embedding.weight"].tr());
    assert!(logits.allclose(&want, 1e-5, 1e-6, false), "{logits} for {want}");
}

#[test]
fn an_identity_channel_mixer_adds_the_norm_of_the_sum_to_it() {
    let (entry, settings) = small_mixers().swap_remove(0);
    for norm in ["layer", "rms"] {
        let vs = nn::VarStore::new(Device::Cpu);
        let text = format!(r#"{{"d_model":16,"n_layers":1,"ffn":"identity","norm":"{norm}","norm_eps":1e-5}}"#);
        let model = Model::new(&vs.root(), &config(&text), &task(Output::PerPosition), &entry, &settings);
        let x = Tensor::randn([2, 9, 16], (Kind::Float, Device::Cpu)) * 3.0 + 1.0;
        let by_hand = |x: &Tensor| match norm {
            "layer" => {
                let (mean, variance) = (x.mean_dim(-1, true, Kind::Float), x.var_dim(-1, false, true));
                (x - mean) / (variance + 1e-5).sqrt()
            }
            _ => x / (x.square().mean_dim(-1, true, Kind::Float) + 1e-5).sqrt(),
        };
        let ctx = Context::eval();
        let (got, want) = no_grad(|| {
            let y = &x + model.blocks[0].mixer.forward(&by_hand(&x), &ctx);
            (model.blocks[0].forward(&x, &ctx), &y + by_hand(&y))
        });
        assert!(got.allclose(&want, 1e-4, 1e-5, false), "{norm}");
        let names: Vec<String> = vs.variables().into_keys().collect();
        assert!(names.iter().any(|name| name == "blocks.0.ffn_norm.weight"), "{norm}: {names:?}");
        assert_eq!(names.iter().any(|name| name == "blocks.0.ffn_norm.bias"), norm == "layer", "{names:?}");
        assert!(names.iter().all(|name| !name.starts_with("blocks.0.ffn.")), "{norm}: the identity learns nothing");
    }
}

/// Every family names the dense map that it ends in; S4D's minimal file ends in a convolution.
#[test]
fn rescaled_maps_are_the_last_of_each_branch_and_smaller_by_the_root_of_twice_the_layers() {
    for (entry, settings) in small_mixers() {
        let build = |rescale: bool| {
            let vs = nn::VarStore::new(Device::Cpu);
            let text =
                format!(r#"{{"d_model":64,"n_layers":8,"linear_std":0.04,"rescale_residual":{rescale},"ffn":"mlp"}}"#);
            let model = Model::new(&vs.root(), &config(&text), &task(Output::PerPosition), &entry, &settings);
            (vs, model.blocks[0].mixer.output_map())
        };
        let (vs, named) = build(true);
        let std = |vs: &nn::VarStore, name: &str| vs.variables()[name].std(true).double_value(&[]);
        // A convolution, and a gate alone.
        assert_eq!(named.is_none(), ["s4d_minimal", "s5"].contains(&entry.name), "{}", entry.name);
        let last = named.map(|name| format!("blocks.7.mixer.{name}"));
        let last: Vec<&str> = last.iter().map(String::as_str).chain(["blocks.7.ffn.down.weight"]).collect();
        for name in &last {
            assert!((std(&vs, name) - 0.01).abs() < 0.001, "{}: {name} {}", entry.name, std(&vs, name));
        }
        let small = |vs: &nn::VarStore| -> Vec<String> {
            let all = vs.variables().into_iter().filter(|(name, value)| name.contains("blocks.7.") && value.dim() > 1);
            let small = all.filter(|(_, value)| value.std(true).double_value(&[]) < 0.012);
            small.map(|(name, _)| name).collect()
        };
        let (with, without) = (small(&vs), small(&build(false).0));
        let mut only: Vec<&str> = with.iter().filter(|name| !without.contains(name)).map(String::as_str).collect();
        only.sort();
        let mut wanted = last.clone();
        wanted.sort();
        assert_eq!(only, wanted, "{}: nothing else is smaller", entry.name);
    }
}
