//! The search of `tune`: which short runs are to be made, and which setting their validation scores choose.
//!
//! A pure function of what is known. A sweep asks it again whenever runs have ended, so that a search goes on from its records as
//! everything else does.

use crate::config::draft::{At, Part};
use crate::config::tune::{By, Cell, Tune};
use crate::config::{Config, Draft};
use crate::sweep::plan::Planned;
use crate::train::schedule::Shape;
use results::{Contents, Outcome, Record, Tuned};
use std::cmp::Reverse;
use std::collections::HashMap;

/// The first seed of searches: none of theirs is a seed of the runs themselves, unless somebody lists such large ones.
const FIRST_SEED: u64 = 1_000_000;

/// One short run of a search.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// Its setting.
    pub at: At,
    /// Its steps as a share of those of a run.
    pub share: f64,
    /// Its seed.
    pub seed: u64,
}

/// What came of a trial.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Merit {
    /// It finished with this [`Record::merit`].
    Score([f64; 2]),
    /// It diverged, or failed.
    Bad,
}

/// How far the search of one cell is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Progress {
    /// Every trial asked for so far, done or not.
    pub trials: Vec<Trial>,
    /// The setting that won, once the search is over.
    pub chosen: Option<Chosen>,
}

/// A setting that won.
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    /// Its place.
    pub at: At,
    /// What the table says of it.
    pub tuned: Tuned,
}

/// What is known of the trials of a whole sweep.
#[derive(Debug, Default)]
pub struct Known(HashMap<(usize, At, u64, u64), Merit>);

impl Known {
    /// From the records of a plan.
    pub fn of(runs: &[Planned], records: &Contents) -> Self {
        let merit = |run: &Planned| {
            let Part::Search { cell, at, share, .. } = &run.draft.part else { return None };
            let merit = Merit::of(records.of_run(&run.id)?)?;
            Some(((*cell, at.clone(), share.to_bits(), run.draft.seed), merit))
        };
        Self(runs.iter().filter_map(merit).collect())
    }

    /// How many trials are done.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    fn of_trial(&self, cell: usize, trial: &Trial) -> Option<Merit> {
        self.0.get(&(cell, trial.at.clone(), trial.share.to_bits(), trial.seed)).copied()
    }
}

impl Merit {
    /// Of a run that ended; `None` while it may go on.
    fn of(record: &Record) -> Option<Self> {
        match (&record.outcome, record.merit()) {
            (Outcome::Interrupted { .. }, _) => None,
            (Outcome::Finished, Some(merit)) => Some(Self::Score(merit)),
            _ => Some(Self::Bad),
        }
    }
}

/// The runs of a sweep as far as what is known decides them: those of the config whose setting is chosen, and every trial asked for.
/// Without `tune` all runs of the config.
pub fn runs(config: &Config, known: &Known) -> Vec<Draft> {
    let Some(tune) = &config.tune else { return config.runs.clone() };
    let mut runs = Vec::new();
    for (place, cell) in tune.cells.iter().enumerate() {
        let seeds: Vec<&Draft> = config.runs.iter().filter(|run| cell.is_of(run)).collect();
        if seeds.is_empty() {
            continue;
        }
        let progress = progress(cell, tune, |trial| known.of_trial(place, trial));
        runs.extend(progress.trials.iter().map(|trial| trial.draft(place, cell)));
        if let Some(Chosen { at, tuned }) = progress.chosen {
            let part = Part::Tuned(tuned);
            runs.extend(seeds.iter().map(|run| Draft {
                seed: run.seed,
                part: part.clone(),
                ..cell.settings[&at].clone()
            }));
        }
    }
    runs
}

/// Runs to reckon the cost of a search by: as many as it makes at least, of the first settings of each cell.
pub fn expected(tune: &Tune, of: impl Fn(&Cell) -> bool) -> Vec<Draft> {
    let mut runs = Vec::new();
    for (place, cell) in tune.cells.iter().enumerate().filter(|(_, cell)| of(cell)) {
        let mut left = cell.written();
        let settings = format!("{} settings", left.len());
        for share in rounds(tune, left.len()) {
            let trials = left
                .iter()
                .flat_map(|at| (0..tune.seeds).map(|k| Trial { at: at.clone(), share, seed: FIRST_SEED + k }));
            runs.extend(trials.map(|trial| {
                let draft = trial.draft(place, cell);
                Draft { settings: [&cell.point[..], &[("search".into(), settings.clone())]].concat(), ..draft }
            }));
            left.truncate(survivors(left.len()));
        }
    }
    runs
}

/// What is to be tried in `cell`, given what is `known` of trials.
pub fn progress(cell: &Cell, tune: &Tune, known: impl Fn(&Trial) -> Option<Merit>) -> Progress {
    let mut search = Search { tune, known, trials: Vec::new(), tried: Vec::new(), extended: 0 };
    let best = search.best(cell);
    let chosen = best.map(|(at, merit)| Chosen { tuned: search.tuned(cell, &at, merit), at });
    Progress { trials: search.trials, chosen }
}

/// Shares of the steps of a run that `settings` settings are tried with, round by round.
pub fn rounds(tune: &Tune, settings: usize) -> Vec<f64> {
    let halvings = match tune.by {
        By::Grid => 0,
        // From n settings to two, each time the larger half.
        By::Halving => (settings.max(2) - 1).ilog2(),
    };
    (0..=halvings).rev().map(|halving| tune.budget / f64::from(1u32 << halving)).collect()
}

/// Settings that go on after a round.
pub fn survivors(settings: usize) -> usize {
    settings.div_ceil(2)
}

/// How a setting did in a round: seeds that finished, then the means of their merits.
type Rank = (usize, [f64; 2]);

struct Search<'a, K> {
    tune: &'a Tune,
    known: K,
    trials: Vec<Trial>,
    tried: Vec<At>,
    extended: u32,
}

impl<K: Fn(&Trial) -> Option<Merit>> Search<'_, K> {
    /// The setting that wins, once every trial that this takes is done.
    fn best(&mut self, cell: &Cell) -> Option<(At, Rank)> {
        let mut left = cell.written();
        let rounds = rounds(self.tune, left.len());
        let (last, before) = rounds.split_last()?;
        for share in before {
            let ranked = self.ranked(&left, *share)?;
            left = ranked.into_iter().take(survivors(left.len())).map(|(at, _)| at).collect();
        }
        let mut best = self.ranked(&left, *last)?.into_iter().next()?;
        for _ in 0..self.tune.extensions {
            let beyond: Vec<At> = beyond(cell, &best.0).filter(|at| !self.tried.contains(at)).collect();
            if beyond.is_empty() {
                break;
            }
            self.extended += 1;
            let others = self.ranked(&beyond, *last)?;
            best = std::iter::once(best).chain(others).min_by(by_rank)?;
        }
        Some(best)
    }

    /// Settings of a round, the best first; of equals the one written first. `None` while trials are missing.
    fn ranked(&mut self, settings: &[At], share: f64) -> Option<Vec<(At, Rank)>> {
        let mut ranked = Vec::new();
        let mut complete = true;
        for at in settings {
            if !self.tried.contains(at) {
                self.tried.push(at.clone());
            }
            match self.rank(at, share) {
                Some(rank) => ranked.push((at.clone(), rank)),
                None => complete = false,
            }
        }
        ranked.sort_by(by_rank);
        complete.then_some(ranked)
    }

    fn rank(&mut self, at: &At, share: f64) -> Option<Rank> {
        let trials = (0..self.tune.seeds).map(|k| Trial { at: at.clone(), share, seed: FIRST_SEED + k });
        let merits: Vec<Option<Merit>> = trials
            .map(|trial| {
                let merit = (self.known)(&trial);
                self.trials.push(trial);
                merit
            })
            .collect();
        let merits: Vec<Merit> = merits.into_iter().collect::<Option<_>>()?;
        let finished = |merit: &Merit| match merit {
            Merit::Score(merit) => Some(*merit),
            Merit::Bad => None,
        };
        let merits: Vec<[f64; 2]> = merits.iter().filter_map(finished).collect();
        let mean = |at: usize| merits.iter().map(|merit| merit[at]).sum::<f64>() / merits.len().max(1) as f64;
        Some((merits.len(), [mean(0), mean(1)]))
    }

    fn tuned(&self, cell: &Cell, at: &At, (finished, _): Rank) -> Tuned {
        let ends = cell
            .axes
            .iter()
            .zip(at)
            .filter(|(axis, index)| axis.has_ends() && (**index <= 0 || **index >= axis.written - 1));
        // A neighbour beyond that was tried and lost makes it no edge.
        let open = |path: &str| {
            beyond(cell, at).all(|next| {
                !self.tried.contains(&next)
                    || cell.shown(&next).iter().zip(cell.shown(at)).all(|(a, b)| a.0 != path || a.1 == b.1)
            })
        };
        let at_edge = ends.map(|(axis, _)| axis.path.clone()).filter(|path| open(path)).collect();
        Tuned {
            tried: self.tried.len(),
            extended: self.extended,
            chosen: cell.shown(at),
            at_edge,
            none_finished: finished == 0,
        }
    }
}

fn by_rank(a: &(At, Rank), b: &(At, Rank)) -> std::cmp::Ordering {
    let (a, b) = (a.1, b.1);
    Reverse(a.0).cmp(&Reverse(b.0)).then(b.1[0].total_cmp(&a.1[0])).then(b.1[1].total_cmp(&a.1[1]))
}

/// The settings one step further out on the axes where `at` stands at an end or beyond one, as far as they can be run.
fn beyond<'a>(cell: &'a Cell, at: &'a At) -> impl Iterator<Item = At> + 'a {
    let steps = (0..cell.axes.len()).flat_map(|axis| [(axis, -1), (axis, 1)]);
    steps.filter_map(move |(place, step)| {
        let (axis, index) = (&cell.axes[place], at[place]);
        let is_end = if step < 0 { index <= 0 } else { index >= axis.written - 1 };
        let mut next = at.clone();
        next[place] += step;
        (axis.has_ends() && is_end && cell.settings.contains_key(&next)).then_some(next)
    })
}

impl Trial {
    /// Its run.
    fn draft(&self, place: usize, cell: &Cell) -> Draft {
        let tried = cell.shown(&self.at);
        let part = Part::Search { cell: place, at: self.at.clone(), share: self.share, tried };
        Draft { seed: self.seed, part, published: None, ..shortened(&cell.settings[&self.at], self.share) }
    }
}

/// A run of the same setting whose steps, warm-up and evaluations are a share of this one's. What is analysed after training chooses
/// nothing and is left out.
fn shortened(draft: &Draft, share: f64) -> Draft {
    let part = |steps: u64| (steps as f64 * share).round() as u64;
    let least_one = |steps: u64| part(steps).max(1);
    let mut short = draft.clone();
    short.budget.steps = least_one(draft.budget.steps);
    short.budget.eval_every = least_one(draft.budget.eval_every);
    short.budget.checkpoint_every = draft.budget.checkpoint_every.map(least_one);
    // The Long Range Arena's rule has a peak that depends on its warm-up.
    if draft.schedule.shape != Shape::InverseSqrt {
        short.schedule.warmup_steps = part(draft.schedule.warmup_steps);
    }
    short.schedule.cycle_steps = draft.schedule.cycle_steps.map(least_one);
    short.schedule.hold_steps = least_one(draft.schedule.hold_steps);
    if let Some(first) = &mut short.pretrain {
        first.steps = least_one(first.steps);
        first.warmup_steps = first.warmup_steps.map(part);
    }
    short.analysis = None;
    short
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::Registry;

    /// A cell of one mixer with these rates, searched `by`, and what a rate scores.
    fn tune(rates: &str, by: &str) -> Tune {
        let text = format!(
            "tasks: [mqar: {{ vocab_size: 32, seq_len: 16, kv_pairs: 2, causal: false }}]\nmixers: [gru]\n\
             model: {{ d_model: 8, n_layers: 1 }}\nbudget: {{ steps: 1000, eval_every: 100 }}\nschedule: {{ warmup_steps: 50 }}\n\
             tune: {{ over: {{ optimizer.lr: [{rates}] }}, by: {by}, budget: 0.4 }}\n"
        );
        Config::parse(&text, "x.yaml", "x", &[], &Registry::default())
            .unwrap_or_else(|e| panic!("{}", e.render()))
            .tune
            .unwrap()
    }

    /// Answers trials by `merit` of the rate until a setting is chosen: it, how many trials it took, and the rate.
    fn searched(tune: &Tune, merit: impl Fn(f64, f64) -> Merit) -> (Tuned, usize, f64) {
        let cell = &tune.cells[0];
        let rate = |at: &At| cell.settings[at].optimizer.lr;
        let mut known: Vec<(Trial, Merit)> = Vec::new();
        loop {
            let now = progress(cell, tune, |trial| known.iter().find(|(t, _)| t == trial).map(|(_, merit)| *merit));
            if let Some(Chosen { at, tuned }) = now.chosen {
                return (tuned, known.len(), rate(&at));
            }
            let open: Vec<Trial> =
                now.trials.into_iter().filter(|trial| known.iter().all(|(t, _)| t != trial)).collect();
            assert!(!open.is_empty(), "nothing chosen and nothing to do");
            known.extend(open.into_iter().map(|trial| {
                let merit = merit(rate(&trial.at), trial.share);
                (trial, merit)
            }));
        }
    }

    /// Scores fall to both sides of a rate.
    fn peak(at: f64) -> impl Fn(f64, f64) -> Merit {
        move |rate, _| Merit::Score([-(rate / at).ln().abs(), 0.0])
    }

    #[test]
    fn a_rate_in_the_middle_wins_and_nothing_more_is_tried() {
        let (tuned, trials, rate) = searched(&tune("1e-2, 1e-3, 3e-3", "grid"), peak(3e-3));
        assert_eq!((tuned.tried, trials, rate), (3, 3, 3e-3));
        assert!(tuned.at_edge.is_empty() && !tuned.none_finished);
        assert_eq!(tuned.chosen, [("optimizer.lr".to_owned(), "0.003".to_owned())]);
    }

    #[test]
    fn a_grid_is_extended_beyond_its_edge_twice_and_then_the_edge_is_said() {
        let (tuned, _, rate) = searched(&tune("1e-3, 3e-3", "grid"), peak(9e-3));
        assert_eq!((tuned.tried, rate, tuned.at_edge.len()), (4, 9e-3, 0), "the second extension is worse");
        let (tuned, _, rate) = searched(&tune("1e-3, 3e-3", "grid"), peak(1.0));
        assert_eq!((tuned.tried, rate), (4, 0.027));
        assert_eq!((tuned.at_edge, tuned.extended), (vec!["optimizer.lr".to_owned()], 2));
    }

    #[test]
    fn a_grid_that_may_not_be_extended_says_its_edge() {
        let (tuned, trials, rate) = searched(&tune("1e-3, 3e-3", "grid, extensions: 0"), peak(9e-3));
        assert_eq!((tuned.tried, trials, rate, tuned.extended), (2, 2, 3e-3, 0));
        assert_eq!(tuned.at_edge, ["optimizer.lr"]);
    }

    #[test]
    fn halving_spends_the_whole_budget_on_two() {
        let tune = tune("1e-4, 3e-4, 1e-3, 3e-3, 1e-2", "halving");
        assert_eq!(rounds(&tune, 5), [0.1, 0.2, 0.4]);
        let (tuned, trials, rate) = searched(&tune, peak(1e-3));
        assert_eq!((tuned.tried, trials, rate), (5, 5 + 3 + 2, 1e-3));
    }

    #[test]
    fn a_setting_that_diverges_is_behind_every_other_and_all_bad_is_said() {
        let (tuned, _, rate) = searched(&tune("1e-3, 3e-3, 1e-2", "grid"), |rate, _| match rate > 2e-3 {
            true => Merit::Bad,
            false => Merit::Score([-1.0, 0.0]),
        });
        assert_eq!(rate, 1e-3);
        assert!(!tuned.none_finished);
        let (tuned, _, rate) = searched(&tune("3e-3, 1e-3, 1e-2", "grid"), |_, _| Merit::Bad);
        assert!(tuned.none_finished && rate == 1e-3, "the first stands in");
    }

    #[test]
    fn between_equal_scores_the_loss_decides() {
        let (tuned, _, rate) = searched(&tune("1e-3, 3e-3, 1e-2", "grid"), |rate, _| {
            Merit::Score([1.0, if rate == 3e-3 { -0.1 } else { -0.2 }])
        });
        assert_eq!((rate, tuned.tried), (3e-3, 3));
    }

    #[test]
    fn a_trial_is_the_same_run_in_small() {
        let tune = tune("1e-3, 3e-3", "grid");
        let draft = progress(&tune.cells[0], &tune, |_| None).trials[0].draft(0, &tune.cells[0]);
        let [steps, every, warmup] = [draft.budget.steps, draft.budget.eval_every, draft.schedule.warmup_steps];
        assert_eq!((steps, every, warmup, draft.seed), (400, 40, 20, FIRST_SEED));
    }
}
