//! What a person sees while runs go on: bars on a terminal, plain lines elsewhere. Everything goes to stderr.

use crate::base::events::Event;
use crate::base::text::duration;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use results::{Outcome, Record, text};
use std::collections::{HashMap, HashSet};
use std::io::IsTerminal;
use std::time::{Duration, Instant};

/// Listens to a launch.
pub trait Display {
    /// A run began in `slot`.
    fn started(&mut self, slot: usize, name: &str);
    /// It sent a message.
    fn event(&mut self, slot: usize, event: &Event);
    /// It ended.
    fn ended(&mut self, slot: usize, name: &str, record: &Record);
    /// A remark.
    fn say(&mut self, text: &str);
}

/// Bars where stderr is a terminal, lines where it is not, nothing but failures when `quiet`.
pub fn display(total: usize, quiet: bool, verbose: bool) -> Box<dyn Display> {
    match (quiet, std::io::stderr().is_terminal()) {
        (false, true) => Box::new(Bars::new(total, verbose)),
        _ => Box::new(Lines { total, done: 0, quiet, remarks: Remarks::new(verbose), last: HashMap::new() }),
    }
}

/// What runs remark when they begin. Those of one task say the same of their data: it is shown once.
struct Remarks {
    verbose: bool,
    shown: HashSet<String>,
}

impl Remarks {
    fn new(verbose: bool) -> Self {
        Self { verbose, shown: HashSet::new() }
    }

    /// The lines to show for the run `name`, which begins with its task.
    fn lines(&mut self, name: &str, notes: &[String], groups: &[String]) -> Vec<String> {
        let task = name.split(" · ").next().unwrap_or(name);
        let notes = notes.iter().map(|note| format!("{task}: {note}")).filter(|line| self.shown.insert(line.clone()));
        let groups = groups.iter().filter(|_| self.verbose).map(|line| format!("{name}: {line}"));
        notes.chain(groups).map(|line| text::line(&line).into_owned()).collect()
    }
}

/// How a run ended, in one line.
fn ending(name: &str, record: &Record) -> String {
    let percent = |score: Option<f64>| score.map_or("-".into(), |s| format!("{s:.4}"));
    let cost =
        format!("{} steps, {}, {:.0} steps/s", record.steps, duration(record.wall_seconds), record.steps_per_second);
    let ending = match &record.outcome {
        Outcome::Finished => format!("{name}: test {} ({cost})", percent(record.scores.test)),
        other => format!("{name}: {} - {}", other.word(), other.reason()),
    };
    text::line(&ending).into_owned()
}

/// What is said of a run whose process of an earlier sweep is still writing its checkpoint.
const WAITING: &str = "waits for a process of an earlier command that still runs it";

struct Bars {
    all: MultiProgress,
    overall: ProgressBar,
    bars: HashMap<usize, (ProgressBar, String)>,
    remarks: Remarks,
}

impl Bars {
    fn new(total: usize, verbose: bool) -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(4));
        let style = ProgressStyle::with_template("{prefix:<34} {bar:24} {pos}/{len} runs  {elapsed} so far")
            .expect("a valid template");
        let overall = all.add(ProgressBar::new(total as u64).with_style(style).with_prefix("sweep"));
        overall.enable_steady_tick(Duration::from_secs(1));
        Self { all, overall, bars: HashMap::new(), remarks: Remarks::new(verbose) }
    }
}

/// Prints a line above the bars. What a terminal that was closed does not take is lost; `suspend` would panic.
fn above(all: &MultiProgress, line: &str) {
    let _ = all.println(line);
}

impl Display for Bars {
    fn started(&mut self, slot: usize, name: &str) {
        let style = ProgressStyle::with_template("{prefix:<34} {bar:24} {pos}/{len}  {msg}").expect("a valid template");
        let bar =
            self.all.insert_before(&self.overall, ProgressBar::new(1).with_style(style).with_prefix(name.to_string()));
        bar.set_message("starting");
        self.bars.insert(slot, (bar, String::new()));
    }

    fn event(&mut self, slot: usize, event: &Event) {
        let Some((bar, score)) = self.bars.get_mut(&slot) else { return };
        match event {
            Event::Waiting => bar.set_message(WAITING),
            Event::Started { parameters, resumed_from, notes, groups } => {
                let from =
                    if *resumed_from > 0 { format!(", continues from step {resumed_from}") } else { String::new() };
                bar.set_message(format!("{parameters} parameters{from}"));
                let lines = self.remarks.lines(&bar.prefix(), notes, groups);
                lines.iter().for_each(|line| above(&self.all, line));
            }
            Event::Progress(p) => {
                bar.set_length(p.steps);
                bar.set_position(p.step);
                bar.set_message(format!(
                    "loss {:.3}{score}  {:.1} steps/s  {} left",
                    p.loss,
                    p.steps_per_second,
                    duration(p.seconds_left)
                ));
            }
            Event::Evaluated(point) => *score = format!("  val {:.3}", point.validation_score),
            Event::Trained => bar.set_message(format!("evaluating on test{score}")),
            Event::Ended { .. } | Event::Already { .. } => bar.set_message("done"),
        }
    }

    fn ended(&mut self, slot: usize, name: &str, record: &Record) {
        if let Some((bar, _)) = self.bars.remove(&slot) {
            bar.finish_and_clear();
            self.all.remove(&bar);
        }
        self.overall.inc(1);
        self.say(&ending(name, record));
    }

    fn say(&mut self, text: &str) {
        above(&self.all, text);
    }
}

/// Seconds between two lines of one run.
const LINE_EVERY: Duration = Duration::from_secs(10);

struct Lines {
    total: usize,
    done: usize,
    quiet: bool,
    remarks: Remarks,
    last: HashMap<usize, (String, Instant)>,
}

impl Display for Lines {
    fn started(&mut self, slot: usize, name: &str) {
        self.last.insert(slot, (name.to_string(), Instant::now()));
    }

    fn event(&mut self, slot: usize, event: &Event) {
        if self.quiet {
            return;
        }
        let Some((name, last)) = self.last.get_mut(&slot) else { return };
        match event {
            Event::Waiting => eprintln!("{name}: {WAITING}"),
            Event::Started { parameters, resumed_from, notes, groups } => {
                let from =
                    if *resumed_from > 0 { format!(", continues from step {resumed_from}") } else { String::new() };
                eprintln!("{name}: started, {parameters} parameters{from}");
                self.remarks.lines(name, notes, groups).iter().for_each(|line| eprintln!("{line}"));
            }
            Event::Progress(p) if last.elapsed() >= LINE_EVERY => {
                *last = Instant::now();
                eprintln!(
                    "{name}: step {}/{}  loss {:.3}  {:.1} steps/s  {} left",
                    p.step,
                    p.steps,
                    p.loss,
                    p.steps_per_second,
                    duration(p.seconds_left)
                );
            }
            Event::Evaluated(point) if self.remarks.verbose => {
                eprintln!(
                    "{name}: step {}  validation {:.4}  loss {:.4}",
                    point.step, point.validation_score, point.validation_loss
                );
            }
            _ => {}
        }
    }

    fn ended(&mut self, slot: usize, name: &str, record: &Record) {
        self.last.remove(&slot);
        self.done += 1;
        if !self.quiet || record.outcome != Outcome::Finished {
            eprintln!("[{}/{}] {}", self.done, self.total, ending(name, record));
        }
    }

    fn say(&mut self, text: &str) {
        eprintln!("{text}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_remark_on_the_data_is_shown_once_a_task_and_groups_only_when_asked_for() {
        let [note, group] = ["12 rows skipped", "8 parameters at 1e-3"].map(|text| vec![text.to_string()]);
        let mut remarks = Remarks::new(false);
        assert_eq!(remarks.lines("glue · s4 · seed 0", &note, &group), ["glue: 12 rows skipped"]);
        assert!(remarks.lines("glue · s4 · seed 1", &note, &group).is_empty());
        assert_eq!(remarks.lines("other · s4 · seed 0", &note, &group), ["other: 12 rows skipped"]);
        let all = Remarks::new(true).lines("glue · s4 · seed 0", &note, &group);
        assert_eq!(all, ["glue: 12 rows skipped", "glue · s4 · seed 0: 8 parameters at 1e-3"]);
    }
}
