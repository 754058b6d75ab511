//! Pathfinder: settings, splits, the official layout, and every way in which it can be wrong.

use super::*;
use crate::data::formats::tests::{archive, put};
use std::collections::HashSet;
use std::fs;

/// Settings that are drawn in no time.
fn small() -> Config {
    let counts = [Some(12), Some(4), Some(4)];
    let [train_examples, validation_examples, test_examples] = counts;
    Config { contour_length: 6, train_examples, validation_examples, test_examples, ..Config::default() }
}

/// Settings that read what [`small`] wrote.
fn files() -> Config {
    Config { source: Source::Files, contour_length: 6, ..Config::default() }
}

/// A data folder with the 20 images of [`small`].
fn drawn_folder() -> (tempfile::TempDir, Generated) {
    let folder = tempfile::tempdir().unwrap();
    let generated = small().generate(folder.path(), &|_, _| ()).unwrap().unwrap();
    (folder, generated)
}

const LEVEL: &str = "pathfinder32/curv_baseline";

fn open(folder: &Path, cfg: Config) -> Result<Pathfinder, DataError> {
    assert_eq!(cfg.check(), []);
    Pathfinder::open(cfg, &DataDir(folder.into()))
}

/// The message for a folder that was spoilt, without the data folder's own name.
fn complaint(spoil: impl Fn(&Path)) -> String {
    let (folder, _) = drawn_folder();
    spoil(folder.path());
    let message = open(folder.path(), files()).unwrap_err().to_string();
    message.replace(&format!("{}/", folder.path().display()), "")
}

/// Changes the text of a file.
fn edit(path: &Path, change: impl Fn(String) -> String) {
    fs::write(path, change(fs::read_to_string(path).unwrap())).unwrap();
}

fn all(task: &Pathfinder, split: Split) -> Vec<Example> {
    (0..task.len(split)).map(|index| task.example(split, index).unwrap()).collect()
}

fn tokens(task: &Pathfinder, split: Split) -> HashSet<Vec<i64>> {
    all(task, split).into_iter().map(|example| example.tokens).collect()
}

/// Every file below a folder, in order, with its name from there.
fn everything(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    crate::data::formats::visit(
        folder,
        |_| true,
        |found| {
            files.push((found.name.to_owned(), found.bytes("file", 1 << 20)?));
            Ok(())
        },
    )
    .unwrap();
    files
}

#[test]
fn drawn_examples_are_the_generators_images_split_by_split() {
    let folder = tempfile::tempdir().unwrap();
    let task = open(folder.path(), small()).unwrap();
    assert_eq!(Split::ALL.map(|split| task.len(split)), [12, 4, 4]);
    let generator = Generator::new(32, 6, 0);
    for split in Split::ALL {
        for (index, example) in all(&task, split).into_iter().enumerate() {
            let image = generator.image(split, index as u64);
            assert_eq!(example.tokens, image.pixels.iter().map(|&p| i64::from(p)).collect::<Vec<_>>());
            assert_eq!(example.targets, Targets::PerSequence(vec![i64::from(image.label)]));
        }
    }
}

#[test]
fn a_larger_set_holds_the_images_of_a_smaller_one() {
    let folder = tempfile::tempdir().unwrap();
    let few = open(folder.path(), small()).unwrap();
    let many = open(folder.path(), Config { train_examples: Some(20), ..small() }).unwrap();
    assert_eq!(all(&many, Split::Train)[..12], all(&few, Split::Train)[..]);
    assert_eq!(all(&many, Split::Test), all(&few, Split::Test));
}

#[test]
fn what_is_written_reads_back_to_the_same_pixels_and_labels() {
    let (folder, generated) = drawn_folder();
    assert_eq!((generated.examples, &generated.paths), (20, &vec![folder.path().join(LEVEL)]));
    let task = open(folder.path(), files()).unwrap();
    let images = &task.used.set.parts[0];
    let generator = Generator::new(32, 6, 0);
    let drawn = Split::ALL.into_iter().zip([12, 4, 4]).flat_map(|(split, n)| (0..n).map(move |i| (split, i)));
    for (row, (split, index)) in drawn.enumerate() {
        let image = generator.image(split, index);
        assert_eq!((images.document(row, 0), images.labels()[row]), (&image.pixels[..], image.label));
    }
    assert_eq!(images.len(), 20);
    assert_eq!(task.notes(), [format!("Pathfinder is read from {}", folder.path().join(LEVEL).display())]);
}

#[test]
fn the_metadata_have_the_official_columns() {
    let (folder, _) = drawn_folder();
    let text = fs::read_to_string(folder.path().join(LEVEL).join("metadata/0.npy")).unwrap();
    let label = Generator::new(32, 6, 0).image(Split::Train, 0).label;
    assert_eq!(text.lines().next().unwrap(), format!("imgs/0 sample_0.png 0 {label} 1.0 6 2 2 0.5 1 1"));
    let line = |side, image: &Image| level::Level::new(side, 14).metadata(3, "sample_7.png", 7, image);
    let image = Image { pixels: vec![], label: 1, gap: 2, pairs: 1, distractors: 0, markers: [(0, 0); 2] };
    assert_eq!(line(128, &image), "imgs/3 sample_7.png 7 1 1.8 14 4 5 1.5 2 1");
    assert_eq!(line(64, &image), "imgs/3 sample_7.png 7 1 1.8 14 4 5 1 2 1");
}

#[test]
fn a_folder_that_is_there_is_not_written_over_and_half_a_folder_is_not_read() {
    let (folder, _) = drawn_folder();
    let error = small().generate(folder.path(), &|_, _| ()).unwrap().unwrap_err().to_string();
    assert!(error.ends_with("curv_baseline: is already there; remove it, or generate into another folder"), "{error}");
    fs::rename(folder.path().join(LEVEL), folder.path().join(format!("{LEVEL}.part"))).unwrap();
    let error = open(folder.path(), files()).unwrap_err();
    assert!(matches!(error, DataError::Missing { .. }), "{error}");
    assert!(small().generate(folder.path(), &|_, _| ()).unwrap().is_ok());
    assert!(!folder.path().join(format!("{LEVEL}.part")).exists());
}

#[test]
fn generating_counts_every_image_and_tells_what_it_measured() {
    let folder = tempfile::tempdir().unwrap();
    let steps = std::sync::Mutex::new(Vec::new());
    let step = |done, wanted| steps.lock().unwrap().push((done, wanted));
    let generated = small().generate(folder.path(), &step).unwrap().unwrap();
    assert_eq!(steps.into_inner().unwrap(), (1..=20).map(|done| (done, 20)).collect::<Vec<_>>());
    let names: Vec<&str> = generated.facts.iter().map(|(name, _)| name.as_str()).collect();
    let wanted = [
        "images",
        "label 1",
        "mean intensity",
        "ink above 50",
        "ink above 127",
        "pieces above 50",
        "pieces above 127",
        "pairs of contours kept",
        "distractors drawn",
    ];
    assert_eq!(names, wanted);
    assert!(files().generate(folder.path(), &|_, _| ()).is_none());
}

#[test]
fn splits_are_parts_of_one_permutation_and_a_limit_takes_the_first_of_each() {
    let [train, validation, test] = split(1_000, [0.1, 0.2], [None; 3], 7);
    assert_eq!([train.len(), validation.len(), test.len()], [700, 100, 200]);
    let mut together: Vec<u32> = [&train[..], &validation, &test].concat();
    together.sort_unstable();
    assert!(together.into_iter().eq(0..1_000));
    let ranks = Permutation::new(1_000, 7, Purpose::SUBSET, 0);
    assert!(validation.iter().all(|&row| ranks.at(u64::from(row)) < 100));
    let limited = split(1_000, [0.1, 0.2], [Some(50), None, Some(u64::MAX)], 7);
    assert_eq!(limited.each_ref().map(Vec::len), [50, 100, 200]);
    assert!(limited[0].iter().all(|row| train.contains(row)));
    assert_ne!(split(1_000, [0.1, 0.2], [None; 3], 8)[1], validation);
    assert_eq!(split(3, [0.1, 0.1], [None; 3], 0).each_ref().map(Vec::len), [1, 1, 1]);
}

#[test]
fn an_archive_reads_as_its_folder_in_any_order_with_files_by_number() {
    let (folder, _) = drawn_folder();
    let level = folder.path().join(LEVEL);
    // The images again as folders 2 and 10: by name 10 would come first.
    fs::rename(level.join("imgs/0"), level.join("imgs/2")).unwrap();
    fs::rename(level.join("metadata/0.npy"), level.join("metadata/2.npy")).unwrap();
    edit(&level.join("metadata/2.npy"), |text| text.replace("imgs/0", "imgs/2"));
    fs::create_dir(level.join("imgs/10")).unwrap();
    for i in 0..20 {
        fs::copy(level.join(format!("imgs/2/sample_{i}.png")), level.join(format!("imgs/10/sample_{i}.png"))).unwrap();
    }
    let text = fs::read_to_string(level.join("metadata/2.npy")).unwrap();
    let reversed: Vec<String> = text.lines().rev().map(|line| line.replace("imgs/2", "imgs/10")).collect();
    fs::write(level.join("metadata/10.npy"), reversed.join("\r\n")).unwrap();
    let loose = open(folder.path(), files()).unwrap();
    let rows =
        |task: &Pathfinder| (0..40).map(|row| task.used.set.parts[0].document(row, 0).to_vec()).collect::<Vec<_>>();
    let twenty = rows(&loose)[..20].to_vec();
    assert!(rows(&loose)[20..].iter().eq(twenty.iter().rev()));

    let mut entries: Vec<(String, Vec<u8>)> = everything(&level);
    entries.reverse();
    let named: Vec<(String, Vec<u8>)> =
        entries.into_iter().map(|(name, content)| (format!("lra_release/{LEVEL}/{name}"), content)).collect();
    let borrowed: Vec<(&str, &[u8])> = named.iter().map(|(name, content)| (name.as_str(), &content[..])).collect();
    let packed = tempfile::tempdir().unwrap();
    put(packed.path(), "pathfinder/sample.tar.gz", &archive(&borrowed));
    assert_eq!(rows(&open(packed.path(), files()).unwrap()), rows(&loose));
}

#[test]
fn two_copies_are_an_error_that_names_both_and_path_chooses() {
    let (folder, _) = drawn_folder();
    let copy = |to: &str| {
        for (name, content) in everything(&folder.path().join(LEVEL)) {
            put(folder.path(), &format!("{to}/{LEVEL}/{name}"), &content);
        }
    };
    copy("lra_release");
    let message = |cfg| open(folder.path(), cfg).unwrap_err().to_string();
    let (inner, outer) = (folder.path().join("lra_release").join(LEVEL), folder.path().join(LEVEL));
    let both = format!(
        "{}: holds the images twice, in {} and in {}; their labels agree; name the one to use in `path`",
        folder.path().display(),
        inner.display(),
        outer.display()
    );
    assert_eq!(message(files()), both);
    let flip = |text: String| text.replace(" 0 1.0 6 ", " x 1.0 6 ").replace(" 1 1.0 6 ", " 0 1.0 6 ");
    edit(&outer.join("metadata/0.npy"), |text| flip(text).replace(" x 1.0 6 ", " 1 1.0 6 "));
    assert!(message(files()).contains("their labels differ"));
    let chosen = |path: &str| open(folder.path(), Config { path: Some(path.into()), ..files() });
    assert_eq!(chosen("lra_release").unwrap().notes(), [format!("Pathfinder is read from {}", inner.display())]);
    let (one, other) = (chosen("lra_release").unwrap(), chosen("pathfinder32").unwrap());
    assert_ne!(one.used.set.parts[0].labels(), other.used.set.parts[0].labels());
    // A folder that holds two is the same error.
    copy("lra_release/lra_release");
    let error = chosen("lra_release").unwrap_err().to_string();
    assert!(error.contains(&format!("twice, in lra_release/{LEVEL} and in {LEVEL}; their labels differ")), "{error}");
}

#[test]
fn path_may_go_on_inside_an_archive() {
    let (folder, _) = drawn_folder();
    let level = folder.path().join(LEVEL);
    let files_of = |top: &str| {
        let all = everything(&level).into_iter();
        all.map(|(name, content)| (format!("{top}/{LEVEL}/{name}"), content)).collect::<Vec<_>>()
    };
    let named = [files_of("lra_release"), files_of("lra_release/lra_release")].concat();
    let borrowed: Vec<(&str, &[u8])> = named.iter().map(|(name, content)| (name.as_str(), &content[..])).collect();
    let packed = tempfile::tempdir().unwrap();
    put(packed.path(), "lra_release.tar.gz", &archive(&borrowed));
    let message = open(packed.path(), files()).unwrap_err().to_string();
    let both = format!("twice, in lra_release/lra_release/{LEVEL} and in lra_release/{LEVEL}; their labels agree");
    assert!(message.contains(&both), "{message}");
    let inner = format!("lra_release.tar.gz/lra_release/{LEVEL}");
    let task = open(packed.path(), Config { path: Some(inner.clone().into()), ..files() }).unwrap();
    assert_eq!(task.notes(), [format!("Pathfinder is read from {}", packed.path().join(inner).display())]);
}

#[test]
fn an_image_of_length_zero_is_skipped_and_named() {
    let (folder, _) = drawn_folder();
    for name in ["imgs/0/sample_3.png", "imgs/0/sample_11.png"] {
        put(folder.path(), &format!("{LEVEL}/{name}"), b"");
    }
    let task = open(folder.path(), files()).unwrap();
    assert_eq!(task.used.set.parts[0].len(), 18);
    assert_eq!(task.notes()[1], "skipped 2 images of length zero: imgs/0/sample_11.png and 1 other");
    put(folder.path(), &format!("{LEVEL}/imgs/0/sample_99.png"), b"no row names it");
    let task = open(folder.path(), files()).unwrap();
    let left_out = "left out 1 image that no row of the metadata names, the first is imgs/0/sample_99.png";
    assert_eq!(task.notes()[2], left_out);
}

/// A PNG of these properties, filled with zeros.
fn picture(side: u32, color: png::ColorType, depth: png::BitDepth) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(color);
    encoder.set_depth(depth);
    let size = side as usize * color.samples() * depth as usize / 8 * side as usize;
    encoder.write_header().unwrap().write_image_data(&vec![0; size]).unwrap();
    bytes
}

#[test]
fn a_picture_of_another_size_or_kind_or_cut_short_is_named() {
    let name = format!("{LEVEL}/imgs/0/sample_3.png");
    let with = |content: Vec<u8>| complaint(|folder| drop(put(folder, &name, &content)));
    let (grey, rgb, eight) = (png::ColorType::Grayscale, png::ColorType::Rgb, png::BitDepth::Eight);
    assert_eq!(with(picture(64, grey, eight)), format!("{name}: has 64 x 64 pixels, expected 32 x 32"));
    assert_eq!(with(picture(32, rgb, eight)), format!("{name}: is Rgb of 8 bits, expected 8-bit grey"));
    let deep = picture(32, grey, png::BitDepth::Sixteen);
    assert_eq!(with(deep), format!("{name}: is Grayscale of 16 bits, expected 8-bit grey"));
    let (folder, _) = drawn_folder();
    let whole = fs::read(folder.path().join(&name)).unwrap();
    for cut in [1, 7, 20, 40, whole.len() / 2, whole.len() - 20] {
        let message = with(whole[..cut].to_vec());
        assert!(message.starts_with(&format!("{name}: is not a whole PNG (")), "cut at {cut}: {message}");
        assert!(message.ends_with("); download it again"), "cut at {cut}: {message}");
    }
    let mut changed = whole.clone();
    changed[whole.len() / 2] ^= 16;
    assert!(with(changed).contains("is not a whole PNG ("));
}

#[test]
fn a_broken_row_of_metadata_is_named_by_file_and_row() {
    let metadata = format!("{LEVEL}/metadata/0.npy");
    let with = |from: &'static str, to: &'static str| {
        complaint(|folder| {
            edit(&folder.join(&metadata), |text| {
                let mut lines: Vec<String> = text.lines().map(String::from).collect();
                lines[4] = lines[4].replacen(" 0 1.0", " 1 1.0", 1).replacen(from, to, 1);
                lines.join("\n")
            });
        })
    };
    let row = |problem: &str| format!("{metadata}:5: {problem}");
    assert_eq!(with(" 1 1.0", " 2 1.0"), row("the label is `2`, expected 0 or 1"));
    assert_eq!(with(" 1 1.0", " yes 1.0"), row("the label is `yes`, expected 0 or 1"));
    assert_eq!(with(" 0.5 1 1", ""), row("8 columns, expected 11; the row may be cut short"));
    assert_eq!(with(" 0.5 1 1", " 0.5 1 1 1"), row("12 columns, expected 11"));
    let other_level = "a contour length of 14, expected 6; is this another level's folder?";
    assert_eq!(with("1.0 6 ", "1.0 14 "), row(other_level));
    assert_eq!(with("sample_4.png", "sample_2.png"), row("imgs/0/sample_2.png a second time"));
    assert_eq!(with("sample_4.png", "sample_44.png"), row("names imgs/0/sample_44.png, which is not there"));
    let gone = complaint(|folder| fs::remove_file(folder.join(LEVEL).join("imgs/0/sample_7.png")).unwrap());
    assert_eq!(gone, format!("{metadata}:8: names imgs/0/sample_7.png, which is not there"));
}

#[test]
fn a_folder_without_metadata_or_images_is_said_to_be_so() {
    let none = complaint(|folder| fs::remove_dir_all(folder.join(LEVEL).join("metadata")).unwrap());
    assert_eq!(none, format!("{LEVEL}: holds no metadata; expected {LEVEL}/metadata/0.npy"));
    let empty = complaint(|folder| fs::write(folder.join(LEVEL).join("metadata/0.npy"), "").unwrap());
    assert_eq!(empty, format!("{LEVEL}: holds no images"));
    let two = complaint(|folder| {
        edit(&folder.join(LEVEL).join("metadata/0.npy"), |text| text.lines().take(2).collect::<Vec<_>>().join("\n"));
    });
    assert_eq!(two, format!("{LEVEL}: holds 2 images, too few to train, validate and test on"));
}

#[test]
fn missing_files_tell_where_they_are_looked_for_and_how_to_get_them() {
    let folder = tempfile::tempdir().unwrap();
    let error = open(folder.path(), Config { resolution: 128, ..files() }).unwrap_err();
    let DataError::Missing { what, looked, help } = error else { panic!("{error}") };
    assert_eq!(what, "Pathfinder images");
    assert!(looked.contains(&folder.path().join("lra_release/lra_release/pathfinder128/curv_baseline")));
    assert!(looked.contains(&folder.path().join("pathfinder/*.tar.gz")));
    assert!(help.contains("long-range-arena/lra_release.gz") && help.contains("`source: generate`"), "{help}");
}

#[test]
fn a_second_look_prepares_nothing_and_a_changed_image_is_noticed() {
    let (folder, _) = drawn_folder();
    let first = open(folder.path(), files()).unwrap();
    let second = open(folder.path(), Config { split_seed: 3, val_fraction: 0.3, ..files() }).unwrap();
    assert_eq!(first.used.set.folder, second.used.set.folder);
    assert_ne!(tokens(&first, Split::Validation), tokens(&second, Split::Validation));
    let image = folder.path().join(LEVEL).join("imgs/0/sample_5.png");
    fs::write(&image, picture(32, png::ColorType::Grayscale, png::BitDepth::Eight)).unwrap();
    let third = open(folder.path(), files()).unwrap();
    assert_ne!(first.fingerprint(), third.fingerprint());
    assert!(third.used.set.parts[0].document(5, 0).iter().all(|&pixel| pixel == 0));
}

#[test]
fn settings_that_cannot_be_are_named() {
    let problems = |cfg: Config| cfg.check().into_iter().map(|error| error.problem).collect::<Vec<_>>();
    let cfg = Config { resolution: 48, contour_length: 12, train_examples: Some(0), ..Config::default() };
    let wanted = [
        "`train_examples` is 0",
        "`resolution` is 48; there are images of 32, 64, 128 and 256 pixels",
        "`contour_length` is 12; there are contours of 6, 9 and 14 bars",
    ];
    assert_eq!(problems(cfg), wanted);
    let wanted =
        ["`path` does nothing when `source` is `generate`", "`split_seed` does nothing when `source` is `generate`"];
    assert_eq!(problems(Config { path: Some("x".into()), split_seed: 1, ..Config::default() }), wanted);
    assert_eq!(problems(Config { data_seed: 1, ..files() }), ["`data_seed` does nothing when `source` is `files`"]);
    let wanted = ["`val_fraction` = 0.5 and `test_fraction` = 0.5 leave nothing to learn from"];
    assert_eq!(problems(Config { val_fraction: 0.5, test_fraction: 0.5, ..files() }), wanted);
    let wanted = ["`val_fraction` is NaN, not between 0 and 1", "`test_fraction` is 0, not between 0 and 1"];
    assert_eq!(problems(Config { val_fraction: f64::NAN, test_fraction: 0.0, ..files() }), wanted);
}

#[test]
fn pixels_are_reals_between_minus_one_and_one_or_tokens() {
    let Input::Reals { scale, shift, .. } = Config::default().outline().input else { panic!("reals by default") };
    assert_eq!((0.0 * scale + shift, 255.0 * scale + shift), (-1.0, 1.0));
    let lra = Config { pixels: Pixels::Lra, resolution: 128, ..Config::default() }.outline();
    assert_eq!((lra.input, lra.vocab_size, lra.max_length), (Input::Tokens, 256, 16_384));
}
