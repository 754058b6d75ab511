//! Models as papers built them, and small ones for a CPU: `model: { preset: bert_base }`.
//!
//! A preset is a set of keys of `model`. Keys that a config writes itself win, wherever it writes them. The mixer is the config's own;
//! the one that the model was published with is named here, so that `mixarena list presets` can count parameters.

use serde::Serialize;
use serde_json::{Map, Value};

/// A model around any mixer, and the mixer it was published with.
#[derive(Clone, Copy, Debug)]
pub struct Preset {
    /// As it is written in a config.
    pub name: &'static str,
    /// One line.
    pub about: &'static str,
    /// Keys of `model`, JSON.
    model: &'static str,
    /// The mixer it was published with.
    pub mixer: &'static str,
    /// Its settings, JSON.
    settings: &'static str,
    /// Tokens it was trained on.
    pub vocabulary: i64,
    /// Positions of a sequence it was trained on.
    pub length: i64,
    /// Parameters printed, and where; none for our own sizes.
    pub published: Option<Published>,
    /// The same with some settings changed.
    pub variations: &'static [Variation],
}

/// A count of parameters as printed.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Published {
    /// Trainable scalars, as rounded there.
    pub parameters: u64,
    /// Who says so.
    pub source: &'static str,
}

/// What differs from a [`Preset`].
#[derive(Clone, Copy, Debug)]
pub struct Variation {
    /// What it is.
    pub name: &'static str,
    /// Keys of `model` over the preset's, JSON.
    model: &'static str,
    /// Settings of the mixer over the preset's, JSON.
    settings: &'static str,
    /// Parameters printed, millions.
    pub published: u64,
}

const DEVLIN: &str = "Devlin et al. 2019, arXiv:1810.04805, §3";
const CARD: &str = "model card of JunxiongWang/BiGS_128 on Hugging Face";
const TABLE_4: &str = "Hwang et al. 2024, arXiv:2407.09941, GLUE table";
const TABLE_2: &str = "Hwang et al. 2024, arXiv:2407.09941, matrix-mixer table";

const ALL: &[Preset] = &[
    Preset {
        name: "bert_base",
        about: "BERT-base: post-norm, learned positions, token types, first-token pooler (Devlin et al. 2019)",
        model: r#"{"block": "transformer", "d_model": 768, "n_layers": 12, "norm_place": "post", "norm_eps": 1e-12,
                   "ffn": "mlp", "d_ff": 3072, "positions": "learned", "max_positions": 512, "embedding_norm": true,
                   "token_types": 2, "pooling": "first", "head": "bert", "dropout": 0.1, "embedding_dropout": 0.1,
                   "classifier_dropout": 0.1, "init_std": 0.02, "linear_std": 0.02}"#,
        mixer: "attention",
        settings: r#"{"n_heads": 12, "dropout": 0.1}"#,
        vocabulary: 30_522,
        length: 512,
        published: Some(Published { parameters: 110_000_000, source: DEVLIN }),
        variations: &[],
    },
    Preset {
        name: "bigs_large",
        about: "BiGS at the size of BERT-large: gated layers, no feed-forward, mean pooler (Wang et al. 2022)",
        model: r#"{"block": "bigs", "d_model": 1024, "n_layers": 23, "norm_eps": 1e-12, "positions": "learned",
                   "max_positions": 512, "embedding_norm": true, "token_types": 2, "pooling": "mean", "head": "bert",
                   "embedding_dropout": 0.1, "classifier_dropout": 0.1, "init_std": 0.02, "linear_std": 0.02}"#,
        mixer: "bigs",
        settings: r#"{"d_ff": 3072, "d_state": 64}"#,
        vocabulary: 30_522,
        length: 128,
        published: Some(Published { parameters: 346_000_000, source: CARD }),
        variations: &[],
    },
    Preset {
        name: "hydra_base",
        about: "Hydra at the size of BERT-base: post-norm, no feed-forward, no positions (Hwang et al. 2024)",
        model: r#"{"block": "hydra", "d_model": 768, "n_layers": 23, "positions": "none", "embedding_norm": true,
                   "token_types": 2, "pooling": "mean", "head": "bert", "embedding_dropout": 0.1,
                   "classifier_dropout": 0.1, "init_std": 0.02, "linear_std": 0.02}"#,
        mixer: "hydra",
        settings: r#"{"d_state": 64, "headdim": 64}"#,
        vocabulary: 30_522,
        length: 128,
        published: Some(Published { parameters: 112_000_000, source: TABLE_4 }),
        variations: &[],
    },
    Preset {
        name: "matrix_mixer_70m",
        about: "The matrix-mixer ablation: 12 post-norm layers without feed-forward (Hwang et al. 2024)",
        model: r#"{"block": "hydra", "d_model": 768, "n_layers": 12, "positions": "none", "max_positions": 128,
                   "embedding_norm": true, "token_types": 2, "pooling": "mean", "head": "bert",
                   "embedding_dropout": 0.1, "classifier_dropout": 0.1, "init_std": 0.02, "linear_std": 0.02}"#,
        mixer: "matrix_mixer",
        settings: r#"{"matrix": "quasiseparable", "qk_dim": 16, "headdim": 128}"#,
        vocabulary: 30_522,
        length: 128,
        published: Some(Published { parameters: 71_000_000, source: TABLE_2 }),
        variations: CLASSES,
    },
    Preset {
        name: "bert_small_cpu",
        about: "bert_base, 4 layers of width 128",
        model: r#"{"block": "transformer", "d_model": 128, "n_layers": 4, "norm_place": "post", "norm_eps": 1e-12,
                   "ffn": "mlp", "d_ff": 512, "positions": "learned", "embedding_norm": true, "token_types": 2,
                   "pooling": "first", "head": "bert", "dropout": 0.1, "embedding_dropout": 0.1,
                   "classifier_dropout": 0.1, "init_std": 0.02, "linear_std": 0.02}"#,
        mixer: "attention",
        settings: r#"{"n_heads": 4}"#,
        vocabulary: 4096,
        length: 128,
        published: None,
        variations: &[],
    },
    Preset {
        name: "bigs_cpu",
        about: "bigs_large, 4 layers of width 128",
        model: r#"{"block": "bigs", "d_model": 128, "n_layers": 4, "norm_eps": 1e-12, "positions": "learned",
                   "embedding_norm": true, "token_types": 2, "pooling": "mean", "head": "bert",
                   "embedding_dropout": 0.1, "classifier_dropout": 0.1, "init_std": 0.02, "linear_std": 0.02}"#,
        mixer: "bigs",
        settings: r#"{"d_ff": 384, "d_state": 64}"#,
        vocabulary: 4096,
        length: 128,
        published: None,
        variations: &[],
    },
    Preset {
        name: "hydra_cpu",
        about: "hydra_base, 8 layers of width 128: twice bert_small_cpu's, as published",
        model: r#"{"block": "hydra", "d_model": 128, "n_layers": 8, "positions": "none", "embedding_norm": true,
                   "token_types": 2, "pooling": "mean", "head": "bert", "embedding_dropout": 0.1,
                   "classifier_dropout": 0.1, "init_std": 0.02, "linear_std": 0.02}"#,
        mixer: "hydra",
        settings: r#"{"d_state": 16, "headdim": 32}"#,
        vocabulary: 4096,
        length: 128,
        published: None,
        variations: &[],
    },
    Preset {
        name: "matrix_mixer_cpu",
        about: "matrix_mixer_70m, 4 layers of width 128",
        model: r#"{"block": "hydra", "d_model": 128, "n_layers": 4, "positions": "none", "embedding_norm": true,
                   "token_types": 2, "pooling": "mean", "head": "bert", "embedding_dropout": 0.1,
                   "classifier_dropout": 0.1, "init_std": 0.02, "linear_std": 0.02}"#,
        mixer: "matrix_mixer",
        settings: r#"{"matrix": "quasiseparable", "qk_dim": 8, "headdim": 64}"#,
        vocabulary: 4096,
        length: 128,
        published: None,
        variations: &[],
    },
];

/// The fourteen classes of the ablation. Widths, heads and `qk_dim` are the committed settings of goombalab/hydra `55bef74`;
/// positions were on for three of the data-dependent ones. `vandermonde` without data trained the Fourier matrix there. `dense`
/// is committed with heads of 128, which come to 69.1 million; the 71 printed are those of heads of 64.
const CLASSES: &[Variation] = &[
    class("dense", "{}", r#"{"matrix": "dense", "data_dependent": false, "headdim": 64}"#, 71),
    class("toeplitz", WIDE, r#"{"matrix": "toeplitz", "data_dependent": false, "headdim": 64}"#, 71),
    class("toeplitz, data-dependent", WIDE, r#"{"matrix": "toeplitz", "headdim": 64}"#, 72),
    class("dft", WIDE, r#"{"matrix": "dft", "data_dependent": false, "headdim": 64}"#, 71),
    class(
        "vandermonde",
        "{}",
        r#"{"matrix": "vandermonde", "data_dependent": false, "form": "paper", "qk_dim": 64, "headdim": 64}"#,
        71,
    ),
    class("vandermonde, data-dependent", "{}", r#"{"matrix": "vandermonde"}"#, 70),
    class("cauchy", "{}", r#"{"matrix": "cauchy", "data_dependent": false, "qk_dim": 64, "headdim": 64}"#, 71),
    class("cauchy, data-dependent", PLACED, r#"{"matrix": "cauchy"}"#, 70),
    class("low_rank", "{}", r#"{"matrix": "low_rank", "data_dependent": false, "qk_dim": 64, "headdim": 64}"#, 71),
    class("low_rank, data-dependent", PLACED, r#"{"matrix": "low_rank"}"#, 70),
    class("attention", "{}", r#"{"matrix": "attention", "data_dependent": false, "qk_dim": 64, "headdim": 64}"#, 71),
    class("attention, data-dependent", PLACED, r#"{"matrix": "attention"}"#, 70),
    class(
        "quasiseparable",
        "{}",
        r#"{"matrix": "quasiseparable", "data_dependent": false, "qk_dim": 64, "headdim": 64}"#,
        72,
    ),
    class("quasiseparable, data-dependent", "{}", "{}", 71),
];
const WIDE: &str = r#"{"d_model": 800}"#;
const PLACED: &str = r#"{"positions": "learned"}"#;

const fn class(name: &'static str, model: &'static str, settings: &'static str, published: u64) -> Variation {
    Variation { name, model, settings, published }
}

/// Every preset, in the order they are listed.
pub fn all() -> &'static [Preset] {
    ALL
}

/// The preset of that name.
pub fn find(name: &str) -> Option<&'static Preset> {
    ALL.iter().find(|preset| preset.name == name)
}

fn map(json: &str) -> Map<String, Value> {
    serde_json::from_str(json).expect("a preset is written as JSON")
}

impl Preset {
    /// Its keys of `model`.
    pub fn model(&self) -> Map<String, Value> {
        map(self.model)
    }

    /// Settings of the mixer it was published with.
    pub fn settings(&self) -> Map<String, Value> {
        map(self.settings)
    }
}

impl Variation {
    /// The preset's model and mixer settings with what differs laid over them.
    pub fn over(&self, preset: &Preset) -> (Map<String, Value>, Map<String, Value>) {
        let (mut model, mut settings) = (preset.model(), preset.settings());
        model.extend(map(self.model));
        settings.extend(map(self.settings));
        (model, settings)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::model::ModelConfig;
    use crate::registry::Registry;

    #[test]
    fn a_preset_lies_below_every_key_that_is_written() {
        let registry = Registry::default();
        let text = "\
tasks: [mqar: { vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false }]
model: { preset: bert_small_cpu, head: plain, d_ff: 100 }
mixers:
  - attention
  - mixer: { hydra: { d_state: 4 } }
    model: { preset: hydra_cpu, n_layers: 3, head: ~ }
";
        let parse = |text: &str, sets: &[&str]| {
            let sets: Vec<String> = sets.iter().map(|s| s.to_string()).collect();
            Config::parse(text, "x.yaml", "x", &sets, &registry)
        };
        let config = parse(text, &[]).unwrap();
        let model = |at: usize| serde_json::to_value(&config.runs[at].model).unwrap();
        let (first, second) = (model(0), model(1));
        assert_eq!((first["d_model"].as_i64(), first["n_layers"].as_i64()), (Some(128), Some(4)));
        assert_eq!((first["d_ff"].as_i64(), first["norm_place"].as_str()), (Some(100), Some("post")));
        assert_eq!((second["block"].as_str(), second["n_layers"].as_i64()), (Some("hydra"), Some(3)));
        assert_eq!(second["positions"], "none", "the entry's preset stands in the place of the top's");
        assert_eq!(second["norm_place"], "post");
        assert!(first.get("preset").is_none() && second.get("preset").is_none());
        let written = find("bert_small_cpu").unwrap().model();
        let others = written.iter().filter(|(key, _)| !["head", "d_ff"].contains(&key.as_str()));
        let keys: Vec<String> = others.map(|(key, value)| format!("{key}: {value}")).collect();
        let spelt = text.replace("preset: bert_small_cpu", &keys.join(", "));
        let id = |config: &Config| config.runs[0].spec(&registry, 1, None).id();
        assert_eq!(id(&parse(&spelt, &[]).unwrap()), id(&config), "a preset is its keys: {spelt}");
        let set = parse(text, &["model.preset=bigs_cpu", "model.head=plain", "model.n_layers=1"]).unwrap();
        assert!(set.runs.iter().all(|run| run.model.n_layers == 1 && run.model.ffn == Some(crate::model::Ffn::None)));
        let grid = format!("{text}grid: {{ model.preset: [bert_small_cpu, bigs_cpu], model.head: [plain] }}\n");
        assert_eq!(parse(&grid, &[]).unwrap().runs.len(), 4);
    }

    #[test]
    fn an_unknown_preset_is_named_with_its_place_and_its_neighbour() {
        let text = "tasks: [mqar: { causal: false }]\nmodel: { preset: bert_bse }\nmixers: [attention]\n";
        let found = Config::parse(text, "x.yaml", "x", &[], &Registry::default()).unwrap_err();
        assert_eq!(found.lines(), ["x.yaml:2:18: unknown preset `bert_bse`"]);
        assert!(found.helps()[0].contains("did you mean `bert_base`?"), "{:?}", found.helps());
        let misspelt = text.replace("preset: bert_bse", "prset: bert_base");
        let found = Config::parse(&misspelt, "x.yaml", "x", &[], &Registry::default()).unwrap_err();
        assert!(found.helps()[0].contains("did you mean `preset`?"), "{:?}", found.helps());
        // What does not go with the task is blamed on the preset.
        let text = text.replace("bert_bse", "bert_small_cpu");
        let found = Config::parse(&text, "x.yaml", "x", &[], &Registry::default()).unwrap_err();
        assert!(found.lines()[0].starts_with("x.yaml:2:18: `head` is bert, but"), "{:?}", found.lines());
    }

    #[test]
    fn every_preset_is_a_model_that_can_be_built_and_a_mixer_that_accepts_it() {
        for preset in all() {
            let config: ModelConfig = serde_json::from_value(preset.model().into()).unwrap();
            assert!(config.check().is_empty(), "{}", preset.name);
            let registry = Registry::default();
            let mixer = registry.mixer(preset.mixer).unwrap();
            let settings = (mixer.resolve)(&map(preset.settings).into()).unwrap();
            let dims = config.dims(preset.length, false);
            assert_eq!(mixer.check(&settings, &dims), Vec::new(), "{}", preset.name);
        }
    }
}
