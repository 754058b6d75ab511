//! Image: grey values worked by hand, the choice of images, and every way in which the files can be wrong.

use super::records::RECORD;
use super::*;
use crate::data::formats::tests::{archive, missing, put};
use crate::laws::conformance::faulty;
use std::collections::HashSet;
use std::path::Path;

/// `n` records: labels go round, the red plane holds the number, green a ramp, blue `mark`.
fn batch(n: u64, mark: u8) -> Vec<u8> {
    let record = |i: u64| {
        let ramp = (0..PIXELS).map(|at| at as u8);
        let planes = std::iter::repeat_n(i as u8, PIXELS).chain(ramp).chain(std::iter::repeat_n(mark, PIXELS));
        std::iter::once((i % 10) as u8).chain(planes).collect::<Vec<u8>>()
    };
    (0..n).flat_map(record).collect()
}

/// A folder with two training files of 40 images, marked 1 and 2, and a test file of 20.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, content) in files() {
        put(folder.path(), name, &content);
    }
    folder
}

fn files() -> [(&'static str, Vec<u8>); 3] {
    [
        ("cifar-10-batches-bin/data_batch_1.bin", batch(40, 1)),
        ("cifar-10-batches-bin/data_batch_2.bin", batch(40, 2)),
        ("cifar-10-batches-bin/test_batch.bin", batch(20, 3)),
    ]
}

fn two() -> Config {
    Config { batch_files: 2, ..Config::default() }
}

fn open(folder: &Path, cfg: Config) -> Result<Image, DataError> {
    assert_eq!(cfg.check(), []);
    Image::open(cfg, &DataDir(folder.into()))
}

/// The message when the folder is changed, from `cifar` on.
fn complaint(change: impl FnOnce(&Path)) -> String {
    let folder = folder();
    change(folder.path());
    let message = open(folder.path(), two()).unwrap_err().to_string();
    message[message.find("cifar").expect("the place is named")..].to_owned()
}

/// Rows of the training files, by file and number, that a split holds.
fn rows(task: &Image, split: Split) -> Vec<u32> {
    task.used.splits[split as usize].1.clone()
}

#[test]
fn greys_are_those_of_pillow_and_tensorflow() {
    // Pillow 13.0.0: Image.new("RGB", (1, 1), colour).convert("L"); TensorFlow's formula in 32-bit floats.
    for (colour, s4, lra) in [
        ([0, 0, 0], 0, 0),
        ([255, 255, 255], 255, 255),
        ([255, 0, 0], 76, 76),
        ([0, 255, 0], 150, 149),
        ([0, 0, 255], 29, 29),
        ([128, 128, 128], 128, 128),
        ([10, 200, 77], 129, 129),
        ([1, 2, 3], 2, 1),
    ] {
        assert_eq!(grey(Convention::S4, colour), s4, "{colour:?}");
        assert_eq!(grey(Convention::Lra, colour), lra, "{colour:?}");
    }
}

#[test]
fn pixels_come_row_by_row_and_planes_are_red_green_and_blue() {
    let folder = folder();
    let task = open(folder.path(), two()).unwrap();
    let example = task.example(Split::Test, 7).unwrap();
    assert_eq!(example.targets, Targets::PerSequence(vec![7]));
    let expected = |at: usize| i64::from(grey(Convention::S4, [7, at as u8, 3]));
    assert_eq!(example.tokens, (0..PIXELS).map(expected).collect::<Vec<_>>());
}

#[test]
fn a_smaller_side_averages_blocks_of_grey_pixels() {
    let mut planes = vec![0; 3 * PIXELS];
    for plane in planes.chunks_exact_mut(PIXELS) {
        [plane[2], plane[3], plane[SIDE + 2], plane[SIDE + 3]] = [10, 20, 30, 42]; // mean 25.5
    }
    let half = pixels(Convention::S4, &planes, 16);
    assert_eq!((half.len(), half[0], half[1], half[2]), (256, 0, 26, 0));
    let quarter = pixels(Convention::S4, &planes, 8);
    assert_eq!((quarter.len(), quarter[0], quarter[1]), (64, 6, 0)); // 102 / 16 = 6.4
    let task = open(folder().path(), Config { side: 8, ..two() }).unwrap();
    assert_eq!(task.spec().max_length, 64);
    assert!(task.notes()[2].starts_with("images are shrunk to 8 x 8 pixels"), "{:?}", task.notes());
}

#[test]
fn what_a_model_reads_of_a_pixel_is_normalised_as_s4_does() {
    let Input::Reals { scale, shift, .. } = two().outline().input else { panic!("real pixels") };
    for x in [0.0, 122.6, 255.0_f64] {
        let s4 = (x / 255.0 - 122.6 / 255.0) / (61.0 / 255.0);
        assert!((scale * x + shift - s4).abs() < 1e-12);
    }
    assert_eq!(Config { convention: Convention::Lra, ..two() }.outline().input, Input::Tokens);
}

#[test]
fn s4_validates_on_random_images_of_every_class_and_lra_on_the_last() {
    let folder = folder();
    let s4 = open(folder.path(), two()).unwrap();
    assert_eq!(Split::ALL.map(|split| s4.len(split)), [70, 10, 20]);
    assert_eq!(s4.used.labels(Split::Validation).collect::<HashSet<_>>().len(), 10);
    let apart = open(folder.path(), Config { split_seed: 1, ..two() }).unwrap();
    assert_ne!(rows(&s4, Split::Validation), rows(&apart, Split::Validation));

    let lra = open(folder.path(), Config { convention: Convention::Lra, ..two() }).unwrap();
    assert_eq!(rows(&lra, Split::Train), (0..72).collect::<Vec<_>>());
    assert_eq!(rows(&lra, Split::Validation), (72..80).collect::<Vec<_>>());
}

#[test]
fn a_limit_keeps_the_classes_balanced() {
    let folder = folder();
    let cfg = Config { train_limit: Some(30), test_limit: Some(10), ..two() };
    let task = open(folder.path(), cfg).unwrap();
    assert_eq!(Split::ALL.map(|split| task.len(split)), [20, 10, 10]);
    assert_eq!(task.used.labels(Split::Test).collect::<HashSet<_>>().len(), 10);
    let more = open(folder.path(), Config { test_limit: Some(99), ..two() }).unwrap();
    assert_eq!(more.notes()[2], "test holds 20 images, fewer than `test_limit` = 99");
}

#[test]
fn an_archive_in_any_order_and_its_folder_hold_the_same_images() {
    let loose = open(folder().path(), two()).unwrap();
    let packed = tempfile::tempdir().unwrap();
    let files = files();
    let backwards: Vec<(&str, &[u8])> = files.iter().rev().map(|(name, bytes)| (*name, bytes.as_slice())).collect();
    put(packed.path(), "cifar10/cifar-10-binary.tar.gz", &archive(&backwards));
    let packed = open(packed.path(), two()).unwrap();
    assert_eq!(loose.fingerprint(), packed.fingerprint());
    for split in Split::ALL {
        for index in 0..loose.len(split) {
            assert_eq!(loose.example(split, index).unwrap(), packed.example(split, index).unwrap());
        }
    }
}

#[test]
fn fewer_training_files_are_used_only_when_asked_for() {
    let folder = folder();
    let one = open(folder.path(), Config { batch_files: 1, ..Config::default() }).unwrap();
    assert_eq!((one.len(Split::Train), one.notes()[1].as_str()), (30, "1 of 5 training files are used"));
    let all = open(folder.path(), Config::default()).unwrap_err().to_string();
    let expected = "cifar-10-batches-bin: holds no data_batch_3.bin; is it a complete download? `batch_files: 2` uses \
                    only the training files before it";
    assert!(all.ends_with(expected), "{all}");
}

#[test]
fn every_broken_file_is_named_with_its_problem() {
    let train = "cifar-10-batches-bin/data_batch_1.bin";
    assert_eq!(
        complaint(|folder| _ = put(folder, train, &batch(3, 1)[..2 * RECORD + 100])),
        format!("{train}:3: the record has 100 of its 3073 bytes: the file is cut short; download it again")
    );
    assert_eq!(
        complaint(|folder| {
            let mut bytes = batch(3, 1);
            bytes[RECORD] = 10;
            put(folder, train, &bytes);
        }),
        format!("{train}:2: the record's label is 10, expected 0 to 9")
    );
    assert_eq!(complaint(|folder| _ = put(folder, train, b"")), format!("{train}: holds no images; download it again"));
    assert_eq!(
        complaint(|folder| std::fs::remove_file(folder.join("cifar-10-batches-bin/test_batch.bin")).unwrap()),
        "cifar-10-batches-bin: holds no test_batch.bin; expected the files of the binary version of CIFAR-10"
    );
    assert_eq!(
        complaint(|folder| _ = put(folder, "cifar-10-batches-bin/copy/test_batch.bin", &batch(1, 1))),
        "cifar-10-batches-bin: holds more than one test_batch.bin; name the folder to use in `path`"
    );
}

#[test]
fn missing_data_says_where_to_get_them() {
    let (what, looked, help) = missing(|data| Image::open(Config::default(), data));
    assert_eq!((what.as_str(), looked.len()), ("CIFAR-10 images", CANDIDATES.len()));
    assert!(help.contains("curl -fL -o no/such/folder/cifar-10-binary.tar.gz https://www.cs.toronto.edu/"), "{help}");
}

#[test]
fn every_impossible_setting_is_named() {
    let bad = |change: fn(&mut Config)| faulty(Config::default(), change);
    assert_eq!(bad(|_| ()), [""; 0]);
    assert_eq!(bad(|c| c.side = 24), ["side"]);
    assert_eq!(bad(|c| c.val_fraction = f64::NAN), ["val_fraction"]);
    assert_eq!(bad(|c| c.train_limit = Some(19)), ["train_limit"]);
    assert_eq!(bad(|c| c.test_limit = Some(9)), ["test_limit"]);
    assert_eq!(bad(|c| c.batch_files = 0), ["batch_files"]);
    assert_eq!(bad(|c| c.batch_files = 6), ["batch_files"]);
}
