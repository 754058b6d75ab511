//! Pathfinder: are two marked ends joined by one dashed contour, among others? Two classes; Path-X at 128 pixels.
//!
//! ```text
//! image  = two contours of `contour_length` bars + short distractors + two disks
//! label  = 1 when both disks lie on one contour
//! tokens = the grey values 0 ..= 255, row by row: resolution² of them
//! ```
//! Paper    Linsley et al. 2018, arXiv:1805.08315; as sequences: Tay et al. 2020 (Long Range Arena), arXiv:2011.04006
//! Matches  the distribution of `snakes2.py` of drewlinsley/pathfinder with the parameters of LRA, down to what its
//!          libraries make of it (`pathfinder/bars.rs`, `core`); reads and writes the folders of the LRA release
//! Departs  the random bits are our own; sines become whole numbers in tables, at borders that tests keep clear, so
//!          that images are equal on every machine
//!
//! One set of images is split in three: image i, in the order of the metadata, has the rank r = P(i), where P is the
//! permutation of (number of images, `split_seed`, purpose `subset`, 0) of [`crate::core::rng::Permutation`]. The lowest
//! `val_fraction` of ranks validates, the next `test_fraction` tests, the rest trains; a limit keeps the lowest ranks.

mod bars;
mod folder;
mod level;
mod place;
mod raster;
mod statistics;
mod stimulus;

pub use statistics::{Facts, Statistics, THRESHOLDS, facts};
pub use stimulus::{Generator, Image};

use crate::core::error::idle;
use crate::core::family::{Family, Generated, Outline, Variant};
use crate::core::limits::{COUNT_KEYS, SIDE};
use crate::core::rng::{Permutation, Purpose};
use crate::data::Source;
use crate::data::prepared::{Prepared, Request, Writer, stamp_of_settings, stamp_of_source};
use crate::data::subset::{self, Rows, Subset};
use crate::{
    Bound, ConfigError, DataDir, DataError, Example, Input, Mark, Metric, Output, Split, Targets, Task, TaskSpec,
    data::shrink,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// What a pixel is to a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pixels {
    /// As S4 (Gu et al. 2022): a real number, (x / 255 - 1/2) / (1/2).
    S4,
    /// As LRA: one of 256 tokens.
    Lra,
}

/// `task: { pathfinder: { resolution: 32, contour_length: 14 } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Whether images are drawn here (`generate`) or read from the official `files`.
    pub source: Source,
    /// Pixels along an edge: 32, 64, 128 (Path-X) or 256 (Path-256).
    pub resolution: u32,
    /// Pixels along an edge as a model reads them: null is `resolution`, as in every paper; a divisor of it averages blocks
    /// of pixels, a size for a CPU, which marks every score.
    pub side: Option<u32>,
    /// Bars of a contour: 14 (hard, the one LRA reports), 9 or 6 (easy).
    pub contour_length: u32,
    /// `generate`: seed of the images; not the run's seed, so that all seeds of a run share one data set.
    pub data_seed: u64,
    /// `files`: the folder with `imgs` and `metadata`, one that holds it, or a `.tar.gz`, whose inner folder may follow
    /// its name; absolute or below the data folder. Null looks in the usual places.
    pub path: Option<PathBuf>,
    /// `files`: share of all images that validate.
    pub val_fraction: f64,
    /// `files`: share of all images that test.
    pub test_fraction: f64,
    /// `files`: decides which images validate and test.
    pub split_seed: u64,
    /// Training examples; null is 160,000 when they are generated, all there are otherwise.
    pub train_examples: Option<u64>,
    /// Validation examples; null is 20,000 when they are generated, all there are otherwise.
    pub validation_examples: Option<u64>,
    /// Test examples; null is 20,000 when they are generated, all there are otherwise.
    pub test_examples: Option<u64>,
    /// What a pixel is to a model: `s4` (a real number) or `lra` (one of 256 tokens).
    pub pixels: Pixels,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            source: Source::Generate,
            resolution: 32,
            side: None,
            contour_length: 14,
            data_seed: 0,
            path: None,
            val_fraction: 0.1,
            test_fraction: 0.1,
            split_seed: 0,
            train_examples: None,
            validation_examples: None,
            test_examples: None,
            pixels: Pixels::S4,
        }
    }
}

/// Sizes of the official splits.
const OFFICIAL: [u64; 3] = [160_000, 20_000, 20_000];
/// Raised when the same settings draw or read other images.
const VERSION: u32 = 1;
/// Raised when prepared files hold something else. 2: sources are named within the level's folder.
const FILES_VERSION: u32 = 2;
/// Row numbers are kept in 32 bits.
const MOST: u64 = 1 << 31;

impl Config {
    /// In the order of [`Split::ALL`].
    fn limits(&self) -> [Option<u64>; 3] {
        [self.train_examples, self.validation_examples, self.test_examples]
    }

    fn counts(&self) -> [u64; 3] {
        let limits = self.limits();
        std::array::from_fn(|split| limits[split].unwrap_or(OFFICIAL[split]))
    }

    /// Pixels along an edge as a model reads them.
    fn read_side(&self) -> u32 {
        self.side.unwrap_or(self.resolution)
    }

    fn input(&self) -> Input {
        match self.pixels {
            Pixels::S4 => Input::Reals { width: 1, scale: 2.0 / 255.0, shift: -1.0 },
            Pixels::Lra => Input::Tokens,
        }
    }

    /// Settings that would do nothing.
    fn check_source(&self) -> Vec<ConfigError> {
        let own = Self::default();
        match self.source {
            Source::Generate => idle(
                "generate",
                &[
                    ("path", self.path != own.path),
                    ("val_fraction", self.val_fraction != own.val_fraction),
                    ("test_fraction", self.test_fraction != own.test_fraction),
                    ("split_seed", self.split_seed != own.split_seed),
                ],
            ),
            Source::Files => idle("files", &[("data_seed", self.data_seed != own.data_seed)]),
        }
    }

    /// Shares and counts that leave a split without an image.
    fn check_splits(&self) -> Vec<ConfigError> {
        let mut errors = Vec::new();
        let mut wrong = |key, problem: String, help: &str| errors.push(ConfigError { key, problem, help: help.into() });
        for (key, limit) in COUNT_KEYS.into_iter().zip(self.limits()) {
            if limit == Some(0) {
                wrong(key, format!("`{key}` is 0"), "use 1 or more, or null");
            } else if limit.is_some_and(|limit| limit > MOST) {
                wrong(key, format!("`{key}` is {}, more than {MOST}", limit.unwrap_or(0)), "LRA uses 160000 and 20000");
            }
        }
        let (validation, test) = (self.val_fraction, self.test_fraction);
        for (key, share) in [("val_fraction", validation), ("test_fraction", test)] {
            if !(share > 0.0 && share < 1.0) {
                wrong(key, format!("`{key}` is {share}, not between 0 and 1"), "S4 uses 0.1");
            }
        }
        if validation > 0.0 && test > 0.0 && validation < 1.0 && test < 1.0 && validation + test >= 1.0 {
            let problem =
                format!("`val_fraction` = {validation} and `test_fraction` = {test} leave nothing to learn from");
            wrong("test_fraction", problem, "use 0.1 for both, as S4");
        }
        errors
    }
}

impl Family for Config {
    const NAME: &'static str = "pathfinder";
    const ABOUT: &'static str =
        "Long Range Arena Pathfinder and Path-X: are two marked ends joined by a contour; drawn here or from the files";
    const PAPER: &'static str =
        "Linsley et al. 2018, arXiv:1805.08315; Tay et al. 2020 (Long Range Arena), arXiv:2011.04006";
    const LIMITS: &'static [(&'static str, u32)] = &[("resolution", SIDE)];
    const SOURCES: &'static [&'static str] = &["/path"];

    fn check(&self) -> Vec<ConfigError> {
        let mut errors = self.check_source();
        errors.extend(self.check_splits());
        if !level::SIDES.contains(&self.resolution) {
            let problem =
                format!("`resolution` is {}; there are images of 32, 64, 128 and 256 pixels", self.resolution);
            let help = "use 32 for Pathfinder, 128 for Path-X".into();
            errors.push(ConfigError { key: "resolution", problem, help });
        }
        if let Some(side) = self.side.filter(|&side| side < 8 || !self.resolution.is_multiple_of(side)) {
            let problem =
                format!("`side` is {side}, which is below 8 or does not divide `resolution` = {}", self.resolution);
            let help = "use null, or a half or a quarter of `resolution`".into();
            errors.push(ConfigError { key: "side", problem, help });
        }
        if !level::CONTOUR_LENGTHS.contains(&self.contour_length) {
            let problem =
                format!("`contour_length` is {}; there are contours of 6, 9 and 14 bars", self.contour_length);
            let help = "use 14 for the level that LRA reports, 6 for the easiest".into();
            errors.push(ConfigError { key: "contour_length", problem, help });
        }
        errors
    }

    fn outline(&self) -> Outline {
        Outline {
            causal: false,
            max_length: i64::from(self.read_side()).pow(2),
            needs_files: self.source == Source::Files,
            vocab_size: 256,
            classes: 2,
            documents: 1,
            input: self.input(),
            output: Output::PerSequence,
        }
    }

    fn open(&self, data: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(Pathfinder::open(self.clone(), data)?))
    }

    /// Writes `pathfinderR/LEVEL/imgs/K/sample_N.png` and `metadata/K.npy`: training images, then validation, then
    /// test.
    fn generate(&self, folder: &Path, step: &(dyn Fn(u64, u64) + Sync)) -> Option<Result<Generated, DataError>> {
        (self.source == Source::Generate).then(|| folder::write(self, folder, step))
    }

    fn variants() -> Vec<Variant> {
        vec![
            Variant::drawn(json!({ "contour_length": 6, "train_examples": 60, "test_examples": 40 }))
                .pin("af075bf99bd1ddd9"),
            Variant::new(json!({ "source": "files", "contour_length": 9, "pixels": "lra" })),
        ]
    }

    fn small() -> Vec<Value> {
        vec![json!({ "contour_length": 6, "train_examples": 200 })]
    }

    fn published(&self) -> Option<&'static str> {
        match (self.contour_length, self.resolution) {
            (14, 32) => Some("Pathfinder"),
            (14, 128) => Some("Path-X"),
            (14, 256) => Some("PathX-256"),
            _ => None,
        }
    }
}

/// The opened task.
#[derive(Debug)]
pub struct Pathfinder {
    cfg: Config,
    used: Subset,
    notes: Vec<String>,
}

impl Pathfinder {
    fn open(cfg: Config, data: &DataDir) -> Result<Self, DataError> {
        if cfg.source == Source::Generate {
            let set = drawn(&cfg, data)?;
            let [train, validation, test] = cfg.counts().map(|count| count as u32);
            let ends = [train, train + validation, train + validation + test];
            let splits = [(0..ends[0]).collect(), (ends[0]..ends[1]).collect(), (ends[1]..ends[2]).collect()];
            return Ok(Self { cfg, used: all_of(set, splits), notes: Vec::new() });
        }
        let place = folder::find(&cfg, data)?;
        let set = read(&cfg, &place, data)?;
        let rows = set.parts[0].len();
        let splits = split(rows as u64, [cfg.val_fraction, cfg.test_fraction], cfg.limits(), cfg.split_seed);
        if splits.iter().any(Vec::is_empty) {
            let problem = format!("holds {rows} images, too few to train, validate and test on");
            return Err(DataError::Malformed { path: place.root, row: 0, problem });
        }
        let mut notes = set.meta.notes.clone();
        let there = splits.each_ref().map(|rows| rows.len() as u64);
        notes.extend(subset::shortages(there, cfg.limits(), "images"));
        Ok(Self { cfg, used: all_of(set, splits), notes })
    }
}

/// Splits of a set's only part.
fn all_of(set: Prepared, splits: [Rows; 3]) -> Subset {
    Subset { set, splits: splits.map(|rows| (0, rows)) }
}

/// Draws the images, or opens those that were drawn with equal settings.
fn drawn(cfg: &Config, data: &DataDir) -> Result<Prepared, DataError> {
    let stamp = stamp_of_settings(&(cfg.resolution, cfg.contour_length, cfg.data_seed, cfg.counts()));
    let request = Request { family: Config::NAME, version: VERSION, stamp, parts: &["images"], documents: 1 };
    data.prepared(&request, |writer: &mut Writer| {
        let generator = Generator::new(cfg.resolution, cfg.contour_length, cfg.data_seed);
        let mut key = 0;
        folder::draw(&generator, cfg.resolution as usize, cfg.counts(), |image| {
            writer.row(0, key, image.label, &[&image.pixels])?;
            key += 1;
            Ok(())
        })
    })
}

/// Reads the official files, or opens what was read of them before.
fn read(cfg: &Config, place: &folder::Found, data: &DataDir) -> Result<Prepared, DataError> {
    let source = stamp_of_source(&place.root, |name| place.wants(name))?;
    let stamp = stamp_of_settings(&(source, cfg.resolution, cfg.contour_length, &place.inner));
    let request = Request { family: Config::NAME, version: FILES_VERSION, stamp, parts: &["images"], documents: 1 };
    data.prepared(&request, |writer| folder::read(place, writer))
}

/// The rows of each split, in the order of [`Split::ALL`], each rising; `shares` are of validation and test. Validation
/// and test have an image at least.
fn split(rows: u64, shares: [f64; 2], limits: [Option<u64>; 3], seed: u64) -> [Rows; 3] {
    let [validation, test] = shares.map(|share| ((rows as f64 * share) as u64).max(1));
    let shares = [validation + test..rows, 0..validation, validation..validation + test];
    let limit = |(share, limit): (std::ops::Range<u64>, Option<u64>)| {
        share.start..share.end.min(share.start.saturating_add(limit.unwrap_or(u64::MAX)))
    };
    let shares: Vec<_> = shares.into_iter().zip(limits).map(limit).collect();
    let ranks = Permutation::new(rows, seed, Purpose::SUBSET, 0);
    let mut splits: [Rows; 3] = Default::default();
    for row in 0..rows {
        let rank = ranks.at(row);
        if let Some(split) = shares.iter().position(|share| share.contains(&rank)) {
            splits[split].push(row as u32);
        }
    }
    splits
}

impl Task for Pathfinder {
    fn spec(&self) -> TaskSpec {
        let marks = if self.cfg.read_side() == self.cfg.resolution { Vec::new() } else { vec![Mark::Reduced] };
        TaskSpec { metric: Metric::accuracy(), version: VERSION, marks, ..self.cfg.outline().spec() }
    }

    fn len(&self, split: Split) -> u64 {
        self.used.len(split)
    }

    fn example(&self, split: Split, index: u64) -> Result<Example, DataError> {
        let (images, row) = self.used.place(split, index);
        let pixels = images.document(row, 0);
        let (from, side) = (self.cfg.resolution as usize, self.cfg.read_side() as usize);
        let tokens = shrink::averaged(|at| u32::from(pixels[at]), from, side);
        Ok(Example::new(tokens, Targets::PerSequence(vec![i64::from(images.labels()[row])])))
    }

    fn floor(&self) -> Result<Bound, DataError> {
        Ok(self.used.floor())
    }

    fn ceiling(&self) -> Result<Bound, DataError> {
        Ok(Bound { score: 1.0, how: "by definition; no program here reads the images".into() })
    }

    fn fingerprint(&self) -> Option<String> {
        (self.cfg.source == Source::Files).then(|| self.used.set.meta.fingerprint.clone())
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

#[cfg(test)]
mod tests;
