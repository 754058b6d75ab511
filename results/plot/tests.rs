use super::*;
use crate::samples;
use crate::table::Table;
use crate::table::frame::runs;
use crate::{Manifest, Record};

fn data((manifest, records): (Manifest, Vec<Record>)) -> Data {
    let table = Table::build(&manifest, &records).expect("builds");
    crate::figures::scores::data(&manifest, &runs(&manifest, &records), &table)
}

/// Mixers by tasks by seeds with scores from a fixed scatter, and some runs that did not finish.
fn large(mixers: &[&str], tasks: &[&str], seeds: u64) -> (Manifest, Vec<Record>) {
    let manifest = samples::manifest(mixers, tasks, seeds);
    let mut records = Vec::new();
    for (i, run) in manifest.runs.iter().enumerate() {
        let mixer = mixers.iter().position(|m| *m == run.mixer).expect("planned");
        let score = (0.999 - 0.07 * mixer as f64 - 0.011 * ((i * 7) % 5) as f64).max(0.12);
        records.push(match (mixer + run.task.len(), run.seed) {
            (3 | 9, _) => samples::ended(&run.id, samples::failed("out of memory")),
            (5, 1) => samples::ended(&run.id, samples::diverged("NaN")),
            (7, 2) => samples::ended(&run.id, samples::failed("killed")),
            _ => samples::record(&run.id, score),
        });
    }
    (manifest, records)
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("lists");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn a_plot_shows_every_mixer_its_floor_and_its_failures() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = data(samples::eventful());
    for (draw, name) in [(scores as Drawing, "scores"), (curves as Drawing, "curves")] {
        for kind in ["svg", "png"] {
            draw(&data, &folder.path().join(format!("{name}.{kind}"))).expect("draws");
        }
    }
    assert_eq!(names(folder.path()).len(), 4, "no temporary file is left");
    let svg = fs::read_to_string(folder.path().join("scores.svg")).expect("reads");
    let labels = [
        "attention",
        "s4",
        "mamba",
        "hyena",
        "fnet",
        "mqar",
        "test accuracy",
        "floor 0.125",
        "failed 1/3",
        "unscored 3/3",
    ];
    for label in labels {
        assert!(svg.contains(label), "{label}");
    }
    let svg = fs::read_to_string(folder.path().join("curves.svg")).expect("reads");
    assert!(svg.contains("validation accuracy") && svg.contains("training step"));
    let png = fs::read(folder.path().join("scores.png")).expect("reads");
    assert!(png.starts_with(b"\x89PNG") && png.ends_with(b"IEND\xaeB`\x82"), "a whole PNG");
}

#[test]
fn published_scores_and_signs_are_drawn_and_explained() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = data(samples::lra());
    for (draw, name) in [(scores as Drawing, "scores"), (curves as Drawing, "curves")] {
        for kind in ["svg", "png"] {
            draw(&data, &folder.path().join(format!("{name}.{kind}"))).expect("draws");
        }
        let svg = fs::read_to_string(folder.path().join(format!("{name}.svg"))).expect("reads");
        for text in ["text †", "retrieval ‡", "path-x §", "‡ retrieval: synthetic", "§ path-x: taken for Path-X here"]
        {
            assert!(svg.contains(text), "{name}: {text}");
        }
        assert_eq!(svg.contains("published: the paper"), name == "scores");
    }
    assert!(!scores::picture(&self::data(samples::eventful())).svg().expect("draws").contains("published:"));
    apart(&scores::picture(&data));
    apart(&curves::picture(&data));
}

#[test]
fn a_drawing_that_fails_leaves_what_was_there() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = data(samples::eventful());
    for kind in ["svg", "png"] {
        let taken = folder.path().join(format!("taken.{kind}"));
        fs::create_dir(&taken).expect("a folder where the plot should go");
        assert!(matches!(scores(&data, &taken), Err(PlotError::Write { .. })));
        assert!(matches!(
            scores(&data, &folder.path().join(format!("no/folder.{kind}"))),
            Err(PlotError::Write { .. })
        ));
    }
    assert!(matches!(scores(&data, &folder.path().join("scores.gif")), Err(PlotError::Kind { .. })));
    assert_eq!(names(folder.path()).len(), 2, "only the two folders");
}

#[test]
fn names_cannot_break_the_svg() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("scores.svg");
    scores(&data((samples::manifest(&["a<b>&\"c\""], &["x<y"], 1), Vec::new())), &path).expect("draws");
    let svg = fs::read_to_string(path).expect("reads");
    assert!(svg.contains("a&lt;b&gt;&amp;") && !svg.contains("a<b>"));
}

#[test]
fn without_a_curve_there_is_no_plot_of_curves() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = data((samples::manifest(&["a"], &["mqar"], 1), Vec::new()));
    assert!(matches!(curves(&data, &folder.path().join("curves.svg")), Err(PlotError::Empty { .. })));
    assert!(names(folder.path()).is_empty());
}

/// Left, top, right and bottom of every text.
fn boxes(picture: &marks::Picture) -> Vec<(String, [f64; 4])> {
    let of_mark = |mark: &marks::Mark| match mark {
        marks::Mark::Text { at, text, size, anchor, .. } => {
            let width = marks::text_width(text, *size);
            let left = match anchor {
                marks::Anchor::Start => at.0,
                marks::Anchor::Middle => at.0 - width / 2.0,
                marks::Anchor::End => at.0 - width,
            };
            Some((text.clone(), [left, at.1 - size / 2.0, left + width, at.1 + size / 2.0]))
        }
        _ => None,
    };
    picture.marks.iter().filter_map(of_mark).collect()
}

/// No text leaves the picture or lies over another.
pub(super) fn apart(picture: &marks::Picture) {
    let boxes = boxes(picture);
    for (i, (text, [left, top, right, bottom])) in boxes.iter().enumerate() {
        let inside = *left >= 0.0 && *top >= 0.0 && *right <= picture.width && *bottom <= picture.height;
        assert!(inside, "{text} leaves the picture");
        for (other, [l, t, r, b]) in &boxes[..i] {
            assert!(right <= l || r <= left || bottom <= t || b <= top, "{text} lies over {other}");
        }
    }
}

#[test]
fn labels_neither_overlap_nor_leave_the_picture() {
    let mixers =
        ["attention", "linear_attention", "s4", "s4d", "mamba", "mamba2", "hyena", "fnet", "gla", "rwkv", "h3", "lstm"];
    let tasks = ["mqar", "listops", "text", "a task with quite a long name, length 4096", "image", "pathfinder"];
    for n_mixers in [1, 5, 12] {
        for n_tasks in 1..=6 {
            let data = data(large(&mixers[..n_mixers], &tasks[..n_tasks], 3));
            for picture in [scores::picture(&data), curves::picture(&data)] {
                let boxes = boxes(&picture);
                for (i, (text, [left, top, right, bottom])) in boxes.iter().enumerate() {
                    let inside = *left >= 0.0 && *top >= 0.0 && *right <= picture.width && *bottom <= picture.height;
                    assert!(inside, "{text} leaves the picture of {n_mixers} by {n_tasks}");
                    for (other, [l, t, r, b]) in &boxes[..i] {
                        let apart = right <= l || r <= left || bottom <= t || b <= top;
                        assert!(apart, "{text} lies over {other} in the picture of {n_mixers} by {n_tasks}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_seed_that_finished_early_keeps_its_last_score_in_the_mean_curve() {
    let (manifest, mut records) = samples::eventful();
    let short = records.iter_mut().find(|record| record.id == "s4.mqar.2").expect("there");
    short.curve.truncate(2);
    let kept = short.curve[1].validation_score;
    let others: Vec<_> = records.iter().filter(|r| ["s4.mqar.1", "s4.mqar.3"].contains(&r.id.as_str())).collect();
    let last = others[0].curve.last().expect("a curve");
    let want = (others.iter().map(|r| r.curve.last().expect("a curve").validation_score).sum::<f64>() + kept) / 3.0;
    let data = data((manifest, records.clone()));
    let (_, lines) = &data.curves[0].lines[1];
    let (step, mean) = lines.mean.last().expect("a mean");
    assert_eq!(*step, last.step);
    assert!((mean - want).abs() < 1e-12, "{mean} is not {want}");
    assert_eq!(lines.seeds.len(), 3);
}

#[test]
fn a_plot_of_speed_holds_every_mixer_with_its_exponents_and_nothing_overlaps() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut measured = samples::bench();
    let path = folder.path().join("bench.svg");
    super::bench(&measured, &path).expect("draws");
    super::bench(&measured, &folder.path().join("bench.png")).expect("draws");
    let svg = fs::read_to_string(path).expect("reads");
    for growth in measured.growth().iter().filter(|g| !format!("{:?}", g.quantity).starts_with("Forward")) {
        let exponent = format!("{:.2}", growth.power.expect("two lengths and more").exponent);
        assert!(svg.contains(&growth.label) && svg.contains(&exponent), "{} {exponent}", growth.label);
    }
    // Many mixers, and many lengths close together.
    for copy in 0..11 {
        let more = measured.cases.iter().take(15).cloned().map(|mut case| {
            case.label = format!("{}_{copy}", case.label);
            case.length += copy;
            case
        });
        let more: Vec<_> = more.collect();
        measured.cases.extend(more);
    }
    let picture = bench::picture(&measured);
    let boxes = boxes(&picture);
    for (i, (text, [left, top, right, bottom])) in boxes.iter().enumerate() {
        assert!(*left >= 0.0 && *top >= 0.0 && *right <= picture.width && *bottom <= picture.height, "{text} leaves");
        for (other, [l, t, r, b]) in &boxes[..i] {
            assert!(right <= l || r <= left || bottom <= t || b <= top, "{text} lies over {other}");
        }
    }
}

#[test]
fn fixed_comparisons_and_measurements_of_nothing_are_not_drawn() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("bench.svg");
    assert!(matches!(super::bench(&samples::bench_targets(), &path), Err(PlotError::Empty { .. })));
    let nothing = crate::bench::Bench { cases: Vec::new(), ..samples::bench() };
    assert!(matches!(super::bench(&nothing, &path), Err(PlotError::Empty { .. })));
    assert!(!path.exists());
}
