//! Image: CIFAR-10 in grey, read pixel by pixel, row after row; ten classes.
//!
//! ```text
//! s4    grey = (19595 R + 38470 G + 7471 B + 32768) >> 16       one real feature (x - 122.6) / 61
//! lra   grey = ⌊255.5 (0.2989 R + 0.587 G + 0.114 B) / 255⌋     a token, vocabulary 256
//! ```
//! Paper    Krizhevsky 2009 (CIFAR-10); as a sequence task: Tay et al. 2020 (Long Range Arena), arXiv:2011.04006; with
//!          real-valued pixels: Gu et al. 2022 (S4), arXiv:2111.00396
//! Matches  s4: Pillow's `convert("L")`, every colour (Pillow 13.0.0 held against the formula over all 2²⁴);
//!          lra: TensorFlow's `rgb_to_grayscale`, on all but 237 of the 2²⁴ colours, and those by one level
//! Departs  s4: the random 10 % that validate are our own, and the same share of each class;
//!          lra: the last 10 % validate in the order of the files, where LRA has the shuffled order of TFDS;
//!          sides of 16 and 8 average blocks of grey pixels: sizes for a CPU, and in no paper

mod records;

use crate::core::family::{Family, Outline, Variant};
use crate::core::limits::{self, COUNT};
use crate::data::subset::{self, Subset};
use crate::{
    Bound, ConfigError, DataDir, DataError, Example, Input, Mark, Metric, Output, Split, Targets, Task, TaskSpec,
    data::shrink,
};
use records::{CLASSES, PIXELS, SIDE};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::PathBuf;

/// Whose experiment: the grey of a pixel, what a pixel is to a model, and which images validate go together, because
/// published scores have no other combinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Convention {
    /// Real-valued pixels; random images of every class validate.
    S4,
    /// Pixels as tokens; the last images validate.
    Lra,
}

/// `task: { image: { convention: s4 } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Grey, pixels and validation as in `s4` (real-valued, random validation) or `lra` (tokens, the last validate).
    pub convention: Convention,
    /// Pixels of a side: 32 as in every paper, or 16 or 8, where blocks of pixels are averaged.
    pub side: u32,
    /// Share of the used training images that validate instead.
    pub val_fraction: f64,
    /// Seed of the choice of limited images and, in `s4`, of validation; not the run's seed.
    pub split_seed: u64,
    /// Images of the training files to use, validation included, the same of each class; null is all. A larger limit
    /// holds the images of a smaller one.
    pub train_limit: Option<u64>,
    /// Images of the test file to use, the same of each class; null is all.
    pub test_limit: Option<u64>,
    /// Training files, `data_batch_1.bin` and on: 5 are the whole set; fewer read a part of it.
    pub batch_files: u32,
    /// The folder or `.tar.gz` of the binary version, absolute or below the data folder; null looks in usual places.
    pub path: Option<PathBuf>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            convention: Convention::S4,
            side: 32,
            val_fraction: 0.1,
            split_seed: 0,
            train_limit: None,
            test_limit: None,
            batch_files: records::BATCHES,
            path: None,
        }
    }
}

impl Family for Config {
    const NAME: &'static str = "image";
    const ABOUT: &'static str = "Long Range Arena Image: grey CIFAR-10 pixel by pixel, from the official binary files";
    const PAPER: &'static str = "Krizhevsky 2009 (CIFAR-10); Tay et al. 2020 (Long Range Arena), arXiv:2011.04006; Gu et al. 2022 (S4), arXiv:2111.00396";
    const LIMITS: &'static [(&'static str, u32)] =
        &[("train_limit", COUNT), ("test_limit", COUNT), ("side", limits::SIDE)];
    const SOURCES: &'static [&'static str] = &["/path"];

    fn check(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut wrong = |key, problem: String, help: &str| errors.push(ConfigError { key, problem, help: help.into() });
        if ![32, 16, 8].contains(&self.side) {
            wrong("side", format!("`side` is {}", self.side), "use 32 as the papers do, or 16 or 8 for small machines");
        }
        if self.val_fraction <= 0.0 || self.val_fraction >= 1.0 || self.val_fraction.is_nan() {
            let help = "use a number between 0 and 1; both conventions use 0.1";
            wrong("val_fraction", format!("`val_fraction` is {}", self.val_fraction), help);
        }
        if let Some(limit @ ..20) = self.train_limit {
            let problem =
                format!("`train_limit` is {limit}; each class needs an image to learn from and one to validate");
            wrong("train_limit", problem, "use 20 or more, or null");
        }
        if let Some(limit @ ..10) = self.test_limit {
            wrong("test_limit", format!("`test_limit` is {limit}; there are ten classes"), "use 10 or more, or null");
        }
        if !(1..=records::BATCHES).contains(&self.batch_files) {
            let problem = format!("`batch_files` is {}; CIFAR-10 has {}", self.batch_files, records::BATCHES);
            wrong("batch_files", problem, "use 1 to 5");
        }
        errors
    }

    fn outline(&self) -> Outline {
        let input = match self.convention {
            Convention::S4 => Input::Reals { width: 1, scale: 1.0 / 61.0, shift: -122.6 / 61.0 },
            Convention::Lra => Input::Tokens,
        };
        Outline {
            causal: false,
            max_length: i64::from(self.side * self.side),
            needs_files: true,
            vocab_size: 256,
            classes: CLASSES as i64,
            documents: 1,
            input,
            output: Output::PerSequence,
        }
    }

    fn open(&self, data: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(Image::open(self.clone(), data)?))
    }

    fn variants() -> Vec<Variant> {
        vec![
            Variant::new(json!({ "batch_files": 1, "side": 8 })),
            Variant::new(json!({ "batch_files": 1, "convention": "lra" })),
        ]
    }

    fn published(&self) -> Option<&'static str> {
        Some("Image")
    }
}

/// Places where the images are looked for, below the data folder.
const CANDIDATES: [&str; 5] = [
    "cifar-10-batches-bin",
    "cifar10/cifar-10-batches-bin",
    "cifar-10-binary*.tar.gz",
    "cifar10/cifar-10-binary*.tar.gz",
    "cifar10/*.tar.gz",
];

/// Where the images come from.
fn help(data: &DataDir) -> String {
    let file = data.0.join("cifar-10-binary.tar.gz");
    format!(
        "download the binary version of CIFAR-10 (170 MB; it need not be unpacked):\n  mkdir -p {}\n  curl -fL -o {} \
         https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz\nor name a folder or .tar.gz in `path`",
        data.0.display(),
        file.display()
    )
}

/// The opened task.
#[derive(Debug)]
pub struct Image {
    cfg: Config,
    used: Subset,
    notes: Vec<String>,
}

impl Image {
    fn open(cfg: Config, data: &DataDir) -> Result<Self, DataError> {
        let root = data.locate("CIFAR-10 images", cfg.path.as_deref(), &CANDIDATES, &help(data))?;
        let set = records::prepare(&root, cfg.batch_files, data)?;
        let mut notes = vec![format!("CIFAR-10 is read from {}", root.display())];
        if cfg.batch_files < records::BATCHES {
            notes.push(format!("{} of {} training files are used", cfg.batch_files, records::BATCHES));
        }
        if cfg.side != SIDE as u32 {
            notes.push(format!(
                "images are shrunk to {0} x {0} pixels: scores are not those of the papers' task",
                cfg.side
            ));
        }
        for (name, limit, part) in [("train", cfg.train_limit, records::TRAIN), ("test", cfg.test_limit, records::TEST)]
        {
            notes.extend(subset::shortage(name, set.parts[part].len(), limit, "images"));
        }
        let choose = |part: usize, limit, fraction| {
            subset::choose(set.parts[part].labels(), CLASSES, limit, fraction, cfg.split_seed)
        };
        let (validation, train) = match cfg.convention {
            Convention::S4 => choose(records::TRAIN, cfg.train_limit, cfg.val_fraction),
            Convention::Lra => {
                let (_, mut used) = choose(records::TRAIN, cfg.train_limit, 0.0);
                let last = (used.len() as f64 * cfg.val_fraction).round().max(1.0) as usize;
                (used.split_off(used.len().saturating_sub(last)), used)
            }
        };
        let (_, test) = choose(records::TEST, cfg.test_limit, 0.0);
        if train.is_empty() || validation.is_empty() {
            let problem = "holds too few training images to learn from some and validate on others".into();
            return Err(DataError::Malformed { path: root, row: 0, problem });
        }
        let splits = [(records::TRAIN, train), (records::TRAIN, validation), (records::TEST, test)];
        Ok(Self { cfg, used: Subset { set, splits }, notes })
    }
}

/// The grey of a colour.
fn grey(convention: Convention, [red, green, blue]: [u8; 3]) -> u32 {
    let [r, g, b] = [red, green, blue].map(u32::from);
    match convention {
        Convention::S4 => (19_595 * r + 38_470 * g + 7_471 * b + 32_768) >> 16,
        Convention::Lra => (2_989 * r + 5_870 * g + 1_140 * b) * 511 / 5_100_000, // 255.5 / 255 is 511 / 510
    }
}

/// An image of three planes in grey, row by row, of `side` pixels a side.
fn pixels(convention: Convention, planes: &[u8], side: usize) -> Vec<i64> {
    let grey_at = |at: usize| grey(convention, [planes[at], planes[PIXELS + at], planes[2 * PIXELS + at]]);
    shrink::averaged(grey_at, SIDE, side)
}

impl Task for Image {
    fn spec(&self) -> TaskSpec {
        let marks = if self.cfg.side == SIDE as u32 { Vec::new() } else { vec![Mark::Reduced] };
        TaskSpec { metric: Metric::accuracy(), version: 1, marks, ..self.cfg.outline().spec() }
    }

    fn len(&self, split: Split) -> u64 {
        self.used.len(split)
    }

    fn example(&self, split: Split, index: u64) -> Result<Example, DataError> {
        let (part, row) = self.used.place(split, index);
        let pixels = pixels(self.cfg.convention, part.document(row, 0), self.cfg.side as usize);
        Ok(Example::new(pixels, Targets::PerSequence(vec![i64::from(part.labels()[row])])))
    }

    fn floor(&self) -> Result<Bound, DataError> {
        Ok(self.used.floor())
    }

    fn ceiling(&self) -> Result<Bound, DataError> {
        Ok(Bound { score: 1.0, how: "by definition; no program is known that solves it".into() })
    }

    fn fingerprint(&self) -> Option<String> {
        Some(self.used.set.meta.fingerprint.clone())
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

#[cfg(test)]
mod tests;
