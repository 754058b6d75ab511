//! Finite automata in which every state accepts: how they are drawn, and the smallest one of a language.

use crate::core::rng::Stream;

/// A deterministic automaton: state 0 starts, every state accepts, and an edge that is not there leads nowhere.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Automaton(
    /// The edges of each state as (symbol, target), symbols rising.
    pub Vec<Vec<(i64, usize)>>,
);

/// What was drawn for an automaton before it was made as small as it can be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sizes {
    /// States.
    pub states: u32,
    /// Letters.
    pub alphabet: u32,
    /// Edges of each state.
    pub edges: Vec<u32>,
}

/// What is drawn from: smallest and largest.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ranges {
    /// Letters there are.
    pub letters: u32,
    /// States of an automaton.
    pub states: (u32, u32),
    /// Letters of an automaton.
    pub alphabet: (u32, u32),
    /// Edges of a state.
    pub edges: (u32, u32),
}

/// Uniform in `range.0 ..= range.1`.
pub fn between(range: (u32, u32), stream: &mut Stream) -> u32 {
    range.0 + stream.below(u64::from(range.1 - range.0) + 1) as u32
}

impl Ranges {
    /// A random automaton as it is drawn: different symbols and different targets for each state's edges, no edge from a state
    /// to itself.
    pub fn draw(&self, stream: &mut Stream) -> (Automaton, Sizes) {
        let (states, alphabet) = (between(self.states, stream), between(self.alphabet, stream));
        let letters = stream.distinct(alphabet as usize, self.letters as usize);
        let mut sizes = Sizes { states, alphabet, edges: Vec::new() };
        let mut state = |from: usize| {
            let edges = between(self.edges, stream) as usize;
            sizes.edges.push(edges as u32);
            let symbols = stream.distinct(edges, letters.len());
            let targets = stream.distinct(edges, states as usize - 1);
            // Targets skip the state itself.
            let target = |to: i64| to as usize + usize::from(to as usize >= from);
            let mut out: Vec<(i64, usize)> =
                symbols.iter().zip(&targets).map(|(&symbol, &to)| (letters[symbol as usize], target(to))).collect();
            out.sort_unstable();
            out
        };
        let automaton = Automaton((0..states as usize).map(&mut state).collect());
        (automaton, sizes)
    }

    /// An upper bound on the number of languages: with n states and A letters each state has one of Σ C(A, e) (n − 1)! /
    /// (n − 1 − e)! sets of edges, and the (n − 1)! ways to number the states behind the first are one language.
    pub fn languages_at_most(&self) -> f64 {
        let falling = |n: u32, k: u32| (0..k).map(|i| f64::from(n.saturating_sub(i))).product::<f64>();
        let of_states = |n: u32| {
            let sets = |e: u32| falling(self.letters, e) / falling(e, e) * falling(n - 1, e);
            let ways: f64 = (self.edges.0..=self.edges.1).map(sets).sum();
            (1..=n).map(|k| ways / f64::from(k.saturating_sub(1).max(1))).product::<f64>()
        };
        (self.states.0..=self.states.1).map(of_states).sum()
    }
}

impl Automaton {
    /// The smallest automaton of the same language, its states numbered in the order in which a walk in breadth from the start
    /// meets them, rising symbols first: two automata have the same language if and only if these are equal.
    pub fn minimal(&self) -> Self {
        // Moore 1956: states are told apart by what they allow, then by what those they lead to allow, and so on.
        let mut class: Vec<usize> = vec![0; self.0.len()];
        let mut classes = 1;
        loop {
            let mut seen: Vec<(usize, Vec<(i64, usize)>)> = Vec::new();
            let mut refine = |state: usize| {
                let edges = self.0[state].iter().map(|&(symbol, to)| (symbol, class[to])).collect();
                let behaviour = (class[state], edges);
                seen.iter().position(|known| *known == behaviour).unwrap_or_else(|| {
                    seen.push(behaviour);
                    seen.len() - 1
                })
            };
            let refined: Vec<usize> = (0..self.0.len()).map(&mut refine).collect();
            let now = seen.len();
            class = refined;
            if now == classes {
                break;
            }
            classes = now;
        }
        let mut number: Vec<Option<usize>> = vec![None; classes];
        number[class[0]] = Some(0);
        let mut met = vec![0]; // a state of each class, in order
        let mut states = Vec::new();
        while let Some(&state) = met.get(states.len()) {
            let mut edges = Vec::new();
            for &(symbol, to) in &self.0[state] {
                let target = *number[class[to]].get_or_insert_with(|| {
                    met.push(to);
                    met.len() - 1
                });
                edges.push((symbol, target));
            }
            states.push(edges);
        }
        Self(states)
    }

    /// The automaton as numbers, for its hash.
    pub fn numbers(&self) -> Vec<i64> {
        let state = |edges: &Vec<(i64, usize)>| {
            let out: Vec<i64> = edges.iter().flat_map(|&(symbol, to)| [symbol, to as i64]).collect();
            std::iter::once(edges.len() as i64).chain(out)
        };
        self.0.iter().flat_map(state).collect()
    }

    /// Appends a random word: at each state one of its symbols, each as likely.
    pub fn word(&self, length: u32, stream: &mut Stream, into: &mut Vec<i64>) {
        let mut state = 0;
        for _ in 0..length {
            let (symbol, to) = self.0[state][stream.below(self.0[state].len() as u64) as usize];
            into.push(symbol);
            state = to;
        }
    }

    /// Where a symbol leads.
    pub fn next(&self, state: usize, symbol: i64) -> Option<usize> {
        self.0[state].iter().find(|edge| edge.0 == symbol).map(|edge| edge.1)
    }

    /// The symbols a state allows, rising.
    pub fn symbols(&self, state: usize) -> Vec<i64> {
        self.0[state].iter().map(|edge| edge.0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::rng::Purpose;
    use std::collections::{BTreeSet, HashMap};

    const RANGES: Ranges = Ranges { letters: 3, states: (2, 4), alphabet: (2, 3), edges: (1, 2) };

    fn drawn(index: u64, ranges: Ranges) -> (Automaton, Sizes) {
        let fits = Ranges { edges: (ranges.edges.0, ranges.edges.1.min(ranges.states.0 - 1)), ..ranges };
        fits.draw(&mut Stream::new(3, Purpose::GUESS, index))
    }

    /// Every word of up to 7 letters.
    fn language(automaton: &Automaton) -> BTreeSet<Vec<i64>> {
        let mut words: Vec<(Vec<i64>, usize)> = vec![(Vec::new(), 0)];
        let mut begin = 0;
        for _ in 0..7 {
            let end = words.len();
            for i in begin..end {
                for &(symbol, to) in &automaton.0[words[i].1] {
                    let longer = words[i].0.iter().copied().chain([symbol]).collect();
                    words.push((longer, to));
                }
            }
            begin = end;
        }
        words.into_iter().map(|(word, _)| word).collect()
    }

    #[test]
    fn edges_are_as_specified() {
        let ranges = Ranges { letters: 18, states: (4, 12), alphabet: (4, 18), edges: (1, 3) };
        for index in 0..500 {
            let (automaton, sizes) = drawn(index, ranges);
            assert_eq!(automaton.0.len(), sizes.states as usize);
            let used: BTreeSet<i64> = automaton.0.iter().flatten().map(|edge| edge.0).collect();
            assert!(used.len() <= sizes.alphabet as usize && used.iter().all(|symbol| (0..18).contains(symbol)));
            for (from, edges) in automaton.0.iter().enumerate() {
                assert_eq!(edges.len(), sizes.edges[from] as usize);
                assert!((1..=3).contains(&edges.len()) && edges.is_sorted_by(|a, b| a.0 < b.0));
                let targets: BTreeSet<usize> = edges.iter().map(|edge| edge.1).collect();
                assert!(targets.len() == edges.len() && !targets.contains(&from));
                assert!(targets.iter().all(|&to| to < automaton.0.len()));
            }
        }
    }

    #[test]
    fn two_automata_have_one_language_if_and_only_if_their_smallest_ones_are_equal() {
        // Two automata of at most 4 states that differ do so within 7 letters: 4 + 4 - 1 suffice (Moore 1956).
        let mut smallest: HashMap<BTreeSet<Vec<i64>>, Automaton> = HashMap::new();
        let mut merged = 0;
        for index in 0..3_000 {
            let (automaton, _) = drawn(index, Ranges { edges: (1, 1 + index as u32 % 2), states: (3, 4), ..RANGES });
            let minimal = automaton.minimal();
            assert_eq!(minimal.minimal(), minimal);
            let language = language(&automaton);
            let known = smallest.entry(language).or_insert_with(|| minimal.clone());
            assert_eq!(*known, minimal);
            merged += u32::from(minimal.0.len() < automaton.0.len());
        }
        let different: std::collections::HashSet<&Automaton> = smallest.values().collect();
        assert_eq!(different.len(), smallest.len());
        assert!(merged > 100 && smallest.len() > 100, "{merged} {}", smallest.len());
    }

    #[test]
    fn states_that_behave_alike_become_one_and_those_out_of_reach_go() {
        let alike = Automaton(vec![vec![(7, 1)], vec![(7, 0)], vec![(3, 0)]]);
        assert_eq!(alike.minimal(), Automaton(vec![vec![(7, 0)]]));
        let renamed = Automaton(vec![vec![(1, 2), (2, 1)], vec![(2, 0)], vec![(1, 0)]]);
        assert_eq!(renamed.minimal(), Automaton(vec![vec![(1, 1), (2, 2)], vec![(1, 0)], vec![(2, 0)]]));
        assert_eq!(renamed.minimal().numbers(), [2, 1, 1, 2, 2, 1, 1, 0, 1, 2, 0]);
    }

    #[test]
    fn there_are_no_more_languages_than_the_bound_says() {
        // Every automaton of 2 states with one edge each, over 3 letters: 3 loops of one letter and 6 alternations.
        let two = Ranges { letters: 3, states: (2, 2), alphabet: (2, 3), edges: (1, 1) };
        let found: std::collections::HashSet<Automaton> = (0..500).map(|i| drawn(i, two).0.minimal()).collect();
        assert_eq!((found.len(), two.languages_at_most()), (9, 9.0));
        let three = Ranges { states: (3, 3), edges: (1, 2), ..two };
        let found: std::collections::HashSet<Automaton> = (0..60_000).map(|i| drawn(i, three).0.minimal()).collect();
        // Σ = 3·2 + 3·2 = 12 sets of edges a state, 12³ / 2 = 864.
        assert_eq!(three.languages_at_most(), 864.0);
        assert!((600..=864).contains(&found.len()), "{}", found.len());
    }
}
