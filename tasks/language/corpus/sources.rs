//! Which files a corpus consists of, what each is for, and what tells their state.

use super::{CorpusConfig, Format, Paths};
use crate::{DataDir, DataError, Split};
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// One file.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Source {
    /// Links resolved.
    pub path: PathBuf,
    /// Never [`Format::Auto`].
    pub format: Format,
    pub split: Split,
    /// On the disk.
    pub bytes: u64,
}

impl Source {
    pub fn gzipped(&self) -> bool {
        unpacked(&self.path) != self.path
    }
}

/// Every file, those of train first.
#[derive(Clone, Debug)]
pub(super) struct Sources {
    pub files: Vec<Source>,
    /// Splits whose documents are held out of train's files.
    pub held_out: Vec<Split>,
    pub notes: Vec<String>,
    /// Tells the state of the files.
    pub state: blake3::Hash,
}

impl Sources {
    /// Those that documents of a split stand in.
    pub fn holding(mut self, split: Split) -> Self {
        let from = if self.held_out.contains(&split) { Split::Train } else { split };
        self.files.retain(|file| file.split == from);
        self
    }
}

/// The path without `.gz`: of a file and of the same one packed, the same.
fn unpacked(path: &Path) -> PathBuf {
    let packed = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
    if packed { path.with_extension("") } else { path.into() }
}

/// What a file's name says it is for; those of the folders around it count.
fn split_by_name(inner: &Path) -> Split {
    let name = inner.to_string_lossy().to_lowercase();
    let mut words = name.split(|c: char| !c.is_ascii_alphanumeric());
    let said = words.find_map(|word| match word {
        "valid" | "validation" | "val" | "dev" => Some(Split::Validation),
        "test" => Some(Split::Test),
        _ => None,
    });
    said.unwrap_or(Split::Train)
}

/// A name in small letters without `.gz`, and its extension.
fn plain_name(path: &Path) -> (String, String) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = name.strip_suffix(".gz").unwrap_or(&name).to_owned();
    let extension = name.rsplit_once('.').map_or(String::new(), |(_, extension)| extension.to_owned());
    (name, extension)
}

fn format_by_name(path: &Path) -> Format {
    let (name, extension) = plain_name(path);
    match extension.as_str() {
        "jsonl" | "ndjson" | "json" => Format::Jsonl,
        "parquet" => Format::Parquet,
        "raw" | "tokens" if name.starts_with("wiki.") => Format::Wikitext,
        _ => Format::Text,
    }
}

/// Whether a file found in a folder is text of the format asked for.
fn wanted(path: &Path, format: Format) -> bool {
    let (name, extension) = plain_name(path);
    let about = ["readme", "license", "licence", "copying", "notice", "sha256sums", "md5sums"];
    match format {
        _ if about.contains(&name.split('.').next().unwrap_or_default()) => false,
        Format::Auto => {
            let text = matches!(extension.as_str(), "" | "txt" | "text" | "md" | "raw" | "tokens");
            text || format_by_name(path) != Format::Text
        }
        Format::Jsonl | Format::Parquet => format_by_name(path) == format,
        Format::Text | Format::Wikitext => true,
    }
}

/// A file of a path from the settings: where it stands, and its name inside the folder that was named; empty for a file that
/// was named itself.
type Found = (PathBuf, PathBuf);

/// The files behind paths, hidden ones left out.
fn walk(paths: &Paths, data: &DataDir, format: Format, passed: &mut Vec<String>) -> Result<Vec<Found>, DataError> {
    let mut found = Vec::new();
    for path in &paths.0 {
        let root = data.0.join(path);
        if !root.exists() {
            let help = help(path, data);
            return Err(DataError::Missing { what: format!("corpus {}", path.display()), looked: vec![root], help });
        }
        if root.is_file() {
            found.push((root, PathBuf::new()));
            continue;
        }
        let before = found.len();
        let walk = walkdir::WalkDir::new(&root).follow_links(true).sort_by_file_name().into_iter();
        let hidden = |name: &std::ffi::OsStr| name.as_encoded_bytes().starts_with(b".");
        for entry in walk.filter_entry(|entry| entry.depth() == 0 || !hidden(entry.file_name())) {
            let entry = entry.map_err(|error| DataError::Unreadable {
                path: error.path().unwrap_or(&root).into(),
                why: error.to_string(),
            })?;
            if !entry.file_type().is_file() {
                continue;
            }
            let inner = entry.path().strip_prefix(&root).expect("a walk stays below its root").to_owned();
            if wanted(entry.path(), format) {
                found.push((entry.into_path(), inner));
            } else {
                passed.push(inner.display().to_string());
            }
        }
        if found.len() == before {
            let why = "holds no text: expected .txt, .jsonl, .parquet, wiki.*.raw or wiki.*.tokens, each also as .gz, or name the \
                       files themselves"
                .into();
            return Err(DataError::Unreadable { path: root, why });
        }
    }
    Ok(found)
}

/// Where the known sets come from.
fn help(path: &Path, data: &DataDir) -> String {
    let folder = data.0.join(path);
    let get = |name: &str, address: &str| {
        let folder = folder.display();
        format!(
            "download it:\n  mkdir -p {folder}\n  curl -fL -o {folder}/{name} {address}\nor name a file or folder in `path`"
        )
    };
    match path.to_str() {
        Some("tinyshakespeare") => get(
            "input.txt",
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        ),
        Some("tinystories") => get(
            "TinyStoriesV2-GPT4-train.txt",
            "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4-train.txt",
        ),
        Some("wikitext2") => format!(
            "put wiki.train.raw, wiki.valid.raw and wiki.test.raw (WikiText-2 raw, from Salesforce/wikitext) into {}, or name a \
             file or folder in `path`",
            folder.display()
        ),
        _ => "a path is absolute or below the data folder (--data DIR); the known sets are wikitext2, tinyshakespeare and \
              tinystories"
            .into(),
    }
}

/// Of a file of a folder that stands there packed as well, only the unpacked one is read.
fn one_of_twins(found: &mut Vec<Found>, notes: &mut Vec<String>) {
    let there: HashSet<PathBuf> = found.iter().map(|(path, _)| path.clone()).collect();
    let mut left = Vec::new();
    found.retain(|(path, inner)| {
        let plain = unpacked(path);
        let twin = !inner.as_os_str().is_empty() && plain != *path && there.contains(&plain);
        left.extend(twin.then(|| inner.display().to_string()));
        !twin
    });
    if !left.is_empty() {
        notes.push(format!("packed files that also stand there unpacked were passed over: {}", some_of(left)));
    }
}

/// How many names there are, and the first ones.
fn some_of(mut names: Vec<String>) -> String {
    let (count, more) = (names.len(), if names.len() > 3 { ", …" } else { "" });
    names.truncate(3);
    format!("{count} ({}{more})", names.join(", "))
}

/// Of WikiText's two forms in one folder one is read: the one with more files, else raw.
fn one_form(found: &mut Vec<Found>, notes: &mut Vec<String>) {
    let ends = |(path, inner): &Found, form: &str| {
        !inner.as_os_str().is_empty() && format_by_name(path) == Format::Wikitext && plain_name(path).1 == form
    };
    let count = |form: &str| found.iter().filter(|file| ends(file, form)).count();
    let (raw, tokens) = (count("raw"), count("tokens"));
    if raw == 0 || tokens == 0 {
        return;
    }
    let (read, left) = if tokens > raw { ("tokens", "raw") } else { ("raw", "tokens") };
    found.retain(|file| !ends(file, left));
    notes.push(format!(
        "the folder holds WikiText's raw and tokens forms ({raw} and {tokens} files); {read} is read: name files in `path` to choose"
    ));
}

/// The files of a corpus.
pub(super) fn list(config: &CorpusConfig, data: &DataDir) -> Result<Sources, DataError> {
    let (mut notes, mut passed) = (Vec::<String>::new(), Vec::new());
    let mut named = |paths: &Paths| -> Result<Vec<Found>, DataError> {
        let mut found = walk(paths, data, config.format, &mut passed)?;
        one_of_twins(&mut found, &mut notes);
        if config.format == Format::Auto {
            one_form(&mut found, &mut notes);
        }
        Ok(found)
    };
    let own = named(&config.path)?;
    let mut groups: [Vec<PathBuf>; 3] = Default::default();
    for (split, paths) in [(Split::Validation, &config.validation), (Split::Test, &config.test)] {
        if let Some(paths) = paths {
            groups[split as usize] = named(paths)?.into_iter().map(|(path, _)| path).collect();
        }
    }
    let explicit = [false, config.validation.is_some(), config.test.is_some()];
    for (path, inner) in own {
        let split = split_by_name(&inner);
        if split == Split::Train {
            groups[0].push(path);
        } else if !explicit[split as usize] {
            groups[split as usize].push(path);
        }
    }
    if !passed.is_empty() {
        notes.push(format!("files that are no text by their names were passed over: {}", some_of(passed)));
    }
    // What validates or tests is not learned from, whichever way it was named, packed or not.
    let canonical = |paths: &[PathBuf]| -> Result<Vec<PathBuf>, DataError> {
        let real = |path: &PathBuf| {
            std::fs::canonicalize(path).map_err(|error| crate::data::formats::unreadable(path, &error))
        };
        paths.iter().map(real).collect()
    };
    let [train, validation, test] = [canonical(&groups[0])?, canonical(&groups[1])?, canonical(&groups[2])?];
    let validates: HashSet<PathBuf> = validation.iter().map(|path| unpacked(path)).collect();
    let apart: HashSet<PathBuf> = validation.iter().chain(&test).map(|path| unpacked(path)).collect();
    if let Some(both) = test.iter().find(|path| validates.contains(&unpacked(path))) {
        let why = "is named for validation and for test; models would be chosen on the test text: name it once".into();
        return Err(DataError::Unreadable { path: both.clone(), why });
    }
    let train: Vec<PathBuf> = train.into_iter().filter(|path| !apart.contains(&unpacked(path))).collect();
    if train.is_empty() {
        let path = config.path.0.first().map_or_else(|| data.0.clone(), |path| data.0.join(path));
        let first = |group: &[PathBuf]| {
            let root = std::fs::canonicalize(&data.0).unwrap_or_else(|_| data.0.clone());
            group.first().map(|file| file.strip_prefix(&root).unwrap_or(file).display().to_string())
        };
        let way = match (first(&validation), first(&test)) {
            (Some(validation), Some(test)) => format!("path: {validation}, test: {test}"),
            (Some(file), None) | (None, Some(file)) => format!("path: {file}"),
            (None, None) => "path: FILE".into(),
        };
        let why = format!(
            "holds no file to learn from: its {} files are validation and test by their names; to learn from one of them, name it: \
             `{way}`",
            apart.len()
        );
        return Err(DataError::Unreadable { path, why });
    }
    let mut held_out = Vec::new();
    let (mut files, mut seen) = (Vec::new(), HashSet::new());
    for (split, paths) in Split::ALL.into_iter().zip([train, validation, test]) {
        if paths.is_empty() {
            held_out.push(split);
        }
        for path in paths {
            if seen.insert(path.clone()) {
                files.push(source(path, split, config.format)?);
            }
        }
    }
    for split in [Split::Validation, Split::Test] {
        let of: Vec<_> = files.iter().filter(|file| file.split == split).collect();
        notes.push(match of.first() {
            None => {
                format!("{}: {} of the documents, held out by the hash of their text", split.name(), config.held_out)
            }
            Some(first) => {
                let name = first.path.file_name().unwrap_or_default().to_string_lossy();
                let more = if of.len() > 1 { format!(" and {} more", of.len() - 1) } else { String::new() };
                format!("{}: {name}{more}", split.name())
            }
        });
    }
    let state = crate::data::prepared::state_of(files.iter().map(|file| file.path.as_path()))?;
    Ok(Sources { files, held_out, notes, state })
}

fn source(path: PathBuf, split: Split, format: Format) -> Result<Source, DataError> {
    let about = std::fs::metadata(&path).map_err(|error| crate::data::formats::unreadable(&path, &error))?;
    let format = if format == Format::Auto { format_by_name(&path) } else { format };
    Ok(Source { path, format, split, bytes: about.len() })
}
