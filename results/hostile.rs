//! Tests of what anybody may have put into records and manifests: any text in any field stays text, and damaged files are read or
//! refused, without a panic.
//!
//! `MIXARENA_FUZZ=1000000 cargo test --workspace --lib -- hostile` tries so many damaged files instead of some hundreds.

use crate::figures::cells::Cells;
use crate::figures::details::Details;
use crate::figures::lines::Lines;
use crate::figures::profile::{Profile, Shape};
use crate::figures::ranking::Ranking;
use crate::report::Report;
use crate::table::Table;
use crate::{Detail, samples, text};
use crate::{Figure, Manifest, Outcome, Record, Scale, Store, Tested};
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};
use std::fs;
use std::path::Path;

type Sweep = (Manifest, Vec<Record>);

const SWEEPS: [fn() -> Sweep; 7] = [
    samples::detailed,
    samples::language,
    samples::glue,
    samples::lra,
    samples::grid,
    samples::swept,
    samples::grouped,
];

/// A sweep with every kind of figure that its records allow.
fn sweep(which: usize) -> Sweep {
    let (mut manifest, records) = SWEEPS[which % SWEEPS.len()]();
    let details = |axis: &str, measure: &str| {
        let (axis, measure, scale) = (axis.into(), measure.into(), Scale::Linear);
        Figure::from(Details { axis, measure, scale, y_scale: Scale::Linear })
    };
    manifest.figures.extend([
        details("length", "score"),
        details("phenomenon", "minimal_pairs"),
        Figure::from(Cells { axis: "layer".into(), measure: "importance".into() }),
        Figure::from(Profile { shape: Shape::Heat }),
        Figure::from(Profile { shape: Shape::Radar }),
        Figure::from(Ranking { measure: "loss".into(), lower_is_better: None, published: "C4-MLM-loss".into() }),
    ]);
    (manifest, records)
}

/// The same with `text` in every field that holds some.
fn sweep_with(text: &str, which: usize) -> Sweep {
    let (mut manifest, mut records) = sweep(which);
    let added = |field: &mut String| *field = format!("{text}{field}{text}");
    (manifest.question, manifest.command) = (text.into(), text.into());
    for run in &mut manifest.runs {
        added(&mut run.mixer);
        added(&mut run.task);
        added(&mut run.id);
        run.settings.iter_mut().for_each(|(_, value)| added(value));
        run.settings.push((text.into(), text.into()));
        if let Some(beside) = &mut run.published {
            beside.model = beside.model.as_ref().map(|model| if run.seed == 1 { model.clone() } else { text.into() });
        }
    }
    manifest.figures.push(Figure::from(Lines {
        x: text.into(),
        panels: None,
        measure: text.into(),
        scale: Scale::Linear,
    }));
    manifest.figures.push(Figure::from(Cells { axis: text.into(), measure: text.into() }));
    let (axis, measure, scale) = (text.into(), text.into(), Scale::Linear);
    manifest.figures.push(Figure::from(Details { axis, measure, scale, y_scale: scale }));
    for (i, record) in records.iter_mut().enumerate() {
        added(&mut record.id);
        for field in [
            &mut record.device.kind,
            &mut record.device.name,
            &mut record.device.host,
            &mut record.device.kernels,
            &mut record.versions.mixarena,
            &mut record.versions.libtorch,
            &mut record.versions.commit,
        ] {
            added(field);
        }
        if i % 3 == 0 {
            added(&mut record.metric);
        }
        record.notes = vec![text.into()];
        record.marks.push(text.into());
        record.measures.insert(text.into(), -0.5);
        record.measures.insert(format!("loss of {text}"), 1.5);
        // In some of them more values than a figure's table has columns.
        for at in 1..=if i < 2 { 13 } else { 1 } {
            let at = f64::from(at);
            record.details.push(Detail { of: None, series_are: None, ..Detail::new(text, text, text, at, -0.5) });
        }
        record.details.iter_mut().for_each(|detail| {
            if detail.series.starts_with("model") {
                detail.series = format!("model {text}");
            }
        });
        let reason = text.to_string();
        match i {
            1 => record.outcome = Outcome::Failed { reason },
            2 => record.outcome = Outcome::Diverged { reason },
            _ => {}
        }
        record.scores.tested = Some(Tested { examples: 100, positions: 800, standard_error: Some(0.02) });
    }
    (manifest, records)
}

/// Whether a terminal prints the text as it is.
fn is_printable(said: &str) -> bool {
    text::lines(said) == said
}

fn check_files(folder: &Path) {
    for entry in fs::read_dir(folder).expect("lists") {
        let path = entry.expect("an entry").path();
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        match name.rsplit_once('.').map(|(_, kind)| kind) {
            Some("svg") => {
                roxmltree::Document::parse(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
            }
            Some("csv") => {
                let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(text.as_bytes());
                for row in reader.records() {
                    for cell in row.expect("a row of as many cells as the first").iter() {
                        let number = cell.parse::<f64>().is_ok_and(f64::is_finite);
                        assert!(number || !cell.starts_with(['=', '+', '-', '@']), "{name}: {cell:?}");
                        assert!(is_printable(cell), "{name}: {cell:?}");
                    }
                }
            }
            Some("md") => {
                assert!(!text.contains('<') && is_printable(&text), "{name}: {text}");
                // Blocks of code and addresses are ours nowhere; headings only with these titles.
                let begins = |line: &str, marks: &[char]| line.trim_start().starts_with(marks);
                assert!(!text.lines().any(|line| begins(line, &['`', '~', '>', '='])), "{name}: {text}");
                assert!(!text.replace("\\://", "").contains("://") && !text.contains("www."), "{name}: {text}");
                let links = text.match_indices("](").map(|(at, _)| &text[at..]);
                for link in links {
                    let ours = link.split_once(')').is_some_and(|(address, _)| address.ends_with(".svg"));
                    assert!(ours, "{name}: {}", link.chars().take(80).collect::<String>());
                }
            }
            Some("json") => {
                assert!(is_printable(&text), "{name}");
                serde_json::from_str::<serde_json::Value>(&text).expect("JSON");
            }
            _ => {}
        }
    }
}

fn check(text: &str, which: usize) {
    let (manifest, records) = sweep_with(text, which);
    let report = Report::from_records(&manifest, &records).expect("builds");
    for said in [report.terminal(100), report.terminal(300), report.json()] {
        assert!(is_printable(&said), "{said}");
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    report.write_texts_and_svgs(folder.path()).expect("writes");
    check_files(folder.path());
}

const WORST: &str = "=cmd|'/c calc'!A1 <script>alert(1)</script></text></svg>\u{1b}[31m\u{1b}]0;pwn\u{7}\0\u{9b}31m | `x` \
                     [l](javascript:alert(3)) ![i](http://e) [r]: javascript:x https://x.y www.z.y a@b.c \u{202e}\u{2066}\u{200b}\u{feff}\u{ffff}\r\n\n# h\t&lt; ]]>";

#[test]
fn the_worst_text_in_every_field_stays_text() {
    for which in 0..SWEEPS.len() {
        check(WORST, which);
    }
    check("-2+3", 0);
    check(&"long ".repeat(2000), 0);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(24) as u32, ..ProptestConfig::default() })]
    #[test]
    fn any_text_in_every_field_stays_text(text in proptest::collection::vec(any::<char>(), 0..9), which in 0..SWEEPS.len()) {
        check(&text.into_iter().collect::<String>(), which);
    }
}

/// How many cases, or as many as the environment asks for.
fn cases(usual: usize) -> usize {
    std::env::var("MIXARENA_FUZZ").ok().and_then(|text| text.parse().ok()).unwrap_or(usual)
}

/// Bytes with some changed, cut out, doubled, or numbers made absurd.
fn damaged(bytes: &[u8], rng: &mut ChaCha8Rng) -> Vec<u8> {
    let below = |rng: &mut ChaCha8Rng, n: usize| (rng.next_u64() % n.max(1) as u64) as usize;
    let mut bytes = bytes.to_vec();
    for _ in 0..=below(rng, 6) / 4 {
        let at = below(rng, bytes.len());
        let to = (at + below(rng, 60)).min(bytes.len());
        match below(rng, 14) {
            0 if !bytes.is_empty() => bytes[at] = rng.next_u64() as u8,
            1 if !bytes.is_empty() => bytes[at] ^= 1 << below(rng, 8),
            2 => drop(bytes.drain(at..to)),
            3 => {
                let twice = bytes[at..to].to_vec();
                bytes.splice(at..at, twice);
            }
            4 => bytes.truncate(at),
            _ => {
                const NUMBERS: [&str; 9] =
                    ["1e308", "-1e308", "18446744073709551615", "-1", "0", "null", "1e-320", "4294967295", "[[[[[[[["];
                let digits: Vec<usize> = (0..bytes.len()).filter(|i| bytes[*i].is_ascii_digit()).collect();
                if let Some(from) = digits.get(below(rng, digits.len())).copied() {
                    let is_number = |byte: &u8| byte.is_ascii_digit() || b".eE+-".contains(byte);
                    let end = bytes[from..].iter().position(|byte| !is_number(byte)).map_or(bytes.len(), |n| from + n);
                    let number = NUMBERS[below(rng, NUMBERS.len())];
                    bytes.splice(from..end, number.bytes());
                }
            }
        }
    }
    bytes
}

#[test]
fn damaged_records_and_manifests_are_read_or_named_without_a_panic() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (mut tried, mut read, mut drawn) = (0, 0, 0);
    let tries = cases(700);
    'all: loop {
        for which in 0..SWEEPS.len() {
            let (manifest, records) = sweep(which);
            let folder = tempfile::tempdir().expect("a temporary folder");
            let store = Store::open(folder.path()).expect("opens");
            store.save_manifest(&manifest).expect("saves");
            let named = |record: &Record| store.dir().join("records").join(format!("{}-0001.json", record.id));
            // Labels with a `/` make ids that are no file names.
            let records: Vec<Record> = records.into_iter().filter(|record| !record.id.contains('/')).collect();
            for record in &records {
                fs::write(named(record), damaged(&serde_json::to_vec(record).expect("plain data"), &mut rng))
                    .expect("writes");
            }
            tried += records.len();
            let contents = store.read().expect("lists");
            let found = contents.latest();
            assert_eq!(found.len() + contents.warnings.len(), records.len(), "{:?}", contents.warnings);
            read += found.len();
            let table = Table::build(&manifest, &found).expect("builds");
            assert!(is_printable(&table.terminal(120, false)));
            let report = Report::from_records(&manifest, &found).expect("builds");
            if drawn < 40 || tries > 10_000 {
                drawn += 1;
                let out = tempfile::tempdir().expect("a temporary folder");
                report.write_texts_and_svgs(out.path()).expect("writes");
                check_files(out.path());
            }
            let path = store.dir().join("sweeps").join(format!("{}.json", manifest.name));
            fs::write(&path, damaged(&fs::read(&path).expect("reads"), &mut rng)).expect("writes");
            tried += 1;
            let (manifests, warnings) = store.manifests().expect("lists");
            assert_eq!(manifests.len() + warnings.len(), 1);
            for manifest in manifests {
                read += 1;
                Table::build(&manifest, &found).expect("builds").terminal(120, false);
            }
            if tried >= tries {
                break 'all;
            }
        }
    }
    println!("{tried} damaged files, {read} read, {} named", tried - read);
    assert!(read > tried / 20 && read < tried, "{read} of {tried}");
}
