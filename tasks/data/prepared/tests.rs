use super::*;

fn request<'a>(parts: &'a [&'a str]) -> Request<'a> {
    Request { family: "test", version: 1, stamp: "s".into(), parts, documents: 2 }
}

fn fill(writer: &mut Writer) -> Result<(), DataError> {
    writer.row(0, 2, 7, &[b"later", b""])?;
    writer.row(0, 1, 8, &[b"first", b"pair"])?;
    writer.source("a", blake3::hash(b"a"));
    writer.note("one remark");
    Ok(())
}

#[test]
fn rows_come_back_sorted_by_their_keys_and_empty_parts_stay_empty() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir(folder.path().into());
    let set = data.prepared(&request(&["train", "test"]), fill).unwrap();
    let [train, test] = &set.parts[..] else { panic!("two parts") };
    assert_eq!(train.labels(), [8, 7]);
    assert_eq!((train.document(0, 0), train.document(0, 1)), (&b"first"[..], &b"pair"[..]));
    assert_eq!((train.document(1, 0), train.document(1, 1)), (&b"later"[..], &b""[..]));
    assert!(test.is_empty());
    set.verify().unwrap();
    assert_eq!(set.meta.notes, ["one remark"]);
}

#[test]
fn a_second_start_prepares_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir(folder.path().into());
    data.prepared(&request(&["train"]), fill).unwrap();
    let again = data.prepared(&request(&["train"]), |_| panic!("prepared twice")).unwrap();
    assert_eq!(again.parts[0].len(), 2);
}

#[test]
fn a_failure_leaves_nothing_behind_and_a_later_start_prepares_again() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir(folder.path().into());
    let broken = |writer: &mut Writer| {
        fill(writer)?;
        Err(DataError::Malformed { path: "x".into(), row: 3, problem: "broken".into() })
    };
    assert_eq!(data.prepared(&request(&["train"]), broken).unwrap_err().to_string(), "x:3: broken");
    assert!(!folder.path().join(".prepared/test-v1-s.part").exists());
    assert!(data.prepared(&request(&["train"]), fill).is_ok());
}

#[test]
fn what_a_killed_process_left_is_never_used() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir(folder.path().into());
    let left = folder.path().join(".prepared/test-v1-s.part");
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("train.bytes"), "half").unwrap();
    assert_eq!(data.prepared(&request(&["train"]), fill).unwrap().parts[0].len(), 2);
    assert!(!left.exists());
}

#[test]
fn a_set_that_was_cut_or_changed_is_refused_by_itself_and_prepared_again_where_its_source_is() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir(folder.path().into());
    let set = data.prepared(&request(&["train"]), fill).unwrap();
    let whole = files_of(&set.folder);
    let bytes = set.folder.join("train.bytes");
    for (content, said) in [
        ("laterfirstpaiR", "part `train` is not what was prepared; delete the folder"),
        ("short", "has 5 bytes, not the 14 that were prepared"),
    ] {
        fs::write(&bytes, content).unwrap();
        let error = Prepared::open(&set.folder).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
        data.prepared(&request(&["train"]), fill).unwrap();
        assert_eq!(files_of(&set.folder), whole);
    }
}

fn files_of(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.map(|path| (path.clone(), fs::read(&path).unwrap())).collect()
}

#[test]
fn any_bit_that_is_turned_over_in_a_set_is_noticed_before_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir(folder.path().into());
    let set = data.prepared(&request(&["train"]), fill).unwrap();
    let whole = files_of(&set.folder);
    for (path, content) in &whole {
        for at in 0..content.len() {
            let mut changed = content.clone();
            changed[at] ^= 1 << (at % 8);
            fs::write(path, &changed).unwrap();
            let opened = Prepared::open(&set.folder);
            // JSON may say the same in other bytes: `\n` for a space between two fields.
            let same = opened.as_ref().is_ok_and(|opened| opened.meta == set.meta && path.ends_with("meta.json"));
            assert!(opened.is_err() || same, "byte {at} of {}", path.display());
        }
        fs::write(path, content).unwrap();
    }
    Prepared::open(&set.folder).unwrap();
}

#[test]
fn a_large_set_is_checked_again_only_when_its_files_are_not_as_they_were() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("train.bytes");
    let sparse = |bytes: u64| File::create(&file).unwrap().set_len(bytes).unwrap();
    let checks = std::cell::Cell::new(0);
    let check = || {
        check_once(folder.path(), &["train.bytes"], || {
            checks.set(checks.get() + 1);
            Ok(())
        })
        .unwrap();
        checks.get()
    };
    sparse(CHECKED_EACH_TIME);
    assert_eq!((check(), check()), (1, 2), "a small one each time");
    sparse(CHECKED_EACH_TIME + 1);
    assert_eq!((check(), check(), check()), (3, 3, 3));
    // A bit by any program: its time is set back, but not that at which this was done.
    let before = fs::metadata(&file).unwrap().modified().unwrap();
    let mut open = File::options().write(true).open(&file).unwrap();
    open.write_all(b"x").unwrap();
    open.set_modified(before).unwrap();
    assert_eq!((check(), check()), (4, 4));
    let failed = check_once(folder.path(), &["none"], || panic!("there is nothing to check"));
    assert!(failed.unwrap_err().to_string().contains("No such file"));
    let broken = || Err(DataError::Malformed { path: "x".into(), row: 0, problem: "broken".into() });
    sparse(CHECKED_EACH_TIME + 2);
    for _ in 0..2 {
        let failed = check_once(folder.path(), &["train.bytes"], broken);
        assert_eq!(failed.unwrap_err().to_string(), "x: broken", "what failed is not remembered");
    }
}

#[test]
fn of_two_at_once_one_prepares_and_the_other_uses_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir(folder.path().into());
    let count = std::sync::atomic::AtomicU32::new(0);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let slow = |writer: &mut Writer| {
                    count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    std::thread::sleep(std::time::Duration::from_millis(50));
                    fill(writer)
                };
                assert_eq!(data.prepared(&request(&["train"]), slow).unwrap().parts[0].len(), 2);
            });
        }
    });
    assert_eq!(count.into_inner(), 1);
}

#[test]
fn a_stamp_changes_with_any_file_and_not_with_another_look() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("a.tsv"), "1").unwrap();
    let stamp = || stamp_of_source(folder.path(), |name| name.ends_with(".tsv")).unwrap();
    let first = stamp();
    assert_eq!(first, stamp());
    fs::write(folder.path().join("other.txt"), "1").unwrap();
    assert_eq!(first, stamp());
    fs::write(folder.path().join("a.tsv"), "22").unwrap();
    assert_ne!(first, stamp());
}

/// Writes a file anew that is as long as before and, by what programs may set, as old.
fn edit(path: &Path, content: &str) {
    let before = fs::metadata(path).unwrap();
    fs::write(path, content).unwrap();
    File::options().write(true).open(path).unwrap().set_modified(before.modified().unwrap()).unwrap();
    assert_eq!(fs::metadata(path).unwrap().len(), before.len());
}

#[test]
fn an_edit_of_equal_size_and_time_changes_the_stamp_of_few_files_and_of_many() {
    for files in [1, SMALL.1 + 1] {
        let folder = tempfile::tempdir().unwrap();
        (0..files).for_each(|i| fs::write(folder.path().join(format!("{i}.tsv")), "1").unwrap());
        let stamp = || stamp_of_source(folder.path(), |_| true).unwrap();
        let first = stamp();
        assert_eq!(first, stamp());
        edit(&folder.path().join("0.tsv"), "2");
        assert_ne!(first, stamp(), "{files} files");
        edit(&folder.path().join("0.tsv"), "1");
        // The contents of few are read, and nothing else counts.
        assert_eq!(first == stamp(), files == 1, "{files} files");
    }
}

#[test]
fn a_full_disk_is_named_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir(folder.path().into());
    // The system itself answers that there is no room: every write to this device fails so.
    let full = |writer: &mut Writer| {
        let device = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        writer.parts[0].bytes = BufWriter::new(device);
        (0..10_000).try_for_each(|key| writer.row(0, key, 0, &[b"document", b"document"]))
    };
    let error = data.prepared(&request(&["train"]), full).unwrap_err().to_string();
    assert!(error.contains("train.bytes: the disk is full"), "{error}");
    assert!(error.contains("nothing half-made is kept"), "{error}");
    let left: Vec<_> = fs::read_dir(folder.path().join(".prepared")).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
    assert!(data.prepared(&request(&["train"]), fill).is_ok());
}

#[test]
fn an_old_form_is_prepared_again() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir(folder.path().into());
    let set = data.prepared(&request(&["train"]), fill).unwrap();
    for (from, to) in [("\"format\": 2", "\"format\": 0"), ("\"documents\": 2", "\"documents\": 1"), ("train", "other")]
    {
        let meta = set.folder.join("meta.json");
        fs::write(&meta, fs::read_to_string(&meta).unwrap().replace(from, to)).unwrap();
        let again = data.prepared(&request(&["train"]), fill).unwrap();
        assert_eq!(again.meta, set.meta, "{to}");
        again.verify().unwrap();
    }
}

#[test]
fn a_folder_without_its_meta_is_no_set() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir(folder.path().into());
    let half = folder.path().join(".prepared/test-v1-s");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("train.bytes"), "half").unwrap();
    assert_eq!(data.prepared(&request(&["train"]), fill).unwrap().parts[0].len(), 2);
}

#[test]
fn a_damaged_meta_or_span_is_refused_by_name_and_prepared_again() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir(folder.path().into());
    let set = data.prepared(&request(&["train"]), fill).unwrap();
    let spans = set.folder.join("train.spans");
    let mut content = fs::read(&spans).unwrap();
    content[8] = 200; // the first document's length
    fs::write(&spans, content).unwrap();
    let error = Prepared::open(&set.folder).unwrap_err().to_string();
    assert!(error.contains("train.spans: points outside the documents; delete the folder"), "{error}");
    data.prepared(&request(&["train"]), fill).unwrap().verify().unwrap();
    fs::write(set.folder.join("meta.json"), "{").unwrap();
    let error = Prepared::open(&set.folder).unwrap_err().to_string();
    assert!(error.contains("meta.json: EOF while parsing") && error.contains("delete the folder"), "{error}");
    data.prepared(&request(&["train"]), fill).unwrap().verify().unwrap();
}

#[test]
fn a_set_deleted_while_it_is_prepared_is_an_error_and_not_half_a_set() {
    let folder = tempfile::tempdir().unwrap();
    let data = DataDir(folder.path().into());
    let deleted = |writer: &mut Writer| {
        fill(writer)?;
        fs::remove_dir_all(folder.path().join(".prepared")).unwrap();
        Ok(())
    };
    let error = data.prepared(&request(&["train"]), deleted).unwrap_err().to_string();
    assert!(error.ends_with("was deleted while it was being prepared; start again"), "{error}");
    assert!(data.prepared(&request(&["train"]), fill).is_ok());
}

/// What a child process of these tests does, slowly; the folder is named in its environment.
const CHILD: &str = "MIXARENA_TEST_PREPARES_IN";
const ROWS: u64 = 400;
/// Milliseconds that the child rests at each row.
const REST: &str = "MIXARENA_TEST_RESTS";

fn slowly(writer: &mut Writer) -> Result<(), DataError> {
    let rest = std::env::var(REST).map_or(0, |rest| rest.parse().unwrap());
    (0..ROWS).try_for_each(|key| {
        std::thread::sleep(std::time::Duration::from_millis(rest));
        writer.row(0, key, (key % 7) as u8, &[&[key as u8; 1000], b""])
    })
}

/// In a child process, which [`child`] starts with the test that calls this: prepares a set, slowly, and says so.
fn is_child() -> bool {
    let Some(folder) = std::env::var_os(CHILD) else { return false };
    listen(Box::new(|event| println!("{event:?}")));
    let set = DataDir(folder.into()).prepared(&request(&["train"]), |writer| {
        println!("it is me who prepares");
        slowly(writer)
    });
    println!("{} rows", set.unwrap().parts[0].len());
    true
}

/// A process that runs `test` of this file alone, with a folder to prepare in.
fn child(test: &str, folder: &Path, rest: u32) -> std::process::Child {
    let (_, module) = module_path!().split_once("::").expect("a module of the crate");
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args([&*format!("{module}::{test}"), "--exact", "--nocapture"]);
    command.env(CHILD, folder).env(REST, rest.to_string());
    command.stdout(std::process::Stdio::piped()).spawn().unwrap()
}

#[test]
fn of_two_processes_one_prepares_and_the_other_waits_for_it() {
    if is_child() {
        return;
    }
    let child = |folder| child("of_two_processes_one_prepares_and_the_other_waits_for_it", folder, 2);
    let folder = tempfile::tempdir().unwrap();
    let children = [child(folder.path()), child(folder.path())];
    let said = children.map(|child| String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap());
    let both = said.concat();
    assert_eq!(both.matches("it is me who prepares").count(), 1, "{both}");
    assert_eq!(both.matches("400 rows").count(), 2, "{both}");
    assert!(both.matches("Waiting(\"test\")").count() <= 1, "{both}");
}

#[test]
fn what_a_process_killed_half_way_left_is_prepared_again() {
    if is_child() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut killed = child("what_a_process_killed_half_way_left_is_prepared_again", folder.path(), 1000); // minutes from its end
    let part = folder.path().join(".prepared/test-v1-s.part/train.bytes");
    while !part.exists() && killed.try_wait().unwrap().is_none() {
        std::thread::sleep(std::time::Duration::from_millis(2));
    }
    killed.kill().unwrap(); // SIGKILL
    killed.wait().unwrap();
    assert!(part.exists() && folder.path().join(".prepared/test-v1-s.lock").exists());
    assert!(!folder.path().join(".prepared/test-v1-s").exists());
    let set = DataDir(folder.path().into()).prepared(&request(&["train"]), slowly).unwrap();
    assert_eq!(set.parts[0].len() as u64, ROWS);
    set.verify().unwrap();
    assert!(!part.exists());
}
