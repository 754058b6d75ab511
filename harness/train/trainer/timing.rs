//! How long a step takes: a few steps on the task's own batches, or on made-up ones where its data are not at hand.

use super::Trainer;
use crate::train::error::TrainError;
use crate::train::feed::Feed;
use std::time::{Duration, Instant};
use tasks::{Bound, DataError, Example, Outline, Output, Split, Targets, Task, TaskSpec};

/// Most steps that are timed.
const STEPS: usize = 20;

impl Trainer {
    /// Seconds of an optimizer step, waiting for its batch included: the median of as many as fit into `limit`, the first left out
    /// where there are more. The run is of no use afterwards.
    pub fn time_steps(&mut self, limit: Duration) -> Result<f64, TrainError> {
        let begun = Instant::now();
        let mut feed = Feed::start(self.task.clone(), self.order(), 0, STEPS as u64 + 1);
        let mut seconds = Vec::new();
        while seconds.len() <= STEPS && (seconds.is_empty() || begun.elapsed() < limit) {
            let step = Instant::now();
            let batch = feed.take()?;
            self.step(&batch);
            seconds.push(step.elapsed().as_secs_f64());
        }
        if seconds.len() > 1 {
            seconds.remove(0);
        }
        seconds.sort_by(f64::total_cmp);
        Ok(seconds[seconds.len() / 2])
    }
}

/// A run that is stepped from outside, with its batches.
pub struct Stepper {
    trainer: Trainer,
    feed: Feed,
}

impl Stepper {
    /// Of a run that has taken no step, for so many.
    pub fn new(trainer: Trainer, steps: u64) -> Self {
        let feed = Feed::start(trainer.task.clone(), trainer.order(), 0, steps);
        Self { trainer, feed }
    }

    /// One optimizer step, waiting for its batch included.
    pub fn step(&mut self) -> Result<(), TrainError> {
        let batch = self.feed.take()?;
        self.trainer.step(&batch);
        Ok(())
    }
}

/// Examples of a task's shape and nothing else of it: its longest length, its vocabulary, its classes.
#[derive(Debug)]
pub struct StandIn(TaskSpec);

/// Examples of each split; no more are timed.
const EXAMPLES: u64 = 1 << 20;

impl StandIn {
    /// Of the task with this outline.
    pub fn new(outline: Outline) -> Self {
        Self(outline.spec())
    }

    fn bound(&self) -> Bound {
        Bound { score: 0.0, how: "examples of the task's shape alone".into() }
    }
}

impl Task for StandIn {
    fn spec(&self) -> TaskSpec {
        self.0.clone()
    }

    fn len(&self, _: Split) -> u64 {
        EXAMPLES
    }

    fn example(&self, _: Split, index: u64) -> Result<Example, DataError> {
        let length = self.0.max_length * self.0.input.width();
        let mixed = |at: i64, below: i64| ((index as i64 % 8191 + 1) * 7919 + at * 104_729).rem_euclid(below.max(1));
        let tokens = || (0..length).map(|at| mixed(at, self.0.vocab_size)).collect();
        let targets = match self.0.output {
            Output::PerSequence | Output::Value => Targets::PerSequence(vec![mixed(0, self.0.classes)]),
            _ => Targets::PerPosition {
                positions: (0..self.0.max_length).collect(),
                classes: (0..self.0.max_length).map(|at| mixed(at, self.0.classes)).collect(),
            },
        };
        Ok(Example { tokens: tokens(), second: (self.0.documents > 1).then(tokens), segment: None, targets })
    }

    fn floor(&self) -> Result<Bound, DataError> {
        Ok(self.bound())
    }

    fn ceiling(&self) -> Result<Bound, DataError> {
        Ok(self.bound())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;
    use serde_json::json;
    use std::sync::Arc;

    #[test]
    fn steps_are_timed_on_batches_of_every_task_s_shape() {
        let registry = Registry::default();
        for entry in &registry.tasks {
            let outline = entry.outline(&(entry.defaults)());
            // As long as a test can wait for.
            let outline = Outline { max_length: outline.max_length.min(24), ..outline };
            let config = "tasks: [mqar: { vocab_size: 16, seq_len: 12, kv_pairs: 2, causal: false }]\n\
                          model: { d_model: 8, n_layers: 1 }\nbudget: { steps: 3, batch_size: 2 }\n\
                          mixers: [attention: { n_heads: 2 }]\n";
            let folder = tempfile::tempdir().unwrap();
            let spec = crate::laws::samples::trainer(config, folder.path()).spec.clone();
            let task = Arc::new(StandIn::new(outline));
            let own = task.example(Split::Train, 3).unwrap();
            let classes = own.targets.classes();
            assert!(classes.iter().all(|class| (0..outline.classes.max(1)).contains(class)), "{}", entry.name);
            assert!(own.tokens.iter().all(|token| (0..outline.vocab_size.max(1)).contains(token)), "{}", entry.name);
            let nowhere = "/nonexistent/gauge".into();
            let mut trainer = Trainer::new(spec, task, &registry, tch::Device::Cpu, nowhere).unwrap();
            let seconds = trainer.time_steps(Duration::from_millis(1)).unwrap();
            assert!(seconds > 0.0 && seconds.is_finite(), "{} {}", entry.name, json!(seconds));
        }
    }
}
