//! Tests of what language models and their fine-tuning need of a model: heads, token types, places, initial values.

use super::*;
use crate::samples::{small_mixers, task_spec};
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
        r#"{"block":"transformer","d_model":128,"n_layers":2,"norm":null,"norm_place":null,"norm_eps":null,"ffn":null,"d_ff":null,"positions":null,"embedding_norm":null,"dropout":0.0,"tied_dropout":false,"embedding_dropout":0.0,"shared_depth":false,"pooling":"mean","pair_head":"s4","init_std":0.02}"#
    );
    let resolved = serde_json::to_value(ModelConfig::default().resolved()).unwrap();
    assert_eq!(resolved.as_object().unwrap().len(), 17, "{resolved}");
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
    let pixels = tasks::Outline { input: Input::Reals { width: 1, scale: 1.0, shift: 0.0 }, ..outline(Output::Tokens) };
    assert_eq!(config(r#"{"head":"bert"}"#).check_task(&pixels).len(), 1);
    assert!(config("{}").check_task(&pixels).is_empty(), "null is plain there");
    for (text, key) in [
        (r#"{"token_types":-1}"#, "token_types"),
        (r#"{"max_positions":0}"#, "max_positions"),
        (r#"{"linear_std":0}"#, "linear_std"),
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
