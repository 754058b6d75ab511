use super::*;
use crate::laws::samples::{small_mixers, task_spec};
use crate::model::{Inputs, Model};
use crate::train::spec::Choice;
use serde_json::{Value, json};
use tasks::{Output, TaskSpec};
use tch::{Device, Kind};

/// A language model's task, or one of classes.
fn task(output: Output) -> TaskSpec {
    let spec = task_spec(output);
    let classes = if output == Output::Tokens { spec.vocab_size } else { spec.classes };
    TaskSpec { classes, ..spec }
}

fn build(config: &Value, task: &TaskSpec, mixer: &str, settings: &Value) -> (VarStore, Model, Naming) {
    let config: ModelConfig = serde_json::from_value(config.clone()).unwrap();
    let entry = mixers::registry().into_iter().find(|entry| entry.name == mixer).unwrap();
    let settings = (entry.resolve)(settings).unwrap();
    let vs = VarStore::new(Device::Cpu);
    let model = Model::new(&vs.root(), &config, task, &entry, &settings);
    (vs, model, Naming::of(&config, entry.released, &settings))
}

fn tokens() -> Tensor {
    (Tensor::arange(3 * 9, (Kind::Int64, Device::Cpu)) * 7).remainder(11).view([3, 9])
}

fn logits(model: &Model, output: Output) -> Tensor {
    let types = tokens().gt(5).to_kind(Kind::Int64);
    let positions = (output != Output::PerSequence).then(|| Tensor::from_slice(&[1i64, 8, 20]));
    let inputs = Inputs { tokens: tokens(), types: Some(types), lengths: None, positions };
    no_grad(|| model.forward(&inputs, false))
}

fn own(vs: &VarStore) -> Vec<(String, Tensor)> {
    vs.variables().into_iter().collect()
}

fn written(dir: &tempfile::TempDir, tensors: &[(String, Tensor)]) -> PathBuf {
    let path = dir.path().join("w.safetensors");
    checkpoint::write_with(&path, tensors, ("format", "pt")).unwrap();
    path
}

#[test]
fn an_exported_and_imported_model_gives_identical_logits_in_every_block_around_every_mixer() {
    let dir = tempfile::tempdir().unwrap();
    for (entry, settings) in small_mixers() {
        for block in ["transformer", "s4", "bigs", "hydra"] {
            for (output, head) in [
                (Output::Tokens, "bert"),
                (Output::Tokens, "tied"),
                (Output::Tokens, "plain"),
                (Output::PerSequence, "bert"),
                (Output::PerSequence, "plain"),
            ] {
                let config = json!({"block": block, "d_model": 16, "n_layers": 2, "positions": "learned", "head": head,
                                    "token_types": 2, "embedding_norm": true, "linear_std": 0.3});
                let (from, model, naming) = build(&config, &task(output), entry.name, &settings);
                let want = logits(&model, output);
                let before = |name: &str| own(&from).into_iter().map(|(n, t)| (format!("{name}{n}"), t)).collect();
                for file in [naming.export(own(&from)), before(""), before("model.")] {
                    let (into, model, naming) = build(&config, &task(output), entry.name, &settings);
                    let what = format!("{} in {block}, {head} of {output:?}", entry.name);
                    // Whatever the generator, which all tests share, gave it.
                    own(&into).into_iter().for_each(|(_, v)| drop(no_grad(|| v.shallow_clone().fill_(0.5))));
                    assert!(!logits(&model, output).equal(&want), "{what}: other initial values");
                    let report = naming.import(&written(&dir, &file), &into).unwrap_or_else(|e| panic!("{what}: {e}"));
                    assert_eq!(
                        (report.taken.len(), report.fresh.len(), report.left.len()),
                        (into.len(), 0, 0),
                        "{what}"
                    );
                    assert!(logits(&model, output).equal(&want), "{what}");
                }
            }
        }
    }
}

const BERT: &str = r#"{"block": "transformer", "d_model": 16, "n_layers": 2, "norm_place": "post", "norm_eps": 1e-12,
    "ffn": "mlp", "d_ff": 24, "positions": "learned", "max_positions": 20, "embedding_norm": true, "token_types": 2,
    "pooling": "first", "head": "bert"}"#;

/// A file as Hugging Face's `BertForPreTraining` writes it, two layers of width 16.
fn released() -> Vec<(String, Tensor)> {
    let mut found: Vec<(String, Tensor)> = Vec::new();
    let mut add = |name: &str, shape: &[i64]| {
        found.push((name.to_string(), Tensor::randn(shape, (Kind::Float, Device::Cpu)) * 0.3));
    };
    let mut map = |name: &str, from: i64, to: i64| {
        add(&format!("{name}.weight"), &[to, from]);
        add(&format!("{name}.bias"), &[to]);
    };
    for layer in 0..2 {
        let at = format!("bert.encoder.layer.{layer}");
        for part in ["self.query", "self.key", "self.value", "output.dense"] {
            map(&format!("{at}.attention.{part}"), 16, 16);
        }
        map(&format!("{at}.intermediate.dense"), 16, 24);
        map(&format!("{at}.output.dense"), 24, 16);
    }
    map("bert.pooler.dense", 16, 16);
    map("cls.predictions.transform.dense", 16, 16);
    map("cls.seq_relationship", 16, 2);
    // The files of 2019 call a norm's weight gamma and its bias beta.
    let norms = ["bert.encoder.layer.0.attention.output", "bert.encoder.layer.0.output", "bert.embeddings"];
    let modern = ["bert.encoder.layer.1.attention.output", "bert.encoder.layer.1.output", "cls.predictions.transform"];
    for (norms, parts) in [(norms, ["gamma", "beta"]), (modern, ["weight", "bias"])] {
        norms.iter().for_each(|norm| parts.iter().for_each(|part| add(&format!("{norm}.LayerNorm.{part}"), &[16])));
    }
    add("bert.embeddings.word_embeddings.weight", &[11, 16]);
    add("bert.embeddings.position_embeddings.weight", &[20, 16]);
    add("bert.embeddings.token_type_embeddings.weight", &[2, 16]);
    add("cls.predictions.bias", &[11]);
    let words = found.iter().find(|(name, _)| name.contains("word")).unwrap().1.shallow_clone();
    found.push(("cls.predictions.decoder.weight".into(), words));
    found.push(("bert.embeddings.position_ids".into(), Tensor::arange(20, (Kind::Int64, Device::Cpu)).view([1, 20])));
    found
}

/// BERT (Devlin et al. 2019) on those tensors, written out: logits at every position, and what the pooler gives.
fn by_hand(file: &[(String, Tensor)], types: &Tensor) -> (Tensor, Tensor) {
    let get = |name: &str| &file.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("{name}")).1;
    let map = |x: &Tensor, name: &str| x.linear(get(&format!("{name}.weight")), Some(get(&format!("{name}.bias"))));
    let norm = |x: &Tensor, name: &str| {
        let old = file.iter().any(|(n, _)| *n == format!("{name}.LayerNorm.gamma"));
        let [weight, bias] = if old { ["gamma", "beta"] } else { ["weight", "bias"] };
        let (mean, variance) = (x.mean_dim(-1, true, Kind::Float), x.var_dim(-1, false, true));
        (x - mean) / (variance + 1e-12).sqrt() * get(&format!("{name}.LayerNorm.{weight}"))
            + get(&format!("{name}.LayerNorm.{bias}"))
    };
    let look_up =
        |name: &str, at: &Tensor| get(&format!("bert.embeddings.{name}.weight")).index_select(0, &at.view(-1));
    let (batch, length) = tokens().size2().unwrap();
    let places = Tensor::arange(length, (Kind::Int64, Device::Cpu)).repeat([batch]);
    let x = look_up("word_embeddings", &tokens())
        + look_up("position_embeddings", &places)
        + look_up("token_type_embeddings", types);
    let mut x = norm(&x, "bert.embeddings").view([batch, length, 16]);
    for layer in 0..2 {
        let at = format!("bert.encoder.layer.{layer}");
        let heads =
            |part: &str| map(&x, &format!("{at}.attention.self.{part}")).view([batch, length, 2, 8]).transpose(1, 2);
        let scores = heads("query").matmul(&heads("key").transpose(-1, -2)) / 8f64.sqrt();
        let read = scores.softmax(-1, Kind::Float).matmul(&heads("value")).transpose(1, 2).reshape([batch, length, 16]);
        x = norm(&(map(&read, &format!("{at}.attention.output.dense")) + &x), &format!("{at}.attention.output"));
        let wide = map(&x, &format!("{at}.intermediate.dense")).gelu("none");
        x = norm(&(map(&wide, &format!("{at}.output.dense")) + &x), &format!("{at}.output"));
    }
    let transformed = norm(&map(&x, "cls.predictions.transform.dense").gelu("none"), "cls.predictions.transform");
    let logits = transformed.matmul(&get("cls.predictions.decoder.weight").tr()) + get("cls.predictions.bias");
    (logits, map(&x.select(1, 0), "bert.pooler.dense").tanh())
}

#[test]
fn a_released_bert_loads_and_gives_what_bert_gives() {
    let (dir, file) = (tempfile::tempdir().unwrap(), released());
    let path = written(&dir, &file);
    let types = tokens().gt(5).to_kind(Kind::Int64);
    let (want, pooled) = by_hand(&file, &types);
    let bert: Value = serde_json::from_str(BERT).unwrap();

    let (vs, model, naming) = build(&bert, &task(Output::Tokens), "attention", &json!({"n_heads": 2}));
    let report = naming.import(&path, &vs).unwrap();
    let left = [
        "bert.pooler.dense.bias",
        "bert.pooler.dense.weight",
        "cls.predictions.decoder.weight",
        "cls.seq_relationship.bias",
        "cls.seq_relationship.weight",
    ];
    let mut found = report.left.clone();
    found.sort();
    assert_eq!((report.taken.len(), report.fresh.len(), found), (vs.len(), 0, left.map(String::from).to_vec()));
    let want = want.flatten(0, 1).index_select(0, &Tensor::from_slice(&[1i64, 8, 20]));
    assert!(logits(&model, Output::Tokens).allclose(&want, 1e-4, 1e-5, false));

    // The same file under a classifier: its pooler is taken, the classes are new.
    let (vs, model, naming) = build(&bert, &task(Output::PerSequence), "attention", &json!({"n_heads": 2}));
    let report = naming.import(&path, &vs).unwrap();
    assert_eq!(report.fresh, ["head.classifier.bias", "head.classifier.weight"]);
    let all = vs.variables();
    let want = pooled.linear(&all["head.classifier.weight"], Some(&all["head.classifier.bias"]));
    assert!(logits(&model, Output::PerSequence).allclose(&want, 1e-4, 1e-5, false));

    // And back: what was read is written under the same names.
    let (vs, _, naming) = build(&bert, &task(Output::Tokens), "attention", &json!({"n_heads": 2}));
    naming.import(&path, &vs).unwrap();
    for (name, tensor) in naming.export(own(&vs)) {
        let old = name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta");
        let read = file.iter().find(|(n, _)| *n == name || *n == old).unwrap_or_else(|| panic!("{name} is not BERT's"));
        assert!(read.1.equal(&tensor), "{name}");
    }
}

#[test]
fn only_what_computes_as_bert_does_has_its_layers_names() {
    let changes = [
        json!({}),
        json!({"norm_place": "pre"}),
        json!({"positions": "none"}),
        json!({"ffn": "glu"}),
        json!({"embedding_norm": false}),
        json!({"ffn_activation": "relu"}),
        json!({"norm": "rms"}),
    ];
    for (changed, settings) in changes.iter().map(|changed| (changed, json!({"n_heads": 2}))).chain([
        (&changes[0], json!({"n_heads": 2, "rotary_base": 100})),
        (&changes[0], json!({"n_heads": 2, "window": 3})),
    ]) {
        let mut config: Value = serde_json::from_str(BERT).unwrap();
        config.as_object_mut().unwrap().extend(changed.as_object().unwrap().clone());
        let (vs, _, naming) = build(&config, &task(Output::Tokens), "attention", &settings);
        let named = naming.export(own(&vs)).iter().any(|(name, _)| name.contains("attention.self.query"));
        let like = changed == &changes[0] && settings.as_object().unwrap().len() == 1;
        assert_eq!((named, naming.is_own()), (like, !like), "{changed} {settings}");
    }
}

#[test]
fn a_classifier_of_another_task_stays_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let bert: Value = serde_json::from_str(BERT).unwrap();
    let settings = json!({"n_heads": 2});
    for head in ["bert", "plain"] {
        let mut config = bert.clone();
        config["head"] = json!(head);
        let three = TaskSpec { classes: 3, ..task(Output::PerSequence) };
        let (from, _, naming) = build(&config, &three, "attention", &settings);
        let (into, _, _) = build(&config, &task(Output::PerSequence), "attention", &settings);
        let before = into.variables()[if head == "bert" { "head.classifier.weight" } else { "head.weight" }].copy();
        let report = naming.import(&written(&dir, &naming.export(own(&from))), &into).unwrap();
        assert_eq!(report.fresh.len(), 2, "{report:?}");
        let after = &into.variables()[if head == "bert" { "head.classifier.weight" } else { "head.weight" }];
        assert!(after.equal(&before));
        assert!(into.variables()["embedding.weight"].equal(&from.variables()["embedding.weight"]));
    }
}

/// What is said of a file, and that nothing of the model changed.
fn refusal(file: &[(String, Tensor)], changes: &Value) -> (String, String) {
    let dir = tempfile::tempdir().unwrap();
    let mut config: Value = serde_json::from_str(BERT).unwrap();
    config.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
    let (vs, _, naming) = build(&config, &task(Output::Tokens), "attention", &json!({"n_heads": 2}));
    let before: Vec<(String, Tensor)> = own(&vs).into_iter().map(|(name, t)| (name, t.copy())).collect();
    let error = naming.import(&written(&dir, file), &vs).unwrap_err();
    let after = vs.variables();
    assert!(before.iter().all(|(name, tensor)| after[name].equal(tensor)), "a refused file changes nothing");
    let text = error.to_string();
    let (path, text) = text.split_once(".safetensors: ").unwrap();
    assert!(path.ends_with("/w"), "{path}");
    (text.to_string(), error.help().to_string())
}

#[test]
fn weights_of_another_model_are_refused_with_the_key_to_change() {
    let file = released();
    let with = |name: &str, shape: &[i64]| -> Vec<(String, Tensor)> {
        let others = file.iter().filter(|(n, _)| n != name).map(|(n, t)| (n.clone(), t.shallow_clone()));
        others.chain([(name.to_string(), Tensor::zeros(shape, (Kind::Float, Device::Cpu)))]).collect()
    };
    let without = |part: &str| -> Vec<(String, Tensor)> {
        file.iter().filter(|(n, _)| !n.contains(part)).map(|(n, t)| (n.clone(), t.shallow_clone())).collect()
    };
    let said = |file: &[(String, Tensor)], changes: Value| refusal(file, &changes);
    let (problem, help) = said(&with("bert.embeddings.word_embeddings.weight", &[30, 16]), json!({}));
    assert_eq!(problem, "the file's vocabulary has 30 tokens, the model's 11");
    assert!(help.contains("tokenizer"), "{help}");
    let (problem, help) = said(&file, json!({"max_positions": 12}));
    assert_eq!(problem, "the file's position table has 20 positions, the model's 12");
    assert_eq!(help, "set `model: { max_positions: 20 }`");
    let (problem, help) = said(&file, json!({"token_types": 1}));
    assert_eq!(problem, "the file's token-type embedding has 2 types, the model's 1");
    assert_eq!(help, "set `model: { token_types: 2 }`");
    let (problem, help) = said(&file, json!({"d_model": 24}));
    assert_eq!(problem, "the file's vocabulary is 16 wide, the model 24");
    assert_eq!(help, "set `model: { d_model: 16 }`");
    let (problem, help) = said(&file, json!({"n_layers": 3}));
    assert_eq!(
        (problem.as_str(), help.as_str()),
        ("the file has 2 layers, the model 3", "set `model: { n_layers: 2 }`")
    );
    let (problem, _) = said(&file, json!({"token_types": 0}));
    assert_eq!(
        problem,
        "these are not the weights of this model; unexpected: `bert.embeddings.token_type_embeddings.weight`"
    );
    let (problem, _) = said(&without("key.bias"), json!({}));
    let names = [0, 1].map(|i| format!("`bert.encoder.layer.{i}.attention.self.key.bias`")).join(", ");
    assert_eq!(problem, format!("these are not the weights of this model; missing: {names}"));
    let (problem, _) = said(&with("bert.encoder.layer.0.attention.self.key.weight", &[16, 12]), json!({}));
    assert!(problem.contains("the parts of `blocks.0.mixer.in_proj_weight`"), "{problem}");
    let (problem, _) = said(&without("cls.predictions.transform.dense"), json!({}));
    assert!(problem.contains("missing: `cls.predictions.transform.dense.bias`"), "{problem}");
    let (problem, _) = said(&file, json!({"d_ff": 32}));
    assert!(problem.contains("of another shape: `blocks.0.ffn.down.weight` [16, 24] for [16, 32]"), "{problem}");
    let (problem, help) = said(&with("cls.predictions.decoder.weight", &[11, 16]), json!({}));
    assert_eq!(problem, "`cls.predictions.decoder.weight` is not the embedding, and this model's head is tied to it");
    assert!(help.contains("head: plain"), "{help}");
}

#[test]
fn a_hydra_s_names_are_those_of_its_repository() {
    let config = json!({"block": "hydra", "d_model": 16, "n_layers": 1, "token_types": 2, "head": "bert"});
    for (mixer, settings, inside) in [
        ("hydra", json!({"d_state": 4, "headdim": 8}), vec!["D", "dt_bias", "fc_D.weight"]),
        ("matrix_mixer", json!({"matrix": "cauchy", "headdim": 8, "qk_dim": 4}), vec!["matrix_mixer.bias"]),
    ] {
        let (vs, _, naming) = build(&config, &task(Output::Tokens), mixer, &settings);
        let names: Vec<String> = naming.export(own(&vs)).into_iter().map(|(name, _)| name).collect();
        let shared = ["in_proj.weight", "conv1d.weight", "conv1d.bias", "norm.weight", "out_proj.weight"];
        for part in inside.into_iter().chain(shared) {
            let want = format!("bert.encoder.layer.0.layer.mixer.{part}");
            assert!(names.contains(&want), "{want}: {names:#?}");
        }
        for want in ["bert.encoder.layer.0.layer.norm.bias", "bert.embeddings.LayerNorm.weight", "cls.predictions.bias"]
        {
            assert!(names.iter().any(|name| name == want), "{want}: {names:#?}");
        }
    }
}

/// What a config beside weights answers about `released()`'s BERT around attention, with `keys` in the file.
fn told(keys: &Value, mixer: &str, settings: &Value, config: &Value) -> Result<(), (String, String)> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("config.json"), keys.to_string()).unwrap();
    let beside = config_json::ConfigJson::read(&dir.path().join("w.safetensors")).unwrap().expect("it is there");
    let entry = mixers::registry().into_iter().find(|entry| entry.name == mixer).unwrap();
    let choice = Choice { name: mixer.into(), settings: (entry.resolve)(settings).unwrap() };
    let config: ModelConfig = serde_json::from_value(config.clone()).unwrap();
    let held = beside.held_against(&config, &choice, &task(Output::Tokens), &Registry::default());
    held.map_err(|error| (error.to_string(), error.help().to_string()))
}

#[test]
fn a_config_beside_weights_that_says_otherwise_is_refused_with_key_values_and_remedy() {
    let bert: Value = serde_json::from_str(BERT).unwrap();
    let heads = json!({"n_heads": 4});
    let asked = |keys: Value| told(&keys, "attention", &heads, &bert);
    // What Hugging Face writes for this model, keys about other things among them.
    let right = json!({"architectures": ["BertForMaskedLM"], "model_type": "bert", "hidden_size": 16, "num_hidden_layers": 2,
        "num_attention_heads": 4, "intermediate_size": 24, "vocab_size": 11, "max_position_embeddings": 20,
        "type_vocab_size": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-12, "position_embedding_type": "absolute",
        "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1, "initializer_range": 0.02, "pad_token_id": 0,
        "classifier_dropout": null, "torch_dtype": "float32", "use_cache": true});
    asked(right.clone()).unwrap();
    for (key, value, problem, remedy) in [
        ("num_attention_heads", json!(8), "is 8, and `n_heads` of this model is 4", "set `n_heads: 8` at the mixer"),
        ("n_heads", json!(8), "is 8, and `n_heads` of this model is 4", "set `n_heads: 8` at the mixer"),
        ("hidden_size", json!(24), "is 24, and `d_model` of this model is 16", "set `model: { d_model: 24 }`"),
        ("num_hidden_layers", json!(3), "is 3, and `n_layers` of this model is 2", "set `model: { n_layers: 3 }`"),
        ("intermediate_size", json!(64), "is 64, and `d_ff` of this model is 24", "set `model: { d_ff: 64 }`"),
        ("vocab_size", json!(12), "is 12, and `vocab_size` of this model is 11", "the tokenizer of 12 tokens"),
        ("max_position_embeddings", json!(32), "is 32, and `max_positions` of this model is 20", "max_positions: 32"),
        ("type_vocab_size", json!(1), "is 1, and `token_types` of this model is 2", "token_types: 1"),
        (
            "hidden_act",
            json!("relu"),
            "is \"relu\", and `ffn_activation` of this model is \"gelu\"",
            "set `model: { ffn_activation: relu }`",
        ),
        ("hidden_act", json!("gelu_pytorch_tanh"), "is \"gelu_pytorch_tanh\"", "ffn_activation: gelu_tanh }"),
        (
            "hidden_act",
            json!("silu"),
            "is \"silu\"",
            "no setting gives `silu`: `ffn_activation` is gelu, gelu_tanh or relu",
        ),
        ("layer_norm_eps", json!(1e-5), "and `norm_eps` of this model is 1e-12", "norm_eps: 0.00001"),
        ("position_embedding_type", json!("relative_key"), "and `positions` of this model is", "`relative_key`"),
        ("rotary_base", json!(10000.0), "is 10000.0, and null in this model's mixer", "set `rotary_base: 10000.0`"),
    ] {
        let mut keys = right.clone();
        keys[key] = value;
        let (said, help) = asked(keys).expect_err(key);
        assert!(said.contains(&format!("config.json: `{key}` is")) && said.contains(problem), "{said}");
        assert!(help.contains(remedy) && help.contains("if this file does not describe `w.safetensors`"), "{help}");
    }
    // Another activation is written and read by its own name, never as BERT's.
    for (ours, named, other) in [("gelu_tanh", "gelu_new", "gelu_pytorch_tanh"), ("relu", "relu", "relu")] {
        let mut config = bert.clone();
        config["ffn_activation"] = json!(ours);
        for name in [named, other] {
            told(&json!({"hidden_act": name}), "attention", &heads, &config).unwrap();
        }
        let (said, help) = told(&right, "attention", &heads, &config).unwrap_err();
        assert!(said.contains(&format!("and `ffn_activation` of this model is \"{named}\"")), "{said}");
        assert!(help.contains("set `model: { ffn_activation: gelu }`"), "{help}");
        let dir = tempfile::tempdir().unwrap();
        let model: ModelConfig = serde_json::from_value(config).unwrap();
        let choice = Choice { name: "attention".into(), settings: heads.clone() };
        let at = config_json::write(
            &dir.path().join("w.safetensors"),
            &model,
            &choice,
            &task(Output::Tokens),
            &Registry::default(),
        )
        .unwrap();
        let written: Value = serde_json::from_str(&std::fs::read_to_string(at).unwrap()).unwrap();
        assert_eq!(written["hidden_act"], named);
    }
    // Heads that no mixer of the model has, and a feed-forward that is not there, say nothing.
    let bigs = json!({"block": "bigs", "d_model": 16, "n_layers": 2});
    let keys = json!({"num_attention_heads": 12, "intermediate_size": 48, "num_ssm": 4, "hidden_size": 16});
    told(&keys, "bigs", &json!({"d_state": 4}), &bigs).unwrap();
    let (said, help) = told(&json!({"num_ssm": 64}), "bigs", &json!({"d_state": 4}), &bigs).unwrap_err();
    assert!(
        said.contains("`num_ssm` is 64, and `d_state` of this model is 4") && help.contains("d_state: 64"),
        "{said}"
    );
}

#[test]
fn a_config_that_is_written_is_held_when_read_back_for_every_mixer_and_block() {
    let dir = tempfile::tempdir().unwrap();
    for (entry, settings) in small_mixers() {
        for block in ["transformer", "s4", "bigs", "hydra"] {
            let path = dir.path().join(format!("{}-{block}", entry.name)).join("model.safetensors");
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let config: ModelConfig =
                serde_json::from_value(json!({"block": block, "d_model": 16, "token_types": 2})).unwrap();
            let choice = Choice { name: entry.name.into(), settings: settings.clone() };
            let task = task(Output::Tokens);
            let at = config_json::write(&path, &config, &choice, &task, &Registry::default()).unwrap();
            assert_eq!(at.file_name().unwrap(), "config.json");
            let beside = config_json::ConfigJson::read(&path).unwrap().unwrap();
            beside
                .held_against(&config, &choice, &task, &Registry::default())
                .unwrap_or_else(|e| panic!("{} in {block}: {e}", entry.name));
            assert_eq!(beside.seq_len().unwrap(), Some(12));
            // The width, a key of the model's own, and another mixer.
            let wider = ModelConfig { d_model: 32, ..config.clone() };
            assert!(
                beside.held_against(&wider, &choice, &task, &Registry::default()).is_err(),
                "{} in {block}",
                entry.name
            );
            let shared = ModelConfig { shared_depth: true, ..config.clone() };
            let said = beside.held_against(&shared, &choice, &task, &Registry::default()).unwrap_err().to_string();
            assert!(said.contains("`shared_depth` is false, and true in this model"), "{said}");
            let other = Choice { name: "another".into(), settings: json!({}) };
            let said = beside.held_against(&config, &other, &task, &Registry::default()).unwrap_err().to_string();
            assert!(said.contains(&format!("the weights are of `{}`", entry.name)), "{said}");
        }
    }
}

#[test]
fn a_model_carried_to_another_length_answers_as_it_did() {
    let dir = tempfile::tempdir().unwrap();
    for settings in [json!({"d_state": 8}), json!({"d_state": 8, "mode": "diag", "init": "lin", "disc": "dss"})] {
        for to in [10, 40] {
            let config = |rows: i64| json!({"block": "s4", "d_model": 16, "n_layers": 2, "norm": "layer", "max_positions": rows});
            let (mut from, model, naming) = build(&config(20), &task(Output::Tokens), "s4", &settings);
            from.double();
            let want = logits(&model, Output::Tokens);
            let (mut into, model, _) = build(&config(to), &task(Output::Tokens), "s4", &settings);
            into.double();
            naming.import(&written(&dir, &own(&from)), &into).unwrap();
            let error = |got: &Tensor| ((got - &want).abs().max() / want.abs().max()).double_value(&[]);
            let before = error(&logits(&model, Output::Tokens));
            model.adopt(20).unwrap();
            let after = error(&logits(&model, Output::Tokens));
            assert!(before > 1e-6 && after < 1e-9, "{before:.1e} before, {after:.1e} after: {settings}");
        }
    }
}
