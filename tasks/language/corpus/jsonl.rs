//! JSONL: one object a line, one of its keys the text.

use super::lines::not_utf8;
use super::long::Long;
use super::reader::{Inner, Input, Position, Tally};
use super::sources::Source;
use super::{CorpusConfig, InvalidUtf8, Malformed};
use crate::DataError;
use crate::data::formats::{shorten, unreadable};
use serde::Deserializer;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, Visitor};
use std::fmt;
use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;

/// Longest line, in bytes; a longer one is refused.
const LONGEST: u64 = 64 << 20;

pub(super) struct Jsonl {
    path: PathBuf,
    reader: BufReader<Box<dyn Input>>,
    field: String,
    policy: InvalidUtf8,
    malformed: Malformed,
    offset: u64,
    line: u64,
    buffer: Vec<u8>,
    long: Long,
    longest: u64,
}

impl Jsonl {
    pub fn open(
        source: &Source,
        mut input: Box<dyn Input>,
        config: &CorpusConfig,
        from: &Position,
    ) -> Result<Self, DataError> {
        input.skip(from.offset).map_err(|error| unreadable(&source.path, &error))?;
        Ok(Self {
            path: source.path.clone(),
            reader: BufReader::with_capacity(1 << 16, input),
            field: config.field.clone(),
            policy: config.invalid_utf8,
            malformed: config.malformed,
            offset: from.offset,
            line: from.line,
            buffer: Vec::new(),
            long: Long::default(),
            longest: LONGEST,
        })
    }

    #[cfg(test)]
    pub fn refusing_longer(mut self, longest: u64) -> Self {
        self.longest = longest;
        self
    }

    fn error(&self, problem: String) -> DataError {
        DataError::Malformed { path: self.path.clone(), row: self.line, problem }
    }

    /// Leaves out the line just read, which holds no text, or ends the reading there.
    fn leave_out(&self, problem: String, tally: &mut Tally) -> Result<(), DataError> {
        match self.malformed {
            Malformed::Error => Err(self.error(format!("{problem}; `malformed: skip` leaves such lines out"))),
            Malformed::Skip => {
                tally.malformed.add(|| format!("{}:{}: {problem}", self.path.display(), self.line));
                Ok(())
            }
        }
    }

    /// Reads the next line; false after the last. One that is too long is not held, and empty where it is left out.
    fn read_line(&mut self, tally: &mut Tally) -> Result<bool, DataError> {
        self.buffer.clear();
        self.buffer.shrink_to(1 << 20);
        let read = self.reader.by_ref().take(self.longest + 1).read_until(b'\n', &mut self.buffer);
        let mut read = read.map_err(|error| unreadable(&self.path, &error))? as u64;
        self.line += u64::from(read > 0);
        if read > self.longest {
            let most = self.longest >> 20;
            self.leave_out(format!("a line longer than {most} MiB; one JSON object a line is expected"), tally)?;
            if !self.buffer.ends_with(b"\n") {
                read += self.reader.skip_until(b'\n').map_err(|error| unreadable(&self.path, &error))? as u64;
            }
            self.buffer.clear();
        }
        self.offset += read;
        Ok(read > 0)
    }

    /// The text of the line just read; `None` where there is none to give out.
    fn text(&self, tally: &mut Tally) -> Result<Option<String>, DataError> {
        let place = || format!("{}:{}", self.path.display(), self.line);
        let line = self.buffer.strip_prefix(b"\xef\xbb\xbf").filter(|_| self.line == 1).unwrap_or(&self.buffer);
        if line.trim_ascii().is_empty() {
            return Ok(None);
        }
        let lossy = match str::from_utf8(line) {
            Ok(text) => std::borrow::Cow::Borrowed(text),
            Err(error) => match self.policy {
                InvalidUtf8::Error => {
                    let from_end = (line.len() - error.valid_up_to()) as u64;
                    return Err(self.error(not_utf8(self.offset - from_end)));
                }
                InvalidUtf8::Skip => {
                    tally.skipped.add(place);
                    return Ok(None);
                }
                InvalidUtf8::Replace => {
                    let broken = line.utf8_chunks().filter(|chunk| !chunk.invalid().is_empty()).count();
                    (0..broken).for_each(|_| tally.replaced.add(place));
                    String::from_utf8_lossy(line)
                }
            },
        };
        let mut json = serde_json::Deserializer::from_str(lossy.trim_end());
        let found = Object { field: &self.field }.deserialize(&mut json).and_then(|found| json.end().map(|()| found));
        let problem = match found {
            Ok(Field::Text(text)) => return Ok(Some(text)),
            Ok(Field::Null) => return Ok(Some(String::new())),
            Ok(Field::Other(what)) => {
                format!("`{}` is {what}, not a string; name the key that holds the text in `field`", self.field)
            }
            Ok(Field::Missing(keys)) => {
                let keys: Vec<String> = keys.iter().map(|key| format!("`{key}`")).collect();
                let there = if keys.is_empty() { "nothing".to_owned() } else { keys.join(", ") };
                format!("no `{}`; it holds {there}: name the key in `field`", self.field)
            }
            Err(error) => {
                let why = error.to_string();
                let why = why.rsplit_once(" at line 1").map_or(why.clone(), |(why, column)| format!("{why},{column}"));
                format!("is no JSON object ({why}): {}", shorten(line.trim_ascii_end()))
            }
        };
        self.leave_out(problem, tally).map(|()| None)
    }
}

impl Inner for Jsonl {
    fn next_piece(&mut self, tally: &mut Tally) -> Result<Option<(String, bool)>, DataError> {
        loop {
            if let Some(piece) = self.long.next_piece() {
                return Ok(Some(piece));
            }
            if !self.read_line(tally)? {
                if self.offset == 0 {
                    tally.empty.add(|| self.path.display().to_string());
                }
                return Ok(None);
            }
            let text = self.text(tally)?;
            if text.is_some_and(|text| !self.long.begin(text)) {
                tally.empty.add(|| format!("{}:{}", self.path.display(), self.line));
            }
        }
    }

    fn position(&self) -> Option<Position> {
        self.long.is_over().then(|| Position { offset: self.offset, line: self.line, ..Position::default() })
    }
}

/// What an object has under the key asked for.
enum Field {
    Text(String),
    Null,
    Other(&'static str),
    /// The keys there are.
    Missing(Vec<String>),
}

/// Reads one key of an object and passes over the others.
struct Object<'a> {
    field: &'a str,
}

impl<'de> DeserializeSeed<'de> for Object<'_> {
    type Value = Field;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Field, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for Object<'_> {
    type Value = Field;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("one JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
        let (mut found, mut keys) = (None, Vec::new());
        while let Some(key) = map.next_key::<String>()? {
            if key == self.field {
                found = Some(map.next_value::<Value>()?.0);
            } else {
                map.next_value::<IgnoredAny>()?;
                keys.push(key);
            }
        }
        Ok(found.unwrap_or(Field::Missing(keys)))
    }
}

struct Value(Field);

impl<'de> de::Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Field;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_str<E>(self, text: &str) -> Result<Field, E> {
                Ok(Field::Text(text.to_owned()))
            }

            fn visit_unit<E>(self) -> Result<Field, E> {
                Ok(Field::Null)
            }

            fn visit_bool<E>(self, _: bool) -> Result<Field, E> {
                Ok(Field::Other("true or false"))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Field, E> {
                Ok(Field::Other("a number"))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Field, E> {
                Ok(Field::Other("a number"))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Field, E> {
                Ok(Field::Other("a number"))
            }

            fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Field, A::Error> {
                while seq.next_element::<IgnoredAny>()?.is_some() {}
                Ok(Field::Other("a list"))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Field, A::Error> {
                while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
                Ok(Field::Other("an object"))
            }
        }
        deserializer.deserialize_any(Any).map(Value)
    }
}
