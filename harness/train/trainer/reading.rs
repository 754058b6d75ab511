//! How likely a language model finds text: pseudo-perplexity and minimal pairs.
//!
//! ```text
//! log p(text)   masked models   Σ_i log p(w_i | the other tokens): each token hidden alone, one forward pass each
//!               causal models   Σ_i log p(w_i | w_1 … w_{i-1})
//! PPPL          exp(−(1/N) Σ_i log p(w_i | the other tokens)) over the N tokens of all texts
//! ```
//! Paper    Salazar et al. 2020, "Masked Language Model Scoring", arXiv:1910.14659, §2

use super::{Ended, Trainer};
use crate::model::Inputs;
use crate::train::error::TrainError;
use results::Detail;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use tasks::{Split, Targets, Tokenizer, language::minimal_pairs};
use tch::{Kind, Tensor, no_grad};

/// A sequence as a model reads it, and which tokens it is asked for.
struct Question {
    tokens: Vec<i64>,
    /// Position and token.
    asked: Vec<(usize, i64)>,
}

impl Trainer {
    /// The tokenizer of the task.
    fn tokenizer(&self) -> Result<&Tokenizer, TrainError> {
        self.task.text().map(|text| text.tokenizer()).ok_or_else(|| TrainError::Spec("the task reads no text".into()))
    }

    /// What is asked about a sequence without hidden tokens. Tokens that frame it are not asked for, unknown ones only `with_unknown`.
    fn questions<'a>(
        &self,
        sequence: &'a [i64],
        tokenizer: &Tokenizer,
        with_unknown: bool,
    ) -> Box<dyn Iterator<Item = Question> + 'a> {
        let specials = tokenizer.specials();
        let frames = [specials.cls, specials.sep, specials.pad, specials.mask].map(i64::from);
        let unknown = i64::from(specials.unknown);
        let special = move |token: i64| frames.contains(&token) || (token == unknown && !with_unknown);
        if self.task_spec.causal {
            let asked = sequence.iter().enumerate().skip(1).filter(|(_, token)| !special(**token));
            let asked = asked.map(|(at, token)| (at - 1, *token)).collect();
            let question = Question { tokens: sequence[..sequence.len() - 1].to_vec(), asked };
            return Box::new(std::iter::once(question));
        }
        let hide = move |at: usize| {
            let mut tokens = sequence.to_vec();
            tokens[at] = i64::from(specials.mask);
            Question { tokens, asked: vec![(at, sequence[at])] }
        };
        Box::new((0..sequence.len()).filter(move |at| !special(sequence[*at])).map(hide))
    }

    /// Log-probability of everything that is asked for, in order, nats.
    fn answers(&self, questions: &[Question]) -> Vec<f64> {
        let length = questions.iter().map(|q| q.tokens.len()).max().unwrap_or(0);
        let (mut tokens, mut positions, mut classes) = (Vec::new(), Vec::new(), Vec::new());
        for (row, question) in questions.iter().enumerate() {
            tokens.extend_from_slice(&question.tokens);
            tokens.resize((row + 1) * length, self.task_spec.pad_token);
            positions.extend(question.asked.iter().map(|(at, _)| (row * length + at) as i64));
            classes.extend(question.asked.iter().map(|(_, token)| *token));
        }
        if classes.is_empty() {
            return Vec::new();
        }
        let device = self.vs.device();
        let lengths: Vec<i64> = questions.iter().map(|q| q.tokens.len() as i64).collect();
        let padded = lengths.iter().any(|&own| own != length as i64);
        let inputs = Inputs {
            tokens: Tensor::from_slice(&tokens).view([questions.len() as i64, length as i64]).to_device(device),
            types: None,
            lengths: padded.then(|| Tensor::from_slice(&lengths).to_device(device)),
            positions: Some(Tensor::from_slice(&positions).to_device(device)),
        };
        let classes = Tensor::from_slice(&classes).to_device(device).unsqueeze(1);
        let log_p =
            no_grad(|| self.model.forward(&inputs, false).log_softmax(-1, Kind::Float).gather(1, &classes, false));
        Vec::try_from(log_p.squeeze_dim(1).to_kind(Kind::Double).to_device(tch::Device::Cpu)).unwrap_or_default()
    }

    /// Log-probability of each sequence, and tokens asked for; empty when stopped.
    fn likelihoods(
        &self,
        sequences: &[Vec<i64>],
        with_unknown: bool,
        stop: &AtomicBool,
    ) -> Result<Vec<(f64, usize)>, TrainError> {
        let rows = self.spec.budget.eval_batch_size.unwrap_or(self.spec.budget.batch_size) as usize;
        let tokenizer = self.tokenizer()?;
        let mut found = vec![(0.0, 0); sequences.len()];
        // A question holds a copy of its sequence: only as many are made as are answered together.
        let mut waiting = sequences.iter().enumerate().flat_map(|(i, sequence)| {
            self.questions(sequence, tokenizer, with_unknown).map(move |question| (i, question))
        });
        loop {
            let (owners, questions): (Vec<usize>, Vec<Question>) = waiting.by_ref().take(rows).unzip();
            if questions.is_empty() {
                return Ok(found);
            }
            if stop.load(Ordering::Relaxed) {
                return Ok(Vec::new());
            }
            let answers = self.answers(&questions);
            let asked = owners.iter().zip(&questions).flat_map(|(owner, q)| q.asked.iter().map(move |_| *owner));
            for (owner, answer) in asked.zip(answers) {
                found[owner].0 += answer;
                found[owner].1 += 1;
            }
        }
    }

    /// Pseudo-perplexity over test sequences, spread evenly. As in training nobody is asked for an unknown token.
    pub(super) fn pseudo_perplexity(
        &self,
        sequences: u64,
        ended: &mut Ended,
        stop: &AtomicBool,
    ) -> Result<(), TrainError> {
        let mut texts = Vec::new();
        let all = self.task.len(Split::Test);
        let asked = all.min(sequences);
        for index in (0..asked).map(|own| tasks::spread(own, asked, all)) {
            let mut example = self.task.example(Split::Test, index)?;
            if let Targets::PerPosition { positions, classes } = &example.targets {
                // What the example hides is put back.
                positions.iter().zip(classes).for_each(|(at, class)| example.tokens[*at as usize] = *class);
            }
            texts.push(example.tokens);
        }
        let found = self.likelihoods(&texts, false, stop)?;
        let (sum, tokens) = found.iter().fold((0.0, 0), |(sum, n), (own, tokens)| (sum + own, n + tokens));
        if tokens > 0 {
            ended.measures.insert("pseudo_perplexity".into(), (-sum / tokens as f64).exp());
        }
        Ok(())
    }

    /// The share of minimal pairs whose good sentence is likelier, in all and by phenomenon.
    pub(super) fn minimal_pairs(&self, path: &Path, ended: &mut Ended, stop: &AtomicBool) -> Result<(), TrainError> {
        let tokenizer = self.tokenizer()?;
        let specials = tokenizer.specials();
        let sequence = |text: &str| {
            let mut tokens = vec![i64::from(specials.cls)];
            tokens.extend(tokenizer.encode(text).into_iter().map(i64::from));
            if !self.task_spec.causal {
                tokens.push(i64::from(specials.sep));
            }
            tokens
        };
        let longest = self.task_spec.max_length as usize + usize::from(self.task_spec.causal);
        let (mut names, mut sequences, mut skipped) = (Vec::new(), Vec::new(), 0);
        if self
            .spec
            .minimal_pairs
            .as_ref()
            .is_some_and(|hash| crate::base::hashes::pairs_hash(path).ok().as_ref() != Some(hash))
        {
            let why = "these are not the minimal pairs this run was planned with; run the sweep again";
            return Err(TrainError::Spec(format!("{}: {why}", path.display())));
        }
        for pair in minimal_pairs::read(path)? {
            let both = [sequence(&pair.good), sequence(&pair.bad)];
            if both.iter().any(|tokens| tokens.len() > longest) {
                skipped += 1;
                continue;
            }
            names.push(pair.phenomenon);
            sequences.extend(both);
        }
        // An unknown word is asked for, or the sentence with more of them would be the likelier one.
        let found = self.likelihoods(&sequences, true, stop)?;
        let mut tallies: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
        for ((name, pair), cut) in names.iter().zip(found.chunks(2)).zip(sequences.chunks(2)) {
            let tally = tallies.entry(name).or_default();
            // Sentences that are cut alike are as likely as each other, whatever rounding says of two places in a batch.
            let undecided = cut[0] == cut[1] || pair[0].0 == pair[1].0;
            tally.0 += if undecided { 0.5 } else { f64::from(u8::from(pair[0].0 > pair[1].0)) };
            tally.1 += 1.0;
        }
        let (right, all) = tallies.values().fold((0.0, 0.0), |sum, own| (sum.0 + own.0, sum.1 + own.1));
        if all > 0.0 {
            ended.measures.insert("minimal_pairs".into(), right / all);
        }
        if skipped > 0 {
            ended.measures.insert("minimal_pairs_too_long".into(), f64::from(skipped));
        }
        for (number, (name, (right, all))) in tallies.into_iter().enumerate() {
            ended
                .details
                .push(Detail::new("minimal_pairs", name, "phenomenon", (number + 1) as f64, right / all).of_category());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::laws::samples::trainer;

    #[test]
    fn pseudo_perplexity_asks_for_no_unknown_token_and_minimal_pairs_do() {
        let folder = tempfile::tempdir().unwrap();
        let stories: String = (0..400).map(|n| format!("story {n} of a cat.\n\n")).collect();
        std::fs::write(folder.path().join("mine.txt"), stories).unwrap();
        let config = "tasks: [mlm: { corpus: { path: mine.txt }, tokenizer: { characters: { vocab_size: 12 } }, seq_len: 16 }]\n\
                      mixers: [attention: { n_heads: 2 }]\nmodel: { d_model: 8, n_layers: 1 }\nbudget: { steps: 1 }\n";
        let trainer = trainer(config, folder.path());
        let tokenizer = trainer.tokenizer().unwrap();
        let of = tokenizer.specials();
        let sequence = [of.cls, of.unknown, 7, of.unknown, 8, of.sep].map(i64::from);
        let asked = |with_unknown: bool| -> Vec<(usize, i64)> {
            trainer.questions(&sequence, tokenizer, with_unknown).flat_map(|question| question.asked).collect()
        };
        assert_eq!(asked(false), [(2, 7), (4, 8)]);
        assert_eq!(asked(true).len(), 4);
    }
}
