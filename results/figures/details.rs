//! A number recorded along an axis of the test split: one panel a task, one line a mixer, baselines in grey.

use crate::Detail;
use crate::Scale;
use crate::figures::built::Built;
use crate::figures::collected::{Collected, Notes, why};
use crate::figures::kind::Kind;
use crate::figures::lined::{capital, named, range_of, spot_of, table_of};
use crate::figures::phenomena::phenomena;
use crate::figures::source::{SCORE, Seen, Source, score};
use crate::plot::chart::{Axis, Chart, Panel, Spot};
use crate::statistics::mean;
use crate::table::row::{Row, places};
use serde::{Deserialize, Serialize};

/// A measure against an axis of the test split.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Details {
    /// The axis: `length`, `pairs`, `context`, `position`, `layer`.
    pub axis: String,
    /// The measure: `score`, `loss`, `risk`.
    #[serde(default = "score")]
    pub measure: String,
    /// Steps of the horizontal axis.
    #[serde(default)]
    pub scale: Scale,
    /// Steps of the vertical axis.
    #[serde(default)]
    pub y_scale: Scale,
}

impl Kind for Details {
    const EXAMPLE: &'static str = "details: { axis: length }";

    fn draw(&self, source: &Source) -> Result<Built, String> {
        details(source, self)
    }
}

fn details(source: &Source, asked: &Details) -> Result<Built, String> {
    source.recorded(&asked.measure, &asked.axis)?;
    if source.is_by_category(&asked.measure, &asked.axis) {
        return Ok(phenomena(source, &asked.measure, &asked.axis));
    }
    let unit = asked.measure == SCORE;
    let mixers = source.mixers();
    let (mut names, mut panels, mut notes) = (Vec::new(), Vec::new(), Notes::default());
    for place in places(&source.table.rows) {
        let (title, rows) = source.at(place);
        let known: Vec<&Row> = rows.iter().map(|seen| seen.row).collect();
        let mut panel = Panel { title: title.clone(), range: range_of(&known), ..Panel::default() };
        panel.floor = known.iter().find_map(|row| row.floor).filter(|_| unit);
        let mut baselines = Collected::default();
        for Seen { row, who, runs } in rows {
            let mut own = Collected::default();
            for run in &runs {
                own.add(run, &asked.measure, &asked.axis, Detail::is_models);
                baselines.add(run, &asked.measure, &asked.axis, |detail| !detail.is_models());
            }
            if own.series.is_empty() {
                let what = format!("No {} by {}", asked.measure, asked.axis);
                notes.add(what, &format!("{who} ({})", why(&runs)));
            }
            notes.fewer("Fewer seeds", &who, own.runs, &runs);
            own.complain(&mut notes, &who);
            for (series, points) in own.series {
                let name = named(&mut names, &mixers, &row.mixer, &series);
                let spots: Vec<Spot> = points
                    .into_iter()
                    .filter_map(|(x, seeds)| spot_of(x, seeds, unit.then_some(panel.range)))
                    .collect();
                let (drawn, left): (Vec<Spot>, Vec<Spot>) = spots.into_iter().partition(|spot| {
                    Chart::drawable(asked.scale, spot.x) && Chart::drawable(asked.y_scale, spot.mean)
                });
                if !left.is_empty() {
                    let at = left.iter().map(|spot| spot.x.to_string()).collect::<Vec<_>>().join(", ");
                    notes.add("Outside the logarithmic axes".into(), &format!("{who} at {} {at}", asked.axis));
                }
                panel.lines.push((name, drawn));
            }
        }
        baselines.complain(&mut notes, &format!("baselines on {title}"));
        for (series, points) in baselines.series {
            let points = points.into_iter().filter_map(|(x, values)| Some((x, mean(&values)?)));
            let drawn = points.filter(|(x, y)| Chart::drawable(asked.scale, *x) && Chart::drawable(asked.y_scale, *y));
            panel.references.push((series, drawn.collect()));
        }
        panels.push(panel);
    }
    let y = source.quantity(&asked.measure);
    let mut chart = Chart {
        panels,
        mixers,
        names,
        x: Axis { name: asked.axis.clone(), scale: asked.scale },
        y: Axis { name: y.clone(), scale: asked.y_scale },
        labels: None,
        unit,
        notes: notes.said(),
    };
    chart.in_order();
    let caption = source.caption(&chart, unit, Some("Every run's numbers are in details.csv."));
    Ok(Built {
        stem: String::new(),
        title: format!("{} by {}", capital(&y), asked.axis),
        alt: format!("{y} against {}, one line a mixer", asked.axis),
        table: table_of(&chart, &asked.axis, "details.csv"),
        caption,
        drawing: Box::new(chart),
    })
}
