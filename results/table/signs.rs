//! Signs beside a task's name for what a reader of its scores must know, and the sentences that explain them.

/// A task that the config put in the place of a published one. The other marks come from the records.
pub(crate) const STAND_IN: &str = "stand_in";

/// Marks with their signs, in the order of the signs.
const SIGNS: [(&str, &str); 5] =
    [("validation_is_test", "†"), ("synthetic", "‡"), (STAND_IN, "§"), ("reduced", "¶"), ("test_is_train", "‖")];
/// The sign of a mark that this build does not know.
const OTHER: &str = "#";

/// `retrieval ‡`: a task's name with the signs of its marks.
pub(crate) fn named(task: &str, marks: &[String]) -> String {
    let mut signs: Vec<&str> = marks.iter().map(|mark| sign(mark)).collect();
    signs.sort_unstable_by_key(|sign| SIGNS.iter().position(|(_, known)| known == sign).unwrap_or(SIGNS.len()));
    signs.dedup();
    if signs.is_empty() { task.into() } else { format!("{task} {}", signs.concat()) }
}

fn sign(mark: &str) -> &'static str {
    SIGNS.iter().find(|(known, _)| *known == mark).map_or(OTHER, |(_, sign)| sign)
}

/// A task as its marks are explained: its name, its marks and the published task it is or stands for.
pub(crate) type Marked<'a> = (&'a str, &'a [String], Option<&'a str>);

/// One sentence for each mark that one of these tasks carries.
pub(crate) fn explained(tasks: &[Marked]) -> Vec<String> {
    let mut marks: Vec<&str> = SIGNS.iter().map(|(mark, _)| *mark).collect();
    for mark in tasks.iter().flat_map(|(_, marks, _)| marks.iter()) {
        if !marks.contains(&mark.as_str()) {
            marks.push(mark);
        }
    }
    let sentence = |mark: &&str| {
        let marked: Vec<_> = tasks.iter().filter(|(_, marks, _)| marks.iter().any(|m| m == mark)).collect();
        let names = marked.iter().map(|(task, ..)| *task).collect::<Vec<_>>().join(", ");
        let sign = sign(mark);
        let said = match *mark {
            "validation_is_test" => "models were chosen on the test split, as the task's first users did".into(),
            "synthetic" => {
                "synthetic: made up by Mixarena in the form of the published data, which it is not".to_string()
            }
            "reduced" => "inputs are shorter than the published task's".into(),
            "test_is_train" => "scored on what it was trained on: how much is memorised is the question".into(),
            STAND_IN => {
                let places = marked.iter().filter_map(|(.., place)| *place).collect::<Vec<_>>().join(", ");
                format!("taken for {places} here, but not the same: other data or another size")
            }
            other => format!("marked `{other}`, which this build cannot explain"),
        };
        (!marked.is_empty()).then(|| format!("{sign} {names}: {said}."))
    };
    marks.iter().filter_map(sentence).collect()
}

/// The letter of the n-th source, raised; past the alphabet it is repeated.
pub(crate) fn letter(n: usize) -> String {
    const LETTERS: [&str; 16] = ["ᵃ", "ᵇ", "ᶜ", "ᵈ", "ᵉ", "ᶠ", "ᵍ", "ʰ", "ⁱ", "ʲ", "ᵏ", "ˡ", "ᵐ", "ⁿ", "ᵒ", "ᵖ"];
    LETTERS[n % LETTERS.len()].repeat(n / LETTERS.len() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_stand_in_one_order_and_unknown_marks_are_said_too() {
        let marks = |marks: &[&str]| marks.iter().map(|m| m.to_string()).collect::<Vec<_>>();
        assert_eq!(named("text", &[]), "text");
        assert_eq!(named("text", &marks(&["reduced", "synthetic"])), "text ‡¶");
        assert_eq!(named("text", &marks(&["stand_in", "new", "synthetic", "validation_is_test"])), "text †‡§#");
        let (both, new) = (marks(&["synthetic", "stand_in"]), marks(&["new"]));
        assert_eq!(
            explained(&[("path", &both, Some("Path-X")), ("text", &new, Some("Text")), ("mqar", &[], None)]),
            [
                "‡ path: synthetic: made up by Mixarena in the form of the published data, which it is not.",
                "§ path: taken for Path-X here, but not the same: other data or another size.",
                "# text: marked `new`, which this build cannot explain.",
            ]
        );
    }

    #[test]
    fn no_two_sources_share_a_letter() {
        let letters: std::collections::BTreeSet<String> = (0..40).map(letter).collect();
        assert_eq!(letters.len(), 40);
    }
}
