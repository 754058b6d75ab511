//! Self-pretraining: before the task itself, its own training inputs without their labels.
//!
//! ```text
//! mlm   k = round(mask_rate · n) of a document's n positions are masked (k ≥ 1); the model predicts each from the rest
//! clm   the model predicts position t + 1 from positions 0 … t
//! loss  mean cross-entropy over the predicted positions, in nats; a class is a token of the task's vocabulary
//! ```
//! Paper    Amos, Berant and Gupta 2024, "Never Train from Scratch" (ICLR)
//! After    encoder, blocks and norms are kept; the task's head has its first values, the optimizer starts anew
//! Departs  a hidden position's input vector is one learned vector, always: nothing is left as it was or swapped for a
//!          random token, for the inputs of these tasks have no mask token and images no words. The count of hidden
//!          positions is exact, not drawn. A grey value is predicted as one of the vocabulary's classes even where it is read
//!          as a real number
//!
//! Under `clm` mixers are causal in both stages, so that the second finds the parameters of the first.

use crate::model::{Hidden, ModelConfig, dense_flops};
use crate::train::optimizer::OptimizerConfig;
use crate::train::schedule::{ScheduleConfig, Shape};
use crate::train::seeds::{Purpose, reseed};
use mixers::{Linear, linear};
use serde::{Deserialize, Serialize};
use tasks::core::rng::{self, Stream};
use tasks::{Batch, Input, Outline, Targets, TaskSpec};
use tch::nn::{self, VarStore};
use tch::{Device, Kind, Reduction, Tensor};

/// Self-supervised objective.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Objective {
    /// None: the task is learned from scratch.
    #[default]
    None,
    /// Masked language modelling: masked positions are predicted from all others.
    Mlm,
    /// Causal language modelling: each position is predicted from those before it.
    Clm,
}

impl Objective {
    /// As it is written in a config.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Mlm => "mlm",
            Self::Clm => "clm",
        }
    }
}

/// A stage before the task, on its own training inputs without labels: `pretrain: mlm`, or
/// `pretrain: { objective: mlm, steps: 500 }`. Batches are as large as the task's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PretrainConfig {
    /// Self-supervised objective.
    pub objective: Objective,
    /// Optimizer steps, before those of the budget.
    pub steps: u64,
    /// Share of a document's positions that mlm masks; `null`: 0.5 of real-valued inputs, 0.15 of tokens. The paper hides
    /// 0.5 of images however they are read, 0.15 of Text and Retrieval, 0.1 of ListOps.
    pub mask_rate: Option<f64>,
    /// Peak learning rate; `null`: the optimizer's.
    pub lr: Option<f64>,
    /// Steps over which the rate rises; `null`: the same share of the steps as in the schedule, and as many as there under
    /// `inverse_sqrt`, whose peak depends on them.
    pub warmup_steps: Option<u64>,
}

impl Default for PretrainConfig {
    fn default() -> Self {
        Self { objective: Objective::None, steps: 500, mask_rate: None, lr: None, warmup_steps: None }
    }
}

impl PretrainConfig {
    /// The same with every `null` replaced by what it means in a run; `None` where nothing is pretrained, however written.
    pub(super) fn resolved(
        &self,
        input: Input,
        optimizer: &OptimizerConfig,
        schedule: &ScheduleConfig,
        steps: u64,
    ) -> Option<Self> {
        let usual = match input {
            Input::Tokens => 0.15,
            Input::Reals { .. } => 0.5,
        };
        let mask_rate = match self.objective {
            Objective::None => return None,
            Objective::Mlm => Some(self.mask_rate.unwrap_or(usual)),
            Objective::Clm => None,
        };
        let warmup = self.warmup_steps.unwrap_or_else(|| match schedule.shape {
            Shape::InverseSqrt => schedule.warmup_steps,
            _ => (u128::from(schedule.warmup_steps) * u128::from(self.steps) / u128::from(steps.max(1))) as u64,
        });
        Some(Self {
            mask_rate,
            lr: Some(self.lr.unwrap_or(optimizer.lr)),
            warmup_steps: Some(warmup.min(self.steps)),
            ..self.clone()
        })
    }

    /// `optimizer` with the learning rate of this stage.
    pub fn optimizer(&self, optimizer: &OptimizerConfig) -> OptimizerConfig {
        OptimizerConfig { lr: self.lr.unwrap_or(optimizer.lr), ..optimizer.clone() }
    }

    /// The factor for the update that follows `step` finished ones: `schedule` over the steps of this stage. `lr` is the
    /// optimizer's rate, the peak where this stage has none of its own.
    pub fn factor(&self, schedule: &ScheduleConfig, lr: f64, step: u64) -> f64 {
        let warmup_steps = self.warmup_steps.unwrap_or(schedule.warmup_steps);
        let own = ScheduleConfig { warmup_steps, cycle_steps: None, ..schedule.clone() };
        own.factor(step, self.steps, self.lr.unwrap_or(lr))
    }

    /// How many of `n` positions are predicted.
    fn predicted(&self, n: i64) -> i64 {
        match self.mask_rate {
            Some(rate) => ((rate * n as f64).round() as i64).clamp(1, n),
            None => n - 1,
        }
    }

    /// FLOPs of one forward pass on one example whose sequences have `length`; `mixer` are those of one mixer on one
    /// sequence.
    pub fn forward_flops(&self, model: &ModelConfig, length: i64, mixer: i64, outline: &Outline, vocab: i64) -> f64 {
        let documents = outline.documents as f64;
        let mixers = documents * model.n_layers as f64 * mixer as f64;
        let head = documents * dense_flops(self.predicted(length), model.d_model, vocab);
        mixers + model.trunk_flops(length, outline) + head
    }
}

/// The task as a run's models see it: causal under `clm`, in both stages.
pub fn seen(task: TaskSpec, pretrain: Option<&PretrainConfig>) -> TaskSpec {
    let causal = task.causal || pretrain.is_some_and(|p| p.objective == Objective::Clm);
    TaskSpec { causal, ..task }
}

/// What is to be predicted of a batch. Positions are `row · length + position`, rising.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Question {
    /// Where the answer is read off.
    at: Vec<i64>,
    /// The token there (mlm), or after it (clm).
    classes: Vec<i64>,
}

impl Question {
    /// About batch `step` of the run with `seed`; padding is never predicted, nor is anything predicted from it.
    fn new(config: &PretrainConfig, batch: &Batch, seed: u64, step: u64) -> Self {
        let mut stream = Stream::new(seed, rng::Purpose::MASK, step);
        let (mut at, mut classes) = (Vec::new(), Vec::new());
        for (row, &n) in batch.lengths.iter().enumerate() {
            let start = (row * batch.length) as i64;
            let ahead = i64::from(config.mask_rate.is_none());
            let mut positions: Vec<i64> = match config.mask_rate {
                Some(_) => stream.distinct(config.predicted(n) as usize, n as usize),
                None => (0..config.predicted(n)).collect(),
            };
            positions.sort_unstable();
            classes.extend(positions.iter().map(|t| batch.tokens[(start + t + ahead) as usize]));
            at.extend(positions.iter().map(|t| start + t));
        }
        Self { at, classes }
    }
}

/// The first stage of a run: what it trains besides the model.
#[derive(Debug)]
pub struct Stage {
    /// Which objective, for how long.
    pub config: PretrainConfig,
    vs: VarStore,
    mask: Option<Tensor>,
    head: Linear,
    seed: u64,
}

impl Stage {
    /// A fresh mask vector (mlm) and head for the run with `seed`; `config` must be resolved.
    pub fn new(config: &PretrainConfig, model: &ModelConfig, task: &TaskSpec, seed: u64, device: Device) -> Self {
        reseed(seed, Purpose::Init, 1);
        let vs = VarStore::new(device);
        let root = vs.root() / "pretrain";
        let normal = nn::Init::Randn { mean: 0.0, stdev: model.table_std() };
        let mask = config.mask_rate.map(|_| root.var("mask", &[model.d_model], normal));
        let _building = model.precision.building();
        let head = linear(&(&root / "head"), model.d_model, task.vocab_size, true);
        Self { config: config.clone(), vs, mask, head, seed }
    }

    /// The variables of this stage alone.
    pub fn store(&self) -> &VarStore {
        &self.vs
    }

    /// What the optimizer of this stage trains: its own variables, and the model `vs` without the task's head.
    pub fn trained(&self, vs: &VarStore) -> Vec<(String, Tensor)> {
        let body = vs.variables().into_iter().filter(|(name, _)| !name.starts_with("head."));
        body.chain(self.vs.variables()).collect()
    }

    /// Batch `step` with every document an example, with what is to be predicted of it as its targets.
    pub fn asked(&self, batch: &Batch, step: u64) -> Batch {
        let Question { at: positions, classes } = Question::new(&self.config, batch, self.seed, step);
        Batch {
            size: batch.documents * batch.size,
            documents: 1,
            targets: Targets::PerPosition { positions, classes },
            ..batch.clone()
        }
    }

    /// What hides positions `at`, where the objective hides any.
    pub fn hidden<'a>(&'a self, at: &'a Tensor) -> Option<Hidden<'a>> {
        self.mask.as_ref().map(|vector| Hidden { at, vector })
    }

    /// The loss of what a model gives at some positions, whose tokens are `classes`, as its share of a batch of which `whole`
    /// tokens are predicted. Of a batch of single positions clm predicts nothing: a sum of no terms, not a mean of none.
    pub fn loss_of(&self, features: &Tensor, classes: &Tensor, whole: usize) -> Tensor {
        let logits = features.apply(&self.head);
        let sum = logits.log_softmax(-1, Kind::Float).g_nll_loss::<Tensor>(classes, None, Reduction::Sum, -100);
        sum / whole.max(1) as f64
    }
}

#[cfg(test)]
mod tests;
