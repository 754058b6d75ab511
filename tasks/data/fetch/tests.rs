use super::*;
use crate::data::formats::tests::put;

const MD5_OF_ABC: &str = "900150983cd24fb0d6963f7d28e17f72"; // RFC 1321, A.5
const SHA256_OF_ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"; // FIPS 180-2, B.1

fn file(checksum: Option<Checksum>, bytes: Option<u64>) -> RemoteFile {
    RemoteFile {
        url: "https://host.example/a/b.txt",
        target: "set/b.txt",
        bytes,
        about_bytes: 3,
        checksum,
        published_in: checksum.map(|_| "host.example/sums"),
    }
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn data(&self) -> DataDir {
        DataDir(self.0.path().join("data"))
    }

    fn take(&self, file: &RemoteFile, content: &[u8], accept: bool) -> Result<Fetched, FetchError> {
        let from = put(self.0.path(), "down/b.txt", content);
        take(&self.data(), file, &from, &Options { accept, ..Options::default() }, &mut |_| {})
    }
}

#[test]
fn a_published_checksum_is_held() {
    for sum in [Checksum::Md5(MD5_OF_ABC), Checksum::Sha256(SHA256_OF_ABC)] {
        let place = Place::new();
        let error = place.take(&file(Some(sum), None), b"abd", false).unwrap_err();
        assert_eq!(error.kind, FailureKind::Refused);
        assert!(error.problem.contains(&format!("wrong checksum: {}", sum.algorithm())), "{error}");
        assert!(error.help.contains("--accept-checksum (published in host.example/sums)"), "{}", error.help);
        assert!(!place.data().0.join("set/b.txt").exists() && place.data().0.join("set/b.txt.refused").exists());
        let right = place.take(&file(Some(sum), None), b"abc", false).unwrap();
        assert_eq!((right.basis, right.sha256.as_str(), right.present), (Basis::Published, SHA256_OF_ABC, false));
        assert_eq!(verify(&place.data(), &file(Some(sum), None)).unwrap(), FileState::Right(Basis::Pinned, 3));
    }
}

#[test]
fn the_first_is_trusted_where_nothing_is_published_and_the_next_must_be_equal() {
    let (place, file) = (Place::new(), file(None, None));
    assert_eq!(verify(&place.data(), &file).unwrap(), FileState::Absent);
    assert!(is_first_use(&place.data(), &file).unwrap());
    assert_eq!(place.take(&file, b"abc", false).unwrap().basis, Basis::FirstUse);
    assert!(pins::read(&place.data().0).unwrap()["set/b.txt"].trusted, "the pin says what it rests on");
    assert!(!is_first_use(&place.data(), &file).unwrap());
    let again = place.take(&file, b"ignored, for it is there", false).unwrap();
    assert_eq!((again.basis, again.present), (Basis::Pinned, true));
    let path = place.data().0.join("set/b.txt");
    fs::remove_file(&path).unwrap();
    assert!(!is_first_use(&place.data(), &file).unwrap(), "its pin says what it must be");
    let error = place.take(&file, b"abd", false).unwrap_err();
    assert!(error.problem.contains("wrong checksum: sha256") && error.problem.contains(SHA256_OF_ABC), "{error}");
    assert_eq!(place.take(&file, b"abd", true).unwrap().basis, Basis::Accepted);
    fs::write(&path, "abx").unwrap();
    assert!(matches!(verify(&place.data(), &file).unwrap(), FileState::Wrong(_)));
    assert!(place.take(&file, b"", false).unwrap_err().problem.starts_with(&path.display().to_string()));
}

#[test]
fn a_wrong_size_is_named_before_a_wrong_sum() {
    let place = Place::new();
    let error = place.take(&file(Some(Checksum::Md5(MD5_OF_ABC)), Some(3)), b"abcd", false).unwrap_err();
    assert!(error.problem.contains("4 bytes, and 3 are expected"), "{error}");
}

#[test]
fn what_was_accepted_once_stays_right() {
    let (place, file) = (Place::new(), file(Some(Checksum::Md5(MD5_OF_ABC)), None));
    assert_eq!(place.take(&file, b"abd", true).unwrap().basis, Basis::Accepted);
    assert_eq!(verify(&place.data(), &file).unwrap(), FileState::Right(Basis::Pinned, 3));
    assert!(pins::read(&place.data().0).unwrap()["set/b.txt"].accepted);
}

#[test]
fn a_file_accepted_against_its_published_size_is_fetched_again_at_either_size() {
    let (place, file) = (Place::new(), file(Some(Checksum::Md5(MD5_OF_ABC)), Some(3)));
    let options = Options::default();
    let limits = || {
        let sizes = sizes(&place.data(), &file, &options).unwrap();
        (
            most(&place.data(), &file, &options).unwrap(),
            [3, 4, 5].map(|n| expected("u", Some(n), &file, &sizes).is_ok()),
        )
    };
    assert_eq!(limits(), (3, [true, false, false]));
    assert_eq!(place.take(&file, b"abcd", true).unwrap().basis, Basis::Accepted);
    assert_eq!(limits(), (4, [true, true, false]));
    fs::remove_file(place.data().0.join(file.target)).unwrap();
    assert_eq!(place.take(&file, b"abcd", false).unwrap().basis, Basis::Pinned);
    let accepting = Options { accept: true, ..Options::default() };
    assert!(most(&place.data(), &file, &accepting).unwrap() > 1 << 30);
}

#[test]
fn a_file_that_somebody_fetches_is_left_to_them() {
    let (place, file) = (Place::new(), file(None, None));
    let held = Part::open(&place.data(), &file).unwrap();
    let error = place.take(&file, b"abc", false).unwrap_err();
    assert!(error.problem.contains("another process is fetching it"), "{error}");
    drop(held);
    assert!(place.take(&file, b"abc", false).is_ok());
}

#[test]
fn a_file_that_another_process_finished_between_two_looks_is_not_written_to() {
    let (place, file) = (Place::new(), file(None, None));
    let theirs = Part::open(&place.data(), &file).unwrap();
    let path = theirs.path.clone();
    let opened = File::open(&path).unwrap();
    assert!(Part::hold(opened.try_clone().unwrap(), &path).is_err());
    theirs.rename(&place.data().0.join(file.target)).unwrap();
    assert!(Part::hold(opened, &path).unwrap().is_none());
    assert!(Part::open(&place.data(), &file).is_ok(), "the name is free again");
}

#[test]
fn a_mirror_stands_in_for_scheme_and_host() {
    let file = file(None, None);
    assert_eq!(address(&file, None), "https://host.example/a/b.txt");
    assert_eq!(address(&file, Some("http://127.0.0.1:80/lra/")), "http://127.0.0.1:80/lra/a/b.txt");
}

#[test]
fn the_commands_name_every_file_of_a_set() {
    let data = DataDir("sets".into());
    for set in SETS {
        let lines = commands(&data, set, None).join("\n");
        assert!(set.files.iter().all(|file| lines.contains(file.url)), "{lines}");
        assert!(lines.contains(&format!("mixarena data fetch {} --data sets --file ", set.name)), "{lines}");
    }
}

#[test]
fn a_set_is_known_by_the_places_where_it_is_looked_for() {
    let at = |paths: &[&str]| set_at(&paths.iter().map(PathBuf::from).collect::<Vec<_>>()).map(|set| set.name);
    assert_eq!(at(&["data/aclImdb", "data/imdb/aclImdb"]), Some("imdb"));
    assert_eq!(at(&["data/listops-1000", "data/lra_release/listops-1000"]), Some("listops"));
    assert_eq!(at(&["data/tsv_data", "data/lra_release/tsv_data"]), Some("lra"));
    assert_eq!(at(&["data/mine"]), None);
}

#[test]
fn more_than_the_disk_has_is_refused_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let error = room(&folder.path().join("none/x.part"), u64::MAX).unwrap_err();
    assert_eq!(error.kind, FailureKind::Disk);
    assert!(error.problem.contains("are needed and"), "{error}");
}

#[test]
fn sizes_read_like_a_person_says_them() {
    assert_eq!([size(5), size(12_000), size(84_125_825), size(7_700_000_000)], ["5 bytes", "12 kB", "84 MB", "7.7 GB"]);
}
