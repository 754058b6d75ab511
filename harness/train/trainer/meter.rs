//! Speed and loss between two messages of progress.

use crate::base::events::Progress;
use std::time::Instant;

/// Seconds between two of them.
const SECONDS: f64 = 0.5;

/// What came since the last one.
#[derive(Debug)]
pub(super) struct Meter {
    since: Instant,
    steps: u64,
    loss: f64,
}

impl Meter {
    /// Nothing yet.
    pub(super) fn start() -> Self {
        Self { since: Instant::now(), steps: 0, loss: 0.0 }
    }

    /// Counts a step in.
    pub(super) fn add(&mut self, loss: f64) {
        self.steps += 1;
        self.loss += loss;
    }

    /// Progress at `step` of `steps`, when it is time for it or `at_once`; the meter then begins anew.
    pub(super) fn read(&mut self, step: u64, steps: u64, at_once: bool) -> Option<Progress> {
        let seconds = self.since.elapsed().as_secs_f64();
        if seconds < SECONDS && !at_once {
            return None;
        }
        let (made, loss) = (self.steps as f64, self.loss / self.steps.max(1) as f64);
        let steps_per_second = made / seconds.max(1e-9);
        let seconds_left = (steps - step) as f64 / steps_per_second.max(1e-9);
        *self = Self::start();
        Some(Progress { step, steps, loss, steps_per_second, seconds_left })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loss_is_the_mean_of_the_steps_since_the_last_message() {
        let mut meter = Meter::start();
        meter.add(1.0);
        meter.add(2.0);
        assert_eq!(meter.read(2, 10, false), None, "half a second has not passed");
        let first = meter.read(2, 10, true).unwrap();
        assert_eq!((first.step, first.steps, first.loss), (2, 10, 1.5));
        assert!((first.seconds_left * first.steps_per_second - 8.0).abs() < 1e-9, "{first:?}");
        meter.add(5.0);
        assert_eq!(meter.read(3, 10, true).unwrap().loss, 5.0);
    }
}
