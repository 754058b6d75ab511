//! Archives unpacked without trusting them.
//!
//! Nothing is written outside the folder: no absolute path, no `..`, no link that points out, no device. Links that stay
//! inside are left out and counted. Everything goes to a folder of its own and moves to its place when it is whole.

use super::{Event, FetchError, io_error};
use crate::data::{formats, zip};
use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};
use tar::EntryType;

/// What an archive held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Links inside the archive, left out.
    pub links: u64,
    /// What is new in the folder.
    pub paths: Vec<PathBuf>,
}

/// Unpacks a zip, or a tar, gzipped or not, into `folder`.
pub fn unpack(archive: &Path, folder: &Path, watch: &mut dyn FnMut(Event)) -> Result<Unpacked, FetchError> {
    let name = archive.file_name().unwrap_or_default().to_string_lossy();
    let part = &folder.join(format!(".{name}.unpacking"));
    let mut unpacking =
        Unpacking { archive, folder, part, watch, tops: BTreeSet::new(), unpacked: Unpacked::default() };
    let written = clear(part).and_then(|()| if zip::is_zip(archive) { unpacking.zip() } else { unpacking.tar() });
    let done = written.and_then(|()| unpacking.moved());
    let cleared = clear(part);
    let done = done?;
    cleared.map(|()| done)
}

fn clear(part: &Path) -> Result<(), FetchError> {
    match fs::remove_dir_all(part) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(part, &error)),
        _ => Ok(()),
    }
}

/// An archive that is being written below `part`.
struct Unpacking<'a> {
    archive: &'a Path,
    folder: &'a Path,
    part: &'a Path,
    watch: &'a mut dyn FnMut(Event),
    /// Names at the top.
    tops: BTreeSet<String>,
    unpacked: Unpacked,
}

impl Unpacking<'_> {
    fn tar(&mut self) -> Result<(), FetchError> {
        let archive = self.archive;
        let damaged = |error: io::Error| damaged(archive, &error);
        let stream = formats::tar_stream(archive)
            .map_err(|error| FetchError::refused(error.to_string(), "nothing was unpacked"))?;
        let mut tar = tar::Archive::new(stream);
        for entry in tar.entries().map_err(damaged)? {
            let mut entry = entry.map_err(damaged)?;
            let inner = entry.path().map_err(damaged)?.into_owned();
            let kind = entry.header().entry_type();
            let parts = formats::inside(&inner).ok_or_else(|| evil(archive, &inner, OUTSIDE))?;
            if parts.is_empty() {
                continue; // the archive's own folder, `./`
            }
            match kind {
                EntryType::Symlink | EntryType::Link => {
                    let target = entry.link_name().map_err(damaged)?.unwrap_or_default().into_owned();
                    if !stays_inside(&parts, &target, kind) {
                        let what = format!("is a link to `{}`, which points outside the archive", target.display());
                        return Err(evil(archive, &inner, &what));
                    }
                    self.unpacked.links += 1;
                }
                EntryType::Directory => self.make(&parts)?,
                EntryType::Regular | EntryType::Continuous => self.write(&parts, &mut entry)?,
                EntryType::XGlobalHeader => {}
                _ => return Err(evil(archive, &inner, "is a device or another thing that is no file")),
            }
        }
        // Reads on to the checksum at the end.
        io::copy(&mut tar.into_inner(), &mut io::sink()).map_err(damaged)?;
        Ok(())
    }

    fn zip(&mut self) -> Result<(), FetchError> {
        let archive = self.archive;
        let damaged = |error: io::Error| damaged(archive, &error);
        for entry in zip::entries(archive).map_err(damaged)? {
            let inner = Path::new(&entry.name);
            let parts = formats::inside(inner).ok_or_else(|| evil(archive, inner, OUTSIDE))?;
            if parts.is_empty() {
                continue;
            }
            if entry.link {
                self.unpacked.links += 1; // left out, wherever it points
            } else if entry.folder() {
                self.make(&parts)?;
            } else {
                self.write(&parts, &mut entry.open(archive).map_err(damaged)?)?;
            }
        }
        Ok(())
    }

    /// Where a file or folder is written; an error where something has its name at the top already.
    fn place(&mut self, parts: &[String]) -> Result<PathBuf, FetchError> {
        let there = self.folder.join(&parts[0]);
        if self.tops.insert(parts[0].clone()) && there.exists() {
            let problem = format!("{} is there already; nothing was unpacked", there.display());
            return Err(FetchError::refused(problem, "move it away first"));
        }
        Ok(parts.iter().fold(self.part.to_owned(), |place, name| place.join(name)))
    }

    fn make(&mut self, parts: &[String]) -> Result<(), FetchError> {
        let place = self.place(parts)?;
        fs::create_dir_all(&place).map_err(|error| io_error(&place, &error))
    }

    fn write(&mut self, parts: &[String], content: &mut impl Read) -> Result<(), FetchError> {
        let place = self.place(parts)?;
        let unwritable = |error: io::Error| io_error(&place, &error);
        fs::create_dir_all(place.parent().expect("a file lies in a folder")).map_err(unwritable)?;
        let mut file = File::create(&place).map_err(unwritable)?;
        let mut buffer = vec![0; 1 << 16];
        loop {
            match content.read(&mut buffer).map_err(|error| damaged(self.archive, &error))? {
                0 => break,
                n => {
                    io::Write::write_all(&mut file, &buffer[..n]).map_err(unwritable)?;
                    self.unpacked.bytes += n as u64;
                }
            }
        }
        self.unpacked.files += 1;
        (self.watch)(Event::Bytes(self.unpacked.bytes));
        Ok(())
    }

    /// Moves everything to its place; an error where that is nothing.
    fn moved(mut self) -> Result<Unpacked, FetchError> {
        if self.tops.is_empty() {
            let problem = format!("{}: holds no files", self.archive.display());
            return Err(FetchError::refused(problem, "download it again"));
        }
        for top in self.tops {
            let place = self.folder.join(&top);
            fs::rename(self.part.join(&top), &place).map_err(|error| io_error(&place, &error))?;
            self.unpacked.paths.push(place);
        }
        Ok(self.unpacked)
    }
}

fn damaged(archive: &Path, error: &io::Error) -> FetchError {
    if error.kind() == io::ErrorKind::Unsupported {
        let problem = format!("{}: {error}; nothing was unpacked", archive.display());
        return FetchError::refused(
            problem,
            "do not use this archive; fetch the set from its own address, or unpack it yourself",
        );
    }
    let help = "download it again; nothing was unpacked";
    FetchError::refused(format!("{}: damaged or cut short ({error})", archive.display()), help)
}

/// What is wrong with a path that [`formats::inside`] refuses.
const OUTSIDE: &str = "points outside the archive";

fn evil(archive: &Path, inner: &Path, what: &str) -> FetchError {
    let problem = format!("{}: `{}` {what}; nothing was unpacked", archive.display(), inner.display());
    FetchError::refused(problem, "do not use this archive; fetch the set from its own address")
}

/// Whether a link's target lies in the archive: a symbolic link counts from its own folder, a hard link from the top.
fn stays_inside(link: &[String], target: &Path, kind: EntryType) -> bool {
    let mut depth = if kind == EntryType::Symlink { link.len() - 1 } else { 0 };
    for part in target.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::formats::tests::{archive, put};

    fn tried(bytes: &[u8], name: &str) -> (tempfile::TempDir, Result<Unpacked, FetchError>) {
        let folder = tempfile::tempdir().unwrap();
        let path = put(folder.path(), &format!("down/{name}"), bytes);
        let place = folder.path().join("data");
        fs::create_dir(&place).unwrap();
        let done = unpack(&path, &place, &mut |_| {});
        (folder, done)
    }

    fn with_entry(kind: EntryType, name: &str, target: &str) -> Vec<u8> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(0);
        header.set_mode(0o644);
        match kind {
            EntryType::Symlink | EntryType::Link => tar.append_link(&mut header, name, target).unwrap(),
            _ => tar.append_data(&mut header, name, io::empty()).unwrap(),
        }
        let mut file = tar::Header::new_gnu();
        file.set_size(1);
        file.set_mode(0o644);
        tar.append_data(&mut file, "set/a.txt", &b"a"[..]).unwrap();
        tar.into_inner().unwrap()
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn files_come_out_whatever_the_archive_is_called() {
        for name in ["set.tar.gz", "set.gz", "set"] {
            let (folder, done) = tried(&archive(&[("set/a.txt", b"a"), ("set/b/c.txt", b"bc")]), name);
            let place = folder.path().join("data");
            let expected = Unpacked { files: 2, bytes: 3, links: 0, paths: vec![place.join("set")] };
            assert_eq!(done.unwrap(), expected);
            assert_eq!(fs::read(place.join("set/b/c.txt")).unwrap(), b"bc");
            assert_eq!(names(&place), ["set"]);
        }
    }

    #[test]
    fn nothing_is_written_when_anything_points_out() {
        let link = EntryType::Symlink;
        for (bytes, said) in [
            (archive(&[("set/a", b"a"), ("../evil", b"x")]), "`../evil` points outside the archive"),
            (archive(&[("/etc/evil", b"x")]), "`/etc/evil` points outside the archive"),
            (with_entry(link, "set/l", "/etc/passwd"), "`set/l` is a link to `/etc/passwd`, which points outside"),
            (with_entry(link, "set/l", "../../x"), "`set/l` is a link to `../../x`, which points outside"),
            (with_entry(EntryType::Link, "set/l", "../x"), "`set/l` is a link to `../x`, which points outside"),
            (with_entry(EntryType::Fifo, "set/p", ""), "`set/p` is a device or another thing that is no file"),
            (with_entry(EntryType::Char, "set/null", ""), "`set/null` is a device or another thing that is no file"),
        ] {
            let (folder, done) = tried(&bytes, "set.tar");
            let error = done.unwrap_err().to_string();
            assert!(error.contains(said) && error.ends_with("nothing was unpacked"), "{error}");
            assert!(names(&folder.path().join("data")).is_empty() && names(folder.path()) == ["data", "down"]);
        }
    }

    #[test]
    fn a_sparse_file_and_a_name_of_more_than_a_mebibyte_are_refused_before_they_grow() {
        use crate::data::members::tests::{sparse, with_member};
        for (bytes, said) in [
            (sparse(), "`set/odd` is a sparse file"),
            (
                with_member(EntryType::GNULongName, 1 << 40, b""),
                "`set/odd` names another file with 1099511627776 bytes",
            ),
        ] {
            let (folder, done) = tried(&bytes, "set.tar");
            let error = done.unwrap_err().to_string();
            assert!(error.contains(said) && error.ends_with("nothing was unpacked"), "{error}");
            assert!(names(&folder.path().join("data")).is_empty());
        }
    }

    #[test]
    fn a_zip_is_unpacked_as_a_tar_is() {
        use crate::data::zip::tests::zipped;
        let files: [(&str, &[u8]); 4] =
            [("set/", b""), ("set/a.txt", b"a"), ("set/l@", b"../../x"), ("set/b/c.txt", b"bc")];
        let (folder, done) = tried(&zipped(&files), "set.zip");
        let place = folder.path().join("data");
        let expected = Unpacked { files: 2, bytes: 3, links: 1, paths: vec![place.join("set")] };
        assert_eq!(done.unwrap(), expected);
        assert_eq!((names(&place.join("set")), fs::read(place.join("set/b/c.txt")).unwrap()), {
            (vec!["a.txt".into(), "b".into()], b"bc".to_vec())
        });
        let whole = zipped(&files);
        for (bytes, said) in [
            (
                zipped(&[("set/a", b"a"), ("../evil", b"x")]),
                "`../evil` points outside the archive; nothing was unpacked",
            ),
            (whole[..whole.len() / 2].to_vec(), "damaged or cut short (no central directory at its end)"),
            (zipped(&[]), "holds no files"),
        ] {
            let (folder, done) = tried(&bytes, "set.zip");
            let error = done.unwrap_err().to_string();
            assert!(error.ends_with(said), "{error}");
            assert!(names(&folder.path().join("data")).is_empty());
        }
    }

    #[test]
    fn a_link_inside_is_left_out_and_counted() {
        let (folder, done) = tried(&with_entry(EntryType::Symlink, "set/deep/l", "../a.txt"), "set.tar");
        let done = done.unwrap();
        assert_eq!((done.files, done.links), (1, 1));
        assert_eq!(names(&folder.path().join("data/set")), ["a.txt"]);
    }

    #[test]
    fn what_is_there_already_is_not_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = put(folder.path(), "set.tar.gz", &archive(&[("set/a.txt", b"new")]));
        put(folder.path(), "set/a.txt", b"old");
        let error = unpack(&path, folder.path(), &mut |_| {}).unwrap_err().to_string();
        assert!(error.ends_with("set is there already; nothing was unpacked"), "{error}");
        assert_eq!(fs::read(folder.path().join("set/a.txt")).unwrap(), b"old");
    }

    #[test]
    fn an_archive_cut_short_leaves_nothing() {
        let noise: Vec<u8> = (0..20_000_u32).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
        let whole = archive(&[("set/a.txt", &noise)]);
        for cut in [0, 5, 300, whole.len() / 2, whole.len() - 4] {
            let (folder, done) = tried(&whole[..cut], "set.tar.gz");
            let error = done.unwrap_err().to_string();
            assert!(["damaged", "ends early", "is empty"].iter().any(|word| error.contains(word)), "{cut}: {error}");
            assert!(names(&folder.path().join("data")).is_empty());
        }
    }
}
