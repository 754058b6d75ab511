//! Downloads of data sets: resumable, checked while they stream, pinned when they are accepted.
//!
//! ```text
//! DATA/TARGET.part          what has come so far; held by a lock while somebody writes it
//! DATA/TARGET.part.json     where it comes from, and what tells this version of it (size, ETag, Last-Modified)
//! DATA/TARGET.refused       whole, of the right size, and not what was published; gone once the right one is there
//! DATA/fetch.lock.json      size, SHA-256, address and date of every file that was accepted
//! ```
//! A file gets its name only when it is whole and right. It is right when it equals its pin, else when it equals what the
//! manifest says; where nothing was published the first one is trusted and pinned.

pub mod manifest;
pub mod pins;
mod transfer;
mod unpack;

pub use manifest::{Checksum, DataSet, RemoteFile, SETS};
pub use pins::Pin;
pub use unpack::{Unpacked, unpack};

use crate::DataDir;
use crate::data::prepared::is_at;
use fs4::FileExt;
use md5::Md5;
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Why a file was not fetched.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct FetchError {
    /// What it means for the caller.
    pub kind: FailureKind,
    /// What is wrong.
    pub problem: String,
    /// What to do.
    pub help: String,
}

/// Kinds of [`FetchError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureKind {
    /// The server cannot be reached, or the connection breaks again and again: the commands can be run elsewhere.
    Unreachable,
    /// The disk is full, or cannot be written.
    Disk,
    /// What came is not what was published or pinned.
    Refused,
}

impl FetchError {
    fn new(kind: FailureKind, problem: impl Into<String>, help: impl Into<String>) -> Self {
        Self { kind, problem: problem.into(), help: help.into() }
    }

    fn refused(problem: impl Into<String>, help: impl Into<String>) -> Self {
        Self::new(FailureKind::Refused, problem, help)
    }
}

/// The system's error about a file, in words that say what to do.
fn io_error(path: &Path, error: &io::Error) -> FetchError {
    let full = matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded);
    let problem = match full {
        true => format!("{}: the disk is full ({error})", path.display()),
        false => format!("{}: {error}", path.display()),
    };
    let help = match full {
        true => "make room, or name another folder with --data; the same command continues where this one stopped",
        false => "look at the path and its permissions, or name another folder with --data",
    };
    FetchError::new(FailureKind::Disk, problem, help)
}

/// How to fetch.
#[derive(Clone, Debug)]
pub struct Options {
    /// Stands in for scheme and host of every address: `http://mirror.example/lra`.
    pub mirror: Option<String>,
    /// Takes and pins a file that is not what was published or pinned.
    pub accept: bool,
    /// Most bytes to take of a file; `None`: see [`most`].
    pub most: Option<u64>,
    /// Further tries, one after the other, in which nothing new comes.
    pub retries: u32,
    /// Before the first further try; doubled before each next one, up to a minute.
    pub pause: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { mirror: None, accept: false, most: None, retries: 5, pause: Duration::from_secs(1) }
    }
}

/// What a watcher hears while a file comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// Bytes that were there already, and the size, where the server tells it.
    Begin(u64, Option<u64>),
    /// Bytes so far.
    Bytes(u64),
    /// A remark: a try that broke, a file that changed at the server.
    Remark(&'a str),
}

/// Why a file is held to be right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Basis {
    /// It equals its pin.
    Pinned,
    /// It has the published checksum.
    Published,
    /// Nothing is published: it is the first, and now pinned.
    FirstUse,
    /// The user took it against the published or pinned checksum.
    Accepted,
}

/// A file that is there and right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetched {
    /// Where.
    pub path: PathBuf,
    /// Whether it was there before.
    pub present: bool,
    /// Why it is right.
    pub basis: Basis,
    /// Its size.
    pub bytes: u64,
    /// Its SHA-256, as hex.
    pub sha256: String,
}

/// Where `file` is fetched from.
pub fn address(file: &RemoteFile, mirror: Option<&str>) -> String {
    let Some(mirror) = mirror else { return file.url.into() };
    let rest = file.url.split_once("://").map_or(file.url, |(_, rest)| rest);
    let path = rest.find('/').map_or("", |at| &rest[at..]);
    format!("{}{path}", mirror.trim_end_matches('/'))
}

/// Most bytes that are taken of a file: what the user says, else its size where that is pinned or published, else a gigabyte and
/// twice what it is thought to have.
pub fn most(data: &DataDir, file: &RemoteFile, options: &Options) -> Result<u64, FetchError> {
    let generous = 2 * file.about_bytes.max(file.bytes.unwrap_or(0)) + (1 << 30);
    let known = sizes(data, file, options)?.into_iter().max();
    Ok(options.most.or(known).unwrap_or(generous))
}

/// The sizes that a right file may have: that of its pin, which the user may have accepted against what is published, then the
/// published one. None where any file is taken.
fn sizes(data: &DataDir, file: &RemoteFile, options: &Options) -> Result<Vec<u64>, FetchError> {
    if options.accept {
        return Ok(Vec::new());
    }
    let pinned = pins::read(&data.0)?.get(file.target).map(|pin| pin.bytes);
    Ok(pinned.into_iter().chain(file.bytes).collect())
}

/// Refuses a file of a wrong size before it is downloaded. Where neither a size is published nor a pin was accepted against
/// one, the sum decides in the end.
fn expected(url: &str, offered: Option<u64>, file: &RemoteFile, sizes: &[u64]) -> Result<(), FetchError> {
    let (Some(offered), Some(wanted), Some(_)) = (offered, sizes.first(), file.bytes) else { return Ok(()) };
    if sizes.contains(&offered) {
        return Ok(());
    }
    let problem = format!("{url}: the server offers {offered} bytes, and {wanted} are expected");
    Err(FetchError::refused(problem, "the address may have moved; to take it all the same, add --accept-checksum"))
}

/// Refuses what is longer than it may be.
fn too_long(from: &str, most: u64) -> FetchError {
    let problem = format!("{from}: is longer than {most} bytes, the most that is taken of this file; nothing was kept");
    FetchError::refused(problem, "if it is what it should be, take it with --max-bytes N (and --accept-checksum)")
}

/// Fetches one file; with it there and right, does nothing but look.
pub fn fetch(
    data: &DataDir,
    file: &RemoteFile,
    options: &Options,
    watch: &mut dyn FnMut(Event),
) -> Result<Fetched, FetchError> {
    if data.0.join(file.target).is_file() {
        return present(data, file, options);
    }
    let url = address(file, options.mirror.as_deref());
    let limits = transfer::Limits { most: most(data, file, options)?, sizes: sizes(data, file, options)? };
    let mut part = Part::open(data, file)?;
    let sums = match transfer::transfer(&mut part, file, &url, &limits, options, watch) {
        Ok(sums) => sums,
        Err(error) => {
            if part.length == 0 {
                part.remove()?;
            }
            return Err(error);
        }
    };
    settle(data, file, part, &sums, &url, options)
}

/// Takes a file that was downloaded elsewhere through the same checks; `from` stays as it is.
pub fn take(
    data: &DataDir,
    file: &RemoteFile,
    from: &Path,
    options: &Options,
    watch: &mut dyn FnMut(Event),
) -> Result<Fetched, FetchError> {
    if data.0.join(file.target).is_file() {
        return present(data, file, options);
    }
    let mut source = File::open(from).map_err(|error| io_error(from, &error))?;
    let size = source.metadata().map_err(|error| io_error(from, &error))?.len();
    let most = options.most.unwrap_or(u64::MAX); // the size of what is here already is known, and checked in the end
    let mut part = Part::open(data, file)?;
    part.restart()?;
    room(&part.path, size)?;
    watch(Event::Begin(0, Some(size)));
    let mut sums = Summer::new(file.checksum);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let n = source.read(&mut buffer).map_err(|error| io_error(from, &error))?;
        if n == 0 {
            break;
        }
        if part.length + n as u64 > most {
            part.remove()?;
            return Err(too_long(&from.to_string_lossy(), most));
        }
        part.append(&buffer[..n])?;
        sums.update(&buffer[..n]);
        watch(Event::Bytes(sums.bytes));
    }
    settle(data, file, part, &sums.finish(), &from.to_string_lossy(), options)
}

/// Whether a download of this file would be taken on trust: it is not there, and neither a published checksum nor a pin
/// says what it must be.
pub fn is_first_use(data: &DataDir, file: &RemoteFile) -> Result<bool, FetchError> {
    let known = file.checksum.is_some() || data.0.join(file.target).is_file();
    Ok(!known && !pins::read(&data.0)?.contains_key(file.target))
}

/// Looks at a file that has its name already.
fn present(data: &DataDir, file: &RemoteFile, options: &Options) -> Result<Fetched, FetchError> {
    let path = data.0.join(file.target);
    let sums = sums_of(&path, file.checksum)?;
    let basis = judge(data, file, &sums, options).map_err(|mut error| {
        error.problem = format!("{}: {}", path.display(), error.problem);
        error.help = format!("move it away and fetch again; {}", error.help);
        error
    })?;
    if basis != Basis::Pinned {
        pin(data, file, &sums, file.url, basis)?;
    }
    Ok(Fetched { path, present: true, basis, bytes: sums.bytes, sha256: sums.sha256 })
}

/// Gives a whole file its name, or refuses it.
fn settle(
    data: &DataDir,
    file: &RemoteFile,
    part: Part,
    sums: &Sums,
    from: &str,
    options: &Options,
) -> Result<Fetched, FetchError> {
    let path = data.0.join(file.target);
    let basis = match judge(data, file, sums, options) {
        Ok(basis) => basis,
        Err(error) => {
            // Only what may be the right file after all is kept.
            let sizes = sizes(data, file, options)?;
            let kept = if file.bytes.is_none() || sizes.is_empty() || sizes.contains(&sums.bytes) {
                let refused = with_suffix(&path, ".refused");
                part.rename(&refused)?;
                format!("kept as {}, not used", refused.display())
            } else {
                part.remove()?;
                "nothing was kept".into()
            };
            let problem = format!("{from}: {}; {kept}", error.problem);
            return Err(FetchError { problem, ..error });
        }
    };
    part.rename(&path)?;
    let refused = with_suffix(&path, ".refused");
    // One that the user names is theirs.
    let left = if Path::new(from) == refused { Ok(()) } else { fs::remove_file(&refused) };
    match left {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(&refused, &error)),
        _ => {}
    }
    pin(data, file, sums, from, basis)?;
    Ok(Fetched { path, present: false, basis, bytes: sums.bytes, sha256: sums.sha256.clone() })
}

fn pin(data: &DataDir, file: &RemoteFile, sums: &Sums, from: &str, basis: Basis) -> Result<(), FetchError> {
    let pin = Pin {
        url: from.into(),
        bytes: sums.bytes,
        sha256: sums.sha256.clone(),
        date: pins::now(),
        accepted: basis == Basis::Accepted,
        trusted: basis == Basis::FirstUse,
    };
    pins::write(&data.0, file.target, pin)
}

/// Whether a whole file may be used, and why.
fn judge(data: &DataDir, file: &RemoteFile, sums: &Sums, options: &Options) -> Result<Basis, FetchError> {
    let pins = pins::read(&data.0)?;
    let pinned = pins.get(file.target);
    if pinned.is_some_and(|pin| pin.sha256 == sums.sha256) {
        return Ok(Basis::Pinned);
    }
    let (basis, wrong) = match against_manifest(file, sums) {
        Err(wrong) => (Basis::Accepted, Some(wrong)),
        Ok(()) if file.checksum.is_some() => (Basis::Published, None),
        Ok(()) => (Basis::FirstUse, pinned.map(|pin| against_pin(pin, sums))),
    };
    match wrong {
        None => Ok(basis),
        Some(_) if options.accept => Ok(Basis::Accepted),
        Some(wrong) => Err(wrong),
    }
}

fn against_manifest(file: &RemoteFile, sums: &Sums) -> Result<(), FetchError> {
    let source = file.published_in.map_or(String::new(), |source| format!(" (published in {source})"));
    let help = format!("download it again; to use it all the same, add --accept-checksum{source}");
    if let Some(bytes) = file.bytes.filter(|&bytes| bytes != sums.bytes) {
        return Err(FetchError::refused(format!("{} bytes, and {bytes} are expected", sums.bytes), help));
    }
    let Some(expected) = file.checksum else { return Ok(()) };
    let found = match expected {
        Checksum::Md5(_) => sums.md5.as_deref().unwrap_or_default(),
        Checksum::Sha256(_) => &sums.sha256,
    };
    if found == expected.hex() {
        return Ok(());
    }
    let (algorithm, hex) = (expected.algorithm(), expected.hex());
    Err(FetchError::refused(format!("wrong checksum: {algorithm} {found}, and the published one is {hex}"), help))
}

fn against_pin(pin: &Pin, sums: &Sums) -> FetchError {
    let problem = format!(
        "wrong checksum: sha256 {}, and the file pinned on {} has {} ({} bytes from {})",
        sums.sha256,
        &pin.date[..pin.date.len().min(10)],
        pin.sha256,
        pin.bytes,
        pin.url
    );
    FetchError::refused(problem, "if it was changed for good reason, take and pin the new one with --accept-checksum")
}

/// What is known of a file in the data folder, without changing anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileState {
    /// Not there.
    Absent,
    /// Equal to its pin, or to what was published.
    Right(Basis, u64),
    /// There, with nothing to hold it against: `data fetch` would pin it.
    Unpinned(u64),
    /// Not what it must be.
    Wrong(String),
}

/// Reads a file of the manifest again and holds it against its pin and what was published.
pub fn verify(data: &DataDir, file: &RemoteFile) -> Result<FileState, FetchError> {
    let path = data.0.join(file.target);
    if !path.is_file() {
        return Ok(FileState::Absent);
    }
    let sums = sums_of(&path, file.checksum)?;
    Ok(match judge(data, file, &sums, &Options::default()) {
        Ok(Basis::FirstUse) => FileState::Unpinned(sums.bytes),
        Ok(basis) => FileState::Right(basis, sums.bytes),
        Err(error) => FileState::Wrong(format!("{}; {}", error.problem, error.help)),
    })
}

/// Where a set is found, if it is: its own files, or one of the other places tasks look at.
pub fn found(data: &DataDir, set: &DataSet) -> Option<PathBuf> {
    let targets = || set.files.iter().map(|file| data.0.join(file.target));
    if targets().all(|path| path.is_file()) {
        return targets().next();
    }
    data.find(set.name, set.places, "").ok()
}

/// The set that is looked for at these paths, if it is one of those that can be fetched.
pub fn set_at(looked: &[PathBuf]) -> Option<&'static DataSet> {
    let of_set = |set: &&DataSet| set.places.iter().any(|place| looked.iter().any(|path| path.ends_with(place)));
    // What lies in the large release alone is looked for below it.
    let of_release = |path: &PathBuf| path.iter().any(|part| part.to_string_lossy().starts_with("lra_release"));
    let release = || SETS.iter().find(|set| set.name == "lra" && looked.iter().any(of_release));
    SETS.iter().find(of_set).or_else(release)
}

/// What to type on a machine with a network, and how to bring the files here.
pub fn commands(data: &DataDir, set: &DataSet, mirror: Option<&str>) -> Vec<String> {
    let mut lines = vec!["on a machine with a network:".to_owned()];
    lines.extend(set.files.iter().map(|file| {
        let address = address(file, mirror);
        format!("  curl -fL -C - -o {} '{address}'", file.name())
    }));
    let files: Vec<String> = set.files.iter().map(|file| format!("--file {}", file.name())).collect();
    lines.push("then here, in the folder with the files, which checks them and puts them where tasks look:".into());
    lines.push(format!("  mixarena data fetch {} --data {} {}", set.name, data.0.display(), files.join(" ")));
    let places: Vec<String> = set.files.iter().map(|file| data.0.join(file.target).display().to_string()).collect();
    lines.push(format!("or, unchecked, put them there yourself: {}", places.join(", ")));
    lines
}

/// Whether `bytes` fit on the disk of `path`.
fn room(path: &Path, bytes: u64) -> Result<(), FetchError> {
    let folder = path.ancestors().skip(1).find(|folder| folder.is_dir());
    let Some(free) = folder.and_then(|folder| fs4::available_space(folder).ok()) else { return Ok(()) };
    if bytes <= free {
        return Ok(());
    }
    let problem = format!("{}: {} are needed and {} are free on that disk", path.display(), size(bytes), size(free));
    Err(FetchError::new(FailureKind::Disk, problem, "make room, or name a folder on another disk with --data"))
}

/// `7.7 GB`, `84 MB`, `12 kB`, `5 bytes`.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} bytes"),
        1_000..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// A file on its way: `TARGET.part`, locked.
struct Part {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Part {
    fn open(data: &DataDir, of: &RemoteFile) -> Result<Self, FetchError> {
        let path = with_suffix(&data.0.join(of.target), ".part");
        let folder = path.parent().expect("a target lies in the data folder");
        fs::create_dir_all(folder).map_err(|error| io_error(folder, &error))?;
        loop {
            let file = OpenOptions::new().create(true).append(true).read(true).open(&path);
            let file = file.map_err(|error| io_error(&path, &error))?;
            if let Some(part) = Self::hold(file, &path)? {
                return Ok(part);
            }
        }
    }

    /// Locks the file that was just opened; `None` where it has another name since: whoever held it has made it the target.
    fn hold(file: File, path: &Path) -> Result<Option<Self>, FetchError> {
        if let Err(error) = FileExt::try_lock(&file) {
            let problem = format!("{}: another process is fetching it ({error})", path.display());
            return Err(FetchError::new(
                FailureKind::Disk,
                problem,
                "wait for it, or stop it; both would write this file",
            ));
        }
        if !is_at(&file, path) {
            return Ok(None);
        }
        let length = file.metadata().map_err(|error| io_error(path, &error))?.len();
        Ok(Some(Self { path: path.into(), file, length }))
    }

    /// Throws away what has come.
    fn restart(&mut self) -> Result<(), FetchError> {
        self.file.set_len(0).map_err(|error| io_error(&self.path, &error))?;
        self.length = 0;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        io::Write::write_all(&mut self.file, bytes).map_err(|error| io_error(&self.path, &error))?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Leaves nothing behind.
    fn remove(self) -> Result<(), FetchError> {
        for path in [&self.path, &self.about()] {
            match fs::remove_file(path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(io_error(path, &error)),
                _ => {}
            }
        }
        Ok(())
    }

    fn about(&self) -> PathBuf {
        with_suffix(&self.path, ".json")
    }

    fn rename(self, to: &Path) -> Result<(), FetchError> {
        self.file.sync_all().map_err(|error| io_error(&self.path, &error))?;
        fs::rename(&self.path, to).map_err(|error| io_error(to, &error))?;
        match fs::remove_file(self.about()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&self.about(), &error)),
            _ => Ok(()),
        }
    }
}

/// Size and sums of a whole file.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sums {
    bytes: u64,
    sha256: String,
    md5: Option<String>,
}

/// Sums that grow with the stream.
struct Summer {
    bytes: u64,
    sha256: Sha256,
    md5: Option<Md5>,
}

impl Summer {
    /// MD5 only where it is asked for.
    fn new(checksum: Option<Checksum>) -> Self {
        let md5 = matches!(checksum, Some(Checksum::Md5(_))).then(Md5::new);
        Self { bytes: 0, sha256: Sha256::new(), md5 }
    }

    fn update(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        self.sha256.update(bytes);
        if let Some(md5) = &mut self.md5 {
            md5.update(bytes);
        }
    }

    fn finish(self) -> Sums {
        let sha256 = hex(&self.sha256.finalize());
        Sums { bytes: self.bytes, sha256, md5: self.md5.map(|md5| hex(&md5.finalize())) }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn sums_of(path: &Path, checksum: Option<Checksum>) -> Result<Sums, FetchError> {
    let mut file = File::open(path).map_err(|error| io_error(path, &error))?;
    let mut summer = Summer::new(checksum);
    read_into(&mut file, &mut summer).map_err(|error| io_error(path, &error))?;
    Ok(summer.finish())
}

fn read_into(file: &mut File, summer: &mut Summer) -> io::Result<()> {
    let mut buffer = vec![0; 1 << 18];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(()),
            n => summer.update(&buffer[..n]),
        }
    }
}

#[cfg(test)]
mod tests;
