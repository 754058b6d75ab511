//! How fast this machine takes large matrix products: measured once for each device, precision and number of threads.
//! [`crate::sweep::gauge`] measures it.
//!
//! ```text
//! CACHE/machine/HASH.json    one file a machine, device, precision and number of threads; CACHE: ~/.cache/mixarena
//! ```

use crate::base::choices::DeviceKind;
use crate::base::limits;
use crate::train::spec::LIBTORCH;
use mixers::Precision;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Times that a figure is taken again because the machine was busy. The best of them counts.
const TRIES: u32 = 5;

/// Which figure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Key {
    host: String,
    processor: String,
    cores: usize,
    device: String,
    precision: Precision,
    threads: usize,
    libtorch: String,
}

/// A speed and how it was taken.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// Operations a second: the best of all tries.
    pub flops_per_second: f64,
    /// Whether nothing else kept the processor busy at the last try.
    pub quiet: bool,
    /// How often it was taken.
    pub tries: u32,
}

impl Figure {
    /// Whether it is taken no more: it is of a quiet machine, or the best of enough tries on a busy one.
    fn is_settled(&self) -> bool {
        self.quiet || self.tries >= TRIES
    }

    /// The figure after one more try, of which `before` is what the tries until now came to.
    fn next(before: Option<Self>, flops: f64, quiet: bool) -> Self {
        let (best, tries) = before.map_or((flops, 0), |before| (flops.max(before.flops_per_second), before.tries));
        Self { flops_per_second: best, quiet, tries: tries + 1 }
    }
}

/// A figure as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    key: Key,
    #[serde(flatten)]
    figure: Figure,
}

/// This machine as runs use it.
#[derive(Clone, Debug)]
pub struct Machine {
    /// Where its figures are kept.
    folder: PathBuf,
    device: DeviceKind,
    threads: usize,
}

impl Machine {
    /// With what is known of it.
    pub fn new(device: DeviceKind, threads: usize) -> Self {
        Self::of_folder(&tasks::data::prepared::cache_folder().join("machine"), device, threads)
    }

    fn of_folder(folder: &Path, device: DeviceKind, threads: usize) -> Self {
        Self { folder: folder.into(), device, threads: threads.max(1) }
    }

    fn key(&self, precision: Precision) -> Key {
        Key {
            host: limits::host_name(),
            processor: limits::processor_name(),
            cores: limits::cores(),
            device: self.device.word().into(),
            precision,
            threads: self.threads,
            libtorch: LIBTORCH.into(),
        }
    }

    fn path(&self, key: &Key) -> PathBuf {
        let text = serde_json::to_vec(key).expect("a key is plain data");
        self.folder.join(format!("{}.json", &blake3::hash(&text).to_hex()[..16]))
    }

    fn kept(&self, precision: Precision) -> Option<Figure> {
        let key = self.key(precision);
        let kept: Kept = serde_json::from_slice(&std::fs::read(self.path(&key)).ok()?).ok()?;
        let flops = kept.figure.flops_per_second;
        (kept.key == key && flops > 0.0 && flops.is_finite()).then_some(kept.figure)
    }

    /// Where it computes, and with how many threads.
    pub fn place(&self) -> (DeviceKind, usize) {
        (self.device, self.threads)
    }

    /// Operations a second, as far as they were measured.
    pub fn known(&self, precision: Precision) -> Option<f64> {
        Some(self.kept(precision)?.flops_per_second)
    }

    /// The same, where they need not be measured again.
    pub fn settled(&self, precision: Precision) -> Option<f64> {
        Some(self.kept(precision).filter(Figure::is_settled)?.flops_per_second)
    }

    /// Takes one more measurement into account, and keeps it; operations a second, as far as is known now. A folder that cannot be
    /// written to is no reason to fail: it is measured again the next time.
    pub fn add(&self, precision: Precision, flops: f64, quiet: bool) -> f64 {
        let kept = Kept { key: self.key(precision), figure: Figure::next(self.kept(precision), flops, quiet) };
        let text = serde_json::to_vec_pretty(&kept).expect("a figure is plain data");
        let path = self.path(&kept.key);
        let _ = std::fs::create_dir_all(&self.folder).and_then(|()| results::replace(&path, &text));
        kept.figure.flops_per_second
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_kept_for_one_device_precision_and_number_of_threads() {
        let folder = tempfile::tempdir().unwrap();
        let machine = |threads| Machine::of_folder(folder.path(), DeviceKind::Cpu, threads);
        assert_eq!(machine(2).known(Precision::F32), None);
        let key = machine(2).key(Precision::F32);
        let kept = Kept { key: key.clone(), figure: Figure { flops_per_second: 7e10, quiet: true, tries: 1 } };
        let path = machine(2).path(&key);
        std::fs::write(&path, serde_json::to_vec(&kept).unwrap()).unwrap();
        // Known, and not measured again: the figure stays to the digit.
        assert_eq!(crate::sweep::gauge::measured(&machine(2), Precision::F32), Some(7e10));
        assert_eq!([machine(1).known(Precision::F32), machine(2).known(Precision::Bf16)], [None, None]);
        // Of another machine, or no figure at all.
        let other = Kept { key: Key { host: "another".into(), ..key }, ..kept };
        std::fs::write(&path, serde_json::to_vec(&other).unwrap()).unwrap();
        assert_eq!(machine(2).known(Precision::F32), None);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(machine(2).known(Precision::F32), None);
        // What `add` keeps is what is known from then on.
        assert_eq!(machine(2).add(Precision::F32, 3e10, false), 3e10);
        assert_eq!((machine(2).known(Precision::F32), machine(2).settled(Precision::F32)), (Some(3e10), None));
        assert_eq!(machine(2).add(Precision::F32, 2e10, true), 3e10);
        assert_eq!(machine(2).settled(Precision::F32), Some(3e10));
    }

    #[test]
    fn a_figure_of_a_busy_machine_is_taken_again_until_it_is_quiet_or_enough_were_tried() {
        let figure = |flops_per_second, quiet, tries| Figure { flops_per_second, quiet, tries };
        assert_eq!(Figure::next(None, 5.0, false), figure(5.0, false, 1));
        // The best counts, whether it comes before or after.
        assert_eq!(Figure::next(Some(figure(5.0, false, 1)), 4.0, false), figure(5.0, false, 2));
        assert_eq!(Figure::next(Some(figure(5.0, false, 2)), 6.0, true), figure(6.0, true, 3));
        assert!(figure(6.0, true, 1).is_settled() && !figure(6.0, false, TRIES - 1).is_settled());
        assert!(figure(6.0, false, TRIES).is_settled());
    }
}
