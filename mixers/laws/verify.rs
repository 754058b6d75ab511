//! Reference dumps against mixers: a dump's family says which mixer replays it.

use crate::Entry;
use crate::core::quiet::quietly;
use crate::laws::goldens::{Bound, Golden, GoldenError, Replay, error_in};
use std::path::Path;
use tch::{Device, Kind};

/// One group of a file's tensors: outputs, input gradients or parameter gradients.
#[derive(Clone, Debug, serde::Serialize)]
pub struct GroupResult {
    /// `output`, `grad_input` or `grad_param`.
    pub group: &'static str,
    /// Tensors compared.
    pub tensors: usize,
    /// Name of the tensor nearest to (or furthest past) its tolerance.
    pub worst: String,
    /// Its largest deviation, relative to the largest reference entry of its role; infinite where a tensor is missing.
    pub error: f64,
    /// What it was allowed.
    pub tolerance: f64,
}

impl GroupResult {
    /// Whether every tensor of the group is within its tolerance.
    pub fn passed(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// How one file went.
#[derive(Debug)]
pub enum Verdict {
    /// Compared, group by group.
    Compared(Vec<GroupResult>),
    /// No mixer for it in this build.
    Unsupported(String),
    /// The file could not be used.
    Broken(String),
}

/// How one file went, and what it is.
#[derive(Debug)]
pub struct Held {
    /// The part of the file name before `__`.
    pub family: String,
    /// `Float` or `Double`; `None` where the file does not tell.
    pub kind: Option<Kind>,
    /// How it went.
    pub verdict: Verdict,
}

impl Held {
    /// Whether every tensor was compared and is within its tolerance.
    pub fn passed(&self) -> bool {
        matches!(&self.verdict, Verdict::Compared(groups) if groups.iter().all(GroupResult::passed))
    }
}

/// The families that `mixers` replay, in order of name.
pub fn families(mixers: &[Entry]) -> Vec<&'static str> {
    let mut names: Vec<_> = mixers.iter().flat_map(|entry| (entry.replays)()).map(|(family, _)| *family).collect();
    names.sort_unstable();
    names
}

/// Holds one file against the mixer of its family, on a CPU. A file that makes libtorch panic is [`Verdict::Broken`].
pub fn verify(path: &Path, mixers: &[Entry]) -> Held {
    verify_on(path, mixers, Device::Cpu)
}

/// The same on any device.
pub fn verify_on(path: &Path, mixers: &[Entry], device: Device) -> Held {
    let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
    let family = name.split_once("__").map_or(name, |(family, _)| family).to_string();
    let golden = match Golden::read_to(path, device) {
        Ok(golden) => golden,
        Err(e) => return Held { family, kind: None, verdict: Verdict::Broken(e.to_string()) },
    };
    Held { family, kind: Some(golden.kind), verdict: verdict(&golden, mixers) }
}

fn verdict(golden: &Golden, mixers: &[Entry]) -> Verdict {
    let mut replays = mixers.iter().flat_map(|entry| (entry.replays)());
    let Some((_, replay)) = replays.find(|(family, _)| *family == golden.family) else {
        return Verdict::Unsupported(format!("no mixer of this build replays the family `{}`", golden.family));
    };
    let replayed = match golden.check() {
        Ok(()) => quietly(|| replay(golden)),
        Err(e) => return Verdict::Broken(e.to_string()),
    };
    match replayed {
        Ok(Ok(replay)) => match golden.all_used(&replay) {
            Ok(()) => Verdict::Compared(compare(golden, &replay)),
            Err(e) => Verdict::Broken(e.to_string()),
        },
        Ok(Err(GoldenError::Unsupported(why))) => Verdict::Unsupported(why),
        Ok(Err(e)) => Verdict::Broken(format!("{e}{}", golden.unread_note())),
        Err(why) => {
            let path = golden.path.display();
            Verdict::Broken(format!("{path}: it cannot be replayed: {why}{}", golden.unread_note()))
        }
    }
}

/// Every group of `golden` against what the mixer gave.
fn compare(golden: &Golden, replay: &Replay) -> Vec<GroupResult> {
    let mut groups: Vec<GroupResult> = Vec::new();
    for (key, want) in golden.expected() {
        let (group, name) = match key.split_once('.') {
            Some(("output" | "aux", name)) => ("output", name),
            Some(("grad_input", name)) => ("grad_input", name),
            Some((_, name)) => ("grad_param", name),
            None => continue,
        };
        let Bound { scale, tolerance } = golden.bound(key);
        let error = replay.0.get(key).map_or(f64::INFINITY, |got| error_in(scale, got, want));
        let at = groups.iter().position(|g| g.group == group).unwrap_or_else(|| {
            groups.push(GroupResult { group, tensors: 0, worst: name.into(), error: 0.0, tolerance });
            groups.len() - 1
        });
        let so_far = &mut groups[at];
        so_far.tensors += 1;
        if error / tolerance > so_far.error / so_far.tolerance {
            (so_far.worst, so_far.error, so_far.tolerance) = (name.into(), error, tolerance);
        }
    }
    groups
}

#[cfg(test)]
mod tests;
