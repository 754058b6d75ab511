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
    if error.contains("unknown field") {
        let words = named(error);
        let (word, words) = words.split_first().map_or(("", &[][..]), |(word, words)| (*word, words));
        return (format!("unknown field `{word}` in `{key}`"), suggest(word, words, "fields"));
    }
    if error.contains("missing field") {
        let field = named(error).concat();
        return (format!("`{key}` lacks `{field}`"), format!("add `{field}` to it"));
    }
    if let Some(found) = word_or_form(key, node, default, accepts) {
        return found;
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

/// Names in backticks.
fn named(error: &str) -> Vec<&str> {
    error.split('`').skip(1).step_by(2).collect()
}

/// What is said where `key` takes one of several words, or a mapping of one key, its name: both ways of writing it are tried.
/// `None` where it takes something else, or where the form is right and the mistake is further in.
fn word_or_form(key: &str, node: &Node, default: &Value, accepts: Accepts) -> Option<(String, String)> {
    let ask = |value: Value| accepts(&Value::Object(Map::from_iter([(key.to_owned(), value)])));
    let nonsense = ask(Value::from("\u{1}")).err().map(|error| error.to_string());
    let nonsense = nonsense.filter(|error| error.contains("unknown variant"))?;
    let words = named(&nonsense).split_off(1);
    let form = |word: &&str| match ask(Value::from(*word)) {
        Ok(()) => format!("`{word}`"),
        Err(_) => format!("`{{ {word}: {{}} }}`"),
    };
    let forms: Vec<String> = words.iter().map(form).collect();
    let chosen = match &node.data {
        Data::Map(entries) => entries.first().map(|(key, _)| key.name.as_str()),
        _ => node.as_str(),
    };
    let shown = node.describe();
    if let Some(at) = chosen.and_then(|chosen| words.iter().position(|word| *word == chosen)) {
        let inside = forms[at].contains('{') && node.as_map().is_some_and(|map| map.len() == 1);
        let problem = format!("`{key}` is {shown}, but `{}` is not written so", words[at]);
        let form = forms[at].trim_matches('`');
        let help = format!("write `{key}: {form}`; its forms are {}", forms.join(", "));
        return (!inside).then_some((problem, help));
    }
    let near = suggest(chosen.unwrap_or_default(), &words, "");
    let near = near.split_once('?').map(|(question, _)| format!("{question}?"));
    let default = match default {
        Value::Null => None,
        value => Some(format!("the default is `{}`", plain(value))),
    };
    let help: Vec<String> = near.into_iter().chain(default).collect();
    let help = if help.is_empty() { "write one of them".into() } else { help.join(" ") };
    let expected = if forms.iter().any(|form| form.contains('{')) {
        format!("expected one of these forms: {}", forms.join(", "))
    } else {
        format!("expected one of {}", words.join(", "))
    };
    Some((format!("`{key}` is {shown}, {expected}"), help))
}
