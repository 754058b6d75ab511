//! The list of mixers. A new one is a file and a line here; a crate of the user's own adds entries at run time.

use crate::{ConfigError, Dims, Mixer, core::limits};
use schemars::JsonSchema;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use tch::nn;

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
    /// Settings besides the defaults that the laws are tried on, each a few keys: one for every switch that changes the
    /// computation. The laws add small sizes.
    fn variants() -> Vec<Value> {
        Vec::new()
    }
    /// Parameters, by the last part of their name, and values that bring the strongest decay (or the largest logits) a run
    /// could reach: a law looks for NaN there, in values and gradients, in float32.
    fn extremes() -> Vec<(&'static str, f64)> {
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
    /// The default settings as a JSON object: its keys are the fields there are.
    pub defaults: fn() -> Value,
    /// What each field means and may be, as a JSON schema made from its doc comments.
    pub schema: fn() -> Value,
    /// [`Family::variants`].
    pub variants: fn() -> Vec<Value>,
    /// [`Family::extremes`].
    pub extremes: fn() -> Vec<(&'static str, f64)>,
    /// Whether `settings` has the right types; the error is serde's.
    pub accepts: fn(&Value) -> Result<(), serde_json::Error>,
    /// `settings` with every default filled in and numbers in their field's type, so that equal settings hash equally.
    pub resolve: fn(&Value) -> Result<Value, serde_json::Error>,
    carries: fn(&Value, Option<i64>, &Dims) -> Result<(), ConfigError>,
    check: fn(&Value, &Dims) -> Vec<ConfigError>,
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
            schema: || schemars::schema_for!(F).to_value(),
            variants: F::variants,
            extremes: F::extremes,
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

    /// [`Family::scalars`]; `settings` must have been accepted.
    pub fn scalars(&self, settings: &Value, dims: &Dims) -> f64 {
        (self.scalars)(settings, dims)
    }

    /// Builds the mixer under `vs`; `settings` must have passed [`Entry::check`].
    pub fn build(&self, settings: &Value, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        (self.build)(settings, vs, dims)
    }
}

/// Every mixer of this crate.
pub fn registry() -> Vec<Entry> {
    vec![
        Entry::of::<crate::attention::Config>(),
        Entry::of::<crate::combiner::Config>(),
        Entry::of::<crate::s4::Config>(),
        Entry::of::<crate::s4::minimal::Config>(),
        Entry::of::<crate::bigs::Config>(),
        Entry::of::<crate::hydra::Config>(),
        Entry::of::<crate::matrix_mixer::Config>(),
        Entry::of::<crate::mamba2::Config>(),
        Entry::of::<crate::linear_attention::Config>(),
        Entry::of::<crate::lstm::Config>(),
        Entry::of::<crate::gru::Config>(),
        Entry::of::<crate::deltanet::Config>(),
        Entry::of::<crate::sliding_window::Config>(),
    ]
}
