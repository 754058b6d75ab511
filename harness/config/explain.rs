//! What serde says of a setting, in a user's words.

use crate::base::diagnostics::suggest;
use crate::config::layers::plain;
use crate::config::yaml::{Data, Node};
use serde_json::{Map, Value};

/// Whether a family or section takes these settings: serde's check, without their meaning.
pub type Accepts = fn(&Value) -> Result<(), serde_json::Error>;

/// Names of a family's settings. The JSON of its defaults may leave some out, so serde is asked, whose message about an unknown
/// key lists them all.
pub fn fields_of(defaults: &Value, accepts: Accepts) -> Vec<String> {
    const NO_FIELD: &str = "\0";
    let message = accepts(&serde_json::json!({ NO_FIELD: null })).err().map_or(String::new(), |e| e.to_string());
    let listed = message.split_once("expected").map_or("", |(_, listed)| listed);
    let named: Vec<String> = listed.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let written = defaults.as_object().expect("settings are a map").keys();
    if written.clone().all(|key| named.contains(key)) { named } else { written.cloned().collect() }
}

/// Serde's complaint about one field, in a user's words. `accepts` is asked what else the field could be.
pub fn explain(key: &str, node: &Node, default: &Value, error: &str, accepts: Accepts) -> (String, String) {
    let shown = node.describe();
    let default_text = match default {
        Value::Null => String::new(),
        value => format!("; the default is `{}`", plain(value)),
    };
    let named = |error: &str| -> Vec<String> { error.split('`').skip(1).step_by(2).map(str::to_owned).collect() };
    let near = |words: &[String], word: &str, plural: &str| {
        suggest(word, &words.iter().map(String::as_str).collect::<Vec<_>>(), plural)
    };
    if error.contains("unknown field") {
        let words = named(error);
        let (word, words) = words.split_first().map_or(("", &[][..]), |(word, words)| (word.as_str(), words));
        return (format!("unknown field `{word}` in `{key}`"), near(words, word, "fields"));
    }
    if error.contains("missing field") {
        let field = named(error).concat();
        return (format!("`{key}` lacks `{field}`"), format!("add `{field}` to it"));
    }
    // A word where one of several is expected, or a mapping of one key, its name: both ways of writing it are tried.
    let ask = |value: Value| accepts(&Value::Object(Map::from_iter([(key.to_owned(), value)])));
    let nonsense =
        ask(Value::from("\u{1}")).err().map(|error| error.to_string()).filter(|e| e.contains("unknown variant"));
    if let Some(words) = nonsense.map(|error| named(&error)[1..].to_vec()) {
        let form = |word: &String| match ask(Value::from(word.as_str())) {
            Ok(()) => format!("`{word}`"),
            Err(_) => format!("`{{ {word}: {{}} }}`"),
        };
        let chosen = match &node.data {
            Data::Map(entries) => entries.first().map(|(key, _)| key.name.as_str()),
            _ => node.as_str(),
        };
        let forms: Vec<String> = words.iter().map(form).collect();
        let plain_words = forms.iter().all(|form| !form.contains('{'));
        let known = chosen.and_then(|chosen| words.iter().position(|word| word == chosen));
        let inside = known.is_some_and(|at| forms[at].contains('{')) && node.as_map().is_some_and(|map| map.len() == 1);
        match known {
            // One of the forms as it should be: the mistake is further in.
            Some(_) if inside => {}
            Some(at) => {
                let problem = format!("`{key}` is {shown}, but `{}` is not written so", words[at]);
                let form = forms[at].trim_matches('`');
                return (problem, format!("write `{key}: {form}`; its forms are {}", forms.join(", ")));
            }
            None if plain_words => {
                let problem = format!("`{key}` is {shown}, which is not one of its words");
                return (problem, format!("{}{default_text}", near(&words, chosen.unwrap_or_default(), "words")));
            }
            None => {
                let meant = near(&words, chosen.unwrap_or_default(), "");
                let meant = meant.split_once('?').map_or(String::new(), |(start, _)| format!("{start}? "));
                let problem = format!("`{key}` is {shown}, which is none of its forms");
                return (problem, format!("{meant}its forms are {}", forms.join(", ")));
            }
        }
    }
    let expected = error.rsplit("expected ").next().unwrap_or_default().trim();
    let kind = match expected {
        e if e.starts_with('u') && e[1..].parse::<u8>().is_ok() || e == "usize" => "a whole number, 0 or more",
        e if e.starts_with('i') && e[1..].parse::<u8>().is_ok() => "a whole number",
        "f64" | "f32" => "a number",
        "a boolean" => "true or false",
        "a string" => "text",
        other => other,
    };
    let got = error.split_once(", expected ").and_then(|(got, _)| got.strip_prefix("invalid type: "));
    match got.filter(|got| {
        node.as_str().is_none() && !matches!(node.data, Data::Scalar(_)) && !["map", "sequence"].contains(got)
    }) {
        Some(got) => (format!("{got} in `{key}`, where {kind} is expected"), format!("write {kind} there")),
        None => (format!("`{key}` is {shown}, expected {kind}"), format!("write {kind}{default_text}")),
    }
}
