//! What language models' tasks share: the corpus behind them, what counting words alone reaches, and facets of a token.

use crate::core::family::Outline;
use crate::language::corpus::{Corpus, CorpusConfig, Shape};
use crate::language::tokenizer::TokenizerConfig;
use crate::{
    Baseline, Batch, Bound, ConfigError, DataDir, DataError, Facet, Input, Output, Split, Targets, Task, TaskSpec,
    Tokenizer,
};
use std::sync::{Arc, OnceLock};

/// `eval_sequences` where the settings say nothing: enough for three digits of a loss, and a look at a large corpus still ends.
pub(crate) const EVAL_SEQUENCES: u64 = 4096;

/// Longest sequence.
pub(crate) const LONGEST: u32 = 1 << 20;

/// The corpus of these settings; its tokenizer is trained on its training documents where it is trained.
pub(crate) fn open(
    data: &DataDir,
    corpus: &CorpusConfig,
    tokenizer: &TokenizerConfig,
    shape: Shape,
    usable: impl Fn(&Tokenizer) -> Result<(), DataError>,
) -> Result<Corpus, DataError> {
    let stamp = corpus.stamp(data)?;
    let tokenizer = Tokenizer::obtain(data, tokenizer, &stamp, &mut || corpus.documents(data, Split::Train))?;
    usable(&tokenizer)?;
    Corpus::open(data, corpus, Arc::new(tokenizer), shape)
}

/// A mistake in the settings of a corpus, as the task's own.
pub(crate) fn of_corpus(error: ConfigError) -> ConfigError {
    ConfigError { key: "corpus", problem: error.problem.replacen('`', "`corpus.", 1), help: error.help }
}

/// What is wrong with the settings that these tasks share.
pub(crate) fn check(
    corpus: &CorpusConfig,
    tokenizer: &TokenizerConfig,
    seq_len: u32,
    shortest: u32,
    eval_sequences: Option<u64>,
) -> Vec<ConfigError> {
    let mut errors: Vec<ConfigError> = corpus.check().into_iter().map(of_corpus).collect();
    errors.extend(tokenizer.check());
    if !(shortest..=LONGEST).contains(&seq_len) {
        let problem = format!("`seq_len` is {seq_len}, not between {shortest} and 2^20");
        errors.push(ConfigError { key: "seq_len", problem, help: "use a number such as 128".into() });
    }
    if eval_sequences == Some(0) {
        let problem = "`eval_sequences` is 0, so nothing is measured".into();
        errors.push(ConfigError { key: "eval_sequences", problem, help: "use 1 or more, or null for all".into() });
    }
    errors
}

/// What the settings alone say of the sequences.
pub(crate) fn outline(causal: bool, seq_len: u32, tokenizer: &TokenizerConfig) -> Outline {
    let vocab_size = tokenizer.vocab_size_hint();
    Outline {
        causal,
        max_length: i64::from(seq_len),
        needs_files: true,
        vocab_size,
        classes: vocab_size,
        documents: 1,
        input: Input::Tokens,
        output: Output::Tokens,
    }
}

/// A corpus with what counting its words alone reaches: what both tasks ask about.
#[derive(Debug)]
pub(crate) struct Language {
    pub(crate) corpus: Corpus,
    unigram: Unigram,
    reached: OnceLock<Reached>,
    eval_sequences: Option<u64>,
}

/// A quantity of a scored position of a batch, and of the token asked for there.
pub(crate) type Quantity<'a> = (&'static str, &'a dyn Fn(usize, i64) -> f64);

impl Language {
    /// `counts`: how often train asks for each token; `eval_sequences`: most of validation, and of test.
    pub(crate) fn new(corpus: Corpus, counts: Vec<u64>, eval_sequences: Option<u64>) -> Self {
        Self { corpus, unigram: Unigram::new(counts), reached: OnceLock::new(), eval_sequences }
    }

    /// What the settings say, with the tokens that there are.
    pub(crate) fn spec(&self, outline: Outline) -> TaskSpec {
        let tokenizer = self.corpus.tokenizer();
        let vocab_size = tokenizer.vocab_size() as i64;
        let pad_token = i64::from(tokenizer.specials().pad);
        TaskSpec { vocab_size, classes: vocab_size, pad_token, ..outline.spec() }
    }

    pub(crate) fn len(&self, split: Split) -> u64 {
        let all = self.corpus.len(split);
        match split {
            Split::Train => all,
            _ => self.eval_sequences.map_or(all, |most| most.min(all)),
        }
    }

    /// The sequence of the corpus that example `index` is.
    pub(crate) fn place(&self, split: Split, index: u64) -> u64 {
        spread(index, self.len(split), self.corpus.len(split))
    }

    /// `frequency` and `position` of the scored positions, and quantities of a task's own.
    pub(crate) fn facets(&self, batch: &Batch, seq_len: u32, own: &[Quantity]) -> Vec<Facet> {
        let Targets::PerPosition { positions, classes } = &batch.targets else { return Vec::new() };
        let shared: [Quantity; 2] = [
            ("frequency", &|_, class| decade(self.unigram.count(class))),
            ("position", &|at, _| sixteenth(at % batch.length, seq_len)),
        ];
        let facet = |&(axis, of): &Quantity| {
            let at = positions.iter().zip(classes).map(|(&at, &class)| of(at as usize, class)).collect();
            Facet { axis, at }
        };
        shared.iter().chain(own).map(facet).collect()
    }

    /// What a unigram reaches on what `task` asks for on the test split.
    fn reached(&self, task: &impl Task) -> Result<Reached, DataError> {
        if let Some(reached) = self.reached.get() {
            return Ok(*reached);
        }
        let example = |index| task.example(Split::Test, index).map(|example| example.targets.classes().to_vec());
        let reached = self.unigram.reached((0..self.len(Split::Test)).map(example))?;
        Ok(*self.reached.get_or_init(|| reached))
    }

    pub(crate) fn baselines(&self, task: &impl Task) -> Result<Vec<Baseline>, DataError> {
        Ok(self.reached(task)?.baselines())
    }

    /// The most frequent token of `whereabouts`.
    pub(crate) fn floor(&self, task: &impl Task, whereabouts: &str) -> Result<Bound, DataError> {
        Ok(self.unigram.floor(self.reached(task)?, self.corpus.tokenizer(), whereabouts))
    }
}

/// The sequence of the corpus that example `index` of `asked` is, of `all`: they are spread evenly.
pub fn spread(index: u64, asked: u64, all: u64) -> u64 {
    (u128::from(index) * u128::from(all) / u128::from(asked)) as u64
}

/// Says each token by how often it stands in train, with one added to every count (Laplace).
#[derive(Debug)]
struct Unigram {
    counts: Vec<u64>,
    total: u64,
    favourite: usize,
}

/// What it reaches.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reached {
    loss: f64,
    accuracy: f64,
    /// The token that is asked for most often, and how often.
    commonest: (usize, f64),
}

impl Unigram {
    fn new(counts: Vec<u64>) -> Self {
        let total = counts.iter().sum::<u64>() + counts.len() as u64;
        let favourite = (0..counts.len()).rev().max_by_key(|&token| counts[token]).unwrap_or(0);
        Self { counts, total, favourite }
    }

    /// How often a token stands in train.
    fn count(&self, token: i64) -> u64 {
        usize::try_from(token).ok().and_then(|token| self.counts.get(token)).copied().unwrap_or(0)
    }

    /// On tokens that were asked for, example by example.
    fn reached(&self, asked: impl Iterator<Item = Result<Vec<i64>, DataError>>) -> Result<Reached, DataError> {
        // Sums of counts, so that no order of additions moves the result.
        let mut seen = vec![0_u64; self.counts.len()];
        for classes in asked {
            classes?.into_iter().for_each(|token| seen[token as usize] += 1);
        }
        let all = seen.iter().sum::<u64>().max(1) as f64;
        let cost = |token: usize| libm::log(self.total as f64) - libm::log((self.counts[token] + 1) as f64);
        let loss =
            (0..seen.len()).filter(|&token| seen[token] > 0).map(|token| seen[token] as f64 * cost(token)).sum::<f64>();
        let commonest = (0..seen.len()).rev().max_by_key(|&token| seen[token]).unwrap_or(0);
        let share = |token: usize| seen[token] as f64 / all;
        Ok(Reached { loss: loss / all, accuracy: share(self.favourite), commonest: (commonest, share(commonest)) })
    }

    fn floor(&self, reached: Reached, tokenizer: &Tokenizer, whereabouts: &str) -> Bound {
        let (token, score) = reached.commonest;
        let name = tokenizer.name(token as u32);
        Bound { score, how: format!("always {name:?}, the most frequent token of {whereabouts}") }
    }
}

impl Reached {
    fn baselines(self) -> Vec<Baseline> {
        let baseline = |measure, value| Baseline { name: "unigram", measure, at: None, value };
        vec![
            baseline("loss", self.loss),
            baseline("accuracy", self.accuracy),
            baseline("perplexity", libm::exp(self.loss)),
        ]
    }
}

/// A count by its power of ten: 0, 1, 10, 100, …
fn decade(count: u64) -> f64 {
    count.checked_ilog10().map_or(0.0, |power| 10_u64.pow(power) as f64)
}

/// A distance by its power of two: 1, 2, 4, …; NaN where there is none.
pub(crate) fn octave(distance: Option<usize>) -> f64 {
    distance.filter(|&distance| distance > 0).map_or(f64::NAN, |distance| (1_u64 << distance.ilog2()) as f64)
}

/// A position by the sixteenth of a sequence it lies in: where that begins.
fn sixteenth(position: usize, seq_len: u32) -> f64 {
    let width = (seq_len as usize / 16).max(1);
    (position / width * width) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unigram_is_scored_by_hand() {
        // Counts 3, 0, 1 and one more each: p = 4/7, 1/7, 2/7.
        let unigram = Unigram::new(vec![3, 0, 1]);
        let reached = unigram.reached([Ok(vec![0, 1]), Ok(vec![0, 2])].into_iter()).unwrap();
        let by_hand = -(2.0 * (4.0_f64 / 7.0).ln() + (1.0_f64 / 7.0).ln() + (2.0_f64 / 7.0).ln()) / 4.0;
        assert!((reached.loss - by_hand).abs() < 1e-12, "{reached:?} {by_hand}");
        assert_eq!(reached.accuracy, 0.5);
        let baselines = reached.baselines();
        assert!((baselines[2].value - by_hand.exp()).abs() < 1e-12);
        assert_eq!([unigram.count(0), unigram.count(2), unigram.count(9)], [3, 1, 0]);
    }

    #[test]
    fn bins_begin_where_they_are_said_to() {
        assert_eq!([0, 1, 9, 10, 99, 12_345].map(decade), [0.0, 1.0, 1.0, 10.0, 10.0, 10_000.0]);
        assert_eq!([1, 2, 3, 4, 127].map(|d| octave(Some(d))), [1.0, 2.0, 2.0, 4.0, 64.0]);
        assert!(octave(None).is_nan());
        assert_eq!([0, 7, 8, 127].map(|p| sixteenth(p, 128)), [0.0, 0.0, 8.0, 120.0]);
        assert_eq!([0, 3].map(|p| sixteenth(p, 4)), [0.0, 3.0]);
    }

    #[test]
    fn a_few_sequences_are_spread_over_all() {
        assert_eq!((0..4).map(|i| spread(i, 4, 4)).collect::<Vec<_>>(), [0, 1, 2, 3]);
        assert_eq!((0..4).map(|i| spread(i, 4, 11)).collect::<Vec<_>>(), [0, 2, 5, 8]);
        assert_eq!(spread(1, 2, 1 << 62), 1 << 61);
    }
}
