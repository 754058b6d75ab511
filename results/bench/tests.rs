use super::*;
use crate::samples;
use insta::assert_snapshot;
use proptest::prelude::*;
use serde_json::Value;

fn near(a: f64, b: f64, tolerance: f64) {
    assert!((a - b).abs() <= tolerance * b.abs().max(1e-12), "{a} is not {b}");
}

const LENGTHS: [f64; 7] = [256.0, 512.0, 1024.0, 2048.0, 4096.0, 8192.0, 16384.0];

fn points(f: impl Fn(f64) -> f64) -> Vec<(f64, f64)> {
    LENGTHS.map(|n| (n, f(n))).to_vec()
}

#[test]
fn a_power_law_gives_its_exponent_back() {
    let found = power(&points(|n| 3e-9 * n.powf(1.75))).expect("seven lengths");
    near(found.exponent, 1.75, 1e-12);
    near(found.scale, 3e-9, 1e-9);
    near(found.r2, 1.0, 1e-12);
    assert_eq!(power(&[(256.0, 1.0)]), None);
    assert_eq!(power(&[(256.0, 1.0), (256.0, 2.0)]), None, "one length twice has no slope");
    assert_eq!(power(&[(256.0, 1.0), (512.0, 0.0)]), None, "zero has no logarithm");
}

#[test]
fn a_parabola_and_a_line_give_their_coefficients_back() {
    let found = parabola(&points(|n| 2e-8 * n * n - 3e-6 * n + 0.5)).expect("seven lengths");
    near(found.square, 2e-8, 1e-9);
    near(found.slope, -3e-6, 1e-6);
    near(found.constant, 0.5, 1e-8);
    near(found.r2, 1.0, 1e-12);
    let found = line(&points(|n| 4e-6 * n + 0.25)).expect("seven lengths");
    near(found.slope, 4e-6, 1e-12);
    near(found.constant, 0.25, 1e-12);
    assert_eq!(parabola(&[(1.0, 1.0), (2.0, 2.0)]), None);
    assert_eq!(line(&points(|_| 7.0)).expect("seven lengths").r2, 1.0);
}

// By hand, with u = n - 3: Σu² = 10, Σu⁴ = 34, Σuy = 8, Σu²y = 28, so y = 3 + 0.8 u - (u² - 2) / 7, and 6.4 and 2/7 more of the
// variance 10 are explained.
#[test]
fn fits_of_scattered_points_are_those_made_by_hand() {
    let scattered = [(1.0, 1.0), (2.0, 3.0), (3.0, 2.0), (4.0, 5.0), (5.0, 4.0)];
    let found = parabola(&scattered).expect("five places");
    near(found.square, -1.0 / 7.0, 1e-10);
    near(found.slope, 1.657_142_857_142_857, 1e-10);
    near(found.constant, -0.4, 1e-9);
    near(found.r2, 0.668_571_428_571_428_6, 1e-10);
    let found = line(&scattered).expect("five places");
    near(found.slope, 0.8, 1e-12);
    near(found.constant, 0.6, 1e-12);
    near(found.r2, 0.64, 1e-12);
}

#[test]
fn the_efficiency_length_is_the_larger_root() {
    let own = |slope, constant| Line { slope, constant, r2: 1.0 };
    let of = |square, slope, constant| Parabola { square, slope, constant, r2: 1.0 };
    // n² - 30 n + 200 = (n - 10)(n - 20)
    assert_eq!(crossing(&of(1.0, 0.0, 200.0), &own(30.0, 0.0)), Crossing::At(20.0));
    // n² + 10 n - 200 = (n - 10)(n + 20)
    assert_eq!(crossing(&of(1.0, 10.0, 0.0), &own(0.0, 200.0)), Crossing::At(10.0));
    assert_eq!(crossing(&of(1.0, 30.0, 200.0), &own(0.0, 0.0)), Crossing::NotPositive);
    assert_eq!(crossing(&of(1.0, 0.0, 200.0), &own(0.0, 0.0)), Crossing::NotReal);
    assert_eq!(crossing(&of(-1.0, 0.0, 200.0), &own(0.0, 0.0)), Crossing::NotConvex);
    assert_eq!(crossing(&of(0.0, 1.0, 0.0), &own(0.5, 1.0)), Crossing::NotConvex);
}

proptest! {
    #[test]
    fn where_they_cross_attention_and_mixer_cost_the_same(a in 1e-9..1e-6, b in 0.0..1e-3, c in 0.0..1e-1, d in 0.0..1e-2, e in 0.0..1.0) {
        let (attention, own) = (Parabola { square: a, slope: b, constant: c, r2: 1.0 }, Line { slope: d, constant: e, r2: 1.0 });
        let dearer = |n: f64| (a * n + b) * n + c - (d * n + e);
        match crossing(&attention, &own) {
            Crossing::At(n) => {
                prop_assert!(dearer(n).abs() <= 1e-9 * (a * n * n + (b + d) * n + c + e), "at {n} they differ by {}", dearer(n));
                prop_assert!(dearer(n * 1.01 + 1e-6) > 0.0);
            }
            Crossing::NotPositive | Crossing::NotReal => for n in LENGTHS { prop_assert!(dearer(n) > 0.0) },
            Crossing::NotConvex => prop_assert!(false, "a is positive"),
        }
    }
}

#[test]
fn efficiency_lengths_come_from_the_measurements_and_say_what_spoils_them() {
    let bench = samples::bench();
    let efficiency = bench.efficiency();
    let of =
        |label: &str, quantity| efficiency.iter().find(|e| e.label == label && e.quantity == quantity).expect("there");
    // 1e-8 n² + 1e-6 n + 2e-3 = 2e-5 n + 4e-3
    let time = of("s4", Quantity::TrainingTime);
    near(time.length.expect("a root"), (19e-6 + f64::sqrt(19e-6 * 19e-6 + 8e-11)) / 2e-8, 1e-6);
    assert_eq!(time.remark, "");
    // 8 n² + 4e3 n = 4e4 n + 1e6; bytes are whole, which shifts it a little
    let memory = of("s4", Quantity::TrainingMemory).length.expect("a root");
    near(memory, (36e3 + f64::sqrt(36e3 * 36e3 + 32e6)) / 16.0, 1e-4);
    assert_eq!(of("s4", Quantity::TrainingMemory).remark, "beyond the lengths measured");
    let far = of("hydra", Quantity::TrainingTime);
    assert!(far.length.is_some_and(|n| n > 40960.0) && far.remark.starts_with("15 times the longest"), "{far:?}");
    let few = Bench { cases: bench.cases.iter().filter(|c| c.length < 2048).cloned().collect(), ..bench.clone() };
    let found = few.efficiency();
    assert!(found.iter().all(|e| e.length.is_none() && e.remark == "attention at 3 of the 4 lengths its fit needs"));
    let without = Bench { cases: bench.cases.into_iter().filter(|c| c.mixer != YARDSTICK).collect(), ..few };
    assert!(without.efficiency().is_empty() && !without.growth().is_empty());
}

#[test]
fn quartiles_are_interpolated_and_a_ratio_is_taken_round_by_round() {
    let spread = Spread::of(&[4.0, 1.0, 3.0, 2.0]).expect("four values");
    assert_eq!((spread.low, spread.median, spread.high), (1.75, 2.5, 3.25));
    assert_eq!(Spread::of(&[]), None);
    let mut bench = samples::bench_targets();
    bench.cases[0].training.seconds = vec![1.0, 2.0, 4.0];
    bench.cases[1].training.seconds = vec![3.0, 6.0, 12.0];
    let ratio = bench.time_ratio(&bench.cases[1], Pass::Training).expect("both measured");
    assert_eq!((ratio.low, ratio.median, ratio.high), (3.0, 3.0, 3.0), "a slow machine cancels out");
    assert_eq!(bench.time_ratio(&bench.cases[0], Pass::Training), None, "nothing is held against itself");
}

#[test]
fn a_target_is_missed_by_a_ratio_above_it_or_by_not_finishing_but_not_by_absence() {
    let mut bench = samples::bench_targets();
    let verdicts = |bench: &Bench| bench.cases.iter().map(|case| bench.verdict(case)).collect::<Vec<_>>();
    use Verdict::{Absent, Met, Missed};
    assert_eq!(verdicts(&bench), [None, Some(Met), Some(Missed), Some(Absent)]);
    bench.cases[1].target = Some(Target { time: Some(0.9), memory: Some(0.99), reference: None });
    assert_eq!(verdicts(&bench)[1], Some(Missed), "as much memory as attention's is more than 0.99 of it");
    bench.cases[1].target = Some(Target { time: Some(0.9), memory: Some(1.0), reference: None });
    assert_eq!(verdicts(&bench)[1], Some(Met));
    bench.cases[1].training.seconds.clear();
    assert_eq!((verdicts(&bench)[1], bench.missed()), (Some(Missed), 2));
}

#[test]
fn tables_hold_every_case_with_its_reasons() {
    assert_snapshot!("lengths_terminal", samples::bench().terminal(160));
    assert_snapshot!("targets_terminal", samples::bench_targets().terminal(160));
    assert_snapshot!("targets_csv", samples::bench_targets().csv().expect("writes"));
    let narrow = samples::bench().terminal(90);
    assert!(narrow.lines().all(|line| line.chars().count() <= 90), "{narrow}");
    assert!(narrow.replace('\n', " ").contains("more columns in --json and --export"), "{narrow}");
}

#[test]
fn what_is_written_is_read_back_and_anything_else_is_named() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("bench.json");
    let bench = samples::bench();
    bench.write(&path).expect("writes");
    assert_eq!(Bench::read(&path).expect("reads"), bench);
    let json: Value = serde_json::from_str(&bench.json()).expect("JSON");
    assert_eq!(json["summary"].as_array().map(Vec::len), Some(30));
    assert_eq!(json["efficiency_lengths"].as_array().map(Vec::len), Some(8));
    assert!(matches!(Bench::read(&folder.path().join("no.json")), Err(BenchError::Read { .. })));
    for text in ["{}", "not JSON", &bench.json().replacen("\"format\": 1", "\"format\": 99", 1)] {
        fs::write(&path, text).expect("writes");
        assert!(matches!(Bench::read(&path), Err(BenchError::Shape { .. })), "{text:.20}");
    }
    assert!(matches!(bench.write(&folder.path().join("no/bench.json")), Err(BenchError::Write { .. })));
}

#[test]
fn a_run_held_against_itself_holds_and_one_that_got_slower_does_not() {
    let before = samples::bench();
    let same = compare(&before, &before, 1.2, false);
    assert!(same.holds() && same.held == Held::ToAttention && same.warnings.is_empty());
    assert!(same.changes.iter().all(|change| change.ratio == 1.0));
    let slowed = |factor: f64, label: &str| {
        let mut after = before.clone();
        for case in after.cases.iter_mut().filter(|case| label.is_empty() || case.label == label) {
            case.training.seconds.iter_mut().for_each(|s| *s *= factor);
        }
        after
    };
    let worse = compare(&before, &slowed(1.5, "s4"), 1.2, false);
    assert_eq!((worse.holds(), worse.worse()), (false, 5));
    assert!(compare(&before, &slowed(1.5, "s4"), 1.6, false).holds());
    assert_snapshot!("compare_terminal", worse.terminal(120));
    // A machine that is slower for all is no one's fault, unless seconds are asked for.
    assert!(compare(&before, &slowed(1.5, ""), 1.2, false).holds());
    assert!(!compare(&before, &slowed(1.5, ""), 1.2, true).holds());
}

#[test]
fn memory_cases_lost_and_machines_are_compared_too() {
    let before = samples::bench();
    let mut after = before.clone();
    after.device.threads = 8;
    after.versions.commit = "def".into();
    after.cases[1].training.memory = Some(Memory { built_bytes: 200 << 20, peak_bytes: 900 << 20 });
    after.cases[4].state = State::Stopped { reason: "out of memory".into() };
    after.cases[4].training.seconds.clear();
    after.cases.retain(|case| (case.label.as_str(), case.length) != ("hydra", 256));
    let found = compare(&before, &after, 1.2, false);
    assert_eq!((found.worse(), found.holds()), (1, false));
    assert_eq!(found.lost, ["s4 at length 512, d_model 256, batch 4: out of memory"]);
    assert_eq!(found.apart, ["hydra at length 256, d_model 256, batch 4 only in the first run"]);
    assert_eq!(found.warnings, ["threads differs: 2 and 8", "commit differs: abc and def"]);
    after.cases.retain(|case| case.mixer != YARDSTICK);
    let without = compare(&before, &after, 1.2, false);
    assert_eq!(without.held, Held::Absolute);
    assert!(
        without.warnings.iter().any(|w| w.starts_with("not both runs measured attention")),
        "{:?}",
        without.warnings
    );
}
