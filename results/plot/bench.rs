//! Time and memory of one block against the length, both axes logarithmic; the legend holds the fitted exponents.

use super::marks::{Anchor, GREY, INK, Look, PALE, Picture, Place, looks, shortened, stroke, text_width, widest};
use crate::bench::{Bench, Pass, Quantity};

const WIDTH: f64 = 290.0;
const HEIGHT: f64 = 230.0;
const TITLE: f64 = 44.0;
const AXIS: f64 = 46.0;
const GUTTER: f64 = 42.0;
const GAP: f64 = 64.0;
const MARGIN: f64 = 16.0;
const LABEL: f64 = 12.0;
const SMALL: f64 = 10.5;
const LEGEND: f64 = 17.0;
const COLUMN: f64 = 58.0;

/// Points of one mixer: length, number, and its quartiles where it has some.
type Points = Vec<(f64, f64, Option<(f64, f64)>)>;

/// The quantities drawn, their titles, and what brings them into the axis's unit.
const PANELS: [(Quantity, &str, &str, f64); 2] = [
    (Quantity::TrainingTime, "time", "forward + backward, ms", 1e3),
    (Quantity::TrainingMemory, "memory", "added by forward + backward, MiB", 1.0 / (1 << 20) as f64),
];

pub(super) fn picture(bench: &Bench) -> Picture {
    let names: Vec<String> = bench.labels().into_iter().map(String::from).collect();
    let looks = looks(&names);
    let name_width = widest(names.iter().map(String::as_str), LABEL);
    let legend = 29.0 + name_width + 2.0 * COLUMN;
    let panels = 2.0 * WIDTH + GAP;
    let tall = (TITLE + HEIGHT + AXIS).max(TITLE + LEGEND * (names.len() as f64 + 1.0) + 8.0);
    let mut picture =
        Picture { width: MARGIN + GUTTER + panels + 24.0 + legend + MARGIN, height: MARGIN + tall, marks: Vec::new() };
    let lengths = lengths(bench);
    for (i, (quantity, title, unit, factor)) in PANELS.into_iter().enumerate() {
        let left = MARGIN + GUTTER + i as f64 * (WIDTH + GAP);
        let curves: Vec<Points> = names.iter().map(|name| points(bench, name, quantity, factor)).collect();
        panel(&mut picture, (left, MARGIN / 2.0 + TITLE), &format!("{title}, {unit}"), &lengths, &curves, &looks);
    }
    if let Some(case) = bench.cases.first() {
        let threads = bench.device.threads;
        let plural = if threads == 1 { "" } else { "s" };
        let text = format!(
            "one block, d_model {}, batch {}, {threads} thread{plural} of {}",
            case.d_model, case.batch, bench.device.name
        );
        let text = shortened(&text, SMALL, panels);
        picture.text((MARGIN + GUTTER, MARGIN + 4.0), &text, SMALL, Anchor::Start, GREY);
    }
    let growth = bench.growth();
    let (x, top) = (MARGIN + GUTTER + panels + 24.0, MARGIN / 2.0 + TITLE);
    let column = |i: usize| x + 29.0 + name_width + (i as f64 + 1.0) * COLUMN;
    picture.text((column(1), top - 12.0), "fitted exponent", SMALL, Anchor::End, GREY);
    for (i, (_, title, _, _)) in PANELS.iter().enumerate() {
        picture.text((column(i), top + LEGEND * 0.5), title, SMALL, Anchor::End, GREY);
    }
    for (row, (name, look)) in names.iter().zip(&looks).enumerate() {
        let y = top + LEGEND * (row as f64 + 1.5);
        stroke(&mut picture, &[(x, y), (x + 22.0, y)], *look);
        picture.dot((x + 11.0, y), 2.3, look.colour);
        picture.text((x + 29.0, y), name, LABEL, Anchor::Start, INK);
        for (i, (quantity, ..)) in PANELS.iter().enumerate() {
            let found = growth.iter().find(|g| g.label == *name && g.quantity == *quantity).and_then(|g| g.power);
            let text = found.map_or("-".into(), |power| format!("{:.2}", power.exponent));
            picture.text((column(i), y), &text, LABEL, Anchor::End, INK);
        }
    }
    picture
}

/// Lengths with a number, ascending.
fn lengths(bench: &Bench) -> Vec<f64> {
    let drawn = |case: &&crate::bench::Case| PANELS.iter().any(|(quantity, ..)| quantity.of(case).is_some());
    let mut lengths: Vec<f64> = bench.cases.iter().filter(drawn).map(|case| case.length as f64).collect();
    lengths.sort_by(f64::total_cmp);
    lengths.dedup();
    lengths
}

fn points(bench: &Bench, name: &str, quantity: Quantity, factor: f64) -> Points {
    let of_mixer = bench.cases.iter().filter(|case| case.label == name);
    let mut points: Points = of_mixer
        .filter_map(|case| {
            let value = quantity.of(case).filter(|value| *value > 0.0)? * factor;
            let time = case.pass(Pass::Training).time().filter(|_| quantity == Quantity::TrainingTime);
            Some((case.length as f64, value, time.map(|t| (t.low * factor, t.high * factor))))
        })
        .collect();
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

fn panel(picture: &mut Picture, (left, top): Place, title: &str, lengths: &[f64], curves: &[Points], looks: &[Look]) {
    let (right, bottom) = (left + WIDTH, top + HEIGHT);
    picture.text((left, top - 12.0), title, LABEL, Anchor::Start, INK);
    let (first, last) = (lengths.first().copied().unwrap_or(1.0), lengths.last().copied().unwrap_or(1.0));
    // Half a step of two to each side, so that no point lies on the frame.
    let across = |n: f64| left + WIDTH * ((n / first).log2() + 0.5) / ((last / first).log2() + 1.0);
    let all =
        || curves.iter().flatten().flat_map(|(_, y, ends)| [*y, ends.map_or(*y, |e| e.0), ends.map_or(*y, |e| e.1)]);
    let (low, high) = (all().fold(f64::INFINITY, f64::min), all().fold(0.0, f64::max));
    let (low, high) = if high > 0.0 { (low.log10() - 0.1, high.log10() + 0.1) } else { (0.0, 1.0) };
    let up = |y: f64| bottom - HEIGHT * (y.log10() - low) / (high - low);
    for tick in ticks(low, high) {
        let y = up(tick);
        picture.line(&[(left, y), (right, y)], PALE, 0.67);
        picture.text((left - 7.0, y), &number(tick), SMALL, Anchor::End, INK);
    }
    let mut free = f64::NEG_INFINITY;
    for n in lengths {
        let (x, text) = (across(*n), format!("{n:.0}"));
        let half = text_width(&text, SMALL) / 2.0;
        picture.line(&[(x, bottom), (x, bottom + 4.0)], INK, 0.67);
        if x - half > free {
            picture.text((x, bottom + 13.0), &text, SMALL, Anchor::Middle, INK);
            free = x + half + 4.0;
        }
    }
    picture.line(&[(left, top), (left, bottom), (right, bottom)], INK, 0.67);
    picture.text(((left + right) / 2.0, bottom + 29.0), "length", SMALL + 0.5, Anchor::Middle, INK);
    for (points, look) in curves.iter().zip(looks) {
        let places: Vec<Place> = points.iter().map(|(n, y, _)| (across(*n), up(*y))).collect();
        if places.len() > 1 {
            stroke(picture, &places, *look);
        }
        for ((n, _, ends), place) in points.iter().zip(&places) {
            if let Some((a, b)) = ends {
                picture.line(&[(across(*n), up(*a)), (across(*n), up(*b))], look.colour, 1.0);
            }
            picture.dot(*place, 2.3, look.colour);
        }
    }
}

/// Powers of ten between two logarithms; with 2 and 5 between them where those would be fewer than three.
pub(super) fn ticks(low: f64, high: f64) -> Vec<f64> {
    let with = |digits: &[f64]| -> Vec<f64> {
        let powers = low.floor() as i32..=high.ceil() as i32;
        let all = powers.flat_map(|power| digits.iter().map(move |digit| digit * 10f64.powi(power)));
        all.filter(|tick| (low..=high).contains(&tick.log10())).collect()
    };
    let tens = with(&[1.0]);
    if tens.len() < 3 { with(&[1.0, 2.0, 5.0]) } else { tens }
}

/// As few digits as a tick needs.
pub(super) fn number(tick: f64) -> String {
    if tick >= 1.0 { format!("{tick:.0}") } else { format!("{tick:.*}", (-tick.log10()).ceil() as usize) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_powers_of_ten_or_what_lies_between_them() {
        assert_eq!(ticks(-0.1, 3.2), [1.0, 10.0, 100.0, 1000.0]);
        assert_eq!(ticks(0.9, 2.1), [10.0, 20.0, 50.0, 100.0]);
        assert_eq!([0.05, 0.1, 2.0, 1000.0].map(number), ["0.05", "0.1", "2", "1000"]);
    }
}
