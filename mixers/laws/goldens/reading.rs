//! How a replay reads a dump: every key of its config and every tensor is marked as it is read, and what nobody read is
//! refused by name once the replay has ended. A key that a replay forgets is therefore an error, never a comparison of
//! something else.

use super::{Golden, GoldenError, Replay};
use crate::ConfigError;
use crate::core::limits;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeSet;
use tch::{Kind, Tensor};

/// What was read so far.
#[derive(Debug, Default)]
pub(crate) struct Marks {
    config: RefCell<BTreeSet<String>>,
    tensors: RefCell<BTreeSet<String>>,
    /// Full keys of inputs that take no part in the outputs: no gradient may belong to them.
    absent: RefCell<BTreeSet<String>>,
    /// Full keys of inputs that the reference took as constants: no gradient need belong to them.
    constant: RefCell<BTreeSet<String>>,
}

/// Prefixes of a dump's tensors. `aux.*` are intermediate results for people; the rest has to be read or met.
const PREFIXES: [&str; 8] = ["input", "param", "buffer", "output", "grad_output", "grad_input", "grad_param", "aux"];

/// The numbers of a reference setting that JSON has no word for.
const INFINITE: [(&str, f64); 3] = [("Infinity", f64::INFINITY), ("-Infinity", f64::NEG_INFINITY), ("NaN", f64::NAN)];

/// JSON as Python writes it: `Infinity`, `-Infinity` and `NaN`, which JSON does not have, become words of the same letters.
pub(crate) fn python_json(text: &str) -> Option<Value> {
    let (mut plain, mut rest, mut quoted) = (String::with_capacity(text.len()), text, false);
    while let Some(c) = rest.chars().next() {
        let word = INFINITE.iter().map(|(word, _)| *word).find(|word| !quoted && rest.starts_with(word));
        let taken = match (word, c) {
            (Some(word), _) => {
                plain.extend(["\"", word, "\""]);
                word.len()
            }
            (None, '\\') if quoted => {
                let taken = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                plain.push_str(&rest[..taken]);
                taken
            }
            (None, c) => {
                quoted ^= c == '"';
                plain.push(c);
                c.len_utf8()
            }
        };
        rest = &rest[taken..];
    }
    serde_json::from_str(&plain).ok()
}

impl Golden {
    /// The file contradicts itself, or holds what no mixer can be held against.
    pub fn malformed(&self, why: String) -> GoldenError {
        GoldenError::Malformed { path: self.path.clone(), why }
    }

    /// `what` is not there.
    pub fn lacking(&self, what: &str) -> GoldenError {
        self.lacks(what)
    }

    /// A config key that the case may lack: `null` is a value like any other.
    pub fn given(&self, key: &str) -> Option<&Value> {
        self.marks.config.borrow_mut().insert(key.into());
        self.config.get(key)
    }

    /// The same with `null` for what is not there.
    fn value(&self, key: &str) -> Option<&Value> {
        self.given(key).filter(|value| !value.is_null())
    }

    /// A config value in its type, or `default` where it is absent or `null`.
    pub fn setting<T: DeserializeOwned>(&self, key: &str, default: T) -> Result<T, GoldenError> {
        let Some(value) = self.value(key) else { return Ok(default) };
        serde_json::from_value(value.clone()).map_err(|e| self.malformed(format!("config `{key}` is {value}: {e}")))
    }

    /// An integer of the case's config.
    pub fn int(&self, key: &str) -> Result<i64, GoldenError> {
        self.setting(key, None)?.ok_or_else(|| self.lacks(format!("config `{key}`")))
    }

    /// An integer of the case's config, or `default` where it is absent.
    pub fn int_or(&self, key: &str, default: i64) -> Result<i64, GoldenError> {
        self.setting(key, default)
    }

    /// A real number of the case's config, or `default` where it is absent.
    pub fn number_or(&self, key: &str, default: f64) -> Result<f64, GoldenError> {
        match self.value(key) {
            None => Ok(default),
            Some(value) => {
                number(value).ok_or_else(|| self.malformed(format!("config `{key}` is {value}, not a number")))
            }
        }
    }

    /// A switch of the case's config, or `default` where it is absent.
    pub fn flag_or(&self, key: &str, default: bool) -> Result<bool, GoldenError> {
        self.setting(key, default)
    }

    /// A word of the case's config, or `default` where it is absent.
    pub fn word_or(&self, key: &str, default: &str) -> Result<String, GoldenError> {
        self.setting(key, default.to_string())
    }

    /// What a word of the case's config stands for. `null` and an absent key are `default`; a word that is not among
    /// `known` is one this build has no mixer for.
    pub fn choice<T: Copy>(&self, key: &str, default: T, known: &[(&str, T)]) -> Result<T, GoldenError> {
        let Some(word) = self.setting(key, None::<String>)? else { return Ok(default) };
        let found = known.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
        let names = || known.iter().map(|(name, _)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        found.ok_or_else(|| GoldenError::Unsupported(format!("config `{key}` is `{word}`; replayed are {}", names())))
    }

    /// A setting that the mixer has in one form only: the key is absent, `null`, or one of `fits`.
    pub fn only<T: Into<Value> + Clone>(&self, key: &str, fits: &[T]) -> Result<(), GoldenError> {
        let fits: Vec<Value> = fits.iter().cloned().map(Into::into).collect();
        match self.value(key) {
            Some(value) if !fits.contains(value) => {
                let known = fits.iter().map(Value::to_string).collect::<Vec<_>>().join(" or ");
                let known = if known.is_empty() { "null".into() } else { known };
                Err(GoldenError::Unsupported(format!("config `{key}` is {value}; replayed is {known} alone")))
            }
            _ => Ok(()),
        }
    }

    /// Settings that no forward pass of a given layer reads: they decide initial values (the dump holds the parameters),
    /// learning rates, or which of several equal kernels runs.
    pub fn without_effect(&self, keys: &[&str]) {
        for key in keys {
            let _ = self.given(key);
        }
    }

    /// Probabilities of dropout, and whether it is tied: dumps are made in evaluation mode, where none is drawn.
    pub fn dropout(&self, keys: &[&str]) -> Result<(), GoldenError> {
        for key in keys {
            let share = self.number_or(key, 0.0)?;
            if !(0.0..=1.0).contains(&share) {
                return Err(self.malformed(format!("config `{key}` is {share}, not a probability")));
            }
        }
        Ok(())
    }

    /// The range that steps are clamped to; `(0, ∞)`, with `∞` written `Infinity` or `null`, is none.
    pub fn step_range(&self, key: &str) -> Result<Option<[f64; 2]>, GoldenError> {
        let Some(value) = self.value(key) else { return Ok(None) };
        let high = |value: &Value| if value.is_null() { Some(f64::INFINITY) } else { number(value) };
        let range = match value.as_array().map(Vec::as_slice) {
            Some([low, up]) => number(low).zip(high(up)),
            _ => None,
        };
        match range {
            Some((0.0, up)) if up == f64::INFINITY => Ok(None),
            Some((low, up)) => Ok(Some([low, up])),
            None => Err(self.malformed(format!("config `{key}` is {value}, not a pair of numbers"))),
        }
    }

    /// Sizes of a tensor whose axes have names in the config; an axis named `""` has none. A size that the config gives
    /// otherwise is an error, so that a key about sizes is read whether or not anything else needs it.
    pub fn axes(&self, tensor: &str, names: &[&str]) -> Result<Vec<i64>, GoldenError> {
        let sizes = self.tensor(tensor)?.size();
        if sizes.len() != names.len() {
            let why = format!("`{tensor}` has shape {sizes:?}, and its axes are {}", names.join(", "));
            return Err(self.malformed(why));
        }
        for (size, name) in sizes.iter().zip(names).filter(|(_, name)| !name.is_empty()) {
            self.agrees(name, *size, &format!("`{tensor}` has shape {sizes:?}"))?;
        }
        Ok(sizes)
    }

    /// An integer of the config, where it has it, against the `size` that follows from elsewhere.
    pub fn agrees(&self, key: &str, size: i64, because: &str) -> Result<(), GoldenError> {
        match self.setting(key, None::<i64>)? {
            Some(given) if given != size => {
                Err(self.malformed(format!("config `{key}` is {given}, and not {size} as {because}")))
            }
            _ => Ok(()),
        }
    }

    /// Settings of a mixer that a config cannot have.
    pub fn checked(&self, wrong: &[ConfigError]) -> Result<(), GoldenError> {
        match wrong.first() {
            None => Ok(()),
            Some(wrong) => Err(self.malformed(format!("config: {}", wrong.problem))),
        }
    }

    /// An integer of the case's config that has to be from 1 to the limit of the setting `like`.
    pub fn size(&self, key: &str, like: &str) -> Result<i64, GoldenError> {
        let size = self.int(key)?;
        let most = limits::most(like);
        if (1..=most).contains(&size) {
            return Ok(size);
        }
        Err(self.malformed(format!("config `{key}` is {size}, and has to be from 1 to {most}")))
    }

    /// Whether the config gives a value for `key`; asking does not mark it as read.
    pub fn has_config(&self, key: &str) -> bool {
        self.config.get(key).is_some_and(|value| !value.is_null())
    }

    /// Whether there is a tensor of this full key; asking does not mark it as read.
    pub fn has(&self, key: &str) -> bool {
        self.tensors.contains_key(key)
    }

    /// The tensor under a full key such as `buffer.l_kernel`.
    pub fn tensor(&self, key: &str) -> Result<&Tensor, GoldenError> {
        self.marks.tensors.borrow_mut().insert(key.into());
        self.tensors.get(key).ok_or_else(|| self.lacks(format!("`{key}`")))
    }

    /// `input.<name>` as a leaf that collects its gradient.
    pub fn input(&self, name: &str) -> Result<Tensor, GoldenError> {
        let t = self.tensor(&format!("input.{name}"))?.copy();
        Ok(if t.is_floating_point() { t.set_requires_grad(true) } else { t })
    }

    /// `input.<name>` where the reference can do without it. Of `switches` the first key in the config decides: `false` or
    /// `null` leaves the input out, anything else wants it. Without such a key the input takes part if it has a gradient
    /// here, and without one if it is `constant`. One that takes part without a gradient was a constant for the reference; one
    /// that is left out may lie in the file all the same, without a gradient.
    pub fn optional_input(&self, name: &str, switches: &[&str], constant: bool) -> Result<Option<Tensor>, GoldenError> {
        let (key, gradient) = (format!("input.{name}"), format!("grad_input.{name}"));
        let switch = switches.iter().map(|switch| (switch, self.given(switch))).fold(None, |first, (switch, value)| {
            first.or_else(|| value.map(|value| (switch, !matches!(value, Value::Null | Value::Bool(false)))))
        });
        let takes_part = match switch {
            Some((_, on)) => on,
            None => self.has(&key) && (self.has(&gradient) || constant),
        };
        if takes_part && self.has(&gradient) {
            return self.input(name).map(Some);
        }
        if takes_part {
            let constant = self.tensor(&key)?.copy();
            self.marks.constant.borrow_mut().insert(key);
            return Ok(Some(constant));
        }
        if let Some((switch, _)) = switch.filter(|_| self.has(&gradient)) {
            return Err(self.malformed(format!("config `{switch}` leaves `{key}` out, and there is `{gradient}`")));
        }
        if self.has(&key) {
            self.marks.tensors.borrow_mut().insert(key.clone());
            self.marks.absent.borrow_mut().insert(key);
        }
        Ok(None)
    }

    /// Config keys and tensors of the dump that nobody has read so far.
    fn unread(&self) -> (Vec<String>, Vec<&String>) {
        let (config, tensors) = (self.marks.config.borrow(), self.marks.tensors.borrow());
        let keys = self.config.as_object().into_iter().flatten().filter(|(key, _)| !config.contains(*key));
        let read_first = ["input.", "param.", "buffer."];
        let of_replay = |key: &&String| read_first.iter().any(|prefix| key.starts_with(prefix));
        (
            keys.map(|(key, value)| format!("config `{key}` ({})", brief(value))).collect(),
            self.tensors.keys().filter(of_replay).filter(|key| !tensors.contains(*key)).collect(),
        )
    }

    /// Keys not yet read, for the message about a replay that failed: one of them may be why.
    pub(crate) fn unread_note(&self) -> String {
        let (keys, _) = self.unread();
        if keys.is_empty() { String::new() } else { format!("; not read: {}", keys.join(", ")) }
    }

    /// Whether all of the dump was used by the replay that gave `got`: every key of the config, every input, parameter and
    /// buffer read; every output and gradient one that was computed; every gradient there that the format asks for.
    pub(crate) fn all_used(&self, got: &Replay) -> Result<(), GoldenError> {
        let family = &self.family;
        let (keys, tensors) = self.unread();
        if !keys.is_empty() {
            let what = keys.join(", ");
            return Err(self.malformed(format!("the replay of `{family}` does not use {what}")));
        }
        if let Some(key) = tensors.first() {
            return Err(self.malformed(format!("the replay of `{family}` does not use `{key}`")));
        }
        for key in self.tensors.keys() {
            let (prefix, name) = key.split_once('.').unwrap_or((key, ""));
            if !PREFIXES.contains(&prefix) {
                return Err(self.malformed(format!("`{key}` has no prefix of the format ({})", PREFIXES.join(", "))));
            }
            let computed = match prefix {
                "output" | "grad_input" | "grad_param" => got.0.contains_key(key),
                "grad_output" => got.0.contains_key(&format!("output.{name}")),
                _ => true,
            };
            if !computed {
                return Err(self.malformed(format!("the replay of `{family}` gives nothing to hold `{key}` against")));
            }
        }
        self.gradients_are_there()?;
        let noise = super::rounding_noise(self.kind) * self.largest_gradient();
        for key in &self.without_gradient {
            let flows = got.0.get(key).is_some_and(|grad| super::largest_entry(grad) > noise);
            if flows {
                return Err(self.malformed(format!("`no_grad_flow` names `{key}`, which gets a gradient here")));
            }
        }
        Ok(())
    }

    /// A gradient for every real-valued input but those that took no part or were constants.
    fn gradients_are_there(&self) -> Result<(), GoldenError> {
        if self.names("grad_input").is_empty() && self.names("grad_param").is_empty() {
            return Ok(());
        }
        let (absent, constant) = (self.marks.absent.borrow(), self.marks.constant.borrow());
        for name in self.names("input") {
            let (key, gradient) = (format!("input.{name}"), format!("grad_input.{name}"));
            let excused = absent.contains(&key) || constant.contains(&key) || self.without_gradient.contains(&gradient);
            if !excused && self.tensors[&key].is_floating_point() && !self.has(&gradient) {
                return Err(self.lacks(format!("`{gradient}`")));
            }
        }
        Ok(())
    }
}

/// A number, or one of Python's words for those that JSON lacks.
fn number(value: &Value) -> Option<f64> {
    let word = |word: &str| INFINITE.iter().find(|(name, _)| *name == word).map(|(_, number)| *number);
    value.as_f64().or_else(|| if value.is_boolean() { value.as_bool().map(f64::from) } else { word(value.as_str()?) })
}

/// A value as it stands in a message.
fn brief(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 40 { text } else { text.chars().take(40).chain(['…']).collect() }
}

/// A tensor's number of an integer kind, such as the length that a buffer holds.
pub(crate) fn whole(t: &Tensor) -> i64 {
    t.to_kind(Kind::Int64).int64_value(&[])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_python_writes_for_infinity_is_read() {
        let read =
            python_json(r#"{"dt_limit": [0.0, Infinity], "a": [-Infinity, NaN], "s": "Infinity \" NaN"}"#).unwrap();
        assert_eq!(read["dt_limit"][1], "Infinity");
        assert_eq!(read["a"][0], "-Infinity");
        assert_eq!(read["s"], "Infinity \" NaN");
        assert_eq!(number(&read["dt_limit"][1]), Some(f64::INFINITY));
        assert_eq!(number(&Value::from("wide")), None);
        assert!(python_json("{").is_none() && python_json("\"\\").is_none());
    }
}
