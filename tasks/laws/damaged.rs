//! Every parser of this crate on damaged files: it reads them or refuses them, and neither panics, nor goes on for ever, nor holds
//! much more than it was given. The files lie in memory where there is such a disk, and go the way that a user's go: into a data
//! folder, which a task opens.

use crate::data::fetch::unpack;
use crate::data::formats::tests::{archive, put};
use crate::data::zip::tests::zipped;
use crate::language::corpus::tests::{gz, parquet};
use crate::language::corpus::{Corpus, CorpusConfig, Packing, Paths, Shape};
use crate::language::tokenizer::tests::BERT;
use crate::{DataDir, Prepared, Split, Tokenizer, language::minimal_pairs, registry};
use flate2::{Compression, Crc, write::GzEncoder};
use fuzzing::Target;
use serde_json::{Value, json};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use tar::EntryType;

/// A data folder in which a file is written again and again.
struct Place(tempfile::TempDir);

impl Place {
    fn new(files: &[(&str, &[u8])]) -> Self {
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let place = Self(folder.unwrap());
        for (name, content) in files {
            put(place.0.path(), name, content);
        }
        place
    }

    fn data(&self) -> DataDir {
        DataDir(self.0.path().into())
    }

    /// Writes the file and forgets what was prepared of another state of it.
    fn with(&self, name: &str, content: &[u8]) {
        put(self.0.path(), name, content);
        let _ = fs::remove_dir_all(self.0.path().join(".prepared"));
    }

    /// Opens a task and reads some examples of it, where that can be done.
    fn open(&self, task: &str, settings: &Value) {
        let entry = registry().into_iter().find(|entry| entry.name == task).unwrap();
        assert_eq!(entry.check(settings), [], "settings of {task}");
        let Ok(task) = entry.open(settings, &self.data()) else { return };
        for split in Split::ALL {
            (0..task.len(split).min(3)).for_each(|index| drop(task.example(split, index).unwrap()));
        }
        task.notes();
    }

    /// Whether it opens.
    #[track_caller]
    fn valid(&self, task: &str, settings: &Value) {
        let entry = registry().into_iter().find(|entry| entry.name == task).unwrap();
        entry.open(settings, &self.data()).unwrap_or_else(|error| panic!("{task}: {error}"));
    }
}

/// A task with one of its files damaged.
fn task(target: Target, place: &Place, name: &str, task: &str, settings: &Value) {
    target.run(|bytes| {
        place.with(name, bytes);
        place.open(task, settings);
    });
}

const LISTOPS: &str = "Source\tTarget\r\n( ( ( [MAX 2 ) 3 ) ] )\t3\r\n[MIN 4 [SM 1 2 ] 9 ]\t3\r\n[MED 1 5 7 ]\t5\r\n";

#[test]
fn listops_tables() {
    let names = ["train", "val", "test"].map(|part| format!("listops-1000/basic_{part}.tsv"));
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), LISTOPS.as_bytes())).collect();
    let (place, settings) = (Place::new(&files), json!({ "source": "files" }));
    place.valid("listops", &settings);
    task(Target::new("listops tsv", [LISTOPS]), &place, &names[0], "listops", &settings);
    let labels = Place::new(&[]);
    Target::new("listops labels", [LISTOPS, "3\t( ( [MAX 2 ) 3 ) ]\n"]).run(|bytes| {
        let path = put(labels.0.path(), "x.tsv", bytes);
        let _ = crate::listops::check_labels(&path);
    });
}

/// One review of each kind, by its path.
fn reviews() -> Vec<(String, &'static [u8])> {
    let paths = ["train", "test"]
        .iter()
        .flat_map(|part| ["pos/0_9", "neg/0_2", "pos/1_8", "neg/1_1"].map(|id| format!("aclImdb/{part}/{id}.txt")));
    paths.map(|path| (path, &b"a film, watched<br />twice \xc3\xa9"[..])).collect()
}

fn by_str<'a>(files: &'a [(String, &'static [u8])]) -> Vec<(&'a str, &'a [u8])> {
    files.iter().map(|(name, content)| (name.as_str(), *content)).collect()
}

/// A tar of these files, not packed.
fn tarred(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = Vec::new();
    let packed = archive(files);
    std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(&packed[..]), &mut tar).unwrap();
    tar
}

/// Gives each header of a tar its sum again, as far as the sizes in them lead to the next one.
#[expect(clippy::ptr_arg, reason = "the edits of `fuzzing` work on vectors")]
fn mend_tar(bytes: &mut Vec<u8>) {
    let mut at = 0;
    while let Some(header) = bytes.get_mut(at..at + 512) {
        header[148..156].fill(b' ');
        let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
        header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
        let size = header[124..135].iter().filter(|byte| (b'0'..=b'7').contains(byte));
        let size = size.fold(0_usize, |size, digit| size.saturating_mul(8).saturating_add(usize::from(digit - b'0')));
        at = at.saturating_add(512).saturating_add(size.div_ceil(512).saturating_mul(512));
    }
}

#[test]
fn reviews_in_archives() {
    let (files, settings) = (reviews(), json!({}));
    let (tar, zip, packed) = (tarred(&by_str(&files)), zipped(&by_str(&files)), archive(&by_str(&files)));
    let place = Place::new(&[("aclImdb_v1.tar.gz", &packed)]);
    place.valid("text", &settings);
    let run = |target: Target, pack: &dyn Fn(&[u8]) -> Vec<u8>| {
        target.run(|bytes| {
            place.with("aclImdb_v1.tar.gz", &pack(bytes));
            place.open("text", &settings);
        });
    };
    run(Target::new("tar", [tar.clone()]).mended(mend_tar), &<[u8]>::to_vec);
    run(Target::new("tar inside gzip", [tar.clone()]).mended(mend_tar), &gz);
    let long = "aclImdb/train/pos/long/".repeat(8);
    let mut named =
        crate::data::members::tests::with_member(EntryType::GNULongName, long.len() as u64, long.as_bytes());
    named.truncate(named.len() - 1024);
    let pax = crate::data::members::tests::with_member(EntryType::XHeader, 30, b"30 path=aclImdb/train/neg/2_3\n");
    for (what, names) in [("tar of long names", [&named, &tar[..]].concat()), ("tar of attributes", pax)] {
        run(Target::new(what, [names]).mended(mend_tar), &<[u8]>::to_vec);
    }
    run(Target::new("gzip", [packed]), &<[u8]>::to_vec);
    run(Target::new("zip", [zip.clone()]), &<[u8]>::to_vec);
    let here = Place::new(&[]);
    for (name, content, mend) in
        [("tar unpacked", tar, Some(mend_tar as fn(&mut Vec<u8>))), ("zip unpacked", zip, None)]
    {
        let target = Target::new(name, [content]);
        let target = if let Some(mend) = mend { target.mended(mend) } else { target };
        target.run(|bytes| {
            let path = put(here.0.path(), "down/x", bytes);
            let _ = fs::remove_dir_all(here.0.path().join("data"));
            fs::create_dir(here.0.path().join("data")).unwrap();
            let _ = unpack(&path, &here.0.path().join("data"), &mut |_| {});
        });
        let outside = fs::read_dir(here.0.path()).unwrap().count();
        assert_eq!(outside, 2, "something was written outside the folder");
    }
}

#[test]
fn reviews_one_by_one() {
    let files = reviews();
    let place = Place::new(&by_str(&files));
    place.valid("text", &json!({}));
    let name = files[0].0.clone();
    for (what, settings) in [("bytes", json!({})), ("characters", json!({ "tokens": "chars", "min_freq": 1 }))] {
        task(Target::new(&format!("review as {what}"), [files[0].1]), &place, &name, "text", &settings);
    }
}

#[test]
fn cifar_records() {
    let record = |label: u8| [&[label][..], &[7; 3072]].concat();
    let batch: Vec<u8> = (0..40).flat_map(|i| record(i % 10)).collect();
    let settings = json!({ "batch_files": 1 });
    let names = ["data_batch_1", "test_batch"].map(|name| format!("cifar-10-batches-bin/{name}.bin"));
    let place = Place::new(&[(&names[0], &batch), (&names[1], &batch)]);
    place.valid("image", &settings);
    let target = Target::new("cifar", [batch[..20 * 3073].to_vec()]).usual(128);
    task(target, &place, &names[1], "image", &settings);
}

/// A PNG of `side` grey pixels a side.
fn picture(side: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut encoder = png::Encoder::new(&mut bytes, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::Eight);
    encoder.add_ztxt_chunk("Comment".into(), "long ".repeat(100)).unwrap();
    let pixels: Vec<u8> = (0..side * side).map(|at| (at * 37 % 251) as u8).collect();
    encoder.write_header().unwrap().write_image_data(&pixels).unwrap();
    bytes
}

/// Gives each chunk of a PNG its sum again, as far as the lengths in them lead to the next one.
#[expect(clippy::ptr_arg, reason = "the edits of `fuzzing` work on vectors")]
fn mend_png(bytes: &mut Vec<u8>) {
    let mut at = 8;
    while let Some(head) = bytes.get(at..at + 4) {
        let length = u32::from_be_bytes(head.try_into().unwrap()) as usize;
        let Some(end) = at.checked_add(8).and_then(|at| at.checked_add(length)) else { return };
        let Some(chunk) = bytes.get(at + 4..end) else { return };
        let mut crc = Crc::new();
        crc.update(chunk);
        let Some(sum) = bytes.get_mut(end..end + 4) else { return };
        sum.copy_from_slice(&crc.sum().to_be_bytes());
        at = end + 4;
    }
}

#[test]
fn pathfinder_pictures_and_their_metadata() {
    let folder = "pathfinder32/curv_contour_length_14";
    let row = |n: u32| format!("imgs/0 sample_{n}.png {n} {} 1.0 14 4 3 2 1 5\n", n % 2);
    let (metadata, picture) = ((0..12).map(row).collect::<String>(), picture(32));
    let names: Vec<String> = (0..12).map(|n| format!("{folder}/imgs/0/sample_{n}.png")).collect();
    let mut files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &picture[..])).collect();
    let listing = format!("{folder}/metadata/0.npy");
    files.push((&listing, metadata.as_bytes()));
    let place = Place::new(&files);
    let settings = json!({ "source": "files", "resolution": 32, "contour_length": 14 });
    place.valid("pathfinder", &settings);
    let target = Target::new("png", [picture.clone()]).mended(mend_png);
    task(target, &place, &names[3], "pathfinder", &settings);
    place.with(&names[3], &picture);
    place.valid("pathfinder", &settings);
    task(Target::new("npy", [metadata]), &place, &listing, "pathfinder", &settings);
}

#[test]
fn pairs_of_papers() {
    let row = |n: usize| format!("{}.0\t{n}\t{n}b\tOne text, \"quoted\" {n}.\tAnother text {n}.\n", n % 2);
    let table: String = (0..6).map(row).collect();
    let names = ["train", "eval", "test"].map(|part| format!("tsv_data/new_aan_pairs.{part}.tsv"));
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), table.as_bytes())).collect();
    let (place, settings) = (Place::new(&files), json!({ "source": "files", "tokens": "chars", "min_freq": 1 }));
    place.valid("retrieval", &settings);
    task(Target::new("aan tsv", [table.clone()]), &place, &names[0], "retrieval", &settings);
}

#[test]
fn glue_tables() {
    let place = Place::new(&[]);
    crate::glue::tests::release(place.0.path(), [9, 6]);
    let forms = [
        ("cola", "CoLA/train"),
        ("sst2", "SST-2/dev"),
        ("mrpc", "MRPC/train"),
        ("stsb", "STS-B/train"),
        ("qqp", "QQP/train"),
        ("mnli", "MNLI/dev_matched"),
        ("qnli", "QNLI/train"),
        ("rte", "RTE/train"),
        ("wnli", "WNLI/dev"),
    ];
    for (name, file) in forms {
        let settings = json!({ "task": name, "tokenizer": "bytes" });
        place.valid("glue", &settings);
        let path = format!("glue/{file}.tsv");
        let valid = fs::read(place.0.path().join(&path)).unwrap();
        task(Target::new(&format!("glue {name}"), [valid.clone()]).usual(128), &place, &path, "glue", &settings);
        place.with(&path, &valid);
    }
}

/// A corpus read and prepared, by this thread alone.
fn prepared(place: &Place, name: &str, settings: &CorpusConfig, tokenizer: &Arc<Tokenizer>) {
    let shape = Shape { length: 16, packing: Packing::Padded, ends: true };
    let [path, validation, test] = [name, "v.txt", "t.txt"].map(|name| Paths::of([name]));
    let config = CorpusConfig { path, validation: Some(validation), test: Some(test), ..settings.clone() };
    let Ok(corpus) = Corpus::open_alone(&place.data(), &config, tokenizer.clone(), shape) else { return };
    for split in Split::ALL {
        (0..corpus.len(split).min(3)).for_each(|index| drop(corpus.sequence(split, index)));
    }
}

#[test]
fn corpora_of_every_form() {
    let text = "A paragraph of text.\nIts second line.\n\nAnother, \u{e9}\u{4e2d}.\r\n\r\n\u{feff}Last<|endoftext|>";
    let lines =
        "{\"text\": \"one \\u00e9\", \"id\": 1}\n{\"id\": [1, {\"x\": null}], \"text\": \"two\"}\n{\"text\": null}\n";
    let wiki = " \n = Title = \n \n Text @-@ <unk> . \n = = Section = = \n More . \n \n = Other = \n \n Text . \n";
    let rows: Vec<Option<&str>> = (0..40).map(|i| [Some("a row"), Some("another row \u{e9}"), None][i % 3]).collect();
    let columns = parquet(&rows, 15);
    let place = Place::new(&[("v.txt", b"validates"), ("t.txt", b"tests")]);
    let bytes = Arc::new(Tokenizer::bytes());
    let with = |settings: Value| -> CorpusConfig { serde_json::from_value(settings).unwrap() };
    let (strict, replacing) = (with(json!({})), with(json!({ "invalid_utf8": "replace" })));
    let skipping = with(json!({ "invalid_utf8": "skip", "malformed": "skip" }));
    let run = |what: &str, name: &str, valid: &[u8], settings: &CorpusConfig, usual: u32| {
        Target::new(&format!("corpus {what}"), [valid]).usual(usual).run(|content| {
            place.with(name, content);
            prepared(&place, name, settings, &bytes);
        });
    };
    run("text", "x.txt", text.as_bytes(), &strict, 256);
    run("text, replacing", "x.txt", text.as_bytes(), &replacing, 256);
    run("text.gz", "x.txt.gz", &gz(text.as_bytes()), &replacing, 128);
    run("jsonl", "x.jsonl", lines.as_bytes(), &strict, 256);
    run("jsonl, skipping", "x.jsonl", lines.as_bytes(), &skipping, 256);
    run("jsonl.gz", "x.jsonl.gz", &gz(lines.as_bytes()), &skipping, 128);
    run("wikitext", "wiki.train.raw", wiki.as_bytes(), &replacing, 256);
    run("wikitext tokens", "wiki.train.tokens", wiki.as_bytes(), &strict, 128);
    run("parquet", "x.parquet", &columns, &replacing, 512);
}

/// Texts that a tokenizer must have tokens for, whatever it is made of.
const TEXTS: [&str; 6] = [
    "",
    "the cat's hat",
    "caf\u{e9} \u{4e2d}\u{6587} \u{1f600}",
    " \t\n ",
    "<|x|> [MASK] ##ed",
    "\u{0}\u{fffd}zzzzzzzzzzzzzzzzzzzzzzzzzz",
];

fn tokenizer_files() -> Vec<Vec<u8>> {
    let added = json!([{ "id": 0, "content": "[UNK]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true },
                       { "id": 1, "content": "[CLS]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true },
                       { "id": 2, "content": "[SEP]", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true }]);
    let of = |model: Value, extra: Value| {
        let mut all = json!({ "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
                              "pre_tokenizer": { "type": "Whitespace" }, "post_processor": null, "decoder": null, "model": model });
        all.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        serde_json::to_vec_pretty(&all).unwrap()
    };
    let vocab =
        json!({ "[UNK]": 0, "[CLS]": 1, "[SEP]": 2, "t": 3, "h": 4, "e": 5, "th": 6, "the": 7, "c": 8, "##at": 9 });
    vec![
        of(
            json!({ "type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "max_input_chars_per_word": 100, "vocab": vocab }),
            json!({ "normalizer": { "type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true, "strip_accents": null, "lowercase": true },
                   "pre_tokenizer": { "type": "BertPreTokenizer" }, "decoder": { "type": "WordPiece", "prefix": "##", "cleanup": true } }),
        ),
        of(
            json!({ "type": "BPE", "dropout": null, "unk_token": "[UNK]", "continuing_subword_prefix": null, "end_of_word_suffix": null,
                   "fuse_unk": false, "byte_fallback": false, "vocab": vocab, "merges": [["t", "h"], ["th", "e"]] }),
            json!({ "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
                   "decoder": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true } }),
        ),
        of(json!({ "type": "WordLevel", "vocab": vocab, "unk_token": "[UNK]" }), json!({})),
        of(
            json!({ "type": "Unigram", "unk_id": 0, "byte_fallback": false,
                   "vocab": [["[UNK]", 0.0], ["[CLS]", 0.0], ["[SEP]", 0.0], ["t", -1.5], ["th", -2.0], ["e", -1.0]] }),
            json!({ "pre_tokenizer": { "type": "Metaspace", "replacement": "\u{2581}", "prepend_scheme": "always", "split": true } }),
        ),
    ]
}

#[test]
fn tokenizers_that_somebody_made() {
    let place = Place::new(&[]);
    let run = |name: &str, target: Target| {
        target.run(|bytes| {
            put(place.0.path(), name, bytes);
            let config = json!({ "file": { "path": name } });
            let config = serde_json::from_value(config).unwrap();
            let read = Tokenizer::obtain(&place.data(), &config, "", &mut || unreachable!("nothing is trained"));
            let Ok(tokenizer) = read else { return };
            for text in TEXTS {
                let tokens = tokenizer.encode(text);
                assert!(tokens.iter().all(|&token| (token as usize) < tokenizer.vocab_size()), "{tokens:?}");
                tokenizer.decode(&tokens);
                tokens.windows(2).for_each(|two| _ = tokenizer.continues(two[0], two[1]));
            }
            tokenizer.decode(&(0..tokenizer.vocab_size() as u32).collect::<Vec<_>>());
        });
    };
    for valid in tokenizer_files() {
        let name = serde_json::from_slice::<Value>(&valid).unwrap()["model"]["type"].as_str().unwrap().to_owned();
        run("tokenizer.json", Target::new(&format!("tokenizer.json {name}"), [valid]).may_hold(32 << 20, 64));
    }
    run("vocab.txt", Target::new("vocab.txt", [BERT]).may_hold(32 << 20, 64));
}

#[test]
fn minimal_pairs_of_a_file() {
    let line = r#"{"sentence_good": "These cats sleep.", "sentence_bad": "This cats sleep.", "UID": "agreement", "pairID": "0"}"#;
    let place = Place::new(&[]);
    Target::new("minimal pairs", [format!("{line}\n{line}\n")]).run(|bytes| {
        let _ = minimal_pairs::read(&put(place.0.path(), "pairs.jsonl", bytes));
    });
}

#[test]
fn what_is_known_of_prepared_sets_and_downloads() {
    let names = ["train", "val", "test"].map(|part| format!("listops-1000/basic_{part}.tsv"));
    let files: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), LISTOPS.as_bytes())).collect();
    let place = Place::new(&files);
    place.valid("listops", &json!({ "source": "files" }));
    let mut sets = fs::read_dir(place.0.path().join(".prepared")).unwrap().map(|entry| entry.unwrap().path());
    let set = sets.find(|path| path.is_dir()).unwrap();
    for name in ["meta.json", "train.spans", "train.labels"] {
        let valid = fs::read(set.join(name)).unwrap();
        Target::new(&format!("prepared {name}"), [valid.clone()]).run(|bytes| {
            fs::write(set.join(name), bytes).unwrap();
            let _ = Prepared::open(&set);
        });
        fs::write(set.join(name), valid).unwrap();
    }
    let pins =
        r#"{ "set/b.txt": { "url": "https://x", "bytes": 3, "sha256": "ba78", "date": "2026-11-30T00:00:00Z" } }"#;
    Target::new("fetch.lock.json", [pins]).run(|bytes| {
        put(place.0.path(), "fetch.lock.json", bytes);
        let _ = crate::data::fetch::pins::read(place.0.path());
    });
}

/// A gzip of zeros with text at its end.
fn bomb(zeros: u64) -> Vec<u8> {
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    let block = vec![0; 1 << 20];
    (0..zeros >> 20).for_each(|_| packed.write_all(&block).unwrap());
    packed.write_all(b"\nend").unwrap();
    packed.finish().unwrap()
}

#[test]
fn a_name_of_gigabytes_in_an_archive_is_refused_and_little_is_held() {
    let kinds = [EntryType::GNULongName, EntryType::GNULongLink, EntryType::XHeader];
    let place = Place::new(&[]);
    let entry = registry().into_iter().find(|entry| entry.name == "text").unwrap();
    for kind in kinds {
        let mut packed = GzEncoder::new(Vec::new(), Compression::best());
        let head = crate::data::members::tests::with_member(kind, 256 << 20, b"");
        packed.write_all(&head[..512]).unwrap();
        let block = vec![b'a'; 1 << 20];
        (0..256).for_each(|_| packed.write_all(&block).unwrap());
        packed.write_all(&head[512..]).unwrap();
        put(place.0.path(), "aclImdb_v1.tar.gz", &packed.finish().unwrap());
        let (opened, peak) = fuzzing::peak_of(|| entry.open(&json!({}), &place.data()).map(drop));
        let error = opened.unwrap_err().to_string();
        assert!(error.contains("`set/odd` names another file with 268435456 bytes"), "{error}");
        assert!(peak.bytes < 16 << 20, "{} bytes are held", peak.bytes);
    }
}

#[test]
fn what_unpacks_to_far_more_than_it_is_is_refused_with_its_place_and_little_is_held() {
    let size = 256 << 20;
    let lines = bomb(size);
    let zeros = vec![0; size as usize];
    let reviews = reviews();
    let with_bomb: Vec<(&str, &[u8])> =
        by_str(&reviews).into_iter().chain([("aclImdb/train/pos/7_9.txt", &zeros[..])]).collect();
    let place = Place::new(&[("v.txt", b"validates"), ("t.txt", b"tests")]);
    let said = |place: &Place, task: &str, settings: &Value| {
        let entry = registry().into_iter().find(|entry| entry.name == task).unwrap();
        let (opened, peak) = fuzzing::peak_of(|| entry.open(settings, &place.data()).map(drop));
        assert!(peak.bytes < 100 << 20, "{} bytes are held", peak.bytes);
        opened.unwrap_err().to_string()
    };
    let tar_gz = archive(&with_bomb);
    assert!(tar_gz.len() < 4 << 20);
    put(place.0.path(), "aclImdb_v1.tar.gz", &tar_gz);
    let error = said(&place, "text", &json!({}));
    assert!(error.contains("aclImdb/train/pos/7_9.txt: is longer than 16 MiB, which no review is"), "{error}");
    put(place.0.path(), "aclImdb_v1.tar.gz", &zipped(&with_bomb));
    let error = said(&place, "text", &json!({}));
    let long = "aclImdb/train/pos/7_9.txt: is longer than 16 MiB";
    assert!(error.contains(long) || error.contains("7_9.txt` unpacks to more than 250 times its size"), "{error}");
    // Of a member that nobody wants no byte is kept, and the rest is read on until it is clear what it is.
    let beside: Vec<(&str, &[u8])> = std::iter::once(("README", &zeros[..])).chain(by_str(&reviews)).collect();
    let mut packed = GzEncoder::new(Vec::new(), Compression::best());
    packed.write_all(&tarred(&beside)).unwrap();
    put(place.0.path(), "aclImdb_v1.tar.gz", &packed.finish().unwrap());
    let error = said(&place, "text", &json!({}));
    assert!(error.contains("aclImdb_v1.tar.gz: unpacks to more than 250 times its size"), "{error}");
    put(place.0.path(), "x.txt.gz", &lines);
    let settings =
        json!({ "corpus": { "path": "x.txt.gz", "validation": "v.txt", "test": "t.txt" }, "tokenizer": "bytes" });
    let error = said(&place, "clm", &settings);
    assert!(
        error.contains("x.txt.gz: unpacks to more than 250 times its size; if it is what it should be, unpack it"),
        "{error}"
    );
    put(place.0.path(), "listops-1000/basic_train.tsv.gz", &lines);
    for part in ["val", "test"] {
        put(place.0.path(), &format!("listops-1000/basic_{part}.tsv"), LISTOPS.as_bytes());
    }
    let error = said(&place, "listops", &json!({ "source": "files" }));
    assert!(error.contains("basic_train.tsv.gz:1: a line longer than 16 MiB"), "{error}");
}
