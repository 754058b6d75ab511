//! Speed and memory of mixers: the record of one measurement, what is fitted to it, its tables, and two of them compared.
//!
//! A case is one block at one width, batch and length. Cases of one group were measured in turns, one pass of each per
//! round, so that a machine that slows down slows them all; the first attention block of a group is its yardstick, and a
//! ratio to it is the median over the rounds of both times taken in the same round.

mod compare;
mod fit;
mod record;
mod show;

pub use compare::{Change, Comparison, Held, compare};
pub use fit::{Crossing, Efficiency, Line, Parabola, Power, crossing, line, parabola, power};
pub use record::{
    Bench, BenchError, Case, FORMAT, Measured, Memory, Pass, Protocol, Quantity, Spread, State, Suite, Target, Verdict,
    YARDSTICK,
};

use crate::store::files;
use serde::Serialize;
use std::fs;
use std::io;
use std::path::Path;

/// How one mixer grows with the length.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Growth {
    /// The mixer.
    pub label: String,
    /// The number that grows.
    pub quantity: Quantity,
    /// Lengths it was measured at.
    pub lengths: usize,
    /// `y = k nᵖ`; `None` below two lengths.
    pub power: Option<Power>,
}

impl Bench {
    /// The exponent of every mixer in every quantity; empty for fixed comparisons, whose sizes differ.
    pub fn growth(&self) -> Vec<Growth> {
        if self.suite != Suite::Lengths {
            return Vec::new();
        }
        let of_mixer = |label: &str| {
            Quantity::ALL.map(|quantity| {
                let points = self.points(label, quantity);
                Growth { label: label.into(), quantity, lengths: points.len(), power: power(&points) }
            })
        };
        self.labels().into_iter().flat_map(of_mixer).collect()
    }

    /// Every mixer's efficiency length; empty without attention among them.
    pub fn efficiency(&self) -> Vec<Efficiency> {
        let yardstick = self.cases.iter().find(|case| case.mixer == YARDSTICK).map(|case| case.label.as_str());
        let Some(yardstick) = yardstick.filter(|_| self.suite == Suite::Lengths) else { return Vec::new() };
        let others: Vec<&str> = self.labels().into_iter().filter(|label| *label != yardstick).collect();
        let measured = || Quantity::ALL.into_iter().filter(|quantity| self.protocol.passes.contains(&quantity.pass()));
        let of = |label: &str, quantity| {
            fit::efficiency(label, quantity, &self.points(yardstick, quantity), &self.points(label, quantity))
        };
        others.iter().flat_map(|label| measured().map(|quantity| of(label, quantity))).collect()
    }

    /// The record with everything derived from it. [`Bench::read`] reads it back.
    pub fn json(&self) -> String {
        #[derive(Serialize)]
        struct Summary<'a> {
            group: &'a str,
            label: &'a str,
            length: i64,
            pass: Pass,
            seconds: Option<Spread>,
            tokens_per_second: Option<f64>,
            time_ratio: Option<Spread>,
            memory_ratio: Option<f64>,
            added_bytes: Option<u64>,
            verdict: Option<Verdict>,
        }
        #[derive(Serialize)]
        struct Json<'a> {
            #[serde(flatten)]
            bench: &'a Bench,
            summary: Vec<Summary<'a>>,
            growth: Vec<Growth>,
            efficiency_lengths: Vec<Efficiency>,
            missed: usize,
        }
        let of_case = |case| {
            let case: &Case = case;
            Pass::ALL.map(|pass| Summary {
                group: &case.group,
                label: &case.label,
                length: case.length,
                pass,
                seconds: case.pass(pass).time(),
                tokens_per_second: case.tokens_per_second(pass),
                time_ratio: self.time_ratio(case, pass),
                memory_ratio: self.memory_ratio(case, pass),
                added_bytes: case.pass(pass).memory.map(|m| m.added_bytes()),
                verdict: self.verdict(case),
            })
        };
        let json = Json {
            bench: self,
            summary: self.cases.iter().flat_map(of_case).collect(),
            growth: self.growth(),
            efficiency_lengths: self.efficiency(),
            missed: self.missed(),
        };
        serde_json::to_string_pretty(&json).expect("a measurement is plain data") + "\n"
    }

    /// Writes `.csv`, one line a case and pass, or else the JSON.
    pub fn write(&self, path: &Path) -> Result<(), BenchError> {
        let failed = |source| BenchError::Write { path: path.into(), source };
        let text = match path.extension().is_some_and(|e| e == "csv") {
            true => self.csv().map_err(|e| failed(io::Error::other(e)))?,
            false => self.json(),
        };
        files::replace(path, text.as_bytes()).map_err(failed)
    }

    /// Reads what [`Bench::write`] wrote as JSON.
    pub fn read(path: &Path) -> Result<Self, BenchError> {
        let text = fs::read_to_string(path).map_err(|source| BenchError::Read { path: path.into(), source })?;
        let shape = |reason: String| BenchError::Shape { path: path.into(), reason };
        let bench: Self = serde_json::from_str(&text).map_err(|e| shape(e.to_string()))?;
        match bench.format {
            FORMAT => Ok(bench),
            other => Err(shape(format!("its format is {other}, this build reads {FORMAT}"))),
        }
    }
}

#[cfg(test)]
mod tests;
