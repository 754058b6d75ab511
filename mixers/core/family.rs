//! What a mixer is to the rest: settings, checks, how to build it, and what is known of it.

use crate::core::limits;
use crate::laws::goldens::{Golden, GoldenError, Replay};
use crate::{ConfigError, Dims, Mixer};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tch::nn;

/// The block that a mixer's paper puts around it; blocks are the harness's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surroundings {
    /// A mixer and a feed-forward, each with its norm and its residual.
    Transformer,
    /// The mixer alone, with its norm and its residual.
    NoFfn,
    /// S4's.
    S4,
    /// BiGS's.
    Bigs,
    /// Hydra's.
    Hydra,
}

/// Whose released weights a mixer's parameters are those of, by name and shape. Around them the names are the harness's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    /// Nobody's: the names are ours.
    Nobody,
    /// BERT's attention.
    Bert,
    /// BiGS's layer.
    Bigs,
    /// Hydra's layer, or that of the matrix mixers in its repository.
    Hydra,
}

/// What the `config.json` beside a file of weights can say of a mixer, in the words of Hugging Face's models. `None`: this mixer has
/// no such thing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct LayerFacts {
    /// `model_type`.
    pub model_type: String,
    /// `num_attention_heads`.
    pub n_heads: Option<i64>,
    /// `head_dim`.
    pub d_head: Option<i64>,
    /// `num_ssm`: states of a channel.
    pub d_state: Option<i64>,
    /// The feed-forward that is part of the mixer, in place of the block's.
    pub ffn: Option<OwnFfn>,
}

/// A feed-forward that is part of a mixer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnFfn {
    /// `intermediate_size`.
    pub d_ff: i64,
    /// Whether its activation is the exact GELU, `hidden_act: gelu`.
    pub exact_gelu: bool,
}

impl LayerFacts {
    /// Of a mixer with `settings`: heads by its settings `n_heads` and `d_head`, the latter by default `d_model / n_heads`.
    pub fn of(model_type: &str, settings: &Value, d_model: i64) -> Self {
        let number = |key: &str| settings.get(key).and_then(Value::as_i64);
        let n_heads = number("n_heads");
        let d_head = n_heads.and_then(|heads| number("d_head").or_else(|| d_model.checked_div(heads)));
        Self { model_type: model_type.into(), n_heads, d_head, ..Self::default() }
    }
}

/// Rebuilds what a reference dump holds, from its parameters and inputs.
pub type ReplayFn = fn(&Golden) -> Result<Replay, GoldenError>;

/// A fixed comparison of `mixarena bench --targets` with an attention block of width 256 and 4 heads, batch 4.
#[derive(Clone, Debug)]
pub struct BenchTarget {
    /// As printed.
    pub label: &'static str,
    /// What is not at its default.
    pub settings: Value,
    /// Width and batch at length 1,024.
    pub size: [i64; 2],
    /// The ratio in time to keep at length 1,024; `None` for what the others are compared with.
    pub time: Option<f64>,
    /// The ratio of the paper's code.
    pub reference: Option<f64>,
}

/// A mixer's settings and how to build it: implemented by the `Config` of each mixer file.
///
/// Every field has a default, unknown fields are refused (`#[serde(deny_unknown_fields, default)]`), and a field's doc
/// comment gives its unit and the paper's section.
pub trait Family: Default + Serialize + DeserializeOwned + JsonSchema + 'static {
    /// The key in a config: `mixer: { s4: {…} }`.
    const NAME: &'static str;
    /// One line for `mixarena list mixers`.
    const ABOUT: &'static str;
    /// Authors, year, arXiv number and section.
    const PAPER: &'static str;
    /// Time and training memory of one sequence: `O(length² · d_model)`.
    const COMPLEXITY: &'static str;
    /// Raised whenever the same settings give other numbers; part of a run's identity.
    const VERSION: u32;
    /// Width of the published model whose initial values these are. Constant deviations are right at this width and travel from it
    /// ([`crate::deviation`]).
    const WIDTH: i64;
    /// The block that the paper puts around the mixer.
    const BLOCK: Surroundings = Surroundings::Transformer;
    /// Whose released weights can be read.
    const RELEASED: Released = Released::Nobody;
    /// Settings that change nothing of what given weights compute outside of training; weights may come from a model with others.
    const TRAINING_ONLY: &'static [&'static str] = &["dropout"];
    /// What a `config.json` beside its weights says of it at width `d_model`. The default suits mixers whose heads are their settings
    /// `n_heads` and `d_head`.
    fn facts(&self, d_model: i64) -> LayerFacts {
        LayerFacts::of(Self::NAME, &json!(self), d_model)
    }
    /// Settings besides the defaults that the laws are tried on, each a few keys: one for every switch that changes the
    /// computation. The laws add small sizes.
    fn variants() -> Vec<Value> {
        Vec::new()
    }
    /// Settings that fit a width of 8 or 16 and keep tests quick; what is not said is default.
    fn small() -> Value {
        json!({})
    }
    /// Families of reference dumps (the part of a file's name before `__`) and what replays them.
    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[]
    }
    /// What this mixer is held to in `mixarena bench --targets`.
    fn targets() -> Vec<BenchTarget> {
        Vec::new()
    }
    /// Parameters, by the last part of their name, and values that bring the strongest decay (or the largest logits) a run
    /// could reach: a law looks for NaN there, in values and gradients, in float32.
    fn extremes() -> Vec<(&'static str, f64)> {
        Vec::new()
    }
    /// Variants, as [`Family::variants`] has them or `{}`, whose output does not keep its size from width to width, each with the
    /// reason. A law over the registry (`harness/laws/coordinates.rs`) holds every other one to a factor of 3, and these to their word.
    fn unsteady() -> Vec<(Value, &'static str)> {
        Vec::new()
    }
    /// Whether weights that were trained on sequences of up to `from` positions (`None`: nobody knows) can go on with the same
    /// settings at `dims`, once [`Mixer::adopt`] has converted them; the error says what to do. The default suits mixers in
    /// which no parameter and no scale depends on the length.
    fn carries(&self, _from: Option<i64>, _dims: &Dims) -> Result<(), ConfigError> {
        Ok(())
    }
    /// Numbers that a layer with these settings consists of, roughly and not too few: what a machine must hold to build one. A law
    /// holds it to the true count. A float, for it is asked before the settings are known to be sane.
    fn scalars(&self, dims: &Dims) -> f64;
    /// Everything wrong with these settings, empty when they can be built. No whole number is beyond its limit
    /// ([`crate::core::limits`]), so that products of two of them fit.
    fn check(&self, dims: &Dims) -> Vec<ConfigError>;
    /// Parameters are created under `vs` with the reference's names. Called only after `check` found nothing.
    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer>;
}

/// One registered mixer, its types erased.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    /// [`Family::NAME`].
    pub name: &'static str,
    /// [`Family::ABOUT`].
    pub about: &'static str,
    /// [`Family::PAPER`].
    pub paper: &'static str,
    /// [`Family::COMPLEXITY`].
    pub complexity: &'static str,
    /// [`Family::VERSION`].
    pub version: u32,
    /// [`Family::WIDTH`].
    pub width: i64,
    /// [`Family::BLOCK`].
    pub block: Surroundings,
    /// [`Family::RELEASED`].
    pub released: Released,
    /// [`Family::TRAINING_ONLY`].
    pub training_only: &'static [&'static str],
    /// The default settings as a JSON object: its keys are the fields there are.
    pub defaults: fn() -> Value,
    /// What each field means and may be, as a JSON schema made from its doc comments.
    pub schema: fn() -> Value,
    /// [`Family::variants`].
    pub variants: fn() -> Vec<Value>,
    /// [`Family::small`].
    pub small: fn() -> Value,
    /// [`Family::replays`].
    pub replays: fn() -> &'static [(&'static str, ReplayFn)],
    /// [`Family::targets`].
    pub targets: fn() -> Vec<BenchTarget>,
    /// [`Family::extremes`].
    pub extremes: fn() -> Vec<(&'static str, f64)>,
    /// [`Family::unsteady`].
    pub unsteady: fn() -> Vec<(Value, &'static str)>,
    /// Whether `settings` has the right types; the error is serde's.
    pub accepts: fn(&Value) -> Result<(), serde_json::Error>,
    /// `settings` with every default filled in and numbers in their field's type, so that equal settings hash equally.
    pub resolve: fn(&Value) -> Result<Value, serde_json::Error>,
    carries: fn(&Value, Option<i64>, &Dims) -> Result<(), ConfigError>,
    check: fn(&Value, &Dims) -> Vec<ConfigError>,
    facts: fn(&Value, i64) -> LayerFacts,
    scalars: fn(&Value, &Dims) -> f64,
    build: fn(&Value, &nn::Path, &Dims) -> Box<dyn Mixer>,
}

impl Entry {
    /// The entry of one family.
    pub fn of<F: Family>() -> Self {
        fn parse<F: Family>(settings: &Value) -> Result<F, serde_json::Error> {
            F::deserialize(settings)
        }
        fn typed<F: Family>(settings: &Value) -> F {
            parse(settings).expect("settings were accepted when the config was loaded")
        }
        Self {
            name: F::NAME,
            about: F::ABOUT,
            paper: F::PAPER,
            complexity: F::COMPLEXITY,
            version: F::VERSION,
            width: F::WIDTH,
            block: F::BLOCK,
            released: F::RELEASED,
            training_only: F::TRAINING_ONLY,
            small: F::small,
            replays: F::replays,
            targets: F::targets,
            schema: || schemars::schema_for!(F).to_value(),
            variants: F::variants,
            extremes: F::extremes,
            unsteady: F::unsteady,
            defaults: || serde_json::to_value(F::default()).expect("settings are plain data"),
            accepts: |settings| parse::<F>(settings).map(drop),
            resolve: |settings| serde_json::to_value(parse::<F>(settings)?),
            carries: |settings, from, dims| typed::<F>(settings).carries(from, dims),
            check: |settings, dims| {
                let beyond = limits::beyond(settings, dims);
                if !beyond.is_empty() {
                    return beyond;
                }
                let family = typed::<F>(settings);
                let found = family.check(dims);
                if found.is_empty() {
                    limits::too_many(F::NAME, family.scalars(dims)).into_iter().collect()
                } else {
                    found
                }
            },
            facts: |settings, d_model| typed::<F>(settings).facts(d_model),
            scalars: |settings, dims| typed::<F>(settings).scalars(dims),
            build: |settings, vs, dims| typed::<F>(settings).build(vs, dims),
        }
    }

    /// Everything wrong with `settings`, which must have been accepted.
    pub fn check(&self, settings: &Value, dims: &Dims) -> Vec<ConfigError> {
        (self.check)(settings, dims)
    }

    /// [`Family::carries`] of `settings`, which must have passed [`Entry::check`].
    pub fn carries(&self, settings: &Value, from: Option<i64>, dims: &Dims) -> Result<(), ConfigError> {
        (self.carries)(settings, from, dims)
    }

    /// [`Family::facts`]; `settings` must have been accepted.
    pub fn facts(&self, settings: &Value, d_model: i64) -> LayerFacts {
        (self.facts)(settings, d_model)
    }

    /// [`Family::scalars`]; `settings` must have been accepted.
    pub fn scalars(&self, settings: &Value, dims: &Dims) -> f64 {
        (self.scalars)(settings, dims)
    }

    /// Builds the mixer under `vs`; `settings` must have passed [`Entry::check`].
    pub fn build(&self, settings: &Value, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        (self.build)(settings, vs, dims)
    }
}
