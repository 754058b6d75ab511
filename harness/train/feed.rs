//! Batches, made ahead of the trainer by threads of their own.

use crate::model::Inputs;
use crate::train::error::TrainError;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Instant;
use tasks::{Batch, DataError, Order, Split, Targets, Task};
use tch::{Device, Tensor};

/// Threads that make batches; each makes every so many-th one, and they are taken in order.
const LOADERS: u64 = 2;
/// Batches a thread has ready at any time.
const AHEAD: usize = 3;

/// A batch and the seconds that making it took.
type Made = (Result<Batch, DataError>, f64);

/// Training batches from one index on, in order.
pub struct Feed {
    loaders: Vec<Receiver<Made>>,
    next: usize,
    /// What waiting and making came to.
    pub clock: FeedClock,
}

/// Seconds of a feed.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct FeedClock {
    /// That the trainer waited for batches.
    #[serde(default)]
    pub waited: f64,
    /// That the loaders spent on the batches taken, added up.
    #[serde(default)]
    pub making: f64,
    /// Examples taken.
    #[serde(default)]
    pub examples: f64,
}

impl Feed {
    /// Starts making batches `from`, `from + 1`, … `to - 1`.
    pub fn start(task: Arc<dyn Task>, order: Order, from: u64, to: u64) -> Self {
        let loader = |first: u64| {
            let (sender, receiver) = sync_channel(AHEAD);
            let task = task.clone();
            std::thread::spawn(move || {
                for index in (first..to).step_by(LOADERS as usize) {
                    let begun = Instant::now();
                    let batch = task.batch(Split::Train, index, &order);
                    // The receiver is gone when training ended early.
                    if sender.send((batch, begun.elapsed().as_secs_f64())).is_err() {
                        return;
                    }
                }
            });
            receiver
        };
        Self { loaders: (from..from + LOADERS).map(loader).collect(), next: 0, clock: FeedClock::default() }
    }

    /// The next batch. Asking for more of them than were to be made is an error, as is a thread that died.
    pub fn take(&mut self) -> Result<Batch, TrainError> {
        let begun = Instant::now();
        let made = self.loaders[self.next].recv();
        self.clock.waited += begun.elapsed().as_secs_f64();
        self.next = (self.next + 1) % self.loaders.len();
        match made {
            Ok((batch, seconds)) => {
                let batch = batch?;
                self.clock.making += seconds;
                self.clock.examples += batch.size as f64;
                Ok(batch)
            }
            Err(_) => Err(TrainError::Spec("making batches stopped early; the log says why".into())),
        }
    }
}

/// A batch's tensors on `device`, and its classes, int64 `[scored]`.
pub fn to_tensors(batch: &Batch, device: Device) -> (Inputs, Tensor) {
    let padded = batch.lengths.iter().any(|&l| l != batch.length as i64);
    let move_to = |t: Tensor| t.to_device(device);
    let positions = match &batch.targets {
        Targets::PerSequence(_) => None,
        Targets::PerPosition { positions, .. } => Some(move_to(Tensor::from_slice(positions))),
    };
    let mut shape = vec![(batch.documents * batch.size) as i64, batch.length as i64];
    if batch.width > 1 {
        shape.push(batch.width as i64);
    }
    let inputs = Inputs {
        tokens: move_to(Tensor::from_slice(&batch.tokens).view(shape.as_slice())),
        types: (!batch.types.is_empty()).then(|| move_to(Tensor::from_slice(&batch.types).view(shape.as_slice()))),
        lengths: padded.then(|| move_to(Tensor::from_slice(&batch.lengths))),
        positions,
    };
    (inputs, move_to(Tensor::from_slice(batch.targets.classes())))
}
