//! GLUE: nine tasks about English sentences and pairs of sentences, from the official files; fine-tuning's usual yardstick.
//!
//! ```text
//! one sentence    [CLS] a [SEP]                  CoLA  acceptable?  Matthews        SST-2  positive?  accuracy
//! two             [CLS] a [SEP] b [SEP]          MRPC, QQP  same meaning?  mean of F1 and accuracy
//! types            0    0   0   1   1            MNLI  entailment 0, neutral 1, contradiction 2;  QNLI, RTE  entailment 0,
//!                                                not 1;  WNLI: accuracy
//!                                                STS-B  0 to 5, how alike; mean of Pearson and Spearman
//! ```
//! Paper    Wang et al. 2019, arXiv:1804.07461; input and truncation as in BERT: Devlin et al. 2019, arXiv:1810.04805
//! Matches  `train.tsv` and `dev.tsv` as released, lines read raw: a quote is a character like any other
//! Departs  the test files have no labels: dev is both validation and test, as in the papers' tables, and every score is
//!          marked so. MNLI: test is dev_matched, then dev_mismatched (`mismatched` 0 and 1); validation is dev_matched
//!
//! Of a pair that is too long the longer text loses its last token, again and again until both fit; of equally long ones
//! the second.

mod files;

use crate::core::family::{Family, Outline, Variant};
use crate::core::limits::COUNT;
use crate::core::rng::{Permutation, Purpose};
use crate::data::fetch::SETS;
use crate::data::prepared::{Part, Prepared};
use crate::language::corpus::CorpusConfig;
use crate::language::tokenizer::{Texts, Tokenizer, TokenizerConfig};
use crate::{
    Bound, ConfigError, DataDir, DataError, Example, Input, Judge, Mark, Metric, Output, Section, Sections, Split,
    Targets, Task, TaskSpec, Text,
    core::{bounds, metrics},
    language::shared,
};
use files::Form;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

/// Which of the nine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Name {
    /// Corpus of Linguistic Acceptability (Warstadt et al. 2018): is a sentence English?
    Cola,
    /// Stanford Sentiment Treebank (Socher et al. 2013): is a film review's sentence positive?
    Sst2,
    /// Microsoft Research Paraphrase Corpus (Dolan and Brockett 2005).
    Mrpc,
    /// Semantic Textual Similarity Benchmark (Cer et al. 2017): how alike two sentences are, 0 to 5.
    Stsb,
    /// Quora Question Pairs: do two questions ask the same?
    Qqp,
    /// Multi-Genre Natural Language Inference (Williams et al. 2018): does the first sentence entail the second?
    Mnli,
    /// Questions of SQuAD (Rajpurkar et al. 2016): does a sentence hold the answer?
    Qnli,
    /// Recognizing Textual Entailment (Dagan et al. 2005 and after).
    Rte,
    /// Winograd schemas as entailment (Levesque et al. 2011); adversarial dev set, usually left out of averages.
    Wnli,
}

/// `task: { glue: { task: cola, tokenizer: { wordpiece: { vocab_size: 8192 } } } }`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Which of the nine.
    pub task: Name,
    /// Where the tasks' folders (`CoLA`, `SST-2`, …) lie: absolute, or below the data folder.
    pub folder: PathBuf,
    /// Longest input, special tokens included; the ends of longer texts are cut off. BERT and BiGS: 128; Hydra: 256.
    pub max_length: u32,
    /// What makes tokens of text; for a pretrained model the same as there.
    pub tokenizer: TokenizerConfig,
    /// The text that a trained tokenizer is trained on: for a pretrained model its corpus; null is the task's own training
    /// sentences.
    pub corpus: Option<CorpusConfig>,
    /// Training examples to use, chosen without regard to class; null is all. A larger limit holds the examples of a smaller.
    pub train_examples: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            task: Name::Cola,
            folder: "glue".into(),
            max_length: 128,
            tokenizer: TokenizerConfig::default(),
            corpus: None,
            train_examples: None,
        }
    }
}

/// The shortest cut that a paper uses.
const SHORTEST_PUBLISHED: u32 = 128;

/// Three special tokens and a token of each text.
const SHORTEST: u32 = 5;

impl Family for Config {
    const NAME: &'static str = "glue";
    const ABOUT: &'static str = "GLUE: CoLA, SST-2, MRPC, STS-B, QQP, MNLI, QNLI, RTE, WNLI from the official files";
    const PAPER: &'static str = "Wang et al. 2019, arXiv:1804.07461";
    const LIMITS: &'static [(&'static str, u32)] = &[("min_frequency", COUNT)];
    const SOURCES: &'static [&'static str] = &["/folder", "/corpus", "/tokenizer"];

    fn check(&self) -> Vec<ConfigError> {
        let mut errors = self.tokenizer.check();
        let mut wrong = |key, problem: String, help: &str| errors.push(ConfigError { key, problem, help: help.into() });
        if self.max_length < SHORTEST {
            let problem = format!(
                "`max_length` is {}, less than {SHORTEST}: three special tokens and one of each text",
                self.max_length
            );
            wrong("max_length", problem, "BERT uses 128, Hydra 256, BiGS 128 or 512");
        }
        if self.train_examples == Some(0) {
            wrong("train_examples", "`train_examples` is 0".into(), "use 1 or more, or null for all");
        }
        if self.corpus.is_some() && matches!(self.tokenizer, TokenizerConfig::Bytes | TokenizerConfig::File(_)) {
            let problem = "`corpus` does nothing here: this `tokenizer` is not trained".into();
            wrong("corpus", problem, "remove it, or train a tokenizer: `tokenizer: { wordpiece: {} }`");
        }
        errors.extend(self.corpus.iter().flat_map(CorpusConfig::check).map(shared::of_corpus));
        errors
    }

    fn outline(&self) -> Outline {
        let form = self.task.form();
        Outline {
            causal: false,
            max_length: i64::from(self.max_length),
            needs_files: true,
            vocab_size: self.tokenizer.vocab_size_hint(),
            classes: form.classes(),
            documents: 1,
            input: Input::Tokens,
            output: if form.labels.is_empty() { Output::Value } else { Output::PerSequence },
        }
    }

    fn open(&self, data: &DataDir) -> Result<Box<dyn Task>, DataError> {
        Ok(Box::new(Glue::open(self.clone(), data)?))
    }

    fn variants() -> Vec<Variant> {
        vec![
            Variant::new(json!({ "tokenizer": { "wordpiece": { "vocab_size": 80 } } })),
            Variant::new(json!({ "task": "sst2", "tokenizer": "bytes", "train_examples": 50 })),
            Variant::new(json!({ "task": "mrpc", "tokenizer": "bytes" })),
            // A constant has no correlation.
            Variant::new(json!({ "task": "stsb", "tokenizer": "bytes" })).floor(0.0, 0.0),
            Variant::new(json!({ "task": "qqp", "tokenizer": "bytes" })),
            Variant::new(json!({ "task": "mnli", "tokenizer": "bytes" })),
            Variant::new(json!({ "task": "qnli", "tokenizer": "bytes", "max_length": 512 })),
            Variant::new(json!({ "task": "rte", "tokenizer": "bytes" })),
            Variant::new(json!({ "task": "wnli", "tokenizer": "bytes" })),
        ]
    }

    fn published(&self) -> Option<&'static str> {
        Some(["CoLA", "SST2", "MRPC", "STS-B", "QQP", "MNLI", "QNLI", "RTE", "WNLI"][self.task as usize])
    }
}

impl Name {
    /// What its files look like.
    fn form(self) -> &'static Form {
        &files::FORMS[self as usize]
    }

    /// When an answer is right, and the score over all of them.
    fn judge(self) -> (Judge, Metric) {
        match self {
            Self::Cola => (Judge::Matthews, Metric::correlation("Matthews correlation")),
            Self::Mrpc | Self::Qqp => (Judge::F1Accuracy, Metric::f1_accuracy("mean of F1 and accuracy")),
            Self::Stsb => (Judge::Correlation, Metric::correlation("mean of Pearson and Spearman correlation")),
            Self::Sst2 | Self::Mnli | Self::Qnli | Self::Rte | Self::Wnli => (Judge::Class, Metric::accuracy()),
        }
    }
}

/// Where the files of a task may lie: a folder, or the archive it came in.
fn candidates(folder: &Path, form: &Form) -> Vec<String> {
    let places = |name: String| [folder.join(&name).to_string_lossy().into_owned(), name];
    ["", "*.zip", "*.tar.gz"].into_iter().flat_map(|end| places(format!("{}{end}", form.folder))).collect()
}

/// Where the files come from.
fn help(data: &DataDir, folder: &Path, form: &Form) -> String {
    let (name, place) = (form.folder, data.0.join(folder));
    let own = SETS.iter().filter(|set| set.name == "glue").flat_map(|set| set.files);
    let own = own.filter_map(|file| Some((file.url, file.target.strip_prefix("glue/")?)));
    let own = own.filter(|(_, target)| target.starts_with(name));
    let lines =
        own.map(|(url, target)| format!("\n  curl -fL --create-dirs -o {} {url}", place.join(target).display()));
    format!(
        "download {name}; a zip need not be unpacked:{}\nor put {} into {}, each of them .gz or not, or name in `folder` \
         where {name} lies",
        lines.collect::<String>(),
        form.files.join(", "),
        place.join(name).display()
    )
}

/// The tokens of a row's two texts; the second is empty where there is one.
type Pair = [Box<[u32]>; 2];

/// The opened task.
#[derive(Debug)]
pub struct Glue {
    cfg: Config,
    set: Arc<Prepared>,
    tokenizer: Tokenizer,
    train: Vec<u32>,               // rows of the first part
    cut: Vec<Vec<OnceLock<Pair>>>, // of each part's rows: cut once, when first asked for
    notes: Vec<String>,
}

impl Glue {
    fn open(cfg: Config, data: &DataDir) -> Result<Self, DataError> {
        let form = cfg.task.form();
        let places = candidates(&cfg.folder, form);
        let places: Vec<&str> = places.iter().map(String::as_str).collect();
        let root = data.find(&format!("GLUE's {}", form.folder), &places, &help(data, &cfg.folder, form))?;
        let set = Arc::new(files::prepare(&root, form, data)?);
        let mut notes = vec![format!("GLUE's {} is read from {}", form.folder, root.display())];
        notes.extend(set.meta.notes.iter().cloned());
        let there = set.parts[0].len() as u64;
        let wanted = cfg.train_examples.unwrap_or(u64::MAX);
        if cfg.train_examples.is_some() && wanted > there {
            notes.push(format!("train holds {there} examples, fewer than `train_examples` = {wanted}"));
        }
        let order = Permutation::new(there, 0, Purpose::SUBSET, 0);
        let train = (0..there).filter(|&row| order.at(row) < wanted).map(|row| row as u32).collect();
        let tokenizer = match &cfg.corpus {
            Some(corpus) => Tokenizer::obtain(data, &cfg.tokenizer, &corpus.stamp(data)?, &mut || {
                corpus.documents(data, Split::Train)
            })?,
            None => {
                let stamp = format!("glue {} {}", form.folder, set.meta.fingerprint);
                let scored = form.labels.is_empty();
                Tokenizer::obtain(data, &cfg.tokenizer, &stamp, &mut || Ok(sentences(set.clone(), scored)))?
            }
        };
        let cut = set.parts.iter().map(|part| (0..part.len()).map(|_| OnceLock::new()).collect()).collect();
        Ok(Self { cfg, set, tokenizer, train, cut, notes })
    }

    fn form(&self) -> &'static Form {
        self.cfg.task.form()
    }

    /// The part of the prepared set that holds an example, and its row in it.
    fn place(&self, split: Split, index: u64) -> (usize, usize) {
        let mut row = index as usize;
        if split == Split::Train {
            return (0, self.train[row] as usize);
        }
        let mut part = 1;
        while row >= self.set.parts[part].len() {
            row -= self.set.parts[part].len();
            part += 1;
        }
        (part, row)
    }

    /// Parts of the prepared set that a split for evaluation consists of.
    fn evaluated(&self, split: Split) -> &[Part] {
        let parts = &self.set.parts[1..];
        if split == Split::Validation { &parts[..1] } else { parts }
    }

    /// The tokens of both texts of a row, each at most as many as an input has.
    fn pair(&self, part: usize, row: usize) -> &Pair {
        self.cut[part][row].get_or_init(|| {
            let texts = files::texts(&self.set.parts[part], row, self.form().labels.is_empty());
            texts.map(|text| {
                let mut tokens = self.tokenizer.encode(&text);
                tokens.truncate(self.cfg.max_length as usize);
                tokens.into_boxed_slice()
            })
        })
    }

    /// What is asked of a row: its class, or thousandths of its score.
    fn label(&self, part: usize, row: usize) -> i64 {
        files::label(&self.set.parts[part], row, self.form().labels.is_empty())
    }

    fn labels(&self, split: Split) -> Vec<i64> {
        (0..self.len(split)).map(|index| self.place(split, index)).map(|(part, row)| self.label(part, row)).collect()
    }
}

/// The training sentences, for a tokenizer that is trained on them.
fn sentences(set: Arc<Prepared>, scored: bool) -> Texts {
    let rows = 0..set.parts[0].len();
    Box::new(rows.flat_map(move |row| {
        let texts = files::texts(&set.parts[0], row, scored);
        texts.into_iter().filter(|text| !text.is_empty()).map(|text| Ok(text.into_owned())).collect::<Vec<_>>()
    }))
}

/// How many tokens of two texts are kept where there is room for `room`: of the longer one the last goes, until both fit.
fn longest_first(lengths: [usize; 2], room: usize) -> [usize; 2] {
    let [mut first, mut second] = lengths;
    while first + second > room {
        if first > second { first -= 1 } else { second -= 1 }
    }
    [first, second]
}

impl Text for Glue {
    fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }
}

impl Task for Glue {
    fn spec(&self) -> TaskSpec {
        let (judge, metric) = self.cfg.task.judge();
        let reduced = self.cfg.max_length < SHORTEST_PUBLISHED;
        TaskSpec {
            vocab_size: self.tokenizer.vocab_size() as i64,
            pad_token: i64::from(self.tokenizer.specials().pad),
            judge,
            metric,
            version: 1,
            marks: Mark::those([(true, Mark::ValidationIsTest), (reduced, Mark::Reduced)]),
            ..self.cfg.outline().spec()
        }
    }

    fn len(&self, split: Split) -> u64 {
        match split {
            Split::Train => self.train.len() as u64,
            _ => self.evaluated(split).iter().map(|part| part.len() as u64).sum(),
        }
    }

    fn sections(&self, split: Split) -> Sections {
        let parts = match split {
            Split::Train => vec![self.len(split)],
            _ => self.evaluated(split).iter().map(|part| part.len() as u64).collect(),
        };
        let axis = if parts.len() > 1 { "mismatched" } else { "" };
        let at = |(i, examples)| Section { at: i as f64, examples };
        Sections { axis, parts: parts.into_iter().enumerate().map(at).collect() }
    }

    fn example(&self, split: Split, index: u64) -> Result<Example, DataError> {
        let (part, row) = self.place(split, index);
        let [first, second] = self.pair(part, row);
        let (specials, room) = (self.tokenizer.specials(), self.cfg.max_length as usize);
        let pair = self.form().texts.len() == 2;
        let [kept, kept_second] = longest_first([first.len(), second.len()], room - if pair { 3 } else { 2 });
        let mut tokens = vec![i64::from(specials.cls)];
        tokens.extend(first[..kept].iter().map(|&token| i64::from(token)));
        tokens.push(specials.sep.into());
        let segment = pair.then_some(tokens.len());
        if pair {
            tokens.extend(second[..kept_second].iter().map(|&token| i64::from(token)));
            tokens.push(specials.sep.into());
        }
        let targets = Targets::PerSequence(vec![self.label(part, row)]);
        Ok(Example { segment, ..Example::new(tokens, targets) })
    }

    fn text(&self) -> Option<&dyn Text> {
        Some(self)
    }

    fn floor(&self) -> Result<Bound, DataError> {
        let constant = |what: &str| Bound { score: 0.0, how: format!("a constant answer has no {what} correlation") };
        let test = self.labels(Split::Test);
        match self.cfg.task.judge().0 {
            Judge::Matthews => Ok(constant("Matthews")),
            Judge::Correlation => Ok(constant("Pearson or Spearman")),
            Judge::F1Accuracy => {
                let score = |class: i64| {
                    let answers = vec![class; test.len()];
                    (metrics::f1(&answers, &test) + metrics::accuracy(&answers, &test)) / 2.0
                };
                let best = if score(1) > score(0) { 1 } else { 0 };
                Ok(Bound { score: score(best), how: bounds::always(best) })
            }
            _ => Ok(bounds::constant(test.iter().map(|&class| class as u8))),
        }
    }

    fn ceiling(&self) -> Result<Bound, DataError> {
        Ok(Bound { score: 1.0, how: "by definition; no program understands sentences".into() })
    }

    fn fingerprint(&self) -> Option<String> {
        let both = [self.set.meta.fingerprint.as_str(), &self.tokenizer.fingerprint()].join(" ");
        Some(blake3::hash(both.as_bytes()).to_hex().to_string())
    }

    fn notes(&self) -> Vec<String> {
        self.notes.clone()
    }
}

#[cfg(test)]
pub(crate) mod tests;
