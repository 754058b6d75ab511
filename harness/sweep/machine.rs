//! How fast this machine takes large matrix products: measured once for each device, precision and number of threads, on a machine that
//! does nothing else if it can be had, and kept in the store.
//!
//! ```text
//! STORE/machine/HASH.json    one file a machine, device, precision and number of threads
//! ```

use crate::base::limits;
use crate::cli::DeviceKind;
use crate::sweep::gauge::{Gauge, Job, Said};
use crate::train::spec::LIBTORCH;
use mixers::Precision;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a measurement may take, start of the process included.
const LIMIT: Duration = Duration::from_secs(20);
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

/// A figure as it is kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    #[serde(flatten)]
    key: Key,
    /// Operations a second.
    flops_per_second: f64,
    /// Whether nothing else kept the processor busy when it was taken.
    quiet: bool,
    /// How often it was taken.
    tries: u32,
}

/// This machine as runs use it.
#[derive(Clone, Debug)]
pub struct Machine {
    store: PathBuf,
    device: DeviceKind,
    threads: usize,
}

impl Machine {
    /// With what `store` knows of it.
    pub fn new(store: &Path, device: DeviceKind, threads: usize) -> Self {
        Self { store: store.into(), device, threads: threads.max(1) }
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
        self.store.join("machine").join(format!("{}.json", &blake3::hash(&text).to_hex()[..16]))
    }

    fn kept(&self, precision: Precision) -> Option<Kept> {
        let key = self.key(precision);
        let kept: Kept = serde_json::from_slice(&std::fs::read(self.path(&key)).ok()?).ok()?;
        (kept.key == key && kept.flops_per_second > 0.0 && kept.flops_per_second.is_finite()).then_some(kept)
    }

    /// Operations a second, as far as they were measured.
    pub fn known(&self, precision: Precision) -> Option<f64> {
        Some(self.kept(precision)?.flops_per_second)
    }

    /// The same, measured now unless it was before on a quiet machine. Nothing of this process may compute meanwhile. `keep`: whether
    /// the store, which must be there, gets to know it; a store that cannot be written to is no reason to fail.
    pub fn measured(&self, precision: Precision, keep: bool) -> Option<f64> {
        let before = self.kept(precision);
        if let Some(kept) = before.as_ref().filter(|kept| kept.quiet || kept.tries >= TRIES) {
            return Some(kept.flops_per_second);
        }
        let asked = Gauge::start(self.device, self.threads).ok()?.ask(&Job::Peak { precision }, LIMIT);
        let Ok(Said::Peak { flops, quiet }) = asked else { return before.map(|kept| kept.flops_per_second) };
        let (best, tries) = before.map_or((flops, 0), |kept| (flops.max(kept.flops_per_second), kept.tries));
        let kept = Kept { key: self.key(precision), flops_per_second: best, quiet, tries: tries + 1 };
        if keep {
            let path = self.path(&kept.key);
            let text = serde_json::to_vec_pretty(&kept).expect("a figure is plain data");
            let folder = path.parent().expect("it lies in a folder");
            let _ = std::fs::create_dir_all(folder).and_then(|()| results::replace(&path, &text));
        }
        Some(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_kept_for_one_device_precision_and_number_of_threads() {
        let folder = tempfile::tempdir().unwrap();
        let machine = |threads| Machine::new(folder.path(), DeviceKind::Cpu, threads);
        assert_eq!(machine(2).known(Precision::F32), None);
        let key = machine(2).key(Precision::F32);
        let kept = Kept { key: key.clone(), flops_per_second: 7e10, quiet: true, tries: 1 };
        let path = machine(2).path(&key);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, serde_json::to_vec(&kept).unwrap()).unwrap();
        // Known, and not measured again: the figure stays to the digit.
        assert_eq!(machine(2).measured(Precision::F32, true), Some(7e10));
        assert_eq!([machine(1).known(Precision::F32), machine(2).known(Precision::Bf16)], [None, None]);
        // Of another machine, or no figure at all.
        let other = Kept { key: Key { host: "another".into(), ..key }, ..kept };
        std::fs::write(&path, serde_json::to_vec(&other).unwrap()).unwrap();
        assert_eq!(machine(2).known(Precision::F32), None);
        std::fs::write(&path, "{").unwrap();
        assert_eq!(machine(2).known(Precision::F32), None);
    }
}
