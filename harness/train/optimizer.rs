//! AdamW over flat parameter groups.
//!
//! Decoupled weight decay (Loshchilov and Hutter 2019, arXiv:1711.05101, algorithm 2). tch's own optimizer can neither be
//! saved nor resumed. Each group's parameters are views into one flat tensor, and so are their gradients: a step is one pass
//! over a group, whatever the number of parameters (`optimizer/kernel.rs`), and the moments are two tensors to save.

mod kernel;

use kernel::Factors;
use mixers::ParamRule;
use serde::{Deserialize, Serialize};
use settings::ConfigError;
use std::collections::BTreeMap;
use tch::{Kind, Tensor, no_grad};

/// AdamW: `optimizer: { lr: 1e-3, weight_decay: 0.01 }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OptimizerConfig {
    /// Peak learning rate.
    pub lr: f64,
    /// Decoupled decay of the parameters that `decayed` names.
    pub weight_decay: f64,
    /// Decay of the first moment.
    pub beta1: f64,
    /// Decay of the second moment.
    pub beta2: f64,
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Largest global norm of the gradient; `null`: no clipping.
    pub clip_norm: Option<f64>,
    /// Which parameters are decayed: `matrices`, `weights`, `unexempted` or `all`.
    #[serde(skip_serializing_if = "Decayed::is_default")]
    pub decayed: Decayed,
    /// Whether learning rates travel with the width: `none`, or `mup` (Yang et al. 2022, arXiv:2203.03466, table 3): the rate of a
    /// dense map is multiplied by its fan-in at `base_width` / its fan-in, so that a rate found at one width serves others.
    #[serde(skip_serializing_if = "WidthScaling::is_none")]
    pub width_scaling: WidthScaling,
    /// Width at which `width_scaling` leaves every rate as it is; null: 128.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base_width: Option<i64>,
}

/// Factors on learning rates by width.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WidthScaling {
    /// One rate for all.
    #[default]
    None,
    /// Fan-in at the base width / fan-in for dense maps, 1 for everything else. A weight decays by the same share a step at every
    /// width.
    Mup,
}

impl WidthScaling {
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// `base_width` where none is given: the width of the default model.
const BASE_WIDTH: i64 = 128;

/// Which parameters are decayed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Decayed {
    /// Weights with two or more axes, unless the mixer exempts them, or they are biases or tables: embeddings of tokens, positions
    /// and types, vectors put before a sequence, codes that a head adds.
    #[default]
    Matrices,
    /// Everything but biases and scales of norms, unless the mixer exempts it (BiGS; BERT).
    Weights,
    /// Everything that the mixer does not exempt: biases, norms and tables too (S4, whose mixer exempts dt, A, P and B).
    Unexempted,
    /// Everything, whatever the mixer says (Hydra's BERT and the Long Range Arena, whose optimizers have one group).
    All,
}

impl Decayed {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it takes in the parameter `name`, of so many axes.
    pub(crate) fn takes(self, name: &str, axes: usize) -> bool {
        let mut parts = name.rsplit('.');
        let (last, stem) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        match self {
            // Biases of several axes are those of the data-independent part of some matrix mixers: one a position.
            Self::Matrices => axes > 1 && !is_table(name) && !last.ends_with("bias"),
            Self::Weights => !last.ends_with("bias") && !stem.ends_with("norm"),
            Self::Unexempted | Self::All => true,
        }
    }
}

/// Whether a parameter's rows are looked up or added, and enter no matrix product: embeddings, and the codes of a head.
fn is_table(name: &str) -> bool {
    name.split('.').any(|part| part.starts_with("embedding") || part == "positions")
}

impl Default for OptimizerConfig {
    fn default() -> Self {
        Self {
            lr: 1e-3,
            weight_decay: 0.01,
            beta1: 0.9,
            beta2: 0.999,
            eps: 1e-8,
            clip_norm: Some(1.0),
            decayed: Decayed::Matrices,
            width_scaling: WidthScaling::None,
            base_width: None,
        }
    }
}

impl OptimizerConfig {
    /// Width from which rates travel; `None` where they do not.
    pub fn base_width(&self) -> Option<i64> {
        (self.width_scaling == WidthScaling::Mup).then(|| self.base_width.unwrap_or(BASE_WIDTH))
    }

    /// What is wrong with these settings for `mixer` in `model` on sequences of `max_length`: a model of the base width must exist.
    pub fn check_width(
        &self,
        model: &crate::model::ModelConfig,
        mixer: (&mixers::Entry, &serde_json::Value),
        (max_length, causal): (i64, bool),
    ) -> Option<ConfigError> {
        let base = self.base_width().filter(|base| *base != model.d_model)?;
        let small = crate::model::width::base_of(model, base);
        let dims = small.resolved().dims(max_length, causal);
        let why = small.check().into_iter().chain(mixer.0.check(mixer.1, &dims)).next()?;
        let problem = format!("`width_scaling` is mup, but there is no such model of width {base}: {}", why.problem);
        let help = "set `base_width` to a width that the mixer can have, such as the model's own";
        Some(ConfigError::new(if self.base_width.is_some() { "base_width" } else { "width_scaling" }, problem, help))
    }
}

/// Parameters that share a learning rate and a weight decay, laid end to end.
#[derive(Debug)]
struct Group {
    lr: f64,
    weight_decay: f64,
    names: Vec<String>,
    /// Numbers in them.
    scalars: u64,
    /// They end to end; a number no parameter has stands before pairs that would begin at an odd place.
    flat: Tensor,
    grad: Tensor,
    m: Tensor,
    v: Tensor,
}

/// The optimizer and its state.
#[derive(Debug)]
pub struct AdamW {
    config: OptimizerConfig,
    groups: Vec<Group>,
    updates: i64,
}

/// One line of the group table printed when a run starts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupSummary {
    /// Peak learning rate.
    pub lr: f64,
    /// Weight decay.
    pub weight_decay: f64,
    /// Scalars in the group.
    pub parameters: u64,
    /// Some of its names.
    pub examples: Vec<String>,
}

impl AdamW {
    /// [`AdamW::over`] the parameters of `vs`, without factors.
    #[cfg(test)]
    pub fn new(vs: &tch::nn::VarStore, config: &OptimizerConfig, rules: &[ParamRule]) -> Self {
        Self::over(vs.variables(), config, rules, &BTreeMap::new())
    }

    /// Takes over named variables: afterwards they are views into flat tensors, gradients included. `rules` are by full name; what no
    /// rule names follows the config. `factors` on the rate are by full name too, 1 where there is none; the share of a weight that
    /// decays in a step stays what it is without its factor.
    pub fn over(
        variables: impl IntoIterator<Item = (String, Tensor)>,
        config: &OptimizerConfig,
        rules: &[ParamRule],
        factors: &BTreeMap<String, f64>,
    ) -> Self {
        // By the bits of (learning rate, weight decay): a fixed order, and exact equality.
        let mut sorted: BTreeMap<[u64; 2], Vec<(String, Tensor)>> = BTreeMap::new();
        let variables: BTreeMap<String, Tensor> = variables.into_iter().collect();
        for (name, variable) in variables.into_iter().filter(|(_, v)| v.requires_grad()) {
            let rule = rules.iter().find(|r| r.name == name);
            let decay = if config.decayed.takes(&name, variable.dim()) { config.weight_decay } else { 0.0 };
            let factor = factors.get(&name).copied().unwrap_or(1.0);
            let lr = rule.and_then(|r| r.lr).unwrap_or(config.lr) * factor;
            let own = rule.and_then(|r| r.weight_decay).filter(|_| config.decayed != Decayed::All);
            let weight_decay = own.unwrap_or(decay) / factor;
            sorted.entry([lr.to_bits(), weight_decay.to_bits()]).or_default().push((name, variable));
        }
        let group =
            |([lr, decay], members): ([u64; 2], _)| Group::new(f64::from_bits(lr), f64::from_bits(decay), members);
        let groups = sorted.into_iter().map(group).collect();
        Self { config: config.clone(), groups, updates: 0 }
    }

    /// What is trained how, one line a group.
    pub fn summary(&self) -> Vec<GroupSummary> {
        let line = |g: &Group| GroupSummary {
            lr: g.lr,
            weight_decay: g.weight_decay,
            parameters: g.scalars,
            examples: g.names.iter().take(3).cloned().collect(),
        };
        self.groups.iter().map(line).collect()
    }

    /// Sets every gradient to zero.
    pub fn zero_grad(&mut self) {
        for group in &mut self.groups {
            let _ = group.grad.zero_();
        }
    }

    /// Clips the global norm, then takes one step at `factor` of each group's peak rate. The norm before clipping.
    pub fn step(&mut self, factor: f64) -> f64 {
        no_grad(|| {
            let norm = self.groups.iter().map(|g| squares(&g.grad)).sum::<f64>().sqrt();
            let clip = self.config.clip_norm.map_or(1.0, |most| (most / (norm + 1e-6)).min(1.0));
            self.updates += 1;
            let t = self.updates as i32;
            let c = &self.config;
            let (correct_m, correct_v) = (1.0 - c.beta1.powi(t), 1.0 - c.beta2.powi(t));
            for g in &mut self.groups {
                let lr = g.lr * factor;
                let factors = Factors {
                    clip: clip as f32,
                    fresh: (1.0 - c.beta1) as f32,
                    beta2: c.beta2 as f32,
                    second: ((1.0 - c.beta2) / correct_v) as f32,
                    eps: c.eps as f32,
                    keep: (1.0 - lr * g.weight_decay) as f32,
                    rate: (lr / correct_m) as f32,
                };
                g.step(factors);
            }
            norm
        })
    }

    /// Moments and step count, by key.
    pub fn state(&self) -> Vec<(String, Tensor)> {
        let mut state = vec![("optimizer.updates".to_string(), Tensor::from_slice(&[self.updates]))];
        for (i, g) in self.groups.iter().enumerate() {
            state.push((format!("optimizer.{i}.m"), g.m.shallow_clone()));
            state.push((format!("optimizer.{i}.v"), g.v.shallow_clone()));
        }
        state
    }

    /// Takes back what [`AdamW::state`] gave; an absent key or another shape is an error that names it.
    pub fn restore(&mut self, state: &BTreeMap<String, Tensor>) -> Result<(), String> {
        let get = |key: String, like: &Tensor| match state.get(&key) {
            Some(t) if t.size() == like.size() => Ok(t),
            Some(t) => Err(format!("`{key}` has shape {:?}, expected {:?}", t.size(), like.size())),
            None => Err(format!("`{key}` is missing")),
        };
        self.updates = get("optimizer.updates".into(), &Tensor::from_slice(&[0i64]))?.int64_value(&[0]);
        for (i, g) in self.groups.iter_mut().enumerate() {
            g.m.copy_(get(format!("optimizer.{i}.m"), &g.m)?);
            g.v.copy_(get(format!("optimizer.{i}.v"), &g.v)?);
        }
        Ok(())
    }
}

impl Group {
    fn new(lr: f64, weight_decay: f64, members: Vec<(String, Tensor)>) -> Self {
        no_grad(|| {
            let (mut pieces, mut places, mut end) = (Vec::new(), Vec::new(), 0);
            for (_, variable) in &members {
                // Complex numbers are views of pairs, which must begin at an even place.
                if end % 2 == 1 && variable.size().last() == Some(&2) {
                    pieces.push(variable.new_zeros([1], (variable.kind(), variable.device())));
                    end += 1;
                }
                pieces.push(variable.detach().reshape([-1]));
                places.push(end);
                end += variable.numel() as i64;
            }
            let flat = Tensor::cat(&pieces, 0);
            let grad = flat.zeros_like();
            for ((_, variable), at) in members.iter().zip(places) {
                let (n, shape) = (variable.numel() as i64, variable.size());
                let mut variable = variable.shallow_clone();
                // The gradient must exist before it can be replaced by a view: backward then adds in place.
                variable.set_data(&flat.narrow(0, at, n).view(shape.as_slice()));
                attach_grad(&variable, &grad.narrow(0, at, n).view(shape.as_slice()));
            }
            let (m, v) = (flat.zeros_like(), flat.zeros_like());
            let scalars = members.iter().map(|(_, variable)| variable.numel() as u64).sum();
            Self { lr, weight_decay, names: members.into_iter().map(|(n, _)| n).collect(), scalars, flat, grad, m, v }
        })
    }

    fn step(&mut self, factors: Factors) {
        let moments = [&mut self.m, &mut self.v];
        match kernel::takes(&self.flat) {
            true => kernel::step(&mut self.flat, &self.grad, moments, factors),
            false => kernel::plain(&mut self.flat, &self.grad, moments, factors),
        }
    }
}

/// The sum of squares of a gradient.
fn squares(grad: &Tensor) -> f64 {
    match kernel::takes(grad) {
        true => kernel::squares(grad),
        false => grad.norm().double_value(&[]).powi(2),
    }
}

/// Makes `grad` the gradient of the leaf `variable`.
fn attach_grad(variable: &Tensor, grad: &Tensor) {
    // A backward pass through a sum of zeros creates a gradient; its storage is then swapped for the view.
    tch::with_grad(|| (variable * 0.0).sum(Kind::Float).backward());
    variable.grad().set_data(grad);
}

#[cfg(test)]
mod tests {
    use super::*;
    use tch::Device;
    use tch::nn::{self, VarStore};

    /// Two parameters with a constant gradient each; `slow` has a rule of its own.
    fn setup() -> (VarStore, Tensor, Tensor, AdamW) {
        let vs = VarStore::new(Device::Cpu);
        let weight = vs.root().var("weight", &[2, 3], nn::Init::Const(1.0));
        let slow = vs.root().var("slow", &[4], nn::Init::Const(-2.0));
        let rules = [ParamRule { name: "slow".into(), lr: Some(1e-4), weight_decay: Some(0.5) }];
        let config = OptimizerConfig { lr: 0.1, weight_decay: 0.01, clip_norm: None, ..Default::default() };
        let optimizer = AdamW::new(&vs, &config, &rules);
        (vs, weight, slow, optimizer)
    }

    fn backward(weight: &Tensor, slow: &Tensor, t: f64) {
        ((weight * (0.3 + t)).sum(Kind::Float) + (slow * (-2.0 * t)).sum(Kind::Float)).backward();
    }

    #[test]
    fn a_factor_is_on_the_rate_and_leaves_the_decay_of_a_step_alone() {
        let config = OptimizerConfig { lr: 0.1, weight_decay: 0.01, clip_norm: None, ..Default::default() };
        let stepped = |factor: f64, gradient: f64| {
            let vs = VarStore::new(Device::Cpu);
            let weight = vs.root().var("weight", &[2, 3], nn::Init::Const(1.0));
            let mut optimizer = AdamW::over(vs.variables(), &config, &[], &[("weight".to_owned(), factor)].into());
            (&weight * gradient).sum(Kind::Float).backward();
            optimizer.step(1.0);
            weight.double_value(&[0, 0])
        };
        let near = |found: f64, want: f64| assert!((found - want).abs() < 1e-6, "{found}, not {want}");
        let decayed = 1.0 - 0.1 * 0.01;
        [1.0, 0.25].into_iter().for_each(|factor| near(stepped(factor, 0.0), decayed));
        // Adam's first step is as long as the rate.
        [1.0, 0.25].into_iter().for_each(|factor| near(stepped(factor, 3.0), decayed - 0.1 * factor));
    }

    /// Algorithm 2 of the paper on one number, in plain float64.
    fn plain(mut x: f64, lr: f64, decay: f64, gradient: impl Fn(i32) -> f64, steps: i32) -> f64 {
        let (mut m, mut v) = (0.0, 0.0);
        for t in 1..=steps {
            let g = gradient(t);
            m = 0.9 * m + 0.1 * g;
            v = 0.999 * v + 0.001 * g * g;
            x -= lr * decay * x;
            x -= lr * (m / (1.0 - 0.9f64.powi(t))) / ((v / (1.0 - 0.999f64.powi(t))).sqrt() + 1e-8);
        }
        x
    }

    #[test]
    fn decay_goes_where_the_config_says() {
        let vs = VarStore::new(Device::Cpu);
        let shapes: [(&[&str], &[i64]); 9] = [
            (&["embedding", "weight"], &[5, 2]),
            (&["embedding_cls", "weight"], &[1, 1, 2]),
            (&["head", "positions", "weight"], &[3, 2]),
            (&["blocks", "0", "mixer", "q_bias"], &[2, 7]),
            (&["blocks", "0", "mixer", "in_proj_weight"], &[2, 2]),
            (&["blocks", "0", "mixer", "in_proj_bias"], &[2]),
            (&["blocks", "0", "mixer", "A_log"], &[2]),
            (&["blocks", "0", "mixer", "log_step"], &[3]),
            (&["blocks", "0", "mixer_norm", "weight"], &[2]),
        ];
        for (path, shape) in shapes {
            let (last, folders) = path.split_last().unwrap();
            let _ = folders.iter().fold(vs.root(), |at, folder| &at / *folder).var(last, shape, nn::Init::Const(1.0));
        }
        let exempt = ParamRule { name: "blocks.0.mixer.A_log".into(), lr: Some(0.5), weight_decay: Some(0.0) };
        let decayed = |decayed: Decayed| -> u64 {
            let config = OptimizerConfig { weight_decay: 0.01, decayed, ..Default::default() };
            let groups = AdamW::new(&vs, &config, std::slice::from_ref(&exempt)).summary();
            assert!(groups.iter().any(|group| group.lr == 0.5), "the mixer's rate holds in any case");
            groups.iter().filter(|group| group.weight_decay > 0.0).map(|group| group.parameters).sum()
        };
        assert_eq!(decayed(Decayed::Matrices), 4);
        let tables = 10 + 2 + 6;
        assert_eq!(decayed(Decayed::Weights), tables + 4 + 3);
        assert_eq!(decayed(Decayed::Unexempted), tables + 14 + 4 + 2 + 3 + 2, "all but A_log, which the mixer exempts");
        assert_eq!(decayed(Decayed::All), tables + 14 + 4 + 2 + 2 + 3 + 2);
        let written = serde_json::to_value(OptimizerConfig::default()).unwrap();
        assert!(written.get("decayed").is_none(), "run ids of older configs stay");
    }

    #[test]
    fn steps_follow_the_paper_number_by_number() {
        let (_vs, weight, slow, mut optimizer) = setup();
        for t in 1..=5 {
            optimizer.zero_grad();
            backward(&weight, &slow, f64::from(t));
            optimizer.step(1.0);
        }
        let want_weight = plain(1.0, 0.1, 0.01, |t| 0.3 + f64::from(t), 5);
        let want_slow = plain(-2.0, 1e-4, 0.5, |t| -2.0 * f64::from(t), 5);
        assert!((weight.double_value(&[1, 2]) - want_weight).abs() < 1e-5);
        assert!((slow.double_value(&[3]) - want_slow).abs() < 1e-6);
    }

    #[test]
    fn pairs_behind_an_odd_number_of_others_are_still_complex_numbers() {
        let vs = VarStore::new(Device::Cpu);
        let root = vs.root();
        let odd = root.var("a", &[3], nn::Init::Const(1.0));
        let pairs = root.var("b", &[4, 2], nn::Init::Const(2.0));
        let mut optimizer = AdamW::new(&vs, &OptimizerConfig::default(), &[]);
        let loss = pairs.view_as_complex().abs().sum(Kind::Float) + odd.sum(Kind::Float);
        loss.backward();
        optimizer.step(1.0);
        assert_eq!(optimizer.summary().iter().map(|group| group.parameters).sum::<u64>(), 11);
        assert!(pairs.max().double_value(&[]) < 2.0 && odd.max().double_value(&[]) < 1.0, "both have moved");
    }

    #[test]
    fn gradients_of_two_passes_add_up_in_the_flat_tensor() {
        let (_vs, weight, slow, mut optimizer) = setup();
        optimizer.zero_grad();
        backward(&weight, &slow, 1.0);
        backward(&weight, &slow, 1.0);
        assert!((weight.grad().double_value(&[0, 0]) - 2.6).abs() < 1e-6);
        let norm = optimizer.step(0.0);
        assert!((norm - (6.0 * 2.6f64.powi(2) + 4.0 * 16.0).sqrt()).abs() < 1e-4);
    }

    #[test]
    fn clipping_bounds_the_step_direction_not_just_its_report() {
        let (vs, weight, slow, _) = setup();
        let config = OptimizerConfig { clip_norm: Some(1.0), ..Default::default() };
        let mut optimizer = AdamW::new(&vs, &config, &[]);
        optimizer.zero_grad();
        backward(&weight, &slow, 100.0);
        let before = optimizer.step(0.0);
        assert!(before > 100.0);
        // After one step the first moment is 1 − β1 of the gradient that was taken.
        let state = optimizer.state();
        let moments = state.iter().filter(|(key, _)| key.ends_with(".m"));
        let taken = moments.map(|(_, m)| m.norm().double_value(&[]).powi(2)).sum::<f64>().sqrt() / (1.0 - 0.9);
        assert!((taken - 1.0).abs() < 1e-4, "{taken}");
    }

    #[test]
    fn a_restored_optimizer_goes_on_bit_for_bit() {
        let (_a, weight_a, slow_a, mut one) = setup();
        let (_b, weight_b, slow_b, mut two) = setup();
        let step = |w: &Tensor, s: &Tensor, o: &mut AdamW, t: f64| {
            o.zero_grad();
            backward(w, s, t);
            o.step(0.7);
        };
        (1..=3).for_each(|t| step(&weight_a, &slow_a, &mut one, f64::from(t)));
        let state: BTreeMap<String, Tensor> = one.state().into_iter().map(|(k, t)| (k, t.copy())).collect();
        no_grad(|| {
            weight_b.shallow_clone().copy_(&weight_a);
            slow_b.shallow_clone().copy_(&slow_a);
        });
        two.restore(&state).unwrap();
        step(&weight_a, &slow_a, &mut one, 4.0);
        step(&weight_b, &slow_b, &mut two, 4.0);
        assert!(weight_a.equal(&weight_b) && slow_a.equal(&slow_b));
        assert!(two.restore(&BTreeMap::new()).unwrap_err().contains("optimizer.updates"));
    }

    #[test]
    fn biases_norms_and_embeddings_are_not_decayed() {
        let vs = VarStore::new(Device::Cpu);
        let _ = (vs.root() / "head").var("weight", &[2, 2], nn::Init::Const(1.0));
        let _ = (vs.root() / "head").var("bias", &[2], nn::Init::Const(1.0));
        let _ = (vs.root() / "embedding").var("weight", &[5, 2], nn::Init::Const(1.0));
        let optimizer = AdamW::new(&vs, &OptimizerConfig::default(), &[]);
        let groups: Vec<(f64, u64)> = optimizer.summary().iter().map(|g| (g.weight_decay, g.parameters)).collect();
        assert_eq!(groups, [(0.0, 12), (0.01, 4)]);
    }
}
