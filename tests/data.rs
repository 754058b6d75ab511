//! `mixarena data`: sets fetched, checked, generated and exported.

use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::Command;
use tch::{Kind, Tensor};
use tests::server::Server;
use tests::{Ended, Folder, signal};

const CIFAR: &str = "/~kriz/cifar-10-binary.tar.gz";
const AAN: [&str; 3] = ["train", "eval", "test"];

/// Bytes that do not repeat.
fn noise(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..bytes).map(|_| next()).collect()
}

/// A server of the pair ids, whose three files have no published checksum.
fn pairs() -> (Server, Vec<Vec<u8>>) {
    let contents: Vec<Vec<u8>> = (0..3).map(|i| noise(300_000 + i)).collect();
    let paths = AAN.map(|part| format!("/long-range-arena/lra_release/aan/new_aan_pairs.{part}.only_ids.tsv"));
    let files: Vec<(&str, &[u8])> =
        paths.iter().zip(&contents).map(|(path, c)| (path.as_str(), c.as_slice())).collect();
    (Server::of(&files), contents)
}

fn holds(folder: &Folder, contents: &[Vec<u8>]) {
    for (part, content) in AAN.iter().zip(contents) {
        assert!(folder.read(&format!("data/aan/new_aan_pairs.{part}.only_ids.tsv")) == *content, "{part}");
    }
    assert_eq!(folder.names("data/aan").len(), 3, "no part is left: {:?}", folder.names("data/aan"));
}

fn fetch(folder: &Folder, server: &Server, line: &str) -> Ended {
    folder.run(&format!("data fetch {line} --from {}", server.url()))
}

#[test]
fn a_download_that_is_cut_half_way_continues_where_it_was() {
    let (folder, (server, contents)) = (Folder::new(), pairs());
    server.behave(|manners| manners.cuts = vec![150_000]);
    let ended = fetch(&folder, &server, "aan").expect(0);
    holds(&folder, &contents);
    let requests = server.requests();
    assert_eq!(requests.len(), 4, "{requests:?}");
    let rest = requests[1].split_once(" range ").expect("the second request is for the rest").1;
    let from: usize = rest.trim_end_matches('-').parse().expect("a number");
    assert!(from > 0 && from <= 150_000, "{rest}");
    assert!(ended.err.contains("trying again in 1 s") && ended.err.contains("continues from"), "{}", ended.err);
    assert_eq!(ended.out.matches("no checksum is published: trusted and pinned").count(), 3, "{}", ended.out);
    let again = fetch(&folder, &server, "aan").expect(0);
    assert_eq!(again.out.matches("is there, ").count(), 3, "{}", again.out);
    assert_eq!(server.requests().len(), 4, "what is there is not asked for again");
}

#[test]
fn another_process_continues_what_one_gave_up() {
    let (folder, (server, contents)) = (Folder::new(), pairs());
    server.behave(|manners| manners.cuts = vec![150_000]);
    let ended = fetch(&folder, &server, "aan --retries 0").expect(3);
    assert!(ended.err.contains("the same command continues from there"), "{}", ended.err);
    let left = folder.read("data/aan/new_aan_pairs.train.only_ids.tsv.part").len();
    assert!(left > 0 && left <= 150_000);
    fetch(&folder, &server, "aan").expect(0);
    assert!(server.requests()[1].ends_with(&format!(" range {left}-")), "{:?}", server.requests());
    holds(&folder, &contents);
}

#[test]
fn a_file_that_changed_meanwhile_begins_anew() {
    let (folder, (server, mut contents)) = (Folder::new(), pairs());
    server.behave(|manners| manners.cuts = vec![150_000]);
    fetch(&folder, &server, "aan --retries 0").expect(3);
    contents[0].reverse();
    server.behave(|manners| {
        manners.etag = Some("\"two\"".into());
        let train = manners.files.iter_mut().find(|(path, _)| path.contains("train")).expect("it is served");
        train.1.reverse();
    });
    let ended = fetch(&folder, &server, "aan").expect(0);
    assert!(ended.err.contains("the file changed at the server"), "{}", ended.err);
    holds(&folder, &contents);
}

#[test]
fn a_server_that_ignores_ranges_or_names_no_version_begins_anew() {
    for silent in [false, true] {
        let (folder, (server, contents)) = (Folder::new(), pairs());
        server.behave(|manners| {
            manners.cuts = vec![150_000];
            manners.ranges = silent;
            manners.etag = manners.etag.take().filter(|_| !silent);
        });
        fetch(&folder, &server, "aan --retries 0").expect(3);
        let ended = fetch(&folder, &server, "aan").expect(0);
        assert!(ended.err.contains("starting again"), "{}", ended.err);
        holds(&folder, &contents);
    }
}

#[test]
fn an_answer_that_claims_more_than_it_has_is_never_taken_for_whole() {
    let (folder, (server, _)) = (Folder::new(), pairs());
    server.behave(|manners| manners.claims_more = 10);
    let ended = fetch(&folder, &server, "aan --retries 1").expect(3);
    assert!(ended.err.contains("gave up with 300 kB"), "{}", ended.err);
    assert_eq!(folder.names("data/aan").iter().filter(|name| name.ends_with(".tsv")).count(), 0);
}

#[test]
fn what_was_pinned_must_come_again_or_be_accepted() {
    let (folder, (server, mut contents)) = (Folder::new(), pairs());
    fetch(&folder, &server, "aan -q").expect(0);
    let pins: Value = serde_json::from_slice(&folder.read("data/fetch.lock.json")).expect("one JSON document");
    let pin = &pins["aan/new_aan_pairs.test.only_ids.tsv"];
    assert_eq!((pin["bytes"].as_u64(), pin["sha256"].as_str().map(str::len)), (Some(300_002), Some(64)));
    assert_eq!(pin["trusted"], true, "the pin says that nothing was published to hold it against: {pin}");
    folder.run("data verify aan").expect(0);
    fs::remove_file(folder.path("data/aan/new_aan_pairs.test.only_ids.tsv")).expect("removes a file");
    contents[2][7] ^= 1;
    let changed = contents[2].clone();
    server.behave(|manners| {
        let test = manners.files.iter_mut().find(|(path, _)| path.contains("test")).expect("it is served");
        *test.1 = changed;
    });
    let ended = fetch(&folder, &server, "aan").expect(1);
    assert!(
        ended.err.contains("wrong checksum: sha256 ") && ended.err.contains("the file pinned on 2"),
        "{}",
        ended.err
    );
    assert!(!folder.path("data/aan/new_aan_pairs.test.only_ids.tsv").exists());
    let refused = "data/aan/new_aan_pairs.test.only_ids.tsv.refused";
    folder.run(&format!("data fetch aan --file {refused} --accept-checksum")).expect(0);
    fs::remove_file(folder.path(refused)).expect("removes a file");
    holds(&folder, &contents);
    folder.run("data verify aan").expect(0);
    folder.write("data/aan/new_aan_pairs.test.only_ids.tsv", "rot");
    let ended = folder.run("data verify aan").expect(1);
    assert!(ended.out.contains("BAD data/aan/new_aan_pairs.test.only_ids.tsv: wrong checksum"), "{}", ended.out);
}

#[test]
fn no_more_is_taken_of_a_file_than_was_published_or_asked_for() {
    const PLAYS: &str = "/karpathy/char-rnn/master/data/tinyshakespeare/input.txt";
    let (folder, long) = (Folder::new(), noise(40_000_000));
    let server = Server::of(&[(PLAYS, &long)]);
    let none_left = || assert_eq!(folder.names("data/tinyshakespeare"), [""; 0]);
    for (chunked, said) in [
        (false, "the server offers 40000000 bytes, and 1115394 are expected"),
        (true, "input.txt: is longer than 1115394 bytes, the most that is taken of this file; nothing was kept"),
    ] {
        server.behave(|manners| manners.chunked = chunked);
        let ended = fetch(&folder, &server, "tinyshakespeare").expect(1);
        assert!(ended.err.contains(said), "{}", ended.err);
        none_left();
    }
    let asked = fetch(&folder, &server, "tinyshakespeare --accept-checksum --max-bytes 39999999").expect(1);
    assert!(asked.err.contains("is longer than 39999999 bytes") && asked.err.contains("--max-bytes"), "{}", asked.err);
    none_left();
    fetch(&folder, &server, "tinyshakespeare --accept-checksum --max-bytes 40000000").expect(0);
    assert_eq!(folder.names("data/tinyshakespeare"), ["input.txt"]);
    // What is whole, of the right size and wrong is kept once, until the right one is there.
    let wrong = noise(1_115_394);
    server.behave(|manners| {
        manners.files.insert(PLAYS.into(), wrong.clone());
    });
    let folder = Folder::new();
    for _ in 0..2 {
        fetch(&folder, &server, "tinyshakespeare").expect(1);
        assert_eq!(folder.names("data/tinyshakespeare"), ["input.txt.refused"]);
    }
    fetch(&folder, &server, "tinyshakespeare --accept-checksum").expect(0);
    assert_eq!(folder.names("data/tinyshakespeare"), ["input.txt"]);
    // Where nothing is published there is a limit still.
    let (folder, (server, _)) = (Folder::new(), pairs());
    let ended = fetch(&folder, &server, "aan --max-bytes 1000").expect(1);
    assert!(ended.err.contains("is longer than 1000 bytes"), "{}", ended.err);
}

#[test]
fn a_file_that_was_downloaded_elsewhere_goes_through_the_same_checks() {
    let folder = Folder::new();
    folder.write("down/cifar-10-binary.tar.gz", noise(1000));
    let ended = folder.run("data fetch cifar10 --file down/cifar-10-binary.tar.gz").expect(1);
    assert!(ended.err.contains("wrong checksum: md5 "), "{}", ended.err);
    folder.run("data fetch cifar10 --file down/cifar-10-binary.tar.gz --accept-checksum").expect(0);
    assert_eq!(folder.read("data/cifar-10-binary.tar.gz"), noise(1000));
    for (line, said) in [
        ("data fetch aan --file down/x.tsv", "--file down/x.tsv: no file of that name is wanted"),
        ("data fetch cifar10 --file none", "--file none: no such file"),
        ("data fetch cifra10", "unknown set `cifra10`\n  help: did you mean `cifar10`?"),
        ("data fetch image", "unknown set `image`\n  help: task `image` reads `cifar10`"),
    ] {
        let ended = folder.run(line).expect(2);
        assert!(ended.err.contains(said), "{}", ended.err);
    }
}

#[test]
fn a_look_at_what_there_is_fetches_nothing() {
    let (folder, (server, _)) = (Folder::new(), pairs());
    let list = folder.run("data fetch --list").expect(0).out;
    assert!(list.contains("\n         missing: mixarena data fetch imdb\n"), "{list}");
    let json: Value = serde_json::from_str(&folder.run("data fetch --list --json").expect(0).out).expect("JSON");
    assert_eq!(json.as_array().map(Vec::len), Some(10));
    for file in json.as_array().expect("sets").iter().flat_map(|set| set["files"].as_array().expect("files")) {
        let source = file["published_in"].as_str();
        assert_eq!(
            source.is_some(),
            !file["checksum"].is_null(),
            "a checksum has a source, and only a checksum: {file}"
        );
    }
    assert!(!list.contains("recalled"), "{list}");
    let dry = fetch(&folder, &server, "aan -n").expect(0).out;
    assert_eq!(dry.matches("would be fetched from http://127.0.0.1:").count(), 3, "{dry}");
    assert!(server.requests().is_empty() && folder.names("").is_empty());
}

#[test]
fn an_archive_is_unpacked_when_asked_for_and_read_in_place_otherwise() {
    let folder = Folder::new();
    folder.write("pack/cifar-10-batches-bin/test_batch.bin", noise(3073));
    let mut tar = Command::new("tar");
    tar.args(["czf", "packed", "-C", "pack", "cifar-10-batches-bin"]).current_dir(folder.path(""));
    let status = tar.status().expect("tar is there");
    assert!(status.success());
    let server = Server::of(&[(CIFAR, &folder.read("packed"))]);
    fetch(&folder, &server, "cifar10 --accept-checksum").expect(0);
    assert_eq!(folder.names("data"), [".fetch.lock", "cifar-10-binary.tar.gz", "fetch.lock.json"]);
    let ended = fetch(&folder, &server, "cifar10 --unpack").expect(0);
    assert!(ended.out.contains("data/cifar-10-batches-bin: unpacked, 1 files, 3 kB"), "{}", ended.out);
    assert_eq!(folder.read("data/cifar-10-batches-bin/test_batch.bin"), noise(3073));
}

const REVIEWS: [(&str, &str, u32); 4] =
    [("train", "pos", 9), ("train", "neg", 2), ("test", "pos", 7), ("test", "neg", 4)];

/// `rows` reviews a folder, each of which says something else, but for one pair.
fn with_reviews(rows: usize) -> Folder {
    let folder = Folder::new();
    for (split, class, rating) in REVIEWS {
        for id in 0..rows {
            let twin = split == "train" && class == "neg" && id == 1;
            let text = if twin { "a train neg film, 0".into() } else { format!("a {split} {class} film, {id}") };
            folder.write(&format!("data/aclImdb/{split}/{class}/{id}_{rating}.txt"), text);
        }
    }
    folder
}

const TEXT: &str = "--set max_length=64 --set text.val_fraction=0.25";

#[test]
fn verify_counts_what_the_data_hold() {
    let folder = with_reviews(8);
    let json = folder.run(&format!("data verify text {TEXT} --json")).expect(0).out;
    let json: Value = serde_json::from_str(&json).expect("one JSON document");
    let [task] = &json["tasks"].as_array().expect("a list")[..] else { panic!("one task: {json}") };
    let splits = task["stats"]["splits"].as_array().expect("a list");
    let examples: Vec<u64> = splits.iter().filter_map(|split| split["examples"].as_u64()).collect();
    assert_eq!(examples, [12, 4, 16]);
    assert!(splits.iter().all(|split| split["labels"]["0"] == split["labels"]["1"]), "{json}");
    assert_eq!(splits[2]["lengths"]["max"], "a test neg film, 0".len());
    let repeats: u64 = splits.iter().filter_map(|split| split["repeats"].as_u64()).sum();
    let between: u64 =
        task["stats"]["between"].as_array().into_iter().flatten().filter_map(|o| o["examples"].as_u64()).sum();
    assert_eq!(repeats + between, 1, "one review stands twice: {json}");
    let table = folder.run(&format!("data verify text {TEXT}")).expect(0).out;
    assert!(
        table.contains("  floor     0.5000 (always class 0, the best constant answer, measured on test)"),
        "{table}"
    );
    assert!(table.contains("  label             0       1\n  train        50.0 %  50.0 %\n"), "{table}");
}

#[test]
fn verify_holds_labels_of_both_listops_forms_against_their_values() {
    let folder = Folder::new();
    folder.write("official.tsv", "Source\tTarget\r\n( ( ( [MAX 2 ) 9 ) ] )\t9\r\n");
    folder.write("original.tsv", "3\t( ( ( [MIN 3 ) 4 ) ] )\n5\t( ( ( [SM 9 ) 4 ) ] )\n");
    let fine = folder.run("data verify --labels official.tsv").expect(0).out;
    assert_eq!(fine, "official.tsv: 1 of 1 labels are the values of their expressions\n");
    let wrong = folder.run("data verify --labels official.tsv original.tsv").expect(1);
    assert!(wrong.out.ends_with("original.tsv: 1 of 2 labels are the values of their expressions\n"), "{}", wrong.out);
    assert_eq!(wrong.err, "error: original.tsv:2: the label is 5, but the expression's value is 3\n");
}

#[test]
fn verify_says_what_is_missing_or_mistyped() {
    let folder = Folder::new();
    assert!(folder.run("data verify text").expect(3).err.starts_with("error: IMDB reviews not found\n"));
    assert!(folder.run("data verify").expect(3).err.contains("data holds nothing to check"));
    for (line, said) in [
        ("data verify txt", "unknown task or set `txt`\n  help: did you mean `text`?"),
        ("data verify text --set tokens=words", "--set tokens=words: "),
        ("data verify text --set lenght=3", "unknown field `lenght` of `text`"),
        ("data verify text --set max_length=1", "--set max_length=1: `max_length` is 1"),
        ("data verify --set max_length=9", "--set without a task"),
    ] {
        let ended = folder.run(line).expect(2);
        assert!(ended.err.contains(said) && ended.out.is_empty(), "{line}\n{}", ended.err);
    }
    assert!(folder.names("").is_empty(), "a look leaves nothing behind");
}

#[test]
fn a_broken_row_fails_the_check() {
    let folder = with_reviews(8);
    folder.write("data/aclImdb/test/neg/3_9.txt", "too kind");
    let ended = folder.run("data verify text").expect(1);
    assert!(ended.err.contains("a rating of 9 in `neg`"), "{}", ended.err);
}

#[test]
fn exported_lines_hold_the_examples() {
    let folder = with_reviews(8);
    folder.run(&format!("data export text {TEXT} --split test --limit 3 --out rows.jsonl")).expect(0);
    let rows: Vec<Value> =
        folder.text("rows.jsonl").lines().map(|line| serde_json::from_str(line).expect("one object a line")).collect();
    assert_eq!(rows.len(), 3);
    for row in rows {
        let bytes: Vec<u8> = row["tokens"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|t| (t.as_u64().expect("a token") - 1) as u8)
            .collect();
        let text = String::from_utf8(bytes).expect("ASCII");
        assert!(text.starts_with(if row["label"] == 1 { "a test pos film, " } else { "a test neg film, " }), "{text}");
    }
    folder.run("data export mqar --set train_examples=5 --split train --out pairs.jsonl").expect(0);
    let first: Value =
        serde_json::from_str(folder.text("pairs.jsonl").lines().next().expect("rows")).expect("an object");
    let count = |key: &str| first[key].as_array().map(Vec::len);
    assert!(count("positions").is_some_and(|n| n > 0) && count("positions") == count("classes"), "{first}");
}

#[test]
fn exported_arrays_hold_the_examples() {
    let folder = with_reviews(8);
    folder.run(&format!("data export text {TEXT} --split train --out rows.npz")).expect(0);
    folder.run(&format!("data export text {TEXT} --split train --out rows.jsonl")).expect(0);
    let arrays = Tensor::read_npz(folder.path("rows.npz")).expect("NumPy arrays");
    let array = |name: &str| &arrays.iter().find(|(own, _)| own == name).unwrap_or_else(|| panic!("{name}")).1;
    let (tokens, lengths, labels) = (array("tokens"), array("lengths"), array("labels"));
    assert_eq!((tokens.kind(), tokens.size()[0], labels.size()), (Kind::Int, 12, vec![12]));
    let pad = array("pad_token").int64_value(&[0]);
    for (row, line) in folder.text("rows.jsonl").lines().enumerate() {
        let example: Value = serde_json::from_str(line).expect("an object");
        let expected: Vec<i64> =
            example["tokens"].as_array().expect("a list").iter().filter_map(Value::as_i64).collect();
        let row = row as i64;
        assert_eq!(
            (lengths.int64_value(&[row]), labels.int64_value(&[row])),
            (expected.len() as i64, example["label"].as_i64().expect("a class"))
        );
        let padded: Vec<i64> = (0..tokens.size()[1]).map(|at| tokens.int64_value(&[row, at])).collect();
        assert_eq!(padded[..expected.len()], expected);
        assert!(padded[expected.len()..].iter().all(|&token| token == pad));
    }
    assert!(folder.names("").iter().all(|name| !name.ends_with(".part")));
    let ended = folder.run("data export text --split train --out rows.txt").expect(2);
    assert!(ended.err.contains("--out rows.txt: its name does not tell its form"), "{}", ended.err);
    let ended = folder.run("data export text --split test --out none/rows.npz").expect(3);
    assert!(ended.err.contains("none/rows.npz: "), "{}", ended.err);
}

#[test]
fn a_task_that_writes_no_files_names_those_that_do() {
    let folder = Folder::new();
    let ended = folder.run("data generate text --out made").expect(2);
    assert!(
        ended.err.contains("`text` writes no files") && ended.err.contains("listops (source=generate)"),
        "{}",
        ended.err
    );
    assert!(folder.names("").is_empty());
    folder.write("made/mine.txt", "x");
    let ended = folder.run("data generate listops --out made").expect(2);
    assert!(ended.err.contains("--out made: is not empty, it holds mine.txt"), "{}", ended.err);
    assert_eq!(folder.names("made"), ["mine.txt"]);
}

fn sets_in(folder: &Folder) -> Vec<String> {
    let names = folder.names("data/.prepared").into_iter();
    names.filter(|name| !name.ends_with(".lock")).collect()
}

#[test]
fn two_processes_on_the_same_data_prepare_them_once_and_agree() {
    let folder = with_reviews(200);
    let line = format!("data verify text {TEXT}");
    let both = [folder.start(&line), folder.start(&line)].map(|process| process.wait().expect(0));
    assert_eq!(both[0].out, both[1].out);
    assert!(sets_in(&folder).len() <= 1, "{:?}", sets_in(&folder));
}

#[test]
fn what_a_killed_process_left_is_not_used() {
    let folder = with_reviews(500);
    let line = format!("data verify text {TEXT}");
    let process = folder.start(&line);
    let half = |folder: &Folder| sets_in(folder).iter().any(|name| name.ends_with(".part"));
    while process.is_running() && !half(&folder) {
        std::hint::spin_loop();
    }
    if process.is_running() {
        signal("KILL", process.id());
    }
    drop(process);
    let after = folder.run(&line).expect(0);
    assert!(!half(&folder), "{:?}", sets_in(&folder));
    assert_eq!(after.out, folder.run(&line).expect(0).out);
    assert!(after.out.contains("\n  test            1,000 "), "{}", after.out);
}

/// A disk of 200 kB, where this process may make one; it is taken away at the end.
struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    fn at(path: &'a Path) -> Option<Self> {
        fs::create_dir_all(path).expect("makes a folder");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=200k", "tmpfs"]).arg(path).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(path))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0).status();
    }
}

#[test]
fn a_full_disk_is_named_and_nothing_half_made_is_kept() {
    let (folder, (server, _)) = (Folder::new(), pairs());
    let path = folder.path("data");
    let Some(_disk) = SmallDisk::at(&path) else {
        eprintln!("no disk can be mounted here; nothing was tested");
        return;
    };
    let ended = fetch(&folder, &server, "aan").expect(3);
    assert!(ended.err.contains(" are needed and ") && ended.err.contains("make room"), "{}", ended.err);
    folder.write("data/ballast", noise(150_000));
    let ended = folder.run("data export mqar --split train --out data/pairs.npz --limit 1000").expect(3);
    assert!(ended.err.contains("error: data/pairs.npz: ") && ended.err.contains("make room"), "{}", ended.err);
    let ended = folder.run("data export mqar --split train --out data/pairs.jsonl --limit 1000").expect(3);
    assert!(ended.err.contains("error: data/pairs.jsonl: No space left on device"), "{}", ended.err);
    assert_eq!(folder.names("data").iter().filter(|name| name.starts_with("pairs")).count(), 0);
}

#[test]
fn generated_files_are_read_as_the_official_ones() {
    let folder = Folder::new();
    let small = "--set train_examples=30 --set validation_examples=10 --set test_examples=10 --set min_length=5 --set max_length=60";
    let ended = folder.run(&format!("data generate listops {small} --out data")).expect(0);
    assert!(ended.out.starts_with("data/listops-1000/") && ended.out.contains("\nexamples "), "{}", ended.out);
    assert_eq!(folder.names("data/listops-1000"), ["basic_test.tsv", "basic_train.tsv", "basic_val.tsv"]);
    let before = folder.read("data/listops-1000/basic_test.tsv");
    let again = folder.run(&format!("data generate listops {small} --out data")).expect(2);
    assert!(again.err.contains("--out data: is not empty"), "{}", again.err);
    folder.write("data/mine.txt", "kept");
    folder.run(&format!("data generate listops {small} --out data --force")).expect(0);
    assert_eq!(folder.read("data/listops-1000/basic_test.tsv"), before, "the same settings draw the same files");
    assert_eq!(folder.text("data/mine.txt"), "kept");
    let read = folder.run("data verify listops --set source=files").expect(0).out;
    assert!(read.contains("  train: 30 of 30 answers are those of an exact solver\n"), "{read}");
    assert!(read.contains(": every byte as it was prepared\n"), "{read}");
}

#[test]
fn pairs_are_exported_with_both_documents() {
    let folder = Folder::new();
    let line = "data export retrieval --set source=synthetic --split test --limit 4 --out";
    folder.run(&format!("{line} rows.npz")).expect(0);
    folder.run(&format!("{line} rows.jsonl")).expect(0);
    let arrays = Tensor::read_npz(folder.path("rows.npz")).expect("NumPy arrays");
    let array = |name: &str| &arrays.iter().find(|(own, _)| own == name).unwrap_or_else(|| panic!("{name}")).1;
    for (row, line) in (0..).zip(folder.text("rows.jsonl").lines()) {
        let example: Value = serde_json::from_str(line).expect("an object");
        for (tokens, lengths) in [("tokens", "lengths"), ("second", "second_lengths")] {
            let wanted: Vec<i64> =
                example[tokens].as_array().expect("a list").iter().filter_map(Value::as_i64).collect();
            assert_eq!(array(lengths).int64_value(&[row]), wanted.len() as i64);
            assert!((0..).zip(&wanted).all(|(at, &token)| array(tokens).int64_value(&[row, at]) == token), "{tokens}");
        }
    }
}

#[test]
fn a_disk_that_fills_up_while_preparing_is_named_and_a_later_start_prepares() {
    let folder = with_reviews(0);
    for (split, class, rating) in REVIEWS {
        for id in 0..200 {
            let text = format!("{split} {class} {id} {}", "words and more words ".repeat(40));
            folder.write(&format!("reviews/{split}/{class}/{id}_{rating}.txt"), text);
        }
    }
    let line = format!("data verify text {TEXT} --set path={}", folder.path("reviews").display());
    {
        let path = folder.path("data");
        let Some(_disk) = SmallDisk::at(&path) else {
            eprintln!("no disk can be mounted here; nothing was tested");
            return;
        };
        let ended = folder.run(&line).expect(1);
        assert!(ended.err.contains(".bytes: the disk is full"), "{}", ended.err);
        assert!(ended.err.contains("nothing half-made is kept"), "{}", ended.err);
        assert!(sets_in(&folder).is_empty(), "{:?}", sets_in(&folder));
    }
    folder.run(&line).expect(0);
    assert_eq!(sets_in(&folder).len(), 1);
}

#[test]
fn a_prepared_set_of_an_older_form_is_made_again_and_so_is_one_that_rots() {
    let folder = with_reviews(8);
    let line = format!("data verify text {TEXT}");
    let first = folder.run(&line).expect(0).out;
    let set = format!("data/.prepared/{}", sets_in(&folder).first().expect("text is prepared"));
    let meta = folder.text(&format!("{set}/meta.json"));
    folder.write(&format!("{set}/meta.json"), meta.replace("\"format\": 2", "\"format\": 0"));
    let again = folder.run(&line).expect(0);
    assert!(
        again.err.contains("text is prepared again: it has form 0, and this program writes form 2"),
        "{}",
        again.err
    );
    assert_eq!((again.out, folder.text(&format!("{set}/meta.json"))), (first.clone(), meta));
    let whole = folder.read(&format!("{set}/test.bytes"));
    let mut bytes = whole.clone();
    bytes[3] ^= 1;
    for (content, said) in [(&bytes[..], "part `test` is not what was prepared"), (&bytes[1..], "that were prepared")] {
        folder.write(&format!("{set}/test.bytes"), content);
        let rotten = folder.run(&line).expect(0);
        assert!(rotten.err.contains("text is prepared again: ") && rotten.err.contains(said), "{}", rotten.err);
        assert!(!rotten.err.contains("delete the folder"), "{}", rotten.err);
        assert_eq!((&rotten.out, &folder.read(&format!("{set}/test.bytes"))), (&first, &whole));
    }
}
