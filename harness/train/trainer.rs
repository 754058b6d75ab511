//! Training one run: pretraining where asked for, then steps, validation, checkpoints, and test once.

mod analysing;
mod meter;
mod pretraining;
mod reading;
mod starting;
mod stepping;
pub mod timing;

use crate::base::events::Event;
use crate::model::Model;
use crate::model::width::rate_factors;
use crate::registry::Registry;
use crate::train::checkpoint::{self, CheckpointError, Part};
use crate::train::error::TrainError;
use crate::train::evaluate::{self, Evaluation};
use crate::train::feed::{Feed, FeedClock};
use crate::train::optimizer::AdamW;
use crate::train::pretrain::{self, Stage};
use crate::train::seeds::{Purpose, reseed};
use crate::train::spec::RunSpec;
use meter::Meter;
use mixers::native::kernels;
use results::{Detail, OfBaseline, Outcome, Point, Scores};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;
use tasks::{Batch, DataError, Order, Split, Task, TaskSpec};
use tch::nn::VarStore;
use tch::{Device, Tensor};

/// A stop that never comes.
static NEVER: AtomicBool = AtomicBool::new(false);
/// More threads than any machine has: a count above is not one.
const MOST_THREADS: i64 = 4096;
/// What the trainer knows at any time; saved with every checkpoint, wall time apart.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Optimizer steps done.
    pub step: u64,
    /// Validation score of the best checkpoint so far: of the best score, or of a language model of the least loss.
    pub best_score: Option<f64>,
    /// Validation loss at the best score: the tie-breaker.
    pub best_loss: Option<f64>,
    /// Step of the best checkpoint.
    pub best_step: u64,
    /// Evaluations since the best one.
    #[serde(rename = "looks_since_best")] // as older checkpoints say
    pub evaluations_since_best: u64,
    /// The learning curve so far.
    pub curve: Vec<Point>,
    /// Sum of training losses since the last evaluation.
    pub loss_sum: f64,
    /// Steps in that sum.
    pub loss_count: u64,
    /// Whether training is over (budget spent or stopped early) and only test is left.
    pub trained: bool,
    /// Threads of the process that began: with another number sums are taken in another order, and other bytes come out.
    #[serde(default)]
    pub threads: i64,
    /// Kernels of the process that began, `native` or `plain`: their last digits differ. Empty in checkpoints written before it was kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kernels: String,
    /// How far the stage before the first step came; absent where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pretraining: Option<Pretraining>,
}

/// Where pretraining stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Pretraining {
    /// Optimizer steps done.
    pub step: u64,
    /// Loss before the first of them, nats.
    pub first_loss: f64,
    /// Sum of the losses over the last tenth of the stage.
    pub last_sum: f64,
    /// Steps in that sum.
    pub last_count: u64,
}

/// Wall-clock facts, kept beside the checkpoint because they differ from run to run.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Clock {
    /// Seconds over all attempts.
    pub wall_seconds: f64,
    /// Speed in each progress interval.
    pub steps_per_second: Vec<f64>,
    /// Tokens a step, padding included, averaged.
    pub tokens_per_step: f64,
    /// FLOPs of a step, averaged: three forward passes by the papers' formulas, padding included; what is run again to save
    /// memory is not counted.
    #[serde(default)]
    pub flops_per_step: f64,
    /// Speed of this machine at large matrix products in the model's precision, operations a second; 0 where it is not known.
    #[serde(default)]
    pub peak_flops: f64,
    /// Seconds of optimizer steps, waiting for their batches included.
    #[serde(default)]
    pub stepping: f64,
    /// Seconds of making batches.
    #[serde(default)]
    pub feed: FeedClock,
    /// What became of its checkpoints, as remarks on the run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Clock {
    fn add(&mut self, before: FeedClock, after: FeedClock) {
        self.feed.waited += after.waited - before.waited;
        self.feed.making += after.making - before.making;
        self.feed.examples += after.examples - before.examples;
    }

    /// Share of the time of training steps in which they waited for a batch, and examples one thread makes a second.
    pub fn measures(&self) -> [(&'static str, f64); 2] {
        let share = |part: f64, whole: f64| if whole > 0.0 { part / whole } else { 0.0 };
        [
            ("wait_share", share(self.feed.waited, self.stepping)),
            ("examples_made_per_second", share(self.feed.examples, self.feed.making)),
        ]
    }
}

impl Clock {
    /// Work at `steps_per_second`, FLOPs a second, and its share of what this machine could do (MFU); none without a step.
    ///
    /// The work is the model's by the papers' formulas, three forward passes a step. The whole is a large matrix product in the
    /// model's precision on as many threads ([`crate::sweep::machine`]): an MFU of 1 is a model as fast as that product, and a mixer of FFTs
    /// or scans may do little by this measure and yet be fast. A share above 1, which a peak taken on a busy machine gives, is left
    /// out. Chowdhery et al. 2022, arXiv:2204.02311, appendix B has the term, with the maker's peak below the line.
    pub fn speeds(&self, steps_per_second: f64) -> Vec<(&'static str, f64)> {
        let speed = self.flops_per_step * steps_per_second;
        if speed == 0.0 {
            return Vec::new();
        }
        let share = (self.peak_flops > 0.0).then(|| speed / self.peak_flops).filter(|share| *share <= 1.0);
        std::iter::once(("model_flops_per_second", speed)).chain(share.map(|share| ("mfu", share))).collect()
    }
}

/// One run, being trained.
pub struct Trainer {
    /// The run.
    pub spec: RunSpec,
    /// Its task, opened.
    pub task: Arc<dyn Task>,
    /// Its terms.
    task_spec: TaskSpec,
    /// Where training stands.
    pub state: State,
    /// Wall-clock facts.
    pub clock: Clock,
    vs: VarStore,
    model: Model,
    optimizer: AdamW,
    /// Factors on learning rates by the model's width.
    rates: BTreeMap<String, f64>,
    /// What the optimizer trains besides the model, while pretraining.
    stage: Option<Stage>,
    /// The run's identity, which its checkpoints carry.
    id: String,
    work_dir: PathBuf,
    started: Instant,
    wall_before: f64,
    /// Whether this process has made a step or evaluated.
    progressed: bool,
}

/// Whether the evaluation `new` is better than `best`, each a score and a loss. With `by_loss`, as for language models, the lower
/// loss is better; otherwise the higher score is, and at equal scores the lower loss. A model whose loss or score is no finite number is worse
/// than every one whose are: what it scores, it scores by accident.
fn is_better(new: (f64, f64), best: (f64, f64), by_loss: bool) -> bool {
    let is_finite = |(score, loss): (f64, f64)| score.is_finite() && loss.is_finite();
    if !(is_finite(new) && is_finite(best)) {
        return is_finite(new);
    }
    let less_loss = new.1 < best.1;
    if by_loss { less_loss } else { new.0 > best.0 || (new.0 == best.0 && less_loss) }
}

/// How a call of [`Trainer::train`] ended.
#[derive(Debug)]
pub struct Ended {
    /// Finished, diverged, timed out or interrupted.
    pub outcome: Outcome,
    /// What was measured.
    pub scores: Scores,
    /// Numbers of the whole run besides its score.
    pub measures: BTreeMap<String, f64>,
    /// Those of them that are a baseline's.
    pub baselines: BTreeMap<String, OfBaseline>,
    /// Numbers by length, pairs, layer, head.
    pub details: Vec<Detail>,
}

impl Trainer {
    /// Builds the model, and continues from `work_dir/last.safetensors` where there is one. One that is of no use is as good as
    /// none: the run begins again, and says so.
    pub fn new(
        spec: RunSpec,
        task: Arc<dyn Task>,
        registry: &Registry,
        device: Device,
        work_dir: PathBuf,
    ) -> Result<Self, TrainError> {
        let mut trainer = Self::build(spec, task, registry, device, work_dir)?;
        trainer.load_clock();
        let path = trainer.last_path();
        if !path.try_exists().map_err(|why| CheckpointError::io(&path, &why))? {
            trainer.start(registry)?;
            return Ok(trainer);
        }
        match trainer.resume() {
            Ok(()) => Ok(trainer),
            Err(error) if error.is_of_no_use() => trainer.again(registry, &error),
            Err(error) => Err(error.into()),
        }
    }

    /// The same run from its beginning, because of what is wrong with a checkpoint of it.
    pub fn again(self, registry: &Registry, error: &CheckpointError) -> Result<Self, TrainError> {
        // The weights in memory may be half those of a file.
        let Self { spec, task, vs, work_dir, clock, .. } = self;
        // Its clock begins again too: a limit of time is not for work that is lost.
        let mut trainer = Self::build(spec, task, registry, vs.device(), work_dir)?;
        trainer.clock.notes = clock.notes;
        trainer.clock.notes.push(format!("{} {}; trained again from the start", error.file(), error.why()));
        trainer.save_clock();
        let path = trainer.last_path();
        match std::fs::remove_file(&path) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => {
                return Err(CheckpointError::new(&path, why).into());
            }
            _ => {}
        }
        trainer.start(registry)?;
        Ok(trainer)
    }

    fn build(
        spec: RunSpec,
        task: Arc<dyn Task>,
        registry: &Registry,
        device: Device,
        work_dir: PathBuf,
    ) -> Result<Self, TrainError> {
        let mixer = registry
            .mixer(&spec.mixer.name)
            .ok_or_else(|| TrainError::Spec(format!("this build has no mixer `{}`", spec.mixer.name)))?;
        reseed(spec.seed, Purpose::Init, 0);
        let vs = VarStore::new(device);
        let seen = pretrain::seen(task.spec(), spec.pretrain.as_ref());
        let settings = &spec.mixer.settings;
        let (model, maps) = mixers::recorded(|| Model::new(&vs.root(), &spec.model, &seen, mixer, settings));
        let rates = match spec.optimizer.base_width() {
            Some(base) => rate_factors(&vs, maps, (&spec.model, base), &seen, (mixer, settings)),
            None => BTreeMap::new(),
        };
        let stage = spec.pretrain.as_ref().map(|p| Stage::new(p, &spec.model, &seen, spec.seed, device));
        let optimizer = match &stage {
            None => AdamW::over(vs.variables(), &spec.optimizer, &model.param_rules(), &rates),
            Some(stage) => {
                let config = stage.config.optimizer(&spec.optimizer);
                AdamW::over(stage.trained(&vs), &config, &model.param_rules(), &rates)
            }
        };
        let pretraining = stage.is_some().then(Pretraining::default);
        Ok(Self {
            state: State {
                pretraining,
                threads: tch::get_num_threads().into(),
                kernels: kernels::chosen().on(device).word().into(),
                ..State::default()
            },
            id: spec.id(),
            spec,
            task_spec: task.spec(),
            task,
            clock: Clock::default(),
            vs,
            model,
            optimizer,
            rates,
            stage,
            work_dir,
            started: Instant::now(),
            wall_before: 0.0,
            progressed: false,
        })
    }

    fn last_path(&self) -> PathBuf {
        self.work_dir.join("last.safetensors")
    }

    fn best_path(&self) -> PathBuf {
        self.work_dir.join("best.safetensors")
    }

    fn clock_path(&self) -> PathBuf {
        self.work_dir.join("clock.json")
    }

    /// Trainable scalars, of the whole model and inside the mixers.
    pub fn parameters(&self) -> (u64, u64) {
        let count = |mixer_only: bool| {
            let all = self.vs.variables();
            let wanted = all.iter().filter(|(n, v)| v.requires_grad() && (!mixer_only || n.contains(".mixer.")));
            wanted.map(|(_, v)| v.numel() as u64).sum()
        };
        (count(false), count(true))
    }

    /// The task's optimizer before its first step.
    fn fresh_optimizer(&self) -> AdamW {
        AdamW::over(self.vs.variables(), &self.spec.optimizer, &self.model.param_rules(), &self.rates)
    }

    /// One line per optimizer group.
    pub fn group_lines(&self) -> Vec<String> {
        let line = |g: crate::train::optimizer::GroupSummary| {
            format!(
                "lr {:<8} weight decay {:<6} {:>9} parameters: {}, …",
                g.lr,
                g.weight_decay,
                g.parameters,
                g.examples.join(", ")
            )
        };
        self.optimizer.summary().into_iter().map(line).collect()
    }

    fn order(&self) -> Order {
        Order { seed: self.spec.seed, batch_size: self.spec.budget.batch_size as usize }
    }

    /// Trains to the end of the budget, to an early stop, to a divergence, or until `stop` is set; then evaluates on test. `send` gets
    /// the run's messages.
    pub fn train(&mut self, stop: &AtomicBool, mut send: impl FnMut(Event)) -> Result<Ended, TrainError> {
        if let Some(ended) = self.pretrain(stop, &mut send)? {
            return Ok(ended);
        }
        match self.train_until_done(stop, &mut send)? {
            Some(ended) => Ok(ended),
            None => self.finish(stop, &mut send),
        }
    }

    /// Steps and evaluations to the end of the budget or to an early stop; how the run ended where it did not come so far.
    fn train_until_done(
        &mut self,
        stop: &AtomicBool,
        send: &mut impl FnMut(Event),
    ) -> Result<Option<Ended>, TrainError> {
        let budget = self.spec.budget.clone();
        let before = self.spec.pretrain.as_ref().map_or(0, |p| p.steps);
        let mut feed = Feed::start(self.task.clone(), self.order(), self.state.step, budget.steps);
        let mut meter = Meter::start();
        while !self.state.trained {
            // Left out when the run was stopped while it evaluated.
            if self.owes_an_evaluation() {
                if !self.validate(stop, send)? {
                    return self.interrupted().map(Some);
                }
                self.save()?;
                continue;
            }
            let begun = Instant::now();
            let clock = feed.clock;
            let batch = feed.take()?;
            let (loss, norm) = self.step(&batch);
            let step = self.state.step;
            if !loss.is_finite() || !norm.is_finite() {
                let reason = self.divergence(loss, norm);
                return Ok(Some(self.ended(Outcome::Diverged { reason }, None)?));
            }
            self.clock.stepping += begun.elapsed().as_secs_f64();
            self.clock.add(clock, feed.clock);
            self.count_work(&batch);
            meter.add(loss);
            let evaluates = step.is_multiple_of(budget.eval_every) || step == budget.steps;
            let progress = meter.read(before + step, before + budget.steps, evaluates);
            if let Some(progress) = progress {
                self.clock.steps_per_second.push(progress.steps_per_second);
                send(Event::Progress(progress));
            }
            if evaluates && !self.validate(stop, send)? {
                return self.interrupted().map(Some);
            }
            if evaluates && budget.checkpoint_every.is_none()
                || budget.checkpoint_every.is_some_and(|every| step.is_multiple_of(every))
                || self.state.trained
            {
                self.save()?;
            }
            if progress.is_some() {
                // Evaluating and saving are no steps.
                meter = Meter::start();
            }
            let minutes = self.wall_seconds() / 60.0;
            if let Some(limit) = budget.timeout_minutes.filter(|limit| minutes > *limit && !self.state.trained) {
                self.save()?;
                let reason = format!("passed its limit of {limit} minutes at step {step} of {}", budget.steps);
                return Ok(Some(self.ended(Outcome::TimedOut { reason }, None)?));
            }
            if stop.load(Ordering::Relaxed) && !self.state.trained {
                return self.interrupted().map(Some);
            }
        }
        Ok(None)
    }

    /// What comes after the last step: test on the best weights, baselines, and the analysis that the spec asks for.
    fn finish(&mut self, stop: &AtomicBool, send: &mut impl FnMut(Event)) -> Result<Ended, TrainError> {
        send(Event::Trained);
        if !self.state.best_loss.is_some_and(f64::is_finite) {
            let reason = format!("validation loss was no finite number at any evaluation of {} steps", self.state.step);
            return Ok(self.ended(Outcome::Diverged { reason }, None)?);
        }
        self.load_best()?;
        let stop = self.heeded(stop);
        let Some(test) = self.evaluate(Split::Test, true, stop)? else {
            let reason = "stopped by a signal after training, while test was scored".into();
            return Ok(self.ended(Outcome::Interrupted { reason }, None)?);
        };
        let mut ended = self.ended(Outcome::Finished, Some(test.score))?;
        (ended.measures, ended.details) = (test.measures, test.details);
        ended.scores.tested = test.tested;
        if let (Some(floor), Some(ceiling)) = (ended.scores.floor, ended.scores.ceiling)
            && ceiling > floor
        {
            ended.measures.insert("scaled".into(), (test.score - floor) / (ceiling - floor));
        }
        self.baselines(&mut ended)?;
        self.analyse(&mut ended, stop)?;
        if stop.load(Ordering::Relaxed) && self.spec.analysis.is_some() {
            let reason = "stopped by a signal after training, while it was analysed".into();
            return Ok(self.ended(Outcome::Interrupted { reason }, None)?);
        }
        Ok(ended)
    }

    /// What was no finite number at this step, and the last validation loss.
    fn divergence(&self, loss: f64, norm: f64) -> String {
        let what = match loss.is_finite() {
            true => format!("gradient norm is {norm}"),
            false => format!("training loss is {loss}"),
        };
        let last =
            self.state.curve.last().map_or(String::new(), |p| {
                format!("; validation loss was {:.4} at step {}", p.validation_loss, p.step)
            });
        format!("{what} at step {}{last}", self.state.step)
    }

    /// Takes a batch into the means over steps of tokens and FLOPs.
    fn count_work(&mut self, batch: &Batch) {
        let steps = self.state.step as f64;
        let tokens = (batch.tokens.len() / batch.width) as f64;
        self.clock.tokens_per_step += (tokens - self.clock.tokens_per_step) / steps;
        let flops = 3.0 * self.forward_flops(batch);
        self.clock.flops_per_step += (flops - self.clock.flops_per_step) / steps;
    }

    /// One optimizer step; the loss before it and the gradient's norm.
    fn step(&mut self, batch: &Batch) -> (f64, f64) {
        self.optimizer.zero_grad();
        let loss = self.gradients(batch, Purpose::Dropout, self.state.step);
        let factor = self.spec.schedule.factor(self.state.step, self.spec.budget.steps, self.spec.optimizer.lr);
        let norm = self.optimizer.step(factor);
        self.progressed = true;
        self.state.step += 1;
        // A batch in which nothing is asked has no loss, and none to average.
        if !batch.targets.classes().is_empty() {
            self.state.loss_sum += loss;
            self.state.loss_count += 1;
        }
        (loss, norm)
    }

    /// Whether validation is to be scored before the next step.
    fn owes_an_evaluation(&self) -> bool {
        let (step, budget) = (self.state.step, &self.spec.budget);
        let due = step > 0 && (step.is_multiple_of(budget.eval_every) || step == budget.steps);
        due && self.state.curve.last().is_none_or(|last| last.step < step)
    }

    /// `stop`, but for a process that was to stop before it did anything: that one still makes a step or ends an evaluation, so that a
    /// run goes on however short the times are that it is given.
    fn heeded<'a>(&self, stop: &'a AtomicBool) -> &'a AtomicBool {
        if !self.progressed && stop.load(Ordering::Relaxed) { &NEVER } else { stop }
    }

    /// Writes a checkpoint and ends.
    fn interrupted(&mut self) -> Result<Ended, TrainError> {
        self.save()?;
        let reason = format!("stopped by a signal at step {} of {}", self.state.step, self.spec.budget.steps);
        Ok(self.ended(Outcome::Interrupted { reason }, None)?)
    }

    /// Evaluates on validation, keeps the best model, decides about stopping; `false`, and nothing is changed, when it was stopped.
    fn validate(&mut self, stop: &AtomicBool, send: &mut impl FnMut(Event)) -> Result<bool, TrainError> {
        if self.state.step >= self.spec.budget.steps {
            send(Event::Trained);
        }
        let Some(found) = self.evaluate(Split::Validation, false, self.heeded(stop))? else { return Ok(false) };
        self.progressed = true;
        let point = Point {
            step: self.state.step,
            train_loss: self.state.loss_sum / self.state.loss_count.max(1) as f64,
            validation_loss: found.loss,
            validation_score: found.score,
        };
        (self.state.loss_sum, self.state.loss_count) = (0.0, 0);
        // Read back from a checkpoint a number that is not finite is absent.
        let [score, loss] = [self.state.best_score, self.state.best_loss].map(|best| best.unwrap_or(f64::NAN));
        let better = self.state.curve.is_empty()
            || is_better((found.score, found.loss), (score, loss), self.task_spec.metric.chosen_by_loss);
        self.state.curve.push(point);
        self.state.evaluations_since_best += 1;
        if better {
            self.state.best_score = Some(found.score);
            self.state.best_loss = Some(found.loss);
            self.state.best_step = self.state.step;
            self.state.evaluations_since_best = 0;
            let at = json!({ "step": self.state.step });
            checkpoint::write(&self.best_path(), &self.id, Part::Best, &self.model_tensors(), &at)?;
        }
        let budget = &self.spec.budget;
        self.state.trained = self.state.step >= budget.steps
            || budget.patience.is_some_and(|most| self.state.evaluations_since_best >= most)
            || budget.stop_at.is_some_and(|score| found.loss.is_finite() && found.score >= score);
        send(Event::Evaluated(point));
        Ok(true)
    }

    /// Evaluates on a split; `None` when it was stopped.
    fn evaluate(&self, split: Split, with_details: bool, stop: &AtomicBool) -> Result<Option<Evaluation>, TrainError> {
        let rows = self.spec.budget.eval_batch_size.unwrap_or(self.spec.budget.batch_size);
        evaluate::evaluate(&self.model, &*self.task, split, rows, self.vs.device(), with_details, stop)
    }

    /// The training loss of what the model says of a batch: a mean over what is asked.
    fn loss_of(&self, logits: &Tensor, classes: &Tensor) -> Tensor {
        evaluate::loss(logits, classes, &self.task_spec)
    }

    fn model_tensors(&self) -> Vec<(String, Tensor)> {
        let mut tensors: Vec<_> = self.vs.variables().into_iter().map(|(n, t)| (format!("model.{n}"), t)).collect();
        tensors.sort_by(|a, b| a.0.cmp(&b.0));
        tensors
    }

    fn save(&mut self) -> Result<(), TrainError> {
        let mut tensors = self.model_tensors();
        tensors.extend(self.stage_tensors());
        tensors.extend(self.optimizer.state());
        let state = serde_json::to_value(&self.state).expect("the state is plain data");
        checkpoint::write(&self.last_path(), &self.id, Part::Last, &tensors, &state)?;
        self.save_clock();
        Ok(())
    }

    /// Best effort: a lost clock costs nothing but a wall time.
    fn save_clock(&mut self) {
        self.clock.wall_seconds = self.wall_seconds();
        let text = serde_json::to_vec(&self.clock).expect("the clock is plain data");
        let _ = results::replace(&self.clock_path(), &text);
    }

    fn load_clock(&mut self) {
        if let Ok(text) = std::fs::read(self.clock_path()) {
            self.clock = serde_json::from_slice(&text).unwrap_or_default();
        }
        self.wall_before = self.clock.wall_seconds;
    }

    /// What became of the run's checkpoints and threads, as remarks on it.
    pub fn notes(&self) -> &[String] {
        &self.clock.notes
    }

    fn resume(&mut self) -> Result<(), CheckpointError> {
        let path = self.last_path();
        let fail = |why: String| CheckpointError::new(&path, why);
        let (tensors, state) = checkpoint::read(&path, &self.id, Part::Last)?;
        let (threads, form) = (self.state.threads, self.state.kernels.clone());
        self.state = serde_json::from_value(state).map_err(|e| fail(e.to_string()))?;
        // The model at its best is in a file of its own, which a kill may have left ahead of this one by an evaluation: that
        // evaluation is then done again, and writes the same.
        if !self.state.curve.is_empty() {
            let step = self.best_step()?;
            if step != self.state.best_step && step <= self.state.step {
                let why = format!("is of step {step}, and the best evaluation was at step {}", self.state.best_step);
                return Err(CheckpointError::new(&self.best_path(), why));
            }
        }
        if self.pretraining_left() == 0 {
            self.start_over();
        }
        checkpoint::fill(&self.vs, &tensors).map_err(fail)?;
        if let Some(stage) = &self.stage {
            checkpoint::fill(stage.store(), &tensors).map_err(fail)?;
        }
        self.optimizer.restore(&tensors).map_err(fail)?;
        self.keep_threads(threads);
        self.compare_kernels(&form);
        Ok(())
    }

    /// Goes on with as many threads as the run began with, whatever number was asked for now.
    fn keep_threads(&mut self, asked: i64) {
        let began = self.state.threads;
        if !(1..=MOST_THREADS).contains(&began) {
            self.state.threads = asked;
        }
        if self.state.threads == asked {
            return;
        }
        tch::set_num_threads(began as i32);
        let note =
            format!("went on with {began} threads, as it began, and not with {asked}: its numbers depend on them");
        if !self.clock.notes.contains(&note) {
            self.clock.notes.push(note);
        }
    }

    /// Says so where a run goes on with other kernels than it began with: what it was asked for counts.
    fn compare_kernels(&mut self, asked: &str) {
        let began = &self.state.kernels;
        if began.is_empty() || began == asked {
            return;
        }
        let note = format!(
            "began with {began} kernels and went on with {asked} ones: the last digits of its numbers are of both"
        );
        if !self.clock.notes.contains(&note) {
            self.clock.notes.push(note);
        }
    }

    /// The step of the best checkpoint on disk.
    fn best_step(&self) -> Result<u64, CheckpointError> {
        let (_, at) = checkpoint::read(&self.best_path(), &self.id, Part::Best)?;
        at["step"].as_u64().ok_or_else(|| CheckpointError::new(&self.best_path(), "does not say its step"))
    }

    fn load_best(&mut self) -> Result<(), TrainError> {
        let path = self.best_path();
        let wrong = |error: CheckpointError| match error.is_of_no_use() {
            true => TrainError::BestLost(error),
            false => error.into(),
        };
        let (tensors, at) = checkpoint::read(&path, &self.id, Part::Best).map_err(wrong)?;
        if at["step"].as_u64() != Some(self.state.best_step) {
            let why =
                format!("is of step {}, and the best evaluation was at step {}", at["step"], self.state.best_step);
            return Err(TrainError::BestLost(CheckpointError::new(&path, why)));
        }
        checkpoint::fill(&self.vs, &tensors).map_err(|why| TrainError::BestLost(CheckpointError::new(&path, why)))
    }

    fn wall_seconds(&self) -> f64 {
        self.wall_before + self.started.elapsed().as_secs_f64()
    }

    fn ended(&mut self, outcome: Outcome, test: Option<f64>) -> Result<Ended, DataError> {
        self.save_clock();
        let scores = Scores {
            validation: self.state.best_score,
            test,
            floor: Some(self.task.floor()?.score),
            ceiling: Some(self.task.ceiling()?.score),
            tested: None,
        };
        Ok(Ended { outcome, scores, measures: BTreeMap::new(), baselines: BTreeMap::new(), details: Vec::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tasks::Output;

    /// A config of attention on a small recall task.
    fn recall(causal: bool, budget: &str) -> String {
        format!(
            "tasks: [mqar: {{ vocab_size: 16, seq_len: 12, kv_pairs: 2, causal: {causal}, train_examples: 60, \
             validation_examples: 10, test_examples: 10 }}]\nmodel: {{ d_model: 8, n_layers: 1 }}\nbudget: {budget}\n\
             mixers: [attention: {{ n_heads: 2 }}]\n"
        )
    }

    #[test]
    fn a_run_stopped_while_it_evaluates_does_so_before_it_goes_on_and_ends_as_one_left_alone() {
        if !crate::laws::samples::alone(concat!(
            module_path!(),
            "::a_run_stopped_while_it_evaluates_does_so_before_it_goes_on_and_ends_as_one_left_alone"
        )) {
            return;
        }
        let config = recall(false, "{ steps: 5, batch_size: 4, eval_every: 2 }");
        // Progress is sent just before validation, the last point of the curve just before test.
        let ends = |stops: usize| {
            let folder = tempfile::tempdir().unwrap();
            let mut reasons = Vec::new();
            loop {
                let mut trainer = crate::laws::samples::trainer(&config, folder.path());
                let stop = AtomicBool::new(false);
                let ended = trainer.train(&stop, |event| {
                    let due = match event {
                        Event::Progress(progress) => [2, 4, 5].contains(&progress.step),
                        Event::Evaluated(point) => point.step == 5,
                        // Between progress and evaluation: what was set stays.
                        Event::Trained => return,
                        _ => false,
                    };
                    stop.store(due && reasons.len() < stops, Ordering::Relaxed);
                });
                let ended = ended.unwrap();
                match ended.outcome {
                    Outcome::Finished => {
                        let last = std::fs::read(trainer.last_path()).unwrap();
                        return (trainer.state.clone(), ended.scores, last, reasons);
                    }
                    other => reasons.push(other.reason().to_owned()),
                }
            }
        };
        let (whole, cut) = (ends(0), ends(4));
        assert_eq!((&whole.0, whole.1), (&cut.0, cut.1));
        assert!(whole.2 == cut.2, "last.safetensors differs");
        let at = |step: u64| format!("stopped by a signal at step {step} of 5");
        assert_eq!(
            cut.3,
            [at(2), at(4), at(5), "stopped by a signal after training, while test was scored".to_owned()]
        );
        assert_eq!(whole.0.curve.iter().map(|point| point.step).collect::<Vec<_>>(), [2, 4, 5]);
    }

    #[test]
    fn a_run_asked_to_stop_before_each_of_its_parts_begins_still_comes_to_its_end() {
        if !crate::laws::samples::alone(concat!(
            module_path!(),
            "::a_run_asked_to_stop_before_each_of_its_parts_begins_still_comes_to_its_end"
        )) {
            return;
        }
        let config = recall(false, "{ steps: 3, batch_size: 4, eval_every: 2 }")
            + "analysis: { probes: true, probe_examples: 8 }\n";
        let parts = |stopped: bool| {
            let folder = tempfile::tempdir().unwrap();
            let part = || {
                let mut trainer = crate::laws::samples::trainer(&config, folder.path());
                let ended = trainer.train(&AtomicBool::new(stopped), |_| ()).unwrap();
                (trainer.state.clone(), ended)
            };
            let mut ends = std::iter::repeat_with(part).take(10).enumerate();
            let (at, (state, ended)) =
                ends.find(|(_, (_, ended))| ended.outcome == Outcome::Finished).expect("it comes to its end");
            (at, state, ended.scores, ended.details)
        };
        let (whole, cut) = (parts(false), parts(true));
        // Step 1; step 2; its evaluation and step 3; its evaluation; test.
        assert_eq!((whole.0, cut.0), (0, 4));
        assert_eq!((whole.1, whole.2, whole.3), (cut.1, cut.2, cut.3));
    }

    /// Sequences of tokens of which every second one asks nothing.
    #[derive(Debug)]
    struct HalfAsked(Output);

    impl Task for HalfAsked {
        fn spec(&self) -> TaskSpec {
            TaskSpec { classes: 11, causal: true, ..crate::laws::samples::task_spec(self.0) }
        }

        fn len(&self, _split: Split) -> u64 {
            6
        }

        fn example(&self, _split: Split, index: u64) -> Result<tasks::Example, DataError> {
            let (positions, classes) =
                if index.is_multiple_of(2) { (vec![1, 3], vec![4, 2]) } else { (vec![], vec![]) };
            let targets = tasks::Targets::PerPosition { positions, classes };
            Ok(tasks::Example::new(vec![1 + index as i64, 2, 3, 4], targets))
        }

        fn floor(&self) -> Result<tasks::Bound, DataError> {
            Ok(tasks::Bound { score: 0.0, how: String::new() })
        }

        fn ceiling(&self) -> Result<tasks::Bound, DataError> {
            Ok(tasks::Bound { score: 1.0, how: String::new() })
        }
    }

    fn half_asked(output: Output, budget: &str, folder: &std::path::Path) -> Trainer {
        let beside = tempfile::tempdir().unwrap();
        let spec = crate::laws::samples::trainer(&recall(true, budget), beside.path()).spec;
        let task = Arc::new(HalfAsked(output));
        Trainer::new(spec, task, &Registry::default(), Device::Cpu, folder.into()).unwrap()
    }

    #[test]
    fn a_batch_in_which_nothing_is_asked_is_a_step_without_a_loss() {
        for (output, more) in [
            (Output::Tokens, ""),
            (Output::PerPosition, ""),
            (Output::Tokens, ", micro_batch: 1"),
            (Output::PerPosition, ", eval_batch_size: 2"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let budget = format!("{{ steps: 6, batch_size: 1, eval_every: 6{more} }}");
            let mut trainer = half_asked(output, &budget, folder.path());
            let ended = trainer.train(&AtomicBool::new(false), |_| ()).unwrap();
            assert_eq!((&ended.outcome, trainer.state.step), (&Outcome::Finished, 6), "{output:?}{more}");
            let point = trainer.state.curve[0];
            // Three of six batches had a loss, of some ln 11: the others are no zeros in its mean.
            assert!(point.train_loss > 1.8 && point.validation_loss > 1.8, "{output:?}{more}: {point:?}");
            assert!(ended.scores.test.is_some_and(f64::is_finite), "{output:?}{more}");
        }
    }

    /// Every weight NaN, until the tensors that come back are copied back.
    fn spoil(trainer: &Trainer) -> Vec<(Tensor, Tensor)> {
        tch::no_grad(|| {
            let of = |mut weight: Tensor| (weight.copy(), weight.fill_(f64::NAN));
            trainer.vs.trainable_variables().into_iter().map(of).collect()
        })
    }

    fn mend(spoiled: Vec<(Tensor, Tensor)>) {
        tch::no_grad(|| spoiled.into_iter().for_each(|(before, mut weight)| weight.copy_(&before)));
    }

    #[test]
    fn an_evaluation_that_is_no_number_gives_way_to_the_first_that_is_one() {
        for output in [Output::Tokens, Output::PerPosition] {
            let folder = tempfile::tempdir().unwrap();
            let mut trainer =
                half_asked(output, "{ steps: 9, batch_size: 2, eval_every: 3, patience: 2 }", folder.path());
            let best = |trainer: &Trainer| (trainer.state.best_step, trainer.best_step().unwrap());
            trainer.state.step = 1;
            let spoiled = spoil(&trainer);
            assert!(trainer.validate(&NEVER, &mut |_| ()).unwrap());
            assert!(trainer.state.curve[0].validation_loss.is_nan());
            assert_eq!(best(&trainer), (1, 1), "there is no other");
            // What a process reads back that goes on from here: NaN is null, and null is nothing.
            let text = serde_json::to_string(&trainer.state).unwrap();
            trainer.state = serde_json::from_str(&text).unwrap();
            trainer.state.step = 2;
            assert!(trainer.validate(&NEVER, &mut |_| ()).unwrap());
            assert_eq!((best(&trainer), trainer.state.evaluations_since_best), ((1, 1), 1), "no better");
            mend(spoiled);
            trainer.state.step = 3;
            trainer.validate(&NEVER, &mut |_| ()).unwrap();
            assert_eq!((best(&trainer), trainer.state.trained), ((3, 3), false), "{output:?}");
            let kept = trainer.state.best_loss;
            assert!(kept.is_some_and(f64::is_finite));
            spoil(&trainer);
            for step in [4, 5] {
                trainer.state.step = step;
                trainer.validate(&NEVER, &mut |_| ()).unwrap();
            }
            assert_eq!((best(&trainer), trainer.state.best_loss, trainer.state.trained), ((3, 3), kept, true));
        }
    }

    #[test]
    fn a_model_whose_loss_is_no_number_at_every_evaluation_has_diverged() {
        let folder = tempfile::tempdir().unwrap();
        let mut trainer = half_asked(Output::Tokens, "{ steps: 4, batch_size: 2, eval_every: 4 }", folder.path());
        spoil(&trainer);
        trainer.state.step = 4;
        let ended = trainer.train(&AtomicBool::new(false), |_| ()).unwrap();
        let reason = "validation loss was no finite number at any evaluation of 4 steps";
        assert_eq!(ended.outcome, Outcome::Diverged { reason: reason.into() });
        assert_eq!(ended.scores.test, None, "test is not evaluated");
    }

    #[test]
    fn better_is_a_number_first_then_a_score_or_of_language_models_a_loss() {
        let (nan, inf) = (f64::NAN, f64::INFINITY);
        for by_loss in [true, false] {
            for none in [(nan, nan), (0.9, nan), (0.9, inf), (nan, 0.1)] {
                assert!(is_better((0.1, 9.0), none, by_loss) && !is_better(none, (0.1, 9.0), by_loss), "{none:?}");
                assert!(!is_better(none, none, by_loss));
            }
            assert!(is_better((0.5, 1.0), (0.5, 2.0), by_loss) && !is_better((0.5, 1.0), (0.5, 1.0), by_loss));
        }
        assert!(is_better((0.1, 1.0), (0.9, 2.0), true));
        assert!(!is_better((0.1, 1.0), (0.9, 2.0), false));
    }

    #[test]
    fn a_checkpoint_that_the_system_does_not_give_out_is_an_error_and_not_a_run_that_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let budget = "{ steps: 2, batch_size: 1, eval_every: 2 }";
        let spec = half_asked(Output::PerPosition, budget, folder.path()).spec;
        // A file where the folder should be: the answer is neither "it is there" nor "it is not there".
        let file = folder.path().join("file");
        std::fs::write(&file, "").unwrap();
        let new = |spec| {
            let task = Arc::new(HalfAsked(Output::PerPosition));
            Trainer::new(spec, task, &Registry::default(), Device::Cpu, file.join("work/run")).map(drop)
        };
        assert!(matches!(new(spec.clone()), Err(TrainError::Checkpoint(_))));
        let start = Some(crate::train::spec::Start::Run("first".into()));
        assert!(matches!(new(RunSpec { start, ..spec }), Err(TrainError::Checkpoint(_))));
    }

    #[test]
    fn a_run_that_begins_again_has_its_whole_time() {
        let folder = tempfile::tempdir().unwrap();
        let budget = "{ steps: 2, batch_size: 1, eval_every: 2, timeout_minutes: 60 }";
        std::fs::write(folder.path().join("last.safetensors"), "no checkpoint").unwrap();
        let clock = Clock { wall_seconds: 1e6, steps_per_second: vec![1.0], ..Clock::default() };
        std::fs::write(folder.path().join("clock.json"), serde_json::to_vec(&clock).unwrap()).unwrap();
        let mut trainer = half_asked(Output::PerPosition, budget, folder.path());
        assert!(trainer.wall_seconds() < 60.0 && trainer.clock.steps_per_second.is_empty(), "{:?}", trainer.clock);
        assert_eq!(trainer.notes().len(), 1, "{:?}", trainer.notes());
        let ended = trainer.train(&AtomicBool::new(false), |_| ()).unwrap();
        assert_eq!(ended.outcome, Outcome::Finished, "what was lost is no part of the limit");
    }

    #[test]
    fn the_end_of_training_is_announced_before_the_last_evaluation_and_before_test() {
        let folder = tempfile::tempdir().unwrap();
        let said = |stop: bool| {
            let mut trainer = half_asked(Output::Tokens, "{ steps: 2, batch_size: 2, eval_every: 1 }", folder.path());
            let mut said = Vec::new();
            let ended = trainer.train(&AtomicBool::new(stop), |event| match event {
                Event::Trained => said.push("trained".to_owned()),
                Event::Evaluated(point) => said.push(format!("evaluated {}", point.step)),
                _ => {}
            });
            (said.join(", "), ended.unwrap().outcome.word())
        };
        assert_eq!(said(true), (String::new(), "interrupted"), "one step");
        assert_eq!(said(false), ("evaluated 1, trained, evaluated 2, trained".into(), "finished"));
        assert_eq!(said(false), ("trained".into(), "finished"), "one that only has test left says so at once");
    }
}
