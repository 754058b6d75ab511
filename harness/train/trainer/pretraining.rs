//! The stage before the first step of a run: the same batches without their labels, an optimizer of its own.

use super::meter::Meter;
use super::{Ended, Trainer};
use crate::base::events::Event;
use crate::train::error::TrainError;
use crate::train::feed::Feed;
use results::Outcome;
use std::sync::atomic::{AtomicBool, Ordering};
use tasks::Batch;
use tch::Tensor;

impl Trainer {
    /// Steps done in both stages.
    pub fn steps_done(&self) -> u64 {
        self.state.step + self.state.pretraining.map_or(0, |p| p.step)
    }

    /// What pretraining came to, as a remark on the run.
    pub fn pretraining_note(&self) -> Option<String> {
        let (config, done) = (self.spec.pretrain.as_ref()?, self.state.pretraining.filter(|p| p.step > 0)?);
        let last = match done.last_count {
            0 => String::new(),
            n => format!(", {:.4} over the last {n}", done.last_sum / n as f64),
        };
        Some(format!(
            "pretrained by {} for {} of {} steps: loss {:.4} nats at the first{last}",
            config.objective.name(),
            done.step,
            config.steps,
            done.first_loss
        ))
    }

    /// Steps of pretraining still to do.
    pub(super) fn pretraining_left(&self) -> u64 {
        let wanted = self.spec.pretrain.as_ref().map_or(0, |p| p.steps);
        wanted.saturating_sub(self.state.pretraining.map_or(0, |p| p.step))
    }

    /// Ends pretraining: its head and mask vector go, the optimizer knows nothing yet.
    pub(super) fn start_over(&mut self) {
        if self.stage.take().is_some() {
            self.optimizer = self.fresh_optimizer();
        }
    }

    /// Variables of the stage by the name they have in a checkpoint.
    pub(super) fn stage_tensors(&self) -> Vec<(String, Tensor)> {
        let own = self.stage.iter().flat_map(|stage| stage.store().variables());
        own.map(|(name, tensor)| (format!("model.{name}"), tensor)).collect()
    }

    /// Pretrains to the end of that stage; how the run ended where it did not come so far.
    pub(super) fn pretrain(
        &mut self,
        stop: &AtomicBool,
        send: &mut impl FnMut(Event),
    ) -> Result<Option<Ended>, TrainError> {
        let Some(config) = self.spec.pretrain.clone().filter(|_| self.pretraining_left() > 0) else { return Ok(None) };
        let budget = self.spec.budget.clone();
        let (from, every) = (self.steps_done(), budget.checkpoint_every.unwrap_or(budget.eval_every));
        let mut feed = Feed::start(self.task.clone(), self.order(), from, config.steps);
        let mut meter = Meter::start();
        for step in from + 1..=config.steps {
            let (loss, norm) = self.pretraining_step(&feed.take()?);
            if !loss.is_finite() || !norm.is_finite() {
                let reason =
                    format!("pretraining loss is {loss}, gradient norm {norm}, at step {step} of {}", config.steps);
                return Ok(Some(self.ended(Outcome::Diverged { reason }, None)?));
            }
            meter.add(loss);
            if let Some(progress) = meter.read(step, config.steps + budget.steps, step == config.steps) {
                send(Event::Progress(progress));
            }
            if step == config.steps {
                self.start_over();
            }
            if step.is_multiple_of(every) || step == config.steps {
                self.save()?;
            }
            let at = format!("at step {step} of {} of pretraining", config.steps);
            let minutes = self.wall_seconds() / 60.0;
            if let Some(limit) = budget.timeout_minutes.filter(|limit| minutes > *limit) {
                self.save()?;
                let reason = format!("passed its limit of {limit} minutes {at}");
                return Ok(Some(self.ended(Outcome::TimedOut { reason }, None)?));
            }
            if stop.load(Ordering::Relaxed) {
                self.save()?;
                let reason = format!("stopped by a signal {at}");
                return Ok(Some(self.ended(Outcome::Interrupted { reason }, None)?));
            }
        }
        Ok(None)
    }

    /// One optimizer step of this stage; the loss before it and the gradient's norm.
    fn pretraining_step(&mut self, batch: &Batch) -> (f64, f64) {
        let stage = self.stage.as_ref().expect("called while pretraining");
        let mut done = self.state.pretraining.unwrap_or_default();
        self.optimizer.zero_grad();
        let loss = self.pretraining_gradients(batch, done.step);
        let norm = self.optimizer.step(stage.config.factor(&self.spec.schedule, self.spec.optimizer.lr, done.step));
        if done.step == 0 {
            done.first_loss = loss;
        }
        if done.step >= stage.config.steps - stage.config.steps.div_ceil(10) {
            done.last_sum += loss;
            done.last_count += 1;
        }
        done.step += 1;
        self.state.pretraining = Some(done);
        (loss, norm)
    }
}

#[cfg(test)]
mod tests;
