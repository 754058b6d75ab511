//! Batches, made ahead of the trainer by a thread of their own.

use crate::model::Inputs;
use crate::trainer::TrainError;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use tasks::{Batch, DataError, Order, Split, Targets, Task};
use tch::{Device, Tensor};

/// Batches ready at any time.
const AHEAD: usize = 4;

/// Training batches from one index on, in order.
pub struct Feed(Receiver<Result<Batch, DataError>>);

impl Feed {
    /// Starts making batches `from`, `from + 1`, … `to - 1`.
    pub fn start(task: Arc<dyn Task>, order: Order, from: u64, to: u64) -> Self {
        let (sender, receiver) = sync_channel(AHEAD);
        std::thread::spawn(move || {
            for index in from..to {
                // The receiver is gone when training ended early.
                if sender.send(task.batch(Split::Train, index, &order)).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    /// The next batch. Asking for more of them than were to be made is an error, as is a thread that died.
    pub fn take(&self) -> Result<Batch, TrainError> {
        match self.0.recv() {
            Ok(batch) => Ok(batch?),
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
    let inputs = Inputs {
        tokens: move_to(
            Tensor::from_slice(&batch.tokens).view([(batch.documents * batch.size) as i64, batch.length as i64]),
        ),
        lengths: padded.then(|| move_to(Tensor::from_slice(&batch.lengths))),
        positions,
    };
    (inputs, move_to(Tensor::from_slice(batch.targets.classes())))
}
