//! The dump `bigs_mlm` through the harness's own model: its weights come in by their reference names, and logits, loss and
//! every gradient must be the dump's.

use super::*;
use crate::laws::samples::task_spec;
use crate::train::checkpoint;
use crate::train::weights::Naming;
use mixers::laws::goldens::Golden;
use serde_json::json;
use std::collections::BTreeMap;
use std::path::Path;
use tch::{Device, Reduction, no_grad};

#[test]
fn the_reference_s_bigs_gives_its_logits_loss_and_gradients_through_the_harness_s_model() {
    let dir = tempfile::tempdir().unwrap();
    for (precision, kind, least) in [("f64", Kind::Double, 1e-9), ("f32", Kind::Float, 1e-5)] {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../mixers/fixtures/goldens");
        let path = folder.join(format!("bigs_mlm__2layers_L19.{precision}.safetensors"));
        let golden = Golden::read(&path).unwrap();
        let (_, header) = mixers::core::weights::from_bytes(&std::fs::read(&path).unwrap()).unwrap();
        let errors: BTreeMap<String, f64> = serde_json::from_str(&header["f32_vs_f64_max_err_rel_to_max_abs"]).unwrap();
        let int = |key: &str| golden.int(key).unwrap();
        let get = |key: String| golden.tensor(&key).unwrap().shallow_clone();

        let file: Vec<(String, Tensor)> =
            golden.names("param").into_iter().map(|name| (name.to_string(), get(format!("param.{name}")))).collect();
        let config = json!({"block": "bigs", "d_model": int("hidden_size"), "n_layers": int("num_hidden_layers"),
                            "norm_eps": 1e-12, "positions": "learned", "max_positions": int("max_position_embeddings"),
                            "embedding_norm": true, "token_types": 2, "head": "bert"});
        let settings = json!({"d_ff": int("intermediate_size"), "d_state": int("num_ssm"), "mask_padding": false});
        let vocab_size = int("vocab_size");
        let spec = TaskSpec { vocab_size, classes: vocab_size, max_length: int("L"), ..task_spec(Output::Tokens) };
        let config: ModelConfig = serde_json::from_value(config).unwrap();
        let entry = mixers::registry().into_iter().find(|entry| entry.name == "bigs").unwrap();
        let mut vs = nn::VarStore::new(Device::Cpu);
        let model = Model::new(&vs.root(), &config, &spec, &entry, &(entry.resolve)(&settings).unwrap());
        let naming = Naming::of(&config, entry.released, &serde_json::json!({}));
        vs.set_kind(kind);
        let copy = dir.path().join("bigs.safetensors");
        checkpoint::write_with(&copy, &file, ("format", "pt")).unwrap();
        let report = naming.import(&copy, &vs).unwrap();
        assert_eq!(report.left, ["bigs.pooler.dense.bias", "bigs.pooler.dense.weight"]);
        assert_eq!(report.fresh, Vec::<String>::new());

        let tokens = get("input.input_ids".into());
        let all = Tensor::arange(tokens.numel() as i64, (Kind::Int64, Device::Cpu));
        let inputs = |at: &Tensor| Inputs {
            tokens: tokens.shallow_clone(),
            types: None,
            lengths: None,
            positions: Some(at.shallow_clone()),
        };
        let logits = model.forward(&inputs(&all), false);
        // The reference looks its padding token up without a gradient, which matters where the dump reads it as a word.
        let words = vs.variables()["embedding.weight"].shallow_clone();
        let padding = tokens.view(-1).eq(int("pad_token_id")).nonzero().squeeze_dim(1);
        let fixed = words.get(int("pad_token_id")).detach();
        let (x, mut ctx) = model.embed(&inputs(&all), Some(Hidden { at: &padding, vector: &fixed }), false);
        let x = (0..model.layers()).fold(x, |x, layer| model.layer(layer, &x, &mut ctx));
        let same = model.answer(&x, &inputs(&all), &ctx);
        assert!(same.equal(&logits), "that changes no value");
        (&same * get("grad_output.logits".into()).view([-1, vocab_size])).sum(kind).backward();
        let labels = get("input.labels".into()).view(-1);
        let asked = labels.ge(0).nonzero().squeeze_dim(1);
        assert!(asked.numel() < labels.numel() && asked.numel() > 0);
        let loss = no_grad(|| {
            let classes = labels.index_select(0, &asked);
            let logits = model.forward(&inputs(&asked), false);
            logits.cross_entropy_loss(&classes, None::<Tensor>, Reduction::Mean, -100, 0.0)
        });

        let mut got = vec![
            ("output.logits".to_string(), logits.detach().view(get("output.logits".into()).size().as_slice())),
            ("output.loss".to_string(), loss),
        ];
        let gradients = vs.variables().into_iter().map(|(name, variable)| (name, variable.grad())).collect();
        got.extend(naming.export(gradients).into_iter().map(|(name, grad)| (format!("grad_param.{name}"), grad)));
        let wanted = golden.names("grad_param").len() + golden.names("output").len();
        assert_eq!(got.len(), wanted, "every output and every gradient of the dump is held");
        let mut worst = [("", 0f64), ("", 0f64)];
        for (key, value) in &got {
            let want = get(key.clone());
            let error = (value - &want).abs().max().double_value(&[]) / want.abs().max().double_value(&[]).max(1e-300);
            let most = if kind == Kind::Double { least } else { (4.0 * errors[key]).max(least) };
            assert!(error <= most, "{precision} {key} is {error:.2e} off, at most {most:.1e}");
            let group = &mut worst[usize::from(key.starts_with("grad"))];
            if error >= group.1 {
                *group = (key, error);
            }
        }
        println!(
            "{precision}: outputs {:.2e} ({}), gradients {:.2e} ({})",
            worst[0].1, worst[0].0, worst[1].1, worst[1].0
        );
    }
}
