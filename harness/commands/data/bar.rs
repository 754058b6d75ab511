//! How far a long step is: a bar on a terminal, a line now and then elsewhere, nothing when quiet.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Seconds between two lines.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Shown as sizes, with a speed.
    Bytes,
    /// Shown as numbers.
    Examples,
}

/// One step of which somebody may want to see how far it is.
pub struct Bar {
    name: String,
    unit: Unit,
    total: Option<u64>,
    bar: Option<ProgressBar>,
    quiet: bool,
    told: Instant,
}

impl Bar {
    /// Nothing done yet.
    pub fn new(name: impl Into<String>, unit: Unit, quiet: bool) -> Self {
        let name = name.into();
        let bar = (!quiet && std::io::stderr().is_terminal()).then(|| {
            let template = match unit {
                Unit::Bytes => "{prefix:<24} {bar:24} {bytes}/{total_bytes}  {bytes_per_sec}  {eta} left",
                Unit::Examples => "{prefix:<24} {bar:24} {pos}/{len}  {per_sec}  {eta} left",
            };
            let style = ProgressStyle::with_template(template).expect("a valid template");
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(4));
            bar.with_style(style).with_prefix(name.clone())
        });
        Self { name, unit, total: None, bar, quiet, told: Instant::now() }
    }

    /// `done` of `total` were there before; neither counts for the speed.
    pub fn begin(&mut self, done: u64, total: Option<u64>) {
        self.total = total;
        if let Some(bar) = &self.bar {
            total.into_iter().for_each(|total| bar.set_length(total));
            bar.set_position(done);
            bar.reset_eta();
        }
    }

    /// The total, told anew with each step.
    pub fn of(&mut self, total: u64) {
        if self.total != Some(total) {
            self.begin(0, Some(total));
        }
    }

    /// So far.
    pub fn at(&mut self, done: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
        } else if !self.quiet && self.told.elapsed() >= LINE_EVERY {
            self.told = Instant::now();
            let shown = |n: u64| match self.unit {
                Unit::Bytes => tasks::data::fetch::size(n),
                Unit::Examples => super::grouped(n),
            };
            let of = self.total.map_or(String::new(), |total| {
                format!(" of {} ({:.0} %)", shown(total), 100.0 * done as f64 / total.max(1) as f64)
            });
            eprintln!("{}: {}{of}", self.name, shown(done));
        }
    }

    /// A remark above the bar.
    pub fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{}: {text}", self.name)),
            None if self.quiet => {}
            None => eprintln!("{}: {text}", self.name),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
