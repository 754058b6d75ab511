//! The official layout, read and written.
//!
//! ```text
//! pathfinderR/LEVEL/imgs/K/sample_N.png      8-bit grey
//! pathfinderR/LEVEL/metadata/K.npy           despite its name text: one image a line, in 11 columns
//!     imgs/K sample_N.png N label continuity contour_length distractor_length
//!     paddle_length paddle_thickness paddle_margin n_paddle_contrasts
//! ```
//! R is 32, 64, 128 or 256; LEVEL `curv_baseline`, `curv_contour_length_9` or `curv_contour_length_14`. Images are in
//! the order of the metadata, their files by number. An archive has no order, so it is read twice: for the metadata,
//! then for the images. The release holds two copies of `pathfinder128`, of which one was reported to have labels that
//! nobody could learn (google-research/long-range-arena, issue 38): where two are found, the user has to choose.

use super::level::{self, Level};
use super::{Config, Generator, Image, Statistics, facts};
use crate::Generated;
use crate::data::formats;
use crate::data::prepared::Writer;
use crate::{DataDir, DataError, Split};
use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{BufWriter, Cursor, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Folders, below the data folder, in which `pathfinderR` is looked for.
const FOLDERS: [&str; 6] = [
    "lra_release/lra_release",
    "lra_release",
    "",
    "pathfinder",
    "pathfinder/lra_release",
    "pathfinder/lra_release/lra_release",
];

/// Archives looked at when there is no folder.
const ARCHIVES: [&str; 5] =
    ["lra_release*.tar.gz", "lra_release/*.tar.gz", "pathfinder*.tar.gz", "pathfinder/*.tar.gz", "pathfinder/*.tgz"];

/// Where the files are, and which of those there are wanted.
#[derive(Clone, Debug)]
pub(super) struct Found {
    /// Folder or archive.
    pub root: PathBuf,
    /// Folder inside the archive to keep to; empty for all of it.
    pub inner: String,
    resolution: u32,
    contour_length: u32,
}

/// Finds the files: `path` from the settings, else the only folder of this level in the usual places, else an archive.
pub(super) fn find(cfg: &Config, data: &DataDir) -> Result<Found, DataError> {
    let (resolution, contour_length) = (cfg.resolution, cfg.contour_length);
    let found = |root: PathBuf, inner: String| Found { root, inner, resolution, contour_length };
    if let Some(given) = &cfg.path {
        let path = data.0.join(given);
        let archive = path.ancestors().skip(1).find(|above| above.is_file());
        return match archive {
            Some(archive) if !path.exists() => {
                let inner = path.strip_prefix(archive).expect("it is an ancestor");
                let parts: Vec<_> = inner.iter().map(|part| part.to_string_lossy()).collect();
                Ok(found(archive.into(), parts.join("/")))
            }
            _ => Ok(found(data.locate("Pathfinder images", Some(given), &[], &help(data, resolution))?, String::new())),
        };
    }
    let level = level::folder(contour_length);
    let places = FOLDERS.map(|folder| Path::new(folder).join(format!("pathfinder{resolution}")).join(level));
    let mut folders: Vec<PathBuf> = Vec::new();
    for folder in places.iter().map(|place| data.0.join(place)).filter(|folder| folder.is_dir()) {
        let same = |known: &PathBuf| fs::canonicalize(known).ok() == fs::canonicalize(&folder).ok();
        if !folders.iter().any(same) {
            folders.push(folder);
        }
    }
    match &folders[..] {
        [] => {
            let mut looked: Vec<String> = places.iter().map(|place| place.to_string_lossy().into_owned()).collect();
            looked.extend(ARCHIVES.map(String::from));
            let looked: Vec<&str> = looked.iter().map(String::as_str).collect();
            Ok(found(data.find("Pathfinder images", &looked, &help(data, resolution))?, String::new()))
        }
        [folder] => Ok(found(folder.clone(), String::new())),
        [first, second, ..] => {
            let labels = |folder: &PathBuf| Ok(found(folder.clone(), String::new()).copies()?.into_values().next());
            let agree = match (labels(first)?, labels(second)?) {
                (Some(one), Some(other)) => one.agrees(&other),
                _ => false,
            };
            Err(two_copies(&data.0, &first.to_string_lossy(), &second.to_string_lossy(), agree))
        }
    }
}

/// Nobody but the user knows which is the good one.
fn two_copies(place: &Path, first: &str, second: &str, agree: bool) -> DataError {
    let labels = if agree { "their labels agree" } else { "their labels differ" };
    let problem =
        format!("holds the images twice, in {first} and in {second}; {labels}; name the one to use in `path`");
    DataError::Malformed { path: place.into(), row: 0, problem }
}

/// The archive with every task; a `.tar.gz` under another name.
const RELEASE: &str = "https://storage.googleapis.com/long-range-arena/lra_release.gz";

/// Where the files come from.
fn help(data: &DataDir, resolution: u32) -> String {
    let folder = data.0.display();
    format!(
        "download the release, 7.7 GB for all of Long Range Arena:\n  mkdir -p {folder}\n  \
         curl -fL -C - -o {folder}/lra_release.tar.gz {RELEASE}\n\
         or name a folder or .tar.gz that holds pathfinder{resolution} in `path`, \
         or set `source: generate` to draw images of the same distribution"
    )
}

/// A file of the layout.
enum Kind<'a> {
    /// `imgs/K/sample_N.png`.
    Image(&'a str),
    /// `metadata/K.npy`.
    Metadata(u64),
}

impl Found {
    /// Whether a file is of this level.
    pub fn wants(&self, name: &str) -> bool {
        self.address(name).is_some()
    }

    /// The folder of the level that a file is in, and what it is there.
    fn address<'a>(&self, name: &'a str) -> Option<(&'a str, Kind<'a>)> {
        let parts: Vec<&str> = name.split('/').collect();
        let (above, kind) = match parts[..] {
            [.., "imgs", _, file] if file.ends_with(".png") && !file.starts_with('.') => (3, None),
            [.., "metadata", file] => (2, Some(file.strip_suffix(".npy")?.parse().ok()?)),
            _ => return None,
        };
        let above = &parts[..parts.len() - above];
        let end = above.iter().map(|part| part.len() + 1).sum::<usize>();
        let folder = name[..end].trim_end_matches('/');
        let size = format!("pathfinder{}", self.resolution);
        let right = match above {
            [] => true,
            [level] => *level == level::folder(self.contour_length),
            [.., parent, level] => *parent == size && *level == level::folder(self.contour_length),
        };
        let inner = self.inner.trim_end_matches('/');
        let inside =
            inner.is_empty() || folder == inner || folder.strip_prefix(inner).is_some_and(|f| f.starts_with('/'));
        (right && inside).then(|| (folder, kind.map_or(Kind::Image(&name[end..]), Kind::Metadata)))
    }

    /// The metadata of every copy of this level there is, by folder.
    fn copies(&self) -> Result<BTreeMap<String, Listing>, DataError> {
        let mut copies: BTreeMap<String, Listing> = BTreeMap::new();
        let metadata = |name: &str| matches!(self.address(name), Some((_, Kind::Metadata(_))));
        formats::visit(&self.root, metadata, |found| {
            let Some((folder, Kind::Metadata(number))) = self.address(found.name) else { return Ok(()) };
            let (path, folder) = (found.path.clone(), folder.to_owned());
            let mut rows = Vec::new();
            let hash = found.lines(|row, line| {
                let malformed = |problem| DataError::Malformed { path: path.clone(), row, problem };
                let (name, label) = read_row(line, self.contour_length).map_err(malformed)?;
                rows.push(Row { name, label, file: number, row });
                Ok(())
            })?;
            copies.entry(folder).or_default().files.insert(number, Metadata { path, hash, rows });
            Ok(())
        })?;
        Ok(copies)
    }
}

/// The metadata of one copy, in the order of their numbers.
#[derive(Default)]
struct Listing {
    files: BTreeMap<u64, Metadata>,
}

/// One file of metadata.
struct Metadata {
    path: PathBuf,
    hash: blake3::Hash,
    rows: Vec<Row>,
}

impl Listing {
    fn rows(&self) -> impl Iterator<Item = &Row> {
        self.files.values().flat_map(|file| &file.rows)
    }

    /// Whether the same images have the same labels.
    fn agrees(&self, other: &Self) -> bool {
        let labels = |listing: &Self| listing.rows().map(|row| (row.name.clone(), row.label)).collect::<Vec<_>>();
        labels(self) == labels(other)
    }

    fn malformed(&self, row: &Row, problem: String) -> DataError {
        DataError::Malformed { path: self.files[&row.file].path.clone(), row: row.row, problem }
    }
}

/// One line of metadata.
struct Row {
    /// `imgs/K/sample_N.png`.
    name: String,
    label: u8,
    /// K of its file, and its row there.
    file: u64,
    row: u64,
}

/// Columns of the metadata.
const COLUMNS: usize = 11;

/// The image and label of a line.
fn read_row(line: &[u8], contour_length: u32) -> Result<(String, u8), String> {
    let text = str::from_utf8(line).map_err(|_| format!("{} is not text", formats::shorten(line)))?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let &[folder, file, _, label, _, length, _, _, _, _, _] = &fields[..] else {
        let hint = if fields.len() < COLUMNS { "; the row may be cut short" } else { "" };
        return Err(format!("{} columns, expected {COLUMNS}{hint}", fields.len()));
    };
    if length.parse() != Ok(contour_length) {
        return Err(format!(
            "a contour length of {length}, expected {contour_length}; is this another level's folder?"
        ));
    }
    let label = match label {
        "0" => 0,
        "1" => 1,
        other => return Err(format!("the label is {}, expected 0 or 1", formats::shorten(other.as_bytes()))),
    };
    Ok((format!("{folder}/{file}"), label))
}

/// Reads the images of a level, in the order of their metadata.
pub(super) fn read(place: &Found, writer: &mut Writer) -> Result<(), DataError> {
    let malformed = |problem| DataError::Malformed { path: place.root.clone(), row: 0, problem };
    let mut copies = place.copies()?.into_iter();
    let Some((folder, listing)) = copies.next() else {
        let (size, level) = (place.resolution, level::folder(place.contour_length));
        return Err(malformed(format!("holds no metadata; expected pathfinder{size}/{level}/metadata/0.npy")));
    };
    if let Some((second, other)) = copies.next() {
        return Err(two_copies(&place.root, &folder, &second, listing.agrees(&other)));
    }
    let rows: Vec<&Row> = listing.rows().collect();
    let mut numbers: HashMap<&str, usize> = HashMap::with_capacity(rows.len());
    for (number, row) in rows.iter().enumerate() {
        if numbers.insert(&row.name, number).is_some() {
            return Err(listing.malformed(row, format!("{} a second time", row.name)));
        }
    }
    let mut images = Images { place, folder: &folder, seen: vec![false; rows.len()], empty: vec![], unlisted: vec![] };
    images.read(&numbers, &rows, writer)?;
    let Images { seen, empty, unlisted, .. } = images;
    if let Some(missing) = seen.iter().position(|seen| !seen) {
        let row = rows[missing];
        return Err(listing.malformed(row, format!("names {}, which is not there", row.name)));
    }
    if writer.rows(0) == 0 {
        return Err(malformed("holds no images".into()));
    }
    // Names within the level's folder, so that an archive and its unpacked copy are the same data.
    listing.files.iter().for_each(|(number, file)| writer.source(format!("metadata/{number}.npy"), file.hash));
    let from = if folder.is_empty() { place.root.clone() } else { place.root.join(&folder) };
    writer.note(format!("Pathfinder is read from {}", from.display()));
    if let Some(first) = empty.first() {
        let others = if empty.len() == 1 { String::new() } else { format!(" and {}", count(empty.len() - 1, "other")) };
        writer.note(format!("skipped {} of length zero: {first}{others}", count(empty.len(), "image")));
    }
    if let Some(first) = unlisted.first() {
        let images = count(unlisted.len(), "image");
        writer.note(format!("left out {images} that no row of the metadata names, the first is {first}"));
    }
    Ok(())
}

fn count(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

/// The images of a level, while they are read.
struct Images<'a> {
    place: &'a Found,
    folder: &'a str,
    seen: Vec<bool>,
    empty: Vec<String>,
    unlisted: Vec<String>,
}

impl Images<'_> {
    fn read(&mut self, numbers: &HashMap<&str, usize>, rows: &[&Row], writer: &mut Writer) -> Result<(), DataError> {
        let (place, home) = (self.place, self.folder);
        let image = |name: &str| matches!(place.address(name), Some((folder, Kind::Image(_))) if folder == home);
        formats::visit(&place.root, image, |found| {
            let Some((_, Kind::Image(name))) = place.address(found.name) else { return Ok(()) };
            let (full, path) = (found.name.to_owned(), found.path.clone());
            let malformed = |problem| DataError::Malformed { path: path.clone(), row: 0, problem };
            let Some(&number) = numbers.get(name) else {
                self.unlisted.push(full);
                return Ok(());
            };
            if std::mem::replace(&mut self.seen[number], true) {
                return Err(malformed("is there twice".into()));
            }
            let bytes = found.bytes("image", formats::PICTURE)?;
            writer.source(name, blake3::hash(&bytes));
            if bytes.is_empty() {
                self.empty.push(full);
                return Ok(());
            }
            let pixels = decode(&bytes, place.resolution).map_err(malformed)?;
            writer.row(0, number as u64, rows[number].label, &[&pixels])
        })
    }
}

/// The pixels of a PNG of this side.
fn decode(bytes: &[u8], side: u32) -> Result<Vec<u8>, String> {
    let broken = |error: png::DecodingError| format!("is not a whole PNG ({error}); download it again");
    // What surrounds the pixels may be packed too, and is not wanted.
    let limits = png::Limits { bytes: formats::PICTURE as usize };
    let mut decoder = png::Decoder::new_with_limits(Cursor::new(bytes), limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    let mut reader = decoder.read_info().map_err(broken)?;
    let info = reader.info();
    if (info.color_type, info.bit_depth) != (png::ColorType::Grayscale, png::BitDepth::Eight) {
        return Err(format!("is {:?} of {} bits, expected 8-bit grey", info.color_type, info.bit_depth as u8));
    }
    if (info.width, info.height) != (side, side) {
        return Err(format!("has {} x {} pixels, expected {side} x {side}", info.width, info.height));
    }
    let mut pixels = vec![0; (side * side) as usize];
    reader.next_frame(&mut pixels).map_err(broken)?;
    Ok(pixels)
}

/// A PNG of these pixels.
fn encode(pixels: &[u8], side: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    let mut writer = encoder.write_header().expect("a header fits in memory");
    writer.write_image_data(pixels).expect("as many pixels as the header says");
    writer.finish().expect("an image fits in memory");
    bytes
}

/// Bytes of images that are drawn before any is handed on.
const CHUNK: usize = 32 << 20;

/// Draws `counts` images of each split on every core and hands them on in order: training, validation, test.
pub(super) fn draw(
    generator: &Generator,
    side: usize,
    counts: [u64; 3],
    mut each: impl FnMut(Image) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let chunk = (CHUNK / (side * side)).clamp(cores, 64 * cores.max(16));
    for (split, count) in Split::ALL.into_iter().zip(counts) {
        for start in (0..count).step_by(chunk) {
            let end = count.min(start + chunk as u64);
            for image in in_parallel((end - start) as usize, cores, |i| generator.image(split, start + i as u64)) {
                each(image)?;
            }
        }
    }
    Ok(())
}

/// `make(i)` for each i below `count`, in order; each core takes the next one when it is done with one.
fn in_parallel<T: Send>(count: usize, cores: usize, make: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return done;
            }
            done.push((i, make(i)));
        }
    };
    let mut all: Vec<(usize, T)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..cores.min(count)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("drawing does not panic")).collect()
    });
    all.sort_unstable_by_key(|(i, _)| *i);
    all.into_iter().map(|(_, made)| made).collect()
}

/// Images of a folder K.
const FOLDER: u64 = 5_000;

/// Draws the images of the settings into `root`. They are written under another name, which is changed when all are
/// there.
pub(super) fn write(cfg: &Config, root: &Path, step: &(dyn Fn(u64, u64) + Sync)) -> Result<Generated, DataError> {
    let parent = root.join(format!("pathfinder{}", cfg.resolution));
    let (whole, part) = (parent.join(level::folder(cfg.contour_length)), parent.join(part_name(cfg)));
    let not_written = |path: &Path, error: std::io::Error| DataError::Unreadable {
        path: path.into(),
        why: format!("cannot be written: {error}"),
    };
    if whole.exists() {
        let why = "is already there; remove it, or generate into another folder".into();
        return Err(DataError::Unreadable { path: whole, why });
    }
    if part.exists() {
        fs::remove_dir_all(&part).map_err(|error| not_written(&part, error))?; // left by a run that was stopped
    }
    fs::create_dir_all(part.join("metadata")).map_err(|error| not_written(&part, error))?;
    let generator = Generator::new(cfg.resolution, cfg.contour_length, cfg.data_seed);
    let level = Level::new(cfg.resolution, cfg.contour_length);
    let wanted = cfg.counts().iter().sum();
    let (mut done, mut pairs, mut distractors) = (0, 0, 0);
    let (mut statistics, mut metadata) = (Statistics::default(), Vec::new());
    draw(&generator, cfg.resolution as usize, cfg.counts(), |image| {
        let (number, name) = (done / FOLDER, format!("sample_{}.png", done % FOLDER));
        let folder = part.join("imgs").join(number.to_string());
        if done % FOLDER == 0 {
            fs::create_dir_all(&folder).map_err(|error| not_written(&folder, error))?;
        }
        let path = folder.join(&name);
        fs::write(&path, encode(&image.pixels, cfg.resolution)).map_err(|error| not_written(&path, error))?;
        metadata.push(level.metadata(number, &name, done % FOLDER, &image));
        statistics.add(&facts(&image.pixels, cfg.resolution as usize), image.label);
        (pairs, distractors) = (pairs + u64::from(image.pairs), distractors + u64::from(image.distractors));
        done += 1;
        if done % FOLDER == 0 || done == wanted {
            let path = part.join("metadata").join(format!("{number}.npy"));
            write_lines(&path, &metadata).map_err(|error| not_written(&path, error))?;
            metadata.clear();
        }
        step(done, wanted);
        Ok(())
    })?;
    fs::rename(&part, &whole).map_err(|error| not_written(&whole, error))?;
    let mut facts = statistics.rows();
    facts.push(("pairs of contours kept".into(), format!("{:.3} %", 100.0 * done as f64 / pairs as f64)));
    let drawn = format!("{:.2} of {} an image", distractors as f64 / done as f64, level.distractors);
    facts.push(("distractors drawn".into(), drawn));
    Ok(Generated { paths: vec![whole], examples: done, facts })
}

/// Not a name that the reader looks for.
fn part_name(cfg: &Config) -> String {
    format!("{}.part", level::folder(cfg.contour_length))
}

fn write_lines(path: &Path, lines: &[String]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    lines.iter().try_for_each(|line| writeln!(file, "{line}"))?;
    file.flush()
}

impl Level {
    /// An image's line of metadata.
    pub(super) fn metadata(&self, folder: u64, name: &str, number: u64, image: &Image) -> String {
        let continuity = format!("{:.1}", self.continuity);
        let thickness = f64::from(self.thickness) / 2.0; // printed 0.5, 1, 1.5, 2
        let (contour, distractor, length) = (self.contour_length, self.distractor_length, self.length);
        let (label, gap) = (image.label, image.gap);
        format!(
            "imgs/{folder} {name} {number} {label} {continuity} {contour} {distractor} {length} {thickness} {gap} 1"
        )
    }
}
