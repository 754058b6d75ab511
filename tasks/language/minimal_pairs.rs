//! Minimal pairs: two sentences that differ in grammar alone, of which a language model should find the good one likelier.
//!
//! ```text
//! {"sentence_good": "These cats sleep.", "sentence_bad": "This cats sleep.", "UID": "determiner_noun_agreement_1", …}
//! ```
//! Paper    Warstadt et al. 2020 (BLiMP), arXiv:1912.00582
//! Matches  its JSONL; a masked model scores a sentence by pseudo-log-likelihood, Salazar et al. 2020, arXiv:1910.14659
//! Departs  one file may hold many phenomena, told apart by `linguistics_term`, else `UID`, else `field`

use crate::DataError;
use crate::data::{formats::read_line, packed};
use serde::Deserialize;
use std::io::BufReader;
use std::path::{Path, PathBuf};

/// Two sentences and what they are about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The grammatical sentence.
    pub good: String,
    /// The other one.
    pub bad: String,
    /// What they differ in; empty where the file does not say.
    pub phenomenon: String,
}

/// A line of the file; other keys are passed over.
#[derive(Deserialize)]
struct Line {
    sentence_good: String,
    sentence_bad: String,
    linguistics_term: Option<String>,
    #[serde(rename = "UID")]
    uid: Option<String>,
    field: Option<String>,
}

/// The file itself, or every `*.jsonl` of a folder in the order of their names.
pub fn files(path: &Path) -> Result<Vec<PathBuf>, DataError> {
    let unreadable = |why: String| DataError::Unreadable { path: path.into(), why };
    if !path.exists() {
        return Err(DataError::Missing {
            what: "minimal pairs".into(),
            looked: vec![path.into()],
            help: "name a file of BLiMP's form, one JSON object a line with `sentence_good` and `sentence_bad`, or a folder \
                   of such files (https://github.com/alexwarstadt/blimp, folder data)"
                .into(),
        });
    }
    let mut files = vec![path.to_owned()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(|error| unreadable(error.to_string()))?;
        files = entries.filter_map(Result::ok).map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|extension| extension == "jsonl"));
        files.sort();
    }
    Ok(files)
}

/// Reads the pairs of a file, or of every `*.jsonl` of a folder in the order of their names.
pub fn read(path: &Path) -> Result<Vec<Pair>, DataError> {
    let unreadable = |why: String| DataError::Unreadable { path: path.into(), why };
    let mut pairs = Vec::new();
    for file in &files(path)? {
        read_file(file, &mut pairs)?;
    }
    if pairs.is_empty() {
        return Err(unreadable("holds no minimal pair: one JSON object a line, in files named *.jsonl".into()));
    }
    Ok(pairs)
}

fn read_file(path: &Path, pairs: &mut Vec<Pair>) -> Result<(), DataError> {
    let unreadable = |error: std::io::Error| DataError::Unreadable { path: path.into(), why: error.to_string() };
    let mut reader = BufReader::new(packed::open(path).map_err(unreadable)?);
    let mut line = Vec::new();
    for row in 1.. {
        line.clear();
        if read_line(&mut reader, &mut line, path, row)? == 0 {
            return Ok(());
        }
        let text = line.trim_ascii();
        let text = if row == 1 { text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text) } else { text };
        if text.is_empty() {
            continue;
        }
        let refused = |problem: String| DataError::Malformed { path: path.into(), row, problem };
        let read: Line = serde_json::from_slice(text).map_err(|error| {
            refused(format!("is no minimal pair ({error}); expected an object with `sentence_good` and `sentence_bad`"))
        })?;
        let [good, bad] = [&read.sentence_good, &read.sentence_bad].map(|sentence| sentence.trim().to_owned());
        for (key, sentence) in [("sentence_good", &good), ("sentence_bad", &bad)] {
            if sentence.is_empty() {
                return Err(refused(format!("`{key}` is empty")));
            }
        }
        if good == bad {
            return Err(refused("`sentence_good` and `sentence_bad` are the same, so neither can win".into()));
        }
        let named = [read.linguistics_term, read.uid, read.field].into_iter().flatten().find(|name| !name.is_empty());
        pairs.push(Pair { good, bad, phenomenon: named.unwrap_or_default() });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    // The form of BLiMP's lines; the sentences are our own.
    const FULL: &str = r#"{"sentence_good": "These cats sleep.", "sentence_bad": "This cats sleep.", "field": "morphology", "linguistics_term": "determiner_noun_agreement", "UID": "determiner_noun_agreement_1", "simple_LM_method": true, "pairID": "0"}"#;

    fn of(content: impl AsRef<[u8]>) -> Result<Vec<Pair>, DataError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pairs.jsonl");
        fs::write(&path, content).unwrap();
        read(&path)
    }

    #[test]
    fn pairs_are_read_and_named_by_what_is_there() {
        let text = format!(
            "\u{feff}{FULL}\r\n\n{{\"sentence_bad\":\"b \",\"sentence_good\":\"a\",\"UID\":\"u\"}}\n{{\"sentence_bad\":\"b\",\"sentence_good\":\"a\"}}"
        );
        let pairs = of(&text).unwrap();
        let pair = |good: &str, bad: &str, phenomenon: &str| Pair {
            good: good.into(),
            bad: bad.into(),
            phenomenon: phenomenon.into(),
        };
        let first = pair("These cats sleep.", "This cats sleep.", "determiner_noun_agreement");
        assert_eq!(pairs, [first, pair("a", "b", "u"), pair("a", "b", "")]);
    }

    #[test]
    fn a_line_that_is_no_pair_is_named() {
        let refused = |content: &str| of(content).unwrap_err().to_string();
        assert!(refused(&format!("{FULL}\nnonsense\n")).contains("pairs.jsonl:2: is no minimal pair (expected"));
        assert!(
            refused("{\"sentence_good\":\"a\"}")
                .contains("pairs.jsonl:1: is no minimal pair (missing field `sentence_bad`")
        );
        assert!(
            refused("{\"sentence_good\":\"a\",\"sentence_bad\":\" \"}")
                .ends_with("pairs.jsonl:1: `sentence_bad` is empty")
        );
        assert!(
            refused("{\"sentence_good\":\"a\",\"sentence_bad\":\"a\"}").contains("are the same, so neither can win")
        );
        assert!(of(b"{\"sentence_good\":\"\xff").unwrap_err().to_string().contains("is no minimal pair"));
        assert!(refused("\n").contains("holds no minimal pair"));
    }

    #[test]
    fn a_pipe_is_named_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pairs.jsonl");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        for path in [&*pipe, folder.path()] {
            let error = read(path).unwrap_err().to_string();
            assert!(error.ends_with("pairs.jsonl: is not a regular file, but a folder, a pipe or a device"), "{error}");
        }
    }

    #[test]
    fn a_folder_is_read_by_name_and_one_that_is_not_there_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        for (name, good) in [("b.jsonl", "second"), ("a.jsonl", "first"), ("c.txt", "third")] {
            fs::write(folder.path().join(name), format!("{{\"sentence_good\":\"{good}\",\"sentence_bad\":\"x\"}}"))
                .unwrap();
        }
        let good: Vec<String> = read(folder.path()).unwrap().into_iter().map(|pair| pair.good).collect();
        assert_eq!(good, ["first", "second"]);
        assert!(matches!(read(&folder.path().join("no")), Err(DataError::Missing { .. })));
    }
}
