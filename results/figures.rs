//! What the figures of a config show, taken from manifest, records and tables: the numbers of every plot, and as tables. A figure
//! is a file here, with its settings and how it is drawn, and a line of the list below.
//!
//! The runs of a figure are those behind the rows of the tables: of a grid, the setting chosen on validation.

mod built;
pub(crate) mod cells;
mod collected;
pub(crate) mod details;
mod kind;
mod lined;
pub(crate) mod lines;
mod phenomena;
pub(crate) mod profile;
pub(crate) mod ranking;
pub(crate) mod scores;
pub(crate) mod sensitivity;
mod source;

pub(crate) use built::Built;

use crate::figures::kind::Kind;
use crate::figures::source::Source;
use crate::table::Table;
use crate::table::frame::{Run, Searched};
use crate::{Figure, Manifest};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The list of figures, each by its settings; a config names one in snake case.
macro_rules! figures {
    ($($(#[$about:meta])* $kind:ident from $file:ident,)*) => {
        /// One figure of a sweep, written as a one-key map: `{ lines: { x: model.d_model } }`.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(rename_all = "snake_case")]
        #[schemars(rename = "Figure")]
        #[non_exhaustive]
        pub enum FigureKind {
            $($(#[$about])* $kind($file::$kind),)*
        }

        impl FigureKind {
            /// An example of each, as a config writes it.
            pub const EXAMPLES: &[&str] = &[$($file::$kind::EXAMPLE),*];

            fn draw(&self, source: &Source) -> Result<Built, String> {
                match self {
                    $(Self::$kind(asked) => asked.draw(source),)*
                }
            }
        }

        $(
            impl From<$file::$kind> for Figure {
                fn from(asked: $file::$kind) -> Self {
                    FigureKind::$kind(asked).into()
                }
            }
        )*
    };
}

figures! {
    /// Test score against a setting of the grid: one panel a task, one line a mixer, seeds as thin points, the interval as a band.
    Lines from lines,
    /// A measure recorded against an axis of the test split: one panel a task, one line a mixer.
    Details from details,
    /// A measure recorded by series and axis, as a heat map: one panel for each mixer and task, the mean over its seeds.
    Cells from cells,
    /// Every mixer's score on every task, from the floor (0) to the ceiling (1).
    Profile from profile,
    /// Mixers in the order of their means of a measure beside the order of published numbers, with rank correlations.
    Ranking from ranking,
    /// Validation score of the search against a setting that `tune` tried: one panel a task, one line a mixer.
    Sensitivity from sensitivity,
}

impl From<FigureKind> for Figure {
    fn from(figure: FigureKind) -> Self {
        let written = serde_json::to_value(figure).expect("settings are plain data");
        serde_json::from_value(written).expect("an enum is written as one name with its settings")
    }
}

/// The figures that can be drawn, and why the others cannot.
pub(crate) fn build(
    manifest: &Manifest,
    runs: &[Run],
    search: &[Searched],
    table: &Table,
) -> (Vec<Built>, Vec<String>) {
    let source = Source { manifest, table, runs, search };
    let (mut built, mut missing) = (Vec::new(), Vec::new());
    let mut count: BTreeMap<&str, usize> = BTreeMap::new();
    for figure in &manifest.figures {
        let nth = count.entry(&figure.kind).or_default();
        *nth += 1;
        let stem = if *nth == 1 { figure.kind.clone() } else { format!("{}-{nth}", figure.kind) };
        match draw(figure, &source) {
            Ok(figure) => built.push(Built { stem, ..figure }),
            Err(why) => missing.push(format!("the figure `{stem}` is not drawn: {why}")),
        }
    }
    (built, missing)
}

/// A figure of a manifest, which another build may have written.
fn draw(figure: &Figure, source: &Source) -> Result<Built, String> {
    let written = serde_json::to_value(figure).expect("plain data");
    let kind: FigureKind =
        serde_json::from_value(written).map_err(|error| format!("this build cannot read it: {error}"))?;
    kind.draw(source)
}

#[cfg(test)]
mod tests;
