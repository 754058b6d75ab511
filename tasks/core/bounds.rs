//! What guessing and perfect solvers score: measured on the test split, never assumed.

use crate::core::rng::{Purpose, Stream};
use crate::{Bound, DataError, Example, Judge, Split, Task};
use std::collections::BTreeMap;

/// The best constant answer to one class a sequence, judged by accuracy: the commonest class of the split that is scored, the smallest
/// of equals. That of training may be another, and a model that drifts to it has learnt nothing of the inputs.
pub(crate) fn constant(test: impl Iterator<Item = u8>) -> Bound {
    let mut seen = [0_u64; 256];
    test.for_each(|class| seen[usize::from(class)] += 1);
    let favourite = (0..=u8::MAX).rev().max_by_key(|&class| seen[usize::from(class)]).unwrap_or(0);
    let score = share(seen[usize::from(favourite)] as f64, seen.iter().sum());
    Bound { score, how: always(favourite.into()) }
}

/// How a constant answer is described.
pub(crate) fn always(class: i64) -> String {
    format!("always class {class}, the best constant answer, measured on test")
}

/// What every constant answer scores, found in one walk over the examples of a split.
#[derive(Debug, Default)]
struct Constants(BTreeMap<i64, f64>);

impl Constants {
    fn add<T: Task + ?Sized>(&mut self, task: &T, index: u64, example: &Example) -> Result<(), DataError> {
        let classes = example.targets.classes();
        let whole = 1.0 / classes.len() as f64;
        let mut count = |class: i64, share: f64| *self.0.entry(class).or_default() += share;
        match (task.spec().judge, task.allowed(Split::Test, index)?) {
            (Judge::Allowed, Some(allowed)) => {
                allowed.iter().flatten().for_each(|&class| count(class, whole));
            }
            (Judge::Exact, _) => {
                if let Some(&first) = classes.first().filter(|first| classes.iter().all(|class| class == *first)) {
                    count(first, 1.0);
                }
            }
            _ => classes.iter().for_each(|&class| count(class, whole)),
        }
        Ok(())
    }

    /// The best of them, the smallest class of equals, over so many examples.
    fn best(&self, rows: u64) -> Option<Bound> {
        let (&class, &sum) = self.0.iter().rev().max_by(|a, b| a.1.total_cmp(b.1))?;
        // Adding up shares may round a little above 1.
        Some(Bound { score: share(sum, rows).min(1.0), how: always(class) })
    }
}

/// The best constant answer on the test split of a task whose every answer may be right everywhere.
pub fn best_constant<T: Task + ?Sized>(task: &T) -> Result<Bound, DataError> {
    let (rows, mut constants) = (task.len(Split::Test), Constants::default());
    for index in 0..rows {
        constants.add(task, index, &task.example(Split::Test, index)?)?;
    }
    Ok(constants.best(rows).unwrap_or(Bound { score: 0.0, how: always(0) }))
}

/// The task's own [`Task::solve`] on every test example; an example it cannot solve counts as wrong.
pub fn oracle<T: Task + ?Sized>(task: &T) -> Result<Bound, DataError> {
    let rows = task.len(Split::Test);
    let (mut score, mut unsolved) = (0.0, 0_u64);
    for index in 0..rows {
        let example = task.example(Split::Test, index)?;
        match task.solve(&example) {
            Some(answer) => score += judged(task, Split::Test, index, &answer, &example)?,
            None => unsolved += 1,
        }
    }
    let mut how = "an exact solver that reads only the inputs, measured on test".to_owned();
    if unsolved > 0 {
        how += &format!("; {unsolved} of {rows} examples are cut short, cannot be solved and count as wrong");
    }
    Ok(Bound { score: share(score, rows), how })
}

/// What guessing scores on the test split: `guess` answers example by example, from a stream of the guesser's own. Where some
/// constant answer scores more, it is that.
pub fn guesser<T: Task + ?Sized>(
    task: &T,
    data_seed: u64,
    how: impl Into<String>,
    guess: impl Fn(&Example, &mut Stream) -> Vec<i64>,
) -> Result<Bound, DataError> {
    let rows = task.len(Split::Test);
    let (mut score, mut constants) = (0.0, Constants::default());
    for index in 0..rows {
        let example = task.example(Split::Test, index)?;
        constants.add(task, index, &example)?;
        let answer = guess(&example, &mut Stream::new(data_seed, Purpose::GUESS, index));
        score += judged(task, Split::Test, index, &answer, &example)?;
    }
    let guessed = Bound { score: share(score, rows), how: format!("{}, measured on test", how.into()) };
    Ok(constants.best(rows).filter(|constant| constant.score > guessed.score).unwrap_or(guessed))
}

/// A uniform guess among `0 .. classes`, which the message calls `what`.
pub fn uniform<T: Task + ?Sized>(task: &T, data_seed: u64, classes: u64, what: &str) -> Result<Bound, DataError> {
    guesser(task, data_seed, format!("a uniform guess among {what}"), |example, stream| {
        (0..example.targets.classes().len()).map(|_| stream.below(classes) as i64).collect()
    })
}

/// Share of an example's answers that the task's judge takes for right.
pub(crate) fn judged<T: Task + ?Sized>(
    task: &T,
    split: Split,
    index: u64,
    answer: &[i64],
    example: &Example,
) -> Result<f64, DataError> {
    let classes = example.targets.classes();
    match (task.spec().judge, task.allowed(split, index)?) {
        (Judge::Allowed, Some(allowed)) => {
            let hits = answer.iter().zip(&allowed).filter(|(got, sets)| sets.contains(got)).count();
            Ok(share(hits as f64, classes.len() as u64))
        }
        (Judge::Exact, _) => Ok(f64::from(u8::from(answer == classes))),
        _ => Ok(agreement(answer, classes)),
    }
}

/// Share of answers that are right.
pub(crate) fn agreement(answer: &[i64], classes: &[i64]) -> f64 {
    let hits = answer.iter().zip(classes).filter(|(got, want)| got == want).count();
    share(hits as f64, classes.len() as u64)
}

/// `sum / rows`, and 0 of nothing.
pub(crate) fn share(sum: f64, rows: u64) -> f64 {
    if rows == 0 { 0.0 } else { sum / rows as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_constant_is_the_commonest_class_of_the_split_that_is_scored() {
        let bound = constant([1, 1, 1, 2].into_iter());
        assert_eq!(bound.score, 0.75);
        assert_eq!(bound.how, "always class 1, the best constant answer, measured on test");
    }

    #[test]
    fn a_tie_goes_to_the_smaller_class_and_nothing_scores_nothing() {
        assert_eq!(constant([1, 0].into_iter()).how, "always class 0, the best constant answer, measured on test");
        assert_eq!(constant([].into_iter()).score, 0.0);
    }
}
