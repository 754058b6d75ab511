//! Numbers against a quantity: one panel a task, one line a mixer, baselines grey with their names at their ends.

use super::bench;
use super::heatmap::wrapped;
use super::marks::{
    Anchor, Drawable, GREY, INK, Lighter, Look, PALE, Picture, Place, looks, stroke, text_width, widest,
};
use crate::Scale;
use crate::statistics::{Interval, Range};
use std::collections::BTreeSet;

const WIDTH: f64 = 250.0;
const HEIGHT: f64 = 185.0;
const TITLE: f64 = 22.0; // what is measured; each line of the title adds `LINE`
const LINE: f64 = 16.0;
const AXIS: f64 = 48.0;
const MARGIN: f64 = 16.0;
const LABEL: f64 = 12.0;
const SMALL: f64 = 10.5;
const NOTE_LINE: f64 = 15.0;
const LEGEND: f64 = 17.0;
/// With more values than these there are no bars but bands, and then neither seeds nor markers.
const MOST_BARS: usize = 12;
const MOST_MARKERS: usize = 40;
/// Lines of notes below a figure.
const MOST_NOTES: usize = 12;

/// A figure of lines.
#[derive(Clone, Debug)]
pub(crate) struct Chart {
    pub(crate) panels: Vec<Panel>,
    /// All mixers of the sweep: their places decide their looks.
    pub(crate) mixers: Vec<String>,
    /// The lines by name, in the order of the legend.
    pub(crate) names: Vec<Name>,
    pub(crate) x: Axis,
    pub(crate) y: Axis,
    /// Words in the place of values, for a setting that is no number.
    pub(crate) labels: Option<Vec<String>>,
    /// Whether the numbers are scores, which have the panel's range.
    pub(crate) unit: bool,
    pub(crate) notes: Vec<String>,
}

/// A line of the legend.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Name {
    pub(crate) text: String,
    /// Place in the chart's mixers.
    pub(crate) mixer: usize,
    /// 0 for the model itself, then its other series.
    pub(crate) part: usize,
}

#[derive(Clone, Debug)]
pub(crate) struct Axis {
    pub(crate) name: String,
    pub(crate) scale: Scale,
}

#[derive(Clone, Debug)]
pub(crate) struct Panel {
    pub(crate) title: String,
    /// Where its scores can lie.
    pub(crate) range: Range,
    pub(crate) floor: Option<f64>,
    /// Points by place in the chart's names.
    pub(crate) lines: Vec<(usize, Vec<Spot>)>,
    /// Baselines by name.
    pub(crate) references: Vec<(String, Vec<(f64, f64)>)>,
}

impl Default for Panel {
    fn default() -> Self {
        Self { title: String::new(), range: Range::SHARE, floor: None, lines: Vec::new(), references: Vec::new() }
    }
}

/// A point of a line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Spot {
    pub(crate) x: f64,
    pub(crate) mean: f64,
    pub(crate) interval: Option<Interval>,
    /// Seeds, and whether each diverged.
    pub(crate) seeds: Vec<(f64, bool)>,
}

impl Chart {
    /// Whether a number has a place on an axis.
    pub(crate) fn drawable(scale: Scale, value: f64) -> bool {
        value.is_finite() && (scale == Scale::Linear || value > 0.0)
    }
}

/// From values to pixels along one axis.
#[derive(Clone, Copy, Debug)]
struct Ruler {
    scale: Scale,
    /// Ends in the scale's own steps.
    low: f64,
    high: f64,
    start: f64,
    end: f64,
}

impl Ruler {
    fn step(scale: Scale, value: f64) -> f64 {
        if scale == Scale::Log { value.log10() } else { value }
    }

    /// The pixel of a value, kept within the axis.
    fn at(&self, value: f64) -> f64 {
        let share = (Self::step(self.scale, value) - self.low) / (self.high - self.low);
        // The logarithm of 0 or less is beyond the lower end.
        let share = if share.is_nan() { 0.0 } else { share.clamp(0.0, 1.0) };
        self.start + (self.end - self.start) * share
    }
}

impl Drawable for Chart {
    fn picture(&self) -> Picture {
        picture(self)
    }
}

fn picture(chart: &Chart) -> Picture {
    let columns = if chart.panels.len() == 4 { 2 } else { chart.panels.len().clamp(1, 3) };
    let lines = chart.panels.len().div_ceil(columns);
    let ys: Vec<(Ruler, Vec<(f64, String)>)> = chart.panels.iter().map(|panel| vertical(chart, panel)).collect();
    let gutter = widest(ys.iter().flat_map(|(_, ticks)| ticks).map(|(_, text)| text.as_str()), SMALL) + 12.0;
    let references = || chart.panels.iter().flat_map(|panel| &panel.references).map(|(name, _)| name.as_str());
    let floor = chart.panels.iter().any(|panel| panel.floor.is_some()).then_some("floor");
    let beside = widest(references().chain(floor), SMALL);
    let gap = if beside > 0.0 { beside + 14.0 } else { 20.0 };
    let wide = gutter + WIDTH + gap;
    let titles: Vec<Vec<String>> =
        chart.panels.iter().map(|panel| wrapped(&panel.title, LABEL + 1.0, WIDTH + gap - 10.0, 2)).collect();
    let head = TITLE + LINE * titles.iter().map(Vec::len).max().unwrap_or(1) as f64;
    let high = head + HEIGHT + AXIS;
    let looks = looks(&chart.mixers);
    let legend = 30.0 + widest(chart.names.iter().map(|name| name.text.as_str()), LABEL);
    let panels = columns as f64 * wide;
    let tall = (lines as f64 * high).max(head + LEGEND * chart.names.len() as f64 + 8.0);
    let width = MARGIN + panels + 10.0 + legend + MARGIN;
    let notes = notes(chart, width - 2.0 * MARGIN);
    let height = MARGIN + tall + NOTE_LINE * notes.len() as f64 + if notes.is_empty() { 0.0 } else { 8.0 };
    let mut picture = Picture { width, height, marks: Vec::new() };
    for (i, (y, ticks)) in ys.into_iter().enumerate() {
        let left = MARGIN + gutter + (i % columns) as f64 * wide;
        let top = MARGIN / 2.0 + (i / columns) as f64 * high + head;
        let y = Ruler { start: top + HEIGHT, end: top, ..y };
        for (k, text) in titles[i].iter().enumerate() {
            let up = TITLE + LINE * (titles[i].len() - k) as f64 - LINE / 2.0;
            picture.text((left, top - up), text, LABEL + 1.0, Anchor::Start, INK);
        }
        picture.text((left, top - 12.0), &chart.y.name, SMALL, Anchor::Start, GREY);
        panel(&mut picture, (left, top), chart, i, y, &ticks, &looks);
    }
    let (x, top) = (MARGIN + panels + 10.0, MARGIN / 2.0 + head);
    for (i, name) in chart.names.iter().enumerate() {
        let (y, look) = (top + LEGEND * (i as f64 + 0.5), looks[name.mixer]);
        path(&mut picture, &[(x, y), (x + 22.0, y)], look, name.part);
        picture.marker((x + 11.0, y), 2.7, look);
        picture.text((x + 29.0, y), &name.text, LABEL, Anchor::Start, INK);
    }
    for (i, note) in notes.iter().enumerate() {
        let y = MARGIN / 2.0 + tall + 8.0 + NOTE_LINE * (i as f64 + 0.5);
        picture.text((MARGIN, y), note, SMALL, Anchor::Start, GREY);
    }
    picture
}

/// How to read the marks, and what could not be drawn.
fn notes(chart: &Chart, width: f64) -> Vec<String> {
    let spots = || chart.panels.iter().flat_map(|panel| &panel.lines).flat_map(|(_, spots)| spots);
    let many = values(chart).len() > MOST_BARS;
    let interval = spots().any(|spot| spot.interval.is_some());
    let seeds = spots().any(|spot| spot.seeds.len() > 1) && !many;
    let crosses = spots().flat_map(|spot| &spot.seeds).any(|(_, diverged)| *diverged) && !many;
    let words = [
        (true, "Lines: mean over seeds"),
        (seeds, "faint points: seeds"),
        (crosses, "crosses: diverged seeds, scored at the floor"),
        (interval && !many, "bars: 95 % t interval over seeds, cut at the frame"),
        (interval && many, "bands: 95 % t interval over seeds, cut at the frame"),
    ];
    let key = words.iter().filter(|(said, _)| *said).map(|(_, words)| *words).collect::<Vec<_>>().join("; ") + ".";
    let all = [key].into_iter().chain(chart.notes.iter().cloned());
    let mut lines: Vec<String> = all.flat_map(|note| wrapped(&note, SMALL, width, usize::MAX)).collect();
    if lines.len() > MOST_NOTES {
        lines.truncate(MOST_NOTES - 1);
        lines.push("More in report.md.".into());
    }
    lines
}

/// All values of the horizontal axis.
fn values(chart: &Chart) -> Vec<f64> {
    let mut all: Vec<f64> = chart.panels.iter().flat_map(values_of).collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}

fn values_of(panel: &Panel) -> Vec<f64> {
    let lines = panel.lines.iter().flat_map(|(_, spots)| spots).map(|spot| spot.x);
    let mut all: Vec<f64> =
        lines.chain(panel.references.iter().flat_map(|(_, points)| points).map(|(x, _)| *x)).collect();
    all.sort_by(f64::total_cmp);
    all.dedup();
    all
}

/// The vertical axis of a panel, as yet without pixels, and its ticks.
fn vertical(chart: &Chart, panel: &Panel) -> (Ruler, Vec<(f64, String)>) {
    let scale = chart.y.scale;
    let ruler = |low: f64, high: f64| Ruler { scale, low, high, start: 0.0, end: 0.0 };
    let spots = || panel.lines.iter().flat_map(|(_, spots)| spots);
    let lows = |spot: &Spot| {
        let seeds = spot.seeds.iter().map(|(value, _)| *value);
        seeds.chain(spot.interval.map(|interval| interval.low)).chain([spot.mean]).collect::<Vec<f64>>()
    };
    if chart.unit && scale == Scale::Linear {
        let drawn = panel.range.drawn(spots().flat_map(lows).chain(panel.floor));
        return (ruler(drawn.low, drawn.high), drawn.ticks());
    }
    let seeds = spots().flat_map(|spot| &spot.seeds).map(|(value, _)| *value);
    let baselines = panel.references.iter().flat_map(|(_, points)| points).map(|(_, y)| *y);
    let all = spots().map(|spot| spot.mean).chain(seeds).chain(baselines).chain(panel.floor);
    let steps: Vec<f64> = all.filter(|y| Chart::drawable(scale, *y)).map(|y| Ruler::step(scale, y)).collect();
    let (mut low, mut high) = steps.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), y| (a.min(*y), b.max(*y)));
    if low > high {
        (low, high) = if scale == Scale::Log { (-1.0, 0.0) } else { (0.0, 1.0) };
    }
    // The interval of two seeds may be many times as long as everything else: it widens the axis by a third at most.
    let room = (high - low) / 3.0;
    let ends = spots().filter_map(|spot| spot.interval).flat_map(|interval| [interval.low, interval.high]);
    let ends: Vec<f64> = ends.filter(|y| Chart::drawable(scale, *y)).map(|y| Ruler::step(scale, y)).collect();
    let (first, last) = (low - room, high + room);
    low = ends.iter().fold(low, |low, end| low.min(end.max(first)));
    high = ends.iter().fold(high, |high, end| high.max(end.min(last)));
    if scale == Scale::Log {
        let (low, high) = (low - 0.05 * (high - low) - 0.02, high + 0.05 * (high - low) + 0.02);
        let mut ticks: Vec<(f64, String)> =
            bench::ticks(low, high).into_iter().map(|t| (t, bench::number(t))).collect();
        if ticks.len() < 2 {
            // Within a factor of two or so: the ends themselves.
            ticks = [0.1, 0.9].map(|share| low + share * (high - low)).map(|step| 10f64.powf(step)).map(tick).into();
        }
        let most = 8;
        let every = ticks.len().div_ceil(most).max(1);
        return (ruler(low, high), ticks.into_iter().step_by(every).collect());
    }
    if low >= 0.0 && low <= 0.35 * high {
        low = 0.0;
    }
    if high - low <= 1e-9 * high.abs().max(1e-300) {
        let half = if high == 0.0 { 0.5 } else { 0.1 * high.abs() };
        (low, high) = (low - half, high + half);
    }
    let pad = 0.04 * (high - low);
    let (low, high) = (if low == 0.0 { 0.0 } else { low - pad }, high + pad);
    (ruler(low, high), linear_ticks(low, high))
}

fn tick(value: f64) -> (f64, String) {
    (value, format!("{value:.2e}"))
}

/// Multiples of 1, 2 or 5 times a power of ten, about five of them, with as many decimals as they need.
fn linear_ticks(low: f64, high: f64) -> Vec<(f64, String)> {
    let rough = (high - low) / 5.0;
    let power = rough.log10().floor();
    let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * 10f64.powf(power));
    let step = step.into_iter().find(|step| *step >= rough * 0.999).unwrap_or(rough);
    let decimals = (-step.log10().floor()).max(0.0) as usize;
    let large = high.abs().max(low.abs()) >= 1e6 || decimals > 6;
    let text = |value: f64| if large { format!("{value:.2e}") } else { format!("{value:.decimals$}") };
    let (first, last) = ((low / step).ceil() as i64, (high / step).floor() as i64);
    // 0 - 0.1 + 0.1 is not always 0.
    let ticks = (first..=last).map(|i| i as f64 * step).map(|value| (value, text(value)));
    ticks
        .map(|(value, text)| (value, text.trim_start_matches('-').parse().is_ok_and(|v: f64| v == 0.0), text))
        .map(|(value, zero, text)| {
            (value, if zero { text.trim_start_matches('-').to_string() } else { text.replace('-', "−") })
        })
        .collect()
}

/// The horizontal axis of a panel: its ends are the first and last values with some room.
fn horizontal(chart: &Chart, values: &[f64], left: f64) -> Ruler {
    let scale = chart.x.scale;
    let step = |value: Option<&f64>| value.map_or(0.0, |value| Ruler::step(scale, *value));
    let (low, high) = (step(values.first()), step(values.last()));
    let room = if high > low { 0.06 * (high - low) } else { 0.5 };
    Ruler { scale, low: low - room, high: high + room, start: left, end: left + WIDTH }
}

fn panel(
    picture: &mut Picture,
    (left, top): Place,
    chart: &Chart,
    i: usize,
    y: Ruler,
    ticks: &[(f64, String)],
    looks: &[Look],
) {
    let panel = &chart.panels[i];
    let (right, bottom) = (left + WIDTH, top + HEIGHT);
    let values = values_of(panel);
    let x = horizontal(chart, &values, left);
    for (value, text) in ticks {
        picture.line(&[(left, y.at(*value)), (right, y.at(*value))], PALE, 0.67);
        picture.text((left - 7.0, y.at(*value)), text, SMALL, Anchor::End, INK);
    }
    x_ticks(picture, chart, &values, x, bottom);
    picture.line(&[(left, top), (left, bottom), (right, bottom)], INK, 0.67);
    picture.text(((left + right) / 2.0, bottom + 29.0), &chart.x.name, SMALL + 0.5, Anchor::Middle, INK);
    if values.is_empty() {
        picture.text(((left + right) / 2.0, (top + bottom) / 2.0), "nothing to draw", SMALL, Anchor::Middle, GREY);
    }
    let mut named: Vec<(f64, String)> = Vec::new();
    if let Some(floor) = panel.floor {
        picture.dashes(&[(left, y.at(floor)), (right, y.at(floor))], GREY, 1.0, 3.0);
        named.push((y.at(floor), "floor".into()));
    }
    for (k, (name, points)) in panel.references.iter().enumerate() {
        let places: Vec<Place> = points.iter().map(|(a, b)| (x.at(*a), y.at(*b))).collect();
        let Some(last) = places.last() else { continue };
        match places.as_slice() {
            [only] => picture.dot(*only, 1.8, GREY),
            _ if k % 4 == 0 => picture.line(&places, GREY, 1.0),
            _ => picture.dashes(&places, GREY, 1.0, [0.0, 5.0, 2.0, 8.0][k % 4]),
        }
        // From the line's end to the edge, so that the name finds its line.
        picture.dashes(&[*last, (right, last.1)], GREY.into_faint(), 0.67, 1.5);
        named.push((last.1, name.clone()));
    }
    for (at, from, name) in spread(named, top, bottom) {
        if (at - from).abs() > 2.0 {
            picture.line(&[(right, from), (right + 4.0, at)], GREY.into_faint(), 0.67);
        }
        picture.text((right + 6.0, at), &name, SMALL, Anchor::Start, GREY);
    }
    lines(picture, chart, panel, &values, x, y, looks);
}

/// More values than these have no tick each.
const MOST_TICKS: usize = 24;

/// Ticks at the values present, labels at every k-th of them back from the last, with k as small as there is room for. Of many
/// values on a linear axis the round numbers between them instead.
fn x_ticks(picture: &mut Picture, chart: &Chart, values: &[f64], x: Ruler, bottom: f64) {
    let mut mark = |at: f64, text: Option<&str>| {
        picture.line(&[(at, bottom), (at, bottom + 4.0)], INK, 0.67);
        if let Some(text) = text {
            picture.text((at, bottom + 13.0), text, SMALL, Anchor::Middle, INK);
        }
    };
    let (Some(first), Some(last)) = (values.first(), values.last()) else { return };
    if values.len() > MOST_TICKS && chart.labels.is_none() && x.scale == Scale::Linear {
        for (value, text) in linear_ticks(*first, *last) {
            mark(x.at(value), Some(&text));
        }
        return;
    }
    let text = |value: f64| match &chart.labels {
        Some(labels) => labels.get(value as usize).cloned().unwrap_or_default(),
        None => value.to_string(),
    };
    let places: Vec<(f64, String, f64)> = values
        .iter()
        .map(|value| (x.at(*value), text(*value)))
        .map(|(at, text)| (at, text.clone(), text_width(&text, SMALL) / 2.0))
        .collect();
    let fits = |k: &usize| {
        let labelled: Vec<_> = places.iter().rev().step_by(*k).collect();
        labelled.windows(2).all(|pair| pair[0].0 - pair[0].2 - 6.0 >= pair[1].0 + pair[1].2)
    };
    let every = (1..=places.len()).find(fits).unwrap_or(places.len());
    for (i, (at, text, _)) in places.iter().enumerate() {
        let labelled = (places.len() - 1 - i).is_multiple_of(every);
        if labelled || places.len() <= MOST_TICKS {
            mark(*at, labelled.then_some(text.as_str()));
        }
    }
}

/// Names beside the right edge, moved apart: where each stands, where it belongs.
fn spread(mut named: Vec<(f64, String)>, top: f64, bottom: f64) -> Vec<(f64, f64, String)> {
    named.sort_by(|a, b| a.0.total_cmp(&b.0));
    let apart = (SMALL + 1.0).min((bottom - top + 20.0) / named.len().max(1) as f64);
    let mut at: Vec<f64> = named.iter().map(|(y, _)| *y).collect();
    for i in 1..at.len() {
        at[i] = at[i].max(at[i - 1] + apart);
    }
    // What was pushed below the frame goes back up, and pushes others.
    let mut limit = bottom + 5.0;
    for y in at.iter_mut().rev() {
        *y = y.min(limit);
        limit = *y - apart;
    }
    named.into_iter().zip(at).map(|((from, name), at)| (at, from, name)).collect()
}

fn lines(picture: &mut Picture, chart: &Chart, panel: &Panel, values: &[f64], x: Ruler, y: Ruler, looks: &[Look]) {
    let few = values.len() <= MOST_BARS;
    // Lines stand a little beside each other, so that bars can be told apart.
    let closest = values.windows(2).map(|pair| x.at(pair[1]) - x.at(pair[0])).fold(60.0, f64::min);
    let apart = (0.4 * closest / panel.lines.len().max(1) as f64).min(3.5);
    let shift = |k: usize| if few { apart * (k as f64 - (panel.lines.len() as f64 - 1.0) / 2.0) } else { 0.0 };
    let look = |name: usize| looks[chart.names[name].mixer];
    for (k, (name, spots)) in panel.lines.iter().enumerate() {
        let colour = look(*name).colour;
        let with: Vec<(f64, Interval)> =
            spots.iter().filter_map(|spot| Some((x.at(spot.x) + shift(k), spot.interval?))).collect();
        if few {
            for (at, Interval { low, high }) in &with {
                let (low, high) = (y.at(*low), y.at(*high));
                picture.line(&[(*at, low), (*at, high)], colour.into_half(), 1.0);
                for end in [low, high] {
                    picture.line(&[(at - 2.0, end), (at + 2.0, end)], colour.into_half(), 1.0);
                }
            }
        } else if with.len() > 1 {
            let upper = with.iter().map(|(at, interval)| (*at, y.at(interval.high)));
            let lower = with.iter().rev().map(|(at, interval)| (*at, y.at(interval.low)));
            picture.fill(upper.chain(lower).collect(), colour.into_veil());
        }
    }
    if few {
        for (k, (name, spots)) in panel.lines.iter().enumerate() {
            for (at, (seed, diverged)) in spots.iter().flat_map(|s| s.seeds.iter().map(|seed| (s.x, seed))) {
                let place = (x.at(at) + shift(k), y.at(*seed));
                if *diverged {
                    picture.cross(place, 3.0, look(*name).colour);
                } else {
                    picture.dot(place, 1.7, look(*name).colour.into_faint());
                }
            }
        }
    }
    for (k, (name, spots)) in panel.lines.iter().enumerate() {
        let places: Vec<Place> = spots.iter().map(|spot| (x.at(spot.x) + shift(k), y.at(spot.mean))).collect();
        if places.len() > 1 {
            path(picture, &places, look(*name), chart.names[*name].part);
        }
        if values.len() <= MOST_MARKERS || places.len() == 1 {
            for place in places {
                picture.marker(place, 2.7, look(*name));
            }
        }
    }
}

/// A mixer's line; what is not the model itself is dotted.
fn path(picture: &mut Picture, points: &[Place], look: Look, part: usize) {
    match part {
        0 => stroke(picture, points, look),
        _ => picture.dashes(points, look.colour, 1.33, [1.5, 2.5, 6.0][(part - 1) % 3]),
    }
}

/// Distinct baselines of a chart.
pub(crate) fn references(chart: &Chart) -> BTreeSet<&str> {
    chart.panels.iter().flat_map(|panel| &panel.references).map(|(name, _)| name.as_str()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_carry_the_decimals_they_need() {
        let texts = |low, high| linear_ticks(low, high).into_iter().map(|(_, text)| text).collect::<Vec<_>>();
        assert_eq!(texts(0.0, 1.04), ["0.0", "0.5", "1.0"]);
        assert_eq!(texts(-0.12, 0.31), ["−0.1", "0.0", "0.1", "0.2", "0.3"]);
        assert_eq!(texts(1.9, 8.2), ["2", "4", "6", "8"]);
    }

    #[test]
    fn labels_neither_overlap_nor_leave_the_picture() {
        let spot = |x: f64, mean: f64| Spot { x, mean, interval: None, seeds: vec![(mean, false)] };
        for (panels, mixers, points) in [(1, 1, 1), (2, 3, 4), (4, 9, 12), (7, 14, 60)] {
            for scale in [Scale::Linear, Scale::Log] {
                let panel = |i: usize| {
                    let line =
                        |k: usize| (k, (1..=points).map(|p| spot(f64::from(p * 16), 0.01 * (k + 1) as f64)).collect());
                    let baseline =
                        |k: usize| (format!("baseline {k}"), vec![(16.0, 0.3), (32.0, 0.3 + 0.001 * k as f64)]);
                    Panel {
                        title: format!("in-context-recall/vocab_size=32, n_pairs={i}, d_model=128"),
                        range: Range::SHARE,
                        floor: (i > 0).then_some(0.1),
                        lines: (0..mixers).map(line).collect(),
                        references: (0..i).map(baseline).collect(),
                    }
                };
                let name = |mixer: usize| Name { text: format!("mixer_{mixer}"), mixer, part: 0 };
                let chart = Chart {
                    panels: (0..panels).map(panel).collect(),
                    mixers: (0..mixers).map(|k| format!("mixer_{k}")).collect(),
                    names: (0..mixers).map(name).collect(),
                    x: Axis { name: "length".into(), scale },
                    y: Axis { name: "risk".into(), scale },
                    labels: None,
                    unit: false,
                    notes: vec!["No risk: mixer_3 on everything at all lengths (3 failed).".repeat(6)],
                };
                crate::plot::tests::apart(&picture(&chart));
            }
        }
    }

    #[test]
    fn names_beside_the_edge_stand_apart_and_inside() {
        let named = (0..9).map(|i| (95.0 + f64::from(i % 2), format!("baseline {i}"))).collect();
        let places = spread(named, 0.0, 100.0);
        assert!(places.windows(2).all(|pair| pair[1].0 - pair[0].0 >= SMALL + 0.9), "{places:?}");
        assert!(places.iter().all(|(at, ..)| (-10.0..=105.1).contains(at)), "{places:?}");
    }
}
