//! What the numbers say, one sentence each. Nothing is claimed beyond overlapping or disjoint intervals.

use crate::statistics::{Estimate, wilson_interval};
use crate::table::row::{Above, Row, normalised, places};

/// What a floor is, beside its number.
const GUESSING: &str = "what the best constant answer or a guesser scores";

pub(crate) fn findings(rows: &[Row]) -> Vec<String> {
    let mut sentences = Vec::new();
    for place in places(rows) {
        let rows: Vec<&Row> = rows.iter().filter(|row| row.place() == place).collect();
        let task = &rows.first().map_or(place.0.into(), |row| row.place_shown());
        let mut scored: Vec<&Row> = rows.iter().copied().filter(|row| row.test.is_some()).collect();
        scored.sort_by(|a, b| mean(b).total_cmp(&mean(a))); // stable: equals stay in the manifest's order
        // A mixer whose every run diverged stands at the floor by rule, and has beaten nobody.
        let trained: Vec<&Row> = scored.iter().copied().filter(|row| row.counts.finished > 0).collect();
        // Between two that guess, a gap is which class they always answer.
        if trained.iter().any(|row| row.above != Above::AtFloor) {
            sentences.extend(best(task, &trained));
            sentences.extend(unsettled(task, &trained));
        }
        sentences.extend(one_class(task, &trained));
        sentences.extend(at_floor(task, &scored));
        sentences.extend(unsure(task, &scored));
        sentences.extend(alike(task, &scored));
        sentences.extend(unscored(task, &rows));
    }
    sentences
}

fn mean(row: &Row) -> f64 {
    row.test.map_or(f64::NEG_INFINITY, |test| test.mean)
}

/// `0.998 [0.995, 1.000]`, or `0.998 (n = 1)`.
pub(crate) fn score_text(test: &Estimate) -> String {
    match test.interval {
        Some(interval) => format!("{:.3} [{:.3}, {:.3}]", test.mean, interval.low, interval.high),
        None => format!("{:.3} (n = {})", test.mean, test.n),
    }
}

/// Whether both have intervals and these share a point; `None` where one has none.
fn overlap(a: &Row, b: &Row) -> Option<bool> {
    Some(a.test?.interval?.overlaps(&b.test?.interval?))
}

/// The highest mean, what it can be told apart from, and how.
fn best(task: &str, scored: &[&Row]) -> Vec<String> {
    let named = |row: &Row| format!("{} {}", row.mixer, row.test.as_ref().map_or("-".into(), score_text));
    let n = |row: &Row| row.test.map_or(0, |test| test.n);
    let (first, second) = match scored {
        [] => return Vec::new(),
        [only] => return vec![format!("{} is the only mixer that finished on {task}.", named(only))],
        [first, second, ..] => (*first, *second),
    };
    let seeds = match (n(first), n(second)) {
        (a, b) if a == b => format!("n = {a} each"),
        (a, b) => format!("n = {a} and {b}"),
    };
    let (a, b) = (named(first), named(second));
    let below: Vec<String> =
        scored.iter().filter(|row| overlap(first, row) == Some(false)).map(|row| named(row)).collect();
    let rest = format!("{} is above {} on {task}: their intervals do not overlap.", first.mixer, below.join(", "));
    let rest = (!below.is_empty()).then_some(rest);
    match overlap(first, second) {
        Some(false) => vec![format!("{a} is above {b} on {task}: their intervals do not overlap, {seeds}.")],
        _ if mean(first) == mean(second) => {
            let tied = format!("{a} and {b} share the highest mean on {task}, {seeds}.");
            [Some(tied), rest].into_iter().flatten().collect()
        }
        Some(true) => {
            let tied = format!("{a} has the highest mean on {task}, but its interval overlaps that of {b}, {seeds}.");
            [Some(tied), rest].into_iter().flatten().collect()
        }
        None => {
            vec![format!("{a} scores highest on {task}, before {b}; without intervals on both this decides nothing.")]
        }
    }
}

/// That the highest mean is not told from guessing, where it is not.
fn unsettled(task: &str, scored: &[&Row]) -> Option<String> {
    let first = scored.first().filter(|row| row.above != Above::Floor)?;
    let (test, floor, mixer) = (first.test?, first.floor?, &first.mixer);
    let why = match (test.interval, first.over_examples) {
        (Some(seeds), _) if seeds.low <= floor => "its interval over seeds reaches it",
        (_, Some(_)) => "its interval over the test examples reaches it",
        _ => "one seed decides nothing where the test examples are not counted",
    };
    Some(format!("Whether {mixer} is above the floor of {task} ({floor:.3}, {GUESSING}) is not settled: {why}."))
}

/// Mixers that answer one class everywhere.
fn one_class(task: &str, scored: &[&Row]) -> Option<String> {
    let named = |row: &&&Row| format!("{} ({} of {} runs)", row.mixer, row.one_class, row.counts.finished);
    let names: Vec<String> = scored.iter().filter(|row| row.one_class > 0).map(|row| named(&row)).collect();
    (!names.is_empty()).then(|| format!("One class for every test example of {task}: {}.", names.join(", ")))
}

fn at_floor(task: &str, scored: &[&Row]) -> Option<String> {
    let names: Vec<&str> = scored.iter().filter(|r| r.above == Above::AtFloor).map(|r| r.mixer.as_str()).collect();
    let floor = scored.iter().find_map(|row| row.floor)?;
    match names.len() {
        0 => None,
        all if all > 1 && all == scored.len() => Some(format!(
            "No mixer left the floor of {task} ({floor:.3}, {GUESSING}): the order of their scores says nothing."
        )),
        _ => Some(format!("At the floor of {task} ({floor:.3}, {GUESSING}): {}.", names.join(", "))),
    }
}

/// Mixers whose seeds disagree: some past the middle between floor and ceiling, some not.
fn unsure(task: &str, scored: &[&Row]) -> Vec<String> {
    let sentence = |row: &&Row| {
        let scores = normalised(row);
        let solved = scores.iter().filter(|score| **score > 0.5).count();
        if solved == 0 || solved == scores.len() {
            return None;
        }
        let rate = wilson_interval(solved, scores.len())?;
        let (mixer, n) = (&row.mixer, scores.len());
        let spread =
            scores.iter().fold(0.0_f64, |most, s| most.max(*s)) - scores.iter().fold(1.0_f64, |least, s| least.min(*s));
        (spread > 0.4).then(|| {
            format!(
                "The seeds of {mixer} disagree on {task}: {solved} of {n} pass the middle between floor and ceiling \
                 (95 % Wilson interval {:.2} to {:.2}), so its mean describes none of them.",
                rate.low, rate.high
            )
        })
    };
    scored.iter().filter_map(sentence).collect()
}

/// So many pairs are named; of more their number says as much.
const MOST_PAIRS: usize = 10;

/// Pairs that cannot be told apart, leaving out pairs at the floor.
fn alike(task: &str, scored: &[&Row]) -> Option<String> {
    let mut pairs = Vec::new();
    for (i, a) in scored.iter().enumerate() {
        for b in &scored[i + 1..] {
            let both_guess = a.above == Above::AtFloor && b.above == Above::AtFloor;
            if overlap(a, b) == Some(true) && !both_guess {
                pairs.push(format!("{} and {}", a.mixer, b.mixer));
            }
        }
    }
    let all = scored.len() * scored.len().saturating_sub(1) / 2;
    match pairs.len() {
        0 => None,
        few if few <= MOST_PAIRS => {
            Some(format!("Not told apart on {task} (their intervals overlap): {}.", pairs.join("; ")))
        }
        many => Some(format!("Of {all} pairs on {task}, {many} are not told apart: their intervals overlap.")),
    }
}

fn unscored(task: &str, rows: &[&Row]) -> Option<String> {
    let names = rows.iter().filter(|row| row.test.is_none());
    let names: Vec<String> = names.map(|row| format!("{} ({})", row.mixer, row.counts.remarks())).collect();
    (!names.is_empty()).then(|| format!("Without any score on {task}: {}.", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use crate::samples;
    use crate::table::Table;

    fn findings(scores: &[(&str, &[f64])]) -> Vec<String> {
        let mixers: Vec<&str> = scores.iter().map(|(mixer, _)| *mixer).collect();
        let manifest = samples::manifest(&mixers, &["mqar"], scores[0].1.len() as u64);
        let seeds = |(mixer, scores): &(&str, &[f64])| -> Vec<_> {
            (1..).zip(scores.iter()).map(|(seed, s)| samples::record(&format!("{mixer}.mqar.{seed}"), *s)).collect()
        };
        let records: Vec<_> = scores.iter().flat_map(seeds).collect();
        Table::build(&manifest, &records).expect("builds").findings
    }

    #[test]
    fn disjoint_intervals_are_a_finding() {
        let said = findings(&[("s4", &[0.25, 0.26, 0.27]), ("attention", &[0.99, 0.98, 1.0])]);
        assert_eq!(
            said,
            [
                "attention 0.990 [0.965, 1.000] is above s4 0.260 [0.235, 0.285] on mqar: their intervals do not overlap, n = 3 each."
            ]
        );
    }

    #[test]
    fn overlapping_intervals_and_guessers_are_named() {
        let said =
            findings(&[("a", &[0.5, 0.6, 0.7]), ("b", &[0.55, 0.6, 0.62]), ("c", &[0.12, 0.13, 0.125])]).join("\n");
        assert!(said.contains("but its interval overlaps that of"), "{said}");
        assert!(
            said.contains("At the floor of mqar (0.125, what the best constant answer or a guesser scores): c."),
            "{said}"
        );
        assert!(said.contains("Not told apart on mqar (their intervals overlap): a and b."), "{said}");
    }

    #[test]
    fn many_pairs_that_are_alike_are_counted() {
        let names = ["a", "b", "c", "d", "e"];
        let said = findings(&names.map(|name| (name, [0.5, 0.6, 0.7].as_slice()))).join("\n");
        assert!(said.contains("(their intervals overlap): a and b; a and c;"), "10 pairs are named: {said}");
        let names = ["a", "b", "c", "d", "e", "f"];
        let said = findings(&names.map(|name| (name, [0.5, 0.6, 0.7].as_slice()))).join("\n");
        assert!(said.contains("Of 15 pairs on mqar, 15 are not told apart: their intervals overlap."), "{said}");
    }

    #[test]
    fn nothing_is_above_anything_where_all_guess() {
        let said = findings(&[("a", &[0.125, 0.125]), ("b", &[0.12, 0.12])]).join("\n");
        assert_eq!(
            said,
            "No mixer left the floor of mqar (0.125, what the best constant answer or a guesser scores): the order of their scores says nothing."
        );
    }

    #[test]
    fn equal_means_are_shared() {
        let said = findings(&[("a", &[0.5]), ("b", &[0.5])]).join("\n");
        assert!(
            said.contains("a 0.500 (n = 1) and b 0.500 (n = 1) share the highest mean on mqar, n = 1 each."),
            "{said}"
        );
    }

    #[test]
    fn a_wide_runner_up_does_not_hide_what_lies_clearly_below() {
        let said =
            findings(&[("a", &[0.9, 0.91, 0.92]), ("b", &[0.2, 0.9, 0.95]), ("c", &[0.3, 0.31, 0.32])]).join("\n");
        assert!(said.contains("a is above c 0.310 [0.285, 0.335] on mqar: their intervals do not overlap."), "{said}");
    }

    #[test]
    fn one_seed_decides_nothing() {
        let said = findings(&[("a", &[0.5]), ("b", &[0.9])]).join("\n");
        assert!(said.contains("without intervals on both this decides nothing"), "{said}");
    }

    #[test]
    fn seeds_that_disagree_are_counted_with_a_wilson_interval() {
        let said = findings(&[("a", &[0.99, 0.98, 0.13])]).join("\n");
        assert!(
            said.contains("2 of 3 pass the middle between floor and ceiling (95 % Wilson interval 0.21 to 0.94)"),
            "{said}"
        );
    }
}
