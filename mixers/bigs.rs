//! BiGS: a gated unit whose gate reads the sequence through two state spaces, one from each end.
//!
//! ```text
//! v = σ(W_v h)                                 d → f
//! a = W_a SSM_f(σ(W_uf h))                     d → d, position t reads s ≤ t
//! b = W_b SSM_b(σ(W_ub h))                     d → d, position t reads s ≥ t
//! y = W_o (σ(W_l (a ⊙ b)) ⊙ v)                 d → f → d;  σ = GELU, every map with a bias
//! SSM:  y = K * u + D u,   K[l] = Re Σ_n C_n (e^{dt A_n} - 1)/A_n e^{l dt A_n}     one kernel for all channels
//! ```
//! Paper    Wang et al. 2022, arXiv:2212.10544, §3-4
//! Time     O(length · (d_model · d_ff + d_model · log length) + d_state · length)
//! Memory   O(length · (d_model + d_ff)) to train: what enters each map and each σ, no spectra; one-directional, a state of
//!          O(d_model · d_state) to decode
//! Matches  jxiw/BiGS `96fa408`, the PyTorch port (dumps `bigs_kernel`, `bigs_ssm`, `bigs_layer`, `bigs_mlm`), parameter
//!          names included
//! Departs  - LayerNorm and residual of the reference layer are the backbone's; `bigs_layer` is replayed with both, and
//!            [`mlm::MaskedLm`] is the reference's whole encoder.
//!          - Padding: the reference does not mask inside its layers, so what stands in the padding changes valid
//!            positions through SSM_b. Here `mask_padding` (on unless switched off) zeroes what both SSMs read there; a
//!            valid position then does not depend on padding. Without padding both are the same.
//!          - `directions: one` is not in the paper: a alone opens the gate, the maps and the state space of b are not there,
//!            and the layer is causal.
//!          - Stacked: jxiw/transformers `eb48b53` (`modeling_flax_s4.py`, `FlaxS4Layer`) concatenates [SSM_f; SSM_b] and goes
//!            straight into the feed-forward, under one norm and one residual. W (2d → d) and the residual around it are ours.
//!
//! The paper's ablation, `layer` × `routing`; none of it but gated/ssm is in the reference's repository:
//! ```text
//! gated    ssm        the formula above
//!          attention  a ⊙ b becomes Attention(σ(W_uf h))       no code found; our reading of GATED/attention in §3-4
//!          none       SSM_f and SSM_b become the identity
//! stacked  ssm        y = W [SSM_f(h); SSM_b(h)]               after the first author's code, see Departs
//!          attention  y = Attention(h)                         the Transformer's
//!          none       y = W h
//! ```
//! The feed-forward of the stacked layout, with its residual and norm, is the backbone's (`ffn: mlp`).
//!
//! Two codes, `init`. The official one is JAX: A from HiPPO-LegS, D = 1, the tanh form of GELU; pretraining is a script of
//! that code, and its fine-tuned GLUE runs (MNLI 86.5 at length 512) are the better of the two published in the
//! repository. The PyTorch port starts from S4D-Lin and D ~ N(0, 1), has the exact GELU, and is what the dumps hold; its
//! fine-tuned GLUE runs (MNLI 86.0 at length 128) are in the repository too.
//!
//! Decay    The reference decays every parameter but biases and norms, A, C, D and log_step included, at the full learning
//!          rate, though a comment of the official code promises lr 0.001 and none: `ssm_rule`. A run of this harness
//!          decays matrices only unless its optimizer or a rule says otherwise, so of these C alone; what was done is
//!          `optimizer: { decayed: weights }`, or `ssm_weight_decay: 0.05` for these four.

mod conv;
mod fft;
mod gate;
mod gated;
pub mod mlm;
mod replay;
mod ssm;
mod stacked;

#[cfg(test)]
mod tests;

use crate::core::family::{BenchTarget, LayerFacts, OwnFfn, Released, ReplayFn, Surroundings};
use crate::math::hippo;
use crate::{
    ConfigError, Context, Dims, Family, Linear, Mixer, ParamRule, at_least, at_most, attention, between, deviation,
    divides,
};
use conv::Side;
use gated::Gated;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use stacked::{Attending, Stacked};
use tch::{Tensor, nn};

/// `mixer: { bigs: { d_state: 64 } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `gated` (BiGS) or `stacked` (the routing of a Transformer layout; give the model a feed-forward).
    pub layer: Layer,
    /// How the layer reads the sequence: `ssm` (BiGS), `attention`, or `none`, which reads nothing but its own position.
    pub routing: Routing,
    /// `two` reads from both ends; `one` from the start only, as a causal task needs.
    pub directions: Directions,
    /// Width of the gate (f). Null is 3 d_model, as in the published models.
    pub d_ff: Option<i64>,
    /// Heads of `routing: attention`; must divide `d_model`.
    pub n_heads: i64,
    /// Complex modes of each state space (N), at most 1024; they do not come in conjugate pairs.
    pub d_state: i64,
    /// `port` (PyTorch: A by S4D-Lin, D ~ N(0, 1), exact GELU) or `official` (JAX: A by HiPPO, D = 1, GELU by tanh).
    pub init: Init,
    /// Where Im A starts under `init: official`: `hippo`, `lin` or `inv`. Null is `hippo`, and `lin` for the port.
    pub scaling: Option<Scaling>,
    /// Least initial step dt, in units of a position; dt is drawn log-uniformly, once per direction.
    pub dt_min: f64,
    /// Largest initial step dt.
    pub dt_max: f64,
    /// Let no position read what stands in the padding. The reference does read it.
    pub mask_padding: bool,
    /// How A, C, D and log_step are trained: `done` as the reference trained them, at the run's learning rate and
    /// `ssm_weight_decay`; `promised` as a comment of the official code says, A and log_step at 0.001 without decay; `frozen`
    /// not at all, as the reference's fine-tuning with a frozen kernel.
    pub ssm_rule: SsmRule,
    /// Weight decay of A, C, D and log_step under `ssm_rule: done`. Null leaves them to the run, which decays matrices only (C) by default;
    /// the reference decayed all four like everything else, at 0.05.
    pub ssm_weight_decay: Option<f64>,
}

/// The layout around the routing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Layer {
    /// A gated unit, no feed-forward needed.
    Gated,
    /// The routing alone.
    Stacked,
}

/// What moves information along the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Routing {
    /// A state space from each end.
    Ssm,
    /// Softmax attention.
    Attention,
    /// Nothing does.
    None,
}

/// The ends the sequence is read from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Directions {
    /// The start.
    One,
    /// Both.
    Two,
}

/// Which of the two codes is followed where they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Init {
    /// The PyTorch port.
    Port,
    /// The JAX code.
    Official,
}

/// Where Im A starts; Re A starts at -½ always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scaling {
    /// All N eigenvalues of the normal part of HiPPO-LegS.
    Hippo,
    /// π n.
    Lin,
    /// (N/π)(N/(2n+1) - 1).
    Inv,
}

/// How the state spaces' own parameters are trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SsmRule {
    /// Like the rest.
    Done,
    /// Slowly, without decay.
    Promised,
    /// Not at all.
    Frozen,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            layer: Layer::Gated,
            routing: Routing::Ssm,
            directions: Directions::Two,
            d_ff: None,
            n_heads: 4,
            d_state: 64,
            init: Init::Port,
            scaling: None,
            dt_min: 0.01,
            dt_max: 1.0,
            mask_padding: true,
            ssm_rule: SsmRule::Done,
            ssm_weight_decay: None,
        }
    }
}

impl Family for Config {
    const NAME: &'static str = "bigs";
    const ABOUT: &'static str =
        "bidirectional gated state spaces: the product of a forward and a backward SSM as a gate";
    const PAPER: &'static str = "Wang et al. 2022, arXiv:2212.10544, §3";
    const COMPLEXITY: &'static str = "time O(d_model · length · log length), memory O(length · d_ff)";
    const VERSION: u32 = 2;
    /// BERT-base's, with which its deviation of 0.02 came (Devlin et al. 2019, arXiv:1810.04805, §3).
    const WIDTH: i64 = 768;
    const BLOCK: Surroundings = Surroundings::Bigs;
    const RELEASED: Released = Released::Bigs;
    const TRAINING_ONLY: &'static [&'static str] = &["ssm_rule", "ssm_weight_decay", "dt_min", "dt_max"];

    fn facts(&self, d_model: i64) -> LayerFacts {
        let heads = (self.routing == Routing::Attention).then(|| LayerFacts::of("", &json!(self), d_model));
        let d_ff = self.d_ff.unwrap_or(3 * d_model);
        LayerFacts {
            model_type: "BiGS".into(),
            d_state: Some(self.d_state),
            ffn: Some(OwnFfn { d_ff, exact_gelu: self.init == Init::Port }),
            ..heads.unwrap_or_default()
        }
    }

    fn small() -> Value {
        json!({ "d_state": 4, "n_heads": 2 })
    }

    fn replays() -> &'static [(&'static str, ReplayFn)] {
        &[
            ("bigs_kernel", replay::kernel),
            ("bigs_layer", replay::layer),
            ("bigs_mlm", replay::masked_lm),
            ("bigs_ssm", replay::ssm),
        ]
    }

    fn variants() -> Vec<Value> {
        vec![
            json!({ "mask_padding": false }),
            json!({ "directions": "one" }),
            json!({ "init": "official" }),
            json!({ "init": "official", "scaling": "inv" }),
            json!({ "ssm_rule": "promised" }),
            json!({ "ssm_rule": "frozen" }),
            json!({ "ssm_weight_decay": 0.05 }),
            json!({ "routing": "attention" }),
            json!({ "routing": "attention", "directions": "one" }),
            json!({ "routing": "none" }),
            json!({ "routing": "none", "directions": "one" }),
            json!({ "layer": "stacked" }),
            json!({ "layer": "stacked", "directions": "one" }),
            json!({ "layer": "stacked", "mask_padding": false }),
            json!({ "layer": "stacked", "routing": "attention" }),
            json!({ "layer": "stacked", "routing": "attention", "directions": "one" }),
            json!({ "layer": "stacked", "routing": "none" }),
            json!({ "layer": "stacked", "routing": "none", "directions": "one" }),
        ]
    }

    fn extremes() -> Vec<(&'static str, f64)> {
        vec![("A_re", -1e4), ("log_step", 4.0)]
    }

    fn targets() -> Vec<BenchTarget> {
        vec![BenchTarget {
            label: "bigs",
            settings: json!({ "d_ff": 768, "d_state": 64 }),
            size: [256, 4],
            time: Some(1.05),
            reference: Some(1.35),
        }]
    }

    fn scalars(&self, dims: &Dims) -> f64 {
        let [d, gate, modes] = [dims.d_model, self.d_ff(dims), self.d_state].map(|n| n as f64);
        let ends = if self.both() { 2.0 } else { 1.0 };
        let maps = match self.layer {
            Layer::Gated => 3.0 * d * gate + 2.0 * gate + d + ends * 2.0 * d * (d + 1.0),
            Layer::Stacked => ends * d * d + d,
        };
        let attention = if self.routing == Routing::Attention { 4.0 * d * (d + 1.0) } else { 0.0 };
        maps + ends * (4.0 * modes + 2.0) + attention
    }

    fn check(&self, dims: &Dims) -> Vec<ConfigError> {
        let attends = self.routing == Routing::Attention;
        let checks = [
            self.check_direction(dims),
            self.check_gate(),
            self.check_scaling(),
            self.check_decay(),
            at_least("d_ff", self.d_ff(dims), 1),
            at_least("d_state", self.d_state, 1),
            at_most("d_state", self.d_state, hippo::MOST_STATES),
            if attends { divides("n_heads", self.n_heads, "d_model", dims.d_model) } else { Ok(()) },
            between("dt_max", self.dt_max, 1e-6, 1e4),
            between("dt_min", self.dt_min, 1e-6, self.dt_max.max(1e-6)),
            self.ssm_weight_decay.map_or(Ok(()), |decay| between("ssm_weight_decay", decay, 0.0, 1e3)),
        ];
        checks.into_iter().filter_map(Result::err).collect()
    }

    fn build(&self, vs: &nn::Path, dims: &Dims) -> Box<dyn Mixer> {
        match (self.layer, self.routing) {
            (Layer::Gated, _) => Box::new(Gated::new(vs, dims, self)),
            (Layer::Stacked, Routing::Attention) => {
                let attention = self.attention().build(&(vs / "attention"), &self.view(dims));
                Box::new(Attending { attention, cfg: self.clone() })
            }
            (Layer::Stacked, _) => Box::new(Stacked::new(vs, dims, self)),
        }
    }
}

impl Config {
    fn check_direction(&self, dims: &Dims) -> Result<(), ConfigError> {
        if !(dims.causal && self.both()) {
            return Ok(());
        }
        let problem = "`bigs` reads the sequence from both ends, but the task is causal".into();
        let help = "set `directions: one`, or `causal: false` on the task, or leave this mixer out".into();
        Err(ConfigError { key: "directions", problem, help })
    }

    fn check_gate(&self) -> Result<(), ConfigError> {
        if self.layer == Layer::Gated || self.d_ff.is_none() {
            return Ok(());
        }
        let problem = "`d_ff` is the width of the gate, and `layer: stacked` has none".into();
        Err(ConfigError {
            key: "d_ff",
            problem,
            help: "leave it out; the model's own `d_ff` is the feed-forward's".into(),
        })
    }

    fn check_scaling(&self) -> Result<(), ConfigError> {
        if self.init == Init::Official || matches!(self.scaling, None | Some(Scaling::Lin)) {
            return Ok(());
        }
        let problem = "`init: port` starts from `scaling: lin` only".into();
        Err(ConfigError { key: "scaling", problem, help: "set `init: official`, or leave `scaling` out".into() })
    }

    fn check_decay(&self) -> Result<(), ConfigError> {
        if self.ssm_rule == SsmRule::Done || self.ssm_weight_decay.is_none() {
            return Ok(());
        }
        let problem = "`ssm_weight_decay` is given, but this `ssm_rule` decides the decay itself".into();
        Err(ConfigError { key: "ssm_weight_decay", problem, help: "leave it out, or set `ssm_rule: done`".into() })
    }

    fn d_ff(&self, dims: &Dims) -> i64 {
        self.d_ff.unwrap_or(GATE * dims.d_model)
    }

    fn both(&self) -> bool {
        self.directions == Directions::Two
    }

    /// The ends that are read.
    fn sides(&self) -> &'static [Side] {
        if self.both() { &[Side::Past, Side::Future] } else { &[Side::Past] }
    }

    /// `approximate` of libtorch's GELU.
    fn gelu(&self) -> &'static str {
        match self.init {
            Init::Port => "none",
            Init::Official => "tanh",
        }
    }

    fn scaling(&self) -> Scaling {
        self.scaling.unwrap_or(match self.init {
            Init::Port => Scaling::Lin,
            Init::Official => Scaling::Hippo,
        })
    }

    fn attention(&self) -> attention::Config {
        attention::Config { n_heads: self.n_heads, ..Default::default() }
    }

    /// What attention may see: with one direction only the past.
    fn view(&self, dims: &Dims) -> Dims {
        Dims { causal: !self.both(), ..*dims }
    }

    /// The context a routing gets: without lengths it reads the padding.
    fn seen(&self, ctx: &Context) -> Context {
        let lengths = ctx.lengths.as_ref().filter(|_| self.mask_padding).map(Tensor::shallow_clone);
        Context { train: ctx.train, lengths, ..Context::default() }
    }

    /// Padding lies on the right, in the future of every valid position.
    fn reads_padding(&self) -> Option<&'static str> {
        let reads = !self.mask_padding && self.both() && self.routing != Routing::None;
        reads.then_some(
            "`mask_padding` is off: the reference masks nothing, and what is read from the end starts in the padding",
        )
    }

    fn ssm_rules(&self) -> Vec<ParamRule> {
        let (names, lr, weight_decay): (&[&str], _, _) = match self.ssm_rule {
            _ if self.routing != Routing::Ssm => return Vec::new(),
            SsmRule::Done if self.ssm_weight_decay.is_none() => return Vec::new(),
            SsmRule::Done => (&SSM_PARAMETERS, None, self.ssm_weight_decay),
            SsmRule::Promised => (&["kernel.A_re", "kernel.A_im", "kernel.log_step"], Some(0.001), Some(0.0)),
            SsmRule::Frozen => (&SSM_PARAMETERS, Some(0.0), Some(0.0)),
        };
        let rule = |side: &Side, name| ParamRule { name: format!("{}.{name}", side.name()), lr, weight_decay };
        self.sides().iter().flat_map(|side| names.iter().map(move |name| rule(side, name))).collect()
    }
}

/// Width of the published gate, in widths of the model.
const GATE: i64 = 3;

/// Of one state space.
const SSM_PARAMETERS: [&str; 5] = ["kernel.A_re", "kernel.A_im", "kernel.C", "kernel.log_step", "D"];

impl Side {
    /// The reference's name of a state space.
    fn name(self) -> &'static str {
        match self {
            Self::Past => "fs4",
            Self::Future => "bs4",
        }
    }

    /// The end of the reference's names of maps.
    fn word(self) -> &'static str {
        match self {
            Self::Past => "forward",
            Self::Future => "backward",
        }
    }
}

/// A map as the reference starts it at the width of its model, where it has `reference` inputs: N(0, 0.02), bias 0.
fn dense(vs: &nn::Path, [d_in, d_out]: [i64; 2], reference: i64) -> Linear {
    let ws_init = nn::Init::Randn { mean: 0.0, stdev: deviation(0.02, reference, d_in) };
    Linear::new(vs, d_in, d_out, nn::LinearConfig { ws_init, bs_init: Some(nn::Init::Const(0.0)), bias: true })
}
