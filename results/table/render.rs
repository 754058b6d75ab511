//! The tables as text: for a terminal, as Markdown and as CSV.

use crate::grid::{Column, Grid, digits, left, right, significant, wrap};
use crate::published::{Averages, GLUE};
use crate::statistics::{Coverage, Interval, Measured, OF_MEANS, OF_MIDDLES};
use crate::table::findings::score_text;
use crate::table::glue::{self, Glue, GlueAverage, GlueCell};
use crate::table::groups::{Group, GroupMean};
use crate::table::language::{Language, is_baseline_measure};
use crate::table::lra::{Average, TaskMean};
use crate::table::overall::Overall;
use crate::table::row::{Above, Row, sign_notes, tasks};
use crate::table::{Ended, Table};
use crate::{table::signs, text};
use comfy_table::Color;
use std::collections::BTreeSet;

const ROW: [Column<Row>; 18] = [
    left("task", 0, Row::task_shown),
    left("mixer", 0, |r| r.mixer.clone()),
    left("settings", 1, |r| r.settings.clone()),
    left("test", 0, test),
    left("published", 0, published),
    right("Δ", 0, |r| signed(r.difference_points)),
    left("n", 0, |r| format!("{}/{}", r.scored, r.planned)),
    right("validation", 3, |r| decimals(r.validation, 3)),
    right("validation loss", 3, |r| r.validation_loss.as_ref().map_or(String::new(), |loss| decimals(loss.mean, 3))),
    right("floor", 2, |r| decimals(r.floor, 3)),
    right("ceiling", 6, |r| decimals(r.ceiling, 3)),
    right("parameters", 4, |r| r.parameters.map_or("-".into(), |n| n.to_string())),
    right("in mixers", 8, |r| r.mixer_parameters.map_or("-".into(), |n| n.to_string())),
    right("steps/s", 5, |r| significant(r.steps_per_second)),
    right("tokens/s", 9, |r| significant(r.tokens_per_second)),
    right("memory", 7, |r| r.peak_memory_bytes.map_or("-".into(), |b| format!("{:.0} MiB", b / f64::from(1 << 20)))),
    right("wall", 10, |r| r.wall_seconds.map_or("-".into(), |s| format!("{s:.0} s"))),
    left("remarks", 0, remarks),
];

const ENDED: [Column<Ended>; 6] = [
    left("mixer", 0, |r| r.mixer.clone()),
    left("task", 0, |r| signs::named(&r.task, &r.marks)),
    left("settings", 0, |r| r.settings.clone()),
    right("seed", 0, |r| r.seed.to_string()),
    left("outcome", 0, |r| r.outcome.clone()),
    left("reason", 0, |r| r.reason.clone()),
];

const AVERAGE: [Column<Average>; 9] = [
    left("mixer", 0, |r| r.mixer.clone()),
    left("avg5", 0, |r| task_mean(r.avg5)),
    left("published", 0, |r| published_mean(r, |p| p.five)),
    right("Δ", 0, |r| signed(r.difference5_points)),
    left("avg6", 0, |r| if r.tasks == 6 { task_mean(r.avg6) } else { String::new() }),
    left("published", 0, |r| if r.tasks == 6 { published_mean(r, |p| p.six) } else { String::new() }),
    right("Δ", 0, |r| signed(r.difference6_points)),
    left("n", 0, |r| format!("{}/{}", r.scored, r.planned)),
    left("remarks", 0, average_remarks),
];

const AVERAGE_CAPTION: &str = "Long Range Arena averages. avg5: mean of ListOps, Text, Retrieval, Image and Pathfinder; avg6: \
                               the same with Path-X, which counts 0.5 where it is at its floor. A mixer without a \
                               score on every task has no average. Published averages are of the published cells, by the same rule.";

const LANGUAGE: [Column<Language>; 13] = [
    left("task", 0, |r| r.task.clone()),
    left("mixer", 0, |r| if r.baseline { format!("baseline: {}", r.mixer) } else { r.mixer.clone() }),
    left("loss", 0, |r| decimals_or_none(r.loss.as_ref())),
    left("perplexity", 0, |r| digits_or_none(r.perplexity.as_ref())),
    left("accuracy", 0, |r| decimals_or_none(r.accuracy.as_ref())),
    left("pseudo-perplexity", 1, |r| digits_or_none(r.pseudo_perplexity.as_ref())),
    left("bits/byte", 1, |r| decimals_or_none(r.bits_per_byte.as_ref())),
    left("minimal pairs", 1, |r| decimals_or_none(r.minimal_pairs.as_ref())),
    right("tokens/s", 2, |r| r.tokens_per_second.map_or(String::new(), |speed| significant(Some(speed)))),
    right("MFU", 3, |r| {
        r.mfu.as_ref().and_then(|m| m.mean).map_or(String::new(), |m| format!("{} %", digits(100.0 * m)))
    }),
    right("parameters", 4, |r| r.parameters.map_or(String::new(), |n| n.to_string())),
    left("n", 0, |r| if r.baseline { String::new() } else { format!("{}/{}", r.n, r.planned) }),
    left("published", 5, |r| r.published.clone()),
];

const LANGUAGE_CAPTION: &str = "Language models in the order of their test losses (nats a scored token). Means and 95 % Student-t \
                                intervals over seeds; perplexity is e to the mean loss and its interval e to the interval \
                                of the loss, pseudo-perplexity likewise. n: runs with a loss; a run that diverged has none, and \
                                of accuracy the floor.";

const LANGUAGE_SPEED: &str = " Tokens/s is the median training speed.";

const LANGUAGE_MFU: &str = " MFU is the share of the machine's peak that the model's own operations make up.";

const LANGUAGE_PUBLISHED: &str = " Published losses and accuracies are of other corpora and tokenizers: beside ours they say \
                                  how the papers' models lie to each other, and no difference is taken.";

const GLUE_AVERAGE: [Column<GlueAverage>; 6] = [
    left("average", 0, |r| r.rule.clone()),
    left("mixer", 0, |r| r.mixer.clone()),
    left("ours", 0, |r| task_mean(r.ours)),
    left("published", 0, |r| r.published.map_or(String::new(), |share| format!("{share:.3}{}", r.letter))),
    right("Δ", 0, |r| signed(r.difference_points)),
    left("remarks", 0, glue_remarks),
];

const GLUE_CAPTION: &str = "GLUE by task and metric: means and 95 % Student-t intervals over seeds (k/n: k of n planned runs \
                            have the number); behind the stroke the published number of the model beside which the mixer \
                            stands. MNLI's two sets are matched and mismatched.";

const GLUE_DIVERGED: &str = " A diverged run counts 0 of F1 and of correlations, and of accuracies what the best constant answer or a guesser \
     scores.";

const GLUE_AVERAGES_CAPTION: &str = "Averages over GLUE, each by its paper's rule; an average with a task missing is not printed. Published: \
                                     the same rule on the published cells; stated: what the source prints, beside its own rule.";

const OVERALL: [Column<Overall>; 3] = [
    left("mixer", 0, |r| r.mixer.clone()),
    left("all tasks", 0, |r| match (r.score, r.interval) {
        (Some(score), Some(Interval { low, high })) => format!("{score:.3} [{low:.3}, {high:.3}]"),
        (Some(score), None) => format!("{score:.3}"),
        (None, _) => {
            format!("- (scored on {} only)", if r.tasks == 1 { "1 task".into() } else { format!("{} tasks", r.tasks) })
        }
    }),
    right("n", 0, |r| r.n.to_string()),
];

const OVERALL_CAPTION: &str = "Interquartile mean of (score - floor) / (ceiling - floor) over all scored runs, \
                               only for mixers scored on every task.";

/// What the intervals of averages are, and how often they held in simulation.
fn intervals() -> String {
    format!(
        "Intervals are 95 % t intervals over the seeds of each task, with Welch and Satterthwaite's degrees of freedom, cut to the \
         range of the scores. {}",
        held("they hold the true mean", "they do so", &OF_MEANS)
    )
}

/// How often intervals held in simulation.
fn held(hold: &str, do_so: &str, Coverage { usual, wide, one, all }: &Coverage) -> String {
    let ([usual, wide, all], [two, three, five]) = ([usual, wide, all].map(hundredths), one.each_ref().map(hundredths));
    format!(
        "In simulated sweeps of 2 to 6 tasks with 2, 3 or 5 seeds {hold} in {usual} of 100, and in {wide} where one task spreads 40 times \
         as far as the others. Where the seeds of one task either solve it or do not, {do_so} in {two} with 2 seeds, {three} with 3 and \
         {five} with 5, and where those of every task do, in {all}: all seeds may have done the same."
    )
}

/// The same where runs of one seed share a start.
const PAIRED: &str = "Runs of one seed start from the same pretrained run, so tasks are not independent: intervals are 95 % t intervals \
                      over seeds of the sums over tasks, with n - 1 degrees of freedom for the n seeds that have every task, cut to \
                      the range of the scores.";

/// The same of an interquartile mean.
fn middle_intervals(shares_starts: bool) -> String {
    if shares_starts {
        return "Its interval is a t interval over seeds of the interquartile means of single seeds, which start from the same \
                pretrained run on every task."
            .into();
    }
    format!(
        "Its interval is a t interval whose standard error is the spread over seeds redrawn within each task. {}",
        held("it holds the true interquartile mean", "it does so", &OF_MIDDLES)
    )
}

/// `47 to 49`.
fn hundredths([low, high]: &[u32; 2]) -> String {
    if low == high { low.to_string() } else { format!("{low} to {high}") }
}

const GROUPS_CAPTION: &str = "Means over groups: tasks whose labels share the part before the first `/` are one group, which \
                              counts by the mean over its tasks of the mean over seeds; the last column is the mean over \
                              groups. A mixer without a \
                              number on every task of a group has no mean of it, nor one with scored runs that lack it.";

const MEASURES_CAPTION: &str = "Mean over the scored seeds that report a measure; (k/n) where only k of the n planned runs do: \
                                a run that failed has none, nor one that diverged, except of accuracies, F1 and \
                                correlations, of which it counts the floor. Intervals are in table.json, single runs in \
                                runs.csv.";

/// The score; behind FAIL where papers would print that alone.
fn test(row: &Row) -> String {
    let score = match (&row.test, row.over_examples) {
        (Some(test), Some(Interval { low, high })) if test.interval.is_none() => {
            format!("{:.3} (n = {}, examples [{low:.3}, {high:.3}])", test.mean, test.n)
        }
        (test, _) => test.as_ref().map_or("-".into(), score_text),
    };
    if row.fails() { format!("FAIL ({score})") } else { score }
}

fn published(row: &Row) -> String {
    let Some(cell) = &row.published else { return String::new() };
    let number = match (cell.accuracy, cell.number) {
        (Some(share), _) => format!("{share:.3}"),
        (None, Some(number)) => digits(number),
        (None, None) => "FAIL".into(),
    };
    let otherwise = row.published_measure().filter(|_| row.published_otherwise());
    let measure = otherwise.map_or(String::new(), |measure| format!(" ({measure})"));
    format!("{number}{}{measure}", row.letter)
}

/// `+1.2`; empty without a difference.
fn signed(points: Option<f64>) -> String {
    let text = points.map_or(String::new(), |points| format!("{points:+.1}"));
    if ["+0.0", "-0.0"].contains(&text.as_str()) { "0.0".into() } else { text }
}

fn task_mean(mean: Option<TaskMean>) -> String {
    match mean {
        Some(TaskMean { mean, interval: Some(Interval { low, high }) }) => format!("{mean:.3} [{low:.3}, {high:.3}]"),
        Some(TaskMean { mean, interval: None }) => format!("{mean:.3}"),
        None => "-".into(),
    }
}

fn published_mean(row: &Average, of: fn(&Averages) -> Option<f64>) -> String {
    row.published.as_ref().and_then(of).map_or(String::new(), |share| format!("{share:.3}{}", row.letter))
}

/// `4.123 [4.101, 4.145]`, or `4.123 (n = 1)`; empty without a number.
fn decimals_or_none(measured: Option<&Measured>) -> String {
    around(measured, |value| format!("{value:.3}"))
}

/// The same with three digits that count.
fn digits_or_none(measured: Option<&Measured>) -> String {
    around(measured, digits)
}

fn around(measured: Option<&Measured>, text: impl Fn(f64) -> String) -> String {
    let Some((mean, measured)) = measured.and_then(|measured| Some((measured.mean?, measured))) else {
        return String::new();
    };
    match measured.interval {
        Some(Interval { low, high }) => format!("{} [{}, {}]", text(mean), text(low), text(high)),
        None if measured.n == 1 => format!("{} (n = 1)", text(mean)),
        None => text(mean),
    }
}

fn glue_remarks(row: &GlueAverage) -> String {
    let missing = (!row.missing.is_empty()).then(|| format!("without {}", row.missing.join(", ")));
    let stated = row.stated.map(|stated| format!("source states {stated:.3}"));
    [missing, stated].into_iter().flatten().collect::<Vec<_>>().join("; ")
}

fn glue_cell(cell: &GlueCell) -> String {
    let mut text = decimals_or_none(cell.ours.as_ref());
    if text.is_empty() {
        text = "-".into();
    }
    if let Some(ours) = cell.ours.as_ref().filter(|ours| ours.n > 1 && (ours.n as u64) < cell.planned) {
        text += &format!(" ({}/{})", ours.n, cell.planned);
    }
    if let Some(published) = cell.published {
        text += &format!(" / {published:.3}{}", cell.letter);
    }
    text
}

/// Tasks and metrics by mixers.
fn glue_grid(glue: &Glue) -> Grid {
    let mixers = glue.lines.first().into_iter().flat_map(|line| &line.cells).map(|cell| cell.mixer.clone());
    let titles = ["task", "metric"].map(String::from).into_iter().chain(mixers).collect();
    let cells = |line: &glue::GlueLine| {
        let words = [line.task.clone(), line.measure.clone()];
        words.into_iter().chain(line.cells.iter().map(glue_cell)).collect()
    };
    Grid::of(titles, 2, glue.lines.iter().map(cells).collect())
}

fn average_remarks(row: &Average) -> String {
    let mut remarks = Vec::new();
    if !row.missing.is_empty() {
        remarks.push(format!("no score on {}", row.missing.join(", ")));
    }
    if row.path_x_failed {
        remarks.push("Path-X FAIL".into());
    }
    if let Some(stated) = row.published.as_ref().and_then(|published| published.stated) {
        remarks.push(format!("source states {stated:.3}"));
    }
    remarks.join(", ")
}

fn remarks(row: &Row) -> String {
    let single = row.test.is_some_and(|test| test.interval.is_none());
    let above = match row.above {
        Above::Floor => "",
        Above::Unsure if single && row.over_examples.is_none() => "not known to be above the floor",
        Above::Unsure => "interval reaches the floor",
        Above::AtFloor => "at floor",
    };
    let one_class = match row.one_class {
        0 => String::new(),
        n if n == row.counts.finished => "one class".into(),
        n => format!("one class {n}/{}", row.counts.finished),
    };
    let counts = row.counts.remarks();
    [above, &one_class, &counts].into_iter().filter(|s| !s.is_empty()).collect::<Vec<_>>().join(", ")
}

fn decimals(value: Option<f64>, places: usize) -> String {
    value.map_or("-".into(), |value| format!("{value:.places$}"))
}

impl Table {
    /// For a terminal `width` columns wide; columns that do not fit are left out and counted.
    pub fn terminal(&self, width: usize, colour: bool) -> String {
        let width = width.max(40);
        let mut parts = Vec::new();
        if !self.question.is_empty() {
            parts.push(text::lines(self.question.trim()).into_owned());
        }
        let (grid, hidden) = Grid::fitting(&ROW, &self.rows, width);
        let paint = |i: usize| self.colour(i);
        let table = grid.terminal(width, colour.then_some(&paint));
        let note = match hidden {
            0 => String::new(),
            1 => "\n1 more column in table.csv.".into(),
            n => format!("\n{n} more columns in table.csv."),
        };
        let notes: String = self.notes.iter().map(|note| format!("\n{}", wrap(note, width))).collect();
        parts.push(format!("{table}\n{}{notes}{note}", wrap(&self.caption.join(" "), width)));
        if !self.languages.is_empty() {
            let (grid, _) = Grid::fitting(&LANGUAGE, &self.languages, width);
            parts.push(format!("{}\n{}", grid.terminal(width, None), wrap(&language_caption(&grid), width)));
        }
        if let Some(glue) = &self.glue {
            let grid = glue_grid(glue).terminal(width, None);
            parts.push(format!("{grid}\n{}", wrap(&self.with_signs(&self.glue_caption()), width)));
            if !glue.averages.is_empty() {
                let grid = Grid::new(&GLUE_AVERAGE, &glue.averages, u8::MAX).terminal(width, None);
                let caption = format!("{} {}", self.over_tasks(GLUE_AVERAGES_CAPTION), glue::rules());
                parts.push(format!("{grid}\n{}", wrap(&caption, width)));
            }
        }
        if !self.averages.is_empty() {
            let grid = Grid::new(&AVERAGE, &self.averages, u8::MAX);
            parts.push(format!(
                "{}\n{}",
                grid.terminal(width, None),
                wrap(&self.with_signs(&self.over_tasks(AVERAGE_CAPTION)), width)
            ));
        }
        if !self.groups.is_empty() {
            let grid = groups_grid(&self.groups).terminal(width, None);
            parts.push(format!("{grid}\n{}", wrap(&self.with_signs(&self.over_tasks(GROUPS_CAPTION)), width)));
        }
        if !self.ended.is_empty() {
            let grid = Grid::new(&ENDED, &self.ended, u8::MAX);
            parts.push(format!("Runs that did not finish\n{}", grid.terminal(width, None)));
        }
        if !self.overall.is_empty() {
            let grid = Grid::new(&OVERALL, &self.overall, u8::MAX);
            parts.push(format!(
                "{}\n{}",
                grid.terminal(width, None),
                wrap(&self.with_signs(&self.overall_caption()), width)
            ));
        }
        if !self.settings.is_empty() {
            let (grid, _) = Grid::fitting(&ROW, &self.settings, width);
            parts.push(format!("All settings\n{}", grid.terminal(width, None)));
        }
        parts.extend(self.warnings.iter().map(|warning| wrap(&format!("warning: {warning}"), width)));
        if !self.findings.is_empty() {
            parts.push(self.findings.iter().map(|said| wrap(said, width)).collect::<Vec<_>>().join("\n"));
        }
        parts.join("\n\n") + "\n"
    }

    /// A caption of a table over tasks that names the marked ones; the notes of the table before it explain the signs.
    fn with_signs(&self, caption: &str) -> String {
        let of_task = |task: &str| self.rows.iter().find(|row| row.task == task).filter(|row| !row.marks.is_empty());
        let marked: Vec<String> = tasks(&self.rows).into_iter().filter_map(of_task).map(Row::task_shown).collect();
        if marked.is_empty() { caption.into() } else { format!("{caption} Includes {}.", marked.join(", ")) }
    }

    /// The same for a page, where a table may be read alone.
    fn with_sign_notes(&self, caption: &str) -> String {
        let notes: String = sign_notes(&self.rows).iter().map(|note| format!("- {}\n", text::markdown(note))).collect();
        let caption = text::markdown(caption);
        if notes.is_empty() { format!("{caption}\n") } else { format!("{caption}\n\n{notes}") }
    }

    /// Green for the best of a task, yellow at the floor, red without a score.
    fn colour(&self, i: usize) -> Option<Color> {
        let row = &self.rows[i];
        let mean = |row: &Row| row.test.map(|test| test.mean);
        let of_place = self.rows.iter().filter(|other| other.place() == row.place());
        let best = of_place.filter_map(mean).fold(f64::NEG_INFINITY, f64::max);
        match mean(row) {
            None => Some(Color::Red),
            Some(_) if row.above == Above::AtFloor => Some(Color::Yellow),
            Some(score) if score == best && row.above == Above::Floor => Some(Color::Green),
            Some(_) => None,
        }
    }

    /// The main table and its caption.
    pub fn markdown(&self) -> String {
        let warning = |warning: &String| format!("\n**Warning:** {}.\n", text::markdown_inline(warning));
        let warnings: String = self.warnings.iter().map(warning).collect();
        let notes: String = self.notes.iter().map(|note| format!("- {}\n", text::markdown(note))).collect();
        let notes = if notes.is_empty() { notes } else { format!("\n{notes}") };
        let caption = text::markdown(&self.caption.join(" "));
        format!("{}\n{caption}\n{notes}{warnings}", Grid::new(&ROW, &self.rows, u8::MAX).markdown())
    }

    /// The runs that did not finish; empty when all did.
    pub fn markdown_ended(&self) -> String {
        if self.ended.is_empty() { String::new() } else { Grid::new(&ENDED, &self.ended, u8::MAX).markdown() }
    }

    /// All settings of a grid; empty without one.
    pub fn markdown_settings(&self) -> String {
        if self.settings.is_empty() { String::new() } else { Grid::new(&ROW, &self.settings, u8::MAX).markdown() }
    }

    /// The means over groups of tasks; empty without groups.
    pub fn markdown_groups(&self) -> String {
        if self.groups.is_empty() {
            return String::new();
        }
        format!("{}\n{}", groups_grid(&self.groups).markdown(), self.with_sign_notes(&self.over_tasks(GROUPS_CAPTION)))
    }

    /// Numbers besides the score; empty where no run has any.
    pub fn markdown_measures(&self) -> String {
        // Baselines are rows of the language models' table.
        let of_baseline = |name: &&str| self.rows.iter().any(|row| is_baseline_measure(name, &row.measures));
        let names: Vec<&str> = self.measures().into_iter().filter(|name| !of_baseline(name)).collect();
        if names.is_empty() {
            return String::new();
        }
        let with_settings = self.rows.iter().any(|row| !row.settings.is_empty());
        let words = if with_settings { vec!["task", "mixer", "settings"] } else { vec!["task", "mixer"] };
        let titles = words.iter().map(ToString::to_string).chain(names.iter().map(ToString::to_string)).collect();
        let cells = |row: &Row| {
            let settings = with_settings.then(|| row.settings.clone());
            let numbers = names.iter().map(|name| measured(row.measures.get(*name), row.planned));
            [row.task_shown(), row.mixer.clone()].into_iter().chain(settings).chain(numbers).collect()
        };
        let grid = Grid::of(titles, words.len(), self.rows.iter().map(cells).collect());
        format!("{}\n{MEASURES_CAPTION}\n", grid.markdown())
    }

    /// Names of all measures.
    pub(super) fn measures(&self) -> BTreeSet<&str> {
        let rows = if self.settings.is_empty() { &self.rows } else { &self.settings };
        rows.iter().flat_map(|row| row.measures.keys().map(String::as_str)).collect()
    }

    /// GLUE's tasks and averages; empty without its tasks.
    pub fn markdown_glue(&self) -> String {
        let Some(glue) = &self.glue else { return String::new() };
        let tasks = format!("{}\n{}", glue_grid(glue).markdown(), self.with_sign_notes(&self.glue_caption()));
        if glue.averages.is_empty() {
            return tasks;
        }
        let grid = Grid::new(&GLUE_AVERAGE, &glue.averages, u8::MAX).markdown();
        format!("{tasks}\n{grid}\n{} {}\n", self.over_tasks(GLUE_AVERAGES_CAPTION), glue::rules())
    }

    fn glue_caption(&self) -> String {
        let of_glue = |row: &&Row| row.published_task.as_deref().is_some_and(|task| GLUE.contains(&task));
        let diverged = self.rows.iter().filter(of_glue).any(|row| row.counts.diverged > 0);
        format!("{GLUE_CAPTION}{}", if diverged { GLUE_DIVERGED } else { "" })
    }

    /// The language models; empty unless runs report a perplexity.
    pub fn markdown_languages(&self) -> String {
        if self.languages.is_empty() {
            return String::new();
        }
        let grid = Grid::new(&LANGUAGE, &self.languages, u8::MAX);
        format!("{}\n{}", grid.markdown(), self.with_sign_notes(&language_caption(&grid)))
    }

    /// The averages over Long Range Arena; empty without its tasks.
    pub fn markdown_averages(&self) -> String {
        if self.averages.is_empty() {
            return String::new();
        }
        let grid = Grid::new(&AVERAGE, &self.averages, u8::MAX);
        format!("{}\n{}", grid.markdown(), self.with_sign_notes(&self.over_tasks(AVERAGE_CAPTION)))
    }

    /// The mixers over all tasks; empty for a single task.
    pub fn markdown_overall(&self) -> String {
        if self.overall.is_empty() {
            return String::new();
        }
        let grid = Grid::new(&OVERALL, &self.overall, u8::MAX);
        format!("{}\n{}", grid.markdown(), self.with_sign_notes(&self.overall_caption()))
    }

    /// The caption of a table of means over tasks.
    fn over_tasks(&self, caption: &str) -> String {
        let intervals = if self.shares_starts() { PAIRED.into() } else { intervals() };
        format!("{caption} {intervals}")
    }

    /// Whether runs of some task start from another run.
    fn shares_starts(&self) -> bool {
        self.rows.iter().any(|row| row.shares_starts)
    }

    fn overall_caption(&self) -> String {
        let without = match &self.without_room[..] {
            [] => String::new(),
            tasks => format!(" Without {}, where the floor is the ceiling.", tasks.join(", ")),
        };
        format!("{OVERALL_CAPTION}{without} {}", middle_intervals(self.shares_starts()))
    }
}

/// How to read the columns that are shown.
fn language_caption(grid: &Grid) -> String {
    let of = [("tokens/s", LANGUAGE_SPEED), ("MFU", LANGUAGE_MFU), ("published", LANGUAGE_PUBLISHED)];
    let shown = of.into_iter().filter(|(title, _)| grid.titles.iter().any(|known| known == title));
    [LANGUAGE_CAPTION].into_iter().chain(shown.map(|(_, said)| said)).collect()
}

/// Mixers by groups, and the mean over groups.
fn groups_grid(groups: &[Group]) -> Grid {
    let names = groups.first().map(|group| group.groups.iter().map(|g| g.name.clone())).into_iter().flatten();
    let titles = ["mixer", "of"].map(String::from).into_iter().chain(names).chain(["mean".into()]).collect();
    let of_group = |group: &GroupMean| match group.mean {
        Some(mean) => format!("{mean:.3}"),
        None => match group.runs {
            Some((with, scored)) if group.scored == group.tasks => format!("- ({with}/{scored} runs)"),
            _ => format!("- ({}/{} tasks)", group.scored, group.tasks),
        },
    };
    let cells = |group: &Group| {
        let mean = task_mean(group.mean.map(|mean| TaskMean { mean, interval: group.interval }));
        let words = [group.mixer.clone(), group.measure.clone()];
        words.into_iter().chain(group.groups.iter().map(of_group)).chain([mean]).collect()
    };
    Grid::of(titles, 2, groups.iter().map(cells).collect())
}

/// `0.0312`, or `0.0312 (2/3)` where some planned runs do not say.
fn measured(measured: Option<&Measured>, planned: u64) -> String {
    let Some((mean, n)) = measured.and_then(|measured| Some((measured.mean?, measured.n))) else { return "-".into() };
    let whole = n as u64 == planned;
    if whole { digits(mean) } else { format!("{} ({n}/{planned})", digits(mean)) }
}
