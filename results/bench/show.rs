//! A measurement as text: for a terminal and as CSV.

use super::{Bench, Case, Comparison, Efficiency, Held, Memory, Pass, Quantity, Spread, State, Suite};
use crate::grid::{Column, Grid, left, right, significant, wrap};

const MIB: f64 = (1 << 20) as f64;

/// What the names of blocks mean.
const BLOCKS: [(&str, &str); 5] = [
    ("transformer", "norm, mixer, residual, norm, feed-forward (4 d_model, GELU), residual"),
    ("s4", "batch norm, mixer with its own GLU, residual"),
    ("bigs", "norm, gated layer, residual"),
    ("hydra", "mixer, residual, norm"),
    ("no ffn", "norm, mixer, residual"),
];

/// A case with everything it is held against, as printed.
struct Row {
    length: String,
    mixer: String,
    block: String,
    sizes: String,
    forward: String,
    training: String,
    tokens: String,
    ratio: String,
    peak: String,
    added: String,
    forward_added: String,
    path: String,
    remarks: String,
    target: String,
    reference: String,
    memory_ratio: String,
    memory_target: String,
    verdict: String,
}

const LENGTHS: [Column<Row>; 12] = [
    right("length", 0, |r| r.length.clone()),
    left("mixer", 0, |r| r.mixer.clone()),
    left("block", 1, |r| r.block.clone()),
    left("forward, ms", 2, |r| r.forward.clone()),
    left("forward+backward, ms", 0, |r| r.training.clone()),
    right("tokens/s", 3, |r| r.tokens.clone()),
    right("x attention", 0, |r| r.ratio.clone()),
    right("peak MiB", 4, |r| r.peak.clone()),
    right("added MiB", 0, |r| r.added.clone()),
    right("by forward", 5, |r| r.forward_added.clone()),
    left("path", 6, |r| r.path.clone()),
    left("remarks", 0, |r| r.remarks.clone()),
];

/// [`LENGTHS`] where only forward was measured.
const FORWARD_LENGTHS: [Column<Row>; 10] = [
    right("length", 0, |r| r.length.clone()),
    left("mixer", 0, |r| r.mixer.clone()),
    left("block", 1, |r| r.block.clone()),
    left("forward, ms", 0, |r| r.forward.clone()),
    right("tokens/s", 3, |r| r.tokens.clone()),
    right("x attention", 0, |r| r.ratio.clone()),
    right("peak MiB", 4, |r| r.peak.clone()),
    right("added MiB", 0, |r| r.added.clone()),
    left("path", 6, |r| r.path.clone()),
    left("remarks", 0, |r| r.remarks.clone()),
];

const TARGETS: [Column<Row>; 14] = [
    right("length", 0, |r| r.length.clone()),
    left("mixer", 0, |r| r.mixer.clone()),
    left("block", 2, |r| r.block.clone()),
    left("sizes", 1, |r| r.sizes.clone()),
    left("forward+backward, ms", 3, |r| r.training.clone()),
    left("time / attention's", 0, |r| r.ratio.clone()),
    right("at most", 0, |r| r.target.clone()),
    right("paper's code", 4, |r| r.reference.clone()),
    right("added MiB", 5, |r| r.added.clone()),
    right("memory / attention's", 0, |r| r.memory_ratio.clone()),
    right("at most", 0, |r| r.memory_target.clone()),
    left("", 0, |r| r.verdict.clone()),
    left("path", 6, |r| r.path.clone()),
    left("remarks", 0, |r| r.remarks.clone()),
];

/// The exponents of one mixer.
struct Exponents {
    mixer: String,
    of: [String; 4],
}

const EXPONENTS: [Column<Exponents>; 5] = [
    left("exponent (R²)", 0, |r| r.mixer.clone()),
    left("time, forward", 0, |r| r.of[0].clone()),
    left("time, forward+backward", 0, |r| r.of[1].clone()),
    left("memory, forward", 0, |r| r.of[2].clone()),
    left("memory, forward+backward", 0, |r| r.of[3].clone()),
];

const EFFICIENCY: [Column<Efficiency>; 6] = [
    left("mixer", 0, |r| r.label.clone()),
    left("cost", 0, |r| r.quantity.word().into()),
    right("efficiency length", 0, |r| r.length.map_or("-".into(), |n| format!("{n:.0}"))),
    right("R² attention", 0, |r| r.attention.map_or("-".into(), |fit| format!("{:.4}", fit.r2))),
    right("R² mixer", 0, |r| r.own.map_or("-".into(), |fit| format!("{:.4}", fit.r2))),
    left("remarks", 0, |r| r.remark.clone()),
];

/// A number in both runs, as printed.
struct Beside {
    cells: [String; 7],
}

const BESIDE: [Column<Beside>; 7] = [
    right("length", 0, |r| r.cells[0].clone()),
    left("mixer", 0, |r| r.cells[1].clone()),
    left("compared", 0, |r| r.cells[2].clone()),
    right("A", 0, |r| r.cells[3].clone()),
    right("B", 0, |r| r.cells[4].clone()),
    right("B / A", 0, |r| r.cells[5].clone()),
    left("", 0, |r| r.cells[6].clone()),
];

fn dash(text: Option<String>) -> String {
    text.unwrap_or("-".into())
}

fn milliseconds(time: Option<Spread>) -> String {
    let ms = |seconds: f64| significant(Some(1e3 * seconds));
    dash(time.map(|t| format!("{} [{}, {}]", ms(t.median), ms(t.low), ms(t.high))))
}

fn mebibytes(bytes: Option<u64>) -> String {
    dash(bytes.map(|bytes| significant(Some(bytes as f64 / MIB))))
}

impl Bench {
    fn row(&self, case: &Case) -> Row {
        let is_yardstick = self.yardstick(case).is_some_and(|y| std::ptr::eq(y, case));
        let target = case.target.unwrap_or_default();
        let heaviest = self.protocol.heaviest();
        let memory = |of: fn(&Memory) -> u64, pass| mebibytes(case.pass(pass).memory.as_ref().map(of));
        let ratio = |r: Spread| match self.suite {
            Suite::Lengths => significant(Some(r.median)),
            Suite::Targets => format!("{:.2} [{:.2}, {:.2}]", r.median, r.low, r.high),
        };
        let number = |value: Option<f64>| value.map_or(String::new(), |value| format!("{value}"));
        let one = |text: Option<String>| if is_yardstick { "1".into() } else { dash(text) };
        Row {
            length: case.length.to_string(),
            mixer: case.label.clone(),
            block: case.block.clone() + if case.causal { ", causal" } else { "" },
            sizes: format!("d {}, batch {}", case.d_model, case.batch),
            forward: milliseconds(case.forward.time()),
            training: milliseconds(case.training.time()),
            tokens: dash(case.tokens_per_second(heaviest).map(|t| significant(Some(t)))),
            ratio: one(self.time_ratio(case, heaviest).map(ratio)),
            peak: memory(|m| m.peak_bytes, heaviest),
            added: memory(Memory::added_bytes, heaviest),
            forward_added: memory(Memory::added_bytes, Pass::Forward),
            path: case.path.clone(),
            remarks: match &case.state {
                State::Measured => String::new(),
                State::Stopped { reason } => reason.clone(),
                State::Absent => format!("this build has no mixer `{}`", case.mixer),
            },
            target: number(target.time),
            reference: number(target.reference),
            memory_ratio: one(self.memory_ratio(case, Pass::Training).map(|r| format!("{r:.2}"))),
            memory_target: number(target.memory),
            verdict: self.verdict(case).map_or(String::new(), |v| v.word().into()),
        }
    }

    /// For a terminal `width` columns wide; columns that do not fit are left out and counted.
    pub fn terminal(&self, width: usize) -> String {
        let width = width.max(40);
        let rows: Vec<Row> = self.cases.iter().map(|case| self.row(case)).collect();
        let (grid, hidden) = match self.suite {
            Suite::Lengths if self.protocol.heaviest() == Pass::Forward => {
                Grid::new(&FORWARD_LENGTHS, &rows).fitting(width)
            }
            Suite::Lengths => Grid::new(&LENGTHS, &rows).fitting(width),
            Suite::Targets => Grid::new(&TARGETS, &rows).fitting(width),
        };
        let note = match hidden {
            0 => String::new(),
            1 => " 1 more column in --json and --export.".into(),
            n => format!(" {n} more columns in --json and --export."),
        };
        let mut parts = vec![grid.terminal(width, None) + "\n" + &wrap(&(self.caption() + &note), width)];
        let exponents = self.exponents();
        if !exponents.is_empty() {
            let grid = Grid::new(&EXPONENTS, &exponents);
            let caption = "The p of k·nᵖ through all lengths, by least squares of the logarithms; memory is what the \
                           pass added. Short lengths, where fixed costs rule, lower it.";
            parts.push(grid.terminal(width, None) + "\n" + &wrap(caption, width));
        }
        let efficiency = self.efficiency();
        let same = |one: &&Efficiency| efficiency.iter().all(|e| e.length.is_none() && e.remark == one.remark);
        if let Some(one) = efficiency.first().filter(same) {
            parts.push(format!("No efficiency lengths: {}.", one.remark));
        } else if !efficiency.is_empty() {
            let grid = Grid::new(&EFFICIENCY, &efficiency);
            let caption = "The length from which a mixer costs less than attention (CAB, arXiv:2210.07661, which measures \
                           forward): the larger root of a n² + b n + c = d n + e, the parabola fitted to attention, the \
                           line to the mixer, both by least squares.";
            parts.push(grid.terminal(width, None) + "\n" + &wrap(caption, width));
        }
        if self.suite == Suite::Targets {
            let held = self.cases.iter().filter_map(|case| self.verdict(case)).count();
            parts.push(match self.missed() {
                0 => format!("No target of {held} is missed."),
                n => format!("{n} of {held} targets missed."),
            });
        }
        if self.interrupted {
            parts.push("warning: stopped by the user before its end".into());
        }
        parts.join("\n\n") + "\n"
    }

    /// One line a mixer.
    fn exponents(&self) -> Vec<Exponents> {
        let growth = self.growth();
        let of = |label: &str, quantity| {
            let found = growth.iter().find(|g| g.label == label && g.quantity == quantity);
            dash(found.and_then(|g| g.power).map(|p| format!("{:.2} ({:.4})", p.exponent, p.r2)))
        };
        let of_mixer = |label: &str| Exponents { mixer: label.into(), of: Quantity::ALL.map(|q| of(label, q)) };
        let any = growth.iter().any(|g| g.power.is_some());
        if any { self.labels().into_iter().map(of_mixer).collect() } else { Vec::new() }
    }

    /// What the numbers are.
    fn caption(&self) -> String {
        let p = &self.protocol;
        let plural = |n: usize| if n == 1 { "" } else { "s" };
        let sizes = match (self.suite, self.cases.first()) {
            (Suite::Lengths, Some(case)) => format!("One block, d_model {}, batch {}", case.d_model, case.batch),
            _ => "One block".into(),
        };
        let threads = self.device.threads;
        let cap = p.memory_cap.map_or(String::new(), |b| format!(" or its process {} MiB", (b as f64 / MIB).round()));
        let used = BLOCKS.iter().filter(|(name, _)| self.cases.iter().any(|case| case.block == *name));
        let blocks: Vec<String> = used.map(|(name, meaning)| format!("{name} is {meaning}")).collect();
        let blocks = if blocks.is_empty() { String::new() } else { format!(" Blocks: {}.", blocks.join("; ")) };
        let heaviest = p.heaviest();
        let passes = match heaviest {
            Pass::Forward => "Forward runs without gradients.".into(),
            Pass::Training => format!(
                "Forward runs without gradients; with backward, gradients of the input and of every parameter. Tokens/s, ratio and \
                 memory are those of {} unless said.",
                heaviest.word()
            ),
        };
        format!(
            "{sizes}, float32, {threads} thread{} of {}. Median [quartiles] of {} round{} after {} for warming up, all \
             mixers of a length in turns. {passes} Memory is resident memory of a fresh process: its peak, and what the pass added \
             to block and input. A mixer stops at the length where {} passes {} s{cap}.{blocks}",
            plural(threads as usize),
            self.device.name,
            p.repeats,
            plural(p.repeats),
            p.warmup,
            heaviest.word(),
            p.time_cap,
        )
    }

    /// One line a case and pass, in full precision.
    pub fn csv(&self) -> Result<String, csv::Error> {
        let titles = [
            "suite",
            "group",
            "mixer",
            "block",
            "path",
            "causal",
            "settings",
            "d_model",
            "batch",
            "length",
            "parameters",
            "pass",
            "repeats",
            "seconds",
            "seconds_low",
            "seconds_high",
            "tokens_per_second",
            "time_ratio",
            "time_target",
            "built_bytes",
            "peak_bytes",
            "added_bytes",
            "memory_ratio",
            "memory_target",
            "verdict",
            "remarks",
        ];
        let mut lines = vec![titles.map(String::from)];
        let float = |value: Option<f64>| value.map_or(String::new(), |value| value.to_string());
        let suite = match self.suite {
            Suite::Lengths => "lengths",
            Suite::Targets => "targets",
        };
        for case in &self.cases {
            for pass in self.protocol.passes.iter().copied() {
                let (time, memory) = (case.pass(pass).time(), case.pass(pass).memory);
                let bytes = |of: fn(&Memory) -> u64| memory.as_ref().map_or(String::new(), |m| of(m).to_string());
                let target = case.target.filter(|_| pass == Pass::Training).unwrap_or_default();
                let verdict = self.verdict(case).filter(|_| pass == Pass::Training);
                lines.push([
                    suite.into(),
                    case.group.clone(),
                    case.label.clone(),
                    case.block.clone(),
                    case.path.clone(),
                    case.causal.to_string(),
                    case.settings.to_string(),
                    case.d_model.to_string(),
                    case.batch.to_string(),
                    case.length.to_string(),
                    case.parameters.to_string(),
                    pass.word().into(),
                    case.pass(pass).seconds.len().to_string(),
                    float(time.map(|t| t.median)),
                    float(time.map(|t| t.low)),
                    float(time.map(|t| t.high)),
                    float(case.tokens_per_second(pass)),
                    float(self.time_ratio(case, pass).map(|r| r.median)),
                    float(target.time),
                    bytes(|m| m.built_bytes),
                    bytes(|m| m.peak_bytes),
                    bytes(Memory::added_bytes),
                    float(self.memory_ratio(case, pass)),
                    float(target.memory),
                    verdict.map_or(String::new(), |v| v.word().to_lowercase()),
                    self.row(case).remarks,
                ]);
            }
        }
        crate::text::csv(lines)
    }
}

impl Comparison {
    /// For a terminal `width` columns wide.
    pub fn terminal(&self, width: usize) -> String {
        let width = width.max(40);
        let row = |change: &super::Change| {
            let is_memory = matches!(change.quantity, Quantity::ForwardMemory | Quantity::TrainingMemory);
            let text = |value: f64| match (is_memory, self.held) {
                (true, _) => format!("{} MiB", significant(Some(value / MIB))),
                (false, Held::Absolute) => format!("{} ms", significant(Some(1e3 * value))),
                (false, Held::ToAttention) => format!("{value:.3} x"),
            };
            let verdict = match change.ratio {
                r if r > self.threshold => "WORSE",
                r if r < 1.0 / self.threshold => "better",
                _ => "",
            };
            let (compared, ratio) = (change.quantity.word().into(), format!("{:.3}", change.ratio));
            let (a, b) = (text(change.before), text(change.after));
            Beside { cells: [change.length.to_string(), change.label.clone(), compared, a, b, ratio, verdict.into()] }
        };
        let rows: Vec<Beside> = self.changes.iter().map(row).collect();
        let times = match self.held {
            Held::ToAttention => {
                "Times are ratios to attention in the same run, so that a slower machine or a busy one cancels out; \
                 attention's own need --absolute."
            }
            Held::Absolute => "Times are seconds: they hold only between runs on the same quiet machine.",
        };
        let caption =
            format!("{times} Memory is the peak of a fresh process. Worse is a ratio above {}.", self.threshold);
        let mut parts = vec![Grid::new(&BESIDE, &rows).terminal(width, None) + "\n" + &wrap(&caption, width)];
        parts.extend(self.lost.iter().map(|lost| wrap(&format!("LOST {lost}"), width)));
        parts.extend(self.apart.iter().map(|apart| wrap(&format!("not compared: {apart}"), width)));
        parts.extend(self.warnings.iter().map(|warning| wrap(&format!("warning: {warning}"), width)));
        parts.push(match (self.worse(), self.lost.len()) {
            (0, 0) => format!("Nothing of {} got worse by more than a factor of {}.", rows.len(), self.threshold),
            (worse, lost) => format!("{worse} of {} worse, {lost} lost.", rows.len()),
        });
        parts.join("\n\n") + "\n"
    }
}
