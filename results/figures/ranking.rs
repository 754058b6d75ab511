//! Mixers by their means beside a published order, with rank correlations.

use crate::figures::built::Built;
use crate::figures::collected::{Notes, why};
use crate::figures::kind::Kind;
use crate::figures::source::{SCORE, Seen, Source, score};
use crate::grid::{Grid, digits};
use crate::plot::chart::Spot;
use crate::plot::slope::{self, Slope, Slopes};
use crate::published;
use crate::statistics::correlation::{Agreement, agreement, over_seeds, ranks};
use crate::statistics::{Estimate, Interval};
use crate::store::metric::lower_is_better;
use crate::table::findings::score_text;
use crate::table::row::{BOOTSTRAP_SEED, DRAWS, places};
use serde::{Deserialize, Serialize};

/// Our ranking beside a published one: `{ ranking: { measure: loss, published: C4-MLM-loss } }`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ranking {
    /// What mixers are ranked by: `score`, or a name of the records' measures.
    #[serde(default = "score")]
    pub measure: String,
    /// Whether a lower number is the better one; `null`: as the measure's name says (losses, perplexities, risks, bits).
    #[serde(default)]
    pub lower_is_better: Option<bool>,
    /// The task of the published table whose numbers of the mixers' models make the other ranking.
    pub published: String,
}

impl Ranking {
    /// Whether a lower number is the better one.
    fn lower(&self) -> bool {
        self.lower_is_better.unwrap_or_else(|| lower_is_better(&self.measure))
    }
}

impl Kind for Ranking {
    const EXAMPLE: &'static str = "ranking: { measure: loss, published: C4-MLM-loss }";

    fn draw(&self, source: &Source) -> Result<Built, String> {
        ranking(source, self)
    }
}

/// Mixers by their means beside a published order.
fn ranking(source: &Source, asked: &Ranking) -> Result<Built, String> {
    let known = published::all().iter().any(|cell| cell.task == asked.published);
    if !known {
        return Err(format!("`{}` is no task of the published tables", asked.published));
    }
    source.measured(&asked.measure)?;
    let mixers = source.mixers();
    let (mut panels, mut notes, mut said, mut lines) = (Vec::new(), Notes::default(), Vec::new(), Vec::new());
    for place in places(&source.table.rows) {
        let (title, rows) = source.at(place);
        let mut found = Vec::new();
        for Seen { row, who, runs } in rows {
            let theirs = row.published_model.as_deref().and_then(|model| published::find(model, &asked.published));
            match (source.spot(row, &runs, &asked.measure, 0.0), theirs.and_then(|cell| cell.value())) {
                (None, _) => {
                    notes.add(format!("Not ranked, having no {}", asked.measure), &format!("{who} ({})", why(&runs)))
                }
                (_, None) => notes.add(format!("Not ranked, having no published {}", asked.published), &who),
                (Some(spot), Some(value)) => {
                    notes.fewer("Fewer seeds", &who, spot.seeds.len(), &runs);
                    let lower = theirs.is_some_and(|cell| cell.lower_is_better());
                    found.push(Ranked { mixer: row.mixer.clone(), spot, value, lower });
                }
            }
        }
        if found.is_empty() {
            continue;
        }
        let panel = ranked(&title, found, asked, &mixers, source.metric());
        said.push(panel.said);
        lines.extend(panel.lines);
        panels.push(panel.slope);
    }
    if panels.is_empty() {
        return Err(format!("no mixer has both a {} and a published {}", asked.measure, asked.published));
    }
    let y = source.quantity(&asked.measure);
    said.extend(notes.said());
    let read = "Intervals of the correlations: Fisher's z with the standard errors of Bonett and Wright (ρ) and of Fieller, \
                Hartley and Pearson (τ), as if mixers were drawn at random; over redrawn seeds: how far our own seeds \
                move the order, the published one fixed; not a confidence interval, since redrawing adds the spread of the \
                seeds once more.";
    let titles = ["task", "mixer", "rank", &y, "published rank", &asked.published, "moved"].map(String::from);
    let caption = format!("{} {read}", said.join(" "));
    Ok(Built {
        stem: String::new(),
        title: format!("Ranking by {y} beside {}", asked.published),
        alt: format!("mixers in the order of {y} and of the published {}", asked.published),
        caption,
        table: Grid::of(titles.into(), 2, lines).markdown(),
        drawing: Box::new(Slopes {
            panels,
            mixers,
            sides: [format!("{y}, best on top"), format!("published {}", asked.published)],
            notes: said,
        }),
    })
}

/// A mixer with its number and the published one.
struct Ranked {
    mixer: String,
    spot: Spot,
    value: f64,
    /// Whether the lower one of the published numbers is the better.
    lower: bool,
}

/// One task's rankings: to draw, in words, and as lines of the table.
struct Rankings {
    slope: Slope,
    said: String,
    lines: Vec<Vec<String>>,
}

fn ranked(title: &str, found: Vec<Ranked>, asked: &Ranking, mixers: &[String], metric: String) -> Rankings {
    // The best has the smallest number, whatever is better.
    let sign = |lower: bool| if lower { 1.0 } else { -1.0 };
    let ours: Vec<f64> = found.iter().map(|entry| sign(asked.lower()) * entry.spot.mean).collect();
    let theirs: Vec<f64> = found.iter().map(|entry| sign(entry.lower) * entry.value).collect();
    let (our_ranks, their_ranks) = (ranks(&ours), ranks(&theirs));
    let mut order: Vec<usize> = (0..found.len()).collect();
    order.sort_by(|a, b| ours[*a].total_cmp(&ours[*b])); // stable, like the next
    let mut right = order.clone();
    right.sort_by(|a, b| theirs[*a].total_cmp(&theirs[*b]));
    let unit = asked.measure == SCORE;
    let number = |spot: &Spot| {
        let estimate = Estimate { mean: spot.mean, interval: spot.interval, n: spot.seeds.len() };
        if unit || asked.measure == "loss" || asked.measure == "accuracy" {
            return score_text(&estimate);
        }
        match spot.interval {
            Some(Interval { low, high }) => format!("{} [{}, {}]", digits(spot.mean), digits(low), digits(high)),
            None => format!("{} (n = {})", digits(spot.mean), spot.seeds.len()),
        }
    };
    let rank = |rank: f64| if rank.fract() == 0.0 { format!("{rank:.0}") } else { format!("{rank:.1}") };
    // As sources print them: losses and perplexities to a hundredth.
    let theirs_text = |entry: &Ranked| format!("{:.*}", if entry.lower { 2 } else { 3 }, entry.value);
    let entry = |i: &usize| slope::Entry {
        mixer: mixers.iter().position(|mixer| *mixer == found[*i].mixer).unwrap_or_default(),
        ranks: [rank(our_ranks[*i]), rank(their_ranks[*i])],
        values: [number(&found[*i].spot), theirs_text(&found[*i])],
        right: right.iter().position(|other| other == i).unwrap_or_default(),
    };
    let moved = |i: usize| match their_ranks[i] - our_ranks[i] {
        0.0 => "0".to_string(),
        places => format!("{}{}", if places > 0.0 { "+" } else { "-" }, rank(places.abs())),
    };
    let line = |i: &usize| {
        let (text, other) = (number(&found[*i].spot), theirs_text(&found[*i]));
        vec![title.into(), found[*i].mixer.clone(), rank(our_ranks[*i]), text, rank(their_ranks[*i]), other, moved(*i)]
    };
    let seeds: Vec<Vec<f64>> = found
        .iter()
        .map(|entry| entry.spot.seeds.iter().map(|(value, _)| sign(asked.lower()) * value).collect())
        .collect();
    let spread = over_seeds(&seeds, &theirs, DRAWS, BOOTSTRAP_SEED);
    let what = if unit { format!("test {metric}") } else { asked.measure.clone() };
    let said = agreement_text(
        title,
        &what,
        &asked.published,
        found.len(),
        agreement(&ours, &theirs, DRAWS, BOOTSTRAP_SEED),
        &seeds_text(&seeds, spread),
    );
    Rankings {
        slope: Slope { title: title.into(), entries: order.iter().map(entry).collect() },
        said,
        lines: order.iter().map(line).collect(),
    }
}

/// `On mlm the rankings by loss and published C4-MLM-loss agree to Spearman's ρ = 0.97 [0.87, 0.99], …`.
fn agreement_text(title: &str, ours: &str, theirs: &str, n: usize, found: Option<Agreement>, seeds: &str) -> String {
    let Some(found) = found else {
        return format!("{n} mixers on {title} have both numbers, or all share one: too few ranks for a correlation.");
    };
    let interval =
        |interval: Option<Interval>| interval.map_or(String::new(), |interval| format!(" {}", ends(interval)));
    let p = if found.exact {
        format!("p = {:.3} over all pairings", found.p)
    } else {
        format!("p = {:.4} over {DRAWS} random pairings", found.p)
    };
    format!(
        "On {title} the orders by {ours} and by the published {theirs} agree to Spearman's ρ = {}{} and Kendall's τ = {}{}, \
         n = {} mixers, {p}. {seeds}",
        hundredths(found.rho),
        interval(found.rho_interval),
        hundredths(found.tau),
        interval(found.tau_interval),
        found.n,
    )
}

/// What our seeds leave open of ρ, and how many they are.
fn seeds_text(seeds: &[Vec<f64>], spread: Option<Interval>) -> String {
    let n = || seeds.iter().map(Vec::len);
    let (low, high) = (n().min().unwrap_or(0), n().max().unwrap_or(0));
    let each = if low == high { format!("n = {low} each") } else { format!("n = {low} to {high}") };
    match spread {
        Some(interval) => format!("Over redrawn seeds ({each}) ρ lies in {} in 95 of 100 draws.", ends(interval)),
        None if low < 2 => format!("A mixer has n = {low} seed, so seeds cannot be judged."),
        None => format!("Seeds ({each}) cannot be judged: redrawn means are all tied."),
    }
}

fn hundredths(value: f64) -> String {
    format!("{value:.2}").replace('-', "−")
}

/// `[0.87, 0.99]`
fn ends(interval: Interval) -> String {
    format!("[{}, {}]", hundredths(interval.low), hundredths(interval.high))
}
