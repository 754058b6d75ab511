//! What guessing and perfect solvers score: measured on the test split, never assumed.

use crate::rng::{Purpose, Stream};
use crate::{Bound, DataError, Example, Judge, Split, Task, drawn};

/// Always answering the class that is most frequent in training. Ties go to the smaller class.
pub(crate) fn majority(train: impl Iterator<Item = u8>, test: impl Iterator<Item = u8>) -> Bound {
    let mut seen = [0_u64; 256];
    train.for_each(|class| seen[usize::from(class)] += 1);
    let favourite = (0..=u8::MAX).rev().max_by_key(|&class| seen[usize::from(class)]).unwrap_or(0);
    let (mut rows, mut hits) = (0_u64, 0_u64);
    for class in test {
        rows += 1;
        hits += u64::from(class == favourite);
    }
    Bound { score: share(hits as f64, rows), how: format!("majority class of train ({favourite}), measured on test") }
}

/// The task's own [`Task::solve`] on every test example; an example it cannot solve counts as wrong.
pub(crate) fn oracle<T: Task + ?Sized>(task: &T) -> Result<Bound, DataError> {
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

/// A guesser's score on the test split: `guess` answers example by example, from a stream of the guesser's own.
pub(crate) fn guesser<T: Task + ?Sized>(
    task: &T,
    data_seed: u64,
    how: impl Into<String>,
    guess: impl Fn(&Example, &mut Stream) -> Vec<i64>,
) -> Result<Bound, DataError> {
    let rows = task.len(Split::Test);
    let mut score = 0.0;
    for index in 0..rows {
        let example = task.example(Split::Test, index)?;
        let answer = guess(&example, &mut Stream::new(data_seed, Purpose::Guess, index));
        score += judged(task, Split::Test, index, &answer, &example)?;
    }
    Ok(Bound { score: share(score, rows), how: format!("{}, measured on test", how.into()) })
}

/// A uniform guess among `0 .. classes`, which the message calls `what`.
pub(crate) fn uniform<T: Task + ?Sized>(
    task: &T,
    data_seed: u64,
    classes: u64,
    what: &str,
) -> Result<Bound, DataError> {
    guesser(task, data_seed, format!("a uniform guess among {what}"), |example, stream| {
        drawn::symbols(stream, example.targets.classes().len(), classes)
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
    fn the_majority_is_chosen_on_train_and_scored_on_test() {
        let bound = majority([2, 1, 2].into_iter(), [1, 1, 1, 2].into_iter());
        assert_eq!(bound.score, 0.25);
        assert_eq!(bound.how, "majority class of train (2), measured on test");
    }

    #[test]
    fn a_tie_goes_to_the_smaller_class() {
        assert_eq!(majority([1, 0].into_iter(), [0].into_iter()).score, 1.0);
    }
}
