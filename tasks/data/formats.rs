//! The data folder, and readers of the forms in which data sets are published.
//!
//! A data set is a folder, or the archive it was downloaded as; both are read the same way, file by file, and nothing is
//! unpacked to disk.

use crate::DataError;
use crate::data::members::Members;
use crate::data::packed::{gunzip, open};
use crate::data::zip;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Component, Path, PathBuf};

/// Longest line of a table, bytes: a hundred times the longest published.
pub(crate) const LINE: usize = 16 << 20;

/// Longest document that is a file of its own, bytes: a thousand times the longest published.
pub(crate) const DOCUMENT: u64 = 16 << 20;

/// Largest picture file, bytes: 16 times one of 256 x 256 grey pixels that was not packed at all.
pub(crate) const PICTURE: u64 = 1 << 20;

/// Where data sets lie: `--data DIR`, else `MIXARENA_DATA`, else `data/` in the working directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir(pub PathBuf);

impl DataDir {
    /// The first candidate that exists. A candidate is a path below the data folder; its last part may hold one `*`, for
    /// any run of characters, and then the first name in order is taken.
    pub fn find(&self, what: &str, candidates: &[&str], help: &str) -> Result<PathBuf, DataError> {
        candidates.iter().find_map(|candidate| first_match(&self.0.join(candidate))).ok_or_else(|| DataError::Missing {
            what: what.into(),
            looked: candidates.iter().map(|candidate| self.0.join(candidate)).collect(),
            help: help.into(),
        })
    }

    /// The folder or archive a task reads: `path` from its settings (absolute, or below the data folder), else the first
    /// of `candidates`.
    pub fn locate(
        &self,
        what: &str,
        path: Option<&Path>,
        candidates: &[&str],
        help: &str,
    ) -> Result<PathBuf, DataError> {
        let Some(path) = path else { return self.find(what, candidates, help) };
        let path = self.0.join(path);
        if path.exists() {
            return Ok(path);
        }
        Err(DataError::Missing { what: what.into(), looked: vec![path], help: help.into() })
    }
}

/// The path itself, or the first name that its pattern fits.
fn first_match(pattern: &Path) -> Option<PathBuf> {
    let name = pattern.file_name()?.to_str()?;
    let Some((head, tail)) = name.split_once('*') else {
        return pattern.exists().then(|| pattern.to_owned());
    };
    let fits = |name: &OsStr| {
        let name = name.to_string_lossy();
        name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
    };
    let names = fs::read_dir(pattern.parent()?).ok()?.filter_map(Result::ok).map(|entry| entry.file_name());
    let first = names.filter(|name| fits(name)).min()?;
    Some(pattern.with_file_name(first))
}

/// What a visitor of [`visit`] gets of a file.
pub struct Found<'a> {
    /// Path inside the data set, with `/`, without a `.gz` that was undone.
    pub name: &'a str,
    /// For messages: the file, or `archive.tar.gz/inner/path`.
    pub path: PathBuf,
    content: Box<dyn Read + 'a>,
}

impl Found<'_> {
    /// The whole file; an error where it has more than `most` bytes, which `what` never has.
    pub fn bytes(mut self, what: &str, most: u64) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::new();
        let read = self.content.by_ref().take(most + 1).read_to_end(&mut bytes);
        read.map_err(|error| unreadable(&self.path, &error))?;
        if bytes.len() as u64 > most {
            let problem = format!("is longer than {} MiB, which no {what} is; is it the right file?", most >> 20);
            return Err(DataError::Malformed { path: self.path, row: 0, problem });
        }
        Ok(bytes)
    }

    /// Calls `record` with each run of `size` bytes, counted from 1, and gives back the content's hash; the last may be shorter. A
    /// file need not fit in memory.
    pub fn records(
        mut self,
        size: usize,
        mut record: impl FnMut(u64, &[u8]) -> Result<(), DataError>,
    ) -> Result<blake3::Hash, DataError> {
        let (mut hasher, mut bytes) = (blake3::Hasher::new(), Vec::with_capacity(size));
        for number in 1.. {
            bytes.clear();
            let read = self.content.by_ref().take(size as u64).read_to_end(&mut bytes);
            if read.map_err(|error| unreadable(&self.path, &error))? == 0 {
                break;
            }
            hasher.update(&bytes);
            record(number, &bytes)?;
        }
        Ok(hasher.finalize())
    }

    /// Calls `row` with each line, counted from 1, without its line end (LF or CRLF), and gives back the content's hash.
    /// A file need not fit in memory; a line longer than `LINE` is an error.
    pub fn lines(self, mut row: impl FnMut(u64, &[u8]) -> Result<(), DataError>) -> Result<blake3::Hash, DataError> {
        let mut reader = BufReader::with_capacity(1 << 16, self.content);
        let (mut hasher, mut line) = (blake3::Hasher::new(), Vec::new());
        for number in 1.. {
            line.clear();
            if read_line(&mut reader, &mut line, &self.path, number)? == 0 {
                break;
            }
            hasher.update(&line);
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            row(number, text.strip_suffix(b"\r").unwrap_or(text))?;
        }
        Ok(hasher.finalize())
    }
}

/// Reads a line with its end, as [`BufRead::read_until`] does; an error where it is longer than [`LINE`].
pub(crate) fn read_line(
    reader: &mut impl BufRead,
    line: &mut Vec<u8>,
    path: &Path,
    row: u64,
) -> Result<usize, DataError> {
    let read = reader.by_ref().take(LINE as u64 + 1).read_until(b'\n', line);
    let read = read.map_err(|error| unreadable(path, &error))?;
    if read > LINE {
        let problem = format!("a line longer than {} MiB; is it the right file?", LINE >> 20);
        return Err(DataError::Malformed { path: path.into(), row, problem });
    }
    Ok(read)
}

/// Calls `visitor` with every file of a folder or an archive whose name inside it is `wanted`. In an archive the files
/// come in its own order and links are passed over; in a folder `name.gz` counts as `name`. An archive is a zip, or a tar,
/// gzipped or not, whatever its name says.
pub fn visit(
    root: &Path,
    wanted: impl Fn(&str) -> bool,
    visitor: impl FnMut(Found) -> Result<(), DataError>,
) -> Result<(), DataError> {
    if root.is_dir() {
        return visit_folder(root, wanted, visitor);
    }
    if zip::is_zip(root) {
        return visit_zip(root, wanted, visitor);
    }
    visit_archive(root, tar_stream(root)?, wanted, visitor)
}

/// One file as it is.
pub(crate) fn plain_file(path: &Path) -> Result<Found<'static>, DataError> {
    let file = open(path).map_err(|error| unreadable(path, &error))?;
    Ok(Found { name: "", path: path.into(), content: Box::new(file) })
}

/// One file, its gzip undone where its name ends with `.gz`.
pub(crate) fn file(path: &Path) -> Result<Found<'static>, DataError> {
    let found = plain_file(path)?;
    let packed = path.extension().is_some_and(|extension| extension == "gz");
    Ok(if packed { Found { content: Box::new(gunzip(found.content)), ..found } } else { found })
}

/// Which of `names` a path ends with.
pub(crate) fn named<N: AsRef<str>>(names: &[N], path: &str) -> Option<usize> {
    names.iter().position(|name| path.rsplit('/').next() == Some(name.as_ref()))
}

/// Calls `visitor` with each file of a folder or an archive that is called one of `names`, and which of them. Each must be
/// there, and once; `missing` says what to do where one is not.
pub(crate) fn visit_each<N: AsRef<str>>(
    root: &Path,
    names: &[N],
    missing: impl Fn(usize) -> String,
    mut visitor: impl FnMut(usize, Found) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let malformed = |problem| DataError::Malformed { path: root.into(), row: 0, problem };
    let mut there = vec![false; names.len()];
    visit(
        root,
        |path| named(names, path).is_some(),
        |found| {
            let file = named(names, found.name).expect("only wanted files are visited");
            let name = names[file].as_ref();
            if std::mem::replace(&mut there[file], true) {
                return Err(malformed(format!("holds more than one {name}; name the folder to use in `path`")));
            }
            visitor(file, found)
        },
    )?;
    match there.iter().position(|there| !there) {
        Some(file) => Err(malformed(format!("holds no {}; {}", names[file].as_ref(), missing(file)))),
        None => Ok(()),
    }
}

/// Whether a file is an archive that can be read here.
pub fn is_archive(path: &Path) -> bool {
    zip::is_zip(path) || tar_stream(path).is_ok()
}

/// The tar in a file, its gzip undone: known by its content, because the release of Long Range Arena is a gzipped tar
/// published as `lra_release.gz`.
pub fn tar_stream(path: &Path) -> Result<Box<dyn Read>, DataError> {
    let broken = |error: io::Error| unreadable(path, &error);
    let why = |why: &str| Err(DataError::Unreadable { path: path.into(), why: why.into() });
    let mut file = BufReader::with_capacity(1 << 16, open(path).map_err(broken)?);
    let head = file.fill_buf().map_err(broken)?;
    if head.is_empty() {
        return why("is empty (0 bytes); download it again");
    }
    let gzipped = head.starts_with(&[0x1f, 0x8b]);
    let mut stream: Box<dyn Read> = if gzipped { Box::new(gunzip(file)) } else { Box::new(file) };
    let mut block = Vec::with_capacity(TAR_BLOCK);
    stream.by_ref().take(TAR_BLOCK as u64).read_to_end(&mut block).map_err(broken)?;
    if !begins_tar(&block) {
        let name = path.to_string_lossy();
        return match gzipped {
            true => why("is one gzipped file, not a gzipped tar"),
            false if [".tar.gz", ".tgz", ".gz", ".tar"].iter().any(|end| name.ends_with(end)) => {
                why("is damaged (neither a gzipped nor a plain tar); download it again")
            }
            false => why("neither a folder nor a .tar.gz archive"),
        };
    }
    Ok(Box::new(Members::new(io::Cursor::new(block).chain(stream))))
}

/// Bytes of a header.
const TAR_BLOCK: usize = 512;

/// Whether a block is a tar header: its checksum, 8 characters from byte 148, is the sum of all bytes with these as
/// spaces (POSIX.1-1988, ustar). A block of zeros ends an archive, and so begins an empty one.
fn begins_tar(block: &[u8]) -> bool {
    if block.len() < TAR_BLOCK || block.iter().all(|&byte| byte == 0) {
        return block.len() == TAR_BLOCK;
    }
    let digits: String = block[148..156].iter().map(|&byte| char::from(byte)).collect();
    let stated = u32::from_str_radix(digits.trim_matches([' ', '\0']), 8);
    let sum =
        block.iter().enumerate().map(|(i, &byte)| if (148..156).contains(&i) { 32 } else { u32::from(byte) }).sum();
    stated == Ok(sum)
}

fn visit_folder(
    root: &Path,
    wanted: impl Fn(&str) -> bool,
    mut visitor: impl FnMut(Found) -> Result<(), DataError>,
) -> Result<(), DataError> {
    for entry in walkdir::WalkDir::new(root).follow_links(true).sort_by_file_name() {
        let entry = entry.map_err(|error| DataError::Unreadable {
            path: error.path().unwrap_or(root).into(),
            why: error.to_string(),
        })?;
        if !entry.file_type().is_file() {
            continue;
        }
        let path = entry.path();
        let inner = path.strip_prefix(root).expect("a walk stays below its root");
        let parts: Vec<_> = inner.iter().map(OsStr::to_string_lossy).collect();
        let full = parts.join("/");
        let name = full.strip_suffix(".gz").unwrap_or(&full);
        if !wanted(name) {
            continue;
        }
        let file = open(path).map_err(|error| unreadable(path, &error))?;
        let content: Box<dyn Read> = if name == full { Box::new(file) } else { Box::new(gunzip(file)) };
        visitor(Found { name, path: path.into(), content })?;
    }
    Ok(())
}

fn visit_zip(
    root: &Path,
    wanted: impl Fn(&str) -> bool,
    mut visitor: impl FnMut(Found) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let broken = |error: io::Error| unreadable(root, &error);
    for entry in zip::entries(root).map_err(broken)? {
        let name = safe_name(root, Path::new(&entry.name))?;
        if !entry.link && !entry.folder() && wanted(&name) {
            let content = Box::new(entry.open(root).map_err(broken)?);
            visitor(Found { name: &name, path: root.join(&entry.name), content })?;
        }
    }
    Ok(())
}

fn visit_archive(
    root: &Path,
    stream: Box<dyn Read>,
    wanted: impl Fn(&str) -> bool,
    mut visitor: impl FnMut(Found) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let broken = |error: io::Error| unreadable(root, &error);
    let mut archive = tar::Archive::new(stream);
    for entry in archive.entries().map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let inner = entry.path().map_err(broken)?.into_owned();
        let name = safe_name(root, &inner)?;
        if entry.header().entry_type().is_file() && wanted(&name) {
            visitor(Found { name: &name, path: root.join(&inner), content: Box::new(entry) })?;
        }
    }
    // Reads on to the checksum at the end, so that a damaged archive does not pass for a whole one.
    io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(broken)?;
    Ok(())
}

/// An archive's path with `/` between its parts; one that points outside the archive is refused.
fn safe_name(archive: &Path, inner: &Path) -> Result<String, DataError> {
    let parts = inside(inner).ok_or_else(|| {
        let problem = format!("`{}` points outside the archive; nothing was read", inner.display());
        DataError::Malformed { path: archive.into(), row: 0, problem }
    })?;
    Ok(parts.join("/"))
}

/// The parts of a path that stays inside its archive.
pub(crate) fn inside(path: &Path) -> Option<Vec<String>> {
    let mut parts = Vec::new();
    for part in path.components() {
        match part {
            Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(parts)
}

/// The system's error in words that say what to do.
pub(crate) fn unreadable(path: &Path, error: &io::Error) -> DataError {
    let why = match error.kind() {
        io::ErrorKind::UnexpectedEof => format!("ends early ({error}); download it again"),
        io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData => format!("is damaged ({error}); download it again"),
        _ => error.to_string(),
    };
    DataError::Unreadable { path: path.into(), why }
}

/// One hash over named content hashes, in the order of the names, as hex.
pub(crate) fn fingerprint(files: &BTreeMap<String, blake3::Hash>) -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, content) in files {
        hasher.update(name.as_bytes()).update(b"\0").update(content.as_bytes());
    }
    hasher.finalize().to_hex().to_string()
}

/// For messages: the start of a line, with what cannot be printed made visible.
pub(crate) fn shorten(line: &[u8]) -> String {
    let head: String = String::from_utf8_lossy(line).chars().take(40).flat_map(char::escape_debug).collect();
    if line.len() > 40 { format!("`{head}…`") } else { format!("`{head}`") }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use flate2::bufread::MultiGzDecoder;
    use flate2::{Compression, write::GzEncoder};

    /// A `.tar.gz` of these files.
    pub(crate) fn archive(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        for (name, content) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(content.len() as u64);
            header.set_mode(0o644);
            // Not `append_data`, which would refuse the paths that must be refused when reading.
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            tar.append(&header, *content).unwrap();
        }
        tar.into_inner().unwrap().finish().unwrap()
    }

    /// What is said to be missing where there are no data, with the places looked in and the help.
    pub(crate) fn missing<T: std::fmt::Debug>(
        open: impl FnOnce(&DataDir) -> Result<T, DataError>,
    ) -> (String, Vec<PathBuf>, String) {
        match open(&DataDir("no/such/folder".into())).unwrap_err() {
            DataError::Missing { what, looked, help } => (what, looked, help),
            other => panic!("{other}"),
        }
    }

    /// How many sets are prepared in a data folder; locks are no sets.
    pub(crate) fn prepared_sets(data: &Path) -> usize {
        let entries = fs::read_dir(data.join(".prepared")).unwrap();
        entries.filter(|entry| entry.as_ref().unwrap().file_type().unwrap().is_dir()).count()
    }

    /// Writes a file, with its folders.
    pub(crate) fn put(folder: &Path, name: &str, content: &[u8]) -> PathBuf {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path
    }

    fn names(root: &Path) -> Result<Vec<(String, Vec<u8>)>, DataError> {
        let mut all = Vec::new();
        visit(
            root,
            |_| true,
            |found| {
                all.push((found.name.to_owned(), found.bytes("file", DOCUMENT)?));
                Ok(())
            },
        )?;
        Ok(all)
    }

    #[test]
    fn a_folder_and_its_archive_hold_the_same_files() {
        let folder = tempfile::tempdir().unwrap();
        let files: [(&str, &[u8]); 2] = [("a/one.txt", b"1"), ("two.txt", b"22")];
        for (name, content) in files {
            put(folder.path(), &format!("set/{name}"), content);
        }
        let packed = put(folder.path(), "set.tar.gz", &archive(&files));
        let loose = names(&folder.path().join("set")).unwrap();
        assert_eq!(loose, [("a/one.txt".into(), b"1".to_vec()), ("two.txt".into(), b"22".to_vec())]);
        assert_eq!(loose, names(&packed).unwrap());
    }

    #[test]
    fn an_archive_is_known_by_its_content_whatever_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let files: [(&str, &[u8]); 2] = [("a/one.txt", b"1"), ("two.txt", b"22")];
        let (packed, mut plain) = (archive(&files), Vec::new());
        MultiGzDecoder::new(&packed[..]).read_to_end(&mut plain).unwrap();
        let expected = [("a/one.txt".to_owned(), b"1".to_vec()), ("two.txt".to_owned(), b"22".to_vec())];
        for (name, content) in [("set.gz", &packed), ("set.tgz", &packed), ("set", &packed), ("set.tar", &plain)] {
            assert_eq!(names(&put(folder.path(), name, content)).unwrap(), expected, "{name}");
        }
        let cut = put(folder.path(), "cut.tar", &plain[..plain.len() / 2 - 100]);
        assert!(names(&cut).is_err());
    }

    #[test]
    fn a_zip_archive_holds_the_same_files_and_none_outside_itself() {
        use crate::data::zip::tests::zipped;
        let folder = tempfile::tempdir().unwrap();
        let files: [(&str, &[u8]); 4] =
            [("a/", b""), ("a/one.txt", b"1"), ("link@", b"/etc/passwd"), ("two.txt", b"22")];
        let path = put(folder.path(), "set.zip", &zipped(&files));
        assert!(is_archive(&path));
        assert_eq!(names(&path).unwrap(), [("a/one.txt".into(), b"1".to_vec()), ("two.txt".into(), b"22".to_vec())]);
        let evil = put(folder.path(), "evil.zip", &zipped(&[("../evil.txt", b"x")]));
        let error = names(&evil).unwrap_err().to_string();
        assert!(error.ends_with("`../evil.txt` points outside the archive; nothing was read"), "{error}");
        let whole = zipped(&files);
        let cut = put(folder.path(), "cut.zip", &whole[..whole.len() / 2]);
        let error = names(&cut).unwrap_err().to_string();
        assert!(error.ends_with("is damaged (no central directory at its end); download it again"), "{error}");
    }

    #[test]
    fn a_gzipped_file_in_a_folder_reads_as_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let mut packed = Vec::new();
        flate2::read::GzEncoder::new(&b"x\ty\n"[..], Compression::fast()).read_to_end(&mut packed).unwrap();
        put(folder.path(), "rows.tsv.gz", &packed);
        assert_eq!(names(folder.path()).unwrap(), [("rows.tsv".into(), b"x\ty\n".to_vec())]);
    }

    #[test]
    fn an_archive_that_reaches_outside_itself_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["../evil.txt", "/etc/evil.txt", "a/../../evil.txt"] {
            let path = put(folder.path(), "set.tar.gz", &archive(&[(name, b"x")]));
            let error = names(&path).unwrap_err().to_string();
            assert!(
                error.ends_with(&format!("set.tar.gz: `{name}` points outside the archive; nothing was read")),
                "{error}"
            );
        }
    }

    #[test]
    fn a_pipe_in_place_of_a_data_set_or_of_one_of_its_files_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("set.tar.gz");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        assert!(!is_archive(&pipe) && !zip::is_zip(&pipe));
        let said = "set.tar.gz: is not a regular file, but a folder, a pipe or a device";
        for error in
            [names(&pipe).unwrap_err(), plain_file(&pipe).map(drop).unwrap_err(), file(&pipe).map(drop).unwrap_err()]
        {
            assert!(error.to_string().ends_with(said), "{error}");
        }
        assert!(zip::entries(&pipe).is_err());
        assert_eq!(names(folder.path()).unwrap(), [], "a walk passes over it");
    }

    #[test]
    fn links_in_an_archive_are_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        tar.append_link(&mut header, "passwords", "/etc/passwd").unwrap();
        let path = put(folder.path(), "set.tar.gz", &tar.into_inner().unwrap().finish().unwrap());
        assert_eq!(names(&path).unwrap(), []);
    }

    #[test]
    fn an_archive_cut_anywhere_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let noise: Vec<u8> = (0..20_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let whole = archive(&[("a.txt", &noise), ("b.txt", &noise)]);
        for cut in [5, 100, whole.len() / 2, whole.len() - 600, whole.len() - 4, whole.len() - 1] {
            let path = put(folder.path(), "set.tar.gz", &whole[..cut]);
            let error = names(&path).unwrap_err().to_string();
            assert!(error.contains("download it again"), "cut at {cut}: {error}");
        }
    }

    #[test]
    fn what_is_not_an_archive_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = put(folder.path(), "set.zip", b"PK");
        assert!(names(&path).unwrap_err().to_string().ends_with("set.zip: neither a folder nor a .tar.gz archive"));
        let path = put(folder.path(), "page.tar.gz", b"<html>not found</html>");
        let error = names(&path).unwrap_err().to_string();
        assert!(error.contains("page.tar.gz: is damaged") && error.contains("download it again"), "{error}");
        let mut packed = Vec::new();
        flate2::read::GzEncoder::new(&b"x\ty\n"[..], Compression::fast()).read_to_end(&mut packed).unwrap();
        let path = put(folder.path(), "rows.tsv.gz", &packed);
        assert!(names(&path).unwrap_err().to_string().ends_with("is one gzipped file, not a gzipped tar"));
        let path = put(folder.path(), "set.tar.gz", b"");
        assert!(names(&path).unwrap_err().to_string().ends_with("is empty (0 bytes); download it again"));
    }

    #[test]
    fn the_first_candidate_that_exists_is_found_and_a_star_takes_the_first_name() {
        let folder = tempfile::tempdir().unwrap();
        let data = DataDir(folder.path().into());
        for name in ["sets/b-2.tar.gz", "sets/b-1.tar.gz", "sets/b-0.zip", "last/x"] {
            put(folder.path(), name, b"");
        }
        let found = data.find("it", &["none", "sets/b*.tar.gz", "last"], "").unwrap();
        assert_eq!(found, folder.path().join("sets/b-1.tar.gz"));
        assert_eq!(data.find("it", &["none", "last"], "").unwrap(), folder.path().join("last"));
    }

    #[test]
    fn missing_data_lists_every_place_and_the_help() {
        let data = DataDir("no/such/folder".into());
        let error = data.find("the set", &["a", "b*.tar.gz"], "get it").unwrap_err();
        let DataError::Missing { looked, help, .. } = &error else { panic!("{error}") };
        assert_eq!(error.to_string(), "the set not found");
        assert_eq!(looked, &[PathBuf::from("no/such/folder/a"), PathBuf::from("no/such/folder/b*.tar.gz")]);
        assert_eq!(help, "get it");
    }

    #[test]
    fn lines_end_with_lf_or_crlf_or_the_file() {
        let folder = tempfile::tempdir().unwrap();
        put(folder.path(), "x", b"one\r\ntwo\n\nthree");
        let mut seen = Vec::new();
        visit(
            folder.path(),
            |_| true,
            |found| {
                found.lines(|row, line| {
                    seen.push((row, String::from_utf8_lossy(line).into_owned()));
                    Ok(())
                })?;
                Ok(())
            },
        )
        .unwrap();
        assert_eq!(seen, [(1, "one".into()), (2, "two".into()), (3, String::new()), (4, "three".into())]);
    }
}
